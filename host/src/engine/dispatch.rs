//! Calling hooks: the verbs of a chain, with the engine's state behind them.

use pilotfish_plugin::rt::{HookStatus, PeerObject, TorrentObject};
use pilotfish_plugin::{
    ErrorCode, MessageOrigin, PeerContext, PeerHandle, PeerHooks, TorrentContext, TorrentHandle, TorrentHooks,
};

use super::Engine;
use super::state::State;
use crate::hooks::PeerSubject;

impl Engine {
    /// What calls about a connection are about.
    pub(super) fn subject(&self, peer: PeerHandle) -> PeerSubject {
        subject(&self.state, peer)
    }

    /// Asks the plugins of a connection in order until one handles the event.
    #[inline]
    pub(super) fn first_handled(
        &mut self,
        peer: PeerHandle,
        origin: MessageOrigin,
        hook: PeerHooks,
        call: impl FnMut(&mut PeerObject, &mut PeerContext<'_>) -> Option<HookStatus>,
    ) -> bool {
        let Some(chain) = self.chains.peers.get_mut(peer).filter(|chain| chain.has(hook)) else {
            return false;
        };
        let subject = PeerSubject { origin, ..subject(&self.state, peer) };
        chain.first_handled(&mut self.state, subject, hook, call)
    }

    /// Tells every plugin of a connection.
    #[inline]
    pub(super) fn tell_peer(
        &mut self,
        peer: PeerHandle,
        hook: PeerHooks,
        call: impl FnMut(&mut PeerObject, &mut PeerContext<'_>) -> Option<HookStatus>,
    ) {
        if let Some(chain) = self.chains.peers.get_mut(peer).filter(|chain| chain.has(hook)) {
            let subject = subject(&self.state, peer);
            chain.tell(&mut self.state, subject, hook, call);
        }
    }

    /// Tells every plugin of a torrent.
    pub(super) fn tell_torrent(
        &mut self,
        torrent: TorrentHandle,
        hook: TorrentHooks,
        call: impl FnMut(&mut TorrentObject, &mut TorrentContext<'_>) -> Option<HookStatus>,
    ) {
        if let Some(chain) = self.chains.torrents.get_mut(torrent) {
            chain.tell(&mut self.state, torrent, hook, call);
        }
    }

    /// Asks the plugins of a torrent in order until one handles the event.
    pub(super) fn torrent_handled(
        &mut self,
        torrent: TorrentHandle,
        hook: TorrentHooks,
        call: impl FnMut(&mut TorrentObject, &mut TorrentContext<'_>) -> Option<HookStatus>,
    ) -> bool {
        let chain = self.chains.torrents.get_mut(torrent);
        chain.is_some_and(|chain| chain.first_handled(&mut self.state, torrent, hook, call))
    }

    /// Asks the plugins of a connection in order whether it may be closed for a reason of policy.
    pub(super) fn all_consent(&mut self, peer: PeerHandle, error: ErrorCode) -> bool {
        let subject = self.subject(peer);
        let Some(chain) = self.chains.peers.get_mut(peer) else { return true };
        let consent = chain.all_consent(&mut self.state, subject, PeerHooks::can_disconnect, |plugin, cx| {
            plugin.can_disconnect(cx, error)
        });
        if let Some(connection) = self.state.peer_mut(peer) {
            connection.plugins_refused = !consent;
        }
        consent
    }
}

/// What calls about a connection are about.
fn subject(state: &State, peer: PeerHandle) -> PeerSubject {
    let torrent = state.peer(peer).and_then(|connection| connection.torrent);
    PeerSubject { peer, torrent: torrent.unwrap_or(TorrentHandle::INVALID), origin: MessageOrigin::WIRE }
}
