//! What comes to a node of the DHT: what other nodes say, late, twice, damaged, or made up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotfish::command::{MutableItem, SecretKey};
use pilotfish::dht::{Announce, Config, Event, ItemKey, Node, RequestId, Saved, public_key};
use pilotfish::wire::krpc::{Body, NodeId, Packet, checked, is_krpc};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::Told;

/// Things that happen in a run.
const STEPS: u64 = 1_000;
/// Nodes in a run.
const NODES: usize = 6;
/// No answer is longer, in bytes: it must fit into a datagram that is not divided on its way.
const LONGEST_ANSWER: usize = 1_472;
/// Made-up messages say these, so that some of it makes sense.
const WORDS: [&str; 34] = [
    "a",
    "announce_peer",
    "cas",
    "e",
    "find_node",
    "get",
    "get_peers",
    "id",
    "implied_port",
    "info_hash",
    "ip",
    "k",
    "n4",
    "n6",
    "nodes",
    "nodes6",
    "ping",
    "port",
    "put",
    "q",
    "r",
    "ro",
    "salt",
    "sample_infohashes",
    "samples",
    "seq",
    "sig",
    "t",
    "target",
    "token",
    "v",
    "values",
    "want",
    "y",
];

struct World {
    rng: StdRng,
    now: Instant,
    nodes: Vec<Node>,
    /// Datagrams on their way: from where, to which node.
    flying: Vec<(SocketAddr, usize, Vec<u8>)>,
    requests: u64,
}

/// One run.
pub(crate) fn run(seed: u64) -> Told {
    let mut rng = StdRng::seed_from_u64(seed);
    let now = Instant::now();
    let nodes = (0..NODES).map(|_| {
        let config = config(&mut rng);
        let kept = random_bytes(&mut rng, 300);
        let [saved, _] = Saved::read(&kept);
        Node::new(true, config, saved, now, &mut rng)
    });
    let nodes = nodes.collect();
    let mut world = World { rng, now, nodes, flying: Vec::new(), requests: 0 };
    (0..STEPS).for_each(|_| world.step());
    Told { steps: STEPS, hooks: 0 }
}

fn config(rng: &mut StdRng) -> Config {
    Config {
        read_only: rng.random_ratio(1, 10),
        enforce_node_id: rng.random_ratio(1, 10),
        prefer_verified_node_ids: rng.random(),
        restrict_routing_ips: rng.random(),
        restrict_search_ips: rng.random(),
        search_branching: rng.random_range(1..10),
        max_fail_count: rng.random_range(1..20),
        max_peers: rng.random_range(1..50),
        max_torrents: rng.random_range(1..20),
        max_items: rng.random_range(0..20),
        max_infohashes_sample_count: 20,
        sample_infohashes_interval: Duration::from_secs(rng.random_range(0..100)),
        upload_rate_limit: 1_000_000,
        block_ratelimit: 1_000,
        block_timeout: Duration::from_secs(1),
        ip_filter: Arc::default(),
    }
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([20, 0, node as u8, 1], 6881))
}

fn random_bytes(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..most)];
    rng.fill_bytes(&mut bytes);
    bytes
}

impl World {
    fn step(&mut self) {
        let node = self.rng.random_range(0..NODES);
        match self.rng.random_range(0..20) {
            0 => self.ask_for_something(node),
            1 => self.now += Duration::from_millis(self.rng.random_range(0..20_000)),
            2 => {
                let mut payload = Vec::new();
                self.value(&mut payload, 0);
                self.hand(node, address(NODES), &payload);
            }
            3 => {
                let payload = random_bytes(&mut self.rng, 5_000);
                self.hand(node, address(NODES), &payload);
            }
            _ => self.deliver(),
        }
        if self.nodes[node].poll_timeout() <= self.now {
            self.nodes[node].on_timeout(self.now, &mut self.rng);
        }
        self.settle(node);
    }

    /// One of the datagrams on their way arrives, as it is or not, and perhaps once more later.
    fn deliver(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.flying.len());
        let (mut from, to, mut payload) = self.flying.swap_remove(at);
        if self.rng.random_ratio(1, 20) {
            self.flying.push((from, to, payload.clone()));
        }
        if self.rng.random_ratio(1, 4) {
            self.damage(&mut payload);
        }
        if self.rng.random_ratio(1, 50) {
            from = address(self.rng.random_range(0..NODES + 2));
        }
        self.hand(to, from, &payload);
    }

    fn hand(&mut self, node: usize, from: SocketAddr, payload: &[u8]) {
        let Some(question) = self.nodes[node].receive(from, payload, self.now, &mut self.rng) else {
            return self.settle(node);
        };
        let frame = question.frame(self.nodes[node].id());
        assert!(is_krpc(&frame.encode_root()), "a frame that cannot be sent");
        self.nodes[node].answer(&question, Vec::new(), self.now, &mut self.rng);
        self.settle(node);
    }

    fn settle(&mut self, node: usize) {
        while let Some(event) = self.nodes[node].poll_event() {
            let Event::Send { to, payload } = event else { continue };
            let bytes = checked(&payload).unwrap();
            let packet = Packet::read(&bytes).unwrap();
            assert!(matches!(packet.body, Body::Query(_)) || payload.len() <= LONGEST_ANSWER);
            if let Some(to) = (0..NODES).find(|node| address(*node) == to) {
                self.flying.push((address(node), to, payload.to_vec()));
            }
        }
        // The oldest are lost.
        let excess = self.flying.len().saturating_sub(200);
        self.flying.drain(..excess);
        assert!(self.nodes[node].num_nodes() <= NODES + 3, "nodes that were never there");
    }

    fn ask_for_something(&mut self, node: usize) {
        self.requests += 1;
        let request = RequestId(self.requests);
        let place = NodeId([self.rng.random_range(0..4) * 60; 20]);
        let salt = random_bytes(&mut self.rng, 70);
        let value = match self.rng.random() {
            true => format!("i{}e", self.requests).into_bytes(),
            false => random_bytes(&mut self.rng, 1_100),
        };
        let secret = SecretKey([self.rng.random_range(0..3); 32]);
        let (now, rng) = (self.now, &mut self.rng);
        let choice = rng.random_range(0..8);
        let other = address(rng.random_range(0..NODES));
        let node = &mut self.nodes[node];
        match choice {
            0 => node.add_node(other, now, rng),
            1 => node.bootstrap(&[other], now, rng),
            2 => {
                let announce = Announce { port: rng.random_ratio(1, 2).then_some(7_000), seed: rng.random() };
                node.get_peers(request, place, Some(announce), now, rng);
            }
            3 => node.get_immutable(request, place, now, rng),
            4 => node.get_mutable(request, ItemKey { key: public_key(&secret), salt }, now, rng),
            5 => drop(node.put_immutable(request, value, now, rng)),
            6 => drop(node.put_mutable(request, MutableItem { secret, salt, value }, now, rng)),
            _ => node.set_external(address(rng.random_range(0..NODES)).ip(), now, rng),
        }
    }

    fn damage(&mut self, payload: &mut Vec<u8>) {
        for _ in 0..self.rng.random_range(1..4) {
            if payload.is_empty() {
                return;
            }
            let at = self.rng.random_range(0..payload.len());
            match self.rng.random_range(0..4) {
                0 => payload[at] = self.rng.random(),
                1 => drop(payload.remove(at)),
                2 => payload.insert(at, b"deil0123456789:"[self.rng.random_range(0..15)]),
                _ => payload.truncate(at),
            }
        }
    }

    /// A value that is bencoded, more or less.
    fn value(&mut self, out: &mut Vec<u8>, depth: usize) {
        let string = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend(format!("{}:", bytes.len()).bytes());
            out.extend(bytes);
        };
        match self.rng.random_range(0..if depth > 4 { 4 } else { 8 }) {
            0 => out.extend(format!("i{}e", self.rng.random_range(-2..70_000_i64)).bytes()),
            1 => string(out, WORDS[self.rng.random_range(0..WORDS.len())].as_bytes()),
            2 => string(out, &[7; 20]),
            3 => string(out, &random_bytes(&mut self.rng, 80)),
            4 => {
                out.push(b'l');
                (0..self.rng.random_range(0..5)).for_each(|_| self.value(out, depth + 1));
                out.push(b'e');
            }
            _ => {
                out.push(b'd');
                let mut keys: Vec<&str> = (0..self.rng.random_range(0..8))
                    .map(|_| WORDS[self.rng.random_range(0..WORDS.len())])
                    .collect();
                keys.sort_unstable();
                for key in keys {
                    string(out, key.as_bytes());
                    self.value(out, depth + 1);
                }
                out.push(b'e');
            }
        }
    }
}
