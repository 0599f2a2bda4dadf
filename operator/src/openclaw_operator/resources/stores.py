"""How an agent (or a backup) reaches the servers of a MemoryStore: addresses and secret files."""

from __future__ import annotations

from urllib.parse import urlsplit

from openclaw_operator.api.base import KeyRef
from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.errors import SpecError
from openclaw_operator.resources.meta import Object

QDRANT_KEY, POSTGRESQL_KEY, REDIS_KEY = "qdrant-api-key", "postgresql-password", "redis-password"
EMBEDDING_KEY = "embedding-api-key"
QDRANT_PORT, QDRANT_GRPC_PORT, QDRANT_P2P_PORT, POSTGRESQL_PORT, REDIS_PORT = 6333, 6334, 6335, 5432, 6379
DATABASE = "openclaw"


def credentials_secret(store: str) -> str:
    """Name of the Secret with the generated credentials."""
    return f"{store}-memory"


def qdrant_url(store: str, spec: MemoryStoreSpec) -> str:
    """REST address of Qdrant."""
    external = spec.vector.qdrant.external
    return external.url if external else f"http://{store}-qdrant:{QDRANT_PORT}"


def postgresql_url(store: str, spec: MemoryStoreSpec) -> str:
    """postgresql://user@host:port/database, without the password."""
    external = spec.records.postgresql.external
    return external.url if external else f"postgresql://{DATABASE}@{store}-postgresql:{POSTGRESQL_PORT}/{DATABASE}"


def redis_url(store: str, spec: MemoryStoreSpec) -> str:
    """redis:// address of the cache and bus."""
    external = spec.cache.redis.external
    return external.url if external else f"redis://{store}-redis:{REDIS_PORT}/0"


def secret_files(store: str, spec: MemoryStoreSpec) -> dict[str, KeyRef]:
    """File name under /etc/openclaw/memory → the Secret key it comes from; servers without a password have none."""
    generated = credentials_secret(store)
    files: dict[str, KeyRef] = {}
    qdrant, postgresql, redis = spec.vector.qdrant, spec.records.postgresql, spec.cache.redis
    for key, managed, external in (
        (QDRANT_KEY, qdrant.managed, qdrant.external.api_key if qdrant.external else None),
        (POSTGRESQL_KEY, postgresql.managed, postgresql.external.password if postgresql.external else None),
        (REDIS_KEY, redis.managed, redis.external.password if redis.external else None),
    ):
        if external is not None:
            files[key] = external.secret_key_ref
        elif managed is not None:
            files[key] = KeyRef(name=generated, key=key)
    return files


def gateway_files(store: str, spec: MemoryStoreSpec) -> dict[str, KeyRef]:
    """What gateways get under /etc/openclaw/memory: the servers' secrets, and the key of the embedding API."""
    credentials = spec.embedding.credentials
    embedding = {EMBEDDING_KEY: credentials.secret_key_ref} if credentials else {}
    return {**secret_files(store, spec), **embedding}


def user_secrets(spec: MemoryStoreSpec) -> dict[str, KeyRef]:
    """Field of the spec → Secret key of the user's that it names."""
    named: dict[str, KeyRef] = {}
    qdrant, postgresql, redis = spec.vector.qdrant, spec.records.postgresql, spec.cache.redis
    if qdrant.external and qdrant.external.api_key:
        named["spec.vector.qdrant.external.apiKey"] = qdrant.external.api_key.secret_key_ref
    if postgresql.external and postgresql.external.password:
        named["spec.records.postgresql.external.password"] = postgresql.external.password.secret_key_ref
    if redis.external and redis.external.password:
        named["spec.cache.redis.external.password"] = redis.external.password.secret_key_ref
    if spec.embedding.credentials:
        named["spec.embedding.credentials"] = spec.embedding.credentials.secret_key_ref
    return named


def projected(files: dict[str, KeyRef]) -> list[Object]:
    """Sources of a projected volume: path → Secret key, one source per Secret."""
    by_secret: dict[str, list[Object]] = {}
    for path, ref in sorted(files.items()):
        by_secret.setdefault(ref.name, []).append({"key": ref.key, "path": path})
    return [{"secret": {"name": name, "items": items}} for name, items in sorted(by_secret.items())]


def ports(urls: tuple[str | None, ...]) -> list[int]:
    """The TCP ports of some addresses, sorted; their scheme's port where none is written.

    Raises SpecError for an address that no client could parse either.
    """
    known = {"http": 80, "https": 443, "postgresql": POSTGRESQL_PORT, "redis": REDIS_PORT, "rediss": REDIS_PORT}
    found = set()
    for url in urls:
        if url:
            try:
                parts = urlsplit(url)
                found.add(parts.port or known.get(parts.scheme, 443))
            except ValueError as error:
                raise SpecError(
                    "InvalidURL", f"{url!r} is no URL ({error}): correct it where the spec names it"
                ) from None
    return sorted(found)
