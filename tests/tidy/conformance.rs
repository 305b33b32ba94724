//! The table in the documentation of `pilotfish_plugin::conformance` is whole, and what it names exists. That each of its links
//! leads somewhere is looked at by rustdoc.

use std::collections::BTreeSet;

use crate::assert_tidy;
use crate::hooks::{HOOKS, missing};
use crate::source::{files, rust, words};

const TABLE: &str = "plugin-api/src/conformance.md";

/// Every member of libtorrent 2.0.8's reference of plugins, and what its tutorial on peer plugins uses besides.
const LIBTORRENT: [(&str, &str); 8] = [
    (
        "plugin::",
        "implemented_features new_torrent added abort on_dht_request on_alert on_unknown_torrent on_tick
         get_unchoke_priority save_state load_state optimistic_unchoke_feature tick_feature dht_request_feature
         alert_feature",
    ),
    (
        "torrent_plugin::",
        "new_connection on_piece_pass on_piece_failed tick on_resume on_pause on_files_checked on_state on_add_peer
         first_time filtered",
    ),
    (
        "peer_plugin::",
        "type add_handshake on_disconnect on_connected on_handshake on_extension_handshake on_bitfield on_allowed_fast
         on_request on_choke on_not_interested on_have on_interested on_have_all on_have_none on_unchoke on_dont_have
         on_piece on_reject on_suggest on_cancel sent_have_none sent_allow_fast sent_choke sent_cancel sent_request
         sent_suggest sent_have_all sent_reject_request sent_interested sent_not_interested sent_unchoke sent_have
         sent_piece sent_payload can_disconnect on_extended on_unknown_message on_piece_pass on_piece_failed tick
         write_request",
    ),
    ("crypto_plugin::", "set_outgoing_key set_incoming_key encrypt decrypt"),
    (
        "peer_connection_handle::",
        "peer_connection_handle type add_extension find_plugin is_seed upload_only has_piece pid is_interesting is_choked
         has_peer_choked is_peer_interested choke_this_peer maybe_unchoke_this_peer get_peer_info associated_torrent
         local_endpoint remote is_connecting is_outgoing disconnect is_disconnecting ignore_unchoke_slots
         on_local_network failed peer_log should_log can_disconnect has_metadata in_handshake send_buffer
         time_of_last_unchoke last_seen_complete operator< operator== operator!= native_handle",
    ),
    (
        "bt_peer_connection_handle::",
        "bt_peer_connection_handle packet_finished support_extensions supports_encryption switch_send_crypto
         switch_recv_crypto native_handle",
    ),
    ("alert::", "alert_type type message static_category category what clone"),
    (
        "",
        "alert_cast user_alert_id session::add_extension(plugin) session::add_extension(factory) session::add_torrent
         add_torrent_params::extensions torrent_handle::add_extension client_data_t torrent_status::state_t
         create_ut_metadata_plugin create_smart_ban_plugin create_ut_pex_plugin peer_info::tracker peer_info::dht
         peer_info::lsd bitfield::count bitfield::size entry::to_string error_code::message",
    ),
];

/// One line of the table.
struct Row {
    line: usize,
    libtorrent: String,
    ours: String,
    engine: String,
    test: String,
}

impl Row {
    /// A cell that says why there is nothing in it.
    fn is_excused(cell: &str, word: &str) -> bool {
        cell.strip_prefix(word).is_some_and(|reason| reason.len() > 10)
    }

    fn is_offered(&self) -> bool {
        !Self::is_excused(&self.ours, "not offered: ")
    }

    fn is_called(&self) -> bool {
        !Self::is_excused(&self.engine, "not yet: ")
    }

    fn breach(&self, text: &str) -> String {
        format!("{TABLE}:{}: {}: {text}", self.line, self.libtorrent)
    }
}

fn text_of(path: &str) -> Option<String> {
    files(&[path]).pop().map(|file| file.text)
}

/// The lines of the table, without the heads.
fn rows() -> Vec<Row> {
    let text = text_of(TABLE).unwrap_or_default();
    let lines =
        text.lines().enumerate().filter(|(_, line)| line.starts_with("| ") && !line.contains("| here |"));
    let rows = lines.map(|(number, line)| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [libtorrent, ours, engine, test] = cells[..] else {
            panic!("{TABLE}:{}: four cells", number + 1)
        };
        let plain = |cell: &str| cell.trim_matches('`').to_owned();
        Row {
            line: number + 1,
            libtorrent: plain(libtorrent),
            ours: ours.to_owned(),
            engine: plain(engine),
            test: plain(test),
        }
    });
    rows.collect()
}

/// The functions of the host's tables, as `peer.rs: fn has_piece(`: where the host has the body of each.
fn host_functions() -> BTreeSet<String> {
    let interface = rust(&["plugin-api/src/host_api.rs"]).pop().unwrap_or_else(|| panic!("no host tables"));
    let words = words(interface.tokens());
    let mut table = None;
    let mut functions = BTreeSet::new();
    for window in words.windows(3) {
        let [first, second, third] = window else { continue };
        if first.text == "table" && third.text == "as" {
            table = second.text.strip_suffix("Api").map(str::to_lowercase);
        } else if let Some(table) = table.as_ref().filter(|_| first.text == "fn" && third.text == "(") {
            functions.insert(format!("engine/host_api/{table}.rs: fn {}(", second.text));
        }
    }
    functions
}

#[test]
fn no_cell_is_empty_and_what_is_left_out_has_its_reason() {
    let mut breaches = Vec::new();
    for row in rows() {
        let dash = |cell: &str| cell.is_empty() || cell == "—";
        if dash(&row.libtorrent) || dash(&row.ours) {
            breaches.push(row.breach("no name"));
        }
        if row.is_offered() && !row.ours.starts_with("[`") {
            breaches.push(row.breach("our name is no link"));
        }
        if row.is_offered() && (dash(&row.engine) || dash(&row.test)) {
            breaches.push(row.breach("no line or no test"));
        }
    }
    assert_tidy("every row of the table names all four, or says why not", &breaches);
}

#[test]
fn the_lines_of_the_host_are_there() {
    let mut breaches = Vec::new();
    for row in rows().iter().filter(|row| row.is_offered() && row.is_called()) {
        let found = row
            .engine
            .split_once(": ")
            .and_then(|(file, code)| text_of(&format!("host/src/{file}")).filter(|text| text.contains(code)));
        if found.is_none() {
            breaches.push(row.breach(&format!("not found: {}", row.engine)));
        }
    }
    assert_tidy("the table's lines are in the host, word for word", &breaches);
}

#[test]
fn the_tests_are_there() {
    let mut breaches = Vec::new();
    for row in rows().iter().filter(|row| row.is_offered()) {
        let found = row.test.split_once("::").and_then(|(file, name)| {
            let wanted = format!("#[test]\nfn {name}()");
            text_of(file).filter(|text| text.contains(&wanted))
        });
        if found.is_none() {
            breaches.push(row.breach(&format!("no such test: {}", row.test)));
        }
    }
    assert_tidy("the table's tests are there", &breaches);
}

#[test]
fn every_member_of_libtorrents_interface_is_in_the_table() {
    let rows = rows();
    let members = LIBTORRENT
        .iter()
        .flat_map(|(class, names)| names.split_whitespace().map(move |name| format!("{class}{name}")));
    let times = |member: &str| rows.iter().filter(|row| row.libtorrent == member).count();
    let wrong: Vec<String> = members.filter(|member| times(member) != 1).collect();
    assert_tidy("each member of libtorrent's interface stands in the table once", &wrong);
}

#[test]
fn every_hook_and_every_function_of_the_host_is_in_the_table() {
    let rows = rows();
    let mut breaches = Vec::new();
    for (of, name) in HOOKS.iter().flat_map(|(of, names)| names.iter().map(move |name| (*of, *name))) {
        let link = format!("(crate::{of}Plugin::{name})");
        match rows.iter().find(|row| row.ours.contains(&link)) {
            None => breaches.push(format!("{of}Plugin::{name} is missing")),
            Some(row) if row.is_called() == missing((of, name)).is_some() => {
                breaches.push(row.breach("is it called or not?"));
            }
            Some(_) => {}
        }
    }
    assert_tidy("every hook is in the table, and called if the engine calls it", &breaches);
    let functions = host_functions();
    assert!(functions.len() > 70, "{functions:?}");
    let missing = functions.into_iter().filter(|f| !rows.iter().any(|row| row.engine.contains(f.as_str())));
    assert_tidy("every function that the host lends is in the table", &missing.collect::<Vec<_>>());
}
