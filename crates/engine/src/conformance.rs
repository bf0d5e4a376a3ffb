//! Whether writes may go to the EHR: the newest conformance report of the connection, and what it was
//! made for.
//!
//! Not here: the checks themselves (`connect::ehr::conformance`). Nothing is sent to an endpoint without a
//! passing report for that endpoint and the conformance packages in force; what was approved waits in the
//! queue meanwhile, until its own end. What people enter themselves needs no report.
//!
//! Start at [`Engine::write_back`]; [`needs_of`] says what a bundle's tools need.
//!
//! # Source
//! Requirements R025 to R027; the escalators of the write-back matrix: conformance report missing, no EHR
//! write, queue.

use std::sync::{Arc, Mutex, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::bundle::{
    InputDeclaration, InputType, ReadAction, ToolAction, ToolDeclaration,
};
use chaperone_core::change::Destination;
use chaperone_core::conformance::{
    Conformance, ConformanceNeeds, ConformanceReport, ConformanceReported, ConformanceVerdict,
    REPORT_FORMAT, ReadNeed, WriteNeed,
};
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::ConnectionId;
use chaperone_core::ports::{
    CommitFailed, DeliveryProfile, Expected, KeyVaultFailed, PayloadClass, Record, RecordChange,
    RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::resource::ResourceType;
use chaperone_core::writeback::Ready;
use chaperone_policy::Bundle;
use serde::{Deserialize, Serialize};

use crate::context::Engine;
use crate::merge::instant;
use crate::read::plain;
use chaperone_core::search::escape_search_value;

/// Collection of the newest report of each connection.
const CONFORMANCE: &str = "conformance";
/// How long a report counts unless it is said otherwise, in days.
pub const VALID_DAYS: i64 = 90;
/// The longest that a report may count, in days.
pub const VALID_DAYS_MAX: i64 = 365;
/// How long what was read is used for proposals, in milliseconds. Delivery reads it each time.
const NOTICED_MS_MAX: i64 = 1_000;

/// What the record of a connection holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Newest {
    endpoint: String,
    packages: Vec<String>,
    verdict: ConformanceVerdict,
    at: Timestamp,
    expires: Timestamp,
    profile: DeliveryProfile,
    report: PayloadAddress,
}

/// Why nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteBackOff {
    /// There is no report.
    NoReport,
    /// The newest report is of another endpoint.
    OtherEndpoint,
    /// It was made with other conformance packages.
    OtherPackages,
    /// It is too old.
    Expired,
    /// It did not pass.
    Failed,
    /// Nothing was tried.
    Incomplete,
}

impl WriteBackOff {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            WriteBackOff::NoReport => "no-conformance-report",
            WriteBackOff::OtherEndpoint => "conformance-other-endpoint",
            WriteBackOff::OtherPackages => "conformance-other-packages",
            WriteBackOff::Expired => "conformance-expired",
            WriteBackOff::Failed => "conformance-failed",
            WriteBackOff::Incomplete => "conformance-incomplete",
        }
    }

    /// Why, and what to do.
    pub fn say(self, connection: &ConnectionId) -> String {
        let why = match self {
            WriteBackOff::NoReport => "no conformance report exists for this EHR",
            WriteBackOff::OtherEndpoint => "the conformance report is of another endpoint",
            WriteBackOff::OtherPackages => {
                "the conformance report was made with other conformance packages"
            }
            WriteBackOff::Expired => "the conformance report is too old",
            WriteBackOff::Failed => "the newest conformance report did not pass",
            WriteBackOff::Incomplete => {
                "the newest conformance report read only, and so shows no write"
            }
        };
        format!(
            "Nothing is sent to the EHR: {why}. Approved orders wait. Run `chaperone conformance run --ehr {connection}`."
        )
    }
}

/// Whether writes may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteBack {
    /// They may, in these ways.
    On {
        /// What was shown.
        profile: DeliveryProfile,
        /// Until when the report counts.
        until: Timestamp,
    },
    /// They may not.
    Off(WriteBackOff),
}

/// Where and with what a report must have been made.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The endpoint's base URL.
    pub endpoint: &'a str,
    /// The conformance packages in force.
    pub packages: &'a [String],
    /// Now.
    pub now: Timestamp,
}

/// Why a report was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordReportFailed {
    /// The report is of another connection.
    #[error("the report is of another connection than the one that is configured")]
    OtherConnection,
    /// It cannot be written as JSON.
    #[error("the report cannot be stored")]
    Form(#[from] serde_json::Error),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The ledger cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// What was read a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Noticed(Mutex<Option<(Timestamp, Arc<WriteBack>)>>);

/// The record that holds the newest report of a connection.
pub fn record_key(connection: &ConnectionId) -> RecordKey {
    RecordKey::new(CONFORMANCE, connection)
}

/// What a stored record says today. A record that cannot be read counts as none.
pub fn judge(record: Option<&serde_json::Value>, standing: &Standing<'_>) -> WriteBack {
    let newest = record.and_then(|value| serde_json::from_value::<Newest>(value.clone()).ok());
    let Some(newest) = newest else {
        return WriteBack::Off(WriteBackOff::NoReport);
    };
    let off = if newest.endpoint.trim_end_matches('/') != standing.endpoint.trim_end_matches('/') {
        WriteBackOff::OtherEndpoint
    } else if newest.verdict == ConformanceVerdict::Fail {
        WriteBackOff::Failed
    } else if newest.verdict == ConformanceVerdict::Incomplete {
        WriteBackOff::Incomplete
    } else if newest.packages != standing.packages {
        WriteBackOff::OtherPackages
    } else if newest.expires <= standing.now {
        WriteBackOff::Expired
    } else {
        return WriteBack::On {
            profile: newest.profile,
            until: newest.expires,
        };
    };
    WriteBack::Off(off)
}

/// The conformance packages that a bundle puts in force, `name#version`, R4 itself first.
pub fn package_set(bundle: &Bundle) -> Vec<String> {
    let core = chaperone_fhir::Definitions::r4().source();
    let own = &bundle.manifest().packages;
    std::iter::once((&core.name, &core.version))
        .chain(own.iter().map(|package| (&package.name, &package.version)))
        .map(|(name, version)| format!("{name}#{version}"))
        .collect()
}

/// The report as it is written to files and sealed: the bytes that its digest is of.
///
/// # Errors
/// When it cannot be serialised, which no report of this version does.
pub fn report_bytes(report: &ConformanceReport) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(report)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What the tools of a bundle need of an EHR. `now` stands where a trial needs a moment.
pub fn needs_of(bundle: &Bundle, now: Timestamp) -> ConformanceNeeds {
    let mut needs = ConformanceNeeds::default();
    for tool in bundle.tools() {
        match tool.action() {
            Some(ToolAction::Read(read)) => needs.reads.extend(read_need(tool, read, now)),
            // What is staged stays in Chaperone.
            Some(ToolAction::Write(write)) if write.destination == Destination::Ehr => {
                let known = needs.writes.iter_mut().find(|need| {
                    need.resource == write.resource && need.interaction == write.interaction
                });
                match known {
                    Some(need) => need.tools.push(tool.name.clone()),
                    None => needs.writes.push(WriteNeed {
                        resource: write.resource.clone(),
                        interaction: write.interaction,
                        tools: vec![tool.name.clone()],
                    }),
                }
            }
            // What goes together is of tools that are looked at by themselves.
            Some(
                ToolAction::Write(_)
                | ToolAction::Together(_)
                | ToolAction::Status
                | ToolAction::Templates,
            )
            | None => {}
        }
    }
    needs.writes.sort_by(|a, b| {
        (&a.resource, a.interaction.as_str()).cmp(&(&b.resource, b.interaction.as_str()))
    });
    needs
}

fn read_need(tool: &ToolDeclaration, read: &ReadAction, now: Timestamp) -> Option<ReadNeed> {
    let (resource, query) = read.query.split_once('?')?;
    let resource = ResourceType::new(resource).ok()?;
    let (mut names, mut trial) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, template) = pair.split_once('=')?;
        names.push(name.to_owned());
        if let Some(value) = trial_value(tool, name, template, now) {
            trial.push((name.to_owned(), value));
        }
    }
    Some(ReadNeed {
        tool: tool.name.clone(),
        resource,
        names,
        trial,
    })
}

/// A value as a call could send it; `None` leaves the parameter out, as a call without that input does.
fn trial_value(
    tool: &ToolDeclaration,
    parameter: &str,
    template: &str,
    now: Timestamp,
) -> Option<String> {
    let Some((before, rest)) = template.split_once('{') else {
        return Some(template.to_owned());
    };
    let (name, after) = rest.split_once('}')?;
    let value = match name {
        "patient" if parameter == "_id" || before.ends_with('/') => "{patient}".to_owned(),
        "patient" => "Patient/{patient}".to_owned(),
        "now" => instant(now),
        "encounter" => return None,
        input => escape_search_value(&sample(tool.inputs.get(input)?, now)?),
    };
    Some(format!("{before}{value}{after}"))
}

fn sample(input: &InputDeclaration, now: Timestamp) -> Option<String> {
    if let Some(default) = &input.default {
        return Some(plain(default));
    }
    match input.input_type {
        InputType::Code => input.one_of.first().cloned(),
        InputType::Integer | InputType::Number => Some(plain(&serde_json::json!(input.minimum?))),
        InputType::Boolean => Some("true".to_owned()),
        InputType::Date => Some(now.strftime("%Y-%m-%d").to_string()),
        InputType::DateTime => Some(instant(now)),
        // Free text never enters a query, and a resource to point at is not known here.
        InputType::String | InputType::Token => None,
    }
}

impl Engine {
    /// What was found, as a report of this connection with what is in force here. It counts for
    /// `valid_days`, at most [`VALID_DAYS_MAX`].
    pub fn conformance_report(&self, found: Conformance, valid_days: i64) -> ConformanceReport {
        let at = self.now();
        let days = valid_days.clamp(1, VALID_DAYS_MAX);
        let expires = at
            .checked_add(jiff::SignedDuration::from_hours(days.saturating_mul(24)))
            .unwrap_or(Timestamp::MAX);
        ConformanceReport {
            format: REPORT_FORMAT,
            connection: self.ehr.connection().clone(),
            environment: self.ehr.environment(),
            endpoint: self.ehr.endpoint().to_owned(),
            at,
            expires,
            validator: self.validator_name(),
            packages: self.package_set(),
            bundle: *self.bundle.digest(),
            verdict: found.verdict(),
            found,
        }
    }

    /// Records a report: the bytes in the vault, the event, and what it switches on. Returns the digest of
    /// the bytes, [`report_bytes`].
    ///
    /// # Errors
    /// [`RecordReportFailed`]; then everything is as it was.
    pub async fn record_conformance(
        &self,
        report: &ConformanceReport,
    ) -> Result<Digest, RecordReportFailed> {
        let connection = self.ehr.connection();
        if report.connection != *connection {
            return Err(RecordReportFailed::OtherConnection);
        }
        let bytes = report_bytes(report)?;
        let digest = Digest::of_bytes(&bytes);
        let sealed = self.seal(PayloadClass::Operational, None, &bytes).await?;
        let newest = Newest {
            endpoint: report.endpoint.clone(),
            packages: report.packages.clone(),
            verdict: report.verdict,
            at: report.at,
            expires: report.expires,
            profile: report.found.profile.clone(),
            report: sealed.address,
        };
        let event = Event::ConformanceReported(Box::new(ConformanceReported {
            connection: connection.clone(),
            endpoint: self.tenant_digest(&[report.endpoint.as_bytes()]),
            packages: report.packages.clone(),
            validator: report.validator.clone(),
            bundle: report.bundle,
            verdict: report.verdict,
            expires: report.expires,
            digest,
            report: sealed.address,
        }));
        let mut commit = self.commit_as(Actor::System {
            part: SystemPart::Setup,
        });
        commit.payloads.push(sealed);
        commit.records.push(RecordChange::Put(Record::new(
            CONFORMANCE,
            connection,
            serde_json::to_value(newest)?,
        )));
        commit.append(StreamId::Tenant, Expected::Any, event);
        self.store.commit(commit).await?;
        self.conformance.forget();
        self.announce_change();
        Ok(digest)
    }

    /// Whether writes may be sent now, as the store says now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn write_back(&self) -> Result<WriteBack, StoreFailed> {
        let now = self.now();
        let key = record_key(self.ehr.connection());
        let record = self
            .store
            .record(&self.config.tenant, &key, now)
            .await?
            .map(|record| record.value);
        let packages = self.package_set();
        let standing = Standing {
            endpoint: self.ehr.endpoint(),
            packages: &packages,
            now,
        };
        Ok(judge(record.as_ref(), &standing))
    }

    /// What a report shows of this endpoint, if it covers the strategy the order was made for.
    /// What people enter themselves needs none.
    pub(crate) async fn may_send(
        &self,
        ready: &Ready,
    ) -> Result<Option<DeliveryProfile>, StoreFailed> {
        let ruled = ready.ruled();
        let strategy = ruled.order.strategy;
        if strategy == Strategy::HumanEntry {
            return Ok(Some(DeliveryProfile::default()));
        }
        Ok(match self.write_back().await? {
            WriteBack::On { profile, .. } => {
                let is_covered = ruled.changes().all(|change| {
                    let shown = profile.of(&change.resource, change.interaction);
                    covers(shown.strategy, strategy) && (shown.atomic || !ruled.is_together())
                });
                is_covered.then_some(profile)
            }
            WriteBack::Off(why) => {
                tracing::warn!(
                    writeback = %ruled.proposal.id,
                    reason = why.code(),
                    "an approved order waits: write-back is off"
                );
                None
            }
        })
    }

    /// How orders are made: as the connection says, and no better than a report has shown.
    pub(crate) async fn delivery_profile(&self) -> Result<DeliveryProfile, StoreFailed> {
        let now = self.now();
        let write_back = match self.conformance.fresh(now) {
            Some(noticed) => noticed,
            None => {
                let read = Arc::new(self.write_back().await?);
                self.conformance.keep(now, &read);
                read
            }
        };
        let claimed = self.ehr.profile();
        Ok(match write_back.as_ref() {
            WriteBack::On { profile, .. } => claimed.met_with(profile),
            WriteBack::Off(_) => claimed,
        })
    }
}

/// Whether what was shown of an endpoint lets an order be sent in its way.
fn covers(shown: Strategy, wanted: Strategy) -> bool {
    match wanted {
        Strategy::VendorOp | Strategy::EhrStaged => shown == wanted,
        // A draft that is to stay one goes plainly where the rest is signed.
        Strategy::PlainPost => !matches!(shown, Strategy::VendorOp | Strategy::HumanEntry),
        Strategy::Conditional | Strategy::HumanEntry => shown.proof() >= wanted.proof(),
    }
}

impl Noticed {
    fn fresh(&self, now: Timestamp) -> Option<Arc<WriteBack>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, value) = held.as_ref()?;
        let age_ms = now.duration_since(*at).as_millis();
        (0..i128::from(NOTICED_MS_MAX))
            .contains(&age_ms)
            .then(|| Arc::clone(value))
    }

    fn keep(&self, at: Timestamp, value: &Arc<WriteBack>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, Arc::clone(value)));
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: &str = "http://ehr.test/fhir";

    fn newest() -> Newest {
        Newest {
            endpoint: format!("{ENDPOINT}/"),
            packages: vec!["hl7.fhir.r4.core#4.0.1".to_owned()],
            verdict: ConformanceVerdict::Pass,
            at: Timestamp::UNIX_EPOCH,
            expires: "2026-12-01T00:00:00Z".parse().unwrap(),
            profile: DeliveryProfile::default(),
            report: PayloadAddress::from_digest(Digest::of_bytes(b"report")),
        }
    }

    fn off(newest: Option<&Newest>) -> Option<WriteBackOff> {
        let value = newest.map(|newest| serde_json::to_value(newest).unwrap());
        let standing = Standing {
            endpoint: ENDPOINT,
            packages: &["hl7.fhir.r4.core#4.0.1".to_owned()],
            now: "2026-09-01T00:00:00Z".parse().unwrap(),
        };
        match judge(value.as_ref(), &standing) {
            WriteBack::On { .. } => None,
            WriteBack::Off(why) => Some(why),
        }
    }

    #[test]
    fn only_a_passing_report_of_this_endpoint_and_these_packages_counts() {
        assert_eq!(off(None), Some(WriteBackOff::NoReport));
        assert_eq!(off(Some(&newest())), None);
        let mut other = newest();
        other.endpoint = "http://other.test/fhir".to_owned();
        assert_eq!(off(Some(&other)), Some(WriteBackOff::OtherEndpoint));
        let mut other = newest();
        other.packages.push("hl7.fhir.us.core#8.0.0".to_owned());
        assert_eq!(off(Some(&other)), Some(WriteBackOff::OtherPackages));
        let mut other = newest();
        other.expires = "2026-08-31T23:59:59Z".parse().unwrap();
        assert_eq!(off(Some(&other)), Some(WriteBackOff::Expired));
        let mut other = newest();
        other.verdict = ConformanceVerdict::Fail;
        assert_eq!(off(Some(&other)), Some(WriteBackOff::Failed));
        other.verdict = ConformanceVerdict::Incomplete;
        assert_eq!(off(Some(&other)), Some(WriteBackOff::Incomplete));
    }

    #[test]
    fn the_tools_of_the_default_bundle_need_these_writes_and_searches() {
        let bundle = Bundle::load(&chaperone_policy::embedded::files()).unwrap();
        let needs = needs_of(&bundle, "2026-09-01T09:00:00Z".parse().unwrap());
        let writes: Vec<String> = needs
            .writes
            .iter()
            .map(|need| DeliveryProfile::key(&need.resource, need.interaction))
            .collect();
        assert_eq!(
            writes,
            [
                "Appointment.create",
                "Appointment.update",
                "DocumentReference.create",
                "MedicationRequest.create",
                "Observation.create",
                "Patient.update",
                "QuestionnaireResponse.create",
                "ServiceRequest.create",
                "Task.create",
            ]
        );
        let vitals = needs
            .reads
            .iter()
            .find(|need| need.tool.as_str() == "list_recent_vitals")
            .unwrap();
        assert_eq!(vitals.names, ["patient", "category", "_sort", "_count"]);
        assert_eq!(
            vitals.trial.first().unwrap(),
            &("patient".to_owned(), "Patient/{patient}".to_owned())
        );
        for need in &needs.reads {
            for (name, value) in &need.trial {
                let filled = value.replace("{patient}", "p");
                assert!(!filled.contains('{'), "{} {name}={value}", need.tool);
            }
        }
    }
}
