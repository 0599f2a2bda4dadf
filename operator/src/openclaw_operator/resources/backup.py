"""The backup CronJob of a MemoryStore and its configuration; restores are made of the same steps."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from openclaw_operator import jsonyaml
from openclaw_operator.api import API_VERSION
from openclaw_operator.api.backup import Backup, BackupDestination
from openclaw_operator.api.base import KeyRef
from openclaw_operator.api.memorystore import MemoryStoreSpec
from openclaw_operator.resources import stores
from openclaw_operator.resources.meta import (
    MEMORY_DIR,
    SCRATCH_DIR,
    Images,
    Object,
    Owner,
    child,
    container_security,
    labels,
    pod_security,
    pull_secrets,
    secret_env,
)

SERVER = "backup"
LAST = "last-backup"
# What a step writes here its pod keeps.
SUMMARY_FILE = "/dev/termination-log"
DEADLINE_SECONDS = 6 * 3600
# Tries of the last backup after the first: Kubernetes waits ten seconds, then twice as long before each.
_LAST_RETRIES = 4
PSQL = 'psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="$URL"'
CONFIG_KEY = "backup.yaml"
RESOURCES_KEY = "resources.json"
MOST_RESOURCES = 700_000
# Makes a query of each table that pg_dump dumps: no system's, no extension's.
_COUNT = (
    "SELECT format('SELECT %L, count(*) FROM %I.%I', n.nspname || '.' || c.relname, n.nspname, c.relname) "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS "
    "(SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') "
    "ORDER BY c.oid"
)
# Where pg_dump leaves its file for the next step, and pg_restore finds it.
DUMP = "postgresql.dump"
ROWS = "postgresql.rows"
WORK_DIR = SCRATCH_DIR
CONFIG_DIR = "/etc/openclaw/backup"
DESTINATION_DIR = "/backups"
Objects = list[Object]
Users = Mapping[str, Object]


def build(owner: Owner, spec: MemoryStoreSpec, images: Images, users: Users, *, held: bool = False) -> list[Object]:
    """ConfigMap and CronJob; nothing without spec.backup. `users` are the specs of the Agents that use the store.

    `held`: none is to be made for now.
    """
    if spec.backup is None:
        return []
    made = cron_job(
        owner,
        SERVER,
        spec.backup,
        _pod(owner, spec, spec.backup, images),
        schedule=spec.backup.schedule,
        suspend=spec.backup.suspend or held,
        kept=3,
        retries=2,
    )
    return [_config_map(owner, spec, spec.backup, users), made]


def destination(where: BackupDestination) -> dict[str, Any]:
    """The destination as the runtime reads it."""
    if where.s3:
        s3 = where.s3
        return {"s3": {"bucket": s3.bucket, "prefix": s3.prefix, "endpoint": s3.endpoint, "region": s3.region}}
    return {"directory": f"{DESTINATION_DIR}/{where.pvc.path if where.pvc else ''}"}


def servers(owner: Owner, spec: MemoryStoreSpec) -> dict[str, Any]:
    """How a job reaches Qdrant: each node of a managed one, since a snapshot holds what one node has."""
    qdrant = spec.vector.qdrant
    nodes = (
        [
            f"http://{owner.child('qdrant')}-{node}.{owner.child('qdrant')}-headless:{stores.QDRANT_PORT}"
            for node in range(qdrant.managed.replicas)
        ]
        if qdrant.managed
        else [stores.qdrant_url(owner.name, spec)]
    )
    known = stores.QDRANT_KEY in stores.secret_files(owner.name, spec)
    return {"nodes": nodes, "api_key_file": f"{MEMORY_DIR}/{stores.QDRANT_KEY}" if known else None}


def config(owner: Owner, spec: MemoryStoreSpec, backup: Backup) -> dict[str, Any]:
    """What `openclaw backup run --config FILE` reads."""
    return {
        "store": owner.name,
        "namespace": owner.namespace,
        "destination": destination(backup.destination),
        "qdrant": servers(owner, spec),
        "records": f"{WORK_DIR}/{DUMP}",
        "rows": f"{WORK_DIR}/{ROWS}",
        "resources": f"{CONFIG_DIR}/{RESOURCES_KEY}",
        "retention_days": backup.retention_days,
        "verify": backup.verify,
    }


def resources(owner: Owner, spec: MemoryStoreSpec, users: Users) -> str:
    """The MemoryStore and the Agents that use it as `kubectl apply` takes them: each backup keeps a copy for people."""
    store = _resource("MemoryStore", owner.name, owner.namespace, spec.model_dump(by_alias=True, exclude_none=True))
    agents = [_resource("Agent", name, owner.namespace, agent) for name, agent in sorted(users.items())]
    text = _list([store, *agents])
    # A ConfigMap takes 1 MiB. Whoever has hundreds of agents keeps them elsewhere too.
    return text if len(text.encode()) <= MOST_RESOURCES else _list([store])


def _list(items: Objects) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}) + "\n"


def _resource(kind: str, name: str, namespace: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _config_map(owner: Owner, spec: MemoryStoreSpec, backup: Backup, users: Users) -> Object:
    text = jsonyaml.dumps(config(owner, spec, backup), indent=2) + "\n"
    return child(
        "v1",
        "ConfigMap",
        owner.child(SERVER),
        owner,
        labels(owner, SERVER, "backup"),
        data={CONFIG_KEY: text, RESOURCES_KEY: resources(owner, spec, users)},
    )


def cron_job(
    owner: Owner,
    server: str,
    backup: Backup,
    pod_spec: Object,
    *,
    schedule: str,
    suspend: bool,
    kept: int,
    retries: int,
) -> Object:
    """A CronJob in the time zone of the backups; `kept` good runs stay to be looked at."""
    own = labels(owner, server, "backup")
    job: Object = {
        "schedule": schedule,
        "suspend": suspend,
        "concurrencyPolicy": "Forbid",
        # A start missed by more than an hour, for example while the cluster was down, is left to the next time.
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": kept,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {
            "metadata": {"labels": own},
            "spec": {
                "backoffLimit": retries,
                "activeDeadlineSeconds": DEADLINE_SECONDS,
                "template": {"metadata": {"labels": own}, "spec": pod_spec},
            },
        },
    }
    if backup.time_zone:
        job["timeZone"] = backup.time_zone
    return child("batch/v1", "CronJob", owner.child(server), owner, own, spec=job)


def last(owner: Owner, spec: MemoryStoreSpec, backup: Backup, images: Images) -> Object:
    """The Job of the last backup, which reads the configuration of the others."""
    pod_spec = _pod(owner, spec, backup, images, "--summary", SUMMARY_FILE)
    return child(
        "batch/v1",
        "Job",
        owner.child(LAST),
        owner,
        labels(owner, LAST, "backup"),
        spec={
            "backoffLimit": _LAST_RETRIES,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "podReplacementPolicy": "Failed",
            # The servers of the store let its backup pods in.
            "template": {"metadata": {"labels": labels(owner, SERVER, "backup")}, "spec": pod_spec},
        },
    )


def postgresql(owner: Owner, spec: MemoryStoreSpec, images: Images, script: str) -> Object:
    """A step with the server's own image, so that its tools are never older; the server is `$URL` to its script."""
    ref = stores.secret_files(owner.name, spec).get(stores.POSTGRESQL_KEY)
    # asyncpg's name of the parameter, and libpq's.
    url = re.sub(r"(?<=[?&])ssl=", "sslmode=", stores.postgresql_url(owner.name, spec))
    return tools(spec, images, url, [secret_env("PGPASSWORD", ref.name, ref.key)] if ref else [], script)


def tools(spec: MemoryStoreSpec, images: Images, url: str, password: Objects, script: str) -> Object:
    """A step that runs a script with PostgreSQL's tools."""
    managed = spec.records.postgresql.managed
    image = (managed.image if managed else None) or images.postgresql
    env = [{"name": "URL", "value": url}, *password]
    return container("postgresql", image, images, ["sh", "-ec", script], env=env, mounts=[work_mount()])


def dump_script() -> str:
    """Dumps a database, and counts the rows of its tables as of the very same moment."""
    options = f"--format=custom --no-owner --no-privileges --file={WORK_DIR}/{DUMP}"
    # psql does not mind how a command of the shell ends.
    return (
        f"{PSQL} <<'END'\n"
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n"
        "SELECT pg_export_snapshot() AS snapshot \\gset\n"
        "\\setenv SNAPSHOT :snapshot\n"
        f'\\! pg_dump --dbname="$URL" --snapshot="$SNAPSHOT" {options} && touch {WORK_DIR}/dumped\n'
        f"{count_commands(f'{WORK_DIR}/{ROWS}')}"
        "COMMIT;\n"
        "END\n"
        f"test -e {WORK_DIR}/dumped\n"
    )


def count_commands(file: str) -> str:
    """Commands of psql that write the rows of each table that pg_dump dumps to a file, a table a line."""
    return f"\\pset format unaligned\n\\pset tuples_only on\n\\pset fieldsep '\\t'\n\\o {file}\n{_COUNT} \\gexec\n\\o\n"


def container(name: str, image: str, images: Images, command: list[str], *, env: Objects, mounts: Objects) -> Object:
    """One step of a job. What it says last is kept with the pod when it fails."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": images.pull_policy,
        "command": command,
        "env": env,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def work_mount() -> Object:
    """The folder that the steps of a job share."""
    return {"name": "work", "mountPath": WORK_DIR}


def mounted(
    name: str, where: BackupDestination, files: dict[str, KeyRef], *, read_only: bool = False
) -> tuple[Objects, Objects, Objects]:
    """Volumes, mounts and environment of a step that reaches a destination; `name` is its ConfigMap's."""
    volumes: Objects = [{"name": "config", "configMap": {"name": name}}, {"name": "work", "emptyDir": {}}]
    mounts: Objects = [{"name": "config", "mountPath": CONFIG_DIR, "readOnly": True}, work_mount()]
    if files:
        volumes.append({"name": "memory", "projected": {"sources": stores.projected(files)}})
        mounts.append({"name": "memory", "mountPath": MEMORY_DIR, "readOnly": True})
    env: Objects = []
    if where.s3 and where.s3.credentials:
        secret = where.s3.credentials.name
        env = [secret_env(key, secret, key) for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    if where.pvc:
        claim = {"claimName": where.pvc.claim_name}
        volumes.append({"name": "backups", "persistentVolumeClaim": claim})
        mounts.append({"name": "backups", "mountPath": DESTINATION_DIR, **({"readOnly": True} if read_only else {})})
    return volumes, mounts, env


def qdrant_files(owner: Owner, spec: MemoryStoreSpec) -> dict[str, KeyRef]:
    """The secrets that the runtime's steps read; PostgreSQL's go to its own tools alone."""
    return {key: ref for key, ref in stores.secret_files(owner.name, spec).items() if key == stores.QDRANT_KEY}


def pod(images: Images, init: Objects, main: Object, volumes: Objects) -> Object:
    """The pod of a job: its steps one after the other."""
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "initContainers": init,
        "containers": [main],
        "volumes": volumes,
        **pull_secrets(images.pull_secrets),
    }


def _pod(owner: Owner, spec: MemoryStoreSpec, backup: Backup, images: Images, *arguments: str) -> Object:
    volumes, mounts, env = mounted(owner.child(SERVER), backup.destination, qdrant_files(owner, spec))
    command = ["openclaw", "backup", "run", "--config", f"{CONFIG_DIR}/{CONFIG_KEY}", *arguments]
    main = container(SERVER, images.backup, images, command, env=env, mounts=mounts)
    return pod(images, [postgresql(owner, spec, images, dump_script())], main, volumes)
