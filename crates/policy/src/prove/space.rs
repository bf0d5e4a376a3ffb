//! The requests of one kind, all of them at once: changes of one type of resource, or calls of tools.
//!
//! Rows of the matrix and escalators are policies on two actions. Here both are read as policies on one, the
//! one that sees more, so that a question may be about what they say together. Rows see nothing of what is
//! added: the schema does not let them name it.

use cedar_policy::SchemaFragment;
use cedar_policy::{EntityId, EntityTypeName, EntityUid, Policy, PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::CompiledPolicySet;
use chaperone_core::gate::GateLevel;
use serde_json::Value;

use crate::bundle::Bundle;
use crate::embedded;
use crate::prove::ProofFailed;
use crate::prove::class;
use crate::prove::expr::{
    Expr, all, any, applies, attribute, folded, is_never, known, not, policy, replaced, truth,
};
use crate::prove::variant::Variant;
use crate::row::{Action, Escalator, Meaning, Row};
use crate::set::Entry;

/// One kind of request, with the schema that knows no other.
pub(super) struct Space {
    schema: Schema,
    requests: RequestEnv,
    action: Action,
}

impl Space {
    /// Changes of a type.
    pub(super) fn of_changes(schema: &Value, resource: &str) -> Result<Space, ProofFailed> {
        Space::new(schema, Action::Escalate, resource)
    }

    /// Calls.
    pub(super) fn of_calls() -> Result<Space, ProofFailed> {
        Space::new(&schema()?, Action::Access, "Tool")
    }

    fn new(schema: &Value, action: Action, resource: &str) -> Result<Space, ProofFailed> {
        let failed = |error: &dyn std::fmt::Display| ProofFailed::NotCompiled(error.to_string());
        let mut schema = schema.clone();
        let kept = |value: &mut Value, names: &[&str]| {
            if let Some(members) = value.as_object_mut() {
                members.retain(|name, _| names.contains(&name.as_str()));
            }
        };
        if let Some(types) = schema.pointer_mut("//entityTypes") {
            kept(types, &["Agent", resource]);
        }
        if let Some(actions) = schema.pointer_mut("//actions") {
            kept(actions, &[action.as_str()]);
        }
        let applies_to = format!("//actions/{}/appliesTo/resourceTypes", action.as_str());
        if let Some(types) = schema.pointer_mut(&applies_to) {
            *types = serde_json::json!([resource]);
        }
        let type_name = |name: &str| {
            name.parse::<EntityTypeName>()
                .map_err(|error| failed(&error))
        };
        let uid =
            EntityUid::from_type_name_and_id(type_name("Action")?, EntityId::new(action.as_str()));
        Ok(Space {
            schema: Schema::from_json_value(schema).map_err(|error| failed(&error))?,
            requests: RequestEnv::new(type_name("Agent")?, uid, type_name(resource)?),
            action,
        })
    }

    /// A set of policies, from conditions of permits and of prohibitions.
    pub(super) fn compiled(
        &self,
        permits: &[Expr],
        prohibitions: &[Expr],
    ) -> Result<CompiledPolicySet, ProofFailed> {
        let named = |kind: &str, permits: bool, conditions: &[Expr]| {
            conditions
                .iter()
                .enumerate()
                .map(|(number, condition)| {
                    policy(
                        &format!("{kind}-{number}"),
                        permits,
                        self.action.as_str(),
                        condition,
                    )
                })
                .collect::<Result<Vec<Policy>, ProofFailed>>()
        };
        let mut policies = named("permit", true, permits)?;
        policies.extend(named("forbid", false, prohibitions)?);
        let failed = |error: &dyn std::fmt::Display| ProofFailed::NotCompiled(error.to_string());
        let set = PolicySet::from_policies(policies).map_err(|error| failed(&error))?;
        CompiledPolicySet::compile(&set, &self.requests, &self.schema)
            .map_err(|error| ProofFailed::not_compiled(&error))
    }

    /// One policy.
    pub(super) fn compiled_one(
        &self,
        condition: &Expr,
    ) -> Result<cedar_policy_symcc::CompiledPolicy, ProofFailed> {
        let policy = policy("one", true, self.action.as_str(), condition)?;
        cedar_policy_symcc::CompiledPolicy::compile(&policy, &self.requests, &self.schema)
            .map_err(|error| ProofFailed::not_compiled(&error))
    }
}

/// The schema of this release, in Cedar's JSON form.
pub(super) fn schema() -> Result<Value, ProofFailed> {
    SchemaFragment::from_cedarschema_str(embedded::schema())
        .map_err(|error| ProofFailed::NotCompiled(error.to_string()))
        .and_then(|(fragment, _)| {
            fragment
                .to_json_value()
                .map_err(|error| ProofFailed::NotCompiled(error.to_string()))
        })
}

/// A row with when it applies.
#[derive(Clone)]
pub(super) struct RowRule<'b> {
    pub(super) entry: &'b Entry,
    pub(super) row: &'b Row,
    pub(super) applies: Expr,
}

/// An escalator with when it applies.
#[derive(Clone)]
pub(super) struct EscalatorRule<'b> {
    pub(super) entry: &'b Entry,
    pub(super) escalator: &'b Escalator,
    pub(super) applies: Expr,
}

/// What the policies say of changes of one type, with the class written out.
#[derive(Clone)]
pub(super) struct Rules<'b> {
    pub(super) rows: Vec<RowRule<'b>>,
    pub(super) escalators: Vec<EscalatorRule<'b>>,
    /// Prohibitions, and what is refused before policies are asked.
    prohibitions: Vec<Expr>,
    resource: String,
    /// The class.
    class: Expr,
    /// What every request is like.
    pub(super) well_formed: Expr,
}

impl<'b> Rules<'b> {
    /// Those of a type.
    pub(super) fn of(bundle: &'b Bundle, resource: &str) -> Rules<'b> {
        let class = class::class(resource);
        let mut rules = Rules {
            rows: Vec::new(),
            escalators: Vec::new(),
            prohibitions: vec![class::unclassifiable(resource)],
            well_formed: all([class::well_formed(), said_once(bundle)]),
            resource: resource.to_owned(),
            class,
        };
        for entry in bundle.sets.in_order() {
            let form = bundle.sets.form(entry.id.as_str());
            let limit = form.and_then(|form| form.pointer("/resource/entity_type"));
            let elsewhere = limit.is_some_and(|name| name.as_str() != Some(resource));
            let Some(form) = form.filter(|_| entry.action != Action::Access && !elsewhere) else {
                continue;
            };
            let applies = rules.written_out(&applies(form));
            if is_never(&applies) {
                continue;
            }
            match &entry.meaning {
                Meaning::Row(row) => rules.rows.push(RowRule {
                    entry,
                    row,
                    applies,
                }),
                Meaning::Escalator(escalator) => rules.escalators.push(EscalatorRule {
                    entry,
                    escalator,
                    applies,
                }),
                Meaning::Prohibition(_) => rules.prohibitions.push(applies),
                Meaning::Access => {}
            }
        }
        rules
    }

    /// An expression with type and class written out, as every one here has them.
    pub(super) fn written_out(&self, expr: &Expr) -> Expr {
        let name = attribute("context", "class");
        let written = replaced(expr, &|part| {
            if *part == name {
                return Some(self.class.clone());
            }
            let asked = part.get("is").filter(|asked| {
                asked.pointer("/left/Var").and_then(Value::as_str) == Some("resource")
            })?;
            let named = asked.get("entity_type").and_then(Value::as_str);
            Some(truth(named == Some(self.resource.as_str())))
        });
        folded(&written)
    }

    /// The same for a variant of every request.
    pub(super) fn under(&self, variant: &Variant) -> Result<Rules<'b>, ProofFailed> {
        let mut changed = self.clone();
        for row in &mut changed.rows {
            row.applies = variant.of(&row.applies)?;
        }
        for escalator in &mut changed.escalators {
            escalator.applies = variant.of(&escalator.applies)?;
        }
        for prohibition in &mut changed.prohibitions {
            *prohibition = variant.of(prohibition)?;
        }
        changed.class = variant.of(&changed.class)?;
        changed.well_formed = variant.of(&changed.well_formed)?;
        Ok(changed)
    }

    /// Whether two forms look the same to every policy.
    pub(super) fn is_same(&self, other: &Rules<'b>) -> bool {
        self.conditions().eq(other.conditions())
    }

    /// Every condition.
    pub(super) fn conditions(&self) -> impl Iterator<Item = &Expr> {
        let rows = self.rows.iter().map(|row| &row.applies);
        let escalators = self.escalators.iter().map(|one| &one.applies);
        rows.chain(escalators).chain(&self.prohibitions)
    }

    /// When escalators and prohibitions apply, in an order that every form shares.
    pub(super) fn raising(&self) -> Vec<&Expr> {
        let escalators = self.escalators.iter().map(|one| &one.applies);
        escalators.chain(&self.prohibitions).collect()
    }

    /// What is permitted with a gate up to a level: conditions of permits and of prohibitions. No permits
    /// where nothing is.
    pub(super) fn up_to(&self, level: GateLevel) -> (Vec<Expr>, Vec<Expr>) {
        let light = |row: &&RowRule<'_>| row.row.gate.level() <= level;
        let permits = self
            .rows
            .iter()
            .filter(light)
            .map(|row| row.applies.clone())
            .collect();
        let heavier = self.heavier(level);
        (
            permits,
            self.prohibitions.iter().cloned().chain(heavier).collect(),
        )
    }

    /// What is permitted with a gate above a level.
    pub(super) fn above(&self, level: GateLevel) -> (Vec<Expr>, Vec<Expr>) {
        let heavier = self.heavier(level);
        let (permits, mut prohibitions) = self.up_to(GateLevel::TwoPerson);
        // Each is a policy of its own: what is written into one expression grows with every operator around it.
        let rows = self.rows.iter().filter(|row| row.row.gate.level() > level);
        let permits = if rows.clone().count() == heavier.len() {
            rows.map(|row| row.applies.clone()).collect()
        } else {
            prohibitions.push(not(&any(heavier)));
            permits
        };
        (permits, prohibitions)
    }

    /// The levels at which something is told apart.
    pub(super) fn levels(&self) -> Vec<GateLevel> {
        let mut known = Vec::new();
        let mut levels = Vec::new();
        for level in GateLevel::ALL {
            let heavier = self.heavier(level);
            let light = self.up_to(level).0.len();
            if level < GateLevel::Deny && light > 0 && !known.contains(&(light, heavier.len())) {
                known.push((light, heavier.len()));
                levels.push(level);
            }
        }
        levels
    }

    fn heavier(&self, level: GateLevel) -> Vec<Expr> {
        let rows = self
            .rows
            .iter()
            .filter(|row| row.row.gate.level() > level)
            .map(|row| row.applies.clone());
        let escalators = self
            .escalators
            .iter()
            .filter(|one| one.escalator.level > level)
            .map(|one| one.applies.clone());
        rows.chain(escalators).collect()
    }

    /// The guard in code that refuses what weighs more than its row was signed for.
    pub(super) fn class_mismatches(&self) -> Vec<Expr> {
        use chaperone_core::change::ChangeClass;
        self.rows
            .iter()
            .map(|row| {
                let heavier: Vec<String> = ChangeClass::ALL
                    .into_iter()
                    .filter(|class| *class > row.row.class)
                    .map(|class| class.to_string())
                    .collect();
                let heavier: Vec<&str> = heavier.iter().map(String::as_str).collect();
                all([
                    row.applies.clone(),
                    crate::prove::expr::one_of(&self.class, &heavier),
                ])
            })
            .collect()
    }
}

/// No fact is established and claimed at once: a request holds each name once.
fn said_once(bundle: &Bundle) -> Expr {
    let claimed = claims_read(bundle);
    all(claimed
        .iter()
        .map(|name| not(&all([known("facts", name), known("claimed", name)]))))
}

/// The facts whose claims some policy reads.
pub(super) fn claims_read(bundle: &Bundle) -> Vec<String> {
    let mut names = std::collections::BTreeSet::new();
    let record = attribute("context", "claimed");
    for entry in bundle.sets.in_order() {
        if let Some(form) = bundle.sets.form(entry.id.as_str()) {
            attributes_of(form, &record, &mut names);
        }
    }
    names.into_iter().collect()
}

fn attributes_of(expr: &Expr, record: &Expr, names: &mut std::collections::BTreeSet<String>) {
    match expr {
        Value::Object(members) => {
            for operator in [".", "has"] {
                let operands = members.get(operator);
                if operands.and_then(|operands| operands.get("left")) == Some(record) {
                    names.extend(
                        operands
                            .and_then(|operands| operands.get("attr"))
                            .and_then(Value::as_str)
                            .map(str::to_owned),
                    );
                }
            }
            for member in members.values() {
                attributes_of(member, record, names);
            }
        }
        Value::Array(items) => {
            for item in items {
                attributes_of(item, record, names);
            }
        }
        _ => {}
    }
}
