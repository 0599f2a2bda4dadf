"""Agent: gather what it names, build its children, apply them, report."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live
from openclaw_operator.errors import SpecError
from openclaw_operator.reconcile import activator, claim, egress, hibernation, pause
from openclaw_operator.reconcile.agent_conditions import (
    conditions,
    pending_restart,
    rolled_out,
    schedules_condition,
    starts,
    told_stall,
)
from openclaw_operator.reconcile.agent_gather import Gatherer
from openclaw_operator.reconcile.agent_skills import SkillResolver
from openclaw_operator.reconcile.children import Children, Outcome
from openclaw_operator.reconcile.context import USERS_SETTLE_SECONDS, Context
from openclaw_operator.reconcile.primaries import Primary
from openclaw_operator.reconcile.queue import soonest
from openclaw_operator.reconcile.shortage import sandbox_condition
from openclaw_operator.reconcile.signing import ensure_signing_key
from openclaw_operator.reconcile.stalls import Cause, Workload
from openclaw_operator.reconcile.status import told_condition
from openclaw_operator.resources import agent as builders
from openclaw_operator.resources import agent_deployment
from openclaw_operator.resources.agent_identity import TOKEN_KEY, token_ref, token_secret_name
from openclaw_operator.resources.inputs import AgentInputs
from openclaw_operator.resources.meta import GATEWAY_PORT, Owner, digest
from openclaw_operator.resources.pool import Pool

# An object that is in the way is not ours to watch: look again every now and then.
CONFLICT_RECHECK_SECONDS = 15.0
TOKEN_BYTES = 32
# Children of APIs that not every cluster has, and the field that asks for them.
_ASKED_BY = {
    "HTTPRoute": "spec.gateway.httpRoute",
    "ServiceMonitor": "spec.observability.serviceMonitor",
    "ScaledObject": "spec.gateway.autoscaling.scaler",
}


class AgentReconciler:
    """Reconciles Agents. `pools[namespace][agent]` is what each agent asks of the sandbox pools."""

    def __init__(self, context: Context, pools: dict[str, dict[str, list[Pool]]]) -> None:
        self._context = context
        self._pools = pools
        self._skills = SkillResolver(context)
        self._gatherer = Gatherer(context, self._skills)
        self._sleep = hibernation.Hibernation(context)
        # Applied while others waited for their children, and not reported yet.
        self._untold: set[tuple[str, str, str]] = set()

    async def reconcile(self, primary: Primary) -> float | None:
        """Bring one Agent to its spec. Raises ApiError for a passing fault."""
        content = primary.load()
        spec = AgentSpec.model_validate(content["spec"])
        restore = pause.restore_of(self._context, primary.namespace, spec)
        # What comes for one that hibernates waits at the activator, as if it slept.
        waits = restore is not None and hibernation.applies(spec)
        if restore:
            spec = pause.paused(spec)
        owner = Owner("Agent", primary.name, primary.namespace, primary.uid)
        children = Children(self._context.client, self._context.children, owner)
        if self._skills.waits(primary, spec, content["status"]):
            if spec.suspend:
                await self._stop(primary, children)
            return None
        phase, again = self._sleep.phase(primary, spec)
        try:
            gathered = await self._gatherer.gather(primary, owner, spec)
        except SpecError as problem:
            # Without it the agent would start as somebody else, or not at all: what runs is left as it is.
            if spec.suspend:
                await self._stop(primary, children)
            elif not children.owns("Deployment", owner.child("gateway")):
                self._set_pools(primary, {})
            return await self._report(primary, content["status"], spec, None, problem, Outcome(), phase, restore)
        gathered.inputs = replace(
            gathered.inputs, asleep=phase in hibernation.NO_PODS, held=waits or phase not in (None, "awake")
        )
        skills = () if gathered.inputs.stopped else gathered.inputs.skills
        pools = {skill.name: skill.pool for skill in skills if skill.pool}
        try:
            outcome = await self._apply(children, gathered.inputs)
        finally:
            # Said after a fault too, since the others of the namespace wait for it. Somebody else's volume is not
            # handed to skills.
            claimed = children.owns("PersistentVolumeClaim", owner.child("workspace"))
            self._set_pools(primary, {name: pool for name, pool in pools.items() if claimed or not pool.shape.claim})
        wrong = gathered.problem or outcome.problem or outcome.refusal
        if not wrong and phase is None and self._may_wait(primary, content["status"], gathered.inputs):
            return again
        later = await self._report(
            primary, content["status"], spec, gathered.inputs, gathered.problem, outcome, phase, restore
        )
        self._untold.discard(primary.key)
        if outcome.refusal:
            raise outcome.refusal
        if outcome.problem and outcome.problem.reason == "OwnershipConflict":
            return CONFLICT_RECHECK_SECONDS
        return soonest(again, later)

    def _may_wait(self, primary: Primary, old: dict[str, Any], inputs: AgentInputs) -> bool:
        """Whether the report on a new generation waits until others have their children: its Deployment has more to
        tell by then, and one write tells it all. Skills are told at once: another operator goes by them."""
        queue, told = self._context.queue, old.get("observedGeneration") == primary.generation
        if told or not queue.busy or primary.key in self._untold or _skills(inputs) != (old.get("skills") or []):
            return False
        self._untold.add(primary.key)
        queue.add(primary.key, news=True)
        return True

    def gone(self, key: tuple[str, str, str]) -> None:
        """The Agent was deleted; its children go with it."""
        self._untold.discard(key)
        self._skills.gone(key)
        self._sleep.gone(key)
        self._context.references.expect(key, set())
        self._context.board.use(key[1], key[2], {})
        self._context.stalls.over("Deployment", key[1], f"{key[2]}-gateway")
        if self._pools.get(key[1], {}).pop(key[2], None) is not None:
            self._context.queue.add(("Pool", key[1], ""))

    async def _stop(self, primary: Primary, children: Children) -> None:
        """End the pods of an agent, which takes nothing of what it names."""
        self._set_pools(primary, {})
        await children.stop(f"{primary.name}-gateway")

    def _set_pools(self, primary: Primary, by_skill: dict[str, Pool]) -> None:
        context, namespace = self._context, primary.namespace
        now = context.primaries.get(primary.key)
        if now is None or now.uid != primary.uid:
            # It was deleted meanwhile, and has no more wishes.
            return
        for skill in context.board.use(namespace, primary.name, {skill: pool.id for skill, pool in by_skill.items()}):
            context.queue.add_after(("Skill", namespace, skill), USERS_SETTLE_SECONDS)
        known, pools = self._pools.setdefault(namespace, {}), list(by_skill.values())
        if known.get(primary.name) != pools:
            known[primary.name] = pools
            context.queue.add(("Pool", namespace, ""))

    async def _apply(self, children: Children, inputs: AgentInputs) -> Outcome:
        context, owner = self._context, inputs.owner
        token = token_secret_name(owner)
        try:
            await ensure_signing_key(context, owner.namespace)
            fresh = context.children.get("Secret", owner.namespace, token) is None
            if inputs.spec.gateway.auth is None:
                await children.ensure_secret(token, "gateway", (TOKEN_KEY,), self._new_token)
            if fresh and inputs.spec.gateway.hibernation:
                # Nobody is told of what the operator made itself, and the activator has to know the token's hash.
                context.queue.add((activator.KIND, owner.namespace, ""))
            live = context.children.get("PersistentVolumeClaim", owner.namespace, owner.child("workspace"))
            workspace, unmet = claim.settle(inputs.spec.workspace, live)
            inputs = replace(inputs, spec=inputs.spec.model_copy(update={"workspace": workspace}))
            desired = builders.build(inputs)
        except SpecError as problem:
            return Outcome(problem=problem)
        await self._hand_over_replicas(owner, inputs)
        present = [item for item in desired if context.children.serves(item["kind"])]
        gateway = next(item for item in desired if item["kind"] == "Deployment")
        live = context.children.get("Deployment", owner.namespace, inputs.gateway)
        done = rolled_out(inputs.spec, live, digest(gateway))
        # Pods that are left of before mount the operator's own, and so do those that take their place.
        kept = {token_ref(owner, inputs.spec).name, *([] if done else [token])}
        outcome = await children.converge(present, keep=[("Secret", name) for name in kept])
        outcome.rolled_out = done
        absent = next((item["kind"] for item in desired if item not in present), None)
        outcome.problem = outcome.problem or unmet or (addon_missing(absent) if absent else None)
        return outcome

    def _new_token(self) -> bytes:
        return base64.urlsafe_b64encode(self._context.random_bytes(TOKEN_BYTES)).rstrip(b"=")

    async def _hand_over_replicas(self, owner: Owner, inputs: AgentInputs) -> None:
        """Before replicas is left to an autoscaler, let a second manager hold it, or it would fall back to 1."""
        context = self._context
        live = context.children.get("Deployment", owner.namespace, inputs.gateway)
        if (
            live is None
            or not inputs.autoscaled
            or live.labels.get(agent_deployment.SCALED_BY) != "agent"
            or live.owner is None
            or live.owner.uid != owner.uid
        ):
            return
        scaling = inputs.spec.gateway.autoscaling
        floor = scaling.min_replicas if scaling else 1
        replicas = max(int(live.facts["wanted"]), floor)
        await context.client.hand_over_replicas(owner.namespace, inputs.gateway, replicas, uid=live.uid)

    async def _report(
        self,
        primary: Primary,
        old: dict[str, Any],
        spec: AgentSpec,
        inputs: AgentInputs | None,
        problem: SpecError | None,
        outcome: Outcome,
        phase: hibernation.Phase | None,
        restore: str | None,
    ) -> float | None:
        """Write the status. Returns when to look again whether gateway pods get ready, None once they are."""
        context = self._context
        gateway = f"{primary.name}-gateway"
        live = context.children.get("Deployment", primary.namespace, gateway)
        if live and live.owner and live.owner.uid != primary.uid:
            live = None
        facts = live.facts if live else {}
        token = token_ref(Owner("Agent", primary.name, primary.namespace, primary.uid), spec)
        selector = ",".join(f"{key}={value}" for key, value in agent_deployment.selector(primary.name).items())
        host = f"{gateway}.{primary.namespace}.svc.{context.cluster_domain}"
        fields: dict[str, Any] = {
            "replicas": facts.get("replicas", 0),
            "readyReplicas": facts.get("ready", 0),
            "selector": selector,
            "endpoint": f"http://{host}:{GATEWAY_PORT}/v1",
            "tokenSecret": token.name,
            "tokenKey": token.key if spec.gateway.auth else None,
        }
        if old.get("tokenSecret") and not outcome.rolled_out:
            # What the pods take that there are.
            fields |= {key: old.get(key) for key in ("tokenSecret", "tokenKey")}
        fields["pendingRestart"] = pending_restart(spec, facts, old.get("pendingRestart"))
        if inputs is not None:
            fields["skills"] = _skills(inputs)
        networked = (
            sorted(skill.name for skill in inputs.skills if skill.pool and skill.pool.shape.egress == "proxied")
            if inputs and not inputs.stopped
            else []
        )
        way_out = egress.condition(context, primary.namespace, networked, told_condition(old, "EgressReady"))
        known = context.board.knows(primary.namespace)
        sandbox = sandbox_condition(context.board.of_agent(primary.namespace, primary.name) if known else None, old)
        timed = schedules_condition(spec, inputs)
        of_skills = [sandbox, *([way_out] if way_out else []), *([timed] if timed else [])]
        stalled, again = await self._stalled(spec, live, phase, old)
        found = conditions(spec, live, problem, outcome, *of_skills, phase=phase, stalled=stalled)
        await context.report(primary, old, fields, pause.told(found, restore) if restore else found)
        return again

    async def _stalled(
        self, spec: AgentSpec, live: Live | None, phase: hibernation.Phase | None, old: dict[str, Any]
    ) -> tuple[Cause | None, float | None]:
        """What keeps gateway pods from getting ready, as far as it is known, and when to look again."""
        if live is None:
            return None, None
        if not starts(spec, live, phase):
            self._context.stalls.over(live.kind, live.namespace, live.name)
            return None, None
        workload = Workload(
            what="the gateway",
            selector=agent_deployment.selector(live.name.removesuffix("-gateway")),
            image="images.runtime of the operator's chart, or spec.gateway.imagePullSecrets",
            resources="spec.gateway.resources",
        )
        look, again = await self._context.stalls.look(live, workload)
        return look.cause if look.known else told_stall(old), again


def _skills(inputs: AgentInputs) -> list[dict[str, str]]:
    """As the status tells them."""
    return [{"name": skill.name, "version": skill.spec.version, "digest": skill.digest} for skill in inputs.skills]


def addon_missing(kind_name: str) -> SpecError:
    """An Agent asks for a child whose API the cluster does not have."""
    kind = BY_NAME[kind_name]
    return SpecError(
        "ApiNotInstalled",
        f"{_ASKED_BY[kind_name]}: the API server does not know {kind.name} of {kind.api_version}: install "
        f"{kind.from_addon}, which is noticed within a minute, or remove the field",
    )
