//! Search parameters: what they are derived from, what they select, and who names them.
//!
//! Start at [`of_parameter`], [`selected`] and [`capabilities`]; [`generate`] makes the embedded list.
//!
//! Rules: <https://hl7.org/fhir/R4/searchparameter.html>.

use super::text;
use crate::catalogue::Catalogue;
use crate::definitions::Definitions;
use crate::fhirpath::{Expression, ParseErrorKind};
use crate::finding::id;
use crate::json::Value;
use crate::package::{Package, PackageReadError};
use crate::validate::{Report, quotable};

/// What the URLs of R4's search parameters begin with.
const R4_PREFIX: &str = "http://hl7.org/fhir/SearchParameter/";
/// R4's search parameters; see [`generate`].
const R4_LIST: &str = include_str!("../../definitions/r4-search-parameters.txt");
/// Most search parameters of a CapabilityStatement that are looked at.
const SEARCH_PARAMETERS_MAX: usize = 5_000;

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
pub(super) fn of_parameter(
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

/// The expression of a search parameter is FHIRPath, and its paths exist in the resources it is for.
pub(super) fn selected(
    definitions: &Definitions,
    resource: Value<'_>,
    expression: &str,
    report: &mut Report<'_>,
) {
    let (Some(at), Some(path)) = (resource.get("expression"), text(resource, "expression")) else {
        return;
    };
    let bases: Vec<&str> = resource
        .get("base")
        .into_iter()
        .flat_map(Value::children)
        .filter_map(Value::as_str)
        .filter(|it| definitions.is_resource_type(it))
        .collect();
    let wrong = match Expression::parse(path) {
        // Functions come with later versions of FHIRPath, and from servers of their own kind.
        Err(error) if matches!(error.kind, ParseErrorKind::UnknownFunction(_)) => None,
        Err(error) => Some(format!("the expression is not FHIRPath: {error}")),
        Ok(_) => alternatives(path)
            .find_map(|part| why_wrong(definitions, part, &bases))
            .map(|why| format!("the expression selects nothing: {why}")),
    };
    if let Some(message) = wrong {
        let expression = format!("{expression}.expression");
        report.error(id::DEFINITION_SEARCH_PARAMETER, at, expression, message);
    }
}

/// Why a path cannot be right for any of the resources that it may begin in.
fn why_wrong(definitions: &Definitions, path: &str, bases: &[&str]) -> Option<String> {
    let compiled = Expression::parse(path).ok()?;
    let start = path.trim_start_matches(['(', ' ']);
    let named = start
        .split(|it: char| !it.is_ascii_alphanumeric())
        .next()
        .filter(|it| definitions.is_resource_type(it));
    let roots: Vec<&str> = match named {
        // The path of another resource selects nothing here, and says nothing wrong either.
        Some(named) => bases.iter().copied().filter(|it| *it == named).collect(),
        None => bases.to_vec(),
    };
    let mut first = None;
    for root in roots {
        match compiled.check(definitions, root) {
            Ok(()) => return None,
            // Published parameters name choices as JSON does.
            Err(error) if error.is_json_name => return None,
            Err(error) => {
                first.get_or_insert(error.message);
            }
        }
    }
    first
}

/// The parts of an expression between `|`, outside of parentheses and texts.
fn alternatives(path: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut quote) = (0_u32, None);
    path.split(move |it| {
        match (it, quote) {
            (_, Some(open)) if it == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '`' | '"', None) => quote = Some(it),
            ('(', None) => depth += 1,
            (')', None) => depth = depth.saturating_sub(1),
            ('|', None) => return depth == 0,
            _ => {}
        }
        false
    })
    .map(str::trim)
}

/// The resources that are no DomainResource.
fn is_bare_resource(name: &str) -> bool {
    matches!(name, "Bundle" | "Binary" | "Parameters")
}

/// The type that a CapabilityStatement states for a search parameter is that of its definition.
pub(super) fn capabilities(
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
