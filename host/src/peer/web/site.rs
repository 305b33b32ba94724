//! Where a web seed's files are: from a URL, and a torrent's layout, to what is asked for (BEP 19, BEP 17).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use pilotfish_plugin::ConnectionType;
use url::{Host, Url};

use super::link::Source;
use crate::metainfo::FileLayout;

/// The longest URL that is tried, in bytes.
const LONGEST: usize = 8 << 10;

/// Why a URL cannot be a web seed's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// It is no URL, or one without a host.
    #[error("the URL is malformed")]
    Malformed,
    /// Neither `http` nor `https`.
    #[error("the URL's scheme is not supported")]
    Scheme,
}

/// One web seed of one torrent.
#[derive(Clone, Debug)]
pub struct Site {
    kind: ConnectionType,
    url: Url,
    layout: Arc<FileLayout>,
    info_hash: [u8; 20],
    /// Files that are elsewhere on this host: path and query, by the file's number.
    redirects: BTreeMap<usize, String>,
    host: String,
    authorization: Option<String>,
}

impl Site {
    /// The web seed of a torrent at `url`; `kind` is [`ConnectionType::URL_SEED`] or [`ConnectionType::HTTP_SEED`].
    ///
    /// # Errors
    /// The URL cannot be a web seed's.
    pub fn new(
        url: &str,
        kind: ConnectionType,
        layout: Arc<FileLayout>,
        info_hash: [u8; 20],
    ) -> Result<Self, SiteError> {
        let url = Some(url.trim()).filter(|url| url.len() <= LONGEST).ok_or(SiteError::Malformed)?;
        let url = Url::parse(url).map_err(|_| SiteError::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SiteError::Scheme);
        }
        let name = url.host_str().filter(|host| !host.is_empty()).ok_or(SiteError::Malformed)?;
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let authorization = authorization(&url);
        Ok(Self { kind, layout, info_hash, redirects: BTreeMap::new(), host, authorization, url })
    }

    /// Which of the two sorts it is.
    pub fn kind(&self) -> ConnectionType {
        self.kind
    }

    /// How the torrent's bytes lie in files.
    pub fn layout(&self) -> &Arc<FileLayout> {
        &self.layout
    }

    /// The URL as it is understood.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The host's name without its port, or its address; without brackets.
    pub fn host_name(&self) -> String {
        match self.url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => String::new(),
        }
    }

    /// The address that the URL itself names, if it is not a name that has to be looked up.
    pub fn address(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
        }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }

    /// Whether the connection is to be encrypted.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The field Host of requests.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The field Authorization of requests, if the URL names a user.
    pub(super) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// A file is elsewhere on this host.
    pub fn redirect(&mut self, file: usize, target: String) {
        self.redirects.insert(file, target);
    }

    /// Whether the URL names the only file itself, rather than a folder.
    pub fn is_single_file(&self) -> bool {
        matches!(self.layout.files(), [only] if only.path.components().count() == 1)
    }

    /// The URL of what is asked for, with the part of a piece if that is what its server understands.
    pub fn locate(&self, source: Source, offset: u64, len: u64) -> Url {
        match source {
            Source::Piece(piece) => {
                let mut url = self.url.clone();
                let hash = self.info_hash.iter().map(|byte| format!("%{byte:02x}")).collect::<String>();
                let last = offset + len.saturating_sub(1);
                let query = format!("info_hash={hash}&piece={}&ranges={offset}-{last}", piece.get());
                let query = match url.query() {
                    Some(before) if !before.is_empty() => format!("{before}&{query}"),
                    _ => query,
                };
                url.set_query(Some(&query));
                url
            }
            Source::File(file) => self.locate_file(file),
        }
    }

    /// The folder of which a redirect of a file shows that it holds the whole torrent: the URL of the file ends as it would.
    pub fn folder_of(&self, file: usize, moved: &Url) -> Option<Url> {
        let (here, there) = (self.url.clone(), moved.clone());
        let entry = self.layout.files().get(file).filter(|_| !self.is_single_file())?;
        let mut folder = there;
        let parts = entry.path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        {
            let mut path = folder.path_segments_mut().ok()?;
            parts.clone().for_each(|_| {
                path.pop();
            });
            path.push("");
        }
        folder.set_query(None);
        let mut again = folder.clone();
        again.path_segments_mut().ok()?.pop_if_empty().extend(parts);
        (again == *moved && folder != here).then_some(folder)
    }

    fn locate_file(&self, file: usize) -> Url {
        let mut url = self.url.clone();
        if let Some(moved) = self.redirects.get(&file) {
            let (path, query) =
                moved.split_once('?').map_or((&**moved, None), |(path, query)| (path, Some(query)));
            url.set_path(path);
            url.set_query(query);
            return url;
        }
        let Some(entry) = self.layout.files().get(file) else { return url };
        if self.is_single_file() && !url.path().ends_with('/') {
            return url;
        }
        // A URL of http or https has a path always.
        if let Ok(mut path) = url.path_segments_mut() {
            let parts = entry.path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// Path and query of what is asked for.
    pub(super) fn target(&self, source: Source, offset: u64, len: u64) -> String {
        path_and_query(&self.locate(source, offset, len))
    }
}

/// Path and query of a URL, as they stand in a request.
pub fn path_and_query(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

/// Where a redirect leads: the new URL, without the part that is not sent. `None` if it makes no sense.
pub fn redirected(from: &Url, location: &str) -> Option<Url> {
    let mut to = from.join(location.trim()).ok()?;
    to.set_fragment(None);
    (matches!(to.scheme(), "http" | "https") && to.host_str().is_some()).then_some(to)
}

/// The user and password that a URL names (RFC 7617).
fn authorization(url: &Url) -> Option<String> {
    if url.username().is_empty() {
        return None;
    }
    let mut pair = percent_decoded(url.username());
    pair.push(b':');
    pair.extend(percent_decoded(url.password().unwrap_or_default()));
    Some(format!("Basic {}", base64(&pair)))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let digits = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let padded = [group[0], group.get(1).copied().unwrap_or(0), group.get(2).copied().unwrap_or(0)];
        let value = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for place in 0..4 {
            let digit = (value >> (18 - 6 * place)) & 63;
            out.push(if place <= group.len() { char::from(DIGITS[digit as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metainfo::FileEntry;

    fn layout(paths: &[&str]) -> Arc<FileLayout> {
        let files = paths.iter().map(|path| FileEntry::new(*path, 10)).collect();
        Arc::new(FileLayout::new("n", 16, files).unwrap())
    }

    fn located(url: &str, paths: &[&str], file: usize) -> String {
        let site = Site::new(url, ConnectionType::URL_SEED, layout(paths), [0; 20]).unwrap();
        site.locate(Source::File(file), 0, 1).to_string()
    }

    #[test]
    fn a_url_names_the_file_or_the_folder_that_holds_it() {
        assert_eq!(located("http://h/dir/file.iso?key=1", &["n"], 0), "http://h/dir/file.iso?key=1");
        assert_eq!(located("http://h/dir/", &["n o"], 0), "http://h/dir/n%20o");
        assert_eq!(located("http://h", &["n"], 0), "http://h/n");
        let folder = ["n/a", "n/ä#?/b c"];
        assert_eq!(located("http://h/dir/", &folder, 0), "http://h/dir/n/a");
        assert_eq!(located("http://h/dir", &folder, 1), "http://h/dir/n/%C3%A4%23%3F/b%20c");
        assert_eq!(located("http://h/dir", &["n/only"], 0), "http://h/dir/n/only");
    }

    #[test]
    fn a_piece_is_asked_for_by_its_number() {
        let hash = [0xab; 20];
        let site =
            Site::new("http://h/seed.php?x=1", ConnectionType::HTTP_SEED, layout(&["n"]), hash).unwrap();
        let piece = site.layout().geometry().piece(0).unwrap();
        let query = format!("x=1&info_hash={}&piece=0&ranges=4-7", "%ab".repeat(20));
        assert_eq!(site.target(Source::Piece(piece), 4, 4), format!("/seed.php?{query}"));
    }

    #[test]
    fn hosts_users_and_ports_are_taken_from_the_url() {
        let site = |url| Site::new(url, ConnectionType::URL_SEED, layout(&["n"]), [0; 20]);
        let plain = site("http://us%40er:pa:ss@[::1]:8080/x").unwrap();
        assert_eq!((plain.host(), plain.port(), plain.is_https()), ("[::1]:8080", 8080, false));
        assert_eq!(plain.authorization(), Some("Basic dXNAZXI6cGE6c3M="));
        assert_eq!((plain.host_name().as_str(), plain.address()), ("::1", "::1".parse().ok()));
        let secure = site("https://h.example/").unwrap();
        assert_eq!((secure.host(), secure.port(), secure.is_https()), ("h.example", 443, true));
        assert_eq!((secure.host_name().as_str(), secure.address()), ("h.example", None));
        assert_eq!(site("ftp://h/x").unwrap_err(), SiteError::Scheme);
        assert_eq!(site("http://").unwrap_err(), SiteError::Malformed);
        assert_eq!(site("nothing").unwrap_err(), SiteError::Malformed);
    }

    #[test]
    fn a_redirect_is_relative_to_what_was_asked_for() {
        let from = Url::parse("http://h/a/b?c").unwrap();
        let to = |location| redirected(&from, location).map(|url| url.to_string());
        assert_eq!(to("/x#y").as_deref(), Some("http://h/x"));
        assert_eq!(to("x").as_deref(), Some("http://h/a/x"));
        assert_eq!(to("//other:81/x").as_deref(), Some("http://other:81/x"));
        assert_eq!(to("file:///etc/passwd"), None);
    }

    #[test]
    fn a_redirect_shows_where_the_whole_folder_is_if_it_ends_like_the_file() {
        let site =
            Site::new("http://h/x/", ConnectionType::URL_SEED, layout(&["n/a b", "n/c"]), [0; 20]).unwrap();
        let folder = |file, url| site.folder_of(file, &Url::parse(url).unwrap()).map(|url| url.to_string());
        assert_eq!(folder(0, "https://m/y/n/a%20b").as_deref(), Some("https://m/y/"));
        assert_eq!(folder(1, "http://h/n/c").as_deref(), Some("http://h/"));
        for other in ["https://m/y/n/a%20b?key", "https://m/y/z/a%20b", "http://h/x/n/a%20b"] {
            assert_eq!(folder(0, other), None, "{other}");
        }
    }

    #[test]
    fn a_file_that_was_redirected_is_asked_for_where_it_is() {
        let mut site =
            Site::new("http://h/", ConnectionType::URL_SEED, layout(&["n/a", "n/b"]), [0; 20]).unwrap();
        for target in ["/else?x", "//h/x", "/%20?a?b"] {
            site.redirect(1, target.to_owned());
            assert_eq!(site.target(Source::File(0), 0, 1), "/n/a");
            assert_eq!(site.target(Source::File(1), 0, 1), target);
        }
    }
}
