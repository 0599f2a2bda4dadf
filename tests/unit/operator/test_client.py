"""How collections are read, page by page."""

from __future__ import annotations

import json

import pytest

from openclaw_operator.cluster import client as module
from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.connection import Connection
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.errors import ApiError, GoneError
from openclaw_operator.telemetry import Metrics
from tests.fakes.http_server import Reply, Seen, serve

SERVICE = BY_NAME["Service"]
NAMES = ["ada", "bob", "eve"]


class Pages:
    """An API server with one object a page, which answers the request of that number with `status`, so many times."""

    def __init__(
        self, status: int = 200, *, at: int = 0, times: int = 0, headers: dict[str, str] | None = None
    ) -> None:
        self._status = status
        self._headers = headers or {}
        self._at = at
        self._left = times
        self.asked: list[str] = []
        self.encodings: set[str | None] = set()

    def __call__(self, seen: Seen) -> Reply:
        page = int(seen.query.get("continue", "0"))
        self.asked.append(NAMES[page])
        self.encodings.add(seen.headers.get("accept-encoding"))
        if page == self._at and self._left:
            self._left -= 1
            return Reply(self._status, b'{"reason": "Test", "message": "not now"}', self._headers)
        following = str(page + 1) if page + 1 < len(NAMES) else ""
        items = [{"metadata": {"name": NAMES[page]}}]
        body = {"metadata": {"resourceVersion": "7", "continue": following}, "items": items}
        return Reply(200, json.dumps(body).encode())


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_BACKOFF_SECONDS", (0.0, 0.0, 0.0))


async def names(pages: Pages) -> list[str]:
    async def no_token() -> str | None:
        return None

    with serve(pages) as server:
        async with Client(Connection(server.url, no_token), Metrics()) as client:
            return [item["metadata"]["name"] async for page in client.pages(SERVICE, None) for item in page["items"]]


async def test_all_pages_are_read_as_they_are() -> None:
    pages = Pages()
    assert await names(pages) == NAMES
    assert pages.asked == NAMES
    assert pages.encodings == {"identity"}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_page_that_does_not_come_is_asked_for_again_and_not_all_before_it(status: int) -> None:
    pages = Pages(status, at=1, times=3)
    assert await names(pages) == NAMES
    assert pages.asked == ["ada", "bob", "bob", "bob", "bob", "eve"]


async def test_a_page_whose_connection_breaks_is_asked_for_again() -> None:
    pages = Pages(200, at=2, times=1, headers={"Content-Length": "999"})
    assert await names(pages) == NAMES
    assert pages.asked == ["ada", "bob", "eve", "eve"]


async def test_a_server_that_asks_for_time_gets_it_within_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("openclaw_operator.cluster.client.asyncio.sleep", sleep)
    for asked in ("7", "600"):
        assert await names(Pages(503, at=1, times=1, headers={"Retry-After": asked})) == NAMES
    # aiohttp yields now and then.
    assert [seconds for seconds in waited if seconds] == [7.0, 10.0]


async def test_a_page_that_never_comes_is_given_up() -> None:
    pages = Pages(503, at=1, times=9)
    with pytest.raises(ApiError, match="not now"):
        await names(pages)
    assert pages.asked == ["ada", "bob", "bob", "bob", "bob"]


async def test_the_first_page_is_its_callers_to_ask_for_again() -> None:
    pages = Pages(503, at=0, times=9)
    with pytest.raises(ApiError):
        await names(pages)
    assert pages.asked == ["ada"]


async def test_a_list_that_is_too_old_to_go_on_is_begun_again_by_its_caller() -> None:
    pages = Pages(410, at=2, times=1)
    with pytest.raises(GoneError):
        await names(pages)
    assert pages.asked == NAMES
