//! Structure definitions with their snapshots: as they came, or made here on first use.
//!
//! How a snapshot is made is in [`crate::snapshot`]; this answers its questions for other definitions and
//! keeps what was made. Definitions that need each other in a circle end in an error, never in a hang.
//! Start at [`Catalogue::filled`].

use std::sync::Arc;

use super::entry::{Definition, Entry, Filled, Made};
use super::{Catalogue, FindError};
use crate::canonical::StructureDefinition;
use crate::snapshot::{CHAIN_MAX, Generated, Resolve, ResolveError, SnapshotError, generate};

/// Most snapshots made for the sake of one.
const GENERATIONS_MAX: usize = 2_000;

/// What is being made.
#[derive(Default)]
struct Making {
    /// Canonical URLs with versions, the outermost first.
    chain: Vec<String>,
    count: usize,
    /// Longest that the chain has been.
    deepest: usize,
    met_circle: bool,
}

impl Catalogue {
    /// Forgets the snapshots made in this layer: what was missing may have come.
    pub(super) fn forget_snapshots(&mut self) {
        if self.has_filled.take().is_some() {
            for entry in self.entries.values_mut().flatten() {
                entry.filled.take();
            }
        }
    }

    /// Makes the snapshot of a definition from its differential, even where it came with one. For tools
    /// and tests that compare the two; nothing is kept.
    ///
    /// # Errors
    /// It is not loaded, cannot be read, or its snapshot cannot be made.
    pub fn regenerate(&self, canonical: &str) -> Result<Generated, FindError> {
        let (layer, _, structure) = self.structure_entry(canonical)?;
        let mut making = Making::default();
        let version = structure.version.as_deref().unwrap_or_default();
        making.chain.push(format!("{}|{version}", structure.url));
        let mut within = Within {
            catalogue: layer,
            structure,
            making: &mut making,
        };
        Ok(generate(structure, &mut within)?)
    }

    /// A structure definition as it came, with its layer.
    fn structure_entry(
        &self,
        canonical: &str,
    ) -> Result<(&Self, &Entry, &Arc<StructureDefinition>), FindError> {
        let not_loaded = || FindError::NotLoaded(canonical.to_owned());
        let (layer, entry, _) = self
            .find("StructureDefinition", canonical)
            .ok_or_else(not_loaded)?;
        match entry.definition(layer.compact.as_ref()) {
            Ok(Definition::Structure(structure)) => Ok((layer, entry, structure)),
            Ok(_) => Err(not_loaded()),
            Err(reason) => Err(FindError::Unreadable {
                canonical: canonical.to_owned(),
                reason: Arc::clone(reason),
            }),
        }
    }

    pub(super) fn filled(&self, canonical: &str) -> Result<Filled, FindError> {
        self.filled_within(canonical, &mut Making::default())
    }

    fn filled_within(&self, canonical: &str, making: &mut Making) -> Result<Filled, FindError> {
        let (layer, entry, structure) = self.structure_entry(canonical)?;
        if !structure.snapshot.element.is_empty() {
            return Ok(Filled {
                structure: Arc::clone(structure),
                problems: Arc::from([]),
                depth: 0,
            });
        }
        let url = structure.url.clone();
        let beyond = || SnapshotError::Limit {
            url: url.clone(),
            limit: "definitions that need each other's snapshot",
        };
        let above = making.chain.len();
        if let Some(made) = entry.filled.get()
            && (above == 0 || !made.met_circle)
        {
            // What is at hand counts as if it were made now, so that the order of questions is without
            // effect on the answers.
            making.count += made.count;
            let depth = made.result.as_ref().map_or(1, |it| it.depth);
            making.deepest = making.deepest.max(above + depth);
            if above + depth > CHAIN_MAX || making.count > GENERATIONS_MAX {
                return Err(beyond().into());
            }
            return made.result.clone().map_err(FindError::from);
        }
        let version = entry.version.as_deref().unwrap_or_default();
        let key = format!("{}|{version}", structure.url);
        if making.chain.contains(&key) {
            making.met_circle = true;
            return Err(SnapshotError::Circle { url }.into());
        }
        if above >= CHAIN_MAX || making.count >= GENERATIONS_MAX {
            return Err(beyond().into());
        }
        let made = layer.make(structure, key, making);
        let result = made.result.clone();
        if above == 0 || (result.is_ok() && !made.met_circle) {
            let _ = layer.has_filled.set(());
            let _ = entry.filled.set(made);
        }
        result.map_err(FindError::from)
    }

    /// Makes a snapshot. A definition is completed from its own layer and those beneath, whoever asks.
    fn make(&self, structure: &StructureDefinition, key: String, making: &mut Making) -> Made {
        let (above, count_before) = (making.chain.len(), making.count);
        let deepest_before = std::mem::replace(&mut making.deepest, above + 1);
        making.count += 1;
        making.chain.push(key);
        let within = &mut Within {
            catalogue: self,
            structure,
            making,
        };
        let result = generate(structure, within);
        making.chain.pop();
        let depth = making.deepest.saturating_sub(above);
        making.deepest = making.deepest.max(deepest_before);
        Made {
            result: result.map(|it| Filled {
                structure: Arc::new(it.structure),
                problems: Arc::from(it.problems),
                depth,
            }),
            count: making.count - count_before,
            met_circle: making.met_circle,
        }
    }
}

/// Other definitions for the one that is being made.
struct Within<'m, 'c> {
    catalogue: &'c Catalogue,
    /// The one that is being made.
    structure: &'c StructureDefinition,
    making: &'m mut Making,
}

impl Resolve for Within<'_, '_> {
    fn structure(&mut self, canonical: &str) -> Result<Arc<StructureDefinition>, ResolveError> {
        let canonical = self.catalogue.beside(self.structure, canonical);
        self.catalogue
            .filled_within(&canonical, self.making)
            .map(|it| it.structure)
            .map_err(|error| match error {
                FindError::NotLoaded(_) => ResolveError::NotLoaded,
                FindError::Snapshot(SnapshotError::Circle { .. }) => ResolveError::Circle,
                FindError::Snapshot(SnapshotError::Limit { .. }) => ResolveError::TooLong,
                FindError::Unreadable { .. } | FindError::Snapshot(_) => {
                    ResolveError::Unusable(error.to_string())
                }
            })
    }
}
