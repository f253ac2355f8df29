//! `/gateway`: the way to the model. Everything that gives answers is a [`lakitu_kernel::ports::Gateway`]: HTTP in the
//! edges of the program, a script in [`script`]. What all of them share is here, without I/O: how a stream becomes an
//! answer ([`stream`]), what a refusal means ([`failure`]), when a call is made again ([`call`]).
//!
//! **Convention:** an empty [`Delta`](lakitu_kernel::ports::Delta) is a sign of life. An upstream sends one for data
//! that shows nothing (the answer's head, a piece of a call's arguments), so that deadlines see it; nobody else does.

pub mod call;
pub mod failure;
pub mod script;
pub mod sse;
pub mod stream;
pub mod validate;

mod assembly;
#[cfg(test)]
mod tests;
mod wire;

pub use call::{Deadlines, Retry, RetryPolicy, Route};
pub use script::{ScriptError, ScriptGateway};
pub use stream::{AnswerStream, BodyEnd, Progress};
