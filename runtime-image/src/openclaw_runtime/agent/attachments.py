"""What a model is told, and shown, of the files that come with a skill's result or a user's message. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic_ai.messages import BinaryContent

from openclaw_runtime.agent.images import Image, read_image
from openclaw_runtime.sandbox.attachments import Attachment

MAX_SHOWN: Final = 4
"""Images of one turn. Each request of a turn has all of them again, and some providers take no more than 5."""
MAX_SHOWN_BYTES: Final = 3 * 1024 * 1024
"""Of one image. As base64 it is 4 MiB, which every provider takes."""
MAX_TURN_BYTES: Final = 8 * 1024 * 1024
"""Of the images of one turn. As base64 they are 11 MiB; the least that a provider takes as a whole request is 20 MB."""
TOO_MUCH: Final = f"a turn shows at most {MAX_SHOWN} images, {MAX_SHOWN_BYTES} bytes each and {MAX_TURN_BYTES} in all"
MAX_SIDE: Final = 7_900
"""Pixels. Providers refuse what is wider or higher than 8,000."""

Content = str | list[str | BinaryContent]
"""What a tool returns, or a user says: text, and images after it."""


@dataclass(slots=True)
class Shown:
    """What a turn has shown its model so far: how many images, and how many bytes they have."""

    images: int = 0
    size: int = 0

    def add(self, size: int) -> bool:
        """Counts one image more; returns False, and counts nothing, where it may not be shown too."""
        if size > MAX_SHOWN_BYTES or self.images == MAX_SHOWN or self.size + size > MAX_TURN_BYTES:
            return False
        self.images += 1
        self.size += size
        return True


def user_content(text: str, images: Sequence[Attachment]) -> Content:
    """Returns a user's message as the model is given it: images follow the text. They have to be such as are shown."""
    if not images:
        return text
    shown = [BinaryContent(each.data, media_type=each.media_type, identifier=each.name) for each in images]
    return [text, *shown] if text else [*shown]


def mentioned(text: str, images: Sequence[Attachment]) -> str:
    """Returns a user's message as it is kept: images are named in it."""
    if not images:
        return text
    lines = [f"- {each.name} ({each.media_type}, {len(each.data)} bytes)" for each in images]
    return "\n".join(
        [*([text, ""] if text else []), "Images that came with this message, shown in its turn only:", *lines]
    )


def for_model(text: str, attachments: Sequence[Attachment], shown: Shown, *, kept: bool) -> Content:
    """Returns a result as the model is given it: images follow the text, all files are named in it.

    `shown` counts the images of the turn. `kept` says whether the user can have the files.
    """
    if not attachments:
        return text
    images: list[BinaryContent] = []
    lines = ["Files that came with this result; " + ("the user has them." if kept else "they could not be kept.")]
    for each in attachments:
        facts = f"{each.media_type}, {len(each.data)} bytes"
        if each.media_type.startswith("image/"):
            image = read_image(each.data)
            reason = refusal(image, len(each.data), shown)
            if image and not reason:
                images.append(BinaryContent(each.data, media_type=image.media_type, identifier=each.name))
            facts += f"; not shown: {reason}" if reason else "; see below"
        lines.append(f"- {each.name} ({facts})")
    whole = f"{text}\n\n" + "\n".join(lines)
    return [whole, *images] if images else whole


def refusal(image: Image | None, size: int, shown: Shown) -> str:
    """Returns why an image is not shown; "" where it is, and is counted."""
    if image is None:
        return "not a whole PNG, JPEG, GIF or WebP image"
    if max(image.width, image.height) > MAX_SIDE:
        return f"{image.width} x {image.height} pixels; at most {MAX_SIDE} x {MAX_SIDE} are"
    if not shown.add(size):
        return TOO_MUCH
    return ""
