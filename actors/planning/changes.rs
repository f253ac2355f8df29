//! What can be asked of beads, and what is answered.

use lakitu_kernel::limits::{
    BEAD_BLOCKERS_MAX, BEAD_DESCRIPTION_CHARS_MAX, BEAD_LABEL_CHARS_MAX, BEAD_LABELS_MAX, BEAD_TITLE_CHARS_MAX,
};
use lakitu_kernel::{BeadId, BeadStatus, BeadType, ErrorCode, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::Progress;

/// The priority of a bead of which none is said.
pub(super) const PRIORITY: u8 = 2;
/// The lowest one.
const PRIORITY_MAX: u8 = 4;

/// A bead that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBead {
    /// What is to be done, in a line: 1 to 200 characters.
    pub title: String,
    /// What kind of work it is: task, bug, feature, chore or epic. Without: task.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// From 0, critical, to 4, some day. Without: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// More about it, at most 10,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The bead that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// The beads that it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<String>,
}

/// What is to be changed of a bead; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BeadPatch {
    /// `in_progress` claims it, `open` lets go of it or opens it again, `closed` closes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What is to be done, in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What kind of work it is: task, bug, feature, chore or epic.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// From 0, critical, to 4, some day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// More about it; empty: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words to find it by, in place of those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// The bead that it is a part of; empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// The beads that it waits for, in place of those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<Vec<String>>,
    /// Why it is closed, with `status` `closed` or of one that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A line of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportLine {
    /// Its number in the file, from 1.
    pub number: u64,
    /// The line.
    pub text: String,
}

/// What is to be done to beads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// One is made.
    Create(NewBead),
    /// One is changed.
    Update {
        /// Which one.
        id: String,
        /// How.
        patch: BeadPatch,
    },
    /// One waits for others, or no longer.
    Depend {
        /// Which one.
        id: String,
        /// What it waits for from now on.
        add: Vec<String>,
        /// What it does not wait for any more.
        remove: Vec<String>,
    },
    /// Records of the `bd` tool are merged in.
    Import(Vec<ImportLine>),
}

/// What became of one bead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    /// Which one.
    pub id: BeadId,
    /// What it is called.
    pub title: String,
    /// What it is now.
    pub status: BeadStatus,
    /// The first of the open ones that it waits for.
    pub waits_for: Vec<BeadId>,
    /// The first of those that wait no longer.
    pub freed: Vec<BeadId>,
    /// How many wait no longer.
    pub freed_count: u64,
    /// How far its children are, where it has any.
    pub children: Option<Progress>,
    /// How far the bead is that it is a part of.
    pub parent: Option<(BeadId, Progress)>,
    /// Whether it was so already.
    pub unchanged: bool,
}

/// A line that was not taken, or not as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its number in the file.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

/// What became of an import's lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Beads that were not here.
    pub created: u64,
    /// Beads that were older here.
    pub updated: u64,
    /// Beads that are as new or newer here: they stay.
    pub kept: u64,
    /// Lines that were not taken.
    pub problems: Vec<Problem>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Done {
    /// Of a bead.
    Bead(Box<Changed>),
    /// Of an import.
    Imported(Imported),
}

pub(super) fn invalid(message: impl Into<String>) -> ToolError {
    ToolError::new(ErrorCode::InvalidArguments, message)
}

/// The bead of that name, as it is written by hand.
pub fn id(text: &str) -> Result<BeadId, ToolError> {
    text.trim().parse().map_err(|error| invalid(format!("{error}; {:?} is none", shown(text))))
}

pub(super) fn ids(texts: &[String]) -> Result<Vec<BeadId>, ToolError> {
    let mut ids = Vec::new();
    for text in texts {
        let id = id(text)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.len() > BEAD_BLOCKERS_MAX {
        return Err(invalid(format!("a bead waits for at most {BEAD_BLOCKERS_MAX} others; these are {}", ids.len())));
    }
    Ok(ids)
}

/// No message repeats more of what it was given.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

pub(super) fn title(text: &str) -> Result<String, ToolError> {
    let (text, chars) = (text.trim(), text.trim().chars().count());
    if chars == 0 {
        return Err(invalid("title is empty: say in a line what is to be done"));
    }
    if chars > BEAD_TITLE_CHARS_MAX {
        return Err(invalid(format!(
            "title has {chars} characters; at most {BEAD_TITLE_CHARS_MAX} are taken: put the rest into description"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid("title has a line break or another control character: it is one plain line"));
    }
    Ok(text.to_owned())
}

/// A longer text; none where it is empty.
pub(super) fn prose(what: &str, text: &str) -> Result<Option<String>, ToolError> {
    let chars = text.chars().count();
    if chars > BEAD_DESCRIPTION_CHARS_MAX {
        return Err(invalid(format!("{what} has {chars} characters; at most {BEAD_DESCRIPTION_CHARS_MAX} are taken")));
    }
    if text.contains('\0') {
        return Err(invalid(format!("{what} has a NUL character; leave it out")));
    }
    Ok((!text.trim().is_empty()).then(|| text.to_owned()))
}

pub(super) fn labels(texts: &[String]) -> Result<Vec<String>, ToolError> {
    let mut labels: Vec<String> = Vec::new();
    for text in texts {
        let (label, chars) = (text.trim(), text.trim().chars().count());
        if !(1..=BEAD_LABEL_CHARS_MAX).contains(&chars) || label.chars().any(char::is_control) {
            return Err(invalid(format!(
                "a label is a word of 1 to {BEAD_LABEL_CHARS_MAX} characters; {:?} is none",
                shown(text)
            )));
        }
        if !labels.iter().any(|other| other == label) {
            labels.push(label.to_owned());
        }
    }
    if labels.len() > BEAD_LABELS_MAX {
        return Err(invalid(format!("a bead has at most {BEAD_LABELS_MAX} labels; these are {}", labels.len())));
    }
    Ok(labels)
}

pub(super) fn priority(priority: u8) -> Result<u8, ToolError> {
    if priority <= PRIORITY_MAX {
        Ok(priority)
    } else {
        Err(invalid(format!("priority is 0 (critical) to {PRIORITY_MAX} (some day), not {priority}")))
    }
}

pub(super) fn kind(word: &str) -> Result<BeadType, ToolError> {
    match BeadType::from(word) {
        BeadType::Other(_) => Err(invalid(format!("type is task, bug, feature, chore or epic, not {:?}", shown(word)))),
        kind @ (BeadType::Task | BeadType::Bug | BeadType::Feature | BeadType::Chore | BeadType::Epic) => Ok(kind),
    }
}

pub(super) fn status(word: &str) -> Result<BeadStatus, ToolError> {
    match BeadStatus::from(word) {
        BeadStatus::Other(_) => {
            Err(invalid(format!("status is open, in_progress, blocked or closed, not {:?}", shown(word))))
        }
        status @ (BeadStatus::Open | BeadStatus::InProgress | BeadStatus::Blocked | BeadStatus::Closed) => Ok(status),
    }
}
