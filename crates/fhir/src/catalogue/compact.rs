//! Definitions of a package as one compact file: an index, and records in compressed blocks.
//!
//! Layout: magic (8 bytes), format version and length of the index (4 bytes each, little endian), the
//! index (deflated), then the blocks (deflated), each holding the records of one or more definitions.
//! Only the index is read when the file is opened; a record is read when it is asked for.
//! Records hold rules, displays and the texts of invariants, no other prose.
//! Start at [`generate`] and [`Compact::open`].

use std::borrow::Cow;
use std::io::{Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::{Definition, Kind};
use crate::canonical::{CodeSystem, StructureDefinition, ValueSet};
use crate::package::{Package, PackageId, PackageReadError};

const MAGIC: &[u8; 8] = b"CHPRCAT\0";
/// Version of the layout and of the records; to be raised when either changes.
const FORMAT_VERSION: u32 = 1;
/// A block is closed when it is this long, unpacked.
const BLOCK_BYTES_WANTED: usize = 32 * 1024;
/// Largest block or index accepted, unpacked.
const BLOCK_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Why a compact file could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not such a file at all.
    #[error("not a file of compact FHIR definitions")]
    Magic,
    /// Written by another version of the generator.
    #[error("compact FHIR definitions have format version {0}; this build reads {FORMAT_VERSION}")]
    Version(u32),
    /// Cut off or damaged.
    #[error("compact FHIR definitions are damaged")]
    Damaged,
}

/// Why a package could not be made into a compact file.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The package cannot be read.
    #[error(transparent)]
    Package(#[from] PackageReadError),
    /// A definition cannot be read.
    #[error("`{file}` is not a definition that can be read")]
    Unreadable {
        /// The file in the package.
        file: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A definition cannot be written.
    #[error("`{file}` cannot be written compactly")]
    Record {
        /// The file in the package.
        file: String,
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// The file has become too large for its own offsets, or memory could not be written.
    #[error("the compact file cannot be written: {0}")]
    Write(&'static str),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) package: PackageId,
    /// Compressed length of each block, in bytes.
    block_lengths: Vec<u32>,
    pub(super) definitions: Vec<IndexEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IndexEntry {
    pub(super) kind: u8,
    pub(super) url: String,
    pub(super) version: Option<String>,
    pub(super) place: Place,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    block: u32,
    /// Within the unpacked block.
    offset: u32,
    length: u32,
}

/// An open compact file.
pub(super) struct Compact {
    bytes: Cow<'static, [u8]>,
    /// Where each block starts and ends in `bytes`.
    blocks: Vec<(usize, usize)>,
}

impl std::fmt::Debug for Compact {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Compact")
            .field("bytes", &self.bytes.len())
            .field("blocks", &self.blocks.len())
            .finish()
    }
}

/// The types that a compact file holds, by the number written for them.
pub(super) const KINDS: [(&str, Kind); 3] = [
    ("StructureDefinition", Kind::StructureDefinition),
    ("ValueSet", Kind::ValueSet),
    ("CodeSystem", Kind::CodeSystem),
];

impl Compact {
    /// Reads the index.
    ///
    /// # Errors
    /// Not such a file, another format version, or damage.
    pub(super) fn open(bytes: Cow<'static, [u8]>) -> Result<(Self, Index), DecodeError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(DecodeError::Magic)?;
        let (version, rest) = number(rest)?;
        if version != FORMAT_VERSION {
            return Err(DecodeError::Version(version));
        }
        let (length, rest) = number(rest)?;
        let length = usize::try_from(length).map_err(|_| DecodeError::Damaged)?;
        let packed = rest.get(..length).ok_or(DecodeError::Damaged)?;
        let index: Index =
            postcard::from_bytes(&unpack(packed)?).map_err(|_| DecodeError::Damaged)?;
        let mut blocks = Vec::with_capacity(index.block_lengths.len());
        let mut start = bytes.len() - rest.len() + length;
        for length in &index.block_lengths {
            let end = usize::try_from(*length)
                .ok()
                .and_then(|it| start.checked_add(it))
                .ok_or(DecodeError::Damaged)?;
            blocks.push((start, end));
            start = end;
        }
        if start != bytes.len() {
            return Err(DecodeError::Damaged);
        }
        Ok((Self { bytes, blocks }, index))
    }

    /// Reads one record.
    pub(super) fn definition(&self, kind: Kind, place: Place) -> Result<Definition, DecodeError> {
        let block = usize::try_from(place.block)
            .ok()
            .and_then(|it| self.blocks.get(it))
            .and_then(|(start, end)| self.bytes.get(*start..*end))
            .ok_or(DecodeError::Damaged)?;
        let block = unpack(block)?;
        let record = usize::try_from(place.offset)
            .ok()
            .and_then(|it| block.get(it..))
            .zip(usize::try_from(place.length).ok())
            .and_then(|(rest, length)| rest.get(..length))
            .ok_or(DecodeError::Damaged)?;
        Ok(match kind {
            Kind::StructureDefinition => Definition::Structure(Arc::new(from_record(record)?)),
            Kind::ValueSet => Definition::ValueSet(Arc::new(from_record(record)?)),
            Kind::CodeSystem => Definition::CodeSystem(Arc::new(from_record(record)?)),
            Kind::Other => return Err(DecodeError::Damaged),
        })
    }
}

fn from_record<'a, T: Deserialize<'a>>(record: &'a [u8]) -> Result<T, DecodeError> {
    postcard::from_bytes(record).map_err(|_| DecodeError::Damaged)
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(DecodeError::Damaged)?;
    Ok((u32::from_le_bytes(*number), rest))
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut unpacked = Vec::with_capacity(packed.len().saturating_mul(6));
    let read = flate2::read::DeflateDecoder::new(packed)
        .take(BLOCK_BYTES_MAX)
        .read_to_end(&mut unpacked);
    match read {
        Ok(_) => Ok(unpacked),
        Err(_) => Err(DecodeError::Damaged),
    }
}

fn pack(bytes: &[u8]) -> Result<Vec<u8>, GenerateError> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|_| GenerateError::Write("compression failed"))
}

fn small(length: usize) -> Result<u32, GenerateError> {
    u32::try_from(length).map_err(|_| GenerateError::Write("an offset is too large"))
}

/// Makes the compact file of a core package: its structure definitions, value sets and code systems.
/// The same package always gives the same bytes.
///
/// # Errors
/// The package or one of its definitions cannot be read.
pub fn generate(tgz: &[u8]) -> Result<Vec<u8>, GenerateError> {
    let package = Package::read(tgz, |name| {
        name.ends_with(".json")
            && KINDS.iter().any(|(kind, _)| {
                name.strip_prefix(kind)
                    .is_some_and(|it| it.starts_with('-'))
            })
    })?;
    let mut records = Vec::new();
    for (file, text) in &package.files {
        records.extend(Record::read(file, text)?);
    }
    records.sort_by(|a, b| (a.kind, &a.url, &a.version).cmp(&(b.kind, &b.url, &b.version)));

    let mut blocks = Vec::new();
    let mut block_lengths = Vec::new();
    let mut definitions = Vec::new();
    let mut block = Vec::new();
    for record in records {
        definitions.push(IndexEntry {
            kind: record.kind,
            url: record.url,
            version: record.version,
            place: Place {
                block: small(block_lengths.len())?,
                offset: small(block.len())?,
                length: small(record.bytes.len())?,
            },
        });
        block.extend_from_slice(&record.bytes);
        if block.len() >= BLOCK_BYTES_WANTED {
            close(&mut block, &mut blocks, &mut block_lengths)?;
        }
    }
    close(&mut block, &mut blocks, &mut block_lengths)?;
    let index = Index {
        package: package.id,
        block_lengths,
        definitions,
    };
    let index = pack(
        &postcard::to_allocvec(&index).map_err(|source| GenerateError::Record {
            file: "index".to_owned(),
            source,
        })?,
    )?;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&small(index.len())?.to_le_bytes());
    out.extend_from_slice(&index);
    out.extend_from_slice(&blocks);
    Ok(out)
}

fn close(
    block: &mut Vec<u8>,
    blocks: &mut Vec<u8>,
    lengths: &mut Vec<u32>,
) -> Result<(), GenerateError> {
    let packed = pack(block)?;
    lengths.push(small(packed.len())?);
    blocks.extend_from_slice(&packed);
    block.clear();
    Ok(())
}

struct Record {
    kind: u8,
    url: String,
    version: Option<String>,
    bytes: Vec<u8>,
}

impl Record {
    /// One definition; none where the file holds something without a URL.
    fn read(file: &str, text: &[u8]) -> Result<Option<Self>, GenerateError> {
        let (kind, url, version, bytes) = if file.starts_with("StructureDefinition-") {
            let mut it: StructureDefinition = parse(file, text)?;
            if !it.snapshot.element.is_empty() {
                it.differential.element.clear();
            }
            let bytes = record(file, &it)?;
            (0, it.url, it.version, bytes)
        } else if file.starts_with("ValueSet-") {
            let it: ValueSet = parse(file, text)?;
            let bytes = record(file, &it)?;
            (1, it.url, it.version, bytes)
        } else {
            let it: CodeSystem = parse(file, text)?;
            let bytes = record(file, &it)?;
            (2, it.url, it.version, bytes)
        };
        Ok((!url.is_empty()).then_some(Self {
            kind,
            url,
            version,
            bytes,
        }))
    }
}

fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &[u8]) -> Result<T, GenerateError> {
    serde_json::from_slice(text).map_err(|source| GenerateError::Unreadable {
        file: file.to_owned(),
        source,
    })
}

fn record<T: Serialize>(file: &str, it: &T) -> Result<Vec<u8>, GenerateError> {
    postcard::to_allocvec(it).map_err(|source| GenerateError::Record {
        file: file.to_owned(),
        source,
    })
}
