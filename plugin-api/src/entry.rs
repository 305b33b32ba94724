//! Bencoded dictionaries that the host owns and a plugin fills in (libtorrent's `entry`).
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

use abi_stable::StableAbi;

use crate::answer::HookStatus;
use crate::bencode::Value;
use crate::context::Scope;
use crate::host_api::{HostApiRef, HostPtr, Sink};

/// Names a node of a dictionary that the host holds for the length of one call.
#[doc(hidden)]
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId(pub u32);

/// Wire form of [`Entry`].
#[doc(hidden)]
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct EntryRaw<'a> {
    host: HostPtr,
    api: HostApiRef,
    id: EntryId,
    _scope: PhantomData<&'a mut ()>,
}

impl EntryRaw<'_> {
    /// # Safety
    /// `host` and `api` belong together and stay valid as long as the value is used.
    pub unsafe fn new(host: HostPtr, api: HostApiRef, id: EntryId) -> Self {
        Self { host, api, id, _scope: PhantomData }
    }

    /// # Safety
    /// The value is used in the call that the scope was made for, and not after it.
    pub unsafe fn lent(scope: Scope, id: EntryId) -> Self {
        Self { host: scope.host, api: scope.api, id, _scope: PhantomData }
    }
}

/// A dictionary under construction. It can be read, printed, overwritten and deleted from.
pub struct Entry<'a>(EntryRaw<'a>);

impl<'a> From<EntryRaw<'a>> for Entry<'a> {
    fn from(raw: EntryRaw<'a>) -> Self {
        Self(raw)
    }
}

impl Entry<'_> {
    /// The same dictionary, for a shorter time.
    pub fn reborrow(&mut self) -> Entry<'_> {
        Entry(EntryRaw { _scope: PhantomData, ..self.0 })
    }

    /// Sets a key to an integer, whatever it held before.
    pub fn insert_int(&mut self, key: impl AsRef<[u8]>, value: i64) {
        if let Some(f) = self.0.api.entry().insert_int() {
            // SAFETY: host, table and id came together from the host; slices live through the call.
            unsafe { f(self.0.host, self.0.id, key.as_ref().into(), value) };
        }
    }

    /// Sets a key to a byte string, whatever it held before.
    pub fn insert_bytes(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        if let Some(f) = self.0.api.entry().insert_bytes() {
            // SAFETY: as in `insert_int`.
            unsafe { f(self.0.host, self.0.id, key.as_ref().into(), value.as_ref().into()) };
        }
    }

    /// Sets a key to a value that is bencoded already; `false`, and nothing changes, if it is not valid bencoding.
    pub fn insert_bencoded(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> bool {
        self.0.api.entry().insert_bencoded().is_some_and(|f| {
            // SAFETY: as in `insert_int`.
            unsafe {
                f(self.0.host, self.0.id, key.as_ref().into(), value.as_ref().into()) == HookStatus::HANDLED
            }
        })
    }

    /// The dictionary at a key, made if there is none (or something else).
    pub fn dict(&mut self, key: impl AsRef<[u8]>) -> Entry<'_> {
        let mut id = EntryId(u32::MAX);
        if let Some(f) = self.0.api.entry().dict() {
            // SAFETY: as in `insert_int`.
            unsafe { f(self.0.host, self.0.id, key.as_ref().into(), &mut id) };
        }
        Entry(EntryRaw { id, _scope: PhantomData, ..self.0 })
    }

    /// Deletes a key; whether it was there.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> bool {
        self.0.api.entry().remove().is_some_and(|f| {
            // SAFETY: as in `insert_int`.
            unsafe { f(self.0.host, self.0.id, key.as_ref().into()) == HookStatus::HANDLED }
        })
    }

    /// The whole dictionary, bencoded. [`Dict::parse`](crate::Dict::parse) reads it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(f) = self.0.api.entry().encode() {
            // SAFETY: as in `insert_int`; the sink lives through the call.
            unsafe { f(self.0.host, self.0.id, Sink::to(&mut bytes)) };
        }
        bytes
    }
}

impl fmt::Display for Entry<'_> {
    /// One line, as libtorrent's `entry::to_string(true)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Value::parse(&self.encode()) {
            Some((value, _)) => value.fmt(f),
            None => f.write_str("{ }"),
        }
    }
}
