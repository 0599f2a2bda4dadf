"""What is remembered of a started node."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.cluster.lifecycle import Record
from tests.cluster.processes import ProcessId


def record(program: str) -> Record:
    return Record(ProcessId(1, 2), ProcessId(3, 4), 6443, ("/sys/fs/cgroup/memory/a",), program)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = record(sys.executable)
    written.write(tmp_path / "node.json")
    assert Record.read(tmp_path / "node.json") == written


def test_a_node_whose_checkout_was_removed_is_of_no_use(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch()
    assert record(str(python)).usable
    python.unlink()
    assert not record(str(python)).usable


def test_without_a_record_nothing_is_known(tmp_path: Path) -> None:
    assert Record.read(tmp_path / "node.json") is None
