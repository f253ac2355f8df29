//! `file_write`: the arguments.

use lakitu_kernel::policy::Subject;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PATH_ALIASES, aliases};

/// Writes a whole file.
pub const FILE_WRITE: ToolSpec =
    ToolSpec::of::<WriteArgs>("file_write", include_str!("write.md"), EffectClass::Verifiable, Category::File)
        .on(Subject::Path);

/// Arguments of `file_write`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WriteArgs {
    /// The file: relative to the workspace, or absolute. Directories that are missing are made.
    pub path: String,
    /// All that the file is to hold.
    pub content: String,
}

impl Arguments for WriteArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &aliases::<_, _, 5>(PATH_ALIASES, [("file_text", "content"), ("contents", "content")]);
}
