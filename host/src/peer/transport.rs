//! What a connection's bytes travel by.

/// libtorrent's `socket_type_t`, as far as there is such a socket here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// uTP, on the one UDP port (BEP 29).
    Utp,
}

impl Transport {
    /// libtorrent's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Utp => "uTP",
        }
    }
}
