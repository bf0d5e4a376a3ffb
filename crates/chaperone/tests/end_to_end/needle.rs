//! A patient unlike any other, and a search for traces of them in any bytes: as written, in another case,
//! escaped for a URL, in hexadecimal, in base 64 at each alignment.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

pub(crate) const GIVEN: &str = "Zyxquorra";
pub(crate) const FAMILY: &str = "Vantablinkenstein";
pub(crate) const MRN: &str = "QX-7731-CANARY-0042";
pub(crate) const PHONE: &str = "+1-970-555-0187";
pub(crate) const EMAIL: &str = "zyxquorra.v@canary-mail.example";
pub(crate) const STREET: &str = "4711 Whistlethorn Parade";
pub(crate) const CITY: &str = "Quillhavenburg";
/// Day of birth, and how people and programs write it.
pub(crate) const BIRTH: &str = "1961-07-19";
const BIRTH_WRITTEN: [&str; 9] = [
    "07/19/1961",
    "7/19/1961",
    "07/19/61",
    "19.07.1961",
    "19.7.1961",
    "july 19, 1961",
    "july 19 1961",
    "19 july 1961",
    "jul 19, 1961",
];
/// A word that stands only in free text: notes, narratives, attachments, what agents and people write.
pub(crate) const REMARK: &str = "wobblegonkitis";

/// A text as somebody would write it who does not think of privacy.
pub(crate) fn careless_text() -> String {
    format!(
        "{GIVEN} {FAMILY} ({MRN}), born July 19, 1961 (07/19/1961), called from {PHONE}, {EMAIL}, lives at \
         {STREET}, {CITY}: {REMARK}"
    )
}

/// A word of a note that agents may read: it identifies nobody.
pub(crate) const LEGIBLE: &str = "thrombelastography";

/// The same in a note of which agents are shown what identifies nobody.
pub(crate) fn legible_note() -> String {
    careless_text().replace(REMARK, LEGIBLE)
}

/// What a trace was found of, in which form and where.
#[derive(Debug)]
pub(crate) struct Trace {
    place: String,
    what: String,
    form: &'static str,
    around: String,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            what,
            form,
            around,
        } = self;
        write!(f, "{what} ({form}) in {place}: …{around}…")
    }
}

struct Needle {
    what: String,
    form: &'static str,
    text: String,
    /// Whether letters count whatever their case; the text is lower-case then.
    any_case: bool,
}

/// Looks for all traces.
pub(crate) struct Search {
    needles: Vec<Needle>,
}

impl Search {
    /// For everything that identifies the patient, and further texts.
    pub(crate) fn new(further: &[&str]) -> Self {
        let all: Vec<&str> = further.iter().copied().chain([BIRTH]).collect();
        Self::where_birth_is_shown(&all)
    }

    /// The same for answers of tools that show the day of birth as a field of their view: as FHIR writes it.
    pub(crate) fn where_birth_is_shown(further: &[&str]) -> Self {
        // Parts that no other text contains: what is split or cut is found as well.
        let digits: String = PHONE.chars().filter(char::is_ascii_digit).collect();
        let parts = [
            GIVEN,
            FAMILY,
            MRN,
            "7731-CANARY",
            "7731CANARY",
            PHONE,
            &digits,
            "970-555-0187",
            "555-0187",
            EMAIL,
            "canary-mail",
            STREET,
            "Whistlethorn",
            CITY,
            REMARK,
        ];
        let mut needles = Vec::new();
        for what in parts.iter().chain(&BIRTH_WRITTEN).chain(further) {
            forms(what, &mut needles);
        }
        Self { needles }
    }

    /// For some texts and nothing else.
    pub(crate) fn only(texts: &[String]) -> Self {
        let mut needles = Vec::new();
        for what in texts {
            forms(what, &mut needles);
        }
        Self { needles }
    }

    /// Every trace in some bytes.
    pub(crate) fn traces(&self, place: &str, bytes: &[u8]) -> Vec<Trace> {
        let exact = String::from_utf8_lossy(bytes);
        let lower = exact.to_ascii_lowercase();
        self.needles
            .iter()
            .filter_map(|needle| {
                let hay: &str = if needle.any_case { &lower } else { &exact };
                let at = hay.find(&needle.text)?;
                let around =
                    exact.get(floor(&exact, at.saturating_sub(60))..floor(&exact, at + 90));
                Some(Trace {
                    place: place.to_owned(),
                    what: needle.what.clone(),
                    form: needle.form,
                    around: around.unwrap_or_default().to_owned(),
                })
            })
            .collect()
    }
}

/// The nearest boundary of a character at or before a position.
fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn forms(what: &str, needles: &mut Vec<Needle>) {
    let lower = what.to_ascii_lowercase();
    let mut any_case = |form, text: String| {
        needles.push(Needle {
            what: what.to_owned(),
            form,
            text,
            any_case: true,
        });
    };
    let escape_some = |space: &str| {
        let mut escaped = String::new();
        for c in lower.chars() {
            match c {
                ' ' => escaped.push_str(space),
                'a'..='z' | '0'..='9' | '-' | '.' => escaped.push(c),
                other => write!(escaped, "%{:02x}", other as u32).unwrap(),
            }
        }
        escaped
    };
    any_case("form encoding", escape_some("+"));
    any_case("URL encoding", escape_some("%20"));
    let each_byte = |text: &str, prefix: &str| {
        text.bytes().fold(String::new(), |mut all, byte| {
            write!(all, "{prefix}{byte:02x}").unwrap();
            all
        })
    };
    for cased in [what.to_owned(), lower.clone(), what.to_ascii_uppercase()] {
        any_case("URL encoding of each byte", each_byte(&cased, "%"));
        any_case("hexadecimal", each_byte(&cased, ""));
    }
    any_case("as text", lower.clone());
    for cased in [what.to_owned(), lower, what.to_ascii_uppercase()] {
        for text in base64_forms(&cased) {
            needles.push(Needle {
                what: what.to_owned(),
                form: "base 64",
                text,
                any_case: false,
            });
        }
    }
}

/// The part of the base 64 of any text around this one that depends on this one alone.
fn base64_forms(text: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let padded = [&vec![b'x'; before][..], text.as_bytes()].concat();
        // Characters of 6 bits that hold bits of what stands before, and of what follows.
        let skipped = (before * 8).div_ceil(6);
        let whole = padded.len() * 8 / 6;
        for engine in [&STANDARD, &URL_SAFE] {
            let encoded = engine.encode(&padded);
            forms.push(encoded[skipped..whole].to_owned());
        }
    }
    forms
}

#[test]
fn the_search_finds_what_is_planted_in_each_form_and_nothing_else() {
    let search = Search::new(&["f00dfeed-0000-4000-8000-00000000cafe"]);
    let innocent =
        "{\"level\":\"INFO\",\"message\":\"answered\",\"code\":\"not-found\"}\n".repeat(50);
    assert!(search.traces("log", innocent.as_bytes()).is_empty());
    let form_encoded: String = url_form(&careless_text());
    for (form, planted) in [
        ("as text", careless_text()),
        ("as text", careless_text().to_uppercase()),
        (
            "as text",
            "patient f00dfeed-0000-4000-8000-00000000cafe".to_owned(),
        ),
        ("as text", "tel:+19705550187".to_owned()),
        ("as text", "born 19.07.1961".to_owned()),
        ("form encoding", "July+19%2C+1961".to_owned()),
        ("form encoding", form_encoded.clone()),
        ("URL encoding", form_encoded.replace('+', "%20")),
        (
            "URL encoding of each byte",
            GIVEN.bytes().map(|b| format!("%{b:02X}")).collect(),
        ),
        (
            "hexadecimal",
            MRN.bytes().map(|b| format!("{b:02x}")).collect(),
        ),
        ("base 64", STANDARD.encode(careless_text())),
        ("base 64", STANDARD.encode(format!("x{}", careless_text()))),
        ("base 64", URL_SAFE.encode(format!("xy{}", careless_text()))),
        ("base 64", STANDARD.encode(format!("Dear {FAMILY},"))),
        ("base 64", STANDARD.encode(careless_text().to_lowercase())),
    ] {
        let mut bytes = innocent.clone().into_bytes();
        bytes.extend([0, 159, 146, 150]);
        bytes.extend(planted.as_bytes());
        bytes.extend([255, 0]);
        let traces = search.traces("log", &bytes);
        assert!(
            traces.iter().any(|trace| trace.form == form),
            "{form}: {planted}: {traces:?}"
        );
    }
}

#[cfg(test)]
fn url_form(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        match byte {
            b' ' => all.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => all.push(char::from(byte)),
            other => write!(all, "%{other:02X}").unwrap(),
        }
        all
    })
}
