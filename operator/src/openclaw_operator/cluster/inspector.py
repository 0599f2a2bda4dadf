"""A client for looking at a cluster as a whole: who may do what, which APIs are there, and pods for a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openclaw_operator.cluster.client import Client, Object
from openclaw_operator.errors import NotFoundError

_REVIEWS = "/apis/authorization.k8s.io/v1"


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource; `resource` may be `resource/subresource`, `namespace` None means cluster-wide."""

    api_group: str
    resource: str
    verb: str
    namespace: str | None

    def __str__(self) -> str:
        name, _, subresource = self.resource.partition("/")
        full = f"{name}.{self.api_group}" if self.api_group else name
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {full}{f'/{subresource}' if subresource else ''}{where}"


class Inspector(Client):
    """Every method raises an ApiError, as those of Client do."""

    async def read(self, path: str, **params: str) -> Object:
        """The answer to a GET."""
        return await self._request("GET", path, verb="get", params=params)

    async def find(self, path: str) -> Object | None:
        """The answer to a GET, None for 404."""
        try:
            return await self.read(path)
        except NotFoundError:
            return None

    async def post(self, path: str, body: Object) -> Object:
        """Create an object."""
        return await self._request("POST", path, verb="create", body=body)

    async def remove(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Delete an object; one that is gone already is fine."""
        grace = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", **grace}
        try:
            await self._request("DELETE", path, verb="delete", body=body)
        except NotFoundError:
            return

    async def user(self) -> str:
        """The name the API server knows this client by."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await self.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
        return str(answer["status"]["userInfo"].get("username", ""))

    async def may(self, right: Right, subject: Mapping[str, object] | None) -> bool:
        """Whether `subject` (`{user, groups}`; None: this client itself) has a right."""
        name, _, subresource = right.resource.partition("/")
        attributes = {
            "group": right.api_group,
            "resource": name,
            "subresource": subresource,
            "verb": right.verb,
            "namespace": right.namespace or "",
        }
        kind = "SelfSubjectAccessReview" if subject is None else "SubjectAccessReview"
        body: Object = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": kind,
            "spec": {"resourceAttributes": attributes, **(subject or {})},
        }
        answer = await self.post(f"{_REVIEWS}/{kind.lower()}s", body)
        return bool(answer["status"]["allowed"])
