"""The configuration: what is accepted, and the one line that each mistake gets."""

from pathlib import Path

import pytest

from openclaw_runtime.config import (
    RuntimeConfig,
    default_config_path,
    load_config,
    load_environment,
    parse_config,
)
from openclaw_runtime.errors import ConfigError
from openclaw_runtime.gateway.assembly import gateway_token
from openclaw_runtime.gateway.reload import restart_needed
from openclaw_runtime.secrets import read_secret

LAPTOP = """
version: '2026.1'
claw: {name: code_assistant, model_provider: openai, model: gpt-4o-mini}
memory:
  type: hybrid
  vector_store: {provider: qdrant, path: ~/.openclaw/vector_db}
  file_memory: {path: ~/.openclaw/memories, auto_summarize: true, summary_interval: 1000}
skills: {auto_discover: true, trusted_registries: [ghcr.io/openclaw], security_level: strict}
execution: {timeout: 300000, max_concurrent: 3, sandbox: {enabled: true, level: isolated}}
developer: {debug: false, log_level: info, telemetry: false}
"""


def test_the_documented_file_is_accepted_and_its_paths_expanded() -> None:
    config = parse_config(LAPTOP, "config.yaml")
    assert config.memory.vector_store.path == Path.home() / ".openclaw/vector_db"
    assert config.execution.timeout_seconds == 300


def test_an_empty_file_means_the_defaults() -> None:
    assert parse_config("", "config.yaml") == RuntimeConfig()


def test_the_version_may_be_written_without_quotes() -> None:
    assert parse_config("version: 2026.1", "c").version == "2026.1"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [", "c: line 1, column 5: not valid YAML: expected the node content, but found '<stream end>'"),
        ("[]", "c: must be a mapping of sections, like claw: and memory:"),
        ("memroy: {}", "c: memroy: unknown key; did you mean memory?"),
        ("memory: {type: foo}", "c: memory.type: 'foo' is not allowed; allowed: 'hybrid', 'vector', 'file'"),
        ("version: 2025.1", "c: version: 2025.1 is not allowed; allowed: '2026.1'"),
        ("bus: {provider: redis, url: 'http://x'}", "c: bus.url: 'http://x' is not allowed; string should match"),
        (
            "gateway: {port: 99999}",
            "c: gateway.port: 99999 is not allowed; input should be less than",
        ),
        ("claw: {settings: {temprature: 1}}", "c: claw.settings.temprature: unknown key; did you mean temperature?"),
        ("bus: {provider: redis}", "c: bus: url is missing; provider redis needs one, like redis://host:6379/0"),
        ("memory: {vector_store: {url: a, path: b}}", "c: memory.vector_store: url and path are both set"),
        (
            "memory: {vector_store: {quantization: {type: scalar, compression: x8}}}",
            "c: memory.vector_store.quantization: compression is x8, which is for type product",
        ),
        ("memory: {vector_store: {hnsw: {m: 0}}}", "c: memory.vector_store.hnsw.m: 0 is not allowed; input should be"),
        ("memory: {embedding: {dimensions: 8}}", "c: memory.embedding: dimensions is 8; wordllama has exactly 256"),
        ("skills: {installed: [{digest: x}]}", "c: skills.installed.0.name: is missing and has no default"),
        ("execution: {sandbox: {provider: pods}}", "c: execution.sandbox: signing_key_file is missing"),
    ],
)
def test_a_mistake_is_one_line_with_path_value_and_what_is_allowed(text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "c")
    assert str(caught.value).splitlines()[0].startswith(line)


@pytest.mark.parametrize(
    "text",
    [
        "bus: {provider: redis, url: 'redis://:hunter2@host/0'}",
        "memory: {records: {url: 'postgresql+asyncpg://u:hunter2@host/db'}}",
        "memory: {records: {url: 'mysql://u:hunter2@host/db'}}",
        "memory: {vector_store: {api_key: hunter2}}",
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "c")
    assert "hunter2" not in str(caught.value)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(tmp_path / "binary")


def test_the_environment_wins_over_the_env_file_and_empty_means_unset(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=from-file\nGROQ_API_KEY=from-file\nUNRELATED=x\nGITHUB_TOKEN=\n")
    found = load_environment(tmp_path, {"OPENAI_API_KEY": "from-environment", "GROQ_API_KEY": "", "HOME": "/"})
    assert found == {"OPENAI_API_KEY": "from-environment", "GROQ_API_KEY": "from-file"}


def test_the_path_of_the_configuration_can_be_chosen() -> None:
    assert default_config_path({"OPENCLAW_CONFIG_PATH": "/x/y.yaml"}) == Path("/x/y.yaml")
    assert default_config_path({}) == Path.home() / ".openclaw/config.yaml"


def test_a_token_is_read_trimmed_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    secret = read_secret(tmp_path / "token", "gateway.token_file")
    assert secret.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(secret)


def test_only_dev_makes_a_token() -> None:
    first, fresh = gateway_token(RuntimeConfig(), dev=True)
    assert fresh
    assert len(first.get_secret_value()) >= 32
    assert gateway_token(RuntimeConfig(), dev=True)[0] != first
    with pytest.raises(ConfigError, match=r"gateway.token_file: is missing; .*--dev"):
        gateway_token(RuntimeConfig(), dev=False)


def test_what_a_reload_cannot_change_is_named() -> None:
    old = parse_config(LAPTOP, "c")
    live = old.model_copy(update={"claw": old.claw.model_copy(update={"soul": "other", "model": "gpt-4o"})})
    assert restart_needed(old, live) == []
    fixed = old.model_copy(
        update={
            "claw": old.claw.model_copy(update={"name": "other"}),
            "gateway": old.gateway.model_copy(update={"port": 1}),
        }
    )
    assert restart_needed(old, fixed) == ["claw.name", "gateway"]
