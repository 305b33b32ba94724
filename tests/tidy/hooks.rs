//! A table: each hook, the engine's line that calls it, the test that sees it. No cell is empty.
//!
//! `cargo test -p pilotfish-tests --test tidy the_table -- --nocapture` prints it.

use std::collections::BTreeMap;

use pilotfish_plugin::{CipherHooks, PeerHooks, SessionHooks, TorrentHooks};

use crate::assert_tidy;
use crate::source::{Source, Word, rust, words};

/// A trait and its hook, such as `("Peer", "on_have")`: a method of `PeerPlugin`, a member of `PeerHooks`.
pub(crate) type Hook = (&'static str, &'static str);
/// Where hooks were found, as `file:line`.
type Places = BTreeMap<Hook, Vec<String>>;

/// The hooks of each trait.
pub(crate) const HOOKS: [(&str, &[&str]); 4] = [
    ("Session", SessionHooks::NAMES),
    ("Torrent", TorrentHooks::NAMES),
    ("Peer", PeerHooks::NAMES),
    ("Cipher", CipherHooks::NAMES),
];

/// Hooks that the engine cannot call yet, and what is missing.
const NOT_YET: &[(Hook, &str)] = &[];

/// The name of a call's hook stands, as a member of its set, at most so many lines above the call.
const REACH: usize = 6;

fn all() -> impl Iterator<Item = Hook> {
    HOOKS.into_iter().flat_map(|(of, names)| names.iter().map(move |name| (of, *name)))
}

/// Why the engine cannot call a hook yet, if it cannot.
pub(crate) fn missing((of, name): Hook) -> Option<&'static str> {
    NOT_YET.iter().find(|(hook, _)| *hook == (of, name)).map(|(_, reason)| *reason)
}

/// The hooks of this name: some names stand in several traits.
fn hooks_named(name: &str) -> Vec<Hook> {
    all().filter(|(_, other)| *other == name).collect()
}

fn only(hooks: &[Hook]) -> Option<Hook> {
    if let [hook] = hooks { Some(*hook) } else { None }
}

/// The trait of which `word` is the set (`PeerHooks`) or the plugin (`PeerPlugin`), by what it `ends` with.
fn trait_of(word: &Word, ends: &str) -> Option<&'static str> {
    HOOKS.iter().map(|(of, _)| *of).find(|of| word.text.strip_suffix(ends) == Some(*of))
}

/// The hook that stands as a member of its set at the start of `words`: `PeerHooks::on_have`.
fn member(words: &[Word]) -> Option<Hook> {
    let [set, a, b, name, ..] = words else { return None };
    let of = trait_of(set, "Hooks").filter(|_| a.text == ":" && b.text == ":")?;
    hooks_named(&name.text).into_iter().find(|hook| hook.0 == of)
}

/// The hook that is called at the start of `words[at..]`: `.on_have(cx`.
fn call(words: &[Word], at: usize) -> Option<Hook> {
    let [dot, name, open, cx, ..] = &words[at..] else { return None };
    if dot.text != "." || open.text != "(" || cx.text != "cx" {
        return None;
    }
    let near = (0..at).rev().take_while(|i| words[*i].line + REACH >= name.line);
    let named = near.filter_map(|i| member(&words[i..])).find(|hook| hook.1 == name.text);
    named.or(only(&hooks_named(&name.text)))
}

/// Where the engine calls each hook.
fn calls(engine: &[Source]) -> Places {
    let mut places = Places::new();
    for source in engine {
        let words = words(source.code());
        for at in 0..words.len() {
            if let Some(hook) = call(&words, at) {
                places.entry(hook).or_default().push(format!("{}:{}", source.path, words[at + 1].line));
            }
        }
    }
    places
}

/// Where tests see each hook: in its set, as a method of a plugin, or as a text. Of a name that several traits have, a
/// text says too little; beside the engine's code, it may be the name of anything.
fn sightings(tests: &[Source]) -> Places {
    let mut places = Places::new();
    for source in tests {
        let words = words(source.tokens());
        let mut plugin = None;
        for (at, word) in words.iter().enumerate() {
            let hook = match &words[at..] {
                [keyword, name, ..] if keyword.text == "impl" => {
                    plugin = trait_of(name, "Plugin");
                    None
                }
                [keyword, name, ..] if keyword.text == "fn" => {
                    hooks_named(&name.text).into_iter().find(|(of, _)| Some(*of) == plugin)
                }
                [text, ..] if text.text.starts_with('"') && source.path.starts_with("tests/") => {
                    only(&hooks_named(text.text.trim_matches('"')))
                }
                rest => member(rest),
            };
            if let Some(hook) = hook {
                places.entry(hook).or_default().push(format!("{}:{}", source.path, word.line));
            }
        }
    }
    places
}

/// The calls of the engine that is, and the sightings of the tests that are.
fn survey() -> (Places, Places) {
    let mut tests = rust(&["tests"]);
    tests.retain(|source| !source.path.starts_with("tests/tidy/"));
    tests.extend(rust(&["host/src"]).into_iter().filter(Source::is_test));
    (calls(&rust(&["host/src/engine"])), sightings(&tests))
}

/// The rows whose cell is empty in `places`, and should not be.
fn empty(places: &Places) -> Vec<String> {
    let rows = all().filter(|hook| missing(*hook).is_none() && !places.contains_key(hook));
    rows.map(|(of, name)| format!("{of}Plugin::{name}")).collect()
}

#[test]
fn the_table_of_hooks_is_printed() {
    let (calls, sightings) = survey();
    for hook in all() {
        let cell = |places: &Places| match places.get(&hook).map(Vec::as_slice) {
            None | Some([]) => "-".to_owned(),
            Some([first]) => first.clone(),
            Some([first, rest @ ..]) => format!("{first} and {} more", rest.len()),
        };
        let calls = missing(hook).map_or_else(|| cell(&calls), |reason| format!("not yet: {reason}"));
        println!("{:>7}  {:<22}  {calls:<44}  {}", hook.0, hook.1, cell(&sightings));
    }
}

#[test]
fn the_engine_calls_every_hook() {
    assert_tidy("the engine calls every hook (`p.NAME(cx`, near `Hooks::NAME`)", &empty(&survey().0));
}

#[test]
fn a_test_sees_every_hook() {
    assert_tidy("a test names every hook that the engine calls", &empty(&survey().1));
}

#[test]
fn a_hook_that_is_called_is_not_listed_as_missing() {
    let (calls, _) = survey();
    let listed = NOT_YET.iter().filter_map(|(hook, _)| calls.get(hook).map(|places| (hook, places)));
    let found: Vec<String> =
        listed.map(|((of, name), places)| format!("{of}Plugin::{name}: {}", places.join(", "))).collect();
    assert_tidy("a hook that the engine calls is not in NOT_YET", &found);
    let unknown = NOT_YET.iter().filter(|(hook, _)| all().all(|other| other != *hook));
    assert_tidy(
        "NOT_YET lists hooks",
        &unknown.map(|((of, name), _)| format!("{of}Plugin::{name}")).collect::<Vec<_>>(),
    );
}

#[test]
fn calls_are_told_apart_by_the_set_at_hand() {
    let source = |text: &str| Source { path: "x.rs".into(), text: text.into() };
    let text = "
        fn f() {
            // p.on_choke(cx)
            self.tell(PeerHooks::tick, |p, cx| p.tick(cx));
            self.tell(
                TorrentHooks::tick,
                |p, cx| {
                    p.tick(cx)
                },
            );
            chain.only(|p, cx| p.on_have(cx, i));
            p.on_unchoke(peer);
            p.on_piece_pass(cx, number);
        }
    ";
    let found: Vec<(Hook, Vec<String>)> = calls(&[source(text)]).into_iter().collect();
    let place = |line: u32| vec![format!("x.rs:{line}")];
    let expected =
        [(("Peer", "on_have"), place(11)), (("Peer", "tick"), place(4)), (("Torrent", "tick"), place(8))];
    assert_eq!(found, expected);
}

#[test]
fn sightings_are_told_apart_by_the_impl_at_hand() {
    let text = "
        impl TorrentPlugin for T { fn tick(&mut self) {} }
        impl PeerPlugin for P { fn on_have(&mut self) {} }
        impl P { fn on_disconnect(&mut self) {} }
        const SEEN: [&str; 3] = [\"on_choke\", \"tick\", \"saw on_unchoke\"];
        const SET: PeerHooks = PeerHooks::on_piece_pass;
    ";
    let found: Vec<Hook> =
        sightings(&[Source { path: "tests/x.rs".into(), text: text.into() }]).into_keys().collect();
    assert_eq!(
        found,
        [("Peer", "on_choke"), ("Peer", "on_have"), ("Peer", "on_piece_pass"), ("Torrent", "tick")]
    );
}
