//! Fast resume: an engine that starts on a disk where another one was killed.

use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Answer, Command, SaveResumeFlags, TorrentExtension};
use pilotfish::metainfo::resume::{Resume, Unfinished};
use pilotfish::metainfo::{InfoHashes, Magnet};
use pilotfish::settings::Settings;
use pilotfish_plugin::{
    PieceIndex, PieceOrigin, TorrentBox, TorrentContext, TorrentHandle, TorrentPlugin, TorrentState, hooks,
};
use pilotfish_tests::sim::{Content, Link, Log, NodeId, Sim, talkative};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LIMIT: Duration = Duration::from_secs(120);
const PIECE: usize = 65_536;

/// Three files, whose ends are not the ends of pieces.
fn content() -> Content {
    Content::folder(700, &[10 * PIECE + 777, 5 * PIECE, 9 * PIECE + 12_345], PIECE as u32)
}

/// A seed, and somebody who has begun to download from it at about a piece in 40 ms.
fn begun(seed: u64, content: &Content) -> (Sim, NodeId, NodeId, TorrentHandle) {
    let mut sim = Sim::new(seed);
    sim.link = Link { bandwidth: 1_600_000, ..Link::default() };
    let [seed, leech] = [sim.node(), sim.node_with(again())];
    sim.seed(seed, content);
    let torrent = sim.add(leech, content);
    sim.introduce(leech, torrent, seed);
    (sim, seed, leech, torrent)
}

/// Who was killed may connect again at once.
fn again() -> Settings {
    Settings { allow_multiple_connections_per_ip: true, ..talkative() }
}

fn until_pieces(sim: &mut Sim, leech: NodeId, torrent: TorrentHandle, pieces: u32) {
    sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces >= pieces);
}

fn record(sim: &mut Sim, node: NodeId, torrent: TorrentHandle) -> Resume {
    *sim.resume_data(node, torrent, SaveResumeFlags::NONE).unwrap()
}

/// Kills the node and starts it again with the record, as it comes out of a file.
fn restart(sim: &mut Sim, node: NodeId, content: &Content, resume: &Resume) -> TorrentHandle {
    let resume = Resume::decode(&resume.encode()).unwrap();
    sim.restart(node, again());
    let add = AddTorrent {
        resume: Some(Box::new(resume)),
        extensions: vec![reporter()],
        ..AddTorrent::new(content.metainfo.clone())
    };
    sim.add_as(node, add)
}

fn until_checked(sim: &mut Sim, node: NodeId, torrent: TorrentHandle) {
    let checking = [TorrentState::CHECKING_FILES, TorrentState::CHECKING_RESUME_DATA];
    sim.run_until(LIMIT, |sim| !checking.contains(&sim.status(node, torrent).state));
}

/// Downloads what is left, and returns how much that was.
fn finish(sim: &mut Sim, seed: NodeId, leech: NodeId, torrent: TorrentHandle, content: &Content) -> u64 {
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, content);
    let status = sim.status(leech, torrent);
    assert_eq!(status.total_redundant_bytes, 0);
    status.total_payload_download
}

fn rejections(sim: &Sim, node: NodeId) -> Vec<String> {
    let text = |alert: &AlertKind| match alert {
        AlertKind::FastresumeRejected { error, .. } => Some(error.clone()),
        _ => None,
    };
    sim.alerts(node).filter_map(text).collect()
}

/// Has every hook of this torrent that tells how a record was taken logged with the log lines of the session.
fn reporter() -> TorrentExtension {
    TorrentExtension::new("reporter", |_, _, _| Some(TorrentBox::new(Reporter(Log::default()))))
}

struct Reporter(Log);

impl Reporter {
    fn note(&self, cx: &TorrentContext<'_>, text: String) {
        self.0.lock().unwrap().push(text);
        let lines = self.0.lock().unwrap().join(" ");
        cx.log(pilotfish_plugin::Level::Info, &lines);
    }
}

#[hooks]
impl TorrentPlugin for Reporter {
    fn on_piece_pass(&mut self, cx: &mut TorrentContext<'_>, piece: PieceIndex, origin: PieceOrigin) {
        let word = match origin {
            PieceOrigin::RESUME => "resumed",
            PieceOrigin::CHECK => "checked",
            _ => "downloaded",
        };
        self.note(cx, format!("{word}:{piece}"));
    }

    fn on_files_checked(&mut self, cx: &mut TorrentContext<'_>) {
        self.note(cx, "files_checked".to_owned());
    }

    fn on_state(&mut self, cx: &mut TorrentContext<'_>, state: TorrentState) {
        self.note(cx, format!("state:{}", state.name()));
    }
}

/// What the torrent's plugin was told until now.
fn told(sim: &Sim, node: NodeId) -> Vec<String> {
    let last = sim.alerts(node).filter_map(|alert| match alert {
        AlertKind::Log { plugin, text, .. } if plugin == "reporter" => Some(text.clone()),
        _ => None,
    });
    last.last().unwrap_or_default().split(' ').map(str::to_owned).collect()
}

#[test]
fn whenever_the_process_is_killed_and_whatever_the_age_of_the_record_nothing_verified_is_fetched_again() {
    let content = content();
    let total = content.bytes().len() as u64;
    let mut found = 0;
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut sim, source, leech, torrent) = begun(seed, &content);
        sim.disk(leech).latency = Duration::ZERO..=Duration::from_millis(rng.random_range(1..60));
        let pieces = rng.random_range(0..20);
        until_pieces(&mut sim, leech, torrent, pieces);
        let mut resume = record(&mut sim, leech, torrent);
        let mut torrent = torrent;
        // Killed twice: the second time with a record that is a life old.
        for _ in 0..2 {
            sim.run_for(Duration::from_millis(rng.random_range(0..400)));
            let before = sim.status(leech, torrent);
            torrent = restart(&mut sim, leech, &content, &resume);
            until_checked(&mut sim, leech, torrent);
            let after = sim.status(leech, torrent);
            assert!(after.num_pieces >= before.num_pieces, "seed {seed}: {before:?} {after:?}");
            assert_eq!(rejections(&sim, leech), [""; 0], "seed {seed}");
            found += after.num_pieces as usize - resume.pieces.iter().filter(|had| **had).count();
            let at = 1_700_000_000_000_000_000 + sim.now().as_nanos() as i64;
            resume = resume.opened(at, Some("boot"));
            sim.introduce(leech, torrent, source);
        }
        let done = sim.status(leech, torrent).total_done;
        let rest = finish(&mut sim, source, leech, torrent, &content);
        assert!(rest <= total - done, "seed {seed}: {rest} of {total} were fetched, with {done} there");
    }
    assert!(found > 40, "only {found} pieces were verified after the records");
}

#[test]
fn a_piece_that_is_recorded_is_neither_hashed_nor_fetched_and_its_plugins_hear_where_it_came_from() {
    let content = content();
    let (mut sim, seed, leech, torrent) = begun(50, &content);
    until_pieces(&mut sim, leech, torrent, 9);
    sim.command(leech, Command::PauseTorrent(torrent));
    let resume = record(&mut sim, leech, torrent);
    let had: Vec<usize> = (0..resume.pieces.len()).filter(|piece| resume.pieces[*piece]).collect();
    assert!(resume.look.as_ref().unwrap().open.is_empty() && had.len() >= 9, "{resume:?}");

    let torrent = restart(&mut sim, leech, &content, &resume);
    until_checked(&mut sim, leech, torrent);
    let mut expected: Vec<String> = had.iter().map(|piece| format!("resumed:{piece}")).collect();
    expected.extend(["state:downloading".to_owned(), "files_checked".to_owned()]);
    assert_eq!(told(&sim, leech), expected);
    let left = content.bytes().len() as u64 - sim.status(leech, torrent).total_done;
    let kept: usize = resume.unfinished.iter().map(|piece| piece.bitmask[0].count_ones() as usize).sum();
    assert_eq!(finish(&mut sim, seed, leech, torrent, &content), left - 16_384 * kept as u64);
    let told = told(&sim, leech);
    assert_eq!(told.iter().filter(|line| *line == "files_checked").count(), 1);
}

#[test]
fn a_seed_with_a_record_that_fits_starts_without_a_check() {
    let content = content();
    let mut sim = Sim::new(51);
    let node = sim.node();
    let torrent = sim.seed(node, &content);
    until_checked(&mut sim, node, torrent);
    let resume = record(&mut sim, node, torrent);
    assert!(resume.pieces.iter().all(|had| *had) && resume.completed_time >= 1_700_000_000);
    let torrent = restart(&mut sim, node, &content, &resume);
    until_checked(&mut sim, node, torrent);
    let told = told(&sim, node);
    assert!(
        !told.iter().any(|line| line == "state:checking_files" || line.starts_with("checked")),
        "{told:?}"
    );
    let status = sim.status(node, torrent);
    assert_eq!((status.state, status.completed_time), (TorrentState::SEEDING, resume.completed_time));
}

#[test]
fn a_file_that_was_changed_by_somebody_else_is_hashed_and_only_that_one() {
    let content = content();
    let (mut sim, seed, leech, torrent) = begun(52, &content);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    let resume = record(&mut sim, leech, torrent);
    sim.run_for(Duration::from_secs(5));
    let now = sim.now();
    // In the second file, which has parts of pieces 10 to 15.
    sim.disk(leech).spoil(".", &content, 12 * PIECE, now);
    let torrent = restart(&mut sim, leech, &content, &resume);
    until_checked(&mut sim, leech, torrent);
    let rejected = rejections(&sim, leech);
    assert!(rejected.len() == 1 && rejected[0].ends_with("1.bin: it was modified since"), "{rejected:?}");
    let told = told(&sim, leech);
    let checked: Vec<&str> = told.iter().filter_map(|line| line.strip_prefix("checked:")).collect();
    let mut checked: Vec<u32> = checked.iter().map(|piece| piece.parse().unwrap()).collect();
    checked.sort_unstable();
    assert_eq!(checked, [10, 11, 13, 14, 15]);
    assert_eq!(finish(&mut sim, seed, leech, torrent, &content), PIECE as u64);
}

#[test]
fn after_a_crash_of_the_system_what_was_written_before_it_is_hashed() {
    let content = content();
    let (mut sim, seed, leech, torrent) = begun(53, &content);
    until_pieces(&mut sim, leech, torrent, 9);
    let resume = record(&mut sim, leech, torrent);
    let before = sim.status(leech, torrent);
    let at = content.layout().geometry().pieces().find(|piece| resume.pieces[piece.as_usize()]).unwrap();
    // As if this had not reached the disk.
    let now = sim.now();
    sim.disk(leech).spoil(".", &content, at.as_usize() * PIECE, now);
    sim.disk(leech).boot = "another".to_owned();
    let torrent = restart(&mut sim, leech, &content, &resume);
    until_checked(&mut sim, leech, torrent);
    assert!(rejections(&sim, leech)[0].contains("the system went down"), "{:?}", rejections(&sim, leech));
    assert!(sim.status(leech, torrent).num_pieces + 1 >= before.num_pieces);
    finish(&mut sim, seed, leech, torrent, &content);
}

#[test]
fn blocks_that_a_record_lies_about_are_found_out_and_nobody_is_blamed() {
    let content = content();
    let (mut sim, seed, leech, torrent) = begun(54, &content);
    until_pieces(&mut sim, leech, torrent, 3);
    sim.command(leech, Command::PauseTorrent(torrent));
    let mut resume = record(&mut sim, leech, torrent);
    resume.unfinished = (0..resume.pieces.len() as u32)
        .filter(|piece| !resume.pieces[*piece as usize])
        .map(|piece| Unfinished::new(piece, &[true, false, false, false]))
        .collect();
    let liars = resume.unfinished.len() - 1;
    let torrent = restart(&mut sim, leech, &content, &resume);
    until_checked(&mut sim, leech, torrent);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
    let failed = sim.alerts(leech).filter(|alert| matches!(alert, AlertKind::HashFailed { .. })).count();
    assert!(failed >= liars, "{failed} of {liars}");
    assert!(!sim.alerts(leech).any(|alert| matches!(alert, AlertKind::PeerBan { .. })));
}

#[test]
fn a_record_of_something_else_is_rejected_and_everything_is_hashed() {
    let content = content();
    let mut sim = Sim::new(55);
    let node = sim.node();
    let torrent = sim.seed(node, &content);
    until_checked(&mut sim, node, torrent);
    let right = record(&mut sim, node, torrent);
    let other = Resume { info_hashes: InfoHashes::V1([9; 20]), ..right.clone() };
    let pieces = Resume { pieces: vec![true; 3], ..right.clone() };
    for (record, reason) in [(other, "another torrent"), (pieces, "3 pieces")] {
        let torrent = restart(&mut sim, node, &content, &record);
        until_checked(&mut sim, node, torrent);
        assert!(rejections(&sim, node)[0].contains(reason), "{:?}", rejections(&sim, node));
        assert!(told(&sim, node).contains(&"checked:0".to_owned()));
        assert_eq!(sim.status(node, torrent).state, TorrentState::SEEDING);
    }
}

#[test]
fn a_recheck_forgets_the_record() {
    let content = content();
    let (mut sim, _, leech, torrent) = begun(56, &content);
    until_pieces(&mut sim, leech, torrent, 5);
    sim.command(leech, Command::Recheck(torrent));
    assert!(sim.resume_data(leech, torrent, SaveResumeFlags::NONE).is_none());
    assert!(sim.alerts(leech).any(|alert| matches!(alert, AlertKind::SaveResumeDataFailed { .. })));
    until_checked(&mut sim, leech, torrent);
    assert!(sim.resume_data(leech, torrent, SaveResumeFlags::NONE).is_some());
}

#[test]
fn a_record_is_only_made_if_something_of_what_was_asked_for_has_changed() {
    let content = content();
    let (mut sim, seed, leech, torrent) = begun(57, &content);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    let all = SaveResumeFlags::ONLY_IF_MODIFIED;
    assert!(sim.resume_data(leech, torrent, all).is_some());
    assert!(sim.resume_data(leech, torrent, all).is_none());
    assert!(!sim.alerts(leech).any(|alert| matches!(alert, AlertKind::SaveResumeDataFailed { .. })));
    let config = Command::SetPiecePriority { torrent, piece: PieceIndex(0), priority: 7 };
    sim.command(leech, config);
    assert!(sim.resume_data(leech, torrent, SaveResumeFlags::IF_STATE_CHANGED).is_none());
    let record = sim.resume_data(leech, torrent, SaveResumeFlags::IF_CONFIG_CHANGED).unwrap();
    assert_eq!(record.piece_priorities[..2], [7, 4]);
    sim.command(leech, Command::PauseTorrent(torrent));
    assert!(sim.resume_data(leech, torrent, SaveResumeFlags::IF_STATE_CHANGED).unwrap().paused);
    // The seed has sent something, and what it has on disk is what it was.
    let torrent = sim.add(seed, &content);
    assert!(sim.resume_data(seed, torrent, all).is_some());
    assert!(sim.resume_data(seed, torrent, SaveResumeFlags::IF_COUNTERS_CHANGED).is_none());
}

#[test]
fn at_the_end_of_a_session_the_record_is_made_when_everything_is_written() {
    let content = content();
    let (mut sim, seed, leech, torrent) = begun(58, &content);
    sim.disk(leech).latency = Duration::from_millis(100)..=Duration::from_millis(900);
    until_pieces(&mut sim, leech, torrent, 6);
    sim.command(
        leech,
        Command::SaveResumeDataAtEnd(pilotfish::command::Ticket(1 << 40), SaveResumeFlags::SAVE_INFO_DICT),
    );
    sim.command(leech, Command::Shutdown);
    sim.run_until(LIMIT, |sim| sim.at(leech).stopped);
    let Some(Answer::AllResumeData(records)) = sim.answer(leech, pilotfish::command::Ticket(1 << 40)) else {
        panic!("no records")
    };
    let [resume] = &records[..] else { panic!("{records:?}") };
    assert!(resume.look.as_ref().unwrap().open.is_empty());
    assert_eq!(resume.info.as_ref(), Some(content.metainfo.info_bytes()));
    let written = sim.disk(leech).bytes(".", &content).to_vec();
    let right = content.bytes();
    for piece in content.layout().geometry().pieces().filter(|piece| !resume.pieces[piece.as_usize()]) {
        let blocks = content.layout().geometry().blocks(piece);
        let recorded = resume.unfinished.iter().find(|unfinished| unfinished.piece == piece.get());
        for block in blocks {
            let from = piece.as_usize() * PIECE + block.start as usize;
            let is_there = written[from..from + block.len as usize] == right[from..from + block.len as usize];
            assert_eq!(recorded.is_some_and(|r| r.is_written(block.block_index())), is_there, "{block:?}");
        }
    }
    let torrent = restart(&mut sim, leech, &content, resume);
    until_checked(&mut sim, leech, torrent);
    assert_eq!(rejections(&sim, leech), [""; 0]);
    finish(&mut sim, seed, leech, torrent, &content);
}

#[test]
fn a_link_whose_record_has_the_metadata_asks_nobody_for_it() {
    let content = content();
    let mut sim = Sim::new(59);
    let node = sim.node();
    let torrent = sim.seed(node, &content);
    until_checked(&mut sim, node, torrent);
    let resume = *sim.resume_data(node, torrent, SaveResumeFlags::SAVE_INFO_DICT).unwrap();
    sim.restart(node, talkative());
    let magnet = Magnet {
        trackers: vec!["udp://tracker.invalid:1".to_owned()],
        ..Magnet::new(*content.metainfo.info_hashes())
    };
    let torrent = sim.add_as(node, AddTorrent::from_resume(magnet, resume));
    until_checked(&mut sim, node, torrent);
    assert_eq!(sim.status(node, torrent).state, TorrentState::SEEDING);
    let again = record(&mut sim, node, torrent);
    assert_eq!(again.trackers, [["udp://tracker.invalid:1"]]);
}

#[test]
fn counters_peers_and_bans_are_handed_on() {
    let content = content();
    let (mut sim, seed, leech, torrent) = begun(60, &content);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    let banned = "10.9.9.9".parse().unwrap();
    let mut resume = record(&mut sim, leech, torrent);
    assert_eq!(resume.total_downloaded, content.bytes().len() as u64);
    assert_eq!(resume.peers, [sim.at(seed).address]);
    resume.banned_peers.push(banned);
    resume.total_uploaded = 5;
    sim.restart(leech, again());
    let torrent = sim.add_as(leech, AddTorrent::from_resume(content.metainfo.clone(), resume.clone()));
    until_checked(&mut sim, leech, torrent);
    let again = record(&mut sim, leech, torrent);
    let counters = |resume: &Resume| (resume.total_uploaded, resume.total_downloaded, resume.added_time);
    assert_eq!(counters(&again), counters(&resume));
    assert_eq!(again.banned_peers, [banned]);
    let status = sim.status(leech, torrent);
    assert_eq!((status.all_time_upload, status.all_time_download), (5, resume.total_downloaded));
}
