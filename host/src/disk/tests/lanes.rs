//! Which pieces are hashed together, on a clock of the test's own.

use super::super::lanes::{Held, Lanes};
use super::super::schedule::Key;
use super::*;
use crate::job::MOST_HELD;
use crate::metainfo::{Geometry, PieceHasher};

const LANES: u32 = PieceHasher::LANES as u32;
const MILLISECOND: Duration = Duration::from_millis(1);

fn key(piece: u32) -> Key {
    (STORAGE, Geometry::new(1 << 30, 16_384).unwrap().piece(piece).unwrap())
}

/// So many bytes of a piece of usual length.
fn held(bytes: usize) -> Held {
    Held { bytes, of: 1 << 20 }
}

/// The pieces that are given out now, in order.
fn next(lanes: &mut Lanes, now: Instant) -> Vec<u32> {
    let mut pieces: Vec<_> = lanes.next(now).into_iter().map(|(_, piece)| piece.get()).collect();
    pieces.sort_unstable();
    pieces
}

#[test]
fn a_piece_that_comes_alone_does_not_wait() {
    let (mut lanes, start) = (Lanes::default(), Instant::now());
    for (second, piece) in (0..3).enumerate() {
        let now = start + Duration::from_secs(second as u64);
        lanes.add_complete(key(piece), held(1), false, now);
        assert_eq!(next(&mut lanes, now), [piece]);
    }
    assert_eq!(lanes.due(), None);
}

#[test]
fn pieces_that_come_one_after_the_other_wait_for_each_other() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    lanes.add_complete(key(0), held(1), false, now);
    assert_eq!(next(&mut lanes, now), [0]);
    let soon = now + MILLISECOND;
    for piece in 1..LANES {
        lanes.add_complete(key(piece), held(1), false, soon);
        assert!(next(&mut lanes, soon).is_empty());
    }
    lanes.add_complete(key(LANES), held(1), false, soon);
    assert_eq!(next(&mut lanes, soon), (1..=LANES).collect::<Vec<_>>());
}

#[test]
fn nobody_waits_for_long() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    lanes.add_complete(key(0), held(1), false, now);
    lanes.next(now);
    lanes.add_complete(key(1), held(1), false, now);
    let due = lanes.due().unwrap();
    assert!(due > now && due <= now + 5 * MILLISECOND);
    assert!(next(&mut lanes, due - MILLISECOND).is_empty());
    assert_eq!(next(&mut lanes, due), [1]);
}

#[test]
fn a_piece_that_is_hashed_takes_the_beginnings_of_others_along() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    (1..10).for_each(|piece| lanes.add_partial(key(piece), held(1)));
    lanes.remove_partial(key(1));
    lanes.add_complete(key(0), held(1), false, now);
    let together = next(&mut lanes, now);
    assert_eq!((together.len(), together[0]), (LANES as usize, 0));
    assert!(!together.contains(&1));
    assert!(next(&mut lanes, now + MILLISECOND).is_empty());
}

#[test]
fn beyond_so_much_memory_everything_is_hashed() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    (0..8).for_each(|piece| lanes.add_partial(key(piece), held(MOST_HELD / 8)));
    assert!(next(&mut lanes, now).is_empty());
    lanes.add_partial(key(8), held(1));
    assert_eq!(next(&mut lanes, now), (0..9).collect::<Vec<_>>());
    lanes.add_partial(key(0), held(MOST_HELD));
    assert!(next(&mut lanes, now).is_empty(), "what was given out is counted still");
}

#[test]
fn whoever_closes_does_not_wait() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    lanes.add_complete(key(0), held(1), false, now);
    lanes.next(now);
    lanes.add_complete(key(1), held(1), false, now);
    lanes.hurry(|piece| piece != key(1));
    assert!(next(&mut lanes, now).is_empty());
    lanes.hurry(|piece| piece == key(1));
    assert_eq!(next(&mut lanes, now), [1]);
    lanes.add_complete(key(2), held(1), true, now);
    assert_eq!(next(&mut lanes, now), [2]);
}

#[test]
fn a_long_piece_waits_only_if_there_are_others() {
    let (mut lanes, now) = (Lanes::default(), Instant::now());
    let part = Held { bytes: 1, of: 4 << 20 };
    for piece in 0..2 {
        lanes.add_partial(key(piece), part);
        assert_eq!(next(&mut lanes, now), [piece]);
        lanes.add_complete(key(piece), part, false, now);
        assert_eq!(next(&mut lanes, now), [piece]);
    }
    lanes.add_partial(key(2), held(1));
    lanes.add_partial(key(3), part);
    assert!(next(&mut lanes, now).is_empty());
}
