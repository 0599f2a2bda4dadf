"""The gateway's own API under /api/v1: skills, memory, schedules, sessions, spending. It changes no configuration."""

from dataclasses import asdict
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from openclaw_runtime.errors import OpenClawError
from openclaw_runtime.gateway.middleware import error_response, on_http_exception, on_request_error
from openclaw_runtime.gateway.openai import as_request_error
from openclaw_runtime.gateway.state import GatewayState
from openclaw_runtime.memory.attachments import KEPT_SECONDS, StoredAttachment
from openclaw_runtime.memory.types import Filters, MemoryRecord
from openclaw_runtime.models.spending import MICRO

_METADATA = r"^[A-Za-z0-9_-]{1,64}=.{0,256}$"


class ActionView(BaseModel):
    """One action of a skill."""

    name: str
    tool: str
    description: str
    input_schema: dict[str, Any]
    timeout_seconds: float


class SkillView(BaseModel):
    """One skill; secrets and configuration are not shown. `problems` says which tools of an MCP server are missing."""

    name: str
    version: str
    description: str
    digest: str
    level: str
    permissions: list[str]
    actions: list[ActionView]
    problems: list[str]


class RecordView(BaseModel):
    """One memory record; `score` is set in search results, `created_at` is Unix seconds."""

    id: str
    agent: str
    kind: str
    scope: Literal["private", "team"]
    session: str
    text: str
    importance: float
    metadata: dict[str, Any]
    created_at: float
    score: float | None = None


class Feedback(BaseModel):
    """What a user thinks of a record that the agent recalled."""

    model_config = ConfigDict(extra="forbid")

    useful: bool


class JudgedView(BaseModel):
    """What is known of a record after a user's feedback. `importance` is 0 to 1, `weights` are the agent's now."""

    id: str
    accesses: int
    useful: int
    useless: int
    importance: float
    weights: dict[str, float]


class RunView(BaseModel):
    """A run of a schedule. `slot` is when it was due; times are Unix seconds."""

    slot: float
    outcome: Literal["running", "succeeded", "failed", "skipped", "missed", "interrupted"]
    started_at: float
    finished_at: float | None
    message: str


class ScheduleView(BaseModel):
    """What is done at set times. `trigger_of` is the skill whose trigger it is; `next_run` is Unix seconds."""

    name: str
    schedule: str
    time_zone: str
    trigger_of: str | None
    prompt: str | None
    skill: str | None
    action: str | None
    suspend: bool
    session: str
    running: bool
    next_run: float | None
    last_run: RunView | None


class MessageView(BaseModel):
    """One message of a session."""

    role: Literal["user", "assistant"]
    content: str
    created_at: float
    metadata: dict[str, Any]


class SessionView(BaseModel):
    """A conversation, oldest message first."""

    id: str
    messages: list[MessageView]


class ModelSpendingView(BaseModel):
    """What the requests to one model took today; 0 US dollars also where its price is not known."""

    provider: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    usd: float


class SpendingView(BaseModel):
    """What the agent spent on models today (UTC), all replicas together; `limit_usd` is models.budget.per_day."""

    day: str
    usd: float
    limit_usd: float | None
    models: list[ModelSpendingView]


def create_api(state: GatewayState) -> FastAPI:
    """Returns the sub-application to mount at /api/v1."""
    api = FastAPI(title="OpenClaw gateway", version=state.version, docs_url=None, redoc_url=None)

    @api.get("/skills")
    async def skills() -> list[SkillView]:
        """Lists the skills that are loaded."""
        from openclaw_runtime.agent.tools import tool_name

        return [
            SkillView(
                name=skill.name,
                version=skill.version,
                description=skill.description,
                digest=skill.digest,
                level=skill.level,
                permissions=sorted(skill.permissions),
                actions=[
                    ActionView(
                        name=action.name,
                        tool=tool_name(skill.name, action.name),
                        description=action.description,
                        input_schema=action.input_schema,
                        timeout_seconds=action.timeout_seconds,
                    )
                    for action in skill.actions
                ],
                problems=list(skill.problems),
            )
            for skill in state.loop.skills.installed()
        ]

    @api.get("/memory")
    async def memory(
        q: Annotated[str, Query(max_length=2_000)] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 10,
        scope: Literal["agent", "team"] = "agent",
        kind: Annotated[list[str], Query(max_length=20)] = [],  # noqa: B006 - FastAPI copies it
        since: float | None = None,
        until: float | None = None,
        min_importance: Annotated[float, Query(ge=0, le=1)] = 0.0,
        metadata: Annotated[list[Annotated[str, Field(pattern=_METADATA)]], Query(max_length=10)] = [],  # noqa: B006
    ) -> list[RecordView]:
        """Searches the memory for `q`, best first; without `q` the newest records. Scope team adds the team's.

        The rest narrows it: any of `kind`, Unix times, the importance its author gave, metadata as `key=value`.
        """
        team = scope == "team"
        pairs = dict(pair.split("=", 1) for pair in metadata)
        only = Filters(tuple(kind), since, until, min_importance, pairs)
        if q.strip():
            # A person who looks is no use of a record: only what the agent recalls counts.
            found = await state.memory.search(q, limit, team=team, use=False, only=only)
            return [_view(item.record, item.score) for item in found]
        return [_view(record) for record in await state.memory.recent(limit, team=team, only=only)]

    @api.post("/memory/{record}/feedback")
    async def feedback(record: str, said: Feedback) -> JudgedView:
        """Notes whether a record was useful; what matters to users is learned from it."""
        judged = await state.memory.judge(record, useful=said.useful)
        if judged is None:
            raise HTTPException(404, f"there is no record {record!r}; GET /api/v1/memory shows their ids")
        state.metrics.memory_feedback.labels("useful" if said.useful else "useless").inc()
        return JudgedView(
            id=judged.record.id,
            accesses=judged.use.accesses,
            useful=judged.use.useful,
            useless=judged.use.useless,
            importance=judged.importance,
            weights=asdict(judged.weights),
        )

    @api.get("/schedules")
    async def schedules() -> list[ScheduleView]:
        """Lists what the agent does at set times, with the last run of each and the next."""
        found = await state.schedules() if state.schedules else []
        return [ScheduleView.model_validate(item) for item in found]

    @api.get("/attachments/{attachment}", response_class=Response)
    async def attachment(attachment: Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")]) -> Response:
        """Returns a file of a skill or a user: of this agent, or of its team where it is kept here."""
        team = [member.name for member in state.loop.config.team.members]
        found = await state.attachments.get(attachment, team=team)
        if found is None:
            days = KEPT_SECONDS / 86_400
            raise HTTPException(404, f"attachment {attachment!r} is not here; they are kept for {days:g} days")
        return _download(found)

    @api.get("/sessions/{session:path}")
    async def session(session: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> SessionView:
        """Returns the last messages of a session."""
        messages = await state.memory.session(session, limit)
        if not messages:
            raise HTTPException(404, f"session {session!r} has no messages")
        return SessionView(
            id=session,
            messages=[
                MessageView(
                    role=message.role,
                    content=message.content,
                    created_at=message.created_at,
                    metadata=dict(message.metadata),
                )
                for message in messages
            ],
        )

    @api.get("/spending")
    async def spending() -> SpendingView:
        """Returns today's spending by model."""
        spent = await state.spending.by_model()
        return SpendingView(
            day=state.spending.today(),
            usd=sum(entry.micro_usd for entry in spent) / MICRO,
            limit_usd=state.loop.config.models.budget.per_day,
            models=[
                ModelSpendingView(
                    provider=entry.provider,
                    model=entry.model,
                    requests=entry.requests,
                    input_tokens=entry.input_tokens,
                    output_tokens=entry.output_tokens,
                    usd=entry.micro_usd / MICRO,
                )
                for entry in spent
            ],
        )

    api.add_exception_handler(HTTPException, on_http_exception)
    api.add_exception_handler(RequestValidationError, _on_invalid)
    api.add_exception_handler(OpenClawError, _on_own_error)
    return api


def _view(record: MemoryRecord, score: float | None = None) -> RecordView:
    return RecordView(
        id=record.id,
        agent=record.agent,
        kind=record.kind,
        scope=record.scope,
        session=record.session,
        text=record.text,
        importance=record.importance,
        metadata=dict(record.metadata),
        created_at=record.created_at,
        score=score,
    )


def _download(found: StoredAttachment) -> Response:
    """Returns a file as one to save. What is in it is a skill's: no browser may take it for a page of ours."""
    kept = found.kept
    return Response(
        found.data,
        media_type=kept.media_type,
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(kept.name, safe='')}",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": "private",
            "ETag": f'"{kept.sha256}"',
        },
    )


async def _on_own_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OpenClawError)
    return await on_request_error(request, as_request_error(error))


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][-1])
    return error_response(400, f"{field}: {first['msg']}", param=field)
