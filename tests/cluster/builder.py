"""Builds the project's images with buildah on a base made by debootstrap; each only when its content changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cluster import images
from tests.cluster.addons import Archive
from tests.cluster.errors import ClusterError
from tests.cluster.host import goarch
from tests.cluster.nodesetup import overlay_works
from tests.cluster.paths import PACKAGE, REPOSITORY, Cache
from tests.cluster.processes import exclusive, run
from tests.cluster.progress import Progress

PIP_CONFIGURATION = Path("/etc/pip.conf")


class Builder:
    """Archives of the project's images, below the cache folder."""

    def __init__(self, cache: Cache, progress: Progress) -> None:
        self.cache = cache
        self.progress = progress
        self.folder = cache.images
        self.logs = cache.root / "logs"

    def build(self, names: list[str]) -> list[Archive]:
        """Bring the archives of these images up to date. Raises ClusterError."""
        unknown = sorted(set(names) - set(images.IMAGES))
        if unknown:
            raise ClusterError(f"no image is named {', '.join(unknown)}; there are {', '.join(images.IMAGES)}")
        with exclusive(self.folder / ".lock"):
            return [self._build(images.IMAGES[name]) for name in names]

    def archives(self, names: list[str]) -> list[Archive]:
        """What was built last, whether or not its inputs changed since."""
        found = []
        for name in names:
            record = self.folder / f"{name}.json"
            if not record.exists():
                raise ClusterError(f"image {name} is not built; fix: python -m tests.cluster build {name}")
            content = json.loads(record.read_text())
            found.append(archive_of(images.IMAGES[name], Path(content["archive"]), content["digest"]))
        return found

    def _build(self, image: images.Image) -> Archive:
        if not (REPOSITORY / image.dockerfile).exists():
            raise ClusterError(f"image {image.name} has no {image.dockerfile}")
        base = self._base_digest()
        digest = images.content_digest(REPOSITORY, image, base)
        archive = self.folder / f"{image.name}-{digest}.tar"
        if not archive.exists():
            self._ensure_base(base)
            log = self.logs / f"build-{image.name}.log"
            log.unlink(missing_ok=True)
            with self.progress.step(f"image {image.name} (log {log})"):
                self._run_build(image, base, archive, log)
        record = {"archive": str(archive), "digest": digest}
        (self.folder / f"{image.name}.json").write_text(json.dumps(record))
        return archive_of(image, archive, digest)

    def _run_build(self, image: images.Image, base: str, archive: Path, log: Path) -> None:
        configuration = PIP_CONFIGURATION.read_text() if PIP_CONFIGURATION.exists() else ""
        arguments = images.build_arguments(os.environ, self._base_name(base))
        mounts = images.volumes(os.environ, PIP_CONFIGURATION, configuration)
        buildah = self._buildah()
        tag = image.tags[0]
        run(images.build_command(buildah, image, REPOSITORY, arguments, mounts, tag), env=self._environment(), log=log)
        fresh = archive.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        run([*buildah, "push", "--quiet", tag, f"docker-archive:{fresh}:{tag}"], env=self._environment(), log=log)
        for old in self.folder.glob(f"{image.name}-*.tar"):
            old.unlink()
        fresh.rename(archive)

    # --- base ---------------------------------------------------------------------------------------------------------
    def _base_digest(self) -> str:
        return images.base_digest(goarch(), (PACKAGE / "images" / "base" / "Dockerfile").read_text())

    @staticmethod
    def _base_name(digest: str) -> str:
        return f"localhost/openclaw-base:{digest}"

    def _ensure_base(self, digest: str) -> None:
        folder = self.folder / f"base-{digest}"
        archive = folder / "rootfs.tar"
        if not archive.exists():
            with self.progress.step("base image: Debian, Python, git (once)"):
                self._debootstrap(folder, archive)
        known = run([*self._buildah(), "images", "--noheading", "--format={{.Name}}:{{.Tag}}"], env=self._environment())
        if self._base_name(digest) not in known.split():
            with self.progress.step("base image into the builder"):
                dockerfile = PACKAGE / "images" / "base" / "Dockerfile"
                run(
                    [
                        *self._buildah(),
                        "build",
                        f"--file={dockerfile}",
                        f"--tag={self._base_name(digest)}",
                        str(folder),
                    ],
                    env=self._environment(),
                    log=self.logs / "build-base.log",
                )

    def _debootstrap(self, folder: Path, archive: Path) -> None:
        root = folder / "rootfs"
        shutil.rmtree(root, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        log = self.logs / "build-base.log"
        include = ",".join(images.BASE_PACKAGES)
        run(
            ["debootstrap", "--variant=minbase", f"--include={include}", images.BASE_SUITE, root, *self._mirror()],
            env=self._environment(),
            log=log,
        )
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / leftover, ignore_errors=True)
        for needed in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log"):
            (root / needed).mkdir(parents=True)
        fresh = archive.with_suffix(".new")
        excludes = ["--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*"]
        run(["tar", "--create", f"--file={fresh}", f"--directory={root}", "--numeric-owner", *excludes, "."], log=log)
        fresh.rename(archive)
        shutil.rmtree(root)

    @staticmethod
    def _mirror() -> list[str]:
        """The archive this host installs from; none where it is not Debian 12, which means debootstrap's default."""
        arguments = ["--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Identifier: Packages"]
        lines = run(["apt-get", "indextargets", *arguments]).splitlines()
        found = [line.split()[2] for line in lines if line.split()[:2] == [images.BASE_SUITE, "main"]]
        return found[:1]

    # --- buildah ------------------------------------------------------------------------------------------------------
    def _buildah(self) -> list[str]:
        store = self.cache.root / "buildah"
        store.mkdir(parents=True, exist_ok=True)
        driver = "overlay" if overlay_works(store) else "vfs"
        return ["buildah", f"--root={store / driver}", f"--runroot={store / 'run'}", f"--storage-driver={driver}"]

    @staticmethod
    def _environment() -> dict[str, str]:
        return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "BUILDAH_ISOLATION": "chroot"}


def archive_of(image: images.Image, path: Path, digest: str) -> Archive:
    name, *aliases = image.tags
    return Archive(name, path, digest, tuple(aliases))


def all_names(exists: Callable[[str], bool]) -> list[str]:
    """Every image whose Dockerfile is there."""
    return [name for name, image in images.IMAGES.items() if exists(image.dockerfile)]
