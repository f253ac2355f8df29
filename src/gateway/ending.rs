//! Whether a body that only the end of its connection ends came whole. Pure.
//!
//! Who asked gets it in chunks, whose end says that it is whole: a cut that the provider's side cannot tell from an end
//! would become an answer there, and a call in it would run.

/// What is kept of a line: the terminal is far shorter.
const LINE_BYTES_MAX: usize = 64;

/// Looks for the terminal of a stream in what passes.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// The beginning of the line that is under way.
    line: Vec<u8>,
    /// The first byte that is no white space.
    first: Option<u8>,
    done: bool,
}

impl Ending {
    /// A piece of the body passes.
    pub(super) fn pass(&mut self, piece: &[u8]) {
        if self.done {
            return;
        }
        self.first = self.first.or_else(|| piece.trim_ascii_start().first().copied());
        let mut lines = piece.split(|byte| matches!(byte, b'\n' | b'\r')).peekable();
        while let Some(line) = lines.next() {
            let room = LINE_BYTES_MAX - self.line.len();
            self.line.extend_from_slice(&line[..line.len().min(room)]);
            if lines.peek().is_some() {
                self.done |= is_terminal(&self.line);
                self.line.clear();
            }
        }
    }

    /// Whether the body tells its end itself: a stream by its terminal, JSON by its last bracket.
    pub(super) fn is_told(&self) -> bool {
        self.done || is_terminal(&self.line) || self.first == Some(b'{')
    }
}

fn is_terminal(line: &[u8]) -> bool {
    line.len() < LINE_BYTES_MAX && line.strip_prefix(b"data:").is_some_and(|data| data.trim_ascii() == b"[DONE]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_a_line_of_its_own_however_it_is_cut() {
        let long = format!("data: [DONE]{}x", " ".repeat(LINE_BYTES_MAX));
        for (body, told) in [
            ("data: {}\n\ndata: [DONE]\n\n", true),
            ("data: {}\r\rdata:[DONE]", true),
            ("data: [DONE] \r\n\r\ndata: behind\n\n", true),
            (" {\"choices\":[]}", true),
            ("data: {}\n\n", false),
            ("data: {\"content\":\"data: [DONE]\"}\n\n", false),
            ("data: {\"content\":\"\\ndata: [DONE]\\n\"}\n\ndata: [DON", false),
            (": data: [DONE]\n\n", false),
            (&*long, false),
            ("", false),
        ] {
            for size in 1..=body.len().max(1) {
                let mut ending = Ending::default();
                body.as_bytes().chunks(size).for_each(|piece| ending.pass(piece));
                assert_eq!(ending.is_told(), told, "{body:?} by {size}");
            }
        }
    }
}
