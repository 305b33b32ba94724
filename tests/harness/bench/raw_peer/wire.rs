//! The few messages that a raw peer knows, without any of the engine's code: that is what is measured.

use std::io::{self, ErrorKind, Read};

use crate::bench::Payload;

/// The unit of requests, in bytes.
const BLOCK: usize = 16 << 10;
/// Bytes of a request.
const REQUEST: usize = 17;
/// Bytes of a PIECE before its data.
const PIECE: usize = 13;

pub(super) const INTERESTED: [u8; 5] = [0, 0, 0, 1, 2];

pub(super) fn unchoke(to: &mut Vec<u8>) {
    to.extend([0, 0, 0, 1, 1]);
}

pub(super) fn full_bitfield(pieces: usize, to: &mut Vec<u8>) {
    let len = pieces.div_ceil(8);
    to.extend((len as u32 + 1).to_be_bytes());
    to.push(5);
    to.extend(std::iter::repeat_n(0xff, pieces / 8));
    to.extend((!pieces.is_multiple_of(8)).then_some(0xff_u8 << (8 - pieces % 8)));
}

/// A block that somebody asked for.
#[derive(Clone, Copy)]
pub(super) struct Requested {
    pub(super) piece: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Requested {
    /// What stands before the block when it is sent.
    pub(super) fn header(&self) -> [u8; PIECE] {
        let mut header = [0; PIECE];
        header[..4].copy_from_slice(&(self.len + 9).to_be_bytes());
        header[4] = 7;
        header[5..9].copy_from_slice(&self.piece.to_be_bytes());
        header[9..].copy_from_slice(&self.start.to_be_bytes());
        header
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Appends the requests among whole messages; answers how many bytes the messages have.
pub(super) fn requests(bytes: &[u8], asked: &mut Vec<Requested>) -> usize {
    let mut rest = bytes;
    while let Some((len, after)) = rest.split_first_chunk::<4>()
        && let Some((message, after)) = after.split_at_checked(number(len) as usize)
    {
        if let [6, body @ ..] = message
            && body.len() == REQUEST - 5
        {
            let [piece, start, len] = [&body[..4], &body[4..8], &body[8..]].map(number);
            asked.push(Requested { piece, start, len });
        }
        rest = after;
    }
    bytes.len() - rest.len()
}

/// A request for every block, in order.
pub(super) fn all_requests(piece_length: usize, len: usize) -> Vec<[u8; REQUEST]> {
    let pieces = (0..len).step_by(piece_length).enumerate();
    let blocks = pieces.flat_map(|(piece, offset)| {
        let size = piece_length.min(len - offset);
        (0..size)
            .step_by(BLOCK)
            .map(move |start| (piece as u32, start as u32, BLOCK.min(size - start) as u32))
    });
    let request = |(piece, start, len): (u32, u32, u32)| {
        let mut request = [0; REQUEST];
        request[3..5].copy_from_slice(&[13, 6]);
        request[5..9].copy_from_slice(&piece.to_be_bytes());
        request[9..13].copy_from_slice(&start.to_be_bytes());
        request[13..].copy_from_slice(&len.to_be_bytes());
        request
    };
    blocks.map(request).collect()
}

/// The beginning of a message.
pub(super) enum Header {
    Choke,
    Unchoke,
    /// The data of a block follows, which ends there in the payload.
    Piece {
        end: usize,
    },
    Other,
}

/// Finds the beginnings of messages in a stream, and passes over the rest.
#[derive(Default)]
pub(super) struct Headers {
    head: [u8; PIECE],
    have: usize,
    skip: usize,
}

impl Headers {
    /// Bytes that the last message still lacks.
    pub(super) fn left(&self) -> usize {
        self.skip
    }

    /// Takes the next bytes of the stream.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Header) -> io::Result<()>,
        piece_length: usize,
    ) -> io::Result<()> {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return Ok(());
            }
            let copied = (self.wanted() - self.have).min(bytes.len());
            self.head[self.have..][..copied].copy_from_slice(&bytes[..copied]);
            self.have += copied;
            bytes = &bytes[copied..];
            if self.have == self.wanted() {
                each(self.finish(piece_length))?;
            }
        }
    }

    /// How much of a message must be seen, as far as is known.
    fn wanted(&self) -> usize {
        match self.have {
            0..4 => 4,
            4 if self.len() == 0 => 4,
            4 => 5,
            _ if self.head[4] == 7 => PIECE,
            _ => 5,
        }
    }

    fn len(&self) -> usize {
        number(&self.head[..4]) as usize
    }

    fn finish(&mut self, piece_length: usize) -> Header {
        self.skip = (self.len() + 4).saturating_sub(self.have);
        let is_keep_alive = self.have == 4;
        self.have = 0;
        match self.head[4] {
            _ if is_keep_alive => Header::Other,
            0 => Header::Choke,
            1 => Header::Unchoke,
            7 => {
                let [piece, start] = [&self.head[5..9], &self.head[9..]].map(|bytes| number(bytes) as usize);
                Header::Piece { end: piece * piece_length + start + self.skip }
            }
            _ => Header::Other,
        }
    }
}

/// Whether the first message says that the peer has everything.
pub(super) fn has_all(mut stream: impl Read, payload: &Payload) -> io::Result<bool> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let mut expected = Vec::new();
    full_bitfield(payload.metainfo().layout().geometry().num_pieces() as usize, &mut expected);
    if number(&len) as usize > expected.len() {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; number(&len) as usize];
    stream.read_exact(&mut message)?;
    Ok(message == expected[4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_however_the_stream_is_cut() {
        let block = Requested { piece: 1, start: 16_384, len: 5 };
        let mut stream = vec![0, 0, 0, 0];
        unchoke(&mut stream);
        stream.extend([0, 0, 0, 5, 4, 0, 0, 0, 9]);
        stream.extend(block.header());
        stream.extend([1; 5]);
        stream.extend([0, 0, 0, 1, 0]);
        for step in 1..stream.len() {
            let (mut headers, mut seen) = (Headers::default(), Vec::new());
            for part in stream.chunks(step) {
                let note = |header| {
                    seen.push(match header {
                        Header::Choke => "choke".to_owned(),
                        Header::Unchoke => "unchoke".to_owned(),
                        Header::Piece { end } => end.to_string(),
                        Header::Other => "other".to_owned(),
                    });
                    Ok(())
                };
                headers.take(part, note, 32_768).unwrap();
            }
            assert_eq!(seen, ["other", "unchoke", "other", &(32_768 + 16_384 + 5).to_string(), "choke"]);
        }
    }

    #[test]
    fn what_is_asked_is_what_is_understood() {
        let asked = all_requests(32_768, 32_768 + 16_385);
        let mut understood = Vec::new();
        assert_eq!(requests(asked.as_flattened(), &mut understood), asked.len() * REQUEST);
        let understood: Vec<_> =
            understood.iter().map(|block| (block.piece, block.start, block.len)).collect();
        assert_eq!(understood, [(0, 0, 16_384), (0, 16_384, 16_384), (1, 0, 16_384), (1, 16_384, 1)]);
    }
}
