//! What the socket can be asked about beads, and what the command line asks of the file where nobody owns it.

use lakitu_kernel::limits::BEADS_PER_QUERY_MAX;
use lakitu_kernel::{BeadId, BeadStatus, BeadType, ErrorCode, ToolError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Shared;
use super::protocol::RpcError;
use super::rows::{Answer, within};
use super::runs::wiring;
use crate::planning::{self, Beads, Change, Done, exported};
use crate::store::{BeadRow, BeadsBy, Page, Reading, Row as _, StoreError};
use crate::wiring::Wiring;

/// Of `beads.ls`: the newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeadsLs {
    /// Only those in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<BeadStatus>,
    /// Only those of this kind.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<BeadType>,
    /// At most so many: 1 to 100, default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Of `beads.ready`: the most urgent first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeadsReady {
    /// At most so many: 1 to 100, default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Of `beads.show`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeadsShow {
    /// The bead.
    pub id: String,
}

/// Of `beads.export`: a page of the `bd` tool's records, by id.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeadsExport {
    /// Where the page before ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<BeadId>,
}

/// Of `beads.change`. Answered with the bead, or with what came of an import, once that is durable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeadsChange {
    /// Who holds what is claimed.
    pub by: String,
    /// What is to be done.
    pub change: Change,
}

/// Who somebody can be, in characters.
const NAME_CHARS_MAX: usize = 200;
/// What a page of an export holds, in bytes, before its last record.
const PAGE_BYTES: usize = 256 * 1024;

/// A bead as it is shown, with how far its children are.
pub fn shown(reading: &Reading, row: &BeadRow) -> Result<Value, StoreError> {
    let mut json = row.json();
    let progress = reading.bead_progress(&row.id)?;
    if progress.total > 0 {
        json["progress"] = json!(progress);
    }
    Ok(json)
}

fn page(reading: &Reading, page: &Page<BeadRow>) -> Answer {
    let items = page.items.iter().map(|row| shown(reading, row)).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "items": items, "cursor": page.cursor, "commit": page.commit }))
}

/// `beads.ls`
pub fn ls(reading: &Reading, asked: BeadsLs) -> Answer {
    let limit = within(asked.limit, 50, BEADS_PER_QUERY_MAX)?;
    let by = BeadsBy { status: asked.status, kind: asked.kind };
    page(reading, &reading.beads_by(&by, limit, asked.cursor.as_deref())?)
}

/// `beads.ready`
pub fn ready(reading: &Reading, asked: BeadsReady) -> Answer {
    let limit = within(asked.limit, 10, BEADS_PER_QUERY_MAX)?;
    page(reading, &reading.beads_ready(limit, asked.cursor.as_deref())?)
}

/// `beads.show`: a bead with what it blocks and its parts.
pub fn show(reading: &Reading, asked: BeadsShow) -> Answer {
    let id = planning::bead_id(&asked.id)?;
    let missing = || ToolError::new(ErrorCode::BeadNotFound, format!("there is no bead {id}"));
    let row = reading.bead(&id)?.ok_or_else(missing)?;
    let mut json = shown(reading, &row)?;
    let mut blocks = reading.beads_waiting_for(&id)?;
    blocks.truncate(BEADS_PER_QUERY_MAX);
    json["blocks"] = json!(blocks);
    json["waitsFor"] = json!(reading.beads_waited_for(&row, BEADS_PER_QUERY_MAX)?);
    let children = reading.bead_children(&id, BEADS_PER_QUERY_MAX)?;
    json["children"] = children.iter().map(|child| shown(reading, child)).collect::<Result<Value, _>>()?;
    Ok(json)
}

/// `beads.export`
pub fn export(reading: &Reading, asked: BeadsExport) -> Answer {
    let (mut items, mut bytes, mut last) = (Vec::new(), 0, asked.cursor);
    // One at a time: a record may be large, and a page has to fit into a line.
    let cursor = loop {
        let Some(row) = reading.beads_after(last.as_ref(), 1)?.pop() else { break None };
        let item = exported(&row);
        bytes += item.to_string().len();
        items.push(item);
        last = Some(row.id);
        if bytes >= PAGE_BYTES {
            break last;
        }
    };
    Ok(json!({ "items": items, "cursor": cursor, "commit": reading.commit()? }))
}

/// `beads.change` on the socket.
pub(super) async fn on_socket(shared: &Shared, asked: BeadsChange) -> Result<Value, RpcError> {
    Ok(change(&*wiring(shared)?, asked).await?)
}

/// Changes beads for a person.
pub async fn change(wiring: &Wiring, asked: BeadsChange) -> Answer {
    let BeadsChange { by, change } = asked;
    if by.trim().is_empty() || by.chars().count() > NAME_CHARS_MAX || by.chars().any(char::is_control) {
        let message = format!("`by` is a name of 1 to {NAME_CHARS_MAX} characters");
        return Err(ToolError::new(ErrorCode::InvalidArguments, message));
    }
    let beads = Beads { store: &wiring.store, clock: &*wiring.clock, randomness: &*wiring.randomness, by };
    match beads.ask(change).await? {
        Done::Imported(imported) => Ok(json!({ "imported": imported })),
        Done::Bead(changed) => {
            let id = changed.id.clone();
            let bead = wiring.store.read(move |reading| reading.bead(&id)?.map(|row| shown(reading, &row)).transpose());
            Ok(json!({ "bead": bead.await.map_err(ToolError::from)?, "changed": changed }))
        }
    }
}
