//! TCP and uTP: by what peers are connected to, who is let in, and who is told of it.

use pilotfish::alert::AlertKind;
use pilotfish::command::{Command, Ticket};
use pilotfish::engine::{Dial, Input};
use pilotfish::peer::Transport;
use pilotfish::plugins::builtin::create_ut_pex_plugin;
use pilotfish::settings::Settings;
use pilotfish::wire::Message;
use pilotfish_plugin::{PeerHandle, PeerInfo, SessionBox, rt};
use pilotfish_tests::sim::{Content, Probe, talkative};
use std::time::Duration;

use crate::alone::{Alone, address, handshake};

fn content() -> Content {
    Content::random(620, 100_000, 16_384)
}

fn settings(changes: &[(&str, &str)]) -> Settings {
    let mut settings = talkative();
    changes.iter().for_each(|(name, value)| settings.set(name, value).unwrap());
    settings
}

/// By what a peer is called under these settings.
fn dialled(changes: &[(&str, &str)]) -> Option<Dial> {
    let mut alone = Alone::new(settings(changes));
    let torrent = alone.add(&content());
    alone.offer(torrent, address(1));
    alone.run_for(Duration::from_secs(5));
    alone.dials.first().map(|(_, dial)| *dial)
}

const NO_TCP: (&str, &str) = ("enable_outgoing_tcp", "false");
const NO_UTP: (&str, &str) = ("enable_outgoing_utp", "false");

#[test]
fn peers_are_called_by_what_the_settings_allow() {
    assert_eq!(dialled(&[]), Some(Dial::Race { speaks_utp: false, utp_first: false }));
    assert_eq!(dialled(&[NO_UTP]), Some(Dial::Tcp));
    assert_eq!(dialled(&[NO_TCP]), Some(Dial::Utp));
    assert_eq!(dialled(&[NO_TCP, NO_UTP]), None);
}

#[test]
fn nothing_goes_past_a_proxy_by_utp() {
    let proxy = [("proxy_type", "socks5"), ("proxy_hostname", "10.0.0.99"), ("proxy_port", "1080")];
    assert_eq!(dialled(&proxy), Some(Dial::Tcp));
    assert_eq!(dialled(&[&proxy[..], &[NO_TCP]].concat()), None);
    let for_trackers_only = [&proxy[..], &[("proxy_peer_connections", "false")]].concat();
    assert_eq!(dialled(&for_trackers_only), Some(Dial::Race { speaks_utp: false, utp_first: false }));
}

#[test]
fn whoever_calls_is_let_in_by_what_the_settings_allow() {
    for (closed, name) in [(Transport::Tcp, "enable_incoming_tcp"), (Transport::Utp, "enable_incoming_utp")] {
        let mut alone = Alone::new(settings(&[(name, "false")]));
        alone.add(&content());
        for transport in [Transport::Tcp, Transport::Utp] {
            let (open, now) = (transport != closed, alone.now);
            assert_eq!(alone.engine.welcomes(address(1), transport, now), open);
            assert_eq!(alone.engine.accept(address(1), address(0), transport, now).is_some(), open);
        }
    }
}

#[test]
fn an_address_that_is_kept_out_is_not_welcome_by_utp_either() {
    let mut alone = Alone::new(settings(&[("connections_limit", "2"), ("connections_slack", "0")]));
    let now = alone.now;
    for number in 1..=2 {
        assert!(alone.engine.welcomes(address(number), Transport::Utp, now));
        assert!(alone.engine.accept(address(number), address(0), Transport::Utp, now).is_some());
    }
    assert!(!alone.engine.welcomes(address(3), Transport::Utp, now), "there is no room for it");
}

/// A session with ut_pex, and a plugin that says by what a peer is connected when it says that it has nothing.
fn session() -> (Alone, pilotfish_tests::sim::Log) {
    let mut alone = Alone::new(talkative());
    alone.plug(|| SessionBox::new(rt::factory(create_ut_pex_plugin)));
    let probe = Probe::new();
    let log = probe.log();
    let seen = log.clone();
    let probe = probe.peer("on_have_none", move |cx| {
        let utp = cx.this().peer_info().flag(PeerInfo::UTP_SOCKET);
        seen.lock().unwrap().push(format!("by uTP: {utp}"));
        false
    });
    alone.plug(|| probe.on_session());
    (alone, log)
}

fn extended(id: u8, payload: &[u8]) -> Message {
    Message::Extended { id, payload: payload.to_vec().into() }
}

/// A peer that has called by `transport`, listens on port 6881 itself, and speaks ut_pex.
fn caller(alone: &mut Alone, number: u8, transport: Transport) -> PeerHandle {
    let peer = alone.engine.accept(address(number), address(0), transport, alone.now).unwrap();
    alone.say(peer, &handshake(&content(), number));
    alone.tell(peer, &[extended(0, b"d1:md6:ut_pexi5ee1:pi6881ee"), Message::HaveNone]);
    peer
}

#[test]
fn plugins_see_what_a_peer_is_connected_by_and_other_peers_hear_of_it() {
    let (mut alone, log) = session();
    alone.add(&content());
    caller(&mut alone, 1, Transport::Utp);
    let other = caller(&mut alone, 2, Transport::Tcp);
    let seen: Vec<String> =
        log.lock().unwrap().iter().filter(|line| line.starts_with("by uTP")).cloned().collect();
    assert_eq!(seen, ["by uTP: true", "by uTP: false"]);
    let types: Vec<&str> = (alone.alerts.iter())
        .filter_map(|alert| match alert {
            AlertKind::PeerConnect { socket_type, .. } => Some(socket_type.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(types, ["uTP", "TCP"]);
    alone.run_for(Duration::from_secs(70));
    let told = alone.sent[&other].clone();
    // The flag alone: it called, and is no seed.
    let flags = b"7:added.f1:\x04";
    assert!(told.windows(flags.len()).any(|window| window == flags), "{}", told.escape_ascii());
}

#[test]
fn a_peer_that_is_said_or_was_seen_to_speak_utp_is_known_to() {
    let (mut alone, _) = session();
    let torrent = alone.add(&content());
    let teller = caller(&mut alone, 1, Transport::Tcp);
    let id = alone.our_id(teller, "ut_pex").expect("ut_pex in our handshake");
    let peers = b"d5:added12:\x14\0\0\x01\x1a\xe1\x14\0\0\x02\x1a\xe17:added.f2:\x04\0e";
    alone.tell(teller, &[extended(id, peers)]);
    alone.run_for(Duration::from_secs(5));
    let known = |speaks_utp| Dial::Race { speaks_utp, utp_first: false };
    let dial = |alone: &Alone, address: &str| {
        let address = address.parse().unwrap();
        alone.dials.iter().rev().find(|(to, _)| *to == address).map(|(_, dial)| *dial)
    };
    assert_eq!(dial(&alone, "20.0.0.1:6881"), Some(known(true)));
    assert_eq!(dial(&alone, "20.0.0.2:6881"), Some(known(false)));

    alone.offer(torrent, address(9));
    alone.run_for(Duration::from_secs(5));
    let (peer, _) = *alone.calls.iter().find(|(_, to)| *to == address(9)).unwrap();
    alone.handle(Input::Connected { peer, local: address(0), transport: Transport::Utp });
    alone.hang_up(peer);
    alone.dials.clear();
    alone.run_for(Duration::from_secs(600));
    assert_eq!(dial(&alone, &address(9).to_string()), Some(known(true)));
}

#[test]
fn utp_has_a_start_with_a_peer_that_took_tcp_and_hung_up() {
    let mut alone = Alone::new(talkative());
    let torrent = alone.add(&content());
    alone.offer(torrent, address(1));
    let race = |utp_first| Dial::Race { speaks_utp: false, utp_first };
    let mut dials = Vec::new();
    for said in [&b""[..], b"", &handshake(&content(), 1), b""] {
        let peer = alone.next_call();
        dials.push(alone.dials.pop().unwrap().1);
        alone.handle(Input::Connected { peer, local: address(0), transport: Transport::Tcp });
        alone.say(peer, said);
        alone.hang_up(peer);
    }
    // Whoever speaks is welcome to go on by TCP.
    assert_eq!(dials, [race(false), race(true), race(true), race(false)]);
}

#[test]
fn a_proxy_that_is_switched_on_ends_calls_that_go_past_it_and_lets_nobody_in_by_utp() {
    let mut alone = Alone::new(talkative());
    let torrent = alone.add(&content());
    alone.offer(torrent, address(1));
    let call = alone.next_call();
    let proxy = [("proxy_hostname", "10.0.0.99"), ("proxy_port", "1080"), ("proxy_type", "socks5")];
    for (name, value) in proxy {
        alone.handle(Input::Command(Command::Set(Ticket(0), name.to_owned(), value.to_owned())));
    }
    assert_eq!(alone.closed, [call]);
    let now = alone.now;
    assert!(!alone.engine.welcomes(address(2), Transport::Utp, now), "the answer would show who we are");
}
