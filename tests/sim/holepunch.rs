//! Peers that introduce others to each other, with ut_holepunch (BEP 55).

use std::net::SocketAddr;
use std::time::Duration;

use pilotfish::command::{AddTorrent, Command, Ticket};
use pilotfish::engine::{Dial, Input};
use pilotfish::job::DiskDone;
use pilotfish::peer::{Transport, UT_HOLEPUNCH};
use pilotfish::plugins::builtin::create_ut_pex_plugin;
use pilotfish::settings::Settings;
use pilotfish::wire::{Holepunch, HolepunchError, Message};
use pilotfish_plugin::{PeerHandle, PeerInfo, SessionBox, TorrentHandle, rt};
use pilotfish_tests::sim::{Content, Probe, talkative};

use crate::alone::{Alone, address, handshake, opened};

/// The number under which the peers here want the messages.
const THEIRS: u8 = 44;
/// Somebody whom nobody is connected to.
const FAR: &str = "20.0.0.1:6881";

fn far() -> SocketAddr {
    FAR.parse().unwrap()
}

fn content() -> Content {
    Content::random(630, 100_000, 16_384)
}

/// A session with ut_pex, and its torrent.
fn session(settings: Settings) -> (Alone, TorrentHandle) {
    let mut alone = Alone::new(settings);
    alone.plug(|| SessionBox::new(rt::factory(create_ut_pex_plugin)));
    let torrent = alone.add(&content());
    (alone, torrent)
}

fn extended(id: u8, payload: &[u8]) -> Message {
    Message::Extended { id, payload: payload.to_vec().into() }
}

/// A peer that has called, listens on port 6881 itself, and says that it knows these extensions.
fn caller(alone: &mut Alone, number: u8, transport: Transport, extensions: &str) -> PeerHandle {
    let mut remote = address(number);
    if transport == Transport::Tcp {
        remote.set_port(50_000);
    }
    let peer = alone.engine.accept(remote, address(0), transport, alone.now).unwrap();
    alone.say(peer, &handshake(&content(), number));
    let said = format!("d1:md{extensions}e1:pi6881ee");
    alone.tell(peer, &[extended(0, said.as_bytes()), Message::HaveNone]);
    peer
}

const PEX: &str = "6:ut_pexi5e";
const BOTH: &str = "12:ut_holepunchi44e6:ut_pexi5e";

fn say(alone: &mut Alone, peer: PeerHandle, said: Holepunch) {
    alone.tell(peer, &[extended(UT_HOLEPUNCH, &said.encode())]);
}

/// What a peer was told about introductions.
fn heard(alone: &Alone, peer: PeerHandle) -> Vec<Holepunch> {
    let about = |message: Message| match message {
        Message::Extended { id: THEIRS, payload } => Some(Holepunch::parse(&payload).unwrap()),
        _ => None,
    };
    alone.told(peer).into_iter().filter_map(about).collect()
}

/// A peer tells us of somebody far away, with these flags.
fn tell_of_far(alone: &mut Alone, teller: PeerHandle, flags: u8) {
    let id = alone.our_id(teller, "ut_pex").unwrap();
    let message = [b"d5:added6:\x14\0\0\x01\x1a\xe17:added.f1:".as_slice(), &[flags], b"e"].concat();
    alone.tell(teller, &[extended(id, &message)]);
}

/// How somebody far away was called so far.
fn calls(alone: &Alone) -> Vec<Dial> {
    alone.dials.iter().filter(|(to, _)| *to == far()).map(|(_, dial)| *dial).collect()
}

fn called(alone: &Alone) -> PeerHandle {
    alone.calls.iter().rev().find(|(_, to)| *to == far()).unwrap().0
}

#[test]
fn two_peers_that_we_know_are_told_of_each_other() {
    let (mut alone, _) = session(Settings { connection_speed: 0, ..talkative() });
    let one = caller(&mut alone, 1, Transport::Tcp, BOTH);
    let other = caller(&mut alone, 2, Transport::Utp, BOTH);
    assert_eq!(alone.our_id(one, "ut_holepunch"), Some(UT_HOLEPUNCH));
    say(&mut alone, one, Holepunch::Rendezvous(address(2)));
    // One by where it says that it listens, the other by where its packets come from.
    assert_eq!(heard(&alone, one), [Holepunch::Connect(address(2))]);
    assert_eq!(heard(&alone, other), [Holepunch::Connect(address(1))]);
    say(&mut alone, other, Holepunch::Rendezvous(address(1)));
    assert_eq!(heard(&alone, one)[1..], [Holepunch::Connect(address(2))]);
}

#[test]
fn who_asks_for_a_peer_is_told_where_its_packets_come_from() {
    let (mut alone, _) = session(Settings { connection_speed: 0, ..talkative() });
    let one = caller(&mut alone, 1, Transport::Utp, BOTH);
    // It listens on port 6881, of which a router has made another.
    let outside = SocketAddr::new(address(2).ip(), 40_123);
    let other = alone.engine.accept(outside, address(0), Transport::Utp, alone.now).unwrap();
    alone.say(other, &handshake(&content(), 2));
    alone.tell(other, &[extended(0, format!("d1:md{BOTH}e1:pi6881ee").as_bytes()), Message::HaveNone]);
    say(&mut alone, one, Holepunch::Rendezvous(address(2)));
    assert_eq!(heard(&alone, one), [Holepunch::Connect(outside)]);
    assert_eq!(heard(&alone, other), [Holepunch::Connect(address(1))]);
}

#[test]
fn nobody_is_introduced_in_a_torrent_that_exchanges_no_peers() {
    let mut alone = Alone::new(Settings { connection_speed: 0, ..talkative() });
    let torrent = AddTorrent { disable_pex: true, ..AddTorrent::new(content().metainfo.clone()) };
    alone.handle(Input::Command(Command::AddTorrent(Ticket(0), Box::new(torrent))));
    let storage = alone.jobs.drain(..).find_map(opened).unwrap();
    alone.handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(false) }));
    let one = caller(&mut alone, 1, Transport::Utp, BOTH);
    caller(&mut alone, 2, Transport::Utp, BOTH);
    say(&mut alone, one, Holepunch::Rendezvous(address(2)));
    say(&mut alone, one, Holepunch::Connect(far()));
    assert!(heard(&alone, one).is_empty() && alone.dials.is_empty());
}

#[test]
fn who_cannot_be_introduced_is_told_why() {
    let (mut alone, _) = session(Settings { connection_speed: 0, ..talkative() });
    let one = caller(&mut alone, 1, Transport::Tcp, BOTH);
    let deaf = caller(&mut alone, 2, Transport::Tcp, PEX);
    let nobody = SocketAddr::from(([10, 9, 0, 9], 0));
    let asked = [
        (far(), HolepunchError::NotConnected),
        (address(1), HolepunchError::NoSelf),
        (address(2), HolepunchError::NoSupport),
        (nobody, HolepunchError::NoSuchPeer),
    ];
    for (target, _) in asked {
        say(&mut alone, one, Holepunch::Rendezvous(target));
    }
    assert_eq!(heard(&alone, one), asked.map(|(target, error)| Holepunch::Error(target, error)));
    assert!(heard(&alone, deaf).is_empty());
}

#[test]
fn a_peer_that_cannot_be_called_is_called_again_while_it_calls_once_somebody_introduced_us() {
    let mut alone = Alone::new(talkative());
    alone.plug(|| SessionBox::new(rt::factory(create_ut_pex_plugin)));
    let probe = Probe::new();
    let log = probe.log();
    let seen = log.clone();
    let probe = probe.peer("on_connected", move |cx| {
        seen.lock()
            .unwrap()
            .push(format!("holepunched: {}", cx.this().peer_info().flag(PeerInfo::HOLEPUNCHED)));
        false
    });
    alone.plug(|| probe.on_session());
    alone.add(&content());
    let teller = caller(&mut alone, 1, Transport::Tcp, BOTH);
    tell_of_far(&mut alone, teller, 0x0c);
    assert_eq!(calls(&alone), [Dial::Race { speaks_utp: true, utp_first: false }]);
    assert!(heard(&alone, teller).is_empty());
    let peer = called(&alone);
    alone.refuse(peer);
    assert_eq!(heard(&alone, teller), [Holepunch::Rendezvous(far())]);
    say(&mut alone, teller, Holepunch::Connect(far()));
    assert_eq!(calls(&alone)[1..], [Dial::Utp]);
    // Once is enough: it is being called.
    say(&mut alone, teller, Holepunch::Connect(far()));
    assert_eq!(calls(&alone).len(), 2);
    let peer = called(&alone);
    alone.handle(Input::Connected { peer, local: address(0), transport: Transport::Utp });
    let seen: Vec<String> =
        log.lock().unwrap().iter().filter(|line| line.starts_with("holep")).cloned().collect();
    assert_eq!(seen, ["holepunched: true"]);
}

#[test]
fn an_introduction_that_leads_to_nothing_is_not_asked_for_again_at_once() {
    let (mut alone, _) = session(talkative());
    let teller = caller(&mut alone, 1, Transport::Tcp, BOTH);
    tell_of_far(&mut alone, teller, 0x0c);
    let peer = called(&alone);
    // Nobody answers: that is how most of them look.
    alone.run_for(Duration::from_secs(20));
    assert!(alone.closed.contains(&peer));
    assert_eq!(heard(&alone, teller), [Holepunch::Rendezvous(far())]);
    say(&mut alone, teller, Holepunch::Connect(far()));
    let peer = called(&alone);
    alone.refuse(peer);
    say(&mut alone, teller, Holepunch::Error(far(), HolepunchError::NotConnected));
    assert_eq!(heard(&alone, teller).len(), 1);
}

#[test]
fn nobody_is_asked_to_introduce_us_to_who_does_not_know_how_or_by_who_does_not() {
    for (extensions, flags) in [(BOTH, 0x04), (PEX, 0x0c)] {
        let (mut alone, _) = session(talkative());
        let teller = caller(&mut alone, 1, Transport::Tcp, extensions);
        let other = caller(&mut alone, 2, Transport::Tcp, BOTH);
        tell_of_far(&mut alone, teller, flags);
        let peer = called(&alone);
        alone.refuse(peer);
        assert!(heard(&alone, teller).is_empty() && heard(&alone, other).is_empty());
    }
}

#[test]
fn who_is_about_to_call_us_is_called_whoever_it_is() {
    let (mut alone, _) = session(talkative());
    let introducer = caller(&mut alone, 1, Transport::Utp, BOTH);
    say(&mut alone, introducer, Holepunch::Connect(far()));
    assert_eq!(calls(&alone), [Dial::Utp]);
}

#[test]
fn nobody_who_is_banned_or_connected_or_no_peer_is_called() {
    let (mut alone, torrent) = session(talkative());
    let introducer = caller(&mut alone, 1, Transport::Tcp, BOTH);
    caller(&mut alone, 2, Transport::Tcp, BOTH);
    let (torrent, reason) = (Some(torrent), "of no use".to_owned());
    alone.handle(Input::Command(Command::Ban { torrent, address: far().ip(), reason }));
    let nobody = SocketAddr::from(([20, 0, 0, 9], 0));
    for target in [far(), address(2), nobody] {
        say(&mut alone, introducer, Holepunch::Connect(target));
    }
    assert!(alone.dials.is_empty(), "{:?}", alone.dials);
}

#[test]
fn who_asks_for_too_much_is_not_listened_to_for_a_while() {
    let (mut alone, _) = session(Settings { connection_speed: 0, ..talkative() });
    let asker = caller(&mut alone, 1, Transport::Tcp, BOTH);
    for _ in 0..200 {
        say(&mut alone, asker, Holepunch::Rendezvous(far()));
    }
    assert_eq!(heard(&alone, asker).len(), 50);
    alone.run_for(Duration::from_secs(60));
    say(&mut alone, asker, Holepunch::Rendezvous(far()));
    assert_eq!(heard(&alone, asker).len(), 51);
}

#[test]
fn without_utp_there_is_no_such_extension() {
    for setting in ["enable_outgoing_utp", "enable_incoming_utp"] {
        let mut settings = talkative();
        settings.set(setting, "false").unwrap();
        let (mut alone, _) = session(settings);
        let one = caller(&mut alone, 1, Transport::Tcp, BOTH);
        caller(&mut alone, 2, Transport::Tcp, BOTH);
        assert_eq!(alone.our_id(one, "ut_holepunch"), None);
        say(&mut alone, one, Holepunch::Rendezvous(address(2)));
        say(&mut alone, one, Holepunch::Connect(far()));
        assert!(heard(&alone, one).is_empty() && alone.dials.is_empty());
    }
}

#[test]
fn peers_hear_who_can_be_introduced() {
    let (mut alone, _) = session(talkative());
    caller(&mut alone, 1, Transport::Utp, BOTH);
    let other = caller(&mut alone, 2, Transport::Tcp, PEX);
    alone.run_for(Duration::from_secs(70));
    let (told, flags) = (&alone.sent[&other], b"7:added.f1:\x0c");
    assert!(told.windows(flags.len()).any(|window| window == flags), "{}", told.escape_ascii());
}
