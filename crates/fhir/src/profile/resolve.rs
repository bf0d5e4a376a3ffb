//! Finds what a reference points to: contained resources, entries of the same Bundle, what the caller has.
//!
//! Nothing is fetched. Start at [`Resolver::resolve`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/references.html#contained> and
//! <https://hl7.org/fhir/R4/bundle.html#references>.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::walk::Frame;
use crate::json::Value;
use crate::references::ReferenceForm;

/// What the caller has at hand beside the text that is checked.
pub trait Supporting: Sync {
    /// The resource that a reference (absolute, or `Type/id`) points to.
    fn find(&self, reference: &str) -> Option<Value<'_>>;
}

/// Where a target was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Contained,
    Bundled,
    Elsewhere,
}

/// A target with the surroundings that its own references are resolved in.
#[derive(Clone, Copy)]
pub(crate) struct Target<'d> {
    pub(crate) value: Value<'d>,
    pub(crate) found: Found,
    pub(crate) frame: Frame<'d>,
}

/// Finds targets within one text and what the caller brought.
pub(crate) struct Resolver<'d> {
    root: Value<'d>,
    supporting: Option<&'d dyn Supporting>,
    /// Entries of the outermost Bundle by `fullUrl`.
    entries: OnceCell<HashMap<&'d str, Value<'d>>>,
}

impl<'d> Resolver<'d> {
    pub(crate) fn new(root: Value<'d>, supporting: Option<&'d dyn Supporting>) -> Self {
        Self {
            root,
            supporting,
            entries: OnceCell::new(),
        }
    }

    pub(crate) fn root(&self) -> Value<'d> {
        self.root
    }

    /// The target of a reference that stands in the frame's resource.
    pub(crate) fn resolve(&self, reference: &str, frame: &Frame<'d>) -> Option<Target<'d>> {
        if let Some(id) = reference.strip_prefix('#') {
            return contained(frame, id);
        }
        let reference = reference
            .split_once('#')
            .map_or(reference, |(reference, _)| reference);
        if let Some(target) = self.bundled(reference, frame) {
            return Some(target);
        }
        let value = self.supporting?.find(reference)?;
        Some(Target {
            value,
            found: Found::Elsewhere,
            frame: Frame::of(value),
        })
    }

    fn bundled(&self, reference: &str, frame: &Frame<'d>) -> Option<Target<'d>> {
        let bundle = frame.bundle?;
        let is_outermost = bundle.is_same(self.root);
        let unversioned = reference
            .split_once("/_history/")
            .map_or(reference, |(unversioned, _)| unversioned);
        let absolute;
        let wanted = if unversioned.contains(':') {
            unversioned
        } else {
            let base = rest_base(frame.full_url?)?;
            absolute = format!("{base}/{unversioned}");
            &absolute
        };
        let entry = if is_outermost {
            *self
                .entries
                .get_or_init(|| by_full_url(bundle))
                .get(wanted)?
        } else {
            entries(bundle)
                .find(|entry| entry.get("fullUrl").and_then(Value::as_str) == Some(wanted))?
        };
        let value = entry.get("resource")?;
        Some(Target {
            value,
            found: Found::Bundled,
            frame: Frame {
                bundle: Some(bundle),
                full_url: entry.get("fullUrl").and_then(Value::as_str),
                ..Frame::of(value)
            },
        })
    }
}

fn contained<'d>(frame: &Frame<'d>, id: &str) -> Option<Target<'d>> {
    let value = if id.is_empty() {
        frame.root
    } else {
        frame
            .root
            .get("contained")?
            .children()
            .find(|it| it.get("id").and_then(Value::as_str) == Some(id))?
    };
    Some(Target {
        value,
        found: Found::Contained,
        frame: Frame {
            resource: value,
            ..*frame
        },
    })
}

fn entries<'d>(bundle: Value<'d>) -> impl Iterator<Item = Value<'d>> {
    bundle.get("entry").into_iter().flat_map(Value::children)
}

fn by_full_url<'d>(bundle: Value<'d>) -> HashMap<&'d str, Value<'d>> {
    let mut by_url = HashMap::new();
    for entry in entries(bundle) {
        if let Some(url) = entry.get("fullUrl").and_then(Value::as_str) {
            by_url.entry(url).or_insert(entry);
        }
    }
    by_url
}

/// The base of a RESTful `fullUrl`: what stands before `Type/id`.
fn rest_base(full_url: &str) -> Option<&str> {
    match ReferenceForm::parse(full_url) {
        ReferenceForm::Typed { .. } => {
            let unversioned = full_url
                .split_once("/_history/")
                .map_or(full_url, |(unversioned, _)| unversioned);
            let (before_id, _) = unversioned.rsplit_once('/')?;
            let (base, _) = before_id.rsplit_once('/')?;
            base.contains(':').then_some(base)
        }
        _ => None,
    }
}
