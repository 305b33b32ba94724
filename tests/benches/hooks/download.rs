//! What plugins cost a whole download, in instructions of the program: a count, which nothing else that runs can disturb.
//!
//! The download runs in a process of its own, under valgrind. Its processor has no instructions for SHA-1 and computes it step by
//! step, so hashing is counted apart, and put in with what it takes on a processor that has them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pilotfish::alert::AlertKind;
use pilotfish::command::AddTorrent;
use pilotfish::metainfo::Metainfo;
use pilotfish::session::{Session, SessionParams};
use pilotfish_plugin::{AlertCategory, PeerSource};
use pilotfish_tests::bench::{
    Measured, Payload, RawSeed, Series, Variant, alternate, from_environment, median, row, title,
};
use pilotfish_tests::busy;

/// What stands first on the command line of the process that downloads.
pub(crate) const ROLE: &str = "leech";
const SEED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// What the crate `sha1` takes for a block of 64 bytes on x86-64 with the SHA extensions: its code has no branch.
const HASHING: f64 = 127.0 / 64.0;
/// Nothing takes so long.
const LIMIT: Duration = Duration::from_secs(280);

/// Instructions for each GiB.
#[derive(Clone, Copy)]
struct Instructions {
    all: f64,
    /// Without hashing.
    rest: f64,
}

/// Downloads with and without ten plugins that override every hook.
pub(crate) fn downloads() {
    let size = from_environment("PILOTFISH_BENCH_COUNTED_SIZE", 128);
    let rounds = from_environment("PILOTFISH_BENCH_COUNTED_ROUNDS", 3);
    assert!(
        Command::new("valgrind").arg("--version").output().is_ok(),
        "this benchmark needs valgrind (Debian: apt-get install valgrind)"
    );
    let payload = Payload::new("payload.bin", size << 20, 1 << 20);
    let variant = |plugins: usize| -> Variant<'_, Instructions> {
        let payload = &payload;
        (format!("{plugins} plugins"), Box::new(move || count(payload, plugins)))
    };
    let series = alternate(rounds, [0, 1, 3, 10].map(variant).into());
    let columns = ["as counted", "but hashing", "with SHA-NI", "plugins", "of with SHA-NI"];
    title(format!("A download of {size} MiB, million instructions a GiB"), &columns);
    let hashing = HASHING * f64::from(1 << 30);
    let bare = middle(&series[0], |one| one.rest);
    for one in &series {
        let rest = middle(one, |one| one.rest);
        let million = |count: f64| format!("{:.0}", count / 1e6);
        let share = format!("{:+.2} %", (rest - bare) * 100.0 / (bare + hashing));
        let cells = [middle(one, |one| one.all), rest, rest + hashing, rest - bare].map(million);
        row(&one.name, &[&cells[..], &[share]].concat());
    }
}

fn middle(series: &Series<Instructions>, of: fn(&Instructions) -> f64) -> f64 {
    median(&series.figures.iter().map(of).collect::<Vec<_>>())
}

fn count(payload: &Payload, plugins: usize) -> Instructions {
    let output = payload.output();
    let counts = payload.scratch().join("counts");
    let seed = RawSeed::start(payload, SEED);
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", counts.display()));
    command.arg(std::env::current_exe().unwrap()).arg(ROLE).arg(payload.torrent()).arg(&output);
    command.args([seed.address.to_string(), plugins.to_string()]);
    Measured::start(&mut command).succeed();
    payload.assert_arrived(&output);
    let mut annotate = Command::new("callgrind_annotate");
    let table =
        annotate.args(["--threshold=100", "--auto=no", "--show-percs=no"]).arg(counts).output().unwrap();
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let sum = |of: &str| table.lines().filter(|line| line.contains(of)).filter_map(instructions).sum::<f64>();
    let (all, hashing) = (sum("PROGRAM TOTALS"), sum("sha1::compress::"));
    assert!(all > hashing && hashing > 0.0, "{annotate:?} does not print what is expected:\n{table}");
    let for_gib = 1024.0 / payload.mebibytes();
    Instructions { all: all * for_gib, rest: (all - hashing) * for_gib }
}

/// The number that a line of the table begins with.
fn instructions(line: &str) -> Option<f64> {
    line.split_whitespace().next()?.replace(',', "").parse().ok()
}

/// The process that downloads: `leech TORRENT FOLDER PEER PLUGINS`.
pub(crate) fn leech(arguments: &[String]) {
    let [torrent, folder, peer, plugins] = arguments else { panic!("{arguments:?}") };
    let metainfo = Metainfo::parse(&std::fs::read(torrent).unwrap()).unwrap();
    let mut params = SessionParams::default();
    params.settings.set("listen_interfaces", "127.0.0.3:0").unwrap();
    params.settings.alert_mask = AlertCategory::STATUS | AlertCategory::ERROR;
    let (session, alerts) = Session::start(params).unwrap();
    for number in 0..plugins.parse::<usize>().unwrap() {
        session.add_extension(busy::source(&format!("busy-{number}"))).unwrap();
    }
    let save_path = Some(Path::new(folder).to_owned());
    let peers = vec![(peer.parse::<SocketAddr>().unwrap(), PeerSource::TRACKER)];
    session.add_torrent(AddTorrent { save_path, peers, ..AddTorrent::new(metainfo) }).unwrap();
    let deadline = Instant::now() + LIMIT;
    let is_finished = |kind: &AlertKind| matches!(kind, AlertKind::TorrentFinished { .. });
    while !alerts.recv_timeout(Duration::from_millis(100)).is_some_and(|alert| is_finished(&alert.kind)) {
        assert!(Instant::now() < deadline, "it is not finished");
    }
    session.shutdown();
}
