"""The gateway's side of the egress proxy: a way out for each call that may have one, and what became of it."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import httpx

from openclaw_runtime.egress.grant import Grant, GrantError, issue
from openclaw_runtime.netloc import in_url
from openclaw_runtime.sandbox.client import CallOptions, Calls, UnreachableError
from openclaw_runtime.sandbox.endpoint import Endpoint
from openclaw_runtime.sandbox.errors import SandboxBusyError, SandboxError, SandboxUnavailableError, UnauthorizedError
from openclaw_runtime.sandbox.protocol import Holder
from openclaw_runtime.sandbox.signing import Signs
from openclaw_runtime.skills.types import CallContext, SkillCall, SkillResult

ASK_SECONDS: Final = 0.5
"""How long the answer of a call may wait for what the proxy knows of it."""
CACHE_SECONDS: Final = 30.0
GRACE_SECONDS: Final = 30
"""A grant outlives the time limit of its call by this: connecting and sending come before the limit starts."""

_log = logging.getLogger(__name__)
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


async def lookup(host: str, port: int) -> list[str]:
    """Returns the addresses of a Service. Raises OSError if there are none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class EgressClient:
    """Signs grants and asks for decisions. Sandboxes resolve no names, so they are told the proxy's address.

    `host` is the proxy's Service; `<host>-api` is the headless one that leads to each of its pods. A call may wait for
    its user for `ask_seconds` on top of its own time.
    """

    def __init__(
        self,
        signer: Signs,
        host: str,
        port: int,
        api_port: int,
        *,
        ask_seconds: float = 0,
        find: Lookup = lookup,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._signer = signer
        self._host = host
        self._port = port
        self._api_port = api_port
        self._ask_seconds = ask_seconds
        self._find = find
        self._now = now
        self._steady = steady
        self._address: tuple[float, str] | None = None
        self._http = httpx.AsyncClient(timeout=ASK_SECONDS, trust_env=False)

    async def close(self) -> None:
        """Closes connections."""
        await self._http.aclose()

    def token(self, call: SkillCall, client: str, seconds: float) -> str | None:
        """Returns what lets a call out of the pod at address `client` for that long; None if it declares no network.

        Raises `SandboxUnavailableError` where its domains do not fit in a token.
        """
        permissions = call.skill.permissions
        internal, external = "network:internal" in permissions, "network:external" in permissions
        if not (internal or external):
            return None
        expires_at = int(self._now() + seconds + self._ask_seconds) + GRACE_SECONDS
        domains = call.skill.allowed_domains
        grant = Grant(call.call_id, call.agent, call.skill.name, client, domains, internal, external, expires_at)
        try:
            return issue(self._signer, grant)
        except GrantError as error:
            raise SandboxUnavailableError(f"skill {call.skill.name}: {error}") from None

    async def proxy_url(self, call: SkillCall, token: str) -> str:
        """Returns the proxy's URL with the token in it. Raises `SandboxUnavailableError` if there is no proxy."""
        now = self._steady()
        if self._address is None or self._address[0] < now:
            try:
                address = (await self._find(self._host, self._port))[0]
            except (OSError, IndexError):
                raise SandboxUnavailableError(
                    f"the egress proxy {self._host}, which skill {call.skill.name} needs, cannot be found; "
                    "is its Deployment there?"
                ) from None
            self._address = (now + CACHE_SECONDS, address)
        return f"http://{call.call_id}:{token}@{in_url(self._address[1])}:{self._port}"

    async def end(self, call_id: str, token: str) -> tuple[bool, list[dict[str, Any]]]:
        """Ends a call's way out.

        Returns whether every replica knows, and what they decided, oldest first; what is not said in time is left out.
        """
        try:
            async with asyncio.timeout(ASK_SECONDS):
                pods = await self._find(f"{self._host}-api", self._api_port)
                answers = await asyncio.gather(*(self._end(pod, call_id, token) for pod in pods))
        except (OSError, TimeoutError) as error:
            _log.warning("no egress proxy was told that call %s is over: %s", call_id, error or type(error).__name__)
            return False, []
        told = [item for answer in answers for item in answer or ()]
        return None not in answers, sorted(told, key=lambda item: float(item.get("time", 0)))

    async def _end(self, pod: str, call_id: str, token: str) -> list[dict[str, Any]] | None:
        """Returns None where a replica does not answer."""
        try:
            return await self._ask(pod, call_id, token)
        except (OSError, httpx.HTTPError, ValueError) as error:
            _log.warning("egress proxy %s, call %s is over: %s", pod, call_id, error or type(error).__name__)
            return None

    async def _ask(self, pod: str, call_id: str, token: str) -> list[dict[str, Any]]:
        url = f"http://{in_url(pod)}:{self._api_port}/v1/calls/{call_id}/end"
        answer = (await self._http.get(url, headers={"Authorization": f"Bearer {token}"})).raise_for_status().json()
        decisions: list[dict[str, Any]] = list(answer["decisions"])
        if answer.get("more"):
            decisions.append({"more": answer["more"], "time": decisions[-1]["time"]})
        return decisions


class ProxiedCalls:
    """Makes calls that may have a way out: with a token, which ends with them.

    What the proxy decided is in `call.network` afterwards.
    """

    def __init__(self, calls: Calls, egress: EgressClient) -> None:
        self._calls = calls
        self._egress = egress

    async def call(
        self, endpoint: Endpoint, call: SkillCall, options: CallOptions, context: CallContext
    ) -> SkillResult:
        """Makes one call on one sandbox. See `SandboxClient.call`."""
        token = None
        if isinstance(endpoint.address, tuple):
            token = self._egress.token(call, endpoint.address[0], options.limits.timeout_seconds)
        if token is None:
            return await self._calls.call(endpoint, call, options, context)
        kept: list[float] = []
        proxied = replace(options, proxy_url=await self._egress.proxy_url(call, token), on_kept=kept.append)
        try:
            result = await self._calls.call(endpoint, call, proxied, context)
        except (UnreachableError, SandboxBusyError, UnauthorizedError):
            raise  # nothing has run
        except BaseException:
            await asyncio.shield(self._over(endpoint, call, token, kept, options))
            raise
        await asyncio.shield(self._over(endpoint, call, token, kept, options))
        return result

    async def _over(
        self, endpoint: Endpoint, call: SkillCall, token: str, kept: Sequence[float], options: CallOptions
    ) -> None:
        """Ends the grant. A sandbox whose former grant may still be good takes no other call."""
        ended, decisions = await self._egress.end(call.call_id, token)
        call.network.extend(decisions)
        if kept and ended:
            options.on_kept(kept[0])
        elif kept:
            with contextlib.suppress(SandboxError):
                await self._calls.release(endpoint, Holder(call.agent, call.session, call.skill.name))

    async def release(self, endpoint: Endpoint, holder: Holder) -> None:
        """Gives a leased sandbox back."""
        await self._calls.release(endpoint, holder)
