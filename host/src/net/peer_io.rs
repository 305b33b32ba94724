//! The bytes of one connection.
//!
//! Each connection is a task of its own. It waits until its socket can be read or written, and then does one turn in
//! the [`Driver`]: at most [`READ_BUDGET`] and [`WRITE_BUDGET`] bytes, then everybody else has theirs. Bytes go from the socket
//! to where the engine wants them, and from the engine's queue to the socket; there is no buffer in between.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use pilotfish_plugin::PeerHandle;
use socket2::SockRef;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::driver::Driver;
use super::tls::Tls;
use super::utp::UtpStream;
use crate::engine::SocketOperation;
use crate::peer::Transport;

/// Bytes that a connection reads before others have their turn.
const READ_BUDGET: usize = 256 << 10;
/// Bytes that a connection writes before others have theirs. A socket that takes this much at once costs a third less than one
/// that is offered a quarter of it four times.
const WRITE_BUDGET: usize = 1 << 20;

/// The most buffers that one system call takes (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    /// There is more to write: the connection's own task does it, once the socket takes it.
    pub(super) backlog: Cell<bool>,
    /// What the task waits for may be something else now.
    changed: Notify,
}

/// What its bytes go by. Boxed is what is large, and rare.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Tls(TcpStream, Box<Tls>),
    Utp(Box<UtpStream>),
}

/// What became of a turn of reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flow {
    /// There is nothing more to be done until the socket says so.
    Idle,
    /// The budget is used up, and there is more.
    More,
    /// The connection is gone.
    Gone,
}

/// What one system call did.
pub(super) enum Moved {
    /// So many bytes, and the socket may have more, or take more.
    Some(usize),
    /// So many bytes, which may be none. The socket has no more, or takes no more, for now.
    Last(usize),
}

impl Socket {
    /// A connected stream.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self::encrypted(stream, None)
    }

    /// A connected stream whose bytes are encrypted, if there is anything to do that.
    pub(super) fn encrypted(stream: TcpStream, tls: Option<Box<Tls>>) -> Self {
        // A message waits for nobody. Where this fails, so does all else on this socket.
        let _ = stream.set_nodelay(true);
        Self::over(match tls {
            None => Stream::Tcp(stream),
            Some(tls) => Stream::Tls(stream, tls),
        })
    }

    /// A connection of uTP.
    pub(super) fn utp(stream: UtpStream) -> Self {
        Self::over(Stream::Utp(Box::new(stream)))
    }

    fn over(stream: Stream) -> Self {
        Self { stream, backlog: Cell::new(false), changed: Notify::new() }
    }

    /// What it goes by.
    pub(super) fn transport(&self) -> Transport {
        match self.stream {
            Stream::Tcp(_) | Stream::Tls(..) => Transport::Tcp,
            Stream::Utp(_) => Transport::Utp,
        }
    }

    /// Our address on it.
    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) | Stream::Tls(stream, _) => stream.local_addr(),
            Stream::Utp(stream) => Ok(stream.local()),
        }
    }

    /// Has the task look again what it is to wait for.
    pub(super) fn reconsider(&self) {
        self.changed.notify_one();
    }

    /// Leaves the rest of what is to be written to the task.
    pub(super) fn postpone(&self) {
        if !self.backlog.replace(true) {
            self.reconsider();
        }
    }

    /// Reads once. `Moved::Some(0)` is the end of the stream.
    pub(super) fn read(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<Moved> {
        match &self.stream {
            Stream::Tcp(stream) => {
                let room = buffers.iter().map(|buffer| buffer.len()).sum();
                once(stream, Interest::READABLE, room, |mut socket| socket.read_vectored(buffers))
            }
            Stream::Tls(stream, tls) => {
                let read = tls.read(stream, buffers);
                if tls.has_backlog() {
                    self.postpone();
                }
                read
            }
            Stream::Utp(stream) => stream.read(buffers),
        }
    }

    /// Writes once.
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<Moved> {
        let slices = &slices[..slices.len().min(MAX_SLICES)];
        match &self.stream {
            Stream::Tcp(stream) => {
                let room = slices.iter().map(|slice| slice.len()).sum();
                once(stream, Interest::WRITABLE, room, |mut socket| socket.write_vectored(slices))
            }
            Stream::Tls(stream, tls) => tls.write(stream, slices),
            Stream::Utp(stream) => stream.write(slices),
        }
    }

    /// Sends what the encryption has to say by itself.
    fn flush(&self) -> io::Result<()> {
        let Stream::Tls(stream, tls) = &self.stream else { return Ok(()) };
        tls.flush(stream)?;
        if tls.has_backlog() {
            self.postpone();
        }
        Ok(())
    }

    /// Waits until the socket is ready for `interest`. `None`: something changed, and the interest with it.
    pub(super) async fn ready(&self, interest: Option<Interest>) -> Option<io::Result<Ready>> {
        let Some(interest) = interest else {
            self.changed.notified().await;
            return None;
        };
        tokio::select! {
            biased;
            () = self.changed.notified() => None,
            ready = self.stream.ready(interest) => Some(ready),
        }
    }
}

impl Stream {
    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) | Self::Tls(stream, _) => stream.ready(interest).await,
            // Boxed: each connection's task would have room for it.
            Self::Utp(stream) => Ok(Box::pin(stream.ready(interest)).await),
        }
    }
}

/// One system call, which can move up to `room` bytes.
///
/// One that moved fewer has emptied (or filled) the socket: the next would only say so. It is told to the runtime as
/// if it had, which saves that call.
fn once(
    stream: &TcpStream,
    interest: Interest,
    room: usize,
    call: impl FnOnce(&socket2::Socket) -> io::Result<usize>,
) -> io::Result<Moved> {
    let mut moved = 0;
    let outcome = stream.try_io(interest, || {
        moved = call(&SockRef::from(stream))?;
        if moved > 0 && moved < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match outcome {
        Ok(()) => Ok(Moved::Some(moved)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Moved::Last(moved)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Moved::Last(0)),
        Err(error) => Err(error),
    }
}

/// Runs a connection to its end.
pub(super) async fn run(driver: Rc<RefCell<Driver>>, peer: PeerHandle, socket: Rc<Socket>) {
    loop {
        let interest = driver.borrow().interest(peer, &socket);
        let Some(ready) = socket.ready(interest).await else { continue };
        // An error here is the end of the runtime.
        let Ok(ready) = ready else { return };
        let flow = driver.borrow_mut().turn(|driver| driver.exchange(peer, &socket, ready));
        match flow {
            Flow::Idle => {}
            Flow::More => tokio::task::yield_now().await,
            Flow::Gone => return,
        }
    }
}

impl Driver {
    /// What the task of a connection is to wait for. `None`: for a change of that.
    fn interest(&self, peer: PeerHandle, socket: &Socket) -> Option<Interest> {
        let read = self.engine.wants_read(peer).then_some(Interest::READABLE);
        let write = socket.backlog.get().then_some(Interest::WRITABLE);
        match (read, write) {
            (Some(read), Some(write)) => Some(read | write),
            (one, other) => one.or(other),
        }
    }

    /// Reads and writes what the socket is ready for.
    fn exchange(&mut self, peer: PeerHandle, socket: &Socket, ready: Ready) -> Flow {
        let read = if ready.is_readable() { self.read(peer, socket) } else { Flow::Idle };
        if read == Flow::Gone || !ready.is_writable() || !socket.backlog.replace(false) {
            return read;
        }
        read.max(self.write(peer, socket))
    }

    fn read(&mut self, peer: PeerHandle, socket: &Socket) -> Flow {
        let mut budget = READ_BUDGET;
        while self.engine.wants_read(peer) {
            let Some(mut buffers) = self.engine.receive_buffers(peer, &mut self.scratch) else {
                return Flow::Gone;
            };
            let (len, last) = match socket.read(&mut buffers) {
                Ok(Moved::Some(0)) => return self.failed(peer, SocketOperation::Read, None),
                Ok(Moved::Some(len)) => (len, false),
                Ok(Moved::Last(0)) => return Flow::Idle,
                Ok(Moved::Last(len)) => (len, true),
                Err(error) => return self.failed(peer, SocketOperation::Read, Some(error)),
            };
            self.engine.received(peer, len, &self.scratch, Instant::now());
            if last {
                return Flow::Idle;
            }
            budget = budget.saturating_sub(len);
            if budget == 0 {
                return Flow::More;
            }
        }
        Flow::Idle
    }

    /// Writes what waits. What the socket does not take, or the budget leaves, becomes the backlog.
    pub(super) fn write(&mut self, peer: PeerHandle, socket: &Socket) -> Flow {
        let mut budget = WRITE_BUDGET;
        loop {
            let mut slices = recycled(std::mem::take(&mut self.slices));
            self.engine.transmit(peer, &mut slices);
            let outcome = if slices.is_empty() { None } else { Some(socket.write(&slices)) };
            self.slices = recycled(slices);
            let (len, last) = match outcome {
                None => {
                    return match socket.flush() {
                        Ok(()) => Flow::Idle,
                        Err(error) => self.failed(peer, SocketOperation::Write, Some(error)),
                    };
                }
                Some(Ok(Moved::Some(0))) => {
                    return self.failed(peer, SocketOperation::Write, Some(io::ErrorKind::WriteZero.into()));
                }
                Some(Ok(Moved::Some(len))) => (len, false),
                Some(Ok(Moved::Last(len))) => (len, true),
                Some(Err(error)) => return self.failed(peer, SocketOperation::Write, Some(error)),
            };
            self.written(peer, len);
            budget = budget.saturating_sub(len);
            if last || budget == 0 {
                socket.postpone();
                return if last { Flow::Idle } else { Flow::More };
            }
        }
    }
}

/// An empty vector with the memory of another, for slices of another lifetime. (Collecting in place keeps the memory.)
fn recycled<'a>(mut slices: Vec<IoSlice<'_>>) -> Vec<IoSlice<'a>> {
    slices.clear();
    slices.into_iter().map(|_| IoSlice::new(&[])).collect()
}
