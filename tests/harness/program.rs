//! The program and the sample plugins, as cargo builds them for users.
#![allow(clippy::unwrap_used, reason = "what cannot be built fails the test, and that is all there is to do")]

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// What is built. The tests themselves are among it: the features of dependencies are then those that the running test was
/// built with, and nothing of that is built again.
const PACKAGES: [&str; 4] = ["pilotfish", "pilotfish-peer-log", "pilotfish-trace", env!("CARGO_PKG_NAME")];

/// The program `pilotfish`.
///
/// # Panics
/// It cannot be built.
pub fn pilotfish() -> &'static Path {
    artifact("pilotfish")
}

/// The library of a sample plugin, by its package's name.
///
/// # Panics
/// It cannot be built, or there is no such plugin.
pub fn sample_plugin(package: &str) -> &'static Path {
    artifact(package)
}

/// The directory that the running test was built in, which cargo marks.
///
/// # Panics
/// The test's own path is unknown.
pub fn target_dir() -> PathBuf {
    let test = env::current_exe().unwrap();
    let marked = test.ancestors().find(|directory| directory.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| repository().join("target"), Path::to_owned)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn artifact(package: &str) -> &'static Path {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(build);
    built.get(package).unwrap_or_else(|| panic!("{package} is not one of {:?}", built.keys()))
}

/// Builds in the directory and the profile of the running test. Cargo has given up its lock on that directory before it
/// runs a test.
fn build() -> BTreeMap<String, PathBuf> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--message-format=json-render-diagnostics", "--manifest-path"]);
    command.arg(repository().join("Cargo.toml")).arg("--target-dir").arg(target_dir());
    command.args(["--profile", &profile()]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    // Of the running test's package: build scripts that look at these would run again, and all that follows from them.
    let of_the_test = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    env::vars_os().map(|(name, _)| name).filter(of_the_test).for_each(|name| {
        command.env_remove(name);
    });
    command.stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: the program cannot be built:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).lines().filter_map(made).collect()
}

/// The profile that the running test was built in: cargo names a directory after it, `debug` apart.
fn profile() -> String {
    let test = env::current_exe().unwrap();
    let directory = test.ancestors().nth(2).and_then(Path::file_name).unwrap_or_default();
    match directory.to_str() {
        Some("debug") | None => "dev".to_owned(),
        Some(profile) => profile.to_owned(),
    }
}

/// What a message of cargo says was made: the package's name, and the file.
fn made(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = &message["target"];
    let name = target["name"].as_str()?.replace('_', "-");
    if let Some(program) = message["executable"].as_str() {
        return Some((name, program.into()));
    }
    let is_library = target["kind"].as_array()?.iter().any(|kind| kind == "cdylib");
    let mut files = message["filenames"].as_array()?.iter().filter_map(Value::as_str).map(PathBuf::from);
    let library = files.find(|file| file.extension().is_some_and(|end| end == env::consts::DLL_EXTENSION));
    library.filter(|_| is_library).map(|library| (name, library))
}
