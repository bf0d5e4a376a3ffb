//! Coming to the console from inside the EHR: what an authorization server is asked, what it says, and what is
//! recorded. Serialised where it is part of an event: a promise (see [`crate::event`]).
//!
//! Not here: how the server is spoken to (the port [`crate::ports::LaunchServer`]), and what follows from a launch,
//! which is the engine's. A launch says who somebody is and which patient is open in the EHR; it decides nothing.
//!
//! # Source
//! SMART App Launch 2.2, "EHR Launch" and "OpenID Connect"; HL7 CDS Hooks 2.0, `appContext`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountName, ConnectionId, PatientToken, WritebackId};
use crate::phi::Phi;

/// Why a launch came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchRefusal {
    /// This installation offers no launches.
    NotOffered,
    /// The request is not of the form that a launch has.
    Malformed,
    /// It names another EHR than the one that is connected.
    OtherIssuer,
    /// This browser began no such launch, or it was used, or it is too old.
    NotBegun,
    /// The EHR did not let the person through.
    Declined,
    /// The EHR's authorization server does not answer as it should.
    NotAvailable,
    /// It did not take the code.
    CodeRefused,
    /// What it says about the person is not signed by it, or not meant for this launch.
    IdentityUnproven,
    /// No account is linked to this user of the EHR.
    NotLinked,
    /// The account cannot be used: it is disabled, or was never set up.
    AccountUnusable,
    /// The account administers; who holds it signs in with a second factor.
    Administrator,
    /// The EHR does not say clearly which patient is meant.
    PatientUnclear,
    /// What was to be opened is about another patient than the one who is open in the EHR.
    OtherPatient,
}

impl LaunchRefusal {
    /// The stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            LaunchRefusal::NotOffered => "launch-not-offered",
            LaunchRefusal::Malformed => "launch-malformed",
            LaunchRefusal::OtherIssuer => "launch-other-issuer",
            LaunchRefusal::NotBegun => "launch-not-begun",
            LaunchRefusal::Declined => "launch-declined",
            LaunchRefusal::NotAvailable => "launch-not-available",
            LaunchRefusal::CodeRefused => "launch-code-refused",
            LaunchRefusal::IdentityUnproven => "launch-identity-unproven",
            LaunchRefusal::NotLinked => "launch-not-linked",
            LaunchRefusal::AccountUnusable => "launch-account-unusable",
            LaunchRefusal::Administrator => "launch-administrator",
            LaunchRefusal::PatientUnclear => "launch-patient-unclear",
            LaunchRefusal::OtherPatient => "launch-other-patient",
        }
    }
}

/// What somebody is sent to the authorization server with.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorizationAsked {
    /// What the EHR called this launch.
    pub launch: String,
    /// Where it is to send the person back to.
    pub redirect_uri: String,
    /// What it is to give back unchanged.
    pub state: String,
    /// What the identity it states must repeat.
    pub nonce: String,
    /// The SHA-256 of the verifier, in base 64 for addresses (RFC 7636, S256).
    pub challenge: String,
}

/// A code to be exchanged.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeGiven {
    /// The code.
    pub code: String,
    /// Who says that it issued it (RFC 9207), where it says so.
    pub issuer: Option<String>,
    /// As asked.
    pub redirect_uri: String,
    /// What the challenge was made of.
    pub verifier: String,
    /// What the identity must repeat.
    pub nonce: String,
}

// Codes and verifiers are secrets for as long as they count.
impl fmt::Debug for AuthorizationAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorizationAsked(…)")
    }
}

impl fmt::Debug for CodeGiven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeGiven(…)")
    }
}

/// What the authorization server says about a launch, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchContext {
    /// Who the person is at the EHR: the `fhirUser` of a verified `id_token`.
    pub user: String,
    /// The logical id of the patient who is open there.
    pub patient: Option<Phi<String>>,
    /// What a card of ours gave along (`appContext`).
    pub app_context: Option<String>,
}

/// Why there is no [`LaunchContext`], or no address to send somebody to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LaunchServerFailed {
    /// It does not answer, or offers not what a launch needs.
    #[error(
        "the EHR's authorization server does not offer what a launch needs, or does not answer"
    )]
    NotAvailable,
    /// It did not take the code, or us.
    #[error("the EHR's authorization server did not take the code")]
    CodeRefused,
    /// Another server answers than the one that was asked.
    #[error("another authorization server answered than the one that was asked")]
    OtherIssuer,
    /// The identity is not signed by it, or not meant for this launch.
    #[error("the identity is not proven: {0}")]
    Identity(&'static str),
}

impl From<LaunchServerFailed> for LaunchRefusal {
    fn from(failed: LaunchServerFailed) -> Self {
        match failed {
            LaunchServerFailed::NotAvailable => LaunchRefusal::NotAvailable,
            LaunchServerFailed::CodeRefused => LaunchRefusal::CodeRefused,
            LaunchServerFailed::OtherIssuer => LaunchRefusal::OtherIssuer,
            LaunchServerFailed::Identity(_) => LaunchRefusal::IdentityUnproven,
        }
    }
}

/// What is recorded of launches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum LaunchEvent {
    /// Somebody came to the console from inside the EHR. Stands on their account's stream.
    Entered {
        /// The EHR connection.
        connection: ConnectionId,
        /// The patient who was open there, where one is known here.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        patient: Option<PatientToken>,
        /// The write-back that was named.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        writeback: Option<WritebackId>,
    },
    /// A launch came to nothing.
    Refused {
        /// Why.
        reason: LaunchRefusal,
        /// Whose account it was, once that was proven.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        account: Option<AccountName>,
    },
}
