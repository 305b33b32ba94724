//! Padding between files (BEP 47): it is neither asked for nor kept, and is there all the same.

use std::time::Duration;

use pilotfish::command::Command;
use pilotfish_plugin::PeerSource;
use pilotfish_tests::sim::{Content, Probe, Sim};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn blocks_of_padding_are_not_asked_for_and_the_pieces_are_right() {
    let mut sim = Sim::new(1);
    let content = Content::padded(1, &[100_000, 5, 131_072, 70_001], 131_072);
    let [seed, leech] = [sim.node(), sim.node()];
    let log = Probe::new().plug(&mut sim, leech);
    let served = Probe::new().plug(&mut sim, seed);
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
    // Seven blocks hold the first file, one the second, eight the third, five the fourth.
    let asked = log.lock().unwrap().iter().filter(|line| line.starts_with("peer.sent_request")).count();
    assert_eq!(asked, 7 + 1 + 8 + 5);
    let status = sim.status(leech, torrent);
    assert_eq!(status.total_payload_download, 21 * 16_384);
    assert_eq!((status.total_done, status.num_pieces), (4 * 131_072, 4));
    assert_eq!(served.lock().unwrap().iter().filter(|line| line.starts_with("peer.on_request")).count(), 21);
}

#[test]
fn a_swarm_shares_what_has_padding_in_it() {
    let mut sim = Sim::new(2);
    let content = Content::padded(2, &[300_000, 1, 0, 50_000, 16_385], 65_536);
    let seed = sim.node();
    sim.seed(seed, &content);
    let leeches = [sim.node(), sim.node(), sim.node()];
    let torrents = leeches.map(|leech| (leech, sim.add(leech, &content)));
    for (at, (leech, torrent)) in torrents.iter().enumerate() {
        let others = leeches[..at].iter().copied().chain([seed]);
        let addresses: Vec<_> = others.map(|other| sim.at(other).address).collect();
        for address in addresses {
            let source = PeerSource::TRACKER;
            sim.command(*leech, Command::ConnectPeer { torrent: *torrent, address, source });
        }
    }
    sim.run_until_finished(LIMIT, &torrents);
    leeches.iter().for_each(|leech| sim.assert_complete(*leech, &content));
}
