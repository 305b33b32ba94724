//! Peers tell each other of peers (BEP 11, libtorrent's ut_pex).
//!
//! | file | what |
//! |---|---|
//! | `message` | the one message |
//! | `told` | what a peer was told, and what it is to be told next |
//! | `peer` | one connection: what it is told, and what it tells |
//!
//! libtorrent makes one message a minute for all peers of a torrent, of which a peer whose minute ends at another time misses
//! one or gets one twice, and which tells each peer of itself. Here each connection has a minute and a list of its own.
//!
//! Of a private torrent nothing is said and nothing heard (BEP 27). Whether it is one is asked for each message: of a magnet
//! link nobody knows before its metadata is there. Until then peers are heard of, and nobody is told.

mod message;
mod peer;
mod told;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Duration;

use pilotfish_plugin::{
    Attach, ConnectionType, Peer, PeerBox, PeerContext, PeerFlags, PeerHandle, PeerInfo, PexFlags,
    SessionContext, Torrent, TorrentBox, TorrentContext, TorrentFlags, TorrentHandle, TorrentPlugin,
    Userdata, hooks,
};

/// The name of the extended message.
const NAME: &str = "ut_pex";

/// Makes the plugin for one torrent (libtorrent's `create_ut_pex_plugin`). `None`: the torrent is private.
pub fn create_ut_pex_plugin(
    cx: &mut SessionContext<'_>,
    torrent: TorrentHandle,
    _: Userdata,
) -> Option<TorrentBox> {
    let private = cx.torrent(torrent)?.is_private();
    (!private).then(|| TorrentBox::new(UtPex::default()))
}

/// On one torrent.
#[derive(Default)]
struct UtPex {
    /// There for as long as a connection is: most torrents have none most of the time.
    contacts: Weak<RefCell<Contacts>>,
}

/// Whom peers can be told of.
#[derive(Default)]
struct Contacts {
    list: Vec<Contact>,
    /// When that was, on the session's clock.
    taken: Option<Duration>,
}

/// A peer that others can be told of: it is connected, and it is known where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contact {
    peer: PeerHandle,
    address: SocketAddr,
    flags: PexFlags,
}

#[hooks]
impl TorrentPlugin for UtPex {
    fn new_connection(&mut self, _: &mut TorrentContext<'_>, _: PeerHandle, _: Attach) -> Option<PeerBox> {
        let contacts = self.contacts.upgrade().unwrap_or_default();
        self.contacts = Rc::downgrade(&contacts);
        Some(PeerBox::new(peer::OnPeer::new(contacts)))
    }
}

impl Contacts {
    /// Those that are there now.
    fn now(&mut self, cx: &PeerContext<'_>) -> &[Contact] {
        let now = cx.now();
        if self.taken != Some(now) {
            let peers = cx.this_torrent().peers();
            let contact = |peer: &PeerHandle| Contact::of(&cx.peer(*peer)?);
            self.list = peers.iter().filter_map(contact).collect();
            self.taken = Some(now);
        }
        &self.list
    }
}

impl Contact {
    /// The peer, if others can be told of it.
    fn of(peer: &Peer<'_>) -> Option<Self> {
        let said = peer.flags();
        let no = [PeerFlags::CONNECTING, PeerFlags::IN_HANDSHAKE, PeerFlags::DISCONNECTING];
        if no.iter().any(|no| said.contains(*no)) || peer.connection_type() != ConnectionType::BITTORRENT {
            return None;
        }
        let address = SocketAddr::new(peer.remote().ip().to_canonical(), peer.listen_port()?);
        let info = peer.peer_info();
        let flag = |on: bool, flag: PexFlags| if on { flag } else { PexFlags::NONE };
        let flags = flag(info.flag(PeerInfo::RC4_ENCRYPTED | PeerInfo::PLAINTEXT_ENCRYPTED), PexFlags::ENCRYPTION)
                | flag(said.contains(PeerFlags::UPLOAD_ONLY), PexFlags::SEED)
                | flag(info.flag(PeerInfo::UTP_SOCKET), PexFlags::UTP)
                | flag(info.supports_holepunch() != 0, PexFlags::HOLEPUNCH)
                // Who had to be introduced cannot be called by others either.
                | flag(
                    said.contains(PeerFlags::OUTGOING) && !info.flag(PeerInfo::HOLEPUNCHED),
                    PexFlags::REACHABLE,
                );
        Some(Self { peer: peer.handle(), address, flags })
    }
}

/// Whether peers of this torrent may tell each other of peers.
fn may_exchange(torrent: &Torrent<'_>) -> bool {
    !torrent.is_private() && !torrent.flags().contains(TorrentFlags::DISABLE_PEX)
}

/// Whether an address means something on its own network alone: it is told to, and taken from, those who are there.
fn is_local(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
