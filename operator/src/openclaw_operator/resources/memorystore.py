"""All children of a MemoryStore, in the order they are needed."""

from __future__ import annotations

from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.resources import backup, databases, qdrant
from openclaw_operator.resources.meta import Images, Object, Owner


def build(owner: Owner, spec: MemoryStoreSpec, images: Images) -> list[Object]:
    """Every child but the credentials Secret, whose values are made once and not built."""
    children: list[Object] = []
    policy = spec.deletion_policy
    if spec.vector.qdrant.managed:
        children += qdrant.build(owner, spec.vector.qdrant.managed, policy, images)
    if spec.records.postgresql.managed:
        children += databases.postgresql(owner, spec.records.postgresql.managed, policy, images)
    if spec.cache.redis.managed:
        children += databases.redis(owner, spec.cache.redis.managed, policy, images)
    return children + backup.build(owner, spec, images)
