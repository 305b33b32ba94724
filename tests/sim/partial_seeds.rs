//! Partial seeds (BEP 21): who has all that it wants, but not everything.

use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Command};
use pilotfish_plugin::{ErrorCode, TorrentHandle, TorrentState};
use pilotfish_tests::sim::{Content, NodeId, Sim};

const LIMIT: Duration = Duration::from_secs(300);

/// Four files of a piece each, and a node for each list of what it wants of them, which has it.
fn partial_seeds(sim: &mut Sim, wanted: [[u8; 4]; 2]) -> (Content, [(NodeId, TorrentHandle); 2]) {
    let content = Content::folder(970, &[16_384; 4], 16_384);
    let source = sim.node();
    let seeding = sim.seed(source, &content);
    let partial = wanted.map(|file_priorities| {
        let node = sim.node();
        let add = AddTorrent {
            file_priorities: file_priorities.to_vec(),
            ..AddTorrent::new(content.metainfo.clone())
        };
        let torrent = sim.add_as(node, add);
        sim.introduce(node, torrent, source);
        (node, torrent)
    });
    sim.run_until_finished(LIMIT, &partial);
    for (node, torrent) in partial {
        let status = sim.status(node, torrent);
        assert_eq!((status.state, status.num_pieces), (TorrentState::FINISHED, 2));
    }
    sim.command(source, Command::RemoveTorrent { torrent: seeding, delete_files: false });
    sim.run_for(Duration::from_secs(1));
    (content, partial)
}

fn ended(sim: &Sim, node: NodeId, why: ErrorCode) -> bool {
    sim.alerts(node).any(|alert| matches!(alert, AlertKind::PeerDisconnected { error, .. } if *error == why))
}

#[test]
fn two_that_want_nothing_do_not_stay_connected_although_each_has_what_the_other_lacks() {
    let mut sim = Sim::new(970);
    let (_, [(one, torrent), (other, _)]) = partial_seeds(&mut sim, [[4, 4, 0, 0], [0, 0, 4, 4]]);
    sim.introduce(one, torrent, other);
    sim.run_for(Duration::from_secs(5));
    assert_eq!(sim.open_connections(), 0);
    let why = ErrorCode::UPLOAD_UPLOAD_CONNECTION;
    assert!(ended(&sim, one, why) || ended(&sim, other, why));
}

#[test]
fn who_wants_everything_gets_it_from_two_that_have_half_of_it_each() {
    let mut sim = Sim::new(971);
    let (content, partial) = partial_seeds(&mut sim, [[4, 4, 0, 0], [0, 0, 4, 4]]);
    let leech = sim.node();
    let torrent = sim.add(leech, &content);
    partial.iter().for_each(|(node, _)| sim.introduce(leech, torrent, *node));
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
}

#[test]
fn who_wants_what_a_partial_seed_lacks_does_not_stay_connected_to_it() {
    let mut sim = Sim::new(972);
    let (content, [(seed, _), _]) = partial_seeds(&mut sim, [[4, 4, 0, 0], [4, 4, 0, 0]]);
    let leech = sim.node();
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_until(LIMIT, |sim| ended(sim, leech, ErrorCode::UNINTERESTING_UPLOAD_PEER));
    assert_eq!(sim.status(leech, torrent).num_pieces, 2);
}

#[test]
fn a_partial_seed_that_wants_more_says_so_and_gets_it_from_another() {
    let mut sim = Sim::new(973);
    let (content, [(one, torrent), (other, theirs)]) = partial_seeds(&mut sim, [[4, 4, 0, 0], [0, 0, 4, 4]]);
    sim.command(one, Command::PrioritizeFiles(torrent, vec![4; 4]));
    sim.introduce(one, torrent, other);
    sim.run_until_finished(LIMIT, &[(one, torrent)]);
    sim.assert_complete(one, &content);
    assert_eq!(sim.status(other, theirs).num_pieces, 2);
}

#[test]
fn a_tracker_is_told_that_a_partial_seed_downloads_no_more_and_that_it_goes_on() {
    let mut sim = Sim::new(974);
    sim.tracker("t.test").interval = 600;
    let content = Content::tracked(974, 65_536, 16_384, &[&["http://t.test/announce"]]);
    let [seed, leech] = [sim.node(), sim.node()];
    sim.seed(seed, &content);
    let add = AddTorrent { piece_priorities: vec![4, 4, 0, 0], ..AddTorrent::new(content.metainfo.clone()) };
    let torrent = sim.add_as(leech, add);
    sim.introduce(leech, torrent, seed);
    sim.run_for(Duration::from_secs(1_300));
    let from = sim.at(leech).address;
    let told = |sim: &mut Sim| -> Vec<(String, u64)> {
        let heard = &sim.tracker_at("t.test").heard;
        let ours = heard.iter().filter(|heard| heard.from == Some(from));
        ours.map(|heard| (heard.event.clone(), heard.left)).collect()
    };
    let paused = ("paused".to_owned(), 32_768);
    assert_eq!(told(&mut sim)[1..], [paused.clone(), paused]);
    let piece = pilotfish_plugin::PieceIndex(2);
    sim.stall(seed, Duration::from_secs(2_000));
    sim.command(leech, Command::SetPiecePriority { torrent, piece, priority: 4 });
    sim.run_for(Duration::from_secs(600));
    assert_eq!(told(&mut sim)[3..], [(String::new(), 32_768)]);
}
