//! A torrent before and after its info dictionary is known.

use std::sync::Arc;

use super::{FileLayout, InfoHashes, Magnet, Metainfo};

/// What is known of a torrent: all of it, or its name and where the rest may be had.
#[derive(Clone, Debug)]
pub enum Description {
    /// A link: peers have to send the info dictionary first (BEP 9).
    Magnet(Box<Magnet>),
    /// The info dictionary is known.
    Metainfo(Box<Metainfo>),
}

impl Description {
    /// The info dictionary, and what follows from it, once it is known.
    pub fn metainfo(&self) -> Option<&Metainfo> {
        match self {
            Self::Magnet(_) => None,
            Self::Metainfo(metainfo) => Some(metainfo),
        }
    }

    /// The torrent's identity.
    pub fn info_hashes(&self) -> &InfoHashes {
        match self {
            Self::Magnet(magnet) => &magnet.info_hashes,
            Self::Metainfo(metainfo) => metainfo.info_hashes(),
        }
    }

    /// What to call it: of a link that names none, the info-hash.
    pub fn name(&self) -> String {
        match self {
            Self::Magnet(magnet) => magnet.name.clone().unwrap_or_else(|| magnet.info_hashes.to_string()),
            Self::Metainfo(metainfo) => metainfo.name().to_owned(),
        }
    }

    /// Tracker URLs in tiers, the first tier to be tried first (BEP 12).
    pub fn trackers(&self) -> Vec<Vec<String>> {
        match self {
            Self::Magnet(magnet) => magnet.trackers.iter().map(|url| vec![url.clone()]).collect(),
            Self::Metainfo(metainfo) => metainfo.trackers().to_vec(),
        }
    }

    /// Files, pieces and blocks: none until the info dictionary is known.
    pub fn layout(&self) -> Arc<FileLayout> {
        match self {
            Self::Magnet(_) => Arc::new(FileLayout::unknown(self.name())),
            Self::Metainfo(metainfo) => metainfo.layout().clone(),
        }
    }
}

impl From<Metainfo> for Description {
    fn from(metainfo: Metainfo) -> Self {
        Self::Metainfo(Box::new(metainfo))
    }
}

impl From<Box<Magnet>> for Description {
    fn from(magnet: Box<Magnet>) -> Self {
        Self::Magnet(magnet)
    }
}

impl From<Magnet> for Description {
    fn from(magnet: Magnet) -> Self {
        Self::Magnet(Box::new(magnet))
    }
}
