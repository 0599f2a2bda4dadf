"""All children of a MemoryStore, in the order they are needed."""

from __future__ import annotations

from openclaw_operator.api.base import DeletionPolicy
from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.resources import backup, databases, drill, qdrant
from openclaw_operator.resources.meta import Images, Object, Owner


def volumes(spec: MemoryStoreSpec, *, saved: bool = False) -> DeletionPolicy:
    """What becomes of the volumes if the MemoryStore went now; `saved`: its last backup was made.

    Until then Snapshot keeps them, however the MemoryStore goes: its finalizer may be taken away by hand.
    """
    if spec.deletion_policy == "Snapshot":
        return "Delete" if saved else "Retain"
    return spec.deletion_policy


def build(
    owner: Owner,
    spec: MemoryStoreSpec,
    images: Images,
    users: backup.Users,
    *,
    held: bool = False,
    saved: bool = False,
) -> list[Object]:
    """Every child but the credentials Secret, whose values are made once and not built.

    `users` are the specs of the Agents that use the store, which its backups keep a copy of; `held` ones are not made.
    `saved`: see volumes.
    """
    children: list[Object] = []
    policy = volumes(spec, saved=saved)
    if spec.vector.qdrant.managed:
        children += qdrant.build(owner, spec.vector.qdrant.managed, policy, images)
    if spec.records.postgresql.managed:
        children += databases.postgresql(owner, spec.records.postgresql.managed, policy, images)
    if spec.cache.redis.managed:
        children += databases.redis(owner, spec.cache.redis.managed, policy, images)
    children += backup.build(owner, spec, images, users, held=held)
    return children + drill.build(owner, spec, images, held=held)
