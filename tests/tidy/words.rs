//! The project says nothing of the machines that it was written on, nor of where its parts are fetched from.

use crate::assert_tidy;
use crate::source::files;

/// Folders that are one person's, or one machine's. Put together, so that this file does not hold them.
const FOLDERS: [&str; 5] = [
    concat!("/", "work/"),
    concat!("/", "root/"),
    concat!("/", "home/"),
    concat!("/", "Users/"),
    concat!("C:", "\\"),
];

/// Hosts of package registries: what is installed is named, and the client knows where from.
const HOSTS: [&str; 8] = [
    concat!("crates", ".io"),
    concat!("py", "pi.org"),
    concat!("pythonhosted", ".org"),
    concat!("npm", "js.org"),
    concat!("npm", "js.com"),
    concat!("debian", ".org"),
    concat!("proxy.go", "lang.org"),
    concat!("maven", ".org"),
];

/// A folder's name at the start of a path, and not in the middle of one.
fn names_folder(line: &str, folder: &str) -> bool {
    let within = |c: char| c.is_alphanumeric() || "._-/$}".contains(c);
    line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(within))
}

fn found(name: &str, says: impl Fn(&str) -> Option<&'static str>) -> Vec<String> {
    let mut found = Vec::new();
    // Cargo writes the lock file, and the index of packages into it.
    for file in files(&["."]).iter().filter(|file| file.path != "Cargo.lock") {
        for (number, line) in file.text.lines().enumerate() {
            found.extend(says(line).map(|word| format!("{}:{}: {name} {word}", file.path, number + 1)));
        }
    }
    found
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    let folders = found("folder", |line| FOLDERS.into_iter().find(|folder| names_folder(line, folder)));
    assert_tidy("no file names a folder of one machine", &folders);
}

#[test]
fn no_file_names_the_host_of_a_registry() {
    let hosts = found("host", |line| HOSTS.into_iter().find(|host| line.contains(host)));
    assert_tidy("no file names the host of a registry", &hosts);
}

#[test]
fn a_folder_is_told_from_the_middle_of_a_path() {
    let work = concat!("/", "work/");
    assert!(names_folder(&format!("cd {work}main"), work));
    assert!(!names_folder(&format!("target{work}a $DIR{work}b ..{work}c"), work));
}
