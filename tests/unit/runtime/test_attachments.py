"""What a model is told and shown of a skill's files, and which models can see."""

import msgspec
import pytest
from pydantic_ai.messages import BinaryContent, ModelRequest, ToolReturnPart
from pydantic_ai.models import ModelRequestParameters

from openclaw_runtime.agent.attachments import MAX_SHOWN, MAX_SHOWN_BYTES, for_model, image_type
from openclaw_runtime.agent.events import SkillUse, TurnDone, Usage, uses_heard, uses_told
from openclaw_runtime.memory.types import KeptAttachment
from openclaw_runtime.models.prices import estimated_tokens
from openclaw_runtime.models.sections import Endpoint
from openclaw_runtime.models.sight import can_see
from openclaw_runtime.sandbox.attachments import Attachment

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"<svg>", None),
        (b"", None),
    ],
)
def test_an_image_is_what_begins_like_one(data: bytes, kind: str | None) -> None:
    assert image_type(data) == kind


def test_images_are_shown_and_other_files_named() -> None:
    assert for_model("5", (), kept=True) == "5"
    files = (
        Attachment.of("plot.png", "image/png", PNG),
        Attachment.of("photo.png", "image/png", b"\xff\xd8\xff\xe0"),
        Attachment.of("report.pdf", "application/pdf", b"%PDF"),
        Attachment.of("fake.png", "image/png", b"no image"),
        Attachment.of("hidden.bin", "application/octet-stream", PNG),
    )
    assert for_model("5", files, kept=True) == [
        "5\n\nFiles that came with this result; the user has them.\n"
        "- plot.png (image/png, 28 bytes; see below)\n"
        "- photo.png (image/png, 4 bytes; see below)\n"
        "- report.pdf (application/pdf, 4 bytes)\n"
        "- fake.png (image/png, 8 bytes)\n"
        "- hidden.bin (application/octet-stream, 28 bytes)",
        BinaryContent(PNG, media_type="image/png"),
        BinaryContent(b"\xff\xd8\xff\xe0", media_type="image/jpeg"),
    ]
    assert "they could not be kept" in for_model("5", files[2:], kept=False)


def test_few_images_are_shown_and_none_that_a_provider_would_refuse() -> None:
    large = Attachment.of("large.png", "image/png", PNG + bytes(MAX_SHOWN_BYTES))
    small = [Attachment.of(f"{number}.png", "image/png", PNG) for number in range(5)]
    content = list(for_model("5", [large, *small], kept=True))
    assert len(content) == 1 + MAX_SHOWN
    assert str(content[0]).count("not shown: at most 4 images of 3145728 bytes each are") == 2


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
    image = Attachment.of("plot.png", "image/png", PNG + bytes(MAX_SHOWN_BYTES - 100))
    content = for_model("5", [image], kept=True)
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
