//! `lakitu demo`: the main job with nothing configured. A real small repository with a failing test, a model script, and
//! the real everything else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakitu_actors::debug::beads::{BeadsChange, change};
use lakitu_actors::gateway::ScriptGateway;
use lakitu_actors::planning::{Change, ImportLine};
use lakitu_kernel::ToolError;
use lakitu_kernel::event::Settings;

use super::args::{DemoArgs, Global, Output};
use super::run::{Next, Plan};
use super::{Failure, Prepared, paths};
use crate::session::Session;
use lakitu_actors::threads::desk::Begin;

/// The repository: a calculator in shell, its test, and what both are.
const FILES: [(&str, &str); 3] = [
    ("calc.sh", include_str!("calc.sh")),
    ("test.sh", include_str!("test.sh")),
    ("README.md", include_str!("README.md")),
];
/// What is to be done there, as the `bd` tool writes it.
const BEADS: &str = include_str!("beads.jsonl");
/// What the model says and calls.
const SCRIPT: &str = include_str!("script.yaml");
const PROMPT: &str = "The tests fail. Find out why, fix it, and write down what you did.";

/// `lakitu demo`
pub(super) fn demo(global: &Global, args: DemoArgs, prepared: Prepared) -> Result<u8, Failure> {
    let root = place(args.dir)?;
    let (workspace, data) = (root.join("repository"), root.join("data"));
    lay_out(&workspace)?;
    let upstream =
        ScriptGateway::parse(SCRIPT).map_err(|error| Failure::other(format!("the demo's script: {error}")))?;
    let quiet = global.quiet || args.output != Output::Text;
    let ui = super::run::ui(global, args.output);
    say(quiet, &format!("a repository with a failing test: {}", workspace.display()));
    let settings = Settings {
        model: "script".to_owned(),
        mode: lakitu_kernel::mode::Mode::Build,
        workspace: workspace.clone(),
        artifacts: data.join("artifacts"),
        max_turns: None,
        timeout_ms: None,
        asking: lakitu_kernel::event::Asking::default(),
    };
    let config = paths::config(global)?;
    let plan = Plan {
        config,
        workspace: workspace.clone(),
        data: data.clone(),
        upstream: Ok(Arc::new(upstream)),
        model: String::new(),
        hidden: Vec::new(),
        order: None,
        ui,
    };
    let code = plan.execute(prepared, async move |session: &Session| {
        tasks(session).await?;
        Ok(Next::Begin(Begin::New(session.threads().new_id(), Box::new(settings), PROMPT.to_owned())))
    })?;
    if code == 0 {
        let data = data.display();
        say(quiet, &format!("the fixed repository: {}", workspace.display()));
        say(quiet, &format!("look into the thread:  lakitu threads ls --data {data}"));
        say(quiet, &format!("and the database:      lakitu db verify --data {data}"));
    }
    Ok(code)
}

/// A directory of its own: each demo begins with a failing test.
fn place(asked: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let failed =
        |path: &Path, error: std::io::Error| Failure::usage(format!("{} cannot be made: {error}", path.display()));
    if let Some(dir) = asked {
        fs::create_dir_all(&dir).map_err(|error| failed(&dir, error))?;
        if fs::read_dir(&dir).map_err(|error| failed(&dir, error))?.next().is_some() {
            return Err(Failure::usage(format!("{} is not empty; name a new directory with --dir", dir.display())));
        }
        return dir.canonicalize().map_err(|error| failed(&dir, error));
    }
    let base = std::env::temp_dir();
    for n in 1..10_000 {
        let dir = base.join(format!("lakitu-demo-{n}"));
        match fs::create_dir(&dir) {
            Ok(()) => return dir.canonicalize().map_err(|error| failed(&dir, error)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&dir, error)),
        }
    }
    Err(Failure::usage(format!("{} is full of demos; name a directory with --dir", base.display())))
}

/// Puts the tasks there that the model works on.
async fn tasks(session: &Session) -> Result<(), ToolError> {
    let lines = BEADS.lines().zip(1..).map(|(text, number)| ImportLine { number, text: text.to_owned() });
    let asked = BeadsChange { by: "demo".to_owned(), change: Change::Import(lines.collect()) };
    change(&session.runtime().wiring, asked).await.map(drop)
}

fn lay_out(workspace: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::other(format!("the demo's repository cannot be written: {error}"));
    fs::create_dir_all(workspace).map_err(failed)?;
    for (name, text) in FILES {
        fs::write(workspace.join(name), text).map_err(failed)?;
    }
    Ok(())
}

#[allow(clippy::print_stderr, reason = "the demo talks to a person beside its result")]
fn say(quiet: bool, line: &str) {
    if !quiet {
        eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lakitu_actors::tools::CATALOGUE;

    use super::*;

    #[test]
    fn the_script_uses_every_tool() {
        let script: serde_norway::Value = serde_norway::from_str(SCRIPT).unwrap();
        let turns = script["turns"].as_sequence().unwrap().iter();
        let calls = turns.filter_map(|turn| turn.get("tool_calls")).flat_map(|calls| calls.as_sequence().unwrap());
        let used: BTreeSet<&str> = calls.map(|call| call["name"].as_str().unwrap()).collect();
        assert_eq!(used, CATALOGUE.0.iter().map(|spec| spec.name).collect());
    }
}
