"""Images in requests: which are taken, how many, and what each refusal names."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters

from openclaw_runtime.agent.attachments import MAX_SHOWN, MAX_SHOWN_BYTES, MAX_TURN_BYTES, TOO_MUCH
from openclaw_runtime.agent.events import Turn, TurnRequest
from openclaw_runtime.gateway.images import image_of
from openclaw_runtime.gateway.openai import RequestError, parse_request, to_turn
from openclaw_runtime.models.blind import BlindModel, shows_images
from openclaw_runtime.models.router import judge
from openclaw_runtime.timelimit import TimeLimit
from tests.fakes.images import png

PNG = png(640, 480)
TAKEN = "data:<type>;base64,<data>, where the type is one of image/png, image/jpeg, image/gif, image/webp"


def url(data: bytes = PNG, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def part(address: str | None = None) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url() if address is None else address, "detail": "low"}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def turn(*messages: dict[str, Any]) -> TurnRequest:
    request = parse_request(json.dumps({"messages": messages}).encode())
    return to_turn(request, session_header=None, fresh_session="s", now=1.0)


def test_text_and_images_of_a_message_are_one_question() -> None:
    asked = turn(user(text("What is"), part(), text("this?"), part(url(png(1, 1)))))
    assert asked.text == "What is\nthis?"
    assert [(each.name, each.media_type, each.data) for each in asked.images] == [
        ("image-1.png", "image/png", PNG),
        ("image-2.png", "image/png", png(1, 1)),
    ]
    assert asked.said == (
        "What is\nthis?\n\nImages that came with this message, shown in its turn only:\n"
        f"- image-1.png (image/png, {len(PNG)} bytes)\n- image-2.png (image/png, {len(png(1, 1))} bytes)"
    )
    assert turn(user(part())).said.startswith("Images that came with this message")
    assert turn({"role": "user", "content": "hi"}).said == "hi"
    pieces = turn(user(text("one"), part()), user(part()))
    assert (pieces.text, len(pieces.images), pieces.history) == ("one", 2, None)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (
            "https://example.com/a.png",
            f"'https://example.com/a.png' is not a data URL; the gateway fetches nothing {TAKEN}",
        ),
        ("http://169.254.169.254/" + "x" * 99, "…"),
        ("file:///etc/passwd", "'file:///etc/passwd' is not a data URL"),
        ("", "'' is not a data URL"),
        ("data:image/png,abc", "'data:image/png' is not base64; send"),
        ("data:image/png;base64", "is not base64; send"),
        (url(b"<svg/>", "image/svg+xml"), f"'image/svg+xml' is not supported; {TAKEN}"),
        (url(b"%PDF", "application/pdf"), "'application/pdf' is not supported"),
        ("data:image/png;base64,a b", "is not base64:"),
        (url() + "\n", "is not base64:"),
        (url(PNG[:-1]), "not a whole PNG, JPEG, GIF or WebP image; send one that can be shown"),
        (url(b""), "not a whole PNG"),
        (url(PNG, "image/jpeg"), "the image is image/png, not image/jpeg"),
        (url(png(7_901, 1)), "7901 x 1 pixels; at most 7900 x 7900 are"),
        (url(png(640, 480, MAX_SHOWN_BYTES + 1)), f"an image may have {MAX_SHOWN_BYTES}: make it smaller"),
    ],
    ids=range(15),
)
def test_an_image_that_is_not_taken_is_named_with_the_reason_and_the_fix(address: str, why: str) -> None:
    with pytest.raises(RequestError) as caught:
        turn({"role": "system", "content": "x"}, user(text("hi"), part(address)))
    field = "messages[1].content[1].image_url.url"
    assert (caught.value.status, caught.value.param) == (400, field)
    assert str(caught.value).startswith(f"{field}: ")
    assert all(each in str(caught.value) for each in why.split(f" {TAKEN}"))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("message", "field", "why"),
    [
        (user({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}), ".type", "'input_audio' are not"),
        (
            user({"type": "file", "file": {"file_data": url()}}),
            ".type",
            "'file' are not supported; send text and image",
        ),
        (user({"type": "image_url"}), ".image_url", "is missing"),
        ({"role": "assistant", "content": [part()]}, "", "an image of the role assistant; only messages of the user"),
    ],
    ids=["audio", "file", "missing", "assistant"],
)
def test_other_parts_are_refused_by_their_field(message: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(RequestError, match=r"^messages\[0\]\.content\[0\]") as caught:
        turn(message, {"role": "user", "content": "hi"})
    assert caught.value.param == f"messages[0].content[0]{field}"
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "sizes",
    [[400] * MAX_SHOWN, [MAX_SHOWN_BYTES] * 2 + [MAX_TURN_BYTES - 2 * MAX_SHOWN_BYTES]],
    ids=["number", "bytes"],
)
async def test_a_question_has_as_many_images_as_a_turn_shows_and_not_one_more(sizes: list[int]) -> None:
    images = [part(url(png(640, 480, size))) for size in sizes]
    asked = turn(user(*images))
    assert [len(each.data) for each in asked.images] == sizes
    # What its skills give would be too much then.
    shown = Turn(asked, TimeLimit(1), lambda _: None).shown
    assert (shown.images, shown.size) == (len(sizes), sum(sizes))
    with pytest.raises(RequestError) as caught:
        turn(user(*images, part()))
    assert str(caught.value) == f"messages: {TOO_MUCH}; send fewer, or smaller ones"


def test_of_a_conversation_that_the_client_keeps_the_newest_images_are_shown_again() -> None:
    said = [user(text(f"look {number}"), part(url(png(640, 480, 400 + number)))) for number in range(5)]
    answers = [{"role": "assistant", "content": "I see"}] * 5
    talk = [each for pair in zip(said, answers, strict=True) for each in pair]
    asked = turn({"role": "system", "content": "x"}, *talk, user(text("and this?"), part()))
    assert {place: [each.name for each in images] for place, images in asked.earlier.items() if images} == {
        4: ["image-3.png"],
        6: ["image-4.png"],
        8: ["image-5.png"],
    }
    assert asked.history is not None
    assert [each.content for each in asked.history[:5:2]] == [
        *(
            f"look {number}\n\nImages that came with this message, shown in its turn only:\n"
            f"- image-{number + 1}.png (image/png, {400 + number} bytes)"
            for number in range(2)
        ),
        "look 2",
    ]


@given(st.text(), st.binary(max_size=40))
@settings(deadline=None)
def test_any_address_is_taken_or_refused(address: str, data: bytes) -> None:
    for given_url in (address, f"data:{address}", f"data:image/png;base64,{address}", url(data)):
        with pytest.raises(ValueError, match=r"."):
            image_of(given_url, 1)


# --- before the model -------------------------------------------------------------------------------------------------


class Recorder(Model):
    """Keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    model_name = "recorder"
    system = "test"

    async def request(self, messages: Any, *_: Any) -> ModelResponse:
        self.asked = messages
        return ModelResponse(parts=[TextPart("I see")])


async def test_a_model_that_cannot_see_gets_a_note_in_the_place_of_an_image() -> None:
    image = BinaryContent(PNG, media_type="image/png", identifier="image-1.png")
    question = ModelRequest(parts=[UserPromptPart(["What is this?", image])])
    asked: list[ModelMessage] = [question, ModelResponse(parts=[TextPart("A cat")])]
    recorder = Recorder()
    await BlindModel(recorder).request(asked, None, ModelRequestParameters())
    note = f"File image-1.png (image/png, {len(PNG)} bytes) was not sent: this model cannot read images."
    (told,) = recorder.asked[0].parts
    assert told.content == ["What is this?", f"{note} Say so where it matters."]
    assert recorder.asked[1] is asked[1]
    assert shows_images(asked)
    assert not shows_images(recorder.asked)


def test_an_image_makes_a_message_no_longer() -> None:
    image = BinaryContent(png(640, 480, MAX_SHOWN_BYTES), media_type="image/png")
    asked = [ModelRequest(parts=[UserPromptPart(["What is this?", image])])]
    plain = [ModelRequest(parts=[UserPromptPart("What is this?")])]
    assert judge(asked, background=False) == judge(plain, background=False)
