//! The loop that watches a session until its goal is reached, and shows what happens meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pilotfish_plugin::{Level, TorrentHandle, TorrentState};

use super::exit::{ExitCode, Failure};
use super::goal::{Aim, Goal};
use super::load::{self, PluginFile, PluginLine};
use super::progress::{self, Progress, Shown};
use super::records::{Keeper, Records};
use super::screen::Screen;
use super::select::Selection;
use super::signals::Signals;
use super::state::StateFile;
use super::text;
use crate::alert::{Alert, AlertKind};
use crate::command::{AddTorrent, TorrentStatus};
use crate::metainfo::Metainfo;
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
    state: StateFile,
    keeper: Keeper,
    /// Links whose metadata has not come yet.
    links: BTreeMap<TorrentHandle, Link>,
}

/// A link, until its metadata is known.
struct Link {
    folder: PathBuf,
    select: Option<Selection>,
}

/// Which of a torrent's files are wanted.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// These, if not all are.
    pub(super) select: Option<&'a Selection>,
    /// The torrent was named by a link, and its metadata is nowhere else.
    pub(super) of_link: bool,
}

impl<'a> Watch<'a> {
    /// Nothing has happened yet in the session.
    pub(super) fn new(
        session: Session,
        alerts: Alerts,
        aim: Aim,
        screen: &'a Screen,
        state: StateFile,
        records: Records,
    ) -> Self {
        Self {
            keeper: Keeper::start(session.clone(), records),
            session,
            alerts,
            screen,
            goal: Goal::new(aim),
            progress: progress::for_screen(screen),
            shown: BTreeMap::new(),
            started: Instant::now(),
            state,
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

    /// Names nodes by which the DHT can be entered.
    pub(super) fn enter_dht(&self, nodes: &[(String, u16)]) {
        nodes.iter().for_each(|(host, port)| self.session.add_dht_node(host, *port));
    }

    /// Adds a torrent whose data is, or will be, in `folder`, of which these files are wanted.
    ///
    /// # Errors
    /// The session does not take it.
    pub(super) fn add(&mut self, add: AddTorrent, folder: &Path, wanted: Wanted<'_>) -> Result<(), Failure> {
        let (layout, info_hashes) = (add.description.layout(), *add.description.info_hashes());
        let is_link = add.description.metainfo().is_none();
        let handle = self.session.add_torrent(add).map_err(|error| {
            Failure::new(ExitCode::Other, format!("{}: cannot be added: {error}", layout.name()))
        })?;
        self.show(Shown {
            handle,
            name: layout.name().to_owned(),
            hash: info_hashes.to_string(),
            total: layout.geometry().total(),
            pieces: layout.geometry().num_pieces(),
            path: (!is_link).then(|| folder.join(layout.name())),
            since: self.started.elapsed(),
        });
        self.keeper.add(handle, info_hashes, wanted.of_link);
        if is_link {
            let link = Link { folder: folder.to_owned(), select: wanted.select.cloned() };
            self.links.insert(handle, link);
        }
        Ok(())
    }

    /// The metadata of a link has come: what is shown of the torrent is right from now on.
    fn describe(&mut self, handle: TorrentHandle) -> Result<(), Failure> {
        let Some(Link { folder, select }) = self.links.remove(&handle) else { return Ok(()) };
        let info = self.session.metadata(handle).map_err(|error| Failure::new(ExitCode::Other, error))?;
        // It is gone, or the session has read what this cannot.
        let Some(metainfo) = info.and_then(|info| Metainfo::from_info(info).ok()) else { return Ok(()) };
        if let Some(select) = select {
            self.session.prioritize_files(handle, select.priorities(metainfo.layout())?);
        }
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
            self.state.save(states, self.screen);
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
            (AlertKind::TorrentRemoved { .. }, Some(handle)) => {
                self.shown.remove(&handle);
                self.keeper.remove(handle);
            }
            (AlertKind::TorrentPaused { .. }, Some(handle)) => self.keeper.note(handle),
            (AlertKind::StateChanged { previous, state: TorrentState::CHECKING_FILES, .. }, Some(handle))
                if *previous != TorrentState::CHECKING_RESUME_DATA =>
            {
                self.keeper.forget(handle);
            }
            (AlertKind::TorrentFinished { .. } | AlertKind::TorrentChecked { .. }, Some(handle)) => {
                self.keeper.note(handle);
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
        self.keeper.end(&self.session);
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
