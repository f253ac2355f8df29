//! `multi_edit`: the arguments and the pure core.

use lakitu_kernel::policy::Subject;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::edit::{EDIT_ALIASES, Replace, edit, same};
use crate::tools::workspace::FileError;

/// Replaces several texts in a file.
pub const MULTI_EDIT: ToolSpec =
    ToolSpec::of::<MultiEditArgs>("multi_edit", include_str!("multi_edit.md"), EffectClass::Verifiable, Category::File)
        .on(Subject::Path);

/// Edits of one call.
const EDITS_MAX: usize = 200;

/// Arguments of `multi_edit`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct MultiEditArgs {
    /// The file: relative to the workspace, or absolute.
    pub path: String,
    /// In this order.
    pub edits: Vec<Replace>,
}

impl Arguments for MultiEditArgs {
    const ALIASES: &'static [(&'static str, &'static str)] = EDIT_ALIASES;

    fn check(&self) -> Result<(), String> {
        if self.edits.is_empty() {
            return Err("edits is empty; there is nothing to change".to_owned());
        }
        if self.edits.len() > EDITS_MAX {
            return Err(format!("{} edits; at most {EDITS_MAX} are taken in one call", self.edits.len()));
        }
        match self.edits.iter().position(same) {
            Some(at) => Err(format!("of edit {} old_string and new_string are the same", at + 1)),
            None => Ok(()),
        }
    }
}

/// What stands in the file after all edits.
pub(super) fn multi_edit(before: Option<&[u8]>, args: &MultiEditArgs, shown: &str) -> Result<Vec<u8>, FileError> {
    let mut now: Option<Vec<u8>> = before.map(<[u8]>::to_vec);
    for (at, replace) in args.edits.iter().enumerate() {
        let after = edit(now.as_deref(), replace, shown).map_err(|error| {
            let (number, of) = (at + 1, args.edits.len());
            error.within(&format!("edit {number} of {of} cannot be made, so nothing was changed"))
        })?;
        now = Some(after);
    }
    Ok(now.unwrap_or_default())
}
