//! `demo`: within a minute, a stranger sees what Pilotfish does. A swarm of sessions on loopback shares random data
//! while plugins, which lie in a folder, look on. Then it is told what they saw, and the copies are compared.
//!
//! It all takes place in one temporary folder, and nothing is left behind. What is told goes to stdout, since it is what
//! was asked for; progress goes to stderr.

mod board;
mod samples;
mod seen;
mod stage;
mod swarm;

use std::time::{Duration, Instant};

use pilotfish_plugin::Level;
use serde_json::json;

use self::seen::Seen;
use self::stage::{NAMES, Stage};
use self::swarm::{Member, Swarm};
use super::args::Common;
use super::exit::{ExitCode, Failure};
use super::load::{self, PluginFile};
use super::screen::Screen;
use super::signals::Signals;
use super::text;

/// What stands before all that is below a heading.
const INDENT: &str = "  ";

/// How long the swarm may take.
const LIMIT: Duration = Duration::from_secs(60);

/// # Errors
/// The sample plugins cannot be built or loaded; the swarm did not do its work, or not in time.
pub(super) fn demo(common: &Common, screen: &Screen, signals: &Signals) -> Result<ExitCode, Failure> {
    let stage = Stage::set()?;
    let result = perform(&stage, common, screen, signals);
    if let Err(failure) = stage.clear() {
        // Some systems keep a library for as long as the process that loaded it runs.
        screen.say(Level::Warn, failure.to_string());
    }
    match result {
        Ok(()) => Ok(ExitCode::Done),
        Err(Stop::Failed(failure)) => Err(failure),
        Err(Stop::Signal(code)) => {
            screen.say(Level::Info, "stopped, and cleaned up");
            Ok(code)
        }
    }
}

/// Why the demo ended early.
#[derive(Debug)]
enum Stop {
    Signal(ExitCode),
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// # Errors
/// A signal came.
fn go_on(signals: &Signals) -> Result<(), Stop> {
    signals.received().map_or(Ok(()), |code| Err(Stop::Signal(code)))
}

fn perform(stage: &Stage, common: &Common, screen: &Screen, signals: &Signals) -> Result<(), Stop> {
    let story = Story(screen);
    let version = env!("CARGO_PKG_VERSION");
    story.line(format!("Pilotfish {version}: a swarm on this machine shares a file, and plugins look on."));

    story.heading("Plugins");
    let files = plugins(stage, common, &story, signals)?;

    story.heading("Swarm");
    let started = Instant::now();
    let torrent = stage.make_payload(signals)?;
    let geometry = torrent.layout().geometry();
    story.line(format!(
        "  A seed and three leeches with these plugins share {} of random data.",
        text::size(geometry.total()),
    ));
    story.line("  The seed serves one leech at a time: the others have to help each other.");
    let blocks = geometry.pieces().map(|piece| u64::from(geometry.blocks_in(piece))).sum();
    let swarm = Swarm::start(stage, &files, &torrent, common, screen)?;
    let members = swarm.share(signals, started + LIMIT)?;
    tell_figures(&members, &story);

    let seen = Seen::read(stage)?;
    seen.tell(&story);
    seen.check(blocks)?;
    NAMES[1..].iter().try_for_each(|leech| stage.compare(leech))?;
    conclude(&seen, started.elapsed(), &story);
    Ok(())
}

/// Loads the plugins: those that the command line names, and the samples unless it names a folder.
fn plugins(
    stage: &Stage,
    common: &Common,
    story: &Story<'_>,
    signals: &Signals,
) -> Result<Vec<PluginFile>, Stop> {
    if common.no_plugins || !common.plugin_dir.is_empty() {
        let files = load::load_all(common, story.0)?;
        load::require(&load::lines(&files, &[]))?;
        tell_plugins(&files, story);
        return Ok(files);
    }
    let took = samples::install(stage, story.0, signals)?;
    story.line(format!(
        "  Built in {}, copied into an empty folder, and loaded from there:",
        text::time(took.max(Duration::from_millis(100)))
    ));
    let common =
        Common { plugin: common.plugin.clone(), plugin_dir: vec![stage.plugins()], ..Common::default() };
    let files = load::load_all(&common, story.0)?;
    tell_plugins(&files, story);
    match load::lines(&files, &[]).iter().find(|line| line.refused.is_some()) {
        Some(line) => Err(Failure::new(ExitCode::Plugin, line.text()).into()),
        None => Ok(files),
    }
}

fn tell_plugins(files: &[PluginFile], story: &Story<'_>) {
    let lines = load::lines(files, &[]);
    if lines.is_empty() {
        story.line("  none");
    }
    let row = |line: &load::PluginLine| {
        let file = line.path.as_ref().and_then(|path| path.file_name()).unwrap_or_default();
        let api = line.api.map(|(major, minor)| format!("API {major}.{minor}"));
        match (&line.id, &line.refused) {
            (Some(id), None) => vec![
                id.clone(),
                line.version.clone(),
                api.unwrap_or_default(),
                file.to_string_lossy().into_owned(),
            ],
            _ => vec![line.text()],
        }
    };
    story.table(&lines.iter().map(row).collect::<Vec<_>>());
}

fn tell_figures(members: &[Member], story: &Story<'_>) {
    let row = |member: &Member| {
        let status = &member.status;
        let given = format!("gave {}", text::size(status.total_payload_upload));
        match member.took {
            None => vec![member.name.to_owned(), "had everything".to_owned(), given],
            Some(took) => {
                let got = status.total_payload_download;
                let rate = text::rate(text::average(got, took));
                vec![
                    member.name.to_owned(),
                    format!("got {} in {} ({rate})", text::size(got), text::time(took)),
                    given,
                ]
            }
        }
    };
    story.table(&members.iter().map(row).collect::<Vec<_>>());
}

fn conclude(seen: &Seen, took: Duration, story: &Story<'_>) {
    story.blank();
    let through = if seen.is_empty() { "" } else { ",\nand each block passed through the plugins" };
    let end = format!(
        "The three copies are equal to the original, byte for byte{through}. All in {}.",
        text::time(took)
    );
    end.lines().for_each(|line| story.line(line));
    story.line("To see a plugin of your own in this swarm: pilotfish demo --plugin FILE");
    if story.0.json() {
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        story.0.object(&json!({"event": "done", "equal": true, "elapsed_ms": milliseconds}));
    }
}

/// What is told, line by line: on stdout, unless that is for programs.
struct Story<'a>(&'a Screen);

impl Story<'_> {
    fn line(&self, line: impl AsRef<str>) {
        if self.0.json() {
            self.0.say(Level::Info, line);
        } else if self.0.shows(Level::Info) {
            self.0.data(line);
        }
    }

    fn blank(&self) {
        self.line("");
    }

    fn heading(&self, words: &str) {
        self.blank();
        self.line(words);
    }

    /// Rows of cells, indented: columns of words to the left, columns of numbers to the right.
    fn table(&self, rows: &[Vec<String>]) {
        let width = |column: usize| {
            // A row of one cell is a sentence, whose length is nobody else's concern.
            let cells = rows.iter().filter(|row| row.len() > 1).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        for row in rows {
            let cell = |(column, cell): (usize, &String)| match cell.parse::<u64>() {
                Ok(_) => format!("{cell:>width$}", width = width(column)),
                Err(_) => format!("{cell:width$}", width = width(column)),
            };
            let cells = row.iter().enumerate().map(cell).collect::<Vec<_>>();
            self.line(format!("{INDENT}{}", cells.join("  ").trim_end()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bare() -> (Common, Screen) {
        let common = Common { quiet: true, no_plugins: true, ..Common::default() };
        let screen = Screen::new(&common);
        (common, screen)
    }

    #[test]
    fn a_swarm_without_plugins_shares_its_data_too() {
        let (common, screen) = bare();
        assert_eq!(demo(&common, &screen, &Signals::default()).unwrap(), ExitCode::Done);
    }

    #[test]
    fn a_signal_ends_it() {
        let (common, screen) = bare();
        let signals = Signals::with(ExitCode::Interrupted);
        assert_eq!(demo(&common, &screen, &signals).unwrap(), ExitCode::Interrupted);
    }

    #[test]
    fn a_swarm_that_is_too_slow_says_how_far_it_came() {
        let (common, screen) = bare();
        let stage = Stage::set().unwrap();
        let torrent = stage.make_payload(&Signals::default()).unwrap();
        let swarm = Swarm::start(&stage, &[], &torrent, &common, &screen).unwrap();
        let Err(Stop::Failed(failure)) = swarm.share(&Signals::default(), Instant::now()) else {
            panic!("it was in time")
        };
        assert_eq!(failure.code, ExitCode::TimedOut);
        assert!(failure.to_string().contains("leech 3 at 0.0 %"), "{failure}");
    }
}
