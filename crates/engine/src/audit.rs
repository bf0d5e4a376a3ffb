//! What the ledger says to people outside it: FHIR AuditEvents, who saw something of a patient, and the
//! accounting of disclosures. Whoever asks is recorded before anything is shown.
//!
//! Not here: how an event becomes an AuditEvent (`chaperone_ledger::audit`, which is pure).
//! Reading order: `index` (rows by patient, folded behind the ledger), `tell` (one entry with its patient and
//! place), [`export`], [`stream`], [`who_saw`], [`accounting`].

pub mod accounting;
pub mod export;
mod index;
mod merged;
pub mod stream;
mod tell;
pub mod who_saw;

use chaperone_core::event::{AuditUse, AuditUsed, Event, StreamId};
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{CommitFailed, EhrReadFailed, Expected, StoreFailed};
use chaperone_core::principal::{Actor, Human, Role, SystemPart};
use chaperone_core::{Timestamp, event::LeafInvalid};

use crate::context::Engine;
use crate::grant::{GrantFailed, PatientRef};
use crate::tokens::TokenFailed;
use crate::vault::VaultFailed;

pub use index::Indexed;
pub(crate) use index::{ACCESSES, read as read_row};

/// Roles that may ask who saw something of a patient: the privacy officer's alone.
const ASKS: [Role; 1] = [Role::Privacy];

/// Whether a person may ask who saw something of a patient.
pub fn may_ask(human: &Human) -> bool {
    ASKS.into_iter().any(|role| human.holds(role))
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// A person at the console.
    Human(&'a Human),
    /// Somebody who may run commands on the server.
    CommandLine,
}

impl Asker<'_> {
    fn actor(&self) -> Actor {
        match self {
            Asker::Human(human) => (*human).into(),
            Asker::CommandLine => Actor::System {
                part: SystemPart::CommandLine,
            },
        }
    }

    fn stream(&self) -> StreamId {
        match self {
            Asker::Human(human) => StreamId::Account(human.account.clone()),
            Asker::CommandLine => StreamId::Tenant,
        }
    }
}

/// A span of time: from the first moment on, and before the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// From when on; absent for the beginning.
    pub from: Option<Timestamp>,
    /// Before when; absent for now.
    pub to: Option<Timestamp>,
}

impl Span {
    /// Days such as `2026-01-31`, in UTC; empty ones are open, and the last day counts whole.
    ///
    /// # Errors
    /// [`AuditFailed::NotADay`].
    pub fn of_days(from: &str, to: &str) -> Result<Self, AuditFailed> {
        let wrong = |_: jiff::Error| AuditFailed::NotADay;
        let day = |text: &str| match text {
            "" => Ok(None),
            text => text.parse::<jiff::civil::Date>().map(Some).map_err(wrong),
        };
        let begin = |day: jiff::civil::Date| {
            day.to_zoned(jiff::tz::TimeZone::UTC)
                .map(|at| at.timestamp())
                .map_err(wrong)
        };
        let to = match day(to)? {
            Some(to) => Some(begin(to.tomorrow().map_err(wrong)?)?),
            None => None,
        };
        Ok(Self {
            from: day(from)?.map(begin).transpose()?,
            to,
        })
    }

    /// Whether a moment is in it.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }
}

/// Why a question about the ledger has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AuditFailed {
    /// The person's roles do not cover it.
    #[error("your roles do not cover this; it is the privacy officer's")]
    NotPermitted,
    /// There is no such patient.
    #[error(
        "no patient is known by this; give `Patient/[id]` as the EHR names it, `system|value` of an identifier, or a patient token `pat_…`"
    )]
    UnknownPatient,
    /// The EHR knows the patient, and no token was ever made for them.
    #[error(
        "the EHR knows this patient, and nothing of them was ever handled here: nobody saw anything"
    )]
    NeverHandled,
    /// More accesses than one answer may hold.
    #[error(
        "there are more than {0} accesses in this time; ask for a shorter one with --from and --to"
    )]
    TooMany(u64),
    /// Not a day.
    #[error("write days as 2026-01-31")]
    NotADay,
    /// Where to go on is not said as an answer said it.
    #[error("this is not where an answer said to go on")]
    NoSuchPage,
    /// The patient's reference cannot be looked up now.
    #[error("the patient cannot be looked up at the EHR now: {0}")]
    Ehr(EhrReadFailed),
    /// The list by patient is still being folded from the ledger.
    #[error(
        "the list of accesses is {behind} entries behind the ledger and is being brought up to date; ask again in a moment"
    )]
    Behind {
        /// How many entries.
        behind: u64,
    },
    /// A token cannot be followed.
    #[error(transparent)]
    Token(#[from] TokenFailed),
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// The question could not be recorded, so nothing is shown.
    #[error("the question could not be recorded, so nothing is shown")]
    Commit(#[from] CommitFailed),
    /// A stored entry cannot be read.
    #[error(transparent)]
    Leaf(#[from] LeafInvalid),
    /// The answer could not be written.
    #[error("the answer could not be written")]
    Write(#[source] std::io::Error),
}

impl Engine {
    /// The patient that somebody means, by a token or by the reference at the EHR. Nothing is minted: whom
    /// no token stands for, nobody has seen anything of.
    ///
    /// # Errors
    /// [`AuditFailed::UnknownPatient`] for what is no patient here; EHR, key and store failures.
    pub async fn patient_meant(&self, text: &str) -> Result<PatientToken, AuditFailed> {
        let text = text.trim();
        if let Ok(token) = text.parse::<PatientToken>() {
            return match self.patient_id(token).await {
                // Erased since: what was seen before can still be asked.
                Ok(_) | Err(TokenFailed::Unreadable(_)) => Ok(token),
                Err(TokenFailed::Unknown) if self.has_accesses(token).await? => Ok(token),
                Err(TokenFailed::Unknown) => Err(AuditFailed::UnknownPatient),
                Err(failed) => Err(failed.into()),
            };
        }
        let meant = match text.split_once('|') {
            Some((system, value)) => PatientRef::Identifier {
                system: system.to_owned(),
                value: value.to_owned(),
            },
            None => {
                let id = text.strip_prefix("Patient/").unwrap_or(text);
                if id.is_empty() || id.contains('/') {
                    return Err(AuditFailed::UnknownPatient);
                }
                // Also asked when the EHR is down, and for a record that was merged since.
                if let Some(token) = self.known_patient_token(id).await? {
                    return Ok(token);
                }
                // Shredded since: the accounting has an index of its own.
                if let Some(token) = self.shredded_tokens(id).await?.pop() {
                    return Ok(token);
                }
                PatientRef::LogicalId(id.to_owned())
            }
        };
        let id = match self.surviving_patient(&meant).await {
            Ok(id) => id,
            Err(GrantFailed::Ehr(failed)) => return Err(AuditFailed::Ehr(failed)),
            Err(GrantFailed::Store(failed)) => return Err(failed.into()),
            Err(_) => return Err(AuditFailed::UnknownPatient),
        };
        if let Some(token) = self.known_patient_token(&id).await? {
            return Ok(token);
        }
        // Nothing was handled under this record; under one that was merged into it, there may have been, or
        // the patient was shredded.
        let (records, _) = self.records_of(&id).await;
        for record in records {
            if let Some(token) = self.known_patient_token(&record).await? {
                return Ok(token);
            }
        }
        self.shredded_tokens(&id)
            .await?
            .pop()
            .ok_or(AuditFailed::NeverHandled)
    }

    /// Whether the list of accesses has any of a patient.
    async fn has_accesses(&self, patient: PatientToken) -> Result<bool, StoreFailed> {
        let count = self
            .store
            .projections_count(&self.config.tenant, ACCESSES, Some(&patient.to_string()))
            .await?;
        Ok(count > 0)
    }

    /// Records a question before it is answered.
    async fn record_question(
        &self,
        asker: Asker<'_>,
        used_for: AuditUse,
        patient: Option<PatientToken>,
        span: Span,
    ) -> Result<(), CommitFailed> {
        let used = AuditUsed {
            correlation: self.correlation(),
            used_for,
            patient,
            from: span.from,
            to: span.to,
        };
        let mut commit = self.commit_as(asker.actor());
        commit.append(asker.stream(), Expected::Any, Event::AuditUsed(used));
        self.store.commit(commit).await.map(|_| ())
    }
}
