//! Anthropic Messages for a side that speaks OpenAI Chat Completions: requests one way, answers the other. Pure: bytes
//! in, bytes out.
//!
//! **Invariant:** apart from cache marks, the translation of a longer conversation begins with the translation of its
//! beginning. So what the provider cached of one turn is found again in the next.
//! **Invariant:** thinking goes back as it came, byte for byte, or not at all: a signature covers it.
//! **Invariant:** `[DONE]` is written behind `message_stop` alone, and the finish reason with it: a stream that was cut
//! translates to a stream that was cut.

mod blocks;
mod history;
mod limits;
mod marks;
mod options;
mod request;
mod response;
mod stream;
#[cfg(test)]
mod tests;
mod tools;
mod wire;

pub use limits::{MAX_TOKENS_DEFAULT, OutputLimits};
pub use request::{request, wants_stream};
pub use response::{error, response};
pub use stream::Translation;

/// The value of the header `anthropic-version`.
pub const VERSION: &str = "2023-06-01";

/// How thinking of Anthropic is named among the `reasoning_details` of a message. Of every other kind nothing is sent:
/// signatures of others are refused.
const THINKING_FORMAT: &str = "anthropic-claude-v1";
