use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const QUOTA: u64 = 1_000_000;

/// Peers that do what they are told, round after round.
struct Swarm {
    start: Instant,
    seconds: u64,
    choker: Choker,
    peers: BTreeMap<u32, Candidate<u32>>,
    priorities: BTreeMap<u32, u64>,
    asked: Vec<u32>,
}

impl Swarm {
    fn new(peers: u32, slots: usize) -> Self {
        let start = Instant::now();
        let limits = ChokerLimits { unchoke_slots_limit: slots, ..ChokerLimits::default() };
        let peer = |peer| Candidate {
            peer,
            interested: true,
            choked: true,
            optimistic: false,
            exempt: false,
            down_rate: 0,
            up_rate: 0,
            uploaded_since_unchoke: 0,
            quota: QUOTA,
            group: None,
            score: Some(0),
            last_unchoke: None,
            last_optimistic: None,
        };
        Self {
            start,
            seconds: 0,
            choker: Choker::new(limits, start),
            peers: (0..peers).map(|key| (key, peer(key))).collect(),
            priorities: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    fn peer(&mut self, key: u32) -> &mut Candidate<u32> {
        self.peers.get_mut(&key).unwrap()
    }

    /// One round, and then fifteen seconds.
    fn round(&mut self) -> Decision<u32> {
        let now = self.start + Duration::from_secs(self.seconds);
        let candidates: Vec<_> = self.peers.values().copied().collect();
        let (priorities, asked) = (&self.priorities, &mut self.asked);
        let ask = |peer| {
            asked.push(peer);
            priorities.get(&peer).copied().unwrap_or(u64::MAX)
        };
        let decision = self.choker.round(now, &candidates, ask).unwrap();
        for key in &decision.unchoke {
            let peer = self.peers.get_mut(key).unwrap();
            assert!(peer.choked && peer.interested);
            (peer.choked, peer.last_unchoke, peer.uploaded_since_unchoke) = (false, Some(now), 0);
        }
        for key in &decision.choke {
            assert!(!std::mem::replace(&mut self.peer(*key).choked, true));
        }
        for peer in self.peers.values_mut() {
            let optimistic = decision.optimistic.contains(&peer.peer);
            if optimistic && !peer.optimistic {
                peer.last_optimistic = Some(now);
            }
            peer.optimistic = optimistic;
        }
        self.seconds += 15;
        decision
    }

    fn unchoked(&self) -> BTreeSet<u32> {
        self.peers.values().filter(|peer| !peer.choked).map(|peer| peer.peer).collect()
    }
}

#[test]
fn who_gives_most_is_served_and_one_slot_in_five_is_for_newcomers() {
    let mut swarm = Swarm::new(20, 8);
    for key in 0..20 {
        swarm.peer(key).down_rate = u64::from(key) * 1_000;
    }
    let decision = swarm.round();
    assert_eq!((decision.unchoke.len(), decision.optimistic.len()), (8, 1));
    assert!((13..20).all(|key| decision.unchoke.contains(&key)));
    assert!(decision.optimistic[0] < 13);
    // Nothing has changed, so nothing changes.
    let decision = swarm.round();
    assert!(decision.unchoke.is_empty() && decision.choke.is_empty());
}

#[test]
fn rounds_come_every_fifteen_seconds_or_when_asked() {
    let start = Instant::now();
    let mut choker = Choker::new(ChokerLimits::default(), start);
    let at = |seconds| start + Duration::from_secs(seconds);
    let round = |choker: &mut Choker, now| choker.round::<u32>(now, &[], |_| 0).is_some();
    assert!(round(&mut choker, start) && !round(&mut choker, at(14)));
    assert_eq!(choker.next_round(), at(15));
    assert_eq!(choker.trigger(at(14)), Some(at(14)));
    assert!(round(&mut choker, at(14)) && !round(&mut choker, at(28)) && round(&mut choker, at(29)));
    assert!(choker.has_free_slot(7) && !choker.has_free_slot(8));
}

#[test]
fn rounds_that_are_triggered_one_after_the_other_are_a_moment_apart() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut choker = Choker::new(ChokerLimits::default(), start);
    assert!(choker.round::<u32>(start, &[], |_| 0).is_some());
    assert_eq!([choker.trigger(at(10)), choker.trigger(at(20))], [Some(at(100)), None]);
    assert!(choker.round::<u32>(at(99), &[], |_| 0).is_none());
    assert!(choker.round::<u32>(at(100), &[], |_| 0).is_some());
    assert_eq!(choker.trigger(at(500)), Some(at(500)));
}

#[test]
fn the_optimistic_slot_goes_round_every_thirty_seconds() {
    let mut swarm = Swarm::new(5, 2);
    swarm.peer(0).down_rate = 9_000;
    let holders: Vec<_> = (0..10).map(|_| swarm.round().optimistic[0]).collect();
    assert_eq!(holders, [1, 1, 2, 2, 3, 3, 4, 4, 1, 1]);
    assert!(swarm.unchoked().contains(&0));
}

#[test]
fn plugins_are_asked_only_when_peers_have_waited_equally_long() {
    let mut swarm = Swarm::new(4, 2);
    swarm.peer(0).down_rate = 9_000;
    swarm.priorities.insert(3, 5);
    assert_eq!(swarm.round().optimistic, [3]);
    assert_eq!(std::mem::take(&mut swarm.asked), [1, 2, 3]);
    swarm.round();
    assert!(swarm.asked.is_empty());
    assert_eq!(swarm.round().optimistic, [1]);
    swarm.round();
    swarm.asked.clear();
    // All three have held it at different times.
    assert_eq!(swarm.round().optimistic, [2]);
    assert!(swarm.asked.is_empty());
}

#[test]
fn an_optimistic_peer_that_gives_earns_a_regular_slot_and_frees_its_own() {
    let mut swarm = Swarm::new(4, 2);
    swarm.peer(0).down_rate = 1_000;
    assert_eq!(swarm.round().optimistic, [1]);
    swarm.peer(1).down_rate = 5_000;
    let decision = swarm.round();
    assert_eq!(swarm.unchoked(), BTreeSet::from([1, decision.optimistic[0]]));
    assert_ne!(decision.optimistic, [1]);
}

#[test]
fn when_nobody_gives_slots_go_round_by_quota_and_everyone_is_served() {
    let mut swarm = Swarm::new(12, 5);
    let mut served = BTreeSet::new();
    for _ in 0..60 {
        swarm.round();
        let unchoked = swarm.unchoked();
        assert_eq!(unchoked.len(), 5);
        for &key in &unchoked {
            let peer = swarm.peer(key);
            peer.up_rate = 20_000 + u64::from(key);
            peer.uploaded_since_unchoke += 300_000;
        }
        served.extend(unchoked);
    }
    assert_eq!(served.len(), 12);
}

#[test]
fn a_peer_keeps_its_slot_until_its_turn_is_over() {
    let mut swarm = Swarm::new(6, 3);
    swarm.round();
    // The two without an optimistic slot.
    let regular: BTreeSet<_> =
        swarm.peers.values().filter(|peer| !peer.choked && !peer.optimistic).map(|peer| peer.peer).collect();
    for _ in 0..3 {
        for &key in &regular {
            let peer = swarm.peer(key);
            (peer.up_rate, peer.uploaded_since_unchoke) = (100_000, peer.uploaded_since_unchoke + QUOTA);
        }
        swarm.round();
        assert!(regular.is_subset(&swarm.unchoked()));
    }
    // A minute and their quota are over.
    swarm.round();
    swarm.round();
    assert!(regular.is_disjoint(&swarm.unchoked()));
}

#[test]
fn who_is_not_interested_is_choked_and_who_is_exempt_needs_no_slot() {
    let mut swarm = Swarm::new(5, 2);
    (swarm.peer(4).exempt, swarm.peer(3).exempt, swarm.peer(3).interested) = (true, true, false);
    swarm.round();
    assert_eq!(swarm.unchoked().len(), 3);
    assert!(swarm.unchoked().contains(&4) && !swarm.unchoked().contains(&3));
    swarm.peers.values_mut().for_each(|peer| peer.interested = false);
    let decision = swarm.round();
    assert!(decision.optimistic.is_empty());
    assert_eq!(swarm.unchoked(), BTreeSet::from([4]));
}

#[test]
fn no_slots_and_any_number_of_slots() {
    let mut swarm = Swarm::new(5, 0);
    assert!(swarm.round().unchoke.is_empty());
    let mut swarm = Swarm::new(50, usize::MAX);
    let decision = swarm.round();
    assert!(decision.unchoke.len() == 50 && decision.optimistic.is_empty() && swarm.asked.is_empty());
    let mut swarm = Swarm::new(5, 1);
    assert_eq!(swarm.round().optimistic, [0]);
}

proptest! {
    #[test]
    fn slots_are_filled_and_never_overdrawn(
        slots in 0_usize..12,
        rounds in proptest::collection::vec(
            proptest::collection::vec((any::<bool>(), prop::bool::weighted(0.1), 0_u64..4), 15),
            1..12,
        ),
    ) {
        let mut swarm = Swarm::new(15, slots);
        for round in rounds {
            for (key, (interested, exempt, rate)) in (0..).zip(round) {
                let peer = swarm.peer(key);
                (peer.interested, peer.exempt, peer.down_rate) = (interested, exempt, rate);
                peer.uploaded_since_unchoke += rate * 500_000;
            }
            let decision = swarm.round();
            let holders = |peer: &&Candidate<u32>| !peer.exempt && !peer.choked;
            let held = swarm.peers.values().filter(holders).count();
            let wanting = swarm.peers.values().filter(|peer| peer.interested && !peer.exempt).count();
            prop_assert_eq!(held, slots.min(wanting));
            prop_assert!(swarm.peers.values().filter(holders).all(|peer| peer.interested));
            prop_assert!(decision.optimistic.iter().all(|key| !swarm.peers[key].choked));
            prop_assert!(swarm.peers.values().all(|peer| !(peer.exempt && peer.interested && peer.choked)));
        }
    }
}

#[test]
fn a_group_holds_no_more_slots_than_it_may_and_the_rest_go_to_others() {
    let mut swarm = Swarm::new(8, 5);
    for key in 0..6 {
        let peer = swarm.peer(key);
        (peer.group, peer.down_rate) = (Some((7, 2)), 1_000 - u64::from(key));
    }
    let decision = swarm.round();
    let (grouped, others): (Vec<u32>, Vec<u32>) = decision.unchoke.iter().partition(|key| **key < 6);
    assert_eq!((grouped, others), (vec![0, 1], vec![6, 7]));
}
