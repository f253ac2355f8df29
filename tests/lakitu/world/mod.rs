//! What the world does to a runtime: its time runs out, it is stopped and goes on, it has too few descriptors, its clock
//! jumps, its disk fails, it works for long. `LAKITU_LONG=1` does it for as long as the promises say.

mod clock;
mod descriptors;
mod library;
mod model;
mod soak;
mod stopped;
mod timeout;

use std::time::{Duration, Instant};

use self::model::{Model, Say};

/// Whether the real times and counts are wanted.
fn long() -> bool {
    std::env::var_os("LAKITU_LONG").is_some_and(|long| long == "1")
}

/// Looks for so long whether it stays as it is.
fn stays<T: PartialEq + std::fmt::Debug>(time: Duration, look: impl Fn() -> T) {
    let (before, until) = (look(), Instant::now() + time);
    while Instant::now() < until {
        assert_eq!(look(), before);
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
