//! Telling a patient, at the e-mail addresses of before, that their contact data was changed.
//!
//! It follows a delivery as work of its own, in no patient's order, so that a mail server that fails holds up nothing
//! and a node that dies loses nothing. Told at least once: after a crash, once more. Whether somebody is told is the
//! row's to say (`@notify("patient")`); the text is the bundle's.
//!
//! # Source
//! Row 1 of the write-back matrix; NIST SP 800-63B, section 6.1.2.3.

use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::WriteOrder;
use chaperone_core::ids::WorkId;
use chaperone_core::patient_mail::{
    PatientMailEvent, PatientMailKind, PatientMailNotSent, PatientMailText,
};
use chaperone_core::phi::Phi;
use chaperone_core::ports::{ClaimedWork, Commit, PatientMailer, WorkChange, WorkItem, WorkKind};
use chaperone_core::writeback::Ruled;

use super::queue::later;
use super::{HELD_BY_MODE_MS, ItemFailed, delivery, subjects_of};
use crate::context::Engine;
use crate::transition::InHand;
use crate::vault::VaultFailed;
use crate::verification::contact::{addresses_before, is_told};

/// How long after each attempt the next one follows, in milliseconds; after the last, somebody is asked to look.
const AGAIN_MS: [i64; 4] = [60_000, 600_000, 3_600_000, 21_600_000];
const MAIL: PatientMailKind = PatientMailKind::ContactChanged;

impl Engine {
    /// The work of telling the patient, in the commit that makes a change of theirs a delivered one.
    pub(crate) fn tell_patient_later(&self, hand: &InHand, commit: &mut Commit) {
        let is_told = hand.has_become_delivered() && hand.state.ruled().is_some_and(is_told);
        if is_told {
            commit.work.push(WorkChange::Enqueue(WorkItem {
                id: WorkId::from_random(self.random.id()),
                kind: WorkKind::Deliver,
                subject: hand.id.to_string(),
                order_key: None,
                due: commit.at,
            }));
        }
    }

    /// Tells the patient of a delivered change, or later again.
    pub(super) async fn tell_patient(
        &self,
        mut hand: InHand,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        let Some(ruled) = hand.state.ruled().filter(|ruled| is_told(ruled)).cloned() else {
            return self.complete(work).await;
        };
        let ruled = &ruled;
        let (modes, _) = self.modes().await?;
        if !subjects_of(ruled).all(|it| modes.effective(it).reads()) {
            return self.defer(work, HELD_BY_MODE_MS, None).await;
        }
        let order: WriteOrder = match self.unseal(&ruled.order.address).await {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(order) => order,
                Err(_) => return self.complete(work).await,
            },
            // Nobody is told about what was shredded since.
            Err(VaultFailed::Missing | VaultFailed::Sealed) => return self.complete(work).await,
            Err(failed) => return Err(failed.into()),
        };
        let addresses = addresses_before(&order, self.now());
        let channel = self
            .config
            .patient_mail
            .as_ref()
            .zip(self.tables.trust().changed());
        let (Some((mailer, text)), false) = (channel, addresses.is_empty()) else {
            let reason = if addresses.is_empty() {
                PatientMailNotSent::NoAddress
            } else {
                PatientMailNotSent::NoChannel
            };
            let mut commit = self.commit_as(delivery());
            hand.note(&mut commit, not_sent(ruled, reason))?;
            commit.work.push(self.completed(work));
            self.store.commit(commit).await?;
            return Ok(());
        };
        let attempts = self.attempts_to_tell(&hand).await?;
        let mut commit = self.commit_as(delivery());
        let sending = PatientMailEvent::Sending {
            mail: MAIL,
            patient: ruled.proposal.patient,
            addresses: u32::try_from(addresses.len()).unwrap_or(u32::MAX),
            until: None,
        };
        hand.note(&mut commit, Event::PatientMail(sending))?;
        // Before it leaves: what cannot be recorded is not sent.
        self.store.commit(commit).await?;
        let mut commit = self.commit_as(delivery());
        match to_all(mailer.as_ref(), &addresses, &text).await {
            Ok(()) => commit.work.push(self.completed(work)),
            Err(reason) => {
                hand.note(&mut commit, not_sent(ruled, reason))?;
                match AGAIN_MS.get(attempts) {
                    Some(wait_ms) => commit.work.push(WorkChange::Defer {
                        id: work.item.id,
                        claim: Some(work.claim),
                        due: later(commit.at, *wait_ms),
                        kind: None,
                    }),
                    None => {
                        commit.work.push(self.completed(work));
                        self.tell_operator(hand.id, "patient-not-told");
                    }
                }
            }
        }
        self.store.commit(commit).await?;
        Ok(())
    }

    /// How often it was tried before.
    async fn attempts_to_tell(&self, hand: &InHand) -> Result<usize, ItemFailed> {
        let stream = StreamId::Writeback(hand.id);
        let events = self.store.stream(&self.config.tenant, &stream).await?;
        let is_attempt = |event: &Event| {
            matches!(
                event,
                Event::PatientMail(PatientMailEvent::Sending { mail: MAIL, .. })
            )
        };
        Ok(events.iter().filter(|it| is_attempt(&it.event)).count())
    }
}

/// One mail to each address, whatever becomes of the others. Where one did not take it, all are told again: rather
/// twice than not at all.
async fn to_all(
    mailer: &dyn PatientMailer,
    addresses: &[Phi<String>],
    text: &PatientMailText,
) -> Result<(), PatientMailNotSent> {
    let mut outcome = Ok(());
    for address in addresses {
        if let Err(reason) = mailer.send(address, text).await {
            outcome = Err(reason);
        }
    }
    outcome
}

fn not_sent(ruled: &Ruled, reason: PatientMailNotSent) -> Event {
    Event::PatientMail(PatientMailEvent::NotSent {
        mail: MAIL,
        patient: ruled.proposal.patient,
        reason,
    })
}
