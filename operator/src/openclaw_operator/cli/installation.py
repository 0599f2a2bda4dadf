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
    # The chart's appVersion, as the label app.kubernetes.io/version has it; empty where nobody set it.
    version: str
    settings: Settings

    @property
    def user(self) -> str:
        """The name the API server knows its service account by."""
        return f"system:serviceaccount:{self.namespace}:{self.service_account}"


async def find(client: Client, namespace: str | None = None) -> Installation | None:
    """The operator in `namespace`, or wherever you may look for it; None when there is none to be seen.

    Raises SettingsError when its settings are not those of this version.
    """
    for item in await deployments(client, namespace):
        return read(item)
    return None


async def deployments(client: Client, namespace: str | None = None) -> list[Object]:
    """The Deployments of operators in `namespace`, or wherever you may look for them."""
    places = (namespace,) if namespace else (None, DEFAULT_NAMESPACE)
    for place in places:
        try:
            found = [
                item
                async for page in client.pages(BY_NAME["Deployment"], place, selector=SELECTOR)
                for item in page["items"]
            ]
        except (ForbiddenError, NotFoundError):
            continue
        if found:
            return found
    return []


def local_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings of this shell, for where the operator cannot be seen."""
    return load_settings(environ)


def read(item: Object) -> Installation:
    """The operator a Deployment runs. Raises SettingsError when its settings are not those of this version."""
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
        version=(meta.get("labels") or {}).get("app.kubernetes.io/version", ""),
        settings=settings,
    )
