//! Shows how the leeches get on: bars on a terminal, a line per second elsewhere, JSON for programs.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pilotfish_plugin::{Level, TorrentHandle};
use serde_json::{Value, json};

use super::stage::NAMES;
use super::swarm::Member;
use crate::alert::{Alert, AlertKind};
use crate::cli::load::PluginLine;
use crate::cli::progress::{Shown, json as objects};
use crate::cli::screen::{Screen, importance, level_of};
use crate::cli::text;
use crate::metainfo::Metainfo;

/// How often there is a line, or an object per leech, where there are no bars.
const EVERY: Duration = Duration::from_secs(1);

pub(super) struct Board<'a> {
    screen: &'a Screen,
    bars: Vec<ProgressBar>,
    next: Duration,
    /// What the leeches' objects have in common.
    shown: Shown,
}

impl<'a> Board<'a> {
    pub(super) fn new(screen: &'a Screen, plugins: &[PluginLine], torrent: &Metainfo) -> Self {
        let geometry = torrent.layout().geometry();
        if screen.json() {
            screen.object(&objects::hello(plugins));
        }
        let shown = Shown {
            handle: TorrentHandle::INVALID,
            name: torrent.name().to_owned(),
            hash: torrent.info_hashes().to_string(),
            total: geometry.total(),
            pieces: geometry.num_pieces(),
            // It is gone before anybody could look.
            path: None,
            since: Duration::ZERO,
        };
        let bars = NAMES[1..].iter().map(|name| bar(screen, name, geometry.total())).collect();
        Self { screen, bars, next: EVERY, shown }
    }

    /// An alert of a session: what people should read, and everything for programs. What plugins have to say is told
    /// later, as it would drown the rest.
    pub(super) fn alert(&self, member: &str, alert: &Alert) {
        if self.screen.json() {
            self.object(member, objects::happened(alert, Some(&self.shown)));
        }
        let (who, level) = match &alert.kind {
            AlertKind::Log { plugin, level, .. } => (format!("{member}, {plugin}"), level_of(*level)),
            other => (member.to_owned(), importance(other)),
        };
        if level <= Level::Warn || self.screen.shows(Level::Debug) {
            let text = match &alert.kind {
                AlertKind::Log { text, .. } => text.clone(),
                other => other.message(),
            };
            self.screen.say(level, format!("[{who}] {text}"));
        }
    }

    /// The leeches' figures, `now` after they began.
    pub(super) fn show(&mut self, leeches: &[Member], now: Duration) {
        for (bar, leech) in self.bars.iter().zip(leeches) {
            bar.set_position(leech.status.total_done);
            bar.set_message(match leech.took {
                Some(took) => format!("finished in {}", text::time(took)),
                None => {
                    // The engine's own rate is that of whole seconds, of which there may not be many.
                    text::rate(text::average(leech.status.total_done, now))
                }
            });
        }
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        if self.screen.json() {
            leeches
                .iter()
                .for_each(|leech| self.object(leech.name, objects::progress(&self.shown, &leech.status)));
        } else if !self.screen.has_bars() && leeches.iter().any(|leech| leech.took.is_none()) {
            let part = |leech: &Member| {
                format!("{} {}", leech.name, text::percent(leech.status.total_done, leech.status.total))
            };
            let parts = leeches.iter().map(part).collect::<Vec<_>>().join(", ");
            self.screen.say(Level::Info, format!("  {parts}"));
        }
    }

    /// Everybody has finished.
    pub(super) fn over(&self, leeches: &[Member]) {
        self.bars.iter().for_each(ProgressBar::finish_and_clear);
        if self.screen.json() {
            for leech in leeches {
                let took = leech.took.unwrap_or_default();
                self.object(leech.name, objects::finished(&self.shown, &leech.status, took));
            }
        }
    }

    fn object(&self, member: &str, mut object: Value) {
        object["session"] = json!(member);
        self.screen.object(&object);
    }
}

fn bar(screen: &Screen, name: &str, total: u64) -> ProgressBar {
    let bar = screen.bar(name, total);
    let style = ProgressStyle::with_template("  {prefix:7}  {bar:32.cyan/dim}  {percent:>3} %  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━─"));
    bar.tick();
    bar
}
