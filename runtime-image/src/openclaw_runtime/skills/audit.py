"""What is kept of every call: who called what, with which package, hashes and sizes, and how it ended."""

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from openclaw_runtime.sandbox.jsonrpc import canonical_sha256, dumps
from openclaw_runtime.skills.checks import Verdict

_log = logging.getLogger("openclaw.audit")
# Of its own: log_level is about what the gateway says of itself, and must not switch the record off.
_log.setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """One call. Times are Unix seconds and milliseconds; sizes are bytes of JSON.

    `outcome` is `ok`, `refused` (a check said no: see `verdicts`) or the `type` of the sandbox's error; of
    `permission_denied`, `reason` is the permission that was not declared. Inputs and
    results are kept as hashes only, secrets and messages not at all. `network` are the decisions of the egress proxy,
    `attachments` the media type, sha256 and size in bytes of each file that came with the result.
    """

    call_id: str
    time: float
    agent: str
    session: str
    skill: str
    version: str
    digest: str
    action: str
    permissions: tuple[str, ...]
    input_sha256: str
    input_bytes: int
    verdicts: tuple[Verdict, ...]
    outcome: str
    reason: str = ""
    result_sha256: str = ""
    result_bytes: int = 0
    sandbox: str = ""
    duration_ms: float = 0.0
    total_ms: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)
    usage: dict[str, float] = field(default_factory=dict)
    network: tuple[dict[str, Any], ...] = ()
    attachments: tuple[dict[str, str | int], ...] = ()

    event: ClassVar[str] = "skill call"

    def line(self) -> str:
        """Returns the record as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """One slot of a schedule and what became of it. Its skill calls have records of their own, of the same session.

    `slot` and `time` are Unix seconds. `skill` and `action` are empty for a prompt.
    """

    time: float
    agent: str
    schedule: str
    slot: float
    session: str
    skill: str
    action: str
    replica: str
    outcome: str
    total_ms: float = 0.0

    event: ClassVar[str] = "schedule run"

    def line(self) -> str:
        """Returns the record as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))


Record = ExecutionRecord | ScheduleRecord


class AuditSink(Protocol):
    """Takes records."""

    async def write(self, record: Record) -> None:
        """Keeps one record. Must not raise: a call that was made cannot be undone."""


def measure(value: Any) -> tuple[str, int]:
    """Returns the sha256 (canonical JSON) and the size in bytes of a JSON value."""
    return canonical_sha256(value), len(dumps(value))


class FileAudit:
    """Appends records to a file, one line each; lines of several processes never mix."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def write(self, record: Record) -> None:
        """Appends one line."""
        try:
            await asyncio.to_thread(self._append, record.line().encode() + b"\n")
        except OSError as error:
            _log.error("the audit log %s cannot be written: %s", self._path, error.strerror)

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # One write to an O_APPEND file is atomic on a local file system.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


class LogAudit:
    """Writes records to the process's log, where a cluster collects them."""

    async def write(self, record: Record) -> None:
        """Logs one record."""
        _log.info(record.event, extra={"audit": asdict(record)})


class Audit:
    """Writes every record to every sink."""

    def __init__(self, sinks: Sequence[AuditSink]) -> None:
        self._sinks = tuple(sinks)

    async def write(self, record: Record) -> None:
        """Keeps one record."""
        for sink in self._sinks:
            await sink.write(record)
