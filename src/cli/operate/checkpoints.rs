//! `lakitu checkpoints ls|create`.

use clap::{Args, Subcommand};
use lakitu_actors::debug::kept::made;
use lakitu_actors::debug::protocol::{CheckpointsCreate, CheckpointsLs};
use lakitu_kernel::ThreadId;
use lakitu_kernel::limits::CHECKPOINTS_PER_THREAD_MAX;
use serde_json::{Value, json};

use super::source::Source;
use super::table::{self, Align, Cell};
use super::threads::text;
use super::writing::write;
use super::{Operator, printable};

/// `lakitu checkpoints`.
#[derive(Debug, Clone, Subcommand)]
pub enum CheckpointsCommand {
    /// List checkpoints, the newest first
    Ls(LsArgs),
    /// Make a checkpoint of a thread as it is, running or not
    Create(CreateArgs),
}

/// `lakitu checkpoints ls`.
#[derive(Debug, Clone, Args)]
pub struct LsArgs {
    /// Only those of this thread
    pub thread: Option<ThreadId>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = limit)]
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

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=CHECKPOINTS_PER_THREAD_MAX).contains(limit));
    limit.ok_or_else(|| format!("1 to {CHECKPOINTS_PER_THREAD_MAX}"))
}

/// Does what was asked of checkpoints.
pub(super) fn checkpoints(operator: &mut Operator<'_>, command: &CheckpointsCommand) -> anyhow::Result<()> {
    match command {
        CheckpointsCommand::Ls(args) => ls(operator, args),
        CheckpointsCommand::Create(args) => create(operator, args),
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
