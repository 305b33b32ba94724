//! Peers that send bad data.

use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish_plugin::TorrentHandle;
use pilotfish_tests::sim::{Content, Link, NodeId, Probe, Sim};

const LIMIT: Duration = Duration::from_secs(300);

/// A node whose disk was right when it was checked, and returns wrong bits ever since.
fn liar(sim: &mut Sim, content: &Content) -> (NodeId, TorrentHandle) {
    let node = sim.node();
    let torrent = sim.seed(node, content);
    sim.run_until_finished(LIMIT, &[(node, torrent)]);
    let pieces = content.layout().geometry().num_pieces();
    sim.disk(node).lies.extend(0..pieces);
    (node, torrent)
}

fn bans(sim: &Sim, node: NodeId) -> Vec<String> {
    let address = |alert: &AlertKind| match alert {
        AlertKind::PeerBan { address, .. } => Some(address.ip().to_string()),
        _ => None,
    };
    sim.alerts(node).filter_map(address).collect()
}

#[test]
fn who_alone_sends_a_bad_piece_is_banned_and_the_rest_comes_from_others() {
    let mut sim = Sim::new(20);
    let content = Content::random(20, 1_000_000, 65_536);
    let (liar, _) = liar(&mut sim, &content);
    let [seed, leech] = [sim.node(), sim.node()];
    sim.seed(seed, &content);
    let log = Probe::new().plug(&mut sim, leech);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, liar);
    sim.run_until(LIMIT, |sim| sim.alerts(leech).any(|alert| matches!(alert, AlertKind::PeerBan { .. })));
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.status(leech, torrent).num_peers, 0);
    sim.introduce(leech, torrent, liar);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    assert_eq!(bans(&sim, leech), [sim.at(liar).address.ip().to_string()]);
    sim.assert_complete(leech, &content);
    assert_eq!(sim.status(leech, torrent).num_pieces, content.layout().geometry().num_pieces());
    let log = log.lock().unwrap();
    let names = ["torrent.on_piece_failed", "peer.on_piece_failed", "peer.on_disconnect"];
    let bad = log.iter().filter(|line| names.iter().any(|name| line.starts_with(name)));
    let hooks: Vec<&str> = bad.filter_map(|line| line.split(' ').next()).take(3).collect();
    assert_eq!(hooks, names);
}

#[test]
fn a_liar_among_honest_peers_is_found_out() {
    let mut sim = Sim::new(21);
    sim.link = Link { bandwidth: 1_000_000, ..Link::default() };
    let content = Content::random(21, 4_000_000, 262_144);
    let (liar, _) = liar(&mut sim, &content);
    let seeds = [sim.node(), sim.node()];
    let leech = sim.node();
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, liar);
    for seed in seeds {
        sim.seed(seed, &content);
        sim.introduce(leech, torrent, seed);
    }
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
    assert_eq!(bans(&sim, leech), [sim.at(liar).address.ip().to_string()]);
}

#[test]
fn a_piece_that_was_announced_too_early_is_taken_back_if_its_hash_is_wrong() {
    for early in [0, 1] {
        let mut sim = Sim::new(28);
        let content = Content::random(28, 65_536, 65_536);
        let (liar, _) = liar(&mut sim, &content);
        let settings = pilotfish::settings::Settings {
            predictive_piece_announce: early,
            ..pilotfish_tests::sim::talkative()
        };
        let [leech, other, seed] = [sim.node_with(settings), sim.node(), sim.node()];
        let log = Probe::new().plug(&mut sim, other);
        let [torrent, theirs] = [leech, other].map(|node| sim.add(node, &content));
        sim.introduce(other, theirs, leech);
        sim.run_for(Duration::from_secs(1));
        sim.introduce(leech, torrent, liar);
        sim.run_until(LIMIT, |sim| !bans(sim, leech).is_empty());
        sim.run_for(Duration::from_secs(1));
        let heard = |hook: &str| log.lock().unwrap().iter().filter(|line| line.starts_with(hook)).count();
        let taken_back = usize::from(early > 0);
        assert_eq!([heard("peer.on_have 0"), heard("peer.on_dont_have 0")], [taken_back; 2]);
        sim.seed(seed, &content);
        sim.introduce(leech, torrent, seed);
        sim.run_until_finished(LIMIT, &[(leech, torrent), (other, theirs)]);
        // Told early, or when it was right, but not twice.
        assert_eq!(heard("peer.on_have 0"), 1 + taken_back);
    }
}
