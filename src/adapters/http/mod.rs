//! A model behind HTTP: the [`Gateway`] port on an [`Upstream`].

use std::sync::Arc;

use futures_util::stream::try_unfold;
use lakitu_actors::gateway::read;
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
    let framed = answering.framed();
    let body =
        try_unfold(answering, async |mut answering| Ok(answering.chunk().await?.map(|piece| (piece, answering))));
    let mut answer = read(body, framed, deltas).await?;
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

#[cfg(test)]
pub(crate) mod mock;
#[cfg(test)]
mod tests;
