//! What the embedding program asks of the DHT, and the alerts that tell what came of it.

use std::collections::HashMap;
use std::net::SocketAddr;

use pilotfish_plugin::TorrentHandle;

use crate::alert::AlertKind;
use crate::command::{DhtCommand, DhtItem, DhtItemError};
use crate::dht::{Announce, FoundItem, ItemKey, RequestId};
use crate::engine::Engine;
use crate::engine::state::State;
use crate::wire::EntryTree;
use crate::wire::krpc::{Arguments, Body, NodeId, Packet, Want};

/// What a request of a node is for.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// A torrent's peers.
    Torrent(TorrentHandle),
    /// Peers that the program wants.
    Peers([u8; 20]),
    /// How many peers a torrent has.
    Figures([u8; 20]),
    Immutable([u8; 20]),
    Mutable(ItemKey),
    Put([u8; 20]),
    Direct(u64),
    Samples,
}

/// The requests that are on their way.
#[derive(Debug, Default)]
pub(in crate::engine) struct Requests(HashMap<RequestId, Request>);

impl Requests {
    pub(super) fn insert(&mut self, id: RequestId, request: Request) {
        self.0.insert(id, request);
    }

    /// Those for a torrent, which are forgotten.
    pub(super) fn of_torrent(&mut self, torrent: TorrentHandle) -> Vec<RequestId> {
        let of = |request: &Request| matches!(request, Request::Torrent(other) if *other == torrent);
        self.0.extract_if(|_, request| of(request)).map(|(id, _)| id).collect()
    }
}

impl Engine {
    /// The embedding program asks for something.
    pub(in crate::engine) fn on_dht_command(&mut self, command: DhtCommand) {
        let state = &mut self.state;
        match command {
            DhtCommand::AddNode { host, port } => state.add_dht_node(&host, port),
            DhtCommand::GetPeers { info_hash, announce } => state.look_for_peers(info_hash, announce),
            DhtCommand::Scrape(info_hash) => {
                state.on_each_node(&Request::Figures(info_hash), |node, request, now, rng| {
                    node.scrape(request, NodeId(info_hash), now, rng);
                });
            }
            DhtCommand::GetImmutable(target) => {
                state.on_each_node(&Request::Immutable(target), |node, request, now, rng| {
                    node.get_immutable(request, NodeId(target), now, rng);
                });
            }
            DhtCommand::GetMutable { key, salt } => {
                let key = ItemKey { key, salt };
                state.on_each_node(&Request::Mutable(key.clone()), |node, request, now, rng| {
                    node.get_mutable(request, key.clone(), now, rng);
                });
            }
            DhtCommand::DirectRequest { to, query, userdata } => state.send_direct(to, &query, userdata),
            DhtCommand::SampleInfohashes { to, target } => {
                let arguments = Arguments::SampleInfohashes { target: NodeId(target), want: Want::default() };
                let request = state.begin_request(Request::Samples);
                state.with_node(to.is_ipv4(), |node, now, rng| {
                    node.ask_directly(request, to, arguments, now, rng);
                });
            }
        }
        self.settle_dht();
    }

    /// Stores an item with every node.
    ///
    /// # Errors
    /// It cannot be stored.
    pub(in crate::engine) fn put_in_dht(&mut self, item: &DhtItem) -> Result<[u8; 20], DhtItemError> {
        let mut stored = Err(DhtItemError::NoDht);
        for is_v4 in [true, false] {
            let request = RequestId(self.state.fresh_id());
            let put = self.state.with_node(is_v4, |node, now, rng| match item.clone() {
                DhtItem::Immutable(value) => node.put_immutable(request, value, now, rng),
                DhtItem::Mutable(item) => node.put_mutable(request, item, now, rng),
            });
            if let Some(put) = put {
                stored = put.map(|target| target.0);
            }
            if let Ok(target) = stored {
                self.state.dht.requests.insert(request, Request::Put(target));
            }
        }
        self.settle_dht();
        stored
    }

    /// Peers were found.
    pub(super) fn on_dht_peers(&mut self, request: RequestId, peers: Vec<SocketAddr>) {
        match self.state.dht.requests.0.get(&request) {
            Some(Request::Torrent(torrent)) => self.offer_dht_peers(*torrent, peers),
            Some(Request::Peers(info_hash)) => {
                let info_hash = *info_hash;
                self.state.alert(AlertKind::DhtGetPeersReply { info_hash, peers });
            }
            _ => {}
        }
    }
}

impl State {
    fn begin_request(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.fresh_id());
        self.dht.requests.insert(id, request);
        id
    }

    /// Has the node of each family do something.
    fn on_each_node(
        &mut self,
        request: &Request,
        mut f: impl FnMut(&mut crate::dht::Node, RequestId, std::time::Instant, &mut rand::rngs::StdRng),
    ) {
        for is_v4 in [true, false] {
            if self.dht.node(is_v4).is_some() {
                let id = self.begin_request(request.clone());
                self.with_node(is_v4, |node, now, rng| f(node, id, now, rng));
            }
        }
    }

    fn look_for_peers(&mut self, info_hash: [u8; 20], announce: Option<u16>) {
        let ports = [true, false].map(|is_v4| match announce {
            Some(0) => self.dht_port(is_v4),
            other => other,
        });
        self.on_each_node(&Request::Peers(info_hash), |node, request, now, rng| {
            let port = ports[usize::from(!node.is_v4())];
            let announce = port.map(|port| Announce { port: Some(port), seed: false });
            node.get_peers(request, NodeId(info_hash), announce, now, rng);
        });
    }

    /// A question in the program's own words.
    fn send_direct(&mut self, to: SocketAddr, query: &[u8], userdata: u64) {
        let Ok(mut query) = EntryTree::from_bencode(query) else {
            return self.alert(AlertKind::DhtError {
                error: "the question is not a bencoded dictionary".to_owned(),
            });
        };
        let request = self.begin_request(Request::Direct(userdata));
        self.with_node(to.is_ipv4(), |node, now, rng| node.send_directly(request, to, &mut query, now, rng));
    }

    /// How many peers a torrent has is known.
    pub(super) fn on_dht_figures(&mut self, request: RequestId, complete: u32, incomplete: u32) {
        if let Some(Request::Figures(info_hash)) = self.dht.requests.0.remove(&request) {
            self.alert(AlertKind::DhtScrapeReply { info_hash, complete, incomplete });
        }
    }

    /// An item was found, or is not there.
    pub(super) fn on_dht_item(&mut self, request: RequestId, item: Option<FoundItem>) {
        match self.dht.requests.0.get(&request).cloned() {
            Some(Request::Immutable(target)) => {
                let item = item.map(|item| item.value).unwrap_or_default();
                self.alert(AlertKind::DhtImmutableItem { target, item });
            }
            Some(Request::Mutable(ItemKey { key, salt })) => {
                let (seq, authoritative) =
                    item.as_ref().map_or((0, true), |item| (item.seq, item.authoritative));
                let signature = item.as_ref().and_then(|item| item.signature).map(|s| s.to_vec());
                self.alert(AlertKind::DhtMutableItem {
                    key,
                    salt,
                    seq,
                    signature: signature.unwrap_or_default(),
                    item: item.map(|item| item.value).unwrap_or_default(),
                    authoritative,
                });
            }
            _ => {}
        }
    }

    /// A request is over.
    pub(super) fn on_dht_finished(&mut self, request: RequestId, nodes: u32) {
        match self.dht.requests.0.remove(&request) {
            Some(Request::Torrent(torrent)) => self.on_announced_in_dht(torrent, nodes),
            Some(Request::Put(target)) => self.alert(AlertKind::DhtPut { target, num_success: nodes }),
            _ => {}
        }
    }

    /// A single question was answered, or not.
    pub(super) fn on_dht_answered(&mut self, request: RequestId, from: SocketAddr, message: Option<&[u8]>) {
        match self.dht.requests.0.remove(&request) {
            Some(Request::Direct(userdata)) => {
                let response = message.unwrap_or_default().to_vec();
                self.alert(AlertKind::DhtDirectResponse { address: from, userdata, response });
            }
            Some(Request::Samples) => {
                let packet = message.and_then(|message| Packet::read(message).ok());
                let response = packet.and_then(|packet| match packet.body {
                    Body::Response(response) => Some(response),
                    _ => None,
                });
                let response = response.unwrap_or_default();
                let samples = response.samples.unwrap_or_default();
                self.alert(AlertKind::DhtSampleInfohashes {
                    address: from,
                    interval: samples.interval,
                    num_infohashes: samples.num,
                    samples: samples.hashes,
                    nodes: response.nodes.iter().map(|node| node.address).collect(),
                });
            }
            _ => {}
        }
    }
}
