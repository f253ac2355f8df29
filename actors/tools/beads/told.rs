//! What the model is told of beads.

use std::fmt::Write as _;

use lakitu_kernel::BeadId;

use super::change::{BEADS_CLOSE, BEADS_CREATE};
use crate::planning::Changed;
use crate::store::{BeadRow, Page, Progress, Reading, StoreError};

/// Of a list that is no result of its own, so many are named.
const NAMED: usize = 20;

/// A line of somebody else's, on one line.
fn line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

fn names(ids: &[BeadId]) -> String {
    let mut text = ids.iter().take(NAMED).map(BeadId::as_str).collect::<Vec<_>>().join(", ");
    if ids.len() > NAMED {
        let _ = write!(text, " and {} more", ids.len() - NAMED);
    }
    text
}

pub(super) fn changed(tool: &str, changed: &Changed) -> String {
    let Changed { id, title, status, waits_for, freed, freed_count, children, parent, unchanged } = changed;
    let mut text = if *unchanged {
        format!("{id} is {status} and as you want it already: {}", line(title))
    } else if tool == BEADS_CREATE.name {
        format!("{id} made, {status}: {}", line(title))
    } else {
        format!("{id} is now {status}: {}", line(title))
    };
    if !waits_for.is_empty() {
        let _ = write!(text, "\nIt waits for {}.", names(waits_for));
    }
    if *freed_count > 0 {
        let _ = write!(text, "\n{freed_count} no longer blocked: {}.", names(freed));
    }
    if let Some(Progress { closed, total }) = children.filter(|far| tool == BEADS_CLOSE.name && far.closed < far.total)
    {
        let _ = write!(text, "\nOf its {total} parts {} are still open.", total - closed);
    }
    if let Some((epic, Progress { closed, total })) = parent {
        let _ = write!(text, "\n{epic}, of which it is a part: {closed} of {total} closed.");
    }
    text
}

fn about(reading: &Reading, row: &BeadRow) -> Result<String, StoreError> {
    let mut text = format!("{} {} P{} {}: {}", row.id, row.status, row.priority, row.kind, line(&row.title));
    let Progress { closed, total } = reading.bead_progress(&row.id)?;
    if total > 0 {
        let _ = write!(text, " ({closed} of {total} closed)");
    }
    if let Some(holder) = row.assignee.as_deref().filter(|_| !row.status.is_done()) {
        let _ = write!(text, ", held by {}", line(holder));
    }
    let open = if row.once_free.is_some() { reading.beads_waited_for(row, NAMED)? } else { Vec::new() };
    if !open.is_empty() {
        let _ = write!(text, ", waits for {}", names(&open));
    }
    Ok(text)
}

pub(super) fn list(reading: &Reading, page: &Page<BeadRow>, none: &str) -> Result<String, StoreError> {
    let lines = page.items.iter().map(|row| about(reading, row)).collect::<Result<Vec<_>, _>>()?;
    if lines.is_empty() {
        return Ok(none.to_owned());
    }
    let more = if page.cursor.is_some() { "\n[there are more: ask with a larger limit or a filter]" } else { "" };
    Ok(lines.join("\n") + more)
}

/// Everything about one bead.
pub(super) fn whole(reading: &Reading, row: &BeadRow) -> Result<String, StoreError> {
    let mut text = about(reading, row)?;
    let mut add = |name: &str, what: String| {
        let _ = write!(text, "\n{name}: {what}");
    };
    if let Some(parent) = &row.parent_id {
        add("part of", parent.to_string());
    }
    if !row.blocked_by.is_empty() {
        add("blocked_by", names(&row.blocked_by));
    }
    let waiting = reading.beads_waiting_for(&row.id)?;
    if !waiting.is_empty() {
        add("blocks", names(&waiting));
    }
    if !row.labels.is_empty() {
        add("labels", line(&row.labels.join(", ")));
    }
    if let Some(thread) = row.thread_id {
        add("made by", thread.to_string());
    }
    add("created", row.created_at.to_string());
    add("updated", row.updated_at.to_string());
    if let Some(at) = row.closed_at {
        add("closed", at.to_string());
    }
    if let Some(reason) = &row.close_reason {
        add("reason", reason.clone());
    }
    if let Some(description) = &row.description {
        add("description", description.clone());
    }
    // What the `bd` tool has beyond that.
    for name in ["design", "acceptance_criteria", "notes"] {
        let extra = row.imported.as_ref().and_then(|fields| fields.get(name)?.as_str()).filter(|text| !text.is_empty());
        if let Some(extra) = extra {
            add(name, extra.to_owned());
        }
    }
    let children = reading.bead_children(&row.id, NAMED)?;
    for child in &children {
        add("part", about(reading, child)?);
    }
    Ok(text)
}
