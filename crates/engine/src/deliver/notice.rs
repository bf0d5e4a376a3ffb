//! Telling a patient, at the e-mail addresses of before, that their contact data was changed.
//!
//! It follows a delivery as work of its own, so that a node that dies loses nothing. It is in no patient's order, holds
//! its place no longer than one mail takes, and never one of those that are kept for what needs no order: a mail server
//! that fails holds up no call for help. Told at least once: after a crash, once more. Where nobody can be told, an
//! operator hears of it. Whether somebody is told is the row's to say (`@notify("patient")`); the text is the bundle's.
//!
//! # Source
//! Row 1 of the write-back matrix; NIST SP 800-63B, section 6.1.2.3.

use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::WriteOrder;
use chaperone_core::ids::{PatientToken, WorkId};
use chaperone_core::patient_mail::{
    PatientMailEvent, PatientMailKind, PatientMailNotSent, PatientMailText,
};
use chaperone_core::phi::Phi;
use chaperone_core::ports::{
    ClaimedWork, Commit, KeyVaultFailed, PatientMailer, WorkChange, WorkItem, WorkKind,
};

use super::queue::later;
use super::{HELD_BY_MODE_MS, ItemFailed, delivery};
use crate::context::Engine;
use crate::transition::InHand;
use crate::vault::VaultFailed;
use crate::verification::contact::{addresses_before, is_told};

/// How long after each attempt the next one follows, in milliseconds; after the last, somebody is asked to look.
const AGAIN_MS: [i64; 4] = [60_000, 600_000, 3_600_000, 21_600_000];
const MAIL: PatientMailKind = PatientMailKind::ContactChanged;
/// What an operator hears where a patient could not be told.
const UNTOLD: &str = "patient-not-told";

impl Engine {
    /// The work of telling the patient, in the commit that makes a change of theirs a delivered one.
    pub(crate) fn tell_patient_later(&self, hand: &InHand, commit: &mut Commit) {
        let is_told = hand.has_become_delivered() && hand.state.ruled().is_some_and(is_told);
        if is_told {
            commit.work.push(WorkChange::Enqueue(WorkItem {
                id: WorkId::from_random(self.random.id()),
                kind: WorkKind::Deliver,
                subject: hand.id.to_string(),
                order_key: Some(format!("notice/{}", hand.id)),
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
        if !ruled.touched().all(|it| modes.effective(it).calls()) {
            return self.defer(work, HELD_BY_MODE_MS, None).await;
        }
        let order: WriteOrder = match self.unseal(&ruled.order.address).await {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(order) => order,
                Err(_) => return self.untold(hand, PatientMailNotSent::NoAddress, work).await,
            },
            // Nobody is told about what was shredded since.
            Err(
                VaultFailed::Missing
                | VaultFailed::Sealed
                | VaultFailed::Keys(KeyVaultFailed::Destroyed),
            ) => return self.complete(work).await,
            Err(failed) => return Err(failed.into()),
        };
        let addresses = addresses_before(&order, self.now());
        let channel = self
            .config
            .patient_mail
            .as_ref()
            .zip(self.tables.trust().changed());
        if addresses.is_empty() {
            return self.untold(hand, PatientMailNotSent::NoAddress, work).await;
        }
        let Some((mailer, text)) = channel else {
            return self.untold(hand, PatientMailNotSent::NoChannel, work).await;
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
                hand.note(&mut commit, not_sent(ruled.proposal.patient, reason))?;
                match AGAIN_MS.get(attempts) {
                    Some(wait_ms) => commit.work.push(WorkChange::Defer {
                        id: work.item.id,
                        claim: Some(work.claim),
                        due: later(commit.at, *wait_ms),
                        kind: None,
                    }),
                    None => {
                        commit.work.push(self.completed(work));
                        self.tell_operator(hand.id, UNTOLD);
                    }
                }
            }
        }
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Nobody can be told, now or later: it is recorded, and an operator hears of it.
    async fn untold(
        &self,
        mut hand: InHand,
        reason: PatientMailNotSent,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        let mut commit = self.commit_as(delivery());
        let patient = hand.state.proposal().patient;
        hand.note(&mut commit, not_sent(patient, reason))?;
        commit.work.push(self.completed(work));
        self.store.commit(commit).await?;
        self.tell_operator(hand.id, UNTOLD);
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

/// One mail to each address at the same time, whatever becomes of the others. Where one did not take it, all are told
/// again: rather twice than not at all.
async fn to_all(
    mailer: &dyn PatientMailer,
    addresses: &[Phi<String>],
    text: &PatientMailText,
) -> Result<(), PatientMailNotSent> {
    let sent = addresses.iter().map(|address| mailer.send(address, text));
    futures::future::join_all(sent).await.into_iter().collect()
}

fn not_sent(patient: Option<PatientToken>, reason: PatientMailNotSent) -> Event {
    Event::PatientMail(PatientMailEvent::NotSent {
        mail: MAIL,
        patient,
        reason,
    })
}
