//! What it was done to: the patient, the data or the query, the request, and the entry of the ledger with
//! everything that has no place of its own in an AuditEvent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::ResourceToken;
use chaperone_core::key_event::KeyEvent;
use chaperone_core::launch::LaunchEvent;
use chaperone_core::mode::ModeScope;
use chaperone_core::oversight::OversightEvent;
use chaperone_core::passkey::PasskeyEvent;
use chaperone_core::retention::RetentionEvent;
use chaperone_core::writeback::WritebackEvent;
use serde_json::{Value, json};

mod details;

use super::AuditCase;
use super::event::Telling;
use details::Details;

const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const BALP_ENTITY: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";

/// The entities.
pub(super) fn of(telling: &Telling<'_>) -> Vec<Value> {
    let mut entities = Vec::new();
    // Where a Consent decided, the pattern knows patient, consent and token and nothing else.
    let is_closed = telling.case == AuditCase::ConsentDenied;
    if let Some(correlation) = telling.correlation().filter(|_| !is_closed) {
        entities.push(json!({
            "what": { "identifier": { "value": correlation.to_string() } },
            "type": { "system": BALP_ENTITY, "code": "XrequestId" },
        }));
    }
    entities.extend(data(telling));
    if let Some(patient) = &telling.about.patient {
        let what = match &patient.reference {
            Some(reference) => json!({ "reference": reference }),
            None => identified("urn:chaperone:patient", &patient.token.to_string()),
        };
        entities.push(entity("1", "1", what));
    }
    entities.push(ledger(telling));
    entities
}

fn entity(kind: &str, role: &str, what: Value) -> Value {
    json!({
        "what": what,
        "type": { "system": ENTITY_TYPE, "code": kind },
        "role": { "system": OBJECT_ROLE, "code": role },
    })
}

fn identified(system: &str, value: &str) -> Value {
    json!({ "identifier": { "system": system, "value": value } })
}

/// What was read, searched, written, decided or changed.
fn data(telling: &Telling<'_>) -> Vec<Value> {
    match &telling.recorded.event {
        Event::ReadPermitted(ceiling) if telling.case == AuditCase::Query => {
            let query = telling
                .about
                .query
                .clone()
                .unwrap_or_else(|| format!("{}?", ceiling.resource));
            vec![json!({
                "type": { "system": ENTITY_TYPE, "code": "2" },
                "role": { "system": OBJECT_ROLE, "code": "24" },
                "description": format!(
                    "the search that `{}` declares; what stands in braces was filled in for the call and is not recorded",
                    ceiling.tool
                ),
                "query": STANDARD.encode(query),
            })]
        }
        Event::ReadPermitted(_) => telling
            .about
            .patient
            .iter()
            .map(|patient| {
                let what = match &patient.reference {
                    Some(reference) => json!({ "reference": reference }),
                    None => identified("urn:chaperone:patient", &patient.token.to_string()),
                };
                entity("2", "4", what)
            })
            .collect(),
        Event::CallRefused(refusal) if telling.case == AuditCase::ConsentDenied => {
            let name = refusal.consent.as_deref().unwrap_or_default();
            vec![json!({
                "what": identified("urn:chaperone:consent", name),
                "type": { "system": RESOURCE_TYPES, "code": "Consent" },
            })]
        }
        Event::GrantIssued(grant) => {
            vec![entity(
                "2",
                "20",
                identified("urn:chaperone:grant", &grant.id.to_string()),
            )]
        }
        Event::EnvelopeOpened(envelope) => {
            let what = identified("urn:chaperone:envelope", &envelope.id.to_string());
            vec![entity("2", "13", what)]
        }
        Event::AccountCreated { account, .. } => {
            vec![entity(
                "1",
                "11",
                identified("urn:chaperone:account", account.as_str()),
            )]
        }
        Event::TenantInitialised { bundle } | Event::BundleActivated { bundle } => {
            vec![entity(
                "2",
                "13",
                identified("urn:chaperone:bundle", &bundle.to_string()),
            )]
        }
        Event::ConformanceReported(report) => {
            let what = identified("urn:chaperone:conformance", &report.digest.to_string());
            vec![entity("2", "13", what)]
        }
        Event::ModeSwitched { scope, .. } => {
            vec![entity(
                "2",
                "13",
                identified("urn:chaperone:mode", &scope_name(scope)),
            )]
        }
        Event::TokenMinted { resource, .. } => {
            vec![entity(
                "2",
                "13",
                identified("urn:chaperone:token-of", resource.as_str()),
            )]
        }
        Event::TokensResolved { tokens, .. } => {
            let token = |token: &ResourceToken| {
                entity(
                    "2",
                    "13",
                    identified("urn:chaperone:token", &token.to_string()),
                )
            };
            tokens.iter().map(token).collect()
        }
        Event::DecisionRefused { writeback, .. } => {
            let what = identified("urn:chaperone:writeback", &writeback.to_string());
            vec![entity("2", "20", what)]
        }
        Event::TokenRevealed { token, patient, .. } => {
            let token = token.map(|it| it.to_string());
            let token = token.or_else(|| patient.map(|it| it.to_string()));
            let what = identified("urn:chaperone:token", &token.unwrap_or_default());
            vec![entity("2", "13", what)]
        }
        Event::BreakGlassStarted { patient, .. } | Event::BreakGlassEnded { patient, .. } => {
            let what = identified("urn:chaperone:patient", &patient.to_string());
            vec![entity("2", "13", what)]
        }
        Event::ConsentAnnounced { notified_by, .. } => {
            let what = identified("urn:chaperone:event-source", notified_by.as_str());
            vec![entity("2", "13", what)]
        }
        Event::SlotsMinted { .. } | Event::SlotsResolved { .. } => {
            vec![entity(
                "2",
                "13",
                identified("urn:chaperone:token-of", "slot"),
            )]
        }
        Event::EgressPassed { channel, .. } | Event::EgressRefused { channel, .. } => {
            let what = identified("urn:chaperone:egress", channel.as_str());
            vec![entity("2", "13", what)]
        }
        Event::AuditUsed(_) => {
            let ledger = identified("urn:chaperone:ledger", telling.system.tenant.as_str());
            vec![entity("2", "13", ledger)]
        }
        Event::Key(event) => {
            let key = match event {
                KeyEvent::Destroyed { key, .. } | KeyEvent::DestroyedAgain { key } => {
                    key.to_string()
                }
                _ => format!("{}/keys", telling.system.tenant),
            };
            vec![entity("2", "13", identified("urn:chaperone:key", &key))]
        }
        Event::Retention(event) => vec![entity("2", "13", of_retention(telling, event))],
        Event::Oversight(event) => vec![entity("2", "13", of_oversight(telling, event))],
        Event::Exception(_) | Event::DecisionSupport(_) => match &telling.recorded.stream {
            StreamId::Writeback(of) => vec![entity(
                "2",
                "20",
                identified("urn:chaperone:writeback", &of.to_string()),
            )],
            _ => Vec::new(),
        },
        Event::Cohort(_) => match &telling.recorded.stream {
            StreamId::Cohort(job) => vec![entity(
                "2",
                "13",
                identified("urn:chaperone:cohort-job", &job.to_string()),
            )],
            _ => Vec::new(),
        },
        Event::Undo(_) => match &telling.recorded.stream {
            StreamId::Undo(run) => vec![entity(
                "2",
                "13",
                identified("urn:chaperone:undo", &run.to_string()),
            )],
            _ => Vec::new(),
        },
        Event::Passkey(
            PasskeyEvent::Added { credential } | PasskeyEvent::Removed { credential },
        ) => {
            let what = identified("urn:chaperone:passkey", &credential.to_string());
            vec![entity("2", "13", what)]
        }
        Event::Cover(_) => match &telling.recorded.stream {
            StreamId::Account(away) => {
                let what = identified("urn:chaperone:account", away.as_str());
                vec![entity("2", "13", what)]
            }
            _ => Vec::new(),
        },
        Event::Launch(LaunchEvent::Entered {
            writeback: Some(writeback),
            ..
        }) => {
            let what = identified("urn:chaperone:writeback", &writeback.to_string());
            vec![entity("2", "20", what)]
        }
        Event::Claim(_) | Event::PatientMail(_) => match &telling.recorded.stream {
            StreamId::Writeback(id) => {
                let what = identified("urn:chaperone:writeback", &id.to_string());
                vec![entity("2", "20", what)]
            }
            _ => Vec::new(),
        },
        Event::Writeback(event) => of_write(telling, event),
        _ => Vec::new(),
    }
}

/// What was looked at or is overdue, what was demoted, or who pauses.
fn of_oversight(telling: &Telling<'_>, event: &OversightEvent) -> Value {
    match (event, &telling.recorded.stream) {
        (_, StreamId::Writeback(id)) => identified("urn:chaperone:writeback", &id.to_string()),
        (_, StreamId::Account(account)) => {
            identified("urn:chaperone:account", &account.to_string())
        }
        (
            OversightEvent::Demoted { combination, .. }
            | OversightEvent::Restored { combination, .. },
            _,
        ) => identified("urn:chaperone:combination", &combination.key().to_string()),
        _ => identified(
            "urn:chaperone:ledger",
            &format!("{}/oversight", telling.system.tenant),
        ),
    }
}

/// What went, what is held back, or whose it is.
fn of_retention(telling: &Telling<'_>, event: &RetentionEvent) -> Value {
    match (event, &telling.recorded.stream) {
        (RetentionEvent::Deleted(_), StreamId::Writeback(id)) => {
            identified("urn:chaperone:writeback", &id.to_string())
        }
        (RetentionEvent::Deleted(deletion), _) => {
            identified("urn:chaperone:artefact", &deletion.artefact)
        }
        (
            RetentionEvent::HoldPlaced { hold, .. } | RetentionEvent::HoldReleased { hold, .. },
            _,
        ) => identified("urn:chaperone:hold", &hold.to_string()),
        (RetentionEvent::ShredStarted { patient, .. }, _) => {
            identified("urn:chaperone:patient", &patient.to_string())
        }
        (RetentionEvent::ShredEnded(shredded) | RetentionEvent::ShredReplayed(shredded), _) => {
            identified("urn:chaperone:patient", &shredded.patient.to_string())
        }
    }
}

fn of_write(telling: &Telling<'_>, event: &WritebackEvent) -> Vec<Value> {
    let StreamId::Writeback(id) = &telling.recorded.stream else {
        return Vec::new();
    };
    let job = || identified("urn:chaperone:writeback", &id.to_string());
    if !matches!(telling.case, AuditCase::Create | AuditCase::Update) {
        return vec![entity("2", "20", job())];
    }
    // Where nothing was applied, or the place was erased, our own identifier says which write it was.
    let locations = match event {
        WritebackEvent::Delivered(_) | WritebackEvent::DraftPlaced(_) => {
            &telling.about.locations[..]
        }
        _ => &[],
    };
    if locations.is_empty() {
        return vec![entity("2", "4", job())];
    }
    let each = locations.iter();
    each.map(|location| entity("2", "4", json!({ "reference": location })))
        .collect()
}

fn scope_name(scope: &ModeScope) -> String {
    match scope {
        ModeScope::Tenant => "tenant".to_owned(),
        ModeScope::Agent(agent) => format!("agent/{agent}"),
        ModeScope::Intent(intent) => format!("intent/{intent}"),
        ModeScope::Resource(resource) => format!("resource/{resource}"),
        ModeScope::Ehr(connection) => format!("ehr/{connection}"),
    }
}

/// The entry itself: where its proof is found, and what else it says.
fn ledger(telling: &Telling<'_>) -> Value {
    let recorded = telling.recorded;
    let mut details = Details::default();
    details
        .add("seq", recorded.seq)
        .add("leafHash", telling.leaf)
        .add("kind", recorded.event.kind())
        .add("stream", &recorded.stream);
    if let Some(work) = telling.work() {
        details
            .add("intent", &work.intent)
            .add("envelope", work.envelope)
            .maybe("grant", work.grant)
            .maybe("bundle", work.bundle);
    }
    if let Some(read) = telling.read() {
        details::add_read(&mut details, read, &recorded.actor);
    }
    if let Some(write) = telling.write() {
        details::add_write(&mut details, write);
    }
    details::add_event(&mut details, &recorded.event);
    let what = identified(
        "urn:chaperone:ledger",
        &format!("{}/{}", recorded.tenant, recorded.seq),
    );
    let mut entity = entity("4", "13", what);
    if let Some(fields) = entity.as_object_mut() {
        fields.insert("detail".to_owned(), json!(details.entries()));
    }
    entity
}
