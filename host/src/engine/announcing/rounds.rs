//! A tracker that is told the same by IPv4 and by IPv6, so that it knows us by both addresses (BEP 7), and peers of both.
//!
//! What it is told counts as told once the first part is answered, and as failed when the last has failed.

use std::collections::BTreeMap;

use pilotfish_plugin::TorrentHandle;

use super::{Question, Request, Way};
use crate::engine::Engine;
use crate::engine::state::State;
use crate::torrent::TrackerId;
use crate::wire::tracker::{AnnounceEvent, TrackerUrl};

/// The rounds on their way.
#[derive(Debug, Default)]
pub(super) struct Rounds(BTreeMap<u64, Round>);

#[derive(Clone, Copy, Debug)]
struct Round {
    /// Parts that are not over.
    left: u32,
    answered: bool,
}

/// What the end of a part is for its round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// What the round comes to.
    First,
    /// One more answer.
    Later,
    /// A failure, where another part was or may still be answered.
    Nowhere,
}

impl Rounds {
    fn begin(&mut self, round: u64, parts: u32) {
        self.0.insert(round, Round { left: parts, answered: false });
    }

    /// A part is over.
    pub(super) fn end_part(&mut self, id: u64, answered: bool) -> Place {
        let Some(round) = self.0.get_mut(&id) else { return Place::Nowhere };
        let before = *round;
        round.left -= 1;
        round.answered |= answered;
        if round.left == 0 {
            self.0.remove(&id);
        }
        match (before.answered, answered) {
            (false, true) => Place::First,
            (true, true) => Place::Later,
            (false, false) if before.left == 1 => Place::First,
            (_, false) => Place::Nowhere,
        }
    }

    /// Nobody waits for a round any more.
    pub(super) fn forget(&mut self, round: Option<u64>) {
        round.map(|round| self.0.remove(&round));
    }
}

impl Engine {
    /// Tells a tracker what is in `request`, by each address family that we listen on.
    pub(super) fn send_round(&mut self, request: Request) {
        self.state.end_round(request.torrent, request.tracker);
        let families = self.state.families_for(&request);
        if families.is_empty() {
            return self.send_request(request);
        }
        let round = self.state.fresh_id();
        self.state.announcing.rounds.begin(round, u32::try_from(families.len()).unwrap_or(1));
        for is_v4 in families {
            let port = self.state.announced_port(|local| local.is_ipv4() == is_v4);
            self.send_request(request.part(round, is_v4, port));
        }
    }
}

impl Request {
    fn part(&self, round: u64, is_v4: bool, port: u16) -> Self {
        let mut question = self.question.clone();
        if let Question::Announce(announce) = &mut question {
            announce.port = port;
        }
        Self {
            torrent: self.torrent,
            name: self.name.clone(),
            tracker: self.tracker,
            url: self.url.clone(),
            question,
            user_agent: self.user_agent.clone(),
            is_v4: Some(is_v4),
            round: Some(round),
            way: Way::Over,
            deadline: self.deadline,
        }
    }
}

impl State {
    /// The families by which a tracker is to be told something; none if it makes no difference. A proxy has addresses of its
    /// own.
    fn families_for(&self, request: &Request) -> Vec<bool> {
        let named = TrackerUrl::parse(&request.url).is_ok_and(|url| url.address().is_none());
        let listens = |is_v4| self.listening.iter().any(|local| local.is_ipv4() == is_v4);
        if !named || self.tracker_proxy().is_some() || !(listens(true) && listens(false)) {
            return Vec::new();
        }
        let torrent = self.torrent(request.torrent);
        let answers =
            torrent.and_then(|t| t.trackers.get(request.tracker)).map_or([false; 2], |t| t.answers_by);
        match &request.question {
            // Nobody waits for a goodbye where nobody was met.
            Question::Announce(asked) if asked.event == AnnounceEvent::Stopped && answers != [false; 2] => {
                [true, false].into_iter().filter(|is_v4| answers[usize::from(!is_v4)]).collect()
            }
            _ => vec![true, false],
        }
    }

    /// Whatever a tracker is still being told came before what it will be told now, and is not to come behind it.
    fn end_round(&mut self, torrent: TorrentHandle, tracker: TrackerId) {
        // Most trackers are told over one family alone: there is nothing to be looked for.
        if self.announcing.rounds.0.is_empty() {
            return;
        }
        let old = |request: &Request| {
            request.round.is_some() && (request.torrent, request.tracker) == (torrent, tracker)
        };
        let requests = self.announcing.requests.iter();
        let old: Vec<u64> = requests.filter(|(_, request)| old(request)).map(|(id, _)| *id).collect();
        for id in old {
            if let Some(request) = self.take_request(id) {
                self.announcing.rounds.forget(request.round);
            }
        }
    }

    /// The address family that a request goes by, if it has to be that.
    pub(super) fn family_of(&self, id: u64) -> Option<bool> {
        self.announcing.requests.get(&id)?.is_v4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_counts_or_else_the_last_failure() {
        let mut rounds = Rounds::default();
        let mut places = |ends: [bool; 2]| {
            rounds.begin(1, 2);
            ends.map(|answered| rounds.end_part(1, answered))
        };
        assert_eq!(places([true, true]), [Place::First, Place::Later]);
        assert_eq!(places([true, false]), [Place::First, Place::Nowhere]);
        assert_eq!(places([false, true]), [Place::Nowhere, Place::First]);
        assert_eq!(places([false, false]), [Place::Nowhere, Place::First]);
        assert_eq!(rounds.end_part(1, true), Place::Nowhere, "it is over");
    }
}
