"""Images: what decides about a build, what a build is told, and archives written without a builder."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.cluster import cli, images, kind
from tests.cluster.addons import Archive, ImageStore
from tests.cluster.errors import ClusterError, PreflightError
from tests.cluster.paths import REPOSITORY, Cache, ClusterPaths
from tests.cluster.progress import Progress
from tests.cluster.qdrant_front.errors import BadRequestError
from tests.cluster.qdrant_front.multipart import file_of
from tests.cluster.scratch_image import ScratchImage

IMAGE = images.Image("demo", "demo/Dockerfile", ("demo",), "stage", ("other",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "demo" / "src").mkdir(parents=True)
    (tmp_path / "demo" / "Dockerfile").write_text("FROM scratch")
    (tmp_path / "demo" / "src" / "main.py").write_text("print()")
    return tmp_path


def digest(tree: Path) -> str:
    return images.content_digest(tree, IMAGE, "base")


def test_an_image_is_built_anew_when_an_input_changes(tree: Path) -> None:
    before = digest(tree)
    assert digest(tree) == before
    (tree / "demo" / "src" / "main.py").write_text("print(1)")
    changed = digest(tree)
    assert changed != before
    (tree / "demo" / "src" / "main.py").chmod(0o755)
    assert digest(tree) != changed
    assert images.content_digest(tree, IMAGE, "another base") != digest(tree)


def test_caches_are_no_input(tree: Path) -> None:
    before = digest(tree)
    (tree / "demo" / "src" / "__pycache__").mkdir()
    (tree / "demo" / "src" / "__pycache__" / "main.pyc").write_text("x")
    assert digest(tree) == before


def test_every_image_has_its_inputs() -> None:
    for image in images.IMAGES.values():
        for each in (image.dockerfile, *image.inputs):
            assert (REPOSITORY / each).exists(), f"{image.name}: {each}"


def test_no_local_image_has_a_public_name() -> None:
    assert all(tag.startswith("openclaw.local/") for image in images.IMAGES.values() for tag in image.tags)


def test_a_build_gets_the_settings_of_the_host(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    configuration = tmp_path / "pip.conf"
    configuration.touch()
    environment = {"PIP_CERT": str(bundle), "PIP_DEFAULT_TIMEOUT": "9", "HOME": "/x", "PIP_FIND_LINKS": str(tmp_path)}
    arguments = images.build_arguments(environment, "base:1")
    assert arguments == {"BASE": "base:1", "PIP_DEFAULT_TIMEOUT": "9", "PIP_CERT": images.CA_BUNDLE}
    assert images.volumes(environment, configuration, "[global]\nfind-links = /absent\n") == [
        f"{tmp_path}:{tmp_path}:ro",
        f"{bundle}:{images.CA_BUNDLE}:ro",
        f"{configuration}:/etc/pip.conf:ro",
    ]


def test_without_settings_nothing_is_passed_on(tmp_path: Path) -> None:
    assert images.build_arguments({}, "b") == {"BASE": "b"}
    assert images.volumes({}, tmp_path / "absent", "") == []


def test_the_command_of_a_build(tree: Path) -> None:
    command = images.build_command(["buildah"], IMAGE, tree, {"BASE": "b"}, ["/x:/y:ro"], "t")
    assert command[:2] == ["buildah", "build"]
    assert {"--isolation=chroot", "--build-arg=BASE=b", "--volume=/x:/y:ro", "--target=stage"} <= set(command)
    assert command[-3:] == [f"--file={tree / 'demo/Dockerfile'}", "--tag=t", str(tree)]


def test_an_unknown_image_is_refused_by_name() -> None:
    with pytest.raises(ClusterError, match="no image is named nonsense; fix: all, or of operator"):
        cli.image_names(["operator", "nonsense"])
    assert cli.image_names(["redis"]) == ["redis"]
    assert set(cli.image_names([])) == set(cli.image_names(["all"])) == set(images.IMAGES)


def test_a_scratch_image_is_the_same_every_time(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"binary")
    image = ScratchImage("openclaw.local/x:test", {"/bin/program": program}, ["/bin/program"], {"/bin/sh": "program"})
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    image.write(first)
    image.write(second)
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert manifest[0]["RepoTags"] == ["openclaw.local/x:test"]
        with tarfile.open(fileobj=archive.extractfile("layer.tar")) as layer:
            assert layer.getmember("bin/program").mode == 0o755
            assert layer.getmember("bin/sh").linkname == "program"
    before = image.digest
    program.write_bytes(b"other")
    assert image.digest != before


def test_images_are_imported_once(tmp_path: Path) -> None:
    paths = ClusterPaths(tmp_path)
    paths.data.mkdir()
    log = tmp_path / "log"
    store = ImageStore(paths, lambda *_: ["sh", "-c", f'echo "$@" >> {log}', "sh"])
    archive = Archive("name:test", tmp_path / "x.tar", "1", ("alias:test",))
    assert store.load([archive]) == ["name:test"]
    assert store.load([archive]) == []
    assert store.load([Archive("name:test", tmp_path / "x.tar", "2")]) == ["name:test"]
    lines = log.read_text().splitlines()
    assert [line.split("images ")[1] for line in lines] == [
        f"import {tmp_path}/x.tar",
        "tag --force name:test alias:test",
        f"import {tmp_path}/x.tar",
    ]


# --- kind -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wanted", "answering", "expected"),
    [
        ("auto", {"docker", "podman"}, "docker"),
        ("", {"podman"}, "podman"),
        ("auto", set(), None),
        ("local", {"docker"}, None),
        ("kind", {"podman"}, "podman"),
    ],
)
def test_which_cluster_is_chosen(wanted: str, answering: set[str], expected: str | None) -> None:
    assert kind.choose(wanted, lambda engine: engine in answering) == expected


@pytest.mark.parametrize(
    ("wanted", "message"), [("minikube", "CLUSTER=minikube"), ("kind", "neither docker nor podman")]
)
def test_a_cluster_that_cannot_be_is_one_clear_line(wanted: str, message: str) -> None:
    with pytest.raises(PreflightError, match=message) as caught:
        kind.choose(wanted, lambda _: False)
    assert caught.value.exit_code == 2
    assert "; fix: " in str(caught.value)


class Recorder:
    """Answers commands with what a test prepared, and remembers them."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str]) -> str:
        self.commands.append(command)
        return next((answer for word, answer in self.answers.items() if word in command), "")


def cluster(tmp_path: Path, recorder: Recorder) -> kind.KindCluster:
    return kind.KindCluster(Cache(tmp_path), "default", Progress(), "docker", recorder)


def test_kind_is_asked_for_its_clusters(tmp_path: Path) -> None:
    assert cluster(tmp_path, Recorder(clusters="openclaw\nother\n")).running()
    assert not cluster(tmp_path, Recorder(clusters="other\n")).running()


def test_kind_builds_and_loads_every_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    recorder = Recorder()
    own = cluster(tmp_path, recorder)
    own.load(own.build(["runtime", "testkit"]))
    runtime, testkit, load = recorder.commands
    assert runtime[:2] == ["docker", "build"]
    assert {"--target=gateway", "--tag=openclaw.local/runtime:test"} <= set(runtime)
    assert "--build-arg=PIP_INDEX_URL=https://index.example/simple" in runtime
    assert not [argument for argument in runtime if "BASE=" in argument]
    assert "--tag=openclaw.local/qdrant-front:test" in testkit
    assert load[1:5] == ["load", "docker-image", "--name", "openclaw"]
    assert load[5:] == [f"openclaw.local/{name}:test" for name in ("runtime", "testkit", "qdrant-front")]


def test_kind_restarts_and_goes(tmp_path: Path) -> None:
    recorder = Recorder()
    cluster(tmp_path, recorder).down()
    assert recorder.commands[0][1:] == ["delete", "cluster", "--name", "openclaw"]


def test_kind_takes_no_port(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="apiServerPort"):
        cluster(tmp_path, Recorder()).up(port=1)


def test_kinds_kubelets_sign_for_themselves() -> None:
    text = kind.metrics_manifest()
    assert "--kubelet-insecure-tls" in text
    assert "--kubelet-certificate-authority" not in text


# --- multipart --------------------------------------------------------------------------------------------------------
def test_a_file_is_found_among_parts() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="snapshot"; filename="f"\r\n\r\n\r\nbytes\r\n--x\r\n'
        b"\r\n--b--\r\n"
    )
    assert file_of("multipart/form-data; boundary=b", body, "snapshot") == b"\r\nbytes\r\n--x\r\n"


@pytest.mark.parametrize(
    ("kind_of_body", "message"), [("text/plain", "expected multipart"), ("multipart/form-data; boundary=b", "no part")]
)
def test_a_body_without_the_file_is_refused(kind_of_body: str, message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        file_of(kind_of_body, b"--b--\r\n", "snapshot")
