//! The sessions: a seed, and leeches that know each other.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use pilotfish_plugin::{AlertCategory, PeerSource, TorrentHandle};

use super::board::Board;
use super::stage::{NAMES, Stage};
use super::{LIMIT, Stop, go_on};
use crate::alert::{Alert, AlertKind};
use crate::cli::args::{Common, PluginSetting};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::load::{self, PluginFile};
use crate::cli::screen::Screen;
use crate::cli::signals::Signals;
use crate::cli::text;
use crate::command::{AddTorrent, TorrentStatus};
use crate::metainfo::Metainfo;
use crate::session::{Alerts, Session, SessionParams};
use crate::settings::{ListenInterfaces, Settings};

/// How long the loop sleeps.
const NAP: Duration = Duration::from_millis(20);

/// How often figures are asked for and shown.
const FIGURES_EVERY: Duration = Duration::from_millis(100);

/// How long it goes on when all is there, so that the last events are seen before the connections close.
const LINGER: Duration = Duration::from_millis(300);

/// Alerts that wait for a busy machine: each piece that a peer gets is a line in peer-log.
const ALERTS: u32 = 100_000;

/// The sessions while they run.
pub(super) struct Swarm<'a> {
    runners: Vec<Runner>,
    board: Board<'a>,
    started: Instant,
}

/// A session, and how it got on.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: &'static str,
    /// Its figures.
    pub(super) status: TorrentStatus,
    /// How long its download took; `None` for the seed.
    pub(super) took: Option<Duration>,
}

struct Runner {
    name: &'static str,
    session: Session,
    alerts: Alerts,
    torrent: TorrentHandle,
    /// Where it listens, once it does.
    address: Option<SocketAddr>,
    finished: Option<Instant>,
}

impl<'a> Swarm<'a> {
    /// Starts the sessions, each with the plugins and with the torrent. Nobody knows of anybody yet.
    ///
    /// # Errors
    /// A session does not start, or does not take a plugin or the torrent.
    pub(super) fn start(
        stage: &Stage,
        files: &[PluginFile],
        torrent: &Metainfo,
        common: &Common,
        screen: &'a Screen,
    ) -> Result<Self, Failure> {
        let start = |name| Runner::start(name, stage, files, torrent, common);
        let runners = NAMES.into_iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let reports = runners.first().map(|runner| runner.session.plugins()).unwrap_or_default();
        let plugins = load::lines(files, reports);
        let board = Board::new(screen, &plugins, torrent);
        Ok(Self { runners, board, started: Instant::now() })
    }

    /// Has everybody download what the seed has, and ends the sessions.
    ///
    /// # Errors
    /// It does not work, or takes too long; a signal came.
    pub(super) fn share(mut self, signals: &Signals, deadline: Instant) -> Result<Vec<Member>, Stop> {
        // Checks of the seed's data, which takes a moment, and until then nobody would be given any.
        self.until(signals, deadline, |runners| {
            runners[0].finished.is_some() && runners.iter().all(|runner| runner.address.is_some())
        })?;
        self.introduce();
        self.started = Instant::now();
        self.until(signals, deadline, |runners| runners.iter().all(|runner| runner.finished.is_some()))?;
        let linger = Instant::now() + LINGER;
        self.until(signals, deadline, |_| Instant::now() >= linger)?;
        self.end()
    }

    /// Tells each leech of the seed, and of the leeches before it: one connection for each pair.
    fn introduce(&self) {
        for (index, runner) in self.runners.iter().enumerate() {
            for other in self.runners[..index].iter().filter_map(|other| other.address) {
                runner.session.connect_peer(runner.torrent, other, PeerSource::NONE);
            }
        }
    }

    fn until(
        &mut self,
        signals: &Signals,
        deadline: Instant,
        reached: impl Fn(&[Runner]) -> bool,
    ) -> Result<(), Stop> {
        let mut next_figures = Instant::now();
        while !reached(&self.runners) {
            go_on(signals)?;
            self.hear()?;
            if Instant::now() >= next_figures {
                next_figures += FIGURES_EVERY;
                let figures = self.figures()?;
                if Instant::now() >= deadline {
                    return Err(late(&figures).into());
                }
                self.board.show(&figures[1..], self.started.elapsed());
            }
            thread::sleep(NAP);
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<(), Failure> {
        for runner in &mut self.runners {
            while let Some(alert) = runner.alerts.recv_timeout(Duration::ZERO) {
                self.board.alert(runner.name, &alert);
                runner.hear(&alert)?;
            }
        }
        Ok(())
    }

    fn figures(&self) -> Result<Vec<Member>, Failure> {
        self.runners.iter().map(|runner| runner.figures(self.started)).collect()
    }

    fn end(mut self) -> Result<Vec<Member>, Stop> {
        let members = self.figures()?;
        self.board.over(&members[1..]);
        // The leeches first: whoever closes a connection says so to the plugins of both sides.
        self.runners.iter().rev().for_each(|runner| runner.session.shutdown());
        self.hear()?;
        Ok(members)
    }
}

impl Runner {
    fn start(
        name: &'static str,
        stage: &Stage,
        files: &[PluginFile],
        torrent: &Metainfo,
        common: &Common,
    ) -> Result<Self, Failure> {
        let params = SessionParams {
            settings: settings(name, common)?,
            plugins: load::specs(files, &plugin_settings(name, stage, files, common))?,
            extensions: load::default_extensions(common),
            ..SessionParams::default()
        };
        let failed = |error: String| Failure::new(ExitCode::Other, format!("{name}: {error}"));
        let (session, alerts) = Session::start(params).map_err(|error| failed(error.to_string()))?;
        if let Some(line) = load::lines(files, session.plugins())
            .iter()
            .find(|line| line.id.is_some() && line.refused.is_some())
        {
            return Err(Failure::new(ExitCode::Plugin, line.text()));
        }
        let add = AddTorrent { save_path: Some(stage.data(name)), ..AddTorrent::new(torrent.clone()) };
        let torrent = session.add_torrent(add).map_err(|error| failed(error.to_string()))?;
        Ok(Self { name, session, alerts, torrent, address: None, finished: None })
    }

    fn hear(&mut self, alert: &Alert) -> Result<(), Failure> {
        let failed = |code| Err(Failure::new(code, format!("{}: {}", self.name, alert.kind.message())));
        match &alert.kind {
            AlertKind::ListenSucceeded { address } => self.address = Some(*address),
            AlertKind::TorrentFinished { torrent, .. } if *torrent == self.torrent => {
                self.finished = Some(Instant::now());
            }
            AlertKind::ListenFailed { .. } => return failed(ExitCode::Network),
            AlertKind::FileError { .. } => return failed(ExitCode::Disk),
            _ => {}
        }
        Ok(())
    }

    fn figures(&self, started: Instant) -> Result<Member, Failure> {
        let status = match self.session.status(self.torrent) {
            Ok(Some(status)) => status,
            Ok(None) => {
                return Err(Failure::new(
                    ExitCode::Unfinished,
                    format!("{}: the torrent is gone", self.name),
                ));
            }
            Err(error) => return Err(Failure::new(ExitCode::Other, format!("{}: {error}", self.name))),
        };
        let took = self.finished.map(|finished| finished.saturating_duration_since(started));
        Ok(Member { name: self.name, status, took: took.filter(|_| self.name != NAMES[0]) })
    }
}

/// The engine's settings: what a swarm on one address needs, then `--set`.
fn settings(name: &str, common: &Common) -> Result<Settings, Failure> {
    let mut settings = Settings {
        listen_interfaces: ListenInterfaces(vec![SocketAddr::from(([127, 0, 0, 1], 0))]),
        allow_multiple_connections_per_ip: true,
        alert_queue_size: ALERTS,
        ..Settings::default()
    };
    settings.alert_mask = match common.verbose {
        2.. => AlertCategory::ALL,
        _ => AlertCategory::ERROR | AlertCategory::STATUS | AlertCategory::SESSION_LOG,
    };
    if name == NAMES[0] {
        // On loopback it could feed everybody, and there would be little of a swarm to see.
        settings.unchoke_slots_limit = 1;
    }
    for set in &common.set {
        settings
            .set(&set.name, &set.value)
            .map_err(|error| Failure::new(ExitCode::Usage, format!("--set: {error}")))?;
    }
    Ok(settings)
}

/// `--plugin-set`, and where the samples write to: each session has its own files.
fn plugin_settings(name: &str, stage: &Stage, files: &[PluginFile], common: &Common) -> Vec<PluginSetting> {
    let mut settings = common.plugin_set.clone();
    let lines = load::lines(files, &[]);
    for plugin in ["peer-log", "trace"] {
        if lines.iter().any(|line| line.id.as_deref() == Some(plugin)) {
            let value = stage.notes(name, plugin).to_string_lossy().into_owned();
            settings.push(PluginSetting { plugin: plugin.to_owned(), key: "path".to_owned(), value });
        }
    }
    settings
}

fn late(members: &[Member]) -> Failure {
    let part = |member: &Member| {
        let done = text::percent(member.status.total_done, member.status.total);
        format!("{} at {done}", member.name)
    };
    let parts = members.iter().map(part).collect::<Vec<_>>().join(", ");
    Failure::new(ExitCode::TimedOut, format!("not finished after {}: {parts}", text::time(LIMIT)))
}
