//! Panic containment, on the plugin's side of the boundary.
//!
//! The guard must be compiled into the plugin: each library carries its own copy of `std`, and a panic of another copy
//! is a foreign exception, which ends the process. On the path without a panic it adds no instruction.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::answer::{HookStatus, IntoStatus};
use crate::host_api::Sink;

thread_local! {
    static REPORT: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether hooks run on this thread. Elsewhere a panic is the plugin's own business.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs one hook on the plugin object behind `this`.
///
/// # Safety
/// `this` is a live `T`, and nothing else refers to it during the call.
#[inline(always)]
pub unsafe fn guard<T, R: IntoStatus>(this: *mut (), f: impl FnOnce(&mut T) -> R) -> HookStatus {
    // SAFETY: the caller's promise.
    match catch_unwind(AssertUnwindSafe(|| f(unsafe { &mut *this.cast::<T>() }))) {
        Ok(answer) => answer.into_status(),
        Err(payload) => caught(payload),
    }
}

/// Runs code that has no receiver, or that returns more than a status.
///
/// # Errors
/// [`HookStatus::PANICKED`] if `f` panicked.
#[inline(always)]
pub fn guard_with<R>(f: impl FnOnce() -> R) -> Result<R, HookStatus> {
    catch_unwind(AssertUnwindSafe(f)).map_err(caught)
}

#[cold]
#[inline(never)]
fn caught(payload: Box<dyn Any + Send>) -> HookStatus {
    let text = message(&*payload);
    let _ = REPORT.try_with(|slot| {
        let mut slot = slot.borrow_mut();
        // The panic hook has normally stored the same text with its place. `resume_unwind` goes past the hook, and a
        // plugin may have replaced it: then the payload is all there is.
        if !slot.as_deref().is_some_and(|report| report.starts_with(text)) {
            *slot = Some(text.to_owned());
        }
    });
    // The payload's own Drop may panic too; that payload is leaked rather than dropped.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    HookStatus::PANICKED
}

const OPAQUE: &str = "panic with a payload that is no text";

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or(OPAQUE)
}

/// Records panics on this thread with file and line. The hook that it installs belongs to this library's own `std`.
///
/// `quiet` is whether a recorded panic is kept from the previous hook, which prints it. A library does so: its report
/// travels to the host. A host that links plugins in does not: on its network thread the panic may be its own.
pub fn install_hook(quiet: bool) {
    static ONCE: Once = Once::new();
    GUARDED.set(true);
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.try_with(Cell::get).unwrap_or(false) {
                return previous(info);
            }
            let text = message(info.payload());
            let place =
                info.location().map_or_else(String::new, |l| format!(" at {}:{}", l.file(), l.line()));
            let _ = REPORT
                .try_with(|slot| slot.try_borrow_mut().map(|mut s| *s = Some(format!("{text}{place}"))));
            if !quiet {
                previous(info);
            }
        }));
    });
}

/// Hands out the report of the last panic that was caught on this thread: `message at file:line`.
///
/// # Safety
/// `sink` is valid for the call.
pub unsafe extern "C" fn take_panic(sink: Sink<'_>) -> HookStatus {
    let report = REPORT.try_with(|slot| slot.try_borrow_mut().ok().and_then(|mut report| report.take()));
    match report {
        Ok(Some(text)) => {
            sink.put(text.as_bytes());
            HookStatus::HANDLED
        }
        _ => HookStatus::CONTINUE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_of(f: impl FnOnce()) -> Option<String> {
        assert_eq!(guard_with(f), Err(HookStatus::PANICKED));
        taken()
    }

    fn taken() -> Option<String> {
        let mut text = Vec::new();
        // SAFETY: the sink lives as long as the call.
        let status = unsafe { take_panic(Sink::to(&mut text)) };
        (status == HookStatus::HANDLED).then(|| String::from_utf8(text).expect("reports are text"))
    }

    #[test]
    fn a_report_has_message_and_place_and_is_taken_once() {
        install_hook(true);
        assert!(
            report_of(|| panic!("plain"))
                .is_some_and(|r| r.starts_with("plain at ") && r.contains("panics.rs:"))
        );
        assert!(report_of(|| panic!("with {}", 7)).is_some_and(|r| r.starts_with("with 7 at ")));
        assert!(report_of(|| std::panic::panic_any(7u32)).is_some_and(|r| r.starts_with(OPAQUE)));
        assert_eq!(report_of(|| std::panic::resume_unwind(Box::new("quiet"))).as_deref(), Some("quiet"));
        assert_eq!(taken(), None);
    }

    #[test]
    fn a_payload_that_panics_when_dropped_stays_inside() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("bomb");
            }
        }
        install_hook(true);
        assert_eq!(guard_with(|| std::panic::panic_any(Bomb)), Err(HookStatus::PANICKED));
    }

    #[test]
    fn a_receiver_survives_its_panic() {
        install_hook(true);
        let mut n = 0u32;
        let this = (&raw mut n).cast();
        let bump = |n: &mut u32| {
            *n += 1;
            assert!(*n != 2);
        };
        // SAFETY: `this` is `n`, which is not used otherwise meanwhile.
        let run = || unsafe { guard::<u32, ()>(this, bump) };
        assert_eq!([run(), run(), run()], [HookStatus::CONTINUE, HookStatus::PANICKED, HookStatus::CONTINUE]);
    }
}
