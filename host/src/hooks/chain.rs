//! A chain of plugin objects, and the six ways to walk it.
//!
//! A chain keeps the union of what its objects override: a hook that nobody overrides costs one test. An object that
//! panicked is retired at once: no verb calls it again, and whoever owns the chain removes it.

use std::marker::PhantomData;
use std::ptr::NonNull;

use pilotfish_plugin::PluginId;
use pilotfish_plugin::rt::{HookStatus, Scope};

use super::{Host, Kind};

/// Who calls while nobody does.
const NOBODY: PluginId = PluginId(u32::MAX);

/// The plugin objects on one session, torrent or connection, in the order of registration.
pub struct Chain<K: Kind> {
    links: Vec<Link<K>>,
    /// The union of the sets of all links.
    union: u64,
}

struct Link<K: Kind> {
    object: K::Object,
    plugin: PluginId,
    /// The hooks that it overrides and wants; none once it is retired.
    hooks: u64,
    retired: bool,
    /// Whether it wants to see long messages grow.
    fragments: bool,
}

/// The children that a factory hook made.
pub struct Sprouted<C> {
    /// Each with the plugin that made it, in order.
    pub children: Vec<(PluginId, C)>,
    /// Whether a factory panicked.
    pub faulted: bool,
}

impl<K: Kind> Default for Chain<K> {
    fn default() -> Self {
        Self { links: Vec::new(), union: 0 }
    }
}

/// One walk along a chain. All calls share the context, which nothing but the host's idea of the caller tells apart: a plugin
/// cannot make another one to put in its place.
struct Walk<'h, K: Kind, H: Host> {
    host: NonNull<H>,
    scope: Scope,
    cx: K::Cx<'h>,
    subject: K::Subject,
    _host: PhantomData<&'h mut H>,
}

impl<'h, K: Kind, H: Host> Walk<'h, K, H> {
    #[inline]
    fn new(host: &'h mut H, subject: K::Subject) -> Self {
        let mut host = NonNull::from(host);
        // SAFETY: it is borrowed mutably for `'h`, and nobody else uses that borrow.
        let scope = unsafe { host.as_mut() }.scope(NOBODY);
        // SAFETY: the scope is fresh, and the host is touched again only in `fault`, which makes another.
        let cx = unsafe { K::context(scope, subject) };
        Self { host, scope, cx, subject, _host: PhantomData }
    }

    /// The next call is this plugin's.
    #[inline]
    fn hand_to(&mut self, plugin: PluginId) {
        // SAFETY: the scope is the newest of the host's, and no call is under way.
        unsafe { H::hand_to(self.scope, plugin) };
    }

    #[cold]
    fn fault(&mut self, plugin: PluginId, hook: &'static str) {
        // SAFETY: as in `new`; the scope and the context that this makes invalid are replaced.
        let host = unsafe { self.host.as_mut() };
        host.fault(plugin, hook, K::place(self.subject));
        self.scope = host.scope(NOBODY);
        // SAFETY: as in `new`.
        self.cx = unsafe { K::context(self.scope, self.subject) };
    }
}

impl<K: Kind> Link<K> {
    /// Calls one hook; `None` if this object does not have it, has been retired, or panicked just now.
    #[inline]
    fn call<H: Host>(
        &mut self,
        walk: &mut Walk<'_, K, H>,
        hook: K::Set,
        call: &mut impl FnMut(&mut K::Object, &mut K::Cx<'_>) -> Option<HookStatus>,
    ) -> Option<HookStatus> {
        if self.hooks & K::bits(hook) == 0 {
            return None;
        }
        walk.hand_to(self.plugin);
        let status = call(&mut self.object, &mut walk.cx)?;
        // The usual answer: no verb asks more about it.
        if status == HookStatus::CONTINUE {
            return Some(status);
        }
        if status == HookStatus::PANICKED {
            self.retired = true;
            self.hooks = 0;
            walk.fault(self.plugin, K::name(hook));
            return None;
        }
        Some(status)
    }
}

impl<K: Kind> Chain<K> {
    /// Appends an object.
    pub fn push(&mut self, plugin: PluginId, object: K::Object) {
        let hooks = K::set(&object);
        self.union |= hooks;
        // Chains are short and stay as they are, and there are as many as torrents and connections.
        self.links.reserve_exact(1);
        self.links.push(Link { object, plugin, hooks, retired: false, fragments: false });
    }

    /// From now on calls these hooks of a plugin's objects no more, though they are overridden.
    pub fn mute(&mut self, plugin: PluginId, hooks: K::Set) {
        for link in self.links.iter_mut().filter(|link| link.plugin == plugin) {
            link.hooks &= !K::bits(hooks);
        }
        self.unite();
    }

    /// Removes the objects of a plugin; they are dropped without being told.
    pub fn remove(&mut self, plugin: PluginId) -> bool {
        let before = self.links.len();
        self.links.retain(|link| link.plugin != plugin);
        self.unite();
        self.links.len() != before
    }

    fn unite(&mut self) {
        self.union = self.links.iter().fold(0, |union, link| union | link.hooks);
    }

    /// Whether any object overrides one of these hooks.
    #[inline]
    pub fn has(&self, hooks: K::Set) -> bool {
        self.union & K::bits(hooks) != 0
    }

    /// Whether an object of this plugin is here.
    pub fn contains(&self, plugin: PluginId) -> bool {
        self.links.iter().any(|link| link.plugin == plugin)
    }

    /// What the objects of a plugin override.
    pub fn set_of(&self, plugin: PluginId) -> u64 {
        self.links.iter().filter(|link| link.plugin == plugin).fold(0, |set, link| set | K::set(&link.object))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Asks in order until one answers with a status that `stops`; that status.
    #[inline]
    pub fn first<H: Host>(
        &mut self,
        host: &mut H,
        subject: K::Subject,
        hook: K::Set,
        stops: impl Fn(HookStatus) -> bool,
        mut call: impl FnMut(&mut K::Object, &mut K::Cx<'_>) -> Option<HookStatus>,
    ) -> HookStatus {
        if !self.has(hook) {
            return HookStatus::CONTINUE;
        }
        let mut walk = Walk::new(host, subject);
        for link in &mut self.links {
            match link.call(&mut walk, hook, &mut call) {
                Some(status) if stops(status) => return status,
                _ => {}
            }
        }
        HookStatus::CONTINUE
    }

    /// Asks in order until one handles the event; whether one did.
    #[inline]
    pub fn first_handled<H: Host>(
        &mut self,
        host: &mut H,
        subject: K::Subject,
        hook: K::Set,
        call: impl FnMut(&mut K::Object, &mut K::Cx<'_>) -> Option<HookStatus>,
    ) -> bool {
        self.first(host, subject, hook, |status| status == HookStatus::HANDLED, call) == HookStatus::HANDLED
    }

    /// The newest object of a plugin wants to see long messages grow.
    pub fn want_fragments(&mut self, plugin: PluginId) {
        if let Some(link) = self.links.iter_mut().rev().find(|link| link.plugin == plugin) {
            link.fragments = true;
        }
    }

    /// As [`first_handled`](Self::first_handled), of those that want to see long messages grow.
    pub fn first_to_handle_fragment<H: Host>(
        &mut self,
        host: &mut H,
        subject: K::Subject,
        hook: K::Set,
        mut call: impl FnMut(&mut K::Object, &mut K::Cx<'_>) -> Option<HookStatus>,
    ) -> bool {
        let mut wanting = self.links.iter_mut().filter(|link| link.fragments);
        let mut walk = Walk::new(host, subject);
        wanting.any(|link| link.call(&mut walk, hook, &mut call) == Some(HookStatus::HANDLED))
    }

    /// Tells everyone.
    #[inline]
    pub fn tell<H: Host>(
        &mut self,
        host: &mut H,
        subject: K::Subject,
        hook: K::Set,
        mut call: impl FnMut(&mut K::Object, &mut K::Cx<'_>) -> Option<HookStatus>,
    ) {
        if self.has(hook) {
            let mut walk = Walk::new(host, subject);
            for link in &mut self.links {
                link.call(&mut walk, hook, &mut call);
            }
        }
    }

    /// Asks everyone whether to stay; who leaves is dropped at once.
    pub fn retain<H: Host>(
        &mut self,
        host: &mut H,
        subject: K::Subject,
        hook: K::Set,
        mut call: impl FnMut(&mut K::Object, &mut K::Cx<'_>) -> Option<HookStatus>,
    ) {
        if self.has(hook) {
            let mut walk = Walk::new(host, subject);
            self.links.retain_mut(|link| link.call(&mut walk, hook, &mut call) != Some(HookStatus::HANDLED));
            self.unite();
        }
    }

    /// Asks in order until one refuses; whether all consent.
    pub fn all_consent<H: Host>(
        &mut self,
        host: &mut H,
        subject: K::Subject,
        hook: K::Set,
        call: impl FnMut(&mut K::Object, &mut K::Cx<'_>) -> Option<HookStatus>,
    ) -> bool {
        !self.first_handled(host, subject, hook, call)
    }

    /// Folds everyone's value into one. `value` starts as `empty` for each object, and `call` fills it in.
    #[allow(
        clippy::too_many_arguments,
        reason = "a verb: the subject, the question, and how to fold the answers"
    )]
    pub fn fold<H: Host, V, T>(
        &mut self,
        host: &mut H,
        subject: K::Subject,
        hook: K::Set,
        empty: impl Fn() -> V,
        mut call: impl FnMut(&mut K::Object, &mut K::Cx<'_>, &mut V) -> Option<HookStatus>,
        start: T,
        mut fold: impl FnMut(T, PluginId, V) -> T,
    ) -> T {
        let mut total = start;
        if !self.has(hook) {
            return total;
        }
        let mut walk = Walk::new(host, subject);
        for link in &mut self.links {
            let mut value = empty();
            let answered = link.call(&mut walk, hook, &mut |object, cx| call(object, cx, &mut value));
            if answered.is_some() {
                total = fold(total, link.plugin, value);
            }
        }
        total
    }

    /// Collects the children that a factory hook makes.
    pub fn sprout<H: Host, C>(
        &mut self,
        host: &mut H,
        subject: K::Subject,
        hook: K::Set,
        call: impl FnMut(&mut K::Object, &mut K::Cx<'_>, &mut Option<C>) -> Option<HookStatus>,
    ) -> Sprouted<C> {
        let retired = |links: &[Link<K>]| links.iter().filter(|link| link.retired).count();
        let before = retired(&self.links);
        let children = self.fold(
            host,
            subject,
            hook,
            || None,
            call,
            Vec::new(),
            |mut children, plugin, child| {
                children.extend(child.map(|child| (plugin, child)));
                children
            },
        );
        Sprouted { children, faulted: retired(&self.links) > before }
    }

    /// Calls one hook of one plugin.
    pub fn only<H: Host>(
        &mut self,
        host: &mut H,
        plugin: PluginId,
        subject: K::Subject,
        hook: K::Set,
        mut call: impl FnMut(&mut K::Object, &mut K::Cx<'_>) -> Option<HookStatus>,
    ) -> Option<HookStatus> {
        let link = self.links.iter_mut().rev().find(|link| link.plugin == plugin)?;
        link.call(&mut Walk::new(host, subject), hook, &mut call)
    }
}
