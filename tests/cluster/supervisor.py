"""The first process of a node: sets the namespaces up, starts the components, restarts what ends, reaps what is left.

Run by lifecycle.py inside fresh namespaces as `python -m tests.cluster.supervisor PLAN`. When it ends, the kernel ends
every process of its pid namespace. What it knows is in the plan's state file, rewritten on every change.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.apiserver import answers, client_context
from tests.cluster.nodesetup import NodeNetwork, mount_file_systems, set_up_network

TICK_SECONDS = 0.05
IDLE_SECONDS = 5.0
STOP_SECONDS = 8.0
MAX_BACKOFF_SECONDS = 10.0


@dataclass
class Job:
    """A component and how it is doing."""

    name: str
    command: list[str]
    log: Path
    after: list[str]
    ready_check: dict[str, str]
    inherit: list[int]
    pid: int | None = None
    ready: bool = False
    starts: int = 0
    last_exit: int | None = None
    not_before: float = 0.0

    @classmethod
    def from_plan(cls, entry: dict[str, Any], logs: Path) -> Job:
        return cls(
            name=entry["name"],
            command=entry["command"],
            log=logs / f"{entry['name']}.log",
            after=entry["after"],
            ready_check=entry["ready"],
            inherit=entry["inherit"],
        )


def backoff(starts: int) -> float:
    """Seconds to wait before the next start: at once after the first end, then doubling."""
    return 0.0 if starts <= 1 else min(0.25 * 2.0 ** (starts - 2), MAX_BACKOFF_SECONDS)


def is_ready(check: dict[str, str]) -> bool:
    """A check is empty (ready when started), {"socket": path} or {"url": …, "pki": folder, "identity": name}."""
    if "socket" in check:
        return Path(check["socket"]).is_socket()
    if "url" in check:
        context = client_context(Path(check["pki"]), check["identity"]) if "pki" in check else None
        return answers(check["url"], context)
    return True


class Supervisor:
    """One loop, no threads: signals are taken by waiting for them."""

    def __init__(self, plan: dict[str, Any]) -> None:
        logs = Path(plan["logs"])
        self.jobs = [Job.from_plan(entry, logs) for entry in plan["components"]]
        self.state_file = Path(plan["state"])
        self.stopping = False

    def run(self) -> None:
        watched = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        self.publish()
        while not self.stopping:
            changed = self.reap() | self.start_due() | self.check_ready()
            if changed:
                self.publish()
            settled = all(job.ready and job.pid is not None for job in self.jobs)
            caught = signal.sigtimedwait(watched, IDLE_SECONDS if settled else TICK_SECONDS)
            self.stopping = caught is not None and caught.si_signo in {signal.SIGTERM, signal.SIGINT}
        self.stop_all()

    def start_due(self) -> bool:
        ready = {job.name for job in self.jobs if job.ready}
        due = [
            job
            for job in self.jobs
            if job.pid is None and ready.issuperset(job.after) and time.monotonic() >= job.not_before
        ]
        for job in due:
            with job.log.open("ab") as log:
                process = subprocess.Popen(
                    job.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=job.inherit,
                    restore_signals=True,
                    preexec_fn=_unblock_signals,
                )
            job.pid = process.pid
            job.starts += 1
            process.returncode = 0  # reaped below by pid, together with the orphans this process inherits
        return bool(due)

    def check_ready(self) -> bool:
        changed = False
        for job in self.jobs:
            if job.pid is not None and not job.ready and is_ready(job.ready_check):
                job.ready = changed = True
        return changed

    def reap(self) -> bool:
        changed = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return changed
            if pid == 0:
                return changed
            for job in self.jobs:
                if job.pid == pid:
                    job.pid, job.ready, changed = None, False, True
                    job.last_exit = os.waitstatus_to_exitcode(status)
                    job.not_before = time.monotonic() + backoff(job.starts)

    def stop_all(self) -> None:
        """End in reverse order of start, so that nobody logs the loss of what it depends on."""
        for job in reversed(self.jobs):
            if job.pid is not None:
                os.kill(job.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(job.pid is not None for job in self.jobs) and time.monotonic() < deadline:
            self.reap()
            signal.sigtimedwait({signal.SIGCHLD}, TICK_SECONDS)

    def publish(self) -> None:
        content = {
            job.name: {"pid": job.pid, "ready": job.ready, "starts": job.starts, "last_exit": job.last_exit}
            for job in self.jobs
        }
        fresh = self.state_file.with_suffix(".new")
        fresh.write_text(json.dumps(content))
        fresh.rename(self.state_file)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def main(plan_file: str) -> None:
    plan = json.loads(Path(plan_file).read_text())
    mount_file_systems(plan["cgroup_version"], plan["cgroup_controllers"], Path(plan["run_folder"]))
    set_up_network(plan["hostname"], NodeNetwork(**plan["network"]))
    for source, target in plan["binds"]:
        Path(target).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--rbind", source, target], check=True)
    Supervisor(plan).run()


if __name__ == "__main__":
    main(sys.argv[1])
