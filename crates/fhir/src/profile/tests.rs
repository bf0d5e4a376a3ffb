//! Tests of conformance to profiles, with small profiles written for them over R4 core.
//!
//! Each case names the errors that a resource must give; beside each right resource stands its nearest wrong
//! neighbour. Start at [`Case`].

mod base;
mod extensions;
mod references;
mod slicing;
mod values;

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::catalogue::Catalogue;
use crate::validator::{Request, Supporting, Validator, ValidatorOptions};

/// Where the profiles of these tests are.
const URL: &str = "http://example.org/StructureDefinition/";

/// A profile called `name` on a type of R4 (or on another profile of the tests), by its differential.
fn profile(name: &str, type_name: &str, elements: &Json) -> Json {
    derived(
        name,
        type_name,
        &format!("http://hl7.org/fhir/StructureDefinition/{type_name}"),
        elements,
    )
}

fn derived(name: &str, type_name: &str, base: &str, elements: &Json) -> Json {
    json!({
        "resourceType": "StructureDefinition", "url": format!("{URL}{name}"), "name": name,
        "status": "active", "kind": "resource", "abstract": false, "type": type_name,
        "baseDefinition": base, "derivation": "constraint", "differential": {"element": elements},
    })
}

/// A resource with narrative, which claims a profile of the tests.
fn claims(name: &str, resource: &Json) -> Json {
    let mut resource = resource.clone();
    resource["meta"] = json!({"profile": [format!("{URL}{name}")]});
    resource
}

/// Definitions, and how texts are checked against them.
struct Case {
    validator: Validator,
}

impl Case {
    fn of(definitions: &[Json]) -> Self {
        Self::with(definitions, ValidatorOptions::default())
    }

    fn with(definitions: &[Json], options: ValidatorOptions) -> Self {
        let mut catalogue = Catalogue::with_base(Catalogue::r4());
        for definition in definitions {
            catalogue
                .add_resource("test", definition.to_string().as_bytes())
                .unwrap();
        }
        Self {
            validator: Validator::new(Arc::new(catalogue), options),
        }
    }

    /// The errors on a resource, each as `id expression`.
    fn errors(&self, resource: &Json, supporting: Option<&dyn Supporting>) -> Vec<String> {
        let request = Request {
            supporting,
            ..Request::default()
        };
        self.validator
            .validate(resource.to_string().as_bytes(), &request)
            .findings
            .into_iter()
            .filter(|it| it.severity.is_error())
            .map(|it| format!("{} {}", it.id, it.expression))
            .collect()
    }

    /// The resource gives exactly these errors.
    #[track_caller]
    fn gives(&self, resource: &Json, expected: &[&str]) {
        assert_eq!(self.errors(resource, None), expected, "{resource}");
    }

    /// The same for several resources.
    #[track_caller]
    fn give(&self, cases: &[(Json, &[&str])]) {
        for (resource, expected) in cases {
            self.gives(resource, expected);
        }
    }
}

/// An element that is sliced.
fn sliced(path: &str, kind: &str, by: &str, rules: &str, ordered: bool) -> Json {
    json!({"id": path, "path": path, "slicing": {
        "discriminator": [{"type": kind, "path": by}], "rules": rules, "ordered": ordered}})
}

/// A slice of an element.
fn slice(path: &str, name: &str, min: u32, max: &str) -> Json {
    json!({"id": format!("{path}:{name}"), "path": path, "sliceName": name, "min": min, "max": max})
}
