//! Peers that tell each other of peers, with the extension ut_pex (BEP 11).

use std::net::SocketAddr;
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Command, TorrentExtension};
use pilotfish::peer::Transport;
use pilotfish::plugins::builtin::create_ut_pex_plugin;
use pilotfish::settings::Settings;
use pilotfish::wire::Message;
use pilotfish_plugin::{ErrorCode, PeerHandle, PeerSource, SessionBox, TorrentHandle, rt};
use pilotfish_tests::sim::{Content, Link, Log, NodeId, Probe, Sim, talkative};

use crate::alone::Alone;

const LIMIT: Duration = Duration::from_secs(600);
const MINUTE: Duration = Duration::from_secs(60);

fn content(seed: u64) -> Content {
    Content::random(seed, 100_000, 16_384)
}

/// A world in which a torrent takes longer than it takes to tell somebody of somebody.
fn slow(seed: u64) -> Sim {
    let mut sim = Sim::new(seed);
    sim.link = Link { bandwidth: 10_000, ..Link::default() };
    sim
}

/// So many nodes with all built-in extensions.
fn nodes<const N: usize>(sim: &mut Sim) -> [NodeId; N] {
    // Nobody finds anybody in another way.
    [(); N].map(|()| sim.full_node(Settings { enable_dht: false, enable_lsd: false, ..talkative() }))
}

/// Whom a node was told of by peers, in order, and the flags and refusals of each offer.
fn heard(log: &Log) -> Vec<String> {
    let log = log.lock().unwrap();
    let offers = log.iter().filter_map(|line| line.strip_prefix("torrent.on_add_peer "));
    offers.filter(|line| line.contains(" pex ")).map(str::to_owned).collect()
}

/// Whether a node has sent a message of ut_pex since the tap.
fn told_anyone(sim: &Sim, node: NodeId) -> bool {
    sim.sent_by(node).iter().any(|bytes| bytes.windows(8).any(|window| window == b"d5:added"))
}

#[test]
fn a_peer_is_found_through_another_one_alone() {
    let mut sim = slow(600);
    let content = content(600);
    let [a, b, c] = nodes(&mut sim);
    let log = Probe::new().plug(&mut sim, a);
    let [at_a, at_b] = [a, b].map(|node| sim.add(node, &content));
    let seed = sim.seed(c, &content);
    sim.introduce(b, at_b, c);
    sim.introduce(a, at_a, b);
    sim.run_until(MINUTE, |sim| sim.status(c, seed).num_peers == 2);
    sim.run_until_finished(LIMIT, &[(a, at_a), (b, at_b)]);
    let address = sim.at(c).address;
    // New, and only peers have named it.
    assert_eq!(heard(&log)[0], format!("{address} pex 4 2 0"));
}

#[test]
fn a_link_alone_becomes_a_torrent_through_a_peer_that_has_nothing_but_knows_one() {
    let mut sim = Sim::new(601);
    let content = content(601);
    let [a, b, c] = nodes(&mut sim);
    // It wants nothing of the torrent, so that it never has anything to give but the metadata.
    let idle = Probe::new().torrent("on_metadata", |cx| {
        (0..7).for_each(|piece| cx.this().set_piece_priority(pilotfish_plugin::PieceIndex(piece), 0));
        false
    });
    idle.plug(&mut sim, b);
    let log = Probe::new().plug(&mut sim, a);
    sim.seed(c, &content);
    let at_b = sim.add_as(b, AddTorrent::new(content.link()));
    sim.introduce(b, at_b, c);
    sim.run_until(MINUTE, |sim| sim.status(b, at_b).total_pieces == 7);
    let at_a = sim.add_as(a, AddTorrent::new(content.link()));
    sim.introduce(a, at_a, b);
    sim.run_until_finished(LIMIT, &[(a, at_a)]);
    sim.assert_complete(a, &content);
    assert_eq!(sim.status(b, at_b).num_pieces, 0);
    assert!(heard(&log)[0].starts_with(&format!("{} pex", sim.at(c).address)));
}

#[test]
fn a_whole_swarm_finds_itself_from_a_chain_and_hears_of_those_who_leave() {
    let mut sim = Sim::new(602);
    let content = content(602);
    let swarm: [NodeId; 8] = nodes(&mut sim);
    let torrents = swarm.map(|node| sim.add(node, &content));
    for (one, other) in (0..7).zip(1..8) {
        sim.introduce(swarm[one], torrents[one], swarm[other]);
    }
    sim.run_for(5 * MINUTE);
    for (node, torrent) in swarm.into_iter().zip(torrents) {
        assert_eq!(sim.status(node, torrent).num_peers, 7, "{node:?}");
    }
}

#[test]
fn a_torrent_that_is_told_not_to_neither_tells_nor_listens() {
    for silent in [0, 1] {
        let mut sim = Sim::new(603);
        let content = content(603);
        let [a, b, c] = nodes(&mut sim);
        let log = Probe::new().plug(&mut sim, a);
        sim.tap();
        let [at_a, at_b] = [(a, silent == 0), (b, silent == 1)].map(|(node, disable_pex)| {
            sim.add_as(node, AddTorrent { disable_pex, ..AddTorrent::new(content.metainfo.clone()) })
        });
        sim.add(c, &content);
        sim.introduce(b, at_b, c);
        sim.introduce(a, at_a, b);
        sim.run_for(2 * MINUTE);
        assert!(heard(&log).is_empty());
        assert_eq!(told_anyone(&sim, b), silent == 0);
    }
}

#[test]
fn nobody_is_told_of_itself_or_of_who_is_not_connected_and_whoever_goes_is_said_to_be_gone() {
    let mut sim = Sim::new(604);
    let content = content(604);
    let [a, b, c] = nodes(&mut sim);
    sim.tap();
    let at_b = sim.add(b, &content);
    for node in [a, c] {
        sim.add(node, &content);
        sim.introduce(b, at_b, node);
    }
    // Nobody is there.
    let address: SocketAddr = "10.0.9.9:6881".parse().unwrap();
    sim.command(b, Command::ConnectPeer { torrent: at_b, address, source: PeerSource::TRACKER });
    sim.run_for(MINUTE);
    let other = sim.at(c).address.ip().to_string();
    sim.command(b, Command::Ban { torrent: Some(at_b), address: sim.at(c).address.ip(), reason: other });
    sim.run_for(2 * MINUTE);
    let sent = sim.sent_by(b);
    let to_a = sent.iter().find(|bytes| messages(bytes).len() == 2).expect("two messages for one peer");
    let compact = |node| match sim.at(node).address {
        SocketAddr::V4(v4) => [&v4.ip().octets()[..], &v4.port().to_be_bytes()].concat(),
        SocketAddr::V6(_) => Vec::new(),
    };
    let [first, second] = &messages(to_a)[..] else { panic!("two messages") };
    // Connected to by it (0x10), able to be introduced (0x08), and no seed.
    let added = [b"d5:added6:", &compact(c)[..], b"7:added.f1:\x18"].concat();
    assert!(first.starts_with(&added), "{}", first.escape_ascii());
    let dropped = [b"7:dropped6:", &compact(c)[..]].concat();
    assert!(second.windows(dropped.len()).any(|window| window == dropped), "{}", second.escape_ascii());
}

/// The messages of ut_pex in a stream.
fn messages(bytes: &[u8]) -> Vec<&[u8]> {
    let starts = (0..bytes.len()).filter(|i| bytes[*i..].starts_with(b"d5:added"));
    starts.map(|start| &bytes[start..bytes.len().min(start + 120)]).collect()
}

/// One engine with ut_pex, its torrent, and what it hears.
fn alone(settings: Settings) -> (Alone, TorrentHandle, Log) {
    let mut alone = Alone::new(settings);
    alone.plug(|| SessionBox::new(rt::factory(create_ut_pex_plugin)));
    let probe = Probe::new();
    let log = probe.log();
    alone.plug(|| probe.on_session());
    let torrent = alone.add(&content(610));
    (alone, torrent, log)
}

/// A peer that has said both its handshakes, and knows ours.
fn caller(alone: &mut Alone, number: u8) -> (PeerHandle, u8) {
    let peer = alone.called_by(&content(610), number);
    alone.tell(peer, &[extended(0, b"d1:md6:ut_pexi5eee"), Message::HaveNone]);
    let id = alone.our_id(peer, "ut_pex").expect("ut_pex in our handshake");
    (peer, id)
}

fn extended(id: u8, payload: &[u8]) -> Message {
    Message::Extended { id, payload: payload.to_vec().into() }
}

/// A message that tells of these peers at 20.0.0.0/8.
fn pex(peers: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let compact: Vec<u8> =
        peers.into_iter().flat_map(|n| [20, 0, (n >> 8) as u8, n as u8, 26, 225]).collect();
    [format!("d5:added{}:", compact.len()).as_bytes(), &compact, b"e"].concat()
}

fn why_closed(alone: &Alone, peer: PeerHandle) -> Option<ErrorCode> {
    alone.alerts.iter().find_map(|alert| match alert {
        AlertKind::PeerDisconnected { peer: closed, error, .. }
        | AlertKind::PeerError { peer: closed, error, .. }
            if *closed == peer =>
        {
            Some(*error)
        }
        _ => None,
    })
}

#[test]
fn a_peer_that_tells_too_often_or_too_much_or_nonsense_is_sent_away() {
    let long = [b"d5:added512001:".as_slice(), &vec![0; 512_001], b"e"].concat();
    let cases: [(&[&[u8]], ErrorCode); 4] = [
        (&[b"nonsense"], ErrorCode::INVALID_PEX_MESSAGE),
        (&[b"le"], ErrorCode::INVALID_PEX_MESSAGE),
        (&[&long], ErrorCode::PEX_MESSAGE_TOO_LARGE),
        (&[b"de".as_slice(); 7], ErrorCode::TOO_FREQUENT_PEX),
    ];
    for (said, error) in cases {
        let (mut alone, ..) = alone(talkative());
        let (peer, id) = caller(&mut alone, 1);
        let (last, before) = said.split_last().unwrap();
        for message in before {
            alone.tell(peer, &[extended(id, message)]);
            assert_eq!(why_closed(&alone, peer), None);
        }
        alone.tell(peer, &[extended(id, last)]);
        assert_eq!(why_closed(&alone, peer), Some(error));
    }
}

#[test]
fn six_messages_a_minute_are_heard_minute_after_minute() {
    let (mut alone, ..) = alone(talkative());
    let (peer, id) = caller(&mut alone, 1);
    for _ in 0..30 {
        alone.tell(peer, &[extended(id, b"de")]);
        alone.run_for(Duration::from_secs(10));
    }
    assert_eq!(why_closed(&alone, peer), None);
}

#[test]
fn of_what_one_peer_tells_so_much_is_remembered_as_the_setting_says() {
    let (mut alone, _, log) = alone(Settings { max_pex_peers: 5, connection_speed: 0, ..talkative() });
    let (peer, id) = caller(&mut alone, 1);
    alone.tell(peer, &[extended(id, &pex(1..100))]);
    assert_eq!(heard(&log).len(), 5);
    // The same again, and others, are nothing new: it is full.
    alone.tell(peer, &[extended(id, &pex(1..3)), extended(id, &pex(200..300))]);
    assert_eq!(heard(&log).len(), 5);
    let gone = [b"d7:dropped12:", &[20, 0, 0, 1, 26, 225][..], &[20, 0, 0, 2, 26, 225], b"e"].concat();
    alone.tell(peer, &[extended(id, &gone), extended(id, &pex(300..400))]);
    assert_eq!(heard(&log).len(), 7);
    // Another peer has room of its own.
    let (other, id) = caller(&mut alone, 2);
    alone.tell(other, &[extended(id, &pex(400..500))]);
    assert_eq!(heard(&log).len(), 12);
}

#[test]
fn addresses_of_a_private_network_are_taken_from_those_alone_who_are_there() {
    for (number, neighbour) in [(1_u8, true), (2, false)] {
        let (mut alone, _, log) = alone(Settings { connection_speed: 0, ..talkative() });
        let remote: SocketAddr = match neighbour {
            true => ([10, 9, 0, number], 6881).into(),
            false => ([30, 9, 0, number], 6881).into(),
        };
        let peer =
            alone.engine.accept(remote, ([10, 9, 0, 0], 6881).into(), Transport::Tcp, alone.now).unwrap();
        alone.say(peer, &crate::alone::handshake(&content(610), number));
        alone.tell(peer, &[extended(0, b"d1:md6:ut_pexi5eee"), Message::HaveNone]);
        alone.tell(peer, &[extended(10, b"d5:added12:\x0a\x00\x00\x63\x1a\xe1\x14\x00\x00\x63\x1a\xe1e")]);
        let told = heard(&log);
        assert_eq!(told.iter().any(|line| line.starts_with("10.0.0.99:6881")), neighbour);
        assert!(told.iter().any(|line| line.starts_with("20.0.0.99:6881")));
    }
}

#[test]
fn a_seed_that_peers_tell_of_is_no_candidate_once_we_have_everything() {
    let mut sim = slow(605);
    let content = content(605);
    let [a, b, c] = nodes(&mut sim);
    let log = Probe::new().plug(&mut sim, a);
    let at_a = sim.seed(a, &content);
    let at_b = sim.add(b, &content);
    sim.seed(c, &content);
    sim.run_for(Duration::from_secs(1));
    sim.introduce(b, at_b, c);
    sim.introduce(a, at_a, b);
    sim.run_for(2 * MINUTE);
    let address = sim.at(c).address;
    assert_eq!(heard(&log), [format!("{address} pex 4 2 0")]);
    let connected =
        |alert: &AlertKind| matches!(alert, AlertKind::PeerConnect { address: a, .. } if *a == address);
    assert!(!sim.alerts(a).any(connected));
}

#[test]
fn the_extension_comes_to_a_running_torrent_and_works_on_later_connections() {
    let mut sim = Sim::new(606);
    let content = content(606);
    let [a, b, c] = [sim.node(), sim.full_node(talkative()), sim.full_node(talkative())];
    let log = Probe::new().plug(&mut sim, a);
    let [at_a, at_b] = [a, b].map(|node| sim.add(node, &content));
    sim.add(c, &content);
    sim.introduce(b, at_b, c);
    sim.introduce(a, at_a, b);
    sim.run_for(MINUTE);
    assert!(heard(&log).is_empty());
    let extension = TorrentExtension::new("ut_pex", create_ut_pex_plugin);
    sim.command(a, Command::AddTorrentExtension(at_a, extension));
    // The connection that is there has had its handshake.
    sim.run_for(2 * MINUTE);
    assert!(heard(&log).is_empty());
    sim.reset(a, b);
    sim.run_for(3 * MINUTE);
    assert_eq!(heard(&log).len(), 1);
}
