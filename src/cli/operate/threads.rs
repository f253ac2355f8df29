//! `lakitu threads ls|show|events|cancel`; `fork` and `replay` are in `forks`.

use clap::{Args, Subcommand};
use lakitu_actors::debug::protocol::{ThreadsCancel, ThreadsEvents, ThreadsLs};
use lakitu_actors::debug::rows::{ROWS_PAGE_MAX, THREADS_PAGE_MAX, status};
use lakitu_actors::threads::cancel::ScopeName;
use lakitu_kernel::{Seq, ThreadId};
use serde_json::{Value, json};

use super::events;
use super::forks::{self, ForkArgs, ReplayArgs};
use super::source::Source;
use super::table::{self, Align, Cell};
use super::{Operator, printable};

/// `lakitu threads`.
#[derive(Debug, Clone, Subcommand)]
pub enum ThreadsCommand {
    /// List threads, the newest first
    Ls(LsArgs),
    /// Show one thread: what it is doing, what it used, what it said last
    Show(ShowArgs),
    /// Print a thread's events
    Events(EventsArgs),
    /// Make a new thread that begins as this one did; `lakitu continue` or `resume` go on with it
    Fork(ForkArgs),
    /// Go through a thread's journal again, asking nothing outside, and name where it comes out otherwise
    #[command(after_help = "Exit codes: 0 the same · 1 it comes out otherwise · 2 no such thread")]
    Replay(ReplayArgs),
    /// Give up what a thread does under `lakitu up`: its run with all its commands, its turn alone, or one job
    Cancel(CancelArgs),
}

/// `lakitu threads ls`.
#[derive(Debug, Clone, Args)]
pub struct LsArgs {
    /// Only threads in this state: running, waiting, completed, failed, checkpointed or cancelled
    #[arg(long, value_name = "S", value_parser = named_status)]
    pub status: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// `lakitu threads show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// The thread, as `lakitu threads ls` prints it
    pub id: ThreadId,
}

/// `lakitu threads events`.
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// The thread, as `lakitu threads ls` prints it
    pub id: ThreadId,
    /// Only the events behind this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub after: u64,
}

/// `lakitu threads cancel`.
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// The thread, as `lakitu threads ls` prints it
    pub id: ThreadId,
    /// Only the run and the commands that its calls wait for: jobs in the background go on
    #[arg(long, conflicts_with = "job")]
    pub turn: bool,
    /// Only this job; the run goes on
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,
}

fn named_status(text: &str) -> Result<String, String> {
    status(text).map(|status| status.as_str().to_owned()).map_err(|error| error.message)
}

/// Does what was asked of threads.
pub(super) fn threads(operator: &mut Operator<'_>, command: &ThreadsCommand) -> anyhow::Result<()> {
    match command {
        ThreadsCommand::Ls(args) => ls(operator, &mut Source::open(operator)?, args),
        ThreadsCommand::Show(args) => show(operator, &mut Source::open(operator)?, args),
        ThreadsCommand::Events(args) => each_event(operator, &mut Source::open(operator)?, args),
        ThreadsCommand::Fork(args) => forks::fork(operator, args),
        ThreadsCommand::Replay(args) => forks::replay(operator, args),
        ThreadsCommand::Cancel(args) => cancel(operator, args),
    }
}

fn cancel(operator: &mut Operator<'_>, args: &CancelArgs) -> anyhow::Result<()> {
    let scope = if args.turn { ScopeName::Turn } else { ScopeName::Thread };
    let asked = ThreadsCancel { id: args.id, scope: Some(scope), job: args.job.clone() };
    let told = operator.runtime()?.call("threads.cancel", &asked)?;
    if operator.json {
        return operator.print_json(&told);
    }
    let what = args.job.as_deref().map_or_else(|| args.id.to_string(), |job| printable(job).to_string());
    let done = told["done"] == Value::Bool(true);
    operator.line(&format!("{what} {}", if done { "is given up" } else { "is being given up" }))
}

fn ls(operator: &mut Operator<'_>, source: &mut Source, args: &LsArgs) -> anyhow::Result<()> {
    if let Some(why) = source.nothing() {
        writeln!(operator.err, "lakitu: no threads: {}", printable(why))?;
        return if operator.json { operator.print_json(&json!({ "items": [], "cursor": null })) } else { Ok(()) };
    }
    let (mut items, mut cursor) = (Vec::new(), None);
    while items.len() < args.limit {
        let limit = Some((args.limit - items.len()).min(THREADS_PAGE_MAX));
        let mut page = source.threads_ls(ThreadsLs { limit, cursor: cursor.take(), status: args.status.clone() })?;
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
        writeln!(operator.err, "lakitu: no threads in {}", printable(&operator.data.to_string_lossy()))?;
        return Ok(());
    }
    let rows: Vec<Vec<Cell>> = items.iter().map(|row| listed(row, operator.now.0)).collect();
    let columns = [
        ("ID", Align::Left),
        ("STATUS", Align::Left),
        ("AGE", Align::Right),
        ("TURNS", Align::Right),
        ("TITLE", Align::Left),
    ];
    table::lines(&columns, &rows, operator.colour).iter().try_for_each(|line| operator.row(line))
}

/// The items of a page.
pub(super) fn taken(page: &mut Value) -> Vec<Value> {
    match page.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        Some(_) | None => Vec::new(),
    }
}

fn listed(row: &Value, now: u64) -> Vec<Cell> {
    let status = text(&row["status"]);
    let age = now.saturating_sub(row["created_at"].as_u64().unwrap_or(now));
    vec![
        Cell::new(text(&row["id"])),
        Cell::coloured(&status, status_colour(&status)),
        Cell::new(table::duration(age)),
        Cell::new(text(&row["turns"])),
        Cell::new(table::cut(&text(&row["title"]), 80)),
    ]
}

fn status_colour(status: &str) -> Option<&'static str> {
    match status {
        "running" | "waiting" => Some("36"),
        "completed" => Some("32"),
        "failed" => Some("31"),
        "checkpointed" => Some("33"),
        _ => None,
    }
}

/// A value's text, without quotes.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn show(operator: &mut Operator<'_>, source: &mut Source, args: &ShowArgs) -> anyhow::Result<()> {
    no_such_thread(source, args.id)?;
    let shown = source.threads_show(args.id)?;
    if operator.json {
        return operator.print_json(&shown);
    }
    described(&shown).iter().try_for_each(|line| operator.line(line))
}

/// Where there is no store there is no thread either.
pub(super) fn no_such_thread(source: &Source, id: ThreadId) -> anyhow::Result<()> {
    match source.nothing() {
        Some(why) => Err(super::Refusal::new(super::USAGE, format!("there is no thread {id}: {why}")).into()),
        None => Ok(()),
    }
}

fn described(shown: &Value) -> Vec<String> {
    let row = &shown["thread"];
    let at =
        |field: &str| row[field].as_u64().map(|ms| lakitu_kernel::clock::Timestamp(ms).to_string()).unwrap_or_default();
    let usage = &row["usage"];
    let cost = usage["cost_usd"].as_f64().map(|dollars| format!(", ${dollars:.4}")).unwrap_or_default();
    let tokens = format!(
        "{} in ({} cached), {} out{cost}",
        text(&usage["input_tokens"]),
        text(&usage["cached_tokens"]),
        text(&usage["output_tokens"])
    );
    let mut facts = vec![
        ("thread", text(&row["id"])),
        ("status", text(&row["status"])),
        ("title", text(&row["title"])),
        ("workspace", text(&row["workspace"])),
        ("model", text(&row["model"])),
        ("mode", text(&row["mode"])),
        ("created", at("created_at")),
        ("updated", at("updated_at")),
        ("events", text(&row["last_seq"])),
        ("turns", text(&row["turns"])),
        ("tool calls", text(&row["tool_calls"])),
        ("tokens", tokens),
        ("reason", text(&row["reason"])),
    ];
    if let Some(error) = row["error"].as_object() {
        let part = |name: &str| error.get(name).map(text).unwrap_or_default();
        facts.push(("error", format!("{}: {}", part("code"), part("message"))));
    }
    for call in shown["open_calls"].as_array().into_iter().flatten() {
        let since = match (&call["begun_at"], &call["waits_for_consent"]) {
            (Value::Null, Value::Null) => "not begun".to_owned(),
            (Value::Null, reason) => format!("waits for consent: {}", text(reason)),
            (begun, _) => text(begun),
        };
        facts.push(("open call", format!("{} {}, {since}", text(&call["tool"]), text(&call["call_id"]))));
    }
    facts.push(("said last", text(&shown["last_message"]["text"])));
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    facts.map(|(name, value)| format!("{:<11} {}", format!("{name}:"), printable(value.trim_end()))).collect()
}

fn each_event(operator: &mut Operator<'_>, source: &mut Source, args: &EventsArgs) -> anyhow::Result<()> {
    no_such_thread(source, args.id)?;
    let mut asked =
        ThreadsEvents { id: args.id, after: Some(Seq(args.after)), limit: Some(ROWS_PAGE_MAX), cursor: None };
    loop {
        let mut page = source.threads_events(asked.clone())?;
        for event in taken(&mut page) {
            if operator.json {
                operator.print_json(&event)?;
            } else {
                operator.row(&events::line(&event))?;
            }
        }
        asked.cursor = page["cursor"].as_str().map(str::to_owned);
        if asked.cursor.is_none() {
            return Ok(());
        }
    }
}
