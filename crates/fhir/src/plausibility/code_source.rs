//! What K-02 and K-03 ask about codes, and the loaded terminology as an answer to it.
//!
//! Start at [`CodeSource`].

use jiff::civil::Date;

use crate::terminology::{Lookup, Terminology};

/// Whether a code can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeStatus {
    /// It exists and is in use.
    Active,
    /// It exists and is no longer to be used.
    Inactive,
    /// The code system is loaded whole, and has no such code.
    Unknown,
    /// No loaded system decides.
    NotDecided,
}

/// Code systems that decide whether a code exists.
pub trait CodeSource {
    /// Whether the code was in use on that day; the newest release decides where no day is known.
    fn status(&self, system: &str, code: &str, on: Option<Date>) -> CodeStatus;
    /// Whether a diagnosis code is complete enough for a claim; `None` if that is not known.
    fn is_billable(&self, system: &str, code: &str) -> Option<bool>;
    /// What the code is called; empty if that is not known.
    fn displays(&self, system: &str, code: &str) -> Vec<String>;
}

/// The loaded code systems. They know one release, so the day makes no difference.
impl CodeSource for Terminology {
    fn status(&self, system: &str, code: &str, _on: Option<Date>) -> CodeStatus {
        match self.lookup(system, None, code) {
            Lookup::Known { system, row, .. } => match system.concept(row) {
                Some(concept) if concept.inactive => CodeStatus::Inactive,
                _ => CodeStatus::Active,
            },
            Lookup::WellFormed => CodeStatus::Active,
            Lookup::Unknown { .. } => CodeStatus::Unknown,
            Lookup::NotASystem | Lookup::NotDecidable(_) => CodeStatus::NotDecided,
        }
    }

    fn is_billable(&self, system: &str, code: &str) -> Option<bool> {
        match self.lookup(system, None, code) {
            Lookup::Known { system, row, .. } => {
                let concept = system.concept(row)?;
                // Only a system that marks its headings, or has levels, tells them apart.
                let has_levels = system.concepts().iter().any(|it| it.is_abstract);
                has_levels.then_some(!concept.is_abstract)
            }
            _ => None,
        }
    }

    fn displays(&self, system: &str, code: &str) -> Vec<String> {
        match self.lookup(system, None, code) {
            Lookup::Known { system, row, .. } => system
                .concept(row)
                .into_iter()
                .flat_map(|it| it.display.iter().chain(&it.designations))
                .map(|it| it.to_string())
                .collect(),
            _ => Vec::new(),
        }
    }
}
