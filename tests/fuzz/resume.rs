//! Resume data that is damaged, or lies: read, compared with a torrent, and handed to an engine that has the torrent's data.

use std::sync::OnceLock;
use std::time::Duration;

use pilotfish::command::{AddTorrent, SaveResumeFlags};
use pilotfish::metainfo::resume::{FileStamp, Look, Resume, Stamps, Unfinished};
use pilotfish_plugin::TorrentState;
use pilotfish_tests::sim::{Content, Sim, talkative};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Told;

/// Five files, whose ends are not those of pieces.
fn content() -> &'static Content {
    static CONTENT: OnceLock<Content> = OnceLock::new();
    CONTENT.get_or_init(|| Content::folder(1, &[70_000, 1, 200_000, 32_768, 9_999], 32_768))
}

/// One record, and what becomes of it.
pub(crate) fn run(seed: u64) -> Told {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bytes = record(&mut rng).encode();
    for _ in 0..rng.random_range(0..4) {
        damage(&mut bytes, &mut rng);
    }
    let Ok(read) = Resume::decode(&bytes) else { return Told { steps: 1, hooks: 0 } };
    // Whatever it says, it can be written down and read again.
    assert_eq!(Resume::decode(&read.encode()).as_ref(), Ok(&read));
    start(seed, read, &mut rng);
    Told { steps: 2, hooks: 0 }
}

/// A record of the torrent that may be true.
fn record(rng: &mut StdRng) -> Resume {
    let layout = content().layout();
    let geometry = layout.geometry();
    let number =
        |rng: &mut StdRng| if rng.random() { rng.random_range(0..100_000) } else { rng.random::<i64>() };
    let mut resume = Resume::new(*content().metainfo.info_hashes());
    resume.pieces = geometry.pieces().map(|_| rng.random()).collect();
    for _ in 0..rng.random_range(0..4) {
        // Now and then one that does not exist.
        let end = geometry.num_pieces() + u32::from(rng.random_bool(0.1));
        let piece = rng.random_range(0..end);
        let blocks: Vec<bool> = (0..2).map(|_| rng.random()).collect();
        resume.unfinished.push(Unfinished::new(piece, &blocks));
    }
    let stamp =
        |rng: &mut StdRng, size| FileStamp { size, mtime: if rng.random() { EPOCH } else { number(rng) } };
    let files = layout.files().iter().map(|file| rng.random_bool(0.9).then(|| stamp(rng, file.length)));
    let files = files.collect();
    let since_then = rng.random::<bool>().then_some(EPOCH);
    let open = (0..rng.random_range(0..3)).map(|_| number(rng)).chain(since_then).collect();
    let boot = rng.random::<bool>().then(|| "boot".to_owned());
    resume.look = rng.random::<bool>().then_some(Look { stamps: Stamps { at: EPOCH, boot, files }, open });
    resume.info = rng.random::<bool>().then(|| content().metainfo.info_bytes().clone());
    resume.file_priorities = (0..rng.random_range(0..7)).map(|_| rng.random_range(0..8)).collect();
    resume.piece_priorities = (0..rng.random_range(0..20)).map(|_| rng.random_range(0..8)).collect();
    resume.peers = vec![([127, 0, 0, 1], rng.random()).into()];
    resume
}

/// When the files of a simulated disk were last modified.
const EPOCH: i64 = 1_700_000_000_000_000_000;

/// Changes, cuts out, doubles or inserts some bytes.
fn damage(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    let at = rng.random_range(0..bytes.len());
    let end = (at + rng.random_range(1..9)).min(bytes.len());
    match rng.random_range(0..5) {
        0 => bytes[at] = rng.random(),
        // Numbers and lengths, which are what makes sense elsewhere.
        1 => bytes[at] = b"0123456789:ilde-"[rng.random_range(0..16)],
        2 => drop(bytes.drain(at..end)),
        3 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        _ => bytes[at..end].fill(rng.random()),
    }
    if bytes.is_empty() {
        bytes.push(b'd');
    }
}

/// An engine takes the record for what it is: sooner or later it knows what is there, and can say so.
fn start(seed: u64, resume: Resume, rng: &mut StdRng) {
    let mut sim = Sim::new(seed);
    let node = sim.node_with(talkative());
    if rng.random_bool(0.9) {
        sim.disk(node).put(".", content());
    }
    let add = AddTorrent {
        save_path: Some(".".into()),
        paused: false,
        ..AddTorrent::from_resume(content().metainfo.clone(), resume)
    };
    let torrent = sim.add_as(node, add);
    let checking = [TorrentState::CHECKING_FILES, TorrentState::CHECKING_RESUME_DATA];
    sim.run_until(Duration::from_secs(60), |sim| !checking.contains(&sim.status(node, torrent).state));
    let again = sim.resume_data(node, torrent, SaveResumeFlags::NONE).unwrap();
    assert_eq!(Resume::decode(&again.encode()).unwrap(), *again);
}
