from __future__ import annotations

import hashlib
from typing import Any

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live, observe, strip
from openclaw_operator.cluster.store import ChildStore

SERVICE, SECRET, CONFIG_MAP = BY_NAME["Service"], BY_NAME["Secret"], BY_NAME["ConfigMap"]


def item(version: int, **changes: Any) -> dict[str, Any]:
    meta = {
        "name": "ada-gateway",
        "namespace": "demo",
        "uid": "u1",
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "x"}],
        "annotations": {"openclaw.io/applied-hash": "h"},
        "ownerReferences": [{"kind": "Agent", "name": "ada", "uid": "a1", "controller": True}],
    }
    return {"metadata": {**meta, **changes.pop("metadata", {})}, "spec": {"x": 1}, "status": {"y": version}, **changes}


class Told:
    def __init__(self) -> None:
        self.changes: list[tuple[str | None, str | None]] = []
        self.store = ChildStore(self.note)

    def note(self, before: Live | None, after: Live | None) -> None:
        self.changes.append(
            (
                before.resource_version if before else None,
                after.resource_version if after else None,
            )
        )


def test_changes_are_told_and_old_news_is_not() -> None:
    told = Told()
    told.store.changed(SERVICE, item(5))
    told.store.changed(SERVICE, item(5))
    told.store.changed(SERVICE, item(4))
    told.store.changed(SERVICE, item(10, spec={"x": 2}))
    told.store.removed(SERVICE, "demo", "ada-gateway", "11")
    told.store.removed(SERVICE, "demo", "ada-gateway", "11")
    assert told.changes == [(None, "5"), ("5", "10"), ("10", None)]


def test_own_writes_wake_nobody() -> None:
    told = Told()
    told.store.observe(SERVICE, item(5))
    told.store.changed(SERVICE, item(5))
    assert told.changes == []


def test_an_object_made_anew_is_another_one() -> None:
    told = Told()
    told.store.changed(SERVICE, item(5))
    told.store.changed(SERVICE, item(6, metadata={"uid": "u2"}))
    live = told.store.get("Service", "demo", "ada-gateway")
    assert live is not None
    assert live.uid == "u2"


def test_a_list_drops_what_it_does_not_hold() -> None:
    told = Told()
    told.store.changed(SERVICE, item(5))
    told.store.changed(SERVICE, item(6, metadata={"name": "other"}))
    told.store.changed(CONFIG_MAP, item(7))
    told.store.listed(SERVICE, "elsewhere", set(), "8")
    assert told.store.get("Service", "demo", "other")
    told.store.listed(SERVICE, None, {("demo", "other")}, "8")
    assert told.store.get("Service", "demo", "ada-gateway") is None
    assert told.store.get("Service", "demo", "other")
    assert told.store.get("ConfigMap", "demo", "ada-gateway")


def test_children_are_found_by_owner() -> None:
    told = Told()
    told.store.changed(SERVICE, item(5))
    assert [live.name for live in told.store.owned_by("a1")] == ["ada-gateway"]
    orphan = item(6)
    orphan["metadata"]["ownerReferences"] = []
    told.store.changed(SERVICE, orphan)
    assert told.store.owned_by("a1") == []


def test_verified_survives_what_does_not_matter_only() -> None:
    told = Told()
    live = told.store.observe(SERVICE, item(5))
    live.verified, live.content = "h", None
    told.store.changed(SERVICE, item(6))
    same = told.store.get("Service", "demo", "ada-gateway")
    assert same
    assert (same.verified, same.content) == ("h", None)
    told.store.changed(SERVICE, item(7, spec={"x": 2}))
    edited = told.store.get("Service", "demo", "ada-gateway")
    assert edited
    assert edited.verified is None
    assert edited.stripped()["spec"] == {"x": 2}


def test_what_waits_to_be_compared_is_kept_small() -> None:
    """After a start that is every child there is."""
    told = Told()
    ports = [{"name": f"port-{number}", "port": number, "protocol": "TCP"} for number in range(50)]
    told.store.changed(SERVICE, item(5, spec={"ports": ports}))
    live = told.store.get("Service", "demo", "ada-gateway")
    assert live
    assert len(live.content or b"") < len(observe(SERVICE, item(5, spec={"ports": ports})).content or b"") / 2
    assert live.stripped()["spec"] == {"ports": ports}
    live.pack()
    assert live.stripped()["spec"] == {"ports": ports}


def test_values_of_secrets_are_not_kept() -> None:
    secret = item(5, data={"token": "c2VjcmV0", "empty": ""})
    live = observe(SECRET, secret)
    assert live.facts == {"keys": ["token"], "token_sha256": hashlib.sha256(b"secret").hexdigest()}
    assert b"c2VjcmV0" not in (live.content or b"")


def test_packages_are_kept_as_their_hash() -> None:
    stripped = strip("ConfigMap", item(5, binaryData={"package.tar.gz": "A" * 100_000}))
    assert len(str(stripped)) < 1000


def test_children_of_a_namespace_by_kind() -> None:
    told = Told()
    told.store.changed(SERVICE, item(5))
    told.store.changed(SERVICE, item(6, metadata={"name": "bob-gateway", "uid": "u2"}))
    told.store.changed(SERVICE, item(7, metadata={"namespace": "other", "uid": "u3"}))
    told.store.changed(CONFIG_MAP, item(8, metadata={"uid": "u4"}))
    told.store.changed(SERVICE, item(9))
    assert [live.name for live in told.store.of_kind("Service", "demo")] == ["ada-gateway", "bob-gateway"]
    told.store.removed(SERVICE, "demo", "ada-gateway", "10")
    assert [live.name for live in told.store.of_kind("Service", "demo")] == ["bob-gateway"]
    told.store.listed(SERVICE, None, set(), "11")
    assert not [*told.store.of_kind("Service", "demo"), *told.store.of_kind("Service", "other")]
    assert [live.name for live in told.store.of_kind("ConfigMap", "demo")] == ["ada-gateway"]


def test_parts_of_a_status_that_nobody_reads_and_bookkeeping_wake_nobody() -> None:
    told = Told()
    told.store.changed(SERVICE, item(1))
    noted = {"openclaw.io/applied-hash": "h", "deployment.kubernetes.io/revision": "1"}
    told.store.changed(SERVICE, item(2, metadata={"annotations": noted}, status={"loadBalancer": {}}))
    assert told.changes == [(None, "1")]
    told.store.changed(SERVICE, item(3, metadata={"annotations": noted | {"somebody": "else"}}))
    assert told.changes[1:] == [("2", "3")]
    deployment = BY_NAME["Deployment"]
    told.store.changed(deployment, item(4, spec={"replicas": 1}))
    told.store.changed(deployment, item(5, spec={"replicas": 1}, status={"conditions": []}))
    told.store.changed(deployment, item(6, spec={"replicas": 1}, status={"readyReplicas": 1}))
    assert told.changes[2:] == [(None, "4"), ("5", "6")]


def test_the_echo_of_an_apply_under_way_wakes_nobody() -> None:
    told = Told()
    with told.store.applying("Service", "demo", "ada-gateway", "h"):
        told.store.changed(SERVICE, item(1))
        assert told.changes == []
        # Not what is being applied, or gone: that is news.
        told.store.changed(SERVICE, item(2, metadata={"annotations": {"openclaw.io/applied-hash": "other"}}))
        told.store.removed(SERVICE, "demo", "ada-gateway", "3")
        assert told.changes == [("1", "2"), ("2", None)]
    told.store.changed(SERVICE, item(4))
    assert told.changes[2:] == [(None, "4")]
