//! The library's way to our UDP socket.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use librqbit_dualstack_sockets::PollSendToVectored;
use librqbit_utp::Transport;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};

/// Packets that wait for the library. It takes them all whenever it has its turn.
const INBOX: usize = 512;
/// The longest packet that the library is given: what goes over a link in one piece. It keeps packets that came out of order by
/// number, so that longer ones would let a stranger fill 32 MB.
const LONGEST: usize = 1_500;

/// A packet, and who sent it.
type Packet = (SocketAddr, Box<[u8]>);

/// Where packets go that came for the library.
#[derive(Clone, Debug)]
pub(in crate::net) struct Inbox(mpsc::Sender<Packet>);

impl Inbox {
    /// Delivers a packet. It is lost if too many wait, as it might be on its way.
    pub(in crate::net) fn deliver(&self, from: SocketAddr, packet: &[u8]) {
        if packet.len() <= LONGEST {
            // An error is exactly that.
            let _ = self.0.try_send((from, packet.into()));
        }
    }
}

/// Our UDP socket, as the library sees it.
#[derive(Debug)]
pub(super) struct Port {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    packets: Mutex<mpsc::Receiver<Packet>>,
    full: Arc<Full>,
}

/// Who waits for room in the socket. Tokio's own methods remember one of them.
#[derive(Debug, Default)]
pub(super) struct Full {
    waiting: Mutex<Vec<Waker>>,
    some: Notify,
}

impl Port {
    pub(super) fn new(socket: Arc<UdpSocket>, local: SocketAddr) -> (Self, Inbox, Arc<Full>) {
        let (sender, packets) = mpsc::channel(INBOX);
        let full = Arc::new(Full::default());
        let port = Self { socket, local, packets: Mutex::new(packets), full: full.clone() };
        (port, Inbox(sender), full)
    }

    /// Sends a packet with one system call.
    ///
    /// What the system says of it is not the end of a connection: the packet is lost, and the library sends it again. Only
    /// that it is too long has to be known.
    fn send(
        &self,
        context: &Context<'_>,
        len: usize,
        call: impl FnOnce() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match self.socket.try_io(Interest::WRITABLE, call) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.full.wait(context.waker());
                Poll::Pending
            }
            Err(error) if !is_too_long(&error) => Poll::Ready(Ok(len)),
            done => Poll::Ready(done),
        }
    }
}

impl Full {
    /// Somebody waits; it may have come before.
    fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.lock();
        if !waiting.iter().any(|other| other.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        self.some.notify_one();
    }
}

/// Wakes whoever waits for room in the socket, as soon as there is some.
pub(super) async fn wake_when_writable(socket: Arc<UdpSocket>, full: Arc<Full>) {
    loop {
        full.some.notified().await;
        // An error here is the end of the runtime.
        if socket.writable().await.is_err() {
            return;
        }
        let waiting = std::mem::take(&mut *full.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl PollSendToVectored for Port {
    fn poll_send_to_vectored(
        &self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        self.send(context, len, || SockRef::from(&*self.socket).send_to_vectored(slices, &to.into()))
    }
}

impl Transport for Port {
    fn recv_from<'a>(
        &'a self,
        buffer: &'a mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send + Sync + 'a {
        poll_fn(move |context| {
            let packet = ready!(self.packets.lock().poll_recv(context));
            // Nobody delivers any more: that ends the library's task.
            let (from, packet) = packet.ok_or(io::ErrorKind::NotConnected)?;
            let len = packet.len().min(buffer.len());
            buffer[..len].copy_from_slice(&packet[..len]);
            Poll::Ready(Ok((len, from)))
        })
    }

    async fn send_to<'a>(&'a self, packet: &'a [u8], to: SocketAddr) -> io::Result<usize> {
        self.socket.send_to(packet, to).await
    }

    fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        packet: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.send(context, packet.len(), || SockRef::from(&*self.socket).send_to(packet, &to.into()))
    }

    fn bind_addr(&self) -> SocketAddr {
        self.local
    }
}

/// Whether a packet is longer than the way to its destination takes.
fn is_too_long(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    const TOO_LONG: i32 = rustix::io::Errno::MSGSIZE.raw_os_error();
    // That of the BSDs.
    #[cfg(not(target_os = "linux"))]
    const TOO_LONG: i32 = 40;
    error.raw_os_error() == Some(TOO_LONG)
}
