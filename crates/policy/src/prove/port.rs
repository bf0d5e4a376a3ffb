//! Asking a solver: what this crate needs of one, and how the symbolic compiler is led to ask it.
//!
//! The compiler writes its questions into memory here; whoever calls provides the solver and runs it. So
//! nothing in this crate waits, and what it says stays a function of what it was given.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use cedar_policy_symcc::SmtLibScript as _;
use cedar_policy_symcc::solver::{Decision, DecisionWithModel, Solver as Backend, SolverError};
use tokio::io::AsyncWrite;

use crate::prove::ProofFailed;

/// Decides whether a script of SMT-LIB can be satisfied.
///
/// # Source
/// SMT-LIB 2.6; cvc5 is what the questions are written for.
pub trait Solver {
    /// Answers one script, which ends before `(check-sat)`. It starts with `(reset)`, so one process may
    /// answer many.
    ///
    /// # Errors
    /// When no answer came: the proof stops, and nothing counts as proved.
    fn decide(&mut self, script: &str) -> Result<Answer, SolverFailed>;
}

/// What a solver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing satisfies the script.
    Unsatisfiable,
    /// Something does: the model, as `(get-model)` prints it.
    Satisfiable {
        /// The model.
        model: String,
    },
    /// It gave up, as at a limit of time.
    Unknown,
}

/// A solver gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SolverFailed(pub String);

/// The compiler's side of a solver: collects a script and puts it.
pub(super) struct Desk<'s, S> {
    solver: &'s mut S,
    script: Vec<u8>,
    /// Questions put so far.
    pub(super) asked: usize,
}

impl<'s, S: Solver> Desk<'s, S> {
    pub(super) fn new(solver: &'s mut S) -> Self {
        Self {
            solver,
            script: Vec::new(),
            asked: 0,
        }
    }
}

impl<S: Solver + Send> Backend for Desk<'_, S> {
    fn smtlib_input(&mut self) -> &mut (dyn AsyncWrite + Unpin + Send) {
        &mut self.script
    }

    async fn enable_models(&mut self) -> Result<(), SolverError> {
        self.script
            .set_option("produce-models", "true")
            .await
            .map_err(SolverError::from)
    }

    async fn check_sat(&mut self) -> Result<Decision, SolverError> {
        Ok(match self.put()? {
            Answer::Unsatisfiable => Decision::Unsat,
            Answer::Satisfiable { .. } => Decision::Sat,
            Answer::Unknown => Decision::Unknown,
        })
    }

    async fn check_sat_with_model(&mut self) -> Result<DecisionWithModel, SolverError> {
        Ok(match self.put()? {
            Answer::Unsatisfiable => DecisionWithModel::Unsat,
            Answer::Satisfiable { model } => DecisionWithModel::Sat { model },
            Answer::Unknown => DecisionWithModel::Unknown,
        })
    }
}

impl<S: Solver> Desk<'_, S> {
    fn put(&mut self) -> Result<Answer, SolverError> {
        let script = std::mem::take(&mut self.script);
        let script = String::from_utf8(script)
            .map_err(|_| SolverError::Solver("the script is no text".to_owned()))?;
        self.asked = self.asked.saturating_add(1);
        self.solver
            .decide(&script)
            .map_err(|SolverFailed(why)| SolverError::Solver(why))
    }
}

/// Runs what never waits to its end.
pub(super) fn at_once<T>(work: impl Future<Output = T>) -> Result<T, ProofFailed> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(work).poll(&mut context) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err(ProofFailed::NotCompiled(
            "the symbolic compiler waited for something".to_owned(),
        )),
    }
}
