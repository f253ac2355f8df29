//! Keys: bytes whose order is the order of what they stand for, and text for people.

use lakitu_kernel::{ArtifactId, CheckpointId, Hash, Seq, ThreadId};

/// A row's key.
pub trait Key: Clone + Ord + std::fmt::Debug + Send + Sync + 'static {
    /// Bytes that sort as the keys do.
    fn bytes(&self) -> Vec<u8>;
    /// Back from the bytes; nothing where they are none.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
    /// As people and `db get` write it.
    fn text(&self) -> String;
    /// Back from the text; nothing where it is none.
    fn from_text(text: &str) -> Option<Self>;
}

impl Key for ThreadId {
    fn bytes(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(ThreadId(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
    fn text(&self) -> String {
        self.to_string()
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Key for Hash {
    fn bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Hash(bytes.try_into().ok()?))
    }
    fn text(&self) -> String {
        self.to_string()
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

macro_rules! number_keys {
    ($($number:ty),+) => {$(
        impl Key for $number {
            fn bytes(&self) -> Vec<u8> {
                self.to_be_bytes().to_vec()
            }
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Some(<$number>::from_be_bytes(bytes.try_into().ok()?))
            }
            fn text(&self) -> String {
                self.to_string()
            }
            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )+};
}

number_keys!(u32, u64, u128);

impl Key for Seq {
    fn bytes(&self) -> Vec<u8> {
        self.0.bytes()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        u64::from_bytes(bytes).map(Seq)
    }
    fn text(&self) -> String {
        self.0.text()
    }
    fn from_text(text: &str) -> Option<Self> {
        u64::from_text(text).map(Seq)
    }
}

/// What is named by a thread and a position in its journal stands behind that thread, in that order.
macro_rules! place_key {
    ($($place:ident),+) => {$(
        impl Key for $place {
            fn bytes(&self) -> Vec<u8> {
                (self.thread, self.seq).bytes()
            }
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                let (thread, seq) = <(ThreadId, Seq)>::from_bytes(bytes)?;
                Some(Self { thread, seq })
            }
            fn text(&self) -> String {
                self.to_string()
            }
            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )+};
}

place_key!(ArtifactId, CheckpointId);

impl Key for String {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
    fn text(&self) -> String {
        self.clone()
    }
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// The key of a table's only row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Only;

impl Key for Only {
    fn bytes(&self) -> Vec<u8> {
        vec![0]
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes == [0]).then_some(Only)
    }
    fn text(&self) -> String {
        "store".to_owned()
    }
    fn from_text(text: &str) -> Option<Self> {
        (text == "store").then_some(Only)
    }
}

/// The length of a key that stands in front of another one.
pub trait FixedKey: Key {
    /// In bytes.
    const LEN: usize;
}

impl FixedKey for ThreadId {
    const LEN: usize = 16;
}
impl FixedKey for u64 {
    const LEN: usize = 8;
}
impl FixedKey for Seq {
    const LEN: usize = 8;
}

impl<A: FixedKey, B: Key> Key for (A, B) {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.bytes();
        bytes.extend(self.1.bytes());
        bytes
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (a, b) = bytes.split_at_checked(A::LEN)?;
        Some((A::from_bytes(a)?, B::from_bytes(b)?))
    }
    fn text(&self) -> String {
        format!("{}/{}", self.0.text(), self.1.text())
    }
    fn from_text(text: &str) -> Option<Self> {
        let (a, b) = text.split_once('/')?;
        Some((A::from_text(a)?, B::from_text(b)?))
    }
}

/// The first key behind all that begin with `prefix`; nothing where there is none.
pub(crate) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=kept)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_as_their_bytes_and_read_back(a: (u128, u64), b: (u128, u64)) {
            let key = |(thread, seq)| (ThreadId(thread), Seq(seq));
            let (a, b) = (key(a), key(b));
            prop_assert_eq!(a.cmp(&b), a.bytes().cmp(&b.bytes()));
            prop_assert_eq!(Key::from_bytes(&a.bytes()), Some(a));
            prop_assert_eq!(Key::from_text(&a.text()), Some(a));
        }
    }

    #[test]
    fn nothing_is_behind_the_last_prefix() {
        assert_eq!(behind(&[1, 255]), Some(vec![2]));
        assert_eq!(behind(&[255, 255]), None);
    }
}
