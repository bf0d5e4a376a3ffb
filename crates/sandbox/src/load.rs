//! Loading Bundles of test data in process.
//!
//! Not the transaction interaction: ids are kept, and a profile without transactions can be
//! filled too. Start at [`load`].

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::definitions::{ResourceType, resource_type};
use crate::interaction::is_logical_id;
use crate::operations::{Conditions, check_type, existing};
use crate::outcome::Refusal;
use crate::profile::ServerProfile;
use crate::storage::{Resource, Storage};
use crate::transaction::{ENTRIES_MAX, resolve};

/// What loading did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadReport {
    /// Resources that are new.
    pub created: usize,
    /// Resources that were there already, by content or by `ifNoneExist`.
    pub already_there: usize,
    /// Resources given another id because theirs was taken by other content.
    pub renamed: usize,
    /// Resources left out because the profile has no such type.
    pub left_out: usize,
}

/// Why a bundle was not loaded. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The value is not a Bundle of type transaction, batch or collection.
    #[error("not a Bundle of type transaction, batch or collection")]
    NotABundle,
    /// Too many entries.
    #[error("the bundle has {entries} entries, more than {ENTRIES_MAX}")]
    TooLarge {
        /// How many it has.
        entries: usize,
    },
    /// An entry has no resource of a known type, or one that cannot be stored.
    #[error("entry {position} cannot be loaded: {reason}")]
    Entry {
        /// Its place in the bundle, from 0.
        position: usize,
        /// Why; names no content.
        reason: String,
    },
}

/// One entry on its way in.
struct Loading {
    kind: &'static ResourceType,
    id: String,
    resource: Resource,
    /// What becomes of it.
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Create,
    /// Its id is taken; by the same content or by another, the references tell.
    Compare,
    AlreadyThere,
    LeaveOut,
}

/// Loads a bundle completely or not at all.
pub(crate) fn load(
    storage: &mut Storage,
    bundle: &Value,
    profile: ServerProfile,
    now: Timestamp,
) -> Result<LoadReport, LoadError> {
    let text = |name: &str| bundle.get(name).and_then(Value::as_str);
    let known_type = ["transaction", "batch", "collection"].map(Some);
    if text("resourceType") != Some("Bundle") || !known_type.contains(&text("type")) {
        return Err(LoadError::NotABundle);
    }
    let entries = bundle
        .get("entry")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if entries.len() > ENTRIES_MAX {
        return Err(LoadError::TooLarge {
            entries: entries.len(),
        });
    }
    let mut places = HashMap::new();
    let mut loading = Vec::with_capacity(entries.len());
    for (position, entry) in entries.iter().enumerate() {
        let one = start(storage, entry, profile).map_err(|refusal| failed(position, &refusal))?;
        if let Some(full_url) = entry.get("fullUrl").and_then(Value::as_str) {
            places.insert(full_url.to_owned(), format!("{}/{}", one.kind.name, one.id));
        }
        loading.push(one);
    }
    let mut report = LoadReport::default();
    rename_taken(storage, &mut loading, entries, &mut places, &mut report)?;

    let at = storage.moment(now);
    let mut prepared = Vec::new();
    let mut ids_seen = HashSet::new();
    for (position, one) in loading.into_iter().enumerate() {
        match one.fate {
            Fate::LeaveOut => report.left_out += 1,
            Fate::AlreadyThere | Fate::Compare => report.already_there += 1,
            Fate::Create => {
                report.created += 1;
                if !ids_seen.insert((one.kind.name, one.id.clone())) {
                    let refusal = Refusal::invalid("an entry before it has the same type and id");
                    return Err(failed(position, &refusal));
                }
                let resource = resolved(storage, one.resource, &places)
                    .map_err(|refusal| failed(position, &refusal))?;
                let version = storage
                    .prepare(one.kind, &one.id, Some(resource), at)
                    .map_err(|refusal| failed(position, &refusal))?;
                prepared.push(version);
            }
        }
    }
    for version in prepared {
        storage.commit(version, None);
    }
    Ok(report)
}

/// Creates or replaces one resource.
pub(crate) fn put(
    storage: &mut Storage,
    resource: &Value,
    now: Timestamp,
) -> Result<(), LoadError> {
    let refused = |refusal: Refusal| failed(0, &refusal);
    let (kind, resource) = typed(Some(resource)).map_err(refused)?;
    let id = own_id(&resource)
        .ok_or_else(|| refused(Refusal::invalid("the resource has no valid id")))?
        .to_owned();
    let at = storage.moment(now);
    let version = storage
        .prepare(kind, &id, Some(resource), at)
        .map_err(refused)?;
    storage.commit(version, None);
    Ok(())
}

fn failed(position: usize, refusal: &Refusal) -> LoadError {
    LoadError::Entry {
        position,
        reason: refusal.diagnostics.clone(),
    }
}

/// The resource of an entry with its known type, checked.
fn typed(resource: Option<&Value>) -> Result<(&'static ResourceType, Resource), Refusal> {
    let resource = resource
        .and_then(Value::as_object)
        .ok_or_else(|| Refusal::invalid("there is no resource"))?;
    let kind = resource
        .get("resourceType")
        .and_then(Value::as_str)
        .and_then(resource_type)
        .ok_or_else(|| Refusal::invalid("the resource has no type that the sandbox holds"))?;
    check_type(resource, kind)?;
    Ok((kind, resource.clone()))
}

fn own_id(resource: &Resource) -> Option<&str> {
    resource
        .get("id")
        .and_then(Value::as_str)
        .filter(|id| is_logical_id(id))
}

fn start(storage: &mut Storage, entry: &Value, profile: ServerProfile) -> Result<Loading, Refusal> {
    let (kind, resource) = typed(entry.get("resource"))?;
    let if_none_exist = entry
        .pointer("/request/ifNoneExist")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let conditions = Conditions {
        if_none_exist,
        if_match: None,
    };
    let (id, fate) = if let Some(existing) = existing(storage, kind, &conditions)? {
        (existing.id.to_string(), Fate::AlreadyThere)
    } else {
        match own_id(&resource) {
            None => (storage.new_id(kind), Fate::Create),
            Some(id) if storage.newest(kind, id).is_some() => (id.to_owned(), Fate::Compare),
            Some(id) => (id.to_owned(), Fate::Create),
        }
    };
    let fate = if profile.holds(kind.name) {
        fate
    } else {
        Fate::LeaveOut
    };
    Ok(Loading {
        kind,
        id,
        resource,
        fate,
    })
}

/// Gives a new id to each resource whose id is taken by other content.
fn rename_taken(
    storage: &mut Storage,
    loading: &mut [Loading],
    entries: &[Value],
    places: &mut HashMap<String, String>,
    report: &mut LoadReport,
) -> Result<(), LoadError> {
    let mut renamed = Vec::new();
    for (position, (one, entry)) in loading.iter_mut().zip(entries).enumerate() {
        if one.fate != Fate::Compare {
            continue;
        }
        let candidate = resolved(storage, one.resource.clone(), places)
            .map_err(|refusal| failed(position, &refusal))?;
        let present = storage
            .live(one.kind, &one.id)
            .and_then(|version| version.body.as_deref())
            .and_then(|body| serde_json::from_str::<Resource>(body.get()).ok());
        if present.is_some_and(|present| same_content(present, candidate)) {
            continue;
        }
        one.id = storage.new_id(one.kind);
        one.fate = Fate::Create;
        report.renamed += 1;
        if let Some(full_url) = entry.get("fullUrl").and_then(Value::as_str) {
            renamed.push((full_url.to_owned(), format!("{}/{}", one.kind.name, one.id)));
        }
    }
    places.extend(renamed);
    Ok(())
}

fn resolved(
    storage: &Storage,
    mut resource: Resource,
    places: &HashMap<String, String>,
) -> Result<Resource, Refusal> {
    for value in resource.values_mut() {
        resolve(value, places, storage)?;
    }
    Ok(resource)
}

/// Whether two resources agree in everything but what the server sets.
fn same_content(mut left: Resource, mut right: Resource) -> bool {
    for resource in [&mut left, &mut right] {
        if let Some(Value::Object(meta)) = resource.get_mut("meta") {
            meta.remove("versionId");
            meta.remove("lastUpdated");
        }
        if resource
            .get("meta")
            .is_some_and(|meta| meta.as_object().is_some_and(serde_json::Map::is_empty))
        {
            resource.remove("meta");
        }
    }
    left == right
}
