//! Which plugins a run has: finding their files, loading them, handing them their settings, saying what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pilotfish_plugin::Level;
use serde_json::{Value, json};

use super::args::{Common, PluginSetting};
use super::exit::{ExitCode, Failure};
use super::screen::Screen;
use crate::command::TorrentExtension;
use crate::plugins::{Found, PluginLibrary, inspect, load, scan, shadow};
use crate::session::{self, PluginReport, PluginSpec};

/// A plugin file, and what became of it.
#[derive(Debug)]
pub(super) struct PluginFile {
    path: PathBuf,
    /// Asked for by name: if it is refused, so is the run.
    required: bool,
    outcome: Result<PluginLibrary, String>,
}

/// Loads the plugins that the command line asks for: files first, in order, then those in folders.
///
/// # Errors
/// A folder that was asked for cannot be read. Files that are refused are reported in the result.
pub(super) fn load_all(common: &Common, screen: &Screen) -> Result<Vec<PluginFile>, Failure> {
    if common.no_plugins {
        return Ok(Vec::new());
    }
    let mut found: Vec<Found> = common.plugin.iter().map(|file| found(file)).collect();
    for folder in &common.plugin_dir {
        found.extend(scan(folder).map_err(|error| Failure::new(ExitCode::Plugin, error))?);
    }
    if common.plugin_dir.is_empty() {
        for folder in default_folders(|name| env::var_os(name)) {
            match scan(&folder) {
                Ok(files) => found.extend(files),
                Err(error) => screen.say(Level::Warn, error.to_string()),
            }
        }
    }
    shadow(&mut found);
    let file = |(index, found): (usize, Found)| PluginFile {
        required: index < common.plugin.len(),
        outcome: found.manifest.and_then(|_| load(&found.path)).map_err(|error| error.to_string()),
        path: found.path,
    };
    Ok(found.into_iter().enumerate().map(file).collect())
}

/// The extensions that come with the engine, unless they are not wanted.
pub(super) fn default_extensions(common: &Common) -> Vec<TorrentExtension> {
    if common.no_builtin_extensions { Vec::new() } else { session::default_extensions() }
}

/// Gives each loaded plugin its settings.
///
/// # Errors
/// A setting is for a plugin that is not loaded.
pub(super) fn specs(files: &[PluginFile], settings: &[PluginSetting]) -> Result<Vec<PluginSpec>, Failure> {
    let libraries = || files.iter().filter_map(|file| file.outcome.as_ref().ok());
    if let Some(stray) =
        settings.iter().find(|setting| !libraries().any(|library| library.id == setting.plugin))
    {
        let names: BTreeSet<&str> = libraries().map(|library| library.id.as_str()).collect();
        let there_is = match names.len() {
            0 => "none is".to_owned(),
            _ => format!("there is {}", names.into_iter().collect::<Vec<_>>().join(", ")),
        };
        let text =
            format!("--plugin-set {0}.{1}: no plugin {0} is loaded; {there_is}", stray.plugin, stray.key);
        return Err(Failure::new(ExitCode::Usage, text));
    }
    let spec = |library: &PluginLibrary| PluginSpec {
        library: library.clone(),
        config: config(settings, &library.id),
    };
    Ok(libraries().map(spec).collect())
}

/// One line about a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PluginLine {
    /// `None` if the file was refused before it said its name.
    pub(super) id: Option<String>,
    pub(super) version: String,
    /// Major and minor version of the interface that it was built against.
    pub(super) api: Option<(u16, u16)>,
    /// `None` for what is built in.
    pub(super) path: Option<PathBuf>,
    /// Why it was refused.
    pub(super) refused: Option<String>,
    required: bool,
}

impl PluginLine {
    pub(super) fn of(file: &PluginFile) -> Self {
        let library = file.outcome.as_ref().ok();
        Self {
            id: library.map(|library| library.id.clone()),
            version: library.map(|library| library.version.clone()).unwrap_or_default(),
            api: library.map(|library| library.api),
            path: Some(file.path.clone()),
            refused: file.outcome.as_ref().err().cloned(),
            required: file.required,
        }
    }

    fn built_in(report: &PluginReport) -> Self {
        Self {
            id: Some(report.id.clone()),
            version: report.version.clone(),
            api: None,
            path: None,
            refused: report.outcome.as_ref().err().cloned(),
            required: false,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let api =
            self.api.map_or_else(|| "built in".to_owned(), |(major, minor)| format!("API {major}.{minor}"));
        match (&self.id, &self.refused) {
            (Some(id), None) => format!("loaded {id} {} ({api})", self.version),
            (Some(id), Some(reason)) => format!("refused {id} {}: {reason}", self.version),
            (None, reason) => format!("refused {}", reason.as_deref().unwrap_or_default()),
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id,
            "version": self.id.as_ref().map(|_| &self.version),
            "api": self.api.map(|(major, minor)| format!("{major}.{minor}")),
            "path": self.path.as_ref().map(|path| path.to_string_lossy()),
            "state": if self.refused.is_some() { "refused" } else { "active" },
            "reason": self.refused,
        })
    }
}

/// What became of every file and of what is built in, once the session has opened (or not) each plugin.
pub(super) fn lines(files: &[PluginFile], reports: &[PluginReport]) -> Vec<PluginLine> {
    let mut lines: Vec<PluginLine> = files.iter().map(PluginLine::of).collect();
    for report in reports {
        match lines.iter_mut().find(|line| line.refused.is_none() && line.id.as_ref() == Some(&report.id)) {
            Some(line) => line.refused = report.outcome.as_ref().err().cloned(),
            None => lines.push(PluginLine::built_in(report)),
        }
    }
    lines
}

/// Says what became of each.
pub(super) fn announce(lines: &[PluginLine], screen: &Screen) {
    for line in lines {
        let level = match (&line.refused, &line.path) {
            // The failure that ends the run will say so.
            (Some(_), _) if line.required => continue,
            (Some(_), _) => Level::Warn,
            (None, Some(_)) => Level::Info,
            (None, None) => Level::Debug,
        };
        screen.say(level, line.text());
    }
}

/// # Errors
/// A plugin that was asked for by name was refused.
pub(super) fn require(lines: &[PluginLine]) -> Result<(), Failure> {
    match lines.iter().find(|line| line.required && line.refused.is_some()) {
        Some(line) => Err(Failure::new(ExitCode::Plugin, line.text())),
        None => Ok(()),
    }
}

fn found(file: &Path) -> Found {
    // Without a slash the operating system would look for the library in its own folders.
    let bare = file.parent().is_some_and(|parent| parent.as_os_str().is_empty());
    let path = if bare { Path::new(".").join(file) } else { file.to_owned() };
    Found { manifest: inspect(&path), path }
}

/// Where plugins are looked for if nobody says where. `variable` reads the environment.
fn default_folders(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let named = variable("PILOTFISH_PLUGIN_PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> =
        env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect();
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = match cfg!(windows) {
        true => set("APPDATA"),
        // A path that is not absolute is to be ignored (XDG Base Directory Specification).
        false => (set("XDG_DATA_HOME").filter(|path| path.is_absolute()))
            .or_else(|| set("HOME").map(|home| home.join(".local/share"))),
    };
    let users = data.map(|data| data.join("pilotfish").join("plugins"));
    folders.extend(users.filter(|folder| folder.is_dir()));
    folders
}

/// The settings of one plugin. Of a key that is set twice the last counts.
fn config(settings: &[PluginSetting], plugin: &str) -> BTreeMap<String, String> {
    let own = settings.iter().filter(|setting| setting.plugin == plugin);
    own.map(|setting| (setting.key.clone(), setting.value.clone())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn quiet() -> Screen {
        Screen::new(&Common { quiet: true, ..Common::default() })
    }

    #[test]
    fn a_refused_file_ends_the_run_only_if_it_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(format!("notes.{}", env::consts::DLL_EXTENSION));
        std::fs::write(&file, "no library").unwrap();

        let named =
            Common { plugin: vec![file], plugin_dir: vec![folder.path().into()], ..Common::default() };
        let in_folder = Common { plugin_dir: vec![folder.path().into()], ..Common::default() };
        let outcome = |common: &Common| require(&lines(&load_all(common, &quiet()).unwrap(), &[]));
        let failure = outcome(&named).unwrap_err();
        assert_eq!((failure.code, failure.to_string().lines().count()), (ExitCode::Plugin, 1));
        assert!(outcome(&in_folder).is_ok());
    }

    #[test]
    fn a_folder_that_was_asked_for_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let absent = Common { plugin_dir: vec![folder.path().join("absent")], ..Common::default() };
        assert_eq!(load_all(&absent, &quiet()).unwrap_err().code, ExitCode::Plugin);
        assert!(load_all(&Common { no_plugins: true, ..absent }, &quiet()).unwrap().is_empty());
    }

    #[test]
    fn a_setting_for_a_plugin_that_is_not_there_is_a_mistake() {
        let settings = ["trace.path=x".parse().unwrap()];
        let failure = specs(&[], &settings).err().unwrap();
        assert_eq!(failure.code, ExitCode::Usage);
        assert_eq!(failure.to_string(), "--plugin-set trace.path: no plugin trace is loaded; none is");
    }

    #[test]
    fn the_last_of_two_settings_counts() {
        let settings = ["a.x=1", "b.x=2", "a.x=3", "a.y=4"].map(|text| text.parse().unwrap());
        let config = config(&settings, "a");
        assert_eq!(
            config.into_iter().collect::<Vec<_>>(),
            [("x", "3"), ("y", "4")].map(|(k, v)| (k.into(), v.into()))
        );
    }

    #[test]
    fn what_the_session_does_not_open_counts_as_refused() {
        let report =
            |id: &str, outcome| PluginReport { id: id.into(), version: "1".into(), path: None, outcome };
        let lines = lines(&[], &[report("ut_pex", Ok(())), report("bad", Err("no such mode".into()))]);
        assert_eq!(
            [lines[0].text(), lines[1].text()],
            ["loaded ut_pex 1 (built in)", "refused bad 1: no such mode"]
        );
        assert_eq!(
            (&lines[1].json()["state"], &lines[0].json()["state"]),
            (&json!("refused"), &json!("active"))
        );
    }

    #[cfg(unix)]
    #[test]
    fn plugins_are_looked_for_where_the_environment_says() {
        let home = tempfile::tempdir().unwrap();
        let users = home.path().join(".local/share/pilotfish/plugins");
        std::fs::create_dir_all(&users).unwrap();
        let folders = default_folders(|name| match name {
            "PILOTFISH_PLUGIN_PATH" => Some("/a::/b".into()),
            "HOME" => Some(home.path().into()),
            "XDG_DATA_HOME" => Some("relative".into()),
            _ => None,
        });
        assert_eq!(folders, ["/a".into(), "/b".into(), users]);
        assert!(default_folders(|_| None).is_empty());
    }
}
