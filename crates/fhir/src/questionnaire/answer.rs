//! Whether one answer is of the type, among the options and within the bounds that its question states.
//!
//! Messages never quote an answer.
//! Start at [`Check::answer`].

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::compare;
use super::form::{Item, ItemType, Pattern};
use super::response::Check;
use crate::finding::{Severity, id};
use crate::json::{Kind, Value};
use crate::references::ReferenceForm;
use crate::validate::quotable;

/// Most options that a message spells out.
const LISTED_MAX: usize = 8;

impl<'d> Check<'_, 'd, '_> {
    /// Checks the value of an answer.
    pub(super) fn answer(&mut self, item: &Item, answer: Value<'d>, expression: &str) {
        let Some(value) = answer
            .children()
            .find(|it| it.key().is_some_and(|key| key.starts_with("value")))
        else {
            return;
        };
        let name = value.key().unwrap_or_default();
        let expression = format!("{expression}.{name}");
        if item.kind == ItemType::Unknown {
            return;
        }
        if !item.kind.answer_names().contains(&name) {
            let usual = item.kind.answer_names().first().unwrap_or(&"no value");
            self.wrong(
                id::QUESTIONNAIRE_ANSWER_TYPE,
                value,
                expression,
                format!("the question asks for `{usual}`, not `{}`", quotable(name)),
            );
            return;
        }
        self.options(item, name, value, &expression);
        self.bounds(item, name, value, &expression);
        match name {
            "valueString" | "valueUri" => self.text(item, value, &expression),
            "valueDecimal" => self.places(item, value, value, &expression),
            "valueQuantity" => {
                if let Some(number) = value.get("value") {
                    self.places(item, number, value, &expression);
                }
                self.unit(item, value, &expression);
            }
            "valueAttachment" => self.attachment(item, value, &expression),
            "valueReference" => self.reference(item, value, &expression),
            _ => {}
        }
    }

    /// The answer is an option, or a member of the value set, if the question has either.
    fn options(&mut self, item: &Item, name: &str, value: Value<'d>, expression: &str) {
        // Free text is what makes a choice open.
        if item.kind == ItemType::OpenChoice && name == "valueString" {
            return;
        }
        if !item.options.is_empty() {
            let mut is_undecided = false;
            for (option_name, option, _) in &item.options {
                if option_name != name {
                    continue;
                }
                match compare::is_same(name, value, option, self.terms) {
                    Some(true) => return,
                    Some(false) => {}
                    None => is_undecided = true,
                }
            }
            if is_undecided {
                self.not_checked(
                    value,
                    expression,
                    "whether the answer is one of the options",
                );
            } else {
                self.wrong(
                    id::QUESTIONNAIRE_ANSWER_OPTION,
                    value,
                    expression.to_owned(),
                    "the answer must be one of the options of the question".to_owned(),
                );
            }
        } else if let Some(set) = &item.value_set {
            self.member(set, name, value, expression);
        }
    }

    fn member(&mut self, set: &str, name: &str, value: Value<'d>, expression: &str) {
        let (system, code) = match name {
            "valueCoding" => {
                let text = |key: &str| value.get(key).and_then(Value::as_str);
                match text("code") {
                    Some(code) => (text("system"), code),
                    None => return,
                }
            }
            "valueString" => match value.as_str() {
                Some(text) => (None, text),
                None => return,
            },
            _ => return,
        };
        let is_member = match set.strip_prefix('#') {
            Some(local) => match self.form.contained_sets.get(local) {
                Some(Some(codes)) => Some(codes.iter().any(|(of, it)| {
                    it == code && system.is_none_or(|system| of.is_empty() || system == of)
                })),
                Some(None) | None => None,
            },
            None => self.terms.is_member(set, system, code),
        };
        match is_member {
            Some(true) => {}
            Some(false) => self.wrong(
                id::QUESTIONNAIRE_ANSWER_OPTION,
                value,
                expression.to_owned(),
                format!("the answer must be in the value set {}", quotable(set)),
            ),
            None => self.not_checked(
                value,
                expression,
                "whether the answer is in the value set of the question",
            ),
        }
    }

    /// `minValue` and `maxValue`.
    fn bounds(&mut self, item: &Item, name: &str, value: Value<'d>, expression: &str) {
        let rules = &item.rules;
        for (bounds, wrong, side) in [
            (&rules.least, Ordering::Less, "below the least"),
            (&rules.greatest, Ordering::Greater, "above the greatest"),
        ] {
            for bound in bounds {
                match compare::order(name, value, bound, self.terms) {
                    Some(found) if found == wrong => self.value(
                        value,
                        expression,
                        format!("the answer is {side} value allowed, {}", shown(bound)),
                    ),
                    Some(_) => {}
                    None if name == "valueQuantity" => self.value(
                        value,
                        expression,
                        format!(
                            "the answer must be in a unit that can be compared with {}; give a UCUM code of the same kind",
                            shown(bound)
                        ),
                    ),
                    None => self.not_checked(value, expression, "whether the answer is in range"),
                }
            }
        }
    }

    fn text(&mut self, item: &Item, value: Value<'d>, expression: &str) {
        let Some(text) = value.as_str() else { return };
        let characters = text.chars().count() as u64;
        if let Some(max) = item.rules.characters_max
            && characters > max
        {
            let message = format!("the answer has {characters} characters; at most {max} allowed");
            self.value(value, expression, message);
        }
        if let Some(min) = item.rules.characters_min
            && characters < min
        {
            let message = format!("the answer has {characters} characters; at least {min} needed");
            self.value(value, expression, message);
        }
        if item.kind == ItemType::String && text.contains(['\r', '\n']) {
            self.report.warning(
                id::QUESTIONNAIRE_ANSWER_VALUE,
                value,
                expression.to_owned(),
                "the question asks for a single line; only type `text` has several".to_owned(),
            );
        }
        match &item.rules.pattern {
            Some(Pattern::Regex(regex)) if !regex.is_match(text) => self.value(
                value,
                expression,
                "the answer does not have the format that the question's `regex` states".to_owned(),
            ),
            Some(Pattern::NotUnderstood) => {
                self.not_checked(value, expression, "the format of the answer");
            }
            _ => {}
        }
    }

    /// `maxDecimalPlaces`, over the number as it was written.
    fn places(&mut self, item: &Item, number: Value<'d>, value: Value<'d>, expression: &str) {
        let (Some(max), Some(text)) = (item.rules.decimal_places_max, number.as_number()) else {
            return;
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let written = mantissa.split_once('.').map_or(0, |(_, rest)| rest.len()) as i64;
        let places = written.saturating_sub(exponent.parse::<i64>().unwrap_or(0));
        if places > 0 && places as u64 > max {
            let message = format!("the answer has {places} decimal places; at most {max} allowed");
            self.value(value, expression, message);
        }
    }

    fn unit(&mut self, item: &Item, value: Value<'d>, expression: &str) {
        if !item.rules.units.is_empty() {
            let is_option = item
                .rules
                .units
                .iter()
                .any(|it| compare::is_same_coding(value, it));
            if !is_option {
                let listed: Vec<String> = item
                    .rules
                    .units
                    .iter()
                    .take(LISTED_MAX)
                    .filter_map(|it| it["code"].as_str().map(quotable))
                    .collect();
                let message = format!("the unit must be one of: {}", listed.join(", "));
                self.value(value, expression, message);
            }
        }
        let Some(set) = &item.rules.unit_set else {
            return;
        };
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let Some(code) = text("code") else {
            let message = format!("the unit must be a code of the value set {}", quotable(set));
            self.value(value, expression, message);
            return;
        };
        match self.terms.is_member(set, text("system"), code) {
            Some(true) => {}
            Some(false) => {
                let message = format!("the unit must be in the value set {}", quotable(set));
                self.value(value, expression, message);
            }
            None => self.not_checked(value, expression, "the unit of the answer"),
        }
    }

    fn attachment(&mut self, item: &Item, value: Value<'d>, expression: &str) {
        let allowed = &item.rules.mime_types;
        let stated = value.get("contentType").and_then(Value::as_str);
        let is_allowed = |stated: &str| {
            let bare = stated.split(';').next().unwrap_or_default().trim();
            allowed.iter().any(|it| {
                it.eq_ignore_ascii_case(bare)
                    || it
                        .strip_suffix('*')
                        .is_some_and(|prefix| bare.starts_with(prefix))
            })
        };
        if !allowed.is_empty() && !stated.is_some_and(is_allowed) {
            let listed: Vec<String> = allowed.iter().map(|it| quotable(it)).collect();
            let message = format!("the attachment must be of type {}", listed.join(", "));
            self.value(value, expression, message);
        }
        let data = value.get("data").and_then(Value::as_str).map(|data| {
            let symbols = data
                .bytes()
                .filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=');
            symbols.count() * 3 / 4
        });
        let size = data.or_else(|| value.get("size")?.as_number()?.parse().ok());
        if let (Some(max), Some(size)) = (item.rules.size_max, size)
            && size as f64 > max
        {
            let message = format!("the attachment has {size} bytes; at most {max} allowed");
            self.value(value, expression, message);
        }
    }

    fn reference(&mut self, item: &Item, value: Value<'d>, expression: &str) {
        let stated = value.get("type").and_then(Value::as_str);
        let text = value.get("reference").and_then(Value::as_str);
        let named = match text.map(ReferenceForm::parse) {
            Some(ReferenceForm::Typed { resource_type, .. }) => Some(resource_type),
            _ => None,
        };
        if let Some(name) = named
            && !self.definitions.is_resource_type(name)
        {
            let message = format!("`{}` is not a resource type", quotable(name));
            self.value(value, expression, message);
            return;
        }
        let allowed = &item.rules.resource_types;
        if let Some(name) = named.or(stated)
            && !allowed.is_empty()
            && !allowed.iter().any(|it| it == name)
        {
            let listed: Vec<String> = allowed.iter().map(|it| quotable(it)).collect();
            let message = format!(
                "{} may not be referred to here; allowed: {}",
                quotable(name),
                listed.join(", ")
            );
            self.value(value, expression, message);
        }
    }

    /// An option that excludes others is the only answer.
    pub(super) fn exclusive(&mut self, item: &Item, answers: &[(Value<'d>, String)]) {
        if answers.len() < 2 {
            return;
        }
        for (answer, expression) in answers {
            let Some(value) = answer
                .children()
                .find(|it| it.key().is_some_and(|key| key.starts_with("value")))
            else {
                continue;
            };
            let name = value.key().unwrap_or_default();
            let is_exclusive = item.options.iter().any(|(option_name, option, excludes)| {
                *excludes
                    && option_name == name
                    && compare::is_same(name, value, option, self.terms) == Some(true)
            });
            if is_exclusive {
                self.wrong(
                    id::QUESTIONNAIRE_ANSWER_OPTION,
                    value,
                    format!("{expression}.{name}"),
                    "this option excludes all others; it must be the only answer".to_owned(),
                );
            }
        }
    }

    fn value(&mut self, value: Value<'d>, expression: &str, message: String) {
        self.wrong(
            id::QUESTIONNAIRE_ANSWER_VALUE,
            value,
            expression.to_owned(),
            message,
        );
    }

    pub(super) fn wrong(
        &mut self,
        finding_id: &'static str,
        at: Value<'_>,
        expression: String,
        message: String,
    ) {
        self.report.error(finding_id, at, expression, message);
    }

    pub(super) fn not_checked(&mut self, at: Value<'d>, expression: &str, what: &str) {
        if at.kind() == Kind::Null {
            return;
        }
        self.report.add(
            id::QUESTIONNAIRE_NOT_CHECKED,
            Severity::Information,
            at,
            expression.to_owned(),
            format!("{what} could not be checked"),
            None,
        );
    }
}

/// A bound as a message shows it: it comes from the form, not from an answer.
fn shown(bound: &Json) -> String {
    match bound {
        Json::Object(_) => {
            let unit = bound["code"].as_str().or(bound["unit"].as_str());
            format!(
                "{} {}",
                bound["value"],
                quotable(unit.unwrap_or("(no unit)"))
            )
        }
        Json::String(text) => quotable(text),
        other => other.to_string(),
    }
}
