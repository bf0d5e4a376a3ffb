//! FHIR definitions compiled into tables, and questions about them.
//!
//! The definitions of R4 core are compiled once by `compile-definitions` and embedded; compiling and
//! decoding give the same [`Definitions`]. There is no prose in them.
//! Start at [`Definitions::r4`]; the shape of the tables is in `definitions/tables.rs`.

mod code_lists;
mod codec;
mod compartment;
mod compile;
mod lookup;
mod name_index;
mod source;
pub(crate) mod tables;

use std::sync::LazyLock;

pub use codec::DecodeError;
pub use compile::CompileError;
pub use lookup::{BindingInfo, ElementInfo, TypeInfo};
pub use tables::{BindingStrength, LinkKind};

use crate::package::{Package, PackageId, PackageReadError};
use tables::{
    Binding, Code, CodeList, CompartmentLink, Element, Name, Node, Span, StrId, Structure,
    StructureKind, Tables, TypeUse,
};

/// Definitions of one package, ready for use.
#[derive(Debug)]
pub struct Definitions {
    pub(crate) tables: Tables,
    /// Structure indices sorted by type name; profiles on datatypes are left out.
    by_type_name: Vec<u32>,
    names: name_index::NameIndex,
}

/// Why a package could not be turned into definitions.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The package cannot be read.
    #[error(transparent)]
    Package(#[from] PackageReadError),
    /// The package cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// Compiles a core package (`.tgz`) into the compact form that [`Definitions::decode`] reads.
///
/// # Errors
/// The package cannot be read or compiled.
pub fn generate(tgz: &[u8]) -> Result<Vec<u8>, GenerateError> {
    let package = Package::read(tgz, source::is_wanted)?;
    Ok(codec::encode(&compile::compile(&package)?))
}

static R4: LazyLock<Definitions> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the embedded file is generated from this crate and tested to decode"
    )]
    Definitions::decode(include_bytes!("../definitions/r4-core.bin")).expect("embedded definitions")
});

impl Definitions {
    /// The definitions of FHIR R4 core (4.0.1), embedded in the library.
    #[must_use]
    pub fn r4() -> &'static Self {
        &R4
    }

    /// Reads the compact form.
    ///
    /// # Errors
    /// The bytes are not definitions, are damaged, or were written for another format version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let tables = codec::decode(bytes)?;
        let mut by_type_name: Vec<u32> = (0..tables.structures.len() as u32).collect();
        let name = |index: &u32| {
            tables
                .structures
                .get(*index as usize)
                .map_or("", |structure| tables.strings.get(structure.type_name))
        };
        by_type_name.retain(|index| {
            tables
                .structures
                .get(*index as usize)
                .is_some_and(|it| it.kind != StructureKind::DatatypeProfile)
        });
        by_type_name.sort_by(|a, b| name(a).cmp(name(b)));
        Ok(Self {
            names: name_index::NameIndex::of(&tables),
            tables,
            by_type_name,
        })
    }

    /// The package these definitions come from.
    #[must_use]
    pub fn source(&self) -> &PackageId {
        &self.tables.source
    }

    /// Whether a (concrete) resource type of that name exists.
    #[must_use]
    pub fn is_resource_type(&self, name: &str) -> bool {
        self.resource(name).is_some()
    }

    /// Names of the concrete resource types, in alphabetical order.
    pub fn resource_types(&self) -> impl Iterator<Item = &str> {
        self.by_type_name
            .iter()
            .map(|index| self.structure(*index))
            .filter(|it| it.kind == StructureKind::Resource)
            .map(|it| self.text(it.type_name))
    }

    /// The names that elements of any type have in JSON, in no particular order; most come more than once.
    pub fn element_names(&self) -> impl Iterator<Item = &str> {
        self.tables.names.iter().map(|it| self.text(it.text))
    }

    /// The codes of a value set that required bindings use, as (system, code).
    ///
    /// `None` if the value set is not compiled in or cannot be enumerated: then nothing can be said.
    #[must_use]
    pub fn codes(&self, value_set: &str) -> Option<Vec<(&str, &str)>> {
        let url = value_set.split('|').next().unwrap_or(value_set);
        let list = self
            .tables
            .code_lists
            .iter()
            .find(|list| self.text(list.url) == url && list.is_decidable)?;
        Some(
            list.codes
                .indices()
                .map(|it| self.code(it))
                .map(|it| (self.text(it.system), self.text(it.code)))
                .collect(),
        )
    }

    pub(crate) fn resource(&self, name: &str) -> Option<Structure> {
        self.structure_named(name)
            .filter(|structure| structure.kind == StructureKind::Resource)
    }

    pub(crate) fn structure_named(&self, name: &str) -> Option<Structure> {
        let at = self
            .by_type_name
            .binary_search_by(|index| self.text(self.structure(*index).type_name).cmp(name))
            .ok()?;
        self.by_type_name
            .get(at)
            .map(|index| self.structure(*index))
    }

    /// Index and structure of a resource type, for comparison with reference targets.
    pub(crate) fn resource_index(&self, name: &str) -> Option<u32> {
        let at = self
            .by_type_name
            .binary_search_by(|index| self.text(self.structure(*index).type_name).cmp(name))
            .ok()?;
        self.by_type_name
            .get(at)
            .copied()
            .filter(|index| self.structure(*index).kind == StructureKind::Resource)
    }

    /// Finds an element of a node by its JSON name.
    pub(crate) fn name(&self, node: &Node, json_name: &str) -> Option<Name> {
        self.names.find(&self.tables, node, json_name)
    }

    /// Whether a decidable list holds the code; `system` is `None` for a plain `code`.
    pub(crate) fn list_has(&self, list: &CodeList, system: Option<&str>, code: &str) -> bool {
        let Some(codes) = self
            .tables
            .codes
            .get(list.codes.start as usize..list.codes.end as usize)
        else {
            return false;
        };
        let first = codes.partition_point(|it| self.text(it.code) < code);
        codes
            .iter()
            .skip(first)
            .take_while(|it| self.text(it.code) == code)
            .any(|it| system.is_none_or(|system| self.text(it.system) == system))
    }

    /// The codes of a list.
    pub(crate) fn list_codes(&self, list: &CodeList) -> impl Iterator<Item = &str> {
        list.codes
            .indices()
            .map(|index| self.text(self.code(index).code))
    }

    /// The links of a resource type to a patient.
    pub(crate) fn compartment_links(
        &self,
        structure_index: u32,
    ) -> impl Iterator<Item = CompartmentLink> {
        self.tables
            .compartment
            .iter()
            .copied()
            .filter(move |link| link.structure == structure_index)
    }
}

/// Access by index. `Tables::verify` has checked every stored index against its table when the tables
/// were read, and indices come from nowhere else.
#[expect(
    clippy::indexing_slicing,
    reason = "every stored index was checked by Tables::verify at load"
)]
impl Definitions {
    pub(crate) fn text(&self, id: StrId) -> &str {
        self.tables.strings.get(id)
    }

    pub(crate) fn structure(&self, index: u32) -> Structure {
        self.tables.structures[index as usize]
    }

    pub(crate) fn node(&self, index: u32) -> &Node {
        &self.tables.nodes[index as usize]
    }

    pub(crate) fn element(&self, index: u32) -> &Element {
        &self.tables.elements[index as usize]
    }

    pub(crate) fn type_use(&self, index: u32) -> &TypeUse {
        &self.tables.type_uses[index as usize]
    }

    pub(crate) fn targets(&self, span: Span) -> &[u32] {
        &self.tables.targets[span.start as usize..span.end as usize]
    }

    pub(crate) fn binding(&self, index: u32) -> Option<&Binding> {
        (index != u32::MAX).then(|| &self.tables.bindings[index as usize])
    }

    pub(crate) fn code_list(&self, index: u32) -> Option<&CodeList> {
        (index != u32::MAX).then(|| &self.tables.code_lists[index as usize])
    }

    fn code(&self, index: u32) -> Code {
        self.tables.codes[index as usize]
    }
}
