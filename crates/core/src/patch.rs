//! How an update travels as a patch: JSON Patch from the base as it was read to the body that was approved.
//!
//! Not here: when an update goes as one ([`InteractionSupport::patch`](crate::ports::InteractionSupport::patch)), or
//! how it is sent. A patch says nothing new: applied to its base it gives its body, and nothing else is sent
//! ([`check`]).
//!
//! # Source
//! RFC 6902; RFC 6901 for the paths in it; FHIR R4, RESTful API, "patch".

use std::collections::BTreeMap;

use json_patch::jsonptr::{Pointer, PointerBuf};
use json_patch::{Patch, PatchOperation, TestOperation, diff, patch_unsafe};
use serde_json::Value;

use crate::content::with_assigned;

/// The media type.
pub const JSON_PATCH: &str = "application/json-patch+json";

/// Why a patch does not stand for its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatchUnfit {
    /// Base or body is not JSON.
    #[error("base or body is not JSON")]
    Resource,
    /// It is no JSON Patch, or one that could be read in more than one way: with members that nobody reads, a member
    /// twice, or another spelling than the one that is written here.
    #[error("the patch is not written as patches are written here")]
    Spelling,
    /// It moves or copies; the ones that are made here never do.
    #[error("the patch moves or copies")]
    Operation,
    /// It cannot be applied to the base.
    #[error("the patch cannot be applied to its base")]
    Base,
    /// It makes something else of the base.
    #[error("the patch does not make its body of its base")]
    Body,
}

/// The patch from a base, as read, to a body; `None` where the texts are not JSON, or no patch passes [`check`].
///
/// What the server assigns (`id`, `meta.versionId` and the like) is left alone, whatever the body says of it.
/// Before anything is changed, each entry of a list that is changed or taken out is tested to be what was read: its
/// place is a number, and a server that holds entries or elements it does not show would change another thing than the
/// one that was meant. Elements with names need no test beside the version that the patch is sent with.
pub fn between(base: &str, body: &str) -> Option<String> {
    let (base_value, body_value) = read(base, body).ok()?;
    let target = with_assigned(&body_value, &base_value);
    let changes = diff(&base_value, &target);
    let mut operations = tests(&base_value, &changes);
    operations.extend(changes.0);
    let patch = serde_json::to_string(&Patch(operations)).ok()?;
    check(&patch, base, body).is_ok().then_some(patch)
}

/// Whether a patch, applied to its base, gives its body, with what the server assigns as the base has it.
///
/// # Errors
/// [`PatchUnfit`] says what is wrong with it.
pub fn check(patch: &str, base: &str, body: &str) -> Result<(), PatchUnfit> {
    let (base, body) = read(base, body)?;
    let parsed: Patch = serde_json::from_str(patch).map_err(|_| PatchUnfit::Spelling)?;
    if !serde_json::to_string(&parsed).is_ok_and(|written| written == patch) {
        return Err(PatchUnfit::Spelling);
    }
    let moves = |operation: &PatchOperation| {
        matches!(operation, PatchOperation::Move(_) | PatchOperation::Copy(_))
    };
    if parsed.iter().any(moves) {
        return Err(PatchUnfit::Operation);
    }
    let mut patched = base.clone();
    patch_unsafe(&mut patched, &parsed).map_err(|_| PatchUnfit::Base)?;
    if patched == with_assigned(&body, &base) {
        Ok(())
    } else {
        Err(PatchUnfit::Body)
    }
}

fn read(base: &str, body: &str) -> Result<(Value, Value), PatchUnfit> {
    let value = |text| serde_json::from_str(text).map_err(|_| PatchUnfit::Resource);
    Ok((value(base)?, value(body)?))
}

/// A test for each entry of a list that the changes touch, in the places of the base.
fn tests(base: &Value, changes: &Patch) -> Vec<PatchOperation> {
    let mut tested: BTreeMap<String, PatchOperation> = BTreeMap::new();
    let mut removed: BTreeMap<&str, usize> = BTreeMap::new();
    for change in changes.iter() {
        let path = change.path();
        // A list that becomes shorter has the same place taken out again and again.
        let mut before = 0;
        if matches!(change, PatchOperation::Remove(_)) {
            let times = removed.entry(path.as_str()).or_default();
            before = *times;
            *times += 1;
        }
        if let Some((path, entry)) = list_entry(base, path, before) {
            let value = entry.clone();
            tested.insert(
                path.to_string(),
                PatchOperation::Test(TestOperation { path, value }),
            );
        }
    }
    tested.into_values().collect()
}

/// The entry of the outermost list on a path, if the base has one there. `before` are the entries of the last list on
/// the path that were taken out at this place before.
fn list_entry<'a>(
    base: &'a Value,
    path: &Pointer,
    before: usize,
) -> Option<(PointerBuf, &'a Value)> {
    let mut at = base;
    let mut place = PointerBuf::new();
    let mut tokens = path.tokens().peekable();
    while let Some(token) = tokens.next() {
        match at {
            Value::Array(entries) => {
                let taken = if tokens.peek().is_none() { before } else { 0 };
                let index = token.decoded().parse::<usize>().ok()?.checked_add(taken)?;
                let entry = entries.get(index)?;
                place.push_back(index);
                return Some((place, entry));
            }
            Value::Object(members) => {
                at = members.get(token.decoded().as_ref())?;
                place.push_back(token);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn base() -> Value {
        json!({
            "resourceType": "Task", "id": "t1",
            "meta": { "versionId": "3", "lastUpdated": "2026-03-02T15:00:00Z", "source": "#a",
                      "security": [{ "code": "R" }] },
            "text": { "status": "generated", "div": "<div/>" },
            "status": "requested",
            "note": [{ "text": "one" }, { "text": "two" }, { "text": "three" }],
            "input": [{ "type": { "text": "a" }, "valueString": "x" }],
        })
    }

    fn made(body: &Value) -> Value {
        let patch = between(&base().to_string(), &body.to_string()).unwrap();
        serde_json::from_str(&patch).unwrap()
    }

    /// The body as it is merged: without narrative, version and time.
    fn merged(change: impl FnOnce(&mut Value)) -> Value {
        let mut body = base();
        body["meta"] = json!({ "security": [{ "code": "R" }] });
        body.as_object_mut().unwrap().remove("text");
        change(&mut body);
        body
    }

    #[test]
    fn only_what_changes_is_in_a_patch_and_what_the_server_assigns_never_is() {
        let body = merged(|body| body["status"] = json!("cancelled"));
        assert_eq!(
            made(&body),
            json!([
                { "op": "replace", "path": "/status", "value": "cancelled" },
                { "op": "remove", "path": "/text" },
            ])
        );
        // A body that says something of it is not listened to.
        let says = merged(|body| {
            body["status"] = json!("cancelled");
            body["meta"]["versionId"] = json!("9");
        });
        assert_eq!(made(&says), made(&body));
    }

    #[test]
    fn entries_of_lists_are_tested_to_be_what_was_read() {
        let shorter = merged(|body| body["note"] = json!([{ "text": "one" }]));
        assert_eq!(
            made(&shorter),
            json!([
                { "op": "test", "path": "/note/1", "value": { "text": "two" } },
                { "op": "test", "path": "/note/2", "value": { "text": "three" } },
                { "op": "remove", "path": "/note/1" },
                { "op": "remove", "path": "/note/1" },
                { "op": "remove", "path": "/text" },
            ])
        );
        let within = merged(|body| body["input"][0]["type"]["text"] = json!("b"));
        assert_eq!(
            made(&within),
            json!([
                { "op": "test", "path": "/input/0",
                  "value": { "type": { "text": "a" }, "valueString": "x" } },
                { "op": "replace", "path": "/input/0/type/text", "value": "b" },
                { "op": "remove", "path": "/text" },
            ])
        );
        // What is added at the end rests on no other entry.
        let longer = merged(|body| {
            let notes = body["note"].as_array_mut().unwrap();
            notes.push(json!({ "text": "four" }));
        });
        assert_eq!(
            made(&longer),
            json!([
                { "op": "add", "path": "/note/3", "value": { "text": "four" } },
                { "op": "remove", "path": "/text" },
            ])
        );
    }

    #[test]
    fn a_patch_stands_for_its_base_and_body_alone() {
        let body = merged(|body| body["status"] = json!("cancelled"));
        let (base, body) = (base().to_string(), body.to_string());
        let good = between(&base, &body).unwrap();
        assert_eq!(check(&good, &base, &body), Ok(()));
        let says = |patch: &str| check(patch, &base, &body);
        let more = good.replace(
            "[{",
            r#"[{"op":"replace","path":"/note/0/text","value":"x"},{"#,
        );
        assert_eq!(says(&more), Err(PatchUnfit::Body));
        let other = good.replace("cancelled", "completed");
        assert_eq!(says(&other), Err(PatchUnfit::Body));
        let less = r#"[{"op":"remove","path":"/text"}]"#;
        assert_eq!(says(less), Err(PatchUnfit::Body));
        assert_eq!(says("[]"), Err(PatchUnfit::Body));
        let version = good.replace(
            "[{",
            r#"[{"op":"replace","path":"/meta/versionId","value":"4"},{"#,
        );
        assert_eq!(says(&version), Err(PatchUnfit::Body));
        let nowhere = good.replace("/status", "/nowhere");
        assert_eq!(says(&nowhere), Err(PatchUnfit::Base));
        let moving = r#"[{"op":"move","from":"/text","path":"/status"}]"#;
        assert_eq!(says(moving), Err(PatchUnfit::Operation));
        let copying = r#"[{"op":"copy","from":"/text","path":"/status"}]"#;
        assert_eq!(says(copying), Err(PatchUnfit::Operation));
        assert_eq!(check(&good, "{", &body), Err(PatchUnfit::Resource));
        // The same, in a spelling that somebody else might read otherwise.
        for spelling in [
            good.replace("[{", "[ {"),
            good.replace(r#""path":"/status""#, r#""path":"/text","path":"/status""#),
            good.replace(r#""value":"cancelled""#, r#""value":"cancelled","x":1"#),
            good.replacen("replace", "Replace", 1),
            "{}".to_owned(),
            String::new(),
        ] {
            assert_eq!(says(&spelling), Err(PatchUnfit::Spelling), "{spelling}");
        }
    }

    #[test]
    fn names_with_slashes_and_tildes_are_names() {
        let base = json!({ "a/b": { "~c": 1, "": [1, 2] } }).to_string();
        let body = json!({ "a/b": { "~c": 2, "": [1, 3] } }).to_string();
        assert!(between(&base, &body).is_some());
    }

    fn resource() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-5_i32..5).prop_map(Value::from),
            "[ab/~]{0,2}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(4, 48, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab/~0]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        });
        let name = prop_oneof!["[a-c]", Just("meta".to_owned()), Just("id".to_owned())];
        prop::collection::btree_map(name, value, 0..5)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn a_patch_makes_its_body_of_its_base(base in resource(), body in resource()) {
            let (base, body) = (base.to_string(), body.to_string());
            let patch = between(&base, &body).unwrap();
            prop_assert_eq!(check(&patch, &base, &body), Ok(()));
        }

        #[test]
        fn another_body_has_another_patch(base in resource(), body in resource(), other in resource()) {
            let same = with_assigned(&body, &base) == with_assigned(&other, &base);
            let (base, body) = (base.to_string(), body.to_string());
            let patch = between(&base, &body).unwrap();
            prop_assert_eq!(check(&patch, &base, &other.to_string()).is_ok(), same);
        }
    }
}
