//! One-time codes: Chaperone sends one to the e-mail address that an order adds, and sees it come back.
//!
//! ```text
//! send_code ─▶ the portal's patient? ─▶ the one new address of this order ─▶ few enough? ─▶ recorded ─▶ mail
//! take_code ─▶ the portal's patient? ─▶ the newest code, of this portal, in time? ─▶ the same? ─▶ evidence
//!                                                                         └ no: counted, recorded, refused
//! ```
//!
//! A code is bound to write-back, order digest, address and portal: what is kept is a keyed digest of all of them, so
//! it is of no use for other content, by another portal, or to whoever reads the database. Every try is counted in the
//! commit that answers it, so that guesses at one time are no more than guesses one by one. A code shows that somebody
//! reads what comes to the address, and nothing else: that the patient wants it is attested beside it. An agent has no
//! way in here, and no answer of an agent's tool holds a code.
//!
//! # Source
//! Requirement R031; OWASP ASVS 4.0.3, section 2.7.

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::Event;
use chaperone_core::ids::{EhrEventSource, PatientToken, ResourceToken, WritebackId};
use chaperone_core::mode::ModeSubject;
use chaperone_core::patient_mail::{PatientMailEvent, PatientMailKind, PatientMailNotSent};
use chaperone_core::phi::{ExposedFor, Phi};
use chaperone_core::ports::{PayloadClass, RecordChange, RecordKey, StoreFailed};
use chaperone_core::verification::{VerificationRecord, VerifiedBy};
use serde::{Deserialize, Serialize};

use super::mails::CodeRules;
use super::{VERIFICATIONS, VerifyFailed, Verifying, Waiting, contact, read, record, trust};
use crate::context::{Engine, after};
use crate::portal::{Portal, may_be_shown};

/// The fact that a code shows.
const CODE_CONFIRMED: &str = "contact_code_confirmed";
/// How long codes for one patient are counted, in seconds.
const PATIENT_WINDOW_S: i64 = 24 * 3_600;

/// What a portal asks a code for, as it stands in the body that it signed. Unknown keys are refused.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeAsked {
    /// The write-back that waits.
    pub writeback: WritebackId,
    /// The order that the patient was shown.
    pub digest: Digest,
    /// The patient whom the portal deals with, `Patient/id`; compared, never used.
    pub patient: String,
    /// Who acts in the patient's place, `RelatedPerson/id`, where it is not the patient.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proxy: Option<String>,
}

/// A code that came back, as it stands in the body that the portal signed. Unknown keys are refused.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeGiven {
    /// The write-back that waits.
    pub writeback: WritebackId,
    /// The order that the patient was shown.
    pub digest: Digest,
    /// The patient whom the portal deals with, `Patient/id`; compared, never used.
    pub patient: String,
    /// Who acts in the patient's place, `RelatedPerson/id`, where it is not the patient.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proxy: Option<String>,
    /// What they entered.
    pub code: String,
}

impl std::fmt::Debug for CodeAsked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeAsked(withheld)")
    }
}

impl std::fmt::Debug for CodeGiven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeGiven(withheld)")
    }
}

/// A code that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeSent {
    /// Until when it counts.
    pub until: Timestamp,
    /// How many more can be asked for.
    pub left: u32,
}

/// What is kept of the codes of one order.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Codes {
    /// How many were made.
    made: u32,
    /// How many wrong ones were handed in, whichever was the newest then.
    tries: u32,
    /// The newest, until it comes back.
    newest: Option<Newest>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Newest {
    digest: Digest,
    until: Timestamp,
}

/// How many codes a patient was sent, since when.
#[derive(Clone, Serialize, Deserialize)]
struct OfPatient {
    made: u32,
    since: Timestamp,
}

/// What waits for a code, and who speaks for the patient about it.
struct Asking {
    waiting: Waiting,
    patient: PatientToken,
    address: Phi<String>,
    proxy: Option<ResourceToken>,
    codes: Codes,
    /// The revision of their record, where there is one.
    revision: Option<u64>,
}

impl Engine {
    /// Makes a code and sends it to the e-mail address that an order adds, for whoever is signed in to the portal.
    ///
    /// # Errors
    /// [`VerifyFailed`]; a refusal is recorded. A code that was made replaces the one of before, also where its mail
    /// is not known to have left: only the newest counts, and each counts as made.
    pub async fn send_code(
        &self,
        from: &Portal,
        asked: CodeAsked,
    ) -> Result<CodeSent, VerifyFailed> {
        let writeback = asked.writeback;
        let done = self.try_send_code(from, asked).await;
        self.verification_recorded(from, writeback, done).await
    }

    /// Takes a code that came back.
    ///
    /// # Errors
    /// [`VerifyFailed`]; a refusal is recorded, a wrong code is counted, and the write-back stays held.
    pub async fn take_code(
        &self,
        from: &Portal,
        given: CodeGiven,
    ) -> Result<Verifying, VerifyFailed> {
        let writeback = given.writeback;
        let done = self.try_take_code(from, given).await;
        self.verification_recorded(from, writeback, done).await
    }

    async fn try_send_code(
        &self,
        from: &Portal,
        asked: CodeAsked,
    ) -> Result<CodeSent, VerifyFailed> {
        let mut asking = self.asking(from, &asked).await?;
        let now = self.now();
        let rules = self.tables.trust().codes();
        let mailer = self.config.patient_mail.as_ref();
        let (Some(rules), Some(mailer)) = (rules, mailer) else {
            return Err(VerifyFailed::NoChannel);
        };
        if asking.codes.tries >= rules.tries_max || asking.codes.made >= rules.codes_max {
            return Err(VerifyFailed::CodesSpent);
        }
        let mut commit = self.commit_as(from.actor());
        let of_patient = self.counted_of_patient(asking.patient, rules, now).await?;
        commit.records.push(of_patient);
        let code = rules.make(self.random.as_ref());
        let until = after(now, rules.valid_s).min(asking.waiting.ruled.order.approve_by);
        asking.codes.made = asking.codes.made.saturating_add(1);
        asking.codes.newest = Some(Newest {
            digest: self.code_digest(from.name(), &asking, &code).await?,
            until,
        });
        commit.records.push(kept(&asking)?);
        let mail = PatientMailKind::ContactCode;
        let patient = Some(asking.patient);
        let sending = PatientMailEvent::Sending {
            mail,
            patient,
            addresses: 1,
            until: Some(until),
        };
        let hand = &mut asking.waiting.hand;
        hand.note(&mut commit, Event::PatientMail(sending))?;
        // Before it leaves: what cannot be recorded is not sent.
        self.store.commit(commit).await?;
        let sent = mailer.send(&asking.address, &rules.text(code)).await;
        if let Err(reason) = sent {
            let mut commit = self.commit_as(from.actor());
            let not_sent = PatientMailEvent::NotSent {
                mail,
                patient,
                reason,
            };
            asking
                .waiting
                .hand
                .note(&mut commit, Event::PatientMail(not_sent))?;
            self.store.commit(commit).await?;
            return Err(match reason {
                PatientMailNotSent::Failed => VerifyFailed::CodeNotSent,
                _ => VerifyFailed::NoChannel,
            });
        }
        Ok(CodeSent {
            until,
            left: rules.codes_max.saturating_sub(asking.codes.made),
        })
    }

    async fn try_take_code(
        &self,
        from: &Portal,
        given: CodeGiven,
    ) -> Result<Verifying, VerifyFailed> {
        let asked = CodeAsked {
            writeback: given.writeback,
            digest: given.digest,
            patient: given.patient,
            proxy: given.proxy,
        };
        let mut asking = self.asking(from, &asked).await?;
        let now = self.now();
        let rules = self.tables.trust().codes();
        let rules = rules.ok_or(VerifyFailed::NoChannel)?;
        if asking.codes.tries >= rules.tries_max {
            return Err(VerifyFailed::CodesSpent);
        }
        // What cannot be a code is a slip of the fingers, and tells nothing.
        if !rules.is_one(&given.code) {
            return Err(VerifyFailed::CodeWrong);
        }
        let newest = asking.codes.newest.take();
        let Some(newest) = newest.filter(|newest| now < newest.until) else {
            return Err(VerifyFailed::CodeOver);
        };
        let handed_in = self.code_digest(from.name(), &asking, &given.code).await?;
        let mut commit = self.commit_as(from.actor());
        if handed_in != newest.digest {
            asking.codes.tries = asking.codes.tries.saturating_add(1);
            asking.codes.newest = Some(newest);
            commit.records.push(kept(&asking)?);
            self.store.commit(commit).await?;
            return Err(VerifyFailed::CodeWrong);
        }
        // Used up with what comes of it; against the revision that was looked at, so that nobody tries twice at
        // once.
        commit.records.push(kept(&asking)?);
        let shown = VerificationRecord {
            fact: CODE_CONFIRMED.to_owned(),
            verified: VerifiedBy::Code {
                portal: from.name().clone(),
                proxy: asking.proxy,
            },
            patient: Some(asking.patient),
            digest: asked.digest,
            at: now,
            until: after(now, rules.confirmed_valid_s),
        };
        self.verify_with(asking.waiting, vec![shown], commit).await
    }

    /// What waits for a code, if the portal speaks for its patient and there is an address that one can go to.
    async fn asking(&self, from: &Portal, asked: &CodeAsked) -> Result<Asking, VerifyFailed> {
        // Patient and content first: about anybody else's, nothing is told.
        let about = (asked.patient.as_str(), Some(&asked.digest));
        let (waiting, (patient, id)) = self.waiting(asked.writeback, about).await?;
        let now = self.now();
        let proposal = &waiting.ruled.proposal;
        let mode = self.mode_of(ModeSubject {
            agent: Some(&proposal.agent),
            intent: Some(&proposal.intent),
            resource: Some(&waiting.ruled.change.resource),
            ehr: Some(self.ehr.connection()),
        });
        if !mode.await?.calls() {
            return Err(VerifyFailed::Halted);
        }
        if now >= waiting.ruled.order.approve_by {
            return Err(VerifyFailed::NotWaiting);
        }
        may_be_shown(&waiting.order.body)?;
        let is_asked_for = waiting.named.contains(CODE_CONFIRMED);
        if !is_asked_for || !self.missing_of(&waiting).await?.contains(CODE_CONFIRMED) {
            return Err(VerifyFailed::NotNeeded);
        }
        let proxy = self.speaks_for(from, &waiting, asked.proxy.as_deref(), (patient, &id));
        let proxy = proxy.await?;
        let address = contact::code_address(&waiting.order).ok_or(VerifyFailed::NoChannel)?;
        let key = codes_key(asked.writeback);
        let found = self.store.record(&self.config.tenant, &key, now).await?;
        let (codes, revision) = match found {
            Some(found) => (read(found.value)?, Some(found.revision)),
            None => (Codes::default(), None),
        };
        Ok(Asking {
            waiting,
            patient,
            address,
            proxy,
            codes,
            revision,
        })
    }

    /// Whether a portal has the patient, or whoever the gate lets act in their place, before it: it must be one whose
    /// word about that very thing counts. Who acts in the patient's place.
    async fn speaks_for(
        &self,
        from: &Portal,
        waiting: &Waiting,
        proxy: Option<&str>,
        patient: (PatientToken, &str),
    ) -> Result<Option<ResourceToken>, VerifyFailed> {
        let trust = self.tables.trust();
        let counts =
            |fact: &str| waiting.named.contains(fact) && trust.valid_s(from.name(), fact).is_some();
        match proxy {
            None if counts(trust::PATIENT) => Ok(None),
            None => Err(VerifyFailed::NotTrusted),
            Some(reference)
                if counts(trust::SESSION) && trust.proxies_for(CODE_CONFIRMED).is_some() =>
            {
                self.proxy_of(reference, patient).await.map(Some)
            }
            Some(_) => Err(VerifyFailed::Proxy),
        }
    }

    /// One code more for a patient, if there were few enough within a day.
    async fn counted_of_patient(
        &self,
        patient: PatientToken,
        rules: &CodeRules,
        now: Timestamp,
    ) -> Result<RecordChange, VerifyFailed> {
        let name = format!("codes-of/{patient}");
        let key = RecordKey::new(VERIFICATIONS, &name);
        let found = self.store.record(&self.config.tenant, &key, now).await?;
        let revision = found.as_ref().map(|found| found.revision);
        let mut counted = match found {
            Some(found) => read::<OfPatient>(found.value)?,
            None => OfPatient {
                made: 0,
                since: now,
            },
        };
        if counted.made >= rules.patient_day_max {
            return Err(VerifyFailed::TooManyCodes);
        }
        counted.made = counted.made.saturating_add(1);
        let until = after(counted.since, PATIENT_WINDOW_S);
        Ok(changed(record(name, &counted, until)?, revision))
    }

    /// What is kept of a code: a keyed digest over it and everything that it is bound to.
    async fn code_digest(
        &self,
        portal: &EhrEventSource,
        asking: &Asking,
        code: &str,
    ) -> Result<Digest, VerifyFailed> {
        let order = &asking.waiting.ruled.order.digest;
        let writeback = asking.waiting.hand.id.to_string();
        let proxy = asking.proxy.map(|it| it.to_string()).unwrap_or_default();
        let parts: [&[u8]; 7] = [
            b"one-time code 1",
            writeback.as_bytes(),
            order.as_bytes(),
            asking.address.expose(ExposedFor::Comparison).as_bytes(),
            portal.as_str().as_bytes(),
            proxy.as_bytes(),
            code.as_bytes(),
        ];
        let class = PayloadClass::Derived;
        Ok(self
            .keyed_digest(class, Some(asking.patient), &parts)
            .await?)
    }
}

fn codes_key(writeback: WritebackId) -> RecordKey {
    RecordKey::new(VERIFICATIONS, codes_name(writeback))
}

fn codes_name(writeback: WritebackId) -> String {
    format!("codes/{writeback}")
}

/// The codes of an order as they are now, against the revision that was looked at. Kept for as long as it waits.
fn kept(asking: &Asking) -> Result<RecordChange, StoreFailed> {
    let name = codes_name(asking.waiting.hand.id);
    let until = asking.waiting.ruled.order.approve_by;
    let record = record(name, &asking.codes, until)?;
    Ok(changed(record, asking.revision))
}

fn changed(record: chaperone_core::ports::Record, revision: Option<u64>) -> RecordChange {
    match revision {
        Some(revision) => RecordChange::Update(record, revision),
        None => RecordChange::Create(record),
    }
}
