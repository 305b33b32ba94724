//! One engine by itself: the test is the network, the disk and every peer.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Answer, Command, PluginSource, Ticket};
use pilotfish::engine::{Dial, Engine, EngineConfig, Input, Output, SocketOperation};
use pilotfish::job::{DiskDone, DiskError, DiskJob, StorageId};
use pilotfish::peer::Transport;
use pilotfish::settings::Settings;
use pilotfish::wire::{Decoder, Event, Handshake, MAX_MESSAGE, Message, RawRequest, Reserved};
use pilotfish_plugin::{
    AddTorrentParams, Dict, InfoHashes, PeerHandle, PeerSource, Session, SessionBox, SessionContext,
    SessionPlugin, TorrentHandle, TorrentState, Verdict, hooks,
};
use pilotfish_tests::sim::{Content, Probe, talkative};

pub(crate) struct Alone {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    /// Whom it called.
    pub(crate) calls: Vec<(PeerHandle, SocketAddr)>,
    /// By what it called each of them.
    pub(crate) dials: Vec<(SocketAddr, Dial)>,
    pub(crate) closed: Vec<PeerHandle>,
    pub(crate) sent: HashMap<PeerHandle, Vec<u8>>,
    pub(crate) jobs: Vec<DiskJob>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) alerts: Vec<AlertKind>,
    /// Sockets that take nothing.
    pub(crate) full: Vec<PeerHandle>,
    pub(crate) reads: Vec<PeerHandle>,
}

impl Alone {
    pub(crate) fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let config = EngineConfig {
            settings,
            seed: 1,
            unix_time: 1_700_000_000,
            dht_state: None,
            waker: Arc::new(|| {}),
        };
        let engine = Engine::new(config, now);
        let (calls, closed, jobs, answers) = Default::default();
        let (alerts, full, reads, dials) = Default::default();
        Self { engine, now, calls, dials, closed, sent: HashMap::new(), jobs, answers, alerts, full, reads }
    }

    pub(crate) fn plug(&mut self, plugin: impl FnOnce() -> SessionBox + Send + 'static) {
        let (name, take_panic) = ("probe".to_owned(), pilotfish_plugin::rt::LINKED_TAKE_PANIC);
        let open = Box::new(move |_: &mut SessionContext<'_>| Ok(plugin()));
        self.engine.add_plugin(PluginSource { name, take_panic, open, saved_state: None }).unwrap();
        self.settle();
    }

    pub(crate) fn handle(&mut self, input: Input) {
        self.engine.handle(input, self.now);
        self.settle();
    }

    pub(crate) fn settle(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Connect { peer, address, dial, .. } => {
                    self.calls.push((peer, address));
                    self.dials.push((address, dial));
                }
                Output::Close(peer) => self.closed.push(peer),
                Output::Disk(job) => self.jobs.push(job),
                Output::Answer(_, answer) => self.answers.push(answer),
                Output::Transmit(peer) => self.write(peer),
                Output::Read(peer) => self.reads.push(peer),
                Output::Datagram { .. }
                | Output::LocalAnnouncement { .. }
                | Output::MapPorts(_)
                | Output::RelayedDatagram { .. }
                | Output::Resolve { .. }
                | Output::Stopped => {}
                Output::Fetch { .. } | Output::CancelFetch(_) => {}
            }
        }
        while let Some(alert) = self.engine.poll_alert() {
            self.alerts.push(alert.kind);
        }
    }

    pub(crate) fn write(&mut self, peer: PeerHandle) {
        while !self.full.contains(&peer) {
            let mut slices = Vec::new();
            self.engine.transmit(peer, &mut slices);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            if bytes.is_empty() {
                return;
            }
            let len = bytes.len();
            self.sent.entry(peer).or_default().extend(bytes);
            self.engine.handle(Input::Written { peer, len }, self.now);
        }
    }

    /// Lets time pass, deadline by deadline; how many there were.
    pub(crate) fn run_for(&mut self, time: Duration) -> usize {
        let (end, mut deadlines) = (self.now + time, 0);
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.handle(Input::Timeout);
            deadlines += 1;
        }
        self.now = end;
        deadlines
    }

    /// Adds a torrent of which nothing is there.
    pub(crate) fn add(&mut self, content: &Content) -> TorrentHandle {
        let (torrent, storage) = self.add_unopened(content);
        self.handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(false) }));
        torrent
    }

    pub(crate) fn add_unopened(&mut self, content: &Content) -> (TorrentHandle, StorageId) {
        let add = Box::new(AddTorrent::new(content.metainfo.clone()));
        self.handle(Input::Command(Command::AddTorrent(Ticket(1), add)));
        let Some(Answer::Added(Ok(torrent))) = self.answers.pop() else { panic!("not added") };
        (torrent, self.jobs.drain(..).find_map(opened).unwrap())
    }

    pub(crate) fn offer(&mut self, torrent: TorrentHandle, address: SocketAddr) {
        let source = PeerSource::TRACKER;
        self.handle(Input::Command(Command::ConnectPeer { torrent, address, source }));
    }

    /// Waits until it calls somebody.
    pub(crate) fn next_call(&mut self) -> PeerHandle {
        for _ in 0..400 {
            if let Some((peer, _)) = self.calls.pop() {
                return peer;
            }
            self.run_for(Duration::from_secs(1));
        }
        panic!("it calls nobody any more");
    }

    pub(crate) fn refuse(&mut self, peer: PeerHandle) {
        let (operation, error) = (SocketOperation::Connect, Some(ErrorKind::ConnectionRefused.into()));
        self.handle(Input::Failed { peer, operation, error });
    }

    pub(crate) fn hang_up(&mut self, peer: PeerHandle) {
        self.handle(Input::Failed { peer, operation: SocketOperation::Read, error: None });
    }

    /// A peer called, and has said its handshake.
    pub(crate) fn called_by(&mut self, content: &Content, number: u8) -> PeerHandle {
        let (remote, local) = (address(number), address(0));
        let peer = self.engine.accept(remote, local, Transport::Tcp, self.now).unwrap();
        self.say(peer, &handshake(content, number));
        peer
    }

    pub(crate) fn say(&mut self, peer: PeerHandle, mut bytes: &[u8]) {
        let mut scratch = vec![0; 64 << 10];
        while !bytes.is_empty() && self.engine.wants_read(peer) {
            let Some(mut buffers) = self.engine.receive_buffers(peer, &mut scratch) else { return };
            let mut len = 0;
            for buffer in &mut buffers {
                let (part, rest) = bytes.split_at(buffer.len().min(bytes.len()));
                buffer[..part.len()].copy_from_slice(part);
                (bytes, len) = (rest, len + part.len());
            }
            self.engine.received(peer, len, &scratch, self.now);
            self.settle();
        }
    }

    pub(crate) fn tell(&mut self, peer: PeerHandle, messages: &[Message]) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut bytes));
        self.say(peer, &bytes);
    }

    /// What was said to a peer, handshake aside.
    pub(crate) fn told(&self, peer: PeerHandle) -> Vec<Message> {
        let mut decoder = Decoder::new(MAX_MESSAGE);
        let sent = self.sent.get(&peer).map(Vec::as_slice).unwrap_or_default();
        if !sent.starts_with(b"\x13BitTorrent protocol") {
            decoder.feed(
                &Handshake { reserved: Reserved::default(), info_hash: [0; 20], peer_id: [0; 20] }.encode(),
            );
        }
        decoder.feed(sent);
        let mut messages = Vec::new();
        while let Some(event) = decoder.next(&self.engine.block_pool()).unwrap() {
            messages.extend(if let Event::Message(message) = event { Some(message) } else { None });
        }
        messages
    }

    /// What was asked of a peer.
    /// Our id of an extension, as a peer was told in our extended handshake.
    pub(crate) fn our_id(&self, peer: PeerHandle, name: &str) -> Option<u8> {
        let told = self.told(peer);
        let handshake = told.iter().find_map(|message| match message {
            Message::Extended { id: 0, payload } => Some(payload),
            _ => None,
        });
        let (dict, _) = Dict::parse(handshake.expect("our extended handshake")).unwrap();
        dict.dict("m").and_then(|names| names.int(name)).map(|id| id.try_into().unwrap())
    }

    pub(crate) fn requests(&self, peer: PeerHandle) -> Vec<RawRequest> {
        let request = |message| if let Message::Request(request) = message { Some(request) } else { None };
        self.told(peer).into_iter().filter_map(request).collect()
    }

    pub(crate) fn state(&mut self, torrent: TorrentHandle) -> TorrentState {
        self.handle(Input::Command(Command::Status(Ticket(2), torrent)));
        let Some(Answer::Status(Some(status))) = self.answers.pop() else { panic!("no status") };
        status.state
    }
}

pub(crate) fn opened(job: DiskJob) -> Option<StorageId> {
    if let DiskJob::Open { storage, .. } = job { Some(storage) } else { None }
}

pub(crate) fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 9, 0, number], 6881))
}

pub(crate) fn handshake(content: &Content, number: u8) -> Vec<u8> {
    let reserved = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0x04]);
    let info_hash = content.metainfo.info_hashes().truncated();
    Handshake { reserved, info_hash, peer_id: [number; 20] }.encode().to_vec()
}

#[test]
fn a_peer_that_was_reached_has_its_earlier_failures_forgiven() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(70, 100_000, 16_384);
    let torrent = alone.add(&content);
    alone.offer(torrent, address(1));
    for _ in 0..4 {
        // Twice nobody is there, then it answers, and leaves again.
        for _ in 0..2 {
            let peer = alone.next_call();
            alone.refuse(peer);
        }
        let peer = alone.next_call();
        alone.handle(Input::Connected { peer, local: address(0), transport: Transport::Tcp });
        alone.say(peer, &handshake(&content, 1));
        alone.hang_up(peer);
    }
}

#[test]
fn a_peer_that_never_answers_is_left_alone_in_the_end() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(71, 100_000, 16_384);
    let torrent = alone.add(&content);
    alone.offer(torrent, address(1));
    alone.run_for(Duration::from_secs(3_600));
    assert_eq!(alone.calls.len(), 3);
    assert_eq!(alone.closed.len(), 3);
}

#[test]
fn a_later_attempt_to_connect_has_more_time() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(72, 100_000, 16_384);
    let torrent = alone.add(&content);
    alone.offer(torrent, address(1));
    let peer = alone.next_call();
    alone.refuse(peer);
    alone.next_call();
    alone.run_for(Duration::from_secs(17));
    assert_eq!(alone.closed.len(), 1);
    alone.run_for(Duration::from_secs(3));
    assert_eq!(alone.closed.len(), 2);
}

#[test]
fn a_check_that_failed_is_begun_again_by_a_resume() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(73, 100_000, 16_384);
    let (torrent, storage) = alone.add_unopened(&content);
    alone.handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(true) }));
    let checks =
        |alone: &mut Alone| alone.jobs.drain(..).filter(|job| matches!(job, DiskJob::Check { .. })).count();
    assert_eq!(checks(&mut alone), 1);
    let error = Arc::new(ErrorKind::PermissionDenied.into());
    let error = DiskError { operation: "read", path: "x".into(), error };
    alone.handle(Input::Disk(DiskDone::CheckFinished { storage, result: Err(error) }));
    assert_eq!(checks(&mut alone), 0);
    alone.handle(Input::Command(Command::ResumeTorrent(torrent)));
    assert_eq!(checks(&mut alone), 1);
    alone.handle(Input::Disk(DiskDone::CheckFinished { storage, result: Ok(()) }));
    assert_eq!(alone.state(torrent), TorrentState::DOWNLOADING);
}

#[test]
fn a_peer_that_asks_and_asks_and_reads_nothing_is_closed() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(74, 100_000, 16_384);
    alone.add(&content);
    let peer = alone.called_by(&content, 1);
    alone.full.push(peer);
    let request = Message::Request(RawRequest { piece: 0, start: 0, length: 16_384 });
    let flood = [vec![Message::Interested], vec![request; 250]].concat();
    for _ in 0..8_000 {
        alone.tell(peer, &flood);
        if alone.closed.contains(&peer) {
            return;
        }
    }
    panic!("it may go on for ever");
}

#[test]
fn nothing_goes_out_before_the_handshake() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(75, 100_000, 16_384);
    let probe = Probe::new().peer("on_connected", |cx| {
        cx.this().maybe_unchoke_this_peer();
        false
    });
    alone.plug(|| probe.on_session());
    let torrent = alone.add(&content);
    alone.offer(torrent, address(1));
    let (peer, _) = alone.calls[0];
    alone.handle(Input::Connected { peer, local: address(0), transport: Transport::Tcp });
    assert_eq!(alone.sent[&peer].len(), 68);
}

struct Welcome(Vec<u8>);

#[hooks]
impl SessionPlugin for Welcome {
    fn on_unknown_torrent(
        &mut self,
        _: &mut SessionContext<'_>,
        _: InfoHashes,
        _: PeerHandle,
        mut params: AddTorrentParams<'_>,
    ) -> Verdict {
        params.torrent(&self.0);
        Verdict::Handled
    }
}

#[test]
fn a_peer_that_is_held_sends_no_more_until_it_is_served() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(76, 100_000, 16_384);
    let file = [b"d4:info", &content.metainfo.info_bytes()[..], b"e"].concat();
    alone.plug(|| SessionBox::new(Welcome(file)));
    let peer = alone.called_by(&content, 1);
    assert!(!alone.engine.wants_read(peer));
    // Longer than a silent peer is put up with.
    alone.run_for(Duration::from_secs(300));
    let storage = alone.jobs.drain(..).find_map(opened).unwrap();
    alone.handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(false) }));
    assert_eq!(alone.reads, [peer]);
    assert!(alone.engine.wants_read(peer) && alone.sent[&peer].len() > 68);
    alone.run_for(Duration::from_secs(10));
    assert!(alone.closed.is_empty());
}

#[test]
fn a_recheck_forgets_blocks_of_pieces_that_are_not_whole() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(77, 65_536, 32_768);
    let torrent = alone.add(&content);
    let peer = alone.called_by(&content, 1);
    alone.tell(peer, &[Message::HaveAll, Message::Unchoke]);
    let asked = alone.requests(peer);
    let RawRequest { piece, start, length } = asked[0];
    alone.tell(peer, &[Message::Piece { piece, start, data: vec![7; length as usize].into() }]);
    let written = alone.jobs.drain(..).find_map(|job| match job {
        DiskJob::Write { storage, span, .. } => Some((storage, span)),
        _ => None,
    });
    let (storage, span) = written.unwrap();
    alone.handle(Input::Disk(DiskDone::Written { storage, span, result: Ok(()) }));
    alone.handle(Input::Command(Command::Recheck(torrent)));
    for piece in content.layout().geometry().pieces() {
        alone.handle(Input::Disk(DiskDone::Checked { storage, piece, have: false }));
    }
    alone.handle(Input::Disk(DiskDone::CheckFinished { storage, result: Ok(()) }));
    // The disk has forgotten it, so it has to come again.
    let peer = alone.called_by(&content, 2);
    alone.tell(peer, &[Message::HaveAll, Message::Unchoke]);
    let mut again = Vec::new();
    while let Some(RawRequest { piece, start, length }) = alone.requests(peer).first().copied() {
        again.push((piece, start));
        alone.sent.remove(&peer);
        alone.tell(peer, &[Message::Piece { piece, start, data: vec![7; length as usize].into() }]);
    }
    assert!(again.contains(&(asked[0].piece, asked[0].start)), "{again:?}");
}

#[test]
fn a_plugin_may_remove_thousands_of_torrents_in_one_hook() {
    let mut alone = Alone::new(talkative());
    let probe = Probe::new().session("on_tick", |cx| {
        let session = cx.session();
        session.torrents().into_iter().for_each(|torrent| session.remove_torrent(torrent, false));
        false
    });
    alone.plug(|| probe.on_session());
    for seed in 0..3_000 {
        alone.add(&Content::random(seed, 100, 16_384));
    }
    alone.run_for(Duration::from_secs(2));
    let closing = alone.jobs.iter().filter(|job| matches!(job, DiskJob::Close { .. })).count();
    assert_eq!(closing, 3_000);
}

#[test]
fn who_has_everything_still_calls_those_who_may_not() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(78, 100_000, 16_384);
    let (torrent, storage) = alone.add_unopened(&content);
    alone.handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(true) }));
    for piece in content.layout().geometry().pieces() {
        alone.handle(Input::Disk(DiskDone::Checked { storage, piece, have: true }));
    }
    alone.handle(Input::Disk(DiskDone::CheckFinished { storage, result: Ok(()) }));
    alone.offer(torrent, address(1));
    let (peer, _) = alone.calls[0];
    alone.handle(Input::Connected { peer, local: address(0), transport: Transport::Tcp });
    alone.say(peer, &handshake(&content, 1));
    alone.tell(peer, &[Message::HaveAll]);
    // Neither is of use to the other, and will not be.
    assert_eq!(alone.closed, [peer]);
    alone.run_for(Duration::from_secs(600));
    assert_eq!(alone.calls.len(), 1);
}

#[test]
fn a_torrent_that_has_nothing_to_do_sleeps() {
    let mut alone = Alone::new(talkative());
    alone.run_for(Duration::from_millis(500));
    alone.add(&Content::random(80, 100_000, 16_384));
    alone.run_for(Duration::from_secs(5));
    // Those of the session.
    assert_eq!(alone.run_for(Duration::from_secs(10)), 10);
}

#[test]
fn a_torrent_that_is_removed_is_not_heard_of_again() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(81, 100_000, 16_384);
    let (torrent, storage) = alone.add_unopened(&content);
    alone.handle(Input::Command(Command::RemoveTorrent { torrent, delete_files: false }));
    assert!(matches!(alone.alerts.last(), Some(AlertKind::TorrentRemoved { .. })));
    alone.alerts.clear();
    alone.handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(false) }));
    alone.handle(Input::Disk(DiskDone::Closed { storage }));
    assert!(alone.alerts.is_empty(), "{:?}", alone.alerts);
}

/// The last peer may have had a part in a bad piece, and the others, who left, in all pieces that are missing.
#[test]
fn a_peer_on_parole_may_finish_what_others_began_if_nobody_else_does() {
    let mut alone = Alone::new(talkative());
    let content = Content::random(82, 65_536, 32_768);
    alone.add(&content);
    let send = |alone: &mut Alone, peer, asked: RawRequest| {
        let RawRequest { piece, start, length } = asked;
        alone.tell(peer, &[Message::Piece { piece, start, data: vec![7; length as usize].into() }]);
    };
    let first = alone.called_by(&content, 1);
    alone.tell(first, &[Message::HaveAll, Message::Unchoke]);
    let asked = alone.requests(first);
    send(&mut alone, first, asked[0]);
    alone.tell(first, &[Message::Choke]);
    for request in alone.requests(first).split_off(1) {
        alone.tell(first, &[Message::Reject(request)]);
    }
    let mixed = asked[0].piece;
    let second = alone.called_by(&content, 2);
    alone.tell(second, &[Message::HaveAll, Message::Unchoke]);
    let rest = alone.requests(second).into_iter().find(|asked| asked.piece == mixed).unwrap();
    send(&mut alone, second, rest);
    let storage = alone.jobs.iter().find_map(|job| match job {
        DiskJob::Write { storage, .. } => Some(*storage),
        _ => None,
    });
    let storage = storage.unwrap();
    let piece = content.layout().geometry().piece(mixed).unwrap();
    alone.handle(Input::Disk(DiskDone::Hashed { storage, piece, passed: Ok(false) }));
    alone.hang_up(second);
    // The third sends the bad piece again, half of the other, and leaves.
    let third = alone.called_by(&content, 3);
    alone.tell(third, &[Message::HaveAll, Message::Unchoke]);
    let missing = |asked: &RawRequest| asked.piece != mixed && asked.start > 0;
    let mut sent = 0;
    while let Some(asked) = alone.requests(third).get(sent).copied() {
        sent += 1;
        if !missing(&asked) {
            send(&mut alone, third, asked);
        }
    }
    alone.handle(Input::Disk(DiskDone::Hashed { storage, piece, passed: Ok(true) }));
    alone.hang_up(third);
    alone.sent.remove(&first);
    alone.tell(first, &[Message::Unchoke]);
    assert!(alone.requests(first).iter().any(missing));
}

#[test]
fn dictionaries_that_a_plugin_could_not_have_take_nothing_from_others() {
    fn nest(session: &Session<'_>, depth: u32) {
        if depth > 0 {
            session.add_torrent(|_| nest(session, depth - 1));
        }
    }
    let mut alone = Alone::new(talkative());
    let content = Content::random(83, 100_000, 16_384);
    let probe = Probe::new().peer("add_handshake", |cx| {
        nest(&cx.session(), 300);
        false
    });
    alone.plug(|| probe.on_session());
    alone.add(&content);
    let peer = alone.called_by(&content, 1);
    let reqq = |bytes: &[u8]| bytes.windows(6).any(|window| window == b"4:reqq");
    assert!(reqq(&alone.sent[&peer]));
}
