//! Reading a policy's own expression: what it compares, what it looks at.
//!
//! Works on Cedar's JSON form, where an expression is an object with one operator as its key.

use std::collections::BTreeSet;

use serde_json::Value;

/// Whether an expression reads `context.<attribute>`, or asks whether it is there.
pub(crate) fn reads_context(policy: &Value, attribute: &str) -> bool {
    any(policy, &|operator, operands| {
        matches!(operator, "." | "has")
            && operands.pointer("/left/Var").and_then(Value::as_str) == Some("context")
            && operands.get("attr").and_then(Value::as_str) == Some(attribute)
    })
}

/// Whether an expression matches text against a wildcard pattern.
pub(crate) fn uses_patterns(policy: &Value) -> bool {
    any(policy, &|operator, _| operator == "like")
}

fn any(value: &Value, test: &dyn Fn(&str, &Value) -> bool) -> bool {
    match value {
        Value::Object(members) => members
            .iter()
            .any(|(name, member)| test(name, member) || any(member, test)),
        Value::Array(items) => items.iter().any(|item| any(item, test)),
        _ => false,
    }
}

/// The texts that a policy's `when` conditions compare `<variable>.<attribute>` with, in order and
/// without those under a negation.
pub(crate) fn compared(policy: &Value, variable: &str, attribute: &str) -> Vec<String> {
    let mut found = Vec::new();
    for body in when_bodies(policy) {
        collect(body, variable, attribute, &mut found);
    }
    found
}

/// The entity types that a policy's `when` conditions allow, in order.
pub(crate) fn entity_types(policy: &Value) -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (operator, operands) in members {
                    match operator.as_str() {
                        "!" => {}
                        "is" => found.extend(
                            operands
                                .get("entity_type")
                                .and_then(Value::as_str)
                                .map(str::to_owned),
                        ),
                        _ => walk(operands, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for body in when_bodies(policy) {
        walk(body, &mut found);
    }
    found
}

/// The types of resource outside of which a policy cannot apply; `None` when it may apply to any.
///
/// Read off its `when` conditions, which must all hold: `resource is A` confines to A, a conjunction to what both of
/// its sides allow, a disjunction to what either does. Everything else confines to nothing.
pub(crate) fn confined_to(policy: &Value) -> Option<BTreeSet<String>> {
    when_bodies(policy)
        .map(confines)
        .reduce(both)
        .unwrap_or_default()
}

fn confines(condition: &Value) -> Option<BTreeSet<String>> {
    let (operator, operands) = condition.as_object()?.iter().next()?;
    let side = |name| operands.get(name).and_then(confines);
    match operator.as_str() {
        "is" if operands.pointer("/left/Var").and_then(Value::as_str) == Some("resource") => {
            let name = operands.get("entity_type")?.as_str()?;
            Some([name.to_owned()].into())
        }
        "&&" => both(side("left"), side("right")),
        "||" => {
            let (mut left, right) = (side("left")?, side("right")?);
            left.extend(right);
            Some(left)
        }
        _ => None,
    }
}

fn both(
    one: Option<BTreeSet<String>>,
    other: Option<BTreeSet<String>>,
) -> Option<BTreeSet<String>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.intersection(&other).cloned().collect()),
        (one, other) => one.or(other),
    }
}

fn when_bodies(policy: &Value) -> impl Iterator<Item = &Value> {
    policy
        .get("conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|condition| condition.get("kind").and_then(Value::as_str) == Some("when"))
        .filter_map(|condition| condition.get("body"))
}

fn collect(value: &Value, variable: &str, attribute: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (operator, operands) in members {
                match operator.as_str() {
                    "!" | "!=" => {}
                    "==" | "contains" | "containsAny" | "containsAll" => {
                        let sides = [operands.get("left"), operands.get("right")];
                        match sides {
                            [Some(left), Some(right)]
                                if is_attribute(left, variable, attribute) =>
                            {
                                literals(right, found);
                            }
                            [Some(left), Some(right)]
                                if is_attribute(right, variable, attribute) =>
                            {
                                literals(left, found);
                            }
                            _ => collect(operands, variable, attribute, found),
                        }
                    }
                    _ => collect(operands, variable, attribute, found),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                collect(item, variable, attribute, found);
            }
        }
        _ => {}
    }
}

fn is_attribute(value: &Value, variable: &str, attribute: &str) -> bool {
    value.pointer("/./left/Var").and_then(Value::as_str) == Some(variable)
        && value.pointer("/./attr").and_then(Value::as_str) == Some(attribute)
}

fn literals(value: &Value, found: &mut Vec<String>) {
    let mut push = |text: &str| {
        if !found.iter().any(|known| known == text) {
            found.push(text.to_owned());
        }
    };
    if let Some(text) = value.get("Value").and_then(Value::as_str) {
        push(text);
    }
    for item in value
        .get("Set")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let Some(text) = item.get("Value").and_then(Value::as_str) {
            push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    fn est(text: &str) -> Value {
        Policy::parse(None, text).unwrap().to_json().unwrap()
    }

    #[test]
    fn comparisons_are_found_and_negations_are_not() {
        let policy = est(r#"permit (principal, action, resource)
            when { ["a", "b"].contains(context.intent) && resource.to == "booked"
                && resource.from != "booked" && !(resource.to == "cancelled")
                && (resource is Claim || resource is Account) }
            unless { resource.to == "noshow" };"#);
        assert_eq!(compared(&policy, "context", "intent"), ["a", "b"]);
        assert_eq!(compared(&policy, "resource", "to"), ["booked"]);
        assert!(compared(&policy, "resource", "from").is_empty());
        assert_eq!(entity_types(&policy), ["Claim", "Account"]);
    }

    #[test]
    fn a_policy_is_confined_only_by_what_must_hold() {
        let confined = |conditions: &str| {
            let policy = est(&format!(
                "permit (principal, action, resource) {conditions};"
            ));
            confined_to(&policy).map(|types| types.into_iter().collect::<Vec<_>>().join(" "))
        };
        for (conditions, types) in [
            ("when { resource is A }", Some("A")),
            (
                "when { (resource is A || resource is B) && resource.to == \"x\" }",
                Some("A B"),
            ),
            (
                "when { resource.to == \"x\" && (resource is B || resource is A) }",
                Some("A B"),
            ),
            (
                "when { resource is A || resource is B } when { resource is B }",
                Some("B"),
            ),
            (
                "when { resource.to == \"x\" } when { resource is A }",
                Some("A"),
            ),
            ("when { resource is A && resource is B }", Some("")),
            ("when { resource is A || resource.to == \"x\" }", None),
            ("when { resource.to == \"x\" }", None),
            ("when { !(resource is A) }", None),
            ("when { principal is A }", None),
            ("when { if resource is A then true else false }", None),
            ("unless { resource is A }", None),
            ("", None),
        ] {
            assert_eq!(confined(conditions).as_deref(), types, "{conditions}");
        }
    }

    #[test]
    fn claims_and_patterns_are_found_anywhere() {
        let reads = |text: &str| reads_context(&est(text), "claimed");
        assert!(reads(
            r#"permit (principal, action, resource) when { context.claimed.x };"#
        ));
        assert!(reads(
            r#"permit (principal, action, resource) unless { context has claimed };"#
        ));
        assert!(reads(
            r#"permit (principal, action, resource) when { if true then context["claimed"].x else false };"#
        ));
        assert!(!reads(
            r#"permit (principal, action, resource) when { context.facts.claimed };"#
        ));
        assert!(uses_patterns(&est(
            r#"permit (principal, action, resource) when { resource.to like "*" };"#
        )));
    }
}
