//! Introductions by one peer (BEP 55): to whom it may introduce us, and how often we do as it asks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// So many peers that it told of are remembered, the latest: as many as a message of ut_pex names at most.
const MOST: usize = 50;
/// So much is done at its request in a minute: as much as it would ask if all that it was told of in that time were out of
/// reach.
const MOST_REQUESTS: u32 = 50;
const MINUTE: Duration = Duration::from_secs(60);

/// What one peer has to do with introductions.
#[derive(Clone, Debug)]
pub struct Introductions {
    known: VecDeque<SocketAddr>,
    requests: u32,
    since: Instant,
}

impl Introductions {
    /// None yet.
    pub fn new(now: Instant) -> Self {
        Self { known: VecDeque::new(), requests: 0, since: now }
    }

    /// The peer told of another one, which can be introduced.
    pub fn remember(&mut self, address: SocketAddr) {
        if self.is_by(address) {
            return;
        }
        if self.known.len() == MOST {
            self.known.pop_front();
        }
        self.known.push_back(address);
    }

    /// Whether the peer told of this one.
    pub fn is_by(&self, address: SocketAddr) -> bool {
        self.known.contains(&address)
    }

    /// The peer asks for something. Whether it has not asked too much lately.
    pub fn may_ask(&mut self, now: Instant) -> bool {
        if now >= self.since + MINUTE {
            (self.requests, self.since) = (0, now);
        }
        self.requests = self.requests.saturating_add(1);
        self.requests <= MOST_REQUESTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], number))
    }

    #[test]
    fn the_latest_that_it_told_of_are_remembered() {
        let mut introductions = Introductions::new(Instant::now());
        (0..60).chain([59, 59]).for_each(|number| introductions.remember(peer(number)));
        let known: Vec<u16> = (0..70).filter(|number| introductions.is_by(peer(*number))).collect();
        assert_eq!(known, (10..60).collect::<Vec<_>>());
    }

    #[test]
    fn who_asks_too_much_is_heard_again_a_minute_later() {
        let now = Instant::now();
        let mut introductions = Introductions::new(now);
        assert_eq!((0..200).filter(|_| introductions.may_ask(now)).count(), 50);
        assert!(introductions.may_ask(now + MINUTE));
    }
}
