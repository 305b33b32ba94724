//! How fast bytes flow.
//!
//! Invariant: every byte ever added is in [`Meter::total`], and in the rate of exactly one period between two ticks.

use std::time::{Duration, Instant};

/// Meters one flow: its total, its rate over about the last five seconds, and its peak. Forty-eight bytes, no heap.
///
/// The rate is an exponentially weighted mean that forgets a fifth per second, as libtorrent's does. Unlike there the
/// mean is over the life of the meter while that is shorter, so a new flow does not look slow for its first seconds.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    last_tick: Instant,
    pending: u64,
    total: u64,
    latest: f32,
    mean: f32,
    /// How much of the mean's window has been seen, 0 to 1.
    seen: f32,
    peak: f32,
}

/// What is left of the past after one second.
const KEPT_PER_SECOND: f32 = 0.8;

impl Meter {
    /// Nothing has flowed yet.
    pub fn new(now: Instant) -> Self {
        Self { last_tick: now, pending: 0, total: 0, latest: 0.0, mean: 0.0, seen: 0.0, peak: 0.0 }
    }

    /// `bytes` have flowed.
    pub fn add(&mut self, bytes: u64) {
        self.pending += bytes;
        self.total += bytes;
    }

    /// Ends a period; to be called about once per second. Any other period is weighted by its length, and one of no
    /// length is not a period. O(1).
    pub fn tick(&mut self, now: Instant) {
        let period = now.saturating_duration_since(self.last_tick);
        if period < SHORTEST_PERIOD {
            return;
        }
        self.last_tick = now;
        self.latest = (std::mem::take(&mut self.pending) as f64 / period.as_secs_f64()) as f32;
        let weight = 1.0 - KEPT_PER_SECOND.powf(period.as_secs_f32());
        self.seen += (1.0 - self.seen) * weight;
        self.mean += (self.latest - self.mean) * (weight / self.seen);
        self.peak = self.peak.max(self.mean);
    }

    /// The smoothed rate in B/s, as of the last tick.
    pub fn rate(&self) -> u64 {
        self.mean.round() as u64
    }

    /// The rate of the last period alone, in B/s.
    pub fn latest(&self) -> u64 {
        self.latest.round() as u64
    }

    /// The highest smoothed rate so far, in B/s.
    pub fn peak(&self) -> u64 {
        self.peak.round() as u64
    }

    /// All bytes that ever flowed.
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// Below this a rate would be noise; the bytes wait for the next tick.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn run(meter: &mut Meter, from: Instant, seconds: u64, bytes_per_second: u64) -> Instant {
        (1..=seconds).fold(from, |_, second| {
            let now = from + Duration::from_secs(second);
            meter.add(bytes_per_second);
            meter.tick(now);
            now
        })
    }

    #[test]
    fn a_new_flow_shows_its_rate_at_once_and_an_ended_one_fades() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let now = run(&mut meter, start, 1, 1_000_000);
        assert_eq!(meter.rate(), 1_000_000);
        let now = run(&mut meter, now, 60, 1_000_000);
        assert_eq!((meter.rate(), meter.latest()), (1_000_000, 1_000_000));
        run(&mut meter, now, 5, 0);
        assert!((300_000..350_000).contains(&meter.rate()), "{}", meter.rate());
        assert_eq!((meter.latest(), meter.total()), (0, 61_000_000));
        assert!((1_000_000..1_000_100).contains(&meter.peak()));
    }

    #[test]
    fn late_ticks_weigh_as_much_as_the_ticks_they_replace() {
        let start = Instant::now();
        let (mut punctual, mut late) = (Meter::new(start), Meter::new(start));
        let now = run(&mut punctual, start, 10, 5_000);
        run(&mut late, start, 10, 5_000);
        run(&mut punctual, now, 3, 100);
        late.add(300);
        late.tick(now + Duration::from_secs(3));
        assert!(punctual.rate().abs_diff(late.rate()) <= 1);
    }

    #[test]
    fn a_tick_without_time_keeps_the_bytes_for_the_next() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        meter.add(500);
        meter.tick(start);
        assert_eq!(meter.rate(), 0);
        meter.tick(start + Duration::from_millis(500));
        assert_eq!(meter.rate(), 1_000);
    }
}
