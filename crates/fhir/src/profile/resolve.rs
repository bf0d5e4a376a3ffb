//! Finds what a reference points to: contained resources, entries of the same Bundle, resources of the same
//! Parameters, what the caller has.
//!
//! Nothing is fetched; how references lead to entries is [`Index`]'s business. Start at [`Resolver::resolve`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/references.html#contained> and
//! <https://hl7.org/fhir/R4/bundle.html#references>.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use super::walk::Frame;
use crate::bundle::{Entry, Index, Resolution};
use crate::json::{Kind, Value};

/// The extension by which a parameter states the URL of the resource that it holds.
///
/// # Source
/// FHIR Extensions Pack, `parameters-fullUrl`.
const PARAMETERS_FULL_URL: &str = "http://hl7.org/fhir/StructureDefinition/parameters-fullUrl";

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
    /// Entries of the outermost Bundle.
    entries: OnceCell<Index<'d>>,
    /// If the text is a Parameters resource: what is in it, by the references that lead there.
    parameters: OnceCell<HashMap<Cow<'d, str>, Frame<'d>>>,
}

impl<'d> Resolver<'d> {
    pub(crate) fn new(root: Value<'d>, supporting: Option<&'d dyn Supporting>) -> Self {
        Self {
            root,
            supporting,
            entries: OnceCell::new(),
            parameters: OnceCell::new(),
        }
    }

    pub(crate) fn root(&self) -> Value<'d> {
        self.root
    }

    /// Whether references in the frame could lead to anything beside contained resources.
    pub(crate) fn has_surroundings(&self, frame: &Frame<'_>) -> bool {
        frame.bundle.is_some() || self.supporting.is_some() || is_of(self.root, "Parameters")
    }

    /// The target of a reference that stands in the frame's resource.
    pub(crate) fn resolve(&self, reference: &str, frame: &Frame<'d>) -> Option<Target<'d>> {
        if let Some(id) = reference.strip_prefix('#') {
            return contained(frame, id);
        }
        let reference = reference
            .split_once('#')
            .map_or(reference, |(reference, _)| reference);
        if let Some(frame) = self.bundled(reference, frame) {
            return Some(Target {
                value: frame.resource,
                found: Found::Bundled,
                frame,
            });
        }
        let frame = match self.in_parameters(reference) {
            Some(frame) => frame,
            None => Frame::of(self.supporting?.find(reference)?),
        };
        Some(Target {
            value: frame.resource,
            found: Found::Elsewhere,
            frame,
        })
    }

    /// The frame of a resource that stands in an entry of a Bundle; `None` if it is in none of them.
    pub(crate) fn entry_frame(&self, bundle: Value<'d>, resource: Value<'d>) -> Option<Frame<'d>> {
        self.with_index(bundle, |index| {
            let after = index
                .entries()
                .partition_point(|it| it.value.offset() <= resource.offset());
            let entry = index.entry(after.checked_sub(1)?)?;
            let is_it = entry.resource.is_some_and(|it| it.is_same(resource));
            is_it.then(|| frame_of_entry(bundle, entry)).flatten()
        })
    }

    fn bundled(&self, reference: &str, frame: &Frame<'d>) -> Option<Frame<'d>> {
        let bundle = frame.bundle?;
        self.with_index(bundle, |index| {
            match index.resolve(frame.full_url, reference) {
                Resolution::Entry(at) | Resolution::Ambiguous(at) => {
                    frame_of_entry(bundle, index.entry(at)?)
                }
                Resolution::OnlyTypeAndId(_) | Resolution::Nothing => None,
            }
        })
    }

    /// The outermost Bundle is read once, one within it whenever it is asked for.
    fn with_index<T>(&self, bundle: Value<'d>, ask: impl FnOnce(&Index<'d>) -> T) -> T {
        if bundle.is_same(self.root) {
            ask(self.entries.get_or_init(|| Index::new(bundle)))
        } else {
            ask(&Index::new(bundle))
        }
    }

    /// The frame of what a reference leads to in the Parameters resource that the text is.
    fn in_parameters(&self, reference: &str) -> Option<Frame<'d>> {
        if !is_of(self.root, "Parameters") {
            return None;
        }
        let unversioned = reference
            .split_once("/_history/")
            .map_or(reference, |(unversioned, _)| unversioned);
        self.parameters
            .get_or_init(|| in_parameters(self.root))
            .get(unversioned)
            .copied()
    }
}

fn is_of(resource: Value<'_>, type_name: &str) -> bool {
    resource.get("resourceType").and_then(Value::as_str) == Some(type_name)
}

fn frame_of_entry<'d>(bundle: Value<'d>, entry: &Entry<'d>) -> Option<Frame<'d>> {
    Some(Frame {
        bundle: Some(bundle),
        full_url: entry.full_url,
        ..Frame::of(entry.resource?)
    })
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

/// The resources of a Parameters resource and of the Bundles in it: by type and id, by the extension that
/// states a URL, and by the `fullUrl` of entries. The first of several with the same name counts.
fn in_parameters<'d>(parameters: Value<'d>) -> HashMap<Cow<'d, str>, Frame<'d>> {
    let mut found = HashMap::new();
    let list = |of: Value<'d>, name| of.get(name).into_iter().flat_map(Value::children);
    let mut open: Vec<Value<'d>> = list(parameters, "parameter").collect();
    open.reverse();
    while let Some(parameter) = open.pop() {
        let parts = open.len();
        open.extend(list(parameter, "part"));
        open.get_mut(parts..).unwrap_or_default().reverse();
        let Some(resource) = parameter
            .get("resource")
            .filter(|it| it.kind() == Kind::Object)
        else {
            continue;
        };
        let text = |name| resource.get(name).and_then(Value::as_str);
        if let (Some(type_name), Some(id)) = (text("resourceType"), text("id")) {
            found
                .entry(Cow::Owned(format!("{type_name}/{id}")))
                .or_insert(Frame::of(resource));
        }
        let urls = list(parameter, "extension")
            .filter(|it| it.get("url").and_then(Value::as_str) == Some(PARAMETERS_FULL_URL))
            .filter_map(|it| it.get("valueUri")?.as_str());
        for url in urls {
            found
                .entry(Cow::Borrowed(url))
                .or_insert(Frame::of(resource));
        }
        if is_of(resource, "Bundle") {
            for entry in Index::new(resource).entries() {
                if let (Some(url), Some(frame)) = (entry.full_url, frame_of_entry(resource, entry))
                {
                    found.entry(Cow::Borrowed(url)).or_insert(frame);
                }
            }
        }
    }
    found
}
