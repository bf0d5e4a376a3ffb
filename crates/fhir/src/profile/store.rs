//! Compiled profiles, base rules and invariants: built when first needed, kept, shared between threads.
//!
//! Start at [`Profiles::get`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use super::BASE_URL;
use super::base::NodeRules;
use super::compile::compile;
use super::invariant::Invariant;
use super::tree::{Profile, ProfileLink};
use crate::Definitions;
use crate::canonical::{Constraint, ElementDefinition, StructureDefinition, split_version};
use crate::catalogue::Catalogue;
use crate::definitions::tables::TypeUse;

/// Key, expression and severity of an invariant.
type InvariantKey = (String, String, bool);

/// The compiled form of a catalogue's definitions.
pub(crate) struct Profiles {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) definitions: &'static Definitions,
    compiled: RwLock<HashMap<Box<str>, Arc<Profile>>>,
    invariants: RwLock<HashMap<InvariantKey, Option<Arc<Invariant>>>>,
    /// Nodes of the definitions by path.
    nodes: HashMap<&'static str, u32>,
    /// What base definitions demand, by node of [`Definitions`].
    base: Box<[OnceLock<NodeRules>]>,
    global: OnceLock<Global>,
}

/// What the loaded implementation guides demand of all resources of a type.
struct Global {
    /// Resource types, each with a profile.
    demanded: Vec<(String, String)>,
    /// Types of which more profiles are demanded than are looked at.
    cut: Vec<String>,
}

/// Most profiles that implementation guides can demand of all resources of a type.
const GLOBAL_MAX: usize = 50;

/// An element of a base definition.
pub(super) struct Origin {
    definition: Arc<StructureDefinition>,
    at: usize,
}

impl Origin {
    pub(super) fn element(&self) -> &ElementDefinition {
        static NONE: std::sync::LazyLock<ElementDefinition> =
            std::sync::LazyLock::new(ElementDefinition::default);
        self.definition
            .snapshot
            .element
            .get(self.at)
            .unwrap_or(&NONE)
    }
}

impl Profiles {
    pub(crate) fn new(catalogue: Arc<Catalogue>, definitions: &'static Definitions) -> Self {
        let mut base = Vec::new();
        base.resize_with(definitions.tables.nodes.len(), OnceLock::new);
        Self {
            catalogue,
            definitions,
            compiled: RwLock::default(),
            invariants: RwLock::default(),
            nodes: (0_u32..)
                .zip(&definitions.tables.nodes)
                .map(|(index, node)| (definitions.text(node.path), index))
                .collect(),
            base: base.into(),
            global: OnceLock::new(),
        }
    }

    /// The profiles that all resources of a type must conform to, by the implementation guides at hand.
    ///
    /// # Source
    /// FHIR R4, `ImplementationGuide.global`.
    pub(super) fn global(&self, type_name: &str) -> impl Iterator<Item = &str> {
        self.demands()
            .demanded
            .iter()
            .filter(move |(of, _)| of == type_name)
            .map(|(_, profile)| profile.as_str())
    }

    /// Whether more profiles are demanded of all resources of a type than [`Profiles::global`] gives.
    pub(super) fn is_global_cut(&self, type_name: &str) -> bool {
        self.demands().cut.iter().any(|of| of == type_name)
    }

    fn demands(&self) -> &Global {
        self.global
            .get_or_init(|| Global::of(demanded(&self.catalogue)))
    }

    /// The profile of a canonical URL, with or without `|version`; `None` if it is not at hand.
    pub(crate) fn get(&self, canonical: &str) -> Option<Arc<Profile>> {
        let kept = self
            .compiled
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(canonical)
            .cloned();
        if kept.is_some() {
            return kept;
        }
        // URLs that are not at hand come from outside: only known ones are kept, so that memory is bounded.
        let profile = Arc::new(compile(self, self.definition(canonical)?)?);
        let mut compiled = self
            .compiled
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(
            compiled.entry(canonical.into()).or_insert(profile),
        ))
    }

    /// The profile that a definition links to.
    pub(crate) fn follow(&self, link: &ProfileLink) -> Option<Arc<Profile>> {
        link.found
            .get_or_init(|| self.get(&link.url).map(|it| Arc::downgrade(&it)))
            .as_ref()
            .and_then(Weak::upgrade)
    }

    /// The definition of a canonical URL.
    pub(super) fn definition(&self, canonical: &str) -> Option<Arc<StructureDefinition>> {
        self.catalogue.structure(canonical)
    }

    /// The resource type that a canonical URL of a profile or base type constrains.
    pub(super) fn type_of(&self, canonical: &str) -> Option<Box<str>> {
        let link = ProfileLink::new(canonical);
        if let Some(name) = link.base_type()
            && self.definitions.structure_named(name).is_some()
        {
            return Some(name.into());
        }
        self.definition(canonical)
            .map(|it| it.type_name.as_str().into())
    }

    /// The name of a type of FHIR, as the definitions keep it.
    pub(super) fn type_name(&self, name: &str) -> Option<&'static str> {
        let structure = self.definitions.structure_named(name)?;
        Some(self.definitions.text(structure.type_name))
    }

    /// How the definitions describe what stands under a JSON name at the place of the base element
    /// `base_path`.
    pub(super) fn type_use(&self, base_path: &str, json_name: &str) -> Option<&'static TypeUse> {
        let (parent, _) = base_path.rsplit_once('.')?;
        let node = if parent.contains('.') {
            *self.nodes.get(parent)?
        } else {
            self.definitions.structure_named(parent)?.root
        };
        let name = self
            .definitions
            .name(self.definitions.tables.nodes.get(node as usize)?, json_name)?;
        Some(self.definitions.type_use(name.type_use))
    }

    /// The type that a JSON name states behind the name of a choice: `DateTime` for `dateTime`.
    pub(super) fn type_of_suffix(&self, suffix: &str) -> Option<&'static str> {
        self.type_name(suffix).or_else(|| {
            let mut characters = suffix.chars();
            let first = characters.next()?.to_ascii_lowercase();
            self.type_name(&format!("{first}{}", characters.as_str()))
        })
    }

    /// The type that a profile named by a link is for; `None` if that is not known.
    pub(super) fn link_type(&self, link: &ProfileLink) -> Option<&'static str> {
        if let Some(known) = link.base_type().and_then(|it| self.type_name(it)) {
            return Some(known);
        }
        self.type_name(&self.follow(link)?.type_name)
    }

    /// The element of a base type at a path such as `Quantity.code`, or `Quantity` for the type as a whole.
    pub(super) fn base_element(&self, path: &str) -> Option<Origin> {
        let type_name = path.split('.').next()?;
        let definition = self.definition(&format!("{BASE_URL}{type_name}"))?;
        let at = definition
            .snapshot
            .element
            .iter()
            .position(|it| it.path == path)?;
        Some(Origin { definition, at })
    }

    /// The invariant of a constraint, shared with all that state the same.
    pub(super) fn invariant(
        &self,
        constraint: &Constraint,
        source: &str,
    ) -> Option<Arc<Invariant>> {
        let key = (
            constraint.key.clone(),
            constraint.expression.clone()?,
            constraint.severity == crate::canonical::ConstraintSeverity::Error,
        );
        let kept = self
            .invariants
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(kept) = kept {
            return kept;
        }
        let invariant = Invariant::of(constraint, split_version(source).0);
        let mut invariants = self
            .invariants
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        invariants.entry(key).or_insert(invariant).clone()
    }

    /// What the base demands of a node, beyond its structure.
    pub(super) fn base_rules(&self, node: u32) -> Option<&NodeRules> {
        self.base
            .get(node as usize)
            .map(|it| it.get_or_init(|| NodeRules::compile(self, node)))
    }
}

/// Reads `global` of the implementation guides of a catalogue. They are large and few have it, so only those
/// whose text names it are parsed.
fn demanded(catalogue: &Catalogue) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for guide in catalogue.resources("ImplementationGuide") {
        let canonical = match guide.version {
            Some(version) => format!("{}|{version}", guide.url),
            None => guide.url.to_owned(),
        };
        let names_it = catalogue
            .text("ImplementationGuide", &canonical)
            .is_some_and(|text| {
                std::str::from_utf8(&text).is_ok_and(|it| it.contains("\"global\""))
            });
        let Some(guide) = names_it
            .then(|| catalogue.resource("ImplementationGuide", &canonical))
            .flatten()
        else {
            continue;
        };
        let list = guide.get("global").and_then(serde_json::Value::as_array);
        found.extend(list.into_iter().flatten().filter_map(|it| {
            let text = |name: &str| it.get(name)?.as_str().map(str::to_owned);
            Some((text("type")?, text("profile")?))
        }));
    }
    found
}

impl Global {
    /// At most so many profiles for each type; of which types there were more.
    fn of(all: Vec<(String, String)>) -> Self {
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut known: HashSet<(String, String)> = HashSet::new();
        let mut global = Self {
            demanded: Vec::new(),
            cut: Vec::new(),
        };
        for demand in all {
            if !known.insert(demand.clone()) {
                continue;
            }
            let count = counts.entry(demand.0.clone()).or_default();
            *count += 1;
            if *count <= GLOBAL_MAX {
                global.demanded.push(demand);
            } else if *count == GLOBAL_MAX + 1 {
                global.cut.push(demand.0);
            }
        }
        global
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limit_of_a_type_is_not_dropped_in_silence() {
        let all = |of: &str, count: usize| -> Vec<(String, String)> {
            (0..count)
                .map(|at| (of.to_owned(), format!("http://e.org/{at}")))
                .collect()
        };
        let mut twice = all("Patient", GLOBAL_MAX);
        twice.extend(all("Patient", GLOBAL_MAX));
        twice.extend(all("Observation", GLOBAL_MAX + 2));
        let global = Global::of(twice);
        assert_eq!(global.demanded.len(), 2 * GLOBAL_MAX);
        assert_eq!(global.cut, ["Observation"]);
    }
}
