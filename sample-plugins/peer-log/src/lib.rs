//! Prints what libtorrent's peer-plugin tutorial prints.
