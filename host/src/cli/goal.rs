//! When a session is over, and with what result. Hears alerts and figures; asks and shows nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use pilotfish_plugin::{TorrentHandle, TorrentState};

use super::exit::{ExitCode, Failure};
use super::text;
use crate::alert::AlertKind;
use crate::command::TorrentStatus;

/// After everything is finished, peers have so long for what they still had to say or to hear, if there are any.
const LINGER: Duration = Duration::from_millis(300);

/// What a session is to reach. Times are since its start.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    pub(super) until: Until,
    /// `--stop-after`
    pub(super) deadline: Option<Duration>,
    /// For how long what is finished is uploaded.
    pub(super) seed: SeedUntil,
    /// Data that is missing is an error, not something to download.
    pub(super) complete: bool,
    /// How many addresses are to be listened on.
    pub(super) addresses: usize,
    /// Whether there are peers to connect to.
    pub(super) has_peers: bool,
}

/// When what is finished has been uploaded for long enough: whichever comes first. At once if neither is set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SeedUntil {
    /// `--seed-ratio`: each torrent's upload, in sizes of its download.
    pub(super) ratio: Option<f64>,
    /// `--seed-time`
    pub(super) time: Option<Duration>,
}

/// When a session ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// When every torrent is finished; running out of time is a failure then.
    Finished,
    /// When its time is over, whatever happens.
    Elapsed,
    /// When its time is over, if that is limited, or when no torrent can go on.
    Never,
}

/// How far a session has come.
#[derive(Debug)]
pub(super) struct Goal {
    aim: Aim,
    torrents: BTreeMap<TorrentHandle, Torrent>,
    deaf: usize,
    finished_since: Option<Duration>,
    seeded_since: Option<Duration>,
}

#[derive(Debug)]
struct Torrent {
    name: String,
    phase: Phase,
    done: u64,
    total: u64,
    /// Bytes since it was first added.
    uploaded: u64,
    peers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Checking,
    Downloading,
    Finished,
    Failed,
    Removed,
}

impl Goal {
    pub(super) fn new(aim: Aim) -> Self {
        Self { aim, torrents: BTreeMap::new(), deaf: 0, finished_since: None, seeded_since: None }
    }

    /// A torrent of `total` bytes belongs to the session now.
    pub(super) fn add(&mut self, torrent: TorrentHandle, name: &str, total: u64) {
        let (name, phase) = (name.to_owned(), Phase::Checking);
        let new = Torrent { name, phase, done: 0, total, uploaded: 0, peers: 0 };
        self.torrents.entry(torrent).or_insert(new);
    }

    /// It is known now what a torrent is.
    pub(super) fn describe(&mut self, handle: TorrentHandle, name: &str, total: u64) {
        if let Some(torrent) = self.torrents.get_mut(&handle) {
            (torrent.name, torrent.total) = (name.to_owned(), total);
        }
    }

    /// An alert came. Progress is read off the figures instead: they say where a torrent stands now.
    pub(super) fn hear(&mut self, alert: &AlertKind) {
        match alert {
            AlertKind::ListenFailed { .. } => self.deaf += 1,
            AlertKind::TorrentRemoved { torrent, .. } => self.set(*torrent, Phase::Removed),
            AlertKind::FileError { torrent, .. } => self.set(*torrent, Phase::Failed),
            _ => {}
        }
    }

    /// A torrent's figures came. Returns whether it is finished since now.
    ///
    /// # Errors
    /// They rule out that the goal is reached.
    pub(super) fn look(&mut self, handle: TorrentHandle, status: &TorrentStatus) -> Result<bool, Failure> {
        let complete = self.aim.complete;
        let Some(torrent) = self.torrents.get_mut(&handle) else { return Ok(false) };
        (torrent.done, torrent.total) = (status.total_wanted_done, status.total_wanted);
        torrent.uploaded = status.all_time_upload;
        torrent.peers = status.num_peers;
        let checking =
            matches!(status.state, TorrentState::CHECKING_FILES | TorrentState::CHECKING_RESUME_DATA);
        let before = torrent.phase;
        torrent.phase = match before {
            Phase::Failed | Phase::Removed | Phase::Finished => before,
            _ if status.error.is_some() => Phase::Failed,
            _ if status.is_finished() => Phase::Finished,
            _ if checking => before,
            _ => Phase::Downloading,
        };
        if complete && torrent.phase == Phase::Downloading {
            return Err(incomplete(status));
        }
        Ok(before != torrent.phase && torrent.phase == Phase::Finished)
    }

    /// Whether the session is over at `now`.
    ///
    /// # Errors
    /// It is over, without what was asked for.
    pub(super) fn reached(&mut self, now: Duration) -> Result<bool, Failure> {
        let until = self.aim.until;
        let finished = !self.torrents.is_empty() && self.all(|phase| phase == Phase::Finished);
        if until == Until::Finished && finished {
            let finished = *self.finished_since.get_or_insert(now);
            if !self.has_seeded(now.saturating_sub(finished)) {
                // What was asked for is here, however long the upload was to be.
                return Ok(self.aim.deadline.is_some_and(|deadline| now >= deadline));
            }
            let lonely = self.torrents.values().all(|torrent| torrent.peers == 0);
            let since = *self.seeded_since.get_or_insert(now);
            return Ok(lonely || now >= since + LINGER);
        }
        (self.finished_since, self.seeded_since) = (None, None);
        if until != Until::Elapsed {
            self.hopeless(until)?;
            self.unreachable()?;
        }
        match self.aim.deadline.filter(|&deadline| now >= deadline) {
            Some(limit) if until == Until::Finished => Err(self.timed_out(limit)),
            over => Ok(over.is_some()),
        }
    }

    /// Whether everything is done, and only peers are left.
    pub(super) fn lingers(&self) -> bool {
        self.seeded_since.is_some()
    }

    /// Whether enough was uploaded, now that everything is finished for so long.
    fn has_seeded(&self, time: Duration) -> bool {
        let SeedUntil { ratio, time: limit } = self.aim.seed;
        let enough = |ratio: f64| {
            self.torrents.values().all(|torrent| torrent.uploaded as f64 >= ratio * torrent.total as f64)
        };
        match (ratio, limit) {
            (None, None) => true,
            (ratio, limit) => ratio.is_some_and(enough) || limit.is_some_and(|limit| time >= limit),
        }
    }

    /// No torrent can go on.
    fn hopeless(&self, until: Until) -> Result<(), Failure> {
        let lost = |phase| matches!(phase, Phase::Failed | Phase::Removed);
        let over = |phase| lost(phase) || (until == Until::Finished && phase == Phase::Finished);
        if self.torrents.is_empty() || !self.all(over) {
            return Ok(());
        }
        let text = format!("{} unfinished: {}", self.number_of(lost), self.names(lost));
        let disk = self.all(|phase| phase == Phase::Failed);
        Err(Failure::new(if disk { ExitCode::Disk } else { ExitCode::Unfinished }, text))
    }

    /// Nobody can connect to us, nor we to anybody. What is there already is checked first: perhaps it is everything.
    fn unreachable(&self) -> Result<(), Failure> {
        let deaf = self.aim.addresses > 0 && self.deaf >= self.aim.addresses;
        if !deaf || self.aim.has_peers || !self.all(|phase| phase != Phase::Checking) {
            return Ok(());
        }
        let text = "no address to listen on, and no peer to connect to: choose another with --listen, or name a --peer";
        Err(Failure::new(ExitCode::Network, text))
    }

    fn timed_out(&self, limit: Duration) -> Failure {
        let open = |phase| phase != Phase::Finished;
        let parts = self.torrents.values().filter(|torrent| open(torrent.phase));
        let parts = parts
            .map(|torrent| format!("{} at {}", torrent.name, text::percent(torrent.done, torrent.total)));
        let parts = parts.collect::<Vec<_>>().join(", ");
        let what = if parts.is_empty() { "there was nothing to finish" } else { &parts };
        Failure::new(ExitCode::TimedOut, format!("stopped after {}: {what}", text::time(limit)))
    }

    fn set(&mut self, handle: TorrentHandle, phase: Phase) {
        // A download that is finished has succeeded, whatever becomes of its upload.
        let succeeded =
            |torrent: &&mut Torrent| self.aim.until == Until::Finished && torrent.phase == Phase::Finished;
        if let Some(torrent) = self.torrents.get_mut(&handle).filter(|torrent| !succeeded(torrent)) {
            torrent.phase = phase;
        }
    }

    fn all(&self, test: impl Fn(Phase) -> bool) -> bool {
        self.torrents.values().all(|torrent| test(torrent.phase))
    }

    fn number_of(&self, test: impl Fn(Phase) -> bool) -> String {
        let number = self.torrents.values().filter(|torrent| test(torrent.phase)).count();
        format!("{number} of {}", text::count(self.torrents.len(), "torrent"))
    }

    fn names(&self, test: impl Fn(Phase) -> bool) -> String {
        let names = self.torrents.values().filter(|torrent| test(torrent.phase));
        names.map(|torrent| torrent.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

fn incomplete(status: &TorrentStatus) -> Failure {
    let text = format!(
        "{}: {} of {} pieces are there ({}): download the rest first; `pilotfish verify` lists what is wrong",
        status.name,
        status.num_pieces,
        status.total_pieces,
        text::percent(status.total_done, status.total),
    );
    Failure::new(ExitCode::Mismatch, text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
