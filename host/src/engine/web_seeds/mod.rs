//! Web seeds: servers of files, which plugins see as peers that have everything (BEP 19, BEP 17).
//!
//! A torrent that has its metadata, whose files are checked, and that is not finished connects to them; they are no part of
//! its list of peers. What a server does is told to plugins in the words of the peer protocol, as `MessageOrigin::IMPLIED`:
//! have-all, unchoke, blocks. Nothing is said to it in those words, so that no `sent_` hook is called.
//!
//! | file | what |
//! |---|---|
//! | `mod` | connections come and go |
//! | `requests` | what is asked for |
//! | `responses` | what the servers answer |

mod requests;
mod responses;

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use pilotfish_plugin::{
    Attach, ConnectionType, ErrorCode, MessageOrigin, Operation, PeerHandle, PeerHooks, Severity,
    TorrentHandle,
};
use rand::Rng;

use super::Engine;
use super::output::{Dial, Output, Tls};
use super::state::{Lookup, SessionPhase, State};
use crate::alert::AlertKind;
use crate::peer::web::{Site, WebLimits, WebLink, WebSeedId};
use crate::peer::{Closing, Connection, Phase};
use crate::torrent::Has;
use crate::wire::Message;

impl Engine {
    /// Connects to as many web seeds as are wanted now.
    pub(super) fn call_web_seeds(&mut self, torrent: TorrentHandle) {
        while let Some(seed) = self.state.next_web_seed(torrent) {
            self.try_web_seed(torrent, seed);
            self.pump();
        }
    }

    fn try_web_seed(&mut self, torrent: TorrentHandle, seed: WebSeedId) {
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        let (layout, info_hash) = (t.layout.clone(), t.description.info_hashes().truncated());
        let Some(known) = t.web_seeds.get_mut(seed) else { return };
        let site = match known.site(layout, info_hash) {
            Ok(site) => site,
            Err(error) => {
                known.disable();
                return self.state.tell_url_seed(torrent, seed, error.to_string());
            }
        };
        if known.addresses.is_empty() {
            match site.address() {
                Some(ip) => known.addresses.push_back(ip),
                None => {
                    known.looking_up = true;
                    let lookup = Lookup::WebSeed(torrent, seed);
                    return self.state.look_up(lookup, site.host_name());
                }
            }
        }
        match known.address(site.port()) {
            Some(address) => self.connect_web_seed(torrent, seed, site, address),
            None => known.disable(),
        }
    }

    fn connect_web_seed(&mut self, torrent: TorrentHandle, seed: WebSeedId, site: Site, address: SocketAddr) {
        let state = &mut self.state;
        if let Some(why) = state.forbids_web_seed(torrent, seed, &site, address.ip()) {
            return state.give_web_seed_up(torrent, seed, why);
        }
        if state.blocks(torrent, address) {
            // Another of its addresses may do, and the filter may change.
            let wait = state.now + state.settings.urlseed_wait_retry.duration();
            let known = state.torrent_mut(torrent).and_then(|t| t.web_seeds.get_mut(seed));
            return known.into_iter().for_each(|known| {
                known.addresses.pop_front();
                known.wait_until(wait);
            });
        }
        let limits = WebLimits {
            max_request: state.settings.urlseed_max_request_bytes.into(),
            pipeline: state.settings.urlseed_pipeline_size as usize,
        };
        let mut connection = Connection::new(address, true, state.request_limits(), state.now);
        state.rng.fill_bytes(&mut connection.pid);
        connection.torrent = Some(torrent);
        // Nothing of the kind takes place, and it wants nothing of us.
        connection.in_handshake = false;
        connection.said_upload_only = true;
        connection.client = format!("URL seed @ {}", site.host_name());
        let validate = state.settings.validate_https_trackers;
        let tls = site.is_https().then(|| Tls { host: site.host_name(), validate });
        let Some(manners) = state.web_seed(torrent, seed).map(|known| known.manners) else { return };
        connection.web = Some(Box::new(WebLink::new(seed, site, manners, limits)));
        let peer = state.insert_peer(connection);
        let Some(t) = state.torrent_mut(torrent) else { return };
        if let Some(known) = t.web_seeds.get_mut(seed) {
            known.connection = Some(peer);
        }
        t.peers.push(peer);
        if !self.sprout_peer(peer, torrent, Attach::OUTGOING) {
            self.state.disconnect(peer, ErrorCode::PLUGIN_PANICKED, Operation::UNKNOWN, Severity::NORMAL);
        }
        if self.open_peer(peer).is_some() {
            self.state.outputs.push_back(Output::Connect { peer, address, dial: Dial::Tcp, tls });
        }
    }

    /// The connection is up: plugins hear of it, and then of what the server has, and that it may be asked.
    pub(super) fn on_web_connected(&mut self, peer: PeerHandle, local: SocketAddr) {
        let now = self.state.now;
        let Some(connection) = self.open_peer(peer) else { return };
        connection.local = Some(local);
        connection.phase = Phase::Established;
        connection.last_received = now;
        self.tell_peer(peer, PeerHooks::on_connected, |p, cx| p.on_connected(cx));
        self.state.announce_connection(peer);
        self.pump();
        let Some((has, suggested)) = self.state.introduce_web_seed(peer) else { return };
        let implied = MessageOrigin::IMPLIED;
        let said = std::iter::once(has).chain(suggested.map(Message::Suggest));
        for message in said.chain([Message::Unchoke]) {
            if self.open_peer(peer).is_none() {
                return;
            }
            self.inbound(peer, message, implied);
            self.pump();
        }
    }

    /// What became of the name of a web seed's host.
    pub(super) fn on_web_seed_resolved(
        &mut self,
        torrent: TorrentHandle,
        seed: WebSeedId,
        addresses: io::Result<Vec<IpAddr>>,
    ) {
        let wait = self.state.settings.web_seed_name_lookup_retry.duration();
        let retry = self.state.now + wait;
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        let Some(known) = t.web_seeds.get_mut(seed) else { return };
        known.looking_up = false;
        match addresses {
            Ok(addresses) if !addresses.is_empty() => {
                known.addresses = addresses.into();
                self.call_web_seeds(torrent);
            }
            failed => {
                known.wait_until(retry);
                let error = failed.err().map_or_else(|| "no address".to_owned(), |error| error.to_string());
                self.state.tell_url_seed(torrent, seed, format!("cannot look up its host: {error}"));
            }
        }
        self.state.schedule_torrent(torrent);
    }

    /// The embedding program knows another web seed.
    pub(super) fn add_web_seed(&mut self, torrent: TorrentHandle, url: &str, kind: ConnectionType) {
        if let Some(t) = self.state.torrent_mut(torrent) {
            t.web_seeds.add(url, kind);
            self.connect_peers(torrent);
        }
    }

    /// A web seed is not to be used any more.
    pub(super) fn remove_web_seed(&mut self, torrent: TorrentHandle, url: &str, kind: ConnectionType) {
        let removed = self.state.torrent_mut(torrent).and_then(|t| t.web_seeds.remove(url, kind));
        if let Some(peer) = removed.and_then(|seed| seed.connection) {
            self.state.disconnect(peer, ErrorCode::NO_ERROR, Operation::BITTORRENT, Severity::NORMAL);
        }
    }
}

impl State {
    /// The next web seed to be connected to, if one may be.
    fn next_web_seed(&self, torrent: TorrentHandle) -> Option<WebSeedId> {
        if self.phase != SessionPhase::Running || self.num_peers() >= self.settings.connections_limit as usize
        {
            return None;
        }
        let t = self.torrent(torrent).filter(|t| t.wants_web_seeds())?;
        t.web_seeds.next(self.now, self.settings.max_web_seed_connections as usize)
    }

    fn web_seed(
        &self,
        torrent: TorrentHandle,
        seed: WebSeedId,
    ) -> Option<&crate::torrent::WebSeed<PeerHandle>> {
        self.torrent(torrent)?.web_seeds.get(seed)
    }

    /// Why a web seed must not be connected to, if so: a stranger's URL could make us speak to a server that only we can reach
    /// (the setting `ssrf_mitigation`).
    fn forbids_web_seed(
        &self,
        torrent: TorrentHandle,
        seed: WebSeedId,
        site: &Site,
        ip: IpAddr,
    ) -> Option<&'static str> {
        if !self.settings.ssrf_mitigation || !is_local(ip) {
            return None;
        }
        if site.url().query().is_some_and(|query| !query.is_empty()) {
            return Some("a URL with a query must not lead to a local address");
        }
        let from_outside = self.web_seed(torrent, seed).is_some_and(|known| known.no_local_addresses);
        from_outside.then_some("a redirect from elsewhere must not lead to a local address")
    }

    /// A web seed is of no use, and never will be.
    fn give_web_seed_up(&mut self, torrent: TorrentHandle, seed: WebSeedId, why: impl ToString) {
        self.tell_url_seed(torrent, seed, why.to_string());
        if let Some(known) = self.torrent_mut(torrent).and_then(|t| t.web_seeds.get_mut(seed)) {
            known.disable();
        }
    }

    /// Tells what is wrong with a web seed.
    fn tell_url_seed(&mut self, torrent: TorrentHandle, seed: WebSeedId, error: String) {
        let url = self.web_seed(torrent, seed).map(|known| known.url.clone()).unwrap_or_default();
        self.alert(AlertKind::UrlSeed { torrent, url, error });
    }

    /// A web seed cannot be connected to, or is not who it should be.
    pub(super) fn tell_unreachable(&mut self, peer: PeerHandle, error: &io::Error) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let (Some(web), torrent) = (&connection.web, torrent.handle) else { return };
        let (seed, error) = (web.seed(), format!("cannot connect to {}: {error}", connection.remote));
        self.tell_url_seed(torrent, seed, error);
    }

    /// What a web seed has, in the words of a peer, and the piece of which it has sent a part before.
    fn introduce_web_seed(&mut self, peer: PeerHandle) -> Option<(Message, Option<u32>)> {
        let seed = self.peer(peer)?.web.as_ref()?.seed();
        let (_, torrent) = self.pair(peer)?;
        let layout = torrent.layout.clone();
        let known = torrent.web_seeds.get_mut(seed)?;
        let has = match known.has(&layout) {
            Has::All => Message::HaveAll,
            Has::None => {
                known.lose_interest();
                Message::HaveNone
            }
            Has::Some(pieces) => Message::Bitfield(Bytes::copy_from_slice(pieces.as_bytes())),
        };
        Some((has, known.partial.as_ref().map(|partial| partial.span.piece.get())))
    }

    /// Notes what became of a web seed, whose connection has ended.
    pub(super) fn forget_web_seed(&mut self, connection: &mut Connection, closing: Closing) {
        let (now, wait) = (self.now, self.settings.urlseed_wait_retry.duration());
        let (Some(web), Some(torrent)) = (&mut connection.web, connection.torrent) else { return };
        let Some(t) = self.torrent_mut(torrent) else { return };
        let seed = web.seed();
        // To be silent is no failure of whom nothing was asked.
        let silent = matches!(closing.error, ErrorCode::TIMED_OUT_INACTIVITY | ErrorCode::TIMED_OUT);
        let mut failed = closing.severity >= Severity::FAILURE || (silent && !connection.requests.is_empty());
        let banned = matches!(closing.error, ErrorCode::PEER_BANNED | ErrorCode::TOO_MANY_CORRUPT_PIECES);
        if let Some(known) = t.web_seeds.get_mut(seed) {
            if closing.operation == Operation::CONNECT {
                known.addresses.pop_front();
                // The next address may answer.
                failed = known.addresses.is_empty();
            }
            if let Some(partial) = web.take_partial() {
                t.redundant_bytes += known.partial.replace(partial).map_or(0, |old| old.bytes());
            }
            if closing.error == ErrorCode::UNINTERESTING_UPLOAD_PEER {
                match known.redirects_before {
                    0 => known.wait_until(now + wait),
                    _ => known.lose_interest(),
                }
            }
            if banned {
                known.ban();
            }
        }
        t.web_seeds.disconnected(seed, now, failed, wait);
        if banned {
            self.tell_url_seed(torrent, seed, "peer banned".to_owned());
        }
    }

    /// A web seed that says nothing for too long is left alone for a while, if the plugins consent.
    pub(super) fn check_web_timeouts(&mut self, peer: PeerHandle) {
        let limit = match self.peer(peer).map(|connection| connection.phase) {
            Some(Phase::Connecting) => self.settings.peer_connect_timeout.duration(),
            _ => self.settings.urlseed_timeout.duration(),
        };
        let now = self.now;
        let Some(connection) = self.peer(peer).filter(|connection| !connection.read_paused) else { return };
        let error = match connection.phase {
            Phase::Connecting => ErrorCode::TIMED_OUT,
            _ => ErrorCode::TIMED_OUT_INACTIVITY,
        };
        if now.duration_since(connection.last_received.max(connection.created)) > limit {
            self.steps.push_back(super::step::Step::AskDisconnect(peer, error));
        }
    }
}

/// Whether an address is one that others cannot reach.
fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_unique_local()
        }
    }
}
