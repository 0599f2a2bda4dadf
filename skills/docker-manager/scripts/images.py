"""What an image is, and copying one whole."""

from __future__ import annotations

from typing import Any

from ociregistry import INDEXES, Reference, Registry, children, descriptors, platform_name, runs_on

from openclaw_skill import SkillError

PLATFORM = "linux/amd64"


def describe(registry: Registry, reference: Reference, platform: str | None) -> dict[str, Any]:
    """Returns what `inspect` shows: of a platform, or else of the usual one, or the only one there is.

    Raises SkillError for a platform the image does not have.
    """
    top = registry.manifest(reference.version)
    platforms = {platform_name(each["platform"]): each["digest"] for each in children(top) if _runs(each)}
    manifest = top
    if top.media_type in INDEXES:
        wanted = platform or PLATFORM
        if wanted not in platforms:
            raise SkillError(f"platform: {wanted} is none of the image's ({', '.join(platforms) or 'none'})")
        manifest = registry.manifest(platforms[wanted])
    config = registry.config(manifest)
    own = platform_name(config)
    if platform and not runs_on(config, platform):
        raise SkillError(f"platform: {platform} is none of the image's ({own or 'none'})")
    layers = [{"digest": layer["digest"], "sizeBytes": layer["size"]} for layer in descriptors(manifest)[1]]
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
    parts = [source.manifest(entry["digest"]) for entry in children(top)]
    for manifest in parts if top.media_type in INDEXES else [top]:
        config, layers = descriptors(manifest)
        for entry in (config, *layers):
            target.take(entry["digest"], source)
    for part in parts:
        target.put_manifest(part.digest, part)
    target.put_manifest(tag, top)
    return top.digest
