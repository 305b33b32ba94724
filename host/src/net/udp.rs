//! The UDP sockets: one beside each listener, on the same port.
//!
//! The DHT, UDP trackers and uTP share them; the datagrams of uTP go to it from here, and all others to the engine. A datagram
//! that a socket does not take at once is lost, as it might be anywhere on its way.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::driver::Driver;
use super::utp::{self, Inbox, Limits, Utp};
use crate::engine::Input;
use crate::peer::Transport;
use crate::wire;

/// Datagrams that are taken from a socket in one turn.
const BATCH: usize = 64;
/// The longest datagram.
const LONGEST: usize = 65_536;
/// What the system is asked to keep of datagrams that nobody has taken yet, in bytes: as much as a uTP connection lets the other
/// side send at once. It may keep less.
const KEPT: usize = 1 << 20;

/// The sockets.
#[derive(Debug, Default)]
pub(super) struct UdpSockets(Vec<Bound>);

#[derive(Debug)]
struct Bound {
    local: SocketAddr,
    socket: Arc<UdpSocket>,
    utp: Utp,
}

impl UdpSockets {
    /// Sends from the socket that has the best chance of reaching `to`.
    pub(super) fn send(&self, to: SocketAddr, payload: &[u8]) {
        if let Some(bound) = self.towards(to) {
            // Whoever sent it expects no more of UDP.
            let _ = bound.socket.try_send_to(payload, to);
        }
    }

    /// uTP on the socket that has the best chance of reaching `to`.
    pub(super) fn utp(&self, to: SocketAddr) -> Option<Utp> {
        self.towards(to).map(|bound| bound.utp.clone())
    }

    /// uTP on each of the sockets.
    pub(super) fn all_utp(&self) -> Vec<Utp> {
        self.0.iter().map(|bound| bound.utp.clone()).collect()
    }

    fn towards(&self, to: SocketAddr) -> Option<&Bound> {
        let fitting = self.0.iter().filter(|bound| bound.local.is_ipv4() == to.is_ipv4());
        // A socket on a loopback address reaches only those, and one on another address hears nothing from them.
        fitting.max_by_key(|Bound { local, .. }| {
            (local.ip().is_unspecified(), local.ip().is_loopback() == to.ip().is_loopback())
        })
    }
}

/// Opens a socket on an address that a listener has, and has its datagrams delivered.
pub(super) fn open(driver: &Rc<RefCell<Driver>>, local: SocketAddr) {
    let opened = bind(local).map(Arc::new).and_then(|socket| {
        let limits = Limits::of(driver.borrow().engine.settings());
        let (utp, inbox) = utp::open(driver, &socket, local, limits)?;
        Ok((Bound { local, socket, utp }, inbox))
    });
    match opened {
        Ok((bound, inbox)) => {
            let mut driver_ref = driver.borrow_mut();
            let deliver =
                move |turn: &mut Driver, from, datagram: &_| turn.deliver_datagram(&inbox, from, datagram);
            driver_ref.spawn(receive(driver.clone(), bound.socket.clone(), LONGEST, deliver));
            driver_ref.udp.0.push(bound);
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
    if socket.recv_buffer_size()? < KEPT {
        // It goes on with what it has.
        let _ = socket.set_recv_buffer_size(KEPT);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Delivers the datagrams of a socket, of at most so many bytes, for as long as the session lasts.
pub(super) async fn receive(
    driver: Rc<RefCell<Driver>>,
    socket: Arc<UdpSocket>,
    longest: usize,
    mut deliver: impl FnMut(&mut Driver, SocketAddr, &[u8]),
) {
    let mut buffer = vec![0; longest];
    // An error here is the end of the runtime.
    while socket.readable().await.is_ok() {
        take_batch(&driver, &socket, &mut buffer, &mut deliver);
        tokio::task::yield_now().await;
    }
}

/// Delivers what has come to a socket, in one turn; not more than others can wait for.
pub(super) fn take_batch(
    driver: &RefCell<Driver>,
    socket: &UdpSocket,
    buffer: &mut [u8],
    mut deliver: impl FnMut(&mut Driver, SocketAddr, &[u8]),
) {
    driver.borrow_mut().turn(|turn| {
        for _ in 0..BATCH {
            match socket.try_recv_from(buffer) {
                Ok((len, from)) => deliver(turn, from, &buffer[..len]),
                // What a datagram of ours met: an unreachable port, for example. The next one may be fine.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    });
}

impl Driver {
    /// Gives a datagram to whom it belongs. uTP would let in whoever asks: it hears only of those who may come in.
    fn deliver_datagram(&mut self, inbox: &Inbox, from: SocketAddr, datagram: &[u8]) {
        let now = Instant::now();
        match wire::Protocol::of(datagram) {
            Some(wire::Protocol::Utp { opens }) => {
                if !opens || self.engine.welcomes(from, Transport::Utp, now) {
                    inbox.deliver(from, datagram);
                }
            }
            _ => self.engine.datagram(from, datagram, now),
        }
    }
}
