//! A peer's byte stream, taken apart as it arrives.
//!
//! The data of a block is read straight into a buffer of its own, and that of the blocks behind it, where they are expected;
//! everything else passes through a small inbox, which holds no memory between messages. A peer that breaks the framing is refused as soon as the offence can be seen,
//! which is at the length or at the id, never after waiting for what follows.

mod ahead;

use std::io::IoSliceMut;
use std::{array, mem};

use bytes::Bytes;

use ahead::Ahead;

use super::block::{BlockBuf, BlockPool};
use super::handshake::{HANDSHAKE_LEN, INFO_HASH_END, PROTOCOL, Reserved};
use super::message::{self, Message, PIECE_HEADER_LEN, id};
use crate::metainfo::BLOCK_SIZE;

/// The longest message that is accepted, in bytes without the length prefix; the same as libtorrent's.
pub const MAX_MESSAGE: u32 = 1 << 20;

/// Bytes of other messages that may be read along with the rest of a block. Few, since they have to be copied, and
/// what mostly follows is the next block.
const READ_AHEAD: usize = 1024;

/// In how many places the bytes of one read may belong: what is left of a block, the blocks behind it with their headers, and
/// a rest.
pub const TARGETS: usize = 2 + 2 * ahead::MOST;

/// The state of one connection's receiving side.
#[derive(Debug)]
pub struct Decoder {
    inbox: Inbox,
    block: Option<Incoming>,
    /// What follows that block. While anything of it has not been looked at, the inbox is empty.
    ahead: Ahead,
    phase: Phase,
    max_message: u32,
    fragments: bool,
    /// How much of a partial message must have arrived before it is reported (again).
    next_fragment: usize,
    failed: Option<DecodeError>,
}

/// Something complete, or a step worth knowing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first 48 bytes of the handshake: enough to know the torrent, and to answer.
    InfoHash {
        /// What the peer can do.
        reserved: Reserved,
        /// Which torrent it means.
        info_hash: [u8; 20],
    },
    /// The rest of the handshake. Messages follow.
    PeerId([u8; 20]),
    /// A whole message.
    Message(Message),
    /// The header of a PIECE message whose data is still coming. [`Message::Piece`] follows.
    PieceStarted {
        /// Which piece.
        piece: u32,
        /// Bytes from the start of the piece.
        start: u32,
        /// Bytes of data, at most [`BLOCK_SIZE`](crate::metainfo::BLOCK_SIZE).
        length: u32,
    },
    /// More of an extended or unknown message has arrived, but not all. The whole message follows.
    Fragment {
        /// Extended, else unknown.
        extended: bool,
        /// The extension's number, or the message's id.
        id: u8,
        /// Bytes of the whole payload, ids not counted.
        length: u32,
        /// The payload from its start, as far as it has arrived.
        body: Bytes,
    },
}

/// The peer broke the protocol's framing. There is no way to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The stream does not begin as a handshake does.
    #[error("the peer does not speak the BitTorrent protocol")]
    NotBitTorrent,
    /// Longer than any message, or than a block with its header.
    #[error("the peer announced a message of {length} bytes, which is too long")]
    PacketTooLarge {
        /// The length prefix.
        length: u32,
    },
    /// A message whose size is fixed had another.
    #[error("the peer sent message {id} with a length of {length} bytes, which that message cannot have")]
    WrongSize {
        /// Which message.
        id: u8,
        /// The length prefix.
        length: u32,
    },
    /// An extended message without the extension's number (BEP 10).
    #[error("the peer sent an extended message without its id")]
    InvalidExtended,
}

#[derive(Debug)]
enum Phase {
    InfoHash,
    PeerId,
    Messages,
}

/// A block whose data goes straight to where it will stay. While there is one, the inbox holds only what follows it.
#[derive(Debug)]
struct Incoming {
    piece: u32,
    start: u32,
    buffer: BlockBuf,
}

impl Decoder {
    /// At the start of a connection. `max_message` is in bytes, without the length prefix.
    pub fn new(max_message: u32) -> Self {
        Self {
            inbox: Inbox::default(),
            block: None,
            ahead: Ahead::default(),
            phase: Phase::InfoHash,
            max_message,
            fragments: false,
            next_fragment: 0,
            failed: None,
        }
    }

    /// Changes the longest message, in bytes without the length prefix, from the next message on.
    pub fn set_max_message(&mut self, max_message: u32) {
        self.max_message = max_message;
    }

    /// Whether to report [`Event::Fragment`]s. Each copies what it shows, so only for those who look.
    ///
    /// A report comes when the payload has begun and then each time it has grown by a quarter, so that a peer that
    /// sends byte by byte cannot make it costly.
    pub fn set_fragments(&mut self, fragments: bool) {
        self.fragments = fragments;
    }

    /// Where the next bytes of the socket belong: the rest of the block that is being received, the `expected` whole blocks
    /// that should follow it, and `scratch` or its beginning if none is expected; all in all at most `most` bytes. Places that
    /// are not needed are empty.
    pub fn targets<'a>(
        &'a mut self,
        scratch: &'a mut [u8],
        expected: usize,
        most: usize,
        pool: &BlockPool,
    ) -> [IoSliceMut<'a>; TARGETS] {
        let nothing_unread = self.inbox.unread().is_empty() && !self.ahead.has_arrived();
        match matches!(self.phase, Phase::Messages) && nothing_unread && self.max_message >= BLOCK_SIZE + 9 {
            true => self.ahead.plan(expected, pool),
            false => self.ahead.plan_nothing(),
        }
        let rest = match (&self.block, self.ahead.is_planned()) {
            (_, true) => 0,
            (Some(_), false) => scratch.len().min(READ_AHEAD),
            (None, false) => scratch.len(),
        };
        let block = self.block.as_mut().map(|block| block.buffer.unfilled_mut());
        let mut targets = block.into_iter().chain(self.ahead.targets());
        let mut scratch = Some(&mut scratch[..rest]);
        let mut left = most;
        array::from_fn(|_| {
            let next = targets.next().or_else(|| scratch.take()).unwrap_or_default();
            let length = next.len().min(left);
            left -= length;
            IoSliceMut::new(&mut next[..length])
        })
    }

    /// `n` bytes were read into the [`targets`](Self::targets), in order. Those in `scratch` are copied.
    pub fn received(&mut self, n: usize, scratch: &[u8]) {
        let direct = self.block.as_mut().map_or(0, |block| {
            let direct = n.min(block.buffer.unfilled_mut().len());
            block.buffer.advance(direct);
            direct
        });
        let rest = self.ahead.received(n - direct);
        self.inbox.push(&scratch[..scratch.len().min(rest)]);
    }

    /// Takes bytes that are not in the [`targets`](Self::targets), and copies all of them.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.ahead.plan_nothing();
        let direct = self.block.as_mut().map_or(0, |block| block.buffer.extend(bytes));
        self.inbox.push(&bytes[direct..]);
    }

    /// The next thing that is complete, or `None` until more bytes come.
    ///
    /// # Errors
    /// The peer broke the framing. Every later call says the same.
    pub fn next(&mut self, pool: &BlockPool) -> Result<Option<Event>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let event = self.advance(pool).inspect_err(|&error| self.failed = Some(error))?;
        if event.is_none() {
            self.inbox.settle();
        }
        Ok(event)
    }

    /// Bytes until the end of the message, or of the length prefix, that is being received; at least 1. A cipher that feeds
    /// no more than these can be changed at any message boundary.
    pub fn wanted(&self) -> usize {
        let unread = self.inbox.unread();
        let end = match (&self.phase, &self.block, unread.first_chunk::<4>()) {
            (Phase::InfoHash, ..) => INFO_HASH_END,
            (Phase::PeerId, ..) => HANDSHAKE_LEN - INFO_HASH_END,
            (Phase::Messages, Some(block), _) => return block.buffer.remaining().max(1),
            (Phase::Messages, None, None) => 4,
            (Phase::Messages, None, Some(length)) => {
                (u32::from_be_bytes(*length).min(self.max_message) as usize).saturating_add(4)
            }
        };
        end.saturating_sub(unread.len()).max(1)
    }

    /// The bytes after the last event, for a cipher that begins there. Meaningful at a message boundary only, that is
    /// after [`Event::Message`] and before the next call of [`next`](Self::next).
    pub fn unread_mut(&mut self) -> &mut [u8] {
        self.spill();
        self.inbox.unread_mut()
    }

    /// As [`unread_mut`](Self::unread_mut), but takes them away: for a cipher whose plain text has another length,
    /// and comes back by [`feed`](Self::feed).
    pub fn take_unread(&mut self) -> Vec<u8> {
        self.spill();
        mem::take(&mut self.inbox).into_unread()
    }

    /// Begins anew after [`DecodeError::NotBitTorrent`], and hands out what came: it may be the beginning of something else.
    pub fn start_over(&mut self) -> Vec<u8> {
        self.failed = None;
        self.take_unread()
    }

    /// Bytes of memory that partial messages hold, the block that is being received not counted.
    pub fn buffered(&self) -> usize {
        self.inbox.bytes.capacity()
    }

    fn advance(&mut self, pool: &BlockPool) -> Result<Option<Event>, DecodeError> {
        match self.phase {
            Phase::InfoHash => self.info_hash(),
            Phase::PeerId => Ok(self.peer_id()),
            Phase::Messages => match self.block.take_if(|block| block.buffer.is_full()) {
                Some(Incoming { piece, start, buffer }) => {
                    Ok(Some(Event::Message(Message::Piece { piece, start, data: buffer.freeze() })))
                }
                None if self.block.is_some() => Ok(None),
                None => self.message(pool),
            },
        }
    }

    fn info_hash(&mut self) -> Result<Option<Event>, DecodeError> {
        let unread = self.inbox.unread();
        // What does not even begin rightly may never send forty-eight bytes.
        if unread.iter().zip(PROTOCOL).any(|(byte, expected)| byte != expected) {
            return Err(DecodeError::NotBitTorrent);
        }
        let Some(head) = unread.first_chunk::<INFO_HASH_END>() else { return Ok(None) };
        let reserved = Reserved(std::array::from_fn(|i| head[20 + i]));
        let info_hash = std::array::from_fn(|i| head[28 + i]);
        self.inbox.consume(INFO_HASH_END);
        self.phase = Phase::PeerId;
        Ok(Some(Event::InfoHash { reserved, info_hash }))
    }

    fn peer_id(&mut self) -> Option<Event> {
        let peer_id = *self.inbox.unread().first_chunk()?;
        self.inbox.consume(HANDSHAKE_LEN - INFO_HASH_END);
        self.phase = Phase::Messages;
        Some(Event::PeerId(peer_id))
    }

    /// What was read ahead, and is not what was expected, goes the way of everything else.
    fn spill(&mut self) {
        while let Some(slot) = self.ahead.next() {
            slot.bytes().into_iter().for_each(|bytes| self.inbox.push(bytes));
        }
    }

    /// The next block that was read ahead, if that is what comes next.
    fn read_ahead(&mut self) -> Option<Event> {
        let slot = self.ahead.next()?;
        let Some((piece, start)) = slot.block() else {
            slot.bytes().into_iter().for_each(|bytes| self.inbox.push(bytes));
            self.spill();
            return None;
        };
        self.next_fragment = 0;
        let buffer = slot.buffer;
        if buffer.is_full() {
            return Some(Event::Message(Message::Piece { piece, start, data: buffer.freeze() }));
        }
        self.block = Some(Incoming { piece, start, buffer });
        Some(Event::PieceStarted { piece, start, length: BLOCK_SIZE })
    }

    fn message(&mut self, pool: &BlockPool) -> Result<Option<Event>, DecodeError> {
        // Before it nothing is unread: it was planned when nothing was.
        if self.ahead.has_arrived()
            && let Some(event) = self.read_ahead()
        {
            return Ok(Some(event));
        }
        let Some((&length, rest)) = self.inbox.unread().split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(length);
        if length == 0 {
            self.inbox.consume(4);
            return Ok(Some(Event::Message(Message::KeepAlive)));
        }
        if length > self.max_message {
            return Err(DecodeError::PacketTooLarge { length });
        }
        let Some((&id, rest)) = rest.split_first() else { return Ok(None) };
        check_length(id, length)?;
        if id == id::PIECE {
            return Ok(self.piece(length, pool));
        }
        let Some(payload) = rest.get(..length as usize - 1) else { return Ok(self.fragment(id, length)) };
        let message = Message::parse(id, payload).ok_or(DecodeError::WrongSize { id, length })?;
        self.inbox.consume(4 + length as usize);
        self.next_fragment = 0;
        Ok(Some(Event::Message(message)))
    }

    /// Moves what has arrived of a block to where the rest will go.
    fn piece(&mut self, length: u32, pool: &BlockPool) -> Option<Event> {
        let (header, rest) = self.inbox.unread().split_first_chunk::<PIECE_HEADER_LEN>()?;
        let [_, _, _, _, _, a, b, c, d, e, f, g, h] = *header;
        let (piece, start) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        // `check_length` has seen that the eight bytes and the id are included.
        let length = length - 9;
        let mut buffer = pool.take(length);
        let arrived = buffer.extend(rest);
        self.inbox.consume(PIECE_HEADER_LEN + arrived);
        if buffer.is_full() {
            return Some(Event::Message(Message::Piece { piece, start, data: buffer.freeze() }));
        }
        self.block = Some(Incoming { piece, start, buffer });
        Some(Event::PieceStarted { piece, start, length })
    }

    fn fragment(&mut self, id: u8, length: u32) -> Option<Event> {
        let extended = id == id::EXTENDED;
        if !self.fragments || !(extended || message::is_unknown(id)) {
            return None;
        }
        let payload = &self.inbox.unread()[5..];
        let (id, body, length) = match extended {
            true => payload.split_first().map(|(&id, body)| (id, body, length - 2))?,
            false => (id, payload, length - 1),
        };
        if body.len() < self.next_fragment {
            return None;
        }
        self.next_fragment = body.len() + body.len() / 4 + 1;
        Some(Event::Fragment { extended, id, length, body: Bytes::copy_from_slice(body) })
    }
}

fn check_length(id: u8, length: u32) -> Result<(), DecodeError> {
    let (fewest, most) = message::payload_lengths(id);
    match id {
        _ if (fewest..=most).contains(&(length - 1)) => Ok(()),
        id::EXTENDED => Err(DecodeError::InvalidExtended),
        id::PIECE if length > most => Err(DecodeError::PacketTooLarge { length }),
        _ => Err(DecodeError::WrongSize { id, length }),
    }
}

/// Bytes that arrived but are not used yet.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    /// How many of them are used.
    read: usize,
}

impl Inbox {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.read..]
    }

    fn into_unread(mut self) -> Vec<u8> {
        self.bytes.drain(..self.read);
        self.bytes
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn consume(&mut self, n: usize) {
        self.read += n;
    }

    /// Gives back what is not needed while waiting. Done once per turn rather than per message, or many small
    /// messages in one read would each move all the others.
    fn settle(&mut self) {
        let unread = self.bytes.len() - self.read;
        if unread == 0 {
            *self = Self::default();
        } else if self.bytes.capacity() > 2 * unread + READ_AHEAD {
            *self = Self { bytes: self.unread().to_vec(), read: 0 };
        } else {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
