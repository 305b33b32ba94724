//! Messages of ut_pex and ut_metadata from peers that say anything, to an engine with the extensions that are built in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Command, PluginSource, Ticket, TorrentExtension};
use pilotfish::engine::{Engine, EngineConfig, Input, Output};
use pilotfish::job::{DiskDone, DiskJob, MetadataError};
use pilotfish::metainfo::Magnet;
use pilotfish::peer::Transport;
use pilotfish::session::default_extensions;
use pilotfish::settings::Settings;
use pilotfish::wire::{Handshake, Message, Reserved};
use pilotfish_plugin::{
    AlertCategory, Attach, Dict, PeerBox, PeerContext, PeerHandle, PeerPlugin, TorrentBox, TorrentContext,
    TorrentPlugin, hooks,
};
use pilotfish_tests::sim::Content;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::Told;

/// Things that happen in a run.
const STEPS: u64 = 300;
/// Peers at a time.
const PEERS: usize = 6;
/// More than this never waits to be sent to a peer that reads nothing, in bytes.
const MOST_WAITING: u64 = 2 << 20;

/// An engine with one torrent, and peers who have said both their handshakes.
struct Stage {
    rng: StdRng,
    engine: Engine,
    now: Instant,
    content: Content,
    peers: Vec<Peer>,
    callers: u16,
}

struct Peer {
    handle: PeerHandle,
    /// Our ids of ut_pex and ut_metadata, once it is known.
    ids: Vec<u8>,
    /// It takes what is sent to it.
    reads: bool,
    sent: Vec<u8>,
}

/// Sees to it that the extensions do not grow.
struct Watch;

#[hooks]
impl TorrentPlugin for Watch {
    fn new_connection(&mut self, _: &mut TorrentContext<'_>, _: PeerHandle, _: Attach) -> Option<PeerBox> {
        Some(PeerBox::new(Self))
    }
}

#[hooks]
impl PeerPlugin for Watch {
    fn tick(&mut self, cx: &mut PeerContext<'_>) {
        let waiting = cx.this().send_queue_len();
        assert!(waiting <= MOST_WAITING, "{waiting} bytes wait to be sent");
    }
}

/// One run with messages of ut_pex for the most part.
pub(crate) fn pex(seed: u64) -> Told {
    run(seed, 0.9)
}

/// One run with messages of ut_metadata for the most part.
pub(crate) fn metadata(seed: u64) -> Told {
    run(seed, 0.1)
}

fn run(seed: u64, pex: f64) -> Told {
    let mut stage = Stage::new(seed);
    for _ in 0..STEPS {
        stage.step(pex);
    }
    stage.end();
    Told { steps: STEPS, hooks: 0 }
}

impl Stage {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Its metadata takes three blocks.
        let content = match rng.random_range(0..3) {
            0 => Content::private(seed, 40_000, 16_384),
            1 => Content::random(seed, 40_000, 16_384),
            _ => Content::folder(seed, &[50; 700], 16_384),
        };
        let now = Instant::now();
        let settings = Settings {
            alert_mask: AlertCategory::ALL,
            // Whom they tell of is nobody.
            connection_speed: 0,
            max_pex_peers: rng.random_range(0..60),
            ..Settings::default()
        };
        let config = EngineConfig {
            settings,
            seed,
            unix_time: 1_700_000_000,
            dht_state: None,
            waker: Arc::new(|| {}),
        };
        let mut stage =
            Self { engine: Engine::new(config, now), rng, now, content, peers: Vec::new(), callers: 0 };
        let watch = TorrentExtension::new("watch", |_, _, _| Some(TorrentBox::new(Watch)));
        for (i, extension) in (1..).zip(default_extensions().into_iter().chain([watch])) {
            let plugin = PluginSource::torrent_factory(extension);
            stage.handle(Input::Command(Command::AddPlugin(Ticket(i), plugin)));
        }
        let torrent = match stage.rng.random() {
            true => AddTorrent::new(Magnet::new(*stage.content.metainfo.info_hashes())),
            false => AddTorrent::new(stage.content.metainfo.clone()),
        };
        stage.handle(Input::Command(Command::AddTorrent(Ticket(9), Box::new(torrent))));
        stage
    }

    fn handle(&mut self, input: Input) {
        self.engine.handle(input, self.now);
        self.settle();
    }

    /// Does what the engine wants done.
    fn settle(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Transmit(peer) => self.transmit(peer),
                Output::Close(handle) => self.peers.retain(|peer| peer.handle != handle),
                Output::Disk(job) => {
                    if let Some(done) = answer(job) {
                        self.engine.handle(Input::Disk(done), self.now);
                    }
                }
                _ => {}
            }
        }
        while let Some(alert) = self.engine.poll_alert() {
            let panicked = matches!(alert.kind, AlertKind::PluginPanicked { .. });
            assert!(!panicked, "{}", alert.kind.message());
        }
    }

    fn transmit(&mut self, handle: PeerHandle) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.handle == handle) else { return };
        loop {
            let mut slices = Vec::new();
            self.engine.transmit(handle, &mut slices);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            if bytes.is_empty() || !peer.reads {
                return;
            }
            let len = bytes.len();
            peer.sent.extend(bytes);
            self.engine.handle(Input::Written { peer: handle, len }, self.now);
        }
    }

    fn say(&mut self, peer: PeerHandle, mut bytes: &[u8]) {
        let mut scratch = vec![0; 64 << 10];
        while !bytes.is_empty() && self.peers.iter().any(|other| other.handle == peer) {
            let Some(mut targets) = self.engine.receive_buffers(peer, &mut scratch) else { return };
            let mut len = 0;
            for target in &mut targets {
                let (part, rest) = bytes.split_at(target.len().min(bytes.len()));
                target[..part.len()].copy_from_slice(part);
                (bytes, len) = (rest, len + part.len());
            }
            self.engine.received(peer, len, &scratch, self.now);
            self.settle();
        }
    }

    fn tell(&mut self, peer: PeerHandle, id: u8, payload: Vec<u8>) {
        let mut bytes = Vec::new();
        Message::Extended { id, payload: payload.into() }.encode(&mut bytes);
        self.say(peer, &bytes);
    }

    /// Somebody calls, and says both handshakes.
    fn call(&mut self) {
        self.callers += 1;
        let [high, low] = self.callers.to_be_bytes();
        let first = if self.rng.random() { 10 } else { 80 };
        let (remote, local) = (([first, 1, high, low], 6881).into(), ([10, 0, 0, 1], 6881).into());
        let Some(handle) = self.engine.accept(remote, local, Transport::Tcp, self.now) else { return };
        let reads = self.rng.random_bool(0.7);
        self.peers.push(Peer { handle, ids: Vec::new(), reads, sent: Vec::new() });
        let reserved = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0x04]);
        let info_hash = self.content.metainfo.info_hashes().truncated();
        let mut peer_id = [0; 20];
        self.rng.fill_bytes(&mut peer_id);
        self.say(handle, &Handshake { reserved, info_hash, peer_id }.encode());
        self.shake(handle);
    }

    /// An extended handshake; it may come again.
    fn shake(&mut self, peer: PeerHandle) {
        let right = self.content.metainfo.info_bytes().len() as i64;
        let size = [right, right, right + 1, 0, -1, i64::MAX, 1, 31_457_280];
        let size = size[self.rng.random_range(0..size.len())];
        let ids: [u8; 2] = std::array::from_fn(|_| self.rng.random_range(0..4));
        let handshake =
            format!("d1:md11:ut_metadatai{}e6:ut_pexi{}ee13:metadata_sizei{size}ee", ids[0], ids[1]);
        let mut handshake = handshake.into_bytes();
        self.damage(&mut handshake, 0.05);
        self.tell(peer, 0, handshake);
        let Some(peer) = self.peers.iter_mut().find(|other| other.handle == peer) else { return };
        let found = peer.sent.windows(3).position(|window| window == b"1:m").map(|at| at + 3);
        let names = found.and_then(|at| Dict::parse(&peer.sent[at..]));
        let id = |name: &str| u8::try_from(names.as_ref()?.0.int(name)?).ok();
        peer.ids = ["ut_pex", "ut_metadata"].iter().map(|name| id(name).unwrap_or(10)).collect();
    }

    fn step(&mut self, pex: f64) {
        if self.peers.len() < PEERS && self.rng.random_bool(0.3) {
            return self.call();
        }
        let Some(at) = (!self.peers.is_empty()).then(|| self.rng.random_range(0..self.peers.len())) else {
            return;
        };
        let (peer, ids) = (self.peers[at].handle, self.peers[at].ids.clone());
        match self.rng.random_range(0..20) {
            0 => self.shake(peer),
            1..=5 => {
                let seconds = self.rng.random_range(0..40);
                self.pass(Duration::from_secs(seconds));
            }
            _ => {
                let is_pex = self.rng.random_bool(pex);
                let mut message = if is_pex { self.pex_message() } else { self.metadata_message() };
                self.damage(&mut message, 0.3);
                let id = ids.get(usize::from(!is_pex)).copied().unwrap_or(10);
                self.tell(peer, id, message);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.handle(Input::Timeout);
        }
        self.now = end;
    }

    fn pex_message(&mut self) -> Vec<u8> {
        let mut message = b"d".to_vec();
        for (key, size) in
            [("added", 6), ("added.f", 1), ("added6", 18), ("added6.f", 1), ("dropped", 6), ("dropped6", 18)]
        {
            if self.rng.random_bool(0.2) {
                continue;
            }
            let count = match self.rng.random_range(0..30) {
                0 => self.rng.random_range(0..20_000),
                1..=5 => self.rng.random_range(0..200),
                _ => 5,
            };
            let odd = usize::from(self.rng.random_bool(0.1));
            let mut bytes = vec![0; count * size + odd];
            // Few addresses, so that some come twice, and go.
            bytes.iter_mut().for_each(|byte| *byte = self.rng.random_range(0..8) * 29);
            message.extend(format!("{}:{key}{}:", key.len(), bytes.len()).bytes());
            message.extend(bytes);
        }
        message.push(b'e');
        message
    }

    fn metadata_message(&mut self) -> Vec<u8> {
        let info = self.content.metainfo.info_bytes();
        let kind = self.rng.random_range(-1..5);
        let piece = match self.rng.random_range(0..10) {
            0 => self.rng.random(),
            1 => -1,
            _ => self.rng.random_range(0..4_i64),
        };
        let total = info.len() as i64 + i64::from(self.rng.random_bool(0.2));
        let mut message = format!("d8:msg_typei{kind}e5:piecei{piece}e10:total_sizei{total}ee").into_bytes();
        if kind == 1 {
            let block = info.chunks(16_384).nth(usize::try_from(piece).unwrap_or(usize::MAX));
            let mut block = block.unwrap_or_default().to_vec();
            if self.rng.random_bool(0.2) {
                let len = self.rng.random_range(0..40_000);
                block.resize(len, 7);
            }
            message.extend(block);
        }
        message
    }

    /// Changes, cuts or lengthens bytes, now and then.
    fn damage(&mut self, bytes: &mut Vec<u8>, often: f64) {
        if bytes.is_empty() || !self.rng.random_bool(often) {
            return;
        }
        match self.rng.random_range(0..3) {
            0 => bytes.truncate(self.rng.random_range(0..bytes.len())),
            1 => {
                let more = self.rng.random_range(1..600_000);
                bytes.resize(bytes.len() + more, b'1');
            }
            _ => {
                let (at, value) = (self.rng.random_range(0..bytes.len().min(80)), self.rng.random());
                bytes[at] = value;
            }
        }
    }

    /// The session ends, and nothing is left of it.
    fn end(mut self) {
        self.handle(Input::Command(Command::Shutdown));
        self.pass(Duration::from_secs(5));
        assert_eq!((self.engine.blocks_in_use(), self.peers.len()), (0, 0));
    }
}

/// A disk on which nothing is.
fn answer(job: DiskJob) -> Option<DiskDone> {
    Some(match job {
        DiskJob::Open { storage, .. } => DiskDone::Opened { storage, existing: Ok(false) },
        DiskJob::Metadata { storage, info, info_hashes } => {
            DiskDone::Metadata { storage, metainfo: MetadataError::check(info, &info_hashes).map(Box::new) }
        }
        DiskJob::Close { storage, .. } => DiskDone::Closed { storage },
        _ => return None,
    })
}
