//! Where a torrent may write: below its own folder, and nowhere else.
//!
//! The paths of a [`FileLayout`](crate::metainfo::FileLayout) never lead upwards, but a symbolic link that lies in
//! the folder already could. Such a link is followed as long as it leads to a place inside the folder.
//! Someone who can swap folders for links *while* we look could do the damage without us.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::job::DiskError;

/// Makes `parent`, a relative path, below `root`, and `root` itself, as far as they are missing.
///
/// # Errors
/// Names the folder that cannot be made, or the link that leads out of `root`.
pub(super) fn make(root: &Path, parent: &Path) -> Result<(), DiskError> {
    fs::create_dir_all(root).map_err(|error| disk_error("create", root, error))?;
    let mut folder = root.to_path_buf();
    for component in parent.components() {
        folder.push(component);
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => refuse_outside(root, &folder)?,
            Err(error) => return Err(disk_error("create", &folder, error)),
        }
    }
    Ok(())
}

/// Refuses `path` if it is a symbolic link that leads out of `root`, or to nothing.
///
/// # Errors
/// Names the link.
pub(super) fn refuse_outside(root: &Path, path: &Path) -> Result<(), DiskError> {
    let named = |error| disk_error("open", path, error);
    if !fs::symlink_metadata(path).map_err(named)?.is_symlink() {
        return Ok(());
    }
    let target = fs::canonicalize(path).map_err(named)?;
    if target.starts_with(fs::canonicalize(root).map_err(named)?) {
        return Ok(());
    }
    let reason = format!("it is a symbolic link out of {}", root.display());
    Err(named(io::Error::new(ErrorKind::PermissionDenied, reason)))
}

/// What went wrong with which file.
pub(super) fn disk_error(operation: &'static str, path: impl Into<PathBuf>, error: io::Error) -> DiskError {
    DiskError { operation, path: path.into(), error: Arc::new(error) }
}
