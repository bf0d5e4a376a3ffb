//! What bindings of each strength say about coded values.

use std::fmt::Write;
use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::json;

use super::{animals, terminology, value_set};
use crate::canonical::{Binding, Bounds};
use crate::terminology::{
    Coded, Coding, Place, ServerQuestion, ServerVerdict, Terminology, TerminologyServer,
};

const ANIMAL: &str = "urn:animals";

fn sets() -> Terminology {
    terminology([
        animals(),
        value_set(
            "urn:pets",
            json!({"include": [{"system": ANIMAL, "concept": [{"code": "dog"}, {"code": "bird"}, {"code": "dodo"}]}]}),
        ),
        value_set("urn:all", json!({"include": [{"system": ANIMAL}]})),
        value_set(
            "urn:unloaded",
            json!({"include": [{"system": "urn:unknown"}]}),
        ),
        value_set(
            "urn:units",
            json!({"include": [{"system": "http://unitsofmeasure.org", "concept": [{"code": "kg"}, {"code": "g"}]}]}),
        ),
    ])
}

fn binding(strength: &str, value_set: &str, max: Option<&str>) -> Binding {
    Binding {
        strength: strength.to_owned(),
        value_set: Some(value_set.to_owned()),
        bounds: Bounds {
            max_value_set: max.map(str::to_owned),
            ..Bounds::default()
        },
    }
}

fn coding<'a>(system: &'a str, code: &'a str) -> Coding<'a> {
    Coding {
        system: Some(system),
        code: Some(code),
        ..Coding::default()
    }
}

fn checked(terminology: &Terminology, binding: &Binding, value: &Coded<'_>) -> String {
    let bound = terminology.bind(binding).unwrap();
    let mut issues = Vec::new();
    terminology.check(&bound, value, &mut issues);
    listed(&issues)
}

fn listed(issues: &[crate::terminology::Issue]) -> String {
    let mut text = String::new();
    for it in issues {
        let place = match it.place {
            Place::Whole => String::new(),
            Place::Coding(index, part) => format!(" at {index} {part:?}"),
        };
        writeln!(
            text,
            "{} {}{place}: {}",
            it.severity.code(),
            it.id,
            it.message
        )
        .unwrap();
    }
    text
}

fn check(strength: &str, value: &Coded<'_>, wanted: Expect) {
    wanted.assert_eq(&checked(
        &sets(),
        &binding(strength, "urn:pets", None),
        value,
    ));
}

#[test]
fn required_wants_one_of_the_codes() {
    let dog = coding(ANIMAL, "dog");
    let poodle = coding(ANIMAL, "poodle");
    let local = coding("urn:local", "dog");
    check("required", &Coded::Code("dog"), expect![[""]]);
    check(
        "required",
        &Coded::Code("poodle"),
        expect![[r#"
        error binding.required: `poodle` is not in value set `urn:pets`; use one of `dog`, `bird`
    "#]],
    );
    check("required", &Coded::Coding(dog), expect![[""]]);
    check(
        "required",
        &Coded::Coding(local),
        expect![[r#"
        error binding.required at 0 Code: `dog` is not in value set `urn:pets`; use one of `dog`, `bird`
    "#]],
    );
    check(
        "required",
        &Coded::Coding(Coding {
            code: Some("dog"),
            ..Coding::default()
        }),
        expect![[r#"
            error binding.required at 0 Code: `dog`, without a system, is not in value set `urn:pets`; use one of `dog`, `bird`
        "#]],
    );
    check(
        "required",
        &Coded::Concept {
            codings: &[poodle, local, dog],
        },
        expect![[""]],
    );
    check(
        "required",
        &Coded::Concept {
            codings: &[poodle, local],
        },
        expect![[r#"
            error binding.required: none of the codes is in value set `urn:pets`; use one of `dog`, `bird`
        "#]],
    );
    check(
        "required",
        &Coded::Concept { codings: &[] },
        expect![[r#"
            error binding.no-code: no code is given; give one from value set `urn:pets`
        "#]],
    );
    check(
        "required",
        &Coded::Concept {
            codings: &[Coding {
                system: Some(ANIMAL),
                display: Some("Dog"),
                ..Coding::default()
            }],
        },
        expect![[r#"
            error binding.no-code: no code is given; give one from value set `urn:pets`
        "#]],
    );
    check(
        "required",
        &Coded::Coding(coding(ANIMAL, "Jane Doe, born 1970")),
        expect![[r#"
            error binding.required at 0 Code: the given code is not in value set `urn:pets`; use one of `dog`, `bird`
        "#]],
    );
    check(
        "required",
        &Coded::Coding(coding(ANIMAL, "dodo")),
        expect![[r#"
            warning binding.inactive-code at 0 Code: `dodo` is no longer in use; use a current code
        "#]],
    );
}

#[test]
fn weaker_bindings_say_less() {
    let poodle = [coding(ANIMAL, "poodle")];
    let outside = Coded::Concept { codings: &poodle };
    check(
        "extensible",
        &outside,
        expect![[r#"
        warning binding.extensible at 0 Code: `poodle` is not in value set `urn:pets`; use a code from there unless none of them fits what is meant
    "#]],
    );
    check(
        "extensible",
        &Coded::Concept { codings: &[] },
        expect![[r#"
            warning binding.no-code: no code is given; give one from value set `urn:pets` if one of them fits
        "#]],
    );
    check(
        "preferred",
        &outside,
        expect![[r#"
        information binding.preferred at 0 Code: `poodle` is not in value set `urn:pets`; codes from there are preferred
    "#]],
    );
    check("preferred", &Coded::Concept { codings: &[] }, expect![[""]]);
    check("example", &outside, expect![[""]]);
}

#[test]
fn the_largest_value_set_is_a_hard_limit() {
    let check = |strength: &str, codings: &[Coding<'_>], wanted: Expect| {
        wanted.assert_eq(&checked(
            &sets(),
            &binding(strength, "urn:pets", Some("urn:all")),
            &Coded::Concept { codings },
        ));
    };
    check(
        "extensible",
        &[coding(ANIMAL, "poodle")],
        expect![[r#"
        warning binding.extensible at 0 Code: `poodle` is not in value set `urn:pets`; use a code from there unless none of them fits what is meant
    "#]],
    );
    check(
        "preferred",
        &[coding(ANIMAL, "cat")],
        expect![[r#"
        information binding.preferred at 0 Code: `cat` is not in value set `urn:pets`; codes from there are preferred
        error binding.required at 0 Code: `cat` is not in value set `urn:all`; use one of `dog`, `poodle`, `dachshund`, `bird`, `penguin`, `swimmer`
    "#]],
    );
    check(
        "example",
        &[coding("urn:local", "cat")],
        expect![[r#"
        error binding.required at 0 Code: `cat` is not in value set `urn:all`; use one of `dog`, `poodle`, `dachshund`, `bird`, `penguin`, `swimmer`
    "#]],
    );
    check(
        "extensible",
        &[],
        expect![[r#"
            error binding.no-code: no code is given; give one from value set `urn:pets`
        "#]],
    );
}

#[test]
fn what_is_not_loaded_is_not_checked() {
    let check = |value: &Coded<'_>, wanted: Expect| {
        wanted.assert_eq(&checked(
            &sets(),
            &binding("required", "urn:unloaded", None),
            value,
        ));
    };
    let unknown = coding("urn:unknown", "a");
    check(
        &Coded::Coding(unknown),
        expect![[r#"
        information binding.not-checked: whether this is in value set `urn:unloaded` was not checked: code system `urn:unknown` is not loaded
    "#]],
    );
    check(
        &Coded::Coding(coding(ANIMAL, "dog")),
        expect![[r#"
        error binding.required at 0 Code: `dog` is not in value set `urn:unloaded`; use a code from there
    "#]],
    );
    check(
        &Coded::Concept {
            codings: &[coding(ANIMAL, "dog"), unknown],
        },
        expect![[r#"
            information binding.not-checked: whether this is in value set `urn:unloaded` was not checked: code system `urn:unknown` is not loaded
        "#]],
    );
    check(
        &Coded::Code("a"),
        expect![[r#"
        information binding.not-checked: whether this is in value set `urn:unloaded` was not checked: code system `urn:unknown` is not loaded
    "#]],
    );
}

#[test]
fn abstract_codes_group_and_are_not_used() {
    let animal = coding(ANIMAL, "animal");
    let check = |strength: &str, wanted: Expect| {
        wanted.assert_eq(&checked(
            &sets(),
            &binding(strength, "urn:all", None),
            &Coded::Coding(animal),
        ));
    };
    check(
        "required",
        expect![[r#"
        error binding.abstract-code at 0 Code: `animal` only groups other codes; use one below it
    "#]],
    );
    check(
        "extensible",
        expect![[r#"
        warning binding.abstract-code at 0 Code: `animal` only groups other codes; use one below it
    "#]],
    );
}

#[test]
fn quantities_are_bound_by_their_unit() {
    let check = |unit: &str, wanted: Expect| {
        wanted.assert_eq(&checked(
            &sets(),
            &binding("required", "urn:units", None),
            &Coded::Quantity(coding("http://unitsofmeasure.org", unit)),
        ));
    };
    check("kg", expect![[""]]);
    check(
        "mg",
        expect![[r#"
        error binding.required at 0 Code: `mg` is not in value set `urn:units`; use one of `kg`, `g`
    "#]],
    );
}

#[test]
fn codings_are_looked_at_in_their_own_system() {
    let check = |coding: Coding<'_>, newer: &[&str], wanted: Expect| {
        let mut issues = Vec::new();
        sets().inspect(&coding, 0, newer, &mut issues);
        wanted.assert_eq(&listed(&issues));
    };
    let shown = |code, display| Coding {
        display: Some(display),
        ..coding(ANIMAL, code)
    };
    check(shown("dog", " DOG "), &[], expect![[""]]);
    check(shown("dog", "hund"), &[], expect![[""]]);
    check(
        shown("dog", "Cat"),
        &[],
        expect![[r#"
        warning coding.display at 0 Display: the display is not the one of `dog`, which is `Dog`
    "#]],
    );
    check(
        shown("cat", "Cat"),
        &[],
        expect![[r#"
        error coding.unknown-code at 0 Code: `cat` is not a code of `urn:animals` (version `1`); use one that is
    "#]],
    );
    check(shown("cat", "Cat"), &["urn:ani"], expect![[""]]);
    check(coding("urn:unknown", "a"), &[], expect![[""]]);
    check(
        coding("urn:pets", "dog"),
        &[],
        expect![[r#"
            error system.value-set at 0 System: `system` names a value set; name the code system that defines the code
        "#]],
    );
    check(
        coding("http://unitsofmeasure.org", "mg/dL"),
        &[],
        expect![[""]],
    );
    check(
        coding("http://unitsofmeasure.org", "mmHg"),
        &[],
        expect![[r#"
            error coding.unknown-code at 0 Code: `mmHg` is not a UCUM unit: it names a unit that UCUM does not have (case matters: `mm[Hg]`, `mL`, `Cel`)
        "#]],
    );
    check(
        Coding {
            version: Some("2"),
            ..coding(ANIMAL, "cat")
        },
        &[],
        expect![[""]],
    );
    let loinc = |display| Coding {
        display: Some(display),
        ..coding("http://loinc.org", "59408-5")
    };
    check(
        loinc("Oxygen saturation in Arterial blood by Pulse oximetry"),
        &[],
        expect![[""]],
    );
    check(
        loinc("SpO2"),
        &[],
        expect![[r#"
        information coding.display at 0 Display: the display is not the one of `59408-5`, which is `Oxygen saturation in Arterial blood by Pulse oximetry`
    "#]],
    );
}

/// Knows two codes of one system.
#[derive(Debug)]
struct Server;

impl TerminologyServer for Server {
    fn validate_code(&self, question: &ServerQuestion<'_>) -> ServerVerdict {
        match (question.system, question.code) {
            (Some("urn:unknown"), "a") => ServerVerdict::Valid { display: None },
            (Some("urn:unknown"), "b") => ServerVerdict::Invalid,
            (Some("urn:animals"), _) => panic!("asked although it was decided"),
            _ => ServerVerdict::Unknown,
        }
    }
}

#[test]
fn a_server_is_asked_only_where_nothing_loaded_decides() {
    let terminology = sets().with_server(Arc::new(Server));
    let check = |system: &str, code: &str, wanted: Expect| {
        let value = Coded::Coding(coding(system, code));
        wanted.assert_eq(&checked(
            &terminology,
            &binding("required", "urn:unloaded", None),
            &value,
        ));
    };
    check("urn:unknown", "a", expect![[""]]);
    check(
        "urn:unknown",
        "b",
        expect![[r#"
        error binding.required at 0 Code: `b` is not in value set `urn:unloaded`; use a code from there
    "#]],
    );
    check(
        "urn:unknown",
        "c",
        expect![[r#"
        information binding.not-checked: whether this is in value set `urn:unloaded` was not checked: code system `urn:unknown` is not loaded
    "#]],
    );
    check(
        ANIMAL,
        "dog",
        expect![[r#"
        error binding.required at 0 Code: `dog` is not in value set `urn:unloaded`; use a code from there
    "#]],
    );
}
