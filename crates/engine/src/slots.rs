//! The slots of an envelope between its calls, and what they stand for in what an agent sends.
//!
//! One sealed record for each envelope, under the patient's key: it ends with the envelope, can be deleted, and is
//! the same for every process and node. What was shown with a slot can be resolved from then on, because the
//! record is durable before the answer leaves:
//!
//! ```text
//! read:     load ─▶ scrub ─▶ keep (at the revision that was loaded; else again) ─▶ answer
//! proposal: load ─▶ put back ─▶ merge, validate, rule ─▶ one commit with `slots_resolved`
//! ```
//! Envelopes number their slots from places far apart, so that a slot of another one is refused. Not here: what
//! becomes a slot (`free_text`).

use std::collections::BTreeMap;

use chaperone_core::bundle::{InputType, ToolAction};
use chaperone_core::envelope::Envelope;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{
    Commit, CommitFailed, Expected, KeyVaultFailed, PayloadClass, Record, RecordChange, RecordKey,
    StoreFailed,
};
use chaperone_fhir::Definitions;
use chaperone_phi::scrub::slots::rest::{SlotPlace, SlotRecord, SlotsUnreadable};
use chaperone_phi::scrub::slots::{SLOTS_MAX, slot_in};
use chaperone_phi::scrub::{Class, Slots};
use chaperone_phi::seal::SealFailed;
use chaperone_policy::Bundle;
use chaperone_policy::bundle::template::{self, TemplateText};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::call::Admitted;
use crate::context::Engine;
use crate::errors::CallError;
use crate::vault::key_name;

const SLOTS: &str = "slots";
/// Slots have seven digits: the first of an envelope is drawn between these.
const FIRST_MIN: u32 = 1_000_000;
const FIRST_MAX: u32 = 9_999_999 - SLOTS_MAX as u32;
/// Longest text after its slots were put back, in bytes. A slot is short and may stand for much.
const RESOLVED_BYTES_MAX: usize = 256 << 10;

/// How many of each class, for events and answers: the slot's word, never what it stands for.
pub(crate) fn by_word(classes: &BTreeMap<Class, u32>) -> BTreeMap<String, u32> {
    classes
        .iter()
        .map(|(class, count)| (class.word().to_owned(), *count))
        .collect()
}

/// Why the slots of an envelope could not be had or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotsFailed {
    /// Another call of the envelope was first; load them again.
    #[error("another call of the envelope made slots at the same time")]
    Overtaken,
    /// The record does not open.
    #[error(transparent)]
    Unreadable(#[from] SlotsUnreadable),
    /// They could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// They could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl From<SlotsFailed> for CallError {
    fn from(failed: SlotsFailed) -> Self {
        match failed {
            SlotsFailed::Overtaken => CallError::ledger_unavailable()
                .saying("other calls of this envelope were made at the same time"),
            SlotsFailed::Keys(failed) => failed.into(),
            SlotsFailed::Store(failed) => failed.into(),
            SlotsFailed::Commit(failed) => failed.into(),
            SlotsFailed::Unreadable(_) | SlotsFailed::Seal(_) => {
                tracing::error!(error = %failed, "the slots of an envelope could not be opened or sealed");
                CallError::internal()
            }
        }
    }
}

/// The record as it rests.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    patient: Option<PatientToken>,
    slots: SlotRecord,
}

/// The slots of an envelope as they were loaded.
pub(crate) struct EnvelopeSlots {
    pub(crate) slots: Slots,
    given: BTreeMap<Class, u32>,
    revision: Option<u64>,
}

/// A call whose slots were put back.
pub(crate) struct ResolvedCall<'a> {
    /// The call; its arguments as received are the ones with slots.
    pub(crate) admitted: Admitted<'a>,
    classes: BTreeMap<Class, u32>,
}

impl ResolvedCall<'_> {
    /// Adds the event to the commit that what was resolved goes into.
    pub(crate) fn record(&self, commit: &mut Commit) {
        commit.append(
            StreamId::Envelope(self.admitted.caller.envelope.id),
            Expected::Any,
            Event::SlotsResolved {
                correlation: self.admitted.correlation,
                tool: self.admitted.tool.name.clone(),
                classes: by_word(&self.classes),
            },
        );
    }
}

impl Engine {
    /// The slots that an envelope has given out so far.
    pub(crate) async fn slots_of(&self, envelope: &Envelope) -> Result<EnvelopeSlots, SlotsFailed> {
        let tenant = &self.config.tenant;
        let key = RecordKey::new(SLOTS, envelope.id);
        let Some(record) = self.store.record(tenant, &key, self.now()).await? else {
            return Ok(EnvelopeSlots {
                slots: Slots::numbered_from(self.first_slot()),
                given: BTreeMap::new(),
                revision: None,
            });
        };
        let stored: Stored = serde_json::from_value(record.value)
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        if stored.patient != envelope.patient {
            return Err(SlotsUnreadable::Malformed.into());
        }
        let key = self.keys.existing_key(tenant, &stored.slots.key).await?;
        let slots = stored.slots.open(&key, tenant, envelope.id)?;
        Ok(EnvelopeSlots {
            given: slots.given().clone(),
            slots,
            revision: Some(record.revision),
        })
    }

    /// Makes slots that were given out since durable, with the event that counts them.
    pub(crate) async fn keep_slots(
        &self,
        admitted: &Admitted<'_>,
        kept: EnvelopeSlots,
    ) -> Result<(), SlotsFailed> {
        let envelope = &admitted.caller.envelope;
        let minted: BTreeMap<Class, u32> = kept
            .slots
            .given()
            .iter()
            .map(|(class, now)| {
                let before = kept.given.get(class).copied().unwrap_or(0);
                (*class, now.saturating_sub(before))
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        if minted.is_empty() {
            return Ok(());
        }
        let tenant = &self.config.tenant;
        let key = key_name(PayloadClass::Derived, envelope.patient);
        let data_key = self.keys.data_key(tenant, &key).await?;
        let place = SlotPlace {
            tenant,
            key: &key,
            envelope: envelope.id,
        };
        let stored = Stored {
            patient: envelope.patient,
            slots: SlotRecord::seal(&data_key, &self.fresh(), place, &kept.slots)?,
        };
        let value =
            serde_json::to_value(&stored).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let record = Record::new(SLOTS, envelope.id, value).expiring(envelope.expires);
        let mut commit = self.commit_as(admitted.caller.actor());
        commit.records.push(match kept.revision {
            Some(revision) => RecordChange::Update(record, revision),
            None => RecordChange::Create(record),
        });
        commit.append(
            StreamId::Envelope(envelope.id),
            Expected::Any,
            Event::SlotsMinted {
                correlation: admitted.correlation,
                classes: by_word(&minted),
            },
        );
        match self.store.commit(commit).await {
            Ok(_) => Ok(()),
            Err(CommitFailed::Record { .. }) => Err(SlotsFailed::Overtaken),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Puts back what the slots in the arguments stand for; `None` when there are none. Only inputs that declare
    /// it take slots: an unresolved one must not reach the record.
    pub(crate) async fn resolve_slots<'a>(
        &self,
        admitted: &Admitted<'a>,
    ) -> Result<Option<ResolvedCall<'a>>, CallError> {
        let mut loaded: Option<Slots> = None;
        let mut inputs = admitted.arguments.inputs.clone();
        let mut classes: BTreeMap<Class, u32> = BTreeMap::new();
        for (name, value) in &mut inputs {
            let declared = admitted.tool.inputs.get(name);
            let Some(input) = declared.filter(|it| it.input_type == InputType::String) else {
                continue;
            };
            let Some((text, slot)) = value.as_str().and_then(|it| Some((it, slot_in(it)?))) else {
                continue;
            };
            if !input.slots {
                return Err(CallError::slot_refused()
                    .about(name.as_str())
                    .saying(format!(
                        "this argument takes no slots, and `{slot}` reads like one"
                    )));
            }
            let slots = match loaded.take() {
                Some(slots) => slots,
                None => self.slots_of(&admitted.caller.envelope).await?.slots,
            };
            let resolved = slots.resolve_counted(text).map_err(|why| {
                CallError::slot_refused()
                    .about(name.as_str())
                    .saying(why.to_string())
            })?;
            loaded = Some(slots);
            if resolved.text.len() > RESOLVED_BYTES_MAX {
                return Err(CallError::slot_refused()
                    .about(name.as_str())
                    .saying("the text is too long once its slots are put back"));
            }
            for (class, count) in resolved.classes {
                let sum = classes.entry(class).or_default();
                *sum = sum.saturating_add(count);
            }
            *value = Value::String(resolved.text);
        }
        if loaded.is_none() {
            return Ok(None);
        }
        Ok(Some(ResolvedCall {
            admitted: Admitted {
                caller: admitted.caller,
                intent: admitted.intent,
                tool: admitted.tool,
                arguments: Arguments {
                    inputs,
                    ..admitted.arguments.clone()
                },
                policies: admitted.policies.clone(),
                correlation: admitted.correlation,
                edited: None,
            },
            classes,
        }))
    }

    fn first_slot(&self) -> u32 {
        let drawn = u128::from_be_bytes(self.random.id()) % u128::from(FIRST_MAX - FIRST_MIN + 1);
        u32::try_from(drawn).map_or(FIRST_MIN, |drawn| FIRST_MIN + drawn)
    }
}

/// Checks that what slots are resolved in becomes text of the resource and nothing else: a code, say, would be
/// shown to agents as it is.
pub(crate) fn check_slot_inputs(bundle: &Bundle, definitions: &Definitions) -> Result<(), String> {
    const TEXTS: [&str; 3] = ["string", "markdown", "base64Binary"];
    for tool in bundle.tools() {
        let Some(ToolAction::Write(write)) = tool.action() else {
            continue;
        };
        for (path, text) in template::texts(&write.template).unwrap_or_default() {
            let TemplateText::Placeholder(name, _) = template::read_text(text) else {
                continue;
            };
            if !tool.inputs.get(name).is_some_and(|input| input.slots) {
                continue;
            }
            let info = definitions.element_type(write.resource.as_str(), &path);
            let is_text = info.is_some_and(|info| {
                info.types
                    .iter()
                    .all(|one| TEXTS.contains(&one.code.as_str()))
            });
            if !is_text {
                return Err(format!(
                    "tools/{}.toml: `{name}` takes slots and stands at `{path}`, which is no text",
                    tool.name
                ));
            }
        }
    }
    Ok(())
}
