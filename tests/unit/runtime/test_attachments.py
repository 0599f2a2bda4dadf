"""What a model is told and shown of a skill's files, and which models can see."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import BinaryContent, ModelRequest, ToolReturnPart
from pydantic_ai.models import ModelRequestParameters

from openclaw_runtime.agent.attachments import MAX_SHOWN_BYTES, MAX_TURN_BYTES, Shown, for_model
from openclaw_runtime.agent.events import SkillUse, TurnDone, Usage, uses_heard, uses_told
from openclaw_runtime.agent.images import Image, read_image
from openclaw_runtime.memory.types import KeptAttachment
from openclaw_runtime.models.prices import estimated_tokens
from openclaw_runtime.models.sections import Endpoint
from openclaw_runtime.models.sight import can_see
from openclaw_runtime.sandbox.attachments import Attachment
from tests.fakes.images import png

PNG = png(640, 480)
JPEG = (
    b"\xff\xd8\xff\xe1\x00\x06\xff\xd9\xc0\xc0"  # with a preview in its segment
    b"\xff\xc4\x00\x03\x00\xff\xc2\x00\x0b\x08\x01\xe0\x02\x80\x01\x11\x00\xff\xda\x00\x02pixels\xff\xd9"
)
GIF = b"GIF89a\x80\x02\xe0\x01\x00\x00\x00;"


def webp(chunk: bytes) -> bytes:
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk


LOSSY = webp(b"VP8 \x0a\x00\x00\x00\x00\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01")
LOSSLESS = webp(b"VP8L\x0a\x00\x00\x00\x2f" + (639 | 479 << 14).to_bytes(4, "little") + bytes(5))
EXTENDED = webp(b"VP8X\x0a\x00\x00\x00" + bytes(4) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        (LOSSY, "image/webp"),
        (LOSSLESS, "image/webp"),
        (EXTENDED, "image/webp"),
    ],
    ids=["png", "jpeg", "gif", "lossy", "lossless", "extended"],
)
def test_an_image_is_what_begins_like_one_and_is_there_to_its_end(data: bytes, kind: str) -> None:
    assert read_image(data) == Image(kind, 640, 480)
    assert [length for length in range(len(data)) if read_image(data[:length])] == []


@pytest.mark.parametrize(
    "data",
    [
        b"<svg>",
        b"RIFF\x1a\x00\x00\x00WAVE" + bytes(30),
        png(0, 480),
        b"\xff\xd8\xff" + bytes(40) + b"\xff\xd9",
        b"\xff\xd8" + b"\xff\xe0\x00\x02" * 100_000 + JPEG[2:],
    ],
    ids=["svg", "wave", "empty", "segments", "many segments"],
)
def test_what_is_no_image_is_not_taken_for_one(data: bytes) -> None:
    assert read_image(data) is None


@given(st.sampled_from([PNG, JPEG, GIF, LOSSY, LOSSLESS, EXTENDED]), st.binary(), st.integers(0, 40))
@settings(deadline=None)
def test_any_bytes_can_be_read(image: bytes, noise: bytes, at: int) -> None:
    read_image(image[:at] + noise + image[at + len(noise) :])


def test_images_are_shown_and_other_files_named() -> None:
    assert for_model("5", (), Shown(), kept=True) == "5"
    files = (
        Attachment.of("plot.png", "image/png", PNG),
        Attachment.of("photo.png", "image/png", JPEG),
        Attachment.of("report.pdf", "application/pdf", b"%PDF"),
        Attachment.of("cut.png", "image/png", PNG[:-1]),
        Attachment.of("wide.png", "image/png", png(7_901, 1, 500)),
        Attachment.of("high.png", "image/png", png(1, 7_901, 500)),
        Attachment.of("hidden.bin", "application/octet-stream", PNG),
    )
    size, refused = len(PNG), "not shown: not a whole PNG, JPEG, GIF or WebP image"
    assert for_model("5", files, Shown(), kept=True) == [
        "5\n\nFiles that came with this result; the user has them.\n"
        f"- plot.png (image/png, {size} bytes; see below)\n"
        f"- photo.png (image/png, {len(JPEG)} bytes; see below)\n"
        "- report.pdf (application/pdf, 4 bytes)\n"
        f"- cut.png (image/png, {size - 1} bytes; {refused})\n"
        f"- wide.png (image/png, 500 bytes; not shown: 7901 x 1 pixels; at most 7900 x 7900 are)\n"
        f"- high.png (image/png, 500 bytes; not shown: 1 x 7901 pixels; at most 7900 x 7900 are)\n"
        f"- hidden.bin (application/octet-stream, {size} bytes)",
        BinaryContent(PNG, media_type="image/png"),
        BinaryContent(JPEG, media_type="image/jpeg"),
    ]
    assert "they could not be kept" in for_model("5", files[2:], Shown(), kept=False)


@pytest.mark.parametrize(
    ("sizes", "seen"),
    [
        ([MAX_SHOWN_BYTES, MAX_SHOWN_BYTES + 1, *[100] * 5], [True, False, True, True, True, False, False]),
        ([MAX_SHOWN_BYTES] * 3 + [MAX_TURN_BYTES - 2 * MAX_SHOWN_BYTES, 100], [True, True, False, True, False]),
    ],
    ids=["number", "bytes"],
)
def test_all_results_of_a_turn_show_few_images_and_none_that_a_provider_would_refuse(
    sizes: list[int], seen: list[bool]
) -> None:
    """Each request of a turn has the images of all its results again."""
    shown = Shown()
    files = [Attachment.of("a.png", "image/png", png(640, 480, size)) for size in sizes]
    contents = [for_model("5", [each], shown, kept=True) for each in files]
    assert [isinstance(content, list) for content in contents] == seen
    refusal = "not shown: a turn shows at most 4 images, 3145728 bytes each and 8388608 in all"
    assert [refusal not in str(content) for content in contents] == seen


@pytest.mark.parametrize(
    ("model", "sees"),
    [
        ("gpt-4o-mini", True),
        ("gpt-4.1", True),
        ("gpt-5-nano", True),
        ("o3", True),
        ("o4-mini", True),
        ("claude-sonnet-4-5", True),
        ("claude-3-haiku-20240307", True),
        ("meta-llama/llama-4-scout-17b-16e-instruct", True),
        ("Qwen/Qwen2.5-VL-7B-Instruct", True),
        ("gpt-4", False),
        ("gpt-3.5-turbo", False),
        ("o3-mini", False),
        ("claude-2.1", False),
        ("llama-3.3-70b-versatile", False),
        ("stand-in", False),
    ],
)
def test_a_model_is_shown_images_when_its_name_or_its_configuration_says_that_it_can_see(
    model: str, sees: bool
) -> None:
    endpoint = Endpoint(provider="openai", model=model)
    assert can_see(endpoint) == sees
    assert can_see(endpoint.model_copy(update={"vision": not sees})) != sees


def test_an_image_costs_what_providers_count_for_one_and_not_its_bytes() -> None:
    """A budget would refuse the next request for a picture of 3 MiB as if it were as much text."""
    image = Attachment.of("plot.png", "image/png", png(640, 480, MAX_SHOWN_BYTES))
    content = for_model("5", [image], Shown(), kept=True)
    asked = ModelRequest(parts=[ToolReturnPart("plot", content, tool_call_id="1")])
    assert 1_600 < estimated_tokens([asked], ModelRequestParameters()) < 1_700


def test_the_end_of_a_turn_travels_between_replicas_and_agents() -> None:
    kept = KeptAttachment("id", "plot.png", "image/png", 28, "0" * 64)
    use = SkillUse("plotter", "plot", "ok", "pod", 1.5, (kept,))
    done = TurnDone("5", Usage(1, 2), "stop", (use,))
    there = msgspec.convert(msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(done))), TurnDone)
    assert there.attachments == [kept]


def test_an_agent_of_a_version_before_attachments_takes_an_answer_with_them_and_its_own_is_taken() -> None:
    """A rolling upgrade has both: such an agent fails at a call that says more than it knows."""
    kept = KeptAttachment("id", "plot.png", "image/png", 28, "0" * 64)
    uses = [SkillUse("git", "commit", "ok"), SkillUse("plotter", "plot", "ok", "pod", 1.5, (kept,))]
    answer = msgspec.json.decode(msgspec.json.encode(uses_told(uses)))
    known = {"skill", "action", "outcome", "sandbox", "duration_ms"}
    assert [set(use) for use in answer["skills"]] == [known, known]
    assert uses_heard(answer) == uses
    assert uses_heard({"skills": answer["skills"]})[1] == SkillUse("plotter", "plot", "ok", "pod", 1.5)
    assert uses_told(uses[:1]) == {"skills": answer["skills"][:1]}
    assert uses_heard({}) == []
