//! What agents and models say to each other, in the three protocols that agents speak: `OpenAI`'s Chat Completions,
//! `OpenAI`'s Responses and Anthropic's Messages, all of them streamed as server-sent events.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// What a call's id begins with; behind it comes its turn. The history of a conversation brings it back.
const CALL_ID: &str = "call_";
/// Names that agents give to the tool that runs a command, without case and without a prefix that ends in `__`.
const SHELL_TOOLS: [&str; 7] =
    ["bash", "shell", "exec_command", "shell_command", "run_command", "execute_command", "run_shell_command"];
/// Names that they give to its argument.
const COMMAND_ARGUMENTS: [&str; 3] = ["command", "cmd", "script"];

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Chat,
    Responses,
    Messages,
}

/// A tool that runs a command, as a request offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShellTool {
    pub(crate) name: String,
    argument: String,
    /// Whether it takes the words of a command, not a line for a shell.
    words: bool,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The next turn of a conversation.
    Turn { turn: u32, tool: ShellTool },
    /// Something beside it that offers no tools: a title, a summary.
    Text,
}

/// What a model answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Call { turn: u32, tool: String, arguments: Value },
    Text,
}

impl ShellTool {
    /// The tool that the agent of this project has.
    pub(crate) fn bash() -> Self {
        Self { name: "bash".to_owned(), argument: "command".to_owned(), words: false }
    }

    /// A call of it.
    pub(crate) fn call(&self, turn: u32, command: &str) -> Answer {
        let argument = if self.words { json!(["bash", "-c", command]) } else { json!(command) };
        Answer::Call { turn, tool: self.name.clone(), arguments: json!({ (self.argument.as_str()): argument }) }
    }

    /// The first of the offered tools that runs a command.
    fn among(offered: &[Value]) -> Option<Self> {
        offered.iter().find_map(|tool| {
            // Chat Completions wrap what Responses and Messages say at once.
            let tool = tool.get("function").unwrap_or(tool);
            let name = tool["name"].as_str()?;
            let short = name.rsplit("__").next()?.to_lowercase();
            let schema = tool.get("parameters").or_else(|| tool.get("input_schema"))?;
            let argument = COMMAND_ARGUMENTS.into_iter().find(|argument| !schema["properties"][argument].is_null())?;
            let words = schema["properties"][argument]["type"] == "array";
            SHELL_TOOLS.contains(&short.as_str()).then(|| Self {
                name: name.to_owned(),
                argument: argument.to_owned(),
                words,
            })
        })
    }
}

impl Dialect {
    /// The protocol whose conversations are posted to this path.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let ends = |end| path.split('?').next().is_some_and(|path| path.ends_with(end));
        if ends("/chat/completions") {
            Some(Self::Chat)
        } else if ends("/responses") {
            Some(Self::Responses)
        } else if ends("/messages") {
            Some(Self::Messages)
        } else {
            None
        }
    }

    /// Reads a request. The turn follows from its history: it is the one behind the last call whose result is there.
    ///
    /// # Errors
    /// It is no JSON, or offers tools of which none runs a command.
    pub(crate) fn read(self, body: &[u8]) -> Result<Asked> {
        let request: Value = serde_json::from_slice(body).context("a request that is no JSON")?;
        let offered = listed(&request["tools"]);
        if offered.is_empty() {
            return Ok(Asked::Text);
        }
        let tool = ShellTool::among(offered).with_context(|| {
            let name = |tool: &Value| tool.get("function").unwrap_or(tool)["name"].as_str().map(str::to_owned);
            let names: Vec<_> = offered.iter().filter_map(name).collect();
            format!("it offers no tool that runs a command: {}", names.join(", "))
        })?;
        let done = self.results(&request).into_iter().filter_map(|id| id.rsplit(CALL_ID).next()?.parse().ok()).max();
        Ok(Asked::Turn { turn: done.unwrap_or(0_u32) + 1, tool })
    }

    /// The ids of the calls whose results a request brings.
    fn results(self, request: &Value) -> Vec<&str> {
        match self {
            Self::Chat => {
                listed(&request["messages"]).iter().filter_map(|message| message["tool_call_id"].as_str()).collect()
            }
            Self::Responses => listed(&request["input"])
                .iter()
                .filter(|item| item["type"] == "function_call_output")
                .filter_map(|item| item["call_id"].as_str())
                .collect(),
            Self::Messages => listed(&request["messages"])
                .iter()
                .flat_map(|message| listed(&message["content"]))
                .filter_map(|block| block["tool_use_id"].as_str())
                .collect(),
        }
    }

    /// A whole HTTP answer, to be sent in one piece.
    pub(crate) fn answer(self, answer: &Answer) -> Vec<u8> {
        let mut stream = Stream::begin();
        match self {
            Self::Chat => {
                stream.event(&chunk(&json!({ "role": "assistant", "content": null }), None));
                stream.event(&chunk(&delta(answer), None));
                stream.event(&chunk(&json!({}), Some(answer)));
                stream.line("[DONE]");
            }
            Self::Responses => responses(answer).iter().for_each(|event| stream.named(event)),
            Self::Messages => messages(answer).iter().for_each(|event| stream.named(event)),
        }
        stream.end()
    }
}

/// The beginning of an answer in Chat Completions, behind which nothing comes.
pub(crate) fn held() -> Vec<u8> {
    let mut stream = Stream::begin();
    stream.event(&chunk(&json!({ "role": "assistant", "content": "Hm" }), None));
    stream.0
}

/// What is in an array; nothing of anything else.
fn listed(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn id(turn: u32) -> String {
    format!("{CALL_ID}{turn}")
}

/// What a chunk of Chat Completions adds for this answer.
fn delta(answer: &Answer) -> Value {
    match answer {
        Answer::Call { turn, tool, arguments } => {
            let function = json!({ "name": tool, "arguments": arguments.to_string() });
            json!({ "tool_calls": [{ "index": 0, "id": id(*turn), "type": "function", "function": function }] })
        }
        Answer::Text => json!({ "content": "Done." }),
    }
}

/// A chunk of Chat Completions; the last one knows why the answer ends, and what it cost.
fn chunk(delta: &Value, ended: Option<&Answer>) -> Value {
    let finish = ended.map(|answer| match answer {
        Answer::Call { .. } => "tool_calls",
        Answer::Text => "stop",
    });
    let usage = ended.map(|_| json!({ "prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010 }));
    json!({
        "id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 0, "model": "bench",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }], "usage": usage,
    })
}

fn responses(answer: &Answer) -> [Value; 3] {
    let item = match answer {
        Answer::Call { turn, tool, arguments } => json!({
            "type": "function_call", "id": format!("fc_{turn}"), "call_id": id(*turn), "name": tool,
            "arguments": arguments.to_string(), "status": "completed",
        }),
        Answer::Text => json!({
            "type": "message", "id": "msg_bench", "role": "assistant", "status": "completed",
            "content": [{ "type": "output_text", "text": "Done.", "annotations": [] }],
        }),
    };
    let usage = json!({
        "input_tokens": 1000, "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": 10, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 1010,
    });
    [
        json!({ "type": "response.created", "response": { "id": "resp_bench" } }),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": item }),
        json!({ "type": "response.completed", "response": { "id": "resp_bench", "usage": usage } }),
    ]
}

fn messages(answer: &Answer) -> [Value; 6] {
    let (block, delta, stop) = match answer {
        Answer::Call { turn, tool, arguments } => (
            json!({ "type": "tool_use", "id": id(*turn), "name": tool, "input": {} }),
            json!({ "type": "input_json_delta", "partial_json": arguments.to_string() }),
            "tool_use",
        ),
        Answer::Text => {
            (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": "Done." }), "end_turn")
        }
    };
    let message = json!({
        "id": "msg_bench", "type": "message", "role": "assistant", "model": "bench", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 1000, "output_tokens": 1 },
    });
    let stopped = json!({ "stop_reason": stop, "stop_sequence": null });
    [
        json!({ "type": "message_start", "message": message }),
        json!({ "type": "content_block_start", "index": 0, "content_block": block }),
        json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": stopped, "usage": { "output_tokens": 10 } }),
        json!({ "type": "message_stop" }),
    ]
}

/// Server-sent events in a chunked HTTP answer.
struct Stream(Vec<u8>);

impl Stream {
    fn begin() -> Self {
        Self(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec())
    }

    fn event(&mut self, event: &Value) {
        self.line(&event.to_string());
    }

    /// An event whose type is told twice: in its data and before.
    fn named(&mut self, event: &Value) {
        let name = event["type"].as_str().unwrap_or_default();
        self.piece(&format!("event: {name}\ndata: {event}\n\n"));
    }

    fn line(&mut self, data: &str) {
        self.piece(&format!("data: {data}\n\n"));
    }

    fn piece(&mut self, piece: &str) {
        self.0.extend(format!("{:x}\r\n{piece}\r\n", piece.len()).into_bytes());
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend(b"0\r\n\r\n");
        self.0
    }
}
