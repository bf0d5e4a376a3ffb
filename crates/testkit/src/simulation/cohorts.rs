//! Lists of patients: somebody asks for one, patients are struck, somebody else approves exactly what they saw, it is
//! stopped, or not; and the agent takes what the list gives it, one patient at a time, and offers each a time.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use chaperone_core::cohort::CohortStep;
use chaperone_core::digest::Digest;
use chaperone_core::envelope::{Grant, GrantSource};
use chaperone_core::ids::{CohortId, CohortJobId, GrantId};
use chaperone_core::ports::Listing;
use chaperone_core::principal::{Human, Role};
use chaperone_engine::Engine;
use chaperone_engine::cohort::{CohortFailed, CohortRequest, CohortView};
use chaperone_engine::open_envelope::TokenRequest;
use serde_json::{Value, json};

use super::agents::{self, Errand, Wish};
use super::faults::Fault;
use super::people::{happens, second_factor};
use super::play::{Play, TROUBLE};
use super::played::{self, COHORT, LISTED_AGENT};
use super::state::ListApproved;
use super::world::{Inner, OUTSIDE, SECOND, instant};

/// Patients who missed a visit; nobody else has to do with them.
pub(crate) const FOUND: [&str; 4] = ["m1", "m2", "m3", "m4"];
/// How often a person tries when the node does not answer.
const TRIES_MAX: u32 = 6;
/// How often somebody tries who must get it done.
const TRIES_PATIENT: u32 = 200;
/// How often an agent tries to open an envelope.
const OPENS_MAX: u32 = 4;
/// What goes wrong with it, in a trace.
const LIST: &str = "a list";
const WHY: &str = "there are free times next week";

/// What is at the EHR when the play begins.
pub(crate) fn furnish(inner: &mut Inner) {
    let missed = instant(0, -30 * 24 * 3_600 * 1_000_000).to_string();
    for id in FOUND {
        let subject = json!({ "reference": format!("Patient/{id}") });
        let mut put = |resource: Value| inner.state.ehr.put(0, resource);
        put(json!({ "resourceType": "Patient", "id": id, "birthDate": "1950-02-03" }));
        put(json!({
            "resourceType": "Appointment", "id": format!("a-{id}"), "status": "noshow",
            "start": missed, "end": missed,
            "participant": [{ "actor": subject, "status": "accepted" }],
        }));
    }
}

/// One list from its request to its end.
pub(crate) async fn play(play: Arc<Play>) {
    let world = Arc::clone(&play.cluster.world);
    let pause = world.with(|inner| inner.chance.skewed(SECOND, TROUBLE / 2));
    world.sleep(pause).await;
    let same_person = happens(&play, Fault::SamePerson, LIST);
    let asks = match same_person {
        true => play.people.prescriber(),
        false => play.people.scheduler(),
    };
    world.with(|inner| inner.state.truth.has_lists = true);
    let Some(id) = ask_for(&play, &asks).await else {
        return;
    };
    world.spawn(OUTSIDE, collect(Arc::clone(&play), id));
    if happens(&play, Fault::Struck, LIST) {
        strike(&play, id).await;
    }
    if same_person {
        // Whoever asked tries to be the other one too.
        for by in [asks.clone(), play.people.prescriber_again()] {
            approve(&play, &by, id).await;
        }
    }
    if happens(&play, Fault::TraineeFirst, LIST) {
        approve(&play, &play.people.trainee(Role::Clinician), id).await;
    }
    let is_approved = !happens(&play, Fault::Rejected, LIST) && {
        let approver = world.with(|inner| inner.chance.below(3));
        let by = match approver {
            0 => play.people.nurse(),
            1 => play.people.records(),
            _ => play.people.beside(Role::Clinician),
        };
        approve(&play, &by, id).await
    };
    if is_approved && !happens(&play, Fault::ListStopped, LIST) {
        return;
    }
    let pause = world.with(|inner| inner.chance.skewed(SECOND, 120 * SECOND));
    world.sleep(pause).await;
    let by = asks.clone();
    act(&play, TRIES_PATIENT, move |engine| {
        let by = by.clone();
        async move { engine.stop_cohort(&by, id).await }
    })
    .await;
}

/// One person does something about a list, and again where nobody could tell what came of it.
async fn act<T, F>(
    play: &Arc<Play>,
    tries: u32,
    ask: impl Fn(Arc<Engine>) -> F,
) -> Option<Result<T, CohortFailed>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, CohortFailed>> + Send + 'static,
{
    let is_open = |failed: &CohortFailed| {
        let is_away = matches!(failed, CohortFailed::Ehr(_) | CohortFailed::Again);
        failed.is_internal() || is_away
    };
    play.ask_again(tries, is_open, ask).await
}

async fn ask_for(play: &Arc<Play>, by: &Human) -> Option<CohortJobId> {
    let request = CohortRequest {
        cohort: CohortId::new(COHORT).ok()?,
        arguments: Default::default(),
        reason: WHY.to_owned(),
    };
    let told = act(play, TRIES_MAX, |engine| {
        let (by, request) = (by.clone(), request.clone());
        async move { engine.request_cohort(&by, &request).await }
    })
    .await;
    match told {
        // It was made before, and nobody was told.
        Some(Ok(id) | Err(CohortFailed::UnderWay(id))) => Some(id),
        told => {
            let why = match told {
                Some(Err(failed)) => failed.to_string(),
                _ => "there is no answer".to_owned(),
            };
            play.cluster.world.with(|inner| {
                let now = inner.now;
                let line = format_args!("nobody gets a list: {why}");
                inner.trace.say(now, line);
            });
            None
        }
    }
}

async fn see(play: &Arc<Play>, by: &Human, id: CohortJobId) -> Option<CohortView> {
    let told = act(play, TRIES_MAX, |engine| {
        let by = by.clone();
        async move { engine.cohort_view(&by, id).await }
    })
    .await;
    told?.ok()
}

/// Somebody strikes one patient.
async fn strike(play: &Arc<Play>, id: CohortJobId) {
    let by = play.people.nurse();
    let Some(view) = see(play, &by, id).await else {
        return;
    };
    let listed: Vec<_> = view
        .patients
        .iter()
        .filter(|it| it.step == CohortStep::Listed)
        .map(|it| it.token)
        .collect();
    let world = &play.cluster.world;
    let Some(patient) = world.with(|inner| inner.chance.pick(&listed).copied()) else {
        return;
    };
    let list = view.status.job.list;
    let told = act(play, 1, |engine| {
        let by = by.clone();
        async move {
            let struck = engine.strike_from_cohort(&by, id, list, patient).await;
            struck.map(|_| ())
        }
    })
    .await;
    if matches!(told, Some(Ok(()))) {
        world.with(|inner| inner.state.truth.struck.push((id, patient)));
    }
}

/// Somebody reads the list and approves it; now and then another one than they read.
async fn approve(play: &Arc<Play>, by: &Human, id: CohortJobId) -> bool {
    let world = &play.cluster.world;
    let Some(view) = see(play, by, id).await else {
        return false;
    };
    let pause = world.with(|inner| inner.chance.skewed(SECOND, 30 * SECOND));
    world.sleep(pause).await;
    if happens(play, Fault::Struck, LIST) {
        strike(play, id).await;
    }
    let list = match happens(play, Fault::OtherDigest, LIST) {
        true => world.with(|inner| Digest::of_bytes(&inner.chance.next().to_be_bytes())),
        false => view.status.job.list,
    };
    let listed = view.patients.iter();
    let patients: BTreeSet<_> = listed
        .filter(|it| it.step == CohortStep::Listed)
        .map(|it| it.token)
        .collect();
    world.with(|inner| {
        let (at, truth) = (inner.now, &mut inner.state.truth);
        let human = truth.human(by);
        truth.lists.push(ListApproved {
            job: id,
            list,
            patients,
            human,
            at,
        });
        let line = format_args!("human {human} approves the list of {id}");
        inner.trace.say(at, line);
    });
    for _ in 0..TRIES_MAX {
        // A factor may be used up although nobody was told.
        let factor = second_factor(play, by, json!({ "for": "matter" }), list);
        let told = act(play, 1, |engine| {
            let by = by.clone();
            async move {
                let approved = engine.approve_cohort(&by, id, list, factor).await;
                approved.map(|_| ())
            }
        })
        .await;
        match told {
            Some(Ok(()) | Err(CohortFailed::NotNow)) => return true,
            Some(Err(failed)) if !failed.is_internal() => return false,
            _ => world.sleep(3 * SECOND).await,
        }
    }
    false
}

/// The agent looks for what lists give it, until there is nothing more to come of this one.
async fn collect(play: Arc<Play>, id: CohortJobId) {
    let world = Arc::clone(&play.cluster.world);
    let mut taken: BTreeSet<GrantId> = BTreeSet::new();
    while is_open(&play, id) {
        for grant in grants(&play, id) {
            if taken.insert(grant.id) {
                let number = taken.len();
                let run = take(Arc::clone(&play), grant, number);
                world.spawn(OUTSIDE, run);
            }
        }
        let pause = world.with(|inner| inner.chance.skewed(2 * SECOND, 40 * SECOND));
        world.sleep(pause).await;
    }
}

/// The grants of a list that wait.
fn grants(play: &Play, id: CohortJobId) -> Vec<Grant> {
    let listing = Listing {
        index: Some(LISTED_AGENT.to_owned()),
        ..Listing::default()
    };
    play.cluster.world.with(|inner| {
        let at = inner.clock(0);
        let tenant = inner.state.tables.of(play.cluster.tenant());
        let records = tenant.records("grant", &listing, at).into_iter();
        let grants = records.filter_map(|it| serde_json::from_value::<Grant>(it.value).ok());
        grants
            .filter(|it| matches!(it.source, GrantSource::Cohort { job, .. } if job == id))
            .collect()
    })
}

/// Whether something may still come of a list.
fn is_open(play: &Play, id: CohortJobId) -> bool {
    open_jobs(play).iter().any(|it| *it == id.to_string())
}

/// Lists that are not at their end.
pub(crate) fn open_jobs(play: &Play) -> Vec<String> {
    let listing = Listing {
        index: Some("open".to_owned()),
        ..Listing::default()
    };
    play.cluster.world.with(|inner| {
        let at = inner.clock(0);
        let tenant = inner.state.tables.of(play.cluster.tenant());
        let jobs = tenant.records("cohort_job", &listing, at).into_iter();
        jobs.map(|it| it.key.key).collect()
    })
}

/// The agent opens an envelope with one grant and books a time, once or twice over.
async fn take(play: Arc<Play>, grant: Grant, number: usize) {
    let twice = happens(&play, Fault::AskedAgain, LIST);
    for _ in 0..if twice { 2 } else { 1 } {
        let Some(token) = open(&play, &grant).await else {
            continue;
        };
        let errand = Errand {
            wish: Wish::Booking,
            patient: String::new(),
            key: format!("list-{number}-{}", grant.id),
            token: Some(token),
        };
        agents::run(Arc::clone(&play), errand).await;
    }
}

/// An access token for an envelope that a grant opens.
async fn open(play: &Arc<Play>, grant: &Grant) -> Option<String> {
    let world = &play.cluster.world;
    let details = json!([{ "type": "chaperone_context", "grant": grant.id }]).to_string();
    let audience = format!("{}/oauth/token", play.cluster.config.audience);
    let scope = format!("intent/{}", grant.intent);
    for _ in 0..OPENS_MAX {
        let node = play.some_node();
        let (jti, expires) = world.with(|inner| {
            let jti = format!("{:016x}", inner.chance.next());
            (jti, inner.clock(node).as_second().saturating_add(200))
        });
        let assertion = played::assertion(&audience, &jti, expires)?;
        let (details, scope) = (details.clone(), scope.clone());
        let opened = play
            .cluster
            .on(node, move |engine| async move {
                let correlation = engine.correlation();
                let request = TokenRequest {
                    assertion: &assertion,
                    scope: &scope,
                    authorization_details: Some(&details),
                    correlation,
                };
                engine.open_envelope(request).await
            })
            .await;
        match opened {
            Some(Ok(answer)) => return Some(answer.access_token),
            Some(Err(refused)) => {
                let code = refused.code;
                world.with(|inner| {
                    let now = inner.now;
                    let line = format_args!("an agent cannot use a grant: {code}");
                    inner.trace.say(now, line);
                });
            }
            None => {}
        }
        let pause = world.with(|inner| inner.chance.skewed(SECOND, 20 * SECOND));
        world.sleep(pause).await;
    }
    None
}
