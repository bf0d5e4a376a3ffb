//! Canaries: they look like what they are among, nothing leads from them to the EHR, and what became of them is told to
//! whoever decided and counted for nobody by name. On both databases.

use std::collections::BTreeSet;

use chaperone_core::Timestamp;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::WritebackId;
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::oversight::{OversightEvent, PaceLimit};
use chaperone_core::phi::ExposedFor;
use chaperone_core::ports::{Clock, Commit, Expected, Listing};
use chaperone_core::principal::{Actor, Human, Role, SystemPart};
use chaperone_core::undo::UndoSelection;
use chaperone_core::writeback::StateName;
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::canary::CanariesDisclosed;
use chaperone_engine::edit::EditRequest;
use chaperone_engine::grant::PatientRef;
use chaperone_engine::undo::UndoFailed;
use chaperone_engine::views::ViewFailed;
use chaperone_engine::views::inbox::{Inbox, InboxFilter};
use chaperone_engine::views::review::PatientShown;
use chaperone_engine::{Engine, EngineConfig};
use serde_json::json;

use crate::bench::*;
use crate::reviews::waiting_note;

/// More than enough for the draw of any week to come.
const STEPS_MAX: u32 = 80;
const STEP_S: i64 = 3 * 3_600;

fn clinician() -> Human {
    human(3, &[Role::Clinician])
}

async fn with_canaries(db: Db) -> Bench {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    bench
        .restart(|config| {
            config.canaries = Some(CanariesDisclosed {
                since: Timestamp::UNIX_EPOCH,
            });
        })
        .await;
    bench
}

/// Those in a state, by the list that pages read.
async fn listed(bench: &Bench, state: StateName) -> Vec<WritebackId> {
    let listing = Listing {
        index: Some(state.as_str().to_owned()),
        limit: 100,
        ..Listing::default()
    };
    let tenant = tenant();
    let rows = bench.store.projections(&tenant, "writeback", listing);
    let ids = rows
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.value["id"].clone());
    ids.map(|id| id.as_str().unwrap().parse().unwrap())
        .collect()
}

/// Lets time go by until a canary waits; nothing when none came for longer than a week.
async fn canary(bench: &Bench) -> Option<WritebackId> {
    for _ in 0..STEPS_MAX {
        bench.engine.tend_canaries().await.unwrap();
        if let Some(id) = listed(bench, StateName::Canary).await.first() {
            return Some(*id);
        }
        bench.clock.advance_s(STEP_S);
    }
    None
}

async fn request(bench: &Bench, id: WritebackId) -> ApproveRequest {
    ApproveRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        step_up: None,
        override_reason: None,
        review_ms: 9_000,
    }
}

async fn kinds(bench: &Bench, id: WritebackId) -> Vec<String> {
    let stream = StreamId::Writeback(id);
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    events.iter().map(|it| it.event.kind()).collect()
}

async fn inbox(bench: &Bench, by: &Human) -> Inbox {
    let all = InboxFilter::default();
    bench.engine.inbox(by, &all).await.unwrap()
}

pub(crate) async fn an_approved_canary_is_missed_and_goes_nowhere(db: Db) {
    let bench = with_canaries(db).await;
    let real = waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    let by = clinician();
    // Refused as anything else is: another digest, a role without a say.
    let mut other = request(&bench, id).await;
    other.digest = bench.row(real).await.digest.unwrap();
    let failed = bench.engine.approve(&by, other).await.unwrap_err();
    assert_eq!(failed.code(), "approval-payload-mismatch");
    let desk = human(9, &[Role::Scheduler]);
    let failed = bench.engine.approve(&desk, request(&bench, id).await).await;
    assert_eq!(failed.unwrap_err().code(), "role-not-permitted");
    assert_eq!(bench.state(id).await, StateName::Canary);

    let row = bench.engine.approve(&by, request(&bench, id).await).await;
    assert_eq!(row.unwrap().state, StateName::CanarySettled);
    assert_eq!(
        kinds(&bench, id).await,
        ["writeback.canary_seeded", "writeback.canary_missed"]
    );
    let told = bench.engine.review(&by, id).await.unwrap().ended.unwrap();
    assert!(told.contains("What was wrong:"), "{told}");

    // Every other way on.
    let operator = human(8, &[Role::ItAdmin, Role::Him, Role::Clinician]);
    let (engine, why) = (&bench.engine, "it is stuck");
    for refused in [
        engine.approve(&by, request(&bench, id).await).await,
        engine.requeue(&operator, id, why).await,
        engine.abandon(&operator, id, why).await,
        engine.resolve_unknown(&operator, id, true, why).await,
        engine.resolve_unknown(&operator, id, false, why).await,
        engine.attest_entry(&operator, id, why).await,
        engine.decline_entry(&operator, id, why).await,
        engine.release_aside(&operator, id, why).await,
        engine.reject_aside(&operator, id, why).await,
    ] {
        assert_eq!(refused.unwrap_err().code(), "not-now");
    }
    for _ in 0..5 {
        bench.deliver().await;
        bench.clock.advance_s(600);
    }
    assert_eq!(bench.state(id).await, StateName::CanarySettled);
    assert_eq!((bench.ehr.arrived(), bench.ehr.written().len()), (0, 0));
    // No agent's record is the better or the worse for it.
    bench.engine.follow_oversight(u64::MAX).await.unwrap();
    assert!(
        bench
            .engine
            .oversight(None)
            .await
            .unwrap()
            .tallies
            .is_empty()
    );
    // Counted for a row and a role, and too few to say a share.
    let vigilance = bench.engine.vigilance().await.unwrap();
    let [only] = vigilance.as_slice() else {
        panic!("{vigilance:?}")
    };
    assert_eq!(
        (only.row.as_str(), only.pool, only.decided, only.caught_pct),
        ("note-draft", Role::Clinician, 1, None)
    );
    // How they did is theirs to know.
    for other in [human(4, &[Role::Clinician]), operator] {
        let closed = bench.engine.review(&other, id).await;
        assert!(matches!(closed, Err(ViewFailed::Missing)));
        let stream = StreamId::Writeback(id);
        let lines = bench.engine.timeline(&other, &stream).await.unwrap();
        assert!(lines.iter().all(|line| !line.actor.contains("person-3")));
        for line in lines
            .iter()
            .filter(|line| line.kind == "writeback.decision")
        {
            let entry = bench.engine.entry(&other, line.seq).await.unwrap();
            assert!(entry.leaf.is_empty());
        }
    }
}

pub(crate) async fn while_it_waits_nothing_but_a_decision_moves_it(db: Db) {
    let bench = with_canaries(db).await;
    waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    let operator = human(8, &[Role::ItAdmin, Role::Him, Role::Clinician]);
    let (engine, why) = (&bench.engine, "it is stuck");
    for refused in [
        engine.requeue(&operator, id, why).await,
        engine.abandon(&operator, id, why).await,
        engine.resolve_unknown(&operator, id, true, why).await,
        engine.attest_entry(&operator, id, why).await,
        engine.decline_entry(&operator, id, why).await,
        engine.release_aside(&operator, id, why).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), "not-now");
        assert!(!refused.to_string().contains("canary"), "{refused}");
    }
    // Nothing of it is anybody's output that could be undone, or set aside.
    let selection = UndoSelection {
        writeback: Some(id),
        ..UndoSelection::default()
    };
    match engine.undo_plan(&selection).await {
        Ok(plan) => assert!(plan.items.is_empty()),
        Err(failed) => assert!(matches!(failed, UndoFailed::NothingSelected), "{failed}"),
    }
    // Its patient is put before no agent: no EHR knows them.
    let patient = bench.row(id).await.patient.unwrap();
    let refused = bench
        .grant(
            &clinician(),
            "scribe-agent",
            "draft-note",
            PatientRef::Token(patient),
        )
        .await;
    assert!(refused.is_err());
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Canary);

    // Rejected: caught.
    let digest = bench.row(id).await.digest.unwrap();
    let row = engine
        .reject(&clinician(), id, digest, "the text is of somebody else")
        .await;
    assert_eq!(row.unwrap().state, StateName::CanarySettled);
    assert_eq!(
        kinds(&bench, id).await,
        ["writeback.canary_seeded", "writeback.canary_caught"]
    );
    let told = engine.review(&clinician(), id).await.unwrap();
    assert!(told.ended.unwrap().contains("you found it"));
    assert_eq!(bench.ehr.arrived(), 0);
}

pub(crate) async fn a_changed_canary_makes_no_proposal(db: Db) {
    let bench = with_canaries(db).await;
    waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    let by = clinician();
    let content = bench.engine.review(&by, id).await.unwrap().content.unwrap();
    let fields = content.expose(ExposedFor::Person).edit.clone();
    assert!(!fields.is_empty(), "it can be changed like any other");
    let mut inputs: std::collections::BTreeMap<String, String> = fields
        .into_iter()
        .map(|field| (field.name, field.value))
        .collect();
    inputs.insert("text".to_owned(), "Seen. Nothing of note.".to_owned());
    let before = bench.engine.agents_page().await.unwrap();
    let row = bench.engine.edit(
        &by,
        EditRequest {
            writeback: id,
            digest: bench.row(id).await.digest.unwrap(),
            inputs,
            reason: "the text is of somebody else".to_owned(),
        },
    );
    let row = row.await.unwrap();
    assert_eq!((row.id, row.state), (id, StateName::CanarySettled));
    assert_eq!(bench.engine.agents_page().await.unwrap(), before);
    assert_eq!(
        kinds(&bench, id).await,
        ["writeback.canary_seeded", "writeback.canary_withdrawn"]
    );
    assert!(bench.engine.vigilance().await.unwrap().is_empty());
    bench.deliver().await;
    assert_eq!(bench.ehr.arrived(), 0);
}

pub(crate) async fn a_canary_looks_like_what_it_is_among(db: Db) {
    let bench = with_canaries(db).await;
    waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    // One that came at the same time.
    bench.ehr.put(json!({
        "resourceType": "Encounter", "id": "e2", "status": "finished",
        "class": { "code": "AMB" }, "subject": { "reference": "Patient/p2" },
    }));
    let scribe = bench
        .caller(&clinician(), "scribe-agent", "draft-note", "p2")
        .await;
    let read = bench.call(&scribe, "list_encounters", json!({})).await;
    let note = json!({
        "idempotency_key": "another", "encounter_token": read["resources"][0]["id"],
        "text": "Seen for a visit. Plan unchanged.", "rationale": "The visit ended.", "confidence": 0.9,
    });
    let answer = bench.call(&scribe, "draft_note", note).await;
    let real: WritebackId = answer["proposal"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.to_string().len(), real.to_string().len());

    let by = human(5, &[Role::Clinician]);
    let all = inbox(&bench, &by).await;
    let item = |id| all.items.iter().find(|it| it.id == id).unwrap();
    let (one, other) = (item(id), item(real));
    assert_eq!(
        (
            &one.agent,
            &one.intent,
            &one.tool,
            one.class,
            &one.gate,
            &one.turn
        ),
        (
            &other.agent,
            &other.intent,
            &other.tool,
            other.class,
            &other.gate,
            &other.turn
        )
    );
    assert_eq!(
        (
            one.since,
            one.deadline,
            one.tainted,
            one.quick,
            one.together
        ),
        (
            other.since,
            other.deadline,
            other.tainted,
            other.quick,
            other.together
        )
    );
    assert!(one.patient.as_ref().unwrap().shown.is_some());
    assert_eq!(
        all.items.len(),
        bench.engine.inbox_count(&by).await.unwrap()
    );

    let (one, other) = (
        bench.engine.review(&by, id).await.unwrap(),
        bench.engine.review(&by, real).await.unwrap(),
    );
    assert_eq!(one.row.state, StateName::AwaitingApproval);
    assert!(one.row.canary.is_none());
    let words = |review: &chaperone_engine::views::review::Review| {
        let lines: Vec<(String, String, String)> = review
            .timeline
            .iter()
            .map(|it| (it.actor.clone(), it.kind.clone(), it.words.clone()))
            .collect();
        (
            lines,
            review.stages.clone(),
            review.author.clone(),
            review.purpose.clone(),
            review.turn.clone(),
            review.ended.clone(),
            review.outcome.clone(),
            review.keeps_opening_back,
            review
                .ruling
                .clone()
                .map(|it| (it.gate, it.determining, it.raised_by)),
        )
    };
    assert_eq!(words(&one), words(&other));
    let (one, other) = (one.content.unwrap(), other.content.unwrap());
    let (one, other) = (
        one.expose(ExposedFor::Person),
        other.expose(ExposedFor::Person),
    );
    let paths = |diff: &[chaperone_engine::views::review::DiffLine]| {
        diff.iter()
            .map(|line| line.path.clone())
            .collect::<Vec<_>>()
    };
    let ([change], [real_change]) = (&one.changes[..], &other.changes[..]) else {
        panic!("one change each");
    };
    assert_eq!(paths(&change.diff), paths(&real_change.diff));
    assert_eq!(
        (change.base, change.documents.len()),
        (real_change.base, real_change.documents.len())
    );
    let names: Vec<_> = one.edit.iter().map(|it| &it.name).collect();
    assert_eq!(
        names,
        other.edit.iter().map(|it| &it.name).collect::<Vec<_>>()
    );
    let ids = |findings: &[chaperone_engine::views::review::FindingView]| {
        findings
            .iter()
            .map(|it| it.id.clone())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(&one.findings), ids(&other.findings));

    // The stream and the ledger's pages say as little of either.
    for (mine, id) in [(true, id), (false, real)] {
        let stream = StreamId::Writeback(id);
        let lines = bench.engine.timeline(&by, &stream).await.unwrap();
        assert_eq!(lines.len(), 1, "{mine}");
        let entry = bench.engine.entry(&by, lines[0].seq).await.unwrap();
        assert_eq!(
            (entry.entry.kind.as_str(), entry.leaf.as_str()),
            ("writeback.decision", "")
        );
    }
    let page = bench.engine.ledger_page(&by, None).await.unwrap();
    assert!(page.entries.iter().all(|it| !it.kind.contains("canary")));
    // It can be taken in hand like any other, and while the EHR is down neither patient is shown.
    bench.engine.claim(&by, id).await.unwrap();
    bench.ehr.set_down(true);
    for id in [id, real] {
        let content = bench.engine.review(&by, id).await.unwrap().content.unwrap();
        let shown = &content.expose(ExposedFor::Person).patient;
        let down = chaperone_engine::views::review::PatientShown::Unavailable;
        assert_eq!(*shown, down);
    }
    bench.ehr.set_down(false);
    // Counts of real work know nothing of it.
    let health = bench.engine.health(&by).await.unwrap();
    assert_eq!(health.awaiting, 2);
}

pub(crate) async fn a_canary_among_several_is_found_out_at_once(db: Db) {
    let bench = with_canaries(db).await;
    let by = human(5, &[Role::MaRn]);
    let weight = async |key: &str| {
        let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
        let arguments = json!({
            "idempotency_key": key, "measure": "29463-7", "value": 81.0, "unit": "kg",
            "measured_at": bench.clock.now().to_string(),
        });
        let answer = bench.call(&agent, "record_vital", arguments).await;
        answer["proposal"]
            .as_str()
            .unwrap()
            .parse::<WritebackId>()
            .unwrap()
    };
    weight("first").await;
    let id = canary(&bench).await.unwrap();
    let real = weight("second").await;
    let shown = bench.engine.batch(&by, real).await.unwrap();
    let shown: BTreeSet<_> = shown.iter().map(|it| it.id).collect();
    assert!(shown.contains(&id) && shown.contains(&real));
    let mut items = Vec::new();
    for id in [id, real] {
        items.push((id, bench.row(id).await.digest.unwrap()));
    }
    let done = bench
        .engine
        .approve_several(&by, &items, 60_000)
        .await
        .unwrap();
    let states: Vec<_> = done.into_iter().map(|it| it.done.unwrap().state).collect();
    assert_eq!(states, [StateName::CanarySettled, StateName::Ready]);
    bench.deliver().await;
    let written: Vec<_> = bench.ehr.written().into_iter().map(|(id, _)| id).collect();
    assert_eq!(written, [real]);
}

pub(crate) async fn each_canary_of_the_default_list_is_what_people_are_asked_about(db: Db) {
    let files = chaperone_policy::embedded::files();
    let text = &files["rules/canaries.toml"];
    let (head, list) = text.split_once("[[canaries]]").unwrap();
    for one in list.split("[[canaries]]") {
        let mut files = files.clone();
        let alone = format!("{head}[[canaries]]{one}");
        files.insert("rules/canaries.toml".to_owned(), alone);
        let mut bench = bench_on(db, Strategy::Conditional).await;
        let ports = ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
        let config = EngineConfig {
            canaries: Some(CanariesDisclosed {
                since: Timestamp::UNIX_EPOCH,
            }),
            ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
        };
        bench.engine = Engine::start(config, bundle(&files), ports).await.unwrap();
        waiting_note(&bench).await;
        let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
        let weight = json!({
            "idempotency_key": "w", "measure": "29463-7", "value": 81.0, "unit": "kg",
            "measured_at": bench.clock.now().to_string(),
        });
        bench.call(&agent, "record_vital", weight).await;
        let answers = json!({
            "idempotency_key": "a", "reason": "A cough.", "duration_days": 3, "medication_changed": false,
        });
        bench.call(&agent, "record_answers", answers).await;
        let id = canary(&bench).await;
        assert!(id.is_some(), "{one}");
    }
}

pub(crate) async fn nobody_is_tested_who_was_not_told_or_has_no_time(db: Db) {
    // Off, which is the default; on for a day that has not come; and alone in an empty inbox.
    let bench = bench_on(db, Strategy::Conditional).await;
    waiting_note(&bench).await;
    assert_eq!(canary(&bench).await, None);
    let mut bench = bench_on(db, Strategy::Conditional).await;
    bench
        .restart(|config| {
            config.canaries = Some(CanariesDisclosed {
                since: Timestamp::MAX,
            });
        })
        .await;
    waiting_note(&bench).await;
    assert_eq!(canary(&bench).await, None);
    assert!(bench.engine.canaries_disclosed().is_none());
    let bench = with_canaries(db).await;
    assert_eq!(canary(&bench).await, None);
    // A switch anywhere.
    waiting_note(&bench).await;
    let operator = human(8, &[Role::ItAdmin, Role::Clinician]);
    let scope = ModeScope::Intent("intake".parse().unwrap());
    let switched = bench
        .engine
        .switch_mode(&operator, scope, Mode::WritePaused, "a drill");
    switched.await.unwrap();
    assert_eq!(canary(&bench).await, None);
}

pub(crate) async fn whom_the_ehr_knows_is_no_canary(db: Db) {
    // Named and born like one of the list.
    let bench = with_canaries(db).await;
    for (id, family, birth_date) in [
        ("n1", "Wexcombe", "1971-03-18"),
        ("n2", "Thistlewick", "1951-09-02"),
    ] {
        bench.ehr.put(json!({
            "resourceType": "Patient", "id": id, "birthDate": birth_date, "name": [{ "family": family }],
        }));
    }
    waiting_note(&bench).await;
    assert_eq!(canary(&bench).await, None);
    // Somebody who was given its id since: nothing is shown of either.
    let bench = with_canaries(db).await;
    waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    let by = clinician();
    let content = bench.engine.review(&by, id).await.unwrap().content.unwrap();
    let lines = format!("{:?}", content.expose(ExposedFor::Person).changes);
    let taken = lines.split("Patient/").nth(1).unwrap();
    let taken = taken
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .next();
    bench.ehr.put(json!({
        "resourceType": "Patient", "id": taken.unwrap(), "birthDate": "1999-01-01",
        "name": [{ "family": "Newcomer" }],
    }));
    let content = bench.engine.review(&by, id).await.unwrap().content.unwrap();
    let shown = &content.expose(ExposedFor::Person).patient;
    let nobody = chaperone_engine::views::review::PatientShown::Unavailable;
    assert_eq!(*shown, nobody);
}

pub(crate) async fn nobody_else_finds_out_who_decided_about_a_canary(db: Db) {
    let bench = with_canaries(db).await;
    let real = waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    let (by, other) = (clinician(), human(4, &[Role::Clinician, Role::Him]));
    let engine = &bench.engine;
    for id in [id, real] {
        engine.review(&by, id).await.unwrap();
    }
    engine.claim(&by, id).await.unwrap();
    let mut wrong = request(&bench, id).await;
    wrong.digest = bench.row(real).await.digest.unwrap();
    engine.approve(&by, wrong).await.unwrap_err();
    // What a second factor and a pause leave on an account.
    let row = bench.row(id).await;
    let digest = row.digest.unwrap();
    let account = StreamId::Account(by.account.clone());
    let mut commit = Commit::new(tenant(), bench.clock.now(), (&by).into());
    for event in [
        Event::StepUpPassed { digest },
        Event::Oversight(OversightEvent::Paused {
            limit: PaceLimit::TooFast,
            approvals: 12,
            median_ms: 900,
            until: bench.clock.now(),
        }),
    ] {
        commit.append(account.clone(), Expected::Any, event);
    }
    bench.store.commit(commit).await.unwrap();
    let request = request(&bench, id).await;
    engine.approve(&by, request).await.unwrap();

    // Others: that there was one, and of the account what has nothing to do with it.
    let stream = StreamId::Writeback(id);
    let lines = engine.timeline(&other, &stream).await.unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].actor, "somebody");
    let of_account = async |who: &Human| {
        let lines = engine.timeline(who, &account).await.unwrap();
        let kinds: Vec<String> = lines.into_iter().map(|line| line.kind).collect();
        kinds
    };
    assert_eq!(
        of_account(&other).await,
        ["read_permitted"],
        "the look at the real one stays"
    );
    let telling = [id.to_string(), digest.to_string()];
    let patient = row.patient.unwrap().to_string();
    let size = engine.ledger_page(&other, None).await.unwrap().size;
    let (mut held, mut own) = (0, 0);
    for seq in 0..size {
        let entry = engine.entry(&other, seq).await.unwrap();
        let says = |it: &String| entry.leaf.contains(it.as_str());
        assert!(!telling.iter().any(says), "{}", entry.leaf);
        assert!(
            !(says(&patient) && entry.leaf.contains("person-3")),
            "{}",
            entry.leaf
        );
        if entry.leaf.is_empty() {
            let line = format!("{:?}", entry.entry);
            assert!(!line.contains("person-3"), "{line}");
            held += 1;
        }
        let entry = engine.entry(&by, seq).await.unwrap();
        own += usize::from(telling.iter().any(|it| entry.leaf.contains(it.as_str())));
    }
    assert!(held > 0);
    // Whoever decided has it all, and so has an export.
    assert!(own >= 5, "{own}");
    let lines = engine.timeline(&by, &stream).await.unwrap();
    let shown: Vec<&str> = lines.iter().map(|line| line.kind.as_str()).collect();
    assert_eq!(shown, kinds(&bench, id).await);
    assert!(shown.contains(&"claim.claimed"), "{shown:?}");
    let own = of_account(&by).await;
    for kind in ["step_up_passed", "oversight.paused", "decision_refused"] {
        assert!(own.iter().any(|it| it == kind), "{own:?}");
    }
    while engine.integrate_ledger().await.unwrap() > 0 {}
    let mut export = Vec::new();
    engine.export_ledger(&mut export).await.unwrap();
    let export = String::from_utf8(export).unwrap();
    assert!(export.contains("step_up_passed") && export.contains("claim"));
}

pub(crate) async fn whose_likeness_a_canary_takes_is_looked_at_on_record_and_shown_to_nobody(
    db: Db,
) {
    let bench = with_canaries(db).await;
    bench.ehr.put(json!({
        "resourceType": "Patient", "id": "p1", "birthDate": "1970-02-03",
        "name": [{ "family": "Doe", "given": ["Jane"] }],
        "identifier": [
            { "system": "urn:example:mrn", "value": "DOE-JANE-1970" },
            { "system": "urn:example:short", "value": "DOE-JANE-197" },
            { "system": "urn:example:other", "value": "ДЖЕЙН-1970" },
        ],
    }));
    let real = waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    let by = clinician();
    let content = bench.engine.review(&by, id).await.unwrap().content.unwrap();
    let PatientShown::Known(header) = &content.expose(ExposedFor::Person).patient else {
        panic!("the invented patient is shown")
    };
    let identifiers = &header.expose(ExposedFor::Person).identifiers;
    let [(_, value)] = identifiers.as_slice() else {
        panic!("{identifiers:?}")
    };
    assert!(
        value.len() == 13 && value.chars().nth(3) == Some('-'),
        "{value}"
    );
    assert!(!value.contains("DOE") && !value.contains("JANE"), "{value}");
    // The look at them, by the part that looked.
    let stream = StreamId::Oversight;
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let [look] = events.as_slice() else {
        panic!("{events:?}")
    };
    let part = SystemPart::Oversight;
    assert_eq!(look.actor, Actor::System { part });
    let Event::ReadPermitted(ceiling) = &look.event else {
        panic!("{look:?}")
    };
    assert_eq!(ceiling.patient, bench.row(real).await.patient);
    assert_eq!(ceiling.fields, ["id", "identifier"]);
    // It says that a canary comes next: for exports, and for nobody at the console.
    assert!(
        bench
            .engine
            .timeline(&by, &stream)
            .await
            .unwrap()
            .is_empty()
    );
    let entry = bench.engine.entry(&by, look.seq).await.unwrap();
    assert!(entry.leaf.is_empty());
    let line = format!("{:?}", entry.entry);
    assert!(!line.contains("Oversight"), "{line}");
}

pub(crate) async fn a_canary_is_taken_back_when_there_is_other_work(db: Db) {
    let taken_back = async |bench: &Bench, id: WritebackId, why: &str| {
        assert_eq!(bench.engine.tend_canaries().await.unwrap(), 1, "{why}");
        assert_eq!(bench.state(id).await, StateName::CanarySettled);
        let stream = StreamId::Writeback(id);
        let events = bench.store.stream(&tenant(), &stream).await.unwrap();
        let last = serde_json::to_value(&events.last().unwrap().event).unwrap();
        assert_eq!(last["why"], why, "{last}");
        // Nobody can decide about it any more, and it counts for nothing.
        let by = clinician();
        let late = bench.engine.approve(&by, request(bench, id).await).await;
        let late = late.unwrap_err();
        assert!(matches!(late, DecideFailed::Refused(_)), "{late}");
        assert!(bench.engine.vigilance().await.unwrap().is_empty());
    };
    // A switch.
    let bench = with_canaries(db).await;
    waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    assert_eq!(bench.engine.tend_canaries().await.unwrap(), 0);
    let operator = human(8, &[Role::ItAdmin, Role::Clinician]);
    let tenant_wide = ModeScope::Tenant;
    let switched = bench
        .engine
        .switch_mode(&operator, tenant_wide, Mode::ReadOnly, "a drill");
    switched.await.unwrap();
    taken_back(&bench, id, "mode").await;
    // Before anybody is reminded of it.
    let bench = with_canaries(db).await;
    waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    bench.clock.advance_s(4 * 3_600 - 1);
    assert_eq!(bench.engine.tend_canaries().await.unwrap(), 0);
    bench.clock.advance_s(1);
    taken_back(&bench, id, "expired").await;
    // Too much to do: ten may wait, and the eleventh is too many.
    let bench = with_canaries(db).await;
    waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    let scribe = bench
        .caller(&clinician(), "scribe-agent", "draft-note", "p1")
        .await;
    let read = bench.call(&scribe, "list_encounters", json!({})).await;
    for n in 2..=11 {
        assert_eq!(bench.engine.tend_canaries().await.unwrap(), 0, "{n}");
        let note = json!({
            "idempotency_key": format!("n{n}"), "encounter_token": read["resources"][0]["id"],
            "text": "Seen for a visit. Plan unchanged.",
        });
        bench.call(&scribe, "draft_note", note).await;
    }
    taken_back(&bench, id, "busy").await;
    // Switched off.
    let mut bench = with_canaries(db).await;
    waiting_note(&bench).await;
    let id = canary(&bench).await.unwrap();
    bench.restart(|_| ()).await;
    taken_back(&bench, id, "switched_off").await;
}
