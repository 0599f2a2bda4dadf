"""The restore drill of a MemoryStore: its newest backup, restored into servers of the drill's own pod, and compared.

Nothing of the store is touched: the pod has a PostgreSQL and a Qdrant of its own on volumes that end with it, the
store's servers do not let it in, and it is let out to the destination of the backups only.
"""

from __future__ import annotations

from openclaw_operator import jsonyaml
from openclaw_operator.api.backup import Backup
from openclaw_operator.api.memorystore import ManagedQdrant, ManagedServer, MemoryStoreSpec
from openclaw_operator.resources import backup as backups
from openclaw_operator.resources import databases, network, qdrant, stores
from openclaw_operator.resources.meta import MEMORY_DIR, SCRATCH_DIR, Images, Object, Owner, child, field_env, labels
from openclaw_operator.resources.restore import RESTORE_SCRIPT

SERVER = "drill"
# Where the rows that came back are counted.
ROWS = "restored.rows"
# Known to nobody before, and to nobody outside of the cluster: it keeps others of the network out.
_UNGUESSABLE = "metadata.uid"


def build(owner: Owner, spec: MemoryStoreSpec, images: Images, *, held: bool = False) -> list[Object]:
    """ConfigMap, NetworkPolicy and CronJob; nothing without spec.backup.drill. `held`: none is to run for now."""
    if spec.backup is None or spec.backup.drill is None:
        return []
    return [
        _config_map(owner, spec.backup),
        network.drill_policy(owner, SERVER, spec.backup.destination),
        backups.cron_job(
            owner,
            SERVER,
            spec.backup,
            _pod(owner, spec, spec.backup, images),
            schedule=spec.backup.drill.schedule,
            suspend=held,
            kept=1,
            # For a node that goes away; what does not come back today will not come back in a minute.
            retries=1,
        ),
    ]


def count_script() -> str:
    """Counts what came back, for a step with PostgreSQL's tools."""
    return f"{backups.PSQL} <<'END'\n{backups.count_commands(f'{backups.WORK_DIR}/{ROWS}')}END\n"


def _config_map(owner: Owner, backup: Backup) -> Object:
    """What `openclaw backup fetch` and `drill` read."""
    config = {
        "store": owner.name,
        "namespace": owner.namespace,
        "destination": backups.destination(backup.destination),
        "qdrant": {
            "nodes": [f"http://127.0.0.1:{stores.QDRANT_PORT}"],
            "api_key_file": f"{MEMORY_DIR}/{stores.QDRANT_KEY}",
        },
    }
    text = jsonyaml.dumps(config, indent=2) + "\n"
    own = labels(owner, SERVER, "backup")
    return child("v1", "ConfigMap", owner.child(SERVER), owner, own, data={backups.CONFIG_KEY: text})


def _pod(owner: Owner, spec: MemoryStoreSpec, backup: Backup, images: Images) -> Object:
    volumes, mounts, env = backups.mounted(owner.child(SERVER), backup.destination, {}, read_only=True)
    item = {"path": stores.QDRANT_KEY, "fieldRef": {"fieldPath": _UNGUESSABLE}}
    volumes.append({"name": "memory", "projected": {"sources": [{"downwardAPI": {"items": [item]}}]}})
    mounts.append({"name": "memory", "mountPath": MEMORY_DIR, "readOnly": True})
    common = ["--config", f"{backups.CONFIG_DIR}/{backups.CONFIG_KEY}", "--folder", backups.WORK_DIR]
    fetch = ["openclaw", "backup", "fetch", *common, "--part=records", "--part=resources", "--part=vectors"]
    scratch = [
        _scratch(
            databases.postgresql_server(
                spec.records.postgresql.managed or ManagedServer.model_validate({}),
                images,
                field_env("POSTGRES_PASSWORD", _UNGUESSABLE),
            ),
            databases.USER,
            databases.POSTGRESQL_SCRATCH,
            volumes,
        ),
        _scratch(
            qdrant.server(
                spec.vector.qdrant.managed or ManagedQdrant.model_validate({}),
                images,
                field_env(qdrant.API_KEY, _UNGUESSABLE),
            ),
            qdrant.USER,
            (SCRATCH_DIR,),
            volumes,
        ),
    ]
    url = f"postgresql://{stores.DATABASE}@127.0.0.1:{stores.POSTGRESQL_PORT}/{stores.DATABASE}"
    init = [
        backups.container("fetch", images.backup, images, fetch, env=env, mounts=mounts),
        *scratch,
        backups.tools(spec, images, url, [field_env("PGPASSWORD", _UNGUESSABLE)], RESTORE_SCRIPT + count_script()),
    ]
    command = ["openclaw", "backup", "drill", *common, "--summary", backups.SUMMARY_FILE]
    main = backups.container(SERVER, images.backup, images, command, env=env, mounts=mounts)
    return backups.pod(images, init, main, volumes)


def _scratch(container: Object, user: int, scratch: tuple[str, ...], volumes: list[Object]) -> Object:
    """A server beside the steps after it, on volumes that end with the pod.

    https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
    """
    name = f"scratch-{container['name']}"
    mounts = []
    for number, mount in enumerate([*(each["mountPath"] for each in container["volumeMounts"]), *scratch]):
        volumes.append({"name": f"{name}-{number}", "emptyDir": {}})
        mounts.append({"name": f"{name}-{number}", "mountPath": mount})
    probes = ("livenessProbe", "readinessProbe")
    return {
        **{key: value for key, value in container.items() if key not in probes},
        "name": name,
        # The next step starts once its startup probe has passed.
        "restartPolicy": "Always",
        "securityContext": {**container["securityContext"], "runAsUser": user, "runAsGroup": user},
        "volumeMounts": mounts,
    }
