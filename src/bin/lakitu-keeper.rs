//! Starts a keeper where no zygote could be forked: for the library, and for tests that run the tree in their process.

use std::process::ExitCode;

fn main() -> ExitCode {
    lakitu_keeper::helper_main()
}
