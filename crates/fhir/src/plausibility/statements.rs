//! Rules K-07 to K-10: what a code presumes of the patient, and whether the words beside it say the same.
//!
//! Rules about sex and age warn and never block: records err, and so do presumptions. The words are read only
//! as far as [`super::prose`] goes. Start at [`Checking::statements`].

use super::code_tables::RowSex;
use super::element::{self, Coding, codings, each, state, text};
use super::prose::{self, Mention, Sides};
use super::{Checking, Part, Sex, rule};

/// Types in whose codes and texts a side matters most.
const PROCEDURES: &[&str] = &["Procedure", "ServiceRequest"];
/// Types whose text and code are compared for sides.
const SIDED: &[&str] = &[
    "Condition",
    "Procedure",
    "ServiceRequest",
    "Observation",
    "DiagnosticReport",
    "Immunization",
];

impl Checking<'_> {
    pub(super) fn statements(&mut self) {
        if self.is_retracted() {
            return;
        }
        self.presumptions();
        self.side();
        if matches!(self.type_name, "Condition" | "AllergyIntolerance") {
            self.assertion();
        }
    }

    /// K-07 and K-08.
    fn presumptions(&mut self) {
        // A relative's condition presumes nothing of the patient.
        if self.type_name == "FamilyMemberHistory"
            || state(self.resource, "verificationStatus") == Some("refuted")
        {
            return;
        }
        let mut found: Vec<(String, Coding<'_>)> = Vec::new();
        for element in ["code", "vaccineCode", "reasonCode"] {
            for (path, concept) in each(self.resource, element) {
                found.extend(codings(concept).map(|it| (path.clone(), it)));
            }
        }
        for (path, coding) in found {
            let rules = self.rules;
            if let Some(presumed) = rules.codes.presumed_sex(&coding)
                && let Some(patient) = self.patient_for(&rule::K_07)
            {
                let words = [("code", coding.code)];
                let parts = [Part::Patient];
                match (presumed, patient.sex) {
                    (RowSex::Female, Sex::Male) => {
                        self.fire(&rule::K_07, "female", &path, &parts, &words);
                    }
                    (RowSex::Male, Sex::Female) => {
                        self.fire(&rule::K_07, "male", &path, &parts, &words);
                    }
                    _ => {}
                }
            }
            if let Some(row) = rules.codes.presumed_age(&coding) {
                let Some((low, high)) = self.age_at_event() else {
                    self.unchecked(&rule::K_08, Part::Patient);
                    continue;
                };
                let is_young = row.min_years.is_some_and(|min| high < min);
                // Up to the next birthday one still has the age.
                let is_old = row.max_years.is_some_and(|max| low >= max + 1.0);
                if is_young || is_old {
                    let years = format!("{:.0}", low.max(0.0).floor());
                    let words = [
                        ("code", coding.code),
                        ("what", row.what.as_str()),
                        ("years", years.as_str()),
                    ];
                    self.fire(&rule::K_08, "age", &path, &[Part::Patient], &words);
                }
            }
        }
    }

    /// K-09.
    fn side(&mut self) {
        if !SIDED.contains(&self.type_name) {
            return;
        }
        let mut said = Sides::default();
        let mut coded = Sides::default();
        for element in ["code", "bodySite", "reasonCode", "site"] {
            for (_, concept) in each(self.resource, element) {
                if let Some(words) = text(concept, "text") {
                    said = said.and(prose::sides(words));
                }
                if element != "reasonCode" {
                    for coding in codings(concept) {
                        coded = coded.and(self.rules.codes.coded_side(&coding));
                    }
                }
            }
        }
        for (_, note) in each(self.resource, "note") {
            said = said.and(prose::sides(text(note, "text").unwrap_or_default()));
        }
        if let (Some(said), Some(coded)) = (said.one(), coded.one())
            && said != coded
        {
            let case = if PROCEDURES.contains(&self.type_name) {
                "procedure-side"
            } else {
                "side"
            };
            let words = [("said", said), ("coded", coded)];
            self.fire(&rule::K_09, case, "", &[], &words);
        }
    }

    /// K-10.
    fn assertion(&mut self) {
        let verification = state(self.resource, "verificationStatus");
        let is_active = matches!(
            state(self.resource, "clinicalStatus"),
            None | Some("active" | "recurrence" | "relapse")
        );
        if matches!(
            verification,
            Some("refuted" | "entered-in-error" | "differential")
        ) {
            return;
        }
        let Some(code) = self.resource.get("code") else {
            return;
        };
        let displays: Vec<&str> = codings(code)
            .map(|it| it.display)
            .filter(|it| !it.is_empty())
            .collect();
        let own = text(code, "text").unwrap_or_default();
        let cues = &self.rules.codes.cues;
        let kinds = [
            ("negated", &cues.negation),
            ("family", &cues.family),
            ("historical", &cues.historical),
        ];
        let notes: Vec<&str> = element::list(self.resource, "note")
            .iter()
            .filter_map(|note| text(note, "text"))
            .collect();
        let quotes = self.context.quotes.as_deref();
        if quotes.is_none() {
            self.unchecked(&rule::K_10, Part::Quotes);
        }
        for (case, cues) in kinds {
            if case == "historical" && !is_active {
                continue;
            }
            // A code that itself says "family history of" or "no known" means what it says.
            let is_in_code = displays.iter().any(|it| {
                cues.iter()
                    .any(|cue| prose::has_phrase(&prose::words(it), cue))
            });
            if is_in_code {
                continue;
            }
            let mut term = prose::telling_words(displays.first().copied().unwrap_or(own));
            term.retain(|word| !cues.contains(word));
            if term.is_empty() {
                continue;
            }
            let Some((cue, parts)) = self.cue(own, &notes, quotes, &term, cues) else {
                continue;
            };
            let case = match verification {
                Some("confirmed") => case,
                _ => "unconfirmed",
            };
            self.fire(&rule::K_10, case, "code", parts, &[("cue", &cue)]);
            return;
        }
    }

    /// The cue with which the texts speak of the term, if none of them speaks of it without one.
    fn cue(
        &self,
        own: &str,
        notes: &[&str],
        quotes: Option<&[String]>,
        term: &[String],
        cues: &[String],
    ) -> Option<(String, &'static [Part])> {
        if let Mention::Cued(cue) = prose::mention(own, term, cues) {
            return Some((cue.to_owned(), &[]));
        }
        let mut found = None;
        let quoted = quotes.unwrap_or_default().iter().map(String::as_str);
        let all = notes
            .iter()
            .map(|it| (*it, &[][..]))
            .chain(quoted.map(|it| (it, &[Part::Quotes][..])));
        for (text, parts) in all {
            match prose::mention(text, term, cues) {
                Mention::None => {}
                Mention::Plain => return None,
                Mention::Cued(cue) => {
                    found.get_or_insert_with(|| (cue.to_owned(), parts));
                }
            }
        }
        found
    }
}
