//! A router that is found by its answer to a search, and asked by UPnP (WANIPConnection, WANPPPConnection).

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, PortMappingProtocol, RequestError, SearchOptions};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;

use super::{DESCRIPTION, Lease, Router, Surroundings, Trouble, address_towards};
use crate::engine::{MappedPort, PortMapping, PortmapProtocol};

/// Where a free port outside is looked for if somebody else has ours, and how often (as libtorrent does).
const OTHERS: std::ops::RangeInclusive<u16> = 40_000..=49_999;
const ATTEMPTS: usize = 5;

/// The router, as far as it is known.
pub(super) struct Upnp {
    mapping: PortMapping,
    surroundings: Surroundings,
    found: Option<Found>,
    /// It did not answer, and may have moved. What it gave is taken back from where it was.
    lost: bool,
    /// The ports outside that were asked for, for TCP and UDP.
    asked: [Option<u16>; 2],
    /// It maps ports for ever or not at all.
    permanent: bool,
}

#[derive(Clone)]
struct Found {
    router: Gateway<Tokio>,
    /// Where we listen, as the router sees it.
    local: SocketAddr,
}

impl Upnp {
    pub(super) fn new(mapping: PortMapping, surroundings: &Surroundings) -> Self {
        let surroundings = surroundings.clone();
        Self { mapping, surroundings, found: None, lost: false, asked: [None; 2], permanent: false }
    }

    async fn find(&self) -> Result<Found, Trouble> {
        let mut options = SearchOptions::default();
        options.bind_addr = SocketAddrV4::new(*self.mapping.local.ip(), 0).into();
        options.broadcast_address = self.surroundings.ssdp;
        options.timeout = Some(self.surroundings.search);
        options.allowed_gateway_ips = self.surroundings.trusted.to_vec();
        let nobody = |error: &dyn std::fmt::Display| Trouble::Nobody(error.to_string());
        let found = aside(search_gateway(options)).await.map_err(|error| nobody(&error))?;
        let router = found.map_err(|error| nobody(&error))?;
        let local =
            address_towards(*self.mapping.local.ip(), router.addr).await.map_err(|error| nobody(&error))?;
        Ok(Found { router, local: SocketAddrV4::new(local, self.mapping.local.port()).into() })
    }

    /// Asks for a port outside; for which one, if it is not free.
    async fn add(&mut self, found: &Found, protocol: PortmapProtocol) -> Result<u16, Trouble> {
        let at = protocol as usize;
        let mut port = self.asked[at].unwrap_or(self.mapping.local.port());
        let mut attempts = 1;
        loop {
            self.asked[at] = Some(port);
            let lease = if self.permanent { 0 } else { self.mapping.lease.as_secs() };
            let lease = u32::try_from(lease).unwrap_or(u32::MAX);
            let Found { router, local } = found.clone();
            let request =
                async move { router.add_port(kind(protocol), port, local, lease, DESCRIPTION).await };
            match aside(request).await.map_err(|error| Trouble::Nobody(error.to_string()))? {
                Ok(()) => return Ok(port),
                Err(AddPortError::OnlyPermanentLeasesSupported) if !self.permanent => self.permanent = true,
                Err(AddPortError::PortInUse) if attempts < ATTEMPTS => {
                    attempts += 1;
                    port = another();
                }
                Err(error) => {
                    // It is not ours, whatever we wanted.
                    self.asked[at] = None;
                    return Err(trouble(error));
                }
            }
        }
    }
}

impl Router for Upnp {
    async fn map(&mut self, protocol: PortmapProtocol) -> Result<Lease, Trouble> {
        let found = match self.found.clone() {
            Some(found) if !self.lost => found,
            _ => self.find().await?,
        };
        // Also if this is ended before the router answers: what it gave is to be taken back.
        (self.found, self.lost) = (Some(found.clone()), false);
        let port = match self.add(&found, protocol).await {
            Ok(port) => port,
            Err(error) => {
                // One that does not answer may have moved.
                self.lost = matches!(error, Trouble::Nobody(_));
                return Err(error);
            }
        };
        let router = found.router;
        let address = aside(async move { router.get_external_ip().await.ok() }).await.ok().flatten();
        let lasts = (!self.permanent).then_some(self.mapping.lease);
        Ok(Lease { mapped: MappedPort { port, address }, lasts })
    }

    async fn unmap(&mut self, protocol: PortmapProtocol) {
        let Some(port) = self.asked[protocol as usize].take() else { return };
        if let Some(Found { router, .. }) = self.found.clone() {
            // A router that refuses keeps the port until the lease is over.
            let _ = aside(async move { router.remove_port(kind(protocol), port).await }).await;
        }
    }
}

/// Has the library do something on a thread of its own: it parses what strangers on the network send, however long that takes.
async fn aside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    let run = move || Ok(Builder::new_current_thread().enable_all().build()?.block_on(work));
    spawn_blocking(run).await.map_err(io::Error::other)?
}

/// Some port outside.
fn another() -> u16 {
    let number = SysRng.try_next_u32().unwrap_or_default() as usize;
    OTHERS.clone().nth(number % OTHERS.len()).unwrap_or(*OTHERS.start())
}

fn kind(protocol: PortmapProtocol) -> PortMappingProtocol {
    match protocol {
        PortmapProtocol::Tcp => PortMappingProtocol::TCP,
        PortmapProtocol::Udp => PortMappingProtocol::UDP,
    }
}

fn trouble(error: AddPortError) -> Trouble {
    use RequestError::{HyperClientError, HyperError, IoError};
    match &error {
        AddPortError::RequestError(IoError(_) | HyperError(_) | HyperClientError(_)) => {
            Trouble::Nobody(error.to_string())
        }
        _ => Trouble::Refused(error.to_string()),
    }
}
