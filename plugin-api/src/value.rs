//! Plain values that cross the boundary: handles, indices, addresses, hashes.
//!
//! None of these may ever change its layout: what must grow gets a new type.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use abi_stable::StableAbi;

macro_rules! handle {
    ($(#[$meta:meta])* $Name:ident) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(u64);

        impl $Name {
            /// A handle that names nothing, ever.
            pub const INVALID: Self = Self(0);

            #[doc(hidden)]
            pub const fn from_raw(raw: u64) -> Self {
                Self(raw)
            }

            #[doc(hidden)]
            pub const fn into_raw(self) -> u64 {
                self.0
            }
        }
    };
}

handle! {
    /// Names a connection (libtorrent's `peer_connection_handle`). Inert: it can be stored, compared, hashed, sent to
    /// another thread, and outlive the connection. Doing anything with it takes a context: `cx.peer(handle)`.
    PeerHandle
}
handle! {
    /// Names a torrent (libtorrent's `torrent_handle`). Inert, like [`PeerHandle`]: `cx.torrent(handle)` opens it.
    TorrentHandle
}

/// Names a loaded plugin within its session, in the order of registration.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginId(pub u32);

/// The number of a piece, as the wire has it: in inbound hooks it may be negative or far out of range, since no engine
/// has looked at it yet (libtorrent's `piece_index_t`).
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(pub i32);

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A range of bytes within a piece, in bytes (libtorrent's `peer_request`). Unchecked in inbound hooks.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerRequest {
    /// Which piece.
    pub piece: PieceIndex,
    /// Offset of the first byte within the piece, in bytes.
    pub start: i32,
    /// Length in bytes.
    pub length: i32,
}

/// The 20 bytes by which a peer names itself (BEP 20). All zero before its handshake.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId(pub [u8; 20]);

/// The eight reserved bytes of the BitTorrent handshake, which announce what a peer can do (BEP 4).
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// The peer speaks the extension protocol (BEP 10).
    pub const fn extension_protocol(self) -> bool {
        self.0[5] & 0x10 != 0
    }

    /// The peer speaks the fast extension (BEP 6).
    pub const fn fast(self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// The peer runs a DHT node (BEP 5).
    pub const fn dht(self) -> bool {
        self.0[7] & 0x01 != 0
    }
}

/// The identity of a torrent: a v1 hash, a v2 hash, or both (libtorrent's `info_hash_t`; BEP 3, BEP 52).
#[repr(C)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InfoHashes {
    v1: [u8; 20],
    v2: [u8; 32],
    has: u32,
}

impl InfoHashes {
    /// Of the hashes that the torrent has.
    pub fn new(v1: Option<[u8; 20]>, v2: Option<[u8; 32]>) -> Self {
        let has = u32::from(v1.is_some()) | u32::from(v2.is_some()) << 1;
        Self { v1: v1.unwrap_or_default(), v2: v2.unwrap_or_default(), has }
    }

    /// The SHA-1 of the info dictionary.
    pub fn v1(&self) -> Option<[u8; 20]> {
        (self.has & 1 != 0).then_some(self.v1)
    }

    /// The SHA-256 of the info dictionary.
    pub fn v2(&self) -> Option<[u8; 32]> {
        (self.has & 2 != 0).then_some(self.v2)
    }
}

impl fmt::Display for InfoHashes {
    /// The best hash there is (v2 before v1), in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v2 = self.v2();
        let best: &[u8] = v2.as_ref().map_or(&self.v1, |hash| hash);
        best.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InfoHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHashes({self})")
    }
}

/// An address and a port as they cross the boundary; authors see [`SocketAddr`].
#[doc(hidden)]
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// IPv6 as it is; IPv4 in the last four bytes.
    ip: [u8; 16],
    scope: u32,
    port: u16,
    v4: u8,
    reserved: u8,
}

impl Endpoint {
    /// `[::]:0`, libtorrent's "unspecified".
    pub const UNSPECIFIED: Self = Self { ip: [0; 16], scope: 0, port: 0, v4: 0, reserved: 0 };
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let (ip, scope, v4) = match address {
            SocketAddr::V4(a) => (a.ip().to_ipv6_mapped().octets(), 0, 1),
            SocketAddr::V6(a) => (a.ip().octets(), a.scope_id(), 0),
        };
        Self { ip, scope, port: address.port(), v4, reserved: 0 }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(e: Endpoint) -> Self {
        let ip = Ipv6Addr::from(e.ip);
        match (e.v4, ip.to_canonical()) {
            (1, IpAddr::V4(v4)) => SocketAddrV4::new(v4, e.port).into(),
            _ => SocketAddrV6::new(ip, e.port, 0, e.scope).into(),
        }
    }
}

macro_rules! code {
    ($(#[$meta:meta])* $Name:ident($int:ty) { $( $(#[$fmeta:meta])* $NAME:ident = $value:expr ),* $(,)? }) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(pub $int);
        impl $Name {
            $( $(#[$fmeta])* pub const $NAME: Self = Self($value); )*
        }
    };
}

macro_rules! flags {
    ($(#[$meta:meta])* $Name:ident($int:ty) { $( $(#[$fmeta:meta])* $NAME:ident = $value:expr ),* $(,)? }) => {
        code! { $(#[$meta])* $Name($int) { $( $(#[$fmeta])* $NAME = $value ),* } }
        impl $Name {
            /// No flag.
            pub const NONE: Self = Self(0);
            /// Whether every flag of `other` is set here.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
            /// Whether any flag of `other` is set here.
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }
        }
        impl std::ops::BitOr for $Name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
        impl std::ops::BitAnd for $Name {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }
    };
}

code! {
    /// What kind of connection it is (libtorrent's `connection_type`). Later kinds are ordinary values.
    ConnectionType(u8) {
        /// A BitTorrent peer.
        BITTORRENT = 0,
        /// A web seed (BEP 19).
        URL_SEED = 1,
        /// A web seed (BEP 17).
        HTTP_SEED = 2,
    }
}

impl ConnectionType {
    /// libtorrent's name of the kind.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BITTORRENT => "bittorrent",
            Self::URL_SEED => "url_seed",
            Self::HTTP_SEED => "http_seed",
            _ => "unknown",
        }
    }
}

code! {
    /// When a plugin is attached to a connection.
    Attach(u8) {
        /// An outgoing connection that is about to be tried.
        OUTGOING = 0,
        /// An incoming connection whose info-hash named this torrent.
        INCOMING = 1,
        /// A connection that was there before the plugin: its handshake hooks may be past.
        LATE = 2,
    }
}

code! {
    /// How a piece came to be there.
    PieceOrigin(u8) {
        /// Downloaded, and its hash was right.
        DOWNLOAD = 0,
        /// Found on disk by a check.
        CHECK = 1,
        /// Known from resume data.
        RESUME = 2,
    }
}

code! {
    /// Where an inbound hook comes from.
    MessageOrigin(u8) {
        /// The peer sent the message.
        WIRE = 0,
        /// The engine implied it: a reject after a choke of a peer without the fast extension, interest after a request, have-none
        /// before the first HAVE, or anything of a web seed.
        IMPLIED = 1,
    }
}

code! {
    /// What a torrent is doing (libtorrent's `torrent_status::state_t`, same values).
    TorrentState(u8) {
        /// The files are being hashed.
        CHECKING_FILES = 1,
        /// The info dictionary is fetched from peers.
        DOWNLOADING_METADATA = 2,
        /// Downloading.
        DOWNLOADING = 3,
        /// All wanted pieces are there, but not all pieces.
        FINISHED = 4,
        /// All pieces are there.
        SEEDING = 5,
        /// The files on disk are being looked at.
        CHECKING_RESUME_DATA = 7,
    }
}

impl TorrentState {
    /// libtorrent's name of the state.
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "checking_files",
            2 => "downloading_metadata",
            3 => "downloading",
            4 => "finished",
            5 => "seeding",
            7 => "checking_resume_data",
            _ => "unknown",
        }
    }
}

flags! {
    /// Who told us of a peer (libtorrent's `peer_source_flags_t`, same bits).
    PeerSource(u8) {
        /// A tracker.
        TRACKER = 0x01,
        /// The DHT.
        DHT = 0x02,
        /// Peer exchange.
        PEX = 0x04,
        /// Local service discovery.
        LSD = 0x08,
        /// Resume data, or the parameters with which the torrent was added.
        RESUME_DATA = 0x10,
        /// The peer connected to us.
        INCOMING = 0x20,
    }
}

impl PeerSource {
    /// libtorrent's name of one source; "other" for none or several.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TRACKER => "tracker",
            Self::DHT => "dht",
            Self::PEX => "pex",
            Self::LSD => "lsd",
            Self::RESUME_DATA => "resume_data",
            Self::INCOMING => "incoming",
            _ => "other",
        }
    }
}

flags! {
    /// What became of a peer that was offered (libtorrent's `add_peer_flags_t`, same bits).
    AddPeerFlags(u8) {
        /// The address is new to the torrent.
        FIRST_TIME = 0x02,
        /// The address was refused; [`Refusal`] says why.
        FILTERED = 0x04,
    }
}

code! {
    /// Why an offered peer was refused.
    Refusal(u8) {
        /// It was not.
        NONE = 0,
        /// The IP or port filter blocks it.
        FILTER = 1,
        /// The list of peers is full.
        LIST_FULL = 2,
        /// No such address can be connected to: port 0, or unspecified.
        UNUSABLE = 3,
        /// The peer is banned.
        BANNED = 4,
        /// The torrent is private: its peers come from its trackers alone (BEP 27).
        PRIVATE = 5,
    }
}

flags! {
    /// What is said of a peer that is passed on (BEP 11; libtorrent's `pex_flags_t`, same bits).
    PexFlags(u8) {
        /// It prefers encryption.
        ENCRYPTION = 0x01,
        /// It has everything, or only uploads.
        SEED = 0x02,
        /// It speaks uTP (BEP 29).
        UTP = 0x04,
        /// It speaks ut_holepunch (BEP 55).
        HOLEPUNCH = 0x08,
        /// Whoever passes it on connected to it, not the other way round: it can be reached. (Not in libtorrent.)
        REACHABLE = 0x10,
    }
}

flags! {
    /// What a torrent was told to do (libtorrent's `torrent_flags_t`, same bits).
    TorrentFlags(u64) {
        /// It is paused.
        PAUSED = 1 << 4,
        /// It stops once its files have been checked.
        STOP_WHEN_READY = 1 << 10,
        /// It exchanges no peers with its peers (BEP 11).
        DISABLE_PEX = 1 << 21,
    }
}

flags! {
    /// Which gated callbacks a session plugin has (libtorrent's `feature_flags_t`, same bits). Derived from the
    /// overridden hooks.
    Features(u32) {
        /// `get_unchoke_priority`.
        OPTIMISTIC_UNCHOKE = 0x02,
        /// `on_tick`.
        TICK = 0x04,
        /// `on_dht_request`.
        DHT_REQUEST = 0x08,
        /// `on_alert`.
        ALERT = 0x10,
        /// `on_unknown_torrent`. It comes without this flag too: no connection is refused before it named its torrent.
        UNKNOWN_TORRENT = 0x20,
    }
}

flags! {
    /// What an alert is about (libtorrent's `alert_category_t`, same bits).
    AlertCategory(u32) {
        /// Errors.
        ERROR = 1 << 0,
        /// Peers that connect, leave, misbehave.
        PEER = 1 << 1,
        /// Port mapping.
        PORT_MAPPING = 1 << 2,
        /// Files.
        STORAGE = 1 << 3,
        /// Trackers.
        TRACKER = 1 << 4,
        /// Connections made and lost.
        CONNECT = 1 << 5,
        /// State changes of torrents and the session.
        STATUS = 1 << 6,
        /// Peers that a filter blocked.
        IP_BLOCK = 1 << 8,
        /// Limits that cost speed.
        PERFORMANCE_WARNING = 1 << 9,
        /// The DHT.
        DHT = 1 << 10,
        /// Statistics.
        STATS = 1 << 11,
        /// Log lines of the session.
        SESSION_LOG = 1 << 13,
        /// Log lines of torrents.
        TORRENT_LOG = 1 << 14,
        /// Log lines of connections.
        PEER_LOG = 1 << 15,
        /// Requests of peers.
        INCOMING_REQUEST = 1 << 16,
        /// What was asked of the DHT.
        DHT_OPERATION = 1 << 18,
        /// Files that are complete.
        FILE_PROGRESS = 1 << 21,
        /// Pieces that are complete.
        PIECE_PROGRESS = 1 << 22,
        /// Blocks that were uploaded.
        UPLOAD = 1 << 23,
        /// Blocks that were requested or received.
        BLOCK_PROGRESS = 1 << 24,
        /// Everything.
        ALL = u32::MAX,
    }
}

/// What the embedding program attached to a torrent when it added it (libtorrent's `client_data_t`): a number of its
/// own that the engine only hands on. 0 if it attached nothing.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Userdata(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_survive_the_crossing() {
        for text in ["1.2.3.4:5", "[::1]:6881", "[::ffff:1.2.3.4]:7", "0.0.0.0:0", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().expect("a literal address");
            assert_eq!(SocketAddr::from(Endpoint::from(address)), address);
        }
    }

    #[test]
    fn an_info_hash_shows_its_best_form() {
        assert_eq!(InfoHashes::new(Some([0xab; 20]), None).to_string(), "ab".repeat(20));
        assert_eq!(InfoHashes::new(Some([0xab; 20]), Some([1; 32])).to_string(), "01".repeat(32));
    }
}
