//! Traits through which the actors reach something foreign, so that a test can put something else there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::chat::{ModelAnswer, ModelRequest};
use crate::clock::Timestamp;
use crate::error::ToolError;

/// A future that a port returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A piece of an answer while it arrives. Progress for a person, never a fact: only the whole answer counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// What the model says.
    Text(String),
    /// What it thinks.
    Thinking(String),
}

/// Takes deltas; must not wait.
pub type DeltaSink = Arc<dyn Fn(Delta) + Send + Sync>;

/// What to do about a failed model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// Make the call again, not before `after` where the other side named a time.
    Retry {
        /// What `Retry-After` asked for.
        after: Option<Duration>,
    },
    /// The other side answers, but not for this model now: as [`Retry`](Self::Retry), and where that goes on the next of the
    /// fallback models is asked.
    Overloaded {
        /// What `Retry-After` asked for.
        after: Option<Duration>,
    },
    /// An answer came, so it may be paid for, and it makes no sense: as [`Retry`](Self::Retry), but only a few times.
    Senseless,
    /// The model said nothing: make the call again once, then tell the model once, then give up with the thread checkpointed.
    Empty,
    /// The credentials were refused: read the token again once, then give up with the thread checkpointed.
    Credentials,
    /// The request does not fit the model: make room, then give up with the thread checkpointed.
    TooLong,
    /// This model cannot be had here: the next of the fallback models is asked, then the thread is checkpointed.
    FallBack,
    /// What was to be spent is spent (a session's budget, an account's credit): the thread is checkpointed.
    OverBudget,
    /// No repetition helps, and it is not the thread's fault: the thread is checkpointed.
    Refused,
    /// No repetition helps, and the thread cannot go on: it fails.
    Fatal,
}

/// A model call that gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct ModelFailure {
    /// What to do about it.
    pub class: FailureClass,
    /// What to say about it. Holds no credentials.
    pub error: ToolError,
}

/// One attempt to get an answer from a model. Deadlines, retries and credentials' refresh are the caller's.
pub trait Gateway: Send + Sync {
    /// Makes the call. Dropping the future cancels it upstream. An answer is whole: a stream that was cut before its
    /// terminal event is a failure, whatever had arrived.
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>>;

    /// Why nothing can be asked here at all; none: it can. Nothing is begun where it cannot.
    fn missing(&self) -> Option<ToolError> {
        None
    }

    /// Called when a run came to its end: an upstream that expects more (a script with turns left over) says so.
    fn finish(&self) -> Result<(), ToolError> {
        Ok(())
    }
}

/// Who asks, as a token says that was believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's own name: no two tokens share one.
    pub token: String,
    /// Whom it was made for.
    pub subject: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it ends.
    pub expires: Timestamp,
}

/// Why a token is not believed. Holds nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Disbelief {
    /// Whether it was believed once: a new one helps.
    pub expired: bool,
    /// What is wrong with it.
    pub why: String,
}

/// Says which tokens are believed. Must not wait.
pub trait Authority: Send + Sync {
    /// Who sent it.
    fn verify(&self, token: &str) -> Result<Caller, Disbelief>;
}
