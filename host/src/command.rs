//! What the embedding program's threads may ask of the engine. Commands are queued and carried out in the tick.

mod dht;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pilotfish_plugin::rt::{HookStatus, LINKED_TAKE_PANIC, Sink};
use pilotfish_plugin::{
    AlertCategory, ConnectionType, PeerHandle, PeerSource, PieceIndex, SessionBox, SessionContext,
    SessionPlugin, TorrentBox, TorrentHandle, TorrentState, Userdata,
};

pub use self::dht::{DhtCommand, DhtItem, DhtItemError, LONGEST_SALT, LONGEST_VALUE, MutableItem, SecretKey};
use crate::ip_filter::IpFilter;
use crate::metainfo::{Description, InfoHashes, Resume};

/// One request. Those with an answer name a [`Ticket`].
#[derive(Debug)]
pub enum Command {
    /// Adds a torrent; answered by [`Answer::Added`].
    AddTorrent(Ticket, Box<AddTorrent>),
    /// Removes a torrent; with `delete_files`, its files too.
    RemoveTorrent {
        /// Which.
        torrent: TorrentHandle,
        /// Whether its files go too.
        delete_files: bool,
    },
    /// These categories of alerts are wanted besides those of the setting `alert_mask`.
    Subscribed(AlertCategory),
    /// Asks for a torrent's info dictionary; answered by [`Answer::Metadata`].
    Metadata(Ticket, TorrentHandle),
    /// Pauses a torrent.
    PauseTorrent(TorrentHandle),
    /// Pauses a torrent once the blocks that it asked for have come.
    PauseTorrentGracefully(TorrentHandle),
    /// Resumes a torrent.
    ResumeTorrent(TorrentHandle),
    /// Hashes a torrent's files again.
    Recheck(TorrentHandle),
    /// Offers a torrent a peer.
    ConnectPeer {
        /// To which torrent.
        torrent: TorrentHandle,
        /// The peer.
        address: SocketAddr,
        /// Who knows of it.
        source: PeerSource,
    },
    /// Adds a web seed to a torrent.
    AddUrlSeed {
        /// To which torrent.
        torrent: TorrentHandle,
        /// Where its files are.
        url: String,
        /// [`ConnectionType::URL_SEED`] or [`ConnectionType::HTTP_SEED`].
        kind: ConnectionType,
    },
    /// Takes a web seed away from a torrent.
    RemoveUrlSeed {
        /// From which torrent.
        torrent: TorrentHandle,
        /// As it was given.
        url: String,
        /// As above.
        kind: ConnectionType,
    },
    /// Asks for a torrent's web seeds of one sort; answered by [`Answer::UrlSeeds`].
    UrlSeeds(Ticket, TorrentHandle, ConnectionType),
    /// Sets the priority of a piece, 0 (not wanted) to 7.
    SetPiecePriority {
        /// Of which torrent.
        torrent: TorrentHandle,
        /// Which piece.
        piece: PieceIndex,
        /// How much it is wanted.
        priority: u8,
    },
    /// Changes one of a torrent's limits.
    SetTorrentLimit(TorrentHandle, TorrentLimit),
    /// Changes one of a connection's rate limits.
    SetPeerLimit {
        /// Which connection.
        peer: PeerHandle,
        /// Whether it is the limit of what is sent to it, or of what it sends.
        upload: bool,
        /// B/s; 0 is no limit.
        limit: u32,
    },
    /// Super-seeds a torrent to the peers that come from now on, or to nobody any more.
    SetSuperSeeding(TorrentHandle, bool),
    /// Which addresses are let in from now on; connections to others are closed.
    SetIpFilter(Arc<IpFilter>),
    /// Sets the priorities of a torrent's files, 0 (not wanted) to 7; its pieces follow.
    PrioritizeFiles(TorrentHandle, Vec<u8>),
    /// Keeps an address out of a torrent, or of the whole session if none is named.
    Ban {
        /// Of which torrent.
        torrent: Option<TorrentHandle>,
        /// The address, whatever its port.
        address: IpAddr,
        /// Why, in words.
        reason: String,
    },
    /// Lifts a ban from a torrent, or from the session if none is named.
    Unban {
        /// From which torrent.
        torrent: Option<TorrentHandle>,
        /// The address.
        address: IpAddr,
    },
    /// Asks for all bans; answered by [`Answer::Bans`].
    Bans(Ticket),
    /// Pauses or resumes the session.
    PauseSession(bool),
    /// Has a torrent's trackers asked again, sooner than they would be.
    ForceReannounce {
        /// Of which torrent.
        torrent: TorrentHandle,
        /// How long from now.
        after: Duration,
        /// Which tracker, by its place in the list of [`Answer::Trackers`]; `None` for all.
        tracker: Option<usize>,
        /// Whether that is all right although a tracker asked for more rest.
        ignore_min_interval: bool,
    },
    /// Asks a tracker for a torrent's figures; an alert says how that ended.
    ScrapeTracker {
        /// Of which torrent.
        torrent: TorrentHandle,
        /// Which tracker, by its place in the list; `None` for the first that works.
        tracker: Option<usize>,
    },
    /// Gives a torrent another tracker. One that it has already is not added again.
    AddTracker {
        /// Which torrent.
        torrent: TorrentHandle,
        /// The tracker's URL.
        url: String,
        /// Its tier; lower ones are asked first.
        tier: u8,
    },
    /// Asks how a torrent's trackers stand; answered by [`Answer::Trackers`].
    Trackers(Ticket, TorrentHandle),
    /// Changes a setting by libtorrent's name; answered by [`Answer::Setting`].
    Set(Ticket, String, String),
    /// Registers a plugin; answered by [`Answer::Plugin`].
    AddPlugin(Ticket, PluginSource),
    /// Attaches a plugin to a running torrent.
    AddTorrentExtension(TorrentHandle, TorrentExtension),
    /// The figures of a torrent; answered by [`Answer::Status`].
    Status(Ticket, TorrentHandle),
    /// What plugins and the DHT want to keep; answered by [`Answer::State`].
    SaveState(Ticket),
    /// What is known of a torrent's files, for its next start; answered by [`Answer::ResumeData`].
    SaveResumeData(Ticket, TorrentHandle, SaveResumeFlags),
    /// The same of all torrents, at the end of the session: answered by [`Answer::AllResumeData`] right before
    /// [`Output::Stopped`], when everything is written.
    ///
    /// [`Output::Stopped`]: crate::engine::Output::Stopped
    SaveResumeDataAtEnd(Ticket, SaveResumeFlags),
    /// Asks something of the DHT.
    Dht(DhtCommand),
    /// Stores something in the DHT; answered by [`Answer::Stored`].
    DhtPut(Ticket, DhtItem),
    /// Plugins learn that the session shuts down, everything is closed, and [`Output::Stopped`] follows.
    ///
    /// [`Output::Stopped`]: crate::engine::Output::Stopped
    Shutdown,
}

/// Names a command that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// The answer to a command.
#[derive(Debug)]
pub enum Answer {
    /// The torrent that was added, or the one that was there already.
    Added(Result<TorrentHandle, AddTorrentError>),
    /// Whether a setting was changed.
    Setting(Result<(), crate::settings::SettingError>),
    /// Why a plugin was not registered.
    Plugin(Result<(), String>),
    /// A torrent's figures; `None` if it is gone.
    Status(Option<Box<TorrentStatus>>),
    /// A torrent's info dictionary, as it was written; `None` if it is not known, or the torrent is gone.
    Metadata(Option<Bytes>),
    /// The URLs of a torrent's web seeds; `None` if the torrent is gone.
    UrlSeeds(Option<Vec<String>>),
    /// A torrent's trackers, in the order in which they are tried; `None` if the torrent is gone.
    Trackers(Option<Vec<TrackerStatus>>),
    /// Every ban, the session's before those of torrents.
    Bans(Vec<Ban>),
    /// Per plugin, the bencoded dictionary that it keeps; and that of the DHT.
    State(Vec<(String, Vec<u8>)>),
    /// What is known of a torrent. `None` if nothing of what was asked for has changed, its files are being checked, or it is
    /// gone.
    ResumeData(Option<Box<Resume>>),
    /// What is known of each torrent of which anything is.
    AllResumeData(Vec<Resume>),
    /// Where an item will be found; or why it is not stored.
    Stored(Result<[u8; 20], DhtItemError>),
}

/// What resume data should hold, and on which condition it is wanted (libtorrent's `save_resume_flags_t`, with its bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveResumeFlags(pub u8);

impl SaveResumeFlags {
    /// Whatever happened, without the info dictionary.
    pub const NONE: Self = Self(0);
    /// The info dictionary too, so that a magnet link need not be asked about again.
    pub const SAVE_INFO_DICT: Self = Self(1 << 1);
    /// Only if anything changed since the last record.
    pub const ONLY_IF_MODIFIED: Self = Self(Self::CONDITIONS);
    /// Only if payload was sent or received, or if other conditions are fulfilled that are given.
    pub const IF_COUNTERS_CHANGED: Self = Self(1 << 3);
    /// As before, if blocks were written, or pieces found to be right or wrong.
    pub const IF_DOWNLOAD_PROGRESS: Self = Self(1 << 4);
    /// As before, if other files or pieces are wanted.
    pub const IF_CONFIG_CHANGED: Self = Self(1 << 5);
    /// As before, if the torrent was paused, resumed or finished.
    pub const IF_STATE_CHANGED: Self = Self(1 << 6);

    const CONDITIONS: u8 = 0b111 << 3 | 1 << 6;

    /// Whether all of `other` is in it.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a record is wanted after these changes.
    pub fn are_met_by(self, changed: Self) -> bool {
        let conditions = self.0 & Self::CONDITIONS;
        conditions == 0 || conditions & changed.0 != 0
    }
}

impl std::ops::BitOr for SaveResumeFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An address that is banned: it is neither let in nor connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The address.
    pub address: IpAddr,
    /// From which torrent; `None` if from all of the session.
    pub torrent: Option<TorrentHandle>,
    /// Who asked for it: a plugin's name, `engine`, or `program` for the one that embeds it.
    pub by: String,
    /// Why, in words.
    pub reason: String,
}

/// A torrent to be added (libtorrent's `add_torrent_params`).
#[derive(Clone, Debug)]
pub struct AddTorrent {
    /// What is known of it.
    pub description: Description,
    /// The folder that holds, or will hold, its files. The session's own if `None`.
    pub save_path: Option<PathBuf>,
    /// Whether it starts paused.
    pub paused: bool,
    /// Peers to begin with, and who knows of them. They are offered before anything else happens to the torrent.
    pub peers: Vec<(SocketAddr, PeerSource)>,
    /// Limits below those of the session.
    pub limits: TorrentLimits,
    /// URLs that serve the files over HTTP, besides those that the torrent names (BEP 19).
    pub web_seeds: Vec<String>,
    /// Whether it is given away piece by piece once it is complete (BEP 16).
    pub super_seeding: bool,
    /// A number that plugins can read back.
    pub userdata: Userdata,
    /// Plugins for this torrent alone, attached before those that session plugins make.
    pub extensions: Vec<TorrentExtension>,
    /// Stop after the check: neither connect nor download (for `verify`).
    pub check_only: bool,
    /// The priority of each file, 0 (not wanted) to 7; those beyond the end of the list are wanted. With a link, it counts once
    /// there are files, and in the place of what the link selects.
    pub file_priorities: Vec<u8>,
    /// The priority of each piece, in the place of those that follow from files. Not with a link.
    pub piece_priorities: Vec<u8>,
    /// Addresses that are banned.
    pub banned_peers: Vec<IpAddr>,
    /// What was known of its files last time. It says which pieces are there, how much was sent and received before, and
    /// when the torrent was added; everything else is as the fields above say.
    pub resume: Option<Box<Resume>>,
    /// Exchange no peers with its peers (libtorrent's `torrent_flags::disable_pex`).
    pub disable_pex: bool,
}

impl AddTorrent {
    /// A torrent, by its file or by a magnet link, with the defaults. The peers of a link are offered like
    /// [`peers`](Self::peers).
    pub fn new(description: impl Into<Description>) -> Self {
        Self {
            description: description.into(),
            save_path: None,
            paused: false,
            peers: Vec::new(),
            limits: TorrentLimits::default(),
            web_seeds: Vec::new(),
            super_seeding: false,
            userdata: Userdata(0),
            extensions: Vec::new(),
            check_only: false,
            file_priorities: Vec::new(),
            piece_priorities: Vec::new(),
            banned_peers: Vec::new(),
            resume: None,
            disable_pex: false,
        }
    }

    /// The torrent as it was when `resume` was made (libtorrent's `read_resume_data`): its folder, peers, web seeds, bans and
    /// priorities, and whether it was paused. Where the record has the metadata of a link, the torrent begins with it.
    ///
    /// Before the session gets it, [`Resume::opened`] should be written down: see [`crate::metainfo::resume`].
    pub fn from_resume(description: impl Into<Description>, resume: Resume) -> Self {
        let description = resume.describe(description.into());
        let peers = resume.peers.iter().map(|peer| (*peer, PeerSource::RESUME_DATA));
        Self {
            save_path: Some(resume.save_path.clone().into()),
            paused: resume.paused,
            peers: peers.collect(),
            web_seeds: resume.web_seeds.clone(),
            file_priorities: resume.file_priorities.clone(),
            piece_priorities: resume.piece_priorities.clone(),
            banned_peers: resume.banned_peers.clone(),
            resume: Some(Box::new(resume)),
            ..Self::new(description)
        }
    }
}

/// The limits of one torrent, by libtorrent's names. Those of the session hold besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TorrentLimits {
    /// The most that is sent, protocol included, in B/s; 0 is no limit.
    pub upload_limit: u32,
    /// The most that is received, protocol included, in B/s; 0 is no limit.
    pub download_limit: u32,
    /// The most peers that it is uploaded to at a time; 0 is no limit.
    pub max_uploads: u32,
    /// The most connections at a time; 0 is no limit.
    pub max_connections: u32,
}

/// One of the limits of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorrentLimit {
    /// [`TorrentLimits::upload_limit`].
    Upload(u32),
    /// [`TorrentLimits::download_limit`].
    Download(u32),
    /// [`TorrentLimits::max_uploads`].
    Uploads(u32),
    /// [`TorrentLimits::max_connections`].
    Connections(u32),
}

/// A plugin that is to be registered.
pub struct PluginSource {
    /// Its name, unique in the session.
    pub name: String,
    /// Hands out the report of its last panic.
    pub take_panic: unsafe extern "C" fn(Sink<'_>) -> HookStatus,
    /// Makes its object.
    pub open: OpenPlugin,
    /// What it kept last time: a bencoded dictionary.
    pub saved_state: Option<Vec<u8>>,
}

/// Makes a plugin object, on the network thread.
pub type OpenPlugin = Box<dyn FnOnce(&mut SessionContext<'_>) -> Result<SessionBox, String> + Send>;

impl PluginSource {
    /// A plugin that is linked into the embedding program.
    pub fn linked(
        name: impl Into<String>,
        open: impl FnOnce(&mut SessionContext<'_>) -> Result<SessionBox, String> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), take_panic: LINKED_TAKE_PANIC, open: Box::new(open), saved_state: None }
    }

    /// A factory of torrent plugins alone, for every torrent of the session.
    pub fn torrent_factory(extension: TorrentExtension) -> Self {
        let TorrentExtension { name, make } = extension;
        Self::linked(name, move |_| Ok(SessionBox::new(Factory(make))))
    }
}

impl std::fmt::Debug for PluginSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PluginSource({})", self.name)
    }
}

/// A session plugin that is a factory of torrent plugins, and nothing else.
struct Factory(MakeTorrentPlugin);

#[pilotfish_plugin::hooks]
impl SessionPlugin for Factory {
    fn new_torrent(
        &mut self,
        cx: &mut SessionContext<'_>,
        torrent: TorrentHandle,
        userdata: Userdata,
    ) -> Option<TorrentBox> {
        (self.0)(cx, torrent, userdata)
    }
}

/// A factory of torrent plugins that is linked into the embedding program (libtorrent's functions in
/// `add_torrent_params::extensions`, and the argument of `torrent_handle::add_extension`).
#[derive(Clone)]
pub struct TorrentExtension {
    /// Its name, to which panics and log lines are put down.
    pub name: String,
    /// Makes the plugin object of a torrent, on the network thread; `None` if it has no use for that torrent.
    pub make: MakeTorrentPlugin,
}

/// Makes a torrent plugin, on the network thread.
pub type MakeTorrentPlugin =
    Arc<dyn Fn(&mut SessionContext<'_>, TorrentHandle, Userdata) -> Option<TorrentBox> + Send + Sync>;

impl TorrentExtension {
    /// A factory.
    pub fn new(
        name: impl Into<String>,
        make: impl Fn(&mut SessionContext<'_>, TorrentHandle, Userdata) -> Option<TorrentBox>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { name: name.into(), make: Arc::new(make) }
    }
}

impl std::fmt::Debug for TorrentExtension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TorrentExtension({})", self.name)
    }
}

/// Why a torrent was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddTorrentError {
    /// A magnet link to a torrent that has no v1 side (BEP 52).
    #[error("the torrent is of version 2 only, which is not supported yet")]
    V2Only,
    /// A plugin's parameters could not be read.
    #[error("{0}")]
    Parameters(String),
    /// The session is shutting down.
    #[error("the session is shutting down")]
    ShuttingDown,
}

/// A torrent's figures at one moment (libtorrent's `torrent_status`).
#[derive(Clone, Debug)]
pub struct TorrentStatus {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub info_hashes: InfoHashes,
    /// What it is doing.
    pub state: TorrentState,
    /// Whether it is paused.
    pub paused: bool,
    /// What went wrong, if it stopped for that.
    pub error: Option<String>,
    /// All bytes.
    pub total: u64,
    /// Verified bytes.
    pub total_done: u64,
    /// Bytes of the pieces that are wanted.
    pub total_wanted: u64,
    /// Verified bytes of those.
    pub total_wanted_done: u64,
    /// Of a check, the pieces that have been looked at.
    pub pieces_checked: u32,
    /// Pieces that are there.
    pub num_pieces: u32,
    /// All pieces.
    pub total_pieces: u32,
    /// Payload received in this session, bytes.
    pub total_payload_download: u64,
    /// Payload sent in this session, bytes.
    pub total_payload_upload: u64,
    /// Payload received, B/s.
    pub download_payload_rate: u64,
    /// Payload sent, B/s.
    pub upload_payload_rate: u64,
    /// Its limits.
    pub limits: TorrentLimits,
    /// Bytes whose piece failed its hash check.
    pub total_failed_bytes: u64,
    /// Bytes that came twice, or unasked.
    pub total_redundant_bytes: u64,
    /// Payload received since the torrent was first added, bytes.
    pub all_time_download: u64,
    /// Payload sent since the torrent was first added, bytes.
    pub all_time_upload: u64,
    /// When it was first added, in seconds since 1970.
    pub added_time: i64,
    /// When it was finished, in seconds since 1970; 0 if it is not.
    pub completed_time: i64,
    /// Connections.
    pub num_peers: u32,
    /// Connections to seeds.
    pub num_seeds: u32,
}

/// How a tracker of a torrent stands at one moment (libtorrent's `announce_entry`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerStatus {
    /// Its URL.
    pub url: String,
    /// Its tier; lower ones are asked first.
    pub tier: u8,
    /// How often it failed in a row.
    pub fails: u32,
    /// Whether it has ever answered.
    pub verified: bool,
    /// Whether it is being asked.
    pub updating: bool,
    /// Whether it knows of us.
    pub start_sent: bool,
    /// In how long it is asked again; `None` if never by itself.
    pub next_announce: Option<Duration>,
    /// Why it failed last, or its warning; empty if there is none.
    pub message: String,
    /// How many seeds it knows.
    pub scrape_complete: Option<u32>,
    /// How many peers it knows that are no seeds.
    pub scrape_incomplete: Option<u32>,
    /// How often it was told of a completed download.
    pub scrape_downloaded: Option<u32>,
}

impl TorrentStatus {
    /// Whether all wanted pieces are there.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, TorrentState::FINISHED | TorrentState::SEEDING)
    }
}
