//! Serving peers' requests.

use std::mem;

use bytes::Bytes;
use pilotfish_plugin::{ErrorCode, PeerHandle, TorrentHandle};

use super::state::{Reader, State, sent_piece};
use super::step::Step;
use crate::alert::AlertKind;
use crate::job::{DiskError, DiskJob, ReadToken};
use crate::metainfo::{BlockSpan, PieceIndex};
use crate::peer::{Connection, as_piece, as_raw};
use crate::wire::{Message, RawRequest, piece_header};

/// So many requests may come while a peer is choked before it is taken for broken.
const CHOKED_REQUESTS: u32 = 300;
/// So many pieces that were read lately are remembered, and so many of them suggested at a time (libtorrent's numbers).
const RECENTLY_READ: usize = 16;
const SUGGESTED: usize = 2;

/// Each peer may have so many bytes ready, however many share what one may have: its socket takes several blocks at once. Only
/// who takes as much shares it.
const LEAST_SHARE: u64 = 64 << 10;

impl State {
    /// A peer asks for a block.
    pub(super) fn on_request(&mut self, peer: PeerHandle, request: RawRequest) {
        let (now, most) = (self.now, self.settings.max_allowed_in_request_queue as usize);
        let Some((connection, torrent)) = self.pair(peer) else { return };
        connection.last_incoming_request = now;
        let span = torrent.geometry().span(request.piece, request.start, request.length);
        let span = span.filter(|span| span.len <= 8 * crate::metainfo::BLOCK_SIZE);
        let Some(span) = span.filter(|span| torrent.takes_peers() && torrent.picker.have(span.piece)) else {
            return self.reject(peer, request);
        };
        let allowed = !connection.choked || connection.granted_fast.contains(&span.piece);
        if !allowed {
            connection.choked_requests += 1;
            if connection.choked_requests > CHOKED_REQUESTS {
                self.steps.push_back(Step::AskDisconnect(peer, ErrorCode::TOO_MANY_REQUESTS_WHEN_CHOKED));
            }
            return self.reject(peer, request);
        }
        if connection.upload_queue.len() + connection.reading.len() >= most {
            return self.reject(peer, request);
        }
        connection.upload_queue.push_back(span);
        self.fill_uploads(peer);
    }

    /// Refuses a request, if the peer speaks the fast extension; else it has to find out by waiting.
    pub(super) fn reject(&mut self, peer: PeerHandle, request: RawRequest) {
        if self.peer(peer).is_some_and(crate::peer::Connection::fast) {
            self.send_and_tell(peer, &Message::Reject(request));
        }
    }

    /// A peer takes a request back. What is being read already is sent.
    pub(super) fn on_cancel(&mut self, peer: PeerHandle, request: RawRequest) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(span) = torrent.geometry().span(request.piece, request.start, request.length) else {
            return;
        };
        let Some(place) = connection.upload_queue.iter().position(|queued| *queued == span) else { return };
        connection.upload_queue.remove(place);
        self.reject(peer, request);
    }

    /// Choking a peer voids its requests, except for what it may ask for while choked.
    pub(super) fn void_uploads(&mut self, peer: PeerHandle) {
        let Some(connection) = self.peer_mut(peer) else { return };
        let granted = connection.granted_fast.clone();
        let queue = mem::take(&mut connection.upload_queue);
        let (kept, void): (Vec<BlockSpan>, Vec<BlockSpan>) =
            queue.into_iter().partition(|span| granted.contains(&span.piece));
        connection.upload_queue.extend(kept);
        void.into_iter().for_each(|span| self.reject(peer, as_raw(span)));
    }

    /// Reads as many blocks as should stand ready to be sent.
    pub(super) fn fill_uploads(&mut self, peer: PeerHandle) {
        let (low, high) = self.send_buffer_bounds();
        let lasting = self.settings.send_buffer_watermark_factor;
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let storage = torrent.storage;
        let ready = connection.send_ahead.wanted(sent_within(lasting, connection), low, high);
        let mut standing: u64 =
            connection.outbox.len() + connection.reading.iter().map(|span| u64::from(span.len)).sum::<u64>();
        let mut spans = Vec::new();
        while standing < ready
            && let Some(span) = connection.upload_queue.pop_front()
        {
            standing += u64::from(span.len);
            connection.reading.push(span);
            spans.push(span);
        }
        for span in spans {
            let token = ReadToken(self.fresh_id());
            self.reads.insert(token, Reader::Peer(peer, span));
            self.disk(DiskJob::Read { storage, span, token });
        }
    }

    /// The least and the most that stands ready to be sent to one peer, in bytes. All that take much share what one may have:
    /// they share the line, too, and what is much more does not stay in a processor's cache until it is sent.
    fn send_buffer_bounds(&self) -> (u64, u64) {
        let settings = &self.settings;
        let high = u64::from(settings.send_buffer_watermark);
        let share = high / u64::from(self.takers.max(1));
        (settings.send_buffer_low_watermark.into(), high.min(share.max(LEAST_SHARE)))
    }

    /// Looks again whether a peer takes much, or has it and does not take it.
    pub(super) fn count_taker(&mut self, peer: PeerHandle) {
        let lasting = self.settings.send_buffer_watermark_factor;
        let Some(connection) = self.peer_mut(peer) else { return };
        let ready = connection.send_ahead.wanted(sent_within(lasting, connection), 0, u64::MAX);
        let takes_much =
            connection.outbox.len() >= LEAST_SHARE || (!connection.choked && ready >= LEAST_SHARE);
        match (mem::replace(&mut connection.takes_much, takes_much), takes_much) {
            (false, true) => self.takers += 1,
            (true, false) => self.takers -= 1,
            _ => {}
        }
    }

    /// A socket took bytes: there is room for more.
    pub(super) fn refill_uploads(&mut self, peer: PeerHandle) {
        let (low, high) = self.send_buffer_bounds();
        let Some(connection) = self.peer_mut(peer) else { return };
        if connection.outbox.is_empty() && !connection.upload_queue.is_empty() {
            connection.send_ahead.emptied(low, high);
            self.count_taker(peer);
        }
        self.fill_uploads(peer);
    }

    /// A block was read.
    pub(super) fn on_read(&mut self, token: ReadToken, data: Result<Bytes, DiskError>) {
        match self.reads.remove(&token) {
            Some(Reader::Peer(peer, span)) => self.on_read_for_peer(peer, span, data),
            Some(Reader::Plugin(torrent, plugin, span)) => {
                self.on_read_for_plugin(torrent, plugin, span, data);
            }
            Some(Reader::Hash(..)) | None => {}
        }
    }

    fn on_read_for_peer(&mut self, peer: PeerHandle, span: BlockSpan, data: Result<Bytes, DiskError>) {
        let now = self.now;
        let Some(connection) = self.peer_mut(peer).filter(|connection| !connection.is_closing()) else {
            return;
        };
        let Some(place) = connection.reading.iter().position(|reading| *reading == span) else { return };
        connection.reading.swap_remove(place);
        match data {
            Ok(data) => {
                let torrent = connection.torrent;
                let header = piece_header(span.piece.get(), span.start, span.len);
                connection.outbox.push(&header);
                connection.outbox.payload(data);
                connection.last_sent = now;
                self.note_read(torrent, span.piece);
                self.transmit(peer);
                self.steps.push_back(Step::Sent(peer, sent_piece(span)));
                if self.wants_alert(pilotfish_plugin::AlertCategory::UPLOAD)
                    && let Some(torrent) = torrent
                {
                    let piece = as_piece(span.piece.get());
                    self.alert(AlertKind::BlockUploaded { torrent, peer, piece, start: span.start });
                }
            }
            Err(error) => {
                let torrent = connection.torrent;
                self.reject(peer, as_raw(span));
                if let Some(torrent) = torrent {
                    self.disk_failed(torrent, &error);
                }
            }
        }
        self.fill_uploads(peer);
    }

    /// A piece was read from disk just now: others that ask for it soon find it at hand.
    fn note_read(&mut self, torrent: Option<TorrentHandle>, piece: PieceIndex) {
        if self.settings.suggest_mode == 0 {
            return;
        }
        let Some(t) = torrent.and_then(|torrent| self.torrent_mut(torrent)) else { return };
        let recent = &mut t.company_mut().recently_read;
        if recent.front() != Some(&piece) {
            recent.retain(|read| *read != piece);
            recent.push_front(piece);
            recent.truncate(RECENTLY_READ);
        }
    }

    /// Suggests pieces that are at hand to a peer that may ask from now on.
    pub(super) fn suggest_pieces(&mut self, peer: PeerHandle) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        if !connection.fast() || connection.offered.is_some() {
            return;
        }
        let lacks = |piece: &&PieceIndex| !connection.has.get(piece.get());
        let recent = torrent.company().into_iter().flat_map(|company| &company.recently_read);
        let at_hand: Vec<PieceIndex> = recent.filter(lacks).take(SUGGESTED).copied().collect();
        for piece in at_hand {
            self.send_and_tell(peer, &Message::Suggest(piece.get()));
        }
    }
}

/// What a peer takes, at its rate, within so many hundredths of a second, in bytes.
fn sent_within(hundredths: u32, connection: &Connection) -> u64 {
    connection.payload_up.latest() * u64::from(hundredths) / 100
}
