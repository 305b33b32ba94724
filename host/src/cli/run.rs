//! `download`, `seed` and `run`: what kind of session each of them is.

use std::fs;
use std::path::{Path, PathBuf};

use pilotfish_plugin::{AlertCategory, Level, PeerSource};

use super::args::{Common, Download, ExitWhen, Run, Seed, Session as Options};
use super::exit::{ExitCode, Failure};
use super::goal::{Aim, SeedUntil, Until};
use super::ip_filter;
use super::load;
use super::records::{Kept, Records};
use super::screen::Screen;
use super::select::Selection;
use super::signals::Signals;
use super::state::StateFile;
use super::torrent_file;
use super::watch::{Wanted, Watch};
use crate::command::AddTorrent;
use crate::metainfo::Description;
use crate::session::{Session, SessionParams};
use crate::settings::{ListenInterfaces, Settings};
use crate::torrent::selection;

/// A session as the three commands want it.
struct Plan<'a> {
    torrents: &'a [PathBuf],
    folder: &'a Path,
    options: &'a Options,
    web_seeds: &'a [String],
    until: Until,
    select: Option<&'a Selection>,
    seed: SeedUntil,
    /// `seed`: the data must be there.
    complete: bool,
    /// `seed --super`.
    super_seeding: bool,
    /// `download`: the metadata of a link may be known from an earlier time. Else the session does as it is told.
    remembers: bool,
    /// The port if neither `--listen` nor `--set listen_interfaces` says otherwise; `None` leaves it to the settings.
    port: Option<u16>,
}

/// # Errors
/// Not every torrent was finished, and why.
pub(super) fn download(
    args: &Download,
    common: &Common,
    screen: &Screen,
    signals: &Signals,
) -> Result<ExitCode, Failure> {
    let plan = Plan {
        torrents: &args.torrents,
        folder: &args.output,
        options: &args.session,
        web_seeds: &args.web_seeds.urls,
        until: Until::Finished,
        select: args.select.as_ref(),
        seed: SeedUntil { ratio: args.seed_ratio, time: args.seed_time },
        complete: false,
        super_seeding: false,
        remembers: true,
        // Several downloads at a time must not compete for one port.
        port: Some(0),
    };
    carry_out(&plan, common, screen, signals)
}

/// # Errors
/// Something is not there to be seeded, or nobody could ever ask for it.
pub(super) fn seed(
    args: &Seed,
    common: &Common,
    screen: &Screen,
    signals: &Signals,
) -> Result<ExitCode, Failure> {
    let plan = Plan {
        torrents: &args.torrents,
        folder: &args.data,
        options: &args.session,
        web_seeds: &[],
        until: Until::Never,
        select: None,
        seed: SeedUntil::default(),
        complete: true,
        super_seeding: args.super_seeding,
        remembers: false,
        port: None,
    };
    carry_out(&plan, common, screen, signals)
}

/// # Errors
/// The session could not go on as told.
pub(super) fn run(
    args: &Run,
    common: &Common,
    screen: &Screen,
    signals: &Signals,
) -> Result<ExitCode, Failure> {
    let until = match (args.exit_when, args.session.stop_after) {
        (Some(ExitWhen::Finished), _) => Until::Finished,
        (Some(ExitWhen::Seconds) | None, Some(_)) => Until::Elapsed,
        (Some(ExitWhen::Never) | None, _) => Until::Never,
        (Some(ExitWhen::Seconds), None) => {
            let text = "--exit-when seconds needs --stop-after, which says how many";
            return Err(Failure::new(ExitCode::Usage, text));
        }
    };
    let plan = Plan {
        torrents: &args.torrents,
        folder: &args.output,
        options: &args.session,
        web_seeds: &args.web_seeds.urls,
        until,
        select: None,
        seed: SeedUntil::default(),
        complete: false,
        super_seeding: false,
        remembers: false,
        port: None,
    };
    carry_out(&plan, common, screen, signals)
}

fn carry_out(
    plan: &Plan<'_>,
    common: &Common,
    screen: &Screen,
    signals: &Signals,
) -> Result<ExitCode, Failure> {
    // Whatever is wrong with the arguments is found before anything is started.
    let settings = settings(plan, common)?;
    let ip_filter = ip_filter::read(&plan.options.ip_filter)?;
    if plan.select.is_some() && plan.torrents.len() > 1 {
        let text = "--select counts the files of a single torrent: download the others on their own";
        return Err(Failure::new(ExitCode::Usage, text));
    }
    let records = Records::of(common, screen);
    let open = |torrent: &PathBuf| match plan.complete {
        true => torrent_file::read(torrent).map(Description::from),
        false => torrent_file::open(torrent),
    };
    let torrents = plan.torrents.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let torrents = torrents.into_iter().map(|torrent| ask(plan, torrent, &records));
    let torrents = torrents.collect::<Result<Vec<_>, _>>()?;
    let files = load::load_all(common, screen)?;
    load::require(&load::lines(&files, &[]))?;
    let aim = Aim {
        until: plan.until,
        deadline: plan.options.stop_after,
        seed: plan.seed,
        complete: plan.complete,
        addresses: settings.listen_interfaces.0.len(),
        has_peers: torrents.iter().any(has_peers),
    };
    let mut state = StateFile::of(common);
    let params = SessionParams {
        settings,
        plugins: load::specs(&files, &common.plugin_set)?,
        extensions: load::default_extensions(common),
        ip_filter,
        saved_state: state.load(screen),
        measure_turns: plan.options.turns,
    };
    if !plan.complete {
        make_folder(plan.folder)?;
    }
    let (session, alerts) = Session::start(params)
        .map_err(|error| Failure::new(ExitCode::Other, format!("the session did not start: {error}")))?;
    let mut watch = Watch::new(session, alerts, aim, screen, state, records.clone());
    let result = begin(&mut watch, plan, torrents, &files, &records).and_then(|()| watch.until_over(signals));
    watch.end();
    result
}

/// Whether a torrent says whom to connect to, or whom to ask for that.
fn names_sources(torrent: &Description) -> bool {
    let named = match torrent {
        Description::Magnet(magnet) => !magnet.peers.is_empty(),
        Description::Metainfo(metainfo) => {
            !metainfo.web_seeds().is_empty() || !metainfo.http_seeds().is_empty()
        }
    };
    named || !torrent.trackers().is_empty()
}

/// What the session is asked to add: the torrent, with whatever is known of it from an earlier run.
///
/// # Errors
/// Files are selected that it does not have.
fn ask(plan: &Plan<'_>, torrent: Description, records: &Records) -> Result<Asked, Failure> {
    // A record must mean the same folder wherever the next run is started.
    let folder = std::path::absolute(plan.folder).unwrap_or_else(|_| plan.folder.to_owned());
    // As with libtorrent's `connect_peer`, the source is left open: nobody told us but the user.
    let mut peers: Vec<_> = plan.options.peers.iter().map(|peer| (*peer, PeerSource::NONE)).collect();
    let link = if let Description::Magnet(magnet) = &torrent { Some((**magnet).clone()) } else { None };
    let kept = records.load(torrent.info_hashes(), &folder);
    let (mut torrent, resume) = match kept {
        Some(Kept::Here(resume)) => (resume.describe(torrent), Some(resume)),
        Some(Kept::Elsewhere(resume)) if plan.remembers => (resume.describe(torrent), None),
        _ => (torrent, None),
    };
    let mut file_priorities = Vec::new();
    match &mut torrent {
        // The session sees to the peers of a link that is still one.
        Description::Magnet(magnet) => {
            magnet.select_only = plan.select.map_or_else(|| magnet.select_only.clone(), Selection::indices);
        }
        Description::Metainfo(metainfo) => {
            let link = link.iter();
            peers.extend(link.clone().flat_map(|link| &link.peers).map(|peer| (*peer, PeerSource::NONE)));
            file_priorities = match plan.select {
                Some(select) => select.priorities(metainfo.layout())?,
                None => {
                    link.flat_map(|link| selection::of_files(metainfo.layout(), &link.select_only)).collect()
                }
            };
        }
    }
    let resume = resume.map(|resume| if plan.options.recheck { resume.without_pieces() } else { *resume });
    let known = resume.iter().flat_map(|resume| &resume.peers);
    peers.extend(known.map(|peer| (*peer, PeerSource::RESUME_DATA)));
    let mut web_seeds = plan.web_seeds.to_vec();
    web_seeds.extend(resume.iter().flat_map(|resume| resume.web_seeds.clone()));
    let add = AddTorrent {
        save_path: Some(folder),
        peers,
        web_seeds,
        super_seeding: plan.super_seeding,
        file_priorities,
        resume: resume.map(Box::new),
        ..AddTorrent::new(torrent)
    };
    Ok(Asked { add, of_link: link.is_some() })
}

/// What the session is asked to add.
struct Asked {
    add: AddTorrent,
    of_link: bool,
}

/// Whether there is anybody to connect to.
fn has_peers(Asked { add, .. }: &Asked) -> bool {
    !add.peers.is_empty() || !add.web_seeds.is_empty() || names_sources(&add.description)
}

fn begin(
    watch: &mut Watch<'_>,
    plan: &Plan<'_>,
    torrents: Vec<Asked>,
    files: &[load::PluginFile],
    records: &Records,
) -> Result<(), Failure> {
    load::require(&watch.meet_plugins(files))?;
    let has_peers = torrents.iter().any(has_peers);
    watch.enter_dht(&plan.options.dht_nodes);
    for Asked { add, of_link } in torrents {
        if let Some(resume) = &add.resume {
            records.open(resume);
        }
        watch.add(add, plan.folder, Wanted { select: plan.select, of_link })?;
    }
    if plan.until == Until::Finished && !has_peers {
        watch
            .screen
            .say(Level::Info, "no --peer was named: looking for peers, and waiting for some to connect");
    }
    Ok(())
}

/// The engine's settings: the command's own, then `--set`, then the options with a name of their own.
fn settings(plan: &Plan<'_>, common: &Common) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    if let Some(port) = plan.port {
        settings.listen_interfaces = ListenInterfaces::any(port);
    }
    settings.save_path = plan.folder.to_owned();
    settings.alert_mask = AlertCategory::NONE;
    for set in &common.set {
        settings
            .set(&set.name, &set.value)
            .map_err(|error| Failure::new(ExitCode::Usage, format!("--set: {error}")))?;
    }
    if !plan.options.listen.is_empty() {
        settings.listen_interfaces = ListenInterfaces(plan.options.listen.clone());
    }
    settings.download_rate_limit = plan.options.download_limit.unwrap_or(settings.download_rate_limit);
    settings.upload_rate_limit = plan.options.upload_limit.unwrap_or(settings.upload_rate_limit);
    settings.alert_mask = settings.alert_mask | wanted_alerts(common);
    Ok(settings)
}

/// What the goal and the screen need to hear.
fn wanted_alerts(common: &Common) -> AlertCategory {
    let floods = AlertCategory::BLOCK_PROGRESS
        | AlertCategory::UPLOAD
        | AlertCategory::PEER_LOG
        | AlertCategory::INCOMING_REQUEST;
    match (common.verbose, common.json) {
        (2.., _) => AlertCategory::ALL,
        (1, _) | (_, true) => AlertCategory(AlertCategory::ALL.0 & !floods.0),
        _ => {
            AlertCategory::ERROR | AlertCategory::STATUS | AlertCategory::STORAGE | AlertCategory::SESSION_LOG
        }
    }
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| {
        Failure::new(ExitCode::Disk, format!("{}: the folder cannot be made: {error}", folder.display()))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plan(options: &Options) -> Plan<'_> {
        let folder = Path::new("/data");
        Plan {
            torrents: &[],
            folder,
            options,
            web_seeds: &[],
            until: Until::Finished,
            select: None,
            seed: SeedUntil::default(),
            complete: false,
            super_seeding: false,
            remembers: true,
            port: Some(0),
        }
    }

    #[test]
    fn listen_stands_above_set_and_set_above_the_commands_own() {
        let set = |text: &str| Common { set: vec![text.parse().unwrap()], ..Common::default() };
        let none = Options::default();
        let here = Options { listen: vec!["127.0.0.1:7".parse().unwrap()], ..Options::default() };
        let listening = |options, common: &Common| {
            settings(&plan(options), common).unwrap().listen_interfaces.to_string()
        };
        assert_eq!(listening(&none, &Common::default()), "0.0.0.0:0,[::]:0");
        assert_eq!(listening(&none, &set("listen_interfaces=1.2.3.4:5")), "1.2.3.4:5");
        assert_eq!(listening(&here, &set("listen_interfaces=1.2.3.4:5")), "127.0.0.1:7");
    }

    #[test]
    fn limits_on_the_command_line_stand_above_set() {
        let options = Options { upload_limit: Some(7), ..Options::default() };
        let set = ["upload_rate_limit=1", "download_rate_limit=2"].map(|text| text.parse().unwrap());
        let common = Common { set: set.into(), ..Common::default() };
        let settings = settings(&plan(&options), &common).unwrap();
        assert_eq!((settings.upload_rate_limit, settings.download_rate_limit), (7, 2));
    }

    #[test]
    fn a_setting_that_does_not_exist_is_a_mistake_of_the_command_line() {
        let common = Common { set: vec!["min_reconect_time=1".parse().unwrap()], ..Common::default() };
        let failure = settings(&plan(&Options::default()), &common).unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        assert!(failure.to_string().contains("did you mean min_reconnect_time?"), "{failure}");
    }

    #[test]
    fn floods_of_alerts_are_only_asked_for_twice_verbosely() {
        let wanted = |verbose, json| wanted_alerts(&Common { verbose, json, ..Common::default() });
        let needed = AlertCategory::ERROR | AlertCategory::STATUS;
        assert!(
            [wanted(0, false), wanted(0, true), wanted(1, false)].iter().all(|mask| mask.contains(needed))
        );
        assert!(!wanted(1, true).intersects(AlertCategory::UPLOAD | AlertCategory::BLOCK_PROGRESS));
        assert_eq!(wanted(2, false), AlertCategory::ALL);
    }
}
