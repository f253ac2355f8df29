//! Foreign judges: SDKs of those whose protocols are spoken here, against the real thing.

mod anthropic_types;
mod litellm;
mod openai_sdk;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The SDKs' Python.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| prepared("requirements").join("bin/python"))
}

/// A list's Python environment. Where it cannot be had, the test fails: a judge that is not heard has not agreed.
fn prepared(list: &str) -> PathBuf {
    // As `tests/run` names it: beside what else is built.
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("judges").join(list);
    let prepared = Command::new("bash").arg(judge("prepare")).arg(list).arg(&directory).output().unwrap();
    assert!(prepared.status.success(), "{}", text(&prepared));
    directory
}

fn judge(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges").join(name)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a judge says who is content.
pub(crate) fn heard(script: &str, say: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(python());
    command.arg(judge(script));
    for name in ["OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"]
    {
        command.env_remove(name);
    }
    say(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}
