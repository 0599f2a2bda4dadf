"""The operator as a process of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

START_SECONDS = 120.0
STOP_SECONDS = 15.0


@dataclass
class Operator:
    """A running operator, wherever it was started, and its log."""

    log: Path

    def text(self) -> str:
        """The log so far."""
        return self.log.read_text()


@dataclass
class OperatorProcess(Operator):
    """An operator that was started here."""

    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, kubeconfig: Path, namespace: str, log: Path, settings: dict[str, Any]) -> OperatorProcess:
        """Start the operator for one namespace and return once it says that it serves it."""
        values = {
            "watch_namespaces": namespace,
            "log_format": "text",
            "metrics_port": 0,
            "health_port": 0,
            **settings,
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENCLAW_")}
        environment |= {f"OPENCLAW_OPERATOR_{key.upper()}": str(value) for key, value in values.items()}
        environment["KUBECONFIG"] = str(kubeconfig)
        process = subprocess.Popen(
            [sys.executable, "-m", "openclaw_operator.main"], env=environment, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        running = cls(log, process)
        running._await_serving(process.stderr)
        return running

    def _await_serving(self, stderr: IO[bytes]) -> None:
        seen = b""
        while b"serving" not in seen:
            readable, _, _ = select.select([stderr], [], [], START_SECONDS)
            chunk = os.read(stderr.fileno(), 65536) if readable else b""
            if not chunk:
                self.process.kill()
                raise AssertionError(f"the operator did not start: {seen.decode()}")
            seen += chunk
        self.log.write_bytes(seen)
        # From here on the log goes to a file, drained by a small helper so that the pipe never fills up.
        self._tee = subprocess.Popen(["tee", "-a", str(self.log)], stdin=stderr, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """End it the hard way."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as Kubernetes does; fails when it does not end in time."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(STOP_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stderr:
                self.process.stderr.close()
            self._tee.wait(STOP_SECONDS)
