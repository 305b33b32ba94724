//! The extension protocol on one connection (BEP 10): which ids we gave out, and which the peer did.

use std::collections::HashMap;

use pilotfish_plugin::PluginId;

/// Ids that the engine keeps for itself, by the names under which it announces them. libtorrent's numbers.
pub const ENGINE_EXTENSIONS: [(&str, u8); 3] =
    [("upload_only", UPLOAD_ONLY), ("ut_holepunch", UT_HOLEPUNCH), ("lt_donthave", LT_DONTHAVE)];
/// Our id of `upload_only` (BEP 21, as an extended message).
pub const UPLOAD_ONLY: u8 = 3;
/// Our id of `ut_holepunch` (BEP 55).
pub const UT_HOLEPUNCH: u8 = 4;
/// Our id of `lt_donthave` (BEP 54).
pub const LT_DONTHAVE: u8 = 7;
/// Our id of libtorrent's `share_mode`, kept free.
pub const SHARE_MODE: u8 = 8;
/// So many names of a peer are kept.
const MOST_NAMES: usize = 255;
/// A name that is longer, in bytes, is none of ours.
const LONGEST_NAME: usize = 255;
/// The first id that plugins get.
const FIRST_PLUGIN_ID: u8 = 10;

/// The ids of one connection, both ways.
#[derive(Debug, Default)]
pub struct Extensions {
    ours: Vec<Ours>,
    theirs: HashMap<String, u8>,
}

#[derive(Debug)]
struct Ours {
    name: String,
    id: u8,
    plugin: PluginId,
}

/// Why a name could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// Another plugin, or the engine, has it.
    NameTaken,
    /// All ids are given out.
    NoneLeft,
}

impl Extensions {
    /// Gives a plugin an id for a name; the same one if it asks again.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn register(&mut self, plugin: PluginId, name: &str) -> Result<u8, RegisterError> {
        if ENGINE_EXTENSIONS.iter().any(|(engine, _)| *engine == name) {
            return Err(RegisterError::NameTaken);
        }
        if let Some(known) = self.ours.iter().find(|ours| ours.name == name) {
            return if known.plugin == plugin { Ok(known.id) } else { Err(RegisterError::NameTaken) };
        }
        let next = self.ours.last().map_or(Some(FIRST_PLUGIN_ID), |last| last.id.checked_add(1));
        let id = next.ok_or(RegisterError::NoneLeft)?;
        self.ours.push(Ours { name: name.to_owned(), id, plugin });
        Ok(id)
    }

    /// The names that plugins took, with our ids.
    pub fn ours(&self) -> impl Iterator<Item = (&str, u8)> {
        self.ours.iter().map(|ours| (ours.name.as_str(), ours.id))
    }

    /// The peer's extended handshake: names and its ids. An id of 0 takes a name back; others are kept (BEP 10). There are no
    /// more ids than 255, and a peer that says more names only wants our memory.
    pub fn learn<'a>(&mut self, announced: impl IntoIterator<Item = (&'a str, u8)>) {
        for (name, id) in announced {
            if id == 0 {
                self.theirs.remove(name);
            } else if name.len() <= LONGEST_NAME
                && (self.theirs.len() < MOST_NAMES || self.theirs.contains_key(name))
            {
                self.theirs.insert(name.to_owned(), id);
            }
        }
    }

    /// The id under which the peer takes messages of this name.
    pub fn theirs(&self, name: &str) -> Option<u8> {
        self.theirs.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_plugin_to_take_a_name_has_it() {
        let mut extensions = Extensions::default();
        let (a, b) = (PluginId(0), PluginId(1));
        assert_eq!(extensions.register(a, "ut_x"), Ok(10));
        assert_eq!(extensions.register(a, "ut_x"), Ok(10));
        assert_eq!(extensions.register(b, "ut_x"), Err(RegisterError::NameTaken));
        assert_eq!(extensions.register(b, "ut_y"), Ok(11));
        assert_eq!(extensions.register(b, "lt_donthave"), Err(RegisterError::NameTaken));
    }

    #[test]
    fn a_peer_that_says_name_after_name_is_not_remembered_for_ever() {
        let mut extensions = Extensions::default();
        for round in 0..10 {
            let names: Vec<String> = (0..100).map(|i| format!("x{round}-{i}")).collect();
            extensions.learn(names.iter().map(|name| (name.as_str(), 1)));
        }
        extensions.learn([("x0-0", 7), ("x".repeat(1_000).as_str(), 8)]);
        assert_eq!((extensions.theirs.len(), extensions.theirs("x0-0")), (255, Some(7)));
    }

    #[test]
    fn a_later_handshake_adds_and_takes_back() {
        let mut extensions = Extensions::default();
        extensions.learn([("a", 1), ("b", 2)]);
        extensions.learn([("a", 0), ("c", 3)]);
        assert_eq!(["a", "b", "c"].map(|name| extensions.theirs(name)), [None, Some(2), Some(3)]);
    }
}
