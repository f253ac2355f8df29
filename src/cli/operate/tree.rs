//! `lakitu tree`: what runs, and what it is doing.

use std::time::{Duration, Instant};

use clap::Args;
use lakitu_actors::debug::protocol::Nothing;
use serde::Deserialize;
use serde_json::Value;

use super::Operator;
use super::client::{Client, ClientError};
use super::table::{self, Align, Cell};

/// Between two redraws.
const REDRAW: Duration = Duration::from_secs(1);
/// What belongs together comes together: so long is waited for more before a redraw.
const GATHER: Duration = Duration::from_millis(50);

/// `lakitu tree`.
#[derive(Debug, Clone, Args)]
pub struct TreeArgs {
    /// Draw again whenever something happens, and every second.
    #[arg(long)]
    pub watch: bool,
}

/// A node as it comes over the socket; fields that are unknown here are left out.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Node {
    pub(super) path: String,
    #[serde(default)]
    pub(super) kind: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) restarts: u64,
    #[serde(default)]
    pub(super) uptime_ms: u64,
    #[serde(default)]
    pub(super) mailbox: u64,
    #[serde(default)]
    pub(super) mailbox_capacity: u64,
    #[serde(default)]
    pub(super) handled: u64,
    pub(super) handling: Option<Handling>,
    pub(super) last_error: Option<String>,
    pub(super) pid: Option<i64>,
    #[serde(default)]
    pub(super) children: Vec<Node>,
}

/// A message under way.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Handling {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) ms: u64,
}

/// Prints the actor tree.
pub(super) fn tree(operator: &mut Operator<'_>, args: &TreeArgs) -> anyhow::Result<()> {
    let mut client = operator.runtime()?;
    if !args.watch {
        let tree = client.call("tree", &Nothing {})?;
        return print(operator, tree);
    }
    client.call("watch", &Nothing {})?;
    loop {
        let tree = client.call("tree", &Nothing {})?;
        if operator.terminal && !operator.json {
            redraw(operator, tree)?;
        } else {
            print(operator, tree)?;
        }
        operator.out.flush()?;
        wait(&mut client)?;
    }
}

/// Until something happened, a second at the longest.
fn wait(client: &mut Client) -> Result<(), ClientError> {
    let until = Instant::now() + REDRAW;
    if client.notification(REDRAW)?.is_some() {
        let gather = Instant::now() + GATHER;
        while let Some(left) = gather.min(until).checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            client.notification(left)?;
        }
    }
    Ok(())
}

fn print(operator: &mut Operator<'_>, tree: Value) -> anyhow::Result<()> {
    if operator.json {
        return operator.print_json(&tree);
    }
    let node: Node = serde_json::from_value(tree)?;
    draw(&node, operator.colour).iter().try_for_each(|line| operator.row(line))
}

/// From the top left corner on, over what stands there, then what is left of it is cleared: nothing flickers.
fn redraw(operator: &mut Operator<'_>, tree: Value) -> anyhow::Result<()> {
    let node: Node = serde_json::from_value(tree)?;
    let width = operator.width.unwrap_or(usize::MAX);
    let lines: Vec<String> = draw(&node, operator.colour).iter().map(|line| table::beginning(line, width)).collect();
    let lines = lines.join("\x1b[K\n");
    Ok(write!(operator.out, "\x1b[H{lines}\x1b[K\n\x1b[J")?)
}

/// The tree's lines.
pub(super) fn draw(root: &Node, colour: bool) -> Vec<String> {
    let mut rows = Vec::new();
    let label = root.path.clone();
    row(root, label, &mut rows);
    // Depth first without recursion: (children left, the lines before them).
    let mut open = vec![(root.children.iter(), String::new())];
    while let Some((children, indent)) = open.last_mut() {
        let Some(node) = children.next() else {
            open.pop();
            continue;
        };
        let (branch, below) = if children.len() == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let name = node.path.rsplit('/').next().unwrap_or_default();
        row(node, format!("{indent}{branch}{name}"), &mut rows);
        let indent = format!("{indent}{below}");
        open.push((node.children.iter(), indent));
    }
    let columns = [
        ("ACTOR", Align::Left),
        ("STATE", Align::Left),
        ("RESTARTS", Align::Right),
        ("MAILBOX", Align::Right),
        ("UPTIME", Align::Right),
        ("DOING", Align::Left),
    ];
    table::lines(&columns, &rows, colour)
}

fn row(node: &Node, label: String, rows: &mut Vec<Vec<Cell>>) {
    let uptime = if node.state == "running" { table::duration(node.uptime_ms) } else { "-".to_owned() };
    rows.push(vec![
        Cell::new(label),
        Cell::coloured(&node.state, Some(state_colour(&node.state))),
        Cell::new(node.restarts.to_string()),
        Cell::new(format!("{}/{}", node.mailbox, node.mailbox_capacity)),
        Cell::new(uptime),
        Cell::new(doing(node)),
    ]);
}

/// What it is handling; of one that does not run, why.
fn doing(node: &Node) -> String {
    let mut parts = Vec::new();
    if let Some(handling) = &node.handling {
        parts.push(format!("{} {}", handling.kind, table::duration(handling.ms)));
    }
    if let Some(pid) = node.pid {
        parts.push(format!("pid {pid}"));
    }
    if let Some(error) = node.last_error.as_ref().filter(|_| node.state != "running") {
        parts.push(table::cut(error, 80));
    }
    parts.join(", ")
}

fn state_colour(state: &str) -> &'static str {
    match state {
        "running" => "32",
        "starting" | "backoff" => "33",
        "quarantined" | "failed" => "31",
        _ => "2",
    }
}
