//! How peers are greeted, in clear or encrypted, and which greetings are listened to: one engine, and peers that the test
//! speaks for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::engine::Input;
use pilotfish::peer::Transport;
use pilotfish::peer::mse::{Agreement, Handshake, Method, Methods, Terms};
use pilotfish::settings::{EncPolicy, Settings};
use pilotfish::wire;
use pilotfish_plugin::{
    AddTorrentParams, InfoHashes, PeerHandle, SessionBox, SessionContext, SessionPlugin, Verdict, hooks,
};
use pilotfish_tests::sim::{Content, Probe, talkative};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::alone::{Alone, address, handshake};
use crate::encryption::heard;

const BOTH: Terms = Terms { allowed: Methods(3), prefer_rc4: false };

#[test]
fn a_peer_that_does_not_listen_is_called_again_at_once_by_a_connection_of_its_own() {
    let probe = Probe::new();
    let log = probe.log();
    let mut alone = Alone::new(Settings { prefer_rc4: true, ..talkative() });
    alone.plug(|| probe.on_session());
    let content = Content::random(421, 10_000, 16_384);
    let torrent = alone.add(&content);
    alone.offer(torrent, address(1));
    let first = alone.next_call();
    connect(&mut alone, first);
    assert!(alone.sent[&first].len() >= 96 && !alone.sent[&first].starts_with(b"\x13BitTorrent"));
    log.lock().unwrap().clear();
    alone.hang_up(first);
    // No time has passed.
    let (second, _) = alone.calls.pop().expect("it calls again");
    assert_ne!(first, second);
    connect(&mut alone, second);
    assert!(alone.sent[&second].starts_with(b"\x13BitTorrent protocol"));
    assert_eq!(
        heard(&log),
        ["peer.on_disconnect End of file", "torrent.new_connection 0", "peer.on_connected"]
    );
    // This one counts: now it is left alone for a while.
    alone.hang_up(second);
    alone.run_for(Duration::from_secs(30));
    assert!(alone.calls.is_empty());
    // And then greeted as at first.
    let third = alone.next_call();
    connect(&mut alone, third);
    assert!(!alone.sent[&third].starts_with(b"\x13BitTorrent"));
}

#[test]
fn a_peer_is_greeted_as_it_answered_last() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(422, 10_000, 16_384);
    let torrent = alone.add(&content);
    alone.offer(torrent, address(1));
    let first = alone.next_call();
    connect(&mut alone, first);
    assert!(alone.sent[&first].starts_with(b"\x13BitTorrent protocol"));
    alone.hang_up(first);
    let (second, _) = alone.calls.pop().expect("it calls again");
    connect(&mut alone, second);
    let mut peer = Stranger::new(Handshake::respond(BOTH), &content);
    peer.listen(&mut alone, second);
    alone.say(second, &handshake(&content, 1));
    assert_eq!(peer.agreement.as_ref().map(|agreement| agreement.method), Some(Method::Plaintext));
    alone.run_for(Duration::from_secs(1));
    alone.hang_up(second);
    assert!(alone.calls.is_empty(), "it was no fault of the greeting");
    let third = alone.next_call();
    connect(&mut alone, third);
    assert!(!alone.sent[&third].starts_with(b"\x13BitTorrent"));
}

/// A peer that does not answer, whom the engine has greeted in clear, is not asked again at once, but otherwise.
#[test]
fn a_silent_peer_is_greeted_otherwise_the_next_time() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(423, 10_000, 16_384);
    let torrent = alone.add(&content);
    alone.offer(torrent, address(1));
    let first = alone.next_call();
    connect(&mut alone, first);
    alone.run_for(Duration::from_secs(40));
    assert!(alone.closed.contains(&first) && alone.calls.is_empty());
    let second = alone.next_call();
    connect(&mut alone, second);
    assert!(alone.sent[&first].starts_with(b"\x13BitTorrent"));
    assert!(!alone.sent[&second].starts_with(b"\x13BitTorrent"));
}

fn connect(alone: &mut Alone, peer: PeerHandle) {
    alone.handle(Input::Connected { peer, local: address(0), transport: Transport::Tcp });
}

/// A peer of the test's own that encrypts.
struct Stranger {
    handshake: Handshake,
    rng: StdRng,
    info_hash: [u8; 20],
    /// How much of what it was sent it has seen.
    seen: usize,
    agreement: Option<Agreement>,
}

impl Stranger {
    fn new(handshake: Handshake, content: &Content) -> Self {
        let info_hash = content.metainfo.info_hashes().truncated();
        Self { handshake, rng: StdRng::seed_from_u64(5), info_hash, seen: 0, agreement: None }
    }

    /// Takes and says what there is to be taken and said.
    fn listen(&mut self, alone: &mut Alone, peer: PeerHandle) {
        while self.agreement.is_none() {
            let sent = alone.sent.get(&peer).map(|sent| sent[self.seen..].to_vec()).unwrap_or_default();
            if sent.is_empty() {
                return;
            }
            self.seen += sent.len();
            let (info_hash, mut out) = (self.info_hash, Vec::new());
            self.agreement =
                self.handshake.receive(&sent, |_| Some(info_hash), &mut self.rng, &mut out).unwrap();
            alone.say(peer, &out);
        }
    }
}

/// A stranger calls, asks for a torrent, and says `initial` along with that.
fn call(alone: &mut Alone, number: u8, asks_for: &Content, initial: Vec<u8>) -> (PeerHandle, Stranger) {
    let info_hash = asks_for.metainfo.info_hashes().truncated();
    let (mut rng, mut first) = (StdRng::seed_from_u64(number.into()), Vec::new());
    let ours = Handshake::initiate(info_hash, BOTH, initial, &mut rng, &mut first);
    let mut stranger = Stranger::new(ours, asks_for);
    let peer = alone.engine.accept(address(number), address(0), Transport::Tcp, alone.now).unwrap();
    alone.say(peer, &first);
    stranger.listen(alone, peer);
    (peer, stranger)
}

/// Counts how often it is asked for a torrent.
struct Asked(Arc<Mutex<u32>>);

#[hooks]
impl SessionPlugin for Asked {
    fn on_unknown_torrent(
        &mut self,
        _: &mut SessionContext<'_>,
        _: InfoHashes,
        _: PeerHandle,
        _: AddTorrentParams<'_>,
    ) -> Verdict {
        *self.0.lock().unwrap() += 1;
        Verdict::Continue
    }
}

#[test]
fn no_plugin_is_asked_about_a_torrent_that_only_the_encryption_handshake_names() {
    let (here, elsewhere) = (Content::random(430, 10_000, 16_384), Content::random(431, 10_000, 16_384));
    let asked = Arc::new(Mutex::new(0));
    let mut alone = Alone::new(talkative());
    let count = asked.clone();
    alone.plug(move || SessionBox::new(Asked(count)));
    alone.add(&here);
    let (peer, stranger) = call(&mut alone, 1, &elsewhere, handshake(&elsewhere, 1).to_vec());
    assert!(alone.closed.contains(&peer) && stranger.agreement.is_none());
    // Nor if the BitTorrent handshake then names another than the one that encryption was agreed upon for.
    let (peer, _) = call(&mut alone, 2, &here, handshake(&elsewhere, 2).to_vec());
    assert!(alone.closed.contains(&peer));
    assert_eq!(*asked.lock().unwrap(), 0);
    // In clear it is.
    alone.called_by(&elsewhere, 3);
    assert_eq!(*asked.lock().unwrap(), 1);
}

#[test]
fn the_handshake_may_come_behind_the_encryption_handshake_too() {
    let content = Content::random(432, 10_000, 16_384);
    let mut alone = Alone::new(talkative());
    alone.add(&content);
    let (peer, stranger) = call(&mut alone, 1, &content, Vec::new());
    assert!(stranger.agreement.is_some() && !alone.closed.contains(&peer));
    alone.say(peer, &handshake(&content, 1));
    let answered = &alone.sent[&peer][stranger.seen..];
    assert!(answered.starts_with(b"\x13BitTorrent protocol"));
}

#[test]
fn strangers_who_make_no_sense_are_not_listened_to_for_long() {
    let content = Content::random(433, 10_000, 16_384);
    let mut alone = Alone::new(talkative());
    alone.add(&content);
    let mut rng = StdRng::seed_from_u64(433);
    let mut garbage = vec![0; 2_000];
    rng.fill_bytes(&mut garbage);
    let accept = |alone: &mut Alone, number| {
        alone.engine.accept(address(number), address(0), Transport::Tcp, alone.now).unwrap()
    };
    // A key, and no end of the pad.
    let peer = accept(&mut alone, 1);
    alone.say(peer, &garbage[..700]);
    assert!(alone.closed.contains(&peer));
    // A key that is none.
    let peer = accept(&mut alone, 2);
    alone.say(peer, &[0; 96]);
    assert!(alone.closed.contains(&peer));
    // A key, and then silence.
    let peer = accept(&mut alone, 3);
    alone.say(peer, &garbage[..96]);
    assert!(alone.sent[&peer].len() >= 96);
    alone.run_for(Duration::from_secs(12));
    assert!(alone.closed.contains(&peer));
    // More of them than we want to compute keys for.
    let computed = (0..1_000)
        .filter(|_| {
            let peer = accept(&mut alone, 4);
            alone.say(peer, &garbage[..96]);
            let answered = alone.sent.contains_key(&peer);
            alone.hang_up(peer);
            answered
        })
        .count();
    assert!((100..500).contains(&computed), "{computed}");
    alone.run_for(Duration::from_secs(1));
    let peer = accept(&mut alone, 5);
    alone.say(peer, &garbage[..96]);
    assert!(alone.sent.contains_key(&peer));
}

#[test]
fn who_lets_nobody_in_in_clear_or_encrypted_does_not_answer() {
    let content = Content::random(434, 10_000, 16_384);
    for policy in [EncPolicy::Forced, EncPolicy::Disabled] {
        let mut alone = Alone::new(Settings { in_enc_policy: policy, ..talkative() });
        alone.add(&content);
        let peer = match policy {
            EncPolicy::Forced => alone.called_by(&content, 1),
            _ => call(&mut alone, 1, &content, Vec::new()).0,
        };
        assert!(alone.closed.contains(&peer), "{policy:?}");
        assert!(!alone.sent.contains_key(&peer), "{policy:?}");
    }
}

#[test]
fn a_handshake_in_clear_is_known_by_its_beginning_however_short() {
    let content = Content::random(444, 10_000, 16_384);
    let mut alone = Alone::new(talkative());
    alone.add(&content);
    let peer = alone.engine.accept(address(1), address(0), Transport::Tcp, alone.now).unwrap();
    for byte in handshake(&content, 1) {
        alone.say(peer, &[byte]);
    }
    assert!(alone.sent[&peer].starts_with(b"\x13BitTorrent protocol"));
    // A name that only begins like the right one is a key, as far as anyone can tell.
    let peer = alone.engine.accept(address(2), address(0), Transport::Tcp, alone.now).unwrap();
    alone.say(peer, b"\x13BitTorrent protocox");
    alone.say(peer, &[7; 76]);
    assert!(alone.sent[&peer].len() >= 96);
    let other = wire::Handshake { reserved: wire::Reserved::default(), info_hash: [1; 20], peer_id: [2; 20] };
    alone.say(peer, &other.encode().repeat(8));
    assert!(alone.closed.contains(&peer));
}
