use std::collections::BTreeSet;
use pilotfish::alert::AlertKind;
use pilotfish::plugins::load;
use pilotfish_plugin::{PeerHooks, SessionHooks, TorrentHooks, CipherHooks};
use pilotfish_tests::fixtures;
use crate::tour::{self, Guest};

fn every_hook() -> Vec<String> {
    let names = |who: &str, names: &[&str]| names.iter().map(|name| format!("{who}.{name}")).collect::<Vec<_>>();
    [
        names("session", SessionHooks::NAMES),
        names("torrent", TorrentHooks::NAMES),
        names("peer", PeerHooks::NAMES),
        names("cipher", CipherHooks::NAMES),
    ].concat()
}

#[test]
fn panics() {
    let library = load(fixtures::library("fixture-panicker")).unwrap();
    let mut unreached = BTreeSet::new();
    for hook in every_hook() {
        let report = tour::take(vec![Guest::new(&library, &[("hook", &hook)])]).unwrap();
        let panics: Vec<_> = report.alerts.iter().filter(|a| matches!(a, AlertKind::PluginPanicked { .. })).collect();
        if panics.is_empty() { unreached.insert(hook.clone()); } else { println!("{hook} {} {:?}", panics.len(), panics[0]); }
        if !report.stopped { println!("NOT STOPPED {hook}"); }
        if report.blocks_in_use > 0 { println!("BLOCKS {hook} {}", report.blocks_in_use); }
    }
    println!("UNREACHED {unreached:?}");
    panic!();
}
