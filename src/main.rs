//! `lakitu`: the runtime of an autonomous coding agent. Start reading here, then at `cli/mod.rs` for what can be typed
//! and at `actors/README.md` for how it works.

use std::process::ExitCode;

use lakitu::cli::{self, Prepared, Secrets};
use lakitu_actors::tools::file::pdf;
use lakitu_keeper::Zygote;

fn main() -> ExitCode {
    // A process that reads one document is nothing else.
    if std::env::args_os().skip(1).eq([pdf::NAME]) {
        return pdf::main();
    }
    lakitu_keeper::share_memory();
    // In this order: secrets leave the environment, then the zygote is forked without them, then everything else begins.
    let secrets = match Secrets::take() {
        Ok(secrets) => secrets,
        Err(error) => return cli::fail(&format!("secrets cannot be taken out of the environment: {error}")),
    };
    let zygote = match cli::runs_tools(std::env::args_os().skip(1)).then(Zygote::fork).transpose() {
        Ok(zygote) => zygote,
        Err(error) => return cli::fail(&format!("the zygote cannot be forked: {error}")),
    };
    cli::main(Prepared { zygote, secrets })
}
