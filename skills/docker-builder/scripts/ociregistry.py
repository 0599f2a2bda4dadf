"""Images of an OCI registry over HTTP. A package holds all it runs, so each skill that needs this has a copy of it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from openclaw_skill import SkillError

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
MAX_MANIFEST = 4 * 1024 * 1024
TIMEOUT_SECONDS = 60.0
# https://github.com/opencontainers/distribution-spec: names, tags and digests.
_REFERENCE = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?)/"
    r"(?P<name>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Reference:
    """An image: where it is, and its digest or tag."""

    host: str
    name: str
    tag: str | None
    digest: str | None

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest where there is one."""
        return self.digest or self.tag or "latest"

    @property
    def repository(self) -> str:
        """Host and name."""
        return f"{self.host}/{self.name}"

    def __str__(self) -> str:
        return f"{self.repository}{'@' if self.digest else ':'}{self.version}"


@dataclass(frozen=True)
class Document:
    """A manifest or an index as the registry has it."""

    digest: str
    media_type: str
    data: bytes

    @property
    def value(self) -> dict[str, Any]:
        """What it says."""
        value: dict[str, Any] = json.loads(self.data)
        return value


def parse(text: str, field: str) -> Reference:
    """Reads an image's name. Raises SkillError."""
    found = _REFERENCE.fullmatch(text)
    host = found["host"] if found else ""
    if found is None or not ({".", ":"} & set(host) or host == "localhost"):
        raise SkillError(f"{field}: {text!r} is no image with its registry; write ghcr.io/acme/web:1.2.0")
    return Reference(host, found["name"], found["tag"], found["digest"])


def digest_of(data: bytes) -> str:
    """Returns the digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """One repository of a registry, with the rights of its credentials. Every method raises SkillError."""

    def __init__(self, reference: Reference, username: str, password: str) -> None:
        self._name = reference.name
        self._host = reference.host
        self._basic = base64.b64encode(f"{username}:{password}".encode()).decode("ascii") if password else ""
        self._authorization = ""
        local = urlsplit(f"//{reference.host}").hostname in {"127.0.0.1", "localhost"}
        self._base = f"{'http' if local else 'https'}://{reference.host}/v2/"

    def tags(self, limit: int) -> tuple[list[str], bool]:
        """Returns up to `limit` tags, and whether there are more."""
        found: list[str] = []
        path = f"{self._name}/tags/list?n={min(limit + 1, 1000)}"
        while path and len(found) <= limit:
            _, headers, data = self._ask("GET", path)
            found += json.loads(data).get("tags") or []
            link = re.match(r"<([^>]+)>", headers.get("Link") or "")
            path = link[1] if link else ""
        return found[:limit], len(found) > limit

    def manifest(self, version: str) -> Document:
        """Returns the manifest or index of a tag or digest; what came is what its digest says."""
        _, headers, data = self._ask("GET", f"{self._name}/manifests/{version}", accept=(*INDEXES, *MANIFESTS))
        digest = digest_of(data)
        if version.startswith("sha256:") and version != digest:
            raise SkillError(f"{self._host} sent something else than {version}; nothing of it was used")
        media_type = (headers.get("Content-Type") or "").partition(";")[0]
        if media_type not in (*INDEXES, *MANIFESTS):
            raise SkillError(f"{self._host}/{self._name}:{version} is no image but {media_type or 'of no known type'}")
        return Document(digest, media_type, data)

    def blob(self, digest: str, limit: int) -> bytes:
        """Returns a blob of at most `limit` bytes."""
        _, _, data = self._ask("GET", f"{self._name}/blobs/{digest}", limit=limit)
        if digest_of(data) != digest:
            raise SkillError(f"{self._host} sent something else than {digest}; nothing of it was used")
        return data

    def put_blob(self, data: bytes) -> str:
        """Uploads a blob unless it is there, and returns its digest."""
        digest = digest_of(data)
        if not self._has(digest):
            _, headers, _ = self._ask("POST", f"{self._name}/blobs/uploads/", body=b"")
            place = headers.get("Location") or ""
            place += ("&" if "?" in place else "?") + urlencode({"digest": digest})
            self._ask("PUT", place, body=data, content_type="application/octet-stream")
        return digest

    def mount(self, digest: str, origin: str) -> None:
        """Makes a blob of the repository `origin` (of this registry) one of this repository, too."""
        if origin != self._name and not self._has(digest):
            query = urlencode({"mount": digest, "from": origin})
            status, _, _ = self._ask("POST", f"{self._name}/blobs/uploads/?{query}", body=b"")
            if status != http.HTTPStatus.CREATED:
                raise SkillError(
                    f"{self._host} does not share blobs of {origin} with {self._name}; push the image again"
                )

    def put_manifest(self, version: str, document: Document) -> None:
        """Puts a manifest or index at a tag or digest."""
        path = f"{self._name}/manifests/{version}"
        self._ask("PUT", path, body=document.data, content_type=document.media_type)

    def delete(self, digest: str) -> None:
        """Deletes a manifest."""
        self._ask("DELETE", f"{self._name}/manifests/{digest}")

    def _has(self, digest: str) -> bool:
        status, _, _ = self._ask("HEAD", f"{self._name}/blobs/{digest}", missing=True)
        return status == http.HTTPStatus.OK

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "",
        accept: tuple[str, ...] = (),
        limit: int = MAX_MANIFEST,
        missing: bool = False,
    ) -> tuple[int, Any, bytes]:
        """Sends a request, a second time with what the registry's challenge asks for."""
        address = urljoin(self._base, path)
        if urlsplit(address).netloc != urlsplit(self._base).netloc:
            raise SkillError(f"{self._host} points to {urlsplit(address).netloc}; uploads elsewhere are not followed")
        headers = {"User-Agent": "OpenClaw-Skill", "Content-Type": content_type, "Accept": ", ".join(accept)}
        for attempt in range(2):
            own = {"Authorization": self._authorization} if self._authorization else {}
            sent = {name: value for name, value in {**headers, **own}.items() if value}
            request = urllib.request.Request(address, data=body, headers=sent, method=method)  # noqa: S310 (see base)
            try:
                return _read(request, limit, self._host)
            except HTTPError as error:
                said = error.read(MAX_MANIFEST)
                if error.code == http.HTTPStatus.UNAUTHORIZED and attempt == 0:
                    self._log_in(error.headers.get("WWW-Authenticate") or "")
                elif error.code == http.HTTPStatus.NOT_FOUND and missing:
                    return error.code, error.headers, b""
                else:
                    raise SkillError(_refusal(self._host, path, error.code, said)) from None
        raise AssertionError("the second attempt returns or raises")

    def _log_in(self, challenge: str) -> None:
        """Answers a challenge (RFC 9110; the distribution's token protocol)."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            if not self._basic:
                raise SkillError(f"{self._host} wants a login; set secrets.REGISTRY_USERNAME and REGISTRY_PASSWORD")
            self._authorization = f"Basic {self._basic}"
            return
        parts = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = urlsplit(parts.get("realm", ""))
        local = urlsplit(self._base).scheme == "http"
        if scheme.lower() != "bearer" or (realm.scheme != "https" and not local):
            raise SkillError(f"{self._host} wants a login of a kind that is not known: {scheme or 'none'}")
        query = parse_qs(realm.query) | {name: [parts[name]] for name in ("service", "scope") if name in parts}
        address = realm._replace(query=urlencode(query, doseq=True)).geturl()
        headers = {"User-Agent": "OpenClaw-Skill", **({"Authorization": f"Basic {self._basic}"} if self._basic else {})}
        try:
            _, _, data = _read(urllib.request.Request(address, headers=headers), MAX_MANIFEST, realm.netloc)  # noqa: S310
        except HTTPError as error:
            told = "check secrets.REGISTRY_USERNAME and REGISTRY_PASSWORD"
            raise SkillError(f"{realm.netloc} refused the login (HTTP {error.code}); {told}") from None
        answer = json.loads(data)
        self._authorization = f"Bearer {answer.get('token') or answer.get('access_token') or ''}"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Blobs often lie elsewhere; there the registry's authorization is nobody's business."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.get_method() not in {"GET", "HEAD"}:
            return None
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            new.remove_header("Authorization")
        return new


def _read(request: urllib.request.Request, limit: int, host: str) -> tuple[int, Any, bytes]:
    try:
        with urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT_SECONDS) as response:
            data = response.read(limit + 1)
            if len(data) > limit:
                raise SkillError(f"{host} sent more than {limit} bytes; choose a smaller image")
            return response.status, response.headers, data
    except HTTPError:
        raise
    except URLError as error:
        raise SkillError(f"{host} is not reachable ({error.reason}); is it in allowedDomains?") from None
    except (OSError, http.client.HTTPException) as error:
        raise SkillError(f"{host} did not answer ({type(error).__name__}); try again") from None


def _refusal(host: str, path: str, status: int, said: bytes) -> str:
    try:
        reasons = "; ".join(each.get("message") or each.get("code") for each in json.loads(said)["errors"])
    except (ValueError, KeyError, TypeError, AttributeError):
        reasons = ""
    return f"{host} answered HTTP {status} for {path.partition('?')[0]}{': ' if reasons else ''}{reasons}"


def children(document: Document) -> Iterator[dict[str, Any]]:
    """Yields what an index lists; nothing for a manifest."""
    yield from document.value.get("manifests", ()) if document.media_type in INDEXES else ()
