//! Liars among honest peers, and the extension smart_ban.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::TorrentExtension;
use pilotfish::plugins::builtin::create_smart_ban_plugin;
use pilotfish::settings::Settings;
use pilotfish_plugin::{AlertCategory, TorrentHandle};
use pilotfish_tests::sim::{Content, Link, NodeId, Sim, talkative};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LIMIT: Duration = Duration::from_secs(1_800);

/// Has a node's disk return wrong bits from now on, in these pieces.
fn turn_liar(sim: &mut Sim, node: NodeId, pieces: impl IntoIterator<Item = u32>) {
    sim.disk(node).lies.extend(pieces);
}

/// Who was banned, and by whom.
fn bans(sim: &Sim, node: NodeId) -> BTreeSet<(IpAddr, String)> {
    let ban = |alert: &AlertKind| match alert {
        AlertKind::PeerBan { address, by, .. } => Some((address.ip(), by.clone())),
        _ => None,
    };
    sim.alerts(node).filter_map(ban).collect()
}

fn banned(sim: &Sim, node: NodeId) -> BTreeSet<IpAddr> {
    bans(sim, node).into_iter().map(|(address, _)| address).collect()
}

fn ip(sim: &Sim, node: NodeId) -> IpAddr {
    sim.at(node).address.ip()
}

/// A node that has everything, once it has been checked.
fn seed(sim: &mut Sim, content: &Content, settings: Settings) -> (NodeId, TorrentHandle) {
    let node = sim.full_node(settings);
    let torrent = sim.seed(node, content);
    sim.run_until_finished(LIMIT, &[(node, torrent)]);
    (node, torrent)
}

#[test]
fn in_a_swarm_of_twenty_exactly_the_three_liars_are_banned_and_the_data_is_right() {
    let mut sim = Sim::new(640);
    sim.link = Link { bandwidth: 400_000, ..Link::default() };
    let content = Content::random(640, 6_000_000, 131_072);
    let pieces = content.layout().geometry().num_pieces();
    let seeds: Vec<NodeId> = (0..6).map(|_| seed(&mut sim, &content, talkative()).0).collect();
    // One lies always, one in every third piece, one in a few.
    let liars: Vec<NodeId> = seeds[..3].to_vec();
    turn_liar(&mut sim, liars[0], 0..pieces);
    turn_liar(&mut sim, liars[1], (0..pieces).step_by(3));
    turn_liar(&mut sim, liars[2], [5, 6, 7, 8, 20, 30, 40]);
    let mut leeches = Vec::new();
    for _ in 0..14 {
        let node = sim.full_node(talkative());
        let torrent = sim.add(node, &content);
        seeds.iter().for_each(|seed| sim.introduce(node, torrent, *seed));
        leeches.push((node, torrent));
    }
    sim.run_until_finished(LIMIT, &leeches);
    let wrong: BTreeSet<IpAddr> = liars.iter().map(|liar| ip(&sim, *liar)).collect();
    let (mut all, mut by_smart_ban) = (BTreeSet::new(), 0);
    for (node, _) in &leeches {
        sim.assert_complete(*node, &content);
        let banned = banned(&sim, *node);
        assert!(banned.is_subset(&wrong), "{node:?} banned {banned:?}, and the liars are {wrong:?}");
        all.extend(banned);
        by_smart_ban += bans(&sim, *node).iter().filter(|(_, by)| by == "smart_ban").count();
    }
    assert_eq!(all, wrong);
    assert!(by_smart_ban > 0, "the engine found all of them by itself");
}

#[test]
fn a_liar_in_one_block_of_a_piece_that_many_sent_is_found_with_the_extension_and_not_without_it() {
    for smart in [true, false] {
        let mut sim = Sim::new(641);
        sim.link = Link { bandwidth: 200_000, ..Link::default() };
        // Two pieces, of which every peer sends a few blocks.
        let content = Content::random(641, 2_000_000, 1_048_576);
        let seeds: Vec<NodeId> = (0..5).map(|_| seed(&mut sim, &content, talkative()).0).collect();
        turn_liar(&mut sim, seeds[0], 0..2);
        let leech = sim.node();
        if smart {
            sim.extend(leech, TorrentExtension::new("smart_ban", create_smart_ban_plugin));
        }
        let torrent = sim.add(leech, &content);
        seeds.iter().for_each(|seed| sim.introduce(leech, torrent, *seed));
        sim.run_until(LIMIT, |sim| {
            sim.alerts(leech).any(|alert| matches!(alert, AlertKind::HashFailed { .. }))
        });
        // Whoever sent the bad block leaves before anything is known.
        sim.reset(leech, seeds[0]);
        sim.disk(seeds[0]).lies.clear();
        sim.run_until_finished(LIMIT, &[(leech, torrent)]);
        sim.run_for(Duration::from_secs(1));
        sim.assert_complete(leech, &content);
        let found = bans(&sim, leech);
        let liar = (ip(&sim, seeds[0]), "smart_ban".to_owned());
        assert_eq!(found, if smart { BTreeSet::from([liar]) } else { BTreeSet::new() });
    }
}

/// A small swarm: honest seeds, liars, and leeches that fetch from all of them. Panics if an honest peer is banned, or the
/// data is wrong; how many liars were found out, of how many.
fn small_swarm(number: u64) -> (usize, usize) {
    let mut rng = StdRng::seed_from_u64(number);
    let mut sim = Sim::new(number);
    let latency = Duration::from_millis(rng.random_range(1..100));
    sim.link = Link { bandwidth: rng.random_range(50_000..2_000_000), latency, ..Link::default() };
    let piece_length = 16_384 << rng.random_range(0..4);
    let content = Content::random(number, rng.random_range(100_000..400_000), piece_length);
    let pieces = content.layout().geometry().num_pieces();
    let quiet = Settings { alert_mask: AlertCategory::PEER, ..talkative() };
    let (honest, lying) = (rng.random_range(1..4), rng.random_range(0..4));
    let seeds: Vec<NodeId> = (0..honest + lying).map(|_| seed(&mut sim, &content, quiet.clone()).0).collect();
    let liars = &seeds[..lying];
    for liar in liars {
        let some: Vec<u32> = (0..pieces).filter(|_| rng.random_range(0..3) == 0).collect();
        turn_liar(&mut sim, *liar, some);
    }
    let mut leeches = Vec::new();
    for _ in 0..rng.random_range(1..4) {
        let node = sim.full_node(quiet.clone());
        let torrent = sim.add(node, &content);
        seeds.iter().for_each(|seed| sim.introduce(node, torrent, *seed));
        leeches.push((node, torrent));
    }
    sim.run_until_finished(LIMIT, &leeches);
    sim.run_for(Duration::from_secs(1));
    let wrong: BTreeSet<IpAddr> = liars.iter().map(|liar| ip(&sim, *liar)).collect();
    let mut all = BTreeSet::new();
    for (node, _) in &leeches {
        sim.assert_complete(*node, &content);
        let banned = banned(&sim, *node);
        assert!(
            banned.is_subset(&wrong),
            "swarm {number}: {:?} were banned, and {wrong:?} lie",
            bans(&sim, *node)
        );
        all.extend(banned);
    }
    (all.len(), lying)
}

fn small_swarms(numbers: std::ops::Range<u64>) {
    let (mut found, mut lying) = (0, 0);
    for number in numbers {
        let (caught, liars) = small_swarm(number);
        (found, lying) = (found + caught, lying + liars);
    }
    println!("{found} of {lying} liars were banned");
    assert!(found * 2 > lying, "{found} of {lying} liars were banned");
}

#[test]
fn nobody_honest_is_banned_in_a_hundred_swarms() {
    small_swarms(650_000..650_100);
}

/// `cargo test --release -p pilotfish-tests --test sim thousand -- --ignored`
#[test]
#[ignore = "a thousand swarms take a minute"]
fn nobody_honest_is_banned_in_a_thousand_swarms() {
    small_swarms(660_000..661_000);
}
