//! What waits to be sent to one peer, in order.
//!
//! Blocks stay in the buffers they were read into; small messages are packed together. The box knows which bytes are payload,
//! so that what the socket took can be told apart into blocks and protocol.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Small messages are packed into segments of about this many bytes.
const PACK: usize = 4096;

/// The sending side's queue of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that the socket has taken.
    taken: usize,
    len: u64,
}

#[derive(Debug)]
enum Segment {
    Protocol(Vec<u8>),
    Payload(Bytes),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Protocol(bytes) => bytes,
            Self::Payload(bytes) => bytes,
        }
    }
}

impl Outbox {
    /// Appends protocol bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.encode(|out| out.extend_from_slice(bytes));
    }

    /// Appends what `encode` writes, as protocol bytes.
    pub fn encode(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.segments.back(), Some(Segment::Protocol(bytes)) if bytes.len() < PACK) {
            self.segments.push_back(Segment::Protocol(Vec::new()));
        }
        if let Some(Segment::Protocol(bytes)) = self.segments.back_mut() {
            let before = bytes.len();
            encode(bytes);
            self.len += (bytes.len() - before) as u64;
        }
    }

    /// Appends the data of a block.
    pub fn payload(&mut self, data: Bytes) {
        self.len += data.len() as u64;
        self.segments.push_back(Segment::Payload(data));
    }

    /// Bytes that wait.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first bytes, up to about `budget` of them, as slices for a vectored write.
    pub fn slices<'a>(&'a self, budget: usize, out: &mut Vec<IoSlice<'a>>) {
        let (mut skip, mut room) = (self.taken, budget);
        for segment in &self.segments {
            let bytes = &segment.bytes()[skip..];
            skip = 0;
            if !bytes.is_empty() {
                out.push(IoSlice::new(bytes));
            }
            room = room.saturating_sub(bytes.len());
            if room == 0 {
                return;
            }
        }
    }

    /// The socket took the first `n` bytes; how many of those were payload.
    pub fn written(&mut self, n: usize) -> u64 {
        let (mut left, mut payload) = (n, 0);
        while left > 0 {
            let Some(segment) = self.segments.front() else { break };
            let rest = segment.bytes().len() - self.taken;
            let step = rest.min(left);
            if matches!(segment, Segment::Payload(_)) {
                payload += step as u64;
            }
            left -= step;
            self.len -= step as u64;
            self.taken += step;
            if step == rest {
                self.segments.pop_front();
                self.taken = 0;
            }
        }
        payload
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_bytes_are_told_apart_into_payload_and_protocol() {
        let mut outbox = Outbox::default();
        outbox.push(b"head");
        outbox.push(b"er");
        outbox.payload(Bytes::from_static(b"0123456789"));
        outbox.push(b"tail");
        assert_eq!(outbox.len(), 20);
        let mut slices = Vec::new();
        outbox.slices(100, &mut slices);
        assert_eq!(slices.iter().map(|s| &s[..]).collect::<Vec<_>>(), [&b"header"[..], b"0123456789", b"tail"]);
        assert_eq!([outbox.written(3), outbox.written(5), outbox.written(12)], [0, 2, 8]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_budget_ends_a_write_after_the_segment_that_fills_it() {
        let mut outbox = Outbox::default();
        (0..4).for_each(|_| outbox.payload(Bytes::from_static(b"0123456789")));
        let mut slices = Vec::new();
        outbox.slices(15, &mut slices);
        assert_eq!(slices.len(), 2);
    }
}
