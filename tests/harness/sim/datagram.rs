//! Datagrams between nodes: each is late by itself, and some never come.

use std::net::SocketAddr;

use bytes::Bytes;
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

    /// A node sends a datagram. One of several in flight may overtake another.
    pub(super) fn send_datagram(&mut self, from: NodeId, address: SocketAddr, payload: Bytes) {
        if self.tap.is_some() {
            self.datagrams.push((from, (address, payload.clone())));
        }
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
        let (address, now) = (sender.address, self.instant());
        self.trace.note(self.now, to.0, format_args!("hears {} from {address}", payload.len()));
        self.nodes[to.0].engine.datagram(address, &payload, now);
        self.settle(to);
    }
}
