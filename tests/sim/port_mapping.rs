//! Ports that a router maps (UPnP, NAT-PMP, PCP): who is told of them, and when none is asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotfish::alert::AlertKind;
use pilotfish::command::{Command, DhtCommand, Ticket};
use pilotfish::engine::{Engine, EngineConfig, Input, Output, PortMapping, PortmapTransport};
use pilotfish::settings::{ProxyType, Settings};
use pilotfish_tests::sim::{Content, Manners, NodeId, Sim, talkative};

/// The router's address outside.
const OUTSIDE: &str = "81.2.3.4";

/// A network with a router that maps every port to one that is 10000 higher.
fn behind_a_router(seed: u64) -> Sim {
    let mut sim = Sim::new(seed);
    sim.router.manners = Manners::Maps(10_000, OUTSIDE.parse().unwrap());
    sim
}

fn transports(wanted: &[PortMapping]) -> Vec<PortmapTransport> {
    wanted.iter().map(|mapping| mapping.transport).collect()
}

fn set(sim: &mut Sim, node: NodeId, name: &str, value: &str) {
    sim.command(node, Command::Set(Ticket(0), name.to_owned(), value.to_owned()));
}

/// The ports that were mapped, and the errors, as alerts told.
fn told(sim: &Sim, node: NodeId) -> (Vec<String>, Vec<String>) {
    let mapped = sim.alerts(node).filter_map(|alert| match alert {
        AlertKind::Portmap { external_port, map_protocol, map_transport, .. } => {
            Some(format!("{map_transport} {map_protocol} {external_port}"))
        }
        _ => None,
    });
    let errors = sim.alerts(node).filter_map(|alert| match alert {
        AlertKind::PortmapError { map_protocol, map_transport, error, .. } => {
            Some(format!("{map_transport} {map_protocol} {error}"))
        }
        _ => None,
    });
    (mapped.collect(), errors.collect())
}

/// What an engine wants mapped that listens on these addresses.
fn wanted_by(settings: Settings, listening: &[&str]) -> Vec<PortMapping> {
    let now = Instant::now();
    let config = EngineConfig { settings, seed: 1, unix_time: 0, dht_state: None, waker: Arc::new(|| {}) };
    let mut engine = Engine::new(config, now);
    for address in listening {
        engine.handle(Input::Listening(address.parse().unwrap()), now);
    }
    let outputs = std::iter::from_fn(|| engine.poll_output());
    let mapped = outputs.filter_map(|output| match output {
        Output::MapPorts(wanted) => Some(wanted),
        _ => None,
    });
    mapped.last().unwrap_or_default()
}

#[test]
fn a_listener_is_mapped_by_both_protocols_and_what_the_router_gave_is_told() {
    let mut sim = behind_a_router(980);
    let node = sim.node();
    assert_eq!(transports(sim.router.wanted_by(node)), [PortmapTransport::NatPmp, PortmapTransport::Upnp]);
    let all = ["natpmp tcp 16881", "natpmp udp 16881", "upnp tcp 16881", "upnp udp 16881"];
    assert_eq!(told(&sim, node), (all.map(str::to_owned).to_vec(), vec![]));
    let seen: IpAddr = OUTSIDE.parse().unwrap();
    let external = |alert: &AlertKind| matches!(alert, AlertKind::ExternalIp { external_address } if *external_address == seen);
    assert!(sim.alerts(node).any(external));
    // It is the same when it is asked again: there is nothing to tell.
    sim.renew_ports();
    assert_eq!(told(&sim, node).0.len(), 4);
}

#[test]
fn trackers_and_the_dht_hear_of_the_port_that_the_router_gave() {
    let mut sim = behind_a_router(981);
    sim.tracker("t.test");
    let content = Content::tracked(981, 100_000, 16_384, &[&["http://t.test/announce"]]);
    let (node, other) = (sim.node(), sim.node());
    sim.seed(node, &content);
    let address = sim.at(other).address;
    let add = DhtCommand::AddNode { host: address.ip().to_string(), port: address.port() };
    sim.command(node, Command::Dht(add));
    sim.run_for(Duration::from_secs(120));
    let (_, request) = &sim.fetched[0];
    assert!(request.url.contains("&port=16881&"), "{}", request.url);
    let ours = SocketAddr::new(sim.at(node).address.ip(), 16_881);
    let heard =
        |alert: &AlertKind| matches!(alert, AlertKind::DhtAnnounce { address, .. } if *address == ours);
    assert!(sim.alerts(other).any(heard));
}

#[test]
fn whoever_was_told_another_port_hears_of_the_one_that_the_router_gave_late() {
    let mut sim = Sim::new(985);
    sim.tracker("t.test");
    let content = Content::tracked(985, 100_000, 16_384, &[&["http://t.test/announce"]]);
    let unmapped = Settings { enable_upnp: false, enable_natpmp: false, ..talkative() };
    let (node, other) = (sim.node(), sim.node_with(unmapped));
    sim.seed(node, &content);
    let address = sim.at(other).address;
    let add = DhtCommand::AddNode { host: address.ip().to_string(), port: address.port() };
    sim.command(node, Command::Dht(add));
    sim.run_for(Duration::from_secs(120));
    sim.router.manners = Manners::Maps(10_000, OUTSIDE.parse().unwrap());
    sim.renew_ports();
    sim.run_for(Duration::from_secs(60));
    let ports: Vec<bool> =
        sim.fetched.iter().map(|(_, request)| request.url.contains("&port=16881&")).collect();
    assert_eq!(ports, [false, true]);
    let ours = SocketAddr::new(sim.at(node).address.ip(), 16_881);
    let heard =
        |alert: &AlertKind| matches!(alert, AlertKind::DhtAnnounce { address, .. } if *address == ours);
    assert!(sim.alerts(other).any(heard));
    // It is no news when it is asked again.
    sim.renew_ports();
    sim.run_for(Duration::from_secs(60));
    assert_eq!(sim.fetched.len(), 2);
    // One that is taken back leads nowhere.
    ["enable_upnp", "enable_natpmp"].into_iter().for_each(|name| set(&mut sim, node, name, "false"));
    sim.run_for(Duration::from_secs(60));
    assert_eq!(sim.fetched.len(), 3);
    assert!(!sim.fetched[2].1.url.contains("&port=16881&"));
}

#[test]
fn only_what_others_can_reach_directly_is_mapped() {
    let count = |settings, listening: &[&str]| wanted_by(settings, listening).len();
    assert_eq!(count(talkative(), &["0.0.0.0:6881", "[::]:6881"]), 2);
    assert_eq!(count(talkative(), &["192.168.1.2:6881", "127.0.0.1:6881"]), 2);
    assert_eq!(count(talkative(), &["127.0.0.1:6881", "127.8.8.8:6881", "[::1]:6881"]), 0);
    assert_eq!(count(talkative(), &[]), 0);
    let proxy = Settings {
        proxy_type: ProxyType::Socks5,
        proxy_hostname: "proxy.test".into(),
        proxy_port: 1_080,
        ..talkative()
    };
    assert_eq!(count(proxy.clone(), &["0.0.0.0:6881"]), 0);
    assert_eq!(count(Settings { proxy_peer_connections: false, ..proxy }, &["0.0.0.0:6881"]), 2);
    let off = Settings { enable_upnp: false, enable_natpmp: false, ..talkative() };
    assert_eq!(count(off, &["0.0.0.0:6881"]), 0);
}

#[test]
fn each_protocol_can_be_switched_while_the_session_runs() {
    let mut sim = behind_a_router(982);
    let node = sim.node();
    set(&mut sim, node, "enable_upnp", "0");
    assert_eq!(transports(sim.router.wanted_by(node)), [PortmapTransport::NatPmp]);
    set(&mut sim, node, "enable_natpmp", "0");
    assert_eq!(sim.router.wanted_by(node), []);
    set(&mut sim, node, "enable_upnp", "1");
    assert_eq!(transports(sim.router.wanted_by(node)), [PortmapTransport::Upnp]);
    // What was taken back and is mapped again is news.
    assert_eq!(told(&sim, node).0[4..], ["upnp tcp 16881", "upnp udp 16881"]);
    set(&mut sim, node, "upnp_lease_duration", "60");
    assert_eq!(sim.router.wanted_by(node)[0].lease, Duration::from_secs(60));
}

#[test]
fn an_error_is_told_once_until_something_else_happens() {
    let mut sim = Sim::new(983);
    sim.router.manners = Manners::Refuses("no".to_owned());
    let node = sim.node_with(Settings { enable_upnp: false, ..talkative() });
    sim.renew_ports();
    assert_eq!(told(&sim, node).1, ["natpmp tcp no", "natpmp udp no"]);
    sim.router.manners = Manners::Maps(0, OUTSIDE.parse().unwrap());
    sim.renew_ports();
    assert_eq!(told(&sim, node).0, ["natpmp tcp 6881", "natpmp udp 6881"]);
    sim.router.manners = Manners::Refuses("no".to_owned());
    sim.renew_ports();
    assert_eq!(told(&sim, node).1.len(), 4);
}

#[test]
fn a_session_takes_its_ports_back_before_it_ends_and_does_not_wait_long() {
    let mut sim = behind_a_router(984);
    let [node, stuck] = [0; 2].map(|_| sim.node());
    assert!(sim.shut_down(node) < Duration::from_secs(1));
    assert_eq!(sim.router.wanted_by(node), []);
    sim.router.manners = Manners::Silent;
    let took = sim.shut_down(stuck);
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&took), "{took:?}");
}
