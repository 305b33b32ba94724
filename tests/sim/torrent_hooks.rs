//! What plugins on a torrent hear, and when: checks, states, pauses, pieces, offers, ticks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Answer, Command, TorrentExtension};
use pilotfish::wire::Message;
use pilotfish_plugin::{
    AddPeerFlags, Attach, PeerBox, PeerHandle, PeerSource, PieceIndex, PieceOrigin, Refusal, SessionBox,
    TorrentBox, TorrentContext, TorrentPlugin, TorrentState, Verdict, hooks, rt,
};
use pilotfish_tests::sim::{Content, Log, NodeId, Probe, Sim};

use crate::stranger::{FAST, Strangers};

const LIMIT: Duration = Duration::from_secs(60);

/// Four pieces of two blocks each.
fn content() -> Content {
    Content::random(150, 4 * 32_768, 32_768)
}

/// A line for each hook of a torrent, with the state in it.
struct Reporter(Log);

impl Reporter {
    fn note(&self, cx: &TorrentContext<'_>, text: String) {
        let torrent = cx.this();
        let paused = if torrent.is_paused() { " paused" } else { "" };
        self.0.lock().unwrap().push(format!("{text} in {}{paused}", torrent.state().name()));
    }
}

#[hooks]
impl TorrentPlugin for Reporter {
    fn on_files_checked(&mut self, cx: &mut TorrentContext<'_>) {
        self.note(cx, "checked".to_owned());
    }

    fn on_state(&mut self, cx: &mut TorrentContext<'_>, state: TorrentState) {
        assert_eq!(state, cx.this().state());
        self.note(cx, "state".to_owned());
    }

    fn on_piece_pass(&mut self, cx: &mut TorrentContext<'_>, piece: PieceIndex, origin: PieceOrigin) {
        assert!(cx.this().have_piece(piece));
        let word = match origin {
            PieceOrigin::DOWNLOAD => "downloaded",
            PieceOrigin::CHECK => "found",
            _ => "other",
        };
        self.note(cx, format!("{word} {piece}"));
    }

    fn on_piece_failed(&mut self, cx: &mut TorrentContext<'_>, piece: PieceIndex) {
        self.note(cx, format!("failed {piece}"));
    }

    fn on_pause(&mut self, cx: &mut TorrentContext<'_>) -> Verdict {
        self.note(cx, "pause".to_owned());
        Verdict::Continue
    }

    fn on_resume(&mut self, cx: &mut TorrentContext<'_>) -> Verdict {
        self.note(cx, "resume".to_owned());
        Verdict::Continue
    }

    fn new_connection(&mut self, _: &mut TorrentContext<'_>, _: PeerHandle, _: Attach) -> Option<PeerBox> {
        None
    }
}

/// A node whose torrents are reported on.
fn reported(sim: &mut Sim) -> (NodeId, Log) {
    let (node, log) = (sim.node(), Log::default());
    let kept = log.clone();
    sim.plug_on_torrents(node, "reporter", move || TorrentBox::new(Reporter(kept.clone())));
    (node, log)
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn a_check_tells_of_each_piece_then_the_state_and_then_once_that_it_is_over() {
    let mut sim = Sim::new(150);
    let (node, log) = reported(&mut sim);
    let torrent = sim.seed(node, &content());
    sim.run_for(Duration::from_secs(1));
    let over = [
        "found 0 in checking_files",
        "found 1 in checking_files",
        "found 2 in checking_files",
        "found 3 in checking_files",
        "state in finished",
        "state in seeding",
        "checked in seeding",
    ];
    let found = taken(&log);
    assert_eq!(found[0], "state in checking_files");
    assert_eq!(sorted(&found[1..5]), over[..4]);
    assert_eq!(found[5..], over[4..]);
    // A piece that is only found to be bad is nobody's fault.
    sim.disk(node).bytes(".", &content())[40_000] ^= 1;
    sim.command(node, Command::Recheck(torrent));
    sim.run_for(Duration::from_secs(1));
    let found = taken(&log);
    assert_eq!(found[0], "state in checking_files");
    assert_eq!(sorted(&found[1..4]), [over[0], over[2], over[3]]);
    assert_eq!(found[4..], ["state in downloading", "checked in downloading"]);
}

fn sorted(lines: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.sort();
    lines
}

#[test]
fn a_plugin_that_comes_to_a_torrent_hears_of_the_check_once_it_is_over() {
    let mut sim = Sim::new(151);
    let node = sim.node();
    let torrent = sim.seed(node, &content());
    let [during, after] = [Log::default(), Log::default()];
    let extension = |log: &Log| {
        let log = log.clone();
        TorrentExtension::new("late", move |_, _, _| Some(TorrentBox::new(Reporter(log.clone()))))
    };
    sim.command(node, Command::AddTorrentExtension(torrent, extension(&during)));
    assert!(taken(&during).is_empty());
    sim.run_for(Duration::from_secs(1));
    let checked =
        |log: &Log| taken(log).into_iter().filter(|line| line.starts_with("checked")).collect::<Vec<_>>();
    assert_eq!(checked(&during), ["checked in seeding"]);
    sim.command(node, Command::AddTorrentExtension(torrent, extension(&after)));
    assert_eq!(taken(&after), ["checked in seeding"]);
}

#[test]
fn a_pause_is_asked_for_before_the_flag_changes_and_only_if_it_would() {
    let mut sim = Sim::new(152);
    let (node, log) = reported(&mut sim);
    let mut asked = AddTorrent::new(content().metainfo);
    asked.paused = true;
    let answer = sim.ask(node, |ticket| Command::AddTorrent(ticket, Box::new(asked)));
    let Answer::Added(Ok(torrent)) = answer else { panic!("{answer:?}") };
    sim.run_for(Duration::from_secs(1));
    assert_eq!(taken(&log), ["state in downloading paused", "checked in downloading paused"]);
    sim.command(node, Command::PauseTorrent(torrent));
    assert!(taken(&log).is_empty());
    for command in [Command::ResumeTorrent(torrent), Command::ResumeTorrent(torrent)] {
        sim.command(node, command);
    }
    assert_eq!(taken(&log), ["resume in downloading paused"]);
    for command in [Command::PauseTorrent(torrent), Command::PauseTorrent(torrent)] {
        sim.command(node, command);
    }
    assert_eq!(taken(&log), ["pause in downloading"]);
}

#[test]
fn who_handles_a_pause_or_a_resume_keeps_it_from_the_others_and_nothing_changes() {
    let mut sim = Sim::new(153);
    let [seed, node] = [sim.node(), sim.node()];
    sim.link.bandwidth = 20_000;
    sim.seed(seed, &content());
    let first = Probe::new();
    let log = first.log();
    let veto = Arc::new(Mutex::new(true));
    let [pause, resume] = [veto.clone(), veto.clone()];
    first.plug(&mut sim, node);
    Probe::beside(&log, "2 ")
        .torrent("on_pause", move |_| *pause.lock().unwrap())
        .torrent("on_resume", move |_| *resume.lock().unwrap())
        .plug(&mut sim, node);
    Probe::beside(&log, "3 ").plug(&mut sim, node);
    let torrent = sim.add(node, &content());
    sim.introduce(node, torrent, seed);
    sim.run_for(Duration::from_secs(1));
    let heard = |word: &str| {
        let mut lines = taken(&log);
        lines.retain(|line| line.ends_with(word));
        lines
    };
    let alerts = |sim: &Sim| {
        let about = |alert: &&AlertKind| {
            matches!(alert, AlertKind::TorrentPaused { .. } | AlertKind::TorrentResumed { .. })
        };
        sim.alerts(node).filter(about).count()
    };
    sim.command(node, Command::PauseTorrent(torrent));
    assert_eq!(heard("on_pause"), ["torrent.on_pause", "2 torrent.on_pause"]);
    let status = sim.status(node, torrent);
    assert_eq!((status.paused, status.num_peers, alerts(&sim)), (false, 1, 0));
    *veto.lock().unwrap() = false;
    sim.command(node, Command::PauseTorrent(torrent));
    assert_eq!(heard("on_pause").len(), 3);
    *veto.lock().unwrap() = true;
    sim.command(node, Command::ResumeTorrent(torrent));
    assert_eq!(heard("on_resume"), ["torrent.on_resume", "2 torrent.on_resume"]);
    assert_eq!((sim.status(node, torrent).paused, alerts(&sim)), (true, 1));
}

#[test]
fn a_bad_piece_is_the_torrents_first_then_its_contributors_and_then_they_pay() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let [liar, bystander] = [1, 2].map(|number| strangers.meet(number, FAST));
    strangers.tell(bystander, &[Message::HaveNone]);
    strangers.tell(liar, &[Message::HaveNone, Message::Have(2), Message::Unchoke]);
    for asked in strangers.alone.requests(liar) {
        strangers.send_block(liar, asked);
    }
    strangers.log.lock().unwrap().clear();
    strangers.hashed(2, false);
    let mut log = taken(&strangers.log);
    let parts = ["failed", "peer.on_disconnect", "peer_ban", "peer_error"];
    log.retain(|line| parts.iter().any(|part| line.contains(part)));
    assert_eq!(
        log,
        [
            "torrent.on_piece_failed 2",
            "peer.on_piece_failed 2",
            "session.on_alert hash_failed",
            "peer.on_disconnect too many corrupt pieces",
            "session.on_alert peer_ban",
            "session.on_alert peer_error",
        ]
    );
    assert!(strangers.is_closed(liar) && !strangers.is_closed(bystander));
}

#[test]
fn a_good_piece_is_its_contributors_first_then_everyone_is_told_and_then_the_torrent() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let [giver, bystander] = [1, 2].map(|number| strangers.meet(number, FAST));
    strangers.tell(bystander, &[Message::HaveNone]);
    strangers.tell(giver, &[Message::HaveNone, Message::Have(2), Message::Unchoke]);
    for asked in strangers.alone.requests(giver) {
        strangers.send_block(giver, asked);
    }
    strangers.log.lock().unwrap().clear();
    strangers.hashed(2, true);
    let mut log = taken(&strangers.log);
    log.retain(|line| ["pass", "sent_", "piece_finished"].iter().any(|part| line.contains(part)));
    let expected = [
        "peer.on_piece_pass 2",
        "peer.sent_have 2",
        "torrent.on_piece_pass 2",
        "session.on_alert piece_finished",
        "peer.sent_not_interested",
    ];
    let mut haves = log.clone();
    haves.dedup();
    assert_eq!(haves, expected, "{log:?}");
}

#[test]
fn an_incoming_connection_is_no_offer() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let peer = strangers.call(1, FAST);
    strangers.alone.tell(peer, &[Message::HaveNone]);
    assert!(!strangers.heard().iter().any(|line| line.contains("on_add_peer")));
}

#[test]
fn a_torrent_that_is_paused_and_has_no_peers_ticks_for_its_plugins_all_the_same() {
    let mut sim = Sim::new(156);
    let node = sim.node();
    let log = Probe::new().plug(&mut sim, node);
    let torrent = sim.add(node, &content());
    sim.command(node, Command::PauseTorrent(torrent));
    sim.run_for(Duration::from_millis(1_500));
    log.lock().unwrap().clear();
    sim.run_for(Duration::from_secs(10));
    let ticks = taken(&log).into_iter().filter(|line| line == "torrent.tick").count();
    assert_eq!(ticks, 10);
}

#[test]
fn a_leech_hears_of_downloaded_pieces_as_such() {
    let mut sim = Sim::new(157);
    let (node, log) = reported(&mut sim);
    let seed = sim.node();
    sim.seed(seed, &content());
    let torrent = sim.add(node, &content());
    sim.introduce(node, torrent, seed);
    sim.run_until_finished(LIMIT, &[(node, torrent)]);
    let seen = taken(&log);
    assert_eq!(seen[..2], ["state in downloading", "checked in downloading"]);
    let pieces: Vec<String> = (0..4).map(|piece| format!("downloaded {piece} in downloading")).collect();
    assert_eq!(sorted(&seen[2..6]), pieces);
    assert_eq!(seen[6..], ["state in finished", "state in seeding"]);
}

/// Offers addresses, bans one of them between two offers, and writes down why each was refused.
struct Gatekeeper(Log);

#[hooks]
impl TorrentPlugin for Gatekeeper {
    fn on_files_checked(&mut self, cx: &mut TorrentContext<'_>) {
        let address = "10.0.0.8:7001".parse().unwrap();
        cx.this().connect_peer(address, PeerSource::PEX);
        cx.this().ban(address);
        cx.this().connect_peer(address, PeerSource::PEX);
        cx.this().connect_peer("0.0.0.0:7001".parse().unwrap(), PeerSource::PEX);
    }

    fn on_add_peer(
        &mut self,
        _: &mut TorrentContext<'_>,
        _: std::net::SocketAddr,
        _: PeerSource,
        _: PeerSource,
        flags: AddPeerFlags,
        refusal: Refusal,
    ) {
        assert_eq!(flags.contains(AddPeerFlags::FILTERED), refusal != Refusal::NONE);
        self.0.lock().unwrap().push(refusal.0.to_string());
    }
}

#[test]
fn an_offer_that_is_refused_says_why() {
    let mut sim = Sim::new(158);
    let (node, log) = (sim.node(), Log::default());
    let kept = log.clone();
    sim.plug(node, "gatekeeper", move |_| {
        SessionBox::new(rt::factory(move |_, _, _| Some(TorrentBox::new(Gatekeeper(kept.clone())))))
    });
    sim.add(node, &content());
    sim.run_for(Duration::from_secs(1));
    let reasons = [Refusal::NONE, Refusal::BANNED, Refusal::UNUSABLE].map(|reason| reason.0.to_string());
    assert_eq!(taken(&log), reasons);
}
