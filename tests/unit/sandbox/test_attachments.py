"""Attachments of a call: their limits, and the frames they travel in."""

import base64
import contextlib
import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw_runtime.sandbox.attachments import (
    CHUNK_BYTES,
    MAX_ATTACHMENT_BYTES,
    MAX_ATTACHMENTS,
    MAX_TOTAL_BYTES,
    Announced,
    Attachment,
    AttachmentError,
    Bounds,
    Offer,
    Receiver,
    check,
    media_type_of,
    parse_announced,
)
from openclaw_runtime.sandbox.jsonrpc import ProtocolError
from openclaw_runtime.sandbox.mcp import result_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
SHA256 = "0" * 64


@pytest.mark.parametrize("name", ["plot.png", "Bericht für Ada.pdf", "図.svg", "a", "x" * 128, "..plot"[2:], "a..b"])
def test_names_of_files_are_allowed(name: str) -> None:
    check(name, "image/png", 1)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".profile",
        "../plot.png",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\nb",
        "a\x00",
        "a\x7f",
        " a",
        "a ",
        "gpj\u202egnp.exe",
        "\ud800",
        "x" * 129,
    ],
    ids=ascii,
)
def test_paths_and_control_characters_are_refused(name: str) -> None:
    with pytest.raises(AttachmentError, match=r"1 to 128|not a file's name"):
        check(name, "image/png", 1)


@pytest.mark.parametrize("media_type", ["", "image", "image/", "Image/PNG", "text/html; charset=x", "a/b\r\nX: y"])
def test_what_is_no_media_type_is_refused(media_type: str) -> None:
    with pytest.raises(AttachmentError, match="not a media type; give one like image/png"):
        check("a", media_type, 1)


def test_the_size_of_one_is_bounded_and_the_error_says_what_to_do() -> None:
    check("a", "a/b", MAX_ATTACHMENT_BYTES)
    with pytest.raises(AttachmentError, match="a: 8388609 bytes; at most 8388608 are allowed: make it smaller"):
        check("a", "a/b", MAX_ATTACHMENT_BYTES + 1)
    with pytest.raises(AttachmentError, match="is empty; leave it out"):
        check("a", "a/b", 0)


def test_their_number_total_and_names_are_bounded() -> None:
    bounds = Bounds()
    bounds.take("0", "a/b", MAX_ATTACHMENT_BYTES)
    with pytest.raises(AttachmentError, match="choose another"):
        bounds.take("0", "a/b", 1)
    bounds.take("1", "a/b", MAX_ATTACHMENT_BYTES - 20)
    with pytest.raises(AttachmentError, match=f"at most {MAX_TOTAL_BYTES} are allowed in all"):
        bounds.take("2", "a/b", 21)
    for number in range(2, MAX_ATTACHMENTS):
        bounds.take(str(number), "a/b", 1)
    with pytest.raises(AttachmentError, match="at most 16 attachments; pack them into one archive"):
        bounds.take("more", "a/b", 1)


def test_a_media_type_goes_by_the_end_of_a_name() -> None:
    assert media_type_of("A.PNG") == "image/png"
    assert media_type_of("report.pdf") == "application/pdf"
    assert media_type_of("png") == media_type_of("Makefile") == "application/octet-stream"


@given(st.binary(max_size=200), st.text(max_size=50), st.text(max_size=50))
def test_an_offer_survives_its_frame(data: bytes, name: str, media_type: str) -> None:
    offer = Offer("c1", name, media_type, data)
    assert Offer.decode(offer.encode()) == offer


@given(st.binary())
def test_no_bytes_break_the_reader_of_offers(data: bytes) -> None:
    for body in (data, Offer("c1", "a", "a/b", b"x").encode()[: len(data)] + data):
        with contextlib.suppress(ProtocolError):
            Offer.decode(body)


def received(attachment: Attachment, frames: list[str | bytes]) -> Attachment:
    receiver = Receiver(attachment.announced)
    for frame in frames:
        receiver.take(frame)
    assert receiver.complete
    return receiver.result()


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_an_attachment_survives_the_wire(size: int) -> None:
    attachment = Attachment.of("a", "a/b", bytes(size))
    assert attachment.sha256 == hashlib.sha256(bytes(size)).hexdigest()
    assert parse_announced([attachment.announced.wire()], "x") == (attachment.announced,)
    assert all(len(chunk) <= CHUNK_BYTES for chunk in attachment.chunks())
    assert received(attachment, list(attachment.chunks())) == attachment


@pytest.mark.parametrize(
    "frames",
    [[b"12345"], [b""], [b"1", b"234"], ["1234"], [bytes(CHUNK_BYTES + 1)], [b"1234", b"5"]],
    ids=["too long", "empty", "in other pieces", "text", "more than a frame", "one more"],
)
def test_a_frame_that_is_not_exactly_what_is_due_is_refused(frames: list[str | bytes]) -> None:
    with pytest.raises(ProtocolError, match=r"attachment a: a frame of .* where . bytes belong"):
        received(Attachment.of("a", "a/b", b"1234"), frames)


def test_bytes_that_are_not_those_announced_are_refused() -> None:
    with pytest.raises(ProtocolError, match="sha256 does not match"):
        received(Attachment.of("a", "a/b", b"1234"), [b"1235"])


FINE = Announced("a", "a/b", 1, SHA256)


@pytest.mark.parametrize(
    ("announced", "reason"),
    [
        ("x", "a list of at most 16"),
        ([FINE.wire()] * 17, "a list of at most 16"),
        ([FINE.wire()] * 2, "choose another"),
        ([replace(FINE, name="../a").wire()], "not a file's name"),
        ([replace(FINE, media_type="a").wire()], "not a media type"),
        ([replace(FINE, size=0).wire()], "is empty"),
        ([replace(FINE, size=-1).wire()], "is empty"),
        ([replace(FINE, size=1 << 70).wire()], "at most 8388608"),
        ([replace(FINE, name=str(n), size=MAX_ATTACHMENT_BYTES).wire() for n in range(3)], "in all"),
        ([replace(FINE, sha256="x").wire()], r"x\[0\].sha256: expected 64 hex digits"),
        ([FINE.wire() | {"size": True}], r"x\[0\].size: True is not an integer"),
        ([7], r"x\[0\]: expected an object"),
    ],
)
def test_a_list_that_is_over_a_limit_is_refused_before_a_byte_was_sent(announced: Any, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        parse_announced(announced, "x")


# --- MCP --------------------------------------------------------------------------------------------------------------


def blob(kind: str = "image", data: bytes = PNG, media_type: Any = "image/png") -> dict[str, Any]:
    return {"type": kind, "data": base64.b64encode(data).decode(), "mimeType": media_type}


def resource(uri: Any, data: bytes = PNG, media_type: Any = None) -> dict[str, Any]:
    body = {"uri": uri, "blob": base64.b64encode(data).decode(), "mimeType": media_type}
    return {"type": "resource", "resource": body}


def test_what_an_mcp_tool_returns_beside_text_is_attached() -> None:
    content = [
        {"type": "text", "text": "two plots"},
        blob(),
        blob("audio", b"RIFF", "audio/wav; codecs=1"),
        resource("file:///out/report.pdf?x=/y", b"%PDF"),
        resource("plain:/", b"x", "application/x-made-up"),
        resource("http://x/report.pdf", b"%PDF2"),
    ]
    found = result_of({"content": content})
    assert found.output.splitlines()[::2] == [
        "two plots",
        "[image: attached as image-1.png]",
        "[audio: attached as audio-2.wav]",
        "[resource: attached as report.pdf]",
        "[resource: attached as resource-4]",
        "[resource: attached as resource-5]",
    ]
    assert [(each.name, each.media_type, each.data) for each in found.attachments] == [
        ("image-1.png", "image/png", PNG),
        ("audio-2.wav", "audio/wav", b"RIFF"),
        ("report.pdf", "application/pdf", b"%PDF"),
        ("resource-4", "application/x-made-up", b"x"),
        ("resource-5", "application/octet-stream", b"%PDF2"),
    ]
    assert found.problems == ()


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (blob() | {"data": "!"}, "not base64"),
        (blob(media_type="no type"), "not a media type"),
        (blob(data=b""), "is empty"),
        (blob(data=bytes(MAX_ATTACHMENT_BYTES + 1)), "at most 8388608"),
        (blob() | {"data": "A" * (3 * MAX_ATTACHMENT_BYTES)}, "characters of base64; at most 8388608 bytes"),
    ],
    ids=["not base64", "no type", "empty", "too large", "far too large"],
)
def test_what_cannot_be_attached_is_left_out_and_said(block: dict[str, Any], reason: str) -> None:
    found = result_of({"content": [block, blob()], "structuredContent": {"total": 5}})
    assert found.output == {"total": 5}
    assert [each.name for each in found.attachments] == ["image-1.png"]
    (problem,) = found.problems
    assert reason in problem


@pytest.mark.parametrize(
    "block", [{"type": "image"}, {"type": "image", "data": 7, "mimeType": "a/b"}, blob(media_type=7)]
)
def test_blocks_of_an_odd_shape_break_nothing(block: dict[str, Any]) -> None:
    result_of({"content": [block, resource(7), {"type": "resource", "resource": {"blob": 7}}, {"type": 7}, None]})
