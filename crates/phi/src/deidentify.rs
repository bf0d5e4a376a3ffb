//! A Safe Harbor copy of a record: codes, quantities and years stay; whatever identifies, and all free text,
//! does not.
//!
//! The copy is made by an allow-list: a string stays only if it is a code, the address of a definition, the
//! text of a code, a year, a state or a country. Free text is removed rather than scrubbed, because no scrubber
//! makes it safe without a human. Logical ids become numbers in order of appearance, which are not derived from
//! anything (45 CFR 164.514(c)). What no program can give is the other half of the rule: that nobody actually
//! knows that the rest identifies somebody (45 CFR 164.514(b)(2)(ii)).
//!
//! Start at [`safe_harbor`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

mod ages;
mod lists;

use self::ages::{is_age_name, is_element_of_resource, tells_age};
use self::lists::{is_coded_value, is_public_system, is_removed, is_united_states};
use crate::scrub::calendar::Day;
use crate::scrub::document::{
    fhir_day, is_attachment, is_code, is_code_name, is_element_name, is_geolocation, is_somebodys,
    is_type_name, type_and_id,
};
use crate::scrub::known::{KnownTooMany, is_address, is_human_name};
use crate::scrub::{
    AGE_FOLDED_FROM, Budget, Class, DateUse, Known, Lexicon, Scrubber, Settings, Slots,
};

/// Deepest nesting.
const DEPTH_MAX: usize = 64;

/// From so many digits on, a code can be a number of somebody.
const DIGITS_MIN: usize = 4;

/// Most values of one record.
const VALUES_MAX: usize = 5_000_000;

/// A copy that identifies nobody, as far as a program can tell.
#[derive(Clone, PartialEq)]
pub struct Deidentified {
    /// The copy.
    pub value: Value,
    /// What is not in it: names of elements, with how often.
    pub removed: BTreeMap<String, usize>,
}

impl std::fmt::Debug for Deidentified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deidentified")
            .field("removed", &self.removed)
            .finish_non_exhaustive()
    }
}

/// Why there is no copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeidentifyFailed {
    /// Not a FHIR resource.
    #[error("this is no FHIR resource: it has no `resourceType`")]
    NoResource,
    /// Too deep or too large.
    #[error(
        "the record is nested more than {DEPTH_MAX} deep or holds more than {VALUES_MAX} values"
    )]
    TooLarge,
    /// More identifiers than can be looked for.
    #[error(transparent)]
    Known(#[from] KnownTooMany),
    /// An identifier of the record was still there at the end; nothing is given out.
    #[error("an identifier of the record would remain at `{path}`; no copy was made")]
    Remains {
        /// Where.
        path: String,
    },
}

/// Makes a copy of a resource or Bundle.
///
/// `as_of` is the year of the copy: ages and years are counted from there.
///
/// # Errors
/// [`DeidentifyFailed`].
pub fn safe_harbor(
    lexicon: &Lexicon,
    record: &Value,
    as_of: i16,
) -> Result<Deidentified, DeidentifyFailed> {
    if record.get("resourceType").and_then(Value::as_str).is_none() {
        return Err(DeidentifyFailed::NoResource);
    }
    let known = Known::of_resources(lexicon, [record])?;
    let settings = Settings {
        dates: DateUse::Year { as_of },
        budget: Budget::default(),
    };
    let mut copy = Copy {
        lexicon,
        scrubber: Scrubber::new(lexicon, &known, settings),
        slots: Slots::new(),
        as_of,
        ids: BTreeMap::new(),
        scope: Scope::default(),
        resources: 0,
        removed: BTreeMap::new(),
        values: 0,
    };
    let at = Place {
        resource: "",
        key: "",
        is_age: false,
        is_public: false,
    };
    let value = copy.value(record, at, 0)?.unwrap_or(Value::Null);
    copy.check(&value, "", 0)?;
    Ok(Deidentified {
        value,
        removed: copy.removed,
    })
}

#[derive(Clone, Copy)]
struct Place<'p> {
    resource: &'p str,
    key: &'p str,
    /// Whether what stands here is an age, whatever its unit.
    is_age: bool,
    /// Whether a code here is of a system that everybody uses.
    is_public: bool,
}

struct Copy<'a> {
    lexicon: &'a Lexicon,
    scrubber: Scrubber<'a>,
    slots: Slots,
    as_of: i16,
    /// Old references to numbers.
    ids: BTreeMap<String, usize>,
    /// The resource that is being copied.
    scope: Scope,
    /// How many were begun, those inside of others left out.
    resources: usize,
    removed: BTreeMap<String, usize>,
    values: usize,
}

/// A resource and what lies in it: `#p1` leads there and nowhere else.
#[derive(Default)]
struct Scope {
    number: usize,
    contained: BTreeSet<String>,
}

impl Scope {
    fn of(number: usize, resource: &Map<String, Value>) -> Self {
        let inner = resource.get("contained").and_then(Value::as_array);
        let ids = inner.into_iter().flatten().filter_map(|it| it.get("id"));
        Self {
            number,
            contained: ids.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }

    /// The old reference to a contained resource.
    fn inner(&self, id: &str) -> String {
        format!("#{}/{id}", self.number)
    }
}

type Kept = Result<Option<Value>, DeidentifyFailed>;

impl Copy<'_> {
    fn value(&mut self, value: &Value, at: Place<'_>, depth: usize) -> Kept {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return Err(DeidentifyFailed::TooLarge);
        }
        match value {
            Value::Object(object) => self.object(object, at, depth),
            Value::Array(items) => {
                let mut kept = Vec::with_capacity(items.len());
                for item in items {
                    kept.extend(self.value(item, at, depth + 1)?);
                }
                Ok((!kept.is_empty()).then_some(Value::Array(kept)))
            }
            Value::String(text) => Ok(self.string(text, at)),
            Value::Number(number) => {
                let is_known = is_somebodys(&self.scrubber, number).unwrap_or(true);
                let is_old = (at.is_age && at.key != "value" || at.key == "age")
                    && number
                        .as_f64()
                        .is_some_and(|it| it >= f64::from(AGE_FOLDED_FROM));
                Ok(if is_known || is_old {
                    self.remove(at)
                } else {
                    Some(value.clone())
                })
            }
            Value::Bool(_) => Ok(Some(value.clone())),
            Value::Null => Ok(None),
        }
    }

    fn remove(&mut self, at: Place<'_>) -> Option<Value> {
        let is_plain = at.key.len() <= 64
            && at
                .key
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'_');
        let key = if is_plain {
            at.key
        } else {
            "an unknown element"
        };
        let name = if at.resource.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", at.resource)
        };
        *self.removed.entry(name).or_default() += 1;
        None
    }

    fn object(&mut self, object: &Map<String, Value>, at: Place<'_>, depth: usize) -> Kept {
        let own = object
            .get("resourceType")
            .and_then(Value::as_str)
            .filter(|it| is_type_name(it));
        if own.is_none()
            && (is_geolocation(object)
                || is_human_name(at.key, object)
                || is_attachment(at.key, object))
        {
            return Ok(self.remove(at));
        }
        if is_address(object) || at.key == "address" {
            return Ok(self.address(object, at));
        }
        if object.contains_key("reference")
            || (object.contains_key("display")
                && !object.contains_key("code")
                && !object.contains_key("system"))
        {
            return Ok(Some(self.reference(object)));
        }
        if at.key == "request" && object.contains_key("method") {
            return Ok(Some(request(object)));
        }
        let is_age = at.is_age || is_age_name(at.key) || tells_age(object);
        if let Some(age) = ages::old(object, is_age) {
            return Ok(Some(age));
        }
        let resource = own.unwrap_or(at.resource);
        let is_extension = matches!(at.key, "extension" | "modifierExtension");
        let is_contained = at.key == "contained";
        let outer = (own.is_some() && !is_contained).then(|| {
            self.resources += 1;
            std::mem::replace(&mut self.scope, Scope::of(self.resources, object))
        });
        let is_public = object
            .get("system")
            .and_then(Value::as_str)
            .is_some_and(is_public_system);
        let mut kept = Map::with_capacity(object.len());
        for (key, inner) in object {
            let at = Place {
                resource,
                key,
                is_age: is_age && !is_element_of_resource(own, key),
                is_public,
            };
            let new = match (key.as_str(), inner) {
                _ if !is_element_name(key) => self.remove(Place {
                    key: "an unknown element",
                    ..at
                }),
                // Elsewhere than in an extension it is the address of a device, a page or an account.
                ("url", _) if !is_extension => self.remove(at),
                ("resourceType", _) => own.map(|it| Value::String(it.to_owned())),
                ("id", Value::String(id)) => own.map(|own| {
                    let old = if is_contained {
                        self.scope.inner(id)
                    } else {
                        format!("{own}/{id}")
                    };
                    Value::String(self.number(&old).to_string())
                }),
                ("fullUrl", Value::String(url)) => Some(self.full_url(url, object)),
                ("name" | "title", Value::String(_)) | ("text", _) => self.remove(at),
                _ if is_removed(resource, key) => self.remove(at),
                ("extension" | "modifierExtension", _) => {
                    self.value(inner, at, depth + 1)?.and_then(meaningful)
                }
                _ => self.value(inner, at, depth + 1)?,
            };
            if let Some(new) = new {
                kept.insert(key.clone(), new);
            }
        }
        if let Some(outer) = outer {
            self.scope = outer;
        }
        Ok((!kept.is_empty()).then_some(Value::Object(kept)))
    }

    fn string(&mut self, text: &str, at: Place<'_>) -> Option<Value> {
        if let Some(day) = fhir_day(text).or_else(|| year_alone(text, at.key)) {
            return match self.year(day) {
                Some(year) => Some(Value::String(year)),
                None => self.remove(at),
            };
        }
        if at.key == "display" {
            let scrubbed = self.scrubber.scrub(text, &mut self.slots);
            return match scrubbed {
                Ok(scrubbed) if scrubbed.findings.is_empty() => Some(Value::String(scrubbed.text)),
                _ => self.remove(at),
            };
        }
        let is_code = (is_code_name(at.key) || is_coded_value(at.key)) && is_code(text);
        let is_known = self.scrubber.holds_known(text).unwrap_or(true);
        // A code with the form of a number of somebody is one, unless a system of everybody says what it is.
        if is_code && !is_known && (at.is_public || !self.reads_like_identifier(text, at.key)) {
            Some(Value::String(text.to_owned()))
        } else {
            self.remove(at)
        }
    }

    /// Whether a code has the form of something that points at one person; of the address of a definition, whether
    /// a part of it has.
    fn reads_like_identifier(&self, text: &str, key: &str) -> bool {
        // Only what holds a number or an address can.
        let is_plain = text.bytes().filter(u8::is_ascii_digit).count() < DIGITS_MIN
            && !text.contains(['@', ':']);
        if is_plain {
            return false;
        }
        let is_address = matches!(
            key,
            "system"
                | "profile"
                | "url"
                | "valueCanonical"
                | "instantiatesCanonical"
                | "questionnaire"
                | "definition"
        ) && ["http://", "https://", "urn:oid:"]
            .iter()
            .any(|it| text.starts_with(it));
        if !is_address {
            return self.points_at_somebody(text, |class| class.is_direct());
        }
        let is_named = |class: Class| class.is_direct() && class != Class::Url;
        text.split(['/', '|', '#'])
            .any(|part| self.points_at_somebody(part, is_named))
    }

    fn points_at_somebody(&self, text: &str, counts: impl Fn(Class) -> bool) -> bool {
        self.scrubber
            .detect(text)
            .map_or(true, |found| found.iter().any(|it| counts(it.class)))
    }

    /// The year of a date, unless it is so far back that it tells an age over 89.
    fn year(&self, day: Day) -> Option<String> {
        let year = day.year?;
        let age = i32::from(self.as_of) - i32::from(year);
        (age < i32::try_from(AGE_FOLDED_FROM).unwrap_or(i32::MAX)).then(|| year.to_string())
    }

    fn address(&mut self, address: &Map<String, Value>, at: Place<'_>) -> Option<Value> {
        let mut kept = Map::new();
        let country = address.get("country").and_then(Value::as_str);
        let is_home = country.is_none_or(is_united_states);
        for (key, value) in address {
            let new = match (key.as_str(), value) {
                ("state", Value::String(text)) if self.lexicon.is_state(text) => {
                    Some(value.clone())
                }
                ("country", Value::String(text)) if self.lexicon.is_country(text) => {
                    Some(value.clone())
                }
                ("postalCode", Value::String(code)) if is_home => {
                    Some(Value::String(self.lexicon.zip3(code)))
                }
                ("use" | "type", Value::String(text)) if is_code(text) => Some(value.clone()),
                _ => self.remove(Place { key, ..at }),
            };
            if let Some(new) = new {
                kept.insert(key.clone(), new);
            }
        }
        (!kept.is_empty()).then_some(Value::Object(kept))
    }

    /// A reference keeps its type and the number of what it points at.
    fn reference(&mut self, reference: &Map<String, Value>) -> Value {
        let removed = json!({ "display": "[removed]" });
        let Some(target) = reference.get("reference").and_then(Value::as_str) else {
            return removed;
        };
        if let Some(local) = target.strip_prefix('#') {
            if !self.scope.contained.contains(local) {
                return removed;
            }
            let number = self.number(&self.scope.inner(local));
            return json!({ "reference": format!("#{number}") });
        }
        if target.contains('?') {
            return removed;
        }
        if target.starts_with("urn:") {
            return json!({ "reference": urn(self.number(target)) });
        }
        match type_and_id(target) {
            Some((kind, id)) => {
                let number = self.number(&format!("{kind}/{id}"));
                json!({ "reference": format!("{kind}/{number}") })
            }
            _ => removed,
        }
    }

    fn full_url(&mut self, url: &str, entry: &Map<String, Value>) -> Value {
        let resource = entry.get("resource");
        let part = |key: &str| resource.and_then(|it| it.get(key)).and_then(Value::as_str);
        // A URN and `Type/id` of one entry are one number.
        if let (Some(kind), Some(id)) = (part("resourceType"), part("id")) {
            let number = self.number(&format!("{kind}/{id}"));
            self.ids.entry(url.to_owned()).or_insert(number);
        }
        Value::String(urn(self.number(url)))
    }

    fn number(&mut self, old: &str) -> usize {
        let next = self.ids.len() + 1;
        *self.ids.entry(old.to_owned()).or_insert(next)
    }

    /// Nothing that the record knows may be left.
    fn check(&self, value: &Value, key: &str, depth: usize) -> Result<(), DeidentifyFailed> {
        if depth > DEPTH_MAX + 2 {
            return Err(DeidentifyFailed::TooLarge);
        }
        match value {
            Value::Object(object) => object
                .iter()
                .try_for_each(|(key, inner)| self.check(inner, key, depth + 1)),
            Value::Array(items) => items
                .iter()
                .try_for_each(|item| self.check(item, key, depth + 1)),
            // States may stay, also where a city has the same name; the ids are ours.
            Value::String(_)
                if matches!(
                    key,
                    "state"
                        | "country"
                        | "id"
                        | "fullUrl"
                        | "reference"
                        | "resourceType"
                        | "method"
                ) =>
            {
                Ok(())
            }
            Value::String(text) if self.scrubber.holds_known(text).unwrap_or(true) => {
                Err(DeidentifyFailed::Remains {
                    path: key.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }
}

fn urn(number: usize) -> String {
    format!("urn:uuid:00000000-0000-4000-8000-{number:012}")
}

fn year_alone(text: &str, key: &str) -> Option<Day> {
    let is_date = key.ends_with("Date")
        || key.ends_with("DateTime")
        || matches!(
            key,
            "start" | "end" | "date" | "authoredOn" | "created" | "authored"
        );
    Day::of_fhir(text).filter(|_| is_date && text.len() == 4)
}

/// An entry's request keeps its method and type.
fn request(request: &Map<String, Value>) -> Value {
    let text = |key: &str| request.get(key).and_then(Value::as_str);
    let method = text("method")
        .filter(|it| it.bytes().all(|c| c.is_ascii_uppercase()))
        .unwrap_or("POST");
    let kind = text("url")
        .and_then(|url| url.split(['?', '#']).next())
        .and_then(|path| path.rsplit('/').find(|part| is_type_name(part)))
        .unwrap_or("");
    json!({ "method": method, "url": kind })
}

/// Extensions that still say something: a value or further extensions.
fn meaningful(extensions: Value) -> Option<Value> {
    let Value::Array(items) = extensions else {
        return None;
    };
    let kept: Vec<Value> = items
        .into_iter()
        .filter(|item| {
            item.as_object()
                .is_some_and(|it| it.keys().any(|key| key != "url" && key != "id"))
        })
        .collect();
    (!kept.is_empty()).then_some(Value::Array(kept))
}

#[cfg(test)]
mod tests;
