//! The messages of ut_metadata (BEP 9): a bencoded dictionary, and behind it the data of a block.

use pilotfish_plugin::Dict;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A block is asked for.
    Request { piece: u32 },
    /// A block, and how long all of it is.
    Data { piece: u32, total: Option<usize>, data: &'a [u8] },
    /// A block cannot be had.
    Reject { piece: u32 },
    /// Something that is not known yet.
    Unknown,
}

impl<'a> Message<'a> {
    /// Reads a message. `None`: it is none.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (dict, data) = Dict::parse(body)?;
        let (kind, piece) = (dict.int("msg_type")?, dict.int("piece")?);
        // A number that no metadata has: whoever asks for it is refused, and data of it was not asked for.
        let piece = u32::try_from(piece).unwrap_or(u32::MAX);
        Some(match kind {
            0 => Self::Request { piece },
            1 => {
                let total = dict.int("total_size").and_then(|total| usize::try_from(total).ok());
                Self::Data { piece, total, data }
            }
            2 => Self::Reject { piece },
            _ => Self::Unknown,
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Request { piece } => format!("d8:msg_typei0e5:piecei{piece}ee").into_bytes(),
            Self::Data { piece, total, data } => {
                let total = total.map(|total| format!("10:total_sizei{total}e")).unwrap_or_default();
                let mut bytes = format!("d8:msg_typei1e5:piecei{piece}e{total}e").into_bytes();
                bytes.extend(*data);
                bytes
            }
            Self::Reject { piece } => format!("d8:msg_typei2e5:piecei{piece}ee").into_bytes(),
            Self::Unknown => Vec::new(),
        }
    }
}
