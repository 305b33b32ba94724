//! Dictionaries that plugins fill in.
//!
//! The engine keeps each as a tree for the length of a call. A plugin's id names a tree and a node in it; any number may
//! come, and one that names nothing is answered as gone.

use pilotfish_plugin::rt::abi_stable::std_types::RSlice;
use pilotfish_plugin::rt::{EntryId, EntryRaw, HookStatus, Scope, Sink};

use super::{YES, host_functions, yes_if};
use crate::engine::state::State;
use crate::wire::{EntryId as NodeId, EntryTree};

/// Bits of an id that name the node; the others name the tree.
const NODE_BITS: u32 = 24;

impl State {
    /// Lends a dictionary to plugins until [`end_entry`](Self::end_entry).
    pub(in crate::engine) fn begin_entry(&mut self, tree: EntryTree) -> EntryId {
        let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push(tree);
        EntryId(index << NODE_BITS)
    }

    /// The dictionary as plugins left it. Dictionaries that were begun later are dropped.
    /// An id that names none gives an empty one.
    pub(in crate::engine) fn end_entry(&mut self, entry: EntryId) -> EntryTree {
        let index = (entry.0 >> NODE_BITS) as usize;
        if index >= self.entries.len() {
            return EntryTree::default();
        }
        self.entries.truncate(index + 1);
        self.entries.pop().unwrap_or_default()
    }

    /// The tree and node that an id names, if any.
    fn node(&mut self, entry: EntryId) -> Option<(&mut EntryTree, NodeId)> {
        let tree = self.entries.get_mut((entry.0 >> NODE_BITS) as usize)?;
        Some((tree, NodeId(entry.0 & ((1 << NODE_BITS) - 1))))
    }
}

/// The form in which a hook is given a dictionary. The pointer in it is the one of the call's own scope: one that was made
/// before the scope would be void, since the scope is made from the whole state.
pub(in crate::engine) fn lend_entry(scope: Scope, entry: EntryId) -> EntryRaw<'static> {
    // SAFETY: the scope is that of the call which the value is passed to, and plugins cannot keep it.
    unsafe { EntryRaw::lent(scope, entry) }
}

host_functions! {
    fn insert_int(state, entry: EntryId, key: RSlice<'_, u8>, value: i64) {
        let (tree, node) = state.node(entry)?;
        tree.insert_int(node, key.as_slice(), value).ok()?;
        YES
    }

    fn insert_bytes(state, entry: EntryId, key: RSlice<'_, u8>, value: RSlice<'_, u8>) {
        let (tree, node) = state.node(entry)?;
        tree.insert_bytes(node, key.as_slice(), value.as_slice()).ok()?;
        YES
    }

    fn insert_bencoded(state, entry: EntryId, key: RSlice<'_, u8>, value: RSlice<'_, u8>) {
        let (tree, node) = state.node(entry)?;
        let inserted = tree.insert_raw(node, key.as_slice(), value.as_slice());
        Some(if inserted.is_ok() { HookStatus::HANDLED } else { HookStatus::DROPPED })
    }

    fn dict(state, entry: EntryId, key: RSlice<'_, u8>, out: &mut EntryId) {
        let (tree, node) = state.node(entry)?;
        let child = tree.dict(node, key.as_slice()).ok()?;
        *out = EntryId((entry.0 >> NODE_BITS) << NODE_BITS | child.0);
        YES
    }

    fn encode(state, entry: EntryId, out: Sink<'_>) {
        let (tree, node) = state.node(entry)?;
        out.put(&tree.encode(node)?);
        YES
    }

    fn remove(state, entry: EntryId, key: RSlice<'_, u8>) {
        let (tree, node) = state.node(entry)?;
        yes_if(tree.remove(node, key.as_slice()).ok()?)
    }
}
