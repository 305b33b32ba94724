//! Many peers.

use std::time::Duration;

use pilotfish::settings::Settings;
use pilotfish_plugin::TorrentHandle;
use pilotfish_tests::sim::{Content, Link, NodeId, Sim, Trace, talkative};

/// Fifty nodes, of which two seed, on lossy links of different length; a third is cut off for a while. Returns the trace.
fn fifty_nodes(seed: u64) -> Trace {
    let mut sim = Sim::new(seed);
    let content = Content::random(4, 2_000_000, 65_536);
    let nodes: Vec<NodeId> = (0..50).map(|_| sim.node()).collect();
    for (i, one) in nodes.iter().enumerate() {
        for (j, other) in nodes.iter().enumerate().skip(i + 1) {
            let latency = Duration::from_millis(5 + (i * 7 + j * 13) as u64 % 90);
            sim.set_link(
                *one,
                *other,
                Link { latency, bandwidth: 500_000, loss_ppm: 20_000, ..Link::default() },
            );
        }
    }
    let torrents: Vec<(NodeId, TorrentHandle)> = (nodes.iter().enumerate())
        .map(|(i, node)| (*node, if i < 2 { sim.seed(*node, &content) } else { sim.add(*node, &content) }))
        .collect();
    // A ring with chords: everyone can be reached, and nobody knows all.
    for (i, (node, torrent)) in torrents.iter().enumerate() {
        for step in [1, 7, 19] {
            sim.introduce(*node, *torrent, nodes[(i + step) % nodes.len()]);
        }
    }
    sim.run_for(Duration::from_millis(1_500));
    sim.partition(|node| u32::from(node >= nodes[34]));
    sim.run_for(Duration::from_secs(8));
    sim.heal();
    sim.run_until_finished(Duration::from_secs(600), &torrents);
    for (node, _) in &torrents {
        sim.assert_complete(*node, &content);
    }
    sim.trace()
}

#[test]
fn a_swarm_of_fifty_finishes_on_bad_links_and_after_a_partition() {
    fifty_nodes(5);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let traces = [fifty_nodes(6), fifty_nodes(6)];
    assert_eq!(traces[0], traces[1]);
}

#[test]
fn a_seed_with_four_slots_serves_twenty_leeches_in_turn() {
    let mut sim = Sim::new(7);
    sim.link = Link { bandwidth: 200_000, ..Link::default() };
    let content = Content::random(7, 400_000, 16_384);
    let seed = sim.node_with(Settings { unchoke_slots_limit: 4, ..talkative() });
    sim.seed(seed, &content);
    // They do not know each other: everything comes from the seed.
    let leeches: Vec<(NodeId, TorrentHandle)> = (0..20)
        .map(|_| {
            let leech = sim.node();
            let torrent = sim.add(leech, &content);
            sim.introduce(leech, torrent, seed);
            (leech, torrent)
        })
        .collect();
    // All have the few pieces that one may ask for while choked.
    sim.run_for(Duration::from_secs(2));
    let served = leeches.iter().filter(|(leech, torrent)| sim.status(*leech, *torrent).num_pieces > 5);
    assert_eq!(served.count(), 4);
    sim.run_until_finished(Duration::from_secs(600), &leeches);
}

#[test]
fn in_the_end_game_a_slow_peer_holds_nobody_up() {
    let mut sim = Sim::new(8);
    let content = Content::random(8, 1_000_000, 65_536);
    let [slow, fast, leech] = [sim.node(), sim.node(), sim.node()];
    sim.set_link(slow, leech, Link { bandwidth: 2_000, ..Link::default() });
    let torrent = sim.add(leech, &content);
    for seed in [slow, fast] {
        sim.seed(seed, &content);
        sim.introduce(leech, torrent, seed);
    }
    // A block takes the slow one eight seconds.
    sim.run_until_finished(Duration::from_secs(2), &[(leech, torrent)]);
    let status = sim.status(leech, torrent);
    assert!(status.total_redundant_bytes < 100_000, "{status:?}");
}
