//! One connection: what is asked of it, and what it asks for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use pilotfish_plugin::{
    Dict, Entry, ErrorCode, Keep, Operation, PeerContext, PeerPlugin, Severity, Verdict, hooks,
};

use super::message::Message;
use super::{BLOCK, NAME, Shared};

/// The longest message, in bytes: a block, and room for what stands before it.
const LONGEST: usize = 17 * 1024;
/// So many blocks are asked of a peer at a time.
const AT_ONCE: usize = 2;
/// A block that does not come is given up after this.
const GIVEN_UP: Duration = Duration::from_secs(20);
/// A peer that refused is left alone for so long.
const REFUSED: Duration = Duration::from_secs(60);
/// With so much waiting to be sent, in bytes, what the peer asks for has to wait.
const QUEUE_FULL: u64 = 10 * BLOCK as u64;
/// With so much waiting to be sent, in bytes, a peer that asks for more is sent away: also refusals take room.
const MOST_ANSWERS: u64 = 1 << 20;
/// So many of a peer's requests wait.
const MOST_WAITING: usize = 1024;

/// On one connection.
pub(super) struct OnPeer {
    shared: Rc<RefCell<Shared>>,
    /// The id of the peer's messages to us.
    id: u8,
    /// How long the peer says the metadata is, in bytes.
    length: Option<usize>,
    /// Blocks that it owes us, of metadata of which length, and when they were asked for.
    outstanding: Vec<Outstanding>,
    /// Blocks that it asked for, and that there was no room for.
    waiting: VecDeque<u32>,
    /// Nothing is asked of it before then.
    refused_until: Duration,
}

struct Outstanding {
    piece: u32,
    /// `None`: it is to tell the length, too.
    length: Option<usize>,
    asked: Duration,
}

impl OnPeer {
    pub(super) fn new(shared: Rc<RefCell<Shared>>) -> Self {
        let (outstanding, waiting) = Default::default();
        Self { shared, id: 0, length: None, outstanding, waiting, refused_until: Duration::ZERO }
    }

    fn send(cx: &PeerContext<'_>, message: &Message<'_>) {
        cx.this().send_extended(NAME, &message.encode());
    }

    /// Asks for as much as the peer may be asked for.
    fn request(&mut self, cx: &PeerContext<'_>) {
        let now = cx.now();
        self.give_up(|outstanding| now >= outstanding.asked + GIVEN_UP);
        let mut shared = self.shared.borrow_mut();
        if cx.this_torrent().has_metadata()
            || now < self.refused_until
            || !cx.this().has_metadata()
            || shared.is_punished(cx.handle(), now)
        {
            return;
        }
        while self.outstanding.len() < AT_ONCE {
            let asked: Vec<u32> = self.outstanding.iter().map(|outstanding| outstanding.piece).collect();
            let piece = match self.length {
                Some(length) => shared.assembly(length).and_then(|assembly| assembly.pick(now, &asked)),
                None => asked.is_empty().then_some(0),
            };
            let Some(piece) = piece else { return };
            self.outstanding.push(Outstanding { piece, length: self.length, asked: now });
            Self::send(cx, &Message::Request { piece });
        }
    }

    /// Forgets what is outstanding, as far as that is to be; others may be asked for it.
    fn give_up(&mut self, which: impl Fn(&Outstanding) -> bool) {
        let mut shared = self.shared.borrow_mut();
        self.outstanding.retain(|outstanding| {
            let gone = which(outstanding);
            if gone && let Some(assembly) = outstanding.length.and_then(|length| shared.assembly(length)) {
                assembly.release(outstanding.piece);
            }
            !gone
        });
    }

    fn on_request(&mut self, cx: &PeerContext<'_>, piece: u32) {
        if cx.this().send_queue_len() > MOST_ANSWERS {
            // It goes on asking, and does not read what it is answered.
            let error = ErrorCode::INVALID_METADATA_MESSAGE;
            return cx.this().disconnect(error, Operation::BITTORRENT, Severity::PEER_ERROR);
        }
        let known = self.shared.borrow_mut().served(&cx.this_torrent());
        match known {
            Some(known) if (piece as usize) < known.len().div_ceil(BLOCK) => {
                if cx.this().send_queue_len() < QUEUE_FULL && self.waiting.is_empty() {
                    Self::send_block(cx, &known, piece);
                } else if self.waiting.len() < MOST_WAITING {
                    self.waiting.push_back(piece);
                } else {
                    Self::send(cx, &Message::Reject { piece });
                }
            }
            _ => Self::send(cx, &Message::Reject { piece }),
        }
    }

    fn send_block(cx: &PeerContext<'_>, known: &[u8], piece: u32) {
        let start = piece as usize * BLOCK;
        let data = &known[start..known.len().min(start + BLOCK)];
        Self::send(cx, &Message::Data { piece, total: Some(known.len()), data });
    }

    /// A block came; one that was not asked for is no offence, and nothing else.
    fn on_data(&mut self, cx: &PeerContext<'_>, piece: u32, total: Option<usize>, data: &[u8]) {
        let Some(place) = self.outstanding.iter().position(|outstanding| outstanding.piece == piece) else {
            return;
        };
        let outstanding = self.outstanding.swap_remove(place);
        let mut shared = self.shared.borrow_mut();
        let length = match (outstanding.length, total) {
            (Some(length), Some(total)) if total != length => {
                if let Some(assembly) = shared.assembly(length) {
                    assembly.release(piece);
                }
                return;
            }
            (length, total) => length.or(total),
        };
        if let Some(assembly) = length.and_then(|length| shared.assembly(length)) {
            self.length = length;
            assembly.put(piece, data, cx.handle());
            assembly.release(piece);
            if !cx.this_torrent().has_metadata() {
                shared.offer(&cx.this_torrent());
            }
        }
    }
}

#[hooks]
impl PeerPlugin for OnPeer {
    fn type_name(&mut self, _: &mut PeerContext<'_>) -> &'static str {
        NAME
    }

    fn add_handshake(&mut self, cx: &mut PeerContext<'_>, mut handshake: Entry<'_>) {
        if let Ok(id) = cx.this().register_extended(NAME) {
            self.id = id;
        }
        if let Some(known) = self.shared.borrow_mut().served(&cx.this_torrent()) {
            handshake.insert_int("metadata_size", i64::try_from(known.len()).unwrap_or(i64::MAX));
        }
    }

    fn on_extension_handshake(&mut self, cx: &mut PeerContext<'_>, message: Dict<'_>) -> Keep {
        let theirs = message.dict("m").and_then(|names| names.int(NAME)).unwrap_or(0);
        if self.id == 0 || theirs == 0 {
            return Keep::Leave;
        }
        let length = message.int("metadata_size").and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length > 0);
        cx.this().set_has_metadata(length.is_some());
        if let Some(length) = length.filter(|length| *length <= self.shared.borrow().limit) {
            self.length = Some(length);
            self.request(cx);
        }
        Keep::Stay
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, length: u32, id: u8, body: &[u8]) -> Verdict {
        if self.id == 0 || id != self.id {
            return Verdict::Continue;
        }
        let message = Message::parse(body).filter(|_| length as usize <= LONGEST);
        let Some(message) = message else {
            let error = ErrorCode::INVALID_METADATA_MESSAGE;
            cx.this().disconnect(error, Operation::BITTORRENT, Severity::PEER_ERROR);
            return Verdict::Handled;
        };
        match message {
            Message::Request { piece } => self.on_request(cx, piece),
            Message::Data { piece, total, data } => {
                self.on_data(cx, piece, total, data);
                self.request(cx);
            }
            Message::Reject { piece } => {
                self.give_up(|outstanding| outstanding.piece == piece);
                self.refused_until = cx.now() + REFUSED;
            }
            Message::Unknown => {}
        }
        Verdict::Handled
    }

    fn on_disconnect(&mut self, _: &mut PeerContext<'_>, _: ErrorCode) {
        self.give_up(|_| true);
    }

    fn tick(&mut self, cx: &mut PeerContext<'_>) {
        let known = match self.waiting.is_empty() {
            true => None,
            false => self.shared.borrow_mut().served(&cx.this_torrent()),
        };
        while let Some(known) = known.as_deref().filter(|_| cx.this().send_queue_len() < QUEUE_FULL) {
            let Some(piece) = self.waiting.pop_front() else { break };
            Self::send_block(cx, known, piece);
        }
        if self.id != 0 {
            self.request(cx);
        }
    }
}
