"""Secrets that are replaced while a gateway runs."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from openclaw_runtime.errors import ConfigError
from openclaw_runtime.gateway.middleware import BearerToken
from openclaw_runtime.sandbox.keyfile import PublicKeysFile
from openclaw_runtime.sandbox.signing import Signer
from openclaw_runtime.secrets import SecretFile


@pytest.fixture
def mount(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the file as the kubelet does: a link is swapped, the file itself is never touched."""

    def write(text: str) -> Path:
        folder = tmp_path / f"..{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "token").write_text(text)
        link = tmp_path / "..new"
        link.symlink_to(folder)
        link.rename(tmp_path / "..data")
        return tmp_path / "..data" / "token"

    return write


async def test_a_new_token_is_accepted_at_once_and_the_old_one_no_longer(mount: Callable[[str], Path]) -> None:
    app = BearerToken(PlainTextResponse("in"), SecretFile(mount("first"), "gateway.token_file"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as client:

        async def status(token: str) -> int:
            return (await client.get("/v1/models", headers={"Authorization": f"Bearer {token}"})).status_code

        assert [await status("first"), await status("second")] == [200, 401]
        mount("second\n")
        assert [await status("first"), await status("second")] == [401, 200]


def test_a_file_that_cannot_be_used_changes_nothing_and_is_told_once(
    mount: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = mount("first")
    secret = SecretFile(path, "gateway.token_file")
    mount(" ")
    with caplog.at_level(logging.ERROR):
        assert {secret.get_secret_value() for _ in range(3)} == {"first"}
    assert ["is empty" in record.getMessage() for record in caplog.records] == [True]
    path.unlink()
    assert secret.get_secret_value() == "first"
    mount("second")
    assert secret.get_secret_value() == "second"


def test_without_a_secret_nothing_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        SecretFile(tmp_path / "token", "gateway.token_file")


def test_an_egress_proxy_goes_by_the_keys_of_the_moment(mount: Callable[[str], Path]) -> None:
    first, second = Signer(b"\x01" * 32), Signer(b"\x02" * 32)
    texts = [base64.b64encode(signer.public_key).decode() for signer in (first, second)]
    keys = PublicKeysFile(mount(texts[0]))

    def believed() -> list[bool]:
        return [keys.signed(b"grantx", base64.b64decode(signer.sign("x", b"grant"))) for signer in (first, second)]

    assert believed() == [True, False]
    mount(",".join(texts))
    assert believed() == [True, True]
    mount("no keys")
    assert believed() == [True, True]
    mount(texts[1])
    assert believed() == [False, True]
