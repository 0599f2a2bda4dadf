"""Answers Squid's questions about a request: may it be made, which address is dialled, does the TLS name fit."""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

from openclaw_runtime.egress import grant as grants
from openclaw_runtime.egress import policy
from openclaw_runtime.egress.ended import Ended
from openclaw_runtime.egress.grant import Grant, GrantError
from openclaw_runtime.egress.journal import Decision, Journal
from openclaw_runtime.egress.resolver import Resolve
from openclaw_runtime.egress.squid import LOG_FIELDS, REQUEST_FIELDS
from openclaw_runtime.netloc import in_url
from openclaw_runtime.sandbox.signing import Checks

MAX_RESOLVING: Final = 8
"""Names of one call that are being resolved at once: a slow name server must not hold up other calls."""
_MAX_SHOWN: Final = 300


class Decider:
    """One object decides for a namespace. `now` is Unix time; `new_id` names decisions."""

    def __init__(
        self,
        keys: Checks,
        rules: policy.Rules,
        journal: Journal,
        resolve: Resolve,
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._keys = keys
        self._rules = rules
        self._journal = journal
        self._resolve = resolve
        self._now = now
        self._new_id = new_id
        self._resolving: dict[str, int] = {}
        self._ended = Ended()

    async def decide(self, line: str) -> str:
        """Answers one line of Squid's external ACL helper protocol, without the channel number."""
        values = [unquote(part) for part in line.split(" ")]
        given = dict(zip(REQUEST_FIELDS, ("" if value == "-" else value for value in values), strict=False))
        if given.get("phase") == "sni":
            return self._judge_sni(given)
        decision = await self._judge_request(given)
        if decision.verdict == "allowed":
            return f"OK decision={decision.id}"
        return f"ERR decision={decision.id} message={decision.reason}"

    async def _judge_request(self, given: Mapping[str, str]) -> Decision:
        port = given.get("port", "")
        decision = Decision(
            id=self._new_id(),
            time=round(self._now(), 3),
            client=given.get("client", ""),
            method=given.get("method", "")[:20],
            host=policy.normalise(given.get("host", ""))[:_MAX_SHOWN],
            port=int(port) if port.isascii() and port.isdigit() else 0,
        )
        try:
            grant = grants.verify(self._keys, password_of(given.get("authorization", "")))
        except GrantError as error:
            decision.deny(str(error))
            self._journal.begin(decision)
            return decision
        decision.call_id, decision.agent, decision.skill = grant.call_id, grant.agent, grant.skill
        verdict = await self._judge(grant, decision)
        decision.verdict, decision.reason = "allowed" if verdict.allowed else "denied", verdict.reason
        decision.address = verdict.address or ""
        self._journal.begin(decision)
        return decision

    async def _judge(self, grant: Grant, decision: Decision) -> policy.Verdict:
        host, port = decision.host, decision.port
        refusal = grants.refusal(grant, client=decision.client, now=self._now())
        if refusal is not None:
            return policy.Verdict(False, refusal)
        if grant.call_id in self._ended:
            return policy.Verdict(False, "token_ended")
        verdict = policy.judge_name(grant, host, port)
        if not verdict.allowed:
            return verdict
        if policy.literal(host) is not None:
            return policy.judge_addresses(grant, self._rules, host, [host])
        busy = self._resolving.get(grant.call_id, 0)
        if busy >= MAX_RESOLVING:
            return policy.Verdict(False, "too_many_lookups")
        self._resolving[grant.call_id] = busy + 1
        try:
            addresses = await self._resolve(host)
        finally:
            left = self._resolving[grant.call_id] - 1
            if left:
                self._resolving[grant.call_id] = left
            else:
                del self._resolving[grant.call_id]
        return policy.judge_addresses(grant, self._rules, host, addresses)

    def _judge_sni(self, given: Mapping[str, str]) -> str:
        decision = self._journal.open(given.get("decision", ""))
        if decision is None:
            return "ERR"
        decision.tls, decision.sni = True, given.get("sni", "")[:_MAX_SHOWN]
        verdict = policy.judge_sni(decision.host, decision.sni)
        if verdict.allowed:
            return "OK"
        decision.deny(verdict.reason)
        return "ERR"

    def end(self, grant: Grant) -> None:
        """Lets nothing more out for a call that is over."""
        self._ended.add(grant, self._now())

    async def rewrite(self, line: str) -> str:
        """Answers one line of Squid's URL rewrite helper protocol: the same URL at the address that was judged."""
        url, _, identity = line.partition(" ")
        decision = self._journal.open(identity.strip())
        if decision is None or decision.verdict != "allowed" or not decision.address:
            return "BH message=no_decision"
        host = in_url(decision.address)
        scheme, found, rest = url.partition("://")
        if decision.method == "CONNECT" or not found:
            return f"OK rewrite-url={host}:{decision.port} pinned=yes"
        path = rest[len(rest.split("/", 1)[0].split("?", 1)[0]) :]
        return f"OK rewrite-url={scheme}://{host}:{decision.port}{path} pinned=yes"

    def over(self, line: str) -> None:
        """Takes one line of Squid's access log: a request or a connection is over."""
        given = dict(zip(LOG_FIELDS, line.split(" "), strict=False))
        status, method = _number(given, "status"), given.get("method", "")[:20]
        decision = self._journal.open(given.get("decision", ""))
        if decision is None:
            if not status and method == "-":  # a connection without a request, such as a probe's
                return
            decision = Decision(self._new_id(), round(self._now(), 3), given.get("client", ""), method, "", 0)
            decision.deny("no_token" if status == 407 else "not_a_request")
            self._journal.begin(decision)
        elif decision.verdict == "allowed" and method == "CONNECT" and not decision.tls:
            # Nothing came through the tunnel, or something that was no TLS and went nowhere.
            decision.deny("not_tls")
        decision.status = status
        decision.bytes_received = _number(given, "received")
        decision.bytes_sent = _number(given, "sent")
        decision.duration_ms = _number(given, "duration_ms")
        self._journal.end(decision.id)


def _number(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def password_of(authorization: str) -> str:
    """Returns the password of a Basic `Proxy-Authorization`, or nothing."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode("ascii").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
