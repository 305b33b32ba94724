//! The rules of the project's shape that no compiler checks: who may import whom, what the pure layers may not touch,
//! where `unsafe` lives, how long a file may be, and that every hook is called and tested, as is every question of the checklist.
//!
//! Each rule reads the sources as they lie in the folder, and fails with a line per breach: file, line, rule.

mod checklist;
mod conformance;
mod hooks;
mod layers;
mod places;
mod purity;
mod readme;
mod sizes;
mod source;
mod words;

/// Fails with one line per breach.
#[track_caller]
fn assert_tidy(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{} of: {rule}\n{}\n", plural(breaches.len()), breaches.join("\n"));
}

fn plural(breaches: usize) -> String {
    format!("{breaches} {}", if breaches == 1 { "breach" } else { "breaches" })
}
