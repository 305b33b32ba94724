//! Plugins that are dropped into a folder see what libtorrent sends.

use std::fs;

use pilotfish_tests::program;
use serde_json::Value;

use crate::data::{BLOCK, Data};
use crate::peers::{Seed, download, start};
use crate::process::{Line, Process};
use crate::size;

#[test]
fn sample_plugins_see_every_block_of_a_download() {
    let size = size() + BLOCK + 1;
    let mut data = Data::new();
    data.add("payload.bin", &[("", size)]);
    let seed = Seed::of(&data);

    let mut pilotfish = download_with_sample_plugins(&data, &seed, size);
    pilotfish.wait_for_code(0);
    data.assert_arrived();

    let blocks = size.div_ceil(BLOCK);
    assert_eq!(pilotfish.last_event("finished")["downloaded_bytes"], size);
    assert_eq!(traced(&data, "peer0", "on_piece"), blocks);
    assert_eq!(traced(&data, "torrent", "on_piece_pass"), seed.pieces[0]);
    assert_eq!(traced(&data, "torrent", "new_connection"), 1);
    let remote = format!("[remote_ip]={}[local_ip]=", seed.address);
    for event in ["new connection 1", "on_connect", "add_handshak", "on_have_all", "on_disconnect"] {
        let is_said = |line: &Line| {
            let Line::Err(text) = line else { return false };
            text.starts_with("[peer-log] ") && text.contains(&remote) && text.contains(event)
        };
        assert!(
            pilotfish.printed.iter().any(is_said),
            "peer-log did not say {event}: {:#?}",
            pilotfish.printed
        );
    }
}

fn download_with_sample_plugins(data: &Data, seed: &Seed, size: u64) -> Process {
    let folder = data.path("plugins");
    fs::create_dir(&folder).unwrap();
    for package in ["pilotfish-peer-log", "pilotfish-trace"] {
        let library = program::sample_plugin(package);
        fs::copy(library, folder.join(library.file_name().unwrap())).unwrap();
    }
    let mut command = download(data, &[&seed.address]);
    command.arg("--plugin-dir").arg(&folder);
    command.arg("--plugin-set").arg(format!("trace.path={}", data.path("trace.jsonl").display()));
    let mut pilotfish = start(&mut command, size);
    let hello = pilotfish.wait_for("the plugins", |line| line.event("hello"));
    let active = |id: &str| {
        let plugins = hello["plugins"].as_array().unwrap();
        plugins.iter().any(|plugin| plugin["id"] == id && plugin["state"] == "active")
    };
    assert!(active("peer-log") && active("trace"), "{hello}");
    pilotfish
}

/// How often a hook of `who` was called, by the trace.
fn traced(data: &Data, who: &str, hook: &str) -> u64 {
    let trace = fs::read_to_string(data.path("trace.jsonl")).unwrap();
    let lines = trace.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["who"] == who && line["hook"] == hook).count() as u64
}
