//! A small borrowed reader for bencoded dictionaries (BEP 3), for what the host lends to a hook.
//!
//! It allocates nothing and copies nothing. The host has checked what it passes in; bytes from elsewhere are read as
//! far as they make sense, and what does not is absent.

use std::fmt;

use abi_stable::std_types::RSlice;

/// How deep lists and dictionaries may be nested.
const MAX_DEPTH: u32 = 100;

/// One bencoded value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer.
    Int(i64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A list.
    List(List<'a>),
    /// A dictionary.
    Dict(Dict<'a>),
}

/// A bencoded dictionary.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Dict<'a>(&'a [u8]);

/// A bencoded list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct List<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// Reads the value at the front of `bytes`; also gives the bytes behind it.
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        Self::parse_at(bytes, 0)
    }

    fn parse_at(bytes: &'a [u8], depth: u32) -> Option<(Self, &'a [u8])> {
        match *bytes.first()? {
            b'i' => {
                let end = bytes.iter().position(|b| *b == b'e')?;
                let value = std::str::from_utf8(&bytes[1..end]).ok()?.parse().ok()?;
                Some((Self::Int(value), &bytes[end + 1..]))
            }
            b'0'..=b'9' => {
                let (string, rest) = parse_string(bytes)?;
                Some((Self::Bytes(string), rest))
            }
            kind @ (b'l' | b'd') => {
                let rest = skip_container(bytes, depth)?;
                let whole = &bytes[..bytes.len() - rest.len()];
                Some((if kind == b'l' { Self::List(List(whole)) } else { Self::Dict(Dict(whole)) }, rest))
            }
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn int(self) -> Option<i64> {
        if let Self::Int(value) = self { Some(value) } else { None }
    }

    /// The byte string, if it is one.
    pub fn bytes(self) -> Option<&'a [u8]> {
        if let Self::Bytes(value) = self { Some(value) } else { None }
    }

    /// The byte string, if it is one and is UTF-8.
    pub fn str(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The list, if it is one.
    pub fn list(self) -> Option<List<'a>> {
        if let Self::List(value) = self { Some(value) } else { None }
    }

    /// The dictionary, if it is one.
    pub fn dict(self) -> Option<Dict<'a>> {
        if let Self::Dict(value) = self { Some(value) } else { None }
    }
}

fn parse_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().take(20).position(|b| *b == b':')?;
    let len: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let body = &bytes[colon + 1..];
    (len <= body.len()).then(|| body.split_at(len))
}

/// What stands behind the list or dictionary at the front of `bytes`.
fn skip_container(bytes: &[u8], depth: u32) -> Option<&[u8]> {
    if depth >= MAX_DEPTH {
        return None;
    }
    let is_dict = bytes[0] == b'd';
    let mut rest = &bytes[1..];
    loop {
        if *rest.first()? == b'e' {
            return Some(&rest[1..]);
        }
        if is_dict {
            (_, rest) = parse_string(rest)?;
        }
        (_, rest) = Value::parse_at(rest, depth + 1)?;
    }
}

impl<'a> Dict<'a> {
    /// Reads a dictionary that fills `bytes` from the front; also gives the bytes behind it.
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (value, rest) = Value::parse(bytes)?;
        Some((value.dict()?, rest))
    }

    /// The value of a key.
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Value<'a>> {
        let key = key.as_ref();
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The integer at a key.
    pub fn int(self, key: impl AsRef<[u8]>) -> Option<i64> {
        self.get(key)?.int()
    }

    /// The byte string at a key.
    pub fn bytes(self, key: impl AsRef<[u8]>) -> Option<&'a [u8]> {
        self.get(key)?.bytes()
    }

    /// The text at a key.
    pub fn str(self, key: impl AsRef<[u8]>) -> Option<&'a str> {
        self.get(key)?.str()
    }

    /// The dictionary at a key.
    pub fn dict(self, key: impl AsRef<[u8]>) -> Option<Self> {
        self.get(key)?.dict()
    }

    /// The list at a key.
    pub fn list(self, key: impl AsRef<[u8]>) -> Option<List<'a>> {
        self.get(key)?.list()
    }

    /// All keys and values, in the order in which they stand.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
        let mut rest = self.0.get(1..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (key, after) = parse_string(rest)?;
            let (value, after) = Value::parse(after)?;
            rest = after;
            Some((key, value))
        })
    }

    /// The dictionary as it stands, with its `d` and `e`.
    pub fn raw(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> List<'a> {
    /// The values.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let mut rest = self.0.get(1..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (value, after) = Value::parse(rest)?;
            rest = after;
            Some(value)
        })
    }

    /// The list as it stands.
    pub fn raw(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> From<RSlice<'a, u8>> for Dict<'a> {
    /// What is no dictionary reads as an empty one.
    fn from(bytes: RSlice<'a, u8>) -> Self {
        Self::parse(bytes.as_slice()).map_or_else(Self::default, |(dict, _)| dict)
    }
}

impl fmt::Display for Value<'_> {
    /// One line, as libtorrent's `print_entry` prints it: text quoted, other bytes in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => value.fmt(f),
            Self::Bytes(bytes) => fmt_bytes(bytes, f),
            Self::List(list) => {
                f.write_str("[")?;
                for (i, value) in list.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { " " } else { ", " })?;
                }
                f.write_str(" ]")
            }
            Self::Dict(dict) => dict.fmt(f),
        }
    }
}

impl fmt::Display for Dict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (key, value)) in self.iter().enumerate() {
            f.write_str(if i == 0 { " " } else { ", " })?;
            fmt_bytes(key, f)?;
            write!(f, ": {value}")?;
        }
        f.write_str(" }")
    }
}

fn fmt_bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control()) => write!(f, "'{text}'"),
        _ => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Value::List(*self), f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_reads_back() {
        let bytes = b"d1:md11:ut_metadatai2ee1:v4:test6:yourip4:\x7f\0\0\x01e-tail";
        let (dict, rest) = Dict::parse(bytes).unwrap();
        assert_eq!(rest, b"-tail");
        assert_eq!(dict.dict("m").unwrap().int("ut_metadata"), Some(2));
        assert_eq!(dict.str("v"), Some("test"));
        assert_eq!(dict.get("none"), None);
        assert_eq!(dict.to_string(), "{ 'm': { 'ut_metadata': 2 }, 'v': 'test', 'yourip': 7f000001 }");
    }

    #[test]
    fn broken_input_is_absent_rather_than_wrong() {
        for bytes in [
            &b""[..],
            b"d",
            b"di1ee",
            b"d1:a",
            b"d1:ai1",
            b"5:abc",
            b"i1",
            b"ie",
            b"l",
            b"x",
            b"99999999999999999999:a",
        ] {
            assert_eq!(Value::parse(bytes), None, "{:?}", String::from_utf8_lossy(bytes));
        }
        let deep = [b"l".repeat(500), b"e".repeat(500)].concat();
        assert_eq!(Value::parse(&deep), None);
    }
}
