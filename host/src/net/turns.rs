//! How long turns hold the network thread: of the processor's time, and by the clock.
//!
//! A plugin that thinks for long in a hook, or anything else that waits where it must not, shows here: everybody else's
//! sockets wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How many turns took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// Of the processor's time of the thread. Zero where the system does not say (other than Linux).
    pub cpu: Durations,
    /// By the clock: also while the system had the thread wait for a processor.
    pub wall: Durations,
}

/// Spans of time, counted by powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// The first for what took less than a microsecond, each of the others for up to twice as long as the one before.
    counts: [u64; BUCKETS],
    longest: Duration,
}

/// The last one takes everything from half an hour on.
const BUCKETS: usize = 32;

impl Durations {
    fn add(&mut self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.longest = self.longest.max(span);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// So long took, at most, this share (0 to 1) of them; to the next power of two microseconds.
    pub fn most_of(&self, share: f64) -> Duration {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bound = self.buckets().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        bound.map_or(self.longest, |(bound, _)| bound.min(self.longest))
    }

    /// How many took how long: less than the one bound and not less than the one before it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        (0..).zip(&self.counts).map(|(power, count)| (Duration::from_micros(1 << power), *count))
    }
}

/// Measures turns, for whoever has the other handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct TurnMeter(Arc<Mutex<Turns>>);

/// The beginning of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    cpu: Duration,
    wall: Instant,
}

impl TurnMeter {
    /// What was measured so far.
    pub(crate) fn turns(&self) -> Turns {
        self.0.lock().clone()
    }

    pub(super) fn begin() -> Begun {
        Begun { cpu: thread_time(), wall: Instant::now() }
    }

    pub(super) fn end(&self, begun: Begun) {
        let mut turns = self.0.lock();
        turns.wall.add(begun.wall.elapsed());
        turns.cpu.add(thread_time().saturating_sub(begun.cpu));
    }
}

#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn thread_time() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn spans_are_counted_by_powers_of_two() {
        let mut spans = Durations::default();
        [0, 1, 2, 3, 4, 1_000].into_iter().for_each(|span| spans.add(micros(span)));
        let counted: Vec<_> = spans.buckets().filter(|(_, count)| *count > 0).collect();
        let bounds = [(1, 1), (2, 1), (4, 2), (8, 1), (1_024, 1)];
        assert_eq!(counted, bounds.map(|(bound, count)| (micros(bound), count)));
        assert_eq!((spans.count(), spans.longest()), (6, micros(1_000)));
        assert_eq!((spans.most_of(0.5), spans.most_of(1.0)), (micros(4), micros(1_000)));
    }

    #[test]
    fn no_span_is_too_long_to_be_counted() {
        let mut spans = Durations::default();
        assert_eq!(spans.most_of(0.99), Duration::ZERO);
        spans.add(Duration::MAX);
        assert_eq!((spans.count(), spans.most_of(0.99)), (1, micros(1 << 31)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn waiting_is_no_processors_time() {
        let meter = TurnMeter::default();
        let begun = TurnMeter::begin();
        std::thread::sleep(Duration::from_millis(20));
        meter.end(begun);
        let turns = meter.turns();
        assert!(
            turns.wall.longest() >= Duration::from_millis(20) && turns.cpu.longest() < turns.wall.longest()
        );
    }
}
