"""The images of a request: data URLs in, files out, as many and as large as a turn shows. Pure.

https://platform.openai.com/docs/guides/images-vision, https://www.rfc-editor.org/rfc/rfc2397
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final

from openclaw_runtime.agent.attachments import MAX_SHOWN_BYTES, MAX_TURN_BYTES, TOO_MUCH, Shown, refusal
from openclaw_runtime.agent.images import read_image
from openclaw_runtime.sandbox.attachments import Attachment, extension_of

MEDIA_TYPES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
LARGEST_CHARACTERS: Final = -(-MAX_TURN_BYTES // 3) * 4
"""Of the images of a request, as base64."""
_SHOWN_CHARACTERS: Final = 60
_SCHEME: Final = "data:"
_ENCODING: Final = ";base64"


def image_of(url: str, number: int) -> Attachment:
    """Returns the image that a data URL holds. Raises ValueError that says what is wrong, and what to send."""
    head, comma, data = url.partition(",")
    known = ", ".join(MEDIA_TYPES)
    form = f"send the image itself as data:<type>;base64,<data>, where the type is one of {known}"
    if url[: len(_SCHEME)].lower() != _SCHEME:
        shown = f"{url[:_SHOWN_CHARACTERS]!a}{'…' if len(url) > _SHOWN_CHARACTERS else ''}"
        raise ValueError(
            f"{shown} is not a data URL; the gateway fetches nothing for a client, which could have it reach what only "
            f"the gateway can: {form}"
        )
    media_type = head[len(_SCHEME) :].partition(";")[0].lower()
    if not comma or not head.lower().endswith(_ENCODING):
        raise ValueError(f"{head[:_SHOWN_CHARACTERS]!a} is not base64; {form}")
    if media_type not in MEDIA_TYPES:
        raise ValueError(f"{media_type[:_SHOWN_CHARACTERS]!a} is not supported; {form}")
    if len(data) > -(-MAX_SHOWN_BYTES // 3) * 4:
        raise ValueError(f"about {len(data) * 3 // 4} bytes; an image may have {MAX_SHOWN_BYTES}: make it smaller")
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError(f"what follows {head[:_SHOWN_CHARACTERS]}, is not base64: {error}") from None
    image = read_image(content)
    if reason := refusal(image, len(content), Shown()):
        raise ValueError(f"{reason}; send one that can be shown to a model")
    assert image is not None
    if image.media_type != media_type:
        raise ValueError(f"the image is {image.media_type}, not {media_type}; name the type that it has")
    return Attachment.of(f"image-{number}{extension_of(media_type)}", media_type, content)


def share(question: Sequence[Attachment], earlier: Mapping[int, Sequence[Attachment]]) -> dict[int, list[Attachment]]:
    """Returns which images of earlier messages, by their places, a turn shows beside its question's: the newest.

    Raises ValueError where those of the question are too many, or too large together.
    """
    shown = Shown()
    if not all(shown.add(len(each.data)) for each in question):
        raise ValueError(f"{TOO_MUCH}; send fewer, or smaller ones")
    return {
        place: [each for each in earlier[place] if shown.add(len(each.data))] for place in sorted(earlier, reverse=True)
    }
