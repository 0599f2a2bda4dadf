"""A few calls to the API server as one identity, for benchmarks and fault tests; plain dictionaries in and out."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp

Object = dict[str, Any]
TRIES = 10
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class StatusError(Exception):
    """The API server refused; `code` is the HTTP status and the text its message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Api:
    """Async context manager over one connection pool. `path`s are as in kubectl get --raw."""

    def __init__(self, url: str, tls: ssl.SSLContext | None, *, connections: int = 64) -> None:
        self.url = url
        self._tls = tls
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True, limit=self._connections)
        self._session = aiohttp.ClientSession(self.url, connector=connector, timeout=aiohttp.ClientTimeout(total=120))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use Api as an async context manager")
        return self._session

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **params: str
    ) -> Object:
        """Raises StatusError when the answer is 400 or more; a server that asks for time gets it, as from client-go."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data is not None else None
        tries_left = TRIES
        while True:
            tries_left -= 1
            async with self.session.request(method, path, data=data, headers=headers, params=params) as response:
                content, retry_after = await response.read(), response.headers.get("Retry-After")
            if response.status == HTTPStatus.TOO_MANY_REQUESTS and retry_after and tries_left:
                await asyncio.sleep(float(retry_after))
                continue
            if response.status >= 400:
                raise StatusError(response.status, _message(content))
            result: Object = json.loads(content)
            return result

    async def get(self, path: str) -> Object:
        return await self.request("GET", path)

    async def find(self, path: str) -> Object | None:
        """The object, or None where it does not exist."""
        try:
            return await self.get(path)
        except StatusError as error:
            if error.code == 404:
                return None
            raise

    async def items(self, path: str) -> list[Object]:
        found: list[Object] = (await self.get(path))["items"]
        return found

    async def create(self, path: str, body: Object) -> Object:
        return await self.request("POST", path, body)

    async def merge(self, path: str, patch: Object) -> Object:
        return await self.request("PATCH", path, patch, "application/merge-patch+json")

    async def json_patch(self, path: str, operations: list[Object]) -> Object:
        return await self.request("PATCH", path, operations, "application/json-patch+json")

    async def replace(self, path: str, body: Object) -> Object:
        return await self.request("PUT", path, body)

    async def apply(self, path: str, body: Object, manager: str) -> Object:
        return await self.request(
            "PATCH", path, body, "application/apply-patch+yaml", fieldManager=manager, force="true"
        )

    async def delete(self, path: str) -> None:
        await self.request("DELETE", path)

    async def watch(self, path: str, version: str, *, metadata_only: bool = False) -> AsyncIterator[Object]:
        """Events after `version`, until the server ends the stream."""
        headers = {"Accept": METADATA_ONLY} if metadata_only else {}
        params = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "3600"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(path, params=params, headers=headers, timeout=timeout) as response:
            if response.status >= 400:
                raise StatusError(response.status, _message(await response.read()))
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content[:300].decode(errors="replace")


def resource_path(api_version: str, plural: str, namespace: str | None, name: str | None = None) -> str:
    """/api/v1/namespaces/NAMESPACE/PLURAL/NAME or its /apis form."""
    root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
    parts = [root, *(["namespaces", namespace] if namespace else []), plural, *([name] if name else [])]
    return "/".join(parts)


PLURALS: Mapping[str, str] = {
    "Agent": "agents",
    "Skill": "skills",
    "MemoryStore": "memorystores",
    "MemoryRestore": "memoryrestores",
    "ServiceAccount": "serviceaccounts",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Service": "services",
    "NetworkPolicy": "networkpolicies",
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "CronJob": "cronjobs",
    "Job": "jobs",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Pod": "pods",
    "Namespace": "namespaces",
    "ResourceQuota": "resourcequotas",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
}


def path_of(item: Object) -> str:
    """The path of an object that carries apiVersion, kind and metadata."""
    metadata = item["metadata"]
    return resource_path(item["apiVersion"], PLURALS[item["kind"]], metadata.get("namespace"), metadata["name"])


def collection_of(item: Object) -> str:
    """The path of the collection the object belongs to."""
    return resource_path(item["apiVersion"], PLURALS[item["kind"]], item["metadata"].get("namespace"))
