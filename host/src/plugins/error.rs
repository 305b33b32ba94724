//! Why a file is not loaded.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use pilotfish_plugin::rt::{API_MAJOR, API_MINOR, MANIFEST_SYMBOL};

use super::manifest::Target;

/// A file that is not loaded, and why. Its text is one line.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", shown(path, problem))]
pub struct LoadError {
    /// The file, or a directory of plugins that cannot be read.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file, and the mend where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It does not exist, or may not be read.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// Its name stands for a directory.
    #[error("a directory, not a library")]
    Directory,
    /// A pipe, a socket, a device.
    #[error("not a regular file")]
    NotAFile,
    /// Nobody writes a plugin of this size (bytes).
    #[error("too large for a plugin: {0} bytes")]
    TooLarge(u64),
    /// Nothing in it.
    #[error("not a shared library: the file is empty")]
    Empty,
    /// No format of libraries that there is.
    #[error("not a shared library")]
    NotALibrary,
    /// The format of libraries, but something else.
    #[error("not a shared library, but {0}: build it with crate-type = [\"cdylib\"]")]
    NotShared(&'static str),
    /// A part of it lies beyond its end: running it would kill the process with SIGBUS.
    #[error("cut off: {part} ends at byte {end} of {size}: copy it again")]
    CutOff {
        /// The part: a segment, the header, a table.
        part: &'static str,
        /// Where it ends, by the file's own account, in bytes from its beginning.
        end: u64,
        /// The size of the file in bytes.
        size: u64,
    },
    /// The format's own rules are broken.
    #[error("damaged: {0}")]
    Malformed(object::Error),
    /// Another processor or operating system.
    #[error("built for {built_for}; this host is {host}: rebuild it for this host")]
    WrongTarget {
        /// What the file is for.
        built_for: Target,
        /// What this is.
        host: Target,
    },
    /// Another C library.
    #[error("linked with {built_with}; this host uses {host}: rebuild it for this host")]
    WrongLibc {
        /// The file's C library.
        built_with: &'static str,
        /// Ours.
        host: &'static str,
    },
    /// A library, but not a plugin.
    #[error("no Pilotfish plugin: it has no symbol {MANIFEST_SYMBOL} (is export_plugin! missing?)")]
    NoManifest,
    /// The symbol is there, but a manifest is not.
    #[error("its manifest cannot be read: {0}: rebuild it with export_plugin!")]
    BadManifest(&'static str),
    /// Another major version of the interface.
    #[error(
        "built for plugin API {major}.{minor}, this host has {API_MAJOR}.{API_MINOR}: rebuild it against pilotfish-plugin {API_MAJOR}"
    )]
    WrongApi {
        /// The plugin's major version.
        major: u16,
        /// The plugin's minor version.
        minor: u16,
    },
    /// Written in a language for which this host has no binding.
    #[error("made with binding {0}, which this host does not know: it loads plugins in Rust")]
    UnknownBinding(u16),
    /// A panic could not be caught.
    #[error(
        "built with panic = \"abort\", so that one panic would end the host: rebuild it with panic = \"unwind\""
    )]
    PanicAborts,
    /// The plugin's name is no name.
    #[error("its name {0:?} is not made of a-z, 0-9, - and _: rename it in export_plugin!")]
    BadId(String),
    /// The copy that was to be loaded in its place could not be made.
    #[error("cannot be copied to {}: {error}", plain(.to.display()))]
    NotCopied {
        /// The directory.
        to: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The operating system's loader refused it.
    #[error("cannot be loaded: {0}")]
    Open(String),
    /// The operating system handed out a library that was loaded from the same path before.
    #[error("another version of it is already loaded from this path: reload it, or restart")]
    Replaced,
    /// Not the abi_stable that the interface is built on.
    #[error("built with another abi_stable: rebuild it against pilotfish-plugin {API_MAJOR}")]
    WrongAbiStable,
    /// Types that cross the boundary differ.
    #[error(
        "built for plugin API {major}.{minor}, which differs from this host's {API_MAJOR}.{API_MINOR} in {difference}: \
         rebuild it against pilotfish-plugin {API_MAJOR}.{API_MINOR}"
    )]
    Layout {
        /// The plugin's major version.
        major: u16,
        /// The plugin's minor version.
        minor: u16,
        /// Which hook or function differs, and how.
        difference: String,
    },
    /// It failed to hand out its module.
    #[error("cannot be started: {0}")]
    Start(String),
    /// Someone else could put their code into this process.
    #[error("not safe to load: others than its owner may write to {}: chmod go-w {}", plain(.0.display()), quoted(.0))]
    WritableByOthers(PathBuf),
    /// Someone else's code.
    #[error("not safe to load: {} belongs to user {owner}, not to this one or root: chown it", plain(.path.display()))]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// The number of its owner.
        owner: u32,
    },
    /// A file before it has the same plugin.
    #[error("shadowed: {} has a plugin of the same name, {id}", plain(.by.display()))]
    Shadowed {
        /// The plugin's name.
        id: String,
        /// The file that has it.
        by: PathBuf,
    },
}

impl Problem {
    /// The error that says which file has the problem.
    pub(super) fn at(self, path: &Path) -> LoadError {
        LoadError { path: path.to_owned(), problem: self }
    }
}

/// A text with what could break a line, or recolour a terminal, replaced. File names and manifests come from others.
pub(super) fn plain(text: impl Display) -> String {
    text.to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The file's name; the whole path where the name alone would not say what to look for.
fn shown(path: &Path, problem: &Problem) -> String {
    match (problem, path.file_name()) {
        (Problem::Unreadable(_), _) | (_, None) => plain(path.display()),
        (_, Some(name)) => plain(Path::new(name).display()),
    }
}

/// A path as a word of a shell's command line.
fn quoted(path: &Path) -> String {
    let text = plain(path.display());
    match text.chars().all(|c| c.is_alphanumeric() || "/._-+,:@%".contains(c)) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line_even_if_the_name_is_not() {
        let error = Problem::NotALibrary.at(Path::new("/plugins/two\nlines\x1b[31m.so"));
        assert_eq!(error.to_string(), "two\u{fffd}lines\u{fffd}[31m.so: not a shared library");
    }

    #[test]
    fn the_mend_can_be_pasted_into_a_shell() {
        let error = Problem::WritableByOthers("/my plugins/x.so".into()).at(Path::new("/my plugins/x.so"));
        assert!(error.to_string().ends_with(": chmod go-w '/my plugins/x.so'"), "{error}");
    }
}
