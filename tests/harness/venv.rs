//! libtorrent's Python package, in an environment of its own under the target directory.
#![allow(
    clippy::unwrap_used,
    reason = "what cannot be prepared fails the test, and that is all there is to do"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::program::target_dir;

/// What is tested against: one version, so that everybody tests against the same libtorrent.
pub const VERSION: &str = "2.0.11";

/// The Python that has libtorrent. It is installed when it is first asked for, and kept for later runs.
///
/// # Panics
/// It cannot be installed: there is no Python, or no way to the package registry. The message says what to do.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| prepare(&target_dir().join("interop-venv"), VERSION))
}

/// The Python that has this version of libtorrent. As [`python`], but looked for every time.
///
/// # Panics
/// As [`python`].
pub fn python_with(version: &str) -> PathBuf {
    if version == VERSION {
        return python().to_owned();
    }
    prepare(&target_dir().join(format!("interop-venv-{version}")), version)
}

fn prepare(environment: &Path, version: &str) -> PathBuf {
    let python = environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    // Tests run in several processes. The lock is let go with the file, however this ends.
    let lock = File::create(environment.with_file_name(format!("interop-venv-{version}.lock"))).unwrap();
    lock.lock().unwrap();
    if has_libtorrent(&python, version) {
        return python;
    }
    // Left behind half made, or by a Python that is gone.
    if environment.exists() {
        fs::remove_dir_all(environment).unwrap();
    }
    let system = if cfg!(windows) { "python" } else { "python3" };
    must(
        Command::new(system).args(["-m", "venv"]).arg(environment),
        version,
        "install Python 3 with its module venv (Debian: apt-get install python3-venv)",
    );
    let package = format!("libtorrent=={version}");
    must(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
            .args(["--only-binary=:all:", &package]),
        version,
        "let pip reach a registry of Python packages that has this one for your Python and system",
    );
    assert!(
        has_libtorrent(&python, version),
        "{package} was installed, but cannot be imported by {}",
        python.display()
    );
    python
}

/// Asked of Python itself: a file that says so would outlive an upgrade of Python, which the package does not.
fn has_libtorrent(python: &Path, version: &str) -> bool {
    let print = "import libtorrent; print(libtorrent.version)";
    let output = Command::new(python).args(["-c", print]).stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.stdout.starts_with(version.as_bytes()))
}

/// Runs `command`, or fails with what it printed and with the mend.
fn must(command: &mut Command, version: &str, mend: &str) {
    let said = match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return,
        Ok(output) => {
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
        }
        Err(error) => error.to_string(),
    };
    panic!("libtorrent {version} for Python is needed, and {command:?} failed: to mend it, {mend}\n{said}");
}
