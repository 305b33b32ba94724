//! What settings can say about encryption.

use super::value::Value;

/// What is done about the encryption handshake (libtorrent's `enc_policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncPolicy {
    /// No connection is without it.
    Forced,
    /// A connection may be with it or without.
    Enabled,
    /// No connection is with it.
    Disabled,
}

/// What may follow the encryption handshake (libtorrent's `enc_level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncLevel {
    /// Plain text.
    Plaintext,
    /// RC4.
    Rc4,
    /// Either.
    Both,
}

/// libtorrent's names, with or without their `pe_`, or its numbers.
impl Value for EncPolicy {
    type Limits = ();

    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("pe_").unwrap_or(text) {
            "forced" | "0" => Some(Self::Forced),
            "enabled" | "1" => Some(Self::Enabled),
            "disabled" | "2" => Some(Self::Disabled),
            _ => None,
        }
    }
    fn fits(&self, (): &()) -> bool {
        true
    }
    fn allowed((): &()) -> String {
        "forced, enabled, or disabled".to_owned()
    }
    fn text(&self) -> String {
        match self {
            Self::Forced => "forced",
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
        .to_owned()
    }
}

/// As [`EncPolicy`].
impl Value for EncLevel {
    type Limits = ();

    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("pe_").unwrap_or(text) {
            "plaintext" | "1" => Some(Self::Plaintext),
            "rc4" | "2" => Some(Self::Rc4),
            "both" | "3" => Some(Self::Both),
            _ => None,
        }
    }
    fn fits(&self, (): &()) -> bool {
        true
    }
    fn allowed((): &()) -> String {
        "plaintext, rc4, or both".to_owned()
    }
    fn text(&self) -> String {
        match self {
            Self::Plaintext => "plaintext",
            Self::Rc4 => "rc4",
            Self::Both => "both",
        }
        .to_owned()
    }
}
