"""`openclaw-ctx`: what a skill of runtime bash or image calls to reach its agent.

One JSON-RPC 2.0 request per line goes to the Unix socket $OPENCLAW_CTX, one response per line comes back. This file is
copied in front of a skill and run by itself, without site-packages: the standard library is all it may import.
"""

import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

USAGE = """\
usage: openclaw-ctx COMMAND …
  input [NAME]                 the call's input, or one field of it: NAME is a.b.0
  config [NAME]                the skill's configuration, likewise
  json NAME=TEXT NAME:=JSON …  prints a JSON object, for a result
  llm generate PROMPT [--system TEXT] [--temperature N] [--max-tokens N]
               [--fallback TEXT]
  memory add JSON              stores a record, prints its id
  memory search QUERY [--limit N]
  ask QUESTION                 asks the user, prints the answer
  attach FILE [--name NAME] [--type MEDIA/TYPE]
                               gives a file with the result; FILE of - is
                               standard input and needs a --name
  progress FRACTION [MESSAGE]
  log [debug|info|warning|error] MESSAGE
  fail MESSAGE                 the message for the user, and exit code 1
A PROMPT, JSON, QUESTION or MESSAGE of - is read from standard input."""

LEVELS = ("debug", "info", "warning", "error")


class RefusedError(Exception):
    """The agent refused, or there is no such field: exit code 1."""


class UsageError(Exception):
    """The command line is wrong: exit code 2."""


def ask_agent(method: str, params: dict[str, Any]) -> Any:
    """Returns the result of one request. Raises `RefusedError`."""
    path = os.environ.get("OPENCLAW_CTX")
    if not path:
        raise UsageError("OPENCLAW_CTX is not set: this works inside a skill's call only")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n"
        connection.sendall(line.encode())
        with connection.makefile("rb") as answers:
            answer = answers.readline()
    if not answer:
        raise RefusedError("the call is over")
    response = json.loads(answer)
    if "error" in response:
        raise RefusedError(response["error"]["message"])
    return response["result"]


def text_of(value: str) -> str:
    """Returns the argument, or standard input for `-`."""
    return sys.stdin.read() if value == "-" else value


def json_of(value: str, what: str) -> Any:
    """Returns the argument read as JSON. Raises `UsageError`."""
    try:
        return json.loads(value)
    except ValueError as error:
        raise UsageError(f"{what}: not JSON: {error}") from None


def options_of(arguments: Sequence[str], known: dict[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
    """Returns the options after the first argument. Raises `UsageError`."""
    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        if name not in known or not rest:
            allowed = ", ".join(known) or "none here"
            raise UsageError(f"{name}: not an option, or without a value; allowed: {allowed}")
        key, convert = known[name]
        value = rest.pop(0)
        try:
            found[key] = convert(value)
        except ValueError:
            raise UsageError(f"{name}: {value!r} is not a number") from None
    return found


def shown(value: Any) -> str:
    """Returns what is printed: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def field_of(value: Any, path: Sequence[str], what: str) -> str:
    """Returns one field, as it is printed. Raises `RefusedError` if there is none."""
    for name in path[0].split(".") if path else []:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            raise RefusedError(f"{what} {path[0]}: there is none")
    return shown(value)


def object_of(arguments: Sequence[str]) -> str:
    """Returns the JSON object that `NAME=TEXT` and `NAME:=JSON` describe. Raises `UsageError`."""
    result: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name.rstrip(":"):
            raise UsageError(f"{argument}: give NAME=TEXT or NAME:=JSON")
        result[name.removesuffix(":")] = json_of(value, name) if name.endswith(":") else value
    return shown(result)


def generate(arguments: Sequence[str]) -> str:
    """`llm generate`."""
    options = options_of(
        arguments[1:],
        {
            "--system": ("system", str),
            "--temperature": ("temperature", float),
            "--max-tokens": ("maxTokens", int),
            "--fallback": ("fallback", str),
        },
    )
    return shown(ask_agent("llm.generate", {"prompt": text_of(arguments[0]), "options": options}))


def search(arguments: Sequence[str]) -> str:
    """`memory search`."""
    options = options_of(arguments[1:], {"--limit": ("limit", int)})
    return shown(ask_agent("memory.search", {"query": text_of(arguments[0]), "limit": 5, **options}))


def attach(arguments: Sequence[str]) -> None:
    """`attach`."""
    # What only this command needs: others should not wait for it.
    import shutil
    import tempfile
    from pathlib import Path

    options = options_of(arguments[1:], {"--name": ("name", str), "--type": ("mediaType", str)})
    if arguments[0] != "-":
        ask_agent("attach", {"path": str(Path(arguments[0]).absolute()), **options})
        return
    if "name" not in options:
        raise UsageError("attach -: give a --name")
    with tempfile.NamedTemporaryFile(dir=os.environ.get("OPENCLAW_SCRATCH")) as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        ask_agent("attach", {"path": file.name, **options})


def log(arguments: Sequence[str]) -> None:
    """`log`."""
    level, *rest = arguments if arguments[0] in LEVELS and len(arguments) > 1 else ("info", *arguments)
    ask_agent("log", {"level": level, "message": text_of(" ".join(rest)), "fields": {}})


def progress(arguments: Sequence[str]) -> None:
    """`progress`."""
    try:
        fraction = float(arguments[0])
    except ValueError:
        raise UsageError(f"progress: {arguments[0]!r} is not a number from 0 to 1") from None
    ask_agent("progress", {"fraction": fraction, "message": text_of(" ".join(arguments[1:]))})


def fail(arguments: Sequence[str]) -> NoReturn:
    """`fail`."""
    message = text_of(" ".join(arguments))
    ask_agent("fail", {"message": message})
    raise RefusedError(message)


COMMANDS: dict[tuple[str, ...], tuple[int, Callable[[Sequence[str]], str | None]]] = {
    ("input",): (0, lambda arguments: field_of(ask_agent("input", {}), arguments, "input")),
    ("config",): (0, lambda arguments: field_of(ask_agent("config", {}), arguments, "config")),
    ("json",): (0, object_of),
    ("llm", "generate"): (1, generate),
    ("memory", "add"): (
        1,
        lambda arguments: shown(ask_agent("memory.add", {"record": json_of(text_of(arguments[0]), "JSON")})),
    ),
    ("memory", "search"): (1, search),
    ("ask",): (1, lambda arguments: shown(ask_agent("ask", {"question": text_of(" ".join(arguments))}))),
    ("attach",): (1, attach),
    ("progress",): (1, progress),
    ("log",): (1, log),
    ("fail",): (1, fail),
}
"""Words of the command: how many arguments it needs at least, and what does it."""


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns the exit code."""
    for words, (least, run) in COMMANDS.items():
        rest = arguments[len(words) :]
        if tuple(arguments[: len(words)]) == words and len(rest) >= least:
            try:
                printed = run(rest)
            except UsageError as error:
                print(f"openclaw-ctx: {error}", file=sys.stderr)  # noqa: T201
                return 2
            except (RefusedError, OSError) as error:
                print(f"openclaw-ctx: {error}", file=sys.stderr)  # noqa: T201
                return 1
            if printed is not None:
                print(printed)  # noqa: T201
            return 0
    print(USAGE, file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
