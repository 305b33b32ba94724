//! From one list of hooks per trait: the trait, the set of overridden hooks, the wire table, the guarded shims, and the
//! host's flat table.
//!
//! A row reads `fn name(argument: RustType => WireType, …) -> Answer = default;`. An answer that is more than a status
//! byte travels through an out-parameter: `-> Answer => WireAnswer = default`.
//!
//! Once the interface is frozen, rows are only ever appended. A row's place, its types, and the names of its parameters are
//! part of the ABI: the layout check compares all of them.

/// Maps `dyn Trait` to the set of its hooks.
pub trait HookTrait {
    /// The set.
    type Set;
}

/// Which hooks a type overrides; written by `#[hooks]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` implements a plugin trait without `#[hooks]`",
    label = "the hooks of this type were never recorded",
    note = "put `#[pilotfish_plugin::hooks]` on the `impl` block"
)]
pub trait Overrides<K: HookTrait + ?Sized> {
    /// The hooks whose methods stand in the `impl` block.
    const SET: K::Set;
}

/// Whether two names are equal, at compile time.
pub(crate) const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

macro_rules! hook_table {
    (
        $(#[$tmeta:meta])*
        trait $Trait:ident, context $Cx:ident, set $Set:ident, wire $Vt:ident as $VtRef:ident, boxed $Box:ident, flat $Table:ident, object $Object:ident;
        hooks { $(
            $(#[doc = $doc:literal])*
            fn $name:ident ( $( $arg:ident : $rust:ty => $abi:ty ),* $(,)? ) -> $ret:ty $( => $out:ty )? = $default:expr ;
        )* }
    ) => {
        $(#[$tmeta])*
        #[allow(unused_variables)]
        pub trait $Trait: 'static {
            $(
                $(#[doc = $doc])*
                fn $name(&mut self, cx: &mut $Cx<'_>, $( $arg: $rust ),*) -> $ret { $default }
            )*
        }

        #[doc = concat!("A set of the hooks of [`", stringify!($Trait), "`].")]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $Set(u64);

        impl $crate::table::HookTrait for dyn $Trait {
            type Set = $Set;
        }

        #[allow(non_upper_case_globals, missing_docs)]
        impl $Set {
            pub const EMPTY: Self = Self(0);
            pub const ALL: Self = Self(u64::MAX);
            /// The names of all hooks, in the order of their slots.
            pub const NAMES: &'static [&'static str] = &[ $( stringify!($name) ),* ];
            hook_table!(@bits 0; $( $name )*);

            /// The set of one hook. An unknown name is the empty set: rustc reports it as no member of the trait.
            pub const fn named(name: &str) -> Self {
                $( if $crate::table::same(name, stringify!($name)) { return Self::$name; } )*
                Self::EMPTY
            }
            #[inline(always)]
            pub const fn with(self, other: Self) -> Self { Self(self.0 | other.0) }
            #[inline(always)]
            pub const fn has(self, other: Self) -> bool { self.0 & other.0 != 0 }
            #[inline(always)]
            pub const fn bits(self) -> u64 { self.0 }
            /// The names of the hooks in the set.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                Self::NAMES.iter().enumerate().filter(move |(i, _)| self.0 >> i & 1 == 1).map(|(_, name)| *name)
            }
        }

        /// The wire table. An empty slot means "not overridden", and so does a slot that an older plugin does not have:
        /// one representation for both.
        #[doc(hidden)]
        #[repr(C)]
        #[derive(::abi_stable::StableAbi)]
        #[sabi(kind(Prefix(prefix_ref = $VtRef)))]
        #[allow(missing_docs)]
        pub struct $Vt {
            #[sabi(last_prefix_field)]
            pub destroy: unsafe extern "C" fn(this: *mut ()) -> $crate::answer::HookStatus,
            $( pub $name: Option<unsafe extern "C" fn(this: *mut (), cx: &mut $Cx<'_>, $( $arg: $abi, )* $( out: &mut $out )?) -> $crate::answer::HookStatus>, )*
        }

        impl $Vt {
            const fn of<T>() -> Self
            where T: $Trait + $crate::table::Overrides<dyn $Trait> {
                Self {
                    destroy: shims::destroy::<T>,
                    $( $name: if T::SET.has($Set::$name) { Some(shims::$name::<T>) } else { None }, )*
                }
            }
        }

        #[allow(clippy::useless_conversion, clippy::missing_safety_doc)]
        mod shims {
            use super::*;

            pub(super) unsafe extern "C" fn destroy<T: $Trait>(this: *mut ()) -> $crate::answer::HookStatus {
                // SAFETY: the box that owns `this` made it from a `Box<T>` and destroys it once.
                match $crate::panics::guard_with(|| drop(unsafe { Box::from_raw(this.cast::<T>()) })) {
                    Ok(()) => $crate::answer::HookStatus::CONTINUE,
                    Err(status) => status,
                }
            }

            $( hook_table!(@shim $Trait $Cx $name ( $( $arg: $abi ),* ) $( => $out )?); )*
        }

        /// An owned plugin object without its type. Dropping it runs the plugin's own destructor with the plugin's own
        /// allocator. Not `Send`: the object stays on the network thread, so its type need not be `Send` either.
        #[repr(C)]
        #[derive(::abi_stable::StableAbi)]
        pub struct $Box {
            this: *mut (),
            vtable: $VtRef,
        }

        struct MakeTable<T>(std::marker::PhantomData<T>);

        impl<T> MakeTable<T>
        where T: $Trait + $crate::table::Overrides<dyn $Trait> {
            ::abi_stable::staticref!(const TABLE: ::abi_stable::prefix_type::WithMetadata<$Vt> =
                ::abi_stable::prefix_type::WithMetadata::new($Vt::of::<T>()));
        }

        impl $Box {
            /// Boxes a plugin object. (Not `From`: a missing `#[hooks]` would be reported as a failed `Into`.)
            pub fn new<T>(plugin: T) -> Self
            where T: $Trait + $crate::table::Overrides<dyn $Trait> {
                Self { this: Box::into_raw(Box::new(plugin)).cast(), vtable: $VtRef(MakeTable::<T>::TABLE.as_prefix()) }
            }

            #[doc(hidden)]
            pub fn this(&self) -> *mut () {
                self.this
            }

            #[doc(hidden)]
            pub fn vtable(&self) -> $VtRef {
                self.vtable
            }

            #[doc(hidden)]
            pub fn table(&self) -> $Table {
                $Table::flatten(self.vtable)
            }
        }

        impl Drop for $Box {
            fn drop(&mut self) {
                // SAFETY: `this` and `vtable` were made together, and a box is dropped once.
                unsafe { self.vtable.destroy()(self.this) };
            }
        }

        /// The host's side of a plugin object: the object with its flat table, and one safe call per hook. `None`: the plugin
        /// does not have the hook.
        #[doc(hidden)]
        pub struct $Object {
            boxed: $Box,
            table: &'static $Table,
        }

        #[allow(missing_docs, clippy::too_many_arguments)]
        impl $Object {
            pub fn new(boxed: $Box) -> Self {
                let table = $Table::shared(boxed.vtable);
                Self { boxed, table }
            }
            #[inline(always)]
            pub fn set(&self) -> $Set { self.table.set }
            $(
                #[inline(always)]
                pub fn $name(&mut self, cx: &mut $Cx<'_>, $( $arg: $abi, )* $( out: &mut $out )?) -> Option<$crate::answer::HookStatus> {
                    let hook = self.table.$name?;
                    // SAFETY: the table is that of the boxed object, which is borrowed mutably, and the context is valid, as
                    // its maker promised.
                    Some(unsafe { hook(self.boxed.this, cx, $( $arg, )* $( hook_table!(@out out $out) )?) })
                }
            )*
        }

        /// The host's side of the wire table: plain slots, resolved once.
        #[doc(hidden)]
        #[derive(Clone, Copy)]
        #[allow(missing_docs)]
        pub struct $Table {
            pub set: $Set,
            $( pub $name: Option<unsafe extern "C" fn(*mut (), &mut $Cx<'_>, $( $abi, )* $( &mut $out )?) -> $crate::answer::HookStatus>, )*
        }

        impl $Table {
            /// The flat table of a wire table: one for each, made once and kept.
            fn shared(table: $VtRef) -> &'static Self {
                static TABLES: std::sync::Mutex<std::collections::BTreeMap<usize, &'static $Table>> =
                    std::sync::Mutex::new(std::collections::BTreeMap::new());
                let address = std::ptr::from_ref(table.0.prefix()).addr();
                let mut tables = TABLES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                tables.entry(address).or_insert_with(|| Box::leak(Box::new(Self::flatten(table))))
            }

            /// Resolves every slot, also those that the plugin's table is too short for.
            pub fn flatten(table: $VtRef) -> Self {
                let mut set = $Set::EMPTY;
                $( let $name = table.$name().flatten(); if $name.is_some() { set = set.with($Set::$name); } )*
                Self { set, $( $name, )* }
            }
        }
    };

    (@shim $Trait:ident $Cx:ident $name:ident ( $( $arg:ident : $abi:ty ),* )) => {
        pub(super) unsafe extern "C" fn $name<T: $Trait>(this: *mut (), cx: &mut $Cx<'_>, $( $arg: $abi ),*) -> $crate::answer::HookStatus {
            // SAFETY: the host passes the object of the box whose table this is, and calls no hook while one runs.
            unsafe { $crate::panics::guard::<T, _>(this, |plugin| plugin.$name(cx, $( $arg.into() ),*)) }
        }
    };
    (@shim $Trait:ident $Cx:ident $name:ident ( $( $arg:ident : $abi:ty ),* ) => $out:ty) => {
        pub(super) unsafe extern "C" fn $name<T: $Trait>(this: *mut (), cx: &mut $Cx<'_>, $( $arg: $abi, )* out: &mut $out) -> $crate::answer::HookStatus {
            // SAFETY: as above.
            unsafe { $crate::panics::guard::<T, _>(this, |plugin| *out = plugin.$name(cx, $( $arg.into() ),*).into()) }
        }
    };

    (@out $name:ident $out:ty) => { $name };

    (@bits $n:expr; ) => {};
    (@bits $n:expr; $head:ident $($rest:ident)*) => {
        pub const $head: Self = Self(1 << ($n));
        hook_table!(@bits $n + 1; $($rest)*);
    };
}
pub(crate) use hook_table;
