//! Collects findings during a walk, and orders them.
//!
//! A walk finds things in its own order and may find one twice, by two profiles; what is given out stands
//! in the order of the text, each thing once.
//! Start at [`Report::add`] and [`Report::finish`].

use crate::finding::{Details, Finding, Position, RestsOn, Severity, id};
use crate::json::{Document, Locator, Paths, Value};
use crate::validate::next_expression;

/// Most findings that are kept beyond the limit of the caller, so that the order decides which are shown.
const KEPT_FACTOR: usize = 4;

/// Findings on their way.
pub(crate) struct Report<'d> {
    found: Vec<Found<'d>>,
    findings_max: usize,
    errors: usize,
    dropped: bool,
}

struct Found<'d> {
    at: Value<'d>,
    finding: Finding,
}

/// A finding before it has a place.
pub(crate) struct Draft {
    pub(crate) id: &'static str,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) profile: Option<String>,
    pub(crate) constraint: Option<String>,
    pub(crate) is_best_practice: bool,
}

impl Draft {
    pub(crate) fn new(id: &'static str, severity: Severity, message: String) -> Self {
        Self {
            id,
            severity,
            message,
            profile: None,
            constraint: None,
            is_best_practice: false,
        }
    }

    pub(crate) fn error(id: &'static str, message: String) -> Self {
        Self::new(id, Severity::Error, message)
    }

    pub(crate) fn of_profile(mut self, url: &str) -> Self {
        self.profile = Some(url.to_owned());
        self
    }

    pub(crate) fn of_constraint(mut self, key: &str) -> Self {
        self.constraint = Some(key.to_owned());
        self
    }

    /// Says that what was not kept is good practice rather than a rule.
    pub(crate) fn of_best_practice(mut self, is_best_practice: bool) -> Self {
        self.is_best_practice = is_best_practice;
        self
    }
}

/// How far a report had come; see [`Report::errors_since`].
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    found: usize,
    errors: usize,
    dropped: bool,
}

impl<'d> Report<'d> {
    pub(crate) fn new(findings_max: usize) -> Self {
        Self {
            found: Vec::new(),
            findings_max,
            errors: 0,
            dropped: false,
        }
    }

    pub(crate) fn add(&mut self, at: Value<'d>, draft: Draft) {
        self.errors += usize::from(draft.severity.is_error());
        if self.found.len() >= self.findings_max.saturating_mul(KEPT_FACTOR) {
            self.dropped = true;
            return;
        }
        let details = (draft.profile.is_some() || draft.constraint.is_some()).then(|| {
            Box::new(Details {
                profile: draft.profile,
                constraint: draft.constraint,
                is_best_practice: draft.is_best_practice,
            })
        });
        self.found.push(Found {
            at,
            finding: Finding {
                id: draft.id,
                severity: draft.severity,
                expression: String::new(),
                position: None,
                message: draft.message,
                rests_on: RestsOn::InputOnly,
                details,
            },
        });
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            found: self.found.len(),
            errors: self.errors,
            dropped: self.dropped,
        }
    }

    /// Whether errors came after the mark.
    pub(crate) fn has_errors_since(&self, mark: Mark) -> bool {
        self.errors > mark.errors
    }

    /// Lowers the severity of everything after the mark to at most `most`.
    pub(crate) fn soften_since(&mut self, mark: Mark, most: Severity) {
        for it in self.found.iter_mut().skip(mark.found) {
            it.finding.severity = it.finding.severity.min(most);
        }
        if !most.is_error() {
            self.errors = mark.errors;
        }
    }

    /// Lowers the severity of findings of one id after the mark to at most `most`.
    pub(crate) fn soften_findings_since(
        &mut self,
        mark: Mark,
        finding_id: &'static str,
        most: Severity,
    ) {
        for it in self.found.iter_mut().skip(mark.found) {
            if it.finding.id == finding_id && it.finding.severity > most {
                self.errors -= usize::from(it.finding.severity.is_error() && !most.is_error());
                it.finding.severity = most;
            }
        }
    }

    /// Forgets everything after the mark.
    pub(crate) fn forget_since(&mut self, mark: Mark) {
        self.found.truncate(mark.found);
        self.errors = mark.errors;
        self.dropped = mark.dropped;
    }

    /// The findings in the order of the text (then by id, key and message), each once, with those that
    /// were found `before`.
    pub(crate) fn finish(self, document: &Document<'_>, before: Vec<Finding>) -> Vec<Finding> {
        let mut findings = before;
        let mut found = self.found;
        found.sort_by(|a, b| a.order().cmp(&b.order()));
        // The same thing found by two profiles differs only in who demands it.
        found.dedup_by(|b, a| {
            a.at.is_same(b.at)
                && a.finding.id == b.finding.id
                && (a.finding.message == b.finding.message
                    || a.key().is_some() && a.key() == b.key())
        });
        let count = found.len();
        keep_gravest(&mut found, self.findings_max, |it| it.finding.severity);
        let dropped = self.dropped || found.len() < count;
        let mut locator = Locator::new(document);
        let mut paths = Paths::new(document);
        for mut it in found {
            let (line, column) = locator.locate(it.at.offset());
            it.finding.position = Some(Position { line, column });
            it.finding.expression = next_expression(document, &mut paths, it.at);
            findings.push(it.finding);
        }
        let key = |it: &Finding| it.details.as_ref().and_then(|it| it.constraint.clone());
        findings.sort_by(|a, b| {
            let place = |it: &Finding| (it.position, it.id);
            place(a)
                .cmp(&place(b))
                .then_with(|| key(a).cmp(&key(b)))
                .then_with(|| a.message.cmp(&b.message))
        });
        findings
            .dedup_by(|b, a| a.id == b.id && a.position == b.position && a.message == b.message);
        limit(findings, self.findings_max, dropped)
    }
}

impl Found<'_> {
    fn key(&self) -> Option<&str> {
        self.finding.details.as_ref()?.constraint.as_deref()
    }

    fn order(&self) -> (usize, &'static str, Option<&str>, &str) {
        (
            self.at.offset(),
            self.finding.id,
            self.key(),
            &self.finding.message,
        )
    }
}

/// Drops the lightest, last ones first, until no more than `most` are left.
fn keep_gravest<T>(list: &mut Vec<T>, most: usize, severity: impl Fn(&T) -> Severity) {
    for least in [Severity::Warning, Severity::Error] {
        let mut excess = list.len().saturating_sub(most);
        if excess == 0 {
            return;
        }
        list.reverse();
        list.retain(|it| {
            let goes = excess > 0 && severity(it) < least;
            excess -= usize::from(goes);
            !goes
        });
        list.reverse();
    }
    list.truncate(most);
}

/// Keeps as many findings as are allowed, errors first.
fn limit(mut findings: Vec<Finding>, findings_max: usize, dropped: bool) -> Vec<Finding> {
    if findings.len() <= findings_max && !dropped {
        return findings;
    }
    keep_gravest(&mut findings, findings_max, |it| it.severity);
    let has_errors = findings.iter().any(|it| it.severity.is_error());
    let severity = if has_errors {
        Severity::Error
    } else {
        Severity::Information
    };
    findings.push(Finding::new(
        id::FINDINGS_LIMIT,
        severity,
        String::new(),
        "there are more findings than are reported; mend these and check again".to_owned(),
    ));
    findings
}
