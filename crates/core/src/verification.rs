//! Evidence that a verification step was really taken: what the gate `auto_verified` rests on beside what was
//! observed when the change was ruled on.
//!
//! A piece of evidence is about one fact, one patient and one order digest, and holds for a while. An agent can
//! make none: it comes from a portal that the bundle trusts for the fact and that signed it, or from a code that
//! Chaperone sent and got back. Evidence for other
//! content, another patient, or of another time counts as none, so the write-back stays held. Where it is made:
//! `engine::verification`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::digest::Digest;
use crate::ids::{EhrEventSource, PatientToken, ResourceToken};

/// By what step a portal verified something with whoever was before it.
///
/// # Source
/// NIST SP 800-63B, sections 2 and 7: a session, a fresh second factor within it, and a code sent out of band
/// show different things; `rules/verification.toml` says which of them shows which fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerificationMethod {
    /// In an authenticated session of their own.
    Session,
    /// In such a session, with a second factor given for this content.
    StepUp,
    /// A code that was sent to them came back.
    Code,
    /// A form was signed electronically.
    Signature,
    /// A register knew it, such as one of postal addresses.
    Lookup,
}

impl VerificationMethod {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            VerificationMethod::Session => "session",
            VerificationMethod::StepUp => "step-up",
            VerificationMethod::Code => "code",
            VerificationMethod::Signature => "signature",
            VerificationMethod::Lookup => "lookup",
        }
    }
}

/// How a fact came to be verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum VerifiedBy {
    /// A source that the bundle trusts for this fact signed it.
    Source {
        /// The source.
        source: EhrEventSource,
        /// By what step; absent in records of versions that did not ask.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        method: Option<VerificationMethod>,
        /// Who acted in the patient's place, where somebody did: the `RelatedPerson` whose authority the EHR
        /// showed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        proxy: Option<ResourceToken>,
    },
    /// Chaperone saw it itself: a code that it made and sent to the address of this order came back by the portal in
    /// which whoever asked for it is signed in.
    Code {
        /// The portal.
        portal: EhrEventSource,
        /// Who acted in the patient's place, where somebody did.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        proxy: Option<ResourceToken>,
    },
}

/// One piece of evidence, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerificationRecord {
    /// The fact.
    pub fact: String,
    /// How it came to be verified.
    pub verified: VerifiedBy,
    /// Whose record it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patient: Option<PatientToken>,
    /// The order that it is about, and no other.
    pub digest: Digest,
    /// When it was verified.
    pub at: Timestamp,
    /// From when on it no longer counts.
    pub until: Timestamp,
}

impl VerificationRecord {
    /// Whether it is about this order of this patient, now.
    pub fn is_about(&self, digest: &Digest, patient: Option<PatientToken>, now: Timestamp) -> bool {
        self.digest == *digest && self.patient == patient && self.at <= now && now < self.until
    }
}

/// Proof that a verification step was taken.
#[derive(Clone)]
pub struct Verification(VerificationRecord);

impl Verification {
    /// Establishes what was verified. Called by `engine::verification` alone.
    pub fn establish(record: VerificationRecord) -> Self {
        Self(record)
    }

    /// What was verified.
    pub fn record(&self) -> &VerificationRecord {
        &self.0
    }
}

impl fmt::Debug for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verification({})", self.0.fact)
    }
}
