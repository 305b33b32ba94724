//! Private torrents (BEP 27): nobody hears of them, or of their peers, but from their trackers. Also when they came by magnet.

use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{Command, TorrentExtension};
use pilotfish_plugin::{
    Attach, Dict, Entry, PeerBox, PeerContext, PeerHandle, PeerPlugin, PeerSource, TorrentBox,
    TorrentContext, TorrentHandle, TorrentPlugin, Verdict, hooks,
};
use pilotfish_tests::sim::{Content, Log, NodeId, Probe, Sim, talkative};

const MINUTE: Duration = Duration::from_secs(60);

fn content(seed: u64) -> Content {
    Content::private(seed, 2_000_000, 16_384)
}

/// Gives the metadata of a torrent to whoever asks for it, as other clients do, private or not; and says that peers are at
/// 10.0.8.8 and 10.0.9.9, as often as it may.
struct Loose;

#[hooks]
impl TorrentPlugin for Loose {
    fn new_connection(&mut self, _: &mut TorrentContext<'_>, _: PeerHandle, _: Attach) -> Option<PeerBox> {
        Some(PeerBox::new(Self))
    }
}

const RUMOUR: &[u8] = b"d5:added12:\x0a\x00\x08\x08\x1a\xe1\x0a\x00\x09\x09\x1a\xe17:added.f2:\x00\x00e";

#[hooks]
impl PeerPlugin for Loose {
    fn add_handshake(&mut self, cx: &mut PeerContext<'_>, mut entry: Entry<'_>) {
        for name in ["ut_metadata", "ut_pex"] {
            cx.this().register_extended(name).unwrap();
        }
        entry.insert_int("metadata_size", cx.this_torrent().metadata().len() as i64);
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, _: u32, _: u8, body: &[u8]) -> Verdict {
        let asked = Dict::parse(body).filter(|(dict, _)| dict.int("msg_type") == Some(0));
        if let Some(piece) = asked.and_then(|(dict, _)| dict.int("piece")) {
            let metadata = cx.this_torrent().metadata();
            let block = metadata.chunks(16_384).nth(piece as usize).unwrap_or_default();
            let head = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{}ee", metadata.len());
            cx.this().send_extended("ut_metadata", &[head.as_bytes(), block].concat());
        }
        Verdict::Handled
    }

    fn tick(&mut self, cx: &mut PeerContext<'_>) {
        if cx.now().as_secs().is_multiple_of(20) {
            cx.this().send_extended("ut_pex", RUMOUR);
        }
    }
}

/// A seed that is loose with what it knows.
fn loose_seed(sim: &mut Sim, content: &Content) -> (NodeId, TorrentHandle) {
    let node = sim.node();
    sim.extend(node, TorrentExtension::new("loose", |_, _, _| Some(TorrentBox::new(Loose))));
    let torrent = sim.seed(node, content);
    (node, torrent)
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Panics if a node has said anything of the torrent but in handshakes with its peers: in a datagram, or in a message that
/// tells of peers.
fn assert_nothing_leaked(sim: &Sim, nodes: &[NodeId], content: &Content) {
    let hash = content.metainfo.info_hashes().truncated();
    for node in nodes {
        for bytes in sim.sent_by(*node) {
            assert!(!contains(bytes, b"5:added") && !contains(bytes, b"7:dropped"), "{node:?} told of peers");
            // Of the hash only the handshake speaks, at its place.
            let places: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i..].starts_with(&hash)).collect();
            assert!(places.is_empty() || places == [28], "{node:?} said the hash at {places:?}");
        }
        for (to, datagram) in sim.datagrams_of(*node) {
            assert!(!contains(datagram, &hash), "{node:?} said the hash to {to}");
        }
    }
}

/// What became of peers that others told of: sources and refusals.
fn rumours(log: &Log) -> Vec<String> {
    let log = log.lock().unwrap();
    let offers = log.iter().filter_map(|line| line.strip_prefix("torrent.on_add_peer "));
    offers
        .filter(|line| line.starts_with("10.0.8.8") || line.starts_with("10.0.9.9"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_private_torrent_is_spoken_of_to_nobody_and_rumours_of_its_peers_are_not_heard() {
    let mut sim = Sim::new(720);
    sim.link.bandwidth = 50_000;
    let content = content(720);
    sim.tap();
    let (seed, _) = loose_seed(&mut sim, &content);
    let nodes = [(); 3].map(|()| sim.full_node(talkative()));
    let log = Probe::new().plug(&mut sim, nodes[0]);
    let torrents = nodes.map(|node| sim.add(node, &content));
    for (node, torrent) in nodes.into_iter().zip(torrents) {
        sim.introduce(node, torrent, seed);
        nodes.iter().filter(|other| **other != node).for_each(|other| sim.introduce(node, torrent, *other));
    }
    sim.run_for(3 * MINUTE);
    assert_nothing_leaked(&sim, &nodes, &content);
    assert!(rumours(&log).is_empty());
    // It does not even say that it could.
    assert!(!nodes.iter().any(|node| sim.sent_by(*node).iter().any(|bytes| contains(bytes, b"6:ut_pex"))));
    assert!(nodes.iter().zip(torrents).all(|(node, torrent)| sim.status(*node, torrent).total_done > 0));
}

#[test]
fn a_private_torrent_that_came_by_magnet_is_spoken_of_to_nobody_and_forgets_whom_it_heard_of_from_others() {
    let mut sim = Sim::new(721);
    sim.link.bandwidth = 50_000;
    let content = content(721);
    sim.tap();
    let (seed, _) = loose_seed(&mut sim, &content);
    let others = [(); 2].map(|()| sim.full_node(talkative()));
    let newcomer = sim.full_node(talkative());
    let log = Probe::new().plug(&mut sim, newcomer);
    let torrent = sim.add_link(newcomer, &content);
    let known = others.map(|node| sim.add(node, &content));
    for (node, theirs) in others.into_iter().zip(known) {
        sim.introduce(node, theirs, seed);
    }
    // Before anybody knows that it is private, a peer that others name is as good as any.
    let by_rumour =
        |sim: &Sim, source| Command::ConnectPeer { torrent, address: sim.at(others[0]).address, source };
    let heard = by_rumour(&sim, PeerSource::PEX);
    sim.command(newcomer, heard);
    sim.run_for(5 * Duration::from_secs(1));
    assert_eq!(sim.status(newcomer, torrent).num_peers, 1);
    sim.introduce(newcomer, torrent, seed);
    sim.introduce(newcomer, torrent, others[1]);
    sim.run_until(MINUTE, |sim| sim.status(newcomer, torrent).total_pieces > 0);
    sim.run_for(Duration::from_secs(1));
    let private = |alert: &&AlertKind| alert.message().contains("the torrent is private");
    assert_eq!(sim.alerts(newcomer).filter(private).count(), 1);
    for source in [PeerSource::PEX, PeerSource::DHT, PeerSource::LSD] {
        let heard = by_rumour(&sim, source);
        sim.command(newcomer, heard);
    }
    sim.run_for(3 * MINUTE);
    let address = sim.at(others[0]).address;
    let offers = format!("torrent.on_add_peer {address} ");
    let refused: Vec<String> =
        log.lock().unwrap().iter().filter_map(|line| line.strip_prefix(&offers).map(str::to_owned)).collect();
    // Taken, then refused (4) because it is private (5), whoever names it.
    assert_eq!(refused, ["pex 4 2 0", "pex 4 4 5", "dht 2 4 5", "lsd 8 4 5"]);
    assert!(
        rumours(&log).iter().all(|line| line.ends_with(" 4 5") || line.ends_with(" 2 0")),
        "{:?}",
        rumours(&log)
    );
    assert_nothing_leaked(&sim, &[newcomer, others[0], others[1]], &content);
    assert!(sim.status(newcomer, torrent).total_done > 0);
}

/// How often nodes have spoken of a torrent where others can hear of it: in the DHT, on their network, and to their peers.
fn told(sim: &Sim, nodes: &[NodeId], content: &Content) -> [usize; 3] {
    let hash = content.metainfo.info_hashes().truncated();
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let datagrams = nodes.iter().flat_map(|node| sim.datagrams_of(*node));
    let multicasts = nodes.iter().flat_map(|node| sim.multicasts_of(*node));
    let streams = nodes.iter().flat_map(|node| sim.sent_by(*node));
    [
        datagrams.filter(|(_, payload)| contains(payload, &hash)).count(),
        multicasts.filter(|payload| contains(payload, digits.as_bytes())).count(),
        streams.map(|bytes| bytes.windows(7).filter(|part| *part == b"5:added").count()).sum(),
    ]
}

#[test]
fn what_is_told_of_a_torrent_everywhere_is_told_nowhere_of_a_private_one_also_if_it_came_by_magnet() {
    for private in [false, true] {
        let mut sim = Sim::new(722);
        (sim.link.bandwidth, sim.hears_all) = (50_000, true);
        sim.names.insert("router.test".to_owned(), vec!["10.0.0.1".parse().unwrap()]);
        let nodes = [(); 8].map(|()| sim.full_node(crate::dht::settings()));
        sim.run_for(MINUTE);
        sim.tap();
        let content = if private { content(722) } else { Content::random(722, 2_000_000, 16_384) };
        let (seed, _) = loose_seed(&mut sim, &content);
        let [one, other, newcomer, ..] = nodes;
        let link = sim.add_link(newcomer, &content);
        let torrents = [(one, sim.add(one, &content)), (other, sim.add(other, &content)), (newcomer, link)];
        for (node, torrent) in torrents {
            let others = [seed, one, other, newcomer].into_iter().filter(|other| *other != node);
            others.for_each(|other| sim.introduce(node, torrent, other));
        }
        sim.run_until(MINUTE, |sim| sim.status(newcomer, link).total_pieces > 0);
        // Nobody could know yet what the link leads to.
        let before = told(&sim, &[newcomer], &content);
        sim.run_for(20 * MINUTE);
        let after = told(&sim, &[newcomer], &content);
        let counts = [told(&sim, &[one, other], &content), [0, 1, 2].map(|way| after[way] - before[way])];
        if private {
            assert_eq!(counts, [[0; 3]; 2]);
        } else {
            assert!(counts.as_flattened().iter().all(|count| *count > 0), "{counts:?}");
        }
        assert!(torrents.iter().all(|(node, torrent)| sim.status(*node, *torrent).total_done > 0));
    }
}
