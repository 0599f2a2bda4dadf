"""Downloads on their way: beside the work queue, so that a slow registry holds up nobody else.

What failed is tried again at growing intervals where it may pass by itself, and now and then where somebody has to put
it right. Whoever waits is woken at the end of each attempt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from openclaw_operator.errors import ApiError, FetchError, SpecError

LOG = logging.getLogger(__name__)
# Slow hosts of one namespace hold up no other.
AT_ONCE_PER_NAMESPACE = 2
AT_ONCE = 16
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 300.0
# Secrets are not watched: corrected credentials are noticed this much later.
UNAUTHORIZED_RETRY_SECONDS = 60.0
# A server may ask for a pause, within reason.
LONGEST_PAUSE_SECONDS = 3600.0
User = tuple[str, str, str]
T = TypeVar("T")


class PendingError(Exception):
    """The first attempt is on its way."""


@dataclass
class _Attempt(Generic[T]):
    wanted: str
    task: asyncio.Task[None] | None = None
    result: T | None = None
    error: SpecError | None = None
    failures: int = 0
    due: float = 0.0


def pause_seconds(error: SpecError, failures: int, jitter: float) -> float:
    """Until the next attempt after the `failures`th in a row (1, 2, ...); `jitter` in 0..1 spreads it by a quarter."""
    if isinstance(error, FetchError) and error.passing:
        grown: float = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 32), LAST_RETRY_SECONDS)
        return max(grown * (0.875 + jitter / 4), min(error.retry_after or 0.0, LONGEST_PAUSE_SECONDS))
    plain = UNAUTHORIZED_RETRY_SECONDS if error.reason == "SourceUnauthorized" else LAST_RETRY_SECONDS
    return plain * (0.875 + jitter / 4)


class Downloads(Generic[T]):
    """At most one download per user. `wake(user)` is called when one ends."""

    def __init__(
        self, wake: Callable[[User], None], *, monotonic: Callable[[], float], jitter: Callable[[], float]
    ) -> None:
        self._wake = wake
        self._monotonic = monotonic
        self._jitter = jitter
        self._attempts: dict[User, _Attempt[T]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        # One for each namespace, kept by the downloads that use it.
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def get(self, user: User, wanted: str, start: Callable[[], Awaitable[T]]) -> T:
        """What `start` returned for `wanted`, started when that is due.

        Raises PendingError during the first attempt, later the SpecError the last one ended with.
        """
        attempt = self._attempts.get(user)
        if attempt is None or attempt.wanted != wanted:
            self.forget(user)
            attempt = self._attempts[user] = _Attempt(wanted)
        if attempt.result is not None:
            return attempt.result
        if attempt.task is None and self._monotonic() >= attempt.due:
            attempt.task = asyncio.create_task(self._run(user, attempt, start), name=f"fetch {'/'.join(user)}")
        if attempt.error is None:
            raise PendingError
        raise attempt.error

    def due_in(self, user: User) -> float | None:
        """Seconds until the next attempt; None when none is planned, or one is on its way."""
        attempt = self._attempts.get(user)
        if attempt is None or attempt.task or attempt.error is None or attempt.result is not None:
            return None
        return max(attempt.due - self._monotonic(), 0.0)

    def forget(self, user: User) -> None:
        """Its result is in place, or it wants nothing any more."""
        attempt = self._attempts.pop(user, None)
        if attempt and attempt.task:
            attempt.task.cancel()

    async def _run(self, user: User, attempt: _Attempt[T], start: Callable[[], Awaitable[T]]) -> None:
        share = self._shares.setdefault(user[1], asyncio.Semaphore(AT_ONCE_PER_NAMESPACE))
        try:
            async with share, self._slots:
                attempt.result = await start()
        except SpecError as error:
            self._failed(attempt, error)
        except ApiError as error:
            self._failed(attempt, FetchError("SourceUnavailable", f"{error}", passing=True))
        except Exception:
            # A bug met by one package must not leave its Skill waiting for ever.
            LOG.exception("fetching for %s %s/%s failed", *user)
            self._failed(attempt, FetchError("FetchFailed", "the package could not be fetched: see the operator's log"))
        attempt.task = None
        if self._attempts.get(user) is attempt:
            self._wake(user)

    def _failed(self, attempt: _Attempt[T], error: SpecError) -> None:
        attempt.failures += 1
        attempt.error = error
        attempt.due = self._monotonic() + pause_seconds(error, attempt.failures, self._jitter())
