"""Where packages may come from, what archives may hold, and when a download is tried again."""

from __future__ import annotations

import asyncio
import gzip
import io
import ipaddress
import tarfile
import zipfile

import pytest

from openclaw_operator.api.source import ArchiveSource, OciSource
from openclaw_operator.errors import FetchError, SpecError
from openclaw_operator.fetch.challenge import login_for
from openclaw_operator.fetch.guard import Guard
from openclaw_operator.reconcile.downloads import (
    AT_ONCE,
    AT_ONCE_PER_NAMESPACE,
    Downloads,
    PendingError,
    User,
    pause_seconds,
)
from openclaw_operator.reconcile.source import identity
from openclaw_operator.resources import archive, package
from openclaw_operator.resources.package import File

USER = ("Skill", "demo", "echo")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "fd00:ec2::254",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a00:1::",
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(FetchError, match=r"sources\.privateHosts"):
        Guard().check_address("name.example", ipaddress.ip_address(address))


def test_public_addresses_are_fine() -> None:
    for address in ("140.82.121.4", "2606:50c0:8000::153"):
        Guard().check_host(address)


def test_named_hosts_may_be_private_but_nobody_is_metadata() -> None:
    guard = Guard(private_hosts=("registry.tools", "*.corp.example", "127.0.0.1"))
    private = ipaddress.ip_address("10.0.0.1")
    for host in ("registry.tools", "REGISTRY.tools.", "a.corp.example"):
        guard.check_address(host, private)
    guard.check_host("127.0.0.1")
    for host, address in (
        ("other.example", "10.0.0.1"),
        ("corp.example.evil", "10.0.0.1"),
        # Whoever has a name below the pattern does not get at the operator itself with it.
        ("a.corp.example", "127.0.0.1"),
        ("registry.tools", "169.254.169.254"),
    ):
        with pytest.raises(FetchError):
            guard.check_address(host, ipaddress.ip_address(address))


def test_a_list_of_hosts_is_the_only_ones() -> None:
    guard = Guard(hosts=("ghcr.io",))
    guard.check_host("ghcr.io")
    with pytest.raises(FetchError, match=r"sources\.allowedHosts"):
        guard.check_host("docker.io")


def tar(*entries: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as out:
        for path, data in entries:
            entry = tarfile.TarInfo(path)
            entry.type, entry.size, entry.linkname = kind, len(data) if kind == tarfile.REGTYPE else 0, "/etc/passwd"
            entry.mode = 0o755 if path.endswith(".sh") else 0o644
            out.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def zipped(*entries: tuple[str, bytes], mode: int = 0o100644) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for path, data in entries:
            info = zipfile.ZipInfo(path)
            info.external_attr = mode << 16
            out.writestr(info, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize(("top", "folder"), [("", ""), ("./", ""), ("repo-1/", ""), ("repo-1/skills/a/", "skills/a")])
def test_both_kinds_of_archive_come_to_the_packed_folder(make: type, top: str, folder: str) -> None:
    content = make(
        (f"{top}SKILL.md", b"x"), (f"{top}scripts/main.py", b"y"), (f"{top}tests/t.py", b""), (f"{top}.git/x", b"")
    )
    found = archive.files(content, folder)
    assert [(file.path, file.data) for file in found] == [("SKILL.md", b"x"), ("scripts/main.py", b"y")]


def test_the_executable_bit_is_kept() -> None:
    assert archive.files(tar(("a.sh", b"x"), ("b", b"x")), "") == [File("a.sh", b"x", True), File("b", b"x")]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (tar(("../evil", b"x")), "relative path"),
        (tar(("/etc/cron.d/evil", b"x")), "relative path"),
        (zipped(("a/../../evil", b"x")), "relative path"),
        (tar(("SKILL.md", b""), kind=tarfile.SYMTYPE), "no regular file"),
        (tar(("SKILL.md", b""), kind=tarfile.LNKTYPE), "no regular file"),
        (tar(("SKILL.md", b""), kind=tarfile.CHRTYPE), "no regular file"),
        (zipped(("SKILL.md", b"/etc/passwd"), mode=0o120777), "no regular file"),
        (tar(("a", b"1"), ("a", b"2")), "twice"),
        (tar(("bomb", bytes(archive.MAX_UNPACKED_BYTES + 1))), "publish the skill by itself"),
        (zipped(("bomb", bytes(archive.MAX_UNPACKED_BYTES + 1))), "publish the skill by itself"),
        (gzip.compress(bytes(archive.MAX_UNPACKED_BYTES * 2)), "cannot be read|no files|publish"),
        (tar(("big", bytes(package.MAX_TAR_BYTES + 1))), "spec.source.archive.path"),
        (b"PK\x03\x04garbage", "cannot be read"),
        (b"garbage", "cannot be read"),
        (tar(("SKILL.md", b"x"))[:-40], "cannot be read"),
    ],
    # Not the bytes: archives hold the time they were made.
    ids=lambda value: value if isinstance(value, str) else "archive",
)
def test_dangerous_archives_are_refused(content: bytes, hint: str) -> None:
    with pytest.raises(SpecError, match=hint) as refusal:
        archive.files(content, "")
    assert refusal.value.reason == "InvalidSource"


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(SpecError, match="no files in b"):
        archive.files(tar(("skills/a/SKILL.md", b"x")), "b")


@pytest.mark.parametrize(
    "content",
    [b"x", gzip.compress(b"x" * 1024), gzip.compress(bytes(20 * 1024 * 1024)), tar(("SKILL.md", b"x")) + b"x"],
    ids=["text", "gzip", "bomb", "followed"],
)
def test_packages_that_are_none_are_refused(content: bytes) -> None:
    with pytest.raises(SpecError, match=r"spec\.source"):
        package.stored(content)


def test_a_package_in_another_order_is_not_taken_for_a_published_one() -> None:
    with pytest.raises(SpecError, match="not packed reproducibly"):
        package.stored(tar(("b", b"1"), ("a", b"2")))


def test_the_same_content_has_one_identity_wherever_it_is() -> None:
    digest = "sha256:" + "a" * 64
    one = OciSource(reference=f"ghcr.io/a/b:1.0.0@{digest}")
    two = OciSource(reference=f"oci://mirror.example/c@{digest}")
    assert identity(one) == identity(two) == f"oci:{digest}"
    archived = ArchiveSource(url="https://example.org/x", sha256="a" * 64, path="skills/a")
    assert identity(archived) == f"archive:{digest}#skills/a"


def test_logins_are_found_by_host() -> None:
    text = '{"auths": {"https://r.example/v1/": {"auth": "bWU6cHc6eA=="}, "s.example": {"username": "u"}}}'
    found = login_for(text, "r.example")
    assert found
    assert (found.username, found.password) == ("me", "pw:x")
    assert "pw" not in repr(found)
    assert login_for(text, "s.example") == login_for(text, "s.example")
    assert login_for(text, "example") is None


def test_pauses_grow_only_for_what_passes() -> None:
    passing = FetchError("SourceTimeout", "", passing=True)
    assert [round(pause_seconds(passing, count, 0.5)) for count in (1, 2, 3, 9, 99)] == [5, 10, 20, 300, 300]
    asked = FetchError("SourceUnavailable", "", passing=True, retry_after=90)
    assert pause_seconds(asked, 1, 0.5) == 90
    assert pause_seconds(SpecError("DigestMismatch", ""), 1, 0.5) == 300
    assert pause_seconds(FetchError("SourceUnauthorized", ""), 1, 0.5) == 60


async def test_a_download_is_tried_when_it_is_due_and_not_before() -> None:
    time, attempts, woken = [0.0], [0], asyncio.Event()
    downloads: Downloads[str] = Downloads(lambda _: woken.set(), monotonic=lambda: time[0], jitter=lambda: 0.5)

    async def work() -> str:
        attempts[0] += 1
        if attempts[0] == 1:
            raise FetchError("SourceTimeout", "too slow", passing=True)
        return "package"

    async def settled(wanted: str) -> None:
        woken.clear()
        with pytest.raises((PendingError, SpecError)):
            downloads.get(USER, wanted, work)
        await woken.wait()

    await settled("a")
    # Asked for again and again, it is not tried before its time.
    for _ in range(3):
        with pytest.raises(FetchError, match="too slow"):
            downloads.get(USER, "a", work)
    assert (attempts[0], downloads.due_in(USER)) == (1, 5.0)
    time[0] = 5.0
    await settled("a")
    assert downloads.get(USER, "a", work) == "package"
    assert (attempts[0], downloads.due_in(USER)) == (2, None)
    # Something else is wanted: the result counts no more.
    await settled("b")
    assert attempts[0] == 3


async def test_slow_hosts_of_one_namespace_hold_up_no_other_and_all_together_are_bounded() -> None:
    started: list[User] = []
    downloads: Downloads[str] = Downloads(lambda _: None, monotonic=lambda: 0.0, jitter=lambda: 0.5)
    users = [("Skill", f"team-{team}", f"skill-{number}") for team in range(AT_ONCE) for number in range(3)]

    def begin(user: User) -> None:
        async def work() -> str:
            started.append(user)
            await asyncio.Event().wait()
            return ""

        with pytest.raises(PendingError):
            downloads.get(user, "a", work)

    async def turn() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    for user in users[:3]:
        begin(user)
    await turn()
    assert started == users[:AT_ONCE_PER_NAMESPACE]
    begin(users[3])
    await turn()
    assert started[AT_ONCE_PER_NAMESPACE:] == [users[3]]
    for user in users[4:]:
        begin(user)
    await turn()
    assert len(started) == AT_ONCE
    for user in users:
        downloads.forget(user)
