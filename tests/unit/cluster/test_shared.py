"""What all workers of a test run use together, without a server: started once, ended after its last user."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cluster.apiserver import AuditTrail
from tests.cluster.processes import poll
from tests.cluster.shared import shared


def test_what_is_shared_starts_once_and_ends_after_its_last_user(tmp_path: Path) -> None:
    log: list[str] = []

    @contextmanager
    def start() -> Iterator[str]:
        log.append("started")
        yield f"number {len(log)}"
        log.append("ended")

    first, second = ExitStack(), ExitStack()
    assert [stack.enter_context(shared(tmp_path, "it", start)) for stack in (first, second)] == ["number 1"] * 2
    # On a thread, since who started it waits there.
    leaving = threading.Thread(target=first.close)
    leaving.start()
    assert poll(lambda: not (tmp_path / "it").exists(), seconds=60)
    with shared(tmp_path, "it", start) as text:
        assert text == "number 2", "who comes when it is about to end has one of his own"
    log.append("left")
    second.close()
    leaving.join(60)
    assert log == ["started", "started", "ended", "left", "ended"]


def test_who_comes_after_a_failed_start_tries_again(tmp_path: Path) -> None:
    tries: list[str] = []

    @contextmanager
    def start() -> Iterator[str]:
        tries.append("try")
        if len(tries) == 1:
            raise OSError("no port")
        yield "here"

    with pytest.raises(OSError, match="no port"), shared(tmp_path, "it", start):
        pass
    with shared(tmp_path, "it", start) as text:
        assert text == "here"


def test_an_audit_trail_reads_whole_lines_once(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"

    def line(number: int, namespace: str) -> str:
        return json.dumps({"n": number, "objectRef": {"namespace": namespace}}) + "\n"

    log.write_text(line(1, "mine"))
    trail = AuditTrail(log, "mine", log.stat().st_size)
    assert trail.events() == []
    half = line(4, "mine")
    with log.open("a") as file:
        file.write(line(2, "mine") + line(3, "theirs") + half[:9])
        file.flush()
        assert [event["n"] for event in trail.events()] == [2]
        file.write(half[9:])
    assert [event["n"] for event in trail.events()] == [2, 4]
    assert [event["n"] for event in AuditTrail(log, "mine").events()] == [1, 2, 4]
