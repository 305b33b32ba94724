//! Datagrams that a proxy passes on (SOCKS 5, RFC 1928): a connection to it, and a socket of our own, for as long as the
//! connection lasts.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::driver::Driver;
use super::proxy::{associate, framed, unframed};
use super::udp::take_batch;
use crate::engine::{Destination, Proxy};

/// Datagrams that wait while the proxy is being connected to. What comes beyond them is lost, as it might be anywhere.
const WAITING: usize = 64;
/// How long the proxy may take until it takes datagrams.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it is left alone after it failed, for the first time and at most.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest datagram, with what the proxy puts in front of it.
const LONGEST: usize = 65_536;

/// The way to a proxy. Its task ends with it.
#[derive(Debug)]
pub(super) struct Relay {
    proxy: Proxy,
    frames: Sender<Vec<u8>>,
    task: Option<AbortHandle>,
}

impl Relay {
    /// The way to a proxy, and what its task is to send.
    pub(super) fn new(proxy: Proxy) -> (Self, Receiver<Vec<u8>>) {
        let (frames, sent) = channel(WAITING);
        (Self { proxy, frames, task: None }, sent)
    }

    /// Its task.
    pub(super) fn set_task(&mut self, task: AbortHandle) {
        self.task = Some(task);
    }

    /// Whether this is the proxy.
    pub(super) fn is_by(&self, proxy: &Proxy) -> bool {
        self.proxy == *proxy
    }

    /// Sends a datagram, if there is room for it.
    pub(super) fn send(&self, to: &Destination, payload: &[u8]) {
        if let Some(frame) = framed(to, payload) {
            let _ = self.frames.try_send(frame);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Passes datagrams to a proxy and from it, and connects to it again when it goes.
pub(super) async fn run(driver: Rc<RefCell<Driver>>, proxy: Proxy, mut frames: Receiver<Vec<u8>>) {
    let (first, longest) = REST;
    let mut rest = first;
    // Nobody connects before there is something to send.
    while let Some(frame) = frames.recv().await {
        let begun = Instant::now();
        // What it failed by shows in the answers that do not come.
        let _ = pass_on(&driver, &proxy, frame, &mut frames).await;
        rest = if begun.elapsed() > longest { first } else { (rest * 2).min(longest) };
        sleep(rest).await;
        while frames.try_recv().is_ok() {}
    }
}

/// Passes datagrams on until the proxy goes.
async fn pass_on(
    driver: &Rc<RefCell<Driver>>,
    proxy: &Proxy,
    first: Vec<u8>,
    frames: &mut Receiver<Vec<u8>>,
) -> io::Result<()> {
    let (mut connection, relay) = timeout(PATIENCE, associate(proxy)).await??;
    let any = if relay.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(relay).await?;
    socket.send(&first).await?;
    let mut buffer = vec![0; LONGEST];
    let mut nothing = [0];
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                // As with every datagram: it may be lost.
                Some(frame) => drop(socket.try_send(&frame)),
                None => return Ok(()),
            },
            ready = socket.readable() => {
                ready?;
                take_batch(driver, &socket, &mut buffer, |turn, _, frame| {
                    if let Some((from, payload)) = unframed(frame) {
                        turn.engine.relayed_datagram(from, payload, Instant::now());
                    }
                });
            }
            // It has nothing more to say: this is its end.
            end = connection.read(&mut nothing) => {
                return end.and_then(|_| Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
    }
}
