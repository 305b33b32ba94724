//! How much stands ready to be sent to one peer.
//!
//! It is a share of what the peer takes in a second. How much that is shows only once it was offered as much, and is known
//! for the first time after a second, in which a fast peer takes a gigabyte: so whoever takes everything at once is offered
//! twice as much next time, as TCP does it while a connection is new.

/// What a peer has shown that it takes at once, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendAhead(u64);

impl SendAhead {
    /// How many bytes are to stand ready for a peer that takes `share` in the time that they are to last.
    pub fn wanted(self, share: u64, low: u64, high: u64) -> u64 {
        share.max(self.0).clamp(low.min(high), high)
    }

    /// The socket took all that stood ready, though there would have been more.
    pub fn emptied(&mut self, low: u64, high: u64) {
        self.0 = self.0.max(low).saturating_mul(2).min(high);
    }

    /// A second has passed: what was shown before counts half.
    pub fn tick(&mut self) {
        self.0 /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_takes_everything_is_offered_twice_as_much_up_to_the_limit() {
        let mut ahead = SendAhead::default();
        assert_eq!(ahead.wanted(0, 10, 1_000), 10);
        let offered: Vec<u64> = (0..8)
            .map(|_| {
                ahead.emptied(10, 1_000);
                ahead.wanted(0, 10, 1_000)
            })
            .collect();
        assert_eq!(offered, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
    }

    #[test]
    fn what_it_takes_in_a_second_counts_once_that_is_more() {
        let mut ahead = SendAhead::default();
        ahead.emptied(10, 1_000);
        assert_eq!((ahead.wanted(500, 10, 1_000), ahead.wanted(5_000, 10, 1_000)), (500, 1_000));
    }

    #[test]
    fn a_peer_that_became_slow_is_offered_less_again() {
        let mut ahead = SendAhead::default();
        (0..8).for_each(|_| ahead.emptied(10, 1_000));
        (0..8).for_each(|_| ahead.tick());
        assert_eq!(ahead.wanted(0, 10, 1_000), 10);
    }
}
