//! A model behind HTTP: the [`Gateway`] port on an [`Upstream`].

use std::sync::Arc;
use std::time::Duration;

use lakitu_actors::gateway::{AnswerStream, BodyEnd, Progress};
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::clock::Clock;
use lakitu_kernel::ports::{BoxFuture, Delta, DeltaSink, FailureClass, Gateway, ModelFailure};
use lakitu_kernel::{ErrorCode, ToolError};

use self::discreet::Discreet;
use super::secret::{Redactor, Secret, TokenSource};

mod answering;
mod connection;
mod discreet;
mod dns;
mod error;
mod refresh;
mod session;
mod upstream;

pub use answering::Answering;
pub use upstream::{Call, Dialect, Refusal, Upstream};

/// Whether a token says that it is a session's for a Lakitu gateway: only those are ever replaced.
pub(super) fn is_session(token: &Secret) -> bool {
    session::Life::of(token).is_some()
}

/// How long the end of a body is waited for when the answer is complete, so that its connection can be used again.
const BODY_END_DEADLINE: Duration = Duration::from_millis(20);

/// The port's outer side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpGateway {
    upstream: Upstream,
}

impl HttpGateway {
    /// An `OpenAI`-compatible server at this base URL, with or without a trailing `/v1`. Connects to nothing yet.
    pub fn new(base: &str, token: TokenSource, clock: Arc<dyn Clock>) -> Result<Self, ToolError> {
        Ok(Self { upstream: Upstream::new(base, Dialect::OpenAi, token, clock)? })
    }
}

impl From<Upstream> for HttpGateway {
    fn from(upstream: Upstream) -> Self {
        Self { upstream }
    }
}

impl Gateway for HttpGateway {
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let upstream = self.upstream.clone();
        Box::pin(async move {
            let call = Call { idempotency_key: Some(request.idempotency_key()), body: request.body };
            let mut answering = upstream.call(call).await?;
            let redactor = answering.redactor();
            let outcome = told(answering, deltas, &redactor).await;
            outcome.map_err(|mut failure| {
                redactor.redact(&mut failure.error.message);
                failure
            })
        })
    }
}

/// An answer without the key, should the other side say it aloud. What is not text cannot be changed: a call with other
/// arguments would be another call, and signed reasoning would be refused. Such an answer is none.
async fn told(answering: Answering, deltas: DeltaSink, redactor: &Redactor) -> Result<ModelAnswer, ModelFailure> {
    let redactor = Arc::new(redactor.clone().for_answers());
    let discreet = Arc::new(Discreet::new(redactor.clone(), deltas));
    let shown = discreet.clone();
    let deltas: DeltaSink = Arc::new(move |delta| shown.show(delta));
    // The head is a sign of life.
    deltas(Delta::Text(String::new()));
    let mut answer = read(answering, deltas).await?;
    discreet.end();
    let calls = answer.calls.iter().flat_map(|call| [&call.id, &call.name, &call.arguments]);
    let opaque = answer.opaque.as_ref().map(ToString::to_string);
    if calls.chain(&opaque).chain(&answer.model).any(|text| redactor.finds(text)) {
        let error = ToolError::new(ErrorCode::GatewayRejected, "the answer quotes the key that it was asked with");
        return Err(ModelFailure { class: FailureClass::Refused, error });
    }
    redactor.redact(&mut answer.text);
    Ok(answer)
}

async fn read(mut answering: Answering, deltas: DeltaSink) -> Result<ModelAnswer, ModelFailure> {
    let mut answer = AnswerStream::new(Arc::clone(&deltas));
    loop {
        match answering.chunk().await? {
            Some(piece) => match answer.push(&piece)? {
                Progress::Data => deltas(Delta::Text(String::new())),
                Progress::Nothing => {}
                Progress::Done => break,
            },
            None => return answer.end(if answering.framed() { BodyEnd::Framed } else { BodyEnd::Closed }),
        }
    }
    if answering.framed() {
        let end = async {
            while let Ok(Some(piece)) = answering.chunk().await
                && answer.push(&piece).is_ok()
            {}
        };
        let _ = tokio::time::timeout(BODY_END_DEADLINE, end).await;
    }
    answer.end(BodyEnd::Closed)
}

#[cfg(test)]
pub(crate) mod mock;
#[cfg(test)]
mod tests;
