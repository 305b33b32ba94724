//! The UDP sockets: one beside each listener, on the same port.
//!
//! The DHT, UDP trackers and local discovery share them. A datagram that a socket does not take at once is lost, as it might
//! be anywhere on its way.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::driver::Driver;
use crate::engine::Input;

/// Datagrams that are taken from a socket in one turn.
const BATCH: usize = 64;
/// The longest datagram.
const LONGEST: usize = 65_536;

/// The sockets, and where each of them is bound.
#[derive(Debug, Default)]
pub(super) struct UdpSockets(Vec<(SocketAddr, Rc<UdpSocket>)>);

impl UdpSockets {
    /// Sends from the socket that has the best chance of reaching `to`.
    pub(super) fn send(&self, to: SocketAddr, payload: &[u8]) {
        let fitting = self.0.iter().filter(|(local, _)| local.is_ipv4() == to.is_ipv4());
        // A socket on a loopback address reaches only those, and one on another address hears nothing from them.
        let best = fitting.max_by_key(|(local, _)| {
            (local.ip().is_unspecified(), local.ip().is_loopback() == to.ip().is_loopback())
        });
        if let Some((_, socket)) = best {
            // Whoever sent it expects no more of UDP.
            let _ = socket.try_send_to(payload, to);
        }
    }
}

/// Opens a socket on an address that a listener has, and has its datagrams delivered.
pub(super) fn open(driver: &Rc<RefCell<Driver>>, local: SocketAddr) {
    match bind(local).map(Rc::new) {
        Ok(socket) => {
            let mut driver_ref = driver.borrow_mut();
            driver_ref.udp.0.push((local, socket.clone()));
            driver_ref.spawn(receive(driver.clone(), socket));
        }
        Err(error) => {
            let address = format!("{local} (UDP)");
            driver.borrow_mut().turn(|turn| turn.handle(Input::ListenFailed { address, error }));
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Delivers datagrams for as long as the session lasts.
async fn receive(driver: Rc<RefCell<Driver>>, socket: Rc<UdpSocket>) {
    let mut buffer = vec![0; LONGEST];
    // An error here is the end of the runtime.
    while socket.readable().await.is_ok() {
        driver.borrow_mut().turn(|turn| {
            for _ in 0..BATCH {
                match socket.try_recv_from(&mut buffer) {
                    Ok((len, from)) => turn.engine.datagram(from, &buffer[..len], Instant::now()),
                    // What a datagram of ours met: an unreachable port, for example. The next one may be fine.
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
        });
        tokio::task::yield_now().await;
    }
}
