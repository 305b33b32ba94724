//! `create`: makes a .torrent file of a file or folder.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pilotfish_plugin::Level;
use serde_json::json;

use super::args::Create;
use super::exit::{ExitCode, Failure};
use super::screen::Screen;
use super::signals::Signals;
use super::text;
use crate::metainfo::{CreateOptions, Creator, Metainfo, MetainfoError, NewFile, PieceHasher};

/// Bytes that are read at once: as many pieces as are hashed side by side, within these bounds.
const CHUNK: RangeInclusive<usize> = (1 << 20)..=(64 << 20);

/// # Errors
/// The torrent exists already; the data cannot be read, or makes no torrent; the torrent cannot be written.
pub(super) fn create(args: &Create, screen: &Screen, signals: &Signals) -> Result<ExitCode, Failure> {
    let source = Source::find(&args.path)?;
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.torrent", source.name)));
    // Seen now rather than after an hour of hashing; `write` looks again.
    if output.symlink_metadata().is_ok() {
        return Err(exists(&output));
    }
    let Some(bytes) = source.hash(options(args), screen, signals)? else {
        return Ok(signals.received().unwrap_or(ExitCode::Other));
    };
    let torrent = Metainfo::parse(&bytes).map_err(|error| refused(&args.path, &error))?;
    write(&output, &bytes)?;
    say(&torrent, &output, screen);
    Ok(ExitCode::Done)
}

fn say(torrent: &Metainfo, output: &Path, screen: &Screen) {
    let (layout, geometry) = (torrent.layout(), torrent.layout().geometry());
    if screen.json() {
        screen.object(&json!({
            "event": "created",
            "schema": 1,
            "path": output.to_string_lossy(),
            "torrent": torrent.info_hashes().to_string(),
            "name": torrent.name(),
            "total_bytes": geometry.total(),
            "piece_bytes": geometry.piece_length(),
            "pieces": geometry.num_pieces(),
            "file_count": layout.files().len(),
            "magnet": torrent.magnet().to_string(),
        }));
    }
    let made = format!(
        "{}: {} in {}, {} of {}, {}",
        output.display(),
        text::size(geometry.total()),
        text::count(layout.files().len(), "file"),
        text::count(geometry.num_pieces() as usize, "piece"),
        text::size(geometry.piece_length().into()),
        torrent.info_hashes(),
    );
    screen.say(Level::Info, made);
}

/// What a torrent is made of.
struct Source {
    name: String,
    /// The file or folder, without `..` or links in it.
    root: PathBuf,
    files: Vec<NewFile>,
    is_folder: bool,
}

impl Source {
    fn find(path: &Path) -> Result<Self, Failure> {
        // `.` and `a/..` have a name, too.
        let root = path.canonicalize().map_err(|error| unreadable(path, &error))?;
        let metadata = root.metadata().map_err(|error| unreadable(path, &error))?;
        // But a link lends its own name to what it leads to.
        let name = path.file_name().or_else(|| root.file_name()).and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            Failure::new(ExitCode::Usage, format!("{}: has no name that is Unicode", path.display()))
        })?;
        let mut source = Self {
            name: name.to_owned(),
            root: root.clone(),
            files: Vec::new(),
            is_folder: metadata.is_dir(),
        };
        if source.is_folder {
            source.walk(&root, Path::new(""))?;
        } else {
            source.take(&root, PathBuf::new(), &metadata)?;
        }
        Ok(source)
    }

    fn walk(&mut self, folder: &Path, relative: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| unreadable(folder, &error);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, relative) = (entry.path(), relative.join(entry.file_name()));
            let metadata = path.metadata().map_err(|error| unreadable(&path, &error))?;
            match metadata.is_dir() {
                false => self.take(&path, relative, &metadata)?,
                true if entry.file_type().map_err(failed)?.is_symlink() => {
                    // It could lead back to where we are.
                    let text =
                        format!("{}: links to folders cannot be in a torrent: remove it", path.display());
                    return Err(Failure::new(ExitCode::Disk, text));
                }
                true => self.walk(&path, &relative)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, file: &Path, relative: PathBuf, metadata: &Metadata) -> Result<(), Failure> {
        if !metadata.is_file() {
            let text = format!("{}: neither a file nor a folder", file.display());
            return Err(Failure::new(ExitCode::Disk, text));
        }
        self.files.push(NewFile {
            path: relative,
            length: metadata.len(),
            executable: is_executable(metadata),
        });
        Ok(())
    }

    /// The torrent's bytes; `None` if a signal came.
    fn hash(
        self,
        options: CreateOptions,
        screen: &Screen,
        signals: &Signals,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let Self { name, root, files, is_folder } = self;
        let creator = match &files[..] {
            [file] if !is_folder => Creator::file(&name, file.length, file.executable, options),
            _ => Creator::folder(&name, files, options),
        };
        let mut creator = creator.map_err(|error| refused(&root, &error))?;
        let bar = screen.bar(&name, creator.layout().geometry().total());
        let layout = creator.layout().clone();
        let together = PieceHasher::LANES * layout.geometry().piece_length() as usize;
        let mut chunk = vec![0; together.clamp(*CHUNK.start(), *CHUNK.end())];
        for entry in layout.files() {
            // Paths of the layout begin with the torrent's name, for which the root stands here.
            let path = match is_folder {
                true => root.join(entry.path.strip_prefix(&name).unwrap_or(&entry.path)),
                false => root.clone(),
            };
            let mut file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
            loop {
                if signals.received().is_some() {
                    return Ok(None);
                }
                let read = file.read(&mut chunk).map_err(|error| unreadable(&path, &error))?;
                creator.update(&chunk[..read]).map_err(|error| refused(&path, &error))?;
                bar.inc(read as u64);
                if read == 0 {
                    break;
                }
            }
            if creator.taken() != entry.offset + entry.length {
                let text = format!("{}: it changed while it was read: try again", path.display());
                return Err(Failure::new(ExitCode::Disk, text));
            }
        }
        bar.finish_and_clear();
        creator.finish().map(Some).map_err(|error| refused(&root, &error))
    }
}

fn options(args: &Create) -> CreateOptions {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    CreateOptions {
        piece_length: args.piece_length,
        trackers: args.trackers.iter().map(|tracker| vec![tracker.clone()]).collect(),
        web_seeds: args.web_seeds.clone(),
        private: args.private,
        source: args.source.clone(),
        comment: args.comment.clone(),
        created_by: Some(concat!("Pilotfish/", env!("CARGO_PKG_VERSION")).to_owned()),
        creation_date: now.ok().and_then(|now| i64::try_from(now.as_secs()).ok()),
    }
}

/// Writes a file that does not exist, or nothing.
fn write(output: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(ExitCode::Disk, format!("{}: cannot be written: {error}", output.display()))
    };
    let mut file = match OpenOptions::new().write(true).create_new(true).open(output) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(output)),
        opened => opened.map_err(failed)?,
    };
    file.write_all(bytes).map_err(|error| {
        // Half a torrent is of no use, and would be in the way of the next attempt.
        let _ = fs::remove_file(output);
        failed(error)
    })
}

#[cfg(unix)]
fn is_executable(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &Metadata) -> bool {
    false
}

fn exists(output: &Path) -> Failure {
    let text = format!("{}: exists already: remove it, or name another with --output", output.display());
    Failure::new(ExitCode::Exists, text)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(ExitCode::Disk, format!("{}: cannot be read: {error}", path.display()))
}

fn refused(path: &Path, error: &MetainfoError) -> Failure {
    let code = match error {
        MetainfoError::PieceLength(_) => ExitCode::Usage,
        MetainfoError::DataLength { .. } => ExitCode::Disk,
        _ => ExitCode::Other,
    };
    Failure::new(code, format!("{}: {error}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::args::Common;

    fn args(path: &Path, output: &Path) -> Create {
        Create {
            path: path.to_owned(),
            output: Some(output.to_owned()),
            trackers: vec!["http://a/".to_owned(), "http://b/".to_owned()],
            web_seeds: vec!["http://c/".to_owned()],
            piece_length: None,
            private: true,
            comment: None,
            source: Some("here".to_owned()),
        }
    }

    fn outcome(args: &Create, signals: &Signals) -> Result<ExitCode, Failure> {
        create(args, &Screen::new(&Common { quiet: true, ..Common::default() }), signals)
    }

    #[test]
    fn a_folder_becomes_a_torrent_of_its_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("sub")).unwrap();
        fs::write(data.join("z"), vec![1; 40_000]).unwrap();
        fs::write(data.join("sub/y"), b"why").unwrap();
        let output = folder.path().join("out.torrent");
        assert_eq!(outcome(&args(&data, &output), &Signals::default()).unwrap(), ExitCode::Done);

        let torrent = Metainfo::parse(&fs::read(&output).unwrap()).unwrap();
        let paths: Vec<_> =
            torrent.layout().files().iter().map(|file| (file.path.clone(), file.length)).collect();
        assert_eq!(paths, [("data/sub/y".into(), 3), ("data/z".into(), 40_000)]);
        assert_eq!((torrent.trackers().len(), torrent.private()), (2, true));
        assert_eq!(torrent.web_seeds(), ["http://c/"]);

        let mut hasher = torrent.hashes().hasher();
        hasher.update(b"why");
        hasher.update(&vec![1; 16_381]);
        let first = torrent.layout().geometry().piece(0).unwrap();
        assert!(torrent.hashes().matches(first, &hasher.finish()));
    }

    #[test]
    fn what_exists_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::write(&data, b"x").unwrap();
        let failure = outcome(&args(&data, &data), &Signals::default()).unwrap_err();
        assert_eq!((failure.code, fs::read(&data).unwrap()), (ExitCode::Exists, b"x".to_vec()));
        assert_eq!(write(&data, b"y").unwrap_err().code, ExitCode::Exists);
    }

    #[test]
    fn what_makes_no_torrent_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (data, output) = (folder.path().join("data"), folder.path().join("out.torrent"));
        let code = |args: &Create| outcome(args, &Signals::default()).unwrap_err().code;
        assert_eq!(code(&args(&data, &output)), ExitCode::Disk);
        fs::write(&data, b"").unwrap();
        assert_eq!(code(&args(&data, &output)), ExitCode::Other);
        fs::write(&data, b"x").unwrap();
        assert_eq!(code(&Create { piece_length: Some(1000), ..args(&data, &output) }), ExitCode::Usage);
        let stopped = outcome(&args(&data, &output), &Signals::with(ExitCode::Terminated));
        assert_eq!((stopped.unwrap(), output.exists()), (ExitCode::Terminated, false));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_is_refused_and_one_to_a_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (data, output) = (folder.path().join("data"), folder.path().join("out.torrent"));
        fs::create_dir(&data).unwrap();
        fs::write(folder.path().join("elsewhere"), b"x").unwrap();
        std::os::unix::fs::symlink("../elsewhere", data.join("file")).unwrap();
        assert_eq!(outcome(&args(&data, &output), &Signals::default()).unwrap(), ExitCode::Done);
        fs::remove_file(&output).unwrap();
        std::os::unix::fs::symlink("..", data.join("folder")).unwrap();
        assert_eq!(outcome(&args(&data, &output), &Signals::default()).unwrap_err().code, ExitCode::Disk);
    }
}
