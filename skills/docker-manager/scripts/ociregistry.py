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
MAX_BLOB = 256 * 1024 * 1024
"""Of a blob that has to be copied: it goes through the sandbox's memory."""
MAX_PAGES = 128
"""Of tags: the most that can be asked for, in pages of a hundred, and some more."""
TIMEOUT_SECONDS = 60.0
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[A-Za-z0-9=_-]+")
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
        """What it says. Raises SkillError where that is no JSON object."""
        return _object(self.data, self.digest)


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
        for _ in range(MAX_PAGES):
            _, headers, data = self._ask("GET", path)
            what = f"{self._host}'s list of tags"
            found += _texts(_object(data, what).get("tags"), f"tags of {what}")
            link = re.match(r"<([^>]+)>", headers.get("Link") or "")
            if link is None or len(found) > limit:
                return found[:limit], len(found) > limit
            path = link[1]
        raise SkillError(f"{self._host} sent {MAX_PAGES} pages of tags without an end; ask with a smaller limit")

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

    def config(self, manifest: Document) -> dict[str, Any]:
        """Returns the configuration of an image."""
        digest = descriptors(manifest)[0]["digest"]
        config = _object(self.blob(digest, MAX_MANIFEST), f"configuration {digest}")
        settings = _typed(config, "config", dict, digest)
        for name, kind in (
            ("Env", list),
            ("Entrypoint", list),
            ("Cmd", list),
            ("Labels", dict),
            ("ExposedPorts", dict),
        ):
            _typed(settings, name, kind, digest)
        _texts(settings.get("Env"), f"Env of {digest}")
        _typed(config, "history", list, digest)
        return config

    def put_blob(self, data: bytes) -> str:
        """Uploads a blob unless it is there, and returns its digest."""
        digest = digest_of(data)
        if not self._has(digest):
            _, headers, _ = self._ask("POST", f"{self._name}/blobs/uploads/", body=b"")
            self._upload(headers.get("Location") or "", data, digest)
        return digest

    def _upload(self, place: str, data: bytes, digest: str) -> None:
        """Ends an upload that the registry opened at `place`."""
        place += ("&" if "?" in place else "?") + urlencode({"digest": digest})
        self._ask("PUT", place, body=data, content_type="application/octet-stream")

    def take(self, digest: str, source: Registry) -> None:
        """Makes a blob of the repository `source` one of this repository, too.

        Within a registry it is mounted. From another, or where the registry mounts nothing (which it may always
        answer), it is copied, and then has at most `MAX_BLOB` bytes.
        """
        same = source._host == self._host
        if (same and source._name == self._name) or self._has(digest):
            return
        if same:
            query = urlencode({"mount": digest, "from": source._name})
            status, headers, _ = self._ask("POST", f"{self._name}/blobs/uploads/?{query}", body=b"")
            if status != http.HTTPStatus.CREATED:
                self._upload(headers.get("Location") or "", source.blob(digest, MAX_BLOB), digest)
        else:
            self.put_blob(source.blob(digest, MAX_BLOB))

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
        try:
            address = urljoin(self._base, path)
            scheme, netloc = _origin(address)
        except ValueError:
            raise SkillError(f"{self._host} points to {path!r}, which is no address") from None
        if (scheme, netloc) != _origin(self._base):
            raise SkillError(f"{self._host} points to {scheme}://{netloc}; what lies elsewhere is not followed")
        headers = {"User-Agent": "OpenClaw-Skill", "Content-Type": content_type, "Accept": ", ".join(accept)}
        for attempt in range(2):
            own = {"Authorization": self._authorization} if self._authorization else {}
            sent = {name: value for name, value in {**headers, **own}.items() if value}
            request = urllib.request.Request(address, data=body, headers=sent, method=method)  # noqa: S310 (see base)
            try:
                return _read(request, limit, self._host)
            except HTTPError as error:
                said = _said(error)
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
        try:
            realm = urlsplit(parts.get("realm", ""))
        except ValueError:
            raise SkillError(f"{self._host} wants a login at {parts['realm']!r}, which is no address") from None
        local = urlsplit(self._base).scheme == "http"
        if scheme.lower() != "bearer" or realm.scheme not in ({"http", "https"} if local else {"https"}):
            raise SkillError(f"{self._host} wants a login of a kind that is not known: {scheme or 'none'}")
        query = parse_qs(realm.query) | {name: [parts[name]] for name in ("service", "scope") if name in parts}
        address = realm._replace(query=urlencode(query, doseq=True)).geturl()
        headers = {"User-Agent": "OpenClaw-Skill", **({"Authorization": f"Basic {self._basic}"} if self._basic else {})}
        try:
            _, _, data = _read(urllib.request.Request(address, headers=headers), MAX_MANIFEST, realm.netloc)  # noqa: S310
        except HTTPError as error:
            told = "check secrets.REGISTRY_USERNAME and REGISTRY_PASSWORD"
            raise SkillError(f"{realm.netloc} refused the login (HTTP {error.code}); {told}") from None
        answer = _object(data, f"{realm.netloc}'s token")
        self._authorization = f"Bearer {answer.get('token') or answer.get('access_token') or ''}"


def opened(ctx: Any, reference: Reference) -> Registry:
    """Opens a repository. The login is that of one registry; no other is told it."""
    login = ("", "")
    if ctx.config.get("registry") == reference.host:
        login = ctx.secrets.get("REGISTRY_USERNAME", ""), ctx.secrets.get("REGISTRY_PASSWORD", "")
    return Registry(reference, *login)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Blobs often lie elsewhere; there the registry's authorization is nobody's business."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.get_method() not in {"GET", "HEAD"}:
            return None
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and _origin(newurl) != _origin(req.full_url):
            new.remove_header("Authorization")
        return new


def _origin(address: str) -> tuple[str, str]:
    """Where credentials may go: the same host without TLS is another place."""
    parts = urlsplit(address)
    return parts.scheme, parts.netloc.lower()


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
    except (OSError, ValueError, http.client.HTTPException) as error:
        # ValueError: it redirects to what is no address.
        raise SkillError(f"{host} did not answer ({type(error).__name__}); try again") from None


def _said(error: HTTPError) -> bytes:
    """What came of a refusal's body: it may break off, and the status is told all the same."""
    try:
        return error.read(MAX_MANIFEST)
    except (OSError, http.client.HTTPException):
        return b""


def _refusal(host: str, path: str, status: int, said: bytes) -> str:
    try:
        reasons = "; ".join(each.get("message") or each.get("code") for each in json.loads(said)["errors"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        reasons = ""
    return f"{host} answered HTTP {status} for {path.partition('?')[0]}{': ' if reasons else ''}{reasons}"


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SkillError(f"{what} is no JSON object; nothing of it was used")
    return value


def _typed(value: dict[str, Any], name: str, kind: type, what: str) -> Any:
    """Returns one value of an object, and an empty one where there is none."""
    found = value.get(name)
    if found is None:
        return kind()
    if not isinstance(found, kind):
        raise SkillError(f"{name} of {what} is no {'object' if kind is dict else 'list'}; nothing of it was used")
    return found


def _texts(value: Any, what: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise SkillError(f"{what} is no list of texts; nothing of it was used")
    return value


def _descriptor(value: Any, what: str) -> dict[str, Any]:
    """Checks what names a blob or manifest: media type, digest and size."""
    if not isinstance(value, dict) or not (
        isinstance(value.get("mediaType"), str)
        and isinstance(value.get("size"), int)
        and isinstance(value.get("digest"), str)
        and _DIGEST.fullmatch(value["digest"])
    ):
        raise SkillError(f"{what} is no descriptor with mediaType, digest and size; nothing of it was used")
    return value


def descriptors(manifest: Document) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what names the configuration and the layers of an image. Raises SkillError where they are not named."""
    value = manifest.value
    layers = [
        _descriptor(each, f"a layer of {manifest.digest}") for each in _typed(value, "layers", list, manifest.digest)
    ]
    return _descriptor(value.get("config"), f"config of {manifest.digest}"), layers


def children(document: Document) -> Iterator[dict[str, Any]]:
    """Yields what an index lists; nothing for a manifest. Raises SkillError where it lists something else."""
    for each in _typed(document.value, "manifests", list, document.digest) if document.media_type in INDEXES else ():
        _typed(_descriptor(each, f"an entry of {document.digest}"), "platform", dict, document.digest)
        yield each


def platform_name(value: dict[str, Any]) -> str:
    """Returns the platform of an image's configuration or of an entry of an index: linux/arm64/v8."""
    return "/".join(str(value[name]) for name in ("os", "architecture", "variant") if value.get(name))


def runs_on(config: dict[str, Any], platform: str) -> bool:
    """Whether an image is for a platform; a variant counts where both name one."""
    own, wanted = platform_name(config).split("/"), platform.split("/")
    return len(own) > 1 and all(mine == theirs for mine, theirs in zip(own, wanted, strict=False))
