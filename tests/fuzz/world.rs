//! Random peers, a random disk, random commands and three plugins that do anything they may at any time, against one engine.
//!
//! In each run, which is on virtual time, there is chaos for a while; then plugins and disk calm down, honest seeds come, and
//! every torrent must become complete; then the session ends, and nothing may be left of it.

mod ending;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use pilotfish::command::{
    AddTorrent, Answer, Command, PluginSource, SaveResumeFlags, Ticket, TorrentExtension, TorrentStatus,
};
use pilotfish::engine::{Engine, EngineConfig, Input, Output, SocketOperation};
use pilotfish::peer::{Transport, as_piece};
use pilotfish::settings::Settings;
use pilotfish_plugin::{AlertCategory, PeerHandle, PeerSource, PieceIndex, TorrentBox, TorrentHandle};
use pilotfish_tests::sim::{Content, Disk, Outcome, Visit};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Told;
use crate::chatty::{Chatty, Shared};
use crate::mischief;
use crate::remote::Remote;
use crate::tracker::Trackers;

/// Steps of chaos in a run.
const STEPS: std::ops::Range<usize> = 100..1_500;
/// A peer that is honest is asked for everything within so much time.
const CALM: Duration = Duration::from_secs(1_800);

pub(crate) struct World {
    rng: StdRng,
    engine: Engine,
    shared: Arc<Shared>,
    epoch: Instant,
    now: Instant,
    woken: Arc<AtomicBool>,
    disk: Disk,
    /// What the disk is going to do.
    visits: BTreeMap<(Instant, u64), Visit>,
    links: BTreeMap<u64, Link>,
    /// Attempts to connect that have not succeeded or failed yet.
    connecting: Vec<PeerHandle>,
    /// Connections that are closed.
    closed: Vec<PeerHandle>,
    torrents: Vec<TorrentHandle>,
    status: Option<TorrentStatus>,
    stopped: bool,
    numbers: u64,
    /// Connections in the chaos.
    most: usize,
    rested: bool,
    trackers: Trackers,
    /// How often plugins do something in every hook.
    storms: f64,
}

struct Link {
    /// `None` while connecting.
    remote: Option<Remote>,
    /// The engine has something to send.
    dirty: bool,
}

fn contents() -> &'static [Content] {
    static CONTENTS: LazyLock<Vec<Content>> = LazyLock::new(|| {
        let folder = Content::folder(1, &[100_000, 0, 77_777], 32_768);
        let trackers: &[&[&str]] =
            &[&["http://a/announce", "udp://b:80/announce"], &["udp://c:80", "http://d/x"]];
        vec![
            folder,
            Content::tracked(2, 300_000, 65_536, trackers),
            Content::tracked(3, 20_000, 16_384, trackers),
        ]
    });
    &CONTENTS
}

/// A torrent file with nothing but the info dictionary.
fn file(content: &Content) -> Vec<u8> {
    [b"d4:info", content.metainfo.info_bytes().as_ref(), b"e"].concat()
}

impl World {
    /// Chaos, calm, and the end.
    pub(crate) fn run(seed: u64) -> Told {
        let mut world = Self::new(seed);
        let steps = world.rng.random_range(STEPS);
        for _ in 0..steps {
            world.step();
        }
        if world.rng.random_bool(0.7) {
            world.calm_down();
        }
        let shared = world.shared.clone();
        world.end();
        Told { steps: steps as u64, hooks: shared.hooks.load(Ordering::Relaxed) }
    }

    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let files = contents().iter().map(file).collect();
        let shared = Shared::new(rng.random(), files);
        let mut settings = Settings { alert_mask: AlertCategory::ALL, ..Settings::default() };
        if rng.random() {
            settings.max_queued_disk_bytes = 65_536;
        }
        let (now, woken) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let flag = woken.clone();
        let waker = Arc::new(move || flag.store(true, Ordering::Release));
        let engine = Engine::new(
            EngineConfig { settings, seed, unix_time: 1_700_000_000, dht_state: None, waker },
            now,
        );
        let mut disk = Disk::new(engine.block_pool());
        if rng.random() {
            disk.put(".", &contents()[0]);
        }
        let most = rng.random_range(3..30);
        let mut world = Self {
            rng,
            engine,
            shared,
            epoch: now,
            now,
            woken,
            disk,
            visits: BTreeMap::new(),
            links: BTreeMap::new(),
            connecting: Vec::new(),
            closed: Vec::new(),
            torrents: Vec::new(),
            status: None,
            stopped: false,
            numbers: 0,
            most,
            rested: false,
            trackers: Trackers::default(),
            storms: 0.002,
        };
        for name in ["first", "second", "third"] {
            world.add_plugin(name);
        }
        world.handle(Input::Listening(local()));
        contents().iter().for_each(|content| world.add(content));
        world
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn add_plugin(&mut self, name: &str) {
        let shared = self.shared.clone();
        let plugin = PluginSource::linked(name, move |cx| Ok(Chatty::open(&shared, cx)));
        let plugin = PluginSource { saved_state: Some(b"d4:kepti1ee".to_vec()), ..plugin };
        let ticket = Ticket(self.number());
        self.command(Command::AddPlugin(ticket, plugin));
    }

    fn add(&mut self, content: &Content) {
        let ticket = Ticket(self.number());
        let asked = AddTorrent::new(content.metainfo.clone());
        self.command(Command::AddTorrent(ticket, Box::new(asked)));
    }

    fn command(&mut self, command: Command) {
        self.handle(Input::Command(command));
    }

    fn handle(&mut self, input: Input) {
        self.refill();
        self.engine.handle(input, self.now);
        self.settle();
    }

    /// Lets plugins do something again.
    fn refill(&mut self) {
        let storm = self.rng.random_bool(self.storms);
        self.shared.storm.store(storm, Ordering::Relaxed);
        self.shared.budget.store(if storm { 2_000 } else { 6 }, Ordering::Relaxed);
    }

    /// One thing happens.
    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..=34 => self.deliver(),
            35..=59 => self.chat(),
            60..=69 => self.drain(),
            70..=79 => {
                let ms = match self.rng.random_range(0..20) {
                    0 => self.rng.random_range(1_000..90_000),
                    1..=5 => 1_000,
                    _ => self.rng.random_range(0..60),
                };
                self.pass(Duration::from_millis(ms));
            }
            80..=86 => self.incoming(),
            87..=90 => self.random_command(),
            91 | 92 => self.resolve(),
            93 => self.answer_tracker(),
            94 | 95 => self.break_link(),
            96 | 97 => self.vex_disk(),
            _ => self.bogus(),
        }
    }

    /// Some link, if there is any.
    fn some_link(&mut self) -> Option<PeerHandle> {
        let at = self.rng.random_range(0..self.links.len().max(1));
        self.links.keys().nth(at).map(|raw| PeerHandle::from_raw(*raw))
    }

    fn remote(&mut self, peer: PeerHandle) -> Option<&mut Remote> {
        self.links.get_mut(&peer.into_raw())?.remote.as_mut()
    }

    /// Some bytes of a peer arrive.
    fn deliver(&mut self) {
        let Some(peer) = self.some_link() else { return };
        self.deliver_from(peer);
    }

    fn deliver_from(&mut self, peer: PeerHandle) {
        if !self.engine.wants_read(peer) {
            return;
        }
        let most = if self.rng.random_bool(0.3) { self.rng.random_range(1..40) } else { 40_000 };
        let room = self.rng.random_range(1..8_000);
        let Some(remote) = self.remote(peer) else { return };
        let bytes = remote.says.drain(..most.min(remote.says.len())).collect::<Vec<_>>();
        let mut rest = bytes.as_slice();
        let mut scratch = vec![0; room];
        while !rest.is_empty() && self.links.contains_key(&peer.into_raw()) {
            let Some(targets) = self.engine.receive_buffers(peer, &mut scratch) else { return };
            let mut taken = 0;
            for mut target in targets {
                let part = target.len().min(rest.len());
                target[..part].copy_from_slice(&rest[..part]);
                rest = &rest[part..];
                taken += part;
            }
            assert!(taken > 0, "the engine offers no room");
            self.refill();
            self.engine.received(peer, taken, &scratch, self.now);
            self.settle();
        }
    }

    fn chat(&mut self) {
        let Some(peer) = self.some_link() else { return };
        if let Some(remote) = self.links.get_mut(&peer.into_raw()).and_then(|link| link.remote.as_mut())
            && !remote.is_honest()
        {
            (0..self.rng.random_range(1..8)).for_each(|_| remote.chat(&mut self.rng));
        }
    }

    /// A socket takes some bytes.
    fn drain(&mut self) {
        if let Some(peer) = self.some_link() {
            self.drain_some(peer);
        }
    }

    fn drain_some(&mut self, peer: PeerHandle) {
        let Some(link) = self.links.get_mut(&peer.into_raw()) else { return };
        let (true, Some(remote)) = (link.dirty, &mut link.remote) else { return };
        let mut slices = Vec::new();
        self.engine.transmit(peer, &mut slices);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        drop(slices);
        if bytes.is_empty() {
            link.dirty = false;
            return;
        }
        let part =
            if self.rng.random_bool(0.3) { self.rng.random_range(1..=bytes.len()) } else { bytes.len() };
        remote.hear(&bytes[..part]);
        self.handle(Input::Written { peer, len: part });
    }

    /// Time passes; what becomes due on the way happens.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut at_once = 0;
        loop {
            let disk = self.visits.keys().next().map(|(at, _)| *at);
            let timeout = self.engine.poll_timeout();
            let Some(next) = disk.into_iter().chain(timeout).min().filter(|next| *next <= end) else { break };
            // What a deadline causes may make another one due at the same moment, but not without end.
            at_once = if next > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 1_000, "a deadline stands still");
            self.now = self.now.max(next);
            if disk == Some(next) {
                let Some((_, visit)) = self.visits.pop_first() else { break };
                let outcome = self.disk.carry_out(visit, self.now - self.epoch);
                self.after_disk(outcome);
            } else {
                self.handle(Input::Timeout);
            }
        }
        self.now = end;
    }

    fn after_disk(&mut self, outcome: Outcome) {
        for visit in outcome.visits {
            let longest = if self.rng.random_bool(0.03) && !self.rested { 20_000 } else { 40 };
            let at = self.now + Duration::from_millis(self.rng.random_range(0..longest));
            let number = self.number();
            self.visits.insert((at, number), visit);
        }
        for answer in outcome.answers {
            self.handle(Input::Disk(answer));
        }
    }

    fn incoming(&mut self) {
        if self.links.len() >= self.most {
            return;
        }
        let content = &contents()[self.rng.random_range(0..contents().len())];
        let remote = match self.rng.random_bool(0.1) {
            true => Remote::honest(content, &mut self.rng),
            false => Remote::liar(content, &mut self.rng),
        };
        let address = mischief::address(self.rng.random_range(0..100));
        self.accept(address, remote);
    }

    fn accept(&mut self, address: SocketAddr, remote: Remote) {
        let Some(peer) = self.engine.accept(address, local(), Transport::Tcp, self.now) else { return };
        let link = Link { remote: Some(remote), dirty: false };
        assert!(self.links.insert(peer.into_raw(), link).is_none(), "a handle is used twice");
        self.settle();
    }

    /// An attempt to connect succeeds or fails.
    fn resolve(&mut self) {
        let Some(peer) = self.connecting.pop() else { return };
        let content = &contents()[self.rng.random_range(0..contents().len())];
        if self.rng.random_bool(0.3) {
            let error = Some(io::Error::from(io::ErrorKind::ConnectionRefused));
            return self.handle(Input::Failed { peer, operation: SocketOperation::Connect, error });
        }
        let remote = Remote::liar(content, &mut self.rng);
        if let Some(link) = self.links.get_mut(&peer.into_raw()) {
            link.remote = Some(remote);
        }
        self.handle(Input::Connected { peer, local: local(), transport: Transport::Tcp });
    }

    /// A tracker answers, or somebody in its name, or its name is looked up.
    fn answer_tracker(&mut self) {
        if let Some(input) = self.trackers.input(&mut self.rng) {
            self.handle(input);
        }
        if let Some((from, packet)) = self.trackers.packet(&mut self.rng) {
            self.refill();
            self.engine.datagram(from, &packet, self.now);
            self.settle();
        }
    }

    fn break_link(&mut self) {
        let Some(peer) = self.some_link().filter(|peer| !self.connecting.contains(peer)) else { return };
        let operation = if self.rng.random() { SocketOperation::Read } else { SocketOperation::Write };
        let error = self.rng.random_bool(0.5).then(|| io::Error::from_raw_os_error(104));
        self.handle(Input::Failed { peer, operation, error });
    }

    fn vex_disk(&mut self) {
        match self.rng.random_range(0..3) {
            0 => self.disk.failing_writes += 1,
            1 => self.disk.failing_reads += 1,
            _ => {
                self.disk.lies = (0..3).map(|_| self.rng.random_range(0..6)).collect::<BTreeSet<u32>>();
            }
        }
    }

    /// Something about what is gone, or never was.
    fn bogus(&mut self) {
        let peer = match self.rng.random_range(0..=self.closed.len()) {
            0 => PeerHandle::from_raw(self.rng.random()),
            at => self.closed[at - 1],
        };
        match self.rng.random_range(0..4) {
            0 => self.handle(Input::Written { peer, len: 10 }),
            1 => self.handle(Input::Connected { peer, local: local(), transport: Transport::Tcp }),
            2 => self.handle(Input::Failed { peer, operation: SocketOperation::Read, error: None }),
            _ => self.handle(Input::Wake),
        }
    }

    fn random_command(&mut self) {
        let torrent = match self.torrents.len() {
            0 => TorrentHandle::from_raw(self.rng.random()),
            n => self.torrents[self.rng.random_range(0..n)],
        };
        let ticket = Ticket(self.number());
        let command = match self.rng.random_range(0..17) {
            0 => {
                let content = &contents()[self.rng.random_range(0..contents().len())];
                let shared = self.shared.clone();
                let extension = TorrentExtension::new("fourth", move |_, _, _| {
                    Some(TorrentBox::new(Chatty::new(&shared)))
                });
                let extensions = vec![extension];
                let asked = AddTorrent { extensions, ..AddTorrent::new(content.metainfo.clone()) };
                Command::AddTorrent(ticket, Box::new(asked))
            }
            1 => {
                let delete_files = self.rng.random_bool(0.2);
                self.shared.deleted.fetch_or(delete_files, Ordering::Relaxed);
                Command::RemoveTorrent { torrent, delete_files }
            }
            2 if self.rng.random_bool(0.5) => Command::PauseTorrentGracefully(torrent),
            2 => Command::PauseTorrent(torrent),
            3 | 4 => Command::ResumeTorrent(torrent),
            5 => Command::Recheck(torrent),
            6..=8 => {
                let address = mischief::address(self.rng.random_range(0..100));
                Command::ConnectPeer { torrent, address, source: PeerSource::TRACKER }
            }
            9 => {
                let piece = PieceIndex(self.rng.random_range(-1..8));
                Command::SetPiecePriority { torrent, piece, priority: self.rng.random_range(0..=7) }
            }
            10 => Command::PauseSession(true),
            11 | 12 => Command::PauseSession(false),
            13 => {
                let shared = self.shared.clone();
                let extension = TorrentExtension::new("fifth", move |_, _, _| {
                    Some(TorrentBox::new(Chatty::new(&shared)))
                });
                Command::AddTorrentExtension(torrent, extension)
            }
            14 if self.rng.random_bool(0.2) => return self.add_plugin(&format!("plugin {}", ticket.0)),
            14 => Command::Status(ticket, torrent),
            15 => Command::SaveState(ticket),
            _ => Command::SaveResumeData(ticket, torrent, SaveResumeFlags(self.rng.random())),
        };
        self.command(command);
    }

    /// Does what the engine wants done.
    fn settle(&mut self) {
        let mut dirty = Vec::new();
        loop {
            if self.woken.swap(false, Ordering::AcqRel) {
                self.engine.handle(Input::Wake, self.now);
            }
            let Some(output) = self.engine.poll_output() else { break };
            self.carry_out(output, &mut dirty);
        }
        while self.engine.poll_alert().is_some() {}
        if self.rng.random_bool(0.7) {
            dirty.into_iter().for_each(|peer| self.drain_some(peer));
        }
    }

    fn carry_out(&mut self, output: Output, dirty: &mut Vec<PeerHandle>) {
        assert!(!self.stopped, "after its end the engine wants {output:?}");
        match output {
            Output::Connect { peer, .. } => {
                let fresh = Link { remote: None, dirty: false };
                assert!(self.links.insert(peer.into_raw(), fresh).is_none(), "a handle is used twice");
                self.connecting.push(peer);
            }
            Output::Transmit(peer) => {
                if let Some(link) = self.links.get_mut(&peer.into_raw()) {
                    link.dirty = true;
                    dirty.push(peer);
                }
            }
            Output::Read(_) => {}
            Output::Close(peer) => {
                // One that a plugin closed before it was tried was never open.
                self.links.remove(&peer.into_raw());
                assert!(!self.closed.contains(&peer), "a connection is closed twice");
                self.connecting.retain(|other| *other != peer);
                self.closed.push(peer);
            }
            Output::Disk(job) => {
                let outcome = self.disk.submit(job);
                self.after_disk(outcome);
            }
            Output::Answer(_, Answer::Added(Ok(torrent))) if !self.torrents.contains(&torrent) => {
                self.torrents.push(torrent);
            }
            Output::Answer(_, Answer::Status(status)) => self.status = status.map(|status| *status),
            Output::Fetch { fetch, .. } => self.trackers.fetches.push(fetch),
            Output::CancelFetch(fetch) => self.trackers.fetches.retain(|other| *other != fetch),
            Output::Resolve { lookup, .. } => self.trackers.lookups.push(lookup),
            Output::Datagram { to, payload } => self.trackers.packets.push((to, payload)),
            Output::Answer(..) | Output::LocalAnnouncement { .. } | Output::MapPorts(_) => {}
            Output::RelayedDatagram { .. } => {}
            Output::Stopped => self.stopped = true,
        }
    }
}

fn local() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 100], 6881))
}
