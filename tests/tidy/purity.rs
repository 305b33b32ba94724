//! Layers 0 to 4 read no clock, spawn nothing, open nothing and draw no randomness of their own: what they need of these
//! is an argument. That is what lets a whole swarm run in a test, on a clock that the test turns.

use crate::assert_tidy;
use crate::layers::layer_of;
use crate::source::{Source, rust};

/// A name that must not stand in the pure layers, and what to do instead.
const BANS: &[(&str, &str)] = &[
    ("Instant::now", "the time is an argument"),
    ("SystemTime::now", "the time is an argument"),
    ("std::thread", "threads belong to `disk` and `net`"),
    ("thread::spawn", "threads belong to `disk` and `net`"),
    ("thread::sleep", "ask for a deadline"),
    ("std::process::Command", "start no programs"),
    ("std::fs", "ask the disk for a job"),
    ("File::open", "ask the disk for a job"),
    ("File::create", "ask the disk for a job"),
    ("OpenOptions::new", "ask the disk for a job"),
    ("TcpStream", "sockets belong to `net`"),
    ("TcpListener", "sockets belong to `net`"),
    ("UdpSocket", "sockets belong to `net`"),
    ("UnixStream", "sockets belong to `net`"),
    ("socket2", "sockets belong to `net`"),
    ("tokio", "the runtime belongs to `net`"),
    ("rand::rng", "the generator is an argument"),
    ("rand::random", "the generator is an argument"),
    ("rand::make_rng", "the generator is an argument"),
    ("thread_rng", "the generator is an argument"),
    ("ThreadRng", "the generator is an argument"),
    ("SysRng", "the generator is an argument"),
    ("OsRng", "the generator is an argument"),
    ("getrandom", "the generator is an argument"),
];

/// Where a ban does not hold, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("host/src/plugins/directory.rs", "std::fs", "looks into the plugin directory, before the engine runs"),
    ("host/src/plugins/loader.rs", "std::fs", "copies the file that it opens, before the engine runs"),
    ("host/src/plugins/manifest.rs", "std::fs", "reads the file before it is loaded, before the engine runs"),
    (
        "host/src/plugins/manifest.rs",
        "File::open",
        "reads the file before it is loaded, before the engine runs",
    ),
];

fn is_pure(source: &Source) -> bool {
    !source.is_test() && layer_of(source).is_some_and(|layer| layer <= 4)
}

/// The lines of `source` that name what is banned, with the ban.
fn offences(source: &Source) -> Vec<(usize, &'static str, &'static str)> {
    let mentions = source.mentions();
    let bans = |line: usize, names: &dyn Fn(&str) -> bool| {
        BANS.iter()
            .filter(|(ban, _)| names(ban))
            .map(move |(ban, mend)| (line, *ban, *mend))
            .collect::<Vec<_>>()
    };
    mentions.iter().flat_map(|mention| bans(mention.line, &|ban| mention.names(ban))).collect()
}

fn is_excepted(path: &str, ban: &str) -> bool {
    EXCEPTIONS.iter().any(|(file, name, _)| *file == path && *name == ban)
}

#[test]
fn the_pure_layers_touch_nothing_of_the_outside() {
    let mut found = Vec::new();
    for source in rust(&["plugin-api/src", "host/src"]).into_iter().filter(is_pure) {
        for (line, ban, mend) in offences(&source) {
            if !is_excepted(&source.path, ban) {
                found.push(format!("{}:{line}: {ban}: {mend}", source.path));
            }
        }
    }
    assert_tidy("layers 0 to 4 read no clock, spawn nothing, open nothing, draw no randomness", &found);
}

#[test]
fn no_exception_has_outlived_its_reason() {
    let sources = rust(&["host/src/plugins"]);
    let unused = EXCEPTIONS.iter().filter(|(file, ban, _)| {
        let source = sources.iter().find(|source| source.path == *file);
        source.is_none_or(|source| !offences(source).iter().any(|(_, name, _)| name == ban))
    });
    let found: Vec<String> = unused.map(|(file, ban, _)| format!("{file}: names {ban} no more")).collect();
    assert_tidy("an exception is needed", &found);
}

#[test]
fn the_bans_see_through_the_ways_to_spell_a_name() {
    let banned = |text: &str| {
        let source = Source { path: "host/src/engine/tick.rs".into(), text: text.into() };
        !offences(&source).is_empty()
    };
    assert!(banned("use std::{fs, io};"));
    assert!(banned("use std::time; fn f() { let t = time::Instant::now(); }"));
    assert!(banned("use tokio::time::sleep;"));
    assert!(banned("let x = rand::rng();"));
    assert!(!banned("use std::net::SocketAddr; use rand::rngs::StdRng; use std::time::Instant;"));
    assert!(!banned("#[cfg(test)] mod tests { fn f() { std::time::Instant::now(); } }"));
}
