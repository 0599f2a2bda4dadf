"""The runtime configuration of an agent: the ConfigMap key config.yaml the gateway reads and reloads."""

from __future__ import annotations

from typing import Any

from openclaw_operator import jsonyaml
from openclaw_operator.api.memory import AgentMemory
from openclaw_operator.resources import agent_models, schedules, stores
from openclaw_operator.resources.inputs import AgentInputs, ResolvedSkill
from openclaw_operator.resources.meta import (
    ACTIVATOR_API_PORT,
    ACTIVATOR_NAME,
    EGRESS_API_PORT,
    EGRESS_NAME,
    EGRESS_PORT,
    GATEWAY_PORT,
    MEMORY_DIR,
    SANDBOX_PORT,
    Object,
    child,
    digest,
    labels,
)
from openclaw_operator.resources.package import PACKAGE_KEY

CONFIG_KEY = "config.yaml"
DRAIN_SECONDS = 20
SKILL_SECRETS_DIR = "/etc/openclaw/skills"
WORKSPACE_DIR = "/workspace"
EMBEDDED_DATA_DIR = f"{WORKSPACE_DIR}/.openclaw"
_LIVE_MEMORY = ("importance", "summarization", "tiers")


def default_soul(name: str, role: str, description: str) -> str:
    """The system prompt of an agent whose author wrote none."""
    sentence = f" {description}" if description else ""
    return f"You are {name}, an AI agent with the role {role}.{sentence}"


def render(inputs: AgentInputs) -> dict[str, Any]:
    """The configuration as data."""
    spec, owner = inputs.spec, inputs.owner
    settings = spec.model.settings
    config: dict[str, Any] = {
        "version": "2026.1",
        "claw": {
            "name": owner.name,
            "role": spec.role,
            "description": spec.description,
            "soul": inputs.soul,
            "model_provider": spec.model.provider,
            "model": spec.model.name,
            "base_url": spec.model.base_url,
            **({"api_key_file": key_file} if (key_file := agent_models.key_file(spec.model)) else {}),
            "settings": settings.model_dump(exclude_none=True) if settings else {},
            **agent_models.figures(spec.model),
            "namespace": owner.namespace,
        },
        "models": agent_models.render(spec.model),
        "gateway": {
            "host": "0.0.0.0",
            "port": GATEWAY_PORT,
            "token_file": "/etc/openclaw/token/token",
            "drain_seconds": DRAIN_SECONDS,
        },
        "memory": _memory(inputs),
        "bus": _bus(inputs),
        "skills": {"auto_discover": True, "installed": [_skill(skill) for skill in inputs.skills]},
        "execution": {
            "timeout": spec.execution.timeout_seconds * 1000,
            "ask_timeout": spec.execution.ask_timeout_seconds * 1000,
            "max_concurrent": spec.execution.max_concurrent,
            "sandbox": {
                "enabled": True,
                "level": spec.execution.sandbox.level,
                "provider": "pods",
                "signing_key_file": "/etc/openclaw/sandbox/private.key",
                "port": SANDBOX_PORT,
                "egress": _egress(inputs),
                **({"denied_networks": list(inputs.egress.denied)} if inputs.egress.denied else {}),
                **({"allow_api_server": True} if inputs.egress.allow_api_server else {}),
            },
        },
    }
    if timed := schedules.render(spec, inputs.skills):
        config["schedules"] = timed
    if inputs.meets_activator:
        config["activator"] = {
            "host": ACTIVATOR_NAME,
            "port": ACTIVATOR_API_PORT,
            "reports": spec.gateway.hibernation is not None,
        }
    if spec.team:
        config["team"] = {
            "members": [
                {
                    "name": member.name,
                    "role": member.role,
                    "description": member.description,
                    "skills": list(member.skills),
                }
                for member in inputs.team
            ]
        }
    return config


def _egress(inputs: AgentInputs) -> dict[str, Any] | None:
    return {"host": EGRESS_NAME, "port": EGRESS_PORT, "api_port": EGRESS_API_PORT} if inputs.egress.enabled else None


def _memory(inputs: AgentInputs) -> dict[str, Any]:
    memory: dict[str, Any] = {
        "type": "hybrid",
        "context_tokens": inputs.spec.memory.context_tokens,
        **_remembering(inputs.spec.memory),
    }
    store = inputs.store
    if store is None:
        memory["vector_store"] = {"provider": "qdrant", "path": f"{EMBEDDED_DATA_DIR}/vectors"}
        memory["records"] = {"url": f"sqlite+aiosqlite:///{EMBEDDED_DATA_DIR}/records.db"}
        return memory
    files = stores.gateway_files(store.name, store.spec)
    memory["vector_store"] = {
        "provider": "qdrant",
        "url": stores.qdrant_url(store.name, store.spec),
        "api_key_file": _file(files, stores.QDRANT_KEY),
        "collection": "openclaw",
        "hnsw": store.spec.vector.hnsw.model_dump(),
        "quantization": store.spec.vector.quantization.model_dump(exclude_none=True),
    }
    memory["records"] = {
        "url": stores.postgresql_url(store.name, store.spec).replace("postgresql://", "postgresql+asyncpg://", 1),
        "password_file": _file(files, stores.POSTGRESQL_KEY),
    }
    if tiers := store.spec.tiers:
        memory["tiers"] = {
            name: {"records": tier.records, "max_age": tier.max_age_seconds}
            for name, tier in (("hot", tiers.hot), ("warm", tiers.warm), ("cold", tiers.cold))
        }
    embedding = store.spec.embedding
    memory["embedding"] = {
        "provider": embedding.provider,
        "model": embedding.model,
        "dimensions": embedding.dimensions,
        "base_url": embedding.base_url,
        "api_key_file": _file(files, stores.EMBEDDING_KEY) or _own_key(inputs),
    }
    return memory


def _own_key(inputs: AgentInputs) -> str | None:
    """The key of the agent's own model, for an embedding API that it fits and that has none of its own."""
    store, model = inputs.store, inputs.spec.model
    fits = store and store.embedding.provider != "wordllama" and model.provider not in ("anthropic", "groq")
    return agent_models.key_file(model) if fits else None


def _remembering(memory: AgentMemory) -> dict[str, Any]:
    """What a gateway takes up while it runs."""
    weights = memory.importance_weights
    return {
        "importance": {
            "access_count": weights.access_count,
            "recency": weights.recency,
            "relevance": weights.relevance,
            "user_feedback": weights.user_feedback,
            "rate": weights.adaptation_rate,
        },
        "summarization": memory.summarization.model_dump(),
    }


def _bus(inputs: AgentInputs) -> dict[str, Any]:
    store = inputs.store
    if store is None:
        return {"provider": "memory"}
    files = stores.secret_files(store.name, store.spec)
    return {
        "provider": "redis",
        "url": stores.redis_url(store.name, store.spec),
        "password_file": _file(files, stores.REDIS_KEY),
    }


def _file(files: dict[str, Any], key: str) -> str | None:
    return f"{MEMORY_DIR}/{key}" if key in files else None


def _skill(skill: ResolvedSkill) -> dict[str, Any]:
    spec = skill.spec
    return {
        "name": skill.name,
        "version": spec.version,
        "description": spec.description,
        "digest": skill.digest,
        "package": {"config_map": skill.package, "key": PACKAGE_KEY} if skill.package else None,
        "runtime": spec.runtime,
        "entrypoint": spec.main_file or "",
        **({"command": list(spec.command)} if spec.command else {}),
        "actions": [
            {
                "name": action.name,
                "description": action.description,
                "input_schema": action.input_schema or {"type": "object"},
                "output_schema": action.output_schema,
                "timeout_seconds": action.timeout_seconds,
            }
            for action in spec.actions
        ],
        "permissions": sorted(spec.permissions),
        "allowed_domains": sorted(spec.allowed_domains),
        "level": skill.level,
        "pool": skill.pool.id if skill.pool else None,
        # Of a trusted skill, too: it runs in the gateway's pod, but no call may have more than its Skill says.
        **({"memory": str(memory)} if (memory := spec.resources.limits.get("memory")) else {}),
        "config": skill.config,
        "secret_files": {name: f"{SKILL_SECRETS_DIR}/{skill.name}/{name}" for name in sorted(skill.secrets)},
        "rate_limit": {"calls": spec.rate_limit.calls, "per_seconds": spec.rate_limit.per_seconds},
        "triggers": [trigger.model_dump(exclude_none=True) for trigger in spec.triggers if skill.triggers],
        **({"mcp": spec.mcp.model_dump(exclude_none=True)} if spec.mcp else {}),
    }


def restart_hash(config: dict[str, Any]) -> str:
    """A hash over what the gateway reads once at start; everything else it reloads from the mounted file."""
    fixed = {key: config[key] for key in ("gateway", "bus")}
    memory = {key: value for key, value in config["memory"].items() if key not in _LIVE_MEMORY}
    return digest({**fixed, "memory": memory, "sandbox": config["execution"]["sandbox"]})


def config_map(inputs: AgentInputs, config: dict[str, Any]) -> Object:
    """The ConfigMap <agent>-gateway. JSON is YAML, and is written a hundred times faster."""
    text = jsonyaml.dumps(config, indent=2) + "\n"
    return child(
        "v1",
        "ConfigMap",
        inputs.gateway,
        inputs.owner,
        labels(inputs.owner, "gateway", "config"),
        data={CONFIG_KEY: text},
    )
