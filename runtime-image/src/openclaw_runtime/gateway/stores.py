"""The stores and the bus that a configuration names; nothing is opened here."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import SecretStr

from openclaw_runtime.bus.messages import Transport
from openclaw_runtime.config import Bus, Embedding, RuntimeConfig
from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.gateway.surroundings import Surroundings
from openclaw_runtime.memory.files import MemoryFiles
from openclaw_runtime.memory.ranking import Ranking
from openclaw_runtime.memory.records import RecordStore
from openclaw_runtime.memory.summaries import SummaryStore
from openclaw_runtime.memory.tiers import TierStore
from openclaw_runtime.memory.types import Embedder, VectorIndex
from openclaw_runtime.memory.uses import UseStore
from openclaw_runtime.secrets import Secret, SecretFile, read_secret
from openclaw_runtime.skills.rates import LocalRates, Rates, SharedRates
from openclaw_runtime.sparing import SparingRedis


def files(config: RuntimeConfig, data_dir: Path) -> MemoryFiles | None:
    """Files belong to memory that is on this machine; replicas of a shared memory have no folder in common."""
    memory = config.memory
    if memory.type == "vector":
        return None
    if memory.file_memory.path is not None:
        return MemoryFiles(memory.file_memory.path)
    return (
        None
        if memory.records.url and not memory.records.url.startswith("sqlite")
        else MemoryFiles(data_dir / "memories")
    )


def records(config: RuntimeConfig, data_dir: Path) -> RecordStore:
    """The database of records and sessions. Raises `ConfigError` when its password cannot be read."""
    records = config.memory.records
    password = read_secret(records.password_file, "memory.records.password_file") if records.password_file else None
    return RecordStore(records.url or f"sqlite+aiosqlite:///{data_dir / 'records.db'}", password=password)


def ranking(config: RuntimeConfig, records: RecordStore, around: Surroundings) -> Ranking:
    """What orders an agent's matches, beside its records."""
    claw = config.claw
    uses = UseStore(records, namespace=claw.namespace, agent=claw.name)
    return Ranking(uses, config.memory.importance, now=around.now, sleep=around.sleep)


def summaries(config: RuntimeConfig, records: RecordStore, around: Surroundings) -> SummaryStore:
    """How far an agent's records are summarised, beside them."""
    claw = config.claw
    return SummaryStore(records, namespace=claw.namespace, agent=claw.name, replica=around.replica)


def tiers(config: RuntimeConfig, records: RecordStore) -> TierStore:
    """The tiers of an agent's records."""
    return TierStore(records, namespace=config.claw.namespace, agent=config.claw.name)


def vectors(config: RuntimeConfig, around: Surroundings) -> tuple[VectorIndex, Embedder] | None:
    """The index of vectors and what makes them; None where memory is only files. Raises `ConfigError`."""
    store = config.memory.vector_store
    if config.memory.type == "file":
        return None
    made = embedder(config.memory.embedding, around.environment)
    if store.url:
        from openclaw_runtime.memory.qdrant_server import ServerIndex

        key = read_secret(store.api_key_file, "memory.vector_store.api_key_file") if store.api_key_file else None
        server = ServerIndex(
            store.collection, url=store.url, api_key=key, hnsw=store.hnsw, quantization=store.quantization
        )
        return server, made
    from openclaw_runtime.memory.qdrant_embedded import EmbeddedIndex

    path = store.path or around.data_dir / "vector_db"
    return EmbeddedIndex(path, hnsw=store.hnsw, quantization=store.quantization), made


def embedder(embedding: Embedding, environment: Mapping[str, str]) -> Embedder:
    """What makes vectors of texts. Raises `ConfigError` when its key is missing or cannot be read."""
    from openclaw_runtime.memory.embeddings import EndpointEmbedder, WordLlamaEmbedder

    if embedding.provider == "wordllama":
        return WordLlamaEmbedder()
    if embedding.api_key_file:
        key: Secret | None = SecretFile(embedding.api_key_file, "memory.embedding.api_key_file")
    else:
        own = environment.get("OPENAI_API_KEY")
        key = SecretStr(own) if own else None
    if embedding.provider == "openai" and not key:
        problem = ConfigProblem(
            "memory.embedding.provider", "openai needs api_key_file, or OPENAI_API_KEY in the environment or .env"
        )
        raise ConfigError("memory", [problem])
    return EndpointEmbedder(
        embedding.model or "",
        embedding.dimensions,
        base_url=embedding.base_url,
        api_key=key,
    )


def bus_password(bus: Bus) -> str | None:
    """The password of the Redis of the bus, if it has one. Raises `ConfigError` when it cannot be read."""
    return read_secret(bus.password_file, "bus.password_file").get_secret_value() if bus.password_file else None


def spared(config: RuntimeConfig, timer: Callable[[], float], user: str) -> SparingRedis | None:
    """The Redis of the bus for what may do without it; None where there is none. Raises `ConfigError`."""
    bus = config.bus
    if bus.provider != "redis" or bus.url is None:
        return None
    return SparingRedis(bus.url, password=bus_password(bus), timer=timer, user=user)


def rates(config: RuntimeConfig, timer: Callable[[], float]) -> Rates:
    """What counts the calls of skills. Raises `ConfigError`."""
    redis, claw = spared(config, timer, "the rate limit of skills"), config.claw
    if redis is None:
        return LocalRates(timer)
    return SharedRates(redis, prefix=f"openclaw:{claw.namespace}:skill-calls:{claw.name}:", timer=timer)


def transport(config: RuntimeConfig, around: Surroundings) -> Transport:
    """What carries messages between agents. Raises `ConfigError`."""
    bus = config.bus
    if bus.provider == "memory":
        from openclaw_runtime.bus.local import LocalBroker, LocalTransport

        return LocalTransport(around.broker or LocalBroker())
    from openclaw_runtime.bus.streams import RedisTransport

    assert bus.url is not None
    return RedisTransport(
        bus.url,
        namespace=config.claw.namespace,
        replica=around.replica,
        now_ms=lambda: int(around.now() * 1000),
        password=bus_password(bus),
    )
