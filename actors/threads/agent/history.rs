//! The messages of a thread as the bytes that go on the wire, in few pieces.

use bytes::{Bytes, BytesMut};
use lakitu_kernel::chat;
use lakitu_kernel::image::ImageRef;
use serde::{Deserialize, Serialize};

/// Wire bytes that only grow at the end. Pieces are merged as in a log-structured tree, so that a history of n bytes
/// has O(log n) of them between two images: a request clones pieces, not messages, and a byte is copied O(log n) times
/// in all. Of an image only the name stands here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Piece {
    Bytes(Bytes),
    Image(ImageRef),
}

impl History {
    /// Adds a message's bytes, or some of them.
    pub fn push(&mut self, chunk: Bytes) {
        self.pieces.push(Piece::Bytes(chunk));
        while let [.., Piece::Bytes(before), Piece::Bytes(last)] = self.pieces.as_slice() {
            if before.len() > 2 * last.len() {
                break;
            }
            let mut merged = BytesMut::with_capacity(before.len() + last.len());
            merged.extend_from_slice(before);
            merged.extend_from_slice(last);
            self.pieces.truncate(self.pieces.len() - 2);
            self.pieces.push(Piece::Bytes(merged.freeze()));
        }
    }

    /// Adds a user's message that shows images, each behind its name.
    pub fn show(&mut self, images: &[ImageRef]) {
        let parts = images.iter().flat_map(|image| {
            let name = chat::text_part(&format!("[lakitu] {}:", image.name));
            [Part::Text(name), Part::Image(image.clone())]
        });
        self.push_parts(parts);
    }

    /// Adds a user's message that is made of parts.
    pub(super) fn push_parts(&mut self, parts: impl IntoIterator<Item = Part>) {
        self.push(Bytes::from_static(chat::PARTS));
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                self.push(Bytes::from_static(b","));
            }
            match part {
                Part::Text(bytes) => self.push(bytes),
                Part::Image(image) => self.pieces.push(Piece::Image(image)),
            }
        }
        self.push(Bytes::from_static(chat::PARTS_END));
    }

    /// The images, first to last.
    pub fn images(&self) -> impl DoubleEndedIterator<Item = &ImageRef> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Image(image) => Some(image),
            Piece::Bytes(_) => None,
        })
    }

    /// What goes on the wire, in pieces; `part` gives an image's.
    pub fn body(&self, part: impl Fn(&ImageRef) -> Bytes) -> Vec<Bytes> {
        let bytes = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.clone(),
            Piece::Image(image) => part(image),
        };
        self.pieces.iter().map(bytes).collect()
    }

    /// How many bytes go on the wire, about.
    pub fn len(&self) -> usize {
        let len = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Image(image) => chat::image_part_len(image.bytes),
        };
        self.pieces.iter().map(len).sum()
    }

    /// Whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// A part of a user's message.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// Its bytes on the wire.
    Text(Bytes),
    /// An image.
    Image(ImageRef),
}

#[cfg(test)]
mod tests {
    use lakitu_kernel::image::{Image, MediaType};

    use super::*;

    fn never(_: &ImageRef) -> Bytes {
        unreachable!("there is no image")
    }

    #[test]
    fn ten_thousand_messages_are_few_pieces_and_no_byte_is_lost() {
        let mut history = History::default();
        let mut expected = Vec::new();
        for n in 0..10_000_u32 {
            let chunk = n.to_string().repeat(1 + n as usize % 7);
            expected.extend_from_slice(chunk.as_bytes());
            history.push(Bytes::from(chunk));
        }
        assert_eq!(history.body(never).concat(), expected);
        assert_eq!(history.len(), expected.len());
        assert!(history.body(never).len() <= 20, "{} pieces", history.pieces.len());
    }

    #[test]
    fn images_stand_in_one_message_and_what_comes_behind_them_does_not_change_them() {
        let image = |name: &str, bytes: &'static [u8]| Image::new(bytes, MediaType::Png, (1, 1), name.to_owned());
        let (one, two) = (image("a \"b\".png", b"one"), image("c.png", b"two"));
        let part = |about: &ImageRef| {
            let of = if *about == one.about { &one } else { &two };
            chat::image_part(about.media_type, &of.bytes)
        };
        let mut history = History::default();
        history.push(chat::user("go"));
        history.show(&[one.about.clone(), two.about.clone()]);
        let before = history.body(part).concat();
        assert_eq!(
            String::from_utf8(before.clone()).unwrap(),
            r#",{"role":"user","content":"go"},{"role":"user","content":[{"type":"text","text":"[lakitu] a \"b\".png:"},{"type":"image_url","image_url":{"url":"data:image/png;base64,b25l"}},{"type":"text","text":"[lakitu] c.png:"},{"type":"image_url","image_url":{"url":"data:image/png;base64,dHdv"}}]}"#
        );
        assert!(history.len().abs_diff(before.len()) < 20, "{} and {}", history.len(), before.len());
        (0..100).for_each(|_| history.push(chat::user("more")));
        assert!(history.body(part).concat().starts_with(&before));
        assert_eq!(history.images().count(), 2);
    }
}
