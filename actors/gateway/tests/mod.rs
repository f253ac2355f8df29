//! The upstreams' common ground, by rows.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "what a test keeps for itself needs no owner")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lakitu_kernel::chat::ModelRequest;
use lakitu_kernel::clock::Randomness;
use lakitu_kernel::ports::{Delta, DeltaSink};
use lakitu_kernel::{ThreadId, Turn};
use tokio::sync::mpsc;

mod actor;
mod assembly;
mod breaker;
mod call;
mod fallback;
mod read;
mod script;
mod stream;

/// A sink whose deltas can be read.
fn sink() -> (DeltaSink, mpsc::UnboundedReceiver<Delta>) {
    let (send, receive) = mpsc::unbounded_channel();
    (Arc::new(move |delta| drop(send.send(delta))), receive)
}

/// A sink that keeps nothing.
fn no_sink() -> DeltaSink {
    Arc::new(|_| {})
}

/// The text of all deltas so far.
fn shown(deltas: &mut mpsc::UnboundedReceiver<Delta>) -> String {
    let mut text = String::new();
    while let Ok(Delta::Text(piece) | Delta::Thinking(piece)) = deltas.try_recv() {
        text.push_str(&piece);
    }
    text
}

/// A request for this turn, with these messages.
fn request(turn: u32, messages: &serde_json::Value) -> ModelRequest {
    let body = serde_json::json!({"model": "m", "messages": messages}).to_string();
    // In two pieces, as real ones are.
    let (head, tail) = body.split_at(body.len() / 2);
    let body = vec![Bytes::copy_from_slice(head.as_bytes()), Bytes::copy_from_slice(tail.as_bytes())];
    ModelRequest { thread: ThreadId(7), turn: Turn(turn), model: "m".into(), body }
}

/// Randomness that counts up in large steps.
struct Steps(AtomicU64);

impl Randomness for Steps {
    fn u128(&self) -> u128 {
        u128::from(self.0.fetch_add(0x3000_0000_0000_0000, Ordering::Relaxed))
    }
}
