"""What one warm skill call costs on this machine: `python -m tests.bench.sandbox_call [calls]`.

Times are those of the caller, for an action that does nothing, through the local executor: the same runner, protocol
and client as with pods, over a Unix socket. Calls are made one at a time, each when every sandbox is warm again, so
that starting the next sandbox is not measured. CPU time is given too: it hardly depends on what else runs.
"""

import asyncio
import base64
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.local import start_runner, stop_runner
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.sandbox.signing import Signer
from openclaw_runtime.skills.package import pack_files
from openclaw_runtime.skills.types import ActionSpec, InstalledSkill, SkillCall

PACKAGE = pack_files([PackageFile("scripts/main.py", b"async def noop(ctx, input):\n    return {}\n")])
WARM = 2


class NoContext:
    """A context that is never used."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the action asked for {name}")


async def _load() -> bytes:
    return PACKAGE.data


SKILL = InstalledSkill("noop", "1.0.0", "", PACKAGE.digest, "python", "scripts/main.py", (ActionSpec("noop"),), _load)


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _line(name: str, values: list[float], unit: str = "ms") -> str:
    shown = "  ".join(
        f"{label} {_quantile(values, share):7.2f}" for label, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
    )
    return f"{name:28} min {min(values):7.2f}  {shown} {unit}"


def _memory(pid: int) -> dict[str, int]:
    """Returns Rss and Pss (a fair share of what is shared) in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(fields[name].split()[0]) for name in ("Rss", "Pss")}


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()[0])


async def calls(count: int) -> None:
    """Measures calls."""
    executor = SubprocessExecutor(warm=WARM, walled=False)
    await executor.start()
    total, steps, cpu = [], {"connect_ms": [], "run_ms": [], "sandbox": []}, []  # type: ignore[var-annotated]
    try:
        for number in range(count):
            while (state := executor.status()["pools"]["local"])["warm"] < WARM or state["starting"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            call = SkillCall(f"bench-{number}", "bench", "bench", SKILL, "noop", {}, 30)
            began, used = time.perf_counter(), time.process_time()
            result = await executor.execute(call, NoContext())
            total.append((time.perf_counter() - began) * 1000)
            cpu.append((time.process_time() - used) * 1000)
            for name in ("connect_ms", "run_ms"):
                steps[name].append(result.timings[name])
            steps["sandbox"].append(result.duration_ms)
    finally:
        await executor.close()
    print(f"{count} warm calls, one at a time")
    print(_line("whole call", total))
    print(_line("  connect and hello", steps["connect_ms"]))
    print(_line("  call to response", steps["run_ms"]))
    print(_line("    of it in the child", steps["sandbox"]))
    print(_line("CPU time of the caller", cpu))


async def starts(count: int) -> None:
    """Measures starting a runner, and what an idle one holds."""
    times = []
    signer = Signer.generate()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            began = time.perf_counter()
            runner = await start_runner(base64.b64encode(signer.public_key).decode(), Path(folder), None)
            times.append((time.perf_counter() - began) * 1000)
            server, child = runner.process.pid, _child_of(runner.process.pid)
            memory = {"runner": _memory(server), "its warm child": _memory(child)}
            await stop_runner(runner)
    print(_line("start of a runner to ready", times))
    for name, facts in memory.items():
        print(
            f"memory of an idle {name}: {facts['Rss'] / 1024:.1f} MiB resident, {facts['Pss'] / 1024:.1f} MiB its share"
        )
    print(f"median start: {statistics.median(times):.0f} ms")


def main() -> None:
    """Runs both."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    asyncio.run(starts(max(5, count // 10)))
    asyncio.run(calls(count))


if __name__ == "__main__":
    main()
