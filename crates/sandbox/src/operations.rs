//! The interactions on one resource type: read, vread, history, search, create, update, delete.
//!
//! Not HTTP: an [`Answer`] says what to send, `server` sends it. Start at [`perform`].
//!
//! # Source
//! FHIR R4, RESTful API, <https://hl7.org/fhir/R4/http.html>.

use std::sync::Arc;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::definitions::ResourceType;
use crate::interaction::{Interaction, pairs};
use crate::outcome::Refusal;
use crate::patching::patched;
use crate::profile::ServerProfile;
use crate::search::{Handling, Query, matching, run};
use crate::signing::may_come_in;
use crate::storage::{ChangeKind, Resource, Storage, Version};

/// The deepest nesting of objects and lists in a body.
const DEPTH_MAX: usize = 48;
/// The most versions one history answer holds, newest first.
const HISTORY_ENTRIES_MAX: usize = 500;

/// The conditions a request carries, after the profile had its say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    pub(crate) if_none_exist: Option<String>,
    pub(crate) if_match: Option<String>,
}

/// Who asks, when and under which profile: what every write needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    pub(crate) profile: ServerProfile,
    pub(crate) handling: Handling,
    pub(crate) now: Timestamp,
    /// The number of the HTTP request.
    pub(crate) request: u64,
}

/// What to answer to one interaction.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The version concerned, for ETag, Last-Modified, Location and body.
    pub(crate) version: Option<Arc<Version>>,
    /// A body that is not a stored version.
    pub(crate) bundle: Option<Box<RawValue>>,
}

impl Answer {
    pub(crate) fn of_version(status: StatusCode, version: &Arc<Version>) -> Self {
        Self {
            status,
            version: Some(Arc::clone(version)),
            bundle: None,
        }
    }

    pub(crate) fn of_bundle(bundle: Box<RawValue>) -> Self {
        Self {
            status: StatusCode::OK,
            version: None,
            bundle: Some(bundle),
        }
    }

    /// The JSON to send, if any.
    pub(crate) fn body(&self) -> Option<&RawValue> {
        self.bundle.as_deref().or_else(|| {
            self.version
                .as_ref()
                .and_then(|version| version.body.as_deref())
        })
    }
}

/// Whether the profile offers the interaction at all.
///
/// # Errors
/// 404 for a type the profile does not hold, 405 for an interaction it does not offer.
pub(crate) fn offered(interaction: &Interaction, profile: ServerProfile) -> Result<(), Refusal> {
    if interaction
        .kind()
        .is_some_and(|kind| !profile.holds(kind.name))
    {
        return Err(Refusal::unknown_type());
    }
    let is_written_so = match interaction {
        Interaction::FileEntry => profile.files_entries(),
        Interaction::Create { kind } => profile.creates(kind.0.name),
        Interaction::Update { kind, .. } => profile.updates(kind.0.name),
        Interaction::Patch { .. } => profile.patches(),
        Interaction::Delete { .. } => profile.deletes(),
        _ => true,
    };
    if !is_written_so {
        return Err(Refusal::not_offered("writing in this way"));
    }
    match interaction {
        Interaction::Bundle if !profile.takes_bundles() => {
            Err(Refusal::not_offered("transactions or batches"))
        }
        Interaction::VersionRead { .. } | Interaction::History { .. }
            if !profile.shows_versions() =>
        {
            Err(Refusal::not_offered("versions"))
        }
        _ => Ok(()),
    }
}

/// Carries out an interaction that only reads.
///
/// # Errors
/// 404, 410 or 400, as the standard says.
pub(crate) fn perform_read(
    storage: &Storage,
    interaction: &Interaction,
    handling: Handling,
) -> Result<Answer, Refusal> {
    match interaction {
        Interaction::Read { kind, id } => {
            let version = storage.newest(kind.0, id).ok_or_else(Refusal::not_found)?;
            if version.body.is_none() {
                return Err(Refusal::gone());
            }
            Ok(Answer::of_version(StatusCode::OK, version))
        }
        Interaction::VersionRead { kind, id, version } => {
            let version = storage
                .history(kind.0, id)
                .iter()
                .find(|candidate| candidate.number == *version)
                .ok_or_else(Refusal::not_found)?;
            if version.body.is_none() {
                return Err(Refusal::gone());
            }
            Ok(Answer::of_version(StatusCode::OK, version))
        }
        Interaction::History { kind, id } => history(storage, kind.0, id),
        Interaction::Search { kind, query } => {
            let query = Query::parse(kind.0, &pairs(query), handling, storage.base())?;
            run(storage, &query)
                .map(Answer::of_bundle)
                .map_err(unwritable)
        }
        Interaction::Metadata
        | Interaction::Bundle
        | Interaction::FileEntry
        | Interaction::Create { .. }
        | Interaction::Update { .. }
        | Interaction::Patch { .. }
        | Interaction::Delete { .. } => Err(Refusal::not_offered("this interaction here")),
    }
}

/// Carries out any interaction on one resource type.
///
/// # Errors
/// As [`perform_read`], and 412 where a condition does not hold, 400 for a bad body.
pub(crate) fn perform(
    storage: &mut Storage,
    interaction: &Interaction,
    resource: Option<Resource>,
    conditions: &Conditions,
    circumstances: Circumstances,
) -> Result<Answer, Refusal> {
    let body = |resource: Option<Resource>| {
        resource.ok_or_else(|| Refusal::invalid("the request needs a resource as its body"))
    };
    match interaction {
        Interaction::Create { kind } => {
            let resource = body(resource)?;
            check_type(&resource, kind.0)?;
            if circumstances.profile.takes_unsigned_only() && !may_come_in(kind.0.name, &resource) {
                return Err(Refusal::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "business-rule",
                    "orders and notes are signed here: send them unsigned",
                ));
            }
            if let Some(existing) = existing(storage, kind.0, conditions)? {
                return Ok(Answer::of_version(StatusCode::OK, &existing));
            }
            let id = storage.new_id(kind.0);
            write(storage, kind.0, &id, Some(resource), circumstances)
        }
        Interaction::Update { kind, id } => {
            let resource = body(resource)?;
            check_type(&resource, kind.0)?;
            check_id(&resource, id)?;
            check_match(storage, kind.0, id, conditions)?;
            write(storage, kind.0, id, Some(resource), circumstances)
        }
        Interaction::Patch { kind, id, patch } => {
            check_match(storage, kind.0, id, conditions)?;
            let resource = patched(storage, kind.0, id, patch)?;
            write(storage, kind.0, id, Some(resource), circumstances)
        }
        Interaction::Delete { kind, id } => {
            if storage.newest(kind.0, id).is_none() {
                return Err(Refusal::not_found());
            }
            check_match(storage, kind.0, id, conditions)?;
            if storage.live(kind.0, id).is_some() {
                let mut answer = write(storage, kind.0, id, None, circumstances)?;
                answer.status = StatusCode::NO_CONTENT;
                return Ok(answer);
            }
            Ok(Answer {
                status: StatusCode::NO_CONTENT,
                version: None,
                bundle: None,
            })
        }
        _ => perform_read(storage, interaction, circumstances.handling),
    }
}

fn write(
    storage: &mut Storage,
    kind: &'static ResourceType,
    id: &str,
    resource: Option<Resource>,
    circumstances: Circumstances,
) -> Result<Answer, Refusal> {
    let at = storage.moment(circumstances.now);
    let prepared = storage.prepare(kind, id, resource, at)?;
    let status = match prepared.change {
        ChangeKind::Created => StatusCode::CREATED,
        ChangeKind::Updated | ChangeKind::Deleted => StatusCode::OK,
    };
    let version = storage.commit(prepared, Some(circumstances.request));
    Ok(Answer::of_version(status, &version))
}

/// The one resource that If-None-Exist names, if there is one.
///
/// # Errors
/// 412 when several match, 400 when the condition cannot be understood or has no criterion.
pub(crate) fn existing(
    storage: &Storage,
    kind: &'static ResourceType,
    conditions: &Conditions,
) -> Result<Option<Arc<Version>>, Refusal> {
    let Some(condition) = &conditions.if_none_exist else {
        return Ok(None);
    };
    let condition = condition.strip_prefix('?').unwrap_or(condition);
    let query = Query::parse(kind, &pairs(condition), Handling::Strict, storage.base())?;
    if !query.has_criteria() {
        return Err(Refusal::invalid("If-None-Exist names no search criterion"));
    }
    match matching(storage, &query).as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(Arc::clone(one))),
        _ => Err(Refusal::precondition(
            "multiple-matches",
            "If-None-Exist matches more than one resource",
        )),
    }
}

/// Refuses a body whose resourceType is not that of the URL, or whose nesting is too deep.
pub(crate) fn check_type(resource: &Resource, kind: &ResourceType) -> Result<(), Refusal> {
    if resource.get("resourceType").and_then(Value::as_str) != Some(kind.name) {
        return Err(Refusal::invalid(format!(
            "the resourceType of the body is not `{}`, as the URL says",
            kind.name
        )));
    }
    if resource.values().any(|value| too_deep(value, 1)) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "too-costly",
            format!("the body is nested deeper than {DEPTH_MAX}"),
        ));
    }
    Ok(())
}

fn too_deep(value: &Value, depth: usize) -> bool {
    if depth > DEPTH_MAX {
        return true;
    }
    match value {
        Value::Array(items) => items.iter().any(|item| too_deep(item, depth + 1)),
        Value::Object(members) => members.values().any(|item| too_deep(item, depth + 1)),
        _ => false,
    }
}

/// Refuses an update whose body carries another id than the URL.
pub(crate) fn check_id(resource: &Resource, id: &str) -> Result<(), Refusal> {
    if resource.get("id").and_then(Value::as_str) == Some(id) {
        Ok(())
    } else {
        Err(Refusal::invalid(
            "the body of an update must carry the id that the URL names",
        ))
    }
}

/// Refuses a write whose If-Match is not the current version.
pub(crate) fn check_match(
    storage: &Storage,
    kind: &ResourceType,
    id: &str,
    conditions: &Conditions,
) -> Result<(), Refusal> {
    let Some(condition) = &conditions.if_match else {
        return Ok(());
    };
    let wanted = condition.trim();
    let wanted: u64 = wanted
        .strip_prefix("W/")
        .unwrap_or(wanted)
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .and_then(|version| version.parse().ok())
        .ok_or_else(|| Refusal::invalid("If-Match is not an ETag of the form W/\"1\""))?;
    match storage.live(kind, id) {
        Some(version) if version.number == wanted => Ok(()),
        Some(_) => Err(Refusal::precondition(
            "conflict",
            "the resource has another version than If-Match names; read it again",
        )),
        None => Err(Refusal::precondition(
            "conflict",
            "If-Match names a version of a resource that does not exist",
        )),
    }
}

pub(crate) fn unwritable(_: serde_json::Error) -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "exception",
        "the answer could not be written as JSON",
    )
}

#[derive(Serialize)]
struct HistoryBundle<'a> {
    #[serde(rename = "resourceType")]
    resource_type: &'static str,
    r#type: &'static str,
    total: usize,
    entry: Vec<HistoryEntry<'a>>,
}

#[derive(Serialize)]
struct HistoryEntry<'a> {
    #[serde(rename = "fullUrl")]
    full_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a RawValue>,
    request: HistoryRequest,
    response: HistoryResponse,
}

#[derive(Serialize)]
struct HistoryRequest {
    method: &'static str,
    url: String,
}

#[derive(Serialize)]
struct HistoryResponse {
    status: &'static str,
    etag: String,
    #[serde(rename = "lastModified")]
    last_modified: String,
}

fn history(storage: &Storage, kind: &'static ResourceType, id: &str) -> Result<Answer, Refusal> {
    let versions = storage.history(kind, id);
    if versions.is_empty() {
        return Err(Refusal::not_found());
    }
    let entry = versions
        .iter()
        .rev()
        .take(HISTORY_ENTRIES_MAX)
        .map(|version| {
            let (method, status) = match version.change {
                ChangeKind::Created if version.number == 1 => ("POST", "201 Created"),
                ChangeKind::Created => ("PUT", "201 Created"),
                ChangeKind::Updated => ("PUT", "200 OK"),
                ChangeKind::Deleted => ("DELETE", "204 No Content"),
            };
            HistoryEntry {
                full_url: format!("{}/{}/{id}", storage.base(), kind.name),
                resource: version.body.as_deref(),
                request: HistoryRequest {
                    method,
                    url: if method == "POST" {
                        kind.name.to_owned()
                    } else {
                        format!("{}/{id}", kind.name)
                    },
                },
                response: HistoryResponse {
                    status,
                    etag: format!("W/\"{}\"", version.number),
                    last_modified: version.at.to_string(),
                },
            }
        })
        .collect();
    to_raw_value(&HistoryBundle {
        resource_type: "Bundle",
        r#type: "history",
        total: versions.len(),
        entry,
    })
    .map(Answer::of_bundle)
    .map_err(unwritable)
}
