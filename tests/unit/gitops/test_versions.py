"""One version for everything that is released together."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.cluster.paths import REPOSITORY
from tests.contract.versions import PLACES, written


def test_everything_has_the_version_of_the_project() -> None:
    """`make chart` writes it where it is not."""
    assert {name: (REPOSITORY / name).read_text() for name in PLACES} == written()


def test_another_version_is_written_everywhere(tmp_path: Path) -> None:
    for name in ("pyproject.toml", *PLACES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    project = tmp_path / "pyproject.toml"
    project.write_text(re.sub("^version = .*", 'version = "9.8.7"', project.read_text(), count=1, flags=re.MULTILINE))
    new = written(tmp_path)
    assert {name: text.count("9.8.7") for name, text in new.items()} == {
        "operator/pyproject.toml": 1,
        "runtime-image/pyproject.toml": 1,
        "runtime-image/src/openclaw_skill/node/package.json": 1,
        "operator/src/openclaw_operator/settings.py": 4,
        "charts/openclaw-operator/Chart.yaml": 2,
        "docs/operations.md": 1,
    }
