//! What happened, for the embedding program and for plugins that listen.
//!
//! One table lists every alert: its number and name (libtorrent's, where it has it), category, fields and text. The JSON of
//! the command line and the bencoded fields that plugins see are derived from it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pilotfish_plugin::{
    AlertCategory, ErrorCode, PeerHandle, PieceIndex, PluginId, TorrentHandle, TorrentState, USER_ALERT_ID,
};

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Alert {
    /// When, on the session's clock: time since the session started.
    pub timestamp: Duration,
    /// What.
    pub kind: AlertKind,
}

/// The value of one field of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// A torrent.
    Torrent(TorrentHandle),
    /// A connection.
    Peer(PeerHandle),
}

macro_rules! alerts {
    ($( $(#[$meta:meta])* $Name:ident = $number:literal, $what:literal, $($category:ident)|+
        { $( $(#[$fmeta:meta])* $field:ident : $Type:ty ),* $(,)? } => $text:literal; )*) => {
        /// What happened, and the details.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "the fields are what their names say; the texts show them")]
        pub enum AlertKind {
            $( $(#[$meta])* $Name { $( $(#[$fmeta])* $field: $Type ),* }, )*
            /// A plugin's own alert.
            Custom(CustomAlert),
        }

        impl AlertKind {
            /// Its number (libtorrent's `type()`).
            pub fn alert_type(&self) -> u32 {
                match self {
                    $( Self::$Name { .. } => $number, )*
                    Self::Custom(custom) => custom.alert_type,
                }
            }

            /// Its name (libtorrent's `what()`).
            pub fn what(&self) -> &str {
                match self {
                    $( Self::$Name { .. } => $what, )*
                    Self::Custom(custom) => &custom.what,
                }
            }

            /// What it is about.
            pub fn category(&self) -> AlertCategory {
                match self {
                    $( Self::$Name { .. } => AlertCategory(0 $(| AlertCategory::$category.0)+), )*
                    Self::Custom(custom) => custom.category,
                }
            }

            /// The event in words.
            #[allow(unused_variables)]
            pub fn message(&self) -> String {
                match self {
                    $( Self::$Name { $( $field ),* } => { $( let $field = $field.shown(); )* format!($text) } )*
                    Self::Custom(custom) => custom.message.clone(),
                }
            }

            /// Its details, by name.
            pub fn fields(&self) -> Vec<(&'static str, Field)> {
                match self {
                    $( Self::$Name { $( $field ),* } => vec![ $( (stringify!($field), $field.field()) ),* ], )*
                    Self::Custom(custom) => custom.fields(),
                }
            }
        }
    };
}

alerts! {
    /// A torrent was removed from the session.
    TorrentRemoved = 4, "torrent_removed", STATUS { torrent: TorrentHandle, name: String } => "{name}: removed";
    /// A file is complete.
    FileCompleted = 6, "file_completed", FILE_PROGRESS { torrent: TorrentHandle, file: String } => "{file}: complete";
    /// Something limits the speed.
    Performance = 9, "performance", PERFORMANCE_WARNING { torrent: TorrentHandle, warning: String } => "{warning}";
    /// A torrent's state changed.
    StateChanged = 10, "state_changed", STATUS { torrent: TorrentHandle, name: String, previous: TorrentState, state: TorrentState } => "{name}: {state}";
    /// A tracker did not answer, or refused.
    TrackerError = 11, "tracker_error", TRACKER | ERROR { torrent: TorrentHandle, name: String, tracker_url: String, times_in_row: u32, error_message: String } => "{name}: {tracker_url}: {error_message} (times in a row: {times_in_row})";
    /// A tracker works, but something is wrong.
    TrackerWarning = 12, "tracker_warning", TRACKER | ERROR { torrent: TorrentHandle, name: String, tracker_url: String, warning_message: String } => "{name}: {tracker_url} warns: {warning_message}";
    /// A tracker told a torrent's figures.
    ScrapeReply = 13, "scrape_reply", TRACKER { torrent: TorrentHandle, name: String, tracker_url: String, complete: u32, incomplete: u32 } => "{name}: {tracker_url} knows {complete} seeds, and {incomplete} other peers";
    /// A tracker did not tell a torrent's figures.
    ScrapeFailed = 14, "scrape_failed", TRACKER | ERROR { torrent: TorrentHandle, name: String, tracker_url: String, error_message: String } => "{name}: {tracker_url}: no figures: {error_message}";
    /// A tracker answered.
    TrackerReply = 15, "tracker_reply", TRACKER { torrent: TorrentHandle, name: String, tracker_url: String, num_peers: u32 } => "{name}: {tracker_url}: {num_peers} peers";
    /// Peers of a torrent were found in the DHT.
    DhtReply = 16, "dht_reply", DHT | TRACKER { torrent: TorrentHandle, name: String, num_peers: u32 } => "{name}: {num_peers} peers from the DHT";
    /// A tracker is told something.
    TrackerAnnounce = 17, "tracker_announce", TRACKER { torrent: TorrentHandle, name: String, tracker_url: String, event: String } => "{name}: {tracker_url} is asked for peers {event}";
    /// A piece failed its hash check.
    HashFailed = 18, "hash_failed", STATUS { torrent: TorrentHandle, name: String, piece: PieceIndex } => "{name}: hash of piece {piece} failed";
    /// A peer was banned: from a torrent, or from the session if the handle is invalid. So is that of the connection if it has none.
    PeerBan = 19, "peer_ban", PEER { torrent: TorrentHandle, peer: PeerHandle, address: SocketAddr, by: String, reason: String } => "{address}: banned by {by}: {reason}";
    /// A peer keeps us waiting.
    PeerSnubbed = 21, "peer_snubbed", PEER { torrent: TorrentHandle, peer: PeerHandle, address: SocketAddr } => "{address}: snubbed";
    /// A peer broke the protocol.
    PeerError = 22, "peer_error", PEER { torrent: TorrentHandle, peer: PeerHandle, address: SocketAddr, error: ErrorCode } => "{address}: {error}";
    /// A connection was made.
    PeerConnect = 23, "peer_connect", CONNECT { torrent: TorrentHandle, peer: PeerHandle, address: SocketAddr, incoming: bool, socket_type: String } => "{address}: connected by {socket_type} (incoming: {incoming})";
    /// A connection ended.
    PeerDisconnected = 24, "peer_disconnected", CONNECT { torrent: TorrentHandle, peer: PeerHandle, address: SocketAddr, error: ErrorCode } => "{address}: disconnected: {error}";
    /// All wanted pieces are there.
    TorrentFinished = 26, "torrent_finished", STATUS { torrent: TorrentHandle, name: String } => "{name}: finished";
    /// A piece is there.
    PieceFinished = 27, "piece_finished", PIECE_PROGRESS { torrent: TorrentHandle, piece: PieceIndex } => "piece {piece} finished";
    /// A request was not answered in time.
    BlockTimeout = 29, "block_timeout", PEER { torrent: TorrentHandle, peer: PeerHandle, address: SocketAddr } => "{address}: a request timed out";
    /// A block came that was not asked for.
    UnwantedBlock = 32, "unwanted_block", PEER { torrent: TorrentHandle, peer: PeerHandle, address: SocketAddr, piece: PieceIndex, start: u32 } => "{address}: sent a block that was not asked for: piece {piece} at {start}";
    /// A torrent's resume data was handed out.
    SaveResumeData = 37, "save_resume_data", STORAGE { torrent: TorrentHandle, name: String } => "{name}: resume data is ready";
    /// A torrent has no resume data now.
    SaveResumeDataFailed = 38, "save_resume_data_failed", STORAGE { torrent: TorrentHandle, name: String, error: String } => "{name}: no resume data: {error}";
    /// A torrent was paused.
    TorrentPaused = 39, "torrent_paused", STATUS { torrent: TorrentHandle, name: String } => "{name}: paused";
    /// A torrent was resumed.
    TorrentResumed = 40, "torrent_resumed", STATUS { torrent: TorrentHandle, name: String } => "{name}: resumed";
    /// A torrent's files have been checked.
    TorrentChecked = 41, "torrent_checked", STATUS { torrent: TorrentHandle, name: String, pieces: u32 } => "{name}: checked, {pieces} pieces are there";
    /// A web seed cannot be used, for now or at all.
    UrlSeed = 42, "url_seed", ERROR { torrent: TorrentHandle, url: String, error: String } => "{url}: {error}";
    /// A file cannot be read or written; the torrent is paused.
    FileError = 43, "file_error", ERROR { torrent: TorrentHandle, name: String, file: String, error: String } => "{name}: {error}";
    /// The info dictionary that peers sent is of no use.
    MetadataFailed = 44, "metadata_failed", ERROR { torrent: TorrentHandle, name: String, error: String } => "{name}: {error}";
    /// A torrent that was added by a magnet link has its info dictionary.
    MetadataReceived = 45, "metadata_received", STATUS { torrent: TorrentHandle, name: String } => "{name}: metadata received";
    /// Others see us from this address, most of them agree.
    ExternalIp = 47, "external_ip", STATUS { external_address: IpAddr } => "others see us as {external_address}";
    /// An address cannot be listened on.
    ListenFailed = 48, "listen_failed", ERROR { address: String, error: String } => "cannot listen on {address}: {error}";
    /// An address is listened on.
    ListenSucceeded = 49, "listen_succeeded", STATUS { address: SocketAddr } => "listening on {address}";
    /// A router does not let a port of ours through.
    PortmapError = 50, "portmap_error", PORT_MAPPING | ERROR { map_protocol: String, map_transport: String, local_address: IpAddr, error: String } => "no port for {map_protocol} by {map_transport} [{local_address}]: {error}";
    /// A router lets a port through to us.
    Portmap = 51, "portmap", PORT_MAPPING { external_port: u32, map_protocol: String, map_transport: String, local_address: IpAddr } => "port {external_port} for {map_protocol} leads to us by {map_transport} [{local_address}]";
    /// What was known of a torrent's files does not fit them: what may be wrong is hashed.
    FastresumeRejected = 53, "fastresume_rejected", ERROR { torrent: TorrentHandle, name: String, file: String, error: String } => "{name}: the record of its files does not fit, so they are checked: {error}";
    /// A peer was kept out.
    PeerBlocked = 54, "peer_blocked", IP_BLOCK { torrent: TorrentHandle, address: SocketAddr, reason: String } => "{address}: blocked by the {reason}";
    /// A DHT node announced itself to us as a peer of a torrent.
    DhtAnnounce = 55, "dht_announce", DHT { address: SocketAddr, info_hash: [u8; 20] } => "{address}: announces {info_hash}";
    /// A DHT node asked us for peers of a torrent.
    DhtGetPeers = 56, "dht_get_peers", DHT { info_hash: [u8; 20] } => "peers of {info_hash} are looked for";
    /// A peer was found on the network that we are on.
    LsdPeer = 60, "lsd_peer", PEER { torrent: TorrentHandle, address: SocketAddr } => "{address}: found on this network";
    /// The DHT is entered: its nearest nodes are known.
    DhtBootstrap = 62, "dht_bootstrap", DHT { nodes: u32 } => "the DHT is entered: {nodes} nodes";
    /// A torrent was added, or could not be.
    AddTorrent = 67, "add_torrent", STATUS { torrent: TorrentHandle, name: String, error: String } => "{name}: added{error}";
    /// The DHT cannot be used as it should be.
    DhtError = 73, "dht_error", DHT { error: String } => "DHT: {error}";
    /// An immutable item of the DHT was found, or is not there (then `item` is empty).
    DhtImmutableItem = 74, "dht_immutable_item", DHT { target: [u8; 20], item: Vec<u8> } => "item {target}: {item}";
    /// A mutable item of the DHT was found: one that is newer than those told before, or at last (`authoritative`) the newest. It
    /// is not there if `item` is empty.
    DhtMutableItem = 75, "dht_mutable_item", DHT { key: [u8; 32], salt: Vec<u8>, seq: i64, signature: Vec<u8>, item: Vec<u8>, authoritative: bool } => "item of {key}, number {seq}: {item}";
    /// An item was stored in the DHT, at so many nodes.
    DhtPut = 76, "dht_put", DHT { target: [u8; 20], num_success: u32 } => "item {target}: stored at {num_success} nodes";
    /// A line of the session's log.
    Log = 79, "log", SESSION_LOG { plugin: String, level: u32, text: String } => "{plugin}: {text}";
    /// A line of a connection's log.
    PeerLog = 81, "peer_log", PEER_LOG { torrent: TorrentHandle, peer: PeerHandle, address: SocketAddr, direction: u32, event: String, text: String } => "{address}: {event}: {text}";
    /// A block was sent to a peer.
    BlockUploaded = 94, "block_uploaded", UPLOAD { torrent: TorrentHandle, peer: PeerHandle, piece: PieceIndex, start: u32 } => "uploaded piece {piece} at {start}";
    /// Peers were found that the program looked for in the DHT.
    DhtGetPeersReply = 87, "dht_get_peers_reply", DHT_OPERATION { info_hash: [u8; 20], peers: Vec<SocketAddr> } => "{info_hash}: peers {peers}";
    /// A DHT node answered a question of the program's, or did not (then `response` is empty).
    DhtDirectResponse = 88, "dht_direct_response", DHT { address: SocketAddr, userdata: u64, response: Vec<u8> } => "{address}: answers {response}";
    /// A DHT node named some of the torrents that it knows of (BEP 51).
    DhtSampleInfohashes = 93, "dht_sample_infohashes", DHT_OPERATION { address: SocketAddr, interval: u32, num_infohashes: u32, samples: Vec<[u8; 20]>, nodes: Vec<SocketAddr> } => "{address}: knows {num_infohashes} torrents, such as {samples}";
    /// The session itself is in trouble.
    SessionError = 90, "session_error", ERROR { error: String } => "{error}";
    /// Alerts were dropped because nobody took them. (Ours counts them.)
    AlertsDropped = 95, "alerts_dropped", ERROR { dropped: u64 } => "{dropped} alerts dropped: the queue was full";
    /// A hook of a plugin panicked. (Ours.)
    PluginPanicked = 1001, "plugin_panicked", ERROR { plugin: String, hook: String, text: String, place: String } => "plugin {plugin}: {hook} panicked{place}: {text}";
    /// A plugin panicked too often, and is not attached to anything any more. (Ours.)
    PluginQuarantined = 1002, "plugin_quarantined", ERROR { plugin: String, panics: u32 } => "plugin {plugin}: quarantined after {panics} panics";
    /// About how many peers a torrent has by nodes of the DHT, of IPv4 or of IPv6. (Ours.)
    DhtScrapeReply = 1004, "dht_scrape_reply", DHT_OPERATION { info_hash: [u8; 20], complete: u32, incomplete: u32 } => "{info_hash}: the DHT knows about {complete} seeds, and {incomplete} other peers";
    /// Hooks kept causing hooks; the rest waits for the next tick. (Ours.)
    TooManyRounds = 1003, "too_many_rounds", PERFORMANCE_WARNING { waiting: u64 } => "plugins keep causing events: {waiting} wait for the next tick";
}

/// An alert that a plugin posted.
#[derive(Clone, Debug)]
pub struct CustomAlert {
    /// Its number: above libtorrent's `user_alert_id`, one for each pair of plugin and kind in the session.
    pub alert_type: u32,
    /// Who posted it.
    pub plugin: PluginId,
    /// The plugin's name.
    pub plugin_name: String,
    /// The plugin's own number for this sort.
    pub kind: u32,
    /// Its name.
    pub what: String,
    /// What it is about.
    pub category: AlertCategory,
    /// The event in words.
    pub message: String,
    /// The event in the plugin's own format.
    pub payload: Vec<u8>,
    /// The torrent that it is about, or an invalid handle.
    pub torrent: TorrentHandle,
    /// The connection that it is about, or an invalid handle.
    pub peer: PeerHandle,
}

impl CustomAlert {
    fn fields(&self) -> Vec<(&'static str, Field)> {
        let mut fields = vec![
            ("plugin", Field::Text(self.plugin_name.clone())),
            ("kind", Field::Int(self.kind.into())),
            ("payload", Field::Text(String::from_utf8_lossy(&self.payload).into_owned())),
        ];
        if self.torrent != TorrentHandle::INVALID {
            fields.push(("torrent", Field::Torrent(self.torrent)));
        }
        if self.peer != PeerHandle::INVALID {
            fields.push(("peer", Field::Peer(self.peer)));
        }
        fields
    }
}

impl AlertKind {
    /// The torrent that it is about.
    pub fn torrent(&self) -> Option<TorrentHandle> {
        self.fields().iter().find_map(|(_, f)| if let Field::Torrent(t) = f { Some(*t) } else { None })
    }

    /// Whether somebody who asked for these categories is told: of what they asked for, and of what answers a command or
    /// nobody may miss, whatever they asked for (as with libtorrent).
    pub fn is_for(&self, mask: AlertCategory) -> bool {
        let unmissable = matches!(
            self,
            Self::AddTorrent { .. }
                | Self::TorrentRemoved { .. }
                | Self::SessionError { .. }
                | Self::DhtImmutableItem { .. }
                | Self::DhtMutableItem { .. }
                | Self::DhtDirectResponse { .. }
                | Self::DhtSampleInfohashes { .. }
                | Self::PluginPanicked { .. }
                | Self::PluginQuarantined { .. }
        );
        unmissable || mask.intersects(self.category())
    }

    /// The connection that it is about.
    pub fn peer(&self) -> Option<PeerHandle> {
        self.fields().iter().find_map(|(_, f)| if let Field::Peer(p) = f { Some(*p) } else { None })
    }
}

/// How a field is kept, and how it reads in a text.
trait AsField {
    fn field(&self) -> Field;
    fn shown(&self) -> String {
        match self.field() {
            Field::Bool(yes) => yes.to_string(),
            Field::Int(n) => n.to_string(),
            Field::Text(text) => text,
            Field::Torrent(_) | Field::Peer(_) => String::new(),
        }
    }
}

macro_rules! as_field {
    ($( $Type:ty: |$value:ident| $field:expr; )*) => {
        $( impl AsField for $Type { fn field(&self) -> Field { let $value = self; $field } } )*
    };
}

as_field! {
    String: |text| Field::Text(text.clone());
    u32: |n| Field::Int((*n).into());
    u64: |n| Field::Int(i64::try_from(*n).unwrap_or(i64::MAX));
    i64: |n| Field::Int(*n);
    [u8; 20]: |hash| Field::Text(hex(hash));
    [u8; 32]: |key| Field::Text(hex(key));
    Vec<u8>: |bytes| Field::Text(hex(bytes));
    Vec<[u8; 20]>: |hashes| Field::Text(joined(hashes.iter().map(|hash| hex(hash))));
    Vec<SocketAddr>: |addresses| Field::Text(joined(addresses.iter().map(ToString::to_string)));
    bool: |yes| Field::Bool(*yes);
    PieceIndex: |piece| Field::Int(piece.0.into());
    IpAddr: |address| Field::Text(address.to_string());
    SocketAddr: |address| Field::Text(address.to_string());
    TorrentHandle: |torrent| Field::Torrent(*torrent);
    PeerHandle: |peer| Field::Peer(*peer);
    TorrentState: |state| Field::Text(state.name().to_owned());
    ErrorCode: |error| Field::Text(describe(*error));
}

/// Lowercase hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn joined(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(" ")
}

/// The text of an error code, of whichever family.
pub fn describe(error: ErrorCode) -> String {
    match (error.text(), error.category) {
        (Some(text), _) => text.to_owned(),
        (None, ErrorCode::SYSTEM) => std::io::Error::from_raw_os_error(error.value).to_string(),
        (None, ErrorCode::HTTP) => format!("HTTP status {}", error.value),
        (None, ErrorCode::PLUGIN) => format!("a plugin's reason {}", error.value),
        (None, _) => format!("error {}:{}", error.category, error.value),
    }
}

/// A bounded queue of alerts. What does not fit is counted, and the count becomes an alert of its own.
#[derive(Debug)]
pub struct AlertQueue {
    queue: VecDeque<Alert>,
    limit: usize,
    dropped: u64,
}

impl AlertQueue {
    /// A queue of at most `limit` alerts.
    pub fn new(limit: usize) -> Self {
        Self { queue: VecDeque::new(), limit: limit.max(1), dropped: 0 }
    }

    /// Appends an alert, or counts it as dropped. An error may use twice the room of the others, so that a flood of
    /// progress does not hide it.
    pub fn push(&mut self, alert: Alert) {
        let room =
            if alert.kind.category().contains(AlertCategory::ERROR) { 2 * self.limit } else { self.limit };
        if self.queue.len() < room {
            self.queue.push_back(alert);
        } else {
            self.dropped += 1;
        }
    }

    /// Whether nothing is left to be taken.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.dropped == 0
    }

    /// The oldest alert; once the queue is empty, how many were dropped.
    pub fn pop(&mut self, now: Duration) -> Option<Alert> {
        self.queue.pop_front().or_else(|| {
            let dropped = std::mem::take(&mut self.dropped);
            (dropped > 0).then_some(Alert { timestamp: now, kind: AlertKind::AlertsDropped { dropped } })
        })
    }
}

/// The numbers of plugins' own alerts in one session.
#[derive(Debug, Default)]
pub struct CustomTypes(Vec<(PluginId, u32)>);

impl CustomTypes {
    /// The number for a plugin's kind of alert: the same for the same pair, above libtorrent's `user_alert_id`.
    pub fn number(&mut self, plugin: PluginId, kind: u32) -> u32 {
        let known = self.0.iter().position(|pair| *pair == (plugin, kind));
        let index = known.unwrap_or_else(|| {
            self.0.push((plugin, kind));
            self.0.len() - 1
        });
        USER_ALERT_ID + 1 + u32::try_from(index).unwrap_or(u32::MAX - USER_ALERT_ID - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(name: &str) -> Alert {
        let kind = AlertKind::TorrentPaused { torrent: TorrentHandle::INVALID, name: name.into() };
        Alert { timestamp: Duration::ZERO, kind }
    }

    #[test]
    fn a_full_queue_drops_and_says_how_many() {
        let mut queue = AlertQueue::new(2);
        (0..5).for_each(|i| queue.push(paused(&i.to_string())));
        queue
            .push(Alert { timestamp: Duration::ZERO, kind: AlertKind::SessionError { error: "bad".into() } });
        let texts: Vec<_> =
            std::iter::from_fn(|| queue.pop(Duration::ZERO)).map(|alert| alert.kind.message()).collect();
        assert_eq!(texts, ["0: paused", "1: paused", "bad", "3 alerts dropped: the queue was full"]);
    }

    #[test]
    fn custom_alerts_have_a_number_per_plugin_and_kind() {
        let mut types = CustomTypes::default();
        let numbers = [(0, 1), (1, 1), (0, 1), (0, 2)].map(|(p, k)| types.number(PluginId(p), k));
        assert_eq!(numbers, [10_001, 10_002, 10_001, 10_003]);
    }
}
