//! The sample plugin `chat`, between engines of one simulation.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use pilotfish::alert::AlertKind;
use pilotfish::command::Command;
use pilotfish::plugins::{PluginLibrary, load};
use pilotfish_plugin::USER_ALERT_ID;
use pilotfish_tests::fixtures;
use pilotfish_tests::sim::{Content, NodeId, Sim};

fn library() -> PluginLibrary {
    load(fixtures::library("pilotfish-chat")).unwrap()
}

/// A seed and a leech that know of each other.
fn meet(sim: &mut Sim, seed: NodeId, leech: NodeId) {
    let content = Content::random(50, 100_000, 32_768);
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
}

/// What a node heard, as it was posted.
fn heard(sim: &Sim, node: NodeId) -> Vec<String> {
    let lines = sim.alerts(node).filter_map(|alert| match alert {
        AlertKind::Custom(custom) if custom.what == "chat_line" => {
            assert!(custom.alert_type > USER_ALERT_ID && custom.plugin_name == "chat");
            assert!(custom.message.starts_with("10.0.0.") && custom.message.ends_with(&logged(custom)));
            Some(String::from_utf8(custom.payload.clone()).unwrap())
        }
        _ => None,
    });
    lines.collect()
}

fn logged(custom: &pilotfish::alert::CustomAlert) -> String {
    format!(": {}", String::from_utf8_lossy(&custom.payload))
}

/// Lets time pass until something is so that waits for a real thread, which no clock of the simulation turns.
fn wait(sim: &mut Sim, mut done: impl FnMut(&Sim) -> bool) {
    let start = Instant::now();
    while !done(sim) {
        assert!(start.elapsed() < Duration::from_secs(60), "{sim:?}");
        // Or virtual days would pass meanwhile.
        std::thread::sleep(Duration::from_millis(1));
        sim.run_for(Duration::from_millis(100));
    }
}

#[test]
fn lines_from_a_thread_arrive_in_order_on_both_sides() {
    let mut sim = Sim::new(50);
    let [seed, leech] = [sim.node(), sim.node()];
    let folder = tempfile::tempdir().unwrap();
    let files = [folder.path().join("seed"), folder.path().join("leech")];
    for (node, file) in [seed, leech].into_iter().zip(&files) {
        std::fs::write(file, "before anybody came\n").unwrap();
        sim.load(node, &library(), &[("file", file.to_str().unwrap()), ("say", "first of all")]);
    }
    meet(&mut sim, seed, leech);
    let mut said = vec!["first of all".to_owned(), "before anybody came".to_owned()];
    wait(&mut sim, |sim| [seed, leech].iter().all(|node| heard(sim, *node) == said));
    // More lines than the mailbox holds, in portions that end where they like.
    let lines: Vec<String> = (0..300).map(|i| format!("line {i}")).collect();
    let text = format!("{}\n", lines.join("\n"));
    let (front, back) = text.split_at(1_000);
    for part in [front, back] {
        for file in &files {
            OpenOptions::new().append(true).open(file).unwrap().write_all(part.as_bytes()).unwrap();
        }
    }
    said.extend(lines);
    wait(&mut sim, |sim| [seed, leech].iter().all(|node| heard(sim, *node).len() >= said.len()));
    assert_eq!([heard(&sim, seed), heard(&sim, leech)], [said.clone(), said.clone()]);
    let log: Vec<&String> = (sim.alerts(leech))
        .filter_map(|alert| match alert {
            AlertKind::Log { plugin, text, .. } if plugin == "chat" => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(log.len(), said.len());
    assert_eq!(*log[0], "10.0.0.1:6881: first of all");
    sim.command(leech, Command::Shutdown);
    sim.run_until(Duration::from_secs(10), |sim| sim.at(leech).stopped);
}

#[test]
fn a_line_waits_for_the_first_who_speaks_chat() {
    let mut sim = Sim::new(51);
    let [seed, mute, leech] = [sim.node(), sim.node(), sim.node()];
    sim.load(seed, &library(), &[("say", "hello\u{1b}[2J")]);
    sim.load(leech, &library(), &[]);
    let content = Content::random(51, 100_000, 32_768);
    sim.seed(seed, &content);
    // Who does not speak it gets the torrent, and no line.
    let torrent = sim.add(mute, &content);
    sim.introduce(mute, torrent, seed);
    sim.run_until_finished(Duration::from_secs(300), &[(mute, torrent)]);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    wait(&mut sim, |sim| !heard(sim, leech).is_empty());
    // What could move a cursor is not shown.
    assert_eq!(heard(&sim, leech), ["hello\u{fffd}[2J"]);
    sim.run_until_finished(Duration::from_secs(300), &[(leech, torrent)]);
}

#[test]
fn a_file_that_is_not_there_is_named_in_the_log() {
    let mut sim = Sim::new(52);
    let node = sim.node();
    sim.load(node, &library(), &[("file", "no-such-folder/chat")]);
    let complains = |sim: &Sim| {
        sim.alerts(node).any(|alert| match alert {
            AlertKind::Log { text, .. } => text.starts_with("cannot read no-such-folder/chat: "),
            _ => false,
        })
    };
    wait(&mut sim, complains);
}
