//! The process that turns one document into text: from standard input to standard output, within bounds of its own.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lakitu_kernel::limits::FILE_READ_BYTES_MAX;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::text::{self, Failure};

/// The one argument that makes an executable this.
pub const NAME: &str = "__read-pdf";
/// Its exit code where it says on its output why there is no text.
pub(super) const REFUSED: u8 = 3;
/// Its exit code where its time was up.
pub(super) const LATE: u8 = 4;

/// Its memory, its program included.
const MEMORY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Its time on a processor, in seconds: past it the kernel ends it.
const CPU_SECONDS_MAX: u64 = 20;
/// It stops by itself after so long, with what it has.
const TIME_MAX: Duration = Duration::from_secs(8);

/// What the process does. Nothing else may have begun in it.
pub fn main() -> ExitCode {
    bound();
    let mut bytes = Vec::new();
    if std::io::stdin().take(FILE_READ_BYTES_MAX).read_to_end(&mut bytes).is_err() {
        return ExitCode::FAILURE;
    }
    let mut out = std::io::stdout().lock();
    let until = Instant::now() + TIME_MAX;
    let mut write = |text: &str| out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok();
    match text::document(bytes, until, &mut write) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Late) => ExitCode::from(LATE),
        Err(Failure::Refused(why)) => {
            write(&why);
            ExitCode::from(REFUSED)
        }
    }
}

/// Takes from the process what it does not need. A bound that cannot be set leaves the others.
fn bound() {
    let limits = [
        (Resource::As, MEMORY_BYTES_MAX),
        (Resource::Cpu, CPU_SECONDS_MAX),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nofile, 16),
    ];
    for (resource, most) in limits {
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
    // Whoever waits for the text is gone: nobody needs it.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}
