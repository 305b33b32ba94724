//! The engine's deadlines, in one heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use pilotfish_plugin::{PeerHandle, TorrentHandle};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The session's tick, once per second.
    Session,
    /// A torrent's tick, once per second while it has anything to do.
    Torrent(TorrentHandle),
    /// Somebody waits for bandwidth.
    Bandwidth,
    /// A torrent's trackers are to be told something.
    Announce(TorrentHandle),
    /// A tracker has not answered.
    Request(u64),
    /// A slot has become free.
    Choker,
    /// A round of local discovery.
    Lsd,
    /// Something of the DHT.
    Dht,
    /// Routers have been waited for long enough.
    PortMappings,
    /// A moment after a peer's bitfield came.
    Interest(PeerHandle),
}

/// Deadlines. A deadline that is not wanted any more still fires; whoever set it looks whether it is.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
    soon: Option<Instant>,
}

impl Timers {
    /// Sets a deadline.
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// Messages were left over: they are due as soon as the driver has done a turn of I/O.
    pub(super) fn set_soon(&mut self, now: Instant) {
        self.soon = Some(now);
    }

    /// Whether messages were left over.
    pub(super) fn take_soon(&mut self) -> bool {
        self.soon.take().is_some()
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        let first = self.heap.peek().map(|Reverse((at, _))| *at);
        self.soon.into_iter().chain(first).min()
    }

    /// A deadline that has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<Timer> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, timer))| timer)
    }
}
