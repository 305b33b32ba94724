//! Torrents pause and resume, each by itself or with the session.

use pilotfish_plugin::{ErrorCode, Operation, PeerHandle, Severity, TorrentHandle, TorrentHooks};

use super::Engine;
use super::state::State;
use crate::alert::AlertKind;
use crate::command::SaveResumeFlags;

/// What becomes of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PauseChange {
    /// It goes on.
    Resume,
    /// Its connections are closed.
    Pause,
    /// Blocks that were asked for may still come; each connection is closed when its last has (libtorrent's
    /// `graceful_pause`).
    PauseGracefully,
}

impl PauseChange {
    /// Whether the torrent is paused afterwards.
    pub(super) fn pauses(self) -> bool {
        self != Self::Resume
    }
}

impl Engine {
    /// Pauses or resumes a torrent, unless a plugin has it otherwise. A torrent that is being paused gracefully can be paused
    /// at once: that is a second pause, and plugins are asked again.
    pub(super) fn change_pause(&mut self, torrent: TorrentHandle, change: PauseChange) {
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        t.pause_asked = None;
        let at_once = change == PauseChange::Pause && t.draining;
        if t.removing || (t.paused == change.pauses() && !at_once) {
            return;
        }
        // While the session is paused, it is paused before and after.
        let handled = !t.held_by_session && self.ask_about_pause(torrent, change.pauses());
        let Some(t) = self.state.torrent_mut(torrent).filter(|_| !handled) else { return };
        t.paused = change.pauses();
        t.record.changed(SaveResumeFlags::IF_STATE_CHANGED);
        t.draining = change == PauseChange::PauseGracefully;
        match change {
            PauseChange::Resume => self.go_on(torrent),
            PauseChange::Pause => self.halt(torrent),
            PauseChange::PauseGracefully => {
                for peer in self.state.peers_of(torrent) {
                    self.state.void_uploads(peer);
                    self.state.settle_draining(peer);
                }
                self.finish_draining(torrent);
            }
        }
        self.update_announcing(torrent);
    }

    fn halt(&mut self, torrent: TorrentHandle) {
        self.disconnect_all(torrent, ErrorCode::TORRENT_PAUSED);
        if let Some(t) = self.state.torrent(torrent) {
            let name = t.name().to_owned();
            self.state.alert(AlertKind::TorrentPaused { torrent, name });
        }
    }

    fn go_on(&mut self, torrent: TorrentHandle) {
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        t.error = None;
        let again = std::mem::take(&mut t.check_failed);
        let name = t.name().to_owned();
        self.state.alert(AlertKind::TorrentResumed { torrent, name });
        if again {
            self.begin_check(torrent);
        }
        // Those that a graceful pause had not closed yet.
        for peer in self.state.peers_of(torrent) {
            self.state.request_blocks(peer);
        }
        self.connect_peers(torrent);
    }

    /// The last connection of a graceful pause may be gone: then it is a pause like any other.
    pub(super) fn finish_draining(&mut self, torrent: TorrentHandle) {
        if self.state.torrent(torrent).is_some_and(|t| t.draining && t.peers.is_empty()) {
            self.change_pause(torrent, PauseChange::Pause);
        }
    }

    /// Pauses or resumes the session: of each torrent that this pauses or resumes, the plugins are asked as ever. One that
    /// they keep going goes on as if the session did.
    pub(super) fn pause_session(&mut self, pause: bool) {
        if self.state.paused == pause {
            return;
        }
        self.state.paused = pause;
        for torrent in self.state.order.clone() {
            let Some(t) = self.state.torrent_mut(torrent).filter(|t| t.held_by_session != pause) else {
                continue;
            };
            // Paused by itself, it is so before and after.
            let handled = !t.paused && self.ask_about_pause(torrent, pause);
            let Some(t) = self.state.torrent_mut(torrent) else { continue };
            match (pause, handled) {
                (true, true) => {}
                (true, false) => {
                    t.held_by_session = true;
                    self.disconnect_all(torrent, ErrorCode::TORRENT_PAUSED);
                }
                (false, _) => {
                    t.held_by_session = false;
                    // Kept from going on, it is paused by itself from now on.
                    t.paused |= handled;
                    self.connect_peers(torrent);
                }
            }
            self.update_announcing(torrent);
        }
    }

    /// Whether a plugin has it otherwise that a torrent pauses, or resumes.
    fn ask_about_pause(&mut self, torrent: TorrentHandle, pause: bool) -> bool {
        match pause {
            true => self.torrent_handled(torrent, TorrentHooks::on_pause, |p, cx| p.on_pause(cx)),
            false => self.torrent_handled(torrent, TorrentHooks::on_resume, |p, cx| p.on_resume(cx)),
        }
    }
}

impl State {
    /// Closes a connection of a torrent that is being paused gracefully, if nothing more is to come from it.
    pub(super) fn settle_draining(&mut self, peer: PeerHandle) {
        let done = self.pair(peer).is_some_and(|(c, torrent)| torrent.draining && c.requests.is_empty());
        if done {
            self.disconnect(peer, ErrorCode::TORRENT_PAUSED, Operation::BITTORRENT, Severity::NORMAL);
        }
    }
}
