//! Whom to upload to.
//!
//! Invariant: after a round no more peers are unchoked than there are slots, not counting the exempt ones, and nobody is
//! unchoked who is not interested. Who gives us most is served first, unless a plugin says otherwise; among those who give nothing, which is everyone
//! once we seed, the slots go round; and some slots go to whoever has waited longest, so that newcomers can prove
//! themselves.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The settings of the choker, under libtorrent's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChokerLimits {
    /// How many peers to unchoke; `usize::MAX` for everyone who is interested.
    pub unchoke_slots_limit: usize,
    /// How many of the slots are optimistic; 0 for one in five, but at least one.
    pub num_optimistic_unchoke_slots: usize,
    /// Time between rounds.
    pub unchoke_interval: Duration,
    /// Time after which the optimistic slots go to others.
    pub optimistic_unchoke_interval: Duration,
}

impl Default for ChokerLimits {
    fn default() -> Self {
        Self {
            unchoke_slots_limit: 8,
            num_optimistic_unchoke_slots: 0,
            unchoke_interval: Duration::from_secs(15),
            optimistic_unchoke_interval: Duration::from_secs(30),
        }
    }
}

/// A connected peer, as the choker sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<P> {
    /// Whose answer this is.
    pub peer: P,
    /// It wants something of us.
    pub interested: bool,
    /// We choke it now.
    pub choked: bool,
    /// It holds an optimistic slot now.
    pub optimistic: bool,
    /// It needs no slot (for instance a peer on the local network).
    pub exempt: bool,
    /// Payload it sent us since the last round, in B/s (or in bytes, if so for all).
    pub down_rate: u64,
    /// Payload we sent it since the last round, in B/s (or in bytes, if so for all).
    pub up_rate: u64,
    /// Payload we sent it since we last unchoked it, in bytes.
    pub uploaded_since_unchoke: u64,
    /// So many bytes are a fair turn: libtorrent's `seeding_piece_quota` of 20 pieces.
    pub quota: u64,
    /// Of all who belong to a group, at most so many may have a slot: the group's number, and how many.
    pub group: Option<(u64, usize)>,
    /// What plugins think of it: higher goes first, and `None` is nobody who may have a slot.
    pub score: Option<i64>,
    /// When we last unchoked it, if ever.
    pub last_unchoke: Option<Instant>,
    /// When it was last given an optimistic slot, if ever.
    pub last_optimistic: Option<Instant>,
}

impl<P> Candidate<P> {
    /// Whether it may have a slot, if there are enough.
    fn waits(&self) -> bool {
        self.interested && !self.exempt && self.score.is_some()
    }
}

/// What a round changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<P> {
    /// These are choked and should not be.
    pub unchoke: Vec<P>,
    /// These are not choked and should be.
    pub choke: Vec<P>,
    /// Everyone who holds an optimistic slot from now on. For those that held none before, it was given now.
    pub optimistic: Vec<P>,
}

/// Keeps the time of the rounds; all else is in the [`Candidate`]s.
#[derive(Clone, Debug)]
pub struct Choker {
    limits: ChokerLimits,
    last_round: Option<Instant>,
    triggered: bool,
    next_round: Instant,
    next_rotation: Instant,
}

/// A turn is at least so long, however fast the peer is.
const SHORTEST_TURN: Duration = Duration::from_secs(60);

/// Slots that become free one after the other are given out together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

impl Choker {
    /// The first round is due at once.
    pub fn new(limits: ChokerLimits, now: Instant) -> Self {
        Self { limits, last_round: None, triggered: false, next_round: now, next_rotation: now }
    }

    /// Other limits from the next round on.
    pub fn set_limits(&mut self, limits: ChokerLimits) {
        self.limits = limits;
    }

    /// When the next round is due.
    pub fn next_round(&self) -> Instant {
        self.next_round
    }

    /// Makes a round due at once, for instance because a slot became free; a moment later if there was one just now. It gives
    /// a free optimistic slot to the next in turn, and takes none away before its time. Answers when it is due, unless that
    /// was answered already.
    pub fn trigger(&mut self, now: Instant) -> Option<Instant> {
        let due = self.last_round.map_or(now, |last| now.max(last + SHORTEST_PAUSE));
        self.next_round = self.next_round.min(due);
        (!std::mem::replace(&mut self.triggered, true)).then_some(due)
    }

    /// Whether somebody may be unchoked between rounds, when so many peers hold a slot.
    pub fn has_free_slot(&self, unchoked: usize) -> bool {
        unchoked < self.limits.unchoke_slots_limit
    }

    /// Decides, if a round is due. O(n log n).
    ///
    /// `priority` is asked, at most once per peer and round, when peers have waited equally long for an optimistic
    /// slot: the lowest goes first.
    pub fn round<P: Copy>(
        &mut self,
        now: Instant,
        candidates: &[Candidate<P>],
        priority: impl FnMut(P) -> u64,
    ) -> Option<Decision<P>> {
        if now < self.next_round {
            return None;
        }
        self.last_round = Some(now);
        self.triggered = false;
        self.next_round = now + self.limits.unchoke_interval;
        let rotate = now >= self.next_rotation;
        if rotate {
            self.next_rotation = now + self.limits.optimistic_unchoke_interval;
        }
        Some(self.decide(now, candidates, rotate, priority))
    }

    fn decide<P: Copy>(
        &self,
        now: Instant,
        candidates: &[Candidate<P>],
        rotate: bool,
        priority: impl FnMut(P) -> u64,
    ) -> Decision<P> {
        let mut waiting: Vec<usize> =
            (0..candidates.len()).filter(|&index| candidates[index].waits()).collect();
        let (regular, optimistic) = self.slots();
        waiting.sort_by_key(|&index| rank(&candidates[index], now));
        let mut open = vec![false; candidates.len()];
        let (mut groups, mut left) = (Groups::default(), regular);
        waiting.retain(|&index| {
            let chosen = left > 0 && groups.admit(&candidates[index]);
            left -= usize::from(chosen);
            open[index] = chosen;
            !chosen
        });

        let optimistic = choose_optimistic(candidates, waiting, optimistic, rotate, &mut groups, priority);
        optimistic.iter().for_each(|&index| open[index] = true);

        let mut decision = Decision {
            unchoke: Vec::new(),
            choke: Vec::new(),
            optimistic: optimistic.iter().map(|&index| candidates[index].peer).collect(),
        };
        for (candidate, open) in candidates.iter().zip(open) {
            // An exempt peer is unchoked as soon as it is interested, and has no slot to lose.
            match (open || (candidate.exempt && candidate.interested), candidate.choked) {
                (true, true) => decision.unchoke.push(candidate.peer),
                (false, false) if !candidate.exempt => decision.choke.push(candidate.peer),
                _ => {}
            }
        }
        decision
    }

    /// How many regular and optimistic slots there are.
    fn slots(&self) -> (usize, usize) {
        let all = self.limits.unchoke_slots_limit;
        let optimistic = match self.limits.num_optimistic_unchoke_slots {
            _ if all == usize::MAX => 0,
            0 => (all / 5).max(1).min(all),
            some => some.min(all),
        };
        (all - optimistic, optimistic)
    }
}

/// How many of each group hold a slot.
#[derive(Default)]
struct Groups(HashMap<u64, usize>);

impl Groups {
    /// Gives a slot to somebody, if its group may have one more.
    fn admit<P>(&mut self, candidate: &Candidate<P>) -> bool {
        let Some((group, most)) = candidate.group else { return true };
        let held = self.0.entry(group).or_default();
        let admitted = *held < most;
        *held += usize::from(admitted);
        admitted
    }
}

/// Lower goes first: of whom plugins think most; then who sends us most; then who has not had its turn; then whom we are serving well; then who has
/// waited longest.
fn rank<P>(candidate: &Candidate<P>, now: Instant) -> impl Ord + use<P> {
    let held = candidate.last_unchoke.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
    let had_its_turn =
        !candidate.choked && candidate.uploaded_since_unchoke > candidate.quota && held > SHORTEST_TURN;
    // What was still on its way to a peer that was choked meanwhile must not help it.
    let up_rate = if candidate.choked { 0 } else { candidate.up_rate };
    (
        Reverse(candidate.score),
        Reverse(candidate.down_rate),
        had_its_turn,
        Reverse(up_rate),
        candidate.last_unchoke,
    )
}

/// Of those who have no regular slot: whoever holds an optimistic one keeps it until the rotation; the others are
/// given out by waiting time. A holder who won a regular slot is not among them, so its place is free.
fn choose_optimistic<P: Copy>(
    candidates: &[Candidate<P>],
    waiting: Vec<usize>,
    slots: usize,
    rotate: bool,
    groups: &mut Groups,
    mut priority: impl FnMut(P) -> u64,
) -> Vec<usize> {
    let (holders, mut waiting): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(|&index| !rotate && candidates[index].optimistic);
    let mut chosen = Vec::new();
    let mut choose = |chosen: &mut Vec<usize>, index: usize| {
        if chosen.len() < slots && groups.admit(&candidates[index]) {
            chosen.push(index);
        }
    };
    holders.into_iter().for_each(|index| choose(&mut chosen, index));
    let since = |index: &usize| candidates[*index].last_optimistic;
    waiting.sort_by_key(since);
    for equals in waiting.chunk_by_mut(|one, other| since(one) == since(other)) {
        if chosen.len() == slots {
            break;
        }
        if equals.len() > 1 {
            equals.sort_by_cached_key(|&index| priority(candidates[index].peer));
        }
        equals.iter().for_each(|&index| choose(&mut chosen, index));
    }
    chosen
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
