"""The project's images on a host without an image registry: which there are, and when one must be built anew. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path

REGISTRY = "openclaw.local"
BASE_PACKAGES = ("bash", "ca-certificates", "git", "python3", "python3-venv")
BASE_SUITE = "bookworm"
IGNORED = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
BUILD_ARGUMENTS = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
"""Settings of the host that a build gets. Dockerfiles declare the pip ones, every builder knows the proxies."""
CA_BUNDLE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Image:
    """One image: built from `dockerfile` (relative to the repository) and depending on the content of `inputs`."""

    name: str
    dockerfile: str
    inputs: tuple[str, ...]
    target: str | None = None
    aliases: tuple[str, ...] = field(default=())

    @property
    def tags(self) -> list[str]:
        return [f"{REGISTRY}/{name}:test" for name in (self.name, *self.aliases)]


IMAGES = {
    image.name: image
    for image in (
        Image("operator", "operator/Dockerfile", ("operator",)),
        Image("runtime", "runtime-image/Dockerfile", ("runtime-image",), "gateway"),
        Image("sandbox", "runtime-image/Dockerfile", ("runtime-image",), "sandbox"),
        Image("egress-proxy", "runtime-image/Dockerfile", ("runtime-image",), "egress"),
        Image("sandbox-node", "runtime-image/Dockerfile", ("runtime-image",), "sandbox-node"),
        Image("postgresql", "tests/cluster/images/postgresql/Dockerfile", ("tests/cluster/images/postgresql",)),
        Image("redis", "tests/cluster/images/redis/Dockerfile", ("tests/cluster/images/redis",)),
        Image(
            "testkit",
            "tests/cluster/images/testkit/Dockerfile",
            ("tests/cluster/images/testkit", "tests/cluster/qdrant_front", "tests/fakes", ".dockerignore"),
            aliases=("qdrant-front",),
        ),
    )
}


def files_of(root: Path, inputs: Iterable[str]) -> list[Path]:
    """Every file below the inputs, in a stable order; caches and byte code do not count."""
    found: set[Path] = set()
    for each in inputs:
        path = root / each
        candidates = path.rglob("*") if path.is_dir() else [path]
        found.update(
            file
            for file in candidates
            if file.is_file()
            and not IGNORED.intersection(file.relative_to(root).parts)
            and file.suffix != ".pyc"
            and not any(part.endswith(".egg-info") for part in file.parts)
        )
    return sorted(found)


def content_digest(root: Path, image: Image, base: str) -> str:
    """Changes whenever the image would: base, Dockerfile and every input, by path, mode and content."""
    digest = hashlib.sha256(json.dumps([base, image.dockerfile, image.target, image.tags]).encode())
    for file in files_of(root, (*image.inputs, image.dockerfile)):
        executable = bool(file.stat().st_mode & 0o100)
        digest.update(json.dumps([str(file.relative_to(root)), executable]).encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def base_digest(architecture: str, dockerfile: str) -> str:
    content = json.dumps([BASE_SUITE, BASE_PACKAGES, architecture, dockerfile])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def build_arguments(environment: Mapping[str, str], base: str) -> dict[str, str]:
    """The base, and what of the host's settings a build inside a container needs to reach the package index."""
    arguments = {"BASE": base}
    arguments.update({name: environment[name] for name in BUILD_ARGUMENTS if environment.get(name)})
    if ca_bundle(environment):
        arguments["PIP_CERT"] = CA_BUNDLE
    return arguments


def ca_bundle(environment: Mapping[str, str]) -> Path | None:
    """The host's own CA bundle, when it names one."""
    return next((Path(environment[name]) for name in CA_BUNDLE_VARIABLES if environment.get(name)), None)


def find_links(environment: Mapping[str, str], pip_configuration: str) -> list[Path]:
    """Local folders pip looks for packages in: they must be visible inside the build too."""
    parser = ConfigParser(interpolation=None)
    parser.read_string(pip_configuration)
    values = [environment.get("PIP_FIND_LINKS", ""), parser.get("global", "find-links", fallback="")]
    return [Path(word) for value in values for word in value.split() if word.startswith("/")]


def volumes(environment: Mapping[str, str], configuration: Path, pip_configuration: str) -> list[str]:
    """Read-only mounts of a build: host path:path inside:ro. Only what exists on the host."""
    wanted = [(folder, str(folder)) for folder in find_links(environment, pip_configuration)]
    bundle = ca_bundle(environment)
    if bundle is not None:
        wanted.append((bundle, CA_BUNDLE))
    wanted.append((configuration, "/etc/pip.conf"))
    return [f"{source}:{target}:ro" for source, target in wanted if source.exists()]


def build_command(
    buildah: list[str], image: Image, root: Path, arguments: Mapping[str, str], mounts: Iterable[str], tag: str
) -> list[str]:
    command = [*buildah, "build", "--pull-never", "--layers", "--isolation=chroot", "--network=host", "--format=docker"]
    command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    command += [f"--volume={mount}" for mount in mounts]
    if image.target:
        command.append(f"--target={image.target}")
    return [*command, f"--file={root / image.dockerfile}", f"--tag={tag}", str(root)]
