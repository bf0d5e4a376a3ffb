//! Which fields may stand in a log line, and of which form: everything else is left out and counted.
//!
//! The list is the promise (invariant 10). A field that is not in it does not appear, whoever writes it; a value
//! that has another form than its field says does not appear either. `crates/tidy` reads this list and fails
//! where a line of the code names a field that is missing here. Start at [`FIELDS`], then [`admit`].

use std::fmt::{self, Write as _};

/// Longest value of any field, in bytes.
pub(super) const VALUE_BYTES_MAX: usize = 240;

/// Longest message, in bytes.
pub(super) const MESSAGE_BYTES_MAX: usize = 240;

/// From this many digits on a word of a sentence could be somebody's number.
const DIGITS_OF_SOMEBODY: usize = 5;

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of our own random ids: a prefix, `_` and 32 hexadecimal digits.
    Minted,
    /// A name from the configuration: a slug.
    Slug,
    /// A word of a fixed list of the code: letters, digits, `-` and `_`, beginning with a letter.
    Word,
    /// What one of our own errors says. Texts of libraries, which quote what they were given, do not have its form.
    Sentence,
    /// The pattern of a route, such as `/v1/tools/{name}`.
    Route,
    /// A file of the source code.
    Source,
    /// A whole number up to a limit.
    Count(u64),
    /// Yes or no.
    Flag,
}

/// Every field that may appear: its name, its form, and what it is.
pub(super) const FIELDS: [(&str, Kind, &str); 31] = [
    (
        "attempt",
        Kind::Count(1_000),
        "number of a delivery attempt",
    ),
    ("canary", Kind::Word, "a canary of the bundle's list"),
    ("channel", Kind::Word, "what bytes leave for"),
    (
        "class",
        Kind::Word,
        "what bytes that leave are declared to be",
    ),
    (
        "client",
        Kind::Slug,
        "our client id at an authorisation server",
    ),
    ("code", Kind::Word, "stable code of a refusal"),
    ("connection", Kind::Slug, "an EHR connection"),
    ("correlation", Kind::Minted, "one request"),
    ("error", Kind::Sentence, "what one of our own errors says"),
    ("file", Kind::Source, "where in the source code"),
    ("job", Kind::Minted, "one cohort job"),
    ("line", Kind::Count(100_000), "line of that file"),
    (
        "method",
        Kind::Word,
        "method of a request, from a fixed list",
    ),
    ("nanos", Kind::Count(u64::MAX), "a duration, in benchmarks"),
    ("outcome", Kind::Word, "what came of a send"),
    ("panicked", Kind::Flag, "whether a task panicked"),
    (
        "reason",
        Kind::Sentence,
        "why, as a code or a fixed sentence",
    ),
    ("resource", Kind::Word, "type of a resource"),
    ("route", Kind::Route, "pattern of a route"),
    ("rule", Kind::Word, "a rule that something was refused by"),
    ("run", Kind::Minted, "one undo run"),
    (
        "sqlite_code",
        Kind::Count(1_000_000),
        "SQLite's result code",
    ),
    (
        "sqlstate",
        Kind::Word,
        "PostgreSQL's error code, behind `S`",
    ),
    ("status", Kind::Count(999), "status of a response"),
    ("stream", Kind::Word, "a stream of AuditEvents"),
    ("tenant", Kind::Slug, "an organisation"),
    ("timeout", Kind::Flag, "whether it took too long"),
    ("vendor", Kind::Slug, "a vendor of the bundle"),
    ("what", Kind::Sentence, "what it is about, a fixed phrase"),
    ("work", Kind::Minted, "one item of the queue"),
    ("writeback", Kind::Minted, "one write-back"),
];

/// A value as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    Text(String),
    Number(u64),
    Flag(bool),
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Text(text) => f.write_str(text),
            Shown::Number(number) => write!(f, "{number}"),
            Shown::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

impl From<Shown> for serde_json::Value {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Text(text) => text.into(),
            Shown::Number(number) => number.into(),
            Shown::Flag(flag) => flag.into(),
        }
    }
}

/// A value as it was given.
#[derive(Clone, Copy)]
pub(super) enum Said<'v> {
    Text(&'v dyn fmt::Display),
    Number(u64),
    Flag(bool),
    /// Of a form that no field has.
    Other,
}

/// Why nothing of a field is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// The field is not in the list.
    Field,
    /// The value has not the form that its field has.
    Value,
}

/// What may be shown of a field.
pub(super) fn admit(name: &str, said: Said<'_>) -> Result<Shown, Dropped> {
    let kind = FIELDS
        .iter()
        .find_map(|(field, kind, _)| (*field == name).then_some(*kind))
        .ok_or(Dropped::Field)?;
    match (kind, said) {
        (Kind::Flag, Said::Flag(flag)) => Ok(Shown::Flag(flag)),
        (Kind::Count(max), Said::Number(number)) if number <= max => Ok(Shown::Number(number)),
        (Kind::Flag | Kind::Count(_), Said::Text(_)) => counted(kind, said),
        (_, Said::Text(value)) => {
            let text = bounded(value, VALUE_BYTES_MAX).ok_or(Dropped::Value)?;
            formed(kind, text).map(Shown::Text).ok_or(Dropped::Value)
        }
        _ => Err(Dropped::Value),
    }
}

/// Numbers and flags that were given as text, as `Option`s are.
fn counted(kind: Kind, said: Said<'_>) -> Result<Shown, Dropped> {
    let Said::Text(value) = said else {
        return Err(Dropped::Value);
    };
    let text = bounded(value, VALUE_BYTES_MAX).ok_or(Dropped::Value)?;
    let shown = match kind {
        Kind::Flag => text.parse().ok().map(Shown::Flag),
        Kind::Count(max) => text
            .parse()
            .ok()
            .filter(|number| *number <= max)
            .map(Shown::Number),
        _ => None,
    };
    shown.ok_or(Dropped::Value)
}

/// A text that has the form of its kind.
fn formed(kind: Kind, text: String) -> Option<String> {
    let is = |letter: fn(u8) -> bool| !text.is_empty() && text.bytes().all(letter);
    let has_form = match kind {
        Kind::Minted => is_minted(&text),
        Kind::Slug => {
            is(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')) && text.len() <= 64
        }
        Kind::Word => {
            is(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
                && text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.len() <= 64
                && digits(&text) < DIGITS_OF_SOMEBODY + 1
        }
        Kind::Route => {
            is(|c| c.is_ascii_alphanumeric() || b"/_{}*.-".contains(&c))
                && digits(&text) < DIGITS_OF_SOMEBODY
        }
        Kind::Source => is(|c| c.is_ascii_alphanumeric() || b"/_.-".contains(&c)),
        Kind::Sentence => return sentence(&text),
        Kind::Count(_) | Kind::Flag => false,
    };
    has_form.then_some(text)
}

/// A sentence of our own errors: what stands between backticks is somebody's input and goes; quotation marks,
/// addresses, markup and long numbers are not ours.
fn sentence(text: &str) -> Option<String> {
    let mut bare = String::with_capacity(text.len());
    for (position, part) in text.split('`').enumerate() {
        if position % 2 == 0 {
            bare.push_str(part);
        } else {
            bare.push('…');
        }
    }
    let foreign = |c: char| c.is_control() || "\"{}<>@%\\=?&|#$^~*".contains(c);
    if bare.is_empty() || bare.contains(foreign) || bare.contains("://") {
        return None;
    }
    let is_number = |word: &str| {
        let word = word.trim_matches(|c: char| c.is_ascii_punctuation() && c != '_');
        !is_minted(word) && digits(word) >= DIGITS_OF_SOMEBODY
    };
    (!bare.split_whitespace().any(is_number)).then_some(bare)
}

fn digits(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_digit).count()
}

/// A prefix, `_`, 32 hexadecimal digits.
fn is_minted(text: &str) -> bool {
    text.split_once('_').is_some_and(|(prefix, digits)| {
        (2..=8).contains(&prefix.len())
            && prefix.bytes().all(|c| c.is_ascii_lowercase())
            && digits.len() == 32
            && digits
                .bytes()
                .all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// What a value says, if it is short enough. Longer ones are not written out to their end.
pub(super) fn bounded(value: &dyn fmt::Display, bytes_max: usize) -> Option<String> {
    struct Bounded {
        text: String,
        bytes_max: usize,
    }
    impl fmt::Write for Bounded {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            if self.text.len().saturating_add(part.len()) > self.bytes_max {
                return Err(fmt::Error);
            }
            self.text.push_str(part);
            Ok(())
        }
    }
    let mut bounded = Bounded {
        text: String::new(),
        bytes_max,
    };
    write!(bounded, "{value}").ok()?;
    Some(bounded.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "wb_00112233445566778899aabbccddeeff";

    #[test]
    fn the_list_is_in_order_and_has_no_name_twice() {
        assert!(FIELDS.windows(2).all(|two| two[0].0 < two[1].0));
    }

    #[test]
    fn each_kind_admits_its_form_and_not_its_nearest_neighbour() {
        let sentence = |text: &'static str| (text, text);
        let shown = [
            ("writeback", ID, ID),
            ("connection", "ehr-1", "ehr-1"),
            ("code", "not-found", "not-found"),
            ("sqlstate", "S40P01", "S40P01"),
            ("resource", "Patient", "Patient"),
            ("route", "/v1/tools/{name}", "/v1/tools/{name}"),
            (
                "file",
                "crates/engine/src/read.rs",
                "crates/engine/src/read.rs",
            ),
            ("status", "503", "503"),
            ("timeout", "true", "true"),
            (
                "error",
                "the store is not available",
                "the store is not available",
            ),
            (
                "error",
                "fact `name` is not declared",
                "fact … is not declared",
            ),
            ("error", "entry 4711 is missing", "entry 4711 is missing"),
        ];
        for (field, value, expected) in shown {
            let admitted = admit(field, Said::Text(&value));
            assert_eq!(admitted.map(|it| it.to_string()), Ok(expected.to_owned()));
        }
        let withheld = [
            ("writeback", "QX-7731-CANARY-0042"),
            ("writeback", "wb_00112233445566778899AABBCCDDEEFF"),
            ("correlation", "Grace Wood"),
            ("connection", "Grace Wood"),
            ("tenant", "grace@clinic.example"),
            ("code", "born 1931-07-19"),
            ("code", "n4711042"),
            ("resource", "Patient/4711"),
            ("route", "/Patient?name=Wood"),
            ("route", "/v1/patients/4711042"),
            ("status", "4155550187"),
            ("timeout", "perhaps"),
        ];
        for (field, value) in withheld {
            assert_eq!(
                admit(field, Said::Text(&value)),
                Err(Dropped::Value),
                "{field}: {value}"
            );
        }
        // What libraries say of what they were given.
        for (_, text) in [
            sentence("invalid type: string \"Wood\", expected u32 at line 1 column 7"),
            sentence("error sending request for url (https://ehr.example/Patient?name=Wood)"),
            sentence("db error: ERROR: Key (mrn)=(4711) already exists."),
            sentence("call +1-970-555-0187"),
            sentence("the patient 4711042 is not there"),
            sentence("a\nb"),
            sentence(""),
        ] {
            assert_eq!(
                admit("error", Said::Text(&text)),
                Err(Dropped::Value),
                "{text}"
            );
        }
        let quoted = "unknown field `Wood`, expected `id`";
        let admitted = admit("error", Said::Text(&quoted)).map(|it| it.to_string());
        assert_eq!(admitted, Ok("unknown field …, expected …".to_owned()));
    }

    #[test]
    fn an_unknown_field_a_number_too_large_and_a_value_without_end_are_dropped() {
        assert_eq!(admit("patient", Said::Text(&"pat_1")), Err(Dropped::Field));
        assert_eq!(admit("status", Said::Number(503)), Ok(Shown::Number(503)));
        assert_eq!(
            admit("status", Said::Number(9_705_550_187)),
            Err(Dropped::Value)
        );
        assert_eq!(admit("status", Said::Flag(true)), Err(Dropped::Value));
        assert_eq!(admit("panicked", Said::Flag(true)), Ok(Shown::Flag(true)));
        assert_eq!(admit("error", Said::Other), Err(Dropped::Value));

        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for _ in 0..1_000_000_000 {
                    f.write_str("word ")?;
                }
                Ok(())
            }
        }
        assert_eq!(admit("error", Said::Text(&Endless)), Err(Dropped::Value));
    }
}
