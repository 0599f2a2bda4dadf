"""Which fields differ between two objects, by their paths. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from openclaw_operator.cluster.live import APPLIED_HASH, strip
from openclaw_operator.patches import list_key

Object = dict[str, Any]
_SHOWN = 120


@dataclass(frozen=True)
class FieldChange:
    """One field: its path, and its value before and after; None stands for absent."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.path}: set to {shown(self.after)}"
        if self.after is None:
            return f"{self.path}: removed, was {shown(self.before)}"
        return f"{self.path}: {shown(self.before)} → {shown(self.after)}"


def differences(kind: str, before: Object, after: Object) -> list[FieldChange]:
    """The fields a user would call different: no status, no bookkeeping, of Secrets only the keys."""
    return list(_walk("", _essence(kind, before), _essence(kind, after)))


def shown(value: Any) -> str:
    """A value on one line, its middle left out where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    half = _SHOWN // 2
    return text if len(text) <= _SHOWN else f"{text[:half]} … {text[-half:]}"


def _essence(kind: str, item: Object) -> Object:
    result = strip(kind, item)
    meta = {key: value for key, value in result["metadata"].items() if key != "uid"}
    annotations = {key: value for key, value in (meta.pop("annotations", None) or {}).items() if key != APPLIED_HASH}
    return {**result, "metadata": {**meta, **({"annotations": annotations} if annotations else {})}}


def _walk(path: str, before: Any, after: Any) -> list[FieldChange]:
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        return [change for key in keys for change in _walk(_join(path, key), before.get(key), after.get(key))]
    if isinstance(before, list) and isinstance(after, list):
        return _walk_list(path, before, after)
    if isinstance(before, str) and isinstance(after, str):
        inner = _parsed(before), _parsed(after)
        if all(isinstance(each, dict) for each in inner):
            return _walk(path, *inner)
    return [FieldChange(path, before, after)]


def _walk_list(path: str, before: list[Any], after: list[Any]) -> list[FieldChange]:
    key = list_key(before + after)
    if key is None:
        return [FieldChange(path, before, after)]
    old, new = ({item[key]: item for item in items} for items in (before, after))
    names = [*old, *(name for name in new if name not in old)]
    return [change for name in names for change in _walk(f"{path}[{name}]", old.get(name), new.get(name))]


def _join(path: str, key: str) -> str:
    if not key.replace("_", "").replace("-", "").isalnum():
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def _parsed(text: str) -> Any:
    """The configuration of a gateway is JSON inside a ConfigMap."""
    try:
        return json.loads(text)
    except ValueError:
        return None
