//! One seed and one leech.

use std::time::Duration;

use pilotfish_tests::sim::{Content, Probe, Sim};

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
    assert_eq!(sim.disk(leech).bytes(".", &content), content.bytes());
}

#[test]
fn hooks_come_in_the_documented_order() {
    let mut sim = Sim::new(2);
    let content = Content::random(2, 40_000, 32_768);
    let [seed, leech] = [sim.node(), sim.node()];
    let served = Probe::new().plug(&mut sim, seed);
    let fetched = Probe::new().plug(&mut sim, leech);
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.run_for(Duration::from_secs(1));
    println!("{:#?}", fetched.lock().unwrap());
    println!("{:#?}", served.lock().unwrap());
}
