//! Makes room in a prompt that does not fit the model: old results of tools go out of it. They stay in the journal.

use bytes::Bytes;
use lakitu_kernel::chat;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::history::History;

/// What stands in the place of a result that was taken out.
const NOTE: &str =
    "[lakitu] This result was taken out of the prompt to make room. Call the tool again if it is still needed.";
/// A result is taken out where it is longer than this on the wire; else there is nothing to gain.
const WORTH_BYTES: usize = 400;
/// The newest results stay as long as they take no more than this part of the prompt.
const KEPT_PART: usize = 4;

#[derive(Deserialize)]
struct Message<'a> {
    role: &'a str,
    tool_call_id: Option<String>,
}

/// How many of the oldest results are to be taken out of this history, and how many bytes that saves. None: nothing
/// would be won.
pub(super) fn to_prune(history: &History) -> Option<(u32, u64)> {
    let messages = messages(history)?;
    let results: Vec<usize> =
        messages.iter().filter(|(_, call)| call.is_some()).map(|(raw, _)| raw.get().len()).collect();
    let keep = history.len() / KEPT_PART;
    let mut kept = 0;
    let newest = results.iter().rev().take_while(|bytes| {
        kept += **bytes;
        kept <= keep
    });
    let old = results.len() - newest.count();
    let saved: usize =
        results[..old].iter().filter(|bytes| **bytes > WORTH_BYTES).map(|bytes| bytes - NOTE.len()).sum();
    (saved > 0).then_some((u32::try_from(old).unwrap_or(u32::MAX), saved as u64))
}

/// The history with so many of its oldest results taken out. Every call keeps its result, and all other bytes stay.
pub(super) fn pruned(history: &History, results: u32) -> Option<History> {
    let mut left = results;
    let mut short = History::default();
    for (raw, call) in messages(history)? {
        match call {
            Some(call) if left > 0 => {
                left -= 1;
                short.push(if raw.get().len() > WORTH_BYTES { chat::tool(&call, NOTE) } else { with_comma(&raw) });
            }
            Some(_) | None => short.push(with_comma(&raw)),
        }
    }
    Some(short)
}

/// The messages as they stand on the wire, and of each result the call that it belongs to.
fn messages(history: &History) -> Option<Vec<(Box<RawValue>, Option<String>)>> {
    let mut array = history.pieces().concat();
    // Every message stands behind a comma; the first one's makes room for the bracket.
    *array.first_mut()? = b'[';
    array.push(b']');
    let raw: Vec<Box<RawValue>> = serde_json::from_slice(&array).ok()?;
    let call = |raw: Box<RawValue>| {
        let message: Message<'_> = serde_json::from_str(raw.get()).ok()?;
        let call = message.tool_call_id.filter(|_| message.role == "tool");
        Some((raw, call))
    };
    raw.into_iter().map(call).collect()
}

fn with_comma(raw: &RawValue) -> Bytes {
    Bytes::from([",", raw.get()].concat())
}

#[cfg(test)]
mod tests {
    use lakitu_kernel::event::Call;

    use super::*;

    fn history(results: &[usize]) -> History {
        let mut history = History::default();
        history.push(chat::user("do \u{1F600} it"));
        for (n, bytes) in results.iter().enumerate() {
            let call = Call { call_id: format!("c{n}"), tool: "bash".into(), arguments: "{}".into() };
            history.push(chat::assistant("", &[call], None));
            history.push(chat::tool(&format!("c{n}"), &"x".repeat(*bytes)));
        }
        history
    }

    fn text(history: &History) -> String {
        String::from_utf8(history.pieces().concat()).unwrap()
    }

    #[test]
    fn the_oldest_results_go_and_the_newest_quarter_of_the_prompt_stays() {
        let whole = history(&[5_000, 100, 5_000, 1_000, 1_000]);
        let (results, bytes) = to_prune(&whole).unwrap();
        assert_eq!(results, 3);
        let short = pruned(&whole, results).unwrap();
        // Each call has its result, two of them short now, and the short one between them as it was.
        assert_eq!(short.len() as u64 + bytes, whole.len() as u64 + 2 * (short_message() - NOTE.len()) as u64);
        assert_eq!(text(&short).matches("\"role\":\"tool\"").count(), 5);
        assert_eq!(text(&short).matches(NOTE).count(), 2);
        assert!(text(&short).contains(&"x".repeat(100)) && text(&short).contains(&"x".repeat(1_000)));
        // What was taken out is not taken out again.
        assert_eq!(pruned(&short, results), Some(short.clone()));
    }

    fn short_message() -> usize {
        chat::tool("c0", NOTE).len() - 1
    }

    #[test]
    fn one_result_that_is_most_of_the_prompt_goes_itself() {
        let whole = history(&[10, 100_000]);
        assert_eq!(to_prune(&whole).map(|(results, _)| results), Some(2));
        assert!(pruned(&whole, 2).unwrap().len() < 1_000);
    }

    #[test]
    fn where_there_is_nothing_to_win_nothing_is_done() {
        assert_eq!(to_prune(&History::default()), None);
        assert_eq!(to_prune(&history(&[])), None);
        assert_eq!(to_prune(&history(&[100, 100, 100])), None);
        let mut prompt = History::default();
        prompt.push(chat::user(&"x".repeat(100_000)));
        assert_eq!(to_prune(&prompt), None);
    }
}
