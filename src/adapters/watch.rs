//! A watch over what passes piece by piece, for a secret that must not pass with it. Pure.

use bytes::Bytes;
use memchr::memmem;

use super::secret::{SECRET_BYTES_MIN, begun};

/// Looks for one secret as it is. What holds none of it passes at once.
#[derive(Default)]
pub struct Watch {
    secret: Vec<u8>,
    /// The end of what came, where the secret may begin.
    held: Bytes,
}

/// The secret stands in what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted;

impl std::fmt::Debug for Watch {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("***")
    }
}

impl Watch {
    /// For this secret; for none where it is a word.
    pub(super) fn over(secret: &str) -> Self {
        let secret = if secret.len() < SECRET_BYTES_MIN { "" } else { secret };
        Self { secret: secret.as_bytes().to_vec(), held: Bytes::new() }
    }

    /// Whether it stands in this text.
    pub fn finds(&self, text: &[u8]) -> bool {
        !self.secret.is_empty() && memmem::find(text, &self.secret).is_some()
    }

    /// What may pass now that this piece came: all of it but an end that the secret may begin with.
    pub fn pass(&mut self, piece: Bytes) -> Result<Bytes, Quoted> {
        if self.secret.is_empty() {
            return Ok(piece);
        }
        let held = self.rest();
        let mut piece = if held.is_empty() { piece } else { Bytes::from([&held[..], &piece[..]].concat()) };
        if self.finds(&piece) {
            return Err(Quoted);
        }
        self.held = piece.split_off(piece.len() - begun(&piece, &self.secret));
        Ok(piece)
    }

    /// What was held back, once nothing more comes.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-sk-0123456789";

    #[test]
    fn a_secret_is_found_however_it_is_cut_and_none_of_it_passes() {
        let text = format!("a sk- sk-sk-01 {SECRET} b");
        for size in 1..text.len() {
            let mut watch = Watch::over(SECRET);
            let mut passed = Vec::new();
            let found = text.as_bytes().chunks(size).any(|piece| match watch.pass(Bytes::copy_from_slice(piece)) {
                Ok(piece) => {
                    passed.extend_from_slice(&piece);
                    false
                }
                Err(Quoted) => true,
            });
            assert!(found && text.as_bytes().starts_with(&passed), "{size}");
            assert!(passed.len() <= "a sk- sk-sk-01 ".len(), "{size}");
        }
    }

    #[test]
    fn what_holds_no_secret_passes_at_once_but_for_an_end_that_may_be_its_beginning() {
        let mut watch = Watch::over(SECRET);
        for (piece, passes) in [
            ("data: 1\n\n", "data: 1\n\n"),
            ("data: s", "data: "),
            ("o\n\n", "so\n\n"),
            ("", ""),
            ("sk-sk-", ""),
            ("sk-sk-01", "sk-sk-"),
            ("2x", "sk-sk-012x"),
            ("sk-sk-012345678", ""),
        ] {
            assert_eq!(watch.pass(Bytes::from(piece)).unwrap(), passes, "{piece}");
        }
        assert_eq!((watch.rest(), watch.rest()), (Bytes::from("sk-sk-012345678"), Bytes::new()));
    }

    #[test]
    fn a_short_secret_is_not_looked_for() {
        for secret in ["", "ollama", "fifteen-bytes-x"] {
            let mut watch = Watch::over(secret);
            assert_eq!(watch.pass(Bytes::from(secret)).unwrap(), secret);
            assert!(!watch.finds(b"fifteen-bytes-x ollama"));
        }
        assert!(Watch::over(SECRET).finds(format!("x{SECRET}").as_bytes()));
    }
}
