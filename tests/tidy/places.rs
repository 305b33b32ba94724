//! What may stand in a few places only: `unsafe`, the bencode library, and the dependencies of the plugin interface.

use crate::assert_tidy;
use crate::source::{Source, Word, files, rust, words};

/// Where `unsafe` lives, apart from `plugin-api`.
const UNSAFE: [&str; 4] =
    ["host/src/hooks/", "host/src/engine/host_api", "host/src/plugins/loader.rs", "sha1-lanes/src/x86.rs"];

/// The one file, with its submodules, that names bendy.
const BENCODE: [&str; 2] = ["host/src/wire/bencode.rs", "host/src/wire/bencode/"];

/// All that a plugin's author builds with the interface.
const INTERFACE: [&str; 2] = ["abi_stable", "pilotfish-plugin-macros"];

fn is_in(source: &Source, places: &[&str]) -> bool {
    places.iter().any(|place| source.path.starts_with(place))
}

/// The lines where `unsafe` does something. The type of a function pointer (`unsafe extern "C" fn(…)`) does nothing.
fn unsafe_lines(source: &Source) -> Vec<usize> {
    let words = words(source.tokens());
    let is_pointer_type = |after: &[Word]| {
        let is_abi = |word: &&Word| word.text == "extern" || word.text.starts_with('"');
        let rest = &after[after.iter().take_while(is_abi).count()..];
        matches!(rest, [function, open, ..] if function.text == "fn" && open.text == "(")
    };
    let found = words
        .iter()
        .enumerate()
        .filter(|(at, word)| word.text == "unsafe" && !is_pointer_type(&words[at + 1..]));
    found.map(|(_, word)| word.line).collect()
}

/// The names in the tables of `manifest` that list what the crate is built with; not those of its tests.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut listed = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            listed = !table.contains("dev-dependencies") && table.ends_with("dependencies");
            names.extend(
                table
                    .split_once("dependencies.")
                    .filter(|(kind, _)| !kind.ends_with("dev-"))
                    .map(|(_, name)| name),
            );
        } else if listed && !line.is_empty() && !line.starts_with('#') {
            names.extend(line.split(['.', '=', ' ']).next());
        }
    }
    names
}

#[test]
fn unsafe_lives_in_its_five_places() {
    let mut found = Vec::new();
    for source in
        rust(&["host", "sample-plugins", "sha1-lanes"]).into_iter().filter(|source| !is_in(source, &UNSAFE))
    {
        found.extend(unsafe_lines(&source).into_iter().map(|line| format!("{}:{line}", source.path)));
    }
    assert_tidy(
        "`unsafe` lives in plugin-api, hooks, engine/host_api, plugins/loader.rs and sha1-lanes/src/x86.rs alone",
        &found,
    );
}

#[test]
fn only_the_bencode_module_names_bendy() {
    let mut found = Vec::new();
    for source in rust(&["."]).into_iter().filter(|source| !is_in(source, &BENCODE)) {
        let mentions = source.mentions();
        let named = mentions.iter().filter(|mention| mention.names("bendy"));
        found.extend(named.map(|mention| format!("{}:{}", source.path, mention.line)));
    }
    assert_tidy("only wire/bencode.rs names bendy", &found);
}

#[test]
fn the_plugin_interface_depends_on_abi_stable_and_its_macros_alone() {
    let manifests = files(&["plugin-api/Cargo.toml"]);
    let names = manifests.iter().flat_map(|manifest| dependencies(&manifest.text));
    let found: Vec<String> = names.filter(|name| !INTERFACE.contains(name)).map(str::to_owned).collect();
    assert!(!manifests.is_empty());
    assert_tidy("plugin-api depends on abi_stable and its macro crate alone", &found);
}

#[test]
fn the_type_of_a_function_pointer_is_not_counted_as_unsafe() {
    let lines = |text: &str| unsafe_lines(&Source { path: "x.rs".into(), text: text.into() }).len();
    assert_eq!(lines("struct S { f: unsafe extern \"C\" fn(*mut ()), g: Option<unsafe fn()> }"), 0);
    assert_eq!(lines("unsafe extern \"C\" fn f() {} unsafe impl Send for S {} fn g() { unsafe { f() } }"), 3);
    assert_eq!(lines("#[unsafe(no_mangle)] fn f() {}"), 1);
}

#[test]
fn the_tables_of_dependencies_are_read() {
    let manifest = "
        [package]
        name = 'x'
        [dependencies]
        a.workspace = true
        # not this
        b = '1'
        [dependencies.c]
        version = '1'
        [target.'cfg(unix)'.dependencies]
        d = { version = '1' }
        [build-dependencies]
        e = '1'
        [dev-dependencies]
        f = '1'
        [dev-dependencies.g]
        [lints]
        workspace = true
    ";
    assert_eq!(dependencies(manifest), ["a", "b", "c", "d", "e"]);
}
