"""What the documentation says of rights, and the links it gives, are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster.paths import REPOSITORY
from tests.contract import rights

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])


def test_security_page_lists_the_rights_of_the_operator() -> None:
    assert rights.documented() == rights.table(), "fix: make chart"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    missing = [target for target in targets if not target.startswith("http") and not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_and_files_named_exist(page: Path) -> None:
    text = page.read_text()
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z0-9-]+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for path in re.findall(r"`((?:charts|examples|skills|tests|crds|docs)/[A-Za-z0-9_./-]+)`", text):
        assert (REPOSITORY / path).exists(), path
