//! A fast link with a long delay.

use std::time::Duration;

use pilotfish::settings::Settings;
use pilotfish_tests::sim::{Content, Link, Sim};

/// Bytes per second.
const TEN_GIGABITS: u64 = 10_000_000_000 / 8;

#[test]
fn two_engines_fill_a_link_of_ten_gigabits_and_a_tenth_of_a_second() {
    let mut sim = Sim::new(3);
    sim.link = Link {
        latency: Duration::from_millis(50),
        bandwidth: TEN_GIGABITS,
        window: 512 << 20,
        chunk: 65_536..=262_144,
        ..Link::default()
    };
    let content = Content::numbered(4 << 30, 4 << 20);
    let [seed, leech] = [0, 1].map(|_| sim.node_with(Settings::default()));
    let torrent = sim.add(leech, &content);
    sim.disk(leech).expect_numbered(".", &content);
    sim.seed(seed, &content);
    sim.introduce(leech, torrent, seed);
    // Until then both sides learn how fast they may be.
    sim.run_for(Duration::from_millis(2_200));
    let before = sim.status(leech, torrent).total_payload_download;
    sim.run_for(Duration::from_millis(300));
    let status = sim.status(leech, torrent);
    let rate = (status.total_payload_download - before) * 10 / 3;
    assert!(rate > TEN_GIGABITS * 9 / 10, "only {} MB/s", rate / 1_000_000);
    assert_eq!((status.total_redundant_bytes, status.total_failed_bytes), (0, 0));
    assert!(status.num_pieces > 0);
}
