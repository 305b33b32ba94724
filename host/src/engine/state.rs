//! The engine's state: everything but the plugin objects.
//!
//! Functions that plugins call see this value and nothing else; it never holds a plugin object that could be called, so a
//! hook may run while nobody borrows it. What needs a hook is written down as a [`Step`].

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotfish_plugin::rt::{HookStatus, Sink};
use pilotfish_plugin::{AlertCategory, ErrorCode, Operation, PeerHandle, PluginId, Severity, TorrentHandle};
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;
use slotmap::{DefaultKey, Key, KeyData, SlotMap};

use super::announcing::Announcing;
use super::bandwidth::Bandwidth;
use super::dht::{Contact, Dht};
use super::external::Votes;
use super::local_discovery::LocalDiscovery;
use super::output::{LookupToken, Output};
use super::plugins::PluginRecord;
use super::port_mapping::PortMappings;
use super::step::{Sent, Step};
use super::timers::Timers;
use crate::alert::{Alert, AlertKind, AlertQueue, CustomTypes};
use crate::command::{SaveResumeFlags, Ticket};
use crate::hooks::Place;
use crate::ip_filter::IpFilter;
use crate::job::{DiskJob, MOST_HELD, ReadToken, StorageId};
use crate::metainfo::{BLOCK_SIZE, BlockSpan, Resume};
use crate::peer::web::WebSeedId;
use crate::peer::{Connection, Direction, RequestLimits, as_piece, as_request};
use crate::settings::Settings;
use crate::torrent::{Bans, CandidateLimits, Choker, Torrent};
use crate::wire::{BlockPool, EntryTree, Message};

/// Everything but the plugin objects.
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) now: Instant,
    /// When the session started; its clock is the time since then.
    pub(super) epoch: Instant,
    /// The epoch in seconds since 1970.
    pub(super) unix_epoch: i64,
    pub(super) rng: StdRng,
    pub(super) peer_id: [u8; 20],
    pub(super) pool: BlockPool,
    pub(super) waker: Arc<dyn Fn() + Send + Sync>,

    /// Each in a place of its own, so that the map can grow without moving them.
    torrents: SlotMap<DefaultKey, Box<Torrent>>,
    /// The torrents in the order in which they were added.
    pub(super) order: Vec<TorrentHandle>,
    pub(super) by_hash: HashMap<[u8; 20], TorrentHandle>,
    /// The info-hash for what stands for it in the encryption handshake.
    pub(super) by_obfuscated: HashMap<[u8; 20], [u8; 20]>,
    /// Its keys are our own, as everywhere with this hash: nobody can choose them so that they collide.
    pub(super) by_storage: FxHashMap<StorageId, TorrentHandle>,
    peers: SlotMap<DefaultKey, Connection>,
    /// Reads that are on their way, and for whom.
    pub(super) reads: FxHashMap<ReadToken, Reader>,
    /// Names that are being looked up, and for what.
    pub(super) lookups: FxHashMap<LookupToken, Lookup>,
    next_id: u64,
    /// Bytes handed to the disk and not written yet, of all torrents.
    pub(super) queued_disk_bytes: u64,
    /// Torrents that request nothing because of that.
    pub(super) congested: Vec<TorrentHandle>,

    pub(super) steps: VecDeque<Step>,
    /// How deep steps are nested that have what they caused done in their middle.
    pub(super) pumping: usize,
    /// Steps that were left over when hooks kept causing hooks.
    pub(super) deferred: Vec<Step>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) timers: Timers,
    pub(super) next_tick: Instant,
    pub(super) alerts: AlertQueue,
    /// What the embedding program asked for besides the setting `alert_mask`.
    pub(super) subscribed: AlertCategory,
    pub(super) custom_types: CustomTypes,

    pub(super) plugins: Vec<PluginRecord>,
    /// The plugin whose hook runs.
    pub(super) calling: PluginId,
    /// Whose extended message plugins are looking at.
    pub(super) teller: Option<PeerHandle>,
    /// Dictionaries that plugins are filling in.
    pub(super) entries: Vec<EntryTree>,

    pub(super) dht: Dht,
    pub(super) local_discovery: LocalDiscovery,
    pub(super) port_mappings: PortMappings,
    /// Who says from which address we are seen: IPv4, IPv6.
    pub(super) external: [Votes; 2],
    /// Addresses that are kept out of all torrents.
    pub(super) bans: Bans,
    pub(super) listening: Vec<SocketAddr>,
    /// What is on its way to trackers.
    pub(super) announcing: Announcing,
    /// The addresses by which peers know us, as far as known: of IPv4, and of IPv6.
    pub(super) our_addresses: Arc<[Option<SocketAddr>; 2]>,
    /// The limits of torrents' lists of peers.
    pub(super) candidate_limits: Arc<CandidateLimits>,
    pub(super) paused: bool,
    pub(super) bandwidth: Bandwidth,
    pub(super) ip_filter: Arc<IpFilter>,
    /// Peers that we do not choke, all torrents together.
    pub(super) unchoked: u32,
    /// Peers that share how much may stand ready to be sent.
    pub(super) takers: u32,
    pub(super) choker: Choker,
    /// Whether a plugin has a word in who is unchoked, so that nobody is between rounds.
    pub(super) scored: bool,
    /// Connections that may still be tried before the next tick.
    pub(super) connects_left: u32,
    /// Encryption handshakes that strangers may still have us do before the next tick.
    pub(super) exchanges_left: u32,
    pub(super) phase: SessionPhase,
    /// Who wants the resume data of all torrents at the end, with which flags; and what there is of it.
    pub(super) resume_at_end: Option<(Ticket, SaveResumeFlags, Vec<Resume>)>,
}

/// Whom a block is read for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    /// A peer that asked for it.
    Peer(PeerHandle, BlockSpan),
    /// A plugin of a torrent.
    Plugin(TorrentHandle, PluginId, BlockSpan),
    /// A plugin of a torrent, which wants to know the hash alone.
    Hash(TorrentHandle, PluginId, BlockSpan),
}

/// What a name is looked up for.
#[derive(Clone, Debug)]
pub(super) enum Lookup {
    /// A host by which the DHT is entered.
    Dht(Contact),
    /// The host of a web seed.
    WebSeed(TorrentHandle, WebSeedId),
    /// A tracker, for one of the requests on their way.
    Tracker(u64),
}

/// So much may wait to be sent to a peer, besides blocks, before its next question is one too many, in bytes.
const MOST_ANSWERS: u64 = 16 << 20;

/// How far the end of the session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionPhase {
    Running,
    /// Plugins finish their work until then.
    Aborting(Instant),
    /// Files are being closed.
    Closing,
    Stopped,
}

/// How a session begins.
pub struct EngineConfig {
    /// Its settings.
    pub settings: Settings,
    /// Seeds everything that is random.
    pub seed: u64,
    /// Seconds since 1970 at the start.
    pub unix_time: i64,
    /// What the DHT kept in an earlier session: what [`Command::SaveState`](crate::command::Command::SaveState) answered under
    /// [`dht::STATE`](crate::dht::STATE).
    pub dht_state: Option<Vec<u8>>,
    /// Has the driver call [`Input::Wake`](super::Input::Wake) soon; any thread may call it.
    pub waker: Arc<dyn Fn() + Send + Sync>,
}

fn key(raw: u64) -> DefaultKey {
    KeyData::from_ffi(raw).into()
}

impl State {
    pub(super) fn new(config: EngineConfig, now: Instant) -> Self {
        use rand::{Rng, SeedableRng};
        let mut rng = StdRng::seed_from_u64(config.seed);
        let mut peer_id = [0; 20];
        rng.fill_bytes(&mut peer_id);
        let prefix = config.settings.peer_id_prefix();
        peer_id[..prefix.len()].copy_from_slice(prefix);
        let choker = Choker::new(super::choking::limits(&config.settings), now);
        let bandwidth = Bandwidth::new(&config.settings, now);
        let candidate_limits = Arc::new(super::status::candidate_limits(&config.settings));
        let connects_left = config.settings.connection_speed;
        let most_queued = 2 * (config.settings.max_queued_disk_bytes / BLOCK_SIZE) as usize;
        Self {
            alerts: AlertQueue::new(config.settings.alert_queue_size as usize),
            settings: config.settings,
            now,
            epoch: now,
            unix_epoch: config.unix_time,
            rng,
            peer_id,
            // As many as may wait to be written or hashed: none is given back to be asked for, and zeroed, again.
            pool: BlockPool::new(most_queued + MOST_HELD / BLOCK_SIZE as usize),
            waker: config.waker,
            torrents: SlotMap::new(),
            order: Vec::new(),
            by_hash: HashMap::new(),
            by_obfuscated: HashMap::new(),
            by_storage: FxHashMap::default(),
            peers: SlotMap::new(),
            reads: FxHashMap::default(),
            lookups: FxHashMap::default(),
            next_id: 1,
            queued_disk_bytes: 0,
            congested: Vec::new(),
            steps: VecDeque::new(),
            pumping: 0,
            deferred: Vec::new(),
            outputs: VecDeque::new(),
            timers: Timers::default(),
            next_tick: now,
            subscribed: AlertCategory::NONE,
            custom_types: CustomTypes::default(),
            plugins: Vec::new(),
            calling: PluginId(u32::MAX),
            teller: None,
            entries: Vec::new(),
            dht: Dht::remembering(config.dht_state.as_deref()),
            local_discovery: LocalDiscovery::default(),
            port_mappings: PortMappings::default(),
            external: Default::default(),
            bans: Bans::default(),
            listening: Vec::new(),
            announcing: Announcing::default(),
            our_addresses: Arc::default(),
            candidate_limits,
            paused: false,
            bandwidth,
            ip_filter: Arc::default(),
            unchoked: 0,
            takers: 0,
            choker,
            scored: false,
            connects_left,
            exchanges_left: super::encryption::EXCHANGES,
            phase: SessionPhase::Running,
            resume_at_end: None,
        }
    }

    /// The session's clock.
    pub(super) fn clock(&self) -> Duration {
        self.now.duration_since(self.epoch)
    }

    /// The time of day, in seconds since 1970.
    pub(super) fn unix_time(&self) -> i64 {
        self.unix_epoch.saturating_add_unsigned(self.clock().as_secs())
    }

    /// A number that was never used in this session.
    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A connection, while it is there.
    #[inline]
    pub(super) fn peer(&self, peer: PeerHandle) -> Option<&Connection> {
        self.peers.get(key(peer.into_raw()))
    }

    /// A connection, while it is there.
    #[inline]
    pub(super) fn peer_mut(&mut self, peer: PeerHandle) -> Option<&mut Connection> {
        self.peers.get_mut(key(peer.into_raw()))
    }

    /// A torrent, while it is there.
    #[inline]
    pub(super) fn torrent(&self, torrent: TorrentHandle) -> Option<&Torrent> {
        self.torrents.get(key(torrent.into_raw())).map(Box::as_ref)
    }

    /// A torrent, while it is there.
    #[inline]
    pub(super) fn torrent_mut(&mut self, torrent: TorrentHandle) -> Option<&mut Torrent> {
        self.torrents.get_mut(key(torrent.into_raw())).map(Box::as_mut)
    }

    /// A torrent, while it is there, and the dice.
    pub(super) fn torrent_and_rng(&mut self, torrent: TorrentHandle) -> Option<(&mut Torrent, &mut StdRng)> {
        let torrent = self.torrents.get_mut(key(torrent.into_raw()))?;
        Some((torrent, &mut self.rng))
    }

    /// A connection and its torrent at once.
    #[inline]
    pub(super) fn pair(&mut self, peer: PeerHandle) -> Option<(&mut Connection, &mut Torrent)> {
        let connection = self.peers.get_mut(key(peer.into_raw()))?;
        let torrent = self.torrents.get_mut(key(connection.torrent?.into_raw()))?;
        Some((connection, torrent))
    }

    /// A connection, its torrent, and the dice.
    #[inline]
    pub(super) fn triple(
        &mut self,
        peer: PeerHandle,
    ) -> Option<(&mut Connection, &mut Torrent, &mut StdRng)> {
        let connection = self.peers.get_mut(key(peer.into_raw()))?;
        let torrent = self.torrents.get_mut(key(connection.torrent?.into_raw()))?;
        Some((connection, torrent, &mut self.rng))
    }

    /// The torrent whose files these are, until it is removed.
    pub(super) fn stored(&self, storage: StorageId) -> Option<TorrentHandle> {
        let torrent = self.by_storage.get(&storage).copied();
        torrent.filter(|torrent| self.torrent(*torrent).is_some_and(|t| !t.removing))
    }

    /// All connections.
    pub(super) fn peers(&self) -> impl Iterator<Item = (PeerHandle, &Connection)> {
        self.peers.iter().map(|(k, connection)| (PeerHandle::from_raw(k.data().as_ffi()), connection))
    }

    /// How many connections there are.
    pub(super) fn num_peers(&self) -> usize {
        self.peers.len()
    }

    /// How many torrents there are.
    pub(super) fn num_torrents(&self) -> usize {
        self.torrents.len()
    }

    /// The connections of a torrent.
    pub(super) fn peers_of(&self, torrent: TorrentHandle) -> Vec<PeerHandle> {
        self.torrent(torrent).map(|t| t.peers.clone()).unwrap_or_default()
    }

    pub(super) fn insert_peer(&mut self, connection: Connection) -> PeerHandle {
        PeerHandle::from_raw(self.peers.insert(connection).data().as_ffi())
    }

    pub(super) fn remove_peer(&mut self, peer: PeerHandle) -> Option<Connection> {
        self.peers.remove(key(peer.into_raw()))
    }

    pub(super) fn insert_torrent(&mut self, make: impl FnOnce(TorrentHandle) -> Torrent) -> TorrentHandle {
        let key =
            self.torrents.insert_with_key(|key| Box::new(make(TorrentHandle::from_raw(key.data().as_ffi()))));
        TorrentHandle::from_raw(key.data().as_ffi())
    }

    pub(super) fn remove_torrent(&mut self, torrent: TorrentHandle) -> Option<Box<Torrent>> {
        self.torrents.remove(key(torrent.into_raw()))
    }

    /// The limits of our request queues.
    pub(super) fn request_limits(&self) -> RequestLimits {
        RequestLimits {
            max_out_request_queue: self.settings.max_out_request_queue,
            request_queue_time: self.settings.request_queue_time.duration(),
            piece_timeout: self.settings.piece_timeout.duration(),
            request_timeout: self.settings.request_timeout.duration(),
        }
    }

    /// Asks the disk for something.
    pub(super) fn disk(&mut self, job: DiskJob) {
        self.outputs.push_back(Output::Disk(job));
    }

    /// Has a host name looked up.
    pub(super) fn look_up(&mut self, lookup: Lookup, host: String) {
        let token = LookupToken(self.fresh_id());
        self.lookups.insert(token, lookup);
        self.outputs.push_back(Output::Resolve { lookup: token, host });
    }

    /// Marks a connection as to be closed, and has it done. The first reason wins.
    pub(super) fn disconnect(
        &mut self,
        peer: PeerHandle,
        error: ErrorCode,
        operation: Operation,
        severity: Severity,
    ) {
        if self.peer_mut(peer).is_some_and(|connection| connection.close(error, operation, severity)) {
            self.steps.push_back(Step::Disconnect(peer));
        }
    }

    /// Closes the connection of a peer that broke the protocol.
    pub(super) fn peer_error(&mut self, peer: PeerHandle, error: ErrorCode) {
        self.disconnect(peer, error, Operation::BITTORRENT, Severity::PEER_ERROR);
    }

    /// Queues a message, and has the driver send it. A web seed would not understand it.
    pub(super) fn send(&mut self, peer: PeerHandle, message: &Message) {
        if let Some(connection) = self.peer_mut(peer).filter(|c| !c.is_closing() && c.web.is_none()) {
            connection.send(message);
            self.transmit(peer);
        }
    }

    /// Queues a message that has a `sent_` hook. A web seed is told nothing, and nobody that it was.
    pub(super) fn send_and_tell(&mut self, peer: PeerHandle, message: &Message) {
        let limit = u64::from(self.settings.send_buffer_watermark) + MOST_ANSWERS;
        let Some(connection) = self.peer_mut(peer).filter(|c| !c.is_closing() && c.web.is_none()) else {
            return;
        };
        if connection.outbox.len() > limit && matches!(message, Message::Reject(_) | Message::Unchoke) {
            // It goes on asking, and does not read what it is answered.
            return self.peer_error(peer, ErrorCode::TOO_MANY_REQUESTS_WHEN_CHOKED);
        }
        connection.send(message);
        self.transmit(peer);
        if let Some(sent) = sent(message) {
            self.steps.push_back(Step::Sent(peer, sent));
        }
    }

    /// Has the driver send what is queued, once for however much is queued in a turn.
    pub(super) fn transmit(&mut self, peer: PeerHandle) {
        let Some(connection) = self.peer_mut(peer) else { return };
        if connection.allowances[Direction::Upload as usize].is_spent() {
            return self.ask_for_bandwidth(peer, Direction::Upload);
        }
        if !std::mem::replace(&mut connection.dirty, true) {
            self.outputs.push_back(Output::Transmit(peer));
        }
    }

    /// The categories that anyone asked for.
    pub(super) fn alert_mask(&self) -> AlertCategory {
        let program = self.settings.alert_mask | self.subscribed;
        self.plugins.iter().fold(program, |mask, plugin| mask | plugin.alert_mask())
    }

    /// Whether an alert of this category would reach anyone.
    pub(super) fn wants_alert(&self, category: AlertCategory) -> bool {
        self.alert_mask().intersects(category)
    }

    /// Posts an alert to the embedding program and to plugins, as far as they asked for its category.
    pub(super) fn alert(&mut self, kind: AlertKind) {
        let category = kind.category();
        let wanted = kind.is_for(self.settings.alert_mask | self.subscribed);
        let alert = Alert { timestamp: self.clock(), kind };
        if self.plugins.iter().any(|plugin| plugin.alert_mask().intersects(category)) {
            self.steps.push_back(Step::Alert(Box::new(alert.clone())));
        }
        if wanted {
            self.alerts.push(alert);
        }
    }

    /// Which plugin a line or a panic is to be blamed on.
    pub(super) fn plugin_name(&self, plugin: PluginId) -> String {
        self.plugins.get(plugin.0 as usize).map_or_else(|| "engine".to_owned(), |record| record.name.clone())
    }

    /// A hook panicked: its report is collected at once, from the same thread, and the rest is done when no hook runs.
    pub(super) fn record_fault(&mut self, plugin: PluginId, hook: &'static str, place: Place) {
        let text = self.plugins.get(plugin.0 as usize).map(|record| collect(|sink| record.take_panic(sink)));
        let text = text.unwrap_or_default();
        self.steps.push_back(Step::Fault { plugin, hook, place, text });
        if let Place::Peer(peer) = place {
            // At once, so that whatever else the engine does about this event is not taken for the reason.
            self.disconnect(peer, ErrorCode::PLUGIN_PANICKED, Operation::UNKNOWN, Severity::NORMAL);
        }
    }
}

/// The text that a function hands out.
fn collect(f: impl FnOnce(Sink<'_>) -> HookStatus) -> String {
    let mut bytes = Vec::new();
    f(Sink::to(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A message as its `sent_` hook sees it.
fn sent(message: &Message) -> Option<Sent> {
    use crate::peer::as_peer_request;
    Some(match message {
        Message::HaveAll => Sent::HaveAll,
        Message::HaveNone => Sent::HaveNone,
        Message::Reject(request) => Sent::RejectRequest(as_peer_request(*request)),
        Message::AllowedFast(piece) => Sent::AllowFast(as_piece(*piece)),
        Message::Suggest(piece) => Sent::Suggest(as_piece(*piece)),
        Message::Cancel(request) => Sent::Cancel(as_peer_request(*request)),
        Message::Request(request) => Sent::Request(as_peer_request(*request)),
        Message::Choke => Sent::Choke,
        Message::Unchoke => Sent::Unchoke,
        Message::Interested => Sent::Interested,
        Message::NotInterested => Sent::NotInterested,
        Message::Have(piece) => Sent::Have(as_piece(*piece)),
        _ => return None,
    })
}

/// A block that was sent, as its hook sees it.
pub(super) fn sent_piece(span: BlockSpan) -> Sent {
    Sent::Piece(as_request(span))
}
