//! One Merkle tree per tenant, hashed as RFC 6962 says and stored as `tlog_tiles` numbers it.
//!
//! Every function comes in two steps, because the store is asynchronous and this crate is not: first
//! ask which stored hashes are needed (`…_indexes`), fetch them in that order, then compute. Nothing
//! here reads a leaf again once it was hashed.
//!
//! Start at [`extend`], which is what the integrator does with each batch of new leaves.

use std::cell::RefCell;
use std::collections::HashMap;

use chaperone_core::digest::Digest;
use tlog_tiles::tlog::{
    self, Hash, HashReader, check_record, check_tree, prove_record, prove_tree, record_hash,
    stored_hash_index, stored_hashes_for_record_hash, sub_tree_index, tree_hash,
};

/// Most leaves a tree may have; far above any real ledger, and low enough for index arithmetic.
pub const TREE_SIZE_MAX: u64 = 1 << 48;

/// Most leaves in one call of [`extend`].
pub const BATCH_LEAVES_MAX: usize = 65_536;

/// Longest proof that is looked at: the height of the largest tree, twice.
pub const PROOF_HASHES_MAX: usize = 96;

/// Why hashes could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeFailed {
    /// More leaves than a tree or a batch may have.
    #[error("{leaves} leaves are more than the {limit} allowed here")]
    TooLarge {
        /// How many were asked for.
        leaves: u64,
        /// The limit.
        limit: u64,
    },
    /// Not as many stored hashes as the indexes that were asked for.
    #[error("{expected} stored hashes are needed, {actual} were given")]
    HashCount {
        /// How many are needed.
        expected: usize,
        /// How many came.
        actual: usize,
    },
    /// A proof about a leaf or a tree that is not inside the larger tree.
    #[error("there is no proof from {part} to a tree of {size} leaves")]
    Outside {
        /// The leaf, or the size of the older tree.
        part: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The arithmetic did not come out; a bug or damaged stored hashes.
    #[error("tree hashes do not fit together")]
    Arithmetic,
}

/// A proof that does not prove what it was shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not lead to the root")]
pub struct ProofInvalid;

/// What a batch of leaves adds to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Leaves after the batch.
    pub size: u64,
    /// Root over all of them.
    pub root: Digest,
    /// Hashes to store, by storage index, ascending.
    pub hashes: Vec<(u64, Digest)>,
}

/// The hash of a leaf: SHA-256(0x00 ‖ leaf).
///
/// # Source
/// RFC 6962 section 2.1.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    digest(record_hash(leaf))
}

/// The root of a tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    digest(tlog::EMPTY_HASH)
}

/// Storage indexes of the tree's right edge: what [`extend`] and [`root`] need of a tree of `size`.
///
/// # Errors
/// [`TreeFailed::TooLarge`] beyond [`TREE_SIZE_MAX`].
pub fn edge_indexes(size: u64) -> Result<Vec<u64>, TreeFailed> {
    check_size(size)?;
    Ok(sub_tree_index(0, size, Vec::new()))
}

/// The root of a tree of `size`, from the hashes at [`edge_indexes`], in that order.
///
/// # Errors
/// [`TreeFailed`] when the size is too large or the hashes are not as many as the indexes.
pub fn root(size: u64, edge: &[Digest]) -> Result<Digest, TreeFailed> {
    let known = Known::new(&edge_indexes(size)?, edge)?;
    tree_hash(size, &known).map(digest).map_err(arithmetic)
}

/// Adds leaves to a tree of `size`, given the hashes at [`edge_indexes`], in that order.
///
/// # Errors
/// [`TreeFailed`] when the tree or the batch is too large, or the edge does not belong to the size.
pub fn extend<L: AsRef<[u8]>>(
    size: u64,
    edge: &[Digest],
    leaves: &[L],
) -> Result<Extension, TreeFailed> {
    let mut known = Known::new(&edge_indexes(size)?, edge)?;
    if leaves.len() > BATCH_LEAVES_MAX {
        return Err(TreeFailed::TooLarge {
            leaves: leaves.len() as u64,
            limit: BATCH_LEAVES_MAX as u64,
        });
    }
    let size_after = size.saturating_add(leaves.len() as u64);
    check_size(size_after)?;

    let mut hashes = Vec::with_capacity(leaves.len().saturating_mul(2));
    for (seq, leaf) in (size..size_after).zip(leaves) {
        let record = record_hash(leaf.as_ref());
        let new = stored_hashes_for_record_hash(seq, record, &known).map_err(arithmetic)?;
        let first = stored_hash_index(0, seq);
        for (index, hash) in (first..).zip(new) {
            known.0.insert(index, hash);
            hashes.push((index, digest(hash)));
        }
    }
    let root = tree_hash(size_after, &known)
        .map(digest)
        .map_err(arithmetic)?;
    Ok(Extension {
        size: size_after,
        root,
        hashes,
    })
}

/// Storage indexes that [`inclusion_proof`] needs.
///
/// # Errors
/// [`TreeFailed`] when the tree is too large or the leaf is not in it.
pub fn inclusion_indexes(size: u64, seq: u64) -> Result<Vec<u64>, TreeFailed> {
    check_leaf(size, seq)?;
    let asked = Asked::default();
    prove_record(size, seq, &asked).map_err(arithmetic)?;
    Ok(asked.0.into_inner())
}

/// Proof that the tree of `size` holds the leaf at `seq`, from the hashes at [`inclusion_indexes`].
///
/// # Errors
/// [`TreeFailed`] as for the indexes, or when the hashes are not as many.
pub fn inclusion_proof(size: u64, seq: u64, hashes: &[Digest]) -> Result<Vec<Digest>, TreeFailed> {
    let known = Known::new(&inclusion_indexes(size, seq)?, hashes)?;
    let proof = prove_record(size, seq, &known).map_err(arithmetic)?;
    Ok(proof.into_iter().map(digest).collect())
}

/// Checks that a tree of `size` with this root holds a leaf of this hash at `seq`.
///
/// # Errors
/// [`ProofInvalid`] when it does not follow.
pub fn inclusion_verify(
    proof: &[Digest],
    size: u64,
    root: &Digest,
    seq: u64,
    leaf: &Digest,
) -> Result<(), ProofInvalid> {
    check_leaf(size, seq).map_err(|_| ProofInvalid)?;
    let proof = proof_hashes(proof)?;
    check_record(&proof, size, hash(root), seq, hash(leaf)).map_err(|_| ProofInvalid)
}

/// Storage indexes that [`consistency_proof`] needs.
///
/// # Errors
/// [`TreeFailed`] when a tree is too large, or the older one is empty or larger than the newer one.
pub fn consistency_indexes(size_old: u64, size_new: u64) -> Result<Vec<u64>, TreeFailed> {
    check_prefix(size_old, size_new)?;
    let asked = Asked::default();
    prove_tree(size_new, size_old, &asked).map_err(arithmetic)?;
    Ok(asked.0.into_inner())
}

/// Proof that the tree of `size_old` is a prefix of the tree of `size_new`.
///
/// # Errors
/// [`TreeFailed`] as for the indexes, or when the hashes are not as many.
pub fn consistency_proof(
    size_old: u64,
    size_new: u64,
    hashes: &[Digest],
) -> Result<Vec<Digest>, TreeFailed> {
    let known = Known::new(&consistency_indexes(size_old, size_new)?, hashes)?;
    let proof = prove_tree(size_new, size_old, &known).map_err(arithmetic)?;
    Ok(proof.into_iter().map(digest).collect())
}

/// Checks that the newer of two trees only added leaves to the older one. Each is (size, root).
///
/// # Errors
/// [`ProofInvalid`] when it does not follow.
pub fn consistency_verify(
    proof: &[Digest],
    old: (u64, &Digest),
    new: (u64, &Digest),
) -> Result<(), ProofInvalid> {
    check_prefix(old.0, new.0).map_err(|_| ProofInvalid)?;
    let proof = proof_hashes(proof)?;
    check_tree(&proof, new.0, hash(new.1), old.0, hash(old.1)).map_err(|_| ProofInvalid)
}

/// The right edge of a growing tree, for computing roots while leaf hashes stream by.
///
/// Holds one hash per complete subtree, so at most 48, and shares no code with [`extend`] but the
/// node hash itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunningTree {
    /// Complete subtrees from the left, with their height.
    subtrees: Vec<(u8, Hash)>,
}

impl RunningTree {
    /// Adds a leaf hash at the end.
    pub(crate) fn push(&mut self, leaf: &Digest) {
        let (mut height, mut right) = (0_u8, hash(leaf));
        while let Some((_, left)) = self.subtrees.pop_if(|(at, _)| *at == height) {
            right = tlog::node_hash(left, right);
            height = height.saturating_add(1);
        }
        self.subtrees.push((height, right));
    }

    /// Root over the leaves so far.
    pub(crate) fn root(&self) -> Digest {
        self.subtrees
            .iter()
            .rev()
            .map(|(_, hash)| *hash)
            .reduce(|right, left| tlog::node_hash(left, right))
            .map_or_else(empty_root, digest)
    }
}

/// Stored hashes by index.
struct Known(HashMap<u64, Hash>);

impl Known {
    fn new(indexes: &[u64], hashes: &[Digest]) -> Result<Self, TreeFailed> {
        if indexes.len() != hashes.len() {
            return Err(TreeFailed::HashCount {
                expected: indexes.len(),
                actual: hashes.len(),
            });
        }
        let pairs = indexes.iter().copied().zip(hashes.iter().map(hash));
        Ok(Self(pairs.collect()))
    }
}

impl HashReader for Known {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog::Error> {
        let find = |index| self.0.get(index).copied();
        let found: Option<Vec<Hash>> = indexes.iter().map(find).collect();
        found.ok_or(tlog::Error::IndexesNotInTree)
    }
}

/// Remembers which hashes were asked for and answers with blanks.
#[derive(Default)]
struct Asked(RefCell<Vec<u64>>);

impl HashReader for Asked {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog::Error> {
        self.0.borrow_mut().extend_from_slice(indexes);
        Ok(vec![Hash::default(); indexes.len()])
    }
}

fn check_size(size: u64) -> Result<(), TreeFailed> {
    if size > TREE_SIZE_MAX {
        return Err(TreeFailed::TooLarge {
            leaves: size,
            limit: TREE_SIZE_MAX,
        });
    }
    Ok(())
}

fn check_leaf(size: u64, seq: u64) -> Result<(), TreeFailed> {
    check_size(size)?;
    if seq < size {
        Ok(())
    } else {
        Err(TreeFailed::Outside { part: seq, size })
    }
}

fn check_prefix(size_old: u64, size_new: u64) -> Result<(), TreeFailed> {
    check_size(size_new)?;
    if (1..=size_new).contains(&size_old) {
        Ok(())
    } else {
        Err(TreeFailed::Outside {
            part: size_old,
            size: size_new,
        })
    }
}

fn proof_hashes(proof: &[Digest]) -> Result<Vec<Hash>, ProofInvalid> {
    if proof.len() > PROOF_HASHES_MAX {
        return Err(ProofInvalid);
    }
    Ok(proof.iter().map(hash).collect())
}

fn digest(hash: Hash) -> Digest {
    Digest::from_bytes(hash.0)
}

fn hash(digest: &Digest) -> Hash {
    Hash(*digest.as_bytes())
}

fn arithmetic(_: tlog::Error) -> TreeFailed {
    TreeFailed::Arithmetic
}

#[cfg(test)]
mod tests;
