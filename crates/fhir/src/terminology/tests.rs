//! Tests of value sets and bindings over small hand-written definitions: beside each code that is in,
//! the nearest one that is not.

mod bindings;
mod r4;
mod sets;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Membership, Terminology};
use crate::catalogue::Catalogue;

/// Animals: a hierarchy with an inactive, an abstract and a doubly placed code.
pub(super) fn animals() -> Value {
    json!({
        "resourceType": "CodeSystem", "url": "urn:animals", "version": "1", "content": "complete",
        "caseSensitive": true, "hierarchyMeaning": "is-a",
        "concept": [
            {"code": "animal", "display": "Animal", "property": [{"code": "notSelectable", "valueBoolean": true}],
             "concept": [
                {"code": "dog", "display": "Dog", "designation": [{"language": "de", "value": "Hund"}],
                 "property": [{"code": "legs", "valueInteger": 4}, {"code": "sound", "valueString": "woof"}],
                 "concept": [
                    {"code": "poodle", "display": "Poodle", "property": [{"code": "legs", "valueInteger": 4}]},
                    {"code": "dachshund", "display": "Dachshund", "property": [{"code": "legs", "valueInteger": 4}, {"code": "short", "valueBoolean": true}]}
                 ]},
                {"code": "bird", "display": "Bird", "property": [{"code": "legs", "valueInteger": 2}]},
                {"code": "dodo", "display": "Dodo", "property": [{"code": "status", "valueCode": "retired"}, {"code": "legs", "valueInteger": 2}]}
            ]},
            {"code": "penguin", "display": "Penguin", "property": [{"code": "parent", "valueCode": "bird"}, {"code": "subsumedBy", "valueCode": "swimmer"}]},
            {"code": "swimmer", "display": "Swimmer"}
        ]
    })
}

pub(super) fn terminology(resources: impl IntoIterator<Item = Value>) -> Terminology {
    let mut catalogue = Catalogue::new();
    for resource in resources {
        catalogue
            .add_resource("test.json", resource.to_string().as_bytes())
            .unwrap();
    }
    Terminology::new(Arc::new(catalogue))
}

pub(super) fn value_set(url: &str, compose: Value) -> Value {
    json!({"resourceType": "ValueSet", "url": url, "compose": compose})
}

/// `+code` is in, `-code` is out, `?code` cannot be decided; `system|code` for another system.
fn check(terminology: &Terminology, url: &str, cases: &str) {
    for case in cases.split_whitespace() {
        let (wanted, code) = case.split_at(1);
        let (system, code) = code.split_once('|').unwrap_or(("urn:animals", code));
        let found = match terminology.member_of(url, Some(system), code) {
            Membership::Member { .. } => "+",
            Membership::NotMember => "-",
            Membership::NotDecidable(_) => "?",
        };
        assert_eq!(found, wanted, "{url}: {system}|{code}");
    }
}
