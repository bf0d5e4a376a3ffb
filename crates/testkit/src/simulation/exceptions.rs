//! Exceptions: people ask for what the matrix refused, others grant it or say no, and it is used, too late, twice at
//! once, and again; what comes of it waits for two people like anything else.

use std::future::Future;
use std::sync::Arc;

use chaperone_core::digest::Digest;
use chaperone_core::exception::ExceptionFinding;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::RecordKey;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::StateName;
use chaperone_engine::Engine;
use chaperone_engine::exception::ExceptionFailed;
use chaperone_engine::propose::NotExcepted;
use serde_json::{Value, json};

use super::faults::Fault;
use super::people::{decide, happens, look, second_factor};
use super::play::Play;
use super::state::Granted;
use super::world::{OUTSIDE, SECOND};

/// How often a person tries when the node does not answer.
const TRIES_MAX: u32 = 6;
const WHY: &str = "the chair is free, and nobody may book it from the portal";

/// What people do about one refused proposal.
pub(crate) async fn play(play: Arc<Play>, of: WritebackId) {
    let world = Arc::clone(&play.cluster.world);
    let Some(row) = look(&play, of).await else {
        return;
    };
    if row.state != StateName::Refused {
        decide(play, of).await;
        return;
    }
    world.with(|inner| inner.state.truth.has_exceptions = true);
    let asks = play.people.scheduler();
    let by = asks.clone();
    let asked = act(&play, move |engine| {
        let by = by.clone();
        async move { engine.request_exception(&by, of, WHY).await.map(|_| ()) }
    })
    .await;
    if !asked {
        return;
    }
    let pause = world.with(|inner| inner.chance.skewed(SECOND, 20 * SECOND));
    world.sleep(pause).await;
    let Some(binding) = binding(&play, of) else {
        return;
    };
    if happens(&play, Fault::Rejected, of) {
        let by = play.people.prescriber();
        act(&play, move |engine| {
            let by = by.clone();
            async move {
                let declined = engine.decline_exception(&by, of, "not needed").await;
                declined.map(|_| ())
            }
        })
        .await;
    } else {
        grant(&play, of, binding).await;
    }
    let most = match happens(&play, Fault::ExceptionUsedLate, of) {
        true => 260 * SECOND,
        false => 60 * SECOND,
    };
    let pause = world.with(|inner| inner.chance.skewed(SECOND, most));
    world.sleep(pause).await;
    if happens(&play, Fault::DecidedTwice, of) {
        let (twice, by) = (Arc::clone(&play), asks.clone());
        world.spawn(OUTSIDE, async move {
            use_it(&twice, &by, of).await;
        });
    }
    use_it(&play, &asks, of).await;
    if let Some(by) = used_by(&play, of) {
        world.with(|inner| {
            let truth = &mut inner.state.truth;
            if let Some(patient) = truth.patient_of.get(&of).cloned() {
                truth.patient_of.insert(by, patient);
            }
        });
        decide(Arc::clone(&play), by).await;
    }
    if happens(&play, Fault::ExceptionUsedAgain, of) {
        use_it(&play, &asks, of).await;
    }
    review(&play, of).await;
}

/// Somebody else grants it, some time with a factor for something else, or nobody who may.
async fn grant(play: &Arc<Play>, of: WritebackId, binding: Digest) {
    let world = &play.cluster.world;
    let by = match happens(play, Fault::TraineeFirst, of) {
        true => play.people.trainee(Role::Clinician),
        false => play.people.prescriber(),
    };
    let seen = match happens(play, Fault::OtherDigest, of) {
        true => world.with(|inner| Digest::of_bytes(&inner.chance.next().to_be_bytes())),
        false => binding,
    };
    world.with(|inner| {
        let (at, truth) = (inner.now, &mut inner.state.truth);
        let human = truth.human(&by);
        truth.granted.push(Granted {
            of,
            binding: seen,
            human,
            at,
        });
    });
    let factor = second_factor(play, &by, json!({ "for": "matter" }), seen);
    act(play, move |engine| {
        let by = by.clone();
        async move {
            let granted = engine.grant_exception(&by, of, seen, factor).await;
            granted.map(|_| ())
        }
    })
    .await;
}

async fn use_it(play: &Arc<Play>, by: &Human, of: WritebackId) -> bool {
    act(play, |engine| {
        let by = by.clone();
        async move { engine.use_exception(&by, of).await.map(|_| ()) }
    })
    .await
}

async fn review(play: &Arc<Play>, of: WritebackId) {
    let by = match play.cluster.world.with(|inner| inner.chance.below(3)) {
        // Who granted it does not look at it.
        0 => play.people.prescriber(),
        _ => play.people.records(),
    };
    act(play, move |engine| {
        let by = by.clone();
        async move {
            let found = ExceptionFinding::Justified;
            let reviewed = engine
                .review_exception(&by, of, found, "looked at it")
                .await;
            reviewed.map(|_| ())
        }
    })
    .await;
}

/// One person does something about an exception, and again where nobody could tell what came of it.
async fn act<F>(play: &Arc<Play>, ask: impl Fn(Arc<Engine>) -> F) -> bool
where
    F: Future<Output = Result<(), ExceptionFailed>> + Send + 'static,
{
    let is_open = |failed: &ExceptionFailed| {
        // The EHR is asked before one is used, and may be away.
        let is_away = matches!(failed, ExceptionFailed::Changed(NotExcepted::Ehr(_)));
        failed.is_internal() || is_away || matches!(failed, ExceptionFailed::Conflict)
    };
    let told = play.ask_again(TRIES_MAX, is_open, ask).await;
    matches!(told, Some(Ok(()) | Err(ExceptionFailed::AskedAlready)))
}

/// How it stands with an exception, as the store has it.
fn kept(play: &Play, of: WritebackId) -> Option<Value> {
    play.cluster.world.with(|inner| {
        let at = inner.clock(0);
        let tenant = inner.state.tables.of(play.cluster.tenant());
        let record = tenant.record(&RecordKey::new("exception", of), at)?;
        Some(record.value)
    })
}

fn binding(play: &Play, of: WritebackId) -> Option<Digest> {
    serde_json::from_value(kept(play, of)?.get("binding")?.clone()).ok()
}

/// What was made of a used one. The person finds it where they were told, or among what waits.
fn used_by(play: &Play, of: WritebackId) -> Option<WritebackId> {
    serde_json::from_value(kept(play, of)?.get("by")?.clone()).ok()
}
