//! A plugin that panics in each hook in turn, each in a session of its own.

use std::collections::BTreeSet;

use pilotfish::alert::AlertKind;
use pilotfish::plugins::{PluginLibrary, load};
use pilotfish_plugin::{CipherHooks, ErrorCode, PeerHooks, SessionHooks, TorrentHooks};
use pilotfish_tests::fixtures;

use crate::tour::{self, Guest, Report};

/// Every hook of every trait, as `peer.on_have`.
pub(crate) fn every_hook() -> impl Iterator<Item = String> {
    let traits = [
        ("session", SessionHooks::NAMES),
        ("torrent", TorrentHooks::NAMES),
        ("peer", PeerHooks::NAMES),
        ("cipher", CipherHooks::NAMES),
    ];
    traits.into_iter().flat_map(|(who, names)| names.iter().map(move |name| format!("{who}.{name}")))
}

fn panicker() -> PluginLibrary {
    load(fixtures::library("fixture-panicker")).unwrap()
}

/// Where the fixture panics: `at FILE:LINE`, whatever the file's folder.
fn place() -> String {
    let source = include_str!("../fixtures/panicker/src/lib.rs");
    let line = source.lines().position(|line| line.contains("assert!(*self.0 != *hook")).unwrap() + 1;
    format!("lib.rs:{line}")
}

#[test]
fn a_panic_in_any_hook_is_an_alert_that_names_plugin_hook_message_and_place() {
    let (library, witness) = (panicker(), load(fixtures::library("fixture-versioned")).unwrap());
    for hook in every_hook() {
        println!("{hook}");
        let guests = vec![Guest::new(&library, &[("hook", &hook)]), Guest::new(&witness, &[])];
        let report = tour::take(guests).unwrap();
        assert!(report.stopped, "{hook}: the session does not end");
        assert_eq!(report.blocks_in_use, 0, "{hook}: blocks are lost");
        let other = report.log("fixture-versioned");
        assert!(other.contains(&"session.abort"), "{hook}: the other plugin was disturbed: {other:?}");
        check_panics(&hook, &report);
    }
}

/// There were panics, and what they must have led to.
fn check_panics(hook: &str, report: &Report) {
    let (who, name) = hook.split_once('.').unwrap();
    let mut panics = 0;
    for alert in &report.alerts {
        let AlertKind::PluginPanicked { plugin, hook: named, text, place: at } = alert else { continue };
        panics += 1;
        assert_eq!((plugin.as_str(), named.as_str()), ("fixture-panicker", name));
        assert_eq!(*text, format!("blown in {hook}"));
        assert!(at.starts_with(" at ") && at.ends_with(&place()), "{hook}: {at}");
    }
    let quarantined = report.alerts.iter().any(|alert| matches!(alert, AlertKind::PluginQuarantined { .. }));
    assert_eq!(quarantined, panics == 3, "{hook}: after three panics, {panics}");
    match (panics, who) {
        (0, _) => panic!("{hook} was not called"),
        // It is detached from the session, or from each of the torrents.
        (_, "session") => assert_eq!(panics, 1, "{hook}: a retired plugin was called"),
        (_, "torrent") => assert!(panics <= 3, "{hook}: a retired plugin was called"),
        _ => assert!(panics <= 3, "{hook}: a quarantined plugin was called"),
    }
    // When `on_disconnect` comes, the connection ends already, and the first reason counts.
    let closes =
        (who == "peer" && hook != "peer.on_disconnect") || who == "cipher" || name == "new_connection";
    let closed = |alert: &AlertKind| match alert {
        AlertKind::PeerDisconnected { error, .. } => *error == ErrorCode::PLUGIN_PANICKED,
        _ => false,
    };
    let closed = report.alerts.iter().any(closed);
    assert_eq!(closed, closes, "{hook}: were connections closed for it?");
}

#[test]
fn a_plugin_that_panics_when_opened_is_refused_with_the_message() {
    let error = tour::take(vec![Guest::new(&panicker(), &[("hook", "open")])]).unwrap_err();
    assert!(error.starts_with("panicked: blown in open at ") && error.ends_with(&place()), "{error}");
}

#[test]
fn a_plugin_that_refuses_its_settings_says_so_in_its_own_words() {
    let error = tour::take(vec![Guest::new(&panicker(), &[("hoock", "peer.tick")])]).unwrap_err();
    assert_eq!(error, "there is no setting hoock; there are: hook");
    assert_eq!(tour::take(vec![Guest::new(&panicker(), &[])]).unwrap_err(), "which hook?");
}

#[test]
fn a_destructor_that_panics_ends_nothing() {
    for destructor in ["drop.session", "drop.torrent", "drop.peer", "drop.cipher"] {
        println!("{destructor}");
        let report = tour::take(vec![Guest::new(&panicker(), &[("hook", destructor)])]).unwrap();
        assert!(report.stopped && report.blocks_in_use == 0, "{destructor}");
        assert_eq!(report.finished(), BTreeSet::from(["had", "lacked"]), "{destructor}");
    }
}

#[test]
fn the_tour_sees_nothing_of_a_plugin_that_does_not_panic() {
    let report = tour::take(vec![Guest::new(&panicker(), &[("hook", "none")])]).unwrap();
    assert!(report.stopped);
    assert!(!report.alerts.iter().any(|alert| matches!(alert, AlertKind::PluginPanicked { .. })));
    assert_eq!(report.finished(), BTreeSet::from(["had", "lacked"]));
}
