//! What is still to be done in this turn: hooks to be called, and what hooks asked for.
//!
//! A hook never runs inside another one. What it asks for, and what the engine's own state changes cause, is written down
//! here, and done in order once the hook has returned.

use std::net::SocketAddr;

use bytes::Bytes;
use pilotfish_plugin::{
    CipherBox, ErrorCode, InfoHashes, PeerBox, PeerHandle, PeerRequest, PeerSource, PexFlags,
    PieceIndex as RawPiece, PluginId, TorrentBox, TorrentHandle,
};

use super::pausing::PauseChange;
use crate::alert::Alert;
use crate::command::{AddTorrent, AddTorrentError, Ticket};
use crate::hooks::Place;
use crate::metainfo::BlockSpan;
use crate::torrent::BanReason;

/// One thing to be done.
#[derive(Debug)]
pub(super) enum Step {
    /// A message was queued: its `sent_` hook.
    Sent(PeerHandle, Sent),
    /// A block is to be requested, unless `write_request` has it otherwise.
    Request(PeerHandle, BlockSpan),
    /// Neighbouring blocks of a piece are to be requested of a web seed, unless `write_request` has it otherwise.
    RequestRun(PeerHandle, BlockSpan),
    /// A request of ours is void although the peer did not say so.
    ImpliedReject(PeerHandle, BlockSpan),
    /// Payload went to the socket.
    Payload(PeerHandle, u32),
    /// A connection is to be closed, if the plugins consent.
    AskDisconnect(PeerHandle, ErrorCode),
    /// A connection that is marked as closing ends.
    Disconnect(PeerHandle),
    /// A plugin object joins a connection.
    AttachPeer(PeerHandle, PluginId, Boxed<PeerBox>),
    /// What is queued behind this place is encrypted by this cipher, or by none.
    SwitchSendCipher { peer: PeerHandle, owner: PluginId, from: u64, cipher: Boxed<Option<CipherBox>> },
    /// What follows the message at hand is decrypted by this cipher, or by none.
    SwitchRecvCipher { peer: PeerHandle, owner: PluginId, cipher: Boxed<Option<CipherBox>> },
    /// A plugin object joins a torrent.
    AttachTorrent(TorrentHandle, PluginId, Boxed<TorrentBox>),
    /// A peer is offered to a torrent.
    OfferPeer(TorrentHandle, SocketAddr, PeerSource),
    /// A peer of which more is known is offered to a torrent.
    AddPeer {
        torrent: TorrentHandle,
        address: SocketAddr,
        source: PeerSource,
        flags: PexFlags,
        /// The peer that told of it, if one did.
        teller: Option<PeerHandle>,
    },
    /// An address is banned from a torrent, or from the session.
    Ban(Option<TorrentHandle>, SocketAddr, BanReason),
    /// A torrent is added.
    AddTorrent(Option<Ticket>, Result<Box<AddTorrent>, AddTorrentError>),
    /// A torrent is removed.
    RemoveTorrent(TorrentHandle, bool),
    /// A plugin or the embedding program wants other pieces: the torrent may be finished now, or not be any more.
    Wanted(TorrentHandle),
    /// A torrent is paused or resumed.
    Pause(TorrentHandle, PauseChange),
    /// The session is paused or resumed.
    PauseSession(bool),
    /// A torrent's files are hashed again.
    Recheck(TorrentHandle),
    /// A torrent's disk fails.
    FileError(TorrentHandle, String, String),
    /// A plugin is handed the hash of a block.
    BlockHash {
        torrent: TorrentHandle,
        plugin: PluginId,
        block: PeerRequest,
        sha1: Vec<u8>,
        error: ErrorCode,
    },
    /// A plugin is handed a block that it had read.
    BlockRead { torrent: TorrentHandle, plugin: PluginId, block: PeerRequest, data: Bytes, error: ErrorCode },
    /// Listeners hear of an alert.
    Alert(Box<Alert>),
    /// A hook panicked.
    Fault {
        /// Whose.
        plugin: PluginId,
        /// Which.
        hook: &'static str,
        /// On what.
        place: Place,
        /// What the panic said.
        text: String,
    },
}

impl Step {
    /// Whether a plugin object is on its way in it.
    pub(super) fn holds_plugin(&self) -> bool {
        use Step::{AttachPeer, AttachTorrent, SwitchRecvCipher, SwitchSendCipher};
        matches!(self, AttachPeer(..) | AttachTorrent(..) | SwitchSendCipher { .. } | SwitchRecvCipher { .. })
    }
}

/// A message of ours, as its `sent_` hook sees it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent {
    HaveAll,
    HaveNone,
    RejectRequest(PeerRequest),
    AllowFast(RawPiece),
    Suggest(RawPiece),
    Cancel(PeerRequest),
    Request(PeerRequest),
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(RawPiece),
    Piece(PeerRequest),
}

/// A plugin object on its way to its place.
pub(super) struct Boxed<B>(pub(super) B);

impl<B> std::fmt::Debug for Boxed<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("plugin object")
    }
}

/// The host's info-hashes as plugins see them.
pub(super) fn plugin_hashes(hashes: &crate::metainfo::InfoHashes) -> InfoHashes {
    InfoHashes::new(hashes.v1().copied(), hashes.v2().copied())
}
