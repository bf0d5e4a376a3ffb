//! Filters, projections, subsets and combinations of collections.
//!
//! Start at [`Run::collection_function`].
//!
//! # Source
//! FHIRPath N1: existence, filtering and projection, subsetting, combining; `sort`, `coalesce`, `repeatAll`,
//! `defineVariable` from the later drafts.

use std::cmp::Ordering;

use super::super::evaluate::{Items, Run, Scope, Sink};
use super::super::item::Item;
use super::super::navigate::{Flow, Passed};
use super::super::syntax::{Extra, Function, Id};
use super::super::{EvaluationError, EvaluationErrorKind};
use super::Call;

impl<'a> Run<'a, '_> {
    #[inline(never)]
    pub(super) fn collection_function(
        &self,
        call: Call<'a>,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        use Function as F;
        match (call.function, call.extra, call.arguments) {
            (F::Where, _, [criterion]) => self.filter(call.base, *criterion, scope, sink),
            (F::Select, _, [projection]) => self.select(call.base, *projection, scope, sink),
            (F::Repeat | F::RepeatAll, _, [projection]) => {
                let is_distinct = call.function == F::Repeat;
                let items = self.repeat(call.base, *projection, is_distinct, scope)?;
                self.pass_all(items, sink)
            }
            (F::OfType | F::As, Extra::Type(specifier), _) => {
                self.of_type(call.id, call.base, specifier, scope, sink)
            }
            (F::Is, Extra::Type(specifier), _) => {
                self.known_type(call.id, specifier)?;
                let item = match call.base {
                    Some(base) => self.single(base, scope)?,
                    None => scope.this.cloned(),
                };
                let answer = item.map(|item| {
                    let how = super::super::specifier::Match::Subtypes;
                    Item::Boolean(specifier.accepts(self.definitions(), &item, how))
                });
                self.pass_all(answer, sink)
            }
            (F::Coalesce, _, arguments) => {
                for argument in arguments {
                    let items = self.enclosed(|| self.collect(*argument, scope))?;
                    if !items.is_empty() {
                        return self.pass_all(items, sink);
                    }
                }
                Ok(Flow::More)
            }
            (F::Single | F::First | F::Last, ..) => {
                let item = self.pick(call, scope)?;
                self.pass_all(item, sink)
            }
            (F::Tail, ..) => self.range(call.base, 1, None, scope, sink),
            (F::Skip | F::Take, _, [argument]) => {
                let Some(count) = self.integer_argument(*argument, scope)? else {
                    return Ok(Flow::More);
                };
                let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
                if call.function == F::Skip {
                    self.range(call.base, count, None, scope, sink)
                } else {
                    self.range(call.base, 0, Some(count), scope, sink)
                }
            }
            (F::Iif, _, [criterion, then, rest @ ..]) => {
                self.choose(call, *criterion, *then, rest.first().copied(), scope, sink)
            }
            (F::Trace, _, [name, rest @ ..]) => {
                self.trace(call, *name, rest.first().copied(), scope, sink)
            }
            (F::DefineVariable, _, [name, rest @ ..]) => {
                let items = self.collect_base(call.base, scope)?;
                let Some(name) = self.enclosed(|| self.text_argument(*name, scope))? else {
                    return Err(self.error_at(call.id, EvaluationErrorKind::NotSingle));
                };
                let value = match rest.first() {
                    Some(value) => self.enclosed(|| self.collect(*value, scope))?,
                    None => items.clone(),
                };
                self.define(call.id, name.into_owned(), value)?;
                self.pass_all(items, sink)
            }
            _ => {
                let items = self.combined(call, scope)?;
                self.pass_all(items, sink)
            }
        }
    }

    fn filter(
        &self,
        base: Option<Id>,
        criterion: Id,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        let mut index = 0;
        self.each_base(base, scope, &mut |item| {
            let inner = scope.of(&item, index);
            let fits = self.enclosed(|| self.condition(criterion, &inner))?;
            index += 1;
            if fits == Some(true) {
                sink(item)
            } else {
                Ok(Flow::More)
            }
        })
    }

    fn select(
        &self,
        base: Option<Id>,
        projection: Id,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        let mut index = 0;
        self.each_base(base, scope, &mut |item| {
            let inner = scope.of(&item, index);
            index += 1;
            if self.compiled.defines_variables {
                // What follows must not see the variables of the projection.
                let items = self.enclosed(|| self.collect(projection, &inner))?;
                return self.pass_all(items, sink);
            }
            self.each(projection, &inner, sink)
        })
    }

    fn repeat(
        &self,
        base: Option<Id>,
        projection: Id,
        is_distinct: bool,
        scope: &Scope<'a, '_>,
    ) -> Result<Items<'a>, EvaluationError> {
        let mut found = Items::new();
        let input = self.collect_base(base, scope)?;
        // First the input, then the results themselves; bounded by the limit of a collection.
        let mut at = 0;
        loop {
            let item = match input.get(at) {
                Some(item) => Some(item),
                None => found.get(at - input.len()),
            };
            let Some(item) = item.cloned() else {
                return Ok(found);
            };
            at += 1;
            let inner = Scope {
                this: Some(&item),
                index: None,
                total: scope.total,
            };
            for item in self.enclosed(|| self.collect(projection, &inner))? {
                if is_distinct {
                    self.gather_new(&mut found, item)?;
                } else {
                    self.gather(&mut found, item)?;
                }
            }
        }
    }

    /// `single()`, `first()`, `last()`.
    fn pick(
        &self,
        call: Call<'a>,
        scope: &Scope<'a, '_>,
    ) -> Result<Option<Item<'a>>, EvaluationError> {
        let mut found = None;
        self.each_base(call.base, scope, &mut |item| {
            if call.function == Function::Single && found.is_some() {
                return Err(self.error_at(call.id, EvaluationErrorKind::NotSingle));
            }
            found = Some(item);
            Ok(if call.function == Function::First {
                Flow::Enough
            } else {
                Flow::More
            })
        })?;
        Ok(found)
    }

    /// Leaves out the first `skip` items and hands on at most `take`.
    fn range(
        &self,
        base: Option<Id>,
        skip: usize,
        take: Option<usize>,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        if take == Some(0) {
            return Ok(Flow::More);
        }
        let mut index = 0_usize;
        let mut flow = Flow::More;
        self.each_base(base, scope, &mut |item| {
            index += 1;
            if index <= skip {
                return Ok(Flow::More);
            }
            flow = sink(item)?;
            if take.is_some_and(|take| index >= take) {
                return Ok(Flow::Enough);
            }
            Ok(flow)
        })?;
        Ok(flow)
    }

    /// `iif`: only the branch that is taken is evaluated.
    fn choose(
        &self,
        call: Call<'a>,
        criterion: Id,
        then: Id,
        otherwise: Option<Id>,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        let input = match call.base {
            Some(base) => self.single(base, scope)?,
            None => scope.this.cloned(),
        };
        let inner = Scope {
            this: input.as_ref(),
            index: scope.index,
            total: scope.total,
        };
        let is_met = self.enclosed(|| self.condition(criterion, &inner))? == Some(true);
        let Some(branch) = (if is_met { Some(then) } else { otherwise }) else {
            return Ok(Flow::More);
        };
        if self.compiled.defines_variables {
            let items = self.enclosed(|| self.collect(branch, &inner))?;
            return self.pass_all(items, sink);
        }
        self.each(branch, &inner, sink)
    }

    fn trace(
        &self,
        call: Call<'a>,
        name: Id,
        projection: Option<Id>,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        let Some(trace) = self.environment.trace else {
            return self.each_base(call.base, scope, sink);
        };
        let name = self.text_argument(name, scope)?.unwrap_or_default();
        let items = self.collect_base(call.base, scope)?;
        match projection {
            None => trace.trace(&name, &items),
            Some(projection) => {
                let mut shown = Items::new();
                for (index, item) in items.iter().enumerate() {
                    shown.extend(
                        self.enclosed(|| self.collect(projection, &scope.of(item, index)))?,
                    );
                }
                trace.trace(&name, &shown);
            }
        }
        self.pass_all(items, sink)
    }

    /// Functions that need the whole collection and give another.
    fn combined(
        &self,
        call: Call<'a>,
        scope: &Scope<'a, '_>,
    ) -> Result<Items<'a>, EvaluationError> {
        use Function as F;
        let items = self.collect_base(call.base, scope)?;
        let other = match (call.function, call.argument(0)) {
            (F::Intersect | F::Exclude | F::Union | F::Combine, Some(argument)) => {
                self.enclosed(|| self.collect(argument, scope))?
            }
            _ => Items::new(),
        };
        let mut result = Items::new();
        match call.function {
            F::Distinct => {
                for item in items {
                    self.gather_new(&mut result, item)?;
                }
            }
            F::Union => {
                for item in items.into_iter().chain(other) {
                    self.gather_new(&mut result, item)?;
                }
            }
            F::Combine => {
                for item in items.into_iter().chain(other) {
                    self.gather(&mut result, item)?;
                }
            }
            F::Intersect => {
                for item in items {
                    if self.is_in(call.id, std::slice::from_ref(&item), &other)? == Some(true) {
                        self.gather_new(&mut result, item)?;
                    }
                }
            }
            F::Exclude => {
                for item in items {
                    if self.is_in(call.id, std::slice::from_ref(&item), &other)? != Some(true) {
                        result.push(item);
                    }
                }
            }
            F::Aggregate => return self.aggregate(call, items, scope),
            _ => return self.sort(call, items, scope),
        }
        Ok(result)
    }

    fn aggregate(
        &self,
        call: Call<'a>,
        items: Items<'a>,
        scope: &Scope<'a, '_>,
    ) -> Result<Items<'a>, EvaluationError> {
        let mut total = match call.argument(1) {
            Some(initial) => self.enclosed(|| self.collect(initial, scope))?,
            None => Items::new(),
        };
        let Some(step) = call.argument(0) else {
            return Ok(total);
        };
        for (index, item) in items.iter().enumerate() {
            let inner = Scope {
                this: Some(item),
                index: Some(index),
                total: Some(&total),
            };
            let next = self.enclosed(|| self.collect(step, &inner))?;
            total = next;
        }
        Ok(total)
    }

    /// Stable, by the keys in turn; an empty key is lower than any other.
    fn sort(
        &self,
        call: Call<'a>,
        items: Items<'a>,
        scope: &Scope<'a, '_>,
    ) -> Result<Items<'a>, EvaluationError> {
        let descending: &[bool] = match call.extra {
            Extra::Descending(descending) => descending,
            _ => &[],
        };
        let mut keyed = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let mut keys = Vec::with_capacity(call.arguments.len().max(1));
            for argument in call.arguments {
                keys.push(self.enclosed(|| self.single(*argument, &scope.of(&item, index)))?);
            }
            if keys.is_empty() {
                keys.push(Some(item.clone()));
            }
            keyed.push((keys, item));
        }
        let position = self.compiled.position(call.id);
        let keyed = sorted(keyed, &mut |(one, _), (two, _)| {
            for (at, (left, right)) in one.iter().zip(two).enumerate() {
                let order = match (left, right) {
                    (None, None) => Ordering::Equal,
                    (None, Some(_)) => Ordering::Less,
                    (Some(_), None) => Ordering::Greater,
                    (Some(left), Some(right)) => self
                        .order(left, right, position)?
                        .unwrap_or(Ordering::Equal),
                };
                let is_descending = descending.get(at).copied().unwrap_or(false);
                let order = if is_descending {
                    order.reverse()
                } else {
                    order
                };
                if order != Ordering::Equal {
                    return Ok(order);
                }
            }
            Ok(Ordering::Equal)
        })?;
        Ok(keyed.into_iter().map(|(_, item)| item).collect())
    }

    /// Functions that sum a collection up in one value.
    #[inline(never)]
    pub(super) fn summary(
        &self,
        call: Call<'a>,
        scope: &Scope<'a, '_>,
    ) -> Result<Item<'a>, EvaluationError> {
        use Function as F;
        Ok(match call.function {
            F::Count => {
                let mut count = 0;
                self.each_base(call.base, scope, &mut |_| {
                    count += 1;
                    Ok(Flow::More)
                })?;
                Item::Integer(count)
            }
            F::AllTrue | F::AnyTrue | F::AllFalse | F::AnyFalse => {
                let wanted = matches!(call.function, F::AllTrue | F::AnyTrue);
                let is_all = matches!(call.function, F::AllTrue | F::AllFalse);
                let mut answer = is_all;
                for item in self.collect_base(call.base, scope)? {
                    let Some(Item::Boolean(value)) = self.plain(&item) else {
                        return Err(self.wrong_kind(
                            call.id,
                            call.function.name(),
                            "Booleans",
                            item.kind_name(),
                        ));
                    };
                    if (value == wanted) != is_all {
                        answer = !is_all;
                    }
                }
                Item::Boolean(answer)
            }
            F::IsDistinct => {
                let mut seen = Items::new();
                let mut is_distinct = true;
                for item in self.collect_base(call.base, scope)? {
                    if !self.gather_new(&mut seen, item)? {
                        is_distinct = false;
                        break;
                    }
                }
                Item::Boolean(is_distinct)
            }
            _ => {
                let own = self.collect_base(call.base, scope)?;
                let other = match call.argument(0) {
                    Some(argument) => self.enclosed(|| self.collect(argument, scope))?,
                    None => Items::new(),
                };
                let (part, whole) = if call.function == F::SubsetOf {
                    (&own, &other)
                } else {
                    (&other, &own)
                };
                let mut all = true;
                for item in part {
                    if self.is_in(call.id, std::slice::from_ref(item), whole)? != Some(true) {
                        all = false;
                        break;
                    }
                }
                Item::Boolean(all)
            }
        })
    }
}

/// Sorts stably by merging. The library's sort wants a total order, which undecided comparisons (dates of
/// different precision) are not, and cannot end at an error. Recursion is as deep as the logarithm of the
/// length.
fn sorted<T, E>(
    mut list: Vec<T>,
    compare: &mut impl FnMut(&T, &T) -> Result<Ordering, E>,
) -> Result<Vec<T>, E> {
    if list.len() < 2 {
        return Ok(list);
    }
    let right = list.split_off(list.len() / 2);
    let mut left = sorted(list, compare)?.into_iter().peekable();
    let mut right = sorted(right, compare)?.into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some(one), Some(two)) = (left.peek(), right.peek()) {
        let next = if compare(two, one)? == Ordering::Less {
            right.next()
        } else {
            left.next()
        };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    Ok(merged)
}
