//! A plugin that misuses every function of the host from each hook in turn, each in a session of its own.

use pilotfish::alert::AlertKind;
use pilotfish::plugins::load;
use pilotfish_tests::fixtures;

use crate::panics::every_hook;
use crate::tour::{self, Guest};

#[test]
fn a_plugin_that_misuses_every_host_function_in_any_hook_harms_nobody_else() {
    let library = load(fixtures::library("fixture-greedy")).unwrap();
    let witness = load(fixtures::library("fixture-versioned")).unwrap();
    for hook in every_hook().chain(["open".to_owned()]) {
        println!("{hook}");
        let guests = vec![Guest::new(&library, &[("hook", &hook)]), Guest::new(&witness, &[])];
        let report = tour::take(guests).unwrap();
        assert!(report.stopped, "{hook}: the session does not end");
        assert_eq!(report.blocks_in_use, 0, "{hook}: blocks are lost");
        assert!(report.handshakes_whole, "{hook}: peers were not told what the session can do");
        // Among all the rest, it writes a line each time.
        let misused = !report.log("fixture-greedy").is_empty();
        assert!(misused, "{hook}: the host was not misused");
        let panicked = report.alerts.iter().find(|alert| matches!(alert, AlertKind::PluginPanicked { .. }));
        assert!(panicked.is_none(), "{hook}: {panicked:?}");
        let other = report.log("fixture-versioned");
        assert!(other.contains(&"session.abort"), "{hook}: the other plugin was disturbed: {other:?}");
        assert_eq!(report.states["fixture-versioned"], b"d4:kepti1ee", "{hook}: what it keeps was disturbed");
    }
}
