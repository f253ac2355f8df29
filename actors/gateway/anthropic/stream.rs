//! A Messages stream as a Chat Completions stream, event by event.

use lakitu_kernel::ports::ModelFailure;

/// Reads one response's server-sent events and writes them as `chat.completion.chunk`s.
#[derive(Debug, Clone)]
pub struct Translation {
    created: u64,
}

impl Translation {
    /// A translation of a stream that began at this time (seconds), which every chunk carries.
    pub fn new(created: u64) -> Self {
        Self { created }
    }

    /// Takes bytes of the body in and appends what they complete to `out`. After an error nothing more is to be pushed.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ModelFailure> {
        let _ = self.created;
        out.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether the answer is whole: `message_stop` came, and `[DONE]` was written.
    pub fn is_done(&self) -> bool {
        false
    }
}
