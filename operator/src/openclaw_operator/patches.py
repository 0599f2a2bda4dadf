"""What a patch makes of an object: merge patches, the patch `kubectl apply` sends, and server-side apply. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def merged(old: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`old` after a JSON merge patch: https://www.rfc-editor.org/rfc/rfc7386."""
    result = dict(old)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            result[key] = value
    return result


def three_way(last: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch of `kubectl apply`: everything wanted, and null for what was applied last but is no more.

    https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#merge-patch-calculation
    """
    patch: dict[str, Any] = {key: None for key in last if key not in wanted}
    for key, value in wanted.items():
        before = last.get(key)
        patch[key] = three_way(before if isinstance(before, Mapping) else {}, value) if _is_map(value) else value
    return patch


def applied(live: Mapping[str, Any] | None, body: Mapping[str, Any], manager: str) -> dict[str, Any]:
    """`live` after a forced server-side apply of `body`, without the defaults only the API server knows.

    https://kubernetes.io/docs/reference/using-api/server-side-apply/
    """
    if live is None:
        return dict(body)
    owned: dict[str, Any] = {}
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            owned = entry.get("fieldsV1") or {}
    kept = _without(live, body, owned)
    result: dict[str, Any] = _overlay(kept if _is_map(kept) else {}, body)
    return result


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def _without(live: Any, wanted: Any, owned: Mapping[str, Any]) -> Any:
    """`live` less what the manager owns and no longer wants; None when nothing is left."""
    if isinstance(live, Mapping):
        kept: dict[str, Any] = {}
        for key, value in live.items():
            fields = owned.get(f"f:{key}")
            wish = wanted.get(key) if isinstance(wanted, Mapping) else None
            if fields is None or (wish is not None and not fields):
                kept[key] = value
            elif fields and (rest := _without(value, wish, fields)) is not None:
                kept[key] = rest
        return kept or (None if wanted is None else {})
    if isinstance(live, list) and any(field.startswith("k:") for field in owned):
        items = []
        for item in live:
            match = next((field for field in owned if field.startswith("k:") and _matches(item, field)), None)
            if match is None:
                items.append(item)
                continue
            wish = next((each for each in wanted or () if _matches(each, match)), None)
            if (rest := _without(item, wish, owned[match])) is not None and wish is not None:
                items.append(rest)
        return items or (None if wanted is None else [])
    return live


def _matches(item: Any, field: str) -> bool:
    """Whether a list item is the one that `k:{"name":"x"}` names; a key it leaves out is a default."""
    keys = json.loads(field.removeprefix("k:"))
    return _is_map(item) and all(item.get(key, value) == value for key, value in keys.items())


def _overlay(live: Any, wanted: Any) -> Any:
    if isinstance(wanted, Mapping):
        under = live if isinstance(live, Mapping) else {}
        return {**under, **{key: _overlay(under.get(key), value) for key, value in wanted.items()}}
    if isinstance(wanted, list) and isinstance(live, list) and (key := list_key(wanted)):
        by_key = {item[key]: item for item in live if _is_map(item) and key in item}
        merged_items = [_overlay(by_key.get(item[key]), item) for item in wanted]
        names = {item[key] for item in wanted}
        return merged_items + [item for item in live if _is_map(item) and item.get(key) not in names]
    return wanted


# Keys by which the API server merges lists: https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy
_LIST_KEYS = ("name", "mountPath", "uid")


def list_key(items: list[Any]) -> str | None:
    """The key by which the items of a list are told apart, None for a list that is one value."""
    for key in _LIST_KEYS:
        if items and all(isinstance(item, dict) and key in item for item in items):
            return key
    return None
