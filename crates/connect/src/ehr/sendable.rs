//! An order checked for everything that can be checked without asking the EHR, so that what cannot be sent is refused
//! before a byte leaves. Not here: sending ([`super::write`]) and finding out ([`super::reconcile`]).

use std::collections::BTreeSet;

use chaperone_core::Timestamp;
use chaperone_core::content::content_digest;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{Delivering, Strategy, WriteOrder};
use chaperone_core::patch::{self, PatchUnfit};
use chaperone_core::ports::InteractionSupport;
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::signed_form::SignedForm;
use chaperone_core::together::{ENTRIES_MAX, NEVER_TOGETHER, OneChange};
use reqwest::header::HeaderValue;
use serde_json::Value;

use super::FhirEndpoint;
use super::answer::{read_etag, version_of};
use super::operation::is_operation;
use super::read::is_id;

/// An order that has been checked and can be sent.
pub(super) struct Sendable<'a> {
    pub(super) order: &'a WriteOrder,
    pub(super) digest: &'a Digest,
    /// Its one change, or the first of several that go as one transaction.
    pub(super) part: Part<'a>,
    /// The others of several.
    pub(super) also: Vec<Part<'a>>,
    /// What a person's signature makes of the body.
    pub(super) signed_body: Option<Value>,
    /// From when on nothing of it leaves.
    pub(super) not_after: Option<Timestamp>,
}

/// One change of an order.
pub(super) struct Part<'a> {
    pub(super) change: OneChange<'a>,
    /// What is sent: for what is placed unsigned, the body with one element set back.
    pub(super) body: Value,
    pub(super) target: Target<'a>,
    pub(super) provenance: Option<Value>,
    /// What is sent in place of the body, where the update goes as a patch.
    pub(super) patch: Option<&'a str>,
}

impl<'a> Sendable<'a> {
    /// Every change, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part<'a>> {
        std::iter::once(&self.part).chain(&self.also)
    }

    pub(super) fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part<'a>> {
        std::iter::once(&mut self.part).chain(&mut self.also)
    }
}

/// What the order writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    New,
    Existing { id: &'a str },
}

impl<'a> Target<'a> {
    pub(super) fn known_id(self) -> Option<&'a str> {
        match self {
            Target::New => None,
            Target::Existing { id } => Some(id),
        }
    }
}

/// Why an order is not sent; each is a fault in the order or the configuration, not of the EHR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsendable {
    #[error("the order is for another connection or endpoint")]
    Elsewhere,
    #[error("the order's path does not fit its type and interaction")]
    Path,
    #[error("the order's body is not a resource of its type and id")]
    Body,
    #[error("the order's Provenance is not a Provenance")]
    Provenance,
    #[error("the order is to be entered by a human")]
    ByHuman,
    #[error("the endpoint's profile no longer offers the order's strategy")]
    Profile,
    #[error("the order lacks the condition or base its strategy rests on")]
    Condition,
    #[error("deletes are never sent")]
    Delete,
    #[error("the order names no operation, or one where its strategy uses none")]
    Operation,
    #[error("the order is to be placed unsigned, and has no unsigned form")]
    SignedForm,
    #[error(
        "several changes are sent as one under conditions alone, each of another resource, and some types never"
    )]
    Together,
    #[error(
        "the endpoint's transactions are not shown to be atomic for each of the order's changes"
    )]
    NotAtomic,
    #[error("a change of several has no Provenance that goes with it")]
    NoProvenance,
    #[error("the order's patch is not for an update under `If-Match`")]
    PatchUse,
    #[error("the order's patch rests on no base, or on another one than the order")]
    PatchBase,
    #[error("the order's patch does not stand for its body: {0}")]
    Patch(#[from] PatchUnfit),
}

impl FhirEndpoint {
    /// Checks everything about an order that can be checked without asking the EHR, and without regard
    /// to what the EHR offers today: an order that was sent yesterday is read the same way.
    pub(super) fn sendable<'a>(
        &self,
        delivering: &'a Delivering,
    ) -> Result<Sendable<'a>, Unsendable> {
        let order = delivering.order();
        let endpoint = order.endpoint.trim_end_matches('/');
        if order.connection != self.connection || endpoint != self.base.as_str() {
            return Err(Unsendable::Elsewhere);
        }
        can_go_together(order)?;
        let mut parts = order.changes().map(|change| part_of(order, change));
        let mut part = parts.next().ok_or(Unsendable::Body)??;
        let also = parts.collect::<Result<Vec<_>, _>>()?;
        if (order.strategy == Strategy::VendorOp)
            != order.operation.as_deref().is_some_and(is_operation)
        {
            return Err(Unsendable::Operation);
        }
        let signed_body = match (order.strategy, &order.signed_form) {
            (Strategy::EhrStaged, Some(form)) if part.target == Target::New => {
                let unsigned = form.unsigned_of(&part.body);
                let unsigned = unsigned.ok_or(Unsendable::SignedForm)?;
                Some(std::mem::replace(&mut part.body, unsigned))
            }
            (Strategy::EhrStaged, _) | (_, Some(_)) => return Err(Unsendable::SignedForm),
            (_, None) => None,
        };
        Ok(Sendable {
            order,
            digest: delivering.digest(),
            part,
            also,
            signed_body,
            not_after: delivering.not_after(),
        })
    }
}

/// Whether several changes of an order may be one transaction: under conditions, each of another resource, and none
/// of what goes alone.
fn can_go_together(order: &WriteOrder) -> Result<(), Unsendable> {
    if !order.is_together() {
        return Ok(());
    }
    if order.strategy != Strategy::Conditional || order.changes().count() > ENTRIES_MAX {
        return Err(Unsendable::Together);
    }
    let mut places = BTreeSet::new();
    for change in order.changes() {
        // A create has no place yet; its condition names what it makes.
        let place = match change.interaction {
            Interaction::Create => (change.resource, change.if_none_exist),
            Interaction::Update | Interaction::Delete => (change.resource, Some(change.path)),
        };
        if NEVER_TOGETHER.contains(&change.resource.as_str()) || !places.insert(place) {
            return Err(Unsendable::Together);
        }
    }
    Ok(())
}

fn part_of<'a>(order: &WriteOrder, change: OneChange<'a>) -> Result<Part<'a>, Unsendable> {
    let target = target_of(&change)?;
    let has_condition = match (order.strategy, target) {
        (Strategy::Conditional, Target::New) => change.if_none_exist.is_some_and(is_header),
        (Strategy::Conditional, Target::Existing { .. }) => change.if_match.is_some_and(is_header),
        (_, Target::New) => true,
        (_, Target::Existing { .. }) => change.base_digest.is_some(),
    };
    if !has_condition {
        return Err(Unsendable::Condition);
    }
    let body = body_of(change.body, change.resource).ok_or(Unsendable::Body)?;
    let id = body.get("id").and_then(Value::as_str);
    if target.known_id().is_some() && id != target.known_id() {
        return Err(Unsendable::Body);
    }
    let provenance = match change.provenance {
        Some(text) => {
            let kind = ResourceType::new("Provenance").map_err(|_| Unsendable::Provenance)?;
            Some(body_of(text, &kind).ok_or(Unsendable::Provenance)?)
        }
        None => None,
    };
    Ok(Part {
        change,
        body,
        target,
        provenance,
        patch: patch_of(order.strategy, &change, target)?,
    })
}

/// The patch of a change that has one. It is sent in place of the body, so it must make that body, of the very version
/// that the order names.
fn patch_of<'a>(
    strategy: Strategy,
    change: &OneChange<'a>,
    target: Target<'_>,
) -> Result<Option<&'a str>, Unsendable> {
    let Some(patch) = change.patch else {
        return Ok(None);
    };
    let (Strategy::Conditional, Target::Existing { id }) = (strategy, target) else {
        return Err(Unsendable::PatchUse);
    };
    let text = change.base.ok_or(Unsendable::PatchBase)?;
    let base = body_of(text, change.resource).ok_or(Unsendable::PatchBase)?;
    let version = change.if_match.and_then(read_etag);
    let is_its_base = base.get("id").and_then(Value::as_str) == Some(id)
        && version.is_some()
        && version_of(&base) == version
        && change.base_version == version.as_ref().map(|version| version.0.as_str())
        && change.base_digest == Some(&content_digest(&base));
    if !is_its_base {
        return Err(Unsendable::PatchBase);
    }
    patch::check(patch, text, change.body)?;
    Ok(Some(patch))
}

/// Whether the endpoint still offers a strategy, or a stronger one, for one change of an order.
pub(super) fn offers(
    support: &InteractionSupport,
    order: &WriteOrder,
    change: &OneChange<'_>,
) -> Result<(), Unsendable> {
    // A patch and a whole resource are two ways, and the one was not shown for the other.
    if change.patch.is_some() != support.patch {
        return Err(Unsendable::Profile);
    }
    // All of it or nothing is what people agreed to.
    if order.is_together() && !support.atomic {
        return Err(Unsendable::NotAtomic);
    }
    // An atomic endpoint takes Provenance, so an order of several is made with the Provenance of each.
    if order.is_together() && !(support.provenance && change.provenance.is_some()) {
        return Err(Unsendable::NoProvenance);
    }
    match (order.strategy, support.strategy) {
        (Strategy::HumanEntry, _) => Err(Unsendable::ByHuman),
        (Strategy::Conditional, Strategy::Conditional)
        | (Strategy::PlainPost, Strategy::Conditional | Strategy::PlainPost)
        | (Strategy::EhrStaged, Strategy::EhrStaged) => Ok(()),
        (Strategy::VendorOp, Strategy::VendorOp) if order.operation == support.operation => Ok(()),
        // A draft that is to stay one is simply posted.
        (Strategy::PlainPost, Strategy::EhrStaged) if is_no_signed_form(change) => Ok(()),
        _ => Err(Unsendable::Profile),
    }
}

/// Whether the body has no effect that only a signature at the server may give it.
fn is_no_signed_form(change: &OneChange<'_>) -> bool {
    let body = body_of(change.body, change.resource);
    SignedForm::of(change.resource)
        .zip(body)
        .is_some_and(|(form, body)| form.is_unsigned(&body))
}

fn target_of<'a>(change: &OneChange<'a>) -> Result<Target<'a>, Unsendable> {
    match change.interaction {
        Interaction::Create if change.path == change.resource.as_str() => Ok(Target::New),
        Interaction::Update => change
            .path
            .split_once('/')
            .filter(|(kind, id)| *kind == change.resource.as_str() && is_id(id))
            .map(|(_, id)| Target::Existing { id })
            .ok_or(Unsendable::Path),
        Interaction::Create => Err(Unsendable::Path),
        Interaction::Delete => Err(Unsendable::Delete),
    }
}

fn body_of(text: &str, resource: &ResourceType) -> Option<Value> {
    let body: Value = serde_json::from_str(text).ok()?;
    let kind = body.get("resourceType")?.as_str()?;
    (kind == resource.as_str()).then_some(body)
}

fn is_header(text: &str) -> bool {
    !text.trim().is_empty() && HeaderValue::from_str(text).is_ok()
}
