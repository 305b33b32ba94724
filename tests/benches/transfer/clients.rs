//! The clients that are measured: how each is told to download, to seed, and to check.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use pilotfish_tests::bench::{Ended, Measured, Payload, Usage};
use pilotfish_tests::program;
use pilotfish_tests::venv;

use super::rqbit;

/// A client, with the settings it is measured with.
pub(crate) enum Client {
    /// Our program, with its default settings.
    Pilotfish,
    /// libtorrent's Python package of this version, tuned for speed.
    Libtorrent { version: &'static str, python: PathBuf },
    /// rqbit, on one thread, which takes half of the CPU of its default.
    Rqbit(PathBuf),
}

/// What a client did: from when, until when, and what it used for that.
pub(crate) struct Done {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) usage: Usage,
}

impl Done {
    /// Of a program that does one thing in its life.
    fn all_of(began: Instant, ended: Instant, life: Ended) -> Self {
        Self { began, ended, usage: life.usage }
    }
}

impl Client {
    /// All of them, ours first. What is not there yet is installed.
    pub(crate) fn all() -> Vec<Self> {
        let libtorrent = |version| Self::Libtorrent { version, python: venv::python_with(version) };
        vec![Self::Pilotfish, libtorrent(venv::VERSION), libtorrent("2.1.1"), Self::Rqbit(rqbit::program())]
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Pilotfish => "pilotfish".to_owned(),
            Self::Libtorrent { version, .. } => format!("libtorrent {version}"),
            Self::Rqbit(_) => format!("rqbit {}", rqbit::VERSION),
        }
    }

    /// Downloads into `output` from `peer`, until everything is in its file.
    pub(crate) fn download(
        &self,
        payload: &Payload,
        output: &Path,
        here: SocketAddr,
        peer: SocketAddr,
    ) -> Done {
        let peer = peer.to_string();
        match self {
            Self::Pilotfish => {
                let mut command = self.run(payload, output, here);
                command.args(["--peer", &peer, "--exit-when", "finished"]);
                let began = Instant::now();
                let life = Measured::start(&mut command).succeed();
                Done::all_of(began, life.at, life)
            }
            Self::Libtorrent { python, .. } => {
                let mut command = libtorrent(python, "download", payload, output, here);
                libtorrent_done(command.arg(peer))
            }
            Self::Rqbit(program) => {
                let mut command = rqbit::command(program, payload, here);
                command.args([
                    "download",
                    "--disable-http-api",
                    "--exit-on-finish",
                    "--initial-peers",
                    &peer,
                ]);
                let began = Instant::now();
                let mut rqbit =
                    Measured::start(command.arg("--output-folder").arg(output).arg(payload.torrent()));
                let (ended, ()) = rqbit.wait_for("the end of the download", rqbit::is_finished);
                Done::all_of(began, ended, rqbit.succeed())
            }
        }
    }

    /// Seeds what is complete, as soon as it can, at `here`.
    pub(crate) fn seed(&self, payload: &Payload, here: SocketAddr) -> Measured {
        let complete = payload.complete();
        match self {
            Self::Pilotfish => {
                Measured::start(self.run(payload, &complete, here).args(["--exit-when", "never"]))
            }
            Self::Libtorrent { python, .. } => {
                Measured::start(&mut libtorrent(python, "seed", payload, &complete, here))
            }
            Self::Rqbit(program) => {
                let mut command = rqbit::command(program, payload, here);
                command.args(["download", "--disable-http-api", "--overwrite", "--output-folder"]);
                Measured::start(command.arg(complete).arg(payload.torrent()))
            }
        }
    }

    /// Checks what is complete. `None`: it can only do that on its way to something else.
    pub(crate) fn check(&self, payload: &Payload, here: SocketAddr) -> Option<Done> {
        match self {
            Self::Pilotfish => {
                let mut command = Command::new(program::pilotfish());
                command.arg("verify").arg(payload.torrent()).arg("--data").arg(payload.complete());
                let began = Instant::now();
                let life = Measured::start(&mut command).succeed();
                Some(Done::all_of(began, life.at, life))
            }
            Self::Libtorrent { python, .. } => {
                let mut command = libtorrent(python, "check", payload, &payload.complete(), here);
                Some(libtorrent_done(&mut command))
            }
            Self::Rqbit(_) => None,
        }
    }

    /// Our program, without the plugins and the memories of whoever measures.
    fn run(&self, payload: &Payload, folder: &Path, here: SocketAddr) -> Command {
        let mut command = Command::new(program::pilotfish());
        let home = payload.scratch();
        command.env_remove("PILOTFISH_PLUGIN_PATH");
        command.envs(["HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"].map(|name| (name, &home)));
        command.arg("run").arg(payload.torrent()).arg("--output").arg(folder);
        command.args(["--listen", &here.to_string()]);
        command
    }
}

/// The Python program beside this file.
fn libtorrent(python: &Path, role: &str, payload: &Payload, folder: &Path, here: SocketAddr) -> Command {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/transfer/tuned_libtorrent.py")).arg(role);
    command.arg(payload.torrent()).arg(folder).arg(here.to_string());
    command
}

/// What it does between `ready` and `done`: that Python starts is not what is measured.
fn libtorrent_done(command: &mut Command) -> Done {
    let mut libtorrent = Measured::start(command);
    libtorrent.wait_for("its start", |line| (line == "ready").then_some(()));
    let before = libtorrent.usage();
    let began = Instant::now();
    libtorrent.tell("go");
    let (ended, ()) = libtorrent.wait_for("its end", |line| (line == "done").then_some(()));
    let after = libtorrent.usage();
    Done { began, ended, usage: Usage { cpu: after.cpu - before.cpu, ..after } }
}
