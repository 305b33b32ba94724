//! A connection to a web seed: blocks that are asked for become requests of files, and bodies become blocks (BEP 19, BEP 17).
//!
//! [`Site`] knows where the files are, [`WebLink`] is the connection. Bytes are read to where they will stay: a body is
//! laid over the blocks that were asked for, in their order, however they lie in files.

mod link;
mod site;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use link::{Manners, Partial, Source, WebError, WebEvent, WebLimits, WebLink};
pub use site::{Site, SiteError, path_and_query, redirected};

/// Names a web seed of a torrent; never given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebSeedId(pub u32);
