//! What happened, in words: one line per event, without anything about a patient.

use std::collections::BTreeSet;

use chaperone_core::Timestamp;
use chaperone_core::canary::CanaryEnd;
use chaperone_core::claim::{ClaimEvent, ClaimHolder};
use chaperone_core::cohort::CohortEvent;
use chaperone_core::cover::CoverEvent;
use chaperone_core::decision_support::DecisionSupportEvent;
use chaperone_core::event::{AuditUse, BreakGlassEnd, Event, Recorded, StreamId};
use chaperone_core::evidence::Factor;
use chaperone_core::exception::{ExceptionEvent, ExceptionFinding};
use chaperone_core::gate::Gate;
use chaperone_core::key_event::KeyEvent;
use chaperone_core::launch::LaunchEvent;
use chaperone_core::oversight::{OversightEvent, Verdict};
use chaperone_core::passkey::PasskeyEvent;
use chaperone_core::patient_mail::{PatientMailEvent, PatientMailKind};
use chaperone_core::principal::{Actor, Human, SystemPart};
use chaperone_core::retention::RetentionEvent;
use chaperone_core::undo::{UndoEvent, UndoStep};
use chaperone_core::verification::{VerificationRecord, VerifiedBy};
use chaperone_core::writeback::{
    FailureCause, HumanNeeded, NotAppliedBasis, QuarantineReason, RefusedBy, VoidReason, Writeback,
    WritebackEvent,
};

use super::ViewFailed;
use super::review::hides_approvals;
use crate::canary::{is_of_another, is_opening};
use crate::context::Engine;

/// One line of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    /// Place in the ledger.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who, in words.
    pub actor: String,
    /// The kind as indexed.
    pub kind: String,
    /// What happened, in words.
    pub words: String,
    /// The stream; nothing where it would say whose it is.
    pub stream: Option<StreamId>,
}

/// What is said of how something came to wait.
pub(super) const WAITS: &str = "Proposed, checked and ruled on; details once it is decided";
/// What is said of a canary that is over.
pub(super) const TEST: &str = "Part of a test that is over";
/// What is said of what could be laid beside it.
const KEPT_BACK: &str = "Kept back, so that nobody can tell who decided about a test";
/// The kind of what keeps its place only.
pub(super) const SECRET_KIND: &str = "writeback.decision";

impl TimelineEntry {
    /// A line that keeps its place and says no more than this.
    pub(super) fn kept_back(recorded: &Recorded, words: &str) -> Self {
        Self {
            actor: "somebody".to_owned(),
            kind: SECRET_KIND.to_owned(),
            words: words.to_owned(),
            ..Self::from(recorded)
        }
    }

    /// A line that keeps its place and does not say whose it is.
    pub(super) fn held_back(recorded: &Recorded) -> Self {
        Self {
            stream: None,
            ..Self::kept_back(recorded, KEPT_BACK)
        }
    }
}

impl From<&Recorded> for TimelineEntry {
    fn from(recorded: &Recorded) -> Self {
        Self {
            seq: recorded.seq,
            at: recorded.at,
            actor: actor_words(&recorded.actor),
            kind: recorded.event.kind(),
            words: event_words(&recorded.event),
            stream: Some(recorded.stream.clone()),
        }
    }
}

impl Engine {
    /// The timeline of any stream, oldest first. Holds no patient data, so every role may see it;
    /// approvals that are still secret from this person are left out, and so is what could say who decided about a
    /// canary.
    ///
    /// # Errors
    /// [`ViewFailed::Missing`] when there is no such stream.
    pub async fn timeline(
        &self,
        by: &Human,
        stream: &StreamId,
    ) -> Result<Vec<TimelineEntry>, ViewFailed> {
        let events = self.store.stream(&self.config.tenant, stream).await?;
        if events.is_empty() {
            return Err(ViewFailed::Missing);
        }
        Ok(match stream {
            StreamId::Writeback(id) => {
                let hand = self.take_in_hand(*id).await?;
                self.timeline_of(by, &hand.state, &events)
            }
            _ => {
                let discretion = self.discretion().await?;
                let shown = events.iter().filter(|it| !discretion.holds_back(by, it));
                shown.map(TimelineEntry::from).collect()
            }
        })
    }

    /// The timeline of a write-back as this person may see it.
    pub(super) fn timeline_of(
        &self,
        by: &Human,
        state: &Writeback,
        events: &[Recorded],
    ) -> Vec<TimelineEntry> {
        if is_of_another(by, state) {
            let last = events.last().into_iter();
            return last.map(|it| TimelineEntry::kept_back(it, TEST)).collect();
        }
        let hides = hides_approvals(state, by);
        let keeps_back = self.keeps_opening_back(state);
        let mut lines = Vec::with_capacity(events.len());
        let mut is_opened = false;
        for recorded in events {
            if hides && is_approval(recorded) {
                continue;
            }
            if keeps_back && is_opening(&recorded.event) {
                if !is_opened {
                    lines.push(TimelineEntry {
                        actor: format!("agent {}", state.proposal().agent),
                        ..TimelineEntry::kept_back(recorded, WAITS)
                    });
                }
                is_opened = true;
                continue;
            }
            lines.push(TimelineEntry::from(recorded));
        }
        lines
    }
}

fn verified_by(record: &VerificationRecord) -> String {
    match &record.verified {
        VerifiedBy::Source {
            source,
            method,
            proxy,
        } => {
            let how = method.map_or(String::new(), |how| format!(" ({})", how.as_str()));
            let whose = proxy.map_or("", |_| ", who was told so by a proxy");
            format!("{} by {source}{how}{whose}", record.fact)
        }
        VerifiedBy::Code { portal, proxy } => {
            let whose = proxy.map_or("", |_| ", by a proxy");
            format!(
                "{} by a code that Chaperone sent and that came back by {portal}{whose}",
                record.fact
            )
        }
    }
}

pub(super) fn is_approval(recorded: &Recorded) -> bool {
    matches!(
        recorded.event,
        Event::Writeback(WritebackEvent::Approved { .. })
    )
}

/// Who acted, in words.
pub fn actor_words(actor: &Actor) -> String {
    match actor {
        Actor::Agent { agent, .. } => format!("agent {agent}"),
        Actor::Human { account, .. } => account.to_string(),
        Actor::System { part } => format!(
            "Chaperone ({})",
            match part {
                SystemPart::Gateway => "gateway",
                SystemPart::Delivery => "delivery",
                SystemPart::Expiry => "expiry",
                SystemPart::Setup => "set-up",
                SystemPart::Dispatcher => "dispatcher",
                SystemPart::CommandLine => "command line",
                SystemPart::Retention => "retention",
                SystemPart::Undo => "undo",
                SystemPart::Oversight => "oversight",
            }
        ),
        Actor::Portal { portal } => format!("portal {portal}"),
        Actor::Anonymous => "nobody known".to_owned(),
    }
}

/// What happened, in words.
pub fn event_words(event: &Event) -> String {
    match event {
        Event::TenantInitialised { .. } => "The organisation was set up".to_owned(),
        Event::BundleActivated { .. } => "A governance bundle came into force".to_owned(),
        Event::ConformanceReported(report) => format!(
            "EHR connection {} was checked: {}",
            report.connection,
            report.verdict.as_str()
        ),
        Event::AccountCreated { account, roles, .. } => {
            let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
            format!(
                "Account {account} was made or renewed, with roles {}",
                roles.join(", ")
            )
        }
        Event::SignedIn => "Signed in".to_owned(),
        Event::SignInFailed => "A sign-in failed".to_owned(),
        Event::SignedOut => "Signed out".to_owned(),
        Event::StepUpPassed { .. } => "A second factor was given".to_owned(),
        Event::StepUpFailed => "A second factor was wrong".to_owned(),
        Event::Passkey(event) => passkey_words(event),
        Event::Cover(event) => cover_words(event),
        Event::Launch(event) => launch_words(event),
        Event::Claim(event) => claim_words(event),
        Event::PatientMail(event) => patient_mail_words(event),
        Event::ModeSwitched { mode, .. } => format!("A switch was moved to {}", mode.as_str()),
        Event::GrantIssued(grant) => {
            format!(
                "A patient was put before {} for {}",
                grant.agent, grant.intent
            )
        }
        Event::GrantConsumed { .. } => "The grant was used".to_owned(),
        Event::EnvelopeOpened(envelope) => {
            format!(
                "{} opened an envelope for {}",
                envelope.agent, envelope.intent
            )
        }
        Event::ReadPermitted(ceiling) => match ceiling.tool.as_str() {
            "console.search" => "Searched patients at the console".to_owned(),
            "console.list" => "Saw a patient's initials in a list".to_owned(),
            "console.review" => "Looked at a patient at the console".to_owned(),
            "cds.patient-view" => {
                "Was told by a card of the EHR how many proposals wait about a patient".to_owned()
            }
            "console.token" => "Was told whom a token is about".to_owned(),
            "console.emergency" => "Looked at a patient in an emergency".to_owned(),
            "oversight.likeness" => {
                "Looked at the form of a patient's identifiers, for a test".to_owned()
            }
            "portal.proposal" => "A portal showed the patient what is proposed".to_owned(),
            tool => format!("A read was permitted: {tool}, of {}", ceiling.resource),
        },
        Event::ReadReleased {
            resources,
            text,
            left_out: 0,
            ..
        } if !text.is_empty() => {
            format!("{resources} resources were shown, with free text that was scrubbed")
        }
        Event::ReadReleased {
            resources,
            left_out: 0,
            ..
        } => format!("{resources} resources were shown"),
        Event::ReadReleased {
            resources,
            left_out,
            ..
        } => format!("{resources} resources were shown, {left_out} left out for want of consent"),
        Event::ReadFailed { code, .. } => format!("A read showed nothing: {code}"),
        Event::CallRefused(refusal) => match &refusal.because {
            None => format!("A call was refused: {}", refusal.code),
            Some(because) => format!("A call was refused: {} ({because})", refusal.code),
        },
        Event::ConsentAnnounced { notified_by, .. } => {
            format!("A change of consent was announced by {notified_by}")
        }
        Event::BreakGlassStarted { until, .. } => format!(
            "The glass was broken for a patient, until {}",
            until.strftime("%H:%M UTC")
        ),
        Event::BreakGlassEnded { cause, .. } => match cause {
            BreakGlassEnd::Stopped => "The emergency access was ended".to_owned(),
            BreakGlassEnd::Expired => "The emergency access ran out".to_owned(),
        },
        Event::EhrEventRefused(refusal) => {
            let what = refusal
                .event_type
                .as_ref()
                .map_or("of an unlisted type", |listed| listed.as_str());
            format!(
                "An event ({what}) announced by {} was refused: {}",
                refusal.notified_by, refusal.code
            )
        }
        Event::RefusalsCounted {
            code,
            notified_by: Some(source),
            count,
            ..
        } => format!("{count} more events of {source} were refused within a minute: {code}"),
        Event::RefusalsCounted { code, count, .. } => {
            format!("{count} more calls of strangers were refused within a minute: {code}")
        }
        Event::SlotsMinted { classes, .. } => {
            format!(
                "{} slots were made for identifiers in free text",
                sum(classes)
            )
        }
        Event::SlotsResolved { tool, classes, .. } => {
            format!("{} slots in a call of {tool} were put back", sum(classes))
        }
        Event::AuditUsed(used) => match used.used_for {
            AuditUse::Export => "AuditEvents were exported".to_owned(),
            AuditUse::WhoSaw => "Asked who saw something of a patient".to_owned(),
            AuditUse::Accounting => "Made an accounting of disclosures".to_owned(),
        },
        Event::EgressPassed {
            channel,
            class,
            vendor,
            count,
            ..
        } => format!("{count} times data ({class}) went to {vendor} for {channel}"),
        Event::EgressRefused {
            channel,
            class,
            rule,
            count,
            ..
        } => format!(
            "{count} times data ({class}) for {channel} was not sent: {}",
            rule.as_str()
        ),
        Event::TokenMinted { resource, .. } => format!("A token was made for a {resource}"),
        Event::TokensResolved { tool, tokens, .. } => {
            format!("{} tokens in a call of {tool} were followed", tokens.len())
        }
        Event::DecisionRefused {
            writeback,
            decision,
            code,
        } => format!(
            "Wanted to {} {writeback} and was refused: {code}",
            decision.as_str()
        ),
        Event::TokenRevealed { resource, .. } => {
            format!("A person was told what a token of a {resource} stands for, with a reason")
        }
        Event::Key(event) => key_words(event),
        Event::Retention(event) => retention_words(event),
        Event::Oversight(event) => oversight_words(event),
        Event::DecisionSupport(DecisionSupportEvent::Asked { services, .. }) => {
            let heard = services.iter().filter(|it| it.not_heard.is_none()).count();
            let critical: u32 = services.iter().map(|it| it.critical).sum();
            format!(
                "Decision support was asked: {heard} of {} services heard, {critical} critical cards",
                services.len()
            )
        }
        Event::DecisionSupport(DecisionSupportEvent::Overridden { reason, .. }) => {
            format!("A person went on over a critical card of decision support: {reason}")
        }
        Event::Exception(event) => exception_words(event),
        Event::Undo(event) => undo_words(event),
        Event::Cohort(event) => cohort_words(event),
        Event::Writeback(event) => writeback_words(event),
    }
}

fn passkey_words(event: &PasskeyEvent) -> String {
    match event {
        PasskeyEvent::Added { .. } => "A passkey was added".to_owned(),
        PasskeyEvent::Removed { .. } => "A passkey was removed".to_owned(),
        PasskeyEvent::Refused { code, .. } => format!("A passkey was refused: {code}"),
    }
}

fn cover_words(event: &CoverEvent) -> String {
    match event {
        CoverEvent::Set { cover, from, until } => {
            format!("{cover} covers for this account, from {from} until {until}")
        }
        CoverEvent::Ended => "Nobody covers for this account any more".to_owned(),
    }
}

fn launch_words(event: &LaunchEvent) -> String {
    match event {
        LaunchEvent::Entered { connection, .. } => {
            format!("Came to the console from inside the EHR {connection}")
        }
        LaunchEvent::Refused { reason, .. } => {
            format!("A launch from the EHR was refused: {}", reason.as_str())
        }
    }
}

fn patient_mail_words(event: &PatientMailEvent) -> String {
    let what = |mail: &PatientMailKind| match mail {
        PatientMailKind::ContactCode => "A code to the e-mail address that is to be added",
        PatientMailKind::ContactChanged => {
            "A notice to the patient's e-mail addresses of before, that contact data changed,"
        }
    };
    match event {
        PatientMailEvent::Sending {
            mail,
            addresses,
            until,
            ..
        } => {
            let until = until.map_or(String::new(), |until| format!("; it counts until {until}"));
            format!("{} is sent ({addresses}){until}", what(mail))
        }
        PatientMailEvent::NotSent { mail, reason, .. } => {
            format!("{} was not sent: {reason}", what(mail))
        }
    }
}

fn claim_words(event: &ClaimEvent) -> String {
    let holder = |holder: &ClaimHolder| match holder {
        ClaimHolder::Person { account, .. } => account.to_string(),
        ClaimHolder::Pool { role } => format!("everybody with the role {role}"),
    };
    match event {
        ClaimEvent::Claimed { .. } => "Taken in hand".to_owned(),
        ClaimEvent::Released => "Let go".to_owned(),
        ClaimEvent::TakenOver { from, .. } => {
            format!("Taken over from {}, with a note", holder(from))
        }
        ClaimEvent::HandedOver { to, .. } => {
            format!("Handed to {}, with a note", holder(to))
        }
    }
}

fn key_words(event: &KeyEvent) -> String {
    use KeyEvent as E;
    match event {
        E::Used { keys, .. } => format!("{} keys were used", keys.len()),
        E::Failed { code, count, .. } => {
            format!("A key could not be had, {count} times: {code}")
        }
        E::Destroyed { .. } => "A data key was destroyed".to_owned(),
        E::DestroyedAgain { .. } => {
            "A destroyed data key had come back and was destroyed again".to_owned()
        }
        E::RotationStarted { from } => {
            format!("The tenant key is being rotated, from version {from}")
        }
        E::RotationFinished { to, .. } => {
            format!("Every key is wrapped under version {to} of the tenant key")
        }
        E::MasterChangeStarted => "The master key is being changed".to_owned(),
        E::MasterChanged { service, key, .. } => {
            format!("The tenant key is wrapped by {service}, under {key}")
        }
        E::EscrowShown { .. } => "The escrow text of the master key was shown".to_owned(),
    }
}

fn retention_words(event: &RetentionEvent) -> String {
    let whom = |patient: &Option<_>| match patient {
        Some(_) => "everything of a patient",
        None => "everything",
    };
    match event {
        RetentionEvent::Deleted(deletion) => format!(
            "{} of {} went, under retention rule {}",
            deletion.count, deletion.artefact, deletion.rule
        ),
        RetentionEvent::HoldPlaced { patient, .. } => {
            format!("A legal hold keeps {}", whom(patient))
        }
        RetentionEvent::HoldReleased { patient, .. } => {
            format!("A legal hold keeps {} no longer", whom(patient))
        }
        RetentionEvent::ShredStarted { .. } => "It was decided to shred a patient".to_owned(),
        RetentionEvent::ShredEnded(shredded) => format!(
            "A patient was shredded: {} keys, {} payloads",
            shredded.keys.len(),
            shredded.payloads
        ),
        RetentionEvent::ShredReplayed(shredded) => format!(
            "A patient that a restored database held again was shredded again: {} payloads",
            shredded.payloads
        ),
    }
}

fn oversight_words(event: &OversightEvent) -> String {
    use OversightEvent as E;
    match event {
        E::Sampled => "It was drawn for a look afterwards".to_owned(),
        E::Reviewed { verdict, .. } => match verdict {
            Verdict::Agree => "A person looked at it afterwards and agrees".to_owned(),
            Verdict::Disagree => "A person looked at it afterwards and disagrees".to_owned(),
        },
        E::Demoted {
            combination,
            reviewed,
            disagreed,
        } => format!(
            "{disagreed} of {reviewed} that were looked at were wrong: from now on a person agrees first to {} of {} on {}",
            combination.row.as_ref().map_or("all", |row| row.as_str()),
            combination.intent,
            combination.model
        ),
        E::Restored { combination, .. } => format!(
            "{} of {} on {} goes by its row again, with a reason",
            combination.row.as_ref().map_or("All", |row| row.as_str()),
            combination.intent,
            combination.model
        ),
        E::Paused {
            approvals,
            median_ms,
            until,
            ..
        } => format!(
            "Asked to pause until {until}, after {approvals} approvals with a median of {:.1} seconds",
            *median_ms as f64 / 1_000.0
        ),
        E::Overdue { step, roles } => {
            let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
            format!("Overdue, step {step}: {} were told", roles.join(", "))
        }
    }
}

fn exception_words(event: &ExceptionEvent) -> String {
    use ExceptionEvent as E;
    match event {
        E::Requested { .. } => "An exception was asked for".to_owned(),
        E::Granted { until, .. } => format!(
            "An exception was granted, to be used until {}",
            until.strftime("%Y-%m-%d %H:%M UTC")
        ),
        E::Declined { .. } => "The exception was declined".to_owned(),
        E::Used { by } => format!("The exception was used: {by}"),
        E::Expired { granted: true } => "The exception ran out unused".to_owned(),
        E::Expired { granted: false } => "Nobody granted the exception in time".to_owned(),
        E::Reviewed { finding, .. } => format!(
            "The exception was looked at afterwards: {}",
            match finding {
                ExceptionFinding::Justified => "justified",
                ExceptionFinding::ChangeTheMatrix =>
                    "justified, and the matrix should have a row for it",
                ExceptionFinding::NotJustified => "not justified",
            }
        ),
    }
}

fn undo_words(event: &UndoEvent) -> String {
    match event {
        UndoEvent::Started { effects, .. } => {
            format!("A run to undo {effects} effects was started")
        }
        UndoEvent::Joined { writeback, on } => {
            format!("{writeback} rests on {on}, which is undone")
        }
        UndoEvent::Moved { writeback, step } => format!("{writeback}: {}", step_words(step)),
        UndoEvent::CompensationProposed { by, .. } => {
            format!("What would undo it was proposed: {by}")
        }
        UndoEvent::Finished { counts } => format!(
            "Finished: {} undone, {} set aside, {} withdrawn, {} with a person, {} with nothing to undo",
            counts.undone, counts.set_aside, counts.withdrawn, counts.person, counts.nothing
        ),
    }
}

fn cohort_words(event: &CohortEvent) -> String {
    match event {
        CohortEvent::Listed(list) => {
            let removed: u64 = list.removed.values().sum();
            format!(
                "A list of {} patients was asked for ({}), for {} by {}; {removed} more were left out",
                list.listed, list.cohort, list.intent, list.agent
            )
        }
        CohortEvent::Struck {
            patient, listed, ..
        } => format!("{patient} was struck from the list; {listed} are left"),
        CohortEvent::Approved { listed, .. } => {
            format!("The list of {listed} patients was approved")
        }
        CohortEvent::LeftOut {
            patient,
            because,
            grant: None,
        } => format!("{patient} was left out: {}", because.words()),
        CohortEvent::LeftOut {
            patient,
            because,
            grant: Some(grant),
        } => format!("{grant} of {patient} was taken back: {}", because.words()),
        CohortEvent::Ended { cause, counts } => format!(
            "The job ended, {}: {} taken by the agent, {} ran out unused, {} left out",
            cause.words(),
            counts.used,
            counts.unused,
            counts.left_out
        ),
    }
}

/// How it stands with one effect of an undo run, in words.
pub fn step_words(step: &UndoStep) -> String {
    match step {
        UndoStep::Found => "found".to_owned(),
        UndoStep::Waiting => "on its way; what becomes of it must be known first".to_owned(),
        UndoStep::SetAside => "set aside".to_owned(),
        UndoStep::Withdrawn => "a draft, withdrawn".to_owned(),
        UndoStep::Proposed { by } => format!("what undoes it is proposed: {by}"),
        UndoStep::Undone { by } => format!("undone by {by}"),
        UndoStep::Nothing => "nothing to undo".to_owned(),
        UndoStep::Person { needed, task: None } => format!("a person must act: {}", needed.words()),
        UndoStep::Person {
            needed,
            task: Some(task),
        } => format!("a person must act: {}; asked by {task}", needed.words()),
    }
}

fn sum(classes: &std::collections::BTreeMap<String, u32>) -> u64 {
    classes.values().copied().map(u64::from).sum()
}

fn writeback_words(event: &WritebackEvent) -> String {
    use WritebackEvent as E;
    match event {
        E::Proposed(proposal) if proposal.tainted => {
            "Proposed; text from outside was in the agent's context".to_owned()
        }
        E::Proposed(proposal) => match &proposal.undo {
            Some(link) => format!(
                "Proposed by Chaperone itself, in {}, about {}",
                link.run, link.of
            ),
            None => "Proposed".to_owned(),
        },
        E::Validated { class, .. } => format!("Passed validation; class {class}"),
        E::Ruled { ruling, .. } => match &ruling.gate {
            Gate::Auto => "Ruled: nobody needs to agree".to_owned(),
            Gate::AutoVerified { .. } => "Ruled: facts must be established first".to_owned(),
            Gate::Approve { .. } => "Ruled: one person must approve".to_owned(),
            Gate::Approve2f { .. } => {
                "Ruled: one person must approve, with a second factor".to_owned()
            }
            Gate::TwoPerson { .. } => "Ruled: two people must approve".to_owned(),
            Gate::Deny => "Ruled: denied".to_owned(),
        },
        E::Verified { evidence, .. } if evidence.is_empty() => {
            "The facts its gate names were established".to_owned()
        }
        E::Verified { evidence, .. } => {
            let by: BTreeSet<String> = evidence.iter().map(verified_by).collect();
            let by: Vec<String> = by.into_iter().collect();
            format!(
                "The facts its gate names were established, {}",
                by.join(", ")
            )
        }
        E::Approved { approval } => {
            let factor = match approval.factor {
                Factor::None => "",
                Factor::EhrSignature { .. } => ", by signing it in the EHR",
                Factor::Totp { .. } => ", with a code of their app",
                Factor::Passkey { .. } => ", with a passkey",
            };
            let why = match &approval.override_reason {
                Some(reason) => format!(", over a warning: {reason}"),
                None => String::new(),
            };
            format!("Approved as {}{factor}{why}", approval.role)
        }
        E::Refused { refused } => match refused {
            RefusedBy::Validation { .. } => "Refused: it is not valid".to_owned(),
            RefusedBy::Policy { code } => format!("Refused by policy: {code}"),
            RefusedBy::Human { .. } => "Refused by a person".to_owned(),
            RefusedBy::Edited { into, .. } => format!("Changed by a person, into {into}"),
            RefusedBy::Expiry => "Refused: nobody decided in time".to_owned(),
            RefusedBy::Withdrawn => "Taken back by the agent".to_owned(),
            RefusedBy::RulesChanged => "Ended: the rules changed since it was ruled on".to_owned(),
        },
        E::Voided { reason } => format!("Void: {}", void_words(*reason)),
        E::DeliveryStarted(start) => format!("Attempt {} began", start.attempt),
        E::DraftPlaced(_) => "The EHR has it unsigned; a signature there is awaited".to_owned(),
        E::Delivered(receipt) => format!("The EHR has it; proof level {}", receipt.proof),
        E::NotApplied { cause, .. } => {
            format!(
                "Not applied: {}; it will be tried again",
                cause_words(*cause)
            )
        }
        E::OutcomeUnknown => "Nobody knows yet whether the EHR applied it".to_owned(),
        E::FoundNotApplied { basis, .. } => match basis {
            NotAppliedBasis::MissAfterSettle => {
                "Reading back showed that it was not applied".to_owned()
            }
            NotAppliedBasis::Human { .. } => "A person found that it was not applied".to_owned(),
        },
        E::HumanNeeded { reason } => format!("A person must decide: {}", needed_words(*reason)),
        E::DeadLettered { cause } => format!("Given up for now: {}", cause_words(*cause)),
        E::Requeued { .. } => "Put back into the queue".to_owned(),
        E::Abandoned { .. } => "Abandoned".to_owned(),
        E::Quarantined { reason } => match reason {
            QuarantineReason::BadRun => "Set aside: its maker is under suspicion".to_owned(),
            QuarantineReason::Operator => "Set aside by an operator".to_owned(),
        },
        E::Released { .. } => "Taken out of quarantine".to_owned(),
        E::Compensated { .. } => "Undone by a linked write-back".to_owned(),
        E::Promoted { .. } => "Taken up by a linked write-back".to_owned(),
        E::CanarySeeded(_) => {
            "Put before approvers as a test: patient and change are made up".to_owned()
        }
        E::CanaryMissed(_) => "Approved, though something was wrong; it was a test".to_owned(),
        E::CanaryCaught { .. } => "Rejected, as it should be; it was a test".to_owned(),
        E::CanaryWithdrawn(end) => {
            format!("Taken back; it was a test: {}", canary_end_words(end))
        }
    }
}

/// Why a canary was taken back, in words.
pub fn canary_end_words(end: &CanaryEnd) -> &'static str {
    match end {
        CanaryEnd::Expired => "nobody had decided about it in time",
        CanaryEnd::RulesChanged => "the rules changed",
        CanaryEnd::Mode => "a switch was moved",
        CanaryEnd::Busy => "too much was waiting",
        CanaryEnd::SwitchedOff => "tests were switched off",
        CanaryEnd::Changed { .. } => "a person changed it",
    }
}

/// Why an order is void, in words.
pub fn void_words(reason: VoidReason) -> &'static str {
    match reason {
        VoidReason::Stale => "what it rests on changed at the EHR since",
        VoidReason::Consent => "consent no longer allows it",
        VoidReason::DeliverBy => "its time to be delivered ran out",
        VoidReason::DigestMismatch => "what is stored is not what was approved",
        VoidReason::AuthorityChanged => "agent, intent or bundle are no longer what they were",
        VoidReason::NotSigned => {
            "nobody signed it in the EHR in time; where it was placed, the unsigned draft is still there"
        }
        VoidReason::ChangedBeforeSigning => {
            "it was changed in the EHR, so what is there is not what was proposed; look at it there"
        }
        VoidReason::SignerNotPermitted => {
            "it was signed in the EHR by somebody who may not approve it here; look at it there"
        }
        VoidReason::DeclinedAtEhr => "it was taken away in the EHR without being signed",
    }
}

/// Why an attempt failed, in words.
pub fn cause_words(cause: FailureCause) -> &'static str {
    match cause {
        FailureCause::Unreachable => "the EHR could not be reached",
        FailureCause::RateLimited => "the EHR asked to slow down",
        FailureCause::ServerError => "the EHR had an error",
        FailureCause::Rejected => "the EHR refused the content",
        FailureCause::Unauthorized => "the EHR refused our authority",
    }
}

/// Why a person must decide, in words.
pub fn needed_words(reason: HumanNeeded) -> &'static str {
    match reason {
        HumanNeeded::EndpointCannotTell => "this EHR cannot tell whether it applied the write",
        HumanNeeded::MoreThanOne => "more than one record carries its identifier",
        HumanNeeded::ContentDiffers => "what was read back is not what was sent",
        HumanNeeded::ReadBackFails => "reading back failed for too long",
        HumanNeeded::PartlyApplied => {
            "some of what was to take effect as one is there, and some is not"
        }
    }
}
