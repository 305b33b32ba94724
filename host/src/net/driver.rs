//! Carries out what the engine asks for.

mod guarded;
mod thread;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use pilotfish_plugin::{PeerHandle, PluginId};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

pub(crate) use thread::start;

use guarded::Guarded;

use super::alerts::Subscribers;
use super::dial::Call;
use super::http::{self, Fetches};
use super::lsd::LsdSockets;
use super::peer_io::{self, Flow, Socket};
use super::port_mapping::{self, PortMappings};
use super::post::{Mail, Post, Request};
use super::relay::{self, Relay};
use super::tls::Trust;
use super::turns::TurnMeter;
use super::udp::UdpSockets;
use crate::command::{Answer, PluginSource, Ticket};
use crate::disk::DiskPool;
use crate::engine::{
    Destination, Dial, Engine, FetchRequest, FetchToken, Input, LookupToken, Output, PortMapping,
    SocketOperation, Tls,
};
use crate::job::{DiskDone, DiskJob, ReadToken, StorageId};
use crate::metainfo::BlockSpan;

/// Bytes that are offered to a socket at once, besides the rest of a block.
const SCRATCH: usize = 64 << 10;
/// How often in a turn a connection is written to because of what the writing itself caused.
const WRITE_ROUNDS: usize = 4;
/// Bytes that are read out of the page cache in one turn: copying them takes about a tenth of a millisecond.
const RESIDENT: usize = 1 << 20;
/// Neighbouring blocks that are read with one call.
const RUN: usize = 16;
/// Commands that are carried out in one turn.
const COMMANDS: usize = 256;
/// There is room for so many jobs even while there are none; the memory of a burst is given back.
const JOBS_KEPT: usize = 1_024;

/// The engine, and everything that it moves: sockets, the disk, other threads.
///
/// It is borrowed for a [turn](Self::turn) at a time, and never while a task waits.
pub(super) struct Driver {
    pub(super) engine: Engine,
    /// Where bytes go whose place is not known yet. One for all connections: it is empty again when a turn ends.
    pub(super) scratch: Box<[u8]>,
    /// The memory of the slices of a write.
    pub(super) slices: Vec<IoSlice<'static>>,
    /// Itself, for the tasks that it starts.
    this: Weak<RefCell<Self>>,
    links: FxHashMap<PeerHandle, Link>,
    pub(super) udp: UdpSockets,
    pub(super) lsd: LsdSockets,
    pub(super) fetches: Fetches,
    pub(super) ports: PortMappings,
    /// The proxy that passes datagrams on.
    relay: Option<Relay>,
    /// Which servers are trusted, where that matters.
    trust: Rc<Trust>,
    /// Connections that are to be written to before the turn ends.
    dirty: Vec<PeerHandle>,
    jobs: Vec<DiskJob>,
    /// Blocks that are to be read, and are perhaps in memory.
    reads: VecDeque<Read>,
    disk: DiskPool,
    callers: HashMap<Ticket, SyncSender<Answer>>,
    post: Arc<Post>,
    mail: Mail,
    alerts: Arc<Subscribers>,
    /// What the main task sleeps until.
    armed: Option<Instant>,
    signals: Rc<Signals>,
    stopped: bool,
    /// Bytes that were read out of the page cache in this turn.
    resident: usize,
    /// Who wants to know how long turns take.
    meter: Option<TurnMeter>,
}

/// One connection, or the attempt at one.
struct Link {
    task: AbortHandle,
    socket: Option<Rc<Socket>>,
}

/// A block that is to be read.
#[derive(Clone, Copy, Debug)]
struct Read {
    storage: StorageId,
    span: BlockSpan,
    token: ReadToken,
}

impl Read {
    /// Whether the other block lies right behind this one.
    fn precedes(&self, other: &Self) -> bool {
        self.storage == other.storage && self.span.precedes(other.span)
    }

    fn job(self) -> DiskJob {
        let Self { storage, span, token } = self;
        DiskJob::Read { storage, span, token }
    }
}

/// What other tasks tell the main task.
#[derive(Default)]
struct Signals {
    /// It sleeps too long, or the engine has stopped.
    look: Notify,
    /// A task panicked.
    broken: Notify,
}

/// How the main task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The engine said that everything is closed.
    Stopped,
    /// A task panicked: the engine may be in any state.
    Broken,
}

impl Driver {
    /// A driver for a fresh engine.
    pub(super) fn new(
        engine: Engine,
        disk: DiskPool,
        post: Arc<Post>,
        alerts: Arc<Subscribers>,
        meter: Option<TurnMeter>,
    ) -> Rc<RefCell<Self>> {
        Rc::new_cyclic(|this| {
            RefCell::new(Self {
                engine,
                scratch: vec![0; SCRATCH].into(),
                slices: Vec::new(),
                this: this.clone(),
                links: FxHashMap::default(),
                udp: UdpSockets::default(),
                lsd: LsdSockets::default(),
                fetches: Fetches::default(),
                ports: PortMappings::default(),
                relay: None,
                trust: Rc::default(),
                dirty: Vec::new(),
                jobs: Vec::new(),
                reads: VecDeque::new(),
                disk,
                callers: HashMap::new(),
                post,
                mail: Mail::default(),
                alerts,
                armed: None,
                signals: Rc::default(),
                stopped: false,
                resident: 0,
                meter,
            })
        })
    }

    /// One turn: what happened, and then everything that the engine wants done because of it.
    pub(super) fn turn<R>(&mut self, happen: impl FnOnce(&mut Self) -> R) -> R {
        let begun = self.meter.as_ref().map(|_| TurnMeter::begin());
        self.resident = 0;
        let result = happen(self);
        self.settle();
        if let (Some(meter), Some(begun)) = (&self.meter, begun) {
            meter.end(begun);
        }
        result
    }

    /// Tells the engine what happened.
    pub(super) fn handle(&mut self, input: Input) {
        self.engine.handle(input, Instant::now());
    }

    /// Opens a plugin.
    pub(super) fn open(&mut self, plugin: PluginSource) -> Result<PluginId, String> {
        self.turn(|turn| turn.engine.add_plugin(plugin))
    }

    /// A peer connected to us.
    pub(super) fn accepted(&mut self, socket: Socket, remote: SocketAddr) {
        let socket = Rc::new(socket);
        // It may be gone again already.
        let Ok(local) = socket.local() else { return };
        let accepted = self.engine.accept(remote, local, socket.transport(), Instant::now());
        let Some(peer) = accepted else { return };
        self.link(peer, socket);
    }

    /// An attempt at a connection came to its end. What it took is given back, since a connection that is up has a task of
    /// its own.
    fn called(&mut self, peer: PeerHandle, socket: io::Result<Socket>) {
        let (local, socket) = match socket.and_then(|socket| Ok((socket.local()?, Rc::new(socket)))) {
            Ok(made) => made,
            Err(error) => {
                self.failed(peer, SocketOperation::Connect, Some(error));
                return;
            }
        };
        let transport = socket.transport();
        if self.links.contains_key(&peer) {
            self.link(peer, socket);
            self.handle(Input::Connected { peer, local, transport });
        }
    }

    /// Moves the bytes of a connection from now on.
    fn link(&mut self, peer: PeerHandle, socket: Rc<Socket>) {
        let Some(this) = self.this.upgrade() else { return };
        let task = self.spawn(peer_io::run(this, peer, socket.clone()));
        self.links.insert(peer, Link { task, socket: Some(socket) });
    }

    /// A connection broke, or could not be made; without an error, the peer closed it.
    pub(super) fn failed(
        &mut self,
        peer: PeerHandle,
        operation: SocketOperation,
        error: Option<io::Error>,
    ) -> Flow {
        self.close(peer);
        self.handle(Input::Failed { peer, operation, error });
        Flow::Gone
    }

    /// A socket took `len` bytes.
    pub(super) fn written(&mut self, peer: PeerHandle, len: usize) {
        if len > 0 {
            self.handle(Input::Written { peer, len });
        }
    }

    /// Runs a task on this thread. If it panics, the session ends.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        tokio::task::spawn_local(Guarded::new(task, self.signals.clone())).abort_handle()
    }

    /// Carries out everything that the engine wants done, and what that causes.
    fn settle(&mut self) {
        for round in 0.. {
            loop {
                while let Some(output) = self.engine.poll_output() {
                    self.carry_out(output);
                }
                if !self.read_blocks() {
                    break;
                }
            }
            // Before the sockets: the disk's threads begin while this one still writes.
            if !self.jobs.is_empty() {
                self.disk.submit_all(self.jobs.drain(..));
                self.jobs.shrink_to(JOBS_KEPT);
            }
            if self.dirty.is_empty() {
                break;
            }
            self.flush(round < WRITE_ROUNDS);
        }
        self.tell();
        let next = self.engine.poll_timeout();
        if self.stopped
            || !self.reads.is_empty()
            || next.is_some_and(|next| self.armed.is_none_or(|armed| next < armed))
        {
            self.signals.look.notify_one();
        }
    }

    /// Tells whoever subscribed what came to pass.
    pub(super) fn tell(&mut self) {
        let Self { engine, alerts, .. } = self;
        alerts.deliver(engine.alert_mask(), || engine.poll_alert());
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { peer, address, dial, tls } => self.connect(peer, address, dial, tls),
            Output::Transmit(peer) => self.dirty.push(peer),
            Output::Read(peer) => {
                if let Some(socket) = self.socket(peer) {
                    socket.reconsider();
                }
            }
            Output::Close(peer) => self.close(peer),
            Output::Datagram { to, payload } => self.udp.send(to, &payload),
            Output::RelayedDatagram { to, payload } => self.send_through_relay(&to, &payload),
            Output::LocalAnnouncement { is_v4, payload } => self.lsd.send(is_v4, &payload),
            Output::Resolve { lookup, host } => self.resolve(lookup, host),
            Output::Fetch { fetch, request } => self.fetch(fetch, *request),
            Output::CancelFetch(fetch) => self.fetches.cancel(fetch),
            Output::MapPorts(wanted) => self.map_ports(wanted),
            Output::Disk(DiskJob::Read { storage, span, token }) => {
                self.reads.push_back(Read { storage, span, token });
            }
            Output::Disk(job) => self.jobs.push(job),
            Output::Answer(ticket, answer) => {
                if let Some(caller) = self.callers.remove(&ticket) {
                    // Whoever asked may have gone.
                    let _ = caller.try_send(answer);
                }
            }
            Output::Stopped => self.stopped = true,
        }
    }

    /// Reads the next neighbours among the blocks that are to be read: here if they are in memory, else the disk's threads do
    /// it. Whether there was anything to read, and room for it in this turn.
    fn read_blocks(&mut self) -> bool {
        let Some(first) = self.reads.front().filter(|_| self.resident < RESIDENT) else { return false };
        let storage = first.storage;
        let reads = self.reads.make_contiguous();
        let run = reads[..reads.len().min(RUN)].chunk_by(Read::precedes).next().map_or(0, <[Read]>::len);
        let run: Vec<Read> = self.reads.drain(..run).collect();
        let spans: Vec<BlockSpan> = run.iter().map(|read| read.span).collect();
        let Some(blocks) = self.disk.read_resident(storage, &spans) else {
            self.jobs.extend(run.into_iter().map(Read::job));
            return true;
        };
        for (Read { storage, span, token }, data) in run.into_iter().zip(blocks) {
            self.resident += data.len();
            self.handle(Input::Disk(DiskDone::Read { storage, span, token, data: Ok(data) }));
        }
        true
    }

    fn connect(&mut self, peer: PeerHandle, address: SocketAddr, dial: Dial, tls: Option<Tls>) {
        let Some(this) = self.this.upgrade() else { return };
        let (through, utp) = (self.engine.peer_proxy(), self.udp.utp(address));
        let call = Call { address, dial, through, tls, trust: self.trust.clone(), utp };
        let task = self.spawn(async move {
            let socket = call.open().await;
            this.borrow_mut().turn(|turn| turn.called(peer, socket));
        });
        self.links.insert(peer, Link { task, socket: None });
    }

    /// Looks up a name, on a thread of the runtime's.
    fn resolve(&mut self, lookup: LookupToken, host: String) {
        let Some(this) = self.this.upgrade() else { return };
        self.spawn(async move {
            // The port is a formality.
            let found = tokio::net::lookup_host((host, 0)).await.map(|all| all.map(|one| one.ip()).collect());
            this.borrow_mut().turn(|turn| turn.handle(Input::Resolved { lookup, addresses: found }));
        });
    }

    /// Fetches a document.
    fn fetch(&mut self, fetch: FetchToken, request: FetchRequest) {
        let Some(this) = self.this.upgrade() else { return };
        let client = self.fetches.client(&request);
        let task = self.spawn(async move {
            let result = http::fetch(&client, request).await;
            this.borrow_mut().turn(|turn| {
                turn.fetches.over(fetch);
                turn.handle(Input::Fetched { fetch, result });
            });
        });
        self.fetches.begun(fetch, task);
    }

    /// Sends a datagram through the proxy that the settings name by now.
    fn send_through_relay(&mut self, to: &Destination, payload: &[u8]) {
        let (Some(proxy), Some(this)) = (self.engine.relay(), self.this.upgrade()) else { return };
        if self.relay.as_ref().is_none_or(|relay| !relay.is_by(&proxy)) {
            // The way to another proxy is closed first.
            self.relay = None;
            let (mut relay, frames) = Relay::new(proxy.clone());
            relay.set_task(self.spawn(relay::run(this, proxy, frames)));
            self.relay = Some(relay);
        }
        if let Some(relay) = &self.relay {
            relay.send(to, payload);
        }
    }

    /// Has routers map these ports from now on, and no others.
    pub(super) fn map_ports(&mut self, wanted: Vec<PortMapping>) {
        let Some(this) = self.this.upgrade() else { return };
        for (mapping, end) in self.ports.want(wanted) {
            self.spawn(port_mapping::run(this.clone(), mapping, end));
        }
    }

    /// Forgets a connection and ends its task. A task that ends itself in this way goes on to where it next waits.
    fn close(&mut self, peer: PeerHandle) {
        if let Some(link) = self.links.remove(&peer) {
            link.task.abort();
        }
    }

    fn socket(&self, peer: PeerHandle) -> Option<&Rc<Socket>> {
        self.links.get(&peer)?.socket.as_ref()
    }

    /// Writes to all connections that have something to send, or (not `now`) leaves that to their tasks.
    fn flush(&mut self, now: bool) {
        let mut dirty = mem::take(&mut self.dirty);
        for peer in dirty.drain(..) {
            // With a backlog, the task writes as soon as the socket takes anything.
            let Some(socket) = self.socket(peer).filter(|socket| !socket.backlog.get()).cloned() else {
                continue;
            };
            if now {
                self.write(peer, &socket);
            } else {
                socket.postpone();
            }
        }
        self.dirty = dirty;
    }

    /// Does what other threads posted: some of the commands, and everything else.
    fn deliver(&mut self) {
        let mut mail = mem::take(&mut self.mail);
        self.post.take(COMMANDS, &mut mail);
        for done in mail.disk.drain(..) {
            self.handle(Input::Disk(done));
        }
        if mem::take(&mut mail.wake) {
            self.handle(Input::Wake);
        }
        for Request { command, answer } in mail.requests.drain(..) {
            self.callers.extend(answer);
            self.handle(Input::Command(command));
        }
        self.mail = mail;
        // Settings may name another proxy by now, or none.
        if self
            .relay
            .as_ref()
            .is_some_and(|relay| self.engine.relay().is_none_or(|proxy| !relay.is_by(&proxy)))
        {
            self.relay = None;
        }
    }

    /// What the main task is about to sleep until, if anything. `None`: it is over.
    fn arm(&mut self) -> Option<Option<Instant>> {
        self.armed = self.engine.poll_timeout();
        (!self.stopped).then_some(self.armed)
    }

    /// Connections, and attempts at one.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.links.len()
    }
}

/// The main task: deadlines, and what other threads post, until the engine has stopped.
pub(super) async fn run(driver: &RefCell<Driver>) -> End {
    let (post, signals) = {
        let driver = driver.borrow();
        (driver.post.clone(), driver.signals.clone())
    };
    let sleep = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(sleep);
    loop {
        let Some(next) = driver.borrow_mut().arm() else { return End::Stopped };
        if let Some(at) = next.filter(|at| sleep.deadline() != (*at).into()) {
            sleep.as_mut().reset(at.into());
        }
        // The runtime's clock has milliseconds only: it would sleep one until this very moment.
        let due = next.is_some_and(|at| at <= Instant::now());
        let expired = async {
            if !due {
                sleep.as_mut().await;
            }
        };
        tokio::select! {
            () = signals.broken.notified() => return End::Broken,
            // Something may be left of the turn before.
            () = signals.look.notified() => driver.borrow_mut().turn(|_| ()),
            () = post.arrived() => driver.borrow_mut().turn(Driver::deliver),
            () = expired, if next.is_some() => driver.borrow_mut().turn(|driver| driver.handle(Input::Timeout)),
        }
        // Sockets come first, also if the next deadline has come or there is more mail.
        tokio::task::yield_now().await;
    }
}
