//! What the embedding program asks for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::Command;
use pilotfish::settings::Settings;
use pilotfish_plugin::{
    AlertCategory, CustomAlert, SessionContext, TorrentBox, TorrentHandle, TorrentPlugin, TorrentState, hooks,
};
use pilotfish_tests::sim::{Content, Link, NodeId, Probe, Sim, talkative};

const LIMIT: Duration = Duration::from_secs(120);

fn pair(sim: &mut Sim, content: &Content) -> (NodeId, NodeId, TorrentHandle) {
    let [seed, leech] = [sim.node(), sim.node()];
    sim.seed(seed, content);
    let torrent = sim.add(leech, content);
    sim.introduce(leech, torrent, seed);
    (seed, leech, torrent)
}

#[test]
fn what_is_there_already_is_not_fetched_again() {
    let mut sim = Sim::new(50);
    let content = Content::folder(50, &[200_000, 500_000, 300_000], 32_768);
    let [seed, leech] = [sim.node(), sim.node()];
    sim.seed(seed, &content);
    sim.disk(leech).put(".", &content);
    let damaged = 250_000..400_000;
    sim.disk(leech).bytes(".", &content)[damaged].fill(0);
    let torrent = sim.add(leech, &content);
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).state == TorrentState::DOWNLOADING);
    let pieces = sim.status(leech, torrent).num_pieces;
    assert_eq!(pieces, content.layout().geometry().num_pieces() - 6);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    assert_eq!(sim.status(leech, torrent).total_payload_download, 6 * 32_768);
    sim.assert_complete(leech, &content);
}

#[test]
fn a_recheck_finds_what_was_damaged_and_mends_it() {
    let mut sim = Sim::new(51);
    let content = Content::random(51, 600_000, 32_768);
    let (seed, leech, torrent) = pair(&mut sim, &content);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.disk(leech).bytes(".", &content)[100_000] ^= 1;
    sim.command(leech, Command::Recheck(torrent));
    assert_eq!(sim.status(leech, torrent).state, TorrentState::CHECKING_FILES);
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).state == TorrentState::DOWNLOADING);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
}

#[test]
fn a_recheck_in_the_middle_of_a_download_loses_nothing() {
    let mut sim = Sim::new(52);
    let content = Content::random(52, 2_000_000, 65_536);
    let (_, leech, torrent) = pair(&mut sim, &content);
    sim.disk(leech).latency = Duration::ZERO..=Duration::from_millis(300);
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces > 5);
    sim.command(leech, Command::Recheck(torrent));
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
}

#[test]
fn pausing_drops_the_peers_and_resuming_finds_them_again() {
    let mut sim = Sim::new(53);
    let content = Content::random(53, 2_000_000, 65_536);
    let (_, leech, torrent) = pair(&mut sim, &content);
    for (pause, resume) in [
        (Command::PauseTorrent(torrent), Command::ResumeTorrent(torrent)),
        (Command::PauseSession(true), Command::PauseSession(false)),
    ] {
        let before = sim.status(leech, torrent).num_pieces;
        sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces > before + 3);
        sim.command(leech, pause);
        sim.run_for(Duration::from_secs(1));
        let paused = sim.status(leech, torrent);
        assert!(paused.paused && paused.num_peers == 0 && !paused.is_finished());
        sim.run_for(Duration::from_secs(5));
        assert_eq!(sim.status(leech, torrent).num_pieces, paused.num_pieces);
        sim.command(leech, resume);
    }
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
}

#[test]
fn unwanted_pieces_are_left_out_and_a_torrent_is_finished_without_them() {
    let mut sim = Sim::new(54);
    let content = Content::random(54, 640_000, 32_768);
    let [seed, leech] = [sim.node(), sim.node()];
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    for piece in 0..10 {
        let piece = pilotfish_plugin::PieceIndex(piece);
        sim.command(leech, Command::SetPiecePriority { torrent, piece, priority: 0 });
    }
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    let status = sim.status(leech, torrent);
    assert_eq!((status.num_pieces, status.state), (10, TorrentState::FINISHED));
    let piece = pilotfish_plugin::PieceIndex(3);
    sim.command(leech, Command::SetPiecePriority { torrent, piece, priority: 4 });
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces == 11);
}

#[test]
fn two_peers_that_call_each_other_at_once_keep_one_connection() {
    let mut sim = Sim::new(55);
    let content = Content::random(55, 3_000_000, 65_536);
    let [seed, leech] = [sim.node(), sim.node()];
    let theirs = sim.add(seed, &content);
    let ours = sim.add(leech, &content);
    sim.run_for(Duration::from_secs(1));
    sim.introduce(seed, theirs, leech);
    sim.introduce(leech, ours, seed);
    sim.run_for(Duration::from_secs(3));
    assert_eq!(sim.open_connections(), 1);
    assert_eq!((sim.status(seed, theirs).num_peers, sim.status(leech, ours).num_peers), (1, 1));
}

#[test]
fn a_shutdown_waits_for_the_disk_and_leaves_nothing_behind() {
    let mut sim = Sim::new(56);
    sim.link = Link { bandwidth: 3_000_000, ..Link::default() };
    let content = Content::random(56, 3_000_000, 65_536);
    let (seed, leech, torrent) = pair(&mut sim, &content);
    let log = Probe::new()
        .session("abort", |cx| {
            cx.session().done();
            false
        })
        .plug(&mut sim, leech);
    sim.disk(leech).latency = Duration::from_millis(100)..=Duration::from_millis(400);
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces > 3);
    for node in [seed, leech] {
        sim.command(node, Command::Shutdown);
        sim.run_until(LIMIT, |sim| sim.at(node).stopped);
    }
    assert_eq!(log.lock().unwrap().iter().filter(|line| *line == "session.abort").count(), 1);
    sim.run_for(Duration::from_secs(5));
    assert_eq!([seed, leech].map(|node| sim.at(node).engine.blocks_in_use()), [0, 0]);
    assert_eq!(sim.open_connections(), 0);
}

/// Says for as long as it lives that it does.
struct Held {
    _token: Arc<()>,
}

#[hooks]
impl TorrentPlugin for Held {}

#[test]
fn plugin_objects_on_their_way_do_not_outlive_the_session() {
    let mut sim = Sim::new(58);
    let content = Content::random(58, 100_000, 65_536);
    let (_, leech, _) = pair(&mut sim, &content);
    sim.run_for(Duration::from_secs(2));
    let token = Arc::new(());
    let again = |cx: &mut SessionContext<'_>, token: &Arc<()>| {
        let session = cx.session();
        for torrent in session.torrents().into_iter().filter_map(|torrent| cx.torrent(torrent)) {
            torrent.add_extension(TorrentBox::new(Held { _token: token.clone() }));
        }
        session.post_alert(&CustomAlert {
            kind: 1,
            what: "again",
            category: AlertCategory::STATUS,
            message: "",
            payload: &[],
            torrent: None,
            peer: None,
        });
        session.done();
        false
    };
    let (at_end, at_alert) = (token.clone(), token.clone());
    // It ends while alerts cause alerts, so that some of what they ask for is left to a tick that never comes.
    let ended = Arc::new(AtomicBool::new(false));
    let aborted = ended.clone();
    Probe::new()
        .session("abort", move |cx| {
            aborted.store(true, Ordering::Relaxed);
            again(cx, &at_end)
        })
        .session("on_alert", move |cx| ended.load(Ordering::Relaxed) && again(cx, &at_alert))
        .plug(&mut sim, leech);
    sim.command(leech, Command::Shutdown);
    sim.run_until(LIMIT, |sim| sim.at(leech).stopped);
    assert!(sim.alerts(leech).any(|alert| matches!(alert, AlertKind::TooManyRounds { .. })));
    // The probe and its acts are gone too.
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn a_torrent_that_was_removed_can_be_added_again_while_its_files_are_being_closed() {
    for delete_files in [false, true] {
        let mut sim = Sim::new(57);
        sim.link = Link { bandwidth: 500_000, ..Link::default() };
        let content = Content::random(57, 1_000_000, 65_536);
        let (seed, leech, torrent) = pair(&mut sim, &content);
        sim.disk(leech).latency = Duration::ZERO..=Duration::from_millis(300);
        sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces > 3);
        sim.command(leech, Command::RemoveTorrent { torrent, delete_files });
        let again = sim.add(leech, &content);
        assert_ne!(again, torrent);
        sim.run_until(LIMIT, |sim| sim.status(leech, again).state == TorrentState::DOWNLOADING);
        let pieces = sim.status(leech, again).num_pieces;
        assert_eq!(pieces == 0, delete_files, "{pieces} pieces are there");
        sim.introduce(leech, again, seed);
        sim.run_until_finished(LIMIT, &[(leech, again)]);
        sim.assert_complete(leech, &content);
    }
}

#[test]
fn a_torrent_is_added_once() {
    let mut sim = Sim::new(58);
    let content = Content::random(58, 100_000, 65_536);
    let node = sim.node();
    let first = sim.add(node, &content);
    assert_eq!(sim.add(node, &content), first);
}

#[test]
fn who_finishes_tells_its_peers_that_it_only_uploads_from_now_on() {
    let mut sim = Sim::new(59);
    let content = Content::random(59, 400_000, 16_384);
    // Else it would leave as soon as it is told.
    let stays = Settings { close_redundant_connections: false, ..talkative() };
    let [seed, leech, slow] = [sim.node(), sim.node_with(stays.clone()), sim.node_with(stays)];
    let told = Arc::new(Mutex::new(false));
    let note = told.clone();
    let probe = Probe::new().peer("tick", move |cx| {
        *note.lock().unwrap() |= cx.this().upload_only();
        false
    });
    probe.plug(&mut sim, slow);
    sim.seed(seed, &content);
    let [torrent, other] = [leech, slow].map(|node| sim.add(node, &content));
    // Without the last piece it is finished, but no seed: nobody sees that by what it has.
    let piece = pilotfish_plugin::PieceIndex(content.layout().geometry().num_pieces() as i32 - 1);
    sim.command(leech, Command::SetPiecePriority { torrent, piece, priority: 0 });
    sim.introduce(slow, other, leech);
    sim.run_for(Duration::from_secs(3));
    assert!(!*told.lock().unwrap());
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.run_until(LIMIT, |_| *told.lock().unwrap());
}
