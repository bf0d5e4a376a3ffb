//! Paths, functions on collections, scopes, types and errors.

use super::{OBSERVATION, PATIENT, check, outcome};

#[test]
fn paths_lead_to_elements_with_their_types() {
    check(
        PATIENT,
        r"
        name.family => [string 'Berg']
        Patient.name.given => [string 'Ada', string 'Bo', string 'Addie']
        Observation.name.given => []
        name[1].given => [string 'Addie']
        name[2] => []
        active => [boolean true]
        multipleBirth => [integer 2]
        multipleBirth is integer => [true]
        multipleBirth is Integer => [false]
        multipleBirth is boolean => [false]
        deceased => [dateTime without value]
        deceased.hasValue() => [false]
        deceased.exists() => [true]
        deceased.extension('http://example.org/absent').value => [code 'unknown']
        birthDate.extension('http://example.org/time').value => [dateTime '1980-05-17T08:30:00+02:00']
        birthDate.extension('http://example.org/other').exists() => [false]
        name.given.id => [string 'g2']
        name.given[1].id.exists() and name.given[0].id.empty() => [true]
        nothing.at.all => []
        "
        .replace("string '", "string \"")
        .replace("code 'unknown'", "code \"unknown\"")
        .replace("dateTime '1980-05-17T08:30:00+02:00'", "dateTime \"1980-05-17T08:30:00+02:00\"")
        .lines()
        .map(requote)
        .collect::<Vec<_>>()
        .join("\n")
        .as_str(),
    );
}

/// `"Ada'` becomes `"Ada"`, so that the table above stays readable.
fn requote(line: &str) -> String {
    let Some((expression, outcome)) = line.rsplit_once(" => ") else {
        return line.to_owned();
    };
    format!("{expression} => {}", outcome.replace('\'', "\""))
}

#[test]
fn choices_and_quantities_of_an_observation() {
    check(
        OBSERVATION,
        r"
        component.value.count() => [2]
        component.valueQuantity.count() => [2]
        component[0].value.value => [decimal 120.5]
        component[0].value.value = 120.5 => [true]
        component[0].value = 120.5 'mm[Hg]' => [true]
        component[0].value = 120.5 'm[Hg]' => [false]
        component[0].value = 0.1205 'm[Hg]' => [true]
        component[0].value > 100 'mm[Hg]' => [true]
        component[0].value > 100 'kg' => []
        component[1].value > 100 'mm[Hg]' => []
        component.value.ofType(Quantity).count() => [2]
        component.value.ofType(string).count() => [0]
        effective is Period => [true]
        effective.start <= effective.end => []
        effective.start < @2024-03-01 => [true]
        effective.start.toString() => ['2024-02']
        value.exists() => [false]
        Observation.code.coding.where(system = 'http://loinc.org').code.count() => [2]
        component.where(code.coding.code = '8480-6').value.unit = 'mmHg' => [true]
        referenceRange.low <= referenceRange.high => []
        ",
    );
}

#[test]
fn filters_projections_and_subsets() {
    check(
        PATIENT,
        r"
        name.where(use = 'official').exists() => [true]
        name.where(use = 'x').exists() => [false]
        name.where(given = 'Addie').use = 'nickname' => [true]
        name.all(given.exists()) => [true]
        name.all(family.exists()) => [false]
        name.select(given.first()).count() => [2]
        name.select($index) => [0, 1]
        name.given.select($this.length()) => [3, 2, 5]
        (1 | 2 | 3).first() => [1]
        (1 | 2 | 3).last() => [3]
        (1 | 2 | 3).tail() => [2, 3]
        (1 | 2 | 3).skip(1).take(1) => [2]
        (1 | 2 | 3).skip(-1).count() => [3]
        (1 | 2 | 3).take(0) => []
        (1 | 2 | 3).single() => error
        {}.single() => []
        (1 | 2 | 2 | 3) => [1, 2, 3]
        1.combine(1) => [1, 1]
        1.combine(1).distinct() => [1]
        (1 | 2).intersect(2 | 3) => [2]
        1.combine(2).combine(1).exclude(2) => [1, 1]
        (1 | 2).subsetOf(1 | 2 | 3) => [true]
        (1 | 4).subsetOf(1 | 2 | 3) => [false]
        (1 | 2 | 3).supersetOf(1 | 2) => [true]
        {}.subsetOf(1) => [true]
        (true | false).anyTrue() => [true]
        (true | false).allTrue() => [false]
        {}.allTrue() => [true]
        (1 | 2).allTrue() => error
        (1|2|3|4).aggregate($this + $total, 0) => [10]
        {}.aggregate($this + $total, 7) => [7]
        (3 | 1 | 2).sort() => [1, 2, 3]
        (3 | 1 | 2).sort($this desc) => [3, 2, 1]
        telecom.sort(rank).select(system.toString()) => ['email', 'phone']
        name.sort(family).select(use.toString()) => ['nickname', 'official']
        name.sort(-family).select(use.toString()) => ['official', 'nickname']
        name.sort(family desc, use).select(use.toString()) => ['official', 'nickname']
        (1 | 'a').sort() => error
        iif(true, 1, 2) => [1]
        iif(false, 1) => []
        iif({}, 1, 2) => [2]
        iif(true, 1, 1 | 2 and true) => [1]
        (1 | 2).iif(true, 1, 2) => error
        {}.iif(empty(), 1, 2) => [1]
        coalesce({}, name.where(false), 3, 4) => [3]
        repeat(contained).count() => [1]
        children().where($this is HumanName).count() => [2]
        descendants().where($this = 'Addie').exists() => [true]
        name.repeat('x') => ['x']
        'x'.repeatAll('x').count() => error
        1 in (1 | 2) => [true]
        {} in (1 | 2) => []
        (1 | 2) in (1 | 2) => error
        (1 | 2) contains 3 => [false]
        ",
    );
}

#[test]
fn logic_has_three_values() {
    let values = ["true", "false", "{}"];
    // Rows and columns in that order.
    let tables = [
        ("and", ["tf.", "fff", ".f."]),
        ("or", ["ttt", "tf.", "t.."]),
        ("xor", ["ft.", "tf.", "..."]),
        ("implies", ["tf.", "ttt", "t.."]),
    ];
    for (operator, rows) in tables {
        for (left, row) in values.iter().zip(rows) {
            for (right, expected) in values.iter().zip(row.chars()) {
                let expected = match expected {
                    't' => "[true]",
                    'f' => "[false]",
                    _ => "[]",
                };
                let text = format!("{left} {operator} {right}");
                assert_eq!(outcome(PATIENT, &text), expected, "{text}");
            }
        }
    }
    check(
        PATIENT,
        r"
        true and name.use => error
        name.first() and true => [true]
        false and (1 | 2) => [false]
        true or (1 | 2) => [true]
        {}.not() => []
        1.not() => [false]
        (1 | 2).not() => error
        ",
    );
}

#[test]
fn types_and_references() {
    check(
        PATIENT,
        r"
        1.type() => [System.Integer]
        gender.type() => [FHIR.code]
        gender.type().name => ['code']
        Patient.type().namespace => ['FHIR']
        gender is string => [true]
        gender is code => [true]
        gender is id => [false]
        gender.as(code).exists() => [true]
        gender.as(string).exists() => [false]
        Patient is DomainResource => [true]
        Patient is Resource => [true]
        Patient is FHIR.Observation => [false]
        Patient is Nonsense => error
        name.ofType(Nonsense) => error
        ofType(Patient).exists() => [true]
        name is HumanName => error
        name[0] is Element => [true]
        1 is System.Integer => [true]
        1.0 is Integer => [false]
        1 'mg' is Quantity => [true]
        1 'mg' is FHIR.Quantity => [false]
        @2020 is Date => [true]
        @2020T is Date => [false]
        @T10 is Time => [true]
        managingOrganization.resolve().name.toString() => ['Clinic']
        managingOrganization.resolve() is Organization => [true]
        generalPractitioner.resolve() => []
        contained.where('#' + id in %resource.descendants().reference).exists() => [true]
        %resource.id = id and %rootResource.id = id and %context.id = id => [true]
        %sct => ['http://snomed.info/sct']
        %'vs-administrative-gender' => ['http://hl7.org/fhir/ValueSet/administrative-gender']
        %nothing => error
        conformsTo('http://hl7.org/fhir/StructureDefinition/Patient') => [true]
        conformsTo('http://hl7.org/fhir/StructureDefinition/Observation') => [false]
        conformsTo('http://example.org/unknown') => error
        gender.memberOf('http://hl7.org/fhir/ValueSet/administrative-gender') => error
        now() => [@2026-11-22T12:30:45.678+01:00]
        today() => [@2026-11-22]
        timeOfDay() => [@12:30:45.678]
        ",
    );
}

#[test]
fn variables_live_in_what_follows() {
    check(
        PATIENT,
        r"
        defineVariable('a', name.first()).name.where(use = %a.use).count() => [1]
        name.select(defineVariable('u', use).given.select(%u & '-' & $this)) => ['official-Ada', 'official-Bo', 'nickname-Addie']
        name.select(defineVariable('u', use)).select(%u) => error
        defineVariable('a', 1).select(%a) | defineVariable('a', 2).select(%a) => [1, 2]
        defineVariable('a', 1).defineVariable('a', 2) => error
        defineVariable('resource', 1) => error
        (defineVariable('a', 1).id.exists()) and (%a = 1) => error
        ",
    );
}

#[test]
fn what_is_no_expression() {
    for text in [
        "",
        "1 +",
        "(1",
        "1)",
        "name.",
        "name..given",
        "'open",
        "/* open",
        "@2020-13",
        "@T25",
        "@T10:00Z",
        "a b",
        "name.nothing()",
        "name.where()",
        "name.where(1, 2)",
        "first(1)",
        "$that",
        "name.$this",
        "1 = ",
        "99999999999",
        "{1}",
        "name[",
        "#",
        "is(",
        "1 is",
        "ofType(1)",
        "%",
        "99999999999999999999999999999999.5",
    ] {
        assert!(outcome(PATIENT, text).starts_with("syntax: "), "{text}");
    }
    let error = super::Expression::parse("name.where(use = 'a').nothing()").unwrap_err();
    assert_eq!(error.position, 22);
    let error = outcome(PATIENT, "name.where(family) and name.single().exists()");
    assert_eq!(
        error,
        "error: at byte 28: one value was expected, but there are several"
    );
}
