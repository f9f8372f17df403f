//! Panics of other crates' code on input that it does not know, as errors.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Runs `work`; what a panic on this thread says becomes the error, and is not printed.
///
/// What `work` has changed when it panics may be half changed: the caller drops it.
///
/// # Errors
/// The panic's message.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    silence_guarded_panics();
    let outside = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outside);
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it panicked").to_owned()
    })
}

thread_local! {
    /// Whether a panic on this thread becomes an error, and so need not be printed.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics that become errors off stderr; all others go on to the hook that was there.
fn silence_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // No thread-local value is left while a thread ends.
            if !GUARDED.try_with(Cell::get).unwrap_or(false) {
                print(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_a_value_stays_a_value() {
        assert_eq!(guarded(|| 1), Ok(1));
        assert_eq!(guarded(|| -> () { panic!("no such node: {}", 7) }), Err("no such node: 7".into()));
        assert_eq!(guarded(|| -> () { std::panic::panic_any(7) }), Err("it panicked".into()));
    }

    #[test]
    fn a_guard_within_a_guard_leaves_the_outer_one_in_place() {
        let outer = guarded(|| {
            assert!(guarded(|| panic!("inner")).is_err());
            assert!(GUARDED.get());
            panic!("outer")
        });
        assert_eq!(outer, Err::<(), _>("outer".into()));
        assert!(!GUARDED.get());
    }
}
