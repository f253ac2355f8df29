//! The body of an answer while it comes, as Chat Completions whatever the provider speaks.

use bytes::Bytes;
use lakitu_actors::gateway::anthropic::{self, Translation};
use lakitu_actors::gateway::failure::{cut, protocol};
use lakitu_actors::gateway::stream::ANSWER_BYTES_MAX;
use lakitu_kernel::ports::ModelFailure;
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::super::secret::{Redactor, Secret};
use super::super::watch::Watch;
use super::error;

/// What comes, and so what is made of it.
pub(super) enum Form {
    /// Chat Completions: it passes through.
    Same,
    /// A stream of Anthropic Messages.
    Stream(Box<Translation>),
    /// A whole Messages response, made at this second; none any more once it was given.
    Whole(Option<u64>),
}

impl Form {
    /// A stream that begins at this second.
    pub(super) fn stream(created: u64) -> Self {
        Self::Stream(Box::new(Translation::new(created)))
    }

    /// A response in one piece.
    pub(super) fn whole(created: u64) -> Self {
        Self::Whole(Some(created))
    }
}

/// An answer with status 200, whose body is about to come.
pub struct Answering {
    response: Response,
    form: Form,
    redactor: Redactor,
    watch: Watch,
}

impl Answering {
    pub(super) fn new(response: Response, form: Form, key: Option<&Secret>) -> Self {
        let (redactor, watch) = (key.map(Secret::redactor), key.map(Secret::watch));
        Self { response, form, redactor: redactor.unwrap_or_default(), watch: watch.unwrap_or_default() }
    }

    /// Takes the key out of what is told of this answer.
    pub fn redactor(&mut self) -> Redactor {
        std::mem::take(&mut self.redactor)
    }

    /// Looks for the key in what is passed on of this answer.
    pub fn watch(&mut self) -> Watch {
        std::mem::take(&mut self.watch)
    }

    /// Whether the protocol tells where the body ends. A translated stream ends with its own terminal and in no other
    /// way.
    pub fn framed(&self) -> bool {
        match self.form {
            Form::Same => {
                self.response.content_length().is_some() || self.response.headers().contains_key("transfer-encoding")
            }
            Form::Stream(_) => false,
            Form::Whole(_) => true,
        }
    }

    /// What the body is, as far as it is known.
    pub fn content_type(&self) -> Option<HeaderValue> {
        match self.form {
            Form::Same => self.response.headers().get(CONTENT_TYPE).cloned(),
            Form::Stream(_) => Some(HeaderValue::from_static("text/event-stream")),
            Form::Whole(_) => Some(HeaderValue::from_static("application/json")),
        }
    }

    /// The next piece of the body; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ModelFailure> {
        match &mut self.form {
            Form::Same => next(&mut self.response).await,
            Form::Stream(translation) => {
                let Some(piece) = next(&mut self.response).await? else {
                    // Its beginning is valid whatever is missing behind it, so an end that is none has to be a failure.
                    return if translation.is_done() { Ok(None) } else { Err(cut("`message_stop` is missing")) };
                };
                let mut told = Vec::new();
                translation.push(&piece, &mut told)?;
                // Something came, even where nothing is told of it yet: then the piece is empty.
                Ok(Some(told.into()))
            }
            Form::Whole(created) => match created.take() {
                Some(created) => Ok(Some(anthropic::response(&whole(&mut self.response).await?, created)?.into())),
                None => Ok(None),
            },
        }
    }
}

async fn next(response: &mut Response) -> Result<Option<Bytes>, ModelFailure> {
    response.chunk().await.map_err(|error| cut(&error::text(&error)))
}

async fn whole(response: &mut Response) -> Result<Vec<u8>, ModelFailure> {
    let mut body = Vec::new();
    while let Some(piece) = next(response).await? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(protocol(format!("the answer is over {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
