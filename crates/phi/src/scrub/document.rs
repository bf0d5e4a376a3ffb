//! Whole FHIR resources and attachments without identifiers: every string is looked at, wherever it stands.
//!
//! What has the shape of a name, address, contact point or identifier is replaced as a whole; codes and
//! addresses of definitions stay unless the record's own identifiers are in them; every other string is free
//! text. Attachments are read where they are text, HTML or RTF, and withheld where they are not. Not here: which
//! elements an agent may see at all ([`crate::view`]).
//!
//! Start at [`Scrubber::scrub_resource`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::calendar::Day;
use super::class::Class;
use super::known::is_vital_date;
use super::markup::{self, Names};
use super::passage::FreeText;
use super::slots::Slots;
use super::{DateUse, Scrubbed, Scrubber, Withheld};

mod content;
mod shape;

pub(super) use self::content::decode;
use self::content::read_text;
use self::shape::{Shape, is_bytes, is_signature};
pub(crate) use self::shape::{
    fhir_day, is_attachment, is_code, is_code_name, is_element_name, is_geolocation, is_type_name,
    type_and_id,
};

/// Deepest nesting of a resource.
const DEPTH_MAX: usize = 64;

/// Longest name of a member, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What is said of a member whose name may itself identify somebody.
const UNNAMED: &str = "an element whose name is no element's";

/// Most values of a resource.
const VALUES_MAX: usize = 500_000;

/// A resource without identifiers.
#[derive(Clone, PartialEq)]
pub struct ScrubbedResource {
    /// The resource, with slots.
    pub value: Value,
    /// What is not in it at all, and why.
    pub withheld: Vec<WithheldAt>,
    /// How many identifiers were replaced, by class.
    pub replaced: BTreeMap<Class, usize>,
}

impl std::fmt::Debug for ScrubbedResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScrubbedResource")
            .field("withheld", &self.withheld)
            .field("replaced", &self.replaced)
            .finish_non_exhaustive()
    }
}

/// An element that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithheldAt {
    /// Where it was: names of elements, joined by dots.
    pub path: String,
    /// Why.
    pub reason: Withheld,
}

/// The resource cannot be read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DocumentRefused {
    /// Too deep or too large.
    #[error(
        "the resource is nested more than {DEPTH_MAX} deep or holds more than {VALUES_MAX} values"
    )]
    TooLarge,
    /// The envelope has no more slots.
    #[error(transparent)]
    Slots(#[from] super::slots::SlotsUsedUp),
}

impl Scrubber<'_> {
    /// Replaces or withholds everything in a resource that identifies somebody.
    ///
    /// # Errors
    /// [`DocumentRefused`]: nothing of the resource may be shown.
    pub fn scrub_resource(
        &self,
        resource: &Value,
        slots: &mut Slots,
    ) -> Result<ScrubbedResource, DocumentRefused> {
        let mut walk = Walk {
            scrubber: self,
            slots,
            withheld: Vec::new(),
            replaced: BTreeMap::new(),
            values: 0,
        };
        let value = walk.value("", resource, &Path::root(), 0)?;
        Ok(ScrubbedResource {
            value: value.unwrap_or(Value::Null),
            withheld: walk.withheld,
            replaced: walk.replaced,
        })
    }

    /// The text of content of a media type, as a reader sees it.
    ///
    /// # Errors
    /// [`Withheld::TooLong`]; [`Withheld::Unreadable`], for everything but text, HTML, XML, JSON and RTF in an
    /// encoding that is known.
    pub fn readable(&self, content_type: Option<&str>, bytes: &[u8]) -> Result<String, Withheld> {
        let bytes_max = self.settings().budget.bytes_max;
        if bytes.len() > bytes_max {
            return Err(Withheld::TooLong { bytes_max });
        }
        read_text(content_type, bytes).ok_or(Withheld::Unreadable)
    }

    /// A text that does not say what it is, as a reader sees it: markup without its tags, JSON as its texts.
    ///
    /// # Errors
    /// [`Withheld::TooLong`]; [`Withheld::Unreadable`] for what begins like JSON or RTF and is none.
    pub fn plain<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, Withheld> {
        self.check_length(text)?;
        content::plain(text).ok_or(Withheld::Unreadable)
    }
}

/// Names of elements from the root.
struct Path<'p> {
    outer: Option<&'p Path<'p>>,
    name: &'p str,
}

impl<'p> Path<'p> {
    fn root() -> Self {
        Self {
            outer: None,
            name: "",
        }
    }

    fn inner(&'p self, name: &'p str) -> Path<'p> {
        Path {
            outer: Some(self),
            name,
        }
    }

    fn written(&self) -> String {
        match self.outer {
            Some(outer) if !outer.name.is_empty() => format!("{}.{}", outer.written(), self.name),
            _ => self.name.to_owned(),
        }
    }
}

struct Walk<'w, 's> {
    scrubber: &'w Scrubber<'s>,
    slots: &'w mut Slots,
    withheld: Vec<WithheldAt>,
    replaced: BTreeMap<Class, usize>,
    values: usize,
}

type Kept = Result<Option<Value>, DocumentRefused>;

impl Walk<'_, '_> {
    fn value(&mut self, key: &str, value: &Value, path: &Path<'_>, depth: usize) -> Kept {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return Err(DocumentRefused::TooLarge);
        }
        match value {
            Value::Object(object) => self.object(key, object, path, depth),
            Value::Array(items) => {
                let mut kept = Vec::with_capacity(items.len());
                for item in items {
                    let new = self.value(key, item, path, depth + 1)?;
                    // A null keeps the place of a primitive, because a second array may say more of each.
                    let keeps_place = !item.is_object() && !item.is_array();
                    kept.extend(new.or_else(|| keeps_place.then_some(Value::Null)));
                }
                let says_something =
                    items.iter().all(Value::is_null) || kept.iter().any(|it| !it.is_null());
                Ok(says_something.then_some(Value::Array(kept)))
            }
            Value::String(text) => self.string(key, text, path),
            Value::Number(number) => match is_somebodys(self.scrubber, number) {
                Ok(false) => Ok(Some(value.clone())),
                Ok(true) => self.withhold(path, Withheld::Residue),
                Err(reason) => self.withhold(path, reason),
            },
            Value::Bool(_) | Value::Null => Ok(Some(value.clone())),
        }
    }

    fn withhold(&mut self, path: &Path<'_>, reason: Withheld) -> Kept {
        self.withheld.push(WithheldAt {
            path: path.written(),
            reason,
        });
        Ok(None)
    }

    fn slot(&mut self, class: Class, text: &str) -> Result<Value, DocumentRefused> {
        *self.replaced.entry(class).or_default() += 1;
        Ok(Value::String(self.slots.slot_for(class, text)?))
    }

    fn object(
        &mut self,
        key: &str,
        object: &Map<String, Value>,
        path: &Path<'_>,
        depth: usize,
    ) -> Kept {
        if is_geolocation(object) {
            return self.withhold(path, Withheld::Unreadable);
        }
        if is_attachment(key, object) {
            return self.attachment(key, object, path, depth);
        }
        let shape = Shape::of(key, object);
        let mut kept = Map::with_capacity(object.len());
        for (name, inner) in object {
            let path = path.inner(name);
            if !self.is_shown_name(name) {
                self.withheld.push(WithheldAt {
                    path: UNNAMED.to_owned(),
                    reason: Withheld::Unreadable,
                });
                continue;
            }
            let new = match (shape.class(name), inner) {
                (Some(class), Value::String(text)) => Some(self.slot(class, text)?),
                (Some(class), Value::Array(items)) => {
                    let mut slots = Vec::with_capacity(items.len());
                    for item in items {
                        match item {
                            Value::String(text) => slots.push(self.slot(class, text)?),
                            other => slots.extend(self.value(name, other, &path, depth + 1)?),
                        }
                    }
                    Some(Value::Array(slots))
                }
                (None, Value::String(text)) if shape.is_identity(name) => {
                    self.identity(&shape, name, text, &path)?
                }
                // The address of a definition in extensions; elsewhere that of a device or a page.
                (None, Value::String(text))
                    if name == "url" && !matches!(key, "extension" | "modifierExtension") =>
                {
                    self.free_text(text, &path)?
                }
                _ => self.value(name, inner, &path, depth + 1)?,
            };
            if let Some(new) = new {
                kept.insert(name.clone(), new);
            }
        }
        Ok((!kept.is_empty() || object.is_empty()).then_some(Value::Object(kept)))
    }

    /// Whether the name of a member may be shown: one of R4, or one that is plain and says nothing of the record.
    fn is_shown_name(&self, name: &str) -> bool {
        is_element_name(name)
            || (name.len() <= NAME_BYTES_MAX
                && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
                && self
                    .scrubber
                    .detect(name)
                    .is_ok_and(|found| found.is_empty()))
    }

    /// Logical ids and references to them.
    fn identity(&mut self, shape: &Shape, name: &str, text: &str, path: &Path<'_>) -> Kept {
        match name {
            "reference" => {
                if text.starts_with('#') {
                    return Ok(Some(Value::String(text.to_owned())));
                }
                Ok(Some(match type_and_id(text) {
                    Some((kind, id)) => {
                        *self.replaced.entry(Class::Id).or_default() += 1;
                        Value::String(format!("{kind}/{}", self.slots.slot_for(Class::Id, id)?))
                    }
                    _ => self.slot(Class::Id, text)?,
                }))
            }
            "id" if shape.is_resource() => Ok(Some(self.slot(Class::Id, text)?)),
            // Ids of elements only point within the resource.
            "id" => Ok(None),
            _ => self.string("", text, path),
        }
    }

    fn string(&mut self, key: &str, text: &str, path: &Path<'_>) -> Kept {
        match key {
            "div" => return self.narrative(text, path),
            "fullUrl" => return Ok(Some(self.slot(Class::Id, text)?)),
            "source" | "sourceId" if text.contains(['/', ':', '#']) => {
                return self.withhold(path, Withheld::Unreadable);
            }
            key if is_vital_date(key) => return Ok(Some(self.slot(Class::Date, text)?)),
            key if is_bytes(key) => return self.withhold(path, Withheld::Unreadable),
            _ => {}
        }
        if is_code_name(key) && is_code(text) {
            return self.code(text, path);
        }
        if let Some(day) = fhir_day(text) {
            return self.day(day, text);
        }
        self.free_text(text, path)
    }

    /// A code or the address of a definition: stays unless the record's own identifiers are in it.
    fn code(&mut self, text: &str, path: &Path<'_>) -> Kept {
        match self.scrubber.holds_known(text) {
            Ok(false) => Ok(Some(Value::String(text.to_owned()))),
            Ok(true) => Ok(Some(self.slot(Class::Id, text)?)),
            Err(reason) => self.withhold(path, reason),
        }
    }

    fn day(&mut self, day: Day, text: &str) -> Kept {
        let is_vital = self
            .scrubber
            .known
            .days()
            .iter()
            .any(|known| day.names(*known));
        let kept = match self.scrubber.settings().dates {
            _ if is_vital => None,
            DateUse::Keep => Some(text.to_owned()),
            DateUse::Slot => None,
            DateUse::Year { as_of } => day
                .year
                .filter(|year| i32::from(as_of) - i32::from(*year) < super::AGE_FOLDED_FROM as i32)
                .map(|year| year.to_string()),
        };
        match kept {
            Some(kept) => Ok(Some(Value::String(kept))),
            // A year alone is no element of a date.
            None if day.month.is_none()
                && !matches!(self.scrubber.settings().dates, DateUse::Year { .. }) =>
            {
                Ok(Some(Value::String(text.to_owned())))
            }
            None => Ok(Some(self.slot(Class::Date, text)?)),
        }
    }

    fn free_text(&mut self, text: &str, path: &Path<'_>) -> Kept {
        self.passage(FreeText::Text(text), path)
    }

    fn passage(&mut self, passage: FreeText<'_>, path: &Path<'_>) -> Kept {
        match self.scrubber.scrub_passage(passage, self.slots) {
            Ok(scrubbed) => Ok(Some(Value::String(self.counted(scrubbed)))),
            Err(reason) => self.withhold(path, reason),
        }
    }

    fn counted(&mut self, scrubbed: Scrubbed) -> String {
        for finding in &scrubbed.findings {
            *self.replaced.entry(finding.class).or_default() += 1;
        }
        scrubbed.text
    }

    /// A narrative keeps its text alone.
    fn narrative(&mut self, div: &str, path: &Path<'_>) -> Kept {
        if let Err(reason) = self.scrubber.check_length(div) {
            return self.withhold(path, reason);
        }
        let text = markup::text_of(div, Names::Known);
        Ok(self.free_text(&text, path)?.map(|kept| match kept {
            Value::String(text) => Value::String(format!(
                "<div xmlns=\"http://www.w3.org/1999/xhtml\">{}</div>",
                escaped(&text)
            )),
            other => other,
        }))
    }

    /// An Attachment or Binary: its text, scrubbed, as plain text; or nothing of it. Of a Signature everything but
    /// its bytes.
    fn attachment(
        &mut self,
        key: &str,
        object: &Map<String, Value>,
        path: &Path<'_>,
        depth: usize,
    ) -> Kept {
        let is_signature = is_signature(key, object);
        let mut kept = Map::new();
        let content_type = object.get("contentType").and_then(Value::as_str);
        for (name, inner) in object {
            let path = path.inner(name);
            match (name.as_str(), inner) {
                ("data", _) if is_signature => {
                    drop(self.withhold(&path, Withheld::Unreadable)?);
                }
                ("data", Value::String(data)) => {
                    let content = FreeText::Content { content_type, data };
                    match self.scrubber.scrub_passage(content, self.slots) {
                        Ok(scrubbed) => {
                            let data = STANDARD.encode(self.counted(scrubbed));
                            kept.insert("data".to_owned(), Value::String(data));
                        }
                        Err(reason) => drop(self.withhold(&path, reason)?),
                    }
                }
                // What is said about the bytes no longer holds, and an address leads to what was withheld.
                ("contentType" | "size" | "hash", _) => {}
                ("url", _) => drop(self.withhold(&path, Withheld::Unreadable)?),
                ("title", Value::String(title)) => {
                    if let Some(title) = self.passage(FreeText::Title(title), &path)? {
                        kept.insert("title".to_owned(), title);
                    }
                }
                _ if !self.is_shown_name(name) => self.withheld.push(WithheldAt {
                    path: UNNAMED.to_owned(),
                    reason: Withheld::Unreadable,
                }),
                _ => {
                    if let Some(new) = self.object_member(name, inner, &path, depth)? {
                        kept.insert(name.clone(), new);
                    }
                }
            }
        }
        if kept.contains_key("data") {
            kept.insert(
                "contentType".to_owned(),
                Value::String("text/plain; charset=utf-8".to_owned()),
            );
        } else if let Some(media) = content_type.filter(|it| is_code(it))
            && let Some(shown) = self.code(media, &path.inner("contentType"))?
        {
            kept.insert("contentType".to_owned(), shown);
        }
        Ok(Some(Value::Object(kept)))
    }

    fn object_member(&mut self, name: &str, inner: &Value, path: &Path<'_>, depth: usize) -> Kept {
        match (name, inner) {
            ("id", Value::String(text)) => Ok(Some(self.slot(Class::Id, text)?)),
            _ => self.value(name, inner, path, depth + 1),
        }
    }
}

/// The class of whoever or whatever a reference's display names as a whole; `None` for other texts.
pub(super) fn display_class(element: &str, reference: &Map<String, Value>) -> Option<Class> {
    Shape::of(element, reference).class("display")
}

/// Whether a number is one that the record knows, or too long a whole number to be a measurement.
pub(crate) fn is_somebodys(scrubber: &Scrubber<'_>, number: &Number) -> Result<bool, Withheld> {
    /// From here on a whole number has the form of a telephone or record number.
    const DOUBTED_FROM: u64 = 100_000_000;
    let is_long = number.as_u64().is_some_and(|it| it >= DOUBTED_FROM);
    Ok(is_long || scrubber.holds_known(&number.to_string())?)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\n', "<br/>")
}
