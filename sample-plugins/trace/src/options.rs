//! The plugin's settings. What is misspelled is refused: a scenario that vetoes nothing would look like one that holds.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use pilotfish_plugin::{Config, PeerHooks, SessionHooks, TorrentHooks};

use crate::schedule::Command;

const SETTINGS: [&str; 8] = ["path", "veto", "throw", "handle", "unknown", "pause_at", "resume_at", "add_at"];

const TIMES: [(&str, Command); 3] =
    [("pause_at", Command::Pause), ("resume_at", Command::Resume), ("add_at", Command::Attach)];

/// Hooks that write no line, and so can be neither vetoed nor made to panic.
const SILENT: [&str; 11] = [
    "alert_mask",
    "drain",
    "on_block_hash",
    "on_block_read",
    "on_metadata",
    "on_metadata_failed",
    "on_removed",
    "torrent_removed",
    "type_name",
    "unchoke_score",
    "wants_fragments",
];

/// Names of hooks, whichever trait they belong to.
pub(crate) type HookNames = BTreeSet<&'static str>;

/// The settings, checked.
pub(crate) struct Options {
    /// The file to write.
    pub(crate) path: PathBuf,
    /// Hooks that answer the opposite of their default.
    pub(crate) veto: HookNames,
    /// Hooks that panic.
    pub(crate) throw: HookNames,
    /// Whether lines of peers have the answers of their handles.
    pub(crate) handle: bool,
    /// The `.torrent` file that `on_unknown_torrent` offers.
    pub(crate) unknown: Option<String>,
    /// What to do when, after the start; the earliest first.
    pub(crate) schedule: Vec<(Duration, Command)>,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// A line that names the setting and what is wrong with it.
    pub(crate) fn read(config: &Config<'_>) -> Result<Self, String> {
        config.only(&SETTINGS)?;
        Ok(Self {
            path: config.get("path").ok_or("the setting path is missing: the file to write")?.into(),
            veto: hook_names(config, "veto")?,
            throw: hook_names(config, "throw")?,
            handle: config.parse("handle")?.unwrap_or(false),
            unknown: config.get("unknown").map(str::to_owned),
            schedule: schedule(config)?,
        })
    }

    /// Whether torrents are traced from a given moment rather than from their first.
    pub(crate) fn attaches_late(&self) -> bool {
        self.schedule.iter().any(|(_, command)| *command == Command::Attach)
    }
}

fn hook_names(config: &Config<'_>, setting: &str) -> Result<HookNames, String> {
    let known = traced_hooks();
    let listed = config.get(setting).unwrap_or_default();
    let names = listed.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            known.get(name).copied().ok_or_else(|| {
                let known = known.iter().copied().collect::<Vec<_>>().join(", ");
                format!("the setting {setting} cannot name {name:?}; there are: {known}")
            })
        })
        .collect()
}

fn traced_hooks() -> HookNames {
    let all = [SessionHooks::NAMES, TorrentHooks::NAMES, PeerHooks::NAMES];
    all.into_iter().flatten().copied().filter(|name| !SILENT.contains(name)).collect()
}

fn schedule(config: &Config<'_>) -> Result<Vec<(Duration, Command)>, String> {
    let mut schedule = Vec::new();
    for (setting, command) in TIMES {
        if let Some(ms) = config.parse(setting)? {
            schedule.push((Duration::from_millis(ms), command));
        }
    }
    schedule.sort_by_key(|(at, _)| *at);
    Ok(schedule)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<Options, String> {
        let strings = settings.iter().flat_map(|(key, value)| [key, value]);
        let body: String = strings.map(|text| format!("{}:{text}", text.len())).collect();
        Options::read(&Config::from_bencode(format!("d{body}e").as_bytes()))
    }

    fn refusal(settings: &[(&str, &str)]) -> String {
        read(settings).err().unwrap()
    }

    #[test]
    fn a_path_is_all_it_takes() {
        let options = read(&[("path", "t.jsonl")]).unwrap();
        assert_eq!(options.path, PathBuf::from("t.jsonl"));
        assert!(options.veto.is_empty() && options.throw.is_empty() && options.schedule.is_empty());
        assert!(!options.handle && !options.attaches_late() && options.unknown.is_none());
    }

    #[test]
    fn without_a_path_there_is_nothing_to_write() {
        assert!(refusal(&[("handle", "true")]).contains("path"));
    }

    #[test]
    fn settings_that_do_not_exist_are_refused() {
        assert!(refusal(&[("path", "t"), ("vetoes", "on_have")]).contains("no setting vetoes"));
    }

    #[test]
    fn hooks_of_all_traits_are_known() {
        let options = read(&[("path", "t"), ("veto", "on_dht_request, new_connection,,on_have")]).unwrap();
        assert!(options.veto.iter().eq(&["new_connection", "on_dht_request", "on_have"]));
    }

    #[test]
    fn hooks_that_do_not_exist_are_refused_with_those_that_do() {
        let text = refusal(&[("path", "t"), ("throw", "on_have,on_hvae")]);
        assert!(
            text.starts_with("the setting throw cannot name \"on_hvae\"; there are: abort, add_handshake,")
        );
    }

    #[test]
    fn hooks_without_a_line_are_refused_too() {
        for name in SILENT {
            assert!(refusal(&[("path", "t"), ("throw", name)]).contains(name));
        }
    }

    #[test]
    fn names_of_silent_hooks_are_those_of_the_interface() {
        let all = [SessionHooks::NAMES, TorrentHooks::NAMES, PeerHooks::NAMES].concat();
        assert!(SILENT.iter().all(|name| all.contains(name)));
    }

    #[test]
    fn times_are_sorted() {
        let settings = [("path", "t"), ("pause_at", "1500"), ("resume_at", "3000"), ("add_at", "20")];
        let options = read(&settings).unwrap();
        let ms: Vec<_> = options.schedule.iter().map(|(at, command)| (at.as_millis(), *command)).collect();
        assert_eq!(ms, [(20, Command::Attach), (1500, Command::Pause), (3000, Command::Resume)]);
        assert!(options.attaches_late());
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        assert!(refusal(&[("path", "t"), ("pause_at", "soon")]).contains("pause_at cannot be \"soon\""));
        assert!(refusal(&[("path", "t"), ("handle", "yes")]).contains("handle cannot be \"yes\""));
    }
}
