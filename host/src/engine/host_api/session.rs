//! libtorrent's `session_handle`, as far as plugins have use for it, and the plugin's own matters.

use std::sync::Arc;

use pilotfish_plugin::rt::abi_stable::std_types::{RSlice, RStr};
use pilotfish_plugin::rt::{Endpoint, EntryId, RawWaker, Sink};
use pilotfish_plugin::{AlertCategory, ErrorCode, InfoHashes, PeerHandle, TorrentHandle};

use super::torrent::words;
use super::{NO, YES, host_functions, yes_if};
use crate::alert::{AlertKind, CustomAlert, describe as describe_error};
use crate::command::AddTorrentError;
use crate::engine::adding::read_params;
use crate::engine::bans::bencode_bans;
use crate::engine::plugins::Mail;
use crate::engine::step::Step;
use crate::wire::EntryTree;

/// Dictionaries that may be open at a time. A plugin that begins more than that in one turn gives none of them back.
const MOST_ENTRIES: usize = 128;

host_functions! {
    fn torrents(state, out: Sink<'_>) {
        out.put(&words(state.order.iter().map(|torrent| torrent.into_raw())));
        YES
    }

    fn find_torrent(state, hashes: &InfoHashes, out: &mut TorrentHandle) {
        let v2 = hashes.v2().map(|hash| std::array::from_fn(|i| hash[i]));
        let mut names = hashes.v1().into_iter().chain(v2);
        let Some(torrent) = names.find_map(|hash: [u8; 20]| state.by_hash.get(&hash)) else { return NO };
        *out = *torrent;
        YES
    }

    fn new_entry(state, out: &mut EntryId) {
        if state.entries.len() >= MOST_ENTRIES {
            return None;
        }
        *out = state.begin_entry(EntryTree::new());
        YES
    }

    fn add_torrent(state, params: EntryId) {
        let tree = state.end_entry(params);
        let asked = read_params(&tree).map(Box::new).map_err(AddTorrentError::Parameters);
        state.steps.push_back(Step::AddTorrent(None, asked));
        YES
    }

    fn remove_torrent(state, torrent: TorrentHandle, delete_files: u8) {
        state.torrent(torrent)?;
        state.steps.push_back(Step::RemoveTorrent(torrent, delete_files != 0));
        YES
    }

    fn pause(state) {
        state.steps.push_back(Step::PauseSession(true));
        YES
    }

    fn resume(state) {
        state.steps.push_back(Step::PauseSession(false));
        YES
    }

    fn is_paused(state) {
        yes_if(state.paused)
    }

    fn listen_port(state, out: &mut u16) {
        *out = state.listen_port().unwrap_or(0);
        YES
    }

    fn setting(state, name: RStr<'_>, out: Sink<'_>) {
        out.put(state.settings.get(name.as_str())?.as_bytes());
        YES
    }

    fn apply_setting(state, name: RStr<'_>, value: RStr<'_>) {
        yes_if(state.apply_setting(name.as_str(), value.as_str()).is_ok())
    }

    fn post_alert(state, kind: u32, name: RStr<'_>, category: AlertCategory, message: RStr<'_>, payload: RSlice<'_, u8>, torrent: TorrentHandle, peer: PeerHandle) {
        if !state.wants_alert(category) {
            return NO;
        }
        let plugin = state.calling;
        let custom = CustomAlert {
            alert_type: state.custom_types.number(plugin, kind),
            plugin,
            plugin_name: state.plugin_name(plugin),
            kind,
            what: name.as_str().to_owned(),
            category,
            message: message.as_str().to_owned(),
            payload: payload.to_vec(),
            torrent,
            peer,
        };
        state.alert(AlertKind::Custom(custom));
        YES
    }

    fn waker(state, out: &mut RawWaker) {
        let mail = state.plugins.get(state.calling.0 as usize)?.mail.clone();
        *out = raw_waker(mail);
        YES
    }

    fn done(state) {
        let calling = state.calling.0 as usize;
        state.plugins.get_mut(calling)?.done = true;
        YES
    }

    fn describe(_state, error: ErrorCode, out: Sink<'_>) {
        out.put(describe_error(error).as_bytes());
        YES
    }

    fn now(state, out: &mut u64) {
        *out = u64::try_from(state.clock().as_millis()).unwrap_or(u64::MAX);
        YES
    }

    fn plugins(state, out: Sink<'_>) {
        let names: Vec<&str> = state.plugins.iter().map(|record| record.name.as_str()).collect();
        out.put(names.join("\n").as_bytes());
        YES
    }

    fn ban(state, address: Endpoint, reason: RStr<'_>) {
        let reason = state.plugins_reason(reason.as_str());
        state.steps.push_back(Step::Ban(None, address.into(), reason));
        YES
    }

    fn unban(state, address: Endpoint) {
        yes_if(state.lift_ban(None, address.into())?)
    }

    fn bans(state, out: Sink<'_>) {
        out.put(&bencode_bans(&state.bans));
        YES
    }
}

/// A plugin's waker: a counted reference to its mail flag. It outlives the session harmlessly.
fn raw_waker(mail: Arc<Mail>) -> RawWaker {
    unsafe extern "C" fn clone(data: *const ()) -> *const () {
        // SAFETY: `data` came from `Arc::into_raw` and has not been released yet.
        unsafe { Arc::increment_strong_count(data.cast::<Mail>()) };
        data
    }
    unsafe extern "C" fn wake(data: *const ()) {
        // SAFETY: as above.
        unsafe { &*data.cast::<Mail>() }.post();
    }
    unsafe extern "C" fn release(data: *const ()) {
        // SAFETY: as above; each reference is released once.
        unsafe { Arc::decrement_strong_count(data.cast::<Mail>()) };
    }
    // SAFETY: `Mail` is `Send + Sync`, and the three functions keep its count.
    unsafe { RawWaker::new(Arc::into_raw(mail).cast(), clone, wake, release) }
}
