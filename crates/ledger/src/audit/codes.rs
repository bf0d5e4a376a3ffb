//! The table that says which codes an event is told by: `rules/audit-events.toml` of the bundle, as data.
//!
//! Not here: which row an event takes ([`super::AuditCase`]), and what rows may not change: the rules that
//! every AuditEvent must keep are StructureDefinitions in `profiles/` of the bundle.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::AuditCase;

/// A code of a named system.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeRow {
    /// The system, by its short name in the table.
    pub system: String,
    /// The code.
    pub code: String,
}

/// One row: how one kind of event is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseRow {
    /// Which kind.
    pub case: String,
    /// `AuditEvent.type`.
    #[serde(rename = "type")]
    pub event_type: CodeRow,
    /// `AuditEvent.subtype`.
    #[serde(default)]
    pub subtypes: Vec<CodeRow>,
    /// `AuditEvent.action`: C, R, U, D or E.
    pub action: String,
    /// `AuditEvent.outcome` unless the event says otherwise: 0, 4, 8 or 12.
    pub outcome: String,
    /// Type of the participant that asks.
    pub client: CodeRow,
    /// Type of the EHR as a participant; absent where it takes no part.
    #[serde(default)]
    pub server: Option<CodeRow>,
    /// Type of the human behind it.
    pub user: CodeRow,
    /// Canonical URLs of the profiles it conforms to, when there is no patient.
    pub profiles: Vec<String>,
    /// The same, when there is a patient.
    #[serde(default)]
    pub patient_profiles: Vec<String>,
    /// Canonical URLs that are claimed in addition when it succeeded for a patient.
    #[serde(default)]
    pub success_profiles: Vec<String>,
}

/// The whole table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditCodes {
    /// Who answers for it.
    pub owner: String,
    /// Where it comes from.
    pub source: String,
    /// Day of the last review, `YYYY-MM-DD`.
    pub reviewed: String,
    /// Day by which it must be reviewed again, `YYYY-MM-DD`.
    pub review_by: String,
    /// Code systems by short name.
    pub systems: BTreeMap<String, String>,
    /// The rows.
    pub cases: Vec<CaseRow>,
}

/// Why a table cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodesInvalid {
    /// A kind has no row, or more than one.
    #[error("`{0}` must have exactly one row in `cases`")]
    Rows(&'static str),
    /// A row is for no kind.
    #[error("`{0}` is no kind of event; see docs/audit.md")]
    UnknownCase(String),
    /// A row names a system that is not listed.
    #[error("`{case}` names the code system `{system}`, which `systems` does not list")]
    UnknownSystem {
        /// The row.
        case: String,
        /// The system.
        system: String,
    },
    /// An action or outcome that FHIR does not have.
    #[error("`{case}`: `{value}` is no {what}")]
    NotInFhir {
        /// The row.
        case: String,
        /// What is wrong.
        value: String,
        /// `action` or `outcome`.
        what: &'static str,
    },
}

impl AuditCodes {
    /// Checks the table: one row for each kind, and no code of an unlisted system.
    ///
    /// # Errors
    /// [`CodesInvalid`] names the row.
    pub fn check(&self) -> Result<(), CodesInvalid> {
        for case in AuditCase::ALL {
            let rows = self.cases.iter().filter(|row| row.case == case.as_str());
            if rows.count() != 1 {
                return Err(CodesInvalid::Rows(case.as_str()));
            }
        }
        for row in &self.cases {
            if !AuditCase::ALL.iter().any(|case| case.as_str() == row.case) {
                return Err(CodesInvalid::UnknownCase(row.case.clone()));
            }
            let named = [
                Some(&row.event_type),
                Some(&row.client),
                row.server.as_ref(),
                Some(&row.user),
            ];
            for code in named.into_iter().flatten().chain(&row.subtypes) {
                if !self.systems.contains_key(&code.system) {
                    return Err(CodesInvalid::UnknownSystem {
                        case: row.case.clone(),
                        system: code.system.clone(),
                    });
                }
            }
            let wrong = |what, value: &str| CodesInvalid::NotInFhir {
                case: row.case.clone(),
                value: value.to_owned(),
                what,
            };
            if !["C", "R", "U", "D", "E"].contains(&row.action.as_str()) {
                return Err(wrong("action", &row.action));
            }
            if !["0", "4", "8", "12"].contains(&row.outcome.as_str()) {
                return Err(wrong("outcome", &row.outcome));
            }
        }
        Ok(())
    }

    /// The row of a kind.
    pub(super) fn row(&self, case: AuditCase) -> Option<&CaseRow> {
        self.cases.iter().find(|row| row.case == case.as_str())
    }

    /// A code as a FHIR Coding.
    pub(super) fn coding(&self, code: &CodeRow) -> serde_json::Value {
        let system = self.systems.get(&code.system).map_or("", String::as_str);
        serde_json::json!({ "system": system, "code": code.code })
    }
}
