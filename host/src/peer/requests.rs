//! What we have asked one peer for, and how much more to ask.
//!
//! Invariant: `order` holds every outstanding request once, in the order sent, the oldest in front, and `index` says
//! where. An answer costs O(1) amortised whichever request it belongs to; the gaps that answers leave are closed before
//! they outnumber the requests.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::pipe::{Mark, Pipe};
use super::rates::Meter;
use crate::metainfo::{BLOCK_SIZE, BlockSpan};

/// How deep a queue may grow, and how long it waits. The settings bear libtorrent's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// The most blocks outstanding. 500 is right up to 80 MB/s at 100 ms; 10 Gbit/s at 100 ms takes 7630.
    pub max_out_request_queue: u32,
    /// How much time's worth of blocks to keep outstanding once the peer's rate is known.
    pub request_queue_time: Duration,
    /// A peer that owes us blocks and sends none for so long is snubbing us.
    pub piece_timeout: Duration,
    /// So long may the oldest request be the oldest, even while others are answered.
    pub request_timeout: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            max_out_request_queue: 500,
            request_queue_time: Duration::from_secs(3),
            piece_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(60),
        }
    }
}

/// The outstanding requests of one connection.
///
/// The queue keeps as many blocks outstanding as the peer sends in [`RequestLimits::request_queue_time`], so that the
/// link stays full whatever its delay. Until the peer's rate is known it is in *slow start*: every block that arrives
/// makes room for one more than itself, or two once the queue is deep, which doubles or triples the depth per round trip. That ends with the first period between
/// ticks that was no faster than the one before. To a fast peer never more is outstanding than the link holds.
///
/// All times are on a clock that stands still while the queue is [paused](Self::pause).
#[derive(Clone, Debug)]
pub struct RequestQueue {
    limits: RequestLimits,
    /// The peer's `reqq`, if it told us.
    peer_limit: Option<u32>,
    depth: u32,
    pace: Pace,
    pipe: Pipe,
    meter: Meter,
    clock: Clock,

    order: VecDeque<Option<Sent>>,
    index: FxHashMap<BlockSpan, u64>,
    /// The number, as in `index`, of the first of `order`.
    first: u64,
    bytes: u64,

    /// When the last block arrived, or the queue last ceased to be empty, or the peer was found snubbing.
    quiet_since: Duration,
    /// When the oldest request became the oldest, or the peer was found snubbing.
    oldest_since: Duration,
    /// Smoothed time from request to block.
    mean_rtt: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    span: BlockSpan,
    at: Duration,
    mark: Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    SlowStart,
    Steady,
    Snubbed,
}

/// Before anything is known of the peer.
const FIRST_DEPTH: u32 = 2;
/// A peer that has this many outstanding and keeps pace is a fast one far away: the depth triples per round trip from here.
const HURRY: u32 = 32;
/// A block on its way and one being sent: less would leave the link idle between them.
const LEAST_DEPTH: u32 = 2;
/// Slow start goes on while a period is faster than the last by more than this, in B/s.
const NO_GROWTH: u64 = 5_000;
/// A new sample is one part in so many of the mean.
const RTT_WEIGHT: u32 = 20;

impl RequestQueue {
    /// Nothing is asked for yet.
    pub fn new(limits: RequestLimits, now: Instant) -> Self {
        Self {
            limits,
            peer_limit: None,
            depth: FIRST_DEPTH,
            pace: Pace::SlowStart,
            pipe: Pipe::default(),
            meter: Meter::new(now),
            clock: Clock::new(now),
            order: VecDeque::new(),
            index: FxHashMap::default(),
            first: 0,
            bytes: 0,
            quiet_since: Duration::ZERO,
            oldest_since: Duration::ZERO,
            mean_rtt: None,
        }
    }

    /// Other limits from now on. What is outstanding stays so.
    pub fn set_limits(&mut self, limits: RequestLimits) {
        self.limits = limits;
    }

    /// The peer said how many requests it will hold (`reqq`, BEP 10). One less than 1 is nonsense and ignored.
    pub fn set_peer_limit(&mut self, reqq: u32) {
        self.peer_limit = Some(reqq).filter(|&reqq| reqq > 0);
    }

    /// How many blocks should be outstanding now: 1 for a snubbing peer, else at least 2 unless the limits forbid it.
    pub fn depth(&self) -> u32 {
        let cap = self.limits.max_out_request_queue.min(self.peer_limit.unwrap_or(u32::MAX)).max(1);
        let cap = cap.min(self.pipe.holds().unwrap_or(u32::MAX));
        match self.pace {
            Pace::Snubbed => 1,
            Pace::SlowStart | Pace::Steady => self.depth.max(LEAST_DEPTH).min(cap),
        }
    }

    /// How many more blocks to ask for; none while paused.
    pub fn room(&self) -> usize {
        if self.is_paused() { 0 } else { (self.depth() as usize).saturating_sub(self.len()) }
    }

    /// How many requests are outstanding.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of all outstanding requests.
    pub fn outstanding_bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether this is outstanding.
    pub fn contains(&self, span: BlockSpan) -> bool {
        self.index.contains_key(&span)
    }

    /// The outstanding requests in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = BlockSpan> + '_ {
        self.order.iter().flatten().map(|sent| sent.span)
    }

    /// A request went out. One that is outstanding already keeps its place, and the answer is false.
    pub fn sent(&mut self, span: BlockSpan, now: Instant) -> bool {
        let at = self.clock.read(now);
        if self.contains(span) {
            return false;
        }
        if self.is_empty() {
            self.quiet_since = at;
            self.oldest_since = at;
        }
        self.index.insert(span, self.first + self.order.len() as u64);
        self.order.push_back(Some(Sent { span, at, mark: self.pipe.mark() }));
        self.bytes += u64::from(span.len);
        true
    }

    /// A block arrived whole. Answers how long ago it was asked for, or `None` if it was not.
    ///
    /// A peer that sends what it was asked for no longer snubs us.
    pub fn received(&mut self, span: BlockSpan, now: Instant) -> Option<Duration> {
        let at = self.clock.read(now);
        let sent = self.remove(span, at)?;
        self.quiet_since = at;
        self.meter.add(u64::from(span.len));
        match self.pace {
            Pace::SlowStart => {
                let depth = self.depth();
                self.depth = depth.saturating_add(if depth < HURRY { 1 } else { 2 });
            }
            Pace::Snubbed => self.pace = Pace::Steady,
            Pace::Steady => {}
        }
        let rtt = at.saturating_sub(sent.at);
        self.pipe.received(span.len, sent.mark, rtt);
        self.mean_rtt = Some(self.mean_rtt.map_or(rtt, |mean| (mean * (RTT_WEIGHT - 1) + rtt) / RTT_WEIGHT));
        Some(rtt)
    }

    /// The peer will not answer this request (REJECT, or our CANCEL to a peer that does not reject). Says whether it
    /// was outstanding. A snubbing peer that rejects still snubs us.
    pub fn rejected(&mut self, span: BlockSpan, now: Instant) -> bool {
        let at = self.clock.read(now);
        self.remove(span, at).is_some()
    }

    /// The peer will answer none of the requests (CHOKE without the fast extension, or the end). Answers what was
    /// outstanding, in the order sent. What follows is a new start, because the rate of a pause says nothing.
    pub fn clear(&mut self) -> Vec<BlockSpan> {
        let spans = self.iter().collect();
        self.first += self.order.len() as u64;
        self.order.clear();
        self.index.clear();
        self.bytes = 0;
        if self.pace == Pace::Steady {
            self.pace = Pace::SlowStart;
        }
        spans
    }

    /// Ends a period of about a second: sets the depth by the rate. O(1).
    pub fn tick(&mut self, now: Instant) {
        let before = self.meter.latest();
        self.meter.tick(now);
        self.pipe.tick();
        if self.pace == Pace::SlowStart && before > 0 && self.meter.latest() <= before + NO_GROWTH {
            self.pace = Pace::Steady;
        }
        if self.pace != Pace::SlowStart {
            let bytes = self.meter.rate() as f64 * self.limits.request_queue_time.as_secs_f64();
            // A float too big for the integer becomes its maximum, and `depth` caps it.
            self.depth = (bytes / f64::from(BLOCK_SIZE)) as u32;
        }
    }

    /// Whether the peer takes too long; then [`RequestQueue::snub`]. Never while paused or with nothing outstanding.
    pub fn timed_out(&self, now: Instant) -> bool {
        self.next_timeout().is_some_and(|deadline| deadline <= now)
    }

    /// When [`RequestQueue::timed_out`] will be true if nothing happens before.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let silence = self.quiet_since + self.limits.piece_timeout;
        let oldest = self.oldest_since + self.limits.request_timeout;
        self.clock.when(silence.min(oldest))
    }

    /// The peer was found to take too long: its depth is 1 until it sends a block, and the timeouts begin anew.
    ///
    /// What is outstanding stays so; the caller may [`clear`](Self::clear) it and ask others.
    pub fn snub(&mut self, now: Instant) {
        self.pace = Pace::Snubbed;
        self.depth = LEAST_DEPTH;
        self.quiet_since = self.clock.read(now);
        self.oldest_since = self.quiet_since;
    }

    /// Whether the peer was found to take too long and has sent nothing since.
    pub fn is_snubbed(&self) -> bool {
        self.pace == Pace::Snubbed
    }

    /// We stop reading from the peer, so its answers are not late (back-pressure): all clocks stand still.
    pub fn pause(&mut self, now: Instant) {
        self.clock.stop(now);
    }

    /// The end of [`RequestQueue::pause`].
    pub fn resume(&mut self, now: Instant) {
        self.clock.go_on(now);
    }

    /// Whether the clocks stand still.
    pub fn is_paused(&self) -> bool {
        self.clock.stopped_at.is_some()
    }

    /// Mean time from request to block, pauses excluded; `None` before the first block.
    pub fn mean_rtt(&self) -> Option<Duration> {
        self.mean_rtt
    }

    /// Smoothed rate of the blocks that were asked for, in B/s, as of the last tick.
    pub fn rate(&self) -> u64 {
        self.meter.rate()
    }

    /// Takes one request out, and the gaps that it leaves where they would be in the way.
    fn remove(&mut self, span: BlockSpan, at: Duration) -> Option<Sent> {
        let number = self.index.remove(&span)?;
        let sent = self.order.get_mut((number - self.first) as usize)?.take()?;
        self.bytes -= u64::from(span.len);
        if number == self.first {
            self.oldest_since = at;
        }
        while let Some(None) = self.order.front() {
            self.order.pop_front();
            self.first += 1;
        }
        // A front that is never answered must not keep the gaps behind it forever.
        if self.order.len() > 2 * self.index.len() + SPARE_GAPS {
            self.close_gaps();
        }
        Some(sent)
    }

    /// O(len), after as many answers.
    fn close_gaps(&mut self) {
        self.order.retain(Option::is_some);
        for (number, sent) in (self.first..).zip(self.order.iter().flatten()) {
            self.index.insert(sent.span, number);
        }
    }
}

/// So many gaps are not worth closing.
const SPARE_GAPS: usize = 64;

/// Time since the beginning, less the time it stood still.
#[derive(Clone, Copy, Debug)]
struct Clock {
    began: Instant,
    stood_still: Duration,
    stopped_at: Option<Instant>,
}

impl Clock {
    fn new(now: Instant) -> Self {
        Self { began: now, stood_still: Duration::ZERO, stopped_at: None }
    }

    fn read(&self, now: Instant) -> Duration {
        let now = self.stopped_at.unwrap_or(now);
        now.saturating_duration_since(self.began).saturating_sub(self.stood_still)
    }

    /// When the clock will show `time`; never, while it stands still.
    fn when(&self, time: Duration) -> Option<Instant> {
        if self.stopped_at.is_some() { None } else { Some(self.began + self.stood_still + time) }
    }

    fn stop(&mut self, now: Instant) {
        self.stopped_at.get_or_insert(now);
    }

    fn go_on(&mut self, now: Instant) {
        if let Some(stopped_at) = self.stopped_at.take() {
            self.stood_still += now.saturating_duration_since(stopped_at);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
