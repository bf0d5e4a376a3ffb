//! Bundles: what each type of Bundle demands of its entries, and references within it.
//!
//! The structure of the Bundle and its resources is the business of [`crate::validate`]. What other systems
//! hold is not looked at: a reference that leads out of the Bundle is judged only where the standard demands
//! that its target be inside.
//! Start at [`check`]; [`Index`] resolves references within a Bundle.
//!
//! Rules: <https://hl7.org/fhir/R4/bundle.html>, <https://hl7.org/fhir/R4/documents.html>,
//! <https://hl7.org/fhir/R4/messaging.html>, <https://hl7.org/fhir/R4/http.html#transaction>.

mod document;
mod entries;
mod index;
mod request;

pub use index::{Entry, Index, Resolution};

use crate::definitions::Definitions;
use crate::finding::{Finding, Severity, id};
use crate::json::{Document, Value};
use crate::validate::{Report, each_resource};

/// Invariants of Bundle that are checked here and need not be evaluated again.
pub const INVARIANTS: [&str; 11] = [
    "bdl-1", "bdl-2", "bdl-3", "bdl-4", "bdl-5", "bdl-7", "bdl-8", "bdl-9", "bdl-10", "bdl-11",
    "bdl-12",
];

/// The types of Bundle.
///
/// # Source
/// FHIR R4 value set bundle-type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the codes of the value set")]
pub enum BundleType {
    Document,
    Message,
    Transaction,
    TransactionResponse,
    Batch,
    BatchResponse,
    History,
    Searchset,
    Collection,
}

impl BundleType {
    /// The type of that code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "document" => Self::Document,
            "message" => Self::Message,
            "transaction" => Self::Transaction,
            "transaction-response" => Self::TransactionResponse,
            "batch" => Self::Batch,
            "batch-response" => Self::BatchResponse,
            "history" => Self::History,
            "searchset" => Self::Searchset,
            "collection" => Self::Collection,
            _ => return None,
        })
    }

    fn is_request(self) -> bool {
        matches!(self, Self::Transaction | Self::Batch)
    }

    fn is_response(self) -> bool {
        matches!(self, Self::TransactionResponse | Self::BatchResponse)
    }
}

/// Checks the document's root if it is a Bundle, and every Bundle within it.
///
/// Entries that are no objects and the like are passed over: the structural check has reported them.
#[must_use]
pub fn check(
    definitions: &Definitions,
    document: &Document<'_>,
    findings_max: usize,
) -> Vec<Finding> {
    let mut report = Report::new(document, findings_max);
    each_resource(document, &["Bundle"], &mut |bundle, expression| {
        one(definitions, bundle, expression, &mut report);
    });
    report.finish()
}

/// Checks one Bundle.
fn one<'d>(
    definitions: &Definitions,
    bundle: Value<'d>,
    expression: &str,
    report: &mut Report<'_>,
) {
    let Some(bundle_type) = bundle
        .get("type")
        .and_then(Value::as_str)
        .and_then(BundleType::from_code)
    else {
        return;
    };
    let index = Index::new(bundle);
    let mut check = Check {
        definitions,
        bundle,
        bundle_type,
        index: &index,
        expression,
        report,
    };
    check.entries();
    check.requests();
    check.document_or_message();
    check.references();
}

/// The check of one Bundle.
struct Check<'c, 'd, 'r> {
    definitions: &'c Definitions,
    bundle: Value<'d>,
    bundle_type: BundleType,
    index: &'c Index<'d>,
    expression: &'c str,
    report: &'c mut Report<'r>,
}

impl<'d> Check<'_, 'd, '_> {
    /// The path of something in the Bundle.
    fn at(&self, below: &str) -> String {
        format!("{}.{below}", self.expression)
    }

    /// The path of something in an entry.
    fn at_entry(&self, entry: &Entry<'d>, below: &str) -> String {
        format!("{}.entry[{}]{below}", self.expression, entry.position)
    }

    /// Reports the breach of an invariant.
    fn breach(&mut self, key: &str, at: Value<'_>, expression: String, message: &str) {
        self.report.add(
            id::BUNDLE_INVARIANT,
            Severity::Error,
            at,
            expression,
            message.to_owned(),
            Some(key),
        );
    }
}

#[cfg(test)]
mod tests;
