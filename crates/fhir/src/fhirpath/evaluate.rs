//! The evaluator: hands the items of an expression one by one to a receiver, who can have enough.
//!
//! Paths, filters and projections pass items on without collecting them, so `exists()` ends at the first.
//! Each item, comparison and recursion counts against the limits of the environment.
//! Start at [`Run::each`]; conditions are evaluated in `truth`.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use smallvec::SmallVec;

use super::item::{Collection, ElementItem, Item, TypeName};
use super::navigate::{self, Flow, Passed};
use super::specifier::{Match, Specifier};
use super::syntax::{Compiled, Id, Node, Variable};
use super::{Environment, EvaluationError, EvaluationErrorKind};
use crate::Definitions;

/// Items being gathered.
pub(super) type Items<'a> = SmallVec<[Item<'a>; 2]>;
/// Receives items.
pub(super) type Sink<'a, 's> = dyn FnMut(Item<'a>) -> Passed + 's;

/// What a sub-expression sees.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a, 's> {
    /// `$this`, the focus; none inside `iif` on an empty collection.
    pub(super) this: Option<&'s Item<'a>>,
    /// `$index`.
    pub(super) index: Option<usize>,
    /// `$total`.
    pub(super) total: Option<&'s Items<'a>>,
}

impl<'a, 's> Scope<'a, 's> {
    /// The scope of a lambda for one item.
    pub(super) fn of<'n>(&self, item: &'n Item<'a>, index: usize) -> Scope<'a, 'n>
    where
        's: 'n,
    {
        Scope {
            this: Some(item),
            index: Some(index),
            total: self.total,
        }
    }
}

/// One evaluation.
pub(super) struct Run<'a, 'r> {
    pub(super) compiled: &'a Compiled,
    pub(super) environment: &'r Environment<'a>,
    input: &'r Item<'a>,
    steps: Cell<u64>,
    depth: Cell<u32>,
    /// Variables of `defineVariable`, innermost last.
    variables: RefCell<Vec<(String, Collection<'a>)>>,
}

impl<'a, 'r> Run<'a, 'r> {
    pub(super) fn new(
        compiled: &'a Compiled,
        environment: &'r Environment<'a>,
        input: &'r Item<'a>,
    ) -> Self {
        Self {
            compiled,
            environment,
            input,
            steps: Cell::new(environment.limits.steps_max),
            depth: Cell::new(environment.limits.depth_max),
            variables: RefCell::new(Vec::new()),
        }
    }

    pub(super) fn root_scope(&self) -> Scope<'a, 'r> {
        Scope {
            this: Some(self.input),
            index: None,
            total: None,
        }
    }

    /// Evaluates the whole expression.
    pub(super) fn all(&self) -> Result<Collection<'a>, EvaluationError> {
        Ok(Collection(
            self.collect(self.compiled.root, &self.root_scope())?,
        ))
    }

    /// What the expression is evaluated on.
    pub(super) fn input(&self) -> &'r Item<'a> {
        self.input
    }

    pub(super) fn definitions(&self) -> &'a Definitions {
        self.environment.definitions
    }

    pub(super) fn error(&self, position: usize, kind: EvaluationErrorKind) -> EvaluationError {
        EvaluationError {
            position,
            kind: Box::new(kind),
        }
    }

    pub(super) fn error_at(&self, id: Id, kind: EvaluationErrorKind) -> EvaluationError {
        self.error(self.compiled.position(id), kind)
    }

    /// Counts one step.
    pub(super) fn step(&self) -> Result<(), EvaluationError> {
        self.steps(1)
    }

    /// Counts several steps.
    pub(super) fn steps(&self, count: u64) -> Result<(), EvaluationError> {
        match self.steps.get().checked_sub(count) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => {
                self.steps.set(0);
                Err(self.error(0, EvaluationErrorKind::Limit("evaluation steps")))
            }
        }
    }

    /// Runs one level deeper.
    pub(super) fn nested<T>(
        &self,
        inner: impl FnOnce() -> Result<T, EvaluationError>,
    ) -> Result<T, EvaluationError> {
        let Some(left) = self.depth.get().checked_sub(1) else {
            return Err(self.error(0, EvaluationErrorKind::Limit("nesting")));
        };
        self.depth.set(left);
        let result = inner();
        self.depth.set(left + 1);
        result
    }

    /// Runs with the variables that are defined inside forgotten afterwards.
    pub(super) fn enclosed<T>(&self, inner: impl FnOnce() -> T) -> T {
        let before = self.variables.borrow().len();
        let result = inner();
        self.variables.borrow_mut().truncate(before);
        result
    }

    /// Adds an item to a collection.
    pub(super) fn gather(
        &self,
        into: &mut Items<'a>,
        item: Item<'a>,
    ) -> Result<(), EvaluationError> {
        if into.len() >= self.environment.limits.items_max {
            return Err(self.error(0, EvaluationErrorKind::Limit("items of a collection")));
        }
        into.push(item);
        Ok(())
    }

    /// The items of a node.
    pub(super) fn collect(
        &self,
        id: Id,
        scope: &Scope<'a, '_>,
    ) -> Result<Items<'a>, EvaluationError> {
        let mut items = Items::new();
        self.each(id, scope, &mut |item| {
            self.gather(&mut items, item)?;
            Ok(Flow::More)
        })?;
        Ok(items)
    }

    /// The only item of a node; `None` if there is none.
    pub(super) fn single(
        &self,
        id: Id,
        scope: &Scope<'a, '_>,
    ) -> Result<Option<Item<'a>>, EvaluationError> {
        let mut found = None;
        self.each(id, scope, &mut |item| {
            if found.is_some() {
                return Err(self.error_at(id, EvaluationErrorKind::NotSingle));
            }
            found = Some(item);
            Ok(Flow::More)
        })?;
        Ok(found)
    }

    /// FHIRPath's own value of an item.
    pub(super) fn plain(&self, item: &Item<'a>) -> Option<Item<'a>> {
        item.plain(self.definitions())
    }

    pub(super) fn plain_element(&self, element: &ElementItem<'a>) -> Option<Item<'a>> {
        element.plain(self.definitions())
    }

    /// Hands the items of a node to `sink`.
    pub(super) fn each(&self, id: Id, scope: &Scope<'a, '_>, sink: &mut Sink<'a, '_>) -> Passed {
        self.step()?;
        let Some(left) = self.depth.get().checked_sub(1) else {
            return Err(self.error_at(id, EvaluationErrorKind::Limit("nesting")));
        };
        self.depth.set(left);
        let result = self.each_node(id, scope, sink);
        self.depth.set(left + 1);
        result
    }

    fn each_node(&self, id: Id, scope: &Scope<'a, '_>, sink: &mut Sink<'a, '_>) -> Passed {
        match self.compiled.node(id) {
            Node::Empty => Ok(Flow::More),
            Node::Literal(item) => sink(item.clone()),
            Node::This => match scope.this {
                Some(item) => sink(item.clone()),
                None => Ok(Flow::More),
            },
            Node::Index => match scope.index {
                Some(index) => sink(Item::Integer(index as i64)),
                None => Ok(Flow::More),
            },
            Node::Total => self.pass_all(scope.total.into_iter().flatten().cloned(), sink),
            Node::Variable(variable) => self.variable(id, variable, sink),
            Node::Path { base, names } => self.path(*base, names, scope, sink),
            Node::Indexer { base, index } => self.indexer(*base, *index, scope, sink),
            Node::Sign(is_negative, operand) => {
                self.signed(id, *is_negative, *operand, scope, sink)
            }
            Node::Binary(operator, left, right) => {
                self.binary(id, *operator, *left, *right, scope, sink)
            }
            Node::Is(operand, specifier) => match self.is_type(id, *operand, specifier, scope)? {
                Some(answer) => sink(Item::Boolean(answer)),
                None => Ok(Flow::More),
            },
            Node::As(operand, specifier) => {
                self.of_type(id, Some(*operand), specifier, scope, sink)
            }
            Node::Call {
                base,
                function,
                arguments,
                extra,
            } => self.call(
                super::functions::Call {
                    id,
                    base: *base,
                    function: *function,
                    arguments,
                    extra,
                },
                scope,
                sink,
            ),
        }
    }

    /// The items before the dot; without a base the focus.
    pub(super) fn each_base(
        &self,
        base: Option<Id>,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        match (base, scope.this) {
            (Some(base), _) => self.each(base, scope, sink),
            (None, Some(item)) => sink(item.clone()),
            (None, None) => Ok(Flow::More),
        }
    }

    pub(super) fn collect_base(
        &self,
        base: Option<Id>,
        scope: &Scope<'a, '_>,
    ) -> Result<Items<'a>, EvaluationError> {
        let mut items = Items::new();
        self.each_base(base, scope, &mut |item| {
            self.gather(&mut items, item)?;
            Ok(Flow::More)
        })?;
        Ok(items)
    }

    /// Hands on items from an iterator.
    pub(super) fn pass_all(
        &self,
        items: impl IntoIterator<Item = Item<'a>>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        for item in items {
            if sink(item)? == Flow::Enough {
                return Ok(Flow::Enough);
            }
        }
        Ok(Flow::More)
    }

    /// Whether a path leads to anything: the type of what it leads to is not looked up.
    pub(super) fn path_exists(
        &self,
        base: Option<Id>,
        names: &'a [Box<str>],
        scope: &Scope<'a, '_>,
    ) -> Result<bool, EvaluationError> {
        let mut found = false;
        let [before @ .., last] = names else {
            return Ok(false);
        };
        // The type of the focus alone (`Patient`) is no child of it.
        if base.is_none()
            && before.is_empty()
            && last.starts_with(|it: char| it.is_ascii_uppercase())
        {
            self.path(base, names, scope, &mut |_| {
                found = true;
                Ok(Flow::Enough)
            })?;
            return Ok(found);
        }
        if base.is_none()
            && before.is_empty()
            && let Some(Item::Element(element)) = scope.this
        {
            self.step()?;
            return Ok(navigate::has_named(self.definitions(), element, last));
        }
        let sink: &mut Sink<'a, '_> = &mut |item| {
            self.step()?;
            found = match &item {
                Item::Element(element) => navigate::has_named(self.definitions(), element, last),
                Item::Type(_) => matches!(&**last, "name" | "namespace"),
                _ => false,
            };
            Ok(if found { Flow::Enough } else { Flow::More })
        };
        if before.is_empty() {
            self.each_base(base, scope, sink)?;
        } else {
            self.path(base, before, scope, sink)?;
        }
        Ok(found)
    }

    fn path(
        &self,
        base: Option<Id>,
        names: &'a [Box<str>],
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        if let Some(base) = base {
            return self.each(base, scope, &mut |item| match item {
                Item::Element(element) => self.walk(&element, names, sink),
                Item::Type(type_name) => self.type_member(&type_name, names, sink),
                _ => Ok(Flow::More),
            });
        }
        let Some(this) = scope.this else {
            return Ok(Flow::More);
        };
        match (this, names) {
            // A path may start with the type of the focus: `Patient.name`.
            (Item::Element(element), [first, rest @ ..])
                if first.starts_with(|it: char| it.is_ascii_uppercase())
                    && super::specifier::is_a(element.type_code(self.definitions()), first) =>
            {
                self.walk(element, rest, sink)
            }
            (Item::Element(element), _) => self.walk(element, names, sink),
            (Item::Type(type_name), _) => self.type_member(type_name, names, sink),
            _ => Ok(Flow::More),
        }
    }

    /// Follows names from an element. The recursion is as deep as the path has names.
    fn walk(
        &self,
        element: &ElementItem<'a>,
        names: &[Box<str>],
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        self.step()?;
        match names {
            [] => sink(Item::Element(*element)),
            [last] => navigate::named(self.definitions(), element, last, &mut |child| {
                sink(Item::Element(child))
            }),
            [first, rest @ ..] => {
                navigate::named(self.definitions(), element, first, &mut |child| {
                    self.walk(&child, rest, sink)
                })
            }
        }
    }

    fn type_member(
        &self,
        type_name: &TypeName,
        names: &[Box<str>],
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        match names {
            [only] if &**only == "name" => sink(Item::String(Cow::Owned(type_name.name.clone()))),
            [only] if &**only == "namespace" => {
                sink(Item::String(Cow::Borrowed(type_name.namespace)))
            }
            _ => Ok(Flow::More),
        }
    }

    fn indexer(
        &self,
        base: Id,
        index: Id,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        let Some(wanted) = self.integer_argument(index, scope)? else {
            return Ok(Flow::More);
        };
        let mut at = 0;
        let mut flow = Flow::More;
        self.each(base, scope, &mut |item| {
            let is_wanted = at == wanted;
            at += 1;
            if is_wanted {
                flow = sink(item)?;
                return Ok(Flow::Enough);
            }
            Ok(Flow::More)
        })?;
        Ok(flow)
    }

    fn variable(&self, id: Id, variable: &'a Variable, sink: &mut Sink<'a, '_>) -> Passed {
        let environment = self.environment;
        let element = |element: Option<ElementItem<'a>>, sink: &mut Sink<'a, '_>| match element {
            Some(element) => sink(Item::Element(element)),
            None => match self.input {
                Item::Element(element) => sink(Item::Element(*element)),
                _ => Ok(Flow::More),
            },
        };
        match variable {
            Variable::Resource => element(environment.resource, sink),
            Variable::RootResource => {
                element(environment.root_resource.or(environment.resource), sink)
            }
            Variable::Context => match environment.context {
                Some(context) => sink(Item::Element(context)),
                None => sink(self.input.clone()),
            },
            Variable::Url(url) => sink(Item::String(Cow::Borrowed(url))),
            Variable::Named(name) => {
                let own = self
                    .variables
                    .borrow()
                    .iter()
                    .rev()
                    .find(|(own, _)| own == name)
                    .map(|(_, items)| items.clone());
                if let Some(items) = own {
                    return self.pass_all(items, sink);
                }
                let given = environment.variables.iter().find(|(it, _)| it == name);
                let Some((_, items)) = given else {
                    let name = name.clone();
                    return Err(self.error_at(id, EvaluationErrorKind::UnknownVariable(name)));
                };
                self.pass_all(items.iter().cloned(), sink)
            }
        }
    }

    /// Defines a variable for what follows.
    pub(super) fn define(
        &self,
        id: Id,
        name: String,
        items: Items<'a>,
    ) -> Result<(), EvaluationError> {
        let is_taken = matches!(
            name.as_str(),
            "resource" | "rootResource" | "context" | "ucum" | "sct" | "loinc"
        ) || name.starts_with("vs-")
            || name.starts_with("ext-")
            || self.environment.variables.iter().any(|(it, _)| *it == name)
            || self.variables.borrow().iter().any(|(it, _)| *it == name);
        if is_taken {
            return Err(self.error_at(id, EvaluationErrorKind::VariableDefined(name)));
        }
        self.variables.borrow_mut().push((name, Collection(items)));
        Ok(())
    }

    /// `is`: of one item; `None` of none.
    pub(super) fn is_type(
        &self,
        id: Id,
        operand: Id,
        specifier: &Specifier,
        scope: &Scope<'a, '_>,
    ) -> Result<Option<bool>, EvaluationError> {
        self.known_type(id, specifier)?;
        let item = self.single(operand, scope)?;
        Ok(item.map(|item| specifier.accepts(self.definitions(), &item, Match::Subtypes)))
    }

    /// `as` and `ofType`: the items of that type.
    pub(super) fn of_type(
        &self,
        id: Id,
        base: Option<Id>,
        specifier: &Specifier,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        self.known_type(id, specifier)?;
        self.each_base(base, scope, &mut |item| {
            if specifier.accepts(self.definitions(), &item, Match::ExactPrimitives) {
                sink(item)
            } else {
                Ok(Flow::More)
            }
        })
    }

    pub(super) fn known_type(&self, id: Id, specifier: &Specifier) -> Result<(), EvaluationError> {
        if specifier.is_known(self.definitions()) {
            return Ok(());
        }
        let name = specifier.name().chars().take(64).collect();
        Err(self.error_at(id, EvaluationErrorKind::UnknownType(name)))
    }
}
