//! How connections end: what plugins are asked first, and what they hear.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{Command, Ticket};
use pilotfish::engine::{Input, SocketOperation};
use pilotfish::peer::Transport;
use pilotfish::wire::{Message, RawRequest};
use pilotfish_plugin::{AlertCategory, CustomAlert, ErrorCode, Operation, PeerHandle, Session, Severity};
use pilotfish_tests::sim::{Content, Probe};

use crate::alone::address;
use crate::stranger::{FAST, Strangers};

/// One piece of one block.
fn content() -> Content {
    Content::random(140, 10_000, 16_384)
}

const BLOCK: RawRequest = RawRequest { piece: 0, start: 0, length: 10_000 };

fn set(strangers: &mut Strangers, name: &str, value: &str) {
    strangers.alone.handle(Input::Command(Command::Set(Ticket(9), name.into(), value.into())));
}

/// What makes a session, and a connection of which it is tired.
type ComeAbout = fn(Probe) -> (Strangers, PeerHandle);

/// The eight reasons that are policy, and how each comes about. Nobody sees the connection before it has begun.
const POLICY: [(&str, ComeAbout); 8] = [
    ("upload to upload connection", |probe| {
        let mut strangers = Strangers::of_seed(content(), probe);
        let peer = strangers.meet(1, FAST);
        strangers.alone.tell(peer, &[Message::HaveAll]);
        (strangers, peer)
    }),
    ("uninteresting upload-only peer", |probe| {
        let mut strangers = Strangers::of_leech(content(), probe);
        let peer = strangers.meet(1, crate::stranger::BOTH);
        let upload_only = Message::Extended { id: 0, payload: b"d11:upload_onlyi1ee".to_vec().into() };
        strangers.alone.tell(peer, &[Message::HaveNone, upload_only]);
        strangers.alone.run_for(Duration::from_millis(10));
        (strangers, peer)
    }),
    ("torrent finished", |probe| {
        let mut strangers = Strangers::of_leech(content(), probe);
        let peer = strangers.meet(1, FAST);
        strangers.alone.tell(peer, &[Message::HaveAll, Message::Unchoke]);
        strangers.alone.tell(peer, &[Message::Piece { piece: 0, start: 0, data: vec![7; 10_000].into() }]);
        strangers.hashed(0, true);
        (strangers, peer)
    }),
    ("too many piece requests while choked", |probe| {
        let mut strangers = Strangers::of_seed(content(), probe);
        set(&mut strangers, "allowed_fast_set_size", "0");
        set(&mut strangers, "unchoke_slots_limit", "0");
        let peer = strangers.meet(1, FAST);
        strangers.alone.tell(peer, &[Message::HaveNone, Message::Interested]);
        strangers.alone.tell(peer, &vec![Message::Request(BLOCK); 302]);
        (strangers, peer)
    }),
    ("timed out", |probe| {
        let mut strangers = Strangers::of_leech(content(), probe);
        strangers.alone.offer(strangers.torrent, address(1));
        let peer = strangers.alone.next_call();
        strangers.heard();
        strangers.alone.run_for(Duration::from_secs(20));
        (strangers, peer)
    }),
    ("timed out: inactivity", |probe| {
        let mut strangers = Strangers::of_leech(content(), probe);
        let peer = strangers.meet(1, FAST);
        strangers.alone.tell(peer, &[Message::HaveNone]);
        strangers.alone.run_for(Duration::from_secs(123));
        (strangers, peer)
    }),
    ("timed out: no request", |probe| {
        let mut strangers = Strangers::of_seed(content(), probe);
        set(&mut strangers, "connections_limit", "1");
        let peer = strangers.meet(1, FAST);
        strangers.alone.tell(peer, &[Message::HaveNone, Message::Interested]);
        strangers.alone.run_for(Duration::from_secs(63));
        (strangers, peer)
    }),
    ("timed out: no interest", |probe| {
        let mut strangers = Strangers::of_leech(content(), probe);
        set(&mut strangers, "connections_limit", "1");
        let peer = strangers.meet(1, FAST);
        strangers.alone.tell(peer, &[Message::HaveNone]);
        for _ in 0..14 {
            strangers.alone.run_for(Duration::from_secs(44));
            strangers.alone.tell(peer, &[Message::KeepAlive]);
        }
        (strangers, peer)
    }),
];

#[test]
fn each_reason_of_policy_is_put_to_the_plugins_and_ends_the_connection_if_they_agree() {
    for (reason, come_about) in POLICY {
        let (strangers, peer) = come_about(Probe::new());
        let heard = strangers.heard();
        let asked = heard.iter().position(|line| *line == format!("peer.can_disconnect {reason}"));
        let ended = heard.iter().position(|line| *line == format!("peer.on_disconnect {reason}"));
        assert!(asked.is_some() && asked < ended, "{reason}: {heard:?}");
        assert!(strangers.is_closed(peer), "{reason}");
    }
}

#[test]
fn one_plugin_that_refuses_keeps_the_connection_and_those_behind_it_are_not_asked() {
    for (reason, come_about) in POLICY {
        let probe = Probe::new();
        let kept = probe.log();
        let probe = probe
            .torrent("new_connection", move |cx| {
                let newest = cx.this().peers().pop().unwrap();
                cx.peer(newest).unwrap().add_extension(Probe::beside(&kept, "2 ").on_peer());
                false
            })
            .peer("can_disconnect", |_| true);
        let (strangers, peer) = come_about(probe);
        // Ticks too: there is nothing else that the plugin behind it hears of one that is not connected.
        let heard = strangers.log.lock().unwrap();
        let lines = |start: &str| heard.iter().filter(|line| line.starts_with(start)).count();
        assert!(lines(&format!("peer.can_disconnect {reason}")) > 0, "{reason}: {heard:?}");
        assert!(lines("2 ") > 0 && lines("2 peer.can_disconnect") == 0, "{reason}: {heard:?}");
        assert!(!strangers.is_closed(peer), "{reason}");
    }
}

#[test]
fn plugins_are_asked_again_as_long_as_the_reason_holds() {
    let probe = Probe::new().peer("can_disconnect", |_| true);
    let mut strangers = Strangers::of_leech(content(), probe);
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveNone]);
    strangers.alone.run_for(Duration::from_secs(131));
    let asked = strangers.heard().iter().filter(|line| line.ends_with("timed out: inactivity")).count();
    assert!((9..=12).contains(&asked), "asked {asked} times");
}

/// What ends a connection.
type End = fn(&mut Strangers, PeerHandle);

/// Ends that are not policy.
const OTHERS: [(&str, End); 6] = [
    ("End of file", |strangers, peer| strangers.alone.hang_up(peer)),
    ("torrent paused", |strangers, _| {
        strangers.alone.handle(Input::Command(Command::PauseTorrent(strangers.torrent)));
    }),
    ("torrent removed", |strangers, _| {
        let torrent = strangers.torrent;
        strangers.alone.handle(Input::Command(Command::RemoveTorrent { torrent, delete_files: false }));
    }),
    ("stopping torrent", |strangers, _| {
        strangers.alone.handle(Input::Command(Command::Recheck(strangers.torrent)));
    }),
    ("invalid bitfield size", |strangers, peer| {
        strangers.alone.tell(peer, &[Message::Bitfield(vec![0; 9].into())]);
    }),
    ("invalid message", |strangers, peer| {
        strangers.alone.tell(peer, &[Message::Unknown { id: 99, payload: vec![].into() }]);
    }),
];

#[test]
fn no_plugin_is_asked_where_it_has_no_say() {
    for (reason, end) in OTHERS {
        let probe = Probe::new().peer("can_disconnect", |_| true);
        let mut strangers = Strangers::of_leech(content(), probe);
        let peer = strangers.meet(1, FAST);
        strangers.tell(peer, &[Message::HaveNone]);
        end(&mut strangers, peer);
        let heard = strangers.heard();
        assert!(!heard.iter().any(|line| line.contains("can_disconnect")), "{reason}: {heard:?}");
        assert_eq!(
            heard.iter().filter(|line| line.starts_with("peer.on_disconnect ")).count(),
            1,
            "{reason}"
        );
        assert!(strangers.is_closed(peer), "{reason}");
    }
}

#[test]
fn a_handshake_that_takes_too_long_is_ended_without_asking() {
    let mut strangers = Strangers::of_leech(content(), Probe::new().peer("can_disconnect", |_| true));
    strangers.alone.offer(strangers.torrent, address(1));
    let peer = strangers.alone.next_call();
    strangers.alone.handle(Input::Connected { peer, local: address(0), transport: Transport::Tcp });
    strangers.heard();
    strangers.alone.run_for(Duration::from_secs(60));
    assert_eq!(strangers.heard(), ["peer.on_disconnect timed out: no handshake"]);
}

#[test]
fn the_end_is_heard_of_once_before_its_alert_and_nothing_comes_after_it() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.meet(1, FAST);
    strangers.alone.tell(peer, &[Message::HaveAll]);
    strangers.log.lock().unwrap().clear();
    let wrong = Message::Unknown { id: 99, payload: vec![].into() };
    strangers.alone.tell(peer, &[wrong, Message::Unchoke, Message::Choke]);
    strangers.alone.handle(Input::Failed { peer, operation: SocketOperation::Read, error: None });
    let log = strangers.log.lock().unwrap();
    let lines: Vec<&String> =
        log.iter().filter(|line| line.contains("disconnect") || line.contains("error")).collect();
    assert_eq!(lines, ["peer.on_disconnect invalid message", "session.on_alert peer_error"]);
    let end = log.iter().position(|line| line.starts_with("peer.on_disconnect"));
    assert!(!log[end.unwrap() + 1..].iter().any(|line| line.starts_with("peer.")), "{log:?}");
}

#[test]
fn an_ordinary_end_has_an_alert_of_its_own_behind_the_hook() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.meet(1, FAST);
    strangers.log.lock().unwrap().clear();
    strangers.alone.hang_up(peer);
    let log = strangers.log.lock().unwrap();
    let lines: Vec<&String> = log.iter().filter(|line| line.contains("disconnect")).collect();
    assert_eq!(lines, ["peer.on_disconnect End of file", "session.on_alert peer_disconnected"]);
}

#[test]
fn a_connection_that_is_refused_before_it_joins_its_torrent_is_nothing_to_plugins() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    strangers.alone.handle(Input::Command(Command::PauseTorrent(strangers.torrent)));
    let peer = strangers.call(1, FAST);
    assert!(strangers.heard().is_empty());
    assert!(strangers.is_closed(peer));
}

fn post_again(session: &Session<'_>) {
    session.post_alert(&CustomAlert {
        kind: 1,
        what: "again",
        category: AlertCategory::STATUS,
        message: "",
        payload: &[],
        torrent: None,
        peer: None,
    });
}

/// Alerts cause alerts at the end, and in the midst of that the plugin closes a connection: sooner or later in the turn, and
/// at last in the round that leaves it to a tick that never comes.
#[test]
fn a_connection_whose_end_was_left_to_the_next_tick_ends_with_the_session() {
    for turns in 1..=20 {
        let posted = Arc::new(AtomicUsize::new(0));
        let heard = posted.clone();
        let probe = Probe::new()
            .session("abort", move |cx| {
                posted.store(1, Ordering::Relaxed);
                post_again(&cx.session());
                cx.session().done();
                false
            })
            .session("on_alert", move |cx| {
                let turn = heard.load(Ordering::Relaxed);
                if turn == 0 {
                    return false;
                }
                heard.store(turn + 1, Ordering::Relaxed);
                post_again(&cx.session());
                let torrent = cx.session().torrents()[0];
                let peers = cx.torrent(torrent).map(|torrent| torrent.peers()).unwrap_or_default();
                for peer in peers.into_iter().filter(|_| turn == turns) {
                    let peer = cx.peer(peer).unwrap();
                    peer.disconnect(ErrorCode::SESSION_IS_CLOSING, Operation::UNKNOWN, Severity::NORMAL);
                }
                false
            });
        let mut strangers = Strangers::of_leech(content(), probe);
        let peer = strangers.meet(1, FAST);
        strangers.alone.handle(Input::Command(Command::Shutdown));
        let alerts = &strangers.alone.alerts;
        assert!(alerts.iter().any(|alert| matches!(alert, AlertKind::TooManyRounds { .. })));
        assert_eq!(strangers.alone.closed, [peer], "turn {turns}");
        let ends = strangers.heard().into_iter().filter(|line| line.starts_with("peer.on_disconnect"));
        assert_eq!(ends.count(), 1, "turn {turns}");
    }
}
