"""Programs from Go modules: what is built, how, and where it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import gotools
from tests.cluster.errors import ClusterError, ComponentError
from tests.cluster.paths import Cache

GOMOD = """module x

go 1.24.0

tool example.com/one/cmd/single // why

tool (
	example.com/two
	example.com/three/cmd/three
)

require k8s.io/kubernetes v1.34.4
"""


def sample(folder: Path, gomod: str = GOMOD) -> gotools.GoModule:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text(gomod)
    (folder / "go.sum").write_text("")
    return gotools.GoModule("sample", folder)


def test_tool_lines_alone_and_in_blocks() -> None:
    assert gotools.tools_of(GOMOD) == ["example.com/one/cmd/single", "example.com/two", "example.com/three/cmd/three"]


def test_a_program_is_not_named_by_its_major_version() -> None:
    assert gotools.programs_of("tool (\n\texample.com/one/cmd/single\n\texample.com/two/v3\n)\n") == ["single", "two"]


def test_versions_reach_the_linker() -> None:
    flags = gotools.linker_flags("kubernetes", GOMOD)
    assert "component-base/version.gitVersion=v1.34.4" in flags
    assert "version.gitMinor=34" in flags


def test_an_unknown_requirement_is_an_error() -> None:
    with pytest.raises(ClusterError, match=r"requires no example\.com/none"):
        gotools.required_version(GOMOD, "example.com/none")


def test_the_cache_follows_the_content(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    first = sample(tmp_path / "a")
    same = sample(tmp_path / "b")
    other = sample(tmp_path / "c", GOMOD + "// more\n")
    assert first.output(cache) == same.output(cache)
    assert first.output(cache) != other.output(cache)


def test_a_folder_without_marker_is_not_built(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    source = sample(tmp_path / "a")
    source.output(cache).mkdir(parents=True)
    assert not source.built(cache)


def test_a_failed_build_leaves_nothing_and_shows_the_log(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    source = sample(tmp_path / "a")
    environment = {"PATH": str(fake_go(tmp_path, "echo broken import; exit 1"))}
    with pytest.raises(ComponentError, match="broken import"):
        gotools.build(source, cache, environment, tmp_path / "log")
    assert [path for path in cache.bin.iterdir() if path.is_dir()] == []


def test_a_build_is_done_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    source = sample(tmp_path / "a")
    environment = {"PATH": f"{fake_go(tmp_path, f'echo run >> {tmp_path}/runs')}:/usr/bin:/bin"}
    for _ in range(2):
        folder = gotools.build(source, cache, environment, tmp_path / "log")
    assert (folder / gotools.MARKER).exists()
    assert (tmp_path / "runs").read_text() == "run\n"


def fake_go(folder: Path, script: str) -> Path:
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    program = bin_folder / "go"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return bin_folder
