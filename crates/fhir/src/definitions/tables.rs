//! The tables that StructureDefinitions are compiled into, and their integrity check.
//!
//! Everything refers to everything else by index, so that validation allocates nothing and the
//! compiled form is read in a few milliseconds. [`Tables::verify`] checks every index once, at load;
//! afterwards they are taken as they are.
//! Not a public interface: see [`super::Definitions`].

use crate::package::PackageId;
use crate::primitive::Primitive;

/// Version of the compiled form; readers refuse any other.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Most elements that one node may have (the width of the validator's set of seen elements).
pub(crate) const NODE_ELEMENTS_MAX: usize = 256;
/// `max` of an element that may repeat without bound.
pub(crate) const UNBOUNDED: u16 = u16::MAX;

/// Index of a text in [`Strings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct StrId(pub(crate) u32);

/// A half-open range of another table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn len(self) -> usize {
        (self.end.saturating_sub(self.start)) as usize
    }

    pub(crate) fn indices(self) -> std::ops::Range<u32> {
        self.start..self.end
    }
}

/// Texts, each stored once.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    pub(crate) text: String,
    /// Ends of the texts in `text`.
    pub(crate) ends: Vec<u32>,
}

impl Strings {
    pub(crate) fn get(&self, id: StrId) -> &str {
        let start = match id.0.checked_sub(1) {
            Some(before) => self.ends.get(before as usize).copied().unwrap_or_default(),
            None => 0,
        };
        let end = self.ends.get(id.0 as usize).copied().unwrap_or_default();
        self.text
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }
}

/// What a structure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StructureKind {
    Resource,
    AbstractResource,
    Datatype,
    /// A constraint on a datatype that core elements refer to, such as `SimpleQuantity`.
    DatatypeProfile,
    Primitive,
}

/// One compiled StructureDefinition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Structure {
    /// Canonical URL: what it is resolved by.
    pub(crate) url: StrId,
    /// The type's name as it stands in JSON, such as `Patient`.
    pub(crate) type_name: StrId,
    pub(crate) kind: StructureKind,
    /// Root node; meaningless for primitives.
    pub(crate) root: u32,
}

/// Nodes whose content has rules beyond their elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeRule {
    None,
    Resource,
    Extension,
    Reference,
    Coding,
    CodeableConcept,
    Narrative,
}

/// Something that has elements: a type's root or a nested element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// Path in the definition, such as `Patient.contact`.
    pub(crate) path: StrId,
    pub(crate) rule: NodeRule,
    pub(crate) elements: Span,
    /// JSON names of the elements, sorted by text; built at load.
    pub(crate) names: Span,
}

/// Bits of [`Element::flags`].
pub(crate) mod flag {
    /// `value[x]`.
    pub(crate) const CHOICE: u8 = 1;
    /// Changes the meaning of what it stands in.
    pub(crate) const MODIFIER: u8 = 2;
    /// Part of the summary.
    pub(crate) const SUMMARY: u8 = 4;
    /// Written as a JSON array.
    pub(crate) const ARRAY: u8 = 8;
    /// An XML attribute: has no `_` sibling in JSON.
    pub(crate) const ATTRIBUTE: u8 = 16;
}

/// One element of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element {
    /// Name without `[x]`.
    pub(crate) name: StrId,
    pub(crate) min: u16,
    /// [`UNBOUNDED`] for `*`.
    pub(crate) max: u16,
    pub(crate) flags: u8,
    pub(crate) types: Span,
    /// Index into `bindings`, or `u32::MAX`.
    pub(crate) binding: u32,
}

impl Element {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What stands in an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Primitive(Primitive),
    /// An object described by that node.
    Node(u32),
    /// Any resource.
    AnyResource,
}

/// One type that an element may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TypeUse {
    /// Type code, such as `Quantity`.
    pub(crate) code: StrId,
    pub(crate) content: Content,
    /// Structures a reference may point to; empty means any.
    pub(crate) targets: Span,
}

/// How strongly a value set binds. The order is from weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindingStrength {
    /// For orientation.
    Example,
    /// Encouraged.
    Preferred,
    /// Must be used where it has a fitting code.
    Extensible,
    /// Must be used.
    Required,
}

/// Binding of an element to a value set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) strength: BindingStrength,
    /// Canonical URL, with version if stated.
    pub(crate) value_set: StrId,
    /// Index into `code_lists`, or `u32::MAX` if the codes are not known here.
    pub(crate) list: u32,
}

/// The expansion of a value set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeList {
    pub(crate) url: StrId,
    /// Sorted by code, then system. Empty for a list that cannot be enumerated.
    pub(crate) codes: Span,
    /// False: the value set is open (mime types, UCUM), so membership cannot be decided here.
    pub(crate) is_decidable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) code: StrId,
    pub(crate) system: StrId,
}

/// How an element ties a resource to a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// The resource is about that patient (`subject`, `patient`, `beneficiary`, `for`, …).
    Subject,
    /// The patient takes part otherwise (`performer`, `actor`, `recipient`, …).
    Participant,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CompartmentLink {
    pub(crate) structure: u32,
    /// Path below the resource, such as `participant.actor`.
    pub(crate) path: StrId,
    pub(crate) kind: LinkKind,
}

/// One JSON name of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    pub(crate) text: StrId,
    /// Index into `elements`.
    pub(crate) element: u32,
    /// Index into `type_uses`.
    pub(crate) type_use: u32,
}

/// All tables together.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) source: PackageId,
    pub(crate) strings: Strings,
    /// Sorted by URL text.
    pub(crate) structures: Vec<Structure>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) elements: Vec<Element>,
    pub(crate) type_uses: Vec<TypeUse>,
    /// Structure indices.
    pub(crate) targets: Vec<u32>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) code_lists: Vec<CodeList>,
    pub(crate) codes: Vec<Code>,
    /// Sorted by structure, then path text.
    pub(crate) compartment: Vec<CompartmentLink>,
    /// Built at load.
    pub(crate) names: Vec<Name>,
    /// Node of the datatype `Element`, for `_` siblings.
    pub(crate) element_node: u32,
}

impl Tables {
    /// Whether every index points into its table, and no node is too wide.
    pub(crate) fn verify(&self) -> bool {
        let string = |id: StrId| (id.0 as usize) < self.strings.ends.len();
        let span =
            |span: Span, length: usize| span.start <= span.end && span.end as usize <= length;
        let within = |index: u32, length: usize| (index as usize) < length;
        let optional = |index: u32, length: usize| index == u32::MAX || within(index, length);
        let texts = self.strings.ends.iter().try_fold(0_u32, |last, end| {
            (*end >= last && self.strings.text.is_char_boundary(*end as usize)).then_some(*end)
        });
        texts.is_some_and(|end| end as usize == self.strings.text.len())
            && within(self.element_node, self.nodes.len())
            && self.structures.iter().all(|it| {
                string(it.url)
                    && string(it.type_name)
                    && (it.kind == StructureKind::Primitive || within(it.root, self.nodes.len()))
            })
            && self.nodes.iter().all(|it| {
                string(it.path)
                    && span(it.elements, self.elements.len())
                    && span(it.names, self.names.len())
                    && it.elements.len() <= NODE_ELEMENTS_MAX
            })
            && self.elements.iter().all(|it| {
                string(it.name)
                    && span(it.types, self.type_uses.len())
                    && optional(it.binding, self.bindings.len())
            })
            && self.type_uses.iter().all(|it| {
                string(it.code)
                    && span(it.targets, self.targets.len())
                    && match it.content {
                        Content::Node(node) => within(node, self.nodes.len()),
                        Content::Primitive(_) | Content::AnyResource => true,
                    }
            })
            && self
                .targets
                .iter()
                .all(|it| within(*it, self.structures.len()))
            && self
                .bindings
                .iter()
                .all(|it| string(it.value_set) && optional(it.list, self.code_lists.len()))
            && self
                .code_lists
                .iter()
                .all(|it| string(it.url) && span(it.codes, self.codes.len()))
            && self
                .codes
                .iter()
                .all(|it| string(it.code) && string(it.system))
            && self
                .compartment
                .iter()
                .all(|it| within(it.structure, self.structures.len()) && string(it.path))
            && self.names.iter().all(|it| {
                string(it.text)
                    && within(it.element, self.elements.len())
                    && within(it.type_use, self.type_uses.len())
            })
    }

    /// Builds the sorted JSON names of every node. Call once, after the other tables are filled.
    pub(crate) fn build_names(&mut self) {
        let mut names: Vec<Name> = Vec::with_capacity(self.type_uses.len());
        // Names of choices (`valueQuantity`) are new texts; the rest are there already.
        let mut added: std::collections::HashMap<String, StrId> = std::collections::HashMap::new();
        for node in &mut self.nodes {
            let start = names.len() as u32;
            for element_index in node.elements.indices() {
                let Some(element) = self.elements.get(element_index as usize).copied() else {
                    continue;
                };
                for type_index in element.types.indices() {
                    let Some(type_use) = self.type_uses.get(type_index as usize) else {
                        continue;
                    };
                    let text = if element.has(flag::CHOICE) {
                        let name = choice_name(
                            self.strings.get(element.name),
                            self.strings.get(type_use.code),
                        );
                        match added.get(&name) {
                            Some(id) => *id,
                            None => {
                                let id = StrId(self.strings.ends.len() as u32);
                                self.strings.text.push_str(&name);
                                self.strings.ends.push(self.strings.text.len() as u32);
                                added.insert(name, id);
                                id
                            }
                        }
                    } else {
                        element.name
                    };
                    names.push(Name {
                        text,
                        element: element_index,
                        type_use: type_index,
                    });
                }
            }
            if let Some(own) = names.get_mut(start as usize..) {
                own.sort_by(|a, b| self.strings.get(a.text).cmp(self.strings.get(b.text)));
            }
            node.names = Span {
                start,
                end: names.len() as u32,
            };
        }
        self.names = names;
    }
}

/// `value` and `Quantity` make `valueQuantity`.
pub(crate) fn choice_name(element: &str, type_code: &str) -> String {
    let mut name = String::with_capacity(element.len() + type_code.len());
    name.push_str(element);
    let mut characters = type_code.chars();
    name.extend(characters.next().map(|first| first.to_ascii_uppercase()));
    name.push_str(characters.as_str());
    name
}
