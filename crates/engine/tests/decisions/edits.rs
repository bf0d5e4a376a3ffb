//! A person changes what an agent proposed: the change goes the whole way of a proposal, takes the other's place, and
//! needs its own approval. Beside each thing that a change may do, the nearest that it may not. On both databases.

use chaperone_core::event::{DecisionKind, Event, StreamId};
use chaperone_core::evidence::{Strategy, WriteOrder};
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::{OverrideReason, WritebackId};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::phi::ExposedFor;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{RefusedBy, StateName, WritebackEvent};
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::edit::{EditFailed, EditRequest};
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::views::review::ReviewContent;
use serde_json::{Value, json};

use crate::bench::*;
use crate::plausible::{clinician, id_of, order, well_and_allergic};
use crate::retention::factor_for;
use crate::reviews::waiting_note;

const WHY: &str = "her kidneys are weak, so less of it";

async fn edit(
    bench: &Bench,
    by: &Human,
    id: WritebackId,
    inputs: &[(&str, &str)],
) -> Result<WritebackId, EditFailed> {
    let request = EditRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        inputs: inputs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
        reason: WHY.to_owned(),
    };
    bench.engine.edit(by, request).await.map(|row| row.id)
}

async fn approve(
    bench: &Bench,
    by: &Human,
    id: WritebackId,
    with_factor_for: Option<WritebackId>,
) -> Result<StateName, DecideFailed> {
    let step_up = match with_factor_for {
        Some(about) => {
            let digest = bench.row(about).await.digest.unwrap();
            let subject = json!({ "for": "approval", "writeback": about });
            let (store, clock) = (bench.store.as_ref(), bench.clock.as_ref());
            Some(factor_for(store, clock, by, digest, subject).await)
        }
        None => None,
    };
    let request = ApproveRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        step_up,
        override_reason: Some(OverrideReason::new("benefit-outweighs").unwrap()),
        review_ms: 5_000,
    };
    bench.engine.approve(by, request).await.map(|row| row.state)
}

async fn order_of(bench: &Bench, id: WritebackId) -> WriteOrder {
    serde_json::from_slice(&bench.engine.order_bytes(id).await.unwrap()).unwrap()
}

async fn content(bench: &Bench, by: &Human, id: WritebackId) -> ReviewContent {
    let review = bench.engine.review(by, id).await.unwrap();
    review.content.unwrap().into_exposed(ExposedFor::Person)
}

async fn status(bench: &Bench, by: &Caller, id: WritebackId) -> Value {
    let asked = json!({ "proposal": id });
    bench.call(by, "check_proposal_status", asked).await
}

/// Codes of refused edits, in order.
async fn refused(bench: &Bench) -> Vec<String> {
    let code = |event: Event| match event {
        Event::DecisionRefused {
            decision: DecisionKind::Edit,
            code,
            ..
        } => Some(code),
        _ => None,
    };
    let events = bench.recorded().await.into_iter();
    events.filter_map(|it| code(it.event)).collect()
}

pub(crate) async fn what_an_agent_proposed_is_changed_and_approved_as_it_then_is(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (well, _) = well_and_allergic(&bench).await;
    let asked = order(&bench, &well, "dose", 20.0).await;
    let old = id_of(&asked);
    let shown = content(&bench, &clinician(), old).await;
    let fields: Vec<_> = shown
        .edit
        .iter()
        .map(|it| (it.name.as_str(), it.value.as_str()))
        .collect();
    // What it refers to is not among them.
    assert_eq!(
        fields,
        [
            ("dose", "20.0"),
            ("frequency", "1"),
            ("period_unit", "d"),
            ("route", "26643006"),
            ("unit", "mg"),
        ]
    );
    let whole_form: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (*name, if *name == "dose" { "15" } else { value }))
        .collect();
    let new = edit(&bench, &clinician(), old, &whole_form).await.unwrap();

    // The one ended in the commit in which the other began.
    let (before, after) = (bench.row(old).await, bench.row(new).await);
    assert_eq!(before.state, StateName::Refused);
    assert_eq!(before.edited_into, Some(new));
    assert_eq!(after.state, StateName::AwaitingApproval);
    assert_eq!(after.gate.unwrap().level(), GateLevel::Approve2f);
    assert_eq!(
        (after.patient, &after.agent, &after.tool, after.envelope),
        (before.patient, &before.agent, &before.tool, before.envelope)
    );
    assert!(after.approvers.is_empty() && after.requester == before.requester);
    let events = bench.recorded().await;
    let at = |is: &dyn Fn(&Event) -> bool| events.iter().find(|it| is(&it.event)).unwrap();
    let ended = at(&|event| {
        matches!(event, Event::Writeback(WritebackEvent::Refused {
            refused: RefusedBy::Edited { into, person, .. },
        }) if *into == new && *person == clinician().person)
    });
    let began = at(
        &|event| matches!(event, Event::Writeback(WritebackEvent::Proposed(it)) if it.id == new),
    );
    assert_eq!(ended.at, began.at);
    assert_eq!(ended.actor, began.actor);
    let (first, second) = (order_of(&bench, old).await, order_of(&bench, new).await);
    let link = second.edit.clone().unwrap();
    assert_eq!((link.of, link.digest), (old, before.digest.unwrap()));
    assert_eq!(link.person, clinician().person);
    assert!(first.edit.is_none());
    let dose = |order: &WriteOrder| {
        let body: Value = serde_json::from_str(&order.body).unwrap();
        body["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["value"].clone()
    };
    assert_eq!((dose(&first), dose(&second)), (json!(20.0), json!(15)));

    // The agent hears of it, and proposes it no second time.
    let told = status(&bench, &well.0, old).await;
    assert_eq!(told["state"], "refused");
    assert_eq!(told["reason"], "edited");
    assert_eq!(told["edited_into"], json!(new));
    assert_eq!(
        status(&bench, &well.0, new).await["state"],
        "awaiting_approval"
    );
    let again = order(&bench, &well, "dose", 20.0).await;
    assert_eq!(again["edited_into"], json!(new), "{again}");

    // Whoever decides sees what was changed, why, and what the agent had said.
    let shown = content(&bench, &clinician(), new).await;
    let edited = shown.edited.unwrap();
    assert_eq!((edited.of, edited.reason.as_str()), (old, WHY));
    assert_eq!(edited.by, clinician().account.to_string());
    let lines: Vec<_> = edited
        .diff
        .iter()
        .map(|it| (it.path.as_str(), it.before.as_deref(), it.after.as_deref()))
        .collect();
    assert_eq!(lines[0], ("dose", Some("20.0"), Some("15")));
    assert!(
        lines.len() == 2 && lines[1].0.contains("doseQuantity"),
        "{lines:?}"
    );
    for recorded in &events {
        let leaf = String::from_utf8(recorded.to_leaf().unwrap()).unwrap();
        assert!(!leaf.contains("kidneys"), "{leaf}");
    }

    // Nothing given for the one counts for the other, and one of them at most is sent.
    let late = approve(&bench, &clinician(), old, Some(old)).await;
    assert!(matches!(late, Err(DecideFailed::Refused(_))), "{late:?}");
    let without = approve(&bench, &clinician(), new, None).await;
    assert_eq!(without.unwrap_err().code(), "second-factor-required");
    let with_old = approve(&bench, &clinician(), new, Some(old)).await;
    assert!(
        matches!(with_old, Err(DecideFailed::StepUp)),
        "{with_old:?}"
    );
    let done = approve(&bench, &clinician(), new, Some(new)).await;
    assert_eq!(done.unwrap(), StateName::Ready);
    bench.deliver().await;
    bench.deliver().await;
    assert_eq!(bench.state(new).await, StateName::Delivered);
    let written = bench.ehr.written();
    let orders: Vec<_> = written
        .iter()
        .filter(|(id, _)| [old, new].contains(id))
        .collect();
    assert_eq!(orders.len(), 1, "{written:?}");
    let replayed = bench
        .engine
        .replay(new, bench.engine.bundle())
        .await
        .unwrap();
    assert!(replayed.is_same());
}

pub(crate) async fn what_a_change_may_not_do_is_refused_and_changes_nothing(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (well, _) = well_and_allergic(&bench).await;
    let id = id_of(&order(&bench, &well, "dose", 20.0).await);
    let colleague = human(5, &[Role::Clinician]);
    let rows = async || {
        bench
            .recorded()
            .await
            .iter()
            .filter(|it| matches!(it.event, Event::Writeback(WritebackEvent::Proposed(_))))
            .count()
    };
    let before = rows().await;
    let token = order_of(&bench, id).await.call.unwrap().inputs["prior"].clone();
    let token = token.as_str().unwrap();
    let last = if token.ends_with('0') { '1' } else { '0' };
    let other = format!("{}{last}", &token[..35]);
    for (by, inputs, expected) in [
        // Not theirs to decide.
        (
            &human(9, &[Role::Scheduler]),
            vec![("dose", "15")],
            "role-not-permitted",
        ),
        // No clinician who treats the patient, where the matrix asks for one.
        (&colleague, vec![("dose", "15")], "clinician-not-present"),
        (&clinician(), vec![], "unchanged"),
        (&clinician(), vec![("dose", "20.0")], "unchanged"),
        // Only inputs of the tool, in their form, and nothing that it refers to.
        (&clinician(), vec![("status", "draft")], "invalid-argument"),
        (&clinician(), vec![("patient", "p2")], "invalid-argument"),
        (
            &clinician(),
            vec![("prior", other.as_str())],
            "invalid-argument",
        ),
        (&clinician(), vec![("dose", "a little")], "invalid-argument"),
        (&clinician(), vec![("dose", "")], "invalid-argument"),
        (&clinician(), vec![("unit", "kg")], "invalid-argument"),
        // What an agent could not order, nobody makes of an order.
        (&clinician(), vec![("dose", "200")], "implausible"),
    ] {
        let failed = edit(&bench, by, id, &inputs).await.unwrap_err();
        assert_eq!(failed.code(), expected, "{inputs:?}: {failed}");
    }
    let said = refused(&bench).await;
    assert_eq!(said.len(), 11, "{said:?}");
    // Without a reason, and of something else than was on the screen.
    let mut request = EditRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        inputs: [("dose".to_owned(), "15".to_owned())].into(),
        reason: "x".to_owned(),
    };
    let failed = bench
        .engine
        .edit(&clinician(), request.clone())
        .await
        .unwrap_err();
    assert_eq!(failed.code(), "reason-needed");
    request.digest = chaperone_core::digest::Digest::of_bytes(b"before");
    request.reason = WHY.to_owned();
    let failed = bench.engine.edit(&clinician(), request).await.unwrap_err();
    assert_eq!(failed.code(), "approval-payload-mismatch");
    // While somebody else has it in hand, and while a switch stops proposals.
    bench.engine.claim(&colleague, id).await.unwrap();
    let failed = edit(&bench, &clinician(), id, &[("dose", "15")]).await;
    assert_eq!(failed.unwrap_err().code(), "claimed-by-another");
    bench.engine.release_claim(&colleague, id).await.unwrap();
    let switch = async |mode: Mode| {
        let admin = human(30, &[Role::ItAdmin, Role::Clinician]);
        let scope = ModeScope::Tenant;
        bench
            .engine
            .switch_mode(&admin, scope, mode, "a drill of the switches")
            .await
            .unwrap();
        bench.clock.advance_s(6);
    };
    switch(Mode::ReadOnly).await;
    let failed = edit(&bench, &clinician(), id, &[("dose", "15")]).await;
    assert_eq!(failed.unwrap_err().code(), "read-only");
    switch(Mode::Normal).await;
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    assert_eq!(rows().await, before, "nothing was proposed");
    // Once approved it is what was approved; nobody changes it on its way.
    approve(&bench, &clinician(), id, Some(id)).await.unwrap();
    let failed = edit(&bench, &clinician(), id, &[("dose", "15")]).await;
    assert_eq!(failed.unwrap_err().code(), "not-now");
    // Nor after its time.
    let late = id_of(&order(&bench, &well, "late", 20.0).await);
    bench.clock.advance_s(48 * 3_600);
    let failed = edit(&bench, &clinician(), late, &[("dose", "15")]).await;
    assert_eq!(failed.unwrap_err().code(), "approval-expired");
    assert_eq!(rows().await, before + 1);
}

pub(crate) async fn a_change_never_needs_less_than_what_it_takes_the_place_of(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (_, allergic) = well_and_allergic(&bench).await;
    let old = id_of(&order(&bench, &allergic, "dose", 20.0).await);
    assert_eq!(
        bench.row(old).await.gate.unwrap().level(),
        GateLevel::TwoPerson
    );
    // The allergy turns out to be somebody else's: alone, the same order would need one person now.
    bench.ehr.put(json!({
        "resourceType": "AllergyIntolerance", "id": "allergy-p2", "category": ["medication"],
        "patient": { "reference": "Patient/p1" }, "code": { "text": "lisinopril" },
    }));
    let alone = id_of(&order(&bench, &allergic, "alone", 15.0).await);
    assert_eq!(
        bench.row(alone).await.gate.unwrap().level(),
        GateLevel::Approve2f
    );
    let new = edit(&bench, &clinician(), old, &[("dose", "15")])
        .await
        .unwrap();
    let review = bench.engine.review(&clinician(), new).await.unwrap();
    let ruling = review.ruling.unwrap();
    assert_eq!(ruling.gate.level(), GateLevel::TwoPerson);
    assert_eq!(
        ruling.raised_by.last().unwrap().as_str(),
        "no-lighter-than-before"
    );
    // Whoever changed it is neither of the two, whatever their roles.
    let both = Human {
        roles: vec![Role::Clinician, Role::Pharmacist],
        ..clinician()
    };
    let done = approve(&bench, &both, new, Some(new)).await;
    assert_eq!(done.unwrap_err().code(), "same-person");
    let pharmacist = human(8, &[Role::Pharmacist]);
    approve(&bench, &pharmacist, new, None).await.unwrap();
    let other = human(5, &[Role::Clinician]);
    let done = approve(&bench, &other, new, Some(new)).await;
    assert_eq!(done.unwrap(), StateName::Ready);
}

pub(crate) async fn a_note_is_changed_by_a_colleague_and_taint_stays(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let old = waiting_note(&bench).await;
    let colleague = human(5, &[Role::Clinician]);
    // Long after its envelope.
    bench.clock.advance_s(3_600);
    let shown = content(&bench, &colleague, old).await;
    let text = shown.edit.iter().find(|it| it.name == "text").unwrap();
    assert_eq!(text.value, "Seen for a visit. Plan unchanged.");
    for (inputs, expected) in [
        (
            vec![("text", "Seen with [NAME-1234567].")],
            "invalid-argument",
        ),
        (vec![("text", "")], "invalid-argument"),
        (vec![("kind", "99999-9")], "invalid-argument"),
    ] {
        let failed = edit(&bench, &colleague, old, &inputs).await.unwrap_err();
        assert_eq!(failed.code(), expected, "{inputs:?}");
    }
    let new = edit(
        &bench,
        &colleague,
        old,
        &[("text", "Seen for a visit.\r\nPlan: less salt.")],
    )
    .await
    .unwrap();
    let shown = content(&bench, &colleague, new).await;
    assert_eq!(
        shown.changes[0].documents,
        ["Seen for a visit.\nPlan: less salt."]
    );
    // Changed once more, it is compared with what the agent had proposed.
    let third = edit(&bench, &clinician(), new, &[("text", "Plan: less salt.")])
        .await
        .unwrap();
    let shown = content(&bench, &colleague, third).await.edited.unwrap();
    assert_eq!(shown.of, new);
    assert_eq!(
        shown.diff[0].before.as_deref(),
        Some("Seen for a visit. Plan unchanged.")
    );
    let link = order_of(&bench, third).await.edit.unwrap();
    assert_eq!(link.earlier, [colleague.person]);
    assert_eq!(
        bench.row(third).await.editors,
        [colleague.person, clinician().person]
    );
    // Of a change and an approval at once, one happens.
    let digest = bench.row(third).await.digest.unwrap();
    let by = clinician();
    let (approved, edited) = futures::join!(
        approve(&bench, &colleague, third, None),
        edit(&bench, &by, third, &[("text", "Other.")])
    );
    assert_ne!(approved.is_ok(), edited.is_ok(), "{approved:?} {edited:?}");
    assert_eq!(bench.row(third).await.digest, Some(digest));
    // What is changed too often is rejected.
    let mut last = waiting_note_again(&bench).await;
    for n in 0..5 {
        let text = format!("Version {n}.");
        last = edit(&bench, &colleague, last, &[("text", &text)])
            .await
            .unwrap();
    }
    let failed = edit(&bench, &colleague, last, &[("text", "One more.")]).await;
    assert_eq!(failed.unwrap_err().code(), "edited-too-often");
    assert!(content(&bench, &colleague, last).await.edit.is_empty());
}

/// Another note that waits, tainted by nothing.
async fn waiting_note_again(bench: &Bench) -> WritebackId {
    let scribe = bench
        .caller(&clinician(), "scribe-agent", "draft-note", "p1")
        .await;
    let read = bench.call(&scribe, "list_encounters", json!({})).await;
    let note = json!({
        "idempotency_key": "another", "encounter_token": read["resources"][0]["id"], "text": "Seen again.",
    });
    id_of(&bench.call(&scribe, "draft_note", note).await)
}

pub(crate) async fn what_came_from_outside_stays_marked_and_a_change_counts_as_a_no(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(json!({
        "resourceType": "DocumentReference", "id": "d1", "status": "current",
        "subject": { "reference": "Patient/p1" },
    }));
    let reader = bench
        .caller(&clinician(), "order-agent", "chart-summary", "p1")
        .await;
    let read = bench.call(&reader, "list_documents", json!({})).await;
    let document = read["resources"][0]["id"].clone();
    let agent = bench
        .caller(&clinician(), "refill-agent", "refill-request", "p1")
        .await;
    let old = bench.task(&agent, "1", json!([document])).await.id;
    let decider = human(3, &[Role::MaRn]);
    let new = edit(
        &bench,
        &decider,
        old,
        &[("summary", "Call her back on Monday.")],
    )
    .await
    .unwrap();
    let row = bench.row(new).await;
    assert!(row.tainted, "its source is still a text from outside");
    assert_eq!(row.gate.unwrap().level(), GateLevel::Approve);
    assert_eq!(content(&bench, &decider, new).await.sources.len(), 1);
    approve(&bench, &decider, new, None).await.unwrap();
    bench.deliver().await;
    assert_eq!(bench.state(new).await, StateName::Delivered);
    // Oversight counts the change as a no to the agent, and nothing for what the person wrote.
    bench.engine.follow_oversight(u64::MAX).await.unwrap();
    let view = bench.engine.oversight(None).await.unwrap();
    let tally = view.tallies.iter().find(|it| it.tool.is_some()).unwrap();
    assert_eq!((tally.right, tally.wrong), (0, 1));
    // What was folded from the events is what is there.
    let stream = StreamId::Writeback(old);
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    assert!(matches!(
        events.last().unwrap().event,
        Event::Writeback(WritebackEvent::Refused { .. })
    ));
}
