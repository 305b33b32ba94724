#![allow(clippy::unwrap_used)]

use pilotfish_plugin::rt::API_MINOR;

use super::*;

/// A manifest as it stands in a file, with `value` at `at`.
fn raw(at: usize, value: &[u8]) -> Vec<u8> {
    let mut raw = vec![0; size_of::<Wire>()];
    let size = (size_of::<Wire>() as u32).to_ne_bytes();
    for (at, value) in [
        (offset_of!(Wire, magic), &MAGIC[..]),
        (offset_of!(Wire, size), &size),
        (offset_of!(Wire, api_major), &API_MAJOR.to_ne_bytes()),
        (offset_of!(Wire, api_minor), &API_MINOR.to_ne_bytes()),
        (offset_of!(Wire, binding), &BINDING_RUST.to_ne_bytes()),
        (offset_of!(Wire, panic_strategy), &[PANIC_UNWIND]),
        (offset_of!(Wire, id), b"\x08peer-log"),
        (offset_of!(Wire, version), b"\x050.3.1"),
        (offset_of!(Wire, description), b"\x0aLogs peers"),
        (at, value),
    ] {
        raw[at..at + value.len()].copy_from_slice(value);
    }
    raw
}

fn with(at: usize, value: &[u8]) -> Result<Manifest, Problem> {
    decode(&raw(at, value), Target::host(), 4096)
}

/// What `inspect` says of a file with this name and content.
fn said(name: &str, content: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    inspect(&path).unwrap_err().to_string()
}

#[test]
fn a_manifest_is_read_as_it_was_written() {
    let manifest = with(0, b"").unwrap();
    assert_eq!(
        (&*manifest.id, &*manifest.version, &*manifest.description),
        ("peer-log", "0.3.1", "Logs peers")
    );
    assert_eq!((manifest.api, manifest.file_size), ((API_MAJOR, API_MINOR), 4096));
}

#[test]
fn a_newer_and_longer_manifest_of_the_same_major_is_read() {
    let mut longer = raw(offset_of!(Wire, api_minor), &(API_MINOR + 1).to_ne_bytes());
    longer.extend([0; 64]);
    longer[offset_of!(Wire, size)..][..4].copy_from_slice(&(size_of::<Wire>() as u32 + 64).to_ne_bytes());
    assert_eq!(decode(&longer, Target::host(), 1).unwrap().api, (API_MAJOR, API_MINOR + 1));
}

#[test]
fn each_field_that_does_not_fit_is_named() {
    let id = offset_of!(Wire, id);
    for (at, value, expected) in [
        (0, &b"nonsense"[..], "it does not begin as one"),
        (offset_of!(Wire, size), &8u32.to_ne_bytes(), "it is too short"),
        (
            offset_of!(Wire, api_major),
            &(API_MAJOR + 1).to_ne_bytes(),
            "rebuild it against pilotfish-plugin 1",
        ),
        (offset_of!(Wire, binding), &2u16.to_ne_bytes(), "binding 2"),
        (offset_of!(Wire, panic_strategy), &[2], "panic = \"unwind\""),
        (id, &[0], "its name \"\""),
        (id, b"\x08Peer/Log", "its name \"Peer/Log\""),
    ] {
        let error = with(at, value).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_major_version_is_told_before_anything_that_it_may_have_changed() {
    let mut other = raw(offset_of!(Wire, api_major), &(API_MAJOR + 1).to_ne_bytes());
    other[offset_of!(Wire, size)..].fill(0);
    other[offset_of!(Wire, api_major)] = 7;
    assert!(matches!(decode(&other, Target::host(), 1), Err(Problem::WrongApi { .. })));
}

#[test]
fn what_a_manifest_says_cannot_break_a_line() {
    let manifest = with(offset_of!(Wire, description), b"\x04a\nb\x1b").unwrap();
    assert_eq!(manifest.description, "a\u{fffd}b\u{fffd}");
}

#[test]
fn a_text_with_an_impossible_length_is_cut() {
    let manifest = with(offset_of!(Wire, description), &[255; 128]).unwrap();
    assert_eq!(manifest.description.chars().count(), 127);
}

#[test]
fn files_that_are_no_libraries_are_told_apart() {
    assert_eq!(said("notes.txt", b"Buy milk, and a plugin."), "notes.txt: not a shared library");
    assert_eq!(said("empty.so", b""), "empty.so: not a shared library: the file is empty");
    assert_eq!(said("d.so", b"d\x86 looks like COFF, but is not"), "d.so: not a shared library");
    assert_eq!(said("page.so", &[0; 4096]), "page.so: not a shared library");
    assert!(said("short.so", b"\x7fELF\x02").starts_with("short.so: cut off: the header ends at byte "));
}

#[test]
fn a_directory_and_a_missing_file_are_no_libraries() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.so");
    assert!(
        inspect(&path).unwrap_err().to_string().starts_with(&format!("{}: cannot be read: ", path.display()))
    );
    fs::create_dir(&path).unwrap();
    assert_eq!(inspect(&path).unwrap_err().to_string(), "x.so: a directory, not a library");
}

/// The tests' own binary is the one ELF file that is always at hand.
#[cfg(all(unix, not(target_vendor = "apple")))]
mod elf {
    use super::*;

    fn this_test() -> Vec<u8> {
        fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_binary_without_the_symbol_is_no_plugin() {
        let error = inspect(&std::env::current_exe().unwrap()).unwrap_err();
        assert!(matches!(error.problem, Problem::NoManifest), "{error}");
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_is_refused_before_it_is_mapped() {
        let whole = this_test();
        for length in [16, 40, 64, 200, 4096, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            let problem = judge(&whole[..length]).unwrap_err();
            assert!(
                matches!(problem, Problem::CutOff { size, .. } if size == length as u64),
                "{length}: {problem}"
            );
        }
    }

    #[test]
    fn a_file_for_another_processor_or_system_is_named_as_such() {
        let (machine, os_abi) = (18, 7);
        let foreign = match std::env::consts::ARCH {
            "s390x" => object::elf::EM_AARCH64,
            _ => object::elf::EM_S390,
        };
        for (at, value) in [(machine, &foreign.to_ne_bytes()[..]), (os_abi, &[6])] {
            let mut other = this_test();
            other[at..at + value.len()].copy_from_slice(value);
            let Err(Problem::WrongTarget { built_for, host }) = judge(&other) else { panic!("not refused") };
            assert_ne!(built_for.to_string(), host.to_string());
        }
    }

    #[test]
    fn a_file_with_damaged_bytes_is_judged_without_a_panic() {
        let mut bytes = this_test();
        // Headers at the beginning, tables at the end: every byte of the first, and a grid over the last.
        let tail = bytes.len() - 4096;
        for at in (0..512).chain((tail..bytes.len()).step_by(97)) {
            let before = bytes[at];
            bytes[at] = !before;
            let _ = judge(&bytes);
            bytes[at] = before;
        }
    }
}
