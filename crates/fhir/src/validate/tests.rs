//! Tests of the structural check: every finding once, each beside what is right.

use std::collections::BTreeSet;

use super::*;
use crate::finding::to_operation_outcome;

/// Findings as `severity id expression`.
fn found(text: &str) -> Vec<String> {
    found_with(text, &Limits::default())
}

fn found_with(text: &str, limits: &Limits) -> Vec<String> {
    structure(Definitions::r4(), text.as_bytes(), limits)
        .findings
        .iter()
        .map(|it| {
            format!("{} {} {}", it.severity.code(), it.id, it.expression)
                .trim_end()
                .to_owned()
        })
        .collect()
}

/// A Patient with these members.
fn patient(members: &str) -> String {
    format!(r#"{{"resourceType":"Patient",{members}}}"#)
}

/// A right Observation with these members more.
fn observation(members: &str) -> String {
    format!(r#"{{"resourceType":"Observation","status":"final","code":{{"text":"x"}}{members}}}"#)
}

/// (what is wrong, what is right, the findings of the first). The second has none.
fn cases() -> Vec<(String, String, Vec<&'static str>)> {
    let p = patient;
    let o = observation;
    // An Observation with contained resources and a reference to the one with id `d`.
    let c = |contained: &str| {
        observation(&format!(
            r##","contained":[{contained}],"device":{{"reference":"#d"}}"##
        ))
    };
    let narrative = |inner: &str| {
        patient(&format!(
            r#""text":{{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div>"}}"#
        ))
    };
    let ok = || p(r#""active":true"#);
    vec![
        // The text.
        ("{".into(), ok(), vec!["fatal json.syntax"]),
        (p(r#""active":true,"active":true"#), ok(), vec!["error json.duplicate-key Patient.active"]),
        (
            p(r#""name":[{"family":"a"},{"family":"a","family":"b"}]"#),
            p(r#""name":[{"family":"a"}]"#),
            vec!["error json.duplicate-key Patient.name[1].family"],
        ),
        // The resource.
        ("[]".into(), ok(), vec!["fatal structure.not-an-object"]),
        ("{}".into(), ok(), vec!["error structure.empty-object"]),
        (r#"{"id":"a"}"#.into(), ok(), vec!["fatal structure.resource-type-missing"]),
        (r#"{"resourceType":1}"#.into(), ok(), vec!["fatal structure.resource-type-missing"]),
        (r#"{"resourceType":"Patients"}"#.into(), ok(), vec!["fatal structure.resource-type-unknown"]),
        (r#"{"resourceType":"DomainResource"}"#.into(), ok(), vec!["fatal structure.resource-type-unknown"]),
        (r#"{"resourceType":"HumanName"}"#.into(), ok(), vec!["fatal structure.resource-type-unknown"]),
        // Elements.
        (p(r#""nme":[]"#), ok(), vec!["error structure.unknown-element Patient.nme"]),
        (p(r#""resourcetype":"x""#), ok(), vec!["error structure.unknown-element Patient.resourcetype"]),
        (p(r#""_name":[{"id":"a"}]"#), p(r#""_gender":{"id":"a"},"gender":"male""#), vec!["error structure.unknown-element Patient._name"]),
        (o(r#","value":1"#), o(r#","valueInteger":1"#), vec!["error structure.unknown-element Observation.value"]),
        (o(r#","valueMoney":{"value":1}"#), o(r#","valueQuantity":{"value":1}"#), vec!["error structure.unknown-element Observation.valueMoney"]),
        (
            p(r#""contact":[{"name":{"resourceType":"x","family":"a"}}]"#),
            p(r#""contact":[{"name":{"family":"a"}}]"#),
            vec!["error structure.unknown-element Patient.contact[0].name.resourceType"],
        ),
        (
            r#"{"resourceType":"Observation","status":"final"}"#.into(),
            o(""),
            vec!["error structure.missing-element Observation"],
        ),
        (
            o(r#","component":[{"valueInteger":1}]"#),
            o(r#","component":[{"code":{"text":"y"},"valueInteger":1}]"#),
            vec!["error structure.missing-element Observation.component[0]"],
        ),
        (
            r#"{"resourceType":"MedicationRequest","status":"draft","intent":"order","subject":{"reference":"Patient/1"}}"#.into(),
            r#"{"resourceType":"MedicationRequest","status":"draft","intent":"order","subject":{"reference":"Patient/1"},"medicationCodeableConcept":{"text":"x"}}"#.into(),
            vec!["error structure.missing-element MedicationRequest"],
        ),
        (
            o(r#","referenceRange":[{"low":{"comparator":"<","value":1}}]"#),
            o(r#","referenceRange":[{"low":{"value":1}}]"#),
            vec!["error structure.too-many Observation.referenceRange[0].low.comparator"],
        ),
        (p(r#""name":{"family":"a"}"#), p(r#""name":[{"family":"a"}]"#), vec!["error structure.array-expected Patient.name"]),
        (p(r#""name":[{"given":"a"}]"#), p(r#""name":[{"given":["a"]}]"#), vec!["error structure.array-expected Patient.name[0].given"]),
        (p(r#""gender":["male"]"#), p(r#""gender":"male""#), vec!["error structure.array-not-allowed Patient.gender"]),
        (p(r#""maritalStatus":[{"text":"a"}]"#), p(r#""maritalStatus":{"text":"a"}"#), vec!["error structure.array-not-allowed Patient.maritalStatus"]),
        (p(r#""name":["a"]"#), p(r#""name":[{"family":"a"}]"#), vec!["error structure.wrong-json-kind Patient.name[0]"]),
        (p(r#""active":"true""#), ok(), vec!["error structure.wrong-json-kind Patient.active"]),
        (p(r#""birthDate":1990"#), p(r#""birthDate":"1990""#), vec!["error structure.wrong-json-kind Patient.birthDate"]),
        (p(r#""gender":{"code":"male"}"#), p(r#""gender":"male""#), vec!["error structure.wrong-json-kind Patient.gender"]),
        (o(r#","valueQuantity":{"value":"1"}"#), o(r#","valueQuantity":{"value":1.50e2}"#), vec!["error structure.wrong-json-kind Observation.valueQuantity.value"]),
        (
            o(r#","valueInteger":1,"valueString":"a""#),
            o(r#","_valueInteger":{"id":"a"},"valueInteger":1"#),
            vec!["error structure.choice-repeated Observation.valueString"],
        ),
        (
            o(r#","valueInteger":1,"_valueString":{"id":"a"}"#),
            o(r#","valueInteger":1,"_valueInteger":{"id":"a"}"#),
            vec!["error structure.choice-repeated Observation.valueString"],
        ),
        (p(r#""name":[]"#), p(r#""name":[{"family":"a"}]"#), vec!["error structure.empty-array Patient.name"]),
        (p(r#""name":[{}]"#), p(r#""name":[{"family":"a"}]"#), vec!["error structure.empty-object Patient.name[0]"]),
        (p(r#""name":[null]"#), p(r#""name":[{"family":"a"}]"#), vec!["error structure.null Patient.name[0]"]),
        (p(r#""gender":null"#), p(r#""gender":"male""#), vec!["error structure.null Patient.gender"]),
        // Primitives and their siblings.
        (
            p(r#""name":[{"given":["a",null]}]"#),
            p(r#""name":[{"given":["a",null],"_given":[null,{"id":"x"}]}]"#),
            vec!["error structure.null-without-extension Patient.name[0].given[1]"],
        ),
        (
            p(r#""name":[{"given":["a"],"_given":[null,{"id":"x"}]}]"#),
            p(r#""name":[{"given":["a",null],"_given":[null,{"id":"x"}]}]"#),
            vec!["warning structure.sibling-length Patient.name[0].given"],
        ),
        (
            p(r#""_birthDate":{"extension":[{"url":"http://x.example/e"}]},"birthDate":"1990""#),
            p(r#""_birthDate":{"extension":[{"url":"http://x.example/e","valueCode":"a"}]},"birthDate":"1990""#),
            vec!["error extension.empty Patient.birthDate.extension[0]"],
        ),
        (p(r#""name":[{"family":""}]"#), p(r#""name":[{"family":"a"}]"#), vec!["error primitive.empty Patient.name[0].family"]),
        (p(r#""name":[{"family":" "}]"#), p(r#""name":[{"family":" a"}]"#), vec!["warning primitive.blank Patient.name[0].family"]),
        (p(r#""id":"a_b""#), p(r#""id":"a-b""#), vec!["error primitive.format Patient.id"]),
        (p(r#""birthDate":"1990-1-1""#), p(r#""birthDate":"1990-01-01""#), vec!["error primitive.format Patient.birthDate"]),
        (p(r#""birthDate":"1990-02-30""#), p(r#""birthDate":"1990-02-28""#), vec!["error primitive.impossible-date Patient.birthDate"]),
        (
            p(r#""deceasedDateTime":"2020-11-11T10:58:14""#),
            p(r#""deceasedDateTime":"2020-11-11T10:58:14Z""#),
            vec!["error primitive.timezone-missing Patient.deceasedDateTime"],
        ),
        (p(r#""multipleBirthInteger":2147483648"#), p(r#""multipleBirthInteger":2147483647"#), vec!["error primitive.out-of-range Patient.multipleBirthInteger"]),
        (p(r#""multipleBirthInteger":1.0"#), p(r#""multipleBirthInteger":1"#), vec!["error primitive.format Patient.multipleBirthInteger"]),
        (p(r#""telecom":[{"rank":0}]"#), p(r#""telecom":[{"rank":1}]"#), vec!["error primitive.out-of-range Patient.telecom[0].rank"]),
        (p(r#""photo":[{"data":"QQ="}]"#), p(r#""photo":[{"data":"QQ=="}]"#), vec!["error primitive.format Patient.photo[0].data"]),
        (
            p(&format!(r#""name":[{{"family":"{}"}}]"#, "x".repeat(1024 * 1024 + 1))),
            p(r#""name":[{"family":"x"}]"#),
            vec!["error primitive.too-long Patient.name[0].family"],
        ),
        (
            p(r#""text":{"status":"generated","div":"hello"}"#),
            p(r#""text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">hello</div>"}"#),
            vec!["error narrative.div Patient.text.div"],
        ),
        (narrative("a&nbsp;b"), narrative("a&#160;b"), vec!["error narrative.div Patient.text.div"]),
        (narrative("<script>x</script>"), narrative("<p>x</p>"), vec!["error narrative.content Patient.text.div"]),
        (
            narrative("<a href='javascript:x'>x</a>"),
            narrative("<a href='#x'>x</a>"),
            vec!["error narrative.active Patient.text.div"],
        ),
        (narrative("<p> </p>"), narrative("<p>x</p>"), vec!["error narrative.empty Patient.text.div"]),
        // Bindings.
        (p(r#""gender":"Male""#), p(r#""gender":"male""#), vec!["error binding.required Patient.gender"]),
        (
            r#"{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"coding":[{"system":"http://x.example","code":"active"}]}}"#.into(),
            r#"{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]}}"#.into(),
            vec!["error binding.required Condition.clinicalStatus"],
        ),
        (
            r#"{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"text":"active"}}"#.into(),
            r#"{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"coding":[{"system":"http://x.example","code":"y"},{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]}}"#.into(),
            vec!["error binding.no-code Condition.clinicalStatus"],
        ),
        (
            p(r#""_gender":{"extension":[{"url":"http://x.example/e","valueCode":"a"}]}"#),
            p(r#""_birthDate":{"extension":[{"url":"http://x.example/e","valueCode":"a"}]}"#),
            vec!["error binding.no-code Patient.gender"],
        ),
        (
            p(r#""photo":[{"contentType":"a/b"},{"contentType":"c/d"}]"#),
            p(r#""photo":[{"title":"x"}]"#),
            vec!["information binding.not-checked Patient.photo[0].contentType"],
        ),
        // Extensions.
        (
            p(r#""extension":[{"valueCode":"a"}]"#),
            p(r#""extension":[{"url":"http://x.example/e","valueCode":"a"}]"#),
            vec!["error structure.missing-element Patient.extension[0]"],
        ),
        (
            p(r#""extension":[{"url":"http://x.example/e","valueCode":"a","extension":[{"url":"b","valueCode":"c"}]}]"#),
            p(r#""extension":[{"url":"http://x.example/e","extension":[{"url":"b","valueCode":"c"}]}]"#),
            vec!["error extension.value-and-nested Patient.extension[0]"],
        ),
        (
            p(r#""extension":[{"url":"e","valueCode":"a"}]"#),
            p(r#""extension":[{"url":"http://x.example/e","extension":[{"url":"b","valueCode":"c"}]}]"#),
            vec!["warning extension.url-relative Patient.extension[0]"],
        ),
        (
            p(r#""modifierExtension":[{"url":"http://x.example/e","valueCode":"a"}]"#),
            p(r#""extension":[{"url":"http://x.example/e","valueCode":"a"}]"#),
            vec!["warning extension.modifier Patient.modifierExtension[0]"],
        ),
        // References.
        (o(r#","subject":{"reference":"Practitioner/1"}"#), o(r#","subject":{"reference":"Patient/1"}"#), vec!["error reference.target-type Observation.subject"]),
        (
            o(r#","subject":{"reference":"https://x.example/fhir/Encounter/1/_history/2"}"#),
            o(r#","subject":{"reference":"https://x.example/fhir/Patient/1/_history/2"}"#),
            vec!["error reference.target-type Observation.subject"],
        ),
        (o(r#","subject":{"type":"Medication","display":"x"}"#), o(r#","subject":{"type":"Patient","display":"x"}"#), vec!["error reference.target-type Observation.subject"]),
        (
            o(r#","subject":{"reference":"Patient/1","type":"Group"}"#),
            o(r#","subject":{"reference":"Patient/1","type":"Patient"}"#),
            vec!["error reference.type-mismatch Observation.subject"],
        ),
        (o(r#","subject":{"reference":"Nothing/1"}"#), o(r#","subject":{"reference":"urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7"}"#), vec!["error reference.unrecognised Observation.subject"]),
        (o(r#","subject":{"reference":"1"}"#), o(r#","subject":{"reference":"https://x.example/1"}"#), vec!["error reference.unrecognised Observation.subject"]),
        (
            o(r##","device":{"reference":"#d"}"##),
            o(r##","contained":[{"resourceType":"Device","id":"d"}],"device":{"reference":"#d"}"##),
            vec!["error reference.contained-missing Observation.device"],
        ),
        (
            o(r##","contained":[{"resourceType":"Patient","id":"d"}],"device":{"reference":"#d"}"##),
            o(r##","contained":[{"resourceType":"DeviceMetric","id":"d","type":{"text":"x"},"category":"setting"}],"device":{"reference":"#d"}"##),
            vec!["error reference.target-type Observation.device"],
        ),
        // Contained resources.
        (
            o(r#","contained":[{"resourceType":"Device"}]"#),
            c(r#"{"resourceType":"Device","id":"d"}"#),
            vec!["error contained.id-missing Observation.contained[0]"],
        ),
        (
            c(r#"{"resourceType":"Device","id":"d"},{"resourceType":"Device","id":"d"}"#),
            o(r##","contained":[{"resourceType":"Device","id":"d"},{"resourceType":"Device","id":"e"}],"focus":[{"reference":"#d"},{"reference":"#e"}]"##),
            vec!["error contained.id-duplicate Observation.contained[1]"],
        ),
        (
            c(r#"{"resourceType":"Device","id":"d","contained":[{"resourceType":"Device","id":"e"}]}"#),
            c(r#"{"resourceType":"Device","id":"d"}"#),
            vec!["error contained.nested Observation.contained[0]"],
        ),
        (
            c(r#"{"resourceType":"Device","id":"d","x":1}"#),
            c(r#"{"resourceType":"Device","id":"d"}"#),
            vec!["error structure.unknown-element Observation.contained[0].x"],
        ),
        (
            o(r#","contained":[{"resourceType":"Device","id":"d"}]"#),
            o(r##","contained":[{"resourceType":"Specimen","id":"s","subject":{"reference":"#"}}]"##),
            vec!["error contained.unreferenced Observation.contained[0]"],
        ),
        (
            c(r#"{"resourceType":"Device","id":"d","meta":{"versionId":"1","profile":["http://x.example/p"]}}"#),
            c(r#"{"resourceType":"Device","id":"d","meta":{"profile":["http://x.example/p"]}}"#),
            vec!["error contained.meta Observation.contained[0].meta"],
        ),
        // Ids of elements.
        (
            p(r#""name":[{"id":"a","family":"x"},{"family":"y","_family":{"id":"a"}}]"#),
            p(r#""name":[{"id":"a","family":"x"},{"family":"y","_family":{"id":"b"}}]"#),
            vec!["error structure.element-id-duplicate Patient.name[1].family.id"],
        ),
        (
            p(r#""contact":[{"id":"a","name":{"id":"a"}}]"#),
            r#"{"resourceType":"Bundle","type":"collection","entry":[{"id":"a","resource":{"resourceType":"Patient","name":[{"id":"a","family":"x"}]}}]}"#.into(),
            vec!["error structure.element-id-duplicate Patient.contact[0].name.id"],
        ),
        // Datatypes.
        (
            p(r#""photo":[{"data":"QUJD","size":4}]"#),
            p(r#""photo":[{"data":"QUJDRA==","size":4}]"#),
            vec!["error attachment.size Patient.photo[0].size"],
        ),
        (
            p(r#""photo":[{"data":"YWJj","hash":"qZk+NkcGgWq6PiVxeFDCbJzQ2J4="}]"#),
            p(r#""photo":[{"data":"YWJj","hash":"qZk+NkcGgWq6PiVxeFDCbJzQ2J0="}]"#),
            vec!["error attachment.hash Patient.photo[0].hash"],
        ),
        (
            p(r#""identifier":[{"system":"mrn","value":"1"}]"#),
            p(r#""identifier":[{"system":"urn:oid:1.2","value":"1"}]"#),
            vec!["error system.relative Patient.identifier[0].system"],
        ),
        (
            p(r#""maritalStatus":{"coding":[{"system":"http://hl7.org/fhir/ValueSet/marital-status","code":"M"}]}"#),
            p(r#""maritalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-MaritalStatus","code":"M"}]}"#),
            vec!["error system.value-set Patient.maritalStatus.coding[0].system"],
        ),
        (
            r#"{"resourceType":"Questionnaire","status":"draft","derivedFrom":["Questionnaire/1"]}"#.into(),
            r#"{"resourceType":"Questionnaire","status":"draft","derivedFrom":["http://x.example/Questionnaire/1|2"]}"#.into(),
            vec!["error primitive.format Questionnaire.derivedFrom[0]"],
        ),
        // Resources in resources; each opens its own scope for contained ids.
        (
            r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","gender":"x"}}]}"#.into(),
            r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","gender":"male"}}]}"#.into(),
            vec!["error binding.required Bundle.entry[0].resource.gender"],
        ),
        (
            r##"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o"}],"managingOrganization":{"reference":"#o"}}},{"resource":{"resourceType":"Patient","managingOrganization":{"reference":"#o"}}}]}"##.into(),
            r##"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o"}],"managingOrganization":{"reference":"#o"}}}]}"##.into(),
            vec!["error reference.contained-missing Bundle.entry[1].resource.managingOrganization"],
        ),
        // A content reference: items within items.
        (
            r#"{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"group","item":[{"linkId":"2","type":"group","item":[{"type":"string"}]}]}]}"#.into(),
            r#"{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"group","item":[{"linkId":"2","type":"group","item":[{"linkId":"3","type":"string"}]}]}]}"#.into(),
            vec!["error structure.missing-element Questionnaire.item[0].item[0].item[0]"],
        ),
        (
            patient(r#""identifier":[{"system":"urn:ietf:rfc:3986","value":"1.2.3"}]"#),
            patient(r#""identifier":[{"system":"urn:ietf:rfc:3986","value":"urn:oid:1.2.3"}]"#),
            vec!["error identifier.not-a-uri Patient.identifier[0].value"],
        ),
        (
            patient(r#""name":[{"id":"a b","family":"x"}]"#),
            patient(r#""name":[{"id":"/a+b=","family":"x"}]"#),
            vec!["error primitive.format Patient.name[0].id"],
        ),
        (
            r##"{"resourceType":"ValueSet","status":"draft","compose":{"include":[{"system":"#a"}]}}"##.into(),
            r#"{"resourceType":"ValueSet","status":"draft","compose":{"include":[{"system":"urn:a"}]}}"#.into(),
            vec!["error system.relative ValueSet.compose.include[0].system"],
        ),
    ]
}

#[test]
fn every_wrong_thing_is_found_and_its_right_neighbour_is_not() {
    for (wrong, right, expected) in cases() {
        let shown: String = wrong.chars().take(200).collect();
        assert_eq!(found(&wrong), expected, "{shown}");
        assert_eq!(found(&right), Vec::<String>::new(), "{right}");
    }
}

/// Whether the id belongs to this stage; the later ones have their own tests.
fn is_structural(finding_id: &str) -> bool {
    let later = [
        id::REFERENCE_TARGET_PROFILE,
        id::REFERENCE_AGGREGATION,
        id::REFERENCE_VERSIONING,
        id::REFERENCE_UNRESOLVED,
        id::EXTENSION_UNKNOWN,
        id::EXTENSION_CONTEXT,
        id::EXTENSION_MODIFIER_MISPLACED,
        id::EXTENSION_NOT_DEFINED,
    ];
    let groups = [
        "json.",
        "structure.",
        "primitive.",
        "narrative.",
        "contained.",
        "attachment.",
        "system.",
        "identifier.",
        "extension.",
        "reference.",
    ];
    let bindings = [
        id::BINDING_REQUIRED,
        id::BINDING_NO_CODE,
        id::BINDING_NOT_CHECKED,
    ];
    !later.contains(&finding_id)
        && (bindings.contains(&finding_id) || groups.iter().any(|it| finding_id.starts_with(it)))
}

#[test]
fn every_finding_id_has_a_case() {
    let mut seen: BTreeSet<String> = cases()
        .iter()
        .flat_map(|(wrong, ..)| {
            structure(Definitions::r4(), wrong.as_bytes(), &Limits::default()).findings
        })
        .map(|it| it.id.to_owned())
        .collect();
    let limits = |bytes_max, depth_max, values_max, findings_max| Limits {
        json: JsonLimits {
            bytes_max,
            depth_max,
            values_max,
        },
        findings_max,
    };
    let text = patient(r#""name":[{"given":["a"]}],"a":1,"b":2"#);
    for (limits, expected) in [
        (limits(10, 9, 99, 9), "fatal json.too-large"),
        (limits(999, 2, 99, 9), "fatal json.too-deep"),
        (limits(999, 9, 2, 9), "fatal json.too-many-values"),
        (limits(999, 9, 99, 1), "error structure.findings-limit"),
    ] {
        assert_eq!(
            found_with(&text, &limits).last().map(String::as_str),
            Some(expected)
        );
        seen.extend(
            structure(Definitions::r4(), text.as_bytes(), &limits)
                .findings
                .iter()
                .map(|it| it.id.to_owned()),
        );
    }
    let outcome = structure(Definitions::r4(), b"\"\xff\"", &Limits::default());
    seen.extend(outcome.findings.iter().map(|it| it.id.to_owned()));
    // No element of R4 core has a minimum above 1 that a list could miss; profiles will.
    seen.insert(id::TOO_FEW.to_owned());
    let all: BTreeSet<String> = id::ALL
        .iter()
        .filter(|it| is_structural(it))
        .map(|it| (*it).to_owned())
        .collect();
    assert_eq!(seen, all);
}

#[test]
fn findings_have_positions_and_quote_no_text() {
    let text = "{\n  \"resourceType\": \"Patient\",\n  \"gender\": \"Jane Roe born 1990\",\n  \"Jane Roe\": 1\n}";
    let outcome = structure(Definitions::r4(), text.as_bytes(), &Limits::default());
    let places: Vec<_> = outcome
        .findings
        .iter()
        .map(|it| (it.id, it.position.unwrap()))
        .collect();
    assert_eq!(
        places,
        [
            (
                id::BINDING_REQUIRED,
                Position {
                    line: 3,
                    column: 13
                }
            ),
            (
                id::UNKNOWN_ELEMENT,
                Position {
                    line: 4,
                    column: 15
                }
            )
        ]
    );
    let shown = to_operation_outcome(&outcome.findings).to_string();
    assert!(
        !shown.contains("Jane") && !shown.contains("1990"),
        "{shown}"
    );
    assert!(
        outcome
            .findings
            .iter()
            .all(|it| it.rests_on == RestsOn::InputOnly)
    );
}

/// Inputs that would make a careless check go over the same text again and again.
#[test]
fn large_inputs_are_checked_in_one_go() {
    let many = 20_000;
    let gender = patient(&vec![r#""gender":"male""#; many].join(","));
    assert_eq!(found(&gender).len(), Limits::default().findings_max);
    let contained: Vec<_> = (0..many)
        .map(|index| format!(r#"{{"resourceType":"Device","id":"d{index}"}}"#))
        .collect();
    let focus: Vec<_> = (0..many)
        .map(|index| format!(r##"{{"reference":"#d{index}"}}"##))
        .collect();
    let text = observation(&format!(
        r#","contained":[{}],"focus":[{}]"#,
        contained.join(","),
        focus.join(",")
    ));
    assert_eq!(found(&text), Vec::<String>::new());
    let unknown: Vec<_> = (0..many).map(|index| format!(r#""k{index}":1"#)).collect();
    assert_eq!(
        found(&patient(&unknown.join(","))).len(),
        Limits::default().findings_max + 1
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let limits = Limits {
        json: JsonLimits {
            depth_max: usize::MAX,
            ..JsonLimits::default()
        },
        ..Limits::default()
    };
    assert_eq!(found_with(&deep, &limits), ["fatal json.too-deep"]);
}

#[test]
fn outcomes_are_valid_operation_outcomes_and_repeat_exactly() {
    for (wrong, ..) in cases() {
        let run = || structure(Definitions::r4(), wrong.as_bytes(), &Limits::default()).findings;
        assert_eq!(run(), run());
        let outcome = to_operation_outcome(&run()).to_string();
        assert_eq!(found(&outcome), Vec::<String>::new(), "{outcome}");
    }
    assert_eq!(
        found(&to_operation_outcome(&[]).to_string()),
        Vec::<String>::new()
    );
}

#[test]
fn an_outcome_says_who_checked_against_what_and_what_did_not_run() {
    let text = patient(r#""gender":"x""#);
    let outcome = structure(Definitions::r4(), text.as_bytes(), &Limits::default());
    assert!(!outcome.is_ok());
    assert_eq!(
        outcome.counts(),
        FindingCounts {
            error: 1,
            ..FindingCounts::default()
        }
    );
    assert_eq!(outcome.resource_type(), Some("Patient"));
    assert_eq!(
        (
            outcome.package.name.as_str(),
            outcome.package.version.as_str()
        ),
        ("hl7.fhir.r4.core", "4.0.1")
    );
    assert_eq!(
        outcome.stages.map(|it| it.state),
        [StageState::Failed, StageState::NotRun, StageState::NotRun]
    );
    let text = patient(r#""modifierExtension":[{"url":"http://x.example/e","valueCode":"a"}]"#);
    let outcome = structure(Definitions::r4(), text.as_bytes(), &Limits::default());
    assert!(outcome.is_ok(), "a warning is no error");
    assert!(!structure(Definitions::r4(), b"", &Limits::default()).is_ok());
}
