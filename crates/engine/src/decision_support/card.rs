//! A card, as a service sends it and as people see it: plain words of a known length, whatever was in them.
//!
//! Nothing of a card is ever an instruction, an address or a change; and nothing that could be clinical is taken out of
//! it. Pages show it as text, so what looks like markup there does nothing.
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
/// Most of a text that is looked at, in characters.
const TEXT_CHARS_MAX: usize = 20_000;
/// Longest inside of an HTML element, in bytes.
const ELEMENT_BYTES_MAX: usize = 1_000;
/// What stands where a text was cut.
const CUT: &str = "… (cut)";
/// What stands for an address.
const ADDRESS: &str = "(address)";
/// HTML elements that are taken out. What is not listed stays as text.
const ELEMENTS: [&str; 40] = [
    "a",
    "article",
    "b",
    "blockquote",
    "body",
    "br",
    "button",
    "code",
    "div",
    "em",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "head",
    "hr",
    "html",
    "i",
    "iframe",
    "img",
    "input",
    "li",
    "link",
    "meta",
    "object",
    "ol",
    "p",
    "pre",
    "script",
    "section",
    "span",
    "strong",
    "style",
    "svg",
    "table",
    "td",
    "th",
    "tr",
    "ul",
];

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

/// A card in plain words. They are about a patient: its `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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

impl std::fmt::Debug for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Card")
            .field("id", &self.id)
            .field("service", &self.service)
            .field("indicator", &self.indicator)
            .finish_non_exhaustive()
    }
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
            // All that was sent, also what is cut.
            let said = [text("/summary"), text("/detail"), text("/source/label")];
            let said = serde_json::to_vec(&(service, indicator, said)).ok()?;
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

/// Words on one line, cut to a length and marked where they are. HTML elements go, addresses are named and not shown,
/// characters that are not seen become spaces. Everything else stays as it was sent, also what looks like Markdown or
/// like half a tag: `<30 mL/min` and `2*5 mg` are what a reader must see.
fn plain(text: &str, chars_max: usize) -> String {
    let text: String = text.chars().take(TEXT_CHARS_MAX).collect();
    let text = without_elements(&text);
    let words: Vec<String> = text
        .split(|character: char| character.is_whitespace() || is_unseen(character))
        .filter(|word| !word.is_empty())
        .map(without_address)
        .collect();
    let words = words.join(" ");
    match words.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}{CUT}", words.get(..end).unwrap_or_default()),
        None => words,
    }
}

/// A space for every HTML element that is known.
fn without_elements(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('<') {
        kept.push_str(before);
        match after_element(from) {
            Some(after) => {
                kept.push(' ');
                rest = after;
            }
            None => {
                kept.push('<');
                rest = from;
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// What follows an element that begins here, behind its `<`.
fn after_element(text: &str) -> Option<&str> {
    let named = text.strip_prefix('/').unwrap_or(text);
    let end = named.find(|it: char| !it.is_ascii_alphanumeric())?;
    let name = named.get(..end)?;
    let is_known = ELEMENTS.iter().any(|it| it.eq_ignore_ascii_case(name));
    let attributes = named.get(end..)?;
    let (within, after) = attributes.split_once('>')?;
    // Attributes have values, so that words between signs of comparison are none.
    let mut words = within.trim_end_matches('/').split_whitespace();
    let is_whole = within.is_empty()
        || within.starts_with([' ', '\t', '\n', '\r', '/'])
            && words.next().is_none_or(|first| first.contains('='));
    (is_known && is_whole && within.len() <= ELEMENT_BYTES_MAX).then_some(after)
}

/// A word in which an address is only named.
fn without_address(word: &str) -> String {
    let Some((before, after)) = word.split_once("://") else {
        return word.to_owned();
    };
    let before = before.trim_end_matches(|it: char| it.is_ascii_alphanumeric());
    let end = after.find([')', ']', '>', '<', '"', '\'']);
    let after = end.and_then(|end| after.get(end..)).unwrap_or_default();
    format!("{before}{ADDRESS}{after}")
}

/// Control characters, and those that turn or hide text.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
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
            "detail": "See [the guide](https://evil.example/?p=1).\n\n- a\u{202e}b <SCRIPT>alert(1)</SCRIPT>",
            "indicator": "warning",
            "source": { "label": "Drug <b>checks</b>", "url": "https://evil.example" },
            "suggestions": [{ "label": "Use another", "actions": [] }],
            "links": [{ "label": "Approve", "url": "https://evil.example", "type": "absolute" }],
        }] });
        let cards = cards_in(&answer, "Interactions", &salt()).unwrap();
        let card = &cards[0];
        assert_eq!(card.summary, "**Bleeding** risk with aspirin");
        assert_eq!(card.detail, "See [the guide]((address)). - a b alert(1)");
        assert_eq!(card.source, "Drug checks");
        assert!(card.suggests);
        assert_eq!(card.indicator, Indicator::Warning);
    }

    #[test]
    fn what_could_be_clinical_stays() {
        for text in [
            "CrCl <30 mL/min: contraindicated",
            "INR < 2 and K > 5",
            "x <b and c> d",
            "2*5 mg ~ 10 mg | not 100 mg!",
            "<unknown>dose</unknown>",
            "end <",
            "a </",
        ] {
            assert_eq!(plain(text, 100), text);
        }
        assert_eq!(plain("<b>bold</b>  <br/>line", 100), "bold line");
        let half = format!("<b {}", "x".repeat(50));
        assert_eq!(plain(&half, 100), half);
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
        let shown = format!("{}{CUT}", "a".repeat(SUMMARY_CHARS_MAX));
        assert_eq!(cards[0].summary, shown);
        assert_ne!(id(&long), id(&format!("{long} and more that is cut")));
    }
}
