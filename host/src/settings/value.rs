//! What a setting can hold, and how each kind is read from and written as text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pilotfish_plugin::AlertCategory;

use super::SettingError;

/// A span of time in whole seconds, as libtorrent counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seconds(pub u32);

impl Seconds {
    /// The same span for arithmetic with instants.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

/// Local addresses to listen on. Empty: listen nowhere. Port 0: whichever the system chooses.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ListenInterfaces(pub Vec<SocketAddr>);

impl ListenInterfaces {
    /// Every interface, IPv4 and IPv6, at `port`.
    pub fn any(port: u16) -> Self {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        Self(any.map(|ip| SocketAddr::new(ip, port)).into())
    }
}

impl fmt::Display for ListenInterfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, address) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}

/// Hosts and their ports. A host is a name or an address; IPv6 addresses have brackets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HostPorts(pub Vec<(String, u16)>);

impl HostPorts {
    /// These.
    pub fn of(hosts: &[(&str, u16)]) -> Self {
        Self(hosts.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect())
    }

    /// One host and its port, as `HOST:PORT`.
    pub fn parse_one(text: &str) -> Option<(String, u16)> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_host = match bare {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.len() <= 255
                    && !host.contains(|c: char| " :[]/".contains(c) || c.is_control())
            }
        };
        let port = port.parse().ok().filter(|port| *port != 0 && is_host)?;
        Some((bare.unwrap_or(host).to_owned(), port))
    }
}

impl fmt::Display for HostPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (host, port)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match host.contains(':') {
                true => write!(f, "{comma}[{host}]:{port}")?,
                false => write!(f, "{comma}{host}:{port}")?,
            }
        }
        Ok(())
    }
}

/// A kind of proxy. The numbers are libtorrent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProxyType {
    /// None.
    #[default]
    None = 0,
    /// SOCKS 5 (RFC 1928).
    Socks5 = 2,
    /// SOCKS 5 with user and password (RFC 1929).
    Socks5Pw = 3,
    /// HTTP, with `CONNECT` for what is not HTTP.
    Http = 4,
    /// The same, with user and password.
    HttpPw = 5,
}

impl ProxyType {
    const ALL: [(Self, &'static str); 5] = [
        (Self::None, "none"),
        (Self::Socks5, "socks5"),
        (Self::Socks5Pw, "socks5_pw"),
        (Self::Http, "http"),
        (Self::HttpPw, "http_pw"),
    ];
}

/// One kind of value.
pub(super) trait Value: Sized {
    /// What bounds the values of one setting of this kind.
    type Limits;

    /// Reads a value; `None` if `text` is none of this kind.
    fn parse(text: &str) -> Option<Self>;
    /// Whether the value is within `limits`.
    fn fits(&self, limits: &Self::Limits) -> bool;
    /// What a value may be, to follow "it may be".
    fn allowed(limits: &Self::Limits) -> String;
    /// The value as text that `parse` reads.
    fn text(&self) -> String;
}

/// Reads the value that `text` gives to the setting `name`.
pub(super) fn parse<V: Value>(name: &'static str, text: &str, limits: &V::Limits) -> Result<V, SettingError> {
    V::parse(text).filter(|value| value.fits(limits)).ok_or_else(|| SettingError::Value {
        name,
        value: text.to_owned(),
        allowed: V::allowed(limits),
    })
}

/// Whether the setting `name` may have this value.
pub(super) fn check<V: Value>(name: &'static str, value: &V, limits: &V::Limits) -> Result<(), SettingError> {
    if value.fits(limits) {
        return Ok(());
    }
    Err(SettingError::Value { name, value: value.text(), allowed: V::allowed(limits) })
}

impl Value for u32 {
    type Limits = RangeInclusive<Self>;

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn fits(&self, limits: &Self::Limits) -> bool {
        limits.contains(self)
    }
    fn allowed(limits: &Self::Limits) -> String {
        format!("a whole number from {} to {}", limits.start(), limits.end())
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for Seconds {
    type Limits = RangeInclusive<u32>;

    fn parse(text: &str) -> Option<Self> {
        u32::parse(text).map(Self)
    }
    fn fits(&self, limits: &Self::Limits) -> bool {
        self.0.fits(limits)
    }
    fn allowed(limits: &Self::Limits) -> String {
        format!("{}, in seconds", u32::allowed(limits))
    }
    fn text(&self) -> String {
        self.0.text()
    }
}

impl Value for bool {
    type Limits = ();

    fn parse(text: &str) -> Option<Self> {
        match text {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        }
    }
    fn fits(&self, (): &()) -> bool {
        true
    }
    fn allowed((): &()) -> String {
        "1 or true, 0 or false".to_owned()
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

/// The limits are lengths in bytes.
impl Value for String {
    type Limits = RangeInclusive<usize>;

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    fn fits(&self, limits: &Self::Limits) -> bool {
        // These texts end up in headers of trackers' requests, where a line break would start another header.
        limits.contains(&self.len()) && !self.chars().any(char::is_control)
    }
    fn allowed(limits: &Self::Limits) -> String {
        format!("a text of {} to {} bytes without control characters", limits.start(), limits.end())
    }
    fn text(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    type Limits = ();

    fn parse(text: &str) -> Option<Self> {
        Some(text.into())
    }
    fn fits(&self, (): &()) -> bool {
        !self.as_os_str().is_empty() && !self.as_os_str().as_encoded_bytes().contains(&0)
    }
    fn allowed((): &()) -> String {
        "the path of a folder".to_owned()
    }
    fn text(&self) -> String {
        self.display().to_string()
    }
}

impl Value for ListenInterfaces {
    type Limits = ();

    fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        text.split(',').map(|address| address.trim().parse().ok()).collect::<Option<_>>().map(Self)
    }
    fn fits(&self, (): &()) -> bool {
        true
    }
    fn allowed((): &()) -> String {
        "IP:PORT, several separated by commas, like 0.0.0.0:6881,[::]:6881, or empty".to_owned()
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for HostPorts {
    type Limits = ();

    fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        text.split(',').map(Self::parse_one).collect::<Option<_>>().map(Self)
    }
    fn fits(&self, (): &()) -> bool {
        self.0.iter().all(|(host, port)| !host.is_empty() && *port != 0)
    }
    fn allowed((): &()) -> String {
        "HOST:PORT, several separated by commas, or empty".to_owned()
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for ProxyType {
    type Limits = ();

    fn parse(text: &str) -> Option<Self> {
        let is = |(kind, name): &(Self, &str)| text == *name || text.parse() == Ok(*kind as u8);
        Self::ALL.into_iter().find(is).map(|(kind, _)| kind)
    }
    fn fits(&self, (): &()) -> bool {
        true
    }
    fn allowed((): &()) -> String {
        "none, socks5, socks5_pw, http or http_pw".to_owned()
    }
    fn text(&self) -> String {
        let own = Self::ALL.into_iter().find(|(kind, _)| kind == self);
        own.map_or_else(String::new, |(_, name)| name.to_owned())
    }
}

impl Value for AlertCategory {
    type Limits = ();

    fn parse(text: &str) -> Option<Self> {
        let bits = match text.strip_prefix("0x") {
            Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
                u32::from_str_radix(digits, 16)
            }
            Some(_) => return None,
            None if text == "all" => return Some(Self::ALL),
            None => text.parse(),
        };
        bits.ok().map(Self)
    }
    fn fits(&self, (): &()) -> bool {
        true
    }
    fn allowed((): &()) -> String {
        "all, or a sum of bits like 65 or 0x41".to_owned()
    }
    fn text(&self) -> String {
        if *self == Self::ALL { "all".to_owned() } else { format!("{:#x}", self.0) }
    }
}
