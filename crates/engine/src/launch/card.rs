//! What an EHR is told for a card of its own: how many proposals about the patient who is open wait for the person who
//! opened them. A number and an opaque name, and nothing about the patient.
//!
//! Whoever asks signs each request with a registered key, which counts once. Who is not linked to an account, whose
//! roles decide nothing of it, or about whom nothing waits or is known: all get the same answer, no card. What is told
//! is recorded as a look of that person before it is answered.
//!
//! # Source
//! HL7 CDS Hooks 2.0, `patient-view` and "Trusting CDS Clients".

use chaperone_core::ids::WritebackId;
use chaperone_core::phi::{ExposedFor, Phi};
use chaperone_core::ports::CommitFailed;
use chaperone_core::principal::{Actor, Human, SystemPart};
use chaperone_core::writeback::StateName;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::is_in_use;
use crate::client_token::{self, TokenFault};
use crate::context::Engine;
use crate::errors::CallError;
use crate::views::inbox::could_be_theirs;
use crate::views::patients::sees_patients;
use crate::views::{ROWS_MAX, ViewFailed};

/// The name of the one service.
pub const CARD_SERVICE: &str = "waiting-proposals";
/// What the record of a look calls it.
const PAGE: &str = "cds.patient-view";
/// What is told.
const FIELDS: [&str; 1] = ["proposals-waiting"];
/// Longest logical id or reference that is looked up, in bytes.
const ID_BYTES_MAX: usize = 256;

/// An EHR that may ask for cards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardClient {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Its public keys, as JSON Web Keys with `kid`.
    pub keys: Vec<Map<String, Value>>,
}

/// A client that has shown who it is, for one request.
#[derive(Debug)]
pub struct CardAsker(());

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardAsked {
    /// The FHIR endpoint that the EHR means, where it says so.
    pub server: Option<String>,
    /// Who looks, as the EHR names them.
    pub user: String,
    /// The logical id of the patient who is open.
    pub patient: Phi<String>,
}

/// A card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingCard {
    /// How many proposals wait for this person.
    pub count: u32,
    /// The one that it is, where it is one.
    pub writeback: Option<WritebackId>,
}

impl Engine {
    /// Whether cards are offered at all.
    pub fn offers_cards(&self) -> bool {
        self.launches()
            .is_ok_and(|launches| !launches.card_clients.is_empty())
    }

    /// Checks who asks. The token is used up by it.
    ///
    /// # Errors
    /// `invalid-client`.
    pub async fn card_asker(&self, token: Option<&str>) -> Result<CardAsker, CallError> {
        let refused = CallError::card_client_refused;
        let launches = self.launches().map_err(|_| refused())?;
        let keys_of = |issuer: &str| {
            let mut clients = launches.card_clients.iter();
            let client = clients.find(|client| client.issuer == issuer)?;
            Some(client.keys.as_slice())
        };
        let service = format!("{}/cds-services/{CARD_SERVICE}", self.config.audience);
        let claims = client_token::verify(
            token.ok_or_else(refused)?,
            &[Algorithm::ES384, Algorithm::RS384],
            &keys_of,
            &[service],
            self.now(),
        )
        .map_err(|fault| match fault {
            TokenFault::NotTheirs => refused(),
            TokenFault::Algorithm => refused().saying("sign the token with ES384 or RS384"),
            TokenFault::NoKeyId => refused().saying("name the key in `kid`"),
            TokenFault::Audience => refused().saying("the token is for another service"),
            TokenFault::Expired => refused().saying("the token has expired"),
            TokenFault::TooLong => refused().saying("a token may live five minutes at most"),
            TokenFault::Future => refused().saying("the token is from the future"),
            TokenFault::Id => refused().saying("`jti` must be 1 to 256 characters"),
        })?;
        let used = self.used_once(&claims, &[b"cds client"]);
        let mut commit = self.commit_as(Actor::System {
            part: SystemPart::Gateway,
        });
        commit.records.push(used.ok_or_else(refused)?);
        match self.store.commit(commit).await {
            Ok(_) => Ok(CardAsker(())),
            Err(CommitFailed::Record { .. }) => Err(refused().saying("this token was used before")),
            Err(failed) => Err(failed.into()),
        }
    }

    /// The card, where there is something to say.
    ///
    /// # Errors
    /// When the EHR means another server, or the look cannot be recorded: nothing is told then.
    pub async fn waiting_card(
        &self,
        _asker: CardAsker,
        asked: &CardAsked,
    ) -> Result<Option<WaitingCard>, CallError> {
        let is_ours = asked.server.as_deref().is_none_or(|server| {
            server.trim_end_matches('/') == self.ehr.endpoint().trim_end_matches('/')
        });
        if !is_ours {
            return Err(CallError::invalid_argument()
                .about("fhirServer")
                .saying("this is another FHIR server than the one that is connected here"));
        }
        let Some(human) = self.card_reader(&asked.user).await? else {
            return Ok(None);
        };
        let patient = asked.patient.expose(ExposedFor::Comparison);
        if patient.is_empty() || patient.len() > ID_BYTES_MAX {
            return Ok(None);
        }
        let Some(token) = self.known_patient_token(patient).await? else {
            return Ok(None);
        };
        let rows = self.newest_of_patient(token, ROWS_MAX).await?;
        let waiting: Vec<WritebackId> = rows
            .iter()
            .filter(|row| row.state == StateName::AwaitingApproval)
            .filter(|row| could_be_theirs(row, &human))
            .map(|row| row.id)
            .collect();
        let Some(first) = waiting.first() else {
            return Ok(None);
        };
        self.record_look(&human, PAGE, Some(token), &FIELDS)
            .await
            .map_err(|failed| match failed {
                ViewFailed::Store(failed) => failed.into(),
                ViewFailed::Commit(failed) => failed.into(),
                other => {
                    tracing::error!(error = %other, "a card could not be recorded");
                    CallError::internal()
                }
            })?;
        Ok(Some(WaitingCard {
            count: u32::try_from(waiting.len()).unwrap_or(u32::MAX),
            writeback: (waiting.len() == 1).then_some(*first),
        }))
    }

    /// Who looks, if it is somebody linked here whose account is in use and who works with patients.
    async fn card_reader(&self, user: &str) -> Result<Option<Human>, CallError> {
        let Ok(launches) = self.launches() else {
            return Ok(None);
        };
        if user.len() > ID_BYTES_MAX {
            return Ok(None);
        }
        let Some(name) = self.linked_account(launches, user) else {
            return Ok(None);
        };
        let account = self.stored_account(name).await?;
        Ok(account
            .filter(|(account, _)| is_in_use(account))
            .map(|(account, _)| account.human())
            .filter(sees_patients))
    }
}
