//! One search through one text: what was found so far, and which words are already part of something.
//!
//! The layers each add what they find; later ones pass over words that are taken. Start at [`Search`].

use super::budget::{Meter, Spent};
use super::calendar::Day;
use super::class::Class;
use super::lexicon::{Lexicon, mark};
use super::reading::{Kind, Reading, Shape};

/// What a finding rests on, from the most to the least certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// The record says so.
    Record,
    /// A check digit, or a form that nothing else has.
    Checked,
    /// A label or form of address beside it, or its form.
    Pattern,
    /// A list of names or places.
    Lexicon,
    /// The named-entity port.
    Finder,
}

impl Basis {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Basis::Record => "record",
            Basis::Checked => "checked",
            Basis::Pattern => "pattern",
            Basis::Lexicon => "lexicon",
            Basis::Finder => "finder",
        }
    }
}

/// A piece of a text that identifies, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) class: Class,
    pub(crate) basis: Basis,
    /// The date it names, if it is one.
    pub(crate) day: Option<Day>,
    /// Whether the date is one of birth or death, which no mode keeps.
    pub(crate) is_vital: bool,
}

/// A search in progress.
pub(crate) struct Search<'a, 't> {
    pub(crate) reading: &'a Reading<'t>,
    pub(crate) lexicon: &'a Lexicon,
    pub(crate) spans: Vec<Span>,
    taken: Vec<bool>,
    meter: &'a mut Meter,
}

impl<'a, 't> Search<'a, 't> {
    pub(crate) fn new(
        reading: &'a Reading<'t>,
        lexicon: &'a Lexicon,
        meter: &'a mut Meter,
    ) -> Self {
        Self {
            reading,
            lexicon,
            spans: Vec::new(),
            taken: vec![false; reading.len()],
            meter,
        }
    }

    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), Spent> {
        self.meter.spend(steps)
    }

    pub(crate) fn is_taken(&self, at: usize) -> bool {
        self.taken.get(at).copied().unwrap_or(false)
    }

    /// A word that is there and free.
    pub(crate) fn is_free(&self, at: usize) -> bool {
        at < self.reading.len() && !self.is_taken(at)
    }

    /// Takes the words from `from` up to, not including, `to`.
    pub(crate) fn take(&mut self, from: usize, to: usize, class: Class, basis: Basis) {
        self.take_day(from, to, class, basis, None, false);
    }

    pub(crate) fn take_day(
        &mut self,
        from: usize,
        to: usize,
        class: Class,
        basis: Basis,
        day: Option<Day>,
        is_vital: bool,
    ) {
        let (Some(first), Some(last)) = (
            self.reading.at(from),
            to.checked_sub(1).and_then(|last| self.reading.at(last)),
        ) else {
            return;
        };
        if first.start >= last.end {
            return;
        }
        self.spans.push(Span {
            start: first.start,
            end: last.end,
            class,
            basis,
            day,
            is_vital,
        });
        for taken in self.taken.get_mut(from..to).into_iter().flatten() {
            *taken = true;
        }
    }

    /// Takes a piece of bytes, and every word that it touches.
    pub(crate) fn take_bytes(&mut self, start: usize, end: usize, class: Class, basis: Basis) {
        if start >= end {
            return;
        }
        self.spans.push(Span {
            start,
            end,
            class,
            basis,
            day: None,
            is_vital: false,
        });
        let words = &self.reading.words;
        let first = words.partition_point(|word| word.end <= start);
        let last = words.partition_point(|word| word.start < end);
        for taken in self.taken.get_mut(first..last).into_iter().flatten() {
            *taken = true;
        }
    }

    /// Whether something that points at one person was found.
    pub(crate) fn found_person(&self) -> bool {
        self.spans.iter().any(|span| span.class.is_direct())
    }

    /// Whether clinical language makes this word no name: a drug, an organism, an abbreviation.
    pub(crate) fn is_clinical(&self, at: usize) -> bool {
        let reading = self.reading;
        reading.any(at, mark::DRUG | mark::ORGANISM)
            || (reading.shape(at) == Shape::Upper && reading.any(at, mark::ACRONYM))
    }

    /// Whether a word names a disease, sign or score together with what follows: "Wells score",
    /// "Rinne and Weber tests", "Chaddock plantar reflex".
    pub(crate) fn is_eponym(&self, at: usize) -> bool {
        const LOOK_AHEAD: usize = 6;
        /// Small words between an eponym and its head.
        const FILLERS_MAX: usize = 2;
        let reading = self.reading;
        let listed = reading.any(at, mark::EPONYM);
        let mut fillers = 0;
        for next in at + 1..=at + LOOK_AHEAD {
            if reading.any(next, mark::EPONYM_HEAD) {
                return true;
            }
            let joins = reading.is_dash(next)
                || reading.is_any_mark(next, "/&")
                || matches!(reading.fold(next), "and" | "or")
                || (listed && reading.is_mark(next, ','));
            if joins {
                continue;
            }
            match reading.kind(next) {
                Some(Kind::Letters)
                    if reading.any(next, mark::EPONYM) && reading.is_capital(next) => {}
                Some(Kind::Letters)
                    if reading.is_capital(next) && reading.is_dash(next.saturating_sub(1)) => {}
                Some(Kind::Letters)
                    if listed && fillers < FILLERS_MAX && !is_function_word(reading.fold(next)) =>
                {
                    fillers += 1;
                }
                _ => return false,
            }
        }
        false
    }

    /// Whether a word could belong to a name once something says that one stands here.
    pub(crate) fn can_be_name(&self, at: usize) -> bool {
        let reading = self.reading;
        self.is_free(at)
            && reading.is_letters(at)
            && reading.fold(at).len() >= 2
            && reading.is_capital(at)
            && !self.is_clinical(at)
            && !reading.any(at, mark::TITLE | mark::FACILITY_HEAD | mark::PERSON)
            && !(reading.shape(at) == Shape::Upper && reading.any(at, mark::CREDENTIAL))
            && super::calendar::month(reading.fold(at)).is_none_or(|_| reading.any(at, mark::GIVEN))
            && !super::calendar::is_weekday(reading.fold(at))
            && (reading.any(at, mark::GIVEN | mark::SURNAME)
                || !reading.any(at, mark::ORDINARY | mark::RELATION))
    }

    /// An initial: one capital letter. The end after its dot, if it has one.
    pub(crate) fn initial(&self, at: usize) -> Option<usize> {
        if !self.is_free(at) || self.reading.shape(at) != Shape::Initial {
            return None;
        }
        let dot = self.reading.is_mark(at + 1, '.') && self.reading.touches(at + 1);
        Some(if dot { at + 2 } else { at + 1 })
    }
}

/// Words that bind sentences together and are never part of a name or term.
pub(crate) fn is_function_word(fold: &str) -> bool {
    matches!(
        fold,
        "a" | "an"
            | "the"
            | "is"
            | "was"
            | "are"
            | "were"
            | "be"
            | "been"
            | "has"
            | "had"
            | "have"
            | "with"
            | "without"
            | "in"
            | "on"
            | "at"
            | "for"
            | "who"
            | "whom"
            | "whose"
            | "of"
            | "to"
            | "by"
            | "from"
            | "that"
            | "this"
            | "which"
            | "as"
            | "his"
            | "her"
            | "their"
            | "our"
            | "my"
            | "your"
            | "he"
            | "she"
            | "they"
            | "we"
            | "i"
            | "it"
            | "and"
            | "or"
            | "but"
            | "if"
            | "then"
            | "than"
            | "when"
            | "while"
            | "after"
            | "before"
            | "since"
            | "until"
            | "due"
            | "per"
            | "via"
            | "not"
            | "no"
            | "did"
            | "does"
            | "do"
            | "will"
            | "would"
            | "should"
            | "can"
            | "could"
            | "may"
            | "might"
            | "reports"
            | "reported"
            | "presented"
            | "presents"
            | "presenting"
            | "diagnosed"
            | "denies"
            | "seen"
            | "treated"
            | "admitted"
    )
}

/// Brings findings into order: where they overlap or touch within one name, they become one.
pub(crate) fn settle(text: &str, spans: &mut Vec<Span>) {
    spans.sort_by_key(|span| (span.start, span.basis, std::cmp::Reverse(span.end)));
    let mut settled: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans.drain(..) {
        let Some(last) = settled.last_mut() else {
            settled.push(span);
            continue;
        };
        let between = text.get(last.end..span.start).unwrap_or("");
        let is_one_name = span.class == last.class
            && matches!(span.class, Class::Name | Class::Place)
            && !between.is_empty()
            && between.len() <= 3
            && between.chars().all(|c| c == ' ' || c == '.');
        if span.start < last.end || is_one_name {
            if span.basis < last.basis {
                last.class = span.class;
                last.basis = span.basis;
            }
            // What the wider piece says about a date does not hold for part of it.
            if (span.start, span.end) != (last.start, last.end) && last.end < span.end {
                last.day = None;
            }
            last.is_vital |= span.is_vital;
            last.end = last.end.max(span.end);
        } else {
            settled.push(span);
        }
    }
    *spans = settled;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, end: usize, class: Class, basis: Basis) -> Span {
        Span {
            start,
            end,
            class,
            basis,
            day: None,
            is_vital: false,
        }
    }

    #[test]
    fn overlapping_findings_become_one_under_the_more_certain_class() {
        let mut spans = vec![
            span(5, 9, Class::Place, Basis::Lexicon),
            span(0, 7, Class::Name, Basis::Record),
            span(12, 14, Class::Id, Basis::Pattern),
        ];
        settle("abcdefghijklmnop", &mut spans);
        assert_eq!(
            spans,
            [
                span(0, 9, Class::Name, Basis::Record),
                span(12, 14, Class::Id, Basis::Pattern)
            ]
        );
    }

    #[test]
    fn parts_of_one_name_join_and_two_names_do_not() {
        let joined = |text: &str, second: usize| {
            let mut spans = vec![
                span(0, 3, Class::Name, Basis::Lexicon),
                span(second, text.len(), Class::Name, Basis::Lexicon),
            ];
            settle(text, &mut spans);
            spans.len()
        };
        assert_eq!(joined("Ann Roe", 4), 1);
        assert_eq!(joined("Ann, Roe", 5), 2);
        assert_eq!(joined("Ann\nRoe", 4), 2);
    }
}
