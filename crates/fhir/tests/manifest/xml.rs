//! FHIR XML as FHIR JSON, for profiles that a manifest gives in XML only. Not a product feature: narrative
//! and extensions of primitives are dropped, and what the definitions do not know is passed over.

use chaperone_fhir::Definitions;
use roxmltree::{Document, Node};
use serde_json::{Map, Value};

/// Converts one resource; `None` if it is not XML or not of R4.
pub fn to_json(definitions: &Definitions, text: &str) -> Option<Vec<u8>> {
    let document = Document::parse(text).ok()?;
    let resource = resource(definitions, document.root_element())?;
    serde_json::to_vec(&resource).ok()
}

fn resource(definitions: &Definitions, node: Node<'_, '_>) -> Option<Value> {
    let type_name = node.tag_name().name();
    let mut members = Map::new();
    members.insert("resourceType".to_owned(), type_name.into());
    members_of(definitions, type_name, "", node, &mut members);
    Some(Value::Object(members))
}

fn members_of(
    definitions: &Definitions,
    root: &str,
    path: &str,
    node: Node<'_, '_>,
    members: &mut Map<String, Value>,
) {
    for attribute in node.attributes() {
        if attribute.name() != "value" {
            members.insert(attribute.name().to_owned(), attribute.value().into());
        }
    }
    for child in node.children().filter(Node::is_element) {
        let name = child.tag_name().name();
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        if name == "text"
            && child
                .children()
                .any(|it| it.has_tag_name(("http://www.w3.org/1999/xhtml", "div")))
        {
            continue;
        }
        let Some(info) = definitions.element_type(root, &path) else {
            continue;
        };
        let Some(of) = info.types.first() else {
            continue;
        };
        let value = if of.code == "Resource" {
            child
                .first_element_child()
                .and_then(|it| resource(definitions, it))
        } else if of.is_primitive {
            child.attribute("value").map(|text| match of.code.as_str() {
                "boolean" => Value::Bool(text == "true"),
                "integer" | "unsignedInt" | "positiveInt" | "decimal" => {
                    serde_json::from_str(text).unwrap_or(Value::Null)
                }
                _ => text.into(),
            })
        } else {
            let mut inner = Map::new();
            members_of(definitions, root, &path, child, &mut inner);
            Some(Value::Object(inner))
        };
        let Some(value) = value else { continue };
        if info.max_many {
            let list = members
                .entry(name.to_owned())
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(value);
            }
        } else {
            members.insert(name.to_owned(), value);
        }
    }
}
