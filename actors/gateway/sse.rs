//! Server-sent events out of bytes that arrive in any pieces.

use std::mem;

/// One event is longer than was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a single server-sent event is over {limit} bytes")]
pub struct EventTooLong {
    /// The limit.
    pub limit: usize,
}

/// The parser: give it bytes, take the events' data. Comments, ids, names and retry times are passed over.
///
/// Works on bytes: a character split between two pieces is whole again before anybody looks at it.
#[derive(Debug, Clone)]
pub struct Sse {
    /// The line that is being read, without its end.
    line: Vec<u8>,
    /// The data of the event that is being read, its lines joined by `\n`.
    data: Vec<u8>,
    /// Whether the event has a data line yet: an empty one counts.
    has_data: bool,
    /// The last byte was a CR: an LF right behind it ends the same line.
    after_cr: bool,
    /// A byte order mark may only stand before everything else.
    at_start: bool,
    event_bytes_max: usize,
}

impl Sse {
    /// A parser that refuses an event longer than this.
    pub fn new(event_bytes_max: usize) -> Self {
        Self { line: Vec::new(), data: Vec::new(), has_data: false, after_cr: false, at_start: true, event_bytes_max }
    }

    /// Takes bytes in and appends the data of every event that they complete.
    pub fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Vec<u8>>) -> Result<(), EventTooLong> {
        while let Some(&first) = bytes.first() {
            if mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + self.data.len() + piece.len() > self.event_bytes_max {
                return Err(EventTooLong { limit: self.event_bytes_max });
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { break };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            events.extend(self.end_line());
        }
        Ok(())
    }

    /// The body ended: what the last event had so far, where it had data.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        // What is left of a line is a line; behind a finished one there is the blank that ends the event.
        self.end_line().or(self.has_data.then_some(self.data))
    }

    /// Takes the finished line in; a blank one ends the event.
    fn end_line(&mut self) -> Option<Vec<u8>> {
        let mut line = mem::take(&mut self.line);
        if mem::take(&mut self.at_start) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            return mem::take(&mut self.has_data).then(|| mem::take(&mut self.data));
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &[][..]),
        };
        if field == b"data" {
            if mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        // The buffer goes back, so that a stream of short lines allocates once.
        line.clear();
        self.line = line;
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let mut parser = Sse::new(1000);
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece, &mut events).unwrap();
        }
        events.into_iter().map(|event| String::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn lines_end_as_they_like_and_only_data_counts() {
        let rows: &[(&str, &[&str])] = &[
            ("data: a\n\n", &["a"]),
            ("data:a\r\n\r\n", &["a"]),
            ("data: a\r\rdata: b\n\r\n", &["a", "b"]),
            ("\u{feff}data: a\n\n\u{feff}data: lost\n\n", &["a"]),
            (": comment\n\ndata: a\ndata\ndata:  b\nid: 7\nevent: x\nretry: 1\n\n", &["a\n\n b"]),
            ("data\n\n", &[""]),
            ("data: unfinished\n", &[]),
            ("database: x\n\n\n\n", &[]),
        ];
        for (text, expected) in rows {
            assert_eq!(events(&[text.as_bytes()]), *expected, "{text:?}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(events(&bytes), *expected, "{text:?} byte by byte");
        }
    }

    #[test]
    fn an_event_at_the_limit_passes_and_one_past_it_is_refused() {
        for (size, fits) in [(1000 - 5, true), (1000 - 4, false)] {
            let mut parser = Sse::new(1000);
            let line = [b"data:".to_vec(), vec![b'x'; size], b"\n\n".to_vec()].concat();
            assert_eq!(parser.push(&line, &mut Vec::new()).is_ok(), fits, "{size}");
        }
        let mut parser = Sse::new(1000);
        let refused = (0..2000).any(|_| parser.push(b"x", &mut Vec::new()).is_err());
        assert!(refused, "a line without an end is bounded too");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "(data: ?[a-zä☃:]{0,5}|:x|\r|\n|\r\n){0,30}", cut in 1_usize..7) {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            prop_assert_eq!(events(&pieces), events(&[text.as_bytes()]));
        }
    }
}
