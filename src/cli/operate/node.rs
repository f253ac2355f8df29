//! `lakitu inspect`, `restart`, `stop`: one actor.

use std::collections::BTreeMap;

use clap::Args;
use lakitu_actors::debug::protocol::OnPath;
use lakitu_kernel::clock::Timestamp;
use serde::Deserialize;

use super::table::{self, Align, Cell};
use super::tree::{Node, draw};
use super::{Operator, printable};

/// `lakitu inspect`, `restart` and `stop`.
#[derive(Debug, Clone, Args)]
pub struct PathArgs {
    /// The actor's path, as `lakitu tree` shows it: /tools/bash
    pub path: String,
}

#[derive(Debug, Deserialize)]
struct Inspection {
    #[serde(flatten)]
    node: Node,
    #[serde(default)]
    gauges: BTreeMap<String, u64>,
    #[serde(default)]
    dropped: u64,
    #[serde(default)]
    messages: Vec<Handled>,
}

#[derive(Debug, Deserialize)]
struct Handled {
    #[serde(rename = "type")]
    kind: String,
    at_ms: u64,
    took_us: u64,
}

/// Prints an actor with its numbers and its last messages.
pub(super) fn inspect(operator: &mut Operator<'_>, args: &PathArgs) -> anyhow::Result<()> {
    let found = operator.runtime()?.call("inspect", &OnPath { path: args.path.clone() })?;
    if operator.json {
        return operator.print_json(&found);
    }
    let inspection: Inspection = serde_json::from_value(found)?;
    describe(&inspection, operator.colour).iter().try_for_each(|line| operator.row(line))
}

/// Restarts an actor.
pub(super) fn restart(operator: &mut Operator<'_>, args: &PathArgs) -> anyhow::Result<()> {
    operator.runtime()?.call("restart", &OnPath { path: args.path.clone() })?;
    operator.line(&format!("{} is being restarted", printable(&args.path)))
}

/// Stops an actor, until `restart`.
pub(super) fn stop(operator: &mut Operator<'_>, args: &PathArgs) -> anyhow::Result<()> {
    operator.runtime()?.call("stop", &OnPath { path: args.path.clone() })?;
    let path = printable(&args.path);
    operator.line(&format!("{path} is being stopped, until `lakitu restart {path}`"))
}

fn describe(inspection: &Inspection, colour: bool) -> Vec<String> {
    let node = &inspection.node;
    let mut lines = draw(node, colour);
    let mut facts = vec![("kind", node.kind.clone()), ("handled", node.handled.to_string())];
    facts.push(("dropped", inspection.dropped.to_string()));
    if let Some(error) = &node.last_error {
        facts.push(("last error", error.clone()));
    }
    lines.push(String::new());
    lines.extend(facts.into_iter().map(|(name, value)| format!("{name}: {}", printable(&value))));
    lines.extend(inspection.gauges.iter().map(|(name, value)| format!("{}: {value}", printable(name))));
    if !inspection.messages.is_empty() {
        let rows: Vec<Vec<Cell>> = inspection.messages.iter().map(message).collect();
        lines.push(String::new());
        lines.extend(table::lines(
            &[("AT", Align::Left), ("TOOK", Align::Right), ("MESSAGE", Align::Left)],
            &rows,
            colour,
        ));
    }
    lines
}

fn message(handled: &Handled) -> Vec<Cell> {
    let took = match handled.took_us {
        us @ 0..1000 => format!("{us}us"),
        us => table::duration(us / 1000),
    };
    vec![Cell::new(Timestamp(handled.at_ms).to_string()), Cell::new(took), Cell::new(&handled.kind)]
}
