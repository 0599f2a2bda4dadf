"""A skill's folder: `SKILL.md` (front matter of the open Agent Skills format), `skill.yaml`, or npm's layout."""

import ast
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from openclaw_runtime.sandbox.archive import PackageFile
from openclaw_runtime.sandbox.memory import memory_of_call
from openclaw_runtime.skills import npm_layout
from openclaw_runtime.skills.errors import ManifestError
from openclaw_runtime.skills.manifest import FrontMatter, SkillManifest, mcp_server, problems, semantic
from openclaw_runtime.skills.types import ActionSpec, InstalledSkill, RateLimit, Trigger

# Of a folder whose SKILL.md names no version under metadata.
_NO_VERSION = "0.0.0"
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


class SkillFolder(BaseModel):
    """A skill as read from its files: head, manifest, instructions (the body of SKILL.md) and all packed files."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    head: FrontMatter
    manifest: SkillManifest
    instructions: str
    files: tuple[PackageFile, ...]

    @property
    def description(self) -> str:
        """The description, of the manifest if it has one."""
        return self.manifest.description or self.head.description

    def skill(self, digest: str, package: bytes, secrets: dict[str, str], config: dict[str, Any]) -> InstalledSkill:
        """Returns the skill as the registry holds it, for a package packed from these files."""
        manifest = self.manifest

        async def load_package() -> bytes:
            return package

        return InstalledSkill(
            name=self.head.name,
            version=manifest.version,
            description=self.description,
            digest=digest,
            runtime=manifest.runtime,
            entrypoint=manifest.main_file or "",
            command=manifest.command,
            actions=tuple(ActionSpec(**action.model_dump()) for action in manifest.actions),
            load_package=load_package,
            permissions=frozenset(manifest.permissions),
            allowed_domains=manifest.allowed_domains,
            level=manifest.sandbox.level,
            memory_bytes=memory_of_call(manifest.memory_limit),
            config=config,
            secrets={item.name: secrets[item.name] for item in manifest.secrets if item.name in secrets},
            rate_limit=RateLimit(**manifest.rate_limit.model_dump()) if manifest.rate_limit else None,
            triggers=tuple(Trigger(**trigger.model_dump()) for trigger in manifest.triggers),
            mcp=mcp_server(manifest.mcp.model_dump(), secrets) if manifest.mcp else None,
        )

    def resource(self, reference: str | None = None, *, plain_http: bool = False) -> dict[str, Any]:
        """Returns the Skill resource: with the files inline, or with the pinned `reference` of a published artifact.

        Raises `ManifestError` for an inline file that is not text.
        """
        source: dict[str, Any] = {"oci": {"reference": reference, **({"plainHTTP": True} if plain_http else {})}}
        if reference is None:
            source = {"inline": {"files": self._texts()}}
        spec = self.manifest.model_dump(by_alias=True, exclude_unset=True, mode="json")
        spec["description"] = self.description
        ordered = {key: spec.pop(key) for key in ("version", "description") if key in spec}
        spec = ordered | spec | {"source": source}
        return {
            "apiVersion": "openclaw.io/v1alpha1",
            "kind": "Skill",
            "metadata": {"name": self.head.name},
            "spec": spec,
        }

    def _texts(self) -> dict[str, str]:
        texts: dict[str, str] = {}
        for file in self.files:
            try:
                texts[file.path] = file.data.decode()
            except UnicodeDecodeError:
                raise ManifestError(
                    file.path, ["not text; a skill with such files is published to a registry"]
                ) from None
        return texts


def read_skill(files: tuple[PackageFile, ...], source: str) -> SkillFolder:
    """Reads a skill from its files. Raises `ManifestError` with everything that is wrong; `source` is named in it.

    Three layouts: SKILL.md with skill.yaml, SKILL.md alone (the open Agent Skills format: instructions, no actions),
    and package.json with a `claw` block.
    """
    texts = {file.path: file.data for file in files}
    if "SKILL.md" not in texts and npm_layout.is_npm_layout(texts):
        config = _yaml(texts[npm_layout.CONFIG], f"{source}/{npm_layout.CONFIG}") if npm_layout.CONFIG in texts else {}
        facts, data = npm_layout.fields(texts, config, source)
        where = f"{source}/{npm_layout.PACKAGE}"
        head, body = _head(facts, where), texts.get("README.md", b"").decode(errors="replace").strip()
        manifest = _manifest(data, where)
    else:
        head, body = _front_matter(texts, source)
        if "skill.yaml" in texts:
            where = f"{source}/skill.yaml"
            manifest = _manifest(_yaml(texts["skill.yaml"], where), where)
        else:
            version = head.metadata.get("version", _NO_VERSION)
            manifest = SkillManifest.model_construct(version=_manifest_version(version, source), actions=())
            # A skill.yaml has to name actions; without one there are none.
            return SkillFolder.model_construct(head=head, manifest=manifest, instructions=body, files=files)
    main = manifest.main_file
    if manifest.mcp is None and main is not None:
        if main not in texts:
            raise ManifestError(where, [f"entrypoint: {main} is not in the folder"])
        if main.endswith(".py") and manifest.runtime == "python":
            try:
                ast.parse(texts[main], filename=main)
            except (SyntaxError, ValueError, RecursionError) as error:
                raise ManifestError(f"{source}/{main}", [f"not Python: {error}"]) from None
    return SkillFolder(head=head, manifest=manifest, instructions=body, files=files)


def _manifest(data: dict[str, Any], where: str) -> SkillManifest:
    try:
        return SkillManifest.model_validate(data)
    except ValidationError as error:
        raise ManifestError(where, problems(error, SkillManifest)) from None


def _manifest_version(version: object, source: str) -> str:
    try:
        return semantic(str(version))
    except ValueError as error:
        raise ManifestError(f"{source}/SKILL.md", [f"metadata.version: {error}"]) from None


def _head(data: dict[str, Any], where: str) -> FrontMatter:
    try:
        return FrontMatter.model_validate(data)
    except ValidationError as error:
        raise ManifestError(where, problems(error, FrontMatter)) from None


def instructions(text: bytes) -> str:
    """Returns the body of a SKILL.md, without its front matter."""
    decoded = text.decode(errors="replace")
    match = _FRONT_MATTER.match(decoded)
    return decoded[match.end() if match else 0 :].strip()


def _front_matter(texts: dict[str, bytes], source: str) -> tuple[FrontMatter, str]:
    if "SKILL.md" not in texts:
        raise ManifestError(source, ["SKILL.md: missing; it starts with a front matter of name and description"])
    where = f"{source}/SKILL.md"
    text = texts["SKILL.md"].decode(errors="replace")
    match = _FRONT_MATTER.match(text)
    if match is None:
        raise ManifestError(where, ["no front matter; start the file with ---, name, description and ---"])
    return _head(_yaml(match[1].encode(), where), where), text[match.end() :].strip()


def _yaml(data: bytes, where: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ManifestError(where, [f"{place}not valid YAML: {reason}"]) from None
    if not isinstance(value, dict):
        raise ManifestError(where, ["must be a mapping of fields, like version: 1.0.0"])
    return value


def is_skill_folder(folder: Path) -> bool:
    """Returns whether a folder holds a skill."""
    if (folder / "SKILL.md").is_file():
        return True
    package = folder / npm_layout.PACKAGE
    return package.is_file() and npm_layout.is_npm_layout({npm_layout.PACKAGE: package.read_bytes()})
