//! The difference between two versions of a resource, leaf by leaf, for the reviewer.
//!
//! Items of lists are compared by their index. A Coding, Quantity or Reference that holds nothing unusual
//! is one leaf, so that a code shows with its display; any other content is taken apart to its primitives,
//! so that nothing changes unseen. Texts are shown as they are.
//! Start at [`diff`].

use serde_json::Value;

use super::concept::{coding, quantity, reference, text};

/// Deepest nesting that is taken apart; below it, JSON is compared as text.
const DEPTH_MAX: usize = 100;

/// What happened to a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiffKind {
    /// Only the new version has it.
    Added,
    /// Only the old version has it.
    Removed,
    /// Both have it, with different values.
    Changed,
}

/// One line of a difference.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DiffLine {
    /// Path of JSON names below the resource, such as `dosageInstruction[0].timing.repeat.frequency`.
    pub path: String,
    /// The old value in words.
    pub before: Option<String>,
    /// The new value in words.
    pub after: Option<String>,
    /// What happened.
    pub kind: DiffKind,
}

/// The leaves in which two versions differ, in the order of the new version; removed leaves follow
/// their neighbours. Without an old version every leaf is added.
#[must_use]
pub fn diff(before: Option<&Value>, after: &Value) -> Vec<DiffLine> {
    let mut lines = Vec::new();
    walk(before, Some(after), &mut String::new(), 0, &mut lines);
    lines
}

fn walk(
    before: Option<&Value>,
    after: Option<&Value>,
    path: &mut String,
    depth: usize,
    lines: &mut Vec<DiffLine>,
) {
    if before == after {
        return;
    }
    let is_branch = |value: Option<&Value>| value.is_none_or(|value| leaf(value, depth).is_none());
    if is_branch(before) && is_branch(after) {
        match (before, after) {
            (Some(Value::Array(_)) | None, Some(Value::Array(_)) | None) => {
                return items(before, after, path, depth, lines);
            }
            (Some(Value::Object(_)) | None, Some(Value::Object(_)) | None) => {
                return members(before, after, path, depth, lines);
            }
            _ => {}
        }
    }
    let shown = |value: Option<&Value>| {
        value.map(|value| leaf(value, depth).unwrap_or_else(|| value.to_string()))
    };
    let (before, after) = (shown(before), shown(after));
    let kind = match (&before, &after) {
        (None, _) => DiffKind::Added,
        (_, None) => DiffKind::Removed,
        _ => DiffKind::Changed,
    };
    lines.push(DiffLine {
        path: path.clone(),
        before,
        after,
        kind,
    });
}

fn items(
    before: Option<&Value>,
    after: Option<&Value>,
    path: &mut String,
    depth: usize,
    lines: &mut Vec<DiffLine>,
) {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).map_or(0, Vec::len);
    let length = path.len();
    for index in 0..list(before).max(list(after)) {
        path.push_str(&format!("[{index}]"));
        let old = before.and_then(|value| value.get(index));
        let new = after.and_then(|value| value.get(index));
        walk(old, new, path, depth + 1, lines);
        path.truncate(length);
    }
}

fn members(
    before: Option<&Value>,
    after: Option<&Value>,
    path: &mut String,
    depth: usize,
    lines: &mut Vec<DiffLine>,
) {
    let (before, after) = (
        before.and_then(Value::as_object),
        after.and_then(Value::as_object),
    );
    let new_keys = after.into_iter().flat_map(serde_json::Map::keys);
    let old_keys = before
        .into_iter()
        .flat_map(serde_json::Map::keys)
        .filter(|key| after.is_none_or(|after| !after.contains_key(*key)));
    let length = path.len();
    for key in new_keys.chain(old_keys) {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
        let old = before.and_then(|members| members.get(key));
        let new = after.and_then(|members| members.get(key));
        walk(old, new, path, depth + 1, lines);
        path.truncate(length);
    }
}

/// The words of a value that is shown as one; `None` if it must be taken apart.
fn leaf(value: &Value, depth: usize) -> Option<String> {
    match value {
        Value::Null => Some("null".to_owned()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        _ if depth >= DEPTH_MAX => Some(value.to_string()),
        Value::Array(items) => items.is_empty().then(|| "[]".to_owned()),
        Value::Object(members) => {
            let only = |names: &[&str]| members.keys().all(|key| names.contains(&key.as_str()));
            let texts = |names: &[&str]| {
                names
                    .iter()
                    .all(|name| members.get(*name).is_none_or(Value::is_string))
            };
            if members.is_empty() {
                Some("{}".to_owned())
            } else if members.contains_key("code")
                && only(&["system", "version", "code", "display"])
                && texts(&["system", "version", "code", "display"])
            {
                let version = text(value, "version").map(|version| format!(", version {version}"));
                Some(format!("{}{}", coding(value), version.unwrap_or_default()))
            } else if members.contains_key("value")
                && only(&["value", "comparator", "unit", "system", "code"])
                && texts(&["comparator", "unit", "system", "code"])
                && members.get("value").is_some_and(Value::is_number)
            {
                let code = text(value, "code").filter(|code| Some(*code) != text(value, "unit"));
                let system =
                    text(value, "system").filter(|system| *system != "http://unitsofmeasure.org");
                let extra: Vec<String> = code
                    .map(|it| format!("code {it}"))
                    .into_iter()
                    .chain(system.map(str::to_owned))
                    .collect();
                let extra = if extra.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", extra.join(", "))
                };
                Some(format!("{}{extra}", quantity(value)))
            } else if members.contains_key("reference")
                && only(&["reference", "display"])
                && texts(&["reference", "display"])
            {
                Some(reference(value))
            } else {
                None
            }
        }
    }
}
