//! The two ends of a connection: the program, and libtorrent.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pilotfish_tests::{program, venv};

use crate::data::{Data, MIB};
use crate::process::Process;

/// A free port on this machine.
pub(crate) const LISTEN: &str = "127.0.0.1:0";

/// How long a test may take before it has failed. Much longer than it takes: machines may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(100);

/// `pilotfish` with `command`, printing JSON, and loading no plugins but those that are named.
pub(crate) fn pilotfish(command: &str) -> Command {
    let mut program = Command::new(program::pilotfish());
    program.args([command, "--json", "--no-state"]);
    // Plugins of whoever runs the tests are none of our business.
    program.env_remove("PILOTFISH_PLUGIN_PATH").env("XDG_DATA_HOME", program::target_dir());
    program
}

/// `pilotfish download` of all torrents, listening on `listen`.
pub(crate) fn downloading(data: &Data, listen: &str) -> Command {
    let mut program = pilotfish("download");
    program.args(&data.torrents).arg("--output").arg(data.arrived()).args(["--listen", listen]);
    program
}

/// `pilotfish download` of all torrents from these peers.
pub(crate) fn download(data: &Data, peers: &[&str]) -> Command {
    // Without an address it would listen for the whole world.
    let mut program = downloading(data, listen_beside(peers));
    for peer in peers {
        program.args(["--peer", peer]);
    }
    program
}

/// `pilotfish seed` of all torrents, listening on `listen`.
pub(crate) fn seeding(data: &Data, listen: &str) -> Command {
    let mut program = pilotfish("seed");
    program.args(&data.torrents).arg("--data").arg(data.complete()).args(["--listen", listen]);
    program
}

/// `pilotfish seed`, listening on `listen`; returned with its address once everything can be had from it.
pub(crate) fn seed(data: &Data, listen: &str) -> (Process, String) {
    seed_with(data, listen, |program| program)
}

/// The same, with more of a command line, or of an environment.
pub(crate) fn seed_with(
    data: &Data,
    listen: &str,
    more: impl FnOnce(&mut Command) -> &mut Command,
) -> (Process, String) {
    let mut program = Process::start(more(&mut seeding(data, listen)), LIMIT);
    let address = address(&mut program);
    for _ in &data.torrents {
        program.wait_for("checked data", |line| line.event("finished"));
    }
    (program, address)
}

/// Gives a program settings, each as `NAME=VALUE`: libtorrent's values are JSON.
pub(crate) fn set<'a>(command: &'a mut Command, settings: &[&str]) -> &'a mut Command {
    settings.iter().fold(command, |command, setting| command.args(["--set", setting]))
}

/// Where a program says that it listens.
#[track_caller]
pub(crate) fn address(process: &mut Process) -> String {
    process.wait_for("its address", |line| {
        let event = line.alert("listen_succeeded").or_else(|| line.event("listening"))?;
        Some(event["address"].as_str()?.to_owned())
    })
}

/// Starts `command`; whatever is waited for of it must come within the time that a test has for this many bytes.
pub(crate) fn start(command: &mut Command, size: u64) -> Process {
    Process::start(command, LIMIT + Duration::from_secs(size / (4 * MIB)))
}

/// From now on, nobody is told more of the torrents than their links.
pub(crate) fn name_by_links(data: &mut Data) {
    for torrent in &mut data.torrents {
        let output =
            Command::new(program::pilotfish()).arg("show").arg(&torrent).arg("--json").output().unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        *torrent = PathBuf::from(shown["magnet"].as_str().unwrap());
    }
}

/// libtorrent, which has the data in `folder`.
pub(crate) struct Seed {
    _process: Process,
    /// Where it listens.
    pub(crate) address: String,
    /// How many pieces it has of each torrent.
    pub(crate) pieces: Vec<u64>,
}

impl Seed {
    /// libtorrent with all data of a test, on IPv4.
    pub(crate) fn of(data: &Data) -> Self {
        Self::start(data, &data.complete(), "127.0.0.1:0", None)
    }

    /// libtorrent with what there is in `folder`, once it knows what that is. `rate` limits what it sends of each torrent,
    /// in bytes per second.
    pub(crate) fn start(data: &Data, folder: &Path, listen: &str, rate: Option<u64>) -> Self {
        let mut command = libtorrent("seed", data, folder, listen);
        command.args(["--upload-limit", &rate.unwrap_or(0).to_string()]);
        let mut process = start(&mut command, 0);
        let address = address(&mut process);
        let checked = |_| process.wait_for("checked data", |line| line.event("checked")?["pieces"].as_u64());
        let pieces = data.torrents.iter().map(checked).collect();
        Self { _process: process, address, pieces }
    }
}

/// A node of libtorrent's DHT without torrents, and its address.
pub(crate) fn dht_node() -> (Process, String) {
    let data = Data::new();
    let mut process =
        start(libtorrent("node", &data, &data.arrived(), "127.0.0.1:0").args(["--dht-node", ""]), 0);
    let address = address(&mut process);
    (process, address)
}

/// libtorrent, which knows the seed at `seed`, has nothing itself, and receives so little per second that it stays so;
/// returned with its address.
pub(crate) fn poor(data: &Data, seed: &str, rate: u64) -> (Process, String) {
    let mut command = libtorrent("leech", data, &data.path("poor"), LISTEN);
    let mut process = start(command.args(["--peer", seed, "--download-limit", &rate.to_string()]), 0);
    let address = address(&mut process);
    (process, address)
}

/// libtorrent, which downloads everything from `peer`.
pub(crate) fn leech(data: &Data, peer: &str, size: u64) -> Process {
    let mut command = libtorrent("leech", data, &data.arrived(), listen_beside(&[peer]));
    start(command.args(["--peer", peer]), size)
}

/// libtorrent, on torrents whose data is, or is to be, in `folder`.
pub(crate) fn libtorrent(role: &str, data: &Data, folder: &Path, listen: &str) -> Command {
    let mut command = Command::new(venv::python());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/interop/peer.py")).arg(role).args(&data.torrents);
    command.arg("--dir").arg(folder).args(["--listen", listen, "--limit", "1200"]);
    // Names of files are UTF-8, whatever the user's language.
    command.env("PYTHONUTF8", "1");
    command
}

/// A free port on the loopback address of the family of `peers`.
fn listen_beside(peers: &[&str]) -> &'static str {
    if peers.iter().any(|peer| peer.starts_with('[')) { "[::1]:0" } else { "127.0.0.1:0" }
}
