import gzip
import io
import json
import tarfile

import pytest

from openclaw_skill import SkillError

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


def test_equal_files_give_equal_layers(skill, tmp_path):
    for name in ("a", "b"):
        lay_out(tmp_path / name, {"run.sh": "x", "lib/y.py": "z", ".git/config": "secret"})
        (tmp_path / name / "run.sh").chmod(0o700)
        (tmp_path / name / "link").symlink_to("/etc/passwd")
    first, second = (skill.layer.pack(tmp_path / name, "/app/") for name in ("a", "b"))
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(first.data))) as tar:
        entries = {entry.name: (oct(entry.mode), entry.uid, entry.mtime) for entry in tar}
    assert entries == {
        "app": ("0o755", 0, 0),
        "app/lib": ("0o755", 0, 0),
        "app/lib/y.py": ("0o644", 0, 0),
        "app/run.sh": ("0o755", 0, 0),
    }


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
    ],
)
async def test_what_cannot_be_built_is_named(call, ctx, given, told):
    (ctx.workspace / "x").write_text("x")
    with pytest.raises(SkillError, match=told):
        await call("build", **given)


def test_settings_of_the_base_are_kept_unless_changed(skill):
    config = {"os": "linux", "config": {"Env": ["A=1", "B=2"], "Cmd": ["bash"]}, "rootfs": {"diff_ids": ["sha256:0"]}}

    class Base:
        def blob(self, _digest, _limit):
            return json.dumps(config).encode()

    docker_layer = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}
    manifest = {"config": {"digest": "x"}, "layers": [docker_layer]}
    base = skill.ociregistry.Document("sha256:b", "", json.dumps(manifest).encode())
    packed = skill.layer.Packed(b"", "sha256:1", 1)
    wish = {"entrypoint": ["/app/x"], "environment": {"B": "3"}, "labels": {"l": "v"}}
    made = skill.assembly.extend(Base(), base, packed, wish)
    assert made == skill.assembly.extend(Base(), base, packed, wish)
    settings = json.loads(made.config)["config"]
    assert settings == {"Env": ["A=1", "B=3"], "Entrypoint": ["/app/x"], "User": "10001:10001", "Labels": {"l": "v"}}
    layers = made.manifest.value["layers"]
    assert [each["mediaType"] for each in layers] == ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2
