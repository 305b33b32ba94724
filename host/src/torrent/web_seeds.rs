//! The web seeds of one torrent: which of them to connect to, what each is known to lack, and which are banned.
//!
//! They are no peers: they come from the torrent file, the link, the user and from redirects, and are told apart by URL.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotfish_plugin::ConnectionType;

use crate::metainfo::{FileLayout, PieceIndex};
use crate::peer::Bitfield;
use crate::peer::web::{Manners, Partial, Site, SiteError, WebSeedId};

/// A torrent keeps no more web seeds than these: a server may redirect without end.
const MOST: usize = 256;
/// So many redirects may follow one another.
const MOST_REDIRECTS: u32 = 5;
/// A web seed with this much trust or less is banned; the numbers are those of peers.
const TRUST_BAN: i8 = -7;
const TRUST_MOST: i8 = 8;

/// The web seeds of one torrent. `P` names a connection.
#[derive(Debug)]
pub struct WebSeeds<P> {
    seeds: Vec<WebSeed<P>>,
    last_id: u32,
}

/// One of them.
#[derive(Debug)]
pub struct WebSeed<P> {
    /// Its name.
    pub id: WebSeedId,
    /// As it was given.
    pub url: String,
    /// The same, spelt as every URL is that means the same.
    key: String,
    /// Which of the two sorts.
    pub kind: ConnectionType,
    /// Its connection, up or not.
    pub connection: Option<P>,
    /// Its host's addresses are being looked up.
    pub looking_up: bool,
    /// Its host's addresses that have not failed.
    pub addresses: VecDeque<IpAddr>,
    /// What is known of its server.
    pub manners: Manners,
    /// A block that was cut off.
    pub partial: Option<Partial>,
    /// It sent a bad piece together with others: it is asked for whole pieces until one passes.
    pub parole: bool,
    /// Where a redirect brought us, and how often; not told to others.
    pub redirects_before: u32,
    /// It was found by a redirect from a server that is not on the local network, and may not be on it either.
    pub no_local_addresses: bool,
    /// Files that are elsewhere on its host, and how often each was said to be.
    redirects: BTreeMap<usize, (String, u32)>,
    /// The files that it has, if not all.
    files: Option<BTreeSet<usize>>,
    /// Pieces of several files of which one is wrong.
    bad_pieces: BTreeSet<PieceIndex>,
    /// Whether it may have something for us.
    interesting: bool,
    banned: bool,
    /// It cannot be one, or what it leads to is known.
    disabled: bool,
    trust: i8,
    retry_at: Option<Instant>,
    /// Whether the connection at hand has brought anything.
    answered: bool,
}

/// What a web seed has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Has {
    /// Every piece.
    All,
    /// No piece.
    None,
    /// These.
    Some(Bitfield),
}

impl<P> Default for WebSeeds<P> {
    fn default() -> Self {
        Self { seeds: Vec::new(), last_id: 0 }
    }
}

impl<P: Copy + PartialEq> WebSeeds<P> {
    /// Adds a web seed, unless it is known. `None` if there are too many.
    pub fn add(&mut self, url: &str, kind: ConnectionType) -> Option<WebSeedId> {
        let key = normal(url);
        if let Some(known) = self.seeds.iter().find(|seed| seed.key == key && seed.kind == kind) {
            return Some(known.id);
        }
        if self.seeds.len() >= MOST {
            return None;
        }
        self.last_id += 1;
        let id = WebSeedId(self.last_id);
        self.seeds.push(WebSeed::new(id, url.to_owned(), kind));
        Some(id)
    }

    /// Forgets a web seed; its connection, if it has one.
    pub fn remove(&mut self, url: &str, kind: ConnectionType) -> Option<WebSeed<P>> {
        let key = normal(url);
        let place = self.seeds.iter().position(|seed| seed.key == key && seed.kind == kind)?;
        Some(self.seeds.remove(place))
    }

    /// The URLs of one sort, in the order in which they came; not those of redirects.
    pub fn urls(&self, kind: ConnectionType) -> impl Iterator<Item = &str> {
        let told = self.seeds.iter().filter(move |seed| seed.kind == kind && seed.redirects_before == 0);
        told.map(|seed| seed.url.as_str())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.seeds.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.seeds.is_empty()
    }

    /// A web seed, while it is there.
    pub fn get(&self, id: WebSeedId) -> Option<&WebSeed<P>> {
        self.seeds.iter().find(|seed| seed.id == id)
    }

    /// A web seed, while it is there.
    pub fn get_mut(&mut self, id: WebSeedId) -> Option<&mut WebSeed<P>> {
        self.seeds.iter_mut().find(|seed| seed.id == id)
    }

    /// The next to connect to, if no more than `limit` are connected to and one is due.
    pub fn next(&self, now: Instant, limit: usize) -> Option<WebSeedId> {
        let busy = |seed: &&WebSeed<P>| seed.connection.is_some() || seed.looking_up;
        if self.seeds.iter().filter(busy).count() >= limit {
            return None;
        }
        let due = |seed: &&WebSeed<P>| seed.is_hopeful() && seed.retry_at.is_none_or(|at| at <= now);
        self.seeds.iter().find(|seed| !busy(seed) && due(seed)).map(|seed| seed.id)
    }

    /// When one that cannot be connected to now may be. `None` if waiting is of no use.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let idle = self.seeds.iter().filter(|seed| seed.is_hopeful() && seed.connection.is_none());
        idle.filter(|seed| !seed.looking_up).map(|seed| seed.retry_at.unwrap_or(now)).min()
    }

    /// A connection to a web seed has ended, `failed` or not. When it may be tried again is decided by what it brought.
    pub fn disconnected(&mut self, id: WebSeedId, now: Instant, failed: bool, wait: Duration) {
        let Some(seed) = self.get_mut(id) else { return };
        seed.connection = None;
        if failed || !std::mem::take(&mut seed.answered) {
            seed.wait_until(now + wait);
        }
    }
}

impl<P> WebSeed<P> {
    fn new(id: WebSeedId, url: String, kind: ConnectionType) -> Self {
        Self {
            id,
            key: normal(&url),
            url,
            kind,
            connection: None,
            looking_up: false,
            addresses: VecDeque::new(),
            manners: Manners::default(),
            partial: None,
            parole: false,
            redirects_before: 0,
            no_local_addresses: false,
            redirects: BTreeMap::new(),
            files: None,
            bad_pieces: BTreeSet::new(),
            interesting: true,
            banned: false,
            disabled: false,
            trust: 0,
            retry_at: None,
            answered: false,
        }
    }

    fn is_hopeful(&self) -> bool {
        self.interesting && !self.banned && !self.disabled
    }

    /// Where its files are.
    ///
    /// # Errors
    /// Its URL cannot be a web seed's.
    pub fn site(&self, layout: Arc<FileLayout>, info_hash: [u8; 20]) -> Result<Site, SiteError> {
        let mut site = Site::new(&self.url, self.kind, layout, info_hash)?;
        self.redirects.iter().for_each(|(file, (target, _))| site.redirect(*file, target.clone()));
        Ok(site)
    }

    /// It is not tried again before then.
    pub fn wait_until(&mut self, at: Instant) {
        self.retry_at = Some(self.retry_at.map_or(at, |before| before.max(at)));
    }

    /// It is never tried again.
    pub fn disable(&mut self) {
        self.disabled = true;
    }

    /// It sent bad data.
    pub fn ban(&mut self) {
        self.banned = true;
    }

    /// Whether it is banned.
    pub fn is_banned(&self) -> bool {
        self.banned
    }

    /// It has answered what it was asked.
    pub fn note_answer(&mut self, manners: Manners) {
        self.answered = true;
        self.manners = manners;
    }

    /// Until it turns out to have more, there is nothing to get from it.
    pub fn lose_interest(&mut self) {
        self.interesting = false;
    }

    /// A piece of which it sent a part is right.
    pub fn piece_passed(&mut self) {
        self.trust = (self.trust + 1).min(TRUST_MOST);
        self.parole = false;
    }

    /// A piece of which it sent a part, not all, is wrong. Says whether that is to end in a ban.
    pub fn piece_failed(&mut self) -> bool {
        self.trust = self.trust.saturating_sub(2);
        self.parole = true;
        self.trust <= TRUST_BAN
    }

    /// It does not have this file after all.
    pub fn lacks_file(&mut self, file: usize, layout: &FileLayout) {
        self.files.get_or_insert_with(|| (0..layout.files().len()).collect()).remove(&file);
    }

    /// It does not have this piece as it should be.
    pub fn lacks_piece(&mut self, piece: PieceIndex) {
        self.bad_pieces.insert(piece);
    }

    /// It has none of the files.
    pub fn lacks_everything(&mut self) {
        self.files = Some(BTreeSet::new());
        self.interesting = false;
    }

    /// A redirect of its own says that a file is under another path. Says whether that makes sense, and not too often.
    pub fn moves_file(&mut self, file: usize, target: String) -> bool {
        let (before, times) = self.redirects.entry(file).or_default();
        let other = *before != target;
        (*before, *times) = (target, *times + 1);
        other && *times <= MOST_REDIRECTS
    }

    /// A redirect of another says that it has a file, under this path.
    pub fn has_file(&mut self, file: usize, target: String) {
        self.redirects.insert(file, (target, 0));
        self.interesting |= self.files.get_or_insert_default().insert(file);
    }

    /// What it has, as far as is known.
    pub fn has(&self, layout: &FileLayout) -> Has {
        let geometry = layout.geometry();
        if self.files.is_none() && self.bad_pieces.is_empty() {
            return Has::All;
        }
        let mut has = Bitfield::full(geometry.num_pieces());
        for (number, file) in layout.files().iter().enumerate().filter(|(_, file)| !file.pad) {
            if self.files.as_ref().is_some_and(|files| !files.contains(&number)) {
                pieces_of(layout, file.offset, file.length).for_each(|piece| {
                    has.clear(piece.get());
                });
            }
        }
        self.bad_pieces.iter().for_each(|piece| {
            has.clear(piece.get());
        });
        if has.count() == 0 { Has::None } else { Has::Some(has) }
    }

    /// Where the next attempt goes to.
    pub fn address(&self, port: u16) -> Option<SocketAddr> {
        self.addresses.front().map(|ip| SocketAddr::new(*ip, port))
    }

    /// Whether another redirect is one too many.
    pub fn is_last_redirect(&self) -> bool {
        self.redirects_before >= MOST_REDIRECTS
    }
}

/// A URL without the freedom that there is in spelling it.
fn normal(url: &str) -> String {
    url::Url::parse(url.trim()).map_or_else(|_| url.to_owned(), |url| url.to_string())
}

/// The pieces that a file has a part in.
pub fn pieces_of(layout: &FileLayout, offset: u64, length: u64) -> impl Iterator<Item = PieceIndex> {
    let geometry = layout.geometry();
    let piece_length = u64::from(geometry.piece_length());
    let pieces =
        if length == 0 { 0..0 } else { offset / piece_length..(offset + length).div_ceil(piece_length) };
    pieces.filter_map(move |piece| geometry.piece(u32::try_from(piece).ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metainfo::FileEntry;

    const URL: ConnectionType = ConnectionType::URL_SEED;
    const WAIT: Duration = Duration::from_secs(30);

    fn layout() -> FileLayout {
        let file = |(path, length)| FileEntry::new(path, length);
        let files = [("n/a", 100), ("n/b", 20), ("n/c", 80)].map(file).into();
        FileLayout::new("n", 40, files).unwrap()
    }

    fn seeds(urls: &[&str]) -> (WebSeeds<u8>, Vec<WebSeedId>) {
        let mut seeds = WebSeeds::default();
        let ids = urls.iter().map(|url| seeds.add(url, URL).unwrap()).collect();
        (seeds, ids)
    }

    /// The pieces that it has, as digits.
    fn shown(seed: &WebSeed<u8>) -> String {
        match seed.has(&layout()) {
            Has::All => "all".to_owned(),
            Has::None => "none".to_owned(),
            Has::Some(pieces) => (0..5).filter(|i| pieces.get(*i)).map(|i| i.to_string()).collect(),
        }
    }

    #[test]
    fn a_url_is_known_however_it_is_spelt() {
        let (mut seeds, ids) = seeds(&["http://h:80/x y"]);
        assert_eq!(seeds.add(" HTTP://H/x%20y", URL), Some(ids[0]));
        assert_ne!(seeds.add("http://h/x%20y", ConnectionType::HTTP_SEED), Some(ids[0]));
        assert_eq!(seeds.urls(URL).collect::<Vec<_>>(), ["http://h:80/x y"]);
        assert!(seeds.remove("http://h/x%20y", URL).is_some());
        assert_eq!(seeds.len(), 1);
        let many = (0..1_000).filter(|i| seeds.add(&format!("http://h/{i}"), URL).is_some()).count();
        assert_eq!(many, MOST - 1);
    }

    #[test]
    fn they_take_their_turns_and_failures_wait() {
        let (mut seeds, ids) = seeds(&["http://a/", "http://b/", "http://c/"]);
        let now = Instant::now();
        assert_eq!(seeds.next(now, 2), Some(ids[0]));
        seeds.get_mut(ids[0]).unwrap().connection = Some(7);
        seeds.get_mut(ids[1]).unwrap().looking_up = true;
        assert_eq!((seeds.next(now, 2), seeds.next(now, 3)), (None, Some(ids[2])));
        seeds.disconnected(ids[0], now, true, WAIT);
        seeds.get_mut(ids[2]).unwrap().ban();
        seeds.get_mut(ids[1]).unwrap().lose_interest();
        assert_eq!((seeds.next(now, 9), seeds.next_deadline(now)), (None, Some(now + WAIT)));
        assert_eq!(seeds.next(now + WAIT, 9), Some(ids[0]));
        // One that has answered may go on at once; one that has not waits.
        seeds.get_mut(ids[0]).unwrap().note_answer(Manners::default());
        seeds.disconnected(ids[0], now + WAIT, false, WAIT);
        assert_eq!(seeds.next(now + WAIT, 9), Some(ids[0]));
        seeds.disconnected(ids[0], now + WAIT, false, WAIT);
        assert_eq!(seeds.next(now + WAIT, 9), None);
    }

    #[test]
    fn a_piece_is_had_if_every_file_of_it_is() {
        let (mut seeds, ids) = seeds(&["http://a/", "http://b/"]);
        let seed = seeds.get_mut(ids[0]).unwrap();
        assert_eq!(shown(seed), "all");
        seed.lacks_file(1, &layout());
        assert_eq!(shown(seed), "0134");
        seed.lacks_piece(layout().geometry().piece(0).unwrap());
        assert_eq!(shown(seed), "134");
        seed.lacks_file(0, &layout());
        seed.lacks_file(2, &layout());
        assert_eq!(shown(seed), "none");
        let found = seeds.get_mut(ids[1]).unwrap();
        found.has_file(2, "/x".to_owned());
        assert_eq!(shown(found), "34");
        found.has_file(1, "/y".to_owned());
        assert_eq!(shown(found), "34");
        found.has_file(0, "/z".to_owned());
        assert_eq!(shown(found), "01234");
    }

    #[test]
    fn trust_is_lost_faster_than_it_is_won() {
        let (mut seeds, ids) = seeds(&["http://a/"]);
        let seed = seeds.get_mut(ids[0]).unwrap();
        seed.piece_passed();
        assert!(!seed.piece_failed() && seed.parole);
        seed.piece_passed();
        assert!(!seed.parole);
        assert_eq!(
            [seed.piece_failed(), seed.piece_failed(), seed.piece_failed(), seed.piece_failed()],
            [false, false, false, true]
        );
    }

    #[test]
    fn a_file_moves_only_so_often_and_never_to_where_it_is() {
        let (mut seeds, ids) = seeds(&["http://a/"]);
        let seed = seeds.get_mut(ids[0]).unwrap();
        assert!(seed.moves_file(0, "/x".to_owned()) && !seed.moves_file(0, "/x".to_owned()));
        let moves = (0..20).filter(|i| seed.moves_file(1, format!("/{i}"))).count();
        assert_eq!(moves, MOST_REDIRECTS as usize);
    }
}
