"""Images that go with a task to another agent."""

from collections.abc import Sequence
from dataclasses import asdict

from openclaw_runtime.agent.attachments import MAX_SHOWN
from openclaw_runtime.agent.handover import heard
from openclaw_runtime.memory.attachments import StoredAttachment
from openclaw_runtime.memory.types import KeptAttachment


class Empty:
    """A store that keeps nothing, and what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get(self, attachment: str, *, team: Sequence[str] = ()) -> StoredAttachment | None:
        del team
        self.asked.append(attachment)
        return None


async def test_a_task_with_more_images_than_a_turn_shows_has_the_first_ones_looked_for_and_named() -> None:
    store = Empty()
    given = [asdict(KeptAttachment(f"id-{n}", f"{n}.png", "image/png", 9, "")) for n in range(10_000)]
    handed = await heard({"images": given}, ("boss",), store)
    assert store.asked == [f"id-{n}" for n in range(MAX_SHOWN)]
    assert handed.note.splitlines()[1:-1] == [f"- {n}.png (image/png, 9 bytes)" for n in range(MAX_SHOWN)]
    assert handed.note.splitlines()[-1].startswith("- 9996 more: a turn shows at most 4 images")
    assert (await heard({"images": given[:MAX_SHOWN]}, ("boss",), store)).note.count("\n") == MAX_SHOWN
