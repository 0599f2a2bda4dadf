"""What a model is told, and shown, of the files that came with a skill's result. Pure."""

from collections.abc import Sequence
from typing import Final

from pydantic_ai.messages import BinaryContent

from openclaw_runtime.sandbox.attachments import Attachment

MAX_SHOWN: Final = 4
"""Images of one result: providers limit those of a request, and a turn may have several results."""
MAX_SHOWN_BYTES: Final = 3 * 1024 * 1024
"""Of one image. As base64 it is 4 MiB, which every provider takes."""

_SIGNATURES: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))

ToolContent = str | list[str | BinaryContent]
"""What a tool returns: text, and images after it."""


def image_type(data: bytes) -> str | None:
    """Returns the media type of an image that models can see, by how it begins; whatever its name says.

    A provider refuses the whole request for an image that is none.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _SIGNATURES if data.startswith(start)), None)


def for_model(text: str, attachments: Sequence[Attachment], *, kept: bool) -> ToolContent:
    """Returns a result as the model is given it: images follow the text, all files are named in it.

    `kept` says whether the user can have them.
    """
    if not attachments:
        return text
    images: list[BinaryContent] = []
    lines = ["Files that came with this result; " + ("the user has them." if kept else "they could not be kept.")]
    for each in attachments:
        facts = f"- {each.name} ({each.media_type}, {len(each.data)} bytes"
        kind = image_type(each.data) if each.media_type.startswith("image/") else None
        if kind is None:
            lines.append(f"{facts})")
        elif len(images) == MAX_SHOWN or len(each.data) > MAX_SHOWN_BYTES:
            lines.append(f"{facts}; not shown: at most {MAX_SHOWN} images of {MAX_SHOWN_BYTES} bytes each are)")
        else:
            images.append(BinaryContent(each.data, media_type=kind, identifier=each.name))
            lines.append(f"{facts}; see below)")
    whole = f"{text}\n\n" + "\n".join(lines)
    return [whole, *images] if images else whole
