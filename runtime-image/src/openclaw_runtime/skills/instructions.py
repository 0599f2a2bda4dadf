"""What a skill tells the model that uses it: the body of SKILL.md, and the files beside it."""

import asyncio
from typing import Final

from openclaw_runtime.sandbox.archive import ArchiveError, decompress, read
from openclaw_runtime.skills.errors import PackageUnavailableError
from openclaw_runtime.skills.folder import instructions
from openclaw_runtime.skills.types import InstalledSkill

LONGEST_TEXT: Final = 32_000
_BODIES: Final = ("SKILL.md", "README.md")


async def read_instructions(skill: InstalledSkill, file: str = "") -> str:
    """Returns the instructions of a skill with the list of its files, or the text of one file, cut to LONGEST_TEXT.

    Raises `PackageUnavailableError`.
    """
    package = await skill.load_package()
    try:
        texts = await asyncio.to_thread(lambda: {item.path: item.data for item in read(decompress(package))})
    except ArchiveError as error:
        raise PackageUnavailableError(f"{skill.name}: {error}") from None
    if file:
        if file not in texts:
            raise PackageUnavailableError(
                f"{skill.name} has no file {file!r}; it has {', '.join(sorted(texts))[:2000]}"
            )
        return texts[file].decode(errors="replace")[:LONGEST_TEXT]
    body = next((texts[path] for path in _BODIES if path in texts), b"")
    text = instructions(body) or skill.description
    return f"{text[:LONGEST_TEXT]}\n\nFiles: {', '.join(sorted(texts))[:2000]}"
