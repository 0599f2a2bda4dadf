from __future__ import annotations

import gzip
import hashlib
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw_operator.errors import SpecError
from openclaw_operator.resources import package

PART = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
FILES = st.dictionaries(st.lists(PART, min_size=1, max_size=3).map("/".join), st.text(max_size=50), min_size=1)


@given(FILES)
def test_order_does_not_matter_and_content_does(files: dict[str, str]) -> None:
    packed = package.build(files)
    assert package.build(dict(reversed(files.items()))) == packed
    path = next(iter(files))
    assert package.build({**files, path: files[path] + "x"}).digest != packed.digest


@given(FILES)
def test_archive_holds_the_files_as_plain_entries(files: dict[str, str]) -> None:
    packed = package.build(files)
    data = gzip.decompress(packed.archive)
    assert packed.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        entries = tar.getmembers()
        assert [entry.name for entry in entries] == sorted(files, key=str.encode)
        for entry in entries:
            assert entry.isreg()
            assert (entry.mode, entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0o644, 0, 0, "", "", 0)
            content = tar.extractfile(entry)
            assert content is not None
            assert content.read() == files[entry.name].encode()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../x", "a//b", "./a", "", "a\\b", "a\0b", "x" * 300])
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(SpecError, match=r"spec\.source") as refusal:
        package.build({path: "x"})
    assert refusal.value.reason == "InvalidSource"


def test_too_much_is_refused() -> None:
    with pytest.raises(SpecError, match="at most 512"):
        package.build({f"f{number}": "" for number in range(513)})
    with pytest.raises(SpecError, match="remove or shrink files"):
        package.build({"big": "x" * (package.MAX_TAR_BYTES + 1)})


def test_keys_of_a_config_map_are_paths() -> None:
    assert package.unpack_keys({"scripts__main.py": "x", "SKILL.md": "y"}) == {"scripts/main.py": "x", "SKILL.md": "y"}
