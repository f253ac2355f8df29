//! `glob` and `grep` beside `rg` on the same tree, in one run: only their ratio travels from one machine to another.
//! Without `rg` on the `PATH` our own times are told.
//!
//! `cargo bench --bench search [-- --files N --json]`

#[path = "common/mod.rs"]
mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use common::report::{Report, Samples};
use common::{directory, ms};
use lakitu_actors::tools::file::{FileTools, GLOB, GREP};
use lakitu_actors::tools::{Ask, Known, Place};
use lakitu_kernel::tool::{ToolCall, ToolSpec};
use lakitu_kernel::{Seq, ThreadId};
use serde_json::{Value, json};

/// Files of one directory.
const FILES_EACH: usize = 50;
/// What our time may be of `rg`'s.
const RATIO_MAX: f64 = 1.3;

/// Searching.
#[derive(Debug, Parser)]
struct Args {
    /// Files of the tree
    #[arg(long, default_value_t = 100_000)]
    files: usize,
    /// Rounds; each asks everybody once
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// A question, as our tool and as `rg` takes it.
struct Question {
    name: &'static str,
    tool: ToolSpec,
    arguments: Value,
    rg: &'static [&'static str],
}

fn questions() -> Vec<Question> {
    vec![
        Question {
            name: "glob, one file in a thousand",
            tool: GLOB,
            arguments: json!({ "pattern": "**/special_*.rs" }),
            rg: &["--files", "-g", "**/special_*.rs"],
        },
        Question {
            name: "glob, a tenth of the files",
            tool: GLOB,
            arguments: json!({ "pattern": "*.md" }),
            rg: &["--files", "-g", "*.md"],
        },
        Question {
            name: "grep, files that match a rare word",
            tool: GREP,
            arguments: json!({ "pattern": "needle_[0-9]+" }),
            rg: &["-l", "needle_[0-9]+"],
        },
        Question {
            name: "grep, lines of a rare word",
            tool: GREP,
            arguments: json!({ "pattern": "needle_[0-9]+", "output_mode": "content" }),
            rg: &["-n", "needle_[0-9]+"],
        },
        Question {
            name: "grep, files without regard to case",
            tool: GREP,
            arguments: json!({ "pattern": "NEEDLE_", "ignore_case": true }),
            rg: &["-l", "-i", "NEEDLE_"],
        },
        Question {
            name: "grep, nothing in files of one kind",
            tool: GREP,
            arguments: json!({ "pattern": "not there at all", "glob": "*.md" }),
            rg: &["-l", "-g", "*.md", "not there at all"],
        },
    ]
}

fn main() -> Result<()> {
    let args = Args::parse();
    let dir = directory()?;
    let workspace = dir.path().join("w");
    lay_out(&workspace, args.files)?;
    let data = dir.path().join("data");
    std::fs::create_dir_all(data.join("outputs"))?;
    let place = Arc::new(Place { workspace: workspace.clone(), artifacts: data.join("artifacts") });
    let tools = FileTools::new(data.join("outputs"), data, lakitu_actors::tools::file::pdf::Reader::none());
    let runtime = tokio::runtime::Runtime::new()?;
    let rg = has_rg();
    let mut report = Report::new("search");
    for question in questions() {
        let ask = question.ask(&place)?;
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        for round in 0..=args.rounds {
            let began = Instant::now();
            let outcome = runtime.block_on(tools.run(&ask, None));
            let took = ms(began.elapsed());
            ensure!(outcome.error.is_none(), "{}: {}", question.name, outcome.output);
            // The first round warms the caches.
            if round > 0 {
                ours.push(took);
            }
            if rg {
                let took = asked_rg(question.rg, &workspace)?;
                if round > 0 {
                    theirs.push(took);
                }
            }
        }
        let ratio = ours.median() / theirs.median();
        report.samples(question.name, "ms", &ours, None);
        if rg {
            report.samples(format!("{}: rg", question.name), "ms", &theirs, None);
            report.value(format!("{}: ratio", question.name), "times", ratio, Some(RATIO_MAX));
        }
    }
    report.print(args.json);
    Ok(())
}

impl Question {
    fn ask(&self, place: &Arc<Place>) -> Result<Ask> {
        let call = ToolCall {
            thread: ThreadId(1),
            intent: Seq(1),
            call_id: "call_1".to_owned(),
            tool: self.tool.name,
            arguments: self.tool.check(&self.arguments.to_string())?,
            start: 1,
        };
        Ok(Ask { call, place: place.clone(), known: Known::default(), lease: None })
    }
}

/// A tree as repositories are: a few kinds of files, rules, and a directory that is left out.
fn lay_out(workspace: &Path, files: usize) -> Result<()> {
    let mut text = String::new();
    for at in 0..60 {
        writeln!(text, "    let value_{at} = compute(input, {at})?; // line {at} of a file like many others")?;
    }
    for n in 0..files {
        let dir = n / FILES_EACH;
        let path = workspace.join(format!("crate_{}/module_{}", dir / 40, dir % 40));
        if n % FILES_EACH == 0 {
            std::fs::create_dir_all(&path)?;
        }
        let name = match n % 1000 {
            7 => format!("special_{n}.rs"),
            rest if rest % 10 == 3 => format!("notes_{n}.md"),
            _ => format!("file_{n}.rs"),
        };
        let rare = if n % 500 == 11 { format!("    let needle_{n} = 1;\n") } else { String::new() };
        std::fs::write(path.join(name), format!("//! File {n}.\n{text}{rare}"))?;
    }
    std::fs::write(workspace.join(".gitignore"), "target/\n*.log\n/build\n!keep.log\n")?;
    std::fs::create_dir_all(workspace.join(".git")).context("a repository")
}

#[allow(clippy::disallowed_methods, reason = "a bench measures another program")]
fn has_rg() -> bool {
    Command::new("rg").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[allow(clippy::disallowed_methods, reason = "a bench measures another program")]
fn asked_rg(arguments: &[&str], workspace: &Path) -> Result<f64> {
    let mut command = Command::new("rg");
    // No other rules than those of the tree.
    command.arg("--no-config").arg("--no-ignore-global").args(arguments).arg("./").current_dir(workspace);
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let took = ms(began.elapsed());
    ensure!(output.status.code().is_some_and(|code| code < 2), "rg failed: {}", output.status);
    Ok(took)
}
