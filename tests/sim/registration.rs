//! How plugins come to a session, and what they hear of it: what they want, what they kept, torrents, time, alerts, slots.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::command::{AddTorrent, Answer, Command, OpenPlugin, PluginSource, Ticket, TorrentExtension};
use pilotfish::settings::Settings;
use pilotfish_plugin::{
    Alert, AlertCategory, CustomAlert, Dict, Entry, Features, PeerHandle, SessionBox, SessionContext,
    SessionPlugin, TorrentBox, TorrentHandle, TorrentPlugin, Userdata, hooks, rt,
};
use pilotfish_tests::sim::{Content, Log, NodeId, Probe, Sim, talkative};

use crate::alone::Alone;

fn content() -> Content {
    Content::random(160, 100_000, 16_384)
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

/// Writes down what happens around its registration, and changes its mind about what it wants.
struct Newcomer {
    log: Log,
    wants: Features,
    hears: AlertCategory,
}

impl Newcomer {
    fn note(&self, text: impl Into<String>) {
        self.log.lock().unwrap().push(text.into());
    }
}

#[hooks]
impl SessionPlugin for Newcomer {
    fn load_state(&mut self, _: &mut SessionContext<'_>, state: Dict<'_>) {
        self.note(format!("load_state {:?}", state.str("key")));
    }

    fn implemented_features(&mut self, _: &mut SessionContext<'_>, _: Features) -> Features {
        self.note("implemented_features");
        self.wants
    }

    fn alert_mask(&mut self, _: &mut SessionContext<'_>) -> AlertCategory {
        self.note("alert_mask");
        self.hears
    }

    fn added(&mut self, _: &mut SessionContext<'_>) {
        self.note("added");
        (self.wants, self.hears) = (Features::TICK | Features::ALERT, AlertCategory::ALL);
    }

    fn on_tick(&mut self, _: &mut SessionContext<'_>) {
        self.note("on_tick");
    }

    fn on_alert(&mut self, _: &mut SessionContext<'_>, alert: Alert<'_>) {
        self.note(alert.what());
    }

    fn new_torrent(
        &mut self,
        _: &mut SessionContext<'_>,
        _: TorrentHandle,
        _: Userdata,
    ) -> Option<TorrentBox> {
        self.note("new_torrent");
        None
    }
}

fn plug(sim: &mut Sim, node: NodeId, wants: Features, hears: AlertCategory) -> Log {
    let log = Log::default();
    let kept = log.clone();
    sim.plug(node, "newcomer", move |_| SessionBox::new(Newcomer { log: kept, wants, hears }));
    log
}

#[test]
fn a_plugin_is_asked_what_it_wants_once_before_it_is_added_and_cannot_change_its_mind() {
    let mut sim = Sim::new(160);
    let node = sim.node();
    let log = plug(&mut sim, node, Features::ALERT, AlertCategory::STORAGE);
    assert_eq!(taken(&log), ["implemented_features", "alert_mask", "added"]);
    sim.add(node, &content());
    sim.run_for(Duration::from_secs(5));
    assert_eq!(taken(&log), ["new_torrent"]);
}

#[test]
fn what_a_plugin_kept_is_the_first_that_it_hears_of() {
    let mut alone = Alone::new(talkative());
    let log = Log::default();
    let kept = log.clone();
    let hears = AlertCategory::NONE;
    let newcomer = Newcomer { log: kept, wants: Features::NONE, hears };
    let open: OpenPlugin = Box::new(move |_| Ok(SessionBox::new(newcomer)));
    let source = PluginSource {
        name: "newcomer".into(),
        take_panic: rt::LINKED_TAKE_PANIC,
        open,
        saved_state: Some(b"d3:key5:valuee".to_vec()),
    };
    alone.engine.add_plugin(source).unwrap();
    assert_eq!(taken(&log), ["load_state Some(\"value\")", "implemented_features", "alert_mask", "added"]);
}

#[test]
fn a_plugin_that_comes_to_a_running_session_hears_of_later_torrents_only() {
    let mut sim = Sim::new(161);
    let node = sim.node();
    sim.add(node, &content());
    sim.run_for(Duration::from_secs(1));
    let log = plug(&mut sim, node, Features::NONE, AlertCategory::NONE);
    sim.run_for(Duration::from_secs(1));
    assert_eq!(taken(&log), ["implemented_features", "alert_mask", "added"]);
    sim.add(node, &Content::random(161, 100_000, 16_384));
    assert_eq!(taken(&log), ["new_torrent"]);
}

/// Keeps one value under the key that everybody uses.
struct Keeper(&'static str);

#[hooks]
impl SessionPlugin for Keeper {
    fn save_state(&mut self, _: &mut SessionContext<'_>, mut state: Entry<'_>) {
        state.insert_bytes("key", self.0.as_bytes());
    }
}

#[test]
fn plugins_that_keep_something_under_the_same_key_do_not_overwrite_each_other() {
    let mut sim = Sim::new(162);
    let node = sim.node_with(Settings { enable_dht: false, ..talkative() });
    for name in ["one", "two"] {
        sim.plug(node, name, move |_| SessionBox::new(Keeper(name)));
    }
    let Answer::State(states) = sim.ask(node, Command::SaveState) else { panic!("no state") };
    let states: BTreeMap<String, Vec<u8>> = states.into_iter().collect();
    let expected = [("one", "d3:key3:onee"), ("two", "d3:key3:twoe")];
    let expected = expected.map(|(name, kept)| (name.to_owned(), kept.as_bytes().to_vec()));
    assert_eq!(states, BTreeMap::from(expected));
}

/// Says that it was made, and when it hears of the check.
struct Made(&'static str, Log);

#[hooks]
impl TorrentPlugin for Made {
    fn on_files_checked(&mut self, _: &mut pilotfish_plugin::TorrentContext<'_>) {
        self.1.lock().unwrap().push(format!("checked {}", self.0));
    }
}

/// A factory of torrent plugins that says whom it made.
fn factory(name: &'static str, log: &Log) -> TorrentExtension {
    let log = log.clone();
    TorrentExtension::new(name, move |_, _, _| {
        log.lock().unwrap().push(format!("make {name}"));
        Some(TorrentBox::new(Made(name, log.clone())))
    })
}

#[test]
fn factories_of_the_torrent_come_first_then_the_sessions_then_who_is_added_and_none_twice() {
    let mut sim = Sim::new(163);
    let (node, log) = (sim.node(), Log::default());
    for name in ["session 1", "session 2"] {
        let log = log.clone();
        sim.plug_on_torrents(node, name, move || {
            log.lock().unwrap().push(format!("make {name}"));
            TorrentBox::new(Made(name, log.clone()))
        });
    }
    let mut asked = AddTorrent::new(content().metainfo);
    asked.extensions = vec![factory("torrent 1", &log), factory("torrent 2", &log)];
    let add = |ticket: Ticket| Command::AddTorrent(ticket, Box::new(asked.clone()));
    let Answer::Added(Ok(torrent)) = sim.ask(node, add) else { panic!("not added") };
    sim.command(node, Command::AddTorrentExtension(torrent, factory("late", &log)));
    let order = ["torrent 1", "torrent 2", "session 1", "session 2", "late"];
    assert_eq!(taken(&log), order.map(|name| format!("make {name}")));
    // There already: nobody is made again.
    let Answer::Added(Ok(same)) = sim.ask(node, add) else { panic!("not added") };
    assert_eq!((same, taken(&log).len()), (torrent, 0));
    sim.run_for(Duration::from_secs(1));
    assert_eq!(taken(&log), order.map(|name| format!("checked {name}")));
}

#[test]
fn the_sessions_tick_goes_on_while_it_is_paused_and_after_abort_until_all_are_done() {
    let mut sim = Sim::new(164);
    let node = sim.node();
    let log = Probe::new().session("abort", |_| false).plug(&mut sim, node);
    let ticks = |log: &Log| taken(log).iter().filter(|line| *line == "session.on_tick").count();
    sim.command(node, Command::PauseSession(true));
    sim.run_for(Duration::from_millis(5_500));
    assert_eq!(ticks(&log), 5);
    sim.command(node, Command::Shutdown);
    sim.run_until(Duration::from_secs(10), |sim| sim.at(node).stopped);
    assert_eq!(sim.now(), Duration::from_millis(7_500));
    let seen = taken(&log);
    let ends: Vec<_> =
        seen.iter().filter(|line| ["session.abort", "session.on_tick"].contains(&line.as_str())).collect();
    assert_eq!(ends, ["session.abort", "session.on_tick", "session.on_tick"]);
}

fn status(session: &pilotfish_plugin::Session<'_>, what: &str, category: AlertCategory) {
    session.post_alert(&CustomAlert {
        kind: 1,
        what,
        category,
        message: "",
        payload: &[],
        torrent: None,
        peer: None,
    });
}

#[test]
fn a_plugin_hears_the_alerts_of_its_own_mask_though_the_program_wants_none_and_has_no_room() {
    let settings = Settings { alert_mask: AlertCategory::NONE, alert_queue_size: 1, ..Settings::default() };
    let mut sim = Sim::new(165);
    let node = sim.node_with(settings);
    let log = plug(&mut sim, node, Features::ALERT, AlertCategory::STATUS);
    taken(&log);
    Probe::new()
        .session("on_tick", |cx| {
            for _ in 0..20 {
                status(&cx.session(), "wanted", AlertCategory::STATUS);
                status(&cx.session(), "unwanted", AlertCategory::DHT);
            }
            false
        })
        .plug(&mut sim, node);
    sim.run_for(Duration::from_millis(1_500));
    assert_eq!(taken(&log), vec!["wanted"; 20]);
}

#[test]
fn an_alert_that_is_posted_about_an_alert_comes_after_it() {
    let mut sim = Sim::new(166);
    let (node, log) = (sim.node(), Log::default());
    let posted = Mutex::new(0);
    Probe::beside(&log, "1 ")
        .session("on_alert", move |cx| {
            let mut posted = posted.lock().unwrap();
            *posted += 1;
            if *posted == 1 {
                for what in ["second", "third"] {
                    status(&cx.session(), what, AlertCategory::STATUS);
                }
            }
            false
        })
        .plug(&mut sim, node);
    Probe::beside(&log, "2 ").plug(&mut sim, node);
    taken(&log);
    let first = Probe::new().session("added", |cx| {
        status(&cx.session(), "first", AlertCategory::STATUS);
        false
    });
    first.plug(&mut sim, node);
    let heard: Vec<String> = taken(&log).into_iter().filter(|line| line.contains("on_alert")).collect();
    let both = |what: &str| [1, 2].map(|plugin| format!("{plugin} session.on_alert {what}"));
    let wanted = ["first", "second", "third"].map(both).concat();
    assert!(heard.starts_with(&wanted), "{heard:?}");
}

/// Gives every peer a priority by the last part of its address.
struct Ranks(fn(u8) -> u64);

#[hooks]
impl SessionPlugin for Ranks {
    fn get_unchoke_priority(&mut self, cx: &mut SessionContext<'_>, peer: PeerHandle) -> u64 {
        cx.peer(peer).and_then(|peer| last_part(peer.remote())).map_or(u64::MAX, self.0)
    }
}

/// A seed with one optimistic slot and nothing else, plugins with these opinions, and four leeches; the last parts of the
/// addresses in the order in which they are unchoked.
fn unchoked(number: u64, opinions: &[fn(u8) -> u64]) -> Vec<u8> {
    let settings = Settings {
        unchoke_slots_limit: 1,
        num_optimistic_unchoke_slots: 1,
        allowed_fast_set_size: 0,
        ..talkative()
    };
    let mut sim = Sim::new(number);
    let seed = sim.node_with(settings);
    for (number, opinion) in opinions.iter().enumerate() {
        let opinion = *opinion;
        sim.plug(seed, &format!("ranks-{number}"), move |_| SessionBox::new(Ranks(opinion)));
    }
    let order = Arc::<Mutex<Vec<u8>>>::default();
    let kept = order.clone();
    Probe::new()
        .peer("sent_unchoke", move |cx| {
            kept.lock().unwrap().extend(last_part(cx.this().remote()));
            false
        })
        .plug(&mut sim, seed);
    let torrent = sim.seed(seed, &content());
    // From now on it calls whoever it is told of at once, in that order.
    sim.run_for(Duration::from_secs(1));
    sim.link.bandwidth = 100;
    let mute = Settings { unchoke_slots_limit: 0, ..talkative() };
    for _ in 0..4 {
        let leech = sim.node_with(mute.clone());
        sim.add(leech, &content());
        sim.introduce(seed, torrent, leech);
    }
    sim.run_for(Duration::from_secs(150));
    let mut order = order.lock().unwrap().clone();
    order.dedup();
    order
}

fn last_part(address: std::net::SocketAddr) -> Option<u8> {
    if let std::net::IpAddr::V4(ip) = address.ip() { Some(ip.octets()[3]) } else { None }
}

#[test]
fn of_peers_that_waited_equally_long_the_lowest_priority_of_all_plugins_is_unchoked_first() {
    // The addresses end in 2, 3, 4, 5, and the first has the slot that was free.
    assert_eq!(unchoked(167, &[])[..4], [2, 3, 4, 5]);
    assert_eq!(unchoked(167, &[|_| u64::MAX])[..4], [2, 3, 4, 5]);
    let [neutral, against, favours]: [fn(u8) -> u64; 3] =
        [|_| u64::MAX, |ip| if ip == 4 { 9 } else { 5 }, |ip| if ip == 4 { 1 } else { 7 }];
    assert_eq!(unchoked(167, &[neutral, against])[1..4], [3, 5, 4]);
    assert_eq!(unchoked(167, &[neutral, against, favours])[1..4], [4, 3, 5]);
    // None has a word before all have waited equally long: nobody has a second turn before everyone had one.
    let mut once = unchoked(167, &[favours])[..4].to_vec();
    once.sort_unstable();
    assert_eq!(once, [2, 3, 4, 5]);
}
