//! What a plugin library exports: a plain C manifest, and a root module for abi_stable to check.
#![allow(unsafe_code)]

use std::fmt::Display;

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{ROption, RSlice, RStr};

use crate::answer::HookStatus;
use crate::config::Config;
use crate::context::SessionContext;
use crate::host_api::Sink;
use crate::panics::{guard_with, install_hook, take_panic};
use crate::session_plugin::{SessionBox, SessionPlugin};
use crate::torrent_plugin::TorrentBox;
use crate::value::{TorrentHandle, Userdata};

/// The first bytes of a manifest.
pub const MAGIC: [u8; 8] = *b"PLTFISH\n";
/// The symbol of a manifest.
pub const MANIFEST_SYMBOL: &str = "pilotfish_plugin_manifest";
/// The major version of the ABI: hosts load plugins of their own major only.
pub const API_MAJOR: u16 = parse_number(env!("CARGO_PKG_VERSION_MAJOR"));
/// The minor version of the ABI: hosts load plugins of any minor.
pub const API_MINOR: u16 = parse_number(env!("CARGO_PKG_VERSION_MINOR"));
/// [`Manifest::binding`]: Rust, checked by abi_stable.
pub const BINDING_RUST: u16 = 1;
/// [`Manifest::panic_strategy`]: panics unwind, and the guard catches them.
pub const PANIC_UNWIND: u8 = 1;

const fn parse_number(text: &str) -> u16 {
    let bytes = text.as_bytes();
    let (mut n, mut i) = (0, 0);
    while i < bytes.len() {
        n = n * 10 + (bytes[i] - b'0') as u16;
        i += 1;
    }
    n
}

/// Read before anything in the library runs. Its first three fields never change.
#[repr(C)]
pub struct Manifest {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Bytes in this struct; later ones are longer.
    pub size: u32,
    /// The ABI's major version.
    pub api_major: u16,
    /// The ABI's minor version.
    pub api_minor: u16,
    /// How the rest of the library is to be read: [`BINDING_RUST`].
    pub binding: u16,
    /// [`PANIC_UNWIND`] or something that cannot be loaded.
    pub panic_strategy: u8,
    /// Whether it was built with debug assertions.
    pub debug_assertions: u8,
    /// The plugin's name, unique among the plugins of a session.
    pub id: ManifestText,
    /// The plugin's version.
    pub version: ManifestText,
    /// One line about it.
    pub description: ManifestText,
}

// SAFETY: a manifest is constant data.
unsafe impl Sync for Manifest {}

/// A text in a manifest, inline: it can be read from the file without relocations being applied.
#[repr(C)]
pub struct ManifestText {
    len: u8,
    bytes: [u8; 127],
}

impl ManifestText {
    /// The first 127 bytes of a text.
    pub const fn new(text: &str) -> Self {
        let (source, mut bytes, mut i) = (text.as_bytes(), [0; 127], 0);
        while i < source.len() && i < bytes.len() {
            bytes[i] = source[i];
            i += 1;
        }
        Self { len: i as u8, bytes }
    }

    /// A plugin's name: lower-case letters, digits, `-` and `_`, at most 127 of them. Anything else does not compile.
    pub const fn id(name: &str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= 127, "a plugin's name has 1 to 127 characters");
        let mut i = 0;
        while i < bytes.len() {
            let fits = matches!(bytes[i], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
            assert!(fits, "a plugin's name is made of lower-case letters, digits, '-' and '_'");
            i += 1;
        }
        Self::new(name)
    }

    /// The text.
    pub fn to_text(&self) -> String {
        let len = usize::from(self.len).min(self.bytes.len());
        String::from_utf8_lossy(&self.bytes[..len]).into_owned()
    }
}

/// What the plugin library offers.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef)))]
pub struct PluginModule {
    /// Makes one plugin object, for one session.
    pub open: unsafe extern "C" fn(
        cx: &mut SessionContext<'_>,
        config: RSlice<'_, u8>,
        out: &mut ROption<SessionBox>,
        error: Sink<'_>,
    ) -> HookStatus,
    /// The report of the last panic on this thread.
    #[sabi(last_prefix_field)]
    pub take_panic: unsafe extern "C" fn(out: Sink<'_>) -> HookStatus,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "pilotfish_plugin";
    const NAME: &'static str = "pilotfish_plugin";
    const VERSION_STRINGS: VersionStrings =
        VersionStrings { version: RStr::from_str(env!("CARGO_PKG_VERSION")) };
}

/// The module's `open`, around the author's function.
#[doc(hidden)]
pub fn open_with<E: Display>(
    make: impl FnOnce() -> Result<SessionBox, E>,
    out: &mut ROption<SessionBox>,
    error: Sink<'_>,
) -> HookStatus {
    install_hook(true);
    // The error's own Display runs under the guard too.
    match guard_with(|| make().map_err(|e| e.to_string())) {
        Ok(Ok(plugin)) => {
            *out = ROption::RSome(plugin);
            HookStatus::HANDLED
        }
        Ok(Err(text)) => {
            error.put(text.as_bytes());
            HookStatus::CONTINUE
        }
        Err(status) => status,
    }
}

/// A session plugin that is no more than a torrent factory (libtorrent wraps a bare factory in the same way).
#[doc(hidden)]
pub struct Factory<F>(F);

impl<F> SessionPlugin for Factory<F>
where
    F: FnMut(&mut SessionContext<'_>, TorrentHandle, Userdata) -> Option<TorrentBox> + 'static,
{
    fn new_torrent(
        &mut self,
        cx: &mut SessionContext<'_>,
        torrent: TorrentHandle,
        userdata: Userdata,
    ) -> Option<TorrentBox> {
        (self.0)(cx, torrent, userdata)
    }

    fn abort(&mut self, cx: &mut SessionContext<'_>) {
        cx.session().done();
    }
}

/// Its constructor: the bound lets a closure's lifetimes be inferred.
#[doc(hidden)]
pub fn factory<F>(make: F) -> Factory<F>
where
    F: FnMut(&mut SessionContext<'_>, TorrentHandle, Userdata) -> Option<TorrentBox> + 'static,
{
    Factory(make)
}

impl<F> crate::table::Overrides<dyn SessionPlugin> for Factory<F>
where
    F: FnMut(&mut SessionContext<'_>, TorrentHandle, Userdata) -> Option<TorrentBox> + 'static,
{
    const SET: crate::SessionHooks =
        crate::SessionHooks::named("new_torrent").with(crate::SessionHooks::named("abort"));
}

/// Opens a plugin that is linked into the host; its panics are reported by [`linked_panic`].
#[doc(hidden)]
pub fn linked_config(bytes: &[u8]) -> Config<'_> {
    install_hook(false);
    Config::from_bencode(bytes)
}

/// The report of the last panic of a linked-in plugin.
#[doc(hidden)]
pub const LINKED_TAKE_PANIC: unsafe extern "C" fn(Sink<'_>) -> HookStatus = take_panic;

/// Exports a plugin from a `cdylib`.
///
/// `export_plugin!(session = open)` with `fn open(cx: &mut SessionContext<'_>, config: &Config<'_>) -> Result<SessionBox, E>`
/// where `E: Display`, called once for each session; or `export_plugin!(torrent = make)` for a plugin that needs nothing
/// beyond its torrents, with `fn make(cx: &mut SessionContext<'_>, torrent: TorrentHandle, userdata: Userdata) -> Option<TorrentBox>`.
/// Its name is the package's, without a leading `pilotfish-`; `export_plugin!(name = "other", session = open)` gives another.
#[macro_export]
macro_rules! export_plugin {
    (session = $open:expr) => {
        $crate::export_plugin!(name = $crate::rt::default_name(env!("CARGO_PKG_NAME")), session = $open);
    };
    (torrent = $make:expr) => {
        $crate::export_plugin!(name = $crate::rt::default_name(env!("CARGO_PKG_NAME")), torrent = $make);
    };
    (name = $name:expr, torrent = $make:expr) => {
        $crate::export_plugin!(
            name = $name,
            session = |_: &mut $crate::SessionContext<'_>, _: &$crate::Config<'_>| {
                ::core::result::Result::<_, ::std::string::String>::Ok($crate::SessionBox::new(
                    $crate::rt::factory($make),
                ))
            }
        );
    };
    (name = $name:expr, session = $open:expr) => {
        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "plugins must be built with panic = \"unwind\": with \"abort\" one panic ends the host"
        );

        // Names of items that a macro makes are visible to the author's code: they all start with `__pilotfish` in upper or
        // lower case, and live in a nameless block.
        #[allow(unsafe_code, missing_docs)]
        const _: () = {
            #[unsafe(export_name = "pilotfish_plugin_manifest")]
            pub static __PILOTFISH_MANIFEST: $crate::rt::Manifest = $crate::rt::Manifest {
                magic: $crate::rt::MAGIC,
                size: ::core::mem::size_of::<$crate::rt::Manifest>() as u32,
                api_major: $crate::rt::API_MAJOR,
                api_minor: $crate::rt::API_MINOR,
                binding: $crate::rt::BINDING_RUST,
                panic_strategy: if cfg!(panic = "unwind") { $crate::rt::PANIC_UNWIND } else { 2 },
                debug_assertions: cfg!(debug_assertions) as u8,
                id: $crate::rt::ManifestText::id($name),
                version: $crate::rt::ManifestText::new(env!("CARGO_PKG_VERSION")),
                description: $crate::rt::ManifestText::new(env!("CARGO_PKG_DESCRIPTION")),
            };

            unsafe extern "C" fn __pilotfish_open(
                cx: &mut $crate::SessionContext<'_>,
                config: $crate::rt::abi_stable::std_types::RSlice<'_, u8>,
                out: &mut $crate::rt::abi_stable::std_types::ROption<$crate::SessionBox>,
                error: $crate::rt::Sink<'_>,
            ) -> $crate::rt::HookStatus {
                let config = $crate::Config::from_bencode(config.as_slice());
                $crate::rt::open_with(|| ($open)(cx, &config), out, error)
            }

            fn __pilotfish_root() -> $crate::rt::PluginModuleRef {
                use $crate::rt::abi_stable::prefix_type::PrefixTypeTrait;
                $crate::rt::PluginModule { open: __pilotfish_open, take_panic: $crate::rt::take_panic }
                    .leak_into_prefix()
            }

            extern "C" fn __pilotfish_erased() -> $crate::rt::abi_stable::library::RootModuleResult {
                $crate::rt::abi_stable::library::__call_root_module_loader(__pilotfish_root)
            }

            // The static that abi_stable's `#[export_root_module]` makes, without the author's tokens going through syn 1.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            pub static __PILOTFISH_HEADER: $crate::rt::abi_stable::library::LibHeader = unsafe {
                $crate::rt::abi_stable::library::LibHeader::from_constructor::<$crate::rt::PluginModuleRef>(
                    __pilotfish_erased,
                    $crate::rt::abi_stable::library::CheckTypeLayout::Yes,
                )
            };
        };
    };
}

/// A package's name without the prefix that all plugins may share.
#[doc(hidden)]
pub const fn default_name(package: &'static str) -> &'static str {
    const PREFIX: &[u8] = b"pilotfish-";
    let (text, mut i) = (package.as_bytes(), 0);
    while i < PREFIX.len() {
        if i >= text.len() || text[i] != PREFIX[i] {
            return package;
        }
        i += 1;
    }
    package.split_at(PREFIX.len()).1
}
