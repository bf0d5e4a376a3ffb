//! One request in two forms that differ in one thing: how policies look at each, and the request itself.
//!
//! What policies see of the difference is written into their conditions, so one question can speak of both.

use std::cell::Cell;
use std::collections::BTreeSet;

use chaperone_core::change::{Destination, Direction};
use serde_json::{Value, json};

use crate::invariants::Than;
use crate::prove::ProofFailed;
use crate::prove::expr::{
    Expr, all, any, attribute, equals, folded, known, mentions, replaced, text, truth,
};
use crate::prove::witness::Asked;
use crate::question::direction_name;

/// A form of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variant {
    /// As it is.
    Same,
    /// Tainted or not.
    Tainted(bool),
    /// Without what the agent claims under this name.
    Unclaimed(String),
    /// Held in Chaperone, or written.
    To(Destination),
    /// More or less private.
    Towards(Direction),
    /// With this element changed too.
    Touching(String),
    /// Without this element changed.
    NotTouching(String),
}

/// An element that no policy names.
const ANOTHER: &str = "another";

impl Variant {
    /// The pairs that a comparison consists of: first what must not be weaker, then what it is compared
    /// with.
    pub(super) fn pairs(
        than: Than,
        claims: &[String],
        elements: &BTreeSet<String>,
    ) -> Vec<(Variant, Variant)> {
        match than {
            Than::Untainted => vec![(Variant::Tainted(true), Variant::Tainted(false))],
            Than::Unclaimed => claims
                .iter()
                .map(|name| (Variant::Same, Variant::Unclaimed(name.clone())))
                .collect(),
            Than::Staged => vec![(
                Variant::To(Destination::Ehr),
                Variant::To(Destination::Staged),
            )],
            Than::MorePrivate => vec![(
                Variant::Towards(Direction::LessPrivate),
                Variant::Towards(Direction::MorePrivate),
            )],
            Than::Narrower => elements
                .iter()
                .map(String::as_str)
                .chain([ANOTHER])
                .map(|name| {
                    (
                        Variant::Touching(name.to_owned()),
                        Variant::NotTouching(name.to_owned()),
                    )
                })
                .collect(),
        }
    }

    /// How a condition looks at this form of a request.
    pub(super) fn of(&self, expr: &Expr) -> Result<Expr, ProofFailed> {
        let fixed = |name: Expr, value: Expr| {
            if !mentions(expr, &name) {
                return Ok(expr.clone());
            }
            let replaced = replaced(expr, &|part| (*part == name).then(|| value.clone()));
            Ok(folded(&replaced))
        };
        match self {
            Variant::Same => Ok(expr.clone()),
            Variant::Tainted(tainted) => fixed(attribute("context", "tainted"), truth(*tainted)),
            Variant::Unclaimed(name) => fixed(known("claimed", name), truth(false)),
            Variant::To(destination) => {
                let name = match destination {
                    Destination::Staged => "staged",
                    Destination::Ehr => "ehr",
                };
                fixed(attribute("resource", "destination"), text(name))
            }
            Variant::Towards(direction) => fixed(
                attribute("resource", "direction"),
                text(direction_name(*direction)),
            ),
            Variant::Touching(name) => touching(expr, name),
            Variant::NotTouching(_) => Ok(expr.clone()),
        }
    }

    /// A request in this form.
    pub(super) fn apply(&self, asked: &Asked) -> Asked {
        let mut asked = asked.clone();
        match self {
            Variant::Same => {}
            Variant::Tainted(tainted) => asked.tainted = *tainted,
            Variant::Unclaimed(name) => {
                asked.claimed.remove(name);
            }
            Variant::To(destination) => asked.change.destination = *destination,
            Variant::Towards(direction) => asked.change.direction = *direction,
            Variant::Touching(name) => {
                asked.change.elements.insert(name.clone());
            }
            Variant::NotTouching(name) => {
                asked.change.elements.remove(name);
            }
        }
        asked
    }

    /// In words.
    pub(super) fn in_words(&self) -> String {
        match self {
            Variant::Same => "with the claim".to_owned(),
            Variant::Tainted(true) => "tainted".to_owned(),
            Variant::Tainted(false) => "untainted".to_owned(),
            Variant::Unclaimed(name) => format!("without the claim `{name}`"),
            Variant::To(Destination::Ehr) => "written to the EHR".to_owned(),
            Variant::To(Destination::Staged) => "held in Chaperone".to_owned(),
            Variant::Towards(direction) => direction_name(*direction).replace('_', " "),
            Variant::Touching(name) => format!("with `{name}` changed too"),
            Variant::NotTouching(name) => format!("without `{name}`"),
        }
    }
}

/// A condition's view of a request in which one element more is changed.
fn touching(expr: &Expr, name: &str) -> Result<Expr, ProofFailed> {
    let elements = attribute("resource", "elements");
    if !mentions(expr, &elements) {
        return Ok(expr.clone());
    }
    let unreadable = Cell::new(false);
    let seen = replaced(expr, &|part| {
        if *part == elements {
            unreadable.set(true);
            return None;
        }
        let (operator, operands) = part.as_object()?.iter().next()?;
        let (left, right) = (operands.get("left"), operands.get("right"));
        let other = match (left, right) {
            (Some(left), Some(right)) if *left == elements => right,
            (Some(left), Some(right)) if *right == elements => left,
            _ => {
                let of_elements = operands.get("arg") == Some(&elements);
                return (operator == "isEmpty" && of_elements).then(|| truth(false));
            }
        };
        let holds = json!({ "contains": { "left": other, "right": text(name) } });
        match operator.as_str() {
            "contains" => Some(any([equals(other, &text(name)), part.clone()])),
            "containsAny" => Some(any([holds, part.clone()])),
            "containsAll" if right == Some(&elements) => Some(all([holds, part.clone()])),
            "containsAll" => {
                let members = other.get("Set").and_then(Value::as_array)?;
                let rest: Vec<&Value> = members
                    .iter()
                    .filter(|member| **member != text(name))
                    .collect();
                Some(if rest.is_empty() {
                    truth(true)
                } else {
                    json!({ "containsAll": { "left": elements, "right": { "Set": rest } } })
                })
            }
            _ => None,
        }
    });
    if unreadable.get() {
        Err(ProofFailed::NotCompiled(
            "a policy reads `resource.elements` in a way that cannot be compared; use `contains`, `containsAny` or `containsAll`".to_owned(),
        ))
    } else {
        Ok(seen)
    }
}

/// The elements that conditions name.
pub(super) fn elements_named(expr: &Expr, names: &mut BTreeSet<String>) {
    let elements = attribute("resource", "elements");
    match expr {
        Value::Object(members) => {
            for operands in members.values() {
                let sides = [operands.get("left"), operands.get("right")];
                if sides.contains(&Some(&elements)) {
                    sides
                        .into_iter()
                        .flatten()
                        .for_each(|side| texts(side, names));
                }
                elements_named(operands, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| elements_named(item, names)),
        _ => {}
    }
}

/// Every text that stands in an expression as a value.
pub(super) fn texts(expr: &Expr, found: &mut BTreeSet<String>) {
    match expr {
        Value::Object(members) => {
            found.extend(
                members
                    .get("Value")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            members.values().for_each(|member| texts(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        _ => {}
    }
}
