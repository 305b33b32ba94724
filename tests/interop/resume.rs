//! Records of what is there: downloads that are killed, data that is changed behind our back, and libtorrent's resume data.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use pilotfish_tests::{program, venv};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;

use crate::data::{BLOCK, Data, MIB, PIECE};
use crate::peers::{self, Seed, start};
use crate::process::{Line, Process};

/// How often the download is killed.
const KILLS: usize = 100;
/// Bytes per second at which it takes about that long.
const SLOW: u64 = 6 * MIB;

/// `pilotfish` with a state folder of the test's own.
fn pilotfish(data: &Data, command: &str) -> Command {
    let mut program = Command::new(program::pilotfish());
    program.arg(command).args(&data.torrents).arg("--json").arg("--state-dir").arg(data.path("state"));
    program.args(["--no-plugins", "--listen", "127.0.0.1:0"]);
    program
}

fn download(data: &Data, peer: &str) -> Command {
    let mut program = pilotfish(data, "download");
    program.arg("--output").arg(data.arrived()).args(["--peer", peer]);
    program
}

fn seed(data: &Data) -> Command {
    let mut program = pilotfish(data, "seed");
    program.arg("--data").arg(data.complete());
    program
}

/// The only record in the state folder.
fn record(data: &Data) -> PathBuf {
    let mut files = fs::read_dir(data.path("state/resume")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|file| file.extension().is_some_and(|end| end == "resume"));
    file.unwrap()
}

fn number(fields: Option<Value>, key: &str) -> Option<u64> {
    fields?[key].as_u64()
}

fn finished_piece(line: &Line) -> Option<u64> {
    number(line.alert("piece_finished"), "piece")
}

fn checked_pieces(line: &Line) -> Option<u64> {
    number(line.alert("torrent_checked"), "pieces")
}

fn rejection(line: &Line) -> Option<String> {
    Some(line.alert("fastresume_rejected")?["error"].as_str()?.to_owned())
}

/// Whether it hashed anything that was there.
fn has_checked(lines: &[Line]) -> bool {
    let checks =
        |line: &Line| line.alert("state_changed").filter(|fields| fields["state"] == "checking_files");
    lines.iter().any(|line| checks(line).is_some())
}

/// Kills the process at some moment: a while after it was started, or after it has finished a few pieces.
fn kill_somewhen(mut process: Process, rng: &mut StdRng) -> Vec<Line> {
    if rng.random() {
        for _ in 0..rng.random_range(1..4) {
            process.wait_for("a finished piece", |line| {
                // The seed may still believe that the process before is alive.
                finished_piece(line).map(drop).or_else(|| line.event("finished").map(drop))
            });
        }
        thread::sleep(Duration::from_millis(rng.random_range(0..20)));
    } else {
        thread::sleep(Duration::from_millis(rng.random_range(0..150)));
    }
    process.kill()
}

#[test]
fn a_download_that_is_killed_a_hundred_times_fetches_nothing_twice_that_was_verified() {
    let seed = RandomState::new().build_hasher().finish();
    println!("killed by seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut data = Data::new();
    data.add("folder", &[("a", 100 * PIECE + 5), ("b/c", 60 * PIECE - 99), ("d", 300 * PIECE)]);
    let source = Seed::start(&data, &data.complete(), "127.0.0.1:0", Some(SLOW));
    let mut verified = BTreeSet::new();
    let mut again = Vec::new();
    let mut lives = 0;
    let mut live = |lines: &[Line], verified: &mut BTreeSet<u64>| {
        let before = verified.len() as u64;
        if let Some(found) = lines.iter().find_map(checked_pieces) {
            assert!(found >= before, "of {before} verified pieces {found} were found");
            lives += 1;
        }
        let rejected: Vec<String> = lines.iter().filter_map(rejection).collect();
        assert!(rejected.is_empty(), "{rejected:?}");
        for piece in lines.iter().filter_map(finished_piece) {
            if !verified.insert(piece) {
                again.push(piece);
            }
        }
    };
    for _ in 0..KILLS {
        let process = start(&mut download(&data, &source.address), 0);
        let lines = kill_somewhen(process, &mut rng);
        live(&lines, &mut verified);
    }
    let done = verified.len();
    let mut last = start(&mut download(&data, &source.address), 0);
    last.wait_for_code(0);
    live(&last.printed, &mut verified);
    data.assert_arrived();
    assert!(again.is_empty(), "{again:?} were fetched again");
    assert!(done > 20 && done < 460, "{done} pieces: it was not killed in the midst of the download");
    assert!(lives > KILLS / 4, "only {lives} lives lasted until the data was looked at");
}

#[test]
fn a_seed_that_was_here_before_starts_at_once_and_sees_what_was_changed() {
    let mut data = Data::new();
    data.add("folder", &[("a", 3 * MIB), ("b", 2 * MIB)]);
    let run = |command: &mut Command| {
        let mut seed = start(command, 0);
        seed.wait_for("data", |line| line.event("finished"));
        seed.interrupt();
        seed.wait_for_code(130);
        std::mem::take(&mut seed.printed)
    };
    assert!(has_checked(&run(&mut seed(&data))));
    assert!(!has_checked(&run(&mut seed(&data))));
    assert!(has_checked(&run(seed(&data).arg("--recheck"))));
    assert!(!has_checked(&run(&mut seed(&data))));

    // Only a new time: the data is right.
    let file = data.complete().join("folder/b");
    let touch = |seconds| {
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    };
    touch(1_000_000_000);
    let lines = run(&mut seed(&data));
    assert!(has_checked(&lines));
    assert!(lines.iter().find_map(rejection).unwrap().ends_with("b: it was modified since"));
    assert!(!has_checked(&run(&mut seed(&data))));

    // Other data under a new time: said so, and not seeded.
    let mut bytes = fs::read(&file).unwrap();
    bytes[MIB as usize] ^= 1;
    fs::write(&file, bytes).unwrap();
    touch(1_100_000_000);
    let mut program = start(&mut seed(&data), 0);
    program.wait_for_code(5);
    assert!(program.printed.iter().any(|line| rejection(line).is_some()));
}

#[test]
fn a_record_that_is_damaged_is_put_aside_and_named_and_nothing_is_fetched_again() {
    let mut data = Data::new();
    data.add("payload.bin", &[("", 40 * PIECE)]);
    let source = Seed::of(&data);
    start(&mut download(&data, &source.address), 0).wait_for_code(0);
    let record = record(&data);
    for damaged in [&b"garbage"[..], b"", b"d11:file-format22:libtorrent resume file12:file-versioni9ee"] {
        fs::write(&record, damaged).unwrap();
        let mut again = start(&mut download(&data, &source.address), 0);
        again.wait_for_code(0);
        let aside = record.with_extension("resume.damaged");
        let said = |line: &&Line| {
            let text = line.text();
            text.starts_with("warning: ")
                && [&record, &aside].iter().all(|file| text.contains(&*file.to_string_lossy()))
        };
        assert!(again.printed.iter().any(|line| said(&line)), "{:?}", again.printed);
        assert_eq!(again.last_event("finished")["downloaded_bytes"], 0);
        assert_eq!(fs::read(&aside).unwrap(), damaged);
    }
}

#[test]
fn a_magnet_link_that_was_killed_goes_on_without_its_metadata_being_asked_for() {
    let mut data = Data::new();
    data.add("payload.bin", &[("", 100 * PIECE)]);
    let source = Seed::start(&data, &data.complete(), "127.0.0.1:0", Some(SLOW));
    peers::name_by_links(&mut data);
    let mut process = start(&mut download(&data, &source.address), 0);
    process.wait_for("a record", |line| line.alert("save_resume_data"));
    for _ in 0..3 {
        process.wait_for("a finished piece", finished_piece);
    }
    process.kill();
    let mut process = start(&mut download(&data, &source.address), 0);
    process.wait_for_code(0);
    assert!(!process.printed.iter().any(|line| line.event("metadata").is_some()));
    data.assert_arrived();
}

/// `resume.py` in this role.
fn python(role: &str) -> Command {
    let mut command = Command::new(venv::python());
    command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/interop/resume.py"), role]);
    command
}

/// Runs it, and returns what it printed.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What libtorrent makes of resume data.
fn understood(file: &Path) -> Value {
    serde_json::from_str(&said(python("read").arg(file))).unwrap()
}

#[test]
fn a_download_that_libtorrent_has_begun_goes_on_from_its_resume_data() {
    let mut data = Data::new();
    data.add("folder", &[("a", 20 * PIECE + 5), ("b", 60 * PIECE)]);
    let (_source, address) = peers::seed(&data, "127.0.0.1:0");
    let out = data.path("libtorrent.resume");
    let mut libtorrent = python("make");
    libtorrent.arg(&data.torrents[0]).arg("--dir").arg(data.arrived()).arg("--out").arg(&out);
    said(libtorrent.args(["--peer", &address, "--listen", "127.0.0.1:0", "--pieces", "15"]));
    let understood = understood(&out);
    let (pieces, all) = (understood["pieces"].as_u64().unwrap(), understood["all"].as_u64().unwrap());
    let blocks: u64 = understood["unfinished"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert!((15..all).contains(&pieces), "{understood}");

    let folder = data.path("state/resume");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(&out, folder.join(format!("{}.resume", understood["info_hash"].as_str().unwrap()))).unwrap();
    let mut process = start(&mut download(&data, &address), 0);
    process.wait_for_code(0);
    assert_eq!(process.printed.iter().find_map(checked_pieces), Some(pieces));
    assert!(!has_checked(&process.printed));
    data.assert_arrived();
    let fetched = process.last_event("finished")["downloaded_bytes"].as_u64().unwrap();
    let total = process.last_event("finished")["total_bytes"].as_u64().unwrap();
    // The last piece is shorter than the others.
    let rest = total - pieces * PIECE - blocks * BLOCK;
    assert!((rest..rest + PIECE).contains(&fetched), "{fetched} of {rest} bytes; {understood}");
}

#[test]
fn libtorrent_understands_our_records() {
    let mut data = Data::new();
    data.add("payload.bin", &[("", 100 * PIECE)]);
    let source = Seed::start(&data, &data.complete(), "127.0.0.1:0", Some(SLOW));
    let mut process = start(&mut download(&data, &source.address), 0);
    for _ in 0..20 {
        process.wait_for("a finished piece", finished_piece);
    }
    process.interrupt();
    process.wait_for_code(130);
    let pieces = process.printed.iter().filter_map(finished_piece).count();
    let understood = understood(&record(&data));
    assert_eq!(understood["all"], 100);
    assert_eq!(understood["pieces"], pieces, "{understood}");
    assert_eq!(understood["metadata"], true);
    assert_eq!(understood["save_path"], data.arrived().to_str().unwrap());
    assert_eq!(understood["peers"], serde_json::json!([source.address]));
    assert!(understood["total_downloaded"].as_u64().unwrap() >= pieces as u64 * PIECE);
    let file = record(&data);
    assert_eq!(file.file_stem().unwrap().to_str(), understood["info_hash"].as_str());
}
