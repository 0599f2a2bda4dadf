"""What a package from elsewhere says about itself, against what the Skill says.

Permissions are granted in the Skill, by whoever installs it; a package can only ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.errors import SpecError
from openclaw_operator.resources.package import File

MANIFESTS = ("skill.yaml", "config/skill.yaml")
PACKAGE = "package.json"
MAX_BYTES = 256 * 1024
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check(spec: SkillSpec, files: Mapping[str, File]) -> None:
    """Raise SpecError where the package's own skill.yaml is another version, or asks for more than is granted."""
    path = next((path for path in (*MANIFESTS, PACKAGE) if path in files), None)
    if path is None:
        return
    declared = _read(path, files[path].data)
    if PACKAGE in files and path != MANIFESTS[0]:
        # JSON is YAML. What config/skill.yaml says wins over the package.json beside it.
        package = _read(PACKAGE, files[PACKAGE].data)
        claw = package.get("claw")
        own = {} if path == PACKAGE else declared
        declared = {"version": package.get("version"), **(claw if isinstance(claw, dict) else {}), **own}
    version = declared.get("version")
    if version is not None and str(version) != spec.version:
        raise SpecError(
            "PackageMismatch",
            f"spec.version: {spec.version!r}, but {path} of the package says {str(version)[:100]!r}: set spec.version "
            "to it, or name the package of the other version in spec.source",
        )
    _require_granted(path, declared, "permissions", list(spec.permissions))
    _require_granted(path, declared, "allowedDomains", spec.allowed_domains)
    named = {item.get("name") for item in _list(declared, "actions") if isinstance(item, dict)}
    missing = [action.name for action in spec.actions if named and action.name not in named]
    if missing:
        raise SpecError(
            "PackageMismatch",
            f"spec.actions: {path} of the package has no {', '.join(missing)} (it has "
            f"{', '.join(sorted(map(str, named)))[:200]}): remove them, or take what openclaw skill manifest prints",
        )


def _require_granted(path: str, declared: Mapping[str, Any], key: str, granted: list[str]) -> None:
    missing = sorted({str(item) for item in _list(declared, key)} - set(granted))
    if missing:
        raise SpecError(
            "PermissionsNotGranted",
            f"spec.{key}: {path} of the package declares {', '.join(missing)[:300]}, which the Skill does not grant: "
            f"add it to spec.{key} if the skill may have it, or use a package that does not ask for it",
        )


def _list(declared: Mapping[str, Any], key: str) -> list[Any]:
    value = declared.get(key)
    return value if isinstance(value, list) else []


def _read(path: str, data: bytes) -> dict[str, Any]:
    try:
        value = yaml.load(data, Loader=_LOADER) if len(data) <= MAX_BYTES else None  # noqa: S506  (a safe loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SpecError("InvalidSource", f"spec.source: {path} of the package is no YAML mapping: publish it corrected")
    return value
