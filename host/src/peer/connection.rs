//! One connection: what both sides said, and what is on its way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use pilotfish_plugin::{
    ConnectionType, ErrorCode, Operation, PeerFlags, PeerRequest, PieceIndex as RawPiece, PluginId, Severity,
    TorrentHandle,
};

use super::mse::{Greeting, Keys, Method};
use super::web::WebLink;
use super::{
    Allowance, Bitfield, Direction, Extensions, Introductions, Meter, Outbox, RequestLimits, RequestQueue,
    SendAhead, Transport,
};
use crate::metainfo::{BLOCK_SIZE, BlockSpan, PieceIndex};
use crate::wire::{Decoder, MAX_MESSAGE, Message, RawRequest, Reserved};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Outgoing, and not up yet.
    Connecting,
    /// Up; the peer's handshake has not come completely.
    Handshaking,
    /// An incoming one whose torrent is being got ready to serve it.
    Held,
    /// Both handshakes are done.
    Established,
}

/// Why and how a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The reason; no error if there is none.
    pub error: ErrorCode,
    /// What was being done.
    pub operation: Operation,
    /// Whose fault it is.
    pub severity: Severity,
}

/// What the encryption handshake of a connection led to (MSE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// What followed it.
    pub method: Method,
    /// The keys that both sides have.
    pub keys: Keys,
    /// The torrent that it was about.
    pub info_hash: [u8; 20],
}

/// The block that is arriving at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arriving {
    /// The place and size, as the peer says.
    pub request: RawRequest,
}

/// One connection to a peer.
#[derive(Debug)]
pub struct Connection {
    /// The peer's address.
    pub remote: SocketAddr,
    /// The address by which the torrent's list of peers knows it: with the port that it listens on, once that is known.
    pub known_as: SocketAddr,
    /// Our address, once connected.
    pub local: Option<SocketAddr>,
    /// Whether we opened it.
    pub outgoing: bool,
    /// What it goes by; TCP until it is connected.
    pub transport: Transport,
    /// Whether somebody introduced us, so that both call (BEP 55).
    pub holepunched: bool,
    /// Introductions by this peer, once there was one.
    pub introductions: Option<Box<Introductions>>,
    /// Its torrent, once known.
    pub torrent: Option<TorrentHandle>,
    /// How far it has come.
    pub phase: Phase,
    /// Set once: it is to end.
    pub closing: Option<Closing>,
    /// How the peer is greeted, if we opened it.
    pub greeting: Greeting,
    /// Whether the peer did not listen to the other greeting just before.
    pub is_retry: bool,
    /// The encryption handshake, once it is done.
    pub encryption: Option<Encryption>,
    /// Takes the peer's bytes apart.
    pub decoder: Decoder,
    /// What waits to be sent.
    pub outbox: Outbox,

    /// The peer's reserved bytes; zeros before its handshake.
    pub reserved: Reserved,
    /// The peer's id; zeros before its handshake.
    pub pid: [u8; 20],
    /// The client's name, as far as known.
    pub client: String,
    /// The ids of extended messages.
    pub extensions: Extensions,
    /// Whether our extended handshake has been sent: then no more ids are given out.
    pub extended_handshake_sent: bool,
    /// The port that an incoming peer says it listens on.
    pub listen_port: Option<u16>,
    /// When the peer last saw a complete copy: seconds since 1970, 0 if unknown.
    pub last_seen_complete: i64,
    /// The peer said that it only uploads.
    pub said_upload_only: bool,

    /// We choke the peer.
    pub choked: bool,
    /// We are interested in the peer.
    pub interesting: bool,
    /// The peer chokes us.
    pub peer_choked: bool,
    /// The peer is interested in us.
    pub peer_interested: bool,
    /// It is the optimistic unchoke.
    pub optimistic: bool,
    /// The peer said INTERESTED before, so that the allowed-fast set has gone out.
    pub allowed_fast_sent: bool,

    /// What the peer has.
    pub has: Bitfield,
    /// The peer has everything, however much that will turn out to be.
    pub has_all_early: bool,
    /// Pieces that it allowed, and suggested, before it was known how many there are.
    pub allowed_early: Vec<u32>,
    /// As above.
    pub suggested_early: Vec<u32>,
    /// The peer is believed to have the metadata: until a plugin hears otherwise.
    pub has_metadata: bool,
    /// The peer said what it has: bitfield, have-all or have-none.
    pub bitfield_received: bool,
    /// Our own bitfield, or what stands for it, has gone out.
    pub bitfield_sent: bool,
    /// The handshakes and our bitfield are not done yet.
    pub in_handshake: bool,
    /// Its bitfield came, and whether it is interesting has not been looked at yet.
    pub interest_due: bool,
    /// Whether what it has is counted in the torrent's availability.
    pub counted: bool,

    /// The other end, if that is a web seed: then there are no messages, and `decoder` is not used.
    pub web: Option<Box<WebLink>>,
    /// Our requests.
    pub requests: RequestQueue,
    /// Pieces that the peer lets us request while it chokes us.
    pub allowed_fast: Vec<PieceIndex>,
    /// Pieces that we let the peer request while we choke it.
    pub granted_fast: Vec<PieceIndex>,
    /// The two pieces that it may ask for, the newer one first, while we super-seed to it (BEP 16).
    pub offered: Option<[Option<PieceIndex>; 2]>,
    /// Pieces that the peer suggested, the newest first.
    pub suggested: Vec<PieceIndex>,
    /// The block that is arriving.
    pub arriving: Option<Arriving>,
    /// The peer's requests, in order, that are not read from disk yet.
    pub upload_queue: VecDeque<BlockSpan>,
    /// The peer's requests whose data is being read.
    pub reading: Vec<BlockSpan>,
    /// How much stands ready to be sent.
    pub send_ahead: SendAhead,
    /// Whether it is one of those that share how much may stand ready.
    pub takes_much: bool,
    /// Requests that came while we choked the peer.
    pub choked_requests: u32,

    /// What it may receive and send, by [`Direction`].
    pub allowances: [Allowance; 2],
    /// Bytes received, all.
    pub down: Meter,
    /// Bytes sent, all.
    pub up: Meter,
    /// Payload received.
    pub payload_down: Meter,
    /// Payload sent.
    pub payload_up: Meter,
    /// How much payload had been sent when we last unchoked it, bytes.
    pub uploaded_at_unchoke: u64,

    /// When it was made.
    pub created: Instant,
    /// When anything last came.
    pub last_received: Instant,
    /// When anything was last sent.
    pub last_sent: Instant,
    /// When we last sent a request.
    pub last_request: Option<Instant>,
    /// When we last unchoked it.
    pub last_unchoke: Option<Instant>,
    /// When it was last the optimistic unchoke.
    pub last_optimistic: Option<Instant>,
    /// When it became interesting, or stopped to be.
    pub became_uninteresting: Instant,
    /// When it became uninterested, or stopped to be.
    pub became_uninterested: Instant,
    /// When the peer last asked for a block, or was unchoked.
    pub last_incoming_request: Instant,

    /// The last answer of the plugins to `can_disconnect`.
    pub plugins_refused: bool,
    /// `type_name` of each plugin object here, for `find_plugin`.
    pub plugin_names: Vec<(PluginId, Box<str>)>,
    /// Whether a part of the message that is being received has been shown to plugins.
    pub fragment_seen: bool,
    /// Whether the message that is being handled is complete.
    pub packet_finished: bool,
    /// Whether the driver is told not to read.
    pub read_paused: bool,
    /// Whether the driver has been told that there is something to send.
    pub dirty: bool,
}

impl Connection {
    /// A connection that has just been accepted or is about to be tried.
    pub fn new(remote: SocketAddr, outgoing: bool, limits: RequestLimits, now: Instant) -> Self {
        Self {
            remote,
            known_as: remote,
            local: None,
            outgoing,
            transport: Transport::default(),
            holepunched: false,
            introductions: None,
            torrent: None,
            phase: if outgoing { Phase::Connecting } else { Phase::Handshaking },
            closing: None,
            greeting: Greeting::Clear,
            is_retry: false,
            encryption: None,
            decoder: Decoder::new(MAX_MESSAGE),
            outbox: Outbox::default(),
            reserved: Reserved::default(),
            pid: [0; 20],
            client: String::new(),
            extensions: Extensions::default(),
            extended_handshake_sent: false,
            listen_port: None,
            last_seen_complete: 0,
            said_upload_only: false,
            choked: true,
            interesting: false,
            peer_choked: true,
            peer_interested: false,
            optimistic: false,
            allowed_fast_sent: false,
            has: Bitfield::new(0),
            has_all_early: false,
            allowed_early: Vec::new(),
            suggested_early: Vec::new(),
            has_metadata: true,
            bitfield_received: false,
            bitfield_sent: false,
            in_handshake: true,
            interest_due: false,
            counted: false,
            web: None,
            requests: RequestQueue::new(limits, now),
            allowed_fast: Vec::new(),
            granted_fast: Vec::new(),
            offered: None,
            suggested: Vec::new(),
            arriving: None,
            upload_queue: VecDeque::new(),
            reading: Vec::new(),
            send_ahead: SendAhead::default(),
            takes_much: false,
            choked_requests: 0,
            allowances: [Allowance::new(now); 2],
            down: Meter::new(now),
            up: Meter::new(now),
            payload_down: Meter::new(now),
            payload_up: Meter::new(now),
            uploaded_at_unchoke: 0,
            created: now,
            last_received: now,
            last_sent: now,
            last_request: None,
            last_unchoke: None,
            last_optimistic: None,
            became_uninteresting: now,
            became_uninterested: now,
            last_incoming_request: now,
            plugins_refused: false,
            plugin_names: Vec::new(),
            fragment_seen: false,
            packet_finished: true,
            read_paused: false,
            dirty: false,
        }
    }

    /// How much it would move at once, in bytes, if it were granted more than it was.
    pub fn wants(&self, direction: Direction) -> u64 {
        let all = match direction {
            // Besides the blocks that it owes us, it may say anything.
            Direction::Download => self.requests.outstanding_bytes() + u64::from(BLOCK_SIZE),
            Direction::Upload => self.outbox.len(),
        };
        all.saturating_sub(self.allowances[direction as usize].quota().unwrap_or(0))
    }

    /// What sort of connection it is.
    pub fn connection_type(&self) -> ConnectionType {
        self.web.as_ref().map_or(ConnectionType::BITTORRENT, |web| web.site().kind())
    }

    /// Whether it is being closed.
    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether messages can be exchanged.
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Established && !self.is_closing()
    }

    /// Whether both sides speak the fast extension (BEP 6); we always do.
    pub fn fast(&self) -> bool {
        self.reserved.contains(Reserved::FAST)
    }

    /// Whether the peer speaks the extension protocol (BEP 10).
    pub fn extended(&self) -> bool {
        self.reserved.contains(Reserved::EXTENSIONS)
    }

    /// Whether the peer has every piece.
    pub fn is_seed(&self) -> bool {
        !self.has.is_empty() && self.has.is_full()
    }

    /// Whether the peer only uploads.
    pub fn upload_only(&self) -> bool {
        self.said_upload_only || self.is_seed()
    }

    /// Marks it as to be closed; the first reason wins.
    pub fn close(&mut self, error: ErrorCode, operation: Operation, severity: Severity) -> bool {
        let first = self.closing.is_none();
        self.closing.get_or_insert(Closing { error, operation, severity });
        first
    }

    /// Queues a message.
    pub fn send(&mut self, message: &Message) {
        self.outbox.encode(|out| message.encode(out));
    }

    /// The yes/no questions that plugins ask.
    pub fn flags(&self) -> PeerFlags {
        let local = match self.remote.ip() {
            std::net::IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
            std::net::IpAddr::V6(ip) => {
                ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local()
            }
        };
        let failed = self.closing.is_some_and(|closing| closing.severity >= Severity::FAILURE);
        PeerFlags::default()
            .with(PeerFlags::SEED, self.is_seed())
            .with(PeerFlags::UPLOAD_ONLY, self.upload_only())
            .with(PeerFlags::INTERESTING, self.interesting)
            .with(PeerFlags::CHOKED, self.choked)
            .with(PeerFlags::PEER_INTERESTED, self.peer_interested)
            .with(PeerFlags::PEER_CHOKED, self.peer_choked)
            .with(PeerFlags::CONNECTING, self.phase == Phase::Connecting)
            .with(PeerFlags::DISCONNECTING, self.is_closing())
            .with(PeerFlags::OUTGOING, self.outgoing)
            .with(PeerFlags::LOCAL_NETWORK, local)
            .with(PeerFlags::FAILED, failed)
            .with(PeerFlags::HAS_METADATA, self.has_metadata)
            .with(PeerFlags::IN_HANDSHAKE, self.in_handshake)
    }
}

/// A block as the wire and plugins name it.
pub fn as_request(span: BlockSpan) -> PeerRequest {
    as_peer_request(as_raw(span))
}

/// A block as the wire names it.
pub fn as_raw(span: BlockSpan) -> RawRequest {
    RawRequest { piece: span.piece.get(), start: span.start, length: span.len }
}

/// Wire numbers as plugins see them: signed, like libtorrent's.
pub fn as_peer_request(raw: RawRequest) -> PeerRequest {
    PeerRequest {
        piece: as_piece(raw.piece),
        start: raw.start.cast_signed(),
        length: raw.length.cast_signed(),
    }
}

/// The number of a piece as plugins see it.
pub fn as_piece(raw: u32) -> RawPiece {
    RawPiece(raw.cast_signed())
}
