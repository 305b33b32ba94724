//! Doing what is written down.

use pilotfish_plugin::rt::HookStatus;
use pilotfish_plugin::{
    ErrorCode, MessageOrigin, Operation, PeerHandle, PeerHooks, PexFlags, SessionHooks, Severity,
};

use super::Engine;
use super::step::{Sent, Step};
use crate::alert::{Alert, AlertKind};
use crate::metainfo::BlockSpan;
use crate::peer::{as_raw, as_request};
use crate::wire::Message;

impl Engine {
    /// Does one step. No hook is running.
    pub(super) fn run(&mut self, step: Step) {
        match step {
            Step::Sent(peer, sent) => self.tell_sent(peer, sent),
            Step::Request(peer, span) => self.request(peer, span),
            Step::RequestRun(peer, run) => self.request_run(peer, run),
            Step::ImpliedReject(peer, span) => {
                self.inbound(peer, Message::Reject(as_raw(span)), MessageOrigin::IMPLIED);
            }
            Step::Payload(peer, bytes) => {
                self.tell_peer(peer, PeerHooks::sent_payload, |p, cx| p.sent_payload(cx, bytes))
            }
            Step::AskDisconnect(peer, error) => self.ask_disconnect(peer, error),
            Step::Disconnect(peer) => self.finish_disconnect(peer),
            Step::AttachPeer(peer, plugin, boxed) => self.attach_peer(peer, plugin, boxed.0),
            Step::AttachTorrent(torrent, plugin, boxed) => self.attach_torrent(torrent, plugin, boxed.0),
            Step::SwitchSendCipher { peer, owner, from, cipher } => {
                self.switch_send_cipher(peer, owner, from, cipher.0)
            }
            Step::SwitchRecvCipher { peer, owner, cipher } => {
                self.switch_receive_cipher(peer, owner, cipher.0)
            }
            Step::OfferPeer(torrent, address, source) => self.offer_peer(torrent, address, source),
            Step::AddPeer { torrent, address, source, flags, teller } => {
                if let Some(teller) = teller.filter(|_| flags.contains(PexFlags::HOLEPUNCH)) {
                    self.state.told_by(teller, address);
                }
                self.offer_peer_with(torrent, address, source, flags);
            }
            Step::Ban(torrent, address, reason) => self.ban(torrent, address, reason),
            Step::AddTorrent(ticket, torrent) => self.add_torrent(ticket, torrent),
            Step::RemoveTorrent(torrent, delete_files) => self.remove_torrent(torrent, delete_files),
            Step::Wanted(torrent) => self.on_wanted(torrent),
            Step::Pause(torrent, change) => self.change_pause(torrent, change),
            Step::PauseSession(pause) => self.pause_session(pause),
            Step::Recheck(torrent) => self.recheck(torrent),
            Step::FileError(torrent, file, error) => self.on_file_error(torrent, file, error),
            Step::BlockRead { torrent, plugin, block, data, error } => {
                self.tell_block_read(torrent, plugin, block, &data, error)
            }
            Step::BlockHash { torrent, plugin, block, sha1, error } => {
                self.tell_block_hash(torrent, plugin, block, &sha1, error)
            }
            Step::Alert(alert) => self.tell_alert(&alert),
            Step::Fault { plugin, hook, place, text } => self.on_fault(plugin, hook, place, &text),
        }
    }

    /// A message of ours was queued.
    fn tell_sent(&mut self, peer: PeerHandle, sent: Sent) {
        match sent {
            Sent::HaveAll => self.tell_peer(peer, PeerHooks::sent_have_all, |p, cx| p.sent_have_all(cx)),
            Sent::HaveNone => self.tell_peer(peer, PeerHooks::sent_have_none, |p, cx| p.sent_have_none(cx)),
            Sent::RejectRequest(r) => {
                self.tell_peer(peer, PeerHooks::sent_reject_request, |p, cx| p.sent_reject_request(cx, r));
            }
            Sent::AllowFast(i) => {
                self.tell_peer(peer, PeerHooks::sent_allow_fast, |p, cx| p.sent_allow_fast(cx, i))
            }
            Sent::Suggest(i) => self.tell_peer(peer, PeerHooks::sent_suggest, |p, cx| p.sent_suggest(cx, i)),
            Sent::Cancel(r) => self.tell_peer(peer, PeerHooks::sent_cancel, |p, cx| p.sent_cancel(cx, r)),
            Sent::Request(r) => self.tell_peer(peer, PeerHooks::sent_request, |p, cx| p.sent_request(cx, r)),
            Sent::Choke => self.tell_peer(peer, PeerHooks::sent_choke, |p, cx| p.sent_choke(cx)),
            Sent::Unchoke => self.tell_peer(peer, PeerHooks::sent_unchoke, |p, cx| p.sent_unchoke(cx)),
            Sent::Interested => {
                self.tell_peer(peer, PeerHooks::sent_interested, |p, cx| p.sent_interested(cx))
            }
            Sent::NotInterested => {
                self.tell_peer(peer, PeerHooks::sent_not_interested, |p, cx| p.sent_not_interested(cx));
            }
            Sent::Have(i) => self.tell_peer(peer, PeerHooks::sent_have, |p, cx| p.sent_have(cx, i)),
            Sent::Piece(r) => self.tell_peer(peer, PeerHooks::sent_piece, |p, cx| p.sent_piece(cx, r)),
        }
    }

    /// A block was picked for a peer: `write_request` decides what becomes of it.
    fn request(&mut self, peer: PeerHandle, span: BlockSpan) {
        let now = self.state.now;
        if self.open_peer(peer).is_none_or(|connection| !connection.requests.contains(span)) {
            return;
        }
        let subject = self.subject(peer);
        let request = as_request(span);
        let stops = |status| status == HookStatus::HANDLED || status == HookStatus::DROPPED;
        let answer = match self.chains.peers.get_mut(peer) {
            Some(chain) => chain.first(&mut self.state, subject, PeerHooks::write_request, stops, |p, cx| {
                p.write_request(cx, request)
            }),
            None => HookStatus::CONTINUE,
        };
        let Some((connection, torrent)) = self.state.pair(peer).filter(|(c, _)| !c.is_closing()) else {
            return;
        };
        match answer {
            HookStatus::HANDLED => {}
            HookStatus::DROPPED => {
                connection.requests.rejected(span, now);
                torrent.picker.abort(peer, span);
            }
            _ => {
                connection.last_request = Some(now);
                self.state.send_and_tell(peer, &Message::Request(as_raw(span)));
            }
        }
    }

    /// Closes a connection for a reason of policy, if no plugin refuses.
    fn ask_disconnect(&mut self, peer: PeerHandle, error: ErrorCode) {
        if self.open_peer(peer).is_some() && self.all_consent(peer, error) {
            // Nobody answered: as much of a failure as a refusal.
            let (operation, severity) = match error {
                ErrorCode::TIMED_OUT => (Operation::CONNECT, Severity::FAILURE),
                _ => (Operation::BITTORRENT, Severity::NORMAL),
            };
            self.state.disconnect(peer, error, operation, severity);
        }
    }

    /// Tells the plugins that listen; a plugin does not hear its own log lines, or it could not write any about alerts.
    fn tell_alert(&mut self, alert: &Alert) {
        let speaker =
            if let AlertKind::Log { plugin, .. } = &alert.kind { Some(plugin.as_str()) } else { None };
        let silent = |name: &str| speaker == Some(name);
        let raw = super::host_api::lend_alert(alert);
        let category = alert.kind.category();
        for i in 0..self.state.plugins.len() {
            let record = &self.state.plugins[i];
            if record.alert_mask().intersects(category) && !silent(&record.name) {
                let id = pilotfish_plugin::PluginId(u32::try_from(i).unwrap_or(u32::MAX));
                let Self { state, chains } = self;
                chains
                    .session
                    .only(state, id, (), SessionHooks::on_alert, |p, cx| p.on_alert(cx, raw.wire()));
            }
        }
    }
}
