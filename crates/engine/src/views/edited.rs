//! What a person made of an agent's proposal, beside what the agent had proposed. Nothing of it is approved: the order
//! is.
//!
//! What differs is shown as the inputs that were changed, a long text by its lines, then element by element.

use std::collections::BTreeMap;

use chaperone_core::edit::{EDITS_MAX, EditLink};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::WritebackId;
use chaperone_core::principal::Actor;
use chaperone_core::writeback::{Proposal, RefusedBy, WritebackEvent};
use chaperone_fhir::words::{self, DiffKind, DiffLine};
use serde_json::Value;

use super::ViewFailed;
use super::changes::OrderContent;
use super::displays::with_displays;
use crate::context::Engine;
use crate::merge::WRITEBACK_SYSTEM;

/// Most lines of the difference.
const DIFF_LINES_MAX: usize = 40;

/// Who changed a proposal, why, and how it differs from the agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedView {
    /// What it took the place of.
    pub of: WritebackId,
    /// The account of whoever changed it last; empty when that is not known.
    pub by: String,
    /// Their reason; empty when it is not kept any more.
    pub reason: String,
    /// How it differs from what the agent proposed.
    pub diff: Vec<DiffLine>,
}

impl Engine {
    /// What a person changed; nothing for what an agent proposed.
    pub(super) async fn edited_view(
        &self,
        proposal: &Proposal,
        opened: Option<&OrderContent>,
    ) -> Result<Option<EditedView>, ViewFailed> {
        let Some(link) = &proposal.edit else {
            return Ok(None);
        };
        let stream = StreamId::Writeback(link.of);
        let events = self.store.stream(&self.config.tenant, &stream).await?;
        let ended = events.iter().find_map(|it| match &it.event {
            Event::Writeback(WritebackEvent::Refused {
                refused: RefusedBy::Edited { reason, .. },
            }) => Some((*reason, &it.actor)),
            _ => None,
        });
        let (by, reason) = match ended {
            Some((reason, actor)) => {
                let by = match actor {
                    Actor::Human { account, .. } => account.to_string(),
                    _ => String::new(),
                };
                (by, self.unseal_text(&reason).await.unwrap_or_default())
            }
            None => Default::default(),
        };
        let diff = match opened {
            Some(opened) => self.difference(proposal, link, opened).await?,
            None => Vec::new(),
        };
        Ok(Some(EditedView {
            of: link.of,
            by,
            reason,
            diff,
        }))
    }

    /// How an order differs from the one that the agent's own proposal had; nothing where that is gone.
    async fn difference(
        &self,
        proposal: &Proposal,
        link: &EditLink,
        opened: &OrderContent,
    ) -> Result<Vec<DiffLine>, ViewFailed> {
        let mut first = link.of;
        let mut order = None;
        for _ in 0..EDITS_MAX {
            let hand = self.take_in_hand(first).await?;
            order = hand.state.ruled().map(|ruled| ruled.order.clone());
            match &hand.state.proposal().edit {
                Some(earlier) => first = earlier.of,
                None => break,
            }
        }
        let Some(order) = order else {
            return Ok(Vec::new());
        };
        let before = match self.order_content(&order).await {
            Ok(before) => before,
            Err(failed) if failed.is_gone() => return Ok(Vec::new()),
            Err(failed) => return Err(failed),
        };
        let made_now: Vec<&String> = self
            .bundle
            .tool(&proposal.tool)
            .and_then(|tool| tool.write.as_ref())
            .into_iter()
            .flat_map(|write| &write.template)
            .filter(|(_, value)| value.as_str() == Some("{now}"))
            .map(|(name, _)| name)
            .collect();
        let said = |body: &Value| {
            let mut said = with_displays(body);
            if let Some(members) = said.as_object_mut() {
                members.retain(|name, _| !made_now.contains(&name));
                if let Some(Value::Array(identifiers)) = members.get_mut("identifier") {
                    identifiers.retain(|it| {
                        it.get("system").and_then(Value::as_str) != Some(WRITEBACK_SYSTEM)
                    });
                }
            }
            said
        };
        let coded = words::diff(Some(&said(&before.first.body)), &said(&opened.first.body));
        let inputs = |of: &OrderContent| of.order.call.as_ref().map(|call| call.inputs.clone());
        let mut diff = inputs_diff(
            &inputs(&before).unwrap_or_default(),
            &inputs(opened).unwrap_or_default(),
        );
        // What is packed for the wire is read as the input that it was packed from.
        let packed = |line: &DiffLine| line.path.ends_with("attachment.data");
        diff.extend(coded.into_iter().filter(|line| !packed(line)));
        diff.truncate(DIFF_LINES_MAX);
        Ok(diff)
    }
}

/// The inputs that differ; of a text only the lines between the first and the last that do.
fn inputs_diff(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<DiffLine> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut lines = Vec::new();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if old == new {
            continue;
        }
        let text = |value: Option<&Value>| value.map(crate::edit::as_text).unwrap_or_default();
        let (old, new) = (text(old), text(new));
        let (old, new) = between(&old, &new);
        let said = |lines: Vec<&str>| (!lines.is_empty()).then(|| lines.join("\n"));
        let (before, after) = (said(old), said(new));
        lines.push(DiffLine {
            path: name.clone(),
            kind: match (&before, &after) {
                (None, _) => DiffKind::Added,
                (_, None) => DiffKind::Removed,
                _ => DiffKind::Changed,
            },
            before,
            after,
        });
    }
    lines
}

/// The lines that are left of two texts when what is the same at both ends is taken away.
fn between<'t>(old: &'t str, new: &'t str) -> (Vec<&'t str>, Vec<&'t str>) {
    let (mut old, mut new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = |a: &mut dyn Iterator<Item = (&str, &str)>| a.take_while(|(a, b)| a == b).count();
    let first = same(&mut old.iter().copied().zip(new.iter().copied()));
    old.drain(..first);
    new.drain(..first);
    let last = same(&mut old.iter().rev().copied().zip(new.iter().rev().copied()));
    old.truncate(old.len().saturating_sub(last));
    new.truncate(new.len().saturating_sub(last));
    (old, new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_text_only_what_differs_is_shown() {
        let inputs =
            |value: Value| -> BTreeMap<String, Value> { serde_json::from_value(value).unwrap() };
        let before = inputs(json!({ "text": "one\ntwo\nthree", "dose": 20, "unit": "mg" }));
        let after =
            inputs(json!({ "text": "one\n2\nthree", "dose": 15, "unit": "mg", "note": "x" }));
        let shown: Vec<(String, Option<String>, Option<String>)> = inputs_diff(&before, &after)
            .into_iter()
            .map(|line| (line.path, line.before, line.after))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown,
            [
                ("dose".to_owned(), some("20"), some("15")),
                ("note".to_owned(), None, some("x")),
                ("text".to_owned(), some("two"), some("2")),
            ]
        );
        assert!(inputs_diff(&before, &before).is_empty());
    }
}
