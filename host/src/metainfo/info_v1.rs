//! The info dictionary of BEP 3, which names files and piece hashes and is what the info-hash is the hash of.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use super::{FileEntry, FileLayout, MetainfoError, PieceHashes};
use crate::wire::bencode::Dict;

/// What an info dictionary says.
#[derive(Clone)]
pub(super) struct Info {
    pub(super) layout: Arc<FileLayout>,
    pub(super) hashes: Arc<PieceHashes>,
    pub(super) private: bool,
}

impl Info {
    /// # Errors
    /// A key is missing or makes no sense, a path is unsafe, or hashes and sizes disagree.
    pub(super) fn parse(info: &Dict<'_>) -> Result<Self, MetainfoError> {
        let pieces = info.bytes(b"pieces").ok_or(match info.get(b"file tree") {
            Some(_) => MetainfoError::V2Only,
            None => MetainfoError::Missing("info.pieces"),
        })?;
        let name = text(info, b"name").ok_or(MetainfoError::Missing("info.name"))?;
        let root = component(&name, cfg!(windows))?;
        let files = match info.list(b"files") {
            Some(files) => {
                let dicts =
                    files.iter().map(|file| file.dict().ok_or(MetainfoError::Missing("info.files[]")));
                dicts.map(|file| listed_file(file?, &root)).collect::<Result<_, _>>()?
            }
            None => vec![FileEntry {
                executable: attributes(info).contains(&b'x'),
                ..FileEntry::new(&*root, length(info, "info.length")?)
            }],
        };
        let layout = FileLayout::new(&*root, piece_length(info)?, files)?;
        let hashes = piece_hashes(pieces, layout.geometry().num_pieces())?;
        let private = info.int(b"private").is_some_and(|flag| flag != 0);
        Ok(Self { layout: Arc::new(layout), hashes: Arc::new(hashes), private })
    }
}

fn listed_file(file: &Dict<'_>, root: &str) -> Result<FileEntry, MetainfoError> {
    let attributes = attributes(file);
    let symlink = attributes.contains(&b'l');
    // Whatever a link's length says, it has no bytes in the torrent (as in libtorrent).
    let length = if symlink { 0 } else { length(file, "info.files[].length")? };
    if attributes.contains(&b'p') {
        // The paths of padding are as odd as their makers like; none is ever used.
        let path: PathBuf = [root, ".pad", &length.to_string()].iter().collect();
        return Ok(FileEntry { pad: true, ..FileEntry::new(path, length) });
    }
    let path = file.list(b"path.utf-8").or_else(|| file.list(b"path"));
    let path = path.filter(|path| !path.is_empty()).ok_or(MetainfoError::Missing("info.files[].path"))?;
    let mut whole = PathBuf::from(root);
    for part in path {
        let bytes = part.bytes().ok_or(MetainfoError::Missing("info.files[].path[]"))?;
        whole.push(&*component(&lossy(bytes), cfg!(windows))?);
    }
    Ok(FileEntry { symlink, executable: attributes.contains(&b'x'), ..FileEntry::new(whole, length) })
}

/// The flags of BEP 47, one letter each.
fn attributes<'a>(file: &Dict<'a>) -> &'a [u8] {
    file.bytes(b"attr").unwrap_or_default()
}

fn length(file: &Dict<'_>, key: &'static str) -> Result<u64, MetainfoError> {
    let length = file.int(b"length").ok_or(MetainfoError::Missing(key))?;
    u64::try_from(length).map_err(|_| MetainfoError::Invalid { key, value: length.into() })
}

fn piece_length(info: &Dict<'_>) -> Result<u32, MetainfoError> {
    let key = "info.piece length";
    let length = info.int(b"piece length").ok_or(MetainfoError::Missing(key))?;
    u32::try_from(length).map_err(|_| MetainfoError::Invalid { key, value: length.into() })
}

fn piece_hashes(pieces: &[u8], num_pieces: u32) -> Result<PieceHashes, MetainfoError> {
    match pieces.as_chunks() {
        (hashes, []) if hashes.len() == num_pieces as usize => Ok(PieceHashes::V1(hashes.to_vec())),
        _ => Err(MetainfoError::HashCount { found: pieces.len(), expected: u64::from(num_pieces) * 20 }),
    }
}

fn text(info: &Dict<'_>, key: &[u8]) -> Option<String> {
    let bytes = info.bytes(&[key, b".utf-8"].concat()).or_else(|| info.bytes(key))?;
    Some(lossy(bytes))
}

/// What is not UTF-8 becomes `_`, as in libtorrent, so that data which that has downloaded is found.
fn lossy(bytes: &[u8]) -> String {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(valid) => valid.to_owned(),
        Cow::Owned(replaced) => replaced.replace(char::REPLACEMENT_CHARACTER, "_"),
    }
}

/// One component of a path as it may stand on this system.
///
/// What could lead elsewhere is refused and not mended, because whoever wrote it meant harm. What only this system
/// cannot store is replaced, because whoever wrote it had another one.
fn component(name: &str, windows: bool) -> Result<Cow<'_, str>, MetainfoError> {
    let reason = match name {
        "" => "it has an empty component",
        "." | ".." => "it leads elsewhere",
        _ if name.contains('\0') => "it holds a zero byte",
        _ if name.contains('/') => "a component holds a slash",
        _ if windows => return Ok(windows_component(name)),
        _ => return Ok(Cow::Borrowed(name)),
    };
    Err(MetainfoError::unsafe_path(name, reason))
}

fn windows_component(name: &str) -> Cow<'_, str> {
    const FORBIDDEN: &[char] = &['<', '>', ':', '"', '\\', '|', '?', '*'];
    const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    let is_device = DEVICES.contains(&&*stem)
        || numbered.is_some_and(|number| matches!(number, "¹" | "²" | "³") || number.len() == 1);
    let mut name = name.replace(|c: char| FORBIDDEN.contains(&c) || c.is_control(), "_");
    if name.ends_with(['.', ' ']) {
        // Windows would drop it silently, and with it the difference to another file.
        name.pop();
        name.push('_');
    }
    if is_device {
        name.insert(0, '_');
    }
    Cow::Owned(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn components_that_lead_elsewhere_are_refused_by_name() {
        for name in ["", ".", "..", "a/b", "/", "a\0"] {
            let refused = component(name, false).unwrap_err();
            assert!(
                matches!(refused, MetainfoError::UnsafePath { ref path, .. } if path == name),
                "{refused}"
            );
            assert!(component(name, true).is_err());
        }
        for name in ["...", "a\\b", "C:", " ", "con", "..a"] {
            assert_eq!(component(name, false).unwrap(), name);
        }
    }

    #[test]
    fn what_windows_cannot_store_is_replaced() {
        let names = [
            ("a\\b", "a_b"),
            ("C:", "C_"),
            ("what?\n", "what__"),
            ("con", "_con"),
            ("Aux.txt", "_Aux.txt"),
            ("lpt1", "_lpt1"),
            ("COM10", "COM10"),
            ("dots..", "dots._"),
            ("console", "console"),
        ];
        for (name, stored) in names {
            assert_eq!(component(name, true).unwrap(), stored);
        }
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(lossy(b"caf\xe9.txt"), "caf_.txt");
        assert_eq!(lossy("café".as_bytes()), "café");
    }
}
