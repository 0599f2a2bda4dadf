import hashlib
import json

import pytest

from openclaw_skill import SkillError
from tests.fakes.http_server import Reply, serve

DIGEST = "sha256:" + "0" * 64
MANIFEST = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("action", "given", "told"),
    [
        ("tags", {"image": "nginx"}, "image: 'nginx' is no image with its registry"),
        ("inspect", {"image": "ghcr.io/A/b"}, "is no image with its registry"),
        ("inspect", {"image": "ghcr.io/../b"}, "is no image with its registry"),
        (
            "copy",
            {"from": "ghcr.io/a/b:1", "to": "example.org/a/b:1"},
            "to: example.org is another registry than ghcr.io",
        ),
        ("copy", {"from": "ghcr.io/a/b:1", "to": "ghcr.io/a/b"}, "needs a tag and no digest"),
        ("copy", {"from": "ghcr.io/a/b:1", "to": "ghcr.io/a/b:2"}, "config.allowWrites"),
        ("delete", {"image": f"ghcr.io/a/b@{DIGEST}"}, "config.allowWrites"),
    ],
)
async def test_wrong_input_is_named(call, action, given, told):
    with pytest.raises(SkillError, match=told):
        await call(action, **given)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(404, b'{"errors": [{"message": "unknown"}]}'), "HTTP 404 for a/b/manifests/1: unknown"),
        (Reply(200, b"{}", {"Content-Type": "text/html"}), "is no image but text/html"),
        (Reply(401, b"", {"WWW-Authenticate": "Basic realm=x"}), "wants a login; set secrets"),
        (Reply(401, b"", {"WWW-Authenticate": "Negotiate"}), "of a kind that is not known: Negotiate"),
        (Reply(200, b"x" * (4 * 1024 * 1024 + 1)), "sent more than 4194304 bytes"),
    ],
)
async def test_what_a_registry_refuses_is_told(call, reply, told):
    with serve(lambda _: reply) as server, pytest.raises(SkillError, match=told):
        await call("inspect", image=f"127.0.0.1:{server.port}/a/b:1")


async def test_what_is_not_of_its_digest_is_not_used(call):
    told = pytest.raises(SkillError, match="something else than sha256:0")
    with serve(lambda _: Reply(200, b"{}", MANIFEST)) as server, told:
        await call("inspect", image=f"127.0.0.1:{server.port}/a/b@{DIGEST}")


async def test_a_login_goes_to_its_own_registry_only(call, ctx):
    def answer(seen):
        if seen.path == "/token":
            return Reply(200, b'{"token": "t"}')
        if seen.headers.get("authorization") == "Bearer t":
            return Reply(200, b'{"tags": ["1", "2"]}')
        realm = f'realm="http://{seen.headers["host"]}/token?a=1"'
        return Reply(401, b"", {"WWW-Authenticate": f'Bearer {realm},service="s",scope="repository:a/b:pull"'})

    ctx.secrets = {"REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": "p"}
    ctx.config = {"registry": "ghcr.io"}
    with serve(answer) as server:
        host = f"127.0.0.1:{server.port}"
        got = await call("tags", image=f"{host}/a/b", limit=1)
        assert got == {"repository": f"{host}/a/b", "tags": ["1"], "more": True}
        token = next(seen for seen in server.seen if seen.path == "/token")
        assert token.query == {"a": "1", "service": "s", "scope": "repository:a/b:pull"}
        assert "authorization" not in token.headers
        ctx.config = {"registry": host}
        await call("tags", image=f"{host}/a/b")
        token = [seen for seen in server.seen if seen.path == "/token"][-1]
        assert token.headers["authorization"].startswith("Basic ")


async def test_a_blob_that_lies_elsewhere_is_fetched_without_the_login(call, ctx):
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": {"Env": ["TOKEN=s3cret"]}}).encode()
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    manifest = json.dumps({"config": {"digest": digest}, "layers": [{"digest": DIGEST, "size": 7}]}).encode()
    with serve(lambda _: Reply(200, config)) as elsewhere:

        def answer(seen):
            if "authorization" not in seen.headers:
                return Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
            if seen.path.endswith("/manifests/1"):
                return Reply(200, manifest, MANIFEST)
            return Reply(307, headers={"Location": f"http://localhost:{elsewhere.port}/blob"})

        with serve(answer) as server:
            host = f"127.0.0.1:{server.port}"
            ctx.secrets = {"REGISTRY_USERNAME": "u", "REGISTRY_PASSWORD": "p"}
            ctx.config = {"registry": host}
            got = await call("inspect", image=f"{host}/a/b:1")
        assert "authorization" not in elsewhere.seen[0].headers
    assert (got["platform"], got["sizeBytes"]) == ("linux/amd64", 7)
    # Values of an image's environment may be secrets.
    assert got["config"]["environment"] == ["TOKEN"]
