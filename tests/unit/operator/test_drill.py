"""What a restore drill proves, as the status tells it; and that its pod reaches nothing of the store."""

from __future__ import annotations

import json
from typing import Any

import yaml

from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.reconcile.memorystore import MemoryStoreReconciler
from openclaw_operator.reconcile.primaries import condense
from openclaw_operator.resources import drill
from tests.unit.operator.builders import IMAGES, owner
from tests.unit.operator.fake_api import Bench

SPEC: dict[str, Any] = {
    "vector": {"qdrant": {"external": {"url": "http://qdrant:6333"}}},
    "records": {"postgresql": {"external": {"url": "postgresql://me@db/x"}}},
    "cache": {"redis": {"external": {"url": "redis://cache:6379/0"}}},
    "backup": {"destination": {"s3": {"bucket": "backups", "endpoint": "http://s3:9000"}}, "drill": {}},
}
SUNDAY, MONDAY = "2026-01-04T04:00:00Z", "2026-01-05T04:00:00Z"
LABELS = {"app.kubernetes.io/name": "drill", "openclaw.io/memorystore": "mem"}


class World(Bench):
    """A store whose drills end as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.api.put("MemoryStore", "mem", spec=SPEC)

    async def step(self, spec: dict[str, Any] = SPEC) -> dict[str, Any]:
        """The status after a reconcile."""
        item = self.api.items["MemoryStore", "mem"]
        primary = condense("MemoryStore", self.api.put("MemoryStore", "mem", **{**item, "spec": spec}))
        self.context.primaries.put(primary)
        await MemoryStoreReconciler(self.context).reconcile(primary)
        status: dict[str, Any] = self.api.items["MemoryStore", "mem"]["status"]
        return status

    def ran(self, pod: str, created: str, step: str, code: int, message: str, **status: Any) -> None:
        ended = {"name": step, "state": {"terminated": {"exitCode": code, "message": message}}}
        server = {"name": "scratch-postgresql", "state": {"terminated": {"exitCode": 137, "message": "killed"}}}
        spec = {"initContainers": [{"name": "scratch-postgresql", "restartPolicy": "Always"}]}
        status_of_pod = {"initContainerStatuses": [server], "containerStatuses": [ended]}
        meta = {"labels": LABELS, "creationTimestamp": created}
        self.api.put("Pod", pod, metadata=meta, spec=spec, status=status_of_pod)
        live = self.api.items["CronJob", "mem-drill"]
        self.child("CronJob", "mem-drill", **{**live, "status": status})

    def metric(self, name: str) -> float | None:
        return self.context.metrics.registry.get_sample_value(name, {"namespace": "demo", "memorystore": "mem"})


def condition(status: dict[str, Any]) -> tuple[str, str, str]:
    found = next(each for each in status["conditions"] if each["type"] == "RestoreProven")
    return found["status"], found["reason"], found["message"]


async def test_each_drill_is_told_once_and_readiness_is_another_matter() -> None:
    world = World()
    status = await world.step()
    assert condition(status)[:2] == ("Unknown", "NoDrillYet")
    assert status["conditions"][-1]["status"] == "True"
    said = json.dumps({"backup": "2026-01-04T02-00-00Z", "rows": 12, "points": 7})
    world.ran("one", SUNDAY, "drill", 0, said, lastScheduleTime=SUNDAY, lastSuccessfulTime=SUNDAY)
    status = await world.step()
    proven = {"time": SUNDAY, "proven": True, "backup": "2026-01-04T02-00-00Z", "rows": 12, "points": 7}
    assert status["lastDrill"] == proven
    assert condition(status)[:2] == ("True", "Proven")
    assert world.metric("openclaw_operator_backup_drill_last_success_timestamp_seconds") == 1767499200.0
    # Its pod goes, the operator starts anew: what is known stays, and nothing is written.
    del world.api.items["Pod", "one"]
    before = list(world.api.log)
    assert await world.step() == status
    assert world.api.log == before

    lost = "error: table public.notes: 1 rows after the restore; backup b was made of 2 rows"
    world.ran("two", MONDAY, "drill", 1, lost, lastScheduleTime=MONDAY, lastSuccessfulTime=SUNDAY)
    status = await world.step()
    state, reason, message = condition(status)
    assert (state, reason) == ("False", "DrillFailed")
    assert f"the drill of {MONDAY} failed: step drill: table public.notes: 1 rows" in message
    assert status["lastDrill"] == {"time": MONDAY, "proven": False}
    assert status["conditions"][-1]["status"] == "True"
    assert world.metric("openclaw_operator_backup_drill_failed") == 1
    told = [(item["type"], item["reason"]) for (kind, _), item in world.api.items.items() if kind == "Event"]
    assert told == [("Normal", "Ready"), ("Normal", "RestoreProven"), ("Warning", "DrillFailed")]

    status = await world.step({**SPEC, "backup": {"destination": SPEC["backup"]["destination"]}})
    assert "lastDrill" not in status
    assert [each["type"] for each in status["conditions"]][-1] == "Ready"
    assert "RestoreProven" not in {each["type"] for each in status["conditions"]}
    assert ("delete", "mem-drill") in world.api.writes("CronJob")


def test_a_drill_has_its_own_servers_and_knows_no_secret_of_the_store() -> None:
    _, policy, cron_job = drill.build(owner("MemoryStore", "mem"), MemoryStoreSpec.model_validate(SPEC), IMAGES)
    assert policy["spec"]["ingress"] == []
    assert [rule["ports"] for rule in policy["spec"]["egress"][1:]] == [
        [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 9000}]
    ]
    template = cron_job["spec"]["jobTemplate"]["spec"]["template"]
    # Servers of a store let in what is called backup.
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "drill"
    assert (
        template["metadata"]["labels"] | policy["spec"]["podSelector"]["matchLabels"] == template["metadata"]["labels"]
    )
    pod = template["spec"]
    order = [item["name"] for item in pod["initContainers"]]
    assert order == ["fetch", "scratch-postgresql", "scratch-qdrant", "postgresql"]
    for item in pod["initContainers"][1:3]:
        assert item["restartPolicy"] == "Always"
        assert item["startupProbe"]
        assert item["securityContext"]["runAsUser"] > 0
        assert item["resources"]["limits"]["memory"]
    text = json.dumps(pod)
    assert "secretKeyRef" not in text
    assert "mem-memory" not in text
    assert "@db/" not in text
    # One that reads from a volume needs no way out at all.
    pvc = {**SPEC, "backup": {"destination": {"pvc": {"claimName": "c"}}, "drill": {}}}
    _, policy, cron_job = drill.build(owner("MemoryStore", "mem"), MemoryStoreSpec.model_validate(pvc), IMAGES)
    assert policy["spec"]["egress"] == []
    mounts = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert next(mount for mount in mounts if mount["name"] == "backups")["readOnly"] is True


def test_its_configuration_is_read_as_yaml_whatever_the_folder_is_called() -> None:
    s3 = {**SPEC["backup"]["destination"]["s3"], "prefix": "daily \N{CRAB}"}
    spec = MemoryStoreSpec.model_validate({**SPEC, "backup": {**SPEC["backup"], "destination": {"s3": s3}}})
    config_map = drill.build(owner("MemoryStore", "mem"), spec, IMAGES)[0]
    (text,) = config_map["data"].values()
    assert yaml.safe_load(text)["destination"]["s3"]["prefix"] == "daily \N{CRAB}"
