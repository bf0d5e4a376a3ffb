//! The functions of the language, by subject.
//!
//! Start at [`Run::call`], which sends a call to the file of its subject.

mod boundaries;
mod collections;
mod conversions;
mod elements;
mod math;
pub(super) mod patterns;
mod strings;

pub(super) use conversions::read_decimal;

use super::EvaluationError;
use super::evaluate::{Run, Scope, Sink};
use super::item::Item;
use super::navigate::{Flow, Passed};
use super::syntax::{Extra, Function, Id};

/// A call as it stands in the compiled form.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) id: Id,
    pub(super) base: Option<Id>,
    pub(super) function: Function,
    pub(super) arguments: &'a [Id],
    pub(super) extra: &'a Extra,
}

impl Call<'_> {
    /// An argument; the parser has checked how many there are.
    fn argument(&self, index: usize) -> Option<Id> {
        self.arguments.get(index).copied()
    }
}

type Answer<'a> = Result<Option<Item<'a>>, EvaluationError>;

impl<'a> Run<'a, '_> {
    /// Hands the results of a call to `sink`.
    pub(super) fn call(
        &self,
        call: Call<'a>,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        use Function as F;
        match call.function {
            F::Exists | F::Empty | F::Not | F::All | F::HasValue => {
                match self.condition(call.id, scope)? {
                    Some(truth) => sink(Item::Boolean(truth)),
                    None => Ok(Flow::More),
                }
            }
            F::Where
            | F::Select
            | F::Repeat
            | F::RepeatAll
            | F::OfType
            | F::As
            | F::Is
            | F::Coalesce
            | F::Single
            | F::First
            | F::Last
            | F::Tail
            | F::Skip
            | F::Take
            | F::Intersect
            | F::Exclude
            | F::Union
            | F::Combine
            | F::Iif
            | F::Aggregate
            | F::Sort
            | F::Distinct
            | F::Trace
            | F::DefineVariable => self.collection_function(call, scope, sink),
            F::AllTrue
            | F::AnyTrue
            | F::AllFalse
            | F::AnyFalse
            | F::SubsetOf
            | F::SupersetOf
            | F::Count
            | F::IsDistinct => {
                let answer = self.summary(call, scope)?;
                sink(answer)
            }
            F::Children
            | F::Descendants
            | F::Extension
            | F::Resolve
            | F::Type
            | F::GetValue
            | F::ConformsTo
            | F::MemberOf
            | F::Subsumes
            | F::SubsumedBy
            | F::HtmlChecks => self.element_function(call, scope, sink),
            F::Split | F::ToChars => {
                let items = self.cut(call, scope)?;
                self.pass_all(items, sink)
            }
            F::Join => {
                let answer = self.join(call, scope)?;
                self.pass_all(answer, sink)
            }
            F::Now | F::Today | F::TimeOfDay => {
                let answer = self.current(call)?;
                self.pass_all(answer, sink)
            }
            _ => {
                let Some(item) = self.single_base(call, scope)? else {
                    return Ok(Flow::More);
                };
                let answer = self.single_function(call, item, scope)?;
                self.pass_all(answer, sink)
            }
        }
    }

    /// The single input of a function that takes one.
    fn single_base(&self, call: Call<'a>, scope: &Scope<'a, '_>) -> Answer<'a> {
        match call.base {
            Some(base) => self.single(base, scope),
            None => Ok(scope.this.cloned()),
        }
    }

    /// Functions of one item that give one item or none.
    #[inline(never)]
    fn single_function(&self, call: Call<'a>, item: Item<'a>, scope: &Scope<'a, '_>) -> Answer<'a> {
        use Function as F;
        match call.function {
            F::ToBoolean
            | F::ToInteger
            | F::ToDecimal
            | F::ToDate
            | F::ToDateTime
            | F::ToTime
            | F::ToString
            | F::ToQuantity
            | F::ConvertsToBoolean
            | F::ConvertsToInteger
            | F::ConvertsToDecimal
            | F::ConvertsToDate
            | F::ConvertsToDateTime
            | F::ConvertsToTime
            | F::ConvertsToString
            | F::ConvertsToQuantity => self.conversion(call, item, scope),
            F::Abs
            | F::Ceiling
            | F::Exp
            | F::Floor
            | F::Ln
            | F::Log
            | F::Power
            | F::Round
            | F::Sqrt
            | F::Truncate => self.math(call, item, scope),
            F::LowBoundary
            | F::HighBoundary
            | F::Precision
            | F::Comparable
            | F::YearOf
            | F::MonthOf
            | F::DayOf
            | F::HourOf
            | F::MinuteOf
            | F::SecondOf
            | F::MillisecondOf
            | F::TimezoneOffsetOf
            | F::DateOf
            | F::TimeOf => self.boundary_function(call, item, scope),
            _ => self.string_function(call, item, scope),
        }
    }
}
