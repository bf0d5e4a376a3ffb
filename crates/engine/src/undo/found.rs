//! Which effects a selection means, and what rests on them.
//!
//! ```text
//! rows of write-backs ─▶ agent, intent, time ─▶ (model, prompt: the order is opened) ─▶ selected
//! of the same patients, later ─▶ changes one of the selected resources, or cites it ─▶ rests on it ─▶ and again
//! ```
//! Not found: that somebody read an effect and acted on it without citing it. Who saw it is `chaperone who-saw`.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::Timestamp;
use chaperone_core::evidence::{Strategy, WriteOrder};
use chaperone_core::ids::{PatientToken, ResourceToken, WritebackId};
use chaperone_core::ports::{KeyVaultFailed, LISTED_MAX, Listing, StoreFailed};
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::undo::UndoSelection;
use chaperone_core::writeback::{OrderRef, StateName, Writeback};
use serde_json::Value;

use super::{CHAPERONE, EFFECTS_MAX, UndoFailed};
use crate::context::Engine;
use crate::projection::{BY_PATIENT, BY_STATE, WritebackRow, row_of};
use crate::vault::VaultFailed;

/// Rounds in which what rests on something is sought: chains longer than this are cut, and nobody has seen one.
const ROUNDS_MAX: usize = 16;
/// Most tokens of one proposal that are followed.
const TOKENS_MAX: usize = 64;

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) row: WritebackRow,
    /// What it rests on, when it was not selected itself.
    pub(super) on: Option<WritebackId>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) chosen: Vec<Chosen>,
    /// Orders that cannot be opened any more, so that nobody can say which version made them.
    pub(super) unreadable: u64,
}

/// A resource at the EHR that a write-back made or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) resource: ResourceType,
    pub(super) id: String,
    pub(super) version: Option<String>,
}

impl Place {
    /// Reads `[type]/[id]`, with or without a version.
    pub(super) fn read(location: &str) -> Option<Place> {
        let mut parts = location.split('/');
        let resource = ResourceType::new(parts.next()?).ok()?;
        let id = parts.next().filter(|id| !id.is_empty())?.to_owned();
        let version = match (parts.next(), parts.next()) {
            (None, _) => None,
            (Some("_history"), Some(version)) => Some(version.to_owned()),
            _ => return None,
        };
        Some(Place {
            resource,
            id,
            version,
        })
    }

    /// `[type]/[id]`.
    pub(super) fn reference(&self) -> String {
        format!("{}/{}", self.resource, self.id)
    }
}

/// Whether something in this state may be, or become, an effect.
fn is_alive(row: &WritebackRow) -> bool {
    match row.state {
        StateName::Refused | StateName::Abandoned | StateName::Compensated => false,
        // It is nobody's output, and has no effect that could be undone.
        StateName::Canary | StateName::CanarySettled => false,
        // Whether it was entered all the same, nobody said.
        StateName::Void => row.strategy == Some(Strategy::HumanEntry),
        _ => true,
    }
}

impl Engine {
    /// What a selection means, and what rests on it.
    pub(super) async fn found(&self, selection: &UndoSelection) -> Result<Found, UndoFailed> {
        if selection.is_empty() {
            return Err(UndoFailed::NothingSelected);
        }
        let mut found = Found::default();
        if let Some(id) = selection.writeback {
            let row = self
                .writeback(id)
                .await?
                .ok_or(UndoFailed::UnknownWriteback)?;
            self.take_if_meant(selection, row, &mut found).await?;
        } else {
            let mut after = None;
            loop {
                let rows = self.rows_after(BY_STATE, None, &mut after).await?;
                let is_last = rows.len() < LISTED_MAX as usize;
                for row in rows {
                    self.take_if_meant(selection, row, &mut found).await?;
                }
                if is_last {
                    break;
                }
            }
        }
        self.add_dependents(&mut found).await?;
        Ok(found)
    }

    async fn take_if_meant(
        &self,
        selection: &UndoSelection,
        row: WritebackRow,
        found: &mut Found,
    ) -> Result<(), UndoFailed> {
        let is_meant = is_alive(&row)
            && row.agent.as_str() != CHAPERONE
            && selection.agent.as_ref().is_none_or(|it| *it == row.agent)
            && selection.intent.as_ref().is_none_or(|it| *it == row.intent)
            && selection.from.is_none_or(|from| from <= row.proposed)
            && selection.to.is_none_or(|to| row.proposed < to)
            && selection.writeback.is_none_or(|it| it == row.id);
        if !is_meant
            || (selection.names_version() && !self.is_of_version(selection, &row, found).await?)
        {
            return Ok(());
        }
        if found.chosen.len() >= EFFECTS_MAX {
            return Err(UndoFailed::TooMany);
        }
        found.chosen.push(Chosen { row, on: None });
        Ok(())
    }

    async fn is_of_version(
        &self,
        selection: &UndoSelection,
        row: &WritebackRow,
        found: &mut Found,
    ) -> Result<bool, UndoFailed> {
        let hand = self.take_in_hand(row.id).await?;
        // What was not ruled on yet has no order, and no effect that a version could be named for.
        let Some(ruled) = hand.state.ruled() else {
            return Ok(false);
        };
        let Some(order) = self.order_if_kept(&ruled.order).await? else {
            found.unreadable = found.unreadable.saturating_add(1);
            return Ok(false);
        };
        let author = &order.author;
        Ok(selection
            .model
            .as_ref()
            .is_none_or(|model| author.model == model.as_str())
            && selection
                .prompt
                .as_ref()
                .is_none_or(|prompt| author.prompts.iter().any(|it| it == prompt.as_str())))
    }

    /// Later proposals for the same patients that change, or cite, what the chosen ones made. Anything that rests on
    /// one of those rests on it too.
    pub(super) async fn add_dependents(&self, found: &mut Found) -> Result<(), UndoFailed> {
        let patients: BTreeSet<PatientToken> = found
            .chosen
            .iter()
            .filter_map(|it| it.row.patient)
            .collect();
        for patient in patients {
            self.add_dependents_of(patient, found).await?;
        }
        Ok(())
    }

    async fn add_dependents_of(
        &self,
        patient: PatientToken,
        found: &mut Found,
    ) -> Result<(), UndoFailed> {
        let chosen: BTreeSet<WritebackId> = found.chosen.iter().map(|it| it.row.id).collect();
        let mut made = BTreeMap::new();
        for it in found
            .chosen
            .iter()
            .filter(|it| it.row.patient == Some(patient))
        {
            self.note_made(&it.row, &mut made).await?;
        }
        let mut candidates = Vec::new();
        let mut after = None;
        loop {
            let rows = self
                .rows_after(BY_PATIENT, Some(patient.to_string()), &mut after)
                .await?;
            let is_last = rows.len() < LISTED_MAX as usize;
            for row in rows {
                let is_candidate =
                    is_alive(&row) && row.agent.as_str() != CHAPERONE && !chosen.contains(&row.id);
                if is_candidate {
                    candidates.push(row);
                }
            }
            if is_last {
                break;
            }
        }
        for _ in 0..ROUNDS_MAX {
            if made.is_empty() {
                return Ok(());
            }
            let mut rest = Vec::new();
            let mut next = BTreeMap::new();
            for row in candidates {
                match self.rests_on_any(&row, &made).await? {
                    None => rest.push(row),
                    Some(on) => {
                        if found.chosen.len() >= EFFECTS_MAX {
                            return Err(UndoFailed::TooMany);
                        }
                        self.note_made(&row, &mut next).await?;
                        found.chosen.push(Chosen { row, on: Some(on) });
                    }
                }
            }
            candidates = rest;
            made = next;
        }
        Ok(())
    }

    /// Notes which resource a write-back made, with when it was proposed.
    async fn note_made(
        &self,
        row: &WritebackRow,
        made: &mut BTreeMap<String, (WritebackId, Timestamp)>,
    ) -> Result<(), UndoFailed> {
        let hand = self.take_in_hand(row.id).await?;
        let places = match &hand.state {
            Writeback::Delivered(delivered) => self.places_of(delivered.receipt()).await?,
            Writeback::Compensated(undone) => self.places_of(undone.delivered().receipt()).await?,
            // What it will have become cannot be known before it is there; what it changes can.
            _ => match hand.state.ruled() {
                Some(ruled) => self.order_if_kept(&ruled.order).await?.map(|order| {
                    let updates = order
                        .changes()
                        .filter(|it| it.interaction == Interaction::Update);
                    updates.filter_map(|it| Place::read(it.path)).collect()
                }),
                None => None,
            },
        };
        for place in places.unwrap_or_default() {
            made.entry(place.reference())
                .or_insert((row.id, row.proposed));
        }
        Ok(())
    }

    async fn rests_on_any(
        &self,
        row: &WritebackRow,
        made: &BTreeMap<String, (WritebackId, Timestamp)>,
    ) -> Result<Option<WritebackId>, UndoFailed> {
        if made.values().all(|(_, at)| row.proposed < *at) {
            return Ok(None);
        }
        let hand = self.take_in_hand(row.id).await?;
        let mut named = BTreeSet::new();
        if let Some(ruled) = hand.state.ruled()
            && let Some(order) = self.order_if_kept(&ruled.order).await?
        {
            for change in order.changes() {
                named.insert(change.path.to_owned());
                if let Ok(body) = serde_json::from_str::<Value>(change.body) {
                    // Everything of a patient names them; that rests on nothing that was changed about them.
                    texts(&body, &mut |text| {
                        if !text.starts_with("Patient/") {
                            named.insert(text.to_owned());
                        }
                    });
                }
            }
        }
        if let Some(sent) = self.if_kept(&hand.state.proposal().payload).await?
            && let Ok(sent) = serde_json::from_slice::<Value>(&sent)
        {
            let mut tokens: Vec<ResourceToken> = Vec::new();
            texts(&sent, &mut |text| {
                if tokens.len() < TOKENS_MAX {
                    tokens.extend(text.parse::<ResourceToken>().ok());
                }
            });
            for token in tokens {
                if let Ok(target) = self.resource_target(token).await {
                    named.insert(format!("{}/{}", target.resource, target.id));
                }
            }
        }
        let endpoint = format!("{}/", self.ehr.endpoint().trim_end_matches('/'));
        Ok(named.iter().find_map(|name| {
            let name = name.strip_prefix(endpoint.as_str()).unwrap_or(name);
            let (on, at) = made.get(name)?;
            (*on != row.id && row.proposed >= *at).then_some(*on)
        }))
    }

    /// The next page of a listing; `after` moves on.
    async fn rows_after(
        &self,
        collection: &str,
        index: Option<String>,
        after: &mut Option<(String, String)>,
    ) -> Result<Vec<WritebackRow>, StoreFailed> {
        let listing = Listing {
            index,
            after: after.take(),
            limit: LISTED_MAX,
            ..Listing::default()
        };
        let records = self
            .store
            .projections(&self.config.tenant, collection, listing)
            .await?;
        *after = records
            .last()
            .map(|last| (last.sort.clone(), last.key.key.clone()));
        records.iter().map(row_of).collect()
    }

    /// An order, unless it is gone by retention or shredding.
    pub(super) async fn order_if_kept(
        &self,
        reference: &OrderRef,
    ) -> Result<Option<WriteOrder>, UndoFailed> {
        let Some(bytes) = self.if_kept(&reference.address).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|_| corrupt("a stored order cannot be read"))
    }

    /// A payload, unless it is gone.
    pub(super) async fn if_kept(
        &self,
        address: &chaperone_core::digest::PayloadAddress,
    ) -> Result<Option<Vec<u8>>, UndoFailed> {
        match self.unseal(address).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(VaultFailed::Missing | VaultFailed::Keys(KeyVaultFailed::Destroyed)) => Ok(None),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Where everything that a delivered write-back made or changed is at the EHR, in the order of its changes;
    /// nothing where a person entered it, or not all of it is kept.
    pub(super) async fn places_of(
        &self,
        receipt: &chaperone_core::writeback::DeliveryReceipt,
    ) -> Result<Option<Vec<Place>>, UndoFailed> {
        if receipt.attested_by.is_some() {
            return Ok(None);
        }
        let also = receipt.also.iter().map(|entry| &entry.location);
        let mut places = Vec::new();
        for address in std::iter::once(&receipt.location).chain(also) {
            let kept = self.if_kept(address).await?;
            let place = kept
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .and_then(|text| Place::read(&text));
            match place {
                Some(place) => places.push(place),
                None => return Ok(None),
            }
        }
        Ok(Some(places))
    }
}

pub(super) fn corrupt(what: &str) -> UndoFailed {
    UndoFailed::Store(StoreFailed::Corrupt(what.to_owned()))
}

/// Every text in a value. Recursion is bounded: serde_json reads at most 128 levels.
fn texts(value: &Value, told: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => told(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, told)),
        Value::Object(members) => members.values().for_each(|member| texts(member, told)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_with_and_without_a_version() {
        let place = Place::read("Task/new-1/_history/3").unwrap();
        assert_eq!(place.reference(), "Task/new-1");
        assert_eq!(place.version.as_deref(), Some("3"));
        assert_eq!(Place::read("Task/7").unwrap().version, None);
        for bad in [
            "",
            "Task",
            "Task/",
            "Task/7/other/3",
            "task/7",
            "I saw it there",
        ] {
            assert_eq!(Place::read(bad), None, "{bad}");
        }
    }
}
