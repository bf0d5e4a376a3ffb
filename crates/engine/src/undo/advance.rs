//! One step of a run: what can be done about each of its effects now. Idempotent: each step is one commit, guarded by
//! the versions of what it saw; whoever comes second finds it done.
//!
//! ```text
//! Found ─┬─▶ SetAside | Withdrawn | Nothing | Person
//!        ├─▶ Waiting ─▶ (what becomes of it) ─▶ as Found
//!        └─▶ Proposed ─┬─ delivered ──────────────▶ Undone, and the effect is Compensated
//!                      ├─ stale, expired ─────────▶ as Found, at most so many times
//!                      └─ rejected, given up ─────▶ Person
//! ```

use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{UndoId, WritebackId};
use chaperone_core::ports::{Commit, Expected, LISTED_MAX, Listing, RecordChange};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::undo::{PersonNeeded, UndoCounts, UndoEvent, UndoPart, UndoStep};
use chaperone_core::writeback::{Command, QuarantineReason, RefusedBy, StateName, Writeback};
use serde::Serialize;

use super::found::{Chosen, Found, Place};
use super::remedy::Remedied;
use super::{Item, KEPT_S, OPEN, RUNS, UndoFailed, UndoRun, counts, item_record, run_record};
use crate::context::{Engine, after};
use crate::propose::never_waits;
use crate::transition::InHand;

/// How often what undoes one effect is proposed before a person must act.
const PROPOSED_MAX: usize = 3;

/// What one pass over a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UndoAdvanced {
    /// Effects that moved.
    pub moved: u64,
    /// Effects that could not be looked at now and are again later.
    pub later: u64,
    /// Where all of them stand.
    pub counts: UndoCounts,
    /// Whether the run is at its end.
    pub finished: bool,
}

/// What earlier proposals to undo an effect came to.
struct Earlier {
    /// The newest.
    last: Option<WritebackId>,
    /// How many.
    count: usize,
}

impl Engine {
    /// Goes on with every open run. Returns how many effects moved.
    ///
    /// # Errors
    /// When the runs cannot be listed; one that cannot go on is told in the log and looked at again.
    pub async fn advance_undo_runs(&self) -> Result<u64, UndoFailed> {
        let listing = Listing {
            index: Some(OPEN.to_owned()),
            limit: LISTED_MAX,
            ..Listing::default()
        };
        let records = self
            .store
            .records(&self.config.tenant, RUNS, listing, self.now())
            .await?;
        let mut moved = 0_u64;
        for record in &records {
            let Ok(run) = record.key.key.parse::<UndoId>() else {
                continue;
            };
            match self.advance_undo(run).await {
                Ok(advanced) => moved = moved.saturating_add(advanced.moved),
                Err(UndoFailed::Again) => {}
                Err(failed) => {
                    tracing::warn!(run = %run, error = %failed, "an undo run did not go on");
                }
            }
        }
        Ok(moved)
    }

    /// Goes on with one run as far as it can now.
    ///
    /// # Errors
    /// When the run cannot be read. What cannot be done about one effect now is tried again by the next pass.
    pub async fn advance_undo(&self, id: UndoId) -> Result<UndoAdvanced, UndoFailed> {
        let (run, revision) = self.undo_run(id).await?;
        let mut items = self.undo_items(id).await?;
        let (mut moved, mut later) = (0_u64, 0_u64);
        if run.finished.is_none() {
            // Newest first: what rests on something goes before it.
            for (item, revision) in items.iter().rev().filter(|(item, _)| !item.step.is_last()) {
                if self.is_still_waited_for(item).await? {
                    continue;
                }
                match self.advance_effect(&run, item, *revision).await {
                    Ok(true) => moved = moved.saturating_add(1),
                    Ok(false) => {}
                    Err(failed) => {
                        later = later.saturating_add(1);
                        tracing::info!(run = %id, writeback = %item.writeback, error = %failed, "an effect is looked at again");
                    }
                }
            }
            items = self.undo_items(id).await?;
        }
        let mut finished = run.finished.is_some();
        if !finished && counts(&items).is_settled() {
            match self.join_dependents(&run, &items).await? {
                0 => {
                    self.finish_undo(run, revision, &items).await?;
                    finished = true;
                }
                joined => {
                    moved = moved.saturating_add(joined);
                    items = self.undo_items(id).await?;
                }
            }
        }
        if moved > 0 || finished {
            self.announce_change();
        }
        Ok(UndoAdvanced {
            moved,
            later,
            counts: counts(&items),
            finished,
        })
    }

    /// Whether what an effect waits for has not come yet, by the list alone: a run may wait for people for days.
    async fn is_still_waited_for(&self, item: &Item) -> Result<bool, UndoFailed> {
        let (of, states) = match &item.step {
            UndoStep::Proposed { by } => (
                *by,
                [
                    StateName::AwaitingApproval,
                    StateName::Ready,
                    StateName::Delivering,
                    StateName::Unknown,
                    StateName::AwaitingSignature,
                    StateName::DeadLetter,
                ]
                .as_slice(),
            ),
            UndoStep::Waiting => (
                item.writeback,
                [
                    StateName::Delivering,
                    StateName::Unknown,
                    StateName::AwaitingSignature,
                ]
                .as_slice(),
            ),
            _ => return Ok(false),
        };
        let row = self.writeback(of).await?;
        Ok(row.is_some_and(|row| states.contains(&row.state)))
    }

    /// Does what can be done about one effect. True when it stands elsewhere now.
    async fn advance_effect(
        &self,
        run: &UndoRun,
        item: &Item,
        revision: u64,
    ) -> Result<bool, UndoFailed> {
        let mut hand = self.take_in_hand(item.writeback).await?;
        let earlier = self.earlier_compensations(&hand).await?;
        let mut commit = self.commit_as(undoing());
        let now = commit.at;
        let person = |needed| UndoStep::Person { needed, task: None };
        let step = match hand.state.clone() {
            Writeback::Refused(_)
            | Writeback::Abandoned(_)
            | Writeback::Canary(_)
            | Writeback::CanarySettled(_) => UndoStep::Nothing,
            Writeback::Void(void) => {
                let by_hand = void.ready().ruled().order.strategy
                    == chaperone_core::evidence::Strategy::HumanEntry;
                match by_hand {
                    true => person(PersonNeeded::EnteredByHand),
                    false => UndoStep::Nothing,
                }
            }
            Writeback::Compensated(done) => UndoStep::Undone { by: done.by() },
            Writeback::Quarantined(_) => UndoStep::SetAside,
            // A call for help and an opting out wait for nothing: they are compensated once they are there.
            Writeback::Ready(ready) if never_waits(ready.ruled()) => UndoStep::Waiting,
            // Also where a person enters it, or looks what became of it: then what they say is waited for.
            Writeback::Delivering(_) | Writeback::Unknown(_) | Writeback::AwaitingSignature(_) => {
                UndoStep::Waiting
            }
            Writeback::Staged(staged) => {
                if staged.promoted_by().is_some() {
                    UndoStep::Nothing
                } else {
                    set_aside(&mut hand, now)?;
                    let refused = RefusedBy::Human {
                        person: run.person,
                        reason: run.reason,
                    };
                    hand.step(Command::Refuse { refused }, now)?;
                    UndoStep::Withdrawn
                }
            }
            Writeback::Proposed(_)
            | Writeback::Validated(_)
            | Writeback::AwaitingVerification(_)
            | Writeback::AwaitingApproval(_)
            | Writeback::Ready(_)
            | Writeback::DeadLetter(_) => {
                set_aside(&mut hand, now)?;
                UndoStep::SetAside
            }
            Writeback::Delivered(delivered) => {
                return self
                    .advance_delivered(run, item, revision, hand, &delivered, earlier)
                    .await;
            }
        };
        if step == item.step {
            return Ok(false);
        }
        hand.write_into(&mut commit)?;
        self.move_item(run, item, revision, step, commit).await?;
        Ok(true)
    }

    async fn advance_delivered(
        &self,
        run: &UndoRun,
        item: &Item,
        revision: u64,
        mut hand: InHand,
        delivered: &chaperone_core::writeback::Delivered,
        earlier: Earlier,
    ) -> Result<bool, UndoFailed> {
        if let Some(by) = earlier.last {
            let compensation = self.take_in_hand(by).await?;
            match &compensation.state {
                Writeback::Delivered(_) | Writeback::Compensated(_) => {
                    let mut commit = self.commit_as(undoing());
                    hand.step(Command::Compensate { by }, commit.at)?;
                    hand.write_into(&mut commit)?;
                    let step = UndoStep::Undone { by };
                    self.move_item(run, item, revision, step, commit).await?;
                    return Ok(true);
                }
                Writeback::Refused(refused) => match refused.by() {
                    RefusedBy::Human { .. } if item.step == (UndoStep::Proposed { by }) => {
                        return self
                            .ask_person(run, item, revision, &hand, PersonNeeded::Rejected)
                            .await;
                    }
                    _ if earlier.count >= PROPOSED_MAX && is_proposed(item) => {
                        return self
                            .ask_person(run, item, revision, &hand, PersonNeeded::NotDecided)
                            .await;
                    }
                    // Nobody decided in time, or the rules changed, or another run's was rejected: it is worked out anew.
                    _ => {}
                },
                Writeback::Void(_) if earlier.count >= PROPOSED_MAX && is_proposed(item) => {
                    return self
                        .ask_person(run, item, revision, &hand, PersonNeeded::NotDelivered)
                        .await;
                }
                Writeback::Void(_) => {}
                Writeback::Abandoned(_) if is_proposed(item) => {
                    return self
                        .ask_person(run, item, revision, &hand, PersonNeeded::NotDelivered)
                        .await;
                }
                Writeback::Abandoned(_) => {}
                // It is on its way, whichever run proposed it.
                _ => {
                    let step = UndoStep::Proposed { by };
                    if item.step == step {
                        return Ok(false);
                    }
                    let commit = self.commit_as(undoing());
                    self.move_item(run, item, revision, step, commit).await?;
                    return Ok(true);
                }
            }
        }
        if item.on.is_some() {
            return self
                .ask_person(run, item, revision, &hand, PersonNeeded::RestsOnUndone)
                .await;
        }
        let id = WritebackId::from_random(self.random.id());
        let original = hand.state.proposal().clone();
        let draft = match self.remedy(delivered, &original, id).await? {
            Remedied::Write(draft) => draft,
            Remedied::Nothing => {
                let commit = self.commit_as(undoing());
                self.move_item(run, item, revision, UndoStep::Nothing, commit)
                    .await?;
                return Ok(true);
            }
            Remedied::Person(needed) => {
                return self.ask_person(run, item, revision, &hand, needed).await;
            }
        };
        let mut commit = self.commit_as(undoing());
        let part = UndoPart::Compensation;
        let proposed = self
            .propose_remedy(run, part, &original, id, *draft, &mut commit)
            .await?;
        let noted = UndoEvent::CompensationProposed {
            run: run.id,
            by: id,
        };
        // Under the version that was seen: of two that come at once, one finds the other's.
        hand.note(&mut commit, Event::Undo(noted))?;
        let step = UndoStep::Proposed { by: id };
        self.move_item(run, item, revision, step, commit).await?;
        self.notify_waiting(&proposed);
        Ok(true)
    }

    /// Puts an effect before people: as a task at the EHR where it takes one, and on the run's page in any case.
    async fn ask_person(
        &self,
        run: &UndoRun,
        item: &Item,
        revision: u64,
        hand: &InHand,
        needed: PersonNeeded,
    ) -> Result<bool, UndoFailed> {
        let original = hand.state.proposal().clone();
        let places = match &hand.state {
            Writeback::Delivered(delivered) => self.places_of(delivered.receipt()).await?,
            _ => None,
        };
        let places = places.unwrap_or_default();
        let id = WritebackId::from_random(self.random.id());
        let mut commit = self.commit_as(undoing());
        let task = match self.task_draft(&original, places, needed, run.id, id).await {
            Some(draft) => {
                self.propose_remedy(run, UndoPart::Task, &original, id, *draft, &mut commit)
                    .await?;
                Some(id)
            }
            None => None,
        };
        let step = UndoStep::Person { needed, task };
        self.move_item(run, item, revision, step, commit).await?;
        self.tell_operator(item.writeback, "undo-by-hand");
        Ok(true)
    }

    /// A task cannot be had while the EHR does not answer; the person is asked on the run's page all the same.
    async fn task_draft(
        &self,
        original: &chaperone_core::writeback::Proposal,
        places: Vec<Place>,
        needed: PersonNeeded,
        run: UndoId,
        id: WritebackId,
    ) -> Option<Box<super::remedy::Draft>> {
        match self.task_about(original, places, needed, run, id).await {
            Ok(draft) => draft,
            Err(failed) => {
                tracing::info!(run = %run, error = %failed, "no task was made for a person");
                None
            }
        }
    }

    async fn move_item(
        &self,
        run: &UndoRun,
        item: &Item,
        revision: u64,
        step: UndoStep,
        mut commit: Commit,
    ) -> Result<(), UndoFailed> {
        let moved = UndoEvent::Moved {
            writeback: item.writeback,
            step: step.clone(),
        };
        commit.append(StreamId::Undo(run.id), Expected::Any, Event::Undo(moved));
        let item = Item {
            step,
            ..item.clone()
        };
        let record = item_record(run.id, &item)?;
        commit.records.push(RecordChange::Update(record, revision));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Proposals to undo an effect, by whichever run, as the effect's own stream has them.
    async fn earlier_compensations(&self, hand: &InHand) -> Result<Earlier, UndoFailed> {
        let stream = StreamId::Writeback(hand.id);
        let events = self.store.stream(&self.config.tenant, &stream).await?;
        // What is proposed is guarded by the version in hand; it must be the one that is read here.
        if events.last().map(|last| last.version) != Some(hand.version()) {
            return Err(UndoFailed::Again);
        }
        let proposed = events.iter().filter_map(|recorded| match &recorded.event {
            Event::Undo(UndoEvent::CompensationProposed { by, .. }) => Some(*by),
            _ => None,
        });
        let all: Vec<WritebackId> = proposed.collect();
        Ok(Earlier {
            last: all.last().copied(),
            count: all.len(),
        })
    }

    /// What undoes an effect already, or is on its way to.
    pub(super) async fn live_compensation(
        &self,
        hand: &InHand,
    ) -> Result<Option<WritebackId>, UndoFailed> {
        let Some(by) = self.earlier_compensations(hand).await?.last else {
            return Ok(None);
        };
        let compensation = self.take_in_hand(by).await?;
        let came_to_nothing = matches!(
            compensation.state,
            Writeback::Refused(_) | Writeback::Void(_) | Writeback::Abandoned(_)
        );
        Ok((!came_to_nothing).then_some(by))
    }

    /// What came to rest on an effect while the run was under way joins it.
    async fn join_dependents(
        &self,
        run: &UndoRun,
        items: &[(Item, u64)],
    ) -> Result<u64, UndoFailed> {
        let mut found = Found::default();
        for (item, _) in items {
            if let Some(row) = self.writeback(item.writeback).await? {
                found.chosen.push(Chosen { row, on: item.on });
            }
        }
        let known = found.chosen.len();
        match self.add_dependents(&mut found).await {
            Ok(()) => {}
            // The run is as large as one may be; the rest is another run's.
            Err(UndoFailed::TooMany) => {}
            Err(failed) => return Err(failed),
        }
        let mut commit = self.commit_as(undoing());
        let mut joined = 0_u64;
        for (place, chosen) in found.chosen.iter().enumerate().skip(known) {
            let Some(on) = chosen.on else { continue };
            let writeback = chosen.row.id;
            let item = Item {
                writeback,
                on: Some(on),
                step: UndoStep::Found,
                place,
            };
            let record = item_record(run.id, &item)?;
            commit.records.push(RecordChange::Create(record));
            let event = UndoEvent::Joined { writeback, on };
            commit.append(StreamId::Undo(run.id), Expected::Any, Event::Undo(event));
            joined = joined.saturating_add(1);
        }
        if joined > 0 {
            self.store.commit(commit).await?;
        }
        Ok(joined)
    }

    async fn finish_undo(
        &self,
        run: UndoRun,
        revision: u64,
        items: &[(Item, u64)],
    ) -> Result<(), UndoFailed> {
        let mut commit = self.commit_as(undoing());
        let until = after(commit.at, KEPT_S);
        let finished = UndoEvent::Finished {
            counts: counts(items),
        };
        commit.append(StreamId::Undo(run.id), Expected::Any, Event::Undo(finished));
        for (item, revision) in items {
            let record = item_record(run.id, item)?.expiring(until);
            commit.records.push(RecordChange::Update(record, *revision));
        }
        let run = UndoRun {
            finished: Some(commit.at),
            ..run
        };
        let record = run_record(&run)?.expiring(until);
        commit.records.push(RecordChange::Update(record, revision));
        self.store.commit(commit).await?;
        Ok(())
    }
}

fn is_proposed(item: &Item) -> bool {
    matches!(item.step, UndoStep::Proposed { .. })
}

fn set_aside(hand: &mut InHand, now: chaperone_core::Timestamp) -> Result<(), UndoFailed> {
    let reason = QuarantineReason::BadRun;
    hand.step(Command::Quarantine { reason }, now)?;
    Ok(())
}

pub(super) fn undoing() -> Actor {
    Actor::System {
        part: SystemPart::Undo,
    }
}
