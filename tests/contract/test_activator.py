"""Operator, activator and gateway agree: settings, the file of agents, how a token is known, and what a state says."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import observe
from openclaw_operator.reconcile.hibernation import LEAVING_SECONDS, Verdict, read_verdict
from openclaw_operator.resources import activator, agent_config, meta
from openclaw_operator.resources.inputs import AgentInputs, Member
from openclaw_runtime.activator.board import LIVE_SECONDS, Board, Report, State
from openclaw_runtime.activator.settings import Sleeper, read_settings, read_sleepers
from openclaw_runtime.config import Activator, load_config
from openclaw_runtime.gateway.idle import REPORT_SECONDS
from openclaw_runtime.gateway.reload import restart_needed

IMAGES = meta.Images("runtime", "sandbox", "sandbox-node", "qdrant", "postgresql", "redis", "backup", "Always")


def test_the_activator_reads_what_the_operator_renders(tmp_path: Path) -> None:
    secret = {"data": {"token": base64.b64encode(b"t0ken").decode()}}
    meta_ = {"name": "ada-gateway-token", "namespace": "demo", "uid": "u", "resourceVersion": "1"}
    live = observe(BY_NAME["Secret"], {**secret, "metadata": {**meta_, "creationTimestamp": "2026-01-01T00:00:00Z"}})
    built = activator.build("demo", [activator.Sleeper("ada", live.facts["token_sha256"], 900, 60)], IMAGES)
    objects = {item["kind"]: item for item in built}
    container = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    environ = {item["name"]: item.get("value", "demo") for item in container["env"]}
    settings = read_settings(environ)
    assert settings.agents_file == Path(activator.AGENTS_DIR, activator.AGENTS_KEY)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (settings.port, settings.api_port) == (ports["http"], ports["api"]) == (7456, Activator(host="x").port)
    assert settings.grace_seconds == activator.GRACE_SECONDS

    path = tmp_path / "agents.json"
    path.write_bytes(base64.b64decode(objects["Secret"]["data"]["agents.json"]))
    sleepers = read_sleepers(path)
    assert sleepers.agents == {"ada": Sleeper(live.facts["token_sha256"], 900, 60)}
    assert sleepers.of_token(hashlib.sha256(b"t0ken").hexdigest()) == "ada"


@pytest.mark.parametrize(
    ("hibernation", "members", "place"),
    [
        (None, (), None),
        (None, (Member("eve", "assistant", "", ()),), None),
        (None, (Member("eve", "assistant", "", (), hibernates=True),), (activator.NAME, 7471, False)),
        ({}, (), (activator.NAME, 7471, True)),
    ],
)
def test_gateways_know_the_activator_where_they_need_it(
    hibernation: dict[str, int] | None,
    members: tuple[Member, ...],
    place: tuple[str, int, bool] | None,
    tmp_path: Path,
) -> None:
    model = {"provider": "openai-compatible", "name": "m", "baseURL": "http://llm:8000/v1"}
    spec = AgentSpec.model_validate({"model": model, "gateway": {"hibernation": hibernation}})
    inputs = AgentInputs(meta.Owner("Agent", "ada", "demo", "u"), spec, "I am.", IMAGES, None, (), members)
    path = tmp_path / "config.yaml"
    path.write_text(agent_config.config_map(inputs, agent_config.render(inputs))["data"]["config.yaml"])
    read = load_config(path).activator
    assert (read and (read.host, read.port, read.reports)) == place
    before = load_config(path).model_copy(update={"activator": None})
    assert restart_needed(before, load_config(path)) == [], "who begins to hibernate is not restarted for it"


def test_the_operator_understands_every_state() -> None:
    due = datetime(2026, 1, 2, 9, tzinfo=UTC).timestamp()
    board = Board(lambda: 0.0, lambda: due - 3600, lambda _agent: None, settle_seconds=0)
    sleeper = Sleeper("", 60, 60)
    for report, verdict in (
        (Report("a", "http://a", 10), Verdict()),
        (Report("a", "http://a", 60), Verdict(True, 1)),
        (Report("a", "http://a", 60, wake_at=due), Verdict(True, 1, due)),
    ):
        board.report("ada", report)
        state = board.state("ada", sleeper)
        assert isinstance(state, State)
        written = {key: value for key, value in msgspec.to_builtins(state).items() if value is not None}
        assert read_verdict(written) == verdict


def test_a_gateway_that_has_something_to_do_says_so_before_it_is_stopped() -> None:
    assert LEAVING_SECONDS >= 2 * REPORT_SECONDS
    assert LIVE_SECONDS >= 2 * REPORT_SECONDS
