//! Reading what the command line calls a torrent.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::exit::{ExitCode, Failure};
use super::text;
use crate::command::AddTorrentError;
use crate::metainfo::{Description, Magnet, Metainfo};

/// Larger files are refused. Bytes; piece hashes of a torrent of 50 TiB with pieces of 16 MiB take this much.
const MAX_SIZE: u64 = 64 << 20;

/// Reads a .torrent file, or a magnet link.
///
/// # Errors
/// As [`read`]; or the link names no torrent that can be downloaded.
pub(super) fn open(torrent: &Path) -> Result<Description, Failure> {
    match link(torrent) {
        Some(link) => Ok(magnet(link)?.into()),
        None => Ok(read(torrent)?.into()),
    }
}

/// The link, if it is a magnet link and not a file.
pub(super) fn link(torrent: &Path) -> Option<&str> {
    torrent.to_str().filter(|text| scheme(text) == "magnet")
}

/// Reads a magnet link.
///
/// # Errors
/// It names no torrent that can be downloaded.
pub(super) fn magnet(link: &str) -> Result<Magnet, Failure> {
    let refused =
        |reason: String| Failure::new(ExitCode::BadTorrent, format!("{}: {reason}", text::plain(link)));
    let magnet = Magnet::parse(link).map_err(|error| refused(error.to_string()))?;
    match magnet.info_hashes.v1() {
        Some(_) => Ok(magnet),
        None => Err(refused(AddTorrentError::V2Only.to_string())),
    }
}

/// What stands before the colon of a link.
fn scheme(text: &str) -> String {
    text.split_once(':').map_or_else(String::new, |(scheme, _)| scheme.to_ascii_lowercase())
}

/// Reads a .torrent file.
///
/// # Errors
/// It cannot be read, is too large, or is not a torrent that can be used; it is a link.
pub(super) fn read(torrent: &Path) -> Result<Metainfo, Failure> {
    let refused = |reason: String| {
        Failure::new(ExitCode::BadTorrent, format!("{}: {reason}", text::plain(&torrent.to_string_lossy())))
    };
    if let Some(link) = torrent.to_str().filter(|text| text.contains(':')) {
        refuse_link(link).map_err(|reason| Failure::new(ExitCode::BadTorrent, reason))?;
    }
    let bytes = read_file(torrent).map_err(refused)?;
    Metainfo::parse(&bytes).map_err(|error| refused(error.to_string()))
}

fn refuse_link(link: &str) -> Result<(), String> {
    let advice = match scheme(link).as_str() {
        "magnet" => "a .torrent file is needed here, not a link to one",
        "http" | "https" => "download the .torrent file first, and name it here",
        _ => return Ok(()),
    };
    Err(format!("{}: {advice}", text::plain(link)))
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let metadata = path.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err("a directory, not a .torrent file".to_owned());
    }
    let too_large = || format!("larger than {}, so it is not a .torrent file", text::size(MAX_SIZE));
    if metadata.len() > MAX_SIZE {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // Of a pipe, and of a file that grows, the size is known only after reading.
    File::open(path).and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SIZE { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn refusal(torrent: &Path) -> String {
        let failure = read(torrent).unwrap_err();
        assert_eq!((failure.code, failure.to_string().lines().count()), (ExitCode::BadTorrent, 1));
        failure.to_string()
    }

    #[test]
    fn what_is_no_torrent_is_refused_in_one_line_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        assert!(refusal(folder.path()).ends_with("a directory, not a .torrent file"));
        assert!(refusal(&folder.path().join("absent.torrent")).contains("absent.torrent: cannot be read: "));
        assert!(refusal(&file("text\n.torrent", b"hello")).contains("text\u{fffd}.torrent: not a torrent"));
        assert!(refusal(&file("cut.torrent", b"d4:infod4:name1:x12:piece length")).contains("not a torrent"));
        assert!(
            refusal(&file("deep.torrent", &vec![b'd'; 10 << 20])).contains("deep.torrent: not a torrent")
        );
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge.torrent");
        File::create(&path).unwrap().set_len(1 << 30).unwrap();
        assert!(refusal(&path).contains("huge.torrent: larger than 64.0 MiB"));
    }

    #[test]
    fn a_link_is_refused_with_what_can_be_done() {
        let magnet = format!("magnet:?xt=urn:btih:{}", "ab".repeat(20));
        assert!(refusal(Path::new(&magnet)).ends_with("a .torrent file is needed here, not a link to one"));
        assert!(
            refusal(Path::new("https://example.org/a.torrent")).contains("download the .torrent file first")
        );
    }

    #[test]
    fn a_link_is_read_unless_it_names_nothing_that_can_be_downloaded() {
        let opened = |link: &str| open(Path::new(link)).map_err(|failure| failure.to_string());
        let link = format!("MAGNET:?xt=urn:btih:{}&dn=name", "ab".repeat(20));
        assert_eq!(opened(&link).unwrap().name(), "name");
        assert!(opened("magnet:?dn=x").unwrap_err().starts_with("magnet:?dn=x: "));
        let v2 = format!("magnet:?xt=urn:btmh:1220{}", "ab".repeat(32));
        assert!(opened(&v2).unwrap_err().contains("version 2 only"));
    }
}
