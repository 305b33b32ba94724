//! Showing how a session is getting on: bars on a terminal, lines elsewhere, JSON for programs.

mod bars;
pub(super) mod json;
mod lines;

use std::path::PathBuf;
use std::time::Duration;

use pilotfish_plugin::TorrentHandle;

use super::load::PluginLine;
use super::screen::Screen;
use super::text;
use crate::alert::Alert;
use crate::command::TorrentStatus;
use crate::session::Turns;

/// What is known of a torrent for as long as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) handle: TorrentHandle,
    pub(super) name: String,
    /// Its info-hash in hexadecimal.
    pub(super) hash: String,
    /// Bytes.
    pub(super) total: u64,
    pub(super) pieces: u32,
    /// Its file, or the folder of its files. `None` for a torrent that a plugin added: only the plugin knows.
    pub(super) path: Option<PathBuf>,
    /// When it was added, since the start of the session.
    pub(super) since: Duration,
}

/// One way of showing progress. Times are since the start of the session.
pub(super) trait Progress {
    /// The session has begun.
    fn hello(&mut self, _: &[PluginLine]) {}
    /// A torrent was added.
    fn added(&mut self, _: &Shown) {}
    /// A torrent that began with a link has its metadata.
    fn described(&mut self, torrent: &Shown) {
        self.added(torrent);
    }
    /// Something happened. What people should read has been said already.
    fn alert(&mut self, _: &Alert, _: Option<&Shown>) {}
    /// The figures of every torrent; about once per second.
    fn figures(&mut self, torrents: &[(&Shown, TorrentStatus)], now: Duration);
    /// A torrent is finished.
    fn finished(&mut self, torrent: &Shown, status: &TorrentStatus, now: Duration);
    /// How long the network thread was held. What people should read has been said already.
    fn turns(&mut self, _: &Turns) {}
    /// The session is over.
    fn over(&mut self) {}
}

/// The way that suits the terminal and the options.
pub(super) fn for_screen(screen: &Screen) -> Box<dyn Progress> {
    match (screen.json(), screen.has_bars()) {
        (true, _) => Box::new(json::Json::new(screen.clone())),
        (_, true) => Box::new(bars::Bars::new(screen.clone())),
        _ => Box::new(lines::Lines::new(screen.clone())),
    }
}

/// The last line about a download.
fn summary(torrent: &Shown, status: &TorrentStatus, now: Duration) -> String {
    let (name, total) = (&torrent.name, text::size(status.total_wanted));
    let place = torrent.path.as_ref().map(|path| format!(", in {}", path.display())).unwrap_or_default();
    match (status.total_payload_download, now.saturating_sub(torrent.since)) {
        (0, _) => format!("{name}: complete and checked: {total}{place}"),
        (received, took) => {
            let (speed, took) = (text::rate(text::average(received, took)), text::time(took));
            format!("{name}: finished and checked: {total} in {took} ({speed}){place}")
        }
    }
}

/// The rates, peers and remaining time of a torrent.
fn rates(status: &TorrentStatus) -> String {
    let down = status.download_payload_rate;
    let left = remaining(status).map(|left| format!(", {} left", text::time(left))).unwrap_or_default();
    let up = match status.upload_payload_rate {
        0 => String::new(),
        up => format!(", {} up", text::rate(up)),
    };
    format!("{} down{up}, {}{left}", text::rate(down), text::count(status.num_peers as usize, "peer"))
}

/// How long the rest takes at the present rate.
fn remaining(status: &TorrentStatus) -> Option<Duration> {
    let left = status.total_wanted.saturating_sub(status.total_wanted_done);
    let is_moving = left > 0 && status.download_payload_rate > 0;
    is_moving.then(|| Duration::from_secs(left.div_ceil(status.download_payload_rate)))
}
