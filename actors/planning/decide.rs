//! What follows from a change: the rows that it writes, or why it cannot be.

use std::collections::BTreeSet;

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::limits::{BEAD_BLOCKERS_MAX, BEADS_MAX};
use lakitu_kernel::{BeadId, BeadStatus, BeadType, ErrorCode, Hash, ThreadId, ToolError};

use super::changes::{self, BeadPatch, Change, ImportLine, NewBead, PRIORITY, invalid};
use super::{cycle, jsonl};
use crate::store::{BeadRow, StoreError};

/// The beads as they are.
pub(crate) trait Graph {
    /// One of them.
    fn bead(&self, id: &BeadId) -> Result<Option<BeadRow>, StoreError>;
    /// Those that wait for it, done or not.
    fn waiting_for(&self, id: &BeadId) -> Result<Vec<BeadId>, StoreError>;
    /// Of those that it waits for, the first that are there and not done.
    fn open_blockers(&self, bead: &BeadRow, limit: usize) -> Result<Vec<BeadId>, StoreError>;
    /// How many there are.
    fn count(&self) -> Result<u64, StoreError>;
}

/// Who asks, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// Who holds what they claim.
    pub(crate) name: &'a str,
    /// The thread, if it is one.
    pub(crate) thread: Option<ThreadId>,
    /// Now.
    pub(crate) at: Timestamp,
    /// What the names of new beads are made from: different for each change.
    pub(crate) seed: Hash,
}

/// Why nothing comes of a change.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It cannot be: whoever asked is told.
    Refused(ToolError),
    /// The beads could not be read.
    Failed(StoreError),
}

impl From<ToolError> for Stop {
    fn from(error: ToolError) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// What comes of a change of one bead.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decided {
    /// The bead as it is then.
    pub(crate) row: BeadRow,
    /// It, if it changed, and others that are blocked or freed by it.
    pub(crate) puts: Vec<BeadRow>,
    /// Those that wait no longer.
    pub(crate) freed: Vec<BeadId>,
}

/// What comes of a line of an import.
#[derive(Debug)]
pub(crate) enum Merged {
    /// It is new here.
    Created(Decided),
    /// It is newer than what is here.
    Updated(Decided),
    /// It is not newer: what is here stays.
    Kept,
}

/// What follows from a change of one bead. An import is decided line by line: [`merge`].
pub(crate) fn decide(graph: &impl Graph, caller: Caller<'_>, change: &Change) -> Result<Decided, Stop> {
    match change {
        Change::Create(new) => create(graph, caller, new),
        Change::Update { id, patch } => update(graph, caller, id, patch),
        Change::Depend { id, add, remove } => {
            let (bead, add, remove) = (found(graph, id)?, changes::ids(add)?, changes::ids(remove)?);
            let stays = bead.blocked_by.iter().filter(|id| !remove.contains(id));
            let added = add.iter().filter(|id| !bead.blocked_by.contains(id));
            let blocked_by = stays.chain(added).map(BeadId::to_string).collect();
            update(graph, caller, id, &BeadPatch { blocked_by: Some(blocked_by), ..BeadPatch::default() })
        }
        Change::Import(_) => Err(invalid("an import is no change of one bead").into()),
    }
}

fn not_found(id: &BeadId) -> ToolError {
    ToolError::new(ErrorCode::BeadNotFound, format!("there is no bead {id}; beads_list names those that there are"))
}

fn found(graph: &impl Graph, id: &str) -> Result<BeadRow, Stop> {
    let id = changes::id(id)?;
    Ok(graph.bead(&id)?.ok_or_else(|| not_found(&id))?)
}

fn existing(graph: &impl Graph, id: BeadId) -> Result<BeadId, Stop> {
    if graph.bead(&id)?.is_some() { Ok(id) } else { Err(not_found(&id).into()) }
}

fn create(graph: &impl Graph, caller: Caller<'_>, new: &NewBead) -> Result<Decided, Stop> {
    room(graph)?;
    let title = changes::title(&new.title)?;
    let parent_id = match new.parent_id.as_deref().map(str::trim).filter(|id| !id.is_empty()) {
        Some(parent) => Some(existing(graph, changes::id(parent)?)?),
        None => None,
    };
    let blocked_by = changes::ids(&new.blocked_by)?;
    for id in &blocked_by {
        existing(graph, id.clone())?;
    }
    let row = BeadRow {
        id: free_id(graph, caller.seed)?,
        title,
        kind: new.kind.as_deref().map_or(Ok(BeadType::Task), changes::kind)?,
        status: BeadStatus::Open,
        once_free: None,
        priority: changes::priority(new.priority.unwrap_or(PRIORITY))?,
        thread_id: caller.thread,
        parent_id,
        blocked_by,
        description: new.description.as_deref().map_or(Ok(None), |text| changes::prose("description", text))?,
        labels: changes::labels(&new.labels)?,
        assignee: None,
        created_at: caller.at,
        updated_at: caller.at,
        closed_at: None,
        close_reason: None,
        imported: None,
    };
    // Nobody waits for a name that is new, so there is no ring.
    let row = placed(graph, row)?;
    Ok(Decided { puts: vec![row.clone()], row, freed: Vec::new() })
}

fn room(graph: &impl Graph) -> Result<(), Stop> {
    if graph.count()? < BEADS_MAX {
        return Ok(());
    }
    Err(invalid(format!("there are {BEADS_MAX} beads, which is as many as there can be: go on with those")).into())
}

/// A name that nobody has and nobody waits for: as short as it can be.
fn free_id(graph: &impl Graph, seed: Hash) -> Result<BeadId, Stop> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digits: String = seed.0.iter().map(|byte| char::from(DIGITS[usize::from(*byte) % 36])).collect();
    for length in 4..=digits.len() {
        let id: BeadId = format!("bd-{}", &digits[..length]).parse().map_err(|error| invalid(format!("{error}")))?;
        if graph.bead(&id)?.is_none() && graph.waiting_for(&id)?.is_empty() {
            return Ok(id);
        }
    }
    Err(ToolError::new(ErrorCode::Internal, "no name is free for a new bead").into())
}

fn update(graph: &impl Graph, caller: Caller<'_>, id: &str, patch: &BeadPatch) -> Result<Decided, Stop> {
    let before = found(graph, id)?;
    let mut row = before.clone();
    if let Some(title) = &patch.title {
        row.title = changes::title(title)?;
    }
    if let Some(kind) = &patch.kind {
        row.kind = changes::kind(kind)?;
    }
    if let Some(priority) = patch.priority {
        row.priority = changes::priority(priority)?;
    }
    if let Some(text) = &patch.description {
        row.description = changes::prose("description", text)?;
    }
    if let Some(labels) = &patch.labels {
        row.labels = changes::labels(labels)?;
    }
    if let Some(parent) = &patch.parent_id {
        row.parent_id = if parent.trim().is_empty() { None } else { Some(existing(graph, changes::id(parent)?)?) };
        no_ring_of_parents(graph, &row)?;
    }
    if let Some(blocked_by) = &patch.blocked_by {
        row.blocked_by = changes::ids(blocked_by)?;
        for id in row.blocked_by.iter().filter(|id| !before.blocked_by.contains(id)) {
            existing(graph, id.clone())?;
        }
        no_ring(graph, &row)?;
    }
    let status = patch.status.as_deref().map(changes::status).transpose()?;
    let reason = patch.reason.as_deref().map_or(Ok(None), |text| changes::prose("reason", text))?;
    if let Some(status) = status {
        row = moved(graph, caller, row, &status)?;
    }
    if reason.is_some() {
        if !row.status.is_done() {
            let message = "a reason is that of a closed bead: give it with the status closed";
            return Err(ToolError::new(ErrorCode::Conflict, message).into());
        }
        row.close_reason = reason;
    }
    let mut row = placed(graph, row)?;
    if row == before {
        return Ok(Decided { row, puts: Vec::new(), freed: Vec::new() });
    }
    // Newer than what it was, whatever the clock says: an import goes by that.
    row.updated_at = caller.at.max(Timestamp(before.updated_at.0.saturating_add(1)));
    rippled(graph, row, before.status.is_done())
}

/// The bead, brought into a state.
fn moved(graph: &impl Graph, caller: Caller<'_>, mut row: BeadRow, status: &BeadStatus) -> Result<BeadRow, Stop> {
    let asked = row.once_free.take().unwrap_or_else(|| row.status.clone());
    let opened = |row: BeadRow| BeadRow { closed_at: None, close_reason: None, ..row };
    match status {
        BeadStatus::Open => Ok(BeadRow { status: BeadStatus::Open, assignee: None, ..opened(row) }),
        BeadStatus::Closed if asked.is_done() => Ok(BeadRow { status: asked, ..row }),
        BeadStatus::Closed => Ok(BeadRow { status: BeadStatus::Closed, closed_at: Some(caller.at), ..row }),
        BeadStatus::InProgress => {
            if let Some(holder) = row.assignee.as_deref().filter(|holder| *holder != caller.name)
                && asked == BeadStatus::InProgress
            {
                let message = format!(
                    "{} is held by {holder}; take another from beads_ready, or set it to open first if nobody works on it",
                    row.id
                );
                return Err(ToolError::new(ErrorCode::BeadHeld, message).into());
            }
            if asked.is_done() {
                let message = format!("{} is {asked}; set it to open first if there is more to do", row.id);
                return Err(ToolError::new(ErrorCode::BeadHeld, message).into());
            }
            let open = graph.open_blockers(&row, BLOCKERS_NAMED)?;
            if !open.is_empty() {
                let message = format!("{} waits for {}; do that first", row.id, names(&open));
                return Err(ToolError::new(ErrorCode::BeadBlocked, message).into());
            }
            Ok(BeadRow { status: BeadStatus::InProgress, assignee: Some(caller.name.to_owned()), ..opened(row) })
        }
        BeadStatus::Blocked | BeadStatus::Other(_) => {
            if graph.open_blockers(&row, 1)?.is_empty() {
                let message = "a bead is blocked as long as it waits for an open one: say which in blocked_by";
                return Err(invalid(message).into());
            }
            let status = if asked.is_done() { BeadStatus::Open } else { asked };
            Ok(BeadRow { status, ..opened(row) })
        }
    }
}

/// Open blockers that a message names.
pub(crate) const BLOCKERS_NAMED: usize = 10;

fn names(ids: &[BeadId]) -> String {
    ids.iter().map(BeadId::as_str).collect::<Vec<_>>().join(", ")
}

/// The bead with the status that agrees with what it waits for.
fn placed(graph: &impl Graph, row: BeadRow) -> Result<BeadRow, StoreError> {
    let waits = !graph.open_blockers(&row, 1)?.is_empty();
    Ok(agreeing(row, waits))
}

fn agreeing(row: BeadRow, waits: bool) -> BeadRow {
    let asked = row.once_free.clone().unwrap_or_else(|| row.status.clone());
    let can_wait = match asked {
        BeadStatus::Open | BeadStatus::InProgress | BeadStatus::Blocked => true,
        BeadStatus::Closed | BeadStatus::Other(_) => false,
    };
    if waits && can_wait {
        BeadRow { status: BeadStatus::Blocked, once_free: Some(asked), ..row }
    } else {
        BeadRow { status: asked, once_free: None, ..row }
    }
}

/// The bead and those whose waiting ends or begins with it.
fn rippled(graph: &impl Graph, row: BeadRow, was_done: bool) -> Result<Decided, Stop> {
    let (mut puts, mut freed) = (Vec::new(), Vec::new());
    let is_done = row.status.is_done();
    if was_done != is_done {
        for id in graph.waiting_for(&row.id)? {
            let Some(mut other) = graph.bead(&id)? else { continue };
            let waits = if is_done {
                // It is still open in the graph.
                let named = std::mem::take(&mut other.blocked_by);
                let others = named.iter().filter(|id| **id != row.id).cloned().collect();
                other.blocked_by = others;
                let waits = !graph.open_blockers(&other, 1)?.is_empty();
                other.blocked_by = named;
                waits
            } else {
                true
            };
            let after = agreeing(other.clone(), waits);
            if after.status != other.status || after.once_free != other.once_free {
                if other.status == BeadStatus::Blocked {
                    freed.push(id);
                }
                puts.push(after);
            }
        }
    }
    puts.push(row.clone());
    Ok(Decided { row, puts, freed })
}

/// Whether the bead would wait for itself.
fn no_ring(graph: &impl Graph, row: &BeadRow) -> Result<(), Stop> {
    // No ring goes through a bead that nobody waits for.
    if !row.blocked_by.contains(&row.id) && graph.waiting_for(&row.id)?.is_empty() {
        return Ok(());
    }
    let next = |id: &BeadId| Ok::<_, StoreError>(graph.bead(id)?.map_or_else(Vec::new, |bead| bead.blocked_by));
    ring(row, &row.blocked_by, next, "would wait for itself")
}

/// Whether the bead would be a part of itself.
fn no_ring_of_parents(graph: &impl Graph, row: &BeadRow) -> Result<(), Stop> {
    let parents = |bead: &BeadRow| bead.parent_id.iter().cloned().collect::<Vec<_>>();
    let next = |id: &BeadId| Ok::<_, StoreError>(graph.bead(id)?.map_or_else(Vec::new, |bead| parents(&bead)));
    ring(row, &parents(row), next, "would be a part of itself")
}

fn ring(
    row: &BeadRow,
    from: &[BeadId],
    next: impl FnMut(&BeadId) -> Result<Vec<BeadId>, StoreError>,
    what: &str,
) -> Result<(), Stop> {
    let Some(mut way) = cycle::way(from, &row.id, next)? else { return Ok(()) };
    way.insert(0, row.id.clone());
    let message = format!("{} {what}: {}; nothing was changed", row.id, cycle::shown(&way));
    Err(ToolError::new(ErrorCode::BeadCycle, message).into())
}

/// What follows from a line of an import.
pub(crate) fn merge(graph: &impl Graph, line: &ImportLine) -> Result<Merged, Stop> {
    let record = jsonl::parsed(&line.text).map_err(invalid)?;
    let known = graph.bead(&record.row.id)?;
    if known.as_ref().is_some_and(|known| jsonl::moment(known) >= record.updated) {
        return Ok(Merged::Kept);
    }
    if known.is_none() {
        room(graph)?;
    }
    let thread_id = record.row.thread_id.or(known.as_ref().and_then(|known| known.thread_id));
    let row = BeadRow { thread_id, ..record.row };
    let distinct: BTreeSet<_> = row.blocked_by.iter().collect();
    if distinct.len() > BEAD_BLOCKERS_MAX {
        return Err(
            invalid(format!("it waits for {} others, at most {BEAD_BLOCKERS_MAX} are taken", distinct.len())).into()
        );
    }
    no_ring(graph, &row)?;
    no_ring_of_parents(graph, &row)?;
    // Nobody waits for one that is not there.
    let was_done = known.as_ref().is_none_or(|known| known.status.is_done());
    let decided = rippled(graph, placed(graph, row)?, was_done)?;
    Ok(if known.is_some() { Merged::Updated(decided) } else { Merged::Created(decided) })
}
