//! A refused request and the OperationOutcome that says why.
//!
//! Texts name parameters, headers, types and positions, never values of a record. Start at
//! [`Refusal`].

use axum::http::StatusCode;
use serde_json::{Value, json};

/// Why a request was not carried out: the HTTP status, the R4 issue type and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// A code of <http://hl7.org/fhir/issue-type>.
    pub(crate) issue: &'static str,
    pub(crate) diagnostics: String,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        issue: &'static str,
        diagnostics: impl Into<String>,
    ) -> Self {
        Self {
            status,
            issue,
            diagnostics: diagnostics.into(),
        }
    }

    /// 400: the request or its body cannot be understood.
    pub(crate) fn invalid(diagnostics: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", diagnostics)
    }

    /// 400: the request asks for something the sandbox does not offer.
    pub(crate) fn unsupported_parameter(diagnostics: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "not-supported", diagnostics)
    }

    /// 404: no such resource.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "no resource with this type and id",
        )
    }

    /// 404: no such resource type here.
    pub(crate) fn unknown_type() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-supported",
            "this server does not hold this resource type; see its CapabilityStatement",
        )
    }

    /// 405: the interaction is not offered.
    pub(crate) fn not_offered(what: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "not-supported",
            format!("this server does not offer {what}; see its CapabilityStatement"),
        )
    }

    /// 410: the resource was deleted.
    pub(crate) fn gone() -> Self {
        Self::new(StatusCode::GONE, "deleted", "this resource was deleted")
    }

    /// 412: a condition of the request does not hold.
    pub(crate) fn precondition(issue: &'static str, diagnostics: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, issue, diagnostics)
    }

    /// The same refusal with the place in the bundle in front of its text.
    pub(crate) fn in_entry(mut self, position: usize) -> Self {
        self.diagnostics = format!("Bundle.entry[{position}]: {}", self.diagnostics);
        self
    }

    /// The OperationOutcome that carries this refusal.
    pub(crate) fn outcome(&self) -> Value {
        json!({
            "resourceType": "OperationOutcome",
            "issue": [{
                "severity": "error",
                "code": self.issue,
                "diagnostics": self.diagnostics,
            }],
        })
    }
}
