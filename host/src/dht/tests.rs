//! Many nodes on one virtual clock, on a network that loses datagrams.

mod attacks;
mod items;
mod table;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::wire::krpc::{Arguments, Body, Packet, Query, Response, Want};

const LIMIT: Duration = Duration::from_secs(120);

/// The settings' defaults.
fn config() -> Config {
    Config {
        read_only: false,
        enforce_node_id: false,
        prefer_verified_node_ids: true,
        restrict_routing_ips: true,
        restrict_search_ips: true,
        search_branching: 5,
        max_fail_count: 20,
        max_peers: 500,
        max_torrents: 2_000,
        max_items: 700,
        max_infohashes_sample_count: 20,
        sample_infohashes_interval: Duration::from_secs(21_600),
        upload_rate_limit: 8_000,
        block_ratelimit: 5,
        block_timeout: Duration::from_secs(300),
        ip_filter: Arc::default(),
    }
}

/// The address of a node by its number: each in a network of its own.
fn address(number: usize) -> SocketAddr {
    let [_, _, a, b] = (number as u32).to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(20, a, b, 1).into(), 6881)
}

/// When it arrives, its number, from where, where to, and what.
type Flight = (Instant, u64, SocketAddr, SocketAddr, Vec<u8>);

struct Net {
    rng: StdRng,
    now: Instant,
    nodes: Vec<Node>,
    /// Those that are gone: what is sent to them is lost.
    gone: Vec<bool>,
    flying: BinaryHeap<Reverse<Flight>>,
    sent: u64,
    loss_ppm: u32,
    events: Vec<(usize, Event)>,
    requests: u64,
}

impl Net {
    fn new(seed: u64, loss_ppm: u32) -> Self {
        let now = Instant::now();
        Self {
            rng: StdRng::seed_from_u64(seed),
            now,
            nodes: Vec::new(),
            gone: Vec::new(),
            flying: BinaryHeap::new(),
            sent: 0,
            loss_ppm,
            events: Vec::new(),
            requests: 0,
        }
    }

    /// A network of so many nodes, which all came in through the first, one after the other.
    fn grown(seed: u64, nodes: usize, loss_ppm: u32) -> Self {
        let mut net = Self::new(seed, loss_ppm);
        for _ in 0..nodes {
            let node = net.join(config());
            net.bootstrap(node, 0);
            net.run_for(Duration::from_millis(200));
        }
        net.run_for(Duration::from_secs(60));
        net
    }

    fn join(&mut self, config: Config) -> usize {
        let number = self.nodes.len();
        self.nodes.push(Node::new(true, config, Saved::default(), self.now, &mut self.rng));
        self.gone.push(false);
        number
    }

    fn bootstrap(&mut self, node: usize, router: usize) {
        if node != router {
            self.nodes[node].add_node(address(router), self.now, &mut self.rng);
            self.settle(node);
        }
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn settle(&mut self, node: usize) {
        while let Some(event) = self.nodes[node].poll_event() {
            match event {
                Event::Send { to, payload } => self.send(address(node), to, payload.to_vec()),
                event => self.events.push((node, event)),
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        self.sent += 1;
        if self.rng.random_range(0..1_000_000) >= self.loss_ppm {
            let latency = Duration::from_millis(self.rng.random_range(10..150));
            self.flying.push(Reverse((self.now + latency, self.sent, from, to, payload)));
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run(end, |_| false);
        self.now = end;
    }

    fn run_until(&mut self, done: impl FnMut(&Self) -> bool) {
        let end = self.now + LIMIT;
        assert!(self.run(end, done), "not done after {LIMIT:?}");
    }

    /// Whether `done` was reached before `end`.
    fn run(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        while !done(self) {
            let timers = self.nodes.iter().enumerate().filter(|(i, _)| !self.gone[*i]);
            let timer = timers.map(|(i, node)| (node.poll_timeout(), i)).min();
            let arrival = self.flying.peek().map(|Reverse((at, ..))| *at);
            match (timer, arrival) {
                (timer, Some(at)) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    self.deliver();
                }
                (Some((due, node)), _) if due <= end => {
                    self.now = self.now.max(due);
                    self.nodes[node].on_timeout(self.now, &mut self.rng);
                    self.settle(node);
                }
                _ => return false,
            }
        }
        true
    }

    fn deliver(&mut self) {
        let Some(Reverse((_, _, from, to, payload))) = self.flying.pop() else { return };
        let Some(node) = (0..self.nodes.len()).find(|i| address(*i) == to && !self.gone[*i]) else { return };
        self.hand(node, from, &payload);
    }

    /// A datagram reaches a node, which answers.
    fn hand(&mut self, node: usize, from: SocketAddr, payload: &[u8]) {
        let question = self.nodes[node].receive(from, payload, self.now, &mut self.rng);
        if let Some(question) = question {
            self.nodes[node].answer(&question, Vec::new(), self.now, &mut self.rng);
        }
        self.settle(node);
    }

    /// A stranger asks a node something; its answer, if there is one.
    fn ask(
        &mut self,
        node: usize,
        from: SocketAddr,
        id: NodeId,
        arguments: Arguments<'_>,
    ) -> Option<Vec<u8>> {
        let query = Query { id, method: arguments.method(), read_only: true, arguments: Ok(arguments) };
        let payload = Packet { transaction: b"tt", ip: None, body: Body::Query(query) }.encode();
        let question = self.nodes[node].receive(from, &payload, self.now, &mut self.rng);
        if let Some(question) = question {
            self.nodes[node].answer(&question, Vec::new(), self.now, &mut self.rng);
        }
        let mut answer = None;
        while let Some(event) = self.nodes[node].poll_event() {
            match event {
                Event::Send { to, payload } if to == from => answer = Some(payload.to_vec()),
                Event::Send { to, payload } => self.send(address(node), to, payload.to_vec()),
                event => self.events.push((node, event)),
            }
        }
        answer
    }

    fn get_peers(&mut self, node: usize, info_hash: NodeId, port: Option<u16>) -> RequestId {
        let request = self.request();
        let announce = port.map(|port| Announce { port: Some(port), seed: false });
        self.nodes[node].get_peers(request, info_hash, announce, self.now, &mut self.rng);
        self.settle(node);
        request
    }

    fn is_finished(&self, request: RequestId) -> bool {
        self.events.iter().any(|(_, e)| matches!(e, Event::Finished { request: r, .. } if *r == request))
    }

    /// The peers that a request found.
    fn found(&self, request: RequestId) -> Vec<SocketAddr> {
        let peers = self.events.iter().filter_map(|(_, event)| match event {
            Event::Peers { request: r, peers } if *r == request => Some(peers.clone()),
            _ => None,
        });
        let mut peers: Vec<SocketAddr> = peers.flatten().collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// Announces and looks up from ends of the network; whether it was found.
    fn finds(&mut self, announcer: usize, seeker: usize, place: u8) -> bool {
        let info_hash = NodeId([place; 20]);
        let announced = self.get_peers(announcer, info_hash, Some(7_000));
        self.run_until(|net| net.is_finished(announced));
        self.run_for(Duration::from_secs(1));
        let looked = self.get_peers(seeker, info_hash, None);
        self.run_until(|net| net.is_finished(looked));
        self.found(looked).contains(&SocketAddr::new(address(announcer).ip(), 7_000))
    }
}

fn response(bytes: &[u8]) -> Response<'_> {
    match Packet::read(bytes).unwrap().body {
        Body::Response(response) => response,
        other => panic!("no answer: {other:?}"),
    }
}

fn error_code(bytes: &[u8]) -> i64 {
    match Packet::read(bytes).unwrap().body {
        Body::Error { code, .. } => code,
        other => panic!("no error: {other:?}"),
    }
}

#[test]
fn three_hundred_nodes_find_each_others_peers_though_a_tenth_of_the_datagrams_is_lost() {
    let mut net = Net::grown(1, 300, 100_000);
    let lonely: Vec<_> = net.nodes.iter().map(Node::num_nodes).enumerate().filter(|(_, n)| *n < K).collect();
    assert!(lonely.is_empty(), "{lonely:?}");
    let found = (0..20).filter(|i| net.finds(7 * i, 299 - 11 * i, *i as u8)).count();
    assert_eq!(found, 20);
}

#[test]
fn tables_outlive_half_of_the_nodes() {
    let mut net = Net::grown(2, 100, 0);
    (0..50).for_each(|i| net.gone[2 * i] = true);
    // Time for everybody to notice.
    net.run_for(Duration::from_secs(40 * 60));
    assert!((0..50).all(|i| net.finds(2 * i + 1, 99 - 2 * i, i as u8 + 1) || 2 * i + 1 == 99 - 2 * i));
    let living = (0..50).map(|i| net.nodes[2 * i + 1].num_nodes());
    assert!(living.min() >= Some(K), "tables are empty");
}

#[test]
fn the_first_node_of_a_network_finds_the_others_through_those_that_come_to_it() {
    let mut net = Net::grown(3, 30, 0);
    assert!(net.nodes[0].num_nodes() >= K);
    assert!(net.finds(0, 29, 1));
}

#[test]
fn what_is_kept_is_enough_to_come_back() {
    let mut net = Net::grown(4, 60, 0);
    let saved = net.nodes[59].save();
    let mut tree = crate::wire::EntryTree::new();
    saved.write(&mut tree, true);
    let [read, nothing] = Saved::read(&tree.encode_root());
    assert_eq!((&read, nothing), (&saved, Saved::default()));
    net.nodes[59] = Node::new(true, config(), read, net.now, &mut net.rng);
    let (now, id) = (net.now, net.nodes[59].id());
    assert_eq!(Some(id), saved.id.map(|(id, _)| id));
    net.nodes[59].bootstrap(&[], now, &mut net.rng);
    net.settle(59);
    net.run_for(Duration::from_secs(30));
    assert!(net.nodes[59].num_nodes() >= K);
    assert!(net.events.iter().any(|(node, event)| *node == 59 && *event == Event::Bootstrapped));
}

#[test]
fn an_entrance_that_is_closed_is_tried_again() {
    let mut net = Net::grown(5, 20, 0);
    let late = net.join(config());
    net.gone[0] = true;
    let (now, router) = (net.now, [address(0)]);
    net.nodes[late].bootstrap(&router, now, &mut net.rng);
    net.settle(late);
    net.run_for(Duration::from_secs(60));
    assert_eq!(net.nodes[late].num_nodes(), 0);
    net.gone[0] = false;
    net.run_for(Duration::from_secs(120));
    assert!(net.nodes[late].num_nodes() >= K);
    assert!(!net.nodes[late].save().nodes.contains(&address(0)), "routers are not remembered");
}

#[test]
fn a_read_only_node_finds_others_and_is_not_found() {
    let mut net = Net::grown(6, 20, 0);
    let shy = net.join(Config { read_only: true, ..config() });
    net.bootstrap(shy, 3);
    net.run_for(Duration::from_secs(60));
    assert!(net.nodes[shy].num_nodes() >= K);
    let known = |node: &Node| node.save().nodes.contains(&address(shy));
    assert!(!net.nodes.iter().any(known), "others have put it into their tables");
    assert_eq!(net.ask(shy, address(500), NodeId([1; 20]), Arguments::Ping), None);
}

#[test]
fn an_answer_tells_the_asker_who_it_is_and_what_it_asked_for() {
    let mut net = Net::grown(7, 20, 0);
    let (asker, id) = (address(500), NodeId([9; 20]));
    let target = NodeId([3; 20]);
    let find = Arguments::FindNode { target, want: Want::default() };
    let answer = net.ask(5, asker, id, find).unwrap();
    let packet = Packet::read(&answer).unwrap();
    assert_eq!((packet.transaction, packet.ip), (&b"tt"[..], Some(asker)));
    let nodes = response(&answer).nodes;
    assert_eq!((response(&answer).id, nodes.len()), (net.nodes[5].id(), K));
    let expected = net.nodes[5].closest(target);
    assert_eq!(nodes, expected);
    let unknown = b"d1:ad2:id20:999999999999999999996:target20:33333333333333333333e1:q4:vote1:t1:x1:y1:qe";
    let question = net.nodes[5].receive(asker, unknown, net.now, &mut net.rng).unwrap();
    assert_eq!(question.method(), "vote");
}

#[test]
fn samples_are_some_of_the_torrents_and_the_same_ones_for_a_while() {
    let mut net = Net::new(8, 0);
    let node = net.join(config());
    let sample = |net: &mut Net| {
        let arguments = Arguments::SampleInfohashes { target: NodeId([0; 20]), want: Want::default() };
        let answer = net.ask(node, address(9), NodeId([1; 20]), arguments).unwrap();
        response(&answer).samples.unwrap()
    };
    assert_eq!(sample(&mut net).num, 0);
    for i in 0..50 {
        let now = net.now;
        net.nodes[node].store.announce(NodeId([i; 20]), address(9), false, now, &config());
    }
    let first = sample(&mut net);
    assert_eq!((first.num, first.hashes.len()), (50, 20));
    net.run_for(Duration::from_secs(600));
    let second = sample(&mut net);
    assert_eq!(second.hashes, first.hashes);
    assert!(second.interval < first.interval);
}

#[test]
fn a_torrents_peers_are_counted_without_being_named() {
    let mut net = Net::grown(11, 60, 20_000);
    let info_hash = NodeId([0x33; 20]);
    for node in 0..30 {
        let request = net.request();
        let announce = Announce { port: Some(7_000), seed: node < 12 };
        net.nodes[node].get_peers(request, info_hash, Some(announce), net.now, &mut net.rng);
        net.settle(node);
        net.run_until(|net| net.is_finished(request));
    }
    net.run_for(Duration::from_secs(5));
    let request = net.request();
    net.nodes[45].scrape(request, info_hash, net.now, &mut net.rng);
    net.settle(45);
    let figures = |net: &Net| {
        net.events.iter().find_map(|(_, event)| match event {
            Event::Figures { request: r, seeds, downloaders } if *r == request => {
                Some((*seeds, *downloaders))
            }
            _ => None,
        })
    };
    net.run_until(|net| figures(net).is_some());
    let (seeds, downloaders) = figures(&net).unwrap();
    assert!((11..=13).contains(&seeds) && (16..=20).contains(&downloaders), "{seeds} {downloaders}");
    assert_eq!(net.found(request), [], "nobody was named");
    // Of a torrent that nobody knows there is nothing to tell.
    let from = address(50);
    let scrape = Arguments::GetPeers { info_hash: NodeId([9; 20]), want: Want::default(), scrape: true };
    let answer = net.ask(0, from, NodeId([1; 20]), scrape).unwrap();
    let answer = response(&answer);
    assert!(answer.filters.is_none() && answer.token.is_some());
}
