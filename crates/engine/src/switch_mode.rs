//! Moving a switch: who may, and that it is recorded with a reason.
//!
//! A mode holds work where it is and voids nothing. Stopping is made easy and letting go is not: the
//! privacy officer may stop, only an operator may return to normal.

use chaperone_core::event::{Event, StreamId};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::ports::{CommitFailed, Expected, KeyVaultFailed, PayloadClass, StoreFailed};
use chaperone_core::principal::{Human, Role};

use crate::context::Engine;

/// Fewest and most characters of a reason.
const REASON_CHARS_MIN: usize = 4;
/// Longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 1_000;

/// Why a switch was not moved.
#[derive(Debug, thiserror::Error)]
pub enum SwitchFailed {
    /// The roles do not allow it.
    #[error(
        "your roles do not allow moving this switch; operators and the privacy officer may stop, operators alone may release"
    )]
    NotPermitted,
    /// Too short or too long.
    #[error("say why, in 4 to 1,000 characters; it goes into the record")]
    ReasonUnfit,
    /// Nothing of this name exists.
    #[error("there is nothing of this name to switch")]
    UnknownScope,
    /// It stands there already.
    #[error("the switch is in this position already")]
    NoChange,
    /// Somebody else moved a switch just now.
    #[error("somebody moved a switch at the same moment; look again and decide again")]
    Again,
    /// The reason cannot be sealed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl Engine {
    /// Moves a switch.
    ///
    /// # Errors
    /// [`SwitchFailed`]; the switch stays where it was.
    pub async fn switch_mode(
        &self,
        by: &Human,
        scope: ModeScope,
        mode: Mode,
        reason: &str,
    ) -> Result<(), SwitchFailed> {
        let reason = reason.trim();
        if !(REASON_CHARS_MIN..=REASON_CHARS_MAX).contains(&reason.chars().count()) {
            return Err(SwitchFailed::ReasonUnfit);
        }
        if !self.scope_exists(&scope) {
            return Err(SwitchFailed::UnknownScope);
        }
        let (modes, version) = self.modes().await?;
        let current = modes
            .switched
            .iter()
            .find_map(|(known, mode)| (*known == scope).then_some(*mode))
            .unwrap_or_default();
        if current == mode {
            return Err(SwitchFailed::NoChange);
        }
        if !may_switch(by, current, mode) {
            return Err(SwitchFailed::NotPermitted);
        }
        let sealed = self
            .seal(PayloadClass::Operational, None, reason.as_bytes())
            .await?;
        let mut commit = self.commit_as(by.into());
        commit.append(
            StreamId::Modes,
            Expected::Version(version),
            Event::ModeSwitched {
                scope,
                mode,
                reason: sealed.address,
            },
        );
        commit.payloads.push(sealed);
        let committed = self.store.commit(commit).await;
        // Whatever became of it: what was read before is not relied on.
        self.recent.forget_modes();
        match committed {
            Ok(_) => {}
            Err(CommitFailed::Conflict { .. }) => return Err(SwitchFailed::Again),
            Err(failed) => return Err(failed.into()),
        }
        self.announce_change();
        Ok(())
    }

    fn scope_exists(&self, scope: &ModeScope) -> bool {
        match scope {
            ModeScope::Tenant => true,
            ModeScope::Agent(agent) => self.bundle.agent(agent).is_some(),
            ModeScope::Intent(intent) => self.bundle.intent(intent).is_some(),
            ModeScope::Resource(resource) => self
                .definitions
                .element_type(resource.as_str(), "id")
                .is_some(),
            ModeScope::Ehr(connection) => connection == self.ehr.connection(),
        }
    }
}

/// Whether a person may move a switch from one position to another.
pub fn may_switch(by: &Human, from: Mode, to: Mode) -> bool {
    by.holds(Role::ItAdmin) || (to > from && by.holds(Role::Privacy))
}

#[cfg(test)]
mod tests {
    use chaperone_core::ids::{AccountName, PersonId};

    use super::*;

    fn human(role: Role) -> Human {
        Human {
            account: AccountName::new("a").unwrap(),
            person: PersonId::from_random([1; 16]),
            roles: vec![role],
        }
    }

    #[test]
    fn privacy_may_stop_and_not_release_and_clinicians_may_neither() {
        let (privacy, operator, clinician) = (
            human(Role::Privacy),
            human(Role::ItAdmin),
            human(Role::Clinician),
        );
        for (from, to) in [
            (Mode::Normal, Mode::Halted),
            (Mode::WritePaused, Mode::ReadOnly),
        ] {
            assert!(may_switch(&privacy, from, to) && may_switch(&operator, from, to));
            assert!(!may_switch(&clinician, from, to));
            assert!(!may_switch(&privacy, to, from));
            assert!(may_switch(&operator, to, from));
        }
    }
}
