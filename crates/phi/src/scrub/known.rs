//! What a record says about who is who: names, addresses, numbers and dates of the patient, relatives,
//! practitioners and organisations, and how they are found again in a text, however they are written.
//!
//! This layer knows no list of clinical words: a patient called Parkinson is found in "Parkinson's disease" too.
//! A name that is also an ordinary word ("Grace Wood") needs a capital letter, another part of the name beside
//! it, or a word for a person before it.
//! Reading order: [`Known`], `collect` (from FHIR resources), `find` (in a text).

use std::fmt;

use rustc_hash::{FxHashMap, FxHashSet};

use super::calendar::Day;
use super::class::Class;
use super::fold;
use super::lexicon::{Lexicon, mark};

mod collect;
pub(crate) use collect::{
    contact_class, identifier_class, is_address, is_human_name, is_vital_date, is_vital_object,
    is_vital_part,
};
pub(crate) mod find;

/// Most identifiers that are known at once; a record with more cannot be scrubbed.
pub const KNOWN_MAX: usize = 100_000;

/// Deepest nesting that is looked into; what lies deeper makes the record unknown.
const DEPTH_MAX: usize = 64;

/// Shortest number or code that is found by its letters and digits alone.
const COMPACT_MIN: usize = 4;

/// Most parts of one name, other forms of it included, that are ordinary words.
const PARTS_MAX: usize = 32;

/// Shortest name in which one wrong letter is still recognised.
const FUZZY_MIN: usize = 5;

/// Known identifiers. Holds PHI: it is never printed.
#[derive(Clone, Default)]
pub struct Known {
    /// Folded words, and how each may be written.
    words: FxHashMap<Box<str>, KnownWord>,
    /// Folded first word to sequences of words.
    sequences: FxHashMap<Box<str>, Vec<Sequence>>,
    /// First characters of numbers and codes to the whole, without separators.
    compact: FxHashMap<[u8; COMPACT_MIN], Vec<(Box<str>, Class)>>,
    compact_seen: FxHashSet<Box<str>>,
    /// Dates of birth and death.
    days: Vec<Day>,
    /// Initials of people.
    initials: FxHashSet<Box<str>>,
    /// Name parts that were added; a record names the same people many times.
    parts_seen: FxHashSet<Box<str>>,
    /// Names in which a slip of the pen is recognised, by length.
    fuzzy: FxHashMap<usize, Vec<Box<str>>>,
    /// Family names that are found inside longer words, such as user names.
    inside: FxHashSet<Box<str>>,
    /// Names that are ordinary words, each with those that the same person has beside it.
    together: FxHashMap<Box<str>, FxHashSet<Box<str>>>,
    /// Those of the name that is being added.
    ordinary_parts: Vec<Box<str>>,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct KnownWord {
    class: Class,
    /// Also an ordinary word, which in small letters counts only beside another part of a name, or behind a word
    /// for a person.
    needs_capital: bool,
}

#[derive(Debug, Clone)]
struct Sequence {
    rest: Vec<Box<str>>,
    class: Class,
    needs_capital: bool,
}

/// More is known than can be looked for, or the record lies deeper than is looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the record holds more than {KNOWN_MAX} identifiers, or is nested more than {DEPTH_MAX} deep"
)]
pub struct KnownTooMany;

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("identifiers", &self.count)
            .finish_non_exhaustive()
    }
}

/// Whose name it is: how freely it is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The patient's, or a relative's.
    Family,
    /// Of somebody who gives care.
    Carer,
}

impl Known {
    /// How many identifiers are known.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn days(&self) -> &[Day] {
        &self.days
    }

    fn add_word(&mut self, lexicon: &Lexicon, word: &str, class: Class) {
        if word.chars().count() < 2 || word.bytes().all(|c| c.is_ascii_digit()) {
            return;
        }
        let marks = lexicon.marks(word);
        let is_common =
            marks & (mark::ORDINARY | mark::TITLE | mark::FACILITY_HEAD | mark::CREDENTIAL) != 0;
        let is_generic = class == Class::Place && is_common
            || marks & (mark::TITLE | mark::SUFFIX) != 0
                && marks & (mark::GIVEN | mark::SURNAME) == 0;
        if is_generic
            || (class == Class::Place
                && marks & (mark::STATE | mark::FACILITY_GENERIC | mark::STREET_TYPE) != 0)
        {
            return;
        }
        let needs_capital = is_common || word.chars().count() < 3 || marks & mark::PARTICLE != 0;
        self.words.entry(word.into()).or_insert(KnownWord {
            class,
            needs_capital,
        });
        self.count += 1;
        if class == Class::Name && needs_capital && self.ordinary_parts.len() < PARTS_MAX {
            self.ordinary_parts.push(word.into());
        }
    }

    /// Ends a name whose parts were added: which ordinary words stand together in it.
    fn end_name(&mut self) {
        let parts = std::mem::take(&mut self.ordinary_parts);
        for one in &parts {
            let others = parts.iter().filter(|it| *it != one).cloned();
            self.together.entry(one.clone()).or_default().extend(others);
        }
    }

    /// Whether two ordinary words are parts of one person's name.
    fn are_together(&self, one: &str, other: &str) -> bool {
        self.together
            .get(one)
            .is_some_and(|others| others.contains(other))
    }

    /// A name part, with its other forms and, for the family, what it may be mistaken for.
    fn add_name_part(&mut self, lexicon: &Lexicon, part: &str, whose: Whose, is_family: bool) {
        for piece in part.split(|c: char| !fold::is_word_char(c) && !fold::is_apostrophe(c)) {
            let whole = fold::compact(piece);
            // Synthetic records number their names: "Abbott774".
            let plain: String = whole
                .trim_end_matches(|c: char| c.is_ascii_digit())
                .to_owned();
            self.add_word(lexicon, &whole, Class::Name);
            self.add_word(lexicon, &plain, Class::Name);
            if whose == Whose::Carer && lexicon.marks(&plain) & mark::ORDINARY != 0 {
                continue;
            }
            let nicknames: Vec<String> = lexicon.nicknames(&plain).map(str::to_owned).collect();
            if !is_family && whose == Whose::Family {
                for nickname in nicknames {
                    self.add_word(lexicon, &nickname, Class::Name);
                }
            }
            let length = plain.chars().count();
            if length >= FUZZY_MIN && self.parts_seen.insert(plain.as_str().into()) {
                self.fuzzy
                    .entry(length)
                    .or_default()
                    .push(plain.as_str().into());
            }
            if length >= FUZZY_MIN && is_family {
                self.inside.insert(plain.into());
            }
        }
    }

    /// A whole name, for its initials.
    fn add_initials(&mut self, parts: &[&str]) {
        let letters: String = parts
            .iter()
            .filter_map(|part| fold::compact(part).chars().next())
            .filter(|c| c.is_alphabetic())
            .collect();
        let count = letters.chars().count();
        if count >= 2 {
            if count > 2 {
                let outer: String = letters
                    .chars()
                    .next()
                    .into_iter()
                    .chain(letters.chars().last())
                    .collect();
                self.initials.insert(outer.into());
            }
            self.initials.insert(letters.into());
        }
    }

    /// Words that stand together: a city, a street, an organisation.
    fn add_sequence(&mut self, lexicon: &Lexicon, text: &str, class: Class) {
        let words: Vec<String> = words_of(text);
        let Some((first, rest)) = words.split_first() else {
            return;
        };
        if rest.is_empty() {
            self.add_word(lexicon, first, class);
            return;
        }
        let all_common = words.iter().all(|word| {
            lexicon.marks(word) & mark::ORDINARY != 0 && !word.bytes().any(|c| c.is_ascii_digit())
        });
        let of_first = self.sequences.entry(first.as_str().into()).or_default();
        let is_there = of_first.iter().any(|it| {
            it.rest
                .iter()
                .map(AsRef::as_ref)
                .eq(rest.iter().map(String::as_str))
        });
        if is_there {
            return;
        }
        of_first.push(Sequence {
            rest: rest.iter().map(|word| word.as_str().into()).collect(),
            class,
            needs_capital: all_common,
        });
        self.count += 1;
    }

    /// A number or code, found whatever stands between its characters.
    fn add_compact(&mut self, text: &str, class: Class) {
        let compact = fold::compact(text);
        if !compact.bytes().any(|c| c.is_ascii_digit()) {
            return;
        }
        let Some(key) = key_of(compact.as_bytes()) else {
            return;
        };
        if !self.compact_seen.insert(compact.as_str().into()) {
            return;
        }
        self.compact
            .entry(key)
            .or_default()
            .push((compact.into(), class));
        self.count += 1;
    }

    fn add_day(&mut self, text: &str) {
        if let Some(day) = Day::of_fhir(text)
            && day.month.is_some()
            && !self.days.contains(&day)
        {
            self.days.push(day);
            self.count += 1;
        }
    }
}

/// The folded words of a text, digits and letters apart from marks.
pub(crate) fn words_of(text: &str) -> Vec<String> {
    text.split(|c: char| !fold::is_word_char(c) && !fold::is_apostrophe(c))
        .map(|word| {
            let word = word
                .strip_suffix("'s")
                .or_else(|| word.strip_suffix("\u{2019}s"))
                .unwrap_or(word);
            fold::compact(word)
        })
        .filter(|word| !word.is_empty())
        .collect()
}

fn key_of(bytes: &[u8]) -> Option<[u8; COMPACT_MIN]> {
    bytes.first_chunk::<COMPACT_MIN>().copied()
}
