//! The settings with which a plugin is opened.

use crate::bencode::Dict;

/// A plugin's settings: what `--plugin-set NAME.KEY=VALUE` gave it, as text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Config<'a>(Dict<'a>);

impl<'a> Config<'a> {
    #[doc(hidden)]
    pub fn from_bencode(bytes: &'a [u8]) -> Self {
        Self(Dict::parse(bytes).map_or_else(Dict::default, |(dict, _)| dict))
    }

    /// The value of a setting.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.0.str(key)
    }

    /// The value of a setting as a number or anything else that can be parsed.
    ///
    /// # Errors
    /// A line that names the setting, if its value does not fit.
    pub fn parse<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("the setting {key} cannot be {text:?}"))
    }

    /// All settings.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(|(key, value)| Some((std::str::from_utf8(key).ok()?, value.str()?)))
    }

    /// Refuses settings that the plugin does not have, so that a typo is not silently without effect.
    ///
    /// # Errors
    /// A line that names the setting and those that exist.
    pub fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.iter().find(|(key, _)| !known.contains(key)) {
            Some((key, _)) => Err(format!("there is no setting {key}; there are: {}", known.join(", "))),
            None => Ok(()),
        }
    }
}
