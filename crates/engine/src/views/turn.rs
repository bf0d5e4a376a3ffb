//! Whose turn it is: what one person can do about one proposal that waits for approval.

use chaperone_core::evidence::ApprovalRecord;
use chaperone_core::gate::Gate;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{Proposal, Ruled};

use crate::context::Engine;
pub use crate::tables::OverrideChoice;

/// What a person can do about a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Decide it.
    Yours {
        /// The role under which an approval counts.
        role: Role,
        /// Whether approving takes a second factor.
        second_factor: bool,
        /// Whether a plausibility rule warns, so that approving takes a reason.
        over_warning: bool,
        /// Whether somebody in training is part of it.
        cosign: Cosign,
    },
    /// They have given their part; another person's is missing.
    WaitsForOther,
    /// It waits for people with other roles, or this person may not be one of them.
    NotYours {
        /// Roles that can decide.
        roles: Vec<Role>,
        /// What keeps this person from being one of them; nothing where it is their roles.
        barred: Option<Barred>,
    },
}

/// What keeps somebody from deciding whose role would allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// They are in training.
    InTraining,
    /// They asked for it or changed it, and two others must agree.
    AskedForIt,
    /// The protocol that covers it names others.
    NotNamedByProtocol,
}

/// Signing beside somebody in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cosign {
    /// Nobody in training approved, or approves.
    None,
    /// The person is in training: a colleague signs beside them before anything happens.
    Needed,
    /// Somebody in training has approved, and this person would sign beside them.
    Theirs,
}

impl Engine {
    /// Why a change may be approved over a plausibility rule's warning; the person who approves picks one.
    pub fn override_choices(&self) -> &[OverrideChoice] {
        self.tables.override_reasons()
    }
}

impl Turn {
    /// Whose turn it is about what was ruled on; where a protocol lets it pass, it is that of those whom it names.
    pub fn of_ruled(
        ruled: &Ruled,
        approvals: &[ApprovalRecord],
        over_warning: bool,
        human: &Human,
    ) -> Turn {
        let turn = Turn::of(
            &ruled.ruling.gate,
            approvals,
            &ruled.proposal,
            over_warning,
            human,
        );
        let protocol = ruled.ruling.protocol.as_ref();
        match turn {
            Turn::Yours { role, .. } if protocol.is_some_and(|it| !it.names(&human.account)) => {
                Turn::NotYours {
                    roles: vec![role],
                    barred: Some(Barred::NotNamedByProtocol),
                }
            }
            turn => turn,
        }
    }

    /// Works out whose turn it is. Says nothing about who decided before or how.
    pub fn of(
        gate: &Gate,
        approvals: &[ApprovalRecord],
        proposal: &Proposal,
        over_warning: bool,
        human: &Human,
    ) -> Turn {
        match gate {
            Gate::Approve { .. } | Gate::Approve2f { .. }
                if approvals.iter().any(|it| it.person == human.person) =>
            {
                Turn::WaitsForOther
            }
            Gate::Approve { roles } | Gate::Approve2f { roles }
                if human.is_in_training() && !approvals.is_empty() =>
            {
                Turn::NotYours {
                    roles: roles.iter().copied().collect(),
                    barred: barred_where(human, roles, Barred::InTraining),
                }
            }
            Gate::TwoPerson { first, second } if human.is_in_training() => Turn::NotYours {
                roles: vec![*first, *second],
                barred: barred_where(human, [first, second], Barred::InTraining),
            },
            Gate::Approve { roles } | Gate::Approve2f { roles } => {
                match roles.iter().copied().find(|role| human.holds(*role)) {
                    Some(role) => Turn::Yours {
                        role,
                        second_factor: matches!(gate, Gate::Approve2f { .. }),
                        over_warning,
                        cosign: match approvals {
                            _ if human.is_in_training() => Cosign::Needed,
                            [] => Cosign::None,
                            _ => Cosign::Theirs,
                        },
                    },
                    None => Turn::NotYours {
                        roles: roles.iter().copied().collect(),
                        barred: None,
                    },
                }
            }
            Gate::TwoPerson { first, second } => {
                if approvals
                    .iter()
                    .any(|approval| approval.person == human.person)
                {
                    return Turn::WaitsForOther;
                }
                let given = |role| approvals.iter().any(|approval| approval.role == role);
                let open = [*first, *second]
                    .into_iter()
                    .find(|role| !given(*role) && human.holds(*role));
                let has_asked = proposal.is_asked_by(human.person);
                match open.filter(|_| !has_asked) {
                    Some(role) => Turn::Yours {
                        role,
                        second_factor: role == *first,
                        over_warning,
                        cosign: Cosign::None,
                    },
                    None => Turn::NotYours {
                        roles: vec![*first, *second],
                        // Whatever was given so far: that is not everybody's to know.
                        barred: barred_where(human, [first, second], Barred::AskedForIt)
                            .filter(|_| has_asked),
                    },
                }
            }
            Gate::Auto | Gate::AutoVerified { .. } | Gate::Deny => Turn::NotYours {
                roles: Vec::new(),
                barred: None,
            },
        }
    }

    /// Whether the person can decide now.
    pub fn is_yours(&self) -> bool {
        matches!(self, Turn::Yours { .. })
    }
}

/// What bars somebody, where their roles would not.
fn barred_where<'r>(
    human: &Human,
    roles: impl IntoIterator<Item = &'r Role>,
    barred: Barred,
) -> Option<Barred> {
    let mut roles = roles.into_iter();
    roles.any(|role| human.holds(*role)).then_some(barred)
}

#[cfg(test)]
mod tests {
    use chaperone_core::Timestamp;
    use chaperone_core::digest::Digest;
    use chaperone_core::edit::EditLink;
    use chaperone_core::evidence::Factor;
    use chaperone_core::ids::{AccountName, PersonId, WritebackId};

    use super::*;

    fn human(person: u8, roles: &[Role]) -> Human {
        Human {
            account: AccountName::new(format!("account-{person}")).unwrap(),
            person: PersonId::from_random([person; 16]),
            roles: roles.to_vec(),
        }
    }

    fn asked_by(requester: Option<PersonId>) -> Proposal {
        let proposal = serde_json::json!({
            "id": WritebackId::from_random([1; 16]),
            "envelope": chaperone_core::ids::EnvelopeId::from_random([2; 16]),
            "agent": "a", "intent": "i", "tool": "t", "connection": "c",
            "correlation": chaperone_core::ids::CorrelationId::from_random([3; 16]),
            "idempotency_key": Digest::of_bytes(b"key"),
            "request": Digest::of_bytes(b"request"),
            "payload": Digest::of_bytes(b"payload"),
            "tainted": false,
        });
        Proposal {
            requester,
            ..serde_json::from_value(proposal).unwrap()
        }
    }

    fn approval(by: &Human, role: Role) -> ApprovalRecord {
        ApprovalRecord {
            digest: Digest::of_bytes(b"order"),
            person: by.person,
            account: by.account.clone(),
            role,
            factor: Factor::None,
            at: Timestamp::UNIX_EPOCH,
            review_ms: 0,
            override_reason: None,
            in_training: by.is_in_training(),
        }
    }

    #[test]
    fn two_people_decide_and_never_the_same_one_or_the_requester() {
        let gate = Gate::TwoPerson {
            first: Role::Clinician,
            second: Role::Pharmacist,
        };
        let both = human(1, &[Role::Clinician, Role::Pharmacist]);
        let pharmacist = human(2, &[Role::Pharmacist]);
        let turn = |approvals: &[ApprovalRecord], requester, who| {
            Turn::of(&gate, approvals, &asked_by(requester), false, who)
        };
        let yours = |role, second_factor| Turn::Yours {
            role,
            second_factor,
            over_warning: false,
            cosign: Cosign::None,
        };
        assert_eq!(turn(&[], None, &both), yours(Role::Clinician, true));
        let given = [approval(&both, Role::Clinician)];
        assert_eq!(turn(&given, None, &both), Turn::WaitsForOther);
        assert_eq!(
            turn(&given, None, &pharmacist),
            yours(Role::Pharmacist, false)
        );
        // Another account of the same person changes nothing.
        let other_account = Human {
            account: AccountName::new("second").unwrap(),
            ..both.clone()
        };
        assert_eq!(turn(&given, None, &other_account), Turn::WaitsForOther);
        assert!(!turn(&given, Some(pharmacist.person), &pharmacist).is_yours());
        assert!(!turn(&[], None, &human(3, &[Role::Rn])).is_yours());
        // Nor is one of the two who changed what it says.
        let edited = Proposal {
            edit: Some(EditLink {
                of: WritebackId::from_random([1; 16]),
                digest: Digest::of_bytes(b"other"),
                person: pharmacist.person,
                earlier: Vec::new(),
            }),
            ..asked_by(None)
        };
        assert!(!Turn::of(&gate, &[], &edited, false, &pharmacist).is_yours());
        assert!(Turn::of(&gate, &[], &edited, false, &both).is_yours());
    }

    #[test]
    fn one_person_needs_the_role_and_for_grave_changes_the_factor() {
        let roles = [Role::Clinician].into();
        let gate = Gate::Approve2f { roles };
        let clinician = human(1, &[Role::Clinician]);
        let turn = Turn::of(&gate, &[], &asked_by(None), true, &clinician);
        assert_eq!(
            turn,
            Turn::Yours {
                role: Role::Clinician,
                second_factor: true,
                over_warning: true,
                cosign: Cosign::None,
            }
        );
        let admin = human(2, &[Role::ItAdmin]);
        assert!(!Turn::of(&gate, &[], &asked_by(None), false, &admin).is_yours());
        assert!(!Turn::of(&Gate::Deny, &[], &asked_by(None), false, &clinician).is_yours());
    }

    #[test]
    fn whoever_is_in_training_waits_for_a_colleague_and_is_none_of_two() {
        let gate = Gate::Approve {
            roles: [Role::Clinician].into(),
        };
        let trainee = human(1, &[Role::Clinician, Role::Trainee]);
        let other_trainee = human(2, &[Role::Clinician, Role::Trainee]);
        let clinician = human(3, &[Role::Clinician]);
        let turn = |approvals: &[ApprovalRecord], who| {
            Turn::of(&gate, approvals, &asked_by(None), false, who)
        };
        let yours = |cosign| Turn::Yours {
            role: Role::Clinician,
            second_factor: false,
            over_warning: false,
            cosign,
        };
        assert_eq!(turn(&[], &trainee), yours(Cosign::Needed));
        assert_eq!(turn(&[], &clinician), yours(Cosign::None));
        let given = [approval(&trainee, Role::Clinician)];
        assert_eq!(turn(&given, &trainee), Turn::WaitsForOther);
        assert!(!turn(&given, &other_trainee).is_yours());
        assert_eq!(turn(&given, &clinician), yours(Cosign::Theirs));
        // In training for nothing that the gate asks for, or for nothing at all.
        assert!(!turn(&[], &human(4, &[Role::Trainee])).is_yours());
        let pair = Gate::TwoPerson {
            first: Role::Clinician,
            second: Role::Pharmacist,
        };
        let barred =
            |who: &Human, requester| match Turn::of(&pair, &[], &asked_by(requester), false, who) {
                Turn::NotYours { barred, .. } => barred,
                turn => panic!("{turn:?}"),
            };
        assert_eq!(barred(&trainee, None), Some(Barred::InTraining));
        // Whom the gate does not name is told of roles and of nothing else.
        let nurse = [Role::Rn, Role::Trainee];
        assert_eq!(barred(&human(4, &nurse), None), None);
        let asked = Some(clinician.person);
        assert_eq!(barred(&clinician, asked), Some(Barred::AskedForIt));
        assert_eq!(barred(&human(5, &[Role::Rn]), asked), None);
    }
}
