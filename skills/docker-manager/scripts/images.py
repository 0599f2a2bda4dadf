"""What an image is, and copying one whole."""

from __future__ import annotations

import json
from typing import Any

from ociregistry import INDEXES, Document, Reference, Registry, children

from openclaw_skill import SkillError

_MAX_CONFIG = 4 * 1024 * 1024


def describe(registry: Registry, reference: Reference, platform: str) -> dict[str, Any]:
    """Returns what `inspect` shows. Raises SkillError for a platform the image does not have."""
    top = registry.manifest(reference.version)
    platforms = {_platform(each["platform"]): each["digest"] for each in children(top) if _runs(each)}
    manifest = top
    if top.media_type in INDEXES:
        if platform not in platforms:
            raise SkillError(f"platform: {platform} is none of the image's ({', '.join(platforms) or 'none'})")
        manifest = registry.manifest(platforms[platform])
    config = json.loads(registry.blob(manifest.value["config"]["digest"], _MAX_CONFIG))
    own = _platform(config)
    layers = [{"digest": layer["digest"], "sizeBytes": layer["size"]} for layer in manifest.value["layers"]]
    return {
        "reference": str(reference),
        "digest": top.digest,
        "platforms": list(platforms) or [own],
        "platform": own,
        "sizeBytes": sum(layer["sizeBytes"] for layer in layers),
        "layers": layers,
        "created": config.get("created"),
        "config": _settings(config.get("config") or {}),
    }


def _runs(entry: dict[str, Any]) -> bool:
    """Whether an entry of an index is an image for a machine; builders add attestations beside them."""
    return (entry.get("platform") or {}).get("os", "unknown") != "unknown"


def _platform(value: dict[str, Any]) -> str:
    parts = (value.get("os", ""), value.get("architecture", ""), value.get("variant", ""))
    return "/".join(filter(None, parts))


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of an image. Values of its environment may be secrets somebody built in: only names are told."""
    return {
        "user": config.get("User") or "root",
        "entrypoint": config.get("Entrypoint") or [],
        "command": config.get("Cmd") or [],
        "workingDir": config.get("WorkingDir") or "/",
        "environment": sorted(each.partition("=")[0] for each in config.get("Env") or ()),
        "ports": sorted(config.get("ExposedPorts") or ()),
        "labels": config.get("Labels") or {},
    }


def copy(source: Registry, target: Registry, reference: Reference, tag: str) -> str:
    """Copies an image with all its platforms, and returns its digest."""
    top = source.manifest(reference.version)
    for entry in children(top):
        part = source.manifest(entry["digest"])
        _copy_blobs(target, part, reference.name)
        target.put_manifest(part.digest, part)
    if top.media_type not in INDEXES:
        _copy_blobs(target, top, reference.name)
    target.put_manifest(tag, top)
    return top.digest


def _copy_blobs(target: Registry, manifest: Document, origin: str) -> None:
    for entry in (manifest.value["config"], *manifest.value["layers"]):
        target.mount(entry["digest"], origin)
