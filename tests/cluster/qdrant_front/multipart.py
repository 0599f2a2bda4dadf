"""One file out of a multipart/form-data body (RFC 7578)."""

from __future__ import annotations

import re

from tests.cluster.qdrant_front.errors import BadRequestError


def file_of(content_type: str, body: bytes, field: str) -> bytes:
    """The content of the part named `field`. Raises BadRequestError when there is none."""
    match = re.search(r'multipart/form-data;.*boundary="?([^";]+)"?', content_type, re.IGNORECASE)
    if match is None:
        raise BadRequestError(f"expected multipart/form-data, got {content_type!r}")
    delimiter = b"--" + match.group(1).encode()
    # Content may begin with a line end but every part ends with one, right before the next delimiter.
    for part in (b"\r\n" + body).split(b"\r\n" + delimiter)[1:]:
        head, separator, content = part.partition(b"\r\n\r\n")
        if separator and re.search(rf'\bname="{re.escape(field)}"'.encode(), head):
            return content
    raise BadRequestError(f"no part named {field!r} in the body")
