//! Torrents that begin with a magnet link, with the extension ut_metadata.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Answer, Command};
use pilotfish::metainfo::{InfoHashes, Magnet};
use pilotfish::settings::Settings;
use pilotfish_plugin::{
    PeerContext, PeerPlugin, TorrentBox, TorrentContext, TorrentPlugin, TorrentState, Verdict, hooks,
};
use pilotfish_tests::sim::{Content, Log, NodeId, Probe, Sim, talkative};

const LIMIT: Duration = Duration::from_secs(600);

/// So many files that the metadata takes several blocks; seven pieces.
fn content(seed: u64) -> Content {
    Content::folder(seed, &[100; 1_000], 16_384)
}

fn count(log: &Log, line: &str) -> usize {
    log.lock().unwrap().iter().filter(|seen| seen.starts_with(line)).count()
}

fn failures(sim: &Sim, node: NodeId) -> usize {
    sim.alerts(node).filter(|alert| matches!(alert, AlertKind::MetadataFailed { .. })).count()
}

#[test]
fn a_link_becomes_the_torrent_that_it_names() {
    let mut sim = Sim::new(500);
    let content = content(500);
    let [seed, leech] = [sim.node_with_metadata(talkative()), sim.node_with_metadata(talkative())];
    let log = Probe::new().plug(&mut sim, leech);
    sim.seed(seed, &content);
    let torrent = sim.add_link(leech, &content);
    let before = sim.status(leech, torrent);
    assert_eq!((before.state, before.total, before.total_pieces), (TorrentState::DOWNLOADING_METADATA, 0, 0));
    assert_eq!(before.name, content.metainfo.info_hashes().to_string());
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    sim.assert_complete(leech, &content);
    assert_eq!(sim.status(leech, torrent).name, content.metainfo.name());
    let lines = ["torrent.on_metadata", "peer.sent_have_none", "torrent.on_state checking_resume_data"];
    let lines = lines.into_iter().chain(["torrent.on_state downloading", "torrent.on_files_checked"]);
    let log = log.lock().unwrap();
    let seen = lines.map(|line| {
        let places = log.iter().enumerate().filter(|(_, seen)| seen.starts_with(line));
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        assert_eq!(places.len(), 1, "{line}");
        places[0]
    });
    assert!(seen.collect::<Vec<_>>().is_sorted());
}

#[test]
fn what_a_peer_says_before_the_metadata_is_there_counts_afterwards() {
    for fast_seed in [true, false] {
        let mut sim = Sim::new(501);
        let content = content(501);
        let [half, leech] = [sim.node_with_metadata(talkative()), sim.node_with_metadata(talkative())];
        // Without the last byte it has a bitfield to send, not have-all.
        sim.seed(half, &content);
        if !fast_seed {
            let last = content.bytes().len() - 1;
            sim.disk(half).bytes(".", &content)[last] ^= 1;
        }
        let torrent = sim.add_link(leech, &content);
        sim.introduce(leech, torrent, half);
        let pieces = 7 - u32::from(!fast_seed);
        sim.run_until(LIMIT, |sim| sim.status(leech, torrent).num_pieces == pieces);
    }
}

#[test]
fn two_that_have_only_the_link_wait_for_one_that_has_more() {
    let mut sim = Sim::new(502);
    let content = content(502);
    let [one, other, seed] = [(); 3].map(|()| sim.node_with_metadata(talkative()));
    let [first, second] = [one, other].map(|node| sim.add_link(node, &content));
    sim.introduce(one, first, other);
    sim.run_for(Duration::from_secs(120));
    assert_eq!(sim.status(one, first).state, TorrentState::DOWNLOADING_METADATA);
    assert_eq!(sim.status(one, first).num_peers, 1);
    sim.seed(seed, &content);
    sim.introduce(other, second, seed);
    sim.run_until_finished(LIMIT, &[(one, first), (other, second)]);
}

#[test]
fn a_peer_without_the_extension_is_of_no_use_and_does_no_harm() {
    let mut sim = Sim::new(503);
    let content = content(503);
    let (plain, leech) = (sim.node(), sim.node_with_metadata(talkative()));
    sim.seed(plain, &content);
    let torrent = sim.add_link(leech, &content);
    sim.introduce(leech, torrent, plain);
    sim.run_for(Duration::from_secs(60));
    assert_eq!(sim.status(leech, torrent).state, TorrentState::DOWNLOADING_METADATA);
}

#[test]
fn metadata_that_is_longer_than_the_setting_is_not_fetched() {
    let mut sim = Sim::new(504);
    let content = content(504);
    let size = content.metainfo.info_bytes().len() as u32;
    for (limit, fetched) in [(size - 1, false), (size, true)] {
        let [seed, leech] = [
            sim.node_with_metadata(talkative()),
            sim.node_with_metadata(Settings { max_metadata_size: limit, ..talkative() }),
        ];
        sim.seed(seed, &content);
        let torrent = sim.add_link(leech, &content);
        sim.introduce(leech, torrent, seed);
        sim.run_for(Duration::from_secs(60));
        assert_eq!(sim.status(leech, torrent).total_pieces > 0, fetched);
    }
}

#[test]
fn a_private_torrent_gives_its_metadata_to_nobody() {
    let mut sim = Sim::new(505);
    let content = Content::private(505, 100_000, 16_384);
    let [seed, leech] = [sim.node_with_metadata(talkative()), sim.node_with_metadata(talkative())];
    sim.seed(seed, &content);
    let torrent = sim.add_link(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_for(Duration::from_secs(60));
    assert_eq!(sim.status(leech, torrent).state, TorrentState::DOWNLOADING_METADATA);
}

/// Says that it has metadata of another length, or sends some that is wrong.
#[derive(Clone)]
struct Liar {
    sent: Arc<Mutex<u32>>,
    length: usize,
}

#[hooks]
impl TorrentPlugin for Liar {
    fn new_connection(
        &mut self,
        _: &mut TorrentContext<'_>,
        _: pilotfish_plugin::PeerHandle,
        _: pilotfish_plugin::Attach,
    ) -> Option<pilotfish_plugin::PeerBox> {
        Some(pilotfish_plugin::PeerBox::new(self.clone()))
    }
}

#[hooks]
impl PeerPlugin for Liar {
    fn add_handshake(&mut self, cx: &mut PeerContext<'_>, mut entry: pilotfish_plugin::Entry<'_>) {
        cx.this().register_extended("ut_metadata").unwrap();
        entry.insert_int("metadata_size", self.length as i64);
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, _: u32, _: u8, body: &[u8]) -> Verdict {
        let (dict, _) = pilotfish_plugin::Dict::parse(body).unwrap();
        if dict.int("msg_type") == Some(0) {
            let piece = dict.int("piece").unwrap() as usize;
            let len = (self.length - piece * 16_384).min(16_384);
            let head = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{}ee", self.length);
            let message = [head.as_bytes(), &vec![b'x'; len]].concat();
            assert!(cx.this().send_extended("ut_metadata", &message));
            *self.sent.lock().unwrap() += 1;
        }
        Verdict::Handled
    }
}

#[test]
fn liars_are_left_alone_and_the_metadata_comes_from_who_has_it() {
    let content = content(506);
    let right = content.metainfo.info_bytes().len();
    for length in [right, right + 1, 3, 100_000] {
        let mut sim = Sim::new(506);
        let liar = Liar { sent: Arc::default(), length };
        let sent = liar.sent.clone();
        let lying = sim.node();
        sim.plug_on_torrents(lying, "liar", move || TorrentBox::new(liar.clone()));
        let [seed, leech] = [sim.node_with_metadata(talkative()), sim.node_with_metadata(talkative())];
        sim.seed(seed, &content);
        sim.seed(lying, &content);
        let torrent = sim.add_link(leech, &content);
        sim.introduce(leech, torrent, lying);
        sim.run_until(LIMIT, |sim| failures(sim, leech) == 1);
        let first = *sent.lock().unwrap();
        sim.run_for(Duration::from_secs(15));
        assert_eq!(*sent.lock().unwrap(), first, "it was asked again at once");
        sim.introduce(leech, torrent, seed);
        sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    }
}

#[test]
fn a_link_to_what_is_there_already_is_the_torrent_that_is_there() {
    let mut sim = Sim::new(507);
    let content = content(507);
    let seed = sim.node_with_metadata(talkative());
    let torrent = sim.seed(seed, &content);
    assert_eq!(sim.add_link(seed, &content), torrent);
    // And the other way round: nothing is known of it before its metadata comes.
    let leech = sim.node_with_metadata(talkative());
    let early = sim.add_link(leech, &content);
    assert_eq!(sim.add(leech, &content), early);
}

#[test]
fn a_torrent_without_metadata_pauses_resumes_rechecks_and_goes() {
    let mut sim = Sim::new(508);
    let content = content(508);
    let [seed, leech] = [sim.node_with_metadata(talkative()), sim.node_with_metadata(talkative())];
    let log = Probe::new().plug(&mut sim, leech);
    sim.seed(seed, &content);
    let torrent = sim.add_link(leech, &content);
    sim.command(leech, Command::Recheck(torrent));
    sim.command(leech, Command::PauseTorrent(torrent));
    sim.introduce(leech, torrent, seed);
    sim.run_for(Duration::from_secs(20));
    assert_eq!(sim.status(leech, torrent).num_peers, 0);
    sim.command(leech, Command::ResumeTorrent(torrent));
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    assert_eq!((count(&log, "torrent.on_metadata"), count(&log, "torrent.on_files_checked")), (1, 1));
    let other = Content::random(509, 1_000, 16_384);
    let gone = sim.add_link(leech, &other);
    sim.command(leech, Command::RemoveTorrent { torrent: gone, delete_files: true });
    sim.run_for(Duration::from_secs(1));
    assert_eq!(count(&log, "torrent.on_removed"), 1);
}

#[test]
fn peers_of_the_link_are_tried() {
    let mut sim = Sim::new(510);
    let content = content(510);
    let [seed, leech] = [sim.node_with_metadata(talkative()), sim.node_with_metadata(talkative())];
    sim.seed(seed, &content);
    let peers: Vec<SocketAddr> = vec![sim.at(seed).address];
    let torrent =
        sim.add_as(leech, AddTorrent::new(Magnet { peers, name: Some("called".into()), ..content.link() }));
    assert_eq!(sim.status(leech, torrent).name, "called");
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
}

#[test]
fn a_link_to_a_torrent_of_version_two_alone_is_refused() {
    let mut sim = Sim::new(511);
    let leech = sim.node_with_metadata(talkative());
    let add = Box::new(AddTorrent::new(Magnet::new(InfoHashes::V2([7; 32]))));
    let answer = sim.ask(leech, |ticket| Command::AddTorrent(ticket, add));
    assert!(matches!(answer, Answer::Added(Err(_))), "{answer:?}");
}

#[test]
fn a_link_that_selects_files_gets_their_pieces_and_no_others() {
    let mut sim = Sim::new(512);
    // Files of a piece and a half.
    let content = Content::folder(512, &[24_576; 6], 16_384);
    let [seed, leech] = [sim.node_with_metadata(talkative()), sim.node_with_metadata(talkative())];
    sim.seed(seed, &content);
    let torrent =
        sim.add_as(leech, AddTorrent::new(Magnet { select_only: vec![0..=0, 4..=4], ..content.link() }));
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    let status = sim.status(leech, torrent);
    assert_eq!((status.state, status.num_pieces, status.total_pieces), (TorrentState::FINISHED, 4, 9));
}
