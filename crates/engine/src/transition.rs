//! Moving a write-back: load its history, decide, and put event and row into one commit.

use chaperone_core::Timestamp;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{Commit, Expected, Guard, StoreFailed};
use chaperone_core::writeback::{Command, Refusal, Writeback, WritebackEvent, decide};

use crate::context::Engine;
use crate::projection::{WritebackRow, project};

/// Why a move did not happen.
#[derive(Debug, thiserror::Error)]
pub enum MoveFailed {
    /// There is no such write-back.
    #[error("there is no such write-back")]
    Missing,
    /// The state machine does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// A write-back in hand: its state, and what is to be appended to get there.
#[derive(Debug, Clone)]
pub(crate) struct InHand {
    pub(crate) id: WritebackId,
    pub(crate) state: Writeback,
    /// The state as loaded; none of a new write-back.
    base: Option<Writeback>,
    /// Version of the stream as loaded.
    loaded: u64,
    /// Version including what is pending.
    version: u64,
    proposed: Timestamp,
    moved: Timestamp,
    pending: Vec<WritebackEvent>,
}

impl InHand {
    /// A new write-back.
    pub(crate) fn propose(
        event: WritebackEvent,
        id: WritebackId,
        now: Timestamp,
    ) -> Result<Self, MoveFailed> {
        let state = Writeback::begin(&event).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        Ok(Self {
            id,
            state,
            base: None,
            loaded: 0,
            version: 1,
            proposed: now,
            moved: now,
            pending: vec![event],
        })
    }

    /// Decides a command against the state and takes the step in hand.
    pub(crate) fn step(&mut self, command: Command<'_>, now: Timestamp) -> Result<(), MoveFailed> {
        let event = decide(&self.state, command, now)?;
        self.state = self
            .state
            .clone()
            .evolve(&event, now)
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        self.version = self.version.saturating_add(1);
        self.moved = now;
        self.pending.push(event);
        Ok(())
    }

    /// Puts the pending events and the row into a commit, guarded by the version loaded, also where nothing is pending:
    /// a row of before must not take the place of a newer one. All of them are recorded with the commit's time, so
    /// state and row are what folding the record gives.
    pub(crate) fn write_into(&mut self, commit: &mut Commit) -> Result<WritebackRow, StoreFailed> {
        if self.pending.is_empty() {
            commit.guards.push(Guard::StreamAt {
                stream: StreamId::Writeback(self.id),
                version: self.loaded,
            });
        }
        let mut expected = self.loaded;
        let mut folded = self.base.take();
        for event in self.pending.drain(..) {
            let corrupt =
                |e: chaperone_core::writeback::Illegal| StoreFailed::Corrupt(e.to_string());
            folded = Some(match folded {
                None => {
                    self.proposed = commit.at;
                    Writeback::begin(&event).map_err(corrupt)?
                }
                Some(state) => state.evolve(&event, commit.at).map_err(corrupt)?,
            });
            self.moved = commit.at;
            commit.append(
                StreamId::Writeback(self.id),
                Expected::Version(expected),
                Event::Writeback(event),
            );
            expected = expected.saturating_add(1);
        }
        self.loaded = self.version;
        if let Some(state) = folded {
            self.state = state;
        }
        self.base = Some(self.state.clone());
        project(commit, &self.state, self.version, self.proposed, self.moved)
    }
}

impl InHand {
    /// The version of its stream as it was loaded, or as it stands in a commit.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether the steps in hand are what makes it a delivered one.
    pub(crate) fn has_become_delivered(&self) -> bool {
        matches!(self.state, Writeback::Delivered(_))
            && !matches!(self.base, Some(Writeback::Delivered(_)))
    }

    /// When it was proposed.
    pub(crate) fn proposed(&self) -> Timestamp {
        self.proposed
    }

    /// When it last moved.
    pub(crate) fn moved(&self) -> Timestamp {
        self.moved
    }

    /// Puts an event behind the write-back's own that moves nothing, with the row that counts it.
    pub(crate) fn note(&mut self, commit: &mut Commit, event: Event) -> Result<(), StoreFailed> {
        let stream = StreamId::Writeback(self.id);
        commit.append(stream, Expected::Version(self.loaded), event);
        self.version = self.version.saturating_add(1);
        self.loaded = self.version;
        project(commit, &self.state, self.version, self.proposed, self.moved).map(|_| ())
    }
}

impl Engine {
    /// Loads a write-back by folding its stream.
    pub(crate) async fn take_in_hand(&self, id: WritebackId) -> Result<InHand, MoveFailed> {
        let events = self
            .store
            .stream(&self.config.tenant, &StreamId::Writeback(id))
            .await?;
        let mut fold: Option<(Writeback, Timestamp)> = None;
        let (mut version, mut moved) = (0, Timestamp::UNIX_EPOCH);
        for recorded in &events {
            version = recorded.version;
            // What was deleted of it is noted on its stream, and moves nothing.
            let Event::Writeback(event) = &recorded.event else {
                continue;
            };
            let corrupt =
                |e: chaperone_core::writeback::Illegal| StoreFailed::Corrupt(e.to_string());
            fold = Some(match fold {
                None => (Writeback::begin(event).map_err(corrupt)?, recorded.at),
                Some((state, proposed)) => {
                    (state.evolve(event, recorded.at).map_err(corrupt)?, proposed)
                }
            });
            moved = recorded.at;
        }
        let (state, proposed) = fold.ok_or(MoveFailed::Missing)?;
        Ok(InHand {
            id,
            base: Some(state.clone()),
            state,
            loaded: version,
            version,
            proposed,
            moved,
            pending: Vec::new(),
        })
    }
}
