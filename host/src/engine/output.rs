//! Everything the engine can ask for.

use std::net::SocketAddr;

use pilotfish_plugin::PeerHandle;

use crate::command::{Answer, Ticket};
use crate::job::DiskJob;

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
    /// A job for the disk.
    Disk(DiskJob),
    /// The answer to a command.
    Answer(Ticket, Answer),
    /// The session has ended: nothing is open, no plugin object is left.
    Stopped,
}
