"""The little of the Kubernetes API that the runtime uses: watch pods, read a ConfigMap; an activator changes one."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from openclaw_runtime.netloc import in_url

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_WATCH_SECONDS: Final = 300
_GET_SECONDS: Final = 10.0


class KubeError(Exception):
    """The API server refused or could not be reached. `status` is the HTTP status, 0 if there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class KubeApi:
    """A small asynchronous client. The token is read again for each request, because the kubelet renews it."""

    def __init__(self, base_url: str, token_file: Path | None = None, ca_file: Path | None = None) -> None:
        verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        timeout = httpx.Timeout(_GET_SECONDS, read=_WATCH_SECONDS + 30.0)
        self._token_file = token_file
        self._client = httpx.AsyncClient(base_url=base_url, verify=verify, timeout=timeout, trust_env=False)

    @classmethod
    def in_cluster(cls, environ: dict[str, str], folder: Path = SERVICE_ACCOUNT) -> "KubeApi":
        """Returns a client for the cluster this process runs in. Raises `KubeError` outside of one."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise KubeError("KUBERNETES_SERVICE_HOST: missing; sandbox pods can only be used inside a cluster")
        if not (folder / "token").is_file():
            raise KubeError(f"{folder}/token: missing; the gateway needs its service account's token")
        return cls(f"https://{in_url(host)}:{port}", folder / "token", folder / "ca.crt")

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.aclose()

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        except OSError as error:
            raise KubeError(f"{self._token_file}: cannot be read: {error.strerror}") from None

    async def get(self, path: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        """Returns the JSON object at a path. Raises `KubeError`."""
        return await self._ask("GET", path, params=params)

    async def get_config_map(self, namespace: str, name: str) -> dict[str, Any]:
        """Returns a ConfigMap. Raises `KubeError`."""
        return await self.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")

    async def merge_config_map(self, namespace: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        """Merges a change into a ConfigMap (JSON merge patch: None removes) and returns it. Raises `KubeError`."""
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
        kind = {"Content-Type": "application/merge-patch+json"}
        return await self._ask("PATCH", path, content=json.dumps(change), headers=kind)

    async def _ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> dict[str, Any]:
        sent = self._headers() | dict(headers or {})
        try:
            response = await self._client.request(method, path, headers=sent, timeout=_GET_SECONDS, **options)
        except httpx.HTTPError as error:
            raise KubeError(f"{method} {path}: {error or type(error).__name__}") from None
        return _object(path, response.status_code, response.content)

    async def watch(self, path: str, params: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Yields watch events until the server ends the watch. Raises `KubeError`; status 410 means: list again."""
        query = params | {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(_WATCH_SECONDS)}
        try:
            async with self._client.stream("GET", path, params=query, headers=self._headers()) as response:
                if response.status_code != httpx.codes.OK:
                    _object(path, response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if line.strip():
                        yield _event(path, line)
        except httpx.HTTPError as error:
            raise KubeError(f"WATCH {path}: {error or type(error).__name__}") from None


def _object(path: str, status: int, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if status != httpx.codes.OK:
        reason = value.get("message") if isinstance(value, dict) else None
        raise KubeError(f"{path}: HTTP {status}: {reason or 'no reason given'}", status)
    if not isinstance(value, dict):
        raise KubeError(f"{path}: the answer is not a JSON object", status)
    return value


def _event(path: str, line: str) -> dict[str, Any]:
    event = _object(path, httpx.codes.OK, line.encode())
    if event.get("type") == "ERROR":
        status = event.get("object", {})
        raise KubeError(f"{path}: {status.get('message', 'watch error')}", int(status.get("code") or 0))
    return event
