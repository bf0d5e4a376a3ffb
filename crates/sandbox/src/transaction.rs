//! Transactions and batches posted to the base URL.
//!
//! A transaction is planned completely, against the state before it, and only then committed;
//! committing cannot fail, so all of it happens or none. A batch is a list of unrelated
//! requests. Start at [`perform_bundle`].
//!
//! # Source
//! FHIR R4, batch and transaction, <https://hl7.org/fhir/R4/http.html#transaction>.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::definitions::{ResourceType, resource_type};
use crate::interaction::{Interaction, pairs};
use crate::operations::{
    Answer, Circumstances, Conditions, check_id, check_match, check_type, existing, offered,
    perform, perform_read, unwritable,
};
use crate::outcome::Refusal;
use crate::patching::{of_binary, patched};
use crate::search::{Handling, Query, matching};
use crate::storage::{ChangeKind, Resource, Storage, Version};

/// The most entries in one bundle.
pub(crate) const ENTRIES_MAX: usize = 5_000;

/// The request half of one entry, parsed.
#[derive(Debug)]
struct Asked {
    full_url: Option<String>,
    interaction: Interaction,
    resource: Option<Resource>,
    conditions: Conditions,
}

/// What one entry of a transaction will do.
enum Plan {
    Commit(Version),
    Reuse(Arc<Version>),
    Read,
}

/// The resource types a bundle's requests concern; for matching faults and permissions before
/// anything is done.
pub(crate) fn interactions(bundle: &Resource) -> Vec<Interaction> {
    entries(bundle)
        .iter()
        .take(ENTRIES_MAX)
        .filter_map(|entry| asked(entry).ok())
        .map(|asked| asked.interaction)
        .collect()
}

/// Carries out a transaction or batch and writes the response Bundle.
///
/// # Errors
/// 400 for a bundle that cannot be understood; in a transaction, the first refusal of any entry.
pub(crate) fn perform_bundle(
    storage: &mut Storage,
    bundle: &Resource,
    circumstances: Circumstances,
) -> Result<Answer, Refusal> {
    let text = |name: &str| bundle.get(name).and_then(Value::as_str);
    if text("resourceType") != Some("Bundle") {
        return Err(Refusal::invalid("the base URL takes a Bundle"));
    }
    if entries(bundle).len() > ENTRIES_MAX {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-costly",
            format!("a bundle takes at most {ENTRIES_MAX} entries"),
        ));
    }
    match text("type") {
        Some("transaction") => transaction(storage, bundle, circumstances),
        Some("batch") => batch(storage, bundle, circumstances),
        _ => Err(Refusal::invalid(
            "the type of the Bundle is neither transaction nor batch",
        )),
    }
}

fn entries(bundle: &Resource) -> &[Value] {
    bundle
        .get("entry")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn asked(entry: &Value) -> Result<Asked, Refusal> {
    let request = entry
        .get("request")
        .and_then(Value::as_object)
        .ok_or_else(|| Refusal::invalid("the entry has no request"))?;
    let text = |name: &str| request.get(name).and_then(Value::as_str);
    let method = match text("method") {
        Some("GET") => Method::GET,
        Some("POST") => Method::POST,
        Some("PUT") => Method::PUT,
        Some("PATCH") => Method::PATCH,
        Some("DELETE") => Method::DELETE,
        _ => {
            return Err(Refusal::invalid(
                "request.method is not GET, POST, PUT, PATCH or DELETE",
            ));
        }
    };
    let url = text("url").ok_or_else(|| Refusal::invalid("the request has no url"))?;
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let mut interaction = Interaction::parse(&method, path, query)?;
    if let Interaction::Patch { patch, .. } = &mut interaction {
        *patch = of_binary(entry.get("resource"))?;
    }
    if matches!(
        interaction,
        Interaction::Bundle | Interaction::FileEntry | Interaction::Metadata
    ) {
        return Err(Refusal::invalid("request.url names no resource type"));
    }
    Ok(Asked {
        full_url: entry
            .get("fullUrl")
            .and_then(Value::as_str)
            .map(str::to_owned),
        interaction,
        resource: entry.get("resource").and_then(Value::as_object).cloned(),
        conditions: Conditions {
            if_none_exist: text("ifNoneExist").map(str::to_owned),
            if_match: text("ifMatch").map(str::to_owned),
        },
    })
}

fn batch(
    storage: &mut Storage,
    bundle: &Resource,
    circumstances: Circumstances,
) -> Result<Answer, Refusal> {
    let answers: Vec<Result<Answer, Refusal>> = entries(bundle)
        .iter()
        .map(|entry| {
            let asked = asked(entry)?;
            offered(&asked.interaction, circumstances.profile)?;
            perform(
                storage,
                &asked.interaction,
                asked.resource,
                &asked.conditions,
                circumstances,
            )
        })
        .collect();
    respond(storage, "batch-response", &answers)
}

fn transaction(
    storage: &mut Storage,
    bundle: &Resource,
    circumstances: Circumstances,
) -> Result<Answer, Refusal> {
    let mut requests = Vec::new();
    for (position, entry) in entries(bundle).iter().enumerate() {
        let asked = asked(entry)
            .and_then(|asked| offered(&asked.interaction, circumstances.profile).map(|()| asked))
            .map_err(|refusal| refusal.in_entry(position))?;
        requests.push(asked);
    }
    let plans = plan(storage, requests, circumstances)?;

    let mut answers = Vec::new();
    let mut committed = Vec::new();
    for (interaction, plan) in plans {
        let done = match plan {
            Plan::Commit(version) => {
                let status = match (version.change, &interaction) {
                    (ChangeKind::Created, _) => StatusCode::CREATED,
                    (ChangeKind::Updated, _) => StatusCode::OK,
                    (ChangeKind::Deleted, _) => StatusCode::NO_CONTENT,
                };
                let version = storage.commit(version, Some(circumstances.request));
                Some(Answer::of_version(status, &version))
            }
            Plan::Reuse(version) => Some(Answer::of_version(StatusCode::OK, &version)),
            Plan::Read => None,
        };
        committed.push((interaction, done));
    }
    // Reads come last and see what the transaction did.
    for (interaction, done) in committed {
        answers.push(match done {
            Some(answer) => Ok(answer),
            None => perform_read(storage, &interaction, circumstances.handling),
        });
    }
    respond(storage, "transaction-response", &answers)
}

/// Decides every entry against the state before the transaction. Nothing is stored.
fn plan(
    storage: &mut Storage,
    requests: Vec<Asked>,
    circumstances: Circumstances,
) -> Result<Vec<(Interaction, Plan)>, Refusal> {
    let mut places: HashMap<String, String> = HashMap::new();
    let mut touched: BTreeSet<String> = BTreeSet::new();
    let mut conditions_seen: BTreeSet<(&'static str, String)> = BTreeSet::new();
    let mut targets: Vec<Target> = Vec::new();
    for (position, asked) in requests.iter().enumerate() {
        let target = target(storage, asked, circumstances.handling)
            .map_err(|refusal| refusal.in_entry(position))?;
        if let (Some(kind), Some(condition)) =
            (asked.interaction.kind(), &asked.conditions.if_none_exist)
            && !conditions_seen.insert((kind.name, condition.clone()))
        {
            return Err(Refusal::precondition(
                "duplicate",
                "two entries of the transaction have the same ifNoneExist",
            )
            .in_entry(position));
        }
        let place = match &target {
            Target::Write { kind, id } => Some(format!("{}/{id}", kind.name)),
            Target::Reuse(version) => Some(format!("{}/{}", version.kind.name, version.id)),
            Target::Read => None,
        };
        if let (Target::Write { .. }, Some(place)) = (&target, &place)
            && !touched.insert(place.clone())
        {
            return Err(
                Refusal::invalid("two entries of the transaction write the same resource")
                    .in_entry(position),
            );
        }
        if let (Some(full_url), Some(place)) = (&asked.full_url, place)
            && places.insert(full_url.clone(), place).is_some()
        {
            return Err(Refusal::invalid("two entries have the same fullUrl").in_entry(position));
        }
        targets.push(target);
    }

    let at = storage.moment(circumstances.now);
    let mut plans = Vec::new();
    for (position, (asked, target)) in requests.into_iter().zip(targets).enumerate() {
        let plan = plan_entry(storage, asked, target, &places, at)
            .map_err(|refusal| refusal.in_entry(position))?;
        plans.push(plan);
    }
    Ok(plans)
}

/// Which resource an entry is about.
enum Target {
    Write {
        kind: &'static ResourceType,
        id: String,
    },
    Reuse(Arc<Version>),
    Read,
}

fn target(storage: &mut Storage, asked: &Asked, handling: Handling) -> Result<Target, Refusal> {
    match &asked.interaction {
        Interaction::Create { kind } => match existing(storage, kind.0, &asked.conditions)? {
            Some(version) => Ok(Target::Reuse(version)),
            None => Ok(Target::Write {
                kind: kind.0,
                id: storage.new_id(kind.0),
            }),
        },
        Interaction::Update { kind, id } => {
            check_match(storage, kind.0, id, &asked.conditions)?;
            Ok(Target::Write {
                kind: kind.0,
                id: id.clone(),
            })
        }
        Interaction::Patch { kind, id, .. } => {
            check_match(storage, kind.0, id, &asked.conditions)?;
            Ok(Target::Write {
                kind: kind.0,
                id: id.clone(),
            })
        }
        Interaction::Delete { kind, id } => {
            check_match(storage, kind.0, id, &asked.conditions)?;
            if storage.live(kind.0, id).is_none() {
                return Err(Refusal::not_found());
            }
            Ok(Target::Write {
                kind: kind.0,
                id: id.clone(),
            })
        }
        // A read that would be refused must be refused before anything is written.
        reading => {
            perform_read(storage, reading, handling)?;
            Ok(Target::Read)
        }
    }
}

fn plan_entry(
    storage: &Storage,
    asked: Asked,
    target: Target,
    places: &HashMap<String, String>,
    at: jiff::Timestamp,
) -> Result<(Interaction, Plan), Refusal> {
    let (kind, id) = match target {
        Target::Read => return Ok((asked.interaction, Plan::Read)),
        Target::Reuse(version) => return Ok((asked.interaction, Plan::Reuse(version))),
        Target::Write { kind, id } => (kind, id),
    };
    if matches!(asked.interaction, Interaction::Delete { .. }) {
        let version = storage.prepare(kind, &id, None, at)?;
        return Ok((asked.interaction, Plan::Commit(version)));
    }
    let mut resource = match &asked.interaction {
        Interaction::Patch { patch, .. } => patched(storage, kind, &id, patch)?,
        _ => asked
            .resource
            .ok_or_else(|| Refusal::invalid("the entry has no resource"))?,
    };
    check_type(&resource, kind)?;
    if matches!(asked.interaction, Interaction::Update { .. }) {
        check_id(&resource, &id)?;
    }
    for value in resource.values_mut() {
        resolve(value, places, storage)?;
    }
    let version = storage.prepare(kind, &id, Some(resource), at)?;
    Ok((asked.interaction, Plan::Commit(version)))
}

/// Replaces references to entries of the bundle, and conditional references, by `Type/id`.
///
/// The depth was limited by [`check_type`] before.
///
/// # Errors
/// 400 for a `urn:uuid:` that no entry has as its fullUrl, 412 for a conditional reference that
/// does not match exactly one resource.
pub(crate) fn resolve(
    value: &mut Value,
    places: &HashMap<String, String>,
    storage: &Storage,
) -> Result<(), Refusal> {
    match value {
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| resolve(item, places, storage)),
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match (name.as_str(), &mut *member) {
                    ("reference", Value::String(text)) => resolve_reference(text, places, storage)?,
                    ("url" | "valueUri" | "valueUrl" | "valueUuid", Value::String(text)) => {
                        if let Some(place) = places.get(text.as_str()) {
                            text.clone_from(place);
                        }
                    }
                    _ => resolve(member, places, storage)?,
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn resolve_reference(
    text: &mut String,
    places: &HashMap<String, String>,
    storage: &Storage,
) -> Result<(), Refusal> {
    if let Some(place) = places.get(text.as_str()) {
        text.clone_from(place);
        return Ok(());
    }
    if text.starts_with("urn:uuid:") || text.starts_with("urn:oid:") {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "not-found",
            "a reference names a urn that is the fullUrl of no entry",
        ));
    }
    let Some((name, condition)) = text.split_once('?') else {
        return Ok(());
    };
    let kind = resource_type(name).ok_or_else(Refusal::unknown_type)?;
    let query = Query::parse(kind, &pairs(condition), Handling::Strict, storage.base())?;
    if !query.has_criteria() {
        return Err(Refusal::invalid("a conditional reference has no criterion"));
    }
    match matching(storage, &query).as_slice() {
        [one] => {
            *text = format!("{}/{}", kind.name, one.id);
            Ok(())
        }
        [] => Err(Refusal::precondition(
            "not-found",
            "a conditional reference matches no resource",
        )),
        _ => Err(Refusal::precondition(
            "multiple-matches",
            "a conditional reference matches more than one resource",
        )),
    }
}

#[derive(Serialize)]
struct ResponseBundle<'a> {
    #[serde(rename = "resourceType")]
    resource_type: &'static str,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entry: Vec<ResponseEntry<'a>>,
}

#[derive(Serialize)]
struct ResponseEntry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a RawValue>,
    response: EntryResponse,
}

#[derive(Serialize)]
struct EntryResponse {
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(rename = "lastModified", skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Value>,
}

fn respond(
    storage: &Storage,
    kind: &'static str,
    answers: &[Result<Answer, Refusal>],
) -> Result<Answer, Refusal> {
    let status_text = |status: StatusCode| {
        format!(
            "{} {}",
            status.as_str(),
            status.canonical_reason().unwrap_or("")
        )
    };
    let entry = answers
        .iter()
        .map(|answer| match answer {
            Err(refusal) => ResponseEntry {
                resource: None,
                response: EntryResponse {
                    status: status_text(refusal.status),
                    location: None,
                    etag: None,
                    last_modified: None,
                    outcome: Some(refusal.outcome()),
                },
            },
            Ok(answer) => {
                let version = answer.version.as_ref();
                ResponseEntry {
                    resource: answer.body(),
                    response: EntryResponse {
                        status: status_text(answer.status),
                        location: version.map(|version| {
                            format!(
                                "{}/{}/{}/_history/{}",
                                storage.base(),
                                version.kind.name,
                                version.id,
                                version.number
                            )
                        }),
                        etag: version.map(|version| format!("W/\"{}\"", version.number)),
                        last_modified: version.map(|version| version.at.to_string()),
                        outcome: None,
                    },
                }
            }
        })
        .collect();
    to_raw_value(&ResponseBundle {
        resource_type: "Bundle",
        r#type: kind,
        entry,
    })
    .map(Answer::of_bundle)
    .map_err(unwritable)
}
