//! How much is on its way from one peer when its link is full, and no queue stands anywhere.
//!
//! What a link holds is its rate times its delay. More than that waits in socket buffers, and with a peer that is as fast as
//! memory those are so large that every byte leaves the processor's cache before it is looked at. Rate and delay are
//! measured as BBR does it: the best rate seen lately, and the least delay, at which nothing stood in a queue.

use std::time::Duration;

use crate::metainfo::BLOCK_SIZE;

/// What is known of the link to one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipe {
    /// Bytes that came, ever.
    delivered: u64,
    /// The least time from a request to its block.
    least_rtt: Option<Duration>,
    /// The same within the present window.
    lately: Option<Duration>,
    /// Ticks of the present window.
    ticks: u32,
    /// The best rates of this and of the last period, in B/s.
    best: [u64; 2],
}

/// Where a request stood when it was sent: what had come until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(u64);

/// A peer that is slower than this, in B/s, may well send in bursts, and what waits for it costs nothing.
const FAST: u64 = 64 << 20;
/// So much is asked for beyond what the link holds, in blocks, for what is done in turns on either side.
const SLACK: u64 = 64;
/// Ticks after which a delay that was never seen again is forgotten.
const WINDOW: u32 = 10;

impl Pipe {
    /// To be kept with a request.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.delivered)
    }

    /// A block of `len` bytes came, `rtt` after it was asked for.
    pub(super) fn received(&mut self, len: u32, mark: Mark, rtt: Duration) {
        self.delivered += u64::from(len);
        // Blocks of one turn of the engine: there was no time in between.
        if rtt.is_zero() {
            return;
        }
        let rate = (self.delivered - mark.0) as f64 / rtt.as_secs_f64();
        self.best[0] = self.best[0].max(rate as u64);
        let least = |known: Option<Duration>| Some(known.map_or(rtt, |known| known.min(rtt)));
        (self.least_rtt, self.lately) = (least(self.least_rtt), least(self.lately));
    }

    /// Ends a period of about a second.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        if self.ticks == WINDOW {
            self.ticks = 0;
            let (allowed, lately) = (self.longest_expected(), self.lately.take());
            // More than our own requests explain: the way has become longer.
            if lately > allowed && allowed.is_some() {
                self.least_rtt = lately;
            }
        }
        self.best = [0, self.best[0]];
    }

    /// The most blocks that are of use on their way. `None` if that cannot be said, or does not matter.
    pub(super) fn holds(&self) -> Option<u32> {
        let (rate, rtt) = (self.rate(), self.least_rtt?);
        let blocks = (2.0 * rate as f64 * rtt.as_secs_f64()) as u64 / u64::from(BLOCK_SIZE) + SLACK;
        (rate >= FAST).then(|| u32::try_from(blocks).unwrap_or(u32::MAX))
    }

    fn rate(&self) -> u64 {
        self.best[0].max(self.best[1])
    }

    /// How long a block may take if as many are on their way as [`holds`](Self::holds) says, and twice that.
    fn longest_expected(&self) -> Option<Duration> {
        let blocks = self.holds()?;
        let seconds = f64::from(blocks) * f64::from(BLOCK_SIZE) / self.rate() as f64;
        Some(Duration::from_secs_f64(2.0 * seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `seconds` during which so many bytes per second come, each block after so long.
    fn run(pipe: &mut Pipe, seconds: u32, rate: u64, rtt: Duration) {
        for _ in 0..seconds {
            let mark = pipe.mark();
            pipe.delivered += (rate as f64 * rtt.as_secs_f64()) as u64 - u64::from(BLOCK_SIZE);
            pipe.received(BLOCK_SIZE, mark, rtt);
            pipe.tick();
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_fast_link_holds_its_rate_times_its_delay_twice_and_some_slack() {
        let mut pipe = Pipe::default();
        assert_eq!(pipe.holds(), None);
        run(&mut pipe, 2, 1 << 30, MS);
        let bdp = (1 << 20) * 1024 / 1000 / BLOCK_SIZE;
        assert_eq!(pipe.holds(), Some(2 * bdp + SLACK as u32 + 1));
    }

    #[test]
    fn a_queue_that_delays_blocks_does_not_make_the_link_longer() {
        let mut pipe = Pipe::default();
        run(&mut pipe, 2, 1 << 30, MS);
        let before = pipe.holds();
        run(&mut pipe, 30, 1 << 30, 3 * MS);
        assert_eq!(pipe.holds(), before);
    }

    #[test]
    fn a_way_that_has_become_longer_is_noticed() {
        let mut pipe = Pipe::default();
        run(&mut pipe, 2, 1 << 30, MS);
        let before = pipe.holds();
        run(&mut pipe, 2 * WINDOW, 1 << 30, 100 * MS);
        assert!(pipe.holds() > before.map(|blocks| blocks * 20));
    }

    #[test]
    fn of_a_slow_peer_nothing_is_said() {
        let mut pipe = Pipe::default();
        run(&mut pipe, 5, 10 << 20, 20 * MS);
        assert_eq!(pipe.holds(), None);
    }

    #[test]
    fn a_rate_of_long_ago_does_not_count() {
        let mut pipe = Pipe::default();
        run(&mut pipe, 1, 1 << 30, MS);
        run(&mut pipe, 2, 20 << 20, MS);
        assert_eq!(pipe.holds(), None);
    }
}
