//! What a peer was told, and what it is to be told next.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use pilotfish_plugin::PexFlags;

/// A peer is told something at most so often (BEP 11).
const MINUTE: Duration = Duration::from_secs(60);
/// When there is nothing to be told, it is looked again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The first message tells of so many at most, as libtorrent's.
const MOST_AT_FIRST: usize = 100;
/// Later ones tell of so many at most that came, and of as many that went (BEP 11).
const MOST_LATER: usize = 50;

/// What one peer was told: exactly those that it was told came and was not told went.
#[derive(Default)]
pub(super) struct Told {
    peers: BTreeSet<SocketAddr>,
    /// Whether it was told anything yet.
    begun: bool,
    /// When it is to be told more, on the session's clock.
    due: Duration,
}

/// What a peer is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) added: Vec<(SocketAddr, PexFlags)>,
    pub(super) dropped: Vec<SocketAddr>,
}

impl Told {
    /// Whether it is time for more.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.due
    }

    /// What has changed since the peer was last told, if anything has. What does not fit is for the next time. From now on the
    /// peer counts as told.
    pub(super) fn news(
        &mut self,
        now: Duration,
        contacts: impl Iterator<Item = (SocketAddr, PexFlags)> + Clone,
    ) -> Option<News> {
        let most = if self.begun { MOST_LATER } else { MOST_AT_FIRST };
        let mut added: Vec<(SocketAddr, PexFlags)> = Vec::new();
        for contact in contacts.clone().filter(|(address, _)| !self.peers.contains(address)) {
            // Two connections may lead to the same peer.
            if added.len() < most && added.iter().all(|(address, _)| *address != contact.0) {
                added.push(contact);
            }
        }
        let there: BTreeSet<SocketAddr> = contacts.map(|(address, _)| address).collect();
        let dropped: Vec<SocketAddr> = self.peers.difference(&there).copied().take(MOST_LATER).collect();
        if added.is_empty() && dropped.is_empty() {
            self.due = now + LOOK_AGAIN;
            return None;
        }
        self.peers.extend(added.iter().map(|(address, _)| *address));
        dropped.iter().for_each(|address| {
            self.peers.remove(address);
        });
        (self.begun, self.due) = (true, now + MINUTE);
        Some(News { added, dropped })
    }
}
