//! A line per torrent every ten seconds, for logs and pipes.

use std::time::Duration;

use pilotfish_plugin::{Level, TorrentState};

use super::{Progress, Shown, rates, summary};
use crate::cli::screen::Screen;
use crate::cli::text;
use crate::command::TorrentStatus;

const EVERY: Duration = Duration::from_secs(10);

pub(super) struct Lines {
    screen: Screen,
    next: Duration,
}

impl Lines {
    pub(super) fn new(screen: Screen) -> Self {
        Self { screen, next: EVERY }
    }
}

impl Progress for Lines {
    fn added(&mut self, torrent: &Shown) {
        let what = match torrent.pieces {
            0 => "a magnet link: waiting for its metadata".to_owned(),
            _ => text::size(torrent.total),
        };
        self.screen.say(Level::Info, format!("{}: {what}", torrent.name));
    }

    fn figures(&mut self, torrents: &[(&Shown, TorrentStatus)], now: Duration) {
        if now >= self.next {
            self.next = now + EVERY;
            torrents.iter().for_each(|(torrent, status)| self.screen.say(Level::Info, line(torrent, status)));
        }
    }

    fn finished(&mut self, torrent: &Shown, status: &TorrentStatus, now: Duration) {
        self.screen.say(Level::Info, summary(torrent, status, now));
    }
}

fn line(torrent: &Shown, status: &TorrentStatus) -> String {
    let name = &torrent.name;
    match status.state {
        _ if status.paused => format!("{name}: paused"),
        TorrentState::CHECKING_FILES | TorrentState::CHECKING_RESUME_DATA => {
            format!("{name}: checking: {} of {} pieces", status.pieces_checked, status.total_pieces)
        }
        TorrentState::DOWNLOADING_METADATA => format!("{name}: waiting for metadata, {}", rates(status)),
        _ => format!(
            "{name}: {}, {}",
            text::percent(status.total_wanted_done, status.total_wanted),
            rates(status)
        ),
    }
}
