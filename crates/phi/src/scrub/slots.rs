//! Slots: what stands in a text in place of an identifier, such as `[NAME-1]`, and the way back.
//!
//! One [`Slots`] serves one envelope: the same identifier gets the same slot in every text of it, and what an
//! agent writes back with slots in it is resolved here before anything looks at it. A slot that this envelope
//! never gave out is an error, never text. Holds PHI: it has no `Display` and rests only sealed ([`rest`]); keep
//! it no longer than its envelope.

use std::collections::BTreeMap;
use std::fmt;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::class::Class;
use super::fold;

pub mod rest;

/// Most slots of one envelope.
pub const SLOTS_MAX: usize = 50_000;

/// Longest thing in brackets that is looked at as a slot, in bytes.
const SLOT_BYTES_MAX: usize = 32;

/// Deepest JSON that slots are resolved in.
const DEPTH_MAX: usize = 128;

/// The slots that one envelope gave out, with what they stand for.
#[derive(Clone)]
pub struct Slots {
    /// The number of the first slot of each class.
    first: u32,
    by_value: FxHashMap<(Class, String), u32>,
    values: FxHashMap<(Class, u32), String>,
    given: BTreeMap<Class, u32>,
}

impl Default for Slots {
    fn default() -> Self {
        Self::numbered_from(1)
    }
}

/// A text with its slots put back.
#[derive(Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The text.
    pub text: String,
    /// How many slots were in it, by class.
    pub classes: BTreeMap<Class, u32>,
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved")
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("given", &self.values.len())
            .finish_non_exhaustive()
    }
}

/// More identifiers than one envelope has slots for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an envelope has at most {SLOTS_MAX} slots")]
pub struct SlotsUsedUp;

/// Why a text with slots cannot be resolved. Names the slot, which identifies nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotUnresolved {
    /// This envelope gave out no such slot.
    #[error("`{0}` is no slot of this envelope; use the slots as they were given")]
    Unknown(String),
    /// Something that was meant as a slot and is none: other case, spaces, a missing bracket.
    #[error("`{0}` is not written like a slot; write it as it was given, such as `[NAME-1]`")]
    Malformed(String),
    /// The document is nested too deeply.
    #[error("the document is nested more than {DEPTH_MAX} deep")]
    TooDeep,
}

impl Slots {
    /// No slots yet; the first of each class will be number 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// No slots yet; the first of each class will have this number. Envelopes that are numbered from places far
    /// apart do not know each other's slots, so that one carried over from another is refused instead of taken
    /// for one of their own.
    pub fn numbered_from(first: u32) -> Self {
        Self {
            first,
            by_value: FxHashMap::default(),
            values: FxHashMap::default(),
            given: BTreeMap::new(),
        }
    }

    /// How many slots were given out, by class.
    pub fn given(&self) -> &BTreeMap<Class, u32> {
        &self.given
    }

    /// How many slots were given out.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The slot for an identifier: the one it already has, or a new one. `key` is what makes two writings the
    /// same identifier; `text` is what the slot resolves to.
    pub(crate) fn slot(
        &mut self,
        class: Class,
        key: &str,
        text: &str,
    ) -> Result<String, SlotsUsedUp> {
        let of_value = (class, key.to_owned());
        if let Some(number) = self.by_value.get(&of_value) {
            return Ok(written(class, *number));
        }
        if self.values.len() >= SLOTS_MAX {
            return Err(SlotsUsedUp);
        }
        let given = self.given.entry(class).or_default();
        let number = self.first.checked_add(*given).ok_or(SlotsUsedUp)?;
        *given += 1;
        self.by_value.insert(of_value, number);
        self.values.insert((class, number), text.to_owned());
        Ok(written(class, number))
    }

    /// The slot for a piece of text, by its plain form.
    pub(crate) fn slot_for(&mut self, class: Class, text: &str) -> Result<String, SlotsUsedUp> {
        let key = match class {
            Class::Name | Class::Place | Class::Email => fold::fold(text)
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
            Class::Date | Class::Age | Class::Literal | Class::Url | Class::Photo => {
                text.to_owned()
            }
            _ => fold::compact(text),
        };
        let key = if key.is_empty() { text.to_owned() } else { key };
        self.slot(class, &key, text)
    }

    /// Puts back what the slots of a text stand for.
    ///
    /// # Errors
    /// [`SlotUnresolved`] for the first slot that this envelope did not give out, and for what looks like one.
    pub fn resolve(&self, text: &str) -> Result<String, SlotUnresolved> {
        self.resolve_counted(text).map(|resolved| resolved.text)
    }

    /// The same, with how many there were of each class.
    ///
    /// # Errors
    /// [`SlotUnresolved`].
    pub fn resolve_counted(&self, text: &str) -> Result<Resolved, SlotUnresolved> {
        let mut classes = BTreeMap::new();
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for (start, _) in text.match_indices('[') {
            if start < done {
                continue;
            }
            let Some(found) = slot_at(text, start) else {
                continue;
            };
            let shown = || text.get(start..found.end).unwrap_or("").to_owned();
            if !found.is_exact {
                return Err(SlotUnresolved::Malformed(shown()));
            }
            let value = found
                .number
                .and_then(|number| self.values.get(&(found.class, number)))
                .ok_or_else(|| SlotUnresolved::Unknown(shown()))?;
            out.push_str(text.get(done..start).unwrap_or(""));
            out.push_str(value);
            *classes.entry(found.class).or_default() += 1;
            done = found.end;
        }
        let rest = text.get(done..).unwrap_or("");
        out.push_str(rest);
        match bare_slot(text) {
            Some(bare) => Err(SlotUnresolved::Malformed(bare.to_owned())),
            None => Ok(Resolved { text: out, classes }),
        }
    }

    /// Resolves every string of a document; names of members stay as they are.
    ///
    /// # Errors
    /// [`SlotUnresolved`].
    pub fn resolve_json(&self, value: &Value) -> Result<Value, SlotUnresolved> {
        self.resolve_at(value, 0)
    }

    fn resolve_at(&self, value: &Value, depth: usize) -> Result<Value, SlotUnresolved> {
        if depth > DEPTH_MAX {
            return Err(SlotUnresolved::TooDeep);
        }
        Ok(match value {
            Value::String(text) => Value::String(self.resolve(text)?),
            Value::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| self.resolve_at(item, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(name, member)| Ok((name.clone(), self.resolve_at(member, depth + 1)?)))
                    .collect::<Result<_, SlotUnresolved>>()?,
            ),
            other => other.clone(),
        })
    }
}

/// What in a text reads like a slot, or was meant as one, whatever envelope it is of.
pub fn slot_in(text: &str) -> Option<&str> {
    text.match_indices('[')
        .find_map(|(start, _)| text.get(start..slot_at(text, start)?.end))
        .or_else(|| bare_slot(text))
}

fn written(class: Class, number: u32) -> String {
    format!("[{}-{number}]", class.word())
}

/// Something that is a slot, or was meant as one.
pub(crate) struct Found {
    pub(crate) end: usize,
    class: Class,
    number: Option<u32>,
    is_exact: bool,
}

/// What stands in brackets at `start`, when it reads like a slot.
pub(crate) fn slot_at(text: &str, start: usize) -> Option<Found> {
    let rest = text.get(start + 1..)?;
    let window_end = rest
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= SLOT_BYTES_MAX)
        .last()
        .unwrap_or(0);
    let window = rest.get(..window_end)?;
    let close = window.find(']')?;
    let inner = window.get(..close)?;
    let end = start + 1 + close + 1;
    let (class, number, is_exact) = parts(inner)?;
    Some(Found {
        end,
        class,
        number,
        is_exact,
    })
}

/// The class and number in a slot; whether it is written exactly.
fn parts(inner: &str) -> Option<(Class, Option<u32>, bool)> {
    let plain: String = fold::fold(inner)
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let letters = plain
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(plain.len());
    let (word, rest) = plain.split_at_checked(letters)?;
    let class = Class::of_word(word)?;
    let digits =
        rest.trim_start_matches(|c: char| fold::is_dash(c) || matches!(c, '_' | '#' | ':'));
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let number: Option<u32> = digits.parse().ok();
    let is_exact = number.is_some_and(|number| format!("{}-{number}", class.word()) == inner);
    Some((class, number, is_exact))
}

/// A slot that lost one of its brackets: `NAME-1]`, `[NAME-1`.
fn bare_slot(text: &str) -> Option<&str> {
    for (at, _) in text.match_indices('-') {
        let before = text.get(..at)?;
        let word_start = before
            .rfind(|c: char| !c.is_ascii_uppercase())
            .map_or(0, |place| {
                place
                    + before
                        .get(place..)
                        .and_then(|it| it.chars().next())
                        .map_or(1, char::len_utf8)
            });
        let word = before.get(word_start..)?;
        let after = text.get(at + 1..)?;
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 || Class::of_word(word).is_none() {
            continue;
        }
        let opened = text.get(..word_start)?.ends_with('[');
        let closed = after.get(digits..)?.starts_with(']');
        if opened != closed {
            return text.get(word_start..at + 1 + digits);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slots() -> Slots {
        let mut slots = Slots::new();
        assert_eq!(slots.slot_for(Class::Name, "Ann Roe").unwrap(), "[NAME-1]");
        assert_eq!(slots.slot_for(Class::Name, "ann  ROE").unwrap(), "[NAME-1]");
        assert_eq!(slots.slot_for(Class::Name, "Ann Rot").unwrap(), "[NAME-2]");
        assert_eq!(
            slots.slot_for(Class::Phone, "555-1234").unwrap(),
            "[PHONE-1]"
        );
        assert_eq!(
            slots.slot_for(Class::Phone, "(555) 1234").unwrap(),
            "[PHONE-1]"
        );
        slots
    }

    #[test]
    fn the_same_identifier_has_one_slot_and_leads_back() {
        let slots = slots();
        assert_eq!(slots.len(), 3);
        assert_eq!(
            slots
                .resolve("Tell [NAME-1] at [PHONE-1] [sic] [1]")
                .unwrap(),
            "Tell Ann Roe at 555-1234 [sic] [1]"
        );
        let resolved = slots
            .resolve_json(&json!({"a": [{"b": "[NAME-2]"}], "n": 1}))
            .unwrap();
        assert_eq!(resolved, json!({"a": [{"b": "Ann Rot"}], "n": 1}));
        assert!(!format!("{slots:?}").contains("Ann"));
    }

    #[test]
    fn slots_of_an_envelope_numbered_from_elsewhere_are_unknown() {
        let mut other = Slots::numbered_from(4_817_203);
        let theirs = other.slot_for(Class::Name, "Ann Roe").unwrap();
        assert_eq!(theirs, "[NAME-4817203]");
        assert_eq!(other.resolve(&theirs).unwrap(), "Ann Roe");
        for (slots, foreign) in [(&slots(), theirs.as_str()), (&other, "[NAME-1]")] {
            assert!(matches!(
                slots.resolve(foreign),
                Err(SlotUnresolved::Unknown(_))
            ));
        }
        let mut last = Slots::numbered_from(u32::MAX);
        assert!(last.slot_for(Class::Name, "Ann Roe").is_ok());
        assert_eq!(last.slot_for(Class::Name, "Ann Rot"), Err(SlotsUsedUp));
    }

    #[test]
    fn what_reads_like_a_slot_is_seen_without_an_envelope() {
        for (text, seen) in [
            ("Tell [NAME-1] now", Some("[NAME-1]")),
            ("Tell [name 7] now", Some("[name 7]")),
            ("Tell NAME-1] now", Some("NAME-1")),
            ("HLA-B27 [sic] [1] NAME-1", None),
        ] {
            assert_eq!(slot_in(text), seen, "{text}");
        }
    }

    #[test]
    fn slots_are_counted_by_class() {
        let resolved = slots()
            .resolve_counted("[NAME-1] [NAME-1] [PHONE-1]")
            .unwrap();
        let counted: Vec<(Class, u32)> = resolved.classes.into_iter().collect();
        assert_eq!(counted, [(Class::Name, 2), (Class::Phone, 1)]);
    }

    #[test]
    fn foreign_and_mangled_slots_are_refused() {
        let slots = slots();
        for unknown in ["[NAME-3]", "[EMAIL-1]", "[NAME-99999999999]"] {
            assert!(slots.resolve(unknown).is_err(), "{unknown}");
        }
        for mangled in [
            "[name-1]",
            "[NAME 1]",
            "[ NAME-1 ]",
            "[NAME_1]",
            "[NAME-01]",
            "[NAME-1",
            "NAME-1]",
            "[N\u{200b}AME-1]",
        ] {
            assert!(
                matches!(slots.resolve(mangled), Err(SlotUnresolved::Malformed(_))),
                "{mangled}"
            );
        }
        assert!(slots.resolve("[NAMES-1] [ID] HLA-B27, ID-17").is_ok());
    }
}
