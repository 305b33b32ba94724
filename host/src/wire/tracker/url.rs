//! The URLs of trackers.

use std::net::IpAddr;

use super::TrackerError;

/// A URL longer than this is not one of a tracker, in bytes.
const LONGEST: usize = 2_048;

/// Where a tracker is, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerUrl {
    /// By HTTP or HTTPS (BEP 3): the URL without its fragment.
    Http(String),
    /// By UDP (BEP 15).
    Udp {
        /// Its name, or its address as text, without brackets.
        host: String,
        /// Its port.
        port: u16,
        /// What else the URL says, from the first slash on (BEP 41). Empty if it says nothing.
        path: String,
    },
}

impl TrackerUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is not one of a tracker that we can talk to.
    pub fn parse(url: &str) -> Result<Self, TrackerError> {
        let plain = |c: char| c.is_ascii_graphic() || !c.is_ascii();
        if url.len() > LONGEST || !url.chars().all(plain) {
            return Err(TrackerError::Url("the tracker's URL cannot be read"));
        }
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        let (scheme, rest) =
            url.split_once("://").ok_or(TrackerError::Url("the tracker's URL names no protocol"))?;
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        if authority.is_empty() {
            return Err(TrackerError::Url("the tracker's URL names no host"));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Ok(Self::Http(url.to_owned())),
            "udp" => {
                let (host, port) = authority
                    .rsplit_once(':')
                    .and_then(|(host, port)| Some((host, port.parse().ok().filter(|port| *port != 0)?)))
                    .ok_or(TrackerError::Url("the tracker's URL names no port"))?;
                let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                Ok(Self::Udp { host: host.to_owned(), port, path: path.to_owned() })
            }
            _ => Err(TrackerError::Url("the tracker's URL has a protocol that we do not speak")),
        }
    }

    /// The URL for scraping (BEP 48): the last part of the path begins with `announce`, in its stead stands `scrape`. That of
    /// a UDP tracker is the same.
    pub fn scrape(&self) -> Option<Self> {
        let Self::Http(url) = self else { return Some(self.clone()) };
        let (path, query) = url.split_at(url.find('?').unwrap_or(url.len()));
        let (folder, last) = path.rsplit_once('/')?;
        let rest = last.strip_prefix("announce")?;
        Some(Self::Http(format!("{folder}/scrape{rest}{query}")))
    }

    /// The address that stands in the place of a name.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Http(url) => host(url).parse().ok(),
            Self::Udp { host, .. } => host.parse().ok(),
        }
    }
}

/// The host in a URL, without brackets.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn udp(host: &str, port: u16, path: &str) -> TrackerUrl {
        TrackerUrl::Udp { host: host.into(), port, path: path.into() }
    }

    #[test]
    fn urls_say_how_to_speak_to_whom() {
        let parse = |url| TrackerUrl::parse(url).unwrap();
        assert_eq!(parse("HTTP://a.b/announce#x"), TrackerUrl::Http("HTTP://a.b/announce".into()));
        assert_eq!(parse("udp://a.b:1/announce?k=v"), udp("a.b", 1, "/announce?k=v"));
        assert_eq!(parse("udp://a.b:1?k=v"), udp("a.b", 1, "?k=v"));
        assert_eq!(parse("UDP://[::1]:2"), udp("::1", 2, ""));
        assert_eq!(parse("udp://[::1]:2/").address(), Some("::1".parse().unwrap()));
        assert_eq!(parse("udp://a.b:2/").address(), None);
        for (url, address) in [
            ("http://1.2.3.4/announce", Some("1.2.3.4")),
            ("https://me:secret@[::1]:443?x=1", Some("::1")),
            ("http://1.2.3.4.example/1.2.3.4", None),
            ("http://a.b:80/", None),
        ] {
            assert_eq!(parse(url).address(), address.map(|address| address.parse().unwrap()), "{url}");
        }
    }

    #[test]
    fn what_we_cannot_speak_to_is_refused() {
        let long = format!("http://{}/", "a".repeat(3_000));
        for url in
            ["", "announce", "http://", "udp://a", "udp://a:0", "udp://a:x", "wss://a/", "http://a b/", &long]
        {
            assert!(matches!(TrackerUrl::parse(url), Err(TrackerError::Url(_))), "{url}");
        }
    }

    #[test]
    fn scraping_has_a_url_of_its_own() {
        // The examples of BEP 48.
        let scrape = |url: &str| match TrackerUrl::parse(url).unwrap().scrape() {
            Some(TrackerUrl::Http(url)) => Some(url),
            _ => None,
        };
        let pairs = [
            ("http://e.com/announce", Some("http://e.com/scrape")),
            ("http://e.com/x/announce", Some("http://e.com/x/scrape")),
            ("http://e.com/announce.php", Some("http://e.com/scrape.php")),
            ("http://e.com/a", None),
            ("http://e.com/announce?x2%0644", Some("http://e.com/scrape?x2%0644")),
            ("http://e.com/announce?x=2/4", Some("http://e.com/scrape?x=2/4")),
            ("http://e.com/x%064announce", None),
        ];
        pairs.into_iter().for_each(|(url, scraped)| assert_eq!(scrape(url).as_deref(), scraped));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(url in ".{0,40}", path in ".{0,40}") {
            let _ = TrackerUrl::parse(&url).map(|url| url.scrape());
            let _ = TrackerUrl::parse(&format!("http://h/{path}")).map(|url| url.scrape());
        }
    }
}
