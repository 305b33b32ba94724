//! The engine's deadlines, in one heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use pilotfish_plugin::TorrentHandle;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The session's tick, once per second.
    Session,
    /// A torrent's tick, once per second while it has anything to do.
    Torrent(TorrentHandle),
    /// Messages or events were left over: as soon as the driver has done a turn of I/O.
    Soon,
}

/// Deadlines. A deadline that is not wanted any more still fires; whoever set it looks whether it is.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, Timer)>>);

impl Timers {
    /// Sets a deadline.
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.0.push(Reverse((at, timer)));
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// A deadline that has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, timer))| timer)
    }
}
