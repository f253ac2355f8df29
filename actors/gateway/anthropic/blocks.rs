//! What a Messages request is made of.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    User,
    Assistant,
}

/// A message. Its content is always a list, so that a block more changes nothing before it.
#[derive(Debug, Serialize)]
pub(super) struct Turn<'a> {
    pub(super) role: Role,
    pub(super) content: Vec<Block<'a>>,
}

/// A piece of a message, and whether the prompt is cached up to here.
#[derive(Debug, Serialize)]
pub(super) struct Block<'a> {
    #[serde(flatten)]
    pub(super) content: Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<Mark<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Content {
    Text {
        text: String,
    },
    Image {
        source: Source,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: String,
        name: String,
        /// The arguments' own text: what the model wrote goes back as it stands.
        input: Box<RawValue>,
    },
    ToolResult {
        tool_use_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<ResultContent>,
    },
}

/// What a tool gave.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ResultContent {
    Text(String),
    Parts(Vec<Content>),
}

/// Where an image is.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Source {
    Base64 { media_type: String, data: String },
    Url { url: String },
}

/// A cache mark.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark<'a> {
    /// One that is set here.
    Ours,
    /// One that the request came with, as it came.
    Given(&'a RawValue),
}

impl Serialize for Mark<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ours => json!({"type": "ephemeral"}).serialize(serializer),
            Self::Given(mark) => mark.serialize(serializer),
        }
    }
}

impl Content {
    /// A text; nothing where there is only white space, which Anthropic refuses.
    pub(super) fn text(text: String) -> Option<Self> {
        (!text.trim().is_empty()).then_some(Self::Text { text })
    }

    /// The thinking in a detail of a message, if it is Anthropic's own and signed.
    pub(super) fn thinking(detail: &Value) -> Option<Self> {
        let field = |name: &str| detail.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if field("format") != Some(super::THINKING_FORMAT) {
            return None;
        }
        match field("type")? {
            // The text may be empty: a model that keeps its thoughts to itself signs them nevertheless.
            "reasoning.text" => Some(Self::Thinking {
                thinking: field("text").unwrap_or_default().to_owned(),
                signature: field("signature")?.to_owned(),
            }),
            "reasoning.encrypted" => Some(Self::RedactedThinking { data: field("data")?.to_owned() }),
            _ => None,
        }
    }

    /// Whether it is thinking, signed or hidden.
    pub(super) fn is_thinking(&self) -> bool {
        matches!(self, Self::Thinking { .. } | Self::RedactedThinking { .. })
    }
}

impl Source {
    /// An image by its URL; nothing where it is neither data in base64 nor on the web.
    pub(super) fn of(url: &str) -> Option<Self> {
        let Some(data) = url.strip_prefix("data:") else {
            let on_the_web = url.starts_with("https://") || url.starts_with("http://");
            return on_the_web.then(|| Self::Url { url: url.to_owned() });
        };
        let (kind, data) = data.split_once(',')?;
        let media_type = kind.strip_suffix(";base64")?;
        // Parameters of the type (`;charset=…`) mean nothing for an image.
        let media_type = media_type.split(';').next().filter(|kind| !kind.is_empty())?;
        Some(Self::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
    }
}
