//! Whom we serve: unchoke slots, given out by the [`Choker`](crate::torrent::Choker).

use pilotfish_plugin::{NO_SLOT, PeerHandle, SessionHooks};

use super::Engine;
use super::state::State;
use super::timers::Timer;
use crate::hooks::{Chain, Sessions};
use crate::settings::Settings;
use crate::torrent::{Candidate, ChokerLimits};
use crate::wire::Message;

/// The choker's limits, from the settings.
pub(super) fn limits(settings: &Settings) -> ChokerLimits {
    ChokerLimits {
        unchoke_slots_limit: settings.unchoke_slots_limit as usize,
        num_optimistic_unchoke_slots: settings.num_optimistic_unchoke_slots as usize,
        unchoke_interval: settings.unchoke_interval.duration(),
        optimistic_unchoke_interval: settings.optimistic_unchoke_interval.duration(),
    }
}

impl Engine {
    /// Gives the slots out anew, if that is due.
    pub(super) fn choke_round(&mut self) {
        let Self { state, chains } = self;
        let now = state.now;
        if now < state.choker.next_round() {
            return;
        }
        let mut candidates = state.choke_candidates();
        if chains.session.has(SessionHooks::unchoke_score) {
            for candidate in candidates.iter_mut().filter(|candidate| candidate.interested) {
                candidate.score = score(state, &mut chains.session, candidate.peer);
            }
        }
        let mut choker = state.choker.clone();
        // The lowest priority of all plugins counts; nobody's opinion is the highest number.
        let decision = choker.round(now, &candidates, |peer| {
            let lowest = |lowest: u64, _, priority: u64| lowest.min(priority);
            chains.session.fold(
                state,
                (),
                SessionHooks::get_unchoke_priority,
                || u64::MAX,
                |p, cx, priority| p.get_unchoke_priority(cx, peer, priority),
                u64::MAX,
                lowest,
            )
        });
        self.state.choker = choker;
        let Some(decision) = decision else { return };
        for peer in decision.choke {
            self.state.choke_quietly(peer);
        }
        let optimistic = decision.optimistic;
        self.state.mark_optimistic(&candidates, &optimistic);
        decision.unchoke.into_iter().for_each(|peer| self.state.unchoke(peer));
    }
}

/// What plugins think of a peer, all together; `None` if one of them gives it no slot.
fn score(state: &mut State, chain: &mut Chain<Sessions>, peer: PeerHandle) -> Option<i64> {
    chain.fold(
        state,
        (),
        SessionHooks::unchoke_score,
        || 0,
        |p, cx, score| p.unchoke_score(cx, peer, score),
        Some(0),
        |sum: Option<i64>, _, score| sum.filter(|_| score != NO_SLOT).map(|sum| sum.saturating_add(score)),
    )
}

impl State {
    fn choke_candidates(&mut self) -> Vec<Candidate<PeerHandle>> {
        let peers: Vec<PeerHandle> = self
            .peers()
            .filter(|(_, c)| c.is_established() && c.torrent.is_some())
            .map(|(peer, _)| peer)
            .collect();
        let (now, turn) = (self.now, u64::from(self.settings.seeding_piece_quota));
        peers
            .into_iter()
            .filter_map(|peer| {
                let (connection, torrent) = self.pair(peer)?;
                // Without a piece there is nothing to give, and a peer that says otherwise would hold a slot for nothing.
                let serves = torrent.takes_peers() && torrent.picker.num_have() > 0;
                let quota = turn * u64::from(torrent.geometry().piece_length());
                let sent = connection.payload_up.total() - connection.uploaded_at_unchoke;
                // The meter knows nothing yet of what was sent since the last tick.
                let held = connection.last_unchoke.map_or(0, |at| now.duration_since(at).as_secs()).max(1);
                Some(Candidate {
                    peer,
                    interested: connection.peer_interested && serves,
                    choked: connection.choked,
                    optimistic: connection.optimistic,
                    exempt: false,
                    // A seed gives nothing for anything: only what it sends counts.
                    down_rate: if torrent.is_finished() { 0 } else { connection.payload_down.rate() },
                    up_rate: connection.payload_up.rate().max(sent / held),
                    uploaded_since_unchoke: sent,
                    quota,
                    group: (torrent.max_uploads > 0)
                        .then(|| (torrent.handle.into_raw(), torrent.max_uploads as usize)),
                    score: Some(0),
                    last_unchoke: connection.last_unchoke.filter(|at| *at <= now),
                    last_optimistic: connection.last_optimistic,
                })
            })
            .collect()
    }

    fn mark_optimistic(&mut self, candidates: &[Candidate<PeerHandle>], optimistic: &[PeerHandle]) {
        let now = self.now;
        for candidate in candidates {
            let holds = optimistic.contains(&candidate.peer);
            if let Some(connection) = self.peer_mut(candidate.peer) {
                if holds && !connection.optimistic {
                    connection.last_optimistic = Some(now);
                }
                connection.optimistic = holds;
            }
        }
    }

    /// Unchokes a peer if a slot is free; not before it was told what we have, which comes first (BEP 3). Where plugins have
    /// a word in it, they are asked in a round, and that is due at once.
    pub(super) fn maybe_unchoke(&mut self, peer: PeerHandle) {
        let ready = self.peer(peer).is_some_and(|c| c.is_established() && c.bitfield_sent);
        if ready && self.choker.has_free_slot(self.unchoked as usize) && !self.uploads_are_full(peer) {
            match self.scored {
                true => self.trigger_choker(),
                false => self.unchoke(peer),
            }
        }
    }

    /// Whether a peer's torrent is uploaded to as many as it may be.
    fn uploads_are_full(&self, peer: PeerHandle) -> bool {
        let torrent = self.peer(peer).and_then(|connection| self.torrent(connection.torrent?));
        let unchoked = |peers: &[PeerHandle]| {
            peers.iter().filter(|peer| self.peer(**peer).is_some_and(|connection| !connection.choked)).count()
        };
        torrent.is_some_and(|t| t.max_uploads > 0 && unchoked(&t.peers) >= t.max_uploads as usize)
    }

    pub(super) fn unchoke(&mut self, peer: PeerHandle) {
        let now = self.now;
        let Some(connection) = self.peer_mut(peer).filter(|c| c.choked && c.is_established()) else { return };
        connection.choked = false;
        connection.choked_requests = 0;
        connection.last_unchoke = Some(now);
        connection.last_incoming_request = now;
        connection.uploaded_at_unchoke = connection.payload_up.total();
        self.unchoked += 1;
        self.suggest_pieces(peer);
        self.send_and_tell(peer, &Message::Unchoke);
    }

    /// Chokes a peer, and has its slot given to another.
    pub(super) fn choke(&mut self, peer: PeerHandle) {
        if self.choke_quietly(peer) {
            self.trigger_choker();
        }
    }

    /// Has the slots given out anew at once.
    pub(super) fn trigger_choker(&mut self) {
        if let Some(due) = self.choker.trigger(self.now) {
            self.timers.set(due, Timer::Choker);
        }
    }

    /// Chokes a peer. Whether it was not choked before.
    fn choke_quietly(&mut self, peer: PeerHandle) -> bool {
        let Some(connection) = self.peer_mut(peer).filter(|c| !c.choked && !c.is_closing()) else {
            return false;
        };
        connection.choked = true;
        connection.optimistic = false;
        self.unchoked = self.unchoked.saturating_sub(1);
        self.count_taker(peer);
        self.send_and_tell(peer, &Message::Choke);
        self.void_uploads(peer);
        true
    }
}
