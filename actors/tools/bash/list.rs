//! `bash_list`: its arguments.

use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `bash_list`. Asks the keeper.
pub const BASH_LIST: ToolSpec =
    ToolSpec::of::<ListArgs>("bash_list", include_str!("list.md"), EffectClass::Read, Category::Bash);

/// Arguments of `bash_list`: none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListArgs {}

impl Arguments for ListArgs {}
