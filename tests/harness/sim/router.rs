//! The router between all nodes and the rest of a simulation's world. It maps ports; nobody ever comes through them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pilotfish::engine::{Input, MappedPort, PortMapping, PortmapProtocol};

use super::{NodeId, Sim};

/// What the router does when it is asked to map a port.
#[derive(Clone, Debug, Default)]
pub enum Manners {
    /// It does not even take ports back.
    Silent,
    /// It maps none, as if it were not there.
    #[default]
    Absent,
    /// It says why not.
    Refuses(String),
    /// It maps each to a port that is so much higher, and tells its address.
    Maps(u16, IpAddr),
}

/// The router, and what each node wants of it.
#[derive(Debug, Default)]
pub struct Router {
    pub manners: Manners,
    wanted: BTreeMap<NodeId, Vec<PortMapping>>,
}

impl Router {
    /// What a node wants mapped.
    pub fn wanted_by(&self, node: NodeId) -> &[PortMapping] {
        self.wanted.get(&node).map_or(&[], Vec::as_slice)
    }
}

impl Sim {
    /// A node wants these ports mapped from now on, and no others.
    pub(super) fn map_ports(&mut self, node: NodeId, wanted: Vec<PortMapping>) {
        let before = self.router.wanted.insert(node, wanted.clone()).unwrap_or_default();
        if matches!(self.router.manners, Manners::Silent) {
            return;
        }
        for over in before.iter().filter(|mapping| !wanted.contains(mapping)) {
            self.handle(node, Input::PortUnmapped(*over));
        }
        for fresh in wanted.iter().filter(|mapping| !before.contains(mapping)) {
            self.map_port(node, *fresh);
        }
    }

    /// The router does what it does now with every port that nodes want, as it would when it is asked again.
    pub fn renew_ports(&mut self) {
        for (node, wanted) in self.router.wanted.clone() {
            wanted.into_iter().for_each(|mapping| self.map_port(node, mapping));
        }
    }

    fn map_port(&mut self, node: NodeId, mapping: PortMapping) {
        let result = match &self.router.manners {
            Manners::Silent | Manners::Absent => return,
            Manners::Refuses(why) => Err(why.clone()),
            Manners::Maps(higher, address) => {
                Ok(MappedPort { port: mapping.local.port() + higher, address: Some(*address) })
            }
        };
        for protocol in [PortmapProtocol::Tcp, PortmapProtocol::Udp] {
            self.handle(node, Input::PortMapped { mapping, protocol, result: result.clone() });
        }
    }
}
