//! What happens when time passes.

use std::time::Duration;

use pilotfish_plugin::{
    ErrorCode, Operation, PeerHandle, PeerHooks, SessionHooks, Severity, TorrentHandle, TorrentHooks,
};

use super::Engine;
use super::state::{SessionPhase, State};
use super::step::Step;
use super::timers::Timer;
use crate::alert::AlertKind;
use crate::peer::{Direction, Phase};
use crate::wire::Message;

/// The period of plugins' ticks.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// How long plugins have to finish after `abort`.
pub(super) const ABORT_TIME: Duration = Duration::from_secs(2);
/// A connection that is silent for so long gets a keep-alive; peers give up after two minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(100);
/// Each earlier failure gives an attempt to connect so much more time.
const MORE_TO_CONNECT: Duration = Duration::from_secs(3);

impl Engine {
    pub(super) fn start_ticking(&mut self) {
        self.state.next_tick = self.state.now + TICK;
        self.state.timers.set(self.state.next_tick, Timer::Session);
    }

    /// Does what is due, that included which becomes due meanwhile.
    pub(super) fn on_timeout(&mut self) {
        if self.state.timers.take_soon() {
            self.deliver_messages();
            self.pump();
        }
        while let Some(timer) = self.state.timers.due(self.state.now) {
            match timer {
                Timer::Session => self.session_tick(),
                Timer::Torrent(torrent) => self.torrent_tick(torrent),
                Timer::Bandwidth => self.state.share_bandwidth(),
                Timer::Announce(torrent) => self.on_announce_timer(torrent),
                Timer::Request(request) => self.on_request_timer(request),
                Timer::Choker => self.choke_round(),
                Timer::Lsd => self.on_lsd_timeout(),
                Timer::Dht => self.on_dht_timeout(),
                Timer::PortMappings => self.finish_shutdown(),
                Timer::Interest(peer) => self.state.settle_interest(peer),
            }
            self.pump();
        }
    }

    fn session_tick(&mut self) {
        let state = &mut self.state;
        if state.phase == SessionPhase::Stopped {
            return;
        }
        // The end of the time after `abort` uses the same deadline without being a tick.
        if state.now >= state.next_tick {
            state.next_tick = state.now + TICK;
            state.timers.set(state.next_tick, Timer::Session);
            state.connects_left = state.settings.connection_speed;
            state.exchanges_left = super::encryption::EXCHANGES;
            let deferred = std::mem::take(&mut state.deferred);
            state.steps.extend(deferred);
            self.pump();
            let Self { state, chains } = self;
            chains.session.tell(state, (), SessionHooks::on_tick, |p, cx| p.on_tick(cx));
            self.pump();
            self.deliver_messages();
            self.state.close_late_handshakes();
            self.pump();
            self.choke_round();
        }
        self.pump();
        self.continue_shutdown();
    }

    fn torrent_tick(&mut self, torrent: TorrentHandle) {
        let now = self.state.now;
        let Some(t) = self.state.torrent_mut(torrent).filter(|t| t.timer.is_some_and(|at| at <= now)) else {
            return;
        };
        t.timer = None;
        t.payload_down.tick(now);
        t.payload_up.tick(now);
        self.tell_torrent(torrent, TorrentHooks::tick, |p, cx| p.tick(cx));
        self.pump();
        for peer in self.state.peers_of(torrent) {
            self.peer_tick(peer);
        }
        self.pump();
        self.call_candidates(torrent);
        self.state.schedule_torrent_tick(torrent, self.ticks(torrent));
    }

    /// Whether a plugin on this torrent wants a tick even while nothing happens.
    fn ticks(&self, torrent: TorrentHandle) -> bool {
        self.chains.torrents.get(torrent).is_some_and(|chain| chain.has(TorrentHooks::tick))
    }

    fn peer_tick(&mut self, peer: PeerHandle) {
        let now = self.state.now;
        let Some(connection) = self.open_peer(peer) else { return };
        connection.down.tick(now);
        connection.up.tick(now);
        connection.payload_down.tick(now);
        connection.payload_up.tick(now);
        connection.send_ahead.tick();
        connection.requests.tick(now);
        self.state.count_taker(peer);
        self.state.take_idle_bandwidth(peer);
        self.tell_peer(peer, PeerHooks::tick, |p, cx| p.tick(cx));
        self.pump();
        if self.open_peer(peer).is_some() {
            self.state.check_timeouts(peer);
            self.state.check_snubbed(peer);
            self.state.request_blocks(peer);
            self.state.fill_uploads(peer);
            self.state.settle_draining(peer);
        }
    }
}

impl State {
    /// Has a torrent's timer run, if it has anything to do.
    pub(super) fn schedule_torrent(&mut self, torrent: TorrentHandle) {
        self.schedule_torrent_tick(torrent, true);
    }

    /// A torrent ticks while it has connections or a plugin that wants ticks; else it sleeps until a peer may be tried again.
    fn schedule_torrent_tick(&mut self, torrent: TorrentHandle, ticks: bool) {
        let now = self.now;
        let Some(t) = self.torrent_mut(torrent) else { return };
        let finished = t.is_finished();
        let reconnect = if t.takes_peers() { t.candidates.next_deadline(now, finished) } else { None };
        let web_seed = if t.wants_web_seeds() { t.web_seeds.next_deadline(now) } else { None };
        let reconnect = reconnect.into_iter().chain(web_seed).min();
        let busy = ticks || !t.peers.is_empty() || t.payload_down.rate() > 0 || t.payload_up.rate() > 0;
        let at = if busy { Some(now + TICK) } else { reconnect.map(|at| at.max(now + TICK)) };
        let Some(at) = at else { return };
        if t.timer.is_none_or(|timer| at < timer) {
            t.timer = Some(at);
            self.timers.set(at, Timer::Torrent(torrent));
        }
    }

    /// Incoming connections that have not said which torrent they mean in time.
    fn close_late_handshakes(&mut self) {
        let (now, limit) = (self.now, self.settings.handshake_timeout.duration());
        let late: Vec<PeerHandle> = self
            .peers()
            .filter(|(_, c)| {
                c.torrent.is_none() && c.phase == Phase::Handshaking && now.duration_since(c.created) > limit
            })
            .map(|(peer, _)| peer)
            .collect();
        for peer in late {
            self.disconnect(peer, ErrorCode::TIMED_OUT_NO_HANDSHAKE, Operation::BITTORRENT, Severity::NORMAL);
        }
    }

    /// Closes a connection that takes too long for what it is doing. Plugins are asked where that is policy.
    fn check_timeouts(&mut self, peer: PeerHandle) {
        let settings = &self.settings;
        let (connect, handshake) =
            (settings.peer_connect_timeout.duration(), settings.handshake_timeout.duration());
        let (silence, boredom) = (settings.peer_timeout.duration(), settings.inactivity_timeout.duration());
        let scarce = self.num_peers() * 10 >= settings.connections_limit as usize * 9;
        let now = self.now;
        let Some(connection) = self.peer(peer) else { return };
        if connection.web.is_some() {
            return self.check_web_timeouts(peer);
        }
        let known = connection.torrent.and_then(|t| self.torrent(t)?.candidates.known(connection.known_as));
        let connect = connect + MORE_TO_CONNECT * known.map_or(0, |known| known.failcount.into());
        let age = now.duration_since(connection.created);
        let ask = |error| Step::AskDisconnect(peer, error);
        let step = match connection.phase {
            Phase::Connecting if age > connect => Some(ask(ErrorCode::TIMED_OUT)),
            Phase::Handshaking if age > handshake + connect => {
                let error = ErrorCode::TIMED_OUT_NO_HANDSHAKE;
                return self.disconnect(peer, error, Operation::BITTORRENT, Severity::NORMAL);
            }
            Phase::Established
                if now.duration_since(connection.last_received) > silence
                    && !connection.read_paused
                    && !connection.allowances[Direction::Download as usize].waits =>
            {
                Some(ask(ErrorCode::TIMED_OUT_INACTIVITY))
            }
            Phase::Established
                if scarce
                    && !connection.interesting
                    && !connection.peer_interested
                    && now.duration_since(connection.became_uninteresting) > boredom
                    && now.duration_since(connection.became_uninterested) > boredom =>
            {
                Some(ask(ErrorCode::TIMED_OUT_NO_INTEREST))
            }
            Phase::Established
                if !connection.choked
                    && connection.peer_interested
                    && connection.upload_queue.is_empty()
                    && connection.reading.is_empty()
                    && connection.outbox.is_empty()
                    && scarce
                    && now.duration_since(connection.last_incoming_request) > Duration::from_secs(60) =>
            {
                Some(ask(ErrorCode::TIMED_OUT_NO_REQUEST))
            }
            _ => None,
        };
        let quiet =
            connection.phase == Phase::Established && now.duration_since(connection.last_sent) > KEEP_ALIVE;
        self.steps.extend(step);
        if quiet {
            self.send(peer, &Message::KeepAlive);
        }
    }

    /// A peer that owes us blocks and sends none: they are asked of others.
    fn check_snubbed(&mut self, peer: PeerHandle) {
        let now = self.now;
        let Some((connection, torrent)) = self.pair(peer) else { return };
        if !connection.requests.timed_out(now) {
            return;
        }
        let first = !connection.requests.is_snubbed();
        connection.requests.snub(now);
        let spans = connection.requests.clear();
        torrent.picker.abort_all(peer, &spans);
        let (address, handle, web) = (connection.remote, torrent.handle, connection.web.is_some());
        if web {
            // Its answers come in the order of the requests: there is no going on behind one that is given up.
            self.steps.push_back(Step::AskDisconnect(peer, ErrorCode::TIMED_OUT_INACTIVITY));
        }
        self.alert(AlertKind::BlockTimeout { torrent: handle, peer, address });
        if first {
            self.alert(AlertKind::PeerSnubbed { torrent: handle, peer, address });
        }
        for other in self.peers_of(handle) {
            if other != peer {
                self.request_blocks(other);
            }
        }
    }
}
