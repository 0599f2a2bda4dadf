"""The shapes that the agent, the registry and the sandbox share.

Nothing here does anything: the agent builds a `SkillCall`, an executor turns it into a `SkillResult`, and while the
skill runs it reaches back through a `CallContext`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from openclaw_runtime.sandbox.attachments import Attachment
from openclaw_runtime.sandbox.protocol import Limits

Level = Literal["isolated", "restricted", "trusted"]
SecurityLevel = Literal["strict", "moderate", "permissive"]
QueueOutcome = Literal["served", "deadline", "cancelled"]

_LEVELS: tuple[Level, ...] = ("isolated", "restricted", "trusted")


def stricter(one: Level, other: Level) -> Level:
    """Returns the level that isolates more."""
    return min(one, other, key=_LEVELS.index)


PERMISSIONS = frozenset(
    {"filesystem:read", "filesystem:write", "network:internal", "network:external", "process:execute"}
)
"""What a skill may declare. Memory, model and questions are not permissions: see `checks.context_methods`."""


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """One function of a skill. `tool` is its name at the MCP server, where there is one."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = field(default_factory=lambda: {"type": "object"})
    output_schema: dict[str, Any] | None = None
    timeout_seconds: float = 30.0
    tool: str | None = None


@dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server whose tools are a skill's actions: `command` starts it in a sandbox, or it is at `url`.

    `tools` are the names of the tools to offer; None is all of them. Secrets are filled in already.
    """

    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tools: tuple[str, ...] | None = None
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `calls` calls in any window of `per_seconds`."""

    calls: int
    per_seconds: float


@dataclass(frozen=True, slots=True)
class Trigger:
    """What starts an action without an agent's decision: a command pattern or a cron schedule."""

    type: Literal["command", "cron"]
    action: str | None = None
    pattern: str | None = None
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class InstalledSkill:
    """A skill whose package is at hand, as the registry holds it.

    `digest` is `sha256:<64 hex>` over the uncompressed package; `load_package` returns the gzip-compressed bytes.
    `pool` is the id of the sandbox pool (None outside a cluster). `command` is what runtime `image` runs. The
    actions of an MCP server (`mcp`) are filled in once it was asked; `problems` says what stands in the way, one line
    each. `memory_bytes` is what a call may use.
    """

    name: str
    version: str
    description: str
    digest: str
    runtime: str
    entrypoint: str
    actions: tuple[ActionSpec, ...]
    load_package: Callable[[], Awaitable[bytes]]
    permissions: frozenset[str] = frozenset()
    allowed_domains: tuple[str, ...] = ()
    level: Level = "isolated"
    pool: str | None = None
    memory_bytes: int = Limits().memory_bytes
    config: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    rate_limit: RateLimit | None = None
    triggers: tuple[Trigger, ...] = ()
    mcp: McpServer | None = None
    problems: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def action(self, name: str) -> ActionSpec | None:
        """Returns the action of that name, or None."""
        return next((action for action in self.actions if action.name == name), None)


class CallContext(Protocol):
    """What a running skill reaches back for. The agent implements it; one object serves one call."""

    async def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Takes one log line: level is debug, info, warning or error."""

    async def progress(self, fraction: float, message: str) -> None:
        """Takes a progress report, 0.0 to 1.0."""

    async def memory_add(self, record: dict[str, Any]) -> str:
        """Stores a record and returns its id."""
        ...

    async def memory_search(self, query: str, limit: int) -> Sequence[Mapping[str, Any]]:
        """Returns up to `limit` records, best first, as JSON objects."""
        ...

    async def llm_generate(self, prompt: str, options: dict[str, Any]) -> str:
        """Returns the model's answer; options may hold system, temperature and maxTokens."""
        ...

    async def ask(self, question: str) -> str:
        """Asks the user through the session and returns the answer."""
        ...


@dataclass(frozen=True, slots=True)
class SkillCall:
    """One call to make. `deadline_seconds` covers waiting for a sandbox, connecting and running.

    `network` is filled in by the executor: what the egress proxy decided for the call, however the call ended.
    """

    call_id: str
    agent: str
    session: str
    skill: InstalledSkill
    action: str
    input: dict[str, Any]
    deadline_seconds: float
    network: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SkillResult:
    """What came back. `sandbox` is the name of the pod or local process; `timings` are milliseconds per step."""

    output: Any
    duration_ms: float
    result_sha256: str
    sandbox: str
    usage: Mapping[str, float] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()


class QueueObserver(Protocol):
    """Is told how calls wait for sandboxes."""

    def waiting(self, pool: str, calls: int) -> None:
        """Now so many calls wait for a sandbox of the pool."""

    def waited(self, pool: str, seconds: float, outcome: QueueOutcome) -> None:
        """A call left the queue; `seconds` is 0 where a sandbox was free."""


class SkillExecutor(Protocol):
    """Runs calls in sandboxes. Errors of `execute` are subclasses of `openclaw_runtime.sandbox.errors.SandboxError`."""

    async def start(self) -> None:
        """Starts watching pods or warming processes; returns at once."""

    async def close(self) -> None:
        """Cancels calls in flight and releases everything."""

    async def execute(self, call: SkillCall, context: CallContext) -> SkillResult:
        """Runs one call to its end. Cancelling the task cancels the call in the sandbox."""
        ...

    def status(self) -> dict[str, Any]:
        """Returns counts for /debug and metrics: provider, warm, busy, waiting per pool."""
        ...

    def observe(self, queue: QueueObserver) -> None:
        """Tells `queue` from now on how calls wait."""
