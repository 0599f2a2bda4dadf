"""What an image says of itself: its format, its size in pixels, and whether it is whole. Pure.

Only headers are read. A provider decodes what it is sent, and refuses the whole request for one image that it cannot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

_JPEG_SEGMENTS: Final = 512
"""Before the frame header. The largest colour profile takes 255."""
_NOT_A_FRAME: Final = (0xC4, 0xC8, 0xCC)
"""Markers between 0xC0 and 0xCF that begin no frame."""


@dataclass(frozen=True, slots=True)
class Image:
    """`width` and `height` are pixels."""

    media_type: str
    width: int
    height: int


def read_image(data: bytes) -> Image | None:
    """Returns the image that the bytes are, whatever their name says; None if they are none, or not to their end."""
    for start, media_type, measure in _FORMATS:
        if data.startswith(start):
            size = measure(data)
            return Image(media_type, *size) if size and min(size) > 0 else None
    return None


_Size = tuple[int, int] | None


def _png(data: bytes) -> _Size:
    if data[12:16] != b"IHDR" or b"IEND\xaeB`\x82" not in data:
        return None
    return _number(data, 16, 4, "big"), _number(data, 20, 4, "big")


def _jpeg(data: bytes) -> _Size:
    at = 2
    for _ in range(_JPEG_SEGMENTS):
        if at + 9 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_A_FRAME:
            # A preview in a segment before this has an end of its own.
            whole = data.find(b"\xff\xd9", at) >= 0
            return (_number(data, at + 7, 2, "big"), _number(data, at + 5, 2, "big")) if whole else None
        at += 2 + _number(data, at + 2, 2, "big")
    return None


def _gif(data: bytes) -> _Size:
    if not data.endswith(b";"):
        return None
    return _number(data, 6, 2, "little"), _number(data, 8, 2, "little")


def _webp(data: bytes) -> _Size:
    if data[8:12] != b"WEBP" or len(data) < max(30, 8 + _number(data, 4, 4, "little")):
        return None
    match data[12:16]:
        case b"VP8 " if data[23:26] == b"\x9d\x01\x2a":
            return _number(data, 26, 2, "little") & 0x3FFF, _number(data, 28, 2, "little") & 0x3FFF
        case b"VP8L" if data[20] == 0x2F:
            bits = _number(data, 21, 4, "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return _number(data, 24, 3, "little") + 1, _number(data, 27, 3, "little") + 1
        case _:
            return None


_FORMATS: Final[tuple[tuple[bytes, str, Callable[[bytes], _Size]], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png", _png),
    (b"\xff\xd8\xff", "image/jpeg", _jpeg),
    (b"GIF8", "image/gif", _gif),
    (b"RIFF", "image/webp", _webp),
)


def _number(data: bytes, at: int, length: int, order: Literal["little", "big"]) -> int:
    return int.from_bytes(data[at : at + length], order)
