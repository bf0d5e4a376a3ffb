//! Every kind of event as an AuditEvent, checked by our own validator against R4 and the rules in
//! `governance/profiles`; and AuditEvents that break one rule each, which must not pass.

use std::sync::{Arc, LazyLock};

use chaperone_core::cohort::CohortEvent;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, LEAF_FORMAT, Recorded, StreamId};
use chaperone_core::ids::{
    AccountName, AgentId, CohortJobId, ConnectionId, EnvelopeId, PatientToken, PersonId, UndoId,
    WritebackId,
};
use chaperone_core::launch::LaunchEvent;
use chaperone_core::oversight::OversightEvent;
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::resource::Interaction;
use chaperone_core::retention::RetentionEvent;
use chaperone_core::undo::UndoEvent;
use chaperone_core::writeback::WritebackEvent;
use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::{Request, Validator, ValidatorOptions};
use chaperone_ledger::audit::AuditCase;
use chaperone_ledger::audit::access::{Book, Wanted, wanted};
use chaperone_ledger::audit::codes::AuditCodes;
use chaperone_ledger::audit::event::{About, AuditPatient, AuditSystem, audit_event, patient_of};
use serde_json::{Value, json};

use crate::bench::tenant;

/// R4 and the profiles of the bundle.
pub(crate) static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    for (path, text) in chaperone_policy::embedded::files() {
        if path.starts_with("profiles/") && path.ends_with(".json") {
            catalogue.add_resource(&path, text.as_bytes()).unwrap();
        }
    }
    Validator::new(Arc::new(catalogue), ValidatorOptions::default())
});

/// Errors, and whatever says that a profile of ours was not used.
pub(crate) fn wrong_with(event: &Value) -> Vec<String> {
    let text = event.to_string();
    let outcome = VALIDATOR.validate(text.as_bytes(), &Request::default());
    outcome
        .findings
        .iter()
        .filter(|finding| {
            finding.severity.is_error() || finding.message.contains("urn:chaperone:profile")
        })
        .map(|finding| format!("{} {}: {}", finding.id, finding.expression, finding.message))
        .collect()
}

fn codes() -> AuditCodes {
    let files = chaperone_policy::embedded::files();
    let codes: AuditCodes = toml::from_str(&files["rules/audit-events.toml"]).unwrap();
    codes.check().unwrap();
    codes
}

fn system() -> AuditSystem {
    AuditSystem {
        tenant: tenant(),
        site: "node-1".to_owned(),
        version: "0.1.0".to_owned(),
        connection: ConnectionId::new("sandbox").unwrap(),
        endpoint: "https://ehr.test/fhir".to_owned(),
        is_test: true,
    }
}

/// One of every kind, as the frozen stored forms have them.
fn kinds() -> Vec<Event> {
    let frozen = include_str!("../../../core/tests/snapshots/events.txt");
    let lines = frozen.lines().filter(|line| line.starts_with("  {"));
    lines
        .map(|line| serde_json::from_str(line.trim()).unwrap())
        .collect()
}

fn human() -> Actor {
    Actor::Human {
        account: AccountName::new("ada").unwrap(),
        person: PersonId::from_random([1; 16]),
    }
}

fn recorded(seq: u64, event: Event) -> Recorded {
    use WritebackEvent as W;
    let envelope = EnvelopeId::from_random([2; 16]);
    let agent = || Actor::Agent {
        agent: AgentId::new("prescribing-desk").unwrap(),
        envelope: Some(envelope),
    };
    let of_system = |part| Actor::System { part };
    let (stream, actor) = match &event {
        Event::Writeback(event) => {
            let actor = match event {
                W::Proposed(_) => agent(),
                W::Approved { .. }
                | W::Requeued { .. }
                | W::Abandoned { .. }
                | W::Released { .. } => human(),
                W::CanaryMissed(_) | W::CanaryCaught { .. } => human(),
                W::CanarySeeded(_) | W::CanaryWithdrawn(_) => of_system(SystemPart::Oversight),
                W::Refused {
                    refused:
                        chaperone_core::writeback::RefusedBy::Human { .. }
                        | chaperone_core::writeback::RefusedBy::Edited { .. },
                } => human(),
                _ => of_system(SystemPart::Delivery),
            };
            (
                StreamId::Writeback(WritebackId::from_random([1; 16])),
                actor,
            )
        }
        Event::GrantIssued(grant) => (StreamId::Grant(grant.id), human()),
        Event::GrantConsumed { .. }
        | Event::EnvelopeOpened(_)
        | Event::ReadPermitted(_)
        | Event::ReadReleased { .. }
        | Event::ReadFailed { .. }
        | Event::TokensResolved { .. }
        | Event::SlotsMinted { .. }
        | Event::SlotsResolved { .. } => (StreamId::Envelope(envelope), agent()),
        Event::CallRefused(refusal) if refusal.consent.is_some() => {
            (StreamId::Envelope(envelope), agent())
        }
        Event::CallRefused(_)
        | Event::EhrEventRefused(_)
        | Event::Launch(LaunchEvent::Refused { .. })
        | Event::RefusalsCounted { .. } => (StreamId::Refusals, Actor::Anonymous),
        Event::SignedIn
        | Event::SignedOut
        | Event::SignInFailed
        | Event::StepUpFailed
        | Event::Passkey(_)
        | Event::Cover(_)
        | Event::Launch(LaunchEvent::Entered { .. })
        | Event::StepUpPassed { .. } => {
            (StreamId::Account(AccountName::new("ada").unwrap()), human())
        }
        Event::TokenRevealed { .. }
        | Event::DecisionRefused { .. }
        | Event::BreakGlassStarted { .. }
        | Event::BreakGlassEnded { .. } => {
            (StreamId::Account(AccountName::new("ada").unwrap()), human())
        }
        Event::ConsentAnnounced { .. } => (StreamId::Tenant, of_system(SystemPart::Dispatcher)),
        Event::ModeSwitched { .. } => (StreamId::Modes, human()),
        Event::AccountCreated { .. } => (StreamId::Tenant, human()),
        Event::Retention(RetentionEvent::Deleted(deletion)) => {
            let stream = match deletion.payloads.is_empty() {
                true => StreamId::Retention,
                false => StreamId::Writeback(WritebackId::from_random([1; 16])),
            };
            (stream, of_system(SystemPart::Retention))
        }
        Event::Retention(RetentionEvent::ShredReplayed(_)) => {
            (StreamId::Retention, of_system(SystemPart::Retention))
        }
        Event::Retention(_) => (StreamId::Retention, human()),
        Event::Claim(_) | Event::PatientMail(_) => (
            StreamId::Writeback(WritebackId::from_random([1; 16])),
            human(),
        ),
        Event::AuditUsed(_) => (StreamId::Tenant, of_system(SystemPart::CommandLine)),
        Event::EgressPassed { .. } | Event::EgressRefused { .. } => {
            (StreamId::Tenant, of_system(SystemPart::Gateway))
        }
        Event::TokenMinted { .. } => (StreamId::Tenant, of_system(SystemPart::Gateway)),
        Event::Oversight(event) => match event {
            OversightEvent::Sampled => {
                let stream = StreamId::Writeback(WritebackId::from_random([1; 16]));
                (stream, of_system(SystemPart::Oversight))
            }
            OversightEvent::Reviewed { .. } => {
                let stream = StreamId::Writeback(WritebackId::from_random([1; 16]));
                (stream, human())
            }
            OversightEvent::Overdue { .. } => {
                let stream = StreamId::Writeback(WritebackId::from_random([1; 16]));
                (stream, of_system(SystemPart::Expiry))
            }
            OversightEvent::Demoted { .. } => {
                (StreamId::Oversight, of_system(SystemPart::Oversight))
            }
            OversightEvent::Restored { .. } => (StreamId::Oversight, human()),
            OversightEvent::Paused { .. } => {
                let account = AccountName::new("ada").unwrap();
                (StreamId::Account(account), human())
            }
        },
        Event::Exception(chaperone_core::exception::ExceptionEvent::Expired { .. }) => (
            StreamId::Writeback(WritebackId::from_random([1; 16])),
            of_system(SystemPart::Expiry),
        ),
        Event::Exception(_) | Event::DecisionSupport(_) => (
            StreamId::Writeback(WritebackId::from_random([1; 16])),
            human(),
        ),
        Event::Cohort(event) => {
            let actor = match event {
                CohortEvent::LeftOut { .. } | CohortEvent::Ended { .. } => {
                    of_system(SystemPart::Dispatcher)
                }
                _ => human(),
            };
            (StreamId::Cohort(CohortJobId::from_random([7; 16])), actor)
        }
        Event::Undo(UndoEvent::Started { .. }) => {
            (StreamId::Undo(UndoId::from_random([6; 16])), human())
        }
        Event::Undo(_) => (
            StreamId::Undo(UndoId::from_random([6; 16])),
            of_system(SystemPart::Undo),
        ),
        Event::Key(_) => (StreamId::Keys, of_system(SystemPart::Setup)),
        Event::TenantInitialised { .. }
        | Event::BundleActivated { .. }
        | Event::ConformanceReported(_) => (StreamId::Tenant, of_system(SystemPart::Setup)),
    };
    Recorded {
        format: LEAF_FORMAT,
        tenant: tenant(),
        seq,
        stream,
        version: 1,
        at: "2030-01-02T03:04:05.678901Z".parse().unwrap(),
        actor,
        event,
    }
}

/// A book in which the envelope is open and the write-back has come as far as its approval.
fn book(kinds: &[Event], interaction: Interaction, approved: bool) -> Book {
    let mut book = Book::default();
    for event in kinds {
        let is_ground = match event {
            Event::EnvelopeOpened(_) => true,
            Event::Writeback(WritebackEvent::Proposed(_) | WritebackEvent::Ruled { .. }) => true,
            Event::Writeback(WritebackEvent::Approved { .. }) => approved,
            _ => false,
        };
        if is_ground {
            book.fold(&recorded(0, event.clone()));
        }
        if let Event::Writeback(WritebackEvent::Validated {
            validation,
            change,
            class,
            entries,
        }) = event
        {
            let mut change = change.clone();
            change.interaction = interaction;
            let event = WritebackEvent::Validated {
                validation: validation.clone(),
                change,
                class: *class,
                entries: entries.clone(),
            };
            book.fold(&recorded(0, Event::Writeback(event)));
        }
    }
    book
}

/// The same with somebody present in its envelopes.
fn of_oversight() -> Actor {
    Actor::System {
        part: SystemPart::Oversight,
    }
}

fn attended(book: &Book) -> Book {
    let mut book = book.clone();
    for work in book.works.values_mut() {
        work.human = Some(PersonId::from_random([1; 16]));
    }
    book
}

fn told(book: &Book, recorded: &Recorded, with_patient: bool) -> Option<Value> {
    let mut book = book.clone();
    if book.accesses.is_empty() || matches!(recorded.event, Event::ReadPermitted(_)) {
        book.fold(recorded);
    }
    let access = wanted(recorded).into_iter().find_map(|row| match row {
        Wanted::Access(key) => book.accesses.get(&key),
        Wanted::Work(_) => None,
    });
    let work = book.work_of(recorded);
    let token = patient_of(recorded, work, access);
    let about = About {
        work,
        access,
        patient: token.filter(|_| with_patient).map(|token| AuditPatient {
            token,
            reference: Some("Patient/123".to_owned()),
        }),
        agent_version: Some("1.0.0".to_owned()),
        query: None,
        locations: vec!["Observation/7/_history/2".to_owned()],
    };
    audit_event(
        recorded,
        Digest::of_bytes(b"leaf"),
        &codes(),
        &system(),
        &about,
    )
}

#[test]
fn every_kind_of_event_keeps_the_rules_as_an_audit_event() {
    let kinds = kinds();
    let mut seen = std::collections::BTreeSet::new();
    let mut complaints = Vec::new();
    for interaction in [Interaction::Create, Interaction::Update] {
        for approved in [false, true] {
            let book = book(&kinds, interaction, approved);
            for (seq, event) in (10..).zip(&kinds) {
                let mut entries = vec![recorded(seq, event.clone())];
                // Looks at the console are reads by people.
                if let Event::ReadPermitted(ceiling) = event {
                    for page in ["console.review", "console.search"] {
                        let mut ceiling = ceiling.clone();
                        ceiling.tool = page.parse().unwrap();
                        let mut entry = recorded(seq, Event::ReadPermitted(ceiling));
                        entry.actor = human();
                        entry.stream = StreamId::Account(AccountName::new("ada").unwrap());
                        entries.push(entry);
                    }
                    let mut ceiling = ceiling.clone();
                    ceiling.tool = "oversight.likeness".parse().unwrap();
                    let mut entry = recorded(seq, Event::ReadPermitted(ceiling));
                    entry.actor = of_oversight();
                    entry.stream = StreamId::Oversight;
                    entries.push(entry);
                }
                for entry in entries {
                    let key = wanted(&entry);
                    let _ = key;
                    // IHE's pattern for decisions by a Consent is claimed where somebody is there, and nowhere else.
                    let by_consent =
                        matches!(&entry.event, Event::CallRefused(it) if it.consent.is_some());
                    let attended = attended(&book);
                    for (book, with_patient) in [(&book, true), (&book, false), (&attended, true)] {
                        let Some(told) = told(book, &entry, with_patient) else {
                            continue;
                        };
                        let access = book
                            .accesses
                            .get("write/wb_01010101010101010101010101010101");
                        let case = AuditCase::of(&entry, book.work_of(&entry), access);
                        let is_attended = book.works.values().any(|work| work.human.is_some());
                        assert_eq!(
                            case == Some(AuditCase::ConsentDenied),
                            by_consent && is_attended,
                            "{told}"
                        );
                        seen.extend(case);
                        let wrong = wrong_with(&told);
                        if !wrong.is_empty() {
                            complaints.push(format!(
                                "{}: {}\n{told}",
                                entry.event.kind(),
                                wrong.join("\n  ")
                            ));
                        }
                    }
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
    let unseen: Vec<&AuditCase> = AuditCase::ALL
        .iter()
        .filter(|case| !seen.contains(case))
        .collect();
    assert!(unseen.is_empty(), "no event is told as {unseen:?}");
}

fn sample(kind: &str, interaction: Interaction) -> Value {
    let kinds = kinds();
    let book = book(&kinds, interaction, true);
    let event = kinds.iter().find(|event| event.kind() == kind).unwrap();
    told(&book, &recorded(10, event.clone()), true).unwrap()
}

fn look() -> Value {
    let kinds = kinds();
    let Some(Event::ReadPermitted(ceiling)) =
        kinds.iter().find(|event| event.kind() == "read_permitted")
    else {
        panic!("there is a read");
    };
    let mut ceiling = ceiling.clone();
    ceiling.tool = "console.review".parse().unwrap();
    let mut entry = recorded(10, Event::ReadPermitted(ceiling));
    entry.actor = human();
    entry.stream = StreamId::Account(AccountName::new("ada").unwrap());
    told(&Book::default(), &entry, true).unwrap()
}

fn consent_decision() -> Value {
    let identified = |value: &str| json!({ "identifier": { "value": value } });
    let agent = |system: &str, code: &str, value: &str, requestor: bool| json!({ "type": { "coding": [{ "system": system, "code": code }] }, "who": identified(value), "requestor": requestor });
    json!({
        "resourceType": "AuditEvent",
        "meta": { "profile": ["urn:chaperone:profile:audit-consent-decision"] },
        "type": { "system": "http://dicom.nema.org/resources/ontology/DCM", "code": "110113" },
        "subtype": [{ "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType", "code": "AuthZ-Consent" }],
        "action": "E", "recorded": "2030-01-02T03:04:05.678Z", "outcome": "8", "outcomeDesc": "consent-denied",
        "agent": [
            agent("http://terminology.hl7.org/CodeSystem/extra-security-role-type", "authserver", "chaperone", false),
            agent("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP", "person", true),
            agent("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "PROV", "clinic", false),
        ],
        "source": { "observer": identified("chaperone") },
        "entity": [
            { "what": { "reference": "Patient/123" }, "type": { "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "1" } },
            { "what": { "reference": "Consent/9" }, "type": { "system": "http://hl7.org/fhir/resource-types", "code": "Consent" } },
        ],
    })
}

/// Where a participant or entity with a code stands.
fn place(event: &Value, list: &str, code: &str) -> usize {
    let all = event[list].as_array().unwrap();
    let is = |it: &Value| {
        it["type"]["coding"][0]["code"] == code
            || it["type"]["code"] == code
            || it["role"]["code"] == code
    };
    all.iter()
        .position(is)
        .unwrap_or_else(|| panic!("no {list} {code} in {event}"))
}

#[test]
fn audit_events_that_break_one_rule_do_not_pass() {
    const DCM: &str = "http://dicom.nema.org/resources/ontology/DCM";
    let query = || sample("read_permitted", Interaction::Create);
    let create = || sample("writeback.delivered", Interaction::Create);
    let update = || sample("writeback.delivered", Interaction::Update);
    let approval = || sample("writeback.approved", Interaction::Create);
    let refusal = || sample("call_refused", Interaction::Create);
    let swap = |event: &mut Value| {
        let (one, other) = (
            place(event, "agent", "110153"),
            place(event, "agent", "110152"),
        );
        event["agent"][one]["type"] = json!({ "coding": [{ "system": DCM, "code": "110152" }] });
        event["agent"][other]["type"] = json!({ "coding": [{ "system": DCM, "code": "110153" }] });
    };
    type Mutate = Box<dyn Fn(&mut Value)>;
    let remove = |list: &'static str, code: &'static str| -> Mutate {
        Box::new(move |event| {
            let at = place(event, list, code);
            event[list].as_array_mut().unwrap().remove(at);
        })
    };
    let again = |list: &'static str, code: &'static str| -> Mutate {
        Box::new(move |event| {
            let copy = event[list][place(event, list, code)].clone();
            event[list].as_array_mut().unwrap().push(copy);
        })
    };
    let with = |pointer: &'static str, value: Value| -> Mutate {
        Box::new(move |event| *event.pointer_mut(pointer).unwrap() = value.clone())
    };
    let on_query = |name: &'static str, value: Value| -> Mutate {
        Box::new(move |event| {
            let at = place(event, "entity", "24");
            event["entity"][at][name] = value.clone();
        })
    };
    let without = |name: &'static str| -> Mutate {
        Box::new(move |event| {
            event.as_object_mut().unwrap().remove(name);
        })
    };
    let detail = json!([{ "type": "intent", "valueString": "draft-note" }]);
    let other_patient = json!({ "what": { "reference": "Patient/456" },
        "type": { "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "1" },
        "role": { "system": "http://terminology.hl7.org/CodeSystem/object-role", "code": "1" } });
    let add_patient: Mutate = Box::new(move |event| {
        event["entity"]
            .as_array_mut()
            .unwrap()
            .push(other_patient.clone());
    });
    let all_requestors: Mutate = Box::new(|event| {
        for agent in event["agent"].as_array_mut().unwrap() {
            agent["requestor"] = json!(true);
        }
    });
    let no_requestor: Mutate = Box::new(|event| {
        for agent in event["agent"].as_array_mut().unwrap() {
            agent["requestor"] = json!(false);
        }
    });
    let agent_asks: Mutate = Box::new(|event| {
        for agent in event["agent"].as_array_mut().unwrap() {
            agent["requestor"] =
                json!(agent["who"]["identifier"]["system"] == "urn:chaperone:agent");
        }
    });
    let extra: Mutate = Box::new(|event| {
        event["entity"].as_array_mut().unwrap().push(json!({ "what": { "identifier": { "value": "x" } },
            "type": { "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "2" } }));
    });
    let cases: Vec<(&str, Value, Mutate)> = vec![
        ("a search with the roles of a read", query(), Box::new(swap)),
        ("a read with the roles of a search", look(), Box::new(swap)),
        (
            "a create with the roles of a read",
            create(),
            Box::new(swap),
        ),
        (
            "an update with the roles of a read",
            update(),
            Box::new(swap),
        ),
        ("two requestors", query(), all_requestors),
        ("no requestor", query(), no_requestor),
        (
            "the agent asks although a human is there",
            create(),
            agent_asks,
        ),
        ("two patients", query(), add_patient),
        (
            "no patient where one is claimed",
            query(),
            remove("entity", "1"),
        ),
        ("no query", query(), remove("entity", "24")),
        ("two queries", query(), again("entity", "24")),
        ("a query with details", query(), on_query("detail", detail)),
        (
            "a query with a name",
            query(),
            on_query("name", json!("a search")),
        ),
        (
            "a query that names a resource",
            query(),
            on_query("what", json!({ "reference": "Observation/1" })),
        ),
        ("no request", query(), remove("entity", "XrequestId")),
        ("no EHR", query(), remove("agent", "110152")),
        ("no client", query(), remove("agent", "110153")),
        ("no entry of the ledger", query(), remove("entity", "4")),
        (
            "a search that says it reads",
            query(),
            with("/action", json!("R")),
        ),
        (
            "a search with the subtype of a read",
            query(),
            with("/subtype/0/code", json!("read")),
        ),
        (
            "another type",
            query(),
            with("/type", json!({ "system": DCM, "code": "110113" })),
        ),
        ("no outcome", query(), without("outcome")),
        (
            "no site",
            query(),
            with(
                "/source",
                json!({ "observer": { "identifier": { "value": "x" } } }),
            ),
        ),
        (
            "a token named another way",
            query(),
            with("/agent/0/policy/0", json!("urn:jti:env_1")),
        ),
        (
            "a create that does not say what",
            create(),
            remove("entity", "2"),
        ),
        (
            "a create without the patient",
            create(),
            remove("entity", "1"),
        ),
        (
            "an update that says it creates",
            update(),
            with("/action", json!("C")),
        ),
        (
            "an approval by nobody",
            approval(),
            remove("agent", "verifier"),
        ),
        (
            "an approval that is a failure",
            approval(),
            with("/outcome", json!("4")),
        ),
        (
            "an approval without the item",
            approval(),
            remove("entity", "20"),
        ),
        (
            "a refusal that succeeded",
            refusal(),
            with("/outcome", json!("0")),
        ),
        (
            "a refusal without a reason",
            refusal(),
            without("outcomeDesc"),
        ),
        (
            "a refusal that does not say of what",
            refusal(),
            with(
                "/subtype",
                json!([{ "system": "urn:chaperone:audit", "code": "call-refused" }]),
            ),
        ),
        (
            "a consent decision with something else",
            consent_decision(),
            extra,
        ),
        (
            "a consent decision without its consent",
            consent_decision(),
            remove("entity", "Consent"),
        ),
        (
            "a consent decision without a user",
            consent_decision(),
            remove("agent", "IRCP"),
        ),
    ];
    for (name, event, mutate) in cases {
        assert_eq!(wrong_with(&event), Vec::<String>::new(), "{name}, before");
        let mut mutant = event;
        mutate(&mut mutant);
        assert!(!wrong_with(&mutant).is_empty(), "{name} passes:\n{mutant}");
    }
}

#[test]
fn an_entry_always_has_the_same_id_and_another_entry_another() {
    let kinds = kinds();
    let book = book(&kinds, Interaction::Create, true);
    let event = kinds
        .iter()
        .find(|event| event.kind() == "signed_in")
        .unwrap();
    let of = |seq| told(&book, &recorded(seq, event.clone()), true).unwrap()["id"].clone();
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    assert!(
        PatientToken::from_random([0; 16])
            .to_string()
            .starts_with("pat_")
    );
}

#[test]
fn a_table_that_lacks_a_row_or_names_no_system_is_refused() {
    let whole = codes();
    let mut lacking = whole.clone();
    lacking.cases.retain(|row| row.case != "query");
    assert!(lacking.check().unwrap_err().to_string().contains("query"));
    let mut twice = whole.clone();
    twice.cases.extend(whole.cases.first().cloned());
    assert!(twice.check().is_err());
    let mut unknown = whole.clone();
    unknown.systems.remove("dcm");
    assert!(unknown.check().unwrap_err().to_string().contains("dcm"));
    let mut other = whole;
    other.cases[0].outcome = "5".to_owned();
    assert!(other.check().is_err());
}
