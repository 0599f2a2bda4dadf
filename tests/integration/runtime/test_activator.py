"""A real activator over loopback: a request wakes its agent, is held, and is answered by the gateway that comes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from openclaw_runtime.activator import client as clients
from openclaw_runtime.activator import proxy, service
from openclaw_runtime.activator.board import Board, Report
from openclaw_runtime.activator.client import ActivatorClient
from openclaw_runtime.activator.settings import Settings, Sleeper, Sleepers
from openclaw_runtime.config import Activator
from openclaw_runtime.gateway.idle import IdleClock, Reporter
from openclaw_runtime.sandbox.kube import KubeError
from tests.cluster.processes import free_ports

WAIT_SECONDS = 60.0
TOKEN = "token-of-ada"
MINE = {"Authorization": f"Bearer {TOKEN}"}


def sleeper(wake_timeout: float = WAIT_SECONDS) -> Sleeper:
    return Sleeper(hashlib.sha256(TOKEN.encode()).hexdigest(), idle_seconds=60, wake_timeout_seconds=wake_timeout)


class ConfigMaps:
    """Those of the cluster; `written` is what was merged into ada's."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}
        self.written: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.faults = 0

    async def get_config_map(self, _namespace: str, name: str) -> dict[str, Any]:
        assert name == "ada-hibernation"
        return {"data": dict(self.data)}

    async def merge_config_map(self, _namespace: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        assert name == "ada-hibernation"
        if self.faults:
            self.faults -= 1
            raise KubeError("the API server is away")
        merged = self.data | change["data"]
        self.data = {key: value for key, value in merged.items() if value is not None}
        self.written.put_nowait(dict(self.data))
        return {"data": self.data}

    async def next(self) -> dict[str, Any]:
        """The next write."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.written.get()


class Running:
    """An activator and how to reach it."""

    def __init__(self, maps: ConfigMaps, stop: asyncio.Event, host: str, port: int, api_port: int) -> None:
        self.maps = maps
        self.stop = stop
        self.url = f"http://{host}:{port}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=WAIT_SECONDS)
        self.place = Activator(host=host, port=api_port, reports=True)
        self.client = ActivatorClient(lambda: self.place)

    async def holds(self, count: int) -> None:
        """Returns once so many requests are held."""
        health = f"http://{self.place.host}:{self.place.port}/health"
        async with asyncio.timeout(WAIT_SECONDS):
            while (await self.http.get(health)).json()["held"] != count:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)

    async def report(self, address: str, idle: float = 0.0, token: str = TOKEN, **more: Any) -> None:
        """As a gateway does."""
        await self.client.report(Report("ada-1", address, idle, **more), SecretStr(token))


@asynccontextmanager
async def activator(
    maps: ConfigMaps | None = None,
    agent: Sleeper | None = None,
    host: str = "127.0.0.1",
    ports: list[int] | None = None,
) -> AsyncIterator[Running]:
    front, api = ports or free_ports(2)
    settings = Settings(Path("unused"), "demo", host, front, api, grace_seconds=60, settle_seconds=0)
    known, stop = Sleepers({"ada": agent or sleeper()}), asyncio.Event()
    running = Running(maps or ConfigMaps(), stop, host, front, api)
    task = asyncio.create_task(service.run(settings, lambda: known, running.maps, stop))
    try:
        await _answers(f"http://{host}:{front}/health")
        await _answers(f"http://{host}:{api}/ready")
        yield running
    finally:
        await running.client.close()
        await running.http.aclose()
        stop.set()
        await task


async def _answers(url: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS), httpx.AsyncClient() as http:
        while True:
            try:
                assert (await http.get(url)).status_code == 200
            except httpx.ConnectError:
                await asyncio.sleep(0.02)
            else:
                return


@asynccontextmanager
async def gateway(*routes: Route) -> AsyncIterator[str]:
    """A gateway's address."""

    async def echo(request: Request) -> Response:
        body = (await request.body()).decode()
        seen = {"path": request.url.path, "query": request.url.query, "body": body, "host": request.headers["host"]}
        return JSONResponse(seen | {"token": request.headers["authorization"]}, headers={"X-Openclaw-Session": "s"})

    (port,) = free_ports(1)
    app = Starlette(routes=[*routes, Route("/v1/echo", echo, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not server.started:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def test_a_request_is_held_wakes_the_agent_and_reaches_its_gateway_as_it_was() -> None:
    maps = ConfigMaps()
    maps.data = {"state": "idle", "replicas": "1"}
    async with activator(maps) as running, gateway() as address:
        body = "x" * 300_000
        headers = MINE | {"Host": "ada.example.org"}
        asking = asyncio.create_task(running.http.post("/v1/echo?a=b%20c", content=body, headers=headers))
        assert await maps.next() == {"state": "active"}
        assert not asking.done()
        await running.report(address)
        answer = await asking
        assert (answer.status_code, answer.headers["x-openclaw-session"]) == (200, "s")
        seen = answer.json()
        assert (seen["path"], seen["query"], seen["body"]) == ("/v1/echo", "a=b%20c", body)
        assert (seen["host"], seen["token"]) == ("ada.example.org", MINE["Authorization"])
        # While the Service still leads here, requests go straight on.
        assert (await running.http.get("/v1/echo", headers=MINE)).status_code == 200
        assert maps.written.empty()


async def test_what_is_held_is_still_answered_by_one_that_is_replaced() -> None:
    maps = ConfigMaps()
    maps.data = {"state": "idle", "replicas": "1"}
    async with activator(maps) as running, gateway() as address:
        asking = asyncio.create_task(running.http.post("/v1/echo", content=b"held", headers=MINE))
        assert await maps.next() == {"state": "active"}
        running.stop.set()
        async with asyncio.timeout(WAIT_SECONDS), httpx.AsyncClient() as others:
            while True:
                try:
                    await others.get(f"{running.url}/health")
                except httpx.ConnectError:
                    break
                except httpx.TransportError:
                    # The connection of the one before.
                    continue
        await running.report(address)
        assert (await asking).json()["body"] == "held"


async def test_two_activators_hold_for_one_agent_and_agree_on_its_state() -> None:
    maps, ports = ConfigMaps(), free_ports(2)
    maps.data = {"state": "idle", "replicas": "1"}
    agent = Sleeper(sleeper().token_sha256, idle_seconds=0.05, wake_timeout_seconds=WAIT_SECONDS)
    hosts = ["127.0.0.1", "127.0.0.2"]

    async def find(_host: str, _port: int) -> Sequence[str]:
        return hosts

    async with (
        activator(maps, agent, hosts[0], ports) as one,
        activator(maps, agent, hosts[1], ports) as other,
        gateway() as address,
        asyncio.timeout(WAIT_SECONDS),
    ):
        gateways = ActivatorClient(lambda: one.place, find=find)
        asking = [asyncio.create_task(each.http.get("/v1/echo", headers=MINE)) for each in (one, other)]
        assert await maps.next() == {"state": "active"}
        for each in (one, other):
            await each.holds(1)
        await gateways.report(Report("ada-1", address, 0), SecretStr(TOKEN))
        assert [(await each).status_code for each in asking] == [200, 200]
        # Neither takes back what the other says.
        while maps.data["state"] != "idle":
            await gateways.report(Report("ada-1", address, 900), SecretStr(TOKEN))
        for _ in range(3):
            await gateways.report(Report("ada-1", address, 900), SecretStr(TOKEN))
        assert maps.data == {"state": "idle", "replicas": "1"}
        await gateways.close()


async def test_nobody_without_the_token_wakes_an_agent_and_probes_do_not_either() -> None:
    async with activator() as running:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            refused = await running.http.get("/v1/models", headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        for path in ("/health", "/ready", "/metrics"):
            assert (await running.http.get(path)).status_code == 200
        assert running.maps.written.empty()


async def test_a_stream_comes_through_piece_by_piece_and_ends_with_its_client() -> None:
    go_on, left = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        try:
            yield "data: one\n\n"
            await go_on.wait()
            yield "data: two\n\n"
            await asyncio.Event().wait()
        finally:
            left.set()

    async def stream(_request: Request) -> Response:
        return StreamingResponse(pieces(), media_type="text/event-stream")

    async with activator() as running, gateway(Route("/v1/stream", stream, methods=["POST"])) as address:
        await running.report(address)
        async with running.http.stream("POST", "/v1/stream", headers=MINE, content=b"{}") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.aiter_lines()
            assert await anext(lines) == "data: one"
            go_on.set()
            assert [await anext(lines), await anext(lines)] == ["", "data: two"]
        async with asyncio.timeout(WAIT_SECONDS):
            await left.wait()


async def test_an_agent_that_does_not_wake_in_time_is_said_to_be_so() -> None:
    async with activator(agent=sleeper(wake_timeout=0.2)) as running:
        answer = await running.http.post("/v1/echo", headers=MINE, content=b"{}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert answer.json()["error"]["message"] == "agent ada did not wake within 0.2 s; try again"


async def test_more_requests_than_can_be_held_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MOST_HELD", 1)
    maps = ConfigMaps()
    maps.data = {"state": "idle"}
    async with activator(maps) as running, gateway() as address:
        first = asyncio.create_task(running.http.get("/v1/echo", headers=MINE))
        await maps.next()
        second = await running.http.get("/v1/echo", headers=MINE)
        assert (second.status_code, "retry-after" in second.headers) == (503, True)
        await running.report(address)
        assert (await first).status_code == 200


async def test_an_address_where_nobody_is_any_more_costs_no_request() -> None:
    maps = ConfigMaps()
    async with activator(maps) as running, gateway() as address:
        await running.report(f"http://127.0.0.1:{free_ports(1)[0]}")
        asking = asyncio.create_task(running.http.post("/v1/echo", headers=MINE, content=b"still here"))
        await running.holds(1)
        await running.report(address)
        assert (await asking).json()["body"] == "still here"


async def test_a_fault_of_the_api_server_loses_no_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = ConfigMaps()
    maps.data, maps.faults = {"state": "idle"}, 2
    async with activator(maps) as running:
        running.client.wake("ada")
        assert await maps.next() == {"state": "active"}


async def test_a_message_wakes_its_agent_also_where_the_activator_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_PAUSE_SECONDS", 0.02)
    maps, (port,) = ConfigMaps(), free_ports(1)
    maps.data = {"state": "idle"}
    places = [Activator(host="127.0.0.1", port=port)]
    client = ActivatorClient(lambda: places[0])
    client.wake("ada")
    async with activator(maps) as running:
        client.wake("somebody-else")
        places[0] = running.place
        assert await maps.next() == {"state": "active"}
    await client.close()


async def test_a_gateway_speaks_for_its_own_agent_only() -> None:
    async with activator() as running, gateway() as address:
        await running.report(address, token="of-another")
        url = f"http://127.0.0.1:{running.place.port}/v1/report"
        assert (await running.http.post(url, headers={"Authorization": "Bearer x"}, content=b"{}")).status_code == 401
        assert (await running.http.post(url, headers=MINE, content=b"{}")).status_code == 400
        assert (await running.http.post(url, headers=MINE, content=b"x" * 20_000)).status_code == 400
        # A time that cannot be written would end the activator, for all agents of the namespace.
        never = b'{"replica": "a", "address": "", "idle_seconds": 9e9, "wake_at": 1e300}'
        assert (await running.http.post(url, headers=MINE, content=never)).status_code == 400
        assert (await running.http.get(f"http://127.0.0.1:{running.place.port}/health")).json()["agents"] == 1


class Clocks:
    """Two clocks a test turns."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def on_board(change: Callable[[Board, Clocks], None], settle: float = 0.0) -> Any:
    """What is said of ada after `change`."""
    clock = Clocks()
    board = Board(clock, clock, lambda _agent: None, settle_seconds=settle)
    change(board, clock)
    return board.state("ada", sleeper())


def said(board: Board, clock: Clocks, *reports: Report, later: float = 0.0) -> None:
    for report in reports:
        board.report("ada", report)
    clock.time += later


def wanted(board: Board, clock: Clocks, *reports: Report, later: float = 0.0) -> None:
    board.want("ada")
    said(board, clock, *reports, later=later)


A, B = "http://10.0.0.1:7456", "http://10.0.0.2:7456"


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda _board, _clock: None, None),
        (lambda board, clock: said(board, clock, Report("a", A, 59)), ("active", None)),
        (lambda board, clock: said(board, clock, Report("a", A, 60)), ("idle", "1")),
        (lambda board, clock: said(board, clock, Report("a", A, 60), Report("b", B, 70)), ("idle", "2")),
        (lambda board, clock: said(board, clock, Report("a", A, 60), Report("b", B, 0)), ("active", None)),
        # What was said long ago is nothing to go by.
        (lambda board, clock: said(board, clock, Report("a", A, 60), later=16), None),
        # Who shuts down idle says nothing; who does so with work left, that it is wanted again.
        (lambda board, clock: said(board, clock, Report("a", A, 60, accepts=False)), None),
        (lambda board, clock: said(board, clock, Report("a", A, 0, accepts=False)), ("active", None)),
        # Due soon, it stays; due later, it sleeps until then.
        (lambda board, clock: said(board, clock, Report("a", A, 60, wake_at=1000 + 100)), ("active", None)),
        (lambda board, clock: said(board, clock, Report("a", A, 60, wake_at=1000 + 200)), ("idle", "1")),
        (lambda board, _clock: board.want("ada"), ("active", None)),
        (lambda board, clock: wanted(board, clock, later=61), None),
        (lambda board, clock: wanted(board, clock, Report("a", A, 60)), ("active", None)),
    ],
)
def test_what_follows_from_what_is_known(change: Callable[[Board, Clocks], None], state: Any) -> None:
    found = on_board(change)
    assert (found and (found.state, found.replicas)) == state


def test_an_agent_is_not_idle_before_others_can_have_heard_that_it_hibernates() -> None:
    def twice(board: Board, clock: Clocks) -> None:
        said(board, clock, Report("a", A, 1000), later=age)
        said(board, clock, Report("a", A, 1000 + age))

    age = 149.0
    assert on_board(twice, settle=150).state == "active"
    age = 150.0
    assert on_board(twice, settle=150).state == "idle"


async def test_a_gateway_with_messages_left_is_not_idle() -> None:
    clock, told = Clocks(), []

    class Listener(ActivatorClient):
        async def report(self, report: Report, _token: Any) -> None:
            told.append((report.idle_seconds, report.accepts))

    turns: list[str] = []
    idle, waiting = IdleClock(clock, lambda: bool(turns)), [1]

    async def backlog() -> int:
        return waiting[0]

    reporter = Reporter(
        Listener(lambda: None), SecretStr("t"), replica="a", address=A, idle=idle,
        wanted=lambda: True, backlog=backlog, due=lambda: None,
    )  # fmt: skip
    clock.time += 100
    await reporter.leave()
    waiting[0] = 0
    await reporter.leave()
    with idle.busy():
        clock.time += 5
        await reporter.leave()
    clock.time += 7
    await reporter.leave()
    turns.append("scheduled")
    await reporter.leave()
    turns.clear()
    clock.time += 3
    await reporter.leave()
    assert [seconds for seconds, _ in told] == [0.0, 100.0, 0.0, 7.0, 0.0, 3.0]
