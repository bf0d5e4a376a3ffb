//! A request for a ruling, as Cedar sees it: the change as an entity, facts by what they stand on.
//!
//! Nothing is decided here. Built in code rather than from JSON, since it happens on every proposal.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityUid, RestrictedExpression};
use chaperone_core::change::{Audience, Change, ChangeClass, Destination, Direction};
use chaperone_core::facts::{Fact, FactKind, FactValue};
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::Code;

use crate::bundle::Bundle;
use crate::facts;
use crate::row::Action;
use crate::ruling::RulingFailed;
use crate::set::Verdict;

/// A request, translated for Cedar once and asked twice.
pub(crate) struct Question<'b, 'r> {
    bundle: &'b Bundle,
    request: &'r WriteRequest,
    class: ChangeClass,
    principal: EntityUid,
    proposal: EntityUid,
    entities: Entities,
    established: RestrictedExpression,
    claimed: RestrictedExpression,
}

impl<'b, 'r> Question<'b, 'r> {
    pub(crate) fn new(
        bundle: &'b Bundle,
        request: &'r WriteRequest,
        class: ChangeClass,
    ) -> Result<Self, RulingFailed> {
        let proposal = bundle
            .sets
            .proposal(request.change.resource.as_str())
            .ok_or(RulingFailed::NotAsked)?;
        let entity = Entity::new(
            proposal.clone(),
            attributes(&request.change),
            HashSet::new(),
        )
        .map_err(|_| RulingFailed::NotAsked)?;
        let entities =
            Entities::from_entities([entity], None).map_err(|_| RulingFailed::NotAsked)?;
        let mut established = BTreeMap::new();
        let mut claimed = BTreeMap::new();
        for (name, fact) in request.facts.iter() {
            match stands(name, fact)? {
                Standing::Established => established.insert(name.to_owned(), value(&fact.value)),
                Standing::Claimed => claimed.insert(name.to_owned(), value(&fact.value)),
                Standing::Unread => None,
            };
        }
        Ok(Self {
            bundle,
            request,
            class,
            principal: bundle.sets.agent(request.agent.as_str()),
            proposal,
            entities,
            established: record(established)?,
            claimed: record(claimed)?,
        })
    }

    pub(crate) fn ask(&self, action: Action) -> Result<Verdict<'b>, RulingFailed> {
        let verdict = self
            .bundle
            .sets
            .ask(
                action,
                self.principal.clone(),
                self.proposal.clone(),
                self.context(action)?,
                &self.entities,
            )
            .map_err(|_| RulingFailed::NotAsked)?;
        if verdict.failed.is_empty() {
            Ok(verdict)
        } else {
            Err(RulingFailed::Evaluation {
                policies: verdict.failed,
            })
        }
    }

    /// Whether a statement about escalations speaks of this request.
    #[cfg(feature = "prove")]
    pub(crate) fn is_spoken_of(&self, by: &cedar_policy::PolicySet) -> Result<bool, RulingFailed> {
        let uid = self.bundle.sets.action(Action::Escalate);
        let request = cedar_policy::Request::new(
            self.principal.clone(),
            uid.ok_or(RulingFailed::NotAsked)?,
            self.proposal.clone(),
            self.context(Action::Escalate)?,
            None,
        )
        .map_err(|_| RulingFailed::NotAsked)?;
        let answer = cedar_policy::Authorizer::new().is_authorized(&request, by, &self.entities);
        Ok(answer.diagnostics().reason().next().is_some())
    }

    fn context(&self, action: Action) -> Result<Context, RulingFailed> {
        let mut pairs = vec![
            ("intent".to_owned(), text(self.request.intent.as_str())),
            ("tool".to_owned(), text(self.request.tool.as_str())),
            ("facts".to_owned(), self.established.clone()),
        ];
        if action == Action::Escalate {
            pairs.push(("class".to_owned(), text(&self.class.to_string())));
            pairs.push((
                "tainted".to_owned(),
                RestrictedExpression::new_bool(self.request.tainted),
            ));
            pairs.push(("claimed".to_owned(), self.claimed.clone()));
        }
        Context::from_pairs(pairs).map_err(|_| RulingFailed::NotAsked)
    }
}

/// On what standing a fact is shown to policies.
enum Standing {
    Established,
    Claimed,
    /// A claim that no policy can read.
    Unread,
}

fn stands(name: &str, fact: &Fact) -> Result<Standing, RulingFailed> {
    let unsuitable = |why| RulingFailed::FactUnsuitable {
        name: name.to_owned(),
        why,
    };
    // An attestation that is not bound to the payload says nothing about this change.
    let claimed = fact.kind == FactKind::Claimed
        || (fact.kind == FactKind::Attested && fact.bound_to.is_none());
    let Some(known) = facts::lookup(name) else {
        return if claimed {
            Ok(Standing::Unread)
        } else {
            Err(unsuitable("is not in the vocabulary"))
        };
    };
    if !known.fact_type.holds(&fact.value) {
        return Err(unsuitable("has the wrong type"));
    }
    if claimed {
        Ok(Standing::Claimed)
    } else if known.kinds.contains(&fact.kind) {
        Ok(Standing::Established)
    } else {
        Err(unsuitable("cannot be established on this authority"))
    }
}

fn value(fact: &FactValue) -> RestrictedExpression {
    match fact {
        FactValue::Bool(value) => RestrictedExpression::new_bool(*value),
        FactValue::Long(value) => RestrictedExpression::new_long(*value),
        FactValue::Text(value) => text(value),
        FactValue::Set(values) => set(values.iter().map(String::as_str)),
    }
}

fn record(
    fields: BTreeMap<String, RestrictedExpression>,
) -> Result<RestrictedExpression, RulingFailed> {
    RestrictedExpression::new_record(fields).map_err(|_| RulingFailed::NotAsked)
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn set<'a>(values: impl Iterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.map(text))
}

/// A direction as policies see it.
pub(crate) fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Neutral => "neutral",
        Direction::MorePrivate => "more_private",
        Direction::LessPrivate => "less_private",
    }
}

/// An audience as policies see it; empty for none.
pub(crate) fn audience_name(audience: Option<Audience>) -> &'static str {
    match audience {
        None => "",
        Some(Audience::Patient) => "patient",
        Some(Audience::CareTeam) => "care_team",
    }
}

/// A change as the entity that policies see; the attributes of `policies/schema.cedarschema`.
pub(crate) fn attributes(change: &Change) -> HashMap<String, RestrictedExpression> {
    let code = |code: &Option<Code>| text(code.as_ref().map_or("", Code::as_str));
    let destination = match change.destination {
        Destination::Staged => "staged",
        Destination::Ehr => "ehr",
    };
    HashMap::from([
        ("interaction".to_owned(), text(change.interaction.as_str())),
        ("destination".to_owned(), text(destination)),
        ("from".to_owned(), code(&change.from)),
        ("to".to_owned(), code(&change.to)),
        ("clinical_status".to_owned(), code(&change.clinical_status)),
        ("request_intent".to_owned(), code(&change.request_intent)),
        (
            "categories".to_owned(),
            set(change.categories.iter().map(Code::as_str)),
        ),
        (
            "elements".to_owned(),
            set(change.elements.iter().map(String::as_str)),
        ),
        (
            "direction".to_owned(),
            text(direction_name(change.direction)),
        ),
        ("audience".to_owned(), text(audience_name(change.audience))),
        (
            "from_template".to_owned(),
            RestrictedExpression::new_bool(change.from_template),
        ),
    ])
}
