//! Every message of the peer protocol as a value, and its bytes.
//!
//! Reading them off a stream is [`Decoder`](super::Decoder)'s part.

use bytes::Bytes;

use crate::metainfo::BLOCK_SIZE;

/// The byte that says which message follows.
pub mod id {
    #![allow(missing_docs, reason = "each is the message of that name")]
    pub const CHOKE: u8 = 0;
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const NOT_INTERESTED: u8 = 3;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const CANCEL: u8 = 8;
    pub const PORT: u8 = 9;
    pub const SUGGEST: u8 = 13;
    pub const HAVE_ALL: u8 = 14;
    pub const HAVE_NONE: u8 = 15;
    pub const REJECT: u8 = 16;
    pub const ALLOWED_FAST: u8 = 17;
    pub const EXTENDED: u8 = 20;
    pub const HASH_REQUEST: u8 = 21;
    pub const HASHES: u8 = 22;
    pub const HASH_REJECT: u8 = 23;
}

/// Bytes in front of a block's data: length, id, piece, start.
pub const PIECE_HEADER_LEN: usize = 13;

/// What peers say to each other. Numbers are as they came: any value, in range or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Nothing; only shows that the sender is alive.
    KeepAlive,
    /// The receiver's requests will not be served.
    Choke,
    /// The receiver may request.
    Unchoke,
    /// The sender would request if it were unchoked.
    Interested,
    /// The sender wants nothing.
    NotInterested,
    /// The sender has this piece.
    Have(u32),
    /// The pieces that the sender has, high bit first; spare bits are as sent.
    Bitfield(Bytes),
    /// Asks for a block.
    Request(RawRequest),
    /// A block.
    Piece {
        /// Which piece.
        piece: u32,
        /// Bytes from the start of the piece.
        start: u32,
        /// At most [`BLOCK_SIZE`] bytes; some clients send none in place of a rejection.
        data: Bytes,
    },
    /// Takes a request back.
    Cancel(RawRequest),
    /// The UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// The sender would like to be asked for this piece (BEP 6).
    Suggest(u32),
    /// The sender has every piece (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// A request will not be served (BEP 6).
    Reject(RawRequest),
    /// This piece may be requested even while choked (BEP 6).
    AllowedFast(u32),
    /// A message of an extension (BEP 10).
    Extended {
        /// The number that the receiver gave the extension; 0 is the extension handshake.
        id: u8,
        /// What follows it.
        payload: Bytes,
    },
    /// Hashes of a v2 torrent (BEP 52).
    Hash(HashMessage),
    /// Something newer than this program.
    Unknown {
        /// The message's id, none of those in [`id`].
        id: u8,
        /// What follows it.
        payload: Bytes,
    },
}

/// A range of a piece, in the peer's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawRequest {
    /// Which piece.
    pub piece: u32,
    /// Bytes from the start of the piece.
    pub start: u32,
    /// Bytes.
    pub length: u32,
}

/// One of the three messages about hashes of a v2 torrent (BEP 52), not taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashMessage {
    /// Which of the three.
    pub kind: HashKind,
    /// Root (32 bytes), base layer, index, length and proof layers (4 bytes each), then any hashes.
    pub payload: Bytes,
}

/// Which message about hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKind {
    /// Asks for hashes.
    Request,
    /// Hashes, with their proof.
    Hashes,
    /// A request for hashes will not be served.
    Reject,
}

impl Message {
    /// Appends the message with its length prefix.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::KeepAlive => out.extend([0; 4]),
            Self::Choke => frame(out, id::CHOKE, &[]),
            Self::Unchoke => frame(out, id::UNCHOKE, &[]),
            Self::Interested => frame(out, id::INTERESTED, &[]),
            Self::NotInterested => frame(out, id::NOT_INTERESTED, &[]),
            Self::Have(piece) => frame(out, id::HAVE, &piece.to_be_bytes()),
            Self::Bitfield(bits) => frame(out, id::BITFIELD, bits),
            Self::Request(request) => frame(out, id::REQUEST, &request.encode()),
            Self::Piece { piece, start, data } => {
                out.extend(piece_header(*piece, *start, length(data.len())));
                out.extend_from_slice(data);
            }
            Self::Cancel(request) => frame(out, id::CANCEL, &request.encode()),
            Self::Port(port) => frame(out, id::PORT, &port.to_be_bytes()),
            Self::Suggest(piece) => frame(out, id::SUGGEST, &piece.to_be_bytes()),
            Self::HaveAll => frame(out, id::HAVE_ALL, &[]),
            Self::HaveNone => frame(out, id::HAVE_NONE, &[]),
            Self::Reject(request) => frame(out, id::REJECT, &request.encode()),
            Self::AllowedFast(piece) => frame(out, id::ALLOWED_FAST, &piece.to_be_bytes()),
            Self::Extended { id, payload } => {
                out.extend(length(payload.len() + 2).to_be_bytes());
                out.extend([id::EXTENDED, *id]);
                out.extend_from_slice(payload);
            }
            Self::Hash(hash) => frame(out, hash.kind.id(), &hash.payload),
            Self::Unknown { id, payload } => frame(out, *id, payload),
        }
    }

    /// Reads a message whose payload has one of the [`payload_lengths`] of `id`. `None` if it has not, or for PIECE,
    /// whose data belongs in a block buffer.
    pub(super) fn parse(id: u8, payload: &[u8]) -> Option<Self> {
        let copied = || Bytes::copy_from_slice(payload);
        let number = || payload.try_into().ok().map(u32::from_be_bytes);
        let request = || RawRequest::decode(payload.try_into().ok()?);
        let hash = |kind| Some(Self::Hash(HashMessage { kind, payload: copied() }));
        match id {
            id::CHOKE => Some(Self::Choke),
            id::UNCHOKE => Some(Self::Unchoke),
            id::INTERESTED => Some(Self::Interested),
            id::NOT_INTERESTED => Some(Self::NotInterested),
            id::HAVE => number().map(Self::Have),
            id::BITFIELD => Some(Self::Bitfield(copied())),
            id::REQUEST => request().map(Self::Request),
            id::PIECE => None,
            id::CANCEL => request().map(Self::Cancel),
            id::PORT => payload.try_into().ok().map(|port| Self::Port(u16::from_be_bytes(port))),
            id::SUGGEST => number().map(Self::Suggest),
            id::HAVE_ALL => Some(Self::HaveAll),
            id::HAVE_NONE => Some(Self::HaveNone),
            id::REJECT => request().map(Self::Reject),
            id::ALLOWED_FAST => number().map(Self::AllowedFast),
            id::EXTENDED => {
                let (&id, payload) = payload.split_first()?;
                Some(Self::Extended { id, payload: Bytes::copy_from_slice(payload) })
            }
            id::HASH_REQUEST => hash(HashKind::Request),
            id::HASHES => hash(HashKind::Hashes),
            id::HASH_REJECT => hash(HashKind::Reject),
            _ => Some(Self::Unknown { id, payload: copied() }),
        }
    }
}

impl RawRequest {
    fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        for (bytes, number) in bytes.chunks_exact_mut(4).zip([self.piece, self.start, self.length]) {
            bytes.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; 12]) -> Option<Self> {
        let (piece, rest) = bytes.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        let length = rest.first_chunk()?;
        let [piece, start, length] = [piece, start, length].map(|number| u32::from_be_bytes(*number));
        Some(Self { piece, start, length })
    }
}

impl HashKind {
    fn id(self) -> u8 {
        match self {
            Self::Request => id::HASH_REQUEST,
            Self::Hashes => id::HASHES,
            Self::Reject => id::HASH_REJECT,
        }
    }
}

/// What goes in front of `data_len` bytes of a block, for senders that do not copy the data.
pub fn piece_header(piece: u32, start: u32, data_len: u32) -> [u8; PIECE_HEADER_LEN] {
    let mut header = [0; PIECE_HEADER_LEN];
    header[..4].copy_from_slice(&data_len.saturating_add(9).to_be_bytes());
    header[4] = id::PIECE;
    header[5..9].copy_from_slice(&piece.to_be_bytes());
    header[9..].copy_from_slice(&start.to_be_bytes());
    header
}

/// The fewest and the most bytes that may follow the id.
pub(super) fn payload_lengths(id: u8) -> (u32, u32) {
    const HASH_RANGE: u32 = 32 + 4 * 4;
    match id {
        id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED | id::HAVE_ALL | id::HAVE_NONE => {
            (0, 0)
        }
        id::HAVE | id::SUGGEST | id::ALLOWED_FAST => (4, 4),
        id::REQUEST | id::CANCEL | id::REJECT => (12, 12),
        id::PIECE => (8, 8 + BLOCK_SIZE),
        id::PORT => (2, 2),
        id::EXTENDED => (1, u32::MAX),
        id::HASH_REQUEST | id::HASH_REJECT => (HASH_RANGE, HASH_RANGE),
        id::HASHES => (HASH_RANGE, u32::MAX),
        _ => (0, u32::MAX),
    }
}

/// Whether messages with this id are [`Message::Unknown`].
pub(super) fn is_unknown(id: u8) -> bool {
    !matches!(id, id::CHOKE..=id::PORT | id::SUGGEST..=id::ALLOWED_FAST | id::EXTENDED..=id::HASH_REJECT)
}

fn frame(out: &mut Vec<u8>, id: u8, payload: &[u8]) {
    out.extend(length(payload.len() + 1).to_be_bytes());
    out.push(id);
    out.extend_from_slice(payload);
}

/// Peers refuse messages long before this saturates.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(message: Message) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode(&mut out);
        out
    }

    #[test]
    fn messages_are_the_bytes_that_the_specifications_say() {
        let request = RawRequest { piece: 1, start: 0x4000, length: 2 };
        assert_eq!(encoded(Message::KeepAlive), [0, 0, 0, 0]);
        assert_eq!(encoded(Message::Unchoke), [0, 0, 0, 1, 1]);
        assert_eq!(encoded(Message::Have(258)), [0, 0, 0, 5, 4, 0, 0, 1, 2]);
        assert_eq!(
            encoded(Message::Request(request)),
            [0, 0, 0, 13, 6, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0, 2]
        );
        assert_eq!(encoded(Message::Port(6881)), [0, 0, 0, 3, 9, 0x1a, 0xe1]);
        assert_eq!(encoded(Message::HaveAll), [0, 0, 0, 1, 14]);
        let extended = Message::Extended { id: 0, payload: Bytes::from_static(b"de") };
        assert_eq!(encoded(extended), [0, 0, 0, 4, 20, 0, b'd', b'e']);
        let piece = Message::Piece { piece: 1, start: 2, data: Bytes::from_static(b"x") };
        assert_eq!(encoded(piece), [0, 0, 0, 10, 7, 0, 0, 0, 1, 0, 0, 0, 2, b'x']);
    }

    #[test]
    fn an_unknown_id_is_one_that_nothing_else_is() {
        let unknown: Vec<u8> = (0..=30).filter(|&id| is_unknown(id)).collect();
        assert_eq!(unknown, [10, 11, 12, 18, 19, 24, 25, 26, 27, 28, 29, 30]);
    }
}
