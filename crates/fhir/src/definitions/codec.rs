//! The compact form of [`Tables`]: a magic, a version, then each table as variable-length numbers.
//!
//! It holds structure only, no prose. The same tables always give the same bytes.
//! Start at [`encode`] and [`decode`].

use super::tables::{
    Binding, BindingStrength, Code, CodeList, CompartmentLink, Content, Element, FORMAT_VERSION,
    LinkKind, Node, NodeRule, Span, StrId, Strings, Structure, StructureKind, Tables, TypeUse,
};
use crate::package::PackageId;
use crate::primitive;

const MAGIC: &[u8; 8] = b"CHPFHIR\0";
/// Most rows of one table; guards the reservation of memory.
const ROWS_MAX: usize = 10_000_000;

/// Why compiled definitions could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not compiled definitions at all.
    #[error("not a file of compiled FHIR definitions")]
    Magic,
    /// Written by another version of the generator.
    #[error("compiled definitions have format version {0}; this build reads {FORMAT_VERSION}")]
    Version(u32),
    /// Cut off or damaged.
    #[error("compiled definitions are damaged")]
    Damaged,
}

pub(super) fn encode(tables: &Tables) -> Vec<u8> {
    let mut out = Vec::with_capacity(tables.strings.text.len() * 2);
    out.extend_from_slice(MAGIC);
    number(&mut out, FORMAT_VERSION);
    let source = &tables.source;
    for part in [
        &source.name,
        &source.version,
        &source.fhir_version,
        &source.licence,
        &source.sha256,
    ] {
        text(&mut out, part);
    }
    number(&mut out, tables.strings.ends.len() as u32);
    let mut last = 0;
    for end in &tables.strings.ends {
        number(&mut out, end - last);
        last = *end;
    }
    out.extend_from_slice(tables.strings.text.as_bytes());
    rows(&mut out, &tables.structures, |out, it| {
        number(out, it.url.0);
        number(out, it.type_name.0);
        out.push(it.kind as u8);
        optional(out, it.root);
    });
    rows(&mut out, &tables.nodes, |out, it| {
        number(out, it.path.0);
        out.push(it.rule as u8);
        span(out, it.elements);
    });
    rows(&mut out, &tables.elements, |out, it| {
        number(out, it.name.0);
        number(out, u32::from(it.min));
        optional(
            out,
            if it.max == u16::MAX {
                u32::MAX
            } else {
                u32::from(it.max)
            },
        );
        out.push(it.flags);
        span(out, it.types);
        optional(out, it.binding);
    });
    rows(&mut out, &tables.type_uses, |out, it| {
        number(out, it.code.0);
        match it.content {
            Content::AnyResource => out.push(0),
            Content::Node(node) => {
                out.push(1);
                number(out, node);
            }
            Content::Primitive(primitive) => {
                out.push(2);
                out.push(primitive as u8);
            }
        }
        span(out, it.targets);
    });
    rows(&mut out, &tables.targets, |out, it| number(out, *it));
    rows(&mut out, &tables.bindings, |out, it| {
        out.push(it.strength as u8);
        number(out, it.value_set.0);
        optional(out, it.list);
    });
    rows(&mut out, &tables.code_lists, |out, it| {
        number(out, it.url.0);
        span(out, it.codes);
        out.push(u8::from(it.is_decidable));
    });
    rows(&mut out, &tables.codes, |out, it| {
        number(out, it.code.0);
        number(out, it.system.0);
    });
    rows(&mut out, &tables.compartment, |out, it| {
        number(out, it.structure);
        number(out, it.path.0);
        out.push(it.kind as u8);
    });
    number(&mut out, tables.element_node);
    out
}

fn number(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `u32::MAX` (none) becomes 0, everything else moves up by one.
fn optional(out: &mut Vec<u8>, value: u32) {
    number(out, value.wrapping_add(1));
}

fn text(out: &mut Vec<u8>, value: &str) {
    number(out, value.len() as u32);
    out.extend_from_slice(value.as_bytes());
}

fn span(out: &mut Vec<u8>, value: Span) {
    number(out, value.start);
    number(out, value.end.saturating_sub(value.start));
}

fn rows<T>(out: &mut Vec<u8>, rows: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    number(out, rows.len() as u32);
    for row in rows {
        write(out, row);
    }
}

struct Reader<'b> {
    rest: &'b [u8],
}

type Read<T> = Result<T, DecodeError>;

impl Reader<'_> {
    fn byte(&mut self) -> Read<u8> {
        let (first, rest) = self.rest.split_first().ok_or(DecodeError::Damaged)?;
        self.rest = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Read<u32> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Damaged)
    }

    fn optional(&mut self) -> Read<u32> {
        Ok(self.number()?.wrapping_sub(1))
    }

    fn string_id(&mut self) -> Read<StrId> {
        self.number().map(StrId)
    }

    fn text(&mut self, length: usize) -> Read<String> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::Damaged)?;
        self.rest = rest;
        std::str::from_utf8(head)
            .map(str::to_owned)
            .map_err(|_| DecodeError::Damaged)
    }

    fn sized_text(&mut self) -> Read<String> {
        let length = self.number()? as usize;
        self.text(length)
    }

    fn span(&mut self) -> Read<Span> {
        let start = self.number()?;
        let end = start
            .checked_add(self.number()?)
            .ok_or(DecodeError::Damaged)?;
        Ok(Span { start, end })
    }

    fn rows<T>(&mut self, mut read: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.number()? as usize;
        // Every row takes at least a byte.
        if count > ROWS_MAX || count > self.rest.len() {
            return Err(DecodeError::Damaged);
        }
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            rows.push(read(self)?);
        }
        Ok(rows)
    }

    /// A variant by its code.
    fn variant<T: Copy>(&mut self, variants: &[T]) -> Read<T> {
        variants
            .get(usize::from(self.byte()?))
            .copied()
            .ok_or(DecodeError::Damaged)
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Tables, DecodeError> {
    let mut reader = Reader {
        rest: bytes.strip_prefix(MAGIC).ok_or(DecodeError::Magic)?,
    };
    let version = reader.number()?;
    if version != FORMAT_VERSION {
        return Err(DecodeError::Version(version));
    }
    let source = PackageId {
        name: reader.sized_text()?,
        version: reader.sized_text()?,
        fhir_version: reader.sized_text()?,
        licence: reader.sized_text()?,
        sha256: reader.sized_text()?,
    };
    let mut end = 0_u32;
    let ends = reader.rows(|reader| {
        end = end
            .checked_add(reader.number()?)
            .ok_or(DecodeError::Damaged)?;
        Ok(end)
    })?;
    let strings = Strings {
        text: reader.text(end as usize)?,
        ends,
    };
    let structures = reader.rows(|reader| {
        Ok(Structure {
            url: reader.string_id()?,
            type_name: reader.string_id()?,
            kind: reader.variant(&[
                StructureKind::Resource,
                StructureKind::AbstractResource,
                StructureKind::Datatype,
                StructureKind::DatatypeProfile,
                StructureKind::Primitive,
            ])?,
            root: reader.optional()?,
        })
    })?;
    let nodes = reader.rows(|reader| {
        Ok(Node {
            path: reader.string_id()?,
            rule: reader.variant(&[
                NodeRule::None,
                NodeRule::Resource,
                NodeRule::Extension,
                NodeRule::Reference,
                NodeRule::Coding,
                NodeRule::CodeableConcept,
                NodeRule::Narrative,
            ])?,
            elements: reader.span()?,
            names: Span::default(),
        })
    })?;
    let elements = reader.rows(|reader| {
        Ok(Element {
            name: reader.string_id()?,
            min: u16::try_from(reader.number()?).map_err(|_| DecodeError::Damaged)?,
            max: match reader.optional()? {
                u32::MAX => u16::MAX,
                max => u16::try_from(max).map_err(|_| DecodeError::Damaged)?,
            },
            flags: reader.byte()?,
            types: reader.span()?,
            binding: reader.optional()?,
        })
    })?;
    let type_uses = reader.rows(|reader| {
        Ok(TypeUse {
            code: reader.string_id()?,
            content: match reader.byte()? {
                0 => Content::AnyResource,
                1 => Content::Node(reader.number()?),
                2 => Content::Primitive(reader.variant(&primitive::ALL)?),
                _ => return Err(DecodeError::Damaged),
            },
            targets: reader.span()?,
        })
    })?;
    let targets = reader.rows(Reader::number)?;
    let bindings = reader.rows(|reader| {
        Ok(Binding {
            strength: reader.variant(&[
                BindingStrength::Example,
                BindingStrength::Preferred,
                BindingStrength::Extensible,
                BindingStrength::Required,
            ])?,
            value_set: reader.string_id()?,
            list: reader.optional()?,
        })
    })?;
    let code_lists = reader.rows(|reader| {
        Ok(CodeList {
            url: reader.string_id()?,
            codes: reader.span()?,
            is_decidable: reader.variant(&[false, true])?,
        })
    })?;
    let codes = reader.rows(|reader| {
        Ok(Code {
            code: reader.string_id()?,
            system: reader.string_id()?,
        })
    })?;
    let compartment = reader.rows(|reader| {
        Ok(CompartmentLink {
            structure: reader.number()?,
            path: reader.string_id()?,
            kind: reader.variant(&[LinkKind::Subject, LinkKind::Participant])?,
        })
    })?;
    let element_node = reader.number()?;
    if !reader.rest.is_empty() {
        return Err(DecodeError::Damaged);
    }
    let mut tables = Tables {
        source,
        strings,
        structures,
        nodes,
        elements,
        type_uses,
        targets,
        bindings,
        code_lists,
        codes,
        compartment,
        names: Vec::new(),
        element_node,
    };
    if !tables.verify() {
        return Err(DecodeError::Damaged);
    }
    tables.build_names();
    if tables.verify() {
        Ok(tables)
    } else {
        Err(DecodeError::Damaged)
    }
}
