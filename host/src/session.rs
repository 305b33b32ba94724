//! The session, as a program that embeds Pilotfish sees it.
//!
//! [`Session::start`] starts the threads; the [`Session`] it returns takes commands, from any thread and any number of
//! clones, and the [`Alerts`] tell what happens. Commands are queued, and carried out in the order in which they were
//! given. Those that have an answer wait for it; the others return at once.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use pilotfish::alert::AlertKind;
//! use pilotfish::command::AddTorrent;
//! use pilotfish::metainfo::Metainfo;
//! use pilotfish::session::{Session, SessionParams};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let torrent = Metainfo::parse(&std::fs::read("some.torrent")?)?;
//! let mut params = SessionParams::default();
//! params.settings.set("alert_mask", "all")?;
//! let (session, alerts) = Session::start(params)?;
//! session.add_torrent(AddTorrent::new(torrent))?;
//! while let Some(alert) = alerts.recv_timeout(Duration::from_secs(60)) {
//!     println!("{}", alert.kind.message());
//!     if let AlertKind::TorrentFinished { .. } = alert.kind {
//!         break;
//!     }
//! }
//! session.shutdown();
//! # Ok(())
//! # }
//! ```

mod dht_commands;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod torrent_commands;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use parking_lot::Mutex;
use pilotfish_plugin::{AlertCategory, TorrentHandle};

use crate::alert::Alert;
use crate::command::{
    AddTorrentError, Answer, Ban, Command, DhtItemError, OpenPlugin, PluginSource, SaveResumeFlags, Ticket,
    TorrentExtension,
};
use crate::dht;
use crate::ip_filter::IpFilter;
use crate::metainfo::Resume;
use crate::net::{self, AlertBox, NetError, Post, Request, Subscribers, TurnMeter};
pub use crate::net::{Durations, Turns};
use crate::plugins::{PluginLibrary, builtin};
use crate::settings::{SettingError, Settings};

/// How a session begins.
#[derive(Debug)]
pub struct SessionParams {
    /// Its settings.
    pub settings: Settings,
    /// Its plugins, in the order in which they are asked.
    pub plugins: Vec<PluginSpec>,
    /// What every torrent has before any plugin: the extensions that come with the engine, unless this list is replaced
    /// (libtorrent's `session_params::extensions`). Each of them has a setting that takes it out, such as
    /// `enable_ut_metadata`.
    pub extensions: Vec<TorrentExtension>,
    /// Which addresses are let in.
    pub ip_filter: IpFilter,
    /// What [`Session::save_state`] returned last time: each plugin's name (or [`dht::STATE`]), and a bencoded dictionary. A
    /// plugin that is registered later is given its own then; what belongs to no plugin of this session is handed on
    /// unchanged.
    pub saved_state: Vec<(String, Vec<u8>)>,
    /// Whether it is measured how long each turn of the network thread takes ([`Session::turns`]). Measuring costs two system
    /// calls a turn.
    pub measure_turns: bool,
}

impl Default for SessionParams {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            plugins: Vec::new(),
            extensions: default_extensions(),
            ip_filter: IpFilter::default(),
            saved_state: Vec::new(),
            measure_turns: false,
        }
    }
}

/// The extensions that come with the engine, in the order in which they are asked.
pub fn default_extensions() -> Vec<TorrentExtension> {
    vec![
        TorrentExtension::new("ut_pex", builtin::create_ut_pex_plugin),
        TorrentExtension::new("ut_metadata", builtin::create_ut_metadata_plugin),
        TorrentExtension::new("smart_ban", builtin::create_smart_ban_plugin),
    ]
}

/// Whether the settings leave an extension among the defaults.
fn is_enabled(extension: &TorrentExtension, settings: &Settings) -> bool {
    match extension.name.as_str() {
        "ut_pex" => settings.enable_ut_pex,
        "ut_metadata" => settings.enable_ut_metadata,
        "smart_ban" => settings.enable_smart_ban,
        _ => true,
    }
}

/// A plugin that is to be opened.
#[derive(Debug)]
pub struct PluginSpec {
    /// Its code.
    pub library: PluginLibrary,
    /// Its own settings.
    pub config: BTreeMap<String, String>,
}

/// What became of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginReport {
    /// Its name.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its file; `None` if it came with the engine.
    pub path: Option<PathBuf>,
    /// Whether it was opened. If not, why: its own words, or that it panicked.
    pub outcome: Result<(), String>,
}

/// Why a session was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot have the value that it has.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The system lacks something.
    #[error(transparent)]
    Net(#[from] NetError),
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The session has ended: it was shut down, or its network thread panicked (and said so on stderr).
    #[error("the session has ended")]
    Closed,
    /// A torrent was not added.
    #[error(transparent)]
    AddTorrent(#[from] AddTorrentError),
    /// A setting was not changed.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// An item was not stored in the DHT.
    #[error(transparent)]
    Dht(#[from] DhtItemError),
    /// A plugin was not registered: its own words, or its panic.
    #[error("{0}")]
    Plugin(String),
}

/// A running session. Clones are handles to the same one.
///
/// When the last handle is dropped, the session is [shut down](Self::shutdown).
#[derive(Clone)]
pub struct Session {
    running: Arc<Running>,
}

/// What happens in a session, for one subscriber. Alerts that it does not take in time are dropped, and it is told how many
/// they were ([`AlertsDropped`](crate::alert::AlertKind::AlertsDropped)); other subscribers miss nothing by it.
#[derive(Debug)]
pub struct Alerts {
    queue: Arc<AlertBox>,
    subscribers: Arc<Subscribers>,
}

struct Running {
    post: Arc<Post>,
    subscribers: Arc<Subscribers>,
    /// Locked while the thread is waited for, so that everybody waits.
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: ThreadId,
    plugins: Vec<PluginReport>,
    next_ticket: AtomicU64,
    /// What plugins kept last, by name: of those that are here, and of those that are not.
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
    meter: Option<TurnMeter>,
}

impl Session {
    /// Starts a session: its plugins are opened, and listening has been tried, when this returns.
    ///
    /// An address that cannot be listened on is not an error but an alert
    /// ([`ListenFailed`](crate::alert::AlertKind::ListenFailed)); a plugin that cannot be opened is one of
    /// [`plugins`](Self::plugins).
    ///
    /// # Errors
    /// A setting is out of its limits; the system gives no thread or no files.
    pub fn start(params: SessionParams) -> Result<(Self, Alerts), StartError> {
        params.settings.check()?;
        let (kept, mut names) = (params.saved_state.into_iter().collect(), BTreeSet::new());
        let settings = &params.settings;
        let defaults = params.extensions.into_iter().filter(|extension| is_enabled(extension, settings));
        let defaults: Vec<_> = defaults.map(|extension| built_in(extension, &mut names)).collect();
        let plugins = params.plugins.into_iter().map(|spec| source(spec, &kept, &mut names));
        let (reports, sources) = defaults.into_iter().chain(plugins).unzip();
        let meter = params.measure_turns.then(TurnMeter::default);
        let (session, alerts) = Self::start_with(params.settings, reports, sources, kept, meter)?;
        if !params.ip_filter.is_empty() {
            session.set_ip_filter(params.ip_filter);
        }
        Ok((session, alerts))
    }

    /// Starts a session with plugins that need not come from a file. `reports` tells of `sources`, one by one.
    fn start_with(
        settings: Settings,
        mut reports: Vec<PluginReport>,
        sources: Vec<PluginSource>,
        kept: BTreeMap<String, Vec<u8>>,
        meter: Option<TurnMeter>,
    ) -> Result<(Self, Alerts), StartError> {
        let dht_state = kept.get(dht::STATE).cloned();
        let net = net::start(settings, sources, dht_state, meter.clone())?;
        for (report, opened) in reports.iter_mut().zip(net.plugins) {
            report.outcome = opened.map(drop);
        }
        let alerts = Alerts { queue: net.alerts, subscribers: net.subscribers.clone() };
        let running = Running {
            post: net.post,
            subscribers: net.subscribers,
            thread_id: net.thread.thread().id(),
            thread: Mutex::new(Some(net.thread)),
            plugins: reports,
            next_ticket: AtomicU64::new(0),
            kept: Mutex::new(kept),
            meter,
        };
        Ok((Self { running: Arc::new(running) }, alerts))
    }

    /// What became of each plugin, in the order in which they were given.
    pub fn plugins(&self) -> &[PluginReport] {
        &self.running.plugins
    }

    /// How long the turns of the network thread took so far; `None` if that is not
    /// [measured](SessionParams::measure_turns).
    pub fn turns(&self) -> Option<Turns> {
        self.running.meter.as_ref().map(TurnMeter::turns)
    }

    /// One more stream of alerts, from now on: those of these categories, and what nobody may miss
    /// ([`AlertKind::is_for`](crate::alert::AlertKind::is_for)). At most `limit` of them wait to be taken, and twice as many
    /// errors. It ends when it is dropped. (The stream that [`start`](Self::start) returns goes by the settings `alert_mask`
    /// and `alert_queue_size`.)
    pub fn subscribe(&self, mask: AlertCategory, limit: usize) -> Alerts {
        let subscribers = self.running.subscribers.clone();
        Alerts { queue: subscribers.subscribe(Some(mask), limit), subscribers }
    }

    /// Registers a plugin that is linked into this program (libtorrent's `session::add_extension`). It sees torrents that are
    /// added from now on, and is given what a plugin of its name kept last ([`SessionParams::saved_state`]) unless it brings
    /// its own.
    ///
    /// # Errors
    /// What the plugin said when it was opened; or the session has ended.
    pub fn add_extension(&self, mut plugin: PluginSource) -> Result<(), SessionError> {
        plugin.saved_state = plugin.saved_state.or_else(|| kept(&self.running.kept.lock(), &plugin.name));
        match self.ask(|ticket| Command::AddPlugin(ticket, plugin))? {
            Answer::Plugin(opened) => opened.map_err(SessionError::Plugin),
            _ => Err(SessionError::Closed),
        }
    }

    /// Lets in only the addresses that a filter allows, from now on: connections to others are closed, and offers of others are
    /// refused. It takes the place of the filter before it.
    pub fn set_ip_filter(&self, filter: IpFilter) {
        self.tell(Command::SetIpFilter(Arc::new(filter)));
    }

    /// Keeps an address, whatever its port, out of a torrent, or out of the whole session: it is disconnected, and from now on
    /// neither let in nor connected to. The reason is in the alert `peer_ban`, and in the list of [`bans`](Self::bans).
    pub fn ban(&self, torrent: Option<TorrentHandle>, address: IpAddr, reason: &str) {
        self.tell(Command::Ban { torrent, address, reason: reason.to_owned() });
    }

    /// Lifts a ban from a torrent, or from the session, whoever asked for it.
    pub fn unban(&self, torrent: Option<TorrentHandle>, address: IpAddr) {
        self.tell(Command::Unban { torrent, address });
    }

    /// Every ban: those from the session, then those from torrents. Some were asked for by this program, some by plugins, and
    /// some are the engine's own: of peers that sent bad data.
    ///
    /// # Errors
    /// The session has ended.
    pub fn bans(&self) -> Result<Vec<Ban>, SessionError> {
        match self.ask(Command::Bans)? {
            Answer::Bans(bans) => Ok(bans),
            _ => Err(SessionError::Closed),
        }
    }

    /// Pauses all torrents, whatever each of them is set to.
    pub fn pause(&self) {
        self.tell(Command::PauseSession(true));
    }

    /// Ends a [`pause`](Self::pause): each torrent goes on as it is set to.
    pub fn resume(&self) {
        self.tell(Command::PauseSession(false));
    }

    /// Changes a setting, by libtorrent's name.
    ///
    /// # Errors
    /// There is no such setting, it cannot have that value, or the session has ended.
    pub fn set(&self, name: &str, value: &str) -> Result<(), SessionError> {
        match self.ask(|ticket| Command::Set(ticket, name.to_owned(), value.to_owned()))? {
            Answer::Setting(set) => Ok(set?),
            _ => Err(SessionError::Closed),
        }
    }

    /// What plugins want to keep until the next start, for [`SessionParams::saved_state`]: of those that have a `save_state`,
    /// what it says now, and of all others what there was. An empty dictionary (`de`) is a plugin that keeps nothing any
    /// more.
    ///
    /// # Errors
    /// The session has ended.
    pub fn save_state(&self) -> Result<Vec<(String, Vec<u8>)>, SessionError> {
        match self.ask(Command::SaveState)? {
            Answer::State(states) => {
                let mut kept = self.running.kept.lock();
                kept.extend(states);
                Ok(kept.iter().map(|(name, state)| (name.clone(), state.clone())).collect())
            }
            _ => Err(SessionError::Closed),
        }
    }

    /// [Ends](Self::shutdown) the session, and returns what is known of each torrent once everything is written.
    ///
    /// # Errors
    /// The session had ended before.
    pub fn shutdown_with_resume_data(&self, flags: SaveResumeFlags) -> Result<Vec<Resume>, SessionError> {
        let answer = self.request(|ticket| Command::SaveResumeDataAtEnd(ticket, flags));
        self.shutdown();
        match answer.recv().map_err(|_| SessionError::Closed)? {
            Answer::AllResumeData(records) => Ok(records),
            _ => Err(SessionError::Closed),
        }
    }

    /// Ends the session, and waits until it has: plugins have finished (they have two seconds), trackers that know of us have
    /// heard that we stop (they have the setting `stop_tracker_timeout`), connections are closed, and what was downloaded is
    /// with the operating system. Alerts that are left can still be taken.
    pub fn shutdown(&self) {
        self.running.shutdown();
    }

    fn tell(&self, command: Command) {
        self.running.post.command(Request { command, answer: None });
    }

    fn ask(&self, command: impl FnOnce(Ticket) -> Command) -> Result<Answer, SessionError> {
        // Wherever the request ends unanswered, its sender is dropped.
        self.request(command).recv().map_err(|_| SessionError::Closed)
    }

    fn request(&self, command: impl FnOnce(Ticket) -> Command) -> Receiver<Answer> {
        let ticket = Ticket(self.running.next_ticket.fetch_add(1, Ordering::Relaxed));
        let (caller, answer) = sync_channel(1);
        self.running.post.command(Request { command: command(ticket), answer: Some((ticket, caller)) });
        answer
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("plugins", &self.running.plugins).finish_non_exhaustive()
    }
}

impl Running {
    fn shutdown(&self) {
        self.post.command(Request { command: Command::Shutdown, answer: None });
        // The network thread cannot wait for itself.
        if thread::current().id() == self.thread_id {
            return;
        }
        if let Some(thread) = self.thread.lock().take() {
            // If it panicked, it said so, and is gone as well.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        self.subscribers.unsubscribe(&self.queue);
    }
}

impl Alerts {
    /// The next alert; waits for one if there is none. `None`: none came in time, or the session has ended, after which
    /// there is no wait ([`is_over`](Self::is_over)).
    pub fn recv_timeout(&self, wait: Duration) -> Option<Alert> {
        self.queue.take(net::deadline(wait))
    }

    /// The next alert; waits for it however long it takes. `None`: the session has ended.
    pub fn recv(&self) -> Option<Alert> {
        self.queue.take(None)
    }

    /// Whether the session has ended, and all of its alerts were taken.
    pub fn is_over(&self) -> bool {
        self.queue.is_over()
    }
}

/// What a plugin kept, if it is anything.
fn kept(states: &BTreeMap<String, Vec<u8>>, name: &str) -> Option<Vec<u8>> {
    states.get(name).filter(|state| *state != b"de").cloned()
}

/// What the engine is told of a default extension, and its report.
fn built_in(extension: TorrentExtension, names: &mut BTreeSet<String>) -> (PluginReport, PluginSource) {
    let (id, version) = (extension.name.clone(), env!("CARGO_PKG_VERSION").to_owned());
    names.insert(id.clone());
    (PluginReport { id, version, path: None, outcome: Ok(()) }, PluginSource::torrent_factory(extension))
}

/// What the engine is told of a plugin, and the beginning of its report.
fn source(
    spec: PluginSpec,
    states: &BTreeMap<String, Vec<u8>>,
    names: &mut BTreeSet<String>,
) -> (PluginReport, PluginSource) {
    let PluginSpec { library, config } = spec;
    let (name, version) = (library.id.clone(), library.version.clone());
    let (path, module) = (Some(library.path.clone()), library.module);
    let open: OpenPlugin = match names.insert(name.clone()) {
        true => Box::new(move |cx| library.open(cx, &config).map_err(|error| error.to_string())),
        false => Box::new(|_| Err("another plugin has this name".to_owned())),
    };
    let saved_state = kept(states, &name);
    let report = PluginReport { id: name.clone(), version, path, outcome: Ok(()) };
    (report, PluginSource { name, take_panic: module.take_panic(), open, saved_state })
}
