//! Conditions: expressions whose boolean value is wanted, evaluated without building collections.
//!
//! Three-valued: `None` is the empty collection. `and`, `or` and `implies` stop as soon as they are decided.
//! Start at [`Run::condition`].
//!
//! # Source
//! FHIRPath N1, boolean logic and singleton evaluation of collections.

use super::evaluate::{Run, Scope};
use super::item::Item;
use super::navigate::Flow;
use super::syntax::{Function, Id, Node, Operator};
use super::{EvaluationError, EvaluationErrorKind};

type Truth = Result<Option<bool>, EvaluationError>;

impl<'a> Run<'a, '_> {
    /// The whole expression as a condition.
    pub(super) fn truth(&self) -> Truth {
        self.condition(self.compiled.root, &self.root_scope())
    }

    /// A node as a condition.
    pub(super) fn condition(&self, id: Id, scope: &Scope<'a, '_>) -> Truth {
        self.step()?;
        self.nested(|| self.condition_node(id, scope))
    }

    fn condition_node(&self, id: Id, scope: &Scope<'a, '_>) -> Truth {
        match self.compiled.node(id) {
            Node::Binary(operator, left, right) => match operator {
                Operator::And | Operator::Or | Operator::Xor | Operator::Implies => {
                    self.logic(*operator, *left, *right, scope)
                }
                _ if is_test(*operator) => self.test(id, *operator, *left, *right, scope),
                _ => self.singleton_truth(id, scope),
            },
            Node::Is(operand, specifier) => self.is_type(id, *operand, specifier, scope),
            Node::Call {
                base,
                function,
                arguments,
                ..
            } => match (function, arguments.as_slice()) {
                (Function::Exists, arguments) => self
                    .exists(*base, arguments.first().copied(), scope)
                    .map(Some),
                (Function::Empty, _) => self.exists(*base, None, scope).map(|it| Some(!it)),
                (Function::Not, _) => {
                    let truth = match (base, scope.this) {
                        (Some(base), _) => self.condition(*base, scope)?,
                        (None, Some(item)) => self.truth_of(item),
                        (None, None) => None,
                    };
                    Ok(truth.map(|it| !it))
                }
                (Function::All, [criterion]) => self.every(*base, *criterion, scope).map(Some),
                (Function::HasValue, _) => self.has_value(*base, scope).map(Some),
                _ => self.singleton_truth(id, scope),
            },
            _ => self.singleton_truth(id, scope),
        }
    }

    /// The truth of a single item: of no boolean, that it is there.
    pub(super) fn truth_of(&self, item: &Item<'a>) -> Option<bool> {
        match item {
            Item::Boolean(value) => Some(*value),
            Item::Element(element) => match element.value().and_then(|it| it.as_bool()) {
                Some(value) => Some(value),
                None => match self.plain_element(element) {
                    Some(Item::Boolean(value)) => Some(value),
                    _ => Some(true),
                },
            },
            _ => Some(true),
        }
    }

    fn singleton_truth(&self, id: Id, scope: &Scope<'a, '_>) -> Truth {
        let mut truth = None;
        let mut is_found = false;
        self.each(id, scope, &mut |item| {
            if is_found {
                return Err(self.error_at(id, EvaluationErrorKind::NotSingle));
            }
            is_found = true;
            truth = self.truth_of(&item);
            Ok(Flow::More)
        })?;
        Ok(truth)
    }

    pub(super) fn logic(
        &self,
        operator: Operator,
        left: Id,
        right: Id,
        scope: &Scope<'a, '_>,
    ) -> Truth {
        let first = self.enclosed(|| self.condition(left, scope))?;
        match (operator, first) {
            (Operator::And, Some(false)) => return Ok(Some(false)),
            (Operator::Or, Some(true)) | (Operator::Implies, Some(false)) => return Ok(Some(true)),
            _ => {}
        }
        let second = self.enclosed(|| self.condition(right, scope))?;
        Ok(match (operator, first, second) {
            (Operator::And, Some(true), second) => second,
            (Operator::And, _, Some(false)) => Some(false),
            (Operator::Or, Some(false), second) => second,
            (Operator::Or, _, Some(true)) => Some(true),
            (Operator::Xor, Some(one), Some(two)) => Some(one != two),
            (Operator::Implies, Some(true), second) => second,
            (Operator::Implies, _, Some(true)) => Some(true),
            _ => None,
        })
    }

    /// `exists()`, with or without a criterion.
    pub(super) fn exists(
        &self,
        base: Option<Id>,
        criterion: Option<Id>,
        scope: &Scope<'a, '_>,
    ) -> Result<bool, EvaluationError> {
        if criterion.is_none()
            && let Some(base) = base
            && let Node::Path { base, names } = self.compiled.node(base)
        {
            return self.path_exists(*base, names, scope);
        }
        let mut found = false;
        let mut index = 0;
        self.each_base(base, scope, &mut |item| {
            found = match criterion {
                None => true,
                Some(criterion) => {
                    self.enclosed(|| self.condition(criterion, &scope.of(&item, index)))?
                        == Some(true)
                }
            };
            index += 1;
            Ok(if found { Flow::Enough } else { Flow::More })
        })?;
        Ok(found)
    }

    /// `all(criterion)`: true for none.
    pub(super) fn every(
        &self,
        base: Option<Id>,
        criterion: Id,
        scope: &Scope<'a, '_>,
    ) -> Result<bool, EvaluationError> {
        let mut all = true;
        let mut index = 0;
        self.each_base(base, scope, &mut |item| {
            all =
                self.enclosed(|| self.condition(criterion, &scope.of(&item, index)))? == Some(true);
            index += 1;
            Ok(if all { Flow::More } else { Flow::Enough })
        })?;
        Ok(all)
    }

    /// `hasValue()`: a single primitive with a value.
    pub(super) fn has_value(
        &self,
        base: Option<Id>,
        scope: &Scope<'a, '_>,
    ) -> Result<bool, EvaluationError> {
        let mut count = 0;
        let mut has_value = false;
        self.each_base(base, scope, &mut |item| {
            count += 1;
            has_value = match &item {
                Item::Element(element) => element.has_value(),
                _ => true,
            };
            Ok(if count > 1 { Flow::Enough } else { Flow::More })
        })?;
        Ok(count == 1 && has_value)
    }

    /// `=`, `<`, `in` and their like.
    pub(super) fn test(
        &self,
        id: Id,
        operator: Operator,
        left: Id,
        right: Id,
        scope: &Scope<'a, '_>,
    ) -> Truth {
        if matches!(operator, Operator::Equal | Operator::NotEqual)
            && let Node::Literal(literal) = self.compiled.node(right)
        {
            let equal = self.equals_literal(left, literal, scope)?;
            return Ok(equal.map(|it| it == (operator == Operator::Equal)));
        }
        let one = self.enclosed(|| self.collect(left, scope))?;
        let two = self.enclosed(|| self.collect(right, scope))?;
        match operator {
            Operator::Equal => self.equal_collections(&one, &two),
            Operator::NotEqual => Ok(self.equal_collections(&one, &two)?.map(|it| !it)),
            Operator::Equivalent => self.equivalent_collections(&one, &two).map(Some),
            Operator::NotEquivalent => self.equivalent_collections(&one, &two).map(|it| Some(!it)),
            Operator::In => self.is_in(id, &one, &two),
            Operator::Contains => self.is_in(id, &two, &one),
            _ => self.compared(id, operator, &one, &two),
        }
    }

    fn equals_literal(&self, left: Id, literal: &'a Item<'static>, scope: &Scope<'a, '_>) -> Truth {
        let mut equal = None;
        let mut count = 0;
        self.enclosed(|| {
            self.each(left, scope, &mut |item| {
                count += 1;
                if count > 1 {
                    equal = Some(false);
                    return Ok(Flow::Enough);
                }
                equal = match (&item, literal) {
                    (Item::Element(element), Item::String(text))
                        if element.text() == Some(text.as_ref())
                            && !super::equality::is_moment(element) =>
                    {
                        Some(true)
                    }
                    _ => self.equal(&item, literal)?,
                };
                Ok(Flow::More)
            })
        })?;
        Ok(equal)
    }
}

/// Whether the operator gives a boolean and is no logical one.
pub(super) fn is_test(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Equal
            | Operator::NotEqual
            | Operator::Equivalent
            | Operator::NotEquivalent
            | Operator::In
            | Operator::Contains
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
    )
}
