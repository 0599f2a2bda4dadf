"""Frames between the runner and its child, over a socket pair.

Four bytes length (big endian), one byte kind, then the body: a JSON-RPC message (`MESSAGE`), the package (`PACKAGE`) or
an attachment (`ATTACHMENT`, see `attachments.Offer`). The runner reads what an untrusted process wrote, so the parser
is small and bounded.
"""

import struct
from enum import IntEnum
from typing import Final

_HEADER: Final = struct.Struct(">IB")


class Kind(IntEnum):
    """What a frame holds."""

    MESSAGE = 1
    PACKAGE = 2
    ATTACHMENT = 3


_KINDS: Final = frozenset(Kind)


class ChannelError(Exception):
    """The other end wrote something that is not a frame."""


class FrameTooLargeError(ChannelError):
    """The other end wrote a frame over the limit."""


def pack(kind: Kind, body: bytes) -> bytes:
    """Returns the bytes of one frame."""
    return _HEADER.pack(len(body), kind) + body


class FrameReader:
    """Cuts a byte stream into frames; never holds more than one frame of `limit` bytes and one read."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Takes bytes and returns the frames that are complete. Raises `ChannelError`."""
        self._buffer += data
        frames: list[tuple[Kind, bytes]] = []
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            length, kind = _HEADER.unpack_from(self._buffer, start)
            if kind not in _KINDS:
                raise ChannelError(f"frames of kind {kind} are not known")
            if length > self._limit:
                raise FrameTooLargeError(f"a frame of {length} bytes; at most {self._limit} are allowed")
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            frames.append((Kind(kind), bytes(self._buffer[start + _HEADER.size : end])))
            start = end
        del self._buffer[:start]
        return frames
