//! What the handles of torrents and of the session answer and do, in every phase of a torrent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Command, TorrentExtension};
use pilotfish_plugin::{
    AddPeerFlags, AddTorrentParams, AlertCategory, CustomAlert, Features, InfoHashes, PeerHandle, PeerSource,
    PieceIndex, Refusal, SessionBox, SessionContext, SessionPlugin, Torrent, TorrentBox, TorrentContext,
    TorrentHandle, TorrentPlugin, Userdata, Verdict, hooks,
};
use pilotfish_tests::sim::{Content, Log, NodeId, Probe, Sim};

const LIMIT: Duration = Duration::from_secs(60);
/// Pieces of 32 KiB; the last is shorter.
const TOTAL: usize = 300_000;

fn content() -> Content {
    Content::random(80, TOTAL, 32_768)
}

/// The `.torrent` file of a content.
fn file(content: &Content) -> Vec<u8> {
    [b"d4:info".as_slice(), content.metainfo.info_bytes(), b"e"].concat()
}

/// Answers that are the same as long as there is the torrent.
fn identity(torrent: &Torrent<'_>) -> String {
    let sizes = [-1, 0, 9, 10].map(|piece| torrent.piece_size(PieceIndex(piece)));
    format!(
        "{} {} {} {} {sizes:?} {} {} {}",
        torrent.name(),
        torrent.info_hashes() == InfoHashes::new(content().metainfo.info_hashes().v1().copied(), None),
        torrent.userdata().0,
        torrent.num_pieces(),
        torrent.total_size(),
        torrent.metadata() == *content().metainfo.info_bytes(),
        torrent.is_private(),
    )
}

/// Answers that change.
fn condition(torrent: &Torrent<'_>) -> String {
    let status = torrent.status();
    let have = (-1..11).filter(|piece| torrent.have_piece(PieceIndex(*piece))).count();
    format!(
        "{} {} {have} {} {:?} {}",
        torrent.state().name(),
        if torrent.is_paused() { "paused" } else { "active" },
        status.num_pieces(),
        torrent.piece_availability().iter().max(),
        torrent.peers().len(),
    )
}

#[test]
fn a_torrent_answers_every_question_in_every_phase() {
    let mut sim = Sim::new(80);
    let seen = Arc::new(Mutex::new(Vec::<(&str, String, String)>::new()));
    let mut probe = Probe::new();
    for phase in ["on_files_checked", "on_piece_pass", "on_state", "on_pause", "on_resume", "on_removed"] {
        let seen = seen.clone();
        probe = probe.torrent(phase, move |cx| {
            let torrent = cx.torrent(cx.handle()).unwrap();
            assert_eq!(torrent.save_path(), std::path::Path::new("."));
            let mut seen = seen.lock().unwrap();
            if phase != "on_piece_pass" || seen.iter().all(|(other, ..)| *other != phase) {
                seen.push((phase, identity(&torrent), condition(&torrent)));
            }
            false
        });
    }
    let [seed, leech] = [sim.node(), sim.node()];
    sim.seed(seed, &content());
    probe.plug(&mut sim, leech);
    let mut asked = AddTorrent::new(content().metainfo);
    (asked.userdata, asked.save_path) = (Userdata(77), Some(".".into()));
    let answer = sim.ask(leech, |ticket| Command::AddTorrent(ticket, Box::new(asked)));
    let pilotfish::command::Answer::Added(Ok(torrent)) = answer else { panic!("{answer:?}") };
    sim.run_for(Duration::from_secs(1));
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    for command in [Command::PauseTorrent(torrent), Command::ResumeTorrent(torrent)] {
        sim.command(leech, command);
    }
    sim.command(leech, Command::RemoveTorrent { torrent, delete_files: true });
    let seen = seen.lock().unwrap();
    let same = "content-80 true 77 10 [0, 32768, 5088, 0] 300000 true false";
    assert!(seen.iter().all(|(_, identity, _)| identity == same), "{seen:?}");
    let changing: Vec<String> =
        seen.iter().map(|(phase, _, condition)| format!("{phase}: {condition}")).collect();
    assert_eq!(
        changing,
        [
            "on_state: downloading active 0 0 Some(0) 0",
            "on_files_checked: downloading active 0 0 Some(0) 0",
            "on_piece_pass: downloading active 1 1 Some(1) 1",
            "on_state: finished active 10 10 Some(1) 1",
            "on_state: seeding active 10 10 Some(1) 1",
            "on_pause: seeding active 10 10 Some(0) 0",
            "on_resume: seeding paused 10 10 Some(0) 0",
            "on_removed: seeding active 10 10 Some(0) 0",
        ]
    );
}

/// A seed, a leech with a plugin, the leech's torrent, and what the plugin saw.
fn pair(number: u64, probe: Probe) -> (Sim, NodeId, NodeId, TorrentHandle, Log) {
    let mut sim = Sim::new(number);
    let [seed, leech] = [sim.node(), sim.node()];
    sim.seed(seed, &content());
    let log = probe.plug(&mut sim, leech);
    let torrent = sim.add(leech, &content());
    (sim, seed, leech, torrent, log)
}

fn count(log: &Log, line: &str) -> usize {
    log.lock().unwrap().iter().filter(|seen| seen.starts_with(line)).count()
}

#[test]
fn a_torrent_does_what_it_is_told() {
    let wishes = |cx: &mut pilotfish_plugin::TorrentContext<'_>| {
        let torrent = cx.this();
        for (piece, priority) in [(0, 0), (1, 7), (99, 7), (-1, 7)] {
            torrent.set_piece_priority(PieceIndex(piece), priority);
        }
        let priorities = [0, 1, 2, 99, -1].map(|piece| torrent.piece_priority(PieceIndex(piece)));
        assert_eq!(priorities, [0, 7, 4, 0, 0]);
        torrent.connect_peer("10.0.0.1:6881".parse().unwrap(), PeerSource::LSD);
        torrent.connect_peer("10.0.0.77:6881".parse().unwrap(), PeerSource::PEX);
        torrent.ban("10.0.0.77:1".parse().unwrap());
        false
    };
    let contributors = |cx: &mut pilotfish_plugin::TorrentContext<'_>| {
        let torrent = cx.this();
        // The one peer has sent this piece, and maybe parts of others.
        let from = (0..10).map(|piece| torrent.contributors(PieceIndex(piece)));
        assert!(torrent.peers().len() == 1 && from.into_iter().any(|from| from == torrent.peers()));
        assert!(torrent.contributors(PieceIndex(-1)).is_empty());
        false
    };
    let probe = Probe::new().torrent("on_files_checked", wishes).torrent("on_piece_pass", contributors);
    let (mut sim, _, leech, torrent, log) = pair(81, probe);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    assert_eq!(sim.status(leech, torrent).num_pieces, 9);
    assert_eq!(count(&log, "torrent.on_add_peer 10.0.0.1:6881"), 1);
    assert_eq!(count(&log, "torrent.on_add_peer 10.0.0.77:6881"), 1);
    // Whom it banned was being connected to, and never is again.
    sim.run_for(Duration::from_secs(200));
    assert_eq!(count(&log, "torrent.new_connection"), 2);
    assert_eq!(count(&log, "peer.on_disconnect peer banned"), 1);
}

#[test]
fn a_recheck_and_a_late_extension_that_a_plugin_asks_for() {
    let late = Log::default();
    let kept = late.clone();
    let asked = Mutex::new(false);
    let probe = Probe::new().torrent("on_files_checked", move |cx| {
        if !std::mem::replace(&mut asked.lock().unwrap(), true) {
            cx.this().force_recheck();
            cx.this().add_extension(Probe::beside(&kept, "").on_torrent());
        }
        false
    });
    let (mut sim, seed, leech, torrent, log) = pair(82, probe);
    sim.run_for(Duration::from_secs(1));
    assert_eq!(count(&log, "torrent.on_files_checked"), 2);
    assert_eq!(count(&log, "torrent.on_state checking_files"), 1);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    assert_eq!(count(&late, "torrent.on_piece_pass"), 10);
    assert_eq!(count(&late, "torrent.new_connection"), 1);
    // It was attached when the other check had begun.
    assert_eq!(count(&late, "torrent.on_files_checked"), 1);
}

#[test]
fn the_session_answers_every_question() {
    let mut sim = Sim::new(83);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut probe = Probe::new();
    for phase in ["added", "on_tick", "abort"] {
        let seen = seen.clone();
        probe = probe.session(phase, move |cx| {
            let session = cx.session();
            let hashes = InfoHashes::new(content().metainfo.info_hashes().v1().copied(), None);
            let unknown = InfoHashes::new(Some([7; 20]), None);
            let found = session.find_torrent(&hashes);
            assert_eq!(found.into_iter().collect::<Vec<_>>(), session.torrents());
            assert_eq!(session.find_torrent(&unknown), None);
            assert_eq!(session.setting("unchoke_slots_limit").as_deref(), Some("8"));
            assert_eq!(session.setting("no_such_setting"), None);
            assert!(!session.apply_setting("no_such_setting", "1"));
            assert!(!session.apply_setting("connections_limit", "many"));
            assert!(session.apply_setting("connections_limit", "150"));
            assert_eq!(session.setting("connections_limit").as_deref(), Some("150"));
            assert_eq!(session.plugins(), ["probe"]);
            assert_eq!(session.listen_port(), 6881);
            assert!(!session.is_paused());
            assert!(cx.log_enabled(pilotfish_plugin::Level::Debug));
            seen.lock().unwrap().push((phase, session.torrents().len(), cx.now().as_secs()));
            session.done();
            false
        });
    }
    let node = sim.node();
    probe.plug(&mut sim, node);
    sim.seed(node, &content());
    sim.run_for(Duration::from_millis(1_500));
    sim.command(node, Command::Shutdown);
    sim.run_until(LIMIT, |sim| sim.at(node).stopped);
    assert_eq!(*seen.lock().unwrap(), [("added", 0, 0), ("on_tick", 1, 1), ("abort", 1, 1)]);
}

#[test]
fn the_session_does_what_it_is_told_after_the_hook() {
    let mut sim = Sim::new(84);
    let tick = Mutex::new(0);
    let probe = Probe::new().session("on_tick", move |cx| {
        let mut tick = tick.lock().unwrap();
        *tick += 1;
        let session = cx.session();
        match *tick {
            1 => session.add_torrent(|params| {
                let file = file(&content());
                params.torrent(&file).save_path(".").paused(true).userdata(Userdata(5));
            }),
            2 => {
                let [torrent] = session.torrents()[..] else { panic!("one torrent") };
                let torrent = cx.torrent(torrent).unwrap();
                assert!(torrent.is_paused() && torrent.userdata() == Userdata(5));
                // Visible at once, and done after the hook.
                torrent.resume();
                assert!(!torrent.is_paused());
                session.pause();
                assert!(!session.is_paused());
            }
            3 => {
                assert!(session.is_paused());
                session.resume();
            }
            4 => {
                assert!(!session.is_paused());
                let torrent = session.torrents()[0];
                session.remove_torrent(torrent, true);
                session.remove_torrent(TorrentHandle::INVALID, true);
                assert_eq!(session.torrents(), [torrent]);
            }
            _ => assert!(session.torrents().is_empty()),
        }
        false
    });
    let node = sim.node();
    let log = probe.plug(&mut sim, node);
    sim.run_for(Duration::from_millis(5_500));
    assert_eq!(count(&log, "session.on_tick"), 5);
    assert_eq!(count(&log, "session.torrent_removed"), 1);
    assert_eq!(count(&log, "torrent.on_resume"), 2);
    assert_eq!(count(&log, "torrent.on_pause"), 1);
}

#[test]
fn a_plugins_own_alert_reaches_the_program_and_the_other_plugins() {
    let mut sim = Sim::new(85);
    let node = sim.node();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let said = heard.clone();
    Listener { said }.plug(&mut sim, node);
    let posting = Probe::new().session("added", |cx| {
        let alert = |category| CustomAlert {
            kind: 3,
            what: "kettle",
            category,
            message: "it boils",
            payload: b"\x01\x02",
            torrent: None,
            peer: Some(PeerHandle::INVALID),
        };
        assert!(cx.session().post_alert(&alert(AlertCategory::STATUS)));
        assert!(!cx.session().post_alert(&alert(AlertCategory::NONE)));
        false
    });
    posting.plug(&mut sim, node);
    let own: Vec<_> = sim.alerts(node).filter(|alert| matches!(alert, AlertKind::Custom(_))).collect();
    let [AlertKind::Custom(alert)] = own[..] else { panic!("{own:?}") };
    assert_eq!((alert.kind, alert.what.as_str(), alert.plugin_name.as_str()), (3, "kettle", "probe"));
    assert!(alert.alert_type > pilotfish_plugin::USER_ALERT_ID);
    let heard = heard.lock().unwrap();
    assert_eq!(*heard, [format!("{} kettle: it boils 64 3 [1, 2]", alert.alert_type)]);
}

/// Writes down the alerts of other plugins.
struct Listener {
    said: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    fn plug(self, sim: &mut Sim, node: NodeId) {
        sim.plug(node, "listener", move |_| SessionBox::new(self));
    }
}

#[hooks]
impl SessionPlugin for Listener {
    fn on_alert(&mut self, _: &mut SessionContext<'_>, alert: pilotfish_plugin::Alert<'_>) {
        let Some((_, kind, payload)) = alert.custom() else { return };
        let (number, category) = (alert.alert_type(), alert.category().0);
        let line = format!("{number} {}: {} {category} {kind} {payload:?}", alert.what(), alert.message());
        self.said.lock().unwrap().push(line);
    }
}

/// Has the torrent that an unknown peer asks for.
struct Library;

#[hooks]
impl SessionPlugin for Library {
    fn on_unknown_torrent(
        &mut self,
        cx: &mut SessionContext<'_>,
        hashes: InfoHashes,
        peer: PeerHandle,
        mut params: AddTorrentParams<'_>,
    ) -> Verdict {
        assert_eq!(hashes.v1().as_ref(), content().metainfo.info_hashes().v1());
        let peer = cx.peer(peer).unwrap();
        assert!(peer.associated_torrent().is_none() && !peer.is_outgoing() && peer.in_handshake());
        params.torrent(&file(&content())).save_path(".");
        Verdict::Handled
    }
}

#[test]
fn a_peer_is_held_until_the_torrent_that_a_plugin_adds_for_it_can_serve_it() {
    let mut sim = Sim::new(86);
    let [seed, leech] = [sim.node(), sim.node()];
    sim.plug(seed, "library", |_| SessionBox::new(Library));
    sim.disk(seed).put(".", &content());
    let torrent = sim.add(leech, &content());
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(LIMIT, &[(leech, torrent)]);
    let connections =
        sim.alerts(leech).filter(|alert| matches!(alert, AlertKind::PeerConnect { .. })).count();
    assert_eq!(connections, 1);
}

/// Writes down what it is offered.
struct Offers(Log);

#[hooks]
impl TorrentPlugin for Offers {
    fn on_files_checked(&mut self, cx: &mut TorrentContext<'_>) {
        let offer = |address: &str, source| cx.this().connect_peer(address.parse().unwrap(), source);
        offer("10.0.0.8:7001", PeerSource::TRACKER);
        offer("10.0.0.8:7001", PeerSource::DHT);
        offer("10.0.0.9:0", PeerSource::LSD);
    }

    fn on_add_peer(
        &mut self,
        _: &mut TorrentContext<'_>,
        address: std::net::SocketAddr,
        source: PeerSource,
        sources: PeerSource,
        flags: AddPeerFlags,
        refusal: Refusal,
    ) {
        let (first, filtered) =
            (flags.contains(AddPeerFlags::FIRST_TIME), flags.contains(AddPeerFlags::FILTERED));
        let line = format!("{address} {} {} {first} {filtered} {}", source.name(), sources.0, refusal.0);
        self.0.lock().unwrap().push(line);
    }
}

/// A factory of plugins for one torrent, which is asked with its handle and its number.
fn offers(log: &Log, userdata: u64) -> TorrentExtension {
    let log = log.clone();
    TorrentExtension::new("offers", move |cx, torrent, data| {
        assert!(cx.torrent(torrent).is_some());
        assert_eq!(data, Userdata(userdata));
        Some(TorrentBox::new(Offers(log.clone())))
    })
}

const OFFERED: [&str; 3] = [
    "10.0.0.8:7001 tracker 1 true false 0",
    "10.0.0.8:7001 dht 3 false false 0",
    "10.0.0.9:0 lsd 8 false true 3",
];

#[test]
fn a_factory_in_the_parameters_of_a_torrent_is_asked_and_offers_come_with_their_flags() {
    let mut sim = Sim::new(87);
    let (node, log) = (sim.node(), Log::default());
    let mut asked = AddTorrent::new(content().metainfo);
    asked.userdata = Userdata(9);
    asked.extensions = vec![offers(&log, 9)];
    sim.ask(node, |ticket| Command::AddTorrent(ticket, Box::new(asked)));
    sim.run_for(Duration::from_secs(1));
    assert_eq!(*log.lock().unwrap(), OFFERED);
}

#[test]
fn a_factory_is_asked_for_a_torrent_that_runs() {
    let mut sim = Sim::new(88);
    let (node, log) = (sim.node(), Log::default());
    let torrent = sim.add(node, &content());
    sim.run_for(Duration::from_secs(1));
    sim.command(node, Command::AddTorrentExtension(torrent, offers(&log, 0)));
    sim.run_for(Duration::from_secs(1));
    assert_eq!(*log.lock().unwrap(), OFFERED);
}

/// Has the gated callbacks, and wants some of them.
struct Gated {
    seen: Arc<Mutex<Vec<&'static str>>>,
    wanted: Features,
}

#[hooks]
impl SessionPlugin for Gated {
    fn implemented_features(&mut self, _: &mut SessionContext<'_>, derived: Features) -> Features {
        let all = Features::ALERT | Features::TICK | Features::OPTIMISTIC_UNCHOKE;
        assert_eq!(derived, all);
        self.wanted | Features::DHT_REQUEST
    }

    fn on_alert(&mut self, _: &mut SessionContext<'_>, _: pilotfish_plugin::Alert<'_>) {
        self.seen.lock().unwrap().push("alert");
    }

    fn on_tick(&mut self, _: &mut SessionContext<'_>) {
        self.seen.lock().unwrap().push("tick");
    }

    fn get_unchoke_priority(&mut self, _: &mut SessionContext<'_>, _: PeerHandle) -> u64 {
        self.seen.lock().unwrap().push("priority");
        0
    }
}

#[test]
fn a_gated_callback_that_a_plugin_does_not_want_is_not_called() {
    let gates = [
        (Features::NONE, vec![]),
        (Features::ALERT, vec!["alert"]),
        (Features::TICK, vec!["tick"]),
        (Features::OPTIMISTIC_UNCHOKE, vec!["priority"]),
        (Features::ALERT | Features::TICK, vec!["alert", "tick"]),
    ];
    for (wanted, expected) in gates {
        let mut sim = Sim::new(89);
        let settings = pilotfish::settings::Settings {
            unchoke_slots_limit: 2,
            num_optimistic_unchoke_slots: 1,
            ..pilotfish_tests::sim::talkative()
        };
        let (seed, seen) = (sim.node_with(settings), Arc::new(Mutex::new(Vec::new())));
        let kept = seen.clone();
        sim.plug(seed, "gated", move |_| SessionBox::new(Gated { seen: kept, wanted }));
        sim.link.bandwidth = 2_000;
        sim.seed(seed, &content());
        for _ in 0..3 {
            let leech = sim.node();
            let torrent = sim.add(leech, &content());
            sim.introduce(leech, torrent, seed);
        }
        sim.run_for(Duration::from_secs(70));
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, expected);
    }
}
