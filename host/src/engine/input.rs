//! Everything that can happen to the engine.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use pilotfish_plugin::PeerHandle;

use super::{FetchToken, LookupToken, MappedPort, PortMapping, PortmapProtocol};
use crate::command::Command;
use crate::job::DiskDone;
use crate::peer::Transport;

/// What is done with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOperation {
    /// Connecting it.
    Connect,
    /// Reading it.
    Read,
    /// Writing it.
    Write,
}

/// What a web server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The status of the answer, after all redirections.
    pub status: u16,
    /// The document, unpacked.
    pub body: Bytes,
}

/// Why a document was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The server, or whoever is in between, could not be reached or did not keep to the protocol: in their words.
    #[error("{0}")]
    Failed(String),
    /// The document is longer than asked for.
    #[error("the answer is too long")]
    TooLong,
    /// Nothing came for too long.
    #[error("the server is silent")]
    Silent,
}

/// One thing that happened. New connections come by [`Engine::accept`](super::Engine::accept), bytes by
/// [`Engine::received`](super::Engine::received).
#[derive(Debug)]
pub enum Input {
    /// A deadline of [`Engine::poll_timeout`](super::Engine::poll_timeout) has come, or may have.
    Timeout,
    /// Another thread asks for something.
    Command(Command),
    /// A plugin's own thread posted a message.
    Wake,
    /// The session listens on this address.
    Listening(SocketAddr),
    /// The session cannot listen on this address.
    ListenFailed {
        /// As it was asked for.
        address: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// An [`Output::Connect`](super::Output::Connect) succeeded.
    Connected {
        /// The connection.
        peer: PeerHandle,
        /// Our address on it.
        local: SocketAddr,
        /// What it goes by.
        transport: Transport,
    },
    /// The socket took this many bytes of [`Engine::transmit`](super::Engine::transmit).
    Written {
        /// The connection.
        peer: PeerHandle,
        /// How many bytes.
        len: usize,
    },
    /// The connection attempt failed, or the connection broke.
    Failed {
        /// The connection.
        peer: PeerHandle,
        /// What was being done with the socket.
        operation: SocketOperation,
        /// What the operating system said; `None` if the peer closed it properly.
        error: Option<io::Error>,
    },
    /// An [`Output::Resolve`](super::Output::Resolve) is answered.
    Resolved {
        /// Which.
        lookup: LookupToken,
        /// At least one address, or why there is none.
        addresses: io::Result<Vec<IpAddr>>,
    },
    /// An [`Output::Fetch`](super::Output::Fetch) is answered.
    Fetched {
        /// Which.
        fetch: FetchToken,
        /// The document.
        result: Result<Fetched, FetchError>,
    },
    /// A router maps a port of [`Output::MapPorts`](super::Output::MapPorts), again and again while it is wanted, or cannot be
    /// had to.
    PortMapped {
        /// Which.
        mapping: PortMapping,
        /// For which protocol.
        protocol: PortmapProtocol,
        /// What it gave us; or what went wrong, in words.
        result: Result<MappedPort, String>,
    },
    /// A port that is not wanted any more was taken back, or the router did not answer.
    PortUnmapped(PortMapping),
    /// The disk answers.
    Disk(DiskDone),
}
