//! Limits: no expression and no input takes evaluation out of its bounds.

use super::{OBSERVATION, PATIENT, document, outcome};
use crate::fhirpath::*;

fn limited(text: &str) -> EvaluationErrorKind {
    let expression = Expression::parse(text).unwrap();
    let document = document(PATIENT);
    let root = ElementItem::resource(Definitions::r4(), document.root()).unwrap();
    let mut environment = Environment::of(Definitions::r4(), root);
    environment.limits.steps_max = 100_000;
    environment.limits.text_bytes_max = 10_000;
    environment.limits.items_max = 1_000;
    let error = expression
        .evaluate(&environment, Item::Element(root))
        .unwrap_err();
    *error.kind
}

#[test]
fn runaway_expressions_end() {
    let doubling = format!("'ab'{}", ".replace('', 'aaaaaaaa')".repeat(20));
    let crossing = "descendants().select(%resource.descendants().select(%resource.descendants().select(%resource.descendants().select(%resource.descendants())))).count()";
    for (text, limit) in [
        (doubling.as_str(), "the length of texts"),
        (crossing, "evaluation steps"),
        ("'x'.repeatAll('x')", "items of a collection"),
        ("1.repeatAll($this | $this + 1)", "items of a collection"),
        ("'x'.repeat($this & 'x')", "items of a collection"),
    ] {
        let kind = limited(text);
        let ok = match &kind {
            EvaluationErrorKind::Limit(which) => *which == limit || *which == "evaluation steps",
            _ => false,
        };
        assert!(ok, "{text}: {kind:?}");
    }
}

#[test]
fn deep_and_long_texts_are_refused() {
    for text in [
        "(".repeat(5_000),
        format!("{}1{}", "(".repeat(500), ")".repeat(500)),
        "-".repeat(5_000) + "1",
        vec!["a"; 500].join("."),
        vec!["1"; 500].join(" + "),
        vec!["true"; 3_000].join(" and "),
        "a.where(".repeat(200) + "true" + &")".repeat(200),
        " ".repeat(EXPRESSION_BYTES_MAX + 1),
        "1|".repeat(5_000) + "1",
    ] {
        assert!(
            Expression::parse(&text).is_err(),
            "{}",
            text.get(..20).unwrap()
        );
    }
}

/// The deepest expressions that are allowed, chained so that the recursion of parts adds up.
#[test]
fn the_deepest_evaluation_stays_on_the_stack() {
    let mut text = "true".to_owned();
    for _ in 0..40 {
        text = format!("$this.select($this).where({text})");
    }
    for wrapped in [
        text.clone(),
        format!("iif({text}.exists(), {text}, {text})"),
        vec!["(1)"; 90].join(" | "),
        format!("{}1{}", "iif(true, ".repeat(80), ")".repeat(80)),
        format!("{}1", "- ".repeat(80)),
        format!("id{}", ".select($this)".repeat(90)),
        format!("{}true", "true and (false or ".repeat(40)) + &")".repeat(40),
    ] {
        let own = outcome(PATIENT, &wrapped);
        assert!(!own.is_empty(), "{own}");
    }
}

mod random {
    use proptest::prelude::*;

    use super::*;

    fn expressions() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "$this",
            "name",
            "name.given",
            "value",
            "component",
            "code.coding",
            "1",
            "2.5",
            "0",
            "'a'",
            "''",
            "true",
            "{}",
            "@2020",
            "@2020-02-29",
            "@T10:30",
            "@2020-01-01T10:00:00Z",
            "4 days",
            "1 year",
            "5 'mg'",
            "2 'Cel'",
            "%resource",
            "%context",
            "birthDate",
            "id",
            "$index",
            "$total",
            "contained",
            "extension",
            "effective",
            "-1",
            "2147483647",
            "children()",
            "descendants()",
            "now()",
            "'(a+)+$'",
            "99999999999999999999.5",
        ])
        .prop_map(str::to_owned);
        leaf.prop_recursive(6, 48, 3, |inner| {
            let binary = prop::sample::select(vec![
                "and", "or", "xor", "implies", "=", "!=", "~", "!~", "<", "<=", ">", ">=", "|",
                "+", "-", "&", "*", "/", "div", "mod", "in", "contains",
            ]);
            let none = prop::sample::select(vec![
                "empty",
                "exists",
                "not",
                "count",
                "first",
                "last",
                "tail",
                "single",
                "distinct",
                "isDistinct",
                "children",
                "descendants",
                "toInteger",
                "toDecimal",
                "toString",
                "toDate",
                "toDateTime",
                "toTime",
                "toQuantity",
                "toBoolean",
                "length",
                "toChars",
                "trim",
                "upper",
                "abs",
                "ceiling",
                "floor",
                "truncate",
                "round",
                "sqrt",
                "exp",
                "ln",
                "lowBoundary",
                "highBoundary",
                "precision",
                "type",
                "hasValue",
                "resolve",
                "allTrue",
                "sort",
                "htmlChecks",
                "join",
                "yearOf",
                "timezoneOffsetOf",
                "convertsToQuantity",
            ]);
            let one = prop::sample::select(vec![
                "where",
                "select",
                "all",
                "exists",
                "repeat",
                "repeatAll",
                "aggregate",
                "union",
                "combine",
                "intersect",
                "exclude",
                "subsetOf",
                "skip",
                "take",
                "startsWith",
                "indexOf",
                "contains",
                "matches",
                "split",
                "join",
                "log",
                "power",
                "round",
                "lowBoundary",
                "highBoundary",
                "extension",
                "sort",
                "coalesce",
                "comparable",
                "defineVariable",
                "encode",
                "decode",
                "escape",
                "unescape",
                "trace",
                "memberOf",
                "toQuantity",
                "substring",
            ]);
            let two = prop::sample::select(vec![
                "replace",
                "replaceMatches",
                "iif",
                "substring",
                "aggregate",
                "trace",
            ]);
            let kind = prop::sample::select(vec![
                "Quantity",
                "string",
                "Integer",
                "Patient",
                "System.String",
                "Element",
            ]);
            prop_oneof![
                (inner.clone(), binary, inner.clone())
                    .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
                (inner.clone(), none).prop_map(|(a, f)| format!("({a}).{f}()")),
                (inner.clone(), one, inner.clone()).prop_map(|(a, f, b)| format!("({a}).{f}({b})")),
                (inner.clone(), two, inner.clone(), inner.clone())
                    .prop_map(|(a, f, b, c)| format!("({a}).{f}({b}, {c})")),
                (inner.clone(), kind.clone()).prop_map(|(a, t)| format!("({a} is {t})")),
                (inner.clone(), kind).prop_map(|(a, t)| format!("({a}).ofType({t})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
                inner.prop_map(|a| format!("(-{a})")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the expression, evaluation ends without panic, gives the same twice, and the condition
        /// agrees with the value.
        #[test]
        fn random_expressions_end(text in expressions()) {
            for resource in [PATIENT, OBSERVATION] {
                let Ok(expression) = Expression::parse(&text) else { continue };
                let document = document(resource);
                let root = ElementItem::resource(Definitions::r4(), document.root()).unwrap();
                let mut environment = Environment::of(Definitions::r4(), root);
                environment.limits.steps_max = 50_000;
                environment.limits.items_max = 2_000;
                environment.limits.text_bytes_max = 50_000;
                let _ = expression.check(Definitions::r4(), "Patient");
                let value = expression.evaluate(&environment, Item::Element(root));
                let truth = expression.truth(&environment, Item::Element(root));
                if let (Ok(items), Ok(truth)) = (value, truth) {
                    match &*items {
                        [] => prop_assert_eq!(truth, None),
                        [Item::Boolean(own)] => prop_assert_eq!(truth, Some(*own)),
                        [_] => prop_assert!(truth.is_some()),
                        _ => prop_assert!(false, "several items are no condition"),
                    }
                }
            }
        }

        /// Texts that are no expressions are refused, not suffered.
        #[test]
        fn random_texts_are_read_or_refused(text in "[a-z0-9'`\"%$@().,+*/|&=~!<>\\[\\]{} \\\\TZ:-]{0,60}") {
            let _ = Expression::parse(&text);
        }
    }
}
