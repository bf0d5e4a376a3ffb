//! Paths of free text on their way into a compiled view. Not here: how fields get there (`compile`), and what
//! is taken out of a text.

use chaperone_fhir::definitions::{ElementInfo, TypeInfo};
use chaperone_fhir::primitive::Primitive;

use super::ViewFault;
use super::compile::{Compiler, Node, Place, Pointing, Shape, join, node};

/// Strings that are an identifier as a whole: a text that is one has nothing left after scrubbing.
const IDENTIFIERS: [&str; 8] = [
    "subscriberId",
    "serialNumber",
    "lotNumber",
    "modelNumber",
    "partNumber",
    "deviceIdentifier",
    "distinctIdentifier",
    "carrierHRF",
];

impl Compiler<'_> {
    /// Adds a path of free text: a leaf, or a mark on the coded leaf that it stands beside.
    pub(super) fn text(&self, nodes: &mut Vec<Node>, path: &str) -> Result<(), ViewFault> {
        let place = Place {
            type_name: self.resource_type.as_str(),
            above: "",
            field: path,
        };
        self.text_below(nodes, place, "", path)
    }

    /// Follows a path step by step; the definitions bound how many there can be.
    fn text_below(
        &self,
        nodes: &mut Vec<Node>,
        place: Place<'_>,
        above: &str,
        path: &str,
    ) -> Result<(), ViewFault> {
        let (step, rest) = match path.split_once('.') {
            Some((step, rest)) => (step, Some(rest)),
            None => (path, None),
        };
        if step.is_empty() {
            return Err(self.unknown(place, place.field));
        }
        let below = join(above, step);
        let info = self.info(place, place.field, &below)?;
        let Some(rest) = rest else {
            return self.text_leaves(nodes, place, &below, &info);
        };
        let [one] = info.types.as_slice() else {
            return Err(self.unknown(place, place.field));
        };
        let closed = |what| ViewFault::Closed {
            field: place.field.to_owned(),
            what,
        };
        if let Some(what) = closed_to_text(&one.code) {
            return Err(closed(what));
        }
        let overlap = || ViewFault::Overlap(place.field.to_owned());
        let at = nodes.iter().position(|node| node.name == one.json_name);
        let at = at.unwrap_or_else(|| {
            nodes.push(on_the_way(place, &below, one, &info));
            nodes.len().saturating_sub(1)
        });
        match (nodes.get_mut(at).map(|node| &mut node.shape), rest) {
            (Some(Shape::Group(inner)), _) => self.text_below(inner, place, &below, rest),
            (Some(Shape::Concept(beside)), "text") => mark(&mut beside.text).ok_or_else(overlap),
            (Some(Shape::Concept(beside)), "coding.display")
            | (Some(Shape::Coding(beside)), "display") => {
                mark(&mut beside.display).ok_or_else(overlap)
            }
            (Some(Shape::Reference(pointing)), "display") => {
                mark(&mut pointing.display).ok_or_else(overlap)
            }
            (Some(Shape::Reference(_)), _) => Err(closed("a reference")),
            (Some(Shape::Concept(_) | Shape::Coding(_)), _) => {
                Err(ViewFault::NotText(place.field.to_owned()))
            }
            _ => Err(overlap()),
        }
    }

    /// Adds the leaves for the last step of a path: one per type that can stand there.
    fn text_leaves(
        &self,
        nodes: &mut Vec<Node>,
        place: Place<'_>,
        below: &str,
        info: &ElementInfo,
    ) -> Result<(), ViewFault> {
        let (above, _) = below.rsplit_once('.').unwrap_or(("", below));
        let mut has_text = false;
        for one in &info.types {
            let name = one.json_name.as_str();
            match one.code.as_str() {
                "Annotation" => {
                    self.text_below(nodes, place, above, &format!("{name}.text"))?;
                    has_text = true;
                }
                "Attachment" => {
                    self.text_below(nodes, place, above, &format!("{name}.data"))?;
                    self.text_below(nodes, place, above, &format!("{name}.title"))?;
                    has_text = true;
                }
                _ => {
                    let shape = self.text_shape(place, below, one);
                    has_text |= !matches!(shape, Shape::Withheld);
                    put(nodes, place, text_node(place, below, one, info, shape))?;
                }
            }
        }
        // What stands beside it is named by nobody and said to be withheld.
        if self.is_of("Attachment", place, above) {
            self.behind(nodes, place, &join(above, "url"))?;
        } else if self.is_of("Annotation", place, above) {
            self.behind(nodes, place, &join(above, "author"))?;
        }
        if has_text {
            Ok(())
        } else {
            Err(ViewFault::NotText(place.field.to_owned()))
        }
    }

    fn text_shape(&self, place: Place<'_>, below: &str, one: &TypeInfo) -> Shape {
        let (above, name) = below.rsplit_once('.').unwrap_or(("", below));
        let of_attachment = || self.is_of("Attachment", place, above);
        match (Primitive::from_name(&one.code), name) {
            _ if one.code == "Narrative" => Shape::Narrative,
            _ if IDENTIFIERS.contains(&name) => Shape::Withheld,
            (Some(Primitive::String | Primitive::Markdown), "title") if of_attachment() => {
                Shape::Title
            }
            (Some(Primitive::String | Primitive::Markdown), _) => Shape::Text,
            (Some(Primitive::Base64Binary), "data") if of_attachment() => Shape::Content,
            _ => Shape::Withheld,
        }
    }

    /// Whether what stands at a path is of a type. A choice is named by its type here, so one type stands there.
    fn is_of(&self, type_code: &str, place: Place<'_>, path: &str) -> bool {
        let info = self.definitions.element_type(place.type_name, path);
        info.is_some_and(|info| info.types.iter().all(|it| it.code == type_code))
    }

    /// Withholds an element that nothing else in the view names, so that the answer says that it was there.
    fn behind(
        &self,
        nodes: &mut Vec<Node>,
        place: Place<'_>,
        below: &str,
    ) -> Result<(), ViewFault> {
        let info = self.info(place, place.field, below)?;
        for one in &info.types {
            if !nodes.iter().any(|node| node.name == one.json_name) {
                nodes.push(text_node(place, below, one, &info, Shape::Withheld));
            }
        }
        Ok(())
    }
}

/// Datatypes that no text can be picked out of: they name or locate somebody as a whole, or nobody here knows
/// what they hold.
fn closed_to_text(type_code: &str) -> Option<&'static str> {
    match type_code {
        "HumanName" => Some("a name"),
        "Address" => Some("an address"),
        "ContactPoint" => Some("a contact point"),
        "Identifier" => Some("an identifier"),
        "Signature" => Some("a signature"),
        "Meta" => Some("metadata"),
        "Extension" => Some("an extension"),
        "Resource" => Some("a contained resource"),
        "Narrative" => Some("narrative"),
        _ => None,
    }
}

/// A node that only leads to others; of a reference, only the display is shown.
fn on_the_way(place: Place<'_>, below: &str, one: &TypeInfo, info: &ElementInfo) -> Node {
    let shape = if one.code == "Reference" {
        Shape::Reference(Pointing {
            targets: one.targets.clone(),
            token: false,
            display: false,
        })
    } else {
        Shape::Group(Vec::new())
    };
    text_node(place, below, one, info, shape)
}

/// A node that counts as free text rather than as a field.
fn text_node(
    place: Place<'_>,
    below: &str,
    one: &TypeInfo,
    info: &ElementInfo,
    shape: Shape,
) -> Node {
    Node {
        field: String::new(),
        ..node(place, below, one, info, shape)
    }
}

/// Puts a leaf into the tree; one that was withheld there gives way.
fn put(nodes: &mut Vec<Node>, place: Place<'_>, leaf: Node) -> Result<(), ViewFault> {
    match nodes.iter_mut().find(|node| node.name == leaf.name) {
        Some(there) if matches!(there.shape, Shape::Withheld) => {
            there.shape = leaf.shape;
            Ok(())
        }
        Some(_) if matches!(leaf.shape, Shape::Withheld) => Ok(()),
        Some(_) => Err(ViewFault::Overlap(place.field.to_owned())),
        None => {
            nodes.push(leaf);
            Ok(())
        }
    }
}

/// Sets a mark that was not set before.
fn mark(flag: &mut bool) -> Option<()> {
    (!std::mem::replace(flag, true)).then_some(())
}
