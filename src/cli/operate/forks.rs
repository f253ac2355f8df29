//! `lakitu threads fork|replay`.

use std::path::PathBuf;

use clap::Args;
use lakitu_actors::debug::protocol::ThreadsFork;
use lakitu_kernel::{Seq, ThreadId};
use serde_json::json;

use super::source::Source;
use super::threads::text;
use super::writing::write;
use super::{Operator, Refusal};
use crate::cli::paths;

/// `lakitu threads fork`.
#[derive(Debug, Clone, Args)]
pub struct ForkArgs {
    /// The thread, as `lakitu threads ls` prints it
    pub id: ThreadId,
    /// The last event that is taken over; where that is no point with a whole history, the one before [default: the last]
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    pub at: Option<u64>,
    /// A new or empty directory for it, with the files that the agent had changed by then [default: the same workspace]
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
}

/// `lakitu threads replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// The thread, as `lakitu threads ls` prints it
    pub id: ThreadId,
}

/// Makes a thread out of another one's beginning.
pub(super) fn fork(operator: &mut Operator<'_>, args: &ForkArgs) -> anyhow::Result<()> {
    let (id, at) = (args.id, args.at.map(Seq));
    let plain =
        |path: &PathBuf| paths::plain(path, "workspace").map_err(|error| Refusal::new(error.exit, error.message));
    let workspace = args.workspace.as_ref().map(plain).transpose()?;
    let asked = ThreadsFork { id, at_seq: at, workspace: workspace.clone() };
    let done = write(operator, "threads.fork", &asked, async |session| {
        Ok(json!(session.threads().fork(id, at, workspace.clone()).await?))
    })?;
    if operator.json {
        return operator.print_json(&done);
    }
    operator.line(&text(&done["thread"]))?;
    let files = done["files"].as_array().map_or(0, Vec::len);
    let put = workspace.map(|path| format!(", {files} files put into {}", path.display())).unwrap_or_default();
    writeln!(operator.err, "lakitu: {} up to event {}{put}", text(&done["from"]), text(&done["at"]))?;
    Ok(())
}

/// Goes through a journal again and says where it comes out otherwise.
pub(super) fn replay(operator: &mut Operator<'_>, args: &ReplayArgs) -> anyhow::Result<()> {
    let mut source = Source::open(operator)?;
    super::threads::no_such_thread(&source, args.id)?;
    let done = source.threads_replay(args.id)?;
    let differs = done["divergence"].clone();
    if operator.json {
        operator.print_json(&done)?;
    } else if differs.is_null() {
        let (events, requests) = (text(&done["events"]), text(&done["requests"]));
        let unknown = done["requests_unknown"].as_u64().filter(|count| *count > 0);
        let unknown = unknown.map(|count| format!("; of {count} the journal does not say what they were"));
        let unknown = unknown.unwrap_or_default();
        operator.line(&format!("the same: {events} events, {requests} requests{unknown}"))?;
    }
    if differs.is_null() {
        return Ok(());
    }
    let part = |name: &str| text(&differs[name]);
    let message = format!(
        "the replay parts from the journal at event {} ({}), field {}, byte {}: the journal has {}, the replay {}",
        part("seq"),
        part("event"),
        part("field"),
        part("byte"),
        part("journal"),
        part("replay")
    );
    Err(Refusal::new(1, message).into())
}
