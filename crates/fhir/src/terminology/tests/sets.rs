//! Which codes value sets hold.

use serde_json::{Value, json};

use super::{animals, check, terminology, value_set};
use crate::terminology::{Lookup, Membership, NotExpandable, Undecided};

fn filtered(filters: &[(&str, &str, &str)], cases: &str) {
    let filters: Vec<Value> = filters
        .iter()
        .map(|(property, op, value)| json!({"property": property, "op": op, "value": value}))
        .collect();
    let set = value_set(
        "urn:set",
        json!({"include": [{"system": "urn:animals", "filter": filters}]}),
    );
    check(&terminology([animals(), set]), "urn:set", cases);
}

#[test]
fn each_filter_and_the_nearest_code_outside() {
    filtered(
        &[("concept", "is-a", "dog")],
        "+dog +poodle +dachshund -bird -animal -cat",
    );
    filtered(&[("concept", "descendent-of", "dog")], "-dog +poodle -bird");
    filtered(
        &[("concept", "is-not-a", "dog")],
        "-dog -poodle +bird +animal -cat",
    );
    filtered(
        &[("concept", "generalizes", "poodle")],
        "+poodle +dog +animal -dachshund -bird",
    );
    filtered(
        &[("concept", "is-a", "bird")],
        "+penguin +bird -swimmer -dodo",
    );
    filtered(&[("concept", "is-a", "swimmer")], "+penguin +swimmer -bird");
    filtered(&[("legs", "=", "4")], "+dog +poodle -bird -animal");
    filtered(&[("sound", "=", "woof")], "+dog -poodle");
    filtered(&[("code", "in", "dog, bird")], "+dog +bird -poodle");
    filtered(&[("code", "not-in", "dog,bird")], "-dog -bird +poodle -cat");
    filtered(&[("legs", "in", "2,3")], "+bird +dodo -dog -swimmer");
    filtered(&[("code", "regex", "d.*")], "+dog +dodo +dachshund -bird");
    filtered(&[("code", "regex", "d|do")], "-dog -dodo");
    filtered(&[("display", "regex", "D[aeiou]+g")], "+dog -dodo");
    filtered(&[("legs", "exists", "true")], "+dog +dodo -animal -penguin");
    filtered(&[("legs", "exists", "false")], "-dog +animal +penguin -cat");
    filtered(&[("notSelectable", "=", "false")], "+dog -animal");
    filtered(&[("inactive", "=", "true")], "+dodo -dog");
    filtered(&[("parent", "=", "animal")], "+dog +bird -poodle -animal");
    filtered(&[("child", "=", "penguin")], "+bird +swimmer -animal");
    // All filters must hold.
    filtered(
        &[("concept", "is-a", "dog"), ("short", "=", "true")],
        "+dachshund -poodle -dog",
    );
    // What cannot be evaluated decides nothing.
    filtered(&[("wings", "=", "2")], "?dog ?cat -urn:plants|dog");
    filtered(&[("concept", "is-a", "cat")], "?dog");
    filtered(&[("concept", "child-of", "dog")], "?poodle");
    filtered(&[("code", "regex", "(")], "?dog");
    filtered(&[("legs", "exists", "maybe")], "?dog");
}

#[test]
fn lists_systems_and_exclusions() {
    let list = value_set(
        "urn:list",
        json!({"include": [{"system": "urn:unknown", "concept": [{"code": "a", "display": "A"}, {"code": "b"}]}],
               "exclude": [{"system": "urn:unknown", "concept": [{"code": "b"}]}]}),
    );
    let whole = value_set(
        "urn:whole",
        json!({"include": [{"system": "urn:animals"}],
               "exclude": [{"system": "urn:animals", "filter": [{"property": "concept", "op": "is-a", "value": "dog"}]}]}),
    );
    let unloaded = value_set(
        "urn:unloaded",
        json!({"include": [{"system": "urn:unknown"}, {"system": "urn:animals", "concept": [{"code": "dog"}]}],
               "exclude": [{"system": "urn:unknown", "concept": [{"code": "b"}]}]}),
    );
    let doubtful = value_set(
        "urn:doubtful",
        json!({"include": [{"system": "urn:animals"}], "exclude": [{"valueSet": ["urn:absent"]}]}),
    );
    let terminology = terminology([animals(), list, whole, unloaded, doubtful]);
    check(
        &terminology,
        "urn:list",
        "+urn:unknown|a -urn:unknown|b -urn:unknown|c -urn:unknown|A -dog",
    );
    check(
        &terminology,
        "urn:whole",
        "+bird +animal -dog -poodle -cat -urn:unknown|bird",
    );
    // A code of a system that no include names is out, whatever is not loaded.
    check(
        &terminology,
        "urn:unloaded",
        "?urn:unknown|a -urn:unknown|b +dog -bird -urn:third|a",
    );
    check(&terminology, "urn:doubtful", "?dog -cat");
    check(&terminology, "urn:absent", "?dog ?urn:unknown|a");
    check(
        &terminology,
        "http://loinc.org/vs/LL379-9|4.0.1",
        "?http://loinc.org|LA1-1 -dog",
    );
}

#[test]
fn imports_are_united_across_includes_and_intersected_within() {
    let set = |url: &str, codes: &[&str]| {
        let codes: Vec<Value> = codes.iter().map(|it| json!({"code": it})).collect();
        value_set(
            url,
            json!({"include": [{"system": "urn:animals", "concept": codes}]}),
        )
    };
    let terminology = terminology([
        animals(),
        set("urn:one", &["dog", "bird"]),
        set("urn:two", &["bird", "dodo"]),
        value_set(
            "urn:both",
            json!({"include": [{"valueSet": ["urn:one", "urn:two"]}]}),
        ),
        value_set(
            "urn:either",
            json!({"include": [{"valueSet": ["urn:one"]}, {"valueSet": ["urn:two"]}]}),
        ),
        value_set(
            "urn:within",
            json!({"include": [{"system": "urn:animals", "filter": [{"property": "legs", "op": "=", "value": "4"}], "valueSet": ["urn:one"]}]}),
        ),
        value_set(
            "urn:maybe",
            json!({"include": [{"valueSet": ["urn:one", "urn:absent"]}]}),
        ),
        value_set(
            "urn:circle",
            json!({"include": [{"system": "urn:animals", "concept": [{"code": "dog"}]}, {"valueSet": ["urn:round"]}]}),
        ),
        value_set(
            "urn:round",
            json!({"include": [{"valueSet": ["urn:circle"]}]}),
        ),
        value_set("urn:self", json!({"include": [{"valueSet": ["urn:self"]}]})),
    ]);
    check(&terminology, "urn:both", "+bird -dog -dodo");
    check(&terminology, "urn:either", "+bird +dog +dodo -poodle");
    check(&terminology, "urn:within", "+dog -bird -poodle");
    check(&terminology, "urn:maybe", "?dog ?bird -poodle");
    check(&terminology, "urn:circle", "+dog ?bird");
    check(&terminology, "urn:round", "+dog ?bird");
    check(&terminology, "urn:self", "?dog");
}

#[test]
fn a_code_without_system_is_looked_for_in_all() {
    let terminology = terminology([
        animals(),
        value_set(
            "urn:closed",
            json!({"include": [{"system": "urn:animals"}, {"system": "urn:x", "concept": [{"code": "y"}]}]}),
        ),
        value_set(
            "urn:open",
            json!({"include": [{"system": "urn:animals"}, {"system": "urn:unknown"}]}),
        ),
    ]);
    let is = |set, code| terminology.member_of(set, None, code);
    assert!(
        matches!(is("urn:closed", "dog"), Membership::Member { display: Some(it), .. } if it == "Dog")
    );
    assert!(matches!(is("urn:closed", "y"), Membership::Member { .. }));
    assert_eq!(is("urn:closed", "cat"), Membership::NotMember);
    assert!(matches!(is("urn:open", "dog"), Membership::Member { .. }));
    assert_eq!(
        is("urn:open", "cat"),
        Membership::NotDecidable(Undecided::SystemNotLoaded("urn:unknown".to_owned()))
    );
}

#[test]
fn case_matters_where_the_system_says_so() {
    let system = |url: &str, case: Value| {
        json!({"resourceType": "CodeSystem", "url": url, "content": "complete", "caseSensitive": case,
               "concept": [{"code": "Abc"}, {"code": "Def"}]})
    };
    let terminology = terminology([
        system("urn:strict", json!(true)),
        system("urn:loose", json!(false)),
        system("urn:silent", Value::Null),
        value_set(
            "urn:set",
            json!({"include": [
            {"system": "urn:strict"}, {"system": "urn:loose"}, {"system": "urn:silent", "concept": [{"code": "Abc"}]}]}),
        ),
    ]);
    check(
        &terminology,
        "urn:set",
        "+urn:strict|Abc -urn:strict|abc +urn:loose|ABC -urn:loose|ABCD +urn:silent|aBC -urn:silent|dEF",
    );
}

#[test]
fn inactive_codes_are_out_only_where_the_set_says_so() {
    let terminology = terminology([
        animals(),
        value_set("urn:all", json!({"include": [{"system": "urn:animals"}]})),
        value_set(
            "urn:active",
            json!({"inactive": false, "include": [{"system": "urn:animals"}]}),
        ),
    ]);
    check(&terminology, "urn:active", "-dodo +dog");
    check(&terminology, "urn:all", "+dodo +dog");
    assert_eq!(
        terminology.member_of("urn:all", Some("urn:animals"), "dodo"),
        Membership::Member {
            display: Some("Dodo".to_owned()),
            inactive: true,
            is_abstract: false
        }
    );
    assert!(matches!(
        terminology.member_of("urn:all", Some("urn:animals"), "animal"),
        Membership::Member {
            is_abstract: true,
            ..
        }
    ));
}

#[test]
fn parts_of_systems_never_say_no() {
    let system = |content: &str, concepts: Value| json!({"resourceType": "CodeSystem", "url": format!("urn:{content}"), "content": content, "concept": concepts});
    let one = || json!([{"code": "a"}]);
    let include = |content: &str| json!({"system": format!("urn:{content}")});
    let terminology = terminology([
        system("fragment", one()),
        system("example", one()),
        system("not-present", json!([])),
        json!({"resourceType": "CodeSystem", "url": "urn:hollow", "content": "complete"}),
        value_set(
            "urn:set",
            json!({"include": [
            include("fragment"), include("example"), include("not-present"), include("hollow")]}),
        ),
    ]);
    check(
        &terminology,
        "urn:set",
        "+urn:fragment|a ?urn:fragment|b +urn:example|a ?urn:example|b ?urn:not-present|a ?urn:hollow|a",
    );
}

#[test]
fn shipped_expansions_help_only_where_the_definition_cannot() {
    let contains = || json!([{"system": "urn:x", "code": "a", "display": "A"}, {"abstract": true, "code": "g", "system": "urn:x", "contains": [{"system": "urn:x", "code": "b"}]}]);
    let set = |url: &str, compose: Option<Value>, total: Option<u32>| {
        let mut set =
            json!({"resourceType": "ValueSet", "url": url, "expansion": {"contains": contains()}});
        if let Some(compose) = compose {
            set["compose"] = compose;
        }
        if let Some(total) = total {
            set["expansion"]["total"] = json!(total);
        }
        set
    };
    let unloaded = || json!({"include": [{"system": "urn:x"}]});
    let terminology = terminology([
        animals(),
        set("urn:only", None, None),
        set("urn:counted", Some(unloaded()), Some(2)),
        set("urn:cut", Some(unloaded()), Some(1000)),
        set(
            "urn:decided",
            Some(json!({"include": [{"system": "urn:x", "concept": [{"code": "c"}]}]})),
            None,
        ),
    ]);
    check(
        &terminology,
        "urn:only",
        "+urn:x|a +urn:x|b -urn:x|c -urn:x|g -dog",
    );
    check(&terminology, "urn:counted", "+urn:x|a -urn:x|c -dog");
    check(&terminology, "urn:cut", "+urn:x|a ?urn:x|c -dog");
    check(&terminology, "urn:decided", "-urn:x|a +urn:x|c");
}

#[test]
fn versions_that_are_not_loaded_decide_nothing() {
    let terminology = terminology([
        animals(),
        value_set(
            "urn:this",
            json!({"include": [{"system": "urn:animals", "version": "1"}]}),
        ),
        value_set(
            "urn:other",
            json!({"include": [{"system": "urn:animals", "version": "2"}]}),
        ),
        value_set(
            "urn:listed",
            json!({"include": [{"system": "urn:animals", "version": "2", "concept": [{"code": "cat"}]}]}),
        ),
    ]);
    check(&terminology, "urn:this", "+dog -cat");
    check(&terminology, "urn:other", "?dog ?cat -urn:x|dog");
    check(&terminology, "urn:listed", "+cat -dog");
    check(&terminology, "urn:this|9", "+dog ?cat ?urn:x|dog");
    let lookup = |version, code| terminology.lookup("urn:animals", version, code);
    assert!(matches!(lookup(None, "cat"), Lookup::Unknown { .. }));
    assert!(matches!(lookup(Some("1"), "cat"), Lookup::Unknown { .. }));
    assert!(matches!(lookup(Some("2"), "cat"), Lookup::NotDecidable(_)));
    assert!(matches!(lookup(Some("2"), "dog"), Lookup::Known { .. }));
}

#[test]
fn malformed_includes_decide_nothing() {
    let terminology = terminology([
        animals(),
        value_set("urn:nothing", json!({"include": [{}]})),
        value_set("urn:empty", json!({"include": []})),
        value_set(
            "urn:mixed",
            json!({"include": [{"system": "urn:animals", "concept": [{"code": "dog"}], "filter": [{"property": "legs", "op": "=", "value": "4"}]}]}),
        ),
    ]);
    check(&terminology, "urn:nothing", "?dog");
    check(&terminology, "urn:empty", "?dog");
    check(&terminology, "urn:mixed", "?dog -urn:x|dog");
}

#[test]
fn grammars_and_lists_of_this_crate() {
    let whole = |system: &str| json!({"system": system});
    let terminology = terminology([value_set(
        "urn:set",
        json!({"include": [
            whole("http://unitsofmeasure.org"), whole("urn:ietf:bcp:47"), whole("urn:ietf:bcp:13"),
            whole("urn:iso:std:iso:4217"),
            {"system": "urn:iso:std:iso:3166", "filter": [{"property": "code", "op": "regex", "value": "[A-Z]{2}"}]}
        ]}),
    )]);
    check(
        &terminology,
        "urn:set",
        "+http://unitsofmeasure.org|mm[Hg] -http://unitsofmeasure.org|mmHg +urn:ietf:bcp:47|en-US \
         -urn:ietf:bcp:47|en_US ?urn:ietf:bcp:47|haw +urn:ietf:bcp:13|text/plain -urn:ietf:bcp:13|text \
         +urn:iso:std:iso:4217|USD -urn:iso:std:iso:4217|usd +urn:iso:std:iso:3166|US -urn:iso:std:iso:3166|USA",
    );
}

#[test]
fn additions_make_codes_known_and_none_unknown() {
    let observation_value = json!({
        "resourceType": "CodeSystem", "url": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
        "version": "2018-08-12", "content": "complete", "caseSensitive": true,
        "concept": [{"code": "_SECINTPRVABOBV", "concept": [{"code": "CLINAST"}]}]
    });
    let terminology = terminology([
        observation_value,
        value_set(
            "urn:asserted",
            json!({"include": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
            "filter": [{"property": "concept", "op": "is-a", "value": "_SECINTPRVABOBV"}]}]}),
        ),
        value_set(
            "urn:loinc",
            json!({"include": [{"system": "http://loinc.org"}]}),
        ),
    ]);
    const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
    let case = |code: &str| format!("{SYSTEM}|{code}");
    check(
        &terminology,
        "urn:asserted",
        &format!(
            "+{} +{} +{} -{}",
            case("AIAST"),
            case("DICTAST"),
            case("CLINAST"),
            case("AIRPT")
        ),
    );
    check(
        &terminology,
        "urn:loinc",
        "+http://loinc.org|59408-5 +http://loinc.org|2708-6 ?http://loinc.org|1234-5",
    );
    assert!(matches!(
        terminology.lookup(SYSTEM, None, "AIRPT"),
        Lookup::Unknown { .. }
    ));
}

#[test]
fn expansions_keep_order_and_know_their_limits() {
    let terminology = terminology([
        animals(),
        value_set(
            "urn:dogs",
            json!({"include": [
            {"system": "urn:x", "concept": [{"code": "z", "display": "Zed"}, {"code": "a"}]},
            {"system": "urn:animals", "filter": [{"property": "concept", "op": "is-a", "value": "dog"}]},
            {"system": "urn:animals", "concept": [{"code": "poodle"}]}],
            "exclude": [{"system": "urn:animals", "concept": [{"code": "dog"}]}]}),
        ),
        value_set(
            "urn:units",
            json!({"include": [{"system": "http://unitsofmeasure.org"}]}),
        ),
        value_set("urn:open", json!({"include": [{"system": "urn:unknown"}]})),
    ]);
    let codes = |url: &str, max: usize| -> Result<Vec<String>, NotExpandable> {
        Ok(terminology
            .set(url)
            .expand(max)?
            .into_iter()
            .map(|it| it.code)
            .collect())
    };
    assert_eq!(
        codes("urn:dogs", 10).unwrap(),
        ["z", "a", "poodle", "dachshund"]
    );
    assert_eq!(codes("urn:dogs", 3), Err(NotExpandable::TooMany(3)));
    assert!(matches!(
        codes("urn:units", 10),
        Err(NotExpandable::ByGrammar(_))
    ));
    assert!(matches!(
        codes("urn:open", 10),
        Err(NotExpandable::Undecided(_))
    ));
}

#[test]
fn subsumption_follows_every_parent() {
    let terminology = terminology([animals()]);
    let subsumes = |above, below| terminology.subsumes("urn:animals", above, below);
    for (above, below, wanted) in [
        ("animal", "poodle", Some(true)),
        ("poodle", "animal", Some(false)),
        ("swimmer", "penguin", Some(true)),
        ("animal", "penguin", Some(true)),
        ("dog", "dog", Some(true)),
        ("dog", "bird", Some(false)),
        ("dog", "cat", None),
    ] {
        assert_eq!(subsumes(above, below), wanted, "{above} {below}");
    }
    assert_eq!(terminology.subsumes("urn:x", "a", "b"), None);
}

#[test]
fn circles_of_many_sets_end() {
    // Each of forty sets imports all others: without limits, more ways than atoms.
    let sets = (0..40).map(|index| {
        let imports: Vec<Value> = (0..40)
            .filter(|it| *it != index)
            .map(|it| json!({"valueSet": [format!("urn:set:{it}")]}))
            .collect();
        value_set(&format!("urn:set:{index}"), json!({"include": imports}))
    });
    check(&terminology(sets), "urn:set:0", "?dog");
}

#[test]
fn supplements_add_words_and_properties_but_no_codes() {
    let supplement = json!({
        "resourceType": "CodeSystem", "url": "urn:more", "content": "supplement", "supplements": "urn:animals",
        "property": [{"code": "tame", "type": "boolean"}],
        "concept": [
            {"code": "dog", "designation": [{"value": "chien"}], "property": [{"code": "tame", "valueBoolean": true}]},
            {"code": "cat", "display": "Cat"}
        ]
    });
    let terminology = terminology([
        animals(),
        supplement,
        value_set(
            "urn:tame",
            json!({"include": [{"system": "urn:animals", "filter": [{"property": "tame", "op": "=", "value": "true"}]}]}),
        ),
    ]);
    check(&terminology, "urn:tame", "+dog -bird -cat");
    assert!(matches!(
        terminology.lookup("urn:animals", None, "cat"),
        Lookup::Unknown { .. }
    ));
    let Lookup::Known { system, row, .. } = terminology.lookup("urn:animals", None, "dog") else {
        panic!("not known");
    };
    let designations = &system.concept(row).unwrap().designations;
    assert_eq!(
        designations.iter().map(|it| &**it).collect::<Vec<_>>(),
        ["Hund", "chien"]
    );
}
