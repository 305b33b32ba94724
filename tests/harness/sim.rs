//! Swarms of engines on one virtual clock: no sockets, no files, no sleeps, and the same run for the same seed.
//!
//! A [`Sim`] owns the engines, their disks and the network between them, and does for them what the driver, the operating
//! system and time itself do otherwise. `PILOTFISH_SIM_SEED=N` replays a run.

mod cipher;
mod content;
mod datagram;
mod disk;
mod link;
mod network;
mod node;
mod probe;
mod queue;
mod router;
mod trace;
mod tracker;
mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pilotfish::alert::AlertKind;
use pilotfish::command::{
    AddTorrent, Answer, Command, OpenPlugin, PluginSource, SaveResumeFlags, Ticket, TorrentExtension,
    TorrentStatus,
};
use pilotfish::engine::{Destination, FetchError, FetchRequest, FetchToken, Fetched, Input};
use pilotfish::metainfo::Resume;
use pilotfish::plugins::PluginLibrary;
use pilotfish::plugins::builtin::create_ut_metadata_plugin;
use pilotfish::session::default_extensions;
use pilotfish::settings::Settings;
use pilotfish_plugin::{
    Attach, PeerBox, PeerHandle, PeerSource, PluginId, SessionBox, SessionContext, TorrentBox,
    TorrentContext, TorrentHandle, TorrentPlugin, hooks, rt,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub use cipher::{InPlace, Keys, Keystream, stream_cipher};
pub use content::{Content, Data};
pub use disk::{Disk, Outcome, Visit};
pub use link::Link;
pub use node::Node;
pub use probe::{Act, Log, Probe};
pub use router::{Manners, Router};
pub use trace::Trace;
pub use tracker::{Heard, Mood, Tracker};
pub use web::{Files, WebReply, WebRequest};

use datagram::Datagram;
use network::Connection;
use queue::Queue;

/// A swarm and its world.
pub struct Sim {
    seed: u64,
    rng: StdRng,
    epoch: Instant,
    now: Duration,
    queue: Queue<Event>,
    nodes: Vec<Node>,
    connections: Vec<Connection>,
    servers: Vec<web::Server>,
    /// What new connections are like, unless `links` says otherwise.
    pub link: Link,
    links: BTreeMap<(NodeId, NodeId), Link>,
    /// What a partition holds up.
    held: Vec<Event>,
    /// What was sent on each connection by each of its ends, if it is kept.
    tap: Option<BTreeMap<(usize, usize), Vec<u8>>>,
    /// Whether what is sent to everybody on a network reaches them.
    pub hears_all: bool,
    multicasts: Vec<(NodeId, Bytes)>,
    /// What was sent by UDP, if it is kept.
    datagrams: Vec<(NodeId, (SocketAddr, Bytes))>,
    /// What was sent through proxies.
    relayed: Vec<(NodeId, (Destination, Bytes))>,
    /// Who is asked to map ports.
    pub router: Router,
    /// The addresses of host names.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// By their names.
    trackers: BTreeMap<String, Tracker>,
    /// What was asked for by HTTP.
    pub fetched: Vec<(NodeId, FetchRequest)>,
    /// Documents that somebody waits for.
    fetches: BTreeSet<(NodeId, u64)>,
    trace: Trace,
    tickets: u64,
    scratch: Vec<u8>,
}

/// One node of a [`Sim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

#[derive(Debug)]
enum Event {
    Timer(NodeId),
    Disk(NodeId, Visit),
    Net(usize, network::Step),
    Datagram(Datagram),
    Fetched(NodeId, FetchToken, Result<Fetched, FetchError>),
    /// A tracker at this address answers by UDP.
    TrackerPacket(NodeId, SocketAddr, Bytes),
}

impl Sim {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        let seed = std::env::var("PILOTFISH_SIM_SEED").ok().map_or(seed, |text| text.parse().unwrap());
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            epoch: Instant::now(),
            now: Duration::ZERO,
            queue: Queue::new(),
            nodes: Vec::new(),
            connections: Vec::new(),
            servers: Vec::new(),
            link: Link::default(),
            links: BTreeMap::new(),
            held: Vec::new(),
            tap: None,
            hears_all: false,
            multicasts: Vec::new(),
            datagrams: Vec::new(),
            relayed: Vec::new(),
            router: Router::default(),
            names: BTreeMap::new(),
            trackers: BTreeMap::new(),
            fetched: Vec::new(),
            fetches: BTreeSet::new(),
            trace: Trace::default(),
            tickets: 0,
            scratch: vec![0; 64 << 10],
        }
    }

    /// What everything random follows from.
    pub fn seed_number(&self) -> u64 {
        self.seed
    }

    /// A node with these settings, which listens.
    pub fn node_with(&mut self, settings: Settings) -> NodeId {
        self.make_node(settings, None)
    }

    /// A node that begins with what the DHT kept in an earlier session.
    pub fn node_that_remembers(&mut self, settings: Settings, dht_state: Vec<u8>) -> NodeId {
        self.make_node(settings, Some(dht_state))
    }

    fn make_node(&mut self, settings: Settings, dht_state: Option<Vec<u8>>) -> NodeId {
        let id = NodeId(self.nodes.len());
        let [_, _, high, low] = (id.0 as u32 + 1).to_be_bytes();
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), 6881);
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(id.0 as u64);
        self.nodes.push(Node::new(settings, dht_state, seed, address, self.epoch + self.now));
        self.handle(id, Input::Listening(address));
        id
    }

    /// A node with the default settings that reports every alert.
    pub fn node(&mut self) -> NodeId {
        self.node_with(talkative())
    }

    /// A node with the extensions that come with the engine, as a program has them.
    pub fn full_node(&mut self, settings: Settings) -> NodeId {
        let node = self.node_with(settings);
        for extension in default_extensions() {
            self.extend(node, extension);
        }
        node
    }

    /// A node with the extension that gets the metadata of links from peers, and gives it to them.
    pub fn node_with_metadata(&mut self, settings: Settings) -> NodeId {
        let node = self.node_with(settings);
        self.extend(node, TorrentExtension::new("ut_metadata", create_ut_metadata_plugin));
        node
    }

    /// Puts an extension on every torrent that is added from now on.
    pub fn extend(&mut self, node: NodeId, extension: TorrentExtension) -> PluginId {
        self.register(node, PluginSource::torrent_factory(extension))
    }

    /// Registers a plugin that is linked in.
    pub fn plug(
        &mut self,
        node: NodeId,
        name: &str,
        open: impl FnOnce(&mut SessionContext<'_>) -> SessionBox + Send + 'static,
    ) -> PluginId {
        // Panics are reported with their place.
        rt::install_hook(false);
        let open: OpenPlugin = Box::new(|cx| Ok(open(cx)));
        let source = PluginSource {
            name: name.to_owned(),
            take_panic: rt::LINKED_TAKE_PANIC,
            open,
            saved_state: None,
        };
        self.register(node, source)
    }

    /// Registers a plugin from a library, with its settings.
    pub fn load(&mut self, node: NodeId, library: &PluginLibrary, settings: &[(&str, &str)]) -> PluginId {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let settings: BTreeMap<String, String> = settings.iter().map(owned).collect();
        let library = library.clone();
        let source = PluginSource {
            name: library.id.clone(),
            take_panic: library.module.take_panic(),
            open: Box::new(move |cx| library.open(cx, &settings).map_err(|error| error.to_string())),
            saved_state: None,
        };
        self.register(node, source)
    }

    fn register(&mut self, node: NodeId, source: PluginSource) -> PluginId {
        let id = self.nodes[node.0].engine.add_plugin(source).unwrap();
        self.settle(node);
        id
    }

    /// Registers a plugin that makes an object for each torrent, and has nothing else.
    pub fn plug_on_torrents(
        &mut self,
        node: NodeId,
        name: &str,
        make: impl Fn() -> TorrentBox + Send + Sync + 'static,
    ) {
        self.plug(node, name, |_| SessionBox::new(rt::factory(move |_, _, _| Some(make()))));
    }

    /// Registers a plugin that makes an object for each connection, and has nothing else.
    pub fn plug_on_peers(
        &mut self,
        node: NodeId,
        name: &str,
        make: impl Fn() -> PeerBox + Send + Sync + 'static,
    ) {
        struct OnTorrent(Arc<dyn Fn() -> PeerBox + Send + Sync>);

        #[hooks]
        impl TorrentPlugin for OnTorrent {
            fn new_connection(
                &mut self,
                _: &mut TorrentContext<'_>,
                _: PeerHandle,
                _: Attach,
            ) -> Option<PeerBox> {
                Some((self.0)())
            }
        }

        let make: Arc<dyn Fn() -> PeerBox + Send + Sync> = Arc::new(make);
        self.plug_on_torrents(node, name, move || TorrentBox::new(OnTorrent(make.clone())));
    }

    /// Adds a torrent.
    pub fn add(&mut self, node: NodeId, content: &Content) -> TorrentHandle {
        self.add_as(node, AddTorrent::new(content.metainfo.clone()))
    }

    /// Adds the link to a torrent.
    pub fn add_link(&mut self, node: NodeId, content: &Content) -> TorrentHandle {
        self.add_as(node, AddTorrent::new(content.link()))
    }

    /// Adds a torrent, with everything that there is to say about it.
    pub fn add_as(&mut self, node: NodeId, torrent: AddTorrent) -> TorrentHandle {
        match self.ask(node, |ticket| Command::AddTorrent(ticket, Box::new(torrent))) {
            Answer::Added(added) => added.unwrap(),
            other => panic!("an added torrent was answered with {other:?}"),
        }
    }

    /// Ends a node's session, and waits until it has ended; how long that took.
    pub fn shut_down(&mut self, node: NodeId) -> Duration {
        let begun = self.now;
        self.command(node, Command::Shutdown);
        self.run_until(Duration::from_secs(60), |sim| sim.at(node).stopped);
        self.now - begun
    }

    /// Adds a torrent whose files are there.
    pub fn seed(&mut self, node: NodeId, content: &Content) -> TorrentHandle {
        self.nodes[node.0].disk.put(".", content);
        self.add(node, content)
    }

    /// Tells `node`'s torrent of another node.
    pub fn introduce(&mut self, node: NodeId, torrent: TorrentHandle, to: NodeId) {
        let address = self.nodes[to.0].address;
        self.command(node, Command::ConnectPeer { torrent, address, source: PeerSource::TRACKER });
    }

    /// A command without an answer.
    pub fn command(&mut self, node: NodeId, command: Command) {
        self.handle(node, Input::Command(command));
    }

    /// A command with an answer.
    pub fn ask(&mut self, node: NodeId, command: impl FnOnce(Ticket) -> Command) -> Answer {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.command(node, command(ticket));
        self.nodes[node.0].answers.remove(&ticket).expect("no answer")
    }

    /// A command whose answer may take a while.
    pub fn ask_and_wait(&mut self, node: NodeId, command: impl FnOnce(Ticket) -> Command) -> Answer {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.command(node, command(ticket));
        self.run_until(Duration::from_secs(60), |sim| sim.nodes[node.0].answers.contains_key(&ticket));
        self.nodes[node.0].answers.remove(&ticket).expect("no answer")
    }

    /// The answer to a command, once it is there.
    pub fn answer(&mut self, node: NodeId, ticket: Ticket) -> Option<Answer> {
        self.nodes[node.0].answers.remove(&ticket)
    }

    /// What is to be written down of a torrent.
    pub fn resume_data(
        &mut self,
        node: NodeId,
        torrent: TorrentHandle,
        flags: SaveResumeFlags,
    ) -> Option<Box<Resume>> {
        match self.ask_and_wait(node, |ticket| Command::SaveResumeData(ticket, torrent, flags)) {
            Answer::ResumeData(resume) => resume,
            other => panic!("no resume data, but {other:?}"),
        }
    }

    /// A torrent's figures.
    pub fn status(&mut self, node: NodeId, torrent: TorrentHandle) -> TorrentStatus {
        match self.ask(node, |ticket| Command::Status(ticket, torrent)) {
            Answer::Status(Some(status)) => *status,
            other => panic!("no status, but {other:?}"),
        }
    }

    /// Whether a torrent has all it wants.
    pub fn is_finished(&mut self, node: NodeId, torrent: TorrentHandle) -> bool {
        self.status(node, torrent).is_finished()
    }

    /// Panics unless a node's files are what they should be.
    pub fn assert_complete(&mut self, node: NodeId, content: &Content) {
        let (found, right) = (self.disk(node).bytes(".", content), content.bytes());
        let wrong = found.iter().zip(right).position(|(found, right)| found != right);
        assert_eq!((found.len(), wrong), (right.len(), None), "length, and first wrong byte, of {node:?}");
    }

    /// Virtual time since the beginning.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// A hash of everything that happened.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    pub fn at(&self, node: NodeId) -> &Node {
        &self.nodes[node.0]
    }

    pub fn disk(&mut self, node: NodeId) -> &mut Disk {
        &mut self.nodes[node.0].disk
    }

    /// The alerts of a node so far.
    pub fn alerts(&self, node: NodeId) -> impl Iterator<Item = &AlertKind> {
        self.nodes[node.0].alerts.iter().map(|alert| &alert.kind)
    }

    /// Nothing is done by a node's disk for so long.
    pub fn stall(&mut self, node: NodeId, time: Duration) {
        self.nodes[node.0].disk.stalled_until = self.now + time;
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.queue.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Lets time pass until something is so, which is looked at whenever something happened. Panics after so long.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.queue.next_at().is_some_and(|at| at <= end), "not done after {limit:?}: {self:?}");
            self.step();
        }
    }

    /// Lets time pass until torrents are finished. Looks once per tenth of a second.
    pub fn run_until_finished(&mut self, limit: Duration, torrents: &[(NodeId, TorrentHandle)]) {
        let end = self.now + limit;
        let mut left = torrents.to_vec();
        loop {
            left.retain(|(node, torrent)| !self.is_finished(*node, *torrent));
            if left.is_empty() {
                return;
            }
            assert!(self.now < end, "not finished after {limit:?}: {left:?}: {self:?}");
            self.run_for(Duration::from_millis(100));
        }
    }

    fn step(&mut self) {
        let Some((at, event)) = self.queue.pop() else { return };
        self.now = self.now.max(at);
        match event {
            Event::Timer(node) => self.on_timer(node),
            Event::Disk(node, visit) => self.on_disk(node, visit),
            Event::Net(connection, step) => self.on_network(connection, step),
            Event::Datagram(datagram) => self.on_datagram(datagram),
            Event::Fetched(node, fetch, result) => self.on_fetched(node, fetch, result),
            Event::TrackerPacket(node, from, packet) => self.deliver(from, node, &packet),
        }
    }

    fn instant(&self) -> Instant {
        self.epoch + self.now
    }
}

/// The default settings, with every alert.
pub fn talkative() -> Settings {
    Settings {
        alert_mask: pilotfish_plugin::AlertCategory::ALL,
        alert_queue_size: 1_000_000,
        ..Settings::default()
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "at {:?} with seed {}", self.now, self.seed)?;
        for (i, node) in self.nodes.iter().enumerate() {
            let last = node.alerts.iter().rev().take(3).map(|alert| alert.kind.message());
            writeln!(f, "  node {i}: {:?}; {:?}", node.engine, last.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("PILOTFISH_SIM_SEED={} replays this run, which ended at {:?}", self.seed, self.now);
        }
    }
}
