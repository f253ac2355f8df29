//! `lakitu db tables|get|dump|verify|backup|compact`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lakitu_actors::debug::protocol::{DbDump, DbGet};
use lakitu_actors::debug::rows::ROWS_PAGE_MAX;
use serde_json::Value;

use super::source::{self, Source};
use super::table::{self, Align, Cell};
use super::threads::text;
use super::{Operator, Refusal, printable};

/// `lakitu db`.
#[derive(Debug, Clone, Subcommand)]
pub enum DbCommand {
    /// List the tables with their sizes
    Tables,
    /// Print one row as JSON
    Get(GetArgs),
    /// Print a table's rows as JSON, one a line
    Dump(DumpArgs),
    /// Look at everything and say what is wrong
    Verify(VerifyArgs),
    /// Copy everything to a new data directory, while a runtime goes on with the store
    Backup(BackupArgs),
    /// Give what the file does not need back to the disk
    Compact,
}

/// `lakitu db verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Set aside what is broken and make anew what is derived; nothing may own the store
    #[arg(long)]
    pub repair: bool,
}

/// `lakitu db backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// A directory that is missing or empty; it can be given as --data afterwards
    #[arg(value_name = "DIR")]
    pub to: PathBuf,
}

/// `lakitu db get`.
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// The table, as `lakitu db tables` lists it
    pub table: String,
    /// The row's key, as `lakitu db dump` prints it
    pub key: String,
}

/// `lakitu db dump`.
#[derive(Debug, Clone, Args)]
pub struct DumpArgs {
    /// The table, as `lakitu db tables` lists it
    pub table: String,
    /// At most so many rows; all of them without it
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Reads the store, copies it, or puts it in order.
pub(super) fn db(operator: &mut Operator<'_>, command: &DbCommand) -> anyhow::Result<()> {
    if let DbCommand::Verify(VerifyArgs { repair: true }) = command {
        return repair(operator);
    }
    let mut source = Source::open(operator)?;
    match command {
        DbCommand::Tables => tables(operator, &mut source),
        DbCommand::Get(args) => get(operator, &mut source, args),
        DbCommand::Dump(args) => dump(operator, &mut source, args),
        DbCommand::Verify(_) => verify(operator, &mut source),
        DbCommand::Backup(args) => backup(operator, &mut source, args),
        DbCommand::Compact => compact(operator, &mut source),
    }
}

fn tables(operator: &mut Operator<'_>, source: &mut Source) -> anyhow::Result<()> {
    let found = source.db_tables()?;
    if operator.json {
        return operator.print_json(&found);
    }
    let row = |table: &Value| {
        let size = table::bytes(table["bytes"].as_u64().unwrap_or(0));
        vec![Cell::new(text(&table["name"])), Cell::new(text(&table["rows"])), Cell::new(size)]
    };
    let rows: Vec<Vec<Cell>> = found["items"].as_array().into_iter().flatten().map(row).collect();
    let columns = [("TABLE", Align::Left), ("ROWS", Align::Right), ("SIZE", Align::Right)];
    table::lines(&columns, &rows, operator.colour).iter().try_for_each(|line| operator.row(line))
}

fn get(operator: &mut Operator<'_>, source: &mut Source, args: &GetArgs) -> anyhow::Result<()> {
    let found = source.db_get(DbGet { table: args.table.clone(), key: args.key.clone() })?;
    if found["row"].is_null() {
        return Err(Refusal::new(1, format!("{} has no row {}", args.table, args.key)).into());
    }
    operator.print_json(&found["row"])
}

fn dump(operator: &mut Operator<'_>, source: &mut Source, args: &DumpArgs) -> anyhow::Result<()> {
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut asked = DbDump { table: args.table.clone(), limit: None, cursor: None };
    while left > 0 {
        asked.limit = Some(left.min(ROWS_PAGE_MAX));
        let page = source.db_dump(asked.clone())?;
        for row in page["items"].as_array().into_iter().flatten() {
            operator.print_json(row)?;
            left -= 1;
        }
        asked.cursor = page["cursor"].as_str().map(str::to_owned);
        if asked.cursor.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

fn verify(operator: &mut Operator<'_>, source: &mut Source) -> anyhow::Result<()> {
    let found = source.db_verify()?;
    let findings = found["findings"].as_array().map_or(&[][..], Vec::as_slice);
    if operator.json {
        operator.print_json(&found)?;
    } else if findings.is_empty() {
        operator.line(&format!("{}: nothing is wrong", printable(&operator.data.to_string_lossy())))?;
    } else {
        findings.iter().try_for_each(|finding| told(operator, finding))?;
    }
    if findings.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(1, format!("{} of what the store holds is damaged or does not fit together", findings.len()))
        .into())
}

/// One of what was found or changed.
fn told(operator: &mut Operator<'_>, finding: &Value) -> anyhow::Result<()> {
    let what = [&finding["table"], &finding["key"], &finding["what"]].map(text).join(" ");
    operator.line(printable(what.trim()).as_ref())
}

fn repair(operator: &mut Operator<'_>) -> anyhow::Result<()> {
    let done = source::db_repair(operator)?;
    let of = |name: &str| done[name].as_array().cloned().unwrap_or_default();
    let (salvage, left) = (&done["salvage"], of("left"));
    if operator.json {
        operator.print_json(&done)?;
    } else if salvage.is_null() {
        operator.line(&format!("{}: nothing is wrong", printable(&operator.data.to_string_lossy())))?;
    } else {
        operator.line(&format!("set aside: {}", printable(&text(&salvage["set_aside"]))))?;
        operator.line(&format!("saved: {} rows", text(&salvage["saved"])))?;
        for (name, what) in [("lost", "cannot be read"), ("incomplete", "may hold rows that cannot be seen")] {
            for row in salvage[name].as_array().into_iter().flatten() {
                operator.line(&format!("{} {what}", printable(&text(row))))?;
            }
        }
        of("changed").iter().try_for_each(|finding| told(operator, finding))?;
        left.iter().try_for_each(|finding| told(operator, finding))?;
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(1, format!("{} of what is wrong cannot be made anew", left.len())).into())
}

fn backup(operator: &mut Operator<'_>, source: &mut Source, args: &BackupArgs) -> anyhow::Result<()> {
    let to = std::path::absolute(&args.to)?;
    let done = source.db_backup(to.clone())?;
    if operator.json {
        return operator.print_json(&done);
    }
    let (rows, blobs, commit) = (text(&done["rows"]), text(&done["blobs"]), text(&done["commit"]));
    operator.line(&format!(
        "{}: {rows} rows and {blobs} large blobs as of commit {commit}",
        printable(&to.to_string_lossy())
    ))
}

fn compact(operator: &mut Operator<'_>, source: &mut Source) -> anyhow::Result<()> {
    let done = source.db_compact()?;
    if operator.json {
        return operator.print_json(&done);
    }
    let size = |name: &str| table::bytes(done[name].as_u64().unwrap_or(0));
    operator.line(&format!("{} before, {} now", size("before_bytes"), size("after_bytes")))
}
