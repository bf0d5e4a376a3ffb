//! What the annotations of a policy mean: a row of the matrix, an escalator, a prohibition.
//!
//! Each kind of policy has required annotations and nothing else: an unknown annotation would look
//! like a restriction and be none.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::change::ChangeClass;
use chaperone_core::gate::{Gate, GateLevel, ProofLevel};
use chaperone_core::principal::Role;
use chaperone_core::resource::Code;

use crate::facts;

/// What a policy is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Action {
    /// Calling a tool.
    Access,
    /// Changing a record.
    Write,
    /// Raising a gate.
    Escalate,
}

impl Action {
    pub(crate) const ALL: [Action; 3] = [Action::Access, Action::Write, Action::Escalate];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Action::Access => "access",
            Action::Write => "write",
            Action::Escalate => "escalate",
        }
    }
}

/// A row of the matrix that lets a change pass a gate.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Number in the matrix.
    pub(crate) number: String,
    pub(crate) gate: Gate,
    /// Who decides when an escalator puts a human in front of it.
    pub(crate) deciders: BTreeSet<Role>,
    pub(crate) class: ChangeClass,
    pub(crate) proof: ProofLevel,
    pub(crate) notify: Vec<Role>,
}

/// Something that raises a gate, or only tells somebody.
#[derive(Debug, Clone)]
pub(crate) struct Escalator {
    pub(crate) level: GateLevel,
    pub(crate) demand: Demand,
    /// Roles whose decision the demanded role takes over.
    pub(crate) replaces: BTreeSet<Role>,
    pub(crate) notify: Vec<Role>,
}

/// Whom an escalator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Whoever decides on the row.
    Deciders,
    /// Any of these.
    AnyOf(BTreeSet<Role>),
    /// One of each, the first with a second factor.
    Both(Role, Role),
}

/// Something that nothing can outweigh.
#[derive(Debug, Clone)]
pub(crate) struct Prohibition {
    /// Number in the matrix, when it is a row.
    pub(crate) number: Option<String>,
    pub(crate) denial: String,
}

/// What a policy means.
#[derive(Debug, Clone)]
pub(crate) enum Meaning {
    Row(Row),
    Escalator(Escalator),
    Prohibition(Prohibition),
    /// Permits access.
    Access,
}

/// Reads the annotations of a policy.
///
/// # Errors
/// Every annotation that is missing, unknown or contradictory, in words.
pub(crate) fn read(
    action: Action,
    permits: bool,
    annotations: &BTreeMap<String, String>,
) -> Result<Meaning, Vec<String>> {
    let (required, optional): (&[&str], &[&str]) = match (action, permits) {
        (Action::Write, true) => (
            &["id", "row", "gate", "role", "class", "proof", "text"],
            &["verify", "notify"],
        ),
        (Action::Write, false) => (&["id", "row", "denial", "text"], &[]),
        (Action::Escalate, true) => (&["id", "gate", "text"], &["role", "replaces", "notify"]),
        (Action::Escalate, false) => (&["id", "denial", "text"], &["row"]),
        (Action::Access, true) => (&["id", "text"], &[]),
        (Action::Access, false) => (&["id", "denial", "text"], &[]),
    };
    let mut reader = Reader {
        annotations,
        wrong: Vec::new(),
    };
    for name in required {
        if !annotations.contains_key(*name) {
            reader
                .wrong
                .push(format!("annotation `@{name}` is missing"));
        }
    }
    for (name, value) in annotations {
        let known = required.contains(&name.as_str()) || optional.contains(&name.as_str());
        if !known {
            reader
                .wrong
                .push(format!("annotation `@{name}` is unknown here"));
        } else if value.trim().is_empty() {
            reader.wrong.push(format!("annotation `@{name}` is empty"));
        }
    }
    let meaning = match (action, permits) {
        (Action::Write, true) => reader.row().map(Meaning::Row),
        (Action::Escalate, true) => reader.escalator().map(Meaning::Escalator),
        (Action::Access, true) => Some(Meaning::Access),
        (Action::Write | Action::Escalate | Action::Access, false) => {
            reader.prohibition().map(Meaning::Prohibition)
        }
    };
    match meaning {
        Some(meaning) if reader.wrong.is_empty() => Ok(meaning),
        _ => Err(reader.wrong),
    }
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    wrong: Vec<String>,
}

impl Reader<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// Reads a value, or says what would be one. An absent one has been reported already.
    fn parsed<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.annotations.get(name)?;
        let value = parse(text);
        if value.is_none() {
            self.wrong
                .push(format!("`@{name}(\"{text}\")` must be {expected}"));
        }
        value
    }

    fn row(&mut self) -> Option<Row> {
        let number = self.number();
        let level = self.level();
        let class = self.parsed("class", "M0 to M5", ChangeClass::parse);
        let proof = self.parsed("proof", "P0 to P3", ProofLevel::parse);
        let notify = self.notify();
        let roles = self.roles();
        let verify = self.verify();
        let (level, class) = (level?, class?);
        if (level == GateLevel::AutoVerified) == verify.is_empty() {
            self.wrong.push(
                "`@verify` names the facts of `auto_verified`, and belongs to no other gate"
                    .to_owned(),
            );
        }
        if level < class.floor() {
            self.wrong.push(format!(
                "gate `{}` is below the floor of class {class}, which is `{}`",
                level.as_str(),
                class.floor().as_str()
            ));
        }
        let demand = roles?;
        for (role, why) in [
            (
                Role::ItAdmin,
                "`it_admin` operates Chaperone and decides on no change",
            ),
            (
                Role::Trainee,
                "`trainee` goes with another role and decides on nothing itself",
            ),
        ] {
            let decides = match &demand {
                Demand::AnyOf(roles) => roles.contains(&role),
                Demand::Both(first, second) => [*first, *second].contains(&role),
                Demand::Deciders => false,
            };
            if decides {
                self.wrong.push(why.to_owned());
            }
        }
        let gate = self.gate(level, &demand, verify)?;
        let deciders = match demand {
            Demand::AnyOf(roles) => roles,
            Demand::Both(first, _) => [first].into(),
            Demand::Deciders => return None,
        };
        Some(Row {
            number: number?,
            gate,
            deciders,
            class,
            proof: proof?,
            notify: notify?,
        })
    }

    fn gate(&mut self, level: GateLevel, demand: &Demand, facts: BTreeSet<String>) -> Option<Gate> {
        match (level, demand) {
            (GateLevel::Auto, Demand::AnyOf(_)) => Some(Gate::Auto),
            (GateLevel::AutoVerified, Demand::AnyOf(_)) => Some(Gate::AutoVerified { facts }),
            (GateLevel::Approve, Demand::AnyOf(roles)) => Some(Gate::Approve {
                roles: roles.clone(),
            }),
            (GateLevel::Approve2f, Demand::AnyOf(roles)) => Some(Gate::Approve2f {
                roles: roles.clone(),
            }),
            (GateLevel::TwoPerson, Demand::Both(first, second)) => Some(Gate::TwoPerson {
                first: *first,
                second: *second,
            }),
            _ => {
                self.wrong.push(
                    "`@role` must be `a and b` for `two_person`, and `a` or `a or b` for all else"
                        .to_owned(),
                );
                None
            }
        }
    }

    fn escalator(&mut self) -> Option<Escalator> {
        let level = self.level();
        let notify = self.notify();
        let demand = if self.annotations.contains_key("role") {
            self.roles()
        } else {
            Some(Demand::Deciders)
        };
        let replaces = self
            .parsed("replaces", "roles, `a or b`", any_of)
            .unwrap_or_default();
        let (level, demand) = (level?, demand?);
        let fits = match &demand {
            Demand::Both(..) => level == GateLevel::TwoPerson,
            Demand::AnyOf(_) => matches!(level, GateLevel::Approve | GateLevel::Approve2f),
            Demand::Deciders => level != GateLevel::TwoPerson,
        };
        if !fits || level == GateLevel::AutoVerified {
            self.wrong.push(format!(
                "an escalator to `{}` cannot ask for this `@role`",
                level.as_str()
            ));
        }
        if !replaces.is_empty() && !matches!(demand, Demand::AnyOf(_)) {
            self.wrong
                .push("`@replaces` needs a `@role` that takes over".to_owned());
        }
        if level == GateLevel::Auto && notify.as_ref().is_some_and(Vec::is_empty) {
            self.wrong
                .push("an escalator to `auto` raises nothing, so it must `@notify`".to_owned());
        }
        Some(Escalator {
            level,
            demand,
            replaces,
            notify: notify?,
        })
    }

    fn prohibition(&mut self) -> Option<Prohibition> {
        let number = if self.annotations.contains_key("row") {
            Some(self.number()?)
        } else {
            None
        };
        let denial = self.parsed("denial", "a short code", |text| {
            Code::new(text).ok().map(|_| text.to_owned())
        })?;
        Some(Prohibition { number, denial })
    }

    fn number(&mut self) -> Option<String> {
        self.parsed("row", "a row number such as `34a`", |text| {
            is_row_number(text).then(|| text.to_owned())
        })
    }

    fn level(&mut self) -> Option<GateLevel> {
        self.parsed("gate", "a gate that a permit can have", |text| {
            GateLevel::parse(text).filter(|level| *level != GateLevel::Deny)
        })
    }

    fn roles(&mut self) -> Option<Demand> {
        self.parsed(
            "role",
            "known roles, `a`, `a or b` or `a and b`",
            |text| match text.split_once(" and ") {
                Some((first, second)) => {
                    let (first, second) = (Role::parse(first)?, Role::parse(second)?);
                    (first != second).then_some(Demand::Both(first, second))
                }
                None => any_of(text).map(Demand::AnyOf),
            },
        )
    }

    fn notify(&mut self) -> Option<Vec<Role>> {
        if self.get("notify").is_none() {
            return Some(Vec::new());
        }
        self.parsed("notify", "roles, `a or b`", any_of)
            .map(|roles| roles.into_iter().collect())
    }

    fn verify(&mut self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let annotations = self.annotations;
        let listed = annotations.get("verify").map_or("", String::as_str);
        for name in listed.split(',').map(str::trim) {
            let boolean =
                facts::lookup(name).is_some_and(|fact| fact.fact_type == facts::FactType::Bool);
            if boolean {
                names.insert(name.to_owned());
            } else if !name.is_empty() {
                self.wrong.push(format!(
                    "`@verify` names `{name}`, which is no fact that can be true"
                ));
            }
        }
        names
    }
}

fn any_of(text: &str) -> Option<BTreeSet<Role>> {
    text.split(" or ").map(Role::parse).collect()
}

fn is_row_number(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    (1..=3).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && text.len().saturating_sub(digits.len()) <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn row(change: &[(&str, &str)]) -> Result<Meaning, Vec<String>> {
        let mut all = annotations(&[
            ("id", "order"),
            ("row", "34"),
            ("gate", "approve_2f"),
            ("role", "clinician"),
            ("class", "M4"),
            ("proof", "P2"),
            ("text", "A clinician signs."),
        ]);
        all.extend(annotations(change));
        read(Action::Write, true, &all)
    }

    #[test]
    fn a_row_says_everything_and_nothing_else() {
        assert!(row(&[]).is_ok());
        for (change, expected) in [
            (("gate", "auto"), "below the floor of class M4"),
            (("gate", "deny"), "must be a gate that a permit can have"),
            (("class", "M9"), "must be M0 to M5"),
            (("role", "surgeon"), "must be known roles"),
            (("role", "it_admin"), "decides on no change"),
            (("role", "trainee"), "decides on nothing itself"),
            (
                ("role", "clinician and pharmacist"),
                "must be `a and b` for `two_person`",
            ),
            (("verify", "slot_free"), "belongs to no other gate"),
            (("colour", "red"), "`@colour` is unknown"),
            (("text", " "), "`@text` is empty"),
            (("row", "x"), "must be a row number"),
        ] {
            let wrong = row(&[change]).unwrap_err().join("; ");
            assert!(wrong.contains(expected), "{change:?} gave {wrong}");
        }
        let missing = read(Action::Write, true, &annotations(&[("id", "order")])).unwrap_err();
        assert_eq!(missing.len(), 6, "{missing:?}");
    }

    #[test]
    fn verification_needs_facts_that_can_be_true() {
        let light = [
            ("gate", "auto_verified"),
            ("class", "M1"),
            ("role", "scheduler"),
        ];
        let with = |verify| {
            let mut change = light.to_vec();
            change.push(("verify", verify));
            row(&change)
        };
        assert!(with("slot_free, patient_confirmed").is_ok());
        assert!(with("hours_until_start").is_err());
        assert!(with("slot_fre").is_err());
        assert!(row(&light).is_err(), "no facts at all");
    }
}
