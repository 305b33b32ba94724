//! The loop that watches a session until its goal is reached, and shows what happens meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pilotfish_plugin::{Level, PeerSource, TorrentHandle};

use super::exit::{ExitCode, Failure};
use super::goal::{Aim, Goal};
use super::known::Known;
use super::load::{self, PluginFile, PluginLine};
use super::progress::{self, Progress, Shown};
use super::screen::Screen;
use super::signals::Signals;
use super::state::StateFile;
use super::text;
use crate::alert::{Alert, AlertKind};
use crate::command::{AddTorrent, TorrentStatus};
use crate::metainfo::{Description, Magnet, Metainfo};
use crate::session::{Alerts, Session};

/// How often figures are asked for and shown.
const FIGURES_EVERY: Duration = Duration::from_secs(1);

/// How often what plugins want to keep is written down, against the day on which the process is killed.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// How long the loop sleeps at most: a signal waits for that long.
const NAP: Duration = Duration::from_millis(100);

/// The same while the last connections end.
const SHORT_NAP: Duration = Duration::from_millis(10);

/// A session, and what is shown of it.
pub(super) struct Watch<'a> {
    session: Session,
    alerts: Alerts,
    pub(super) screen: &'a Screen,
    goal: Goal,
    progress: Box<dyn Progress>,
    shown: BTreeMap<TorrentHandle, Shown>,
    started: Instant,
    kept: Kept,
    /// Links whose metadata has not come yet.
    links: BTreeMap<TorrentHandle, (Magnet, PathBuf)>,
}

/// What is kept from one run to the next.
pub(super) struct Kept {
    pub(super) state: StateFile,
    pub(super) known: Known,
}

impl<'a> Watch<'a> {
    /// Nothing has happened yet in the session.
    pub(super) fn new(session: Session, alerts: Alerts, aim: Aim, screen: &'a Screen, kept: Kept) -> Self {
        Self {
            session,
            alerts,
            screen,
            goal: Goal::new(aim),
            progress: progress::for_screen(screen),
            shown: BTreeMap::new(),
            started: Instant::now(),
            kept,
            links: BTreeMap::new(),
        }
    }

    /// Says what became of the plugins.
    pub(super) fn meet_plugins(&mut self, files: &[PluginFile]) -> Vec<PluginLine> {
        let plugins = load::lines(files, self.session.plugins());
        load::announce(&plugins, self.screen);
        self.progress.hello(&plugins);
        plugins
    }

    /// Adds a torrent whose data is, or will be, in `folder`, and offers it the peers.
    ///
    /// # Errors
    /// The session does not take it.
    pub(super) fn add(
        &mut self,
        folder: &Path,
        description: Description,
        peers: &[SocketAddr],
        web_seeds: &[String],
    ) -> Result<(), Failure> {
        let (layout, hash) = (description.layout(), description.info_hashes().to_string());
        let link =
            if let Description::Magnet(magnet) = &description { Some((**magnet).clone()) } else { None };
        // As with libtorrent's `connect_peer`, the source is left open: nobody told us but the user.
        let peers = peers.iter().map(|peer| (*peer, PeerSource::NONE)).collect();
        let (save_path, web_seeds) = (Some(folder.to_owned()), web_seeds.to_vec());
        let add = AddTorrent { save_path, peers, web_seeds, ..AddTorrent::new(description) };
        let handle = self.session.add_torrent(add).map_err(|error| {
            Failure::new(ExitCode::Other, format!("{}: cannot be added: {error}", layout.name()))
        })?;
        self.show(Shown {
            handle,
            name: layout.name().to_owned(),
            hash,
            total: layout.geometry().total(),
            pieces: layout.geometry().num_pieces(),
            path: link.is_none().then(|| folder.join(layout.name())),
            since: self.started.elapsed(),
        });
        self.links.extend(link.map(|magnet| (handle, (magnet, folder.to_owned()))));
        Ok(())
    }

    /// The metadata of a link has come: it is kept, and what is shown of the torrent is right from now on.
    fn describe(&mut self, handle: TorrentHandle) -> Result<(), Failure> {
        let Some((magnet, folder)) = self.links.remove(&handle) else { return Ok(()) };
        let info = self.session.metadata(handle).map_err(|error| Failure::new(ExitCode::Other, error))?;
        // It is gone, or the session has read what this cannot.
        let Some(metainfo) = info.and_then(|info| Metainfo::from_info(info).ok()) else { return Ok(()) };
        self.kept.known.keep(&magnet, &metainfo, self.screen);
        let geometry = metainfo.layout().geometry();
        if let Some(shown) = self.shown.get_mut(&handle) {
            shown.name = metainfo.name().to_owned();
            (shown.total, shown.pieces) = (geometry.total(), geometry.num_pieces());
            shown.path = Some(folder.join(metainfo.name()));
            self.goal.describe(handle, &shown.name, shown.total);
            self.progress.described(shown);
        }
        Ok(())
    }

    /// Shows the session until it is over: how it ended, or the signal that ended it.
    ///
    /// # Errors
    /// It ended without what was asked for.
    pub(super) fn until_over(&mut self, signals: &Signals) -> Result<ExitCode, Failure> {
        let mut next_figures = Instant::now() + FIGURES_EVERY;
        let mut next_keep = Instant::now() + KEEP_EVERY;
        loop {
            if let Some(code) = signals.received() {
                self.screen.say(Level::Info, "stopping; a second signal stops at once");
                return Ok(code);
            }
            if self.goal.reached(self.started.elapsed())? {
                return Ok(ExitCode::Done);
            }
            let lingers = self.goal.lingers();
            if let Some(alert) = self.alerts.recv_timeout(if lingers { SHORT_NAP } else { NAP }) {
                self.hear(&alert)?;
            }
            if lingers {
                self.statuses()?;
            }
            if Instant::now() >= next_figures {
                next_figures = Instant::now() + FIGURES_EVERY;
                self.figures()?;
            }
            if Instant::now() >= next_keep {
                next_keep = Instant::now() + KEEP_EVERY;
                self.keep_state();
            }
        }
    }

    /// Writes down what plugins want to keep. Where the session has ended already, they were not asked in time.
    fn keep_state(&mut self) {
        if let Ok(states) = self.session.save_state() {
            self.kept.state.save(states, self.screen);
        }
    }

    fn hear(&mut self, alert: &Alert) -> Result<(), Failure> {
        let handle = alert.kind.torrent();
        if let (AlertKind::AddTorrent { error, .. }, Some(handle)) = (&alert.kind, handle)
            && error.is_empty()
        {
            self.meet(handle)?;
        }
        self.tell(alert);
        self.goal.hear(&alert.kind);
        match (&alert.kind, handle) {
            (AlertKind::MetadataReceived { .. }, Some(handle)) => self.describe(handle)?,
            (AlertKind::TorrentRemoved { .. }, Some(handle)) => drop(self.shown.remove(&handle)),
            (AlertKind::TorrentFinished { .. } | AlertKind::TorrentChecked { .. }, Some(handle)) => {
                if let Some(status) = self.status(handle)? {
                    self.look(handle, &status)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn tell(&mut self, alert: &Alert) {
        self.screen.alert(&alert.kind);
        let torrent = alert.kind.torrent().and_then(|handle| self.shown.get(&handle));
        self.progress.alert(alert, torrent);
    }

    /// Shows a torrent that a plugin added.
    fn meet(&mut self, handle: TorrentHandle) -> Result<(), Failure> {
        if self.shown.contains_key(&handle) {
            return Ok(());
        }
        if let Some(status) = self.status(handle)? {
            self.show(Shown {
                handle,
                name: status.name,
                hash: status.info_hashes.to_string(),
                total: status.total,
                pieces: status.total_pieces,
                path: None,
                since: self.started.elapsed(),
            });
        }
        Ok(())
    }

    fn show(&mut self, torrent: Shown) {
        if self.shown.contains_key(&torrent.handle) {
            return;
        }
        self.goal.add(torrent.handle, &torrent.name, torrent.total);
        self.progress.added(&torrent);
        self.shown.insert(torrent.handle, torrent);
    }

    /// How all torrents stand.
    fn statuses(&mut self) -> Result<Vec<(TorrentHandle, TorrentStatus)>, Failure> {
        let mut figures = Vec::new();
        for handle in self.shown.keys().copied().collect::<Vec<_>>() {
            if let Some(status) = self.status(handle)? {
                self.look(handle, &status)?;
                figures.push((handle, status));
            }
        }
        Ok(figures)
    }

    fn figures(&mut self) -> Result<(), Failure> {
        let figures = self.statuses()?;
        let torrents: Vec<(&Shown, TorrentStatus)> = figures
            .into_iter()
            .filter_map(|(handle, status)| Some((self.shown.get(&handle)?, status)))
            .collect();
        self.progress.figures(&torrents, self.started.elapsed());
        Ok(())
    }

    fn look(&mut self, handle: TorrentHandle, status: &TorrentStatus) -> Result<(), Failure> {
        let finished = self.goal.look(handle, status)?;
        if let Some(torrent) = self.shown.get(&handle).filter(|_| finished) {
            self.progress.finished(torrent, status, self.started.elapsed());
        }
        Ok(())
    }

    fn status(&self, handle: TorrentHandle) -> Result<Option<TorrentStatus>, Failure> {
        self.session.status(handle).map_err(|error| Failure::new(ExitCode::Other, error))
    }

    /// Closes everything, and tells what plugins and peers still had to say.
    pub(super) fn end(mut self) {
        self.keep_state();
        self.session.shutdown();
        if let Some(turns) = self.session.turns() {
            self.screen.say(Level::Info, text::turns(&turns));
            self.progress.turns(&turns);
        }
        while let Some(alert) = self.alerts.recv_timeout(Duration::ZERO) {
            self.tell(&alert);
        }
        self.progress.over();
    }
}
