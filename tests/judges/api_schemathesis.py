"""The HTTP API as its own document describes it. Ends with 0 where every answer is one that the document has."""

import json
import os
import subprocess
import sys
import tempfile

# As often as one token may ask.
COMMON = ["--seed", "1", "--rate-limit", "45/s", "--checks", "all", "--no-color", "--warnings", "off"]
TOKENS = json.loads(os.environ["LAKITU_TOKENS"])


def run(token, *more):
    program = os.path.join(os.path.dirname(sys.executable), "schemathesis")
    url = os.environ["LAKITU_URL"]
    authorization = f"Authorization: Bearer {TOKENS[token]}"
    command = [program, "run", f"{url}/openapi.json", "--header", authorization, *COMMON, *more]
    with tempfile.TemporaryDirectory() as directory:
        ended = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ended.returncode:
        raise SystemExit(ended.stdout)
    print(ended.stdout)


# A stream has no end: it is asked for by itself, when no thread is known.
endless = ["--include-operation-id", "followThread"]
actors = ["--include-operation-id", "restartActor", "--include-operation-id", "stopActor"]
run("admin", "--phases", "coverage,fuzzing", "--max-examples", "10", *endless, *actors)
run("user", "--phases", "coverage,fuzzing,stateful", "--max-examples", "10", "--exclude-operation-id", "followThread")
