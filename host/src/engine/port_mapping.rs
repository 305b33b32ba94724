//! Ports that routers let through to us (UPnP, NAT-PMP, PCP): which are wanted, and what became of them.
//!
//! Asking is the driver's business. The port that a router gave us need not be the one that we listen on: trackers, the DHT and
//! peers are told the router's, those on our own network ours.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::Engine;
use super::output::{Output, PortMapping, PortmapProtocol, PortmapTransport};
use super::state::{SessionPhase, State};
use super::timers::Timer;
use crate::alert::AlertKind;

/// How long the end of a session waits for routers to take back what they gave.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a router did with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedPort {
    /// The port on its outside.
    pub port: u16,
    /// Its own address there, if it told.
    pub address: Option<IpAddr>,
}

/// What became of a port, as far as it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Outcome {
    #[default]
    Unknown,
    Mapped(u16),
    Failed(String),
}

/// The ports of a session.
#[derive(Debug, Default)]
pub(super) struct PortMappings {
    wanted: Vec<PortMapping>,
    /// What was asked for and is not over yet, and what became of it for each protocol.
    asked: BTreeMap<PortMapping, [Outcome; 2]>,
    /// When the session ends, whatever is not over.
    end: Option<Instant>,
}

impl PortMappings {
    /// The port under which one of ours is known outside.
    fn external(&self, local: SocketAddr, protocol: PortmapProtocol) -> Option<u16> {
        let ours = self.asked.iter().filter(|(mapping, _)| SocketAddr::V4(mapping.local) == local);
        let mut ports = ours.filter_map(|(_, outcomes)| match outcomes[protocol as usize] {
            Outcome::Mapped(port) => Some(port),
            _ => None,
        });
        ports.next()
    }
}

impl Engine {
    /// A router maps a port, or does not.
    pub(super) fn on_port_mapped(
        &mut self,
        mapping: PortMapping,
        protocol: PortmapProtocol,
        result: Result<MappedPort, String>,
    ) {
        let before = self.state.external_tcp_port(mapping.local.into());
        let mappings = &mut self.state.port_mappings;
        let wanted = mappings.wanted.contains(&mapping);
        let Some(outcomes) = mappings.asked.get_mut(&mapping).filter(|_| wanted) else { return };
        let outcome = match &result {
            Ok(mapped) => Outcome::Mapped(mapped.port),
            Err(error) => Outcome::Failed(error.clone()),
        };
        let address = result.ok().and_then(|mapped| mapped.address);
        // It is asked again and again; what stays the same was said.
        if std::mem::replace(&mut outcomes[protocol as usize], outcome.clone()) != outcome {
            self.state.tell_outcome(mapping, protocol, outcome);
        }
        if let Some(ip) = address {
            self.on_suggested_address(ip);
        }
        if self.state.external_tcp_port(mapping.local.into()) != before {
            self.tell_new_port();
        }
    }

    /// Whoever was told another port hears of the new one, as soon as it may be asked again.
    pub(super) fn tell_new_port(&mut self) {
        for torrent in self.state.order.clone() {
            self.force_reannounce(torrent, Duration::ZERO, None, false);
        }
        self.state.announce_all_now();
        self.settle_dht();
    }

    /// Nothing more will be done for a port, nor be known of it.
    pub(super) fn on_port_unmapped(&mut self, mapping: &PortMapping) {
        let mappings = &mut self.state.port_mappings;
        if !mappings.wanted.contains(mapping) && mappings.asked.remove(mapping).is_some() {
            self.finish_shutdown();
        }
    }
}

impl State {
    fn tell_outcome(&mut self, mapping: PortMapping, protocol: PortmapProtocol, outcome: Outcome) {
        let map_protocol = protocol.name().to_owned();
        let map_transport = mapping.transport.name().to_owned();
        let local_address = IpAddr::V4(*mapping.local.ip());
        match outcome {
            Outcome::Mapped(port) => {
                let external_port = port.into();
                self.alert(AlertKind::Portmap { external_port, map_protocol, map_transport, local_address });
            }
            Outcome::Failed(error) => {
                self.alert(AlertKind::PortmapError { map_protocol, map_transport, local_address, error });
            }
            Outcome::Unknown => {}
        }
        if let Some(ip) = self.external_address(true) {
            self.set_our_address(SocketAddr::new(ip, self.listen_port().unwrap_or(0)));
        }
    }

    /// The ports by which others reach each of our listeners.
    pub(super) fn external_tcp_ports(&self) -> Vec<u16> {
        self.listening.iter().map(|local| self.external_tcp_port(*local)).collect()
    }

    /// What is wanted of routers may have changed: the settings, where we listen, or that the session ends.
    pub(super) fn update_port_mappings(&mut self) {
        let wanted = self.wanted_mappings();
        let mappings = &mut self.port_mappings;
        if wanted == mappings.wanted {
            return;
        }
        for mapping in &wanted {
            mappings.asked.entry(*mapping).or_default();
        }
        // What a router takes back is not told to anybody any more.
        for (_, outcomes) in mappings.asked.iter_mut().filter(|(mapping, _)| !wanted.contains(mapping)) {
            *outcomes = Default::default();
        }
        mappings.wanted.clone_from(&wanted);
        self.outputs.push_back(Output::MapPorts(wanted));
    }

    /// Who is reached on this machine alone, or hides behind a proxy, has nothing to ask a router for.
    fn wanted_mappings(&self) -> Vec<PortMapping> {
        if self.phase != SessionPhase::Running || self.peer_proxy().is_some() {
            return Vec::new();
        }
        let settings = &self.settings;
        let transports = [
            (settings.enable_natpmp, PortmapTransport::NatPmp, settings.natpmp_lease_duration),
            (settings.enable_upnp, PortmapTransport::Upnp, settings.upnp_lease_duration),
        ];
        let enabled = transports.into_iter().filter(|(enabled, ..)| *enabled);
        let locals = || self.listening.iter().filter_map(mappable);
        enabled
            .flat_map(|(_, transport, lease)| {
                locals().map(move |local| PortMapping { transport, local, lease: lease.duration() })
            })
            .collect()
    }

    /// The session ends: routers have so long to take back what they gave.
    pub(super) fn stop_port_mappings(&mut self) {
        self.update_port_mappings();
        if !self.port_mappings.asked.is_empty() {
            let end = self.now + GOODBYE;
            self.port_mappings.end = Some(end);
            self.timers.set(end, Timer::PortMappings);
        }
    }

    /// Whether no router is waited for.
    pub(super) fn routers_are_quiet(&self) -> bool {
        let mappings = &self.port_mappings;
        mappings.asked.is_empty() || mappings.end.is_some_and(|end| end <= self.now)
    }

    /// The port under which peers outside reach one of our listeners.
    pub(super) fn external_tcp_port(&self, local: SocketAddr) -> u16 {
        self.port_mappings.external(local, PortmapProtocol::Tcp).unwrap_or(local.port())
    }

    /// The port under which the UDP socket beside a listener is reached from outside.
    pub(super) fn external_udp_port(&self, local: SocketAddr) -> u16 {
        self.port_mappings.external(local, PortmapProtocol::Udp).unwrap_or(local.port())
    }
}

/// Routers translate addresses of IPv4 only.
fn mappable(local: &SocketAddr) -> Option<SocketAddrV4> {
    match local {
        SocketAddr::V4(local) if !local.ip().is_loopback() && local.port() != 0 => Some(*local),
        _ => None,
    }
}
