//! Listening for peers.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::driver::Driver;
use super::peer_io;
use super::{lsd, udp};
use crate::engine::Input;

/// Connections that the system keeps for us until we accept them; it may allow fewer.
const BACKLOG: i32 = 1024;
/// How long accepting rests after it failed, for the first time and at most.
const REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Listens on each address, and tells the engine where that succeeded, with which port, and where not.
pub(super) fn listen(driver: &Rc<RefCell<Driver>>, addresses: &[SocketAddr]) {
    for &address in addresses {
        let bound = bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let local = driver.borrow_mut().turn(|turn| match bound {
            Ok((local, listener)) => {
                turn.handle(Input::Listening(local));
                turn.spawn(accept(driver.clone(), listener));
                Some(local)
            }
            Err(error) => {
                turn.handle(Input::ListenFailed { address: address.to_string(), error });
                None
            }
        });
        if let Some(local) = local {
            udp::open(driver, local);
            lsd::open(driver, local.ip());
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own, on every system.
        socket.set_only_v6(true)?;
    }
    // Elsewhere this would let others take the port away from us.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections for as long as the session lasts.
///
/// Accepting fails while the process has no file descriptors left. The connection stays in the backlog then, and trying
/// at once would fail at once: it rests for a while, longer each time.
async fn accept(driver: Rc<RefCell<Driver>>, listener: TcpListener) {
    let (first, longest) = REST;
    let mut rest = first;
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                rest = first;
                let socket = peer_io::Socket::new(stream);
                driver.borrow_mut().turn(|turn| turn.accepted(socket, remote));
            }
            Err(error) if is_the_peers(&error) => {}
            Err(_) => {
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(longest);
            }
        }
    }
}

/// Whether only the one connection that was to be accepted is at fault: it is gone already.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
