"""Where a remote MCP server may be: the gateway connects there itself, by the rules for skills in sandboxes."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from openclaw_runtime.egress import policy
from openclaw_runtime.egress.grant import Grant
from openclaw_runtime.egress.journal import Decision
from openclaw_runtime.egress.resolver import Resolve
from openclaw_runtime.sandbox import errors
from openclaw_runtime.skills.types import SkillCall

NETWORK: Final = frozenset({"network:external", "network:internal"})


def require_permission(call: SkillCall) -> None:
    """Raises `PermissionDeniedError` for a skill that may not use the network at all."""
    if not NETWORK & call.skill.permissions:
        raise errors.PermissionDeniedError(
            f"skill {call.skill.name}: mcp.url needs the permission network:external (public addresses) or "
            "network:internal (private ones): add it to permissions"
        )


class Outward:
    """Judges connections of the gateway for a skill as the egress proxy judges those of sandboxes."""

    def __init__(self, rules: policy.Rules, resolve: Resolve, now: Callable[[], float] = time.time) -> None:
        self._rules = rules
        self._resolve = resolve
        self._now = now

    async def address(self, call: SkillCall, host: str, port: int) -> str:
        """Returns the address to dial; each decision is noted in `call.network`, the same one once.

        Raises `PermissionDeniedError`, which says what the Skill would have to declare.
        """
        host = policy.normalise(host)
        verdict = await self._judge(call, host, port)
        decision = Decision("", round(self._now(), 3), "", "MCP", host, port)
        decision = replace(decision, verdict="allowed" if verdict.allowed else "denied", reason=verdict.reason)
        decision.address = verdict.address or ""
        known = ((item["host"], item["port"], item["reason"]) for item in call.network)
        if (host, port, verdict.reason) not in known:
            call.network.append(decision.wire())
        if not verdict.allowed:
            raise errors.PermissionDeniedError(f"skill {call.skill.name}: mcp.url: {explain(verdict, host, port)}")
        return verdict.address or host

    async def _judge(self, call: SkillCall, host: str, port: int) -> policy.Verdict:
        skill = call.skill
        internal, external = "network:internal" in skill.permissions, "network:external" in skill.permissions
        grant = Grant(call.call_id, call.agent, skill.name, "", skill.allowed_domains, internal, external, 0)
        verdict = policy.judge_name(grant, host, port)
        if not verdict.allowed:
            return verdict
        addresses = [host] if policy.literal(host) is not None else await self._resolve(host)
        return policy.judge_addresses(grant, self._rules, host, addresses)


def explain(verdict: policy.Verdict, host: str, port: int) -> str:
    """Returns why a connection is refused, and what to change."""
    at = f"{host} has the address {verdict.address}, which"
    name = host if ":" not in host else f"[{host}]"
    match verdict.reason:
        case "domain_not_allowed":
            entry = name if port in policy.DEFAULT_PORTS else f"{name}:{port}"
            return f"{host} is not in allowedDomains: add {entry!r} there"
        case "port_not_allowed":
            return f"allowedDomains does not open port {port} of {host}: add '{name}:{port}' there"
        case "address_private":
            return f"{at} is a private one: add the permission network:internal"
        case "address_public":
            return f"{at} is a public one: add the permission network:external"
        case "not_resolved":
            return f"{host} has no address: correct the name"
    return f"{at} is never reached ({verdict.reason}): see egress in the chart's values"
