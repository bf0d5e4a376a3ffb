//! Strict mode: what it accepts, and the nearest that it refuses.

use crate::Definitions;
use crate::fhirpath::Expression;

fn check(root: &str, text: &str) -> Result<(), String> {
    Expression::parse(text)
        .unwrap()
        .check(Definitions::r4(), root)
        .map_err(|error| error.message)
}

/// Beside each expression that fits a type, the nearest that does not.
#[test]
fn strict_mode_refuses_what_can_never_be() {
    for (root, right, wrong) in [
        ("Patient", "Patient.name.given", "Encounter.name.given"),
        ("Patient", "DomainResource.text", "Observation.text"),
        ("Patient", "name.given", "name.given1"),
        ("Observation", "value.unit", "valueQuantity.unit"),
        (
            "Observation",
            "(value as Period).start",
            "(value as Period).unit",
        ),
        (
            "Observation",
            "value.ofType(Quantity).unit",
            "value.ofType(Patient)",
        ),
        (
            "Observation",
            "component.where(value.unit = 'x').code",
            "component.where(nothing = 'x').code",
        ),
        (
            "Observation",
            "component.select(code.coding).system",
            "component.select(code).system",
        ),
        ("Patient", "name.skip(1)", "children().skip(1)"),
        ("Patient", "name[0]", "descendants()[0]"),
        (
            "Patient",
            "children().sort($this).first()",
            "children().where(true).first()",
        ),
        ("Patient", "iif(active, 1, 2)", "iif('active', 1, 2)"),
        (
            "Patient",
            "gender.startsWith('f')",
            "identifier.startsWith('f')",
        ),
        (
            "Patient",
            "name.family.substring(1).length()",
            "name.count().length()",
        ),
        (
            "Patient",
            "birthDate.extension('x').value",
            "birthDate.extension('x').nothing",
        ),
        ("Patient", "contained.anything.goes", "identifier.anything"),
        (
            "Patient",
            "name.first().use is code",
            "name.first().use is nothing",
        ),
        ("Questionnaire", "repeat(item).linkId", "item.linkid"),
        ("HumanName", "family", "families"),
    ] {
        assert_eq!(check(root, right), Ok(()), "{root}: {right}");
        assert!(check(root, wrong).is_err(), "{root}: {wrong}");
    }
}

#[test]
fn errors_say_where_and_what() {
    let expression = Expression::parse("name.where(use = 'x').given1").unwrap();
    let error = expression.check(Definitions::r4(), "Patient").unwrap_err();
    assert_eq!(
        error.to_string(),
        "at byte 22: `given1` is no element of `HumanName`"
    );
}
