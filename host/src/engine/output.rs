//! Everything the engine can ask for.

use std::net::SocketAddr;

use bytes::Bytes;
use pilotfish_plugin::PeerHandle;

use crate::command::{Answer, Ticket};
use crate::job::DiskJob;

/// Names a host name that is being looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LookupToken(pub u64);

/// One thing that is to be done, in order.
#[derive(Debug)]
pub enum Output {
    /// Open a connection; [`Input::Connected`](super::Input::Connected) or [`Input::Failed`](super::Input::Failed) follows.
    Connect {
        /// Its name from now on.
        peer: PeerHandle,
        /// Whom to.
        address: SocketAddr,
    },
    /// There is something to send: write what [`Engine::transmit`](super::Engine::transmit) holds, until it is empty or the
    /// socket is full.
    Transmit(PeerHandle),
    /// Read from this connection again, after [`Engine::wants_read`](super::Engine::wants_read) was `false`.
    Read(PeerHandle),
    /// Close the connection. Its name means nothing any more.
    Close(PeerHandle),
    /// Send a datagram, from the UDP socket that shares the port of our listener.
    Datagram {
        /// Whom to.
        to: SocketAddr,
        /// What.
        payload: Bytes,
    },
    /// Look up the addresses of a host; [`Input::Resolved`](super::Input::Resolved) follows.
    Resolve {
        /// Names the question.
        lookup: LookupToken,
        /// The name, or an address as text.
        host: String,
    },
    /// A job for the disk.
    Disk(DiskJob),
    /// The answer to a command.
    Answer(Ticket, Answer),
    /// The session has ended: nothing is open, no plugin object is left.
    Stopped,
}
