"""Puts a gateway together from its configuration, and takes it apart again."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr

from openclaw_runtime.activator.client import ActivatorClient
from openclaw_runtime.agent.loop import AgentLoop
from openclaw_runtime.agent.questions import Questions
from openclaw_runtime.agent.summaries import Summarizer
from openclaw_runtime.agent.tools import Skills
from openclaw_runtime.bus.bus import MessageBus
from openclaw_runtime.bus.messages import Message
from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import ConfigError, ConfigProblem, OpenClawError
from openclaw_runtime.gateway import stores
from openclaw_runtime.gateway.conversations import Conversations
from openclaw_runtime.gateway.idle import IdleClock, Reporter
from openclaw_runtime.gateway.opening import Opening
from openclaw_runtime.gateway.reload import restart_needed
from openclaw_runtime.gateway.state import GatewayState
from openclaw_runtime.gateway.surroundings import Surroundings
from openclaw_runtime.memory.attachments import AttachmentStore
from openclaw_runtime.memory.hot import Hot
from openclaw_runtime.memory.sections import Tier, Tiers
from openclaw_runtime.memory.store import AgentMemory
from openclaw_runtime.memory.upkeep import Upkeep
from openclaw_runtime.models.factory import CacheParts, ModelParts, build_model, build_summary_model, check_models
from openclaw_runtime.models.sections import Endpoint, Models
from openclaw_runtime.models.spending import Spending
from openclaw_runtime.netloc import in_url
from openclaw_runtime.schedules import plan
from openclaw_runtime.schedules.scheduler import Scheduler, Turns
from openclaw_runtime.schedules.store import ScheduleStore
from openclaw_runtime.secrets import Secret, SecretFile
from openclaw_runtime.skills.types import QueueObserver
from openclaw_runtime.telemetry import Metrics, build_tracing

if TYPE_CHECKING:
    from pydantic_ai.models import Model

    from openclaw_runtime.models.cache import RedisLayer

logger = logging.getLogger(__name__)


class SkillHost(Skills, Protocol):
    """The agent's skills with what runs them."""

    async def start(self) -> None:
        """Starts what runs skills."""

    async def close(self) -> None:
        """Stops it."""

    async def load(self, config: RuntimeConfig) -> None:
        """Loads the skills of a configuration in place of those loaded. Raises `ConfigError` and changes nothing."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Has `changed` called when skills came to have other actions without a load."""

    def status(self) -> dict[str, object]:
        """Returns counts and, under `error`, what is wrong."""
        ...

    def observe(self, queue: QueueObserver) -> None:
        """Tells `queue` from now on how calls wait for sandboxes."""


class Gateway:
    """A gateway without its HTTP server: the state its routes share, and everything that must be opened and closed."""

    def __init__(self, config: RuntimeConfig, around: Surroundings, skills: SkillHost) -> None:
        check_models(config, around.environment)
        self._around = around
        self._skills = skills
        self._questions = Questions()
        self._started_with = config
        self._config = config
        self._model: tuple[tuple[Endpoint, Models], Model] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._redis_cache: RedisLayer | None = None
        metrics = Metrics(version=around.version, agent=config.claw.name, start_time=around.now())
        self._metrics = metrics
        skills.observe(metrics)
        self._files = stores.files(config, around.data_dir)
        records = stores.records(config, around.data_dir)
        self._spending = Spending(records, namespace=config.claw.namespace, agent=config.claw.name, now=around.now)
        self._ranking = stores.ranking(config, records, around)
        self._hot = Hot(_hot(config), now=around.now)
        vectors = stores.vectors(config, around)
        self._memory = AgentMemory(
            namespace=config.claw.namespace,
            agent=config.claw.name,
            records=records,
            ranking=self._ranking,
            now=around.now,
            timer=around.timer,
            new_id=around.new_id,
            vectors=vectors,
            files=self._files,
            hot=self._hot,
            on_search=metrics.searched,
        )
        self._attachments = AttachmentStore(
            records,
            namespace=config.claw.namespace,
            agent=config.claw.name,
            now=around.now,
            new_id=around.new_id,
        )
        self._activator = ActivatorClient(lambda: self._config.activator)
        self._bus = MessageBus(
            config.claw.name,
            stores.transport(config, around),
            now_ms=lambda: int(around.now() * 1000),
            new_id=around.new_id,
            default_timeout_ms=config.bus.timeout,
            sent=self._activator.wake,
        )
        self._bus.talks.answer = self._answer
        self._idle = IdleClock(around.timer, self._works)
        self._tracing = build_tracing(around.environ, agent=config.claw.name, version=around.version)
        self._opening = Opening(around.sleep)
        self._opener: asyncio.Task[None] | None = None
        self.state = GatewayState(
            loop=self._loop(config),
            conversations=Conversations(self._bus),
            memory=self._memory,
            attachments=self._attachments,
            spending=self._spending,
            metrics=metrics,
            version=around.version,
            start_time=around.now(),
            checks={
                "memory": self._opening.check("memory", self._memory.ping),
                "bus": self._opening.check("bus", self._bus.ping),
                "executor": self._opening.check("executor", self._check_executor),
            },
            timer=around.timer,
            now=around.now,
            new_id=around.new_id,
            executor_status=skills.status,
            idle=self._idle,
        )
        claw = config.claw
        self.upkeep = Upkeep(
            stores.tiers(config, records),
            self._hot,
            index=vectors[0] if vectors else None,
            attachments=self._attachments,
            settings=lambda: self._config.memory.tiers,
            summarized=lambda: self._config.memory.summarization.enabled,
            weights=self._ranking.weights,
            now=around.now,
            observer=metrics,
        )
        self._summary_model: tuple[object, Model] | None = None
        self.summarizer = Summarizer(
            stores.summaries(config, records, around),
            self._memory,
            ask=self._ask_for_summary,
            settings=lambda: self._config.memory,
            files=self._files,
            now=around.now,
            metrics=metrics,
        )
        self.scheduler = Scheduler(
            claw.name,
            around.replica,
            ScheduleStore(records, namespace=claw.namespace, agent=claw.name, replica=around.replica),
            Turns(self.state.admitted, self.state.run),
            now=around.now,
            timer=around.timer,
            metrics=metrics,
            audit=around.audit,
        )
        self.state.schedules = self.scheduler.view
        self._reporter = _reporter(
            config,
            around,
            self._activator,
            self._idle,
            lambda: self._config,
            self._bus.backlog,
            self.scheduler.due,
        )
        self._reporting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Loads the skills and begins to open stores and bus. Raises `ConfigError`. /ready tells when all is open."""
        self._skills.watch(self._actions_changed)
        await self._skills.load(self._started_with)
        plan.check(self._started_with.schedules, self._skills.installed())
        self.state.loop = self._loop(self._started_with)
        self._schedule()
        self._metrics.active_skills.set(len(self._skills.installed()))
        steps = {
            "memory": self._open_memory,
            "bus": lambda: self._bus.start(self._handle_message),
            "executor": self._skills.start,
        }
        self._opening.errors.update(dict.fromkeys(steps, "starting"))
        self._opener = asyncio.create_task(self._opening.run(steps), name="open-stores")
        self.scheduler.start(self.opened)
        self.summarizer.start(self.opened)
        self.upkeep.start(self.opened)
        if self._reporter is not None:
            self._reporting = asyncio.create_task(self._report(self._reporter), name="report-idleness")

    async def _open_memory(self) -> None:
        await self._memory.start()
        await self._attachments.start()

    async def opened(self) -> None:
        """Returns when stores, bus and executor are open."""
        if self._opener is not None:
            await asyncio.shield(self._opener)

    async def apply(self, config: RuntimeConfig) -> None:
        """Uses a new configuration for the turns to come. Raises `ConfigError` and changes nothing."""
        check_models(config, self._around.environment)
        await self._skills.load(config)
        try:
            plan.check(config.schedules, self._skills.installed())
            loop = self._loop(config)
        except ConfigError:
            # Where what the old one names is gone meanwhile, the reason for the new one's refusal still counts.
            with suppress(OpenClawError):
                await self._skills.load(self._config)
            raise
        needed = restart_needed(self._started_with, config)
        if needed:
            logger.warning("changes that need a restart: %s", ", ".join(needed))
        self._metrics.active_skills.set(len(self._skills.installed()))
        self._config = config
        self._ranking.use(config.memory.importance)
        self._hot.use(_hot(config))
        self.state.use(loop, needed)
        self._schedule()

    def _actions_changed(self) -> None:
        """Offers turns to come the actions that MCP servers have now."""
        try:
            self.state.loop = self._loop(self._config)
        except ConfigError as error:
            logger.error("the tools of an MCP server cannot be used: %s", error)  # noqa: TRY400 - its text says it all

    def _schedule(self) -> None:
        """Has everything run at its times that the configuration and the skills name."""
        self.scheduler.use(plan.plan(self._config.schedules, self._skills.installed()))

    async def close(self, drain_seconds: float) -> bool:
        """Lets turns in flight finish for `drain_seconds`, then closes everything. Returns whether all finished."""
        started = self._around.timer()
        self.state.draining = True
        await self.scheduler.pause()
        await self._bus.pause()
        # The sandboxes of open questions go with this gateway: their skills are told, and the turns end.
        await self._questions.end("the gateway is shutting down before an answer came; ask again in the next call")
        if self._reporter is not None and self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
            # Now that no more messages are taken: one that is left wakes the agent again.
            await self._reporter.leave()
        finished = await self.state.drain(drain_seconds)
        await self.scheduler.close()
        await self.summarizer.close()
        await self.upkeep.close()
        await self.state.conversations.close()
        await self._bus.close(max(0.0, drain_seconds - (self._around.timer() - started)))
        if self._opener is not None:
            self._opener.cancel()
            await asyncio.gather(self._opener, return_exceptions=True)
        await self._activator.close()
        await self._skills.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._redis_cache is not None:
            await self._redis_cache.close()
        await self._spending.close()
        await self._memory.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.shutdown)
        return finished

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="model-cache")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _shared_cache(self, config: RuntimeConfig) -> "RedisLayer | None":
        """Where replicas share answers: the Redis of the bus, as the gateway started with it."""
        if not config.models.cache.enabled:
            return None
        if self._redis_cache is None:
            redis = stores.spared(self._started_with, self._around.timer, "the model cache")
            if redis is None:
                return None
            from openclaw_runtime.models.cache import RedisLayer

            claw = self._started_with.claw
            self._redis_cache = RedisLayer(redis, prefix=f"openclaw:{claw.namespace}:model-cache:{claw.name}:")
        return self._redis_cache

    def _works(self) -> bool:
        """Whether a turn runs, or waits for its user."""
        return bool(self.state.running or self.state.conversations.open())

    async def _report(self, reporter: Reporter) -> None:
        await self.opened()
        await reporter.run()

    async def _handle_message(self, message: Message) -> dict[str, Any]:
        with self._idle.busy():
            return await self.state.loop.handle_message(message)

    async def _answer(self, message: Message) -> AsyncGenerator[dict[str, Any], None]:
        async with aclosing(self.state.answer(message)) as parts:
            async for part in parts:
                yield part

    async def _check_executor(self) -> None:
        error = self._skills.status().get("error")
        if error:
            raise OpenClawError(str(error))

    def _loop(self, config: RuntimeConfig) -> AgentLoop:
        around, wanted = self._around, (config.claw.endpoint, config.models)
        if self._model is None or self._model[0] != wanted:
            self._model = (wanted, build_model(config, self._model_parts(config)))
        return AgentLoop(
            config,
            model=self._model[1],
            memory=self._memory,
            bus=self._bus,
            skills=self._skills,
            metrics=self._metrics,
            questions=self._questions,
            attachments=self._attachments,
            now=around.now,
            files=self._files,
            tracing=self._tracing,
        )

    def _model_parts(self, config: RuntimeConfig) -> ModelParts:
        from openclaw_runtime.models.retry import Pauses

        around = self._around
        cache = CacheParts(_cache_dir(around), around.now, self._spawn, self._shared_cache(config))
        pauses = Pauses(around.sleep, around.random)
        return ModelParts(around.environment, pauses, self._metrics, self._spending, around.timer, cache)

    async def _ask_for_summary(self, instructions: str, text: str, max_tokens: int) -> str:
        config = self._config
        wanted = (config.claw.endpoint, config.models, config.memory.summarization.model)
        if self._summary_model is None or self._summary_model[0] != wanted:
            self._summary_model = (wanted, build_summary_model(config, self._model_parts(config)))
        from openclaw_runtime.models.single import ask_once

        return await ask_once(
            self._summary_model[1],
            text,
            instructions=instructions,
            settings={"max_tokens": max_tokens},
            provider=config.claw.model_provider,
            whole=True,
        )


def gateway_token(config: RuntimeConfig, *, dev: bool) -> tuple[Secret, bool]:
    """Returns the bearer token, and whether it was made just now. Raises `ConfigError` when there is none.

    Only with `dev` a missing token file is replaced by a fresh token.
    """
    file = config.gateway.token_file
    if file is not None:
        return SecretFile(file, "gateway.token_file"), False
    if dev:
        return SecretStr(secrets.token_urlsafe(32)), True
    hint = "is missing; name a file that holds the token, or use --dev on your own machine"
    raise ConfigError("gateway", [ConfigProblem("gateway.token_file", hint)])


def _cache_dir(around: Surroundings) -> Path:
    """Returns where answers of models are kept: OPENCLAW_CACHE_DIR, else a folder of the data."""
    chosen = around.environment.get("OPENCLAW_CACHE_DIR")
    return (Path(chosen).expanduser() if chosen else around.data_dir / "cache") / "models"


def _hot(config: RuntimeConfig) -> Tier:
    return (config.memory.tiers or Tiers()).hot


def _reporter(
    config: RuntimeConfig,
    around: Surroundings,
    client: ActivatorClient,
    idle: IdleClock,
    current: Callable[[], RuntimeConfig],
    backlog: Callable[[], Awaitable[int]],
    due: Callable[[], float | None],
) -> Reporter | None:
    """What tells the activator how this gateway is; None outside a cluster, where there is no activator."""
    address, token = around.environ.get("POD_IP"), config.gateway.token_file
    if not address or token is None:
        return None

    def reports() -> bool:
        activator = current().activator
        return activator is not None and activator.reports

    return Reporter(
        client,
        SecretFile(token, "gateway.token_file"),
        replica=around.replica,
        address=f"http://{in_url(address)}:{config.gateway.port}",
        idle=idle,
        wanted=reports,
        backlog=backlog,
        due=due,
        sleep=around.sleep,
    )
