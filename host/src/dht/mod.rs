//! One node of the DHT, sans I/O (BEP 5, 32, 33, 42, 43, 44, 51).
//!
//! A [`Node`] speaks one address family. Datagrams go in by [`Node::receive`], time by [`Node::on_timeout`]; what is to be
//! sent and what came of it comes out by [`Node::poll_event`], and [`Node::poll_timeout`] says when time matters next. A
//! question of somebody else is not answered at once but handed out as a [`Question`]: plugins may answer it instead of
//! [`Node::answer`].
//!
//! Nothing that a stranger says is believed further than it can be thrown: a node is in the routing table only once it
//! answered from its own address, one for each IP address; what is found by hash is hashed; who stores shows a token that
//! was sent to its address; and all that others can make us remember, send or look for has a limit.
//!
//! | file | what |
//! |---|---|
//! | `node`, `answers` | the node; what it answers |
//! | `requests`, `lookup` | what it asks for, and how that is found |
//! | `transactions` | questions that wait for their answers |
//! | `table` | the nodes that we know |
//! | `store`, `tokens` | what we keep for others; who may store |
//! | `items` | values and their signatures |
//! | `bloom` | how many peers there are |
//! | `node_id` | which ids belong to which addresses |
//! | `limits` | how much we answer |

mod answers;
mod bloom;
mod items;
mod limits;
mod lookup;
mod node;
mod node_id;
mod requests;
mod state;
mod store;
mod table;
mod tokens;
mod transactions;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use items::{immutable_target, mutable_target, public_key};
pub use node::{Node, Question};
pub use node_id::{is_valid, needs_no_id};
pub use requests::{Announce, ItemKey};
pub use state::{STATE, Saved};

use crate::ip_filter::IpFilter;
use crate::wire::krpc::{NodeId, NodeInfo};

/// How many nodes a bucket holds, and how many of the closest are looked for (BEP 5).
pub const K: usize = 8;

/// The settings of a node, under libtorrent's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Answer nothing, and say so (BEP 43).
    pub read_only: bool,
    /// Have nothing to do with nodes whose id does not belong to their address (BEP 42).
    pub enforce_node_id: bool,
    /// Prefer nodes whose id belongs to their address (BEP 42).
    pub prefer_verified_node_ids: bool,
    /// One node in the routing table for each IP address.
    pub restrict_routing_ips: bool,
    /// One node in a lookup for each network.
    pub restrict_search_ips: bool,
    /// How many questions a lookup asks at a time.
    pub search_branching: usize,
    /// A node that did not answer so often in a row is forgotten, even if there is none to replace it.
    pub max_fail_count: u8,
    /// The most peers of a torrent that are kept.
    pub max_peers: usize,
    /// The most torrents whose peers are kept.
    pub max_torrents: usize,
    /// The most items that are kept.
    pub max_items: usize,
    /// The most torrents in an answer to `sample_infohashes`.
    pub max_infohashes_sample_count: usize,
    /// How long such an answer stays the same.
    pub sample_infohashes_interval: Duration,
    /// How much is answered, B/s.
    pub upload_rate_limit: u32,
    /// How many questions per second an address may ask, over ten seconds.
    pub block_ratelimit: u32,
    /// How long an address that asks more is not listened to.
    pub block_timeout: Duration,
    /// Which addresses are neither asked nor answered.
    pub ip_filter: Arc<IpFilter>,
}

/// Names a request of the node's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What came of something, or is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A datagram is to be sent.
    Send {
        /// Whom to.
        to: SocketAddr,
        /// What.
        payload: Bytes,
    },
    /// The table has been filled for the first time, as far as there is anybody to fill it with.
    Bootstrapped,
    /// Peers were found.
    Peers {
        /// By which request.
        request: RequestId,
        /// Who.
        peers: Vec<SocketAddr>,
    },
    /// About how many peers a torrent has is known, as far as nodes tell: the request is over.
    Figures {
        /// Which request.
        request: RequestId,
        /// Peers that have everything.
        seeds: u32,
        /// The others.
        downloaders: u32,
    },
    /// An item was found, or for an immutable one, that there is none.
    Item {
        /// By which request.
        request: RequestId,
        /// What; `None` if nobody has it.
        item: Option<FoundItem>,
    },
    /// A request is over.
    Finished {
        /// Which.
        request: RequestId,
        /// How many nodes answered, or took what was to be stored.
        nodes: u32,
    },
    /// A single question was answered, or not in time.
    Answered {
        /// Which.
        request: RequestId,
        /// Of whom it was asked.
        from: SocketAddr,
        /// The bencoded message; `None` if none came.
        message: Option<Vec<u8>>,
    },
    /// Somebody asked for the peers of a torrent.
    Asked {
        /// The torrent.
        info_hash: NodeId,
    },
    /// Somebody announced itself as a peer.
    Announced {
        /// Of which torrent.
        info_hash: NodeId,
        /// Where.
        peer: SocketAddr,
    },
    /// A node says from which address we speak.
    External {
        /// Who says so.
        voter: IpAddr,
        /// Our address.
        ip: IpAddr,
    },
    /// A node of the other address family was named.
    Foreign(NodeInfo),
}

/// An item that was found (BEP 44).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundItem {
    /// The bencoded value.
    pub value: Vec<u8>,
    /// Its number; 0 for an immutable one.
    pub seq: i64,
    /// Its owner's signature, if it is mutable.
    pub signature: Option<[u8; 64]>,
    /// Whether no newer one can come any more.
    pub authoritative: bool,
}

/// The network that an address is in, as far as whoever has one address there probably has more.
fn network(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

/// Whether `address`, which `teller` named, may be asked: nobody outside can send us to ourselves.
fn is_askable(address: SocketAddr, teller: SocketAddr) -> bool {
    let ip = address.ip();
    address.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
        && (!ip.is_loopback() || teller.ip().is_loopback())
}
