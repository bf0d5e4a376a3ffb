//! Decision support: a CDS service that says what it likes about an order, falls silent and changes its mind; and people
//! who go on over what it says, or do not.

use std::sync::Arc;

use async_trait::async_trait;
use chaperone_core::decision_support::NotHeard;
use chaperone_core::digest::Digest;
use chaperone_core::ids::{CdsServiceId, OverrideReason, WritebackId};
use chaperone_core::ports::DecisionSupport;
use chaperone_core::principal::Human;
use chaperone_engine::approve::DecideFailed;
use chaperone_engine::decision_support::{Indicator, OverCard, SupportStands};
use serde_json::{Value, json};

use super::bugs::Bug;
use super::faults::Fault;
use super::people::short;
use super::play::Play;
use super::state::{CardsTold, Overrode};
use super::world::{Asked, Inner, Journey, MILLI, Micros, Process, SECOND, World};

/// How long a service may take.
const PATIENCE: Micros = 3 * SECOND;
/// How soon one that was not heard is asked again, and a little more.
const AGAIN: Micros = 35 * SECOND;
/// How often somebody goes on over a card, in a thousand.
const GOES_ON: u64 = 700;
/// What may be critical.
const CRITICAL: [&str; 3] = [
    "Interaction with what is taken already",
    "Contraindicated by what is on record",
    "More than is usual",
];

/// The services as one process reaches them.
pub(crate) struct SimSupport {
    pub(crate) world: Arc<World>,
    pub(crate) process: Process,
    pub(crate) bug: Option<Bug>,
}

impl std::fmt::Debug for SimSupport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimSupport").finish_non_exhaustive()
    }
}

impl SimSupport {
    fn journey(&self, inner: &mut Inner) -> Journey {
        let Inner {
            chance,
            faults,
            trace,
            now,
            ..
        } = inner;
        let is_silent = faults.happens(Fault::SupportSilent, chance);
        if is_silent {
            trace.fault(*now, Fault::SupportSilent, self.process);
        }
        Journey {
            changes: false,
            there: (!is_silent).then(|| chance.skewed(MILLI, 80 * MILLI)),
            back: Some(chance.skewed(MILLI, 20 * MILLI)),
            again: None,
            patience: PATIENCE,
        }
    }
}

#[async_trait]
impl DecisionSupport for SimSupport {
    async fn ask(&self, _service: &CdsServiceId, request: &Value) -> Result<Value, NotHeard> {
        let draft = request.pointer("/context/draftOrders/entry/0/resource");
        let draft = draft.cloned().ok_or(NotHeard::Failed)?;
        let (process, bug) = (self.process, self.bug);
        let journey = self.world.with(|inner| self.journey(inner));
        let asked = self.world.ask(process, journey, move |inner| {
            let critical = opinion(inner, process, &draft);
            answer(&critical, bug)
        });
        match asked.await {
            Asked::Answered(answer) => Ok(answer),
            Asked::Silence => Err(NotHeard::NoAnswer),
        }
    }
}

/// What the service finds critical about an order: the same each time, until it changes its mind.
fn opinion(inner: &mut Inner, process: Process, draft: &Value) -> Vec<String> {
    let key = draft.to_string();
    let Inner {
        chance,
        faults,
        trace,
        now,
        state,
        ..
    } = inner;
    let known = state.truth.opinions.get(&key).cloned();
    let changes = known.is_some() && faults.happens(Fault::SupportChanges, chance);
    if changes {
        trace.fault(*now, Fault::SupportChanges, process);
    }
    let critical = match known.filter(|_| !changes) {
        Some(known) => known,
        None => {
            let mut of = CRITICAL.to_vec();
            let skipped = usize::try_from(chance.below(3)).unwrap_or(0);
            of.rotate_left(skipped);
            let most = if chance.in_thousand(250) { 2 } else { 1 };
            let is_critical = faults.happens(Fault::CriticalCard, chance);
            if is_critical {
                trace.fault(*now, Fault::CriticalCard, process);
            }
            of.iter()
                .take(if is_critical { most } else { 0 })
                .map(|it| (*it).to_owned())
                .collect()
        }
    };
    state.truth.opinions.insert(key, critical.clone());
    state.truth.told_cards.push(CardsTold {
        process,
        draft: draft.clone(),
        critical: critical.clone(),
        at: *now,
    });
    critical
}

fn answer(critical: &[String], bug: Option<Bug>) -> Value {
    let gravest = match bug {
        Some(Bug::CardsPlayedDown) => "warning",
        _ => "critical",
    };
    let card = |summary: &str, indicator: &str| json!({ "summary": summary, "indicator": indicator, "source": { "label": "Simulated" } });
    let mut cards: Vec<Value> = critical.iter().map(|it| card(it, gravest)).collect();
    cards.push(card("Nothing else was found", "info"));
    json!({ "cards": cards })
}

/// Somebody who wanted to approve is told that decision support stands against it. Whether they try again.
pub(crate) async fn stands(
    play: &Arc<Play>,
    by: &Human,
    (id, order): (WritebackId, Digest),
    why: SupportStands,
) -> bool {
    let world = &play.cluster.world;
    if why == SupportStands::NotHeard {
        world.sleep(AGAIN).await;
        return true;
    }
    let (node, who) = (play.some_node(), by.clone());
    let shown = play
        .cluster
        .on(node, move |engine| async move {
            engine.decision_support(&who, id).await.ok().flatten()
        })
        .await;
    let Some(Some(shown)) = shown else {
        world.sleep(SECOND).await;
        return true;
    };
    if play.cluster.bug == Some(Bug::CardsOverriddenByNobody) {
        for view in &shown.cards {
            go_on(play, by, (id, order), view.card.id).await;
        }
        return true;
    }
    for view in shown.cards {
        if view.card.indicator != Indicator::Critical || view.overridden.is_some() {
            continue;
        }
        let goes_on = world.with(|inner| {
            let goes_on = inner.chance.in_thousand(GOES_ON);
            if goes_on {
                let (at, truth) = (inner.now, &mut inner.state.truth);
                let human = truth.human(by);
                truth.overrode.push(Overrode {
                    writeback: id,
                    card: view.card.id,
                    summary: view.card.summary.clone(),
                    human,
                    at,
                });
                let line = format_args!("human {human} goes on with {} over a card", short(id));
                inner.trace.say(at, line);
            }
            goes_on
        });
        if !goes_on {
            return false;
        }
        go_on(play, by, (id, order), view.card.id).await;
    }
    true
}

async fn go_on(
    play: &Arc<Play>,
    by: &Human,
    (id, order): (WritebackId, Digest),
    card: Digest,
) -> Option<Result<(), DecideFailed>> {
    let reason = OverrideReason::new("does-not-apply").ok()?;
    let over = OverCard {
        order,
        card,
        reason,
    };
    let (node, who) = (play.some_node(), by.clone());
    play.cluster
        .on(node, move |engine| async move {
            engine.override_card(&who, id, over).await
        })
        .await
}
