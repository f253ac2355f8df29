//! Usage that the gateway asked for itself, taken out of a stream whose asker did not. Pure.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A longer event is nothing that is looked for, and passes.
const EVENT_BYTES_MAX: usize = 64 * 1024;

/// Passes every event but those that hold usage alone. An event is passed on when it is whole.
#[derive(Debug, Default)]
pub(super) struct Unasked {
    /// The beginning of an event.
    begun: Vec<u8>,
}

#[derive(Deserialize)]
struct Chunk {
    choices: Vec<IgnoredAny>,
    usage: Option<IgnoredAny>,
}

impl Unasked {
    /// What may pass now that this piece came.
    pub(super) fn pass(&mut self, piece: &[u8]) -> Bytes {
        self.begun.extend_from_slice(piece);
        let mut passed = Vec::new();
        while let Some(end) = end_of_event(&self.begun) {
            let event: Vec<u8> = self.begun.drain(..end).collect();
            if !is_usage_alone(&event) {
                passed.extend(event);
            }
        }
        if self.begun.len() > EVENT_BYTES_MAX {
            passed.append(&mut self.begun);
        }
        passed.into()
    }

    /// What was held back, once nothing more comes.
    pub(super) fn rest(&mut self) -> Bytes {
        let rest = std::mem::take(&mut self.begun);
        if is_usage_alone(&rest) { Bytes::new() } else { rest.into() }
    }
}

/// Where the first event ends: behind its empty line.
fn end_of_event(bytes: &[u8]) -> Option<usize> {
    let ends = [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"];
    ends.iter().filter_map(|end| Some(memchr::memmem::find(bytes, end)? + end.len())).min()
}

fn is_usage_alone(event: &[u8]) -> bool {
    let data = event.trim_ascii().strip_prefix(b"data:");
    let chunk = data.and_then(|data| serde_json::from_slice::<Chunk>(data.trim_ascii()).ok());
    chunk.is_some_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_alone_is_left_out_however_it_is_cut_and_nothing_else() {
        let long = format!(": {}\n\n", "x".repeat(2 * EVENT_BYTES_MAX));
        let said = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}],\"usage\":null}\n\n";
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}";
        let other = "data: {\"choices\":[],\"usage\":null}\r\n\r\n: hm\n\n";
        let done = "data: [DONE]\n\n";
        let rows = [
            (format!("{said}{usage}\n\n{other}{done}"), format!("{said}{other}{done}")),
            (format!("{long}{usage}\r\n\r\n{done}"), format!("{long}{done}")),
            (format!("{said}{usage}"), said.to_owned()),
            ("data: [DON".to_owned(), "data: [DON".to_owned()),
        ];
        for (told, passed) in rows {
            for size in [1, 2, 7, 1000, 1_000_000] {
                if told.len() / size > 10_000 {
                    continue;
                }
                let mut unasked = Unasked::default();
                let mut seen: Vec<u8> = told.as_bytes().chunks(size).flat_map(|piece| unasked.pass(piece)).collect();
                seen.extend(unasked.rest());
                assert!(seen == passed.as_bytes(), "{size}: {}", String::from_utf8_lossy(&seen));
            }
        }
    }

    #[test]
    fn a_whole_event_passes_at_once() {
        let mut unasked = Unasked::default();
        assert_eq!(unasked.pass(b"data: {}\n\ndata: "), "data: {}\n\n");
        assert_eq!(unasked.pass(b"1\n\n"), "data: 1\n\n");
    }
}
