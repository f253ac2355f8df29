//! `bash_kill`: its arguments.

use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::job::JobId;

/// `bash_kill`.
///
/// Safe to repeat, and so run again where its result is missing: a job's name is the key of what is to end, names are
/// never used twice in a thread, and a job that has ended stays ended. Not `Read`: those run side by side, and a kill
/// must not overtake the `bash_output` before it.
pub const BASH_KILL: ToolSpec =
    ToolSpec::of::<KillArgs>("bash_kill", include_str!("kill.md"), EffectClass::Keyed, Category::Bash);

/// Arguments of `bash_kill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KillArgs {
    /// The job, such as `job_12`.
    pub job: JobId,
}

impl Arguments for KillArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[("job_id", "job"), ("id", "job"), ("shell_id", "job"), ("bash_id", "job")];
}
