//! Addresses that are kept out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{Command, DhtCommand};
use pilotfish::ip_filter::{Access, IpFilter, Rule};
use pilotfish::settings::{Seconds, Settings};
use pilotfish_plugin::{ErrorCode, TorrentHandle};
use pilotfish_tests::sim::{Content, NodeId, Probe, Sim, talkative};

const SECOND: Duration = Duration::from_secs(1);

/// A filter that keeps these nodes out.
fn filter(sim: &Sim, nodes: &[NodeId]) -> Command {
    let ips: Vec<IpAddr> = nodes.iter().map(|node| sim.at(*node).address.ip()).collect();
    let rules = ips.into_iter().map(|ip| Rule::new(ip, ip, Access::BLOCKED).unwrap());
    Command::SetIpFilter(Arc::new(IpFilter::new(rules)))
}

fn blocked(sim: &Sim, node: NodeId) -> Vec<String> {
    let blocked = |alert: &&AlertKind| matches!(alert, AlertKind::PeerBlocked { .. });
    sim.alerts(node).filter(blocked).map(AlertKind::message).collect()
}

/// A seed, and a leech that tries again after a second.
fn pair(number: u64) -> (Sim, Content, NodeId, NodeId, TorrentHandle) {
    let mut sim = Sim::new(number);
    let content = Content::random(number, 3_000_000, 65_536);
    let seed = sim.node();
    sim.seed(seed, &content);
    let leech = sim.node_with(Settings { min_reconnect_time: Seconds(1), ..talkative() });
    let torrent = sim.add(leech, &content);
    sim.run_for(SECOND);
    (sim, content, seed, leech, torrent)
}

#[test]
fn who_is_kept_out_is_not_let_in_and_that_is_told() {
    let (mut sim, content, seed, leech, torrent) = pair(1);
    let keep_out = filter(&sim, &[leech]);
    sim.command(seed, keep_out);
    sim.introduce(leech, torrent, seed);
    sim.run_for(5 * SECOND);
    assert_eq!(sim.open_connections(), 0);
    assert!(blocked(&sim, seed)[0].starts_with("10.0.0.2:"), "{:?}", blocked(&sim, seed));
    assert!(blocked(&sim, seed)[0].ends_with(": blocked by the IP filter"));
    // Without the filter it comes in at its next attempt.
    sim.command(seed, Command::SetIpFilter(Arc::default()));
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(30 * SECOND, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
}

#[test]
fn an_offer_of_who_is_kept_out_is_refused_and_plugins_hear_why() {
    let (mut sim, _, seed, leech, _) = pair(2);
    let log = Probe::new().plug(&mut sim, leech);
    let content = Content::random(99, 100_000, 32_768);
    let torrent = sim.add(leech, &content);
    let keep_out = filter(&sim, &[seed]);
    sim.command(leech, keep_out);
    sim.introduce(leech, torrent, seed);
    sim.run_for(3 * SECOND);
    assert_eq!(blocked(&sim, leech), ["10.0.0.1:6881: blocked by the IP filter"]);
    assert_eq!(sim.open_connections(), 0);
    let log = log.lock().unwrap();
    assert!(log.iter().any(|line| line == "torrent.on_add_peer 10.0.0.1:6881 tracker 1 4 1"), "{log:?}");
    assert!(!log.iter().any(|line| line == "torrent.new_connection 0"));
}

#[test]
fn another_filter_closes_connections_and_forgets_candidates_that_it_does_not_let_in() {
    let (mut sim, content, seed, leech, torrent) = pair(3);
    let other = sim.node();
    sim.seed(other, &content);
    sim.link.bandwidth = 100_000;
    sim.introduce(leech, torrent, seed);
    sim.introduce(leech, torrent, other);
    sim.run_for(3 * SECOND);
    assert_eq!(sim.open_connections(), 2);
    let keep_out = filter(&sim, &[seed]);
    sim.command(leech, keep_out);
    sim.run_for(SECOND);
    assert_eq!(sim.open_connections(), 1);
    let ended = sim.alerts(leech).any(|alert| {
        matches!(alert, AlertKind::PeerDisconnected { error: ErrorCode::BANNED_BY_IP_FILTER, .. })
    });
    assert!(ended && blocked(&sim, leech) == ["10.0.0.1:6881: blocked by the IP filter"]);
    // It is not called again, and the other goes on.
    sim.run_until_finished(90 * SECOND, &[(leech, torrent)]);
    assert_eq!(sim.status(leech, torrent).total_redundant_bytes, 0);
    let calls = sim.alerts(leech).filter(|alert| matches!(alert, AlertKind::PeerConnect { .. })).count();
    assert_eq!(calls, 2);
    sim.assert_complete(leech, &content);
}

#[test]
fn a_tracker_that_is_kept_out_is_not_asked_unless_the_user_has_it_otherwise() {
    for applies in [true, false] {
        let mut sim = Sim::new(8);
        let ip = sim.tracker("t.test").ip;
        let leech = sim.node_with(Settings { apply_ip_filter_to_trackers: applies, ..talkative() });
        let rule = Rule::new(ip, ip, Access::BLOCKED).unwrap();
        sim.command(leech, Command::SetIpFilter(Arc::new(IpFilter::new([rule]))));
        let tiers: &[&[&str]] = &[&["udp://t.test:80"], &["http://t.test/announce"]];
        sim.add(leech, &Content::tracked(8, 100_000, 16_384, tiers));
        sim.run_for(5 * SECOND);
        assert_eq!(sim.tracker_at("t.test").packets.is_empty(), applies);
        let told = crate::trackers::errors(&sim, leech);
        let blocked = (1, "the tracker is blocked by the IP filter".to_owned());
        assert_eq!(told.first(), applies.then_some(&blocked));
        // By HTTP, whoever looks the name up knows what is kept out.
        let told: Vec<bool> = sim.fetched.iter().map(|(_, request)| request.ip_filter.is_some()).collect();
        assert_eq!(told, if applies { vec![true] } else { vec![] });
    }
}

#[test]
fn a_node_of_the_dht_that_is_kept_out_is_forgotten_and_neither_asked_nor_answered() {
    let mut sim = Sim::new(9);
    let settings = || Settings {
        dht_restrict_routing_ips: false,
        dht_restrict_search_ips: false,
        enable_lsd: false,
        ..talkative()
    };
    let [ours, theirs, friend] = [0; 3].map(|_| sim.node_with(settings()));
    let introduce = |sim: &mut Sim, node: NodeId, other: NodeId| {
        let (host, port) = (sim.at(other).address.ip().to_string(), sim.at(other).address.port());
        sim.command(node, Command::Dht(DhtCommand::AddNode { host, port }));
    };
    introduce(&mut sim, ours, theirs);
    introduce(&mut sim, ours, friend);
    sim.run_for(30 * SECOND);
    let keep_out = filter(&sim, &[theirs]);
    sim.command(ours, keep_out);
    sim.tap();
    let address = sim.at(theirs).address;
    let content = Content::random(9, 100_000, 16_384);
    sim.add(ours, &content);
    sim.add(theirs, &content);
    introduce(&mut sim, ours, theirs);
    sim.run_for(600 * SECOND);
    let to: Vec<_> = sim.datagrams_of(ours).map(|(to, _)| *to).collect();
    assert!(to.contains(&sim.at(friend).address) && !to.contains(&address));
}
