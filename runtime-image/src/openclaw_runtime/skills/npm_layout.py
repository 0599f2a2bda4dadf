"""The layout of skills published to npm: package.json with a `claw` block, config/skill.yaml, sources, README.md.

It becomes the fields of skill.yaml: config/skill.yaml has the same ones and wins over package.json.
"""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from openclaw_runtime.skills.errors import ManifestError

PACKAGE: Final = "package.json"
CONFIG: Final = "config/skill.yaml"
# What the one action of a skill is called that names none: it exports a function of that name.
DEFAULT_ACTION: Final = "execute"
_RUNTIMES: Final = {".py": "python", ".js": "node", ".mjs": "node", ".cjs": "node", ".ts": "node", ".sh": "bash"}
_KEPT: Final = ("permissions", "allowedDomains")


def is_npm_layout(texts: Mapping[str, bytes]) -> bool:
    """Returns whether a package.json with a `claw` block is there."""
    try:
        return isinstance(json.loads(texts.get(PACKAGE, b"null")).get("claw"), dict)
    except (ValueError, AttributeError, RecursionError):
        return False


def fields(texts: Mapping[str, bytes], config: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the head (name, description, license) and the fields of skill.yaml. Raises `ManifestError`.

    `config` is what config/skill.yaml holds.
    """
    package: dict[str, Any] = json.loads(texts[PACKAGE])
    claw: dict[str, Any] = package["claw"]
    if claw.get("type", "action") != "action":
        raise ManifestError(f"{where}/{PACKAGE}", [f"claw.type: {claw['type']!r} is not allowed; write action"])
    # npm scopes are no part of a skill's name: @me/skill-git becomes skill-git.
    name = str(package.get("name", "")).rpartition("/")[2]
    head = {"name": name, "description": package.get("description"), "license": package.get("license")}
    result: dict[str, Any] = {"version": package.get("version")}
    main = package.get("main")
    if isinstance(main, str):
        result["entrypoint"] = main.removeprefix("./")
        result["runtime"] = _RUNTIMES.get(PurePosixPath(main).suffix, "node")
    result |= {key: claw[key] for key in _KEPT if key in claw}
    result |= config
    schema = claw.get("input_schema")
    default = {"name": DEFAULT_ACTION, "description": package.get("description") or ""}
    actions = result.get("actions") or [default]
    result["actions"] = [
        {"inputSchema": schema, **action} if schema is not None and isinstance(action, dict) else action
        for action in actions
    ]
    if "triggers" not in config and "triggers" in claw:
        only = actions[0].get("name") if len(actions) == 1 and isinstance(actions[0], dict) else None
        result["triggers"] = [_trigger(item, only) for item in claw["triggers"]]
    return {key: value for key, value in head.items() if value is not None}, result


def _trigger(item: Any, only: str | None) -> Any:
    """A trigger as skill.yaml has it: `command` holds the pattern, and the action is the only one there is."""
    if not isinstance(item, dict):
        return item
    trigger = {key: value for key, value in item.items() if key not in ("command", "description")}
    if "command" in item:
        trigger.setdefault("pattern", item["command"])
    if only:
        trigger.setdefault("action", only)
    return trigger
