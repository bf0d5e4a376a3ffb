//! Collects identifiers from FHIR resources, by the shape of what they hold: a name, an address, a contact
//! point, an identifier. Start at [`Known::of_resources`].

use serde_json::{Map, Value};

use super::{DEPTH_MAX, KNOWN_MAX, Known, KnownTooMany, Whose};
use crate::scrub::class::Class;
use crate::scrub::fold;
use crate::scrub::lexicon::{Lexicon, mark};

/// Types whose `name` is an institution or place.
const NAMED_PLACES: [&str; 5] = [
    "Organization",
    "Location",
    "HealthcareService",
    "InsurancePlan",
    "Endpoint",
];

impl Known {
    /// What resources say: a Patient alone, or a whole record as a Bundle.
    ///
    /// # Errors
    /// [`KnownTooMany`].
    pub fn of_resources<'v>(
        lexicon: &Lexicon,
        resources: impl IntoIterator<Item = &'v Value>,
    ) -> Result<Self, KnownTooMany> {
        let mut known = Known::default();
        for resource in resources {
            known.walk(lexicon, resource, At::default(), 0)?;
        }
        Ok(known)
    }

    fn walk(
        &mut self,
        lexicon: &Lexicon,
        value: &Value,
        at: At<'_>,
        depth: usize,
    ) -> Result<(), KnownTooMany> {
        if depth > DEPTH_MAX || self.count > KNOWN_MAX {
            return Err(KnownTooMany);
        }
        match value {
            Value::Array(items) => {
                for item in items {
                    self.walk(lexicon, item, at, depth + 1)?;
                }
            }
            Value::Object(object) => {
                let own_type = object.get("resourceType").and_then(Value::as_str);
                let at = At {
                    resource: own_type.unwrap_or(at.resource),
                    ..at
                };
                self.object(lexicon, object, at);
                for (key, inner) in object {
                    let at = At { key, ..at };
                    if let Value::String(text) = inner {
                        self.string(lexicon, text, at);
                    } else {
                        self.walk(lexicon, inner, at, depth + 1)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn object(&mut self, lexicon: &Lexicon, object: &Map<String, Value>, at: At<'_>) {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        if is_human_name(at.key, object) {
            self.human_name(lexicon, object, at.whose());
        }
        if is_address(object) {
            self.address(lexicon, object);
        }
        if let (Some(system), Some(value)) = (text("system"), text("value")) {
            match contact_class(system) {
                Some(class) => self.contact(lexicon, value, class),
                None => self.identifier(object, value),
            }
        } else if let Some(value) = text("value")
            && at.key.to_ascii_lowercase().ends_with("identifier")
        {
            self.identifier(object, value);
        } else if let Some(value) = text("value")
            && at.key == "telecom"
        {
            self.contact(lexicon, value, Class::Phone);
        }
        // Who is meant by a reference, in the source's words.
        if let (Some(reference), Some(display)) = (text("reference"), text("display")) {
            self.display(lexicon, reference, display);
        }
        if text("url").is_some_and(|url| url.ends_with("mothersMaidenName"))
            && let Some(name) = text("valueString")
        {
            self.name_text(lexicon, name, Whose::Family);
        }
        if is_vital_object(at.key, object) {
            for (_, day) in object.iter().filter(|(name, _)| is_vital_part(name)) {
                day.as_str().into_iter().for_each(|day| self.add_day(day));
            }
        }
    }

    fn string(&mut self, lexicon: &Lexicon, text: &str, at: At<'_>) {
        match at.key {
            key if is_vital_date(key) => self.add_day(text),
            // The relative's name, in one piece.
            "name" if at.resource == "FamilyMemberHistory" => {
                self.name_text(lexicon, text, Whose::Family);
            }
            "authorString" => self.name_text(lexicon, text, Whose::Carer),
            "name" | "alias" if NAMED_PLACES.contains(&at.resource) => {
                self.institution(lexicon, text)
            }
            "subscriberId" | "policyHolder" => self.add_compact(text, Class::Plan),
            "serialNumber" | "distinctIdentifier" | "deviceIdentifier" | "carrierHRF" => {
                self.add_compact(text, Class::Device)
            }
            "id" if text.len() >= 6 => self.add_compact(text, Class::Id),
            _ => {}
        }
    }

    fn human_name(&mut self, lexicon: &Lexicon, name: &Map<String, Value>, whose: Whose) {
        let mut parts: Vec<&str> = Vec::new();
        for given in name
            .get("given")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let Some(given) = given.as_str() {
                self.add_name_part(lexicon, given, whose, false);
                parts.push(given);
            }
        }
        if let Some(family) = name.get("family").and_then(Value::as_str) {
            self.add_name_part(lexicon, family, whose, true);
            parts.push(family);
        }
        self.end_name();
        if whose == Whose::Family {
            self.add_initials(&parts);
        }
        if let Some(text) = name.get("text").and_then(Value::as_str) {
            self.name_text(lexicon, text, whose);
        }
    }

    /// A name in one piece: each word of it but titles.
    fn name_text(&mut self, lexicon: &Lexicon, text: &str, whose: Whose) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut parts = Vec::new();
        for word in &words {
            let folded = fold::compact(word);
            let marks = lexicon.marks(&folded);
            // "Dr", "RN", and what somebody is rather than is called: "mother", "nurse".
            let is_form = marks
                & (mark::TITLE | mark::CREDENTIAL | mark::SUFFIX | mark::RELATION | mark::PERSON)
                != 0
                && marks & (mark::GIVEN | mark::SURNAME) == 0;
            if !is_form && !folded.is_empty() {
                parts.push(*word);
            }
        }
        let last = parts.len().saturating_sub(1);
        for (at, part) in parts.iter().enumerate() {
            self.add_name_part(lexicon, part, whose, at == last);
        }
        self.end_name();
        if whose == Whose::Family {
            self.add_initials(&parts);
        }
    }

    fn display(&mut self, lexicon: &Lexicon, reference: &str, display: &str) {
        let points_at = |types: &[&str]| {
            types.iter().any(|it| {
                reference.contains(&format!("{it}/")) || reference.starts_with(&format!("{it}?"))
            })
        };
        if points_at(&["Patient", "RelatedPerson", "Person"]) {
            self.name_text(lexicon, display, Whose::Family);
        } else if points_at(&["Practitioner"]) {
            self.name_text(lexicon, display, Whose::Carer);
        } else if points_at(&["Organization", "Location", "HealthcareService"]) {
            self.institution(lexicon, display);
        }
    }

    fn institution(&mut self, lexicon: &Lexicon, name: &str) {
        self.add_sequence(lexicon, name, Class::Place);
        let words = super::words_of(name);
        // The words that say which one it is, when they are no ordinary ones: "Athol" of "Athol Memorial Hospital".
        for word in words.iter().take(3) {
            let marks = lexicon.marks(word);
            if marks
                & (mark::ORDINARY
                    | mark::FACILITY_GENERIC
                    | mark::FACILITY_TAIL
                    | mark::FACILITY_HEAD
                    | mark::PARTICLE)
                == 0
                && word.len() >= 4
            {
                self.add_word(lexicon, word, Class::Place);
            }
        }
        if words.len() >= 3 {
            let short: String = words
                .iter()
                .filter_map(|word| word.chars().next())
                .collect();
            if short.len() <= 6 {
                self.initials.insert(short.into());
            }
        }
    }

    fn address(&mut self, lexicon: &Lexicon, address: &Map<String, Value>) {
        let text = |key: &str| address.get(key).and_then(Value::as_str);
        for line in address
            .get("line")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let Some(line) = line.as_str() {
                self.street(lexicon, line);
            }
        }
        for key in ["city", "district"] {
            if let Some(name) = text(key) {
                self.add_sequence(lexicon, name, Class::Place);
            }
        }
        if let Some(zip) = text("postalCode") {
            self.add_compact(zip, Class::Place);
            if let Some((five, _)) = zip.split_once('-') {
                self.add_compact(five, Class::Place);
            }
        }
        for part in text("text")
            .into_iter()
            .flat_map(|text| text.split([',', '\n']))
        {
            if part.trim().starts_with(|c: char| c.is_ascii_digit()) {
                self.street(lexicon, part);
            } else if part.split_whitespace().count() <= 3 {
                let state = super::words_of(part)
                    .iter()
                    .any(|word| lexicon.marks(word) & mark::STATE != 0);
                if !state {
                    self.add_sequence(lexicon, part, Class::Place);
                }
            }
        }
    }

    /// House number with street, with and without the street's type and the apartment; and the street's
    /// name by itself where it is no ordinary word.
    fn street(&mut self, lexicon: &Lexicon, line: &str) {
        self.add_sequence(lexicon, line, Class::Place);
        let words = super::words_of(line);
        let is_end = |word: &String| lexicon.marks(word) & (mark::UNIT_WORD) != 0;
        let core: Vec<&str> = words
            .iter()
            .take_while(|word| !is_end(word))
            .map(String::as_str)
            .collect();
        let named = match core.as_slice() {
            [rest @ .., last]
                if rest.len() >= 2 && lexicon.marks(last) & mark::STREET_TYPE != 0 =>
            {
                rest
            }
            all => all,
        };
        if named.len() >= 2 {
            self.add_sequence(lexicon, &named.join(" "), Class::Place);
        }
        for word in named.iter().skip(1) {
            let marks = lexicon.marks(word);
            let says_little =
                marks & (mark::ORDINARY | mark::STREET_TYPE | mark::FACILITY_GENERIC) != 0;
            if !says_little && word.len() >= 4 && !word.bytes().any(|c| c.is_ascii_digit()) {
                self.add_word(lexicon, word, Class::Place);
            }
        }
    }

    fn contact(&mut self, lexicon: &Lexicon, value: &str, class: Class) {
        if class == Class::Email {
            self.add_sequence(lexicon, value, class);
            self.add_compact(value, class);
            if let Some((local, _)) = value.split_once('@') {
                let local = fold::compact(local);
                if local.len() >= 5 && lexicon.marks(&local) & mark::ORDINARY == 0 {
                    self.add_word(lexicon, &local, class);
                }
            }
            return;
        }
        let digits: String = value.chars().filter_map(fold::digit).collect();
        if digits.len() < 7 {
            self.add_sequence(lexicon, value, class);
            return;
        }
        self.add_compact(&digits, class);
        // Without the country's code, and without the area's.
        let national = digits
            .strip_prefix('1')
            .filter(|rest| rest.len() == 10)
            .unwrap_or(&digits);
        self.add_compact(national, class);
        if let Some(local) = national
            .len()
            .checked_sub(7)
            .and_then(|from| national.get(from..))
        {
            self.add_compact(local, class);
        }
    }

    fn identifier(&mut self, identifier: &Map<String, Value>, value: &str) {
        let class = identifier_class(identifier);
        self.add_compact(value, class);
        // The value of a URN, and the last four digits of a social security number stay out: the first is the
        // same code with a prefix, the second is found where a text says that it is one.
        if let Some((_, last)) = value.rsplit_once(':') {
            self.add_compact(last, class);
        }
    }
}

/// Where in a record something stands.
#[derive(Debug, Clone, Copy, Default)]
struct At<'k> {
    resource: &'k str,
    key: &'k str,
}

impl At<'_> {
    fn whose(self) -> Whose {
        match self.resource {
            "Patient" | "RelatedPerson" | "Person" | "" => Whose::Family,
            _ => Whose::Carer,
        }
    }
}

/// Whether an object under a name of an element is a HumanName: by its parts, or by where it stands when all of
/// it is one text.
pub(crate) fn is_human_name(key: &str, object: &Map<String, Value>) -> bool {
    object.contains_key("family")
        || object.get("given").is_some_and(Value::is_array)
        || (object.get("text").is_some_and(Value::is_string)
            && (object.contains_key("prefix")
                || object.contains_key("suffix")
                || key == "name"
                || key.ends_with("HumanName")))
}

/// Names of elements that hold a day of birth or death of somebody.
///
/// # Source
/// FHIR R4: Patient, Person, RelatedPerson, Practitioner, FamilyMemberHistory.
pub(crate) fn is_vital_date(key: &str) -> bool {
    matches!(
        key,
        "birthDate" | "deceasedDateTime" | "bornDate" | "deceasedDate"
    )
}

/// Whether an object holds days of birth or death under [other names](is_vital_part): a period, or the extension
/// for the time of birth.
///
/// # Source
/// FHIR R4, FamilyMemberHistory.bornPeriod; extension `patient-birthTime`.
pub(crate) fn is_vital_object(key: &str, object: &Map<String, Value>) -> bool {
    let is_extension = |url: &str| {
        let url = url.to_ascii_lowercase();
        url.contains("birthtime") || url.contains("birth-time") || url.contains("birthdate")
    };
    key == "bornPeriod"
        || object
            .get("url")
            .and_then(Value::as_str)
            .is_some_and(is_extension)
}

/// Members of such an object that are a day.
pub(crate) fn is_vital_part(name: &str) -> bool {
    matches!(
        name,
        "start" | "end" | "valueDate" | "valueDateTime" | "valueInstant" | "valueTime"
    )
}

/// Whether an object is an Address.
pub(crate) fn is_address(object: &Map<String, Value>) -> bool {
    object.get("line").is_some_and(Value::is_array)
        || ["city", "postalCode", "district"]
            .iter()
            .any(|key| object.get(*key).is_some_and(Value::is_string))
}

/// The class of a contact point by its `system`; `None` when it is none.
///
/// # Source
/// FHIR R4, ContactPointSystem.
pub(crate) fn contact_class(system: &str) -> Option<Class> {
    Some(match system {
        "phone" | "pager" | "sms" | "other" => Class::Phone,
        "fax" => Class::Fax,
        "email" => Class::Email,
        "url" => Class::Url,
        _ => return None,
    })
}

/// The class of an identifier by its system and the codes of its type.
///
/// # Source
/// HL7 v2 table 0203 (identifier types); FHIR's identifier systems for the United States.
pub(crate) fn identifier_class(identifier: &Map<String, Value>) -> Class {
    let system = identifier
        .get("system")
        .and_then(Value::as_str)
        .unwrap_or("");
    let kinds = identifier
        .get("type")
        .and_then(|kind| kind.get("coding"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|coding| coding.get("code").and_then(Value::as_str));
    for kind in kinds {
        let class = match kind {
            "MR" | "MRT" | "PI" | "PT" | "EMPI" => Class::Mrn,
            "SS" | "SB" | "TAX" => Class::Ssn,
            "MB" | "MC" | "MA" | "SN" | "HC" | "NIIP" => Class::Plan,
            "AN" | "ANT" | "BA" | "CC" | "GN" => Class::Account,
            "DL" | "PPN" | "NPI" | "DEA" | "MD" | "LN" | "RN" | "NP" | "PRN" | "VS" => {
                Class::License
            }
            "SNO" | "UDI" | "DI" => Class::Device,
            "VIN" | "LACSN" => Class::Vehicle,
            _ => continue,
        };
        return class;
    }
    if system.contains("us-ssn") {
        Class::Ssn
    } else if system.contains("us-npi") {
        Class::License
    } else if system.contains("us-mbi") || system.contains("us-medicare") {
        Class::Plan
    } else {
        Class::Id
    }
}
