//! Plugins on connections (libtorrent's `peer_plugin`).
#![allow(unsafe_code)]

use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};

use crate::answer::{Consent, Keep, Request, Verdict};
use crate::bencode::Dict;
use crate::context::PeerContext;
use crate::entry::{Entry, EntryRaw};
use crate::error::ErrorCode;
use crate::table::hook_table;
use crate::value::{PeerRequest, PieceIndex, Reserved};

/// Which pieces a peer has, as its bitfield message says.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Bitfield<'a> {
    bytes: RSlice<'a, u8>,
    len: u32,
}

impl<'a> Bitfield<'a> {
    #[doc(hidden)]
    pub fn new(bytes: &'a [u8], len: u32) -> Self {
        Self { bytes: bytes.into(), len }
    }

    /// How many bits there are: the number of pieces, or eight for each byte received while that is unknown.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// How many are set.
    pub fn count(&self) -> u32 {
        (0..self.len).map(|i| u32::from(self.get(i))).sum()
    }

    /// Whether bit `i` is set; `false` out of range.
    pub fn get(&self, i: u32) -> bool {
        let byte = self.bytes.as_slice().get(i as usize / 8).copied().unwrap_or(0);
        i < self.len && byte << (i % 8) & 0x80 != 0
    }

    /// The bits as they came, the first in the highest bit of the first byte (BEP 3).
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes.as_slice()
    }
}

hook_table! {
    /// Sees one connection. libtorrent: `peer_plugin`, all 42 members.
    ///
    /// Every hook runs on the network thread, and has a default that changes nothing. An `on_` hook comes before the
    /// engine updates its own state for that message; a `sent_` hook comes when the message has been queued and the state
    /// updated, and never for a web seed. A hook that panics closes the connection, and the plugin object is never called again.
    trait PeerPlugin, context PeerContext, set PeerHooks, wire PeerVtable as PeerVtableRef, boxed PeerBox, flat PeerTable, object PeerObject;
    hooks {
        /// A name for [`Peer::find_plugin`](crate::Peer::find_plugin). Asked once, when the plugin is attached. libtorrent: `type`.
        fn type_name() -> &'static str => RStr<'static> = "";
        /// Our extended handshake (BEP 10) is being made; `entry` holds the engine's keys and those of plugins before this
        /// one. Only if the peer speaks the extension protocol; once per connection.
        fn add_handshake(entry: Entry<'_> => EntryRaw<'_>) -> () = ();
        /// The connection ends; once, and nothing comes after it. `error` 0 is an end without a reason.
        fn on_disconnect(error: ErrorCode => ErrorCode) -> () = ();
        /// An outgoing connection is up, and not a byte has been sent. Never for incoming ones.
        fn on_connected() -> () = ();
        /// The peer's handshake came, and its info-hash and id were accepted.
        fn on_handshake(reserved: Reserved => Reserved) -> Keep = Keep::Stay;
        /// The peer's extended handshake came (BEP 10); peers may send it more than once.
        fn on_extension_handshake(message: Dict<'_> => RSlice<'_, u8>) -> Keep = Keep::Stay;
        /// CHOKE. For a peer without the fast extension, each outstanding request is rejected afterwards (`on_reject`), even
        /// if this was handled.
        fn on_choke() -> Verdict = Verdict::Continue;
        /// UNCHOKE.
        fn on_unchoke() -> Verdict = Verdict::Continue;
        /// INTERESTED. Also implied by a request of a peer that never said so.
        fn on_interested() -> Verdict = Verdict::Continue;
        /// NOT INTERESTED.
        fn on_not_interested() -> Verdict = Verdict::Continue;
        /// HAVE. `piece` is unchecked.
        fn on_have(piece: PieceIndex => PieceIndex) -> Verdict = Verdict::Continue;
        /// The peer lost a piece (`lt_donthave`, BEP 54). `piece` is in range.
        fn on_dont_have(piece: PieceIndex => PieceIndex) -> Verdict = Verdict::Continue;
        /// BITFIELD. Its size is right, or the metadata unknown.
        fn on_bitfield(bitfield: Bitfield<'_> => Bitfield<'_>) -> Verdict = Verdict::Continue;
        /// HAVE ALL (BEP 6).
        fn on_have_all() -> Verdict = Verdict::Continue;
        /// HAVE NONE (BEP 6). Also implied if a peer begins with anything else than its pieces.
        fn on_have_none() -> Verdict = Verdict::Continue;
        /// ALLOWED FAST (BEP 6). `piece` is unchecked.
        fn on_allowed_fast(piece: PieceIndex => PieceIndex) -> Verdict = Verdict::Continue;
        /// REQUEST. Unchecked. Handled means: the plugin serves or rejects it.
        fn on_request(request: PeerRequest => PeerRequest) -> Verdict = Verdict::Continue;
        /// PIECE: a whole block, whose place is right. Handled means: it is not written, and not asked of this peer again.
        fn on_piece(piece: PeerRequest => PeerRequest, data: &[u8] => RSlice<'_, u8>) -> Verdict = Verdict::Continue;
        /// CANCEL. Unchecked.
        fn on_cancel(request: PeerRequest => PeerRequest) -> Verdict = Verdict::Continue;
        /// REJECT (BEP 6), or implied by a choke, a cancel, or an empty PIECE of a peer that does not speak it.
        fn on_reject(request: PeerRequest => PeerRequest) -> Verdict = Verdict::Continue;
        /// SUGGEST PIECE (BEP 6). `piece` is unchecked.
        fn on_suggest(piece: PieceIndex => PieceIndex) -> Verdict = Verdict::Continue;
        /// HAVE ALL was queued.
        fn sent_have_all() -> () = ();
        /// HAVE NONE was queued.
        fn sent_have_none() -> () = ();
        /// REJECT was queued; only for peers with the fast extension.
        fn sent_reject_request(request: PeerRequest => PeerRequest) -> () = ();
        /// ALLOWED FAST was queued.
        fn sent_allow_fast(piece: PieceIndex => PieceIndex) -> () = ();
        /// SUGGEST PIECE was queued.
        fn sent_suggest(piece: PieceIndex => PieceIndex) -> () = ();
        /// CANCEL was queued.
        fn sent_cancel(request: PeerRequest => PeerRequest) -> () = ();
        /// REQUEST was queued.
        fn sent_request(request: PeerRequest => PeerRequest) -> () = ();
        /// CHOKE was queued.
        fn sent_choke() -> () = ();
        /// UNCHOKE was queued.
        fn sent_unchoke() -> () = ();
        /// INTERESTED was queued.
        fn sent_interested() -> () = ();
        /// NOT INTERESTED was queued.
        fn sent_not_interested() -> () = ();
        /// HAVE was queued.
        fn sent_have(piece: PieceIndex => PieceIndex) -> () = ();
        /// PIECE was queued: one whole block.
        fn sent_piece(piece: PeerRequest => PeerRequest) -> () = ();
        /// This many bytes of blocks went to the socket: no headers, no other messages, nothing a plugin sent itself.
        fn sent_payload(bytes: u32 => u32) -> () = ();
        /// The engine wants to close the connection for a reason of policy. Asked as often as the reason holds; never for
        /// protocol and socket errors, bans, limits, pauses and shutdown.
        fn can_disconnect(error: ErrorCode => ErrorCode) -> Consent = Consent::Allow;
        /// An extended message (BEP 10) under one of our ids, but those of the engine. `length` is that of the payload in
        /// bytes; `body` is all of it, unless the plugin [`wants_fragments`](Self::wants_fragments). A message that nobody
        /// handles is ignored.
        fn on_extended(length: u32 => u32, message: u8 => u8, body: &[u8] => RSlice<'_, u8>) -> Verdict = Verdict::Continue;
        /// A message with an id that the engine does not know. As `on_extended`; if nobody handles it, the peer is
        /// disconnected.
        fn on_unknown_message(length: u32 => u32, message: u8 => u8, body: &[u8] => RSlice<'_, u8>) -> Verdict = Verdict::Continue;
        /// A piece with a block of this peer passed its hash check.
        fn on_piece_pass(piece: PieceIndex => PieceIndex) -> () = ();
        /// A piece with a block of this peer failed its hash check.
        fn on_piece_failed(piece: PieceIndex => PieceIndex) -> () = ();
        /// Once per second, in every phase of the connection.
        fn tick() -> () = ();
        /// A REQUEST is about to be sent. To a web seed, `request` is a run of neighbouring blocks of one piece.
        fn write_request(request: PeerRequest => PeerRequest) -> Request = Request::Continue;
        /// Whether `on_extended` and `on_unknown_message` come for each part that arrives, with what is there so far, rather
        /// than once with the whole. Asked once, when the plugin is attached. (Beyond libtorrent, where they always do.)
        fn wants_fragments() -> bool => u8 = false;
    }
}
