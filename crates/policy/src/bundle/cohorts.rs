//! Checks of `cohorts/*.toml` and of `rules/cohorts.toml`, within whose bounds and search parameters each of them stays.
//!
//! Not whether the elements exist or a contact's codes are listed: that needs FHIR's definitions and the table of
//! consent, and the engine asks them when it starts.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::bundle::PatientBinding;
use chaperone_core::cohort::{
    COHORT_PATIENTS_MAX, CohortBounds, CohortDays, CohortDeclaration, CohortSearch, CohortValue,
    Minors,
};
use chaperone_core::ids::CohortId;
use chaperone_core::principal::Role;

use super::{Declared, read, tools};
use crate::problem::{Problems, line_of};

/// Name of the table among the rules.
const COHORTS: &str = "cohorts";
/// Path of the table.
pub const COHORTS_PATH: &str = "rules/cohorts.toml";
/// Folder of the declarations.
const FOLDER: &str = "cohorts/";
/// Most cohorts of one bundle.
const COHORTS_MAX: usize = 100;
/// Longest span of days, either way.
const DAYS_MAX: i64 = 3_660;
/// Most searches that exclude somebody.
const UNLESS_MAX: usize = 4;
/// Most resources that any bundle may let one search find.
const FOUND_MAX: u32 = 1_000;
/// Most codes of one parameter.
const CODES_MAX: usize = 50;

/// What the bundle declares of cohorts.
#[derive(Debug, Clone, Default)]
pub(super) struct Cohorts {
    pub(super) bounds: Option<CohortBounds>,
    pub(super) declared: BTreeMap<CohortId, CohortDeclaration>,
}

/// The cohorts, by id.
pub(super) fn load(
    declared: &Declared,
    rules: &BTreeMap<String, String>,
    files: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> Cohorts {
    let mut cohorts = Cohorts::default();
    if let Some(text) = rules.get(COHORTS)
        && let Some(bounds) = read::parse::<CohortBounds>(COHORTS_PATH, text, problems)
    {
        check_bounds(&bounds, text, problems);
        cohorts.bounds = Some(bounds);
    }
    for (path, stem, text) in read::files_in(files, FOLDER, ".toml") {
        let Some(cohort) = read::parse::<CohortDeclaration>(path, text, problems) else {
            continue;
        };
        read::named_like(path, stem, cohort.id.as_str(), problems);
        let Some(bounds) = &cohorts.bounds else {
            let why = format!(
                "a cohort needs `{COHORTS_PATH}`, which says what may be searched and how long a list may be; \
                 `chaperone init` writes one to start from"
            );
            problems.add(path, cohort.id.as_str(), why);
            continue;
        };
        Checked {
            path,
            text,
            cohort: &cohort,
            bounds,
            problems: &mut *problems,
        }
        .check(declared);
        cohorts.declared.insert(cohort.id.clone(), cohort);
    }
    if cohorts.declared.len() > COHORTS_MAX {
        let why = format!("a bundle holds at most {COHORTS_MAX} cohorts");
        problems.add(FOLDER, "", why);
    }
    cohorts
}

fn check_bounds(bounds: &CohortBounds, text: &str, problems: &mut Problems) {
    let mut problem = |key: &str, why: String| {
        problems.add_at(COHORTS_PATH, line_of(text, key), key, why);
    };
    for (key, said) in [("source", &bounds.source), ("owner", &bounds.owner)] {
        if said.trim().is_empty() {
            problem(key, format!("`{key}` is empty"));
        }
    }
    for (key, day) in [
        ("reviewed", &bounds.reviewed),
        ("review_by", &bounds.review_by),
    ] {
        if !read::is_day(day) {
            problem(key, "must be a day such as `2026-01-31`".to_owned());
        }
    }
    for (key, value, most) in [
        ("cap_max", bounds.cap_max, COHORT_PATIENTS_MAX),
        ("grants_per_minute_max", bounds.grants_per_minute_max, 600),
        ("list_hours_max", bounds.list_hours_max, 7 * 24),
        ("grant_minutes_max", bounds.grant_minutes_max, 24 * 60),
        ("found_max", bounds.found_max, FOUND_MAX),
    ] {
        if !(1..=most).contains(&value) {
            problem(key, format!("`{key}` must be 1 to {most}"));
        }
    }
    for (resource, searchable) in &bounds.searches {
        let paths = [&searchable.codes, &searchable.dates];
        let paths = paths.into_iter().flat_map(BTreeMap::values);
        for path in paths.chain([&searchable.patient]) {
            if !tools::is_element_path(path) {
                problem(resource.as_str(), format!("`{path}` is no element path"));
            }
        }
    }
}

struct Checked<'a> {
    path: &'a str,
    text: &'a str,
    cohort: &'a CohortDeclaration,
    bounds: &'a CohortBounds,
    problems: &'a mut Problems,
}

impl Checked<'_> {
    fn problem(&mut self, wanted: &str, message: String) {
        let line = line_of(self.text, wanted);
        self.problems
            .add_at(self.path, line, self.cohort.id.as_str(), message);
    }

    fn check(&mut self, declared: &Declared) {
        self.texts();
        self.authority(declared);
        self.numbers();
        self.people();
        let cohort = self.cohort;
        for (name, argument) in &cohort.arguments {
            let is_span = argument.minimum <= argument.default
                && argument.default <= argument.maximum
                && argument.minimum >= -DAYS_MAX
                && argument.maximum <= DAYS_MAX;
            if !is_span {
                self.problem(
                    name,
                    format!("argument `{name}`: `default` must lie between `minimum` and `maximum`, and all of them within {DAYS_MAX} days"),
                );
            }
        }
        let mut used = BTreeSet::new();
        self.search("search", &cohort.search, &mut used);
        if cohort.search.parameters.is_empty() {
            self.problem(
                "search",
                "the search names no parameter, so it would find everybody".to_owned(),
            );
        }
        if cohort.unless.len() > UNLESS_MAX {
            self.problem(
                "unless",
                format!("at most {UNLESS_MAX} searches exclude somebody"),
            );
        }
        for unless in &cohort.unless {
            self.search("unless", unless, &mut used);
        }
        for name in cohort.arguments.keys() {
            if !used.contains(name.as_str()) {
                self.problem(name, format!("argument `{name}` is used by no search"));
            }
        }
    }

    fn texts(&mut self) {
        let cohort = self.cohort;
        for (key, said) in [
            ("title", &cohort.title),
            ("purpose", &cohort.purpose),
            ("source", &cohort.source),
            ("owner", &cohort.owner),
        ] {
            if said.trim().is_empty() {
                self.problem(key, format!("`{key}` is empty"));
            }
        }
        for (key, day) in [
            ("reviewed", &cohort.reviewed),
            ("review_by", &cohort.review_by),
        ] {
            if !read::is_day(day) {
                self.problem(key, format!("`{key}` must be a day such as `2026-01-31`"));
            }
        }
    }

    /// Agent and intent: registered for each other, about a patient, and without a person's presence, which no list
    /// brings.
    fn authority(&mut self, declared: &Declared) {
        let cohort = self.cohort;
        let (agent, intent) = (&cohort.agent, &cohort.intent);
        match declared.agents.get(agent) {
            None => self.problem(
                "agent",
                format!("agent `{agent}` is not declared; name one of agents/*.toml"),
            ),
            Some((_, known)) if !known.intents.contains(intent) => self.problem(
                "intent",
                format!(
                    "agent `{agent}` is not registered for intent `{intent}`; add it to `intents` in agents/{agent}.toml, or name another agent"
                ),
            ),
            Some(_) => {}
        }
        match declared.intents.get(intent) {
            None => self.problem(
                "intent",
                format!("intent `{intent}` is not declared; name one of intents/*.toml"),
            ),
            Some((_, known)) => {
                if known.patient == PatientBinding::None {
                    let why = format!("intent `{intent}` is about no patient and takes no grant");
                    self.problem("intent", why);
                }
                if known.presence {
                    let why = format!(
                        "intent `{intent}` needs a person who is present, and a list brings none"
                    );
                    self.problem("intent", why);
                }
            }
        }
    }

    fn numbers(&mut self) {
        let (cohort, bounds) = (self.cohort, self.bounds);
        for (key, value, most) in [
            ("cap", cohort.cap, bounds.cap_max.min(COHORT_PATIENTS_MAX)),
            (
                "grants_per_minute",
                cohort.grants_per_minute,
                bounds.grants_per_minute_max,
            ),
            ("list_hours", cohort.list_hours, bounds.list_hours_max),
            (
                "grant_minutes",
                cohort.grant_minutes,
                bounds.grant_minutes_max,
            ),
        ] {
            if !(1..=most).contains(&value) {
                self.problem(
                    key,
                    format!("`{key}` must be 1 to {most}, which `{COHORTS_PATH}` says"),
                );
            }
        }
    }

    /// Who asks and who approves work with patients: who operates Chaperone does neither, and nobody outside the
    /// organisation.
    fn people(&mut self) {
        const NEITHER: [Role; 4] = [Role::Patient, Role::Proxy, Role::Trainee, Role::ItAdmin];
        let cohort = self.cohort;
        for (key, roles) in [("request", &cohort.request), ("approve", &cohort.approve)] {
            if roles.is_empty() || roles.iter().any(|role| NEITHER.contains(role)) {
                self.problem(
                    key,
                    format!("`{key}` must name a role that works with patients; `patient`, `proxy`, `trainee` and `it_admin` are none"),
                );
            }
        }
        if let Some(contact) = &cohort.contact {
            if contact.channels.is_empty() {
                let why = "`contact` names no channel, so nobody could be reached".to_owned();
                self.problem("contact", why);
            }
            if cohort.minors == Minors::Include {
                self.problem(
                    "minors",
                    "agents do not reach out to minors; set `minors = \"leave_out\"`, or leave `contact` out where nobody is written to".to_owned(),
                );
            }
        }
    }

    fn search<'s>(&mut self, key: &str, search: &'s CohortSearch, used: &mut BTreeSet<&'s str>) {
        let bounds = self.bounds;
        let Some(searchable) = bounds.searches.get(&search.resource) else {
            let known: Vec<&str> = bounds.searches.keys().map(|it| it.as_str()).collect();
            let why = format!(
                "`{}` is not among what may be searched ({}); add `[searches.{}]` to `{COHORTS_PATH}` if it should be",
                search.resource,
                known.join(", "),
                search.resource
            );
            return self.problem(search.resource.as_str(), why);
        };
        for (name, value) in &search.parameters {
            let is_code = searchable.codes.contains_key(name);
            let is_date = searchable.dates.contains_key(name);
            if !is_code && !is_date {
                let known = searchable.codes.keys().chain(searchable.dates.keys());
                let known: Vec<&str> = known.map(String::as_str).collect();
                let why = format!(
                    "`{name}` is no search parameter that is listed for `{}` ({}); use one of them, or add it to `{COHORTS_PATH}` with the element it is about",
                    search.resource,
                    known.join(", ")
                );
                self.problem(name, why);
                continue;
            }
            if let Err(why) = self.value(value, is_code, used) {
                self.problem(name, format!("{key}, `{name}`: {why}"));
            }
        }
    }

    fn value<'s>(
        &self,
        value: &'s CohortValue,
        is_code: bool,
        used: &mut BTreeSet<&'s str>,
    ) -> Result<(), String> {
        let days = [&value.from_days_ago, &value.before_days_ago];
        let days: Vec<&CohortDays> = days.into_iter().flatten().collect();
        let has_codes = !value.codes.is_empty() || value.system.is_some();
        if is_code {
            if value.codes.is_empty() || value.codes.len() > CODES_MAX || !days.is_empty() {
                return Err(format!(
                    "give `codes`, at most {CODES_MAX}, and nothing of days"
                ));
            }
            return Ok(());
        }
        if has_codes || days.is_empty() {
            return Err("give `from_days_ago` or `before_days_ago`, and no codes".to_owned());
        }
        for day in days {
            match day {
                CohortDays::Fixed(fixed) if !(-DAYS_MAX..=DAYS_MAX).contains(fixed) => {
                    return Err(format!("days must lie within {DAYS_MAX}, either way"));
                }
                CohortDays::Fixed(_) => {}
                CohortDays::Argument(name) => {
                    if !self.cohort.arguments.contains_key(name) {
                        return Err(format!(
                            "argument `{name}` is not declared; add `[arguments.{name}]`"
                        ));
                    }
                    used.insert(name);
                }
            }
        }
        Ok(())
    }
}
