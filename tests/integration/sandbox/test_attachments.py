"""Files that a skill gives with its result: in each language, from MCP servers, and what attacks with them come to."""

import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from openclaw_runtime.sandbox import errors, exchange
from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.attachments import (
    CHUNK_BYTES,
    MAX_ATTACHMENT_BYTES,
    MAX_TOTAL_BYTES,
    Announced,
    Offer,
)
from openclaw_runtime.sandbox.client import CallOptions, SandboxClient
from openclaw_runtime.sandbox.endpoint import Endpoint
from openclaw_runtime.sandbox.jsonrpc import Success, canonical_sha256, encode
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.sandbox.protocol import CALL_ID, SUBPROTOCOL, CallResult, ErrorCode, Hello, Limits
from openclaw_runtime.sandbox.runner.channel import Kind, pack
from openclaw_runtime.sandbox.signing import Signer
from openclaw_runtime.skills import cli
from openclaw_runtime.skills.audit import Audit, ExecutionRecord, Record
from openclaw_runtime.skills.mcp.executor import McpExecutor
from openclaw_runtime.skills.package import pack_files
from openclaw_runtime.skills.registry import SkillRegistry
from openclaw_runtime.skills.service import SkillService
from openclaw_runtime.skills.types import ActionSpec, McpServer, SkillResult
from tests.fakes import mcp
from tests.fakes.llm.serve import serving
from tests.fakes.mcp.server import PIXEL, create_app
from tests.integration.sandbox.helpers import PACKAGE, RecordingContext, make_call, make_skill

PYTHON = b"""
import asyncio
import os
from openclaw_skill import ContextError, SkillError

async def give(ctx, given):
    (ctx.scratch / "b.txt").write_bytes(b"text")
    await asyncio.gather(ctx.attach("a.png", b"\\x00\\xff\\n", media_type="image/png"),
                         ctx.attach("b.txt", path=ctx.scratch / "b.txt"))

def plainly(ctx, given):
    ctx.attach("a.bin", b"\\x00\\xff\\n")

async def large(ctx, given):
    for number, size in enumerate(given["sizes"]):
        await ctx.attach(str(number), os.urandom(size))

async def refused(ctx, given):
    try:
        await ctx.attach(given["name"], b"x" * given.get("size", 1), media_type=given.get("type", ""))
    except ContextError as error:
        return [error.code, str(error)]

async def wrong(ctx, given):
    try:
        await ctx.attach("a", path=given["path"])
    except OSError as error:
        return str(error)

async def fail(ctx, given):
    await ctx.attach("a", b"x")
    raise SkillError("no such branch: main")

async def again(ctx, given):
    while True:
        try:
            await ctx.attach("a", b"x")
        except ContextError:
            pass
"""
NODE = b"""
import { writeFile } from "node:fs/promises";

export async function give(ctx) {
  await writeFile(`${ctx.scratch}/b.txt`, "text");
  await Promise.all([ctx.attach("a.png", { data: new Uint8Array([0, 255, 10]), mediaType: "image/png" }),
                     ctx.attach("b.txt", { path: `${ctx.scratch}/b.txt` })]);
}

export const large = async (ctx, { sizes }) => {
  for (const [number, size] of sizes.entries()) await ctx.attach(String(number), { data: Buffer.alloc(size, 7) });
};

export const refused = (ctx, { name, size = 1 }) =>
  ctx.attach(name, { data: Buffer.alloc(size) }).catch((error) => [error.code, error.message]);
"""
BASH = b"""
set -e
case $1 in
  give) printf '\\000\\377\\n' | openclaw-ctx attach - --name a.png --type image/png
        cd "$OPENCLAW_SCRATCH"; printf text > b.txt; openclaw-ctx attach b.txt; echo null ;;
  large) for size in $(openclaw-ctx input sizes | tr -d '[],'); do
           n=$((${n:-0} + 1)); head -c "$size" /dev/zero | openclaw-ctx attach - --name "$n"; done; echo null ;;
  refused) head -c "$(openclaw-ctx input size 2>/dev/null || echo 1)" /dev/zero > f
           openclaw-ctx attach f --name "$(openclaw-ctx input name)" 2>&1 || true ;;
  odd) mkfifo f; for file in f /dev/zero /nothing .; do openclaw-ctx attach "$file" 2>&1 || true; done ;;
esac
"""
SKILLS: dict[str, dict[str, Any]] = {
    "python": {"package": pack_files([PackageFile("scripts/main.py", PYTHON)])},
    "node": {"package": pack_files([PackageFile("scripts/main.mjs", NODE)]), "entrypoint": "scripts/main.mjs"},
    "bash": {
        "package": pack_files([PackageFile("scripts/main.sh", BASH)]),
        "entrypoint": "scripts/main.sh",
        "permissions": ("process:execute",),
    },
}
EVERY_RUNTIME = pytest.mark.parametrize("runtime", sorted(SKILLS))


async def run(
    executor: SubprocessExecutor, action: str, given: dict[str, Any] | None = None, runtime: str = "python", **more: Any
) -> SkillResult:
    skill = make_skill(action, runtime=runtime, **SKILLS[runtime] | more)
    return await executor.execute(make_call(skill, given), RecordingContext())


@EVERY_RUNTIME
async def test_files_come_with_the_result(executor: SubprocessExecutor, runtime: str) -> None:
    result = await run(executor, "give", runtime=runtime)
    assert result.output is None
    assert sorted((each.name, each.media_type, each.data) for each in result.attachments) == [
        ("a.png", "image/png", b"\x00\xff\n"),
        ("b.txt", "text/plain", b"text"),
    ]
    assert all(each.sha256 == hashlib.sha256(each.data).hexdigest() for each in result.attachments)


async def test_a_plain_function_may_attach_too(executor: SubprocessExecutor) -> None:
    (attachment,) = (await run(executor, "plainly")).attachments
    assert (attachment.name, attachment.media_type, attachment.data) == (
        "a.bin",
        "application/octet-stream",
        b"\x00\xff\n",
    )


@EVERY_RUNTIME
async def test_as_much_as_is_allowed_arrives(executor: SubprocessExecutor, runtime: str) -> None:
    sizes = [MAX_ATTACHMENT_BYTES, 1, MAX_TOTAL_BYTES - MAX_ATTACHMENT_BYTES - 1]
    result = await run(executor, "large", {"sizes": sizes}, runtime)
    assert [len(each.data) for each in result.attachments] == sizes


@EVERY_RUNTIME
@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ([MAX_ATTACHMENT_BYTES + 1], "8388609 bytes; at most 8388608 are allowed"),
        ([MAX_ATTACHMENT_BYTES, MAX_ATTACHMENT_BYTES, 1], "at most 16777216 are allowed in all"),
        ([1] * 17, "at most 16 attachments; pack them"),
    ],
    ids=["too large", "too much", "too many"],
)
async def test_more_than_is_allowed_ends_the_call_and_says_so(
    executor: SubprocessExecutor, runtime: str, sizes: list[int], reason: str
) -> None:
    """A program has its own way to end: what it was told is the end of its log."""
    kind = errors.SkillCrashedError if runtime == "bash" else errors.AttachmentRefusedError
    with pytest.raises(kind) as caught:
        await run(executor, "large", {"sizes": sizes}, runtime)
    assert reason in f"{caught.value} {caught.value.data}"


@EVERY_RUNTIME
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"name": "../../etc/passwd"}, "not a file's name"),
        ({"name": "a\nb"}, "not a file's name"),
        ({"name": "a", "size": MAX_ATTACHMENT_BYTES * 3}, "are allowed: make it smaller"),
    ],
    ids=["path", "control character", "far too large"],
)
async def test_a_skill_may_do_without_what_was_refused(
    executor: SubprocessExecutor, runtime: str, given: dict[str, Any], reason: str
) -> None:
    result = await run(executor, "refused", given, runtime)
    assert reason in str(result.output)
    assert runtime == "bash" or result.output[0] == ErrorCode.ATTACHMENT
    assert result.attachments == ()


async def test_only_regular_files_are_read(executor: SubprocessExecutor) -> None:
    for path in ("/dev/zero", "/proc", "/nothing"):
        assert path in (await run(executor, "wrong", {"path": path})).output
    said = (await run(executor, "odd", runtime="bash")).output["text"]
    assert said.count("not a regular file") == 3
    assert said.count("cannot be read") == 4


async def test_a_call_that_fails_gives_nothing(executor: SubprocessExecutor) -> None:
    with pytest.raises(errors.SkillFailedError, match="no such branch"):
        await run(executor, "fail")


async def test_a_leased_sandbox_gives_files_with_each_of_its_calls(tmp_path: Path) -> None:
    executor = SubprocessExecutor(workspace=tmp_path, level="restricted", warm=1, limit=2, walled=False)
    await executor.start()
    try:
        results = [
            await run(executor, "large", {"sizes": [MAX_ATTACHMENT_BYTES]}, level="restricted") for _ in range(3)
        ]
    finally:
        await executor.close()
    assert len({result.sandbox for result in results}) == 1
    assert len({result.attachments[0].sha256 for result in results}) == 3


async def test_the_record_has_hash_size_and_type_and_no_name(executor: SubprocessExecutor) -> None:
    records: list[Record] = []

    class Sink:
        async def write(self, record: Record) -> None:
            records.append(record)

    service = SkillService("agent-1", SkillRegistry("local"), executor, Audit([Sink()]))
    skill = make_skill("give", runtime="python", **SKILLS["python"])
    await service.call(skill, "give", {}, session="s", context=RecordingContext())
    (record,) = records
    assert isinstance(record, ExecutionRecord)
    facts = sorted(json.loads(record.line())["attachments"], key=lambda each: str(each["media_type"]))
    assert facts == [
        {"media_type": "image/png", "sha256": hashlib.sha256(b"\x00\xff\n").hexdigest(), "bytes": 3},
        {"media_type": "text/plain", "sha256": hashlib.sha256(b"text").hexdigest(), "bytes": 4},
    ]


def test_openclaw_skill_run_writes_them_to_a_folder(tmp_path: Path) -> None:
    made = CliRunner().invoke(cli.app, ["init", "hello", "--directory", str(tmp_path / "hello")])
    assert made.exit_code == 0
    code = b'async def greet(ctx, given):\n    await ctx.attach("a.txt", b"hello")\n    return {"text": "see there"}\n'
    (tmp_path / "hello/scripts/main.py").write_bytes(code)
    arguments = ["run", str(tmp_path / "hello"), "greet", "--input", '{"name": "Ada"}']
    ran = CliRunner().invoke(cli.app, [*arguments, "--attachments", str(tmp_path / "out")])
    assert json.loads(ran.stdout) == {"text": "see there"}
    assert (tmp_path / "out/a.txt").read_bytes() == b"hello"
    assert "out/a.txt (text/plain, 5 bytes)" in ran.stderr


# --- MCP --------------------------------------------------------------------------------------------------------------


async def test_an_image_of_an_mcp_server_is_attached_in_a_sandbox_and_over_http(executor: SubprocessExecutor) -> None:
    actions = (ActionSpec("picture", tool="picture"),)
    code = pack_files([PackageFile("server.py", Path(mcp.__file__).with_name("server.py").read_bytes())])
    stdio = McpServer(command=("python", "server.py"), timeout_seconds=60)
    async with serving(create_app()) as address:
        http = McpServer(url=f"{address}/mcp", timeout_seconds=60)
        skills = [make_skill(package=code, actions=actions, mcp=stdio, timeout=60.0)]
        skills.append(make_skill(actions=actions, mcp=http, permissions=("network:internal",)))
        remote = McpExecutor(executor)
        for skill in skills:
            result = await remote.execute(make_call(skill), RecordingContext())
            assert result.output == "[image: attached as image-1.png]"
            (attachment,) = result.attachments
            assert (attachment.name, attachment.media_type, attachment.data) == ("image-1.png", "image/png", PIXEL)


# --- attacks of a skill on the runner ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n" * 100,
        b"x" * 100_000,
        b'{"jsonrpc":"2.0","id":1,"method":"attach","params":{"name":"a","mediaType":""}}\nx',
        b'{"jsonrpc":"2.0","id":"c1","method":"call","params":{}}\nx',
        b'{"jsonrpc":"2.0","id":"c1","method":"attach","params":{"name":7,"mediaType":""}}\nx',
        bytes(64 * 1024 * 1024),
    ],
    ids=["nothing", "lines", "no line", "number", "method", "name", "huge"],
)
async def test_nonsense_in_the_place_of_an_attachment_ends_the_call(executor: SubprocessExecutor, body: bytes) -> None:
    attack = {"hex": pack(Kind.ATTACHMENT, body)[: 1024 * 1024].hex()}
    with pytest.raises(errors.SandboxError):
        await executor.execute(make_call(make_skill("channel"), attack), RecordingContext())
    assert (await run(executor, "plainly")).attachments


async def test_a_skill_that_goes_round_its_own_checks_meets_those_of_the_runner(executor: SubprocessExecutor) -> None:
    offers = [Offer("c1", "../a", "", b"x"), Offer("c2", "a", "a/b\r\nX: y", b"x"), Offer("c3", "a", "", b"")]
    frames = b"".join(pack(Kind.ATTACHMENT, offer.encode()) for offer in offers)
    frames += pack(Kind.MESSAGE, encode(Success(CALL_ID, {"output": "done"})).encode())
    # What comes after the result is not read.
    frames += pack(Kind.ATTACHMENT, Offer("c4", "late", "", b"x").encode())
    attack = {"hex": frames.hex()}
    result = await executor.execute(make_call(make_skill("channel"), attack), RecordingContext())
    assert (result.output, result.attachments) == ("done", ())


async def test_a_skill_that_will_not_stop_offering_is_ended(executor: SubprocessExecutor) -> None:
    with pytest.raises(errors.AttachmentRefusedError, match="more than 16 attachments were refused"):
        await run(executor, "again")


# --- attacks of a pod on the gateway ----------------------------------------------------------------------------------

Speech = Callable[[ServerConnection], Any]


@asynccontextmanager
async def pod(answer: Speech) -> AsyncIterator[Endpoint]:
    """A pod that takes any call and answers as it likes."""

    async def handle(connection: ServerConnection) -> None:
        await connection.send(encode(Hello("pod", "uid", os.urandom(32)).message()))
        await connection.recv()
        await connection.recv()
        try:
            await answer(connection)
            await connection.wait_closed()
        except ConnectionClosed:
            pass

    with tempfile.TemporaryDirectory(prefix="openclaw-") as folder:
        path = Path(folder) / "s"
        async with unix_serve(handle, str(path), subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=None):
            yield Endpoint("pod", "uid", path)


async def call(endpoint: Endpoint) -> SkillResult:
    options = CallOptions(PACKAGE.data, Limits(timeout_seconds=60), frozenset())
    return await SandboxClient(Signer.generate()).call(endpoint, make_call(make_skill()), options, RecordingContext())


def response(*announced: Announced) -> str:
    result = CallResult({}, 1.0, canonical_sha256({}), attachments=announced)
    return encode(Success(CALL_ID, result.wire()))


ONE = Announced("a", "a/b", 4, hashlib.sha256(b"1234").hexdigest())
LARGE = Announced("a", "a/b", MAX_ATTACHMENT_BYTES, "0" * 64)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([response(ONE), b"1235"], "sha256 does not match"),
        ([response(ONE), b"12345"], "a frame of 5 bytes where 4 bytes belong"),
        ([response(ONE), b"12"], "a frame of 2 bytes where 4 bytes belong"),
        ([response(ONE), b""], "a frame of 0 bytes"),
        ([response(ONE), response(ONE)], "a frame of text"),
        ([b"1234", response(ONE)], "a binary frame where text belongs"),
        ([response(Announced("../a", "a/b", 4, "0" * 64))], "not a file's name"),
        ([response(Announced("a", "a/b", 1 << 40, "0" * 64))], "at most 8388608"),
        ([response(*[Announced(str(n), "a/b", 1, "0" * 64) for n in range(17)])], "at most 16"),
        ([response(*[Announced(str(n), "a/b", MAX_ATTACHMENT_BYTES, "0" * 64) for n in range(3)])], "in all"),
    ],
    ids=["hash", "longer", "shorter", "empty", "text", "before", "path", "size", "number", "total"],
)
async def test_a_pod_that_sends_other_than_it_announced_is_found_out(frames: list[str | bytes], reason: str) -> None:
    async def answer(connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(frame)

    async with pod(answer) as endpoint:
        with pytest.raises(errors.ProtocolViolationError, match=reason):
            await call(endpoint)


async def test_what_comes_after_the_attachments_is_never_read() -> None:
    async def endless(connection: ServerConnection) -> None:
        await connection.send(response(ONE))
        await connection.send(b"1234")
        while True:
            await connection.send(bytes(CHUNK_BYTES))

    async with pod(endless) as endpoint:
        assert [each.data for each in (await call(endpoint)).attachments] == [b"1234"]


async def test_a_pod_that_goes_away_or_stands_still_between_frames_fails_its_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def leave(connection: ServerConnection) -> None:
        await connection.send(response(LARGE))
        await connection.send(bytes(CHUNK_BYTES))
        await connection.close()

    async def stand(connection: ServerConnection) -> None:
        await connection.send(response(LARGE))

    async with pod(leave) as endpoint:
        with pytest.raises(errors.SkillCrashedError, match="went away"):
            await call(endpoint)
    monkeypatch.setattr(exchange, "ATTACHMENT_SECONDS", 0.1)
    async with pod(stand) as endpoint:
        with pytest.raises(errors.CallTimeoutError, match="did not send its attachments"):
            await call(endpoint)
