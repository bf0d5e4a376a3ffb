//! Compiles the StructureDefinitions of a package into [`Tables`].
//!
//! Types are resolved by canonical URL, never by the StructureDefinition's name: the core extension
//! `rendering-xhtml` is named `xhtml` and would shadow the type.
//! It reads snapshots; generating them from differentials is not done here.
//! Start at [`compile`].

use std::collections::{BTreeMap, HashMap};

use super::code_lists::expand;
use super::compartment;
use super::source::{ElementDefinition, Sources, StructureDefinition, TypeRef};
use super::tables::{
    Binding, BindingStrength, Code, CodeList, Content, Element, Node, NodeRule, Span, StrId,
    Strings, Structure, StructureKind, Tables, TypeUse, UNBOUNDED, flag,
};
use crate::package::Package;
use crate::primitive::Primitive;

/// Prefix of the canonical URLs of FHIR's own types.
pub(super) const CORE: &str = "http://hl7.org/fhir/StructureDefinition/";
/// Extension that names the FHIR type of an element whose type code is a FHIRPath system type.
const FHIR_TYPE: &str = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type";

/// Why a package could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A file is not the resource it should be.
    #[error("`{file}` cannot be read as the resource its name says")]
    Unreadable {
        /// File name in the package.
        file: String,
        /// What the reader said.
        #[source]
        source: serde_json::Error,
    },
    /// Something that others refer to is not in the package.
    #[error("`{0}` is not in the package")]
    Missing(String),
    /// A definition says something that the tables cannot hold.
    #[error("`{path}`: {what}")]
    Unsupported {
        /// Path of the element.
        path: String,
        /// What is not supported.
        what: &'static str,
    },
    /// The finished tables do not pass their own check.
    #[error("the compiled tables are inconsistent")]
    Inconsistent,
}

/// Grows the tables; interns texts.
#[derive(Default)]
pub(super) struct Builder {
    strings: Strings,
    ids: HashMap<String, StrId>,
    nodes: Vec<Node>,
    elements: Vec<Element>,
    type_uses: Vec<TypeUse>,
    targets: Vec<u32>,
    bindings: Vec<Binding>,
    binding_ids: HashMap<(BindingStrength, StrId), u32>,
    code_lists: Vec<CodeList>,
    codes: Vec<Code>,
}

impl Builder {
    pub(super) fn intern(&mut self, text: &str) -> StrId {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = StrId(self.strings.ends.len() as u32);
        self.strings.text.push_str(text);
        self.strings.ends.push(self.strings.text.len() as u32);
        self.ids.insert(text.to_owned(), id);
        id
    }
}

/// What phase one knows of a structure: its place and the nodes of its paths.
struct Placed<'s> {
    definition: &'s StructureDefinition,
    kind: StructureKind,
    /// Path of every element with children, to its node; the root is the first element's path.
    nodes: BTreeMap<&'s str, u32>,
}

/// Compiles a core package.
///
/// # Errors
/// A resource of the package cannot be read, refers to something missing, or holds a construct that
/// the tables cannot express.
pub(crate) fn compile(package: &Package) -> Result<Tables, CompileError> {
    let sources = Sources::read(package)?;
    let mut builder = Builder::default();
    let placed = place(&sources, &mut builder)?;
    let index: BTreeMap<&str, u32> = placed
        .keys()
        .enumerate()
        .map(|(at, url)| (*url, at as u32))
        .collect();
    let mut structures = Vec::with_capacity(placed.len());
    for (url, it) in &placed {
        let root_path = it
            .definition
            .snapshot
            .element
            .first()
            .map_or("", |element| element.path.as_str());
        structures.push(Structure {
            url: builder.intern(url),
            type_name: builder.intern(&it.definition.type_name),
            kind: it.kind,
            root: it.nodes.get(root_path).copied().unwrap_or(u32::MAX),
        });
    }
    for it in placed.values() {
        fill(&mut builder, &sources, &placed, &index, it)?;
    }
    let element_node = placed
        .get(format!("{CORE}Element").as_str())
        .and_then(|it| it.nodes.get("Element"))
        .copied()
        .ok_or_else(|| CompileError::Missing(format!("{CORE}Element")))?;
    let compartment = compartment::compile(&mut builder, &sources, &structures, &index)?;
    let mut tables = Tables {
        source: package.id.clone(),
        strings: builder.strings,
        structures,
        nodes: builder.nodes,
        elements: builder.elements,
        type_uses: builder.type_uses,
        targets: builder.targets,
        bindings: builder.bindings,
        code_lists: builder.code_lists,
        codes: builder.codes,
        compartment,
        names: Vec::new(),
        element_node,
    };
    tables.strings.text.shrink_to_fit();
    if tables.verify() {
        Ok(tables)
    } else {
        Err(CompileError::Inconsistent)
    }
}

/// The kind under which a structure is compiled, if it is.
fn kind_of(definition: &StructureDefinition) -> Option<StructureKind> {
    let is_constraint = definition.derivation.as_deref() == Some("constraint");
    match (definition.kind.as_str(), is_constraint) {
        ("resource", false) if definition.is_abstract => Some(StructureKind::AbstractResource),
        ("resource", false) => Some(StructureKind::Resource),
        ("complex-type", false) => Some(StructureKind::Datatype),
        ("complex-type", true)
            if [
                format!("{CORE}SimpleQuantity"),
                format!("{CORE}MoneyQuantity"),
            ]
            .contains(&definition.url) =>
        {
            Some(StructureKind::DatatypeProfile)
        }
        ("primitive-type", false) => Some(StructureKind::Primitive),
        _ => None,
    }
}

/// Phase one: chooses the structures and gives a node to every element that has children.
fn place<'s>(
    sources: &'s Sources,
    builder: &mut Builder,
) -> Result<BTreeMap<&'s str, Placed<'s>>, CompileError> {
    let mut placed = BTreeMap::new();
    for (url, definition) in &sources.structures {
        let Some(kind) = kind_of(definition) else {
            continue;
        };
        let mut nodes = BTreeMap::new();
        if kind == StructureKind::Primitive {
            if Primitive::from_name(&definition.type_name).is_none() {
                return Err(CompileError::Unsupported {
                    path: url.clone(),
                    what: "unknown primitive type",
                });
            }
        } else {
            for element in &definition.snapshot.element {
                let parent = element
                    .path
                    .rsplit_once('.')
                    .map_or(element.path.as_str(), |(parent, _)| parent);
                if element.slice_name.is_none() && !nodes.contains_key(parent) {
                    let node = builder.nodes.len() as u32;
                    let path = builder.intern(parent);
                    let rule = if parent.contains('.') {
                        NodeRule::None
                    } else {
                        rule_of(definition)
                    };
                    builder.nodes.push(Node {
                        path,
                        rule,
                        elements: Span::default(),
                        names: Span::default(),
                    });
                    nodes.insert(parent, node);
                }
            }
        }
        placed.insert(
            url.as_str(),
            Placed {
                definition,
                kind,
                nodes,
            },
        );
    }
    Ok(placed)
}

fn rule_of(definition: &StructureDefinition) -> NodeRule {
    if definition.kind == "resource" {
        return NodeRule::Resource;
    }
    match definition.type_name.as_str() {
        "Extension" => NodeRule::Extension,
        "Reference" => NodeRule::Reference,
        "Coding" => NodeRule::Coding,
        "CodeableConcept" => NodeRule::CodeableConcept,
        "Narrative" => NodeRule::Narrative,
        _ => NodeRule::None,
    }
}

/// Phase two: fills the nodes of one structure.
fn fill(
    builder: &mut Builder,
    sources: &Sources,
    placed: &BTreeMap<&str, Placed<'_>>,
    index: &BTreeMap<&str, u32>,
    it: &Placed<'_>,
) -> Result<(), CompileError> {
    let mut children: BTreeMap<&str, Vec<&ElementDefinition>> = BTreeMap::new();
    for element in &it.definition.snapshot.element {
        if let Some((parent, _)) = element.path.rsplit_once('.')
            && element.slice_name.is_none()
        {
            children.entry(parent).or_default().push(element);
        }
    }
    for (path, node) in &it.nodes {
        let mut elements = Vec::new();
        for definition in children.get(path).into_iter().flatten() {
            elements.push(element(builder, sources, placed, index, it, definition)?);
        }
        let start = builder.elements.len() as u32;
        builder.elements.extend(elements);
        let span = Span {
            start,
            end: builder.elements.len() as u32,
        };
        if let Some(node) = builder.nodes.get_mut(*node as usize) {
            node.elements = span;
        }
    }
    Ok(())
}

fn element(
    builder: &mut Builder,
    sources: &Sources,
    placed: &BTreeMap<&str, Placed<'_>>,
    index: &BTreeMap<&str, u32>,
    owner: &Placed<'_>,
    definition: &ElementDefinition,
) -> Result<Element, CompileError> {
    let unsupported = |what| CompileError::Unsupported {
        path: definition.path.clone(),
        what,
    };
    let last = definition
        .path
        .rsplit_once('.')
        .map_or(definition.path.as_str(), |(_, last)| last);
    let (name, is_choice) = match last.strip_suffix("[x]") {
        Some(name) => (name, true),
        None => (last, false),
    };
    let mut types = Vec::new();
    if let Some(reference) = &definition.content_reference {
        let path = reference
            .split_once('#')
            .map_or(reference.as_str(), |(_, path)| path);
        let node = *owner
            .nodes
            .get(path)
            .ok_or_else(|| CompileError::Missing(reference.clone()))?;
        types.push(TypeUse {
            code: builder.intern("BackboneElement"),
            content: Content::Node(node),
            targets: Span::default(),
        });
    }
    let is_resource_id = definition
        .base
        .as_ref()
        .is_some_and(|base| base.path == "Resource.id");
    for type_ref in &definition.types {
        types.push(type_use(
            builder,
            placed,
            index,
            owner,
            definition,
            type_ref,
            is_resource_id,
        )?);
    }
    if types.is_empty() || (!is_choice && types.len() > 1) {
        return Err(unsupported("expected one type, or several for a choice"));
    }
    let is_xhtml = types
        .iter()
        .any(|it| it.content == Content::Primitive(Primitive::Xhtml));
    let base_max = definition
        .base
        .as_ref()
        .map_or(definition.max.as_str(), |base| base.max.as_str());
    let mut flags = 0;
    let mut set = |condition: bool, flag: u8| {
        if condition {
            flags |= flag;
        }
    };
    set(is_choice, flag::CHOICE);
    set(definition.is_modifier, flag::MODIFIER);
    set(definition.is_summary, flag::SUMMARY);
    set(base_max != "1", flag::ARRAY);
    set(
        is_xhtml || definition.representation.iter().any(|it| it == "xmlAttr"),
        flag::ATTRIBUTE,
    );
    let binding = binding(builder, sources, definition)?;
    let start = builder.type_uses.len() as u32;
    builder.type_uses.extend(types);
    Ok(Element {
        name: builder.intern(name),
        min: definition.min,
        max: match definition.max.as_str() {
            "*" => UNBOUNDED,
            number => number
                .parse()
                .map_err(|_| unsupported("max is neither a number nor *"))?,
        },
        flags,
        types: Span {
            start,
            end: builder.type_uses.len() as u32,
        },
        binding,
    })
}

fn type_use(
    builder: &mut Builder,
    placed: &BTreeMap<&str, Placed<'_>>,
    index: &BTreeMap<&str, u32>,
    owner: &Placed<'_>,
    definition: &ElementDefinition,
    type_ref: &TypeRef,
    is_resource_id: bool,
) -> Result<TypeUse, CompileError> {
    let system = type_ref
        .extension
        .iter()
        .find(|it| it.url == FHIR_TYPE)
        .and_then(|it| it.value_url.as_deref());
    let code = match (is_resource_id, system) {
        (true, _) => "id",
        (false, Some(fhir_type)) => fhir_type,
        (false, None) => type_ref.code.as_str(),
    };
    let content = if let Some(node) = owner.nodes.get(definition.path.as_str()) {
        Content::Node(*node)
    } else if code == "Resource" {
        Content::AnyResource
    } else if let Some(primitive) = Primitive::from_name(code) {
        Content::Primitive(primitive)
    } else {
        // A constraint on the type that is part of the core, such as SimpleQuantity, is followed.
        let url = match type_ref.profile.as_slice() {
            [profile] if placed.contains_key(profile.as_str()) => profile.clone(),
            _ => format!("{CORE}{code}"),
        };
        let target = placed
            .get(url.as_str())
            .ok_or_else(|| CompileError::Missing(url.clone()))?;
        let root = target
            .definition
            .snapshot
            .element
            .first()
            .map_or("", |element| element.path.as_str());
        Content::Node(*target.nodes.get(root).ok_or(CompileError::Missing(url))?)
    };
    let mut targets = Vec::new();
    for profile in &type_ref.target_profile {
        targets.push(
            *index
                .get(profile.as_str())
                .ok_or_else(|| CompileError::Missing(profile.clone()))?,
        );
    }
    // `Reference(Any)` is written as a target of `Resource`; empty means any here. Canonical targets stay out.
    let any = index.get(format!("{CORE}Resource").as_str());
    if code != "Reference" || targets.iter().any(|target| Some(target) == any) {
        targets.clear();
    }
    let start = builder.targets.len() as u32;
    builder.targets.extend(targets);
    Ok(TypeUse {
        code: builder.intern(code),
        content,
        targets: Span {
            start,
            end: builder.targets.len() as u32,
        },
    })
}

fn binding(
    builder: &mut Builder,
    sources: &Sources,
    definition: &ElementDefinition,
) -> Result<u32, CompileError> {
    let Some(binding) = &definition.binding else {
        return Ok(u32::MAX);
    };
    let Some(value_set) = &binding.value_set else {
        return Ok(u32::MAX);
    };
    let strength = match binding.strength.as_str() {
        "required" => BindingStrength::Required,
        "extensible" => BindingStrength::Extensible,
        "preferred" => BindingStrength::Preferred,
        "example" => BindingStrength::Example,
        _ => {
            return Err(CompileError::Unsupported {
                path: definition.path.clone(),
                what: "unknown strength of a binding",
            });
        }
    };
    let url = builder.intern(value_set);
    if let Some(known) = builder.binding_ids.get(&(strength, url)) {
        return Ok(*known);
    }
    let list = if strength == BindingStrength::Required {
        code_list(builder, sources, value_set)
    } else {
        u32::MAX
    };
    let id = builder.bindings.len() as u32;
    builder.bindings.push(Binding {
        strength,
        value_set: url,
        list,
    });
    builder.binding_ids.insert((strength, url), id);
    Ok(id)
}

/// Compiles the expansion of a value set; one that cannot be enumerated is listed as undecidable.
fn code_list(builder: &mut Builder, sources: &Sources, value_set: &str) -> u32 {
    let url = value_set.split('|').next().unwrap_or(value_set);
    let expansion = expand(sources, url);
    let is_decidable = expansion.is_some();
    let start = builder.codes.len() as u32;
    for (code, system) in expansion.into_iter().flatten() {
        let code = Code {
            code: builder.intern(&code),
            system: builder.intern(&system),
        };
        builder.codes.push(code);
    }
    let codes = Span {
        start,
        end: builder.codes.len() as u32,
    };
    let url = builder.intern(url);
    builder.code_lists.push(CodeList {
        url,
        codes,
        is_decidable,
    });
    (builder.code_lists.len() - 1) as u32
}
