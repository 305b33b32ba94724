//! What plugins do to connections by their handles, in every phase.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish_plugin::{Direction, ErrorCode, Operation, Peer, PeerHandle, RegisterError, Severity};
use pilotfish_tests::sim::{Log, Probe, stream_cipher};

use crate::handles::{INCOMING, OUTGOING, Pair, in_phases};

/// What an effect answered in each phase of the outgoing end, on a connection of its own each time.
fn in_each_phase<T: Send + 'static>(
    number: u64,
    act: impl Fn(&Peer<'_>) -> T + Clone + Send + Sync + 'static,
) -> Vec<(&'static str, T, Pair)> {
    let run = |i: usize| {
        let said = Arc::new(Mutex::new(None));
        let (answer, act) = (said.clone(), act.clone());
        let probe = in_phases(&OUTGOING[i..=i], move |_, peer| *answer.lock().unwrap() = Some(act(peer)));
        let mut pair = Pair::new(number, Probe::new(), probe);
        pair.meet();
        let said = said.lock().unwrap().take();
        (OUTGOING[i], said.unwrap_or_else(|| panic!("{} never came", OUTGOING[i])), pair)
    };
    (0..OUTGOING.len()).map(run).collect()
}

fn answers<T: Clone>(said: &[(&'static str, T, Pair)]) -> Vec<T> {
    said.iter().map(|(_, answer, _)| answer.clone()).collect()
}

#[test]
fn raw_bytes_are_queued_in_every_phase_but_the_last() {
    // A keep-alive, which is at its place between messages only: before the handshake, it is the end.
    let said = in_each_phase(62, |peer| {
        let before = peer.send_queue_len();
        peer.send_buffer(&[0; 4]);
        peer.send_queue_len() - before
    });
    assert_eq!(answers(&said), [4, 4, 4, 4, 0]);
}

#[test]
fn names_of_extended_messages_can_be_taken_until_our_extended_handshake() {
    let said = in_each_phase(63, |peer| {
        let names = ["x_first", "x_second", "x_first", "lt_donthave"];
        names.map(|name| peer.register_extended(name))
    });
    let taken = [Ok(10), Ok(11), Ok(10), Err(RegisterError::NameTaken)];
    let late = [Err(RegisterError::TooLate); 4];
    assert_eq!(answers(&said), [taken, taken, taken, late, late]);
}

#[test]
fn extended_messages_are_sent_once_the_peer_has_named_them() {
    let log = Log::default();
    let on_seed = Probe::beside(&log, "").peer("add_handshake", |cx| {
        assert_eq!(cx.this().register_extended("x_note"), Ok(10));
        false
    });
    let said = Arc::new(Mutex::new(Vec::new()));
    let answers = said.clone();
    let on_leech = in_phases(&OUTGOING, move |_, peer| {
        let sent = ["x_note", "x_nobody"].map(|name| peer.send_extended(name, b"hello"));
        answers.lock().unwrap().push(sent);
    });
    Pair::new(64, on_seed, on_leech).meet();
    let before = [false, false];
    assert_eq!(*said.lock().unwrap(), [before, before, before, [true, false], before]);
    let heard: Vec<_> =
        log.lock().unwrap().iter().filter(|line| line.contains("on_extended ")).cloned().collect();
    assert_eq!(heard, ["peer.on_extended 10 5"]);
}

#[test]
fn a_connection_can_be_ended_in_every_phase_and_the_first_reason_counts() {
    let said = in_each_phase(65, |peer| {
        peer.disconnect(ErrorCode::plugin(1), Operation::BITTORRENT, Severity::FAILURE);
        peer.disconnect(ErrorCode::plugin(2), Operation::UNKNOWN, Severity::NORMAL);
        (peer.is_disconnecting(), peer.failed())
    });
    // In the last phase there is a reason already.
    assert_eq!(answers(&said), [(true, true), (true, true), (true, true), (true, true), (true, false)]);
    for (phase, _, pair) in &said[..4] {
        let errors = pair.sim.alerts(pair.leech).filter_map(|alert| match alert {
            AlertKind::PeerDisconnected { error, .. } => Some(*error),
            _ => None,
        });
        assert_eq!(errors.collect::<Vec<_>>(), [ErrorCode::plugin(1)], "{phase}");
    }
}

#[test]
fn a_plugin_object_can_be_added_in_every_phase_but_sees_nothing_of_the_last() {
    for (i, phase) in OUTGOING.iter().enumerate() {
        let log = Log::default();
        let kept = log.clone();
        let probe = in_phases(&OUTGOING[i..=i], move |_, peer| {
            peer.add_extension(Probe::beside(&kept, "").on_peer());
            assert_eq!(peer.find_plugin("probe").is_some(), i > 0, "it comes after the hook");
        });
        Pair::new(66, Probe::new(), probe).meet();
        let seen = log.lock().unwrap();
        let first = seen.first().and_then(|line| line.split(' ').next());
        let firsts = ["peer.on_connected", "peer.on_handshake", "peer.add_handshake", "peer.write_request"];
        assert_eq!(first, firsts.get(i).copied(), "{phase}: {seen:?}");
        let ends = seen.iter().filter(|line| line.starts_with("peer.on_disconnect")).count();
        assert_eq!(ends, usize::from(i < 4), "{phase}: {seen:?}");
    }
}

#[test]
fn a_log_line_names_its_connection_in_every_phase() {
    let said = in_each_phase(67, |peer| {
        peer.peer_log(Direction::OutgoingMessage, "NOTE", "text with %s and {}");
        peer.handle()
    });
    for (phase, handle, pair) in &said {
        let lines = pair.sim.alerts(pair.leech).filter_map(|alert| match alert {
            AlertKind::PeerLog { peer, torrent, direction: 1, event, text, .. } if event == "NOTE" => {
                Some((*peer, *torrent, text.as_str()))
            }
            _ => None,
        });
        let expected = (*handle, pair.torrents[1], "text with %s and {}");
        assert_eq!(lines.collect::<Vec<_>>(), [expected], "{phase}");
    }
}

#[test]
fn a_peer_is_choked_and_unchoked_at_once_and_only_when_it_can_be_told() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let answers = said.clone();
    let probe = in_phases(&INCOMING, move |_, peer| {
        peer.choke_this_peer();
        let choked = peer.is_choked();
        let since = peer.time_of_last_unchoke();
        peer.maybe_unchoke_this_peer();
        let unchoked = !peer.is_choked();
        answers.lock().unwrap().push((choked, unchoked, peer.time_of_last_unchoke() > since));
    });
    let mut pair = Pair::new(68, probe, Probe::new());
    pair.meet();
    // Choked and unchoked again in the midst; in the end, what was so remains.
    let never = (true, false, false);
    assert_eq!(*said.lock().unwrap(), [never, never, (true, true, true), (false, true, false)]);
    let ended = pair.sim.alerts(pair.seed).any(|alert| matches!(alert, AlertKind::PeerError { .. }));
    assert!(!ended, "neither side broke the protocol");
}

#[test]
fn the_handle_of_a_connection_that_is_gone_opens_nothing() {
    let kept = Arc::new(Mutex::new(Vec::<PeerHandle>::new()));
    let (keep, ask) = (kept.clone(), kept.clone());
    let gone = Arc::new(Mutex::new(0));
    let count = gone.clone();
    let probe = in_phases(&OUTGOING, move |_, peer| keep.lock().unwrap().push(peer.handle()));
    let probe = probe.session("on_tick", move |cx| {
        let kept = ask.lock().unwrap();
        if kept.len() == OUTGOING.len() {
            assert!(kept.iter().all(|handle| cx.peer(*handle).is_none()));
            assert!(cx.peer(PeerHandle::INVALID).is_none());
            *count.lock().unwrap() += 1;
        }
        false
    });
    Pair::new(69, Probe::new(), probe).meet();
    assert!(*gone.lock().unwrap() > 0);
    let kept = kept.lock().unwrap();
    assert!(kept.iter().all(|handle| *handle == kept[0] && *handle > PeerHandle::INVALID));
}

#[test]
fn ciphers_are_switched_in_both_directions_behind_the_message_at_hand() {
    // Each side encrypts behind the message that makes the other decrypt.
    let on_leech = Probe::new()
        .peer("sent_interested", |cx| {
            cx.this().bt().unwrap().switch_send_crypto(Some(stream_cipher()));
            false
        })
        .peer("on_unchoke", |cx| {
            cx.this().bt().unwrap().switch_recv_crypto(Some(stream_cipher()));
            false
        });
    let on_seed = Probe::new()
        .peer("on_interested", |cx| {
            cx.this().bt().unwrap().switch_recv_crypto(Some(stream_cipher()));
            false
        })
        .peer("sent_unchoke", |cx| {
            cx.this().bt().unwrap().switch_send_crypto(Some(stream_cipher()));
            false
        });
    let mut pair = Pair::new(70, on_seed, on_leech);
    pair.sim.introduce(pair.leech, pair.torrents[1], pair.seed);
    pair.sim.run_until_finished(Duration::from_secs(60), &[(pair.leech, pair.torrents[1])]);
    let connections =
        pair.sim.alerts(pair.leech).filter(|alert| matches!(alert, AlertKind::PeerConnect { .. })).count();
    assert_eq!(connections, 1);
}

#[test]
fn taking_a_cipher_away_harms_no_phase() {
    let said = in_each_phase(71, |peer| {
        peer.bt().unwrap().switch_send_crypto(None);
        peer.bt().unwrap().switch_recv_crypto(None);
    });
    for (phase, (), mut pair) in said {
        assert!(pair.sim.is_finished(pair.leech, pair.torrents[1]), "{phase}");
    }
}
