//! What agents were shown of a patient's texts, and whether a proposal says the same without naming it.
//!
//! Each read that shows free text leaves a sealed copy of what it showed, for as long as `rules/likeness.toml` says.
//! It is durable before the answer leaves, so that nothing can be proposed from a text that is not remembered:
//!
//! ```text
//! read:     show ─▶ keep what was shown ─▶ answer
//! proposal: what the agent wrote ─▶ compared with everything kept of the patient ─▶ alike: tainted, passage in the order
//! ```
//! Kept by patient and not by envelope or agent: a text that one agent read may reach another by a way that nobody
//! here sees. What is too much to compare, or cannot be opened, counts as alike (fail closed). What an agent names as
//! a source, and everything in an intent that reads texts, is tainted without this. Not here: how texts are compared
//! ([`chaperone_phi::likeness`]).
//!
//! # Source
//! Requirement R084.

use chaperone_core::bundle::InputType;
use chaperone_core::digest::PayloadAddress;
use chaperone_core::evidence::Resemblance;
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{
    Listing, PayloadClass, Record, RecordChange, SealedPayload, StoreFailed,
};
use chaperone_core::resource::ResourceType;
use chaperone_phi::likeness::{Alike, Likeness, LikenessRules, Said};
use chaperone_policy::Bundle;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::call::Admitted;
use crate::context::{Engine, StartFailed, after};
use crate::errors::CallError;
use crate::propose::Inputs;

/// What was shown.
const OUTSIDE_TEXT: &str = "outside_text";
/// The file of the bundle.
const FILE: &str = "rules/likeness.toml";
/// Most reads of one patient that a proposal is compared with; with more, it counts as alike.
const READS_MAX: u32 = 100;
/// Most text that a proposal is compared with, in bytes; with more, it counts as alike.
const COMPARED_BYTES_MAX: usize = 4 << 20;
/// Most passages that an order shows.
const PASSAGES_MAX: usize = 5;
/// Most characters of what was proposed that stand beside a passage.
const PROPOSED_CHARS_MAX: usize = 800;
const SECONDS_PER_HOUR: i64 = 3_600;

/// A text that was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShownText {
    /// The type of what it stands in.
    pub(crate) resource: ResourceType,
    /// The text as it was shown: scrubbed.
    pub(crate) text: String,
}

/// The record of one read, as it rests.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    patient: PatientToken,
    address: PayloadAddress,
    key: String,
    sealed: String,
}

/// The rules of a bundle, with its drugs.
pub(crate) fn likeness_of(bundle: &Bundle) -> Result<Likeness, StartFailed> {
    #[derive(Deserialize)]
    struct Drugs {
        drugs: Vec<Drug>,
    }
    #[derive(Deserialize)]
    struct Drug {
        names: Vec<String>,
    }
    let wrong = |why: String| StartFailed::Table { file: FILE, why };
    let text = bundle
        .rule_text("likeness")
        .ok_or_else(|| wrong("it is missing".to_owned()))?;
    let rules = LikenessRules::read(text).map_err(|why| wrong(why.to_string()))?;
    let drugs: Drugs = toml::from_str(bundle.rule_text("medications").unwrap_or_default())
        .map_err(|why| StartFailed::Table {
            file: "rules/medications.toml",
            why: why.message().to_owned(),
        })?;
    let names = drugs.drugs.iter().flat_map(|drug| &drug.names);
    Ok(Likeness::new(rules, names.map(String::as_str)))
}

impl Engine {
    /// Keeps what a read is about to show, durable when this returns.
    pub(crate) async fn keep_shown_texts(
        &self,
        admitted: &Admitted<'_>,
        texts: &[ShownText],
    ) -> Result<(), CallError> {
        let Some(patient) = admitted.caller.envelope.patient else {
            return Ok(());
        };
        if texts.is_empty() {
            return Ok(());
        }
        let bytes = serde_json::to_vec(texts).map_err(|_| CallError::internal())?;
        let sealed = self
            .seal(PayloadClass::Derived, Some(patient), &bytes)
            .await?;
        let kept = Kept {
            patient,
            address: sealed.address,
            key: sealed.key,
            sealed: hex::encode(&sealed.sealed),
        };
        let value = serde_json::to_value(&kept).map_err(|_| CallError::internal())?;
        let now = self.now();
        let remembered_s = self.likeness.remember_h().saturating_mul(SECONDS_PER_HOUR);
        let record = Record::new(OUTSIDE_TEXT, sealed.address, value)
            .indexed(patient.to_string(), now.to_string())
            .expiring(after(now, remembered_s));
        let mut commit = self.commit_as(admitted.caller.actor());
        commit.records.push(RecordChange::Create(record));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Where texts that agents were shown say what this proposal says; the call as the agent sent it.
    pub(crate) async fn resembling(
        &self,
        admitted: &Admitted<'_>,
        inputs: &Inputs,
    ) -> Result<Vec<Resemblance>, CallError> {
        let Some(patient) = admitted.caller.envelope.patient else {
            return Ok(Vec::new());
        };
        let written = written_by(admitted);
        let said = self.said(admitted, inputs, &written);
        if said.is_empty() {
            return Ok(Vec::new());
        }
        let listing = Listing {
            index: Some(patient.to_string()),
            descending: true,
            limit: READS_MAX.saturating_add(1),
            ..Listing::default()
        };
        let tenant = &self.config.tenant;
        let kept = self
            .store
            .records(tenant, OUTSIDE_TEXT, listing, self.now())
            .await?;
        let proposed: String = written
            .join("\n")
            .chars()
            .take(PROPOSED_CHARS_MAX)
            .collect();
        let too_much = || Resemblance {
            resource: None,
            passage: None,
            proposed: proposed.clone(),
        };
        if kept.len() > READS_MAX as usize {
            return Ok(vec![too_much()]);
        }
        let mut found: Vec<Resemblance> = Vec::new();
        let mut compared = 0_usize;
        for record in kept {
            let Some(texts) = self.open_texts(patient, record.value).await? else {
                return Ok(vec![too_much()]);
            };
            for shown in texts {
                compared = compared.saturating_add(shown.text.len());
                if compared > COMPARED_BYTES_MAX {
                    return Ok(vec![too_much()]);
                }
                let Some(passage) = self.likeness.compare(&said, &shown.text) else {
                    continue;
                };
                let resembles = Resemblance {
                    resource: Some(shown.resource),
                    passage: (passage.alike != Alike::TooLong).then_some(passage.text),
                    proposed: proposed.clone(),
                };
                if !found.contains(&resembles) {
                    found.push(resembles);
                }
                if found.len() >= PASSAGES_MAX {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    fn said(&self, admitted: &Admitted<'_>, inputs: &Inputs, written: &[&str]) -> Said {
        let numbers: Vec<String> = admitted
            .arguments
            .inputs
            .values()
            .filter_map(|value| value.as_number().map(ToString::to_string))
            .collect();
        let drugs: Vec<&str> = inputs.resources.values().flat_map(drug_words).collect();
        let amounts = drugs
            .iter()
            .flat_map(|drug| numbers.iter().map(|number| (*drug, number.clone())));
        self.likeness.said(written.iter().copied(), amounts)
    }

    /// Opens what was kept; `None` when it cannot be read.
    async fn open_texts(
        &self,
        patient: PatientToken,
        value: Value,
    ) -> Result<Option<Vec<ShownText>>, CallError> {
        let kept: Kept =
            serde_json::from_value(value).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let Ok(sealed) = hex::decode(&kept.sealed) else {
            return Ok(None);
        };
        if kept.patient != patient {
            return Ok(None);
        }
        let payload = SealedPayload {
            address: kept.address,
            class: PayloadClass::Derived,
            key: kept.key,
            sealed,
        };
        let opened = self.open_sealed(&payload).await;
        Ok(opened
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

/// What the agent wrote itself, in arguments that are text.
fn written_by<'a>(admitted: &'a Admitted<'_>) -> Vec<&'a str> {
    let text = |name: &String| {
        admitted
            .tool
            .inputs
            .get(name)
            .is_some_and(|input| input.input_type == InputType::String)
    };
    admitted
        .arguments
        .inputs
        .iter()
        .filter(|(name, _)| text(name))
        .filter_map(|(_, value)| value.as_str())
        .collect()
}

/// What names the drug of a resource.
fn drug_words(resource: &Value) -> impl Iterator<Item = &str> {
    let concept = resource.get("medicationCodeableConcept");
    let displays = concept
        .and_then(|it| it.get("coding")?.as_array())
        .into_iter()
        .flatten()
        .filter_map(|coding| coding.get("display")?.as_str());
    concept
        .and_then(|it| it.get("text")?.as_str())
        .into_iter()
        .chain(displays)
}
