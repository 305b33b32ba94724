//! The `#[hooks]` attribute of `pilotfish-plugin`.
//!
//! It never rewrites the author's code: it repeats the `impl` block as it is, and adds a sibling `impl` that holds a
//! constant set. rustc's messages, rust-analyzer and rustdoc all see ordinary Rust.

use proc_macro::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{ImplItem, ItemImpl, parse_macro_input};

/// Records which hooks an `impl` of a plugin trait overrides.
///
/// ```text
/// #[hooks]
/// impl PeerPlugin for MyPeer { … }
/// ```
#[proc_macro_attribute]
pub fn hooks(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    let block = parse_macro_input!(item as ItemImpl);
    let Some((None, plugin_trait, _)) = &block.trait_ else {
        let message = "#[hooks] goes on `impl SomePlugin for MyType`";
        return syn::Error::new(block.span(), message).to_compile_error().into();
    };
    let (generics, _, bounds) = block.generics.split_for_impl();
    let plugin = &block.self_ty;
    let additions = block.items.iter().filter_map(|item| match item {
        ImplItem::Fn(method) => {
            let name = &method.sig.ident;
            let conditions = method.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
            Some(quote! { #(#conditions)* { set = set.with(Set::named(stringify!(#name))); } })
        }
        // A macro call inside the block may expand to any method.
        ImplItem::Macro(_) => Some(quote! { { set = Set::ALL; } }),
        _ => None,
    });
    quote! {
        #block

        impl #generics ::pilotfish_plugin::rt::Overrides<dyn #plugin_trait> for #plugin #bounds {
            const SET: <dyn #plugin_trait as ::pilotfish_plugin::rt::HookTrait>::Set = {
                type Set = <dyn #plugin_trait as ::pilotfish_plugin::rt::HookTrait>::Set;
                #[allow(unused_mut)]
                let mut set = Set::EMPTY;
                #(#additions)*
                set
            };
        }
    }
    .into()
}
