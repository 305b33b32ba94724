//! What plugins hear of our own messages, and what they may do to a request.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use pilotfish::engine::Input;
use pilotfish::job::{DiskDone, DiskJob};
use pilotfish::wire::{Message, RawRequest};
use pilotfish_plugin::{
    Peer, PeerBox, PeerContext, PeerHandle, PeerInfo, PeerPlugin, PeerRequest, Request, hooks,
};
use pilotfish_tests::sim::{Content, Probe, Sim};

use crate::stranger::{FAST, Strangers};

fn content() -> Content {
    Content::random(130, 40 * 16_384, 16_384)
}

fn block(piece: u32) -> RawRequest {
    RawRequest { piece, start: 0, length: 16_384 }
}

type Seen = Arc<Mutex<Vec<bool>>>;

/// A plugin that answers a question in a hook.
fn asking(hook: &'static str, question: fn(&Peer<'_>) -> bool) -> (Probe, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let probe = Probe::new().peer(hook, move |cx| {
        kept.lock().unwrap().push(question(&cx.this()));
        false
    });
    (probe, seen)
}

#[test]
fn the_state_is_that_after_the_message_when_a_plugin_hears_that_it_was_sent() {
    let (probe, seen) = asking("sent_interested", |peer| peer.is_interesting());
    let mut strangers = Strangers::of_leech(content(), probe);
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveAll]);
    assert_eq!(*seen.lock().unwrap(), [true]);

    let (probe, seen) = asking("sent_not_interested", |peer| peer.is_interesting());
    let mut strangers = Strangers::of_leech(content(), probe);
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveNone, Message::Have(1)]);
    strangers.tell(peer, &[Message::Extended { id: 7, payload: vec![0, 0, 0, 1].into() }]);
    assert_eq!(*seen.lock().unwrap(), [false]);

    for (hook, choked) in [("sent_unchoke", false), ("sent_choke", true)] {
        let (probe, seen) = asking(hook, |peer| peer.is_choked());
        let mut strangers = Strangers::of_seed(content(), probe);
        let peer = strangers.meet(1, FAST);
        strangers.tell(peer, &[Message::HaveNone, Message::Interested, Message::NotInterested]);
        let seen = seen.lock().unwrap();
        assert!(!seen.is_empty() && seen.iter().all(|seen| *seen == choked), "{hook}: {seen:?}");
    }
}

#[test]
fn a_have_is_not_sent_to_who_has_the_piece() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    let [giver, taker] = [1, 2].map(|number| strangers.meet(number, FAST));
    strangers.tell(taker, &[Message::HaveNone]);
    strangers.tell(giver, &[Message::HaveNone, Message::Have(5)]);
    strangers.tell(giver, &[Message::Unchoke]);
    strangers.send_block(giver, block(5));
    strangers.hashed(5, true);
    let haves = |peer| strangers.alone.told(peer).iter().filter(|m| **m == Message::Have(5)).count();
    let redundant = pilotfish::settings::Settings::default().send_redundant_have;
    assert_eq!((haves(giver), haves(taker)), (usize::from(redundant), 1));
    strangers.alone.handle(Input::Command(pilotfish::command::Command::Set(
        pilotfish::command::Ticket(9),
        "send_redundant_have".into(),
        if redundant { "false" } else { "true" }.into(),
    )));
    strangers.tell(giver, &[Message::Have(6)]);
    strangers.send_block(giver, block(6));
    strangers.hashed(6, true);
    let haves = |peer| strangers.alone.told(peer).iter().filter(|m| **m == Message::Have(6)).count();
    assert_eq!((haves(giver), haves(taker)), (usize::from(!redundant), 1));
}

/// The disk answers every read.
fn serve(strangers: &mut Strangers) {
    loop {
        let reads = |job: DiskJob| match job {
            DiskJob::Read { span, token, storage } => Some((span, token, storage)),
            _ => None,
        };
        let reads: Vec<_> = strangers.alone.jobs.drain(..).filter_map(reads).collect();
        if reads.is_empty() {
            return;
        }
        for (span, token, storage) in reads {
            let data = Ok(Bytes::from(vec![7; span.len as usize]));
            strangers.alone.handle(Input::Disk(DiskDone::Read { storage, span, token, data }));
        }
    }
}

/// The sum of what a hook was told in bytes, behind the last `+` or space.
fn sum(heard: &[String], hook: &str) -> u64 {
    let of_hook = heard.iter().filter(|line| line.starts_with(&format!("peer.{hook} ")));
    of_hook.map(|line| line.rsplit(['+', ' ']).next().unwrap().parse::<u64>().unwrap()).sum()
}

fn uploaded(cx: &PeerContext<'_>) -> i64 {
    cx.this().peer_info().total_upload()
}

#[test]
fn payload_is_what_was_written_of_blocks_and_nothing_that_a_plugin_sent() {
    let seen = Arc::new(Mutex::new(0));
    let kept = seen.clone();
    let probe = Probe::new()
        .peer("on_request", |cx| {
            // A whole block that looks like one of ours.
            let mut bytes = Vec::new();
            Message::Unknown { id: 99, payload: vec![7; 20_000].into() }.encode(&mut bytes);
            cx.this().send_buffer(&bytes);
            false
        })
        .peer("on_unknown_message", move |cx| {
            *kept.lock().unwrap() = uploaded(cx);
            true
        });
    let mut strangers = Strangers::of_seed(content(), probe);
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveNone, Message::Interested]);
    strangers.heard();
    strangers.alone.tell(peer, &[block(0), block(1), block(2)].map(Message::Request));
    serve(&mut strangers);
    let heard = strangers.heard();
    assert_eq!((sum(&heard, "sent_piece"), sum(&heard, "sent_payload")), (3 * 16_384, 3 * 16_384));
    strangers.tell(peer, &[Message::Unknown { id: 99, payload: vec![].into() }]);
    assert_eq!(*seen.lock().unwrap(), 3 * 16_384);
}

/// Answers each request that is about to be sent.
struct Clerk(Request);

#[hooks]
impl PeerPlugin for Clerk {
    fn write_request(&mut self, _: &mut PeerContext<'_>, _: PeerRequest) -> Request {
        self.0
    }
}

/// A leech whose plugin answers requests so, with a plugin in front and one behind; the peer may be asked.
fn with_clerk(answer: Request) -> (Strangers, PeerHandle) {
    let first = Probe::new();
    let log = first.log();
    let kept = log.clone();
    let probe = first.peer("on_handshake", move |cx| {
        cx.this().add_extension(PeerBox::new(Clerk(answer)));
        cx.this().add_extension(Probe::beside(&kept, "3 ").on_peer());
        false
    });
    let mut strangers = Strangers::of_leech(content(), probe);
    let peer = strangers.meet(1, FAST);
    strangers.tell(peer, &[Message::HaveAll]);
    strangers.heard();
    (strangers, peer)
}

fn lines(heard: &[String], start: &str) -> usize {
    heard.iter().filter(|line| line.starts_with(start)).count()
}

#[test]
fn a_request_that_nobody_takes_is_heard_of_by_all_and_sent() {
    let (mut strangers, peer) = with_clerk(Request::Continue);
    let heard = strangers.tell(peer, &[Message::Unchoke]);
    let asked = strangers.alone.requests(peer).len();
    assert!(asked > 0);
    for line in ["peer.write_request", "3 peer.write_request", "peer.sent_request", "3 peer.sent_request"] {
        assert_eq!(lines(&heard, line), asked, "{line}");
    }
}

#[test]
fn a_request_that_a_plugin_sent_itself_stays_this_peers_and_its_block_is_taken() {
    let (mut strangers, peer) = with_clerk(Request::Sent);
    let heard = strangers.tell(peer, &[Message::Unchoke]);
    assert!(strangers.alone.requests(peer).is_empty());
    assert_eq!((lines(&heard, "3 peer.write_request"), lines(&heard, "peer.sent_request")), (0, 0));
    let taken = offered_pieces(&heard);
    let other = strangers.meet(2, FAST);
    let again = strangers.tell(other, &[Message::HaveAll, Message::Unchoke]);
    let offered = offered_pieces(&again);
    assert!(!offered.is_empty() && !offered.iter().any(|piece| taken.contains(piece)), "{offered:?}");
    strangers.send_block(peer, block(taken[0]));
    let written = strangers.alone.jobs.iter().filter(|job| matches!(job, DiskJob::Write { .. })).count();
    assert_eq!(written, 1);
}

/// Of which pieces a plugin heard that a request is about to be sent.
fn offered_pieces(heard: &[String]) -> Vec<u32> {
    let requests = heard.iter().filter_map(|line| line.strip_prefix("peer.write_request "));
    requests.map(|request| request.split(':').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn the_block_of_a_request_that_a_plugin_sent_and_that_never_comes_times_out_like_any_other() {
    let seen = Arc::new(Mutex::new(false));
    let kept = seen.clone();
    let (mut strangers, peer) = with_clerk(Request::Sent);
    strangers.tell(peer, &[Message::Unchoke]);
    let watch = Probe::new().session("on_tick", move |cx| {
        let snubbed = cx.peer(peer).is_some_and(|peer| peer.peer_info().flag(PeerInfo::SNUBBED));
        *kept.lock().unwrap() |= snubbed;
        false
    });
    strangers.alone.plug(|| watch.on_session());
    strangers.alone.run_for(Duration::from_secs(90));
    assert!(*seen.lock().unwrap());
}

#[test]
fn the_block_of_a_request_that_a_plugin_dropped_is_free_at_once() {
    let (mut strangers, peer) = with_clerk(Request::Dropped);
    let heard = strangers.tell(peer, &[Message::Unchoke]);
    assert!(strangers.alone.requests(peer).is_empty());
    assert!(lines(&heard, "peer.write_request") > 0);
    assert_eq!((lines(&heard, "3 peer.write_request"), lines(&heard, "peer.sent_request")), (0, 0));
    // Nothing is waited for: the peer is not taken for one that does not answer.
    strangers.alone.run_for(Duration::from_secs(90));
    let seen = Arc::new(Mutex::new(None));
    let kept = seen.clone();
    let watch = Probe::new().session("on_tick", move |cx| {
        *kept.lock().unwrap() = cx.peer(peer).map(|peer| peer.peer_info().flag(PeerInfo::SNUBBED));
        false
    });
    strangers.alone.plug(|| watch.on_session());
    strangers.alone.run_for(Duration::from_secs(2));
    assert_eq!(*seen.lock().unwrap(), Some(false));
}

#[test]
fn pieces_that_were_read_lately_are_suggested_to_whom_lacks_them_if_that_is_set() {
    for mode in [0, 1] {
        let mut sim = Sim::new(600);
        let content = Content::random(600, 40 * 16_384, 16_384);
        let settings = pilotfish::settings::Settings {
            suggest_mode: mode,
            unchoke_slots_limit: 1,
            ..pilotfish_tests::sim::talkative()
        };
        sim.link.bandwidth = 20_000;
        let seed = sim.node_with(settings);
        let served = Probe::new().plug(&mut sim, seed);
        sim.seed(seed, &content);
        let [first, second] = [sim.node(), sim.node()];
        let heard = Probe::new().plug(&mut sim, second);
        let [one, other] = [first, second].map(|leech| sim.add(leech, &content));
        sim.introduce(first, one, seed);
        sim.run_for(Duration::from_secs(10));
        // It takes the slot over in one of the next rounds.
        sim.introduce(second, other, seed);
        sim.run_for(Duration::from_secs(60));
        let count = |log: &pilotfish_tests::sim::Log, line: &str| {
            log.lock().unwrap().iter().filter(|seen| seen.starts_with(line)).count()
        };
        let (sent, came) = (count(&served, "peer.sent_suggest"), count(&heard, "peer.on_suggest"));
        assert_eq!((sent > 0, came > 0), (mode == 1, mode == 1), "mode {mode}: {sent} sent, {came} came");
    }
}
