"""The operator of a cluster: where it runs, as whom, and with which settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.errors import ForbiddenError, NotFoundError, SettingsError
from openclaw_operator.settings import PREFIX, Settings, load_settings

SELECTOR = "app.kubernetes.io/name=openclaw-operator"
DEFAULT_NAMESPACE = "openclaw-system"


@dataclass(frozen=True)
class Installation:
    """A Deployment of the operator."""

    namespace: str
    name: str
    service_account: str
    ready: bool
    settings: Settings

    @property
    def user(self) -> str:
        """The name the API server knows its service account by."""
        return f"system:serviceaccount:{self.namespace}:{self.service_account}"


async def find(client: Client, namespace: str | None = None) -> Installation | None:
    """The operator in `namespace`, or wherever you may look for it; None when there is none to be seen.

    Raises SettingsError when its settings are not those of this version.
    """
    places = (namespace,) if namespace else (None, DEFAULT_NAMESPACE)
    for place in places:
        try:
            async for page in client.pages(BY_NAME["Deployment"], place, selector=SELECTOR):
                for item in page["items"]:
                    return _read(item)
        except (ForbiddenError, NotFoundError):
            continue
    return None


def local_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings of this shell, for where the operator cannot be seen."""
    return load_settings(environ)


def _read(item: Object) -> Installation:
    meta, pod = item["metadata"], item["spec"]["template"]["spec"]
    environ = {
        entry["name"]: entry.get("value") or ""
        for container in pod["containers"]
        for entry in container.get("env") or ()
        if entry["name"].startswith(PREFIX)
    }
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        raise SettingsError(
            f"the operator {meta['namespace']}/{meta['name']} is of another version than this command: {error}"
        ) from None
    return Installation(
        namespace=meta["namespace"],
        name=meta["name"],
        service_account=pod.get("serviceAccountName", "default"),
        ready=bool((item.get("status") or {}).get("readyReplicas")),
        settings=settings,
    )
