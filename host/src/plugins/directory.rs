//! A directory of plugins: which files in it are meant as one, and whether they may be trusted.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{LoadError, Problem};
use super::manifest::{Manifest, inspect};

/// A file that is meant as a plugin. It is never passed over in silence: what cannot be loaded says why.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// What it says about itself, or why it will not be loaded.
    pub manifest: Result<Manifest, LoadError>,
}

/// The plugins in a directory, by name of file: every entry with this platform's suffix of libraries that is not hidden.
///
/// On Unix, a file is refused unless it and its directory belong to this user or to root, and nobody else may write to
/// them. Elsewhere, that is left to the system.
///
/// # Errors
/// A directory that does not exist or cannot be read; what is wrong with a file is said in its [`Found`].
pub fn scan(dir: &Path) -> Result<Vec<Found>, LoadError> {
    let unreadable = |error| Problem::Unreadable(error).at(dir);
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if is_library(&name) {
            paths.push(dir.join(name));
        }
    }
    paths.sort();
    let mut found: Vec<Found> = paths
        .into_iter()
        .map(|path| {
            let manifest = trusted(&path).map_err(|problem| problem.at(&path)).and_then(|()| inspect(&path));
            Found { path, manifest }
        })
        .collect();
    shadow(&mut found);
    Ok(found)
}

/// Of several files with a plugin of the same name, keeps the first and turns the others into errors. [`scan`] has done so
/// within its directory; this is for lists that were put together.
pub fn shadow(found: &mut [Found]) {
    let mut first: HashMap<String, PathBuf> = HashMap::new();
    for file in found {
        let Ok(manifest) = &file.manifest else { continue };
        let id = manifest.id.clone();
        if let Some(by) = first.get(&id) {
            let by = by.clone();
            file.manifest = Err(Problem::Shadowed { id, by }.at(&file.path));
        } else {
            first.insert(id, file.path.clone());
        }
    }
}

fn is_library(name: &OsStr) -> bool {
    let hidden = name.as_encoded_bytes().starts_with(b".");
    let suffix = Path::new(name).extension().unwrap_or_default();
    !hidden && suffix.eq_ignore_ascii_case(std::env::consts::DLL_EXTENSION)
}

/// Whether nobody but this user and root decides what is in a file. A link is as good as what it leads to.
fn trusted(path: &Path) -> Result<(), Problem> {
    let target = fs::canonicalize(path).map_err(Problem::Unreadable)?;
    for directory in [path.parent(), target.parent()].into_iter().flatten() {
        only_ours(directory)?;
    }
    only_ours(&target)
}

/// Whether this user or root owns it, and nobody else may write to it.
#[cfg(unix)]
pub(super) fn only_ours(path: &Path) -> Result<(), Problem> {
    use std::os::unix::fs::MetadataExt;

    const ROOT: u32 = 0;
    const GROUP_OR_OTHERS_WRITE: u32 = 0o022;

    // The parent of a name without a slash is the empty path.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let metadata = fs::metadata(path).map_err(Problem::Unreadable)?;
    let owner = metadata.uid();
    if owner != ROOT && owner != super::loader::effective_user() {
        return Err(Problem::ForeignOwner { path: path.to_owned(), owner });
    }
    if metadata.mode() & GROUP_OR_OTHERS_WRITE != 0 {
        return Err(Problem::WritableByOthers(path.to_owned()));
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn only_ours(_: &Path) -> Result<(), Problem> {
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plugins::Target;

    fn manifest(id: &str) -> Manifest {
        Manifest {
            id: id.to_owned(),
            version: "1.0.0".to_owned(),
            description: String::new(),
            api: (1, 0),
            debug_assertions: false,
            target: Target::host(),
            file_size: 1,
            raw: Vec::new(),
        }
    }

    fn suffixed(name: &str) -> String {
        format!("{name}.{}", std::env::consts::DLL_EXTENSION)
    }

    /// A file that only its owner may write to, whatever the umask.
    fn write(path: &Path) {
        fs::write(path, "text").unwrap();
        #[cfg(unix)]
        set_mode(path, 0o644);
    }

    #[cfg(unix)]
    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What is wrong with each file.
    fn report(dir: &Path) -> Vec<String> {
        scan(dir).unwrap().into_iter().map(|found| found.manifest.unwrap_err().to_string()).collect()
    }

    #[test]
    fn each_visible_library_gets_its_line_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["README.md", ".hidden.so", "noext", &suffixed("b"), &suffixed("a"), &suffixed(".c")] {
            write(&dir.path().join(name));
        }
        fs::create_dir(dir.path().join(suffixed("c"))).unwrap();
        let (a, b, c) = (suffixed("a"), suffixed("b"), suffixed("c"));
        assert_eq!(
            report(dir.path()),
            [
                format!("{a}: not a shared library"),
                format!("{b}: not a shared library"),
                format!("{c}: a directory, not a library")
            ]
        );
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap().path().join("none");
        let error = scan(&dir).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: cannot be read: ", dir.display())), "{error}");
    }

    #[test]
    fn the_first_of_two_plugins_with_one_name_is_kept() {
        let of = |path: &str, id: &str| Found { path: path.into(), manifest: Ok(manifest(id)) };
        let mut found = [of("a.so", "x"), of("b.so", "y"), of("c.so", "x"), of("d.so", "x")];
        shadow(&mut found);
        shadow(&mut found);
        let states: Vec<_> = found.iter().map(|f| f.manifest.is_ok()).collect();
        assert_eq!(states, [true, true, false, false]);
        assert_eq!(
            found[3].manifest.as_ref().unwrap_err().to_string(),
            "d.so: shadowed: a.so has a plugin of the same name, x"
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_others_may_write_to_is_refused_with_the_mend() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(suffixed("a"));
        write(&file);
        for (file_mode, dir_mode, culprit) in [
            (0o664, 0o755, Some(&*file)),
            (0o646, 0o755, Some(&*file)),
            (0o644, 0o777, Some(dir.path())),
            (0o644, 0o755, None),
        ] {
            set_mode(&file, file_mode);
            set_mode(dir.path(), dir_mode);
            let said = report(dir.path()).remove(0);
            match culprit {
                Some(path) => assert!(said.ends_with(&format!(": chmod go-w {}", path.display())), "{said}"),
                None => assert!(said.ends_with("not a shared library"), "{said}"),
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_as_good_as_the_directory_that_it_leads_to() {
        use std::os::unix::fs::symlink;

        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = other.path().join("real.bin");
        write(&target);
        symlink(&target, dir.path().join(suffixed("link"))).unwrap();
        symlink("nowhere", dir.path().join(suffixed("stale"))).unwrap();
        set_mode(other.path(), 0o777);
        let said = report(dir.path());
        assert!(said[0].contains("not safe to load"), "{said:?}");
        assert!(said[1].contains("cannot be read"), "{said:?}");
    }
}
