//! Reduces a resource to a compiled view.

use std::collections::BTreeSet;

use chaperone_core::resource::ResourceType;
use chaperone_fhir::primitive::is_id;
use chaperone_fhir::references::ReferenceForm;
use serde_json::{Map, Value, json};

use super::compile::{Beside, Node, Pointing, Shape};
use super::leaf::{self, is_code, is_currency, is_system};
use super::{Lookups, ProjectFailed, Projected, View};
use crate::labels::Labels;
use crate::scrub::FreeText;
use crate::tokens::TokenTarget;

/// Most codings of one concept that are shown.
const CODINGS_MAX: usize = 20;

const COMPARATORS: [&str; 4] = ["<", "<=", ">=", ">"];

pub(super) fn project(
    view: &View,
    resource: &Value,
    lookups: &Lookups<'_>,
) -> Result<Projected, ProjectFailed> {
    let resource_type = view.resource_type();
    let object = resource
        .as_object()
        .filter(|object| {
            object.get("resourceType").and_then(Value::as_str) == Some(resource_type.as_str())
        })
        .ok_or_else(|| ProjectFailed::OtherType(resource_type.clone()))?;
    if is_there(object.get("implicitRules")) {
        return Err(ProjectFailed::UnknownModifier {
            path: "implicitRules".to_owned(),
        });
    }
    let mut projection = Projection {
        lookups,
        shown: BTreeSet::new(),
        text_shown: BTreeSet::new(),
        withheld: BTreeSet::new(),
    };
    let mut reduced = Map::new();
    reduced.insert("resourceType".to_owned(), json!(resource_type.as_str()));
    if let Some(token) = projection.id(resource_type, object) {
        reduced.insert("id".to_owned(), token);
    }
    reduced.extend(projection.group("", &view.nodes, object)?);

    let version = resource.pointer("/meta/versionId").and_then(Value::as_str);
    Ok(Projected {
        value: Value::Object(reduced),
        fields_shown: projection.shown.into_iter().collect(),
        text_shown: projection.text_shown.into_iter().collect(),
        withheld: projection.withheld.into_iter().collect(),
        labels: Labels::of(resource).recordable(),
        version: version.filter(|version| is_id(version)).map(str::to_owned),
    })
}

struct Projection<'a> {
    lookups: &'a Lookups<'a>,
    shown: BTreeSet<String>,
    text_shown: BTreeSet<String>,
    withheld: BTreeSet<String>,
}

impl Projection<'_> {
    fn id(&mut self, resource_type: &ResourceType, object: &Map<String, Value>) -> Option<Value> {
        let id = object.get("id")?;
        let token = id
            .as_str()
            .filter(|id| is_id(id))
            .and_then(|id| self.token(resource_type.clone(), id));
        if token.is_none() {
            self.withheld.insert("id".to_owned());
        }
        token.map(Value::String)
    }

    fn token(&self, resource_type: ResourceType, id: &str) -> Option<String> {
        (self.lookups.tokenise)(&TokenTarget {
            resource_type,
            id: id.to_owned(),
        })
    }

    fn group(
        &mut self,
        path: &str,
        nodes: &[Node],
        object: &Map<String, Value>,
    ) -> Result<Map<String, Value>, ProjectFailed> {
        if is_there(object.get("modifierExtension")) {
            let path = if path.is_empty() {
                "modifierExtension".to_owned()
            } else {
                format!("{path}.modifierExtension")
            };
            return Err(ProjectFailed::UnknownModifier { path });
        }
        let mut reduced = Map::new();
        for node in nodes {
            let Some(value) = object.get(&node.name).filter(|value| !value.is_null()) else {
                continue;
            };
            if matches!(node.shape, Shape::Content) {
                let text = self.content(node, object, value);
                reduced.extend(text.map(|text| ("text".to_owned(), text)));
                continue;
            }
            if let Some(value) = self.node(node, value)? {
                if !node.field.is_empty() {
                    self.shown.insert(node.field.clone());
                }
                reduced.insert(node.name.clone(), value);
            }
        }
        Ok(reduced)
    }

    fn node(&mut self, node: &Node, value: &Value) -> Result<Option<Value>, ProjectFailed> {
        match (node.is_many, value) {
            (true, Value::Array(items)) => {
                let mut shown = Vec::new();
                for item in items.iter().filter(|item| !item.is_null()) {
                    shown.extend(self.one(node, item)?);
                }
                Ok((!shown.is_empty()).then_some(Value::Array(shown)))
            }
            (false, value) if !value.is_array() => self.one(node, value),
            _ => {
                self.withhold(&node.path);
                Ok(None)
            }
        }
    }

    fn one(&mut self, node: &Node, value: &Value) -> Result<Option<Value>, ProjectFailed> {
        let path = &node.path;
        let shown = match &node.shape {
            Shape::Group(nodes) => match value {
                Value::Object(object) => {
                    let reduced = self.group(path, nodes, object)?;
                    return Ok((!reduced.is_empty()).then_some(Value::Object(reduced)));
                }
                _ => None,
            },
            Shape::Primitive(primitive, codes) => {
                leaf::primitive(*primitive, codes.as_ref(), value)
            }
            Shape::Coding(beside) => self.coding(path, *beside, value),
            Shape::Concept(beside) => return Ok(self.concept(path, *beside, value)),
            Shape::Quantity => quantity(value),
            Shape::Reference(pointing) => self.pointing(node, pointing, value),
            Shape::Text => self.text(path, value.as_str().map(FreeText::Text)),
            Shape::Title => self.text(path, value.as_str().map(FreeText::Title)),
            Shape::Narrative => {
                let div = value.get("div").and_then(Value::as_str);
                let text = self.text(path, div.map(FreeText::Narrative));
                text.map(|text| json!({ "text": text }))
            }
            // Of one object with what says how it is to be read: see `group`.
            Shape::Content | Shape::Withheld => None,
        };
        if shown.is_none() {
            self.withhold(path);
        }
        Ok(shown)
    }

    fn withhold(&mut self, path: &str) {
        self.withheld.insert(path.to_owned());
    }

    /// A free text, as the caller scrubs it.
    fn text(&mut self, path: &str, text: Option<FreeText<'_>>) -> Option<Value> {
        match text.and_then(|text| (self.lookups.free_text)(text)) {
            Some(shown) => {
                self.text_shown.insert(path.to_owned());
                Some(Value::String(shown))
            }
            None => {
                self.withhold(path);
                None
            }
        }
    }

    /// The content of an attachment, read as what stands beside it says.
    fn content(
        &mut self,
        node: &Node,
        attachment: &Map<String, Value>,
        data: &Value,
    ) -> Option<Value> {
        let content_type = attachment.get("contentType").and_then(Value::as_str);
        let data = data.as_str();
        let content = data.map(|data| FreeText::Content { content_type, data });
        self.text(&node.path, content)
    }

    /// System and code, with the display that terminology gives them, or else the source's if it is named.
    fn coding(&mut self, path: &str, beside: Beside, value: &Value) -> Option<Value> {
        let system = value.get("system")?.as_str().filter(|it| is_system(it))?;
        let code = value.get("code")?.as_str().filter(|it| is_code(it))?;
        let mut coding = json!({"system": system, "code": code});
        let display = match (self.lookups.display)(system, code) {
            Some(display) => Some(Value::String(display)),
            None if beside.display && is_there(value.get("display")) => {
                let display = value.get("display").and_then(Value::as_str);
                self.text(&format!("{path}.display"), display.map(FreeText::Text))
            }
            None => None,
        };
        if let (Some(display), Some(coding)) = (display, coding.as_object_mut()) {
            coding.insert("display".to_owned(), display);
        }
        Some(coding)
    }

    fn concept(&mut self, path: &str, beside: Beside, value: &Value) -> Option<Value> {
        let Value::Object(object) = value else {
            self.withhold(path);
            return None;
        };
        let mut reduced = Map::new();
        if is_there(object.get("text")) {
            let text = object.get("text").and_then(Value::as_str);
            let text = text.filter(|_| beside.text).map(FreeText::Text);
            let text = self.text(&format!("{path}.text"), text);
            reduced.extend(text.map(|text| ("text".to_owned(), text)));
        }
        let codings = match object.get("coding") {
            None | Some(Value::Null) => &[],
            Some(Value::Array(codings)) => codings.as_slice(),
            Some(_) => &[Value::Null],
        };
        let of_coding = format!("{path}.coding");
        let shown: Vec<Value> = codings
            .iter()
            .take(CODINGS_MAX)
            .filter_map(|coding| self.coding(&of_coding, beside, coding))
            .collect();
        if shown.len() < codings.len() {
            self.withhold(&of_coding);
        }
        if !shown.is_empty() {
            reduced.insert("coding".to_owned(), Value::Array(shown));
        }
        (!reduced.is_empty()).then_some(Value::Object(reduced))
    }

    fn pointing(&mut self, node: &Node, pointing: &Pointing, value: &Value) -> Option<Value> {
        let mut shown = match pointing.token {
            true => self.reference(&pointing.targets, value),
            false => None,
        };
        if pointing.display && is_there(value.get("display")) {
            if pointing.token && shown.is_none() {
                self.withhold(&node.path);
            }
            let display = value.as_object().map(|reference| FreeText::Display {
                element: &node.name,
                reference,
            });
            let display = self.text(&format!("{}.display", node.path), display);
            if let Some(display) = display {
                let reference = shown.get_or_insert_with(|| json!({}));
                if let Some(reference) = reference.as_object_mut() {
                    reference.insert("display".to_owned(), display);
                }
            }
        }
        shown
    }

    /// A literal relative reference, with a token for the id. Every other form stays behind.
    fn reference(&self, targets: &[String], value: &Value) -> Option<Value> {
        let text = value.get("reference")?.as_str()?;
        let ReferenceForm::Typed {
            base: None,
            resource_type,
            id,
            ..
        } = ReferenceForm::parse(text)
        else {
            return None;
        };
        if !targets.is_empty() && !targets.iter().any(|target| target == resource_type) {
            return None;
        }
        let token = self.token(ResourceType::new(resource_type).ok()?, id)?;
        Some(json!({"reference": format!("{resource_type}/{token}")}))
    }
}

/// The coded quantity. A number whose unit cannot be shown is worse than no number.
fn quantity(value: &Value) -> Option<Value> {
    let object = value.as_object()?;
    let number = object.get("value").filter(|it| it.is_number());
    let text = |name: &str, is_right: fn(&str) -> bool| {
        object
            .get(name)
            .and_then(Value::as_str)
            .filter(|it| is_right(it))
    };
    let code = text("code", is_code);
    let system = text("system", is_system);
    let comparator = text("comparator", |it| COMPARATORS.contains(&it));
    let currency = text("currency", is_currency);
    let has_unit = is_there(object.get("unit")) || is_there(object.get("code"));
    let is_unit_lost = has_unit && (code.is_none() || system.is_none())
        || is_there(object.get("currency")) && currency.is_none();
    let is_comparator_lost = is_there(object.get("comparator")) && comparator.is_none();
    if is_unit_lost || is_comparator_lost || is_there(object.get("modifierExtension")) {
        return None;
    }
    let mut shown = Map::new();
    shown.insert("value".to_owned(), number?.clone());
    let texts = [
        ("comparator", comparator),
        ("system", system),
        ("code", code),
        ("currency", currency),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            shown.insert(name.to_owned(), json!(text));
        }
    }
    Some(Value::Object(shown))
}

fn is_there(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(_) => true,
    }
}
