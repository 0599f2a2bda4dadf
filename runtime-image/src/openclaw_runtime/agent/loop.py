"""The loop of a turn: recall, run the model and its tools, stream, remember."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pydantic_ai import Agent, AgentRunResult, AgentRunResultEvent, InstrumentationSettings, UsageLimits
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.exceptions import AgentRunError, FallbackExceptionGroup
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    UserPromptPart,
)
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings

from openclaw_runtime.agent import prompt
from openclaw_runtime.agent.attachments import user_content
from openclaw_runtime.agent.commands import Commands
from openclaw_runtime.agent.events import (
    FinishReason,
    Invocation,
    Turn,
    TurnDone,
    TurnEvent,
    TurnRequest,
    Usage,
    uses_told,
)
from openclaw_runtime.agent.handover import heard
from openclaw_runtime.agent.questions import Ask, Questions, Show
from openclaw_runtime.agent.tools import Attachments, Skills, Toolbox, build_toolset, invoke, keep, offered
from openclaw_runtime.bus.bus import MessageBus
from openclaw_runtime.bus.messages import Message
from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.errors import BusError, MemoryStoreError, NoAnswerError, OpenClawError, TurnError
from openclaw_runtime.memory.files import MemoryFiles
from openclaw_runtime.memory.types import MemoryRecord, MemoryStore, NewRecord, SessionMessage
from openclaw_runtime.models.background import Background
from openclaw_runtime.models.failures import ModelFailure, explain, told
from openclaw_runtime.models.single import ask_once
from openclaw_runtime.sandbox.errors import SandboxError
from openclaw_runtime.telemetry import Metrics
from openclaw_runtime.timelimit import TimeLimit

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

_RECALL_BEST = 5
_RECALL_NEWEST = 5
_NOTES_CHARACTERS = 4_000
_EXCHANGE_CHARACTERS = 4_000
_HISTORY_MESSAGES = 200


class AgentLoop:
    """One agent with one configuration. A changed configuration makes a new loop; turns that run keep theirs."""

    def __init__(
        self,
        config: RuntimeConfig,
        *,
        model: Model,
        memory: MemoryStore,
        bus: MessageBus,
        skills: Skills,
        metrics: Metrics,
        questions: Questions,
        attachments: Attachments,
        now: Callable[[], float],
        files: MemoryFiles | None = None,
        tracing: "TracerProvider | None" = None,
    ) -> None:
        self.config = config
        self.skills = skills
        self._model = model
        self._memory = memory
        self._bus = bus
        self._questions = questions
        self._metrics = metrics
        self._now = now
        self._files = files
        self._background = Background(metrics)
        self._commands = Commands(skills.installed())
        self._toolbox = Toolbox(
            skills=skills,
            memory=memory,
            bus=bus,
            team=config.team.members,
            metrics=metrics,
            slots=asyncio.Semaphore(config.execution.max_concurrent),
            attachments=attachments,
            generate=self.generate,
            ask=self.ask,
        )
        self._instrumentation = (
            InstrumentationSettings(
                tracer_provider=tracing, include_content=config.developer.debug, include_binary_content=False
            )
            if tracing
            else None
        )
        self._agent: Agent[Turn, str] = Agent(
            model,
            name=config.claw.name,
            deps_type=Turn,
            toolsets=[offered(build_toolset(self._toolbox), skills.installed())],
            retries=2,
            capabilities=[Instrumentation(self._instrumentation)] if self._instrumentation else [],
        )

    async def run(self, request: TurnRequest, ask: Ask | None = None) -> AsyncGenerator[TurnEvent, None]:
        """Runs a turn and yields what happens; the last event is `TurnDone`.

        `ask` asks the one who follows the turn; each question is a `TurnDone`, too, and more events follow. Closing the
        generator cancels the turn. Raises `ModelError`, `TurnError` or `MemoryStoreError`.
        """
        events: asyncio.Queue[TurnEvent | Exception] = asyncio.Queue()
        turn = Turn(request, TimeLimit(self.config.execution.timeout_seconds), events.put_nowait, ask)
        task = asyncio.create_task(self._drive(turn, events), name=f"turn-{request.session}")
        try:
            while True:
                event = await events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, TurnDone) and not event.question:
                    return
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def ask(self, turn: Turn, question: str) -> str:
        """Asks the user of a turn, whose time stands still meanwhile. Raises `OpenClawError`."""
        asks = turn.ask
        if asks is None:
            raise NoAnswerError("nobody follows this turn, so there is nobody to ask; put the answer into the request")
        execution = self.config.execution
        with self._questions.one(execution.max_questions), turn.limit.paused():
            async with turn.asking:
                self._metrics.open_questions.inc()
                try:
                    asking = asks(question, partial(self._show, turn, question))
                    answer = await self._questions.answer(asking, execution.ask_timeout_seconds)
                finally:
                    self._metrics.open_questions.dec()
                turn.user, turn.started = answer, self._now()
                return answer

    async def _show(self, turn: Turn, question: str) -> None:
        """Ends a leg of the turn with a question: it is the answer to what the user said last."""
        turn.say_paragraph(question)
        text = "".join(turn.said)
        await self._record(turn, text, {"question": True})
        turn.said.clear()
        turn.emit(TurnDone(text, turn.usage(), "stop", tuple(turn.skills), question=True))

    async def generate(self, text: str, options: Mapping[str, Any]) -> str:
        """Asks the model one thing, outside any conversation, a few requests at a time.

        Options: system, temperature, maxTokens, and fallback, the answer if the model gives none. Raises `ModelError`.
        """
        settings = ModelSettings()
        if isinstance(temperature := options.get("temperature"), int | float):
            settings["temperature"] = float(temperature)
        if isinstance(tokens := options.get("maxTokens"), int):
            settings["max_tokens"] = tokens
        system = options.get("system")

        async def ask() -> str:
            return await ask_once(
                self._model,
                text,
                instructions=str(system) if system else None,
                settings=settings,
                provider=self.config.claw.model_provider,
                instrument=self._instrumentation,
            )

        fallback = options.get("fallback")
        return await self._background.run(text, ask, str(fallback) if fallback is not None else None)

    async def handle_message(self, message: Message) -> dict[str, Any]:
        """Does a task that another agent handed over. Payload: task, session, chain, images. Raises `OpenClawError`."""
        task, session = message.payload.get("task"), message.payload.get("session", message.id)
        chain = message.payload.get("chain", [])
        name = self.config.claw.name
        if not isinstance(task, str) or not task.strip() or not isinstance(session, str) or not isinstance(chain, list):
            raise BusError("the message holds no task; send task (text), session (text) and chain (agents)")
        if name in chain:
            raise BusError(
                f"{name} handed this task on already ({' → '.join(map(str, chain))}); it will not do it again"
            )
        agents = [*map(str, chain), message.sender]
        handed = await heard(message.payload, agents, self._toolbox.attachments)
        request = TurnRequest(
            session=f"{message.sender}/{session}"[:256],
            text="\n\n".join(filter(None, (task, handed.note))),
            chain=agents,
            images=handed.images,
            kept=handed.kept,
        )

        async def ask_sender(question: str, show: Show) -> str:
            await show()
            return await self._bus.ask(message, question)

        async for event in self.run(request, ask_sender):
            if isinstance(event, TurnDone) and not event.question:
                return {"answer": event.text} | uses_told(event.skills)
        raise AssertionError("a turn ends with TurnDone")

    async def _drive(self, turn: Turn, events: "asyncio.Queue[TurnEvent | Exception]") -> None:
        try:
            events.put_nowait(await self._turn(turn))
        except ModelFailure as error:
            logger.warning("a turn failed: %s", told(error), extra={"session": turn.request.session})
            events.put_nowait(self._explained(error))
        except OpenClawError as error:
            events.put_nowait(error)
        except Exception:
            logger.exception("a turn failed", extra={"session": turn.request.session})
            events.put_nowait(TurnError("the agent failed; its log has the details", status=500, code="internal_error"))

    async def _turn(self, turn: Turn) -> TurnDone:
        request = turn.request
        turn.started = self._now()
        call = request.call
        # What a command starts could not see images.
        commands = request.commands and not request.images
        if call is None and commands and (command := self._commands.find(request.text)):
            call, turn.only = command.call, command.skill
        if call is not None:
            return await self._call(turn, call)
        turn.given = request.kept or await keep(self._toolbox, turn, request.images)
        history = await self._history(request)
        recalled, notes = await self._recall(request)
        told = prompt.instructions(
            self.config.claw, self.config.team.members, recalled, notes=notes, client=request.client_instructions
        )
        async with self._limited(turn):
            result = await self._run_model(turn, history, told)
        turn.spent = Usage(result.usage.input_tokens, result.usage.output_tokens)
        done = TurnDone(
            text="".join(turn.said) or result.output,
            usage=turn.usage(),
            finish_reason=_finish_reason(result.response),
            skills=tuple(turn.skills),
        )
        await self._remember(turn, done)
        return done

    async def _call(self, turn: Turn, call: Invocation) -> TurnDone:
        """Makes the one call that a command or a schedule names: a call like any other, whose result is the answer."""
        failed = None
        try:
            async with self._limited(turn):
                text = await invoke(self._toolbox, turn, call)
        except (OpenClawError, SandboxError) as error:
            if turn.limit.expired:
                raise
            failed = str(error)
            text = f"{call.skill} {call.action} failed: {failed}"
        turn.say(text)
        done = TurnDone(text, Usage(0, 0), "stop", tuple(turn.skills), error=failed)
        await self._remember(turn, done)
        return done

    @asynccontextmanager
    async def _limited(self, turn: Turn) -> AsyncGenerator[None, None]:
        """Ends the block when the turn's time is over. Raises `TurnError`."""
        try:
            async with turn.limit:
                yield
        except TimeoutError:
            if not turn.limit.expired:
                raise
            seconds = self.config.execution.timeout_seconds
            raise TurnError(f"the turn took longer than {seconds:g} s", status=504, code="timeout") from None

    async def _run_model(self, turn: Turn, history: Sequence[ModelMessage], told: str) -> AgentRunResult[str]:
        settings = cast("ModelSettings", dict(turn.request.settings))
        async with self._agent.run_stream_events(
            user_content(turn.request.text, turn.request.images),
            deps=turn,
            instructions=told,
            message_history=history,
            model_settings=settings,
            usage_limits=UsageLimits(request_limit=self.config.execution.max_requests),
            infer_name=False,
        ) as events:
            async for event in events:
                if isinstance(event, AgentRunResultEvent):
                    return event.result
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    # What is said before a tool call and after it are two paragraphs of one answer.
                    turn.say_paragraph(event.part.content)
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    turn.say(event.delta.content_delta)
        raise AssertionError("a run ends with its result")

    async def _history(self, request: TurnRequest) -> list[ModelMessage]:
        past = request.history
        if past is None:
            past = await self._memory.session(request.session, _HISTORY_MESSAGES)
        kept = prompt.within_budget(past, self.config.memory.context_tokens // 2)
        return [
            ModelRequest(parts=[UserPromptPart(user_content(message.content, request.earlier.get(place, ())))])
            if message.role == "user"
            else ModelResponse(parts=[TextPart(message.content)])
            for place, message in enumerate(kept, len(past) - len(kept))
        ]

    async def _recall(self, request: TurnRequest) -> tuple[list[MemoryRecord], str]:
        """A turn without its memory is better than no turn."""
        team = bool(self.config.team.members)
        try:
            found = []
            if request.text.strip():
                found = [item.record for item in await self._memory.search(request.text, _RECALL_BEST, team=team)]
            recent = await self._memory.recent(_RECALL_NEWEST, team=team)
            notes = await self._files.read(_NOTES_CHARACTERS) if self._files else ""
        except (MemoryStoreError, OSError) as error:
            self._metrics.errors.labels("memory_recall").inc()
            logger.warning("nothing was recalled: %s", error, extra={"session": request.session})
            return [], ""
        return prompt.choose_recalled(found, recent, session=request.session), notes

    async def _remember(self, turn: Turn, done: TurnDone) -> None:
        """Keeps what the end of a turn said, and in memory the whole of it."""
        skills = [use.facts() for use in done.skills]
        if not await self._record(turn, done.text, {"skills": skills} if skills else {}):
            return
        exchange = NewRecord("\n".join(turn.exchange), kind="exchange", session=turn.request.session, importance=0.4)
        try:
            await self._memory.add(exchange)
        except MemoryStoreError as error:
            self._not_remembered(turn, error)

    async def _record(self, turn: Turn, text: str, metadata: dict[str, Any]) -> bool:
        """Keeps what was said, and answered to it, in the session. Returns whether that worked.

        The answer is out already: a store that fails now is reported and does not take it back.
        """
        messages = [SessionMessage("assistant", text, self._now(), metadata)]
        if turn.user:
            first = turn.given if not turn.exchange else ()
            given = {"attachments": [asdict(each) for each in first]} if first else {}
            messages.insert(0, SessionMessage("user", turn.user, turn.started, given))
            turn.exchange.append(f"User: {turn.user[:_EXCHANGE_CHARACTERS]}")
        turn.exchange.append(f"Answer: {text[:_EXCHANGE_CHARACTERS]}")
        turn.user = ""
        try:
            await self._memory.append_session(turn.request.session, messages)
        except MemoryStoreError as error:
            self._not_remembered(turn, error)
            return False
        return True

    def _not_remembered(self, turn: Turn, error: MemoryStoreError) -> None:
        self._metrics.errors.labels("memory_write").inc()
        logger.warning("a turn was not remembered: %s", error, extra={"session": turn.request.session})

    def _explained(self, error: AgentRunError | FallbackExceptionGroup) -> OpenClawError:
        return explain(error, provider=self.config.claw.model_provider)


def _finish_reason(response: ModelResponse) -> FinishReason:
    if response.finish_reason in ("length", "content_filter"):
        return response.finish_reason
    return "stop"
