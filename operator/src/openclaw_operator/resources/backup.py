"""The backup CronJob of a MemoryStore and its configuration."""

from __future__ import annotations

import json
from typing import Any

from openclaw_operator.api.memorystore import Backup, MemoryStoreSpec
from openclaw_operator.resources import stores
from openclaw_operator.resources.meta import (
    MEMORY_DIR,
    SCRATCH_DIR,
    Images,
    Object,
    Owner,
    child,
    container_security,
    field_env,
    labels,
    pod_security,
    secret_env,
)

SERVER = "backup"
CONFIG_KEY = "backup.yaml"
CONFIG_DIR = "/etc/openclaw/backup"
DESTINATION_DIR = "/backups"


def build(owner: Owner, spec: MemoryStoreSpec, images: Images) -> list[Object]:
    """ConfigMap and CronJob; nothing without spec.backup."""
    if spec.backup is None:
        return []
    return [_config_map(owner, spec, spec.backup), _cron_job(owner, spec, spec.backup, images)]


def config(owner: Owner, spec: MemoryStoreSpec, backup: Backup) -> dict[str, Any]:
    """What `openclaw backup run --config FILE` reads."""
    files = stores.secret_files(owner.name, spec)

    def file(key: str) -> str | None:
        return f"{MEMORY_DIR}/{key}" if key in files else None

    destination: dict[str, Any] = {}
    if backup.destination.s3:
        s3 = backup.destination.s3
        destination["s3"] = {"bucket": s3.bucket, "prefix": s3.prefix, "endpoint": s3.endpoint, "region": s3.region}
    elif backup.destination.pvc:
        destination["directory"] = f"{DESTINATION_DIR}/{backup.destination.pvc.path}"
    return {
        "store": owner.name,
        "namespace": owner.namespace,
        "qdrant": {"url": stores.qdrant_url(owner.name, spec), "api_key_file": file(stores.QDRANT_KEY)},
        "postgresql": {
            "url": stores.postgresql_url(owner.name, spec),
            "password_file": file(stores.POSTGRESQL_KEY),
        },
        "destination": destination,
        "retention_days": backup.retention_days,
    }


def _config_map(owner: Owner, spec: MemoryStoreSpec, backup: Backup) -> Object:
    text = json.dumps(config(owner, spec, backup), indent=2) + "\n"
    return child(
        "v1", "ConfigMap", owner.child(SERVER), owner, labels(owner, SERVER, "backup"), data={CONFIG_KEY: text}
    )


def _cron_job(owner: Owner, spec: MemoryStoreSpec, backup: Backup, images: Images) -> Object:
    child_labels = labels(owner, SERVER, "backup")
    job: Object = {
        "schedule": backup.schedule,
        "suspend": backup.suspend,
        "concurrencyPolicy": "Forbid",
        # A start missed by more than an hour, for example while the cluster was down, is left to the next day.
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {
            "metadata": {"labels": child_labels},
            "spec": {
                "backoffLimit": 2,
                "activeDeadlineSeconds": 6 * 3600,
                "template": {"metadata": {"labels": child_labels}, "spec": _pod(owner, spec, backup, images)},
            },
        },
    }
    if backup.time_zone:
        job["timeZone"] = backup.time_zone
    return child("batch/v1", "CronJob", owner.child(SERVER), owner, child_labels, spec=job)


def _pod(owner: Owner, spec: MemoryStoreSpec, backup: Backup, images: Images) -> Object:
    volumes: list[Object] = [
        {"name": "config", "configMap": {"name": owner.child(SERVER)}},
        {"name": "work", "emptyDir": {}},
    ]
    mounts: list[Object] = [
        {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
        {"name": "work", "mountPath": SCRATCH_DIR},
    ]
    files = stores.secret_files(owner.name, spec)
    if files:
        volumes.append({"name": "memory", "projected": {"sources": stores.projected(files)}})
        mounts.append({"name": "memory", "mountPath": MEMORY_DIR, "readOnly": True})
    env = [field_env("POD_NAME", "metadata.name"), field_env("POD_NAMESPACE", "metadata.namespace")]
    s3, pvc = backup.destination.s3, backup.destination.pvc
    if s3 and s3.credentials:
        env += [secret_env(key, s3.credentials.name, key) for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    if pvc:
        volumes.append({"name": "backups", "persistentVolumeClaim": {"claimName": pvc.claim_name}})
        mounts.append({"name": "backups", "mountPath": DESTINATION_DIR})
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "containers": [
            {
                "name": SERVER,
                "image": images.backup,
                "imagePullPolicy": images.pull_policy,
                "command": ["openclaw"],
                "args": ["backup", "run", "--config", f"{CONFIG_DIR}/{CONFIG_KEY}"],
                "env": env,
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": "1", "memory": "1Gi"},
                },
                "securityContext": container_security(),
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
