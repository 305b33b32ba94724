//! A dictionary under construction, whose parts have numbers.
//!
//! Plugins write into dictionaries that the engine owns, and know their parts by [`EntryId`]. A number may be stale or
//! made up: every method answers for such a one instead of trusting it. Cloning the tree is how to get back to an
//! earlier state.

use std::collections::BTreeMap;
use std::fmt;

use super::bencode::{BencodeError, Dict, Document, Limits, Value};

/// What can be built is what our own reader accepts.
const LIMITS: Limits = Limits::MESSAGE;

/// Names one value in an [`EntryTree`]. Any number may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryId(pub u32);

/// Why a tree was left as it was. The fault is the caller's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The id is not one that the tree gave out.
    #[error("there is no such entry")]
    NoSuchEntry,
    /// A key was used on something else than a dictionary.
    #[error("the entry is not a dictionary")]
    NotADictionary,
    /// A value was appended to something else than a list.
    #[error("the entry is not a list")]
    NotAList,
    /// Lists and dictionaries nest too deep.
    #[error("entries cannot nest deeper than {} levels", LIMITS.depth())]
    TooDeep,
    /// The tree has had as many values as there are ids.
    #[error("the tree has too many entries")]
    Full,
    /// A value that was said to be bencoded is not, or not alone.
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    /// A number needs more than 64 bits.
    #[error("the number {0} is too large")]
    IntegerTooLarge(i128),
}

/// What sort of value an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A number.
    Int,
    /// A string of bytes.
    Bytes,
    /// A list.
    List,
    /// A dictionary.
    Dict,
}

/// A bencoded value that can be changed; at first an empty dictionary.
///
/// Writing to a key keeps the id of what was there, like `e["key"] = value` in libtorrent. Removing detaches: the ids
/// of what was removed stay usable but lead nowhere, and their memory is the tree's until it is dropped.
#[derive(Clone, Debug)]
pub struct EntryTree {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    content: Content,
    /// How many lists and dictionaries it is in.
    depth: usize,
}

#[derive(Clone, Debug)]
enum Content {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<EntryId>),
    Dict(BTreeMap<Vec<u8>, EntryId>),
}

impl Default for EntryTree {
    fn default() -> Self {
        Self::new()
    }
}

impl EntryTree {
    /// The outermost dictionary.
    pub const ROOT: EntryId = EntryId(0);

    /// An empty dictionary.
    pub fn new() -> Self {
        Self { entries: vec![Entry { content: Content::Dict(BTreeMap::new()), depth: 0 }] }
    }

    /// A copy of a bencoded dictionary.
    ///
    /// # Errors
    /// It is not one, something follows it, or it nests too deep.
    pub fn from_bencode(bytes: &[u8]) -> Result<Self, EntryError> {
        let document = whole(bytes, LIMITS)?;
        let dict = document.dict()?;
        let mut tree = Self::new();
        let content = tree.grow(&Value::Dict(dict), 0)?;
        tree.entries[0].content = content;
        Ok(tree)
    }

    /// Sets a key to a number.
    ///
    /// # Errors
    /// `dict` is not a dictionary of this tree.
    pub fn insert_int(&mut self, dict: EntryId, key: &[u8], int: i64) -> Result<(), EntryError> {
        self.place(dict, key, Content::Int(int)).map(|_| ())
    }

    /// Sets a key to a string.
    ///
    /// # Errors
    /// `dict` is not a dictionary of this tree.
    pub fn insert_bytes(&mut self, dict: EntryId, key: &[u8], bytes: &[u8]) -> Result<(), EntryError> {
        self.place(dict, key, Content::Bytes(bytes.to_vec())).map(|_| ())
    }

    /// Sets a key to a value that is bencoded already. It is taken apart, so keys out of order are put in order.
    ///
    /// # Errors
    /// `dict` is not a dictionary of this tree; `bencoded` is malformed, has something behind it or nests too deep.
    pub fn insert_raw(&mut self, dict: EntryId, key: &[u8], bencoded: &[u8]) -> Result<(), EntryError> {
        let content = self.decode(dict, bencoded)?;
        self.place(dict, key, content).map(|_| ())
    }

    /// The dictionary under a key. Whatever else is there is replaced by an empty one.
    ///
    /// # Errors
    /// `dict` is not a dictionary of this tree, or is nested too deep already.
    pub fn dict(&mut self, dict: EntryId, key: &[u8]) -> Result<EntryId, EntryError> {
        match self.get(dict, key) {
            Some(id) if self.kind(id) == Some(EntryKind::Dict) => Ok(id),
            _ => self.place(dict, key, Content::Dict(BTreeMap::new())),
        }
    }

    /// The list under a key. Whatever else is there is replaced by an empty one.
    ///
    /// # Errors
    /// `dict` is not a dictionary of this tree, or is nested too deep already.
    pub fn list(&mut self, dict: EntryId, key: &[u8]) -> Result<EntryId, EntryError> {
        match self.get(dict, key) {
            Some(id) if self.kind(id) == Some(EntryKind::List) => Ok(id),
            _ => self.place(dict, key, Content::List(Vec::new())),
        }
    }

    /// Appends a number to a list.
    ///
    /// # Errors
    /// `list` is not a list of this tree.
    pub fn push_int(&mut self, list: EntryId, int: i64) -> Result<(), EntryError> {
        self.append(list, Content::Int(int)).map(|_| ())
    }

    /// Appends a string to a list.
    ///
    /// # Errors
    /// `list` is not a list of this tree.
    pub fn push_bytes(&mut self, list: EntryId, bytes: &[u8]) -> Result<(), EntryError> {
        self.append(list, Content::Bytes(bytes.to_vec())).map(|_| ())
    }

    /// Appends a value that is bencoded already to a list. It is taken apart, as by [`insert_raw`](Self::insert_raw).
    ///
    /// # Errors
    /// `list` is not a list of this tree; `bencoded` is malformed, has something behind it or nests too deep.
    pub fn push_raw(&mut self, list: EntryId, bencoded: &[u8]) -> Result<(), EntryError> {
        let content = self.decode(list, bencoded)?;
        self.append(list, content).map(|_| ())
    }

    /// Appends an empty dictionary to a list.
    ///
    /// # Errors
    /// `list` is not a list of this tree, or is nested too deep already.
    pub fn push_dict(&mut self, list: EntryId) -> Result<EntryId, EntryError> {
        self.append(list, Content::Dict(BTreeMap::new()))
    }

    /// Appends an empty list to a list.
    ///
    /// # Errors
    /// `list` is not a list of this tree, or is nested too deep already.
    pub fn push_list(&mut self, list: EntryId) -> Result<EntryId, EntryError> {
        self.append(list, Content::List(Vec::new()))
    }

    /// The value of a key, if `dict` is a dictionary that has it.
    pub fn get(&self, dict: EntryId, key: &[u8]) -> Option<EntryId> {
        match self.content(dict)? {
            Content::Dict(pairs) => pairs.get(key).copied(),
            _ => None,
        }
    }

    /// An item of a list, if `list` is a list that has it.
    pub fn at(&self, list: EntryId, index: usize) -> Option<EntryId> {
        match self.content(list)? {
            Content::List(items) => items.get(index).copied(),
            _ => None,
        }
    }

    /// What sort of value it is, if there is one.
    pub fn kind(&self, id: EntryId) -> Option<EntryKind> {
        Some(match self.content(id)? {
            Content::Int(_) => EntryKind::Int,
            Content::Bytes(_) => EntryKind::Bytes,
            Content::List(_) => EntryKind::List,
            Content::Dict(_) => EntryKind::Dict,
        })
    }

    /// The number, if it is one.
    pub fn int(&self, id: EntryId) -> Option<i64> {
        match self.content(id)? {
            Content::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The string, if it is one.
    pub fn bytes(&self, id: EntryId) -> Option<&[u8]> {
        match self.content(id)? {
            Content::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// How many items or keys it has, if it is a list or a dictionary.
    pub fn len(&self, id: EntryId) -> Option<usize> {
        match self.content(id)? {
            Content::List(items) => Some(items.len()),
            Content::Dict(pairs) => Some(pairs.len()),
            _ => None,
        }
    }

    /// The keys in order, if it is a dictionary.
    pub fn keys(&self, dict: EntryId) -> Option<impl ExactSizeIterator<Item = &[u8]>> {
        match self.content(dict)? {
            Content::Dict(pairs) => Some(pairs.keys().map(Vec::as_slice)),
            _ => None,
        }
    }

    /// Takes a key out of a dictionary, and says whether it was there.
    ///
    /// # Errors
    /// `dict` is not a dictionary of this tree.
    pub fn remove(&mut self, dict: EntryId, key: &[u8]) -> Result<bool, EntryError> {
        match self.content_mut(dict)? {
            Content::Dict(pairs) => Ok(pairs.remove(key).is_some()),
            _ => Err(EntryError::NotADictionary),
        }
    }

    /// Empties a list, a dictionary or a string, and makes a number 0.
    ///
    /// # Errors
    /// `id` is not of this tree.
    pub fn clear(&mut self, id: EntryId) -> Result<(), EntryError> {
        match self.content_mut(id)? {
            Content::Int(int) => *int = 0,
            Content::Bytes(bytes) => bytes.clear(),
            Content::List(items) => items.clear(),
            Content::Dict(pairs) => pairs.clear(),
        }
        Ok(())
    }

    /// The bencoded bytes of one value and everything in it, if there is such a value.
    pub fn encode(&self, id: EntryId) -> Option<Vec<u8>> {
        self.value(id).map(|value| value.encode())
    }

    /// The bencoded bytes of the outermost dictionary.
    pub fn encode_root(&self) -> Vec<u8> {
        self.encode(Self::ROOT).unwrap_or_default()
    }

    /// One value and everything in it, to be read, printed or encoded.
    pub fn value<'a>(&'a self, id: EntryId) -> Option<Value<'a>> {
        Some(match self.content(id)? {
            Content::Int(int) => Value::from(*int),
            Content::Bytes(bytes) => Value::Bytes(bytes),
            Content::List(items) => Value::List(items.iter().filter_map(|&item| self.value(item)).collect()),
            Content::Dict(pairs) => {
                let value = |(key, &id): (&'a Vec<u8>, &EntryId)| Some((&key[..], self.value(id)?));
                Value::Dict(pairs.iter().filter_map(value).collect())
            }
        })
    }

    fn content(&self, id: EntryId) -> Option<&Content> {
        self.entries.get(id.0 as usize).map(|entry| &entry.content)
    }

    fn content_mut(&mut self, id: EntryId) -> Result<&mut Content, EntryError> {
        let entry = self.entries.get_mut(id.0 as usize).ok_or(EntryError::NoSuchEntry)?;
        Ok(&mut entry.content)
    }

    /// Puts something under a key, with the id of what was there, or else a new one.
    fn place(&mut self, dict: EntryId, key: &[u8], content: Content) -> Result<EntryId, EntryError> {
        let depth = self.depth_in(dict, &content)?;
        let next = self.next_id()?;
        let Content::Dict(pairs) = self.content_mut(dict)? else { return Err(EntryError::NotADictionary) };
        match pairs.get(key) {
            Some(&id) => {
                *self.content_mut(id)? = content;
                Ok(id)
            }
            None => {
                pairs.insert(key.to_vec(), next);
                self.entries.push(Entry { content, depth });
                Ok(next)
            }
        }
    }

    fn append(&mut self, list: EntryId, content: Content) -> Result<EntryId, EntryError> {
        let depth = self.depth_in(list, &content)?;
        let next = self.next_id()?;
        let Content::List(items) = self.content_mut(list)? else { return Err(EntryError::NotAList) };
        items.push(next);
        self.entries.push(Entry { content, depth });
        Ok(next)
    }

    /// How deep `content` would be in `parent`.
    fn depth_in(&self, parent: EntryId, content: &Content) -> Result<usize, EntryError> {
        let parent = self.entries.get(parent.0 as usize).ok_or(EntryError::NoSuchEntry)?;
        let depth = parent.depth + 1;
        match content {
            Content::List(_) | Content::Dict(_) if depth >= LIMITS.depth() => Err(EntryError::TooDeep),
            _ => Ok(depth),
        }
    }

    fn next_id(&self) -> Result<EntryId, EntryError> {
        u32::try_from(self.entries.len()).map(EntryId).map_err(|_| EntryError::Full)
    }

    /// Takes `bencoded` apart, to become a child of `parent`. If that fails, nothing is left behind.
    fn decode(&mut self, parent: EntryId, bencoded: &[u8]) -> Result<Content, EntryError> {
        let depth = self.depth_in(parent, &Content::Int(0))?;
        let document = whole(bencoded, LIMITS.nested(depth))?;
        let before = self.entries.len();
        let content = self.grow(&document.value()?, depth);
        content.inspect_err(|_| self.entries.truncate(before))
    }

    /// Makes entries of everything that `value` contains, and the content of an entry of `value` itself.
    fn grow(&mut self, value: &Value<'_>, depth: usize) -> Result<Content, EntryError> {
        Ok(match value {
            Value::Int(int) => {
                Content::Int(i64::try_from(*int).map_err(|_| EntryError::IntegerTooLarge(*int))?)
            }
            Value::Bytes(bytes) => Content::Bytes(bytes.to_vec()),
            Value::List(list) => {
                let items = list.iter().map(|value| self.grow_child(value, depth + 1));
                Content::List(items.collect::<Result<_, _>>()?)
            }
            Value::Dict(dict) => {
                let pairs =
                    dict.iter().map(|(key, value)| Ok((key.to_vec(), self.grow_child(value, depth + 1)?)));
                Content::Dict(pairs.collect::<Result<_, EntryError>>()?)
            }
        })
    }

    fn grow_child(&mut self, value: &Value<'_>, depth: usize) -> Result<EntryId, EntryError> {
        let content = self.grow(value, depth)?;
        let id = self.next_id()?;
        self.entries.push(Entry { content, depth });
        Ok(id)
    }
}

/// As libtorrent prints an `entry`: `{}` on one line, `{:#}` on several.
impl fmt::Display for EntryTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value(Self::ROOT).unwrap_or(Value::Dict(Dict::default())).fmt(f)
    }
}

fn whole(bencoded: &[u8], limits: Limits) -> Result<Document<'_>, BencodeError> {
    let document = Document::parse(bencoded, limits)?;
    match document.rest().len() {
        0 => Ok(document),
        rest => Err(BencodeError::Syntax(bencoded.len() - rest)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
