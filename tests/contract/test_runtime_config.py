"""What the operator renders, the runtime reads: every combination of a table, through the runtime's own loader."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.memoryrestore import MemoryRestoreSpec
from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.api.memorystore import Quantization as StoreQuantization
from openclaw_operator.api.skill import SkillSpec
from openclaw_operator.resources import agent_config, backup, drill, restore, triggers
from openclaw_operator.resources.agent_deployment import deployment
from openclaw_operator.resources.egress import EgressOptions
from openclaw_operator.resources.inputs import AgentInputs, Member, ResolvedSkill, Store
from openclaw_operator.resources.meta import CONFIG_DIR, Images, Owner
from openclaw_operator.resources.pool import effective_level, pool_for
from openclaw_runtime.backup.config import load as load_backup
from openclaw_runtime.backup.restore import ROWS
from openclaw_runtime.config import ENVIRONMENT_KEYS, RuntimeConfig, load_config
from openclaw_runtime.egress.settings import api_server
from openclaw_runtime.gateway.reload import restart_needed
from openclaw_runtime.memory.sections import Hnsw, HotTier, Importance, Quantization, Summarization, Tier, Tiers
from openclaw_runtime.models.sections import Cache, ModelSettings, Pricing
from openclaw_runtime.schedules import cron
from openclaw_runtime.skills import patterns
from openclaw_runtime.telemetry import build_tracing
from tests.fakes.http_server import Reply, serve
from tests.unit.operator.builders import agent_inputs

IMAGES = Images("runtime", "sandbox", "sandbox-node", "qdrant", "postgresql", "redis", "backup", "IfNotPresent")
DIGEST = f"sha256:{'a' * 64}"

MODELS: dict[str, dict[str, Any]] = {
    "openai": {"provider": "openai", "name": "gpt-4o-mini", "credentials": {"secretKeyRef": {"name": "k", "key": "v"}}},
    "anthropic": {
        "provider": "anthropic",
        "name": "claude",
        "credentials": {"secretKeyRef": {"name": "k", "key": "v"}},
        "settings": {"temperature": 0.5, "maxTokens": 100, "topP": 0.9, "seed": 1},
    },
    "groq": {"provider": "groq", "name": "llama", "credentials": {"secretKeyRef": {"name": "k", "key": "v"}}},
    "local": {"provider": "local", "name": "tiny", "baseURL": "http://llm:8000/v1"},
    "openai-compatible": {"provider": "openai-compatible", "name": "any", "baseURL": "http://llm:8000/v1"},
    "several": {
        "provider": "local",
        "name": "tiny",
        "baseURL": "http://llm:8000/v1",
        "retry": {"retries": 0, "baseDelayMilliseconds": 5, "maxDelayMilliseconds": 5, "timeoutSeconds": 9},
        "fallbacks": [
            {"name": "gpt-4o", "credentials": {"secretKeyRef": {"name": "k", "key": "v"}}, "settings": {"topP": 0.5}},
            {
                "provider": "openai-compatible",
                "name": "any",
                "baseURL": "http://llm:8001/v1",
                "pricing": {"inputPerMillion": 1, "outputPerMillion": 2.5},
            },
        ],
        "performance": 0.4,
        "candidates": [
            {
                "provider": "anthropic",
                "name": "claude-3-opus",
                "credentials": {"secretKeyRef": {"name": "c", "key": "v"}},
                "performance": 0.9,
                "speed": 3,
            }
        ],
        "budget": {"perDay": 5, "perRequest": 0.05},
        "cache": {"ttlSeconds": 60, "staleSeconds": 5, "refreshAhead": 0.5, "turns": True, "diskMegabytes": 1},
    },
}
STORES: dict[str, dict[str, Any] | None] = {
    "embedded": None,
    "managed": {},
    "tiered": {"tiers": {"hot": {"records": 5}, "warm": {"maxAgeSeconds": 9000}}},
    "keyless": {"embedding": {"provider": "openai", "model": "m", "dimensions": 1024}},
    "external": {
        "vector": {
            "hnsw": {"m": 24, "efConstruct": 300, "ef": 150},
            "quantization": {"type": "product", "compression": "x16", "oversampling": 4},
            "qdrant": {"external": {"url": "http://q:6333", "apiKey": {"secretKeyRef": {"name": "q", "key": "k"}}}},
        },
        "records": {"postgresql": {"external": {"url": "postgresql://u@db:5432/x"}}},
        "cache": {"redis": {"external": {"url": "rediss://cache:6379/0"}}},
        "embedding": {
            "provider": "openai-compatible",
            "model": "m",
            "dimensions": 1024,
            "baseURL": "http://e/v1",
            "credentials": {"secretKeyRef": {"name": "e", "key": "k"}},
        },
    },
}
SKILLS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "closed": {},
    "open": {
        "permissions": ["filesystem:write", "network:external", "process:execute"],
        "allowedDomains": ["example.com"],
        "secrets": [{"name": "TOKEN", "secretKeyRef": {"name": "t", "key": "k"}}],
        "triggers": [{"type": "command", "pattern": "^go"}, {"type": "cron", "schedule": "0 9 * * *", "action": "act"}],
        "rateLimit": {"calls": 5, "perSeconds": 10},
    },
    "trusted": {"sandbox": {"level": "trusted"}},
    "mcp in a sandbox": {"actions": [], "mcp": {"command": ["python", "server.py"], "env": {"A": "${TOKEN}"}}},
    "remote mcp": {
        "permissions": ["network:external"],
        "allowedDomains": ["x:8443"],
        "actions": [],
        "mcp": {"url": "https://x:8443/mcp", "headers": {"A": "b"}, "tools": ["t"]},
    },
}
SKILL = {
    "version": "1.2.0-rc.1+build",
    "source": {"inline": {"files": {"scripts/main.py": "def act(ctx, input): ..."}}},
    "actions": [
        {"name": "act", "description": "Acts.", "inputSchema": {"type": "object"}, "outputSchema": {"type": "null"}}
    ],
}


REMEMBERING = {
    "importanceWeights": {
        "accessCount": 0.1,
        "recency": 0.2,
        "relevance": 0.3,
        "userFeedback": 0.4,
        "adaptationRate": 0.5,
    },
    "summarization": {"enabled": False, "everyRecords": 5, "maxTokens": 60, "model": "gpt-4o-mini"},
}
SCHEDULES = [
    {"name": "brief", "schedule": "@daily", "timeZone": "Europe/Riga", "prompt": "What is new?"},
    {
        "name": "tidy",
        "schedule": "*/5 1-3 * * MON-FRI",
        "skill": {"name": "some.skill", "action": "act", "input": {"any": [1, {"is": None}]}},
        "suspend": True,
        "startingDeadlineSeconds": 60,
        "concurrencyPolicy": "Forbid",
    },
]


def inputs(
    model: str,
    store: str,
    skill: str,
    *,
    team: bool,
    level: str,
    timed: bool = False,
    memory: dict[str, Any] | None = None,
) -> AgentInputs:
    spec = AgentSpec.model_validate(
        {
            "model": MODELS[model],
            "execution": {"sandbox": {"level": level}},
            "memory": {**({"storeRef": {"name": "memory"}} if STORES[store] is not None else {}), **(memory or {})},
            "team": {"members": [{"name": "helper"}]} if team else None,
            "schedules": SCHEDULES if timed else [],
        }
    )
    skills = []
    if (wanted := SKILLS[skill]) is not None:
        skill_spec = SkillSpec.model_validate({**SKILL, **wanted})
        skills.append(
            ResolvedSkill(
                name="some.skill",
                spec=skill_spec,
                digest=DIGEST,
                package="some.skill-package-aaaaaaaaaa",
                level=effective_level(spec, skill_spec),
                config={"any": ["thing", {"is": None}]},
                pool=pool_for("agent", spec, skill_spec, IMAGES),
            )
        )
    stored = STORES[store]
    return AgentInputs(
        owner=Owner("Agent", "agent", "space", "uid"),
        spec=spec,
        soul='Line one.\n"Quotes", ünïcode and: colons\n',
        images=IMAGES,
        store=None if stored is None else Store("memory", MemoryStoreSpec.model_validate(stored)),
        skills=tuple(skills),
        team=(Member("helper", "assistant", "Helps.", ("some.skill",)),) if team else (),
        egress=EgressOptions("egress", denied=("203.0.113.0/24", "2001:db8::/32"), allow_api_server=True),
    )


def read(given: AgentInputs, folder: Path) -> RuntimeConfig:
    path = folder / "config.yaml"
    path.write_text(agent_config.config_map(given, agent_config.render(given))["data"]["config.yaml"])
    return load_config(path)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("store", STORES)
def test_what_is_rendered_is_read(model: str, store: str, tmp_path: Path) -> None:
    for skill, team, level in itertools.product(SKILLS, (False, True), ("isolated", "restricted", "trusted")):
        given = inputs(model, store, skill, team=team, level=level)
        config = read(given, tmp_path)
        assert config.claw.soul == given.soul
        # A remote MCP server is called by the rules of the egress proxy.
        sandbox = config.execution.sandbox
        assert tuple(map(str, sandbox.denied_networks)) == given.egress.denied
        assert sandbox.allow_api_server
        assert config.claw.model == MODELS[model]["name"]
        assert bool(config.team.members) == team
        assert (config.memory.vector_store.path is not None) == (store == "embedded")
        assert [each.name for each in config.skills.installed] == [each.name for each in given.skills]
        for installed, resolved in zip(config.skills.installed, given.skills, strict=True):
            assert installed.pool == (resolved.pool.id if resolved.pool else None)
            assert set(installed.permissions) == set(resolved.spec.permissions)
            assert installed.config == resolved.config
            assert set(installed.secret_files) == set(resolved.secrets)


def test_schedules_are_read_as_they_were_written(tmp_path: Path) -> None:
    brief, tidy = read(
        inputs("openai", "embedded", "closed", team=False, level="isolated", timed=True), tmp_path
    ).schedules
    assert (brief.schedule, brief.time_zone, brief.prompt, brief.skill) == (
        "@daily",
        "Europe/Riga",
        "What is new?",
        None,
    )
    assert tidy.skill is not None
    assert (tidy.skill.name, tidy.skill.action, tidy.skill.input) == ("some.skill", "act", {"any": [1, {"is": None}]})
    assert (tidy.suspend, tidy.starting_deadline_seconds, tidy.concurrency_policy) == (True, 60, "Forbid")
    assert (brief.suspend, brief.starting_deadline_seconds, brief.concurrency_policy) == (False, None, "Allow")


@pytest.mark.parametrize(
    "schedule",
    [
        *("0 9,18 * * *", "@daily", "*/5 1-3 * * MON-FRI", "0 0 L * *", "0 0 29 2 *"),
        *("0 25 * * *", "* * * *", "60 * * * *", "0 0 30 2 *", "5 4 ? * *", "@reboot", "* * * * * *", "1/0 * * * *"),
    ],
)
def test_both_take_the_same_schedules(schedule: str) -> None:
    assert (triggers.cron_problem(schedule) is None) == accepts(lambda: cron.check_cron(schedule))


@pytest.mark.parametrize(
    "name", ["Etc/UTC", "Europe/Riga", "europe/riga", "Mars/Olympus", "../etc/passwd", "", "Europe"]
)
def test_both_know_the_same_time_zones(name: str) -> None:
    assert triggers.is_time_zone(name) == accepts(lambda: cron.check_time_zone(name))


@pytest.mark.parametrize(
    "pattern",
    [
        *("git.*", "(?i)go (?P<where>.+)", "(a+)+$", "é+"),
        *("(?=x)y", "(x", r"(\w)\1", "a{2000}", "(?P<1>x)", "[z-a]", "\\", "((a{100}){100}){100}", "x*+", "(?#c)x"),
    ],
)
def test_both_take_the_same_patterns(pattern: str) -> None:
    assert (triggers.pattern_problem(pattern) is None) == accepts(lambda: patterns.check_pattern(pattern))


def accepts(check: Callable[[], object]) -> bool:
    try:
        check()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("model", ["openai", "several"])
@pytest.mark.parametrize("store", STORES)
def test_every_file_the_configuration_names_is_mounted(store: str, model: str, tmp_path: Path) -> None:
    given = inputs(model, store, "open", team=False, level="isolated")
    config = read(given, tmp_path)
    pod = deployment(given, agent_config.render(given))["spec"]["template"]["spec"]
    mounts = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    named = [
        config.gateway.token_file,
        config.memory.vector_store.api_key_file,
        config.memory.records.password_file,
        config.bus.password_file,
        config.memory.embedding.api_key_file,
        config.execution.sandbox.signing_key_file,
        config.claw.api_key_file,
        *(endpoint.api_key_file for endpoint in [*config.models.fallbacks, *config.models.candidates]),
        *(path for skill in config.skills.installed for path in skill.secret_files.values()),
    ]
    for path in filter(None, named):
        assert any(path.is_relative_to(mount) for mount in mounts), path
    assert CONFIG_DIR in mounts


@pytest.mark.parametrize(("model", "own"), [("openai", True), ("anthropic", False), ("local", False)])
def test_keys_are_files_that_gateways_follow_and_an_embedding_api_may_be_given_the_agents(
    model: str, own: bool, tmp_path: Path
) -> None:
    given = inputs(model, "keyless", "none", team=False, level="isolated")
    config = read(given, tmp_path)
    file = config.claw.api_key_file
    assert (file is not None) == ("credentials" in MODELS[model])
    assert config.memory.embedding.api_key_file == (file if own else None)
    # A variable would keep the key that a container was started with.
    assert "secretKeyRef" not in str(deployment(given, agent_config.render(given))["spec"]["template"]["spec"])


def test_the_key_of_the_embedding_api_reaches_the_gateway(tmp_path: Path) -> None:
    given = inputs("anthropic", "external", "none", team=False, level="isolated")
    path = read(given, tmp_path).memory.embedding.api_key_file
    assert path is not None
    volumes = deployment(given, agent_config.render(given))["spec"]["template"]["spec"]["volumes"]
    sources = next(volume["projected"]["sources"] for volume in volumes if volume["name"] == "memory")
    assert {"secret": {"name": "e", "items": [{"key": "k", "path": path.name}]}} in sources


def test_further_models_and_their_keys_reach_the_gateway(tmp_path: Path) -> None:
    given = inputs("several", "managed", "none", team=False, level="isolated")
    models = read(given, tmp_path).models
    assert (models.retry.retries, models.retry.base_delay, models.retry.max_delay, models.retry.timeout) == (
        0,
        5,
        5,
        9000,
    )
    first, second = models.fallbacks
    assert (first.provider, first.model, first.settings) == ("openai", "gpt-4o", ModelSettings(top_p=0.5))
    assert (second.provider, second.base_url, second.api_key_file, second.settings) == (
        "openai-compatible",
        "http://llm:8001/v1",
        None,
        None,
    )
    assert second.pricing == Pricing(input_per_million=1, output_per_million=2.5)
    assert read(given, tmp_path).claw.performance == 0.4
    assert [(each.model, each.performance, each.speed) for each in models.candidates] == [("claude-3-opus", 0.9, 3)]
    assert (models.budget.per_day, models.budget.per_request) == (5, 0.05)
    assert models.cache == Cache(
        enabled=True, ttl=60, stale=5, refresh_ahead=0.5, turns=True, entries=1000, disk_megabytes=1
    )
    assert not read(inputs("local", "managed", "none", team=False, level="isolated"), tmp_path).models.cache.enabled
    assert first.api_key_file is not None
    volumes = deployment(given, agent_config.render(given))["spec"]["template"]["spec"]["volumes"]
    sources = next(volume["projected"]["sources"] for volume in volumes if volume["name"] == "models")
    assert sources == [{"secret": {"name": name, "items": [{"key": "v", "path": f"{name}/v"}]}} for name in ("c", "k")]
    assert first.api_key_file.parts[-2:] == ("k", "v")


def test_what_becomes_of_records_is_read_as_it_was_written(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"model": "openai", "store": "managed", "skill": "none", "team": False, "level": "isolated"}
    memory = read(inputs(**plain, memory=REMEMBERING), tmp_path).memory
    assert memory.importance == Importance(access_count=0.1, recency=0.2, relevance=0.3, user_feedback=0.4, rate=0.5)
    # The defaults of both are the same.
    assert read(inputs(**plain), tmp_path).memory.importance == Importance()
    assert memory.summarization == Summarization(enabled=False, every_records=5, max_tokens=60, model="gpt-4o-mini")
    assert read(inputs(**plain), tmp_path).memory.summarization == Summarization()


def test_tiers_are_read_as_they_were_written_and_restart_nothing(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"model": "openai", "skill": "none", "team": False, "level": "isolated"}
    tiered, untiered = inputs(store="tiered", **plain), inputs(store="managed", **plain)
    wanted = Tiers(hot=HotTier(records=5, max_age=3600), warm=Tier(records=10_000, max_age=9000))
    assert read(tiered, tmp_path).memory.tiers == wanted
    assert read(untiered, tmp_path).memory.tiers is None
    assert restart_needed(read(untiered, tmp_path), read(tiered, tmp_path)) == []
    hashes = {agent_config.restart_hash(agent_config.render(given)) for given in (tiered, untiered)}
    assert len(hashes) == 1
    # The defaults of both are the same.
    every = Store("memory", MemoryStoreSpec.model_validate({"tiers": {}}))
    assert read(replace(untiered, store=every), tmp_path).memory.tiers == Tiers()


def test_how_vectors_are_searched_is_read_as_it_was_written_and_needs_a_restart(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"model": "openai", "skill": "none", "team": False, "level": "isolated"}
    tuned = inputs(store="external", **plain)
    vectors = read(tuned, tmp_path).memory.vector_store
    assert vectors.hnsw == Hnsw(m=24, ef_construct=300, ef=150)
    assert vectors.quantization == Quantization(type="product", compression="x16", oversampling=4)
    # The defaults of both are the same.
    untuned = read(inputs(store="managed", **plain), tmp_path)
    assert untuned.memory.vector_store.hnsw == Hnsw()
    assert untuned.memory.vector_store.quantization == Quantization()
    assert tuned.store is not None
    scalar = tuned.store.spec.vector.model_copy(update={"quantization": StoreQuantization(type="scalar")})
    other = replace(tuned, store=Store("memory", tuned.store.spec.model_copy(update={"vector": scalar})))
    assert restart_needed(read(tuned, tmp_path), read(other, tmp_path)) == ["memory"]
    hashes = {agent_config.restart_hash(agent_config.render(given)) for given in (tuned, other)}
    assert len(hashes) == 2


@pytest.mark.parametrize("model", MODELS)
def test_environment_variables_are_ones_the_runtime_reads(model: str) -> None:
    given = inputs(model, "managed", "none", team=False, level="isolated")
    pod = deployment(given, agent_config.render(given))["spec"]["template"]["spec"]
    names = {item["name"] for item in pod["containers"][0]["env"]}
    known = {*ENVIRONMENT_KEYS, "OPENCLAW_CONFIG_PATH", "POD_NAME", "POD_NAMESPACE", "POD_IP"}
    assert names <= {*known, "OPENCLAW_EGRESS_NODE_ADDRESS"}
    node = {"OPENCLAW_EGRESS_NODE_ADDRESS": "192.0.2.7"}
    assert {str(address) for address in api_server(node)} == {"192.0.2.7"}


def test_traces_arrive_where_the_agent_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(lambda _: Reply()) as collector:
        given = agent_inputs("ada", {"observability": {"traces": {"endpoint": collector.url}}})
        (container,) = deployment(given, agent_config.render(given))["spec"]["template"]["spec"]["containers"]
        environment = {item["name"]: item["value"] for item in container["env"] if "value" in item}
        # What exports reads the process's own.
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "team-ada")
        provider = build_tracing(environment, agent="ada", version="1")
        assert provider
        provider.get_tracer("test").start_span("turn").end()
        provider.shutdown()
    (request,) = collector.seen
    assert request.path == "/v1/traces"
    assert provider.resource.attributes["service.name"] == "team-ada"


def test_unknown_keys_are_refused_so_that_the_table_above_means_something(tmp_path: Path) -> None:
    given = inputs("openai", "managed", "none", team=False, level="isolated")
    rendered = agent_config.render(given)
    rendered["gateway"]["prot"] = 1
    path = tmp_path / "config.yaml"
    path.write_text(agent_config.config_map(given, rendered)["data"]["config.yaml"])
    with pytest.raises(Exception, match=r"gateway\.prot"):
        load_config(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"level": "restricted"},
        {"store": "managed"},
        {"store": "external"},
        {"model": "groq"},
        {"model": "several"},
        {"skill": "closed"},
        {"team": True},
        {"timed": True},
        {"memory": REMEMBERING},
        {"memory": {"contextTokens": 4096}},
    ],
    ids=str,
)
def test_pods_are_replaced_exactly_where_the_runtime_needs_it(changed: dict[str, Any], tmp_path: Path) -> None:
    plain: dict[str, Any] = {
        "model": "openai",
        "store": "embedded",
        "skill": "none",
        "team": False,
        "level": "isolated",
    }
    old, new = inputs(**plain), inputs(**{**plain, **changed})
    needed = restart_needed(read(old, tmp_path), read(new, tmp_path))
    hashes = {agent_config.restart_hash(agent_config.render(given)) for given in (old, new)}
    assert (len(hashes) > 1) == bool(needed), needed


@pytest.mark.parametrize("store", [name for name, spec in STORES.items() if spec is not None])
@pytest.mark.parametrize("where", ["s3", "pvc"])
def test_backup_jobs_read_what_the_operator_renders(store: str, where: str, tmp_path: Path) -> None:
    destination = {"s3": {"bucket": "backups", "endpoint": "http://s3:9000"}, "pvc": {"claimName": "c", "path": "a/b"}}
    spec = MemoryStoreSpec.model_validate(
        {**(STORES[store] or {}), "backup": {"destination": {where: destination[where]}, "drill": {}}}
    )
    rendered = backup.build(Owner("MemoryStore", "memory", "demo", "uid"), spec, IMAGES, {"ada": {"role": "x"}})
    (config_map,) = (item for item in rendered if item["kind"] == "ConfigMap")
    file = tmp_path / "backup.yaml"
    file.write_text(config_map["data"][backup.CONFIG_KEY])
    config = load_backup(file)
    assert (config.folder, config.retention_days, config.verify) == ("demo/memory", 7, True)
    assert config.qdrant is not None
    assert len(config.qdrant.nodes) == (1 if store == "external" else 3)
    # Each file it names is where the pod has it.
    assert str(config.resources) == f"{backup.CONFIG_DIR}/{backup.RESOURCES_KEY}"
    wanted = MemoryRestoreSpec.model_validate({"storeRef": {"name": "memory"}, "source": {"store": "other"}})
    text = restore.config_map(Owner("MemoryRestore", "r", "demo", "u"), wanted, Store("memory", spec))["data"]
    file.write_text(text[backup.CONFIG_KEY])
    assert (load_backup(file).folder, load_backup(file).qdrant) == ("demo/other", config.qdrant)
    drilled = drill.build(Owner("MemoryStore", "memory", "demo", "uid"), spec, IMAGES)
    file.write_text(drilled[0]["data"][backup.CONFIG_KEY])
    assert (load_backup(file).folder, load_backup(file).destination) == ("demo/memory", config.destination)
    drill_pod = drilled[2]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    # What the last but one step counts, the last one reads.
    assert f"\\o {backup.WORK_DIR}/{ROWS}\n" in drill_pod["initContainers"][-1]["command"][-1]
    (cron_job,) = (item for item in rendered if item["kind"] == "CronJob")
    pod = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    script = pod["initContainers"][0]["command"][-1]
    assert f"--file={config.records} " in script
    assert f"\\o {config.rows}\n" in script
    mounted = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    named = [config.records, config.resources, config.qdrant.api_key_file, config.destination.directory]
    assert all(any(str(path).startswith(f"{mount}/") for mount in mounted) for path in named if path)
