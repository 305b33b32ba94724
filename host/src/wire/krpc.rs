//! KRPC: the DHT's queries, answers and errors, one bencoded dictionary per datagram (BEP 5, 32, 33, 42, 43, 44, 51).
//!
//! A datagram is read in two steps: [`checked`] makes sure that it is one dictionary of bearable size, repaired if need be,
//! and [`Packet::read`] takes out of it what the protocol knows. Nothing is decoded that is not asked for, and no decoder is
//! set up: a datagram costs two passes over its bytes. What is of the wrong type or length counts as missing.

mod write;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use pilotfish_plugin::{Dict, Value};

pub use self::write::endpoint;
use super::bencode::{BencodeError, Limits, canonical};
use super::compact;

/// How much structure a datagram may have: libtorrent's depth, and room for more peers than a datagram holds.
const LIMITS: Limits = Limits::new(10, 1_000);
/// A datagram that is longer than this is none of the DHT's, in bytes.
pub const LONGEST: usize = 4_096;
/// A transaction id is sent back as it came: no longer than this, in bytes.
const LONGEST_TRANSACTION: usize = 32;
/// Bytes of a node in the compact form, by address family: an id, an address, a port.
const NODE_LEN: [usize; 2] = [20 + compact::V4_LEN, 20 + compact::V6_LEN];

/// A place in the space that nodes, info-hashes and items share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub [u8; 20]);

impl NodeId {
    /// How far away `other` is (the XOR metric): smaller is closer.
    pub fn distance(self, other: Self) -> [u8; 20] {
        std::array::from_fn(|i| self.0[i] ^ other.0[i])
    }

    /// How many bits at the beginning are the same, at most 160.
    pub fn shared_bits(self, other: Self) -> u32 {
        let distance = self.distance(other);
        let zeros = distance.iter().take_while(|byte| **byte == 0).count();
        let rest = distance.get(zeros).map_or(0, |byte| byte.leading_zeros());
        u32::try_from(zeros).unwrap_or(20) * 8 + rest
    }

    fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Lowercase hexadecimal.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// A node and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// What it calls itself.
    pub id: NodeId,
    /// Where it is.
    pub address: SocketAddr,
}

/// Makes sure that a datagram is one bencoded dictionary; repaired where it has only one meaning.
///
/// # Errors
/// It is too long, malformed, nests or counts too deep or too high, or something follows it.
pub fn checked(datagram: &[u8]) -> Result<Cow<'_, [u8]>, KrpcError> {
    if datagram.len() > LONGEST {
        return Err(KrpcError::TooLong(datagram.len()));
    }
    let (bytes, length) = canonical(datagram, LIMITS)?;
    match bytes.first() {
        Some(b'd') if length == datagram.len() => Ok(bytes),
        _ => Err(KrpcError::NotADictionary),
    }
}

/// Why a datagram is not one of the DHT's; always the fault of whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KrpcError {
    /// More bytes than any message has.
    #[error("a datagram of {0} bytes is longer than any message")]
    TooLong(usize),
    /// It is not bencoded.
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    /// It is bencoded, but not one dictionary alone.
    #[error("the datagram is not one dictionary")]
    NotADictionary,
    /// What every message of its kind has is not there, or of the wrong type or length.
    #[error("the message has no valid {0:?}")]
    Missing(&'static str),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What the asker calls the question; the answer has it, too.
    pub transaction: &'a [u8],
    /// Our address, as the sender sees it (BEP 42).
    pub ip: Option<SocketAddr>,
    /// What it says.
    pub body: Body<'a>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// It asks something.
    Query(Query<'a>),
    /// It answers.
    Response(Response<'a>),
    /// It answers that it will not.
    Error {
        /// 201 generic, 202 server, 203 protocol, 204 unknown method; BEP 44 has more.
        code: i64,
        /// In words.
        text: String,
    },
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// Who asks.
    pub id: NodeId,
    /// The name of the question.
    pub method: &'a str,
    /// Whether who asks answers no questions, and is not to be remembered (BEP 43).
    pub read_only: bool,
    /// What is asked; or, in words, what is wrong with it.
    pub arguments: Result<Arguments<'a>, &'static str>,
}

/// The address families that nodes are asked for of (BEP 32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Want {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments<'a> {
    /// Are you there?
    Ping,
    /// Which nodes are closest to `target`?
    FindNode {
        /// Closest to what.
        target: NodeId,
        /// Of which address families; none is that of the datagram.
        want: Want,
    },
    /// Who has this torrent, and which nodes are closest to it?
    GetPeers {
        /// The torrent.
        info_hash: NodeId,
        /// Of which address families nodes are wanted.
        want: Want,
        /// How many they are is wanted, and not who (BEP 33).
        scrape: bool,
    },
    /// I have this torrent.
    AnnouncePeer {
        /// The torrent.
        info_hash: NodeId,
        /// Where its peers connect to; `None` is the port that the datagram came from.
        port: Option<u16>,
        /// What the answer to `get_peers` contained.
        token: &'a [u8],
        /// Whether it has all of it.
        seed: bool,
    },
    /// What is stored here (BEP 44)?
    Get {
        /// Where.
        target: NodeId,
        /// Only if its number is greater.
        seq: Option<i64>,
        /// Of which address families nodes are wanted.
        want: Want,
    },
    /// Store this (BEP 44).
    Put {
        /// Where. It follows from the item and is not in BEP 44, but nodes of the crate `mainline` store nothing without it.
        target: Option<NodeId>,
        /// What the answer to `get` contained.
        token: &'a [u8],
        /// What.
        item: Item<'a>,
        /// Only if the number of what is stored is this.
        cas: Option<i64>,
    },
    /// Which torrents do you know of (BEP 51)?
    SampleInfohashes {
        /// And which nodes are closest to this?
        target: NodeId,
        /// Of which address families nodes are wanted.
        want: Want,
    },
}

impl Arguments<'_> {
    /// The name of the question.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::FindNode { .. } => "find_node",
            Self::GetPeers { .. } => "get_peers",
            Self::AnnouncePeer { .. } => "announce_peer",
            Self::Get { .. } => "get",
            Self::Put { .. } => "put",
            Self::SampleInfohashes { .. } => "sample_infohashes",
        }
    }

    /// What nodes are asked for that are close to: to what, and of which families.
    pub fn nodes_wanted(&self) -> Option<(NodeId, Want)> {
        match *self {
            Self::FindNode { target, want }
            | Self::Get { target, want, .. }
            | Self::SampleInfohashes { target, want } => Some((target, want)),
            Self::GetPeers { info_hash, want, .. } => Some((info_hash, want)),
            Self::Ping | Self::AnnouncePeer { .. } | Self::Put { .. } => None,
        }
    }
}

/// What the DHT stores for others (BEP 44).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A bencoded value, found by its hash.
    Immutable {
        /// The value.
        value: &'a [u8],
    },
    /// A bencoded value that its owner may replace, found by the owner's key.
    Mutable {
        /// The owner's public key.
        key: &'a [u8; 32],
        /// The owner's signature of salt, number and value.
        signature: &'a [u8; 64],
        /// Greater is newer.
        seq: i64,
        /// Tells several items of one key apart.
        salt: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
}

/// An answer: of what it may hold, what is there.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Response<'a> {
    /// Who answers.
    pub id: NodeId,
    /// Nodes that are closer, of both address families.
    pub nodes: Vec<NodeInfo>,
    /// Peers of the torrent.
    pub peers: Vec<SocketAddr>,
    /// Those peers that have everything, and the others, each as a Bloom filter (BEP 33).
    pub filters: Option<[&'a [u8; 256]; 2]>,
    /// To be shown by who announces or stores.
    pub token: Option<&'a [u8]>,
    /// The owner of the item (BEP 44).
    pub key: Option<&'a [u8; 32]>,
    /// Its signature.
    pub signature: Option<&'a [u8; 64]>,
    /// Its number.
    pub seq: Option<i64>,
    /// The item, bencoded.
    pub value: Option<&'a [u8]>,
    /// Torrents that the node knows of (BEP 51).
    pub samples: Option<Samples>,
}

/// Torrents that a node knows of (BEP 51).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Samples {
    /// How long the answer will stay the same, in seconds.
    pub interval: u32,
    /// How many torrents it knows of.
    pub num: u32,
    /// Some of them.
    pub hashes: Vec<[u8; 20]>,
}

impl<'a> Packet<'a> {
    /// Reads what [`checked`] let pass.
    ///
    /// # Errors
    /// It lacks what every message of its kind has, so that there is nobody to be answered.
    pub fn read(bytes: &'a [u8]) -> Result<Self, KrpcError> {
        let (dict, _) = Dict::parse(bytes).ok_or(KrpcError::NotADictionary)?;
        let transaction = dict.bytes("t").filter(|t| t.len() <= LONGEST_TRANSACTION);
        let transaction = transaction.ok_or(KrpcError::Missing("t"))?;
        let body = match dict.bytes("y") {
            Some(b"q") => Body::Query(query(dict)?),
            Some(b"r") => Body::Response(response(dict.dict("r").ok_or(KrpcError::Missing("r"))?)?),
            Some(b"e") => error(dict)?,
            _ => return Err(KrpcError::Missing("y")),
        };
        Ok(Self { transaction, ip: dict.bytes("ip").and_then(address_of), body })
    }
}

/// Whether a datagram may be one of the DHT's, by how it begins: other protocols on the port begin otherwise.
pub fn is_krpc(datagram: &[u8]) -> bool {
    datagram.first() == Some(&b'd') && datagram.last() == Some(&b'e')
}

fn query(dict: Dict<'_>) -> Result<Query<'_>, KrpcError> {
    let method = dict.str("q").ok_or(KrpcError::Missing("q"))?;
    let a = dict.dict("a").ok_or(KrpcError::Missing("a"))?;
    let id = id_at(a, "id").ok_or(KrpcError::Missing("id"))?;
    let read_only = dict.int("ro").is_some_and(|ro| ro != 0);
    Ok(Query { id, method, read_only, arguments: arguments(method, a) })
}

fn arguments<'a>(method: &str, a: Dict<'a>) -> Result<Arguments<'a>, &'static str> {
    let target = || id_at(a, "target").ok_or("missing 'target' key");
    let info_hash = || id_at(a, "info_hash").ok_or("missing 'info_hash' key");
    let token = || a.bytes("token").ok_or("missing 'token' key");
    let want = want(a);
    Ok(match method {
        "ping" => Arguments::Ping,
        "find_node" => Arguments::FindNode { target: target()?, want },
        "get_peers" => Arguments::GetPeers {
            info_hash: info_hash()?,
            want,
            scrape: a.int("scrape").is_some_and(|scrape| scrape != 0),
        },
        "announce_peer" => Arguments::AnnouncePeer {
            info_hash: info_hash()?,
            port: match a.int("implied_port") {
                Some(implied) if implied != 0 => None,
                _ => Some(port_at(a, "port").ok_or("invalid port")?),
            },
            token: token()?,
            seed: a.int("seed").is_some_and(|seed| seed != 0),
        },
        "get" => Arguments::Get { target: target()?, seq: a.int("seq"), want },
        "put" => {
            Arguments::Put { target: id_at(a, "target"), token: token()?, item: item(a)?, cas: a.int("cas") }
        }
        "sample_infohashes" => Arguments::SampleInfohashes { target: target()?, want },
        // As with libtorrent: whatever is asked about some place, the nodes there may know.
        _ => match target().or_else(|_| info_hash()) {
            Ok(target) => Arguments::FindNode { target, want },
            Err(_) => return Err("unknown message"),
        },
    })
}

fn want(a: Dict<'_>) -> Want {
    let Some(list) = a.list("want") else { return Want::default() };
    list.iter().take(8).filter_map(Value::bytes).fold(Want::default(), |want, family| match family {
        b"n4" => Want { v4: true, ..want },
        b"n6" => Want { v6: true, ..want },
        _ => want,
    })
}

fn item(a: Dict<'_>) -> Result<Item<'_>, &'static str> {
    let value = raw_at(a, b"v").ok_or("missing 'v' key")?;
    let Some(key) = a.bytes("k") else { return Ok(Item::Immutable { value }) };
    Ok(Item::Mutable {
        key: key.try_into().map_err(|_| "invalid public key")?,
        signature: a.bytes("sig").and_then(|sig| sig.try_into().ok()).ok_or("invalid signature")?,
        seq: a.int("seq").filter(|seq| *seq >= 0).ok_or("invalid seq")?,
        salt: a.bytes("salt").unwrap_or_default(),
        value,
    })
}

fn response(r: Dict<'_>) -> Result<Response<'_>, KrpcError> {
    let id = id_at(r, "id").ok_or(KrpcError::Missing("id"))?;
    let nodes = |key| r.bytes(key).unwrap_or_default();
    let mut all: Vec<NodeInfo> = nodes("nodes").chunks_exact(NODE_LEN[0]).filter_map(node).collect();
    all.extend(nodes("nodes6").chunks_exact(NODE_LEN[1]).filter_map(node));
    let values = r.list("values").into_iter().flat_map(|list| list.iter());
    let samples = r.bytes("samples").map(|hashes| Samples {
        interval: r.int("interval").and_then(|n| n.try_into().ok()).unwrap_or(0),
        num: r.int("num").and_then(|n| n.try_into().ok()).unwrap_or(0),
        hashes: hashes.as_chunks().0.to_vec(),
    });
    let filter = |key| r.bytes(key).and_then(|filter| filter.try_into().ok());
    Ok(Response {
        id,
        nodes: all,
        filters: filter("BFsd").zip(filter("BFpe")).map(|(seeds, others)| [seeds, others]),
        peers: values.filter_map(Value::bytes).filter_map(address_of).collect(),
        token: r.bytes("token"),
        key: r.bytes("k").and_then(|key| key.try_into().ok()),
        signature: r.bytes("sig").and_then(|sig| sig.try_into().ok()),
        seq: r.int("seq"),
        value: raw_at(r, b"v"),
        samples,
    })
}

fn error(dict: Dict<'_>) -> Result<Body<'static>, KrpcError> {
    let e = dict.list("e").ok_or(KrpcError::Missing("e"))?;
    let mut items = e.iter();
    let code = items.next().and_then(Value::int).ok_or(KrpcError::Missing("e"))?;
    let text = items.next().and_then(Value::bytes).unwrap_or_default();
    Ok(Body::Error { code, text: String::from_utf8_lossy(&text[..text.len().min(256)]).into_owned() })
}

fn id_at(dict: Dict<'_>, key: &str) -> Option<NodeId> {
    NodeId::from_slice(dict.bytes(key)?)
}

fn port_at(dict: Dict<'_>, key: &str) -> Option<u16> {
    dict.int(key).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// An address and a port: six bytes, or eighteen.
fn address_of(bytes: &[u8]) -> Option<SocketAddr> {
    match bytes.len() {
        compact::V4_LEN => compact::decode_v4(bytes).next().map(SocketAddr::V4),
        compact::V6_LEN => compact::decode_v6(bytes).next().map(SocketAddr::V6),
        // Some send no port (BEP 42 does not say).
        4 => <[u8; 4]>::try_from(bytes).ok().map(|ip| SocketAddr::new(IpAddr::from(ip), 0)),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|ip| SocketAddr::new(IpAddr::from(ip), 0)),
        _ => None,
    }
}

fn node(bytes: &[u8]) -> Option<NodeInfo> {
    let (id, address) = bytes.split_at_checked(20)?;
    Some(NodeInfo { id: NodeId::from_slice(id)?, address: address_of(address)? })
}

/// The value of a key exactly as it was written.
fn raw_at<'a>(dict: Dict<'a>, key: &[u8]) -> Option<&'a [u8]> {
    let mut rest = dict.raw().get(1..)?;
    loop {
        let (found, behind) = Value::parse(rest)?;
        let (_, after) = Value::parse(behind)?;
        if found.bytes()? == key {
            return behind.get(..behind.len() - after.len());
        }
        rest = after;
    }
}
