//! `lakitu checkpoints ls|create|restore`.

use clap::{Args, Subcommand};
use lakitu_actors::debug::kept::made;
use lakitu_actors::debug::protocol::{CheckpointsCreate, CheckpointsLs, CheckpointsRestore};
use lakitu_kernel::limits::CHECKPOINTS_PER_THREAD_MAX;
use lakitu_kernel::{CheckpointId, ThreadId};
use serde_json::{Value, json};

use super::source::Source;
use super::table::{self, Align, Cell};
use super::threads::text;
use super::writing::write;
use super::{Operator, limit, printable};

/// `lakitu checkpoints`.
#[derive(Debug, Clone, Subcommand)]
pub enum CheckpointsCommand {
    /// List checkpoints, the newest first
    Ls(LsArgs),
    /// Make a checkpoint of a thread as it is, running or not
    Create(CreateArgs),
    /// Go back: files that the agent changed since are as they were then, and a new thread has the conversation
    #[command(after_help = RESTORE)]
    Restore(RestoreArgs),
}

const RESTORE: &str = "\
Prints the new thread: `lakitu resume` goes on with it, or `lakitu continue`. The old one stays as it is.
Only files that the agent changed are put back. Where somebody else changed one of them since, nothing
is, and all of those are named; --force puts them back all the same. A run that was killed is stopped
where it was first. Killed itself, this is ended by the next command that runs on the data; ask again
for the new thread.

Exit codes: 0 done · 1 a file was changed since, or a run is on · 2 no such checkpoint";

/// `lakitu checkpoints restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The checkpoint, as `lakitu checkpoints ls` prints it
    pub id: CheckpointId,
    /// Put files back that somebody else changed since
    #[arg(long)]
    pub force: bool,
}

/// `lakitu checkpoints ls`.
#[derive(Debug, Clone, Args)]
pub struct LsArgs {
    /// Only those of this thread
    pub thread: Option<ThreadId>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = limit::<CHECKPOINTS_PER_THREAD_MAX>)]
    pub limit: usize,
}

/// `lakitu checkpoints create`.
#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// The thread [default: the newest]
    pub thread: Option<ThreadId>,
    /// What to call it
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// What is to be done from there: `lakitu resume` says it to the model
    #[arg(long, value_name = "TEXT")]
    pub next_task: Option<String>,
}

/// Does what was asked of checkpoints.
pub(super) fn checkpoints(operator: &mut Operator<'_>, command: &CheckpointsCommand) -> anyhow::Result<()> {
    match command {
        CheckpointsCommand::Ls(args) => ls(operator, args),
        CheckpointsCommand::Create(args) => create(operator, args),
        CheckpointsCommand::Restore(args) => restore(operator, args),
    }
}

fn ls(operator: &mut Operator<'_>, args: &LsArgs) -> anyhow::Result<()> {
    let mut source = Source::open(operator)?;
    if let Some(why) = source.nothing() {
        writeln!(operator.err, "lakitu: no checkpoints: {}", printable(why))?;
        return if operator.json { operator.print_json(&json!({ "items": [], "cursor": null })) } else { Ok(()) };
    }
    let found = source.checkpoints_ls(CheckpointsLs { thread: args.thread, limit: Some(args.limit) })?;
    if operator.json {
        return operator.print_json(&json!({ "items": found["items"], "cursor": null }));
    }
    let items: Vec<&Value> = found["items"].as_array().into_iter().flatten().collect();
    if items.is_empty() {
        writeln!(operator.err, "lakitu: no checkpoints in {}", printable(&operator.data.to_string_lossy()))?;
        return Ok(());
    }
    let now = operator.now.0;
    let row = |item: &&Value| {
        let age = now.saturating_sub(item["createdAt"].as_u64().unwrap_or(now));
        let files = item["fileState"].as_array().map_or(0, Vec::len);
        let what = [text(&item["name"]), text(&item["nextTask"])].into_iter().filter(|part| !part.is_empty());
        vec![
            Cell::new(text(&item["_id"])),
            Cell::new(text(&item["status"])),
            Cell::new(text(&item["reason"])),
            Cell::new(table::duration(age)),
            Cell::new(files.to_string()),
            Cell::new(table::cut(&what.collect::<Vec<_>>().join(": "), 80)),
        ]
    };
    let rows: Vec<Vec<Cell>> = items.iter().map(row).collect();
    let columns = [
        ("ID", Align::Left),
        ("STATUS", Align::Left),
        ("REASON", Align::Left),
        ("AGE", Align::Right),
        ("FILES", Align::Right),
        ("NEXT", Align::Left),
    ];
    table::lines(&columns, &rows, operator.colour).iter().try_for_each(|line| operator.row(line))
}

fn create(operator: &mut Operator<'_>, args: &CreateArgs) -> anyhow::Result<()> {
    let CreateArgs { thread, name, next_task } = args.clone();
    let asked = CheckpointsCreate { thread, name, next_task };
    let done =
        write(operator, "checkpoints.create", &asked, async |session| made(&session.desk(), asked.clone()).await)?;
    if operator.json { operator.print_json(&done) } else { operator.line(&text(&done["id"])) }
}

fn restore(operator: &mut Operator<'_>, args: &RestoreArgs) -> anyhow::Result<()> {
    let (id, force) = (args.id, args.force);
    let asked = CheckpointsRestore { id, force };
    let done = write(operator, "checkpoints.restore", &asked, async |session| {
        Ok(json!(session.threads().restore(id, force).await?))
    })?;
    if operator.json {
        return operator.print_json(&done);
    }
    operator.line(&text(&done["thread"]))?;
    let files: Vec<String> = done["files"].as_array().into_iter().flatten().map(text).collect();
    let put = if files.is_empty() { "no file had to be".to_owned() } else { files.join(", ") };
    writeln!(operator.err, "lakitu: put back: {}", printable(&put))?;
    Ok(())
}
