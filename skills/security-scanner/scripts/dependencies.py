"""What is taken from elsewhere without being pinned: requirements files and Dockerfiles."""

from __future__ import annotations

import re
from collections.abc import Iterator

from issue import Issue

_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*(?P<spec>[^;#]*)")
_FROM = re.compile(r"^FROM\s+(?:--platform=\S+\s+)?(?P<image>\S+)(?:\s+AS\s+(?P<stage>\S+))?\s*$", re.IGNORECASE)
_SECRET_ENV = re.compile(r"^(?:ENV|ARG)\s+\w*(?:PASSWORD|SECRET|TOKEN|API_?KEY)\w*[= ]\s*\S", re.IGNORECASE)


def is_requirements(name: str) -> bool:
    """Tells whether a file name is that of a pip requirements file."""
    return bool(re.fullmatch(r"(?:.*-)?requirements(?:[-_.].*)?\.(?:txt|in|lock)|constraints.*\.txt", name))


def is_dockerfile(name: str) -> bool:
    """Tells whether a file name is that of a Dockerfile."""
    return name in {"Dockerfile", "Containerfile"} or name.startswith("Dockerfile.") or name.endswith(".dockerfile")


def requirements(file: str, text: str) -> Iterator[Issue]:
    """Yields requirements without an exact version, and once a file whose requirements have no hashes."""
    unhashed: list[int] = []
    for number, line in _logical(text):
        if re.match(r"(?:-i|--index-url|--extra-index-url)[ =]+http:", line):
            yield Issue("req-http-index", "high", file, number, "packages come unencrypted", "Use https.", line)
        if line.startswith("--trusted-host"):
            yield Issue("req-trusted-host", "high", file, number, "certificates are not checked", "Remove it.", line)
        if line.startswith("-") or "://" in line:
            if "git+" in line and not re.search(r"@[0-9a-f]{40}(?:#|\s|$)", line):
                message = "a git requirement is not pinned to a commit"
                yield Issue("req-git-unpinned", "medium", file, number, message, "Append @<commit hash>.", line)
            continue
        match = _REQUIREMENT.match(line)
        if match is None:
            continue
        if not re.match(r"={2,3}\s*[^*\s]+(?:\s|$)", match["spec"]):
            message = f"{match['name']} has no exact version"
            yield Issue("req-unpinned", "medium", file, number, message, "Pin it with ==, best from a lock file.", line)
        elif "--hash=" not in line:
            unhashed.append(number)
    if unhashed:
        message = f"pinned requirements without a hash: {len(unhashed)}"
        fix = "Generate hashes (pip-compile --generate-hashes) and install with --require-hashes."
        yield Issue("req-no-hash", "low", file, unhashed[0], message, fix, "no-hash")


def _logical(text: str) -> list[tuple[int, str]]:
    """Lines with the number where they begin; comments are cut and continuations joined."""
    lines: list[tuple[int, str]] = []
    start, collected = 1, ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        start = start if collected else number
        if line.endswith("\\"):
            collected += line[:-1] + " "
            continue
        if collected + line:
            lines.append((start, collected + line))
        collected = ""
    return lines


def dockerfile(file: str, text: str) -> Iterator[Issue]:
    """Yields unpinned base images, remote ADD, secrets in layers, and a root user."""
    stages: set[str] = set()
    user, last_from = "", 0
    for number, line in _logical(text):
        if match := _FROM.match(line):
            yield from _image(file, number, match["image"], stages)
            stages.add((match["stage"] or "").lower())
            user, last_from = "", number
        elif re.match(r"USER\s", line, re.IGNORECASE):
            user = line.split()[1].split(":")[0]
        elif re.match(r"ADD\s+(?:--(?!checksum)\S+\s+)*https?://", line, re.IGNORECASE):
            fix = "Use ADD --checksum=sha256:..., or curl and sha256sum."
            yield Issue("docker-add-url", "medium", file, number, "a download is added unchecked", fix, line)
        elif _SECRET_ENV.match(line) and not re.search(r"[= ][\"']?\$|=\s*[\"']{2}$", line):
            name = re.split(r"[= ]", line, maxsplit=2)[1]
            fix = "Use a build secret (RUN --mount=type=secret) or set it at run time."
            yield Issue("docker-secret", "high", file, number, f"{name} is kept in the image's history", fix, name)
    if last_from and user in {"", "root", "0"}:
        fix = "Add USER with a number above 0 after the last FROM."
        yield Issue("docker-root", "medium", file, last_from, "the image runs as root", fix, "root")


def _image(file: str, number: int, image: str, stages: set[str]) -> Iterator[Issue]:
    if image.lower() in stages or image == "scratch" or "@sha256:" in image or image.startswith("$"):
        return
    if image.rsplit("/", 1)[-1].partition(":")[2] in {"", "latest"}:
        fix = "Name a version, best with its digest (image:1.2@sha256:...)."
        yield Issue("docker-latest", "medium", file, number, f"{image} is a different image each day", fix, image)
    else:
        message = f"the tag of {image} can be moved"
        yield Issue("docker-no-digest", "low", file, number, message, "Append @sha256:<digest>.", image)
