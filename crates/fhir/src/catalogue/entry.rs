//! One definition of a catalogue: where its text is, and what was read from it.
//!
//! Reading happens on first use and once. Start at [`Entry`].

use std::sync::{Arc, OnceLock};

use super::compact::{Compact, Place};
use crate::canonical::{CodeSystem, StructureDefinition, ValueSet};
use crate::snapshot::{SnapshotError, SnapshotProblem};

/// A type of resource that is found by canonical URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    StructureDefinition,
    ValueSet,
    CodeSystem,
    Other,
}

impl Kind {
    pub(super) fn of(resource_type: &str) -> Self {
        match resource_type {
            "StructureDefinition" => Self::StructureDefinition,
            "ValueSet" => Self::ValueSet,
            "CodeSystem" => Self::CodeSystem,
            _ => Self::Other,
        }
    }
}

/// Where the text of a definition is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// As JSON.
    Json(Arc<[u8]>),
    /// In the compact file of the catalogue.
    Compact(Place),
}

/// What was read.
#[derive(Clone, Debug)]
pub(super) enum Definition {
    Structure(Arc<StructureDefinition>),
    ValueSet(Arc<ValueSet>),
    CodeSystem(Arc<CodeSystem>),
    Other(Arc<serde_json::Value>),
}

/// A structure definition whose snapshot was made here.
#[derive(Clone, Debug)]
pub(super) struct Filled {
    pub(super) structure: Arc<StructureDefinition>,
    pub(super) problems: Arc<[SnapshotProblem]>,
    /// Longest chain of definitions that were made for it, with itself; 0 where it came so.
    pub(super) depth: usize,
}

/// A snapshot that was made, or why it could not be, and what it took.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) result: Result<Filled, SnapshotError>,
    /// How many definitions were made for it, with itself.
    pub(super) count: usize,
    /// Whether something was left out because it stood further out in the same chain. Then it is good
    /// as an answer, but not as a part of another one, which would depend on what was asked for first.
    pub(super) met_circle: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) resource_type: Arc<str>,
    pub(super) kind: Kind,
    pub(super) version: Option<String>,
    /// Index into the packages of the catalogue that holds this.
    pub(super) package: Option<usize>,
    pub(super) source: Source,
    read: OnceLock<Result<Definition, Arc<str>>>,
    /// For a structure definition that came without a snapshot.
    pub(super) filled: OnceLock<Made>,
}

impl Entry {
    pub(super) fn new(
        resource_type: Arc<str>,
        version: Option<String>,
        package: Option<usize>,
        source: Source,
    ) -> Self {
        Self {
            kind: Kind::of(&resource_type),
            resource_type,
            version,
            package,
            source,
            read: OnceLock::new(),
            filled: OnceLock::new(),
        }
    }

    /// The definition, or why it cannot be read.
    pub(super) fn definition(&self, compact: Option<&Compact>) -> Result<&Definition, &Arc<str>> {
        self.read.get_or_init(|| self.read(compact)).as_ref()
    }

    fn read(&self, compact: Option<&Compact>) -> Result<Definition, Arc<str>> {
        match &self.source {
            Source::Json(text) => {
                from_json(self.kind, text).map_err(|error| error.to_string().into())
            }
            Source::Compact(place) => compact
                .ok_or_else(|| Arc::from("the compact file is not at hand"))
                .and_then(|it| {
                    it.definition(self.kind, *place)
                        .map_err(|error| error.to_string().into())
                }),
        }
    }
}

fn from_json(kind: Kind, text: &[u8]) -> Result<Definition, serde_json::Error> {
    Ok(match kind {
        Kind::StructureDefinition => Definition::Structure(Arc::new(serde_json::from_slice(text)?)),
        Kind::ValueSet => Definition::ValueSet(Arc::new(serde_json::from_slice(text)?)),
        Kind::CodeSystem => Definition::CodeSystem(Arc::new(serde_json::from_slice(text)?)),
        Kind::Other => Definition::Other(Arc::new(serde_json::from_slice(text)?)),
    })
}
