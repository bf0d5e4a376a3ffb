//! Telling a person what a token stands for: for the privacy officer, who finds one in the ledger, in a log of an
//! agent's maker or in a complaint, and must know whose it is.
//!
//! With a reason, which rests in the vault, and recorded before anything is told: once as what it is, once as a look
//! at the patient, so that `who-saw` has it. What is told is the logical id at the EHR and no more; what stands there
//! is looked up at the EHR. Agents have no way to this. Start at [`Engine::reveal`].

use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{PatientToken, ResourceToken};
use chaperone_core::phi::Phi;
use chaperone_core::ports::{CommitFailed, Expected, KeyVaultFailed, PayloadClass, StoreFailed};
use chaperone_core::principal::Human;

use crate::audit::may_ask;
use crate::context::Engine;
use crate::tokens::TokenFailed;

/// Fewest characters of a reason: a word is none.
const REASON_CHARS_MIN: usize = 10;
/// Longest reason, in characters.
pub const REVEAL_REASON_CHARS_MAX: usize = 1_000;
/// The page, as the look at the patient is recorded.
const PAGE: &str = "console.token";

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revealed {
    /// Type and logical id at the EHR, such as `Appointment/77`.
    pub reference: Phi<String>,
    /// The patient whom it concerns.
    pub patient: Option<PatientToken>,
}

/// Why nothing was told.
#[derive(Debug, thiserror::Error)]
pub enum RevealFailed {
    /// The roles do not allow it.
    #[error("only the privacy officer may ask what a token stands for")]
    NotPermitted,
    /// Too short or too long.
    #[error("say why you must know, in 10 to 1,000 characters; it goes into the record")]
    ReasonUnfit,
    /// It is no token, was never one, or what it stood for is destroyed.
    #[error(
        "this stands for nothing here: take a whole token, `pat_…` or `res_…`, as it was shown"
    )]
    Unknown,
    /// The reason cannot be sealed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded, so nothing was told.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl Engine {
    /// Tells a person what a token stands for.
    ///
    /// # Errors
    /// [`RevealFailed`]; nothing is told then. A token whose patient was shredded stands for nothing.
    pub async fn reveal(
        &self,
        by: &Human,
        token: &str,
        reason: &str,
    ) -> Result<Revealed, RevealFailed> {
        if !may_ask(by) {
            return Err(RevealFailed::NotPermitted);
        }
        let reason = reason.trim();
        if !(REASON_CHARS_MIN..=REVEAL_REASON_CHARS_MAX).contains(&reason.chars().count()) {
            return Err(RevealFailed::ReasonUnfit);
        }
        let token = token.trim();
        let (target, token, patient) = match token.parse::<PatientToken>() {
            Ok(patient) => (self.patient_target(patient).await?, None, Some(patient)),
            Err(_) => {
                let token: ResourceToken = token.parse().map_err(|_| RevealFailed::Unknown)?;
                let target = self.resource_target(token).await?;
                let patient = target.patient;
                (target, Some(token), patient)
            }
        };
        let sealed = self
            .seal(PayloadClass::Operational, patient, reason.as_bytes())
            .await?;
        let mut commit = self.commit_as(by.into());
        let stream = StreamId::Account(by.account.clone());
        let revealed = Event::TokenRevealed {
            resource: target.resource.clone(),
            token,
            patient,
            reason: sealed.address,
        };
        commit.payloads.push(sealed);
        commit.append(stream.clone(), Expected::Any, revealed);
        if patient.is_some() {
            let look = self.ceiling(PAGE, patient, &["id"])?;
            commit.append(stream, Expected::Any, Event::ReadPermitted(Box::new(look)));
        }
        self.store.commit(commit).await?;
        Ok(Revealed {
            reference: Phi::new(format!("{}/{}", target.resource, target.id)),
            patient,
        })
    }
}

impl From<TokenFailed> for RevealFailed {
    fn from(failed: TokenFailed) -> Self {
        match failed {
            TokenFailed::Unknown | TokenFailed::Keys(KeyVaultFailed::Destroyed) => Self::Unknown,
            TokenFailed::Keys(failed) => failed.into(),
            TokenFailed::Store(failed) => failed.into(),
            TokenFailed::Commit(failed) => failed.into(),
            TokenFailed::Unreadable(failed) => StoreFailed::Corrupt(failed.to_string()).into(),
            TokenFailed::Seal(failed) => StoreFailed::Corrupt(failed.to_string()).into(),
        }
    }
}
