//! What the parts of a resource are, told by their members and names rather than by the resource's type, so
//! that nothing depends on an element being where it belongs. Start at [`Shape::of`].

use serde_json::{Map, Value};

use crate::scrub::calendar::Day;
use crate::scrub::class::Class;
use crate::scrub::known::{self, is_address, is_human_name};

/// Longest code.
const CODE_BYTES_MAX: usize = 128;

/// What an object is, by its members.
pub(super) enum Shape {
    Resource,
    HumanName,
    Address,
    /// A contact point or identifier, with the class of its value.
    Value(Class),
    /// A reference, with the class of its display, if that names somebody.
    Reference(Option<Class>),
    Other,
}

impl Shape {
    pub(super) fn of(key: &str, object: &Map<String, Value>) -> Self {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        if object.contains_key("resourceType") {
            return Shape::Resource;
        }
        if is_human_name(object)
            || (matches!(key, "name" | "valueHumanName") && text("text").is_some())
        {
            return Shape::HumanName;
        }
        if is_address(object) || matches!(key, "address" | "valueAddress") {
            return Shape::Address;
        }
        if let Some(system) = text("system")
            && text("value").is_some()
        {
            return Shape::Value(known::contact_class(system).unwrap_or_else(|| {
                let kinds: Vec<&str> = object
                    .get("type")
                    .and_then(|kind| kind.get("coding"))
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|coding| coding.get("code").and_then(Value::as_str))
                    .collect();
                known::identifier_class(system, &kinds)
            }));
        }
        if text("value").is_some()
            && (key == "telecom" || key.to_ascii_lowercase().ends_with("identifier"))
        {
            return Shape::Value(if key == "telecom" {
                Class::Phone
            } else {
                Class::Id
            });
        }
        if object.contains_key("reference")
            || object.contains_key("display")
                && !object.contains_key("code")
                && !object.contains_key("system")
        {
            let target = text("reference").or_else(|| text("type")).unwrap_or("");
            let names = |kinds: &[&str]| kinds.iter().any(|kind| target.contains(kind));
            let is_person = names(&["Patient", "Practitioner", "RelatedPerson", "Person"])
                || matches!(
                    key,
                    "subject"
                        | "patient"
                        | "performer"
                        | "author"
                        | "recorder"
                        | "asserter"
                        | "requester"
                        | "individual"
                        | "provider"
                        | "actor"
                        | "who"
                        | "sender"
                        | "recipient"
                        | "beneficiary"
                        | "subscriber"
                );
            let is_place = names(&["Organization", "Location", "HealthcareService"])
                || matches!(
                    key,
                    "managingOrganization"
                        | "serviceProvider"
                        | "custodian"
                        | "location"
                        | "insurer"
                        | "organization"
                );
            return Shape::Reference(match (is_place, is_person) {
                (true, _) => Some(Class::Place),
                (_, true) => Some(Class::Name),
                _ => None,
            });
        }
        Shape::Other
    }

    /// The class of a member that is replaced as a whole.
    pub(super) fn class(&self, name: &str) -> Option<Class> {
        match (self, name) {
            (Shape::HumanName, "family" | "given" | "text") => Some(Class::Name),
            (Shape::Address, "line" | "city" | "district" | "postalCode" | "text") => {
                Some(Class::Place)
            }
            (Shape::Value(class), "value") => Some(*class),
            (Shape::Reference(class), "display") => *class,
            (Shape::Resource, "subscriberId") => Some(Class::Plan),
            (
                _,
                "serialNumber" | "deviceIdentifier" | "carrierHRF" | "carrierAIDC"
                | "distinctIdentifier",
            ) => Some(Class::Device),
            _ => None,
        }
    }

    /// Whether a member is a logical id or points at one.
    pub(super) fn is_identity(&self, name: &str) -> bool {
        name == "id" || (name == "reference" && matches!(self, Shape::Reference(_)))
    }
}

/// Whether an object is an Attachment or a Binary.
pub(crate) fn is_attachment(key: &str, object: &Map<String, Value>) -> bool {
    let is_signature = object.contains_key("who") && object.contains_key("sigFormat");
    let has = |name: &str| object.get(name).is_some_and(Value::is_string);
    !is_signature && has("data") && !object.contains_key("origin")
        || (has("contentType") && (has("url") || has("title") || has("hash")))
        || object.get("resourceType").and_then(Value::as_str) == Some("Binary")
        || matches!(
            key,
            "attachment" | "valueAttachment" | "contentAttachment" | "photo" | "sourceAttachment"
        ) && !object.contains_key("reference")
}

pub(crate) fn is_geolocation(object: &Map<String, Value>) -> bool {
    let ends = |url: &str| {
        let url = url.to_ascii_lowercase();
        url.ends_with("geolocation") || url.ends_with("latitude") || url.ends_with("longitude")
    };
    object.get("url").and_then(Value::as_str).is_some_and(ends)
        || (object.get("latitude").is_some_and(Value::is_number)
            && object.get("longitude").is_some_and(Value::is_number))
}

pub(crate) fn is_type_name(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_uppercase())
        && part.len() <= 40
        && part.bytes().all(|c| c.is_ascii_alphabetic())
}

/// Names of elements that hold codes or addresses of definitions.
pub(crate) fn is_code_name(name: &str) -> bool {
    matches!(
        name,
        "resourceType"
            | "system"
            | "code"
            | "status"
            | "use"
            | "url"
            | "profile"
            | "unit"
            | "comparator"
            | "currency"
            | "language"
            | "contentType"
            | "versionId"
            | "linkId"
            | "questionnaire"
            | "instantiatesCanonical"
            | "valueCode"
            | "valueUri"
            | "valueCanonical"
            | "gender"
            | "intent"
            | "priority"
            | "method"
            | "mode"
            | "type"
            | "version"
            | "kind"
            | "sigFormat"
            | "targetFormat"
            | "definition"
    )
}

/// Whether a string can be a code: one short word of plain characters, or the address of a definition.
pub(crate) fn is_code(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/#|+*%^{}[]()'".contains(c);
    let is_address =
        text.starts_with("http://") || text.starts_with("https://") || text.starts_with("urn:oid:");
    text.len() <= if is_address { 512 } else { CODE_BYTES_MAX }
        && text.chars().all(plain)
        && !text.contains('@')
}

/// A string that is nothing but a FHIR date or time.
pub(crate) fn fhir_day(text: &str) -> Option<Day> {
    let is_time = text.len() >= 4
        && text.len() <= 40
        && text
            .bytes()
            .all(|c| c.is_ascii_digit() || b"-:.TZ+".contains(&c));
    let day = Day::of_fhir(text).filter(|_| is_time)?;
    // A bare number of four digits is a year only where nothing else is said; it stays as text.
    (text.len() > 4).then_some(day)
}
