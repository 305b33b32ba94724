//! One object per line on stdout, for programs.
//!
//! Every object has `event`; what concerns a torrent has `torrent`, its info-hash. Units are in the names. Keys are only
//! ever added; what would break a reader raises `schema`, in the first line.

use std::time::Duration;

use pilotfish_plugin::rt::{API_MAJOR, API_MINOR};
use serde_json::{Map, Value, json};

use super::{Progress, Shown, remaining};
use crate::alert::{Alert, Field};
use crate::cli::load::PluginLine;
use crate::cli::screen::Screen;
use crate::command::TorrentStatus;
use crate::session::{Durations, Turns};

const SCHEMA: u32 = 1;

pub(super) struct Json {
    screen: Screen,
}

impl Json {
    pub(super) fn new(screen: Screen) -> Self {
        Self { screen }
    }
}

impl Progress for Json {
    fn hello(&mut self, plugins: &[PluginLine]) {
        self.screen.object(&hello(plugins));
    }

    fn added(&mut self, torrent: &Shown) {
        self.screen.object(&added(torrent, "added"));
    }

    fn described(&mut self, torrent: &Shown) {
        self.screen.object(&added(torrent, "metadata"));
    }

    fn alert(&mut self, alert: &Alert, torrent: Option<&Shown>) {
        self.screen.object(&happened(alert, torrent));
    }

    fn figures(&mut self, torrents: &[(&Shown, TorrentStatus)], _: Duration) {
        torrents.iter().for_each(|(torrent, status)| self.screen.object(&progress(torrent, status)));
    }

    fn turns(&mut self, turns: &Turns) {
        let spans = |spans: &Durations| {
            let counts = spans.buckets().filter(|(_, count)| *count > 0);
            let counts: Vec<_> =
                counts.map(|(bound, count)| json!([bound.as_micros() as u64, count])).collect();
            json!({ "longest_us": spans.longest().as_micros() as u64, "below_us": counts })
        };
        self.screen
            .object(&json!({ "event": "turns", "cpu": spans(&turns.cpu), "wall": spans(&turns.wall) }));
    }

    fn finished(&mut self, torrent: &Shown, status: &TorrentStatus, now: Duration) {
        self.screen.object(&finished(torrent, status, now));
    }
}

pub(in crate::cli) fn hello(plugins: &[PluginLine]) -> Value {
    json!({
        "event": "hello",
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "api": format!("{API_MAJOR}.{API_MINOR}"),
        "plugins": plugins.iter().map(PluginLine::json).collect::<Vec<_>>(),
    })
}

fn added(torrent: &Shown, event: &str) -> Value {
    json!({
        "event": event,
        "torrent": torrent.hash,
        "name": torrent.name,
        "total_bytes": torrent.total,
        "pieces": torrent.pieces,
        "path": path(torrent),
    })
}

/// The fields stand in an object of their own: plugins choose names, too.
pub(in crate::cli) fn happened(alert: &Alert, torrent: Option<&Shown>) -> Value {
    let mut fields = Map::new();
    for (name, field) in alert.kind.fields() {
        let value = match field {
            Field::Bool(yes) => yes.into(),
            Field::Int(number) => number.into(),
            Field::Text(text) => text.into(),
            Field::Peer(peer) => peer.into_raw().into(),
            Field::Torrent(_) => continue,
        };
        fields.insert(name.to_owned(), value);
    }
    json!({
        "event": "alert",
        "alert": alert.kind.what(),
        "message": alert.kind.message(),
        "time_ms": milliseconds(alert.timestamp),
        "torrent": torrent.map(|torrent| &torrent.hash),
        "fields": fields,
    })
}

pub(in crate::cli) fn progress(torrent: &Shown, status: &TorrentStatus) -> Value {
    json!({
        "event": "progress",
        "torrent": torrent.hash,
        "state": status.state.name(),
        "paused": status.paused,
        "total_bytes": status.total,
        "done_bytes": status.total_done,
        "wanted_bytes": status.total_wanted,
        "wanted_done_bytes": status.total_wanted_done,
        "pieces_checked": status.pieces_checked,
        "pieces_done": status.num_pieces,
        "down_bps": status.download_payload_rate,
        "up_bps": status.upload_payload_rate,
        "downloaded_bytes": status.total_payload_download,
        "uploaded_bytes": status.total_payload_upload,
        "peers": status.num_peers,
        "seeds": status.num_seeds,
        "eta_s": remaining(status).map(|left| left.as_secs()),
    })
}

pub(in crate::cli) fn finished(torrent: &Shown, status: &TorrentStatus, now: Duration) -> Value {
    json!({
        "event": "finished",
        "torrent": torrent.hash,
        "name": torrent.name,
        "path": path(torrent),
        "total_bytes": torrent.total,
        "downloaded_bytes": status.total_payload_download,
        "uploaded_bytes": status.total_payload_upload,
        "failed_bytes": status.total_failed_bytes,
        "redundant_bytes": status.total_redundant_bytes,
        "elapsed_ms": milliseconds(now.saturating_sub(torrent.since)),
    })
}

fn path(torrent: &Shown) -> Option<String> {
    torrent.path.as_ref().map(|path| path.to_string_lossy().into_owned())
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use pilotfish_plugin::{ErrorCode, PeerHandle, TorrentHandle};

    use super::*;
    use crate::alert::AlertKind;

    fn shown() -> Shown {
        Shown {
            handle: TorrentHandle::from_raw(1),
            name: "a \"b\"\n".to_owned(),
            hash: "ab".repeat(20),
            total: 5 << 30,
            pieces: 1280,
            path: Some("/d/a".into()),
            since: Duration::from_secs(1),
        }
    }

    #[test]
    fn the_first_line_says_what_to_expect() {
        let hello = hello(&[]);
        assert_eq!(
            (&hello["event"], &hello["schema"], &hello["plugins"]),
            (&json!("hello"), &json!(1), &json!([]))
        );
        assert_eq!(hello["api"], format!("{API_MAJOR}.{API_MINOR}"));
    }

    #[test]
    fn an_object_is_one_line_whatever_the_torrents_name() {
        let line = added(&shown(), "added").to_string();
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains(r#""name":"a \"b\"\n""#), "{line}");
        assert!(line.contains(r#""total_bytes":5368709120"#), "{line}");
    }

    #[test]
    fn an_alert_has_its_fields_and_the_torrents_hash() {
        let kind = AlertKind::PeerDisconnected {
            torrent: TorrentHandle::from_raw(1),
            peer: PeerHandle::from_raw(7),
            address: ([127, 0, 0, 1], 6881).into(),
            error: ErrorCode::END_OF_FILE,
        };
        let alert = Alert { timestamp: Duration::from_millis(1500), kind };
        let expected = json!({
            "event": "alert", "alert": "peer_disconnected", "time_ms": 1500, "torrent": "ab".repeat(20),
            "message": "127.0.0.1:6881: disconnected: End of file",
            "fields": {"peer": 7, "address": "127.0.0.1:6881", "error": "End of file"},
        });
        assert_eq!(happened(&alert, Some(&shown())), expected);
        assert_eq!(happened(&alert, None)["torrent"], Value::Null);
    }
}
