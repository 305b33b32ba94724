//! Connections between nodes, and everything that can happen to them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use pilotfish::engine::{Input, SocketOperation};
use pilotfish::peer::Transport;
use pilotfish_plugin::PeerHandle;
use rand::RngExt;

use super::link::{Link, RETRANSMISSION, Stream};
use super::web::Serving;
use super::{Event, NodeId, Sim};

/// So much is read in one turn.
const READ_BUDGET: usize = 256 << 10;

/// Two ends, and a stream from each to the other.
pub(super) struct Connection {
    pub(super) link: Link,
    ends: [End; 2],
    /// What each end sends.
    pub(super) streams: [Stream; 2],
    /// Its second end, if that is a web server and not a node; the number of that end's node means nothing then.
    pub(super) serving: Option<Serving>,
}

struct End {
    node: NodeId,
    address: SocketAddr,
    /// None before it is accepted and after it is closed.
    peer: Option<PeerHandle>,
}

/// One thing that happens to a connection; the number is the end to which it happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The listener hears of it.
    Knock,
    /// The caller hears that it was accepted, or refused.
    Answered(bool),
    /// Bytes, or the end, come.
    Arrive(usize),
    /// There may be more to read.
    Read(usize),
    /// What an end has sent was read.
    Acknowledge(usize, usize),
    /// There may be room to write again.
    Room(usize),
    /// The other side is gone.
    Reset(usize),
    /// A web server has its answer.
    Reply,
}

impl Sim {
    /// What connections between two nodes are like from now on.
    pub fn set_link(&mut self, one: NodeId, other: NodeId, link: Link) {
        self.links.insert((one.min(other), one.max(other)), link);
    }

    /// Splits the world: nodes hear nothing of those that are on another side. Nothing that was sent is lost.
    pub fn partition(&mut self, side: impl Fn(NodeId) -> u32) {
        for (i, node) in self.nodes.iter_mut().enumerate() {
            node.side = side(NodeId(i));
        }
    }

    /// Ends a partition.
    pub fn heal(&mut self) {
        self.partition(|_| 0);
        let at = self.now + RETRANSMISSION;
        std::mem::take(&mut self.held).into_iter().for_each(|event| self.queue.plan(at, event));
    }

    /// Breaks every connection between two nodes.
    pub fn reset(&mut self, one: NodeId, other: NodeId) {
        for id in 0..self.connections.len() {
            let nodes = [self.connections[id].ends[0].node, self.connections[id].ends[1].node];
            if nodes == [one, other] || nodes == [other, one] {
                (0..2).for_each(|end| self.fail(id, end, Some(ErrorKind::ConnectionReset.into())));
            }
        }
    }

    /// A node's process is gone: everybody else hears that their connections to it are over.
    pub(super) fn hang_up(&mut self, node: NodeId) {
        for id in 0..self.connections.len() {
            for end in 0..2 {
                if self.connections[id].ends[end].node == node
                    && self.connections[id].ends[end].peer.take().is_some()
                {
                    self.plan(self.connections[id].link.latency, id, Step::Reset(1 - end));
                }
            }
        }
    }

    /// From now on, keeps everything that is sent.
    pub fn tap(&mut self) {
        self.tap = Some(BTreeMap::new());
    }

    /// Everything that a node has sent since the [tap](Self::tap), one stream for each connection.
    pub fn sent_by(&self, node: NodeId) -> Vec<&[u8]> {
        let streams = self.tap.iter().flatten();
        let by_node = streams.filter(|((id, end), _)| self.connections[*id].ends[*end].node == node);
        by_node.map(|(_, bytes)| bytes.as_slice()).collect()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.connections.iter().filter(|c| c.ends.iter().all(|end| end.peer.is_some())).count()
    }

    pub(super) fn dial(&mut self, id: NodeId, peer: PeerHandle, address: SocketAddr) {
        let connection = self.connections.len();
        let listener = self.nodes.iter().position(|node| node.address == address && !node.stopped);
        self.trace.note(self.now, id.0, format_args!("dials {address}"));
        let server = self.servers.iter().position(|server| server.address == address);
        let Some(to) = listener.map(NodeId).or(server.map(|_| id)) else {
            let (operation, error) = (SocketOperation::Connect, Some(ErrorKind::ConnectionRefused.into()));
            return self.handle(id, Input::Failed { peer, operation, error });
        };
        let link = self.links.get(&(id.min(to), id.max(to))).unwrap_or(&self.link).clone();
        let mut local = self.nodes[id.0].address;
        local.set_port(20_000 + (connection % 40_000) as u16);
        let ends =
            [End { node: id, address: local, peer: Some(peer) }, End { node: to, address, peer: None }];
        self.plan(link.latency, connection, Step::Knock);
        self.nodes[id.0].peers.insert(peer.into_raw(), (connection, 0));
        let serving = server.map(Serving::by);
        self.connections.push(Connection { link, ends, streams: Default::default(), serving });
    }

    pub(super) fn on_network(&mut self, id: usize, step: Step) {
        let connection = &self.connections[id];
        let sides = [0, 1].map(|end| self.nodes[connection.ends[end].node.0].side);
        let crosses = !matches!(step, Step::Read(_) | Step::Room(_));
        if crosses && sides[0] != sides[1] {
            return self.held.push(Event::Net(id, step));
        }
        match step {
            Step::Knock => self.knock(id),
            Step::Answered(accepted) => self.answered(id, accepted),
            Step::Arrive(end) => self.arrive(id, end),
            Step::Read(end) => self.read(id, end),
            Step::Acknowledge(end, bytes) => {
                self.connections[id].streams[end].acknowledge(bytes);
                self.resume(id, end);
            }
            Step::Room(end) => {
                self.connections[id].streams[end].waits_for_room = false;
                self.resume(id, end);
            }
            Step::Reply => self.reply(id),
            Step::Reset(end) => self.fail(id, end, Some(ErrorKind::ConnectionReset.into())),
        }
    }

    /// What an engine has to send goes onto the link, as far as there is room.
    pub(super) fn write(&mut self, id: NodeId, peer: PeerHandle) {
        let Some(&(connection, end)) = self.nodes[id.0].peers.get(&peer.into_raw()) else { return };
        let now = self.now;
        loop {
            let mut bytes = Vec::new();
            let Connection { link, streams, .. } = &mut self.connections[connection];
            let stream = &mut streams[end];
            let room = stream.room(link, now);
            let mut slices = Vec::new();
            self.nodes[id.0].engine.transmit(peer, &mut slices);
            for slice in &slices {
                bytes.extend_from_slice(&slice[..slice.len().min(room - bytes.len())]);
            }
            stream.blocked = room == 0 && !slices.is_empty();
            drop(slices);
            if bytes.is_empty() {
                break;
            }
            self.trace.note(now, id.0, format_args!("sends {} on {connection}", bytes.len()));
            if let Some(tap) = &mut self.tap {
                tap.entry((connection, end)).or_default().extend_from_slice(&bytes);
            }
            for at in stream.send(link, now, &bytes, &mut self.rng) {
                self.queue.plan(at, Event::Net(connection, Step::Arrive(1 - end)));
            }
            let written = Input::Written { peer, len: bytes.len() };
            self.nodes[id.0].engine.handle(written, self.epoch + now);
        }
        let Connection { link, streams, .. } = &mut self.connections[connection];
        if let Some(at) = streams[end].wait_for_room(link, now) {
            self.queue.plan(at, Event::Net(connection, Step::Room(end)));
        }
    }

    /// An engine wants to read again.
    pub(super) fn read_soon(&mut self, id: NodeId, peer: PeerHandle) {
        if let Some(&(connection, end)) = self.nodes[id.0].peers.get(&peer.into_raw()) {
            self.plan(Duration::ZERO, connection, Step::Read(end));
        }
    }

    /// An engine closes its end: what it has sent still arrives, and then the end of the stream.
    pub(super) fn close(&mut self, id: NodeId, peer: PeerHandle) {
        let Some((connection, end)) = self.nodes[id.0].peers.remove(&peer.into_raw()) else { return };
        self.trace.note(self.now, id.0, format_args!("closes {connection}"));
        let Connection { link, streams, ends, .. } = &mut self.connections[connection];
        ends[end].peer = None;
        let at = streams[end].end(link, self.now, &mut self.rng);
        self.queue.plan(at, Event::Net(connection, Step::Arrive(1 - end)));
    }

    pub(super) fn plan(&mut self, after: Duration, connection: usize, step: Step) {
        self.queue.plan(self.now + after, Event::Net(connection, step));
    }

    fn knock(&mut self, id: usize) {
        let Connection { link, ends, serving, .. } = &self.connections[id];
        if serving.is_some() {
            return self.plan(link.latency, id, Step::Answered(true));
        }
        let (latency, node, remote, local) = (link.latency, ends[1].node, ends[0].address, ends[1].address);
        let now = self.instant();
        let peer = self.nodes[node.0].engine.accept(remote, local, Transport::Tcp, now);
        if let Some(peer) = peer {
            self.connections[id].ends[1].peer = Some(peer);
            self.nodes[node.0].peers.insert(peer.into_raw(), (id, 1));
            self.settle(node);
        }
        self.plan(latency, id, Step::Answered(peer.is_some()));
    }

    fn answered(&mut self, id: usize, accepted: bool) {
        let End { node, address, peer } = self.connections[id].ends[0];
        match peer {
            Some(peer) => {
                self.handle(node, Input::Connected { peer, local: address, transport: Transport::Tcp });
                if !accepted {
                    self.fail(id, 0, None);
                }
            }
            None => self.plan(self.connections[id].link.latency, id, Step::Reset(1)),
        }
    }

    fn arrive(&mut self, id: usize, end: usize) {
        let Connection { link, ends, streams, serving } = &mut self.connections[id];
        streams[1 - end].arrive();
        if end == 1 && serving.is_some() {
            return self.read_requests(id);
        }
        if ends[end].peer.is_some() {
            return self.read(id, end);
        }
        if !streams[1 - end].is_over() {
            let latency = link.latency;
            self.plan(latency, id, Step::Reset(1 - end));
        }
    }

    /// Reads what has arrived, in random portions, unless the engine does not want it.
    fn read(&mut self, id: usize, end: usize) {
        let mut budget = READ_BUDGET;
        loop {
            let Connection { ends, streams, link, .. } = &mut self.connections[id];
            let (node, Some(peer)) = (ends[end].node, ends[end].peer) else { return };
            let (stream, latency) = (&mut streams[1 - end], link.latency);
            let engine = &mut self.nodes[node.0].engine;
            if !engine.wants_read(peer) {
                return;
            }
            if stream.is_over() {
                return self.fail(id, end, None);
            }
            if budget == 0 {
                return self.plan(Duration::ZERO, id, Step::Read(end));
            }
            let most = self.rng.random_range(link.chunk.clone()).min(budget);
            let Some(mut buffers) = engine.receive_buffers(peer, &mut self.scratch) else { return };
            let read = stream.read(&mut buffers, most);
            if read == 0 {
                return;
            }
            budget -= read;
            engine.received(peer, read, &self.scratch, self.epoch + self.now);
            self.trace.note(self.now, node.0, format_args!("reads {read} on {id}"));
            self.plan(latency, id, Step::Acknowledge(1 - end, read));
            self.settle(node);
        }
    }

    /// There may be room to send again.
    fn resume(&mut self, id: usize, end: usize) {
        let Connection { ends, streams, .. } = &self.connections[id];
        if let (true, Some(peer)) = (streams[end].blocked, ends[end].peer) {
            let node = ends[end].node;
            self.write(node, peer);
            self.settle(node);
        }
    }

    /// An end learns that the connection is over.
    fn fail(&mut self, id: usize, end: usize, error: Option<io::Error>) {
        let node = self.connections[id].ends[end].node;
        let Some(peer) = self.connections[id].ends[end].peer.take() else { return };
        self.nodes[node.0].peers.remove(&peer.into_raw());
        self.trace.note(self.now, node.0, format_args!("loses {id}"));
        // Whatever the other end sends from now on is answered with a reset.
        self.handle(node, Input::Failed { peer, operation: SocketOperation::Read, error });
    }
}
