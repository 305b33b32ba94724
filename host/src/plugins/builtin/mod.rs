//! The extensions that come with the engine.
//!
//! They are plugins like anybody's: nothing in this folder knows more than `pilotfish-plugin`, and each of them could be a
//! library in the plugin directory just as well.
//!
//! | extension | what |
//! |---|---|
//! | `ut_pex` | peers tell each other of peers (BEP 11) |
//! | `ut_metadata` | the metadata of magnet links, from peers and for peers (BEP 9) |
//! | `smart_ban` | finds out who sent the blocks that spoilt a piece |

pub mod smart_ban;
pub mod ut_metadata;
pub mod ut_pex;

pub use smart_ban::create_smart_ban_plugin;
pub use ut_metadata::create_ut_metadata_plugin;
pub use ut_pex::create_ut_pex_plugin;
