"""Runs the make targets given, in order, and ends with one line for each: what passed, and how long it took."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console

BESIDE = "+"


@dataclass(frozen=True)
class Done:
    """A target that ended."""

    name: str
    code: int
    seconds: float
    # What it said, unless that was shown at once.
    output: bytes = b""


def run(name: str, *, shown: bool) -> Done:
    """Makes one target; its output is shown as it comes, or kept."""
    started = time.monotonic()
    out, errors = (None, None) if shown else (subprocess.PIPE, subprocess.STDOUT)
    done = subprocess.run(["make", name], check=False, stdout=out, stderr=errors)
    return Done(name, done.returncode, time.monotonic() - started, done.stdout or b"")


def side_by_side(names: Sequence[str]) -> list[Done]:
    """Makes targets at the same time. What the last one says is shown as it comes, then that of each of the others."""
    with ThreadPoolExecutor(len(names)) as threads:
        each = [threads.submit(run, name, shown=name == names[-1]) for name in names]
        done = [future.result() for future in each]
    for target in done:
        sys.stdout.buffer.write(target.output)
    sys.stdout.flush()
    return done


def main(steps: Sequence[str]) -> int:
    """The exit code of the first target that fails, else 0. A step is one target, or several as `one+another`."""
    console = Console(highlight=False)
    lines: list[str] = []
    code = 0
    for number, step in enumerate(steps):
        names = step.split(BESIDE)
        console.print(f"\n[bold cyan]{' and '.join(names)}[/]")
        done = side_by_side(names)
        for target in done:
            mark = "[red]✗[/]" if target.code else "[green]✓[/]"
            lines.append(f"{mark} {target.seconds:6.1f} s  {target.name}")
        code = next((target.code for target in done if target.code), 0)
        if code:
            skipped = [name for later in steps[number + 1 :] for name in later.split(BESIDE)]
            lines.extend(f"[dim]- not run   {name}[/]" for name in skipped)
            break
    console.print()
    for line in lines:
        console.print(line)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
