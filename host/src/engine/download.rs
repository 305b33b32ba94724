//! Asking peers for blocks, and what becomes of the blocks.

use bytes::Bytes;
use pilotfish_plugin::PeerHandle;

use super::Engine;
use super::state::State;
use super::step::Step;
use crate::job::DiskJob;
use crate::metainfo::{BLOCK_SIZE, BlockSpan, PieceIndex};
use crate::peer::{Direction, as_raw};
use crate::torrent::PickOptions;
use crate::wire::{Message, RawRequest};

/// A peer that sends faster than this, in B/s, gets whole pieces of its own.
const FAST_PEER: u64 = 1 << 20;

/// A block of padding.
static ZEROS: [u8; BLOCK_SIZE as usize] = [0; BLOCK_SIZE as usize];

impl Engine {
    /// A plugin took a block: it is not waited for any more, and not asked of this peer again.
    pub(super) fn retire_block(&mut self, peer: PeerHandle, span: BlockSpan) {
        let now = self.state.now;
        let Some(connection) = self.open_peer(peer) else { return };
        // To the picker the block stays with this peer, so that it is not picked for it again.
        connection.requests.received(span, now);
        self.state.request_blocks(peer);
    }
}

impl State {
    /// Picks as many blocks as the peer's queue has room for, and writes their requests down.
    pub(super) fn request_blocks(&mut self, peer: PeerHandle) {
        let now = self.now;
        let Some((connection, torrent, rng)) = self.triple(peer) else { return };
        if torrent.draining {
            return self.settle_draining(peer);
        }
        if connection.web.is_some() {
            return self.request_runs(peer);
        }
        if !connection.is_established()
            || !connection.interesting
            || !torrent.is_downloading()
            || torrent.disk_congested
        {
            return;
        }
        let room = connection.requests.room();
        if room == 0 {
            return;
        }
        let only: Option<&[PieceIndex]> = connection.peer_choked.then_some(&connection.allowed_fast);
        if only.is_some_and(<[PieceIndex]>::is_empty) {
            return;
        }
        let parole = torrent.candidates.known(connection.known_as).is_some_and(|known| known.parole);
        // What was asked of others is on its way: copies are asked for one at a time, of who has nothing else to do.
        let endgame = !parole && torrent.picker.all_requested();
        let room = match endgame {
            true if connection.requests.is_empty() => 1,
            true => return,
            false => room,
        };
        let options = PickOptions {
            suggested: &connection.suggested,
            only,
            parole,
            contiguous: connection.payload_down.rate() > FAST_PEER,
            endgame,
        };
        let mut spans = Vec::new();
        torrent.picker.pick(peer, &connection.has, room, &options, rng, &mut spans);
        if parole && spans.is_empty() && torrent.picker.stands_still() {
            // Others had a part in all that is left, and none of them goes on with it.
            let options = PickOptions { parole: false, ..options };
            torrent.picker.pick(peer, &connection.has, room, &options, rng, &mut spans);
        }
        for span in &spans {
            connection.requests.sent(*span, now);
        }
        self.steps.extend(spans.into_iter().map(|span| Step::Request(peer, span)));
    }

    /// A block came, and no plugin took it.
    pub(super) fn on_block(&mut self, peer: PeerHandle, piece: u32, start: u32, data: Bytes) {
        let (now, limit) = (self.now, u64::from(self.settings.max_queued_disk_bytes));
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let Some(span) = torrent.geometry().block_at(piece, start, length) else { return };
        let asked = connection.requests.received(span, now).is_some();
        if !asked || torrent.picker.have(span.piece) || !torrent.files_checked {
            torrent.redundant_bytes += u64::from(length);
            return self.request_blocks(peer);
        }
        let received = torrent.picker.received(peer, span);
        if received.duplicate {
            torrent.redundant_bytes += u64::from(length);
            return self.request_blocks(peer);
        }
        let padding = torrent.picker.take_padding(span.piece);
        let (storage, handle) = (torrent.storage, torrent.handle);
        torrent.record.hand_over(length);
        self.queued_disk_bytes += u64::from(length);
        // All torrents share the memory; those that fill it wait.
        if self.queued_disk_bytes > limit {
            self.congest(handle);
        }
        let stop_reading = self.queued_disk_bytes > 2 * limit;
        self.disk(DiskJob::Write { storage, span, data });
        for span in padding {
            self.queued_disk_bytes += u64::from(span.len);
            self.disk(DiskJob::Write {
                storage,
                span,
                data: Bytes::from_static(&ZEROS[..span.len as usize]),
            });
        }
        received.others.into_iter().for_each(|other| self.cancel(other, span));
        if received.piece_complete && self.settings.predictive_piece_announce > 0 {
            self.announce_early(handle, span.piece);
        }
        if stop_reading {
            self.pause_reading(handle);
        }
        self.request_blocks(peer);
    }

    /// Another peer was faster: this one need not send the block.
    fn cancel(&mut self, peer: PeerHandle, span: BlockSpan) {
        let Some(connection) = self.peer_mut(peer).filter(|c| !c.is_closing() && c.requests.contains(span))
        else {
            return;
        };
        if !connection.fast() {
            self.steps.push_back(Step::ImpliedReject(peer, span));
        }
        self.send_and_tell(peer, &Message::Cancel(as_raw(span)));
    }

    /// The peer will not send a block.
    pub(super) fn on_reject(&mut self, peer: PeerHandle, request: RawRequest) {
        let now = self.now;
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(span) = torrent.geometry().block_at(request.piece, request.start, request.length) else {
            return;
        };
        if !connection.requests.rejected(span, now) {
            return;
        }
        torrent.picker.abort(peer, span);
        if connection.peer_choked {
            connection.allowed_fast.retain(|piece| *piece != span.piece);
        }
        connection.suggested.retain(|piece| *piece != span.piece);
        // Asking at once for the same block again would only bring the next reject.
        if !connection.peer_choked {
            self.request_blocks(peer);
        }
    }

    /// The disk is behind: this torrent requests nothing until it has caught up.
    fn congest(&mut self, torrent: pilotfish_plugin::TorrentHandle) {
        let Some(t) = self.torrent_mut(torrent) else { return };
        if !std::mem::replace(&mut t.disk_congested, true) {
            self.congested.push(torrent);
        }
    }

    /// The disk is far behind: peers that owe us blocks are not read until it has caught up. Their timeouts stand still.
    fn pause_reading(&mut self, torrent: pilotfish_plugin::TorrentHandle) {
        let now = self.now;
        for peer in self.peers_of(torrent) {
            if let Some(connection) = self.peer_mut(peer)
                && !connection.requests.is_empty()
                && !connection.read_paused
            {
                connection.read_paused = true;
                connection.requests.pause(now);
            }
        }
    }

    /// The disk has caught up.
    pub(super) fn resume_reading(&mut self, torrent: pilotfish_plugin::TorrentHandle) {
        let now = self.now;
        for peer in self.peers_of(torrent) {
            if let Some(connection) = self.peer_mut(peer)
                && std::mem::replace(&mut connection.read_paused, false)
                && !connection.allowances[Direction::Download as usize].waits
            {
                connection.requests.resume(now);
                self.outputs.push_back(super::Output::Read(peer));
            }
            self.request_blocks(peer);
        }
    }
}
