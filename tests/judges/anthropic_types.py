"""What the embedded client sends to Anthropic, and what the mock in its place answers, as Anthropic's own SDK sees both.

Arguments: the URL of the mock, then files with the bodies that were sent. Prints the mock's answer as the SDK reads it.
"""

import json
import sys

import anthropic
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from pydantic import TypeAdapter

url, *files = sys.argv[1:]
params = TypeAdapter(MessageCreateParamsStreaming)


def known(value):
    """What the types know of it. Iterables are looked at when they are walked over, so each is walked over to its end."""
    if isinstance(value, dict):
        return {key: known(inner) for key, inner in value.items()}
    if isinstance(value, (str, bytes, int, float, bool, type(None))):
        return value
    return [known(inner) for inner in value]


for file in files:
    with open(file, encoding="utf-8") as opened:
        sent = json.load(opened)
    read = known(params.validate_python(sent))
    assert read == sent, f"{file}: the types know less than was sent\n{json.dumps(read)}\n{json.dumps(sent)}"

client = anthropic.Anthropic(base_url=url, api_key="sk-ant-judge", max_retries=0)
with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream:
    message = stream.get_final_message()
print(message.model_dump_json())
