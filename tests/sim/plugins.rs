//! What plugins may do to a session.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::Command;
use pilotfish_plugin::{ErrorCode, Operation, PeerHooks, Severity, TorrentHandle, TorrentHooks};
use pilotfish_tests::sim::{Content, Log, NodeId, Probe, Sim};

const LIMIT: Duration = Duration::from_secs(300);

fn content() -> Content {
    Content::random(30, 300_000, 32_768)
}

/// A seed, and a leech that has these plugins and is not told of the seed yet.
fn pair(sim: &mut Sim, probes: impl IntoIterator<Item = Probe>) -> (NodeId, NodeId, TorrentHandle, Vec<Log>) {
    let [seed, leech] = [sim.node(), sim.node()];
    sim.seed(seed, &content());
    let logs = probes.into_iter().map(|probe| probe.plug(sim, leech)).collect();
    let torrent = sim.add(leech, &content());
    (seed, leech, torrent, logs)
}

fn count(log: &Log, line: &str) -> usize {
    log.lock().unwrap().iter().filter(|seen| seen.starts_with(line)).count()
}

#[test]
fn plugins_are_asked_in_the_order_of_registration_until_one_handles_it() {
    let mut sim = Sim::new(31);
    let log = Log::default();
    let first = Probe::beside(&log, "1 ");
    let second = Probe::beside(&log, "2 ").peer("on_unchoke", |_| true);
    let third = Probe::beside(&log, "3 ");
    let (seed, leech, torrent, _) = pair(&mut sim, [first, second, third]);
    sim.introduce(leech, torrent, seed);
    sim.run_for(Duration::from_secs(3));
    let log = log.lock().unwrap();
    let of = |hook: &str| -> Vec<String> {
        let chain = log.iter().filter(|line| line.contains(hook)).take(3);
        chain.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(
        [of("peer.on_have_all"), of("session.added"), of("peer.sent_interested")],
        [["1", "2", "3"]; 3]
    );
    assert_eq!(of("peer.on_unchoke"), ["1", "2", "1"]);
    // The engine never heard of the unchoke; what it may ask for while choked it has.
    let status = sim.status(leech, torrent);
    assert!(!status.is_finished() && status.num_pieces > 0, "{status:?}");
}

/// Every hook of a connection, in which a plugin ends that connection.
#[test]
fn a_connection_can_be_ended_in_every_hook() {
    let mut sim = Sim::new(32);
    for hook in PeerHooks::NAMES {
        let disconnect = |probe: Probe| {
            probe.peer(hook, |cx| {
                cx.this().disconnect(ErrorCode::plugin(7), Operation::BITTORRENT, Severity::NORMAL);
                assert!(cx.this().is_disconnecting());
                false
            })
        };
        let log = Log::default();
        let probes = [disconnect(Probe::beside(&log, "1 ")), disconnect(Probe::beside(&log, "2 "))];
        let (seed, leech, torrent, _) = pair(&mut sim, probes);
        sim.introduce(leech, torrent, seed);
        sim.run_for(Duration::from_secs(4));
        let seen = count(&log, &format!("2 peer.{hook}"));
        let ends = [count(&log, "1 peer.on_disconnect"), count(&log, "2 peer.on_disconnect")];
        let connections = count(&log, "1 torrent.new_connection");
        assert_eq!(ends, [connections; 2], "{hook}");
        assert!(seen <= 1 + connections, "{hook} came {seen} times on {connections} connections");
        let status = sim.status(leech, torrent);
        assert_eq!(status.num_peers, 0, "{hook}: {status:?}");
        sim.command(leech, Command::RemoveTorrent { torrent, delete_files: true });
    }
}

#[test]
fn a_torrent_can_be_resumed_in_on_pause_and_removed_in_tick() {
    let mut sim = Sim::new(33);
    let probe = Probe::new().torrent("on_pause", |cx| {
        cx.this().pause();
        cx.this().resume();
        false
    });
    let ticks = Arc::new(AtomicUsize::new(0));
    let probe = probe.torrent("tick", move |cx| {
        if ticks.fetch_add(1, Ordering::Relaxed) == 3 {
            let torrent = cx.handle();
            cx.session().remove_torrent(torrent, false);
        }
        false
    });
    let (seed, leech, torrent, logs) = pair(&mut sim, [probe]);
    sim.introduce(leech, torrent, seed);
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces > 0);
    sim.command(leech, Command::PauseTorrent(torrent));
    assert!(!sim.status(leech, torrent).paused);
    sim.run_for(Duration::from_secs(5));
    assert_eq!(count(&logs[0], "torrent.tick"), 4);
    assert_eq!(count(&logs[0], "torrent.on_removed"), 1);
    assert_eq!(count(&logs[0], "session.torrent_removed"), 1);
    assert_eq!(count(&logs[0], "session.on_alert torrent_removed"), 1);
}

#[test]
fn a_plugin_can_veto_a_pause() {
    let mut sim = Sim::new(34);
    let probe = Probe::new().torrent("on_pause", |_| true).torrent("on_resume", |_| true);
    let (seed, leech, torrent, _) = pair(&mut sim, [probe]);
    sim.introduce(leech, torrent, seed);
    sim.command(leech, Command::PauseTorrent(torrent));
    assert!(!sim.status(leech, torrent).paused);
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces > 0);
    sim.command(leech, Command::PauseSession(true));
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
}

#[test]
fn a_torrent_that_a_plugin_keeps_out_of_a_session_pause_takes_new_peers() {
    let mut sim = Sim::new(340);
    let probe = Probe::new().torrent("on_pause", |_| true);
    let (seed, leech, torrent, log) = pair(&mut sim, [probe]);
    sim.command(leech, Command::PauseSession(true));
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    let late = sim.node();
    let theirs = sim.add(late, &content());
    sim.introduce(late, theirs, leech);
    sim.run_until_finished(LIMIT, &[(late, theirs)]);
    // It never paused, so it does not resume.
    sim.command(leech, Command::PauseSession(false));
    assert_eq!((count(&log[0], "torrent.on_pause"), count(&log[0], "torrent.on_resume")), (1, 0));
}

#[test]
fn while_the_session_is_paused_a_torrent_pauses_and_resumes_unheard() {
    let mut sim = Sim::new(341);
    let (seed, leech, torrent, logs) = pair(&mut sim, [Probe::new()]);
    let heard = || [count(&logs[0], "torrent.on_pause"), count(&logs[0], "torrent.on_resume")];
    sim.command(leech, Command::PauseSession(true));
    assert_eq!(heard(), [1, 0]);
    sim.command(leech, Command::PauseTorrent(torrent));
    sim.command(leech, Command::ResumeTorrent(torrent));
    sim.command(leech, Command::PauseTorrent(torrent));
    sim.command(leech, Command::PauseSession(false));
    assert_eq!(heard(), [1, 0]);
    sim.introduce(leech, torrent, seed);
    sim.run_for(Duration::from_secs(5));
    assert_eq!(sim.status(leech, torrent).num_peers, 0);
    sim.command(leech, Command::ResumeTorrent(torrent));
    assert_eq!(heard(), [1, 1]);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
}

#[test]
fn a_torrent_that_a_plugin_keeps_from_resuming_with_the_session_is_resumed_by_itself() {
    let mut sim = Sim::new(342);
    let once = Mutex::new(true);
    let probe = Probe::new().torrent("on_resume", move |_| std::mem::take(&mut *once.lock().unwrap()));
    let (seed, leech, torrent, _) = pair(&mut sim, [probe]);
    sim.introduce(leech, torrent, seed);
    sim.command(leech, Command::PauseSession(true));
    sim.command(leech, Command::PauseSession(false));
    assert!(sim.status(leech, torrent).paused);
    sim.command(leech, Command::ResumeTorrent(torrent));
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
}

#[test]
fn a_plugin_that_is_added_in_a_hook_sees_what_comes_after() {
    let mut sim = Sim::new(35);
    let late = Log::default();
    let log = late.clone();
    let probe = Probe::new().peer("on_have_all", move |cx| {
        cx.this().add_extension(Probe::beside(&log, "").on_peer());
        false
    });
    let (seed, leech, torrent, _) = pair(&mut sim, [probe]);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.run_for(Duration::from_secs(1));
    assert_eq!(late.lock().unwrap().first().map(String::as_str), Some("peer.sent_interested"));
    assert_eq!(count(&late, "peer.on_piece_pass"), 10);
    assert_eq!(count(&late, "peer.on_disconnect"), 1);
}

#[test]
fn ticks_come_once_per_second_while_nothing_happens() {
    let mut sim = Sim::new(36);
    let (_, _, _, logs) = pair(&mut sim, [Probe::new()]);
    sim.run_for(Duration::from_millis(10_500));
    assert_eq!((count(&logs[0], "session.on_tick"), count(&logs[0], "torrent.tick")), (10, 10));
}

#[test]
fn a_peer_is_tried_again_after_min_reconnect_time() {
    let mut sim = Sim::new(37);
    let (seed, leech, torrent, logs) = pair(&mut sim, [Probe::new()]);
    // It would call, too.
    sim.ask(seed, |ticket| Command::Set(ticket, "connection_speed".to_owned(), "0".to_owned()));
    sim.introduce(leech, torrent, seed);
    sim.run_for(Duration::from_millis(60));
    sim.reset(seed, leech);
    sim.run_for(Duration::from_secs(59));
    assert_eq!(count(&logs[0], "torrent.new_connection"), 1);
    sim.run_for(Duration::from_secs(3));
    assert_eq!(count(&logs[0], "torrent.new_connection"), 2);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
}

#[test]
fn plugins_that_keep_causing_events_wait_for_the_next_tick() {
    let mut sim = Sim::new(38);
    let alerts = Arc::new(AtomicUsize::new(0));
    let probe = Probe::new().session("on_alert", move |cx| {
        if alerts.fetch_add(1, Ordering::Relaxed) < 200 {
            let alert = pilotfish_plugin::CustomAlert {
                kind: 1,
                what: "again",
                category: pilotfish_plugin::AlertCategory::STATUS,
                message: "",
                payload: &[],
                torrent: None,
                peer: None,
            };
            cx.session().post_alert(&alert);
        }
        false
    });
    let (seed, leech, torrent, logs) = pair(&mut sim, [probe]);
    assert!(sim.alerts(leech).any(|alert| matches!(alert, AlertKind::TooManyRounds { .. })));
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.run_for(Duration::from_secs(20));
    assert_eq!(count(&logs[0], "session.on_alert again"), 200);
}

#[test]
fn a_panic_closes_the_connection_and_three_end_the_plugin() {
    let mut sim = Sim::new(39);
    let probe = Probe::new().peer("on_have_all", |_| panic!("on purpose"));
    let (seed, leech, torrent, logs) = pair(&mut sim, [probe]);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(Duration::from_secs(1_000), &[(leech, torrent)]);
    assert_eq!(count(&logs[0], "peer.on_have_all"), 3);
    assert_eq!(count(&logs[0], "peer.on_disconnect"), 0);
    let panics: Vec<String> = (sim.alerts(leech))
        .filter(|alert| {
            matches!(alert, AlertKind::PluginPanicked { .. } | AlertKind::PluginQuarantined { .. })
        })
        .map(AlertKind::message)
        .collect();
    assert_eq!(panics.len(), 4, "{panics:?}");
    assert!(
        panics[0].starts_with("plugin probe: on_have_all panicked at tests/sim/plugins.rs:"),
        "{panics:?}"
    );
    assert!(panics[0].ends_with("on purpose"), "{panics:?}");
    assert_eq!(panics[3], "plugin probe: quarantined after 3 panics");
}

#[test]
fn every_hook_of_a_torrent_may_remove_it() {
    let mut sim = Sim::new(40);
    for hook in TorrentHooks::NAMES {
        let probe = Probe::new().torrent(hook, |cx| {
            let torrent = cx.handle();
            cx.session().remove_torrent(torrent, true);
            false
        });
        let (seed, leech, torrent, logs) = pair(&mut sim, [probe]);
        sim.introduce(leech, torrent, seed);
        sim.run_for(Duration::from_secs(2));
        sim.command(leech, Command::PauseTorrent(torrent));
        sim.command(leech, Command::ResumeTorrent(torrent));
        sim.run_for(Duration::from_secs(2));
        // No piece fails here, nothing is read or hashed, no metadata is missing, and nothing else removes the torrent.
        let absent = [
            "on_piece_failed",
            "on_metadata",
            "on_metadata_failed",
            "on_block_read",
            "on_block_hash",
            "on_removed",
        ];
        let comes = !absent.contains(hook);
        assert_eq!(count(&logs[0], "torrent.on_removed"), usize::from(comes), "{hook}");
        let new = count(&logs[0], "torrent.new_connection");
        assert_eq!(count(&logs[0], "peer.on_disconnect"), new, "{hook}");
        sim.command(leech, Command::Shutdown);
        sim.run_until(LIMIT, |sim| sim.at(leech).stopped);
        assert_eq!(sim.at(leech).engine.blocks_in_use(), 0);
    }
}
