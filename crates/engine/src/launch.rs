//! Coming to the console from inside the EHR: the EHR says who somebody is and which patient is open; the account, its
//! roles and its second factors stay what they are here.
//!
//! ```text
//! begin ──▶ (the EHR's authorization server) ──▶ returned ──▶ enter
//!   │  a secret for this browser, a state           │  state used up, code exchanged,  │  ticket used up,
//!   │  that counts once with it                     │  person and patient found        │  session of the account
//! ```
//!
//! What makes a launch safe against whoever controls a link, a page or a second browser:
//! - `state`, PKCE verifier and nonce are derived from a secret that only this browser's cookie holds, and the record of
//!   a launch is found only with it. A code that was obtained elsewhere, or brought into another browser, leads nowhere.
//! - The addresses of the authorization server come from the configuration or the configured EHR, never from a request.
//! - Nobody is signed in by a link alone: the page after the launch names the account and waits for a click, which
//!   comes from our own page. A session that this browser had ends then.
//! - Where somebody is taken is worked out here, from what the EHR said; no request carries an address.
//!
//! A launch makes no account and gives no second factor. Accounts that administer do not come this way.
//!
//! Not here: how the server is spoken to (`connect::launch`). What EHRs are told for their cards is in [`card`].

pub mod card;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AccountName, ConnectionId, PatientToken, WritebackId};
use chaperone_core::launch::{
    AuthorizationAsked, CodeGiven, LaunchContext, LaunchEvent, LaunchRefusal,
};
use chaperone_core::phi::ExposedFor;
use chaperone_core::ports::{
    CommitFailed, Expected, LaunchServer, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, Human, Role};
use serde::{Deserialize, Serialize};

use self::card::CardClient;
use crate::context::{Engine, after};
use crate::grant::{GrantFailed, PatientRef};
use crate::people::{NewSession, SecondFactor, SignInRefused, StoredAccount, parse, value_of};
use crate::refusals::Named;
use crate::transition::MoveFailed;
use crate::views::part::Part;
use crate::views::patients::sees_patients;

/// Launches under way, and people who are about to enter.
pub(crate) const LAUNCHES: &str = "launch";

/// Where the authorization server sends people back to, below the public address.
pub const RETURN_PATH: &str = "/console/launch/return";
/// How long somebody may take to sign in at the EHR, in seconds.
pub const LAUNCH_SECONDS: i64 = 600;
/// How long somebody may take to go on once they are back, in seconds.
const ENTER_SECONDS: i64 = 120;
/// Longest `launch` of an EHR, in bytes.
const LAUNCH_BYTES_MAX: usize = 2_048;
/// Longest code, in bytes.
const CODE_BYTES_MAX: usize = 4_096;
/// Longest address of an issuer, in bytes.
const ISSUER_BYTES_MAX: usize = 2_048;

/// What an installation needs to take launches.
#[derive(Debug, Clone)]
pub struct Launches {
    /// The EHR's authorization server.
    pub server: Arc<dyn LaunchServer>,
    /// The account here behind each user there, `Practitioner/[id]`. Whoever is not among them does not come in.
    pub users: BTreeMap<String, AccountName>,
    /// The clients that may ask for cards.
    pub card_clients: Vec<CardClient>,
}

/// A launch that has begun.
#[derive(Clone, PartialEq, Eq)]
pub struct LaunchBegun {
    /// What the browser keeps, in a cookie and nowhere else: 64 hex digits.
    pub browser: String,
    /// Where to send it: the EHR's authorization server.
    pub to: String,
}

/// What came back with somebody from the authorization server.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LaunchReturn {
    /// What the browser kept.
    pub browser: String,
    /// What we gave along.
    pub state: String,
    /// The code, unless it did not let them through.
    pub code: Option<String>,
    /// Who says that it answers (RFC 9207).
    pub issuer: Option<String>,
}

/// Somebody who is back and may enter.
#[derive(Clone, PartialEq, Eq)]
pub struct LaunchArrived {
    /// What the page sends when they go on.
    pub ticket: String,
    /// The account.
    pub account: AccountName,
    /// The EHR connection.
    pub connection: ConnectionId,
    /// Where it leads.
    pub place: LaunchPlace,
}

// All three hold secrets of one browser.
impl fmt::Debug for LaunchBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LaunchBegun(…)")
    }
}

impl fmt::Debug for LaunchReturn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LaunchReturn(…)")
    }
}

impl fmt::Debug for LaunchArrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaunchArrived({})", self.account)
    }
}

/// Where a launch leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "place", rename_all = "snake_case")]
pub enum LaunchPlace {
    /// The inbox: no patient is open, or this person's roles see none.
    Inbox,
    /// Nothing of the patient who is open is known here.
    NothingHere,
    /// The queue of the patient.
    Patient {
        /// Who.
        patient: PatientToken,
    },
    /// The review page of a write-back about the patient.
    Review {
        /// Who.
        patient: PatientToken,
        /// Which.
        writeback: WritebackId,
    },
}

impl LaunchPlace {
    fn patient(self) -> Option<PatientToken> {
        match self {
            LaunchPlace::Inbox | LaunchPlace::NothingHere => None,
            LaunchPlace::Patient { patient } | LaunchPlace::Review { patient, .. } => Some(patient),
        }
    }

    fn writeback(self) -> Option<WritebackId> {
        match self {
            LaunchPlace::Review { writeback, .. } => Some(writeback),
            _ => None,
        }
    }
}

/// Why a launch did not go on.
#[derive(Debug, thiserror::Error)]
pub enum LaunchFailed {
    /// It is refused; recorded.
    #[error("the launch is refused: {}", .0.as_str())]
    Refused(LaunchRefusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    /// Another part of Chaperone failed.
    #[error("the launch could not be finished: {0}")]
    Internal(String),
}

impl From<LaunchRefusal> for LaunchFailed {
    fn from(refusal: LaunchRefusal) -> Self {
        LaunchFailed::Refused(refusal)
    }
}

/// Somebody whose identity is proven, until they go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Proven {
    account: AccountName,
    place: LaunchPlace,
}

/// A refusal with the account that it concerns, once that is known.
struct Declined {
    failed: LaunchFailed,
    account: Option<AccountName>,
}

impl<F: Into<LaunchFailed>> From<F> for Declined {
    fn from(failed: F) -> Self {
        Declined {
            failed: failed.into(),
            account: None,
        }
    }
}

impl Engine {
    /// Begins a launch: `iss` and `launch` are the EHR's.
    ///
    /// # Errors
    /// [`LaunchFailed`]; refusals are recorded, so many a minute one by one.
    pub async fn launch_begin(
        &self,
        issuer: &str,
        launch: &str,
    ) -> Result<LaunchBegun, LaunchFailed> {
        match self.try_begin(issuer, launch).await {
            Ok(begun) => Ok(begun),
            Err(declined) => Err(self.record_declined_launch(declined).await),
        }
    }

    /// Takes somebody back from the authorization server. Whatever comes of it, this launch is used up.
    ///
    /// # Errors
    /// As [`Engine::launch_begin`].
    pub async fn launch_returned(
        &self,
        back: &LaunchReturn,
    ) -> Result<LaunchArrived, LaunchFailed> {
        match self.try_return(back).await {
            Ok(arrived) => Ok(arrived),
            Err(declined) => Err(self.record_declined_launch(declined).await),
        }
    }

    /// Opens the session that somebody was told of. A session that this browser has had so far ends.
    ///
    /// # Errors
    /// As [`Engine::launch_begin`].
    pub async fn launch_enter(
        &self,
        browser: &str,
        ticket: &str,
        session_so_far: Option<&str>,
    ) -> Result<(NewSession, LaunchPlace), LaunchFailed> {
        let entered = match self.try_go_in(browser, ticket).await {
            Ok(entered) => entered,
            Err(declined) => return Err(self.record_declined_launch(declined).await),
        };
        if let Some(token) = session_so_far
            && let Err(failed) = self.sign_out(token).await
        {
            tracing::error!(error = %failed, "the session before a launch could not be ended");
        }
        Ok(entered)
    }

    async fn try_begin(&self, issuer: &str, launch: &str) -> Result<LaunchBegun, Declined> {
        let launches = self.launches()?;
        let is_plain = |text: &str, bytes_max: usize| {
            !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
        };
        if !is_plain(issuer, ISSUER_BYTES_MAX) || !is_plain(launch, LAUNCH_BYTES_MAX) {
            return Err(LaunchRefusal::Malformed.into());
        }
        if !launches.server.is_issuer(issuer) {
            return Err(LaunchRefusal::OtherIssuer.into());
        }
        let browser = hex::encode(self.random.key());
        let state = hex::encode(self.random.id());
        let challenge = Digest::of_bytes(self.verifier(&browser, &state).as_bytes());
        let asked = AuthorizationAsked {
            launch: launch.to_owned(),
            redirect_uri: self.return_address(),
            nonce: self.nonce(&browser, &state),
            challenge: URL_SAFE_NO_PAD.encode(challenge.as_bytes()),
            state: state.clone(),
        };
        let to = launches
            .server
            .authorization_url(&asked)
            .await
            .map_err(LaunchRefusal::from)?;
        let record = Record::new(
            LAUNCHES,
            self.launch_key(b"asked", &browser, &state),
            serde_json::json!(true),
        );
        let mut commit = self.commit_as(Actor::Anonymous);
        commit.records.push(RecordChange::Create(
            record.expiring(after(self.now(), LAUNCH_SECONDS)),
        ));
        self.store.commit(commit).await?;
        Ok(LaunchBegun { browser, to })
    }

    async fn try_return(&self, back: &LaunchReturn) -> Result<LaunchArrived, Declined> {
        let launches = self.launches()?;
        // Before anything is asked anywhere: of two who come with the same state, one goes on.
        self.use_up(b"asked", &back.browser, &back.state).await?;
        let Some(code) = back.code.as_ref() else {
            return Err(LaunchRefusal::Declined.into());
        };
        let is_short = back
            .issuer
            .as_ref()
            .is_none_or(|issuer| issuer.len() <= ISSUER_BYTES_MAX);
        if code.is_empty() || code.len() > CODE_BYTES_MAX || !is_short {
            return Err(LaunchRefusal::Malformed.into());
        }
        let given = CodeGiven {
            code: code.clone(),
            issuer: back.issuer.clone(),
            redirect_uri: self.return_address(),
            verifier: self.verifier(&back.browser, &back.state),
            nonce: self.nonce(&back.browser, &back.state),
        };
        let context = launches.server.redeem(&given).await.map_err(|failed| {
            tracing::warn!(error = %failed, "a launch was not taken");
            LaunchRefusal::from(failed)
        })?;
        let name = self
            .linked_account(launches, &context.user)
            .ok_or(LaunchRefusal::NotLinked)?;
        let about = |failed: LaunchFailed| Declined {
            failed,
            account: Some(name.clone()),
        };
        let human = self.may_launch(name).await.map_err(about)?;
        let place = self.launch_place(&human, &context).await.map_err(about)?;
        let ticket = hex::encode(self.random.key());
        let proven = Proven {
            account: name.clone(),
            place,
        };
        let key = self.launch_key(b"proven", &back.browser, &ticket);
        let record = Record::new(LAUNCHES, key, value_of(&proven)?);
        let mut commit = self.commit_as(Actor::Anonymous);
        commit.records.push(RecordChange::Create(
            record.expiring(after(self.now(), ENTER_SECONDS)),
        ));
        self.store.commit(commit).await?;
        Ok(LaunchArrived {
            ticket,
            account: proven.account,
            connection: self.ehr.connection().clone(),
            place,
        })
    }

    async fn try_go_in(
        &self,
        browser: &str,
        ticket: &str,
    ) -> Result<(NewSession, LaunchPlace), Declined> {
        self.launches()?;
        let key = RecordKey::new(LAUNCHES, self.launch_key(b"proven", browser, ticket));
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?
            .ok_or(LaunchRefusal::NotBegun)?;
        let proven: Proven = parse(record.value)?;
        let about = |failed: LaunchFailed| Declined {
            failed,
            account: Some(proven.account.clone()),
        };
        // It may have been disabled, or given other roles, since.
        let human = self.may_launch(&proven.account).await.map_err(about)?;
        let mut commit = self.commit_as((&human).into());
        commit.records.push(RecordChange::Consume(key));
        commit.append(
            StreamId::Account(human.account.clone()),
            Expected::Any,
            Event::Launch(LaunchEvent::Entered {
                connection: self.ehr.connection().clone(),
                patient: proven.place.patient(),
                writeback: proven.place.writeback(),
            }),
        );
        let session = self
            .open_session(human, commit)
            .await
            .map_err(|refused| match refused {
                SignInRefused::Again => LaunchRefusal::NotBegun.into(),
                SignInRefused::Store(failed) => failed.into(),
                SignInRefused::Commit(failed) => failed.into(),
                other => LaunchFailed::Internal(other.to_string()),
            })?;
        Ok((session, proven.place))
    }

    pub(crate) fn launches(&self) -> Result<&Launches, LaunchRefusal> {
        self.config
            .launches
            .as_ref()
            .ok_or(LaunchRefusal::NotOffered)
    }

    /// The account behind a user of the EHR, by the link that the configuration has.
    pub(crate) fn linked_account<'l>(
        &self,
        launches: &'l Launches,
        user: &str,
    ) -> Option<&'l AccountName> {
        let id = self.own(user, "Practitioner")?;
        launches.users.get(&format!("Practitioner/{id}"))
    }

    /// Who holds an account, if they may come this way.
    async fn may_launch(&self, name: &AccountName) -> Result<Human, LaunchFailed> {
        let account = self.stored_account(name).await?;
        let account = account.ok_or(LaunchRefusal::AccountUnusable)?.0;
        if !is_in_use(&account) {
            return Err(LaunchRefusal::AccountUnusable.into());
        }
        let human = account.human();
        if human.holds(Role::ItAdmin) {
            return Err(LaunchRefusal::Administrator.into());
        }
        Ok(human)
    }

    /// Where a launch leads this person. Looks nobody up for those whose roles see no patients.
    async fn launch_place(
        &self,
        human: &Human,
        context: &LaunchContext,
    ) -> Result<LaunchPlace, LaunchFailed> {
        let Some(patient) = &context.patient else {
            return Ok(LaunchPlace::Inbox);
        };
        if !sees_patients(human) {
            return Ok(LaunchPlace::Inbox);
        }
        let named = PatientRef::LogicalId(patient.expose(ExposedFor::Comparison).clone());
        let survivor = match self.surviving_patient(&named).await {
            Ok(survivor) => survivor,
            Err(GrantFailed::PatientNotFound) => return Err(LaunchRefusal::PatientUnclear.into()),
            Err(GrantFailed::Ehr(failed)) => {
                tracing::warn!(error = %failed, "the patient of a launch could not be read");
                return Err(LaunchRefusal::NotAvailable.into());
            }
            Err(GrantFailed::Store(failed)) => return Err(failed.into()),
            Err(other) => return Err(LaunchFailed::Internal(other.to_string())),
        };
        // No token is made for somebody about whom no agent was ever asked.
        let known = self
            .known_patient_token(&survivor)
            .await
            .map_err(|failed| LaunchFailed::Internal(failed.to_string()))?;
        let Some(patient) = known else {
            return Ok(LaunchPlace::NothingHere);
        };
        let named = context.app_context.as_deref();
        match named.and_then(|text| text.parse::<WritebackId>().ok()) {
            None => Ok(LaunchPlace::Patient { patient }),
            Some(writeback) => self.page_of_card(human, patient, writeback).await,
        }
    }

    /// The review page of what a card named, where it is about this patient and for this person.
    async fn page_of_card(
        &self,
        human: &Human,
        patient: PatientToken,
        writeback: WritebackId,
    ) -> Result<LaunchPlace, LaunchFailed> {
        let state = match self.take_in_hand(writeback).await {
            Ok(hand) => hand.state,
            Err(MoveFailed::Missing) => return Ok(LaunchPlace::Patient { patient }),
            Err(failed) => return Err(LaunchFailed::Internal(failed.to_string())),
        };
        if state.proposal().patient != Some(patient) {
            return Err(LaunchRefusal::OtherPatient.into());
        }
        Ok(match Part::of(&state, human) {
            Part::Content => LaunchPlace::Review { patient, writeback },
            Part::Outline | Part::None => LaunchPlace::Patient { patient },
        })
    }

    async fn use_up(&self, stage: &[u8], browser: &str, given: &str) -> Result<(), LaunchFailed> {
        let key = RecordKey::new(LAUNCHES, self.launch_key(stage, browser, given));
        let tenant = &self.config.tenant;
        // Records past their end may still be there.
        if self.store.record(tenant, &key, self.now()).await?.is_none() {
            return Err(LaunchRefusal::NotBegun.into());
        }
        let mut commit = self.commit_as(Actor::Anonymous);
        commit.records.push(RecordChange::Consume(key));
        match self.store.commit(commit).await {
            Ok(_) => Ok(()),
            Err(CommitFailed::Record { .. }) => Err(LaunchRefusal::NotBegun.into()),
            Err(failed) => Err(failed.into()),
        }
    }

    async fn record_declined_launch(&self, declined: Declined) -> LaunchFailed {
        let Declined { failed, account } = declined;
        let LaunchFailed::Refused(reason) = failed else {
            return failed;
        };
        // Where no launches are taken there is nothing to tell of: the address is nobody's.
        let is_told = reason != LaunchRefusal::NotOffered
            && self
                .refusals
                .admits(reason.as_str(), Named::Nobody, self.now());
        if !is_told {
            return failed;
        }
        let mut commit = self.commit_as(Actor::Anonymous);
        commit.append(
            StreamId::Refusals,
            Expected::Any,
            Event::Launch(LaunchEvent::Refused { reason, account }),
        );
        match self.store.commit(commit).await {
            Ok(_) => failed,
            Err(unrecorded) => unrecorded.into(),
        }
    }

    fn return_address(&self) -> String {
        format!("{}{RETURN_PATH}", self.config.audience)
    }

    /// RFC 7636 asks for 43 to 128 characters of which these are some.
    fn verifier(&self, browser: &str, state: &str) -> String {
        self.of_browser(b"launch-verifier", browser, state)
            .to_string()
    }

    fn nonce(&self, browser: &str, state: &str) -> String {
        self.of_browser(b"launch-nonce", browser, state).to_string()
    }

    fn launch_key(&self, stage: &[u8], browser: &str, given: &str) -> Digest {
        self.tenant_digest(&[b"launch", stage, browser.as_bytes(), given.as_bytes()])
    }

    fn of_browser(&self, what: &[u8], browser: &str, state: &str) -> Digest {
        self.tenant_digest(&[what, browser.as_bytes(), state.as_bytes()])
    }
}

/// Whether an account was set up by its holder, second factor included, and is not disabled.
fn is_in_use(account: &StoredAccount) -> bool {
    !account.disabled
        && account.password.is_some()
        && account.second_factor() == SecondFactor::Enrolled
}
