//! What Lakitu's actors speak: errors, ids, events, the wire to the model, tools, ports, configuration, supervision.
//!
//! Nothing here does I/O but [`supervise`], and nothing here knows an actor. Start with [`event`]: a thread is its events.

pub mod artifact;
pub mod bead;
pub mod chat;
pub mod clock;
pub mod config;
mod confine;
pub mod crash;
pub mod edit;
mod edits;
pub mod error;
pub mod event;
pub mod hash;
pub mod id;
pub mod image;
pub mod limits;
pub mod mode;
pub mod pathname;
pub mod places;
pub mod planted;
pub mod policy;
pub mod ports;
mod price;
pub mod supervise;
pub mod tool;

pub use bead::{BeadId, BeadStatus, BeadType};
pub use error::{ErrorCode, ToolError};
pub use event::{Event, EventBody, LiveEvent};
pub use hash::Hash;
pub use id::{Seq, ThreadId, Turn};
pub use places::{ArtifactId, CheckpointId};
