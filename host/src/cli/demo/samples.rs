//! Makes the sample plugins and lays them into the demo's folder, as a person would with `cargo build` and `cp`.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressStyle;
use pilotfish_plugin::Level;
use serde_json::Value;

use super::stage::{Stage, keep_private, unwritable};
use super::{Stop, go_on};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::screen::Screen;
use crate::cli::signals::Signals;

/// The packages, and their folders within `sample-plugins`.
const SAMPLES: [(&str, &str); 2] = [("pilotfish-peer-log", "peer-log"), ("pilotfish-trace", "trace")];

/// How long a signal, or the end of the build, waits to be seen.
const NAP: Duration = Duration::from_millis(50);

/// Builds the samples from the source that this program is run in, and copies them into the stage's plugin folder.
/// Returns how long the build took.
///
/// # Errors
/// There is no source, or it does not build; a file cannot be copied; a signal came.
pub(super) fn install(stage: &Stage, screen: &Screen, signals: &Signals) -> Result<Duration, Stop> {
    let started = Instant::now();
    let source = find_source().ok_or_else(no_source)?;
    let libraries = build(&source, stage, screen, signals)?;
    let took = started.elapsed();
    for library in libraries {
        let copy = stage.plugins().join(library.file_name().unwrap_or(library.as_os_str()));
        fs::copy(&library, &copy).map_err(|error| unwritable(&copy, &error))?;
        // A library that a group may write to, as many systems make them, is not loaded.
        keep_private(&copy)?;
    }
    Ok(took)
}

/// The nearest folder with the samples' source: above this program, which is where Cargo puts what it builds, or above
/// the current folder.
fn find_source() -> Option<PathBuf> {
    let starts = [env::current_exe(), env::current_dir()];
    starts.into_iter().flatten().find_map(|start| source_above(&start))
}

fn source_above(start: &Path) -> Option<PathBuf> {
    let samples = |folder: &Path| {
        let is_sample =
            |(_, name): &(_, &str)| folder.join("sample-plugins").join(name).join("Cargo.toml").is_file();
        folder.join("Cargo.toml").is_file() && SAMPLES.iter().all(is_sample)
    };
    start.ancestors().find(|folder| samples(folder)).map(Path::to_owned)
}

fn no_source() -> Failure {
    let text = "the sample plugins are built from Pilotfish's source, which is not here: run the demo there, or name \
                built ones with --plugin-dir";
    Failure::new(ExitCode::Usage, text)
}

/// Has Cargo build the samples, and returns the libraries.
fn build(source: &Path, stage: &Stage, screen: &Screen, signals: &Signals) -> Result<Vec<PathBuf>, Stop> {
    let (list, log) = (stage.file("build.json"), stage.file("build.log"));
    let create = |path: &Path| File::create(path).map_err(|error| unwritable(path, &error));
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.arg("build").args(SAMPLES.iter().flat_map(|(package, _)| ["-p", package]));
    // As this program was built: then most of what the samples need is there already.
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command
        .arg("--message-format=json-render-diagnostics")
        .current_dir(source)
        .stdin(Stdio::null())
        .stdout(create(&list)?)
        .stderr(create(&log)?);
    let child = command.spawn().map_err(|error| {
        let program = Path::new(command.get_program()).display().to_string();
        Failure::new(
            ExitCode::Other,
            format!("{program}: cannot be run to build the sample plugins: {error}"),
        )
    })?;
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| unwritable(path, &error));
    if !wait(child, screen, signals)?.success() {
        read(&log)?.lines().for_each(|line| screen.say(Level::Error, line));
        return Err(Failure::new(ExitCode::Other, "the sample plugins cannot be built").into());
    }
    let libraries = libraries(&read(&list)?);
    if libraries.len() < SAMPLES.len() {
        return Err(Failure::new(ExitCode::Other, "the build made no library of a sample plugin").into());
    }
    Ok(libraries)
}

/// Waits for Cargo; a signal ends it.
fn wait(mut child: Child, screen: &Screen, signals: &Signals) -> Result<ExitStatus, Stop> {
    let clock = screen.bar("", 0);
    clock.set_style(
        ProgressStyle::with_template("  {spinner} building {msg}, {elapsed}")
            .unwrap_or(ProgressStyle::default_spinner()),
    );
    let names = SAMPLES.map(|(_, name)| name).join(" and ");
    if !screen.has_bars() {
        screen.say(Level::Info, format!("  building {names}"));
    }
    clock.set_message(names);
    clock.enable_steady_tick(2 * NAP);
    let ended = loop {
        if let Err(stop) = go_on(signals) {
            // It may have heard the same signal, and be gone.
            let _ = child.kill();
            let _ = child.wait();
            break Err(stop);
        }
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) => thread::sleep(NAP),
            Err(error) => {
                break Err(
                    Failure::new(ExitCode::Other, format!("the build cannot be waited for: {error}")).into()
                );
            }
        }
    };
    clock.finish_and_clear();
    ended
}

/// The samples' libraries among what Cargo says that it made: a JSON object per line.
fn libraries(messages: &str) -> Vec<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let library = |message: Value| {
        let target = message.get("target")?.get("name")?.as_str()?.replace('_', "-");
        let is_sample = SAMPLES.iter().any(|(package, _)| *package == target);
        let files = message.get("filenames")?.as_array()?.iter().filter_map(Value::as_str).map(PathBuf::from);
        let mut libraries =
            files.filter(|file| file.extension().is_some_and(|e| e == env::consts::DLL_EXTENSION));
        libraries.next().filter(|_| is_sample)
    };
    messages.filter_map(library).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_found_from_anywhere_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("target/release/pilotfish");
        fs::create_dir_all(&deep).unwrap();
        for name in ["", "sample-plugins/peer-log", "sample-plugins/trace"] {
            assert_eq!(source_above(&deep), None);
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("Cargo.toml"), "").unwrap();
        }
        assert_eq!(source_above(&deep).as_deref(), Some(folder.path()));
    }

    #[test]
    fn of_all_that_cargo_makes_only_the_samples_libraries_are_taken() {
        let library = format!("/t/libpilotfish_trace.{}", env::consts::DLL_EXTENSION);
        let made = |target: &str, files: &[&str]| serde_json::json!({"reason": "compiler-artifact", "target": {"name": target}, "filenames": files});
        let messages = [
            made("pilotfish_plugin", &["/t/libpilotfish_plugin.rlib"]),
            made("pilotfish_plugin_macros", &[&library]),
            made("pilotfish_trace", &["/t/libpilotfish_trace.d", &library]),
            serde_json::json!({"reason": "build-finished", "success": true}),
        ];
        let messages = messages.map(|message| message.to_string()).join("\n") + "\nnot json";
        assert_eq!(libraries(&messages), [PathBuf::from(library)]);
    }
}
