//! Datagrams on the one UDP port, and names that are looked up.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::relay::Route;
use super::state::Lookup;
use super::{Engine, LookupToken};
use crate::wire::Protocol;

impl Engine {
    /// A datagram came. Those of uTP belong to whoever moves bytes, and are not looked at here; what we send through a proxy is
    /// answered through it.
    pub fn datagram(&mut self, from: SocketAddr, payload: &[u8], now: Instant) {
        self.state.now = self.state.now.max(now);
        match Protocol::of(payload) {
            Some(Protocol::Tracker { transaction }) if self.state.tracker_route() == Route::Direct => {
                self.on_tracker_packet(Some(from), transaction, payload);
            }
            Some(Protocol::Dht) if self.state.dht_route() == Route::Direct => {
                self.on_dht_datagram(from, payload);
            }
            Some(_) | None => {}
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
