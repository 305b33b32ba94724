use super::*;
use crate::metainfo::InfoHashes;

const ONE: TorrentHandle = TorrentHandle::from_raw(1);
const TWO: TorrentHandle = TorrentHandle::from_raw(2);

fn aim(until: Until) -> Aim {
    let seed = SeedUntil::default();
    Aim { until, deadline: None, seed, complete: false, addresses: 1, has_peers: true }
}

fn goal(aim: Aim) -> Goal {
    let mut goal = Goal::new(aim);
    goal.add(ONE, "one", 100);
    goal
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn status(state: TorrentState, done: u64) -> TorrentStatus {
    TorrentStatus {
        name: "one".to_owned(),
        info_hashes: InfoHashes::V1([1; 20]),
        state,
        paused: false,
        error: None,
        total: 100,
        total_done: done,
        total_wanted: 100,
        total_wanted_done: done,
        pieces_checked: 0,
        num_pieces: (done / 10) as u32,
        total_pieces: 10,
        total_payload_download: 0,
        total_payload_upload: 0,
        download_payload_rate: 0,
        upload_payload_rate: 0,
        limits: crate::command::TorrentLimits::default(),
        total_failed_bytes: 0,
        total_redundant_bytes: 0,
        all_time_download: 0,
        all_time_upload: 0,
        added_time: 0,
        completed_time: 0,
        num_peers: 0,
        num_seeds: 0,
    }
}

fn file_error(torrent: TorrentHandle) -> AlertKind {
    AlertKind::FileError { torrent, name: "one".into(), file: "f".into(), error: "disk full".into() }
}

fn finish(goal: &mut Goal, torrent: TorrentHandle) {
    goal.look(torrent, &status(TorrentState::SEEDING, 100)).unwrap();
}

fn listen_failed() -> AlertKind {
    AlertKind::ListenFailed { address: "127.0.0.1:1".into(), error: "in use".into() }
}

#[track_caller]
fn code(result: Result<bool, Failure>) -> ExitCode {
    result.unwrap_err().code
}

#[test]
fn a_download_lingers_a_moment_after_the_last_torrent_is_finished_for_peers_that_are_left() {
    let mut goal = goal(aim(Until::Finished));
    goal.add(TWO, "two", 100);
    finish(&mut goal, ONE);
    assert!(!goal.reached(at(1.0)).unwrap());
    goal.look(TWO, &TorrentStatus { num_peers: 1, ..status(TorrentState::SEEDING, 100) }).unwrap();
    assert!(!goal.reached(at(2.0)).unwrap() && goal.lingers());
    assert!(!goal.reached(at(2.2)).unwrap());
    assert!(goal.reached(at(2.3)).unwrap());
}

#[test]
fn a_download_ends_as_soon_as_the_last_peer_is_gone() {
    let mut goal = goal(aim(Until::Finished));
    goal.look(ONE, &TorrentStatus { num_peers: 1, ..status(TorrentState::SEEDING, 100) }).unwrap();
    assert!(!goal.reached(at(2.0)).unwrap());
    finish(&mut goal, ONE);
    assert!(goal.reached(at(2.01)).unwrap());
}

#[test]
fn a_torrent_finishes_once() {
    let mut goal = goal(aim(Until::Finished));
    assert!(!goal.look(ONE, &status(TorrentState::DOWNLOADING, 50)).unwrap());
    assert!(goal.look(ONE, &status(TorrentState::SEEDING, 100)).unwrap());
    assert!(!goal.look(ONE, &status(TorrentState::SEEDING, 100)).unwrap());
    goal.reached(at(1.0)).unwrap();
    assert!(goal.reached(at(1.3)).unwrap());
}

#[test]
fn a_session_without_torrents_is_not_finished() {
    let mut goal = Goal::new(aim(Until::Finished));
    assert!(!goal.reached(at(100.0)).unwrap());
}

#[test]
fn running_out_of_time_fails_a_download_and_ends_a_session() {
    let limited = |until| goal(Aim { deadline: Some(at(7.0)), ..aim(until) });
    let mut download = limited(Until::Finished);
    download.look(ONE, &status(TorrentState::DOWNLOADING, 50)).unwrap();
    assert!(!download.reached(at(6.9)).unwrap());
    let failure = download.reached(at(7.0)).unwrap_err();
    assert_eq!(
        (failure.code, failure.to_string()),
        (ExitCode::TimedOut, "stopped after 7 s: one at 50.0 %".into())
    );
    assert!(limited(Until::Elapsed).reached(at(7.0)).unwrap());
    assert!(limited(Until::Never).reached(at(7.0)).unwrap());
}

#[test]
fn the_last_moment_is_granted_to_a_download_that_is_finished() {
    let mut goal = goal(Aim { deadline: Some(at(7.0)), ..aim(Until::Finished) });
    goal.look(ONE, &TorrentStatus { num_peers: 1, ..status(TorrentState::SEEDING, 100) }).unwrap();
    assert!(!goal.reached(at(6.9)).unwrap());
    assert!(!goal.reached(at(7.1)).unwrap());
    assert!(goal.reached(at(7.2)).unwrap());
}

#[test]
fn a_disk_that_fails_ends_a_download_once_nothing_can_go_on() {
    let mut goal = goal(aim(Until::Finished));
    goal.add(TWO, "two", 100);
    goal.hear(&file_error(ONE));
    assert!(!goal.reached(at(1.0)).unwrap());
    finish(&mut goal, TWO);
    let failure = goal.reached(at(2.0)).unwrap_err();
    assert_eq!(
        (failure.code, failure.to_string()),
        (ExitCode::Unfinished, "1 of 2 torrents unfinished: one".into())
    );
}

#[test]
fn a_disk_that_fails_every_torrent_has_a_code_of_its_own() {
    let mut goal = goal(aim(Until::Never));
    goal.hear(&file_error(ONE));
    assert_eq!(code(goal.reached(at(1.0))), ExitCode::Disk);
}

#[test]
fn a_finished_download_stays_finished_when_its_upload_fails() {
    let mut goal = goal(aim(Until::Finished));
    finish(&mut goal, ONE);
    goal.hear(&file_error(ONE));
    goal.reached(at(1.0)).unwrap();
    assert!(goal.reached(at(1.3)).unwrap());
}

#[test]
fn a_session_for_a_time_goes_on_whatever_happens() {
    let mut goal = goal(Aim { has_peers: false, ..aim(Until::Elapsed) });
    goal.hear(&file_error(ONE));
    goal.hear(&listen_failed());
    assert!(!goal.reached(at(1.0)).unwrap());
}

#[test]
fn a_torrent_that_a_plugin_removed_is_unfinished() {
    let mut goal = goal(aim(Until::Finished));
    goal.hear(&AlertKind::TorrentRemoved { torrent: ONE, name: "one".into() });
    assert_eq!(code(goal.reached(at(1.0))), ExitCode::Unfinished);
}

#[test]
fn without_any_way_to_a_peer_only_the_check_is_waited_for() {
    let mut goal = goal(Aim { addresses: 2, has_peers: false, ..aim(Until::Finished) });
    goal.hear(&listen_failed());
    goal.look(ONE, &status(TorrentState::DOWNLOADING, 0)).unwrap();
    assert!(!goal.reached(at(0.1)).unwrap());
    goal.hear(&listen_failed());
    assert_eq!(code(goal.reached(at(0.2))), ExitCode::Network);
    finish(&mut goal, ONE);
    assert!(goal.reached(at(0.2)).is_ok());
}

#[test]
fn seeding_what_is_not_there_is_an_error_that_says_how_much_is() {
    let mut goal = goal(Aim { complete: true, ..aim(Until::Never) });
    goal.look(ONE, &status(TorrentState::CHECKING_FILES, 0)).unwrap();
    let failure = goal.look(ONE, &status(TorrentState::DOWNLOADING, 40)).unwrap_err();
    assert_eq!(failure.code, ExitCode::Mismatch);
    assert!(failure.to_string().starts_with("one: 4 of 10 pieces are there (40.0 %)"), "{failure}");
}

fn seeding(seed: SeedUntil) -> Goal {
    let mut goal = goal(Aim { seed, deadline: Some(at(100.0)), ..aim(Until::Finished) });
    finish(&mut goal, ONE);
    goal
}

#[test]
fn what_is_finished_is_uploaded_until_the_ratio_is_reached() {
    let mut goal = seeding(SeedUntil { ratio: Some(1.5), time: None });
    let uploaded = |bytes| TorrentStatus { all_time_upload: bytes, ..status(TorrentState::SEEDING, 100) };
    for (now, bytes, over) in [(1.0, 0, false), (2.0, 149, false), (3.0, 150, true)] {
        goal.look(ONE, &uploaded(bytes)).unwrap();
        assert_eq!((goal.reached(at(now)).unwrap(), goal.lingers()), (over, over), "{bytes}");
    }
}

#[test]
fn what_is_finished_is_uploaded_for_the_time_if_that_comes_first() {
    let mut goal = seeding(SeedUntil { ratio: Some(1.0), time: Some(at(5.0)) });
    assert!(!goal.reached(at(10.0)).unwrap());
    assert!(!goal.reached(at(14.9)).unwrap());
    assert!(goal.reached(at(15.0)).unwrap());
}

#[test]
fn a_download_that_is_here_has_succeeded_also_if_there_is_no_time_left_to_upload_it() {
    let mut goal = seeding(SeedUntil { ratio: Some(1.0), time: None });
    assert!(!goal.reached(at(99.0)).unwrap());
    assert!(goal.reached(at(100.0)).unwrap());
}
