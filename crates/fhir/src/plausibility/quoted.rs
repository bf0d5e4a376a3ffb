//! Rule C-08: names, birth dates and record numbers in text must not contradict the patient of the run.
//!
//! Only what a text labels as such is compared; a name in passing is none of its business. What the text
//! says is never repeated. Start at [`Checking::quoted`].

use super::element::walk;
use super::prose;
use super::{Checking, Part, Patient, rule};

const BIRTH_LABELS: &[&str] = &[
    "dob",
    "d.o.b",
    "date of birth",
    "birth date",
    "birthdate",
    "born on",
];
const RECORD_LABELS: &[&str] = &["mrn", "medical record number", "record number"];
const NAME_LABELS: &[&str] = &["patient name", "name of patient", "patient's name"];
/// Elements that hold text for people.
const TEXTS: &[&str] = &[
    "text",
    "div",
    "note",
    "description",
    "contentString",
    "valueString",
    "patientInstruction",
    "comment",
    "conclusion",
    "title",
    "summary",
];
/// How much text behind a label belongs to it, in bytes.
const LABELLED_BYTES: usize = 48;

/// What a text contradicts.
type Contradiction = &'static str;

impl Checking<'_> {
    pub(super) fn quoted(&mut self) {
        let mut texts: Vec<(String, String)> = Vec::new();
        walk(self.resource, &mut |path, key, value| {
            if let (true, Some(text)) = (TEXTS.contains(&key), value.as_str()) {
                texts.push((path.to_owned(), text.to_owned()));
            }
        });
        let own = texts.len();
        texts.extend(
            self.context
                .quotes
                .iter()
                .flatten()
                .map(|quote| (String::new(), quote.clone())),
        );
        if self.context.quotes.is_none() {
            self.unchecked(&rule::C_08, Part::Quotes);
        }
        if texts.is_empty() {
            return;
        }
        let Some(patient) = self.patient_for(&rule::C_08) else {
            return;
        };
        for (at, (path, text)) in texts.iter().enumerate() {
            let parts: &[Part] = if at < own {
                &[Part::Patient]
            } else {
                &[Part::Patient, Part::Quotes]
            };
            let plain = prose::plain(text);
            for case in contradictions(&plain, patient) {
                self.fire(&rule::C_08, case, path, parts, &[]);
            }
        }
    }
}

fn contradictions(text: &str, patient: &Patient) -> Vec<Contradiction> {
    let mut found = Vec::new();
    if let Some(birth) = patient.birth {
        let is_other = labelled(text, BIRTH_LABELS).iter().any(|behind| {
            prose::dates(behind).first().is_some_and(|said| {
                let same_day = *said == birth.first_day;
                // A birth date of month or year precision contradicts only another month or year.
                let is_within = birth.precision < super::Precision::Day
                    && said.year() == birth.first_day.year()
                    && (birth.precision == super::Precision::Year
                        || said.month() == birth.first_day.month());
                !same_day && !is_within
            })
        });
        if is_other {
            found.push("birth-date");
        }
    }
    if !patient.identifiers.is_empty() {
        let known: Vec<String> = patient.identifiers.iter().map(|it| bare(it)).collect();
        let is_other = labelled(text, RECORD_LABELS).iter().any(|behind| {
            let number = behind
                .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | ')' | '<'))
                .map(|it| it.trim_matches(|c: char| !c.is_alphanumeric()))
                .find(|it| it.len() >= 4 && it.chars().any(|c| c.is_ascii_digit()));
            number.is_some_and(|number| !known.contains(&bare(number)))
        });
        if is_other {
            found.push("identifier");
        }
    }
    if !patient.names.is_empty() {
        let is_other = labelled(text, NAME_LABELS).iter().any(|behind| {
            // Capitalised words up to the first that is not.
            let name: Vec<String> = behind
                .split_whitespace()
                .map(|it| it.trim_matches(|c: char| !c.is_alphanumeric()))
                .skip_while(|it| it.is_empty() || *it == "is")
                .take_while(|it| it.chars().next().is_some_and(char::is_uppercase))
                .flat_map(prose::words)
                .collect();
            !name.is_empty()
                && !patient
                    .names
                    .iter()
                    .any(|known| name.iter().any(|word| known.contains(word)))
        });
        if is_other {
            found.push("name");
        }
    }
    found
}

/// The text behind each label, up to a bound.
fn labelled<'t>(text: &'t str, labels: &[&str]) -> Vec<&'t str> {
    let lower = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for label in labels {
        for (at, _) in lower.match_indices(label) {
            let before = lower.get(..at).and_then(|it| it.chars().next_back());
            let start = at + label.len();
            let after = lower.get(start..).and_then(|it| it.chars().next());
            if before.is_some_and(char::is_alphanumeric) || after.is_some_and(char::is_alphanumeric)
            {
                continue;
            }
            let mut end = text.len().min(start + LABELLED_BYTES);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            found.extend(text.get(start..end));
        }
    }
    found
}

/// An identifier without leading zeros and punctuation, in lower case.
fn bare(identifier: &str) -> String {
    let kept: String = identifier
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    kept.trim_start_matches('0').to_owned()
}
