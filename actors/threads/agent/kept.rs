//! What a checkpoint of the thread would hold, as its journal tells it: the newest messages, the files and the
//! beads that the agent changed, the task. Part of the state, and as pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::edit::{FileChange, FileKind};
use lakitu_kernel::event::{Event, EventBody, Resumed};
use lakitu_kernel::{BeadId, Hash, Seq, limits};
use serde::{Deserialize, Serialize};

/// A file that the agent changed, as the last change left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// What it is.
    #[serde(default, skip_serializing_if = "FileKind::is_file")]
    pub kind: FileKind,
    /// Its content; none: it was removed, or nobody read it.
    pub hash: Option<Hash>,
    /// Its permission bits.
    pub mode: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether no file stands there any more.
    pub removed: bool,
    /// When that was.
    pub at: Timestamp,
}

/// Files by their path, relative to the workspace.
pub type ChangedFiles = BTreeMap<String, ChangedFile>;

/// What a checkpoint would hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The positions of the newest messages: prompts, answers, results.
    pub messages: VecDeque<Seq>,
    /// Files that the agent changed, as `edit.recorded` tells it.
    pub files: Arc<ChangedFiles>,
    /// The beads that the agent changed last, the newest at the end.
    pub beads: VecDeque<BeadId>,
    /// The names of the artifacts that it saved last, the newest at the end.
    pub artifacts: VecDeque<String>,
    /// How many checkpoints there were.
    pub checkpoints: u32,
    /// The last prompt, or the beginning of it.
    pub task: String,
    /// What somebody said is to be done from the last checkpoint on.
    pub next_task: Option<String>,
}

impl Kept {
    /// Takes an event in.
    pub(super) fn take(&mut self, event: &Event) {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the others add nothing to a checkpoint")]
        match &event.body {
            EventBody::Prompt { text } => {
                self.message(event.seq);
                self.task = text.chars().take(limits::CHECKPOINT_TASK_CHARS_MAX).collect();
                self.next_task = None;
            }
            EventBody::Message { .. } | EventBody::ToolResult { .. } => self.message(event.seq),
            EventBody::EditRecorded { files, .. } => self.changed(files, event.at),
            EventBody::BeadChanged { id, .. } => newest(&mut self.beads, id, limits::CHECKPOINT_BEADS_MAX),
            EventBody::ArtifactSaved { artifact, .. } => {
                newest(&mut self.artifacts, &artifact.name, limits::CHECKPOINT_ARTIFACTS_MAX);
            }
            EventBody::CheckpointCreated { next_task, .. } => {
                self.checkpoints += 1;
                self.next_task = next_task.clone().or(self.next_task.take());
            }
            EventBody::ThreadCheckpointed { .. } => self.checkpoints += 1,
            EventBody::ThreadForked { .. } => {
                self.checkpoints = 0;
                // They are the other thread's.
                self.artifacts.clear();
            }
            EventBody::ThreadResumed { why: Resumed::Continue, .. } => self.next_task = None,
            _ => {}
        }
    }

    fn message(&mut self, seq: Seq) {
        if self.messages.len() == limits::CHECKPOINT_MESSAGES_MAX {
            self.messages.pop_front();
        }
        self.messages.push_back(seq);
    }

    fn changed(&mut self, changes: &[FileChange], at: Timestamp) {
        let files = Arc::make_mut(&mut self.files);
        for change in changes {
            let after = change.after;
            let file = ChangedFile {
                kind: after.map_or(FileKind::File, |after| after.kind),
                hash: after.and_then(|after| after.hash),
                mode: after.map_or(0, |after| after.mode),
                bytes: after.map_or(0, |after| after.bytes),
                removed: after.is_none(),
                at,
            };
            files.insert(change.path.clone(), file);
        }
    }

    /// What is to be done from here: what somebody said, or what the last prompt said.
    pub fn next_task(&self) -> String {
        self.next_task.clone().unwrap_or_else(|| format!("Go on with: {}", self.task))
    }

    /// The files that changed last, as many as a checkpoint holds, by path; and how many are left out.
    pub fn newest_files(&self) -> (Vec<(&String, &ChangedFile)>, usize) {
        let mut files: Vec<_> = self.files.iter().collect();
        let omitted = files.len().saturating_sub(limits::CHECKPOINT_FILES_MAX);
        if omitted > 0 {
            files.sort_by_key(|(_, file)| std::cmp::Reverse(file.at));
            files.truncate(limits::CHECKPOINT_FILES_MAX);
            files.sort_by_key(|(path, _)| *path);
        }
        (files, omitted)
    }
}

/// Adds what was named last, once.
fn newest<T: Clone + PartialEq>(all: &mut VecDeque<T>, one: &T, max: usize) {
    all.retain(|other| other != one);
    if all.len() == max {
        all.pop_front();
    }
    all.push_back(one.clone());
}
