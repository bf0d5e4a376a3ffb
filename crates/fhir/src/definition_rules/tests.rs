//! Tests of the rules: each broken once, beside what is right.

use super::*;
use crate::json::JsonLimits;

fn found(text: &str) -> Vec<String> {
    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    let origin = r#"{"resourceType":"SearchParameter","url":"http://e.org/s","type":"token","base":["Patient","Group"]}"#;
    catalogue.add_resource("s", origin.as_bytes()).unwrap();
    let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
    check(Definitions::r4(), &Arc::new(catalogue), &document, 100)
        .iter()
        .map(|it| format!("{} {}", it.id, it.expression))
        .collect()
}

#[test]
fn search_parameters_agree_with_their_origin() {
    let parameter = |rest: &str| {
        format!(r#"{{"resourceType":"SearchParameter","derivedFrom":"http://e.org/s",{rest}}}"#)
    };
    let part = r#"{"definition":"http://e.org/a","expression":"x"}"#;
    for (wrong, right, expected) in [
        (
            parameter(r#""type":"date","base":["Patient"]"#),
            parameter(r#""type":"token","base":["Patient"]"#),
            "definition.search-parameter SearchParameter.type",
        ),
        (
            parameter(r#""type":"token","base":["Patient","Device"]"#),
            parameter(r#""type":"token","base":["Group"]"#),
            "definition.search-parameter SearchParameter.base[1]",
        ),
        (
            format!(
                r#"{{"resourceType":"SearchParameter","type":"composite","component":[{part}]}}"#
            ),
            format!(
                r#"{{"resourceType":"SearchParameter","type":"composite","component":[{part},{part}]}}"#
            ),
            "definition.search-parameter SearchParameter",
        ),
    ] {
        assert_eq!(found(&wrong), [expected], "{wrong}");
        assert_eq!(found(&right), Vec::<String>::new(), "{right}");
    }
    for (wrong, right) in [
        ("Patient.nickname", "Patient.name.family"),
        ("Patient.name.", "Patient.name"),
        ("Group.code | Patient.names", "Group.code | Patient.name"),
        ("nickname", "code | name"),
        (
            "(Patient.name | Patient.link.others)",
            "(Patient.name | Patient.link.other)",
        ),
        (
            "Patient.deceased.exists() and Patient.decease != false",
            "Patient.deceased.exists() and Patient.deceased != false",
        ),
    ] {
        let with = |path: &str| {
            parameter(&format!(
                r#""type":"token","base":["Patient","Group"],"expression":"{path}""#
            ))
        };
        assert_eq!(
            found(&with(wrong)),
            ["definition.search-parameter SearchParameter.expression"],
            "{wrong}"
        );
        assert_eq!(found(&with(right)), Vec::<String>::new(), "{right}");
    }
    // Of a resource that it is not for, an expression may say anything.
    let other = r#""type":"token","base":["Patient"],"expression":"Device.nickname""#;
    assert_eq!(found(&parameter(other)), Vec::<String>::new());
    let statement = |kind: &str| {
        format!(
            r#"{{"resourceType":"CapabilityStatement","rest":[{{"mode":"server","resource":[{{"type":"Patient","searchParam":[{{"name":"x","type":"string"}},{{"name":"s","definition":"http://e.org/s","type":"{kind}"}}]}}]}}]}}"#
        )
    };
    let of_core = |kind: &str| {
        let own = format!(r#""type":"{kind}","base":["Device"]"#);
        parameter(&own).replace(
            "e.org/s",
            "hl7.org/fhir/SearchParameter/Device-status|4.0.1",
        )
    };
    assert_eq!(found(&of_core("token")), Vec::<String>::new());
    assert_eq!(
        found(&of_core("date")),
        ["definition.search-parameter SearchParameter.type"]
    );
    assert_eq!(found(&statement("token")), Vec::<String>::new());
    assert_eq!(
        found(&statement("date")),
        ["definition.search-parameter CapabilityStatement.rest[0].resource[0].searchParam[1]"]
    );
}

#[test]
fn profiles_narrow_what_they_are_derived_from() {
    let profile = |base: &str, elements: &str| {
        format!(
            r#"{{"resourceType":"StructureDefinition","url":"http://e.org/it","type":"Extension","kind":"complex-type","baseDefinition":"{base}","derivation":"constraint","differential":{{"element":[{elements}]}}}}"#
        )
    };
    let extension = "http://hl7.org/fhir/StructureDefinition/Extension";
    let race = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace";
    let url =
        |it: &str| format!(r#"{{"id":"Extension.url","path":"Extension.url","fixedUri":"{it}"}}"#);
    for (wrong, right) in [
        // The base fixes its own URL, so nothing can be derived from it with another one.
        (
            profile(race, &url("http://e.org/it")),
            profile(race, &url(race)),
        ),
        (
            profile(
                extension,
                r#"{"id":"Extension.url","path":"Extension.url","min":0}"#,
            ),
            profile(
                extension,
                r#"{"id":"Extension.url","path":"Extension.url","min":1}"#,
            ),
        ),
        (
            profile(
                extension,
                r#"{"id":"Extension.value[x]","path":"Extension.value[x]","max":"*"}"#,
            ),
            profile(
                extension,
                r#"{"id":"Extension.value[x]","path":"Extension.value[x]","max":"0"}"#,
            ),
        ),
        (
            profile(
                extension,
                r#"{"id":"Extension.value[x]","path":"Extension.value[x]","type":[{"code":"code"}],"fixedString":"a"}"#,
            ),
            profile(
                extension,
                r#"{"id":"Extension.value[x]","path":"Extension.value[x]","type":[{"code":"code"}],"fixedCode":"a"}"#,
            ),
        ),
        (
            profile(
                race,
                r#"{"id":"Extension.value[x]","path":"Extension.value[x]","type":[{"code":"string"}]}"#,
            ),
            profile(
                race,
                r#"{"id":"Extension.value[x]","path":"Extension.value[x]","type":[{"code":"Address"}]}"#,
            ),
        ),
    ] {
        assert_eq!(
            found(&wrong),
            ["definition.contradicts-base StructureDefinition.differential.element[0]"],
            "{wrong}"
        );
        assert_eq!(found(&right), Vec::<String>::new(), "{right}");
    }
}

#[test]
fn profiles_constrain_elements_that_exist() {
    let profile = |derivation: &str, path: &str| {
        format!(
            r#"{{"resourceType":"StructureDefinition","type":"Observation","derivation":"{derivation}","differential":{{"element":[{{"path":"Observation"}},{{"path":"{path}"}}]}}}}"#
        )
    };
    for path in [
        "Observation.code",
        "Observation.code.coding.code",
        "Observation.value[x]",
        "Observation.valueQuantity.value",
        "Observation.value[x].coding",
        "Observation.component.referenceRange.low",
        "Observation.status.extension.value[x]",
        "Observation.contained.anything",
        "Observation.extension.url",
    ] {
        assert_eq!(
            found(&profile("constraint", path)),
            Vec::<String>::new(),
            "{path}"
        );
    }
    for path in [
        "Observation.valueBla",
        "Observation...unit",
        "Observation.code.cod",
        "Patient.name",
    ] {
        assert_eq!(
            found(&profile("constraint", path)),
            ["definition.path StructureDefinition.differential.element[1].path"],
            "{path}"
        );
        assert_eq!(
            found(&profile("specialization", path)),
            Vec::<String>::new()
        );
    }
}

#[test]
fn properties_of_codes_are_of_the_stated_type() {
    let system = |property: &str| {
        format!(
            r#"{{"resourceType":"CodeSystem","property":[{{"code":"p","type":"dateTime"}}],"concept":[{{"code":"a","property":[{{"code":"other","valueString":"x"}}],"concept":[{{"code":"b","property":[{property}]}}]}}]}}"#
        )
    };
    assert_eq!(
        found(&system(r#"{"code":"p","valueString":"2020"}"#)),
        ["definition.code-property CodeSystem.concept[0].concept[0].property[0].valueString"]
    );
    assert_eq!(
        found(&system(r#"{"code":"p","valueDateTime":"2020"}"#)),
        Vec::<String>::new()
    );
}

/// What a resource says never becomes part of a path.
#[test]
fn a_name_of_a_member_is_no_part_of_the_path() {
    let system = |name: &str| {
        format!(
            r#"{{"resourceType":"CodeSystem","property":[{{"code":"p","type":"string"}}],"concept":[{{"code":"c","property":[{{"code":"p","{name}":1}}]}}]}}"#
        )
    };
    let path = "definition.code-property CodeSystem.concept[0].property[0].value";
    assert_eq!(found(&system("valueInteger")), [format!("{path}Integer")]);
    let named = found(&system("valueJane Doe 555-1234"));
    assert!(!named.concat().contains("Jane"), "{named:?}");
    assert_eq!(found(&system("valueString")), Vec::<String>::new());
}

#[test]
fn profiles_without_end_are_not_all_compared_and_that_is_said() {
    let bundle = |count: usize| {
        let entries: Vec<String> = (0..count)
            .map(|at| {
                format!(
                    r#"{{"resource":{{"resourceType":"StructureDefinition","url":"http://e.org/{at}","type":"Patient","derivation":"constraint","baseDefinition":"http://hl7.org/fhir/StructureDefinition/none"}}}}"#
                )
            })
            .collect();
        format!(
            r#"{{"resourceType":"Bundle","entry":[{}]}}"#,
            entries.join(",")
        )
    };
    assert_eq!(found(&bundle(COMPARED_MAX)), Vec::<String>::new());
    let found = found(&bundle(COMPARED_MAX + 2));
    assert_eq!(
        found,
        [format!(
            "definition.not-checked Bundle.entry[{COMPARED_MAX}].resource"
        )]
    );
}
