//! Files that are no plugins, or none for this host: each gets one line that names it and says what to do.

use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};

use pilotfish::plugins::{load, scan};
use pilotfish_plugin::rt::{MAGIC, Manifest};
use pilotfish_tests::fixtures;
use tempfile::TempDir;

/// A directory of plugins.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name).with_extension(std::env::consts::DLL_EXTENSION)
    }

    /// A file that only its owner may write to.
    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, bytes).unwrap();
        set_mode(&path, 0o755);
        path
    }

    /// What becomes of each file, without its suffix: `ok`, or what is said of it after its name.
    fn said(&self) -> Vec<(String, String)> {
        let suffix = format!(".{}", std::env::consts::DLL_EXTENSION);
        let of = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let found = scan(self.0.path()).unwrap().into_iter();
        let said = found.map(|found| {
            let name = of(&found.path);
            let text = match found.manifest.and_then(|_| load(&found.path)) {
                Ok(_) => "ok".to_owned(),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!error.contains('\n'), "one line: {error}");
                    let rest = error.strip_prefix(&format!("{name}: "));
                    rest.unwrap_or_else(|| panic!("it should begin with {name}: {error}")).to_owned()
                }
            };
            (name.trim_end_matches(&suffix).to_owned(), text.replace(&suffix, ""))
        });
        said.collect()
    }

    /// What becomes of the only file.
    fn verdict(&self) -> String {
        let mut said = self.said();
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0).1
    }
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) {}

fn bytes_of(package: &str) -> Vec<u8> {
    fs::read(fixtures::library(package)).unwrap()
}

/// A library whose manifest says something else.
fn patched(package: &str, at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = bytes_of(package);
    let manifests: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i..].starts_with(&MAGIC)).collect();
    let [start] = manifests[..] else { panic!("{package} has its manifest once: {manifests:?}") };
    bytes[start + at..start + at + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn a_directory_in_which_every_file_is_wrong_in_its_own_way_gets_a_line_for_each() {
    let directory = Directory::new();
    fs::create_dir(directory.file("a-directory")).unwrap();
    directory.write("b-text", b"dear plugin, do something\n");
    directory.write("c-empty", b"");
    directory.write("d-script", b"#!/bin/sh\necho plugin\n");
    directory.write("e-no-entry", &bytes_of("fixture-silent"));
    directory.write("f-major", &bytes_of("fixture-2-0"));
    directory.write("g-changed", &bytes_of("fixture-changed"));
    directory.write("h-good", &bytes_of("fixture-versioned"));
    directory.write("i-again", &bytes_of("fixture-versioned"));
    let good = directory.0.path().join("h-good");
    let expected = [
        ("a-directory", "a directory, not a library"),
        ("b-text", "not a shared library"),
        ("c-empty", "not a shared library: the file is empty"),
        ("d-script", "not a shared library"),
        (
            "e-no-entry",
            "no Pilotfish plugin: it has no symbol pilotfish_plugin_manifest (is export_plugin! missing?)",
        ),
        ("f-major", "built for plugin API 2.0, this host has 1.1: rebuild it against pilotfish-plugin 1"),
        (
            "g-changed",
            "built for plugin API 1.1, which differs from this host's 1.1 in hook PeerPlugin::on_have, argument piece: \
             expected PieceIndex, found u64: rebuild it against pilotfish-plugin 1.1",
        ),
        ("h-good", "ok"),
        (
            "i-again",
            &format!("shadowed: {} has a plugin of the same name, fixture-versioned", good.display()),
        ),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    assert_eq!(directory.said(), expected);
}

#[cfg(target_os = "linux")]
#[test]
fn a_library_that_is_cut_off_anywhere_is_refused_before_it_is_mapped() {
    let whole = bytes_of("fixture-versioned");
    let directory = Directory::new();
    for len in [
        4,
        15,
        16,
        63,
        64,
        500,
        4096,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() * 9 / 10,
        whole.len() - 1,
    ] {
        directory.write("cut", &whole[..len]);
        let said = directory.verdict();
        let bytes = format!(" of {len}: copy it again");
        assert!(said.starts_with("cut off: ") && said.ends_with(&bytes), "cut at {len}: {said}");
    }
}

#[test]
fn a_plugin_that_would_abort_on_panic_does_not_compile_and_is_not_loaded() {
    let said = fixtures::refusal("fixture-aborting", "-Cpanic=abort");
    let expected =
        "error: plugins must be built with panic = \"unwind\": with \"abort\" one panic ends the host";
    assert!(said.contains(expected), "{said}");
    // As one that was built with another macro.
    let directory = Directory::new();
    directory.write("aborts", &patched("fixture-versioned", offset_of!(Manifest, panic_strategy), &[2]));
    let expected = "built with panic = \"abort\", so that one panic would end the host: rebuild it with panic = \"unwind\"";
    assert_eq!(directory.verdict(), expected);
}

#[test]
fn a_manifest_that_lies_about_its_minor_version_is_found_out() {
    let directory = Directory::new();
    directory.write("liar", &patched("fixture-1-0", offset_of!(Manifest, api_minor), &2u16.to_ne_bytes()));
    let said = directory.verdict();
    let expected = "built for plugin API 1.2, which differs from this host's 1.1 in ";
    assert!(said.starts_with(expected) && said.contains("number of parts: "), "{said}");
}

#[cfg(unix)]
#[test]
fn what_others_may_write_to_is_refused_with_the_command_that_mends_it() {
    let directory = Directory::new();
    let path = directory.write("open", &bytes_of("fixture-versioned"));
    set_mode(&path, 0o775);
    let mend = |path: &Path| {
        let path = path.display().to_string().replace(&format!(".{}", std::env::consts::DLL_EXTENSION), "");
        format!("not safe to load: others than its owner may write to {path}: chmod go-w {path}")
    };
    assert_eq!(directory.verdict(), mend(&path));
    set_mode(&path, 0o755);
    set_mode(directory.0.path(), 0o777);
    assert_eq!(directory.verdict(), mend(directory.0.path()));
    set_mode(directory.0.path(), 0o700);
    assert_eq!(directory.verdict(), "ok");
}

#[test]
fn a_library_that_was_replaced_while_it_is_loaded_is_not_taken_for_the_new_one() {
    let directory = Directory::new();
    let path = directory.write("plugin", &bytes_of("fixture-versioned"));
    assert_eq!(directory.verdict(), "ok");
    fs::remove_file(&path).unwrap();
    directory.write("plugin", &bytes_of("fixture-panicker"));
    let said = directory.verdict();
    // The system may tell them apart by itself.
    assert!(
        ["ok", "another version of it is already loaded from this path: reload it, or restart"]
            .contains(&&*said),
        "{said}"
    );
    let copy = pilotfish::plugins::load_copy(&path, directory.0.path()).unwrap();
    assert_eq!((copy.id.as_str(), copy.path), ("fixture-panicker", path));
}
