//! Many peers.

use std::time::Duration;

use pilotfish_plugin::TorrentHandle;
use pilotfish_tests::sim::{Content, Link, NodeId, Sim, Trace, talkative};

/// Fifty nodes, of which two seed, on lossy links of different length; a third is cut off for a while. Returns the trace.
fn fifty_nodes(seed: u64) -> Trace {
    let mut sim = Sim::new(seed);
    let content = Content::random(4, 2_000_000, 65_536);
    let nodes: Vec<NodeId> = (0..50).map(|_| sim.node_with(talkative())).collect();
    for (i, one) in nodes.iter().enumerate() {
        for (j, other) in nodes.iter().enumerate().skip(i + 1) {
            let latency = Duration::from_millis(5 + (i * 7 + j * 13) as u64 % 90);
            sim.set_link(*one, *other, Link { latency, bandwidth: 500_000, loss_ppm: 20_000, ..Link::default() });
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
        assert_eq!(sim.disk(*node).bytes(".", &content), content.bytes());
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
