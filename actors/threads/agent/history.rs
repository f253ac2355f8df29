//! The messages of a thread as the bytes that go on the wire, in few pieces.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Wire bytes that only grow at the end. Pieces are merged as in a log-structured tree, so that a history of n bytes
/// has O(log n) of them: a request clones pieces, not messages, and a byte is copied O(log n) times in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pieces: Vec<Bytes>,
}

impl History {
    /// Adds a message's bytes.
    pub fn push(&mut self, chunk: Bytes) {
        self.pieces.push(chunk);
        while let [.., before, last] = self.pieces.as_slice() {
            if before.len() > 2 * last.len() {
                break;
            }
            let mut merged = BytesMut::with_capacity(before.len() + last.len());
            merged.extend_from_slice(before);
            merged.extend_from_slice(last);
            self.pieces.truncate(self.pieces.len() - 2);
            self.pieces.push(merged.freeze());
        }
    }

    /// The pieces, first to last.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_messages_are_few_pieces_and_no_byte_is_lost() {
        let mut history = History::default();
        let mut expected = Vec::new();
        for n in 0..10_000_u32 {
            let chunk = n.to_string().repeat(1 + n as usize % 7);
            expected.extend_from_slice(chunk.as_bytes());
            history.push(Bytes::from(chunk));
        }
        assert_eq!(history.pieces().concat(), expected);
        assert_eq!(history.len(), expected.len());
        assert!(history.pieces().len() <= 20, "{} pieces", history.pieces().len());
    }
}
