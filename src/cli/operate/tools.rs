//! `lakitu tools`: what a model is offered. It asks nobody: the catalogue is a part of the program.

use lakitu_actors::tools::CATALOGUE;
use lakitu_kernel::tool::{Hints, ToolSpec};
use serde_json::{Value, json};

use super::Operator;
use super::table::{self, Align, Cell};

/// Which column they are.
const PARAMETERS: usize = 3;

/// Lists the tools.
pub(super) fn tools(operator: &mut Operator<'_>) -> anyhow::Result<()> {
    if operator.json {
        let items: Vec<Value> = CATALOGUE.0.iter().map(item).collect();
        return operator.print_json(&json!({ "items": items, "cursor": null }));
    }
    let mut columns = ["NAME", "CLASS", "HINTS", "PARAMETERS", "WHAT IT DOES"].map(|name| (name, Align::Left)).to_vec();
    let mut rows: Vec<Vec<Cell>> = CATALOGUE.0.iter().map(row).collect();
    // Where lines are cut, the column that says least to a person makes room for the one that says most.
    if operator.width.is_some() {
        columns.remove(PARAMETERS);
        rows.iter_mut().for_each(|row| drop(row.remove(PARAMETERS)));
    }
    table::lines(&columns, &rows, operator.colour).iter().try_for_each(|line| operator.row(line))
}

fn item(spec: &ToolSpec) -> Value {
    json!({
        "name": spec.name,
        "summary": spec.summary(),
        "class": spec.effect,
        "hints": spec.hints(),
        "parameters": spec.schema(),
    })
}

fn row(spec: &ToolSpec) -> Vec<Cell> {
    let class = super::threads::text(&json!(spec.effect));
    [spec.name, &class, &words(spec.hints()), &parameters(&spec.schema()), spec.summary()].map(Cell::new).to_vec()
}

/// The hints that hold.
fn words(hints: Hints) -> String {
    let words = [
        (hints.read_only_hint, "read-only"),
        (hints.destructive_hint, "destructive"),
        (hints.idempotent_hint, "idempotent"),
        (hints.open_world_hint, "open-world"),
    ];
    words.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

/// `path limit?`: what has to be given first.
fn parameters(schema: &Value) -> String {
    let names = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let (first, rest): (Vec<_>, Vec<_>) = names.partition(|name| required(name));
    first
        .into_iter()
        .map(str::to_owned)
        .chain(rest.into_iter().map(|name| format!("{name}?")))
        .collect::<Vec<_>>()
        .join(" ")
}
