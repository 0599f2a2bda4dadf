"""Runs the make targets given, in order, and ends with one line for each: what passed, and how long it took."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from rich.console import Console


def main(targets: Sequence[str]) -> int:
    """The exit code of the first target that fails, else 0."""
    console = Console(highlight=False)
    lines: list[str] = []
    code = 0
    for target in targets:
        console.print(f"\n[bold cyan]{target}[/]")
        started = time.monotonic()
        code = subprocess.call(["make", target])
        seconds = time.monotonic() - started
        lines.append(f"[{'red' if code else 'green'}]{'✗' if code else '✓'}[/] {seconds:6.1f} s  {target}")
        if code:
            skipped = targets[len(lines) :]
            lines.extend(f"[dim]- not run   {name}[/]" for name in skipped)
            break
    console.print()
    for line in lines:
        console.print(line)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
