//! A message on its way: what may be refused before any plugin sees it, the plugin chain, what cannot be skipped, and the
//! default handler.

use bytes::Bytes;
use pilotfish_plugin::{Bitfield as LentBitfield, ErrorCode, MessageOrigin, PeerHandle, PeerHooks};

use super::Engine;
use super::step::Step;
use crate::alert::AlertKind;
use crate::metainfo::BlockSpan;
use crate::peer::{
    Arriving, Bitfield, LT_DONTHAVE, SHARE_MODE, UPLOAD_ONLY, UT_HOLEPUNCH, allowed_fast, as_peer_request,
    as_piece,
};
use crate::wire::{DecodeError, Event, Message, id};

impl Engine {
    /// Bytes came: everything that is complete is handled, one after the other.
    pub(super) fn on_received(&mut self, peer: PeerHandle, len: usize, scratch: &[u8]) {
        let now = self.state.now;
        self.state.settle_interest(peer);
        self.pump();
        let enciphered = self.chains.ciphers.receives(peer);
        let Some(connection) = self.state.peer_mut(peer) else { return };
        connection.last_received = now;
        connection.down.add(len as u64);
        if enciphered {
            self.on_cipher_text(peer, &scratch[..len.min(scratch.len())]);
        } else {
            connection.decoder.received(len, scratch);
        }
        self.decode(peer);
    }

    /// Handles what the decoder has, until it needs more bytes or the connection is to end.
    pub(super) fn decode(&mut self, peer: PeerHandle) {
        loop {
            let pool = self.state.pool.clone();
            let Some(connection) = self.open_peer(peer) else { return };
            if connection.phase == crate::peer::Phase::Held {
                return;
            }
            match connection.decoder.next(&pool) {
                Ok(Some(event)) => self.on_event(peer, event),
                Ok(None) if self.decrypt(peer) => {}
                Ok(None) => return,
                Err(error) => return self.on_decode_error(peer, error),
            }
            self.pump();
        }
    }

    fn on_event(&mut self, peer: PeerHandle, event: Event) {
        match event {
            Event::InfoHash { reserved, info_hash } => self.on_info_hash(peer, reserved, info_hash),
            Event::PeerId(id) => self.on_peer_id(peer, id),
            Event::Message(message) => self.inbound(peer, message, MessageOrigin::WIRE),
            Event::PieceStarted { piece, start, length } => {
                let request = crate::wire::RawRequest { piece, start, length };
                if let Some(connection) = self.state.peer_mut(peer) {
                    connection.arriving = Some(Arriving { request });
                }
                if length != 0 && self.block(peer, piece, start, length).is_none() {
                    self.state.peer_error(peer, ErrorCode::INVALID_PIECE);
                }
            }
            Event::Fragment { extended, id, length, body } => {
                if !extended {
                    self.begin_unknown(peer, id, length);
                }
                self.on_fragment(peer, extended, id, length, &body)
            }
        }
    }

    fn on_decode_error(&mut self, peer: PeerHandle, error: DecodeError) {
        let code = match error {
            DecodeError::NotBitTorrent => return self.on_other_handshake(peer),
            DecodeError::PacketTooLarge { .. } => ErrorCode::PACKET_TOO_LARGE,
            DecodeError::InvalidExtended => ErrorCode::INVALID_EXTENDED,
            DecodeError::WrongSize { id, .. } => wrong_size(id),
        };
        self.state.peer_error(peer, code);
    }

    /// A message, from the wire or implied by the engine.
    pub(super) fn inbound(&mut self, peer: PeerHandle, message: Message, origin: MessageOrigin) {
        if origin == MessageOrigin::WIRE
            && let Some(error) = self.refuse(peer, &message)
        {
            return self.state.peer_error(peer, error);
        }
        if let Message::Request(request) = &message
            && self.state.withholds(peer, request.piece)
        {
            return self.state.reject(peer, *request);
        }
        self.before_hook(peer, &message);
        if let Message::Extended { id, payload } = &message
            && self.own_extension(peer, *id, payload)
        {
            return;
        }
        let handled = self.deliver(peer, &message, origin);
        if matches!(message, Message::Choke) {
            self.void_requests(peer);
        }
        if self.open_peer(peer).is_none() {
            return;
        }
        if handled {
            return self.after_handled(peer, &message);
        }
        self.after_hook(peer, &message);
        self.default_handler(peer, message, origin);
    }

    /// What breaks the protocol whatever plugins think of it (HOOKS: "checked before the hook").
    fn refuse(&mut self, peer: PeerHandle, message: &Message) -> Option<ErrorCode> {
        let (connection, torrent) = self.state.pair(peer)?;
        let fast = connection.fast();
        let num_pieces = torrent.geometry().num_pieces();
        match message {
            Message::HaveAll if !fast => Some(ErrorCode::INVALID_HAVE_ALL),
            Message::HaveNone if !fast => Some(ErrorCode::INVALID_HAVE_NONE),
            Message::Suggest(_) if !fast => Some(ErrorCode::INVALID_SUGGEST),
            Message::Reject(_) if !fast => Some(ErrorCode::INVALID_REJECT),
            Message::AllowedFast(_) if !fast => Some(ErrorCode::INVALID_ALLOW_FAST),
            Message::Bitfield(bits)
                if torrent.has_metadata() && bits.len() != num_pieces.div_ceil(8) as usize =>
            {
                Some(ErrorCode::INVALID_BITFIELD_SIZE)
            }
            Message::Piece { piece, start, data } if !data.is_empty() => {
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                let block = torrent.geometry().block_at(*piece, *start, length);
                block.is_none().then_some(ErrorCode::INVALID_PIECE)
            }
            _ => None,
        }
    }

    /// What happens before plugins see a message, and cannot be skipped by them.
    fn before_hook(&mut self, peer: PeerHandle, message: &Message) {
        match message {
            Message::Interested => {
                self.grant_allowed_fast(peer);
                self.pump();
            }
            Message::Request(_) | Message::Piece { .. } => self.imply_have_none(peer),
            _ => {}
        }
        if let Message::Piece { piece, start, data } = message {
            if let Some(connection) = self.state.peer_mut(peer) {
                connection.arriving = None;
            }
            self.note_unwanted(peer, *piece, *start, data);
        }
    }

    /// What happens between the plugins and the default handler.
    fn after_hook(&mut self, peer: PeerHandle, message: &Message) {
        match message {
            Message::Have(_) => self.imply_have_none(peer),
            Message::Request(_) => self.imply_interested(peer),
            _ => {}
        }
    }

    /// A plugin took the message: what the engine's books must say all the same.
    fn after_handled(&mut self, peer: PeerHandle, message: &Message) {
        if let Message::Piece { piece, start, data } = message
            && let Some(span) = self.block(peer, *piece, *start, u32::try_from(data.len()).unwrap_or(0))
        {
            self.retire_block(peer, span);
        }
    }

    /// Which block of the torrent this is, if any.
    pub(super) fn block(
        &mut self,
        peer: PeerHandle,
        piece: u32,
        start: u32,
        length: u32,
    ) -> Option<BlockSpan> {
        let (_, torrent) = self.state.pair(peer)?;
        torrent.geometry().block_at(piece, start, length)
    }

    fn imply_have_none(&mut self, peer: PeerHandle) {
        if self.open_peer(peer).is_some_and(|connection| !connection.bitfield_received) {
            self.inbound(peer, Message::HaveNone, MessageOrigin::IMPLIED);
            self.pump();
        }
    }

    fn imply_interested(&mut self, peer: PeerHandle) {
        if self.open_peer(peer).is_some_and(|connection| !connection.peer_interested) {
            self.inbound(peer, Message::Interested, MessageOrigin::IMPLIED);
            self.pump();
        }
    }

    /// The first INTERESTED of a fast peer: it may ask for a few pieces even while it is choked (BEP 6).
    fn grant_allowed_fast(&mut self, peer: PeerHandle) {
        let k = self.state.settings.allowed_fast_set_size as usize;
        let Some((connection, torrent)) = self.state.pair(peer) else { return };
        if !torrent.has_metadata()
            || !connection.fast()
            || connection.offered.is_some()
            || std::mem::replace(&mut connection.allowed_fast_sent, true)
            || connection.upload_only()
        {
            return;
        }
        let geometry = torrent.geometry();
        let hash = torrent.description.info_hashes().truncated();
        let set = allowed_fast(connection.remote.ip(), &hash, geometry.num_pieces(), k);
        let lacks: Vec<u32> = set.into_iter().filter(|piece| !connection.has.get(*piece)).collect();
        connection.granted_fast.extend(lacks.iter().filter_map(|piece| geometry.piece(*piece)));
        for piece in lacks {
            self.state.send_and_tell(peer, &Message::AllowedFast(piece));
        }
    }

    /// A peer without the fast extension has choked us: it forgets what we asked for, and does not say so.
    fn void_requests(&mut self, peer: PeerHandle) {
        // A web seed answers what it was sent before it closes the connection.
        let forgets =
            |connection: &&mut crate::peer::Connection| !connection.fast() && connection.web.is_none();
        let Some(connection) = self.open_peer(peer).filter(forgets) else { return };
        let spans: Vec<BlockSpan> = connection.requests.iter().collect();
        self.state.steps.extend(spans.into_iter().map(|span| Step::ImpliedReject(peer, span)));
    }

    fn note_unwanted(&mut self, peer: PeerHandle, piece: u32, start: u32, data: &Bytes) {
        let Some(span) = self.block(peer, piece, start, u32::try_from(data.len()).unwrap_or(0)) else {
            return;
        };
        let Some((connection, torrent)) = self.state.pair(peer) else { return };
        connection.payload_down.add(data.len() as u64);
        torrent.payload_down.add(data.len() as u64);
        if !connection.requests.contains(span) {
            let (address, torrent) = (connection.remote, torrent.handle);
            self.state.alert(AlertKind::UnwantedBlock {
                torrent,
                peer,
                address,
                piece: as_piece(piece),
                start,
            });
        }
    }

    /// Takes a message along the plugin chain; whether one of them handled it.
    fn deliver(&mut self, peer: PeerHandle, message: &Message, origin: MessageOrigin) -> bool {
        match message {
            Message::KeepAlive | Message::Port(_) | Message::Hash(_) => false,
            Message::Choke => self.first_handled(peer, origin, PeerHooks::on_choke, |p, cx| p.on_choke(cx)),
            Message::Unchoke => {
                self.first_handled(peer, origin, PeerHooks::on_unchoke, |p, cx| p.on_unchoke(cx))
            }
            Message::Interested => {
                self.first_handled(peer, origin, PeerHooks::on_interested, |p, cx| p.on_interested(cx))
            }
            Message::NotInterested => {
                self.first_handled(peer, origin, PeerHooks::on_not_interested, |p, cx| {
                    p.on_not_interested(cx)
                })
            }
            Message::Have(i) => {
                let i = as_piece(*i);
                self.first_handled(peer, origin, PeerHooks::on_have, |p, cx| p.on_have(cx, i))
            }
            Message::Bitfield(bits) => self.deliver_bitfield(peer, origin, bits),
            Message::HaveAll => {
                self.first_handled(peer, origin, PeerHooks::on_have_all, |p, cx| p.on_have_all(cx))
            }
            Message::HaveNone => {
                self.first_handled(peer, origin, PeerHooks::on_have_none, |p, cx| p.on_have_none(cx))
            }
            Message::AllowedFast(i) => {
                let i = as_piece(*i);
                self.first_handled(peer, origin, PeerHooks::on_allowed_fast, |p, cx| p.on_allowed_fast(cx, i))
            }
            Message::Request(r) => {
                let r = as_peer_request(*r);
                self.first_handled(peer, origin, PeerHooks::on_request, |p, cx| p.on_request(cx, r))
            }
            Message::Piece { piece, start, data } => {
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                let r = as_peer_request(crate::wire::RawRequest { piece: *piece, start: *start, length });
                self.first_handled(peer, origin, PeerHooks::on_piece, |p, cx| {
                    p.on_piece(cx, r, data[..].into())
                })
            }
            Message::Cancel(r) => {
                let r = as_peer_request(*r);
                self.first_handled(peer, origin, PeerHooks::on_cancel, |p, cx| p.on_cancel(cx, r))
            }
            Message::Reject(r) => {
                let r = as_peer_request(*r);
                self.first_handled(peer, origin, PeerHooks::on_reject, |p, cx| p.on_reject(cx, r))
            }
            Message::Suggest(i) => {
                let i = as_piece(*i);
                self.first_handled(peer, origin, PeerHooks::on_suggest, |p, cx| p.on_suggest(cx, i))
            }
            Message::Extended { id, payload } => self.deliver_raw(peer, origin, true, *id, payload),
            Message::Unknown { id, payload } => {
                self.begin_unknown(peer, *id, u32::try_from(payload.len()).unwrap_or(u32::MAX));
                self.deliver_raw(peer, origin, false, *id, payload)
            }
        }
    }

    fn deliver_bitfield(&mut self, peer: PeerHandle, origin: MessageOrigin, bits: &Bytes) -> bool {
        let Some((_, torrent)) = self.state.pair(peer) else { return false };
        // The size was checked; the spare bits are cleared here, and the value is not the engine's own.
        let bitfield = match torrent.has_metadata() {
            true => Bitfield::from_wire(bits, torrent.geometry().num_pieces()),
            // Nobody knows how many of the bits are pieces.
            false => Some(Bitfield::from_wire_unsized(bits)),
        };
        let Some(bitfield) = bitfield else { return false };
        let lent = LentBitfield::new(bitfield.as_bytes(), bitfield.len());
        self.first_handled(peer, origin, PeerHooks::on_bitfield, |p, cx| p.on_bitfield(cx, lent))
    }

    fn deliver_raw(
        &mut self,
        peer: PeerHandle,
        origin: MessageOrigin,
        extended: bool,
        id: u8,
        body: &[u8],
    ) -> bool {
        if let Some(connection) = self.state.peer_mut(peer) {
            connection.fragment_seen = false;
        }
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        if extended {
            // Whom a plugin offers meanwhile is somebody that this peer told of.
            self.state.teller = Some(peer);
            let handled = self.first_handled(peer, origin, PeerHooks::on_extended, |p, cx| {
                p.on_extended(cx, length, id, body.into())
            });
            self.state.teller = None;
            handled
        } else {
            self.first_handled(peer, origin, PeerHooks::on_unknown_message, |p, cx| {
                p.on_unknown_message(cx, length, id, body.into())
            })
        }
    }

    /// Whoever watches an unknown message grow sees it begin, however much of it came at once (as with libtorrent).
    fn begin_unknown(&mut self, peer: PeerHandle, id: u8, length: u32) {
        if self.state.peer(peer).is_some_and(|connection| !connection.fragment_seen) {
            self.on_fragment(peer, false, id, length, &[]);
        }
    }

    /// Part of a long message came: plugins that want to see it grow do. What they answer decides nothing yet.
    fn on_fragment(&mut self, peer: PeerHandle, extended: bool, id: u8, length: u32, body: &[u8]) {
        if extended && [0, UPLOAD_ONLY, UT_HOLEPUNCH, LT_DONTHAVE, SHARE_MODE].contains(&id) {
            return;
        }
        let subject = self.subject(peer);
        let Self { state, chains } = self;
        let Some(chain) = chains.peers.get_mut(peer) else { return };
        let Some(connection) = state.peer_mut(peer) else { return };
        connection.packet_finished = false;
        connection.fragment_seen = true;
        if extended {
            chain.first_to_handle_fragment(state, subject, PeerHooks::on_extended, |p, cx| {
                p.on_extended(cx, length, id, body.into())
            });
        } else {
            chain.first_to_handle_fragment(state, subject, PeerHooks::on_unknown_message, |p, cx| {
                p.on_unknown_message(cx, length, id, body.into())
            });
        }
        if let Some(connection) = self.state.peer_mut(peer) {
            connection.packet_finished = true;
        }
    }

    /// Extended messages that are the engine's own; whether this was one.
    fn own_extension(&mut self, peer: PeerHandle, id: u8, payload: &Bytes) -> bool {
        match (id, payload.as_ref()) {
            (0, payload) => self.on_extension_handshake(peer, payload),
            (UPLOAD_ONLY, [flag]) => {
                let upload_only = *flag != 0;
                if let Some(connection) = self.state.peer_mut(peer) {
                    connection.said_upload_only = upload_only;
                }
                self.state.check_redundant(peer);
            }
            (LT_DONTHAVE, &[a, b, c, d]) => {
                self.on_dont_have(peer, u32::from_be_bytes([a, b, c, d]), MessageOrigin::WIRE);
            }
            (UT_HOLEPUNCH, payload) => self.on_holepunch(peer, payload),
            (UPLOAD_ONLY | LT_DONTHAVE | SHARE_MODE, _) => {}
            _ => return false,
        }
        true
    }

    pub(super) fn on_dont_have(&mut self, peer: PeerHandle, raw: u32, origin: MessageOrigin) {
        let Some((_, torrent)) = self.state.pair(peer) else { return };
        if torrent.geometry().piece(raw).is_none() {
            return;
        }
        let i = as_piece(raw);
        let handled =
            self.first_handled(peer, origin, PeerHooks::on_dont_have, |p, cx| p.on_dont_have(cx, i));
        if !handled && self.open_peer(peer).is_some() {
            self.state.lose_piece(peer, raw);
        }
    }
}

/// The error of a message whose size is wrong.
fn wrong_size(message: u8) -> ErrorCode {
    match message {
        id::CHOKE => ErrorCode::INVALID_CHOKE,
        id::UNCHOKE => ErrorCode::INVALID_UNCHOKE,
        id::INTERESTED => ErrorCode::INVALID_INTERESTED,
        id::NOT_INTERESTED => ErrorCode::INVALID_NOT_INTERESTED,
        id::HAVE => ErrorCode::INVALID_HAVE,
        id::REQUEST => ErrorCode::INVALID_REQUEST,
        id::PIECE => ErrorCode::INVALID_PIECE,
        id::CANCEL => ErrorCode::INVALID_CANCEL,
        id::SUGGEST => ErrorCode::INVALID_SUGGEST,
        id::HAVE_ALL => ErrorCode::INVALID_HAVE_ALL,
        id::HAVE_NONE => ErrorCode::INVALID_HAVE_NONE,
        id::REJECT => ErrorCode::INVALID_REJECT,
        id::ALLOWED_FAST => ErrorCode::INVALID_ALLOW_FAST,
        id::HASH_REQUEST | id::HASHES | id::HASH_REJECT => ErrorCode::INVALID_HASH_REQUEST,
        _ => ErrorCode::INVALID_MESSAGE,
    }
}
