//! What plugins keep from one run to the next: one file, which all runs of a user share.
//!
//! The file is a bencoded dictionary: each plugin's name, and the dictionary that its `save_state` filled in. A plugin that
//! was not part of a run finds its own unchanged in the next.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use pilotfish_plugin::Level;
use tempfile::NamedTempFile;

use super::args::Common;
use super::screen::Screen;
use crate::wire::bencode::{Document, Limits, Value};

const FILE: &str = "plugins.state";
/// A file that is larger than this is not one of ours, in bytes.
const LARGEST: u64 = 256 << 20;

/// What a plugin's `save_state` filled in, by the plugin's name.
type States = BTreeMap<String, Vec<u8>>;

/// The file in which plugins' state is kept, if it is kept.
#[derive(Debug)]
pub(super) struct StateFile(Option<PathBuf>);

/// Why a file does not say what was kept.
#[derive(Debug)]
enum Unread {
    /// It is not what it should be.
    Damaged(String),
    /// The system does not give it.
    Failed(io::Error),
}

impl StateFile {
    /// Where the command line, or else the environment, says.
    pub(super) fn of(common: &Common) -> Self {
        Self(folder(common).filter(|_| !common.no_plugins).map(|folder| folder.join(FILE)))
    }

    /// What was kept. A damaged file is put aside, so that whoever can mend it still has it; one that cannot be read is
    /// left alone from then on.
    pub(super) fn load(&mut self, screen: &Screen) -> Vec<(String, Vec<u8>)> {
        let Some(file) = &self.0 else { return Vec::new() };
        match read(file) {
            Ok(states) => return states.into_iter().collect(),
            Err(Unread::Damaged(reason)) => {
                let aside = file.with_extension("state.damaged");
                let text = match fs::rename(file, &aside) {
                    Ok(()) => format!("it is {} now, and plugins begin anew", aside.display()),
                    Err(error) => {
                        self.0 = None;
                        format!("it cannot be put aside ({error}), so nothing is kept in this run")
                    }
                };
                let name = aside.with_file_name(FILE);
                screen.say(Level::Warn, format!("{}: damaged ({reason}): {text}", name.display()));
            }
            Err(Unread::Failed(error)) => {
                let text = "what plugins kept cannot be read, so nothing is kept in this run";
                screen.say(Level::Warn, format!("{}: {text}: {error}", file.display()));
                self.0 = None;
            }
        }
        Vec::new()
    }

    /// Keeps what these plugins have now, beside what others have in the file. After a failure, which is shown, nothing is
    /// kept any more.
    pub(super) fn save(&mut self, states: Vec<(String, Vec<u8>)>, screen: &Screen) {
        let Some(file) = &self.0 else { return };
        if let Err(error) = update(file, states) {
            let text = "what plugins want to keep cannot be written";
            screen.say(Level::Warn, format!("{}: {text}: {error}", file.display()));
            self.0 = None;
        }
    }
}

fn read(file: &Path) -> Result<States, Unread> {
    let bytes = match fs::metadata(file) {
        Ok(metadata) if metadata.len() > LARGEST => {
            return Err(Unread::Damaged("it is too large".to_owned()));
        }
        Ok(_) => fs::read(file).map_err(Unread::Failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(States::new()),
        Err(error) => return Err(Unread::Failed(error)),
    };
    decode(&bytes).map_err(Unread::Damaged)
}

/// Another run may have written meanwhile: only what is known better is changed.
fn update(file: &Path, states: Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let mut kept = match read(file) {
        Ok(kept) => kept,
        Err(Unread::Damaged(_)) => States::new(),
        Err(Unread::Failed(error)) => return Err(error),
    };
    let before = kept.clone();
    for (name, state) in states {
        match state.as_slice() {
            b"de" => drop(kept.remove(&name)),
            _ => drop(kept.insert(name, state)),
        }
    }
    if kept == before {
        return Ok(());
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // Whole or not at all, however the run ends: a new file takes the old one's place.
    let mut new = NamedTempFile::new_in(folder)?;
    new.write_all(&encode(&kept))?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

fn encode(states: &States) -> Vec<u8> {
    let mut bytes = vec![b'd'];
    for (name, state) in states {
        bytes.extend(format!("{}:{name}", name.len()).bytes());
        bytes.extend(state);
    }
    bytes.push(b'e');
    bytes
}

fn decode(bytes: &[u8]) -> Result<States, String> {
    let document = Document::parse(bytes, Limits::TORRENT).map_err(|error| error.to_string())?;
    if !document.rest().is_empty() {
        return Err("something follows its end".to_owned());
    }
    let dict = document.dict().map_err(|error| error.to_string())?;
    let state = |(name, value): (&[u8], &Value<'_>)| match (str::from_utf8(name), value) {
        (Ok(name), Value::Dict(_)) => Ok((name.to_owned(), value.encode())),
        _ => Err("it holds something that is no plugin's".to_owned()),
    };
    dict.iter().map(state).collect()
}

/// Where state is kept, if it is: where the command line, or else the environment, says.
pub(super) fn folder(common: &Common) -> Option<PathBuf> {
    if common.no_state {
        return None;
    }
    common.state_dir.clone().or_else(|| default_folder(|name| env::var_os(name)))
}

/// Where state is kept if nobody says where. `variable` reads the environment.
fn default_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = match cfg!(windows) {
        true => set("LOCALAPPDATA"),
        // A path that is not absolute is to be ignored (XDG Base Directory Specification).
        false => (set("XDG_STATE_HOME").filter(|path| path.is_absolute()))
            .or_else(|| set("HOME").map(|home| home.join(".local/state"))),
    };
    folder.map(|folder| folder.join("pilotfish"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn quiet() -> Screen {
        Screen::new(&Common { quiet: true, ..Common::default() })
    }

    fn state(name: &str, state: &[u8]) -> (String, Vec<u8>) {
        (name.to_owned(), state.to_vec())
    }

    #[test]
    fn a_plugin_that_is_away_for_a_run_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let common = Common { state_dir: Some(folder.path().join("new")), ..Common::default() };
        let file = || StateFile::of(&common);
        assert!(file().load(&quiet()).is_empty());
        file().save(vec![state("a", b"d1:xi1ee"), state("b", b"d1:y0:e")], &quiet());
        file().save(vec![state("b", b"d1:yi2ee"), state("c", b"de")], &quiet());
        assert_eq!(file().load(&quiet()), [state("a", b"d1:xi1ee"), state("b", b"d1:yi2ee")]);
        file().save(vec![state("a", b"de")], &quiet());
        assert_eq!(file().load(&quiet()), [state("b", b"d1:yi2ee")]);
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_not_written_over() {
        for damaged in [&b"d1:ai1ee"[..], b"d1:ade", b"no bencode", b"dex", b"le"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILE), damaged).unwrap();
            let common = Common { state_dir: Some(folder.path().into()), ..Common::default() };
            let mut file = StateFile::of(&common);
            assert!(file.load(&quiet()).is_empty());
            file.save(vec![state("a", b"d1:xi1ee")], &quiet());
            assert_eq!(fs::read(folder.path().join("plugins.state.damaged")).unwrap(), damaged);
            assert_eq!(StateFile::of(&common).load(&quiet()), [state("a", b"d1:xi1ee")]);
        }
    }

    #[test]
    fn where_nothing_can_be_written_the_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        let common = Common { state_dir: Some(in_the_way), ..Common::default() };
        let mut file = StateFile::of(&common);
        assert!(file.load(&quiet()).is_empty());
        file.save(vec![state("a", b"d1:xi1ee")], &quiet());
        file.save(vec![state("a", b"d1:xi2ee")], &quiet());
    }

    #[test]
    fn nothing_is_kept_if_that_is_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let common = Common { state_dir: Some(folder.path().into()), no_state: true, ..Common::default() };
        StateFile::of(&common).save(vec![state("a", b"d1:xi1ee")], &quiet());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn state_is_kept_where_the_environment_says() {
        let folder = |state: &str| {
            default_folder(|name| match name {
                "XDG_STATE_HOME" => Some(state.into()),
                "HOME" => Some("/users/me".into()),
                _ => None,
            })
        };
        assert_eq!(folder("/state"), Some("/state/pilotfish".into()));
        assert_eq!(folder("relative"), Some("/users/me/.local/state/pilotfish".into()));
        assert_eq!(default_folder(|_| None), None);
    }
}
