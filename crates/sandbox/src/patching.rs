//! Changing a resource by a JSON Patch: as the body of a PATCH, or as a Binary in a transaction.
//!
//! A patch is applied to the current version as it is served, all of it or nothing, and what comes of it is checked as
//! the body of an update is. Other kinds of patch are not offered. Start at [`patched`].
//!
//! # Source
//! RFC 6902; FHIR R4, RESTful API, "patch", <https://hl7.org/fhir/R4/http.html#patch>.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::{Patch, PatchOperation, patch_unsafe};
use serde_json::Value;

use crate::definitions::ResourceType;
use crate::operations::{check_id, check_type};
use crate::outcome::Refusal;
use crate::storage::{Resource, Storage};

/// The one media type of patches that is taken.
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
/// The most operations of one patch.
const OPERATIONS_MAX: usize = 1_000;
/// The most operations of one patch that copy, each of which can double a resource.
const COPIES_MAX: usize = 8;
/// What the server assigns, and no patch changes.
const ASSIGNED: [&str; 4] = [
    "/id",
    "/resourceType",
    "/meta/versionId",
    "/meta/lastUpdated",
];

/// The patch in a body.
///
/// # Errors
/// 400 for what is no JSON Patch, 413 for one with too many operations.
pub(crate) fn of_bytes(body: &[u8]) -> Result<Patch, Refusal> {
    let patch: Patch = serde_json::from_slice(body)
        .map_err(|_| Refusal::invalid("the body is not a JSON Patch (RFC 6902)"))?;
    let copies = patch
        .iter()
        .filter(|operation| matches!(operation, PatchOperation::Copy(_)))
        .count();
    if patch.len() > OPERATIONS_MAX || copies > COPIES_MAX {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-costly",
            format!(
                "a patch takes at most {OPERATIONS_MAX} operations, {COPIES_MAX} of which copy"
            ),
        ));
    }
    Ok(patch)
}

/// The patch that an entry of a bundle holds in a Binary.
///
/// # Errors
/// As [`of_bytes`], 400 where the entry has no Binary with data, and 415 for one of another type.
pub(crate) fn of_binary(resource: Option<&Value>) -> Result<Patch, Refusal> {
    let text = |name: &str| resource?.get(name)?.as_str();
    if text("resourceType") != Some("Binary") {
        return Err(Refusal::invalid(
            "the entry of a patch needs a Binary as its resource",
        ));
    }
    if text("contentType") != Some(JSON_PATCH) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-supported",
            format!("the Binary of a patch must be {JSON_PATCH}"),
        ));
    }
    let data = text("data").and_then(|data| STANDARD.decode(data).ok());
    of_bytes(&data.ok_or_else(|| Refusal::invalid("the Binary of the patch has no data"))?)
}

/// The current version of a resource with a patch applied. Nothing is stored.
///
/// # Errors
/// 404 or 410 where there is none; 422 for a patch that cannot be applied, or that changes what the server assigns; and
/// what an update with the same body would be refused with.
pub(crate) fn patched(
    storage: &Storage,
    kind: &'static ResourceType,
    id: &str,
    patch: &Patch,
) -> Result<Resource, Refusal> {
    let version = storage.newest(kind, id).ok_or_else(Refusal::not_found)?;
    let body = version.body.as_deref().ok_or_else(Refusal::gone)?;
    let before: Value = serde_json::from_str(body.get()).map_err(|_| Refusal::gone())?;
    let mut after = before.clone();
    patch_unsafe(&mut after, patch).map_err(|failed| {
        let place = failed.operation;
        unprocessable(format!("operation {place} of the patch cannot be applied"))
    })?;
    if ASSIGNED
        .iter()
        .any(|place| before.pointer(place) != after.pointer(place))
    {
        return Err(unprocessable(
            "a patch changes nothing that the server assigns",
        ));
    }
    let Value::Object(resource) = after else {
        return Err(unprocessable("the patch leaves no resource"));
    };
    check_type(&resource, kind)?;
    check_id(&resource, id)?;
    Ok(resource)
}

fn unprocessable(diagnostics: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "processing", diagnostics)
}
