import gzip
import hashlib
import io
import json
import os
import tarfile
from contextlib import contextmanager

import pytest

from openclaw_skill import SkillError
from tests.fakes.http_server import Reply, serve

PROJECTS = {
    "python": {
        "requirements.txt": "flask==3.0\n",
        "main.py": "",
        "pyproject.toml": "[project]\nrequires-python='~=3.13'",
    },
    "node": {
        "package.json": '{"scripts": {"start": "x", "build": "y"}, "engines": {"node": ">=20"}}',
        "package-lock.json": "",
    },
    "go": {"go.mod": "module x\n\ngo 1.23.4\n", "cmd/a/main.go": "", "cmd/b/main.go": ""},
    "static": {"index.html": "<p>"},
}


def lay_out(workspace, files):
    for name, text in files.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(text)


@pytest.mark.parametrize("kind", PROJECTS)
async def test_the_dockerfile_of_a_project_passes_its_own_lint(call, ctx, kind):
    lay_out(ctx.workspace, PROJECTS[kind])
    got = await call("dockerfile", port=8080, write=True)
    assert got["kind"] == kind
    assert got["written"] == ["Dockerfile", ".dockerignore"]
    assert (ctx.workspace / "Dockerfile").read_text() == got["dockerfile"]
    assert "EXPOSE 8080" in got["dockerfile"]
    assert ".env" in got["dockerignore"].splitlines()
    assert (await call("lint", path="Dockerfile")) == {"passed": True, "findings": []}
    with pytest.raises(SkillError, match=r"Dockerfile and \.dockerignore exists already"):
        await call("dockerfile", write=True)


async def test_what_a_project_says_of_itself_is_used(call, ctx):
    lay_out(ctx.workspace / "py", PROJECTS["python"])
    lay_out(ctx.workspace / "js", PROJECTS["node"])
    lay_out(ctx.workspace / "go", PROJECTS["go"])
    python = await call("dockerfile", folder="py")
    assert "FROM python:3.13-slim" in python["dockerfile"]
    assert 'ENTRYPOINT ["python", "main.py"]' in python["dockerfile"]
    assert python["assumed"] == []
    node = await call("dockerfile", folder="js")
    assert [word in node["dockerfile"] for word in ("node:20-slim", "RUN npm ci", "npm run build")] == [True] * 3
    go = await call("dockerfile", folder="go")
    assert "FROM golang:1.23 AS build" in go["dockerfile"]
    assert go["assumed"] == ["that ./cmd/a is the program, of a, b"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"x.txt": ""}, "holds none of go.mod"),
        ({"package.json": "{"}, "package.json cannot be read"),
        ({"package.json": "[]"}, "package.json holds no object"),
        ({"pyproject.toml": "["}, "pyproject.toml cannot be read"),
        ({"pyproject.toml": "project = 1"}, "project in pyproject.toml is no object"),
        ({"package.json": '{"engines": "node"}'}, "engines in package.json is no object"),
        ({"package.json": '{"scripts": "rebuild"}'}, "scripts in package.json is no object"),
    ],
)
async def test_a_project_that_cannot_be_read_is_named(call, ctx, files, told):
    lay_out(ctx.workspace, files)
    with pytest.raises(SkillError, match=told):
        await call("dockerfile")
    with pytest.raises(SkillError, match="is no folder"):
        await call("dockerfile", folder="nowhere")


BAD = """# syntax=docker/dockerfile:1
FROM ubuntu AS base
FROM base
ARG TOKEN
ENV API_KEY=abc PLAIN=1
ADD https://example.org/x.tgz /x
ADD . /app
RUN apt-get install -y \\
    # why
    git \\
    curl && curl https://x.sh | sh
RUN <<EOF
apt-get install x
USER root
EOF
RUN pip install flask && chmod 777 /app
CMD python app.py
CMD ["python", "app.py"]
USER 0:0
"""


async def test_lint_names_line_and_fix(call):
    got = await call("lint", text=BAD)
    assert got["passed"] is False
    found = [(each["line"], each["rule"], each["severity"]) for each in got["findings"]]
    assert found == [
        (2, "unpinned", "error"),
        (5, "secret", "error"),
        (6, "add", "error"),
        (7, "add", "warning"),
        (8, "apt", "error"),
        (8, "apt", "warning"),
        (8, "apt", "warning"),
        (8, "pipe-to-shell", "error"),
        (16, "pip", "warning"),
        (16, "chmod", "warning"),
        (17, "shell-form", "warning"),
        (17, "overridden", "warning"),
        (19, "root", "error"),
    ]
    good = "FROM a@sha256:1\nADD --checksum=sha256:1 https://x/y /y\nFROM scratch\nUSER 1\n"
    assert (await call("lint", text=good))["findings"] == []
    assert (await call("lint", text="RUN x"))["findings"][0]["rule"] == "from"
    with pytest.raises(SkillError, match="exactly one of path and text"):
        await call("lint")


@pytest.mark.parametrize(
    ("opening", "found"),
    [
        ("RUN echo $((1<<20))", ["root"]),
        ("RUN echo $((1 << 20))", ["root"]),
        ("RUN cat <<<word", ["root"]),
        ("LABEL a=b <<EOF", ["root"]),
        ("RUN cat <<EOF", ["heredoc"]),
        ("ONBUILD RUN cat <<EOF", ["heredoc"]),
        ("RUN <<-'A.b' cat\nx\n\tA.b", ["root"]),
        ("RUN <<EOF\n  EOF", ["heredoc"]),
        ("COPY <<A <<B /x/\nB\nA\nUSER 1\nB", ["root"]),
    ],
)
async def test_what_only_looks_like_a_here_document_hides_nothing(call, opening, found):
    got = await call("lint", text=f"FROM scratch\nUSER 1\n{opening}\nUSER root\n")
    assert [each["rule"] for each in got["findings"]] == found
    assert got["passed"] is False


def test_equal_files_give_equal_layers(skill, tmp_path):
    for name in ("a", "b"):
        lay_out(tmp_path / name, {"run.sh": "x", "node_modules/y.js": "z", ".git/config": "secret"})
        (tmp_path / name / "run.sh").chmod(0o700)
        (tmp_path / name / "link").symlink_to("/etc/passwd")
    first, second = (skill.layer.pack(tmp_path / name, "/tmp/app/") for name in ("a", "b"))
    assert first == second
    # /tmp is the base's own, with its mode.
    assert read(first) == {
        "tmp/app": ("0o755", 0, 0),
        "tmp/app/node_modules": ("0o755", 0, 0),
        "tmp/app/node_modules/y.js": ("0o644", 0, 0),
        "tmp/app/run.sh": ("0o755", 0, 0),
    }
    assert first.left_out == ((".git", "private"), ("link", "link"))
    assert read(skill.layer.pack(tmp_path / "a", "/")).keys() == {"node_modules", "node_modules/y.js", "run.sh"}


def read(packed):
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed.data))) as tar:
        return {entry.name: (oct(entry.mode), entry.uid, entry.mtime) for entry in tar}


def test_what_is_secret_or_no_file_is_left_out_and_told(skill, tmp_path):
    public = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
    private = "-----BEGIN EC PRIVATE KEY-----\n"
    kept = {"app.py": "", "certifi/cacert.pem": public, "keyboard.py": "", "id_rsa.pub": ""}
    secret = {".env": "", "sub/.ENV.production": "", "tls.key": "", "both.pem": public + private, "der.pem": ""}
    secret |= {"sub/id_ed25519": "", "store.p12": "", ".netrc": "", ".npmrc": ""}
    lay_out(tmp_path, kept | secret | {".aws/credentials": "", ".openclaw/memory": "", "lib/x.py": ""})
    (tmp_path / "lib" / "folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    packed = skill.layer.pack(tmp_path, "/app")
    files = {name.removeprefix("app/") for name in read(packed)} - {"app", "certifi", "lib"}
    assert files == {*kept, "lib/x.py"}
    told = dict.fromkeys(secret, "secret") | {".aws": "secret", ".openclaw": "private"}
    assert dict(packed.left_out) == told | {"lib/folder": "link", "pipe": "special"}
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / ".env").write_text("x")
    with pytest.raises(SkillError, match=r"holds no files but what is left out \(\.env\)"):
        skill.layer.pack(tmp_path / "only", "/app")


def test_a_layer_has_bounds(skill, tmp_path, monkeypatch):
    with pytest.raises(SkillError, match="holds no files"):
        skill.layer.pack(tmp_path, "/")
    (tmp_path / "x").write_bytes(b"12345")
    monkeypatch.setattr(skill.layer, "MAX_BYTES", 4)
    with pytest.raises(SkillError, match="has 5 bytes, at most 4 fit"):
        skill.layer.pack(tmp_path, "/")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"base": "python:3.12", "image": "ghcr.io/a/b:1"}, "base: 'python:3.12' is no image with its registry"),
        ({"base": "ghcr.io/a/b:1", "image": "ghcr.io/a/b"}, "needs a tag and no digest"),
        ({"base": "ghcr.io/a/b:1", "image": "ghcr.io/a/c:1"}, "config.allowPush: it is not true"),
        ({"base": "127.0.0.1:1/a/b:1", "image": "ghcr.io/a/c:1", "dryRun": True}, "127.0.0.1:1 is not reachable"),
        (
            {"base": "ghcr.io/a/b:1", "image": "ghcr.io/a/c:1", "dryRun": True, "target": "/app/../etc"},
            "target: '/app/../etc' has '..' in it",
        ),
    ],
)
async def test_what_cannot_be_built_is_named(call, ctx, given, told):
    (ctx.workspace / "x").write_text("x")
    with pytest.raises(SkillError, match=told):
        await call("build", **given)


def test_settings_of_the_base_are_kept_unless_changed(skill):
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Env": ["A=1", "B=2"], "Cmd": ["bash"]},
        "rootfs": {"diff_ids": ["sha256:0"]},
    }

    class Base:
        def config(self, _manifest):
            return config

    docker_layer = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": "sha256:0", "size": 1}
    manifest = {"config": {"mediaType": "x", "digest": "sha256:1", "size": 1}, "layers": [docker_layer]}
    base = skill.ociregistry.Document("sha256:b", "", json.dumps(manifest).encode())
    packed = skill.layer.Packed(b"", "sha256:1", 1)
    wish = {"entrypoint": ["/app/x"], "environment": {"B": "3"}, "labels": {"l": "v"}}
    made = skill.assembly.extend(Base(), base, packed, wish)
    assert made == skill.assembly.extend(Base(), base, packed, wish)
    settings = json.loads(made.config)["config"]
    assert settings == {"Env": ["A=1", "B=3"], "Entrypoint": ["/app/x"], "User": "10001:10001", "Labels": {"l": "v"}}
    layers = made.manifest.value["layers"]
    assert [each["mediaType"] for each in layers] == ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2


OCI = "application/vnd.oci.image.manifest.v1+json"
LAYER = b"a layer of the base"
CONFIG = {"os": "linux", "architecture": "arm64", "variant": "v8", "config": {}, "rootfs": {"diff_ids": ["sha256:0"]}}


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def base_registry(config, manifest=None):
    """A registry with base:1, of one platform, that takes uploads and mounts nothing."""
    data = json.dumps(config).encode()
    blobs = {digest_of(each): each for each in (data, LAYER)}
    descriptors = [{"mediaType": "x", "digest": digest, "size": len(each)} for digest, each in blobs.items()]
    known = json.dumps({"config": descriptors[0], "layers": descriptors[1:]} if manifest is None else manifest).encode()

    def answer(seen):
        name, _, last = seen.path.removeprefix("/v2/").rpartition("/")
        if seen.method == "POST":
            return Reply(202, headers={"Location": f"/v2/{name}/7?state=a"})
        if seen.method == "PUT":
            return Reply(201)
        if name == "base/manifests":
            return Reply(200, known, {"Content-Type": OCI})
        return Reply(200, blobs[last]) if name == "base/blobs" and last in blobs else Reply(404)

    with serve(answer) as server:
        yield server


async def build(call, ctx, server, **given):
    lay_out(ctx.workspace, {"x": "x", ".env": "TOKEN=1"})
    host = f"127.0.0.1:{server.port}"
    return await call("build", base=f"{host}/base:1", image=f"{host}/team/app:1", **given)


async def test_a_base_that_is_not_mounted_is_copied(call, ctx):
    ctx.config = {"allowPush": True}
    with base_registry(CONFIG) as server:
        got = await build(call, ctx, server, platform="linux/arm64")
    assert (got["files"], got["leftOut"], got["leftOutTotal"]) == (1, [{"path": ".env", "why": "secret"}], 1)
    uploads = {seen.query["digest"]: seen for seen in server.seen if seen.method == "PUT" and seen.query}
    copied = uploads[digest_of(LAYER)]
    assert (copied.body, copied.query["state"]) == (LAYER, "a")
    assert len(uploads) == 3
    assert server.seen[-1].path == "/v2/team/app/manifests/1"


@pytest.mark.parametrize(
    ("config", "manifest", "platform", "told"),
    [
        (CONFIG, None, "linux/amd64", "platform: linux/amd64 is none of the base's .linux/arm64/v8"),
        (CONFIG, None, "linux/arm64/v7", "platform: linux/arm64/v7 is none of the base's"),
        ({}, None, "linux/amd64", "has no rootfs, so it is an artifact; name an image"),
        ([], None, "linux/amd64", "configuration sha256:.* is no JSON object"),
        ({**CONFIG, "config": {"Env": [1]}}, None, "linux/arm64", "Env of sha256:.* is no list of texts"),
        (CONFIG, [], "linux/amd64", "sha256:.* is no JSON object"),
        (CONFIG, {}, "linux/amd64", "config of sha256:.* is no descriptor"),
        (CONFIG, {"layers": [{"digest": "../x"}]}, "linux/amd64", "a layer of sha256:.* is no descriptor"),
    ],
)
async def test_a_base_that_does_not_fit_is_named(call, ctx, config, manifest, platform, told):
    with base_registry(config, manifest) as server, pytest.raises(SkillError, match=told):
        await build(call, ctx, server, platform=platform, dryRun=True)
