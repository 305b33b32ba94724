//! rqbit, built from the package registry.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pilotfish_tests::bench::Payload;
use pilotfish_tests::program::target_dir;

/// One version, so that everybody measures against the same one.
pub(crate) const VERSION: &str = "9.1.0";

/// The program. It is built when it is first asked for, and kept for later runs.
///
/// # Panics
/// It cannot be built. The message says what to do.
pub(crate) fn program() -> PathBuf {
    let root = target_dir().join("tools/rqbit");
    let program = root.join("bin").join(format!("rqbit{}", std::env::consts::EXE_SUFFIX));
    if says_its_version(&program) {
        return program;
    }
    eprintln!("rqbit {VERSION} is being built, to be measured against: that takes some minutes, this once");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["install", &format!("rqbit@{VERSION}"), "--locked", "--force", "--root"]).arg(&root);
    let built = cargo.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(
        built.as_ref().is_ok_and(|status| status.success()) && says_its_version(&program),
        "rqbit {VERSION} is needed, and {cargo:?} failed ({built:?}): to mend it, let cargo reach a registry that has rqbit, or \
         install it as {}",
        program.display()
    );
    program
}

fn says_its_version(program: &Path) -> bool {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION))
}

/// rqbit for one torrent of peers that it is told: TCP between addresses of this machine, and nothing else.
pub(crate) fn command(program: &Path, payload: &Payload, here: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command.args([
        "--single-thread-runtime",
        "--ipv4-only",
        "--disable-dht",
        "--disable-lsd",
        "--disable-trackers",
    ]);
    command.args(["--disable-upnp-port-forward", "--http-api-listen-addr", "127.0.0.1:0"]);
    command.args(["--listen-ip", &here.ip().to_string(), "--listen-port", &here.port().to_string()]);
    let home = payload.scratch();
    command.envs(["HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"].map(|name| (name, &home)));
    command.env("NO_COLOR", "1");
    command
}

/// Whether a line of its log says that everything is there.
pub(crate) fn is_finished(line: &str) -> Option<()> {
    line.contains("torrent finished downloading").then_some(())
}
