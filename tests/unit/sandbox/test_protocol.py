"""Messages, signatures and frames: pure, and fuzzed."""

import base64
import contextlib
import itertools
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw_runtime.sandbox import jsonrpc, protocol
from openclaw_runtime.sandbox.jsonrpc import (
    Failure,
    Notification,
    ProtocolError,
    Request,
    Success,
    decode,
    encode,
)
from openclaw_runtime.sandbox.protocol import CallPayload, CallResult, Hello, Limits
from openclaw_runtime.sandbox.runner.call import Ended, nonsense
from openclaw_runtime.sandbox.runner.channel import ChannelError, FrameReader, Kind, pack
from openclaw_runtime.sandbox.runner.output import MAX_LINE_BYTES, Allowance, LineSplitter
from openclaw_runtime.sandbox.signing import Connection, Signer, SigningError, Verifier

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=4)
IDS = st.integers() | st.text()
MESSAGES = (
    st.builds(Request, IDS, st.text(), OBJECTS)
    | st.builds(Notification, st.text(), OBJECTS)
    | st.builds(Success, IDS, JSON)
    | st.builds(Failure, IDS | st.none(), st.integers(), st.text(), OBJECTS)
)
CALL = CallPayload(
    nonce=b"n" * 32,
    pod_uid="uid",
    expires_at=1000,
    call_id="c",
    agent="a",
    session="s",
    skill="k",
    version="1.0.0",
    digest="sha256:" + "0" * 64,
    runtime="python",
    entrypoint="scripts/main.py",
    action="go",
    input={"a": [1, None]},
    secrets={"TOKEN": "s"},
    permissions=("process:execute",),
)


@given(MESSAGES)
def test_every_message_survives_the_wire(message: jsonrpc.Message) -> None:
    assert decode(encode(message)) == message
    assert encode(message).isascii()


@given(st.text() | st.binary())
def test_no_text_breaks_the_parser(text: str | bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode(text)


@given(JSON)
def test_no_json_breaks_the_parser(value: Any) -> None:
    text = jsonrpc.dumps(value)
    with contextlib.suppress(ProtocolError):
        decode(text)
    with pytest.raises(ProtocolError):
        CallPayload.parse(text)
    with pytest.raises(ProtocolError):
        CallResult.parse(value)
    if isinstance(value, dict):
        with pytest.raises(ProtocolError):
            Hello.parse(value)


def test_a_payload_and_a_hello_survive_the_wire() -> None:
    assert CallPayload.parse(CALL.encode()) == CALL
    hello = Hello("pod", "uid", b"x" * 32, ("sha256:" + "1" * 64,))
    message = decode(encode(hello.message()))
    assert isinstance(message, Notification)
    assert Hello.parse(message.params) == hello
    # What a pod of a version without leases says.
    del message.params["lease"]
    assert Hello.parse(message.params) == hello


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"nonce": "AAAA"}, "payload.nonce: expected 32 bytes"),
        ({"nonce": "ä"}, "payload.nonce: not base64"),
        ({"expiresAt": True}, "payload.expiresAt: True is not an integer"),
        ({"expiresAt": 1.5}, "payload.expiresAt"),
        ({"digest": "sha256:xyz"}, "payload.digest: 'sha256:xyz' is not sha256"),
        ({"input": []}, "payload.input: \\[\\] is not an object"),
        ({"secrets": {"A": 1}}, "payload.secrets"),
        ({"permissions": [1]}, "payload.permissions"),
        ({"limits": {}}, "payload.limits.timeoutSeconds: missing"),
        ({"limits": Limits().wire() | {"timeoutSeconds": 10**400}}, "payload.limits.timeoutSeconds"),
        ({"limits": Limits().wire() | {"memoryBytes": 1}}, "payload.limits.memoryBytes: 1 is not between"),
        ({"agent": "x" * 300}, "payload.agent: longer than 256"),
    ],
)
def test_a_wrong_payload_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    body = jsonrpc.loads(CALL.encode())
    assert isinstance(body, dict)
    with pytest.raises(ProtocolError, match=field):
        CallPayload.parse(jsonrpc.dumps(body | change))


def test_a_pod_of_a_version_without_attachments_is_understood() -> None:
    wire = CallResult({}, 1.0, jsonrpc.canonical_sha256({})).wire()
    del wire["attachments"]
    assert CallResult.parse(wire).attachments == ()


def test_a_result_whose_hash_is_wrong_is_refused() -> None:
    wire = CallResult({"a": 1}, 1.0, jsonrpc.canonical_sha256({"a": 1})).wire()
    assert CallResult.parse(wire).output == {"a": 1}
    with pytest.raises(ProtocolError, match="resultSha256"):
        CallResult.parse(wire | {"output": {"a": 2}})


def test_the_canonical_hash_ignores_the_order_of_keys() -> None:
    assert jsonrpc.canonical_sha256({"b": 1, "a": 2}) == jsonrpc.canonical_sha256({"a": 2, "b": 1})


# --- signatures -------------------------------------------------------------------------------------------------------


def opened(verifier: Verifier, signer: Signer, now: float = 990.0, call: CallPayload = CALL) -> CallPayload:
    text = call.encode()
    return verifier.open(text, signer.sign(text), Connection(b"n" * 32, "uid", now))


def test_any_of_several_keys_may_have_signed() -> None:
    old, new = Signer.generate(), Signer.generate()
    verifier = Verifier.from_text(",".join(base64.b64encode(key.public_key).decode() for key in (old, new)))
    assert opened(verifier, old) == opened(verifier, new) == CALL
    with pytest.raises(SigningError, match="no key"):
        opened(verifier, Signer.generate())


@pytest.mark.parametrize(("now", "fine"), [(1029.0, True), (1031.0, False), (370.0, True), (369.0, False)])
def test_the_time_of_a_call_is_bounded_on_both_sides(now: float, fine: bool) -> None:
    signer = Signer.generate()
    verifier = Verifier([signer.public_key])
    if fine:
        assert opened(verifier, signer, now) == CALL
    else:
        with pytest.raises(SigningError, match="expiresAt"):
            opened(verifier, signer, now)


@pytest.mark.parametrize(("change", "what"), [({"nonce": b"o" * 32}, "nonce"), ({"pod_uid": "other"}, "podUid")])
def test_a_call_is_bound_to_its_connection_and_pod(change: dict[str, Any], what: str) -> None:
    signer = Signer.generate()
    with pytest.raises(SigningError, match=what):
        opened(Verifier([signer.public_key]), signer, call=replace(CALL, **change))


@pytest.mark.parametrize("text", ["", ",", "AAAA", "not base64!"])
def test_keys_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SigningError, match="public key"):
        Verifier.from_text(text)


@given(st.binary(max_size=100), st.text(max_size=100))
def test_no_signature_of_chance_is_accepted(signature: bytes, text: str) -> None:
    verifier = Verifier([Signer(b"\x01" * 32).public_key])
    for given_signature in (base64.b64encode(signature).decode(), text):
        with pytest.raises(SigningError):
            verifier.open(CALL.encode(), given_signature, Connection(b"n" * 32, "uid", 990.0))


# --- frames of the channel --------------------------------------------------------------------------------------------

FRAMES = st.lists(st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=50)), max_size=6)


@given(FRAMES, st.lists(st.integers(0, 400), max_size=8))
def test_frames_come_out_whole_however_they_are_cut(frames: list[tuple[Kind, bytes]], cuts: list[int]) -> None:
    stream = b"".join(pack(kind, body) for kind, body in frames)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    reader = FrameReader(100)
    found = [frame for start, end in itertools.pairwise(edges) for frame in reader.feed(stream[start:end])]
    assert found == frames


@given(st.binary())
def test_no_bytes_break_the_frame_reader(data: bytes) -> None:
    reader = FrameReader(64)
    with contextlib.suppress(ChannelError):
        assert all(len(body) <= 64 for _, body in reader.feed(data))


def test_a_frame_over_the_limit_is_refused_before_it_is_there() -> None:
    with pytest.raises(ChannelError, match="a frame of 65 bytes; at most 64"):
        FrameReader(64).feed(struct.pack(">IB", 65, Kind.MESSAGE))


@pytest.mark.parametrize(
    ("written", "ended"),
    [
        (
            struct.pack(">IB", 65, Kind.MESSAGE),
            Ended(
                protocol.ErrorCode.RESULT_TOO_LARGE,
                "the skill's process sent a frame of 65 bytes; at most 64 are allowed",
            ),
        ),
        (
            b'{"jsonrpc":"2.0"}',
            Ended(
                protocol.ErrorCode.SKILL_CRASHED,
                "the skill's process broke the protocol: frames of kind 111 are not known",
            ),
        ),
    ],
    ids=["too much", "not a frame"],
)
def test_only_a_result_that_is_too_large_is_called_so(written: bytes, ended: Ended) -> None:
    with pytest.raises(ChannelError) as caught:
        FrameReader(64).feed(written)
    assert nonsense(caught.value) == ended


@given(st.lists(st.binary(max_size=30)))
def test_lines_are_the_same_however_they_are_cut(pieces: list[bytes]) -> None:
    whole, cut = LineSplitter(), LineSplitter()
    data = b"".join(pieces)
    expected = whole.feed(data) + whole.flush()
    assert [line for piece in pieces for line in cut.feed(piece)] + cut.flush() == expected


def test_a_long_line_is_cut_and_marked() -> None:
    lines = LineSplitter().feed(b"x" * (MAX_LINE_BYTES + 5) + b"\nnext\n")
    assert lines == ["x" * MAX_LINE_BYTES + " …", "next"]


def test_an_allowance_refills_with_time_and_ends_with_its_total() -> None:
    allowance = Allowance(burst=2, per_second=1, total_bytes=100)
    assert [allowance.take(10, 0.0) for _ in range(3)] == [True, True, False]
    assert allowance.take(10, 1.0)
    assert not allowance.take(71, 10.0)
    assert allowance.dropped == 2
