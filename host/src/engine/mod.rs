//! The whole session without sockets, files, threads and clocks.
//!
//! The engine is one value. [`Engine::handle`] tells it what happened, [`Engine::poll_output`] and [`Engine::poll_alert`] say
//! what it wants done and what came to pass, and [`Engine::poll_timeout`] says when it wants to be called again. `now` is an
//! argument, and so is the seed of all randomness: the same inputs give the same outputs.
//!
//! A turn is one call of `handle`. It decodes what came, and for each message asks the plugin chain, runs the default
//! handler, and does what that and the hooks asked for, in order and breadth first, until nothing is left (`Step`).
//! **Hooks never nest.**
//!
//! | file | what |
//! |---|---|
//! | `state` | everything but the plugin objects; what host functions see |
//! | `step`, `run` | what is still to be done in a turn, and doing it |
//! | `dispatch`, `plugins` | calling hooks; plugins come, fail and go |
//! | `inbound`, `handlers` | a message on its way through the chain; the defaults behind it |
//! | `connections`, `handshake`, `crowding` | connections come and go; both handshakes; too many of them |
//! | `download`, `upload`, `pieces`, `reads` | requesting blocks, serving them, what becomes of pieces, reading for plugins |
//! | `bandwidth` | rate limits: who may move how many bytes |
//! | `ip_filter` | addresses that are kept out |
//! | `adding`, `torrents`, `pausing`, `metadata` | torrents come, are checked, finish, and go; pause and resume; begin with a link |
//! | `web_seeds` | servers that have a torrent's files |
//! | `resume` | what is written down of torrents for their next start, and what is made of it |
//! | `super_seeding` | giving a torrent away piece by piece |
//! | `datagrams`, `relay` | what comes by UDP, and names that are looked up; datagrams through a proxy |
//! | `announcing` | trackers, by HTTP and UDP |
//! | `dht` | looking for peers in the DHT, and answering others there |
//! | `local_discovery` | looking for peers on the network that we are on |
//! | `external` | from which address others see us |
//! | `port_mapping` | ports that routers let through to us |
//! | `holepunch` | peers that can be called only while they call us |
//! | `ciphers`, `encryption` | encryption that plugins switch on; that which the handshake brings (MSE) |
//! | `tick`, `choking`, `timers` | deadlines |
//! | `host_api` | the functions that plugins call |

mod adding;
mod announcing;
mod bandwidth;
mod bans;
mod by_handle;
mod choking;
mod ciphers;
mod connections;
mod crowding;
mod datagrams;
mod dht;
mod dispatch;
mod download;
mod encryption;
mod external;
mod handlers;
mod handshake;
mod holepunch;
mod host_api;
mod inbound;
mod input;
mod ip_filter;
mod local_discovery;
mod metadata;
mod output;
mod pausing;
mod pieces;
mod plugins;
mod port_mapping;
mod reads;
mod relay;
mod resume;
mod run;
mod state;
mod status;
mod step;
mod super_seeding;
mod tick;
mod timers;
mod torrents;
mod upload;
mod web_seeds;

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::Instant;

use pilotfish_plugin::{AlertCategory, PeerHandle};

pub use input::{FetchError, Fetched, Input, SocketOperation};
pub use output::{
    Dial, FetchRequest, FetchToken, LookupToken, Output, PortMapping, PortmapProtocol, PortmapTransport,
    Proxy, Tls,
};
pub use port_mapping::MappedPort;
pub use relay::Destination;
pub use state::EngineConfig;

use crate::alert::Alert;
use crate::peer::{Connection, Direction, Phase, Transport};
use crate::settings::Settings;
use crate::wire::TARGETS;
use plugins::Chains;
use state::{SessionPhase, State};
use step::Step;

/// How often what hooks cause may cause hooks again within one turn.
const ROUNDS: usize = 16;
/// How deep steps may be nested.
const DEPTH: usize = 8;
/// At most about this many bytes are offered to a socket at once.
const TRANSMIT_BUDGET: usize = 1 << 20;

/// There is room for so many outputs even while there are none. A burst, such as ten thousand torrents that are added at once,
/// is no reason to keep its memory.
const OUTPUTS_KEPT: usize = 1_024;

/// A session.
pub struct Engine {
    state: State,
    chains: Chains,
}

impl Engine {
    /// A session without torrents and plugins.
    pub fn new(config: EngineConfig, now: Instant) -> Self {
        let mut engine = Self { state: State::new(config, now), chains: Chains::default() };
        engine.start_ticking();
        engine
    }

    /// Tells what happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.state.now = self.state.now.max(now);
        match input {
            Input::Timeout => self.on_timeout(),
            Input::Command(command) => self.on_command(command),
            Input::Wake => self.deliver_messages(),
            Input::Listening(address) => self.on_listening(address),
            Input::ListenFailed { address, error } => self.on_listen_failed(address, &error),
            Input::Connected { peer, local, transport } => self.on_connected(peer, local, transport),
            Input::Written { peer, len } => self.on_written(peer, len),
            Input::Failed { peer, operation, error } => self.on_failed(peer, operation, error.as_ref()),
            Input::Resolved { lookup, addresses } => self.on_resolved(lookup, addresses),
            Input::Fetched { fetch, result } => self.on_fetched(fetch, result),
            Input::PortMapped { mapping, protocol, result } => self.on_port_mapped(mapping, protocol, result),
            Input::PortUnmapped(mapping) => self.on_port_unmapped(&mapping),
            Input::Disk(done) => self.on_disk(done),
        }
        self.end_turn();
    }

    /// `len` bytes were read into [`receive_buffers`](Self::receive_buffers), the last of them into `scratch`.
    pub fn received(&mut self, peer: PeerHandle, len: usize, scratch: &[u8], now: Instant) {
        self.state.now = self.state.now.max(now);
        match self.state.peer(peer).is_some_and(|connection| connection.web.is_some()) {
            true => self.on_web_received(peer, len, scratch),
            false => self.on_received(peer, len, scratch),
        }
        self.state.moved(peer, Direction::Download, len as u64);
        self.end_turn();
    }

    /// A peer connected to us. `None`: it is not wanted, and the socket is to be closed.
    pub fn accept(
        &mut self,
        remote: SocketAddr,
        local: SocketAddr,
        transport: Transport,
        now: Instant,
    ) -> Option<PeerHandle> {
        self.state.now = self.state.now.max(now);
        self.on_accept(remote, local, transport)
    }

    /// Whether a peer that is about to connect to us is wanted, as far as its address tells. One that is not need not be
    /// answered.
    pub fn welcomes(&mut self, remote: SocketAddr, transport: Transport, now: Instant) -> bool {
        self.state.now = self.state.now.max(now);
        self.state.welcomes(remote, transport)
    }

    /// Where the next bytes of a connection belong: in place first, then `scratch`. `None` if it is gone.
    pub fn receive_buffers<'a>(
        &'a mut self,
        peer: PeerHandle,
        scratch: &'a mut [u8],
    ) -> Option<[IoSliceMut<'a>; TARGETS]> {
        let receives_cipher_text = self.chains.ciphers.receives(peer);
        let pool = self.state.pool.clone();
        let connection = self.state.peer_mut(peer)?;
        let most = connection.allowances[Direction::Download as usize].most();
        if receives_cipher_text {
            let length = scratch.len().min(most);
            let mut scratch = Some(&mut scratch[..length]);
            return Some(std::array::from_fn(|_| IoSliceMut::new(scratch.take().unwrap_or_default())));
        }
        if let Some(web) = &mut connection.web {
            return Some(web.targets(scratch, most, &pool));
        }
        // The one that is being received is among the requests, too.
        let expected = connection.requests.len().saturating_sub(1);
        Some(connection.decoder.targets(scratch, expected, most, &pool))
    }

    /// Whether the socket of a connection is to be read now. It is not while the disk cannot keep up, the torrent cannot
    /// serve it yet, or a rate limit has it wait.
    pub fn wants_read(&self, peer: PeerHandle) -> bool {
        let reads = |connection: &Connection| {
            !connection.read_paused
                && connection.phase != Phase::Held
                && !connection.allowances[Direction::Download as usize].is_spent()
        };
        self.state.peer(peer).is_some_and(reads)
    }

    /// What a connection is to send next, for one vectored write. Empty if there is nothing.
    pub fn transmit<'a>(&'a self, peer: PeerHandle, slices: &mut Vec<IoSlice<'a>>) {
        if let Some(connection) = self.state.peer(peer) {
            let most = connection.allowances[Direction::Upload as usize].most();
            connection.outbox.slices(TRANSMIT_BUDGET, most, slices);
        }
    }

    /// The next thing that is to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        let Some(output) = self.state.outputs.pop_front() else {
            self.state.outputs.shrink_to(OUTPUTS_KEPT);
            return None;
        };
        if let Output::Transmit(peer) = output {
            // First this: what is queued while a cipher is called has to be sent too.
            if let Some(connection) = self.state.peer_mut(peer) {
                connection.dirty = false;
            }
            self.state.write_web_requests(peer);
            self.seal(peer);
        }
        Some(output)
    }

    /// The next thing that came to pass.
    pub fn poll_alert(&mut self) -> Option<Alert> {
        let now = self.state.clock();
        self.state.alerts.pop(now)
    }

    /// The setting `alert_mask`.
    pub fn alert_mask(&self) -> AlertCategory {
        self.state.settings.alert_mask
    }

    /// The settings as they are now.
    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    /// Through whom connections to peers are made, if not directly.
    pub fn peer_proxy(&self) -> Option<Proxy> {
        self.state.peer_proxy()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.state.phase == SessionPhase::Stopped { None } else { self.state.timers.next() }
    }

    /// Blocks in memory: buffers that are being filled, written, hashed, or sent.
    pub fn blocks_in_use(&self) -> usize {
        self.state.pool.in_use()
    }

    /// The pool that disk reads should take their buffers from.
    pub fn block_pool(&self) -> crate::wire::BlockPool {
        self.state.pool.clone()
    }

    fn end_turn(&mut self) {
        self.pump();
        // No hook runs: nobody fills a dictionary in.
        self.state.entries.clear();
    }

    /// Does what is written down, until nothing is left or hooks keep causing hooks for too many rounds.
    ///
    /// Some steps do this in their middle, so that what they caused so far is done. A plugin that asks for thousands of
    /// those at once must not use up the stack: the deepest leave what they caused to the outer ones.
    fn pump(&mut self) {
        if self.state.pumping == DEPTH {
            return;
        }
        self.state.pumping += 1;
        self.pump_rounds();
        self.state.pumping -= 1;
    }

    fn pump_rounds(&mut self) {
        for _ in 0..ROUNDS {
            let round = self.state.steps.len();
            if round == 0 {
                return;
            }
            for _ in 0..round {
                let Some(step) = self.state.steps.pop_front() else { break };
                self.run(step);
            }
        }
        self.defer();
    }

    /// Leaves the rest to the next tick.
    fn defer(&mut self) {
        let waiting = self.state.steps.len() as u64;
        if waiting > 0 {
            let rest: Vec<Step> = self.state.steps.drain(..).collect();
            self.state.deferred.extend(rest);
            self.state.alert(crate::alert::AlertKind::TooManyRounds { waiting });
            let hear: Vec<Step> = self.state.steps.drain(..).collect();
            self.state.deferred.extend(hear);
        }
    }

    /// A connection that messages can be exchanged with.
    fn open_peer(&mut self, peer: PeerHandle) -> Option<&mut Connection> {
        self.state.peer_mut(peer).filter(|connection| !connection.is_closing())
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (torrents, peers) = (self.state.num_torrents(), self.state.num_peers());
        f.debug_struct("Engine").field("torrents", &torrents).field("peers", &peers).finish_non_exhaustive()
    }
}
