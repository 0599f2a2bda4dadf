"""Whose calls a sandbox takes: one call and no more, or those of whoever came first until the lease ends."""

from collections.abc import Callable
from dataclasses import dataclass

from openclaw_runtime.sandbox.protocol import Holder


@dataclass(slots=True)
class Tenancy:
    """The one decision who may call. Nothing in here gives way, so a check and its claim are one step.

    `leased` is a sandbox that stays with its first caller; `clock` is any steady clock in seconds.
    """

    leased: bool
    idle_seconds: float
    max_seconds: float
    clock: Callable[[], float]
    holder: Holder | None = None
    running: bool = False
    _claimed_at: float = 0.0

    @property
    def free(self) -> bool:
        """Whether nobody has it yet."""
        return self.holder is None

    @property
    def open(self) -> bool:
        """Whether it makes sense to listen to a caller: it is free, or its holder may call again."""
        return self.holder is None or (self.leased and not self.running)

    def claim(self, holder: Holder) -> bool:
        """Takes the sandbox for a call; returns whether it was to be had."""
        if not self.open or (self.holder is not None and self.holder != holder):
            return False
        if self.holder is None:
            self._claimed_at = self.clock()
        self.holder, self.running = holder, True
        return True

    def may_release(self, holder: Holder) -> bool:
        """Returns whether that holder may end the lease now."""
        return self.leased and not self.running and self.holder == holder

    def remaining(self) -> float:
        """Returns for how many seconds an idle lease goes on; 0 or less when it is over."""
        if not self.leased:
            return 0.0
        return min(self.idle_seconds, self._claimed_at + self.max_seconds - self.clock())
