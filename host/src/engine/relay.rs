//! Datagrams that go through a proxy (SOCKS 5), and those that would go past it and so are not sent.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::Engine;
use super::output::{Output, Proxy};
use super::state::State;
use crate::wire::Protocol;

/// Whom a datagram is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// An address.
    Address(SocketAddr),
    /// A host and its port: the proxy looks the name up.
    Name(String, u16),
}

/// How datagrams of one kind leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Route {
    /// From our own port.
    #[default]
    Direct,
    /// Through the proxy.
    Relayed,
    /// Not at all: the proxy has no way for them.
    Closed,
}

impl Engine {
    /// A datagram came through the proxy; from whom, if that is an address.
    pub fn relayed_datagram(&mut self, from: Option<SocketAddr>, payload: &[u8], now: Instant) {
        self.state.now = self.state.now.max(now);
        match (Protocol::of(payload), from) {
            (Some(Protocol::Tracker { transaction }), _) if self.state.tracker_route() == Route::Relayed => {
                self.on_tracker_packet(from, transaction, payload);
            }
            (Some(Protocol::Dht), Some(from)) if self.state.dht_route() == Route::Relayed => {
                self.on_dht_datagram(from, payload);
            }
            _ => {}
        }
        self.end_turn();
    }

    /// Through whom [`Output::RelayedDatagram`] goes, if there is somebody.
    pub fn relay(&self) -> Option<Proxy> {
        self.state.proxy().filter(|proxy| proxy.socks)
    }
}

impl State {
    /// How trackers are reached that speak UDP.
    pub(super) fn tracker_route(&self) -> Route {
        route(self.tracker_proxy())
    }

    /// How DHT nodes are reached: through the proxy if there is one, whatever it is for (as with libtorrent).
    pub(super) fn dht_route(&self) -> Route {
        route(self.proxy())
    }

    /// Whether names are the proxy's to look up, so that nobody here learns them.
    pub(super) fn relay_looks_up(&self, route: Route) -> bool {
        route == Route::Relayed && self.settings.proxy_hostnames
    }

    /// Sends a datagram, if it can get there by this route.
    pub(super) fn send_datagram(&mut self, route: Route, to: Destination, payload: Bytes) {
        match (route, to) {
            (Route::Direct, Destination::Address(to)) => {
                self.outputs.push_back(Output::Datagram { to, payload })
            }
            (Route::Relayed, to) => self.outputs.push_back(Output::RelayedDatagram { to, payload }),
            (Route::Direct, Destination::Name(..)) | (Route::Closed, _) => {}
        }
    }
}

fn route(proxy: Option<Proxy>) -> Route {
    match proxy {
        None => Route::Direct,
        Some(proxy) if proxy.socks => Route::Relayed,
        Some(_) => Route::Closed,
    }
}
