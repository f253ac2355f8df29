//! Makes room in a prompt that does not fit the model: old results of tools and old images go out of it. They stay in the
//! journal.

use bytes::Bytes;
use lakitu_kernel::chat;
use lakitu_kernel::image::ImageRef;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::history::{History, Part};

/// What stands in the place of a result that was taken out.
const NOTE: &str =
    "[lakitu] This result was taken out of the prompt to make room. Call the tool again if it is still needed.";
/// What stands in the place of an image that was taken out.
const NO_ROOM: &str =
    "[lakitu] The image was taken out of the prompt to make room. Read it again if it is still needed.";
/// The same, where the request was refused with the image in it.
const REFUSED: &str = "[lakitu] The image was taken out of the prompt: the model's server refused the request with it. \
                       Reading it again does not help.";
/// A result is taken out where it is longer than this on the wire; else there is nothing to gain.
const WORTH_BYTES: usize = 400;
/// The newest results stay as long as they take no more than this part of the prompt's text.
const KEPT_PART: usize = 4;

/// What is taken out of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pruning {
    /// So many of the oldest results, where they are long.
    pub(super) results: u32,
    /// So many of the oldest images.
    pub(super) images: u32,
    /// What that saves, in bytes.
    pub(super) bytes: u64,
}

/// What is to be taken out of this history, so that it fits. None: nothing would be won.
pub(super) fn to_prune(history: &History) -> Option<Pruning> {
    let messages = messages(history)?;
    let results: Vec<usize> = messages
        .iter()
        .filter(|message| matches!(message.kind, Kind::Result(_)))
        .map(|message| message.raw.get().len())
        .collect();
    let images: Vec<usize> = history.images().map(|image| chat::image_part_len(image.bytes)).collect();
    let keep = history.len().saturating_sub(images.iter().sum()) / KEPT_PART;
    let mut kept = 0;
    let newest = results.iter().rev().take_while(|bytes| {
        kept += **bytes;
        kept <= keep
    });
    let old = results.len() - newest.count();
    let of_results: usize =
        results[..old].iter().filter(|bytes| **bytes > WORTH_BYTES).map(|bytes| bytes - NOTE.len()).sum();
    // The newest image is most likely what the model is about to look at.
    let old_images = images.len().saturating_sub(usize::from(of_results > 0 || images.len() > 1));
    let of_images: usize = images[..old_images].iter().sum();
    let bytes = of_results + of_images;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let old = if of_results > 0 { old } else { 0 };
    (bytes > 0).then(|| Pruning { results: count(old), images: count(old_images), bytes: bytes as u64 })
}

/// The same where a request was refused that shows images: all of them. None: it shows none.
pub(super) fn images_to_prune(history: &History) -> Option<Pruning> {
    let (mut images, mut bytes) = (0, 0);
    for image in history.images() {
        images += 1;
        bytes += chat::image_part_len(image.bytes) as u64;
    }
    (images > 0).then_some(Pruning { results: 0, images, bytes })
}

/// The history with so many of its oldest results and images taken out. Every call keeps its result, and all other bytes
/// stay.
pub(super) fn pruned(history: &History, results: u32, images: u32, refused: bool) -> Option<History> {
    let (mut results, mut images) = (results, images);
    let shown: Vec<&ImageRef> = history.images().collect();
    let mut short = History::default();
    for Message { raw, kind } in messages(history)? {
        match kind {
            Kind::Result(call) if results > 0 => {
                results -= 1;
                short.push(if raw.get().len() > WORTH_BYTES { chat::tool(&call, NOTE) } else { with_comma(&raw) });
            }
            Kind::Shows(parts) => short.push_parts(parts.into_iter().filter_map(|part| match part {
                Shown::Part(bytes) => Some(Part::Text(bytes)),
                Shown::Image(_) if images > 0 => {
                    images -= 1;
                    Some(Part::Text(chat::text_part(if refused { REFUSED } else { NO_ROOM })))
                }
                Shown::Image(index) => shown.get(index).map(|image| Part::Image((*image).clone())),
            })),
            Kind::Result(_) | Kind::Other => short.push(with_comma(&raw)),
        }
    }
    Some(short)
}

/// A message as it stands on the wire, an image in it as its number.
struct Message {
    raw: Box<RawValue>,
    kind: Kind,
}

enum Kind {
    /// The result of this call.
    Result(String),
    /// A user's message with images in it.
    Shows(Vec<Shown>),
    Other,
}

enum Shown {
    Part(Bytes),
    /// By its place among all images.
    Image(usize),
}

#[derive(Deserialize)]
struct Head<'a> {
    role: &'a str,
    tool_call_id: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// What stands for an image while messages are taken apart. No part of a message is like it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StandIn {
    image: usize,
}

fn messages(history: &History) -> Option<Vec<Message>> {
    let number = std::cell::Cell::new(0);
    let stand_in = |_: &ImageRef| Bytes::from(format!("{{\"image\":{}}}", number.replace(number.get() + 1)));
    let mut array = history.body(stand_in).concat();
    // Every message stands behind a comma; the first one's makes room for the bracket.
    *array.first_mut()? = b'[';
    array.push(b']');
    let raw: Vec<Box<RawValue>> = serde_json::from_slice(&array).ok()?;
    raw.into_iter().map(|raw| kind(&raw).map(|kind| Message { raw, kind })).collect()
}

fn kind(raw: &RawValue) -> Option<Kind> {
    let head: Head<'_> = serde_json::from_str(raw.get()).ok()?;
    Some(match (head.role, head.tool_call_id, head.content) {
        ("tool", Some(call), _) => Kind::Result(call),
        ("user", _, Some(content)) if content.get().starts_with('[') => {
            let parts: Vec<&RawValue> = serde_json::from_str(content.get()).ok()?;
            let part = |part: &RawValue| match serde_json::from_str::<StandIn>(part.get()) {
                Ok(StandIn { image }) => Shown::Image(image),
                Err(_) => Shown::Part(Bytes::copy_from_slice(part.get().as_bytes())),
            };
            Kind::Shows(parts.into_iter().map(part).collect())
        }
        _ => Kind::Other,
    })
}

fn with_comma(raw: &RawValue) -> Bytes {
    Bytes::from([",", raw.get()].concat())
}

#[cfg(test)]
mod tests {
    use lakitu_kernel::event::Call;
    use lakitu_kernel::image::{Image, MediaType};

    use super::*;

    fn history(results: &[usize]) -> History {
        let mut history = History::default();
        history.push(chat::user("do \u{1F600} it"));
        for (n, bytes) in results.iter().enumerate() {
            let call = Call { call_id: format!("c{n}"), tool: "bash".into(), arguments: "{}".into() };
            history.push(chat::assistant("", &[call], None));
            history.push(chat::tool(&format!("c{n}"), &"x".repeat(*bytes)));
        }
        history
    }

    fn text(history: &History) -> String {
        let body = history.body(|image| Bytes::from(format!("\"{}\"", image.name)));
        String::from_utf8(body.concat()).unwrap()
    }

    fn image(name: &str, bytes: usize) -> ImageRef {
        Image::new(vec![b'x'; bytes], MediaType::Png, (1, 1), name.to_owned()).about
    }

    #[test]
    fn the_oldest_results_go_and_the_newest_quarter_of_the_prompt_stays() {
        let whole = history(&[5_000, 100, 5_000, 1_000, 1_000]);
        let Pruning { results, images, bytes } = to_prune(&whole).unwrap();
        assert_eq!((results, images), (3, 0));
        let short = pruned(&whole, results, 0, false).unwrap();
        // Each call has its result, two of them short now, and the short one between them as it was.
        assert_eq!(short.len() as u64 + bytes, whole.len() as u64 + 2 * (short_message() - NOTE.len()) as u64);
        assert_eq!(text(&short).matches("\"role\":\"tool\"").count(), 5);
        assert_eq!(text(&short).matches(NOTE).count(), 2);
        assert!(text(&short).contains(&"x".repeat(100)) && text(&short).contains(&"x".repeat(1_000)));
        // What was taken out is not taken out again.
        assert_eq!(pruned(&short, results, 0, false), Some(short.clone()));
    }

    fn short_message() -> usize {
        chat::tool("c0", NOTE).len() - 1
    }

    #[test]
    fn one_result_that_is_most_of_the_prompt_goes_itself() {
        let whole = history(&[10, 100_000]);
        assert_eq!(to_prune(&whole).map(|pruning| pruning.results), Some(2));
        assert!(pruned(&whole, 2, 0, false).unwrap().len() < 1_000);
    }

    #[test]
    fn where_there_is_nothing_to_win_nothing_is_done() {
        assert_eq!(to_prune(&History::default()), None);
        assert_eq!(to_prune(&history(&[])), None);
        assert_eq!(to_prune(&history(&[100, 100, 100])), None);
        let mut prompt = History::default();
        prompt.push(chat::user(&"x".repeat(100_000)));
        assert_eq!(to_prune(&prompt), None);
    }

    #[test]
    fn old_images_go_and_the_newest_stays_until_nothing_else_can() {
        let mut whole = history(&[100]);
        whole.show(&[image("a", 3_000), image("b", 3_000)]);
        whole.push(chat::user("and {\"image\":0} too"));
        whole.show(&[image("c", 3_000)]);
        let pruning = to_prune(&whole).unwrap();
        assert_eq!((pruning.results, pruning.images), (0, 2));
        assert!(pruning.bytes > 8_000);
        let short = pruned(&whole, 0, 2, false).unwrap();
        assert_eq!(short.images().map(|image| image.name.as_str()).collect::<Vec<_>>(), ["c"]);
        // All else stands where it stood, byte for byte.
        let part = format!("{{\"type\":\"text\",\"text\":\"{NO_ROOM}\"}}");
        assert_eq!(text(&short), text(&whole).replace("\"a\"", &part).replace("\"b\"", &part));
        let pruning = to_prune(&short).unwrap();
        assert_eq!((pruning.results, pruning.images), (0, 1));
        assert_eq!(pruned(&short, 0, 1, false).unwrap().images().count(), 0);
    }

    #[test]
    fn what_a_server_refused_goes_all_at_once_and_says_so() {
        let mut whole = history(&[5_000]);
        assert_eq!(images_to_prune(&whole), None);
        whole.show(&[image("a", 10), image("b", 10)]);
        let pruning = images_to_prune(&whole).unwrap();
        assert_eq!((pruning.results, pruning.images), (0, 2));
        let short = pruned(&whole, 0, 2, true).unwrap();
        assert_eq!(text(&short).matches("Reading it again does not help").count(), 2);
        assert!(text(&short).contains(&"x".repeat(5_000)));
    }
}
