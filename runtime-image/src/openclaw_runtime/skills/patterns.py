"""Regular expressions of skills, which take time linear in the text (RE2): anybody may write both."""

from functools import cache, lru_cache
from typing import Any, Final

import re2

MAX_PATTERN: Final = 512


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """Returns an expression. Raises ValueError for what is none."""
    try:
        return re2.compile(pattern, _quiet())
    except re2.error as error:
        text = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"{pattern!r} is not a regular expression of RE2 ({text}); RE2 has no lookaround") from None


def check_pattern(pattern: str) -> str:
    """Returns the pattern. Raises ValueError for one that is too long or no RE2 expression."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"the pattern has {len(pattern)} characters; at most {MAX_PATTERN} are allowed")
    compiled(pattern)
    return pattern


@cache
def _quiet() -> Any:
    """A mistake is told to its author, not to the log of this process."""
    options = re2.Options()
    options.log_errors = False
    return options
