//! The default gateway, asked by PCP (RFC 6887) or, if it does not answer that, by NAT-PMP (RFC 6886).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{
    GATEWAY_PORT, InternetProtocol, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp, pcp,
};
use rand::TryRng as _;
use rand::rngs::SysRng;

use super::gateway::NoGateway;
use super::{Lease, Router, Surroundings, Trouble, address_towards};
use crate::engine::{MappedPort, PortMapping, PortmapProtocol};

/// How long is waited for an answer: two seconds, the question being repeated ever more slowly (RFC 6886 has 64).
const TIMEOUTS: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 3,
    max_retry_timeout: Some(Duration::from_secs(1)),
};

/// The gateway, as far as it is known.
pub(super) struct NatPmp {
    mapping: PortMapping,
    gateway: fn() -> Result<Ipv4Addr, NoGateway>,
    /// By which PCP knows us again, for TCP and UDP.
    nonces: [pcp::Nonce; 2],
    /// What it has given us, for TCP and UDP.
    given: [Option<Given>; 2],
}

/// A port that was mapped.
#[derive(Clone, Copy)]
struct Given {
    gateway: Ipv4Addr,
    port: NonZeroU16,
    how: PortMappingType,
}

impl NatPmp {
    pub(super) fn new(mapping: PortMapping, surroundings: &Surroundings) -> Self {
        let number = || SysRng.try_next_u32().unwrap_or_default();
        let nonces = std::array::from_fn(|_| std::array::from_fn(|_| number()));
        Self { mapping, gateway: surroundings.gateway, nonces, given: [None; 2] }
    }

    /// The port as the protocols know it. None has the number 0: nobody listens there.
    fn port(&self) -> Result<NonZeroU16, Trouble> {
        NonZeroU16::new(self.mapping.local.port()).ok_or_else(|| Trouble::Refused("port 0".to_owned()))
    }

    async fn ask(&self, protocol: PortmapProtocol) -> Result<crab_nat::PortMapping, Trouble> {
        let gateway = (self.gateway)().map_err(|error| Trouble::Nobody(error.to_string()))?;
        let client = address_towards(*self.mapping.local.ip(), SocketAddr::new(gateway.into(), GATEWAY_PORT));
        let client = client.await.map_err(|error| Trouble::Nobody(error.to_string()))?;
        let (port, kind, at) = (self.port()?, kind(protocol), protocol as usize);
        let options = PortMappingOptions {
            // The same as before, or the same as ours.
            external_port: Some(self.given[at].map_or(port, |given| given.port)),
            lifetime_seconds: Some(u32::try_from(self.mapping.lease.as_secs()).unwrap_or(u32::MAX)),
            timeout_config: Some(TIMEOUTS),
        };
        let base = pcp::BaseMapRequest::new(gateway.into(), client.into(), kind, port);
        match pcp::port_mapping(base, Some(self.nonces[at]), None, options).await {
            Ok(mapped) => return Ok(mapped),
            Err(pcp::Failure::UnsupportedVersion(_) | pcp::Failure::Timeout) => {}
            Err(error @ pcp::Failure::Socket(_)) => return Err(Trouble::Nobody(error.to_string())),
            Err(error) => return Err(Trouble::Refused(error.to_string())),
        }
        natpmp::port_mapping(gateway.into(), kind, port, options).await.map_err(|error| match error {
            natpmp::Failure::Socket(_) | natpmp::Failure::Timeout => Trouble::Nobody(error.to_string()),
            _ => Trouble::Refused(error.to_string()),
        })
    }
}

impl Router for NatPmp {
    async fn map(&mut self, protocol: PortmapProtocol) -> Result<Lease, Trouble> {
        let mapped = self.ask(protocol).await?;
        let (how, port) = (mapped.mapping_type(), mapped.external_port());
        let IpAddr::V4(gateway) = mapped.gateway().into() else {
            return Err(Trouble::Refused("not a gateway of IPv4".to_owned()));
        };
        if mapped.lifetime() == 0 {
            return Err(Trouble::Refused("the lease is over as it begins".to_owned()));
        }
        self.given[protocol as usize] = Some(Given { gateway, port, how });
        let address = match how {
            PortMappingType::Pcp { external_ip, .. } => Some(external_ip),
            PortMappingType::NatPmp => {
                let told = natpmp::external_address(gateway.into(), Some(TIMEOUTS)).await;
                told.ok().map(IpAddr::V4)
            }
        };
        let lasts = Some(Duration::from_secs(mapped.lifetime().into()));
        Ok(Lease { mapped: MappedPort { port: port.get(), address }, lasts })
    }

    async fn unmap(&mut self, protocol: PortmapProtocol) {
        let (Some(given), Ok(internal_port)) = (self.given[protocol as usize].take(), self.port()) else {
            return;
        };
        let (gateway, protocol) = (given.gateway.into(), kind(protocol));
        // A gateway that refuses keeps the port until the lease is over.
        match given.how {
            PortMappingType::Pcp { client, nonce, .. } => {
                let range = pcp::DropMappingRange::Single { protocol, internal_port };
                let _ = pcp::try_drop_mapping(gateway, client, nonce, range, Some(TIMEOUTS)).await;
            }
            PortMappingType::NatPmp => {
                let _ =
                    natpmp::try_drop_mapping(gateway, protocol, Some(internal_port), Some(TIMEOUTS)).await;
            }
        }
    }
}

fn kind(protocol: PortmapProtocol) -> InternetProtocol {
    match protocol {
        PortmapProtocol::Tcp => InternetProtocol::Tcp,
        PortmapProtocol::Udp => InternetProtocol::Udp,
    }
}
