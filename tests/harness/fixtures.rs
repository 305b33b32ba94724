//! The plugin libraries that tests load, built as any plugin is: by cargo, as `cdylib`s.
//!
//! They are built once per run of the tests, in a target directory of their own: cargo would wait for itself otherwise. Its
//! lock on that directory is what makes tests in several threads and processes wait for each other; whoever comes second
//! finds everything built. Where each library lies is read from cargo's own messages.
#![allow(
    clippy::unwrap_used,
    reason = "a fixture that cannot be built fails the test, and that is all there is to do"
)]

mod skew;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The packages of the workspace that are libraries to load: those in `tests/fixtures`, and samples.
const PLAIN: [&str; 9] = [
    "fixture-greedy",
    "fixture-panicker",
    "fixture-silent",
    "fixture-smart-ban",
    "fixture-ut-metadata",
    "fixture-ut-pex",
    "fixture-versioned",
    "pilotfish-aes-ctr",
    "pilotfish-chat",
];

/// The library of a plugin, by its package's name: one of `tests/fixtures`, one of `sample-plugins`, or one of [`SKEWED`].
///
/// # Panics
/// It cannot be built, or there is no such fixture.
pub fn library(package: &str) -> &'static Path {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let mut built = build(&repository().join("Cargo.toml"), &PLAIN);
        built.extend(build(&skew::generate(&repository(), &target_dir().join("skew")), &SKEWED));
        built
    });
    built.get(package).unwrap_or_else(|| panic!("no fixture {package}; there are {:?}", built.keys()))
}

/// `fixture-versioned` again, each time against another version of the interface:
///
/// | package | the interface that it is built against |
/// |---|---|
/// | `fixture-1-0` | 1.0: every list of hooks and host table without its last row |
/// | `fixture-1-2` | 1.2: every list of hooks and host table with one row more |
/// | `fixture-2-0` | the same as this host's, under the next major version |
/// | `fixture-changed` | this host's version, but `on_have` takes another type |
pub const SKEWED: [&str; 4] = ["fixture-1-0", "fixture-1-2", "fixture-2-0", "fixture-changed"];

/// What the compiler says when a fixture is built with one more option.
///
/// # Panics
/// It is built all the same.
pub fn refusal(package: &str, option: &str) -> String {
    let manifest = repository().join("Cargo.toml");
    let arguments = ["rustc", "--package", package, "--", option];
    let output = cargo(&manifest, &arguments).output().unwrap();
    assert!(!output.status.success(), "{package} was built with {option}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Builds packages with one call of cargo; their libraries.
fn build(manifest: &Path, packages: &[&str]) -> BTreeMap<String, PathBuf> {
    let mut arguments = vec!["build", "--message-format=json-render-diagnostics"];
    packages.iter().for_each(|package| arguments.extend(["--package", *package]));
    // The tests themselves were built from the same lock file, so everything is there; where it is not, it is fetched.
    let output = match cargo(manifest, &arguments).arg("--offline").output().unwrap() {
        built if built.status.success() => built,
        _ => cargo(manifest, &arguments).output().unwrap(),
    };
    assert!(
        output.status.success(),
        "{}: the fixtures cannot be built:\n{}",
        manifest.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    libraries(&output)
}

/// What cargo made, by package.
fn libraries(output: &Output) -> BTreeMap<String, PathBuf> {
    let mut libraries = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let target = &message["target"];
        let is_library =
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"));
        if message["reason"] == "compiler-artifact" && is_library {
            let suffix = std::env::consts::DLL_EXTENSION;
            let files = message["filenames"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(PathBuf::from);
            let library = files.into_iter().find(|file| file.extension().is_some_and(|end| end == suffix));
            let name = target["name"].as_str().unwrap().replace('_', "-");
            libraries.insert(name, library.unwrap_or_else(|| panic!("no library in {line}")));
        }
    }
    libraries
}

/// Cargo with what every call shares. Nothing is optimised: the fixtures do little, and are built often.
fn cargo(manifest: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let (verb, rest) = arguments.split_first().unwrap();
    command.arg(verb).arg("--manifest-path").arg(manifest).arg("--target-dir").arg(target_dir());
    command.args([
        "--config",
        "profile.dev.debug=false",
        "--config",
        "profile.dev.package.\"*\".opt-level=0",
    ]);
    command.args(rest).env("CARGO_INCREMENTAL", "0").stdin(Stdio::null());
    command
}

/// The root of the workspace.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where fixtures are built: inside the target directory that the running test was built in, which cargo marks.
fn target_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let ours = test.ancestors().find(|directory| directory.join("CACHEDIR.TAG").is_file());
    ours.map_or_else(|| repository().join("target"), Path::to_owned).join("fixtures")
}
