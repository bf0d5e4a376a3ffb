//! The one operation by which the `vendor` profile takes writes: `POST [base]/$file-entry`.
//!
//! A message holds a resource and an id of its own; the answer acknowledges it and names what was filed. The same
//! message again files nothing and says `duplicate`; the same id with another resource is refused. Start at [`file`].
//!
//! # Source
//! FHIR R4, Operations Framework and Parameters.

use std::collections::HashMap;

use axum::http::StatusCode;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::definitions::resource_type;
use crate::interaction::{Interaction, Kind, is_logical_id};
use crate::operations::{Answer, Circumstances, Conditions, perform, unwritable};
use crate::outcome::Refusal;
use crate::storage::{Resource, Storage};

/// The path of the operation below the base.
pub(crate) const OPERATION: &str = "$file-entry";
/// The most messages that are remembered; further ones are refused with 507.
const MESSAGES_MAX: usize = 100_000;
/// The longest message id, in bytes.
const MESSAGE_ID_BYTES_MAX: usize = 256;
/// The most parameters of a message that are looked at.
const PARAMETERS_MAX: usize = 32;

/// What was filed under which message id.
#[derive(Debug, Default)]
pub(crate) struct Filed(HashMap<String, Filing>);

#[derive(Debug)]
struct Filing {
    resource: Resource,
    reference: String,
}

/// A message, taken apart.
struct Message<'a> {
    id: &'a str,
    resource: &'a Resource,
}

impl<'a> Message<'a> {
    fn of(body: &'a Resource) -> Option<Self> {
        if body.get("resourceType").and_then(Value::as_str) != Some("Parameters") {
            return None;
        }
        let parameters = body.get("parameter").and_then(Value::as_array)?;
        let named = |name: &str| {
            parameters
                .iter()
                .take(PARAMETERS_MAX)
                .find(|one| one.get("name").and_then(Value::as_str) == Some(name))
        };
        Some(Self {
            id: named("message-id")?
                .get("valueString")?
                .as_str()
                .filter(|id| (1..=MESSAGE_ID_BYTES_MAX).contains(&id.len()))?,
            resource: named("resource")?.get("resource")?.as_object()?,
        })
    }
}

/// What filing a message does to the resources: makes one, or replaces the one whose id it carries. For matching
/// faults and permissions before anything is done.
pub(crate) fn entry(body: &Resource) -> Option<Interaction> {
    let resource = Message::of(body)?.resource;
    let kind = Kind(resource_type(resource.get("resourceType")?.as_str()?)?);
    match resource.get("id").and_then(Value::as_str) {
        None => Some(Interaction::Create { kind }),
        Some(id) if is_logical_id(id) => Some(Interaction::Update {
            kind,
            id: id.to_owned(),
        }),
        Some(_) => None,
    }
}

/// Files a message, once.
///
/// # Errors
/// 400 for what is no message, 404 for a resource to be replaced that is not there, 409 for a message id that was
/// used for something else, and whatever the write itself is refused with.
pub(crate) fn file(
    storage: &mut Storage,
    filed: &mut Filed,
    body: &Resource,
    circumstances: Circumstances,
) -> Result<Answer, Refusal> {
    let (Some(message), Some(interaction)) = (Message::of(body), entry(body)) else {
        return Err(Refusal::invalid(
            "the operation takes Parameters with `message-id` and `resource`",
        ));
    };
    if let Some(before) = filed.0.get(message.id) {
        return if before.resource == *message.resource {
            acknowledgement("duplicate", &before.reference)
        } else {
            Err(Refusal::new(
                StatusCode::CONFLICT,
                "duplicate",
                "the message id was used for something else",
            ))
        };
    }
    if filed.0.len() >= MESSAGES_MAX {
        return Err(Refusal::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "too-costly",
            "no more messages are remembered",
        ));
    }
    if let Interaction::Update { kind, id } = &interaction
        && storage.live(kind.0, id).is_none()
    {
        return Err(Refusal::not_found());
    }
    let resource = message.resource.clone();
    let conditions = Conditions::default();
    let done = perform(
        storage,
        &interaction,
        Some(resource.clone()),
        &conditions,
        circumstances,
    )?;
    let version = done.version.ok_or_else(Refusal::not_found)?;
    let reference = format!("{}/{}", version.kind.name, version.id);
    let answer = acknowledgement("accepted", &reference)?;
    filed.0.insert(
        message.id.to_owned(),
        Filing {
            resource,
            reference,
        },
    );
    Ok(answer)
}

fn acknowledgement(outcome: &str, reference: &str) -> Result<Answer, Refusal> {
    to_raw_value(&json!({
        "resourceType": "Parameters",
        "parameter": [
            {"name": "outcome", "valueCode": outcome},
            {"name": "reference", "valueReference": {"reference": reference}},
        ],
    }))
    .map(Answer::of_bundle)
    .map_err(unwritable)
}
