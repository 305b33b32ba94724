//! Datagrams on the one UDP port, and names that are looked up.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::state::Lookup;
use super::{Engine, LookupToken};
use crate::wire::tracker::udp;

impl Engine {
    /// A datagram came. The protocols on the port are told apart by how each begins.
    pub fn datagram(&mut self, from: SocketAddr, payload: &[u8], now: Instant) {
        self.state.now = self.state.now.max(now);
        if let Some(transaction) = udp::transaction(payload) {
            self.on_tracker_packet(from, transaction, payload);
        } else if super::dht::is_dht(payload) {
            self.on_dht_datagram(from, payload);
        }
        self.end_turn();
    }

    /// What became of a name that was to be looked up.
    pub(super) fn on_resolved(&mut self, lookup: LookupToken, addresses: io::Result<Vec<IpAddr>>) {
        match self.state.lookups.remove(&lookup) {
            Some(Lookup::WebSeed(torrent, seed)) => self.on_web_seed_resolved(torrent, seed, addresses),
            Some(Lookup::Tracker(request)) => self.on_tracker_resolved(request, addresses),
            Some(Lookup::Dht(contact)) => self.on_dht_resolved(contact, addresses),
            None => {}
        }
    }
}
