//! Security labels of resources: how confidential they are, and which of them agents are refused.
//!
//! The absence of labels says nothing about the content; it counts as `N`. Whether a consent opens a
//! restricted resource after all is decided elsewhere; without such a decision the read path refuses it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Code system of [`Confidentiality`].
pub const CONFIDENTIALITY_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";

/// Code system of sensitivity codes and of the names of privacy laws.
pub const ACT_CODE_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

/// Most labels that are read from one resource; a resource with more is restricted.
pub const LABELS_MAX: usize = 100;

/// Longest system or code of a label that is repeated, in bytes.
const LABEL_BYTES_MAX: usize = 128;

/// How confidential, from least to most.
///
/// # Source
/// HL7 v3-Confidentiality; the order is that of its hierarchy for high-water marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Confidentiality {
    /// Unrestricted.
    U,
    /// Low.
    L,
    /// Moderate.
    M,
    /// Normal.
    N,
    /// Restricted.
    R,
    /// Very restricted.
    V,
}

impl Confidentiality {
    /// Reads a code.
    pub fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "U" => Confidentiality::U,
            "L" => Confidentiality::L,
            "M" => Confidentiality::M,
            "N" => Confidentiality::N,
            "R" => Confidentiality::R,
            "V" => Confidentiality::V,
            _ => return None,
        })
    }
}

/// Information-sensitivity codes that restrict a resource on their own.
///
/// # Source
/// HL7 v3-ActCode, `_ActInformationSensitivityPolicy`; 42 CFR Part 2 for substance use; 45 CFR
/// 164.508(a)(2) for psychotherapy notes (requirement R051).
pub const SENSITIVITY_RESTRICTED: [&str; 25] = [
    "42CFRPart2",
    "PSYTHPN",
    "ETH",
    "SUD",
    "ETHUD",
    "OPIOIDUD",
    "GDIS",
    "HIV",
    "MST",
    "SCA",
    "SDV",
    "SEX",
    "SPI",
    "BH",
    "COGN",
    "DVD",
    "EMOTDIS",
    "MH",
    "PSY",
    "STD",
    "TBOO",
    "VIO",
    "SICKLE",
    "ADOL",
    "CEL",
];

/// Codes that say something about whom or what a resource is about, or who asserted it, and restrict
/// nothing on their own.
///
/// # Source
/// HL7 v3-ActCode (entity, role and other sensitivity policies) and v3-ObservationValue (AIAST of
/// HL7 AI Transparency on FHIR, and the assertions by humans and devices).
const LISTED: [&str; 31] = [
    "DEMO",
    "DOB",
    "GENDER",
    "LIVARG",
    "MARST",
    "RACE",
    "REL",
    "B",
    "EMPL",
    "LOCIS",
    "SSP",
    "DIA",
    "DRGIS",
    "EMP",
    "PDS",
    "PHY",
    "PRS",
    "AIAST",
    "DICTAST",
    "CLINAST",
    "CLINRPT",
    "PATAST",
    "PATRPT",
    "DEVAST",
    "DEVRPT",
    "HCPAST",
    "PROAST",
    "PACQAST",
    "SDMAST",
    "PAYAST",
    "PROCESSINLINELABEL",
];

/// Code system of assertions, such as `AIAST`.
pub const OBSERVATION_VALUE_SYSTEM: &str =
    "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";

/// What stands in the ledger for a label that is none of the listed ones: such a label is a text from
/// outside, and those do not go into events (invariant 6).
pub const UNLISTED: &str = "unlisted";

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label {
    /// Code system; empty when the resource names none.
    pub system: String,
    /// Code.
    pub code: String,
}

impl Label {
    fn is_listed(&self) -> bool {
        let code = self.code.as_str();
        match self.system.as_str() {
            CONFIDENTIALITY_SYSTEM => Confidentiality::parse(code).is_some(),
            ACT_CODE_SYSTEM | OBSERVATION_VALUE_SYSTEM => {
                SENSITIVITY_RESTRICTED.contains(&code) || LISTED.contains(&code)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.system, self.code)
    }
}

/// The labels of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    labels: Vec<Label>,
    /// Something stands there that cannot be read as a label.
    is_unclear: bool,
}

/// Why agents are refused a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restriction {
    /// Confidentiality `R` or `V`.
    Confidentiality(Confidentiality),
    /// One of [`SENSITIVITY_RESTRICTED`].
    Sensitivity(&'static str),
    /// Labels that cannot be read. Unknown means refused.
    Unclear,
}

impl Restriction {
    /// Stable reason code; says nothing about the patient.
    pub fn code(&self) -> &'static str {
        match self {
            Restriction::Confidentiality(_) => "label-confidentiality",
            Restriction::Sensitivity(_) => "label-sensitivity",
            Restriction::Unclear => "label-unclear",
        }
    }
}

impl Labels {
    /// Reads `meta.security` of a resource.
    pub fn of(resource: &Value) -> Self {
        let mut labels = Self::default();
        let security = match resource.get("meta") {
            None => return labels,
            Some(Value::Object(meta)) => meta.get("security"),
            Some(_) => {
                labels.is_unclear = true;
                return labels;
            }
        };
        match security {
            None => {}
            Some(Value::Array(codings)) => {
                labels.is_unclear = codings.len() > LABELS_MAX;
                codings
                    .iter()
                    .take(LABELS_MAX)
                    .for_each(|coding| labels.read(coding));
            }
            Some(_) => labels.is_unclear = true,
        }
        labels
    }

    fn read(&mut self, coding: &Value) {
        let text = |name: &str| match coding.get(name) {
            None => Some(""),
            Some(Value::String(text)) if is_plain(text) => Some(text.as_str()),
            Some(_) => None,
        };
        match (text("system"), text("code")) {
            (Some(system), Some(code)) if coding.is_object() && !code.is_empty() => {
                self.labels.push(Label {
                    system: system.to_owned(),
                    code: code.to_owned(),
                });
            }
            _ => self.is_unclear = true,
        }
    }

    /// The labels that could be read.
    pub fn all(&self) -> &[Label] {
        &self.labels
    }

    /// The labels as the ledger may name them: `system|code` of the listed ones, and [`UNLISTED`] once
    /// for all others. Sorted, without repetition.
    pub fn recordable(&self) -> Vec<String> {
        let name = |label: &Label| {
            if label.is_listed() {
                label.to_string()
            } else {
                UNLISTED.to_owned()
            }
        };
        let mut names: BTreeSet<String> = self.labels.iter().map(name).collect();
        if self.is_unclear {
            names.insert(UNLISTED.to_owned());
        }
        names.into_iter().collect()
    }

    /// The highest confidentiality; `N` when none is stated.
    pub fn confidentiality(&self) -> Confidentiality {
        let stated = self
            .labels
            .iter()
            .filter(|label| is_system(label, CONFIDENTIALITY_SYSTEM));
        let codes = stated.filter_map(|label| Confidentiality::parse(&label.code));
        codes.max().unwrap_or(Confidentiality::N)
    }

    /// Whether one of the labels has a code, of whatever system.
    pub fn carries(&self, code: &str) -> bool {
        self.labels
            .iter()
            .any(|label| label.code.eq_ignore_ascii_case(code))
    }

    /// Everything that restricts the resource; a consent must open each of them.
    pub fn restrictions(&self) -> Vec<Restriction> {
        let mut all: Vec<Restriction> = SENSITIVITY_RESTRICTED
            .into_iter()
            .filter(|code| self.carries(code))
            .map(Restriction::Sensitivity)
            .collect();
        let confidentiality = self.confidentiality();
        if confidentiality >= Confidentiality::R {
            all.push(Restriction::Confidentiality(confidentiality));
        }
        if self.has_unclear() {
            all.push(Restriction::Unclear);
        }
        all
    }

    /// Whether something stands there that cannot be read, or a confidentiality that does not exist.
    fn has_unclear(&self) -> bool {
        let is_unknown = |label: &Label| {
            label.system == CONFIDENTIALITY_SYSTEM && Confidentiality::parse(&label.code).is_none()
        };
        self.is_unclear || self.labels.iter().any(is_unknown)
    }

    /// Why agents are refused, if they are.
    pub fn restriction(&self) -> Option<Restriction> {
        let sensitivity = self.labels.iter().find_map(|label| {
            let mut codes = SENSITIVITY_RESTRICTED.iter();
            codes.find(|code| code.eq_ignore_ascii_case(&label.code))
        });
        if let Some(code) = sensitivity {
            return Some(Restriction::Sensitivity(code));
        }
        let confidentiality = self.confidentiality();
        if confidentiality >= Confidentiality::R {
            return Some(Restriction::Confidentiality(confidentiality));
        }
        self.has_unclear().then_some(Restriction::Unclear)
    }
}

/// The high-water mark of several resources: what an answer that holds them all must be labelled.
pub fn high_water<'a>(resources: impl IntoIterator<Item = &'a Labels>) -> Confidentiality {
    let each = resources.into_iter().map(Labels::confidentiality);
    each.max().unwrap_or(Confidentiality::N)
}

/// A label without a system counts as of any system: better refused once too often.
fn is_system(label: &Label, system: &str) -> bool {
    label.system.is_empty() || label.system == system
}

fn is_plain(text: &str) -> bool {
    text.len() <= LABEL_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labelled(security: Value) -> Labels {
        Labels::of(&json!({"resourceType": "Observation", "meta": {"security": security}}))
    }

    fn confidentiality(code: &str) -> Value {
        json!({"system": CONFIDENTIALITY_SYSTEM, "code": code})
    }

    #[test]
    fn the_order_and_the_high_water_mark() {
        use Confidentiality::{L, M, N, R, U, V};
        assert!(U < L && L < M && M < N && N < R && R < V);
        let labels = labelled(json!([confidentiality("U"), confidentiality("M")]));
        assert_eq!(labels.confidentiality(), M);
        assert_eq!(Labels::of(&json!({})).confidentiality(), N);
        let very = labelled(json!([confidentiality("V")]));
        assert_eq!(high_water([&labels, &very]), V);
        assert_eq!(high_water([]), N);
    }

    #[test]
    fn ordinary_labels_do_not_restrict_and_their_neighbours_do() {
        for code in ["U", "L", "M", "N"] {
            assert_eq!(
                labelled(json!([confidentiality(code)])).restriction(),
                None,
                "{code}"
            );
        }
        for code in ["R", "V"] {
            assert!(matches!(
                labelled(json!([confidentiality("N"), confidentiality(code)])).restriction(),
                Some(Restriction::Confidentiality(_))
            ));
        }
        assert_eq!(Labels::of(&json!({})).restriction(), None);
        assert_eq!(Labels::of(&json!({"meta": {}})).restriction(), None);
        assert_eq!(labelled(json!([])).restriction(), None);
        let actor = json!([{"system": ACT_CODE_SYSTEM, "code": "GENDER"}]);
        assert_eq!(labelled(actor).restriction(), None);
        for code in SENSITIVITY_RESTRICTED {
            let labels = labelled(json!([{"system": ACT_CODE_SYSTEM, "code": code}]));
            assert_eq!(labels.restriction(), Some(Restriction::Sensitivity(code)));
            let labels = labelled(json!([{"code": code.to_lowercase()}]));
            assert_eq!(labels.restriction(), Some(Restriction::Sensitivity(code)));
        }
    }

    #[test]
    fn only_listed_labels_are_named_in_the_ledger() {
        let labels = labelled(json!([
            confidentiality("N"),
            {"system": OBSERVATION_VALUE_SYSTEM, "code": "AIAST"},
            {"system": "http://hospital.example/labels", "code": "CANARY"},
            {"system": ACT_CODE_SYSTEM, "code": "CANARY"},
            {"code": "CANARY"},
        ]));
        assert_eq!(
            labels.recordable(),
            [
                format!("{CONFIDENTIALITY_SYSTEM}|N"),
                format!("{OBSERVATION_VALUE_SYSTEM}|AIAST"),
                UNLISTED.to_owned(),
            ]
        );
        assert_eq!(labels.all().len(), 5);
        assert!(Labels::of(&json!({})).recordable().is_empty());
    }

    #[test]
    fn labels_that_cannot_be_read_restrict() {
        for security in [
            json!("R"),
            json!({"code": "N"}),
            json!([{"system": CONFIDENTIALITY_SYSTEM}]),
            json!(["R"]),
            json!([{"system": CONFIDENTIALITY_SYSTEM, "code": 7}]),
            json!([confidentiality("X")]),
            json!([{"code": "a b"}]),
            json!(vec![confidentiality("N"); LABELS_MAX + 1]),
        ] {
            assert_eq!(
                labelled(security.clone()).restriction(),
                Some(Restriction::Unclear),
                "{security}"
            );
        }
        assert_eq!(
            Labels::of(&json!({"meta": "R"})).restriction(),
            Some(Restriction::Unclear)
        );
        assert!(labelled(json!([{"code": "R"}])).restriction().is_some());
    }
}
