//! Bencoding (BEP 3): dictionaries as they come from strangers, and as we write them.
//!
//! A [`Document`] is read in three steps: [`canonical`] checks and repairs the bytes, bendy decodes them, and the
//! result is a tree of [`Value`]s that borrow their strings. The bytes as they came stay at hand, because an info-hash
//! is the hash of those. bendy costs a buffer of 144 KiB each time, so this is for handshakes and files, not for every
//! message.

mod repair;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use bendy::decoding::{Decoder, Object};
use bendy::encoding::{Encoder, Error as EncodeError, SingleItemEncoder};

pub use self::repair::canonical;

/// Bytes that are not the bencoding of anything we accept; always the fault of whoever wrote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BencodeError {
    /// The data ends within a value.
    #[error("the bencoded data is cut short")]
    Truncated,
    /// Something stands where it cannot.
    #[error("the data is not bencoded: unexpected byte at offset {0}")]
    Syntax(usize),
    /// More lists and dictionaries within each other than allowed.
    #[error("the bencoded data nests deeper than {0} levels")]
    TooDeep(usize),
    /// More values than allowed.
    #[error("the bencoded data has more than {0} items")]
    TooManyItems(usize),
    /// A dictionary that says two things about one key, which begins so.
    #[error("the bencoded data has the key {0:?} twice")]
    DuplicateKey(String),
    /// A number of more than 127 bits.
    #[error("the bencoded data holds a number of {0} digits, which is too large")]
    IntegerTooLarge(usize),
    /// A value, but not a dictionary.
    #[error("the bencoded data is not a dictionary")]
    NotADictionary,
    /// The decoder's own words; [`canonical`] leaves nothing for it to find.
    #[error("the data is not bencoded: {0}")]
    Refused(String),
}

/// How much structure to accept, so that a small message cannot become a large tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    depth: usize,
    items: usize,
}

impl Limits {
    /// For what a peer or a tracker sends.
    pub const MESSAGE: Self = Self::new(32, 65_536);

    /// For a torrent file; both numbers are libtorrent's.
    pub const TORRENT: Self = Self::new(100, 3_000_000);

    /// At most `items` values and keys, within at most `depth` lists and dictionaries. No more than 256 of
    /// these are ever accepted, because values are walked by recursion.
    pub const fn new(depth: usize, items: usize) -> Self {
        Self { depth: if depth > 256 { 256 } else { depth }, items }
    }

    /// How many lists and dictionaries may be within each other.
    pub const fn depth(self) -> usize {
        self.depth
    }

    /// The same, for a value that is within `levels` lists and dictionaries already.
    #[must_use]
    pub const fn nested(self, levels: usize) -> Self {
        Self { depth: self.depth.saturating_sub(levels), items: self.items }
    }
}

/// One bencoded value, checked and repaired, with the bytes that it came from.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    original: &'a [u8],
    canonical: Cow<'a, [u8]>,
    rest: &'a [u8],
    limits: Limits,
}

impl<'a> Document<'a> {
    /// Takes the value at the start of `bytes`.
    ///
    /// # Errors
    /// Whatever [`canonical`] refuses.
    pub fn parse(bytes: &'a [u8], limits: Limits) -> Result<Self, BencodeError> {
        let (canonical, length) = canonical(bytes, limits)?;
        let (original, rest) = bytes.split_at(length);
        Ok(Self { original, canonical, rest, limits })
    }

    /// The value as a tree.
    ///
    /// # Errors
    /// A number has more than 127 bits.
    pub fn value(&self) -> Result<Value<'_>, BencodeError> {
        let mut decoder = Decoder::new(&self.canonical).with_max_depth(self.limits.depth);
        match decoder.next_object().map_err(refused)? {
            Some(object) => read(object),
            None => Err(BencodeError::Truncated),
        }
    }

    /// As [`value`](Self::value), for what has to be a dictionary.
    ///
    /// # Errors
    /// It is something else, or a number has more than 127 bits.
    pub fn dict(&self) -> Result<Dict<'_>, BencodeError> {
        match self.value()? {
            Value::Dict(dict) => Ok(dict),
            _ => Err(BencodeError::NotADictionary),
        }
    }

    /// The value of a key of the outermost dictionary, exactly as it was written.
    pub fn raw(&self, key: &[u8]) -> Option<&'a [u8]> {
        repair::raw_value(self.original, key, self.limits)
    }

    /// What stood behind the value.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// A decoded value, or one to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number. Wide enough for what others write as an unsigned one of 64 bits.
    Int(i128),
    /// A string of bytes.
    Bytes(&'a [u8]),
    /// A list.
    List(Vec<Self>),
    /// A dictionary.
    Dict(Dict<'a>),
}

impl<'a> Value<'a> {
    /// The number, if it is one of 64 bits.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => i64::try_from(*int).ok(),
            _ => None,
        }
    }

    /// The string, if it is one.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The string, if it is one and UTF-8.
    pub fn str(&self) -> Option<&'a str> {
        self.bytes().and_then(|bytes| str::from_utf8(bytes).ok())
    }

    /// The list, if it is one.
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The dictionary, if it is one.
    pub fn dict(&self) -> Option<&Dict<'a>> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    /// The bencoded bytes, keys in order.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new().with_max_depth(usize::MAX);
        let written = encoder.emit_with(|item| self.encode_into(item));
        // The encoder's complaints are keys out of order and unfinished values; neither can come from a `Value`.
        written.and_then(|()| encoder.get_output()).unwrap_or_default()
    }

    fn encode_into(&self, encoder: SingleItemEncoder<'_>) -> Result<(), EncodeError> {
        match self {
            Self::Int(int) => encoder.emit_int(*int),
            Self::Bytes(bytes) => encoder.emit_bytes(bytes),
            Self::List(list) => encoder.emit_list(|items| {
                list.iter().try_for_each(|value| items.emit_with(|item| value.encode_into(item)))
            }),
            Self::Dict(dict) => encoder.emit_dict(|mut pairs| {
                dict.iter()
                    .try_for_each(|(key, value)| pairs.emit_pair_with(key, |item| value.encode_into(item)))
            }),
        }
    }
}

/// As libtorrent prints an `entry`: `{}` on one line, `{:#}` on several. Strings that are not printable ASCII appear
/// as hexadecimal.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, 0)
    }
}

impl Value<'_> {
    fn print(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        match self {
            Self::Int(int) => write!(f, "{int}"),
            Self::Bytes(bytes) => print_string(f, bytes),
            Self::List(list) => {
                print_items(f, ['[', ']'], indent + 1, list, |f, item| item.print(f, indent + 1))
            }
            Self::Dict(Dict(pairs)) => print_items(f, ['{', '}'], indent + 1, pairs, |f, (key, value)| {
                print_string(f, key)?;
                f.write_str(": ")?;
                value.print(f, indent + 2)
            }),
        }
    }
}

impl From<i64> for Value<'_> {
    fn from(int: i64) -> Self {
        Self::Int(int.into())
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(string: &'a str) -> Self {
        Self::Bytes(string.as_bytes())
    }
}

impl<'a> From<Vec<Self>> for Value<'a> {
    fn from(list: Vec<Self>) -> Self {
        Self::List(list)
    }
}

impl<'a> From<Dict<'a>> for Value<'a> {
    fn from(dict: Dict<'a>) -> Self {
        Self::Dict(dict)
    }
}

/// A dictionary, its keys in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dict<'a>(Vec<(&'a [u8], Value<'a>)>);

impl<'a> Dict<'a> {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Value<'a>> {
        let index = self.0.binary_search_by_key(&key, |(key, _)| key).ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    /// The number under a key, if it is one of 64 bits.
    pub fn int(&self, key: &[u8]) -> Option<i64> {
        self.get(key)?.int()
    }

    /// The string under a key, if it is one.
    pub fn bytes(&self, key: &[u8]) -> Option<&'a [u8]> {
        self.get(key)?.bytes()
    }

    /// The string under a key, if it is one and UTF-8.
    pub fn str(&self, key: &[u8]) -> Option<&'a str> {
        self.get(key)?.str()
    }

    /// The list under a key, if it is one.
    pub fn list(&self, key: &[u8]) -> Option<&[Value<'a>]> {
        self.get(key)?.list()
    }

    /// The dictionary under a key, if it is one.
    pub fn dict(&self, key: &[u8]) -> Option<&Self> {
        self.get(key)?.dict()
    }

    /// Every key with its value, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a [u8], &Value<'a>)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }
}

/// Of a key that comes twice, the last value counts.
impl<'a> FromIterator<(&'a [u8], Value<'a>)> for Dict<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a [u8], Value<'a>)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        // The sort is stable, so of equal keys the last is the last given.
        pairs.sort_by_key(|(key, _)| *key);
        pairs.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self(pairs)
    }
}

/// The recursion is as deep as the document, which [`canonical`] has bounded.
fn read<'a>(object: Object<'_, 'a>) -> Result<Value<'a>, BencodeError> {
    match object {
        Object::Integer(int) => match int.parse() {
            Ok(int) => Ok(Value::Int(int)),
            Err(_) => Err(BencodeError::IntegerTooLarge(int.trim_start_matches('-').len())),
        },
        Object::Bytes(bytes) => Ok(Value::Bytes(bytes)),
        Object::List(mut items) => {
            let mut list = Vec::new();
            while let Some(item) = items.next_object().map_err(refused)? {
                list.push(read(item)?);
            }
            Ok(Value::List(list))
        }
        Object::Dict(mut pairs) => {
            let mut dict = Vec::new();
            while let Some((key, value)) = pairs.next_pair().map_err(refused)? {
                dict.push((key, read(value)?));
            }
            Ok(Value::Dict(Dict(dict)))
        }
    }
}

fn refused(error: bendy::decoding::Error) -> BencodeError {
    BencodeError::Refused(error.to_string().replace('\n', " "))
}

fn print_items<T>(
    f: &mut fmt::Formatter<'_>,
    [open, close]: [char; 2],
    indent: usize,
    items: &[T],
    print: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    let (gap, indent) = if f.alternate() { ('\n', indent) } else { (' ', 0) };
    write!(f, "{open}{gap}")?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            write!(f, ",{gap}")?;
        }
        write!(f, "{:indent$}", "")?;
        print(f, item)?;
    }
    write!(f, " {close}")
}

fn print_string(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("'")?;
    let printable = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    match str::from_utf8(bytes) {
        Ok(string) if printable => f.write_str(string)?,
        _ => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?,
    }
    f.write_str("'")
}
