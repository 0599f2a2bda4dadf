"""One skill call from the agent's side: check, run in a sandbox, check the result, keep a record."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from opentelemetry import trace

from openclaw_runtime.config import Skills
from openclaw_runtime.sandbox.errors import PermissionDeniedError, SandboxError, SkillCrashedError
from openclaw_runtime.skills.audit import Audit, ExecutionRecord, measure
from openclaw_runtime.skills.checks import DISCOVERY_POLICIES, POLICIES, Attempt, Policy, Verdict, check
from openclaw_runtime.skills.errors import CallRefusedError, SkillsError
from openclaw_runtime.skills.mcp.discovery import LIST_TOOLS, Discovery
from openclaw_runtime.skills.mcp.tools import to_listing
from openclaw_runtime.skills.mcp.unattended import Unattended
from openclaw_runtime.skills.rates import LocalRates, Rates
from openclaw_runtime.skills.registry import Changes, SkillRegistry
from openclaw_runtime.skills.schemas import InvalidSchemaError, first_error
from openclaw_runtime.skills.types import (
    PERMISSIONS,
    CallContext,
    InstalledSkill,
    RateLimit,
    SecurityLevel,
    SkillCall,
    SkillExecutor,
    SkillResult,
)

QUEUE_SECONDS: Final = 30.0
"""How long a call may wait for a sandbox, on top of its action's own time limit."""
LIST_SECONDS: Final = 30.0
"""How long an MCP server may take to say what it has."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time and names come from. `steady` never jumps; `now` is Unix time."""

    steady: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex


class SkillService:
    """The skills of one agent, checked, run and recorded."""

    def __init__(
        self,
        agent: str,
        registry: SkillRegistry,
        executor: SkillExecutor,
        audit: Audit,
        *,
        rates: Rates | None = None,
        security_level: SecurityLevel = "strict",
        clock: Clock | None = None,
        tracer: trace.Tracer | None = None,
    ) -> None:
        self._agent = agent
        self._registry = registry
        self._executor = executor
        self._audit = audit
        self._security_level: SecurityLevel = security_level
        self._clock = clock or Clock()
        self._tracer = tracer or trace.get_tracer("openclaw.skills")
        self._rates = rates or LocalRates(self._clock.steady)
        self.discovery = Discovery(self._list_tools)
        self._discovered: tuple[InstalledSkill, ...] = ()

    def installed(self) -> tuple[InstalledSkill, ...]:
        """Returns the skills that are loaded, those that are MCP servers with the tools that are known of them."""
        skills = self._registry.installed()
        if skills != self._discovered:
            # A secret was replaced, and a server that is started with it may have other tools.
            self._discover(skills)
        return tuple(self.discovery.with_actions(skill) for skill in skills)

    async def load(self, config: Skills) -> Changes:
        """Loads, replaces and unloads skills. See `SkillRegistry.load`. MCP servers are asked in the background."""
        changes = await self._registry.load(config)
        self._security_level = config.security_level
        self._discover(self._registry.installed())
        return changes

    def _discover(self, skills: tuple[InstalledSkill, ...]) -> None:
        self._discovered = skills
        self.discovery.update(skills)

    async def _list_tools(self, skill: InstalledSkill) -> list[dict[str, Any]]:
        """Asks an MCP server what it has: a call like any other, with a record."""
        # What the agent has to ask before it can use the skill is not held against its limit.
        result = await self._perform(skill, LIST_TOOLS, {}, "", Unattended(), DISCOVERY_POLICIES, None)
        tools = result.output
        return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []

    async def find_tools(self, skill: InstalledSkill) -> InstalledSkill:
        """Returns a skill with the actions that its MCP server lists now; one that is none, as it is.

        Raises `SkillsError` or `SandboxError`.
        """
        if skill.mcp is None:
            return skill
        listing = to_listing(skill.mcp, await self._list_tools(skill))
        return replace(skill, actions=listing.actions, problems=listing.problems)

    async def call(
        self, skill: InstalledSkill, action: str, arguments: dict[str, Any], *, session: str, context: CallContext
    ) -> SkillResult:
        """Makes one call. Raises `CallRefusedError`, another `SkillsError` or a `SandboxError`."""
        return await self._perform(skill, action, arguments, session, context, POLICIES, skill.rate_limit)

    async def _perform(
        self,
        skill: InstalledSkill,
        action: str,
        arguments: dict[str, Any],
        session: str,
        context: CallContext,
        policies: tuple[Policy, ...],
        limit: RateLimit | None,
    ) -> SkillResult:
        started, begun = self._clock.steady(), self._clock.now()
        call_id = self._clock.new_id()
        try:
            input_sha256, input_bytes = measure(arguments)
        except (TypeError, ValueError) as error:
            input_sha256, input_bytes = "", 0
            verdicts = [
                Verdict("input_json", allowed=False, reason="InvalidInput", message=f"input: not JSON: {error}")
            ]
        else:
            verdicts = check(Attempt(skill, action, arguments, self._security_level, input_bytes), policies)
        outcome, reason = "ok", ""
        result: SkillResult | None = None
        network: list[dict[str, Any]] = []
        with self._tracer.start_as_current_span(f"execute_tool {skill.name}.{action}") as span:
            try:
                if limit is not None and verdicts[-1].allowed:
                    verdicts.append(await self._within(limit, skill.name, call_id))
                _raise_refused(verdicts[-1])
                spec = skill.action(action)
                seconds = spec.timeout_seconds if spec else LIST_SECONDS
                deadline = QUEUE_SECONDS + seconds
                call = SkillCall(call_id, self._agent, session, skill, action, arguments, deadline, network)
                result = await self._executor.execute(call, context)
                _check_output(skill, action, result.output)
            except SandboxError as error:
                outcome, reason = error.type, _permission(error)
                raise
            except CallRefusedError as error:
                outcome, reason = "refused", error.reason
                raise
            except SkillsError as error:
                outcome, reason = "package", str(error)
                raise
            except BaseException as error:
                outcome = "cancelled" if type(error).__name__ == "CancelledError" else "internal"
                raise
            finally:
                record = ExecutionRecord(
                    call_id=call_id,
                    time=begun,
                    agent=self._agent,
                    session=session,
                    skill=skill.name,
                    version=skill.version,
                    digest=skill.digest,
                    action=action,
                    permissions=tuple(sorted(skill.permissions)),
                    input_sha256=input_sha256,
                    input_bytes=input_bytes,
                    verdicts=tuple(verdicts),
                    outcome=outcome,
                    reason=reason,
                    total_ms=round((self._clock.steady() - started) * 1000, 3),
                    network=tuple(network),
                    **_result_facts(result),
                )
                span.set_attributes(_attributes(record))
                for decision in network:
                    span.add_event("egress", _event(decision))
                await self._audit.write(record)
        return result

    async def _within(self, limit: RateLimit, skill: str, call_id: str) -> Verdict:
        """Counts a call that nothing else is in the way of: those that are refused do not use the limit up."""
        wait = await self._rates.take(skill, limit, call_id)
        if not wait:
            return Verdict("rate_limit", allowed=True)
        allowed = f"{limit.calls} calls per {limit.per_seconds:g} s"
        message = f"rate limit: {skill} allows {allowed}; try again in {wait:.1f} s"
        return Verdict("rate_limit", allowed=False, reason="RateLimited", message=message)

    async def close(self) -> None:
        """Stops asking MCP servers for their tools, and lets go of what calls are counted with."""
        await self.discovery.close()
        await self._rates.close()


def _raise_refused(verdict: Verdict) -> None:
    if not verdict.allowed:
        raise CallRefusedError(verdict.policy, verdict.reason, verdict.message)


def _check_output(skill: InstalledSkill, action: str, output: Any) -> None:
    """A result that is not what the skill promises is the skill's fault, and says so."""
    spec = skill.action(action)
    if spec is None or spec.output_schema is None:
        return
    try:
        problem = first_error(spec.output_schema, output, "output")
    except InvalidSchemaError as error:
        problem = str(error)
    if problem is not None:
        raise SkillCrashedError(f"{skill.name} {action} returned what its outputSchema forbids: {problem}")


def _permission(error: SandboxError) -> str:
    """Returns the permission that a call lacked, if that is how it failed; a sandbox may say anything."""
    named = str(error.data.get("permission", "")) if isinstance(error, PermissionDeniedError) else ""
    return named if PERMISSIONS.issuperset(named.split(" or ")) else ""


def _result_facts(result: SkillResult | None) -> dict[str, Any]:
    if result is None:
        return {}
    return {
        "result_sha256": result.result_sha256,
        "result_bytes": measure(result.output)[1],
        "sandbox": result.sandbox,
        "duration_ms": result.duration_ms,
        "timings": dict(result.timings),
        "usage": dict(result.usage),
        "attachments": tuple(
            {"media_type": each.media_type, "sha256": each.sha256, "bytes": len(each.data)}
            for each in result.attachments
        ),
    }


def _event(decision: Mapping[str, Any]) -> dict[str, str | int]:
    """Returns a decision of the egress proxy as an event's attributes."""
    names = {"host": "server.address", "port": "server.port", "verdict": "verdict", "reason": "reason"}
    return {name: decision[key] for key, name in names.items() if isinstance(decision.get(key), str | int)}


def _attributes(record: ExecutionRecord) -> dict[str, str | int | float]:
    """Returns a span's attributes; the gen_ai ones follow OpenTelemetry's semantic conventions."""
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": f"{record.skill}.{record.action}",
        "gen_ai.tool.call.id": record.call_id,
        "openclaw.skill.digest": record.digest,
        "openclaw.skill.outcome": record.outcome,
        "openclaw.sandbox": record.sandbox,
        "openclaw.input.sha256": record.input_sha256,
        "openclaw.result.sha256": record.result_sha256,
        "openclaw.result.bytes": record.result_bytes,
        "openclaw.attachments": len(record.attachments),
        "openclaw.duration_ms": record.duration_ms,
        "openclaw.network.allowed": sum(item.get("verdict") == "allowed" for item in record.network),
        "openclaw.network.denied": sum(item.get("verdict") == "denied" for item in record.network),
    }
