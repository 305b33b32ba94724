//! What waits to be sent to one peer, in order.
//!
//! Blocks stay in the buffers they were read into; small messages are packed together. The box knows which bytes are payload,
//! so that what the socket took can be told apart into blocks and protocol.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Small messages are packed into segments of about this many bytes.
const PACK: usize = 4096;
/// No more slices than this are offered at once: systems take about a thousand, and the budget is used up long before.
const MOST_SLICES: usize = 256;

/// The sending side's queue of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Ready for the socket.
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that the socket has taken.
    taken: usize,
    /// To be encrypted first. `None`: what is queued is ready at once.
    held: Option<VecDeque<Segment>>,
    /// Bytes that wait, ready or held.
    len: u64,
    /// Bytes that were ever queued, as they were queued.
    queued: u64,
}

/// A run of bytes of one sort.
#[derive(Debug, Clone)]
pub enum Segment {
    /// Messages.
    Protocol(Vec<u8>),
    /// The data of a block.
    Payload(Bytes),
}

impl Segment {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Protocol(bytes) => bytes,
            Self::Payload(bytes) => bytes,
        }
    }

    /// The same bytes, changed in place. Those of a block are copied: others hold it, too.
    pub fn map(self, change: impl FnOnce(&mut [u8])) -> Self {
        match self {
            Self::Protocol(mut bytes) => {
                change(&mut bytes);
                Self::Protocol(bytes)
            }
            Self::Payload(bytes) => {
                let mut bytes = bytes.to_vec();
                change(&mut bytes);
                Self::Payload(bytes.into())
            }
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
        let segments = self.held.as_mut().unwrap_or(&mut self.segments);
        if !matches!(segments.back(), Some(Segment::Protocol(bytes)) if bytes.len() < PACK) {
            segments.push_back(Segment::Protocol(Vec::new()));
        }
        if let Some(Segment::Protocol(bytes)) = segments.back_mut() {
            let before = bytes.len();
            encode(bytes);
            let added = (bytes.len() - before) as u64;
            self.len += added;
            self.queued += added;
        }
    }

    /// Appends the data of a block.
    pub fn payload(&mut self, data: Bytes) {
        self.len += data.len() as u64;
        self.queued += data.len() as u64;
        self.held.as_mut().unwrap_or(&mut self.segments).push_back(Segment::Payload(data));
    }

    /// The place behind everything that was queued so far, for [`hold`](Self::hold).
    pub fn end(&self) -> u64 {
        self.queued
    }

    /// Holds back what was, or will be, queued behind a place, for a cipher. What the socket has taken is past holding.
    pub fn hold(&mut self, from: u64) {
        if self.held.is_some() {
            return;
        }
        let mut held = VecDeque::new();
        let mut start = self.queued;
        while start > from
            && let Some(segment) = self.segments.pop_back()
        {
            let taken = if self.segments.is_empty() { self.taken } else { 0 };
            let len = segment.bytes().len() as u64;
            start = start.saturating_sub(len);
            let keep = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX).max(taken);
            let (front, back) = segment.split(keep);
            if let Some(back) = back {
                held.push_front(back);
            }
            self.segments.extend(front);
        }
        self.held = Some(held);
    }

    /// Takes what is held, up to a place. It counts as waiting until [`ready`](Self::ready) brings it back.
    pub fn take_held(&mut self, until: u64) -> Vec<Segment> {
        let Some(held) = &mut self.held else { return Vec::new() };
        let mut left = held.iter().map(|segment| segment.bytes().len() as u64).sum::<u64>();
        left = left.saturating_sub(self.queued.saturating_sub(until));
        let mut out = Vec::new();
        while left > 0
            && let Some(segment) = held.pop_front()
        {
            let keep = usize::try_from(left).unwrap_or(usize::MAX);
            let (front, back) = segment.split(keep);
            if let Some(back) = back {
                held.push_front(back);
            }
            if let Some(front) = front {
                left -= front.bytes().len() as u64;
                self.len -= front.bytes().len() as u64;
                out.push(front);
            }
        }
        out
    }

    /// Appends bytes that need no further encryption.
    pub fn ready(&mut self, segment: Segment) {
        self.len += segment.bytes().len() as u64;
        self.segments.push_back(segment);
    }

    /// Holds nothing back any more.
    pub fn release(&mut self) {
        for segment in self.held.take().unwrap_or_default() {
            self.segments.push_back(segment);
        }
    }

    /// Bytes that wait.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first bytes, up to about `budget` of them and `most` at most, as slices for a vectored write.
    pub fn slices<'a>(&'a self, budget: usize, most: usize, out: &mut Vec<IoSlice<'a>>) {
        let (mut skip, mut room, mut left) = (self.taken, budget.min(most), most);
        for segment in self.segments.iter().take(MOST_SLICES) {
            let bytes = &segment.bytes()[skip..];
            let bytes = &bytes[..bytes.len().min(left)];
            skip = 0;
            left -= bytes.len();
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

impl Segment {
    /// The first `at` bytes and the rest; `None` for an empty side.
    fn split(self, at: usize) -> (Option<Self>, Option<Self>) {
        let len = self.bytes().len();
        if at == 0 {
            return (None, Some(self));
        }
        if at >= len {
            return (Some(self), None);
        }
        match self {
            Self::Protocol(mut bytes) => {
                let back = bytes.split_off(at);
                (Some(Self::Protocol(bytes)), Some(Self::Protocol(back)))
            }
            Self::Payload(mut bytes) => {
                let back = bytes.split_off(at);
                (Some(Self::Payload(bytes)), Some(Self::Payload(back)))
            }
        }
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
        outbox.slices(100, usize::MAX, &mut slices);
        assert_eq!(
            slices.iter().map(|s| &s[..]).collect::<Vec<_>>(),
            [&b"header"[..], b"0123456789", b"tail"]
        );
        assert_eq!([outbox.written(3), outbox.written(5), outbox.written(12)], [0, 2, 8]);
        assert!(outbox.is_empty());
    }

    fn text(outbox: &Outbox) -> String {
        let mut slices = Vec::new();
        outbox.slices(usize::MAX, usize::MAX, &mut slices);
        slices.iter().map(|slice| String::from_utf8_lossy(slice).into_owned()).collect()
    }

    #[test]
    fn what_is_behind_a_place_is_held_until_it_is_ready() {
        let mut outbox = Outbox::default();
        outbox.push(b"clear");
        let place = outbox.end();
        outbox.push(b"secret");
        outbox.payload(Bytes::from_static(b"block"));
        outbox.hold(place);
        outbox.push(b"more");
        assert_eq!((text(&outbox).as_str(), outbox.len()), ("clear", 20));
        let taken = outbox.take_held(outbox.end());
        assert_eq!(taken.iter().flat_map(|s| s.bytes().to_vec()).collect::<Vec<_>>(), b"secretblockmore");
        taken.into_iter().for_each(|segment| outbox.ready(segment));
        assert_eq!((text(&outbox).as_str(), outbox.len()), ("clearsecretblockmore", 20));
        outbox.push(b"held");
        outbox.release();
        assert_eq!(text(&outbox), "clearsecretblockmoreheld");
    }

    #[test]
    fn only_what_is_before_a_place_is_taken() {
        let mut outbox = Outbox::default();
        outbox.hold(0);
        outbox.push(b"first");
        let place = outbox.end();
        outbox.push(b"second");
        let taken = outbox.take_held(place);
        assert_eq!(taken.iter().flat_map(|s| s.bytes().to_vec()).collect::<Vec<_>>(), b"first");
    }

    #[test]
    fn a_budget_ends_a_write_after_the_segment_that_fills_it() {
        let mut outbox = Outbox::default();
        (0..4).for_each(|_| outbox.payload(Bytes::from_static(b"0123456789")));
        let mut slices = Vec::new();
        outbox.slices(15, usize::MAX, &mut slices);
        assert_eq!(slices.len(), 2);
    }

    #[test]
    fn a_limit_ends_a_write_in_the_middle_of_a_segment() {
        let mut outbox = Outbox::default();
        (0..4).for_each(|_| outbox.payload(Bytes::from_static(b"0123456789")));
        outbox.written(7);
        let mut slices = Vec::new();
        outbox.slices(100, 15, &mut slices);
        assert_eq!(slices.iter().map(|s| &s[..]).collect::<Vec<_>>(), [&b"789"[..], b"0123456789", b"01"]);
    }
}
