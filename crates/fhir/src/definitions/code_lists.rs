//! Expands the value sets of required bindings into lists of codes.
//!
//! Only what needs no terminology service: whole code systems that the package holds completely,
//! enumerated concepts, imported value sets and exclusions. Anything else is not enumerable, and the
//! caller must treat it as undecided, never as passed.
//! Start at [`expand`].

use std::collections::BTreeSet;

use super::source::{Concept, ConceptSet, Sources};

/// Deepest chain of value sets that import each other.
const IMPORT_DEPTH_MAX: usize = 8;
/// Deepest concept hierarchy.
const HIERARCHY_DEPTH_MAX: usize = 64;

/// (code, system), in order.
type Codes = BTreeSet<(String, String)>;

/// The codes of a value set, or `None` if they cannot be enumerated from the package.
pub(super) fn expand(sources: &Sources, url: &str) -> Option<Codes> {
    expand_within(sources, url, IMPORT_DEPTH_MAX)
}

fn expand_within(sources: &Sources, url: &str, depth: usize) -> Option<Codes> {
    let depth = depth.checked_sub(1)?;
    let compose = sources.value_sets.get(url)?.compose.as_ref()?;
    if compose.include.is_empty() {
        return None;
    }
    let mut codes = Codes::new();
    for set in &compose.include {
        codes.extend(concept_set(sources, set, depth)?);
    }
    for set in &compose.exclude {
        for code in concept_set(sources, set, depth)? {
            codes.remove(&code);
        }
    }
    Some(codes)
}

/// What one include or exclude selects: the system's part, intersected with every imported value set.
fn concept_set(sources: &Sources, set: &ConceptSet, depth: usize) -> Option<Codes> {
    if !set.filter.is_empty() {
        return None;
    }
    let mut selected: Option<Codes> = None;
    if let Some(system) = &set.system {
        let mut codes = Codes::new();
        if set.concept.is_empty() {
            let code_system = sources.code_systems.get(system)?;
            if code_system.content != "complete" {
                return None;
            }
            flatten(
                &code_system.concept,
                system,
                HIERARCHY_DEPTH_MAX,
                &mut codes,
            )?;
        } else {
            codes.extend(
                set.concept
                    .iter()
                    .map(|concept| (concept.code.clone(), system.clone())),
            );
        }
        selected = Some(codes);
    }
    for imported in &set.value_set {
        let url = imported.split('|').next().unwrap_or(imported);
        let codes = expand_within(sources, url, depth)?;
        selected = Some(match selected {
            Some(before) => before.intersection(&codes).cloned().collect(),
            None => codes,
        });
    }
    selected
}

fn flatten(concepts: &[Concept], system: &str, depth: usize, codes: &mut Codes) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    for concept in concepts {
        codes.insert((concept.code.clone(), system.to_owned()));
        flatten(&concept.concept, system, depth, codes)?;
    }
    Some(())
}
