//! What an endpoint was shown to do: what the bundle's tools need of it, what was tried, what came of it.
//!
//! Not here: the trials (they are the adapter's), where reports rest and what they switch on (the
//! engine's). Start at [`ConformanceReport`].
//!
//! # Source
//! Requirements R025, R026 and R027: write-back to an endpoint stays off until a passing report exists for
//! that endpoint and the conformance packages in force.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::digest::{Digest, PayloadAddress};
use crate::ids::{ConnectionId, ToolName};
use crate::ports::{DeliveryProfile, Environment};
use crate::resource::{Interaction, ResourceType};

/// Version of the report's form.
pub const REPORT_FORMAT: u16 = 1;

/// What the tools of a bundle need of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConformanceNeeds {
    /// Searches, one for each read tool.
    pub reads: Vec<ReadNeed>,
    /// Writes, one for each type and interaction.
    pub writes: Vec<WriteNeed>,
}

/// One search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadNeed {
    /// The tool.
    pub tool: ToolName,
    /// The type searched.
    pub resource: ResourceType,
    /// Every parameter that the tool may send.
    pub names: Vec<String>,
    /// Parameters of a trial, in order, with `{patient}` where the patient's id belongs.
    pub trial: Vec<(String, String)>,
}

/// One kind of write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteNeed {
    /// The type.
    pub resource: ResourceType,
    /// Create or update.
    pub interaction: Interaction,
    /// The tools that do it.
    pub tools: Vec<ToolName>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// It is as needed.
    Passed,
    /// It does less than it claims or was declared to do; delivery uses less.
    Reduced,
    /// It was not tried.
    NotChecked,
    /// It is not as needed.
    Failed,
}

impl CheckOutcome {
    /// One word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckOutcome::Passed => "passed",
            CheckOutcome::Reduced => "reduced",
            CheckOutcome::NotChecked => "not checked",
            CheckOutcome::Failed => "FAILED",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConformanceCheck {
    /// What is checked, such as `if-match`.
    pub check: String,
    /// What it is about, such as `Task.create` or a tool.
    pub subject: String,
    /// How it ended.
    pub outcome: CheckOutcome,
    /// What was seen, and what to do where that is not enough. Names no patient.
    pub say: String,
}

/// What was found at an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conformance {
    /// The server's software, as it names itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server: Option<String>,
    /// Its FHIR version, as it states it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fhir_version: Option<String>,
    /// Whether drafts were written, changed and read back.
    pub round_trip: bool,
    /// Every check, in the order made.
    pub checks: Vec<ConformanceCheck>,
    /// What was shown of the writes that the tools need; an absent entry means human entry.
    pub profile: DeliveryProfile,
}

/// What a report says as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConformanceVerdict {
    /// Writes may go to this endpoint, as the profile says.
    Pass,
    /// They may not.
    Fail,
    /// Nothing was tried, so nothing was shown.
    Incomplete,
}

impl ConformanceVerdict {
    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            ConformanceVerdict::Pass => "pass",
            ConformanceVerdict::Fail => "fail",
            ConformanceVerdict::Incomplete => "incomplete",
        }
    }
}

impl Conformance {
    /// The verdict: one failed check fails it; writes that are offered and were not tried leave it open.
    pub fn verdict(&self) -> ConformanceVerdict {
        let failed = |check: &ConformanceCheck| check.outcome == CheckOutcome::Failed;
        if self.checks.iter().any(failed) {
            ConformanceVerdict::Fail
        } else if !self.round_trip && !self.profile.support.is_empty() {
            ConformanceVerdict::Incomplete
        } else {
            ConformanceVerdict::Pass
        }
    }
}

/// A report: what was found, where, with what, and until when it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConformanceReport {
    /// [`REPORT_FORMAT`].
    pub format: u16,
    /// The connection.
    pub connection: ConnectionId,
    /// What it is for.
    pub environment: Environment,
    /// Its FHIR base URL.
    pub endpoint: String,
    /// When the checks were made.
    pub at: Timestamp,
    /// Until when the report counts.
    pub expires: Timestamp,
    /// Name and version of the validator, `name/version`.
    pub validator: String,
    /// The conformance packages in force, `name#version`, in the bundle's order.
    pub packages: Vec<String>,
    /// The governance bundle whose tools were looked at.
    pub bundle: Digest,
    /// The verdict.
    pub verdict: ConformanceVerdict,
    /// What was found.
    pub found: Conformance,
}

/// A report as the ledger names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConformanceReported {
    /// The connection.
    pub connection: ConnectionId,
    /// Digest of the endpoint's base URL, bound to the tenant.
    pub endpoint: Digest,
    /// The conformance packages, `name#version`.
    pub packages: Vec<String>,
    /// The validator, `name/version`.
    pub validator: String,
    /// The governance bundle.
    pub bundle: Digest,
    /// The verdict.
    pub verdict: ConformanceVerdict,
    /// Until when it counts.
    pub expires: Timestamp,
    /// Digest of the report's bytes, as written to the evidence file.
    pub digest: Digest,
    /// The report, in the vault.
    pub report: PayloadAddress,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Strategy;
    use crate::ports::InteractionSupport;

    fn found(round_trip: bool, outcomes: &[CheckOutcome]) -> Conformance {
        let support = InteractionSupport {
            provenance: true,
            ..InteractionSupport::by(Strategy::Conditional)
        };
        Conformance {
            round_trip,
            checks: outcomes
                .iter()
                .map(|outcome| ConformanceCheck {
                    check: "if-match".to_owned(),
                    subject: "Task.update".to_owned(),
                    outcome: *outcome,
                    say: String::new(),
                })
                .collect(),
            profile: DeliveryProfile {
                support: [("Task.update".to_owned(), support)].into(),
                settle_ms: 0,
            },
            ..Conformance::default()
        }
    }

    #[test]
    fn one_failure_fails_and_nothing_tried_shows_nothing() {
        use CheckOutcome::{Failed, NotChecked, Passed, Reduced};
        let cases = [
            (found(true, &[Passed, Reduced]), ConformanceVerdict::Pass),
            (found(true, &[Passed, NotChecked]), ConformanceVerdict::Pass),
            (found(true, &[Passed, Failed]), ConformanceVerdict::Fail),
            (found(false, &[Passed]), ConformanceVerdict::Incomplete),
            (found(false, &[Failed]), ConformanceVerdict::Fail),
            (Conformance::default(), ConformanceVerdict::Pass),
        ];
        for (found, expected) in cases {
            assert_eq!(found.verdict(), expected, "{found:?}");
        }
    }
}
