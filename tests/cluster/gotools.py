"""Programs built from public Go modules: each module once, cached by the content of its go.mod and go.sum."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.paths import PACKAGE, Cache
from tests.cluster.processes import exclusive, run

MARKER = ".complete"
MODULES = ("etcd", "kubernetes", "metrics-server", "local-path-provisioner")


@dataclass(frozen=True)
class GoModule:
    """A folder with go.mod and go.sum whose `tool` lines name the programs to build."""

    name: str
    folder: Path

    @property
    def gomod(self) -> str:
        return (self.folder / "go.mod").read_text()

    @property
    def digest(self) -> str:
        content = (self.folder / "go.mod").read_bytes() + (self.folder / "go.sum").read_bytes()
        return hashlib.sha256(content).hexdigest()[:16]

    def output(self, cache: Cache) -> Path:
        return cache.bin / f"{self.name}-{self.digest}"

    def built(self, cache: Cache) -> bool:
        return (self.output(cache) / MARKER).exists()


def module(name: str) -> GoModule:
    return GoModule(name, PACKAGE / "tools" / name)


def tools_of(gomod: str) -> list[str]:
    """The import paths of `tool` lines, single or in a block (https://go.dev/ref/mod#go-mod-file-tool)."""
    found: list[str] = []
    block = False
    for line in gomod.splitlines():
        words = line.partition("//")[0].split()
        if block and words == [")"]:
            block = False
        elif block and words:
            found.append(words[0])
        elif words[:2] == ["tool", "("]:
            block = True
        elif len(words) == 2 and words[0] == "tool":
            found.append(words[1])
    return found


def programs_of(gomod: str) -> list[str]:
    """The names of the programs: the last part of an import path that is no major version, as Go has it."""
    return [re.sub(r"/v\d+$", "", path).rpartition("/")[2] for path in tools_of(gomod)]


def required_version(gomod: str, path: str) -> str:
    """The version go.mod requires of a module. Raises ClusterError when it requires none."""
    match = re.search(rf"^\s*(?:require\s+)?{re.escape(path)}\s+(v\S+)", gomod, re.MULTILINE)
    if match is None:
        raise ClusterError(f"go.mod requires no {path}")
    return match.group(1)


def linker_flags(module_name: str, gomod: str) -> str:
    """`-s -w` and the version: a kubelet without one fails the version skew check."""
    if module_name == "kubernetes":
        version = required_version(gomod, "k8s.io/kubernetes")
        major, minor = version.removeprefix("v").split(".")[:2]
        package = "k8s.io/component-base/version"
        return (
            f"-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} "
            f"-X {package}.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion={version}"
        )
    if module_name == "local-path-provisioner":
        return f"-s -w -X main.VERSION={required_version(gomod, 'github.com/rancher/local-path-provisioner')}"
    return "-s -w"


def build_command(source: GoModule, output: Path) -> list[str]:
    gomod = source.gomod
    flags = linker_flags(source.name, gomod)
    return ["go", "build", "-trimpath", "-ldflags", flags, "-o", f"{output}/", *tools_of(gomod)]


def build(source: GoModule, cache: Cache, environment: Mapping[str, str], log: Path) -> Path:
    """Build into a neighbour folder and move it into place: a folder with the marker is complete, whatever was killed.

    Returns the folder of the programs. Raises ComponentError with the end of the log when the build fails.
    """
    target = source.output(cache)
    if source.built(cache):
        return target
    with exclusive(cache.bin / f".{target.name}.lock"):
        if not source.built(cache):
            _build(source, target, environment, log)
    return target


def _build(source: GoModule, target: Path, environment: Mapping[str, str], log: Path) -> None:
    staging = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        run(build_command(source, staging), cwd=source.folder, env={**environment, "CGO_ENABLED": "0"}, log=log)
        (staging / MARKER).touch()
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def tool(cache: Cache, module_name: str, program: str) -> Path:
    """The path of a built program. Raises ClusterError when it is not built yet."""
    source = module(module_name)
    path = source.output(cache) / program
    if not source.built(cache) or not path.exists():
        raise ClusterError(f"{program} is not built; fix: python -m tests.cluster deps")
    return path
