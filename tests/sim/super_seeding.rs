//! Super-seeding: a first copy of everything, for little more than its size.

use std::time::Duration;

use pilotfish::command::Command;
use pilotfish::wire::{Message, RawRequest};
use pilotfish_plugin::PeerHandle;
use pilotfish_tests::sim::{Content, NodeId, Probe, Sim};

use crate::stranger::{BOTH, FAST, SLOW, Strangers};

fn super_seed(pieces: usize, settings: &[(&str, &str)]) -> Strangers {
    let content = Content::random(7, pieces * 16_384, 16_384);
    let mut strangers = Strangers::of_seed(content, Probe::new());
    for (name, value) in settings {
        let set = Command::Set(pilotfish::command::Ticket(9), (*name).into(), (*value).into());
        strangers.alone.handle(pilotfish::engine::Input::Command(set));
    }
    let on = Command::SetSuperSeeding(strangers.torrent, true);
    strangers.alone.handle(pilotfish::engine::Input::Command(on));
    strangers
}

/// Which pieces a peer was offered, in order.
fn offers(strangers: &Strangers, peer: PeerHandle) -> Vec<u32> {
    let have = |message| if let Message::Have(piece) = message { Some(piece) } else { None };
    strangers.alone.told(peer).into_iter().filter_map(have).collect()
}

fn asks(piece: u32) -> Message {
    Message::Request(RawRequest { piece, start: 0, length: 16_384 })
}

#[test]
fn a_peer_is_offered_two_pieces_and_refused_all_others_without_a_hook() {
    let mut strangers = super_seed(20, &[]);
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveNone, Message::Interested]);
    let told = strangers.alone.told(peer);
    let offered = offers(&strangers, peer);
    assert!(told.contains(&Message::HaveNone) && !told.contains(&Message::HaveAll), "{told:?}");
    assert!(offered.len() == 2 && offered[0] != offered[1], "{offered:?}");
    assert!(!told.iter().any(|message| matches!(message, Message::AllowedFast(_) | Message::Bitfield(_))));
    let other = (0..20).find(|piece| !offered.contains(piece)).unwrap();
    let heard = strangers.tell(peer, &[asks(other)]);
    assert!(!heard.iter().any(|line| line.contains("on_request")), "{heard:?}");
    let refused = Message::Reject(RawRequest { piece: other, start: 0, length: 16_384 });
    assert_eq!(strangers.alone.told(peer).last(), Some(&refused));
    let heard = strangers.tell(peer, &[asks(offered[0])]);
    assert!(heard.iter().any(|line| line.contains("on_request")), "{heard:?}");
}

#[test]
fn a_peer_that_has_a_piece_is_offered_another_and_nobody_the_same() {
    let mut strangers = super_seed(20, &[]);
    let peers = [1, 2, 3].map(|number| strangers.meet(number, FAST));
    peers.iter().for_each(|peer| drop(strangers.tell(*peer, &[Message::HaveNone, Message::Interested])));
    let mut all: Vec<u32> = peers.iter().flat_map(|peer| offers(&strangers, *peer)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 6);
    let first = offers(&strangers, peers[0])[0];
    strangers.tell(peers[0], &[Message::Have(first)]);
    let offered = offers(&strangers, peers[0]);
    assert!(offered.len() == 3 && !all.contains(&offered[2]), "{offered:?} beside {all:?}");
    // What was not taken yet is still to be had.
    let heard = strangers.tell(peers[0], &[asks(offered[1])]);
    assert!(heard.iter().any(|line| line.contains("on_request")), "{heard:?}");
}

#[test]
fn strictly_a_peer_is_offered_another_piece_only_when_somebody_else_has_its_last() {
    let mut strangers = super_seed(20, &[("strict_super_seeding", "1")]);
    let peers = [1, 2].map(|number| strangers.meet(number, FAST));
    peers.iter().for_each(|peer| drop(strangers.tell(*peer, &[Message::HaveNone, Message::Interested])));
    let first = offers(&strangers, peers[0])[0];
    strangers.tell(peers[0], &[Message::Have(first)]);
    assert_eq!(offers(&strangers, peers[0]).len(), 2);
    strangers.tell(peers[1], &[Message::Have(first)]);
    assert_eq!([offers(&strangers, peers[0]).len(), offers(&strangers, peers[1]).len()], [3, 2]);
}

#[test]
fn what_a_peer_has_from_others_is_not_offered_and_a_seed_is_of_no_use() {
    let mut strangers = super_seed(4, &[]);
    let peer = strangers.meet(1, FAST);
    let offered = offers(&strangers, peer);
    let bits = offered.iter().fold(0_u8, |bits, piece| bits | 0x80 >> piece);
    strangers.tell(peer, &[Message::Bitfield(vec![bits].into())]);
    let mut all = offers(&strangers, peer);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    let seed = strangers.meet(2, FAST);
    strangers.tell(seed, &[Message::HaveAll]);
    assert!(strangers.is_closed(seed));
}

#[test]
fn who_is_super_seeded_to_does_not_hear_that_we_only_upload() {
    let mut strangers = super_seed(20, &[]);
    let peer = strangers.meet(1, BOTH);
    let handshake = strangers.alone.told(peer).into_iter().find_map(|message| match message {
        Message::Extended { id: 0, payload } => Some(payload),
        _ => None,
    });
    let handshake = String::from_utf8_lossy(&handshake.unwrap()).into_owned();
    assert!(!handshake.contains("11:upload_onlyi1e"), "{handshake}");
}

#[test]
fn when_it_ends_everybody_is_told_the_truth() {
    let mut strangers = super_seed(20, &[]);
    let [fast, slow] = [(1, FAST), (2, SLOW)].map(|(number, reserved)| strangers.meet(number, reserved));
    let before = offers(&strangers, slow);
    let off = Command::SetSuperSeeding(strangers.torrent, false);
    strangers.alone.handle(pilotfish::engine::Input::Command(off));
    assert_eq!(strangers.alone.told(fast).last(), Some(&Message::HaveAll));
    let mut all = offers(&strangers, slow);
    assert_eq!((before.len(), all.len()), (2, 20));
    all.sort_unstable();
    assert!(all.into_iter().eq(0..20));
    strangers.tell(fast, &[Message::HaveNone, Message::Interested]);
    let heard = strangers.tell(fast, &[asks(0), asks(19)]);
    assert_eq!(heard.iter().filter(|line| line.contains("on_request")).count(), 2);
}

/// How much a seed sends until four that know each other have everything, in percent of the size.
fn cost(number: u64, super_seeding: bool) -> u64 {
    let mut sim = Sim::new(number);
    sim.link.bandwidth = 200_000;
    let content = Content::random(number, 2_000_000, 32_768);
    let seed = sim.node();
    let torrent = sim.seed(seed, &content);
    sim.command(seed, Command::SetSuperSeeding(torrent, super_seeding));
    sim.run_for(Duration::from_secs(1));
    let leeches: Vec<NodeId> = (0..4).map(|_| sim.node()).collect();
    let torrents: Vec<_> = leeches.iter().map(|leech| (*leech, sim.add(*leech, &content))).collect();
    for (at, (leech, torrent)) in torrents.iter().enumerate() {
        sim.introduce(*leech, *torrent, seed);
        leeches[..at].iter().for_each(|other| sim.introduce(*leech, *torrent, *other));
    }
    sim.run_until_finished(Duration::from_secs(600), &torrents);
    leeches.iter().for_each(|leech| sim.assert_complete(*leech, &content));
    sim.status(seed, torrent).total_payload_upload * 100 / 2_000_000
}

#[test]
fn a_swarm_has_everything_for_little_more_than_one_copy() {
    let (plain, super_seeded) = (cost(1, false), cost(1, true));
    assert!(super_seeded < 150 && super_seeded < plain, "{super_seeded} %, and {plain} % without");
}
