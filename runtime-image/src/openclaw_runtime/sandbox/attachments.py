"""Files that a call gives beside its result: what one may be, and how it travels.

The child hands each to the runner in a frame of its own; the runner sends them to the gateway after the response, which
lists them, in binary frames. Only the standard library is imported here, because the pod imports it too. Names, types
and bytes are a skill's, which may be anybody's: both ends check all of it.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from openclaw_runtime.sandbox.jsonrpc import Fields, Json, ProtocolError, Request, decode, encode

MAX_ATTACHMENTS: Final = 16
MAX_ATTACHMENT_BYTES: Final = 8 * 1024 * 1024
MAX_TOTAL_BYTES: Final = 16 * 1024 * 1024
"""Of one call. The pod and the gateway each hold as much while it ends."""
CHUNK_BYTES: Final = 256 * 1024
"""Of a binary frame: no frame has to be as large as an attachment."""
ATTACH: Final = "attach"
"""The request of the child; no method of the context, because the runner answers it."""

_MAX_NAME: Final = 128
_MAX_HEADER: Final = 64 * 1024
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_UNKNOWN: Final = "application/octet-stream"
_MEDIA_TYPES: Final = {
    "csv": "text/csv",
    "gif": "image/gif",
    "gz": "application/gzip",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "md": "text/markdown",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "audio/ogg",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "tar": "application/x-tar",
    "txt": "text/plain",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "zip": "application/zip",
}
"""By the end of a name. The same in every image, which the tables of its system are not."""


class AttachmentError(ValueError):
    """An attachment is not one that a call may give. `str()` names it, the limit and the fix."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What the response says of an attachment. `size` is bytes, `sha256` hex."""

    name: str
    media_type: str
    size: int
    sha256: str

    def wire(self) -> Json:
        """Returns the JSON object."""
        return {"name": self.name, "mediaType": self.media_type, "size": self.size, "sha256": self.sha256}

    @classmethod
    def parse(cls, value: object, name: str) -> "Announced":
        """Reads the JSON object. Raises `ProtocolError`."""
        fields = Fields(value, name)
        announced = cls(
            fields.text("name", limit=1024),
            fields.text("mediaType", limit=1024),
            fields.integer("size"),
            fields.text("sha256", limit=64),
        )
        if not _SHA256.fullmatch(announced.sha256):
            raise ProtocolError(f"{name}.sha256: expected 64 hex digits")
        return announced


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file beside a result. `sha256` is hex."""

    name: str
    media_type: str
    data: bytes = field(repr=False)
    sha256: str

    @classmethod
    def of(cls, name: str, media_type: str, data: bytes) -> "Attachment":
        """Returns the attachment with its hash."""
        return cls(name, media_type, data, hashlib.sha256(data).hexdigest())

    @property
    def announced(self) -> Announced:
        """What the response says of it."""
        return Announced(self.name, self.media_type, len(self.data), self.sha256)

    def chunks(self) -> Iterator[bytes]:
        """Yields the binary frames it travels in."""
        for start in range(0, len(self.data), CHUNK_BYTES):
            yield self.data[start : start + CHUNK_BYTES]


@dataclass(slots=True)
class Bounds:
    """What the attachments of one call have used of its limits."""

    names: set[str] = field(default_factory=set)
    total: int = 0

    def take(self, name: str, media_type: str, size: int) -> None:
        """Counts one more. Raises `AttachmentError` and counts nothing where a call may not give it."""
        check(name, media_type, size)
        if name in self.names:
            raise AttachmentError(f"attachment {name}: the call has given one of this name; choose another")
        if len(self.names) == MAX_ATTACHMENTS:
            raise AttachmentError(
                f"attachment {name}: a call may give at most {MAX_ATTACHMENTS} attachments; pack them into one archive"
            )
        if self.total + size > MAX_TOTAL_BYTES:
            raise AttachmentError(
                f"attachment {name}: with it the call gives {self.total + size} bytes; at most {MAX_TOTAL_BYTES} are "
                "allowed in all: give less, or leave files in the workspace"
            )
        self.names.add(name)
        self.total += size


def check(name: str, media_type: str, size: int) -> None:
    """Raises `AttachmentError` unless an attachment may be called this, be of this type and as large."""
    if not 0 < len(name) <= _MAX_NAME:
        raise AttachmentError(f"attachment: its name has {len(name)} characters; 1 to {_MAX_NAME} are allowed")
    if not name.isprintable() or name != name.strip() or name.startswith(".") or set("/\\") & set(name):
        raise AttachmentError(
            f"attachment {name!a}: not a file's name; give printable characters without / and \\, no path, and "
            "no dot or space first"
        )
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise AttachmentError(
            f"attachment {name}: {media_type[:80]!a} is not a media type; give one like image/png, without parameters"
        )
    if size < 1:
        raise AttachmentError(f"attachment {name}: is empty; leave it out")
    if size > MAX_ATTACHMENT_BYTES:
        raise AttachmentError(
            f"attachment {name}: {size} bytes; at most {MAX_ATTACHMENT_BYTES} are allowed: make it smaller, or leave "
            "the file in the workspace"
        )


def media_type_of(name: str) -> str:
    """Returns the media type that the end of a name stands for."""
    _, dot, end = name.rpartition(".")
    return _MEDIA_TYPES.get(end.lower(), _UNKNOWN) if dot else _UNKNOWN


def extension_of(media_type: str) -> str:
    """Returns how the names of a media type end, with the dot; "" if that is not known."""
    return next((f".{end}" for end, known in _MEDIA_TYPES.items() if known == media_type), "")


# --- from the child to the runner -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """An attachment as the child hands it to the runner, unchecked. `media_type` is "" to go by the name."""

    id: str
    name: str
    media_type: str
    data: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Returns the body of a frame: a request in one line, then the bytes."""
        params = {"name": self.name, "mediaType": self.media_type}
        return encode(Request(self.id, ATTACH, params)).encode() + b"\n" + self.data

    @classmethod
    def decode(cls, body: bytes) -> "Offer":
        """Reads the body of a frame. Raises `ProtocolError`."""
        end = body.find(b"\n", 0, _MAX_HEADER)
        if end < 0:
            raise ProtocolError("attach: expected a request in one line before the bytes")
        match decode(body[:end]):
            case Request(str() as identity, "attach", params) if len(identity) <= 64:
                fields = Fields(params, ATTACH)
                return cls(identity, fields.text("name"), fields.text("mediaType"), body[end + 1 :])
        raise ProtocolError("attach: expected a request in one line before the bytes")


# --- from the pod to the gateway --------------------------------------------------------------------------------------


def parse_announced(value: object, name: str) -> tuple[Announced, ...]:
    """Reads the list of a response, before a byte of them was sent. Raises `ProtocolError` where it is over a limit."""
    if not isinstance(value, list) or len(value) > MAX_ATTACHMENTS:
        raise ProtocolError(f"{name}: expected a list of at most {MAX_ATTACHMENTS} attachments")
    announced = tuple(Announced.parse(item, f"{name}[{number}]") for number, item in enumerate(value))
    bounds = Bounds()
    try:
        for each in announced:
            bounds.take(each.name, each.media_type, each.size)
    except AttachmentError as error:
        raise ProtocolError(str(error)) from None
    return announced


class Receiver:
    """Puts one attachment together from its frames; never holds more than was announced."""

    def __init__(self, announced: Announced) -> None:
        self._announced = announced
        self._data = bytearray()
        self._hash = hashlib.sha256()

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return len(self._data) == self._announced.size

    def take(self, frame: str | bytes) -> None:
        """Takes the next frame. Raises `ProtocolError` for one that is not exactly what is due."""
        due = min(CHUNK_BYTES, self._announced.size - len(self._data))
        if isinstance(frame, str) or len(frame) != due:
            kind = "text" if isinstance(frame, str) else f"{len(frame)} bytes"
            raise ProtocolError(f"attachment {self._announced.name}: a frame of {kind} where {due} bytes belong")
        self._data += frame
        self._hash.update(frame)

    def result(self) -> Attachment:
        """Returns the attachment. Raises `ProtocolError` if it is not what was announced."""
        announced = self._announced
        if self._hash.hexdigest() != announced.sha256:
            raise ProtocolError(f"attachment {announced.name}: sha256 does not match its bytes")
        return Attachment(announced.name, announced.media_type, bytes(self._data), announced.sha256)
