//! Trackers as bytes: what is asked of them, and what they answer, over HTTP ([`http`]) and UDP ([`udp`]).
//!
//! Both ways carry the same question, an [`AnnounceRequest`] or the info-hash of a scrape, and the same answer. What a
//! tracker says is bounded here: at most [`MOST_PEERS`] peers, texts of at most [`LONGEST_TEXT`] bytes, no time of more
//! than [`LONGEST_WAIT`].

pub mod http;
pub mod udp;
mod url;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use url::TrackerUrl;

use super::bencode::BencodeError;

/// Peers of one answer that are looked at; ten times as many as are asked for.
pub const MOST_PEERS: usize = 2_000;

/// The longest text of a tracker that is kept, in bytes.
pub const LONGEST_TEXT: usize = 1_024;

/// The longest time that a tracker may ask us to wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a tracker is told besides figures (BEP 3, 21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnnounceEvent {
    /// Nothing has happened.
    None,
    /// The download was completed just now.
    Completed,
    /// This is the first time.
    Started,
    /// This is the last time.
    Stopped,
    /// Nothing has happened; all that is wanted is there, but not everything (BEP 21).
    Paused,
}

impl AnnounceEvent {
    /// Its name in a URL; empty for [`None`](Self::None).
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Completed => "completed",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }
}

/// What a tracker is told, and asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// Which torrent. Of a v2 torrent, the first twenty bytes.
    pub info_hash: [u8; 20],
    /// Who we are.
    pub peer_id: [u8; 20],
    /// Where we listen.
    pub port: u16,
    /// Payload sent since the session started, in bytes.
    pub uploaded: u64,
    /// Payload received since the session started, in bytes.
    pub downloaded: u64,
    /// What is missing, in bytes.
    pub left: u64,
    /// What came and was wrong, in bytes.
    pub corrupt: u64,
    /// What happened.
    pub event: AnnounceEvent,
    /// By which the tracker knows us again when our address has changed.
    pub key: u32,
    /// How many peers we should like.
    pub num_want: u32,
    /// What it said under `tracker id`.
    pub trackerid: Option<Vec<u8>>,
}

/// The answer to an announce. Everything in it is the tracker's claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceReply {
    /// When to ask again.
    pub interval: Option<Duration>,
    /// Not to be asked again sooner.
    pub min_interval: Option<Duration>,
    /// To be told the next time.
    pub trackerid: Option<Vec<u8>>,
    /// Seeds.
    pub complete: Option<u32>,
    /// Peers that are no seeds.
    pub incomplete: Option<u32>,
    /// How often the torrent was downloaded.
    pub downloaded: Option<u32>,
    /// Peers.
    pub peers: Vec<SocketAddr>,
    /// Our address, as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// It works, but something is wrong.
    pub warning: Option<String>,
}

/// A torrent's figures, as a tracker knows them (BEP 48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeReply {
    /// Seeds.
    pub complete: Option<u32>,
    /// Peers that are no seeds.
    pub incomplete: Option<u32>,
    /// How often it was downloaded.
    pub downloaded: Option<u32>,
}

/// When a tracker that refused may be asked again (BEP 31).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// It did not say.
    #[default]
    Unsaid,
    /// Not before so long.
    After(Duration),
    /// Never.
    Never,
}

/// Why a tracker did not answer, or not with what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackerError {
    /// The tracker refuses: its own words.
    #[error("{reason}")]
    Refused {
        /// What it says.
        reason: String,
        /// When it may be asked again.
        retry: Retry,
    },
    /// The answer is not bencoded.
    #[error("the tracker's answer makes no sense: {0}")]
    Bencode(#[from] BencodeError),
    /// The answer lacks what was asked for.
    #[error("the tracker's answer makes no sense: it has no {0}")]
    Missing(&'static str),
    /// A web server answered, but not with an answer.
    #[error("the tracker answered with HTTP status {0}")]
    Status(u16),
    /// The URL is not one of a tracker that we can talk to.
    #[error("{0}")]
    Url(&'static str),
    /// The tracker does not offer it.
    #[error("the tracker's URL has no counterpart for scraping")]
    NoScrape,
    /// The tracker speaks UDP, for which the proxy has no way.
    #[error("a tracker cannot be reached by UDP through a proxy that speaks HTTP")]
    NoUdp,
    /// All addresses of the tracker are kept out.
    #[error("the tracker is blocked by the IP filter")]
    Blocked,
    /// No answer came in time.
    #[error("the tracker did not answer in time")]
    TimedOut,
    /// The tracker could not be reached: the operating system's words, or those of whatever was in the way.
    #[error("{0}")]
    Unreachable(String),
}

impl TrackerError {
    /// When asking again has any use.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused { retry, .. } => *retry,
            Self::Url(_) | Self::NoScrape => Retry::Never,
            _ => Retry::Unsaid,
        }
    }
}

/// A tracker's text, short enough to be kept and shown.
fn text(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(LONGEST_TEXT)];
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect()
}

/// A tracker's number of seconds, if it is one.
fn seconds(number: i64) -> Option<Duration> {
    u64::try_from(number).ok().map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT))
}
