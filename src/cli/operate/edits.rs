//! `lakitu edits ls|diff`. What takes one back is in `rollback`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use lakitu_actors::debug::edits::EDITS_PAGE_MAX;
use lakitu_actors::debug::protocol::{EditsDiff, EditsLs};
use lakitu_actors::tools::workspace::shown;
use lakitu_kernel::{ThreadId, pathname};
use serde_json::{Value, json};

use super::source::Source;
use super::table::{self, Align, Cell};
use super::threads::{taken, text};
use super::{Operator, printable};

/// `lakitu edits`.
#[derive(Debug, Clone, Subcommand)]
pub enum EditsCommand {
    /// List what threads changed in files, the newest first
    Ls(LsArgs),
    /// Print what an edit changed, as a diff for `patch -p1`
    Diff(DiffArgs),
    /// Put back what an edit, a step or a whole thread changed: bytes, links, directories, permissions
    #[command(after_help = ROLLBACK)]
    Rollback(RollbackArgs),
}

const ROLLBACK: &str = "\
An edit is THREAD/SEQ/N as `lakitu edits ls` prints it; THREAD/SEQ is all that one call changed, THREAD all that the
thread changed: together or not at all.

Refused with CONFLICT, which names them, where files are not what the edits left, unless --force is given. The
taking back is an edit itself, in the thread whose edits it reverts. A run of that thread must not be on. A
directory that was made stays while there is something in it that is not taken back.

Exit codes: 0 taken back · 1 refused · 2 no such edit, or its bytes were not kept · 75 another process owns the data";

/// `lakitu edits ls`.
#[derive(Debug, Clone, Args)]
pub struct LsArgs {
    /// Only those of this thread
    pub thread: Option<ThreadId>,
    /// Only those of this file
    #[arg(long, value_name = "P")]
    pub path: Option<PathBuf>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// `lakitu edits diff`.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// The edit, as `lakitu edits ls` prints it
    pub edit: String,
}

/// `lakitu edits rollback`.
#[derive(Debug, Clone, Args)]
pub struct RollbackArgs {
    /// The edit, as `lakitu edits ls` prints it, or its step or thread
    pub edit: String,
    /// Even if the file changed since: what stands there now is kept as the version before
    #[arg(long)]
    pub force: bool,
    /// Why, for whoever reads the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// Lists edits.
pub(super) fn ls(operator: &mut Operator<'_>, args: &LsArgs) -> anyhow::Result<()> {
    let mut source = Source::open(operator)?;
    if let Some(why) = source.nothing() {
        writeln!(operator.err, "lakitu: no edits: {}", printable(why))?;
        return if operator.json { operator.print_json(&json!({ "items": [], "cursor": null })) } else { Ok(()) };
    }
    let path = args.path.as_deref().map(absolute).transpose()?;
    let (mut items, mut cursor) = (Vec::new(), None);
    while items.len() < args.limit {
        let limit = Some((args.limit - items.len()).min(EDITS_PAGE_MAX));
        let asked = EditsLs { thread: args.thread, path: path.clone(), limit, cursor: cursor.take() };
        let mut page = source.edits_ls(asked)?;
        items.extend(taken(&mut page));
        cursor = page["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    if operator.json {
        return operator.print_json(&json!({ "items": items, "cursor": cursor }));
    }
    if items.is_empty() {
        writeln!(operator.err, "lakitu: no such edits in {}", printable(&operator.data.to_string_lossy()))?;
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = items.iter().map(|row| listed(row, operator.now.0)).collect();
    let columns = [
        ("EDIT", Align::Left),
        ("AGE", Align::Right),
        ("BY", Align::Left),
        ("LINES", Align::Right),
        ("FILE", Align::Left),
    ];
    table::lines(&columns, &rows, operator.colour).iter().try_for_each(|line| operator.row(line))
}

/// The path as the table has it: without links, whether it is there or not.
fn absolute(path: &std::path::Path) -> anyhow::Result<String> {
    let path = crate::cli::paths::plain(path, "file").map_err(|failure| super::Refusal::new(2, failure.message))?;
    Ok(pathname::text(&path))
}

/// A path of the tables for a person.
pub(super) fn named(path: &str) -> String {
    shown(pathname::path(path).as_os_str().as_bytes())
}

fn listed(row: &Value, now: u64) -> Vec<Cell> {
    let age = now.saturating_sub(row["createdAt"].as_u64().unwrap_or(now));
    let mut what = named(&text(&row["path"]));
    let kind = |kind: &str| [&row["before"], &row["after"]].iter().any(|side| side["kind"] == kind);
    for (is, note) in [
        (kind("link"), "link"),
        (kind("directory"), "directory"),
        (row["before"].is_null(), "created"),
        (row["after"].is_null(), "removed"),
        (row["changedOutside"] == true, "somebody else changed it before"),
        (row["rolledBack"] == true, "taken back"),
    ] {
        if is {
            what.extend(["  (", note, ")"]);
        }
    }
    vec![
        Cell::new(text(&row["_id"])),
        Cell::new(table::duration(age)),
        Cell::new(text(&row["tool"])),
        Cell::new(format!("+{} -{}", text(&row["added"]), text(&row["removed"]))),
        Cell::new(what),
    ]
}

/// Prints a diff as it is: whoever applies it needs its bytes.
pub(super) fn diff(operator: &mut Operator<'_>, args: &DiffArgs) -> anyhow::Result<()> {
    let found = Source::open(operator)?.edits_diff(EditsDiff { edit: args.edit.clone() })?;
    if operator.json {
        return operator.print_json(&found);
    }
    let diff = text(&found["diff"]);
    if diff.is_empty() {
        let side = |side: &Value| match side["mode"].as_u64() {
            Some(mode) => format!("{} {mode:04o}", side["kind"].as_str().unwrap_or("file")),
            None => "nothing".to_owned(),
        };
        let (before, after) = (side(&found["edit"]["before"]), side(&found["edit"]["after"]));
        writeln!(operator.err, "lakitu: no diff can say what changed: {before} to {after}")?;
    }
    if operator.terminal {
        return diff.lines().try_for_each(|line| operator.line(&printable(line)));
    }
    match found["hex"].as_str() {
        Some(hex) => operator.out.write_all(&bytes(hex))?,
        None => operator.out.write_all(diff.as_bytes())?,
    }
    Ok(())
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2).filter_map(|at| hex.get(at..at + 2));
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}
