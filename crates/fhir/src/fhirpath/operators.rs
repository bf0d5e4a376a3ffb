//! Arithmetic, comparison, union and membership operators.
//!
//! Start at [`Run::binary`].
//!
//! # Source
//! FHIRPath N1, operations.

use std::borrow::Cow;
use std::cmp::Ordering;

use rust_decimal::Decimal;

use super::equality::number;
use super::evaluate::{Items, Run, Scope, Sink};
use super::item::Item;
use super::moment::MomentKind;
use super::navigate::{Flow, Passed};
use super::quantity::Quantity;
use super::syntax::{Id, Operator};
use super::truth::is_test;
use super::{EvaluationError, EvaluationErrorKind};

impl<'a> Run<'a, '_> {
    pub(super) fn binary(
        &self,
        id: Id,
        operator: Operator,
        left: Id,
        right: Id,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        let truth = match operator {
            Operator::And | Operator::Or | Operator::Xor | Operator::Implies => {
                self.logic(operator, left, right, scope)?
            }
            _ if is_test(operator) => self.test(id, operator, left, right, scope)?,
            Operator::Union => {
                let mut items = Items::new();
                for side in [left, right] {
                    self.enclosed(|| {
                        self.each(side, scope, &mut |item| {
                            self.gather_new(&mut items, item)?;
                            Ok(Flow::More)
                        })
                    })?;
                }
                return self.pass_all(items, sink);
            }
            _ => {
                let result = self.arithmetic(id, operator, left, right, scope)?;
                return self.pass_all(result, sink);
            }
        };
        match truth {
            Some(truth) => sink(Item::Boolean(truth)),
            None => Ok(Flow::More),
        }
    }

    /// Adds an item unless an equal one is there.
    pub(super) fn gather_new(
        &self,
        into: &mut Items<'a>,
        item: Item<'a>,
    ) -> Result<bool, EvaluationError> {
        for own in into.iter() {
            if self.equal(own, &item)? == Some(true) {
                return Ok(false);
            }
        }
        self.gather(into, item)?;
        Ok(true)
    }

    /// Whether `one` (a single item) is in `many`.
    pub(super) fn is_in(
        &self,
        id: Id,
        one: &[Item<'a>],
        many: &[Item<'a>],
    ) -> Result<Option<bool>, EvaluationError> {
        let item = match one {
            [] => return Ok(None),
            [item] => item,
            _ => return Err(self.error_at(id, EvaluationErrorKind::NotSingle)),
        };
        for other in many {
            if self.equal(item, other)? == Some(true) {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }

    /// `<`, `<=`, `>`, `>=`.
    pub(super) fn compared(
        &self,
        id: Id,
        operator: Operator,
        one: &[Item<'a>],
        two: &[Item<'a>],
    ) -> Result<Option<bool>, EvaluationError> {
        let (left, right) = match (one, two) {
            ([], _) | (_, []) => return Ok(None),
            ([left], [right]) => (left, right),
            _ => return Err(self.error_at(id, EvaluationErrorKind::NotSingle)),
        };
        let order = self.order(left, right, self.compiled.position(id))?;
        Ok(order.map(|order| match operator {
            Operator::Less => order == Ordering::Less,
            Operator::LessOrEqual => order != Ordering::Greater,
            Operator::Greater => order == Ordering::Greater,
            _ => order != Ordering::Less,
        }))
    }

    /// `-x` and `+x`.
    pub(super) fn signed(
        &self,
        id: Id,
        is_negative: bool,
        operand: Id,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        let Some(item) = self.single(operand, scope)? else {
            return Ok(Flow::More);
        };
        let Some(plain) = self.plain(&item) else {
            return Ok(Flow::More);
        };
        let result = match plain {
            Item::Integer(value) if is_negative => value.checked_neg().map(Item::Integer),
            Item::Decimal(value) if is_negative => Some(Item::Decimal(-value)),
            Item::Quantity(quantity) if is_negative => Some(Item::Quantity(Box::new(Quantity {
                value: -quantity.value,
                unit: quantity.unit,
            }))),
            Item::Integer(_) | Item::Decimal(_) | Item::Quantity(_) => Some(plain),
            other => {
                return Err(self.wrong_kind(
                    id,
                    "a sign",
                    "a number or Quantity",
                    other.kind_name(),
                ));
            }
        };
        self.pass_all(result, sink)
    }

    fn arithmetic(
        &self,
        id: Id,
        operator: Operator,
        left: Id,
        right: Id,
        scope: &Scope<'a, '_>,
    ) -> Result<Option<Item<'a>>, EvaluationError> {
        let one = self.enclosed(|| self.single(left, scope))?;
        let two = self.enclosed(|| self.single(right, scope))?;
        if operator == Operator::Concatenate {
            let text = |item: Option<Item<'a>>, id| match item {
                None => Ok(Cow::Borrowed("")),
                Some(item) => Ok(self.text_of(id, item, "`&`")?.unwrap_or_default()),
            };
            let (one, two) = (text(one, left)?, text(two, right)?);
            return self.concatenated(id, &one, &two).map(Some);
        }
        let (Some(one), Some(two)) = (one, two) else {
            return Ok(None);
        };
        let (Some(one), Some(two)) = (self.plain(&one), self.plain(&two)) else {
            return Ok(None);
        };
        if operator == Operator::Add
            && let (Item::String(one), Item::String(two)) = (&one, &two)
        {
            return self.concatenated(id, one, two).map(Some);
        }
        if let (
            Item::Moment(moment),
            Item::Quantity(quantity),
            Operator::Add | Operator::Subtract,
        ) = (&one, &two, operator)
        {
            let shift = quantity
                .shift(operator == Operator::Subtract)
                .ok_or_else(|| self.error_at(id, EvaluationErrorKind::Unit))?;
            if moment.kind() == MomentKind::Time
                && !matches!(shift, super::moment::Shift::Milliseconds(_))
            {
                return Err(self.error_at(id, EvaluationErrorKind::Unit));
            }
            return Ok(moment.plus(shift).map(Item::Moment));
        }
        if let (Item::Integer(one), Item::Integer(two)) = (&one, &two)
            && operator != Operator::Divide
        {
            return Ok(integers(operator, *one, *two));
        }
        if let (Some(one), Some(two)) = (number(&one), number(&two)) {
            return Ok(decimals(operator, one, two));
        }
        let as_quantity = |item: &Item<'a>| match item {
            Item::Quantity(quantity) => Some((**quantity).clone()),
            other => number(other).map(Quantity::number),
        };
        let (Some(left), Some(right)) = (as_quantity(&one), as_quantity(&two)) else {
            return Err(self.wrong_kind(
                id,
                "arithmetic",
                "two numbers, two Quantities, or a date and a duration",
                two.kind_name(),
            ));
        };
        let result = match operator {
            Operator::Add => left.plus(&right, false),
            Operator::Subtract => left.plus(&right, true),
            Operator::Multiply => left.times(&right),
            Operator::Divide => left.over(&right),
            _ => {
                return Err(self.wrong_kind(id, "`div` and `mod`", "two numbers", "Quantity"));
            }
        };
        Ok(result.map(|it| Item::Quantity(Box::new(it))))
    }

    pub(super) fn concatenated(
        &self,
        id: Id,
        one: &str,
        two: &str,
    ) -> Result<Item<'a>, EvaluationError> {
        self.text_fits(id, one.len() + two.len())?;
        let mut text = String::with_capacity(one.len() + two.len());
        text.push_str(one);
        text.push_str(two);
        Ok(Item::String(Cow::Owned(text)))
    }

    /// Whether a text of that length may be built; it costs steps by its length.
    pub(super) fn text_fits(&self, id: Id, length: usize) -> Result<(), EvaluationError> {
        if length > self.environment.limits.text_bytes_max {
            return Err(self.error_at(id, EvaluationErrorKind::Limit("the length of texts")));
        }
        self.steps(length as u64 / 64)
    }
}

/// Whole numbers; `None` beyond 32 bits and for division by zero.
fn integers(operator: Operator, one: i64, two: i64) -> Option<Item<'static>> {
    let result = match operator {
        Operator::Add => one.checked_add(two),
        Operator::Subtract => one.checked_sub(two),
        Operator::Multiply => one.checked_mul(two),
        Operator::Div => one.checked_div(two),
        _ => one.checked_rem(two),
    }?;
    i32::try_from(result)
        .ok()
        .map(|it| Item::Integer(i64::from(it)))
}

/// Decimals; `None` beyond their range and for division by zero.
fn decimals(operator: Operator, one: Decimal, two: Decimal) -> Option<Item<'static>> {
    match operator {
        Operator::Add => one.checked_add(two).map(Item::Decimal),
        Operator::Subtract => one.checked_sub(two).map(Item::Decimal),
        Operator::Multiply => one.checked_mul(two).map(Item::Decimal),
        Operator::Divide => one.checked_div(two).map(|it| Item::Decimal(it.normalize())),
        Operator::Div => {
            let whole: i32 = one.checked_div(two)?.trunc().try_into().ok()?;
            Some(Item::Integer(i64::from(whole)))
        }
        _ => one.checked_rem(two).map(Item::Decimal),
    }
}
