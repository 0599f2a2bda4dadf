import hashlib
import json
from urllib.request import Request

import pytest

from openclaw_skill import SkillError
from tests.fakes.http_server import Reply, serve

DIGEST = "sha256:" + "0" * 64
MANIFEST = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
INDEX = {"Content-Type": "application/vnd.oci.image.index.v1+json"}


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
        (Reply(401, b"", {"WWW-Authenticate": 'Bearer realm="https://[x"'}), "wants a login at 'https://.x', which is"),
        (Reply(401, b"", {"WWW-Authenticate": 'Bearer realm="x"'}), "of a kind that is not known: Bearer"),
        (Reply(200, b"{", MANIFEST), "is no JSON object"),
        (Reply(200, b'{"config": {"digest": 1}}', MANIFEST), "config of sha256:.* is no descriptor"),
        (Reply(200, b'{"manifests": [{}]}', INDEX), "an entry of sha256:.* is no descriptor"),
        (Reply(200, b'{"manifests": {}}', INDEX), "manifests of sha256:.* is no list"),
        (Reply(307, b"", {"Location": "http://[x"}), "did not answer .ValueError."),
        (Reply(500, b"zz", {"Transfer-Encoding": "chunked"}), "HTTP 500 for a/b/manifests/1"),
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


@pytest.mark.parametrize(
    ("body", "link", "told"),
    [
        (b'{"tags": null}', "</v2/a/b/tags/list?n=9>", "sent 128 pages of tags without an end"),
        (b'{"tags": [1]}', "", "tags of .* is no list of texts"),
        (b"[]", "", "list of tags is no JSON object"),
        (b"{}", "<http://[x>", "points to 'http://.x', which is no address"),
        (b"{}", "<https://127.0.0.1:PORT/>", "points to https://127.0.0.1:.*; what lies elsewhere is not followed"),
    ],
)
async def test_a_list_of_tags_that_lies_is_named(call, body, link, told):
    def answer(seen):
        return Reply(200, body, {"Link": link.replace("PORT", seen.headers["host"].partition(":")[2])})

    with serve(answer) as server, pytest.raises(SkillError, match=told):
        await call("tags", image=f"127.0.0.1:{server.port}/a/b")


async def test_a_token_that_is_none_is_named(call):
    def answer(seen):
        if seen.path == "/token":
            return Reply(200, b"<p>")
        return Reply(401, b"", {"WWW-Authenticate": f'Bearer realm="http://{seen.headers["host"]}/token"'})

    with serve(answer) as server, pytest.raises(SkillError, match="'s token is no JSON object"):
        await call("tags", image=f"127.0.0.1:{server.port}/a/b")


@pytest.mark.parametrize(
    ("address", "kept"),
    [("https://ghcr.io/b", True), ("https://GHCR.io/b", True), ("http://ghcr.io/b", False), ("https://x.io/b", False)],
)
def test_a_redirect_has_the_login_only_for_the_same_host_with_tls(skill, address, kept):
    request = Request("https://ghcr.io/a", headers={"Authorization": "Bearer t"})
    new = skill.ociregistry._Redirects().redirect_request(request, None, 307, "", {}, address)
    assert new.has_header("Authorization") is kept


@pytest.mark.parametrize("place", ["http://ghcr.io/v2/up", "http://ghcr.io:443/v2/up", "https://x.io/up"])
def test_an_upload_goes_only_to_the_same_host_with_tls(skill, monkeypatch, place):
    asked = []

    def read(request, *_):
        asked.append(request.full_url)
        return 202 if request.get_method() == "POST" else 404, {"Location": place}, b""

    monkeypatch.setattr(skill.ociregistry, "_read", read)
    registry = skill.ociregistry.Registry(skill.ociregistry.parse("ghcr.io/a/b:1", "image"), "u", "p")
    with pytest.raises(SkillError, match=f"points to {place.rpartition('/')[0].removesuffix('/v2')}; what lies"):
        registry.put_blob(b"x")
    assert all(address.startswith("https://ghcr.io/") for address in asked)


async def test_blobs_that_are_not_mounted_are_copied(call, ctx, skill, monkeypatch):
    blobs = {f"sha256:{hashlib.sha256(each).hexdigest()}": each for each in (b"{}", b"layer")}
    one, two = ({"mediaType": "x", "digest": digest, "size": len(each)} for digest, each in blobs.items())
    manifest = json.dumps({"config": one, "layers": [two]}).encode()

    def answer(seen):
        last = seen.path.rpartition("/")[2]
        if seen.method == "POST":
            return Reply(202, headers={"Location": "/v2/c/up/7"})
        if seen.method == "PUT":
            return Reply(201)
        if not seen.path.startswith("/v2/a/"):
            return Reply(404)
        return Reply(200, blobs[last]) if last in blobs else Reply(200, manifest, MANIFEST)

    ctx.config = {"allowWrites": True}
    with serve(answer) as server:
        host = f"127.0.0.1:{server.port}"
        await call("copy", **{"from": f"{host}/a:1", "to": f"{host}/c:2"})
        put = {seen.query.get("digest", seen.path): seen.body for seen in server.seen if seen.method == "PUT"}
        assert put == blobs | {"/v2/c/manifests/2": manifest}
        monkeypatch.setattr(skill.ociregistry, "MAX_BLOB", 4)
        with pytest.raises(SkillError, match="sent more than 4 bytes"):
            await call("copy", **{"from": f"{host}/a:1", "to": f"{host}/c:2"})


async def test_a_platform_that_is_asked_for_is_the_one_told(call):
    config = json.dumps({"os": "linux", "architecture": "arm64"}).encode()
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    manifest = json.dumps({"config": {"mediaType": "x", "digest": digest, "size": 1}, "layers": []}).encode()
    with serve(lambda seen: Reply(200, config) if "/blobs/" in seen.path else Reply(200, manifest, MANIFEST)) as server:
        image = f"127.0.0.1:{server.port}/a/b:1"
        assert (await call("inspect", image=image))["platform"] == "linux/arm64"
        assert (await call("inspect", image=image, platform="linux/arm64/v8"))["platform"] == "linux/arm64"
        with pytest.raises(SkillError, match=r"platform: linux/amd64 is none of the image's \(linux/arm64\)"):
            await call("inspect", image=image, platform="linux/amd64")


async def test_a_blob_that_lies_elsewhere_is_fetched_without_the_login(call, ctx):
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": {"Env": ["TOKEN=s3cret"]}}).encode()
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    described = {"mediaType": "x", "digest": digest}
    manifest = json.dumps(
        {"config": described | {"size": 2}, "layers": [{**described, "digest": DIGEST, "size": 7}]}
    ).encode()
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
