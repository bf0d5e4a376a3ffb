//! Exceptions from the matrix: who may ask, grant, use and look at one, what it is bound to, and what none can lift.

use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::exception::{ExceptionEvent, ExceptionFinding};
use chaperone_core::gate::Gate;
use chaperone_core::ids::{AccountName, AgentId, WritebackId};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{Refusal, StateName, WritebackEvent};
use chaperone_engine::approve::DecideFailed;
use chaperone_engine::exception::{ExceptionCase, ExceptionFailed, ExceptionStage, ExceptionTurn};
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::projection::WritebackRow;
use serde_json::{Value, json};

use crate::bench::*;
use crate::retention::factor;
use crate::undo::approve;

const WHY: &str = "the infusion chair is free, and nobody may book it from the portal";

/// Who asked the agent for it.
fn desk() -> Human {
    human(4, &[Role::Scheduler])
}

fn clinician() -> Human {
    human(8, &[Role::Clinician])
}

fn records() -> Human {
    human(7, &[Role::Him])
}

fn privacy() -> Human {
    human(9, &[Role::Privacy])
}

fn slot(id: &str, service: &str) -> Value {
    json!({
        "resourceType": "Slot", "id": id, "status": "free",
        "start": "2031-03-03T09:00:00Z", "end": "2031-03-03T09:30:00Z",
        "serviceType": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/service-type", "code": service,
        }] }],
    })
}

async fn book(bench: &Bench, agent: &Caller, key: &str, slot: &Value) -> WritebackId {
    let arguments = json!({ "idempotency_key": key, "slot": slot, "visit_type": "ROUTINE" });
    let answer = bench.call(agent, "book_appointment", arguments).await;
    answer["proposal"].as_str().unwrap().parse().unwrap()
}

/// A proposed appointment of p1 that no row allows: patients do not book such visits themselves.
async fn refused(bench: &Bench) -> WritebackId {
    let (agent, tokens) = bench.scheduler(&[slot("s1", "117")]).await;
    let id = book(bench, &agent, "1", &tokens[0]).await;
    assert_eq!(bench.state(id).await, StateName::Refused);
    id
}

async fn asked(bench: &Bench) -> ExceptionCase {
    let of = refused(bench).await;
    bench
        .engine
        .request_exception(&desk(), of, WHY)
        .await
        .unwrap()
}

async fn grant(
    bench: &Bench,
    by: &Human,
    case: &ExceptionCase,
) -> Result<ExceptionCase, ExceptionFailed> {
    let step = factor(bench.store.as_ref(), bench.clock.as_ref(), by, case.binding).await;
    bench
        .engine
        .grant_exception(by, case.of, case.binding, step)
        .await
}

async fn granted(bench: &Bench) -> ExceptionCase {
    let case = asked(bench).await;
    grant(bench, &clinician(), &case).await.unwrap()
}

async fn used(bench: &Bench, of: WritebackId) -> Result<WritebackRow, ExceptionFailed> {
    bench.engine.use_exception(&desk(), of).await
}

async fn kinds(bench: &Bench, of: WritebackId) -> Vec<String> {
    let stream = StreamId::Writeback(of);
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let kinds = events.iter().map(|it| it.event.kind());
    kinds.filter(|kind| kind.starts_with("exception")).collect()
}

pub(crate) async fn an_exception_is_asked_for_granted_used_once_and_looked_at(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let case = asked(&bench).await;
    let of = case.of;
    // It moves nothing and opens nothing by itself.
    assert_eq!(bench.state(of).await, StateName::Refused);
    assert!(matches!(
        used(&bench, of).await,
        Err(ExceptionFailed::NotNow)
    ));
    let again = bench.engine.request_exception(&desk(), of, WHY).await;
    assert!(matches!(again, Err(ExceptionFailed::AskedAlready)));

    let case = grant(&bench, &clinician(), &case).await.unwrap();
    assert!(matches!(case.stage, ExceptionStage::Granted { .. }));
    let row = used(&bench, of).await.unwrap();
    assert_ne!(row.id, of);
    assert_eq!(row.state, StateName::AwaitingApproval);
    assert_eq!(
        row.gate,
        Some(Gate::TwoPerson {
            first: Role::Clinician,
            second: Role::Him
        })
    );
    assert_eq!(
        (row.agent.as_str(), row.requester),
        ("scheduler-agent", Some(desk().person))
    );
    // Once.
    assert!(matches!(
        used(&bench, of).await,
        Err(ExceptionFailed::NotNow)
    ));

    // Two people, the first with a second factor; until then nothing is sent.
    let hurried = approve(&bench, &clinician(), row.id, false).await;
    assert!(matches!(
        hurried,
        Err(DecideFailed::Refused(Refusal::SecondFactorRequired))
    ));
    approve(&bench, &clinician(), row.id, true).await.unwrap();
    bench.deliver().await;
    assert!(bench.ehr.written().is_empty());
    let asker = Human {
        roles: vec![Role::Him],
        ..desk()
    };
    let own = approve(&bench, &asker, row.id, false).await;
    assert!(
        matches!(own, Err(DecideFailed::Refused(Refusal::SamePerson))),
        "{own:?}"
    );
    approve(&bench, &records(), row.id, false).await.unwrap();
    bench.deliver().await;
    assert_eq!(bench.state(row.id).await, StateName::Delivered);
    // Exactly what was refused, under the new write-back's identifier.
    let written = bench.ehr.written();
    let (_, at) = &written[0];
    let booked = bench
        .ehr
        .resource("Appointment", at.split_once('/').unwrap().1)
        .unwrap();
    assert_eq!(booked["status"], "proposed");
    assert_eq!(booked["identifier"][0]["value"], row.id.to_string());
    assert!(!booked.to_string().contains(&of.to_string()));

    // It waits on a list until somebody looked at it who had no part in it.
    let (open, closed) = bench.engine.exceptions(&privacy()).await.unwrap();
    assert_eq!((open.len(), closed.len()), (1, 0));
    assert!(!open[0].overdue);
    bench.clock.advance_s(7 * 24 * 3_600);
    let (open, _) = bench.engine.exceptions(&privacy()).await.unwrap();
    assert!(open[0].overdue);
    let look = async |by: &Human| {
        let finding = ExceptionFinding::ChangeTheMatrix;
        let note = "it comes up every week";
        bench.engine.review_exception(by, of, finding, note).await
    };
    let part = |by: &Human| Human {
        roles: vec![Role::Privacy],
        ..by.clone()
    };
    for (by, wanted) in [
        (part(&desk()), "SamePerson"),
        (part(&clinician()), "SamePerson"),
        (clinician(), "NotPermitted"),
    ] {
        assert_eq!(format!("{:?}", look(&by).await.unwrap_err()), wanted);
    }
    look(&privacy()).await.unwrap();
    assert!(matches!(
        look(&records()).await,
        Err(ExceptionFailed::NotNow)
    ));
    let (open, closed) = bench.engine.exceptions(&privacy()).await.unwrap();
    assert_eq!((open.len(), closed.len()), (0, 1));
    assert_eq!(
        kinds(&bench, of).await,
        [
            "exception.requested",
            "exception.granted",
            "exception.used",
            "exception.reviewed"
        ]
    );
    let checked = chaperone_engine::projection::examine(bench.store.as_ref(), &tenant())
        .await
        .unwrap();
    assert!(checked.is_whole(), "{checked:?}");
}

pub(crate) async fn who_asked_and_who_owns_the_agent_grant_nothing(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let of = refused(&bench).await;
    let ask = async |by: &Human, reason: &str| {
        let asked = bench.engine.request_exception(by, of, reason).await;
        asked.map(|_| ()).map_err(|failed| format!("{failed:?}"))
    };
    // Somebody else than for whom the agent worked; somebody without a part; nobody without a reason.
    assert_eq!(
        ask(&human(5, &[Role::Rn]), WHY).await,
        Err("NotYours".to_owned())
    );
    assert_eq!(
        ask(&human(4, &[Role::ItAdmin]), WHY).await,
        Err("NotPermitted".to_owned())
    );
    assert_eq!(ask(&desk(), "so").await, Err("ReasonUnfit".to_owned()));
    assert!(kinds(&bench, of).await.is_empty());
    ask(&desk(), WHY).await.unwrap();
    let case = bench.engine.exception(&clinician(), of).await.unwrap();
    assert_eq!(case.turn, ExceptionTurn::Grant);
    assert!(case.reason.is_some());
    let case = case.case.unwrap();

    // The person counts, whatever account and role they come with.
    let asker = Human {
        account: AccountName::new("second-account").unwrap(),
        roles: vec![Role::Clinician],
        ..desk()
    };
    assert!(matches!(
        grant(&bench, &asker, &case).await,
        Err(ExceptionFailed::SamePerson)
    ));
    for by in [human(5, &[Role::Rn]), human(6, &[Role::ItAdmin]), privacy()] {
        assert!(matches!(
            grant(&bench, &by, &case).await,
            Err(ExceptionFailed::NotPermitted)
        ));
    }
    // A second factor for something else, somebody else's, or none that is known.
    let grant_with = async |digest, whose: &Human| {
        let step = factor(bench.store.as_ref(), bench.clock.as_ref(), whose, digest).await;
        let by = clinician();
        let granted = bench.engine.grant_exception(&by, of, case.binding, step);
        granted.await.map(|_| ())
    };
    let other = bench.row(of).await.digest.unwrap();
    for (digest, whose) in [(other, clinician()), (case.binding, records())] {
        assert!(matches!(
            grant_with(digest, &whose).await,
            Err(ExceptionFailed::StepUp)
        ));
    }
    // Nor something else than what waits.
    let step = factor(
        bench.store.as_ref(),
        bench.clock.as_ref(),
        &clinician(),
        other,
    )
    .await;
    let mistaken = bench
        .engine
        .grant_exception(&clinician(), of, other, step)
        .await;
    assert!(matches!(mistaken, Err(ExceptionFailed::NotNow)));
    assert_eq!(kinds(&bench, of).await, ["exception.requested"]);

    // Declined is declined.
    let declined = bench
        .engine
        .decline_exception(&clinician(), of, "book it at the desk")
        .await
        .unwrap();
    assert_eq!(declined.stage, ExceptionStage::Declined);
    assert!(matches!(
        grant(&bench, &clinician(), &case).await,
        Err(ExceptionFailed::NotNow)
    ));
    assert!(matches!(
        used(&bench, of).await,
        Err(ExceptionFailed::NotNow)
    ));
    assert_eq!(ask(&desk(), WHY).await, Err("AskedAlready".to_owned()));
}

/// Starts the engine anew on the default bundle with one text of the table in place of another.
async fn restart(bench: &mut Bench, from: &str, to: &str) {
    let mut files = chaperone_policy::embedded::files();
    let table = files.get_mut("rules/exceptions.toml").unwrap();
    assert!(table.contains(from));
    *table = table.replace(from, to);
    let (store, ehr, clock) = (bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    bench.engine = start(&bundle(&files), store, ehr, clock).await;
}

const NOBODY: &str = "owner = \"patient access team\"\naccounts = []";

pub(crate) async fn the_team_that_owns_an_agent_grants_it_nothing(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let owned = NOBODY.replace("[]", "[\"person-8\"]");
    restart(&mut bench, NOBODY, &owned).await;
    let case = asked(&bench).await;
    let owner = grant(&bench, &clinician(), &case).await;
    assert!(
        matches!(owner, Err(ExceptionFailed::SamePerson)),
        "{owner:?}"
    );
    let view = bench.engine.exception(&clinician(), case.of).await.unwrap();
    assert_eq!(view.turn, ExceptionTurn::Decline);
    let other = human(3, &[Role::Clinician]);
    grant(&bench, &other, &case).await.unwrap();

    // Where nobody said who owns the agent, nobody grants it anything.
    let mut bench = bench_on(db, Strategy::Conditional).await;
    restart(
        &mut bench,
        "owner = \"patient access team\"",
        "owner = \"another team\"",
    )
    .await;
    let case = asked(&bench).await;
    let nobody = grant(&bench, &clinician(), &case).await;
    assert!(
        matches!(nobody, Err(ExceptionFailed::TeamUnknown)),
        "{nobody:?}"
    );
}

pub(crate) async fn an_exception_ends_with_the_rules_it_was_asked_under(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let case = asked(&bench).await;
    restart(&mut bench, "review_days = 7", "review_days = 6").await;
    let late = grant(&bench, &clinician(), &case).await;
    assert!(
        matches!(late, Err(ExceptionFailed::NotPossible(_))),
        "{late:?}"
    );
}

pub(crate) async fn an_exception_ends_with_its_time(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let case = asked(&bench).await;
    assert_eq!(bench.engine.end_exceptions().await.unwrap(), 0);
    bench.clock.advance_s(24 * 3_600);
    assert!(matches!(
        grant(&bench, &clinician(), &case).await,
        Err(ExceptionFailed::NotNow)
    ));
    assert_eq!(bench.engine.end_exceptions().await.unwrap(), 1);
    assert_eq!(bench.engine.end_exceptions().await.unwrap(), 0);
    assert_eq!(
        kinds(&bench, case.of).await,
        ["exception.requested", "exception.expired"]
    );

    let (agent, tokens) = bench.scheduler(&[slot("s2", "117")]).await;
    let of = book(&bench, &agent, "2", &tokens[0]).await;
    let case = bench
        .engine
        .request_exception(&desk(), of, WHY)
        .await
        .unwrap();
    let case = grant(&bench, &clinician(), &case).await.unwrap();
    let ExceptionStage::Granted { until, .. } = case.stage else {
        panic!("{case:?}")
    };
    assert_eq!(until.duration_since(bench.engine.now()).as_mins(), 240);
    bench.clock.advance_s(240 * 60);
    assert!(matches!(
        used(&bench, of).await,
        Err(ExceptionFailed::NotNow)
    ));
    assert_eq!(bench.engine.end_exceptions().await.unwrap(), 1);
    let (open, closed) = bench.engine.exceptions(&desk()).await.unwrap();
    assert_eq!((open.len(), closed.len()), (0, 2));
    assert!(bench.ehr.written().is_empty());
}

pub(crate) async fn what_no_exception_lifts_is_not_asked_for(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let ask = async |of: WritebackId| match bench.engine.request_exception(&desk(), of, WHY).await {
        Err(ExceptionFailed::NotPossible(why)) => why,
        other => panic!("{other:?}"),
    };
    // What was not refused, and what was refused by a person.
    let agent = bench
        .caller(&desk(), "scheduler-agent", "schedule-appointment", "p1")
        .await;
    let task = bench.task(&agent, "task", json!([])).await;
    assert!(ask(task.id).await.contains("not refused"));
    // What a rule of plausibility blocks: the patient's record says that they died before.
    bench.ehr.put(json!({
        "resourceType": "Patient", "id": "p2", "birthDate": "1950-02-03", "active": true,
        "deceasedDateTime": "2020-01-01T00:00:00Z",
    }));
    bench.ehr.put(slot("s9", "117"));
    let other = bench
        .caller(&desk(), "scheduler-agent", "schedule-appointment", "p2")
        .await;
    let span = json!({ "from": "2030-12-01T00:00:00Z", "until": "2031-03-09T00:00:00Z" });
    let found = bench.call(&other, "find_slots", span).await;
    let of = book(&bench, &other, "dead", &found["resources"][0]["id"]).await;
    assert_eq!(bench.state(of).await, StateName::Refused);
    assert!(ask(of).await.contains("implausible"));
    // Nothing is asked for of a stranger.
    let nobody = WritebackId::from_random([99; 16]);
    let missing = bench.engine.request_exception(&desk(), nobody, WHY).await;
    assert!(matches!(missing, Err(ExceptionFailed::Missing)));
}

pub(crate) async fn what_changed_since_is_not_excepted(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let case = granted(&bench).await;
    let of = case.of;
    let why = async || match used(&bench, of).await {
        Err(ExceptionFailed::Changed(why)) => format!("{why:?}"),
        other => panic!("{other:?}"),
    };
    // A switch on the agent; an EHR that does not answer; a patient who died meanwhile.
    let admin = human(6, &[Role::ItAdmin]);
    let agent = ModeScope::Agent(AgentId::new("scheduler-agent").unwrap());
    let switch = async |mode: Mode| {
        let switched = bench
            .engine
            .switch_mode(&admin, agent.clone(), mode, "an incident");
        switched.await.unwrap();
        bench.clock.advance_s(2);
    };
    switch(Mode::ReadOnly).await;
    assert_eq!(why().await, "Switched");
    switch(Mode::Normal).await;
    bench.ehr.set_down(true);
    assert!(why().await.starts_with("Ehr"), "{}", why().await);
    bench.ehr.set_down(false);
    let alive = bench.ehr.resource("Patient", "p1").unwrap();
    let mut dead = alive.clone();
    dead["deceasedDateTime"] = json!("2020-01-01T00:00:00Z");
    bench.ehr.put(dead);
    assert_eq!(why().await, "Denied(\"implausible\")");
    assert_eq!(
        kinds(&bench, of).await,
        ["exception.requested", "exception.granted"]
    );
    // All of it is as it was: then it is used. A slot that is taken before the send is not booked all the same.
    bench.ehr.put(alive);
    let row = used(&bench, of).await.unwrap();
    approve(&bench, &clinician(), row.id, true).await.unwrap();
    approve(&bench, &records(), row.id, false).await.unwrap();
    let mut taken = slot("s1", "117");
    taken["status"] = json!("busy");
    bench.ehr.put(taken);
    bench.deliver().await;
    assert_eq!(bench.state(row.id).await, StateName::Void);
    assert!(bench.ehr.written().is_empty());
}

pub(crate) async fn two_who_use_an_exception_at_once_use_it_once(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let case = granted(&bench).await;
    let desk = desk();
    let once = async || bench.engine.use_exception(&desk, case.of).await.is_ok();
    let (one, other) = futures::join!(once(), once());
    assert!(one != other, "{one} {other}");
    let events = bench.recorded().await;
    let is_proposed = |it: &&chaperone_core::event::Recorded| {
        matches!(&it.event, Event::Writeback(WritebackEvent::Proposed(_)))
    };
    assert_eq!(events.iter().filter(is_proposed).count(), 2);
    let is_used = |it: &&chaperone_core::event::Recorded| {
        matches!(&it.event, Event::Exception(ExceptionEvent::Used { .. }))
    };
    assert_eq!(events.iter().filter(is_used).count(), 1);
    // The words of the person are in the vault and nowhere else.
    let leaves = bench.store.leaves(&tenant(), 0, 1_000).await.unwrap();
    assert!(
        leaves
            .iter()
            .all(|leaf| !String::from_utf8_lossy(leaf).contains("infusion chair"))
    );
}
