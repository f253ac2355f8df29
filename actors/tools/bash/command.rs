//! `bash`: its arguments.

use std::time::Duration;

use lakitu_kernel::limits::{COMMAND_BYTES_MAX, COMMAND_TIMEOUT_DEFAULT, COMMAND_TIMEOUT_MAX};
use lakitu_kernel::policy::Subject;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::runner::{ANSWERS_WITHIN, GRACE};

/// `bash`. A keeper knows what became of it.
pub const BASH: ToolSpec =
    ToolSpec::of::<BashArgs>("bash", include_str!("command.md"), EffectClass::Detached, Category::Bash)
        .on(Subject::Command)
        .deadline(deadline);

/// A label is for lists, and for a person's eye.
const LABEL_CHARS_MAX: usize = 120;

/// Arguments of `bash`, as models write them: some count seconds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WrittenArgs {
    /// The command, as bash reads it.
    command: String,
    /// Where it runs: a directory of the workspace. Default: the workspace.
    #[serde(default)]
    cwd: Option<String>,
    /// How long the call waits, in milliseconds: 1 to 600000. Default: 120000.
    #[serde(default)]
    timeout: Option<i64>,
    /// The same in seconds; give one of the two.
    #[serde(default)]
    timeout_secs: Option<f64>,
    /// Make it a job at once.
    #[serde(default)]
    run_in_background: bool,
    /// What it does, in five to ten words, for the person who watches.
    #[serde(default)]
    description: Option<String>,
}

/// Arguments of `bash`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenArgs")]
pub struct BashArgs {
    /// The command, as bash reads it.
    pub command: String,
    /// Where it runs: a directory of the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// In milliseconds, as it was asked for: see [`BashArgs::patience`].
    pub timeout: i64,
    /// Whether nobody waits for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub run_in_background: bool,
    /// What it does, for the person who watches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl TryFrom<WrittenArgs> for BashArgs {
    type Error = String;

    fn try_from(written: WrittenArgs) -> Result<Self, String> {
        let timeout = match (written.timeout, written.timeout_secs) {
            (Some(_), Some(_)) => return Err("timeout (ms) and timeout_secs are both given; give one".to_owned()),
            (Some(ms), None) => ms,
            (None, Some(secs)) => milliseconds(secs)?,
            (None, None) => as_ms(COMMAND_TIMEOUT_DEFAULT),
        };
        let WrittenArgs { command, cwd, run_in_background, description, .. } = written;
        Ok(Self { command, cwd, timeout, run_in_background, description })
    }
}

fn milliseconds(secs: f64) -> Result<i64, String> {
    if !secs.is_finite() {
        return Err("timeout_secs is not a number".to_owned());
    }
    // 1e15 ms is far above the clamp and exact in both types.
    #[allow(clippy::cast_possible_truncation, reason = "whole and within ±1e15")]
    Ok((secs * 1000.0).clamp(-1e15, 1e15).ceil() as i64)
}

fn as_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Arguments for BashArgs {
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("cmd", "command"),
        ("workdir", "cwd"),
        ("working_dir", "cwd"),
        ("working_directory", "cwd"),
        ("timeout_ms", "timeout"),
    ];

    fn check(&self) -> Result<(), String> {
        if self.command.trim().is_empty() {
            return Err("command is empty".to_owned());
        }
        if self.command.contains('\0') {
            return Err(
                "command holds a NUL byte, which no program can be given; write it as $'\\x00' or printf '\\0'"
                    .to_owned(),
            );
        }
        if self.command.len() > COMMAND_BYTES_MAX {
            let length = self.command.len();
            return Err(format!(
                "command has {length} bytes; at most {COMMAND_BYTES_MAX} can be run: write it to a file and run that"
            ));
        }
        if self.cwd.as_ref().is_some_and(|cwd| cwd.contains('\0')) {
            return Err("cwd holds a NUL byte".to_owned());
        }
        if self.timeout < 1 {
            let (given, most) = (self.timeout, COMMAND_TIMEOUT_MAX.as_millis());
            return Err(format!("timeout is {given} ms; give 1 to {most} ms, or leave it out"));
        }
        Ok(())
    }
}

impl BashArgs {
    /// How long the call waits for the command: what was asked for, at most [`COMMAND_TIMEOUT_MAX`].
    pub fn patience(&self) -> Duration {
        if self.run_in_background {
            return Duration::ZERO;
        }
        Duration::from_millis(u64::try_from(self.timeout).unwrap_or(1).max(1)).min(COMMAND_TIMEOUT_MAX)
    }

    /// What the model is told where it asked for more than there is.
    pub(super) fn note(&self) -> Option<String> {
        let most = as_ms(COMMAND_TIMEOUT_MAX);
        let asked = self.timeout;
        let unheard = asked > most && !self.run_in_background;
        unheard.then(|| format!("[timeout {asked} ms is more than a call waits: {most} ms was used]"))
    }

    /// What lists say of the job.
    pub(super) fn label(&self) -> String {
        let text = self.description.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or(&self.command);
        let line = text.trim().lines().next().unwrap_or_default();
        line.chars().map(|char| if char.is_control() { ' ' } else { char }).take(LABEL_CHARS_MAX).collect()
    }
}

/// What the call waits for its command, then what a keeper needs to start, to kill and to be given up.
fn deadline(arguments: &Value) -> Duration {
    let asked = arguments.get("timeout").and_then(Value::as_u64).map(Duration::from_millis);
    asked.unwrap_or(COMMAND_TIMEOUT_DEFAULT).min(COMMAND_TIMEOUT_MAX) + GRACE + 2 * ANSWERS_WITHIN
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn told(text: &str) -> String {
        let arguments = match BASH.check(text) {
            Ok(arguments) => arguments,
            Err(error) => return error.to_string(),
        };
        let args: BashArgs = serde_json::from_value(arguments.clone()).unwrap();
        assert_eq!(BASH.check(&arguments.to_string()), Ok(arguments.clone()), "canonical arguments stay as they are");
        format!("{arguments} → {} ms{}", args.patience().as_millis(), args.note().unwrap_or_default())
    }

    #[test]
    fn arguments_are_made_canonical_or_refused_with_what_to_write_instead() {
        let rows = [
            r#"{"command":"ls"}"#,
            r#"{"cmd":"ls","workdir":"src","timeout_ms":"1500"}"#,
            r#"{"command":"ls","timeout_secs":1.5}"#,
            r#"{"command":"ls","timeout_secs":"2"}"#,
            r#"{"command":"ls","timeout":600000}"#,
            r#"{"command":"ls","timeout":601000}"#,
            r#"{"command":"ls","timeout_secs":601}"#,
            r#"{"command":"ls","timeout":1e12}"#,
            r#"{"command":"ls","timeout":1e30}"#,
            r#"{"command":"ls","timeout_secs":1e300}"#,
            r#"{"command":"ls","timeout":0}"#,
            r#"{"command":"ls","timeout":-1}"#,
            r#"{"command":"ls","timeout_secs":0}"#,
            r#"{"command":"ls","timeout_secs":-0.5}"#,
            r#"{"command":"ls","timeout":1,"timeout_secs":1}"#,
            r#"{"command":"  "}"#,
            r#"{"command":"a\u0000b"}"#,
            r#"{"command":"ls","cwd":"\u0000"}"#,
            r#"{"command":"ls","run_in_background":"true"}"#,
            r#"{"command":"ls","run_in_background":true,"timeout":601000}"#,
            r#"{"command":"ls","run_in_background":false}"#,
            r#"{"command":"ls","detach":true}"#,
            r#"{"timeout":5}"#,
        ];
        let told: Vec<_> = rows.iter().map(|row| told(row)).collect();
        expect![[r#"
            {"command":"ls","timeout":120000} → 120000 ms
            {"command":"ls","cwd":"src","timeout":1500} → 1500 ms
            {"command":"ls","timeout":1500} → 1500 ms
            {"command":"ls","timeout":2000} → 2000 ms
            {"command":"ls","timeout":600000} → 600000 ms
            {"command":"ls","timeout":601000} → 600000 ms[timeout 601000 ms is more than a call waits: 600000 ms was used]
            {"command":"ls","timeout":601000} → 600000 ms[timeout 601000 ms is more than a call waits: 600000 ms was used]
            {"command":"ls","timeout":1000000000000} → 600000 ms[timeout 1000000000000 ms is more than a call waits: 600000 ms was used]
            INVALID_ARGUMENTS: timeout: invalid type: floating point `1e+30`, expected i64
            {"command":"ls","timeout":1000000000000000} → 600000 ms[timeout 1000000000000000 ms is more than a call waits: 600000 ms was used]
            INVALID_ARGUMENTS: timeout is 0 ms; give 1 to 600000 ms, or leave it out
            INVALID_ARGUMENTS: timeout is -1 ms; give 1 to 600000 ms, or leave it out
            INVALID_ARGUMENTS: timeout is 0 ms; give 1 to 600000 ms, or leave it out
            INVALID_ARGUMENTS: timeout is -500 ms; give 1 to 600000 ms, or leave it out
            INVALID_ARGUMENTS: command: timeout (ms) and timeout_secs are both given; give one
            INVALID_ARGUMENTS: command is empty
            INVALID_ARGUMENTS: command holds a NUL byte, which no program can be given; write it as $'\x00' or printf '\0'
            INVALID_ARGUMENTS: cwd holds a NUL byte
            {"command":"ls","run_in_background":true,"timeout":120000} → 0 ms
            {"command":"ls","run_in_background":true,"timeout":601000} → 0 ms
            {"command":"ls","timeout":120000} → 120000 ms
            INVALID_ARGUMENTS: unknown argument "detach"; known are command, cwd, description, run_in_background, timeout, timeout_secs
            INVALID_ARGUMENTS: missing field `command`"#]].assert_eq(&told.join("\n"));
    }

    #[test]
    fn the_longest_command_is_taken_and_one_byte_more_is_not() {
        let longest = "x".repeat(COMMAND_BYTES_MAX);
        assert!(BASH.check(&serde_json::json!({ "command": longest }).to_string()).is_ok());
        let told = BASH.check(&serde_json::json!({ "command": longest + "x" }).to_string()).unwrap_err().to_string();
        assert!(told.contains("write it to a file"), "{told}");
    }

    #[test]
    fn the_deadline_of_the_call_is_behind_its_timeout() {
        for (asked, own) in [(serde_json::json!({}), 120), (serde_json::json!({ "timeout": 9_999_999_999_u64 }), 600)] {
            assert!((BASH.deadline)(&asked) > Duration::from_secs(own));
            assert!((BASH.deadline)(&asked) < Duration::from_secs(own + 60));
        }
    }

    #[test]
    fn a_label_is_one_line() {
        let label = |description: Option<&str>| {
            let description = description.map(str::to_owned);
            let command = "\nmake\tall\nls".to_owned();
            BashArgs { command, cwd: None, timeout: 1, run_in_background: false, description }.label()
        };
        assert_eq!(label(None), "make all");
        assert_eq!(label(Some(" ")), "make all");
        assert_eq!(label(Some("Builds\x1b it")), "Builds  it");
    }
}
