//! HTTP/1.1 as a client of files needs it: requests for ranges, the heads of responses, and where their bodies end
//! (RFC 9110, RFC 9112).

mod body;

use std::ops::RangeInclusive;

pub use body::{Body, Portion};

/// The longest head of a response that is accepted, in bytes.
pub const MAX_HEAD: usize = 16 << 10;
/// The most fields in a head.
const MAX_FIELDS: usize = 96;
/// So much of a server's own words is kept, in characters.
const MAX_WORDS: usize = 80;

/// What a server sent is not a response that makes sense. There is no way to go on with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The response does not begin as one does, or a field is malformed.
    #[error("the server does not speak HTTP")]
    NotHttp,
    /// The head does not end.
    #[error("the head of the response is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// Lengths that contradict one another.
    #[error("the response does not say how long it is")]
    Length,
    /// A body that is compressed although that was not asked for, or otherwise encoded.
    #[error("the response is encoded in a way that was not asked for")]
    Encoding,
    /// Chunks that are not framed as chunks are.
    #[error("a chunk of the response is malformed")]
    Chunk,
    /// There was no request that it could answer.
    #[error("the server sent what was not asked for")]
    Unasked,
}

/// A request for a file or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Host, and port unless it is the scheme's own.
    pub host: &'a str,
    /// Path and query, percent-encoded.
    pub target: &'a str,
    /// Who asks; nothing is said if that is `None`.
    pub user_agent: Option<&'a str>,
    /// The value of the field of that name.
    pub authorization: Option<&'a str>,
    /// The bytes that are wanted, both ends included.
    pub range: Option<RangeInclusive<u64>>,
}

impl Request<'_> {
    /// Appends the request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut field = |parts: &[&str]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        field(&["GET ", self.target, " HTTP/1.1\r\nHost: ", self.host, "\r\n"]);
        if let Some(agent) = self.user_agent {
            field(&["User-Agent: ", &printable(agent, usize::MAX), "\r\n"]);
        }
        if let Some(value) = self.authorization {
            field(&["Authorization: ", value, "\r\n"]);
        }
        if let Some(range) = &self.range {
            field(&["Range: bytes=", &range.start().to_string(), "-", &range.end().to_string(), "\r\n"]);
        }
        field(&["Accept-Encoding: identity\r\nConnection: keep-alive\r\n\r\n"]);
    }
}

/// Which bytes of a file a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first.
    pub first: u64,
    /// The last; not before the first.
    pub last: u64,
    /// The length of the whole file, if the server says so.
    pub total: Option<u64>,
}

/// The head of a response, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// 200, 404 and so on.
    pub status: u16,
    /// What the server calls that.
    pub reason: String,
    /// The connection ends after this response.
    pub close: bool,
    /// How the body is framed.
    pub body: Body,
    /// Content-Range.
    pub range: Option<ContentRange>,
    /// Where to ask instead.
    pub location: Option<String>,
    /// In how many seconds to ask again.
    pub retry_after: Option<u32>,
    /// The server's software.
    pub server: Option<String>,
}

impl Head {
    /// Reads a head and says how long it is, or `None` until all of it is there.
    ///
    /// # Errors
    /// It is malformed, or too long.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HttpError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(&bytes[..bytes.len().min(MAX_HEAD)]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(HttpError::HeadTooLong);
            }
            Err(_) => return Err(HttpError::NotHttp),
        };
        let status = response.code.ok_or(HttpError::NotHttp)?;
        let one_dot_zero = response.version == Some(0);
        let reason = printable(response.reason.unwrap_or_default(), MAX_WORDS);
        let fields = Fields(response.headers);
        if fields.values("content-encoding").any(|value| !value.eq_ignore_ascii_case("identity")) {
            return Err(HttpError::Encoding);
        }
        let body = body_of(status, &fields)?;
        let head = Self {
            status,
            reason,
            close: fields.closes(one_dot_zero) || body == Body::UntilClose,
            body,
            range: fields.first("content-range").and_then(content_range),
            location: fields.first("location").map(str::to_owned),
            retry_after: fields.first("retry-after").and_then(|value| value.parse().ok()),
            server: fields.first("server").map(|value| printable(value, MAX_WORDS)),
        };
        Ok(Some((head, length)))
    }

    /// Whether another response follows, which is the real one.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }

    /// Whether the file is elsewhere.
    pub fn is_redirect(&self) -> bool {
        matches!(self.status, 301 | 302 | 303 | 307 | 308)
    }
}

/// How the body of a response is framed (RFC 9112, 6.3).
fn body_of(status: u16, fields: &Fields<'_>) -> Result<Body, HttpError> {
    if (100..200).contains(&status) || status == 204 || status == 304 {
        return Ok(Body::Length(0));
    }
    let mut codings = fields.values("transfer-encoding").flat_map(|value| value.split(',')).map(str::trim);
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(only), None) if only.eq_ignore_ascii_case("chunked") => return Ok(Body::chunked()),
        _ => return Err(HttpError::Encoding),
    }
    let mut lengths = fields.values("content-length").flat_map(|value| value.split(',')).map(str::trim);
    let Some(first) = lengths.next() else { return Ok(Body::UntilClose) };
    let digits = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    match first.parse() {
        Ok(length) if digits && lengths.all(|other| other == first) => Ok(Body::Length(length)),
        _ => Err(HttpError::Length),
    }
}

/// `bytes 0-499/1234`, with `*` for a length that is not known.
fn content_range(value: &str) -> Option<ContentRange> {
    let (unit, rest) = value.trim().split_once(' ')?;
    let (span, total) = rest.trim().split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let sound = unit.eq_ignore_ascii_case("bytes") && first <= last && total.is_none_or(|total| last < total);
    sound.then_some(ContentRange { first, last, total })
}

/// The fields of a head whose values are text.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.filter_map(|field| str::from_utf8(field.value).ok()).map(str::trim)
    }

    fn first(&self, name: &'static str) -> Option<&'a str> {
        self.values(name).next()
    }

    fn closes(&self, one_dot_zero: bool) -> bool {
        let options = || self.values("connection").flat_map(|value| value.split(',')).map(str::trim);
        let says = |word: &str| options().any(|option| option.eq_ignore_ascii_case(word));
        says("close") || (one_dot_zero && !says("keep-alive"))
    }
}

/// Text that can be shown, or sent as the value of a field.
fn printable(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
