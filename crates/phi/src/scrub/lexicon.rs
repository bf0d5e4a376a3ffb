//! The word lists of the governance bundle, compiled for looking up: names, places, ordinary and
//! clinical words, and words that tell what stands beside them.
//!
//! The lists themselves are data (`governance/rules/lexicon-*.toml`, `scrub-cues.toml`). Not here: what is
//! concluded from a word. Start at [`Lexicon::embedded`].

use std::sync::LazyLock;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Deserialize;

use super::class::Class;

/// Names of the rule files, in the bundle's folder `rules`.
pub const RULES: [&str; 6] = [
    "lexicon-given-names",
    "lexicon-surnames",
    "lexicon-places",
    "lexicon-ordinary-words",
    "lexicon-clinical",
    "scrub-cues",
];

/// Most words in all lists together.
pub const WORDS_MAX: usize = 400_000;

/// What the lists say about a word; several may hold.
pub(crate) mod mark {
    pub(crate) const GIVEN: u32 = 1;
    pub(crate) const SURNAME: u32 = 1 << 1;
    pub(crate) const ORDINARY: u32 = 1 << 2;
    pub(crate) const EPONYM: u32 = 1 << 3;
    pub(crate) const EPONYM_HEAD: u32 = 1 << 4;
    pub(crate) const DRUG: u32 = 1 << 5;
    pub(crate) const ORGANISM: u32 = 1 << 6;
    pub(crate) const ACRONYM: u32 = 1 << 7;
    pub(crate) const TITLE: u32 = 1 << 8;
    pub(crate) const CREDENTIAL: u32 = 1 << 9;
    pub(crate) const SUFFIX: u32 = 1 << 10;
    pub(crate) const PARTICLE: u32 = 1 << 11;
    pub(crate) const RELATION: u32 = 1 << 12;
    pub(crate) const PERSON: u32 = 1 << 13;
    pub(crate) const NAME_CUE: u32 = 1 << 14;
    pub(crate) const NAME_FILLER: u32 = 1 << 15;
    pub(crate) const CARE_VERB: u32 = 1 << 16;
    pub(crate) const FACILITY_HEAD: u32 = 1 << 17;
    pub(crate) const FACILITY_TAIL: u32 = 1 << 18;
    pub(crate) const FACILITY_GENERIC: u32 = 1 << 19;
    pub(crate) const STREET_TYPE: u32 = 1 << 20;
    pub(crate) const UNIT_WORD: u32 = 1 << 21;
    /// A city of one word.
    pub(crate) const CITY: u32 = 1 << 22;
    /// A state's name of one word, or its abbreviation.
    pub(crate) const STATE: u32 = 1 << 23;
    /// Begins a phrase.
    pub(crate) const PHRASE: u32 = 1 << 24;
    /// The abbreviation of a state.
    pub(crate) const STATE_CODE: u32 = 1 << 25;
    /// A country.
    pub(crate) const COUNTRY: u32 = 1 << 26;
}

/// What a phrase of one or more words is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PhraseKind {
    City,
    State,
    Facility,
    FacilityHead,
    Label(Class),
}

#[derive(Debug)]
pub(crate) struct Phrase {
    /// The words after the first.
    pub(crate) rest: Vec<Box<str>>,
    pub(crate) kind: PhraseKind,
}

/// All lists.
#[derive(Debug)]
pub struct Lexicon {
    words: FxHashMap<Box<str>, u32>,
    phrases: FxHashMap<Box<str>, Vec<Phrase>>,
    nicknames: FxHashMap<Box<str>, Vec<Box<str>>>,
    zip3_restricted: FxHashSet<Box<str>>,
}

/// Lists that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LexiconInvalid {
    /// A file is not in the bundle.
    #[error("`rules/{0}.toml` is missing; the scrubber needs it")]
    Missing(&'static str),
    /// A file does not say what it should.
    #[error("`rules/{file}.toml`: {message}")]
    Malformed {
        /// The file.
        file: &'static str,
        /// What the reader says.
        message: String,
    },
    /// More than [`WORDS_MAX`] words.
    #[error("the lexicons hold more than {WORDS_MAX} words")]
    TooLarge,
}

#[derive(Deserialize)]
struct WordFile {
    #[serde(rename = "owner")]
    _owner: String,
    #[serde(rename = "reviewed")]
    _reviewed: String,
    #[serde(rename = "review_by")]
    _review_by: String,
    #[serde(rename = "source")]
    _source: String,
    #[serde(default)]
    words: String,
    #[serde(default)]
    nicknames: String,
    #[serde(default)]
    states: String,
    #[serde(default)]
    countries: String,
    #[serde(flatten)]
    lists: FxHashMap<String, toml::Value>,
}

/// The lists of `lexicon-clinical` and `scrub-cues` whose entries are words.
const WORD_LISTS: [(&str, &str, u32); 20] = [
    ("lexicon-clinical", "eponyms", mark::EPONYM),
    ("lexicon-clinical", "eponym_heads", mark::EPONYM_HEAD),
    ("lexicon-clinical", "drugs", mark::DRUG),
    ("lexicon-clinical", "organisms", mark::ORGANISM),
    ("lexicon-clinical", "acronyms", mark::ACRONYM),
    ("scrub-cues", "titles", mark::TITLE),
    ("scrub-cues", "credentials", mark::CREDENTIAL),
    ("scrub-cues", "suffixes", mark::SUFFIX),
    ("scrub-cues", "particles", mark::PARTICLE),
    ("scrub-cues", "relations", mark::RELATION),
    ("scrub-cues", "persons", mark::PERSON),
    ("scrub-cues", "name_cues", mark::NAME_CUE),
    ("scrub-cues", "name_fillers", mark::NAME_FILLER),
    ("scrub-cues", "care_verbs", mark::CARE_VERB),
    ("scrub-cues", "facility_heads", mark::FACILITY_HEAD),
    ("scrub-cues", "facility_tails", mark::FACILITY_TAIL),
    ("scrub-cues", "facility_generic", mark::FACILITY_GENERIC),
    ("scrub-cues", "street_types", mark::STREET_TYPE),
    ("scrub-cues", "unit_words", mark::UNIT_WORD),
    ("scrub-cues", "ethnicities", mark::ORDINARY),
];

static EMBEDDED: LazyLock<Result<Lexicon, LexiconInvalid>> =
    LazyLock::new(|| Lexicon::from_rules(embedded_rule));

/// The text of a list, as compiled in.
fn embedded_rule(name: &str) -> Option<&'static str> {
    Some(match name {
        "lexicon-given-names" => {
            include_str!("../../../../governance/rules/lexicon-given-names.toml")
        }
        "lexicon-surnames" => {
            include_str!("../../../../governance/rules/lexicon-surnames.toml")
        }
        "lexicon-places" => include_str!("../../../../governance/rules/lexicon-places.toml"),
        "lexicon-ordinary-words" => {
            include_str!("../../../../governance/rules/lexicon-ordinary-words.toml")
        }
        "lexicon-clinical" => {
            include_str!("../../../../governance/rules/lexicon-clinical.toml")
        }
        "scrub-cues" => include_str!("../../../../governance/rules/scrub-cues.toml"),
        _ => return None,
    })
}

impl Lexicon {
    /// The lists of the default bundle, compiled in.
    ///
    /// # Errors
    /// [`LexiconInvalid`], never for the lists of this release (a test reads them).
    pub fn embedded() -> Result<&'static Lexicon, LexiconInvalid> {
        EMBEDDED.as_ref().map_err(Clone::clone)
    }

    /// Whether a bundle's lists are those compiled in, so that they need not be read again.
    pub fn is_embedded<'t>(rule: impl Fn(&str) -> Option<&'t str>) -> bool {
        RULES
            .iter()
            .all(|name| rule(name).is_some_and(|text| embedded_rule(name) == Some(text)))
    }

    /// Reads the lists from a bundle: the text of `rules/<name>.toml` for each of [`RULES`].
    ///
    /// # Errors
    /// [`LexiconInvalid`], naming the file.
    pub fn from_rules<'t>(rule: impl Fn(&str) -> Option<&'t str>) -> Result<Self, LexiconInvalid> {
        let mut lexicon = Self {
            words: FxHashMap::default(),
            phrases: FxHashMap::default(),
            nicknames: FxHashMap::default(),
            zip3_restricted: FxHashSet::default(),
        };
        for file in RULES {
            let text = rule(file).ok_or(LexiconInvalid::Missing(file))?;
            let read: WordFile =
                toml::from_str(text).map_err(|error| LexiconInvalid::Malformed {
                    file,
                    message: error.message().to_owned(),
                })?;
            lexicon.add(file, &read)?;
            if lexicon.words.len() > WORDS_MAX {
                return Err(LexiconInvalid::TooLarge);
            }
        }
        Ok(lexicon)
    }

    fn add(&mut self, file: &'static str, read: &WordFile) -> Result<(), LexiconInvalid> {
        let text = |key: &str| -> Result<&str, LexiconInvalid> {
            read.lists
                .get(key)
                .and_then(toml::Value::as_str)
                .ok_or_else(|| LexiconInvalid::Malformed {
                    file,
                    message: format!("`{key}` must be a text of words"),
                })
        };
        match file {
            "lexicon-given-names" => self.mark_all(&read.words, mark::GIVEN),
            "lexicon-surnames" => self.mark_all(&read.words, mark::SURNAME),
            "lexicon-ordinary-words" => self.mark_all(&read.words, mark::ORDINARY),
            _ => {}
        }
        for group in read.nicknames.lines() {
            self.add_nicknames(group);
        }
        for line in read.countries.lines().filter(|line| !line.is_empty()) {
            self.add_phrase(line, PhraseKind::State, mark::COUNTRY);
        }
        for line in read.states.lines() {
            if let Some((code, name)) = line.split_once(' ') {
                self.mark_all(&code.to_ascii_lowercase(), mark::STATE | mark::STATE_CODE);
                self.add_phrase(name, PhraseKind::State, mark::STATE);
            }
        }
        if file == "lexicon-places" {
            let restricted = text("zip3_restricted")?.split_whitespace();
            self.zip3_restricted.extend(restricted.map(Box::from));
            for line in read.words.lines() {
                self.add_phrase(line, PhraseKind::City, mark::CITY);
            }
        }
        for (of, key, bits) in WORD_LISTS {
            if of == file {
                self.mark_all(text(key)?, bits);
            }
        }
        if file == "scrub-cues" {
            for line in text("facility_phrases")?.lines() {
                self.add_phrase(line, PhraseKind::FacilityHead, 0);
            }
            for line in text("facilities")?.lines() {
                self.add_phrase(line, PhraseKind::Facility, 0);
            }
            let labels = read.lists.get("labels").and_then(toml::Value::as_table);
            for (class, lines) in labels.into_iter().flatten() {
                let (Some(class), Some(lines)) = (Class::of_word(class), lines.as_str()) else {
                    return Err(LexiconInvalid::Malformed {
                        file,
                        message: "`labels` names a class for lines of text".to_owned(),
                    });
                };
                for line in lines.lines() {
                    self.add_phrase(line, PhraseKind::Label(class), 0);
                }
            }
        }
        Ok(())
    }

    fn mark_all(&mut self, words: &str, bits: u32) {
        for word in words.split_whitespace() {
            *self.words.entry(word.into()).or_default() |= bits;
        }
    }

    fn add_phrase(&mut self, line: &str, kind: PhraseKind, bits_alone: u32) {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else {
            return;
        };
        let rest: Vec<Box<str>> = words.map(Into::into).collect();
        let bits = self.words.entry(first.into()).or_default();
        *bits |= mark::PHRASE;
        if rest.is_empty() {
            *bits |= bits_alone;
        }
        self.phrases
            .entry(first.into())
            .or_default()
            .push(Phrase { rest, kind });
    }

    fn add_nicknames(&mut self, group: &str) {
        let names: Vec<&str> = group.split_whitespace().collect();
        for name in &names {
            let entry = self.nicknames.entry((*name).into()).or_default();
            entry.extend(
                names
                    .iter()
                    .filter(|it| it != &name)
                    .map(|it| Box::from(*it)),
            );
        }
    }

    /// The first three digits of a ZIP code of the United States as they may stay: `000` where too few people
    /// live, and for what is none (five digits, or nine).
    ///
    /// # Source
    /// 45 CFR 164.514(b)(2)(i)(B); the list and its date stand in `rules/lexicon-places.toml`.
    pub fn zip3(&self, postal_code: &str) -> String {
        let code = postal_code.trim();
        let digits: String = code.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
        let is_zip = matches!(digits.len(), 5 | 9)
            && digits.bytes().all(|c| c.is_ascii_digit())
            && code.bytes().take(5).all(|c| c.is_ascii_digit());
        match digits.get(..3) {
            Some(zip3) if is_zip && !self.zip3_restricted.contains(zip3) => zip3.to_owned(),
            _ => "000".to_owned(),
        }
    }

    /// Whether a text is nothing but the name or abbreviation of a state.
    pub fn is_state(&self, text: &str) -> bool {
        let words = super::known::words_of(text);
        match words.as_slice() {
            [word] => self.marks(word) & mark::STATE != 0,
            [first, rest @ ..] => self.phrases(first).iter().any(|it| {
                it.kind == PhraseKind::State
                    && it
                        .rest
                        .iter()
                        .map(AsRef::as_ref)
                        .eq(rest.iter().map(String::as_str))
            }),
            [] => false,
        }
    }

    /// Whether a text is nothing but the name of a country of the list, or a code of two or three letters.
    ///
    /// # Source
    /// ISO 3166-1 (codes).
    pub(crate) fn is_country(&self, text: &str) -> bool {
        let is_code = matches!(text.len(), 2 | 3) && text.bytes().all(|c| c.is_ascii_uppercase());
        let words = super::known::words_of(text);
        is_code
            || match words.as_slice() {
                [word] => self.marks(word) & mark::COUNTRY != 0,
                _ => self.is_state(text),
            }
    }

    /// What the lists say about a folded word.
    pub(crate) fn marks(&self, word: &str) -> u32 {
        self.words.get(word).copied().unwrap_or(0)
    }

    /// Phrases that begin with a folded word.
    pub(crate) fn phrases(&self, first: &str) -> &[Phrase] {
        self.phrases.get(first).map_or(&[], Vec::as_slice)
    }

    /// Other forms of a given name.
    pub(crate) fn nicknames(&self, given: &str) -> impl Iterator<Item = &str> {
        self.nicknames
            .get(given)
            .into_iter()
            .flatten()
            .map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_this_release_are_read() {
        let lexicon = Lexicon::embedded().unwrap();
        let is = |word: &str, bits: u32| lexicon.marks(word) & bits == bits;
        assert!(is("mary", mark::GIVEN) && is("johnson", mark::SURNAME));
        assert!(is("may", mark::GIVEN | mark::ORDINARY));
        assert!(
            is("parkinson", mark::EPONYM)
                && is("graves", mark::EPONYM)
                && is("foley", mark::EPONYM)
        );
        assert!(is("chicago", mark::CITY) && is("tx", mark::STATE_CODE));
        assert!(is("aspirin", mark::DRUG) && !is("aspirin", mark::GIVEN));
        assert_eq!(lexicon.marks("qwertyzx"), 0);
        assert!(lexicon.nicknames("robert").any(|it| it == "bob"));
        assert!(
            lexicon
                .phrases("medical")
                .iter()
                .any(|it| it.kind == PhraseKind::Label(Class::Mrn))
        );
    }

    #[test]
    fn small_zip_areas_become_zeros_and_their_neighbours_stay() {
        let lexicon = Lexicon::embedded().unwrap();
        for (code, zip3) in [
            ("02139", "021"),
            ("03601", "000"),
            ("03501", "035"),
            ("20301-1234", "000"),
            ("K1A 0B1", "000"),
            ("02139 1234", "021"),
            ("0213", "000"),
            ("021391", "000"),
            ("0213-9", "000"),
            ("", "000"),
        ] {
            assert_eq!(lexicon.zip3(code), zip3, "{code}");
        }
    }

    #[test]
    fn a_missing_and_a_malformed_list_are_named() {
        let missing = Lexicon::from_rules(|_| None).unwrap_err();
        assert_eq!(missing, LexiconInvalid::Missing("lexicon-given-names"));
        let malformed = Lexicon::from_rules(|_| Some("words = 1")).unwrap_err();
        assert!(matches!(
            malformed,
            LexiconInvalid::Malformed {
                file: "lexicon-given-names",
                ..
            }
        ));
    }
}
