//! Expressions of policies, taken apart and put together, in Cedar's JSON form: an object with one operator
//! as its key.
//!
//! Nothing here knows the matrix. What is put together is typechecked again before it is compiled.

use cedar_policy::{Policy, PolicyId as CedarId};
use serde_json::{Value, json};

use crate::prove::ProofFailed;

/// An expression.
pub(super) type Expr = Value;

pub(super) fn text(value: &str) -> Expr {
    json!({ "Value": value })
}

pub(super) fn truth(value: bool) -> Expr {
    json!({ "Value": value })
}

pub(super) fn attribute(variable: &str, name: &str) -> Expr {
    json!({ ".": { "left": { "Var": variable }, "attr": name } })
}

/// `context.<record>.<name>` is there.
pub(super) fn known(record: &str, name: &str) -> Expr {
    json!({ "has": { "left": attribute("context", record), "attr": name } })
}

pub(super) fn equals(left: &Expr, right: &Expr) -> Expr {
    json!({ "==": { "left": left, "right": right } })
}

pub(super) fn not(inner: &Expr) -> Expr {
    json!({ "!": { "arg": inner } })
}

/// `if … then … else …`.
pub(super) fn choose(condition: &Expr, then: &Expr, otherwise: &Expr) -> Expr {
    json!({ "if-then-else": { "if": condition, "then": then, "else": otherwise } })
}

/// All of these; true of none.
pub(super) fn all(parts: impl IntoIterator<Item = Expr>) -> Expr {
    chained("&&", parts.into_iter().collect()).unwrap_or_else(|| truth(true))
}

/// Any of these; false of none.
pub(super) fn any(parts: impl IntoIterator<Item = Expr>) -> Expr {
    chained("||", parts.into_iter().collect()).unwrap_or_else(|| truth(false))
}

/// A chain, grouped from its end: `a && (b && c)`.
///
/// Grouped from its start it says the same, but the symbolic compiler repeats what stands on the left of an
/// operator, which doubles a term with every link.
fn chained(operator: &str, parts: Vec<Expr>) -> Option<Expr> {
    parts
        .into_iter()
        .rev()
        .reduce(|rest, part| json!({ operator: { "left": part, "right": rest } }))
}

/// An expression with every chain of `&&` and of `||` grouped from its end.
pub(super) fn regrouped(expr: &Expr) -> Expr {
    for operator in ["&&", "||"] {
        if expr.get(operator).is_some() {
            let mut links = Vec::new();
            unchained(expr, operator, &mut links);
            let links = links.into_iter().map(regrouped).collect();
            return chained(operator, links).unwrap_or_default();
        }
    }
    match expr {
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), regrouped(member)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(regrouped).collect(),
        other => other.clone(),
    }
}

fn unchained<'e>(expr: &'e Expr, operator: &str, links: &mut Vec<&'e Expr>) {
    let sides = expr
        .get(operator)
        .and_then(|operands| Some((operands.get("left")?, operands.get("right")?)));
    match sides {
        Some((left, right)) => {
            unchained(left, operator, links);
            unchained(right, operator, links);
        }
        None => links.push(expr),
    }
}

/// An attribute is one of these texts.
pub(super) fn one_of(value: &Expr, texts: &[&str]) -> Expr {
    any(texts.iter().map(|wanted| equals(value, &text(wanted))))
}

/// A set of texts.
fn set(texts: &[&str]) -> Expr {
    let members: Vec<Expr> = texts.iter().map(|member| text(member)).collect();
    json!({ "Set": members })
}

/// Some member of a set of texts is one of these.
pub(super) fn meets(value: &Expr, texts: &[&str]) -> Expr {
    json!({ "containsAny": { "left": value, "right": set(texts) } })
}

/// Every member of a set of texts is one of these.
pub(super) fn within(value: &Expr, texts: &[&str]) -> Expr {
    json!({ "containsAll": { "left": set(texts), "right": value } })
}

/// When a policy applies: its limit to a type, its `when` and its `unless`.
pub(super) fn applies(form: &Value) -> Expr {
    let limit = form
        .pointer("/resource/entity_type")
        .map(|name| json!({ "is": { "left": { "Var": "resource" }, "entity_type": name } }));
    let conditions = form
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|condition| {
            let body = condition.get("body")?;
            match condition.get("kind").and_then(Value::as_str) {
                Some("unless") => Some(not(body)),
                _ => Some(body.clone()),
            }
        });
    regrouped(&all(limit.into_iter().chain(conditions)))
}

/// An expression with parts replaced, from the outside in; what was put in is not looked at again.
pub(super) fn replaced(expr: &Expr, by: &dyn Fn(&Expr) -> Option<Expr>) -> Expr {
    if let Some(new) = by(expr) {
        return new;
    }
    match expr {
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), replaced(member, by)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(|item| replaced(item, by)).collect(),
        other => other.clone(),
    }
}

/// Whether an expression holds another.
pub(super) fn mentions(expr: &Expr, wanted: &Expr) -> bool {
    expr == wanted
        || match expr {
            Value::Object(members) => members.values().any(|member| mentions(member, wanted)),
            Value::Array(items) => items.iter().any(|item| mentions(item, wanted)),
            _ => false,
        }
}

/// An expression without what is decided already: `false && x`, `true || x` and the like.
pub(super) fn folded(expr: &Expr) -> Expr {
    let literal = |expr: &Expr| expr.get("Value").and_then(Value::as_bool);
    let side = |operands: &Value, name: &str| operands.get(name).map(folded);
    for (operator, decides) in [("&&", false), ("||", true)] {
        let sides = expr
            .get(operator)
            .and_then(|operands| Some((side(operands, "left")?, side(operands, "right")?)));
        if let Some((left, right)) = sides {
            return match (literal(&left), literal(&right)) {
                (Some(value), _) if value == decides => truth(decides),
                (Some(_), _) => right,
                // What could fail on the left would fail before the right is looked at.
                (None, Some(value)) if value == decides && !can_fail(&left) => truth(decides),
                (None, Some(value)) if value != decides => left,
                _ => json!({ operator: { "left": left, "right": right } }),
            };
        }
    }
    if let Some(inner) = expr.get("!").and_then(|operands| side(operands, "arg")) {
        return literal(&inner).map_or_else(|| not(&inner), |value| truth(!value));
    }
    if let Some(operands) = expr.get("if-then-else")
        && let (Some(condition), Some(then), Some(otherwise)) = (
            side(operands, "if"),
            side(operands, "then"),
            side(operands, "else"),
        )
    {
        return match literal(&condition) {
            Some(true) => then,
            Some(false) => otherwise,
            None => choose(&condition, &then, &otherwise),
        };
    }
    expr.clone()
}

/// Whether an expression is plainly false.
pub(super) fn is_never(expr: &Expr) -> bool {
    expr.get("Value").and_then(Value::as_bool) == Some(false)
}

/// Whether an expression can fail although it is well typed: sums and products run over.
pub(super) fn can_fail(expr: &Expr) -> bool {
    match expr {
        Value::Object(members) => members.iter().any(|(name, member)| {
            matches!(name.as_str(), "+" | "-" | "*" | "neg") || can_fail(member)
        }),
        Value::Array(items) => items.iter().any(can_fail),
        _ => false,
    }
}

/// A policy over an expression.
pub(super) fn policy(
    id: &str,
    permits: bool,
    action: &str,
    condition: &Expr,
) -> Result<Policy, ProofFailed> {
    let condition = regrouped(&folded(condition));
    let form = json!({
        "effect": if permits { "permit" } else { "forbid" },
        "principal": { "op": "All" },
        "action": { "op": "==", "entity": { "type": "Action", "id": action } },
        "resource": { "op": "All" },
        "conditions": [{ "kind": "when", "body": condition }],
    });
    Policy::from_json(Some(CedarId::new(id)), form)
        .map_err(|error| ProofFailed::NotCompiled(error.to_string()))
}
