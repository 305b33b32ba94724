//! The metadata of magnet links, kept so that nobody has to be asked for it a second time.
//!
//! Each is a .torrent file, named by its info-hash, in the folder `metadata` beside plugins' state.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pilotfish_plugin::Level;
use tempfile::NamedTempFile;

use super::args::Common;
use super::screen::Screen;
use super::state;
use super::torrent_file;
use crate::metainfo::{Description, Magnet, Metainfo};

/// Where metadata is kept, if it is kept.
#[derive(Clone, Debug)]
pub(super) struct Known(Option<PathBuf>);

impl Known {
    /// Where the command line, or else the environment, says.
    pub(super) fn of(common: &Common) -> Self {
        Self(state::folder(common).map(|folder| folder.join("metadata")))
    }

    /// Nothing is kept, and nothing found.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// The torrent that a link names, if its metadata is kept; else the link.
    pub(super) fn look_up(&self, magnet: Magnet) -> Description {
        let kept = self.file(&magnet).and_then(|file| torrent_file::read(&file).ok());
        match kept.filter(|metainfo| metainfo.info_hashes().v1() == magnet.info_hashes.v1()) {
            // What the link wants of it, and whom it names, is not in the file.
            Some(metainfo) if magnet.select_only.is_empty() && magnet.peers.is_empty() => metainfo.into(),
            _ => magnet.into(),
        }
    }

    /// Keeps the metadata of a link. After a failure, which is shown, it has to be fetched again another time.
    pub(super) fn keep(&self, magnet: &Magnet, metainfo: &Metainfo, screen: &Screen) {
        let Some(file) = self.file(magnet) else { return };
        if let Err(error) = write(&file, &torrent(magnet, metainfo)) {
            screen.say(Level::Warn, format!("{}: the metadata cannot be kept: {error}", file.display()));
        }
    }

    fn file(&self, magnet: &Magnet) -> Option<PathBuf> {
        Some(self.0.as_ref()?.join(format!("{}.torrent", magnet.info_hashes)))
    }
}

/// A .torrent file: the trackers and web seeds that the link names, and the info dictionary as it is.
fn torrent(magnet: &Magnet, metainfo: &Metainfo) -> Vec<u8> {
    let text = |text: &String| format!("{}:{text}", text.len());
    let tiers = magnet.trackers.iter().map(|tracker| format!("l{}e", text(tracker)));
    let mut bytes = match magnet.trackers.is_empty() {
        true => b"d".to_vec(),
        false => format!("d13:announce-listl{}e", tiers.collect::<String>()).into_bytes(),
    };
    bytes.extend(b"4:info");
    bytes.extend(metainfo.info_bytes());
    if !magnet.web_seeds.is_empty() {
        let urls = magnet.web_seeds.iter().map(text);
        bytes.extend(format!("8:url-listl{}e", urls.collect::<String>()).into_bytes());
    }
    bytes.push(b'e');
    bytes
}

/// Whole or not at all.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut new = NamedTempFile::new_in(folder)?;
    new.write_all(bytes)?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metainfo::{CreateOptions, Creator};

    #[test]
    fn metadata_that_was_kept_is_found_with_its_trackers_and_what_is_damaged_is_not() {
        let mut creator = Creator::file("data", 3, false, CreateOptions::default()).unwrap();
        creator.update(b"abc").unwrap();
        let metainfo = Metainfo::parse(&creator.finish().unwrap()).unwrap();
        let magnet = Magnet {
            trackers: vec!["udp://a".into(), "udp://b".into()],
            web_seeds: vec!["http://c/".into()],
            ..Magnet::new(*metainfo.info_hashes())
        };
        let folder = tempfile::tempdir().unwrap();
        let common = Common { state_dir: Some(folder.path().into()), quiet: true, ..Common::default() };
        let (known, screen) = (Known::of(&common), Screen::new(&common));
        assert!(known.look_up(magnet.clone()).metainfo().is_none());
        known.keep(&magnet, &metainfo, &screen);
        let found = known.look_up(magnet.clone());
        assert_eq!(found.metainfo().unwrap().trackers(), [["udp://a"], ["udp://b"]]);
        assert_eq!(found.metainfo().unwrap().web_seeds(), ["http://c/"]);
        assert_eq!(found.info_hashes(), metainfo.info_hashes());
        let file = folder.path().join(format!("metadata/{}.torrent", metainfo.info_hashes()));
        fs::write(&file, "damaged").unwrap();
        assert!(known.look_up(magnet.clone()).metainfo().is_none());
        known.keep(&magnet, &metainfo, &screen);
        assert!(known.look_up(magnet).metainfo().is_some());
    }
}
