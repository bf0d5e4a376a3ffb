//! The scrubber of free text: identifiers out, typed slots in.
//!
//! Four layers look at a text: what the record says about the patient and everybody in it ([`known`]),
//! forms and labels with check digits, lists of names and places against a stop list of clinical words
//! ([`lexicon`]), and a named-entity model if the caller brings one ([`finder`]). What they find is replaced by
//! slots that are the same for the same identifier within one envelope ([`slots`]). A text that costs more than
//! its budget, or that still holds a known identifier afterwards, is withheld.
//!
//! What it is not: a promise that nothing is missed. `docs/deidentification.md` has the measured figures.
//!
//! Reading order: this file, [`class`], [`slots`], `search` (how findings are collected), then one file a layer;
//! [`passage`] for the texts of a resource one by one, [`document`] for whole resources and attachments.

use std::fmt;

use self::budget::{Meter, Spent};
use self::search::{Search, Span, settle};

pub mod class;
pub mod document;
pub mod finder;
pub mod known;
pub mod lexicon;
pub mod passage;
pub mod slots;

mod addresses;
mod ages;
mod budget;
pub(crate) mod calendar;
mod checks;
mod dates;
mod electronic;
mod encoded;
pub(crate) mod fold;
mod labels;
pub mod markup;
mod names;
mod numbers;
mod places;
mod reading;
pub mod rtf;
mod search;

#[cfg(test)]
mod tests;

pub use self::ages::{AGE_FOLDED, AGE_FOLDED_FROM};
pub use self::budget::Budget;
pub use self::class::Class;
pub use self::finder::{Entity, EntityFinder, FinderFailed};
pub(crate) use self::fold::fold as fold_text;
pub use self::known::Known;
pub use self::lexicon::{Lexicon, LexiconInvalid};
pub use self::passage::FreeText;
pub use self::search::Basis;
pub use self::slots::{SlotUnresolved, Slots};

/// What happens to dates. Those of birth and death that the record knows are replaced in every mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateUse {
    /// They stay, and so do ages: for intents that write into the record.
    Keep,
    /// They become slots.
    Slot,
    /// They become their year: for de-identified use.
    ///
    /// # Source
    /// 45 CFR 164.514(b)(2)(i)(C).
    Year {
        /// The year in which the text is read: years so far back that they tell an age over 89 become slots.
        as_of: i16,
    },
}

/// How a text is scrubbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What happens to dates.
    pub dates: DateUse,
    /// What one text may cost.
    pub budget: Budget,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dates: DateUse::Slot,
            budget: Budget::default(),
        }
    }
}

/// Scrubs texts of one record.
#[derive(Clone, Copy)]
pub struct Scrubber<'a> {
    lexicon: &'a Lexicon,
    known: &'a Known,
    finder: Option<&'a dyn EntityFinder>,
    settings: Settings,
}

/// A text without the identifiers that were found.
#[derive(Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// The text with slots.
    pub text: String,
    /// What was replaced, in order. Positions are those of the text before.
    pub findings: Vec<Finding>,
}

impl fmt::Debug for Scrubbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubbed")
            .field("findings", &self.findings)
            .finish_non_exhaustive()
    }
}

/// One identifier in a text: its class and place, never its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub class: Class,
    /// What that rests on.
    pub basis: Basis,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends, exclusive.
    pub end: usize,
}

/// Why a text is not passed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// Longer than the budget allows.
    #[error("withheld: the text is longer than {bytes_max} bytes")]
    TooLong {
        /// The longest that is read.
        bytes_max: usize,
    },
    /// More work than the budget allows.
    #[error("withheld: the text needs more steps than its budget has")]
    OverBudget,
    /// The envelope has no more slots.
    #[error("withheld: the envelope has no more slots")]
    SlotsUsedUp,
    /// The entity finder failed, or named a place that is not in the text.
    #[error("withheld: the entity finder failed")]
    FinderFailed,
    /// A known identifier was still there afterwards.
    #[error("withheld: an identifier of the record was still there after scrubbing")]
    Residue,
    /// Not a form of text that is read here, or text that holds something encoded.
    #[error("withheld: this form of content is not read")]
    Unreadable,
}

impl From<Spent> for Withheld {
    fn from(Spent: Spent) -> Self {
        Withheld::OverBudget
    }
}

impl From<slots::SlotsUsedUp> for Withheld {
    fn from(_: slots::SlotsUsedUp) -> Self {
        Withheld::SlotsUsedUp
    }
}

impl<'a> Scrubber<'a> {
    /// A scrubber for texts of a record; `known` is what the record says, and may be empty.
    pub fn new(lexicon: &'a Lexicon, known: &'a Known, settings: Settings) -> Self {
        Self {
            lexicon,
            known,
            finder: None,
            settings,
        }
    }

    /// The same with a named-entity model behind the other layers.
    #[must_use]
    pub fn with_finder(self, finder: &'a dyn EntityFinder) -> Self {
        Self {
            finder: Some(finder),
            ..self
        }
    }

    /// Whether a string holds something that the record knows.
    pub(crate) fn holds_known(&self, text: &str) -> Result<bool, Withheld> {
        if self.known.is_empty() {
            return Ok(false);
        }
        let mut meter = Meter::new(self.settings.budget);
        let reading = reading::Reading::new(text, self.lexicon);
        let mut search = Search::new(&reading, self.lexicon, &mut meter);
        known::find::find(&mut search, self.known)?;
        Ok(!search.spans.is_empty())
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether a text is short enough to be looked at.
    pub(crate) fn check_length(&self, text: &str) -> Result<(), Withheld> {
        let bytes_max = self.settings.budget.bytes_max;
        if text.len() > bytes_max {
            return Err(Withheld::TooLong { bytes_max });
        }
        Ok(())
    }

    /// Replaces what identifies somebody by slots of the envelope.
    ///
    /// # Errors
    /// [`Withheld`]: the text must not be shown at all.
    pub fn scrub(&self, text: &str, slots: &mut Slots) -> Result<Scrubbed, Withheld> {
        let spans = self.search(text)?;
        let mut out = String::with_capacity(text.len());
        // The same text with slots reduced to one character, to look for what was missed.
        let mut bare = String::with_capacity(text.len());
        let mut done = 0;
        for span in &spans {
            let kept = text.get(done..span.start).unwrap_or("");
            out.push_str(kept);
            bare.push_str(kept);
            // Line breaks keep what stands on both sides from being read as one.
            bare.push_str("\n\u{FFFC}\n");
            let identifier = text.get(span.start..span.end).unwrap_or("");
            out.push_str(&self.replacement(span, identifier, slots)?);
            done = span.end;
        }
        let rest = text.get(done..).unwrap_or("");
        out.push_str(rest);
        bare.push_str(rest);
        self.check_residue(&bare)?;
        Ok(Scrubbed {
            text: out,
            findings: spans.iter().map(Finding::of).collect(),
        })
    }

    /// What would be replaced: for a gate that lets nothing pass rather than change it.
    ///
    /// # Errors
    /// [`Withheld`]: nothing is known about the text, which must not pass either.
    pub fn detect(&self, text: &str) -> Result<Vec<Finding>, Withheld> {
        Ok(self.search(text)?.iter().map(Finding::of).collect())
    }

    /// Everything that is to be replaced, in order and without overlaps.
    fn search(&self, text: &str) -> Result<Vec<Span>, Withheld> {
        let budget = self.settings.budget;
        self.check_length(text)?;
        let mut meter = Meter::new(budget);
        meter.spend(text.len())?;
        if encoded::holds(text) {
            return Err(Withheld::Unreadable);
        }
        let reading = reading::Reading::new(text, self.lexicon);
        let mut search = Search::new(&reading, self.lexicon, &mut meter);
        literal_slots(&mut search);
        known::find::find(&mut search, self.known)?;
        electronic::find(&mut search)?;
        dates::find(&mut search)?;
        ages::find(&mut search)?;
        labels::find(&mut search)?;
        numbers::find(&mut search)?;
        addresses::find(&mut search)?;
        places::find(&mut search)?;
        names::find(&mut search)?;
        if search.found_person() {
            dates::find_relative(&mut search)?;
        }
        known::find::mark_days(&mut search, self.known);
        let mut spans = search.spans;
        if let Some(finder) = self.finder {
            add_entities(finder, text, &mut spans)?;
        }
        spans.retain(|span| !self.stays(span));
        settle(text, &mut spans);
        Ok(spans)
    }

    /// Dates and ages stay where the record is being written.
    fn stays(&self, span: &Span) -> bool {
        let is_time = matches!(span.class, Class::Date | Class::Age);
        let keeps_birth = span.basis == Basis::Record || span.is_vital;
        match self.settings.dates {
            DateUse::Keep => is_time && !keeps_birth,
            DateUse::Slot | DateUse::Year { .. } => false,
        }
    }

    fn replacement(
        &self,
        span: &Span,
        identifier: &str,
        slots: &mut Slots,
    ) -> Result<String, Withheld> {
        // A slot resolves to one text: another form of the same day, or another time on it, has another slot.
        let slot = |slots: &mut Slots| slots.slot_for(span.class, identifier);
        let replaced = match (span.class, self.settings.dates, span.day) {
            (Class::Age, DateUse::Year { .. }, _) => AGE_FOLDED.to_owned(),
            (Class::Date, DateUse::Year { as_of }, Some(day)) => match day.year {
                // Two digits of a year of birth can be of either century.
                Some(year)
                    if as_of.saturating_sub(year) < year_folded_from()
                        && !(span.is_vital && day.is_short_year) =>
                {
                    year.to_string()
                }
                _ => slot(slots)?,
            },
            _ => slot(slots)?,
        };
        Ok(replaced)
    }

    /// Looks for known identifiers in what is left.
    fn check_residue(&self, bare: &str) -> Result<(), Withheld> {
        if self.holds_known(bare)? {
            Err(Withheld::Residue)
        } else {
            Ok(())
        }
    }
}

/// Years this far back tell an age over 89.
fn year_folded_from() -> i16 {
    i16::try_from(AGE_FOLDED_FROM).unwrap_or(i16::MAX)
}

impl Finding {
    fn of(span: &Span) -> Self {
        Self {
            class: span.class,
            basis: span.basis,
            start: span.start,
            end: span.end,
        }
    }
}

/// Text of the source that reads like a slot would be taken for one of ours when it comes back.
fn literal_slots(search: &mut Search<'_, '_>) {
    let text = search.reading.text;
    let mut done = 0;
    for (start, _) in text.match_indices('[') {
        if start < done {
            continue;
        }
        if let Some(found) = slots::slot_at(text, start) {
            search.take_bytes(start, found.end, Class::Literal, Basis::Checked);
            done = found.end;
        }
    }
}

fn add_entities(
    finder: &dyn EntityFinder,
    text: &str,
    spans: &mut Vec<Span>,
) -> Result<(), Withheld> {
    /// Most entities of one text.
    const ENTITIES_MAX: usize = 100_000;
    let entities = finder
        .find(text)
        .map_err(|FinderFailed| Withheld::FinderFailed)?;
    if entities.len() > ENTITIES_MAX {
        return Err(Withheld::FinderFailed);
    }
    for entity in entities {
        if entity.start >= entity.end || text.get(entity.start..entity.end).is_none() {
            return Err(Withheld::FinderFailed);
        }
        spans.push(Span {
            start: entity.start,
            end: entity.end,
            class: entity.class,
            basis: Basis::Finder,
            day: None,
            is_vital: false,
        });
    }
    Ok(())
}
