//! Ruling on a change: what it weighs, which rows of the matrix apply, what raises the gate.
//!
//! The order of the questions:
//! 1. The class and its floor are computed in code. No class: refused by default.
//! 2. The `write` policies see what is established. A prohibition ends it; no row means refused.
//! 3. The intent must list what is proposed.
//! 4. The gate is what satisfies every row that applies. A row that was signed for a lighter class
//!    than the computed one refuses.
//! 5. The `escalate` policies see claims and taint as well. They can only raise.
//! 6. A gate below the floor is refused. Loading prevents it; this does not rely on that.
//! 7. What takes the place of another proposal needs no less than that one did.

use std::collections::BTreeSet;

use chaperone_core::change::{ChangeClass, Destination};
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{Reason, Ruling, RulingRecord};
use chaperone_core::gate::{Gate, GateLevel, ProofLevel};
use chaperone_core::ids::PolicyId;
use chaperone_core::principal::Role;
use chaperone_core::request::WriteRequest;

use crate::bundle::{Bundle, scope};
use crate::question::Question;
use crate::row::{Action, Demand, Escalator, Meaning, Row};
use crate::set::Entry;

/// Denial when no row applies, and when a type or status is unknown: the last row of the matrix.
pub const DEFAULT_DENY: &str = "default-deny";
/// Denial when the intent does not list what is proposed.
pub const OUTSIDE_INTENT: &str = "outside-intent";
/// Denial when a row was signed for a lighter class than the computed one.
pub const CLASS_MISMATCH: &str = "class-mismatch";
/// Denial when the gate would be below the floor of the class.
pub const BELOW_FLOOR: &str = "below-floor";
/// Denial when nobody holds every role that the rows and escalators ask for.
pub const NO_DECIDER: &str = "no-decider";
/// Denial when several changes are to be made as one and nobody may decide on all of them.
pub const NO_DECIDER_FOR_ALL: &str = "no-decider-for-all";
/// What raised a gate that would have been lighter than that of the proposal whose place it takes.
pub const NO_LIGHTER: &str = "no-lighter-than-before";
/// What callers refuse with when ruling failed.
pub const POLICY_ERROR: &str = "policy-error";

/// Names that no policy may take.
pub(crate) const RESERVED: [&str; 8] = [
    DEFAULT_DENY,
    OUTSIDE_INTENT,
    CLASS_MISMATCH,
    BELOW_FLOOR,
    NO_DECIDER,
    NO_DECIDER_FOR_ALL,
    NO_LIGHTER,
    POLICY_ERROR,
];

/// Why there is no ruling. The caller refuses the change as [`POLICY_ERROR`]; none of these can be
/// brought about by an agent alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulingFailed {
    /// The request was made for another bundle.
    #[error("the request was made under bundle `{asked}`, and `{ruling}` would rule on it")]
    OtherBundle {
        /// The bundle of the request.
        asked: Digest,
        /// The bundle that was asked.
        ruling: Digest,
    },
    /// The class in the request is not the computed one.
    #[error("the request says class {given}, and the change computes to {computed}")]
    ClassDisagrees {
        /// In the request.
        given: ChangeClass,
        /// Computed.
        computed: ChangeClass,
    },
    /// A fact is unknown, of the wrong type, or established on an authority that does not count.
    #[error("fact `{name}` {why}")]
    FactUnsuitable {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Evaluation of policies failed.
    #[error("evaluation of policies failed: {}", list(policies))]
    Evaluation {
        /// The policies.
        policies: Vec<PolicyId>,
    },
    /// Changes that cannot be ruled on as one.
    #[error("these changes cannot be ruled on as one")]
    NotTogether,
    /// The request could not be put to the policy engine.
    #[error("the request could not be put to the policy engine")]
    NotAsked,
}

fn list(policies: &[PolicyId]) -> String {
    policies
        .iter()
        .map(PolicyId::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

impl Bundle {
    /// Rules on a change: how much human authority it needs, and why, in plain words.
    ///
    /// A refusal is a ruling too, with gate `deny` and a stable code. A change whose class cannot be
    /// computed is refused whatever class the request names.
    ///
    /// # Errors
    /// [`RulingFailed`], on which the caller must refuse the change.
    ///
    /// # Source
    /// The decision matrix and its rule that more material changes need more authority (requirements
    /// R029, R033); decisions cite policy version, inputs and rules (R092), in plain words (R100).
    pub fn rule(&self, request: &WriteRequest) -> Result<Ruling, RulingFailed> {
        let record = self.ruling_record(request, None)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place where the matrix rules"
        )]
        let ruling = Ruling::issue(record);
        Ok(ruling)
    }

    /// The ruling, as if an escalator without a role had raised it to a level, where one is given.
    pub(crate) fn ruling_record(
        &self,
        request: &WriteRequest,
        lifted: Option<GateLevel>,
    ) -> Result<RulingRecord, RulingFailed> {
        if request.bundle != *self.digest() {
            return Err(RulingFailed::OtherBundle {
                asked: request.bundle,
                ruling: *self.digest(),
            });
        }
        let mut refusal = Refusal {
            bundle: *self.digest(),
            class: ChangeClass::M5,
            destination: request.change.destination,
        };
        let class = match request.change.class() {
            Ok(class) if self.sets.knows(request.change.resource.as_str()) => class,
            _ => return Ok(refusal.built_in(DEFAULT_DENY, Vec::new())),
        };
        if class != request.class {
            return Err(RulingFailed::ClassDisagrees {
                given: request.class,
                computed: class,
            });
        }
        refusal.class = class;
        let question = Question::new(self, request, class)?;
        let verdict = question.ask(Action::Write)?;
        if verdict.determining.is_empty() {
            return Ok(refusal.built_in(DEFAULT_DENY, Vec::new()));
        }
        if !verdict.permits {
            return Ok(refusal.by_policies(&verdict.determining));
        }
        if !request
            .intent_writes
            .contains(&scope::of_change(&request.change))
        {
            return Ok(refusal.built_in(OUTSIDE_INTENT, ids(&verdict.determining)));
        }
        let Some(base) = Base::of(&verdict.determining) else {
            return Err(RulingFailed::NotAsked);
        };
        if base.class < class {
            return Ok(refusal.built_in(CLASS_MISMATCH, ids(&verdict.determining)));
        }
        let raising = question.ask(Action::Escalate)?;
        if !raising.permits && !raising.determining.is_empty() {
            return Ok(refusal.by_policies(&raising.determining));
        }
        let fired = &raising.determining;
        let record = conclude(base, &verdict.determining, fired, lifted, &refusal);
        let mut record = match &request.at_least {
            Some(least) => no_lighter(record, least, &verdict.determining, &refusal),
            None => record,
        };
        // What passes under a protocol passes for those whom it names alone, whatever else was asked for.
        if record.gate != Gate::Deny {
            record.protocol.clone_from(&request.protocol);
            if let (Some(protocol), Some(reason)) = (&record.protocol, record.reasons.first_mut()) {
                reason.text = format!(
                    "{} (Protocol `{}`, version {}.)",
                    reason.text, protocol.id, protocol.version
                );
            }
        }
        Ok(record)
    }
}

/// Holds a ruling to the gate of what the change takes the place of: both must be satisfied.
fn no_lighter(
    mut record: RulingRecord,
    least: &Gate,
    rows: &[&Entry],
    refusal: &Refusal,
) -> RulingRecord {
    let gate = record.gate.clone().and(least.clone());
    if gate == record.gate {
        return record;
    }
    if gate == Gate::Deny {
        return refusal.built_in(NO_DECIDER, ids(rows));
    }
    record.gate = gate;
    if let Ok(policy) = PolicyId::new(NO_LIGHTER) {
        record.raised_by.push(policy.clone());
        record.reasons.push(Reason {
            policy,
            text: "It takes the place of a proposal that needed this much, and a change of what is proposed never \
                   needs less."
                .to_owned(),
        });
    }
    record
}

/// What the applying rows ask for together.
struct Base {
    gate: Gate,
    deciders: BTreeSet<Role>,
    class: ChangeClass,
    proof: ProofLevel,
    notify: BTreeSet<Role>,
}

impl Base {
    fn of(entries: &[&Entry]) -> Option<Base> {
        let rows: Vec<&Row> = entries
            .iter()
            .filter_map(|entry| match &entry.meaning {
                Meaning::Row(row) => Some(row),
                _ => None,
            })
            .collect();
        let (first, rest) = rows.split_first()?;
        let mut base = Base {
            gate: first.gate.clone(),
            deciders: first.deciders.clone(),
            class: first.class,
            proof: first.proof,
            notify: first.notify.iter().copied().collect(),
        };
        for row in rest {
            base.gate = base.gate.and(row.gate.clone());
            base.deciders = base.deciders.intersection(&row.deciders).copied().collect();
            base.class = base.class.min(row.class);
            base.proof = base.proof.max(row.proof);
            base.notify.extend(row.notify.iter().copied());
        }
        // Whoever must agree already is also who decides on anything raised.
        if let Gate::Approve { roles } | Gate::Approve2f { roles } = &base.gate {
            base.deciders = roles.clone();
        }
        Some(base)
    }
}

fn conclude(
    base: Base,
    rows: &[&Entry],
    fired: &[&Entry],
    lifted: Option<GateLevel>,
    refusal: &Refusal,
) -> RulingRecord {
    let mut raised_by = Vec::new();
    let mut notify = base.notify.clone();
    let mut escalators = Vec::new();
    for entry in fired {
        if let Meaning::Escalator(escalator) = &entry.meaning {
            notify.extend(escalator.notify.iter().copied());
            if raise(&base, &[escalator]) != base.gate {
                raised_by.push(entry.id.clone());
            }
            escalators.push(escalator);
        }
    }
    let lifting = lifted.map(|level| Escalator {
        level,
        demand: Demand::Deciders,
        replaces: BTreeSet::new(),
        notify: Vec::new(),
    });
    escalators.extend(&lifting);
    let gate = raise(&base, &escalators);
    if gate == Gate::Deny {
        return refusal.built_in(NO_DECIDER, ids(rows));
    }
    if gate.level() < refusal.class.floor() {
        return refusal.built_in(BELOW_FLOOR, ids(rows));
    }
    RulingRecord {
        gate,
        class: refusal.class,
        destination: refusal.destination,
        determining: ids(rows),
        raised_by,
        reasons: rows
            .iter()
            .chain(fired)
            .map(|entry| reason(entry))
            .collect(),
        denial: None,
        proof_min: base.proof,
        notify: notify.into_iter().collect(),
        bundle: refusal.bundle,
        protocol: None,
        entries: Vec::new(),
    }
}

/// Raises a gate to what every escalator asks for. Never lowers it, and never asks for less with one
/// escalator more, whatever their order.
///
/// An escalator that names no role leaves the decision with the row's deciders. One that names a role
/// and `@replaces` the deciders takes the decision over, as a clinician does from a nurse. Otherwise
/// both must be satisfied, and where nobody can be both, nobody can allow it.
fn raise(base: &Base, escalators: &[&Escalator]) -> Gate {
    let mut level = base.gate.level();
    let mut deciders: Option<BTreeSet<Role>> = None;
    let is_pair = matches!(base.gate, Gate::TwoPerson { .. });
    let mut pair: Option<(Role, Role)> = match base.gate {
        Gate::TwoPerson { first, second } => Some((first, second)),
        _ => None,
    };
    for escalator in escalators {
        level = level.max(escalator.level);
        match &escalator.demand {
            Demand::Deciders => {}
            Demand::AnyOf(roles) => {
                // Each is held against the row's own deciders, so that the order is of no account.
                let asked: BTreeSet<Role> = if base.deciders.is_subset(&escalator.replaces) {
                    roles.clone()
                } else {
                    base.deciders.intersection(roles).copied().collect()
                };
                deciders = Some(match deciders {
                    Some(known) => known.intersection(&asked).copied().collect(),
                    None => asked,
                });
            }
            Demand::Both(first, second) => match pair {
                Some(known) if known != (*first, *second) => return Gate::Deny,
                _ => pair = Some((*first, *second)),
            },
        }
    }
    let deciders = deciders.unwrap_or_else(|| base.deciders.clone());
    // Two other people do not make up for a role that nobody holds.
    let nobody = deciders.is_empty() && !is_pair;
    match level {
        GateLevel::Auto | GateLevel::AutoVerified | GateLevel::Deny => base.gate.clone(),
        _ if nobody => Gate::Deny,
        GateLevel::TwoPerson => pair.map_or(Gate::Deny, |(first, second)| Gate::TwoPerson {
            first,
            second,
        }),
        GateLevel::Approve => Gate::Approve { roles: deciders },
        GateLevel::Approve2f => Gate::Approve2f { roles: deciders },
    }
}

/// What the policies say of a change on their own, before the guards in code: whether the intent lists it,
/// whether the rows were signed for its class, whether its gate is at or above the floor. Those only refuse.
#[cfg(feature = "prove")]
#[derive(Debug, Clone)]
pub(crate) struct Unguarded<'a> {
    /// The gate; `Deny` where nothing permits.
    pub(crate) gate: Gate,
    /// Rows or prohibitions that decided.
    pub(crate) determining: Vec<&'a Entry>,
    /// Escalators that applied.
    pub(crate) fired: Vec<&'a Entry>,
}

impl Bundle {
    /// Asks the policies alone; `None` where the change has no class, so that they are never asked.
    #[cfg(feature = "prove")]
    pub(crate) fn unguarded(
        &self,
        request: &WriteRequest,
    ) -> Result<Option<Unguarded<'_>>, RulingFailed> {
        let Ok(class) = request.change.class() else {
            return Ok(None);
        };
        let question = Question::new(self, request, class)?;
        let rows = question.ask(Action::Write)?;
        let raising = question.ask(Action::Escalate)?;
        let refused = |determining| Unguarded {
            gate: Gate::Deny,
            determining,
            fired: Vec::new(),
        };
        if !rows.permits {
            return Ok(Some(refused(rows.determining)));
        }
        if !raising.permits && !raising.determining.is_empty() {
            return Ok(Some(refused(raising.determining)));
        }
        let Some(base) = Base::of(&rows.determining) else {
            return Err(RulingFailed::NotAsked);
        };
        let escalators: Vec<&Escalator> = raising
            .determining
            .iter()
            .filter_map(|entry| match &entry.meaning {
                Meaning::Escalator(escalator) => Some(escalator),
                _ => None,
            })
            .collect();
        Ok(Some(Unguarded {
            gate: raise(&base, &escalators),
            determining: rows.determining,
            fired: raising.determining,
        }))
    }
}

/// What every refusal of one request has in common.
struct Refusal {
    bundle: Digest,
    class: ChangeClass,
    destination: Destination,
}

impl Refusal {
    fn by_policies(&self, prohibitions: &[&Entry]) -> RulingRecord {
        let denial = prohibitions
            .iter()
            .find_map(|entry| match &entry.meaning {
                Meaning::Prohibition(prohibition) => Some(prohibition.denial.clone()),
                _ => None,
            })
            .unwrap_or_else(|| DEFAULT_DENY.to_owned());
        let reasons = prohibitions.iter().map(|entry| reason(entry)).collect();
        self.record(denial, ids(prohibitions), reasons)
    }

    fn built_in(&self, code: &'static str, determining: Vec<PolicyId>) -> RulingRecord {
        let text = match code {
            OUTSIDE_INTENT => {
                "The task that the agent was started for does not include this change."
            }
            CLASS_MISMATCH => "The change weighs more than the row of the matrix was signed for.",
            BELOW_FLOOR => {
                "The row of the matrix asks for less authority than a change of this weight needs."
            }
            NO_DECIDER => "Nobody holds every role whose agreement this change would need.",
            _ => "No row of the matrix allows this change, and what is not allowed is refused.",
        };
        let reasons = PolicyId::new(code)
            .map(|policy| Reason {
                policy,
                text: text.to_owned(),
            })
            .into_iter()
            .collect();
        self.record(code.to_owned(), determining, reasons)
    }

    fn record(
        &self,
        denial: String,
        determining: Vec<PolicyId>,
        reasons: Vec<Reason>,
    ) -> RulingRecord {
        RulingRecord {
            gate: Gate::Deny,
            class: self.class,
            destination: self.destination,
            determining,
            raised_by: Vec::new(),
            reasons,
            denial: Some(denial),
            proof_min: ProofLevel::P3,
            notify: Vec::new(),
            bundle: self.bundle,
            protocol: None,
            entries: Vec::new(),
        }
    }
}

fn ids(entries: &[&Entry]) -> Vec<PolicyId> {
    entries.iter().map(|entry| entry.id.clone()).collect()
}

fn reason(entry: &Entry) -> Reason {
    Reason {
        policy: entry.id.clone(),
        text: entry.text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(gate: Gate, deciders: &[Role]) -> Base {
        Base {
            gate,
            deciders: deciders.iter().copied().collect(),
            class: ChangeClass::M0,
            proof: ProofLevel::P0,
            notify: BTreeSet::new(),
        }
    }

    fn escalator(level: GateLevel, demand: Demand, replaces: &[Role]) -> Escalator {
        Escalator {
            level,
            demand,
            replaces: replaces.iter().copied().collect(),
            notify: Vec::new(),
        }
    }

    fn any_of(roles: &[Role]) -> Demand {
        Demand::AnyOf(roles.iter().copied().collect())
    }

    fn approve(roles: &[Role]) -> Gate {
        Gate::Approve {
            roles: roles.iter().copied().collect(),
        }
    }

    #[test]
    fn an_escalator_without_a_role_leaves_the_decision_where_it_is() {
        let tainted = escalator(GateLevel::Approve, Demand::Deciders, &[]);
        let light = base(Gate::Auto, &[Role::Scheduler]);
        assert_eq!(raise(&light, &[&tainted]), approve(&[Role::Scheduler]));
        let signed = base(
            Gate::Approve2f {
                roles: [Role::Clinician].into(),
            },
            &[Role::Clinician],
        );
        assert_eq!(raise(&signed, &[&tainted]), signed.gate);
    }

    #[test]
    fn a_role_takes_over_only_from_those_it_replaces() {
        let minor = escalator(
            GateLevel::Approve,
            any_of(&[Role::Clinician]),
            &[Role::MaRn],
        );
        let nurse = base(approve(&[Role::MaRn]), &[Role::MaRn]);
        assert_eq!(raise(&nurse, &[&minor]), approve(&[Role::Clinician]));
        let biller = base(approve(&[Role::Biller]), &[Role::Biller]);
        assert_eq!(raise(&biller, &[&minor]), Gate::Deny);
        let either = base(
            approve(&[Role::Clinician, Role::Him]),
            &[Role::Clinician, Role::Him],
        );
        assert_eq!(raise(&either, &[&minor]), approve(&[Role::Clinician]));
    }

    #[test]
    fn one_escalator_more_never_asks_for_less_in_any_order() {
        let clinician = escalator(
            GateLevel::Approve,
            any_of(&[Role::Clinician]),
            &[Role::MaRn],
        );
        let nurse = escalator(GateLevel::Approve, any_of(&[Role::Rn]), &[Role::Clinician]);
        let bulk = escalator(
            GateLevel::TwoPerson,
            Demand::Both(Role::Clinician, Role::ItAdmin),
            &[],
        );
        let tainted = escalator(GateLevel::Approve2f, Demand::Deciders, &[]);
        let all = [&clinician, &nurse, &bulk, &tainted];
        let bases = [
            base(Gate::Auto, &[Role::MaRn]),
            base(approve(&[Role::Biller]), &[Role::Biller]),
            base(approve(&[Role::Clinician]), &[Role::Clinician]),
            base(
                Gate::TwoPerson {
                    first: Role::Him,
                    second: Role::MaRn,
                },
                &[Role::Him],
            ),
        ];
        for base in &bases {
            for chosen in 0..16_usize {
                let some: Vec<&Escalator> = (0..4)
                    .filter(|i| chosen & (1 << i) != 0)
                    .map(|i| all[i])
                    .collect();
                let gate = raise(base, &some);
                let backwards: Vec<&Escalator> = some.iter().rev().copied().collect();
                assert_eq!(gate, raise(base, &backwards));
                for more in all {
                    let with: Vec<&Escalator> = some.iter().copied().chain([more]).collect();
                    assert!(raise(base, &with).level() >= gate.level(), "{gate} fell");
                }
            }
        }
    }

    #[test]
    fn two_pairs_of_people_cannot_be_satisfied_at_once() {
        let bulk = escalator(
            GateLevel::TwoPerson,
            Demand::Both(Role::Clinician, Role::ItAdmin),
            &[],
        );
        let light = base(Gate::Auto, &[Role::Scheduler]);
        assert_eq!(raise(&light, &[&bulk]).level(), GateLevel::TwoPerson);
        let pair = base(
            Gate::TwoPerson {
                first: Role::Clinician,
                second: Role::Pharmacist,
            },
            &[Role::Clinician],
        );
        assert_eq!(raise(&pair, &[&bulk]), Gate::Deny);
    }
}
