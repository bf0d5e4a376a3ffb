//! The entries of a Bundle by their URLs, and the resolution of references among them.
//!
//! Start at [`Index::resolve`].
//!
//! Rules: <https://hl7.org/fhir/R4/bundle.html#references>.

use std::collections::HashMap;

use crate::json::{Kind, Value};
use crate::references::ReferenceForm;

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'d> {
    /// Its place in `Bundle.entry`.
    pub position: usize,
    /// The whole entry.
    pub value: Value<'d>,
    /// `fullUrl`.
    pub full_url: Option<&'d str>,
    /// The resource.
    pub resource: Option<Value<'d>>,
    /// The resource's type.
    pub resource_type: Option<&'d str>,
    /// The resource's id.
    pub id: Option<&'d str>,
    /// `meta.versionId` of the resource.
    pub version: Option<&'d str>,
}

/// Where a reference leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// To that entry.
    Entry(usize),
    /// To several entries; the first.
    Ambiguous(usize),
    /// By the rules of Bundles to none, but this entry has that type and id.
    OnlyTypeAndId(usize),
    /// To no entry.
    Nothing,
}

/// The entries of a Bundle.
#[derive(Debug)]
pub struct Index<'d> {
    entries: Vec<Entry<'d>>,
    by_url: HashMap<&'d str, Vec<usize>>,
    by_type_and_id: HashMap<(&'d str, &'d str), Vec<usize>>,
}

impl<'d> Index<'d> {
    /// Reads the entries of a Bundle.
    #[must_use]
    pub fn new(bundle: Value<'d>) -> Self {
        let mut index = Self {
            entries: Vec::new(),
            by_url: HashMap::new(),
            by_type_and_id: HashMap::new(),
        };
        let list = bundle.get("entry").into_iter().flat_map(Value::children);
        for (position, value) in list.enumerate() {
            let entry = read(position, value);
            if let Some(url) = entry.full_url {
                index.by_url.entry(url).or_default().push(position);
            }
            if let (Some(type_name), Some(id)) = (entry.resource_type, entry.id) {
                let same = index.by_type_and_id.entry((type_name, id)).or_default();
                same.push(position);
            }
            index.entries.push(entry);
        }
        index
    }

    /// The entries in their order.
    #[must_use]
    pub fn entries(&self) -> &[Entry<'d>] {
        &self.entries
    }

    /// The entry at a place.
    #[must_use]
    pub fn entry(&self, position: usize) -> Option<&Entry<'d>> {
        self.entries.get(position)
    }

    /// The entries with that `fullUrl`.
    #[must_use]
    pub fn with_url(&self, url: &str) -> &[usize] {
        self.by_url.get(url).map_or(&[], Vec::as_slice)
    }

    /// Where a reference leads that stands in the resource of an entry with the `fullUrl` `from`.
    ///
    /// Fragments (`#id`) and conditional references lead nowhere here.
    #[must_use]
    pub fn resolve(&self, from: Option<&str>, reference: &str) -> Resolution {
        let form = ReferenceForm::parse(reference);
        match form {
            ReferenceForm::Typed {
                base,
                resource_type,
                id,
                version,
            } => {
                let found = match base {
                    Some(base) => self.at(&format!("{base}/{resource_type}/{id}"), version),
                    None => match from.and_then(|it| absolute(it, resource_type, id)) {
                        Some(url) => self.at(&url, version),
                        None => Resolution::Nothing,
                    },
                };
                if found != Resolution::Nothing || base.is_some() {
                    return found;
                }
                match self.by_type_and_id.get(&(resource_type, id)) {
                    Some(same) => same
                        .first()
                        .map_or(Resolution::Nothing, |it| Resolution::OnlyTypeAndId(*it)),
                    None => Resolution::Nothing,
                }
            }
            ReferenceForm::Urn | ReferenceForm::OtherAbsolute => {
                // A fragment names something inside the resource that the rest names.
                let whole = reference.split('#').next().unwrap_or(reference);
                self.at(whole, None)
            }
            ReferenceForm::Contained { .. }
            | ReferenceForm::Conditional { .. }
            | ReferenceForm::Unrecognised => Resolution::Nothing,
        }
    }

    fn at(&self, url: &str, version: Option<&str>) -> Resolution {
        let mut fitting = self.with_url(url).iter().copied().filter(|position| {
            version.is_none()
                || self
                    .entry(*position)
                    .is_some_and(|it| it.version == version)
        });
        match (fitting.next(), fitting.next()) {
            (Some(first), None) => Resolution::Entry(first),
            (Some(first), Some(_)) => Resolution::Ambiguous(first),
            (None, _) => Resolution::Nothing,
        }
    }
}

/// The absolute URL of a relative reference: on the server of the entry that holds it, or the URN of the same
/// kind as the entry's.
fn absolute(own: &str, resource_type: &str, id: &str) -> Option<String> {
    for urn in ["urn:uuid:", "urn:oid:"] {
        if own.starts_with(urn) {
            return Some(format!("{urn}{id}"));
        }
    }
    match ReferenceForm::parse(own) {
        ReferenceForm::Typed {
            base: Some(base), ..
        } => Some(format!("{base}/{resource_type}/{id}")),
        _ => None,
    }
}

fn read(position: usize, value: Value<'_>) -> Entry<'_> {
    let resource = value.get("resource").filter(|it| it.kind() == Kind::Object);
    let text = |key: &str| resource.and_then(|it| it.get(key)).and_then(Value::as_str);
    Entry {
        position,
        value,
        full_url: value.get("fullUrl").and_then(Value::as_str),
        resource,
        resource_type: text("resourceType"),
        id: text("id"),
        version: resource
            .and_then(|it| it.get("meta"))
            .and_then(|it| it.get("versionId"))
            .and_then(Value::as_str),
    }
}
