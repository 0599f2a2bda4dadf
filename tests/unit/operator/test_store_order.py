"""Answers and watch events arrive in any order; what the store holds must not depend on it."""

from __future__ import annotations

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live
from openclaw_operator.cluster.store import ChildStore

KIND = BY_NAME["ConfigMap"]


def item(version: str, uid: str = "u1", name: str = "a") -> dict[str, object]:
    return {
        "metadata": {
            "name": name,
            "namespace": "demo",
            "uid": uid,
            "resourceVersion": version,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "data": {"version": version},
    }


def store() -> tuple[ChildStore, list[tuple[Live | None, Live | None]]]:
    changes: list[tuple[Live | None, Live | None]] = []
    return ChildStore(lambda before, after: changes.append((before, after))), changes


def held(children: ChildStore) -> str | None:
    live = children.get("ConfigMap", "demo", "a")
    return live.resource_version if live else None


def test_an_answer_that_comes_after_the_deletion_does_not_bring_the_object_back() -> None:
    children, changes = store()
    children.changed(KIND, item("10"))
    children.removed(KIND, "demo", "a", "12")
    children.observe(KIND, item("11"))
    assert held(children) is None
    assert changes[-1][1] is None


def test_an_answer_that_is_newer_than_the_watch_is_kept() -> None:
    children, _ = store()
    children.changed(KIND, item("10"))
    children.removed(KIND, "demo", "a", "12")
    children.observe(KIND, item("13", uid="u2"))
    assert held(children) == "13"


def test_a_late_deletion_of_the_one_before_leaves_the_new_object() -> None:
    children, _ = store()
    children.changed(KIND, item("10"))
    children.observe(KIND, item("13", uid="u2"))
    children.removed(KIND, "demo", "a", "12")
    assert held(children) == "13"


def test_a_list_does_not_drop_what_was_made_since() -> None:
    children, _ = store()
    children.observe(KIND, item("13"))
    children.listed(KIND, None, set(), "12")
    assert held(children) == "13"
    children.listed(KIND, None, set(), "14")
    assert held(children) is None


def test_an_old_object_does_not_replace_a_newer_one_of_the_same_name() -> None:
    children, _ = store()
    children.observe(KIND, item("13", uid="u2"))
    children.changed(KIND, item("10", uid="u1"))
    assert held(children) == "13"
