//! A model that is waited for whatever keeps it away, a token that is missing or not believed included.

use std::sync::Arc;

use lakitu_kernel::ToolError;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::ports::{BoxFuture, DeltaSink, FailureClass, Gateway, ModelFailure};

/// Nobody sits in front of an `up` who could give it a token and say `resume`: whoever replaces the token file is
/// noticed by asking again.
pub(super) struct Patient(pub(super) Arc<dyn Gateway>);

impl Gateway for Patient {
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let answer = self.0.complete(request, deltas);
        Box::pin(async move {
            answer.await.map_err(|failure| match failure.class {
                FailureClass::Credentials => ModelFailure { class: FailureClass::Retry { after: None }, ..failure },
                FailureClass::Retry { .. }
                | FailureClass::Overloaded { .. }
                | FailureClass::Senseless
                | FailureClass::Empty
                | FailureClass::TooLong
                | FailureClass::FallBack
                | FailureClass::OverBudget
                | FailureClass::Refused
                | FailureClass::Fatal => failure,
            })
        })
    }

    fn missing(&self) -> Option<ToolError> {
        self.0.missing()
    }

    fn finish(&self) -> Result<(), ToolError> {
        self.0.finish()
    }
}
