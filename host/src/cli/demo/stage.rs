//! The one folder in which the demo takes place, and the data that it is about.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

use super::{Stop, go_on};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::signals::Signals;
use crate::metainfo::{CreateOptions, Creator, Metainfo};

/// Who takes part: the first has everything, the others have nothing.
pub(super) const NAMES: [&str; 4] = [SEED, "leech 1", "leech 2", "leech 3"];

const SEED: &str = "seed";

/// The name of the torrent, and of its only file.
const FILE: &str = "payload.bin";

/// Bytes of data: enough that there is something to watch. Tests have no patience.
const SIZE: u64 = if cfg!(test) { 8 << 20 } else { 128 << 20 };

/// Bytes per piece.
const PIECE: u32 = 256 << 10;

/// Bytes that are made, read or compared at once.
const CHUNK: usize = 1 << 20;

/// A temporary folder that nobody else may look into. It goes when this does.
pub(super) struct Stage {
    folder: TempDir,
}

impl Stage {
    /// Makes the folder, and those for the plugins and for each member in it.
    ///
    /// # Errors
    /// The system gives no folder.
    pub(super) fn set() -> Result<Self, Failure> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("pilotfish-demo-");
        let folder = builder.tempdir().map_err(|error| unwritable(&env::temp_dir(), &error))?;
        let stage = Self { folder };
        keep_private(stage.folder.path())?;
        for folder in NAMES.map(|name| stage.data(name)).into_iter().chain([stage.plugins()]) {
            fs::create_dir(&folder).map_err(|error| unwritable(&folder, &error))?;
            keep_private(&folder)?;
        }
        Ok(stage)
    }

    /// A file of the demo's own.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder for plugins.
    pub(super) fn plugins(&self) -> PathBuf {
        self.file("plugins")
    }

    /// The folder for a member's data.
    pub(super) fn data(&self, member: &str) -> PathBuf {
        self.file(member)
    }

    /// What `plugin` writes for a member.
    pub(super) fn notes(&self, member: &str, plugin: &str) -> PathBuf {
        self.file(&format!("{member}.{plugin}"))
    }

    /// Gives the seed a file of random bytes, and makes a torrent of it.
    ///
    /// # Errors
    /// The file cannot be written; a signal came.
    pub(super) fn make_payload(&self, signals: &Signals) -> Result<Metainfo, Stop> {
        let path = self.data(SEED).join(FILE);
        let failed = |error: io::Error| unwritable(&path, &error);
        let refused = |error| Failure::new(ExitCode::Other, format!("{FILE}: {error}"));
        let options = CreateOptions { piece_length: Some(PIECE), ..CreateOptions::default() };
        let mut creator = Creator::file(FILE, SIZE, false, options).map_err(refused)?;
        let mut random = StdRng::try_from_rng(&mut SysRng).map_err(|error| {
            Failure::new(ExitCode::Other, format!("the system gives no random bytes: {error}"))
        })?;
        let mut file = File::create(&path).map_err(failed)?;
        let mut chunk = vec![0; CHUNK];
        for _ in 0..SIZE / CHUNK as u64 {
            go_on(signals)?;
            random.fill_bytes(&mut chunk);
            creator.update(&chunk).map_err(refused)?;
            file.write_all(&chunk).map_err(failed)?;
        }
        let torrent = creator.finish().map_err(refused)?;
        Ok(Metainfo::parse(&torrent).map_err(refused)?)
    }

    /// Compares a leech's file with the seed's, byte for byte, without a thought of hashes.
    ///
    /// # Errors
    /// They differ, or cannot be read.
    pub(super) fn compare(&self, leech: &str) -> Result<(), Failure> {
        let paths = [SEED, leech].map(|name| self.data(name).join(FILE));
        let unreadable = |path: &Path, error: &io::Error| {
            Failure::new(ExitCode::Disk, format!("{}: cannot be read: {error}", path.display()))
        };
        let open = |path: &Path| File::open(path).map_err(|error| unreadable(path, &error));
        let (mut original, mut copy) = (open(&paths[0])?, open(&paths[1])?);
        loop {
            let expected = next(&mut original).map_err(|error| unreadable(&paths[0], &error))?;
            let found = next(&mut copy).map_err(|error| unreadable(&paths[1], &error))?;
            if expected != found {
                let text = format!("{}: not what the seed has", paths[1].display());
                return Err(Failure::new(ExitCode::Mismatch, text));
            }
            if expected.is_empty() {
                return Ok(());
            }
        }
    }

    /// Removes everything.
    ///
    /// # Errors
    /// Something is still there.
    pub(super) fn clear(self) -> Result<(), Failure> {
        let path = self.folder.path().to_owned();
        self.folder.close().map_err(|error| {
            Failure::new(ExitCode::Disk, format!("{}: cannot be removed: {error}", path.display()))
        })
    }
}

/// The next chunk of a file; empty at its end.
fn next(file: &mut File) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    file.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

/// Locks everybody else out of a folder or library, whatever the umask and whatever it was copied from.
///
/// # Errors
/// The system does not allow it.
pub(super) fn keep_private(path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let only_ours = fs::Permissions::from_mode(0o700);
        fs::set_permissions(path, only_ours).map_err(|error| unwritable(path, &error))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(ExitCode::Disk, format!("{}: cannot be written: {error}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_is_private_and_leaves_nothing_behind() {
        let stage = Stage::set().unwrap();
        let folder = stage.folder.path().to_owned();
        #[cfg(unix)]
        for path in [&folder, &stage.plugins()] {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        stage.clear().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_copy_that_differs_is_found_out_wherever_it_does() {
        let stage = Stage::set().unwrap();
        let data = vec![7; CHUNK + 10];
        fs::write(stage.data(SEED).join(FILE), &data).unwrap();
        let code = |copy: &[u8]| {
            fs::write(stage.data(NAMES[1]).join(FILE), copy).unwrap();
            stage.compare(NAMES[1]).map_err(|failure| failure.code)
        };
        assert_eq!(code(&data), Ok(()));
        assert_eq!(code(&data[1..]), Err(ExitCode::Mismatch));
        assert_eq!(code(&[&data[..], &[0]].concat()), Err(ExitCode::Mismatch));
        assert_eq!(code(&[&data[..CHUNK + 9], &[8]].concat()), Err(ExitCode::Mismatch));
    }
}
