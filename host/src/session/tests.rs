mod utp;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use pilotfish_plugin::rt::LINKED_TAKE_PANIC;
use pilotfish_plugin::{PeerSource, TorrentState};

use super::*;
use crate::alert::AlertKind;
use crate::command::AddTorrent;
use crate::metainfo::{CreateOptions, Creator, Metainfo};

/// By then everything has happened, or never will.
const PATIENCE: Duration = Duration::from_secs(30);

fn on_loopback() -> Settings {
    let mut settings = Settings::default();
    settings.set("listen_interfaces", "127.0.0.1:0").unwrap();
    settings.set("alert_mask", "all").unwrap();
    settings
}

/// A session that listens on a port of its own.
fn start() -> (Session, Alerts, SocketAddr) {
    let (session, alerts) = start_with(on_loopback());
    let address = await_alert(&alerts, |alert| match alert {
        AlertKind::ListenSucceeded { address } => Some(*address),
        _ => None,
    });
    (session, alerts, address)
}

fn start_with(settings: Settings) -> (Session, Alerts) {
    Session::start(SessionParams { settings, ..SessionParams::default() }).unwrap()
}

fn await_alert<T>(alerts: &Alerts, mut wanted: impl FnMut(&AlertKind) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while let Some(alert) = alerts.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some(found) = wanted(&alert.kind) {
            return found;
        }
        seen.push(alert.kind.message());
    }
    panic!("the alert did not come, but these: {seen:#?}");
}

/// The extensions that a session with these settings has.
fn extensions(changes: &[(&str, &str)]) -> Vec<String> {
    let mut settings = on_loopback();
    changes.iter().for_each(|(name, value)| settings.set(name, value).unwrap());
    let (session, _alerts) = start_with(settings);
    session.plugins().iter().map(|report| report.id.clone()).collect()
}

#[test]
fn the_built_in_extensions_come_in_libtorrents_order_and_each_has_a_setting_that_takes_it_out() {
    let all = ["ut_pex", "ut_metadata", "smart_ban"];
    assert_eq!(extensions(&[]), all);
    for (i, setting) in ["enable_ut_pex", "enable_ut_metadata", "enable_smart_ban"].into_iter().enumerate() {
        let mut rest = all.to_vec();
        rest.remove(i);
        assert_eq!(extensions(&[(setting, "false")]), rest);
    }
    let none = SessionParams { settings: on_loopback(), extensions: Vec::new(), ..SessionParams::default() };
    let (session, _alerts) = Session::start(none).unwrap();
    assert!(session.plugins().is_empty());
}

#[test]
fn a_program_bans_sees_the_list_and_lifts() {
    let (session, alerts, _) = start();
    let torrent = session.add_torrent(AddTorrent::new(torrent_of(&noise(1_000)))).unwrap();
    let [one, other]: [IpAddr; 2] = ["10.1.2.3", "2001:db8::1"].map(|text| text.parse().unwrap());
    session.ban(None, one, "of no use");
    session.ban(Some(torrent), other, "of less");
    let ban = |address, torrent, reason: &str| Ban {
        address,
        torrent,
        by: "program".to_owned(),
        reason: reason.to_owned(),
    };
    let both = [ban(one, None, "of no use"), ban(other, Some(torrent), "of less")];
    assert_eq!(session.bans().unwrap(), both);
    let reason = await_alert(&alerts, |alert| match alert {
        AlertKind::PeerBan { address, reason, .. } if address.ip() == other => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, "of less");
    session.unban(None, one);
    // It is banned from the torrent, not from the session.
    session.unban(None, other);
    assert_eq!(session.bans().unwrap(), both[1..]);
    session.unban(Some(torrent), other);
    assert_eq!(session.bans().unwrap(), []);
}

/// Data that no compression, and no bug that mixes up blocks, leaves unchanged.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

fn torrent_of(data: &[u8]) -> Metainfo {
    let options = CreateOptions { piece_length: Some(64 << 10), ..CreateOptions::default() };
    let mut creator = Creator::file("data", data.len() as u64, false, options).unwrap();
    creator.update(data).unwrap();
    Metainfo::parse(&creator.finish().unwrap()).unwrap()
}

/// Has `to` download `data` from a seed, and looks at what arrived.
fn transfer(data: &[u8], from: (&Session, &Alerts, SocketAddr), to: (&Session, &Alerts)) {
    let [source, target] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    fs::write(source.path().join("data"), data).unwrap();
    let metainfo = torrent_of(data);
    let mut add = AddTorrent { save_path: Some(source.path().to_owned()), ..AddTorrent::new(metainfo) };
    let seeding = from.0.add_torrent(add.clone()).unwrap();
    await_alert(from.1, |alert| match alert {
        AlertKind::TorrentFinished { torrent, .. } if *torrent == seeding => Some(()),
        _ => None,
    });

    add.save_path = Some(target.path().to_owned());
    let loading = to.0.add_torrent(add).unwrap();
    to.0.connect_peer(loading, from.2, PeerSource::RESUME_DATA);
    await_alert(to.1, |alert| matches!(alert, AlertKind::TorrentFinished { .. }).then_some(()));
    assert!(fs::read(target.path().join("data")).unwrap() == data);
    let status = to.0.status(loading).unwrap().unwrap();
    assert_eq!((status.state, status.total_done), (TorrentState::SEEDING, data.len() as u64));
}

#[test]
fn a_torrent_goes_from_one_session_to_another() {
    let (seed, seed_alerts, address) = start();
    let (leech, leech_alerts, _) = start();
    transfer(&noise(20_000_001), (&seed, &seed_alerts, address), (&leech, &leech_alerts));
    leech.shutdown();
    seed.shutdown();
}

#[test]
fn connections_that_come_and_go_disturb_nobody() {
    let (seed, seed_alerts, address) = start();
    let (leech, leech_alerts, _) = start();
    std::thread::scope(|scope| {
        for kind in 0..3 {
            scope.spawn(move || {
                for _ in 0..100 {
                    let mut stream = TcpStream::connect(address).unwrap();
                    // Where the session closes first, this fails: nobody minds.
                    let _ = match kind {
                        0 => Ok(()),
                        1 => stream.write_all(b"\x13BitTorrent protocol"),
                        _ => stream.write_all(&[0xff; 4096]),
                    };
                }
            });
        }
        transfer(&noise(3_000_000), (&seed, &seed_alerts, address), (&leech, &leech_alerts));
    });
    let plugins = seed.save_state().unwrap().into_iter().filter(|(name, _)| *name != crate::dht::STATE);
    assert_eq!(plugins.count(), 0);
}

#[test]
fn commands_are_carried_out_in_order_and_answered() {
    let (session, _alerts, _) = start();
    let data = noise(100_000);
    let folder = tempfile::tempdir().unwrap();
    let save_path = Some(folder.path().to_owned());
    let torrent = AddTorrent { save_path, paused: true, ..AddTorrent::new(torrent_of(&data)) };
    let added = session.add_torrent(torrent.clone()).unwrap();
    assert_eq!(session.add_torrent(torrent).unwrap(), added);
    assert!(session.status(added).unwrap().unwrap().paused);
    session.resume_torrent(added);
    assert!(!session.status(added).unwrap().unwrap().paused);
    session.remove_torrent(added, false);
    // It is there until its files are closed.
    let deadline = Instant::now() + PATIENCE;
    while session.status(added).unwrap().is_some() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(session.set("connections_limit", "7"), Ok(()));
    assert!(matches!(session.set("connections_limit", "none"), Err(SessionError::Setting(_))));
}

#[test]
fn many_threads_may_ask_at_once() {
    let (session, _alerts, _) = start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let session = session.clone();
            scope.spawn(move || (0..100).for_each(|_| assert!(session.save_state().is_ok())));
        }
    });
}

#[test]
fn an_address_in_use_is_an_alert() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut settings = on_loopback();
    settings.set("listen_interfaces", &address.to_string()).unwrap();
    let (_session, alerts) = start_with(settings);
    let failed = await_alert(&alerts, |alert| match alert {
        AlertKind::ListenFailed { address, .. } => Some(address.clone()),
        _ => None,
    });
    assert_eq!(failed, address.to_string());
}

#[test]
fn settings_out_of_their_limits_are_refused() {
    let settings = Settings { alert_queue_size: 0, ..on_loopback() };
    let refused = Session::start(SessionParams { settings, ..SessionParams::default() });
    assert!(matches!(refused, Err(StartError::Setting(_))));
}

#[test]
fn shutdown_closes_everything() {
    let (session, alerts, address) = start();
    let mut peers: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    let other = session.clone();
    session.shutdown();
    other.shutdown();
    for peer in &mut peers {
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        // Closed or reset, but not left waiting.
        let read = peer.read(&mut [0]);
        assert!(!matches!(&read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{read:?}");
    }
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(other.save_state(), Err(SessionError::Closed));
    while alerts.recv().is_some() {}
    assert!(alerts.is_over());
}

#[test]
fn the_last_handle_ends_the_session() {
    let (session, alerts, _) = start();
    drop(session.clone());
    assert!(!alerts.is_over());
    drop(session);
    while alerts.recv().is_some() {}
    assert!(alerts.is_over());
}

fn linked(name: &str, open: crate::command::OpenPlugin) -> (PluginReport, PluginSource) {
    let report = PluginReport { id: name.into(), version: "1".into(), path: None, outcome: Ok(()) };
    let source = PluginSource { name: name.into(), take_panic: LINKED_TAKE_PANIC, open, saved_state: None };
    (report, source)
}

#[test]
fn a_plugin_that_is_not_opened_is_reported() {
    let (report, source) = linked("sulky", Box::new(|_| Err("not today".into())));
    let (session, _alerts) =
        Session::start_with(on_loopback(), vec![report], vec![source], BTreeMap::new(), None).unwrap();
    let [report] = session.plugins() else { panic!("one report per plugin") };
    assert_eq!((report.id.as_str(), &report.outcome), ("sulky", &Err("not today".into())));
}

#[test]
fn a_panic_at_the_start_is_an_error() {
    let (report, source) = linked("bad", Box::new(|_| panic!("on purpose")));
    let started = Session::start_with(on_loopback(), vec![report], vec![source], BTreeMap::new(), None);
    assert!(matches!(started, Err(StartError::Net(NetError::Panicked))));
}

/// Keeps a number, and says which it was given.
struct Counts(Arc<Mutex<Vec<i64>>>);

#[pilotfish_plugin::hooks]
impl pilotfish_plugin::SessionPlugin for Counts {
    fn load_state(
        &mut self,
        _: &mut pilotfish_plugin::SessionContext<'_>,
        state: pilotfish_plugin::Dict<'_>,
    ) {
        self.0.lock().extend(state.int("runs"));
    }

    fn save_state(
        &mut self,
        _: &mut pilotfish_plugin::SessionContext<'_>,
        mut state: pilotfish_plugin::Entry<'_>,
    ) {
        state.insert_int("runs", self.0.lock().last().copied().unwrap_or(0) + 1);
    }
}

#[test]
fn a_plugin_that_comes_later_finds_what_it_kept_and_nobody_elses_is_lost() {
    let saved = |name: &str, state: &[u8]| (name.to_owned(), state.to_vec());
    let saved_state = vec![saved("absent", b"d1:xi1ee"), saved("counts", b"d4:runsi7ee")];
    let params = SessionParams { settings: on_loopback(), saved_state, ..SessionParams::default() };
    let (session, _alerts) = Session::start(params).unwrap();
    let given = Arc::<Mutex<Vec<i64>>>::default();
    let theirs = given.clone();
    let open = move |_: &mut pilotfish_plugin::SessionContext<'_>| {
        Ok(pilotfish_plugin::SessionBox::new(Counts(theirs)))
    };
    session.add_extension(PluginSource::linked("counts", open)).unwrap();
    assert_eq!(*given.lock(), [7]);
    let kept = session.save_state().unwrap();
    assert_eq!(kept, [saved("absent", b"d1:xi1ee"), saved("counts", b"d4:runsi8ee")]);
}

#[test]
fn a_second_subscriber_hears_what_it_asked_for_and_the_first_misses_nothing() {
    let settings = Settings { alert_mask: AlertCategory::STATUS, ..on_loopback() };
    let (session, alerts) = start_with(settings);
    let states = session.subscribe(AlertCategory::STATUS, 1);
    let pieces = session.subscribe(AlertCategory::PIECE_PROGRESS, 1_000);
    let (folder, data) = (tempfile::tempdir().unwrap(), noise(300_000));
    fs::write(folder.path().join("data"), &data).unwrap();
    let metainfo = torrent_of(&data);
    session
        .add_torrent(AddTorrent { save_path: Some(folder.path().into()), ..AddTorrent::new(metainfo) })
        .unwrap();
    await_alert(&alerts, |alert| matches!(alert, AlertKind::TorrentFinished { .. }).then_some(()));
    drop(states);
    let errors = session.subscribe(AlertCategory::ERROR, 1_000);
    session.shutdown();
    let heard =
        |alerts: &Alerts| std::iter::from_fn(|| alerts.recv()).map(|alert| alert.kind).collect::<Vec<_>>();
    assert!(heard(&alerts).iter().all(|kind| kind.is_for(AlertCategory::STATUS)));
    let pieces = heard(&pieces);
    assert!(pieces.iter().any(|kind| matches!(kind, AlertKind::AddTorrent { .. })), "{pieces:?}");
    assert!(pieces.iter().all(|kind| kind.is_for(AlertCategory::PIECE_PROGRESS)), "{pieces:?}");
    assert!(errors.is_over());
}
