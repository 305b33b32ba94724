//! The DHT in whole sessions: who is found through it, and what never is.

use std::time::Duration;

use bytes::Bytes;
use pilotfish::alert::AlertKind;
use pilotfish::command::{Answer, Command, DhtCommand, DhtItem, MutableItem, SecretKey};
use pilotfish::dht::{STATE, public_key};
use pilotfish::settings::{HostPorts, Settings};
use pilotfish::wire::krpc::{Arguments, Body, NodeId as Place, Packet, Query, Want, checked};
use pilotfish_tests::sim::{Content, Link, NodeId, Probe, Sim, talkative};

const LIMIT: Duration = Duration::from_secs(600);

/// All nodes of a simulation are in a few networks.
pub(crate) fn settings() -> Settings {
    Settings {
        dht_restrict_routing_ips: false,
        dht_restrict_search_ips: false,
        dht_bootstrap_nodes: HostPorts::of(&[("router.test", 6881)]),
        ..talkative()
    }
}

/// So many nodes with the extension ut_metadata, who know of the first as their way in.
fn network(sim: &mut Sim, nodes: usize) -> Vec<NodeId> {
    sim.names.insert("router.test".to_owned(), vec!["10.0.0.1".parse().unwrap()]);
    let nodes: Vec<NodeId> = (0..nodes).map(|_| sim.node_with_metadata(settings())).collect();
    sim.run_for(Duration::from_secs(60));
    nodes
}

fn has(sim: &Sim, node: NodeId, is: impl Fn(&AlertKind) -> bool) -> bool {
    sim.alerts(node).any(is)
}

/// Whether a node sent a datagram that has these bytes in it.
fn told(sim: &Sim, node: NodeId, hash: &[u8]) -> usize {
    let within = |payload: &Bytes| payload.windows(hash.len()).any(|part| part == hash);
    sim.datagrams_of(node).filter(|(_, payload)| within(payload)).count()
}

/// What a stranger asks, as a datagram.
fn question(arguments: Arguments<'_>) -> Vec<u8> {
    let (id, method) = (Place([7; 20]), arguments.method());
    let query = Query { id, method, read_only: true, arguments: Ok(arguments) };
    Packet { transaction: b"tt", ip: None, body: Body::Query(query) }.encode()
}

#[test]
fn a_magnet_link_alone_downloads_through_the_dht_alone_in_a_network_of_hundreds_that_loses_datagrams() {
    let mut sim = Sim::new(900);
    sim.link = Link { loss_ppm: 50_000, latency: Duration::from_millis(40), ..Link::default() };
    let nodes = network(&mut sim, 200);
    let content = Content::random(900, 300_000, 16_384);
    sim.seed(nodes[17], &content);
    sim.run_for(Duration::from_secs(30));
    let torrent = sim.add_link(nodes[171], &content);
    sim.run_until_finished(LIMIT, &[(nodes[171], torrent)]);
    sim.assert_complete(nodes[171], &content);
    let found = |alert: &AlertKind| matches!(alert, AlertKind::DhtReply { num_peers, .. } if *num_peers > 0);
    assert!(has(&sim, nodes[171], found));
    assert!(has(&sim, nodes[171], |alert| matches!(alert, AlertKind::DhtBootstrap { .. })));
}

#[test]
fn who_is_found_through_a_connection_need_not_be_a_router() {
    let mut sim = Sim::new(901);
    let content = Content::random(901, 100_000, 16_384);
    let alone = Settings { dht_bootstrap_nodes: HostPorts::default(), ..settings() };
    let [seed, leech, third] = [0; 3].map(|_| sim.node_with_metadata(alone.clone()));
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    // Both told each other their ports: each is in the other's table now, and announces itself there.
    let announced = |alert: &AlertKind| matches!(alert, AlertKind::DhtAnnounce { .. });
    sim.run_until(LIMIT, |sim| has(sim, seed, announced) && has(sim, leech, announced));
    let host = sim.at(seed).address;
    let command = DhtCommand::AddNode { host: host.ip().to_string(), port: host.port() };
    sim.command(third, Command::Dht(command));
    let torrent = sim.add_link(third, &content);
    sim.run_until_finished(LIMIT, &[(third, torrent)]);
}

#[test]
fn a_private_torrent_never_appears_in_the_dht() {
    let mut sim = Sim::new(902);
    let nodes = network(&mut sim, 12);
    let content = Content::private(902, 100_000, 16_384);
    let hash = content.metainfo.info_hashes().truncated();
    sim.tap();
    sim.seed(nodes[3], &content);
    let torrent = sim.add(nodes[5], &content);
    sim.run_for(Duration::from_secs(1_000));
    sim.introduce(nodes[5], torrent, nodes[3]);
    sim.run_until_finished(LIMIT, &[(nodes[5], torrent)]);
    sim.run_for(Duration::from_secs(1_000));
    assert_eq!(nodes.iter().map(|node| told(&sim, *node, &hash)).sum::<usize>(), 0);
    // Nor is a peer of it asked to be a node.
    let port = [0, 0, 0, 3, 9, 0x1a, 0xe1];
    let sent = sim.sent_by(nodes[3]).concat();
    assert!(!sent.windows(port.len()).any(|part| part == port));
}

#[test]
fn a_link_that_turns_out_to_be_private_is_not_announced_and_not_asked_for_again() {
    let mut sim = Sim::new(903);
    let nodes = network(&mut sim, 12);
    let content = Content::private(903, 100_000, 16_384);
    let hash = content.metainfo.info_hashes().truncated();
    sim.seed(nodes[3], &content);
    sim.tap();
    // Nobody gives the metadata of a private torrent away: a plugin has it from elsewhere.
    let info = content.metainfo.info_bytes().clone();
    let guide = Probe::new().torrent("tick", move |cx| {
        cx.this().set_metadata(&info);
        false
    });
    guide.plug(&mut sim, nodes[5]);
    let torrent = sim.add_link(nodes[5], &content);
    sim.introduce(nodes[5], torrent, nodes[3]);
    let known = |alert: &AlertKind| matches!(alert, AlertKind::MetadataReceived { .. });
    sim.run_until(LIMIT, |sim| has(sim, nodes[5], known));
    // It had to look for peers. What is on its way in this moment still arrives.
    let before = told(&sim, nodes[5], &hash);
    sim.run_until_finished(LIMIT, &[(nodes[5], torrent)]);
    sim.run_for(Duration::from_secs(2_000));
    assert_eq!(told(&sim, nodes[5], &hash), before);
    let announced = |alert: &AlertKind| matches!(alert, AlertKind::DhtAnnounce { .. });
    assert!(!nodes.iter().any(|node| has(&sim, *node, announced)));
}

#[test]
fn a_link_is_announced_once_its_metadata_is_known() {
    let mut sim = Sim::new(904);
    let nodes = network(&mut sim, 12);
    let content = Content::random(904, 100_000, 16_384);
    let torrent = sim.add_link(nodes[5], &content);
    let by = |sim: &Sim, peer: NodeId| {
        let address = sim.at(peer).address;
        let announced =
            |alert: &AlertKind| matches!(alert, AlertKind::DhtAnnounce { address: a, .. } if *a == address);
        nodes.iter().any(|node| has(sim, *node, announced))
    };
    sim.run_for(Duration::from_secs(300));
    assert!(!by(&sim, nodes[5]));
    sim.seed(nodes[3], &content);
    sim.run_until_finished(LIMIT, &[(nodes[5], torrent)]);
    sim.run_for(Duration::from_secs(60));
    assert!(by(&sim, nodes[3]) && by(&sim, nodes[5]));
}

#[test]
fn a_torrent_that_is_paused_or_removed_is_announced_no_more() {
    let mut sim = Sim::new(905);
    let nodes = network(&mut sim, 12);
    let contents = [Content::random(905, 100_000, 16_384), Content::random(906, 100_000, 16_384)];
    let torrents = [sim.seed(nodes[3], &contents[0]), sim.seed(nodes[3], &contents[1])];
    sim.run_for(Duration::from_secs(60));
    sim.tap();
    let hashes = [0, 1].map(|i| contents[i].metainfo.info_hashes().truncated());
    sim.command(nodes[3], Command::PauseTorrent(torrents[0]));
    sim.command(nodes[3], Command::RemoveTorrent { torrent: torrents[1], delete_files: false });
    sim.run_for(Duration::from_secs(2_000));
    assert_eq!(hashes.map(|hash| told(&sim, nodes[3], &hash)), [0, 0]);
    sim.command(nodes[3], Command::ResumeTorrent(torrents[0]));
    sim.run_for(Duration::from_secs(60));
    assert!(told(&sim, nodes[3], &hashes[0]) > 0);
}

#[test]
fn the_dht_is_switched_off_and_on_while_the_session_runs() {
    let mut sim = Sim::new(907);
    let nodes = network(&mut sim, 12);
    let set = |sim: &mut Sim, value: &str| {
        let (name, value) = ("enable_dht".to_owned(), value.to_owned());
        sim.ask(nodes[3], |ticket| Command::Set(ticket, name, value));
    };
    set(&mut sim, "0");
    sim.tap();
    let content = Content::random(907, 50_000, 16_384);
    sim.seed(nodes[3], &content);
    sim.run_for(Duration::from_secs(100));
    assert_eq!(sim.datagrams_of(nodes[3]).count(), 0);
    set(&mut sim, "1");
    let torrent = sim.add_link(nodes[9], &content);
    sim.run_until_finished(LIMIT, &[(nodes[9], torrent)]);
}

#[test]
fn what_the_dht_keeps_is_enough_to_come_back_without_a_router() {
    let mut sim = Sim::new(908);
    let nodes = network(&mut sim, 12);
    let Answer::State(states) = sim.ask(nodes[4], Command::SaveState) else { panic!("no state") };
    let state = states.into_iter().find(|(name, _)| name == STATE).unwrap().1;
    let settings = Settings { dht_bootstrap_nodes: HostPorts::default(), ..settings() };
    let late = sim.node_that_remembers(settings, state);
    let content = Content::random(908, 50_000, 16_384);
    sim.seed(nodes[2], &content);
    let torrent = sim.add(late, &content);
    sim.run_until_finished(LIMIT, &[(late, torrent)]);
}

#[test]
fn each_query_passes_the_plugins_before_it_is_answered() {
    let mut sim = Sim::new(909);
    let node = sim.node_with(settings());
    let first = Probe::new().dht("ping", |response| {
        response.insert_int("left", 1);
        false
    });
    let second = Probe::beside(&first.log(), "second ").dht("ping", |response| {
        response.dict("r").insert_bytes("mine", "yes");
        response.remove("ip");
        true
    });
    let log = first.plug(&mut sim, node);
    second.plug(&mut sim, node);
    sim.tap();
    let stranger = "10.9.9.9:9".parse().unwrap();
    sim.datagram(node, stranger, &question(Arguments::Ping));
    sim.datagram(
        node,
        stranger,
        &question(Arguments::FindNode { target: Place([1; 20]), want: Want::default() }),
    );
    let answers: Vec<Bytes> = sim.datagrams_of(node).map(|(_, payload)| payload.clone()).collect();
    let [ping, find] = &answers[..] else { panic!("{answers:?}") };
    // What the first wrote before it went on is gone; what the second wrote is sent as it is.
    let text = String::from_utf8_lossy(ping);
    assert!(text.starts_with("d1:rd2:id20:") && text.ends_with("4:mine3:yes1:pi9ee1:t2:tt1:y1:re"), "{text}");
    let bytes = checked(find).unwrap();
    assert!(matches!(Packet::read(&bytes).unwrap().body, Body::Response(_)));
    let seen: Vec<String> = log.lock().unwrap().iter().filter(|line| line.contains("dht")).cloned().collect();
    let expected = [
        "session.on_dht_request ping 10.9.9.9:9 tt",
        "second session.on_dht_request ping 10.9.9.9:9 tt",
        "session.on_dht_request find_node 10.9.9.9:9 tt",
        "second session.on_dht_request find_node 10.9.9.9:9 tt",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_plugin_answers_a_query_that_the_engine_does_not_know() {
    let mut sim = Sim::new(910);
    let node = sim.node_with(settings());
    let unknown = b"d1:ad2:id20:77777777777777777777e1:q6:listen1:t2:tt1:y1:qe";
    let stranger = "10.9.9.9:9".parse().unwrap();
    sim.tap();
    sim.datagram(node, stranger, unknown);
    let probe = Probe::new().dht("listen", |response| {
        response.insert_bytes("y", "e");
        response.remove("r");
        assert!(response.insert_bencoded("e", b"li202e4:busye"));
        true
    });
    probe.plug(&mut sim, node);
    sim.datagram(node, stranger, unknown);
    let answers: Vec<Bytes> = sim.datagrams_of(node).map(|(_, payload)| payload.clone()).collect();
    let code = |payload: &[u8]| match Packet::read(payload).unwrap().body {
        Body::Error { code, .. } => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(answers.iter().map(|payload| code(payload)).collect::<Vec<_>>(), [203, 202]);
}

#[test]
fn plugins_see_nothing_that_is_not_answered() {
    let mut sim = Sim::new(911);
    let shy = sim.node_with(Settings { dht_read_only: true, ..settings() });
    let busy = sim.node_with(settings());
    let logs = [shy, busy].map(|node| Probe::new().plug(&mut sim, node));
    let stranger = "10.9.9.9:9".parse().unwrap();
    sim.tap();
    sim.datagram(shy, stranger, &question(Arguments::Ping));
    for _ in 0..60 {
        sim.datagram(busy, stranger, &question(Arguments::Ping));
    }
    sim.datagram(busy, stranger, b"d1:ad2:id3:abce1:q4:ping1:t2:tt1:y1:qe");
    let seen = logs.map(|log| log.lock().unwrap().iter().filter(|line| line.contains("on_dht")).count());
    assert_eq!(seen, [0, 50]);
    assert_eq!((sim.datagrams_of(shy).count(), sim.datagrams_of(busy).count()), (0, 50));
}

#[test]
fn the_program_stores_and_finds_items_and_asks_questions() {
    let mut sim = Sim::new(912);
    let nodes = network(&mut sim, 20);
    let put = |sim: &mut Sim, item: DhtItem| match sim.ask(nodes[2], |ticket| Command::DhtPut(ticket, item)) {
        Answer::Stored(stored) => stored.unwrap(),
        other => panic!("{other:?}"),
    };
    let target = put(&mut sim, DhtItem::Immutable(b"2:hi".to_vec()));
    let secret = SecretKey([3; 32]);
    let item = MutableItem { secret: secret.clone(), salt: b"s".to_vec(), value: b"i7e".to_vec() };
    let place = put(&mut sim, DhtItem::Mutable(item));
    let stored = |sim: &Sim, place: [u8; 20]| {
        let put = |alert: &AlertKind| matches!(alert, AlertKind::DhtPut { target, num_success } if *target == place && *num_success > 4);
        has(sim, nodes[2], put)
    };
    sim.run_until(LIMIT, |sim| stored(sim, target) && stored(sim, place));

    let to = sim.at(nodes[6]).address;
    let asker = nodes[9];
    let commands = [
        DhtCommand::GetImmutable(target),
        DhtCommand::GetMutable { key: public_key(&secret), salt: b"s".to_vec() },
        DhtCommand::GetPeers { info_hash: [5; 20], announce: Some(0) },
        DhtCommand::DirectRequest { to, query: b"d1:q4:pinge".to_vec(), userdata: 77 },
    ];
    commands.into_iter().for_each(|command| sim.command(asker, Command::Dht(command)));
    let is_there = |sim: &Sim| {
        has(sim, asker, |a| matches!(a, AlertKind::DhtImmutableItem { item, .. } if item == b"2:hi"))
            && has(
                sim,
                asker,
                |a| matches!(a, AlertKind::DhtMutableItem { item, seq: 1, authoritative: true, .. } if item == b"i7e"),
            )
            && has(
                sim,
                asker,
                |a| matches!(a, AlertKind::DhtDirectResponse { userdata: 77, response, .. } if response.starts_with(b"d2:ip")),
            )
    };
    sim.run_until(LIMIT, |sim| is_there(sim));
    sim.run_for(Duration::from_secs(20));

    // Who announced itself without having the torrent is found, and sampled.
    sim.command(nodes[14], Command::Dht(DhtCommand::GetPeers { info_hash: [5; 20], announce: None }));
    let announced = sim.at(asker).address;
    let found =
        |a: &AlertKind| matches!(a, AlertKind::DhtGetPeersReply { peers, .. } if peers.contains(&announced));
    sim.run_until(LIMIT, |sim| has(sim, nodes[14], found));
    sim.command(nodes[14], Command::Dht(DhtCommand::Scrape([5; 20])));
    let counted = |a: &AlertKind| matches!(a, AlertKind::DhtScrapeReply { complete: 0, incomplete: 1, .. });
    sim.run_until(LIMIT, |sim| has(sim, nodes[14], counted));
    let keeper =
        *nodes.iter().find(|node| has(&sim, **node, |a| matches!(a, AlertKind::DhtAnnounce { .. }))).unwrap();
    let to = sim.at(keeper).address;
    let asker = *nodes.iter().find(|node| **node != keeper).unwrap();
    sim.command(asker, Command::Dht(DhtCommand::SampleInfohashes { to, target: [0; 20] }));
    let sampled = |a: &AlertKind| matches!(a, AlertKind::DhtSampleInfohashes { samples, .. } if samples.contains(&[5; 20]));
    sim.run_until(LIMIT, |sim| has(sim, asker, sampled));
}

#[test]
fn a_router_whose_name_is_not_known_yet_is_tried_again() {
    let mut sim = Sim::new(913);
    let [first, late] = [0; 2].map(|_| sim.node_with_metadata(settings()));
    sim.run_for(Duration::from_secs(20));
    let error =
        |alert: &AlertKind| matches!(alert, AlertKind::DhtError { error } if error.contains("router.test"));
    assert!(has(&sim, first, error));
    sim.names.insert("router.test".to_owned(), vec!["10.0.0.1".parse().unwrap()]);
    sim.run_until(LIMIT, |sim| has(sim, late, |alert| matches!(alert, AlertKind::DhtBootstrap { .. })));
}

#[test]
fn peers_of_the_dht_are_offered_as_such() {
    let mut sim = Sim::new(914);
    let nodes = network(&mut sim, 8);
    let content = Content::random(914, 50_000, 16_384);
    sim.seed(nodes[1], &content);
    sim.run_for(Duration::from_secs(30));
    let log = Probe::new().plug(&mut sim, nodes[6]);
    let torrent = sim.add(nodes[6], &content);
    sim.run_until_finished(LIMIT, &[(nodes[6], torrent)]);
    let offered = format!("torrent.on_add_peer {}", sim.at(nodes[1]).address);
    assert!(log.lock().unwrap().iter().any(|line| line.starts_with(&offered)));
}
