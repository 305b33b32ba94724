//! A conversation between an engine that has a plugin and a peer that the test speaks for.

use pilotfish::command::{AddTorrent, Answer, Command, Ticket};
use pilotfish::engine::Input;
use pilotfish::job::{DiskDone, DiskJob};
use pilotfish::peer::Transport;
use pilotfish::wire::{Handshake, Message, RawRequest, Reserved};
use pilotfish_plugin::{PeerHandle, TorrentHandle};
use pilotfish_tests::sim::{Content, Log, Probe, talkative};

use crate::alone::{Alone, address, opened};

/// The extension protocol, and no fast extension.
pub(crate) const SLOW: Reserved = Reserved::EXTENSIONS;
/// The fast extension, and no extension protocol.
pub(crate) const FAST: Reserved = Reserved::FAST;
/// Both.
pub(crate) const BOTH: Reserved = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0x04]);

/// One engine with a probe on it, one torrent, and as many strangers as call.
pub(crate) struct Strangers {
    pub(crate) alone: Alone,
    pub(crate) content: Content,
    pub(crate) torrent: TorrentHandle,
    pub(crate) log: Log,
}

impl Strangers {
    /// An engine that has nothing of a torrent yet.
    pub(crate) fn of_leech(content: Content, probe: Probe) -> Self {
        Self::new(content, vec![probe], false)
    }

    /// An engine that has all of a torrent.
    pub(crate) fn of_seed(content: Content, probe: Probe) -> Self {
        Self::new(content, vec![probe], true)
    }

    /// An engine with several plugins, which write to the log of the first.
    pub(crate) fn new(content: Content, probes: Vec<Probe>, has_all: bool) -> Self {
        let log = probes.first().map(Probe::log).unwrap_or_default();
        let mut alone = Alone::new(talkative());
        probes.into_iter().for_each(|probe| alone.plug(|| probe.on_session()));
        let torrent = if has_all { seed(&mut alone, &content) } else { alone.add(&content) };
        Self { alone, content, torrent, log }
    }

    /// A peer calls, and says its handshake; nothing that came before is in the log any more.
    pub(crate) fn call(&mut self, number: u8, reserved: Reserved) -> PeerHandle {
        let peer =
            self.alone.engine.accept(address(number), address(0), Transport::Tcp, self.alone.now).unwrap();
        self.log.lock().unwrap().clear();
        let info_hash = self.content.metainfo.info_hashes().truncated();
        self.alone.say(peer, &Handshake { reserved, info_hash, peer_id: [number; 20] }.encode());
        peer
    }

    /// A peer calls; what the plugins heard of its handshake is not in the log any more.
    pub(crate) fn meet(&mut self, number: u8, reserved: Reserved) -> PeerHandle {
        let peer = self.call(number, reserved);
        self.heard();
        peer
    }

    /// A peer says something; what the plugins heard then.
    pub(crate) fn tell(&mut self, peer: PeerHandle, messages: &[Message]) -> Vec<String> {
        self.heard();
        self.alone.tell(peer, messages);
        self.heard()
    }

    /// What the plugins heard since the last time, without ticks and alerts.
    pub(crate) fn heard(&self) -> Vec<String> {
        let mut log = std::mem::take(&mut *self.log.lock().unwrap());
        log.retain(|line| !line.contains("on_alert") && !line.ends_with("tick"));
        log
    }

    /// Whether the connection was closed.
    pub(crate) fn is_closed(&self, peer: PeerHandle) -> bool {
        self.alone.closed.contains(&peer)
    }

    /// The peer sends what it was asked for.
    pub(crate) fn send_block(&mut self, peer: PeerHandle, asked: RawRequest) -> Vec<String> {
        let RawRequest { piece, start, length } = asked;
        self.tell(peer, &[Message::Piece { piece, start, data: vec![7; length as usize].into() }])
    }

    /// The disk's word on a piece of which all blocks came.
    pub(crate) fn hashed(&mut self, piece: u32, passed: bool) {
        let storage = self.alone.jobs.iter().find_map(|job| match job {
            DiskJob::Write { storage, .. } => Some(*storage),
            _ => None,
        });
        let piece = self.content.layout().geometry().piece(piece).unwrap();
        let done = DiskDone::Hashed { storage: storage.unwrap(), piece, passed: Ok(passed) };
        self.alone.handle(Input::Disk(done));
    }
}

/// Adds a torrent of which everything is there.
fn seed(alone: &mut Alone, content: &Content) -> TorrentHandle {
    let add = Box::new(AddTorrent::new(content.metainfo.clone()));
    alone.handle(Input::Command(Command::AddTorrent(Ticket(1), add)));
    let Some(Answer::Added(Ok(torrent))) = alone.answers.pop() else { panic!("not added") };
    let storage = alone.jobs.drain(..).find_map(opened).unwrap();
    alone.handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(true) }));
    for piece in content.layout().geometry().pieces() {
        alone.handle(Input::Disk(DiskDone::Checked { storage, piece, have: true }));
    }
    alone.handle(Input::Disk(DiskDone::CheckFinished { storage, result: Ok(()) }));
    torrent
}
