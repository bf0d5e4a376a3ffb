//! Invariants of R4: what they say, and that the short ways say what the evaluator says.

use super::{OBSERVATION, PATIENT, document};
use crate::fhirpath::*;

const DOM_3: &str = "contained.where((('#'+id in (%resource.descendants().reference | %resource.descendants().as(canonical) | %resource.descendants().as(uri) | %resource.descendants().as(url))) or descendants().where(reference = '#').exists() or descendants().where(as(canonical) = '#').exists() or descendants().where(as(canonical) = '#').exists()).not()).trace('unmatched', id).empty()";

const KNOWN: [&str; 5] = [
    DOM_3,
    "hasValue() or (children().count() > id.count())",
    "extension.exists() != value.exists()",
    "contained.contained.empty()",
    "text.`div`.exists()",
];

/// Every element of a resource, by the engine's own walk.
fn elements<'a>(root: ElementItem<'a>) -> Vec<Item<'a>> {
    static ALL: std::sync::LazyLock<Expression> =
        std::sync::LazyLock::new(|| Expression::parse("$this | descendants()").unwrap());
    let environment = Environment::of(Definitions::r4(), root);
    ALL.evaluate(&environment, Item::Element(root))
        .unwrap()
        .into_vec()
}

#[test]
fn short_ways_say_what_the_evaluator_says() {
    let odd = r#"{"resourceType": "Patient", "id": "x", "text": {"status": "generated", "_div": {"id": "d"}},
        "contained": [{"resourceType": "Patient", "contained": []}, {"resourceType": "Patient", "contained": [null]}],
        "extension": [{"url": "a"}, {"id": "only"}, {"url": "b", "extension": [], "valueString": "x"},
            {"url": "c", "extension": [{"url": "d", "_valueString": {"extension": [{"url": "e", "valueCode": "x"}]}}], "valueCode": "x"},
            {"url": "f", "valueNonsense": 1}, {"url": "g", "value": 1}, {"url": "h", "extension": [null]}, {}],
        "name": [{"id": "only"}, {}, {"_family": {"id": "x"}}, {"given": [null], "_given": [{"id": "y"}]}, {"nonsense": 1}],
        "_gender": {"id": "z"}, "active": null, "telecom": [null]}"#;
    let nested = r#"{"resourceType": "Patient", "contained": [{"resourceType": "Patient", "contained": [{"resourceType": "Patient"}]}]}"#;
    let referring = [
        r##"{"resourceType": "Patient", "contained": [{"resourceType": "Patient", "id": "a"}, {"resourceType": "Patient"}], "link": [{"other": {"reference": "#a"}}]}"##,
        r##"{"resourceType": "Patient", "contained": [{"resourceType": "Patient", "id": "a"}], "link": [{"other": {"display": "#a"}}]}"##,
        r##"{"resourceType": "Patient", "contained": [{"resourceType": "Patient", "id": "a", "link": [{"other": {"reference": "#"}}]}]}"##,
        r##"{"resourceType": "Patient", "contained": [{"resourceType": "Patient", "id": "a"}, {"resourceType": "Patient", "_id": {"id": "x"}}]}"##,
        r##"{"resourceType": "QuestionnaireResponse", "contained": [{"resourceType": "Questionnaire", "id": "q"}], "questionnaire": "#q"}"##,
        r##"{"resourceType": "Patient", "implicitRules": "#a", "contained": [{"resourceType": "Patient", "id": "a"}, 1]}"##,
    ];
    let mut answers = 0;
    for text in [PATIENT, OBSERVATION, odd, nested]
        .into_iter()
        .chain(referring)
    {
        let document = document(text);
        let root = ElementItem::resource(Definitions::r4(), document.root()).unwrap();
        let environment = Environment::of(Definitions::r4(), root);
        for invariant in KNOWN {
            let short = Expression::invariant(invariant).unwrap();
            assert!(short.known.is_some(), "{invariant}");
            let general = Expression::parse(invariant).unwrap();
            for item in elements(root) {
                let one = short.truth(&environment, item.clone());
                let two = general.truth(&environment, item.clone());
                assert_eq!(one, two, "{invariant} on {item:?}");
                answers += 1;
            }
        }
    }
    assert!(answers > 300);
}

fn holds(resource: &str, focus: &str, invariant: &str) -> bool {
    let document = document(resource);
    let root = ElementItem::resource(Definitions::r4(), document.root()).unwrap();
    let environment = Environment::of(Definitions::r4(), root);
    let focus = Expression::parse(focus).unwrap();
    let invariant = Expression::invariant(invariant).unwrap();
    let items = focus.evaluate(&environment, Item::Element(root)).unwrap();
    assert!(!items.is_empty(), "the focus is there");
    items
        .iter()
        .all(|item| invariant.holds(&environment, item.clone()).unwrap())
}

/// An invariant, a focus, a resource that keeps it and the nearest that breaks it.
#[test]
fn invariants_accept_and_refuse() {
    let dom_3 = DOM_3;
    let ref_1 = "reference.startsWith('#').not() or (reference.substring(1).trace('url') in %rootResource.contained.id.trace('ids'))";
    let obs_7 = "value.empty() or component.code.where(coding.intersect(%resource.code.coding).exists()).empty()";
    for (invariant, focus, right, wrong) in [
        (
            dom_3,
            "$this",
            r##"{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"a"}],"managingOrganization":{"reference":"#a"}}"##,
            r##"{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"a"}],"managingOrganization":{"reference":"#b"}}"##,
        ),
        (
            dom_3,
            "$this",
            r##"{"resourceType":"QuestionnaireResponse","contained":[{"resourceType":"Questionnaire","id":"a"}],"questionnaire":"#a"}"##,
            r##"{"resourceType":"QuestionnaireResponse","contained":[{"resourceType":"Questionnaire","id":"a"}],"language":"#a"}"##,
        ),
        (
            ref_1,
            "managingOrganization",
            r##"{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"a"}],"managingOrganization":{"reference":"#a"}}"##,
            r##"{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"a"}],"managingOrganization":{"reference":"#b"}}"##,
        ),
        (
            ref_1,
            "managingOrganization",
            r#"{"resourceType":"Patient","managingOrganization":{"display":"x"}}"#,
            r##"{"resourceType":"Patient","managingOrganization":{"reference":"#b"}}"##,
        ),
        (
            obs_7,
            "$this",
            r#"{"resourceType":"Observation","valueString":"x","code":{"coding":[{"code":"a"}]},"component":[{"code":{"coding":[{"code":"b"}]}}]}"#,
            r#"{"resourceType":"Observation","valueString":"x","code":{"coding":[{"code":"a"}]},"component":[{"code":{"coding":[{"code":"a"}]}}]}"#,
        ),
        (
            "start.hasValue().not() or end.hasValue().not() or (start <= end)",
            "name.period",
            r#"{"resourceType":"Patient","name":[{"period":{"start":"2020-05","end":"2020"}}]}"#,
            r#"{"resourceType":"Patient","name":[{"period":{"start":"2020-05","end":"2020-04"}}]}"#,
        ),
        (
            "code.empty() or system.exists()",
            "value",
            r#"{"resourceType":"Observation","valueQuantity":{"value":1,"code":"g","system":"http://unitsofmeasure.org"}}"#,
            r#"{"resourceType":"Observation","valueQuantity":{"value":1,"code":"g"}}"#,
        ),
        (
            "(component.empty() and hasMember.empty()) implies (dataAbsentReason.exists() or value.exists())",
            "$this",
            r#"{"resourceType":"Observation","component":[{"valueString":"x"}]}"#,
            r#"{"resourceType":"Observation","status":"final"}"#,
        ),
        (
            "name.matches('[A-Z]([A-Za-z0-9_]){0,254}')",
            "$this",
            r#"{"resourceType":"ValueSet","name":"Codes"}"#,
            r#"{"resourceType":"ValueSet","name":"codes"}"#,
        ),
        (
            "operator = 'exists' implies (answer is Boolean)",
            "item.enableWhen",
            r#"{"resourceType":"Questionnaire","item":[{"enableWhen":[{"operator":"exists","answerBoolean":true}]}]}"#,
            r#"{"resourceType":"Questionnaire","item":[{"enableWhen":[{"operator":"exists","answerString":"true"}]}]}"#,
        ),
        (
            "extension.where(url = 'ombCategory').value.where(code in 'ASKU'|'UNK').exists() implies extension.where(url = 'ombCategory').count() = 1",
            "extension",
            r#"{"resourceType":"Patient","extension":[{"url":"r","extension":[{"url":"ombCategory","valueCoding":{"code":"UNK"}}]}]}"#,
            r#"{"resourceType":"Patient","extension":[{"url":"r","extension":[{"url":"ombCategory","valueCoding":{"code":"UNK"}},{"url":"ombCategory","valueCoding":{"code":"1"}}]}]}"#,
        ),
        (
            "(QuestionnaireResponse|repeat(answer|item)).select(item.where(answer.value.exists()).linkId.isDistinct()).allTrue()",
            "$this",
            r#"{"resourceType":"QuestionnaireResponse","item":[{"linkId":"1","answer":[{"valueInteger":1}]},{"linkId":"2","answer":[{"valueInteger":1}]}]}"#,
            r#"{"resourceType":"QuestionnaireResponse","item":[{"linkId":"1","answer":[{"valueInteger":1}]},{"linkId":"1","answer":[{"valueInteger":1}]}]}"#,
        ),
    ] {
        assert!(holds(right, focus, invariant), "{invariant}\n{right}");
        assert!(!holds(wrong, focus, invariant), "{invariant}\n{wrong}");
    }
}
