//! How connections begin, and who stays on them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::engine::Input;
use pilotfish::peer::Transport;
use pilotfish::wire::{ExtensionHandshake, Message};
use pilotfish_plugin::{
    Dict, Entry, ErrorCode, Operation, PeerBox, PeerContext, PeerPlugin, Severity, hooks,
};
use pilotfish_tests::sim::{Content, Log, Probe, Sim};

use crate::alone::address;
use crate::stranger::{BOTH, FAST, SLOW, Strangers};

fn content() -> Content {
    Content::random(120, 40 * 16_384, 16_384)
}

fn extended(id: u8, payload: &[u8]) -> Message {
    Message::Extended { id, payload: payload.to_vec().into() }
}

#[test]
fn an_incoming_connection_is_never_told_that_it_is_connected() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    strangers.call(1, BOTH);
    assert_eq!(
        strangers.heard(),
        ["torrent.new_connection 1", "peer.on_handshake", "peer.add_handshake", "peer.sent_have_none"]
    );
}

#[test]
fn an_attempt_that_fails_only_ends() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    strangers.alone.offer(strangers.torrent, address(1));
    strangers.heard();
    let peer = strangers.alone.next_call();
    strangers.alone.refuse(peer);
    let heard = strangers.heard();
    let [end] = &heard[..] else { panic!("{heard:?}") };
    assert!(end.starts_with("peer.on_disconnect"), "{end}");
}

#[test]
fn there_is_no_extended_handshake_for_a_peer_that_does_not_speak_it() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.call(1, FAST);
    assert!(!strangers.heard().contains(&"peer.add_handshake".to_owned()));
    assert!(!strangers.alone.told(peer).iter().any(|message| matches!(message, Message::Extended { .. })));
}

#[test]
fn who_leaves_at_either_handshake_hears_nothing_more_and_the_others_stay() {
    for hook in ["on_handshake", "on_extension_handshake"] {
        let first = Probe::new();
        let log = first.log();
        let leaver = Probe::beside(&log, "2 ").peer(hook, |_| true);
        let third = Probe::beside(&log, "3 ");
        let mut strangers = Strangers::new(content(), vec![first, leaver, third], false);
        let peer = strangers.call(1, BOTH);
        strangers.alone.tell(peer, &[extended(0, b"de"), Message::HaveNone, extended(200, b"x")]);
        strangers.alone.hang_up(peer);
        let heard = strangers.heard();
        let last = heard.iter().rfind(|line| line.starts_with("2 ")).unwrap();
        assert_eq!(*last, format!("2 peer.{hook}"));
        for line in
            ["peer.on_extension_handshake", "peer.on_extended 200 1", "peer.on_disconnect End of file"]
        {
            let seen = |prefix: &str| heard.contains(&format!("{prefix}{line}"));
            assert!(seen("") && seen("3 "), "{line}: {heard:?}");
        }
    }
}

#[test]
fn a_peer_may_say_its_extended_handshake_as_often_as_it_likes_and_one_that_is_none_is_ignored() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.meet(1, BOTH);
    for _ in 0..3 {
        assert_eq!(strangers.tell(peer, &[extended(0, b"d1:v1:xe")]), ["peer.on_extension_handshake"]);
    }
    for broken in [&b""[..], b"d", b"i1e", b"le", b"d1:v", b"no"] {
        assert!(strangers.tell(peer, &[extended(0, broken)]).is_empty(), "{broken:?}");
    }
    assert!(!strangers.is_closed(peer));
}

/// Overwrites the version and says which it found.
struct Author(&'static str, Log);

#[hooks]
impl PeerPlugin for Author {
    fn add_handshake(&mut self, _: &mut PeerContext<'_>, mut entry: Entry<'_>) {
        let encoded = entry.encode();
        let found = Dict::parse(&encoded).unwrap().0.str("v").unwrap().to_owned();
        self.1.lock().unwrap().push(format!("{} found {found}", self.0));
        entry.insert_bytes("v", self.0.as_bytes());
    }
}

#[test]
fn a_later_plugin_finds_and_overwrites_what_an_earlier_one_wrote_into_our_handshake() {
    let notes = Log::default();
    let kept = notes.clone();
    let probe = Probe::new().peer("on_connected", move |cx| {
        for name in ["first", "second"] {
            cx.this().add_extension(PeerBox::new(Author(name, kept.clone())));
        }
        false
    });
    let mut strangers = Strangers::of_leech(content(), probe);
    strangers.alone.offer(strangers.torrent, address(1));
    let peer = strangers.alone.next_call();
    strangers.alone.handle(Input::Connected { peer, local: address(0), transport: Transport::Tcp });
    strangers.alone.say(peer, &crate::alone::handshake(&content(), 1));
    let notes = notes.lock().unwrap();
    assert!(notes[0].starts_with("first found Pilotfish"), "{notes:?}");
    assert_eq!(notes[1..], ["second found first"]);
    let told = strangers.alone.told(peer);
    let Some(Message::Extended { id: 0, payload }) = told.first() else { panic!("{told:?}") };
    assert_eq!(ExtensionHandshake::parse(payload).unwrap().version.as_deref(), Some("second"));
}

#[test]
fn what_a_plugin_sends_at_the_handshake_stands_before_the_engines_own_messages() {
    let probe = Probe::new().peer("on_handshake", |cx| {
        cx.this().send_buffer(&[0, 0, 0, 1, 77]);
        false
    });
    let mut strangers = Strangers::of_leech(content(), probe);
    let peer = strangers.meet(1, BOTH);
    let told = strangers.alone.told(peer);
    let kinds: Vec<u8> = told
        .iter()
        .map(|message| match message {
            Message::Unknown { id, .. } => *id,
            Message::Extended { .. } => 20,
            Message::HaveNone => 15,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [77, 20, 15]);
}

#[test]
fn a_panic_at_a_new_connection_closes_it_and_the_plugins_before_it_hear_of_the_end() {
    for outgoing in [false, true] {
        let first = Probe::new();
        let log = first.log();
        let broken = Probe::beside(&log, "2 ").torrent("new_connection", |_| panic!("on purpose"));
        let mut strangers = Strangers::new(content(), vec![first, broken], false);
        strangers.heard();
        if outgoing {
            strangers.alone.offer(strangers.torrent, address(1));
        } else {
            let peer = strangers.call(1, BOTH);
            assert!(strangers.is_closed(peer) && strangers.alone.told(peer).is_empty());
        }
        let mut heard = strangers.heard();
        heard.retain(|line| !line.contains("on_add_peer"));
        let attach = if outgoing { 0 } else { 1 };
        let expected = [
            format!("torrent.new_connection {attach}"),
            format!("2 torrent.new_connection {attach}"),
            "peer.on_disconnect plugin panicked".to_owned(),
        ];
        assert_eq!(heard, expected);
        // The plugin has left the torrent, and the next connection is nothing to it.
        let peer = strangers.call(2, BOTH);
        assert!(!strangers.heard().iter().any(|line| line.starts_with("2 ")));
        assert!(!strangers.is_closed(peer));
    }
}

#[test]
fn a_connection_that_a_plugin_ends_when_it_is_made_gets_no_word_and_is_not_called() {
    let end = |probe: Probe| {
        probe.torrent("new_connection", |cx| {
            let newest = cx.this().peers().pop().unwrap();
            let peer = cx.peer(newest).unwrap();
            peer.disconnect(ErrorCode::plugin(7), Operation::BITTORRENT, Severity::NORMAL);
            peer.disconnect(ErrorCode::plugin(8), Operation::BITTORRENT, Severity::NORMAL);
            assert!(peer.is_disconnecting());
            false
        })
    };
    let mut strangers = Strangers::of_leech(content(), end(Probe::new()));
    let peer = strangers.call(1, BOTH);
    assert_eq!(strangers.heard(), ["torrent.new_connection 1", "peer.on_disconnect"]);
    assert!(strangers.is_closed(peer) && !strangers.alone.sent.contains_key(&peer));
    strangers.alone.offer(strangers.torrent, address(2));
    assert!(strangers.alone.calls.is_empty());
}

#[test]
fn who_comes_late_to_a_connection_has_missed_its_handshakes() {
    let late = Log::default();
    let (kept, done) = (late.clone(), Mutex::new(false));
    let probe = Probe::new().torrent("tick", move |cx| {
        if !std::mem::replace(&mut done.lock().unwrap(), true) {
            cx.this().add_extension(Probe::beside(&kept, "").on_torrent());
        }
        false
    });
    let mut strangers = Strangers::of_leech(content(), probe);
    let peers = [strangers.meet(1, BOTH), strangers.meet(2, SLOW)];
    strangers.alone.run_for(std::time::Duration::from_secs(2));
    strangers.tell(peers[0], &[Message::HaveAll]);
    let mut late = late.lock().unwrap().clone();
    late.retain(|line| !line.ends_with("tick"));
    let expected = [
        "torrent.new_connection 2",
        "torrent.new_connection 2",
        "torrent.on_files_checked",
        "peer.on_have_all",
        "peer.sent_interested",
    ];
    assert_eq!(late, expected);
}

#[test]
fn an_object_added_to_a_connection_in_a_hook_is_not_called_in_that_hook_but_in_the_next_once() {
    let late = Log::default();
    let (kept, done) = (Arc::clone(&late), Mutex::new(false));
    let probe = Probe::new().peer("on_have", move |cx| {
        if !std::mem::replace(&mut done.lock().unwrap(), true) {
            cx.this().add_extension(Probe::beside(&kept, "").on_peer());
        }
        false
    });
    let mut strangers = Strangers::of_leech(content(), probe);
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveNone, Message::Have(1), Message::Have(2), Message::Have(3)]);
    let mut late = late.lock().unwrap().clone();
    late.retain(|line| line.contains("on_have"));
    assert_eq!(late, ["peer.on_have 2", "peer.on_have 3"]);
}

#[test]
fn whoever_turns_out_to_be_ourselves_is_not_called_again() {
    let mut sim = Sim::new(360);
    let content = Content::random(360, 100_000, 16_384);
    let node = sim.node();
    let torrent = sim.add(node, &content);
    for _ in 0..3 {
        sim.introduce(node, torrent, node);
        sim.run_for(Duration::from_secs(600));
    }
    let calls =
        sim.alerts(node).filter(|alert| matches!(alert, AlertKind::PeerConnect { incoming: false, .. }));
    assert_eq!(calls.count(), 1);
    assert_eq!(sim.open_connections(), 0);
}
