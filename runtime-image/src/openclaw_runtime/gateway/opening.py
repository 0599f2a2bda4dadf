"""Opens what a gateway needs from others, which may come up later than the gateway."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from openclaw_runtime.errors import OpenClawError

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0


@dataclass
class Opening:
    """Opens the stores and the bus, again and again until they are there. `error` says what is missing."""

    sleep: Callable[[float], Awaitable[None]]
    errors: dict[str, str] = field(default_factory=dict)

    async def run(self, steps: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        """Returns when every step has worked."""
        self.errors.update(dict.fromkeys(steps, "starting"))
        await asyncio.gather(*(self._open(name, step) for name, step in steps.items()))

    async def _open(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await step()
            except OpenClawError as error:
                if self.errors[name] != str(error):
                    logger.warning("%s is not there yet: %s", name, error)
                self.errors[name] = str(error)
            except Exception as error:
                # Whatever it is, it is tried again and the others open. Anybody may read /ready: no details there.
                told = f"{type(error).__name__}; the log has the details"
                if self.errors[name] != told:
                    logger.exception("opening %s failed", name)
                self.errors[name] = told
            else:
                del self.errors[name]
                return
            await self.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def check(self, name: str, check: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Returns a readiness check that first asks whether the part was opened."""

        async def checked() -> None:
            if name in self.errors:
                raise OpenClawError(self.errors[name])
            await check()

        return checked
