//! What is asked for each kind of statement about changes, and how an answer becomes a finding.
//!
//! Questions are about what the policies say on their own. The guards in code (the write scope, the class a
//! row was signed for, the floor) only refuse, so "at least" holds for rulings when it holds for policies. A
//! request that the solver finds is asked of the policies and of the ordinary ruling before it is reported;
//! where they do not agree with the solver (nobody holds every role that is asked for, which levels do not
//! say), exactly that combination of policies is set aside and the question put again.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Policy, PolicySet};
use cedar_policy_symcc::{CompiledPolicySet, Env, err::Error};
use chaperone_core::gate::GateLevel;
use chaperone_core::principal::Role;

use crate::invariants::{Claim, Invariant, Than};
use crate::prove::expr::{Expr, all, applies, can_fail, is_never, not};
use crate::prove::port::{Solver, at_once};
use crate::prove::report::{Outcome, Said, Shown};
use crate::prove::space::Rules;
use crate::prove::variant::{Variant, elements_named};
use crate::prove::witness::Asked;
use crate::prove::{Kind, ProofFailed, Prover};
use crate::row::Demand;
use crate::ruling::Unguarded;
use crate::set::Entry;

/// How often a question is put again after a combination of policies was set aside.
const SET_ASIDE_MAX: usize = 16;

/// A request, and with which other it is compared.
type Sides = Vec<(String, Asked)>;

/// What is wrong with a request; `None` when nothing is.
type Breaks<'f> = &'f dyn Fn(&Asked) -> Option<(String, Sides)>;

/// What a solver found, if anything.
type Model = Result<Option<Env>, ProofFailed>;

/// A statement about changes of one type.
struct Matter<'m, 'b> {
    kind: &'m Kind<'b>,
    resource: &'m str,
    /// Of which requests it speaks, with the class written out.
    premise: Expr,
    /// The same for concrete requests.
    spoken: &'m PolicySet,
}

impl<'b, S: Solver + Send> Prover<'b, '_, S> {
    /// Proves a statement about changes.
    pub(super) fn changes(
        &mut self,
        statement: &Invariant,
        spaces: &BTreeMap<String, Kind<'b>>,
    ) -> Result<Outcome, ProofFailed> {
        let spoken = Policy::from_json(None, statement.form.clone())
            .map_err(|error| ProofFailed::NotCompiled(error.to_string()))
            .and_then(|policy| {
                PolicySet::from_policies([policy])
                    .map_err(|error| ProofFailed::NotCompiled(error.to_string()))
            })?;
        let limit = statement.form.pointer("/resource/entity_type");
        let limit = limit.and_then(serde_json::Value::as_str);
        let condition = applies(&statement.form);
        let matters: Vec<Matter<'_, 'b>> = spaces
            .iter()
            .filter(|(resource, _)| limit.is_none_or(|limit| limit == resource.as_str()))
            .map(|(resource, kind)| Matter {
                kind,
                resource,
                premise: kind
                    .rules
                    .written_out(&all([kind.rules.well_formed.clone(), condition.clone()])),
                spoken: &spoken,
            })
            .filter(|matter| !is_never(&matter.premise))
            .collect();
        for matter in &matters {
            let found = match statement.claim {
                Claim::NeverPermitted => self.at_least(matter, GateLevel::Deny)?,
                Claim::AtLeast(level) => self.at_least(matter, level)?,
                Claim::AtMost(level) => self.at_most(matter, level)?,
                Claim::NoWeaker(than) => self.no_weaker(matter, than)?,
                Claim::StaysWith(role) => self.stays_with(matter, role)?,
                Claim::NeverFailing => self.never_failing(matter)?,
            };
            if let Some(outcome) = found {
                return Ok(outcome);
            }
        }
        for matter in &matters {
            if self.says_something(matter, statement.claim)? {
                return Ok(Outcome::Holds);
            }
        }
        Ok(Outcome::Vacuous {
            why: match statement.claim {
                Claim::NoWeaker(_) => "there is nothing to compare: no request that it speaks of is treated differently in the two forms",
                Claim::StaysWith(_) => "no row leaves a request that it speaks of to this role",
                _ => "no request matches it, so it says nothing",
            }
            .to_owned(),
        })
    }

    fn at_least(
        &mut self,
        matter: &Matter<'_, 'b>,
        level: GateLevel,
    ) -> Result<Option<Outcome>, ProofFailed> {
        let rules = &matter.kind.rules;
        let Some(below) = GateLevel::ALL
            .into_iter()
            .rev()
            .find(|known| *known < level)
        else {
            return Ok(None);
        };
        if rules.up_to(below).0.is_empty() {
            return Ok(None);
        }
        let premise = matter
            .kind
            .space
            .compiled(std::slice::from_ref(&matter.premise), &[])?;
        let bundle = self.bundle;
        let breaks = |asked: &Asked| {
            let policies = weighed(bundle, matter.spoken, asked)?;
            let given = policies.gate.level();
            (given < level).then(|| {
                let wrong = format!("the policies ask for {}", policies.gate);
                (wrong, vec![(String::new(), asked.clone())])
            })
        };
        self.search(
            matter,
            rules,
            &Variant::Same,
            &breaks,
            &mut |prover, aside| {
                let key = format!("{} up to {}", matter.resource, below.as_str());
                let light = prover.level_set(matter, &key, rules.up_to(below), aside)?;
                prover.in_both(&light, &premise)
            },
        )
    }

    fn at_most(
        &mut self,
        matter: &Matter<'_, 'b>,
        level: GateLevel,
    ) -> Result<Option<Outcome>, ProofFailed> {
        let rules = &matter.kind.rules;
        let (permits, mut prohibitions) = rules.up_to(level);
        prohibitions.extend(rules.class_mismatches());
        let light = matter.kind.space.compiled(&permits, &prohibitions)?;
        let bundle = self.bundle;
        let breaks = |asked: &Asked| {
            weighed(bundle, matter.spoken, asked)?;
            let ruled = bundle.rule(&asked.request(bundle).ok()?).ok()?;
            let given = &ruled.record().gate;
            (given.level() > level).then(|| {
                (
                    format!("the ruling is {given}"),
                    vec![(String::new(), asked.clone())],
                )
            })
        };
        self.search(
            matter,
            rules,
            &Variant::Same,
            &breaks,
            &mut |prover, aside| {
                let premise = matter
                    .kind
                    .space
                    .compiled(std::slice::from_ref(&matter.premise), aside)?;
                prover.in_first_alone(&premise, &light)
            },
        )
    }

    fn no_weaker(
        &mut self,
        matter: &Matter<'_, 'b>,
        than: Than,
    ) -> Result<Option<Outcome>, ProofFailed> {
        if matter.kind.rules.rows.is_empty() {
            return Ok(None);
        }
        for (form, other) in self.pairs(matter, than) {
            let (these, those) = (
                matter.kind.rules.under(&form)?,
                matter.kind.rules.under(&other)?,
            );
            if these.is_same(&those) {
                continue;
            }
            let premise = form.of(&matter.premise)?;
            if self.each_policy_only_raises(matter, &premise, &these, &those)? {
                continue;
            }
            let found = self.lowered(matter, than, &premise, (&form, &these), (&other, &those))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn pairs(&self, matter: &Matter<'_, 'b>, than: Than) -> Vec<(Variant, Variant)> {
        let rules = &matter.kind.rules;
        let mut elements = BTreeSet::new();
        for condition in rules.conditions() {
            elements_named(condition, &mut elements);
        }
        Variant::pairs(than, &self.claims, &elements)
    }

    /// Whether rows do not see the difference, and whatever escalates or prohibits in the other form does
    /// so in this one: then the gate is no weaker, because one escalator more never asks for less.
    fn each_policy_only_raises(
        &mut self,
        matter: &Matter<'_, 'b>,
        premise: &Expr,
        these: &Rules<'b>,
        those: &Rules<'b>,
    ) -> Result<bool, ProofFailed> {
        let rows = these.rows.iter().zip(&those.rows);
        if rows
            .into_iter()
            .any(|(this, that)| this.applies != that.applies)
        {
            return Ok(false);
        }
        let lost: Vec<Expr> = these
            .raising()
            .into_iter()
            .zip(those.raising())
            .filter(|(this, that)| this != that)
            .map(|(this, that)| all([premise.clone(), that.clone(), not(this)]))
            .collect();
        let lost = matter.kind.space.compiled(&lost, &[])?;
        Ok(self.one_in(&lost)?.is_none())
    }

    /// A request that is treated more lightly in this form than in the other.
    fn lowered(
        &mut self,
        matter: &Matter<'_, 'b>,
        than: Than,
        premise: &Expr,
        (form, these): (&Variant, &Rules<'b>),
        (other, those): (&Variant, &Rules<'b>),
    ) -> Result<Option<Outcome>, ProofFailed> {
        // Where both forms must be possible, what is not offered in the other form says nothing.
        let both = matches!(than, Than::Staged | Than::MorePrivate | Than::Narrower);
        let bundle = self.bundle;
        let breaks = |asked: &Asked| {
            let (this, that) = (form.apply(asked), other.apply(asked));
            let policies = weighed(bundle, matter.spoken, &this)?;
            let before = bundle.unguarded(&that.request(bundle).ok()?).ok()??;
            let (given, compared) = (policies.gate.level(), before.gate.level());
            let lost = lost_roles(&policies, &before);
            let is_lower = given < compared && !(both && compared == GateLevel::Deny);
            let loses = !both && given != GateLevel::Deny && !lost.is_empty();
            (is_lower || loses).then(|| {
                let wrong = if is_lower {
                    format!(
                        "{} asks for {}, {} for {}",
                        form.in_words(),
                        policies.gate,
                        other.in_words(),
                        before.gate
                    )
                } else {
                    format!(
                        "{}, {} asks for its role no more",
                        form.in_words(),
                        lost.join(" and ")
                    )
                };
                (
                    wrong,
                    vec![(form.in_words(), this), (other.in_words(), that)],
                )
            })
        };
        for level in these.levels() {
            if both && level == GateLevel::TwoPerson {
                continue;
            }
            let (permits, mut prohibitions) = these.up_to(level);
            prohibitions.push(not(premise));
            let compared = if both {
                those.above(level)
            } else {
                those.up_to(level)
            };
            if both && compared.0.is_empty() {
                continue;
            }
            let compared = matter.kind.space.compiled(&compared.0, &compared.1)?;
            let found = self.search(matter, these, form, &breaks, &mut |prover, aside| {
                let prohibitions: Vec<Expr> = prohibitions.iter().chain(aside).cloned().collect();
                let light = matter.kind.space.compiled(&permits, &prohibitions)?;
                if both {
                    prover.in_both(&light, &compared)
                } else {
                    prover.in_first_alone(&light, &compared)
                }
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        if both {
            return Ok(None);
        }
        // The level may stay while a role is asked for no more.
        for (this, that) in these.escalators.iter().zip(&those.escalators) {
            if this.applies == that.applies || this.escalator.demand == Demand::Deciders {
                continue;
            }
            let (permits, mut prohibitions) = these.up_to(GateLevel::TwoPerson);
            prohibitions.push(not(premise));
            let lost = all([that.applies.clone(), not(&this.applies)]);
            let lost = matter.kind.space.compiled(&[lost], &[])?;
            let found = self.search(matter, these, form, &breaks, &mut |prover, aside| {
                let prohibitions: Vec<Expr> = prohibitions.iter().chain(aside).cloned().collect();
                let permitted = matter.kind.space.compiled(&permits, &prohibitions)?;
                prover.in_both(&permitted, &lost)
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn stays_with(
        &mut self,
        matter: &Matter<'_, 'b>,
        role: Role,
    ) -> Result<Option<Outcome>, ProofFailed> {
        let rules = &matter.kind.rules;
        let bundle = self.bundle;
        for escalator in &rules.escalators {
            let Demand::AnyOf(roles) = &escalator.escalator.demand else {
                continue;
            };
            let given_away = escalator.escalator.replaces.contains(&role)
                && roles.iter().any(|other| *other != role);
            if !given_away {
                continue;
            }
            let id = escalator.entry.id.as_str();
            let breaks = |asked: &Asked| {
                let policies = weighed(bundle, matter.spoken, asked)?;
                let fires = policies.fired.iter().any(|entry| entry.id.as_str() == id);
                let left = policies
                    .determining
                    .iter()
                    .any(|entry| leaves_to(entry, role));
                (fires && left && policies.gate.level() != GateLevel::Deny).then(|| {
                    let wrong = format!(
                        "`{id}` gives it away: the policies ask for {}",
                        policies.gate
                    );
                    (wrong, vec![(String::new(), asked.clone())])
                })
            };
            // Taken over is what one row leaves to roles that are all replaced, or what several leave to such
            // roles together; otherwise the decision stays among those that the row names.
            let (whole, parts): (Vec<_>, Vec<_>) = rules
                .rows
                .iter()
                .filter(|row| leaves_to(row.entry, role))
                .partition(|row| row.row.deciders.is_subset(&escalator.escalator.replaces));
            let common = parts
                .iter()
                .map(|row| row.row.deciders.clone())
                .reduce(|known, next| known.intersection(&next).copied().collect());
            let together = common.is_some_and(|left| left.is_subset(&escalator.escalator.replaces));
            let left: Vec<Expr> = whole
                .iter()
                .chain(parts.iter().filter(|_| together))
                .map(|row| row.applies.clone())
                .collect();
            if left.is_empty() {
                continue;
            }
            let (_, prohibitions) = rules.up_to(GateLevel::TwoPerson);
            let taken = all([matter.premise.clone(), escalator.applies.clone()]);
            let taken = matter.kind.space.compiled(&[taken], &[])?;
            let found = self.search(
                matter,
                rules,
                &Variant::Same,
                &breaks,
                &mut |prover, aside| {
                    let prohibitions: Vec<Expr> =
                        prohibitions.iter().chain(aside).cloned().collect();
                    let left = matter.kind.space.compiled(&left, &prohibitions)?;
                    prover.in_both(&left, &taken)
                },
            )?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn never_failing(&mut self, matter: &Matter<'_, 'b>) -> Result<Option<Outcome>, ProofFailed> {
        let bundle = self.bundle;
        let breaks = |asked: &Asked| {
            let request = asked.request(bundle).ok()?;
            let failed = bundle.unguarded(&request).err()?;
            Some((failed.to_string(), vec![(String::new(), asked.clone())]))
        };
        let conditions: Vec<Expr> = matter
            .kind
            .rules
            .conditions()
            .filter(|condition| can_fail(condition))
            .cloned()
            .collect();
        for condition in conditions {
            let policy = all([matter.premise.clone(), condition]);
            let policy = matter.kind.space.compiled_one(&policy)?;
            let found = self.search(
                matter,
                &matter.kind.rules,
                &Variant::Same,
                &breaks,
                &mut |prover, aside| {
                    if aside.is_empty() {
                        prover.failing(&policy)
                    } else {
                        Err(ProofFailed::Disagreement(
                            "a policy that can fail did not".to_owned(),
                        ))
                    }
                },
            )?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Whether a statement that holds says something about some request of a type.
    fn says_something(
        &mut self,
        matter: &Matter<'_, 'b>,
        claim: Claim,
    ) -> Result<bool, ProofFailed> {
        let rules = &matter.kind.rules;
        let (_, refused) = rules.up_to(GateLevel::TwoPerson);
        match claim {
            Claim::NeverPermitted | Claim::NeverFailing | Claim::AtLeast(_) | Claim::AtMost(_) => {
                let premise = matter
                    .kind
                    .space
                    .compiled(std::slice::from_ref(&matter.premise), &[])?;
                Ok(self.one_in(&premise)?.is_some())
            }
            Claim::StaysWith(role) => {
                let left: Vec<Expr> = rules
                    .rows
                    .iter()
                    .filter(|row| leaves_to(row.entry, role))
                    .map(|row| all([matter.premise.clone(), row.applies.clone()]))
                    .collect();
                if left.is_empty() {
                    return Ok(false);
                }
                let left = matter.kind.space.compiled(&left, &refused)?;
                Ok(self.one_in(&left)?.is_some())
            }
            Claim::NoWeaker(than) => {
                if rules.rows.is_empty() {
                    return Ok(false);
                }
                let both = matches!(than, Than::Staged | Than::MorePrivate | Than::Narrower);
                for (form, other) in self.pairs(matter, than) {
                    let (these, those) = (rules.under(&form)?, rules.under(&other)?);
                    if these.is_same(&those) {
                        continue;
                    }
                    // The comparison must make a difference somewhere: then it says something.
                    let premise = not(&form.of(&matter.premise)?);
                    for level in those.levels() {
                        let (permits, mut prohibitions) = those.up_to(level);
                        prohibitions.push(premise.clone());
                        let light = matter.kind.space.compiled(&permits, &prohibitions)?;
                        let graver = if both {
                            these.above(level)
                        } else {
                            these.up_to(level)
                        };
                        let graver = matter.kind.space.compiled(&graver.0, &graver.1)?;
                        let found = if both {
                            self.in_both(&light, &graver)?
                        } else {
                            self.in_first_alone(&light, &graver)?
                        };
                        if found.is_some() {
                            return Ok(true);
                        }
                    }
                }
                Ok(false)
            }
        }
    }

    /// Puts a question until its answer is no request, or one that really breaks the statement.
    fn search(
        &mut self,
        matter: &Matter<'_, 'b>,
        rules: &Rules<'b>,
        form: &Variant,
        breaks: Breaks<'_>,
        ask: &mut dyn FnMut(&mut Self, &[Expr]) -> Model,
    ) -> Result<Option<Outcome>, ProofFailed> {
        let mut aside = Vec::new();
        for _ in 0..SET_ASIDE_MAX {
            let Some(env) = ask(self, &aside)? else {
                return Ok(None);
            };
            let asked = Asked::read(&env, matter.resource, &self.known)?;
            if breaks(&asked).is_some() {
                let smallest = asked.smallest(&|smaller| breaks(smaller).is_some());
                let (wrong, sides) = breaks(&smallest).ok_or_else(|| {
                    ProofFailed::Disagreement(
                        "a finding got lost while it was made smaller".to_owned(),
                    )
                })?;
                return Ok(Some(Outcome::Refuted {
                    counterexample: sides
                        .iter()
                        .map(|(form, asked)| self.shown(form, asked))
                        .collect::<Result<_, _>>()?,
                    wrong,
                }));
            }
            aside.push(self.combination(rules, &form.apply(&asked))?);
        }
        Err(ProofFailed::Disagreement(format!(
            "{SET_ASIDE_MAX} requests about {} in a row are ruled otherwise than their policies' levels say",
            matter.resource
        )))
    }

    /// Exactly the rows and escalators that apply to a request.
    fn combination(&self, rules: &Rules<'b>, asked: &Asked) -> Result<Expr, ProofFailed> {
        let request = asked.request(self.bundle)?;
        let disagree = |why: &str| ProofFailed::Disagreement(why.to_owned());
        let policies = self
            .bundle
            .unguarded(&request)
            .map_err(|failed| disagree(&failed.to_string()))?
            .ok_or_else(|| disagree("the change has no class"))?;
        let applying: BTreeSet<&str> = policies
            .determining
            .iter()
            .chain(&policies.fired)
            .map(|entry| entry.id.as_str())
            .collect();
        let rows = rules.rows.iter().map(|row| (row.entry, &row.applies));
        let escalators = rules.escalators.iter().map(|one| (one.entry, &one.applies));
        Ok(all(rows.chain(escalators).map(|(entry, applies)| {
            if applying.contains(entry.id.as_str()) {
                applies.clone()
            } else {
                not(applies)
            }
        })))
    }

    fn shown(&self, form: &str, asked: &Asked) -> Result<Shown, ProofFailed> {
        let request = asked.request(self.bundle)?;
        let said = |entries: &[&Entry]| {
            entries
                .iter()
                .map(|entry| Said {
                    policy: entry.id.as_str().to_owned(),
                    text: entry.text.clone(),
                })
                .collect()
        };
        let failed = |policies: &[chaperone_core::ids::PolicyId]| Shown {
            form: form.to_owned(),
            request: asked.lines(),
            decided_by: policies
                .iter()
                .map(|id| Said {
                    policy: id.as_str().to_owned(),
                    text: "its evaluation fails".to_owned(),
                })
                .collect(),
            escalated_by: Vec::new(),
            policies_ask: "nothing: evaluation fails".to_owned(),
            ruling: "deny".to_owned(),
            denial: Some(crate::ruling::POLICY_ERROR.to_owned()),
            case: serde_json::Value::Null,
        };
        let policies = match self.bundle.unguarded(&request) {
            Ok(Some(policies)) => policies,
            Err(crate::RulingFailed::Evaluation { policies }) => return Ok(failed(&policies)),
            _ => {
                return Err(ProofFailed::Disagreement(
                    "what was found cannot be asked".to_owned(),
                ));
            }
        };
        let ruling = self
            .bundle
            .rule(&request)
            .map_err(|error| ProofFailed::Disagreement(error.to_string()))?;
        let record = ruling.record();
        let name = if form.is_empty() {
            "found by the proof".to_owned()
        } else {
            format!("found by the proof, {form}")
        };
        Ok(Shown {
            form: form.to_owned(),
            request: asked.lines(),
            decided_by: said(&policies.determining),
            escalated_by: said(&policies.fired),
            policies_ask: policies.gate.to_string(),
            ruling: record.gate.to_string(),
            denial: record.denial.clone(),
            case: asked.case(&name, record),
        })
    }

    fn level_set(
        &mut self,
        matter: &Matter<'_, 'b>,
        key: &str,
        (permits, mut prohibitions): (Vec<Expr>, Vec<Expr>),
        aside: &[Expr],
    ) -> Result<CompiledPolicySet, ProofFailed> {
        if !aside.is_empty() {
            prohibitions.extend(aside.iter().cloned());
            return matter.kind.space.compiled(&permits, &prohibitions);
        }
        if let Some(known) = self.compiled.get(key) {
            return Ok(known.clone());
        }
        let set = matter.kind.space.compiled(&permits, &prohibitions)?;
        self.compiled.insert(key.to_owned(), set.clone());
        Ok(set)
    }

    /// A request that both permit.
    pub(super) fn in_both(
        &mut self,
        first: &CompiledPolicySet,
        second: &CompiledPolicySet,
    ) -> Result<Option<Env>, ProofFailed> {
        at_once(
            self.compiler
                .check_disjoint_with_counterexample_opt(first, second),
        )?
        .map_err(no_answer)
    }

    /// A request that the first permits and the second does not.
    fn in_first_alone(
        &mut self,
        first: &CompiledPolicySet,
        second: &CompiledPolicySet,
    ) -> Result<Option<Env>, ProofFailed> {
        at_once(
            self.compiler
                .check_implies_with_counterexample_opt(first, second),
        )?
        .map_err(no_answer)
    }

    /// A request that a set permits.
    pub(super) fn one_in(&mut self, set: &CompiledPolicySet) -> Result<Option<Env>, ProofFailed> {
        at_once(
            self.compiler
                .check_always_denies_with_counterexample_opt(set),
        )?
        .map_err(no_answer)
    }

    fn failing(
        &mut self,
        policy: &cedar_policy_symcc::CompiledPolicy,
    ) -> Result<Option<Env>, ProofFailed> {
        at_once(
            self.compiler
                .check_never_errors_with_counterexample_opt(policy),
        )?
        .map_err(no_answer)
    }
}

fn no_answer(error: Error) -> ProofFailed {
    match error {
        Error::SolverError(failed) => ProofFailed::NoAnswer(failed.to_string()),
        Error::SolverUnknown => ProofFailed::NotCompiled(
            "the solver gave up on it; policies with sums over numbers are hard to decide"
                .to_owned(),
        ),
        other => ProofFailed::not_compiled(&other),
    }
}

/// What the policies ask of a request, when a statement speaks of it and it has a class.
fn weighed<'b>(
    bundle: &'b crate::Bundle,
    spoken: &PolicySet,
    asked: &Asked,
) -> Option<Unguarded<'b>> {
    let request = asked.request(bundle).ok()?;
    let policies = bundle.unguarded(&request).ok()??;
    let class = asked.change.class().ok()?;
    let question = crate::question::Question::new(bundle, &request, class).ok()?;
    question.is_spoken_of(spoken).ok()?.then_some(policies)
}

/// Whether a row leaves decisions to a role.
fn leaves_to(entry: &Entry, role: Role) -> bool {
    matches!(&entry.meaning, crate::row::Meaning::Row(row) if row.deciders.contains(&role))
}

/// Escalators with a role of their own that apply to the other form alone.
fn lost_roles(this: &Unguarded<'_>, other: &Unguarded<'_>) -> Vec<String> {
    other
        .fired
        .iter()
        .filter(|entry| {
            matches!(&entry.meaning, crate::row::Meaning::Escalator(one) if one.demand != Demand::Deciders)
                && !this.fired.iter().any(|known| known.id == entry.id)
        })
        .map(|entry| format!("`{}`", entry.id.as_str()))
        .collect()
}
