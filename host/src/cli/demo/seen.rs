//! What the sample plugins wrote down.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::Path;

use serde_json::{Value, json};

use super::stage::{NAMES, Stage};
use super::{INDENT, Story};
use crate::cli::exit::{ExitCode, Failure};

/// Lines of peer-log that are shown.
const LINES: usize = 8;

/// Characters of a line, indentation included.
const WIDTH: usize = 80;

/// Hooks that are shown with their counts, the busiest first; the others are only named.
const ROWS: usize = 16;

/// A hook's calls in each session, in the order of [`NAMES`].
type Calls = [u64; NAMES.len()];

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By whose they are and their name, such as `peer on_have`: trace's lines.
    hooks: BTreeMap<String, Calls>,
    /// The beginning of the first leech's peer-log.
    log: Vec<String>,
}

impl Seen {
    /// Reads what the samples wrote; what was not loaded wrote nothing.
    ///
    /// # Errors
    /// A file cannot be read, or is no trace.
    pub(super) fn read(stage: &Stage) -> Result<Self, Failure> {
        let mut seen = Self::default();
        for (session, name) in NAMES.into_iter().enumerate() {
            for_each_line(&stage.notes(name, "trace"), |line| {
                let hook = hook(&line).ok_or("a line that is no trace")?;
                seen.hooks.entry(hook).or_default()[session] += 1;
                Ok(true)
            })?;
        }
        for_each_line(&stage.notes(NAMES[1], "peer-log"), |line| {
            seen.log.push(line);
            Ok(seen.log.len() < LINES)
        })?;
        Ok(seen)
    }

    /// Whether there was no trace.
    pub(super) fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Tells it to people and to programs.
    pub(super) fn tell(&self, story: &Story<'_>) {
        if !self.hooks.is_empty() {
            story.heading("What trace saw: how often each hook was called");
            self.tell_hooks(story);
        }
        if !self.log.is_empty() {
            story.heading("What peer-log saw first in leech 1");
            self.log.iter().for_each(|line| story.line(format!("{INDENT}{}", cut(line))));
        }
        if story.0.json() {
            for (index, name) in NAMES.iter().enumerate() {
                let hooks: BTreeMap<&str, u64> =
                    self.hooks.iter().map(|(hook, calls)| (hook.as_str(), calls[index])).collect();
                story.0.object(&json!({"event": "hooks", "session": name, "calls": hooks}));
            }
        }
    }

    fn tell_hooks(&self, story: &Story<'_>) {
        let mut hooks: Vec<(&String, &Calls)> = self.hooks.iter().collect();
        hooks.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.iter().sum::<u64>()));
        let (shown, named) = hooks.split_at(ROWS.min(hooks.len()));
        let mut rows = vec![[""].iter().chain(&NAMES).map(|cell| (*cell).to_owned()).collect()];
        let row = |(hook, calls): &(&String, &Calls)| {
            [(*hook).clone()].into_iter().chain(calls.iter().map(u64::to_string)).collect::<Vec<_>>()
        };
        rows.extend(shown.iter().map(row));
        story.table(&rows);
        for who in ["peer", "torrent", "session"] {
            let of = |(hook, _): &(&String, _)| hook.strip_prefix(who).map(|name| name.trim().to_owned());
            let names: Vec<String> = named.iter().filter_map(of).collect();
            if !names.is_empty() {
                wrap(&format!("other {who} hooks: {}", names.join(", ")))
                    .iter()
                    .for_each(|line| story.line(line));
            }
        }
    }

    /// Whether the leeches' plugins saw each of the torrent's blocks come in.
    ///
    /// # Errors
    /// They did not.
    pub(super) fn check(&self, blocks: u64) -> Result<(), Failure> {
        if self.is_empty() {
            return Ok(());
        }
        let calls = self.hooks.get("peer on_piece").copied().unwrap_or_default();
        match NAMES.iter().zip(calls).skip(1).find(|(_, calls)| *calls < blocks) {
            None => Ok(()),
            Some((name, calls)) => {
                let text = format!("{name}: trace saw {calls} of {blocks} blocks");
                Err(Failure::new(ExitCode::Other, text))
            }
        }
    }
}

/// Hands each line of a file to `take`, until that has enough. A file that does not exist has none.
fn for_each_line(
    path: &Path,
    mut take: impl FnMut(String) -> Result<bool, &'static str>,
) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(ExitCode::Disk, format!("{}: cannot be read: {error}", path.display()))
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|error| failed(&error))?,
    };
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| failed(&error))?;
        if !take(line).map_err(|error| failed(&error))? {
            break;
        }
    }
    Ok(())
}

/// The hook that a line of a trace is about. Of a hook that torrents and connections both have, each is one.
fn hook(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let who = line.get("who")?.as_str()?.trim_end_matches(|c: char| c.is_ascii_digit());
    Some(format!("{who} {}", line.get("hook")?.as_str()?))
}

/// As much of a line as there is room for.
fn cut(line: &str) -> String {
    let room = WIDTH - INDENT.len();
    match line.chars().count() > room {
        true => line.chars().take(room - 1).chain(['…']).collect(),
        false => line.to_owned(),
    }
}

/// Breaks a list at its commas.
fn wrap(list: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for item in list.split_inclusive(", ") {
        if lines.last().is_some_and(|line| INDENT.len() + line.len() + item.trim_end().len() > WIDTH) {
            lines.push(String::new());
        }
        lines.last_mut().into_iter().for_each(|line| line.push_str(item));
    }
    lines.iter().map(|line| format!("{INDENT}{}", line.trim_end())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn calls_are_counted_per_session() {
        let stage = Stage::set().unwrap();
        let line =
            |hook: &str| format!("{{\"seq\":0,\"who\":\"peer12\",\"hook\":\"{hook}\",\"args\":{{}}}}\n");
        fs::write(stage.notes(NAMES[0], "trace"), line("on_request")).unwrap();
        for name in &NAMES[1..] {
            fs::write(stage.notes(name, "trace"), line("on_piece").repeat(2) + &line("tick")).unwrap();
        }
        let seen = Seen::read(&stage).unwrap();
        let expected =
            [("peer on_piece", [0, 2, 2, 2]), ("peer on_request", [1, 0, 0, 0]), ("peer tick", [0, 1, 1, 1])];
        assert!(seen.hooks.into_iter().eq(expected.map(|(hook, calls)| (hook.to_owned(), calls))));
    }

    #[test]
    fn a_block_that_no_plugin_saw_is_an_error() {
        let stage = Stage::set().unwrap();
        assert!(Seen::read(&stage).unwrap().check(1).is_ok(), "no plugins");
        let mut seen = Seen::default();
        seen.hooks.insert("peer on_piece".to_owned(), [0, 5, 4, 5]);
        assert!(seen.check(4).is_ok());
        assert_eq!(seen.check(5).unwrap_err().to_string(), "leech 2: trace saw 4 of 5 blocks");
    }

    #[test]
    fn lines_fit_the_narrowest_terminal() {
        assert_eq!(cut(&"ä".repeat(78)), "ä".repeat(78));
        assert_eq!(cut(&"ä".repeat(79)), "ä".repeat(77) + "…");
        let list = ["peer on_interested"; 9].join(", ");
        let lines = wrap(&list);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [61, 61, 60]);
        assert_eq!(lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "), list);
    }

    #[test]
    fn what_is_no_trace_is_an_error() {
        let stage = Stage::set().unwrap();
        fs::write(stage.notes(NAMES[2], "trace"), "hello\n").unwrap();
        assert_eq!(Seen::read(&stage).unwrap_err().code, ExitCode::Disk);
    }
}
