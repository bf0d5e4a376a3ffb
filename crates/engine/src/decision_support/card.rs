//! A card, as a service sends it and as people see it: plain words of a known length, whatever was in them.
//!
//! Markup, links, images and control characters go; nothing of a card is ever an instruction, an address or a change.
//!
//! # Source
//! HL7 CDS Hooks 2.0, "CDS Service Response": `summary` under 140 characters, `detail` in GitHub Flavored Markdown,
//! `indicator` one of `info`, `warning`, `critical`.

use chaperone_core::digest::{Digest, Salt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most cards of one service.
pub(super) const CARDS_MAX: usize = 20;
/// Longest texts that are shown, in characters.
const SUMMARY_CHARS_MAX: usize = 200;
const DETAIL_CHARS_MAX: usize = 2_000;
const LABEL_CHARS_MAX: usize = 80;

/// How grave a card is, gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Indicator {
    /// Somebody must decide before the order goes on.
    Critical,
    /// It should be looked at.
    Warning,
    /// It is worth knowing.
    Info,
}

/// A card in plain words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Which card it is: a salted digest of what it says.
    pub id: Digest,
    /// The service's name, as our own list has it.
    pub service: String,
    /// How grave it is.
    pub indicator: Indicator,
    /// What it says.
    pub summary: String,
    /// More of it.
    pub detail: String,
    /// Where the service says that it has it from.
    pub source: String,
    /// Whether it came with changes it suggests. Nobody applies them.
    pub suggests: bool,
}

/// The cards of an answer; nothing where it is not of the form that the specification asks for, or has too many.
pub(super) fn cards_in(answer: &Value, service: &str, salt: &Salt) -> Option<Vec<Card>> {
    let cards = answer.get("cards")?.as_array()?;
    if cards.len() > CARDS_MAX {
        return None;
    }
    cards
        .iter()
        .map(|card| {
            let text = |pointer: &str| card.pointer(pointer).and_then(Value::as_str);
            let summary = plain(text("/summary")?, SUMMARY_CHARS_MAX);
            if summary.is_empty() {
                return None;
            }
            let indicator = match text("/indicator")? {
                "info" => Indicator::Info,
                "warning" => Indicator::Warning,
                // What is not known counts as the gravest.
                _ => Indicator::Critical,
            };
            let detail = plain(text("/detail").unwrap_or_default(), DETAIL_CHARS_MAX);
            let source = plain(text("/source/label").unwrap_or_default(), LABEL_CHARS_MAX);
            let suggestions = card.get("suggestions").and_then(Value::as_array);
            let said =
                serde_json::to_vec(&(service, indicator, &summary, &detail, &source)).ok()?;
            Some(Card {
                id: Digest::salted(salt, &said),
                service: service.to_owned(),
                indicator,
                summary,
                detail,
                source,
                suggests: suggestions.is_some_and(|all| !all.is_empty()),
            })
        })
        .collect()
}

/// Text without markup: tags, what leads elsewhere, and characters that are not seen.
fn plain(text: &str, chars_max: usize) -> String {
    let mut words = String::new();
    let mut depth: u32 = 0;
    // One pass, and no more of it than could be shown even if half were markup.
    for character in text.chars().take(chars_max.saturating_mul(8)) {
        match character {
            '<' => depth = depth.saturating_add(1),
            '>' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            '*' | '`' | '#' | '_' | '~' | '|' | '[' | ']' | '!' | '\\' | '{' | '}' => {}
            _ if character.is_whitespace() || is_unseen(character) => {
                if !words.ends_with(' ') {
                    words.push(' ');
                }
            }
            _ => words.push(character),
        }
    }
    let words: Vec<&str> = words.split(' ').filter(|word| !leads_away(word)).collect();
    let words = words.join(" ");
    let words = words.trim();
    match words.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", words.get(..end).unwrap_or_default()),
        None => words.to_owned(),
    }
}

fn leads_away(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    word.contains("://") || word.contains("javascript:") || word.contains("data:")
}

/// Control characters, and those that turn or hide text.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn salt() -> Salt {
        Salt::from_random([7; 32])
    }

    #[test]
    fn a_card_is_plain_words_whatever_it_holds() {
        let answer = json!({ "cards": [{
            "summary": "**Bleeding** risk <img src=x onerror=alert(1)>with aspirin",
            "detail": "See [the guide](https://evil.example/?p=1)\n\n- a\u{202e}b <script>alert(1)</script> javascript:alert(1)",
            "indicator": "warning",
            "source": { "label": "Drug <b>checks</b>", "url": "https://evil.example" },
            "suggestions": [{ "label": "Use another", "actions": [] }],
            "links": [{ "label": "Approve", "url": "https://evil.example", "type": "absolute" }],
        }] });
        let cards = cards_in(&answer, "Interactions", &salt()).unwrap();
        let card = &cards[0];
        assert_eq!(card.summary, "Bleeding risk with aspirin");
        assert_eq!(card.detail, "See the - a b alert(1)");
        assert_eq!(card.source, "Drug checks");
        assert!(card.suggests);
        assert_eq!(card.indicator, Indicator::Warning);
    }

    #[test]
    fn what_is_not_of_the_form_is_no_answer_and_the_unknown_is_grave() {
        let card = |indicator: &str| json!({ "summary": "s", "indicator": indicator, "source": { "label": "l" } });
        let one = |answer: Value| cards_in(&answer, "s", &salt());
        for (indicator, wanted) in [
            ("info", Indicator::Info),
            ("critical", Indicator::Critical),
            ("hard-stop", Indicator::Critical),
        ] {
            let cards = one(json!({ "cards": [card(indicator)] })).unwrap();
            assert_eq!(cards[0].indicator, wanted);
        }
        assert_eq!(one(json!({ "cards": [] })), Some(Vec::new()));
        for unusable in [
            json!({}),
            json!([]),
            json!({ "cards": {} }),
            json!({ "cards": [{ "summary": "s" }] }),
            json!({ "cards": [{ "summary": "<b></b>", "indicator": "info" }] }),
            json!({ "cards": vec![card("info"); CARDS_MAX + 1] }),
        ] {
            assert_eq!(one(unusable), None);
        }
    }

    #[test]
    fn a_card_is_the_same_only_while_it_says_the_same() {
        let answer =
            |summary: &str| json!({ "cards": [{ "summary": summary, "indicator": "critical" }] });
        let id = |summary: &str| cards_in(&answer(summary), "s", &salt()).unwrap()[0].id;
        assert_eq!(id("stop"), id("stop"));
        assert_ne!(id("stop"), id("stop now"));
        let long = "a".repeat(SUMMARY_CHARS_MAX * 2);
        let cards = cards_in(&answer(&long), "s", &salt()).unwrap();
        assert_eq!(cards[0].summary.chars().count(), SUMMARY_CHARS_MAX + 1);
    }
}
