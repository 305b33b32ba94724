//! Lists of ranges as files hold them: PeerGuardian's (`.p2p`), eMule's (`.dat`), and plain ones. Each line says by itself
//! which it is.
//!
//! ```text
//! Some name, with: colons:1.2.3.0-1.2.3.255              PeerGuardian: blocked
//! 001.002.003.000 - 001.002.003.255 , 100 , Some name    eMule: blocked up to level 127
//! 10.0.0.0/8    2001:db8::/32    1.2.3.4    1.2.3.0-1.2.3.9      plain: blocked
//! ```

use std::net::{IpAddr, Ipv4Addr};

use super::{Access, Rule};

/// With eMule, ranges of this level and above are allowed.
const ALLOWED_LEVEL: u32 = 128;
/// More ranges than any list has; a file with more is taken for something else.
const MOST_RULES: usize = 8_000_000;

/// What is wrong with a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A line that is none of those that a list has.
    #[error(
        "line {line}: {what}: {text:?}; a line is NAME:FIRST-LAST, FIRST - LAST , LEVEL , NAME, an address, a range or ADDRESS/BITS"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
        /// The line, or its beginning.
        text: String,
    },
    /// The file is compressed.
    #[error("it is compressed; unpack it first")]
    Compressed,
    /// There is no end to it.
    #[error("line {line}: more than {MOST_RULES} ranges")]
    TooLong {
        /// Counted from 1.
        line: usize,
    },
}

/// Reads the rules in a list, in their order. Empty lines, and those that begin with `#`, `;` or `//`, say nothing.
///
/// # Errors
/// Names the first line that cannot be understood.
pub fn parse_list(bytes: &[u8]) -> Result<Vec<Rule>, ListError> {
    if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"7z\xbc\xaf")
    {
        return Err(ListError::Compressed);
    }
    let mut rules = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        // Names are of any character set; what counts is ASCII.
        let text = String::from_utf8_lossy(line);
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() || ["#", ";", "//"].iter().any(|comment| text.starts_with(comment)) {
            continue;
        }
        if rules.len() == MOST_RULES {
            return Err(ListError::TooLong { line: index + 1 });
        }
        let rule = parse_line(text).map_err(|what| ListError::Line {
            line: index + 1,
            what,
            text: text.chars().take(80).collect(),
        })?;
        rules.push(rule);
    }
    Ok(rules)
}

fn parse_line(line: &str) -> Result<Rule, &'static str> {
    plain(line).or_else(|| emule(line)).or_else(|| peer_guardian(line)).unwrap_or_else(|| {
        Err(if line.contains(['-', '/']) { "neither end is an address" } else { "it holds no range" })
    })
}

type Read = Option<Result<Rule, &'static str>>;

/// An address, a range, or a prefix. `None` if it is none of these.
fn plain(line: &str) -> Read {
    if let Some((ip, bits)) = line.split_once('/') {
        let (ip, bits) = (address(ip)?, bits.trim().parse().ok()?);
        return Some(Rule::prefix(ip, bits, Access::BLOCKED).ok_or("the address has not so many bits"));
    }
    match address(line) {
        Some(ip) => Some(range(ip, ip, Access::BLOCKED)),
        None => between(line, Access::BLOCKED),
    }
}

/// `FIRST - LAST , LEVEL , NAME`
fn emule(line: &str) -> Read {
    let (ends, rest) = line.split_once(',')?;
    let level: u32 = rest.split(',').next()?.trim().parse().ok()?;
    between(ends, if level < ALLOWED_LEVEL { Access::BLOCKED } else { Access::ALLOWED })
}

/// `NAME:FIRST-LAST`, where the name may hold colons, and an IPv6 address does: the name is as long as it can be.
fn peer_guardian(line: &str) -> Read {
    let ends = line.match_indices(':').map(|(at, _)| &line[at + 1..]);
    let (first, last) = line.rsplit_once('-')?;
    address(last)?;
    // The last colon before an IPv4 address; before an IPv6 address, the first behind which there is one.
    match first.rsplit_once(':').and_then(|(_, first)| first.trim().contains('.').then_some(first)) {
        Some(first) => Some(range(address(first)?, address(last)?, Access::BLOCKED)),
        None => ends.into_iter().find_map(|ends| between(ends, Access::BLOCKED)),
    }
}

/// `FIRST-LAST`. `None` if these are no addresses.
fn between(text: &str, access: Access) -> Read {
    let (first, last) = text.split_once('-')?;
    Some(range(address(first)?, address(last)?, access))
}

fn range(first: IpAddr, last: IpAddr, access: Access) -> Result<Rule, &'static str> {
    Rule::new(first, last, access).ok_or(match first.is_ipv4() == last.is_ipv4() {
        true => "the range ends before it begins",
        false => "one end is IPv4 and the other IPv6",
    })
}

/// An address; the numbers of an IPv4 address may begin with zeros, and are decimal all the same.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if text.contains(':') {
        return text.parse().ok();
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part =
            parts.next().filter(|part| part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ip_filter::IpFilter;

    fn blocked(list: &str, ips: &[&str]) -> Vec<bool> {
        let filter = IpFilter::new(parse_list(list.as_bytes()).unwrap());
        ips.iter().map(|ip| filter.blocks(ip.parse().unwrap())).collect()
    }

    fn refused(list: &str) -> String {
        parse_list(list.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn lists_of_peer_guardian_are_read() {
        let list = "# List\r\nSome name, Inc. - 2:1.2.3.0-1.2.3.255\r\n\r\nA: b: c:004.000.000.000-4.0.0.9\n\
                    six: 2:fe80::1-fe80::9\n:9.9.9.9-9.9.9.9\n";
        let ips = ["1.2.3.0", "1.2.3.255", "1.2.4.0", "4.0.0.9", "4.0.0.10", "fe80::9", "fe80::a", "9.9.9.9"];
        assert_eq!(blocked(list, &ips), [true, true, false, true, false, true, false, true]);
    }

    #[test]
    fn lists_of_emule_are_read_with_their_levels() {
        let list = "000.000.000.000 - 000.255.255.255 , 000 , Bogon, with commas\n\
                    010.008.000.000 - 010.008.000.255 , 127 , [L2]Blocked\n\
                    010.009.000.000 - 010.009.000.255 , 128 , Allowed\n\
                    010.009.000.010-010.009.000.010,0,Allowed no more\n";
        let ips = ["0.7.7.7", "1.0.0.0", "10.8.0.9", "10.9.0.9", "10.9.0.10"];
        assert_eq!(blocked(list, &ips), [true, false, true, false, true]);
    }

    #[test]
    fn plain_lists_are_read() {
        let list = "\u{feff}; remark\n// remark\n10.0.0.0/8\n 2001:db8::/32 \n8.8.8.8\n::1\n1.0.0.0 - 1.0.0.5\nfd00::-fd00::5";
        let ips =
            ["10.255.0.1", "2001:db8:1::", "8.8.8.8", "8.8.8.9", "::1", "1.0.0.5", "fd00::3", "fd00::6"];
        assert_eq!(blocked(list, &ips), [true, true, true, false, true, true, true, false]);
        assert_eq!(parse_list(b"").unwrap(), []);
    }

    #[test]
    fn names_need_not_be_utf_8() {
        let rules = parse_list(b"Stra\xdfe:1.2.3.4-1.2.3.5\n").unwrap();
        assert!(IpFilter::new(rules).blocks("1.2.3.5".parse().unwrap()));
    }

    #[test]
    fn a_line_that_cannot_be_understood_is_named() {
        assert_eq!(
            refused("1.2.3.4\n\nnonsense\n"),
            "line 3: it holds no range: \"nonsense\"; a line is NAME:FIRST-LAST, FIRST - LAST , LEVEL , NAME, an address, a \
             range or ADDRESS/BITS"
        );
        assert!(refused("a:1.2.3.4-1.2.3.400").starts_with("line 1: neither end is an address"));
        assert!(refused("a:1.2.3.9-1.2.3.4").starts_with("line 1: the range ends before it begins"));
        assert!(refused("1.2.3.9 - ::1").starts_with("line 1: one end is IPv4 and the other IPv6"));
        assert!(refused("1.2.3.0/33").starts_with("line 1: the address has not so many bits"));
        assert!(refused("1.2.3\n").starts_with("line 1: it holds no range"));
        assert_eq!(parse_list(b"\x1f\x8b\x08..."), Err(ListError::Compressed));
    }

    proptest! {
        #[test]
        fn no_list_makes_it_panic(bytes: Vec<u8>) {
            let _ = parse_list(&bytes);
        }

        #[test]
        fn no_line_of_the_right_characters_makes_it_panic(line in "[a0-9.:/, -]{0,40}") {
            let _ = parse_list(line.as_bytes());
        }

        #[test]
        fn what_is_written_is_read(a: IpAddr, b: IpAddr) {
            let (first, last) = if a <= b { (a, b) } else { (b, a) };
            prop_assume!(first.is_ipv4() == last.is_ipv4() && first == first.to_canonical() && last == last.to_canonical());
            let rule = vec![Rule::new(first, last, Access::BLOCKED).unwrap()];
            for line in [format!("{first}-{last}"), format!("x y:{first}-{last}"), format!("{first} - {last} , 5 , x")] {
                prop_assert_eq!(parse_list(line.as_bytes()), Ok(rule.clone()), "{}", line);
            }
        }
    }
}
