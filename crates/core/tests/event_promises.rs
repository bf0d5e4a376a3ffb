//! The stored form of every kind of event, frozen. What was written once is read for ever, so a line
//! here may be added but never changed: a changed line means that old ledgers become unreadable.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    dead_code
)]

mod event_kinds;
mod sample;

use chaperone_core::claim::ClaimEvent;
use chaperone_core::cohort::CohortEvent;
use chaperone_core::cover::CoverEvent;
use chaperone_core::decision_support::DecisionSupportEvent;
use chaperone_core::event::{Event, LEAF_FORMAT, LeafInvalid, Recorded, StreamId};
use chaperone_core::exception::ExceptionEvent;
use chaperone_core::ids::{
    AccountName, AgentId, CohortJobId, EhrEventSource, EnvelopeId, GrantId, UndoId,
};
use chaperone_core::key_event::KeyEvent;
use chaperone_core::launch::LaunchEvent;
use chaperone_core::oversight::OversightEvent;
use chaperone_core::passkey::PasskeyEvent;
use chaperone_core::patient_mail::PatientMailEvent;
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::retention::RetentionEvent;
use chaperone_core::undo::UndoEvent;
use chaperone_core::writeback::WritebackEvent;
use event_kinds::kinds;
use expect_test::expect_file;
use sample::{at, person, tenant, writeback};

/// Whether a kind is in the list above; a new kind stops this from compiling until it is added.
fn listed(event: &Event) -> bool {
    use WritebackEvent as W;
    match event {
        Event::TenantInitialised { .. }
        | Event::BundleActivated { .. }
        | Event::AccountCreated { .. }
        | Event::ConformanceReported(_)
        | Event::SignedIn
        | Event::SignInFailed
        | Event::SignedOut
        | Event::StepUpPassed { .. }
        | Event::StepUpFailed
        | Event::Passkey(
            PasskeyEvent::Added { .. }
            | PasskeyEvent::Removed { .. }
            | PasskeyEvent::Refused { .. },
        )
        | Event::Cover(CoverEvent::Set { .. } | CoverEvent::Ended)
        | Event::Launch(LaunchEvent::Entered { .. } | LaunchEvent::Refused { .. })
        | Event::Claim(
            ClaimEvent::Claimed { .. }
            | ClaimEvent::Released
            | ClaimEvent::TakenOver { .. }
            | ClaimEvent::HandedOver { .. },
        )
        | Event::PatientMail(PatientMailEvent::Sending { .. } | PatientMailEvent::NotSent { .. })
        | Event::ModeSwitched { .. }
        | Event::GrantIssued(_)
        | Event::GrantConsumed { .. }
        | Event::EnvelopeOpened(_)
        | Event::ReadPermitted(_)
        | Event::ReadReleased { .. }
        | Event::ReadFailed { .. }
        | Event::CallRefused(_)
        | Event::EhrEventRefused(_)
        | Event::ConsentAnnounced { .. }
        | Event::DecisionRefused { .. }
        | Event::BreakGlassStarted { .. }
        | Event::BreakGlassEnded { .. }
        | Event::RefusalsCounted { .. }
        | Event::TokensResolved { .. }
        | Event::TokenRevealed { .. }
        | Event::SlotsMinted { .. }
        | Event::SlotsResolved { .. }
        | Event::AuditUsed(_)
        | Event::Retention(
            RetentionEvent::Deleted(_)
            | RetentionEvent::HoldPlaced { .. }
            | RetentionEvent::HoldReleased { .. }
            | RetentionEvent::ShredStarted { .. }
            | RetentionEvent::ShredEnded(_)
            | RetentionEvent::ShredReplayed(_),
        )
        | Event::Oversight(
            OversightEvent::Sampled
            | OversightEvent::Reviewed { .. }
            | OversightEvent::Demoted { .. }
            | OversightEvent::Restored { .. }
            | OversightEvent::Paused { .. }
            | OversightEvent::Overdue { .. },
        )
        | Event::DecisionSupport(
            DecisionSupportEvent::Asked { .. } | DecisionSupportEvent::Overridden { .. },
        )
        | Event::Exception(
            ExceptionEvent::Requested { .. }
            | ExceptionEvent::Granted { .. }
            | ExceptionEvent::Declined { .. }
            | ExceptionEvent::Used { .. }
            | ExceptionEvent::Expired { .. }
            | ExceptionEvent::Reviewed { .. },
        )
        | Event::Undo(
            UndoEvent::Started { .. }
            | UndoEvent::Joined { .. }
            | UndoEvent::Moved { .. }
            | UndoEvent::CompensationProposed { .. }
            | UndoEvent::Finished { .. },
        )
        | Event::Cohort(
            CohortEvent::Listed(_)
            | CohortEvent::Struck { .. }
            | CohortEvent::Approved { .. }
            | CohortEvent::LeftOut { .. }
            | CohortEvent::Ended { .. },
        )
        | Event::EgressPassed { .. }
        | Event::EgressRefused { .. }
        | Event::TokenMinted { .. } => true,
        Event::Key(event) => match event {
            KeyEvent::Used { .. }
            | KeyEvent::Failed { .. }
            | KeyEvent::Destroyed { .. }
            | KeyEvent::DestroyedAgain { .. }
            | KeyEvent::RotationStarted { .. }
            | KeyEvent::RotationFinished { .. }
            | KeyEvent::MasterChangeStarted
            | KeyEvent::MasterChanged { .. }
            | KeyEvent::EscrowShown { .. } => true,
        },
        Event::Writeback(event) => match event {
            W::Proposed(_)
            | W::Validated { .. }
            | W::Ruled { .. }
            | W::Verified { .. }
            | W::Approved { .. }
            | W::Refused { .. }
            | W::Voided { .. }
            | W::DeliveryStarted(_)
            | W::DraftPlaced(_)
            | W::Delivered(_)
            | W::NotApplied { .. }
            | W::OutcomeUnknown
            | W::FoundNotApplied { .. }
            | W::HumanNeeded { .. }
            | W::DeadLettered { .. }
            | W::Requeued { .. }
            | W::Abandoned { .. }
            | W::Quarantined { .. }
            | W::Released { .. }
            | W::Compensated { .. }
            | W::Promoted { .. }
            | W::CanarySeeded(_)
            | W::CanaryMissed(_)
            | W::CanaryCaught { .. }
            | W::CanaryWithdrawn(_) => true,
        },
    }
}

#[test]
fn the_stored_form_of_every_event_is_frozen() {
    let mut text = String::new();
    for event in kinds() {
        assert!(listed(&event));
        let json = serde_json::to_string(&event).unwrap();
        let read: Event = serde_json::from_str(&json).unwrap();
        assert_eq!(read, event, "what is written is read back");
        text.push_str(&format!("{}\n  {json}\n", event.kind()));
    }
    expect_file!["snapshots/events.txt"].assert_eq(&text);
}

fn leaf(stream: StreamId, actor: Actor) -> Recorded {
    Recorded {
        format: LEAF_FORMAT,
        tenant: tenant(),
        seq: 0,
        stream,
        version: 1,
        at: at(0),
        actor,
        event: Event::SignedIn,
    }
}

#[test]
fn the_stored_form_of_a_leaf_is_frozen() {
    let human = Actor::Human {
        account: AccountName::new("ada").unwrap(),
        person: person(1),
    };
    let agent = |envelope| Actor::Agent {
        agent: AgentId::new("scribe").unwrap(),
        envelope,
    };
    let system = |part| Actor::System { part };
    let envelope = EnvelopeId::from_random([2; 16]);
    let leaves = [
        leaf(StreamId::Account(AccountName::new("ada").unwrap()), human),
        leaf(StreamId::Writeback(writeback(1)), agent(Some(envelope))),
        leaf(StreamId::Envelope(envelope), agent(None)),
        leaf(
            StreamId::Grant(GrantId::from_random([5; 16])),
            system(SystemPart::Dispatcher),
        ),
        leaf(StreamId::Modes, system(SystemPart::Delivery)),
        leaf(StreamId::Refusals, Actor::Anonymous),
        leaf(StreamId::Refusals, system(SystemPart::Gateway)),
        leaf(StreamId::Tenant, system(SystemPart::Setup)),
        leaf(StreamId::Tenant, system(SystemPart::Expiry)),
        leaf(StreamId::Tenant, system(SystemPart::CommandLine)),
        leaf(
            StreamId::Tenant,
            Actor::Portal {
                portal: EhrEventSource::new("portal").unwrap(),
            },
        ),
    ];
    let mut text = String::new();
    for recorded in leaves {
        let bytes = recorded.to_leaf().unwrap();
        assert_eq!(Recorded::from_leaf(&bytes).unwrap(), recorded);
        text.push_str(std::str::from_utf8(&bytes).unwrap());
        text.push('\n');
    }
    expect_file!["snapshots/leaves.txt"].assert_eq(&text);
}

#[test]
fn a_leaf_of_a_newer_format_or_of_other_bytes_is_refused() {
    let mut newer = leaf(StreamId::Tenant, Actor::Anonymous);
    newer.format = LEAF_FORMAT + 1;
    let newer = newer.to_leaf().unwrap();
    assert!(matches!(
        Recorded::from_leaf(&newer),
        Err(LeafInvalid::UnknownFormat(2))
    ));
    for bytes in [
        &b""[..],
        b"{}",
        b"null",
        br#"{"format":1,"tenant":"north-clinic"}"#,
    ] {
        assert!(matches!(
            Recorded::from_leaf(bytes),
            Err(LeafInvalid::Malformed(_))
        ));
    }
}

#[test]
fn streams_read_back_and_nothing_else_does() {
    for stream in [
        StreamId::Writeback(writeback(1)),
        StreamId::Undo(UndoId::from_random([6; 16])),
        StreamId::Cohort(CohortJobId::from_random([7; 16])),
        StreamId::Modes,
        StreamId::Refusals,
        StreamId::Tenant,
    ] {
        assert_eq!(StreamId::try_from(stream.to_string()), Ok(stream));
    }
    for text in [
        "",
        "writeback",
        "writeback/",
        "writeback/env_0",
        "modes/a",
        "other/x",
    ] {
        assert!(StreamId::try_from(text.to_owned()).is_err(), "{text}");
    }
}
