//! Everything the engine can ask for.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pilotfish_plugin::PeerHandle;

use super::Destination;
use crate::command::{Answer, Ticket};
use crate::ip_filter::IpFilter;
use crate::job::DiskJob;

/// Names a host name that is being looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LookupToken(pub u64);

/// Names a document that is being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FetchToken(pub u64);

/// A small document that is to be fetched by HTTP or HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// What.
    pub url: String,
    /// Who we say that we are.
    pub user_agent: Option<String>,
    /// How long nothing may come before it has failed. (How long it may take altogether is the engine's business.)
    pub receive_timeout: Duration,
    /// The longest answer, in bytes, after it was unpacked.
    pub most: usize,
    /// Whether a server's certificate must be right.
    pub validate: bool,
    /// By IPv4, or by IPv6; `None` is whichever there is.
    pub is_v4: Option<bool>,
    /// Which addresses are not asked, unless a proxy asks.
    pub ip_filter: Option<Arc<IpFilter>>,
    /// Through whom.
    pub proxy: Option<Proxy>,
}

/// Somebody who connects for us.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// Whether it speaks SOCKS 5, and not HTTP.
    pub socks: bool,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password, if it wants them.
    pub login: Option<(String, String)>,
    /// Whether it looks names up, so that nobody learns them from us.
    pub looks_up: bool,
}

/// How a connection may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// By TCP.
    Tcp,
    /// By uTP (BEP 29).
    Utp,
    /// By both at once: the one that stands first is taken, and nothing is ever sent on the other.
    Race {
        /// Whether the peer is known to speak uTP: then it is worth waiting for if TCP fails.
        speaks_utp: bool,
        /// Whether uTP has a start: by TCP the peer hung up before it said anything, as one does that wants no TCP.
        utp_first: bool,
    },
}

/// A connection is to be encrypted by TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The name, or the address, that the server has to show a certificate for.
    pub host: String,
    /// Whether the certificate has to be one that this system trusts.
    pub validate: bool,
}

/// By which protocol a router is asked (libtorrent's `portmap_transport`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortmapTransport {
    /// PCP (RFC 6887) or, where a router knows no better, NAT-PMP (RFC 6886).
    NatPmp,
    /// UPnP.
    Upnp,
}

impl PortmapTransport {
    /// Its name in alerts.
    pub fn name(self) -> &'static str {
        match self {
            Self::NatPmp => "natpmp",
            Self::Upnp => "upnp",
        }
    }
}

/// What a port belongs to (libtorrent's `portmap_protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortmapProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl PortmapProtocol {
    /// Its name in alerts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port that a router is to let through to us, for TCP and for UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMapping {
    /// How the router is asked.
    pub transport: PortmapTransport,
    /// Where we listen; the address may be that of any interface.
    pub local: SocketAddrV4,
    /// For how long; it is asked again before that is over.
    pub lease: Duration,
}

/// One thing that is to be done, in order.
#[derive(Debug)]
pub enum Output {
    /// Open a connection; [`Input::Connected`](super::Input::Connected) or [`Input::Failed`](super::Input::Failed) follows.
    Connect {
        /// Its name from now on.
        peer: PeerHandle,
        /// Whom to.
        address: SocketAddr,
        /// By what.
        dial: Dial,
        /// What it is encrypted by: the connection is up when that has been agreed on. `None` for all but some web seeds.
        tls: Option<Tls>,
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
    /// Send a datagram through the proxy [`Engine::relay`](super::Engine::relay).
    RelayedDatagram {
        /// Whom to.
        to: Destination,
        /// What.
        payload: Bytes,
    },
    /// Send a datagram to the multicast group of local discovery, on each network of that address family that is listened on.
    LocalAnnouncement {
        /// Whether it is for IPv4, and not IPv6.
        is_v4: bool,
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
    /// Fetch a document; [`Input::Fetched`](super::Input::Fetched) follows.
    Fetch {
        /// Names it.
        fetch: FetchToken,
        /// What, and how.
        request: Box<FetchRequest>,
    },
    /// Nobody waits for a document any more. [`Input::Fetched`](super::Input::Fetched) need not follow.
    CancelFetch(FetchToken),
    /// These ports are to be mapped from now on, and no others: [`Input::PortMapped`](super::Input::PortMapped) follows for each of
    /// them, [`Input::PortUnmapped`](super::Input::PortUnmapped) for each that is not among them any more.
    MapPorts(Vec<PortMapping>),
    /// A job for the disk.
    Disk(DiskJob),
    /// The answer to a command.
    Answer(Ticket, Answer),
    /// The session has ended: nothing is open, no plugin object is left.
    Stopped,
}
