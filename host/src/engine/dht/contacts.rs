//! Hosts by which the DHT is entered: their names are looked up first.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::alert::AlertKind;
use crate::engine::Engine;
use crate::engine::state::{Lookup, State};

/// A name that cannot be looked up is tried again after so long, then twice as long, at most so long.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(900));

/// What a name is looked up for.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Contact {
    /// A host of the setting `dht_bootstrap_nodes`.
    Router(String, u16),
    /// A node that somebody named.
    Node(u16),
}

/// The hosts.
#[derive(Debug, Default)]
pub(in crate::engine) struct Contacts {
    routers: Vec<SocketAddr>,
    /// Whether the setting has been read.
    asked: bool,
    /// Routers whose names could not be looked up, and when to try again.
    unknown: Vec<(String, u16)>,
    retry: Option<Instant>,
    pause: Duration,
}

impl Contacts {
    /// Those whose address is known.
    pub(super) fn routers(&self) -> &[SocketAddr] {
        &self.routers
    }

    /// The names in the setting may be looked up where they could not be before.
    pub(super) fn begin_again(&mut self) {
        self.asked = false;
    }

    /// When a name is tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.retry
    }
}

impl Engine {
    /// A name was looked up.
    pub(in crate::engine) fn on_dht_resolved(
        &mut self,
        contact: Contact,
        addresses: io::Result<Vec<IpAddr>>,
    ) {
        match (contact, addresses) {
            (Contact::Router(_, port), Ok(ips)) => {
                let found = ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
                self.state.add_routers(found);
            }
            (Contact::Node(port), Ok(ips)) => {
                ips.iter().for_each(|ip| self.state.add_node_address(SocketAddr::new(*ip, port)));
            }
            (Contact::Router(host, port), Err(error)) => {
                self.state.alert(AlertKind::DhtError { error: format!("{host}: {error}") });
                self.state.try_router_later(host, port);
            }
            (Contact::Node(_), Err(error)) => {
                self.state.alert(AlertKind::DhtError { error: error.to_string() });
            }
        }
        self.settle_dht();
    }
}

impl State {
    /// Looks up the names in the setting, once there is a node that could reach them.
    pub(super) fn contact_routers(&mut self) {
        let outside = self.listening.iter().any(|address| !address.ip().is_loopback());
        if self.dht.contacts.asked || !self.dht.is_on() {
            return;
        }
        let hosts = self.settings.dht_bootstrap_nodes.0.clone();
        let (known, names): (Vec<_>, Vec<_>) =
            hosts.into_iter().partition(|(host, _)| host.parse::<IpAddr>().is_ok());
        let known = known.iter().filter_map(|(host, port)| Some(SocketAddr::new(host.parse().ok()?, *port)));
        self.add_routers(known.collect());
        if outside {
            self.dht.contacts.asked = true;
            if self.relay_looks_up(self.dht.route) && !names.is_empty() {
                // The proxy would, but of whom it is asked for must be an address, so that its answer can be told.
                let error =
                    "hosts by which the DHT is entered are not looked up behind a proxy that does that";
                return self.alert(AlertKind::DhtError { error: error.to_owned() });
            }
            names.into_iter().for_each(|(host, port)| {
                self.look_up(Lookup::Dht(Contact::Router(host.clone(), port)), host)
            });
        }
    }

    fn add_routers(&mut self, found: Vec<SocketAddr>) {
        let known = &mut self.dht.contacts.routers;
        let new: Vec<_> = found.into_iter().filter(|router| !known.contains(router)).collect();
        known.extend(&new);
        for is_v4 in [true, false] {
            if new.iter().any(|router| router.is_ipv4() == is_v4) {
                self.with_node(is_v4, |node, now, rng| node.bootstrap(&new, now, rng));
            }
        }
    }

    fn try_router_later(&mut self, host: String, port: u16) {
        let now = self.now;
        let contacts = &mut self.dht.contacts;
        contacts.unknown.push((host, port));
        if contacts.retry.is_none() {
            contacts.pause = (contacts.pause * 2).clamp(RETRY.0, RETRY.1);
            contacts.retry = Some(now + contacts.pause);
        }
    }

    /// Names that could not be looked up are tried again, if it is time.
    pub(super) fn retry_routers(&mut self) {
        if self.dht.contacts.retry.is_none_or(|at| at > self.now) {
            return;
        }
        self.dht.contacts.retry = None;
        for (host, port) in std::mem::take(&mut self.dht.contacts.unknown) {
            self.look_up(Lookup::Dht(Contact::Router(host.clone(), port)), host);
        }
    }

    /// Somebody is a node, says the user or a torrent.
    pub(in crate::engine) fn add_dht_node(&mut self, host: &str, port: u16) {
        match host.parse() {
            Ok(ip) => self.add_node_address(SocketAddr::new(ip, port)),
            Err(_) if self.relay_looks_up(self.dht_route()) => {}
            Err(_) => self.look_up(Lookup::Dht(Contact::Node(port)), host.to_owned()),
        }
    }

    fn add_node_address(&mut self, address: SocketAddr) {
        self.with_node(address.is_ipv4(), |node, now, rng| node.add_node(address, now, rng));
    }
}
