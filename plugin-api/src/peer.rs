//! A live connection, as a hook sees it.
#![allow(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use crate::answer::{Consent, HookStatus};
use crate::bencode::Dict;
use crate::cipher_plugin::CipherBox;
use crate::context::Scope;
use crate::error::{ErrorCode, Operation, Severity};
use crate::peer_plugin::PeerBox;
use crate::torrent::Torrent;
use crate::value::{
    ConnectionType, Endpoint, PeerHandle, PeerId, PieceIndex, PluginId, Reserved, TorrentHandle,
};

/// The yes/no questions about a connection, answered at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PeerFlags(pub(crate) u32);

macro_rules! peer_flags {
    ($( $(#[doc = $doc:literal])* $FLAG:ident = $bit:literal, fn $name:ident; )*) => {
        impl PeerFlags {
            /// What is said of a connection that is gone.
            const GONE: Self = Self(Self::CHOKED.0 | Self::PEER_CHOKED.0 | Self::DISCONNECTING.0 | Self::FAILED.0);
            $( $(#[doc = $doc])* pub const $FLAG: Self = Self(1 << $bit); )*

            #[doc(hidden)]
            pub const fn from_bits(bits: u32) -> Self {
                Self(bits)
            }
            /// The bits.
            pub const fn bits(self) -> u32 {
                self.0
            }
            /// Whether every flag of `other` is set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
            /// With or without a flag.
            #[must_use]
            pub const fn with(self, flag: Self, on: bool) -> Self {
                if on { Self(self.0 | flag.0) } else { Self(self.0 & !flag.0) }
            }
        }

        impl Peer<'_> {
            $( $(#[doc = $doc])* #[inline] pub fn $name(&self) -> bool { self.flags().contains(PeerFlags::$FLAG) } )*
        }
    };
}

peer_flags! {
    /// The peer has every piece. `false` until the torrent's metadata is known.
    SEED = 0, fn is_seed;
    /// The peer said that it only uploads, or is a seed.
    UPLOAD_ONLY = 1, fn upload_only;
    /// We are interested in the peer.
    INTERESTING = 2, fn is_interesting;
    /// We choke the peer.
    CHOKED = 3, fn is_choked;
    /// The peer is interested in us.
    PEER_INTERESTED = 4, fn is_peer_interested;
    /// The peer chokes us.
    PEER_CHOKED = 5, fn has_peer_choked;
    /// The connection is half open.
    CONNECTING = 6, fn is_connecting;
    /// The connection is being closed: true from the first `disconnect` on, also within the same hook.
    DISCONNECTING = 7, fn is_disconnecting;
    /// We opened the connection.
    OUTGOING = 8, fn is_outgoing;
    /// The address is private, link-local or loopback.
    LOCAL_NETWORK = 9, fn on_local_network;
    /// The peer takes no unchoke slot.
    IGNORE_UNCHOKE_SLOTS = 10, fn ignore_unchoke_slots;
    /// The connection ends, or ended, as a failure of the peer.
    FAILED = 11, fn failed;
    /// The peer is believed to have the metadata.
    HAS_METADATA = 12, fn has_metadata;
    /// The handshakes and the first bitfield are not done yet.
    IN_HANDSHAKE = 13, fn in_handshake;
}

/// A connection, for as long as the context stays borrowed (libtorrent's `peer_connection_handle`).
///
/// It points at the context rather than copying it: re-reading two freshly stored words as one was measured at 10 ns a
/// call. All methods may be called at any time; what they change takes effect when the hook has returned, except for
/// marks, which are visible at once.
pub struct Peer<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) handle: PeerHandle,
}

/// Why a name of an extended message could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// Another plugin on this connection has the name.
    NameTaken,
    /// All 255 ids are given out, or our extended handshake is already on its way.
    TooLate,
}

/// Which way the message of a log line went (libtorrent's `peer_log_alert::direction_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A message that was received.
    IncomingMessage = 0,
    /// A message that was sent.
    OutgoingMessage = 1,
    /// Bytes that were received.
    Incoming = 2,
    /// Bytes that were sent.
    Outgoing = 3,
    /// Neither.
    Info = 4,
}

/// One call of the host's peer table: the status, or `GONE` on a host that does not have the function.
macro_rules! ask {
    ($self:ident . $table:ident . $f:ident ( $( $arg:expr ),* )) => {
        match $self.scope.api.$table().$f() {
            // SAFETY: the scope came from the host with its context, which is borrowed; references live through the call.
            Some(f) => unsafe { f($self.scope.host, $self.handle, $( $arg ),*) },
            None => HookStatus::GONE,
        }
    };
}
pub(crate) use ask;

impl<'a> Peer<'a> {
    #[inline]
    pub(crate) fn open(scope: &'a Scope, handle: PeerHandle) -> Option<Self> {
        let peer = Self { scope, handle };
        let mut bits = 0;
        (ask!(peer.peer.flags(&mut bits)) != HookStatus::GONE).then_some(peer)
    }

    /// The handle, to keep.
    #[inline]
    pub fn handle(&self) -> PeerHandle {
        self.handle
    }

    /// The yes/no questions at once. Of a connection that is gone: closed, failed, and both sides choked.
    #[inline]
    pub fn flags(&self) -> PeerFlags {
        let mut bits = PeerFlags::GONE.0;
        ask!(self.peer.flags(&mut bits));
        PeerFlags(bits)
    }

    /// What kind of connection it is (libtorrent's `type`).
    pub fn connection_type(&self) -> ConnectionType {
        let mut kind = 0;
        ask!(self.peer.connection_type(&mut kind));
        ConnectionType(kind)
    }

    /// The BitTorrent side of the handle; `None` for a web seed.
    pub fn bt(&self) -> Option<BtPeer<'a>> {
        (self.connection_type() == ConnectionType::BITTORRENT)
            .then_some(BtPeer { scope: self.scope, handle: self.handle })
    }

    /// The peer's id; zeros before its handshake.
    pub fn pid(&self) -> PeerId {
        let mut id = PeerId([0; 20]);
        ask!(self.peer.pid(&mut id));
        id
    }

    /// Whether the peer has a piece; `false` for a number out of range.
    pub fn has_piece(&self, piece: PieceIndex) -> bool {
        ask!(self.peer.has_piece(piece)) == HookStatus::HANDLED
    }

    /// The torrent that the connection belongs to. `None` before that is known (`on_unknown_torrent`).
    pub fn associated_torrent(&self) -> Option<Torrent<'a>> {
        let mut torrent = TorrentHandle::INVALID;
        ask!(self.peer.associated_torrent(&mut torrent));
        Torrent::open(self.scope, torrent)
    }

    /// The peer's address. The port of an incoming connection is not the one it listens on.
    pub fn remote(&self) -> SocketAddr {
        let mut endpoint = Endpoint::UNSPECIFIED;
        ask!(self.peer.remote(&mut endpoint));
        endpoint.into()
    }

    /// Our address on this connection; unspecified before it is connected.
    pub fn local_endpoint(&self) -> SocketAddr {
        let mut endpoint = Endpoint::UNSPECIFIED;
        ask!(self.peer.local_endpoint(&mut endpoint));
        endpoint.into()
    }

    /// Chokes the peer, and has the unchoke slots given out anew. Nothing happens if it is choked.
    pub fn choke_this_peer(&self) {
        ask!(self.peer.choke());
    }

    /// Unchokes the peer if a slot is free, or if it needs none.
    pub fn maybe_unchoke_this_peer(&self) {
        ask!(self.peer.maybe_unchoke());
    }

    /// Closes the connection. No plugin can veto it; the first reason given wins.
    pub fn disconnect(&self, error: ErrorCode, operation: Operation, severity: Severity) {
        ask!(self.peer.disconnect(error, operation, severity));
    }

    /// What the engine would be told if it wanted to close the connection for this reason: its own policy, and each
    /// attached plugin's last answer. No plugin is asked now, since hooks do not nest.
    pub fn can_disconnect(&self, error: ErrorCode) -> Consent {
        let refused = ask!(self.peer.can_disconnect(error)) == HookStatus::HANDLED;
        if refused { Consent::Refuse } else { Consent::Allow }
    }

    /// Queues raw bytes to be sent (libtorrent's `send_buffer`). They are not framed, not looked at, and count as
    /// protocol traffic. They stand before whatever the engine sends in reaction to the event of this hook.
    pub fn send_buffer(&self, bytes: &[u8]) {
        ask!(self.peer.send_buffer(bytes.into()));
    }

    /// Takes a name in the extended handshake (BEP 10). The host gives the id out, and writes it into `m`. To be called
    /// from `add_handshake`.
    ///
    /// # Errors
    /// [`RegisterError`], and the name is not announced.
    pub fn register_extended(&self, name: &str) -> Result<u8, RegisterError> {
        let mut id = 0;
        match ask!(self.peer.register_extended(name.into(), &mut id)) {
            HookStatus::HANDLED => Ok(id),
            HookStatus::DROPPED => Err(RegisterError::NameTaken),
            _ => Err(RegisterError::TooLate),
        }
    }

    /// Sends an extended message (BEP 10) under the id that the peer gave to `name` in its handshake; `false` if it gave
    /// none.
    pub fn send_extended(&self, name: &str, payload: &[u8]) -> bool {
        ask!(self.peer.send_extended(name.into(), payload.into())) == HookStatus::HANDLED
    }

    /// Attaches another plugin object to the connection, behind the ones that are there. Handshake hooks that are past
    /// are not repeated for it.
    pub fn add_extension(&self, plugin: PeerBox) {
        ask!(self.peer.add_extension(plugin));
    }

    /// The first plugin on this connection whose `type_name` is `name`.
    pub fn find_plugin(&self, name: &str) -> Option<PluginId> {
        let mut id = PluginId(u32::MAX);
        (ask!(self.peer.find_plugin(name.into(), &mut id)) == HookStatus::HANDLED).then_some(id)
    }

    /// Everything that is known of the peer (libtorrent's `get_peer_info`).
    pub fn peer_info(&self) -> PeerInfo {
        let asked = self.scope.api.peer().peer_info().and_then(|f| {
            // SAFETY: as in `ask!`; the sink lives through the call.
            self.scope.collect(|sink| unsafe { f(self.scope.host, self.handle, sink) })
        });
        PeerInfo(asked.unwrap_or_default())
    }

    /// Whether the peer is believed to have the torrent's metadata ([`has_metadata`](Self::has_metadata)), for a plugin that
    /// has heard. It is believed to until then, and whenever it says what pieces it has.
    pub fn set_has_metadata(&self, has: bool) {
        ask!(self.peer.set_has_metadata(has.into()));
    }

    /// When we last unchoked the peer, on the session's clock; when it connected if never.
    pub fn time_of_last_unchoke(&self) -> Duration {
        let mut ms = 0;
        ask!(self.peer.time_of_last_unchoke(&mut ms));
        Duration::from_millis(ms)
    }

    /// When the peer last saw a complete copy in the swarm, in seconds since 1970; 0 if it did not say.
    pub fn last_seen_complete(&self) -> i64 {
        let mut seconds = 0;
        ask!(self.peer.last_seen_complete(&mut seconds));
        seconds
    }

    /// Whether a `peer_log` line would be seen by anyone.
    pub fn should_log(&self, direction: Direction) -> bool {
        ask!(self.peer.should_log(direction as u8)) == HookStatus::HANDLED
    }

    /// Posts a `peer_log` alert with this text. (libtorrent formats it itself, and wrongly.)
    pub fn peer_log(&self, direction: Direction, event: &str, message: &str) {
        ask!(self.peer.peer_log(direction as u8, event.into(), message.into()));
    }

    /// Limits how much is sent to the peer, protocol included, in B/s; 0 is no limit. The limits of the torrent and of the
    /// session hold besides. [`PeerInfo::upload_limit`] tells what it is.
    pub fn set_upload_limit(&self, limit: u32) {
        ask!(self.peer.set_upload_limit(limit));
    }

    /// Limits how much is received from the peer, as above. [`PeerInfo::download_limit`] tells what it is.
    pub fn set_download_limit(&self, limit: u32) {
        ask!(self.peer.set_download_limit(limit));
    }

    /// Bytes that wait to be sent.
    pub fn send_queue_len(&self) -> u64 {
        let mut bytes = 0;
        ask!(self.peer.send_queue_len(&mut bytes));
        bytes
    }

    /// The port on which the peer takes connections: that of its address if we connected to it, the one that its extended
    /// handshake names (BEP 10) if it connected to us. `None` if it named none.
    pub fn listen_port(&self) -> Option<u16> {
        let mut port = 0;
        ask!(self.peer.listen_port(&mut port));
        (port != 0).then_some(port)
    }
}

impl PartialEq for Peer<'_> {
    /// Whether both are the same connection.
    fn eq(&self, other: &Self) -> bool {
        self.handle == other.handle
    }
}

/// The BitTorrent side of a connection (libtorrent's `bt_peer_connection_handle`).
pub struct BtPeer<'a> {
    scope: &'a Scope,
    handle: PeerHandle,
}

impl BtPeer<'_> {
    /// Whether the message that is being handled has been received completely. Always so inside a message hook, unless
    /// the plugin asked for fragments.
    pub fn packet_finished(&self) -> bool {
        ask!(self.bt.packet_finished()) == HookStatus::HANDLED
    }

    /// Whether the peer's handshake announced the extension protocol (BEP 10).
    pub fn support_extensions(&self) -> bool {
        self.reserved().extension_protocol()
    }

    /// Whether this connection is encrypted, or went through the encryption handshake. libtorrent's name says
    /// capability; its answer is this.
    pub fn supports_encryption(&self) -> bool {
        Peer { scope: self.scope, handle: self.handle }
            .peer_info()
            .flag(PeerInfo::RC4_ENCRYPTED | PeerInfo::PLAINTEXT_ENCRYPTED)
    }

    /// Encrypts what is queued from now on; what is queued already goes out as it would have. `None` ends encryption
    /// behind the bytes that are queued now. A cipher replaces the one before it.
    pub fn switch_send_crypto(&self, cipher: Option<CipherBox>) {
        ask!(self.bt.switch_send_crypto(cipher.into()));
    }

    /// Decrypts what follows the message that is being handled, also if it has been received already. `None` ends it.
    pub fn switch_recv_crypto(&self, cipher: Option<CipherBox>) {
        ask!(self.bt.switch_recv_crypto(cipher.into()));
    }

    /// The reserved bytes of the peer's handshake; zeros before it.
    pub fn reserved(&self) -> Reserved {
        let mut reserved = Reserved([0; 8]);
        ask!(self.bt.reserved(&mut reserved));
        reserved
    }
}

/// What is known of a peer at one moment (libtorrent's `peer_info`), by libtorrent's field names.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PeerInfo(Vec<u8>);

macro_rules! peer_info {
    ($( $(#[doc = $doc:literal])* $name:ident; )*) => {
        impl PeerInfo {
            $( $(#[doc = $doc])* pub fn $name(&self) -> i64 { self.int(stringify!($name)) } )*
        }
    };
}

peer_info! {
    /// Payload received, in bytes.
    total_download;
    /// Payload sent, in bytes.
    total_upload;
    /// Received, in B/s, protocol included.
    down_speed;
    /// Sent, in B/s, protocol included.
    up_speed;
    /// Payload received, in B/s.
    payload_down_speed;
    /// Payload sent, in B/s.
    payload_up_speed;
    /// Milliseconds since our last request.
    last_request;
    /// Milliseconds since anything was sent or received.
    last_active;
    /// Requests that are on their way, blocks.
    download_queue_length;
    /// How many requests the engine wants on their way, blocks.
    target_dl_queue_length;
    /// Requests of the peer that we have not answered, blocks.
    upload_queue_length;
    /// Bytes requested and not received.
    queue_bytes;
    /// Bytes that the rate limits let us receive before more is granted; 0 too where no limit applies.
    receive_quota;
    /// Bytes that the rate limits let us send before more is granted; 0 too where no limit applies.
    send_quota;
    /// The peer's own limit of what it sends, in B/s; 0 is none.
    download_limit;
    /// The peer's own limit of what is sent to it, in B/s; 0 is none.
    upload_limit;
    /// How often the connection failed.
    failcount;
    /// Pieces that failed their hash check with this peer's help.
    num_hashfails;
    /// Mean milliseconds from a request to its block (libtorrent calls it `rtt`).
    rtt;
    /// Pieces that the peer has.
    num_pieces;
    /// How much of the torrent the peer has, 0 to 1,000,000.
    progress_ppm;
    /// Who told us of the peer: all [`PeerSource`](crate::PeerSource) bits so far.
    source;
    /// libtorrent's `peer_info::flags`.
    flags;
    /// Whether the peer speaks ut_holepunch (BEP 55): 1 if it does.
    supports_holepunch;
}

impl PeerInfo {
    /// Bit of [`flags`](Self::flags): somebody introduced us, and both sides called (BEP 55).
    pub const HOLEPUNCHED: i64 = 1 << 15;
    /// Bit of [`flags`](Self::flags): the connection is one of uTP (BEP 29).
    pub const UTP_SOCKET: i64 = 1 << 17;
    /// Bit of [`flags`](Self::flags): the connection is RC4-encrypted.
    pub const RC4_ENCRYPTED: i64 = 1 << 19;
    /// Bit of [`flags`](Self::flags): the encryption handshake settled on plain text.
    pub const PLAINTEXT_ENCRYPTED: i64 = 1 << 20;
    /// Bit of [`flags`](Self::flags): the peer is the optimistic unchoke.
    pub const OPTIMISTIC_UNCHOKE: i64 = 1 << 11;
    /// Bit of [`flags`](Self::flags): the peer keeps us waiting.
    pub const SNUBBED: i64 = 1 << 12;
    /// Bit of [`flags`](Self::flags): a piece with this peer's help failed, and it is under watch.
    pub const ON_PAROLE: i64 = 1 << 9;

    /// The client's name: guessed from its id, or as its extended handshake says.
    pub fn client(&self) -> &str {
        self.dict().str("client").unwrap_or_default()
    }

    /// Whether any of these bits of [`flags`](Self::flags) is set.
    pub fn flag(&self, bits: i64) -> bool {
        self.flags() & bits != 0
    }

    /// All fields, also those that are newer than this plugin.
    pub fn dict(&self) -> Dict<'_> {
        Dict::parse(&self.0).map_or_else(Dict::default, |(dict, _)| dict)
    }

    fn int(&self, name: &str) -> i64 {
        self.dict().int(name).unwrap_or(0)
    }
}
