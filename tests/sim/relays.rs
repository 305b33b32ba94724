//! Behind a proxy, datagrams go through it (SOCKS 5) or not at all: none goes past it.

use std::net::SocketAddr;
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Command, DhtCommand, Ticket};
use pilotfish::engine::Destination;
use pilotfish::metainfo::Magnet;
use pilotfish::settings::{HostPorts, ProxyType, Settings};
use pilotfish_tests::sim::{Content, NodeId, Sim, talkative};

use crate::trackers::{content, errors};

const LIMIT: Duration = Duration::from_secs(300);

/// A proxy that speaks SOCKS 5.
pub(crate) fn behind_a_proxy() -> Settings {
    Settings {
        proxy_type: ProxyType::Socks5,
        proxy_hostname: "proxy.test".into(),
        proxy_port: 1_080,
        // All nodes are in a few networks, and nobody is found but through whom a test names.
        dht_restrict_routing_ips: false,
        dht_restrict_search_ips: false,
        dht_bootstrap_nodes: HostPorts::default(),
        enable_lsd: false,
        ..talkative()
    }
}

fn in_the_open() -> Settings {
    Settings { proxy_type: ProxyType::None, ..behind_a_proxy() }
}

fn introduce_node(sim: &mut Sim, node: NodeId, other: NodeId) {
    let address = sim.at(other).address;
    let add = DhtCommand::AddNode { host: address.ip().to_string(), port: address.port() };
    sim.command(node, Command::Dht(add));
}

/// What a node wants sent through the proxy, without repetitions.
fn destinations(sim: &Sim, node: NodeId) -> Vec<Destination> {
    let mut all: Vec<Destination> = sim.relayed_by(node).map(|(to, _)| to.clone()).collect();
    all.dedup();
    all
}

#[test]
fn a_udp_tracker_is_asked_through_the_proxy_which_looks_its_name_up() {
    for looks_up in [true, false] {
        let mut sim = Sim::new(990);
        let ip = sim.tracker("t.test").ip;
        sim.tap();
        let content = content(990, &[&["udp://t.test:80"]]);
        let seed = sim.node_with(in_the_open());
        sim.seed(seed, &content);
        sim.run_for(Duration::from_secs(5));
        let leech =
            sim.node_with(Settings { proxy_hostnames: looks_up, enable_dht: false, ..behind_a_proxy() });
        let torrent = sim.add(leech, &content);
        sim.run_until_finished(LIMIT, &[(leech, torrent)]);
        let to = match looks_up {
            true => Destination::Name("t.test".to_owned(), 80),
            false => Destination::Address(SocketAddr::new(ip, 80)),
        };
        assert_eq!(destinations(&sim, leech), [to]);
        assert_eq!(sim.datagrams_of(leech).count(), 0);
    }
}

#[test]
fn a_proxy_for_peers_alone_is_none_for_trackers() {
    let mut sim = Sim::new(991);
    sim.tracker("t.test");
    sim.tap();
    let leech = sim.node_with(Settings { proxy_tracker_connections: false, ..behind_a_proxy() });
    sim.add(leech, &content(991, &[&["udp://t.test:80"]]));
    sim.run_for(Duration::from_secs(5));
    assert_eq!(sim.events_at("t.test"), ["started"]);
    assert_eq!((destinations(&sim, leech).len(), sim.datagrams_of(leech).count()), (0, 2));
}

#[test]
fn through_a_proxy_that_speaks_http_no_datagram_goes() {
    let mut sim = Sim::new(992);
    sim.tracker("t.test");
    sim.tap();
    let leech = sim.node_with(Settings { proxy_type: ProxyType::Http, ..behind_a_proxy() });
    let other = sim.node_with(in_the_open());
    sim.add(leech, &content(992, &[&["udp://t.test:80"]]));
    introduce_node(&mut sim, leech, other);
    introduce_node(&mut sim, other, leech);
    sim.run_for(Duration::from_secs(5));
    let error = "a tracker cannot be reached by UDP through a proxy that speaks HTTP".to_owned();
    assert_eq!(errors(&sim, leech), [(1, error)]);
    assert!(sim.tracker_at("t.test").packets.is_empty());
    assert_eq!((destinations(&sim, leech).len(), sim.datagrams_of(leech).count()), (0, 0));
}

#[test]
fn peers_are_found_in_the_dht_through_the_proxy_and_nobody_is_told_of_us() {
    let mut sim = Sim::new(993);
    sim.tap();
    let content = Content::random(993, 100_000, 16_384);
    let nodes: Vec<NodeId> = (0..6).map(|_| sim.node_with(in_the_open())).collect();
    nodes[1..].iter().for_each(|node| introduce_node(&mut sim, *node, nodes[0]));
    sim.seed(nodes[3], &content);
    sim.run_for(Duration::from_secs(60));
    let leech = sim.node_with(behind_a_proxy());
    introduce_node(&mut sim, leech, nodes[0]);
    let torrent = sim.add(leech, &content);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.run_for(Duration::from_secs(60));
    assert!(sim.relayed_by(leech).count() > 5);
    assert_eq!(sim.datagrams_of(leech).count(), 0);
    let ours = sim.at(leech).address.ip();
    let announced =
        |alert: &AlertKind| matches!(alert, AlertKind::DhtAnnounce { address, .. } if address.ip() == ours);
    assert!(!nodes.iter().any(|node| sim.alerts(*node).any(announced)));
    // Who finds our port all the same gets no answer: it would not come from there.
    let before = sim.relayed_by(leech).count();
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    sim.datagram(leech, "10.9.9.9:6881".parse().unwrap(), ping);
    assert_eq!((sim.relayed_by(leech).count(), sim.datagrams_of(leech).count()), (before, 0));
}

#[test]
fn hosts_by_which_the_dht_is_entered_are_not_looked_up_past_a_proxy_that_looks_names_up() {
    for (looks_up, entered) in [(true, false), (false, true)] {
        let mut sim = Sim::new(994);
        let router = sim.node_with(in_the_open());
        sim.names.insert("router.test".to_owned(), vec![sim.at(router).address.ip()]);
        let node = sim.node_with(Settings {
            dht_bootstrap_nodes: HostPorts::of(&[("router.test", 6_881)]),
            proxy_hostnames: looks_up,
            ..behind_a_proxy()
        });
        sim.run_for(Duration::from_secs(30));
        assert_eq!(sim.relayed_by(node).count() > 0, entered);
        let told = |alert: &AlertKind| matches!(alert, AlertKind::DhtError { .. });
        assert_eq!(sim.alerts(node).any(told), !entered);
        // Without the proxy, it is entered at once.
        sim.tap();
        sim.command(node, Command::Set(Ticket(0), "proxy_type".to_owned(), "none".to_owned()));
        sim.run_for(Duration::from_secs(30));
        assert!(sim.datagrams_of(node).count() > 0);
    }
}

#[test]
fn a_link_behind_a_proxy_is_no_different() {
    let mut sim = Sim::new(995);
    let content = Content::random(995, 100_000, 16_384);
    let seed = sim.full_node(in_the_open());
    sim.seed(seed, &content);
    let leech = sim.full_node(behind_a_proxy());
    introduce_node(&mut sim, leech, seed);
    introduce_node(&mut sim, seed, leech);
    let torrent = sim.add_as(leech, AddTorrent::new(Magnet::new(*content.metainfo.info_hashes())));
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
}
