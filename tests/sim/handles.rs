//! What the handles of connections answer, in every phase of a connection, on both ends of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::command::Command;
use pilotfish_plugin::{Consent, Direction, ErrorCode, Peer, PeerInfo, PieceIndex, TorrentHandle};
use pilotfish_tests::sim::{Content, NodeId, Probe, Sim};

/// The hooks by which a phase is known, in order. The first is a torrent's, the others are a connection's.
pub(crate) const OUTGOING: [&str; 5] =
    ["new_connection", "on_connected", "on_handshake", "on_piece", "on_disconnect"];
/// An incoming connection is connected before there is a plugin on it.
pub(crate) const INCOMING: [&str; 4] = ["new_connection", "on_handshake", "on_request", "on_disconnect"];

pub(crate) fn content() -> Content {
    Content::random(60, 300_000, 32_768)
}

/// A seed and a leech with a plugin each, and the torrent of each.
pub(crate) struct Pair {
    pub(crate) sim: Sim,
    pub(crate) seed: NodeId,
    pub(crate) leech: NodeId,
    pub(crate) torrents: [TorrentHandle; 2],
}

impl Pair {
    pub(crate) fn new(number: u64, on_seed: Probe, on_leech: Probe) -> Self {
        let mut sim = Sim::new(number);
        let [seed, leech] = [sim.node(), sim.node()];
        on_seed.plug(&mut sim, seed);
        on_leech.plug(&mut sim, leech);
        let torrents = [sim.seed(seed, &content()), sim.add(leech, &content())];
        sim.run_for(Duration::from_millis(100));
        Self { sim, seed, leech, torrents }
    }

    /// Has the leech connect to the seed and download; then the leech is paused.
    pub(crate) fn meet(&mut self) {
        self.sim.introduce(self.leech, self.torrents[1], self.seed);
        self.sim.run_for(Duration::from_millis(3_500));
        self.sim.command(self.leech, Command::PauseTorrent(self.torrents[1]));
        self.sim.run_for(Duration::from_secs(2));
    }
}

/// A plugin that does something to its connection in each of these phases, the first time that it comes there.
pub(crate) fn in_phases(
    phases: &'static [&'static str],
    act: impl Fn(&'static str, &Peer<'_>) + Send + Sync + 'static,
) -> Probe {
    let act = Arc::new(act);
    let mut probe = Probe::new();
    for phase in phases {
        let (act, done) = (act.clone(), Mutex::new(false));
        let once = move |peer: &Peer<'_>| {
            if !std::mem::replace(&mut done.lock().unwrap(), true) {
                act(phase, peer);
            }
            false
        };
        probe = if *phase == "new_connection" {
            probe.torrent(phase, move |cx| {
                let newest = cx.this().peers().pop().unwrap();
                once(&cx.peer(newest).unwrap())
            })
        } else {
            // The handle opens as long as the plugin is there, also in the last hook.
            probe.peer(phase, move |cx| once(&cx.peer(cx.handle()).unwrap()))
        };
    }
    probe
}

/// Answers by question and phase.
type Answers = BTreeMap<(&'static str, &'static str), String>;

fn word(yes: bool) -> String {
    if yes { "yes" } else { "-" }.to_owned()
}

fn ask(peer: &Peer<'_>) -> Vec<(&'static str, String)> {
    let bt = peer.bt().unwrap();
    let has = [-1, 0, 9, 10, i32::MAX].map(|piece| peer.has_piece(PieceIndex(piece)));
    let torrent = peer.associated_torrent();
    let info = peer.peer_info();
    vec![
        ("type", peer.connection_type().name().to_owned()),
        ("pid", word(peer.pid().0 != [0; 20])),
        ("remote", peer.remote().to_string()),
        ("local_endpoint", word(!peer.local_endpoint().ip().is_unspecified())),
        ("associated_torrent", torrent.map_or_else(String::new, |torrent| torrent.name())),
        ("has_piece", has.map(|has| if has { '1' } else { '0' }).iter().collect()),
        ("is_seed", word(peer.is_seed())),
        ("upload_only", word(peer.upload_only())),
        ("is_interesting", word(peer.is_interesting())),
        ("is_choked", word(peer.is_choked())),
        ("is_peer_interested", word(peer.is_peer_interested())),
        ("has_peer_choked", word(peer.has_peer_choked())),
        ("is_connecting", word(peer.is_connecting())),
        ("is_disconnecting", word(peer.is_disconnecting())),
        ("is_outgoing", word(peer.is_outgoing())),
        ("on_local_network", word(peer.on_local_network())),
        ("ignore_unchoke_slots", word(peer.ignore_unchoke_slots())),
        ("failed", word(peer.failed())),
        ("has_metadata", word(peer.has_metadata())),
        ("in_handshake", word(peer.in_handshake())),
        ("can_disconnect", word(peer.can_disconnect(ErrorCode::NO_ERROR) == Consent::Allow)),
        ("find_plugin", word(peer.find_plugin("probe").is_some())),
        ("find_plugin: unknown", word(peer.find_plugin("nobody").is_some())),
        ("should_log", word(peer.should_log(Direction::Info))),
        ("last_seen_complete", peer.last_seen_complete().to_string()),
        ("support_extensions", word(bt.support_extensions())),
        ("supports_encryption", word(bt.supports_encryption())),
        ("packet_finished", word(bt.packet_finished())),
        ("reserved", word(bt.reserved().fast())),
        ("peer_info: client", word(!info.client().is_empty())),
        ("peer_info: num_pieces", info.num_pieces().to_string()),
        ("peer_info: total_download", word(info.total_download() > 0)),
        ("peer_info: snubbed", word(info.flag(PeerInfo::SNUBBED))),
    ]
}

/// A plugin that asks everything, and what it was answered.
fn asker(phases: &'static [&'static str]) -> (Probe, Arc<Mutex<Answers>>) {
    let answers = Arc::new(Mutex::new(Answers::new()));
    let kept = answers.clone();
    let probe = in_phases(phases, move |phase, peer| {
        let said = ask(peer).into_iter().map(|(question, answer)| ((question, phase), answer));
        kept.lock().unwrap().extend(said);
    });
    (probe, answers)
}

#[track_caller]
fn assert_answers(answers: &Mutex<Answers>, phases: &[&'static str], expected: &str) {
    let answers = answers.lock().unwrap();
    let questions: Vec<_> = answers.keys().map(|(question, _)| *question).collect();
    let mut rows: Vec<String> = Vec::new();
    for question in questions {
        let cells =
            phases.iter().map(|phase| answers.get(&(question, phase)).map_or("never", String::as_str));
        let row = format!("{question} | {}", cells.collect::<Vec<_>>().join(" "));
        rows.extend((!rows.contains(&row)).then_some(row));
    }
    let tidy = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected: Vec<String> = expected.trim().lines().map(tidy).collect();
    assert_eq!(rows, expected, "\n{}", rows.join("\n"));
}

#[test]
fn an_outgoing_peer_answers_every_question_in_every_phase() {
    let (probe, answers) = asker(&OUTGOING);
    Pair::new(60, Probe::new(), probe).meet();
    assert_answers(
        &answers,
        &OUTGOING,
        "
        associated_torrent | content-60 content-60 content-60 content-60 content-60
        can_disconnect | yes yes yes yes yes
        failed | - - - - -
        find_plugin | - yes yes yes yes
        find_plugin: unknown | - - - - -
        has_metadata | yes yes yes yes yes
        has_peer_choked | yes yes yes - -
        has_piece | 00000 00000 00000 01100 01100
        ignore_unchoke_slots | - - - - -
        in_handshake | yes yes yes - -
        is_choked | yes yes yes yes yes
        is_connecting | yes - - - -
        is_disconnecting | - - - - yes
        is_interesting | - - - yes -
        is_outgoing | yes yes yes yes yes
        is_peer_interested | - - - - -
        is_seed | - - - yes yes
        last_seen_complete | 0 0 0 1700000000 1700000000
        local_endpoint | - yes yes yes yes
        on_local_network | yes yes yes yes yes
        packet_finished | yes yes yes yes yes
        peer_info: client | - - yes yes yes
        peer_info: num_pieces | 0 0 0 10 10
        peer_info: snubbed | - - - - -
        peer_info: total_download | - - - yes yes
        pid | - - yes yes yes
        remote | 10.0.0.1:6881 10.0.0.1:6881 10.0.0.1:6881 10.0.0.1:6881 10.0.0.1:6881
        reserved | - - yes yes yes
        should_log | yes yes yes yes yes
        support_extensions | - - yes yes yes
        supports_encryption | - - - - -
        type | bittorrent bittorrent bittorrent bittorrent bittorrent
        upload_only | - - - yes yes
        ",
    );
}

#[test]
fn an_incoming_peer_answers_every_question_in_every_phase() {
    let (probe, answers) = asker(&INCOMING);
    Pair::new(61, probe, Probe::new()).meet();
    assert_answers(
        &answers,
        &INCOMING,
        "
        associated_torrent | content-60 content-60 content-60 content-60
        can_disconnect | yes yes yes yes
        failed | - - - -
        find_plugin | - yes yes yes
        find_plugin: unknown | - - - -
        has_metadata | yes yes yes yes
        has_peer_choked | yes yes yes yes
        has_piece | 00000 00000 00000 01100
        ignore_unchoke_slots | - - - -
        in_handshake | yes yes - -
        is_choked | yes yes - -
        is_connecting | - - - -
        is_disconnecting | - - - yes
        is_interesting | - - - -
        is_outgoing | - - - -
        is_peer_interested | - - yes yes
        is_seed | - - - -
        last_seen_complete | 0 0 0 0
        local_endpoint | yes yes yes yes
        on_local_network | yes yes yes yes
        packet_finished | yes yes yes yes
        peer_info: client | - yes yes yes
        peer_info: num_pieces | 0 0 0 9
        peer_info: snubbed | - - - -
        peer_info: total_download | - - - -
        pid | - yes yes yes
        remote | 10.0.0.2:20000 10.0.0.2:20000 10.0.0.2:20000 10.0.0.2:20000
        reserved | yes yes yes yes
        should_log | yes yes yes yes
        support_extensions | yes yes yes yes
        supports_encryption | - - - -
        type | bittorrent bittorrent bittorrent bittorrent
        upload_only | - - - -
        ",
    );
}
