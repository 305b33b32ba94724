//! Plugins come, are attached, fail, and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use pilotfish_plugin::rt::abi_stable::std_types::ROption;
use pilotfish_plugin::rt::{
    HookStatus, LINKED_TAKE_PANIC, PeerObject, SessionObject, Sink, TorrentObject, guard_with, install_hook,
};
use pilotfish_plugin::{
    AlertCategory, Attach, Features, PeerBox, PeerHandle, PeerHooks, PluginId, SessionHooks, TorrentBox,
    TorrentHandle, TorrentHooks,
};

use super::Engine;
use super::by_handle::ByHandle;
use super::ciphers::Ciphers;
use super::state::SessionPhase;
use crate::alert::AlertKind;
use crate::command::{PluginSource, TorrentExtension};
use crate::hooks::{Chain, Peers, Place, Sessions, Torrents, with_session_context};
use crate::wire::EntryTree;

/// After so many panics a plugin is not attached to anything any more.
const QUARANTINE: u32 = 3;
/// Messages that one mailbox delivers before others, and the sockets, have their turn.
const MESSAGE_BUDGET: u32 = 256;

/// The plugin objects: on the session, on torrents, on connections.
#[derive(Default)]
pub(super) struct Chains {
    pub(super) session: Chain<Sessions>,
    pub(super) torrents: ByHandle<TorrentHandle, Chain<Torrents>>,
    pub(super) peers: ByHandle<PeerHandle, Chain<Peers>>,
    pub(super) ciphers: Ciphers,
}

/// What the engine knows of a registered plugin.
pub(super) struct PluginRecord {
    pub(super) name: String,
    take_panic: unsafe extern "C" fn(Sink<'_>) -> HookStatus,
    alert_mask: AlertCategory,
    pub(super) panics: u32,
    pub(super) quarantined: bool,
    /// It said, after `abort`, that it needs nothing more.
    pub(super) done: bool,
    pub(super) mail: Arc<Mail>,
}

/// Set by a plugin's threads when they have posted something.
pub(super) struct Mail {
    waiting: AtomicBool,
    waker: Arc<dyn Fn() + Send + Sync>,
}

impl Mail {
    /// Something was posted. Any thread. Posts between two deliveries wake the network thread once.
    pub(super) fn post(&self) {
        // What was posted is seen by whoever takes the mark away after this look at it; threads that post at once only
        // read it, and do not take it from each other's caches.
        fence(Ordering::SeqCst);
        if !self.waiting.load(Ordering::Relaxed) && !self.waiting.swap(true, Ordering::AcqRel) {
            (self.waker)();
        }
    }

    /// Whether something was posted since the last time.
    fn take(&self) -> bool {
        let posted = self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::AcqRel);
        // Before the messages are looked at: see `post`.
        fence(Ordering::SeqCst);
        posted
    }
}

impl PluginRecord {
    pub(super) fn take_panic(&self, sink: Sink<'_>) -> HookStatus {
        crate::hooks::take_panic(self.take_panic, sink)
    }

    pub(super) fn alert_mask(&self) -> AlertCategory {
        if self.quarantined { AlertCategory::NONE } else { self.alert_mask }
    }
}

impl Engine {
    /// Registers a plugin: it is opened, then `load_state`, `implemented_features`, `alert_mask`, `added`.
    ///
    /// # Errors
    /// What the plugin said, or that it panicked; it is not registered then.
    pub fn add_plugin(&mut self, source: PluginSource) -> Result<PluginId, String> {
        let id = self.register(source.name, source.take_panic);
        match with_session_context(&mut self.state, id, source.open) {
            Ok(plugin) => self.chains.session.push(id, SessionObject::new(plugin)),
            Err(text) => {
                self.state.plugins[id.0 as usize].quarantined = true;
                return Err(text);
            }
        }
        self.introduce(id, source.saved_state.as_deref());
        self.pump();
        Ok(id)
    }

    /// Gives a plugin its id.
    fn register(
        &mut self,
        name: String,
        take_panic: unsafe extern "C" fn(Sink<'_>) -> HookStatus,
    ) -> PluginId {
        let id = PluginId(u32::try_from(self.state.plugins.len()).unwrap_or(u32::MAX));
        self.state.plugins.push(PluginRecord {
            name,
            take_panic,
            alert_mask: AlertCategory::NONE,
            panics: 0,
            quarantined: false,
            done: false,
            mail: Arc::new(Mail { waiting: AtomicBool::new(false), waker: self.state.waker.clone() }),
        });
        id
    }

    /// Attaches what a factory makes for a torrent. A factory that panics is blamed like a hook.
    pub(super) fn add_torrent_extension(&mut self, torrent: TorrentHandle, extension: TorrentExtension) {
        let Some(userdata) = self.state.torrent(torrent).map(|t| t.userdata) else { return };
        let TorrentExtension { name, make } = extension;
        let known = self.state.plugins.iter().position(|record| record.name == name);
        let plugin = match known.and_then(|i| u32::try_from(i).ok()) {
            Some(i) => PluginId(i),
            None => self.register(name, LINKED_TAKE_PANIC),
        };
        install_hook(false);
        let made =
            with_session_context(&mut self.state, plugin, |cx| guard_with(|| make(cx, torrent, userdata)));
        match made {
            Ok(Some(boxed)) => self.attach_torrent(torrent, plugin, boxed),
            Ok(None) => {}
            Err(_) => self.state.record_fault(plugin, "new_torrent", Place::Torrent(torrent)),
        }
    }

    fn introduce(&mut self, id: PluginId, saved: Option<&[u8]>) {
        let Self { state, chains } = self;
        if let Some(saved) = saved {
            chains
                .session
                .only(state, id, (), SessionHooks::load_state, |p, cx| p.load_state(cx, saved.into()));
        }
        let derived = derived_features(chains.session.set_of(id));
        let mut features = derived;
        chains.session.only(state, id, (), SessionHooks::implemented_features, |p, cx| {
            p.implemented_features(cx, derived, &mut features)
        });
        chains.session.mute(id, muted(derived, features));
        state.scored = chains.session.has(SessionHooks::unchoke_score);
        let mut mask = AlertCategory::ALL;
        chains.session.only(state, id, (), SessionHooks::alert_mask, |p, cx| p.alert_mask(cx, &mut mask));
        let listens = derived.contains(Features::ALERT) && features.contains(Features::ALERT);
        state.plugins[id.0 as usize].alert_mask = if listens { mask } else { AlertCategory::NONE };
        chains.session.only(state, id, (), SessionHooks::added, |p, cx| p.added(cx));
    }

    /// What plugins want to keep until the next start, by name: bencoded dictionaries.
    pub(super) fn saved_states(&mut self) -> Vec<(String, Vec<u8>)> {
        let ids = (0..self.state.plugins.len()).filter_map(|i| u32::try_from(i).ok()).map(PluginId);
        ids.collect::<Vec<_>>().into_iter().filter_map(|id| self.saved_state(id)).collect()
    }

    fn saved_state(&mut self, id: PluginId) -> Option<(String, Vec<u8>)> {
        let entry = self.state.begin_entry(EntryTree::new());
        let answer = self.chains.session.only(&mut self.state, id, (), SessionHooks::save_state, |p, cx| {
            let raw = super::host_api::lend_entry(cx.scope(), entry);
            p.save_state(cx, raw)
        });
        let kept = self.state.end_entry(entry);
        answer?;
        Some((self.state.plugin_name(id), kept.encode_root()))
    }

    /// Delivers what plugins' threads posted, a bounded number each.
    pub(super) fn deliver_messages(&mut self) {
        let Self { state, chains } = self;
        let mut more = false;
        for i in 0..state.plugins.len() {
            if !state.plugins[i].mail.take() {
                continue;
            }
            let id = PluginId(u32::try_from(i).unwrap_or(u32::MAX));
            let answer =
                chains.session.only(state, id, (), SessionHooks::drain, |p, cx| p.drain(cx, MESSAGE_BUDGET));
            if answer == Some(HookStatus::HANDLED) {
                state.plugins[i].mail.waiting.store(true, Ordering::Release);
                more = true;
            }
        }
        if more {
            state.timers.set_soon(state.now);
        }
    }

    /// Puts a plugin object on a torrent, and lets it see the connections that are there.
    pub(super) fn attach_torrent(&mut self, torrent: TorrentHandle, plugin: PluginId, boxed: TorrentBox) {
        if self.state.torrent(torrent).is_none() || self.is_quarantined(plugin) {
            return;
        }
        let Some(chain) = self.chains.torrents.or_default(torrent) else { return };
        chain.push(plugin, TorrentObject::new(boxed));
        for peer in self.state.peers_of(torrent) {
            let Self { state, chains } = self;
            let Some(chain) = chains.torrents.get_mut(torrent) else { return };
            let mut child = ROption::RNone;
            chain.only(state, plugin, torrent, TorrentHooks::new_connection, |p, cx| {
                p.new_connection(cx, peer, Attach::LATE, &mut child)
            });
            if let ROption::RSome(child) = child {
                self.attach_peer(peer, plugin, child);
            }
        }
        if self.state.torrent(torrent).is_some_and(|t| t.files_checked) {
            let Self { state, chains } = self;
            if let Some(chain) = chains.torrents.get_mut(torrent) {
                chain.only(state, plugin, torrent, TorrentHooks::on_files_checked, |p, cx| {
                    p.on_files_checked(cx)
                });
            }
        }
        self.state.schedule_torrent(torrent);
    }

    /// Puts a plugin object on a connection.
    pub(super) fn attach_peer(&mut self, peer: PeerHandle, plugin: PluginId, boxed: PeerBox) {
        if self.state.peer(peer).is_none() || self.is_quarantined(plugin) {
            return;
        }
        let subject = self.subject(peer);
        let Self { state, chains } = self;
        let Some(chain) = chains.peers.or_default(peer) else { return };
        chain.push(plugin, PeerObject::new(boxed));
        let mut name = "".into();
        chain.only(state, plugin, subject, PeerHooks::type_name, |p, cx| p.type_name(cx, &mut name));
        let mut fragments = 0;
        chain.only(state, plugin, subject, PeerHooks::wants_fragments, |p, cx| {
            p.wants_fragments(cx, &mut fragments)
        });
        if let Some(connection) = state.peer_mut(peer) {
            connection.plugin_names.reserve_exact(1);
            connection.plugin_names.push((plugin, name.as_str().into()));
            if fragments != 0 {
                connection.decoder.set_fragments(true);
                chain.want_fragments(plugin);
            }
        }
    }

    /// Lets the torrent's plugins join a new connection. `false`: a plugin failed, and the connection is to be closed.
    pub(super) fn sprout_peer(&mut self, peer: PeerHandle, torrent: TorrentHandle, attach: Attach) -> bool {
        let Self { state, chains } = self;
        let Some(chain) = chains.torrents.get_mut(torrent) else { return true };
        let sprouted = chain.sprout(state, torrent, TorrentHooks::new_connection, |p, cx, child| {
            let mut out = ROption::RNone;
            let status = p.new_connection(cx, peer, attach, &mut out);
            *child = out.into_option();
            status
        });
        for (plugin, child) in sprouted.children {
            self.attach_peer(peer, plugin, child);
        }
        !sprouted.faulted
    }

    fn is_quarantined(&self, plugin: PluginId) -> bool {
        self.state.plugins.get(plugin.0 as usize).is_some_and(|record| record.quarantined)
    }

    /// A hook panicked: the alert, the detachment by what it was attached to, and in the end the quarantine.
    pub(super) fn on_fault(&mut self, plugin: PluginId, hook: &'static str, place: Place, text: &str) {
        let name = self.state.plugin_name(plugin);
        let (text, at) =
            text.rsplit_once(" at ").map_or((text, String::new()), |(t, at)| (t, format!(" at {at}")));
        self.state.alert(AlertKind::PluginPanicked {
            plugin: name.clone(),
            hook: hook.to_owned(),
            text: text.to_owned(),
            place: at,
        });
        match place {
            Place::Peer(peer) => {
                if let Some(chain) = self.chains.peers.get_mut(peer) {
                    chain.remove(plugin);
                }
            }
            Place::Torrent(torrent) => self.detach_from_torrent(plugin, torrent),
            Place::Session => self.detach_from_session(plugin),
        }
        let Some(record) = self.state.plugins.get_mut(plugin.0 as usize) else { return };
        record.panics += 1;
        if record.panics >= QUARANTINE && !record.quarantined {
            record.quarantined = true;
            let panics = record.panics;
            self.state.alert(AlertKind::PluginQuarantined { plugin: name, panics });
            self.detach_from_session(plugin);
        }
    }

    fn detach_from_torrent(&mut self, plugin: PluginId, torrent: TorrentHandle) {
        if let Some(chain) = self.chains.torrents.get_mut(torrent) {
            chain.remove(plugin);
        }
        for peer in self.state.peers_of(torrent) {
            self.detach_from_peer(plugin, peer);
        }
    }

    fn detach_from_session(&mut self, plugin: PluginId) {
        self.chains.session.remove(plugin);
        self.state.scored = self.chains.session.has(SessionHooks::unchoke_score);
        for chain in self.chains.torrents.values_mut() {
            chain.remove(plugin);
        }
        let peers: Vec<PeerHandle> = self.chains.peers.keys().collect();
        peers.into_iter().for_each(|peer| self.detach_from_peer(plugin, peer));
        if let Some(record) = self.state.plugins.get_mut(plugin.0 as usize) {
            record.alert_mask = AlertCategory::NONE;
            record.done = true;
        }
    }

    fn detach_from_peer(&mut self, plugin: PluginId, peer: PeerHandle) {
        if let Some(chain) = self.chains.peers.get_mut(peer) {
            chain.remove(plugin);
        }
        if let Some(connection) = self.state.peer_mut(peer) {
            connection.plugin_names.retain(|(id, _)| *id != plugin);
        }
    }

    /// Plugins that do nothing at the end need no time for it.
    pub(super) fn mark_idle_plugins_done(&mut self) {
        for (i, record) in self.state.plugins.iter_mut().enumerate() {
            let id = PluginId(u32::try_from(i).unwrap_or(u32::MAX));
            record.done |= self.chains.session.set_of(id) & SessionHooks::abort.bits() == 0;
        }
    }

    /// Whether every plugin has finished what it does after `abort`.
    pub(super) fn plugins_done(&self) -> bool {
        self.chains.session.is_empty()
            || self.state.plugins.iter().all(|record| record.done || record.quarantined)
    }

    /// Drops every plugin object: those on their way, connections', torrents', then the session's. There is no next tick
    /// for what was left to it.
    pub(super) fn drop_plugins(&mut self) {
        self.state.steps.retain(|step| !step.holds_plugin());
        self.state.deferred.retain(|step| !step.holds_plugin());
        self.chains.ciphers.clear();
        self.chains.peers.clear();
        self.chains.torrents.clear();
        self.chains.session = Chain::default();
        self.state.phase = SessionPhase::Stopped;
    }
}

/// The gated callbacks that a plugin overrides.
fn derived_features(hooks: u64) -> Features {
    gates()
        .into_iter()
        .filter(|(hook, _)| hooks & hook.bits() != 0)
        .fold(Features::NONE, |all, (_, f)| all | f)
}

/// The gated callbacks that it overrides and does not want.
fn muted(derived: Features, wanted: Features) -> SessionHooks {
    let unwanted = gates().into_iter().filter(|(_, f)| derived.contains(*f) && !wanted.contains(*f));
    unwanted.fold(SessionHooks::EMPTY, |all, (hook, _)| all.with(hook))
}

/// Which feature flag gates which callback. `on_unknown_torrent` is always called: its flag gates nothing here, since a
/// session of ours never refuses sockets early.
fn gates() -> [(SessionHooks, Features); 4] {
    [
        (SessionHooks::get_unchoke_priority, Features::OPTIMISTIC_UNCHOKE),
        (SessionHooks::on_tick, Features::TICK),
        (SessionHooks::on_dht_request, Features::DHT_REQUEST),
        (SessionHooks::on_alert, Features::ALERT),
    ]
}
