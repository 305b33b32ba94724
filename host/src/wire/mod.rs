//! The protocols as bytes: peers' messages in both directions, the handshake, trackers, and the bencoding around them.
//!
//! Everything here is a value or a state machine over bytes. What comes out is well formed and nothing more: piece
//! numbers, offsets and ids are the peer's claims until somebody who knows the torrent has checked them.

pub mod bencode;
mod block;
pub mod compact;
mod datagram;
mod decoder;
mod entry;
mod extended;
mod handshake;
mod holepunch;
pub mod http;
pub mod krpc;
pub mod lsd;
mod message;
pub mod tracker;

pub use block::{BlockBuf, BlockPool};
pub use datagram::Protocol;
pub use decoder::{DecodeError, Decoder, Event, MAX_MESSAGE, TARGETS};
pub use entry::{EntryError, EntryId, EntryKind, EntryTree};
pub use extended::ExtensionHandshake;
pub use handshake::{HANDSHAKE_LEN, Handshake, Reserved};
pub use holepunch::{Holepunch, HolepunchError};
pub use message::{HashKind, HashMessage, Message, PIECE_HEADER_LEN, RawRequest, id, piece_header};
