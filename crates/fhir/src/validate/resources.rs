//! Finds the resources of given types in a document, wherever resources may stand: at the root, in entries
//! of Bundles, in Parameters, and contained.
//!
//! Start at [`each_resource`].

use crate::json::{Document, Value};

/// Deepest nesting of resources that is followed.
const NESTED_MAX: usize = 16;

/// Calls with every resource of one of the types and its path, a resource before those within it.
pub(crate) fn each_resource<'d>(
    document: &'d Document<'_>,
    types: &[&str],
    visit: &mut dyn FnMut(Value<'d>, &str),
) {
    let root = document.root();
    if let Some(name) = type_of(root) {
        follow(root, name, types, 0, visit);
    }
}

fn type_of(resource: Value<'_>) -> Option<&str> {
    resource.get("resourceType").and_then(Value::as_str)
}

fn follow<'d>(
    resource: Value<'d>,
    expression: &str,
    types: &[&str],
    depth: usize,
    visit: &mut dyn FnMut(Value<'d>, &str),
) {
    if depth > NESTED_MAX {
        return;
    }
    let name = type_of(resource);
    if name.is_some_and(|it| types.contains(&it)) {
        visit(resource, expression);
    }
    let list = match name {
        Some("Bundle") => Some("entry"),
        Some("Parameters") => Some("parameter"),
        _ => None,
    };
    if let Some(list_name) = list
        && let Some(list) = resource.get(list_name)
    {
        for (index, item) in list.children().enumerate() {
            if let Some(inside) = item.get("resource")
                && is_wanted(inside, types)
            {
                let expression = format!("{expression}.{list_name}[{index}].resource");
                follow(inside, &expression, types, depth + 1, visit);
            }
        }
    }
    let contained = resource
        .get("contained")
        .into_iter()
        .flat_map(Value::children);
    for (index, item) in contained.enumerate() {
        if is_wanted(item, types) {
            let expression = format!("{expression}.contained[{index}]");
            follow(item, &expression, types, depth + 1, visit);
        }
    }
}

/// Whether the resource is wanted or may hold one that is; nothing is allocated for the others.
fn is_wanted(resource: Value<'_>, types: &[&str]) -> bool {
    resource.children().any(|member| match member.key() {
        Some("contained") => true,
        Some("resourceType") => member
            .as_str()
            .is_some_and(|it| matches!(it, "Bundle" | "Parameters") || types.contains(&it)),
        _ => false,
    })
}
