//! What plugins see of a peer's messages: before the engine does, whatever the numbers, and with a word in it.

use std::sync::{Arc, Mutex};

use pilotfish::alert::AlertKind;
use pilotfish::job::DiskJob;
use pilotfish::wire::{Message, RawRequest};
use pilotfish_plugin::{Peer, PeerContext, PeerPlugin, PieceIndex, Verdict, hooks};
use pilotfish_tests::sim::{Content, Probe};

use crate::stranger::{BOTH, FAST, SLOW, Strangers};

/// Forty pieces of one block.
fn content() -> Content {
    Content::random(110, 40 * 16_384, 16_384)
}

/// The pieces of a peer that has all of [`content`].
fn everything() -> Message {
    Message::Bitfield(vec![0xff; 5].into())
}

const WILD: RawRequest = RawRequest { piece: u32::MAX, start: 1 << 31, length: 1 << 31 };
const SHOWN: &str = "-1:-2147483648+-2147483648";

type Question = fn(&Peer<'_>) -> bool;

/// A message that changes an answer: its hook, what comes before it, the message, and the question.
fn changes() -> Vec<(&'static str, Vec<Message>, Message, Question)> {
    let piece: Question = |peer| peer.has_piece(PieceIndex(1));
    vec![
        ("on_choke", vec![Message::Unchoke], Message::Choke, |peer| peer.has_peer_choked()),
        ("on_unchoke", vec![], Message::Unchoke, |peer| peer.has_peer_choked()),
        ("on_interested", vec![], Message::Interested, |peer| peer.is_peer_interested()),
        ("on_not_interested", vec![Message::Interested], Message::NotInterested, |peer| {
            peer.is_peer_interested()
        }),
        ("on_have", vec![Message::HaveNone], Message::Have(1), piece),
        ("on_bitfield", vec![], everything(), piece),
        ("on_have_all", vec![], Message::HaveAll, piece),
        ("on_have_none", vec![Message::HaveAll], Message::HaveNone, piece),
        (
            "on_dont_have",
            vec![Message::HaveAll],
            Message::Extended { id: 7, payload: vec![0, 0, 0, 1].into() },
            piece,
        ),
    ]
}

#[test]
fn a_hook_comes_before_the_engine_changes_its_state_and_who_handles_it_leaves_that_unchanged() {
    for handled in [false, true] {
        for (hook, before, message, question) in changes() {
            let answers = Arc::new(Mutex::new(Vec::new()));
            let [inside, after] = [answers.clone(), answers.clone()];
            let probe = Probe::new()
                .peer(hook, move |cx| {
                    inside.lock().unwrap().push(question(&cx.this()));
                    handled
                })
                .peer("on_unknown_message", move |cx| {
                    after.lock().unwrap().push(question(&cx.this()));
                    true
                });
            let mut strangers = Strangers::of_leech(content(), probe);
            let peer = strangers.meet(1, BOTH);
            strangers.tell(peer, &before);
            answers.lock().unwrap().clear();
            strangers.tell(peer, &[message, Message::Unknown { id: 200, payload: vec![].into() }]);
            let answers = answers.lock().unwrap();
            let [inside, after] = answers[..] else { panic!("{hook}: {answers:?}") };
            assert_eq!(inside == after, handled, "{hook}");
        }
    }
}

#[test]
fn numbers_that_no_torrent_has_reach_the_plugins() {
    let cases = [
        (Message::Have(u32::MAX), "on_have -1".to_owned()),
        (Message::AllowedFast(u32::MAX), "on_allowed_fast -1".to_owned()),
        (Message::Suggest(u32::MAX), "on_suggest -1".to_owned()),
        (Message::Request(WILD), format!("on_request {SHOWN}")),
        (Message::Cancel(WILD), format!("on_cancel {SHOWN}")),
        (Message::Reject(WILD), format!("on_reject {SHOWN}")),
    ];
    for handled in [false, true] {
        for (message, line) in &cases {
            let hook = ["on_have", "on_allowed_fast", "on_suggest", "on_request", "on_cancel", "on_reject"]
                .into_iter()
                .find(|hook| line.starts_with(&format!("{hook} ")))
                .unwrap();
            let mut strangers = Strangers::of_leech(content(), Probe::new().peer(hook, move |_| handled));
            let peer = strangers.meet(1, FAST);
            strangers.tell(peer, &[Message::HaveAll]);
            let heard = strangers.tell(peer, std::slice::from_ref(message));
            assert_eq!(heard[0], format!("peer.{line}"));
            // Only a piece that does not exist is an offence, and a plugin may overlook it.
            let offence = matches!(message, Message::Have(_)) && !handled;
            assert_eq!(strangers.is_closed(peer), offence, "{line}");
        }
    }
}

#[test]
fn a_piece_out_of_range_is_not_taken_back() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.meet(1, BOTH);
    strangers.tell(peer, &[Message::HaveAll]);
    let dont_have = |piece: u32| Message::Extended { id: 7, payload: piece.to_be_bytes().to_vec().into() };
    assert!(strangers.tell(peer, &[dont_have(40), dont_have(u32::MAX)]).is_empty());
    assert_eq!(strangers.tell(peer, &[dont_have(39)]), ["peer.on_dont_have 39"]);
}

#[test]
fn a_message_of_the_wrong_size_ends_the_connection_and_no_plugin_sees_it() {
    let sizes = [(0, 1), (1, 1), (2, 1), (3, 1), (4, 5), (6, 13), (8, 13)];
    let fast = [(13, 5), (14, 1), (15, 1), (16, 13), (17, 5)];
    for (id, size) in sizes.into_iter().chain(fast) {
        for wrong in [size - 1, size + 1].into_iter().filter(|wrong| *wrong > 0) {
            let mut strangers = Strangers::of_leech(content(), Probe::new());
            let peer = strangers.meet(1, BOTH);
            let mut bytes = u32::to_be_bytes(wrong).to_vec();
            bytes.push(id);
            bytes.resize(4 + wrong as usize, 0);
            strangers.alone.say(peer, &bytes);
            let heard = strangers.heard();
            let [end] = &heard[..] else { panic!("{id} of {wrong} bytes: {heard:?}") };
            assert!(end.starts_with("peer.on_disconnect "), "{end}");
            assert!(strangers.is_closed(peer));
        }
    }
}

#[test]
fn a_bitfield_of_the_wrong_size_and_a_block_in_the_wrong_place_reach_no_plugin() {
    let block = |piece, start, length| Message::Piece { piece, start, data: vec![0; length].into() };
    let wrong = [
        Message::Bitfield(vec![0xff; 4].into()),
        Message::Bitfield(vec![0xff; 6].into()),
        block(40, 0, 16_384),
        block(0, 1, 16_383),
        block(0, 0, 16_383),
    ];
    for message in wrong {
        let mut strangers = Strangers::of_leech(content(), Probe::new());
        let peer = strangers.meet(1, BOTH);
        let mut heard = strangers.tell(peer, std::slice::from_ref(&message));
        heard.retain(|line| line != "peer.on_have_none");
        assert_eq!(heard.len(), 1, "{message:?}: {heard:?}");
        assert!(heard[0].starts_with("peer.on_disconnect"), "{heard:?}");
    }
}

#[test]
fn what_only_the_fast_extension_has_ends_a_connection_without_it_unseen() {
    let request = RawRequest { piece: 0, start: 0, length: 16_384 };
    let messages = [
        (Message::HaveAll, "invalid have-all message"),
        (Message::HaveNone, "invalid have-none message"),
        (Message::Suggest(0), "invalid suggest piece message"),
        (Message::Reject(request), "invalid reject message"),
        (Message::AllowedFast(0), "invalid allow-fast message"),
    ];
    for (message, reason) in messages {
        let mut strangers = Strangers::of_leech(content(), Probe::new());
        let peer = strangers.meet(1, SLOW);
        assert_eq!(strangers.tell(peer, &[message]), [format!("peer.on_disconnect {reason}")]);
    }
}

#[test]
fn a_peer_that_begins_with_something_else_than_its_pieces_has_none() {
    let request = RawRequest { piece: 0, start: 0, length: 16_384 };
    let block = Message::Piece { piece: 0, start: 0, data: vec![0; 16_384].into() };
    let cases = [
        (Message::Have(1), ["peer.on_have 1", "peer.on_have_none"]),
        (Message::Request(request), ["peer.on_have_none", "peer.on_request 0:0+16384"]),
        (block, ["peer.on_have_none", "peer.on_piece 0:0+16384"]),
    ];
    for (message, expected) in cases {
        for reserved in [SLOW, FAST] {
            let mut strangers = Strangers::of_leech(content(), Probe::new());
            let peer = strangers.meet(1, reserved);
            let heard = strangers.tell(peer, std::slice::from_ref(&message));
            assert_eq!(heard[..2], expected, "{heard:?}");
            let again = strangers.tell(peer, std::slice::from_ref(&message));
            assert!(!again.iter().any(|line| line.contains("have_none")), "{again:?}");
        }
    }
}

#[test]
fn that_a_peer_has_none_is_implied_again_as_long_as_a_plugin_handles_it() {
    let origins = Arc::new(Mutex::new(Vec::new()));
    let kept = origins.clone();
    let probe = Probe::new().peer("on_have_none", move |cx| {
        kept.lock().unwrap().push(cx.origin());
        true
    });
    let mut strangers = Strangers::of_leech(content(), probe);
    let peer = strangers.meet(1, FAST);
    for piece in 0..3 {
        let heard = strangers.tell(peer, &[Message::Have(piece)]);
        assert_eq!(heard[..2], [format!("peer.on_have {piece}"), "peer.on_have_none".to_owned()]);
    }
    assert_eq!(*origins.lock().unwrap(), [pilotfish_plugin::MessageOrigin::IMPLIED; 3]);
}

#[test]
fn a_choke_without_the_fast_extension_rejects_every_request_even_if_a_plugin_handles_it() {
    for handled in [false, true] {
        let probe = Probe::new().peer("on_choke", move |_| handled);
        let mut strangers = Strangers::of_leech(content(), probe);
        let peer = strangers.meet(1, SLOW);
        strangers.tell(peer, &[everything(), Message::Unchoke]);
        let asked = strangers.alone.requests(peer);
        assert!(asked.len() > 1, "{asked:?}");
        let heard = strangers.tell(peer, &[Message::Choke]);
        let rejects = heard.iter().filter(|line| line.starts_with("peer.on_reject")).count();
        assert_eq!((heard[0].as_str(), rejects), ("peer.on_choke", asked.len()), "{heard:?}");
    }
}

#[test]
fn a_choke_with_the_fast_extension_rejects_nothing_by_itself() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveAll, Message::Unchoke]);
    assert!(strangers.alone.requests(peer).len() > 1);
    assert_eq!(strangers.tell(peer, &[Message::Choke]), ["peer.on_choke"]);
}

#[test]
fn a_request_taken_back_from_a_peer_without_the_fast_extension_is_rejected_first() {
    // One block, so that two peers are asked for the same.
    for (reserved, expected) in [
        (SLOW, vec!["peer.on_reject 0:0+10000", "peer.sent_cancel 0:0+10000"]),
        (BOTH, vec!["peer.sent_cancel 0:0+10000"]),
    ] {
        let mut strangers = Strangers::of_leech(Content::random(111, 10_000, 16_384), Probe::new());
        let first = strangers.meet(1, reserved);
        let all = Message::Bitfield(vec![0x80].into());
        strangers.tell(first, &[all.clone(), Message::Unchoke]);
        let second = strangers.meet(2, FAST);
        strangers.tell(second, &[all, Message::Unchoke]);
        let [asked] = strangers.alone.requests(second)[..] else { panic!("one request") };
        assert_eq!(strangers.alone.requests(first), [asked]);
        let mut heard = strangers.send_block(second, asked);
        heard.retain(|line| line.contains("cancel") || line.contains("reject"));
        assert_eq!(heard, expected);
    }
}

#[test]
fn a_block_comes_once_and_whole_however_it_arrives() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveAll, Message::Unchoke]);
    let RawRequest { piece, start, length } = strangers.alone.requests(peer)[0];
    let mut bytes = Vec::new();
    Message::Piece { piece, start, data: vec![7; length as usize].into() }.encode(&mut bytes);
    for part in bytes.chunks(1_000) {
        assert!(!strangers.heard().iter().any(|line| line.contains("on_piece")));
        strangers.alone.say(peer, part);
    }
    let seen = strangers.heard().iter().filter(|line| line.starts_with("peer.on_piece ")).count();
    assert_eq!(seen, 1);
}

#[test]
fn a_block_without_data_rejects_a_request() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.meet(1, SLOW);
    strangers.tell(peer, &[everything(), Message::Unchoke]);
    let RawRequest { piece, start, length } = strangers.alone.requests(peer)[0];
    let heard = strangers.tell(peer, &[Message::Piece { piece, start, data: vec![].into() }]);
    let expected =
        [format!("peer.on_piece {piece}:{start}+0"), format!("peer.on_reject {piece}:{start}+{length}")];
    assert_eq!(heard[..2], expected, "{heard:?}");
    assert!(!strangers.is_closed(peer));
}

#[test]
fn a_block_that_nobody_asked_for_is_seen_and_not_written() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveAll]);
    let heard = strangers.send_block(peer, RawRequest { piece: 3, start: 0, length: 16_384 });
    assert_eq!(heard, ["peer.on_piece 3:0+16384"]);
    let unwanted = |alert: &AlertKind| matches!(alert, AlertKind::UnwantedBlock { .. });
    assert_eq!(strangers.alone.alerts.iter().filter(|alert| unwanted(alert)).count(), 1);
    assert!(!strangers.alone.jobs.iter().any(|job| matches!(job, DiskJob::Write { .. })));
    assert!(!strangers.is_closed(peer));
}

#[test]
fn a_block_that_a_plugin_took_is_neither_written_nor_asked_of_that_peer_again_and_frees_its_place() {
    let mut strangers = Strangers::of_leech(content(), Probe::new().peer("on_piece", |_| true));
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveAll, Message::Unchoke]);
    let mut sent = 0;
    while let Some(asked) = strangers.alone.requests(peer).get(sent).copied() {
        sent += 1;
        strangers.send_block(peer, asked);
    }
    // Each of the forty once, though the queue was never as long.
    assert_eq!(sent, 40);
    assert!(!strangers.alone.jobs.iter().any(|job| matches!(job, DiskJob::Write { .. })));
    // Nothing is outstanding, so nothing is waited for.
    strangers.alone.run_for(std::time::Duration::from_secs(100));
    assert!(!strangers.is_closed(peer));
    let other = strangers.meet(2, FAST);
    strangers.tell(other, &[Message::HaveAll, Message::Unchoke]);
    assert!(!strangers.alone.requests(other).is_empty());
}

#[test]
fn a_request_that_a_plugin_took_is_neither_served_nor_rejected() {
    let wild = RawRequest { piece: 99, ..WILD };
    let good = RawRequest { piece: 1, start: 0, length: 16_384 };
    for handled in [false, true] {
        let probe = Probe::new().peer("on_request", move |_| handled);
        let mut strangers = Strangers::of_seed(content(), probe);
        let peer = strangers.meet(1, FAST);
        strangers.tell(peer, &[Message::HaveNone, Message::Interested, Message::Request(good)]);
        let reads = strangers.alone.jobs.iter().filter(|job| matches!(job, DiskJob::Read { .. })).count();
        strangers.tell(peer, &[Message::Request(wild)]);
        let rejected = strangers.alone.told(peer).contains(&Message::Reject(wild));
        assert_eq!((reads == 0, rejected), (handled, !handled));
    }
}

#[test]
fn a_cancel_that_a_plugin_took_leaves_the_request_where_it_is() {
    let block = |piece| RawRequest { piece, start: 0, length: 16_384 };
    for handled in [false, true] {
        let mut strangers = Strangers::of_seed(content(), Probe::new().peer("on_cancel", move |_| handled));
        let peer = strangers.meet(1, FAST);
        let asked: Vec<_> = (0..20).map(|piece| Message::Request(block(piece))).collect();
        strangers.tell(peer, &[Message::HaveNone, Message::Interested]);
        strangers.tell(peer, &asked);
        strangers.tell(peer, &[Message::Cancel(block(19))]);
        assert_eq!(strangers.alone.told(peer).contains(&Message::Reject(block(19))), !handled);
    }
}

#[test]
fn a_reject_that_a_plugin_took_leaves_the_block_outstanding() {
    for handled in [false, true] {
        let mut strangers = Strangers::of_leech(content(), Probe::new().peer("on_reject", move |_| handled));
        let peer = strangers.meet(1, FAST);
        strangers.tell(peer, &[Message::HaveAll, Message::Unchoke]);
        let asked = strangers.alone.requests(peer);
        strangers.tell(peer, &[Message::Reject(asked[0])]);
        let more = strangers.alone.requests(peer).len() > asked.len();
        assert_eq!(more, !handled);
    }
}

#[test]
fn a_piece_that_is_suggested_or_allowed_is_asked_for_unless_a_plugin_took_the_message() {
    for handled in [false, true] {
        let probe =
            Probe::new().peer("on_suggest", move |_| handled).peer("on_allowed_fast", move |_| handled);
        let mut strangers = Strangers::of_leech(content(), probe);
        let peer = strangers.meet(1, FAST);
        strangers.tell(peer, &[Message::HaveAll, Message::AllowedFast(31)]);
        let allowed: Vec<u32> = strangers.alone.requests(peer).iter().map(|asked| asked.piece).collect();
        assert_eq!(allowed.contains(&31), !handled);
        strangers.tell(peer, &[Message::Suggest(23), Message::Unchoke]);
        let next = strangers.alone.requests(peer)[allowed.len()].piece;
        assert_eq!(next == 23, !handled);
    }
}

#[test]
fn extended_messages_of_the_engine_reach_no_plugin_and_one_that_is_nobodys_harms_nobody() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.meet(1, BOTH);
    strangers.tell(peer, &[Message::HaveNone]);
    let extended = |id, bytes: &[u8]| Message::Extended { id, payload: bytes.to_vec().into() };
    for id in [3, 4, 7, 8] {
        assert!(strangers.tell(peer, &[extended(id, &[0; 9])]).is_empty(), "{id}");
    }
    for id in [1, 2, 5, 6, 9, 10, 255] {
        // The length is that of the payload alone.
        let heard = strangers.tell(peer, &[extended(id, &[7; 9])]);
        assert_eq!(heard, [format!("peer.on_extended {id} 9")]);
    }
    assert!(!strangers.is_closed(peer));
    strangers.alone.say(peer, &[0, 0, 0, 1, 20]);
    assert_eq!(strangers.heard(), ["peer.on_disconnect invalid extended message"]);
}

#[test]
fn messages_that_the_engine_does_not_know_are_the_plugins_or_end_the_connection() {
    let mut unknown = vec![10, 11, 12, 18, 19];
    unknown.extend(24..=255);
    for handled in [true, false] {
        let probe = Probe::new().peer("on_unknown_message", move |_| handled);
        let mut strangers = Strangers::of_leech(content(), probe);
        for id in unknown.iter().copied() {
            let peer = strangers.meet(id, FAST);
            strangers.tell(peer, &[Message::HaveNone]);
            // The length is that of the payload alone.
            let heard = strangers.tell(peer, &[Message::Unknown { id, payload: vec![7; 9].into() }]);
            let mut expected = vec![format!("peer.on_unknown_message {id} 9")];
            expected.extend((!handled).then(|| "peer.on_disconnect invalid message".to_owned()));
            assert_eq!(heard, expected);
            strangers.alone.hang_up(peer);
        }
    }
}

/// Takes unknown messages as they grow.
struct Grower(Arc<Mutex<Vec<(u32, usize)>>>);

#[hooks]
impl PeerPlugin for Grower {
    fn wants_fragments(&mut self, _: &mut PeerContext<'_>) -> bool {
        true
    }

    fn on_unknown_message(&mut self, _: &mut PeerContext<'_>, length: u32, _: u8, body: &[u8]) -> Verdict {
        self.0.lock().unwrap().push((length, body.len()));
        Verdict::Handled
    }
}

#[test]
fn who_wants_fragments_sees_an_unknown_message_begin_empty_and_end_whole() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let probe = Probe::new().peer("on_handshake", move |cx| {
        cx.this().add_extension(pilotfish_plugin::PeerBox::new(Grower(kept.clone())));
        false
    });
    let mut strangers = Strangers::of_leech(content(), probe);
    let peer = strangers.meet(1, FAST);
    let mut bytes = Vec::new();
    Message::Unknown { id: 77, payload: vec![7; 5_000].into() }.encode(&mut bytes);
    bytes.chunks(900).for_each(|part| strangers.alone.say(peer, part));
    let seen = seen.lock().unwrap();
    assert_eq!((seen[0], seen.last()), ((5_000, 0), Some(&(5_000, 5_000))), "{seen:?}");
    assert!(seen.is_sorted() && seen.len() > 2, "{seen:?}");
    assert_eq!(seen.iter().filter(|(length, body)| *length as usize == *body).count(), 1, "{seen:?}");
}
