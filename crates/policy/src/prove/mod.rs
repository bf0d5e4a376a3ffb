//! Proofs: whether what a bundle says must always hold does hold, for every request there can be.
//!
//! Cases sample; this does not. The statements of `policies/invariants.cedar`, the bundle's own and those of
//! the default bundle that no other may break, are put to a solver as questions about all requests of a type
//! at once. An answer is a proof, or a request that breaks the statement; that is asked of the ordinary ruling
//! before it is reported. What a proof covers and what it does not stands in docs/proofs.md.
//!
//! Pure as the rest of this crate: [`Solver`] is asked with text and answers with text, and whoever calls
//! runs it.
//!
//! Reading order: `expr` and `class` (policies and classes as expressions), `space` (all requests of one
//! type), `variant` (one request in two forms), `claims` (what is asked for each kind of statement),
//! `witness` and `calls` (requests that a solver found), [`report`].

mod calls;
mod claims;
mod class;
mod expr;
mod port;
pub mod report;
mod space;
mod variant;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy_symcc::CedarSymCompiler;

use crate::bundle::Bundle;
use crate::embedded;
use crate::invariants::{self, INVARIANTS_PATH, Invariant};
use crate::problem::Problems;
use crate::prove::port::Desk;
pub use crate::prove::port::{Answer, Solver, SolverFailed};
use crate::prove::report::{Outcome, Proved, Report};
use crate::prove::space::{Rules, Space};
use crate::row::Action;

/// Why nothing can be said about a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFailed {
    /// The question could not be written.
    #[error("the question could not be written: {0}")]
    NotCompiled(String),
    /// The solver gave no answer.
    #[error("the solver gave no answer: {0}")]
    NoAnswer(String),
    /// The solver found something that cannot be read as a request.
    #[error("what the solver found cannot be read: {0}")]
    NotReadable(String),
    /// The ordinary ruling does not say what the solver says, and went on not saying it.
    #[error("the solver and the ordinary ruling disagree: {0}")]
    Disagreement(String),
}

impl ProofFailed {
    /// What the symbolic compiler refuses, in words.
    fn not_compiled(error: &cedar_policy_symcc::err::Error) -> ProofFailed {
        use cedar_policy_symcc::err::Error;
        let why = match error {
            Error::PolicyNotWellTyped { errs } => errs
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
            other => other.to_string(),
        };
        ProofFailed::NotCompiled(why)
    }
}

/// Proves every statement, or those of these ids.
///
/// # Errors
/// [`ProofFailed::NoAnswer`] when the solver itself fails. What cannot be said of a single statement is that
/// statement's outcome.
///
/// # Source
/// Policy as code, checked by machine (requirement R093); what weighs more never needs less authority (R033).
pub fn prove<S: Solver + Send>(
    bundle: &Bundle,
    only: Option<&str>,
    solver: &mut S,
) -> Result<Report, ProofFailed> {
    let compiler = CedarSymCompiler::new(Desk::new(solver))
        .map_err(|error| ProofFailed::NotCompiled(error.to_string()))?;
    let mut known = BTreeSet::new();
    for entry in bundle.sets.in_order() {
        if let Some(form) = bundle.sets.form(entry.id.as_str()) {
            variant::texts(form, &mut known);
        }
    }
    let statements: Vec<Invariant> = statements(bundle)
        .into_iter()
        .filter(|statement| only.is_none_or(|id| statement.id == id))
        .collect();
    for statement in &statements {
        variant::texts(&statement.form, &mut known);
    }
    let mut spaces = BTreeMap::new();
    let schema = space::schema()?;
    for resource in bundle.sets.types() {
        let kind = Kind {
            space: Space::of_changes(&schema, resource)?,
            rules: Rules::of(bundle, resource),
        };
        spaces.insert(resource.to_owned(), kind);
    }
    for kind in spaces.values() {
        let conditions = kind.rules.rows.iter().map(|row| &row.applies);
        conditions.for_each(|condition| variant::texts(condition, &mut known));
    }
    let mut prover = Prover {
        bundle,
        compiler,
        known,
        claims: space::claims_read(bundle),
        compiled: BTreeMap::new(),
    };
    let mut proved = Vec::new();
    for statement in &statements {
        let before = prover.compiler.solver().asked;
        let outcome = match statement.action {
            Action::Access => prover.calls(statement),
            Action::Write | Action::Escalate => prover.changes(statement, &spaces),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failed @ ProofFailed::NoAnswer(_)) => return Err(failed),
            Err(failed) => Outcome::Undecided {
                why: failed.to_string(),
            },
        };
        proved.push(Proved {
            id: statement.id.clone(),
            text: statement.text.clone(),
            claim: statement.claim_in_words(),
            questions: prover.compiler.solver().asked.saturating_sub(before),
            outcome,
        });
    }
    Ok(Report {
        bundle: bundle.manifest().name.clone(),
        version: bundle.version().to_owned(),
        digest: bundle.digest().to_string(),
        proved,
    })
}

/// The bundle's own statements, and those of the default bundle that forbid something: what the default
/// bundle forbids holds for every bundle, what it promises is its own.
fn statements(bundle: &Bundle) -> Vec<Invariant> {
    let mut unreadable = Problems::default();
    let files = embedded::files();
    let text = files.get(INVARIANTS_PATH).map_or("", String::as_str);
    let (default, _) = invariants::read(text, &mut unreadable);
    let mut statements: Vec<Invariant> = default
        .into_iter()
        .filter(|statement| !matches!(statement.claim, invariants::Claim::AtMost(_)))
        .collect();
    for own in bundle.invariants() {
        let same = |known: &Invariant| known.claim == own.claim && known.form == own.form;
        if !statements.iter().any(same) {
            statements.push(own.clone());
        }
    }
    statements
}

/// All changes of one type.
struct Kind<'b> {
    space: Space,
    rules: Rules<'b>,
}

/// What a proof works with.
struct Prover<'b, 's, S: Solver + Send> {
    bundle: &'b Bundle,
    compiler: CedarSymCompiler<Desk<'s, S>>,
    /// Texts that policies and statements name.
    known: BTreeSet<String>,
    /// Facts whose claims policies read.
    claims: Vec<String>,
    /// Sets compiled already, by type and what they hold.
    compiled: BTreeMap<String, cedar_policy_symcc::CompiledPolicySet>,
}
