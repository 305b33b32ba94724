//! Local discovery (BEP 14): torrents are announced to everybody on the network, and others' announcements are heard.
//!
//! A private torrent never is (BEP 27). One that was added by a link is, until its metadata tells that it is private: without
//! peers the metadata would never come.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pilotfish_plugin::{PeerSource, TorrentHandle};
use rand::RngExt;

use super::Engine;
use super::output::Output;
use super::state::{SessionPhase, State};
use super::timers::Timer;
use crate::alert::AlertKind;
use crate::wire::lsd::Announcement;

/// Between two rounds passes at least so long, however many torrents are added.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// The most torrents of a round; what is left over comes in the next.
const MOST_TORRENTS: usize = 10;

/// When torrents were announced.
#[derive(Debug, Default)]
pub(super) struct LocalDiscovery {
    announced: HashMap<TorrentHandle, Instant>,
    /// Our datagrams come back to us; this tells them.
    cookie: Option<String>,
    /// When the next round is due.
    round: Option<Instant>,
    last_round: Option<Instant>,
}

impl Engine {
    /// A datagram came to the group of local discovery.
    pub fn local_announcement(&mut self, from: SocketAddr, payload: &[u8], now: Instant) {
        self.state.now = self.state.now.max(now);
        self.on_local_announcement(from, payload);
        self.end_turn();
    }

    fn on_local_announcement(&mut self, from: SocketAddr, payload: &[u8]) {
        let state = &mut self.state;
        if !state.settings.enable_lsd || state.phase != SessionPhase::Running {
            return;
        }
        let Some(announcement) = Announcement::parse(payload) else { return };
        if state.local_discovery.cookie.as_ref() == Some(&announcement.cookie) {
            return;
        }
        let address = SocketAddr::new(from.ip(), announcement.port);
        for hash in announcement.info_hashes {
            let Some(torrent) = self.state.by_hash.get(&hash).copied() else { continue };
            if self.state.is_announced_locally(torrent) {
                self.state.alert(AlertKind::LsdPeer { torrent, address });
                self.offer_peer(torrent, address, PeerSource::LSD);
                self.pump();
            }
        }
    }

    /// A round is due: torrents that have not been announced for long are.
    pub(super) fn on_lsd_timeout(&mut self) {
        let state = &mut self.state;
        let now = state.now;
        if state.local_discovery.round.is_some_and(|at| at <= now) {
            state.local_discovery.round = None;
            state.local_discovery.last_round = Some(now);
            state.announce_locally();
            state.arm_lsd();
        }
    }
}

impl State {
    /// A torrent may have become one that is to be announced.
    pub(super) fn schedule_lsd(&mut self, torrent: TorrentHandle) {
        if !self.local_discovery.announced.contains_key(&torrent) && self.is_announced_locally(torrent) {
            let rested = self.local_discovery.last_round.map_or(self.now, |last| last + LEAST_PAUSE);
            self.set_round(rested.max(self.now));
        }
    }

    /// The setting was changed.
    pub(super) fn update_lsd(&mut self) {
        self.local_discovery.announced.clear();
        for torrent in self.order.clone() {
            self.schedule_lsd(torrent);
        }
    }

    /// Whether a torrent is announced to everybody on the network.
    fn is_announced_locally(&self, torrent: TorrentHandle) -> bool {
        self.settings.enable_lsd
            && !self.is_private(torrent)
            && self.torrent(torrent).is_some_and(|t| t.takes_peers() && !t.held_by_session)
    }

    fn set_round(&mut self, at: Instant) {
        if self.local_discovery.round.is_none_or(|before| at < before) {
            self.local_discovery.round = Some(at);
            self.timers.set(at, Timer::Lsd);
        }
    }

    /// Has the timer run for the torrent that is due next.
    fn arm_lsd(&mut self) {
        let interval = self.settings.local_service_announce_interval.duration();
        let Some(oldest) = self.local_discovery.announced.values().min().copied() else { return };
        let rested = self.local_discovery.last_round.map_or(self.now, |last| last + LEAST_PAUSE);
        self.set_round((oldest + interval).max(rested));
    }

    fn announce_locally(&mut self) {
        let (now, interval) = (self.now, self.settings.local_service_announce_interval.duration());
        let order = self.order.clone();
        let wanted: Vec<TorrentHandle> =
            order.into_iter().filter(|torrent| self.is_announced_locally(*torrent)).collect();
        // One that is paused is told of as soon as it goes on.
        let announced: HashSet<TorrentHandle> = wanted.iter().copied().collect();
        self.local_discovery.announced.retain(|torrent, _| announced.contains(torrent));
        let last = &self.local_discovery.announced;
        let mut due: Vec<TorrentHandle> = wanted;
        due.retain(|torrent| last.get(torrent).is_none_or(|last| now >= *last + interval));
        // Those that were never told of come first, then those that have waited longest.
        due.sort_by_key(|torrent| last.get(torrent));
        if due.len() > MOST_TORRENTS {
            due.truncate(MOST_TORRENTS);
            self.set_round(now + LEAST_PAUSE);
        }
        let mut hashes = Vec::new();
        for torrent in due {
            self.local_discovery.announced.insert(torrent, now);
            if let Some(t) = self.torrent(torrent) {
                let names = t.description.info_hashes();
                hashes.push(names.truncated());
                hashes.extend(Some(names.best()).filter(|best| *best != names.truncated()));
            }
        }
        for hash in hashes {
            self.send_local_announcement(hash);
        }
    }

    /// In a datagram of its own, as libtorrent does it: Transmission reads none that is longer than 200 bytes, and the first
    /// hash only.
    fn send_local_announcement(&mut self, info_hash: [u8; 20]) {
        let fresh = self.rng.random::<u32>();
        let cookie = self.local_discovery.cookie.get_or_insert_with(|| format!("{fresh:x}")).clone();
        for is_v4 in [true, false] {
            let ours = self.listening.iter().find(|address| address.is_ipv4() == is_v4);
            let Some(port) = ours.map(SocketAddr::port) else { continue };
            let announcement = Announcement { port, info_hashes: vec![info_hash], cookie: cookie.clone() };
            let payload = announcement.encode(is_v4).into();
            self.outputs.push_back(Output::LocalAnnouncement { is_v4, payload });
        }
    }
}
