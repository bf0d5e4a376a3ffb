//! What came out of a proof, for people and for programs.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// What came out, statement by statement.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Name of the bundle.
    pub bundle: String,
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: String,
    /// Each statement.
    pub proved: Vec<Proved>,
}

/// One statement.
#[derive(Debug, Clone, Serialize)]
pub struct Proved {
    /// Its id.
    pub id: String,
    /// In plain words.
    pub text: String,
    /// What was to be proved.
    pub claim: String,
    /// How often the solver was asked; what is plain from the policies' form needs no asking.
    pub questions: usize,
    /// What came out.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It holds for every request.
    Holds,
    /// It does not: here is a request.
    Refuted {
        /// The request, or two that are compared.
        counterexample: Vec<Shown>,
        /// What is wrong with it.
        wrong: String,
    },
    /// It says something about nothing.
    Vacuous {
        /// Why.
        why: String,
    },
    /// Nobody can say.
    Undecided {
        /// Why.
        why: String,
    },
}

/// A request with its answer.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// What tells it from the other one; empty where there is one.
    pub form: String,
    /// The request, line by line.
    pub request: Vec<String>,
    /// The policies that decided, with their words.
    pub decided_by: Vec<Said>,
    /// Escalators that applied.
    pub escalated_by: Vec<Said>,
    /// What the policies ask for.
    pub policies_ask: String,
    /// What Chaperone rules, guards in code included.
    pub ruling: String,
    /// Why it refuses, when it does.
    pub denial: Option<String>,
    /// The same as a case for `policies/cases`, with the answer that it gets.
    pub case: Value,
}

/// A policy and its words.
#[derive(Debug, Clone, Serialize)]
pub struct Said {
    /// The policy.
    pub policy: String,
    /// Its `@text`.
    pub text: String,
}

impl Report {
    /// Whether every statement holds, and there is one.
    pub fn holds(&self) -> bool {
        !self.proved.is_empty()
            && self
                .proved
                .iter()
                .all(|proved| matches!(proved.outcome, Outcome::Holds))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for proved in &self.proved {
            writeln!(f, "{proved}")?;
        }
        let holds = self
            .proved
            .iter()
            .filter(|proved| matches!(proved.outcome, Outcome::Holds))
            .count();
        let questions: usize = self.proved.iter().map(|proved| proved.questions).sum();
        write!(
            f,
            "{holds} of {} statements hold for every request; the solver was asked {questions} times.",
            self.proved.len()
        )
    }
}

impl fmt::Display for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match &self.outcome {
            Outcome::Holds => "holds    ",
            Outcome::Refuted { .. } => "REFUTED  ",
            Outcome::Vacuous { .. } => "VACUOUS  ",
            Outcome::Undecided { .. } => "UNDECIDED",
        };
        write!(f, "{word}  {}: {}", self.id, self.text)?;
        match &self.outcome {
            Outcome::Holds => Ok(()),
            Outcome::Vacuous { why } | Outcome::Undecided { why } => {
                write!(f, "\n           {why}")
            }
            Outcome::Refuted {
                counterexample,
                wrong,
            } => {
                write!(f, "\n           demanded: {}; but {wrong}", self.claim)?;
                counterexample
                    .iter()
                    .try_for_each(|shown| write!(f, "{shown}"))
            }
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = "\n             ";
        if !self.form.is_empty() {
            write!(f, "\n           {}:", self.form)?;
        }
        for line in &self.request {
            write!(f, "{indent}{line}")?;
        }
        for (word, said) in [
            ("decided by  ", &self.decided_by),
            ("escalated by", &self.escalated_by),
        ] {
            for Said { policy, text } in said {
                write!(f, "{indent}{word} {policy} ({text})")?;
            }
        }
        write!(f, "{indent}policies ask {}", self.policies_ask)?;
        write!(f, "{indent}ruling       {}", self.ruling)?;
        if let Some(denial) = &self.denial {
            write!(f, " ({denial})")?;
        }
        write!(f, "{indent}as a case    {}", self.case)
    }
}
