//! The CapabilityStatement: what this sandbox, under its profile, really does.
//!
//! Written from the same tables that `operations` and `search` obey. Start at [`statement`].
//!
//! # Source
//! FHIR R4, CapabilityStatement, <https://hl7.org/fhir/R4/capabilitystatement.html>.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::definitions::{ParameterKind, RESOURCE_TYPES, ResourceType};
use crate::filing::OPERATION;
use crate::patching::JSON_PATCH;
use crate::profile::ServerProfile;

/// The statement for a profile; `token_url` is set when SMART Backend Services are required.
pub(crate) fn statement(
    profile: ServerProfile,
    base: &str,
    token_url: Option<&str>,
    now: Timestamp,
) -> Value {
    let resources: Vec<Value> = RESOURCE_TYPES
        .iter()
        .filter(|kind| profile.holds(kind.name))
        .map(|kind| resource(kind, profile))
        .collect();
    let mut rest = Map::new();
    rest.insert("mode".to_owned(), json!("server"));
    if let Some(token_url) = token_url {
        rest.insert("security".to_owned(), security(token_url));
    }
    rest.insert("resource".to_owned(), Value::Array(resources));
    if profile.takes_bundles() {
        rest.insert(
            "interaction".to_owned(),
            json!([{"code": "transaction"}, {"code": "batch"}]),
        );
    }
    if profile.files_entries() {
        let definition = "urn:chaperone:sandbox:file-entry";
        rest.insert(
            "operation".to_owned(),
            json!([{"name": OPERATION.trim_start_matches('$'), "definition": definition}]),
        );
    }
    let mut statement = json!({
        "resourceType": "CapabilityStatement",
        "id": "sandbox",
        "status": "active",
        "date": now.to_string(),
        "kind": "instance",
        "software": {"name": "Chaperone sandbox EHR", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {
            "description": format!("Sandbox EHR, profile {}, synthetic data only", profile.name()),
            "url": base,
        },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [rest],
    });
    if profile.patches()
        && let Some(members) = statement.as_object_mut()
    {
        members.insert("patchFormat".to_owned(), json!([JSON_PATCH]));
    }
    statement
}

fn security(token_url: &str) -> Value {
    json!({
        "extension": [{
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
            "extension": [{"url": "token", "valueUri": token_url}],
        }],
        "service": [{
            "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                "code": "SMART-on-FHIR",
            }],
        }],
    })
}

fn resource(kind: &ResourceType, profile: ServerProfile) -> Value {
    let mut codes = vec!["read"];
    if profile.shows_versions() {
        codes.extend(["vread", "history-instance"]);
    }
    codes.push("search-type");
    for (code, is_offered) in [
        ("create", profile.creates(kind.name)),
        ("update", profile.updates(kind.name)),
        ("patch", profile.patches()),
        ("delete", profile.deletes()),
    ] {
        codes.extend(is_offered.then_some(code));
    }
    let interaction: Vec<Value> = codes.iter().map(|code| json!({"code": code})).collect();
    let versioning = if !profile.shows_versions() {
        "no-version"
    } else if profile.honours_conditions() {
        "versioned-update"
    } else {
        "versioned"
    };
    let mut parameters = vec![
        json!({"name": "_id", "type": "token"}),
        json!({"name": "_lastUpdated", "type": "date"}),
    ];
    parameters.extend(kind.parameters.iter().map(|parameter| {
        let search_type = match parameter.kind {
            ParameterKind::Token => "token",
            ParameterKind::Date => "date",
            ParameterKind::Reference | ParameterKind::PatientReference => "reference",
            ParameterKind::Text => "string",
            ParameterKind::Uri => "uri",
        };
        json!({"name": parameter.name, "type": search_type})
    }));
    json!({
        "type": kind.name,
        "interaction": interaction,
        "versioning": versioning,
        "readHistory": profile.shows_versions(),
        "updateCreate": profile.updates(kind.name),
        "conditionalCreate": profile.honours_conditions(),
        "conditionalRead": "not-supported",
        "conditionalUpdate": false,
        "conditionalDelete": "not-supported",
        "searchParam": parameters,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(profile: ServerProfile) -> Value {
        statement(profile, "http://here/fhir", None, Timestamp::UNIX_EPOCH)
    }

    fn types(statement: &Value) -> Vec<&str> {
        statement["rest"][0]["resource"]
            .as_array()
            .unwrap()
            .iter()
            .map(|resource| resource["type"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn each_profile_claims_only_what_it_does() {
        let full = of(ServerProfile::Full);
        assert!(types(&full).contains(&"Provenance"));
        assert_eq!(full["rest"][0]["resource"][0]["conditionalCreate"], true);
        assert!(full["rest"][0]["interaction"].is_array());

        let plain = of(ServerProfile::Plain);
        assert!(!types(&plain).contains(&"Provenance"));
        assert_eq!(plain["rest"][0]["resource"][0]["conditionalCreate"], false);
        assert_eq!(plain["rest"][0]["resource"][0]["versioning"], "no-version");
        assert!(plain["rest"][0]["interaction"].is_null());

        let vendor = of(ServerProfile::Vendor).to_string();
        assert!(!vendor.contains("\"create\"") && vendor.contains("\"file-entry\""));
        let patching = of(ServerProfile::Patching);
        let codes = |name: &str| {
            let at = types(&patching).iter().position(|kind| *kind == name);
            patching["rest"][0]["resource"][at.unwrap()]["interaction"].to_string()
        };
        assert!(codes("Task").contains("patch") && !codes("Task").contains("update"));
        assert!(codes("Patient").contains("patch") && codes("Patient").contains("update"));
        assert!(full.to_string().contains("\"patch\""));
        for without in [
            &plain.to_string(),
            &vendor,
            &of(ServerProfile::Staged).to_string(),
        ] {
            assert!(!without.contains("\"patch\""));
        }

        let staged = of(ServerProfile::Staged);
        let orders = types(&staged)
            .iter()
            .position(|kind| *kind == "MedicationRequest")
            .unwrap();
        let orders = staged["rest"][0]["resource"][orders].to_string();
        assert!(orders.contains("\"create\"") && !orders.contains("\"update\""));

        let read_only = of(ServerProfile::ReadOnly).to_string();
        assert!(!read_only.contains("\"create\"") && !read_only.contains("\"delete\""));
    }
}
