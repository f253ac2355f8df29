//! From a stream of bytes to lines of a bounded length.

/// A whole line, or the place where one was too long to keep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// Cuts a stream of bytes into lines, holding at most one line.
#[derive(Debug)]
pub(crate) struct Cutter {
    max: usize,
    held: Vec<u8>,
    /// In the middle of a line that is being thrown away.
    skipping: bool,
}

impl Cutter {
    /// For lines below `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, held: Vec::new(), skipping: false }
    }

    /// Takes what has arrived and adds the lines that it completes.
    pub(crate) fn take(&mut self, mut bytes: &[u8], lines: &mut Vec<Line>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
            bytes = rest;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.held.len() + line.len() >= self.max {
                self.held = Vec::new();
                lines.push(Line::TooLong);
                continue;
            }
            self.held.extend_from_slice(line);
            lines.push(Line::Whole(std::mem::take(&mut self.held)));
        }
        if self.skipping {
            return;
        }
        if self.held.len() + bytes.len() >= self.max {
            self.held = Vec::new();
            self.skipping = true;
            lines.push(Line::TooLong);
        } else {
            self.held.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1024;

    fn cut(cutter: &mut Cutter, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        cutter.take(bytes, &mut lines);
        lines
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let mut cutter = Cutter::new(MAX);
        assert_eq!(cut(&mut cutter, b"one\ntw"), [Line::Whole(b"one".to_vec())]);
        assert_eq!(cut(&mut cutter, b"o\n\nthree"), [Line::Whole(b"two".to_vec()), Line::Whole(Vec::new())]);
        assert_eq!(cut(&mut cutter, b"\n"), [Line::Whole(b"three".to_vec())]);
    }

    #[test]
    fn a_line_too_long_is_said_once_and_the_next_one_counts() {
        let mut cutter = Cutter::new(MAX);
        let chunk = vec![b'x'; MAX / 2];
        assert_eq!(cut(&mut cutter, &chunk), []);
        assert_eq!(cut(&mut cutter, &chunk), [Line::TooLong]);
        assert_eq!(cut(&mut cutter, &chunk), []);
        assert_eq!(cutter.held.capacity(), 0);
        assert_eq!(cut(&mut cutter, b"tail\nnext\n"), [Line::Whole(b"next".to_vec())]);
    }
}
