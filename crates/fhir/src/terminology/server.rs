//! The port to a terminology server.
//!
//! This crate has no implementation: whoever has a server brings one.
//! Start at [`TerminologyServer`].

/// Answers where nothing loaded can decide.
///
/// Contract: `validate_code` may be called from several threads and many times with the same question;
/// it returns within the caller's patience, and whatever goes wrong (no connection, a time limit, an
/// answer that is not understood) is [`ServerVerdict::Unknown`], never a guess. The question holds
/// codes only: no text of a patient is ever sent.
///
/// # Source
/// FHIR R4, ValueSet operation `$validate-code`,
/// <https://hl7.org/fhir/R4/valueset-operation-validate-code.html>.
pub trait TerminologyServer: Send + Sync + std::fmt::Debug {
    /// Whether the code is in the value set, or in its system if no value set is named.
    fn validate_code(&self, question: &ServerQuestion<'_>) -> ServerVerdict;
}

/// What a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerQuestion<'a> {
    /// Canonical URL of the value set, with version if one was named.
    pub value_set: Option<&'a str>,
    /// The code system; without it, the code may be from any system of the value set.
    pub system: Option<&'a str>,
    /// The version of the system that the coding states.
    pub version: Option<&'a str>,
    /// The code.
    pub code: &'a str,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerVerdict {
    /// The code is in it.
    Valid {
        /// What to show for it.
        display: Option<String>,
    },
    /// The code is not in it.
    Invalid,
    /// The server cannot say, or could not be asked.
    Unknown,
}
