//! Compiles which elements tie a resource to a patient.
//!
//! Two sources: the R4 Patient compartment (CompartmentDefinition/patient, whose search parameters'
//! expressions give the element paths), and every top-level element named like a subject whose targets
//! include Patient. The second adds what the compartment leaves out although it names the patient,
//! such as `Task.for`.
//! Start at [`compile`].

use std::collections::BTreeMap;

use super::compile::{Builder, CORE, CompileError};
use super::source::Sources;
use super::tables::{CompartmentLink, LinkKind, Structure, StructureKind};

/// Names of elements that say whom a resource is about.
const SUBJECT_NAMES: [&str; 5] = ["subject", "patient", "for", "beneficiary", "individual"];

/// The links of all resource types, sorted by structure and path.
pub(super) fn compile(
    builder: &mut Builder,
    sources: &Sources,
    structures: &[Structure],
    index: &BTreeMap<&str, u32>,
) -> Result<Vec<CompartmentLink>, CompileError> {
    if sources.patient_compartment.code != "Patient" {
        return Err(CompileError::Missing(
            "the compartment of Patient".to_owned(),
        ));
    }
    let mut links: BTreeMap<(u32, String), LinkKind> = BTreeMap::new();
    for resource in &sources.patient_compartment.resource {
        let url = format!("{CORE}{}", resource.code);
        let structure = *index.get(url.as_str()).ok_or(CompileError::Missing(url))?;
        for parameter in &resource.param {
            let paths = paths_of(sources, &resource.code, parameter);
            if paths.is_empty() {
                return Err(CompileError::Missing(format!(
                    "search parameter {parameter} of {}",
                    resource.code
                )));
            }
            for path in paths {
                let first = path.split('.').next().unwrap_or_default();
                let kind = if SUBJECT_NAMES.contains(&first) {
                    LinkKind::Subject
                } else {
                    LinkKind::Participant
                };
                links.insert((structure, path), kind);
            }
        }
    }
    for (url, definition) in &sources.structures {
        let Some(structure) = index.get(url.as_str()).copied() else {
            continue;
        };
        if structures.get(structure as usize).map(|it| it.kind) != Some(StructureKind::Resource) {
            continue;
        }
        for element in &definition.snapshot.element {
            let Some(name) = element
                .path
                .strip_prefix(&format!("{}.", definition.type_name))
            else {
                continue;
            };
            let names_patient = element.types.iter().any(|it| {
                it.code == "Reference"
                    && it.target_profile.iter().any(|target| {
                        [format!("{CORE}Patient"), format!("{CORE}Resource")].contains(target)
                    })
            });
            if SUBJECT_NAMES.contains(&name) && names_patient {
                links.insert((structure, name.to_owned()), LinkKind::Subject);
            }
        }
    }
    Ok(links
        .into_iter()
        .map(|((structure, path), kind)| CompartmentLink {
            structure,
            path: builder.intern(&path),
            kind,
        })
        .collect())
}

/// The element paths, below the resource, that a search parameter reads in that type.
fn paths_of(sources: &Sources, type_name: &str, parameter: &str) -> Vec<String> {
    sources
        .search_parameters
        .iter()
        .filter(|it| it.code == parameter && it.base.iter().any(|base| base == type_name))
        .filter_map(|it| it.expression.as_deref())
        .flat_map(|expression| expression.split('|'))
        .filter_map(|part| {
            let path = part.trim().strip_prefix(type_name)?.strip_prefix('.')?;
            let path = path
                .strip_suffix(".where(resolve() is Patient)")
                .unwrap_or(path);
            let is_plain = path
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
            is_plain.then(|| path.to_owned())
        })
        .collect()
}
