//! `lakitu artifacts ls|get`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use lakitu_actors::debug::artifacts::{ArtifactsGet, ArtifactsLs};
use lakitu_kernel::ThreadId;
use lakitu_kernel::limits::ARTIFACTS_PER_QUERY_MAX;
use serde_json::{Value, json};

use super::source::Source;
use super::table::{self, Align, Cell};
use super::threads::text;
use super::{Operator, Refusal, USAGE, limit, printable};

/// `lakitu artifacts`.
#[derive(Debug, Clone, Subcommand)]
pub enum ArtifactsCommand {
    /// List what threads saved for you, the newest first
    Ls(LsArgs),
    /// Write one out, byte for byte
    #[command(after_help = GET)]
    Get(GetArgs),
}

const GET: &str = "\
Written to standard output, or with --output to a file. Each version stays: `lakitu artifacts ls` lists them all. The
newest of each name also stands in the artifacts directory, as THREAD/NAME.

Exit codes: 0 written · 1 not to be written, or its content is damaged · 2 no such artifact";

/// `lakitu artifacts ls`.
#[derive(Debug, Clone, Args)]
pub struct LsArgs {
    /// Only those of this thread
    pub thread: Option<ThreadId>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = limit::<ARTIFACTS_PER_QUERY_MAX>)]
    pub limit: usize,
}

/// `lakitu artifacts get`.
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// The artifact: an id, or a name
    pub artifact: String,
    /// Whose it is, of a name [default: the thread's that saved it last]
    #[arg(long)]
    pub thread: Option<ThreadId>,
    /// Which version, of a name [default: the newest]
    #[arg(long, value_name = "N")]
    pub version: Option<u32>,
    /// Write it to this file, which must not be there yet
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Does what was asked of artifacts.
pub(super) fn artifacts(operator: &mut Operator<'_>, command: &ArtifactsCommand) -> anyhow::Result<()> {
    match command {
        ArtifactsCommand::Ls(args) => ls(operator, args),
        ArtifactsCommand::Get(args) => get(operator, args),
    }
}

fn ls(operator: &mut Operator<'_>, args: &LsArgs) -> anyhow::Result<()> {
    let mut source = Source::open(operator)?;
    if let Some(why) = source.nothing() {
        writeln!(operator.err, "lakitu: no artifacts: {}", printable(why))?;
        return if operator.json { operator.print_json(&json!({ "items": [], "cursor": null })) } else { Ok(()) };
    }
    let asked = ArtifactsLs { thread: args.thread, limit: Some(args.limit), cursor: None };
    let found = source.artifacts_ls(asked)?;
    if operator.json {
        return operator.print_json(&json!({ "items": found["items"], "cursor": found["cursor"] }));
    }
    let items: Vec<&Value> = found["items"].as_array().into_iter().flatten().collect();
    if items.is_empty() {
        writeln!(operator.err, "lakitu: no artifacts in {}", printable(&operator.data.to_string_lossy()))?;
        return Ok(());
    }
    let now = operator.now.0;
    let row = |item: &&Value| {
        let age = now.saturating_sub(item["createdAt"].as_u64().unwrap_or(now));
        vec![
            Cell::new(text(&item["_id"])),
            Cell::new(table::cut(&text(&item["name"]), 60)),
            Cell::new(item["version"].to_string()),
            Cell::new(text(&item["type"])),
            Cell::new(item["size"].to_string()),
            Cell::new(table::duration(age)),
        ]
    };
    let rows: Vec<Vec<Cell>> = items.iter().map(row).collect();
    let columns = [
        ("ID", Align::Left),
        ("NAME", Align::Left),
        ("VERSION", Align::Right),
        ("TYPE", Align::Left),
        ("BYTES", Align::Right),
        ("AGE", Align::Right),
    ];
    table::lines(&columns, &rows, operator.colour).iter().try_for_each(|line| operator.row(line))?;
    if found["cursor"].is_string() {
        writeln!(operator.err, "lakitu: there are more; --limit shows up to {ARTIFACTS_PER_QUERY_MAX}")?;
    }
    Ok(())
}

fn get(operator: &mut Operator<'_>, args: &GetArgs) -> anyhow::Result<()> {
    let GetArgs { artifact, thread, version, output } = args.clone();
    let mut source = Source::open(operator)?;
    if let Some(why) = source.nothing() {
        return Err(Refusal::new(USAGE, format!("there is no artifact {artifact}: {why}")).into());
    }
    let found = source.artifacts_get(ArtifactsGet { artifact, thread, version })?;
    if operator.json && output.is_none() {
        return operator.print_json(&found);
    }
    let content = STANDARD.decode(text(&found["content"])).context("the content is no base64")?;
    match output {
        None => operator.out.write_all(&content)?,
        Some(path) => {
            let shown = path.display().to_string();
            let made = std::fs::File::create_new(&path).and_then(|mut file| file.write_all(&content));
            made.map_err(|error| Refusal::new(1, format!("{shown} cannot be written: {error}")))?;
            if operator.json {
                return operator.print_json(&found["artifact"]);
            }
        }
    }
    Ok(())
}
