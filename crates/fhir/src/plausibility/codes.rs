//! Rules K-01 to K-05: code systems, codes and their displays, units of measures.
//!
//! Bindings of profiles are the profile check's business; here is what clinical workflow demands beside
//! them. Start at [`Checking::codes`].

use serde_json::Value;

use super::code_source::CodeStatus;
use super::code_tables::SystemRow;
use super::drugs::Known;
use super::element::{
    self, Coding, ICD10_CM, LOINC, RXNORM, SNOMED, UCUM, codings, each, quantity, text, walk,
};
use super::{Checking, Observed, Part, prose, rule, units};

/// Most codings of a resource that are looked up.
const CODINGS_MAX: usize = 500;

impl Checking<'_> {
    pub(super) fn codes(&mut self) {
        if self.is_retracted() {
            return;
        }
        self.code_systems();
        self.each_coding();
        self.measured_units();
    }

    /// Elements at a dotted path below the resource, with their own paths.
    pub(super) fn elements_at(&self, path: &str) -> Vec<(String, &Value)> {
        let mut at: Vec<(String, &Value)> = vec![(String::new(), self.resource)];
        for step in path.split('.') {
            let mut next = Vec::new();
            for (before, value) in at {
                for (name, value) in each(value, step) {
                    let path = if before.is_empty() {
                        name
                    } else {
                        format!("{before}.{name}")
                    };
                    next.push((path, value));
                }
            }
            at = next;
        }
        at
    }

    /// K-01.
    fn code_systems(&mut self) {
        let rules = self.rules;
        for row in &rules.codes.systems {
            if row.resource_type == self.type_name && self.is_row_for(row) {
                self.code_system(row);
            }
        }
    }

    fn is_row_for(&mut self, row: &SystemRow) -> bool {
        if let Some(category) = &row.category
            && !element::has_category(self.resource, category)
        {
            return false;
        }
        if row.encounter_class.is_empty() {
            return true;
        }
        match &self.context.encounter {
            Observed::Present(encounter) => element::text_at(encounter, "/class/code")
                .is_some_and(|class| row.encounter_class.iter().any(|it| it == class)),
            Observed::Absent => false,
            Observed::Unknown => {
                self.unchecked(&rule::K_01, Part::Encounter);
                false
            }
        }
    }

    fn code_system(&mut self, row: &SystemRow) {
        let mut wrong = Vec::new();
        for (path, value) in self.elements_at(&row.element) {
            // A Quantity names its unit's system itself.
            let systems: Vec<&str> = match text(value, "system") {
                Some(system) => vec![system],
                None => codings(value).map(|it| it.system).collect(),
            };
            let is_coded = systems.iter().any(|it| !it.is_empty());
            if is_coded
                && !systems
                    .iter()
                    .any(|it| row.allowed.iter().any(|ok| ok == it))
            {
                let named = systems.first().copied().unwrap_or_default().to_owned();
                wrong.push((path, named));
            }
        }
        let parts: &[Part] = if row.encounter_class.is_empty() {
            &[]
        } else {
            &[Part::Encounter]
        };
        for (path, system) in wrong {
            let words = [
                ("element", row.element.as_str()),
                ("system", system.as_str()),
                ("allowed", row.words.as_str()),
            ];
            self.fire(&rule::K_01, "system", &path, parts, &words);
        }
    }

    /// K-02 and K-03.
    fn each_coding(&mut self) {
        let mut found: Vec<(String, &Value)> = Vec::new();
        walk(self.resource, &mut |path, _, value| {
            let is_coding = text(value, "system").is_some() && text(value, "code").is_some();
            let is_quantity = value.get("value").is_some();
            if is_coding && !is_quantity && found.len() < CODINGS_MAX {
                found.push((path.to_owned(), value));
            }
        });
        for (path, value) in found {
            let coding = element::coding(value);
            if path.starts_with("meta") || path.starts_with("contained") {
                continue;
            }
            self.exists(&path, &coding);
            self.display(&path, &coding);
        }
    }

    fn exists(&mut self, path: &str, coding: &Coding<'_>) {
        let words = [("code", coding.code), ("system", coding.system)];
        let is_wrong_by_digit = match coding.system {
            LOINC => !is_loinc_plausible(coding.code),
            SNOMED => !is_snomed_plausible(coding.code),
            _ => false,
        };
        if is_wrong_by_digit {
            self.fire(&rule::K_02, "check-digit", path, &[], &words);
            return;
        }
        let is_clinical = [LOINC, SNOMED, RXNORM, ICD10_CM].contains(&coding.system)
            || coding.system.starts_with("http://hl7.org/fhir/sid/")
            || coding.system == "http://www.ama-assn.org/go/cpt";
        if !is_clinical {
            return;
        }
        let on = self
            .event_times()
            .first()
            .map(|(_, _, when)| when.first_day);
        let status = self.ports.codes.map_or(CodeStatus::NotDecided, |port| {
            port.status(coding.system, coding.code, on)
        });
        match status {
            CodeStatus::Active => {}
            CodeStatus::Inactive => {
                self.fire(&rule::K_02, "inactive", path, &[Part::CodeSystems], &words);
            }
            CodeStatus::Unknown => {
                self.fire(&rule::K_02, "unknown", path, &[Part::CodeSystems], &words);
            }
            CodeStatus::NotDecided => self.unchecked(&rule::K_02, Part::CodeSystems),
        }
        if self.type_name == "Claim" && coding.system == ICD10_CM {
            let billable = self
                .ports
                .codes
                .and_then(|port| port.is_billable(coding.system, coding.code));
            match billable {
                Some(true) => {}
                Some(false) => {
                    self.fire(
                        &rule::K_02,
                        "not-billable",
                        path,
                        &[Part::CodeSystems],
                        &words,
                    );
                }
                None => self.unchecked(&rule::K_02, Part::CodeSystems),
            }
        }
    }

    fn display(&mut self, path: &str, coding: &Coding<'_>) {
        if coding.display.is_empty() {
            return;
        }
        if coding.system == RXNORM {
            self.drug_display(path, coding);
            return;
        }
        let rules = self.rules;
        let mut expected: Vec<String> = match coding.system {
            LOINC => rules
                .measures
                .by_code(coding.code)
                .map(|measure| measure.words.clone())
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        if expected.is_empty()
            && let Some(port) = self.ports.codes
        {
            expected = port.displays(coding.system, coding.code);
        }
        if expected.is_empty() {
            return;
        }
        let said = prose::words(coding.display);
        let agrees = expected
            .iter()
            .any(|it| prose::words(it).iter().any(|word| said.contains(word)));
        if !agrees {
            let first = expected.first().map(String::as_str).unwrap_or_default();
            let words = [("code", coding.code), ("expected", first)];
            self.fire(&rule::K_03, "display", path, &[], &words);
        }
    }

    /// K-03 for drugs: a display that names another drug than the code is a swap.
    fn drug_display(&mut self, path: &str, coding: &Coding<'_>) {
        let rules = self.rules;
        let by_code = rules.drugs.by_code(coding.code);
        let Some(expected) = by_code.first() else {
            return;
        };
        let words = [("code", coding.code), ("expected", expected.id.as_str())];
        match rules.drugs.by_words(coding.display) {
            Known::Nothing => self.fire(&rule::K_03, "brand", path, &[], &words),
            Known::Whole(named) | Known::Partly(named) => {
                let agrees = by_code
                    .iter()
                    .any(|one| named.iter().any(|it| it.id == one.id));
                if !agrees {
                    self.fire(&rule::K_03, "drug", path, &[], &words);
                }
            }
        }
    }

    /// K-04 and K-05, for the Observation and each component.
    fn measured_units(&mut self) {
        if self.type_name != "Observation" {
            return;
        }
        self.measured_unit("", self.resource);
        for (path, component) in each(self.resource, "component") {
            self.measured_unit(&path, component);
        }
        let rules = self.rules;
        let vital = codings(self.resource.get("code").unwrap_or(&Value::Null))
            .filter(|it| it.system == LOINC)
            .find_map(|it| {
                rules
                    .measures
                    .by_code(it.code)
                    .filter(|measure| measure.is_vital)
            });
        if let Some(measure) = vital
            && !element::has_category(self.resource, "vital-signs")
        {
            let words = [("name", measure.name.as_str())];
            self.fire(&rule::K_04, "category", "category", &[], &words);
        }
    }

    fn measured_unit(&mut self, path: &str, holder: &Value) {
        let Some(given) = holder.get("valueQuantity").and_then(quantity) else {
            return;
        };
        let at = if path.is_empty() {
            "valueQuantity".to_owned()
        } else {
            format!("{path}.valueQuantity")
        };
        // A number without code may still carry its unit in words; that cannot be compared.
        let unit = if given.code.is_empty() {
            given.unit
        } else {
            given.code
        };
        let is_coded = !given.code.is_empty() && (given.system == UCUM || given.system.is_empty());
        let rules = self.rules;
        for coding in element::codings_of(holder, "code") {
            if coding.system != LOINC {
                continue;
            }
            let measure = rules.measures.by_code(coding.code);
            if let Some(measure) = measure.filter(|it| it.is_vital)
                && (!is_coded || !measure.units.iter().any(|it| it == given.code))
            {
                let allowed = measure.units.join(" or ");
                let words = [
                    ("code", coding.code),
                    ("name", measure.name.as_str()),
                    ("unit", unit),
                    ("allowed", allowed.as_str()),
                ];
                self.fire(&rule::K_04, "unit", &at, &[], &words);
                return;
            }
            let row = rules
                .codes
                .properties
                .iter()
                .find(|row| row.codes.iter().any(|it| it == coding.code));
            if let Some(row) = row
                && is_coded
                && units::is_same_dimension(given.code, &row.unit) != Some(true)
            {
                let words = [
                    ("code", coding.code),
                    ("name", row.property.as_str()),
                    ("unit", given.code),
                    ("allowed", row.unit.as_str()),
                ];
                self.fire(&rule::K_05, "dimension", &at, &[], &words);
                return;
            }
        }
    }
}

/// Whether a LOINC code's last digit is its check digit. Parts and answers (`LP…`, `LA…`) are not judged.
///
/// # Source
/// LOINC Users' Guide, appendix on the calculation of mod 10 check digits.
fn is_loinc_plausible(code: &str) -> bool {
    if code.starts_with("LA")
        || code.starts_with("LP")
        || code.starts_with("LL")
        || code.starts_with("LG")
    {
        return true;
    }
    let Some((number, check)) = code.split_once('-') else {
        return false;
    };
    let is_number = (1..=7).contains(&number.len()) && number.bytes().all(|it| it.is_ascii_digit());
    if !is_number || check.len() != 1 {
        return false;
    }
    let sum: u32 = number
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, byte)| {
            let digit = u32::from(byte - b'0');
            match (at % 2, digit * 2) {
                (0, doubled) if doubled > 9 => doubled - 9,
                (0, doubled) => doubled,
                _ => digit,
            }
        })
        .sum();
    check.parse::<u32>().ok() == Some((10 - sum % 10) % 10)
}

/// Whether a SNOMED CT identifier has a right form, length and check digit.
///
/// # Source
/// SNOMED CT Release File Specification, section on SCTID representation (Verhoeff's dihedral check).
fn is_snomed_plausible(code: &str) -> bool {
    // Expressions are no identifiers.
    if !(6..=18).contains(&code.len()) || !code.bytes().all(|it| it.is_ascii_digit()) {
        return code.contains([' ', ':', '+', '|']);
    }
    const PERMUTE: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let multiply = |one: u8, other: u8| -> u8 {
        match (one < 5, other < 5) {
            (true, true) => (one + other) % 5,
            (true, false) => (one + other - 5) % 5 + 5,
            (false, true) => (one + 5 - other) % 5 + 5,
            (false, false) => (one + 5 - other) % 5,
        }
    };
    let check = code
        .bytes()
        .rev()
        .enumerate()
        .fold(0_u8, |check, (at, byte)| {
            let permuted = (0..at % 8).fold(byte - b'0', |digit, _| {
                PERMUTE.get(usize::from(digit)).copied().unwrap_or(digit)
            });
            multiply(check, permuted)
        });
    check == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits() {
        for code in [
            "8867-4", "8480-6", "59408-5", "2345-7", "LA6568-5", "85354-9", "44261-6",
        ] {
            assert!(is_loinc_plausible(code), "{code}");
        }
        for code in ["8867-5", "8867", "", "88674-", "8840-6"] {
            assert!(!is_loinc_plausible(code), "{code}");
        }
        for code in [
            "72892002",
            "7771000",
            "38341003",
            "44054006",
            "26643006",
            "840539006",
        ] {
            assert!(is_snomed_plausible(code), "{code}");
        }
        for code in ["72892003", "38314003", "123", "", "E11.9"] {
            assert!(!is_snomed_plausible(code), "{code}");
        }
    }

    #[test]
    fn codes_in_the_rule_files_have_right_check_digits() {
        const TABLES: [&str; 3] = [
            include_str!("../../../../governance/rules/code-tables.toml"),
            include_str!("../../../../governance/rules/medication-checks.toml"),
            include_str!("../../../../governance/rules/vital-ranges.toml"),
        ];
        let mut wrong = Vec::new();
        for quoted in TABLES.iter().flat_map(|it| it.split('"')) {
            let is_digits = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
            let is_loinc = quoted.split_once('-').is_some_and(|(one, two)| {
                one.len() > 2 && is_digits(one) && two.len() == 1 && is_digits(two)
            });
            let is_snomed = quoted.len() >= 6 && is_digits(quoted);
            if (is_loinc && !is_loinc_plausible(quoted))
                || (is_snomed && !is_snomed_plausible(quoted))
            {
                wrong.push(quoted);
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
