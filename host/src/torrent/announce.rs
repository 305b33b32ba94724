//! The trackers of a torrent: which of them is to be told what, and when (BEP 12).
//!
//! Trackers stand in tiers. Of each tier one that works is kept up to date, and later tiers are left alone as long as an
//! earlier one has such a tracker; the settings `announce_to_all_trackers` and `announce_to_all_tiers` say otherwise. A
//! tracker that works moves to the front of its tier. One that fails is tried again later and later.
//!
//! `started` is told first and `stopped` last, each until it is answered; `completed` to those who knew us before, once.
//! Whoever asks for what is [due](Trackers::due) carries it out, and says what became of it.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use crate::wire::tracker::{AnnounceEvent, AnnounceReply, Retry, ScrapeReply, TrackerError};

/// Trackers of one torrent; what a torrent names beyond them is left out.
const MOST_TRACKERS: usize = 512;
/// When to ask again if the tracker does not say (as with libtorrent).
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// How long at least a tracker rests between two questions if it does not say (as with libtorrent).
const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(30);
/// When a tracker that failed is tried again, at the least and at the most.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60 * 60));

/// What the settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnouncePolicy {
    /// The setting `announce_to_all_trackers`.
    pub all_trackers: bool,
    /// The setting `announce_to_all_tiers`.
    pub all_tiers: bool,
    /// The setting `min_announce_interval`.
    pub min_interval: Duration,
    /// The setting `tracker_backoff`, in percent.
    pub backoff: u32,
}

/// Names a tracker of a torrent for as long as the torrent lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackerId(u32);

/// Something that a tracker is to be told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which tracker.
    pub tracker: TrackerId,
    /// What.
    pub event: AnnounceEvent,
}

/// One tracker (libtorrent's `announce_entry`).
#[derive(Clone, Debug)]
pub struct Tracker {
    id: TrackerId,
    /// Its URL.
    pub url: String,
    /// Its tier; lower ones are asked first.
    pub tier: u8,
    /// How often it failed in a row.
    pub fails: u32,
    /// Whether it has ever answered.
    pub verified: bool,
    /// Whether it has ever answered by IPv4, and by IPv6, when that was told apart.
    pub answers_by: [bool; 2],
    /// What it is being told.
    pub asked: Option<AnnounceEvent>,
    /// Whether it knows of us: it answered `started`, and was not told `stopped` since.
    pub started: bool,
    /// It is to be told that the download was completed.
    completed: bool,
    /// When it is to be asked next; `None` if never by itself.
    pub next: Option<Instant>,
    /// It is not to be asked before.
    pub earliest: Option<Instant>,
    /// What it wants to be told with each question.
    pub trackerid: Option<Vec<u8>>,
    /// Why it failed last, or its warning.
    pub message: String,
    /// A torrent's figures, as it knows them.
    pub scraped: ScrapeReply,
}

/// The trackers of one torrent.
#[derive(Clone, Debug, Default)]
pub struct Trackers {
    /// In the order of tiers, and within a tier in the order in which they are tried.
    list: Vec<Tracker>,
    ids: u32,
    /// Whether they are to know of us.
    announcing: bool,
    /// Whether the download was completed before.
    completed: bool,
    /// By which they know us again.
    pub key: u32,
    /// When the next announce is planned for, on the session's heap of deadlines.
    pub timer: Option<Instant>,
}

impl Trackers {
    /// Trackers in tiers. Within each, their order is random (BEP 12).
    pub fn new(tiers: impl IntoIterator<Item = Vec<String>>, rng: &mut StdRng) -> Self {
        let mut trackers = Self::default();
        for (number, mut tier) in tiers.into_iter().enumerate() {
            tier.shuffle(rng);
            let number = u8::try_from(number).unwrap_or(u8::MAX);
            tier.into_iter().for_each(|url| {
                trackers.add(url, number, None);
            });
        }
        if !trackers.list.is_empty() {
            trackers.key = rng.next_u32();
        }
        trackers
    }

    /// One more tracker, the last of its tier, to be asked at `now` if the others are. `None` if it is there already, or
    /// there are too many.
    pub fn add(&mut self, url: String, tier: u8, now: Option<Instant>) -> Option<TrackerId> {
        if self.list.len() >= MOST_TRACKERS || self.list.iter().any(|known| known.url == url) {
            return None;
        }
        self.ids += 1;
        let id = TrackerId(self.ids);
        let tracker = Tracker {
            id,
            url,
            tier,
            fails: 0,
            verified: false,
            answers_by: [false; 2],
            asked: None,
            started: false,
            completed: false,
            next: now,
            earliest: None,
            trackerid: None,
            message: String::new(),
            scraped: ScrapeReply::default(),
        };
        let at = self.list.partition_point(|other| other.tier <= tier);
        self.list.insert(at, tracker);
        Some(id)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Tracker> {
        self.list.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One of them.
    pub fn get(&self, id: TrackerId) -> Option<&Tracker> {
        self.list.iter().find(|tracker| tracker.id == id)
    }

    fn get_mut(&mut self, id: TrackerId) -> Option<&mut Tracker> {
        self.list.iter_mut().find(|tracker| tracker.id == id)
    }

    /// Whether they are to know of us.
    pub fn is_announcing(&self) -> bool {
        self.announcing
    }

    /// From now on they are to know of us.
    pub fn start(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.announcing, true) {
            for tracker in &mut self.list {
                (tracker.next, tracker.earliest) = (Some(now), None);
            }
        }
    }

    /// From now on nobody is to know of us. Without a goodbye, those who do are left to find out.
    pub fn stop(&mut self, says_goodbye: bool) {
        self.announcing = false;
        for tracker in &mut self.list {
            tracker.completed &= tracker.fails == 0;
            tracker.started &= says_goodbye;
        }
    }

    /// The download was completed: those who knew us before are told, the first time.
    pub fn complete(&mut self) {
        if std::mem::replace(&mut self.completed, true) {
            return;
        }
        for tracker in &mut self.list {
            tracker.completed = tracker.started || tracker.asked == Some(AnnounceEvent::Started);
        }
    }

    /// Those that are to be asked as soon as they may be: of each tier the first that works and those in front of it, and
    /// of the tiers the first that has one and those in front of it.
    fn chosen(&self, policy: &AnnouncePolicy) -> Vec<usize> {
        let mut chosen = Vec::new();
        let (mut tier, mut works) = (None, false);
        for (at, tracker) in self.list.iter().enumerate() {
            if tier.replace(tracker.tier) != Some(tracker.tier) {
                if works && !policy.all_tiers {
                    break;
                }
                works = false;
            }
            if !works || policy.all_trackers {
                chosen.push(at);
            }
            works |= tracker.fails == 0;
        }
        chosen
    }

    /// What is to be told to whom now; from here on it counts as being told.
    pub fn due(&mut self, now: Instant, policy: &AnnouncePolicy) -> Vec<Due> {
        let chosen = if self.announcing { self.chosen(policy) } else { Vec::new() };
        let mut due = Vec::new();
        for (at, tracker) in self.list.iter_mut().enumerate() {
            let time = tracker.next.is_some_and(|next| next <= now) && chosen.contains(&at);
            let event = match (self.announcing, tracker.started) {
                _ if tracker.asked.is_some() => continue,
                (_, true) if tracker.completed && (time || tracker.fails == 0) => AnnounceEvent::Completed,
                (false, true) => AnnounceEvent::Stopped,
                (true, false) if time => AnnounceEvent::Started,
                (true, true) if time => AnnounceEvent::None,
                _ => continue,
            };
            tracker.asked = Some(event);
            due.push(Due { tracker: tracker.id, event });
        }
        due
    }

    /// When something is due next.
    pub fn next_deadline(&self, policy: &AnnouncePolicy) -> Option<Instant> {
        let chosen = if self.announcing { self.chosen(policy) } else { Vec::new() };
        let idle = chosen.into_iter().map(|at| &self.list[at]).filter(|tracker| tracker.asked.is_none());
        idle.filter_map(|tracker| tracker.next).min()
    }

    /// A tracker answered what it was told.
    pub fn replied(&mut self, id: TrackerId, reply: &AnnounceReply, now: Instant, policy: &AnnouncePolicy) {
        let Some(tracker) = self.get_mut(id) else { return };
        match tracker.asked.take() {
            Some(AnnounceEvent::Started) => tracker.started = true,
            Some(AnnounceEvent::Completed) => tracker.completed = false,
            Some(AnnounceEvent::Stopped) => (tracker.started, tracker.completed) = (false, false),
            Some(AnnounceEvent::None | AnnounceEvent::Paused) | None => {}
        }
        (tracker.fails, tracker.verified) = (0, true);
        tracker.message = reply.warning.clone().unwrap_or_default();
        if reply.trackerid.is_some() {
            tracker.trackerid = reply.trackerid.clone();
        }
        tracker.scraped.update(&ScrapeReply {
            complete: reply.complete,
            incomplete: reply.incomplete,
            downloaded: reply.downloaded,
        });
        let interval = reply.interval.unwrap_or(DEFAULT_INTERVAL).max(policy.min_interval);
        let rest = reply.min_interval.unwrap_or(DEFAULT_MIN_INTERVAL).min(interval);
        (tracker.next, tracker.earliest) = (Some(now + interval), Some(now + rest));
        self.promote(id);
    }

    /// A tracker answered by this address family.
    pub fn answers_by(&mut self, id: TrackerId, is_v4: bool) {
        if let Some(tracker) = self.get_mut(id) {
            tracker.answers_by[usize::from(!is_v4)] = true;
        }
    }

    /// A tracker that works stands in front of those of its tier that do not.
    fn promote(&mut self, id: TrackerId) {
        let Some(at) = self.list.iter().position(|tracker| tracker.id == id) else { return };
        let tier = self.list[at].tier;
        let first = self.list.iter().position(|other| other.tier == tier && other.fails > 0).unwrap_or(at);
        if first < at {
            self.list[first..=at].rotate_right(1);
        }
    }

    /// A tracker did not answer, or refused what it was told.
    pub fn failed(
        &mut self,
        id: TrackerId,
        error: &TrackerError,
        now: Instant,
        policy: &AnnouncePolicy,
        rng: &mut StdRng,
    ) {
        let Some(tracker) = self.get_mut(id) else { return };
        if tracker.asked.take() == Some(AnnounceEvent::Stopped) {
            // It forgets us by itself, in time.
            (tracker.started, tracker.completed) = (false, false);
        }
        tracker.fails = tracker.fails.saturating_add(1);
        tracker.message = error.to_string();
        let delay = retry_delay(tracker.fails, policy.backoff).mul_f64(rng.random_range(1.0..1.25));
        tracker.next = match error.retry() {
            Retry::Unsaid => Some(now + delay),
            Retry::After(wait) => Some(now + delay.max(wait)),
            Retry::Never => None,
        };
        tracker.earliest = None;
    }

    /// What a tracker was told was taken back before it answered.
    pub fn forgotten(&mut self, id: TrackerId) {
        if let Some(tracker) = self.get_mut(id) {
            tracker.asked = None;
        }
    }

    /// A tracker told a torrent's figures.
    pub fn scraped(&mut self, id: TrackerId, figures: &ScrapeReply) {
        if let Some(tracker) = self.get_mut(id) {
            tracker.scraped.update(figures);
        }
    }

    /// Trackers are to be asked again at `at`, or as soon after it as they allow; all of them, or the one with this number in
    /// the order of [`iter`](Self::iter).
    pub fn force(&mut self, at: Instant, which: Option<usize>, ignore_min_interval: bool) {
        for (number, tracker) in self.list.iter_mut().enumerate() {
            if which.is_none_or(|which| which == number) {
                let earliest = tracker.earliest.filter(|_| !ignore_min_interval).unwrap_or(at);
                tracker.next = Some(earliest.max(at));
            }
        }
    }
}

impl Tracker {
    /// Its name within the torrent.
    pub fn id(&self) -> TrackerId {
        self.id
    }
}

impl ScrapeReply {
    /// Takes what is known of `newer`.
    fn update(&mut self, newer: &Self) {
        self.complete = newer.complete.or(self.complete);
        self.incomplete = newer.incomplete.or(self.incomplete);
        self.downloaded = newer.downloaded.or(self.downloaded);
    }
}

/// How long a tracker rests that has failed so often (libtorrent's formula).
fn retry_delay(fails: u32, backoff: u32) -> Duration {
    let (least, most) = RETRY_DELAY;
    let fails = fails.min(1_000);
    let more = least.as_secs() * u64::from(fails) * u64::from(fails) * u64::from(backoff) / 100;
    (least + Duration::from_secs(more)).min(most)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
