//! Ports that routers let through to us: UPnP by `igd-next`, PCP and NAT-PMP by `crab_nat`.
//!
//! The engine says which are wanted. For each there is a task, which asks a [`Router`], asks again before the lease is over or,
//! if that failed, later each time; and which takes back what it was given once that is not wanted any more. Whatever a router
//! says or does not say ends in an answer for the engine.
//!
//! | file | what |
//! |---|---|
//! | `upnp`, `nat_pmp` | one kind of router each |
//! | `gateway` | which router it is that speaks PCP or NAT-PMP |

mod gateway;
mod nat_pmp;
mod upnp;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use self::gateway::NoGateway;
use super::driver::Driver;
use crate::engine::{Input, MappedPort, PortMapping, PortmapProtocol, PortmapTransport};

/// What is mapped for each port.
const PROTOCOLS: [PortmapProtocol; 2] = [PortmapProtocol::Tcp, PortmapProtocol::Udp];
/// How long a router may take for one answer, whatever it sends meanwhile.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long an answer is waited for at the end, so that nothing is asked for any more when it is taken back.
const GRACE: Duration = Duration::from_millis(500);
/// How long it may take to take a port back.
const GOODBYE: Duration = Duration::from_secs(2);
/// What routers show their owners beside the port.
const DESCRIPTION: &str = concat!("Pilotfish/", env!("CARGO_PKG_VERSION"));

/// The ports that are wanted, and the tasks that see to them.
#[derive(Debug, Default)]
pub(super) struct PortMappings {
    pub(super) surroundings: Surroundings,
    wanted: Vec<PortMapping>,
    /// How each task is told to end.
    tasks: HashMap<PortMapping, Rc<Notify>>,
}

impl PortMappings {
    /// These are wanted from now on, and no others. Those that need a task.
    pub(super) fn want(&mut self, wanted: Vec<PortMapping>) -> Vec<(PortMapping, Rc<Notify>)> {
        self.wanted = wanted;
        for (_, end) in self.tasks.iter().filter(|(mapping, _)| !self.wanted.contains(mapping)) {
            end.notify_one();
        }
        let new: Vec<PortMapping> =
            self.wanted.iter().filter(|mapping| !self.tasks.contains_key(mapping)).copied().collect();
        new.into_iter().map(|mapping| (mapping, self.tasks.entry(mapping).or_default().clone())).collect()
    }

    /// A task is over. Whether another one is needed: its port was wanted again meanwhile.
    fn over(&mut self, mapping: &PortMapping) -> bool {
        self.tasks.remove(mapping);
        self.wanted.contains(mapping)
    }
}

/// Whom there is to ask, and how often.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// Where UPnP routers are looked for.
    pub(super) ssdp: SocketAddr,
    /// Addresses that are routers' although others answered for them, or although only this machine has them.
    pub(super) trusted: &'static [IpAddr],
    /// For how long they are looked for.
    pub(super) search: Duration,
    /// Who speaks PCP or NAT-PMP.
    pub(super) gateway: fn() -> Result<Ipv4Addr, NoGateway>,
    /// How long after a failure a router is asked again, for the first time; then twice as long, at most so long.
    pub(super) retry: (Duration, Duration),
    /// How long it is left alone after a success at least, however short the lease.
    pub(super) rest: Duration,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            ssdp: SocketAddr::new(Ipv4Addr::new(239, 255, 255, 250).into(), 1_900),
            trusted: &[],
            search: Duration::from_secs(5),
            gateway: gateway::default_gateway,
            retry: (Duration::from_secs(30), Duration::from_secs(1_800)),
            rest: Duration::from_secs(10),
        }
    }
}

/// What a router gave us.
#[derive(Clone, Copy, Debug)]
struct Lease {
    mapped: MappedPort,
    /// For how long; `None` for ever.
    lasts: Option<Duration>,
}

/// Why a router gave us nothing.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// Nobody answers, or nobody is there: there is no use in asking for more.
    #[error("{0}")]
    Nobody(String),
    /// It has an answer, which is no, or makes no sense.
    #[error("{0}")]
    Refused(String),
}

/// Somebody who may map a port.
trait Router {
    /// Maps the port for a protocol, or does so for longer.
    async fn map(&mut self, protocol: PortmapProtocol) -> Result<Lease, Trouble>;
    /// Takes back what it has mapped, if anything.
    async fn unmap(&mut self, protocol: PortmapProtocol);
}

/// Sees to a port until that is to end.
pub(super) async fn run(driver: Rc<RefCell<Driver>>, mapping: PortMapping, end: Rc<Notify>) {
    let surroundings = driver.borrow().ports.surroundings.clone();
    let tell = |protocol, result| {
        driver.borrow_mut().turn(|turn| turn.handle(Input::PortMapped { mapping, protocol, result }));
    };
    match mapping.transport {
        PortmapTransport::Upnp => {
            keep(upnp::Upnp::new(mapping, &surroundings), &surroundings, &end, tell).await
        }
        PortmapTransport::NatPmp => {
            keep(nat_pmp::NatPmp::new(mapping, &surroundings), &surroundings, &end, tell).await;
        }
    }
    driver.borrow_mut().turn(|turn| match turn.ports.over(&mapping) {
        true => turn.map_ports(turn.ports.wanted.clone()),
        false => turn.handle(Input::PortUnmapped(mapping)),
    });
}

/// Has a router map a port, again and again, until that is to end.
async fn keep<R: Router>(
    mut router: R,
    surroundings: &Surroundings,
    end: &Notify,
    mut tell: impl FnMut(PortmapProtocol, Result<MappedPort, String>),
) {
    let (first, longest) = surroundings.retry;
    let (mut retry, mut grace) = (first, Duration::ZERO);
    loop {
        let mut asking = pin!(ask(&mut router, &mut tell));
        let Round { failed, renewal } = tokio::select! {
            () = end.notified() => {
                // What a router does behind our back when it has been asked to take everything back stays.
                let _ = timeout(grace, asking).await;
                break;
            }
            round = &mut asking => round,
        };
        // One that gave us something is worth waiting for.
        grace = if renewal.is_some() { GRACE } else { Duration::ZERO };
        let renewal = renewal.map(|renewal| renewal.max(surroundings.rest));
        let pause = match failed {
            true => Some(renewal.map_or(retry, |renewal| renewal.min(retry))),
            false => renewal,
        };
        retry = if failed { (retry * 2).min(longest) } else { first };
        tokio::select! {
            () = end.notified() => break,
            () = sleep(pause.unwrap_or(longest)) => {}
        }
    }
    for protocol in PROTOCOLS {
        // What is not taken back ends with its lease.
        let _ = timeout(GOODBYE, router.unmap(protocol)).await;
    }
}

/// What came of asking for each protocol.
struct Round {
    failed: bool,
    /// After so long it is to be asked again for what it gave.
    renewal: Option<Duration>,
}

async fn ask<R: Router>(
    router: &mut R,
    tell: &mut impl FnMut(PortmapProtocol, Result<MappedPort, String>),
) -> Round {
    let mut round = Round { failed: false, renewal: None };
    let mut nobody = None;
    for protocol in PROTOCOLS {
        let answer = match nobody.take() {
            Some(nobody) => Err(Trouble::Nobody(nobody)),
            None => timeout(PATIENCE, router.map(protocol))
                .await
                .unwrap_or_else(|_| Err(Trouble::Nobody("the router does not come to an end".to_owned()))),
        };
        match &answer {
            Ok(lease) => {
                let half = lease.lasts.map(|lasts| lasts / 2);
                round.renewal = round.renewal.into_iter().chain(half).min();
            }
            Err(trouble) => {
                round.failed = true;
                if let Trouble::Nobody(why) = trouble {
                    nobody = Some(why.clone());
                }
            }
        }
        tell(protocol, answer.map(|lease| lease.mapped).map_err(|trouble| trouble.to_string()));
    }
    round
}

/// The address of ours from which a router is reached.
async fn address_towards(local: Ipv4Addr, router: SocketAddr) -> io::Result<Ipv4Addr> {
    if !local.is_unspecified() {
        return Ok(local);
    }
    // Nothing is sent: the system only looks up its way.
    let socket = UdpSocket::bind(SocketAddrV4::new(local, 0)).await?;
    socket.connect(router).await?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}
