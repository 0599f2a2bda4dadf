"""A new image from a base and a layer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from layer import Packed
from ociregistry import (
    INDEXES,
    MANIFESTS,
    Document,
    Reference,
    Registry,
    children,
    descriptors,
    digest_of,
    platform_name,
    runs_on,
)

from openclaw_skill import SkillError

OCI_MANIFEST = MANIFESTS[0]
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PLATFORM = "linux/amd64"


@dataclass(frozen=True)
class Made:
    """What is pushed."""

    manifest: Document
    config: bytes
    layer: bytes


def platform_of(registry: Registry, base: Reference, platform: str) -> Document:
    """Returns the manifest of a base for one platform; `extend` sees what it is for.

    Raises SkillError where there is none.
    """
    top = registry.manifest(base.version)
    if top.media_type not in INDEXES:
        return top
    found = {platform_name(each.get("platform") or {}): each["digest"] for each in children(top)}
    if platform not in found:
        raise SkillError(f"platform: {platform} is none of the base's ({', '.join(sorted(found))})")
    return registry.manifest(found[platform])


def extend(registry: Registry, base: Document, packed: Packed, wish: dict[str, Any]) -> Made:
    """Returns the base with one more layer and the settings wished for. No clock: equal input, equal digest.

    Raises SkillError where the base is no image, or one for another platform.
    """
    config = dict(registry.config(base))
    if not isinstance(config.get("rootfs"), dict) or not isinstance(config["rootfs"].get("diff_ids"), list):
        raise SkillError(f"base: {base.digest} has no rootfs, so it is an artifact; name an image")
    if not runs_on(config, platform := wish.get("platform", PLATFORM)):
        raise SkillError(f"platform: {platform} is none of the base's ({platform_name(config) or 'none'})")
    settings = {**(config.get("config") or {}), "User": wish.get("user", "10001:10001")}
    for name, key in (("entrypoint", "Entrypoint"), ("command", "Cmd"), ("workingDir", "WorkingDir")):
        if name in wish:
            settings[key] = wish[name]
    if "entrypoint" in wish and "command" not in wish:
        # What the base passes to its own program is not for ours.
        settings.pop("Cmd", None)
    own = dict(each.split("=", 1) for each in settings.get("Env") or () if "=" in each)
    settings["Env"] = [f"{name}={value}" for name, value in {**own, **wish.get("environment", {})}.items()]
    settings["Labels"] = {**(settings.get("Labels") or {}), **wish.get("labels", {})}
    config["config"] = settings
    config["rootfs"] = {"type": "layers", "diff_ids": [*config["rootfs"]["diff_ids"], packed.diff_id]}
    step = {"created": config.get("created"), "created_by": f"docker-builder: files at {wish.get('target', '/app')}"}
    config["history"] = [*(config.get("history") or ()), step]
    data = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    layers = [{**each, "mediaType": _oci(each["mediaType"])} for each in descriptors(base)[1]]
    layers.append({"mediaType": OCI_LAYER, "digest": digest_of(packed.data), "size": len(packed.data)})
    made = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest_of(data), "size": len(data)},
        "layers": layers,
        "annotations": {"org.opencontainers.image.base.digest": base.digest},
    }
    text = json.dumps(made, sort_keys=True, separators=(",", ":")).encode()
    return Made(Document(digest_of(text), OCI_MANIFEST, text), data, packed.data)


def _oci(media_type: str) -> str:
    return OCI_LAYER if media_type == "application/vnd.docker.image.rootfs.diff.tar.gzip" else media_type


def push(source: Registry, target: Registry, tag: str, made: Made) -> None:
    """Pushes an image; the base's layers come from `source`."""
    for each in made.manifest.value["layers"][:-1]:
        target.take(each["digest"], source)
    target.put_blob(made.layer)
    target.put_blob(made.config)
    target.put_manifest(tag, made.manifest)
