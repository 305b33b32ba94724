use proptest::prelude::*;

use super::*;

const OPEN: Place = Place { priority: Priority::DEFAULT, stage: Stage::Open };

fn bits(len: u32, ones: &[u32]) -> Bitfield {
    let mut bits = Bitfield::new(len);
    ones.iter().for_each(|&one| assert!(bits.set(one)));
    bits
}

fn shelved(num_pieces: u32) -> Availability {
    let mut availability = Availability::new(num_pieces);
    (0..num_pieces).for_each(|piece| availability.put(piece, Some(OPEN)));
    availability
}

fn rarest(availability: &Availability, has: &Bitfield, start: u32) -> Vec<u32> {
    availability.walk(OPEN, Order::RarestFirst, has, start).collect()
}

#[test]
fn rare_pieces_come_first_and_seeds_change_nothing() {
    let mut availability = shelved(4);
    availability.peer_joined(&bits(4, &[0, 1, 3]));
    availability.peer_joined(&bits(4, &[0, 3]));
    availability.peer_joined(&bits(4, &[3]));
    availability.seed_joined();
    assert_eq!(rarest(&availability, &Bitfield::full(4), 0), [2, 1, 0, 3]);
    assert_eq!(rarest(&availability, &bits(4, &[0, 3]), 0), [0, 3]);
    assert_eq!((availability.of(2), availability.of(3), availability.peers()), (1, 4, 4));
}

#[test]
fn the_start_decides_between_equals() {
    let availability = shelved(5);
    assert_eq!(rarest(&availability, &Bitfield::full(5), 3), [3, 4, 0, 1, 2]);
    let availability = shelved(1_000);
    let round = rarest(&availability, &Bitfield::full(1_000), 700);
    assert_eq!((round[0], round.len()), (700, 1_000));
}

#[test]
fn a_seed_that_loses_a_piece_is_counted_piece_by_piece() {
    let mut availability = shelved(3);
    availability.peer_joined(&Bitfield::full(3));
    availability.peer_lost(1);
    assert_eq!([0, 1, 2].map(|piece| availability.of(piece)), [1, 0, 1]);
    assert_eq!(rarest(&availability, &Bitfield::full(3), 0), [1, 0, 2]);
    availability.peer_left(&bits(3, &[0, 2]));
    assert_eq!([0, 1, 2].map(|piece| availability.of(piece)), [0, 0, 0]);
    availability.check();
}

proptest! {
    #[test]
    fn counts_are_what_the_peers_have_whatever_they_did(
        num_pieces in 1_u32..200,
        steps in proptest::collection::vec((0_usize..6, 0_u8..8, 0_u32..200), 0..200),
    ) {
        let mut availability = Availability::new(num_pieces);
        let mut peers: [Option<Bitfield>; 6] = Default::default();
        for (who, step, which) in steps {
            let piece = which % num_pieces;
            match (step, &mut peers[who]) {
                (0, peer @ None) => {
                    availability.seed_joined();
                    *peer = Some(Bitfield::full(num_pieces));
                }
                (1, peer @ None) => {
                    let some = bits(num_pieces, &(0..piece).step_by(3).collect::<Vec<_>>());
                    availability.peer_joined(&some);
                    *peer = Some(some);
                }
                (2, peer @ Some(_)) => availability.peer_left(&peer.take().unwrap_or_default()),
                (3..6, Some(has)) => {
                    let got = step < 5;
                    let changed = if got { has.set(piece) } else { has.clear(piece) };
                    match (changed, got) {
                        (true, true) => availability.peer_has(piece),
                        (true, false) => availability.peer_lost(piece),
                        _ => {}
                    }
                }
                (6, _) => availability.put(piece, Some(OPEN)),
                (7, _) => {
                    let place = Place { priority: Priority::new(who as u8 + 1), stage: Stage::Begun };
                    availability.put(piece, (which % 2 == 0).then_some(place));
                }
                _ => {}
            }
            availability.check();
        }
        let has = |piece| peers.iter().flatten().filter(|has| has.get(piece)).count() as u32;
        for piece in 0..num_pieces {
            prop_assert_eq!(availability.of(piece), has(piece));
        }
        let walked = rarest(&availability, &Bitfield::full(num_pieces), 17 % num_pieces);
        prop_assert!(walked.is_sorted_by_key(|&piece| has(piece)));
        let open = availability.places.iter().filter(|place| **place == Some(OPEN)).count();
        prop_assert_eq!(walked.len(), open);
    }

    #[test]
    fn a_walk_visits_each_common_piece_once(
        members in proptest::collection::btree_set(0_u32..9_000, 0..80),
        has in proptest::collection::btree_set(0_u32..9_000, 0..80),
        both in proptest::collection::btree_set(0_u32..9_000, 0..40),
        start in 0_u32..9_000,
    ) {
        let mut set = PieceSet::default();
        members.union(&both).for_each(|&piece| set.insert(piece));
        let field = bits(9_000, &has.union(&both).copied().collect::<Vec<_>>());
        let expected: Vec<u32> =
            members.union(&both).copied().filter(|&piece| field.get(piece)).collect();
        prop_assert_eq!(set.common(&field, 0).collect::<Vec<_>>(), expected.clone());
        let mut round: Vec<u32> = set.common(&field, start).collect();
        round.sort_unstable();
        prop_assert_eq!(round, expected);
    }
}
