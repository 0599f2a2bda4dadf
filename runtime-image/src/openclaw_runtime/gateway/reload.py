"""Follows the configuration file while the gateway runs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from openclaw_runtime.config import RuntimeConfig, load_config
from openclaw_runtime.errors import OpenClawError

logger = logging.getLogger(__name__)

_LIVE = frozenset({"claw", "models", "skills", "schedules", "team", "execution", "activator"})
"""The sections whose changes take effect at once."""

_LIVE_IN_FIXED = {"memory": ("importance", "summarization", "tiers")}
"""Fields whose changes take effect at once, of sections that are tied to what is open already."""

_FIXED_IN_LIVE = {"claw": ("name", "namespace"), "execution": ("sandbox",)}
"""Fields inside the live ones that are tied to what is open already."""


def restart_needed(old: RuntimeConfig, new: RuntimeConfig) -> list[str]:
    """Returns the paths that changed and only take effect after a restart."""
    paths = [
        name for name in RuntimeConfig.model_fields if name not in _LIVE and _fixed(old, name) != _fixed(new, name)
    ]
    for section, fields in _FIXED_IN_LIVE.items():
        before, after = getattr(old, section), getattr(new, section)
        paths.extend(f"{section}.{name}" for name in fields if getattr(before, name) != getattr(after, name))
    return sorted(paths)


def _fixed(config: RuntimeConfig, name: str) -> object:
    section = getattr(config, name)
    return section.model_dump(exclude=set(_LIVE_IN_FIXED[name])) if name in _LIVE_IN_FIXED else section


def changes(folders: Sequence[Path], stop: asyncio.Event, *, deep: bool = False) -> AsyncIterator[object]:
    """Yields whenever something in the folders changes; with `deep` also in the folders inside them.

    The configuration's folder, not the file, is watched: Kubernetes swaps a link beside the file.
    """
    from watchfiles import awatch

    return awatch(*folders, stop_event=stop, recursive=deep, debounce=200, step=50)


async def follow(
    path: Path,
    current: RuntimeConfig,
    changed: AsyncIterator[object],
    apply: Callable[[RuntimeConfig], Awaitable[None]],
    reject: Callable[[OpenClawError], None],
) -> None:
    """Applies each new configuration; one that cannot be used is rejected and the old one stays.

    `apply` may raise an `OpenClawError` too: then nothing has changed.
    """
    rejected = False
    async for _ in changed:
        try:
            new = await asyncio.to_thread(load_config, path)
            if new == current and not rejected:
                continue
            await apply(new)
        except OpenClawError as error:
            logger.error("the new configuration is not used: %s", error)  # noqa: TRY400 - the trace says nothing more
            reject(error)
            rejected = True
        else:
            current, rejected = new, False
            logger.info("the new configuration is in use")


async def again(
    changed: AsyncIterator[object], apply: Callable[[], Awaitable[None]], reject: Callable[[OpenClawError], None]
) -> None:
    """Applies the configuration in use once more on each change: what it points to, like a skill's folder, differs."""
    async for _ in changed:
        try:
            await apply()
        except OpenClawError as error:
            logger.error("the change is not used: %s", error)  # noqa: TRY400 - the trace says nothing more
            reject(error)
