//! Reads ElementDefinitions from JSON, keeping what states a rule and nothing else.
//!
//! `fixed[x]` and its relatives keep their text, so that the digits of a decimal survive.
//! In the compact form the records are read as they are. Start at [`read_all`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Choice, ElementDefinition};

/// JSON: every element through [`Read`]; compact: the records themselves.
pub(super) fn read_all<'de, D>(deserializer: D) -> Result<Vec<ElementDefinition>, D::Error>
where
    D: Deserializer<'de>,
{
    if deserializer.is_human_readable() {
        let elements: Vec<Read> = Vec::deserialize(deserializer)?;
        Ok(elements.into_iter().map(|it| it.0).collect())
    } else {
        Vec::deserialize(deserializer)
    }
}

/// One element definition as it stands in JSON.
struct Read(ElementDefinition);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadVisitor)
    }
}

struct ReadVisitor;

impl<'de> Visitor<'de> for ReadVisitor {
    type Value = Read;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an ElementDefinition")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let mut it = ElementDefinition::default();
        while let Some(Key(key)) = map.next_key()? {
            match key.as_ref() {
                "id" => it.id = map.next_value()?,
                "path" => it.path = map.next_value()?,
                "representation" => it.representation = map.next_value()?,
                "sliceName" => it.slice_name = map.next_value()?,
                "slicing" => it.slicing = map.next_value()?,
                "min" => it.min = map.next_value()?,
                "max" => it.max = map.next_value()?,
                "base" => it.base = map.next_value()?,
                "contentReference" => it.content_reference = map.next_value()?,
                "type" => it.types = map.next_value()?,
                "maxLength" => it.max_length = map.next_value()?,
                "constraint" => it.constraint = map.next_value()?,
                "condition" => it.condition = map.next_value()?,
                "mustSupport" => it.must_support = map.next_value()?,
                "isModifier" => it.is_modifier = map.next_value()?,
                "isSummary" => it.is_summary = map.next_value()?,
                "binding" => it.binding = map.next_value()?,
                other => match choice(&mut it, other) {
                    Some((place, type_name)) => {
                        let type_name = type_name.to_owned();
                        let json: &RawValue = map.next_value()?;
                        *place = Some(Choice {
                            type_name,
                            json: json.get().to_owned(),
                        });
                    }
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
            }
        }
        Ok(Read(it))
    }
}

/// Where the value under a name such as `patternCoding` goes, and the name of its type.
fn choice<'e, 'n>(
    it: &'e mut ElementDefinition,
    name: &'n str,
) -> Option<(&'e mut Option<Choice>, &'n str)> {
    let (place, type_name) = if let Some(type_name) = name.strip_prefix("fixed") {
        (&mut it.fixed, type_name)
    } else if let Some(type_name) = name.strip_prefix("pattern") {
        (&mut it.pattern, type_name)
    } else if let Some(type_name) = name.strip_prefix("minValue") {
        (&mut it.min_value, type_name)
    } else if let Some(type_name) = name.strip_prefix("maxValue") {
        (&mut it.max_value, type_name)
    } else {
        return None;
    };
    type_name
        .starts_with(|first: char| first.is_ascii_uppercase())
        .then_some((place, type_name))
}

/// A name, borrowed where it stands without escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use crate::canonical::StructureDefinition;

    const PROFILE: &str = r#"{
        "resourceType": "StructureDefinition", "url": "http://example.org/p", "name": "P",
        "kind": "resource", "type": "Observation",
        "snapshot": {"element": [{
            "id": "Observation.value[x]", "path": "Observation.value[x]", "definition": "prose",
            "min": 1, "max": "1", "fixedDecimal": 1.50, "patternedSomething": 1, "pattern": 2,
            "type": [{"code": "http://hl7.org/fhirpath/System.String", "extension": [{
                "url": "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type",
                "valueUrl": "id"}]}],
            "constraint": [{"key": "a-1", "severity": "warning", "human": "said", "xpath": "x",
                "extension": [{"valueBoolean": true,
                    "url": "http://hl7.org/fhir/StructureDefinition/elementdefinition-bestpractice"}]}],
            "binding": {"strength": "extensible", "extension": [
                {"url": "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet",
                 "valueCanonical": "http://example.org/max"},
                {"url": "http://hl7.org/fhir/tools/StructureDefinition/additional-binding", "extension": [
                    {"url": "purpose", "valueCode": "required"},
                    {"url": "valueSet", "valueCanonical": "http://example.org/more"}]}]}
        }]}}"#;

    #[test]
    fn rules_are_kept_and_prose_is_not() {
        let read: StructureDefinition = serde_json::from_str(PROFILE).unwrap();
        let element = &read.snapshot.element[0];
        assert_eq!(element.choice("fixed"), Some(("Decimal", "1.50")));
        assert_eq!(element.choice("pattern"), None);
        assert_eq!(element.types[0].fhir_type.0.as_deref(), Some("id"));
        assert!(element.constraint[0].best_practice.0);
        assert_eq!(element.constraint[0].human, "said");
        let bounds = &element.binding.as_ref().unwrap().bounds;
        assert_eq!(
            bounds.max_value_set.as_deref(),
            Some("http://example.org/max")
        );
        assert_eq!(bounds.additional[0].value_set, "http://example.org/more");
    }

    #[test]
    fn the_compact_form_gives_the_same_records() {
        let read: StructureDefinition = serde_json::from_str(PROFILE).unwrap();
        let compact = postcard::to_allocvec(&read).unwrap();
        let again: StructureDefinition = postcard::from_bytes(&compact).unwrap();
        assert_eq!(read, again);
    }
}
