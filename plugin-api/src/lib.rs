//! Plugin interface.
