//! The repair pass in front of a decoder that accepts canonical bencoding only.
//!
//! Real trackers and torrents have keys out of order and numbers with leading zeros. Both have one meaning, so they
//! are accepted; a key that occurs twice has not, and is refused. One pass without allocation checks everything; only
//! what is not canonical is written anew.

use std::borrow::Cow;
use std::ops::Range;

use super::{BencodeError, Limits};

/// Finds the value at the start of `bytes` and makes it canonical: the value, borrowed if it was canonical already,
/// and the number of bytes of `bytes` that it took. What follows it is not looked at.
///
/// # Errors
/// It is malformed or cut short, nests or counts beyond `limits`, or has a key twice.
pub fn canonical(bytes: &[u8], limits: Limits) -> Result<(Cow<'_, [u8]>, usize), BencodeError> {
    let mut reader = Reader::new(bytes, limits);
    let is_canonical = reader.check_value()?;
    let value = &bytes[..reader.at];
    if is_canonical {
        return Ok((Cow::Borrowed(value), value.len()));
    }
    let mut repaired = Vec::with_capacity(value.len());
    Reader::new(value, limits).rewrite_value(&mut repaired)?;
    Ok((Cow::Owned(repaired), value.len()))
}

/// The value of `key` in the dictionary at the start of `bytes`, as it is written there. `bytes` has been accepted by
/// [`canonical`].
pub(super) fn raw_value<'a>(bytes: &'a [u8], key: &[u8], limits: Limits) -> Option<&'a [u8]> {
    let mut reader = Reader::new(bytes, limits);
    if !matches!(reader.token(), Ok((Token::Dict, _))) {
        return None;
    }
    while let Ok((Token::Bytes(found), _)) = reader.token() {
        let start = reader.at;
        reader.check_value().ok()?;
        if found == key {
            return Some(&bytes[start..reader.at]);
        }
    }
    None
}

/// Walks over values by recursion, which `limits.depth` bounds.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    limits: Limits,
    depth: usize,
    items: usize,
}

enum Token<'a> {
    /// The digits have no leading zeros; zero is never negative.
    Int {
        negative: bool,
        digits: &'a [u8],
    },
    Bytes(&'a [u8]),
    List,
    Dict,
    End,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], limits: Limits) -> Self {
        Self { bytes, at: 0, limits, depth: 0, items: 0 }
    }

    /// Whether the next value is canonical.
    fn check_value(&mut self) -> Result<bool, BencodeError> {
        let start = self.at;
        match self.token()? {
            (Token::Int { .. } | Token::Bytes(_), is_canonical) => Ok(is_canonical),
            (Token::List, _) => self.nested(Self::check_list),
            (Token::Dict, _) => self.nested(Self::check_dict),
            (Token::End, _) => Err(BencodeError::Syntax(start)),
        }
    }

    fn check_list(&mut self) -> Result<bool, BencodeError> {
        let mut is_canonical = true;
        while !self.at_end()? {
            is_canonical &= self.check_value()?;
        }
        Ok(is_canonical)
    }

    fn check_dict(&mut self) -> Result<bool, BencodeError> {
        let mut is_canonical = true;
        let mut last = None;
        while let Some((key, key_is_canonical)) = self.key()? {
            is_canonical &= key_is_canonical && last < Some(key);
            last = Some(key);
            is_canonical &= self.check_value()?;
        }
        Ok(is_canonical)
    }

    /// Appends the next value to `out` as it should be.
    fn rewrite_value(&mut self, out: &mut Vec<u8>) -> Result<(), BencodeError> {
        let start = self.at;
        match self.token()?.0 {
            Token::Int { negative, digits } => {
                out.extend_from_slice(if negative { b"i-" } else { b"i" });
                out.extend_from_slice(digits);
                out.push(b'e');
                Ok(())
            }
            Token::Bytes(string) => {
                write_string(out, string);
                Ok(())
            }
            Token::List => self.nested(|reader| reader.rewrite_list(out)),
            Token::Dict => self.nested(|reader| reader.rewrite_dict(out)),
            Token::End => Err(BencodeError::Syntax(start)),
        }
    }

    fn rewrite_list(&mut self, out: &mut Vec<u8>) -> Result<(), BencodeError> {
        out.push(b'l');
        while !self.at_end()? {
            self.rewrite_value(out)?;
        }
        out.push(b'e');
        Ok(())
    }

    fn rewrite_dict(&mut self, out: &mut Vec<u8>) -> Result<(), BencodeError> {
        out.push(b'd');
        let base = out.len();
        let mut pairs: Vec<(&[u8], Range<usize>)> = Vec::new();
        while let Some((key, _)) = self.key()? {
            let start = out.len() - base;
            write_string(out, key);
            self.rewrite_value(out)?;
            pairs.push((key, start..out.len() - base));
        }
        if !pairs.is_sorted_by(|(key, _), (next, _)| key < next) {
            pairs.sort_unstable_by_key(|(key, _)| *key);
            if let Some(twice) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                let beginning = &twice[0].0[..twice[0].0.len().min(40)];
                return Err(BencodeError::DuplicateKey(String::from_utf8_lossy(beginning).into_owned()));
            }
            let unsorted = out.split_off(base);
            pairs.into_iter().for_each(|(_, range)| out.extend_from_slice(&unsorted[range]));
        }
        out.push(b'e');
        Ok(())
    }

    fn nested<T>(
        &mut self,
        walk: impl FnOnce(&mut Self) -> Result<T, BencodeError>,
    ) -> Result<T, BencodeError> {
        if self.depth == self.limits.depth {
            return Err(BencodeError::TooDeep(self.limits.depth));
        }
        self.depth += 1;
        let walked = walk(self)?;
        self.depth -= 1;
        Ok(walked)
    }

    /// Takes the `e` of a list, if it is there.
    fn at_end(&mut self) -> Result<bool, BencodeError> {
        let end = *self.bytes.get(self.at).ok_or(BencodeError::Truncated)? == b'e';
        self.at += usize::from(end);
        Ok(end)
    }

    /// The next key and whether its length is canonical, or `None` at the end of the dictionary.
    fn key(&mut self) -> Result<Option<(&'a [u8], bool)>, BencodeError> {
        let start = self.at;
        match self.token()? {
            (Token::Bytes(key), is_canonical) => Ok(Some((key, is_canonical))),
            (Token::End, _) => Ok(None),
            _ => Err(BencodeError::Syntax(start)),
        }
    }

    /// The next token, and whether it is canonical.
    fn token(&mut self) -> Result<(Token<'a>, bool), BencodeError> {
        let start = self.at;
        let byte = self.byte()?;
        if byte != b'e' {
            self.items += 1;
        }
        if self.items > self.limits.items {
            return Err(BencodeError::TooManyItems(self.limits.items));
        }
        match byte {
            b'l' => Ok((Token::List, true)),
            b'd' => Ok((Token::Dict, true)),
            b'e' => Ok((Token::End, true)),
            b'i' => self.int(),
            b'0'..=b'9' => {
                self.at = start;
                self.string()
            }
            _ => Err(BencodeError::Syntax(start)),
        }
    }

    fn int(&mut self) -> Result<(Token<'a>, bool), BencodeError> {
        let minus = self.bytes.get(self.at) == Some(&b'-');
        self.at += usize::from(minus);
        let (digits, is_canonical) = self.digits(b'e')?;
        let negative = minus && digits != b"0";
        Ok((Token::Int { negative, digits }, is_canonical && minus == negative))
    }

    fn string(&mut self) -> Result<(Token<'a>, bool), BencodeError> {
        let (digits, is_canonical) = self.digits(b':')?;
        // A length that no number can hold is longer than whatever follows.
        let length = str::from_utf8(digits).ok().and_then(|digits| digits.parse::<usize>().ok());
        let rest = &self.bytes[self.at..];
        let string = length.and_then(|length| rest.get(..length)).ok_or(BencodeError::Truncated)?;
        self.at += string.len();
        Ok((Token::Bytes(string), is_canonical))
    }

    /// Digits up to `end`, less their leading zeros, and whether there were none of those.
    fn digits(&mut self, end: u8) -> Result<(&'a [u8], bool), BencodeError> {
        let start = self.at;
        loop {
            match self.byte()? {
                byte if byte == end && self.at - 1 > start => break,
                b'0'..=b'9' => {}
                _ => return Err(BencodeError::Syntax(self.at - 1)),
            }
        }
        let digits = &self.bytes[start..self.at - 1];
        let zeros = digits[1..].len().min(digits.iter().take_while(|&&digit| digit == b'0').count());
        Ok((&digits[zeros..], zeros == 0))
    }

    fn byte(&mut self) -> Result<u8, BencodeError> {
        let byte = *self.bytes.get(self.at).ok_or(BencodeError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }
}

fn write_string(out: &mut Vec<u8>, string: &[u8]) {
    out.extend_from_slice(string.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(string);
}
