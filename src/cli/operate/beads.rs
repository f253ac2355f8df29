//! `lakitu beads ls|ready|show|create|update|close|dep|export|import`.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use lakitu_actors::debug::beads::{BeadsChange, BeadsExport, BeadsLs, BeadsReady, BeadsShow, change};
use lakitu_actors::planning::{BeadPatch, Change, ImportLine, Imported, NewBead, Problem};
use lakitu_kernel::limits::{BEAD_LINE_BYTES_MAX, BEADS_PER_QUERY_MAX};
use lakitu_kernel::{BeadStatus, BeadType};
use serde_json::{Value, json};

use super::source::Source;
use super::table::{self, Align, Cell};
use super::threads::text;
use super::writing::write_all;
use super::{Operator, Refusal, USAGE, limit, printable};

/// `lakitu beads`.
#[derive(Debug, Clone, Subcommand)]
pub enum BeadsCommand {
    /// List beads, the newest first
    Ls(LsArgs),
    /// List what can be worked on next: open and not blocked, the most urgent first
    Ready(ReadyArgs),
    /// Show a bead with what it waits for, what it blocks and its parts
    Show(ShowArgs),
    /// Make a bead; its id is printed
    Create(CreateArgs),
    /// Change a bead; `--status in_progress` claims it
    Update(UpdateArgs),
    /// Close a bead
    Close(CloseArgs),
    /// Say what a bead waits for
    Dep(DepArgs),
    /// Write all beads as JSONL, as the `bd` tool does
    Export(ExportArgs),
    /// Merge the JSONL of the `bd` tool in: by id, and the newer of two wins
    #[command(after_help = IMPORT)]
    Import(ImportArgs),
}

const IMPORT: &str = "\
A bead that is as new or newer here stays as it is. Fields and statuses that only bd knows are kept, and
`lakitu beads export` writes them again. A line that cannot be taken is named by its number; the others are taken.

Exit codes: 0 every line was taken · 1 some were not";

/// `lakitu beads ls`.
#[derive(Debug, Clone, Args)]
pub struct LsArgs {
    /// Only those in this state: `open`, `in_progress`, `blocked`, `closed`
    #[arg(long)]
    pub status: Option<String>,
    /// Only those of this kind: task, bug, feature, chore, epic
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit::<BEADS_PER_QUERY_MAX>)]
    pub limit: usize,
}

/// `lakitu beads ready`.
#[derive(Debug, Clone, Args)]
pub struct ReadyArgs {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = limit::<BEADS_PER_QUERY_MAX>)]
    pub limit: usize,
}

/// `lakitu beads show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// The bead, as `lakitu beads ls` prints it
    pub id: String,
}

/// `lakitu beads create`.
#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// What is to be done, in a line
    pub title: String,
    /// task, bug, feature, chore or epic [default: task]
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// 0 (critical) to 4 (some day) [default: 2]
    #[arg(long, short, value_name = "N")]
    pub priority: Option<u8>,
    /// More about it
    #[arg(long, short, value_name = "TEXT")]
    pub description: Option<String>,
    /// A word to find it by; may be given several times
    #[arg(long = "label", value_name = "LABEL")]
    pub labels: Vec<String>,
    /// The bead that it is a part of
    #[arg(long, value_name = "ID")]
    pub parent: Option<String>,
    /// A bead that it waits for; may be given several times
    #[arg(long, value_name = "ID")]
    pub blocked_by: Vec<String>,
}

/// `lakitu beads update`.
#[derive(Debug, Clone, Args)]
pub struct UpdateArgs {
    /// The bead
    pub id: String,
    /// `in_progress` (claims it), open (lets go of it, or opens it again) or closed
    #[arg(long)]
    pub status: Option<String>,
    /// What is to be done, in a line
    #[arg(long)]
    pub title: Option<String>,
    /// task, bug, feature, chore or epic
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// 0 (critical) to 4 (some day)
    #[arg(long, short, value_name = "N")]
    pub priority: Option<u8>,
    /// More about it; empty for nothing
    #[arg(long, short, value_name = "TEXT")]
    pub description: Option<String>,
    /// Labels in place of those that it has; may be given several times
    #[arg(long = "label", value_name = "LABEL")]
    pub labels: Option<Vec<String>>,
    /// The bead that it is a part of; empty for none
    #[arg(long, value_name = "ID")]
    pub parent: Option<String>,
}

/// `lakitu beads close`.
#[derive(Debug, Clone, Args)]
pub struct CloseArgs {
    /// The bead
    pub id: String,
    /// What was done, or why not
    #[arg(long, short, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `lakitu beads dep`.
#[derive(Debug, Clone, Args)]
#[group(id = "what", required = true, multiple = true, args = ["add", "remove"])]
pub struct DepArgs {
    /// The bead that waits
    pub id: String,
    /// A bead that it waits for from now on; may be given several times
    #[arg(long, value_name = "ID")]
    pub add: Vec<String>,
    /// A bead that it waits for no longer; may be given several times
    #[arg(long, value_name = "ID")]
    pub remove: Vec<String>,
}

/// `lakitu beads export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Where to write it [default: standard output]
    pub file: Option<PathBuf>,
}

/// `lakitu beads import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The file; `-` is standard input
    pub file: PathBuf,
}

/// Does what was asked of beads.
pub(super) fn beads(operator: &mut Operator<'_>, command: &BeadsCommand) -> anyhow::Result<()> {
    match command.clone() {
        BeadsCommand::Ls(LsArgs { status, kind, limit }) => {
            let (status, kind) = (status.as_deref().map(BeadStatus::from), kind.as_deref().map(BeadType::from));
            let asked = BeadsLs { status, kind, limit: Some(limit), cursor: None };
            list(operator, |source| source.beads_ls(asked))
        }
        BeadsCommand::Ready(args) => {
            let asked = BeadsReady { limit: Some(args.limit), cursor: None };
            list(operator, |source| source.beads_ready(asked))
        }
        BeadsCommand::Show(args) => show(operator, args.id),
        BeadsCommand::Create(args) => {
            let CreateArgs { title, kind, priority, description, labels, parent, blocked_by } = args;
            let new = NewBead { title, kind, priority, description, labels, parent_id: parent, blocked_by };
            one(operator, Change::Create(new))
        }
        BeadsCommand::Update(args) => {
            let UpdateArgs { id, status, title, kind, priority, description, labels, parent } = args;
            let patch = BeadPatch {
                status,
                title,
                kind,
                priority,
                description,
                labels,
                parent_id: parent,
                ..BeadPatch::default()
            };
            one(operator, Change::Update { id, patch })
        }
        BeadsCommand::Close(CloseArgs { id, reason }) => {
            let patch = BeadPatch { status: Some("closed".to_owned()), reason, ..BeadPatch::default() };
            one(operator, Change::Update { id, patch })
        }
        BeadsCommand::Dep(DepArgs { id, add, remove }) => one(operator, Change::Depend { id, add, remove }),
        BeadsCommand::Export(args) => export(operator, args.file),
        BeadsCommand::Import(args) => import(operator, &args),
    }
}

fn list(operator: &mut Operator<'_>, ask: impl FnOnce(&mut Source) -> anyhow::Result<Value>) -> anyhow::Result<()> {
    let mut source = Source::open(operator)?;
    if let Some(why) = source.nothing() {
        writeln!(operator.err, "lakitu: no beads: {}", printable(why))?;
        return if operator.json { operator.print_json(&json!({ "items": [], "cursor": null })) } else { Ok(()) };
    }
    let found = ask(&mut source)?;
    if operator.json {
        return operator.print_json(&json!({ "items": found["items"], "cursor": found["cursor"] }));
    }
    let items: Vec<&Value> = found["items"].as_array().into_iter().flatten().collect();
    if items.is_empty() {
        writeln!(operator.err, "lakitu: no such beads in {}", printable(&operator.data.to_string_lossy()))?;
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = items.iter().map(|item| row(item)).collect();
    let columns = [
        ("ID", Align::Left),
        ("STATUS", Align::Left),
        ("P", Align::Right),
        ("TYPE", Align::Left),
        ("WHO", Align::Left),
        ("TITLE", Align::Left),
    ];
    table::lines(&columns, &rows, operator.colour).iter().try_for_each(|line| operator.row(line))?;
    if !found["cursor"].is_null() {
        writeln!(operator.err, "lakitu: there are more; --limit takes up to {BEADS_PER_QUERY_MAX}")?;
    }
    Ok(())
}

fn row(item: &Value) -> Vec<Cell> {
    let far = &item["progress"];
    let far = if far.is_object() { format!(" ({}/{} closed)", far["closed"], far["total"]) } else { String::new() };
    let colour = match item["status"].as_str() {
        Some("in_progress") => Some("33"),
        Some("blocked") => Some("31"),
        Some("closed") => Some("2"),
        Some(_) | None => None,
    };
    vec![
        Cell::new(text(&item["_id"])),
        Cell::coloured(text(&item["status"]), colour),
        Cell::new(text(&item["priority"])),
        Cell::new(text(&item["type"])),
        Cell::new(text(&item["assignee"])),
        Cell::new(table::cut(&text(&item["title"]), 100) + &far),
    ]
}

fn show(operator: &mut Operator<'_>, id: String) -> anyhow::Result<()> {
    let mut source = Source::open(operator)?;
    if let Some(why) = source.nothing() {
        return Err(Refusal::new(USAGE, format!("there is no bead {id}: {why}")).into());
    }
    let bead = source.beads_show(BeadsShow { id })?;
    if operator.json {
        return operator.print_json(&bead);
    }
    operator.line(&printable(&format!("{} {}", text(&bead["_id"]), text(&bead["title"]))))?;
    let words = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let at = |value: &Value| value.as_u64().map(|ms| lakitu_kernel::clock::Timestamp(ms).to_string());
    let far = &bead["progress"];
    let lines = [
        ("status", text(&bead["status"])),
        ("type", text(&bead["type"])),
        ("priority", text(&bead["priority"])),
        ("held by", text(&bead["assignee"])),
        ("part of", text(&bead["parentId"])),
        (
            "parts",
            if far.is_object() { format!("{} of {} closed", far["closed"], far["total"]) } else { String::new() },
        ),
        ("waits for", words(&bead["waitsFor"])),
        ("blocked by", words(&bead["blockedBy"])),
        ("blocks", words(&bead["blocks"])),
        ("labels", words(&bead["labels"])),
        ("made by", text(&bead["threadId"])),
        ("created", at(&bead["createdAt"]).unwrap_or_default()),
        ("updated", at(&bead["updatedAt"]).unwrap_or_default()),
        ("closed", at(&bead["closedAt"]).unwrap_or_default()),
        ("reason", text(&bead["closeReason"])),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        operator.line(&format!("{name:<11} {}", printable(value)))?;
    }
    for line in text(&bead["description"]).lines() {
        operator.line(&printable(line))?;
    }
    let children: Vec<Vec<Cell>> = bead["children"].as_array().into_iter().flatten().map(row).collect();
    let columns = [Align::Left, Align::Left, Align::Right, Align::Left, Align::Left, Align::Left];
    let columns = columns.map(|align| ("", align));
    let drawn = table::lines(&columns, &children, operator.colour);
    drawn.iter().skip(1).try_for_each(|line| operator.row(line))
}

/// Who claims what is claimed here.
fn me() -> String {
    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| "somebody".to_owned())
}

fn changed(operator: &Operator<'_>, changes: Vec<Change>) -> anyhow::Result<Vec<Value>> {
    let asked: Vec<_> = changes.into_iter().map(|change| BeadsChange { by: me(), change }).collect();
    write_all(operator, "beads.change", &asked, async |session, asked| {
        change(&session.runtime().wiring, asked.clone()).await
    })
}

fn one(operator: &mut Operator<'_>, change: Change) -> anyhow::Result<()> {
    let made = matches!(change, Change::Create(_));
    let done = changed(operator, vec![change])?.pop().unwrap_or_default();
    if operator.json {
        return operator.print_json(&done["bead"]);
    }
    let told = &done["changed"];
    if made {
        operator.line(&text(&told["id"]))?;
    } else {
        operator.line(&printable(&format!("{} {}", text(&told["id"]), text(&told["status"]))))?;
    }
    let names = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let waits = names(&told["waits_for"]);
    if !waits.is_empty() {
        writeln!(operator.err, "lakitu: it waits for {}", printable(&waits))?;
    }
    if told["freed_count"] != 0 {
        writeln!(operator.err, "lakitu: no longer blocked: {}", printable(&names(&told["freed"])))?;
    }
    Ok(())
}

fn export(operator: &mut Operator<'_>, file: Option<PathBuf>) -> anyhow::Result<()> {
    let mut source = Source::open(operator)?;
    let mut lines = String::new();
    let mut asked = BeadsExport::default();
    while source.nothing().is_none() {
        let page = source.beads_export(asked)?;
        for item in page["items"].as_array().into_iter().flatten() {
            lines.push_str(&item.to_string());
            lines.push('\n');
        }
        let Some(cursor) = page["cursor"].as_str() else { break };
        asked = BeadsExport { cursor: Some(cursor.parse()?) };
    }
    match file {
        Some(file) => std::fs::write(&file, lines)
            .map_err(|error| Refusal::new(1, format!("{} cannot be written: {error}", file.display())).into()),
        None => Ok(operator.out.write_all(lines.as_bytes())?),
    }
}

/// The largest file that is taken: 64 MiB.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What one change takes in: what fits into a line of the socket, escaped.
const CHUNK_BYTES: usize = 256 * 1024;
const CHUNK_LINES: usize = 500;

fn import(operator: &mut Operator<'_>, args: &ImportArgs) -> anyhow::Result<()> {
    let unreadable = |error: std::io::Error| Refusal::new(USAGE, format!("{}: {error}", args.file.display()));
    let mut bytes = Vec::new();
    if args.file.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(&args.file).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("{} has over {FILE_BYTES_MAX} bytes: import it in parts", args.file.display());
        return Err(Refusal::new(USAGE, message).into());
    }
    let (chunks, problems) = chunks(&bytes);
    let mut all = Imported { problems, ..Imported::default() };
    for done in changed(operator, chunks.into_iter().map(Change::Import).collect())? {
        let part: Imported = serde_json::from_value(done["imported"].clone())?;
        all.created += part.created;
        all.updated += part.updated;
        all.kept += part.kept;
        all.problems.extend(part.problems);
    }
    all.problems.sort_by_key(|problem| problem.line);
    if operator.json {
        operator.print_json(&all)?;
    } else {
        let Imported { created, updated, kept, .. } = &all;
        operator.line(&format!("{created} new, {updated} updated, {kept} as new or newer here"))?;
    }
    for Problem { line, what } in &all.problems {
        writeln!(operator.err, "lakitu: line {line}: {}", printable(what))?;
    }
    match all.problems.len() {
        0 => Ok(()),
        n => Err(Refusal::new(1, format!("{n} lines were not taken; the others were")).into()),
    }
}

/// The lines of a file, as many at a time as one change takes in; and those that cannot be sent.
fn chunks(bytes: &[u8]) -> (Vec<Vec<ImportLine>>, Vec<Problem>) {
    let (mut chunks, mut problems, mut size) = (Vec::<Vec<ImportLine>>::new(), Vec::new(), 0);
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        let line = if number == 1 { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line) } else { line };
        let Ok(text) = std::str::from_utf8(line) else {
            problems.push(Problem { line: number, what: "it is no UTF-8".to_owned() });
            continue;
        };
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        if text.len() > BEAD_LINE_BYTES_MAX {
            let what = format!("it has {} bytes; at most {BEAD_LINE_BYTES_MAX} are taken", text.len());
            problems.push(Problem { line: number, what });
            continue;
        }
        let full = size + text.len() > CHUNK_BYTES || chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_LINES);
        if full {
            chunks.push(Vec::new());
            size = 0;
        }
        size += text.len();
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(ImportLine { number, text: text.to_owned() });
        }
    }
    (chunks, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_into_changes_that_fit_and_what_cannot_be_sent_is_named_by_its_line() {
        let long = "x".repeat(BEAD_LINE_BYTES_MAX);
        let mut bytes = format!("\u{feff}a\r\n\n{long}\n{long}y\n").into_bytes();
        bytes.extend(b"\xff\n");
        bytes.extend("b\n".repeat(CHUNK_LINES + 1).bytes());
        let (chunks, problems) = chunks(&bytes);
        let sizes: Vec<_> = chunks.iter().map(|chunk| (chunk.first().unwrap().number, chunk.len())).collect();
        // The long line fills its change by itself.
        assert_eq!(sizes, [(1, 1), (3, 1), (6, CHUNK_LINES), (6 + CHUNK_LINES as u64, 1)]);
        assert_eq!(chunks[0][0].text, "a");
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [4, 5]);
    }
}
