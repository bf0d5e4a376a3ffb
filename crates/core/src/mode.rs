//! Modes: the kill switches, from normal to halted, each scoped.
//!
//! A mode holds work where it is; it never voids it (see [`crate::writeback`]).

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, ConnectionId, IntentId};
use crate::resource::ResourceType;

/// How much is allowed to happen. Ordered: later is stricter.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Everything the bundle allows.
    #[default]
    Normal,
    /// Proposals are taken, ruled and approved; nothing is delivered.
    WritePaused,
    /// Proposals are taken and ruled; nobody approves or changes them, nothing is delivered.
    ReadOnly,
    /// No agent call at all, and nothing of the above.
    Halted,
}

impl Mode {
    /// Whether agents may call: read, and propose what then waits.
    pub fn calls(self) -> bool {
        self < Mode::Halted
    }

    /// Whether people may approve or change what is proposed. A no is always taken.
    pub fn decides(self) -> bool {
        self < Mode::ReadOnly
    }

    /// Whether the queue delivers.
    pub fn delivers(self) -> bool {
        self == Mode::Normal
    }

    /// The name used on the wire and on switches.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Normal => "normal",
            Mode::WritePaused => "write_paused",
            Mode::ReadOnly => "read_only",
            Mode::Halted => "halted",
        }
    }
}

/// What a switch applies to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "scope", content = "name")]
pub enum ModeScope {
    /// Everything of the tenant.
    Tenant,
    /// One agent.
    Agent(AgentId),
    /// One intent.
    Intent(IntentId),
    /// One resource type.
    Resource(ResourceType),
    /// One EHR connection.
    Ehr(ConnectionId),
}

/// What a piece of work touches, for finding the modes that apply to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModeSubject<'a> {
    /// The agent, if one acts.
    pub agent: Option<&'a AgentId>,
    /// The intent, if there is one.
    pub intent: Option<&'a IntentId>,
    /// The type of resource, if known.
    pub resource: Option<&'a ResourceType>,
    /// The EHR connection, if one is used.
    pub ehr: Option<&'a ConnectionId>,
}

/// The switches of a tenant that are not in normal position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    /// Switched scopes; a scope that is absent is normal.
    pub switched: Vec<(ModeScope, Mode)>,
}

impl Modes {
    /// Puts a switch into a position.
    pub fn set(&mut self, scope: ModeScope, mode: Mode) {
        self.switched.retain(|(known, _)| *known != scope);
        if mode != Mode::Normal {
            self.switched.push((scope, mode));
            self.switched.sort();
        }
    }

    /// The strictest mode among the switches that apply to a subject.
    pub fn effective(&self, subject: ModeSubject<'_>) -> Mode {
        self.switched
            .iter()
            .filter(|(scope, _)| match scope {
                ModeScope::Tenant => true,
                ModeScope::Agent(agent) => subject.agent == Some(agent),
                ModeScope::Intent(intent) => subject.intent == Some(intent),
                ModeScope::Resource(resource) => subject.resource == Some(resource),
                ModeScope::Ehr(ehr) => subject.ehr == Some(ehr),
            })
            .map(|(_, mode)| *mode)
            .max()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_applying_switch_wins_and_others_do_not_apply() {
        let agent = AgentId::new("scheduler").unwrap();
        let other = AgentId::new("scribe").unwrap();
        let mut modes = Modes::default();
        modes.set(ModeScope::Tenant, Mode::WritePaused);
        modes.set(ModeScope::Agent(agent.clone()), Mode::Halted);
        let of = |agent| {
            modes.effective(ModeSubject {
                agent: Some(agent),
                ..Default::default()
            })
        };
        assert_eq!(of(&agent), Mode::Halted);
        assert_eq!(of(&other), Mode::WritePaused);
        modes.set(ModeScope::Tenant, Mode::Normal);
        assert_eq!(modes.effective(ModeSubject::default()), Mode::Normal);
    }

    #[test]
    fn each_mode_allows_less_than_the_one_before() {
        let row = |m: Mode| (m.calls(), m.decides(), m.delivers());
        assert_eq!(row(Mode::Normal), (true, true, true));
        assert_eq!(row(Mode::WritePaused), (true, true, false));
        assert_eq!(row(Mode::ReadOnly), (true, false, false));
        assert_eq!(row(Mode::Halted), (false, false, false));
    }
}
