//! An alert as a plugin sees it.

use std::fmt;

use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};

use crate::bencode::Dict;
use crate::value::{AlertCategory, PeerHandle, PluginId, TorrentHandle};

/// Wire form of [`Alert`]. What grows is in `fields`, which are bencoded.
#[doc(hidden)]
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
#[allow(missing_docs)]
pub struct AlertRaw<'a> {
    pub alert_type: u32,
    pub category: AlertCategory,
    pub torrent: TorrentHandle,
    pub peer: PeerHandle,
    pub plugin: PluginId,
    pub kind: u32,
    pub timestamp: u64,
    pub what: RStr<'a>,
    pub message: RStr<'a>,
    pub fields: RSlice<'a, u8>,
    pub payload: RSlice<'a, u8>,
}

/// Something that happened (libtorrent's `alert`). It is borrowed for the call, from outside the queue: posting another
/// alert meanwhile is fine.
#[derive(Clone, Copy)]
pub struct Alert<'a>(AlertRaw<'a>);

impl<'a> From<AlertRaw<'a>> for Alert<'a> {
    fn from(raw: AlertRaw<'a>) -> Self {
        Self(raw)
    }
}

/// Alert types above this one are plugins' own (libtorrent's `user_alert_id`).
pub const USER_ALERT_ID: u32 = 10_000;

impl<'a> Alert<'a> {
    /// Its number, by which programs tell alerts apart (libtorrent's `type()`).
    pub fn alert_type(&self) -> u32 {
        self.0.alert_type
    }

    /// Its name (libtorrent's `what()`).
    pub fn what(&self) -> &'a str {
        self.0.what.as_str()
    }

    /// The event in words.
    pub fn message(&self) -> &'a str {
        self.0.message.as_str()
    }

    /// What it is about.
    pub fn category(&self) -> AlertCategory {
        self.0.category
    }

    /// The torrent that it is about.
    pub fn torrent(&self) -> Option<TorrentHandle> {
        (self.0.torrent != TorrentHandle::INVALID).then_some(self.0.torrent)
    }

    /// The connection that it is about.
    pub fn peer(&self) -> Option<PeerHandle> {
        (self.0.peer != PeerHandle::INVALID).then_some(self.0.peer)
    }

    /// When it was posted, in milliseconds on the session's clock.
    pub fn timestamp(&self) -> u64 {
        self.0.timestamp
    }

    /// Its details, by libtorrent's names where it has them.
    pub fn fields(&self) -> Dict<'a> {
        self.0.fields.into()
    }

    /// Of a plugin's own alert: which plugin posted it, the plugin's number for its sort, and its payload.
    pub fn custom(&self) -> Option<(PluginId, u32, &'a [u8])> {
        (self.0.alert_type > USER_ALERT_ID).then_some((self.0.plugin, self.0.kind, self.0.payload.as_slice()))
    }
}

impl fmt::Debug for Alert<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what(), self.message())
    }
}
