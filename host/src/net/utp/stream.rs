//! One uTP connection, as a socket: it is asked, and says when it is worth asking again.
//!
//! The library's connections are read and written by tasks that wait in them. Ours waits in one place for everything that
//! may happen to a connection, so the library wakes a mark instead of a task, and the task waits for marks.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use librqbit_utp::{Error, UtpStreamReadHalf, UtpStreamWriteHalf};
use tokio::io::{AsyncWrite as _, Interest, Ready};
use tokio::sync::Notify;

use crate::net::peer_io::Moved;

/// A uTP connection. The other side hears that it is over when this is dropped.
pub(in crate::net) struct UtpStream {
    reader: RefCell<UtpStreamReadHalf>,
    writer: RefCell<UtpStreamWriteHalf>,
    readable: Mark,
    writable: Mark,
    remote: SocketAddr,
    local: SocketAddr,
    /// What was read to see whether anything is said.
    first: Cell<Option<u8>>,
}

impl UtpStream {
    /// A connection of the library's on the socket that is bound to `bound`.
    pub(super) fn new(stream: librqbit_utp::UtpStream, bound: SocketAddr) -> Self {
        let remote = stream.remote_addr();
        let (reader, writer) = stream.split();
        Self {
            reader: RefCell::new(reader),
            writer: RefCell::new(writer),
            readable: Mark::default(),
            writable: Mark::default(),
            remote,
            local: local_towards(remote, bound),
            first: Cell::new(None),
        }
    }

    /// Who is at the other end.
    pub(in crate::net) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Our address on it.
    pub(in crate::net) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits until the other side says something: `false` if it ended instead.
    pub(super) async fn speaks(&self) -> io::Result<bool> {
        loop {
            let mut first = [0];
            match self.read(&mut [IoSliceMut::new(&mut first)])? {
                Moved::Some(0) => return Ok(false),
                Moved::Last(0) => drop(self.ready(Interest::READABLE).await),
                Moved::Some(_) | Moved::Last(_) => {
                    self.first.set(Some(first[0]));
                    return Ok(true);
                }
            }
        }
    }

    /// Reads once. `Moved::Some(0)` is the end of the stream.
    pub(in crate::net) fn read(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<Moved> {
        if let Some(room) = buffers.iter_mut().find_map(|buffer| buffer.first_mut())
            && let Some(first) = self.first.take()
        {
            *room = first;
            return Ok(Moved::Some(1));
        }
        let waker = self.readable.lower();
        let mut reader = self.reader.borrow_mut();
        match Pin::new(&mut *reader).poll_read_vectored(&mut Context::from_waker(&waker), buffers) {
            Poll::Pending => Ok(Moved::Last(0)),
            Poll::Ready(read) => {
                self.readable.raise();
                read.map(Moved::Some).map_err(|error| explained(&error))
            }
        }
    }

    /// Writes once.
    pub(in crate::net) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        let mut writer = self.writer.borrow_mut();
        let mut moved = 0;
        for slice in slices {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                let waker = self.writable.lower();
                match Pin::new(&mut *writer).poll_write(&mut Context::from_waker(&waker), rest) {
                    Poll::Ready(Ok(len)) => {
                        moved += len;
                        rest = &rest[len..];
                    }
                    Poll::Ready(Err(error)) => return Err(explained(&error)),
                    // Now and then it has its writer wait for no other reason than that others may have their turn. Here that
                    // is a matter of the budget.
                    Poll::Pending if self.writable.is_raised() => {}
                    Poll::Pending => return Ok(Moved::Last(moved)),
                }
            }
        }
        self.writable.raise();
        Ok(Moved::Some(moved))
    }

    /// Waits until it is worth trying to do one of these.
    pub(in crate::net) async fn ready(&self, interest: Interest) -> Ready {
        loop {
            let readable =
                interest.is_readable() && (self.readable.is_raised() || self.first.get().is_some());
            let writable = interest.is_writable() && self.writable.is_raised();
            match (readable, writable) {
                (true, true) => return Ready::READABLE | Ready::WRITABLE,
                (true, false) => return Ready::READABLE,
                (false, true) => return Ready::WRITABLE,
                (false, false) => {}
            }
            tokio::select! {
                () = self.readable.changed(), if interest.is_readable() => {}
                () = self.writable.changed(), if interest.is_writable() => {}
            }
        }
    }
}

impl std::fmt::Debug for UtpStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UtpStream").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// Whether a direction is worth trying, as far as is known.
#[derive(Debug)]
struct Mark(Arc<Flag>);

#[derive(Debug)]
struct Flag {
    raised: AtomicBool,
    changed: Notify,
}

impl Default for Mark {
    fn default() -> Self {
        // It is not known before it has been tried.
        Self(Arc::new(Flag { raised: AtomicBool::new(true), changed: Notify::new() }))
    }
}

impl Mark {
    /// Takes the mark down, and answers what puts it up.
    fn lower(&self) -> Waker {
        self.0.raised.store(false, Ordering::Relaxed);
        self.0.clone().into()
    }

    fn raise(&self) {
        self.0.raised.store(true, Ordering::Relaxed);
    }

    fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::Relaxed)
    }

    async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }
}

/// An error of the library's, of which it tells no more than its text.
fn explained(error: &io::Error) -> io::Error {
    let text = error.to_string();
    let silence = [Error::RemoteInactiveForTooLong, Error::MaxRetransmissionsReached];
    let kind = match silence.iter().any(|silence| silence.to_string() == text) {
        true => io::ErrorKind::TimedOut,
        false => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, text)
}

/// Our address on the way to `remote`, on a socket that is bound to `bound`: where that is no particular one, the system says
/// which it would take.
fn local_towards(remote: SocketAddr, bound: SocketAddr) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let asked = std::net::UdpSocket::bind(any).and_then(|socket| {
        // Nothing is sent.
        socket.connect(remote)?;
        socket.local_addr()
    });
    asked.map_or(bound, |local| SocketAddr::new(local.ip(), bound.port()))
}
