//! Connections come and go.

use std::io;
use std::net::SocketAddr;

use pilotfish_plugin::{
    AddPeerFlags, Attach, ErrorCode, Operation, PeerHandle, PeerHooks, PeerSource, PexFlags, Refusal,
    Severity, TorrentHandle, TorrentHooks,
};

use super::Engine;
use super::input::SocketOperation;
use super::output::{Dial, Output};
use super::state::{SessionPhase, State};
use crate::alert::AlertKind;
use crate::peer::mse::Greeting;
use crate::peer::{Closing, Connection, Direction, Phase, Transport};
use crate::torrent::{Added, Known, Refusal as Reason};
use crate::wire::Handshake;

/// Sources from which a private torrent takes no peers (BEP 27).
const UNTRACKED: PeerSource = PeerSource(PeerSource::DHT.0 | PeerSource::PEX.0 | PeerSource::LSD.0);

/// Whether nobody has named a peer but sources from which a private torrent takes none.
pub(super) fn is_untracked(sources: PeerSource) -> bool {
    sources != PeerSource::NONE && UNTRACKED.contains(sources)
}

impl Engine {
    /// A peer connected to us. Nothing is known of it but its address.
    pub(super) fn on_accept(
        &mut self,
        remote: SocketAddr,
        local: SocketAddr,
        transport: Transport,
    ) -> Option<PeerHandle> {
        let state = &mut self.state;
        if !state.welcomes(remote, transport) {
            return None;
        }
        let mut connection = Connection::new(remote, false, state.request_limits(), state.now);
        connection.local = Some(local);
        connection.transport = transport;
        let peer = state.insert_peer(connection);
        state.apply_rate_limits(peer);
        Some(peer)
    }

    /// Tries as many known peers as are wanted now, and has the torrent's timer run.
    pub(super) fn connect_peers(&mut self, torrent: TorrentHandle) {
        self.state.schedule_dht(torrent);
        self.state.schedule_lsd(torrent);
        self.call_candidates(torrent);
        self.state.schedule_torrent(torrent);
    }

    /// Tries as many known peers as are wanted now.
    pub(super) fn call_candidates(&mut self, torrent: TorrentHandle) {
        while let Some(address) = self.state.next_candidate(torrent) {
            self.connect(torrent, address);
            self.pump();
        }
        self.call_web_seeds(torrent);
    }

    fn connect(&mut self, torrent: TorrentHandle, address: SocketAddr) {
        if let Some(dial) = self.state.dial(torrent, address) {
            self.call(torrent, address, dial, false);
        }
    }

    /// Connects to a peer, perhaps to one that calls us as well.
    pub(super) fn call(
        &mut self,
        torrent: TorrentHandle,
        address: SocketAddr,
        dial: Dial,
        holepunched: bool,
    ) {
        let state = &mut self.state;
        let mut connection = Connection::new(address, true, state.request_limits(), state.now);
        connection.torrent = Some(torrent);
        connection.holepunched = holepunched;
        let peer = state.insert_peer(connection);
        state.choose_greeting(peer, torrent);
        let Some(t) = state.torrent_mut(torrent) else { return };
        t.candidates.connected(address, peer);
        t.peers.push(peer);
        if !self.sprout_peer(peer, torrent, Attach::OUTGOING) {
            self.state.disconnect(peer, ErrorCode::PLUGIN_PANICKED, Operation::UNKNOWN, Severity::NORMAL);
        }
        if self.open_peer(peer).is_some() {
            self.state.outputs.push_back(Output::Connect { peer, address, dial, tls: None });
        }
    }

    /// An outgoing connection is up: plugins first, then our handshake.
    pub(super) fn on_connected(&mut self, peer: PeerHandle, local: SocketAddr, transport: Transport) {
        let now = self.state.now;
        let Some(connection) = self.open_peer(peer) else { return };
        if connection.web.is_some() {
            return self.on_web_connected(peer, local);
        }
        connection.local = Some(local);
        connection.transport = transport;
        connection.phase = Phase::Handshaking;
        connection.last_received = now;
        if connection.remote == local {
            return self.state.disconnect(
                peer,
                ErrorCode::SELF_CONNECTION,
                Operation::BITTORRENT,
                Severity::FAILURE,
            );
        }
        if transport == Transport::Utp
            && let Some((connection, t)) = self.state.pair(peer)
        {
            t.candidates.set_speaks_utp(connection.known_as);
        }
        self.state.apply_rate_limits(peer);
        self.tell_peer(peer, PeerHooks::on_connected, |p, cx| p.on_connected(cx));
        self.state.announce_connection(peer);
        self.greet(peer);
    }

    /// Our sixty-eight bytes.
    pub(super) fn send_handshake(&mut self, peer: PeerHandle) {
        let Some(handshake) = self.state.handshake(peer) else { return };
        let Some(connection) = self.open_peer(peer) else { return };
        connection.outbox.push(&handshake.encode());
        self.state.transmit(peer);
    }

    /// The socket took some of what was queued.
    pub(super) fn on_written(&mut self, peer: PeerHandle, len: usize) {
        let now = self.state.now;
        let Some(connection) = self.state.peer_mut(peer) else { return };
        let payload = connection.outbox.written(len);
        connection.up.add(len as u64);
        connection.last_sent = now;
        if payload > 0 {
            connection.payload_up.add(payload);
            let bytes = u32::try_from(payload).unwrap_or(u32::MAX);
            if let Some((_, torrent)) = self.state.pair(peer) {
                torrent.payload_up.add(payload);
            }
            self.state.steps.push_back(super::step::Step::Payload(peer, bytes));
        }
        self.state.moved(peer, Direction::Upload, len as u64);
        // What a plugin sent may have been in the way of blocks, too.
        self.state.refill_uploads(peer);
    }

    /// The attempt failed, or the connection broke.
    pub(super) fn on_failed(
        &mut self,
        peer: PeerHandle,
        operation: SocketOperation,
        error: Option<&io::Error>,
    ) {
        if let (SocketOperation::Connect, Some(error)) = (operation, error) {
            self.state.tell_unreachable(peer, error);
        }
        let (operation, severity) = match operation {
            SocketOperation::Connect => (Operation::CONNECT, Severity::FAILURE),
            SocketOperation::Read => (Operation::SOCK_READ, Severity::NORMAL),
            SocketOperation::Write => (Operation::SOCK_WRITE, Severity::NORMAL),
        };
        let code = match error {
            None => ErrorCode::END_OF_FILE,
            Some(error) if error.kind() == io::ErrorKind::TimedOut => ErrorCode::TIMED_OUT,
            Some(error) => error
                .raw_os_error()
                .map_or(ErrorCode::END_OF_FILE, |value| ErrorCode { category: ErrorCode::SYSTEM, value }),
        };
        self.state.disconnect(peer, code, operation, severity);
    }

    /// A connection that is marked as closing ends: plugins first, then everything that names it is undone.
    pub(super) fn finish_disconnect(&mut self, peer: PeerHandle) {
        let Some(closing) = self.state.peer(peer).and_then(|connection| connection.closing) else { return };
        self.tell_peer(peer, PeerHooks::on_disconnect, |p, cx| p.on_disconnect(cx, closing.error));
        let torrent = self.state.peer(peer).and_then(|connection| connection.torrent);
        let was_web_seed = self.state.peer(peer).is_some_and(|connection| connection.web.is_some());
        self.state.ask_for_introduction(peer, closing);
        let retry = self.state.forget_peer(peer, closing);
        self.chains.peers.remove(peer);
        self.chains.ciphers.forget(peer);
        self.state.outputs.push_back(Output::Close(peer));
        if let Some(torrent) = torrent {
            self.finish_draining(torrent);
            if was_web_seed {
                self.call_web_seeds(torrent);
            }
            if retry {
                self.connect_peers(torrent);
            }
        }
    }

    /// The session listens.
    pub(super) fn on_listening(&mut self, address: SocketAddr) {
        self.state.listening.push(address);
        let ip = address.ip().to_canonical();
        if !ip.is_unspecified() && !ip.is_loopback() {
            self.state.set_our_address(SocketAddr::new(ip, address.port()));
        }
        self.state.alert(AlertKind::ListenSucceeded { address });
        self.state.update_port_mappings();
        self.state.update_dht();
        self.settle_dht();
    }

    /// The session cannot listen on an address.
    pub(super) fn on_listen_failed(&mut self, address: String, error: &io::Error) {
        self.state.alert(AlertKind::ListenFailed { address, error: error.to_string() });
    }

    /// A peer is offered to a torrent.
    pub(super) fn offer_peer(&mut self, torrent: TorrentHandle, address: SocketAddr, source: PeerSource) {
        self.offer_peer_with(torrent, address, source, PexFlags::NONE);
    }

    /// A peer is offered to a torrent, by somebody who says more of it.
    pub(super) fn offer_peer_with(
        &mut self,
        torrent: TorrentHandle,
        address: SocketAddr,
        source: PeerSource,
        said: PexFlags,
    ) {
        self.add_candidate(torrent, address, source, said);
        self.connect_peers(torrent);
    }

    /// Puts a peer on a torrent's list, and tells plugins what became of it. Whether it is there now.
    pub(super) fn add_candidate(
        &mut self,
        torrent: TorrentHandle,
        address: SocketAddr,
        source: PeerSource,
        said: PexFlags,
    ) -> bool {
        let banned = self.state.bans.contains(address.ip());
        let filtered = self.state.torrent(torrent).is_some() && self.state.blocks(torrent, address);
        let Some(t) = self.state.torrent_mut(torrent) else { return false };
        let added = if banned {
            Added::Refused(Reason::Banned)
        } else if t.is_private() && UNTRACKED.intersects(source) {
            Added::Refused(Reason::Private)
        } else {
            t.candidates.add(address, source, filtered)
        };
        let (flags, refusal) = match added {
            Added::New => (AddPeerFlags::FIRST_TIME, Refusal::NONE),
            Added::Known => (AddPeerFlags::NONE, Refusal::NONE),
            Added::Refused(why) => (AddPeerFlags::FILTERED, refusal_code(why)),
        };
        if added == Added::New && said.contains(PexFlags::SEED) {
            t.candidates.set_seed(address, true);
        }
        if said.contains(PexFlags::UTP) && !matches!(added, Added::Refused(_)) {
            t.candidates.set_speaks_utp(address);
        }
        let sources = t.candidates.known(address).map_or(source, |known| known.sources);
        self.tell_torrent(torrent, TorrentHooks::on_add_peer, |p, cx| {
            p.on_add_peer(cx, address.into(), source, sources, flags, refusal)
        });
        !matches!(added, Added::Refused(_))
    }
}

impl State {
    /// Whether a peer may connect to us, as far as its address tells.
    pub(super) fn welcomes(&mut self, remote: SocketAddr, transport: Transport) -> bool {
        if self.blocks(TorrentHandle::INVALID, remote) {
            return false;
        }
        let enabled = match transport {
            Transport::Tcp => self.settings.enable_incoming_tcp,
            // An answer would come from our own address, not from the proxy's.
            Transport::Utp => self.settings.enable_incoming_utp && self.peer_proxy().is_none(),
        };
        let unwelcome = self.is_overcrowded() || self.bans.contains(remote.ip());
        self.phase == SessionPhase::Running && enabled && !unwelcome
    }

    /// Gives up the calls that are under way: they took a way that is not to be taken any more.
    pub(super) fn stop_calling(&mut self) {
        let calls = self.peers().filter(|(_, connection)| connection.phase == Phase::Connecting);
        let calls: Vec<PeerHandle> = calls.map(|(peer, _)| peer).collect();
        for peer in calls {
            self.disconnect(peer, ErrorCode::NO_ERROR, Operation::CONNECT, Severity::NORMAL);
        }
    }

    /// Whether peers are connected to by TCP, and by uTP. A proxy connects by TCP, and what went past it would tell who we
    /// are.
    fn dials_by(&self) -> (bool, bool) {
        let utp = self.settings.enable_outgoing_utp && self.peer_proxy().is_none();
        (self.settings.enable_outgoing_tcp, utp)
    }

    /// How a peer may be connected to. `None`: not at all.
    fn dial(&self, torrent: TorrentHandle, address: SocketAddr) -> Option<Dial> {
        match self.dials_by() {
            (false, false) => None,
            (true, false) => Some(Dial::Tcp),
            (false, true) => Some(Dial::Utp),
            (true, true) => {
                let known = self.torrent(torrent).and_then(|t| t.candidates.known(address));
                let is = |what: fn(&Known<PeerHandle>) -> bool| known.is_some_and(what);
                Some(Dial::Race {
                    speaks_utp: is(|known| known.speaks_utp),
                    utp_first: is(|known| known.declined_tcp),
                })
            }
        }
    }

    /// The next peer to be tried, if one may be.
    fn next_candidate(&mut self, torrent: TorrentHandle) -> Option<SocketAddr> {
        if self.phase != SessionPhase::Running || self.is_full(torrent) || self.connects_left == 0 {
            return None;
        }
        if self.dials_by() == (false, false) {
            return None;
        }
        let (now, filter) = (self.now, self.ip_filter.clone());
        let t = self.torrent_mut(torrent).filter(|t| t.takes_peers() && !t.held_by_session)?;
        let address = loop {
            let address = t.candidates.next(now, t.is_finished())?;
            if !filter.blocks(address.ip()) {
                break address;
            }
            // It was connected when the filter came.
            t.candidates.forget(address);
        };
        self.connects_left -= 1;
        Some(address)
    }

    /// A connection is up, and belongs to a torrent.
    pub(super) fn announce_connection(&mut self, peer: PeerHandle) {
        let Some(connection) = self.peer(peer) else { return };
        let (address, incoming, torrent) = (connection.remote, !connection.outgoing, connection.torrent);
        if let Some(torrent) = torrent {
            let socket_type = connection.transport.name().to_owned();
            self.alert(AlertKind::PeerConnect { torrent, peer, address, incoming, socket_type });
        }
    }

    /// What we say first on a connection.
    pub(super) fn handshake(&mut self, peer: PeerHandle) -> Option<Handshake> {
        let (reserved, peer_id) = (super::handshake::RESERVED, self.peer_id);
        let (_, torrent) = self.pair(peer).filter(|(connection, _)| !connection.is_closing())?;
        let info_hash = torrent.description.info_hashes().truncated();
        Some(Handshake { reserved, info_hash, peer_id })
    }

    /// Undoes everything that names a connection. Whether its peer is to be called again at once.
    fn forget_peer(&mut self, peer: PeerHandle, closing: Closing) -> bool {
        self.uncount(peer);
        self.return_bandwidth(peer);
        let Some(mut connection) = self.remove_peer(peer) else { return false };
        self.takers -= u32::from(connection.takes_much);
        if !connection.choked {
            self.unchoked = self.unchoked.saturating_sub(1);
            self.trigger_choker();
        }
        let Some(torrent) = connection.torrent else {
            self.alert_of_end(peer, &connection, closing);
            return false;
        };
        let (address, now) = (connection.remote, self.now);
        let ourselves = closing.error == ErrorCode::SELF_CONNECTION;
        let another = !ourselves && self.is_worth_another_greeting(&connection, closing);
        // One that was silent all the while need not be asked again so soon, unless it may have been waiting for more.
        let silent = closing.error == ErrorCode::TIMED_OUT_NO_HANDSHAKE;
        let at_once = another && !(silent && connection.greeting == Greeting::Clear);
        let banned = self.bans.contains(address.ip());
        if let Some(t) = self.torrent_mut(torrent) {
            t.peers.retain(|other| *other != peer);
            t.company_mut().held.retain(|other| *other != peer);
            let failed = closing.severity >= Severity::FAILURE;
            if connection.web.is_none() {
                if t.picker.is_downloader(peer) {
                    t.company_mut().departed.insert(peer, connection.known_as);
                }
                // Of no use once we have everything too.
                if connection.bitfield_received {
                    t.candidates.set_seed(connection.known_as, connection.upload_only());
                }
                if connection.outgoing
                    && connection.transport == Transport::Tcp
                    && connection.phase > Phase::Connecting
                {
                    let by_peer = [Operation::SOCK_READ, Operation::SOCK_WRITE].contains(&closing.operation);
                    let declined = connection.phase == Phase::Handshaking && by_peer;
                    t.candidates.set_declined_tcp(connection.known_as, declined);
                }
                match at_once {
                    true => t.candidates.released(connection.known_as),
                    false => t.candidates.disconnected(connection.known_as, now, failed),
                }
                if another {
                    t.candidates.retry(connection.known_as, connection.greeting.other());
                }
                let sources = t.candidates.known(connection.known_as).map(|known| known.sources);
                let untracked = sources.is_some_and(is_untracked) && t.is_private();
                if banned || untracked {
                    t.candidates.forget(connection.known_as);
                }
                if ourselves && connection.outgoing {
                    t.candidates.give_up(connection.known_as);
                }
            }
            t.picker.forget_peer(peer);
        }
        self.forget_web_seed(&mut connection, closing);
        self.alert_of_end(peer, &connection, closing);
        // What it was asked for can be asked of others.
        for other in self.peers_of(torrent) {
            self.request_blocks(other);
        }
        self.schedule_torrent(torrent);
        at_once
    }

    /// Also of a stranger's connection, which ended before it was known whom it wanted.
    fn alert_of_end(&mut self, peer: PeerHandle, connection: &Connection, closing: Closing) {
        let torrent = connection.torrent.unwrap_or(TorrentHandle::INVALID);
        let (address, error) = (connection.remote, closing.error);
        if error.is_error() && closing.severity == Severity::PEER_ERROR {
            self.alert(AlertKind::PeerError { torrent, peer, address, error });
        } else if error.is_error() {
            self.alert(AlertKind::PeerDisconnected { torrent, peer, address, error });
        }
    }
}

/// Why an offer was refused, as plugins are told.
fn refusal_code(why: Reason) -> Refusal {
    match why {
        Reason::Port | Reason::Address => Refusal::UNUSABLE,
        Reason::Filtered => Refusal::FILTER,
        Reason::Banned => Refusal::BANNED,
        Reason::Private => Refusal::PRIVATE,
        Reason::Full | Reason::Connected => Refusal::LIST_FULL,
    }
}
