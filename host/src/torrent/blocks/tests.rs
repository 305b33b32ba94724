use super::*;
use crate::metainfo::Geometry;

const ALICE: char = 'a';
const BOB: char = 'b';
const CAROL: char = 'c';
const DAVE: char = 'd';

fn piece_of(blocks: u32) -> Begun<char> {
    Begun::new(Geometry::new(1, 1).unwrap().piece(0).unwrap(), blocks, &[])
}

fn take(piece: &mut Begun<char>, peer: char, want: usize) -> Vec<u32> {
    let mut taken = Vec::new();
    piece.take(peer, want, |index| taken.push(index));
    taken
}

fn join(piece: &mut Begun<char>, peer: char, copies: usize) -> Vec<u32> {
    let mut joined = Vec::new();
    piece.join(peer, copies, 10, |index| joined.push(index));
    joined
}

#[test]
fn peers_take_consecutive_blocks_and_what_is_given_back_is_taken_first() {
    let mut piece = piece_of(6);
    assert_eq!(take(&mut piece, ALICE, 3), [0, 1, 2]);
    assert_eq!(take(&mut piece, BOB, 2), [3, 4]);
    assert!(piece.abort(ALICE, 1) && !piece.abort(ALICE, 1) && !piece.abort(BOB, 0));
    assert_eq!(take(&mut piece, BOB, 9), [1, 5]);
    assert_eq!((piece.free(), piece.asked(), piece.received()), (0, 6, 0));
    piece.check();
}

#[test]
fn a_block_that_several_were_asked_for_counts_for_whoever_sends_it_first() {
    let mut piece = piece_of(2);
    take(&mut piece, ALICE, 2);
    assert_eq!(join(&mut piece, ALICE, 1), [0; 0]);
    assert_eq!(join(&mut piece, BOB, 1), [0, 1]);
    assert_eq!(join(&mut piece, CAROL, 1), [0; 0]);
    assert_eq!(join(&mut piece, CAROL, 2), [0, 1]);
    assert_eq!(join(&mut piece, DAVE, 3), [0; 0]);
    assert_eq!(piece.receive(BOB, 0), Some(vec![ALICE, CAROL]));
    assert_eq!(piece.receive(ALICE, 0), None);
    assert_eq!((piece.downloader(0), piece.downloader(1)), (Some(BOB), None));
    assert!(!piece.is_asked_of(ALICE, 0) && piece.is_asked_of(ALICE, 1));

    // A block is free again when the last of those asked for it gives up.
    piece.abort(ALICE, 1);
    piece.abort_all(BOB);
    assert_eq!(piece.free(), 0);
    piece.abort(CAROL, 1);
    assert_eq!((piece.free(), piece.received()), (1, 1));
    piece.check();
}

#[test]
fn everyone_who_sent_a_block_is_named_once() {
    let mut piece = piece_of(4);
    for (index, peer) in (0..).zip([BOB, ALICE, BOB, BOB]) {
        assert!(!piece.is_complete());
        assert_eq!(piece.receive(peer, index), Some(vec![]));
    }
    assert!(piece.is_complete() && !piece.is_only_of(BOB));
    assert_eq!(piece.contributors(), [BOB, ALICE]);
    assert_eq!(piece.receive(ALICE, 4), None);
}

#[test]
fn a_reservation_holds_while_blocks_are_on_their_way() {
    let mut piece = piece_of(3);
    take(&mut piece, ALICE, 2);
    piece.reserve(ALICE);
    assert!(piece.reserved_for() == Some(ALICE) && piece.is_only_of(ALICE) && !piece.is_only_of(BOB));
    piece.receive(ALICE, 0);
    piece.abort_all(ALICE);
    assert_eq!(piece.reserved_for(), None);
    assert_eq!(take(&mut piece, BOB, 1), [1]);
    assert_eq!(piece.reserved_for(), None);
}
