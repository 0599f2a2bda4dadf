"""docker-builder: Dockerfiles, and images without a daemon."""

from __future__ import annotations

from typing import Any

import assembly
import atomic
import layer
import lintrules
import ociregistry
import projects
import workspace

from openclaw_skill import SkillError

MAX_LEFT_OUT = 100


def dockerfile(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Writes a Dockerfile for a project."""
    folder = _folder(ctx, args)
    made = projects.render(projects.look_at(folder), args.get("port"))
    written = []
    if args.get("write", False):
        places = {folder / "Dockerfile": made.dockerfile, folder / ".dockerignore": made.dockerignore}
        if known := [workspace.show(ctx, place) for place in places if place.exists()]:
            raise SkillError(f"write: {' and '.join(known)} exists already; lint it, or delete it first")
        for place, text in places.items():
            atomic.write_text(place, text)
            written.append(workspace.show(ctx, place))
    return {
        "kind": made.kind,
        "dockerfile": made.dockerfile,
        "dockerignore": made.dockerignore,
        "written": written,
        "assumed": list(made.assumed),
    }


def lint(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Checks a Dockerfile."""
    if ("path" in args) == ("text" in args):
        raise SkillError("path: give exactly one of path and text")
    text = args["text"] if "text" in args else workspace.read_text(ctx, workspace.locate_file(ctx, args["path"]))
    found = lintrules.check(text)
    return {"passed": all(each["severity"] != "error" for each in found), "findings": found}


def build(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Puts a folder of the workspace on a base image and pushes the result."""
    base, target = ociregistry.parse(args["base"], "base"), ociregistry.parse(args["image"], "image")
    if target.tag is None or target.digest:
        raise SkillError(f"image: {args['image']!r} needs a tag and no digest; write {target.repository}:1.2.0")
    dry = args.get("dryRun", False)
    if not dry and ctx.config.get("allowPush") is not True:
        raise SkillError("config.allowPush: it is not true, so nothing is pushed; use dryRun or ask who configures it")
    place = args.get("target", "/app")
    if ".." in place.split("/"):
        raise SkillError(f"target: {place!r} has '..' in it; write the folder it leads to")
    packed = layer.pack(_folder(ctx, args), place)
    ctx.logger.info("packed %d files, %d bytes", packed.files, len(packed.data))
    source = ociregistry.opened(ctx, base)
    origin = assembly.platform_of(source, base, args.get("platform", assembly.PLATFORM))
    made = assembly.extend(source, origin, packed, args)
    if not dry:
        assembly.push(source, ociregistry.opened(ctx, target), target.tag, made)
    return {
        "reference": f"{target.repository}:{target.tag}",
        "digest": made.manifest.digest,
        "baseDigest": origin.digest,
        "files": packed.files,
        "leftOut": [{"path": path, "why": why} for path, why in packed.left_out[:MAX_LEFT_OUT]],
        "leftOutTotal": len(packed.left_out),
        "layerBytes": len(packed.data),
        "pushed": not dry,
    }


def _folder(ctx: Any, args: dict[str, Any]) -> Any:
    place = workspace.locate(ctx, args.get("folder", "."), "folder")
    if not place.is_dir():
        raise SkillError(f"folder: {args.get('folder', '.')!r} is no folder of the workspace; list it first")
    return place
