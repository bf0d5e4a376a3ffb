//! The switches: where each stands, what it stops, and how much waits behind it.

use chaperone_core::Timestamp;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::principal::{Actor, Human, Role};
use chaperone_core::writeback::StateName;

use super::ViewFailed;
use crate::context::Engine;
use crate::projection::WritebackRow;

/// Most rows counted behind the switches.
const COUNTED_MAX: u32 = 1_000;
/// Most moves shown.
const MOVES_MAX: usize = 20;

/// The page of the switches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModesView {
    /// Every switch, the tenant's first.
    pub switches: Vec<SwitchView>,
    /// The newest moves first.
    pub moves: Vec<SwitchMove>,
    /// Whether this person may make a switch stricter.
    pub may_stop: bool,
    /// Whether this person may return it to normal.
    pub may_release: bool,
}

/// One switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchView {
    /// What it applies to.
    pub scope: ModeScope,
    /// Where it stands.
    pub mode: Mode,
    /// Approved orders that wait for delivery behind it, as far as counted.
    pub queued: usize,
    /// Proposals awaiting approval behind it, as far as counted.
    pub awaiting: usize,
}

/// One move of a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchMove {
    /// Its place in the ledger.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// Which switch.
    pub scope: ModeScope,
    /// To where.
    pub mode: Mode,
    /// The reason given, when the vault can open it.
    pub reason: Option<String>,
}

/// What a position stops, in words.
pub fn mode_words(mode: Mode) -> &'static str {
    match mode {
        Mode::Normal => "Everything the bundle allows.",
        Mode::WritePaused => "Proposals are taken and approved; nothing is sent to the EHR.",
        Mode::ReadOnly => {
            "Proposals are taken and wait; nobody approves or changes them, nothing is sent to the EHR."
        }
        Mode::Halted => "No agent call at all; what was taken waits, and nobody approves it.",
    }
}

impl Engine {
    /// The switches.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn modes_view(&self, by: &Human) -> Result<ModesView, ViewFailed> {
        let (modes, version) = self.modes().await?;
        let shown_from = version.saturating_sub(MOVES_MAX as u64);
        let events = self
            .store
            .stream_after(&self.config.tenant, &StreamId::Modes, shown_from)
            .await?;
        let queued = self.rows_in(StateName::Ready, COUNTED_MAX).await?;
        let awaiting = self
            .rows_in(StateName::AwaitingApproval, COUNTED_MAX)
            .await?;
        let mut scopes = vec![
            ModeScope::Tenant,
            ModeScope::Ehr(self.ehr.connection().clone()),
        ];
        scopes.extend(
            self.bundle
                .agents()
                .map(|agent| ModeScope::Agent(agent.id.clone())),
        );
        scopes.extend(
            self.bundle
                .intents()
                .map(|intent| ModeScope::Intent(intent.id.clone())),
        );
        // Types are many: those that are switched and those that something waits for.
        let mut types: Vec<ModeScope> = queued
            .iter()
            .chain(&awaiting)
            .filter_map(|row| row.resource.clone())
            .map(ModeScope::Resource)
            .chain(modes.switched.iter().map(|(scope, _)| scope.clone()))
            .filter(|scope| !scopes.contains(scope))
            .collect();
        types.sort();
        types.dedup();
        scopes.extend(types);
        let switches = scopes
            .into_iter()
            .map(|scope| {
                let behind =
                    |rows: &[WritebackRow]| rows.iter().filter(|row| applies(&scope, row)).count();
                SwitchView {
                    mode: modes
                        .switched
                        .iter()
                        .find_map(|(known, mode)| (*known == scope).then_some(*mode))
                        .unwrap_or_default(),
                    queued: behind(&queued),
                    awaiting: behind(&awaiting),
                    scope,
                }
            })
            .collect();
        let mut moves = Vec::new();
        for recorded in events.into_iter().rev().take(MOVES_MAX) {
            if let Event::ModeSwitched {
                scope,
                mode,
                reason,
            } = recorded.event
            {
                let reason = self.unseal_text(&reason).await.ok();
                let (seq, at, actor) = (recorded.seq, recorded.at, recorded.actor);
                moves.push(SwitchMove {
                    seq,
                    at,
                    actor,
                    scope,
                    mode,
                    reason,
                });
            }
        }
        Ok(ModesView {
            switches,
            moves,
            may_stop: by.holds(Role::ItAdmin) || by.holds(Role::Privacy),
            may_release: by.holds(Role::ItAdmin),
        })
    }

    /// The switches that are not in normal position, for the banner on every page.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn switched(&self) -> Result<Vec<(ModeScope, Mode)>, ViewFailed> {
        Ok(self.modes().await?.0.switched)
    }
}

fn applies(scope: &ModeScope, row: &WritebackRow) -> bool {
    match scope {
        ModeScope::Tenant | ModeScope::Ehr(_) => true,
        ModeScope::Agent(agent) => row.agent == *agent,
        ModeScope::Intent(intent) => row.intent == *intent,
        ModeScope::Resource(resource) => {
            row.resource.as_ref() == Some(resource) || row.resources_also.contains(resource)
        }
    }
}
