"""Lists and watch events tell of the same resources at the same time; neither may undo what the other knows better."""

from __future__ import annotations

from openclaw_operator.reconcile.primaries import Primary, PrimaryStore, condense

ADA = ("Agent", "demo", "ada")


def agent(version: int, uid: str = "u1") -> Primary:
    meta = {"name": "ada", "namespace": "demo", "uid": uid, "resourceVersion": str(version), "generation": 1}
    return condense("Agent", {"metadata": meta, "spec": {"team": {"members": []}}})


def test_a_list_from_before_does_not_drop_what_was_made_since() -> None:
    store = PrimaryStore()
    store.put(agent(12))
    assert store.missing("Agent", None, set(), "11") == []
    assert store.missing("Agent", "demo", set(), "12") == [ADA]
    assert store.missing("Agent", "other", set(), "12") == []
    assert store.missing("Skill", None, set(), "12") == []
    assert store.missing("Agent", None, {ADA}, "12") == []


def test_a_list_from_before_does_not_bring_back_what_was_deleted_since() -> None:
    store = PrimaryStore()
    store.put(agent(10))
    assert store.remove(ADA, "12")
    store.put(agent(10))
    assert store.get(ADA) is None
    assert store.agents("demo") == []
    # Made anew it is another one; and once a list is newer, the deletion need not be remembered.
    store.missing("Agent", None, set(), "12")
    store.put(agent(13, "u2"))
    assert store.agents("demo") == ["ada"]


def test_the_one_before_does_not_replace_the_one_made_anew() -> None:
    store = PrimaryStore()
    new = agent(13, "u2")
    store.put(new)
    store.put(agent(10, "u1"))
    assert store.get(ADA) is new
    assert store.remove(ADA, "12") is None
    assert store.get(ADA) is new
    assert store.coordinators("demo") == ["ada"]
