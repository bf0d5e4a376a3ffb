//! How long anything is kept, counted from what, and what happens then: `rules/retention.toml`, checked when a
//! bundle is loaded.
//!
//! Not here: applying them (`sweep`). A rule without an end, shorter than the law it falls under, beyond the cap, or
//! for nothing that is kept stops the bundle, and so does anything kept without a rule.
//!
//! # Source
//! Requirements R055 to R058; 45 CFR 164.316(b)(2)(i), 164.310(d)(2)(i).

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::ports::PayloadClass;
use chaperone_core::writeback::StateName;
use chaperone_policy::Bundle;
use serde::{Deserialize, Serialize};

use super::term::Term;
use crate::inventory::artefacts;

/// The file of the bundle.
pub const FILE: &str = "rules/retention.toml";
/// The file in which an organisation makes rules longer.
const LONGER: &str = "retention-longer";
/// No cap of a bundle may be beyond this: a minor's record to majority and ten years more, with two to spare.
const CAP_YEARS_MAX: u16 = 30;
/// Rules of one file.
const RULES_MAX: usize = 1_000;

/// What became of the write-back that a payload belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The EHR has it, or had it.
    Delivered,
    /// Refused, expired, withdrawn, void, abandoned.
    Undelivered,
    /// A draft that stayed here.
    Staged,
}

impl Outcome {
    const ALL: [Outcome; 3] = [Outcome::Delivered, Outcome::Undelivered, Outcome::Staged];

    /// Its name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Undelivered => "undelivered",
            Outcome::Staged => "staged",
        }
    }

    /// What a state means for what is kept; `None` while anything may still happen to it.
    pub(crate) fn of(state: StateName) -> Option<Outcome> {
        match state {
            StateName::Delivered | StateName::Compensated => Some(Outcome::Delivered),
            StateName::Refused
            | StateName::Void
            | StateName::Abandoned
            | StateName::CanarySettled => Some(Outcome::Undelivered),
            StateName::Staged => Some(Outcome::Staged),
            StateName::Proposed
            | StateName::Validated
            | StateName::AwaitingVerification
            | StateName::AwaitingApproval
            | StateName::Ready
            | StateName::Delivering
            | StateName::Unknown
            | StateName::AwaitingSignature
            | StateName::DeadLetter
            | StateName::Quarantined
            | StateName::Canary => None,
        }
    }
}

/// What a rule counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CountedFrom {
    /// When it was put.
    Created,
    /// When its write-back, or what it was for, came to its end.
    Ended,
    /// The newest that happened to the patient.
    LastActivity,
    /// Its own expiry.
    OwnEnd,
    /// When the next value took its place.
    Replaced,
}

impl CountedFrom {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            CountedFrom::Created => "after it was made",
            CountedFrom::Ended => "after what it belongs to ended",
            CountedFrom::LastActivity => "after the patient's last activity",
            CountedFrom::OwnEnd => "after its own end",
            CountedFrom::Replaced => "after it was replaced",
        }
    }
}

/// What happens when the time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtEnd {
    /// Chaperone deletes it.
    Delete,
    /// The patient's keys are destroyed.
    Shred,
    /// A person does; Chaperone says when.
    ByHand,
}

impl AtEnd {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            AtEnd::Delete => "deleted",
            AtEnd::Shred => "shredded",
            AtEnd::ByHand => "ended by a person",
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name, which receipts carry.
    pub id: String,
    /// What it is for, as the inventory names it.
    pub artefact: String,
    /// Only for what belongs to a write-back that ended so.
    pub of: Option<Outcome>,
    /// How long.
    pub keep: Term,
    /// Counted from what.
    pub from: CountedFrom,
    /// And then.
    pub at_end: AtEnd,
    /// What a person does then.
    pub how: Option<String>,
    /// What it rests on.
    pub source: String,
    /// Who answers for it.
    pub owner: String,
    /// When somebody looks at it again.
    pub review_by: jiff::civil::Date,
}

impl Rule {
    /// In words: how long, counted from what, and then.
    pub fn words(&self) -> String {
        let of = match self.of {
            Some(of) => format!("{}: ", of.as_str()),
            None => String::new(),
        };
        format!(
            "{of}{} {}, then {}",
            self.keep,
            self.from.words(),
            self.at_end.words()
        )
    }

    fn is_covered_by(&self, covers: &[String]) -> bool {
        let narrow = self
            .of
            .map(|of| format!("{}/{}", self.artefact, of.as_str()));
        covers
            .iter()
            .any(|cover| *cover == self.artefact || Some(cover) == narrow.as_ref())
    }
}

/// What law demands at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Minimum {
    /// Its name.
    pub id: String,
    /// How long.
    pub at_least: Term,
    /// Which law.
    pub source: String,
    covers: Vec<String>,
}

/// How much longer records of minors stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Minors {
    /// From birth to majority.
    pub majority: Term,
    /// And then.
    pub then: Term,
    /// Which law.
    pub source: String,
    covers: Vec<String>,
}

impl Minors {
    /// Until when something of somebody born on this day must stay.
    pub fn until(&self, born: Timestamp) -> Timestamp {
        self.then.after(self.majority.after(born))
    }
}

/// All rules of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRules {
    rules: Vec<Rule>,
    minimums: Vec<Minimum>,
    minors: Minors,
    digest: Digest,
}

/// Why there are no rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetentionInvalid {
    /// The bundle has no such file.
    #[error("the bundle has no rules/retention.toml")]
    Missing,
    /// It cannot be read.
    #[error("{file} cannot be used: {why}")]
    Unreadable {
        /// Which.
        file: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A rule cannot stand.
    #[error("rules/retention.toml, rule `{id}`: {why}")]
    Rule {
        /// Which.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// Something is kept without a rule, or under more than one.
    #[error("rules/retention.toml must have exactly one rule for `{0}`")]
    Rules(String),
    /// A rule, or what law covers, is for nothing that is kept.
    #[error("rules/retention.toml: `{0}` is nothing that Chaperone keeps")]
    Unknown(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    #[serde(rename = "owner")]
    _owner: String,
    #[serde(rename = "source")]
    _source: String,
    #[serde(rename = "reviewed")]
    _reviewed: String,
    #[serde(rename = "review_by")]
    _review_by: String,
    cap: String,
    minimums: Vec<RawMinimum>,
    minors: RawMinors,
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMinimum {
    id: String,
    at_least: String,
    source: String,
    covers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMinors {
    age_of_majority_years: u16,
    then: String,
    covers: Vec<String>,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    id: String,
    artefact: String,
    of: Option<Outcome>,
    // Anything, so that a number or nothing at all is answered with what is wanted.
    keep: Option<toml::Value>,
    from: CountedFrom,
    at_end: AtEnd,
    how: Option<String>,
    source: String,
    owner: String,
    review_by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLongerTable {
    #[serde(default)]
    longer: Vec<RawLonger>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLonger {
    rule: String,
    keep: Option<toml::Value>,
    source: String,
    owner: String,
    review_by: String,
}

fn wrong(id: &str, why: impl ToString) -> RetentionInvalid {
    RetentionInvalid::Rule {
        id: id.to_owned(),
        why: why.to_string(),
    }
}

fn unreadable(file: &'static str) -> impl Fn(toml::de::Error) -> RetentionInvalid {
    move |error| RetentionInvalid::Unreadable {
        file,
        why: error.message().to_owned(),
    }
}

fn term(id: &str, keep: Option<&toml::Value>) -> Result<Term, RetentionInvalid> {
    let text = keep.and_then(toml::Value::as_str).unwrap_or_default();
    text.parse()
        .map_err(|invalid| wrong(id, format!("`keep`: {invalid}")))
}

fn day(id: &str, text: &str) -> Result<jiff::civil::Date, RetentionInvalid> {
    text.parse()
        .map_err(|_| wrong(id, "`review_by` is a day such as 2027-05-22"))
}

fn said(id: &str, name: &str, text: &str) -> Result<(), RetentionInvalid> {
    if text.trim().is_empty() {
        return Err(wrong(id, format!("`{name}` is empty")));
    }
    Ok(())
}

impl RawRule {
    fn rule(self) -> Result<Rule, RetentionInvalid> {
        let keep = term(&self.id, self.keep.as_ref())?;
        let review_by = day(&self.id, &self.review_by)?;
        said(&self.id, "source", &self.source)?;
        said(&self.id, "owner", &self.owner)?;
        let needs_how = self.at_end == AtEnd::ByHand;
        if needs_how && self.how.as_deref().is_none_or(|how| how.trim().is_empty()) {
            return Err(wrong(&self.id, "`by-hand` needs `how`: what a person does"));
        }
        let is_payload = self.artefact.starts_with("payload/");
        if self.of.is_some() && !is_payload {
            return Err(wrong(&self.id, "`of` is for payloads of write-backs"));
        }
        let fits = !is_payload
            || (self.at_end == AtEnd::Delete
                && matches!(self.from, CountedFrom::Created | CountedFrom::Ended));
        if !fits {
            return Err(wrong(
                &self.id,
                "payloads are counted from `created` or `ended`, and end with `delete`",
            ));
        }
        let is_shred = self.at_end == AtEnd::Shred;
        if is_shred != (self.from == CountedFrom::LastActivity) {
            return Err(wrong(
                &self.id,
                "`shred` and `last-activity` are of patients, and go together",
            ));
        }
        Ok(Rule {
            id: self.id,
            artefact: self.artefact,
            of: self.of,
            keep,
            from: self.from,
            at_end: self.at_end,
            how: self.how,
            source: self.source,
            owner: self.owner,
            review_by,
        })
    }
}

impl RetentionRules {
    /// The rules of a bundle.
    ///
    /// # Errors
    /// [`RetentionInvalid`] names the rule and what it must say.
    pub fn of(bundle: &Bundle) -> Result<Self, RetentionInvalid> {
        let text = bundle
            .rule_text("retention")
            .ok_or(RetentionInvalid::Missing)?;
        let longer = bundle.rule_text(LONGER).unwrap_or_default();
        let raw: RawTable = toml::from_str(text).map_err(unreadable(FILE))?;
        let cap = raw
            .cap
            .parse::<Term>()
            .map_err(|invalid| wrong("cap", invalid))?;
        if Term::years(CAP_YEARS_MAX).is_shorter_than(cap) {
            return Err(wrong(
                "cap",
                format!("no cap may be beyond {CAP_YEARS_MAX} years"),
            ));
        }
        if raw.rules.len() > RULES_MAX {
            return Err(wrong("rules", format!("there are more than {RULES_MAX}")));
        }
        let mut rules = Vec::with_capacity(raw.rules.len());
        for rule in raw.rules {
            rules.push(rule.rule()?);
        }
        lengthen(&mut rules, longer)?;
        let minimums = minimums(raw.minimums)?;
        let minors = minors(raw.minors)?;
        for rule in &rules {
            if cap.is_shorter_than(rule.keep) {
                return Err(wrong(
                    &rule.id,
                    format!("`{}` is beyond the cap of {cap}", rule.keep),
                ));
            }
            let broken = minimums.iter().find(|it| {
                rule.is_covered_by(&it.covers) && rule.keep.is_shorter_than(it.at_least)
            });
            if let Some(minimum) = broken {
                return Err(wrong(
                    &rule.id,
                    format!(
                        "`{}` is shorter than the {} that law demands: {}",
                        rule.keep, minimum.at_least, minimum.source
                    ),
                ));
            }
        }
        let covers = minimums.iter().flat_map(|it| &it.covers);
        check_artefacts(&rules, covers.chain(&minors.covers))?;
        Ok(Self {
            rules,
            minimums,
            minors,
            digest: Digest::of_parts([text.as_bytes(), longer.as_bytes()]),
        })
    }

    /// The digest over the texts that they were read from; receipts carry it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Every rule, in the order of the file.
    pub fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules for one artefact, in words.
    pub fn words(&self, artefact: &str) -> String {
        let rules = self.rules.iter().filter(|rule| rule.artefact == artefact);
        rules.map(Rule::words).collect::<Vec<_>>().join("; ")
    }

    /// The rule for a payload; for one of which nobody knows what it belongs to, the longest of its class.
    pub(crate) fn of_payload(
        &self,
        class: PayloadClass,
        outcome: Option<Outcome>,
    ) -> Option<&Rule> {
        let mut found: Option<&Rule> = None;
        for rule in self.of_class(class) {
            if rule.of.is_none() || (outcome.is_some() && rule.of == outcome) {
                return Some(rule);
            }
            if outcome.is_none() && found.is_none_or(|it| it.keep.is_shorter_than(rule.keep)) {
                found = Some(rule);
            }
        }
        found
    }

    /// The shortest time that any payload of a class is kept.
    pub(crate) fn shortest(&self, class: PayloadClass) -> Option<Term> {
        let mut shortest: Option<Term> = None;
        for rule in self.of_class(class) {
            if shortest.is_none_or(|it| rule.keep.is_shorter_than(it)) {
                shortest = Some(rule.keep);
            }
        }
        shortest
    }

    fn of_class(&self, class: PayloadClass) -> impl Iterator<Item = &Rule> {
        self.rules
            .iter()
            .filter(move |rule| rule.artefact.strip_prefix("payload/") == Some(class.as_str()))
    }

    /// The one rule for something that is no payload.
    pub(crate) fn of_artefact(&self, artefact: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.artefact == artefact)
    }

    /// What law demands at least for what a rule is for: the longest that covers it.
    pub(crate) fn minimum(&self, rule: &Rule) -> Option<&Minimum> {
        let mut longest: Option<&Minimum> = None;
        for minimum in &self.minimums {
            if rule.is_covered_by(&minimum.covers)
                && longest.is_none_or(|it| it.at_least.is_shorter_than(minimum.at_least))
            {
                longest = Some(minimum);
            }
        }
        longest
    }

    /// What holds for minors, where it covers a rule.
    pub(crate) fn minors(&self, rule: &Rule) -> Option<&Minors> {
        rule.is_covered_by(&self.minors.covers)
            .then_some(&self.minors)
    }
}

/// Applies the organisation's own file, which makes rules longer and never shorter.
fn lengthen(rules: &mut [Rule], text: &str) -> Result<(), RetentionInvalid> {
    const FILE: &str = "rules/retention-longer.toml";
    let table: RawLongerTable = toml::from_str(text).map_err(unreadable(FILE))?;
    let mut seen: Vec<String> = Vec::new();
    for longer in table.longer {
        let id = longer.rule;
        let keep = term(&id, longer.keep.as_ref())?;
        let rule = rules
            .iter_mut()
            .find(|rule| rule.id == id)
            .ok_or_else(|| wrong(&id, "retention-longer.toml names a rule that is not there"))?;
        if seen.contains(&id) {
            return Err(wrong(&id, "retention-longer.toml names it twice"));
        }
        if !rule.keep.is_shorter_than(keep) {
            return Err(wrong(
                &id,
                format!(
                    "retention-longer.toml may only make it longer than {}, and says {keep}",
                    rule.keep
                ),
            ));
        }
        said(&id, "source", &longer.source)?;
        said(&id, "owner", &longer.owner)?;
        rule.review_by = day(&id, &longer.review_by)?;
        rule.keep = keep;
        rule.source = longer.source;
        rule.owner = longer.owner;
        seen.push(id);
    }
    Ok(())
}

fn minimums(raw: Vec<RawMinimum>) -> Result<Vec<Minimum>, RetentionInvalid> {
    raw.into_iter()
        .map(|it| {
            said(&it.id, "source", &it.source)?;
            Ok(Minimum {
                at_least: it
                    .at_least
                    .parse()
                    .map_err(|invalid| wrong(&it.id, invalid))?,
                id: it.id,
                source: it.source,
                covers: it.covers,
            })
        })
        .collect()
}

fn minors(raw: RawMinors) -> Result<Minors, RetentionInvalid> {
    const ID: &str = "minors";
    if !(14..=25).contains(&raw.age_of_majority_years) {
        return Err(wrong(ID, "`age_of_majority_years` is from 14 to 25"));
    }
    said(ID, "source", &raw.source)?;
    Ok(Minors {
        majority: Term::years(raw.age_of_majority_years),
        then: raw.then.parse().map_err(|invalid| wrong(ID, invalid))?,
        source: raw.source,
        covers: raw.covers,
    })
}

/// Everything kept has a rule, and every rule is for something kept.
fn check_artefacts<'a>(
    rules: &[Rule],
    mut covers: impl Iterator<Item = &'a String>,
) -> Result<(), RetentionInvalid> {
    let wanted = artefacts();
    let named = |artefact: &str, of: Option<Outcome>| match of {
        Some(of) => format!("{artefact}/{}", of.as_str()),
        None => artefact.to_owned(),
    };
    for artefact in &wanted {
        let outcomes: &[Outcome] = match artefact.starts_with("payload/") {
            true => &Outcome::ALL,
            false => &[Outcome::Delivered],
        };
        for outcome in outcomes {
            let matching = rules
                .iter()
                .filter(|it| it.artefact == *artefact && it.of.is_none_or(|of| of == *outcome));
            if matching.count() != 1 {
                let of = artefact.starts_with("payload/").then_some(*outcome);
                return Err(RetentionInvalid::Rules(named(artefact, of)));
            }
        }
    }
    if let Some(stray) = rules.iter().find(|it| !wanted.contains(&it.artefact)) {
        return Err(RetentionInvalid::Unknown(stray.artefact.clone()));
    }
    let mut ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
    ids.sort_unstable();
    if let Some([twice, _]) = ids.windows(2).find(|it| matches!(it, [a, b] if a == b)) {
        return Err(wrong(twice, "two rules have this id"));
    }
    let known = |cover: &str| {
        rules
            .iter()
            .any(|rule| cover == rule.artefact || cover == named(&rule.artefact, rule.of))
    };
    match covers.find(|cover| !known(cover)) {
        Some(stray) => Err(RetentionInvalid::Unknown(stray.clone())),
        None => Ok(()),
    }
}
