//! How much we answer: all together so many bytes per second, and nobody who asks too often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Config;

/// Questions of an address are counted over so long.
const WINDOW: Duration = Duration::from_secs(10);
/// The most addresses that are counted at a time; when there are more, those that ask least are forgotten.
const MOST: usize = 1_024;

#[derive(Clone, Copy, Debug)]
struct Asker {
    since: Instant,
    count: u32,
    blocked_until: Option<Instant>,
}

/// Who asks how often (libtorrent's `dos_blocker`).
#[derive(Debug, Default)]
pub(super) struct Blocker(HashMap<IpAddr, Asker>);

impl Blocker {
    /// An address asks something. Whether it is to be listened to.
    pub(super) fn admits(&mut self, ip: IpAddr, now: Instant, config: &Config) -> bool {
        if !self.0.contains_key(&ip) && self.0.len() >= MOST {
            self.forget(now);
        }
        let asker = self.0.entry(ip).or_insert(Asker { since: now, count: 0, blocked_until: None });
        if asker.blocked_until.is_some_and(|until| now < until) {
            return false;
        }
        if now.duration_since(asker.since) >= WINDOW || asker.blocked_until.is_some() {
            *asker = Asker { since: now, count: 0, blocked_until: None };
        }
        asker.count += 1;
        let most = u64::from(config.block_ratelimit) * WINDOW.as_secs();
        if u64::from(asker.count) > most {
            asker.blocked_until = Some(now + config.block_timeout);
            return false;
        }
        true
    }

    /// Makes room: who is blocked, and the busier half of the others, stay.
    fn forget(&mut self, now: Instant) {
        let idle = |asker: &Asker| {
            asker.blocked_until.map_or(now.duration_since(asker.since) >= WINDOW, |until| now >= until)
        };
        self.0.retain(|_, asker| !idle(asker));
        if self.0.len() >= MOST {
            let mut counts: Vec<u32> = self.0.values().map(|asker| asker.count).collect();
            counts.sort_unstable();
            let median = counts[counts.len() / 2];
            self.0.retain(|_, asker| asker.count > median);
        }
    }
}

/// What may still be answered in this moment.
#[derive(Debug)]
pub(super) struct Quota {
    left: f64,
    counted: Instant,
}

impl Quota {
    pub(super) fn new(now: Instant, config: &Config) -> Self {
        Self { left: f64::from(config.upload_rate_limit), counted: now }
    }

    /// Whether anything may be answered.
    pub(super) fn is_left(&mut self, now: Instant, config: &Config) -> bool {
        let rate = f64::from(config.upload_rate_limit);
        let gained = now.duration_since(self.counted).as_secs_f64() * rate;
        self.counted = now;
        // A second's worth may be saved.
        self.left = (self.left + gained).min(rate);
        self.left > 0.0
    }

    /// So many bytes were answered.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left -= bytes as f64;
    }
}
