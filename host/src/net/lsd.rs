//! The sockets of local discovery: one in the multicast group of each address that is listened on.
//!
//! They have the group's port, which all programs on this machine share.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::driver::Driver;
use super::udp;
use crate::wire::lsd::{GROUP_V4, GROUP_V6};

/// The longest datagram that is looked at.
const LONGEST: usize = 4_096;

/// The sockets, by the address family of each.
#[derive(Debug, Default)]
pub(super) struct LsdSockets(Vec<(bool, Arc<UdpSocket>)>);

impl LsdSockets {
    /// Sends to everybody on each network.
    pub(super) fn send(&self, is_v4: bool, payload: &[u8]) {
        let group = if is_v4 { SocketAddr::V4(GROUP_V4) } else { SocketAddr::V6(GROUP_V6) };
        for (_, socket) in self.0.iter().filter(|(family, _)| *family == is_v4) {
            // As with every datagram: it may be lost.
            let _ = socket.try_send_to(payload, group);
        }
    }
}

/// Joins the group on the network of an address that is listened on. Where that is not possible, there is no local discovery
/// on that network; nor on this machine alone, whose programs are one user's.
pub(super) fn open(driver: &Rc<RefCell<Driver>>, local: IpAddr) {
    if local.is_loopback() {
        return;
    }
    if let Ok(socket) = join(local).map(Arc::new) {
        let mut driver_ref = driver.borrow_mut();
        driver_ref.lsd.0.push((local.is_ipv4(), socket.clone()));
        let deliver = |turn: &mut Driver, from, datagram: &_| {
            turn.engine.local_announcement(from, datagram, Instant::now());
        };
        driver_ref.spawn(udp::receive(driver.clone(), socket, LONGEST, deliver));
    }
}

fn join(local: IpAddr) -> io::Result<UdpSocket> {
    let (domain, any) = match local {
        IpAddr::V4(_) => (Domain::IPV4, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), GROUP_V4.port())),
        IpAddr::V6(_) => {
            (Domain::IPV6, SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), GROUP_V6.port()))
        }
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    match local {
        IpAddr::V4(ip) => {
            socket.bind(&any.into())?;
            socket.join_multicast_v4(GROUP_V4.ip(), &ip)?;
            socket.set_multicast_loop_v4(true)?;
            if !ip.is_unspecified() {
                socket.set_multicast_if_v4(&ip)?;
            }
        }
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.bind(&any.into())?;
            // The system chooses the interface.
            socket.join_multicast_v6(GROUP_V6.ip(), 0)?;
            socket.set_multicast_loop_v6(true)?;
        }
    }
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_sent_to_the_group_reaches_every_program_on_the_machine() {
        let [one, other] = [0; 2].map(|_| Arc::new(join(Ipv4Addr::LOCALHOST.into()).unwrap()));
        // Other tests may speak in the group, too.
        let payload = format!("a datagram of process {}", std::process::id());
        one.writable().await.unwrap();
        LsdSockets(vec![(true, one)]).send(true, payload.as_bytes());
        let mut buffer = vec![0; LONGEST];
        let heard = async {
            loop {
                let (len, from) = other.recv_from(&mut buffer).await.unwrap();
                if &buffer[..len] == payload.as_bytes() {
                    return from;
                }
            }
        };
        let from = tokio::time::timeout(Duration::from_secs(20), heard).await.unwrap();
        assert_eq!(from.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    }
}
