//! References: their forms, where they stand, and to which patient they tie a resource.
//!
//! [`in_patient_compartment`] is the check that every resource read for a patient must pass.
//! It trusts nothing it cannot decide: an element that could name a patient and does not plainly name
//! this one makes the resource foreign.
//! Nothing is resolved or fetched. Start at [`in_patient_compartment`]; [`stray_references`] is its
//! counterpart for writes.

mod form;

use serde_json::Value;

pub use form::ReferenceForm;

use crate::definitions::{Definitions, LinkKind};

/// Deepest nesting that is searched; readers refuse deeper text long before.
const DEPTH_MAX: usize = 200;
/// Path reported when nesting was too deep to be searched.
const TOO_DEEP: &str = "(nested too deep to be searched)";

/// A reference found in a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundReference {
    /// Path below the resource, such as `participant[0].actor`.
    pub path: String,
    /// The text of `reference`.
    pub reference: String,
}

/// The patient that resources are checked against.
#[derive(Clone, Copy, Debug)]
pub struct PatientRef<'a> {
    /// Logical id at the EHR.
    pub id: &'a str,
    /// Base URL of the EHR's FHIR endpoint, such as `https://ehr.example/fhir`; absolute references to
    /// the patient must start with it.
    pub base_url: &'a str,
}

/// Whether a resource belongs to a patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// At least one linking element names this patient, and none names another or is unclear.
    Member,
    /// Something names another patient, or cannot be decided.
    Foreign {
        /// Where, below the resource.
        path: String,
    },
    /// No linking element names any patient.
    NoPatient,
}

/// An element that ties a resource to a patient, or might.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatientLink {
    /// Path below the resource.
    pub path: String,
    /// The text of `reference`; `None` if only an identifier or nothing is given.
    pub reference: Option<String>,
    /// How it ties; `None` for a reference to a patient outside the linking elements.
    pub kind: Option<LinkKind>,
}

/// What one reference says about a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    This,
    Other,
    NotAPatient,
    Undecided,
}

/// All references of a resource at any depth, with contained resources and extensions, in document order.
#[must_use]
pub fn references(resource: &Value) -> Vec<FoundReference> {
    let mut found = Vec::new();
    collect(resource, &mut String::new(), 0, &mut |path, object| {
        if let Some(reference) = object.get("reference").and_then(Value::as_str) {
            found.push(FoundReference {
                path: path.to_owned(),
                reference: reference.to_owned(),
            });
        }
    });
    found
}

/// Visits every object that looks like a Reference. Answers false if something was nested too deep.
fn collect(
    value: &Value,
    path: &mut String,
    depth: usize,
    visit: &mut dyn FnMut(&str, &Value),
) -> bool {
    if depth > DEPTH_MAX {
        return false;
    }
    let length = path.len();
    let mut is_whole = true;
    match value {
        Value::Object(members) => {
            if members.get("reference").is_some_and(Value::is_string) {
                visit(path, value);
            }
            for (key, member) in members {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
                is_whole &= collect(member, path, depth + 1, visit);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                is_whole &= collect(item, path, depth + 1, visit);
                path.truncate(length);
            }
        }
        _ => {}
    }
    is_whole
}

/// The elements that tie a resource to patients: every linking element that is filled, and every
/// other reference that names a patient.
///
/// # Source
/// R4 CompartmentDefinition/patient with its search parameters, and the top-level elements named
/// `subject`, `patient`, `for`, `beneficiary` or `individual` that may name a patient.
#[must_use]
pub fn patient_references(definitions: &Definitions, resource: &Value) -> Vec<PatientLink> {
    let mut links: Vec<PatientLink> = linking_elements(definitions, resource)
        .into_iter()
        .map(|(path, element, kind)| PatientLink {
            path,
            reference: element
                .get("reference")
                .and_then(Value::as_str)
                .map(str::to_owned),
            kind: Some(kind),
        })
        .collect();
    for found in references(resource) {
        let names_patient = matches!(
            ReferenceForm::parse(&found.reference),
            ReferenceForm::Typed {
                resource_type: "Patient",
                ..
            } | ReferenceForm::Conditional {
                resource_type: "Patient",
                ..
            }
        );
        if names_patient && !links.iter().any(|link| link.path == found.path) {
            links.push(PatientLink {
                path: found.path,
                reference: Some(found.reference),
                kind: None,
            });
        }
    }
    links
}

/// Filled linking elements of a resource, with their paths.
fn linking_elements<'v>(
    definitions: &Definitions,
    resource: &'v Value,
) -> Vec<(String, &'v Value, LinkKind)> {
    let type_name = resource
        .get("resourceType")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let Some(index) = definitions.resource_index(type_name) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for link in definitions.compartment_links(index) {
        follow(
            resource,
            definitions.text(link.path),
            String::new(),
            &mut |path, element| {
                found.push((path, element, link.kind));
            },
        );
    }
    found
}

/// Follows a dotted path through objects and lists.
fn follow<'v>(value: &'v Value, path: &str, at: String, visit: &mut dyn FnMut(String, &'v Value)) {
    if let Value::Array(items) = value {
        for (index, item) in items.iter().enumerate() {
            follow(item, path, format!("{at}[{index}]"), visit);
        }
        return;
    }
    if path.is_empty() {
        visit(at, value);
        return;
    }
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    if let Some(member) = value.get(first) {
        let at = if at.is_empty() {
            first.to_owned()
        } else {
            format!("{at}.{first}")
        };
        follow(member, rest, at, visit);
    }
}

/// Whether the resource belongs to the patient.
///
/// A Patient belongs to itself by id alone. A contained Patient makes any resource foreign, because
/// nobody can say which patient it is; so do `urn:` and conditional references in a linking element.
/// A Bundle or Parameters is never a member: judge the resources in it.
///
/// # Source
/// R4 CompartmentDefinition/patient; requirements R003 and R028.
#[must_use]
pub fn in_patient_compartment(
    definitions: &Definitions,
    resource: &Value,
    patient: &PatientRef<'_>,
) -> Membership {
    let foreign = |path: &str| Membership::Foreign {
        path: path.to_owned(),
    };
    let type_name = resource
        .get("resourceType")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !definitions.is_resource_type(type_name) || matches!(type_name, "Bundle" | "Parameters") {
        return foreign("resourceType");
    }
    for (index, contained) in resource
        .get("contained")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        if contained.get("resourceType").and_then(Value::as_str) == Some("Patient") {
            return Membership::Foreign {
                path: format!("contained[{index}]"),
            };
        }
        for (path, element, kind) in linking_elements(definitions, contained) {
            if matches!(
                judge(definitions, resource, element, kind, patient),
                Named::Other | Named::Undecided
            ) {
                return Membership::Foreign {
                    path: format!("contained[{index}].{path}"),
                };
            }
        }
    }
    if type_name == "Patient" {
        let is_this = resource.get("id").and_then(Value::as_str) == Some(patient.id);
        return if is_this {
            Membership::Member
        } else {
            foreign("id")
        };
    }
    let mut membership = Membership::NoPatient;
    for (path, element, kind) in linking_elements(definitions, resource) {
        match judge(definitions, resource, element, kind, patient) {
            Named::This => membership = Membership::Member,
            Named::Other | Named::Undecided => return Membership::Foreign { path },
            Named::NotAPatient => {}
        }
    }
    membership
}

/// References anywhere in the resource that a write for this patient must not carry: those that name
/// another patient, cannot be decided, or lead to another server; and contained patients.
///
/// Paths in document order; empty means none.
///
/// # Source
/// Requirements R021 and R028: every reference stays with the bound patient and the same tenant.
#[must_use]
pub fn stray_references(
    definitions: &Definitions,
    resource: &Value,
    patient: &PatientRef<'_>,
) -> Vec<String> {
    let mut stray = Vec::new();
    for (index, contained) in resource
        .get("contained")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        if contained.get("resourceType").and_then(Value::as_str) == Some("Patient") {
            stray.push(format!("contained[{index}]"));
        }
    }
    let is_whole = collect(resource, &mut String::new(), 0, &mut |path, object| {
        let text = object
            .get("reference")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let is_abroad = matches!(
            ReferenceForm::parse(text),
            ReferenceForm::Typed { base: Some(base), .. } if !is_same_base(base, patient.base_url)
        );
        let named = judge(
            definitions,
            resource,
            object,
            LinkKind::Participant,
            patient,
        );
        if is_abroad || matches!(named, Named::Other | Named::Undecided) {
            stray.push(path.to_owned());
        }
    });
    for (path, element, kind) in linking_elements(definitions, resource) {
        let is_unclear = matches!(
            judge(definitions, resource, element, kind, patient),
            Named::Other | Named::Undecided
        );
        if is_unclear && !stray.contains(&path) {
            stray.push(path);
        }
    }
    if !is_whole {
        stray.push(TOO_DEEP.to_owned());
    }
    stray
}

/// What a Reference element says, within the resource that holds it (the container, for a contained one).
fn judge(
    definitions: &Definitions,
    container: &Value,
    element: &Value,
    kind: LinkKind,
    patient: &PatientRef<'_>,
) -> Named {
    if !element.is_object() {
        return Named::Undecided;
    }
    let Some(text) = element.get("reference") else {
        return judge_logical(definitions, element, kind);
    };
    let Some(text) = text.as_str() else {
        return Named::Undecided;
    };
    match ReferenceForm::parse(text) {
        ReferenceForm::Typed {
            base,
            resource_type: "Patient",
            id,
            ..
        } => {
            if id == patient.id && base.is_none_or(|base| is_same_base(base, patient.base_url)) {
                Named::This
            } else {
                Named::Other
            }
        }
        ReferenceForm::Conditional {
            resource_type: "Patient",
        } => Named::Other,
        ReferenceForm::Typed { resource_type, .. }
        | ReferenceForm::Conditional { resource_type } => {
            if definitions.is_resource_type(resource_type) {
                Named::NotAPatient
            } else {
                Named::Undecided
            }
        }
        ReferenceForm::Contained { id: "" } => {
            if container.get("resourceType").and_then(Value::as_str) != Some("Patient") {
                Named::NotAPatient
            } else if container.get("id").and_then(Value::as_str) == Some(patient.id) {
                Named::This
            } else {
                Named::Other
            }
        }
        ReferenceForm::Contained { id } => {
            let contained = container
                .get("contained")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .find(|it| it.get("id").and_then(Value::as_str) == Some(id));
            match contained
                .and_then(|it| it.get("resourceType"))
                .and_then(Value::as_str)
            {
                Some("Patient") => Named::Other,
                Some(type_name) if definitions.is_resource_type(type_name) => Named::NotAPatient,
                _ => Named::Undecided,
            }
        }
        ReferenceForm::Urn | ReferenceForm::OtherAbsolute | ReferenceForm::Unrecognised => {
            Named::Undecided
        }
    }
}

/// A reference by identifier only. It names nobody we can compare; that matters where the element says
/// whom the resource is about, or says that it means a patient.
fn judge_logical(definitions: &Definitions, element: &Value, kind: LinkKind) -> Named {
    let stated = element.get("type").and_then(Value::as_str);
    match stated {
        Some("Patient") => Named::Undecided,
        Some(type_name) if definitions.is_resource_type(type_name) => Named::NotAPatient,
        _ if element.get("identifier").is_some() && kind == LinkKind::Subject => Named::Undecided,
        _ => Named::NotAPatient,
    }
}

/// Whether two base URLs mean the same endpoint: scheme and host without regard to case, path exactly.
fn is_same_base(a: &str, b: &str) -> bool {
    let split = |url: &str| {
        let url = url.trim_end_matches('/');
        let path = url
            .find("://")
            .and_then(|at| url.get(at + 3..)?.find('/').map(|slash| at + 3 + slash));
        let (origin, path) = url.split_at(path.unwrap_or(url.len()));
        (origin.to_ascii_lowercase(), path.to_owned())
    };
    !a.is_empty() && !b.is_empty() && split(a) == split(b)
}

#[cfg(test)]
mod tests;
