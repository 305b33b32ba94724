//! What the benchmarks of whole processes transfer: one file of random data, in memory and on disk, and its torrent.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilotfish::metainfo::{CreateOptions, Creator, Metainfo};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

/// Bytes that are written or compared at once.
const CHUNK: usize = 1 << 20;

/// The data and its torrent, and a folder for what comes of it. All of it is gone with this.
pub struct Payload {
    name: &'static str,
    folder: TempDir,
    bytes: Arc<[u8]>,
    metainfo: Metainfo,
}

impl Payload {
    /// So many bytes in pieces of `piece_length`, in memory if the system has a file system for that. What has another name is
    /// another torrent.
    pub fn new(name: &'static str, len: usize, piece_length: u32) -> Self {
        let shared = Path::new("/dev/shm");
        let folder =
            if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let mut bytes = vec![0; len];
        StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
        let options = CreateOptions { piece_length: Some(piece_length), ..CreateOptions::default() };
        let mut creator = Creator::file(name, len as u64, false, options).unwrap();
        creator.update(&bytes).unwrap();
        let torrent = creator.finish().unwrap();
        let metainfo = Metainfo::parse(&torrent).unwrap();
        let payload = Self { name, folder, bytes: bytes.into(), metainfo };
        fs::write(payload.torrent(), torrent).unwrap();
        fs::create_dir(payload.complete()).unwrap();
        fs::write(payload.complete().join(name), &payload.bytes).unwrap();
        payload
    }

    /// The torrent file.
    pub fn torrent(&self) -> PathBuf {
        self.folder.path().join("payload.torrent")
    }

    /// The torrent.
    pub fn metainfo(&self) -> &Metainfo {
        &self.metainfo
    }

    /// The folder with all of the data.
    pub fn complete(&self) -> PathBuf {
        self.folder.path().join("complete")
    }

    /// An empty folder for what is not worth keeping: configuration, caches.
    pub fn scratch(&self) -> PathBuf {
        self.emptied("scratch")
    }

    /// An empty folder for a download, with as much memory free as that needs and lately used: a virtual machine gives
    /// memory that it does not use back to its host, and to get it again takes longer than a download.
    pub fn output(&self) -> PathBuf {
        let folder = self.emptied("output");
        let ballast = folder.join("ballast");
        let mut file = File::create(&ballast).unwrap();
        let zeros = vec![0; CHUNK];
        (0..self.bytes.len().div_ceil(CHUNK) + 64).for_each(|_| file.write_all(&zeros).unwrap());
        fs::remove_file(ballast).unwrap();
        folder
    }

    fn emptied(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// The data.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// How much it is.
    pub fn mebibytes(&self) -> f64 {
        self.bytes.len() as f64 / f64::from(1 << 20)
    }

    /// Fails unless everything has arrived in this folder.
    #[track_caller]
    pub fn assert_arrived(&self, folder: &Path) {
        let mut file = File::open(folder.join(self.name)).unwrap();
        let mut buffer = vec![0; CHUNK];
        for chunk in self.bytes.chunks(CHUNK) {
            file.read_exact(&mut buffer[..chunk.len()]).unwrap();
            assert!(buffer[..chunk.len()] == *chunk, "what arrived is not what was sent");
        }
        assert_eq!(file.read(&mut buffer).unwrap(), 0, "more arrived than was sent");
    }
}
