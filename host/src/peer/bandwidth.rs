//! Rate limits: budgets that fill with time, and what a connection was granted of them.
//!
//! The limits form a tree: the session's, each torrent's, each peer's. A connection moves no byte that was not granted
//! before, and what is granted to it is taken from all three [`Budget`]s on its way at once. So a budget never pays more than
//! its rate brings in and what it had saved, which is bounded; and a limit below another is kept under it. Where no limit
//! applies, an [`Allowance`] is one comparison per turn.

use std::time::{Duration, Instant};

/// Bytes that flow from a peer, or to it. Indexes what there is of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From it.
    Download,
    /// To it.
    Upload,
}

impl Direction {
    /// Both, in the order of their numbers.
    pub const BOTH: [Self; 2] = [Self::Download, Self::Upload];

    /// The other one.
    pub fn opposite(self) -> Self {
        match self {
            Self::Download => Self::Upload,
            Self::Upload => Self::Download,
        }
    }
}

/// A budget saves what its rate brings in within this time, and no more: the longest burst.
const SAVED: Duration = Duration::from_millis(200);

/// Less than this is not granted to somebody who wants more, in bytes: a packet that is nearly empty costs as much as a full
/// one.
pub const LEAST_GRANT: u64 = 2_048;

/// What may flow under one limit.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// B/s; 0 is no limit.
    limit: u32,
    /// Bytes; below zero if more was spent than there was.
    tokens: i64,
    /// Everything that came in until then is in `tokens`.
    filled: Instant,
}

impl Budget {
    /// A limit in B/s, 0 for none. Nothing is saved yet.
    pub fn new(limit: u32, now: Instant) -> Self {
        Self { limit, tokens: 0, filled: now }
    }

    /// The limit in B/s, 0 for none.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.limit > 0
    }

    /// Another limit from now on, and no more saved, or owed, than suits it.
    pub fn set_limit(&mut self, limit: u32, now: Instant) {
        self.fill(now);
        *self = Self { limit, tokens: if self.is_limited() { self.tokens } else { 0 }, filled: now };
        self.tokens = self.tokens.clamp(-self.most(), self.most());
    }

    /// Adds what has come in.
    pub fn fill(&mut self, now: Instant) {
        const SECOND: u64 = 1_000_000_000;
        if self.limit == 0 {
            return;
        }
        let elapsed = now.saturating_duration_since(self.filled);
        let rate = u64::from(self.limit);
        // What a budget owes is no more than it can save: after so long, it is full.
        if elapsed > 2 * SAVED.max(Duration::from_secs(2 * LEAST_GRANT / rate + 1)) {
            (self.tokens, self.filled) = (self.most(), now);
            return;
        }
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let bytes = u128::from(nanoseconds) * u128::from(rate) / u128::from(SECOND);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        // Time that has not brought a whole byte yet is kept for the next time.
        self.filled += Duration::from_nanos(
            u64::try_from(u128::from(bytes) * u128::from(SECOND) / u128::from(rate)).unwrap_or(0),
        );
        self.tokens = self.tokens.saturating_add_unsigned(bytes).min(self.most());
    }

    /// What it can pay, in bytes.
    pub fn available(&self) -> u64 {
        if self.limit == 0 { u64::MAX } else { u64::try_from(self.tokens).unwrap_or(0) }
    }

    /// Pays. What it does not have it owes, up to as much as it can save.
    pub fn spend(&mut self, bytes: u64) {
        if self.limit > 0 {
            self.tokens = self.tokens.saturating_sub_unsigned(bytes).max(-self.most());
        }
    }

    /// Takes back what was not used.
    pub fn give_back(&mut self, bytes: u64) {
        if self.limit > 0 {
            self.tokens = self.tokens.saturating_add_unsigned(bytes).min(self.most());
        }
    }

    /// The most that it saves: at least one grant, however low the limit is.
    fn most(&self) -> i64 {
        let burst = u64::from(self.limit) * SAVED.as_millis() as u64 / 1_000;
        burst.max(LEAST_GRANT).cast_signed()
    }
}

/// What a connection may move in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// The peer's own limit.
    pub own: Budget,
    /// Bytes that it may move before it has to ask again; [`UNLIMITED`](Self::UNLIMITED) while no limit applies.
    quota: u64,
    /// It has asked.
    pub waits: bool,
    /// It moved something since the last tick.
    used: bool,
}

impl Allowance {
    const UNLIMITED: u64 = u64::MAX;

    /// No limit.
    pub fn new(now: Instant) -> Self {
        Self { own: Budget::new(0, now), quota: Self::UNLIMITED, waits: false, used: false }
    }

    /// Whether some limit applies.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.quota != Self::UNLIMITED
    }

    /// Whether nothing may be moved now.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.quota == 0
    }

    /// At most so many bytes may be moved now.
    #[inline]
    pub fn most(&self) -> usize {
        usize::try_from(self.quota).unwrap_or(usize::MAX)
    }

    /// Bytes that are granted and not moved yet; `None` while no limit applies.
    pub fn quota(&self) -> Option<u64> {
        self.is_limited().then_some(self.quota)
    }

    /// Limits apply from now on, or apply no more. Answers what was granted and is void now.
    pub fn set_limited(&mut self, limited: bool) -> u64 {
        let void = self.quota().unwrap_or(0);
        self.quota = if limited { 0 } else { Self::UNLIMITED };
        void
    }

    /// So many bytes more may be moved.
    pub fn grant(&mut self, bytes: u64) {
        self.waits = false;
        if self.is_limited() {
            self.quota = self.quota.saturating_add(bytes).min(Self::UNLIMITED - 1);
        }
    }

    /// So many bytes were moved. Whether it has to ask before it moves more.
    #[inline]
    pub fn moved(&mut self, bytes: u64) -> bool {
        if !self.is_limited() {
            return false;
        }
        self.used = true;
        self.quota = self.quota.saturating_sub(bytes);
        self.quota == 0
    }

    /// A second has passed. What a connection has not touched all the while it would only hoard: all but a small rest is
    /// taken back, and answered.
    pub fn tick(&mut self) -> u64 {
        let idle = self.is_limited() && !std::mem::take(&mut self.used);
        let back = if idle { self.quota.saturating_sub(LEAST_GRANT) } else { 0 };
        if back > 0 {
            self.quota -= back;
        }
        back
    }
}

/// What a stream of so many bytes costs besides, in each direction: the headers of the packets that carry it, and of those that
/// acknowledge them (as libtorrent counts them, packets of 1,500 bytes).
pub fn ip_overhead(bytes: u64, ipv6: bool) -> u64 {
    const PACKET: u64 = 1_500;
    let header = if ipv6 { 40 + 20 } else { 20 + 20 };
    bytes.div_ceil(PACKET - header).max(1) * header
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(7);

    #[test]
    fn a_budget_pays_its_rate_however_often_it_is_looked_at() {
        for (limit, step) in [(1_000_000, 1), (1_000_000, 13_777), (3, 999), (u32::MAX, 50)] {
            let start = Instant::now();
            let mut budget = Budget::new(limit, start);
            let (mut now, mut paid) = (start, 0);
            while now < start + Duration::from_millis(2_000) {
                now += Duration::from_micros(step);
                budget.fill(now);
                paid += budget.available();
                budget.spend(budget.available());
            }
            let due = u64::from(limit) * 2;
            assert!(paid.abs_diff(due) <= due / 100 + 3, "{paid} of {due} at {limit} B/s, every {step} us");
        }
    }

    #[test]
    fn what_is_not_spent_is_saved_for_a_moment_only() {
        let start = Instant::now();
        let mut budget = Budget::new(100_000, start);
        budget.fill(start + Duration::from_millis(100));
        assert_eq!(budget.available(), 10_000);
        budget.fill(start + Duration::from_secs(3_600));
        assert_eq!(budget.available(), 20_000);
        budget.give_back(1_000_000);
        assert_eq!(budget.available(), 20_000);
    }

    #[test]
    fn a_debt_is_bounded_and_paid_before_anything_else() {
        let start = Instant::now();
        let mut budget = Budget::new(100_000, start);
        budget.spend(u64::MAX);
        budget.fill(start + Duration::from_millis(200));
        assert_eq!(budget.available(), 0);
        budget.fill(start + Duration::from_millis(250));
        assert_eq!(budget.available(), 5_000);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let now = Instant::now();
        let mut budget = Budget::new(0, now);
        budget.spend(1 << 40);
        budget.fill(now + STEP);
        assert_eq!((budget.available(), budget.is_limited()), (u64::MAX, false));
        let mut allowance = Allowance::new(now);
        assert!(!allowance.moved(1 << 40) && !allowance.is_spent());
        assert_eq!((allowance.most(), allowance.quota()), (usize::MAX, None));
    }

    #[test]
    fn another_limit_holds_from_now_on() {
        let start = Instant::now();
        let mut budget = Budget::new(1_000_000, start);
        budget.set_limit(10_000, start + Duration::from_millis(100));
        assert_eq!(budget.available(), LEAST_GRANT);
        budget.set_limit(0, start + Duration::from_millis(100));
        assert_eq!(budget.available(), u64::MAX);
        budget.set_limit(50_000, start + Duration::from_millis(100));
        assert_eq!(budget.available(), 0);
    }

    #[test]
    fn a_connection_asks_again_when_its_grant_is_used_up_and_hoards_none() {
        let mut allowance = Allowance::new(Instant::now());
        assert_eq!(allowance.set_limited(true), 0);
        assert!(allowance.is_spent());
        allowance.grant(10_000);
        assert!(!allowance.moved(4_000));
        assert_eq!((allowance.tick(), allowance.most()), (0, 6_000));
        assert_eq!((allowance.tick(), allowance.most()), (6_000 - LEAST_GRANT, 2_048));
        assert_eq!(allowance.tick(), 0);
        assert!(allowance.moved(2_048));
        allowance.grant(5);
        assert_eq!(allowance.set_limited(false), 5);
        assert!(!allowance.is_spent());
    }

    #[test]
    fn packets_have_headers() {
        assert_eq!(ip_overhead(1, false), 40);
        assert_eq!(ip_overhead(1_460, false), 40);
        assert_eq!(ip_overhead(1_461, false), 80);
        assert_eq!(ip_overhead(16_397, true), 12 * 60);
    }
}
