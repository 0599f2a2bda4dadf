"""docker-manager: images of a registry."""

from __future__ import annotations

from typing import Any

import images
import ociregistry

from openclaw_skill import SkillError

SETTINGS = ("user", "entrypoint", "command", "workingDir", "environment", "ports", "labels")


def tags(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Lists the tags of an image."""
    reference = ociregistry.parse(args["image"], "image")
    found, more = ociregistry.opened(ctx, reference).tags(args.get("limit", 200))
    return {"repository": reference.repository, "tags": found, "more": more}


def inspect(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Tells what an image is."""
    reference = ociregistry.parse(args["image"], "image")
    return images.describe(ociregistry.opened(ctx, reference), reference, args.get("platform"))


def compare(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Says what differs between two images."""
    before, after = (inspect(ctx, {**args, "image": args[side]}) for side in ("before", "after"))
    known = {layer["digest"] for layer in before["layers"]}
    shared = [layer for layer in after["layers"] if layer["digest"] in known]
    changes = [
        {"setting": name, "before": before["config"][name], "after": after["config"][name]}
        for name in SETTINGS
        if before["config"][name] != after["config"][name]
    ]
    return {
        "same": before["digest"] == after["digest"],
        "sharedLayers": len(shared),
        "sharedBytes": sum(layer["sizeBytes"] for layer in shared),
        "addedBytes": after["sizeBytes"] - before["sizeBytes"],
        "changes": changes,
    }


def copy(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Gives an image another tag or repository of the same registry."""
    source, target = ociregistry.parse(args["from"], "from"), ociregistry.parse(args["to"], "to")
    if source.host != target.host:
        raise SkillError(f"to: {target.host} is another registry than {source.host}; copy within one")
    if target.tag is None or target.digest:
        raise SkillError(f"to: {args['to']!r} needs a tag and no digest; write {target.repository}:1.2.0")
    _allow(ctx)
    digest = images.copy(ociregistry.opened(ctx, source), ociregistry.opened(ctx, target), source, target.tag)
    return {"digest": digest, "reference": f"{target.repository}:{target.tag}"}


def delete(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Deletes an image by its digest."""
    reference = ociregistry.parse(args["image"], "image")
    if reference.digest is None:
        raise SkillError(f"image: {args['image']!r} has no digest; inspect tells it")
    _allow(ctx)
    ociregistry.opened(ctx, reference).delete(reference.digest)
    return {"deleted": str(reference)}


def _allow(ctx: Any) -> None:
    if ctx.config.get("allowWrites") is not True:
        raise SkillError("config.allowWrites: it is not true, so nothing is changed; ask who configures the agent")
