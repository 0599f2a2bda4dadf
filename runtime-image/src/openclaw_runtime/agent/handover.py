"""Images that go with a task to another agent: by their ids, for those that share a MemoryStore share what it keeps."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import msgspec

from openclaw_runtime.agent.attachments import MAX_SHOWN, TOO_MUCH, Shown, refusal
from openclaw_runtime.agent.images import read_image
from openclaw_runtime.errors import BusError, MemoryStoreError
from openclaw_runtime.memory.attachments import StoredAttachment
from openclaw_runtime.memory.types import KeptAttachment
from openclaw_runtime.sandbox.attachments import Attachment

logger = logging.getLogger(__name__)


class Kept(Protocol):
    """Where files are kept."""

    async def get(self, attachment: str, *, team: Sequence[str] = ()) -> StoredAttachment | None:
        """Returns a file of this agent or of those of its team. Raises `MemoryStoreError`."""
        ...


@dataclass(frozen=True, slots=True)
class Handed:
    """What came with a task. `note` says what is missing, for the model."""

    images: Sequence[Attachment] = ()
    kept: Sequence[KeptAttachment] = ()
    note: str = ""


def told(given: Sequence[KeptAttachment]) -> dict[str, Any]:
    """Returns what a task says of the images that go with it; an agent of an older version ignores it."""
    return {"images": [asdict(each) for each in given]} if given else {}


async def heard(payload: Mapping[str, Any], agents: Sequence[str], store: Kept) -> Handed:
    """Returns the images that go with a task of `agents`, as far as they are found and may be shown.

    Only as many as a turn shows are looked for: the list is another agent's word.

    Raises `BusError` for a task that says what is no list of images.
    """
    try:
        given = msgspec.convert(payload.get("images", []), list[KeptAttachment])
    except msgspec.ValidationError as error:
        raise BusError(f"the task's images: {error}") from None
    shown, images, kept, missing = Shown(), [], [], []
    for each in given[:MAX_SHOWN]:
        found = await _found(store, each.id, agents)
        image = read_image(found.data) if found else None
        if found is None or image is None or refusal(image, len(found.data), shown):
            missing.append(f"- {each.name[:128]} ({each.media_type[:128]}, {each.size} bytes)")
            continue
        images.append(Attachment.of(found.kept.name, image.media_type, found.data))
        kept.append(found.kept)
    if len(given) > MAX_SHOWN:
        missing.append(f"- {len(given) - MAX_SHOWN} more: {TOO_MUCH}")
    note = "\n".join(["Images that came with this task and could not be passed on:", *missing]) if missing else ""
    return Handed(images, kept, note)


async def _found(store: Kept, attachment: str, agents: Sequence[str]) -> StoredAttachment | None:
    """A task without its images is better than none."""
    try:
        return await store.get(attachment, team=agents)
    except MemoryStoreError as error:
        logger.warning("an image of a task was not read: %s", error)
        return None
