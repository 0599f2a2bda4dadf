"""Images."""

import struct
import zlib


def png(width: int, height: int, size: int = 0) -> bytes:
    """Returns a white PNG image, of so many bytes where that is more than it needs."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    row = b"\x00" + b"\xff" * (-(-width // 8))
    rest = _chunk(b"IDAT", zlib.compress(row * height)) + _chunk(b"IEND", b"")
    start = b"\x89PNG\r\n\x1a\n" + header
    filling = size - len(start) - len(rest) - 12
    return start + (_chunk(b"teXt", bytes(filling)) if filling > 0 else b"") + rest


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
