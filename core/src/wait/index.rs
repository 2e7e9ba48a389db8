//! Index of the pending waits by the things that they wait for.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{Item, WaitId};
use crate::event::SubscriptionId;

/// A thing that waits are found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// An event whose name has this hash. A name is stored with its wait, and compared there.
    Event(u64),
    AnyEvent,
    Queued(SubscriptionId),
    Console(usize),
}

/// The pending waits by their things, so that the work for an event does not depend on the waits for other things.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Index(BTreeSet<(Key, WaitId)>);

impl Index {
    pub(super) fn add(&mut self, id: WaitId, items: &[Item]) {
        self.0.extend(items.iter().filter_map(key).map(|key| (key, id)));
    }

    pub(super) fn remove(&mut self, id: WaitId, items: &[Item]) {
        for key in items.iter().filter_map(key) {
            self.0.remove(&(key, id));
        }
    }

    /// Returns the waits for an event of this name or of any name, in their order. Names with the same hash are included.
    pub(super) fn for_event(&self, name: &str) -> Vec<WaitId> {
        let mut ids: Vec<_> = self.all(Key::Event(hash(name))).chain(self.all(Key::AnyEvent)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub(super) fn for_queue(&self, subscription: SubscriptionId) -> Vec<WaitId> {
        self.all(Key::Queued(subscription)).collect()
    }

    pub(super) fn for_console(&self, console: usize) -> Vec<WaitId> {
        self.all(Key::Console(console)).collect()
    }

    fn all(&self, key: Key) -> impl Iterator<Item = WaitId> {
        self.0.range((key, WaitId(0))..=(key, WaitId(u64::MAX))).map(|(_, id)| *id)
    }
}

fn key(item: &Item) -> Option<Key> {
    match item {
        Item::Event(filter) => Some(filter.name.as_deref().map_or(Key::AnyEvent, |name| Key::Event(hash(name)))),
        Item::Queued(id) => Some(Key::Queued(*id)),
        Item::Text { console, .. } | Item::Output { console, .. } | Item::Log { console, .. } => {
            Some(Key::Console(*console))
        }
        // Few waits are for them, and none ends often.
        Item::Companion(_) | Item::End => None,
    }
}

/// Returns a hash of a name: FNV-1a with 64 bits. A wait is found by it without a copy of its name.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
