"""Packing and unpacking: always the same bytes, and nothing gets outside of the folder."""

import contextlib
import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw_runtime.sandbox import archive
from openclaw_runtime.sandbox.archive import ArchiveError, PackageFile
from openclaw_runtime.skills import package


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_the_same_files_give_the_same_digest_for_ever() -> None:
    """The value is part of the format: the operator has to come to the same one."""
    files = [PackageFile("scripts/main.py", b"x = 1\n"), PackageFile("SKILL.md", b"---\n"), PackageFile("a", b"", True)]
    packed = package.pack_files(files)
    assert packed.digest == package.pack_files(reversed(files)).digest
    tar = gzip.decompress(packed.data)
    assert packed.digest == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert len(tar) % 10_240 == 0
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        facts = [(m.name, m.mode, m.uid, m.gid, m.uname, m.gname, m.mtime) for m in opened]
    assert facts == [
        ("SKILL.md", 0o644, 0, 0, "", "", 0),
        ("a", 0o755, 0, 0, "", "", 0),
        ("scripts/main.py", 0o644, 0, 0, "", "", 0),
    ]
    assert tar[257:263] == b"ustar\x00"


def test_a_folder_is_packed_without_tests_caches_and_hidden_files(tmp_path: Path) -> None:
    for path in ("SKILL.md", "scripts/main.py", "tests/test.py", ".env", "scripts/__pycache__/x.pyc", ".git/config"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "scripts/run").write_text("#!")
    (tmp_path / "scripts/run").chmod(0o755)
    packed = package.pack_folder(tmp_path)
    assert [(f.path, f.executable) for f in packed.files()] == [
        ("SKILL.md", False),
        ("scripts/main.py", False),
        ("scripts/run", True),
    ]


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "leak").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match="leak is a link"):
        package.pack_folder(tmp_path)


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=("C", "Z")), min_size=1, max_size=20
)


@given(
    st.dictionaries(NAMES.filter(lambda name: name not in {".", ".."}), st.binary(max_size=100), min_size=1, max_size=5)
)
def test_what_is_packed_comes_out_again(files: dict[str, bytes]) -> None:
    packed = package.pack_files(PackageFile(name, data) for name, data in files.items())
    tar = archive.verify(packed.data, packed.digest)
    assert {file.path: file.data for file in archive.read(tar)} == files


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (member("../evil"), "without .."),
        (member("a/../../evil"), "without .."),
        (member("/etc/cron.d/evil"), "relative"),
        (member("a//b"), "plain"),
        (member("./a"), "plain"),
        (member("a\\b"), "backslash"),
        (member("a\nb"), "control"),
        (member("x" * 300), "longer than 256"),
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), "not a regular file"),
        (member("link", tarfile.LNKTYPE, "SKILL.md"), "not a regular file"),
        (member("folder", tarfile.DIRTYPE), "not a regular file"),
        (member("device", tarfile.CHRTYPE), "not a regular file"),
        (member("pipe", tarfile.FIFOTYPE), "not a regular file"),
    ],
)
def test_a_hostile_member_is_refused(tmp_path: Path, info: tarfile.TarInfo, text: str) -> None:
    target = tmp_path / "in"
    target.mkdir()
    with pytest.raises(ArchiveError, match=text):
        archive.unpack(tar_of((member("SKILL.md"), b"x"), (info, b"")), target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_a_name_twice_or_below_a_file_is_refused(tmp_path: Path) -> None:
    for number, second in enumerate(("a", "a/b")):
        target = tmp_path / str(number)
        target.mkdir()
        with pytest.raises(ArchiveError, match=r"twice|a file|collides"):
            archive.unpack(tar_of((member("a"), b"1"), (member(second), b"2")), target)


def test_too_many_files_are_refused() -> None:
    tar = tar_of(*((member(f"f{number}"), b"") for number in range(archive.MAX_FILES + 1)))
    with pytest.raises(ArchiveError, match="more than 512 files"):
        list(archive.read(tar))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(archive.MAX_UNCOMPRESSED_BYTES + 1))
    assert len(bomb) < 10_000
    with pytest.raises(ArchiveError, match="more than 8388608 bytes"):
        archive.decompress(bomb)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "cut short"),
        (b"not gzip", "not gzip"),
        (gzip.compress(b"abc", mtime=0)[:-4], "cut short"),
        (gzip.compress(b"abc", mtime=0) + b"more", "something follows"),
        (bytes(archive.MAX_COMPRESSED_BYTES + 1), "at most 921600"),
    ],
    ids=["empty", "text", "cut", "followed", "large"],
)
def test_what_is_no_package_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ArchiveError, match=text):
        archive.decompress(data)


@given(st.binary(max_size=2000))
def test_no_bytes_break_the_tar_reader(data: bytes) -> None:
    with contextlib.suppress(ArchiveError):
        list(archive.read(data))
