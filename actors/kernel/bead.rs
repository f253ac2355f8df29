//! Tasks of the durable task graph: their names, states and kinds.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A bead's name: letters, digits and `. _ - : @ +`, so that it needs no quoting in a path or a shell.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BeadId(String);

/// The longest name, in bytes.
const ID_BYTES_MAX: usize = 128;

/// No name of a bead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a bead's id: 1 to 128 letters, digits and . _ - : @ + are expected, as in `bd-a3f8`")]
pub struct NotABeadId;

impl BeadId {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BeadId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

impl FromStr for BeadId {
    type Err = NotABeadId;

    fn from_str(text: &str) -> Result<Self, NotABeadId> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@+".contains(&byte);
        let dots = text.bytes().all(|byte| byte == b'.');
        if text.len() <= ID_BYTES_MAX && text.bytes().all(fits) && !dots {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotABeadId)
        }
    }
}

impl Serialize for BeadId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BeadId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A word of a closed list, or one that another tool brought: it is kept as it came.
macro_rules! open_words {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $what:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $what])+ $variant,)+
            /// One that only its own tool knows.
            Other(String),
        }

        impl $name {
            /// As it is written.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Ok(Self::from(std::borrow::Cow::<'de, str>::deserialize(from)?.as_ref()))
            }
        }
    };
}

open_words! {
    /// What is being done about a bead.
    BeadStatus {
        /// Nobody works on it, and nothing keeps anybody from it.
        Open = "open",
        /// Somebody holds it.
        InProgress = "in_progress",
        /// It waits for other beads.
        Blocked = "blocked",
        /// It is done, or will not be done.
        Closed = "closed",
    }
}

open_words! {
    /// What kind of work a bead is.
    BeadType {
        /// Something to be done.
        Task = "task",
        /// Something that is wrong.
        Bug = "bug",
        /// Something new.
        Feature = "feature",
        /// Upkeep.
        Chore = "chore",
        /// A whole of several beads, its children.
        Epic = "epic",
    }
}

impl BeadStatus {
    /// Whether nobody waits for such a bead any more. `tombstone` is how the `bd` tool writes one that was deleted.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Other(word) => word == "tombstone",
            Self::Open | Self::InProgress | Self::Blocked => false,
        }
    }
}

/// What a call did to beads, as its event tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeadChange {
    /// Which one.
    pub id: BeadId,
    /// What it is now.
    pub status: BeadStatus,
    /// Those that wait no longer because of it, the first hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freed: Vec<BeadId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_word_of_bounded_length() {
        for good in ["bd-a3f8", "proj-12.1.3", "x", &"a".repeat(128)] {
            assert_eq!(good.parse::<BeadId>().map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for wrong in ["", "a b", "a/b", "..", "ä", "a\n", &"a".repeat(129)] {
            assert_eq!(wrong.parse::<BeadId>(), Err(NotABeadId), "{wrong:?}");
        }
    }

    #[test]
    fn a_word_that_is_not_known_is_kept() {
        assert_eq!(BeadStatus::from("in_progress"), BeadStatus::InProgress);
        assert_eq!(BeadStatus::from("hooked").as_str(), "hooked");
        assert!(BeadStatus::from("tombstone").is_done() && !BeadStatus::from("deferred").is_done());
    }
}
