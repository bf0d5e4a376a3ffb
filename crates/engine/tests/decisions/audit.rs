//! Who saw what of whom, told to people, to an audit store and to a stream: on a real store, from what an
//! engine really recorded.

use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use chaperone_core::event::{AuditUse, Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{EnvelopeId, PatientToken, TenantId};
use chaperone_core::ports::{AuditLine, AuditSink, AuditSinkFailed, Clock, Commit, Expected};
use chaperone_core::principal::{Actor, Human, Role};
use chaperone_core::resource::Code;
use chaperone_engine::audit::export::{AuditExport, AuditFormat};
use chaperone_engine::audit::stream::READ_ENDS_WITHIN_S;
use chaperone_engine::audit::who_saw::{Seen, WhoSawQuestion};
use chaperone_engine::audit::{Asker, AuditFailed, Span};
use chaperone_engine::open_envelope::Caller;
use chaperone_fhir::Request;
use serde_json::{Value, json};

use crate::audit_kinds::{VALIDATOR, wrong_with};
use crate::bench::{BUNDLE, Bench, Db, bench_on, bundle, human, nurse, start, tenant};

fn privacy() -> Human {
    human(8, &[Role::Privacy])
}

/// An agent in an envelope of its own that the ledger knows.
async fn opened(bench: &Bench, patient: &str, n: u8) -> Caller {
    let clinician = human(2, &[Role::Clinician]);
    let mut caller = bench
        .caller(
            &clinician,
            "scheduler-agent",
            "schedule-appointment",
            patient,
        )
        .await;
    let mut envelope = (*caller.envelope).clone();
    envelope.id = EnvelopeId::from_random([n; 16]);
    envelope.purpose = Code::new("PATADMIN").unwrap();
    let actor = Actor::Agent {
        agent: envelope.agent.clone(),
        envelope: Some(envelope.id),
    };
    let mut commit = Commit::new(tenant(), bench.clock.now(), actor);
    let event = Event::EnvelopeOpened(Box::new(envelope.clone()));
    commit.append(StreamId::Envelope(envelope.id), Expected::Version(0), event);
    bench.store.commit(commit).await.unwrap();
    caller.envelope = std::sync::Arc::new(envelope);
    caller
}

/// Two patients; of the first a read, a read whose release was lost, a refused call, a look at the console
/// and a write; of the second one read.
async fn busy(bench: &Bench) -> (PatientToken, PatientToken) {
    let mut queue = bench.engine.afterwork().unwrap();
    let first = opened(bench, "p1", 21).await;
    bench.call(&first, "get_patient_context", json!({})).await;
    bench.engine.drain_afterwork(&mut queue).await;
    let second = opened(bench, "p2", 22).await;
    bench.call(&second, "get_patient_context", json!({})).await;
    bench.task(&second, "task-2", json!([])).await;
    bench.engine.drain_afterwork(&mut queue).await;
    let correlation = bench.engine.correlation();
    let refused = bench
        .engine
        .call(
            &first,
            "order_medication",
            serde_json::Map::new(),
            correlation,
        )
        .await;
    assert!(refused.is_err());
    let row = bench.task(&first, "task-1", json!([])).await;
    bench.engine.drain_afterwork(&mut queue).await;
    bench.deliver().await;
    assert_eq!(bench.state(row.id).await.as_str(), "delivered");
    let found = bench
        .engine
        .patients_search(&nurse(), "MRN-p1")
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    // Its release is never worked off, as when a node dies.
    bench.call(&first, "list_appointments", json!({})).await;
    drop(queue);
    (
        first.envelope.patient.unwrap(),
        second.envelope.patient.unwrap(),
    )
}

async fn all_of(bench: &Bench, asker: Asker<'_>, patient: PatientToken) -> Vec<Seen> {
    let mut question = WhoSawQuestion::default();
    let mut all = Vec::new();
    loop {
        let page = bench
            .engine
            .who_saw(asker, patient, &question)
            .await
            .unwrap();
        all.extend(page.accesses);
        question.after = page.next;
        if question.after.is_none() {
            return all;
        }
    }
}

fn brief(seen: &[Seen]) -> Vec<String> {
    seen.iter()
        .map(|it| {
            let tool = it.tool.as_deref().unwrap_or("-");
            let ceiling = if it.is_ceiling { " (at most)" } else { "" };
            format!("{} {tool} by {}{ceiling}", it.did, it.client)
        })
        .collect()
}

/// The patient with a link to another record.
fn linked(id: &str, kind: &str, other: &str) -> Value {
    json!({
        "resourceType": "Patient", "id": id, "birthDate": "1950-02-03",
        "identifier": [{ "system": "urn:example:mrn", "value": format!("MRN-{id}") }],
        "link": [{ "other": { "reference": format!("Patient/{other}") }, "type": kind }],
    })
}

pub(crate) async fn records_that_were_merged_are_asked_about_together_from_either_side(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (first, second) = busy(&bench).await;
    let asker = Asker::CommandLine;
    let (alone, beside) = (
        all_of(&bench, asker, first).await.len(),
        all_of(&bench, asker, second).await.len(),
    );
    // Related is not the same.
    bench.ehr.put(linked("p2", "seealso", "p1"));
    let seen = all_of(&bench, asker, first).await;
    assert_eq!(seen.len(), alone + 1, "and the first question");
    assert!(seen.iter().all(|it| it.record.is_none()));

    // Whichever side says so, and from whichever side it is asked.
    for (says, other) in [
        (linked("p2", "replaced-by", "p1"), "p1"),
        (linked("p1", "replaces", "p2"), "p2"),
    ] {
        bench.ehr.put(linked("p2", "seealso", "p1"));
        bench.ehr.put(linked(other, "seealso", "p9"));
        bench.ehr.put(says);
        let from_first = all_of(&bench, asker, first).await;
        let from_second = all_of(&bench, asker, second).await;
        assert!(from_first.len() > alone + beside, "{}", from_first.len());
        // The second time, the first question is there under both records.
        assert_eq!(from_second.len(), from_first.len() + 2);
        let of = |seen: &[Seen], record| seen.iter().filter(|it| it.record == record).count();
        assert_eq!(
            of(&from_first, Some(second)),
            of(&from_second, None) - 1,
            "what is another record from one side is the one that was asked about from the other"
        );
        let entries: Vec<u64> = from_first.iter().map(|it| it.entry).collect();
        assert!(entries.is_sorted(), "{entries:?}");
    }

    // Under the surviving record nothing was ever handled.
    bench.ehr.put(linked("p3", "replaces", "p1"));
    assert_eq!(
        bench.engine.patient_meant("Patient/p3").await.unwrap(),
        first
    );
    assert!(matches!(
        bench.engine.patient_meant("Patient/p9").await,
        Err(AuditFailed::UnknownPatient)
    ));

    // An EHR that does not answer cannot tell, and the answer says so.
    let whole = async || {
        let page = bench
            .engine
            .who_saw(asker, first, &WhoSawQuestion::default())
            .await
            .unwrap();
        (page.is_whole, page.merged.len())
    };
    assert_eq!(whole().await, (true, 1));
    bench.ehr.set_down(true);
    assert_eq!(whole().await, (false, 0));
}

pub(crate) async fn who_saw_names_every_access_of_the_patient_and_none_of_another(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (first, second) = busy(&bench).await;
    let privacy = privacy();
    let asker = Asker::Human(&privacy);
    let seen = all_of(&bench, asker, first).await;
    assert_eq!(
        brief(&seen),
        [
            "assigned - by console",
            "read get_patient_context by scheduler-agent",
            "refused order_medication by scheduler-agent",
            "write create_task by scheduler-agent",
            "read console.search by console",
            "read list_appointments by scheduler-agent (at most)",
            "asked who_saw by console",
        ]
    );
    let read = &seen[1];
    assert_eq!(read.purpose.as_deref(), Some("PATADMIN"));
    assert_eq!(read.intent.as_deref(), Some("schedule-appointment"));
    assert_eq!(read.resources, Some(1));
    assert!(!read.is_ceiling && read.is_automated && !read.policies.is_empty());
    assert!(
        read.human.as_deref().unwrap().contains("person_"),
        "whom the agent acted for"
    );
    let lost = &seen[5];
    assert!(
        !lost.fields.is_empty() && lost.outcome.contains("at most"),
        "{lost:?}"
    );
    assert!(
        seen[3].outcome.starts_with("create: delivered"),
        "{:?}",
        seen[3]
    );
    assert!(seen[4].human.is_some() && !seen[4].is_automated);

    let others = all_of(&bench, asker, second).await;
    assert_eq!(
        brief(&others),
        [
            "assigned - by console",
            "read get_patient_context by scheduler-agent",
            "write create_task by scheduler-agent",
            "asked who_saw by console",
        ]
    );
    let entries = |seen: &[Seen]| seen.iter().map(|it| it.entry).collect::<BTreeSet<_>>();
    assert!(entries(&seen).is_disjoint(&entries(&others)));
}

pub(crate) async fn only_the_privacy_officer_may_ask_and_is_seen_asking(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (first, _) = busy(&bench).await;
    let before = bench.store.size(&tenant()).await.unwrap();
    for role in Role::ALL {
        let asker = human(7, &[role]);
        let answer = bench
            .engine
            .who_saw(Asker::Human(&asker), first, &WhoSawQuestion::default())
            .await;
        let accounting = bench
            .engine
            .accounting(Asker::Human(&asker), first, Span::default())
            .await;
        if role == Role::Privacy {
            assert!(answer.is_ok() && accounting.is_ok());
        } else {
            assert!(matches!(answer, Err(AuditFailed::NotPermitted)), "{role}");
            assert!(
                matches!(accounting, Err(AuditFailed::NotPermitted)),
                "{role}"
            );
        }
    }
    let asked = bench.store.size(&tenant()).await.unwrap() - before;
    assert_eq!(asked, 2, "those who were refused asked nothing");
    let account = StreamId::Account(human(7, &[]).account);
    let events = bench.store.stream(&tenant(), &account).await.unwrap();
    let uses: Vec<AuditUse> = events
        .iter()
        .filter_map(|it| match &it.event {
            Event::AuditUsed(used) => {
                assert_eq!(used.patient, Some(first));
                Some(used.used_for)
            }
            _ => None,
        })
        .collect();
    assert_eq!(uses, [AuditUse::WhoSaw, AuditUse::Accounting]);
}

pub(crate) async fn a_patient_is_meant_by_token_reference_or_identifier_and_nobody_by_anything_else(
    db: Db,
) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (first, _) = busy(&bench).await;
    bench.ehr.put(json!({ "resourceType": "Patient", "id": "p3",
        "identifier": [{ "system": "urn:example:mrn", "value": "MRN-p3" }] }));
    let engine = &bench.engine;
    for text in [
        &first.to_string(),
        "Patient/p1",
        "p1",
        "urn:example:mrn|MRN-p1",
    ] {
        assert_eq!(engine.patient_meant(text).await.unwrap(), first, "{text}");
    }
    let size = bench.store.size(&tenant()).await.unwrap();
    let nobody = PatientToken::from_random([9; 16]).to_string();
    for text in [
        &nobody,
        "Patient/nobody",
        "",
        "Observation/1",
        "urn:example:mrn|other",
        "pat_1",
    ] {
        let meant = engine.patient_meant(text).await;
        assert!(
            matches!(meant, Err(AuditFailed::UnknownPatient)),
            "{text}: {meant:?}"
        );
    }
    for text in ["Patient/p3", "urn:example:mrn|MRN-p3"] {
        let meant = engine.patient_meant(text).await;
        assert!(
            matches!(meant, Err(AuditFailed::NeverHandled)),
            "{text}: {meant:?}"
        );
    }
    assert_eq!(
        bench.store.size(&tenant()).await.unwrap(),
        size,
        "no token was made for a question"
    );
}

pub(crate) async fn spans_and_pages_hold_what_they_say(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (first, _) = busy(&bench).await;
    let was = bench.clock.now();
    bench.clock.advance_s(60);
    let later = opened(&bench, "p1", 23).await;
    bench.call(&later, "get_patient_context", json!({})).await;
    let now = bench.clock.now();
    let of = async |span: Span| {
        let question = WhoSawQuestion { span, after: None };
        let page = bench
            .engine
            .who_saw(Asker::CommandLine, first, &question)
            .await
            .unwrap();
        brief(&page.accesses)
    };
    let span = |from, to| Span { from, to };
    let early = of(span(None, Some(now))).await;
    assert!(
        early.len() == 6 && early.iter().all(|it| !it.starts_with("asked")),
        "{early:?}"
    );
    let late = of(span(Some(now), None)).await;
    assert_eq!(
        late[..2],
        [
            "assigned - by console",
            "read get_patient_context by scheduler-agent (at most)"
        ]
    );
    assert_eq!(
        of(span(Some(was), Some(now))).await.len(),
        6,
        "from counts itself"
    );
    let question = WhoSawQuestion {
        span: Span::default(),
        after: Some("here".to_owned()),
    };
    let nowhere = bench
        .engine
        .who_saw(Asker::CommandLine, first, &question)
        .await;
    assert!(matches!(nowhere, Err(AuditFailed::NoSuchPage)));

    // More than a page: every access once, in order.
    for _ in 0..210 {
        bench.call(&later, "get_patient_context", json!({})).await;
    }
    let all = all_of(&bench, Asker::CommandLine, first).await;
    let entries: Vec<u64> = all.iter().map(|it| it.entry).collect();
    let distinct: BTreeSet<u64> = entries.iter().copied().collect();
    assert_eq!(distinct.len(), entries.len());
    assert!(entries.len() > 215, "{}", entries.len());
}

pub(crate) async fn rows_that_were_dropped_are_folded_again(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (first, _) = busy(&bench).await;
    let before = all_of(&bench, Asker::CommandLine, first).await;
    bench.store.projections_clear(&tenant()).await.unwrap();
    let after = all_of(&bench, Asker::CommandLine, first).await;
    assert_eq!(after[..before.len()], before[..]);
    assert_eq!(
        after.len(),
        before.len() + 1,
        "the second question is one of them"
    );
    bench.engine.rebuild_projections().await.unwrap();
    let rebuilt = all_of(&bench, Asker::CommandLine, first).await;
    assert_eq!(rebuilt[..after.len()], after[..]);
}

async fn exported(bench: &Bench, patient: Option<PatientToken>, format: AuditFormat) -> String {
    let export = AuditExport {
        span: Span::default(),
        patient,
        format,
    };
    let mut out = Vec::new();
    let written = bench
        .engine
        .export_audit_events(Asker::CommandLine, export, &mut out)
        .await
        .unwrap();
    assert!(written.events > 0 && written.events <= written.entries);
    String::from_utf8(out).unwrap()
}

fn events(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn ids(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) async fn what_an_engine_recorded_is_exported_as_valid_audit_events(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (first, second) = busy(&bench).await;
    let text = exported(&bench, None, AuditFormat::Ndjson).await;
    let all = events(&text);
    for event in &all {
        assert_eq!(wrong_with(event), Vec::<String>::new(), "{event}");
    }
    let again = events(&exported(&bench, None, AuditFormat::Ndjson).await);
    assert_eq!(
        ids(&again)[..all.len()],
        ids(&all)[..],
        "an entry keeps its id"
    );
    let create = all
        .iter()
        .find(|it| it["subtype"][0]["code"] == "create")
        .unwrap();
    let what = create.to_string();
    assert!(
        what.contains("Task/") && what.contains("/_history/"),
        "{what}"
    );
    assert!(what.contains("IHE.BasicAudit.PatientCreate"), "{what}");
    let lost = all
        .iter()
        .find(|it| it.to_string().contains("fields-at-most"))
        .unwrap();
    assert!(lost.to_string().contains("list_appointments"), "{lost}");

    let of_first = exported(&bench, Some(first), AuditFormat::Ndjson).await;
    assert!(of_first.contains("Patient/p1") && !of_first.contains("Patient/p2"));
    assert!(!of_first.contains(&second.to_string()));
    assert!(
        events(&of_first)
            .iter()
            .all(|it| it.to_string().contains("Patient/p1"))
    );

    let bundle = exported(&bench, Some(first), AuditFormat::Bundle).await;
    let outcome = VALIDATOR.validate(bundle.as_bytes(), &Request::default());
    let errors: Vec<_> = outcome
        .findings
        .iter()
        .filter(|it| it.severity.is_error())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

pub(crate) async fn the_accounting_lists_what_is_not_excluded(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (first, _) = busy(&bench).await;
    bench.clock.advance_s(1);
    let answer = bench
        .engine
        .accounting(Asker::CommandLine, first, Span::default())
        .await
        .unwrap();
    assert!(answer.disclosures.is_empty(), "{answer:?}");
    let left_out: u64 = answer.left_out.iter().map(|it| it.accesses).sum();
    assert_eq!(left_out, 3, "two reads and a look: {answer:?}");

    // The same accesses, under a table that excludes no operations.
    let mut files = chaperone_policy::embedded::files();
    let table = files.get_mut("rules/accounting.toml").unwrap();
    *table = table.replace("\"PATADMIN\", ", "");
    let strict = start(
        &bundle(&files),
        bench.store.clone(),
        bench.ehr.clone(),
        bench.clock.clone(),
    )
    .await;
    let answer = strict
        .accounting(Asker::CommandLine, first, Span::default())
        .await
        .unwrap();
    assert_eq!(answer.disclosures.len(), 2, "{answer:?}");
    let row = &answer.disclosures[0];
    assert!(row.recipient.starts_with("scheduler-agent"), "{row:?}");
    assert!(row.purpose.contains("PATADMIN"), "{row:?}");
    assert!(
        answer.disclosures[1].description.contains("at most"),
        "{answer:?}"
    );
    assert!(bundle(&files).digest() != BUNDLE.digest());
}

/// Takes AuditEvents, and now and then fails, before or after it took them.
#[derive(Default)]
struct Sink {
    taken: Mutex<Vec<String>>,
    faults: Mutex<Vec<Fault>>,
}

#[derive(Clone, Copy)]
enum Fault {
    Lost,
    Applied,
}

#[async_trait]
impl AuditSink for Sink {
    async fn take(&self, _: &TenantId, events: &[AuditLine]) -> Result<(), AuditSinkFailed> {
        let fault = self.faults.lock().unwrap().pop();
        if !matches!(fault, Some(Fault::Lost)) {
            let mut taken = self.taken.lock().unwrap();
            taken.extend(events.iter().map(|event| event.id.clone()));
        }
        match fault {
            None => Ok(()),
            Some(_) => Err(AuditSinkFailed("a fault of the test".to_owned())),
        }
    }
}

pub(crate) async fn a_stream_brings_every_audit_event_at_least_once_and_goes_on_where_it_was(
    db: Db,
) {
    let bench = bench_on(db, Strategy::Conditional).await;
    busy(&bench).await;
    let sink = Sink::default();
    *sink.faults.lock().unwrap() = vec![Fault::Applied, Fault::Lost];
    let engine = &bench.engine;
    assert!(engine.stream_audit_events("file", &sink).await.is_err());
    assert!(engine.stream_audit_events("file", &sink).await.is_err());
    let before_lost = sink.taken.lock().unwrap().len();
    assert!(before_lost > 0);
    while engine
        .stream_audit_events("file", &sink)
        .await
        .unwrap()
        .entries
        > 0
    {}
    // The read whose release was lost holds the stream up, for a while and no longer.
    let wanted = ids(&events(&exported(&bench, None, AuditFormat::Ndjson).await));
    let taken = |sink: &Sink| {
        sink.taken
            .lock()
            .unwrap()
            .iter()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        taken(&sink).len(),
        wanted.len() - 2,
        "the read, and the export behind it"
    );
    bench.clock.advance_s(READ_ENDS_WITHIN_S + 1);
    while engine
        .stream_audit_events("file", &sink)
        .await
        .unwrap()
        .entries
        > 0
    {}
    assert_eq!(taken(&sink), wanted.iter().cloned().collect());
    let repeated = sink.taken.lock().unwrap().len() - wanted.len();
    assert_eq!(
        repeated, before_lost,
        "only what was taken before the failure came twice"
    );
    // Another stream has a place of its own.
    let other = Sink::default();
    while engine
        .stream_audit_events("other", &other)
        .await
        .unwrap()
        .entries
        > 0
    {}
    assert_eq!(other.taken.lock().unwrap().len(), wanted.len());
}
