"""Whatever happens between the operator and the API server, the same state comes out in the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from openclaw_operator.cluster.kinds import CHILDREN
from openclaw_operator.resources import egress, network
from tests.bench.api import Object, resource_path
from tests.bench.waiting import eventually
from tests.faults import world
from tests.faults.harness import CONVERGE_SECONDS, Stage
from tests.faults.injection import Answer, Call, CloseAfter, CloseBefore, Fault, Hang, Pass, share_of_calls

DEPLOYMENT = resource_path("apps/v1", "deployments", world.NAMESPACE, "expert-gateway")
CONFIG = resource_path("v1", "configmaps", world.NAMESPACE, "expert-gateway")
AGENTS = resource_path(world.GROUP, "agents", world.NAMESPACE)
EXPERT = resource_path(world.GROUP, "agents", world.NAMESPACE, "expert")
# From an API server where the feature is off.
NO_STREAMS = Answer(422)


async def start_and_watch(stage: Stage) -> None:
    """Start an operator, and wait until it has read all there is: what is there already proves nothing of it."""
    calls = len(stage.proxy.calls)
    await stage.start()
    primaries = {resource_path(world.GROUP, plural, world.NAMESPACE) for plural in world.PRIMARIES.values()}

    async def watches() -> bool:
        made = stage.proxy.calls[calls:]
        return primaries <= {call.path for call in made if call.is_watch and not call.is_streamed_list}

    await eventually(watches, "the operator watches again", seconds=CONVERGE_SECONDS)


async def test_a_clean_run_leaves_everything_reported(expected: dict[str, Any]) -> None:
    kinds = {key.partition("/")[0] for key in expected}
    assert {kind.name for kind in CHILDREN} <= kinds
    assert {
        f"Deployment/{egress.NAME}",
        f"NetworkPolicy/{network.EGRESS_POLICY}",
        f"NetworkPolicy/{network.SANDBOX_EGRESS_POLICY}",
    } <= expected.keys()
    for key, item in expected.items():
        if key.partition("/")[0] in world.PRIMARIES:
            assert [condition["type"] for condition in item["status"]["conditions"]][-1] == "Ready"


async def test_a_restart_writes_nothing(stage: Stage, expected: dict[str, Any]) -> None:
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    await stage.stop()
    before = len(stage.proxy.writes)
    await start_and_watch(stage)
    await stage.becomes(expected)
    assert [str(write) for write in stage.proxy.writes[before:]] == []


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_tenth_of_all_requests_fails(stage: Stage, expected: dict[str, Any], seed: int) -> None:
    stage.proxy.injector = share_of_calls(seed, 0.1)
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    assert stage.proxy.injected > 0


async def test_every_other_page_of_a_list_fails_where_every_object_is_a_page(
    stage: Stage, expected: dict[str, Any]
) -> None:
    """A list that were begun again for each page that fails would never end."""
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    await stage.stop()
    before = len(stage.proxy.writes)
    pages: Counter[str] = Counter()
    streams: list[Call] = []

    def every_other(call: Call) -> Fault:
        if call.is_streamed_list:
            streams.append(call)
            return NO_STREAMS
        if not call.is_later_page:
            return Pass()
        pages[call.path] += 1
        return Answer(503) if pages[call.path] % 2 else Pass()

    stage.settings = {"page_size": "1"}
    stage.proxy.injector = every_other
    await start_and_watch(stage)
    await stage.becomes(expected)
    assert stage.proxy.injected - len(streams) == sum(count // 2 for count in pages.values()) > 20
    # All kinds of children, ConfigMaps twice, and those of users.
    assert len(streams) == len(CHILDREN) + 1 + len(world.PRIMARIES)
    assert stage.proxy.writes[before:] == []


async def test_a_list_gets_too_old_between_its_pages(stage: Stage, expected: dict[str, Any]) -> None:
    """The operator begins its first list again. kopf gives up, which ends the operator: it is started anew."""
    agents = sum(item["kind"] == "Agent" for item in world.resources())
    # The operator's own list is refused once, and then has a later page for each Agent but one.
    first_of_kopf = 1 + (agents - 1) + 1
    later: list[Call] = []

    def too_old(call: Call) -> Fault:
        if call.is_streamed_list:
            return NO_STREAMS
        if not call.is_later_page or call.path != AGENTS:
            return Pass()
        later.append(call)
        return Answer(410) if len(later) in {1, first_of_kopf} else Pass()

    stage.settings = {"page_size": "1"}
    stage.proxy.injector = too_old
    await world.create(stage.api, world.resources())
    operator = await stage.start()
    await stage.killed()
    assert operator.running.returncode
    assert "kopf watches no more" in operator.log.read_text()
    assert len(later) == first_of_kopf
    await stage.start()
    await stage.becomes(expected)


@pytest.mark.parametrize("fault", [Answer(409), Answer(429), Answer(500), CloseBefore(), CloseAfter()], ids=str)
async def test_the_first_try_of_each_write_fails(stage: Stage, expected: dict[str, Any], fault: Fault) -> None:
    tried: set[tuple[str, str]] = set()

    def first_try(call: Call) -> Fault:
        if not call.is_write or (call.method, call.path) in tried:
            return Pass()
        tried.add((call.method, call.path))
        return fault

    stage.proxy.injector = first_try
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    assert len(tried) > len(expected) / 2


async def test_the_api_server_is_away_while_children_are_made(stage: Stage, expected: dict[str, Any]) -> None:
    stage.proxy.on_write = lambda write: stage.proxy.go_down() if write.number == 5 else None
    await world.create(stage.api, world.resources())
    await stage.start()

    async def refused() -> bool:
        return stage.proxy.injected > 40

    await eventually(refused, "the operator keeps asking an API server that is gone", seconds=60)
    stage.proxy.come_up()
    await stage.becomes(expected)


async def test_the_api_server_restarts(stage: Stage, expected: dict[str, Any]) -> None:
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    before = len(stage.proxy.writes)
    # Not in a thread: the kernel ends a component together with the thread that started it.
    stage.server.restart()
    await stage.becomes(expected)
    assert [str(write) for write in stage.proxy.writes[before:]] == []
    await stage.api.delete(DEPLOYMENT)
    await stage.becomes(expected)


@pytest.mark.parametrize("how", ["cut", "end"])
async def test_changes_while_watches_are_lost(stage: Stage, expected: dict[str, Any], how: str) -> None:
    """What happens between the end of a watch and the next one is not missed."""
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)

    def refuse_watches(call: Call) -> Fault:
        return Answer(503) if call.is_watch else Pass()

    stage.proxy.injector = refuse_watches
    if how == "cut":
        stage.proxy.cut_watches()
    else:
        stage.proxy.end_watches()
    await stage.api.delete(DEPLOYMENT)
    await stage.api.delete(resource_path("v1", "services", world.NAMESPACE, "coordinator-gateway"))
    await stage.api.merge(CONFIG, {"data": {"config.yaml": "broken"}})
    stage.proxy.injector = lambda _: Pass()
    await stage.becomes(expected)


async def test_watches_end_at_once_for_a_while(stage: Stage, expected: dict[str, Any]) -> None:
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    stage.proxy.end_watches_at_once = True
    stage.proxy.end_watches()
    calls = len(stage.proxy.calls)

    async def asked_again() -> bool:
        paths = [call.path for call in stage.proxy.calls[calls:] if call.is_watch]
        return any(paths.count(path) >= 10 for path in paths)

    await eventually(asked_again, "a watch is asked for again and again", seconds=60)
    await stage.api.delete(DEPLOYMENT)
    stage.proxy.end_watches_at_once = False
    await stage.becomes(expected)


def of_children(path: str) -> bool:
    """Watches of anything but the resources of users."""
    return f"/{world.GROUP}/" not in path


async def test_events_of_children_come_late(stage: Stage, expected: dict[str, Any]) -> None:
    """Decisions from an old view of the children do no harm, and are put right once the events arrive."""
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    stage.proxy.hold_events(of_children)
    await stage.api.delete(DEPLOYMENT)
    await stage.api.merge(CONFIG, {"data": {"config.yaml": "broken"}})
    calls, writes = len(stage.proxy.calls), len(stage.proxy.writes)
    # A change of each that the operator believes to be as it left them.
    spec = {"description": "changed", "gateway": {"extraEnv": [{"name": "NEW", "value": "1"}]}}
    await stage.api.merge(EXPERT, {"spec": spec})

    async def decided() -> bool:
        tried = [call.path for call in stage.proxy.calls[calls:] if call.is_write]
        return DEPLOYMENT in tried and CONFIG in {write.path for write in stage.proxy.writes[writes:]}

    await eventually(decided, "the operator writes what it decided from an old view", seconds=60)
    await stage.quiet()
    assert sum(call.path == DEPLOYMENT for call in stage.proxy.calls[calls:]) < 20
    stage.proxy.release_events()
    await stage.api.merge(EXPERT, {"spec": {"description": None, "gateway": {"extraEnv": None}}})
    await stage.becomes(expected)


async def test_requests_and_watches_hang(stage: Stage, expected: dict[str, Any]) -> None:
    """Connections that are dead and do not say so are given up after a while: nothing else would tell."""
    stage.settings = {"request_seconds": "1", "watch_silence_seconds": "5"}
    stage.proxy.injector = share_of_calls(4, 0.05, [Hang()])
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)
    assert stage.proxy.injected > 0
    stage.proxy.injector = lambda _: Pass()
    stage.proxy.stall_watches()
    await stage.api.delete(DEPLOYMENT)
    await stage.api.merge(EXPERT, {"spec": {"description": "changed"}})
    await stage.api.merge(EXPERT, {"spec": {"role": "researcher"}})

    async def seen() -> bool:
        config = await stage.api.get(CONFIG)
        return "researcher" in config["data"]["config.yaml"] and await stage.api.find(DEPLOYMENT) is not None

    await eventually(seen, "both changes are seen by new watches", seconds=60)
    await stage.api.merge(EXPERT, {"spec": {"description": None, "role": "code_expert"}})
    await stage.becomes(expected)


async def test_every_event_comes_twice(stage: Stage, expected: dict[str, Any]) -> None:
    stage.proxy.duplicate_events = True
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.becomes(expected)


async def test_a_quota_refuses_children_until_it_is_raised(stage: Stage, expected: dict[str, Any]) -> None:
    hard = {"count/deployments.apps": "0"}
    quota: Object = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": world.NAMESPACE},
        "spec": {"hard": hard},
    }
    path = resource_path("v1", "resourcequotas", world.NAMESPACE)
    await stage.api.create(path, quota)
    # The controller that computes usage does not run here.
    await stage.api.merge(f"{path}/none/status", {"status": {"hard": hard, "used": hard}})
    await world.create(stage.api, world.resources())
    await stage.start()
    await stage.settled()
    ready = (await stage.api.get(EXPERT))["status"]["conditions"][-1]
    assert ready["status"] == "False"
    assert "exceeded quota: none" in ready["message"]
    assert sum(call.path == DEPLOYMENT for call in stage.proxy.calls) < 20
    await stage.api.delete(f"{path}/none")
    await stage.becomes(expected)
