//! Rules that conformance resources keep towards the definitions they refer to: what a SearchParameter is
//! derived from, which search parameters a CapabilityStatement names, which elements a profile constrains.
//!
//! Invariants and snapshots are not its business, and what is not at hand is not judged.
//! Start at [`check`].
//!
//! Rules: <https://hl7.org/fhir/R4/searchparameter.html>, <https://hl7.org/fhir/R4/capabilitystatement.html>,
//! <https://hl7.org/fhir/R4/profiling.html>.

use crate::catalogue::Catalogue;
use crate::definitions::Definitions;
use crate::finding::{Finding, id};
use crate::json::{Document, Value};
use crate::package::{Package, PackageReadError};
use crate::validate::{Report, each_resource, quotable};

/// What the URLs of R4's search parameters begin with.
const R4_PREFIX: &str = "http://hl7.org/fhir/SearchParameter/";
/// R4's search parameters; see [`generate`].
const R4_LIST: &str = include_str!("../definitions/r4-search-parameters.txt");
/// Most search parameters of a CapabilityStatement that are looked at.
const SEARCH_PARAMETERS_MAX: usize = 5_000;
/// Most elements of a differential that are looked at.
const ELEMENTS_MAX: usize = 5_000;

/// Checks every conformance resource of a document.
#[must_use]
pub fn check(
    definitions: &Definitions,
    catalogue: &Catalogue,
    document: &Document<'_>,
    findings_max: usize,
) -> Vec<Finding> {
    let mut report = Report::new(document, findings_max);
    each_resource(
        document,
        &[
            "SearchParameter",
            "CapabilityStatement",
            "StructureDefinition",
        ],
        &mut |resource, expression| match text(resource, "resourceType") {
            Some("SearchParameter") => {
                search_parameter(catalogue, resource, expression, &mut report);
            }
            Some("CapabilityStatement") => {
                capabilities(catalogue, resource, expression, &mut report);
            }
            _ => differential(definitions, resource, expression, &mut report),
        },
    );
    report.finish()
}

fn text<'d>(of: Value<'d>, name: &str) -> Option<&'d str> {
    of.get(name).and_then(Value::as_str)
}

/// What is known of a search parameter.
struct SearchParameter {
    kind: String,
    bases: Vec<String>,
}

impl SearchParameter {
    /// From the catalogue, or else from R4 core.
    fn find(catalogue: &Catalogue, url: &str) -> Option<Self> {
        if let Some(json) = catalogue.resource("SearchParameter", url) {
            let bases = json.get("base").and_then(serde_json::Value::as_array);
            return Some(Self {
                kind: json.get("type")?.as_str()?.to_owned(),
                bases: bases
                    .into_iter()
                    .flatten()
                    .filter_map(|it| it.as_str().map(str::to_owned))
                    .collect(),
            });
        }
        let (url, _) = crate::canonical::split_version(url);
        let name = url.strip_prefix(R4_PREFIX)?;
        // Few questions are asked, so the list is simply read.
        R4_LIST.lines().find_map(|line| {
            let mut words = line.split(' ');
            (words.next() == Some(name)).then_some(())?;
            Some(Self {
                kind: words.next()?.to_owned(),
                bases: words.next()?.split(',').map(str::to_owned).collect(),
            })
        })
    }
}

/// The search parameters of R4 core as they are embedded: one line each with name, type and bases.
///
/// # Errors
/// The package cannot be read, or a search parameter in it is not JSON.
pub fn generate(tgz: &[u8]) -> Result<String, GenerateError> {
    let package = Package::read(tgz, |name| name.starts_with("SearchParameter-"))?;
    let mut lines = Vec::new();
    for (name, text) in &package.files {
        let json: serde_json::Value =
            serde_json::from_slice(text).map_err(|source| GenerateError::Unreadable {
                file: name.clone(),
                source,
            })?;
        let member = |name: &str| json.get(name).and_then(serde_json::Value::as_str);
        let bases: Vec<&str> = json
            .get("base")
            .and_then(serde_json::Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_str)
            .collect();
        if let (Some(name), Some(kind)) = (
            member("url").and_then(|it| it.strip_prefix(R4_PREFIX)),
            member("type"),
        ) {
            lines.push(format!("{name} {kind} {}\n", bases.join(",")));
        }
    }
    lines.sort();
    Ok(lines.concat())
}

/// Why the list of search parameters could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The package cannot be read.
    #[error(transparent)]
    Package(#[from] PackageReadError),
    /// A search parameter cannot be read.
    #[error("`{file}` is not a search parameter that can be read")]
    Unreadable {
        /// The file in the package.
        file: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// A composite has parts; what is derived has the type and no more bases than its origin.
fn search_parameter(
    catalogue: &Catalogue,
    resource: Value<'_>,
    expression: &str,
    report: &mut Report<'_>,
) {
    let kind = text(resource, "type");
    let parts = resource
        .get("component")
        .map_or(0, |it| it.children().count());
    if kind == Some("composite") && parts < 2 {
        let message = "a composite search parameter needs at least two components".to_owned();
        report.error(
            id::DEFINITION_SEARCH_PARAMETER,
            resource,
            expression.to_owned(),
            message,
        );
    }
    let origin =
        text(resource, "derivedFrom").and_then(|url| SearchParameter::find(catalogue, url));
    let Some(origin) = origin else { return };
    if let (Some(own), Some(at)) = (kind, resource.get("type"))
        && own != origin.kind
    {
        let message = format!(
            "the search parameter that this is derived from has the type {}",
            origin.kind
        );
        let expression = format!("{expression}.type");
        report.error(id::DEFINITION_SEARCH_PARAMETER, at, expression, message);
    }
    let own = resource.get("base").into_iter().flat_map(Value::children);
    for (index, base) in own.enumerate() {
        let Some(name) = base.as_str() else { continue };
        let is_wider = |it: &String| {
            it == name || it == "Resource" || (it == "DomainResource" && !is_bare_resource(name))
        };
        if !origin.bases.iter().any(is_wider) {
            let message = format!(
                "the search parameter that this is derived from is not for {}",
                quotable(name)
            );
            let expression = format!("{expression}.base[{index}]");
            report.error(id::DEFINITION_SEARCH_PARAMETER, base, expression, message);
        }
    }
}

/// The resources that are no DomainResource.
fn is_bare_resource(name: &str) -> bool {
    matches!(name, "Bundle" | "Binary" | "Parameters")
}

/// The type that a CapabilityStatement states for a search parameter is that of its definition.
fn capabilities(
    catalogue: &Catalogue,
    resource: Value<'_>,
    expression: &str,
    report: &mut Report<'_>,
) {
    let mut looks = 0;
    let rests = resource.get("rest").into_iter().flat_map(Value::children);
    for (rest_index, rest) in rests.enumerate() {
        let served = rest.get("resource").into_iter().flat_map(Value::children);
        for (index, served) in served.enumerate() {
            let parameters = served
                .get("searchParam")
                .into_iter()
                .flat_map(Value::children);
            for (place, parameter) in parameters.enumerate() {
                let (Some(stated), Some(url)) =
                    (text(parameter, "type"), text(parameter, "definition"))
                else {
                    continue;
                };
                looks += 1;
                if looks > SEARCH_PARAMETERS_MAX {
                    return;
                }
                let defined = SearchParameter::find(catalogue, url);
                let defined = defined.as_ref().map(|it| it.kind.as_str());
                if let Some(defined) = defined
                    && defined != stated
                {
                    let message =
                        format!("the definition of this search parameter has the type {defined}");
                    let expression = format!(
                        "{expression}.rest[{rest_index}].resource[{index}].searchParam[{place}]"
                    );
                    report.error(
                        id::DEFINITION_SEARCH_PARAMETER,
                        parameter,
                        expression,
                        message,
                    );
                }
            }
        }
    }
}

/// The elements that a profile constrains exist in the type.
fn differential(
    definitions: &Definitions,
    resource: Value<'_>,
    expression: &str,
    report: &mut Report<'_>,
) {
    let Some(type_name) = text(resource, "type") else {
        return;
    };
    let is_profile = text(resource, "derivation") == Some("constraint");
    // What is not among R4's types is not judged.
    if !is_profile || definitions.element_type(type_name, "id").is_none() {
        return;
    }
    let elements = resource
        .get("differential")
        .and_then(|it| it.get("element"))
        .into_iter()
        .flat_map(Value::children);
    for (index, element) in elements.take(ELEMENTS_MAX).enumerate() {
        let Some(path) = text(element, "path") else {
            continue;
        };
        let (root, below) = path.split_once('.').unwrap_or((path, ""));
        let exists =
            root == type_name && (below.is_empty() || is_path(definitions, type_name, below));
        if !exists {
            let message = format!("{type_name} has no element `{}`", quotable(path));
            let expression = format!("{expression}.differential.element[{index}].path");
            let at = element.get("path").unwrap_or(element);
            report.error(id::DEFINITION_PATH, at, expression, message);
        }
    }
}

/// Whether the type has such an element, as far as the base definitions can tell.
fn is_path(definitions: &Definitions, type_name: &str, path: &str) -> bool {
    let ends = path
        .match_indices('.')
        .map(|(at, _)| at)
        .chain(std::iter::once(path.len()));
    for end in ends {
        let Some(info) = path
            .get(..end)
            .and_then(|it| definitions.element_type(type_name, it))
        else {
            return false;
        };
        // Below a choice, a primitive or a resource the base definitions say no more.
        let is_open = info.types.len() != 1
            || info
                .types
                .iter()
                .any(|it| it.is_primitive || it.code == "Resource");
        if is_open {
            return true;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::JsonLimits;

    fn found(text: &str) -> Vec<String> {
        let mut catalogue = Catalogue::new();
        let origin = r#"{"resourceType":"SearchParameter","url":"http://e.org/s","type":"token","base":["Patient","Group"]}"#;
        catalogue.add_resource("s", origin.as_bytes()).unwrap();
        let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
        check(Definitions::r4(), &catalogue, &document, 100)
            .iter()
            .map(|it| format!("{} {}", it.id, it.expression))
            .collect()
    }

    #[test]
    fn search_parameters_agree_with_their_origin() {
        let parameter = |rest: &str| {
            format!(r#"{{"resourceType":"SearchParameter","derivedFrom":"http://e.org/s",{rest}}}"#)
        };
        let part = r#"{"definition":"http://e.org/a","expression":"x"}"#;
        for (wrong, right, expected) in [
            (
                parameter(r#""type":"date","base":["Patient"]"#),
                parameter(r#""type":"token","base":["Patient"]"#),
                "definition.search-parameter SearchParameter.type",
            ),
            (
                parameter(r#""type":"token","base":["Patient","Device"]"#),
                parameter(r#""type":"token","base":["Group"]"#),
                "definition.search-parameter SearchParameter.base[1]",
            ),
            (
                format!(
                    r#"{{"resourceType":"SearchParameter","type":"composite","component":[{part}]}}"#
                ),
                format!(
                    r#"{{"resourceType":"SearchParameter","type":"composite","component":[{part},{part}]}}"#
                ),
                "definition.search-parameter SearchParameter",
            ),
        ] {
            assert_eq!(found(&wrong), [expected], "{wrong}");
            assert_eq!(found(&right), Vec::<String>::new(), "{right}");
        }
        let statement = |kind: &str| {
            format!(
                r#"{{"resourceType":"CapabilityStatement","rest":[{{"mode":"server","resource":[{{"type":"Patient","searchParam":[{{"name":"x","type":"string"}},{{"name":"s","definition":"http://e.org/s","type":"{kind}"}}]}}]}}]}}"#
            )
        };
        let of_core = |kind: &str| {
            let own = format!(r#""type":"{kind}","base":["Device"]"#);
            parameter(&own).replace(
                "e.org/s",
                "hl7.org/fhir/SearchParameter/Device-status|4.0.1",
            )
        };
        assert_eq!(found(&of_core("token")), Vec::<String>::new());
        assert_eq!(
            found(&of_core("date")),
            ["definition.search-parameter SearchParameter.type"]
        );
        assert_eq!(found(&statement("token")), Vec::<String>::new());
        assert_eq!(
            found(&statement("date")),
            ["definition.search-parameter CapabilityStatement.rest[0].resource[0].searchParam[1]"]
        );
    }

    #[test]
    fn profiles_constrain_elements_that_exist() {
        let profile = |derivation: &str, path: &str| {
            format!(
                r#"{{"resourceType":"StructureDefinition","type":"Observation","derivation":"{derivation}","differential":{{"element":[{{"path":"Observation"}},{{"path":"{path}"}}]}}}}"#
            )
        };
        for path in [
            "Observation.code",
            "Observation.code.coding.code",
            "Observation.value[x]",
            "Observation.valueQuantity.value",
            "Observation.value[x].coding",
            "Observation.component.referenceRange.low",
            "Observation.status.extension.value[x]",
            "Observation.contained.anything",
            "Observation.extension.url",
        ] {
            assert_eq!(
                found(&profile("constraint", path)),
                Vec::<String>::new(),
                "{path}"
            );
        }
        for path in [
            "Observation.valueBla",
            "Observation...unit",
            "Observation.code.cod",
            "Patient.name",
        ] {
            assert_eq!(
                found(&profile("constraint", path)),
                ["definition.path StructureDefinition.differential.element[1].path"],
                "{path}"
            );
            assert_eq!(
                found(&profile("specialization", path)),
                Vec::<String>::new()
            );
        }
    }
}
