//! The resources in memory: every version, and the way from a patient or an identifier to them.
//!
//! Not durable and not aware of HTTP or profiles. Callers serialise access with a lock.
//! Start at [`Storage::prepare`] and [`Storage::commit`]: everything that can fail happens in
//! the first, so that several prepared versions can be committed together or not at all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::definitions::ResourceType;
use crate::index::{Index, IndexValue};
use crate::outcome::Refusal;
use crate::synthetic::mixed;

/// The most versions kept, over all resources; further writes are refused with 507.
const VERSIONS_MAX: usize = 1_000_000;

/// A resource as a JSON object.
pub(crate) type Resource = Map<String, Value>;

/// What a version did to its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The resource came into being, or came back after a delete.
    Created,
    /// The resource was replaced.
    Updated,
    /// The resource was deleted; its history stays.
    Deleted,
}

/// One effect on the stored resources, in the order in which they happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The number of the HTTP request that caused it ([`crate::ReceivedRequest::number`]), or
    /// `None` when it was loaded, seeded or put in process.
    pub request: Option<u64>,
    /// What happened.
    pub kind: ChangeKind,
    /// The resource type.
    pub resource_type: &'static str,
    /// The logical id.
    pub id: String,
    /// The version that the change made, from 1.
    pub version: u64,
    /// When, by the sandbox's clock.
    pub at: Timestamp,
}

/// One version of one resource.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) kind: &'static ResourceType,
    pub(crate) id: Box<str>,
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) change: ChangeKind,
    /// The JSON as served; `None` after a delete.
    pub(crate) body: Option<Box<RawValue>>,
    pub(crate) index: Index,
}

/// All versions of one resource, oldest first; never empty once committed.
type Row = Vec<Arc<Version>>;

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<Box<str>, Row>,
    by_patient: HashMap<Box<str>, BTreeMap<Box<str>, Arc<Version>>>,
    by_identifier: HashMap<Box<str>, BTreeSet<Box<str>>>,
}

/// Which resources a search has to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Narrowing<'a> {
    /// All of the type.
    All,
    /// Those whose `patient` is one of these ids.
    Patients(&'a [&'a str]),
    /// Those with one of these identifier values, in any system.
    Identifiers(&'a [&'a str]),
    /// Those with one of these ids.
    Ids(&'a [&'a str]),
}

/// Everything the server holds.
#[derive(Debug)]
pub(crate) struct Storage {
    tables: BTreeMap<&'static str, Table>,
    changes: Vec<Change>,
    ids_given: u64,
    newest: Timestamp,
    base: String,
    shows_versions: bool,
}

impl Storage {
    /// An empty store; `base` is the server's own URL, `shows_versions` whether resources carry
    /// `meta.versionId`.
    pub(crate) fn new(base: String, shows_versions: bool) -> Self {
        Self {
            tables: BTreeMap::new(),
            changes: Vec::new(),
            ids_given: 0,
            newest: Timestamp::UNIX_EPOCH,
            base,
            shows_versions,
        }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The newest version, deleted or not.
    pub(crate) fn newest(&self, kind: &ResourceType, id: &str) -> Option<&Arc<Version>> {
        self.history(kind, id).last()
    }

    /// The newest version unless it is a delete.
    pub(crate) fn live(&self, kind: &ResourceType, id: &str) -> Option<&Arc<Version>> {
        self.newest(kind, id)
            .filter(|version| version.body.is_some())
    }

    /// All versions of a resource, oldest first; empty when there never was one.
    pub(crate) fn history(&self, kind: &ResourceType, id: &str) -> &[Arc<Version>] {
        self.tables
            .get(kind.name)
            .and_then(|table| table.rows.get(id))
            .map_or(&[], Vec::as_slice)
    }

    /// Every live resource, by type and id.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.tables
            .values()
            .flat_map(|table| table.rows.values())
            .filter_map(|row| row.last())
            .filter(|version| version.body.is_some())
    }

    /// Calls `visit` for each live resource of a type within the narrowing, in order of id
    /// (per patient, when narrowed by patient), at most once each.
    pub(crate) fn visit<'a>(
        &'a self,
        kind: &ResourceType,
        narrowing: Narrowing<'_>,
        mut visit: impl FnMut(&'a Arc<Version>),
    ) {
        let Some(table) = self.tables.get(kind.name) else {
            return;
        };
        let live = |id: &str| {
            table
                .rows
                .get(id)
                .and_then(|row| row.last())
                .filter(|version| version.body.is_some())
        };
        match narrowing {
            Narrowing::All => table
                .rows
                .values()
                .filter_map(|row| row.last())
                .filter(|version| version.body.is_some())
                .for_each(visit),
            Narrowing::Patients([single]) => {
                if let Some(of_patient) = table.by_patient.get(*single) {
                    of_patient.values().for_each(visit);
                }
            }
            Narrowing::Patients(patients) => {
                let mut seen: BTreeMap<&str, &Arc<Version>> = BTreeMap::new();
                for patient in patients {
                    for (id, version) in table.by_patient.get(*patient).into_iter().flatten() {
                        seen.insert(id, version);
                    }
                }
                seen.into_values().for_each(visit);
            }
            Narrowing::Identifiers(values) => {
                let ids: BTreeSet<&str> = values
                    .iter()
                    .filter_map(|value| table.by_identifier.get(*value))
                    .flatten()
                    .map(AsRef::as_ref)
                    .collect();
                ids.into_iter().filter_map(live).for_each(visit);
            }
            Narrowing::Ids(ids) => {
                let ids: BTreeSet<&str> = ids.iter().copied().collect();
                for version in ids.into_iter().filter_map(live) {
                    visit(version);
                }
            }
        }
    }

    /// A fresh logical id: sixteen hexadecimal digits, the same sequence in every run.
    pub(crate) fn new_id(&mut self, kind: &ResourceType) -> String {
        loop {
            self.ids_given = self.ids_given.wrapping_add(1);
            // `mixed` is a bijection, so the loop ends unless 2^64 resources were loaded.
            let id = format!("{:016x}", mixed(self.ids_given));
            if self.history(kind, &id).is_empty() {
                return id;
            }
        }
    }

    /// The time for a new version: the clock's, but never earlier than the version before and
    /// always whole milliseconds, as FHIR instants are compared.
    pub(crate) fn moment(&mut self, now: Timestamp) -> Timestamp {
        let whole = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        let after = self
            .newest
            .checked_add(SignedDuration::from_millis(1))
            .unwrap_or(self.newest);
        self.newest = if whole > self.newest { whole } else { after };
        self.newest
    }

    /// Makes the next version of a resource without storing it. `resource` is `None` for a delete.
    ///
    /// # Errors
    /// 507 when the store is full, 500 when the JSON cannot be written.
    pub(crate) fn prepare(
        &self,
        kind: &'static ResourceType,
        id: &str,
        resource: Option<Resource>,
        at: Timestamp,
    ) -> Result<Version, Refusal> {
        if self.changes.len() >= VERSIONS_MAX {
            return Err(Refusal::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "too-costly",
                format!("the sandbox keeps at most {VERSIONS_MAX} versions"),
            ));
        }
        let before = self.newest(kind, id);
        let number = before.map_or(1, |version| version.number.saturating_add(1));
        let was_live = before.is_some_and(|version| version.body.is_some());
        let (change, body, index) = match resource {
            None => (ChangeKind::Deleted, None, Index::default()),
            Some(mut resource) => {
                self.stamp(&mut resource, id, number, at);
                let index = Index::extract(kind, &resource, &self.base);
                let body = to_raw_value(&resource).map_err(|_| {
                    Refusal::new(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "exception",
                        "the resource could not be written as JSON",
                    )
                })?;
                let change = if was_live {
                    ChangeKind::Updated
                } else {
                    ChangeKind::Created
                };
                (change, Some(body), index)
            }
        };
        Ok(Version {
            kind,
            id: id.into(),
            number,
            at,
            change,
            body,
            index,
        })
    }

    /// Sets id and meta as the server owns them.
    fn stamp(&self, resource: &mut Resource, id: &str, number: u64, at: Timestamp) {
        resource.insert("id".to_owned(), Value::from(id));
        let mut meta = match resource.remove("meta") {
            Some(Value::Object(meta)) => meta,
            _ => Map::new(),
        };
        meta.remove("versionId");
        if self.shows_versions {
            meta.insert("versionId".to_owned(), Value::from(number.to_string()));
        }
        meta.insert("lastUpdated".to_owned(), Value::from(at.to_string()));
        resource.insert("meta".to_owned(), Value::Object(meta));
    }

    /// Stores a prepared version. Cannot fail.
    pub(crate) fn commit(&mut self, version: Version, request: Option<u64>) -> Arc<Version> {
        let version = Arc::new(version);
        self.changes.push(Change {
            request,
            kind: version.change,
            resource_type: version.kind.name,
            id: version.id.to_string(),
            version: version.number,
            at: version.at,
        });
        let table = self.tables.entry(version.kind.name).or_default();
        let row = table.rows.entry(version.id.clone()).or_default();
        let before = row.last().cloned();
        row.push(Arc::clone(&version));
        if let Some(before) = before {
            for patient in patients_of(&before) {
                if let Some(of_patient) = table.by_patient.get_mut(patient) {
                    of_patient.remove(&before.id);
                }
            }
            for value in identifiers_of(&before) {
                if let Some(ids) = table.by_identifier.get_mut(value) {
                    ids.remove(&before.id);
                }
            }
        }
        for patient in patients_of(&version) {
            table
                .by_patient
                .entry(patient.into())
                .or_default()
                .insert(version.id.clone(), Arc::clone(&version));
        }
        for value in identifiers_of(&version) {
            table
                .by_identifier
                .entry(value.into())
                .or_default()
                .insert(version.id.clone());
        }
        version
    }
}

/// The ids of the patients a version belongs to.
fn patients_of(version: &Version) -> impl Iterator<Item = &str> {
    values_of(version, "patient").filter_map(|value| match value {
        IndexValue::Reference(reference) => reference.strip_prefix("Patient/"),
        _ => None,
    })
}

/// The identifier values of a version, whatever their system.
fn identifiers_of(version: &Version) -> impl Iterator<Item = &str> {
    values_of(version, "identifier").filter_map(|value| match value {
        IndexValue::Token { code, .. } => code.as_deref(),
        _ => None,
    })
}

fn values_of<'a>(version: &'a Version, name: &str) -> impl Iterator<Item = &'a IndexValue> {
    version
        .kind
        .parameter(name)
        .into_iter()
        .flat_map(|(position, _)| version.index.values(position))
}
