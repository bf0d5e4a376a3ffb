//! Which row of the table an event takes. A new kind of event does not compile until it has one, or until it
//! says which other event tells it.

use chaperone_core::claim::ClaimEvent;
use chaperone_core::cohort::CohortEvent;
use chaperone_core::cover::CoverEvent;
use chaperone_core::decision_support::DecisionSupportEvent;
use chaperone_core::event::{CallRefusal, Event, Recorded};
use chaperone_core::exception::ExceptionEvent;
use chaperone_core::gate::Gate;
use chaperone_core::key_event::KeyEvent;
use chaperone_core::launch::LaunchEvent;
use chaperone_core::oversight::OversightEvent;
use chaperone_core::passkey::PasskeyEvent;
use chaperone_core::patient_mail::PatientMailEvent;
use chaperone_core::resource::Interaction;
use chaperone_core::retention::RetentionEvent;
use chaperone_core::undo::UndoEvent;
use chaperone_core::writeback::{RefusedBy, VoidReason, WritebackEvent};

use super::access::{Access, AccessKind, Work};

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of event as it is told outside.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum AuditCase { $($(#[$doc])* $name,)* }

        impl AuditCase {
            /// Every kind.
            pub const ALL: &'static [AuditCase] = &[$(AuditCase::$name,)*];

            /// Its name in the table.
            pub fn as_str(self) -> &'static str {
                match self { $(AuditCase::$name => $text,)* }
            }
        }
    };
}

cases! {
    /// A search of the EHR.
    Query = "query",
    /// A resource looked at by its id.
    Read = "read",
    /// Something new is in the EHR.
    Create = "create",
    /// Something in the EHR was changed.
    Update = "update",
    /// A patient was put before an agent.
    GrantIssued = "grant-issued",
    /// An agent took a token.
    EnvelopeOpened = "envelope-opened",
    /// A call, or a stranger, was refused.
    CallRefused = "call-refused",
    /// A Consent refused a call, and a person stands behind it.
    ConsentDenied = "consent-denied",
    /// An announced event was refused.
    EhrEventRefused = "ehr-event-refused",
    /// Refusals that were counted.
    RefusalsCounted = "refusals-counted",
    /// A token was made.
    TokenMinted = "token-minted",
    /// Tokens in what an agent sent were followed.
    TokensResolved = "tokens-resolved",
    /// A person was told what a token stands for.
    TokenRevealed = "token-revealed",
    /// Slots were made for identifiers in free text.
    SlotsMinted = "slots-minted",
    /// Slots in what an agent sent were put back.
    SlotsResolved = "slots-resolved",
    /// A person's decision about a write-back was refused.
    DecisionRefused = "decision-refused",
    /// A person broke the glass.
    BreakGlassStarted = "break-glass-started",
    /// Breaking the glass ended.
    BreakGlassEnded = "break-glass-ended",
    /// Decision support was asked about an order.
    DecisionSupportAsked = "decision-support-asked",
    /// A person went on over a critical card.
    DecisionSupportOverridden = "decision-support-overridden",
    /// An exception from the matrix was asked for.
    ExceptionRequested = "exception-requested",
    /// An exception was granted.
    ExceptionGranted = "exception-granted",
    /// An exception was declined, or ran out.
    ExceptionEnded = "exception-ended",
    /// An exception was used.
    ExceptionUsed = "exception-used",
    /// Somebody looked at a used exception.
    ExceptionReviewed = "exception-reviewed",
    /// A source announced that Consents changed.
    ConsentAnnounced = "consent-announced",
    /// Somebody signed in.
    SignedIn = "signed-in",
    /// A sign-in failed.
    SignInFailed = "sign-in-failed",
    /// Somebody signed out.
    SignedOut = "signed-out",
    /// A second factor was given.
    StepUpPassed = "step-up-passed",
    /// A second factor was wrong.
    StepUpFailed = "step-up-failed",
    /// A passkey was added.
    PasskeyAdded = "passkey-added",
    /// A passkey was removed.
    PasskeyRemoved = "passkey-removed",
    /// What was given in the name of a passkey was refused.
    PasskeyRefused = "passkey-refused",
    /// Somebody came to the console from inside the EHR.
    LaunchEntered = "launch-entered",
    /// A launch from the EHR came to nothing.
    LaunchRefused = "launch-refused",
    /// Somebody covers for whoever is away.
    CoverSet = "cover-set",
    /// They do not any more.
    CoverEnded = "cover-ended",
    /// Somebody took a write-back in hand, or it was handed to them.
    Claimed = "writeback-claimed",
    /// They let it go.
    ClaimReleased = "writeback-claim-released",
    /// A patient is written to.
    PatientMailSending = "patient-mail-sending",
    /// That mail did not leave.
    PatientMailNotSent = "patient-mail-not-sent",
    /// An account was made or renewed.
    AccountCreated = "account-created",
    /// A switch was moved.
    ModeSwitched = "mode-switched",
    /// The organisation was set up.
    TenantInitialised = "tenant-initialised",
    /// A bundle came into force.
    BundleActivated = "bundle-activated",
    /// An endpoint was checked.
    ConformanceReported = "conformance-reported",
    /// The ledger was read for somebody.
    AuditUsed = "audit-used",
    /// Keys were used.
    KeysUsed = "keys-used",
    /// A key could not be had.
    KeyFailed = "key-failed",
    /// What wraps keys was changed.
    KeyRotated = "key-rotated",
    /// A key was destroyed.
    KeyDestroyed = "key-destroyed",
    /// An escrow text was shown.
    EscrowShown = "escrow-shown",
    /// What was kept long enough went.
    Deleted = "retention-deleted",
    /// Somebody holds back what would go.
    HoldPlaced = "hold-placed",
    /// It is not held back any more.
    HoldReleased = "hold-released",
    /// Somebody decided to make everything of a patient unreadable.
    ShredStarted = "shred-started",
    /// It is unreadable.
    Shredded = "shredded",
    /// A restored database held it again; it is unreadable again.
    ShredReplayed = "shred-replayed",
    /// Data went to a vendor.
    EgressPassed = "egress-passed",
    /// Something did not leave.
    EgressRefused = "egress-refused",
    /// A person looked at what had gone through without anybody.
    SampleReviewed = "sample-reviewed",
    /// Too much was found wrong: a person agrees first.
    RowDemoted = "row-demoted",
    /// A person gave it back what its row says.
    RowRestored = "row-restored",
    /// A person approved too much or too fast.
    ApproverPaused = "approver-paused",
    /// A decision is overdue, and somebody more was told.
    ApprovalOverdue = "approval-overdue",
    /// A person began to undo what went wrong.
    UndoStarted = "undo-started",
    /// A run came to its end.
    UndoFinished = "undo-finished",
    /// A person asked for a list of patients, and it was made.
    CohortListed = "cohort-listed",
    /// A person struck a patient from a list.
    CohortStruck = "cohort-struck",
    /// Another person approved a list.
    CohortApproved = "cohort-approved",
    /// A patient of an approved list was left out.
    CohortLeftOut = "cohort-left-out",
    /// A cohort job came to its end.
    CohortEnded = "cohort-ended",
    /// An agent proposed a change.
    Proposed = "writeback-proposed",
    /// It is valid.
    Validated = "writeback-validated",
    /// The matrix ruled.
    Ruled = "writeback-ruled",
    /// The matrix, or policy, denied it.
    Denied = "writeback-denied",
    /// Facts were established.
    Verified = "writeback-verified",
    /// A person approved.
    Approved = "writeback-approved",
    /// A person said no.
    Rejected = "writeback-rejected",
    /// A person changed it: another write-back took its place.
    Edited = "writeback-edited",
    /// It ended before it was ready.
    Ended = "writeback-ended",
    /// The agent took it back.
    Withdrawn = "writeback-withdrawn",
    /// An approved order became invalid.
    Voided = "writeback-voided",
    /// Consent no longer allows it.
    ConsentLost = "writeback-consent-lost",
    /// An attempt began.
    Attempted = "writeback-attempted",
    /// Nobody knows whether it was applied.
    OutcomeUnknown = "writeback-outcome-unknown",
    /// It was found not to be applied.
    FoundNotApplied = "writeback-found-not-applied",
    /// A person must decide.
    HumanNeeded = "writeback-human-needed",
    /// It was given up for now.
    DeadLettered = "writeback-dead-lettered",
    /// An operator put it back.
    Requeued = "writeback-requeued",
    /// A person gave it up.
    Abandoned = "writeback-abandoned",
    /// It was set aside.
    Quarantined = "writeback-quarantined",
    /// It was taken out of quarantine.
    Released = "writeback-released",
    /// It was undone.
    Compensated = "writeback-compensated",
    /// A draft was taken up.
    Promoted = "writeback-promoted",
    /// A canary was put before its approvers.
    CanarySeeded = "canary-seeded",
    /// A person approved a canary.
    CanaryMissed = "canary-missed",
    /// A person rejected a canary.
    CanaryCaught = "canary-caught",
    /// A canary was taken back.
    CanaryWithdrawn = "canary-withdrawn",
}

impl AuditCase {
    /// The kind of an event; `None` for what another event tells: how a read ended is told with the read, and
    /// that a grant was used with the envelope it opened, and the steps of an undo run with its
    /// write-backs.
    pub fn of(
        recorded: &Recorded,
        work: Option<&Work>,
        access: Option<&Access>,
    ) -> Option<AuditCase> {
        Some(match &recorded.event {
            Event::TenantInitialised { .. } => AuditCase::TenantInitialised,
            Event::BundleActivated { .. } => AuditCase::BundleActivated,
            Event::ConformanceReported(_) => AuditCase::ConformanceReported,
            Event::AccountCreated { .. } => AuditCase::AccountCreated,
            Event::SignedIn => AuditCase::SignedIn,
            Event::SignInFailed => AuditCase::SignInFailed,
            Event::SignedOut => AuditCase::SignedOut,
            Event::StepUpPassed { .. } => AuditCase::StepUpPassed,
            Event::StepUpFailed => AuditCase::StepUpFailed,
            Event::Passkey(event) => match event {
                PasskeyEvent::Added { .. } => AuditCase::PasskeyAdded,
                PasskeyEvent::Removed { .. } => AuditCase::PasskeyRemoved,
                PasskeyEvent::Refused { .. } => AuditCase::PasskeyRefused,
            },
            Event::Launch(LaunchEvent::Entered { .. }) => AuditCase::LaunchEntered,
            Event::Launch(LaunchEvent::Refused { .. }) => AuditCase::LaunchRefused,
            Event::Cover(CoverEvent::Set { .. }) => AuditCase::CoverSet,
            Event::Cover(CoverEvent::Ended) => AuditCase::CoverEnded,
            Event::Claim(ClaimEvent::Released) => AuditCase::ClaimReleased,
            Event::Claim(_) => AuditCase::Claimed,
            Event::PatientMail(PatientMailEvent::Sending { .. }) => AuditCase::PatientMailSending,
            Event::PatientMail(PatientMailEvent::NotSent { .. }) => AuditCase::PatientMailNotSent,
            Event::ModeSwitched { .. } => AuditCase::ModeSwitched,
            Event::GrantIssued(_) => AuditCase::GrantIssued,
            Event::EnvelopeOpened(_) => AuditCase::EnvelopeOpened,
            Event::ReadPermitted(ceiling) => match ceiling.tool.as_str() {
                "console.list" | "console.review" | "console.token" | "cds.patient-view"
                | "portal.proposal" | "oversight.likeness" => AuditCase::Read,
                _ => AuditCase::Query,
            },
            Event::GrantConsumed { .. } | Event::ReadReleased { .. } | Event::ReadFailed { .. } => {
                return None;
            }
            Event::CallRefused(refusal) if is_by_consent(refusal, work) => AuditCase::ConsentDenied,
            Event::CallRefused(_) => AuditCase::CallRefused,
            Event::EhrEventRefused(_) => AuditCase::EhrEventRefused,
            Event::RefusalsCounted { .. } => AuditCase::RefusalsCounted,
            Event::TokenMinted { .. } => AuditCase::TokenMinted,
            Event::TokensResolved { .. } => AuditCase::TokensResolved,
            Event::TokenRevealed { .. } => AuditCase::TokenRevealed,
            Event::SlotsMinted { .. } => AuditCase::SlotsMinted,
            Event::SlotsResolved { .. } => AuditCase::SlotsResolved,
            Event::DecisionRefused { .. } => AuditCase::DecisionRefused,
            Event::BreakGlassStarted { .. } => AuditCase::BreakGlassStarted,
            Event::BreakGlassEnded { .. } => AuditCase::BreakGlassEnded,
            Event::DecisionSupport(DecisionSupportEvent::Asked { .. }) => {
                AuditCase::DecisionSupportAsked
            }
            Event::DecisionSupport(DecisionSupportEvent::Overridden { .. }) => {
                AuditCase::DecisionSupportOverridden
            }
            Event::Exception(event) => match event {
                ExceptionEvent::Requested { .. } => AuditCase::ExceptionRequested,
                ExceptionEvent::Granted { .. } => AuditCase::ExceptionGranted,
                ExceptionEvent::Declined { .. } | ExceptionEvent::Expired { .. } => {
                    AuditCase::ExceptionEnded
                }
                ExceptionEvent::Used { .. } => AuditCase::ExceptionUsed,
                ExceptionEvent::Reviewed { .. } => AuditCase::ExceptionReviewed,
            },
            Event::ConsentAnnounced { .. } => AuditCase::ConsentAnnounced,
            Event::AuditUsed(_) => AuditCase::AuditUsed,
            Event::Key(event) => of_key(event),
            Event::Retention(event) => match event {
                RetentionEvent::Deleted(_) => AuditCase::Deleted,
                RetentionEvent::HoldPlaced { .. } => AuditCase::HoldPlaced,
                RetentionEvent::HoldReleased { .. } => AuditCase::HoldReleased,
                RetentionEvent::ShredStarted { .. } => AuditCase::ShredStarted,
                RetentionEvent::ShredEnded(_) => AuditCase::Shredded,
                RetentionEvent::ShredReplayed(_) => AuditCase::ShredReplayed,
            },
            Event::Oversight(event) => match event {
                // Nobody did anything yet; whoever looks at it tells it.
                OversightEvent::Sampled => return None,
                OversightEvent::Reviewed { .. } => AuditCase::SampleReviewed,
                OversightEvent::Demoted { .. } => AuditCase::RowDemoted,
                OversightEvent::Restored { .. } => AuditCase::RowRestored,
                OversightEvent::Paused { .. } => AuditCase::ApproverPaused,
                OversightEvent::Overdue { .. } => AuditCase::ApprovalOverdue,
            },
            Event::Undo(UndoEvent::Started { .. }) => AuditCase::UndoStarted,
            Event::Undo(UndoEvent::Finished { .. }) => AuditCase::UndoFinished,
            Event::Cohort(event) => match event {
                CohortEvent::Listed(_) => AuditCase::CohortListed,
                CohortEvent::Struck { .. } => AuditCase::CohortStruck,
                CohortEvent::Approved { .. } => AuditCase::CohortApproved,
                CohortEvent::LeftOut { .. } => AuditCase::CohortLeftOut,
                CohortEvent::Ended { .. } => AuditCase::CohortEnded,
            },
            // The write-backs concerned tell it.
            Event::Undo(
                UndoEvent::Joined { .. }
                | UndoEvent::Moved { .. }
                | UndoEvent::CompensationProposed { .. },
            ) => return None,
            Event::EgressPassed { .. } => AuditCase::EgressPassed,
            Event::EgressRefused { .. } => AuditCase::EgressRefused,
            Event::Writeback(event) => of_writeback(event, access),
        })
    }
}

/// Whether a refusal has all that the pattern for decisions by a Consent asks for: the Consent, the patient, and a
/// person as the user. What an agent did for nobody who is there, or what was decided without a Consent, has not.
fn is_by_consent(refusal: &CallRefusal, work: Option<&Work>) -> bool {
    refusal.consent.is_some()
        && work.is_some_and(|work| work.human.is_some() && work.patient.is_some())
}

fn of_key(event: &KeyEvent) -> AuditCase {
    match event {
        KeyEvent::Used { .. } => AuditCase::KeysUsed,
        KeyEvent::Failed { .. } => AuditCase::KeyFailed,
        KeyEvent::Destroyed { .. } | KeyEvent::DestroyedAgain { .. } => AuditCase::KeyDestroyed,
        KeyEvent::RotationStarted { .. }
        | KeyEvent::RotationFinished { .. }
        | KeyEvent::MasterChangeStarted
        | KeyEvent::MasterChanged { .. } => AuditCase::KeyRotated,
        KeyEvent::EscrowShown { .. } => AuditCase::EscrowShown,
    }
}

fn of_writeback(event: &WritebackEvent, access: Option<&Access>) -> AuditCase {
    use WritebackEvent as E;
    match event {
        E::Proposed(_) => AuditCase::Proposed,
        E::Validated { .. } => AuditCase::Validated,
        E::Ruled { ruling, .. } if ruling.gate == Gate::Deny => AuditCase::Denied,
        E::Ruled { .. } => AuditCase::Ruled,
        E::Verified { .. } => AuditCase::Verified,
        E::Approved { .. } => AuditCase::Approved,
        E::Refused { refused } => match refused {
            RefusedBy::Policy { .. } => AuditCase::Denied,
            RefusedBy::Human { .. } => AuditCase::Rejected,
            RefusedBy::Edited { .. } => AuditCase::Edited,
            RefusedBy::Withdrawn => AuditCase::Withdrawn,
            RefusedBy::Validation { .. } | RefusedBy::Expiry | RefusedBy::RulesChanged => {
                AuditCase::Ended
            }
        },
        E::Voided {
            reason: VoidReason::Consent,
        } => AuditCase::ConsentLost,
        E::Voided { .. } => AuditCase::Voided,
        E::DeliveryStarted(_) => AuditCase::Attempted,
        // What was not applied is told as the create or update that did not succeed.
        E::Delivered(_) | E::DraftPlaced(_) | E::NotApplied { .. } => match interaction(access) {
            Some(Interaction::Update) => AuditCase::Update,
            _ => AuditCase::Create,
        },
        E::OutcomeUnknown => AuditCase::OutcomeUnknown,
        E::FoundNotApplied { .. } => AuditCase::FoundNotApplied,
        E::HumanNeeded { .. } => AuditCase::HumanNeeded,
        E::DeadLettered { .. } => AuditCase::DeadLettered,
        E::Requeued { .. } => AuditCase::Requeued,
        E::Abandoned { .. } => AuditCase::Abandoned,
        E::Quarantined { .. } => AuditCase::Quarantined,
        E::Released { .. } => AuditCase::Released,
        E::Compensated { .. } => AuditCase::Compensated,
        E::Promoted { .. } => AuditCase::Promoted,
        E::CanarySeeded(_) => AuditCase::CanarySeeded,
        E::CanaryMissed(_) => AuditCase::CanaryMissed,
        E::CanaryCaught { .. } => AuditCase::CanaryCaught,
        E::CanaryWithdrawn(_) => AuditCase::CanaryWithdrawn,
    }
}

fn interaction(access: Option<&Access>) -> Option<Interaction> {
    match &access?.kind {
        AccessKind::Write(write) => write.interaction,
        _ => None,
    }
}
