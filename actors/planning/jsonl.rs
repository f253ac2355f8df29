//! The lines of the `bd` tool's JSONL: read leniently, written so that nothing of what was read is lost.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::limits::BEAD_LINE_BYTES_MAX;
use lakitu_kernel::{BeadId, BeadStatus, BeadType, ThreadId};
use serde_json::{Map, Value, json};

use super::changes::PRIORITY;
use super::moment::Moment;
use crate::store::BeadRow;

/// One line, read.
pub(super) struct Record {
    pub(super) row: BeadRow,
    pub(super) updated: Moment,
}

type Fields = Map<String, Value>;

/// The bead of a line, or what is wrong with the line.
pub(super) fn parsed(line: &str) -> Result<Record, String> {
    if line.len() > BEAD_LINE_BYTES_MAX {
        return Err(format!("the line has {} bytes; at most {BEAD_LINE_BYTES_MAX} are taken", line.len()));
    }
    let value: Value = serde_json::from_str(line).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(fields) = value else { return Err("no JSON object".to_owned()) };
    let id = text(&fields, "id")?.ok_or("it has no id")?.parse::<BeadId>().map_err(|error| error.to_string())?;
    let title = text(&fields, "title")?.filter(|title| !title.trim().is_empty()).ok_or("it has no title")?;
    let (created, updated) = (time(&fields, "created_at")?, time(&fields, "updated_at")?);
    let updated = updated.or(created).ok_or("it has no updated_at")?;
    let priority = match fields.get("priority") {
        None | Some(Value::Null) => PRIORITY,
        Some(value) => {
            let priority =
                value.as_u64().and_then(|priority| u8::try_from(priority).ok()).filter(|number| *number <= 4);
            priority.ok_or_else(|| format!("priority is 0 to 4, not {value}"))?
        }
    };
    let (blocked_by, parent_id) = dependencies(&fields)?;
    let status = text(&fields, "status")?.filter(|word| !word.is_empty());
    let kind = text(&fields, "issue_type")?.filter(|word| !word.is_empty());
    let row = BeadRow {
        id,
        title: title.to_owned(),
        kind: kind.map_or(BeadType::Task, BeadType::from),
        status: status.map_or(BeadStatus::Open, BeadStatus::from),
        once_free: None,
        priority,
        thread_id: text(&fields, "thread_id")?.and_then(|id| id.parse::<ThreadId>().ok()),
        parent_id,
        blocked_by,
        description: text(&fields, "description")?.filter(|text| !text.is_empty()).map(str::to_owned),
        labels: labels(&fields)?,
        assignee: text(&fields, "assignee")?.filter(|text| !text.is_empty()).map(str::to_owned),
        created_at: created.unwrap_or(updated).timestamp(),
        updated_at: updated.timestamp(),
        closed_at: time(&fields, "closed_at")?.map(Moment::timestamp),
        close_reason: text(&fields, "close_reason")?.filter(|text| !text.is_empty()).map(str::to_owned),
        imported: Some(Value::Object(fields)),
    };
    Ok(Record { row, updated })
}

fn text<'a>(fields: &'a Fields, name: &str) -> Result<Option<&'a str>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} is no text")),
    }
}

fn time(fields: &Fields, name: &str) -> Result<Option<Moment>, String> {
    let Some(text) = text(fields, name)? else { return Ok(None) };
    Moment::parse(text).map(Some).ok_or_else(|| format!("{name} is no time: RFC 3339 is expected"))
}

fn list<'a>(fields: &'a Fields, name: &str) -> Result<&'a [Value], String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(format!("{name} is no list")),
    }
}

fn labels(fields: &Fields) -> Result<Vec<String>, String> {
    let label = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| "a label is no text".to_owned());
    list(fields, "labels")?.iter().map(label).collect()
}

/// What a dependency says: (type, the other bead). One whose target is no bead's name is kept, and means nothing here.
fn dependency(value: &Value) -> Option<(&str, BeadId)> {
    Some((value.get("type")?.as_str()?, value.get("depends_on_id")?.as_str()?.parse().ok()?))
}

fn dependencies(fields: &Fields) -> Result<(Vec<BeadId>, Option<BeadId>), String> {
    let (mut blocked_by, mut parent) = (Vec::new(), None);
    for value in list(fields, "dependencies")? {
        if !value.is_object() {
            return Err("a dependency is no object".to_owned());
        }
        match dependency(value) {
            Some(("blocks", id)) if !blocked_by.contains(&id) => blocked_by.push(id),
            Some(("parent-child", id)) => parent = parent.or(Some(id)),
            Some(_) | None => {}
        }
    }
    Ok((blocked_by, parent))
}

/// The text of the record that it came from, where that is the time that the row has.
fn as_imported(row: &BeadRow, name: &str, at: Timestamp) -> Option<(String, Moment)> {
    let text = row.imported.as_ref()?.get(name)?.as_str()?;
    let moment = Moment::parse(text)?;
    (moment.timestamp() == at).then(|| (text.to_owned(), moment))
}

/// When it was last changed, as exactly as that is known.
pub(super) fn moment(row: &BeadRow) -> Moment {
    let exact = ["updated_at", "created_at"].into_iter().find_map(|name| as_imported(row, name, row.updated_at));
    exact.map_or_else(|| Moment::from(row.updated_at), |(_, moment)| moment)
}

/// The bead as a line of the `bd` tool's JSONL.
pub fn exported(row: &BeadRow) -> Value {
    let mut fields = match &row.imported {
        Some(Value::Object(fields)) => fields.clone(),
        Some(_) | None => Map::new(),
    };
    let stamp = |name, at: Timestamp| as_imported(row, name, at).map_or_else(|| at.to_string(), |(text, _)| text);
    let dependencies = exported_dependencies(row, &fields);
    let optional = [
        ("description", row.description.clone().map(Value::from)),
        ("assignee", row.assignee.clone().map(Value::from)),
        ("closed_at", row.closed_at.map(|at| stamp("closed_at", at).into())),
        ("close_reason", row.close_reason.clone().map(Value::from)),
        ("labels", (!row.labels.is_empty()).then(|| json!(row.labels))),
        ("dependencies", (!dependencies.is_empty()).then_some(Value::Array(dependencies))),
        ("thread_id", row.thread_id.map(|id| id.to_string().into())),
    ];
    for (name, value) in optional {
        match value {
            Some(value) => drop(fields.insert(name.to_owned(), value)),
            None => drop(fields.remove(name)),
        }
    }
    let always = [
        ("id", Value::from(row.id.as_str())),
        ("title", row.title.as_str().into()),
        ("status", row.once_free.as_ref().unwrap_or(&row.status).as_str().into()),
        ("priority", row.priority.into()),
        ("issue_type", row.kind.as_str().into()),
        ("created_at", stamp("created_at", row.created_at).into()),
        ("updated_at", stamp("updated_at", row.updated_at).into()),
    ];
    fields.extend(always.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(fields)
}

fn exported_dependencies(row: &BeadRow, fields: &Fields) -> Vec<Value> {
    let known = list(fields, "dependencies").unwrap_or_default();
    let first_parent = known.iter().filter_map(dependency).find(|(kind, _)| *kind == "parent-child").map(|(_, id)| id);
    let same_parent = first_parent == row.parent_id;
    let stays = |value: &&Value| match dependency(value) {
        Some(("blocks", id)) => row.blocked_by.contains(&id),
        Some(("parent-child", _)) => same_parent,
        Some(_) | None => true,
    };
    let mut all: Vec<Value> = known.iter().filter(stays).cloned().collect();
    let mut add = |kind: &str, on: &BeadId| {
        all.push(json!({
            "issue_id": row.id, "depends_on_id": on, "type": kind, "created_at": row.updated_at.to_string(), "created_by": "lakitu",
        }));
    };
    let named: Vec<BeadId> =
        known.iter().filter_map(dependency).filter(|(kind, _)| *kind == "blocks").map(|(_, id)| id).collect();
    row.blocked_by.iter().filter(|id| !named.contains(id)).for_each(|id| add("blocks", id));
    if let Some(parent) = row.parent_id.as_ref().filter(|_| !same_parent) {
        add("parent-child", parent);
    }
    all
}
