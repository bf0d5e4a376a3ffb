//! Finds the element of a node by its JSON name in one step: a hash table over all names of all nodes.
//!
//! It is built when definitions are loaded and only speeds up what the sorted names say.
//! Start at [`NameIndex::find`].

use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::tables::{Name, Node, Tables};

/// Marks an empty slot.
const EMPTY: u32 = u32::MAX;

/// Open addressing with linear probing; at least half of the slots are empty.
///
/// The keys come from definitions, so nobody outside can make them collide; a lookup with a name from
/// outside ends at the first empty slot.
#[derive(Debug)]
pub(super) struct NameIndex {
    /// Indices into `Tables::names`; the length is a power of two.
    slots: Box<[u32]>,
}

/// The hash of a name within a node.
fn hash(node: &Node, json_name: &str) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write_u32(node.names.start);
    hasher.write(json_name.as_bytes());
    hasher.finish() as usize
}

impl NameIndex {
    pub(super) fn of(tables: &Tables) -> Self {
        let size = (tables.names.len() * 2).next_power_of_two().max(2);
        let mut slots = vec![EMPTY; size].into_boxed_slice();
        for node in &tables.nodes {
            for index in node.names.indices() {
                let Some(name) = tables.names.get(index as usize) else {
                    continue;
                };
                let mut at = hash(node, tables.strings.get(name.text));
                for _ in 0..size {
                    let Some(slot) = slots.get_mut(at & (size - 1)) else {
                        break;
                    };
                    if *slot == EMPTY {
                        *slot = index;
                        break;
                    }
                    at = at.wrapping_add(1);
                }
            }
        }
        Self { slots }
    }

    pub(super) fn find(&self, tables: &Tables, node: &Node, json_name: &str) -> Option<Name> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash(node, json_name);
        for _ in 0..self.slots.len() {
            let index = *self.slots.get(at & mask)?;
            if index == EMPTY {
                return None;
            }
            if node.names.indices().contains(&index) {
                let name = tables.names.get(index as usize)?;
                if tables.strings.get(name.text) == json_name {
                    return Some(*name);
                }
            }
            at = at.wrapping_add(1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::Definitions;

    #[test]
    fn every_name_is_found_in_its_node_and_no_other_is() {
        let definitions = Definitions::r4();
        let tables = &definitions.tables;
        for node in &tables.nodes {
            for index in node.names.indices() {
                let name = tables.names[index as usize];
                let text = tables.strings.get(name.text);
                let found = definitions.name(node, text).unwrap();
                assert_eq!(
                    (found.element, found.type_use),
                    (name.element, name.type_use)
                );
                assert!(definitions.name(node, &format!("{text}X")).is_none());
            }
            assert!(definitions.name(node, "").is_none());
        }
        let patient = definitions.node(definitions.resource("Patient").unwrap().root);
        assert!(definitions.name(patient, "birthDate").is_some());
        assert!(definitions.name(patient, "component").is_none());
    }
}
