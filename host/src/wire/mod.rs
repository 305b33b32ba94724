//! The peer protocol as bytes: every message in both directions, and the bencoding around it.
