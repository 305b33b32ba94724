//! The command line with input that is wrong: one clear line that names the file or the option, the documented exit code,
//! and nothing written.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pilotfish::metainfo::{CreateOptions, Creator};
use pilotfish_tests::program::{pilotfish, sample_plugin};

/// Runs the program in `folder`.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut program = Command::new(pilotfish());
    // Nothing of the user's.
    program.args(arguments).current_dir(folder).env("XDG_STATE_HOME", folder.join("state")).output().unwrap()
}

/// What the program printed for people.
fn errors(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    text.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect()
}

/// `download` refuses the torrent `name` in one line that names it and has `reason`, with exit code 4.
fn refuses(folder: &Path, name: &str, reason: &str) {
    let output = run(folder, &["download", name, "--output", "out"]);
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(4), "{name}: {errors:?}");
    assert_eq!(errors.len(), 1, "{name}: {errors:?}");
    assert!(errors[0].contains(name) && errors[0].contains(reason), "{name}: {errors:?}");
    assert!(!folder.join("out").exists(), "{name}: something was written");
}

/// A torrent with these info keys behind its name and piece length.
fn torrent(name: &str, rest: &str) -> Vec<u8> {
    let hashes = "x".repeat(40);
    format!("d4:infod{rest}4:name{}:{name}12:piece lengthi16384e6:pieces40:{hashes}ee", name.len())
        .into_bytes()
}

#[test]
fn a_torrent_that_is_none_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let whole = torrent("a", "6:lengthi20000e");
    fs::create_dir(folder.path().join("folder.torrent")).unwrap();
    write("text.torrent", b"hello, world\n");
    write("empty.torrent", b"");
    write("cut.torrent", &whole[..60]);
    write("count.torrent", &torrent("a", "6:lengthi90000e"));
    write("absolute.torrent", &torrent("/etc", "6:lengthi20000e"));
    write("above.torrent", &torrent("a", "5:filesld6:lengthi20000e4:pathl2:..3:etceee"));
    write("deep.torrent", &vec![b'd'; 40 << 20]);
    write("huge.torrent", &vec![b'd'; 100_000_000]);

    refuses(folder.path(), "missing.torrent", "cannot be read");
    refuses(folder.path(), "folder.torrent", "a directory");
    refuses(folder.path(), "text.torrent", "not a torrent");
    refuses(folder.path(), "empty.torrent", "not a torrent");
    refuses(folder.path(), "cut.torrent", "cut short");
    refuses(folder.path(), "count.torrent", "bytes of piece hashes");
    refuses(folder.path(), "absolute.torrent", "unsafe file path");
    refuses(folder.path(), "above.torrent", "unsafe file path");
    refuses(folder.path(), "deep.torrent", "not a torrent");
    refuses(folder.path(), "huge.torrent", "larger than");
}

#[test]
fn a_plugin_that_is_none_ends_the_program_before_anything_begins() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.torrent"), torrent("a", "6:lengthi20000e")).unwrap();
    fs::write(folder.path().join("notes.so"), "no library").unwrap();
    fs::create_dir(folder.path().join("folder.so")).unwrap();
    for (plugin, reason) in
        [("notes.so", "not a shared library"), ("folder.so", "a directory"), ("gone.so", "")]
    {
        let output = run(folder.path(), &["download", "a.torrent", "--plugin", plugin, "--output", "out"]);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(10), "{plugin}: {errors:?}");
        assert!(errors.len() == 1 && errors[0].contains(plugin) && errors[0].contains(reason), "{errors:?}");
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn a_plugin_that_does_not_like_its_settings_says_so_itself() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.torrent"), torrent("a", "6:lengthi20000e")).unwrap();
    let trace = sample_plugin("pilotfish-trace").to_str().unwrap();
    let output = run(folder.path(), &["download", "a.torrent", "--plugin", trace]);
    assert_eq!(output.status.code(), Some(10));
    assert!(errors(&output)[0].contains("the setting path is missing"), "{:?}", errors(&output));
}

#[test]
fn a_wrong_option_is_a_usage_error_that_names_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.torrent"), torrent("a", "6:lengthi20000e")).unwrap();
    let refused = |option: &[&str], words: &str| {
        let output = run(folder.path(), &[&["download", "a.torrent"], option].concat());
        assert_eq!(output.status.code(), Some(2), "{option:?}");
        assert!(errors(&output)[0].contains(words), "{option:?}: {:?}", errors(&output));
    };
    refused(&["--set", "conections_limit=5"], "did you mean connections_limit");
    refused(&["--set", "connections_limit=many"], "whole number");
    refused(&["--peer", "localhost"], "localhost");
    refused(&["--plugin-set", "ghost.key=1"], "ghost");
}

#[test]
fn what_is_missing_or_wrong_in_data_is_named_with_exit_code_5() {
    let folder = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let options = CreateOptions { piece_length: Some(16_384), ..CreateOptions::default() };
    let mut creator = Creator::file("data.bin", data.len() as u64, false, options).unwrap();
    creator.update(&data).unwrap();
    fs::write(folder.path().join("data.torrent"), creator.finish().unwrap()).unwrap();
    let verify = |code: i32, words: &str| {
        let output = run(folder.path(), &["verify", "data.torrent", "--data", "."]);
        let printed =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{printed}");
        assert!(printed.contains(words), "{printed}");
    };
    verify(5, "missing: data.bin");
    fs::write(folder.path().join("data.bin"), &data).unwrap();
    verify(0, "");
    let mut spoiled = data;
    spoiled[20_000] ^= 1;
    fs::write(folder.path().join("data.bin"), &spoiled).unwrap();
    verify(5, "bad pieces: 1");
}

/// Runs a session of a second with `trace`; the hooks that it saw.
fn traced(folder: &Path, options: &[&str]) -> String {
    let plugin = sample_plugin("pilotfish-trace").to_str().unwrap();
    let common = ["run", "--listen", "127.0.0.1:0", "--stop-after", "1s", "--plugin", plugin, "--plugin-set"];
    let output = run(folder, &[&common[..], &["trace.path=trace.jsonl"], options].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    fs::read_to_string(folder.join("trace.jsonl")).unwrap()
}

#[test]
fn what_a_plugin_keeps_is_there_in_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let loads = |trace: String| trace.contains("\"load_state\"");
    assert!(!loads(traced(folder.path(), &[])));
    assert!(loads(traced(folder.path(), &[])));
    assert!(!loads(traced(folder.path(), &["--no-state"])));
    assert!(!loads(traced(folder.path(), &["--state-dir", "elsewhere"])));
    assert!(loads(traced(folder.path(), &["--state-dir", "elsewhere"])));
    let file = folder.path().join("state/pilotfish/plugins.state");
    assert_eq!(fs::read(file).unwrap(), b"d5:traced5:trace1:1ee");
}

#[test]
fn a_damaged_state_file_is_named_and_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("plugins.state"), "d5:traced").unwrap();
    let output =
        run(folder.path(), &["run", "--stop-after", "1s", "--listen", "127.0.0.1:0", "--state-dir", "kept"]);
    let text = String::from_utf8(output.stderr).unwrap();
    let warning = text.lines().find(|line| line.starts_with("warning: ")).unwrap_or_default();
    assert!(
        warning.contains("plugins.state: damaged") && warning.contains("plugins.state.damaged"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fs::read(kept.join("plugins.state.damaged")).unwrap(), b"d5:traced");
}
