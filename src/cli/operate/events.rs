//! A thread's event as one line for a person.

use serde_json::Value;

use super::printable;
use super::table;
use super::threads::text;

/// Characters of an event's text that are shown.
const TEXT_MAX: usize = 100;

/// Seq, time, type, and what is most worth seeing of it. Of a type that is not known here: all of it, shortened.
pub(super) fn line(event: &Value) -> String {
    let kind = text(&event["type"]);
    let at = text(&event["at"]);
    // The day is the same for most of a thread's life.
    let time = at.get(11..19).unwrap_or(&at);
    let shown = table::cut(&printable(&gist(&kind, event)), TEXT_MAX);
    format!("{:>5}  {}  {:<19}  {shown}", text(&event["seq"]), printable(time), printable(&kind)).trim_end().to_owned()
}

fn gist(kind: &str, event: &Value) -> String {
    let field = |name: &str| text(&event[name]);
    match kind {
        "thread.started" => {
            format!("{} in {}", text(&event["settings"]["model"]), text(&event["settings"]["workspace"]))
        }
        "thread.resumed" => field("why"),
        "prompt" => field("text"),
        "message" => message(event),
        "tool.intent" => format!("{} {}", field("tool"), field("arguments")),
        // Why first: the arguments may be cut.
        "approval.asked" => format!("{} ({}) {}", field("tool"), field("reason"), field("arguments")),
        "approval.answered" => {
            format!("{} {}", field("call_id"), if event["allow"] == true { "allowed" } else { "not allowed" })
        }
        "edit.restoring" | "tool.prepared" => paths(event),
        "edit.recorded" => format!("{} {}", paths(event), optional(&event["left_out"])).trim().to_owned(),
        "tool.restarted" => format!("{} start {}", field("call_id"), field("start")),
        "tool.result" => {
            let took = table::duration(event["duration_ms"].as_u64().unwrap_or(0));
            let how = if event["ok"] == true { "ok" } else { "failed" };
            format!("{how} in {took}: {}", field("output"))
        }
        "decision" => field("reasoning"),
        "history.repaired" | "stalled" => field("reason"),
        "usage" => format!("{} in, {} out, {}", field("input_tokens"), field("output_tokens"), field("model")),
        "thread.completed" | "thread.cancelled" => String::new(),
        "thread.failed" | "edit.restored" => error(&event["error"]),
        "thread.checkpointed" => format!("{} {}", field("reason"), error(&event["error"])),
        _ => rest(event),
    }
}

fn paths(event: &Value) -> String {
    let files = event["files"].as_array().into_iter().flatten();
    files.map(|file| text(&file["path"])).collect::<Vec<_>>().join(", ")
}

fn optional(field: &Value) -> String {
    if field.is_null() { String::new() } else { text(field) }
}

fn message(event: &Value) -> String {
    let calls: Vec<String> = event["calls"].as_array().into_iter().flatten().map(|call| text(&call["tool"])).collect();
    let said = text(&event["text"]);
    match (said.is_empty(), calls.is_empty()) {
        (_, true) => said,
        (true, false) => format!("calls {}", calls.join(", ")),
        // The calls first: the text may be cut.
        (false, false) => format!("calls {}; {said}", calls.join(", ")),
    }
}

fn error(error: &Value) -> String {
    if error.is_null() { String::new() } else { format!("{}: {}", text(&error["code"]), text(&error["message"])) }
}

fn rest(event: &Value) -> String {
    let mut rest = event.clone();
    if let Some(fields) = rest.as_object_mut() {
        for known in ["seq", "thread", "at", "type"] {
            fields.remove(known);
        }
    }
    rest.to_string()
}
