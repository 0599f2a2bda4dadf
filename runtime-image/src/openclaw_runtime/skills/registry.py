"""The skills an agent has: read from folders or from what the operator resolved, loaded and unloaded while it runs."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from openclaw_runtime.config import InstalledSkillConfig, PackageRef, Skills
from openclaw_runtime.sandbox.archive import ArchiveError, verify
from openclaw_runtime.sandbox.memory import memory_of_call
from openclaw_runtime.secrets import SecretFile
from openclaw_runtime.skills.errors import ManifestError, PackageUnavailableError, SkillsError
from openclaw_runtime.skills.folder import is_skill_folder, read_skill
from openclaw_runtime.skills.manifest import mcp_server
from openclaw_runtime.skills.package import folder_files, pack_files
from openclaw_runtime.skills.types import ActionSpec, InstalledSkill, RateLimit, Trigger

logger = logging.getLogger(__name__)


class ConfigMaps(Protocol):
    """Reads ConfigMaps; `sandbox.kube.KubeApi` is one. May raise any `Exception` whose text says why."""

    async def get_config_map(self, namespace: str, name: str) -> dict[str, Any]:
        """Returns a ConfigMap."""
        ...


@dataclass(frozen=True, slots=True)
class Changes:
    """What a load changed, by skill name."""

    loaded: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    unloaded: tuple[str, ...] = ()


class PackageStore:
    """Packages in memory, by digest: what is there was verified and never changes."""

    def __init__(self) -> None:
        self._packages: dict[str, bytes] = {}
        self._loading: dict[str, asyncio.Lock] = {}

    async def get(self, digest: str, load: Callable[[], Awaitable[bytes]]) -> bytes:
        """Returns a package, loading and verifying it the first time. Raises `PackageUnavailableError`."""
        if digest in self._packages:
            return self._packages[digest]
        async with self._loading.setdefault(digest, asyncio.Lock()):
            if digest not in self._packages:
                package = await load()
                try:
                    verify(package, digest)
                except ArchiveError as error:
                    raise PackageUnavailableError(str(error)) from None
                self._packages[digest] = package
        self._loading.pop(digest, None)
        return self._packages[digest]

    def keep_only(self, digests: Iterable[str]) -> None:
        """Forgets every other package."""
        kept = set(digests)
        self._packages = {digest: data for digest, data in self._packages.items() if digest in kept}


class SkillRegistry:
    """Holds the installed skills. `load` may be called again at any time; calls in flight keep what they have."""

    def __init__(
        self, namespace: str, config_maps: ConfigMaps | None = None, secrets: Mapping[str, str] | None = None
    ) -> None:
        self._namespace = namespace
        self._config_maps = config_maps
        self._secrets = dict(secrets or {})
        self._packages = PackageStore()
        self._skills: dict[str, InstalledSkill] = {}
        # Of skills with secrets in files: those files, which may be replaced at any time.
        self._files: dict[str, tuple[InstalledSkillConfig, dict[str, SecretFile]]] = {}

    def installed(self) -> tuple[InstalledSkill, ...]:
        """Returns the skills, by name, with the secrets of this moment."""
        for name in self._files:
            self._refresh(name)
        return tuple(self._skills[name] for name in sorted(self._skills))

    def get(self, name: str) -> InstalledSkill | None:
        """Returns a skill with the secrets of this moment, or None."""
        if name in self._files:
            self._refresh(name)
        return self._skills.get(name)

    def _refresh(self, name: str) -> None:
        item, files = self._files[name]
        secrets = _values(files)
        if secrets != self._skills[name].secrets:
            self._skills[name] = self._resolved(item, secrets)

    async def load(self, config: Skills) -> Changes:
        """Makes the skills those of the configuration, all or nothing.

        Raises `ManifestError` if a folder cannot be used and `ConfigError` if a secret is missing; nothing has changed
        then. A name in `installed` wins over the same name in a folder.
        """
        wanted: dict[str, InstalledSkill] = {}
        for folder in await asyncio.to_thread(_skill_folders, config.directories, config.auto_discover):
            skill = await asyncio.to_thread(read_folder, folder, self._secrets)
            if skill.name in wanted:
                raise ManifestError(str(folder), [f"name: {skill.name} is the name of another skill's folder, too"])
            wanted[skill.name] = skill
        followed = {}
        for item in config.installed:
            files = await asyncio.to_thread(_secret_files, item)
            wanted[item.name] = self._resolved(item, _values(files))
            if files:
                followed[item.name] = (item, files)
        before = self._skills
        self._skills, self._files = wanted, followed
        self._packages.keep_only(skill.digest for skill in wanted.values())
        changes = Changes(
            loaded=tuple(sorted(wanted.keys() - before.keys())),
            replaced=tuple(
                sorted(name for name in wanted.keys() & before.keys() if _differs(wanted[name], before[name]))
            ),
            unloaded=tuple(sorted(before.keys() - wanted.keys())),
        )
        if changes != Changes():
            logger.info("skills changed: %s", changes)
        return changes

    async def preload(self) -> None:
        """Loads the packages now, so that the first call need not; one that fails is tried again by its call."""
        for skill in self.installed():
            try:
                await skill.load_package()
            except SkillsError as error:
                logger.warning("the package of %s is not loaded yet: %s", skill.name, error)

    def _resolved(self, item: InstalledSkillConfig, secrets: dict[str, str]) -> InstalledSkill:
        package = item.package

        async def load_package() -> bytes:
            return await self._packages.get(item.digest, lambda: self._fetch(package)) if package else b""

        return InstalledSkill(
            name=item.name,
            version=item.version,
            description=item.description,
            digest=item.digest,
            runtime=item.runtime,
            entrypoint=item.entrypoint,
            command=tuple(item.command),
            actions=tuple(ActionSpec(**action.model_dump()) for action in item.actions),
            load_package=load_package,
            permissions=frozenset(item.permissions),
            allowed_domains=tuple(item.allowed_domains),
            level=item.level,
            pool=item.pool,
            memory_bytes=memory_of_call(item.memory),
            config=item.config,
            secrets=secrets,
            rate_limit=RateLimit(**item.rate_limit.model_dump()) if item.rate_limit else None,
            triggers=tuple(Trigger(**trigger.model_dump()) for trigger in item.triggers),
            mcp=mcp_server(item.mcp.model_dump(), secrets) if item.mcp else None,
        )

    async def _fetch(self, package: PackageRef) -> bytes:
        where = f"ConfigMap {self._namespace}/{package.config_map}"
        if self._config_maps is None:
            raise PackageUnavailableError(f"{where}: there is no cluster to read it from; use skills.directories")
        try:
            found = await self._config_maps.get_config_map(self._namespace, package.config_map)
        except Exception as error:
            raise PackageUnavailableError(f"{where}: {error}") from error
        text = (found.get("binaryData") or {}).get(package.key)
        if text is None:
            raise PackageUnavailableError(f"{where}: has no binaryData key {package.key}")
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise PackageUnavailableError(f"{where}: key {package.key} is not base64") from None


def _secret_files(item: InstalledSkillConfig) -> dict[str, SecretFile]:
    return {
        name: SecretFile(path, f"skills.installed.{item.name}.secret_files.{name}")
        for name, path in item.secret_files.items()
    }


def _values(files: Mapping[str, SecretFile]) -> dict[str, str]:
    return {name: file.get_secret_value() for name, file in files.items()}


def _differs(new: InstalledSkill, old: InstalledSkill) -> bool:
    return replace(new, load_package=old.load_package) != old


def _skill_folders(directories: Iterable[Path], discover: bool) -> list[Path]:
    """Returns the folders that hold a skill: each directory itself or, with `discover`, those right inside it."""
    found: list[Path] = []
    for directory in directories:
        if is_skill_folder(directory):
            found.append(directory)
        elif directory.is_dir():
            found += [entry for entry in sorted(directory.iterdir()) if discover and is_skill_folder(entry)]
        else:
            raise ManifestError(str(directory), ["not a folder; skills.directories names folders of skills"])
    return found


def read_folder(folder: Path, secrets: Mapping[str, str], config: Mapping[str, Any] | None = None) -> InstalledSkill:
    """Reads and packs a skill's folder. Raises `ManifestError`."""
    try:
        files = tuple(folder_files(folder))
        read = read_skill(files, str(folder))
        package = pack_files(files)
    except (ArchiveError, OSError) as error:
        raise ManifestError(str(folder), [str(error)]) from None
    return read.skill(package.digest, package.data, dict(secrets), dict(config or {}))
