//! `bash_output`: its arguments.

use std::time::Duration;

use lakitu_kernel::limits::JOB_WAIT_MAX;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::job::JobId;

/// `bash_output`. Reads a spool, and may wait for it to grow.
pub const BASH_OUTPUT: ToolSpec =
    ToolSpec::of::<OutputArgs>("bash_output", include_str!("output.md"), EffectClass::Read, Category::Bash)
        .deadline(deadline);

/// What a look at a job takes beside the waiting.
const LOOK: Duration = Duration::from_secs(30);

fn deadline(arguments: &Value) -> Duration {
    let wait = arguments.get("wait").and_then(Value::as_u64).map_or(Duration::ZERO, Duration::from_millis);
    wait.min(JOB_WAIT_MAX) + LOOK
}

/// Arguments of `bash_output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputArgs {
    /// The job, such as `job_12`.
    pub job: JobId,
    /// The byte of its output from which to read on. Default: the whole, long output cut in the middle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Wait so many milliseconds, at most 600000, for its end or, with `since`, more output.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wait: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(wait: &u64) -> bool {
    *wait == 0
}

impl Arguments for OutputArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[("job_id", "job"), ("id", "job"), ("shell_id", "job"), ("bash_id", "job"), ("offset", "since")];

    fn check(&self) -> Result<(), String> {
        let most = JOB_WAIT_MAX.as_millis();
        if u128::from(self.wait) > most {
            return Err(format!("wait is {} ms; give at most {most} ms, and call again", self.wait));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn arguments_are_made_canonical_or_refused_with_what_to_write_instead() {
        let rows = [
            r#"{"job":"job_12"}"#,
            r#"{"shell_id":12,"since":"5"}"#,
            r#"{"job":12,"wait":600000}"#,
            r#"{"job":12,"wait":600001}"#,
            r#"{"job":12,"wait":-1}"#,
            r#"{"job":"12","since":-1}"#,
            r#"{"job":"job_x"}"#,
            "{}",
        ];
        let told: Vec<_> = rows
            .iter()
            .map(|row| BASH_OUTPUT.check(row).map_or_else(|error| error.to_string(), |value| value.to_string()))
            .collect();
        expect![[r#"
            {"job":"job_12"}
            {"job":"job_12","since":5}
            {"job":"job_12","wait":600000}
            INVALID_ARGUMENTS: wait is 600001 ms; give at most 600000 ms, and call again
            INVALID_ARGUMENTS: wait: invalid value: integer `-1`, expected u64
            INVALID_ARGUMENTS: since: invalid value: integer `-1`, expected u64
            INVALID_ARGUMENTS: job: invalid value: string "job_x", expected a job's name such as "job_12", as bash and bash_list give it
            INVALID_ARGUMENTS: missing field `job`"#]].assert_eq(&told.join("\n"));
    }
}
