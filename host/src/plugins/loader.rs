//! Loads plugin libraries.
//!
//! abi_stable's own loader is not used: it keeps one module per type, and hands out the first plugin for every later one.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use libloading::Library;
use pilotfish_plugin::rt::abi_stable::StableAbi;
use pilotfish_plugin::rt::abi_stable::library::{
    AbiHeaderRef, LibHeader, ROOT_MODULE_LOADER_NAME_WITH_NUL, RootModuleError,
};
use pilotfish_plugin::rt::abi_stable::std_types::ROption;
use pilotfish_plugin::rt::{HookStatus, MANIFEST_SYMBOL, PluginModuleRef, Sink};
use pilotfish_plugin::{SessionBox, SessionContext};

use super::compat;
use super::directory::only_ours;
use super::error::{LoadError, Problem, plain};
use super::manifest::{Manifest, inspect};
use crate::wire::EntryTree;

/// A loaded plugin library. It stays mapped for as long as the process runs, whatever becomes of this value.
#[derive(Clone)]
pub struct PluginLibrary {
    /// The plugin's name, unique among the plugins of a session.
    pub id: String,
    /// The plugin's own version.
    pub version: String,
    /// One line about it, perhaps empty.
    pub description: String,
    /// Major and minor version of the interface that it was built against.
    pub api: (u16, u16),
    /// The file that was asked for, also if a copy of it is what was loaded.
    pub path: PathBuf,
    /// The functions that it offers.
    pub module: PluginModuleRef,
}

impl std::fmt::Debug for PluginLibrary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({})", self.id, self.version, self.path.display())
    }
}

/// Why a loaded plugin made no object for a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The plugin's own words.
    #[error("{0}")]
    Refused(String),
    /// It panicked; the message and its place.
    #[error("panicked: {0}")]
    Panicked(String),
}

impl PluginLibrary {
    /// Makes the plugin's object for one session. Network thread.
    ///
    /// # Errors
    /// What the plugin says of its settings or of anything else it needs, or that it panicked.
    pub fn open(
        &self,
        cx: &mut SessionContext<'_>,
        config: &BTreeMap<String, String>,
    ) -> Result<SessionBox, OpenError> {
        let mut settings = EntryTree::new();
        for (key, value) in config {
            // The root is a dictionary: nothing can be refused.
            let _ = settings.insert_bytes(EntryTree::ROOT, key.as_bytes(), value.as_bytes());
        }
        let settings = settings.encode_root();
        let (mut plugin, mut error) = (ROption::RNone, Vec::new());
        // SAFETY: the function is that of a module whose layout was checked; everything lent lives through the call.
        let status =
            unsafe { self.module.open()(cx, settings.as_slice().into(), &mut plugin, Sink::to(&mut error)) };
        match plugin {
            ROption::RSome(plugin) if status == HookStatus::HANDLED => Ok(plugin),
            _ if status == HookStatus::PANICKED => Err(OpenError::Panicked(self.last_panic())),
            _ => Err(OpenError::Refused(String::from_utf8_lossy(&error).into_owned())),
        }
    }

    fn last_panic(&self) -> String {
        let mut report = Vec::new();
        // SAFETY: as in `open`.
        unsafe { self.module.take_panic()(Sink::to(&mut report)) };
        String::from_utf8_lossy(&report).into_owned()
    }
}

/// Loads a plugin from its file.
///
/// The operating system goes by the name of the file: if this path was loaded before and its file replaced since, it
/// hands out the old code. Where the manifests differ, that is an error; [`load_copy`] always loads what is there now.
///
/// # Errors
/// What [`inspect`] refuses; what the operating system refuses; a type of the interface that is not laid out as here.
pub fn load(path: &Path) -> Result<PluginLibrary, LoadError> {
    load_file(path, path)
}

/// Loads what a file contains now, also if an older state of it is loaded: a copy under a name that was never used.
///
/// `runtime_dir` is private to this user. The copy is deleted again before this returns, where the system allows that for a
/// mapped file (not on Windows).
///
/// # Errors
/// As [`load`]; a `runtime_dir` to which others may write; a copy that cannot be made.
pub fn load_copy(path: &Path, runtime_dir: &Path) -> Result<PluginLibrary, LoadError> {
    static COPIES: AtomicU32 = AtomicU32::new(0);

    // Before the copy is made: the error names the file that was asked for, and no large file is copied in vain.
    inspect(path)?;
    only_ours(runtime_dir).map_err(|problem| problem.at(runtime_dir))?;
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let suffix = std::env::consts::DLL_EXTENSION;
    let copy = runtime_dir.join(format!("{stem}.{}.{number}.{suffix}", std::process::id()));
    std::fs::copy(path, &copy).map_err(|error| {
        let _ = std::fs::remove_file(&copy);
        Problem::NotCopied { to: runtime_dir.to_owned(), error }.at(path)
    })?;
    let loaded = load_file(&copy, path);
    // Nothing depends on it: the name is not used again, and an old copy is only a file too many.
    let _ = std::fs::remove_file(&copy);
    loaded
}

/// Loads `file`; results and errors name `path`.
fn load_file(file: &Path, path: &Path) -> Result<PluginLibrary, LoadError> {
    let manifest = inspect(file).map_err(|error| error.problem.at(path))?;
    let module = load_module(file, &manifest).map_err(|problem| problem.at(path))?;
    let Manifest { id, version, description, api, .. } = manifest;
    Ok(PluginLibrary { id, version, description, api, path: path.to_owned(), module })
}

fn load_module(file: &Path, manifest: &Manifest) -> Result<PluginModuleRef, Problem> {
    // A path without a slash would be searched for among the system's libraries.
    let file = std::path::absolute(file).map_err(Problem::Unreadable)?;
    // Never closed, also if what follows fails: its constructors have run, and may have left anything behind.
    let library = ManuallyDrop::new(open(&file)?);
    if loaded_manifest(&library, manifest.raw.len())? != manifest.raw {
        return Err(Problem::Replaced);
    }
    let header = header(&library)?;
    let (major, minor) = manifest.api;
    let differs = |difference| Problem::Layout { major, minor, difference };
    let theirs = header.layout().ok_or_else(|| differs("that it does not tell its layout".to_owned()))?;
    compat::check(<PluginModuleRef as StableAbi>::LAYOUT, theirs, minor).map_err(differs)?;
    // SAFETY: the layout of the library's module was just found to be that of ours, in the direction of the versions.
    let module = unsafe { header.unchecked_layout::<PluginModuleRef>() };
    module.map_err(|error| {
        Problem::Start(match error {
            RootModuleError::Returned(reason) => plain(reason),
            RootModuleError::Unwound => "it panicked while it made its module".to_owned(),
        })
    })
}

/// Maps a library. All of its symbols are resolved now, so that a missing one is not found in the middle of a transfer;
/// none of them becomes visible to other libraries.
#[cfg(unix)]
fn open(file: &Path) -> Result<Library, Problem> {
    use libloading::os::unix::{Library as Unix, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: this runs the library's constructors. That they do nothing wrong is what whoever put the file in place
    // vouches for, as for all code of a plugin. The file is complete, for this target, and bears a manifest.
    let opened = unsafe { Unix::open(Some(file), RTLD_NOW | RTLD_LOCAL) };
    opened.map(Library::from).map_err(|error| Problem::Open(reason(&error, file)))
}

/// Maps a library; what it needs is looked for beside it and in the system's directories.
#[cfg(windows)]
fn open(file: &Path) -> Result<Library, Problem> {
    use libloading::os::windows::{
        LOAD_LIBRARY_SEARCH_DEFAULT_DIRS, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR, Library as Windows,
    };
    // SAFETY: as on Unix.
    let opened = unsafe {
        Windows::load_with_flags(file, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS)
    };
    opened.map(Library::from).map_err(|error| Problem::Open(reason(&error, file)))
}

/// The system's own words, without the path that they tend to begin with.
fn reason(error: &libloading::Error, file: &Path) -> String {
    let text = match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    let text = text.strip_prefix(&format!("{}: ", file.display())).unwrap_or(&text);
    plain(text)
}

/// The manifest in memory. It is not that of the file if the system knew the path already.
fn loaded_manifest(library: &Library, size: usize) -> Result<&'static [u8], Problem> {
    // SAFETY: the symbol is taken for an address, whatever is behind it.
    let symbol = unsafe { library.get::<*const u8>(MANIFEST_SYMBOL) }.map_err(|_| Problem::NoManifest)?;
    let start: *const u8 = *symbol;
    // SAFETY: the file has `size` bytes behind this symbol, in a segment that is mapped; so had any earlier file that the
    // system hands out for this path, since it came through `inspect` too. They are constant, and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts(start, size) })
}

/// The entry point of abi_stable, after it has seen that the library was built with a version of it that fits.
fn header(library: &Library) -> Result<&'static LibHeader, Problem> {
    let name = ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes();
    // SAFETY: `export_plugin!` exports a `LibHeader` under this name, as abi_stable itself would; an `AbiHeaderRef` is a
    // reference to its beginning. The library's manifest says that it was made in this way.
    let symbol = unsafe { library.get::<AbiHeaderRef>(name) };
    let header = *symbol.map_err(|_| Problem::BadManifest("it promises a module that is not there"))?;
    header.upgrade().map_err(|_| Problem::WrongAbiStable)
}

/// The effective user of this process.
#[cfg(unix)]
pub(super) fn effective_user() -> u32 {
    // SAFETY: POSIX has this function, without arguments and without failure; `uid_t` is 32 bits wide wherever Rust's
    // standard library knows file owners.
    unsafe extern "C" {
        safe fn geteuid() -> u32;
    }
    geteuid()
}

/// A loaded library is handed to the network thread.
const _: () = {
    const fn sendable<T: Send + Sync + 'static>() {}
    sendable::<PluginLibrary>();
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plugin_is_never_opened() {
        let binary = std::env::current_exe().unwrap();
        assert!(load(&binary).is_err());
        let dir = tempfile::tempdir().unwrap();
        assert!(load_copy(&binary, dir.path()).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_error_of_a_copy_names_the_file_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes.so");
        std::fs::write(&file, "text").unwrap();
        let error = load_copy(&file, dir.path()).unwrap_err().to_string();
        assert_eq!(error, "notes.so: not a shared library");
    }
}
