//! What is kept long enough goes, with a receipt; what is in work, in use or on hold stays. Each beside its nearest
//! neighbour, on both databases.

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{HoldId, PatientToken, StepUpId, WritebackId};
use chaperone_core::phi::ExposedFor;
use chaperone_core::ports::{
    Clock, Commit, PayloadClass, PayloadListing, PayloadRow, Record, RecordChange, Store,
};
use chaperone_core::principal::{Actor, Human, Role, SystemPart};
use chaperone_core::retention::RetentionEvent;
use chaperone_core::writeback::StateName;
use chaperone_engine::Engine;
use chaperone_engine::audit::who_saw::WhoSawQuestion;
use chaperone_engine::audit::{Asker, Span};
use chaperone_engine::retention::holds::{HoldChange, HoldFailed};
use chaperone_engine::retention::sweep::{SweepOptions, Swept};
use serde_json::{Value, json};

use crate::bench::{Bench, Db, bench_on, human, nurse, show, tenant};

const DAY_S: i64 = 24 * 3_600;
pub(crate) const YEAR_S: i64 = 366 * DAY_S;

pub(crate) fn privacy() -> Human {
    human(8, &[Role::Privacy])
}

pub(crate) async fn payloads(store: &dyn Store, class: PayloadClass) -> Vec<PayloadRow> {
    let listing = PayloadListing {
        class,
        key: None,
        before: Timestamp::MAX,
        after: None,
        limit: 1_000,
    };
    store.payloads(&tenant(), listing).await.unwrap()
}

/// How many payloads there are of each class, without the operators' texts.
async fn counted(bench: &Bench) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for class in PayloadClass::ALL {
        if class != PayloadClass::Operational {
            let found = payloads(bench.store.as_ref(), class).await.len();
            counts.insert(class.as_str(), found);
        }
    }
    counts
}

fn counts(of: [(&'static str, usize); 4]) -> BTreeMap<&'static str, usize> {
    BTreeMap::from(of)
}

async fn sweep(bench: &Bench) -> Swept {
    let options = SweepOptions::default();
    bench.engine.sweep_retention(options).await.unwrap()
}

/// A note that waits for a clinician.
pub(crate) async fn note(bench: &Bench, key: &str) -> WritebackId {
    bench.ehr.put(json!({
        "resourceType": "Encounter", "id": "e1", "status": "in-progress",
        "class": { "code": "AMB" }, "subject": { "reference": "Patient/p1" },
    }));
    let clinician = human(2, &[Role::Clinician]);
    let scribe = bench
        .caller(&clinician, "scribe-agent", "draft-note", "p1")
        .await;
    let read = bench.call(&scribe, "list_encounters", json!({})).await;
    let note = json!({
        "idempotency_key": key, "encounter_token": read["resources"][0]["id"],
        "text": "Seen for a visit. Plan unchanged.",
    });
    let answer = bench.call(&scribe, "draft_note", note).await;
    assert_eq!(answer["state"], "awaiting_approval");
    answer["proposal"].as_str().unwrap().parse().unwrap()
}

pub(crate) async fn reject(bench: &Bench, id: WritebackId) {
    let digest = bench.row(id).await.digest.unwrap();
    let clinician = human(3, &[Role::Clinician]);
    let rejected = bench
        .engine
        .reject(&clinician, id, digest, "not what was said")
        .await;
    assert_eq!(rejected.unwrap().state, StateName::Refused);
}

/// A task that the EHR has, about a patient.
pub(crate) async fn delivered(
    bench: &Bench,
    patient: &str,
    key: &str,
) -> (WritebackId, PatientToken) {
    // The last report may be years old.
    show(&bench.engine, &bench.ehr).await;
    let agent = bench
        .caller(&nurse(), "intake-agent", "intake", patient)
        .await;
    let row = bench.task(&agent, key, json!([])).await;
    bench.deliver().await;
    assert_eq!(bench.state(row.id).await, StateName::Delivered);
    (row.id, row.patient.unwrap())
}

async fn receipts(bench: &Bench) -> Vec<Recorded> {
    let all = bench.recorded().await;
    let is_receipt =
        |it: &Recorded| matches!(it.event, Event::Retention(RetentionEvent::Deleted(_)));
    all.into_iter().filter(is_receipt).collect()
}

pub(crate) async fn a_class_goes_when_its_time_is_up_and_leaves_a_receipt(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (kept, _) = delivered(&bench, "p1", "one").await;
    let draft = note(&bench, "two").await;
    reject(&bench, draft).await;
    let before = counted(&bench).await;
    assert_eq!(
        before,
        counts([
            ("approval_note", 1),
            ("clinical", 3),
            ("derived", before["derived"]),
            ("transcript", 2),
        ])
    );

    // A day before its time nothing of the draft goes; a day after, what the agent said does.
    bench.clock.advance_s(89 * DAY_S);
    sweep(&bench).await;
    assert_eq!(counted(&bench).await, before);
    bench.clock.advance_s(2 * DAY_S);
    let dry = SweepOptions {
        dry_run: true,
        ..SweepOptions::default()
    };
    let foretold = bench.engine.sweep_retention(dry).await.unwrap();
    assert_eq!(counted(&bench).await, before);
    let swept = sweep(&bench).await;
    assert_eq!(foretold.went, swept.went);
    assert_eq!(swept.went["transcript-undelivered"], 1);
    assert_eq!(counted(&bench).await["transcript"], 1);
    // And once is enough.
    assert_eq!(sweep(&bench).await.went, BTreeMap::new());

    // The receipt stands on the write-back's stream, names rule and payload, and is true.
    let mut made = receipts(&bench).await;
    made.retain(|it| it.stream == StreamId::Writeback(draft));
    assert_eq!(made.len(), 1);
    let checked = bench.engine.check_receipt(made[0].seq).await.unwrap();
    assert!(checked.is_true(), "{checked:?}");
    assert_eq!(checked.deletion.rule, "transcript-undelivered");
    assert_eq!(checked.deletion.payloads.len(), 1);
    assert!(matches!(
        made[0].actor,
        Actor::System {
            part: SystemPart::Retention
        }
    ));
    assert!(bench.engine.check_receipt(0).await.is_err());

    // A year on, the draft itself is gone, and what was delivered is there with all that belongs to it.
    bench.clock.advance_s(YEAR_S);
    sweep(&bench).await;
    let after = counted(&bench).await;
    assert_eq!((after["clinical"], after["approval_note"]), (2, 1));
    assert!(bench.engine.order_bytes(kept).await.is_ok());
    assert!(bench.engine.order_bytes(draft).await.is_err());
    // The reviewer is told, and everything else of the page stands.
    let review = bench
        .engine
        .review(&human(3, &[Role::Clinician]), draft)
        .await
        .unwrap();
    assert!(
        review
            .deleted
            .iter()
            .any(|it| it.contains("clinical-undelivered")),
        "{:?}",
        review.deleted
    );
    let content = review.content.unwrap();
    let words = &content.expose(ExposedFor::Person).words;
    assert_eq!(words.expose(ExposedFor::Person), "");
    let kept_review = bench.engine.review(&nurse(), kept).await.unwrap();
    assert!(
        kept_review
            .deleted
            .iter()
            .all(|it| !it.contains("clinical"))
    );

    // Six years for what people wrote, ten for the order; then nothing is left but the ledger.
    bench.clock.advance_s(5 * YEAR_S);
    sweep(&bench).await;
    let after = counted(&bench).await;
    assert_eq!((after["clinical"], after["approval_note"]), (2, 0));
    assert_eq!(after["derived"], 0);
    bench.clock.advance_s(5 * YEAR_S);
    sweep(&bench).await;
    assert_eq!(
        counted(&bench).await,
        counts([
            ("approval_note", 0),
            ("clinical", 0),
            ("derived", 0),
            ("transcript", 0),
        ])
    );
    projections_still_stand(&bench, kept).await;
}

/// The ledger verifies, rows are what the events say, and questions have answers, with the payloads gone.
pub(crate) async fn projections_still_stand(bench: &Bench, id: WritebackId) {
    let agreement = chaperone_engine::projection::examine(bench.store.as_ref(), &tenant())
        .await
        .unwrap();
    assert!(agreement.is_whole(), "{agreement:?}");
    bench.engine.rebuild_projections().await.unwrap();
    let again = chaperone_engine::projection::examine(bench.store.as_ref(), &tenant())
        .await
        .unwrap();
    assert!(again.is_whole(), "{again:?}");
    verifies(bench.engine.as_ref()).await;
    let patient = bench.row(id).await.patient.unwrap();
    let privacy = privacy();
    let asker = Asker::Human(&privacy);
    let question = WhoSawQuestion::default();
    let seen = bench
        .engine
        .who_saw(asker, patient, &question)
        .await
        .unwrap();
    assert!(seen.accesses.iter().any(|it| it.did == "write"));
    bench
        .engine
        .accounting(asker, patient, Span::default())
        .await
        .unwrap();
    let mut out = Vec::new();
    let export = chaperone_engine::audit::export::AuditExport {
        span: Span::default(),
        patient: None,
        format: chaperone_engine::audit::export::AuditFormat::Ndjson,
    };
    bench
        .engine
        .export_audit_events(asker, export, &mut out)
        .await
        .unwrap();
    for line in String::from_utf8(out).unwrap().lines() {
        let event = serde_json::from_str(line).unwrap();
        let wrong = crate::audit_kinds::wrong_with(&event);
        assert_eq!(wrong, Vec::<String>::new(), "{line}");
    }
}

/// The ledger can be exported, and the export verifies offline.
pub(crate) async fn verifies(engine: &Engine) {
    while engine.integrate_ledger().await.unwrap() > 0 {}
    let mut file = Vec::new();
    let entries = engine.export_ledger(&mut file).await.unwrap();
    let options = chaperone_ledger::verify::VerifyOptions::default();
    let report = chaperone_ledger::verify::verify_export(&file[..], &options);
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.entries, entries);
}

pub(crate) async fn what_is_in_work_or_in_use_stays(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let waiting = note(&bench, "waits").await;
    let ended = note(&bench, "ends").await;
    reject(&bench, ended).await;
    let of = async |id: WritebackId| {
        let mut found = Vec::new();
        for class in PayloadClass::ALL {
            found.extend(payloads(bench.store.as_ref(), class).await);
        }
        found.retain(|row| row.writeback == Some(id));
        found.len()
    };
    let (of_waiting, of_ended) = (of(waiting).await, of(ended).await);
    assert!(of_waiting > 1 && of_ended > 1);
    // Nobody ever decided, and nobody ended it: however long ago, it is not at its end.
    bench.clock.advance_s(12 * YEAR_S);
    let swept = sweep(&bench).await;
    assert_eq!(of(waiting).await, of_waiting);
    assert_eq!(of(ended).await, 0);
    assert_eq!(
        swept.in_use,
        of_waiting as u64 + 1,
        "and the conformance report in force"
    );
    // Once it has ended, its time runs from then on.
    bench.deliver().await;
    assert_eq!(bench.state(waiting).await, StateName::Refused);
    sweep(&bench).await;
    assert_eq!(of(waiting).await, of_waiting);
    bench.clock.advance_s(YEAR_S);
    sweep(&bench).await;
    assert_eq!(of(waiting).await, 0);
    // The report that lets it write is still there.
    assert_eq!(
        payloads(bench.store.as_ref(), PayloadClass::Operational)
            .await
            .len(),
        1
    );
}

pub(crate) async fn a_sweep_that_cannot_be_recorded_deletes_nothing(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let faulty = bench.behind_a_faulty_store().await;
    show(&bench.engine, &bench.ehr).await;
    let (id, _) = delivered(&bench, "p1", "one").await;
    let before = counted(&bench).await;
    bench.clock.advance_s(12 * YEAR_S);
    faulty.refuse_commits(true);
    let refused = bench.engine.sweep_retention(SweepOptions::default()).await;
    assert!(refused.is_err());
    faulty.refuse_commits(false);
    assert_eq!(counted(&bench).await, before);
    assert!(receipts(&bench).await.is_empty());
    // Whether it happened is not known: it happened whole, and the next sweep finds the rest.
    faulty.lose_next_answer();
    assert!(
        bench
            .engine
            .sweep_retention(SweepOptions::default())
            .await
            .is_err()
    );
    let made = receipts(&bench).await;
    let gone: u64 = before.values().sum::<usize>() as u64
        - counted(&bench).await.values().sum::<usize>() as u64;
    let of_writeback = made
        .iter()
        .filter(|it| it.stream == StreamId::Writeback(id));
    let said: u64 = of_writeback
        .map(|it| match &it.event {
            Event::Retention(RetentionEvent::Deleted(deletion)) => deletion.count,
            _ => 0,
        })
        .sum();
    assert_eq!(said, gone);
    sweep(&bench).await;
    assert_eq!(counted(&bench).await.values().sum::<usize>(), 0);
    projections_still_stand(&bench, id).await;
}

pub(crate) async fn a_minors_record_stays_until_majority_and_more(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let birth = bench.clock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    bench.ehr.put(json!({
        "resourceType": "Patient", "id": "baby", "birthDate": birth.to_string(),
    }));
    let (grown, _) = delivered(&bench, "p1", "grown").await;
    let (minor, _) = delivered(&bench, "baby", "minor").await;
    bench.clock.advance_s(11 * YEAR_S);
    // Nobody can say who is a minor while the EHR is down.
    bench.ehr.set_down(true);
    let swept = sweep(&bench).await;
    assert_eq!(swept.waits_for_ehr, 4);
    assert!(bench.engine.order_bytes(grown).await.is_ok());
    bench.ehr.set_down(false);
    sweep(&bench).await;
    assert!(bench.engine.order_bytes(grown).await.is_err());
    assert!(bench.engine.order_bytes(minor).await.is_ok());
    // Eighteen and three years after the birth, and a little.
    bench.clock.advance_s(10 * YEAR_S);
    sweep(&bench).await;
    assert!(bench.engine.order_bytes(minor).await.is_err());
}

pub(crate) async fn records_past_their_end_and_work_that_is_done_are_cleared(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    delivered(&bench, "p1", "one").await;
    let now = bench.clock.now();
    let expired = async || {
        let far = bench
            .clock
            .now()
            .checked_add(jiff::SignedDuration::from_hours(1))
            .unwrap();
        bench
            .store
            .records_expired(&tenant(), far, 1_000)
            .await
            .unwrap()
            .len()
    };
    let done = async || {
        bench
            .store
            .work_done(&tenant(), Timestamp::MAX, 1_000)
            .await
            .unwrap()
            .len()
    };
    let work = done().await;
    assert!(work > 0);
    sweep(&bench).await;
    assert_eq!(done().await, work, "finished just now");
    bench.clock.advance_s(31 * DAY_S);
    assert!(expired().await > 0);
    let swept = sweep(&bench).await;
    assert_eq!((expired().await, done().await), (0, 0));
    assert_eq!(swept.went["work"], work as u64);
    assert!(swept.went.contains_key("idempotency"), "{swept:?}");
    assert!(now < bench.engine.last_sweep().await.unwrap().unwrap().at);
    // What is done keeps its answer: it is the write-back that the ledger has.
    assert_eq!(bench.engine.in_motion().await.unwrap(), 0);
}

/// A second factor that was given for this just now.
pub(crate) async fn factor(
    store: &dyn Store,
    clock: &dyn Clock,
    by: &Human,
    digest: Digest,
) -> StepUpId {
    factor_for(store, clock, by, digest, json!({ "for": "matter" })).await
}

/// The same for what it is to be for.
pub(crate) async fn factor_for(
    store: &dyn Store,
    clock: &dyn Clock,
    by: &Human,
    digest: Digest,
    subject: Value,
) -> StepUpId {
    let now = clock.now();
    let n = digest.as_bytes()[0] ^ (now.as_second() % 251) as u8;
    let id = StepUpId::from_random([n; 16]);
    let mut commit = Commit::new(tenant(), now, by.into());
    let value = json!({ "account": by.account, "person": by.person, "digest": digest,
        "verified_at": now, "tries": 0, "subject": subject });
    commit
        .records
        .push(RecordChange::Put(Record::new("step_up", id, value)));
    store.commit(commit).await.unwrap();
    id
}

pub(crate) async fn change(
    bench: &Bench,
    by: &Human,
    change: HoldChange,
    reason: &str,
) -> Result<HoldId, HoldFailed> {
    let digest = bench.engine.hold_digest(change, reason);
    let step = factor(bench.store.as_ref(), bench.clock.as_ref(), by, digest).await;
    let changed = bench.engine.change_hold(by, change, reason, step).await;
    changed.map(|hold| hold.id)
}

pub(crate) const WHY: &str = "letter of the court of 3 March";

pub(crate) async fn a_hold_keeps_what_it_is_on_until_it_is_released(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (held, patient) = delivered(&bench, "p1", "held").await;
    let (other, _) = delivered(&bench, "p2", "other").await;
    // The privacy officer's alone, with a reason, and a second factor for exactly this.
    let place = HoldChange::Place(Some(patient));
    for role in Role::ALL {
        if role != Role::Privacy {
            let refused = change(&bench, &human(7, &[role]), place, WHY).await;
            assert!(matches!(refused, Err(HoldFailed::NotPermitted)), "{role}");
        }
    }
    let officer = privacy();
    assert!(matches!(
        change(&bench, &officer, place, "because").await,
        Err(HoldFailed::ReasonUnfit)
    ));
    let digest = bench.engine.hold_digest(HoldChange::Place(None), WHY);
    let elsewhere = factor(bench.store.as_ref(), bench.clock.as_ref(), &officer, digest).await;
    let refused = bench
        .engine
        .change_hold(&officer, place, WHY, elsewhere)
        .await;
    assert!(matches!(refused, Err(HoldFailed::StepUp)));
    let stranger = HoldChange::Place(Some(PatientToken::from_random([9; 16])));
    assert!(matches!(
        change(&bench, &officer, stranger, WHY).await,
        Err(HoldFailed::UnknownPatient)
    ));
    assert!(bench.engine.legal_holds().await.unwrap().all().is_empty());

    let hold = change(&bench, &officer, place, WHY).await.unwrap();
    bench.clock.advance_s(12 * YEAR_S);
    let swept = sweep(&bench).await;
    assert!(swept.held > 0);
    assert!(bench.engine.order_bytes(held).await.is_ok());
    assert!(bench.engine.order_bytes(other).await.is_err());
    let in_force = bench.engine.legal_holds().await.unwrap();
    let reason = bench.engine.hold_reason(&in_force.all()[0]).await;
    assert_eq!(reason.as_deref(), Some(WHY));

    // One on everything keeps the rest; releasing one leaves the other.
    let (late, _) = delivered(&bench, "p2", "late").await;
    let all = change(&bench, &officer, HoldChange::Place(None), WHY)
        .await
        .unwrap();
    change(&bench, &officer, HoldChange::Release(hold), WHY)
        .await
        .unwrap();
    bench.clock.advance_s(12 * YEAR_S);
    assert_eq!(sweep(&bench).await.went.get("clinical-delivered"), None);
    change(&bench, &officer, HoldChange::Release(all), WHY)
        .await
        .unwrap();
    assert!(matches!(
        change(&bench, &officer, HoldChange::Release(all), WHY).await,
        Err(HoldFailed::UnknownHold)
    ));
    sweep(&bench).await;
    for id in [held, late] {
        assert!(bench.engine.order_bytes(id).await.is_err());
    }
    let kinds: Vec<String> = bench
        .store
        .stream(&tenant(), &StreamId::Retention)
        .await
        .unwrap()
        .iter()
        .map(|it| it.event.kind())
        .filter(|kind| kind.contains("hold"))
        .collect();
    assert_eq!(
        kinds,
        [
            "retention.hold_placed",
            "retention.hold_placed",
            "retention.hold_released",
            "retention.hold_released"
        ]
    );
}

pub(crate) async fn a_hold_that_comes_in_between_keeps_what_was_about_to_go(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let faulty = bench.behind_a_faulty_store().await;
    show(&bench.engine, &bench.ehr).await;
    let (id, patient) = delivered(&bench, "p1", "one").await;
    bench.clock.advance_s(12 * YEAR_S);
    // The first commit of a sweep that writes is the one that deletes.
    let waits = faulty.hold_next_commit();
    let engine = bench.engine.clone();
    let sweeping = tokio::spawn(async move {
        engine
            .sweep_retention(SweepOptions::default())
            .await
            .unwrap()
    });
    waits.arrived().await;
    change(&bench, &privacy(), HoldChange::Place(Some(patient)), WHY)
        .await
        .unwrap();
    waits.release();
    let swept = sweeping.await.unwrap();
    assert_eq!(swept.went.get("clinical-delivered"), None);
    assert!(swept.again > 0);
    assert!(bench.engine.order_bytes(id).await.is_ok());
}

pub(crate) async fn payloads_of_an_older_version_stay_while_their_work_is_open(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let waiting = note(&bench, "waits").await;
    let rows = payloads(bench.store.as_ref(), PayloadClass::Transcript).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].writeback, Some(waiting));
    // As a version put it that did not note whose it is: the same row without the write-back.
    let sealed = bench
        .store
        .payload(&tenant(), &rows[0].address)
        .await
        .unwrap()
        .unwrap();
    let orphan = |address: PayloadAddress| {
        let mut commit = Commit::new(tenant(), bench.clock.now(), (&nurse()).into());
        commit.payloads.push(chaperone_core::ports::SealedPayload {
            address,
            ..sealed.clone()
        });
        commit
    };
    let mut erase = Commit::new(tenant(), bench.clock.now(), (&nurse()).into());
    erase.erased.push(sealed.address);
    bench.store.commit(erase).await.unwrap();
    bench.store.commit(orphan(sealed.address)).await.unwrap();
    let stray = PayloadAddress::from_digest(Digest::of_bytes(b"of nothing"));
    bench.store.commit(orphan(stray)).await.unwrap();
    bench.clock.advance_s(12 * YEAR_S);
    sweep(&bench).await;
    let left = payloads(bench.store.as_ref(), PayloadClass::Transcript).await;
    let left: Vec<PayloadAddress> = left.iter().map(|row| row.address).collect();
    assert_eq!(
        left,
        [sealed.address],
        "what open work names stays, the other one goes"
    );
}
