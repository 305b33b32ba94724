//! Rate limits: who may move how many bytes, and when.
//!
//! A connection to which a limit applies moves what it was granted, and then asks. If nobody waits it is answered at once, as
//! far as the budgets of the session, its torrent and itself allow. Else it waits for the next round, in which everybody who
//! waits has an equal share, and what some do not need goes to the others. Rounds come in short intervals while somebody
//! waits, and not at all otherwise.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use pilotfish_plugin::{PeerHandle, TorrentHandle};

use super::output::Output;
use super::state::State;
use super::timers::Timer;
use crate::command::TorrentLimit;
use crate::peer::{Budget, Direction, LEAST_GRANT, ip_overhead};
use crate::settings::Settings;

/// The time between two rounds.
const ROUND: Duration = Duration::from_millis(50);
/// So often what is left in a round is shared out again.
const PASSES: usize = 4;

/// The session's budgets, and who waits for bandwidth; both by [`Direction`].
#[derive(Debug)]
pub(super) struct Bandwidth {
    session: [Budget; 2],
    /// Those that ask first are served first. Some of them may be gone, or wait no more.
    waiting: [VecDeque<PeerHandle>; 2],
    /// Whether the next round is among the deadlines.
    armed: bool,
}

impl Bandwidth {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        let limits = [settings.download_rate_limit, settings.upload_rate_limit];
        Self {
            session: limits.map(|limit| Budget::new(limit, now)),
            waiting: Default::default(),
            armed: false,
        }
    }
}

impl State {
    /// The settings may have changed the session's limits.
    pub(super) fn apply_session_limits(&mut self) {
        let now = self.now;
        let limits = [self.settings.download_rate_limit, self.settings.upload_rate_limit];
        if self.bandwidth.session.map(|budget| budget.limit()) == limits {
            return;
        }
        for (budget, limit) in self.bandwidth.session.iter_mut().zip(limits) {
            budget.set_limit(limit, now);
        }
        let peers: Vec<PeerHandle> = self.peers().map(|(peer, _)| peer).collect();
        peers.into_iter().for_each(|peer| self.apply_rate_limits(peer));
    }

    /// Changes one of a torrent's limits. `None`: there is no such torrent.
    pub(super) fn set_torrent_limit(&mut self, torrent: TorrentHandle, limit: TorrentLimit) -> Option<()> {
        let now = self.now;
        let t = self.torrent_mut(torrent)?;
        let (direction, limit) = match limit {
            TorrentLimit::Upload(limit) => (Direction::Upload, limit),
            TorrentLimit::Download(limit) => (Direction::Download, limit),
            TorrentLimit::Uploads(most) => {
                t.max_uploads = most;
                self.trigger_choker();
                return Some(());
            }
            TorrentLimit::Connections(most) => {
                t.max_connections = most;
                self.enforce_connection_limits();
                return Some(());
            }
        };
        t.budgets[direction as usize].set_limit(limit, now);
        self.peers_of(torrent).into_iter().for_each(|peer| self.apply_rate_limits(peer));
        Some(())
    }

    /// Changes one of a connection's limits, in B/s. `None`: there is no such connection.
    pub(super) fn set_peer_limit(
        &mut self,
        peer: PeerHandle,
        direction: Direction,
        limit: u32,
    ) -> Option<()> {
        let now = self.now;
        self.peer_mut(peer)?.allowances[direction as usize].own.set_limit(limit, now);
        self.apply_rate_limits(peer);
        Some(())
    }

    /// The limits of a connection are, or may be, others than before.
    pub(super) fn apply_rate_limits(&mut self, peer: PeerHandle) {
        for direction in Direction::BOTH {
            let mut limited = false;
            self.on_path(peer, direction, |budget| limited |= budget.is_limited());
            let Some(connection) = self.peer_mut(peer) else { return };
            let allowance = &mut connection.allowances[direction as usize];
            if !limited && !allowance.is_limited() {
                continue;
            }
            let void = allowance.set_limited(limited);
            self.on_path(peer, direction, |budget| budget.give_back(void));
            match limited {
                true => self.ask_for_bandwidth(peer, direction),
                false => self.flow(peer, direction),
            }
        }
    }

    /// A connection moved so many bytes.
    #[inline]
    pub(super) fn moved(&mut self, peer: PeerHandle, direction: Direction, bytes: u64) {
        let Some(connection) = self.peer_mut(peer) else { return };
        let limited = connection.allowances.each_ref().map(|allowance| allowance.is_limited());
        if limited == [false; 2] {
            return;
        }
        let spent = connection.allowances[direction as usize].moved(bytes);
        let ipv6 = connection.remote.is_ipv6();
        if self.settings.rate_limit_ip_overhead {
            let overhead = ip_overhead(bytes, ipv6);
            for direction in Direction::BOTH.into_iter().filter(|direction| limited[*direction as usize]) {
                self.on_path(peer, direction, |budget| budget.spend(overhead));
            }
        }
        if spent {
            self.ask_for_bandwidth(peer, direction);
        }
    }

    /// A connection has used up what it was granted, and would move more.
    pub(super) fn ask_for_bandwidth(&mut self, peer: PeerHandle, direction: Direction) {
        let now = self.now;
        let Some(connection) = self.peer_mut(peer).filter(|connection| !connection.is_closing()) else {
            return;
        };
        if connection.allowances[direction as usize].waits || connection.wants(direction) == 0 {
            return;
        }
        if self.bandwidth.waiting[direction as usize].is_empty() && self.grant(peer, direction, u64::MAX) > 0
        {
            return self.flow(peer, direction);
        }
        let Some(connection) = self.peer_mut(peer) else { return };
        connection.allowances[direction as usize].waits = true;
        if direction == Direction::Download {
            connection.requests.pause(now);
        }
        self.bandwidth.waiting[direction as usize].push_back(peer);
        self.arm_bandwidth();
    }

    fn arm_bandwidth(&mut self) {
        if !std::mem::replace(&mut self.bandwidth.armed, true) {
            self.timers.set(self.now + ROUND, Timer::Bandwidth);
        }
    }

    /// A round: everybody who waits has a share.
    pub(super) fn share_bandwidth(&mut self) {
        self.bandwidth.armed = false;
        Direction::BOTH.into_iter().for_each(|direction| self.share(direction));
        if self.bandwidth.waiting.iter().any(|waiting| !waiting.is_empty()) {
            self.arm_bandwidth();
        }
    }

    fn share(&mut self, direction: Direction) {
        let waiting = std::mem::take(&mut self.bandwidth.waiting[direction as usize]);
        // One may stand there twice: its mark is taken off at its first place.
        let waiting: Vec<PeerHandle> =
            waiting.into_iter().filter(|peer| self.stops_waiting(*peer, direction)).collect();
        let mut hungry = waiting.clone();
        for _ in 0..PASSES {
            let shares = self.shares(&hungry, direction);
            hungry.retain(|peer| {
                let torrent = self.peer(*peer).and_then(|connection| connection.torrent);
                let share = shares.get(&None).into_iter().chain(shares.get(&torrent)).min().copied();
                self.grant(*peer, direction, share.unwrap_or(u64::MAX).max(LEAST_GRANT)) > 0
            });
            if hungry.is_empty() {
                break;
            }
        }
        for peer in waiting {
            let Some(connection) = self.peer_mut(peer) else { continue };
            let allowance = &mut connection.allowances[direction as usize];
            if allowance.is_spent() {
                allowance.waits = true;
                self.bandwidth.waiting[direction as usize].push_back(peer);
            } else {
                self.flow(peer, direction);
            }
        }
    }

    /// Takes a connection's mark off. Whether it waited, and still has a use for bandwidth.
    fn stops_waiting(&mut self, peer: PeerHandle, direction: Direction) -> bool {
        let Some(connection) = self.peer_mut(peer) else { return false };
        let waited = std::mem::take(&mut connection.allowances[direction as usize].waits);
        waited && !connection.is_closing() && connection.wants(direction) > 0
    }

    /// What each of these would get if all had the same: of the session (`None`), and of each torrent that has a limit.
    fn shares(&mut self, hungry: &[PeerHandle], direction: Direction) -> HashMap<Option<TorrentHandle>, u64> {
        let now = self.now;
        let mut heads: HashMap<TorrentHandle, u64> = HashMap::new();
        for torrent in hungry.iter().filter_map(|peer| self.peer(*peer)?.torrent) {
            *heads.entry(torrent).or_default() += 1;
        }
        let share = |budget: &mut Budget, heads: u64| {
            budget.fill(now);
            budget.available() / heads.max(1)
        };
        let session = share(&mut self.bandwidth.session[direction as usize], hungry.len() as u64);
        let mut shares = HashMap::from([(None, session)]);
        for (torrent, heads) in heads {
            if let Some(t) = self.torrent_mut(torrent) {
                shares.insert(Some(torrent), share(&mut t.budgets[direction as usize], heads));
            }
        }
        shares
    }

    /// Grants a connection what it wants, as far as the budgets on its way allow, but no more than `most`. How much that is.
    fn grant(&mut self, peer: PeerHandle, direction: Direction, most: u64) -> u64 {
        let (now, mut available) = (self.now, u64::MAX);
        self.on_path(peer, direction, |budget| {
            budget.fill(now);
            available = available.min(budget.available());
        });
        let Some(connection) = self.peer_mut(peer) else { return 0 };
        let wanted = connection.wants(direction);
        let bytes = wanted.min(available).min(most);
        if bytes < wanted.min(LEAST_GRANT) {
            return 0;
        }
        connection.allowances[direction as usize].grant(bytes);
        self.on_path(peer, direction, |budget| budget.spend(bytes));
        bytes
    }

    /// A connection may move bytes again.
    fn flow(&mut self, peer: PeerHandle, direction: Direction) {
        let now = self.now;
        let Some(connection) = self.peer_mut(peer) else { return };
        connection.allowances[direction as usize].waits = false;
        match direction {
            Direction::Download if connection.read_paused => {}
            Direction::Download => {
                let stood_still = connection.requests.is_paused();
                connection.requests.resume(now);
                self.outputs.push_back(Output::Read(peer));
                if stood_still {
                    self.request_blocks(peer);
                }
            }
            Direction::Upload if connection.outbox.is_empty() => {}
            Direction::Upload => self.transmit(peer),
        }
    }

    /// A second has passed: what a connection was granted and has no use for goes to others.
    pub(super) fn take_idle_bandwidth(&mut self, peer: PeerHandle) {
        for direction in Direction::BOTH {
            let Some(connection) = self.peer_mut(peer) else { return };
            let back = connection.allowances[direction as usize].tick();
            if back > 0 {
                self.on_path(peer, direction, |budget| budget.give_back(back));
            }
        }
    }

    /// A connection is about to be forgotten: what it did not use goes to others.
    pub(super) fn return_bandwidth(&mut self, peer: PeerHandle) {
        for direction in Direction::BOTH {
            let Some(connection) = self.peer_mut(peer) else { return };
            let back = connection.allowances[direction as usize].quota().unwrap_or(0);
            self.on_path(peer, direction, |budget| budget.give_back(back));
        }
    }

    /// The budgets that a connection's bytes are taken from: the session's, its torrent's, its own.
    fn on_path(&mut self, peer: PeerHandle, direction: Direction, mut each: impl FnMut(&mut Budget)) {
        each(&mut self.bandwidth.session[direction as usize]);
        if let Some((_, torrent)) = self.pair(peer) {
            each(&mut torrent.budgets[direction as usize]);
        }
        if let Some(connection) = self.peer_mut(peer) {
            each(&mut connection.allowances[direction as usize].own);
        }
    }
}
