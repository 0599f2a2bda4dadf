"""Where the version of pyproject.toml is said once more: `python -m tests.contract.versions` writes it there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.cluster.paths import REPOSITORY

# File → what surrounds the version there; every place of the file that it fits is one.
PLACES = {
    "operator/pyproject.toml": r'^(version = ")[^"]+(")',
    "runtime-image/pyproject.toml": r'^(version = ")[^"]+(")',
    "runtime-image/src/openclaw_skill/node/package.json": r'^(  "version": ")[^"]+(")',
    "operator/src/openclaw_operator/settings.py": r'(Field\("openclaw/[a-z-]+:)[^"]+(")',
    "charts/openclaw-operator/Chart.yaml": r"^((?:version|appVersion): )\S+()",
    "docs/operations.md": r"(openclaw runs, version )\S+()",
}


def declared(root: Path = REPOSITORY) -> str:
    """The version of everything that is released together."""
    version: str = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return version


def written(root: Path = REPOSITORY) -> dict[str, str]:
    """File → its text with that version. Raises ValueError for one that says no version."""
    result, version = {}, declared(root)
    for name, pattern in PLACES.items():
        text, places = re.subn(pattern, rf"\g<1>{version}\g<2>", (root / name).read_text(), flags=re.MULTILINE)
        if not places:
            raise ValueError(f"{name} says no version")
        result[name] = text
    return result


if __name__ == "__main__":
    for name, text in written().items():
        (REPOSITORY / name).write_text(text)
