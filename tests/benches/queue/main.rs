//! What it costs to post to a plugin from other threads: messages per second, and the time until one is delivered.
//!
//! `cargo bench -p pilotfish-tests --bench queue`
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot run says so by failing")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, PluginSource};
use pilotfish::session::{Alerts, Session, SessionParams};
use pilotfish_plugin::rt::Overrides;
use pilotfish_plugin::{
    AlertCategory, Mailbox, PeerSource, PostError, Receive, Remote, SessionBox, SessionContext,
    SessionPlugin, TorrentHandle, hooks,
};
use pilotfish_tests::bench::{Variant, alternate, median, row, title};
use pilotfish_tests::sim::Content;

const ROUNDS: usize = 5;
/// Messages in a round.
const MESSAGES: u64 = 4_000_000;
/// What the mailbox holds.
const CAPACITY: usize = 1 << 16;
/// Time between two messages of which the delay is measured.
const PERIOD: Duration = Duration::from_millis(1);
const DELAYS: usize = 1_000;
/// Nothing takes so long.
const LIMIT: Duration = Duration::from_secs(120);

fn main() {
    throughput();
    delay();
}

/// Counts, and tells when all have come.
struct Count {
    left: u64,
    all_came: Sender<()>,
}

#[hooks]
impl SessionPlugin for Count {}

impl Receive<u64> for Count {
    fn on_message(&mut self, _: &mut SessionContext<'_>, _: u64) {
        self.left -= 1;
        if self.left == 0 {
            self.left = MESSAGES;
            let _ = self.all_came.send(());
        }
    }
}

fn throughput() {
    let (session, _alerts, _) = start();
    let (all_came, came) = channel();
    let remote = plug(&session, "count", Count { left: MESSAGES, all_came });
    let variant = |threads: u64| -> Variant<'_> {
        let (remote, came) = (&remote, &came);
        (format!("{threads} posting"), Box::new(move || per_second(remote, came, threads)))
    };
    let series = alternate(ROUNDS, vec![variant(1), variant(4)]);
    title("Messages posted and delivered, million a second", &["median", "best", "to one thread"]);
    for one in &series {
        let best = one.figures.iter().copied().fold(0.0, f64::max);
        let ratio = format!("{:.2}x", one.median() / series[0].median());
        row(&one.name, &[format!("{:.2}", one.median() / 1e6), format!("{:.2}", best / 1e6), ratio]);
    }
    session.shutdown();
}

fn per_second(remote: &Remote<u64>, came: &Receiver<()>, threads: u64) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..MESSAGES / threads).for_each(|message| post(remote, message)));
        }
    });
    came.recv_timeout(LIMIT).unwrap();
    MESSAGES as f64 / start.elapsed().as_secs_f64()
}

fn post<M: Send>(remote: &Remote<M>, mut message: M) {
    while let Err(error) = remote.post(message) {
        let PostError::Full(back) = error else { panic!("the plugin is gone") };
        message = back;
        thread::yield_now();
    }
}

/// Notes how long each message took.
struct Delays(Sender<Duration>);

#[hooks]
impl SessionPlugin for Delays {}

impl Receive<Instant> for Delays {
    fn on_message(&mut self, _: &mut SessionContext<'_>, posted: Instant) {
        let _ = self.0.send(posted.elapsed());
    }
}

fn delay() {
    let content = Content::random(1, 256 << 20, 1 << 20);
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&content, there.path());
    let (seed, seed_alerts, address) = start();
    let (leech, leech_alerts, _) = start();
    let (delays, came) = channel();
    let remote = plug(&leech, "delays", Delays(delays));
    title(
        "Time from post to delivery, µs, at a thousand posts a second",
        &["median", "99 %", "most", "to idle"],
    );
    let idle = print_delays("while idle", None, &remote, &came, || ());

    let torrent =
        AddTorrent { save_path: Some(there.path().into()), ..AddTorrent::new(content.metainfo.clone()) };
    seed.add_torrent(torrent).unwrap();
    wait(&seed_alerts, |alert| matches!(alert, AlertKind::TorrentFinished { .. }));
    let mut downloads = 0;
    let mut torrent = download(&leech, &content, here.path(), address);
    print_delays("while downloading at full speed", Some(idle), &remote, &came, || {
        // The same data again and again.
        if leech.status(torrent).unwrap().is_some_and(|status| status.is_finished()) {
            leech.remove_torrent(torrent, true);
            wait(&leech_alerts, |alert| matches!(alert, AlertKind::TorrentRemoved { .. }));
            torrent = download(&leech, &content, here.path(), address);
            downloads += 1;
        }
    });
    println!("  ({downloads} times {} MiB meanwhile)", content.layout().geometry().total() >> 20);
    leech.shutdown();
    seed.shutdown();
}

/// Posts once a period until enough have come, and has `meanwhile` look after the load. Answers the median.
fn print_delays(
    name: &str,
    idle: Option<f64>,
    remote: &Remote<Instant>,
    came: &Receiver<Duration>,
    mut meanwhile: impl FnMut(),
) -> f64 {
    let poster = {
        let remote = remote.clone();
        thread::spawn(move || {
            for _ in 0..DELAYS {
                post(&remote, Instant::now());
                thread::sleep(PERIOD);
            }
        })
    };
    let mut figures = Vec::new();
    while figures.len() < DELAYS {
        figures
            .extend(came.recv_timeout(Duration::from_millis(20)).map(|delay| delay.as_nanos() as f64 / 1e3));
        if figures.len() % 50 == 0 {
            meanwhile();
        }
    }
    poster.join().unwrap();
    figures.sort_by(f64::total_cmp);
    let median = median(&figures);
    let cells = [median, figures[figures.len() * 99 / 100], figures[figures.len() - 1]];
    let ratio = format!("{:.2}x", median / idle.unwrap_or(median));
    row(name, &[&cells.map(|figure| format!("{figure:.0}"))[..], &[ratio]].concat());
    median
}

fn start() -> (Session, Alerts, SocketAddr) {
    let mut params = SessionParams::default();
    params.settings.set("listen_interfaces", "127.0.0.1:0").unwrap();
    params.settings.alert_mask = AlertCategory::STATUS | AlertCategory::ERROR;
    let (session, alerts) = Session::start(params).unwrap();
    let mut address = None;
    wait(&alerts, |alert| {
        address = if let AlertKind::ListenSucceeded { address } = alert { Some(*address) } else { None };
        address.is_some()
    });
    (session, alerts, address.unwrap())
}

fn wait(alerts: &Alerts, mut until: impl FnMut(&AlertKind) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !alerts.recv_timeout(Duration::from_millis(100)).is_some_and(|alert| until(&alert.kind)) {
        assert!(Instant::now() < deadline, "it never came");
    }
}

fn plug<M, P>(session: &Session, name: &str, plugin: P) -> Remote<M>
where
    M: Send + 'static,
    P: Receive<M> + SessionPlugin + Overrides<dyn SessionPlugin> + Send + 'static,
{
    let (ends, remote) = channel();
    let open = move |cx: &mut SessionContext<'_>| {
        let (mailbox, remote): (Mailbox<M>, _) = cx.mailbox(CAPACITY);
        ends.send(remote).unwrap();
        Ok(SessionBox::with_mailbox(plugin, mailbox))
    };
    session.add_extension(PluginSource::linked(name, open)).unwrap();
    remote.recv().unwrap()
}

fn download(leech: &Session, content: &Content, folder: &Path, seed: SocketAddr) -> TorrentHandle {
    let peers = vec![(seed, PeerSource::TRACKER)];
    let save_path = Some(folder.into());
    leech.add_torrent(AddTorrent { save_path, peers, ..AddTorrent::new(content.metainfo.clone()) }).unwrap()
}

fn write(content: &Content, folder: &Path) {
    for file in content.layout().files() {
        let path = folder.join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let start = file.offset as usize;
        std::fs::write(path, &content.bytes()[start..][..file.length as usize]).unwrap();
    }
}
