//! A map from handles to values that costs an index, not a hash: handles are generational keys already.

use std::marker::PhantomData;

use pilotfish_plugin::{PeerHandle, TorrentHandle};
use slotmap::{DefaultKey, Key, KeyData, SecondaryMap};

/// A handle as it is given to plugins: a slot, and how often the slot was used before.
pub(super) trait Handle: Copy {
    /// The key in it.
    fn key(self) -> DefaultKey;
    /// The handle of a key.
    fn of(key: DefaultKey) -> Self;
}

impl Handle for PeerHandle {
    fn key(self) -> DefaultKey {
        KeyData::from_ffi(self.into_raw()).into()
    }
    fn of(key: DefaultKey) -> Self {
        Self::from_raw(key.data().as_ffi())
    }
}

impl Handle for TorrentHandle {
    fn key(self) -> DefaultKey {
        KeyData::from_ffi(self.into_raw()).into()
    }
    fn of(key: DefaultKey) -> Self {
        Self::from_raw(key.data().as_ffi())
    }
}

/// Values of connections, or of torrents. A handle of something that is gone has none.
#[derive(Debug)]
pub(super) struct ByHandle<H, T>(SecondaryMap<DefaultKey, T>, PhantomData<H>);

impl<H, T> Default for ByHandle<H, T> {
    fn default() -> Self {
        Self(SecondaryMap::new(), PhantomData)
    }
}

impl<H: Handle, T> ByHandle<H, T> {
    #[inline]
    pub(super) fn get(&self, handle: H) -> Option<&T> {
        self.0.get(handle.key())
    }

    #[inline]
    pub(super) fn get_mut(&mut self, handle: H) -> Option<&mut T> {
        self.0.get_mut(handle.key())
    }

    /// The value of a handle, made if there is none. `None`: something newer has the handle's slot.
    pub(super) fn or_default(&mut self, handle: H) -> Option<&mut T>
    where
        T: Default,
    {
        self.0.entry(handle.key()).map(|entry| entry.or_default())
    }

    pub(super) fn remove(&mut self, handle: H) -> Option<T> {
        self.0.remove(handle.key())
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = H> {
        self.0.keys().map(H::of)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.values_mut()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
