//! FHIRPath: expressions over FHIR resources, compiled once and evaluated over borrowed values.
//!
//! The language is FHIRPath N1 with the parts of later drafts that the R4 test file uses, in the FHIR R4
//! dialect: <http://hl7.org/fhirpath/N1> and <https://hl7.org/fhir/R4/fhirpath.html>.
//! Nothing here reads a clock, a network or a file: time, referenced resources, value sets and profiles
//! come through [`Environment`]. Evaluation is bounded by [`EvaluationLimits`].
//! Start at [`Expression::parse`], then [`Expression::evaluate`] or [`Expression::truth`].
//!
//! In reading order: `lexer`, `parse`, `syntax` (the compiled form), `item` (values), `navigate`
//! (elements), `evaluate` and `truth` (the evaluator), `operators`, `equality`, `functions`, `moment`
//! (dates), `quantity`, `known` (invariants that run everywhere), `check` (strict mode).

mod arguments;
mod check;
mod equality;
mod evaluate;
mod functions;
mod item;
mod known;
mod lexer;
mod moment;
mod navigate;
mod operators;
mod parse;
mod quantity;
mod specifier;
mod syntax;
mod truth;

pub use check::SemanticError;
pub use item::{Collection, ElementItem, Item, TypeName};
pub use lexer::{ParseError, ParseErrorKind};
pub use moment::{Moment, MomentKind, Precision};
pub use quantity::{CalendarUnit, Quantity, Unit};
pub use rust_decimal::Decimal;

use crate::Definitions;
use syntax::Compiled;

/// Longest expression text, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 16 * 1024;
/// Most nodes of a compiled expression.
pub const EXPRESSION_NODES_MAX: usize = 4_096;
/// Deepest nesting of a compiled expression.
pub const EXPRESSION_DEPTH_MAX: usize = 96;

/// Bounds on one evaluation.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationLimits {
    /// Most steps: an item visited, compared or produced is a step.
    pub steps_max: u64,
    /// Most items that one collection may hold.
    pub items_max: usize,
    /// Longest text that an expression may build, in bytes.
    pub text_bytes_max: usize,
    /// Deepest recursion of the evaluator.
    pub depth_max: u32,
}

impl Default for EvaluationLimits {
    fn default() -> Self {
        Self {
            steps_max: 2_000_000,
            items_max: 200_000,
            text_bytes_max: 4 * 1024 * 1024,
            depth_max: 160,
        }
    }
}

/// Finds the resource that a reference points to (`resolve()`).
///
/// Pure: it answers from what the caller has loaded. References within the resource at hand (`#id`) and
/// within a Bundle that is the root resource are found without it.
pub trait Resolve {
    /// The resource, or `None` if it is not at hand.
    fn resolve(&self, reference: &str) -> Option<Item<'_>>;
}

/// Decides membership of codes (`memberOf()`, `subsumes()`).
pub trait MemberOf {
    /// Whether the code, Coding, CodeableConcept or text is in the value set; `None` if undecidable here.
    fn member_of(&self, item: &Item<'_>, value_set: &str) -> Option<bool>;

    /// Whether the first concept subsumes the second; `None` if undecidable here.
    fn subsumes(&self, _general: &Item<'_>, _specific: &Item<'_>) -> Option<bool> {
        None
    }
}

/// Decides conformance to profiles (`conformsTo()`).
pub trait Conformance {
    /// Whether the item conforms to the profile; `None` if the profile is not known.
    fn conforms_to(&self, item: &Item<'_>, profile: &str) -> Option<bool>;
}

/// Receives what `trace()` sees. The name is the expression's; the items may hold data of patients.
pub trait Trace {
    /// Takes one trace.
    fn trace(&self, name: &str, items: &[Item<'_>]);
}

/// What an expression is evaluated in.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Definitions that give elements their types.
    pub definitions: &'a Definitions,
    /// `%rootResource`: the outermost resource, or the container of a contained one.
    pub root_resource: Option<ElementItem<'a>>,
    /// `%resource`: the resource at hand.
    pub resource: Option<ElementItem<'a>>,
    /// `%context`; the input of the evaluation if `None`.
    pub context: Option<ElementItem<'a>>,
    /// What `now()`, `today()` and `timeOfDay()` give: a date and time with timezone.
    pub now: Option<Moment>,
    /// Further variables by name, without the `%`.
    pub variables: &'a [(&'a str, &'a [Item<'a>])],
    /// For `resolve()`.
    pub resolver: Option<&'a dyn Resolve>,
    /// For `memberOf()` and `subsumes()`.
    pub terminology: Option<&'a dyn MemberOf>,
    /// For `conformsTo()`.
    pub conformance: Option<&'a dyn Conformance>,
    /// For `trace()`.
    pub trace: Option<&'a dyn Trace>,
    /// Bounds.
    pub limits: EvaluationLimits,
}

impl<'a> Environment<'a> {
    /// An environment with definitions and nothing else.
    #[must_use]
    pub fn new(definitions: &'a Definitions) -> Self {
        Self {
            definitions,
            root_resource: None,
            resource: None,
            context: None,
            now: None,
            variables: &[],
            resolver: None,
            terminology: None,
            conformance: None,
            trace: None,
            limits: EvaluationLimits::default(),
        }
    }

    /// An environment for one resource, which is `%resource` and `%rootResource`.
    #[must_use]
    pub fn of(definitions: &'a Definitions, resource: ElementItem<'a>) -> Self {
        Self {
            root_resource: Some(resource),
            resource: Some(resource),
            ..Self::new(definitions)
        }
    }
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Environment")
            .field("now", &self.now)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Why an evaluation ended without a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: {kind}")]
pub struct EvaluationError {
    /// Byte position in the expression.
    pub position: usize,
    /// What is wrong.
    pub kind: Box<EvaluationErrorKind>,
}

/// What ended an evaluation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants mean")]
pub enum EvaluationErrorKind {
    #[error("one value was expected, but there are several")]
    NotSingle,
    #[error("{what} takes {expected}, not {found}")]
    Kind {
        what: &'static str,
        expected: &'static str,
        found: &'static str,
    },
    #[error("`{0}` is not a type of FHIR R4 or of FHIRPath")]
    UnknownType(String),
    #[error("the variable `%{0}` is not defined")]
    UnknownVariable(String),
    #[error("the variable `%{0}` is defined already")]
    VariableDefined(String),
    #[error("the regular expression cannot be used: {0}")]
    Regex(String),
    #[error("the unit of the quantity cannot be used here")]
    Unit,
    #[error("`{0}` is out of range")]
    Range(&'static str),
    #[error("the profile is not known, so that conformance cannot be decided")]
    UnknownProfile,
    #[error("this cannot be decided without {0}")]
    Missing(&'static str),
    #[error("the evaluation exceeds the limit of {0}")]
    Limit(&'static str),
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    text: Box<str>,
    compiled: Compiled,
    known: Option<known::Known>,
}

impl Expression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// The text is not FHIRPath, names a function that does not exist or gives it the wrong number of
    /// arguments, or is longer, deeper or larger than allowed.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self {
            text: text.into(),
            compiled: parse::parse(text)?,
            known: None,
        })
    }

    /// Compiles the expression of an invariant: as [`Expression::parse`], but published mistakes of
    /// R4's own invariants are mended, and those that run on every element get a shorter way.
    ///
    /// # Errors
    /// As [`Expression::parse`].
    pub fn invariant(text: &str) -> Result<Self, ParseError> {
        let mended = known::mended(text);
        Ok(Self {
            text: text.into(),
            compiled: parse::parse(mended)?,
            known: known::Known::of(mended),
        })
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Evaluates the expression on an item.
    ///
    /// # Errors
    /// The input breaks a rule of the language (several values where one belongs, wrong types, unknown
    /// types and variables), or a limit is exceeded.
    pub fn evaluate<'a>(
        &'a self,
        environment: &Environment<'a>,
        input: Item<'a>,
    ) -> Result<Collection<'a>, EvaluationError> {
        evaluate::Run::new(&self.compiled, environment, &input).all()
    }

    /// What the expression says as a condition: true, false, or `None` for an empty result.
    ///
    /// A single value that is no boolean counts as true (singleton evaluation of collections).
    ///
    /// # Errors
    /// As [`Expression::evaluate`]; also if the result holds several values.
    pub fn truth<'a>(
        &'a self,
        environment: &Environment<'a>,
        input: Item<'a>,
    ) -> Result<Option<bool>, EvaluationError> {
        if let (Some(known), Item::Element(element)) = (&self.known, &input)
            && let Some(answer) = known.answer(environment, *element)
        {
            return Ok(answer);
        }
        evaluate::Run::new(&self.compiled, environment, &input).truth()
    }

    /// Whether the result is true. An empty result is not true; see [`Expression::holds`] for invariants.
    ///
    /// # Errors
    /// As [`Expression::truth`].
    pub fn is_true<'a>(
        &'a self,
        environment: &Environment<'a>,
        input: Item<'a>,
    ) -> Result<bool, EvaluationError> {
        Ok(self.truth(environment, input)? == Some(true))
    }

    /// Whether an invariant is kept: everything but `false` keeps it.
    ///
    /// R4's own invariants need that: `name.matches(…)` on a resource without a name, or `start <= end` with
    /// different precisions, are empty and accuse nobody.
    ///
    /// # Errors
    /// As [`Expression::truth`].
    pub fn holds<'a>(
        &'a self,
        environment: &Environment<'a>,
        input: Item<'a>,
    ) -> Result<bool, EvaluationError> {
        Ok(self.truth(environment, input)? != Some(false))
    }

    /// Checks the expression against the definitions without evaluating it (strict mode): paths that
    /// no resource of `root_type` can have, functions on types they do not take, and order-dependent
    /// functions on collections without order.
    ///
    /// # Errors
    /// The first thing found.
    pub fn check(&self, definitions: &Definitions, root_type: &str) -> Result<(), SemanticError> {
        check::check(&self.compiled, definitions, root_type)
    }
}

#[cfg(test)]
mod tests;
