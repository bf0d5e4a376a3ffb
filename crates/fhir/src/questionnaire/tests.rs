//! Tests of responses against questionnaires: every rule broken once, beside what keeps it.

use super::*;
use crate::json::JsonLimits;

struct FewTerms;

impl Terms for FewTerms {
    fn is_member(&self, value_set: &str, system: Option<&str>, code: &str) -> Option<bool> {
        (value_set == "http://e.org/colours")
            .then(|| system.is_none_or(|it| it == "http://e.org/c") && code == "red")
    }

    fn compare(&self, left: (&str, &str), right: (&str, &str)) -> Option<Ordering> {
        let grams = |(number, unit): (&str, &str)| -> Option<f64> {
            let factor = match unit {
                "g" => 1.0,
                "kg" => 1000.0,
                _ => return None,
            };
            Some(number.parse::<f64>().ok()? * factor)
        };
        grams(left)?.partial_cmp(&grams(right)?)
    }
}

/// Findings on a response with these items to a form with those, by status.
fn found_in(status: &str, form: &str, items: &str) -> Vec<String> {
    let questionnaire = format!(
        r#"{{"resourceType":"Questionnaire","url":"http://e.org/q","status":"active","item":[{form}]}}"#
    );
    let mut catalogue = Catalogue::new();
    catalogue
        .add_resource("q", questionnaire.as_bytes())
        .unwrap();
    let text = format!(
        r#"{{"resourceType":"QuestionnaireResponse","questionnaire":"http://e.org/q","status":"{status}","item":[{items}]}}"#
    );
    found_with(catalogue, &text)
}

fn found_with(catalogue: Catalogue, text: &str) -> Vec<String> {
    let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
    let forms = Forms::new(Arc::new(catalogue));
    check(Definitions::r4(), &document, &forms, &FewTerms, 100)
        .iter()
        .map(|it| {
            let rest = it
                .expression
                .strip_prefix("QuestionnaireResponse.")
                .unwrap_or(&it.expression);
            format!("{} {} {rest}", it.severity.code(), it.id)
        })
        .collect()
}

fn found(form: &str, items: &str) -> Vec<String> {
    found_in("completed", form, items)
}

/// A form item `a` with these members.
fn asks(members: &str) -> String {
    format!(r#"{{"linkId":"a",{members}}}"#)
}

/// A response item with one value.
fn says(link_id: &str, value: &str) -> String {
    format!(r#"{{"linkId":"{link_id}","answer":[{{{value}}}]}}"#)
}

fn extension(url: &str, value: &str) -> String {
    format!(r#""extension":[{{"url":"http://hl7.org/fhir/StructureDefinition/{url}",{value}}}]"#)
}

#[test]
fn answers_are_of_the_type_that_is_asked_for() {
    for (kind, right, wrong) in [
        (
            "boolean",
            r#""valueBoolean":true"#,
            r#""valueString":"true""#,
        ),
        ("decimal", r#""valueDecimal":1.5"#, r#""valueInteger":1"#),
        ("integer", r#""valueInteger":1"#, r#""valueDecimal":1.0"#),
        ("date", r#""valueDate":"2026""#, r#""valueDateTime":"2026""#),
        (
            "dateTime",
            r#""valueDateTime":"2026""#,
            r#""valueDate":"2026""#,
        ),
        (
            "time",
            r#""valueTime":"10:00:00""#,
            r#""valueString":"10:00:00""#,
        ),
        ("string", r#""valueString":"x""#, r#""valueUri":"x""#),
        (
            "text",
            r#""valueString":"x""#,
            r#""valueCoding":{"code":"x"}"#,
        ),
        ("url", r#""valueUri":"x""#, r#""valueString":"x""#),
        (
            "choice",
            r#""valueCoding":{"code":"x"}"#,
            r#""valueBoolean":true"#,
        ),
        (
            "open-choice",
            r#""valueString":"x""#,
            r#""valueQuantity":{"value":1}"#,
        ),
        (
            "attachment",
            r#""valueAttachment":{"title":"x"}"#,
            r#""valueString":"x""#,
        ),
        (
            "reference",
            r#""valueReference":{"reference":"Patient/1"}"#,
            r#""valueUri":"Patient/1""#,
        ),
        (
            "quantity",
            r#""valueQuantity":{"value":1}"#,
            r#""valueDecimal":1"#,
        ),
    ] {
        let form = asks(&format!(r#""type":"{kind}""#));
        assert_eq!(
            found(&form, &says("a", right)),
            Vec::<String>::new(),
            "{kind}"
        );
        let name = wrong.split('"').nth(1).unwrap();
        assert_eq!(
            found(&form, &says("a", wrong)),
            [format!(
                "error questionnaire.answer-type item[0].answer[0].{name}"
            )],
            "{kind}"
        );
    }
}

#[test]
fn every_rule_is_kept_by_one_and_broken_by_the_other() {
    let string = asks(r#""type":"string""#);
    let x = r#""valueString":"x""#;
    let group = r#"{"linkId":"g","type":"group","required":true,"item":[{"linkId":"a","type":"string","item":[{"linkId":"b","type":"string"}]}]}"#;
    let two = r#"{"linkId":"a","type":"string"},{"linkId":"b","type":"string"}"#;
    let options = asks(
        r#""type":"choice","repeats":true,"answerOption":[{"valueCoding":{"system":"http://e.org/c","code":"red"}},{"valueCoding":{"system":"http://e.org/c","code":"none"},"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/questionnaire-optionExclusive","valueBoolean":true}]}]"#,
    );
    let red = r#""valueCoding":{"system":"http://e.org/c","code":"red"}"#;
    let none = r#""valueCoding":{"system":"http://e.org/c","code":"none"}"#;
    let blue = r#""valueCoding":{"system":"http://e.org/c","code":"blue"}"#;
    let with = |kind: &str, url: &str, value: &str| {
        asks(&format!(r#""type":"{kind}",{}"#, extension(url, value)))
    };
    let kilograms = |value: &str| {
        format!(
            r#""valueQuantity":{{"value":{value},"system":"http://unitsofmeasure.org","code":"kg"}}"#
        )
    };
    let sdc = r#""type":"quantity","extension":[{"url":"http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-minQuantity","valueQuantity":{"value":500,"system":"http://unitsofmeasure.org","code":"g"}}]"#;
    let many = |values: &[&str]| {
        let answers: Vec<String> = values.iter().map(|it| format!("{{{it}}}")).collect();
        format!(r#"{{"linkId":"a","answer":[{}]}}"#, answers.join(","))
    };
    for (form, wrong, right, expected) in [
        (
            string.clone(),
            says("z", x),
            says("a", x),
            "error questionnaire.link-id item[0]",
        ),
        (
            group.to_owned(),
            says("a", x),
            format!(r#"{{"linkId":"g","item":[{}]}}"#, says("a", x)),
            "error questionnaire.place item[0]|error questionnaire.required ",
        ),
        (
            group.to_owned(),
            format!(
                r#"{{"linkId":"g","item":[{{"linkId":"a","item":[{}]}}]}}"#,
                says("b", x)
            ),
            format!(
                r#"{{"linkId":"g","item":[{{"linkId":"a","answer":[{{{x},"item":[{}]}}]}}]}}"#,
                says("b", x)
            ),
            "error questionnaire.place item[0].item[0].item",
        ),
        (
            group.to_owned(),
            r#"{"linkId":"g"}"#.to_owned(),
            format!(r#"{{"linkId":"g","item":[{}]}}"#, says("a", x)),
            "error questionnaire.required item[0]",
        ),
        (
            two.to_owned(),
            format!("{},{}", says("b", x), says("a", x)),
            format!("{},{}", says("a", x), says("b", x)),
            "error questionnaire.place item[1]",
        ),
        (
            asks(r#""type":"string","required":true"#),
            r#"{"linkId":"a"}"#.to_owned(),
            says("a", x),
            "error questionnaire.required item[0]",
        ),
        (
            string.clone(),
            many(&[x, x]),
            many(&[x]),
            "error questionnaire.too-many item[0]",
        ),
        (
            string.clone(),
            format!("{},{}", says("a", x), r#"{"linkId":"a"}"#),
            says("a", x),
            "error questionnaire.too-many item[1]",
        ),
        (
            asks(r#""type":"group""#),
            r#"{"linkId":"a"},{"linkId":"a"}"#.to_owned(),
            r#"{"linkId":"a"}"#.to_owned(),
            "error questionnaire.too-many item[0]",
        ),
        (
            asks(r#""type":"display""#),
            says("a", x),
            r#"{"linkId":"a"}"#.to_owned(),
            "error questionnaire.answer-type item[0].answer[0]",
        ),
        (
            asks(&format!(
                r#""type":"string","repeats":true,{}"#,
                extension("questionnaire-maxOccurs", r#""valueInteger":2"#)
            )),
            many(&[x, x, x]),
            many(&[x, x]),
            "error questionnaire.too-many item[0]",
        ),
        (
            asks(&format!(
                r#""type":"string","repeats":true,{}"#,
                extension("questionnaire-minOccurs", r#""valueInteger":2"#)
            )),
            many(&[x]),
            many(&[x, x]),
            "error questionnaire.required item[0]",
        ),
        // Options and value sets.
        (
            options.clone(),
            says("a", blue),
            says("a", red),
            "error questionnaire.answer-option item[0].answer[0].valueCoding",
        ),
        (
            options,
            many(&[red, none]),
            many(&[none]),
            "error questionnaire.answer-option item[0].answer[1].valueCoding",
        ),
        (
            asks(r#""type":"open-choice","answerValueSet":"http://e.org/colours""#),
            says("a", blue),
            says("a", r#""valueString":"mauve""#),
            "error questionnaire.answer-option item[0].answer[0].valueCoding",
        ),
        (
            asks(r#""type":"string","answerValueSet":"http://e.org/colours""#),
            says("a", x),
            says("a", r#""valueString":"red""#),
            "error questionnaire.answer-option item[0].answer[0].valueString",
        ),
        (
            asks(r#""type":"date","answerOption":[{"valueDate":"2026-01-01"}]"#),
            says("a", r#""valueDate":"2026-01-02""#),
            says("a", r#""valueDate":"2026-01-01""#),
            "error questionnaire.answer-option item[0].answer[0].valueDate",
        ),
        // Bounds.
        (
            with("integer", "minValue", r#""valueInteger":5"#),
            says("a", r#""valueInteger":4"#),
            says("a", r#""valueInteger":5"#),
            "error questionnaire.answer-value item[0].answer[0].valueInteger",
        ),
        (
            with("decimal", "maxValue", r#""valueDecimal":5.5"#),
            says("a", r#""valueDecimal":5.51"#),
            says("a", r#""valueDecimal":5.50"#),
            "error questionnaire.answer-value item[0].answer[0].valueDecimal",
        ),
        (
            with("date", "maxValue", r#""valueDate":"2026-02-01""#),
            says("a", r#""valueDate":"2026-02-02""#),
            says("a", r#""valueDate":"2026-01-31""#),
            "error questionnaire.answer-value item[0].answer[0].valueDate",
        ),
        (
            asks(sdc),
            says("a", &kilograms("0.4")),
            says("a", &kilograms("0.5")),
            "error questionnaire.answer-value item[0].answer[0].valueQuantity",
        ),
        (
            asks(sdc),
            says(
                "a",
                r#""valueQuantity":{"value":10,"system":"http://unitsofmeasure.org","code":"m"}"#,
            ),
            says("a", &kilograms("10")),
            "error questionnaire.answer-value item[0].answer[0].valueQuantity",
        ),
        (
            asks(r#""type":"text","maxLength":2"#),
            says("a", r#""valueString":"abc""#),
            says("a", r#""valueString":"äö""#),
            "error questionnaire.answer-value item[0].answer[0].valueString",
        ),
        (
            with("string", "minLength", r#""valueInteger":2"#),
            says("a", x),
            says("a", r#""valueString":"xx""#),
            "error questionnaire.answer-value item[0].answer[0].valueString",
        ),
        (
            with("string", "regex", r#""valueString":"[a-z]+|[0-9]+""#),
            says("a", r#""valueString":"a1""#),
            says("a", r#""valueString":"11""#),
            "error questionnaire.answer-value item[0].answer[0].valueString",
        ),
        (
            string.clone(),
            says("a", r#""valueString":"a\nb""#),
            says("a", r#""valueString":"a\tb""#),
            "warning questionnaire.answer-value item[0].answer[0].valueString",
        ),
        (
            with("decimal", "maxDecimalPlaces", r#""valueInteger":2"#),
            says("a", r#""valueDecimal":1.230"#),
            says("a", r#""valueDecimal":1.23"#),
            "error questionnaire.answer-value item[0].answer[0].valueDecimal",
        ),
        (
            with("attachment", "mimeType", r#""valueCode":"image/png""#),
            says("a", r#""valueAttachment":{"contentType":"image/gif"}"#),
            says("a", r#""valueAttachment":{"contentType":"image/png"}"#),
            "error questionnaire.answer-value item[0].answer[0].valueAttachment",
        ),
        (
            with("attachment", "maxSize", r#""valueDecimal":3"#),
            says("a", r#""valueAttachment":{"data":"QUJDRA=="}"#),
            says("a", r#""valueAttachment":{"data":"QUJD"}"#),
            "error questionnaire.answer-value item[0].answer[0].valueAttachment",
        ),
        (
            with(
                "reference",
                "questionnaire-referenceResource",
                r#""valueCode":"Patient""#,
            ),
            says("a", r#""valueReference":{"reference":"Group/1"}"#),
            says(
                "a",
                r#""valueReference":{"reference":"http://e.org/Patient/1"}"#,
            ),
            "error questionnaire.answer-value item[0].answer[0].valueReference",
        ),
        (
            asks(r#""type":"reference""#),
            says(
                "a",
                r#""valueReference":{"reference":"http://e.org/Chicken/1"}"#,
            ),
            says("a", r#""valueReference":{"display":"x"}"#),
            "error questionnaire.answer-value item[0].answer[0].valueReference",
        ),
        (
            with(
                "quantity",
                "questionnaire-unitOption",
                r#""valueCoding":{"system":"http://unitsofmeasure.org","code":"kg"}"#,
            ),
            says(
                "a",
                r#""valueQuantity":{"value":1,"system":"http://unitsofmeasure.org","code":"g"}"#,
            ),
            says("a", &kilograms("1")),
            "error questionnaire.answer-value item[0].answer[0].valueQuantity",
        ),
    ] {
        let expected: Vec<&str> = expected.split('|').collect();
        let expected: Vec<String> = expected
            .iter()
            .map(|it| match it.strip_suffix("required ") {
                Some(head) => format!("{head}required QuestionnaireResponse"),
                None => (*it).to_owned(),
            })
            .collect();
        assert_eq!(found(&form, &wrong), expected, "{form} {wrong}");
        assert_eq!(found(&form, &right), Vec::<String>::new(), "{form} {right}");
    }
}

#[test]
fn conditions_enable_and_disable() {
    let condition = |operator: &str, answer: &str| {
        format!(
            r#"{{"linkId":"n","type":"integer","repeats":true}},{{"linkId":"a","type":"string","required":true,"enableWhen":[{{"question":"n","operator":"{operator}",{answer}}}]}}"#
        )
    };
    let numbers = |values: &[i32]| {
        let answers: Vec<String> = values
            .iter()
            .map(|it| format!(r#"{{"valueInteger":{it}}}"#))
            .collect();
        format!(r#"{{"linkId":"n","answer":[{}]}}"#, answers.join(","))
    };
    let a = says("a", r#""valueString":"x""#);
    let five = r#""answerInteger":5"#;
    for (operator, answer, values, enabled) in [
        ("exists", r#""answerBoolean":true"#, vec![1], Some(true)),
        ("exists", r#""answerBoolean":false"#, vec![1], Some(false)),
        ("=", five, vec![5], Some(true)),
        ("=", five, vec![4, 5], Some(true)),
        ("=", five, vec![4], Some(false)),
        ("!=", five, vec![4], Some(true)),
        ("!=", five, vec![5], Some(false)),
        ("!=", five, vec![4, 5], None),
        (">", five, vec![6], Some(true)),
        (">", five, vec![5], Some(false)),
        ("<", five, vec![4], Some(true)),
        ("<", five, vec![5], Some(false)),
        (">=", five, vec![5], Some(true)),
        (">=", five, vec![4], Some(false)),
        ("<=", five, vec![5], Some(true)),
        ("<=", five, vec![6], Some(false)),
        ("=", r#""answerString":"5""#, vec![5], None),
    ] {
        let form = condition(operator, answer);
        let without = found(&form, &numbers(&values));
        let with = found(&form, &format!("{},{a}", numbers(&values)));
        let missing = without == ["error questionnaire.required QuestionnaireResponse"];
        let forbidden = with == ["error questionnaire.disabled item[1]"];
        let decided = match (missing, forbidden) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
            (true, true) => panic!("{operator} {values:?}"),
        };
        assert_eq!(decided, enabled, "{operator} {answer} {values:?}");
    }
    // All and any.
    let two = |behaviour: &str| {
        format!(
            r#"{{"linkId":"m","type":"integer"}},{{"linkId":"n","type":"integer"}},{{"linkId":"a","type":"string","enableBehavior":"{behaviour}","enableWhen":[{{"question":"m","operator":"=","answerInteger":1}},{{"question":"n","operator":"=","answerInteger":1}}]}}"#
        )
    };
    let items = format!(
        "{},{},{a}",
        says("m", r#""valueInteger":1"#),
        says("n", r#""valueInteger":2"#)
    );
    assert_eq!(
        found(&two("all"), &items),
        ["error questionnaire.disabled item[2]"]
    );
    assert_eq!(found(&two("any"), &items), Vec::<String>::new());
    assert_eq!(
        found_in("in-progress", &two("all"), &items),
        ["warning questionnaire.disabled item[2]"]
    );
    // The nearest question counts in a repeating group.
    let form = r#"{"linkId":"g","type":"group","repeats":true,"item":[{"linkId":"n","type":"integer"},{"linkId":"a","type":"string","enableWhen":[{"question":"n","operator":"=","answerInteger":1}]}]}"#;
    let group = |number: i32, rest: &str| {
        let number = says("n", &format!(r#""valueInteger":{number}"#));
        format!(r#"{{"linkId":"g","item":[{number}{rest}]}}"#)
    };
    let rest = format!(",{a}");
    assert_eq!(
        found(form, &format!("{},{}", group(1, &rest), group(2, ""))),
        Vec::<String>::new()
    );
    assert_eq!(
        found(form, &format!("{},{}", group(1, ""), group(2, &rest))),
        ["error questionnaire.disabled item[1].item[1]"]
    );
}

#[test]
fn what_an_unfinished_response_lacks_is_no_error() {
    let form = asks(r#""type":"string","required":true"#);
    assert_eq!(
        found_in("in-progress", &form, r#"{"linkId":"a"}"#),
        ["information questionnaire.required item[0]"]
    );
    assert_eq!(
        found_in("amended", &form, r#"{"linkId":"a"}"#),
        ["error questionnaire.required item[0]"]
    );
}

#[test]
fn the_questionnaire_is_found_or_said_to_be_missing() {
    let response = |canonical: &str| {
        format!(
            r##"{{"resourceType":"QuestionnaireResponse","status":"completed",{canonical}"contained":[{{"resourceType":"Questionnaire","id":"q","status":"active","contained":[{{"resourceType":"ValueSet","id":"v","compose":{{"include":[{{"system":"http://e.org/c","concept":[{{"code":"red"}}]}}]}}}}],"item":[{{"linkId":"a","type":"choice","answerValueSet":"#v"}}]}}],"item":[{{"linkId":"a","answer":[{{"valueCoding":{{"system":"http://e.org/c","code":"blue"}}}}]}}]}}"##
        )
    };
    let found = |canonical: &str| {
        let mut catalogue = Catalogue::new();
        catalogue
            .add_resource(
                "v",
                br#"{"resourceType":"ValueSet","url":"http://e.org/v"}"#,
            )
            .unwrap();
        found_with(catalogue, &response(canonical))
    };
    assert_eq!(
        found(""),
        ["warning questionnaire.unknown QuestionnaireResponse"]
    );
    assert_eq!(
        found(r#""questionnaire":"http://e.org/x","#),
        ["warning questionnaire.unknown questionnaire"]
    );
    assert_eq!(
        found(r#""questionnaire":"http://e.org/v","#),
        ["error questionnaire.unknown questionnaire"]
    );
    assert_eq!(
        found(r##""questionnaire":"#q","##),
        ["error questionnaire.answer-option item[0].answer[0].valueCoding"]
    );
}

#[test]
fn a_questionnaire_names_questions_that_exist() {
    let found = |question: &str| {
        found_with(
            Catalogue::new(),
            &format!(
                r#"{{"resourceType":"Questionnaire","status":"draft","item":[{{"linkId":"a","type":"group","item":[{{"linkId":"b","type":"string"}}]}},{{"linkId":"c","type":"string","enableWhen":[{{"question":"{question}","operator":"exists","answerBoolean":true}}]}}]}}"#
            ),
        )
    };
    assert_eq!(found("b"), Vec::<String>::new());
    for wrong in ["c", "z"] {
        assert_eq!(
            found(wrong),
            ["error questionnaire.definition Questionnaire.item[1].enableWhen[0].question"]
        );
    }
}

#[test]
fn what_cannot_be_decided_is_said_and_no_error() {
    let found = |form: &str, value: &str| found(&asks(form), &says("a", value));
    assert_eq!(
        found(
            r#""type":"choice","answerValueSet":"http://e.org/unknown""#,
            r#""valueCoding":{"code":"x"}"#
        ),
        ["information questionnaire.not-checked item[0].answer[0].valueCoding"]
    );
    assert_eq!(
        found(
            &format!(
                r#""type":"string",{}"#,
                extension("regex", r#""valueString":"(?=x)x""#)
            ),
            r#""valueString":"y""#
        ),
        ["information questionnaire.not-checked item[0].answer[0].valueString"]
    );
    assert_eq!(
        found(
            &format!(
                r#""type":"date",{}"#,
                extension("minValue", r#""valueDate":"2026-05""#)
            ),
            r#""valueDate":"2026""#
        ),
        ["information questionnaire.not-checked item[0].answer[0].valueDate"]
    );
}

/// Forms and responses that would make a careless check go over the same things again and again.
#[test]
fn hostile_forms_end() {
    let many = 3_000;
    let questions: Vec<String> = (0..many)
        .map(|index| {
            format!(
                r#"{{"linkId":"{index}","type":"string","enableWhen":[{{"question":"z","operator":"=","answerString":"x"}}]}}"#
            )
        })
        .collect();
    let answers: Vec<String> = (0..many)
        .map(|index| says(&index.to_string(), r#""valueString":"x""#))
        .collect();
    drop(found(&questions.join(","), &answers.join(",")));
    let deep = format!(
        "{}{}",
        r#"{"linkId":"a","type":"group","item":["#.repeat(40),
        "]}".repeat(40)
    );
    let answer = format!(
        "{}{}",
        r#"{"linkId":"a","item":["#.repeat(40),
        "]}".repeat(40)
    );
    drop(found(&deep, &answer));
}
