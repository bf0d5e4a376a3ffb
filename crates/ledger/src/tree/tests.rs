//! Properties of the tree, with `ct-merkle` as a second opinion.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;

use super::*;

/// A store of tree hashes, and the leaves behind them.
#[derive(Default)]
struct Log {
    leaves: Vec<Vec<u8>>,
    stored: HashMap<u64, Digest>,
    roots: Vec<(u64, Digest)>,
}

impl Log {
    fn read(&self, indexes: &[u64]) -> Vec<Digest> {
        indexes.iter().map(|index| self.stored[index]).collect()
    }

    fn append(&mut self, batch: &[Vec<u8>]) {
        let size = self.leaves.len() as u64;
        let edge = self.read(&edge_indexes(size).unwrap());
        let extension = extend(size, &edge, batch).unwrap();
        self.stored.extend(extension.hashes.iter().copied());
        self.leaves.extend_from_slice(batch);
        self.roots.push((extension.size, extension.root));
        assert_eq!(extension.size, self.leaves.len() as u64);
    }

    fn of(batches: &[Vec<Vec<u8>>]) -> Self {
        let mut log = Log::default();
        batches.iter().for_each(|batch| log.append(batch));
        log
    }
}

fn batches() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let leaf = prop::collection::vec(any::<u8>(), 0..12);
    prop::collection::vec(prop::collection::vec(leaf, 0..9), 1..8)
}

proptest! {
    #[test]
    fn root_agrees_with_ct_merkle_and_with_the_running_tree(batches in batches()) {
        let log = Log::of(&batches);
        let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let mut running = RunningTree::default();
        for leaf in &log.leaves {
            other.push(leaf.clone());
            running.push(&leaf_hash(leaf));
        }
        let size = log.leaves.len() as u64;
        let ours = log.roots.last().unwrap().1;
        prop_assert_eq!(ours.as_bytes().to_vec(), other.root().as_bytes().to_vec());
        prop_assert_eq!(running.root(), ours);
        let edge = log.read(&edge_indexes(size).unwrap());
        prop_assert_eq!(root(size, &edge), Ok(ours));
    }

    #[test]
    fn every_leaf_is_included_and_no_other(batches in batches()) {
        let log = Log::of(&batches);
        let (size, root) = *log.roots.last().unwrap();
        let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        log.leaves.iter().for_each(|leaf| other.push(leaf.clone()));
        for (seq, leaf) in (0..).zip(&log.leaves) {
            let hashes = log.read(&inclusion_indexes(size, seq).unwrap());
            let proof = inclusion_proof(size, seq, &hashes).unwrap();
            prop_assert_eq!(inclusion_verify(&proof, size, &root, seq, &leaf_hash(leaf)), Ok(()));

            let bytes: Vec<u8> = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
            let theirs = ct_merkle::InclusionProof::<Sha256>::from_bytes(bytes);
            other.root().verify_inclusion(leaf, seq, &theirs).unwrap();

            let another = leaf_hash(b"a leaf that is longer than any of the others");
            prop_assert!(inclusion_verify(&proof, size, &root, seq, &another).is_err());
            prop_assert!(inclusion_verify(&proof, size, &another, seq, &leaf_hash(leaf)).is_err());
            prop_assert!(inclusion_verify(&proof, size, &root, size, &leaf_hash(leaf)).is_err());
            let mut longer = proof.clone();
            longer.push(another);
            prop_assert!(inclusion_verify(&longer, size, &root, seq, &leaf_hash(leaf)).is_err());
            if let Some((_, shorter)) = proof.split_last() {
                prop_assert!(inclusion_verify(shorter, size, &root, seq, &leaf_hash(leaf)).is_err());
            }
        }
        prop_assert!(inclusion_indexes(size, size).is_err());
    }

    #[test]
    fn any_two_checkpoints_are_consistent_and_a_fork_is_not(batches in batches(), fork in any::<u8>()) {
        let log = Log::of(&batches);
        for (i, old) in log.roots.iter().enumerate() {
            for new in &log.roots[i..] {
                if old.0 == 0 {
                    prop_assert!(consistency_indexes(old.0, new.0).is_err());
                    continue;
                }
                let hashes = log.read(&consistency_indexes(old.0, new.0).unwrap());
                let proof = consistency_proof(old.0, new.0, &hashes).unwrap();
                let (old, new) = ((old.0, &old.1), (new.0, &new.1));
                prop_assert_eq!(consistency_verify(&proof, old, new), Ok(()));
                let forked = leaf_hash(&[fork]);
                prop_assert!(consistency_verify(&proof, (old.0, &forked), new).is_err());
                prop_assert!(consistency_verify(&proof, old, (new.0, &forked)).is_err());
                if old.0 < new.0 {
                    prop_assert!(consistency_verify(&proof, new, old).is_err());
                }
            }
        }
    }

    #[test]
    fn a_tree_does_not_depend_on_how_it_was_batched(batches in batches()) {
        let whole = Log::of(&[batches.concat()]);
        let pieces = Log::of(&batches);
        prop_assert_eq!(whole.roots.last(), pieces.roots.last());
        prop_assert_eq!(whole.stored, pieces.stored);
    }
}

#[test]
fn sizes_and_counts_that_cannot_be_are_refused() {
    let none: [Vec<u8>; 0] = [];
    assert_eq!(extend(0, &[], &none).unwrap().root, empty_root());
    assert!(edge_indexes(TREE_SIZE_MAX).is_ok());
    assert!(edge_indexes(TREE_SIZE_MAX + 1).is_err());
    assert!(inclusion_indexes(u64::MAX, 1).is_err());
    let zero = Digest::from_bytes([0; 32]);
    assert!(inclusion_verify(&[], u64::MAX, &zero, 0, &zero).is_err());
    assert!(inclusion_verify(&vec![zero; PROOF_HASHES_MAX + 1], 2, &zero, 0, &zero).is_err());
    assert!(consistency_verify(&[], (1, &zero), (u64::MAX, &zero)).is_err());
    assert_eq!(
        extend(3, &[zero], &[b"leaf"]),
        Err(TreeFailed::HashCount {
            expected: 2,
            actual: 1
        })
    );
    assert!(extend(0, &[], &vec![[0_u8; 1]; BATCH_LEAVES_MAX + 1]).is_err());
    assert!(extend(TREE_SIZE_MAX, &[zero], &[b"leaf"]).is_err());
}
