"""The HTTP API as its own document describes it. Ends with 0 where every answer is one that the document has, to those who
hold a token and to those who hold none, and where every path of the document was asked by both."""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request

URL = os.environ["LAKITU_URL"]
TOKENS = json.loads(os.environ["LAKITU_TOKENS"])
COMMON = ["--seed", "1", "--checks", "all", "--no-color", "--warnings", "off"]


def document():
    asked = urllib.request.Request(f"{URL}/openapi.json", headers={"Authorization": f"Bearer {TOKENS['user']}"})
    with urllib.request.urlopen(asked) as answer:
        return json.load(answer)


def run(document, token, *more):
    """What came of it: the exit code, what was said, and every answer as (method, path, status)."""
    program = os.path.join(os.path.dirname(sys.executable), "schemathesis")
    with tempfile.TemporaryDirectory() as directory:
        described, answered = os.path.join(directory, "openapi.json"), os.path.join(directory, "answers.har")
        with open(described, "w") as file:
            json.dump(document, file)
        command = [program, "run", described, "--url", URL, "--report", "har", "--report-har-path", answered, *COMMON]
        if token:
            # As often as one token may ask.
            command += ["--rate-limit", "45/s", "--header", f"Authorization: Bearer {TOKENS[token]}"]
        ended = subprocess.run(
            [*command, *more], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with open(answered) as file:
            entries = json.load(file)["log"]["entries"]
    answers = [(e["request"]["method"].lower(), e["request"]["url"], e["response"]["status"]) for e in entries]
    return ended.returncode, ended.stdout, answers


def content(document, token, *more):
    code, said, answers = run(document, token, *more)
    if code:
        raise SystemExit(said)
    print(said)
    return answers


def operations(document):
    return {(method, path): said for path, ways in document["paths"].items() for method, said in ways.items()}


def statuses(document, answers):
    """By operation, what it was answered with."""
    form_of = lambda path: re.compile(re.sub(r"\\\{\w+\\\}", "[^/?]*", re.escape(URL + path)) + r"(\?.*)?$")
    known = {(method, path): form_of(path) for method, path in operations(document)}
    heard = {key: set() for key in known}
    for method, url, status in answers:
        for key, form in known.items():
            if key[0] == method and form.match(url):
                heard[key].add(status)
    return heard


api = document()
# A stream has no end: it is asked for by itself, when no thread is known, and of tables that are none.
endless = ["--include-operation-id", "followThread", "--include-operation-id", "followRows"]
nowhere = json.loads(json.dumps(api))
for parameter in nowhere["paths"]["/v1/tables/{table}/changes"]["get"]["parameters"]:
    if parameter["name"] == "table":
        parameter["schema"] = {"type": "string", "pattern": "^no[A-Z][a-z]{1,8}$"}
actors = ["--include-operation-id", "restartActor", "--include-operation-id", "stopActor"]
held = content(nowhere, "admin", "--phases", "coverage,fuzzing", "--max-examples", "10", *endless, *actors)
some = [option.replace("--include", "--exclude") for option in endless]
held += content(api, "user", "--phases", "coverage,fuzzing,stateful", "--max-examples", "10", *some)
# Whoever holds nothing learns nothing, whatever they ask.
none = content(api, None, "--phases", "coverage,fuzzing", "--max-examples", "3")

heard = statuses(api, held)
unheard = sorted(key for key, said in heard.items() if not said - {401})
assert not unheard, f"nobody with a token asked {unheard}"
for key, said in statuses(api, none).items():
    if key[1] in ("/health", "/ready"):
        assert said, f"nobody without a token asked {key}"
    else:
        assert 401 in said and said <= {400, 401, 405, 413}, f"{key} without a token: {said}"

# A judge who lets everything pass is none: an answer that the document no longer has is found.
wrong = json.loads(json.dumps(api))
del wrong["paths"]["/v1/threads/{id}"]["get"]["responses"]["401"]
code, said, _ = run(wrong, None, "--phases", "coverage", "--include-operation-id", "showThread")
assert code and "Undocumented status code" in said, said
