//! Functions on texts. Positions and lengths count characters (Unicode scalar values).
//!
//! Start at [`Run::string_function`].
//!
//! # Source
//! FHIRPath N1, string manipulation; `encode`, `escape`, `trim`, `split`, `join` and others from the later
//! drafts.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::super::evaluate::{Items, Run, Scope};
use super::super::item::Item;
use super::super::syntax::{Extra, Function};
use super::super::{EvaluationError, EvaluationErrorKind};
use super::{Answer, Call, patterns};

impl<'a> Run<'a, '_> {
    pub(super) fn string_function(
        &self,
        call: Call<'a>,
        item: Item<'a>,
        scope: &Scope<'a, '_>,
    ) -> Answer<'a> {
        use Function as F;
        let Some(text) = self.text_of(call.id, item, call.function.name())? else {
            return Ok(None);
        };
        self.steps(text.len() as u64 / 64)?;
        match call.function {
            F::Length => return Ok(Some(Item::Integer(text.chars().count() as i64))),
            F::Upper => return Ok(Some(owned(text.to_uppercase()))),
            F::Lower => return Ok(Some(owned(text.to_lowercase()))),
            F::Trim => return Ok(Some(owned(text.trim().to_owned()))),
            F::Substring => return self.substring(call, &text, scope),
            _ => {}
        }
        let Some(first) = call.argument(0) else {
            return Ok(None);
        };
        if matches!(
            call.function,
            F::Matches | F::MatchesFull | F::ReplaceMatches
        ) {
            return self.regular(call, &text, scope);
        }
        let Some(argument) = self.text_argument(first, scope)? else {
            return Ok(None);
        };
        Ok(match call.function {
            F::StartsWith => Some(Item::Boolean(text.starts_with(&*argument))),
            F::EndsWith => Some(Item::Boolean(text.ends_with(&*argument))),
            F::Contains => Some(Item::Boolean(text.contains(&*argument))),
            F::IndexOf => Some(place(&text, text.find(&*argument))),
            F::LastIndexOf => Some(place(&text, text.rfind(&*argument))),
            F::Encode => encode(&text, &argument).map(owned),
            F::Decode => decode(&text, &argument).map(owned),
            F::Escape => escape(&text, &argument).map(owned),
            F::Unescape => unescape(&text, &argument).map(owned),
            _ => return self.replace(call, &text, &argument, scope),
        })
    }

    fn substring(&self, call: Call<'a>, text: &str, scope: &Scope<'a, '_>) -> Answer<'a> {
        let start = match call.argument(0) {
            Some(argument) => self.integer_argument(argument, scope)?,
            None => None,
        };
        let Some(start) = start else { return Ok(None) };
        let length = match call.argument(1) {
            Some(argument) => self.integer_argument(argument, scope)?,
            None => None,
        };
        let Ok(start) = usize::try_from(start) else {
            return Ok(None);
        };
        let mut characters = text.chars().skip(start).peekable();
        if characters.peek().is_none() {
            return Ok(None);
        }
        let length = length.map_or(usize::MAX, |it| usize::try_from(it.max(0)).unwrap_or(0));
        Ok(Some(owned(characters.take(length).collect())))
    }

    fn replace(
        &self,
        call: Call<'a>,
        text: &str,
        pattern: &str,
        scope: &Scope<'a, '_>,
    ) -> Answer<'a> {
        let Some(substitution) = self.text_argument_at(call, 1, scope)? else {
            return Ok(None);
        };
        let count = if pattern.is_empty() {
            text.chars().count() + 1
        } else {
            text.matches(pattern).count()
        };
        let length = text
            .len()
            .saturating_add(count.saturating_mul(substitution.len()));
        self.text_fits(call.id, length)?;
        Ok(Some(owned(text.replace(pattern, &substitution))))
    }

    fn text_argument_at(
        &self,
        call: Call<'a>,
        index: usize,
        scope: &Scope<'a, '_>,
    ) -> Result<Option<Cow<'a, str>>, EvaluationError> {
        match call.argument(index) {
            Some(argument) => self.text_argument(argument, scope),
            None => Ok(None),
        }
    }

    fn regular(&self, call: Call<'a>, text: &str, scope: &Scope<'a, '_>) -> Answer<'a> {
        let is_replacing = call.function == Function::ReplaceMatches;
        let substitution = if is_replacing {
            match self.text_argument_at(call, 1, scope)? {
                Some(substitution) => patterns::translate_substitution(&substitution),
                None => return Ok(None),
            }
        } else {
            String::new()
        };
        let compiled;
        let regex = match call.extra {
            Extra::Pattern(regex) => &**regex,
            _ => {
                let Some(pattern) = self.text_argument_at(call, 0, scope)? else {
                    return Ok(None);
                };
                let flags = self.text_argument_at(call, if is_replacing { 2 } else { 1 }, scope)?;
                // Compiling costs far more than matching.
                self.steps(1_000 + 20 * pattern.len() as u64)?;
                compiled = patterns::compile(
                    &pattern,
                    &flags.unwrap_or_default(),
                    call.function == Function::MatchesFull,
                )
                .map_err(|why| self.error_at(call.id, EvaluationErrorKind::Regex(why)))?;
                &compiled
            }
        };
        self.steps(text.len() as u64 / 16)?;
        if !is_replacing {
            return Ok(Some(Item::Boolean(regex.is_match(text))));
        }
        if regex.as_str().is_empty() {
            return Ok(Some(owned(text.to_owned())));
        }
        let mut out = String::new();
        let mut at = 0;
        for captures in regex.captures_iter(text) {
            let Some(found) = captures.get(0) else {
                continue;
            };
            out.push_str(text.get(at..found.start()).unwrap_or_default());
            captures.expand(&substitution, &mut out);
            at = found.end();
            self.text_fits(call.id, out.len())?;
            self.step()?;
        }
        out.push_str(text.get(at..).unwrap_or_default());
        Ok(Some(owned(out)))
    }

    /// `split(separator)` and `toChars()`.
    pub(super) fn cut(
        &self,
        call: Call<'a>,
        scope: &Scope<'a, '_>,
    ) -> Result<Items<'a>, EvaluationError> {
        let mut items = Items::new();
        let Some(item) = self.single_base(call, scope)? else {
            return Ok(items);
        };
        let Some(text) = self.text_of(call.id, item, call.function.name())? else {
            return Ok(items);
        };
        self.steps(text.len() as u64)?;
        let separator = self.text_argument_at(call, 0, scope)?.unwrap_or_default();
        if call.function == Function::ToChars || separator.is_empty() {
            for character in text.chars() {
                self.gather(&mut items, owned(character.to_string()))?;
            }
        } else {
            for part in text.split(&*separator) {
                self.gather(&mut items, owned(part.to_owned()))?;
            }
        }
        Ok(items)
    }

    /// `join([separator])`.
    pub(super) fn join(&self, call: Call<'a>, scope: &Scope<'a, '_>) -> Answer<'a> {
        let separator = self.text_argument_at(call, 0, scope)?.unwrap_or_default();
        let items = self.collect_base(call.base, scope)?;
        if items.is_empty() {
            return Ok(None);
        }
        let mut out = String::new();
        let mut is_first = true;
        for item in items {
            let Some(text) = self.text_of(call.id, item, "`join`")? else {
                continue;
            };
            if !is_first {
                out.push_str(&separator);
            }
            is_first = false;
            out.push_str(&text);
            self.text_fits(call.id, out.len())?;
        }
        Ok(Some(owned(out)))
    }
}

fn owned<'a>(text: String) -> Item<'a> {
    Item::String(Cow::Owned(text))
}

/// The character position of a byte position; -1 for none.
fn place<'a>(text: &str, at: Option<usize>) -> Item<'a> {
    let position = at.and_then(|at| text.get(..at)).map_or(-1, |before| {
        i64::try_from(before.chars().count()).unwrap_or(i64::MAX)
    });
    Item::Integer(position)
}

fn encode(text: &str, format: &str) -> Option<String> {
    Some(match format {
        "hex" => hex::encode(text),
        "base64" => STANDARD.encode(text),
        "urlbase64" => URL_SAFE.encode(text),
        "ascii" => text
            .chars()
            .map(|it| if it.is_ascii() { it } else { '?' })
            .collect(),
        _ => return None,
    })
}

fn decode(text: &str, format: &str) -> Option<String> {
    let bytes = match format {
        "hex" => hex::decode(text).ok()?,
        "base64" => STANDARD.decode(text).ok()?,
        "urlbase64" => URL_SAFE.decode(text).ok()?,
        _ => return None,
    };
    String::from_utf8(bytes).ok()
}

fn escape(text: &str, target: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match (target, character) {
            ("html", '&') => out.push_str("&amp;"),
            ("html", '<') => out.push_str("&lt;"),
            ("html", '>') => out.push_str("&gt;"),
            ("html", '"') => out.push_str("&quot;"),
            ("html", '\'') => out.push_str("&#39;"),
            ("json", '"') => out.push_str("\\\""),
            ("json", '\\') => out.push_str("\\\\"),
            ("json", '\n') => out.push_str("\\n"),
            ("json", '\r') => out.push_str("\\r"),
            ("json", '\t') => out.push_str("\\t"),
            ("json", '\u{c}') => out.push_str("\\f"),
            ("json", '\u{8}') => out.push_str("\\b"),
            ("json", control) if control < ' ' => {
                out.push_str(&format!("\\u{:04x}", control as u32));
            }
            ("html" | "json", other) => out.push(other),
            _ => return None,
        }
    }
    matches!(target, "html" | "json").then_some(out)
}

fn unescape(text: &str, target: &str) -> Option<String> {
    match target {
        "html" => Some(unescape_html(text)),
        "json" => Some(unescape_json(text)),
        _ => None,
    }
}

/// Longest character reference, such as `&#x1F525;`.
const REFERENCE_BYTES_MAX: usize = 12;

fn unescape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        let named = rest
            .find(';')
            .filter(|end| *end <= REFERENCE_BYTES_MAX)
            .and_then(|end| Some((rest.get(..end)?, rest.get(end + 1..)?)))
            .and_then(|(name, after)| Some((referenced(name)?, after)));
        match named {
            Some((character, after)) => {
                out.push(character);
                rest = after;
            }
            None => out.push('&'),
        }
    }
    out.push_str(rest);
    out
}

fn referenced(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    })
}

fn unescape_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('f') => out.push('\u{c}'),
            Some('b') => out.push('\u{8}'),
            Some('u') => {
                let hex: String = characters.by_ref().take(4).collect();
                let decoded = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                out.push(decoded.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
    out
}
