//! From field names to a tree of typed leaves. Looks everything up once, so that projecting needs no
//! definitions.

use std::collections::BTreeSet;

use chaperone_core::resource::ResourceType;
use chaperone_fhir::Definitions;
use chaperone_fhir::definitions::{BindingStrength, ElementInfo, TypeInfo};
use chaperone_fhir::primitive::Primitive;

use super::expand::{parts_of, quantity_types};
use super::nearest::nearest;
use super::{ALWAYS_SHOWN, FIELDS_MAX, View, ViewFault};

/// One element on the way to a leaf, or a leaf.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The name in JSON.
    pub(super) name: String,
    /// Whether it is an array.
    pub(super) is_many: bool,
    /// Where it stands below the resource.
    pub(super) path: String,
    /// The declared field that it belongs to; empty for a node on the way to several.
    pub(super) field: String,
    /// What stands there.
    pub(super) shape: Shape,
}

/// What is done with a value.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// An object of which these are looked at.
    Group(Vec<Node>),
    /// A primitive that may be shown, with the codes it is limited to.
    Primitive(Primitive, Option<BTreeSet<String>>),
    /// `Coding`.
    Coding(Beside),
    /// `CodeableConcept`.
    Concept(Beside),
    /// `Quantity` and its kin.
    Quantity,
    /// `Reference`.
    Reference(Pointing),
    /// A string or markdown, to be scrubbed.
    Text,
    /// The title of an attachment, to be scrubbed.
    Title,
    /// The content of an attachment, to be scrubbed.
    Content,
    /// A narrative, to be scrubbed.
    Narrative,
    /// Never shown.
    Withheld,
}

/// Which texts of the source are shown beside codes, scrubbed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beside {
    pub(super) text: bool,
    pub(super) display: bool,
}

/// What is shown of a reference.
#[derive(Debug, Clone)]
pub(super) struct Pointing {
    /// The types it may point to; empty for any.
    pub(super) targets: Vec<String>,
    /// Whether a token is shown.
    pub(super) token: bool,
    /// Whether its display is shown, scrubbed.
    pub(super) display: bool,
}

pub(super) fn compile(
    definitions: &Definitions,
    resource_type: &ResourceType,
    fields: &[String],
    text: &[String],
) -> Result<View, ViewFault> {
    if !definitions.is_resource_type(resource_type.as_str()) {
        return Err(ViewFault::UnknownType(resource_type.clone()));
    }
    if fields.is_empty() || fields.len() + text.len() > FIELDS_MAX {
        return Err(ViewFault::Count(fields.len() + text.len()));
    }
    let compiler = Compiler {
        definitions,
        resource_type,
    };
    let mut view = View {
        resource_type: resource_type.clone(),
        fields: Vec::new(),
        text: text.to_vec(),
        nodes: Vec::new(),
    };
    // The id is always shown, as a token.
    for field in fields.iter().filter(|field| *field != "id") {
        compiler.field(&mut view.nodes, field)?;
        view.fields.push(field.clone());
    }
    for name in ALWAYS_SHOWN {
        let info = definitions.element_type(resource_type.as_str(), name);
        let is_modifier = info.is_some_and(|info| info.is_modifier);
        let is_named = view.nodes.iter().any(|node| node.name == name);
        if is_modifier && !is_named {
            compiler.field(&mut view.nodes, name)?;
            view.fields.push(name.to_owned());
        }
    }
    for path in text {
        compiler.text(&mut view.nodes, path)?;
    }
    Ok(view)
}

pub(super) struct Compiler<'a> {
    pub(super) definitions: &'a Definitions,
    pub(super) resource_type: &'a ResourceType,
}

/// A path below a type, on its way into the tree.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The type that the path starts from.
    pub(super) type_name: &'a str,
    /// Where that type stands below the resource; empty for the resource itself.
    pub(super) above: &'a str,
    /// The declared field.
    pub(super) field: &'a str,
}

impl Compiler<'_> {
    fn field(&self, nodes: &mut Vec<Node>, field: &str) -> Result<(), ViewFault> {
        let place = Place {
            type_name: self.resource_type.as_str(),
            above: "",
            field,
        };
        self.insert(nodes, place, field)
    }

    /// Adds the leaves of `path` to a tree, making the nodes on the way where they are missing.
    fn insert(&self, nodes: &mut Vec<Node>, place: Place<'_>, path: &str) -> Result<(), ViewFault> {
        let mut nodes = nodes;
        let mut below = String::new();
        let mut steps = path.split('.').peekable();
        while let Some(step) = steps.next() {
            if step.is_empty() {
                return Err(self.unknown(place, path));
            }
            below = join(&below, step);
            let info = self.info(place, path, &below)?;
            let last = steps.peek().is_none();
            if last {
                return self.leaves(nodes, place, &below, &info);
            }
            let [one] = info.types.as_slice() else {
                return Err(self.unknown(place, path));
            };
            if let Some(what) = closed(&one.code) {
                let field = place.field.to_owned();
                return Err(ViewFault::Closed { field, what });
            }
            let at = nodes.iter().position(|node| node.name == one.json_name);
            let at = at.unwrap_or_else(|| {
                let group = node(place, &below, one, &info, Shape::Group(Vec::new()));
                nodes.push(Node {
                    field: String::new(),
                    ..group
                });
                nodes.len().saturating_sub(1)
            });
            nodes = match nodes.get_mut(at) {
                // A whole datatype that is already in the view has a field of its own.
                Some(Node {
                    shape: Shape::Group(inner),
                    field,
                    ..
                }) if field.is_empty() => inner,
                _ => return Err(ViewFault::Overlap(place.field.to_owned())),
            };
        }
        Ok(())
    }

    /// Adds the leaves for the last step of a path: one per type that can stand there.
    fn leaves(
        &self,
        nodes: &mut Vec<Node>,
        place: Place<'_>,
        below: &str,
        info: &ElementInfo,
    ) -> Result<(), ViewFault> {
        for one in &info.types {
            if nodes.iter().any(|node| node.name == one.json_name) {
                return Err(ViewFault::Overlap(place.field.to_owned()));
            }
            let mut leaf = node(place, below, one, info, Shape::Withheld);
            leaf.shape = self.shape(&leaf, one, info)?;
            nodes.push(leaf);
        }
        Ok(())
    }

    fn shape(&self, leaf: &Node, one: &TypeInfo, info: &ElementInfo) -> Result<Shape, ViewFault> {
        if one.is_primitive {
            return Ok(self.primitive(one, info));
        }
        let code = one.code.as_str();
        Ok(match code {
            "CodeableConcept" => Shape::Concept(Beside::default()),
            "Coding" => Shape::Coding(Beside::default()),
            "Reference" => Shape::Reference(Pointing {
                targets: one.targets.clone(),
                token: true,
                display: false,
            }),
            "BackboneElement" | "Element" => return Err(ViewFault::Group(leaf.field.clone())),
            _ if quantity_types().contains(&code) => Shape::Quantity,
            _ => {
                let mut parts = Vec::new();
                let inside = Place {
                    type_name: code,
                    above: &leaf.path,
                    field: &leaf.field,
                };
                for part in parts_of(code) {
                    self.insert(&mut parts, inside, part)?;
                }
                if parts.is_empty() {
                    Shape::Withheld
                } else {
                    Shape::Group(parts)
                }
            }
        })
    }

    /// Primitives that can hold free text or an identifier are withheld.
    fn primitive(&self, one: &TypeInfo, info: &ElementInfo) -> Shape {
        let Some(primitive) = Primitive::from_name(&one.code) else {
            return Shape::Withheld;
        };
        match primitive {
            Primitive::Boolean
            | Primitive::Integer
            | Primitive::UnsignedInt
            | Primitive::PositiveInt
            | Primitive::Decimal
            | Primitive::Date
            | Primitive::DateTime
            | Primitive::Instant
            | Primitive::Time
            | Primitive::Canonical => Shape::Primitive(primitive, None),
            Primitive::Code => Shape::Primitive(primitive, self.codes(info)),
            Primitive::String
            | Primitive::Markdown
            | Primitive::Id
            | Primitive::Uri
            | Primitive::Url
            | Primitive::Oid
            | Primitive::Uuid
            | Primitive::Base64Binary
            | Primitive::Xhtml => Shape::Withheld,
        }
    }

    /// The codes of a required value set, where they can be enumerated.
    fn codes(&self, info: &ElementInfo) -> Option<BTreeSet<String>> {
        let binding = info.binding.as_ref()?;
        if binding.strength != BindingStrength::Required || !binding.is_decidable {
            return None;
        }
        let codes = self.definitions.codes(&binding.value_set)?;
        Some(codes.into_iter().map(|(_, code)| code.to_owned()).collect())
    }

    pub(super) fn info(
        &self,
        place: Place<'_>,
        path: &str,
        below: &str,
    ) -> Result<ElementInfo, ViewFault> {
        self.definitions
            .element_type(place.type_name, below)
            .filter(|info| !info.types.is_empty())
            .ok_or_else(|| self.unknown(place, path))
    }

    pub(super) fn unknown(&self, place: Place<'_>, path: &str) -> ViewFault {
        ViewFault::UnknownField {
            field: place.field.to_owned(),
            resource_type: self.resource_type.clone(),
            nearest: nearest(self.definitions, place.type_name, path),
        }
    }
}

pub(super) fn node(
    place: Place<'_>,
    below: &str,
    one: &TypeInfo,
    info: &ElementInfo,
    shape: Shape,
) -> Node {
    let parent = below.rsplit_once('.').map_or("", |(parent, _)| parent);
    let path = join(&join(place.above, parent), &one.json_name);
    // A choice named as a whole is reported by the type that stands there.
    let is_choice_as_whole = info.is_choice && place.above.is_empty();
    Node {
        name: one.json_name.clone(),
        is_many: info.max_many,
        field: if is_choice_as_whole {
            path.clone()
        } else {
            place.field.to_owned()
        },
        path,
        shape,
    }
}

fn closed(type_code: &str) -> Option<&'static str> {
    match type_code {
        "Reference" => Some("a reference"),
        "Extension" => Some("an extension"),
        "Resource" => Some("a contained resource"),
        "Narrative" => Some("narrative"),
        _ => None,
    }
}

pub(super) fn join(above: &str, name: &str) -> String {
    match (above.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => above.to_owned(),
        _ => format!("{above}.{name}"),
    }
}
