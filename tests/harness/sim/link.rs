//! The network between two nodes: a TCP-like stream in each direction.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// What a connection is like. Loss shows as delay, as it does with TCP.
#[derive(Clone, Debug)]
pub struct Link {
    /// One way.
    pub latency: Duration,
    /// Bytes per second in each direction.
    pub bandwidth: u64,
    /// How many in a million chunks have to be sent again.
    pub loss_ppm: u32,
    /// So many bytes may be on their way or unread.
    pub window: usize,
    /// Bytes arrive in chunks of so many.
    pub chunk: RangeInclusive<usize>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(10),
            bandwidth: 10_000_000,
            loss_ppm: 0,
            window: 4 << 20,
            chunk: 1..=16_000,
        }
    }
}

impl Link {
    /// How long the link takes for so many bytes.
    fn time(&self, bytes: usize) -> Duration {
        Duration::from_nanos((bytes as u128 * 1_000_000_000 / u128::from(self.bandwidth)) as u64)
    }

    fn send_buffer(&self) -> usize {
        LEAST_SEND_BUFFER.max((self.bandwidth as f64 * SEND_BUFFER.as_secs_f64()) as usize)
    }
}

/// A lost chunk is sent again after so long, and a round trip.
pub(super) const RETRANSMISSION: Duration = Duration::from_millis(200);
/// How far a sender may be ahead of what the link has taken: what the link takes in this time, or so many bytes.
const SEND_BUFFER: Duration = Duration::from_millis(5);
const LEAST_SEND_BUFFER: usize = 64 << 10;

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Stream {
    /// On its way; an empty chunk is the end.
    flying: VecDeque<Vec<u8>>,
    /// Arrived and not read; an empty chunk is the end.
    arrived: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that were read.
    taken: usize,
    /// Sent, and not known to be read.
    unacknowledged: usize,
    /// When the link has taken everything that was written.
    busy_until: Duration,
    last_arrival: Duration,
    /// The sender has more than there is room for.
    pub(super) blocked: bool,
    pub(super) waits_for_room: bool,
}

impl Stream {
    /// How many bytes the sender may write now.
    pub(super) fn room(&self, link: &Link, now: Duration) -> usize {
        let waiting = self.busy_until.saturating_sub(now).as_secs_f64() * link.bandwidth as f64;
        let room = link.send_buffer().saturating_sub(waiting as usize);
        room.min(link.window.saturating_sub(self.unacknowledged))
    }

    /// When to tell a blocked sender that half of its buffer is free again, unless that is known already.
    pub(super) fn wait_for_room(&mut self, link: &Link, now: Duration) -> Option<Duration> {
        let at = self.busy_until.saturating_sub(link.time(link.send_buffer() / 2));
        // Else it is the window that is full, and an acknowledgement comes.
        let wait = self.blocked && at > now && !self.waits_for_room;
        self.waits_for_room |= wait;
        wait.then_some(at)
    }

    /// Sends bytes, in chunks. Says when each arrives.
    pub(super) fn send(
        &mut self,
        link: &Link,
        now: Duration,
        mut bytes: &[u8],
        rng: &mut StdRng,
    ) -> Vec<Duration> {
        self.unacknowledged += bytes.len();
        let mut arrivals = Vec::new();
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(rng.random_range(link.chunk.clone()).min(bytes.len()));
            arrivals.push(self.launch(link, now, chunk.to_vec(), rng));
            bytes = rest;
        }
        arrivals
    }

    /// Ends the stream, behind everything that was sent.
    pub(super) fn end(&mut self, link: &Link, now: Duration, rng: &mut StdRng) -> Duration {
        self.launch(link, now, Vec::new(), rng)
    }

    fn launch(&mut self, link: &Link, now: Duration, chunk: Vec<u8>, rng: &mut StdRng) -> Duration {
        self.busy_until = self.busy_until.max(now) + link.time(chunk.len());
        let mut at = self.busy_until + link.latency;
        if link.loss_ppm > 0 && rng.random_range(0..1_000_000) < link.loss_ppm {
            at += RETRANSMISSION + 2 * link.latency;
        }
        // Whatever comes behind a lost chunk waits for it.
        self.last_arrival = self.last_arrival.max(at);
        self.flying.push_back(chunk);
        self.last_arrival
    }

    /// The next chunk arrives.
    pub(super) fn arrive(&mut self) {
        self.arrived.extend(self.flying.pop_front());
    }

    /// Whether everything was read that ever comes.
    pub(super) fn is_over(&self) -> bool {
        self.arrived.front().is_some_and(Vec::is_empty)
    }

    /// Whether there is anything to read.
    pub(super) fn is_readable(&self) -> bool {
        !self.arrived.is_empty() && !self.is_over()
    }

    /// Reads at most `most` bytes; how many.
    pub(super) fn read(&mut self, buffers: &mut [IoSliceMut<'_>], most: usize) -> usize {
        let mut read = 0;
        for buffer in buffers {
            let mut filled = 0;
            while filled < buffer.len() && read < most && self.is_readable() {
                let rest = &self.arrived[0][self.taken..];
                let n = rest.len().min(buffer.len() - filled).min(most - read);
                buffer[filled..filled + n].copy_from_slice(&rest[..n]);
                filled += n;
                read += n;
                self.taken += n;
                if self.taken == self.arrived[0].len() {
                    self.arrived.pop_front();
                    self.taken = 0;
                }
            }
        }
        read
    }

    /// The sender learns that so many bytes were read.
    pub(super) fn acknowledge(&mut self, bytes: usize) {
        self.unacknowledged -= bytes;
    }
}
