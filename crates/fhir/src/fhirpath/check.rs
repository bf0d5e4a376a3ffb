//! Strict mode: checks an expression against the definitions without evaluating it.
//!
//! It follows the types that each part can have. Where a type cannot be known (variables, resolved
//! references, contained resources) nothing is said. Start at [`check`].
//!
//! # Source
//! FHIRPath N1, type safety and strict evaluation.

use super::specifier::{Specifier, SystemType, is_a, primitive_is};
use super::syntax::{Compiled, Extra, Function, Id, Node, Operator, Variable};
use crate::Definitions;
use crate::definitions::tables::{Content, TypeUse};
use crate::primitive::Primitive;

/// Why an expression cannot be right for a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: {message}")]
pub struct SemanticError {
    /// Byte position in the expression.
    pub position: usize,
    /// What is wrong.
    pub message: String,
    /// Whether it is only that an element is named as in JSON, with its type (`valueQuantity`).
    pub is_json_name: bool,
}

/// Checks an expression whose input is a resource or datatype of that name.
pub(super) fn check(
    compiled: &Compiled,
    definitions: &Definitions,
    root_type: &str,
) -> Result<(), SemanticError> {
    let checker = Checker {
        compiled,
        definitions,
        root: Typing::of(match Primitive::from_name(root_type) {
            Some(primitive) => vec![Type::Primitive(primitive)],
            None => definitions
                .structure_named(root_type)
                .map(|it| Type::Node {
                    node: it.root,
                    name: root_type.to_owned(),
                })
                .into_iter()
                .collect(),
        }),
    };
    checker.typing(compiled.root, &checker.root)?;
    Ok(())
}

/// A type that an item can have.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Type {
    Primitive(Primitive),
    Node { node: u32, name: String },
    System(SystemType),
}

impl Type {
    fn name(&self) -> String {
        match self {
            Type::Primitive(primitive) => primitive.name().to_owned(),
            Type::Node { name, .. } => name.clone(),
            Type::System(system) => format!("{system:?}"),
        }
    }
}

/// The types that the items of a collection can have.
#[derive(Clone, Debug)]
struct Typing {
    /// `None` if nothing is known.
    types: Option<Vec<Type>>,
    /// Whether the items have an order that all engines agree on.
    is_ordered: bool,
}

impl Typing {
    const UNKNOWN: Self = Self {
        types: None,
        is_ordered: true,
    };

    fn of(types: Vec<Type>) -> Self {
        Self {
            types: Some(types),
            is_ordered: true,
        }
    }

    fn system(system: SystemType) -> Self {
        Self::of(vec![Type::System(system)])
    }

    /// Whether the type is known and is none of the wanted.
    fn is_other_than(&self, wanted: impl Fn(&Type) -> bool) -> bool {
        self.types
            .as_ref()
            .is_some_and(|types| !types.is_empty() && !types.iter().any(wanted))
    }

    /// What either can have.
    fn or(self, other: Self) -> Self {
        Self {
            types: match (self.types, other.types) {
                (Some(mut one), Some(two)) => {
                    for it in two {
                        if !one.contains(&it) {
                            one.push(it);
                        }
                    }
                    Some(one)
                }
                _ => None,
            },
            is_ordered: self.is_ordered && other.is_ordered,
        }
    }
}

struct Checker<'c> {
    compiled: &'c Compiled,
    definitions: &'c Definitions,
    root: Typing,
}

type Typed = Result<Typing, SemanticError>;

impl Checker<'_> {
    fn error(&self, id: Id, message: String) -> SemanticError {
        SemanticError {
            position: self.compiled.position(id),
            message,
            is_json_name: false,
        }
    }

    /// The types of a node whose focus has the types `focus`. Recursion is bounded by the depth of the
    /// compiled form.
    fn typing(&self, id: Id, focus: &Typing) -> Typed {
        match self.compiled.node(id) {
            Node::Empty => Ok(Typing::of(Vec::new())),
            Node::Literal(item) => Ok(Typing::system(system_type(item))),
            Node::This => Ok(focus.clone()),
            Node::Index => Ok(Typing::system(SystemType::Integer)),
            Node::Total => Ok(Typing::UNKNOWN),
            Node::Variable(variable) => Ok(match variable {
                Variable::Resource | Variable::RootResource | Variable::Context => {
                    self.root.clone()
                }
                Variable::Url(_) => Typing::system(SystemType::String),
                Variable::Named(_) => Typing::UNKNOWN,
            }),
            Node::Path { base, names } => {
                let typing = match base {
                    Some(base) => self.typing(*base, focus)?,
                    None => focus.clone(),
                };
                self.path(id, typing, base.is_none(), names)
            }
            Node::Indexer { base, index } => {
                let typing = self.typing(*base, focus)?;
                self.typing(*index, focus)?;
                self.ordered(id, &typing, "an index")?;
                Ok(typing)
            }
            Node::Sign(_, operand) => self.typing(*operand, focus),
            Node::Binary(operator, left, right) => {
                let (one, two) = (self.typing(*left, focus)?, self.typing(*right, focus)?);
                Ok(match operator {
                    Operator::Union => one.or(two),
                    Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide => {
                        Typing::UNKNOWN
                    }
                    Operator::Div | Operator::Mod => Typing::UNKNOWN,
                    Operator::Concatenate => Typing::system(SystemType::String),
                    _ => Typing::system(SystemType::Boolean),
                })
            }
            Node::Is(operand, specifier) => {
                self.typing(*operand, focus)?;
                self.known(id, specifier)?;
                Ok(Typing::system(SystemType::Boolean))
            }
            Node::As(operand, specifier) => {
                let typing = self.typing(*operand, focus)?;
                self.narrowed(id, &typing, specifier)
            }
            Node::Call {
                base,
                function,
                arguments,
                extra,
            } => {
                let typing = match base {
                    Some(base) => self.typing(*base, focus)?,
                    None => focus.clone(),
                };
                self.call(id, *function, &typing, arguments, extra, focus)
            }
        }
    }

    fn path(&self, id: Id, typing: Typing, is_start: bool, names: &[Box<str>]) -> Typed {
        let mut typing = typing;
        let mut names = names;
        if let (true, [first, rest @ ..]) = (is_start, names)
            && first.starts_with(|it: char| it.is_ascii_uppercase())
            && Specifier::new(&[first.to_string()]).is_known(self.definitions)
        {
            if typing.is_other_than(|it| matches!(it, Type::Node { name, .. } if is_a(name, first)))
            {
                return Err(self.error(
                    id,
                    format!("the input is of type {}, not `{first}`", names_of(&typing)),
                ));
            }
            names = rest;
        }
        for name in names {
            typing = self.member(id, &typing, name)?;
        }
        Ok(typing)
    }

    fn member(&self, id: Id, typing: &Typing, name: &str) -> Typed {
        let Some(types) = &typing.types else {
            return Ok(Typing::UNKNOWN);
        };
        let mut found = Vec::new();
        let mut is_found = types.is_empty();
        for own in types {
            let node = match own {
                Type::Node { node, .. } => *node,
                Type::Primitive(_) => self.definitions.tables.element_node,
                Type::System(SystemType::Any) => return Ok(Typing::UNKNOWN),
                Type::System(_) => continue,
            };
            let node = self.definitions.node(node);
            let element = node
                .elements
                .indices()
                .map(|index| self.definitions.element(index))
                .find(|it| self.definitions.text(it.name) == name);
            let Some(element) = element else { continue };
            is_found = true;
            for index in element.types.indices() {
                match self.type_of(self.definitions.type_use(index)) {
                    Some(own) if !found.contains(&own) => found.push(own),
                    Some(_) => {}
                    None => return Ok(Typing::UNKNOWN),
                }
            }
        }
        if is_found {
            return Ok(Typing {
                types: Some(found),
                is_ordered: typing.is_ordered,
            });
        }
        let is_json_name = types.iter().any(|it| match it {
            Type::Node { node, .. } => {
                let node = self.definitions.node(*node);
                self.definitions.name(node, name).is_some()
            }
            Type::Primitive(_) | Type::System(_) => false,
        });
        let message = format!("`{name}` is no element of {}", names_of(typing));
        Err(SemanticError {
            is_json_name,
            ..self.error(id, message)
        })
    }

    /// `None` for any resource.
    fn type_of(&self, type_use: &TypeUse) -> Option<Type> {
        Some(match type_use.content {
            Content::Primitive(primitive) => Type::Primitive(primitive),
            Content::Node(node) => Type::Node {
                node,
                name: self.definitions.text(type_use.code).to_owned(),
            },
            Content::AnyResource => return None,
        })
    }

    fn known(&self, id: Id, specifier: &Specifier) -> Result<(), SemanticError> {
        if specifier.is_known(self.definitions) {
            return Ok(());
        }
        Err(self.error(id, format!("`{}` is no type", specifier.name())))
    }

    /// `as` and `ofType`.
    fn narrowed(&self, id: Id, typing: &Typing, specifier: &Specifier) -> Typed {
        self.known(id, specifier)?;
        let name = specifier.name();
        let types = if let Some(primitive) = specifier.primitive() {
            vec![Type::Primitive(primitive)]
        } else if let Some(structure) = self.definitions.structure_named(name) {
            vec![Type::Node {
                node: structure.root,
                name: name.to_owned(),
            }]
        } else {
            return Ok(Typing::UNKNOWN);
        };
        let is_possible = |own: &Type| match (own, specifier.primitive()) {
            (Type::Primitive(own), Some(wanted)) => {
                *own == wanted || primitive_is(*own, wanted) || primitive_is(wanted, *own)
            }
            (Type::Node { name: own, .. }, None) => is_a(own, name) || is_a(name, own),
            (Type::System(_), _) => true,
            _ => false,
        };
        if typing.is_other_than(is_possible) {
            return Err(self.error(
                id,
                format!("what is of type {} is never `{name}`", names_of(typing)),
            ));
        }
        Ok(Typing {
            types: Some(types),
            is_ordered: typing.is_ordered,
        })
    }

    fn ordered(&self, id: Id, typing: &Typing, what: &str) -> Result<(), SemanticError> {
        if typing.is_ordered {
            return Ok(());
        }
        Err(self.error(
            id,
            format!("`{what}` needs an order, which children and descendants do not have"),
        ))
    }

    fn call(
        &self,
        id: Id,
        function: Function,
        typing: &Typing,
        arguments: &[Id],
        extra: &Extra,
        focus: &Typing,
    ) -> Typed {
        use Function as F;
        if let Extra::Type(specifier) = extra {
            if function == F::Is {
                self.known(id, specifier)?;
                return Ok(Typing::system(SystemType::Boolean));
            }
            return self.narrowed(id, typing, specifier);
        }
        let is_lambda = matches!(
            function,
            F::Where
                | F::Select
                | F::All
                | F::Exists
                | F::Repeat
                | F::RepeatAll
                | F::Aggregate
                | F::Sort
                | F::Trace
                | F::Iif
        );
        // A projection is applied to its own results too.
        let is_repeated = matches!(function, F::Repeat | F::RepeatAll);
        let inner = match (is_lambda, is_repeated) {
            (_, true) => &Typing::UNKNOWN,
            (true, false) => typing,
            (false, false) => focus,
        };
        let mut given = Vec::with_capacity(arguments.len());
        for argument in arguments {
            given.push(self.typing(*argument, inner)?);
        }
        self.input(id, function, typing, given.first())?;
        Ok(match function {
            F::Select => Typing {
                is_ordered: typing.is_ordered,
                ..given.pop().unwrap_or(Typing::UNKNOWN)
            },
            F::Iif => given
                .into_iter()
                .skip(1)
                .reduce(Typing::or)
                .unwrap_or(Typing::UNKNOWN),
            F::Union | F::Combine => given.into_iter().fold(typing.clone(), Typing::or),
            F::Children | F::Descendants => Typing {
                types: None,
                is_ordered: false,
            },
            F::Sort => Typing {
                types: typing.types.clone(),
                is_ordered: true,
            },
            F::Where
            | F::Single
            | F::First
            | F::Last
            | F::Tail
            | F::Skip
            | F::Take
            | F::Distinct
            | F::Intersect
            | F::Exclude
            | F::Trace
            | F::DefineVariable => typing.clone(),
            F::Extension => Typing::of(
                self.definitions
                    .structure_named("Extension")
                    .map(|it| Type::Node {
                        node: it.root,
                        name: "Extension".to_owned(),
                    })
                    .into_iter()
                    .collect(),
            ),
            _ => result(function),
        })
    }

    /// Whether a function takes what it is given.
    fn input(
        &self,
        id: Id,
        function: Function,
        typing: &Typing,
        first: Option<&Typing>,
    ) -> Result<(), SemanticError> {
        use Function as F;
        match function {
            F::First | F::Last | F::Tail | F::Skip | F::Take => {
                self.ordered(id, typing, function.name())
            }
            F::Iif => {
                let is_condition = |it: &Type| !matches!(it, Type::System(system) if *system != SystemType::Boolean && *system != SystemType::Any);
                if first.is_some_and(|it| it.is_other_than(is_condition)) {
                    return Err(
                        self.error(id, "the criterion of `iif` is never a Boolean".to_owned())
                    );
                }
                Ok(())
            }
            F::StartsWith
            | F::EndsWith
            | F::Contains
            | F::IndexOf
            | F::LastIndexOf
            | F::Substring
            | F::Upper
            | F::Lower
            | F::Replace
            | F::Matches
            | F::MatchesFull
            | F::ReplaceMatches
            | F::Length
            | F::ToChars
            | F::Trim
            | F::Split => {
                let is_text = |it: &Type| match it {
                    Type::System(system) => {
                        matches!(system, SystemType::String | SystemType::Any)
                    }
                    Type::Primitive(primitive) => {
                        primitive.json_kind() == crate::json::Kind::String
                    }
                    Type::Node { .. } => false,
                };
                if typing.is_other_than(is_text) {
                    let name = function.name();
                    return Err(self.error(
                        id,
                        format!("`{name}` takes a String, not {}", names_of(typing)),
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The type that a function gives whatever it is given.
fn result(function: Function) -> Typing {
    use Function as F;
    match function {
        F::Empty
        | F::Exists
        | F::All
        | F::AllTrue
        | F::AnyTrue
        | F::AllFalse
        | F::AnyFalse
        | F::SubsetOf
        | F::SupersetOf
        | F::IsDistinct
        | F::Not
        | F::StartsWith
        | F::EndsWith
        | F::Contains
        | F::Matches
        | F::MatchesFull
        | F::HasValue
        | F::ToBoolean
        | F::ConformsTo
        | F::MemberOf
        | F::HtmlChecks => Typing::system(SystemType::Boolean),
        F::Count | F::IndexOf | F::LastIndexOf | F::Length | F::ToInteger => {
            Typing::system(SystemType::Integer)
        }
        F::ToString
        | F::Substring
        | F::Upper
        | F::Lower
        | F::Replace
        | F::ReplaceMatches
        | F::Trim
        | F::Join
        | F::ToChars
        | F::Split => Typing::system(SystemType::String),
        F::ToDecimal => Typing::system(SystemType::Decimal),
        F::ToDate | F::Today => Typing::system(SystemType::Date),
        F::ToDateTime | F::Now => Typing::system(SystemType::DateTime),
        F::ToTime | F::TimeOfDay => Typing::system(SystemType::Time),
        F::ToQuantity => Typing::system(SystemType::Quantity),
        _ => Typing::UNKNOWN,
    }
}

fn system_type(item: &super::Item<'_>) -> SystemType {
    use super::{Item, MomentKind};
    match item {
        Item::Boolean(_) => SystemType::Boolean,
        Item::Integer(_) => SystemType::Integer,
        Item::Decimal(_) => SystemType::Decimal,
        Item::String(_) => SystemType::String,
        Item::Quantity(_) => SystemType::Quantity,
        Item::Moment(moment) => match moment.kind() {
            MomentKind::Date => SystemType::Date,
            MomentKind::DateTime => SystemType::DateTime,
            MomentKind::Time => SystemType::Time,
        },
        Item::Element(_) | Item::Type(_) => SystemType::Any,
    }
}

/// Most types that a message lists.
const NAMED_MAX: usize = 3;

fn names_of(typing: &Typing) -> String {
    let types = typing.types.as_deref().unwrap_or_default();
    let mut names: Vec<String> = types
        .iter()
        .take(NAMED_MAX)
        .map(|it| format!("`{}`", it.name()))
        .collect();
    if types.len() > NAMED_MAX {
        names.push("others".to_owned());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests;
