//! `checkpoint_restore`: its arguments, and what the model is told. The files alone go back: a conversation that is under way
//! is not taken from under itself.

use std::fmt::Write as _;

use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use lakitu_kernel::{CheckpointId, Seq, ThreadId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deadlines;
use crate::tools::{Redo, RedoFile};

/// Files that are named in the result; of more it says how many there are.
const NAMED_MAX: usize = 100;

/// `checkpoint_restore`. Its redo record is computed from the durable journal, so that is waited for.
pub const CHECKPOINT_RESTORE: ToolSpec = ToolSpec::of::<RestoreArgs>(
    "checkpoint_restore",
    include_str!("restore.md"),
    EffectClass::Verifiable,
    Category::Checkpoint,
)
.deadline(|_| deadlines::put_back());

/// Arguments of `checkpoint_restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreArgs {
    /// Its id: `chk_…_N`, or `chk_N`.
    pub id: String,
    /// Also over what somebody else changed since.
    #[serde(default)]
    pub force: bool,
}

impl Arguments for RestoreArgs {
    fn check(&self) -> Result<(), String> {
        let known = meant(&self.id, ThreadId(0)).is_some();
        known.then_some(()).ok_or_else(|| "id is a checkpoint's, `chk_…_N`, as checkpoint_list tells them".to_owned())
    }
}

/// The checkpoint that a call of this thread names: by its whole id, or by its position alone.
pub(crate) fn meant(id: &str, thread: ThreadId) -> Option<CheckpointId> {
    let short = || Some(CheckpointId { thread, seq: Seq(id.strip_prefix("chk_")?.parse().ok()?) });
    id.parse().ok().or_else(short)
}

/// What the model is told of files that are back. From the redo record alone: recovery says the same.
pub(crate) fn told(redo: &Redo) -> String {
    if redo.files.is_empty() {
        return "your files are as they were then; nothing had to be put back".to_owned();
    }
    let mut text = String::new();
    for RedoFile { file, before, after } in redo.files.iter().take(NAMED_MAX) {
        let what = match (before, after) {
            (_, None) => "Removed",
            (None, Some(_)) => "Created",
            (Some(_), Some(_)) => "Restored",
        };
        let _ = writeln!(text, "{what} {}", crate::tools::workspace::shown(file.path.as_bytes()));
    }
    let more = redo.files.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        let _ = writeln!(text, "and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use lakitu_kernel::Hash;
    use lakitu_kernel::edit::FileKind;
    use lakitu_kernel::event::PreparedFile;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_that_is_none_is_refused_before_anything_runs() {
        let check = |id: &str| CHECKPOINT_RESTORE.check(&json!({ "id": id }).to_string());
        let id = "chk_00000000000000000000000007_12";
        assert_eq!(check(id), Ok(json!({ "id": id, "force": false })));
        assert_eq!(check("chk_12"), Ok(json!({ "id": "chk_12", "force": false })));
        assert_eq!(meant("chk_12", ThreadId(7)), meant(id, ThreadId(9)));
        for wrong in ["", "chk_", "latest", "chk_7_12", "thr_00000000000000000000000007"] {
            assert!(check(wrong).unwrap_err().message.contains("checkpoint_list"), "{wrong}");
        }
    }

    #[test]
    fn a_hundred_files_are_named_and_the_next_is_counted() {
        let file = |n: usize| RedoFile {
            file: PreparedFile {
                path: format!("f{n}"),
                kind: FileKind::File,
                kind_before: None,
                mode: 0o644,
                mode_before: None,
                hash_before: None,
                hash_after: Some(Hash::of(b"")),
            },
            before: None,
            after: Some(bytes::Bytes::new()),
        };
        let told_of = |files: usize| told(&Redo { files: (0..files).map(file).collect() });
        assert!(told_of(NAMED_MAX).ends_with("Created f99\n"));
        assert!(told_of(NAMED_MAX + 1).ends_with("Created f99\nand 1 more\n"));
        assert!(told_of(0).contains("nothing had to be put back"));
    }
}
