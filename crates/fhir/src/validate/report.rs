//! Where findings are gathered by checks that know the path of what they report.
//!
//! Start at [`Report::error`].

use crate::finding::{Details, Finding, Position, RestsOn, Severity};
use crate::json::{Document, Locator, Value};

/// Findings so far, up to a limit.
pub(crate) struct Report<'d> {
    locator: Locator<'d>,
    findings: Vec<Finding>,
    findings_max: usize,
}

impl<'d> Report<'d> {
    pub(crate) fn new(document: &'d Document<'_>, findings_max: usize) -> Self {
        Self {
            locator: Locator::new(document),
            findings: Vec::new(),
            findings_max,
        }
    }

    /// Whether no more findings are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.findings.len() >= self.findings_max
    }

    /// Adds a finding of any severity; `constraint` is the key of the invariant that demands it.
    pub(crate) fn add(
        &mut self,
        finding_id: &'static str,
        severity: Severity,
        at: Value<'_>,
        expression: String,
        message: String,
        constraint: Option<&str>,
    ) {
        if self.is_full() {
            return;
        }
        let (line, column) = self.locator.locate(at.offset());
        self.findings.push(Finding {
            id: finding_id,
            severity,
            expression,
            position: Some(Position { line, column }),
            message,
            rests_on: RestsOn::InputOnly,
            details: constraint.map(|key| {
                Box::new(Details {
                    constraint: Some(key.to_owned()),
                    ..Details::default()
                })
            }),
        });
    }

    pub(crate) fn error(
        &mut self,
        finding_id: &'static str,
        at: Value<'_>,
        expression: String,
        message: String,
    ) {
        self.add(finding_id, Severity::Error, at, expression, message, None);
    }

    pub(crate) fn warning(
        &mut self,
        finding_id: &'static str,
        at: Value<'_>,
        expression: String,
        message: String,
    ) {
        self.add(finding_id, Severity::Warning, at, expression, message, None);
    }

    /// How many findings there are.
    pub(crate) fn count(&self) -> usize {
        self.findings.len()
    }

    /// The findings from a count on.
    pub(crate) fn since(&mut self, count: usize) -> &mut [Finding] {
        self.findings.get_mut(count..).unwrap_or_default()
    }

    pub(crate) fn finish(self) -> Vec<Finding> {
        self.findings
    }
}
