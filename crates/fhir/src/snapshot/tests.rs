//! Tests of making snapshots, with small profiles written for them over R4 core.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::catalogue::{Catalogue, FindError};

const URL: &str = "http://example.org/StructureDefinition/";

fn profile(name: &str, base: &str, type_name: &str, elements: &Value) -> String {
    let base = if base.contains("://") {
        base.to_owned()
    } else {
        format!("http://hl7.org/fhir/StructureDefinition/{base}")
    };
    json!({
        "resourceType": "StructureDefinition", "url": format!("{URL}{name}"), "name": name,
        "kind": "resource", "abstract": false, "type": type_name, "baseDefinition": base,
        "derivation": "constraint", "differential": {"element": elements},
    })
    .to_string()
}

fn over_r4(definitions: &[String]) -> Catalogue {
    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    for text in definitions {
        catalogue.add_resource("test", text.as_bytes()).unwrap();
    }
    catalogue
}

/// One element a line: id, cardinality, types, and what else is worth seeing.
fn shown(it: &ElementDefinition) -> String {
    let types: Vec<_> = it
        .types
        .iter()
        .map(|it| {
            let profiles: Vec<_> = it.profile.iter().chain(&it.target_profile).collect();
            let profiles: Vec<_> = profiles
                .iter()
                .filter_map(|it| it.rsplit('/').next())
                .collect();
            let code = it.code.rsplit('/').next().unwrap_or_default();
            if profiles.is_empty() {
                code.to_owned()
            } else {
                format!("{code}({})", profiles.join(" "))
            }
        })
        .collect();
    let types = if types.len() > 4 {
        format!("{} types", types.len())
    } else {
        types.join("|")
    };
    let mut text = format!(
        "{} {}..{} {types}",
        it.id_or_path(),
        it.min.unwrap_or_default(),
        it.max.as_deref().unwrap_or("?"),
    );
    if let Some(slicing) = &it.slicing {
        let by: Vec<_> = slicing
            .discriminator
            .iter()
            .map(|it| format!("{}:{}", it.kind, it.path))
            .collect();
        text.push_str(&format!(" sliced {} by {}", slicing.rules, by.join(",")));
    }
    if let Some((type_name, json)) = it.choice("fixed").or(it.choice("pattern")) {
        text.push_str(&format!(" = {type_name} {json}"));
    }
    if let Some(binding) = &it.binding {
        let set = binding.value_set.as_deref().unwrap_or_default();
        let set = set.rsplit('/').next().unwrap_or_default();
        text.push_str(&format!(" from {set} ({})", binding.strength));
    }
    if let Some(reference) = &it.content_reference {
        text.push_str(&format!(" as {reference}"));
    }
    text
}

/// The elements whose ids begin so, and the problems.
fn check(catalogue: &Catalogue, name: &str, prefixes: &[&str], expected: Expect) {
    let url = format!("{URL}{name}");
    let structure = catalogue.structure_or_reason(&url).unwrap();
    let mut lines: Vec<_> = structure
        .snapshot
        .element
        .iter()
        .filter(|it| {
            prefixes
                .iter()
                .any(|prefix| it.id_or_path().starts_with(prefix))
        })
        .map(shown)
        .collect();
    let problems = catalogue.snapshot_problems(&url);
    lines.extend(
        problems
            .iter()
            .map(|it| format!("! {}: {}", it.element, it.problem)),
    );
    expected.assert_eq(&lines.join("\n"));
}

fn check_one(base: &str, elements: &Value, prefixes: &[&str], expected: Expect) {
    let catalogue = over_r4(&[profile("it", base, base, elements)]);
    check(&catalogue, "it", prefixes, expected);
}

#[test]
fn elements_are_narrowed_in_place_and_never_widened() {
    check_one(
        "Patient",
        &json!([
            {"path": "Patient"},
            {"path": "Patient.gender", "min": 1,
             "binding": {"strength": "preferred", "valueSet": "http://example.org/vs"}},
            {"path": "Patient.name", "min": 1, "max": "3", "mustSupport": true},
            {"path": "Patient.active", "max": "*"},
            {"path": "Patient.birthDate", "type": [{"code": "dateTime"}]},
            {"path": "Patient.nickname", "min": 1},
        ]),
        &[
            "Patient.active",
            "Patient.name",
            "Patient.gender",
            "Patient.birthDate",
            "Patient.nick",
        ],
        expect![[r#"
            Patient.active 0..1 boolean
            Patient.name 1..3 HumanName
            Patient.gender 1..1 code from vs (required)
            Patient.birthDate 0..1 date
            ! Patient.gender: the binding is preferred, the base's is required
            ! Patient.active: `max` is *, the base has 1
            ! Patient.birthDate: type `dateTime` is not among the base's types
            ! Patient.nickname: the base has no such element"#]],
    );
}

#[test]
fn a_path_may_go_into_a_datatype() {
    check_one(
        "Patient",
        &json!([
            {"path": "Patient.maritalStatus.coding", "min": 1},
            {"path": "Patient.maritalStatus.coding.system", "min": 1, "fixedUri": "http://example.org/s"},
        ]),
        &["Patient.maritalStatus"],
        expect![[r#"
            Patient.maritalStatus 0..1 CodeableConcept from marital-status (extensible)
            Patient.maritalStatus.id 0..1 System.String
            Patient.maritalStatus.extension 0..* Extension sliced open by value:url
            Patient.maritalStatus.coding 1..* Coding
            Patient.maritalStatus.coding.id 0..1 System.String
            Patient.maritalStatus.coding.extension 0..* Extension sliced open by value:url
            Patient.maritalStatus.coding.system 1..1 uri = Uri "http://example.org/s"
            Patient.maritalStatus.coding.version 0..1 string
            Patient.maritalStatus.coding.code 0..1 code
            Patient.maritalStatus.coding.display 0..1 string
            Patient.maritalStatus.coding.userSelected 0..1 boolean
            Patient.maritalStatus.text 0..1 string"#]],
    );
}

#[test]
fn slices_begin_as_copies_and_may_be_sliced_again() {
    check_one(
        "Observation",
        &json!([
            {"path": "Observation.component", "min": 1, "slicing": {
                "discriminator": [{"type": "pattern", "path": "code"}], "rules": "open"}},
            {"path": "Observation.component", "sliceName": "a", "max": "4", "slicing": {
                "discriminator": [{"type": "exists", "path": "interpretation"}], "rules": "open"}},
            {"path": "Observation.component.code", "patternCodeableConcept": {"text": "a"}},
            {"path": "Observation.component", "sliceName": "a/one", "min": 1, "max": "1"},
            {"path": "Observation.component.interpretation", "min": 1},
            {"path": "Observation.component", "sliceName": "b", "max": "1"},
            {"path": "Observation.component.code.coding.code", "fixedCode": "b"},
        ]),
        &[
            "Observation.component:a",
            "Observation.component:b.code.coding.code",
        ],
        expect![[r#"
            Observation.component:a 0..4 BackboneElement sliced open by exists:interpretation
            Observation.component:a.id 0..1 System.String
            Observation.component:a.extension 0..* Extension
            Observation.component:a.modifierExtension 0..* Extension
            Observation.component:a.code 1..1 CodeableConcept = CodeableConcept {"text":"a"} from observation-codes (example)
            Observation.component:a.value[x] 0..1 11 types
            Observation.component:a.dataAbsentReason 0..1 CodeableConcept from data-absent-reason (extensible)
            Observation.component:a.interpretation 0..* CodeableConcept from observation-interpretation (extensible)
            Observation.component:a.referenceRange 0..*  as http://hl7.org/fhir/StructureDefinition/Observation#Observation.referenceRange
            Observation.component:a/one 1..1 BackboneElement
            Observation.component:a/one.id 0..1 System.String
            Observation.component:a/one.extension 0..* Extension
            Observation.component:a/one.modifierExtension 0..* Extension
            Observation.component:a/one.code 1..1 CodeableConcept = CodeableConcept {"text":"a"} from observation-codes (example)
            Observation.component:a/one.value[x] 0..1 11 types
            Observation.component:a/one.dataAbsentReason 0..1 CodeableConcept from data-absent-reason (extensible)
            Observation.component:a/one.interpretation 1..* CodeableConcept from observation-interpretation (extensible)
            Observation.component:a/one.referenceRange 0..*  as http://hl7.org/fhir/StructureDefinition/Observation#Observation.referenceRange
            Observation.component:b.code.coding.code 0..1 code = Code "b""#]],
    );
}

#[test]
fn ids_count_before_the_order_of_paths() {
    check_one(
        "Patient",
        &json!([
            {"id": "Patient.contact", "path": "Patient.contact", "slicing": {
                "discriminator": [{"type": "value", "path": "gender"}], "rules": "closed"}},
            {"id": "Patient.contact:x", "path": "Patient.contact", "sliceName": "x"},
            {"id": "Patient.contact:y", "path": "Patient.contact", "sliceName": "y"},
            {"id": "Patient.contact:x.gender", "path": "Patient.contact.gender", "fixedCode": "female"},
            {"id": "Patient.contact:y.gender", "path": "Patient.contact.gender", "fixedCode": "male"},
        ]),
        &["Patient.contact:x.gender", "Patient.contact:y.gender"],
        expect![[r#"
            Patient.contact:x.gender 0..1 code = Code "female" from administrative-gender|4.0.1 (required)
            Patient.contact:y.gender 0..1 code = Code "male" from administrative-gender|4.0.1 (required)"#]],
    );
}

#[test]
fn a_choice_named_by_a_type_is_a_slice() {
    // Not required: other types stay. Required: they go. Inside of a slice: the choice itself.
    check_one(
        "Observation",
        &json!([
            {"path": "Observation.effectiveDateTime", "min": 1},
            {"path": "Observation.valueQuantity"},
            {"path": "Observation.valueQuantity.code", "min": 1},
            {"path": "Observation.component", "slicing": {
                "discriminator": [{"type": "pattern", "path": "code"}], "rules": "open"}},
            {"path": "Observation.component", "sliceName": "a"},
            {"path": "Observation.component.valueString", "maxLength": 4},
            {"path": "Observation.valueMoney"},
        ]),
        &[
            "Observation.effective",
            "Observation.value",
            "Observation.component:a.value",
        ],
        expect![[r#"
            Observation.effective[x] 1..1 dateTime sliced closed by type:$this
            Observation.effective[x]:effectiveDateTime 1..1 dateTime
            Observation.value[x] 0..1 11 types sliced open by type:$this
            Observation.value[x]:valueQuantity 0..1 Quantity
            Observation.value[x]:valueQuantity.id 0..1 System.String
            Observation.value[x]:valueQuantity.extension 0..* Extension sliced open by value:url
            Observation.value[x]:valueQuantity.value 0..1 decimal
            Observation.value[x]:valueQuantity.comparator 0..1 code from quantity-comparator|4.0.1 (required)
            Observation.value[x]:valueQuantity.unit 0..1 string
            Observation.value[x]:valueQuantity.system 0..1 uri
            Observation.value[x]:valueQuantity.code 1..1 code
            Observation.component:a.value[x] 0..1 string
            ! Observation.valueMoney: the base has no such element"#]],
    );
}

#[test]
fn two_types_of_a_choice_leave_it_open_and_a_single_type_needs_no_slice() {
    check_one(
        "Observation",
        &json!([
            {"path": "Observation.valueQuantity", "min": 1},
            {"path": "Observation.valueString", "max": "0"},
            {"path": "Observation.effective[x]", "type": [{"code": "Period"}]},
            {"path": "Observation.effectivePeriod.start", "min": 1},
        ]),
        &["Observation.effective", "Observation.value"],
        expect![[r#"
            Observation.effective[x] 0..1 Period
            Observation.effective[x].id 0..1 System.String
            Observation.effective[x].extension 0..* Extension sliced open by value:url
            Observation.effective[x].start 1..1 dateTime
            Observation.effective[x].end 0..1 dateTime
            Observation.value[x] 0..1 11 types sliced open by type:$this
            Observation.value[x]:valueQuantity 1..1 Quantity
            Observation.value[x]:valueString 0..0 string"#]],
    );
}

#[test]
fn extensions_are_sliced_by_url_and_their_profile_is_walked_into() {
    let extension = profile(
        "colour",
        "Extension",
        "Extension",
        &json!([
            {"path": "Extension.url", "fixedUri": "http://example.org/StructureDefinition/colour"},
            {"path": "Extension.value[x]", "min": 1, "type": [{"code": "code"}]},
        ]),
    );
    let patient = profile(
        "it",
        "Patient",
        "Patient",
        &json!([
            {"path": "Patient.extension", "sliceName": "colour", "min": 1, "max": "1", "type": [
                {"code": "Extension", "profile": ["http://example.org/StructureDefinition/colour"]}]},
            {"path": "Patient.extension.value[x]", "fixedCode": "red"},
        ]),
    );
    let catalogue = over_r4(&[patient, extension]);
    check(
        &catalogue,
        "it",
        &["Patient.extension"],
        expect![[r#"
        Patient.extension 0..* Extension sliced open by value:url
        Patient.extension:colour 1..1 Extension(colour)
        Patient.extension:colour.id 0..1 System.String
        Patient.extension:colour.extension 0..* Extension sliced open by value:url
        Patient.extension:colour.url 1..1 System.String = Uri "http://example.org/StructureDefinition/colour"
        Patient.extension:colour.value[x] 1..1 code = Code "red""#]],
    );
}

#[test]
fn a_content_reference_is_spelled_out_where_a_path_goes_through_it() {
    check_one(
        "Questionnaire",
        &json!([
            {"path": "Questionnaire.item.text", "min": 1},
            {"path": "Questionnaire.item.item.item.linkId", "maxLength": 5},
        ]),
        &[
            "Questionnaire.item.text",
            "Questionnaire.item.item.text",
            "Questionnaire.item.item.item.text",
            "Questionnaire.item.item.item.linkId",
            "Questionnaire.item.item.item.item",
        ],
        expect![[r#"
            Questionnaire.item.text 1..1 string
            Questionnaire.item.item.text 0..1 string
            Questionnaire.item.item.item.linkId 1..1 string
            Questionnaire.item.item.item.text 0..1 string
            Questionnaire.item.item.item.item 0..*  as http://hl7.org/fhir/StructureDefinition/Questionnaire#Questionnaire.item"#]],
    );
}

#[test]
fn a_slice_needs_slicing_or_one_value() {
    check_one(
        "Patient",
        &json!([
            {"path": "Patient.gender", "sliceName": "sex", "min": 1},
            {"path": "Patient.name", "sliceName": "official", "min": 1},
        ]),
        &["Patient.gender", "Patient.name"],
        expect![[r#"
            Patient.name 0..* HumanName sliced open by 
            Patient.name:official 1..* HumanName
            Patient.gender 1..1 code from administrative-gender|4.0.1 (required)
            ! Patient.gender: the element has slices and no `slicing`
            ! Patient.name: the element has slices and no `slicing`"#]],
    );
}

#[test]
fn rules_gather_along_the_chain_of_bases() {
    let constraint =
        |key: &str| json!({"key": key, "severity": "error", "human": key, "expression": "true"});
    let one = profile(
        "one",
        "Patient",
        "Patient",
        &json!([{"path": "Patient", "constraint": [constraint("one-1")]},
                {"path": "Patient.name", "min": 1, "condition": ["one-1"]}]),
    );
    let two = profile(
        "two",
        &format!("{URL}one"),
        "Patient",
        &json!([{"path": "Patient", "constraint": [constraint("two-1"), constraint("dom-6")]},
                {"path": "Patient.name", "min": 0, "max": "1", "condition": ["two-1"]}]),
    );
    let catalogue = over_r4(&[two, one]);
    check(
        &catalogue,
        "two",
        &["Patient.name"],
        expect![[r#"
        Patient.name 1..1 HumanName
        ! Patient.name: `min` is 0, the base has 1"#]],
    );
    let two = catalogue.structure(&format!("{URL}two")).unwrap();
    let root = &two.snapshot.element[0];
    let keys: Vec<_> = root.constraint.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "dom-2", "dom-3", "dom-4", "dom-5", "dom-6", "one-1", "two-1"
        ]
    );
    let source = |key: &str| {
        let found = root.constraint.iter().find(|it| it.key == key).unwrap();
        found.source.clone().unwrap()
    };
    assert_eq!(source("one-1"), format!("{URL}one"));
    assert_ne!(source("dom-6"), format!("{URL}two"));
    let name = two
        .snapshot
        .element
        .iter()
        .find(|it| it.path == "Patient.name")
        .unwrap();
    assert_eq!(name.condition, ["one-1", "two-1"]);
}

#[test]
fn a_logical_model_adds_elements() {
    let model = json!({
        "resourceType": "StructureDefinition", "url": format!("{URL}it"), "name": "It",
        "kind": "logical", "type": format!("{URL}it"), "derivation": "specialization",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Element",
        "differential": {"element": [
            {"path": "it"},
            {"path": "it.part", "min": 0, "max": "*", "type": [{"code": "BackboneElement"}]},
            {"path": "it.part.colour", "min": 1, "max": "1", "type": [{"code": "code"}]},
            {"path": "it.part.part", "min": 0, "max": "*", "contentReference": "#it.part"},
            {"path": "it.last", "min": 0, "max": "1", "type": [{"code": "string"}]},
        ]},
    });
    let catalogue = over_r4(&[model.to_string()]);
    check(
        &catalogue,
        "it",
        &["it"],
        expect![[r#"
        it 0..* 
        it.id 0..1 System.String
        it.extension 0..* Extension sliced open by value:url
        it.part 0..* BackboneElement
        it.part.id 0..1 System.String
        it.part.extension 0..* Extension sliced open by value:url
        it.part.modifierExtension 0..* Extension
        it.part.colour 1..1 code
        it.part.part 0..*  as #it.part
        it.last 0..1 string"#]],
    );
}

fn error(catalogue: &Catalogue, name: &str) -> String {
    catalogue
        .structure_or_reason(&format!("{URL}{name}"))
        .unwrap_err()
        .to_string()
}

#[test]
fn what_cannot_be_filled_says_why() {
    let nothing = json!([]);
    let base = format!("{URL}missing");
    let mut catalogue = over_r4(&[
        profile("orphan", &base, "Patient", &nothing),
        profile("itself", &format!("{URL}itself"), "Patient", &nothing),
        profile("left", &format!("{URL}right"), "Patient", &nothing),
        profile("right", &format!("{URL}left"), "Patient", &nothing),
        profile("child", &format!("{URL}orphan"), "Patient", &nothing),
    ]);
    assert!(error(&catalogue, "orphan").ends_with("is in no loaded package"));
    assert!(error(&catalogue, "itself").ends_with("is derived from itself"));
    assert!(error(&catalogue, "left").ends_with("is derived from itself"));
    assert!(error(&catalogue, "child").contains("cannot be used"));
    // What was missing may come later.
    let missing = profile("missing", "Patient", "Patient", &nothing);
    catalogue.add_resource("test", missing.as_bytes()).unwrap();
    assert!(catalogue.structure(&format!("{URL}orphan")).is_some());
    assert!(catalogue.structure(&format!("{URL}child")).is_some());
}

#[test]
fn chains_and_paths_without_end_meet_a_limit() {
    let mut definitions: Vec<_> = (0..40)
        .map(|at| {
            let base = format!("{URL}p{}", at + 1);
            profile(&format!("p{at}"), &base, "Patient", &json!([]))
        })
        .collect();
    definitions.push(profile("p40", "Patient", "Patient", &json!([])));
    let deep = format!("Patient{}", ".extension".repeat(40));
    definitions.push(profile(
        "deep",
        "Patient",
        "Patient",
        &json!([{"path": deep}]),
    ));
    let long: Vec<_> = (0..DIFFERENTIAL_MAX + 1)
        .map(|_| json!({"path": "Patient"}))
        .collect();
    definitions.push(profile("long", "Patient", "Patient", &json!(long)));
    let catalogue = over_r4(&definitions);
    assert!(error(&catalogue, "p0").contains("beyond a limit"));
    assert!(catalogue.structure(&format!("{URL}p30")).is_some());
    // What was made before does not make a chain shorter.
    assert!(error(&catalogue, "p10").contains("beyond a limit"));
    assert!(catalogue.structure(&format!("{URL}p20")).is_some());
    assert!(error(&catalogue, "long").contains("beyond a limit"));
    assert_eq!(
        catalogue.snapshot_problems(&format!("{URL}deep"))[0].problem,
        Problem::NotInBase
    );
}

#[test]
fn definitions_that_walk_into_each_other_end() {
    let other = |name: &str, other: &str| {
        profile(
            name,
            "Extension",
            "Extension",
            &json!([
                {"path": "Extension.extension", "sliceName": "inner", "type": [
                    {"code": "Extension", "profile": [format!("{URL}{other}")]}]},
                {"path": "Extension.extension.url", "min": 1},
            ]),
        )
    };
    // The answer is the same whichever is asked for first.
    let answers = |order: [&str; 3]| -> Vec<String> {
        let catalogue = over_r4(&[other("a", "b"), other("b", "a")]);
        for name in order {
            assert!(catalogue.structure(&format!("{URL}{name}")).is_some());
        }
        let shown_of = |name: &str| {
            let it = catalogue.structure(&format!("{URL}{name}")).unwrap();
            it.snapshot
                .element
                .iter()
                .map(shown)
                .collect::<Vec<_>>()
                .join(" ")
        };
        vec![shown_of("a"), shown_of("b")]
    };
    let first = answers(["a", "b", "a"]);
    assert_eq!(first, answers(["b", "a", "b"]));
    assert!(first[0].contains("Extension.extension:inner.extension:inner 0..* Extension(a)"));
    let nowhere = over_r4(&[]).structure_or_reason(&format!("{URL}c"));
    assert!(matches!(nowhere, Err(FindError::NotLoaded(_))));
}
