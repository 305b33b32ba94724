use proptest::prelude::*;

use super::assembly::Assembly;
use super::message::Message;
use super::*;

const ALICE: PeerHandle = PeerHandle::from_raw(1);
const BOB: PeerHandle = PeerHandle::from_raw(2);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_was_asked_for_least_is_asked_for_next_and_nothing_twice_at_a_time() {
    let mut assembly = Assembly::new(2 * BLOCK + 1);
    let asked: Vec<_> = (0..4).map(|_| assembly.pick(at(0), &[])).collect();
    assert_eq!(asked, [Some(0), Some(1), Some(2), None]);
    assembly.put(1, &[0; BLOCK], ALICE);
    assembly.release(2);
    assert_eq!([assembly.pick(at(1), &[]), assembly.pick(at(1), &[])], [Some(2), None]);
    assert_eq!([assembly.pick(at(3), &[]), assembly.pick(at(3), &[])], [Some(0), None]);
}

#[test]
fn blocks_of_the_wrong_size_or_number_change_nothing() {
    let mut assembly = Assembly::new(BLOCK + 5);
    assembly.put(0, &[1; BLOCK - 1], ALICE);
    assembly.put(1, &[1; BLOCK], ALICE);
    assembly.put(2, &[1; 5], ALICE);
    assembly.put(u32::MAX, &[], ALICE);
    assembly.put(0, &[1; BLOCK], ALICE);
    assert!(!assembly.is_complete());
    assembly.put(1, &[2; 5], BOB);
    assembly.put(1, &[3; 5], ALICE);
    assert!(assembly.is_complete());
    assert_eq!(assembly.bytes(), [[1; BLOCK].as_slice(), &[2; 5]].concat());
    assert_eq!(assembly.forget(), [ALICE, BOB]);
    assert!(!assembly.is_complete());
}

#[test]
fn a_liar_about_the_length_spoils_nobody_elses() {
    let mut shared = Shared { limit: 100_000, ..Shared::default() };
    for length in [0, 100_001] {
        assert!(shared.assembly(length).is_none());
    }
    (1..=MOST_LENGTHS).for_each(|length| assert!(shared.assembly(length).is_some()));
    assert!(shared.assembly(MOST_LENGTHS + 1).is_none());
    assert!(shared.assembly(3).is_some());
}

#[test]
fn who_sent_wrong_metadata_is_left_alone_for_a_while() {
    let mut shared = Shared { limit: 100_000, ..Shared::default() };
    shared.assembly(2 * BLOCK).unwrap().put(0, &[0; BLOCK], ALICE);
    shared.offered = Some(2 * BLOCK);
    shared.failed(at(100));
    assert!(shared.is_punished(ALICE, at(119)) && !shared.is_punished(ALICE, at(171)));
    assert!(!shared.is_punished(BOB, at(101)));
    shared.assembly(5).unwrap().put(0, &[0; 5], BOB);
    shared.offered = Some(5);
    shared.failed(at(200));
    assert!(shared.is_punished(BOB, at(519)) && !shared.is_punished(BOB, at(571)));
}

#[test]
fn what_is_no_message_is_told_from_what_is_not_known() {
    for none in
        [&b""[..], b"x", b"le", b"de", b"d8:msg_typei0ee", b"d5:piecei0ee", b"d8:msg_type1:05:piecei0ee"]
    {
        assert_eq!(Message::parse(none), None, "{none:?}");
    }
    assert_eq!(Message::parse(b"d8:msg_typei7e5:piecei0ee"), Some(Message::Unknown));
    assert_eq!(Message::parse(b"d8:msg_typei0e5:piecei-1ee"), Some(Message::Request { piece: u32::MAX }));
}

proptest! {
    #[test]
    fn a_message_survives_the_wire(kind in 0..3, piece: u32, total in 0..usize::MAX >> 1, data: Vec<u8>) {
        let message = match kind {
            0 => Message::Request { piece },
            1 => Message::Data { piece, total: Some(total), data: &data },
            _ => Message::Reject { piece },
        };
        let bytes = message.encode();
        prop_assert_eq!(Message::parse(&bytes), Some(message));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = Message::parse(&bytes);
    }
}
