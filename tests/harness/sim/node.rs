//! One engine, its disk, and what the driver does for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilotfish::alert::Alert;
use pilotfish::command::{Answer, Ticket};
use pilotfish::engine::{Engine, EngineConfig, Input, Output};
use pilotfish::settings::Settings;
use pilotfish_plugin::PeerHandle;

use rand::RngExt;

use super::disk::{Disk, Outcome, Visit};
use super::{Event, NodeId, Sim};

/// One engine and what belongs to it.
pub struct Node {
    pub engine: Engine,
    pub disk: Disk,
    pub address: SocketAddr,
    pub alerts: Vec<Alert>,
    /// The engine has stopped.
    pub stopped: bool,
    /// It sends datagrams through a proxy.
    pub(super) relays: bool,
    /// Which side of a partition it is on.
    pub(super) side: u32,
    pub(super) answers: HashMap<Ticket, Answer>,
    /// Connection and end.
    pub(super) peers: BTreeMap<u64, (usize, usize)>,
    dirty: VecDeque<PeerHandle>,
    armed: Option<Duration>,
    woken: Arc<AtomicBool>,
}

impl Node {
    pub(super) fn new(
        settings: Settings,
        dht_state: Option<Vec<u8>>,
        seed: u64,
        address: SocketAddr,
        now: Instant,
    ) -> Self {
        let woken = Arc::new(AtomicBool::new(false));
        let flag = woken.clone();
        let waker = Arc::new(move || flag.store(true, Ordering::Relaxed));
        let engine =
            Engine::new(EngineConfig { settings, seed, unix_time: 1_700_000_000, dht_state, waker }, now);
        Self {
            disk: Disk::new(engine.block_pool()),
            engine,
            address,
            alerts: Vec::new(),
            stopped: false,
            relays: false,
            side: 0,
            answers: HashMap::new(),
            peers: BTreeMap::new(),
            dirty: VecDeque::new(),
            armed: None,
            woken,
        }
    }
}

impl Sim {
    /// Kills a node's process, and starts it anew with these settings: what is on its disk is all that it has. Everybody it was
    /// connected to hears of it.
    pub fn restart(&mut self, id: NodeId, settings: Settings) {
        self.hang_up(id);
        let disk_events = |event: &Event| matches!(event, Event::Disk(node, _) if *node == id);
        self.queue.forget(disk_events);
        let now = self.instant();
        let seed = self.rng.random();
        let node = &mut self.nodes[id.0];
        let old = std::mem::replace(node, Node::new(settings, None, seed, node.address, now));
        node.disk = old.disk;
        node.disk.restart(node.engine.block_pool());
        let address = node.address;
        self.handle(id, Input::Listening(address));
    }

    /// Tells an engine what happened, and does what it wants done because of it.
    pub(super) fn handle(&mut self, node: NodeId, input: Input) {
        let now = self.instant();
        self.nodes[node.0].engine.handle(input, now);
        self.settle(node);
    }

    pub(super) fn on_timer(&mut self, id: NodeId) {
        let now = self.now;
        let node = &mut self.nodes[id.0];
        if node.armed.is_some_and(|armed| armed <= now) {
            node.armed = None;
            self.handle(id, Input::Timeout);
        }
    }

    pub(super) fn on_disk(&mut self, id: NodeId, visit: Visit) {
        let disk = &mut self.nodes[id.0].disk;
        if self.now < disk.stalled_until {
            return self.queue.plan(disk.stalled_until, Event::Disk(id, visit));
        }
        let outcome = disk.carry_out(visit, self.now);
        self.after_disk(id, outcome);
    }

    fn after_disk(&mut self, id: NodeId, outcome: Outcome) {
        for visit in outcome.visits {
            let at = self.nodes[id.0].disk.delay(self.now, &mut self.rng);
            self.queue.plan(at, Event::Disk(id, visit));
        }
        for answer in outcome.answers {
            self.handle(id, Input::Disk(answer));
        }
    }

    /// Carries out everything that an engine wants done, and what that causes.
    pub(super) fn settle(&mut self, id: NodeId) {
        loop {
            while let Some(output) = self.nodes[id.0].engine.poll_output() {
                self.carry_out(id, output);
            }
            let Some(peer) = self.nodes[id.0].dirty.pop_front() else { break };
            self.write(id, peer);
        }
        while let Some(alert) = self.nodes[id.0].engine.poll_alert() {
            self.trace.note(self.now, id.0, format_args!("{}", alert.kind.message()));
            self.nodes[id.0].alerts.push(alert);
        }
        if self.nodes[id.0].woken.swap(false, Ordering::Relaxed) {
            self.handle(id, Input::Wake);
        }
        self.arm(id);
    }

    fn arm(&mut self, id: NodeId) {
        let epoch = self.epoch;
        let node = &mut self.nodes[id.0];
        let next = node.engine.poll_timeout().map(|at| at.saturating_duration_since(epoch));
        if let Some(next) = next.filter(|next| node.armed.is_none_or(|armed| *next < armed)) {
            node.armed = Some(next);
            self.queue.plan(next.max(self.now), Event::Timer(id));
        }
    }

    fn carry_out(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Connect { peer, address, .. } => self.dial(id, peer, address),
            Output::Transmit(peer) => self.nodes[id.0].dirty.push_back(peer),
            Output::Read(peer) => self.read_soon(id, peer),
            Output::Close(peer) => self.close(id, peer),
            Output::Datagram { to, payload } => self.send_datagram(id, to, payload),
            Output::RelayedDatagram { to, payload } => self.relay_datagram(id, to, payload),
            Output::LocalAnnouncement { payload, .. } => self.send_to_all(id, &payload),
            Output::Resolve { lookup, host } => {
                let addresses = self.look_up(&host);
                self.handle(id, Input::Resolved { lookup, addresses });
            }
            Output::Fetch { fetch, request } => self.fetch(id, fetch, &request),
            Output::CancelFetch(fetch) => self.cancel_fetch(id, fetch),
            Output::MapPorts(wanted) => self.map_ports(id, wanted),
            Output::Disk(job) => {
                let outcome = self.nodes[id.0].disk.submit(job);
                self.after_disk(id, outcome);
            }
            Output::Answer(ticket, answer) => {
                self.nodes[id.0].answers.insert(ticket, answer);
            }
            Output::Stopped => self.nodes[id.0].stopped = true,
        }
    }
}
