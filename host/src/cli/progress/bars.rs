//! One bar per torrent, on a terminal.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::ProgressBar;
use pilotfish_plugin::{Level, TorrentHandle, TorrentState};

use super::{Progress, Shown, rates, summary};
use crate::cli::screen::Screen;
use crate::command::TorrentStatus;

pub(super) struct Bars {
    screen: Screen,
    bars: HashMap<TorrentHandle, ProgressBar>,
}

impl Bars {
    pub(super) fn new(screen: Screen) -> Self {
        Self { screen, bars: HashMap::new() }
    }
}

impl Progress for Bars {
    fn added(&mut self, torrent: &Shown) {
        let bar = self.screen.bar(&torrent.name, torrent.total);
        if let Some(before) = self.bars.insert(torrent.handle, bar) {
            before.finish_and_clear();
        }
    }

    fn figures(&mut self, torrents: &[(&Shown, TorrentStatus)], _: Duration) {
        for (torrent, status) in torrents {
            let Some(bar) = self.bars.get(&torrent.handle) else { continue };
            bar.set_length(status.total_wanted);
            bar.set_position(status.total_wanted_done);
            bar.set_message(match status.state {
                _ if status.paused => "paused".to_owned(),
                TorrentState::CHECKING_FILES | TorrentState::CHECKING_RESUME_DATA => {
                    format!("checking {}/{}", status.pieces_checked, status.total_pieces)
                }
                TorrentState::DOWNLOADING_METADATA => format!("waiting for metadata, {}", rates(status)),
                _ => rates(status),
            });
        }
        // Those that are gone without having finished.
        self.bars.retain(|handle, bar| {
            let there = torrents.iter().any(|(torrent, _)| torrent.handle == *handle);
            if !there {
                bar.finish_and_clear();
            }
            there
        });
    }

    fn finished(&mut self, torrent: &Shown, status: &TorrentStatus, now: Duration) {
        // A torrent that is seeded keeps its bar: it shows the upload from now on.
        if let Some(bar) = self.bars.get(&torrent.handle) {
            bar.set_position(status.total_wanted);
            bar.set_message(rates(status));
        }
        self.screen.say(Level::Info, summary(torrent, status, now));
    }

    fn over(&mut self) {
        self.bars.drain().for_each(|(_, bar)| bar.finish_and_clear());
    }
}
