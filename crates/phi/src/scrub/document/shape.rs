//! What the parts of a resource are, told by their members and names rather than by the resource's type, so
//! that nothing depends on an element being where it belongs. Start at [`Shape::of`].

use std::sync::LazyLock;

use chaperone_fhir::Definitions;
use rustc_hash::FxHashSet;
use serde_json::{Map, Value};

use crate::scrub::calendar::Day;
use crate::scrub::class::Class;
use crate::scrub::known::{self, is_address, is_human_name, is_vital_object, is_vital_part};

/// Longest code.
const CODE_BYTES_MAX: usize = 128;

/// What an object is, by its members.
pub(super) enum Shape {
    Resource,
    /// A resource, or part of one, whose `name` is a text that names somebody.
    Person {
        is_resource: bool,
    },
    /// A period or extension that says when somebody was born.
    Vital,
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
        match text("resourceType") {
            Some("FamilyMemberHistory") => return Shape::Person { is_resource: true },
            _ if object.contains_key("resourceType") => return Shape::Resource,
            _ => {}
        }
        if is_human_name(key, object) {
            return Shape::HumanName;
        }
        if is_vital_object(key, object) {
            return Shape::Vital;
        }
        // AuditEvent.agent
        if key == "agent" && text("name").is_some() {
            return Shape::Person { is_resource: false };
        }
        if is_address(object) || matches!(key, "address" | "valueAddress") {
            return Shape::Address;
        }
        if let Some(system) = text("system")
            && text("value").is_some()
        {
            return Shape::Value(
                known::contact_class(system).unwrap_or_else(|| known::identifier_class(object)),
            );
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
            (Shape::Person { .. }, "name") | (_, "authorString") => Some(Class::Name),
            (Shape::Vital, name) if is_vital_part(name) => Some(Class::Date),
            (Shape::Resource, "subscriberId") => Some(Class::Plan),
            (
                _,
                "serialNumber" | "deviceIdentifier" | "carrierHRF" | "carrierAIDC"
                | "distinctIdentifier",
            ) => Some(Class::Device),
            _ => None,
        }
    }

    /// Whether the object is a resource.
    pub(super) fn is_resource(&self) -> bool {
        matches!(self, Shape::Resource | Shape::Person { is_resource: true })
    }

    /// Whether a member is a logical id or points at one.
    pub(super) fn is_identity(&self, name: &str) -> bool {
        name == "id" || (name == "reference" && matches!(self, Shape::Reference(_)))
    }
}

/// Whether an object is an Attachment, a Binary or a Signature: its `data` is bytes.
pub(crate) fn is_attachment(key: &str, object: &Map<String, Value>) -> bool {
    let has = |name: &str| object.get(name).is_some_and(Value::is_string);
    has("data") && !object.contains_key("origin")
        || (has("contentType") && (has("url") || has("title") || has("hash")))
        || object.get("resourceType").and_then(Value::as_str) == Some("Binary")
        || matches!(
            key,
            "attachment" | "valueAttachment" | "contentAttachment" | "photo" | "sourceAttachment"
        ) && !object.contains_key("reference")
}

/// Whether an object is a Signature, whose bytes nobody reads as text.
pub(super) fn is_signature(key: &str, object: &Map<String, Value>) -> bool {
    object.contains_key("sigFormat")
        || (object.contains_key("who") && object.contains_key("when"))
        || key == "signature"
        || key.ends_with("Signature")
}

/// Whether a member of that name holds bytes as Base64 outside of attachments.
///
/// # Source
/// FHIR R4, the elements of type base64Binary: `value[x]` and its kin, `AuditEvent.entity.query`.
pub(super) fn is_bytes(name: &str) -> bool {
    name.ends_with("Base64Binary") || name == "query"
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

/// Whether a word is the name of a resource type.
pub(crate) fn is_type_name(part: &str) -> bool {
    Definitions::r4().is_resource_type(part)
}

/// The type and id that a literal reference names, whatever server stands before them and whatever version or
/// query behind: the last two parts of its path.
pub(crate) fn type_and_id(reference: &str) -> Option<(&str, &str)> {
    let path = reference
        .split(['?', '#'])
        .next()
        .and_then(|path| path.split("/_history").next())?;
    let (before, id) = path.trim_end_matches('/').rsplit_once('/')?;
    let kind = before.rsplit('/').next()?;
    (is_type_name(kind) && !id.is_empty()).then_some((kind, id))
}

/// Whether a member can be an element of R4; what cannot may itself say something about somebody.
pub(crate) fn is_element_name(name: &str) -> bool {
    static NAMES: LazyLock<FxHashSet<&'static str>> =
        LazyLock::new(|| Definitions::r4().element_names().collect());
    let plain = name.strip_prefix('_').unwrap_or(name);
    plain == "resourceType" || NAMES.contains(plain)
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
