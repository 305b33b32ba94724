//! Where text goes: lines for people to stderr, data to stdout.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pilotfish_plugin::Level;
use serde_json::{Value, json};

use super::args::Common;
use super::exit::Failure;
use super::text;
use crate::alert::AlertKind;

/// The terminal, or what stands in its place. Whatever is printed through it is one line, and does not tear the bars.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    /// The least important level that is shown.
    level: Level,
    json: bool,
    bars: MultiProgress,
    has_bars: bool,
}

impl Screen {
    pub(super) fn new(common: &Common) -> Self {
        let level = match (common.quiet, common.verbose) {
            (true, _) => Level::Error,
            (false, 0) => Level::Info,
            (false, _) => Level::Debug,
        };
        let has_bars = !common.quiet && !common.json && io::stderr().is_terminal();
        let target = if has_bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { level, json: common.json, bars: MultiProgress::with_draw_target(target), has_bars }
    }

    /// Whether stdout is for JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Whether progress is shown as bars.
    pub(super) fn has_bars(&self) -> bool {
        self.has_bars
    }

    /// Whether lines of this level are shown.
    pub(super) fn shows(&self, level: Level) -> bool {
        level <= self.level
    }

    /// A line for people, with the word that belongs to its level.
    pub(super) fn say(&self, level: Level, line: impl AsRef<str>) {
        let word = match level {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info | Level::Debug => "",
        };
        self.print(level, format!("{word}{}", line.as_ref()));
    }

    /// A plugin's line for people.
    pub(super) fn say_for(&self, plugin: &str, level: Level, line: &str) {
        self.print(level, format!("[{plugin}] {line}"));
    }

    /// Why the program ends; with `--json` also for programs.
    pub(super) fn fail(&self, failure: &Failure) {
        self.say(Level::Error, failure.to_string());
        if self.json {
            let (text, exit) = (failure.to_string(), failure.code.number());
            self.object(&json!({"event": "error", "message": text, "exit": exit}));
        }
    }

    /// What a session alerts to, if people should see it.
    pub(super) fn alert(&self, alert: &AlertKind) {
        match alert {
            AlertKind::Log { plugin, level, text } => self.say_for(plugin, level_of(*level), text),
            other => self.say(importance(other), other.message()),
        }
    }

    /// A line of data.
    pub(super) fn data(&self, line: impl AsRef<str>) {
        // A reader that has gone away, as `head` does, wants no more; that is no failure of ours.
        let _ = writeln!(io::stdout(), "{}", text::plain(line.as_ref()));
    }

    /// A line of JSON.
    pub(super) fn object(&self, object: &Value) {
        let _ = writeln!(io::stdout(), "{object}");
    }

    /// A bar of `total` bytes under the other bars; invisible where there are none.
    pub(super) fn bar(&self, name: &str, total: u64) -> ProgressBar {
        let style =
            ProgressStyle::with_template("{prefix:24!} {wide_bar} {bytes:>11} of {total_bytes:11} {msg:32}");
        let bar = self.bars.add(ProgressBar::new(total));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(text::plain(name));
        bar.enable_steady_tick(Duration::from_secs(1));
        bar
    }

    fn print(&self, level: Level, line: String) {
        if self.shows(level) {
            let line = text::plain(&line);
            self.bars.suspend(|| {
                let _ = writeln!(io::stderr(), "{line}");
            });
        }
    }
}

/// The level that a plugin gave its line. Newer levels, if there will be any, are less important than those known.
pub(super) fn level_of(number: u32) -> Level {
    match number {
        0 | 1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        _ => Level::Debug,
    }
}

/// How much an alert matters to whoever waits for a download.
pub(super) fn importance(alert: &AlertKind) -> Level {
    match alert {
        AlertKind::FileError { .. }
        | AlertKind::SessionError { .. }
        | AlertKind::PluginPanicked { .. }
        | AlertKind::PluginQuarantined { .. } => Level::Error,
        AlertKind::ListenFailed { .. }
        | AlertKind::HashFailed { .. }
        | AlertKind::PeerBan { .. }
        | AlertKind::FastresumeRejected { .. }
        | AlertKind::TrackerWarning { .. }
        // It is tried again and again; once is enough.
        | AlertKind::TrackerError { times_in_row: 1, .. } => Level::Warn,
        AlertKind::AddTorrent { error, .. } if !error.is_empty() => Level::Error,
        AlertKind::ListenSucceeded { .. }
        | AlertKind::TorrentPaused { .. }
        | AlertKind::TorrentResumed { .. } => Level::Info,
        _ => Level::Debug,
    }
}
