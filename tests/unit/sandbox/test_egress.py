"""Who may reach what, without a proxy: grants, names, addresses, what is kept, and the gateway's side."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import respx

from openclaw_runtime.egress import policy
from openclaw_runtime.egress.client import EgressClient, ProxiedCalls
from openclaw_runtime.egress.decider import MAX_RESOLVING, Decider
from openclaw_runtime.egress.ended import Ended
from openclaw_runtime.egress.grant import CONTEXT, Grant, GrantError, issue, refusal, verify
from openclaw_runtime.egress.journal import MAX_PER_CALL, Decision, Journal
from openclaw_runtime.egress.settings import read_settings
from openclaw_runtime.environ import SettingsError
from openclaw_runtime.sandbox.client import CallOptions
from openclaw_runtime.sandbox.endpoint import Endpoint
from openclaw_runtime.sandbox.errors import SandboxUnavailableError, SkillCrashedError
from openclaw_runtime.sandbox.protocol import Holder, Limits
from openclaw_runtime.sandbox.signing import CLOCK_SKEW_SECONDS, Signer, Verifier
from openclaw_runtime.skills.types import InstalledSkill, SkillCall, SkillResult

NOW = 1_800_000_000
POD = "10.244.0.7"
GRANT = Grant("call-1", "writer", "fetch", POD, ("example.com",), internal=False, external=True, expires_at=NOW + 60)
SIGNER = Signer(bytes(range(32)))
VERIFIER = Verifier([SIGNER.public_key])


# --- grants ---
def test_a_grant_survives_the_way_and_nothing_else_does() -> None:
    token = issue(SIGNER, GRANT)
    assert verify(VERIFIER, token) == GRANT
    body, _, signature = token.partition(".")
    for forged, reason in (
        (f"{body[:-1]}x.{signature}", "token_forged"),
        (f"{body}.{'A' * 86}", "token_forged"),
        (body, "token_forged"),
        (SIGNER.sign(body), "token_forged"),
        ("ä.ö", "token_malformed"),
        ("", "token_forged"),
    ):
        with pytest.raises(GrantError, match=reason):
            verify(VERIFIER, forged)
    with pytest.raises(GrantError, match="token_forged"):
        verify(Verifier([Signer.generate().public_key]), token)
    rotating = Verifier([Signer.generate().public_key, SIGNER.public_key])
    assert verify(rotating, token) == GRANT


def test_a_signature_made_for_a_call_is_no_grant() -> None:
    body = issue(SIGNER, GRANT).partition(".")[0]
    as_call = SIGNER.sign(body).replace("+", "-").replace("/", "_").rstrip("=")
    with pytest.raises(GrantError, match="token_forged"):
        verify(VERIFIER, f"{body}.{as_call}")
    assert SIGNER.sign(body, CONTEXT) != SIGNER.sign(body)


@pytest.mark.parametrize(
    ("client", "now", "reason"),
    [
        (POD, NOW, None),
        (POD, NOW + 89, None),
        (POD, NOW + 91, "token_expired"),
        (POD, NOW - 7200, "token_too_long"),
        ("10.244.0.8", NOW, "token_of_another_pod"),
    ],
)
def test_a_grant_is_for_one_pod_and_one_time(client: str, now: int, reason: str | None) -> None:
    assert refusal(GRANT, client=client, now=now) == reason


def test_more_domains_than_fit_are_said_not_cut() -> None:
    many = tuple(f"{number:x}{number * 7919:x}.{'x' * 60}{number}.example" for number in range(2000))
    with pytest.raises(GrantError, match="allowedDomains: 2000 names"):
        issue(SIGNER, replace(GRANT, domains=many))
    assert len(issue(SIGNER, replace(GRANT, domains=many[:128]))) < 6000


# --- names and addresses ---
@pytest.mark.parametrize(
    ("domain", "host", "port", "reason"),
    [
        ("example.com", "example.com", 443, "allowed"),
        ("Example.COM", "example.com", 80, "allowed"),
        ("example.com", "example.com", 8443, "port_not_allowed"),
        ("example.com:8443", "example.com", 8443, "allowed"),
        ("example.com:8443", "example.com", 443, "port_not_allowed"),
        ("example.com", "www.example.com", 443, "domain_not_allowed"),
        ("example.com", "notexample.com", 443, "domain_not_allowed"),
        ("*.example.com", "a.b.example.com", 443, "allowed"),
        ("*.example.com", "example.com", 443, "domain_not_allowed"),
        ("*.example.com", "notexample.com", 443, "domain_not_allowed"),
        ("*", "anything.org", 443, "allowed"),
        ("*", "10.0.0.1", 443, "domain_not_allowed"),
        ("*", "::1", 443, "domain_not_allowed"),
        ("10.0.0.1:9", "10.0.0.1", 9, "allowed"),
        ("[fd00::1]:9", "fd00::1", 9, "allowed"),
        ("[fd00:0:0::1]", "fd00::1", 443, "allowed"),
        ("example.com:x", "example.com", 443, "domain_not_allowed"),
    ],
)
def test_names(domain: str, host: str, port: int, reason: str) -> None:
    assert policy.judge_name(replace(GRANT, domains=(domain,)), host, port).reason == reason


def test_a_list_opens_nothing_without_a_permission() -> None:
    assert policy.judge_name(replace(GRANT, external=False), "example.com", 443).reason == "no_network_permission"


RULES = policy.Rules(frozenset({ip_address("10.96.0.1")}), denied=(ip_network("203.0.113.0/24"),))


@pytest.mark.parametrize(
    ("addresses", "external", "internal"),
    [
        (["93.184.216.34"], "allowed", "address_public"),
        (["2606:2800::1"], "allowed", "address_public"),
        (["10.1.2.3"], "address_private", "allowed"),
        (["100.64.0.1"], "address_private", "allowed"),
        (["fd12::1"], "address_private", "allowed"),
        (["93.184.216.34", "10.1.2.3"], "address_private", "address_public"),
        (["10.96.0.1"], "api_server", "api_server"),
        (["203.0.113.9"], "address_denied", "address_denied"),
        ([], "not_resolved", "not_resolved"),
        *(
            ([address], "address_forbidden", "address_forbidden")
            for address in (
                *("127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1"),
                *("fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
                *("2002:7f00:1::1", "::127.0.0.1", "100.100.100.200", "168.63.129.16"),
            )
        ),
    ],
)
def test_addresses(addresses: list[str], external: str, internal: str) -> None:
    inside = replace(GRANT, internal=True, external=False)
    assert policy.judge_addresses(GRANT, RULES, "example.com", addresses).reason == external
    assert policy.judge_addresses(inside, RULES, "example.com", addresses).reason == internal


def test_the_api_server_is_open_only_to_those_who_name_it_where_the_platform_lets_them() -> None:
    host = "kubernetes.default.svc"
    inside = replace(GRANT, internal=True, domains=(host,))
    open_rules = replace(RULES, allow_api_server=True)
    assert policy.judge_addresses(inside, open_rules, host, ["10.96.0.1"]).allowed
    assert not policy.judge_addresses(replace(inside, domains=("*",)), open_rules, host, ["10.96.0.1"]).allowed
    assert not policy.judge_addresses(replace(inside, internal=False), open_rules, host, ["10.96.0.1"]).allowed
    assert not policy.judge_addresses(inside, RULES, host, ["10.96.0.1"]).allowed


# --- the conversation with Squid ---
class Names:
    def __init__(self, **addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.addresses.get(host.replace(".", "_"), [])


def decider(names: Names) -> tuple[Decider, Journal, list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []
    journal = Journal(lines.append)
    ids = iter(f"d{number}" for number in range(1000))
    return Decider(VERIFIER, RULES, journal, names, lambda: NOW, lambda: next(ids)), journal, lines


def question(host: str, token: str, *, method: str = "CONNECT", port: int = 443) -> str:
    credentials = "Basic " + base64.b64encode(f"call-1:{token}".encode()).decode()
    return " ".join(["request", POD, "40000", method, host, str(port), "-", "-", quote(credentials)])


async def test_the_address_that_was_judged_is_the_one_that_is_dialled() -> None:
    names = Names(example_com=["93.184.216.34", "93.184.216.35"])
    decide, journal, lines = decider(names)
    assert await decide.decide(question("EXAMPLE.com.", issue(SIGNER, GRANT))) == "OK decision=d0"
    assert await decide.rewrite("example.com:443 d0") == "OK rewrite-url=93.184.216.34:443 pinned=yes"
    assert names.asked == ["example.com"]
    assert await decide.decide(f"sni {POD} 1 CONNECT 93.184.216.34 443 d0 example.com -") == "OK"
    decide.over(f"{POD} d0 200 1000 300 12 CONNECT")
    assert lines[0]["verdict"] == "allowed"
    assert (lines[0]["bytesReceived"], lines[0]["bytesSent"], lines[0]["address"]) == (1000, 300, "93.184.216.34")
    assert journal.of_call("call-1")["decisions"][0]["durationMs"] == 12
    # Over is over: nothing more can ride on it.
    assert await decide.rewrite("example.com:443 d0") == "BH message=no_decision"
    assert await decide.decide(f"sni {POD} 1 CONNECT 93.184.216.34 443 d0 example.com -") == "ERR"


@pytest.mark.parametrize(
    ("url", "rewritten"),
    [
        ("http://example.com/a?b=c", "http://93.184.216.34:80/a?b=c"),
        ("http://example.com?b=http://x/y", "http://93.184.216.34:80?b=http://x/y"),
    ],
)
async def test_a_plain_request_keeps_its_path(url: str, rewritten: str) -> None:
    decide, _, _ = decider(Names(example_com=["93.184.216.34"]))
    await decide.decide(question("example.com", issue(SIGNER, GRANT), method="GET", port=80))
    assert await decide.rewrite(f"{url} d0") == f"OK rewrite-url={rewritten} pinned=yes"


@pytest.mark.parametrize(
    ("sni", "reason"), [("-", "sni_missing"), ("other.com", "sni_mismatch"), ("example.com", "allowed")]
)
async def test_tls_asks_for_the_host_of_connect(sni: str, reason: str) -> None:
    decide, _, lines = decider(Names(example_com=["93.184.216.34"]))
    await decide.decide(question("example.com", issue(SIGNER, GRANT)))
    await decide.decide(f"sni {POD} 1 CONNECT 93.184.216.34 443 d0 {sni} -")
    decide.over(f"{POD} d0 200 0 0 1 CONNECT")
    assert lines[0]["reason"] == reason


async def test_a_tunnel_without_tls_was_for_nothing() -> None:
    decide, _, lines = decider(Names(example_com=["93.184.216.34"]))
    await decide.decide(question("example.com", issue(SIGNER, GRANT)))
    decide.over(f"{POD} d0 200 0 0 1 CONNECT")
    assert (lines[0]["verdict"], lines[0]["reason"]) == ("denied", "not_tls")


async def test_one_call_cannot_hold_up_the_resolver() -> None:
    answered = asyncio.Event()

    class Slow(Names):
        async def __call__(self, _: str) -> Sequence[str]:
            await answered.wait()
            return ["93.184.216.34"]

    decide, _, _ = decider(Slow())
    asked = [
        asyncio.ensure_future(decide.decide(question("example.com", issue(SIGNER, GRANT))))
        for _ in range(MAX_RESOLVING + 1)
    ]
    # The last one does not wait for the others.
    assert "too_many_lookups" in await asked[-1]
    answered.set()
    assert all(answer.startswith("OK") for answer in await asyncio.gather(*asked[:-1]))
    assert (await decide.decide(question("example.com", issue(SIGNER, GRANT)))).startswith("OK")


async def test_a_grant_ends_with_its_call_and_is_remembered_no_longer_than_it_would_have_been_good() -> None:
    decide, _, _ = decider(Names(example_com=["93.184.216.34"]))
    token = issue(SIGNER, GRANT)
    assert (await decide.decide(question("example.com", token))).startswith("OK")
    decide.end(GRANT)
    assert "token_ended" in await decide.decide(question("example.com", token))
    next_one = issue(SIGNER, replace(GRANT, call_id="call-2"))
    assert (await decide.decide(question("example.com", next_one))).startswith("OK")
    ended = Ended()
    for number in range(100):
        ended.add(replace(GRANT, call_id=f"c{number}", expires_at=NOW + number), NOW)
        ended.add(replace(GRANT, call_id=f"c{number}", expires_at=NOW + number), NOW)
    ended.add(replace(GRANT, call_id="last", expires_at=NOW + 200), NOW + 50 + CLOCK_SKEW_SECONDS)
    assert ("c49" in ended, "c50" in ended, "last" in ended, len(ended)) == (False, True, True, 51)


def test_many_decisions_of_a_call_are_counted_not_kept() -> None:
    lines: list[dict[str, Any]] = []
    journal = Journal(lines.append)
    for number in range(MAX_PER_CALL + 5):
        decision = Decision(str(number), NOW, POD, "GET", "example.com", 80, call_id="c")
        decision.deny("domain_not_allowed")
        journal.begin(decision)
        assert not journal.settled("c") or number >= MAX_PER_CALL
        journal.end(decision.id)
    kept = journal.of_call("c")
    assert (len(kept["decisions"]), kept["more"], len(lines)) == (MAX_PER_CALL, 5, MAX_PER_CALL + 5)
    assert 'openclaw_egress_requests_total{verdict="denied",reason="domain_not_allowed"} 105' in journal.metrics()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"OPENCLAW_EGRESS_PUBLIC_KEYS_FILE": ""}, "OPENCLAW_EGRESS_PUBLIC_KEYS_FILE: missing"),
        ({"OPENCLAW_EGRESS_PORT": "99999"}, "OPENCLAW_EGRESS_PORT: '99999' is not a port"),
        ({"OPENCLAW_EGRESS_DENIED_NETWORKS": "10.0.0.1/8"}, "'10.0.0.1/8' is not a network"),
        ({"OPENCLAW_EGRESS_ALLOW_API_SERVER": "yes"}, "'yes' is neither true nor false"),
        ({"KUBERNETES_SERVICE_HOST": "api"}, "'api' is not an IP address"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        read_settings({"OPENCLAW_EGRESS_PUBLIC_KEYS_FILE": "k", **changes})


# --- the gateway's side ---
class Calls:
    """Stands for the sandbox: notes the proxy's URL, and does as it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.urls: list[str] = []
        self.released: list[tuple[str, Holder]] = []

    async def call(self, endpoint: Endpoint, _: SkillCall, options: CallOptions, __: Any) -> SkillResult:
        self.urls.append(options.proxy_url)
        options.on_kept(300.0)
        if self.error:
            raise self.error
        return SkillResult({}, 1.0, "", endpoint.name)

    async def release(self, endpoint: Endpoint, holder: Holder) -> None:
        self.released.append((endpoint.name, holder))


def skill_call(*permissions: str) -> SkillCall:
    async def load() -> bytes:
        return b""

    skill = InstalledSkill("fetch", "1.0.0", "", "", "python", "", (), load, frozenset(permissions), ("example.com",))
    return SkillCall("call-1", "writer", "s", skill, "get", {}, 30.0)


OPTIONS = CallOptions(b"", Limits(timeout_seconds=30.0), frozenset())
ENDPOINT = Endpoint("pod", "uid", (POD, 7460))


def egress_client(addresses: list[str]) -> EgressClient:
    async def find(host: str, port: int) -> list[str]:
        if not addresses:
            raise OSError(f"{host} is not known")
        return addresses

    return EgressClient(SIGNER, "openclaw-egress", 3128, 7470, find=find, now=lambda: NOW, steady=lambda: 0.0)


@respx.mock
async def test_a_call_gets_a_grant_for_its_pod_and_its_record_the_decisions() -> None:
    told = {"decisions": [{"host": "example.com", "verdict": "allowed", "time": 2.0}], "more": 0}
    route = respx.get("http://10.96.0.9:7470/v1/calls/call-1/end").mock(return_value=httpx.Response(200, json=told))
    calls, call = Calls(), skill_call("network:external")
    await ProxiedCalls(calls, egress_client(["10.96.0.9"])).call(ENDPOINT, call, OPTIONS, None)  # type: ignore[arg-type]
    head, _, tail = calls.urls[0].rpartition("@")
    assert tail == "10.96.0.9:3128"
    grant = verify(VERIFIER, head.removeprefix("http://call-1:"))
    assert grant == replace(GRANT, expires_at=NOW + 60)
    assert call.network == told["decisions"]
    assert route.calls[0].request.headers["authorization"].startswith("Bearer ")


@respx.mock
async def test_a_call_that_failed_is_asked_about_too_and_a_silent_proxy_costs_no_result() -> None:
    respx.get("http://10.96.0.9:7470/v1/calls/call-1/end").mock(
        side_effect=[httpx.Response(200, json={"decisions": [{"time": 1}], "more": 3}), httpx.ConnectError("gone")]
    )
    call = skill_call("network:internal")
    with pytest.raises(SkillCrashedError):
        await ProxiedCalls(Calls(SkillCrashedError("x")), egress_client(["10.96.0.9"])).call(
            ENDPOINT,
            call,
            OPTIONS,
            None,  # type: ignore[arg-type]
        )
    assert call.network == [{"time": 1}, {"more": 3, "time": 1}]
    call = skill_call("network:internal")
    await ProxiedCalls(Calls(), egress_client(["10.96.0.9"])).call(ENDPOINT, call, OPTIONS, None)  # type: ignore[arg-type]
    assert json.dumps(call.network) == "[]"


@respx.mock
@pytest.mark.parametrize("error", [None, SkillCrashedError("x")], ids=["answered", "failed"])
async def test_a_leased_pod_whose_grant_may_still_be_good_takes_no_other_call(error: Exception | None) -> None:
    first = respx.get("http://10.0.0.1:7470/v1/calls/call-1/end")
    second = respx.get("http://10.0.0.2:7470/v1/calls/call-1/end")
    first.return_value = httpx.Response(200, json={"decisions": [], "more": 0})
    told = httpx.Response(200, json={"decisions": [], "more": 0})
    for answer, goes_on in ((httpx.Response(503), False), (told, True)):
        second.return_value = answer
        kept: list[float] = []
        calls, options = Calls(error), replace(OPTIONS, on_kept=kept.append)
        proxied = ProxiedCalls(calls, egress_client(["10.0.0.1", "10.0.0.2"]))
        with contextlib.suppress(SkillCrashedError):
            await proxied.call(ENDPOINT, skill_call("network:external"), options, None)  # type: ignore[arg-type]
        assert (kept, calls.released) == (([300.0], []) if goes_on else ([], [("pod", Holder("writer", "s", "fetch"))]))


async def test_without_a_network_permission_there_is_no_grant_and_without_a_proxy_a_clear_error() -> None:
    calls = Calls()
    await ProxiedCalls(calls, egress_client([])).call(ENDPOINT, skill_call(), OPTIONS, None)  # type: ignore[arg-type]
    assert calls.urls == [""]
    with pytest.raises(SandboxUnavailableError, match="egress proxy openclaw-egress, which skill fetch needs"):
        await ProxiedCalls(calls, egress_client([])).call(
            ENDPOINT,
            skill_call("network:external"),
            OPTIONS,
            None,  # type: ignore[arg-type]
        )
