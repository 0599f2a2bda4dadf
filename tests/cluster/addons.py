"""What runs inside the cluster from the start, and the images it is made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import gotools, node
from tests.cluster.errors import ClusterError
from tests.cluster.images import REGISTRY
from tests.cluster.paths import PACKAGE, Cache, ClusterPaths
from tests.cluster.processes import poll, run
from tests.cluster.scratch_image import ScratchImage

MANIFESTS = ("network-policy", "coredns", "storage", "metrics-server")
ESSENTIAL = ("coredns", "local-path-provisioner")
"""Deployments a cluster is not Ready without. metrics-server needs two scrapes, 15 s apart, and is not waited for."""


@dataclass(frozen=True)
class Archive:
    """A docker-archive on disk; `digest` names its content."""

    name: str
    path: Path
    digest: str
    aliases: tuple[str, ...] = ()


def system_images(cache: Cache) -> list[Archive]:
    """The archives of the system images, written when their programs changed."""
    busybox = (
        "sh",
        "mkdir",
        "rm",
        "ls",
        "cat",
        "sleep",
        "wget",
        "nslookup",
        "nc",
        "httpd",
        "id",
        "echo",
        "touch",
        "dd",
    )
    built = {
        "coredns": ("kubernetes", "coredns"),
        "metrics-server": ("metrics-server", "metrics-server"),
        "local-path-provisioner": ("local-path-provisioner", "local-path-provisioner"),
    }
    images = [
        ScratchImage(node.PAUSE_IMAGE, {"/bin/catatonit": program("catatonit")}, ["/bin/catatonit", "-P"], {}),
        ScratchImage(
            f"{REGISTRY}/busybox:test",
            {"/bin/busybox": program("busybox")},
            ["/bin/sh"],
            {f"/bin/{applet}": "busybox" for applet in busybox},
        ),
    ]
    for name, (module, binary) in built.items():
        path = gotools.tool(cache, module, binary)
        images.append(ScratchImage(f"{REGISTRY}/{name}:test", {f"/bin/{binary}": path}, [f"/bin/{binary}"], {}))
    archives = []
    for image in images:
        digest = image.digest
        archive = cache.images / "system" / f"{image.name.partition('/')[2].partition(':')[0]}-{digest}.tar"
        if not archive.exists():
            image.write(archive)
        archives.append(Archive(image.name, archive, digest))
    return archives


def program(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise ClusterError(f"{name} is not installed; fix: python -m tests.cluster deps")
    return Path(found).resolve()


class ImageStore:
    """The images of a node's containerd. Remembers what was imported, so that it is done once."""

    def __init__(self, paths: ClusterPaths, enter: Callable[..., list[str]]) -> None:
        self.memory = paths.data / "images.json"
        self.enter = enter

    def imported(self) -> dict[str, str]:
        try:
            content: dict[str, str] = json.loads(self.memory.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content

    def load(self, archives: Sequence[Archive]) -> list[str]:
        """Import what is new; returns the names imported."""
        done = self.imported()
        fresh = [each for each in archives if done.get(each.name) != each.digest]
        for each in fresh:
            images = [*self.enter("mount", "net"), "ctr", "--namespace", "k8s.io", "images"]
            run([*images, "import", str(each.path)])
            for alias in each.aliases:
                run([*images, "tag", "--force", each.name, alias])
            done[each.name] = each.digest
            self.memory.write_text(json.dumps(done))
        return [each.name for each in fresh]

    @contextmanager
    def importing(self, archives: Sequence[Archive], containerd_up: Callable[[], bool]) -> Iterator[Future[list[str]]]:
        """Import in the background as soon as containerd answers, while the control plane comes up."""

        def work() -> list[str]:
            if not poll(containerd_up, seconds=60):
                raise ClusterError("containerd did not come up")
            return self.load(archives)

        with ThreadPoolExecutor(1) as pool:
            yield pool.submit(work)


def manifests(paths: ClusterPaths) -> str:
    text = "\n---\n".join((PACKAGE / "manifests" / f"{name}.yaml").read_text() for name in MANIFESTS)
    return text.replace("@VOLUMES@", str(paths.data / "volumes"))


def apply(kubectl: Path, paths: ClusterPaths) -> None:
    run(
        [str(kubectl), f"--kubeconfig={paths.kubeconfig}", "apply", "--server-side", "--force-conflicts", "-f", "-"],
        stdin=manifests(paths),
    )
