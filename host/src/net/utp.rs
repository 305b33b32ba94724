//! uTP (BEP 29), on the UDP sockets that the DHT and trackers have, too.
//!
//! The protocol itself is the library `librqbit-utp`: tasks and buffers of its own, which stand outside the budget of the data
//! path and outside the simulation. What goes in and out of it is seen nowhere but here:
//!
//! | file | what |
//! |---|---|
//! | `port` | the library's way to our UDP socket |
//! | `stream` | one of its connections, as a socket that a connection's task works with |
//! | here | opening connections, and letting them in |
//!
//! What the library lacks, and what is done about it:
//!
//! * **LEDBAT.** Its congestion control is Cubic, TCP's. BEP 29 wants one that gives way as soon as packets queue on the way;
//!   this one competes with TCP as TCP does, so uTP is no gentler to others here. (The delays that LEDBAT measures are in its
//!   packets all the same, so the other side's LEDBAT works.)
//! * **It asks for a connection once.** If that packet is lost nothing follows; so it is asked several times ([`Utp::connect`]).
//! * **It refuses nobody.** Whoever asks gets a connection, with buffers, also from an address that is not its own. So a packet
//!   that asks reaches the library only if the engine would let its address in, and a connection becomes a peer only when
//!   something was said on it; so many may be silent at a time, and for so long ([`accept`]).
//! * **A peer that takes nothing** (a window of 0) keeps its connection in the library, which waits for ever to say what it has
//!   not sent yet. The engine is done with such a peer long before; but so many of them that the library's places are taken
//!   end uTP for the session, and leave TCP.
//! * **A full socket.** It remembers one of those that wait for it; ours remembers all (`port`).
//! * **A connection that nobody speaks on** is broken off after ten seconds; the engine's own, longer timeouts decide here, as
//!   they are set when the session starts.

mod port;
mod stream;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use librqbit_utp::{SocketOpts, UtpSocket, UtpSocketUdp};
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::{interval, sleep, timeout};

pub(super) use port::Inbox;
use port::{Port, wake_when_writable};
pub(super) use stream::UtpStream;

use super::driver::Driver;
use super::peer_io::Socket;
use crate::settings::Settings;

/// So often a peer is asked for a connection, if it does not answer.
const REQUESTS: usize = 3;
/// How long after the last time. TCP waits as long.
const REQUEST_AGAIN: Duration = Duration::from_secs(1);
/// So many connections of others may be silent at a time: more are not answered.
const MOST_SILENT: usize = 64;
/// So many of them from one address: it is not to take everybody's place.
const MOST_SILENT_OF_ONE: usize = 4;
/// How long a session that ends waits for the last words of its connections, at most.
const GOODBYE: Duration = Duration::from_millis(500);
/// How much longer than the engine the library waits for a sign of a peer that it owes one.
const GRACE: Duration = Duration::from_secs(10);

/// What the library calls an environment: clock and random numbers. It has one type for it, which has no public name.
type Environment = <UtpSocketUdp as HasEnvironment>::Environment;

trait HasEnvironment {
    type Environment;
}

impl<T, E> HasEnvironment for UtpSocket<T, E> {
    type Environment = E;
}

/// uTP on one UDP socket.
#[derive(Clone, Debug)]
pub(super) struct Utp(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: Arc<UtpSocket<Port, Environment>>,
    local: SocketAddr,
}

/// How many connections the library may have, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    connections: usize,
    silence: Duration,
}

impl Limits {
    /// By the settings at the start. Room for all connections that a session may have, for as many that are about to end, and for silent ones.
    pub(super) fn of(settings: &Settings) -> Self {
        let most = settings.connections_limit.saturating_add(settings.connections_slack) as usize;
        Self { connections: most * 2 + MOST_SILENT, silence: settings.peer_timeout.duration() + GRACE }
    }
}

impl Utp {
    /// Speaks uTP on `socket`, which is bound to `local`. What comes for it is put into the inbox.
    fn new(
        socket: &Arc<UdpSocket>,
        local: SocketAddr,
        limits: Limits,
    ) -> io::Result<(Self, Inbox, Arc<port::Full>)> {
        let (port, inbox, full) = Port::new(socket.clone(), local);
        let opts = SocketOpts {
            // Messages are put together before they get here, and none of them waits.
            disable_nagle: true,
            max_live_vsocks: NonZeroUsize::new(limits.connections),
            remote_inactivity_timeout: Some(limits.silence),
            ..SocketOpts::default()
        };
        let socket =
            UtpSocket::new_with_opts(port, Environment::default(), opts).map_err(io::Error::other)?;
        Ok((Self(Rc::new(Shared { socket, local })), inbox, full))
    }

    /// The next connection that somebody asks for, whether or not anything is ever said on it.
    async fn accept(&self) -> io::Result<UtpStream> {
        let stream = self.0.socket.accept().await.map_err(io::Error::other)?;
        Ok(UtpStream::new(stream, self.0.local))
    }

    /// Connections that are not over yet: each keeps the library's socket. So do the library's own task, and we.
    pub(super) fn connections(&self) -> usize {
        Arc::strong_count(&self.0.socket).saturating_sub(2)
    }

    /// Connects to a peer; it has been asked several times if it does not answer. It never fails because nobody answers: for
    /// how long that may be is the engine's business.
    pub(super) async fn connect(&self, to: SocketAddr) -> io::Result<UtpStream> {
        let mut requests: Vec<Pin<Box<dyn Future<Output = _> + '_>>> = Vec::new();
        let mut sent = 0;
        let mut again = interval(REQUEST_AGAIN);
        loop {
            let answer = poll_fn(|context| {
                let answered =
                    |request: &mut Pin<Box<dyn Future<Output = _> + '_>>| request.as_mut().poll(context);
                let mut answers = requests.iter_mut().map(answered).enumerate();
                let answer = answers.find_map(|(number, answer)| match answer {
                    Poll::Ready(answer) => Some((number, answer)),
                    Poll::Pending => None,
                });
                answer.map_or(Poll::Pending, Poll::Ready)
            });
            tokio::select! {
                (number, answer) = answer => match answer {
                    Ok(stream) => return Ok(UtpStream::new(stream, self.0.local)),
                    // The library asks one peer a few times at once, and no more: another torrent may do so, too.
                    Err(error) if requests.len() == 1 && sent == REQUESTS => return Err(io::Error::other(error)),
                    Err(_) => drop(requests.swap_remove(number)),
                },
                _ = again.tick(), if sent < REQUESTS => {
                    sent += 1;
                    requests.push(Box::pin(self.0.socket.connect(to)));
                }
            }
        }
    }
}

/// Speaks uTP on a socket, if that is possible, and lets in whoever connects.
pub(super) fn open(
    driver: &Rc<RefCell<Driver>>,
    socket: &Arc<UdpSocket>,
    local: SocketAddr,
    limits: Limits,
) -> io::Result<(Utp, Inbox)> {
    let (utp, inbox, full) = Utp::new(socket, local, limits)?;
    let turn = driver.borrow();
    turn.spawn(wake_when_writable(socket.clone(), full));
    turn.spawn(accept(driver.clone(), utp.clone()));
    Ok((utp, inbox))
}

/// Waits, but not for long, until the other ends know of all connections that were closed. The library tells them once they have
/// confirmed what was said last.
pub(super) async fn say_goodbye(driver: &RefCell<Driver>) {
    let ends = driver.borrow().udp.all_utp();
    let over = async {
        while ends.iter().any(|utp| utp.connections() > 0) {
            sleep(GOODBYE / 100).await;
        }
    };
    // Whoever is silent finds out by itself.
    let _ = timeout(GOODBYE, over).await;
}

/// Lets connections in for as long as the session lasts. As long as as many as may be are silent, nobody is answered.
async fn accept(driver: Rc<RefCell<Driver>>, utp: Utp) {
    let places = Arc::new(Semaphore::new(MOST_SILENT));
    let silent: Rc<RefCell<Vec<IpAddr>>> = Rc::default();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok(stream) = utp.accept().await else { return };
        let ip = stream.remote().ip();
        if silent.borrow().iter().filter(|other| **other == ip).count() >= MOST_SILENT_OF_ONE {
            continue;
        }
        silent.borrow_mut().push(ip);
        let greeting = listen_to(driver.clone(), stream);
        let silent = silent.clone();
        driver.borrow().spawn(async move {
            greeting.await;
            let mut silent = silent.borrow_mut();
            if let Some(at) = silent.iter().position(|other| *other == ip) {
                silent.swap_remove(at);
            }
            drop(place);
        });
    }
}

/// Makes a peer of a connection once something was said on it.
async fn listen_to(driver: Rc<RefCell<Driver>>, stream: UtpStream) {
    let patience = driver.borrow().engine.settings().handshake_timeout.duration();
    if let Ok(Ok(true)) = timeout(patience, stream.speaks()).await {
        let remote = stream.remote();
        driver.borrow_mut().turn(|turn| turn.accepted(Socket::utp(stream), remote));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
