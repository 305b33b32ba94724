//! What is kept from one run to the next: our id, and some of the nodes that we know.

use std::net::{IpAddr, SocketAddr};

use crate::wire::EntryTree;
use crate::wire::bencode::{Document, Limits};
use crate::wire::compact;
use crate::wire::krpc::NodeId;

/// The name under which it is kept, beside what plugins keep (libtorrent's).
pub const STATE: &str = "dht state";
/// The most nodes that are kept.
pub(super) const MOST_NODES: usize = 200;

/// What is kept of one node (one address family).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Saved {
    /// What we called ourselves, and from which address others saw us.
    pub id: Option<(NodeId, Option<IpAddr>)>,
    /// Nodes that answered.
    pub nodes: Vec<SocketAddr>,
}

impl Saved {
    /// Reads what was kept of both families, IPv4 first. What cannot be read is not there.
    pub fn read(bencoded: &[u8]) -> [Self; 2] {
        let mut both = [Self::default(), Self::default()];
        let Ok(document) = Document::parse(bencoded, Limits::MESSAGE) else { return both };
        let Ok(dict) = document.dict() else { return both };
        for (saved, family) in both.iter_mut().zip(["", "6"]) {
            let bytes = |key: &str| dict.bytes(format!("{key}{family}").as_bytes()).unwrap_or_default();
            let id = bytes("node-id").try_into().ok().map(NodeId);
            saved.id = id.map(|id| (id, ip(bytes("external"))));
            saved.nodes = match family {
                "" => compact::decode_v4(bytes("nodes")).map(SocketAddr::V4).take(MOST_NODES).collect(),
                _ => compact::decode_v6(bytes("nodes")).map(SocketAddr::V6).take(MOST_NODES).collect(),
            };
        }
        both
    }

    /// Writes what is to be kept of the family.
    pub fn write(&self, tree: &mut EntryTree, is_v4: bool) {
        let family = if is_v4 { "" } else { "6" };
        let mut put = |key: &str, value: &[u8]| {
            if !value.is_empty() {
                // The root is a dictionary: nothing can be refused.
                let _ = tree.insert_bytes(EntryTree::ROOT, format!("{key}{family}").as_bytes(), value);
            }
        };
        if let Some((id, external)) = &self.id {
            put("node-id", &id.0);
            match external {
                Some(IpAddr::V4(ip)) => put("external", &ip.octets()),
                Some(IpAddr::V6(ip)) => put("external", &ip.octets()),
                None => {}
            }
        }
        let mut nodes = Vec::new();
        let fitting = self.nodes.iter().filter(|node| node.is_ipv4() == is_v4);
        fitting.for_each(|node| compact::encode(*node, &mut nodes));
        put("nodes", &nodes);
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}
