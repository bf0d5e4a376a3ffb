//! The class of a change as an expression: the rules of `chaperone_core::weight` in Cedar.
//!
//! A translation and no second opinion: a test compares it with [`Change::class`] over many changes.
//!
//! [`Change::class`]: chaperone_core::change::Change::class

use chaperone_core::change::{Audience, ChangeClass, Direction};
use chaperone_core::resource::Interaction;
use chaperone_core::weight::{self, Condition};

use crate::prove::expr::{
    Expr, all, any, attribute, choose, equals, meets, not, one_of, text, truth, within,
};
use crate::question::{audience_name, direction_name};

/// The class of a change of a type.
pub(super) fn class(resource: &str) -> Expr {
    let rules: Vec<_> = weight::of_type(resource).collect();
    // What has no class is excluded by `unclassifiable`; the gravest stands in its place.
    let written = rules
        .iter()
        .rev()
        .fold(text(&ChangeClass::M5.to_string()), |rest, rule| {
            let class = rule.class.unwrap_or(ChangeClass::M5);
            choose(&condition(rule.when), &text(&class.to_string()), &rest)
        });
    let staged = equals(&attribute("resource", "destination"), &text("staged"));
    choose(
        &is(Interaction::Delete),
        &text(&ChangeClass::M5.to_string()),
        &choose(&staged, &text(&ChangeClass::M0.to_string()), &written),
    )
}

/// Whether a change of a type has no class, so that it is refused before policies are asked.
pub(super) fn unclassifiable(resource: &str) -> Expr {
    let rules: Vec<_> = weight::of_type(resource).collect();
    if rules.iter().all(|rule| rule.class.is_some()) && !rules.is_empty() {
        return truth(false);
    }
    let unknown = rules.iter().rev().fold(truth(true), |rest, rule| {
        choose(&condition(rule.when), &truth(rule.class.is_none()), &rest)
    });
    all([not(&is(Interaction::Delete)), unknown])
}

fn is(interaction: Interaction) -> Expr {
    equals(
        &attribute("resource", "interaction"),
        &text(interaction.as_str()),
    )
}

fn condition(rule: Condition) -> Expr {
    let of = |name| attribute("resource", name);
    match rule {
        Condition::All(parts) => all(parts.iter().map(|part| condition(*part))),
        Condition::Any(parts) => any(parts.iter().map(|part| condition(*part))),
        Condition::Not(inner) => not(&condition(*inner)),
        Condition::Is(interaction) => is(interaction),
        Condition::To(statuses) => one_of(&of("to"), statuses),
        Condition::Clinical(statuses) => one_of(&of("clinical_status"), statuses),
        Condition::Categorised(codes) => meets(&of("categories"), codes),
        Condition::Touches(elements) => meets(&of("elements"), elements),
        Condition::OnlyTouches(elements) => within(&of("elements"), elements),
        Condition::Towards(direction) => equals(&of("direction"), &text(direction_name(direction))),
        Condition::Reaches(audience) => {
            equals(&of("audience"), &text(audience_name(Some(audience))))
        }
        Condition::FromTemplate => of("from_template"),
    }
}

/// Values that requests are built with, and no others: what the types of the core allow.
pub(super) fn well_formed() -> Expr {
    let of = |name| attribute("resource", name);
    let audiences = [None, Some(Audience::Patient), Some(Audience::CareTeam)].map(audience_name);
    let directions = [
        Direction::Neutral,
        Direction::MorePrivate,
        Direction::LessPrivate,
    ]
    .map(direction_name);
    let interactions = [
        Interaction::Create,
        Interaction::Update,
        Interaction::Delete,
    ]
    .map(Interaction::as_str);
    all([
        one_of(&of("interaction"), &interactions),
        one_of(&of("destination"), &["staged", "ehr"]),
        one_of(&of("direction"), &directions),
        one_of(&of("audience"), &audiences),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::{
        Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request,
    };
    use chaperone_core::change::{Change, Destination};
    use chaperone_core::resource::{Code, ResourceType};
    use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert_eq, proptest};
    use std::collections::{BTreeMap, BTreeSet, HashSet};
    use std::sync::LazyLock;

    fn texts(of: fn(Condition, &mut BTreeSet<&'static str>)) -> Vec<&'static str> {
        let mut found = BTreeSet::from(["something-else"]);
        for rule in weight::WEIGHTS {
            of(rule.when, &mut found);
        }
        found.into_iter().filter(|text| !text.is_empty()).collect()
    }

    fn statuses(rule: Condition, found: &mut BTreeSet<&'static str>) {
        match rule {
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().for_each(|part| statuses(*part, found));
            }
            Condition::Not(inner) => statuses(*inner, found),
            Condition::To(texts) | Condition::Clinical(texts) => found.extend(texts),
            _ => {}
        }
    }

    fn members(rule: Condition, found: &mut BTreeSet<&'static str>) {
        match rule {
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().for_each(|part| members(*part, found));
            }
            Condition::Not(inner) => members(*inner, found),
            Condition::Categorised(texts)
            | Condition::Touches(texts)
            | Condition::OnlyTouches(texts) => found.extend(texts),
            _ => {}
        }
    }

    /// One permit for each class of each type, and one for what has none.
    static CLASSES: LazyLock<BTreeMap<&'static str, PolicySet>> = LazyLock::new(|| {
        let types: BTreeSet<&str> = weight::WEIGHTS
            .iter()
            .flat_map(|rule| rule.resources)
            .copied()
            .collect();
        types
            .into_iter()
            .map(|resource| {
                let named = |class: ChangeClass| {
                    let condition = all([
                        not(&unclassifiable(resource)),
                        equals(&super::class(resource), &text(&class.to_string())),
                    ]);
                    crate::prove::expr::policy(&class.to_string(), true, "escalate", &condition)
                        .unwrap()
                };
                let set = PolicySet::from_policies(ChangeClass::ALL.map(named)).unwrap();
                (resource, set)
            })
            .collect()
    });

    fn translated(change: &Change) -> Option<ChangeClass> {
        let uid: EntityUid = format!("{}::\"proposal\"", change.resource)
            .parse()
            .unwrap();
        let entity = Entity::new(
            uid.clone(),
            crate::question::attributes(change),
            HashSet::new(),
        )
        .unwrap();
        let request = Request::new(
            "Agent::\"a\"".parse().unwrap(),
            "Action::\"escalate\"".parse().unwrap(),
            uid,
            Context::empty(),
            None,
        )
        .unwrap();
        let entities = Entities::from_entities([entity], None).unwrap();
        let answer = Authorizer::new().is_authorized(
            &request,
            &CLASSES[change.resource.as_str()],
            &entities,
        );
        assert!(answer.diagnostics().errors().next().is_none());
        let named: Vec<String> = answer
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect();
        match named.as_slice() {
            [] => {
                assert_eq!(answer.decision(), Decision::Deny);
                None
            }
            [one] => ChangeClass::parse(one),
            _ => panic!("more than one class: {named:?}"),
        }
    }

    fn any_change() -> impl Strategy<Value = Change> {
        let types: Vec<&'static str> = CLASSES.keys().copied().collect();
        let code = prop::option::of(prop::sample::select(texts(statuses)));
        let some = prop::collection::btree_set(prop::sample::select(texts(members)), 0..4);
        (
            prop::sample::select(types),
            prop::sample::select(vec![
                Interaction::Create,
                Interaction::Update,
                Interaction::Delete,
            ]),
            prop::sample::select(vec![
                Destination::Ehr,
                Destination::Ehr,
                Destination::Staged,
            ]),
            (code.clone(), code),
            (some.clone(), some),
            prop::sample::select(vec![
                Direction::Neutral,
                Direction::MorePrivate,
                Direction::LessPrivate,
            ]),
            prop::sample::select(vec![
                None,
                Some(Audience::Patient),
                Some(Audience::CareTeam),
            ]),
            prop::bool::ANY,
        )
            .prop_map(
                |(
                    resource,
                    interaction,
                    destination,
                    (to, clinical),
                    (categories, elements),
                    direction,
                    audience,
                    from_template,
                )| {
                    let code = |text: Option<&str>| text.map(|text| Code::new(text).unwrap());
                    Change {
                        resource: ResourceType::new(resource).unwrap(),
                        interaction,
                        destination,
                        from: None,
                        to: code(to),
                        clinical_status: code(clinical),
                        request_intent: None,
                        categories: categories
                            .into_iter()
                            .map(|c| Code::new(c).unwrap())
                            .collect(),
                        elements: elements.into_iter().map(str::to_owned).collect(),
                        direction,
                        audience,
                        from_template,
                    }
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

        #[test]
        fn the_class_in_proofs_is_the_computed_one(change in any_change()) {
            prop_assert_eq!(translated(&change), change.class().ok());
        }
    }
}
