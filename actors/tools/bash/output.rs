//! `bash_output`: its arguments.

use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::job::JobId;

/// `bash_output`. Reads a spool.
pub const BASH_OUTPUT: ToolSpec =
    ToolSpec::of::<OutputArgs>("bash_output", include_str!("output.md"), EffectClass::Read, Category::Bash);

/// Arguments of `bash_output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputArgs {
    /// The job, such as `job_12`.
    pub job: JobId,
    /// The byte of its output from which to read on. Default: the whole, long output cut in the middle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

impl Arguments for OutputArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[("job_id", "job"), ("id", "job"), ("shell_id", "job"), ("bash_id", "job"), ("offset", "since")];
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
            INVALID_ARGUMENTS: since: invalid value: integer `-1`, expected u64
            INVALID_ARGUMENTS: job: invalid value: string "job_x", expected a job's name such as "job_12", as bash and bash_list give it
            INVALID_ARGUMENTS: missing field `job`"#]].assert_eq(&told.join("\n"));
    }
}
