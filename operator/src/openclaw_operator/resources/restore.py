"""The Job of a MemoryRestore: fetch and check everything, restore PostgreSQL, restore Qdrant."""

from __future__ import annotations

from openclaw_operator import jsonyaml
from openclaw_operator.api.backup import BackupDestination
from openclaw_operator.api.memoryrestore import MemoryRestoreSpec
from openclaw_operator.errors import SpecError
from openclaw_operator.resources import backup
from openclaw_operator.resources.inputs import Store
from openclaw_operator.resources.meta import Images, Object, Owner, child, labels

SUFFIX = "restore"
# The first step, and how it ends where there is no such backup.
FETCH = "fetch"
NO_SUCH_BACKUP = 2
_PG_RESTORE = "--clean --if-exists --no-owner --no-privileges --single-transaction --exit-on-error"
# Run by a step with PostgreSQL's tools.
RESTORE_SCRIPT = f'pg_restore --dbname="$URL" {_PG_RESTORE} {backup.WORK_DIR}/{backup.DUMP}\n'


def source(spec: MemoryRestoreSpec, store: Store) -> BackupDestination:
    """Where the backup is. Raises SpecError where neither the restore nor the store says."""
    if spec.source.destination:
        return spec.source.destination
    if store.spec.backup is None:
        raise SpecError(
            "NoBackups",
            f"MemoryStore {store.name!r} has no spec.backup: set spec.source.destination to where its backups are",
        )
    return store.spec.backup.destination


def config_map(owner: Owner, spec: MemoryRestoreSpec, store: Store) -> Object:
    """What `openclaw backup fetch` and `restore-vectors` read. Raises SpecError, see source."""
    target = Owner("MemoryStore", store.name, owner.namespace, "")
    config = {
        "store": spec.source.store or store.name,
        "namespace": spec.source.namespace or owner.namespace,
        "destination": backup.destination(source(spec, store)),
        "qdrant": backup.servers(target, store.spec) if "vectors" in spec.parts else None,
    }
    text = jsonyaml.dumps(config, indent=2) + "\n"
    own = labels(owner, SUFFIX, SUFFIX)
    return child("v1", "ConfigMap", owner.child(SUFFIX), owner, own, data={backup.CONFIG_KEY: text})


def job(owner: Owner, spec: MemoryRestoreSpec, store: Store, images: Images) -> Object:
    """The Job. Each step fails it; a pod that is lost is tried once more, as every step can be repeated."""
    where = source(spec, store)
    target = Owner("MemoryStore", store.name, owner.namespace, "")
    volumes, mounts, env = backup.mounted(
        owner.child(SUFFIX), where, backup.qdrant_files(target, store.spec), read_only=True
    )
    common = ["--config", f"{backup.CONFIG_DIR}/{backup.CONFIG_KEY}", "--folder", backup.WORK_DIR]
    fetch = ["openclaw", "backup", FETCH, *common, "--backup", spec.source.backup]
    fetch += [f"--part={part}" for part in sorted(spec.parts)]
    init = [backup.container(FETCH, images.backup, images, fetch, env=env, mounts=mounts)]
    if "records" in spec.parts:
        init.append(backup.postgresql(target, store.spec, images, RESTORE_SCRIPT))
    vectors = ["openclaw", "backup", "restore-vectors", *common, "--summary", backup.SUMMARY_FILE]
    main = backup.container("vectors", images.backup, images, vectors, env=env, mounts=mounts)
    # The servers of the store let its backup pods in.
    pod_labels = {**labels(owner, backup.SERVER, SUFFIX), target.label: store.name}
    return child(
        "batch/v1",
        "Job",
        owner.child(SUFFIX),
        owner,
        labels(owner, SUFFIX, SUFFIX),
        spec={
            "backoffLimit": 1,
            "activeDeadlineSeconds": 6 * 3600,
            "podReplacementPolicy": "Failed",
            # Agents stand still meanwhile, and another try finds no other backups.
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": FETCH, "operator": "In", "values": [NO_SUCH_BACKUP]},
                    }
                ]
            },
            "template": {"metadata": {"labels": pod_labels}, "spec": backup.pod(images, init, main, volumes)},
        },
    )
