//! A module imports only from the layers above it. The table is the design's; this is the one place that spells it.

use crate::assert_tidy;
use crate::source::{Mention, Source, rust};

/// A module of the host, with everything inside it that has no row of its own.
struct Row {
    layer: u8,
    module: &'static str,
    /// What it may see of its own layer.
    beside: &'static [&'static str],
    /// What it may not see, although it lies in a layer above.
    never: &'static [&'static str],
}

const fn row(
    layer: u8,
    module: &'static str,
    beside: &'static [&'static str],
    never: &'static [&'static str],
) -> Row {
    Row { layer, module, beside, never }
}

/// What everybody from layer 2 on speaks of.
const NOUNS: &[&str] = &["error", "settings", "alert", "command", "job", "ip_filter"];

/// Layer 0 is the crate `pilotfish-plugin`: it depends on nothing of ours, and everybody may see it.
const ROWS: &[Row] = &[
    // The blocks that `wire` carries are as long as those that `metainfo` counts; torrent files are bencoded.
    row(1, "wire", &["metainfo"], &[]),
    row(1, "metainfo", &["wire"], &[]),
    // Extensions that are built in have nothing that a plugin in a file does not have: they see layer 0 alone.
    row(1, "plugins::builtin", &[], &[]),
    row(2, "error", NOUNS, &[]),
    row(2, "settings", NOUNS, &[]),
    row(2, "alert", NOUNS, &[]),
    row(2, "command", NOUNS, &[]),
    row(2, "job", NOUNS, &[]),
    row(2, "ip_filter", NOUNS, &[]),
    row(2, "hooks", NOUNS, &[]),
    row(2, "peer", NOUNS, &[]),
    row(2, "dht", NOUNS, &[]),
    row(3, "torrent", &[], &[]),
    row(3, "plugins", &[], &[]),
    row(4, "engine", &[], &[]),
    row(5, "disk", &[], &["engine"]),
    row(5, "net", &["net::driver"], &[]),
    // The one place that sees the sockets, the disk and the engine.
    row(5, "net::driver", &["net", "disk"], &[]),
    row(5, "session", &["net"], &[]),
    row(6, "cli", &[], &["engine", "net"]),
];

/// The roots of the crate only put the modules together.
const ROOTS: [&str; 2] = ["host/src/lib.rs", "host/src/main.rs"];

/// The row of a module, which is that of its nearest ancestor in the table.
fn row_of(module: &[String]) -> Option<&'static Row> {
    (1..=module.len()).rev().find_map(|length| {
        let name = module[..length].join("::");
        ROWS.iter().find(|row| row.module == name)
    })
}

/// The layer that a file of `plugin-api` or `host` belongs to.
pub(crate) fn layer_of(source: &Source) -> Option<u8> {
    if source.path.starts_with("plugin-api/") {
        return Some(0);
    }
    row_of(&source.module()).map(|row| row.layer)
}

/// The rule that `from` breaks by naming `mention`.
fn breach(from: &Row, mention: &Mention) -> Option<String> {
    let named = mention.path.strip_prefix(&["crate".to_owned()])?;
    let to = row_of(named)?;
    let (module, layer, other) = (from.module, from.layer, to.module);
    if module == other || from.beside.contains(&other) {
        None
    } else if from.never.contains(&other) {
        Some(format!("`{module}` must not know `{other}`"))
    } else if to.layer < layer {
        None
    } else if to.layer == layer {
        Some(format!(
            "`{module}` and `{other}` lie side by side in layer {layer}, and must not know each other"
        ))
    } else {
        Some(format!("`{module}` (layer {layer}) must not know `{other}` (layer {})", to.layer))
    }
}

fn breaches(source: &Source) -> Vec<String> {
    let Some(from) = row_of(&source.module()) else {
        return vec![format!(
            "{}: this module is in no layer; give it a row in tests/tidy/layers.rs",
            source.path
        )];
    };
    let name = |mention: &Mention| format!("{}:{}: {}", source.path, mention.line, mention.path.join("::"));
    let mentions = source.mentions();
    mentions.iter().filter_map(|m| breach(from, m).map(|rule| format!("{}: {rule}", name(m)))).collect()
}

#[test]
fn a_module_imports_only_from_the_layers_above_it() {
    let sources = rust(&["host/src"]).into_iter().filter(|source| !ROOTS.contains(&&*source.path));
    let found: Vec<String> =
        sources.filter(|source| !source.is_test()).flat_map(|source| breaches(&source)).collect();
    assert_tidy("a module imports only from the layers above it", &found);
}

#[test]
fn the_layers_refuse_what_they_should() {
    let refused = |path: &str, text: &str| {
        let source = Source { path: format!("host/src/{path}.rs"), text: text.into() };
        !breaches(&source).is_empty()
    };
    assert!(refused("peer/rates", "use crate::torrent::Picker;"));
    assert!(refused("peer/rates", "use crate::{job::DiskJob, hooks::Chain};"));
    assert!(!refused("peer/rates", "use crate::{job::DiskJob, wire::Message, peer::Outbox};"));
    assert!(refused("torrent/mod", "fn load() { crate::plugins::load() }"));
    assert!(refused("plugins/builtin/ut_pex", "use crate::wire::compact;"));
    assert!(refused("plugins/builtin/ut_pex", "use super::super::loader;"));
    assert!(!refused("plugins/builtin/ut_pex", "use super::common;"));
    assert!(refused("net/peer_io", "use crate::disk::DiskPool;"));
    assert!(!refused("net/driver", "use crate::{disk::DiskPool, engine::Engine};"));
    assert!(refused("disk/pool", "use crate::engine::Input;"));
    assert!(refused("cli/run", "use crate::engine::Engine;"));
    assert!(refused("helpers", ""));
}
