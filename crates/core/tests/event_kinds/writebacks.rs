//! One of every event of a write-back, with each of its forms.

use crate::sample::{address, at, digest, events, person, writeback};
use chaperone_core::canary::CanaryEnd;
use chaperone_core::change::{ChangeClass, Destination};
use chaperone_core::edit::EditLink;
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{AccountName, EhrEventSource, ProtocolId, ResourceToken, UndoId};
use chaperone_core::oversight::Maker;
use chaperone_core::principal::Role;
use chaperone_core::protocol::ProtocolCited;
use chaperone_core::undo::{UndoLink, UndoPart, VersionName};
use chaperone_core::verification::{VerificationMethod, VerificationRecord, VerifiedBy};
use chaperone_core::writeback::{
    FailureCause, HumanNeeded, Proposal, QuarantineReason, RefusedBy, VoidReason, WritebackEvent,
};

/// One of every write-back event, and one of every variant inside it.
pub(super) fn writeback_kinds() -> Vec<WritebackEvent> {
    use WritebackEvent as E;
    let mut kinds: Vec<E> = events().into_iter().map(|(_, event)| event).collect();
    for refused in [
        RefusedBy::Validation {
            findings: address("findings"),
        },
        RefusedBy::Policy {
            code: "delete-prohibited".to_owned(),
        },
        RefusedBy::Human {
            person: person(1),
            reason: address("reason"),
        },
        RefusedBy::Expiry,
        RefusedBy::Edited {
            person: person(1),
            reason: address("reason"),
            into: writeback(4),
        },
    ] {
        kinds.push(E::Refused { refused });
    }
    for reason in [
        VoidReason::Consent,
        VoidReason::DeliverBy,
        VoidReason::DigestMismatch,
        VoidReason::AuthorityChanged,
        VoidReason::NotSigned,
        VoidReason::ChangedBeforeSigning,
        VoidReason::SignerNotPermitted,
        VoidReason::DeclinedAtEhr,
    ] {
        kinds.push(E::Voided { reason });
    }
    kinds.push(E::Approved {
        approval: crate::sample::signature(3, "cy", Role::Clinician),
    });
    for cause in [
        FailureCause::RateLimited,
        FailureCause::ServerError,
        FailureCause::Rejected,
    ] {
        kinds.push(E::DeadLettered { cause });
    }
    for reason in [
        HumanNeeded::EndpointCannotTell,
        HumanNeeded::MoreThanOne,
        HumanNeeded::ReadBackFails,
        HumanNeeded::PartlyApplied,
    ] {
        kinds.push(E::HumanNeeded { reason });
    }
    kinds.push(E::Quarantined {
        reason: QuarantineReason::BadRun,
    });
    for end in [
        CanaryEnd::RulesChanged,
        CanaryEnd::Mode,
        CanaryEnd::Busy,
        CanaryEnd::SwitchedOff,
        CanaryEnd::Changed {
            person: person(3),
            reason: address("reason"),
        },
    ] {
        kinds.push(E::CanaryWithdrawn(end));
    }
    kinds.push(E::Released {
        person: person(5),
        reason: None,
    });
    kinds.push(E::Verified {
        facts: ["patient_confirmed".to_owned()].into(),
        evidence: vec![VerificationRecord {
            fact: "patient_confirmed".to_owned(),
            verified: VerifiedBy::Source {
                source: EhrEventSource::new("portal").unwrap(),
                method: None,
                proxy: None,
            },
            patient: crate::sample::proposal().patient,
            digest: digest("order"),
            at: at(30),
            until: at(90),
        }],
    });
    kinds.push(E::Verified {
        facts: ["patient_confirmed".to_owned()].into(),
        evidence: vec![VerificationRecord {
            fact: "patient_confirmed".to_owned(),
            verified: VerifiedBy::Source {
                source: EhrEventSource::new("portal").unwrap(),
                method: Some(VerificationMethod::StepUp),
                proxy: Some(ResourceToken::from_random([6; 16])),
            },
            patient: crate::sample::proposal().patient,
            digest: digest("order"),
            at: at(30),
            until: at(90),
        }],
    });
    kinds.push(E::Verified {
        facts: ["contact_code_confirmed".to_owned()].into(),
        evidence: vec![VerificationRecord {
            fact: "contact_code_confirmed".to_owned(),
            verified: VerifiedBy::Code {
                portal: EhrEventSource::new("portal").unwrap(),
                proxy: None,
            },
            patient: crate::sample::proposal().patient,
            digest: digest("order"),
            at: at(30),
            until: at(90),
        }],
    });
    let mut under_protocol = crate::sample::ruling(
        crate::sample::approve_2f(),
        ChangeClass::M4,
        Destination::Ehr,
    );
    under_protocol.protocol = Some(ProtocolCited {
        id: ProtocolId::new("statin-renewal").unwrap(),
        version: 3,
        approvers: [AccountName::new("nurse-1").unwrap()].into(),
        until: at(90),
    });
    kinds.push(E::Ruled {
        ruling: Box::new(under_protocol),
        order: crate::sample::order(Strategy::Conditional),
    });
    kinds.extend(crate::sample::together(crate::sample::approve_2f()));
    kinds.push(E::Delivered(crate::sample::receipt_of_two(
        chaperone_core::gate::ProofLevel::P3,
    )));
    kinds.insert(
        0,
        E::Proposed(Box::new(Proposal {
            maker: Some(Maker {
                model: VersionName::new("example-model-2026-06").unwrap(),
                prompts: vec![VersionName::new("refill@2").unwrap()],
                claimed_pct: Some(95),
            }),
            ..crate::sample::proposal()
        })),
    );
    kinds.insert(
        0,
        E::Proposed(Box::new(Proposal {
            edit: Some(EditLink {
                of: writeback(3),
                digest: digest("order"),
                person: person(1),
                earlier: vec![person(2)],
            }),
            ..crate::sample::proposal()
        })),
    );
    for part in [UndoPart::Compensation, UndoPart::Task] {
        // First, so that what follows is about the other.
        kinds.insert(
            0,
            E::Proposed(Box::new(Proposal {
                undo: Some(UndoLink {
                    run: UndoId::from_random([6; 16]),
                    of: writeback(3),
                    part,
                }),
                ..crate::sample::proposal()
            })),
        );
    }
    kinds
}
