//! One seed and one leech.

use std::time::Duration;

use pilotfish::settings::Settings;
use pilotfish_tests::sim::{Content, Log, Probe, Sim, talkative};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_leech_gets_everything_from_a_seed() {
    let mut sim = Sim::new(1);
    let content = Content::folder(1, &[100_000, 0, 70_001, 3], 32_768);
    let [seed, leech] = [sim.node(), sim.node()];
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
}

/// A torrent of one block, so that there is only one order in which things can happen.
#[test]
fn hooks_come_in_the_documented_order() {
    let mut sim = Sim::new(2);
    let content = Content::random(2, 10_000, 16_384);
    let settings = Settings { enable_dht: false, ..talkative() };
    let [seed, leech] = [sim.node_with(settings.clone()), sim.node_with(settings)];
    let served = Probe::new().plug(&mut sim, seed);
    let fetched = Probe::new().plug(&mut sim, leech);
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.run_for(Duration::from_millis(100));
    assert_eq!(without_alerts(&fetched), FETCHING);
    assert_eq!(without_alerts(&served), SERVING);
}

fn without_alerts(log: &Log) -> Vec<String> {
    let log = log.lock().unwrap();
    log.iter().filter(|line| !line.contains("on_alert") && !line.contains("tick")).cloned().collect()
}

const FETCHING: &[&str] = &[
    "session.added",
    "session.new_torrent",
    "torrent.on_add_peer 10.0.0.1:6881 tracker 1 2 0",
    "torrent.on_state downloading",
    "torrent.on_files_checked",
    "torrent.new_connection 0",
    "peer.on_connected",
    "peer.on_handshake",
    "peer.add_handshake",
    "peer.sent_have_none",
    "peer.on_extension_handshake",
    "peer.on_have_all",
    "peer.sent_interested",
    "peer.on_unchoke",
    "peer.write_request 0:0+10000",
    "peer.sent_request 0:0+10000",
    "peer.on_allowed_fast 0",
    "peer.on_unchoke",
    "peer.on_piece 0:0+10000",
    "peer.on_piece_pass 0",
    "peer.sent_have 0",
    "torrent.on_piece_pass 0",
    "torrent.on_state finished",
    "torrent.on_state seeding",
    "peer.sent_not_interested",
    "peer.can_disconnect torrent finished",
    "peer.on_disconnect torrent finished",
];

const SERVING: &[&str] = &[
    "session.added",
    "session.new_torrent",
    "torrent.on_state checking_files",
    "torrent.on_piece_pass 0",
    "torrent.on_state finished",
    "torrent.on_state seeding",
    "torrent.on_files_checked",
    "torrent.new_connection 1",
    "peer.on_handshake",
    "peer.add_handshake",
    "peer.sent_have_all",
    "peer.sent_unchoke",
    "peer.on_extension_handshake",
    "peer.on_have_none",
    "peer.sent_allow_fast 0",
    "peer.on_interested",
    "peer.sent_unchoke",
    "peer.on_request 0:0+10000",
    "peer.sent_piece 0:0+10000",
    "peer.sent_payload 10000",
    "peer.on_disconnect End of file",
];
