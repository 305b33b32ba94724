//! Where the body of a response ends, and which of its bytes are data.

use super::HttpError;

/// The longest line that says how long a chunk is, in bytes.
const MAX_LINE: usize = 1024;
/// What may follow the last chunk, in bytes.
const MAX_TRAILERS: usize = 8 << 10;

/// The rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes are still to come.
    Length(u64),
    /// It comes in chunks.
    Chunked(Chunks),
    /// It ends with the connection.
    UntilClose,
}

/// How far a body in chunks has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// The line that says how long the next chunk is.
    Size,
    /// So much of a chunk is still to come.
    Data(u64),
    /// The end of line behind a chunk.
    End,
    /// Fields behind the last chunk, so many bytes of them so far.
    Trailers(usize),
    /// Nothing more.
    Over,
}

/// What the next bytes of a body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// So many are data.
    Data(usize),
    /// So many are to be passed over.
    Framing(usize),
    /// More have to come before anything can be said.
    Incomplete,
    /// None: the body has ended, and the bytes belong to what follows.
    Over,
}

impl Body {
    /// One in chunks, from its beginning.
    pub fn chunked() -> Self {
        Self::Chunked(Chunks::Size)
    }

    /// How many of the next bytes are data for certain.
    pub fn certain(&self) -> u64 {
        match self {
            Self::Length(left) | Self::Chunked(Chunks::Data(left)) => *left,
            Self::Chunked(_) => 0,
            Self::UntilClose => u64::MAX,
        }
    }

    /// How many bytes of data are still to come, if that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(Chunks::Trailers(_) | Chunks::Over) => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Some of the [`certain`](Self::certain) bytes have gone to where they belong already.
    pub fn passed(&mut self, bytes: u64) {
        match self {
            Self::Length(left) => *left = left.saturating_sub(bytes),
            Self::Chunked(chunks) => {
                if let Chunks::Data(left) = chunks {
                    *chunks = after_data(left.saturating_sub(bytes));
                }
            }
            Self::UntilClose => {}
        }
    }

    /// What the next bytes are; they are taken as read.
    ///
    /// # Errors
    /// The chunks are malformed.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Portion, HttpError> {
        match self {
            Self::Length(0) => return Ok(Portion::Over),
            Self::Chunked(chunks) if !matches!(chunks, Chunks::Data(_)) => return chunks.next(bytes),
            _ => {}
        }
        let certain = usize::try_from(self.certain()).unwrap_or(usize::MAX).min(bytes.len());
        self.passed(certain as u64);
        Ok(if certain == 0 { Portion::Incomplete } else { Portion::Data(certain) })
    }
}

impl Chunks {
    fn next(&mut self, bytes: &[u8]) -> Result<Portion, HttpError> {
        match *self {
            Self::Over => Ok(Portion::Over),
            Self::End => match bytes {
                [] | [b'\r'] => Ok(Portion::Incomplete),
                [b'\r', b'\n', ..] => Ok(self.become_after(Self::Size, 2)),
                [b'\n', ..] => Ok(self.become_after(Self::Size, 1)),
                _ => Err(HttpError::Chunk),
            },
            Self::Size => {
                let Some(line) = line(bytes, MAX_LINE)? else { return Ok(Portion::Incomplete) };
                let size = chunk_size(line)?;
                let next = if size == 0 { Self::Trailers(0) } else { Self::Data(size) };
                Ok(self.become_after(next, line.len()))
            }
            Self::Trailers(seen) => {
                let Some(line) = line(bytes, MAX_TRAILERS - seen)? else { return Ok(Portion::Incomplete) };
                let last = line.trim_ascii().is_empty();
                let next = if last { Self::Over } else { Self::Trailers(seen + line.len()) };
                Ok(self.become_after(next, line.len()))
            }
            // The caller takes these for data.
            Self::Data(_) => Ok(Portion::Incomplete),
        }
    }

    fn become_after(&mut self, next: Self, length: usize) -> Portion {
        *self = next;
        Portion::Framing(length)
    }
}

fn after_data(left: u64) -> Chunks {
    if left == 0 { Chunks::End } else { Chunks::Data(left) }
}

/// The first line, with its end; `None` if it is not there yet.
fn line(bytes: &[u8], most: usize) -> Result<Option<&[u8]>, HttpError> {
    let seen = &bytes[..bytes.len().min(most)];
    match seen.iter().position(|byte| *byte == b'\n') {
        Some(end) => Ok(Some(&seen[..=end])),
        None if bytes.len() >= most => Err(HttpError::Chunk),
        None => Ok(None),
    }
}

/// Hexadecimal digits, and perhaps extensions behind a semicolon.
fn chunk_size(line: &[u8]) -> Result<u64, HttpError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let sound = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = str::from_utf8(digits).ok().filter(|_| sound).ok_or(HttpError::Chunk)?;
    u64::from_str_radix(text, 16).map_err(|_| HttpError::Chunk)
}
