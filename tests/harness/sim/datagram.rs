//! Datagrams between nodes: each is late by itself, and some never come.

use std::net::SocketAddr;

use bytes::Bytes;
use pilotfish::engine::{Destination, Input};
use rand::RngExt;

use super::{Event, NodeId, Sim};

/// A datagram on its way.
#[derive(Debug)]
pub(super) struct Datagram {
    from: NodeId,
    to: NodeId,
    payload: Bytes,
}

impl Sim {
    /// A node listens on one more address. Nobody comes to it.
    pub fn listen(&mut self, node: NodeId, address: SocketAddr) {
        self.handle(node, Input::Listening(address));
    }

    /// Everything that a node has sent by UDP since the [tap](Self::tap).
    pub fn datagrams_of(&self, node: NodeId) -> impl Iterator<Item = &(SocketAddr, Bytes)> {
        self.datagrams.iter().filter(move |(from, _)| *from == node).map(|(_, datagram)| datagram)
    }

    /// A datagram comes to a node from somebody who is not part of the simulation.
    pub fn datagram(&mut self, to: NodeId, from: SocketAddr, payload: &[u8]) {
        let now = self.instant();
        self.nodes[to.0].engine.datagram(from, payload, now);
        self.settle(to);
    }

    /// An announcement comes to a node from somebody on its network who is not part of the simulation.
    pub fn announce_locally(&mut self, to: NodeId, from: SocketAddr, payload: &[u8]) {
        let now = self.instant();
        self.nodes[to.0].engine.local_announcement(from, payload, now);
        self.settle(to);
    }

    /// Everything that a node has sent through a proxy.
    pub fn relayed_by(&self, node: NodeId) -> impl Iterator<Item = &(Destination, Bytes)> {
        self.relayed.iter().filter(move |(from, _)| *from == node).map(|(_, datagram)| datagram)
    }

    /// A node sends a datagram.
    pub(super) fn send_datagram(&mut self, from: NodeId, address: SocketAddr, payload: Bytes) {
        if self.tap.is_some() {
            self.datagrams.push((from, (address, payload.clone())));
        }
        self.pass_datagram(from, address, payload);
    }

    /// A node sends a datagram through its proxy. What comes to the node from now on comes through that, too.
    pub(super) fn relay_datagram(&mut self, from: NodeId, to: Destination, payload: Bytes) {
        self.relayed.push((from, (to.clone(), payload.clone())));
        self.nodes[from.0].relays = true;
        let address = match to {
            Destination::Address(address) => address,
            Destination::Name(host, port) => match self.look_up(&host) {
                Ok(found) => SocketAddr::new(found[0], port),
                Err(_) => return,
            },
        };
        self.pass_datagram(from, address, payload);
    }

    /// A datagram is on its way. One of several in flight may overtake another.
    fn pass_datagram(&mut self, from: NodeId, address: SocketAddr, payload: Bytes) {
        if self.ask_tracker(from, address, &payload) {
            return;
        }
        let to = self.nodes.iter().position(|node| node.address == address && !node.stopped).map(NodeId);
        // Nobody says that nobody is there.
        let Some(to) = to else { return };
        let link = self.links.get(&(from.min(to), from.max(to))).unwrap_or(&self.link);
        if self.rng.random_range(0..1_000_000) < link.loss_ppm {
            return;
        }
        let late = self.rng.random_range(0.0..0.2);
        let at = self.now + link.latency.mul_f64(1.0 + late);
        self.queue.plan(at, Event::Datagram(Datagram { from, to, payload }));
    }

    /// A node sends a datagram to everybody on its network: a simulation is one.
    pub(super) fn send_to_all(&mut self, from: NodeId, payload: &Bytes) {
        self.multicasts.push((from, payload.clone()));
        let (now, address, side) = (self.instant(), self.nodes[from.0].address, self.nodes[from.0].side);
        for to in 0..self.nodes.len() {
            let node = &mut self.nodes[to];
            if self.hears_all && node.side == side && !node.stopped {
                node.engine.local_announcement(address, payload, now);
                self.settle(NodeId(to));
            }
        }
    }

    /// What a node has sent to everybody on its network.
    pub fn multicasts_of(&self, node: NodeId) -> impl Iterator<Item = &Bytes> {
        self.multicasts.iter().filter(move |(from, _)| *from == node).map(|(_, payload)| payload)
    }

    pub(super) fn on_datagram(&mut self, datagram: Datagram) {
        let Datagram { from, to, payload } = datagram;
        let (sender, receiver) = (&self.nodes[from.0], &self.nodes[to.0]);
        // What a partition stops is lost.
        if sender.side != receiver.side || receiver.stopped {
            return;
        }
        self.deliver(sender.address, to, &payload);
    }

    /// A datagram comes to a node, through its proxy if it has one.
    pub(super) fn deliver(&mut self, from: SocketAddr, to: NodeId, payload: &[u8]) {
        let now = self.instant();
        self.trace.note(self.now, to.0, format_args!("hears {} from {from}", payload.len()));
        let node = &mut self.nodes[to.0];
        match node.relays {
            true => node.engine.relayed_datagram(Some(from), payload, now),
            false => node.engine.datagram(from, payload, now),
        }
        self.settle(to);
    }
}
