//! A conversation, message by message: what of it is the system's, and whose turn each block belongs to.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use lakitu_kernel::ToolError;

use super::blocks::{Block, Content, Mark, ResultContent, Role, Source, Turn};
use super::request::{parse, rejected};

/// Stands for a user's message in which there is nothing: Anthropic refuses an empty one, and without it the model
/// would be asked to continue its own.
const NOTHING: &str = "(empty)";

/// The conversation so far.
#[derive(Debug, Default)]
pub(super) struct History<'a> {
    pub(super) system: Vec<Block<'a>>,
    pub(super) turns: Vec<Turn<'a>>,
    /// Whether the request came with cache marks of its own.
    pub(super) marked: bool,
}

/// A message as Chat Completions have it.
#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    refusal: Option<String>,
    tool_calls: Option<Vec<ToolCall<'a>>>,
    tool_call_id: Option<String>,
    reasoning_details: Option<&'a RawValue>,
    function_call: Option<&'a RawValue>,
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    id: String,
    #[serde(borrow)]
    function: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: String,
}

/// A part of a message's content.
#[derive(Deserialize)]
struct Part<'a> {
    r#type: String,
    text: Option<String>,
    refusal: Option<String>,
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ImageUrl {
    Plain(String),
    Object { url: String },
}

impl<'a> History<'a> {
    /// Takes the next message in; `path` names it.
    pub(super) fn take(&mut self, path: &str, message: &'a RawValue) -> Result<(), ToolError> {
        let message: Message<'a> = parse(path, message)?;
        if message.function_call.is_some() {
            return Err(rejected(&format!("{path}.function_call"), "is not understood; use `tool_calls`"));
        }
        let mut blocks = content(path, message.content)?;
        match message.role.as_str() {
            "system" | "developer" => {
                if blocks.iter().any(|block| !matches!(block.content, Content::Text { .. })) {
                    return Err(rejected(&format!("{path}.content"), "holds more than text"));
                }
                let blocks = self.marked(blocks, message.cache_control);
                self.system.extend(blocks);
            }
            "user" => {
                if blocks.is_empty() {
                    blocks.push(plain(Content::Text { text: NOTHING.to_owned() }));
                }
                self.push(Role::User, blocks, message.cache_control);
            }
            "assistant" => {
                let cache_control = message.cache_control;
                let blocks = assistant(path, blocks, message)?;
                self.push(Role::Assistant, blocks, cache_control);
            }
            "tool" => {
                let id = message.tool_call_id.unwrap_or_default();
                if id.is_empty() {
                    return Err(rejected(&format!("{path}.tool_call_id"), "is missing"));
                }
                self.push(Role::User, vec![result(&id, blocks)], message.cache_control);
            }
            role => return Err(rejected(&format!("{path}.role"), format!("is `{role}`, which is not understood"))),
        }
        Ok(())
    }

    /// Whether thinking with a budget may be asked for: in the middle of calls it must have begun with thinking.
    pub(super) fn may_think(&self) -> bool {
        let began = |turn: &Turn<'_>| turn.content.first().is_some_and(|block| block.content.is_thinking());
        match self.turns.as_slice() {
            [.., last] if last.role == Role::Assistant => began(last),
            [.., before, last] if matches!(last.content.first(), Some(first) if is_result(first)) => began(before),
            _ => true,
        }
    }

    /// Adds blocks to the turn of who speaks: Messages want the two sides to take turns.
    fn push(&mut self, role: Role, blocks: Vec<Block<'a>>, cache_control: Option<&'a RawValue>) {
        if blocks.is_empty() {
            return;
        }
        if self.turns.is_empty() && role == Role::Assistant {
            let opening = vec![plain(Content::Text { text: NOTHING.to_owned() })];
            self.turns.push(Turn { role: Role::User, content: opening });
        }
        let blocks = self.marked(blocks, cache_control);
        match self.turns.last_mut() {
            Some(last) if last.role == role => last.content.extend(blocks),
            Some(_) | None => self.turns.push(Turn { role, content: blocks }),
        }
    }

    /// The blocks with the mark of their message, where it has one: it is on the last of them.
    fn marked(&mut self, mut blocks: Vec<Block<'a>>, cache_control: Option<&'a RawValue>) -> Vec<Block<'a>> {
        if let (Some(last), Some(mark)) = (blocks.last_mut(), cache_control) {
            last.cache_control = Some(Mark::Given(mark));
        }
        self.marked |= blocks.iter().any(|block| block.cache_control.is_some());
        blocks
    }
}

fn plain<'a>(content: Content) -> Block<'a> {
    Block { content, cache_control: None }
}

fn is_result(block: &Block<'_>) -> bool {
    matches!(block.content, Content::ToolResult { .. })
}

/// The blocks of a message's content. What is blank is left out.
fn content<'a>(path: &str, content: Option<&'a RawValue>) -> Result<Vec<Block<'a>>, ToolError> {
    let path = format!("{path}.content");
    let Some(raw) = content else { return Ok(Vec::new()) };
    match raw.get().as_bytes().first() {
        Some(b'"') => Ok(Content::text(parse(&path, raw)?).map(plain).into_iter().collect()),
        Some(b'[') => {
            let parts: Vec<Part<'a>> = parse(&path, raw)?;
            let blocks = parts.into_iter().enumerate().map(|(at, part)| block(&format!("{path}[{at}]"), part));
            blocks.filter_map(Result::transpose).collect()
        }
        Some(_) | None => Err(rejected(&path, "is neither text nor a list of parts")),
    }
}

fn block<'a>(path: &str, part: Part<'a>) -> Result<Option<Block<'a>>, ToolError> {
    let content = match part.r#type.as_str() {
        "text" => Content::text(part.text.unwrap_or_default()),
        "refusal" => Content::text(part.refusal.unwrap_or_default()),
        "image_url" => {
            let path = format!("{path}.image_url");
            let url = part.image_url.ok_or_else(|| rejected(&path, "is missing"))?;
            let (ImageUrl::Plain(url) | ImageUrl::Object { url }) = parse(&path, url)?;
            let source = Source::of(&url)
                .ok_or_else(|| rejected(&path, "is neither data in base64 nor an address on the web"))?;
            Some(Content::Image { source })
        }
        kind => return Err(rejected(&format!("{path}.type"), format!("is `{kind}`, which Anthropic has no word for"))),
    };
    Ok(content.map(|content| Block { content, cache_control: part.cache_control.map(Mark::Given) }))
}

/// The blocks of the model's own message: thinking, then text, then calls. Thinking with nothing behind it is left out,
/// because a message may not end with it; and a message in which nothing is left is none.
fn assistant<'a>(path: &str, said: Vec<Block<'a>>, message: Message<'a>) -> Result<Vec<Block<'a>>, ToolError> {
    if said.iter().any(|block| !matches!(block.content, Content::Text { .. })) {
        return Err(rejected(&format!("{path}.content"), "is the model's own and holds more than text"));
    }
    let details: Vec<Value> =
        message.reasoning_details.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    let refusal = message.refusal.and_then(Content::text).map(plain);
    let calls = message.tool_calls.unwrap_or_default().into_iter().enumerate();
    let calls: Vec<Block<'a>> =
        calls.map(|(at, call)| tool_use(&format!("{path}.tool_calls[{at}]"), call)).collect::<Result<_, _>>()?;
    if said.is_empty() && refusal.is_none() && calls.is_empty() {
        return Ok(Vec::new());
    }
    // A message must not end with a thought, and behind its last call no thought matters any more.
    let (before, behind) = if calls.is_empty() { (&details[..], &[][..]) } else { around_text(&details) };
    let thoughts = |details: &[Value]| details.iter().filter_map(Content::thinking).map(plain).collect::<Vec<_>>();
    Ok(thoughts(before).into_iter().chain(said).chain(refusal).chain(thoughts(behind)).chain(calls).collect())
}

/// The thoughts before the text and those behind it. Their indices are those of the answer's blocks, which go back in
/// their order; the first that is missing is the text's.
fn around_text(details: &[Value]) -> (&[Value], &[Value]) {
    let mut next = 0;
    let before = details.iter().take_while(|detail| match detail.get("index").and_then(Value::as_u64) {
        Some(at) if at <= next => {
            next = at + 1;
            true
        }
        Some(_) => false,
        None => true,
    });
    details.split_at(before.count())
}

fn tool_use<'a>(path: &str, call: ToolCall<'a>) -> Result<Block<'a>, ToolError> {
    let function = call.function.ok_or_else(|| rejected(path, "is not a function's call"))?;
    let Function { name, arguments } = parse(&format!("{path}.function"), function)?;
    let text = arguments.trim();
    let text = if text.is_empty() { "{}" } else { text };
    let input = RawValue::from_string(text.to_owned()).ok().filter(|input| input.get().starts_with('{'));
    let input = input.ok_or_else(|| rejected(&format!("{path}.function.arguments"), "are not a JSON object"))?;
    Ok(plain(Content::ToolUse { id: legal_id(&call.id), name, input }))
}

fn result<'a>(id: &str, mut blocks: Vec<Block<'a>>) -> Block<'a> {
    let cache_control = blocks.iter().rev().find_map(|block| block.cache_control);
    let content = match blocks.as_mut_slice() {
        [] => None,
        [Block { content: Content::Text { text }, .. }] => Some(ResultContent::Text(std::mem::take(text))),
        _ => Some(ResultContent::Parts(blocks.into_iter().map(|block| block.content).collect())),
    };
    Block { content: Content::ToolResult { tool_use_id: legal_id(id), content }, cache_control }
}

/// An id of a call as Anthropic takes it. A conversation that another model began may have others (`functions.ls:0`);
/// what stands for them is the same for the call and its result.
fn legal_id(id: &str) -> String {
    let is_legal = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    let legal: String = id
        .chars()
        .map(|char| if is_legal(char) { char.to_string() } else { format!("_{:x}", u32::from(char)) })
        .collect();
    if legal.is_empty() { "_".to_owned() } else { legal }
}
