"""The gateway as OpenAI's own SDK sees it. Ends with 0 where all of it holds; LAKITU_URL and LAKITU_TOKENS say where."""

import json
import os

import openai

TOKENS = json.loads(os.environ["LAKITU_TOKENS"])
USER = {"role": "user", "content": "What is the weather in Zürich?"}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {key: {"type": "string"}}}}}
    for name, key in [("get_weather", "city"), ("get_time", "zone")]
]


def client(token, retries=0):
    return openai.OpenAI(base_url=os.environ["LAKITU_URL"] + "/v1", api_key=TOKENS[token], max_retries=retries)


def raises(kind, code, do):
    try:
        do()
    except kind as error:
        assert error.code == code, (error.code, code)
        assert isinstance(error.message, str) and error.type, error
        return error
    raise AssertionError(f"no {kind.__name__}")


def history(turn, *more):
    return [USER, *({"role": "assistant", "content": str(at)} for at in range(1, turn)), *more]


def ask(client, turn=4, **more):
    return client.chat.completions.create(model="m", messages=history(turn), **more)


def is_first_answer(message):
    assert message.content == "Looking at it: ü.", message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
    assert calls == [("get_weather", {"city": "Zürich"}), ("get_time", {"zone": "CET"})], calls
    assert len({call.id for call in message.tool_calls}) == 2


def conversation(client):
    """Two turns with tools: one in one piece, then the first again as a stream, read in the SDK's two ways."""
    whole = client.chat.completions.create(model="m", messages=[USER], tools=TOOLS)
    assert (whole.object, whole.model, whole.choices[0].finish_reason) == ("chat.completion", "m", "tool_calls")
    is_first_answer(whole.choices[0].message)
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (11, 5, 16)
    assert whole.usage.prompt_tokens_details.cached_tokens == 3

    options = {"stream_options": {"include_usage": True}}
    with client.chat.completions.stream(model="m", messages=[USER], tools=TOOLS, **options) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done", "tool_calls.function.arguments.done"} <= kinds, kinds
    is_first_answer(final.choices[0].message)
    assert final.usage.total_tokens == 16

    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in whole.choices[0].message.tool_calls]
    message = whole.choices[0].message.model_dump(exclude_none=True)
    text, finish = "", None
    for chunk in client.chat.completions.create(model="m", messages=[USER, message, *results], stream=True):
        assert chunk.object == "chat.completion.chunk" and chunk.usage is None
        text += chunk.choices[0].delta.content or ""
        finish = chunk.choices[0].finish_reason or finish
    assert (text, finish) == ("It is sunny in Zürich.", "stop"), (text, finish)


def failures():
    error = raises(openai.AuthenticationError, "invalid_token", lambda: ask(client("bad")))
    assert TOKENS["bad"] not in str(error)
    raises(openai.PermissionDeniedError, "insufficient_scope", lambda: ask(client("narrow")))
    raises(openai.BadRequestError, "invalid_request", lambda: ask(client("good"), turn=40))
    raises(openai.NotFoundError, "not_found", lambda: client("good").embeddings.create(model="m", input="x"))
    raises(openai.InternalServerError, "script", lambda: ask(client("good"), turn=3))
    # The second failure of that turn is made good by the SDK's own repetition.
    assert ask(client("good", retries=2), turn=3).choices[0].message.content == "third"
    try:
        list(ask(client("good"), turn=4, stream=True))
    except openai.APIConnectionError:
        pass
    else:
        raise AssertionError("a cut stream looks whole")


def budget():
    assert ask(client("poor")).choices[0].message.content == "fourth"
    # It is not asked again, though it may: the answer says that it would not help.
    raises(openai.RateLimitError, "budget_exceeded", lambda: ask(client("poor", retries=5)))


conversation(client("good"))
failures()
budget()
assert [model.id for model in client("good").models.list()] == ["script"]
print("the SDK is content")
