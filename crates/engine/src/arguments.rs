//! Arguments of a tool call: strict schemas, and values checked against them.
//!
//! Anything undeclared is refused. Write tools take four arguments of Chaperone's own beside the
//! declared ones: `idempotency_key`, `rationale`, `confidence`, `sources`; a tool that proposes several changes as one
//! takes them as `changes`.

use std::collections::BTreeMap;

use chaperone_core::bundle::{InputDeclaration, InputType, ToolAction, ToolDeclaration};
use chaperone_core::ids::{ResourceToken, ToolName};
use chaperone_core::together::ENTRIES_MAX;
use chaperone_fhir::primitive::Primitive;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::errors::CallError;
use crate::tokens::holds_token;

const KEY_CHARS_MAX: usize = 128;
const RATIONALE_CHARS_MAX: usize = 2_000;
const SOURCES_MAX: usize = 20;

/// The argument of a tool that proposes several changes as one: what they are.
pub(crate) const CHANGES: &str = "changes";

/// One of several changes, as it was sent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SentChange {
    /// The tool.
    pub(crate) tool: String,
    /// Its declared inputs.
    #[serde(default)]
    pub(crate) inputs: Map<String, Value>,
}

/// Checked arguments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments {
    /// Declared inputs that were given or have defaults.
    pub(crate) inputs: BTreeMap<String, Value>,
    /// For write tools.
    pub(crate) idempotency_key: String,
    /// For write tools: why, in the agent's words.
    pub(crate) rationale: Option<String>,
    /// For write tools: the agent's own confidence, a claim.
    pub(crate) confidence: Option<f64>,
    /// For write tools: resources the proposal rests on.
    pub(crate) sources: Vec<ResourceToken>,
    /// For tools that propose several changes as one: what they are, not yet checked.
    pub(crate) changes: Vec<SentChange>,
    /// Everything as received.
    pub(crate) raw: Map<String, Value>,
}

impl Arguments {
    /// Checks what was sent against the declaration.
    pub(crate) fn check(
        tool: &ToolDeclaration,
        sent: Map<String, Value>,
    ) -> Result<Self, CallError> {
        let is_write = tool.proposes();
        let is_together = matches!(tool.action(), Some(ToolAction::Together(_)));
        let mut arguments = Arguments {
            raw: sent.clone(),
            ..Arguments::default()
        };
        for (name, value) in sent {
            match tool.inputs.get(&name) {
                Some(input) => arguments.take_declared(name, input, value)?,
                None if is_together && name == CHANGES => arguments.take_changes(value)?,
                None if is_write => arguments.take_reserved(&name, value)?,
                None => return Err(undeclared(&name)),
            }
        }
        arguments.complete(tool)?;
        if is_write && arguments.idempotency_key.is_empty() {
            return Err(CallError::invalid_argument()
                .about("idempotency_key")
                .saying("a proposal needs an idempotency key: the same key when you retry, a new one for a new proposal"));
        }
        Ok(arguments)
    }

    /// Checks the inputs of one of several changes against the declaration of its tool.
    pub(crate) fn of_change(
        tool: &ToolDeclaration,
        sent: Map<String, Value>,
    ) -> Result<Self, CallError> {
        let mut arguments = Arguments {
            raw: sent.clone(),
            ..Arguments::default()
        };
        for (name, value) in sent {
            match tool.inputs.get(&name) {
                Some(input) => arguments.take_declared(name, input, value)?,
                None => return Err(undeclared(&name)),
            }
        }
        arguments.complete(tool)?;
        Ok(arguments)
    }

    fn take_declared(
        &mut self,
        name: String,
        input: &InputDeclaration,
        value: Value,
    ) -> Result<(), CallError> {
        check_value(input, &value).map_err(|why| {
            CallError::invalid_argument()
                .about(name.clone())
                .saying(why)
        })?;
        self.inputs.insert(name, value);
        Ok(())
    }

    /// Puts defaults in, and finds what is required and absent.
    fn complete(&mut self, tool: &ToolDeclaration) -> Result<(), CallError> {
        for (name, input) in &tool.inputs {
            if self.inputs.contains_key(name) {
                continue;
            }
            match &input.default {
                Some(default) => {
                    self.inputs.insert(name.clone(), default.clone());
                }
                None if input.required => {
                    return Err(CallError::invalid_argument()
                        .about(name.clone())
                        .saying("this argument is required"));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn take_changes(&mut self, value: Value) -> Result<(), CallError> {
        self.changes = serde_json::from_value(value).map_err(|_| {
            CallError::invalid_argument()
                .about(CHANGES)
                .saying("a list of changes, each `{\"tool\": …, \"inputs\": {…}}` and nothing else")
        })?;
        Ok(())
    }

    fn take_reserved(&mut self, name: &str, value: Value) -> Result<(), CallError> {
        let wrong = |why: &str| CallError::invalid_argument().about(name).saying(why);
        match name {
            "idempotency_key" => {
                self.idempotency_key = text_of(&value, KEY_CHARS_MAX)
                    .filter(|key| !key.is_empty())
                    .ok_or_else(|| wrong("a string of 1 to 128 characters"))?;
            }
            "rationale" => {
                self.rationale = Some(
                    text_of(&value, RATIONALE_CHARS_MAX)
                        .ok_or_else(|| wrong("a string of at most 2,000 characters"))?,
                );
            }
            "confidence" => {
                let number = value
                    .as_f64()
                    .filter(|n| (0.0..=1.0).contains(n))
                    .ok_or_else(|| wrong("a number from 0 to 1"))?;
                self.confidence = Some(number);
            }
            "sources" => {
                let tokens = value
                    .as_array()
                    .filter(|list| list.len() <= SOURCES_MAX)
                    .ok_or_else(|| wrong("a list of at most 20 resource tokens"))?;
                for token in tokens {
                    let token = token
                        .as_str()
                        .and_then(|t| t.parse().ok())
                        .ok_or_else(|| wrong("a list of resource tokens, `res_…`"))?;
                    self.sources.push(token);
                }
            }
            _ => return Err(undeclared(name)),
        }
        Ok(())
    }

    /// A string argument.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.inputs.get(name)?.as_str()
    }
}

/// A name of the caller's is repeated only when it could be a misspelt argument name.
fn undeclared(name: &str) -> CallError {
    let error = CallError::undeclared_argument();
    let is_plain = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_plain { error.about(name) } else { error }
}

fn text_of(value: &Value, chars_max: usize) -> Option<String> {
    value
        .as_str()
        .filter(|text| text.chars().count() <= chars_max)
        .map(str::to_owned)
}

/// Checks a value against the declaration of its input.
///
/// # Errors
/// What it must be, in words.
pub(crate) fn check_value(input: &InputDeclaration, value: &Value) -> Result<(), String> {
    match input.input_type {
        InputType::String => {
            let max = input.max_length.unwrap_or(0) as usize;
            match value.as_str() {
                Some(text) if text.chars().count() > max => {
                    Err(format!("at most {max} characters"))
                }
                Some(text) if text.trim().is_empty() => Err("must not be empty".to_owned()),
                Some(text)
                    if text
                        .chars()
                        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) =>
                {
                    Err("must not hold control characters".to_owned())
                }
                Some(text) if holds_token(text) => Err(
                    "a token in text is not resolved: give it where the tool takes one, or say in words what you mean"
                        .to_owned(),
                ),
                Some(_) => Ok(()),
                None => Err("must be a string".to_owned()),
            }
        }
        InputType::Code => match value.as_str() {
            Some(code) if input.one_of.iter().any(|known| known == code) => Ok(()),
            _ => Err(format!("one of: {}", input.one_of.join(", "))),
        },
        InputType::Integer => match value.as_i64() {
            Some(number) => in_range(input, number as f64),
            None => Err("must be a whole number".to_owned()),
        },
        InputType::Number => match value.as_f64() {
            Some(number) => in_range(input, number),
            None => Err("must be a number".to_owned()),
        },
        InputType::Boolean => {
            if value.is_boolean() {
                Ok(())
            } else {
                Err("must be true or false".to_owned())
            }
        }
        InputType::Date => primitive(value, Primitive::Date, "a date, `YYYY-MM-DD`"),
        InputType::DateTime => primitive(
            value,
            Primitive::Instant,
            "a time with time zone, `YYYY-MM-DDThh:mm:ss+zz:zz`",
        ),
        InputType::Token => match value.as_str().map(str::parse::<ResourceToken>) {
            Some(Ok(_)) => Ok(()),
            _ => {
                Err("a resource token, `res_…`, as a tool of this envelope returned it".to_owned())
            }
        },
    }
}

fn primitive(value: &Value, kind: Primitive, wanted: &str) -> Result<(), String> {
    match value.as_str() {
        Some(text) if kind.check_text(text).is_ok() => Ok(()),
        _ => Err(format!("must be {wanted}")),
    }
}

fn in_range(input: &InputDeclaration, number: f64) -> Result<(), String> {
    let low = input.minimum.unwrap_or(f64::MIN);
    let high = input.maximum.unwrap_or(f64::MAX);
    if (low..=high).contains(&number) {
        Ok(())
    } else {
        match (input.minimum, input.maximum) {
            (Some(low), Some(high)) => Err(format!("from {low} to {high}")),
            (Some(low), None) => Err(format!("at least {low}")),
            _ => Err(format!("at most {high}")),
        }
    }
}

/// JSON Schema of a tool's arguments; of what goes together, only the tools that are `listed`, where that is given.
pub(crate) fn input_schema(tool: &ToolDeclaration, listed: Option<&[ToolName]>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, input) in &tool.inputs {
        properties.insert(name.clone(), property(input));
        if input.required {
            required.push(json!(name));
        }
    }
    if let Some(ToolAction::Together(of)) = tool.action() {
        let is_listed = |name: &&ToolName| listed.is_none_or(|listed| listed.contains(name));
        let tools: Vec<&ToolName> = of.iter().filter(is_listed).collect();
        properties.insert(
            CHANGES.to_owned(),
            json!({ "type": "array", "minItems": 2, "maxItems": ENTRIES_MAX, "items": {
                "type": "object",
                "properties": {
                    "tool": { "type": "string", "enum": tools },
                    "inputs": { "type": "object",
                        "description": "the inputs of that tool, without idempotency_key, rationale, confidence and sources, which are given once for all" },
                },
                "required": ["tool", "inputs"],
                "additionalProperties": false,
            } }),
        );
        required.push(json!(CHANGES));
    }
    if tool.proposes() {
        properties.insert(
            "idempotency_key".to_owned(),
            json!({ "type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX,
                "description": "the same key when you retry this proposal, a new one for a new proposal" }),
        );
        properties.insert(
            "rationale".to_owned(),
            json!({ "type": "string", "maxLength": RATIONALE_CHARS_MAX,
                "description": "why, for the human who reviews it" }),
        );
        properties.insert(
            "confidence".to_owned(),
            json!({ "type": "number", "minimum": 0, "maximum": 1,
                "description": "your own confidence; it can only make the review stricter" }),
        );
        properties.insert(
            "sources".to_owned(),
            json!({ "type": "array", "maxItems": SOURCES_MAX, "items": { "type": "string" },
                "description": "tokens of the resources this rests on" }),
        );
        required.push(json!("idempotency_key"));
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(input: &InputDeclaration) -> Value {
    let mut schema = match input.input_type {
        InputType::String => json!({ "type": "string", "maxLength": input.max_length }),
        InputType::Code => json!({ "type": "string", "enum": input.one_of }),
        InputType::Integer => json!({ "type": "integer" }),
        InputType::Number => json!({ "type": "number" }),
        InputType::Boolean => json!({ "type": "boolean" }),
        InputType::Date => json!({ "type": "string", "format": "date" }),
        InputType::DateTime => json!({ "type": "string", "format": "date-time" }),
        InputType::Token => json!({ "type": "string", "pattern": "^res_[0-9a-f]{32}$" }),
    };
    if let Some(object) = schema.as_object_mut() {
        let mut description = input.description.clone();
        if input.slots {
            description.push_str(
                " Slots such as [NAME-1234567] that tools of this envelope returned are put back before anybody reads it.",
            );
        }
        if !description.is_empty() {
            object.insert("description".to_owned(), json!(description.trim_start()));
        }
        for (key, bound) in [("minimum", input.minimum), ("maximum", input.maximum)] {
            if let Some(bound) = bound {
                object.insert(key.to_owned(), number(bound));
            }
        }
        if let Some(default) = &input.default {
            object.insert("default".to_owned(), default.clone());
        }
    }
    schema
}

/// A whole bound is written without a fraction.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}
