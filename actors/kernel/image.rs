//! Images that a tool gives and the model sees: their bytes stand in the store's blobs, events name them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::hash::Hash;

/// The kinds of image that every provider takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaType {
    /// PNG
    #[serde(rename = "image/png")]
    Png,
    /// JPEG
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// GIF
    #[serde(rename = "image/gif")]
    Gif,
    /// WebP
    #[serde(rename = "image/webp")]
    Webp,
}

impl MediaType {
    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
        }
    }

    /// What a person calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Gif => "GIF",
            Self::Webp => "WebP",
        }
    }

    /// What a file is by its first bytes, whatever it is called.
    pub fn of(first: &[u8]) -> Option<Self> {
        match first {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            _ => None,
        }
    }
}

/// An image in an event: everything about it but its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// The blob that holds its bytes.
    pub hash: Hash,
    /// What it is.
    pub media_type: MediaType,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// The path that it was read from, as it is shown.
    pub name: String,
}

/// An image with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What an event says of it.
    pub about: ImageRef,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Image {
    /// The image of these bytes.
    pub fn new(bytes: impl Into<Bytes>, media_type: MediaType, (width, height): (u32, u32), name: String) -> Self {
        let bytes = bytes.into();
        let about = ImageRef { hash: Hash::of(&bytes), media_type, width, height, bytes: bytes.len() as u64, name };
        Self { about, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_its_first_bytes_and_written_as_it_is_called_on_the_wire() {
        let rows: [(&[u8], Option<MediaType>); 8] = [
            (b"\x89PNG\r\n\x1a\n", Some(MediaType::Png)),
            (b"\xff\xd8\xff\xe0", Some(MediaType::Jpeg)),
            (b"GIF87a", Some(MediaType::Gif)),
            (b"GIF89a", Some(MediaType::Gif)),
            (b"GIF88a", None),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some(MediaType::Webp)),
            (b"RIFF\0\0\0\0WAVEfmt ", None),
            (b"", None),
        ];
        for (first, kind) in rows {
            assert_eq!(MediaType::of(first), kind, "{first:?}");
            if let Some(kind) = kind {
                assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.as_str()));
            }
        }
    }
}
