//! A tour of everything that can happen to a session, without a socket or a file: one engine, peers that follow a script, a
//! disk that is a function, and a clock that is turned by hand.
//!
//! The session has two torrents: one that it has and serves, and one that it lacks and downloads; and a magnet link to a third,
//! whose metadata a plugin of the tour's own hands in. A peer that is gone, since a
//! plugin failed on its connection, hears nothing more of the script, and the tour goes on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pilotfish::alert::{Alert, AlertKind};
use pilotfish::command::PluginSource;
use pilotfish::command::{AddTorrent, Answer, Command, Ticket};
use pilotfish::engine::{Engine, EngineConfig, Input, Output};
use pilotfish::metainfo::{CreateOptions, Creator, Magnet, Metainfo};
use pilotfish::peer::mse::{self, Methods, Terms};
use pilotfish::peer::{LT_DONTHAVE, Transport};
use pilotfish::plugins::PluginLibrary;
use pilotfish::settings::Settings;
use pilotfish::wire::{Handshake, Message, RawRequest, Reserved};
use pilotfish_plugin::{
    AlertCategory, PeerHandle, PeerSource, SessionBox, SessionContext, SessionPlugin, TorrentHandle, hooks,
};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::disk::Disk;
use crate::remote::Remote;

/// Bytes of each torrent, and of each of its pieces: two blocks.
const TOTAL: usize = 16 * PIECE as usize;
const PIECE: u32 = 32_768;
const BLOCK: u32 = 16_384;
/// The session gets so much time for its end, in seconds.
const END: u64 = 10;

/// What a tour left behind.
#[derive(Debug)]
pub(crate) struct Report {
    /// Everything that the embedding program was told.
    pub(crate) alerts: Vec<AlertKind>,
    /// What plugins kept, by name.
    pub(crate) states: BTreeMap<String, Vec<u8>>,
    /// Whether the session came to its end.
    pub(crate) stopped: bool,
    /// Whether every extension handshake named what the session itself can do.
    pub(crate) handshakes_whole: bool,
    /// Blocks in memory at the end.
    pub(crate) blocks_in_use: usize,
}

impl Report {
    /// The lines that a plugin wrote, in order.
    pub(crate) fn log(&self, name: &str) -> Vec<&str> {
        let lines = self.alerts.iter().filter_map(|alert| match alert {
            AlertKind::Log { plugin, text, .. } if plugin == name => Some(text.as_str()),
            _ => None,
        });
        lines.collect()
    }

    /// The torrents that were complete at some time.
    pub(crate) fn finished(&self) -> BTreeSet<&str> {
        let finished = self.alerts.iter().filter_map(|alert| match alert {
            AlertKind::TorrentFinished { name, .. } => Some(name.as_str()),
            _ => None,
        });
        finished.collect()
    }
}

/// A plugin of the tour. It has kept something from an earlier one.
pub(crate) struct Guest(PluginSource);

impl Guest {
    /// A plugin from a library, and its settings.
    pub(crate) fn new(library: &PluginLibrary, settings: &[(&str, &str)]) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let settings: BTreeMap<String, String> = settings.iter().map(owned).collect();
        let library = library.clone();
        Self::with_state(PluginSource {
            name: library.id.clone(),
            take_panic: library.module.take_panic(),
            open: Box::new(move |cx| library.open(cx, &settings).map_err(|error| error.to_string())),
            saved_state: None,
        })
    }

    /// A plugin that is linked in.
    pub(crate) fn linked(
        name: &str,
        open: impl FnOnce(&mut SessionContext<'_>) -> Result<SessionBox, String> + Send + 'static,
    ) -> Self {
        Self::with_state(PluginSource::linked(name, open))
    }

    fn with_state(source: PluginSource) -> Self {
        Self(PluginSource { saved_state: Some(b"d4:kepti1ee".to_vec()), ..source })
    }
}

/// The tour's own plugin waits so long, in seconds.
const GUIDE_WAITS: u64 = 3;

/// Knows the metadata of the torrent that begins with a link.
struct Guide {
    metadata: Bytes,
    ticks: u64,
}

#[hooks]
impl SessionPlugin for Guide {
    fn on_tick(&mut self, cx: &mut SessionContext<'_>) {
        self.ticks += 1;
        for torrent in cx.session().torrents() {
            let missing = cx.torrent(torrent).filter(|torrent| !torrent.has_metadata());
            if let Some(torrent) = missing.filter(|_| self.ticks >= GUIDE_WAITS) {
                torrent.set_metadata(&self.metadata);
            }
        }
    }
}

/// The peer that the script calls by this number.
pub(crate) fn peer_address(number: u8) -> IpAddr {
    [10, 0, 0, number].into()
}

/// Takes the whole tour with these plugins.
///
/// # Errors
/// A plugin cannot be opened.
pub(crate) fn take(guests: Vec<Guest>) -> Result<Report, String> {
    let mut tour = Tour::new();
    for guest in guests {
        tour.engine.add_plugin(guest.0)?;
        tour.settle();
    }
    tour.link();
    tour.serve();
    tour.ask();
    tour.download();
    tour.command();
    tour.end();
    let blocks_in_use = tour.engine.blocks_in_use();
    let Tour { alerts, states, stopped, handshakes_whole, .. } = tour;
    Ok(Report { alerts, states, stopped, handshakes_whole, blocks_in_use })
}

struct Tour {
    engine: Engine,
    now: Instant,
    woken: Arc<AtomicBool>,
    disk: Disk,
    remotes: HashMap<PeerHandle, Remote>,
    connecting: Vec<(PeerHandle, SocketAddr)>,
    alerts: Vec<AlertKind>,
    states: BTreeMap<String, Vec<u8>>,
    added: Vec<TorrentHandle>,
    stopped: bool,
    handshakes_whole: bool,
    had: Metainfo,
    lacked: Metainfo,
}

impl Tour {
    fn new() -> Self {
        let now = Instant::now();
        let woken = Arc::new(AtomicBool::new(false));
        let wake = woken.clone();
        let settings = Settings {
            alert_mask: AlertCategory::ALL,
            alert_queue_size: 100_000,
            unchoke_slots_limit: 2,
            num_optimistic_unchoke_slots: 1,
            suggest_mode: 1,
            ..Settings::default()
        };
        let waker = Arc::new(move || wake.store(true, Ordering::Release));
        let config = EngineConfig { settings, seed: 1, unix_time: 1_700_000_000, dht_state: None, waker };
        let (had, lacked) = (torrent("had"), torrent("lacked"));
        let mut disk = Disk::default();
        disk.put("had", content(), true);
        disk.put("lacked", content(), false);
        disk.put("linked", content(), false);
        let mut tour = Self {
            engine: Engine::new(config, now),
            now,
            woken,
            disk,
            remotes: HashMap::new(),
            connecting: Vec::new(),
            alerts: Vec::new(),
            states: BTreeMap::new(),
            added: Vec::new(),
            stopped: false,
            handshakes_whole: true,
            had,
            lacked,
        };
        tour.settle();
        tour
    }

    /// A link; its metadata comes when everybody else has had time to hand in a wrong one.
    fn link(&mut self) {
        let linked = torrent("linked");
        let guide = Guide { metadata: linked.info_bytes().clone(), ticks: 0 };
        let source = PluginSource::linked("guide", move |_| Ok(SessionBox::new(guide)));
        self.engine.add_plugin(source).unwrap();
        let link = Magnet::new(*linked.info_hashes());
        self.tell(Command::AddTorrent(Ticket(4), Box::new(AddTorrent::new(link))));
        self.pass(GUIDE_WAITS + 1);
    }

    /// The torrent that is there: leechers come and are served in turns.
    fn serve(&mut self) {
        self.tell(Command::AddTorrent(Ticket(1), Box::new(AddTorrent::new(self.had.clone()))));
        let fast = self.incoming(11, &self.had.clone(), Reserved::FAST | Reserved::EXTENSIONS);
        self.say(fast, &[Message::HaveNone, Message::Interested]);
        self.say(fast, &(0..16).map(|piece| Message::Request(request(piece, 0))).collect::<Vec<_>>());
        let plain = self.incoming(12, &self.had.clone(), Reserved::default());
        self.say(plain, &[Message::Bitfield(Bytes::from_static(&[0x80, 0])), Message::Interested]);
        let third = self.incoming(13, &self.had.clone(), Reserved::FAST);
        self.say(third, &[Message::HaveNone, Message::Interested]);
        // Both slots are taken: most of these are refused.
        self.say(third, &(0..16).map(|piece| Message::Request(request(piece, 0))).collect::<Vec<_>>());
        self.pass(20);
        for peer in [fast, plain, third] {
            self.say(
                peer,
                &[Message::Request(request(1, 0)), Message::Cancel(request(2, 0)), Message::Have(1)],
            );
        }
        self.extended(fast);
        // The slots go round.
        for _ in 0..4 {
            self.pass(20);
            for peer in [fast, plain, third] {
                self.say(peer, &[Message::KeepAlive, Message::Request(request(3, BLOCK))]);
            }
        }
        self.say(fast, &[Message::NotInterested, Message::Choke]);
        self.encrypted(14, &self.had.clone());
        self.say(third, &[Message::Unknown { id: 99, payload: Bytes::from_static(b"what?") }]);
        // Who says nothing for two minutes is asked to leave.
        self.pass(130);
    }

    /// A node of the DHT asks us something.
    fn ask(&mut self) {
        self.handle(Input::Listening(SocketAddr::new(peer_address(100), 6881)));
        let from = SocketAddr::new(peer_address(41), 6881);
        let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
        self.engine.datagram(from, ping, self.now);
        self.settle();
    }

    /// The torrent that is not there: seeds with every kind of fault.
    fn download(&mut self) {
        self.tell(Command::AddTorrent(Ticket(2), Box::new(AddTorrent::new(self.lacked.clone()))));
        self.download_badly();
        let Some(torrent) = self.added.last().copied() else { return };
        let address = SocketAddr::new(peer_address(1), 6881);
        self.tell(Command::ConnectPeer { torrent, address, source: PeerSource::TRACKER });
        let seed = self.outgoing(address, &self.lacked.clone());
        let slow = self.incoming(3, &self.lacked.clone(), Reserved::FAST | Reserved::EXTENSIONS);
        self.say(seed, &[Message::HaveAll, Message::AllowedFast(1), Message::Suggest(2)]);
        let pieces = Bytes::from_static(&[0xff, 0x7f]);
        self.say(slow, &[Message::Bitfield(pieces), Message::Have(8)]);
        self.extended(slow);
        let payload = Bytes::copy_from_slice(&0u32.to_be_bytes());
        self.say(slow, &[Message::Extended { id: LT_DONTHAVE, payload }, Message::Unchoke]);
        self.say(seed, &[Message::Unchoke]);
        if let Some(request) = self.asked(seed) {
            self.say(seed, &[Message::Reject(request)]);
        }
        // The slow one is asked for what is left, and then the fast one has sent it.
        for _ in 0..200 {
            match self.asked(seed) {
                Some(request) => self.send_block(seed, request, 0),
                None => self.pass(1),
            }
        }
    }

    /// A seed without the fast extension, which sends a piece that is wrong.
    fn download_badly(&mut self) {
        let bad = self.incoming(2, &self.lacked.clone(), Reserved::EXTENSIONS);
        self.say(bad, &[Message::Bitfield(Bytes::from_static(&[0xff, 0xff])), Message::Unchoke]);
        self.say(bad, &[Message::Choke, Message::Unchoke]);
        for _ in 0..64 {
            match self.asked(bad) {
                Some(request) => self.send_block(bad, request, 1),
                None => self.pass(1),
            }
        }
    }

    /// What only the embedding program does, and a peer that asks for a torrent that nobody has.
    fn command(&mut self) {
        for torrent in self.added.clone() {
            self.tell(Command::PauseTorrent(torrent));
            self.tell(Command::ResumeTorrent(torrent));
            self.tell(Command::Recheck(torrent));
        }
        self.tell(Command::SaveState(Ticket(3)));
        let unknown = torrent("unknown");
        self.incoming(21, &unknown, Reserved::FAST);
        if let Some(torrent) = self.added.first().copied() {
            self.tell(Command::RemoveTorrent { torrent, delete_files: false });
        }
    }

    fn end(&mut self) {
        self.tell(Command::Shutdown);
        self.pass(END);
    }

    /// An extension handshake, and a message under the number that the session gave to a plugin's extension.
    fn extended(&mut self, peer: PeerHandle) {
        let handshake = Bytes::from_static(b"d1:md7:fixturei9eee");
        self.say(peer, &[Message::Extended { id: 0, payload: handshake }]);
        let id = self.remotes.get(&peer).and_then(|remote| remote.extensions.get("fixture").copied());
        self.say(peer, &[Message::Extended { id: id.unwrap_or(200), payload: Bytes::from_static(b"hello") }]);
    }

    fn send_block(&mut self, peer: PeerHandle, asked: RawRequest, wrong: u8) {
        let from = asked.piece as usize * PIECE as usize + asked.start as usize;
        let mut data = content()[from..from + asked.length as usize].to_vec();
        data[0] = data[0].wrapping_add(wrong);
        self.say(peer, &[Message::Piece { piece: asked.piece, start: asked.start, data: data.into() }]);
    }

    /// The oldest request to this peer that has not been answered.
    fn asked(&mut self, peer: PeerHandle) -> Option<RawRequest> {
        self.remotes.get_mut(&peer)?.requests.pop_front()
    }

    /// A peer connects, and says its handshake.
    fn incoming(&mut self, number: u8, torrent: &Metainfo, reserved: Reserved) -> PeerHandle {
        let (remote, local) =
            (SocketAddr::new(peer_address(number), 40_000), SocketAddr::new(peer_address(100), 6881));
        let Some(peer) = self.engine.accept(remote, local, Transport::Tcp, self.now) else {
            return PeerHandle::INVALID;
        };
        self.remotes.insert(peer, Remote::default());
        self.settle();
        self.shake_hands(peer, number, torrent, reserved);
        peer
    }

    /// A peer connects that begins with the encryption handshake, and says its handshake along with that.
    fn encrypted(&mut self, number: u8, torrent: &Metainfo) {
        let (remote, local) =
            (SocketAddr::new(peer_address(number), 40_000), SocketAddr::new(peer_address(100), 6881));
        let Some(peer) = self.engine.accept(remote, local, Transport::Tcp, self.now) else { return };
        self.remotes.insert(peer, Remote::encrypting());
        let (info_hash, peer_id) = (torrent.info_hashes().truncated(), [number; 20]);
        let hello = Handshake { reserved: Reserved::FAST, info_hash, peer_id }.encode().to_vec();
        let terms = Terms { allowed: Methods::RC4, prefer_rc4: true };
        let (mut rng, mut out) = (StdRng::seed_from_u64(1), Vec::new());
        let mut handshake = mse::Handshake::initiate(info_hash, terms, hello, &mut rng, &mut out);
        self.receive(peer, &std::mem::take(&mut out));
        let key = self.remotes.get(&peer).map(|remote| remote.inbox.clone()).unwrap_or_default();
        assert!(handshake.receive(&key, |_| None, &mut rng, &mut out).unwrap().is_none());
        self.receive(peer, &out);
    }

    /// The session connects to a peer, which then says its handshake.
    fn outgoing(&mut self, address: SocketAddr, torrent: &Metainfo) -> PeerHandle {
        let Some(place) = self.connecting.iter().position(|(_, to)| *to == address) else {
            return PeerHandle::INVALID;
        };
        let (peer, _) = self.connecting.remove(place);
        self.remotes.insert(peer, Remote::default());
        self.handle(Input::Connected {
            peer,
            local: SocketAddr::new(peer_address(100), 50_000),
            transport: Transport::Tcp,
        });
        self.shake_hands(peer, 1, torrent, Reserved::FAST | Reserved::EXTENSIONS);
        self.extended(peer);
        peer
    }

    fn shake_hands(&mut self, peer: PeerHandle, number: u8, torrent: &Metainfo, reserved: Reserved) {
        let mut peer_id = *b"-TT0001-............";
        peer_id[19] = number;
        let handshake = Handshake { reserved, info_hash: torrent.info_hashes().truncated(), peer_id };
        self.receive(peer, &handshake.encode());
    }

    fn say(&mut self, peer: PeerHandle, messages: &[Message]) {
        for message in messages {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            self.receive(peer, &bytes);
        }
    }

    /// Bytes come from a peer, as far as it is still there.
    fn receive(&mut self, peer: PeerHandle, mut bytes: &[u8]) {
        let mut scratch = [0; 4096];
        while !bytes.is_empty() && self.remotes.contains_key(&peer) {
            let Some(targets) = self.engine.receive_buffers(peer, &mut scratch) else { break };
            let mut taken = 0;
            for mut target in targets {
                let part = target.len().min(bytes.len());
                target[..part].copy_from_slice(&bytes[..part]);
                bytes = &bytes[part..];
                taken += part;
            }
            assert!(taken > 0, "the engine offers no room");
            self.engine.received(peer, taken, &scratch, self.now);
            self.settle();
        }
    }

    fn tell(&mut self, command: Command) {
        self.handle(Input::Command(command));
    }

    fn handle(&mut self, input: Input) {
        self.engine.handle(input, self.now);
        self.settle();
    }

    /// Turns the clock, and stops at each deadline on the way.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.handle(Input::Timeout);
        }
        self.now = end;
    }

    /// Does what the engine wants done, until it wants nothing more.
    fn settle(&mut self) {
        loop {
            if self.woken.swap(false, Ordering::AcqRel) {
                self.engine.handle(Input::Wake, self.now);
            }
            let Some(output) = self.engine.poll_output() else { break };
            match output {
                Output::Connect { peer, address, .. } => self.connecting.push((peer, address)),
                Output::Transmit(peer) => self.transmit(peer),
                Output::Read(_) => {}
                Output::Close(peer) => {
                    self.remotes.remove(&peer);
                    self.connecting.retain(|(other, _)| *other != peer);
                }
                Output::Disk(job) => {
                    for done in self.disk.carry_out(job) {
                        self.engine.handle(Input::Disk(done), self.now);
                    }
                }
                Output::Answer(_, Answer::Added(Ok(torrent))) => self.added.push(torrent),
                Output::Answer(_, Answer::State(states)) => self.states.extend(states),
                Output::Answer(..)
                | Output::Datagram { .. }
                | Output::LocalAnnouncement { .. }
                | Output::MapPorts(_)
                | Output::RelayedDatagram { .. }
                | Output::Resolve { .. } => {}
                Output::Fetch { .. } | Output::CancelFetch(_) => {}
                Output::Stopped => self.stopped = true,
            }
        }
        self.alerts.extend(std::iter::from_fn(|| self.engine.poll_alert()).map(|alert: Alert| alert.kind));
    }

    fn transmit(&mut self, peer: PeerHandle) {
        loop {
            let mut slices = Vec::new();
            self.engine.transmit(peer, &mut slices);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            drop(slices);
            if bytes.is_empty() {
                return;
            }
            if let Some(remote) = self.remotes.get_mut(&peer) {
                remote.hear(&bytes);
                self.handshakes_whole &= !remote.deprived;
            }
            self.engine.handle(Input::Written { peer, len: bytes.len() }, self.now);
        }
    }
}

fn request(piece: u32, start: u32) -> RawRequest {
    RawRequest { piece, start, length: BLOCK }
}

/// The bytes of every torrent.
fn content() -> &'static [u8] {
    static CONTENT: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..TOTAL).map(|i| (i * 31 + i / 251) as u8).collect());
    &CONTENT
}

fn torrent(name: &str) -> Metainfo {
    let options = CreateOptions { piece_length: Some(PIECE), ..CreateOptions::default() };
    let mut creator = Creator::file(name, TOTAL as u64, false, options).unwrap();
    creator.update(content()).unwrap();
    Metainfo::parse(&creator.finish().unwrap()).unwrap()
}
