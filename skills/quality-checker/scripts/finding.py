"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `line` counts from 1 (of records: the record); None is the whole."""

    severity: Literal["error", "warning"]
    rule: str
    message: str
    line: int | None = None

    def shown(self) -> dict[str, Any]:
        """Returns it as results show it."""
        return asdict(self)
