"""How to reach the API server: the pod's service account, or a kubeconfig."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from openclaw_operator.errors import SettingsError

# https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#directly-accessing-the-rest-api
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0


@dataclass(frozen=True)
class Connection:
    """An API server and the means to authenticate. `token` gives the current bearer token, None with certificates."""

    server: str
    token: Callable[[], Awaitable[str | None]]
    ca_path: str | None = None
    certificate_path: str | None = None
    key_path: str | None = None
    insecure: bool = False

    def ssl_context(self) -> ssl.SSLContext:
        """A TLS client context with the CA and the client certificate."""
        context = ssl.create_default_context(cafile=self.ca_path)
        if self.certificate_path:
            context.load_cert_chain(self.certificate_path, self.key_path)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class _TokenFile:
    """A projected service account token: the kubelet renews the file, so it is read again every minute."""

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._monotonic = monotonic
        self._token = ""
        self._read_at = float("-inf")

    async def __call__(self) -> str | None:
        now = self._monotonic()
        if now - self._read_at > TOKEN_SECONDS:
            self._token = (await asyncio.to_thread(self._path.read_text, "utf-8")).strip()
            self._read_at = now
        return self._token


async def connect(
    environ: Mapping[str, str] = os.environ,
    *,
    service_account: Path = SERVICE_ACCOUNT,
    monotonic: Callable[[], float] = time.monotonic,
) -> Connection:
    """The connection of the pod this runs in, otherwise that of the kubeconfig.

    Raises SettingsError when there is neither.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if host and port and (service_account / "token").is_file():
        address = f"[{host}]" if ":" in host else host
        return Connection(
            server=f"https://{address}:{port}",
            token=_TokenFile(service_account / "token", monotonic),
            ca_path=str(service_account / "ca.crt"),
        )
    return await _from_kubeconfig()


async def namespace_of(service_account: Path = SERVICE_ACCOUNT) -> str:
    """The namespace of the kubeconfig's current context, inside a pod that of the pod; else `default`."""
    inside = service_account / "namespace"
    if inside.is_file():
        return (await asyncio.to_thread(inside.read_text, "utf-8")).strip()
    from kubernetes.aio.config import ConfigException, list_kube_config_contexts

    try:
        _, active = await asyncio.to_thread(list_kube_config_contexts)
    except (ConfigException, OSError):
        return "default"
    return str(active.get("context", {}).get("namespace") or "default")


async def _from_kubeconfig() -> Connection:
    # Only here: the client costs 25 MiB that an operator inside the cluster has no use for.
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import ConfigException, load_kube_config

    configuration = Configuration()
    try:
        await load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise SettingsError(
            f"no cluster: not in a pod and no usable kubeconfig ({error}); fix: set KUBECONFIG"
        ) from error

    async def token() -> str | None:
        header = await configuration.get_api_key_with_prefix("BearerToken")
        return header.split(" ", 1)[-1] if header else None

    return Connection(
        server=configuration.host.rstrip("/"),
        token=token,
        ca_path=configuration.ssl_ca_cert,
        certificate_path=configuration.cert_file,
        key_path=configuration.key_file,
        insecure=not configuration.verify_ssl,
    )
