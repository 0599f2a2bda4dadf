"""MemoryStore: the vector database, records and cache that agents share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from openclaw_operator.api.backup import Backup
from openclaw_operator.api.base import (
    DNS_LABEL,
    HOST_PORT,
    HTTP_URL,
    CommonStatus,
    Model,
    Name,
    Quantity,
    Resources,
    SecretSource,
    cel,
    schema_extra,
)

# On a MemoryStore whose last backup has to be made before it goes.
FINALIZER = "openclaw.io/last-backup"
_ONE_OF = cel("has(self.managed) != has(self.external)", "set exactly one of managed and external")
# A default that is stored belongs to nobody: no apply of `external` would take it away, and both together are refused.
_NOT_STORED: dict[str, Any] = {"default": None}
_SIZE, _QDRANT_SIZE = "10Gi", "100Gi"
_VOLUMES_STAY = "the volumes of a server cannot be changed: make a new MemoryStore with the storage you need"


def _same(size: str, other: str) -> str:
    return f"quantity(string({size})).compareTo(quantity({other})) == 0"


def _unnamed_volume_stays(server: str, size: str) -> dict[str, Any]:
    """A server that is not named has a volume too: to name one is no way to another volume, nor is to leave it out."""

    def fits(spec: str) -> str:
        volume = f"{spec}.{server}.managed.storage"
        usual = _same(f"{volume}.size", f"'{size}'")
        return f"has({spec}.{server}.external) || {usual} && !has({volume}.storageClassName)"

    named, was_named = f"has(self.{server})", f"has(oldSelf.{server})"
    return cel(f"{named} == {was_named} || ({named} ? {fits('self')} : {fits('oldSelf')})", _VOLUMES_STAY, f".{server}")


class Storage(Model):
    """The volume of one replica."""

    model_config = schema_extra(
        cel(
            # What stays as it is has to be taken, though quantity() cannot read it.
            f"(self.size == oldSelf.size || {_same('self.size', 'string(oldSelf.size)')}) && "
            "has(self.storageClassName) == has(oldSelf.storageClassName) && "
            "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
            _VOLUMES_STAY,
        )
    )
    size: Quantity = Field(_SIZE, description="Requested size; it cannot be changed later.")
    storage_class_name: Name | None = Field(None, description="Storage class; the cluster's default when unset.")


class ManagedQdrant(Model):
    """A Qdrant StatefulSet run by the operator."""

    replicas: int = Field(3, ge=1, le=32, description="Qdrant nodes; from 2 on they form a cluster.")
    image: str | None = Field(None, min_length=1, max_length=512, description="Image; the operator's default if unset.")
    storage: Storage = Field(default_factory=lambda: Storage(size=_QDRANT_SIZE), description="Volume of each node.")
    resources: Resources = Field(
        default_factory=lambda: Resources(
            requests={"cpu": "500m", "memory": "1Gi"}, limits={"cpu": "2", "memory": "4Gi"}
        ),
        description="Resources of each node.",
    )


class ExternalQdrant(Model):
    """A Qdrant server that is already there."""

    url: str = Field(pattern=HTTP_URL, max_length=2048, description="Its REST address.")
    api_key: SecretSource | None = Field(None, description="Its API key.")


class Qdrant(Model):
    """A Qdrant server, managed or external."""

    model_config = schema_extra(_ONE_OF)
    managed: ManagedQdrant | None = Field(None, description="Run it here.")
    external: ExternalQdrant | None = Field(None, description="Use one that exists.")


class Hnsw(Model):
    """The graph of nearest neighbours that is searched."""

    m: int = Field(16, ge=4, le=128, description="Edges of each vector: more find better, and need more memory.")
    ef_construct: int = Field(
        200,
        ge=4,
        le=2000,
        description="Candidates while the graph is built: more find better, and take longer to build.",
    )
    ef: int = Field(100, ge=1, le=10000, description="Candidates of a search: more find better, and take longer.")


class Quantization(Model):
    """Small copies of the vectors, which are searched first; the vectors themselves may then leave memory."""

    model_config = schema_extra(
        cel(
            "!has(self.compression) || has(self.type) && self.type == 'product'",
            "compression is for product quantization: set quantization.type to product or remove compression",
            ".compression",
        )
    )
    type: Literal["none", "scalar", "product"] = Field(
        "none", description="scalar keeps a byte of each dimension, product compresses as compression says."
    )
    compression: Literal["x4", "x8", "x16", "x32", "x64"] | None = Field(
        None,
        description="Of product; x64 when unset: a byte for each 16 dimensions, so 16 sub-vectors of 8 bits for 256.",
    )
    oversampling: float = Field(
        16.0,
        ge=1,
        le=100,
        description="So many times the matches asked for are compared in full; x64 needs the default, scalar only 2.",
    )


class Vector(Model):
    """Where embeddings live."""

    model_config = schema_extra(_unnamed_volume_stays("qdrant", _QDRANT_SIZE))
    hnsw: Hnsw = Field(default_factory=Hnsw, description="How they are searched.")
    quantization: Quantization = Field(default_factory=Quantization, description="How they are compressed.")
    qdrant: Qdrant = Field(
        default_factory=lambda: Qdrant(managed=ManagedQdrant()),
        description="Qdrant; managed when unset.",
        json_schema_extra=_NOT_STORED,
    )


class ManagedServer(Model):
    """A one-replica StatefulSet run by the operator."""

    image: str | None = Field(None, min_length=1, max_length=512, description="Image; the operator's default if unset.")
    # The API server checks a default against the CEL rules before it fills in nested defaults.
    storage: Storage = Field(default_factory=lambda: Storage(size=_SIZE), description="Its volume.")
    resources: Resources = Field(
        default_factory=lambda: Resources(
            requests={"cpu": "100m", "memory": "256Mi"}, limits={"cpu": "1", "memory": "1Gi"}
        ),
        description="Its resources.",
    )


class ExternalPostgreSQL(Model):
    """A PostgreSQL server that is already there."""

    url: str = Field(
        pattern=rf"^postgresql://[^:@/\s]+@{HOST_PORT}/[^\s/?]+(\?[^\s]*)?$",
        max_length=2048,
        description="postgresql://user@host:5432/database, without the password.",
    )
    password: SecretSource | None = Field(None, description="The user's password.")


class PostgreSQL(Model):
    """A PostgreSQL server, managed or external."""

    model_config = schema_extra(_ONE_OF)
    managed: ManagedServer | None = Field(None, description="Run it here.")
    external: ExternalPostgreSQL | None = Field(None, description="Use one that exists.")


class Records(Model):
    """Where records live."""

    model_config = schema_extra(_unnamed_volume_stays("postgresql", _SIZE))
    postgresql: PostgreSQL = Field(
        default_factory=lambda: PostgreSQL(managed=ManagedServer()),
        description="PostgreSQL; managed when unset.",
        json_schema_extra=_NOT_STORED,
    )


class ExternalRedis(Model):
    """A server of the Redis protocol that is already there."""

    url: str = Field(
        pattern=rf"^rediss?://{HOST_PORT}(/[0-9]+)?$",
        max_length=2048,
        description="redis://host:6379/0, or rediss:// for TLS, without the password.",
    )
    password: SecretSource | None = Field(None, description="Its password.")


class Redis(Model):
    """A server of the Redis protocol, managed or external."""

    model_config = schema_extra(_ONE_OF)
    managed: ManagedServer | None = Field(None, description="Run it here.")
    external: ExternalRedis | None = Field(None, description="Use one that exists.")


class Cache(Model):
    """The shared cache, which is also the event bus of the agents."""

    model_config = schema_extra(_unnamed_volume_stays("redis", _SIZE))
    redis: Redis = Field(
        default_factory=lambda: Redis(managed=ManagedServer()),
        description="Redis; managed when unset.",
        json_schema_extra=_NOT_STORED,
    )


class Embedding(Model):
    """How text becomes vectors; it must stay the same for the life of the store."""

    model_config = schema_extra(
        cel(
            "self.provider != 'openai-compatible' || has(self.baseURL)",
            "provider openai-compatible needs a server: set embedding.baseURL",
            ".baseURL",
        ),
        cel(
            "self.provider == 'wordllama' || has(self.model)",
            "this provider needs a model: set embedding.model, for example text-embedding-3-small",
            ".model",
        ),
        cel(
            "self.provider != 'wordllama' || self.dimensions == 256",
            "wordllama makes vectors of 256 dimensions: set embedding.dimensions to 256 or choose another provider",
            ".dimensions",
        ),
    )
    provider: Literal["wordllama", "openai", "openai-compatible"] = Field(
        "wordllama", description="wordllama runs inside the gateway and needs no network."
    )
    model: str | None = Field(None, min_length=1, max_length=253, description="Model name; wordllama has one.")
    dimensions: int = Field(256, ge=64, le=8192, description="Length of the vectors.")
    base_url: str | None = Field(
        None, alias="baseURL", pattern=HTTP_URL, max_length=2048, description="Address of the embedding API."
    )
    credentials: SecretSource | None = Field(None, description="Its API key; the Agent's own when unset.")


class HotTier(Model):
    """Copies in the memory of each gateway, found by their words as well; losing them loses nothing."""

    records: int = Field(1000, ge=1, le=10000, description="Records of an agent, those written or recalled last.")
    max_age_seconds: int = Field(
        3600, ge=1, le=31536000, description="How long after it was written or recalled a record is kept in memory."
    )


class WarmTier(Model):
    """Rows of the records' database, read by time and kind."""

    records: int = Field(10000, ge=1, le=10000000, description="Records of an agent; the oldest leave first.")
    max_age_seconds: int = Field(86400, ge=1, le=315360000, description="Older records leave, once they have vectors.")


class ColdTier(Model):
    """Compressed in the records' database, and found by their vectors; what has no room here is forgotten."""

    records: int = Field(
        100000, ge=1, le=10000000, description="Records of an agent; of the oldest, the least important go first."
    )
    max_age_seconds: int = Field(
        604800,
        ge=1,
        le=315360000,
        description="Older records are forgotten, but for those whose author thought them important (0.7 and more), as "
        "summaries are.",
    )


class Tiers(Model):
    """Where each agent's records are as they get older, and when they are forgotten."""

    model_config = schema_extra(
        cel(
            # The default of a tier is checked before its fields have theirs.
            "!has(self.hot.records) || !has(self.warm.records) || !has(self.cold.records) || "
            "self.hot.records <= self.warm.records && self.warm.records <= self.cold.records",
            "each tier holds what the one before has no room for: set records of hot, warm and cold in growing order",
        ),
        cel(
            "!has(self.hot.maxAgeSeconds) || !has(self.warm.maxAgeSeconds) || !has(self.cold.maxAgeSeconds) || "
            "self.hot.maxAgeSeconds <= self.warm.maxAgeSeconds && self.warm.maxAgeSeconds <= self.cold.maxAgeSeconds",
            "records get older from tier to tier: set maxAgeSeconds of hot, warm and cold in growing order",
        ),
    )
    hot: HotTier = Field(default_factory=HotTier, description="In memory.")
    warm: WarmTier = Field(default_factory=WarmTier, description="In SQL.")
    cold: ColdTier = Field(default_factory=ColdTier, description="Compressed, and found by vectors.")


class MemoryStoreSpec(Model):
    """Desired state of a MemoryStore."""

    model_config = schema_extra(
        # The API server checks a default against the CEL rules before it fills in nested defaults.
        cel(
            "!has(self.deletionPolicy) || self.deletionPolicy != 'Snapshot' || has(self.backup)",
            "deletionPolicy Snapshot makes a last backup: set spec.backup to say where to, or choose Retain or Delete",
            ".deletionPolicy",
        )
    )
    vector: Vector = Field(default_factory=Vector, description="Vectors, for recall by meaning.")
    records: Records = Field(default_factory=Records, description="Records, for recall by time, type and tag.")
    cache: Cache = Field(default_factory=Cache, description="Cache and event bus.")
    embedding: Embedding = Field(
        # The API server checks a default against the CEL rules before it fills in nested defaults.
        default_factory=lambda: Embedding(provider="wordllama", dimensions=256),
        description="How text becomes vectors.",
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    "self.provider == oldSelf.provider && self.dimensions == oldSelf.dimensions",
                    "stored vectors would no longer match: make a new MemoryStore to change provider or dimensions",
                )
            ]
        },
    )
    tiers: Tiers | None = Field(
        None,
        description="Limits of what each agent remembers; without them nothing is ever forgotten, and all is warm.",
    )
    backup: Backup | None = Field(None, description="Regular backups; none when unset.")
    deletion_policy: Literal["Retain", "Delete", "Snapshot"] = Field(
        "Retain",
        description="What happens to the volumes of managed servers when the MemoryStore is deleted. Snapshot makes a "
        "last backup as spec.backup says while the servers still run, then deletes them; the MemoryStore stays until "
        "that is done.",
    )


class Endpoints(Model):
    """Addresses of the servers inside the cluster."""

    qdrant: str | None = Field(None, description="REST address of Qdrant.")
    postgresql: str | None = Field(None, description="Host and port of PostgreSQL.")
    redis: str | None = Field(None, description="Host and port of Redis.")


class LastDrill(Model):
    """How the last drill of a restore ended."""

    time: str = Field(description="When it began, or ended well.", json_schema_extra={"format": "date-time"})
    proven: bool = Field(description="Whether everything came back.")
    backup: str | None = Field(None, description="Name of the backup that was restored.")
    rows: int | None = Field(None, description="Rows of all tables that came back.")
    points: int | None = Field(None, description="Points of all collections that came back.")


class MemoryStoreStatus(CommonStatus):
    """Observed state of a MemoryStore."""

    endpoints: Endpoints | None = Field(None, description="Where the servers are.")
    credentials_secret: str | None = Field(None, description="Secret with the generated credentials.")
    qdrant_ready: str | None = Field(None, description="Ready and wanted Qdrant nodes, for example 3/3.")
    users: int | None = Field(None, description="How many agents use it.")
    last_drill: LastDrill | None = Field(None, description="The last drill of spec.backup.drill.")


class MemoryStore(Model):
    """Long-term memory shared by agents: vectors in Qdrant, records in PostgreSQL, cache and bus in Redis."""

    # StatefulSet pods are named <name>-postgresql-0 and carry a controller-revision-hash label of that length + 11.
    model_config = schema_extra(
        cel(
            f"self.metadata.name.size() <= 40 && self.metadata.name.matches('{DNS_LABEL}')",
            "metadata.name must be a DNS label of at most 40 characters (lower case letters, digits, '-'), "
            "because Services are named after it",
        )
    )
    spec: MemoryStoreSpec = Field(default_factory=MemoryStoreSpec, description="Desired state.")
    status: MemoryStoreStatus | None = Field(None, description="Observed state, written by the operator.")


MEMORYSTORE_CRD: dict[str, Any] = {
    "kind": "MemoryStore",
    "plural": "memorystores",
    "singular": "memorystore",
    "short": "ms",
    "model": MemoryStore,
    "columns": [
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
        ("Qdrant", "string", ".status.qdrantReady", 0),
        ("Backup", "string", ".spec.backup.schedule", 0),
        ("Users", "integer", ".status.users", 0),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
        ("Age", "date", ".metadata.creationTimestamp", 0),
    ],
}
