//! Edits as the socket and the command line show them, and how one is taken back.

use lakitu_kernel::edit::FileState;
use lakitu_kernel::{ErrorCode, ToolError, pathname};
use serde_json::{Value, json};

use super::Shared;
use super::protocol::{EditsDiff, EditsLs, EditsRollback, RpcError};
use super::rows::within;
use crate::store::{EditKey, EditRow, EditsBy, Key as _, Reading, Row as _, kept};
use crate::threads::Threads;
use crate::threads::put_back::RolledBack;
use crate::tools::file::unified;

/// Edits a page.
pub const EDITS_PAGE_MAX: usize = 100;

/// `edits.ls`: a page of edits, the newest first.
pub fn edits_ls(reading: &Reading, asked: EditsLs) -> Result<Value, ToolError> {
    let limit = within(asked.limit, 50, EDITS_PAGE_MAX)?;
    let by = EditsBy { thread: asked.thread, path: asked.path };
    let page = reading.edits_by(&by, limit, asked.cursor.as_deref())?;
    let items: Vec<Value> = page.items.iter().map(EditRow::json).collect();
    Ok(json!({ "items": items, "cursor": page.cursor, "commit": page.commit }))
}

/// `edits.diff`: what an edit changed. Where that is no UTF-8, `hex` holds its bytes, and `diff` a likeness.
pub fn edits_diff(reading: &Reading, asked: EditsDiff) -> Result<Value, ToolError> {
    let none = || {
        let id: String = asked.edit.chars().take(80).collect();
        ToolError::new(ErrorCode::InvalidArguments, format!("there is no edit {id}; `lakitu edits ls` lists them"))
    };
    let key = EditKey::from_text(&asked.edit).ok_or_else(none)?;
    let edit = reading.edit(&key)?.ok_or_else(none)?;
    let diff = diff(reading, &edit)?;
    let mut answer = json!({ "edit": edit.json(), "diff": String::from_utf8_lossy(&diff) });
    if std::str::from_utf8(&diff).is_err() {
        answer["hex"] = crate::store::hex(&diff).into();
    }
    Ok(answer)
}

/// A file of a list is looked at up to so many bytes before and after: a page is read within a second.
const LISTED_BYTES_MAX: u64 = 64 * 1024;

/// The diff of a row in a list, where its bytes were kept and are few.
pub(crate) fn listed_diff(reading: &Reading, id: &str) -> Option<String> {
    let edit = reading.edit(&EditKey::from_text(id)?).ok()??;
    let bytes: u64 = [edit.before, edit.after].into_iter().flatten().map(|state| state.bytes).sum();
    let diff = if bytes <= LISTED_BYTES_MAX { diff(reading, &edit).ok()? } else { return None };
    Some(String::from_utf8_lossy(&diff).into_owned())
}

fn diff(reading: &Reading, edit: &EditRow) -> Result<Vec<u8>, ToolError> {
    let side = |state: Option<FileState>| -> Result<_, ToolError> {
        let Some(state) = state else { return Ok(None) };
        let hash = kept(state).ok_or_else(|| {
            let message = format!("the bytes of {} were not kept with this edit; its hashes and sizes are", edit.path);
            ToolError::new(ErrorCode::InvalidArguments, message)
        })?;
        Ok(Some((state.kind, state.mode, reading.blob(hash)?)))
    };
    let (before, after) = (side(edit.before)?, side(edit.after)?);
    let workspace = reading.thread(edit.thread)?.map(|row| row.workspace);
    let path = pathname::path(&edit.path);
    let below = workspace.and_then(|workspace| path.strip_prefix(workspace).ok().map(std::path::Path::to_owned));
    let name = below.unwrap_or(path);
    Ok(unified(
        name.strip_prefix("/").unwrap_or(&name),
        before.as_ref().map(|(kind, mode, bytes)| (*kind, *mode, bytes.as_ref())),
        after.as_ref().map(|(kind, mode, bytes)| (*kind, *mode, bytes.as_ref())),
    ))
}

/// Takes an edit back.
///
/// # Errors
/// Those of [`Threads::rollback`].
pub async fn rollback(threads: &Threads, asked: &EditsRollback) -> Result<Value, ToolError> {
    let RolledBack { thread, edits, seq } = threads.rollback(&asked.edit, &asked.reason, asked.force).await?;
    let edits: Vec<Value> = edits.iter().map(EditRow::json).collect();
    Ok(json!({ "edit": edits.first(), "edits": edits, "thread": thread, "seq": seq }))
}

/// `edits.rollback`
pub(super) async fn on_socket(shared: &Shared, asked: EditsRollback) -> Result<Value, RpcError> {
    let wiring = shared.counter.get().and_then(|counter| counter.wiring.upgrade());
    let wiring = wiring.ok_or_else(|| RpcError::failed(ErrorCode::Unavailable, "the runtime is not up yet"))?;
    Ok(rollback(&Threads::new(wiring), &asked).await?)
}
