//! Local discovery (BEP 14): who is found on the network, and what is never told there.

use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::Command;
use pilotfish::settings::Settings;
use pilotfish::wire::lsd::Announcement;
use pilotfish_tests::sim::{Content, NodeId, Probe, Sim, talkative};

const LIMIT: Duration = Duration::from_secs(600);

/// A network on which nobody is found but through local discovery.
fn network(seed: u64) -> Sim {
    let mut sim = Sim::new(seed);
    sim.hears_all = true;
    sim
}

fn settings() -> Settings {
    Settings { enable_dht: false, ..talkative() }
}

fn told(sim: &Sim, node: NodeId, hash: [u8; 20]) -> usize {
    let announcements = sim.multicasts_of(node).filter_map(|payload| Announcement::parse(payload));
    announcements.filter(|announcement| announcement.info_hashes.contains(&hash)).count()
}

#[test]
fn a_swarm_on_one_network_finds_itself() {
    let mut sim = network(950);
    let nodes: Vec<NodeId> = (0..6).map(|_| sim.node_with(settings())).collect();
    let content = Content::random(950, 200_000, 16_384);
    sim.seed(nodes[0], &content);
    sim.run_for(Duration::from_secs(10));
    let torrents: Vec<_> = nodes[1..].iter().map(|node| (*node, sim.add(*node, &content))).collect();
    sim.run_until_finished(LIMIT, &torrents);
    nodes[1..].iter().for_each(|node| sim.assert_complete(*node, &content));
    let found = |alert: &AlertKind| matches!(alert, AlertKind::LsdPeer { .. });
    assert!(sim.alerts(nodes[0]).any(found));
}

#[test]
fn a_torrent_is_announced_at_once_and_every_five_minutes() {
    let mut sim = network(951);
    let node = sim.node_with(settings());
    let contents: Vec<Content> = (0..3).map(|i| Content::random(951 + i, 20_000, 16_384)).collect();
    let torrents: Vec<_> = contents.iter().map(|content| sim.seed(node, content)).collect();
    sim.run_for(Duration::from_secs(5));
    let counts = |sim: &Sim| -> Vec<usize> {
        contents.iter().map(|content| told(sim, node, content.metainfo.info_hashes().truncated())).collect()
    };
    assert_eq!(counts(&sim), [1, 1, 1]);
    sim.command(node, Command::PauseTorrent(torrents[0]));
    sim.run_for(Duration::from_secs(299));
    assert_eq!(counts(&sim), [1, 2, 2]);
    let set = |sim: &mut Sim, value: &str| {
        let (name, value) = ("enable_lsd".to_owned(), value.to_owned());
        sim.ask(node, |ticket| Command::Set(ticket, name, value));
    };
    set(&mut sim, "0");
    sim.run_for(Duration::from_secs(700));
    assert_eq!(counts(&sim), [1, 2, 2]);
    set(&mut sim, "1");
    sim.run_for(Duration::from_secs(5));
    assert_eq!(counts(&sim), [1, 3, 3]);
}

#[test]
fn each_of_many_torrents_has_a_short_datagram_of_its_own_and_ten_are_sent_in_a_second() {
    let mut sim = network(957);
    let node = sim.node_with(settings());
    let contents: Vec<Content> = (0..25).map(|i| Content::random(2_000 + i, 20_000, 16_384)).collect();
    for content in &contents {
        sim.seed(node, content);
    }
    let mut sent = Vec::new();
    for _ in 0..4 {
        sim.run_for(Duration::from_secs(1));
        sent.push(sim.multicasts_of(node).count());
    }
    assert!(
        sent.windows(2).all(|pair| pair[1] - pair[0] <= 10) && sent[0] <= 11 && sent[3] == 25,
        "{sent:?}"
    );
    // Transmission reads no more.
    assert!(sim.multicasts_of(node).all(|payload| payload.len() <= 200));
    assert!(contents.iter().all(|content| told(&sim, node, content.metainfo.info_hashes().truncated()) == 1));
}

#[test]
fn those_that_were_never_told_of_come_before_those_whose_turn_it_is_again() {
    let mut sim = network(958);
    let mut settings = settings();
    settings.set("local_service_announce_interval", "30").unwrap();
    let node = sim.node_with(settings);
    // More than can be told of before the first are due again.
    let contents: Vec<Content> = (0..330).map(|i| Content::random(3_000 + i, 100, 16_384)).collect();
    for content in &contents {
        sim.seed(node, content);
    }
    sim.run_for(Duration::from_secs(36));
    assert!(contents.iter().all(|content| told(&sim, node, content.metainfo.info_hashes().truncated()) >= 1));
}

#[test]
fn a_private_torrent_is_never_told_of_on_the_network() {
    let mut sim = network(955);
    let [seed, leech] = [0; 2].map(|_| sim.node_with(settings()));
    let content = Content::private(955, 50_000, 16_384);
    let hash = content.metainfo.info_hashes().truncated();
    sim.seed(seed, &content);
    sim.add(leech, &content);
    sim.run_for(Duration::from_secs(1_000));
    assert_eq!((told(&sim, seed, hash), told(&sim, leech, hash)), (0, 0));
    // And nobody makes peers of it by saying that they have it.
    let liar = Announcement { port: 6881, info_hashes: vec![hash], cookie: String::new() };
    let found = |alert: &AlertKind| matches!(alert, AlertKind::LsdPeer { .. });
    sim.announce_locally(leech, "10.7.7.7:6771".parse().unwrap(), &liar.encode(true));
    assert!(!sim.alerts(leech).any(found));
}

#[test]
fn a_link_that_turns_out_to_be_private_is_told_of_no_more() {
    let mut sim = network(956);
    let node = sim.node_with(settings());
    let content = Content::private(956, 50_000, 16_384);
    let hash = content.metainfo.info_hashes().truncated();
    sim.add_link(node, &content);
    sim.run_for(Duration::from_secs(10));
    assert_eq!(told(&sim, node, hash), 1, "without a peer its metadata would never come");
    let info = content.metainfo.info_bytes().clone();
    let guide = Probe::new().torrent("tick", move |cx| {
        cx.this().set_metadata(&info);
        false
    });
    let guided = sim.node_with(settings());
    guide.plug(&mut sim, guided);
    sim.add_link(guided, &content);
    sim.run_for(Duration::from_secs(2_000));
    assert!(told(&sim, guided, hash) <= 1, "{}", told(&sim, guided, hash));
}
