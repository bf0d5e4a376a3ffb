//! People of the simulation: they decide what waits for them, late, twice, on two nodes, under two accounts; and
//! they look up in the EHR what no machine can know. What they saw and meant is written into the truth.
//!
//! Signing in and codes are not simulated: a second factor is the record that the people part of the engine
//! leaves when a code was right.

use std::collections::BTreeSet;
use std::sync::Arc;

use chaperone_core::digest::Digest;
use chaperone_core::gate::Gate;
use chaperone_core::ids::{AccountName, OverrideReason, PersonId, StepUpId, WritebackId};
use chaperone_core::ports::{Commit, Listing, Record, RecordChange};
use chaperone_core::principal::{Actor, Human, Role};
use chaperone_core::writeback::{Refusal, StateName};
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::projection::WritebackRow;
use serde_json::{Value, json};

use super::bugs::Bug;
use super::cards;
use super::claims;
use super::editing;
use super::faults::Fault;
use super::play::Play;
use super::server::{Effect, ServerProfile};
use super::state::{Agreed, Looked};
use super::together;
use super::undoing;
use super::world::{Inner, MILLI, OUTSIDE, SECOND};

/// How often a person tries when the node does not answer.
const TRIES_MAX: u32 = 8;
/// How long after an outcome became unknown a person looks: nobody runs.
const LOOKS_AFTER: u64 = 25 * SECOND;

/// Who works here.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    bug: Option<Bug>,
}

/// Humans by number; the second account of one of them counts as the same human.
const NURSE: u8 = 1;
const REQUESTER: u8 = 2;
const ASSISTANT: u8 = 3;
const SCHEDULER: u8 = 4;
const PRESCRIBER: u8 = 5;
const PHARMACIST: u8 = 6;
const OPERATOR: u8 = 7;
const GONE: u8 = 10;
/// In training beside a clinician, a nurse or whoever else decides.
const TRAINEE: u8 = 11;
const OTHER_TRAINEE: u8 = 12;
/// Health-information management.
const RECORDS: u8 = 13;
/// A clinician beside the one who asks and the one who decides.
const COLLEAGUE: u8 = 14;
/// A scheduler beside the other.
const DESK: u8 = 15;
/// As many as there are.
const PEOPLE: u8 = DESK;
/// The prescriber's second account.
const SECOND_ACCOUNT: u8 = 8;
/// The person that a wrong directory makes of the prescriber's second account.
const GHOST: u8 = 9;

impl Directory {
    pub(crate) fn new(bug: Option<Bug>) -> Self {
        Self { bug }
    }

    /// Every person with the human behind them.
    pub(crate) fn humans() -> impl Iterator<Item = (PersonId, usize)> {
        (1..=PEOPLE).map(|n| {
            let human = if n == GHOST { PRESCRIBER } else { n };
            (PersonId::from_random([n; 16]), usize::from(human))
        })
    }

    fn human(account: u8, person: u8, roles: &[Role]) -> Option<Human> {
        Some(Human {
            account: AccountName::new(format!("person-{account}")).ok()?,
            person: PersonId::from_random([person; 16]),
            roles: roles.to_vec(),
        })
    }

    fn of(account: u8, roles: &[Role]) -> Human {
        Self::human(account, account, roles).unwrap_or_else(|| Human {
            account: fallback(),
            person: PersonId::from_random([account; 16]),
            roles: roles.to_vec(),
        })
    }

    pub(crate) fn nurse(&self) -> Human {
        Self::of(NURSE, &[Role::Rn])
    }

    pub(crate) fn scheduler(&self) -> Human {
        Self::of(SCHEDULER, &[Role::Scheduler])
    }

    /// The clinician who is present and asks.
    pub(crate) fn requester(&self) -> Human {
        Self::of(REQUESTER, &[Role::Clinician])
    }

    /// Another clinician.
    pub(crate) fn prescriber(&self) -> Human {
        Self::of(PRESCRIBER, &[Role::Clinician, Role::Him])
    }

    /// Their second account.
    pub(crate) fn prescriber_again(&self) -> Human {
        let person = match self.bug {
            Some(Bug::SamePersonTwice) => GHOST,
            _ => PRESCRIBER,
        };
        let roles = [Role::Pharmacist, Role::Rn];
        Self::human(SECOND_ACCOUNT, person, &roles).unwrap_or_else(|| Self::of(PRESCRIBER, &roles))
    }

    /// A clinician who works here no longer.
    pub(crate) fn gone(&self) -> Human {
        Self::of(GONE, &[Role::Clinician])
    }

    /// The humans who are in training.
    pub(crate) fn in_training() -> BTreeSet<usize> {
        [TRAINEE, OTHER_TRAINEE].map(usize::from).into()
    }

    /// Somebody in training for a role.
    pub(crate) fn trainee(&self, role: Role) -> Human {
        self.learning(TRAINEE, role)
    }

    fn other_trainee(&self, role: Role) -> Human {
        self.learning(OTHER_TRAINEE, role)
    }

    fn learning(&self, account: u8, role: Role) -> Human {
        match self.bug {
            Some(Bug::TraineeUnmarked) => Self::of(account, &[role]),
            _ => Self::of(account, &[role, Role::Trainee]),
        }
    }

    fn pharmacist(&self) -> Human {
        Self::of(PHARMACIST, &[Role::Pharmacist])
    }

    pub(crate) fn records(&self) -> Human {
        Self::of(RECORDS, &[Role::Him])
    }

    /// Everybody who is in training, for one role or another.
    pub(crate) fn learners(&self) -> [Human; 2] {
        let role = Role::Clinician;
        [self.trainee(role), self.other_trainee(role)]
    }

    /// Every account that is in use.
    pub(crate) fn accounts(&self) -> Vec<Human> {
        vec![
            self.nurse(),
            self.requester(),
            self.holding(Role::MaRn),
            self.scheduler(),
            self.prescriber(),
            self.pharmacist(),
            self.operator(),
            self.prescriber_again(),
            self.trainee(Role::Clinician),
            self.records(),
            self.beside(Role::Clinician),
            self.beside(Role::Scheduler),
        ]
    }

    pub(crate) fn operator(&self) -> Human {
        Self::of(OPERATOR, &[Role::ItAdmin])
    }

    /// Who decides by a role of a gate.
    pub(crate) fn holding(&self, role: Role) -> Human {
        match role {
            Role::Scheduler => self.scheduler(),
            Role::MaRn => Self::of(ASSISTANT, &[Role::MaRn]),
            Role::Rn => self.nurse(),
            Role::Pharmacist => self.pharmacist(),
            Role::Him => self.records(),
            _ => self.prescriber(),
        }
    }

    /// Somebody else by that role, or at least somebody else.
    pub(crate) fn beside(&self, role: Role) -> Human {
        match role {
            Role::Scheduler => Self::of(DESK, &[Role::Scheduler]),
            Role::Pharmacist | Role::Rn => self.prescriber_again(),
            Role::Him => self.prescriber(),
            _ => Self::of(COLLEAGUE, &[Role::Clinician]),
        }
    }
}

#[expect(clippy::expect_used, reason = "a fixed name that is well formed")]
fn fallback() -> AccountName {
    AccountName::new("person").expect("a slug")
}

/// People decide about one write-back, if it waits for them.
pub(crate) async fn decide(play: Arc<Play>, id: WritebackId) {
    let world = Arc::clone(&play.cluster.world);
    let pause = world.with(|inner| {
        let late = inner.faults.happens(Fault::DecidedLate, &mut inner.chance);
        if late {
            let now = inner.now;
            inner.trace.fault(now, Fault::DecidedLate, id);
        }
        let most = if late { 1_000 * SECOND } else { 60 * SECOND };
        let least = if late { 60 * SECOND } else { SECOND };
        inner.chance.skewed(least, most)
    });
    world.sleep(pause).await;
    let Some(row) = look(&play, id).await else {
        return;
    };
    let (Some(gate), Some(digest)) = (row.gate.clone(), row.digest) else {
        return;
    };
    if row.state != StateName::AwaitingApproval {
        return;
    }
    if happens(&play, Fault::Edited, id)
        && let Some(into) = editing::edit(&play, &row).await
    {
        // Whoever decides sees what it was changed into, and some still have the other before them.
        Box::pin(decide(Arc::clone(&play), into)).await;
    }
    let role = match &gate {
        Gate::Approve { roles } | Gate::Approve2f { roles } => roles.first().copied(),
        Gate::TwoPerson { first, .. } => Some(*first),
        Gate::Auto | Gate::AutoVerified { .. } | Gate::Deny => None,
    };
    if let Some(role) = role
        && happens(&play, Fault::TakenInHand, id)
    {
        claims::take_in_hand(&play, id, role).await;
    }
    if let Gate::Approve { roles } | Gate::Approve2f { roles } = &gate
        && let Some(role) = roles.first()
        && happens(&play, Fault::TraineeFirst, id)
    {
        let with_factor = matches!(gate, Gate::Approve2f { .. });
        agree(&play, play.people.trainee(*role), id, digest, with_factor).await;
        if happens(&play, Fault::NobodyBeside, id) {
            // Another one in training is no colleague.
            agree(
                &play,
                play.people.other_trainee(*role),
                id,
                digest,
                with_factor,
            )
            .await;
            return;
        }
        let pause = world.with(|inner| inner.chance.skewed(SECOND, 30 * SECOND));
        world.sleep(pause).await;
    }
    if happens(&play, Fault::Rejected, id)
        && let Gate::Approve { roles } | Gate::Approve2f { roles } = &gate
        && let Some(role) = roles.first()
    {
        reject(&play, play.people.holding(*role), id, digest).await;
        return;
    }
    if let Some(role) = role
        && happens(&play, Fault::Together, id)
    {
        let by = match happens(&play, Fault::TraineeFirst, id) {
            true => play.people.trainee(role),
            false => play.people.holding(role),
        };
        if together::decide(&play, &by, (id, digest)).await {
            return;
        }
    }
    match gate {
        Gate::Approve { roles } => {
            if let Some(role) = roles.first() {
                agree(&play, play.people.holding(*role), id, digest, false).await;
            }
        }
        Gate::Approve2f { roles } => {
            if let Some(role) = roles.first() {
                agree(&play, play.people.holding(*role), id, digest, true).await;
            }
        }
        Gate::TwoPerson { first, second } => {
            agree(&play, play.people.holding(first), id, digest, true).await;
            if happens(&play, Fault::SamePerson, id) {
                agree(&play, play.people.prescriber_again(), id, digest, false).await;
            }
            let pause = world.with(|inner| inner.chance.skewed(SECOND, 30 * SECOND));
            world.sleep(pause).await;
            agree(&play, play.people.holding(second), id, digest, false).await;
        }
        Gate::Auto | Gate::AutoVerified { .. } | Gate::Deny => {}
    }
}

pub(crate) fn happens(play: &Play, fault: Fault, whom: impl std::fmt::Display) -> bool {
    play.cluster.world.with(|inner| {
        let happens = inner.faults.happens(fault, &mut inner.chance);
        if happens {
            let now = inner.now;
            inner.trace.fault(now, fault, whom);
        }
        happens
    })
}

pub(crate) async fn look(play: &Arc<Play>, id: WritebackId) -> Option<WritebackRow> {
    for _ in 0..TRIES_MAX {
        let node = play.some_node();
        let row = play
            .cluster
            .on(node, move |engine| async move {
                engine.writeback(id).await.ok().flatten()
            })
            .await;
        if let Some(Some(row)) = row {
            return Some(row);
        }
        play.cluster.world.sleep(2 * SECOND).await;
    }
    None
}

/// One person agrees to what is on their screen, perhaps twice at once, perhaps mistaking it for another.
async fn agree(play: &Arc<Play>, by: Human, id: WritebackId, digest: Digest, with_factor: bool) {
    let world = &play.cluster.world;
    let seen = match happens(play, Fault::OtherDigest, id) {
        true => world.with(|inner| Digest::of_bytes(&inner.chance.next().to_be_bytes())),
        false => digest,
    };
    let number = agreed(play, &by, (id, seen), (with_factor, false));
    let subject = json!({ "for": "approval", "writeback": id });
    let factor = with_factor.then(|| second_factor(play, &by, subject, seen));
    let told = match play.cluster.bug {
        Some(Bug::DigestNotCompared) => digest,
        _ => seen,
    };
    let request = ApproveRequest {
        writeback: id,
        digest: told,
        step_up: factor,
        override_reason: None,
        review_ms: 9_000,
    };
    if happens(play, Fault::DecidedTwice, id) {
        let (play, by, request) = (Arc::clone(play), by.clone(), request.clone());
        let world = Arc::clone(world);
        world.spawn(
            OUTSIDE,
            async move { approve(&play, by, request, number).await },
        );
    }
    approve(play, by.clone(), request.clone(), number).await;
    if with_factor && happens(play, Fault::FactorAgain, id) {
        // The same code is tried for whatever else waits for this person.
        for other in waiting(play) {
            if other.id != id {
                let again = ApproveRequest {
                    writeback: other.id,
                    digest: other.digest.unwrap_or(seen),
                    ..request.clone()
                };
                approve_unseen(play, by.clone(), again).await;
            }
        }
    }
}

/// Writes down what a person agrees to, with a second factor or not, by itself or together with others. Its number.
pub(crate) fn agreed(
    play: &Play,
    by: &Human,
    (writeback, digest): (WritebackId, Digest),
    (with_factor, together): (bool, bool),
) -> usize {
    play.cluster.world.with(|inner| {
        let (at, truth) = (inner.now, &mut inner.state.truth);
        let human = truth.human(by);
        let line = format_args!("human {human} agrees to {}", short(writeback));
        inner.trace.say(at, line);
        truth.agreed.push(Agreed {
            writeback,
            digest,
            human,
            at,
            with_factor,
            together,
            taken: false,
        });
        truth.agreed.len().saturating_sub(1)
    })
}

pub(crate) fn short(id: WritebackId) -> String {
    let id = id.to_string();
    id.get(..12).unwrap_or(&id).to_owned()
}

/// What the people part of the engine records when a code was right.
pub(crate) fn second_factor(play: &Play, by: &Human, subject: Value, digest: Digest) -> StepUpId {
    play.cluster.world.with(|inner| {
        let mut raw = [0; 16];
        for chunk in raw.chunks_mut(8) {
            chunk.copy_from_slice(&inner.chance.next().to_be_bytes());
        }
        let id = StepUpId::from_random(raw);
        let at = inner.clock(0);
        let ends = at
            .checked_add(jiff::SignedDuration::from_secs(300))
            .unwrap_or(at);
        let value = json!({
            "person": by.person, "account": by.account, "digest": digest,
            "subject": subject,
            // A clock that is behind must not see a factor of the future.
            "verified_at": at.checked_sub(jiff::SignedDuration::from_secs(5)).unwrap_or(at),
        });
        let record = Record::new("step_up", id, value).expiring(ends);
        let mut commit = Commit::new(play.cluster.tenant().clone(), at, Actor::from(by));
        commit.records.push(RecordChange::Create(record));
        let _ = inner.state.tables.commit(&commit);
        id
    })
}

async fn approve(play: &Arc<Play>, by: Human, mut request: ApproveRequest, number: usize) {
    for _ in 0..TRIES_MAX {
        let node = play.some_node();
        let (asked, who) = (request.clone(), by.clone());
        let answer = play
            .cluster
            .on(node, move |engine| async move {
                engine.approve(&who, asked).await.map(|_| ())
            })
            .await;
        match answer {
            Some(Ok(())) => {
                play.cluster.world.with(|inner| {
                    if let Some(agreed) = inner.state.truth.agreed.get_mut(number) {
                        agreed.taken = true;
                    }
                });
                return;
            }
            Some(Err(DecideFailed::Refused(Refusal::OverrideReasonRequired))) => {
                request.override_reason = OverrideReason::new("does-not-apply").ok();
            }
            Some(Err(DecideFailed::DecisionSupport(why))) => {
                let seen = (request.writeback, request.digest);
                if !cards::stands(play, &by, seen, why).await {
                    return;
                }
            }
            Some(Err(DecideFailed::Claimed { .. })) => wait_or_take_over(play, &by, &request).await,
            Some(Err(
                DecideFailed::Store(_)
                | DecideFailed::Commit(_)
                | DecideFailed::Keys(_)
                | DecideFailed::Switched
                | DecideFailed::Conflict,
            ))
            | None => {
                let pause = play
                    .cluster
                    .world
                    .with(|inner| inner.chance.skewed(SECOND, 10 * SECOND));
                play.cluster.world.sleep(pause).await;
            }
            Some(Err(_)) => return,
        }
    }
}

/// Somebody else has it in hand.
async fn wait_or_take_over(play: &Arc<Play>, by: &Human, request: &ApproveRequest) {
    let world = &play.cluster.world;
    if world.with(|inner| inner.chance.in_thousand(400)) {
        claims::take_over(play, by, request.writeback).await;
        return;
    }
    let pause = world.with(|inner| inner.chance.skewed(SECOND, 60 * SECOND));
    world.sleep(pause).await;
}

/// A request that no person made in this way; what comes of it must be a refusal.
async fn approve_unseen(play: &Arc<Play>, by: Human, request: ApproveRequest) {
    let node = play.some_node();
    let _ = play
        .cluster
        .on(node, move |engine| async move {
            engine.approve(&by, request).await.map(|_| ())
        })
        .await;
}

async fn reject(play: &Arc<Play>, by: Human, id: WritebackId, digest: Digest) {
    for _ in 0..TRIES_MAX {
        let (node, who) = (play.some_node(), by.clone());
        let answer = play
            .cluster
            .on(node, move |engine| async move {
                engine.reject(&who, id, digest, "not now").await.map(|_| ())
            })
            .await;
        if matches!(answer, Some(Ok(()) | Err(DecideFailed::Refused(_)))) {
            return;
        }
        play.cluster.world.sleep(3 * SECOND).await;
    }
}

/// Everything that waits for an approval, as the store has it.
pub(crate) fn waiting(play: &Play) -> Vec<WritebackRow> {
    rows(play, &["awaiting_approval"])
}

/// Rows of write-backs in some states.
pub(crate) fn rows(play: &Play, states: &[&str]) -> Vec<WritebackRow> {
    play.cluster.world.with(|inner| {
        let listing = Listing {
            limit: 1_000,
            ..Listing::default()
        };
        let tenant = inner.state.tables.of(play.cluster.tenant());
        tenant
            .projections("writeback", &listing)
            .into_iter()
            .filter(|row| {
                row.index
                    .as_deref()
                    .is_some_and(|index| states.contains(&index))
            })
            .filter_map(|row| serde_json::from_value(row.value).ok())
            .collect()
    })
}

/// Looks after what waits for a person, over and over: unknown outcomes, entries by hand, dead letters.
pub(crate) async fn look_after(play: Arc<Play>) {
    let world = Arc::clone(&play.cluster.world);
    let mut known = Vec::new();
    loop {
        let pause = world.with(|inner| inner.chance.between(5 * SECOND, 20 * SECOND));
        world.sleep(pause).await;
        undoing::decide_what_waits(&play, &mut known);
        for row in rows(&play, &["quarantined"]) {
            undoing::look_at_aside(&play, &row).await;
        }
        for row in rows(&play, &["unknown", "dead_letter", "delivering"]) {
            look_at(&play, row).await;
        }
    }
}

async fn look_at(play: &Arc<Play>, row: WritebackRow) {
    let world = &play.cluster.world;
    let (id, by) = (row.id, play.people.prescriber());
    let node = play.some_node();
    match row.state {
        StateName::Unknown if row.human_needed.is_some() => {
            let applied = world.with(|inner| {
                let last = inner
                    .state
                    .truth
                    .sends
                    .iter()
                    .rev()
                    .find(|it| it.writeback == id);
                if last.is_some_and(|it| inner.now < it.left.saturating_add(LOOKS_AFTER)) {
                    return None;
                }
                // What the EHR took in part a person completes there by hand.
                let now = inner.now;
                inner.state.ehr.complete(now, id);
                let applied = is_there(inner, id);
                let at = inner.now;
                inner.state.truth.looked.push(Looked {
                    writeback: id,
                    applied,
                    at,
                });
                inner.trace.say(
                    at,
                    format_args!("a human looks at {}: applied {applied}", short(id)),
                );
                Some(applied)
            });
            let Some(applied) = applied else { return };
            let told = play
                .cluster
                .on(node, move |engine| async move {
                    engine
                        .resolve_unknown(&by, id, applied, "looked it up")
                        .await
                        .map(|_| ())
                })
                .await;
            // What is there is not what was placed, and nobody's word makes it so: it is taken away there.
            if let Some(Err(DecideFailed::NotAsPlaced)) = told {
                world.with(|inner| tidy(inner, id));
            }
        }
        StateName::DeadLetter => {
            let requeue = world.with(|inner| inner.chance.in_thousand(400));
            let _ = play
                .cluster
                .on(node, move |engine| async move {
                    if requeue && engine.requeue(&by, id, "mended").await.is_ok() {
                        return;
                    }
                    let _ = engine.abandon(&by, id, "not needed").await;
                })
                .await;
        }
        StateName::Delivering if row.deadline.is_some() => {
            let choice = world.with(|inner| inner.chance.below(4));
            let nurse = play.people.nurse();
            let _ = play
                .cluster
                .on(node, move |engine| async move {
                    match choice {
                        0 => drop(engine.decline_entry(&nurse, id, "done by telephone").await),
                        1 | 2 => drop(engine.attest_entry(&nurse, id, "entered").await),
                        _ => {}
                    }
                })
                .await;
        }
        _ => {}
    }
}

/// Whether the EHR did what a write-back asked for, as a person sees it: a draft that was taken away is not there.
fn is_there(inner: &Inner, id: WritebackId) -> bool {
    let ehr = &inner.state.ehr;
    let mut effects = ehr.history.iter().filter(|it| it.request.writeback == id);
    effects.any(|it| {
        let stands = |done: &Effect| ehr.now(&done.kind, &done.id).is_some();
        let is_draft = ehr.profile == ServerProfile::Staged;
        it.effects().any(|done| !is_draft || stands(done))
    })
}

/// A person takes away at the EHR what is there of a write-back.
fn tidy(inner: &mut Inner, id: WritebackId) {
    let history = inner.state.ehr.history.iter();
    let done: Vec<Effect> = history
        .filter(|it| it.request.writeback == id)
        .flat_map(|it| it.effects().cloned())
        .collect();
    for effect in done {
        inner.state.ehr.remove(&effect.kind, &effect.id);
    }
    let now = inner.now;
    inner.trace.say(
        now,
        format_args!("a human takes away what is there of {}", short(id)),
    );
}

/// The pause of somebody who will try again.
pub(crate) const PATIENTLY: u64 = 200 * MILLI;
