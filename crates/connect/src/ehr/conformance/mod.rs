//! What this endpoint is shown to do, by trying: the CapabilityStatement against what the tools need, then
//! drafts written, changed, read back and retired in a test tenant.
//!
//! Not here: what a report switches on (the engine's). The writes of this module are no write-backs: they
//! are made by a command that an operator runs, carry identifiers of their own system
//! ([`drafts::SYSTEM`]), concern a test patient, and are never deleted, only retired.
//!
//! Reading order: [`FhirEndpoint::conformance`], `claims` (the statement), `drafts` (what is written),
//! `round_trip` (what is tried with a draft), `patched` (the same by patches), `together` (transactions and
//! Provenance).
//!
//! | tried | and where it fails |
//! |---|---|
//! | a draft reads back as it was sent | the report fails |
//! | the same `If-None-Exist` twice makes one | creates are delivered as plain ones |
//! | an update with the current `If-Match` takes effect, one with an old one is refused | updates are delivered as plain ones |
//! | the same of a patch, where updates go as patches, and the rest stays as it was | updates are not sent as patches |
//! | a patch takes effect in a transaction, where it is to go with its Provenance | one goes after the other |
//! | the same `If-None-Exist` in a transaction makes one | nothing goes in transactions |
//! | a create and an update in one transaction both take effect | nothing goes in transactions |
//! | the same with an old version leaves nothing, for updates whole and as patches | fails where an operator declared it atomic |
//! | a Provenance is accepted | none is sent |
//! | each search of a tool is answered | the report fails |
//!
//! # Source
//! Requirement R027.

mod claims;
mod drafts;
mod patched;
mod round_trip;
mod together;

use chaperone_core::conformance::{
    CheckOutcome, Conformance, ConformanceCheck, ConformanceNeeds, ReadNeed,
};
use chaperone_core::evidence::Strategy;
use chaperone_core::ports::{DeliveryProfile, EhrReadFailed, EhrSearch};
use chaperone_core::resource::{Interaction, ResourceType};
use serde_json::Value;

use super::FhirEndpoint;
use super::read::{Turn, is_id};

pub use drafts::{DRAFT_TYPES, SYSTEM as DRAFT_SYSTEM, draft_of};

/// Most kinds of write and searches that are tried.
const NEEDS_MAX: usize = 200;

/// Whether drafts are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoundTrip {
    /// No: only what the server states is looked at.
    Off,
    /// Yes, about this test patient: a logical id.
    WithPatient(String),
    /// Yes, about a synthetic patient that is made when it is not there.
    WithOwnPatient,
}

/// What is common to all trials of one run.
struct Run<'a> {
    ehr: &'a FhirEndpoint,
    /// Names this run in the identifiers of its drafts.
    name: &'a str,
    checks: Vec<ConformanceCheck>,
    profile: DeliveryProfile,
}

impl Run<'_> {
    fn note(
        &mut self,
        check: &str,
        subject: impl Into<String>,
        outcome: CheckOutcome,
        say: impl Into<String>,
    ) {
        self.checks.push(ConformanceCheck {
            check: check.to_owned(),
            subject: subject.into(),
            outcome,
            say: say.into(),
        });
    }

    fn passed(&mut self, check: &str, subject: impl Into<String>, say: impl Into<String>) {
        self.note(check, subject, CheckOutcome::Passed, say);
    }

    fn failed(&mut self, check: &str, subject: impl Into<String>, say: impl Into<String>) {
        self.note(check, subject, CheckOutcome::Failed, say);
    }

    fn strategy(&self, resource: &ResourceType, interaction: Interaction) -> Option<Strategy> {
        self.profile
            .support
            .get(&DeliveryProfile::key(resource, interaction))
            .map(|entry| entry.strategy)
    }

    /// Whether updates of a type go as patches.
    fn patches(&self, resource: &ResourceType) -> bool {
        let key = DeliveryProfile::key(resource, Interaction::Update);
        self.profile
            .support
            .get(&key)
            .is_some_and(|entry| entry.patch)
    }

    /// Uses less of an interaction from now on.
    fn reduce(&mut self, resource: &ResourceType, interaction: Interaction) {
        let key = DeliveryProfile::key(resource, interaction);
        if let Some(entry) = self.profile.support.get_mut(&key) {
            entry.strategy = Strategy::PlainPost;
            entry.atomic = false;
        }
    }
}

impl FhirEndpoint {
    /// Checks what the tools need of this server. `run` names this run: letters, digits and `-`, used once.
    ///
    /// What does not depend on a patient's data is looked at always; with a [`RoundTrip`], drafts are
    /// written too. Never call it with one for a patient who is not a test patient.
    ///
    /// # Errors
    /// [`EhrReadFailed`] when the CapabilityStatement cannot be read: then nothing can be said at all.
    /// Everything else is a check of the result.
    pub async fn conformance(
        &self,
        needs: &ConformanceNeeds,
        round_trip: &RoundTrip,
        run: &str,
    ) -> Result<Conformance, EhrReadFailed> {
        let statement = self
            .get(Turn::Asked, "metadata", "CapabilityStatement")
            .await?;
        let claimed = chaperone_core::ports::Ehr::profile(self);
        let support = needs
            .writes
            .iter()
            .take(NEEDS_MAX)
            .filter_map(|need| {
                let key = DeliveryProfile::key(&need.resource, need.interaction);
                let entry = claimed.support.get(&key)?;
                (entry.strategy != Strategy::HumanEntry).then(|| (key, entry.clone()))
            })
            .collect();
        let mut run = Run {
            ehr: self,
            name: run,
            checks: Vec::new(),
            profile: DeliveryProfile {
                support,
                settle_ms: claimed.settle_ms,
            },
        };
        claims::check(&mut run, &statement, needs);
        let tried = match self.patient_for(&mut run, round_trip).await {
            Some(patient) => {
                for need in needs.reads.iter().take(NEEDS_MAX) {
                    self.try_search(&mut run, need, &patient.id).await;
                }
                run.drafts(needs, &statement, &patient.id).await;
                patient.retire(&mut run).await;
                true
            }
            None => false,
        };
        let text = |pointer: &str| statement.pointer(pointer).and_then(Value::as_str);
        let server = text("/software/name").map(|name| match text("/software/version") {
            Some(version) => format!("{name} {version}"),
            None => name.to_owned(),
        });
        Ok(Conformance {
            server,
            fhir_version: text("/fhirVersion").map(str::to_owned),
            round_trip: tried,
            checks: run.checks,
            profile: run.profile,
        })
    }

    /// The patient whom the drafts are about; none when nothing is to be written, or can be.
    async fn patient_for(&self, run: &mut Run<'_>, round_trip: &RoundTrip) -> Option<TestPatient> {
        const CHECK: &str = "test-patient";
        match round_trip {
            RoundTrip::Off => None,
            RoundTrip::WithPatient(id) => {
                let patient = ResourceType::new("Patient").ok()?;
                if !is_id(id) || self.read_one(Turn::Asked, &patient, id).await.is_err() {
                    let say = "the named test patient cannot be read; name another with --patient";
                    run.failed(CHECK, "Patient", say);
                    return None;
                }
                Some(TestPatient {
                    id: id.clone(),
                    own: false,
                })
            }
            RoundTrip::WithOwnPatient if run.profile.support.is_empty() => None,
            RoundTrip::WithOwnPatient => match self.own_patient().await {
                Ok(id) => {
                    run.passed(CHECK, "Patient", "a synthetic patient stands ready");
                    Some(TestPatient { id, own: true })
                }
                Err(why) => {
                    let say = format!(
                        "a synthetic patient cannot be made ({why}); name a test patient with --patient"
                    );
                    run.failed(CHECK, "Patient", say);
                    None
                }
            },
        }
    }

    /// Sends the search of a tool as the tool would.
    async fn try_search(&self, run: &mut Run<'_>, need: &ReadNeed, patient: &str) {
        let parameters = need
            .trial
            .iter()
            .map(|(name, value)| (name.clone(), value.replace("{patient}", patient)))
            .collect();
        let found = self
            .search_all(
                Turn::Asked,
                EhrSearch {
                    resource: need.resource.clone(),
                    parameters,
                    limit: 1,
                },
            )
            .await;
        let subject = need.tool.to_string();
        match found {
            Ok(_) => run.passed("search", subject, "the search is answered as asked"),
            Err(failed) => {
                let say =
                    format!("{failed}; take the tool out of the bundle, or its parameter away");
                run.failed("search", subject, say);
            }
        }
    }
}

/// The patient of one run.
struct TestPatient {
    id: String,
    /// Whether this module made it.
    own: bool,
}
