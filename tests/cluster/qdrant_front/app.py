"""The HTTP side: routes, the API key, and answers in Qdrant's shape."""

from __future__ import annotations

import hmac
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.cluster.qdrant_front import points
from tests.cluster.qdrant_front.errors import BadRequestError, FrontError, NotFoundError
from tests.cluster.qdrant_front.multipart import file_of
from tests.cluster.qdrant_front.store import Collection, Store, describe

VERSION = "1.20.0"
"""The version of the API it speaks, which qdrant-client compares with its own."""
TITLE = "qdrant front (test equipment, not a Qdrant server)"
OPEN_PATHS = frozenset({"/", "/healthz", "/livez", "/readyz"})

Handler = Callable[[Request], Awaitable[Response]]
OnCollection = Callable[[Collection, dict[str, Any]], Any]


class ApiKey:
    """Every path but health needs the key, as `api-key` header or bearer token (Qdrant's own rule)."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self.app = app
        self.key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.key and scope["path"] not in OPEN_PATHS:
            headers = Request(scope).headers
            given = headers.get("api-key") or headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self.key.encode()):
                message = (
                    "Invalid API key or JWT" if given else "Must provide an API key or an Authorization bearer token"
                )
                await PlainTextResponse(message, 401)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def ok(result: Any, started: float) -> Response:
    return JSONResponse({"result": result, "status": "ok", "time": time.perf_counter() - started})


async def on_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, FrontError)
    return JSONResponse({"status": {"error": str(error)}, "time": 0.0}, error.status)


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of the request, empty when there is none. Raises BadRequestError."""
    raw = await request.body()
    try:
        body = json.loads(raw) if raw else {}
    except ValueError as error:
        raise BadRequestError(f"Format error in JSON body: {error}") from error
    if not isinstance(body, dict):
        raise BadRequestError("Format error in JSON body: not an object")
    return body


def collection_route(work: OnCollection) -> Handler:
    """A handler that runs `work(collection, body)` in a thread. A missing or odd field is the caller's mistake."""

    async def handle(request: Request) -> Response:
        started = time.perf_counter()
        collection = store_of(request).get(request.path_params["collection"])
        body = await body_of(request)
        try:
            result = await run_in_threadpool(work, collection, body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadRequestError(f"Format error in JSON body: {error!r}") from error
        return ok(result, started)

    return handle


def store_route(work: Callable[[Store, Request, dict[str, Any]], Any]) -> Handler:
    """A handler that runs `work(store, request, body)` in a thread."""

    async def handle(request: Request) -> Response:
        started = time.perf_counter()
        body = await body_of(request)
        try:
            result = await run_in_threadpool(work, store_of(request), request, body)
        except (KeyError, TypeError) as error:
            raise BadRequestError(f"Format error in JSON body: {error!r}") from error
        return ok(result, started)

    return handle


def store_of(request: Request) -> Store:
    store = request.app.state.store
    assert isinstance(store, Store)
    return store


# --- collections ------------------------------------------------------------------------------------------------------
def create_collection(store: Store, request: Request, body: dict[str, Any]) -> bool:
    store.create(request.path_params["collection"], body)
    return True


def delete_collection(store: Store, request: Request, _: dict[str, Any]) -> bool:
    return store.delete(request.path_params["collection"])


def change_collection(store: Store, request: Request, body: dict[str, Any]) -> bool:
    store.get(request.path_params["collection"]).change(body)
    return True


def list_collections(store: Store, *_: Any) -> dict[str, Any]:
    return {"collections": [{"name": name} for name in store.collections]}


def collection_exists(store: Store, request: Request, _: dict[str, Any]) -> dict[str, bool]:
    name = request.path_params["collection"]
    return {"exists": store.aliases.get(name, name) in store.collections}


def list_aliases(store: Store, request: Request, _: dict[str, Any]) -> dict[str, Any]:
    wanted = request.path_params.get("collection")
    pairs = [
        {"alias_name": alias, "collection_name": target}
        for alias, target in store.aliases.items()
        if wanted in {None, target}
    ]
    return {"aliases": pairs}


def change_aliases(store: Store, _: Request, body: dict[str, Any]) -> bool:
    store.change_aliases(body["actions"])
    return True


def get_point(collection: Collection, point_id: str) -> dict[str, Any]:
    key: int | str = int(point_id) if point_id.isdigit() else point_id
    found = points.retrieve(collection, {"ids": [key], "with_vector": True})
    if not found:
        raise NotFoundError(f"Not found: Point with id {point_id} does not exists!")
    return found[0]


# --- snapshots --------------------------------------------------------------------------------------------------------
def create_snapshot(store: Store, request: Request, _: dict[str, Any]) -> dict[str, Any]:
    return store.create_snapshot(request.path_params["collection"])


def list_snapshots(store: Store, request: Request, _: dict[str, Any]) -> list[dict[str, Any]]:
    return store.list_snapshots(request.path_params["collection"])


def delete_snapshot(store: Store, request: Request, _: dict[str, Any]) -> bool:
    store.snapshot(request.path_params["collection"], request.path_params["snapshot"]).unlink()
    return True


async def download_snapshot(request: Request) -> Response:
    file = store_of(request).snapshot(request.path_params["collection"], request.path_params["snapshot"])
    checksum = (await run_in_threadpool(describe, file))["checksum"]
    return FileResponse(file, filename=file.name, headers={"x-checksum-sha256": checksum})


async def upload_snapshot(request: Request) -> Response:
    """multipart/form-data with one file in the field `snapshot`."""
    started = time.perf_counter()
    content = file_of(request.headers.get("content-type", ""), await request.body(), "snapshot")

    def recover() -> None:
        with NamedTemporaryFile(dir=store_of(request).snapshots) as file:
            file.write(content)
            file.flush()
            checksum = request.query_params.get("checksum")
            store_of(request).recover(request.path_params["collection"], Path(file.name), checksum)

    await run_in_threadpool(recover)
    return ok(result=True, started=started)


def recover_snapshot(store: Store, request: Request, body: dict[str, Any]) -> bool:
    """{"location": file:// or http(s)://, "checksum", "api_key"}."""
    location = urlsplit(body["location"])
    name = request.path_params["collection"]
    if location.scheme == "file":
        if not Path(location.path).is_file():
            raise BadRequestError(f"Snapshot file {location.path} does not exist")
        store.recover(name, Path(location.path), body.get("checksum"))
        return True
    if location.scheme not in {"http", "https"}:
        raise BadRequestError(f"location: {body['location']!r} is neither file:// nor http(s)://")
    headers = {"api-key": body["api_key"]} if body.get("api_key") else {}
    with NamedTemporaryFile(dir=store.snapshots) as file:
        try:
            with urllib.request.urlopen(urllib.request.Request(body["location"], headers=headers)) as response:
                while chunk := response.read(1 << 20):
                    file.write(chunk)
        except OSError as error:
            raise BadRequestError(f"Failed to download snapshot: {error}") from error
        file.flush()
        store.recover(name, Path(file.name), body.get("checksum"))
    return True


# --- service ----------------------------------------------------------------------------------------------------------
async def root(_: Request) -> Response:
    return JSONResponse({"title": TITLE, "version": VERSION, "commit": None})


async def healthy(_: Request) -> Response:
    return PlainTextResponse("healthz check passed")


async def ready(_: Request) -> Response:
    return PlainTextResponse("all shards are ready")


def metrics_text(store: Store) -> str:
    counts = {name: collection.info()["points_count"] for name, collection in store.collections.items()}
    lines = [
        "# HELP app_info information about qdrant server",
        "# TYPE app_info gauge",
        f'app_info{{name="qdrant-front",version="{VERSION}"}} 1',
        "# HELP collections_total number of collections",
        "# TYPE collections_total gauge",
        f"collections_total {len(counts)}",
        "# HELP collection_points approximate amount of points per collection",
        "# TYPE collection_points gauge",
        *(f'collection_points{{id="{name}"}} {number}' for name, number in counts.items()),
    ]
    return "\n".join(lines) + "\n"


async def metrics(request: Request) -> Response:
    return PlainTextResponse(await run_in_threadpool(metrics_text, store_of(request)))


def telemetry(store: Store, *_: Any) -> dict[str, Any]:
    return {
        "id": TITLE,
        "app": {"name": "qdrant-front", "version": VERSION},
        "collections": {"number_of_collections": len(store.collections)},
    }


def routes() -> list[Route]:
    one = "/collections/{collection}"
    at_point = f"{one}/points"

    def on(path: str, method: str, work: OnCollection) -> Route:
        return Route(path, collection_route(work), methods=[method])

    def over(path: str, method: str, work: Callable[[Store, Request, dict[str, Any]], Any]) -> Route:
        return Route(path, store_route(work), methods=[method])

    async def point(request: Request) -> Response:
        started = time.perf_counter()
        collection = store_of(request).get(request.path_params["collection"])
        return ok(await run_in_threadpool(get_point, collection, request.path_params["point"]), started)

    return [
        Route("/", root),
        Route("/healthz", healthy),
        Route("/livez", healthy),
        Route("/readyz", ready),
        Route("/metrics", metrics),
        over("/telemetry", "GET", telemetry),
        over("/aliases", "GET", list_aliases),
        over("/collections", "GET", list_collections),
        over("/collections/aliases", "POST", change_aliases),
        over(one, "PUT", create_collection),
        over(one, "PATCH", change_collection),
        over(one, "DELETE", delete_collection),
        on(one, "GET", lambda collection, _: collection.info()),
        over(f"{one}/exists", "GET", collection_exists),
        over(f"{one}/aliases", "GET", list_aliases),
        on(f"{one}/index", "PUT", lambda c, body: c.create_index(body["field_name"], body.get("field_schema"))),
        Route(f"{one}/index/{{field:path}}", _delete_index, methods=["DELETE"]),
        on(f"{one}/facet", "POST", points.facet),
        on(at_point, "PUT", points.upsert),
        on(at_point, "POST", points.retrieve),
        on(f"{at_point}/delete", "POST", points.delete),
        on(f"{at_point}/payload", "POST", points.set_payload),
        on(f"{at_point}/payload", "PUT", points.overwrite_payload),
        on(f"{at_point}/payload/delete", "POST", points.delete_payload),
        on(f"{at_point}/payload/clear", "POST", points.clear_payload),
        on(f"{at_point}/vectors", "PUT", points.update_vectors),
        on(f"{at_point}/vectors/delete", "POST", points.delete_vectors),
        on(f"{at_point}/batch", "POST", points.batch),
        on(f"{at_point}/query", "POST", points.query),
        on(f"{at_point}/query/batch", "POST", points.query_batch),
        on(f"{at_point}/scroll", "POST", points.scroll),
        on(f"{at_point}/count", "POST", points.count),
        Route(f"{at_point}/{{point}}", point, methods=["GET"]),
        over(f"{one}/snapshots", "POST", create_snapshot),
        over(f"{one}/snapshots", "GET", list_snapshots),
        Route(f"{one}/snapshots/upload", upload_snapshot, methods=["POST"]),
        over(f"{one}/snapshots/recover", "PUT", recover_snapshot),
        Route(f"{one}/snapshots/{{snapshot}}", download_snapshot, methods=["GET"]),
        over(f"{one}/snapshots/{{snapshot}}", "DELETE", delete_snapshot),
    ]


async def _delete_index(request: Request) -> Response:
    started = time.perf_counter()
    collection = store_of(request).get(request.path_params["collection"])
    return ok(await run_in_threadpool(collection.delete_index, request.path_params["field"]), started)


async def not_found(request: Request, _: Exception) -> Response:
    return JSONResponse({"status": {"error": f"Not found: {request.url.path}"}, "time": 0.0}, 404)


def create_app(storage: Path, snapshots: Path, api_key: str | None) -> Starlette:
    """The application over a storage folder. Collections are open as long as it runs."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.store = await run_in_threadpool(Store, storage, snapshots)
        try:
            yield
        finally:
            with suppress(FrontError):
                await run_in_threadpool(app.state.store.close)

    return Starlette(
        routes=routes(),
        middleware=[Middleware(ApiKey, key=api_key)],
        exception_handlers={FrontError: on_error, 404: not_found},
        lifespan=lifespan,
    )
