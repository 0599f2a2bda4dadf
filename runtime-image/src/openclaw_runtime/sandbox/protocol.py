"""The sandbox protocol, version 1: its limits and codes, and what its messages say.

They are the JSON-RPC messages of `jsonrpc`, in the text frames of one WebSocket. Only the standard library is imported
here, because the pod imports it too. `docs/sandbox-protocol.md` is the prose for it.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from openclaw_runtime.sandbox.attachments import Announced, parse_announced
from openclaw_runtime.sandbox.jsonrpc import (
    Fields,
    Json,
    Notification,
    ProtocolError,
    canonical_sha256,
    dumps,
    loads,
)

SUBPROTOCOL: Final = "openclaw.sandbox.v1"
CALL_PATH: Final = "/v1/call"
VERSION: Final = 1
SIGNING_CONTEXT: Final = b"openclaw.sandbox.v1\n"
"""Put before what is signed, so that a signature made for anything else never fits."""
RELEASE_CONTEXT: Final = b"openclaw.sandbox.v1.release\n"

NONCE_BYTES: Final = 32
CALL_ID: Final = 1
MAX_PACKAGE_BYTES: Final = 900 * 1024
MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
"""The largest frame a pod accepts; an input, with its configuration and secrets, has to fit."""
MAX_RESULT_BYTES: Final = 8 * 1024 * 1024
"""The largest result a pod will ever send, whatever a call asks for."""
FRAME_OVERHEAD: Final = 64 * 1024
MIN_MEMORY_BYTES: Final = 16 * 1024 * 1024
MAX_MEMORY_BYTES: Final = 1 << 46
MAX_TIMEOUT_SECONDS: Final = 24 * 3600.0

ASK: Final = "ask"
"""The method that asks the user. While such a request is open, the time limits of its call stand still."""
CONTEXT_METHODS: Final = frozenset({"memory.add", "memory.search", "llm.generate", ASK})
MAX_QUESTION: Final = 8_000
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class ErrorCode(IntEnum):
    """Codes of an error response. The first four are JSON-RPC's own."""

    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    BUSY = -32001
    UNAUTHORIZED = -32002
    PACKAGE = -32003
    TIMEOUT = -32004
    CANCELLED = -32005
    PERMISSION_DENIED = -32006
    SKILL_ERROR = -32007
    SKILL_CRASHED = -32008
    RESULT_TOO_LARGE = -32009
    NO_ANSWER = -32010
    ATTACHMENT = -32011


@dataclass(frozen=True, slots=True)
class Hello:
    """The pod's first message: who it is, and the nonce a call must be signed with.

    `nonce` is 32 random bytes, fresh for this connection. `packages` are digests that need not be sent.
    `lease_idle_seconds` is 0 for a sandbox that takes one call; else it stays with the session of its first call, until
    it was idle for so long.
    """

    pod_name: str
    pod_uid: str
    nonce: bytes
    packages: tuple[str, ...] = ()
    max_package_bytes: int = MAX_PACKAGE_BYTES
    max_result_bytes: int = MAX_RESULT_BYTES
    lease_idle_seconds: int = 0

    def message(self) -> Notification:
        """Returns the `hello` notification."""
        return Notification(
            "hello",
            {
                "protocol": VERSION,
                "pod": {"name": self.pod_name, "uid": self.pod_uid},
                "nonce": base64.b64encode(self.nonce).decode(),
                "packages": list(self.packages),
                "limits": {"maxPackageBytes": self.max_package_bytes, "maxResultBytes": self.max_result_bytes},
                "lease": {"idleSeconds": self.lease_idle_seconds},
            },
        )

    @classmethod
    def parse(cls, params: Json) -> "Hello":
        """Reads the params of `hello`. Raises `ProtocolError`."""
        fields = Fields(params, "hello")
        fields.integer("protocol", least=VERSION, most=VERSION)
        pod = fields.nested("pod")
        limits = fields.nested("limits")
        # Pods of a version before leases do not say; they take one call, and a gateway outlives their upgrade.
        lease = Fields(fields.mapping("lease", optional=True) or {"idleSeconds": 0}, "hello.lease")
        return cls(
            pod_name=pod.text("name", limit=253),
            pod_uid=pod.text("uid", limit=128),
            nonce=fields.base64("nonce", NONCE_BYTES),
            packages=fields.strings("packages"),
            max_package_bytes=limits.integer("maxPackageBytes", least=0),
            max_result_bytes=limits.integer("maxResultBytes", least=0),
            lease_idle_seconds=lease.integer("idleSeconds", least=0, most=86_400),
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may use. The pod's own limits hold as well."""

    timeout_seconds: float = 30.0
    max_result_bytes: int = 1024 * 1024
    memory_bytes: int = 512 * 1024 * 1024
    max_processes: int = 64

    @property
    def memory_hint(self) -> str:
        """What to tell the author of a skill that had too little."""
        return f"a call may use {self.memory_bytes >> 20} MiB; raise resources.limits.memory in the spec of the Skill"

    def wire(self) -> Json:
        """Returns the JSON object."""
        return {
            "timeoutSeconds": self.timeout_seconds,
            "maxResultBytes": self.max_result_bytes,
            "memoryBytes": self.memory_bytes,
            "maxProcesses": self.max_processes,
        }

    @classmethod
    def parse(cls, fields: Fields) -> "Limits":
        """Reads the JSON object. Raises `ProtocolError`."""
        return cls(
            timeout_seconds=fields.number("timeoutSeconds", least=0.001, most=MAX_TIMEOUT_SECONDS),
            max_result_bytes=fields.integer("maxResultBytes", least=2, most=MAX_RESULT_BYTES),
            memory_bytes=fields.integer("memoryBytes", least=MIN_MEMORY_BYTES, most=MAX_MEMORY_BYTES),
            max_processes=fields.integer("maxProcesses", least=1, most=65_536),
        )


@dataclass(frozen=True, slots=True)
class CallPayload:
    """What is signed: one call for one pod, on one connection, until `expires_at` (Unix seconds)."""

    nonce: bytes
    pod_uid: str
    expires_at: int
    call_id: str
    agent: str
    session: str
    skill: str
    version: str
    digest: str
    runtime: str
    entrypoint: str
    action: str
    input: Json
    config: Json = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    permissions: tuple[str, ...] = ()
    allowed_domains: tuple[str, ...] = ()
    proxy_url: str = field(default="", repr=False)
    limits: Limits = field(default_factory=Limits)
    mcp: Json = field(default_factory=dict)
    """Set for a skill that is an MCP server: `mcp.StdioServer`."""
    command: tuple[str, ...] = ()

    @property
    def holder(self) -> "Holder":
        """Whom a leased sandbox is for that takes this call."""
        return Holder(self.agent, self.session, self.skill)

    def encode(self) -> str:
        """Returns the JSON text to sign and to send. Raises ValueError or TypeError where a value is not JSON."""
        return dumps(
            {
                "nonce": base64.b64encode(self.nonce).decode(),
                "podUid": self.pod_uid,
                "expiresAt": self.expires_at,
                "callId": self.call_id,
                "agent": self.agent,
                "session": self.session,
                "skill": self.skill,
                "version": self.version,
                "digest": self.digest,
                "runtime": self.runtime,
                "entrypoint": self.entrypoint,
                "command": list(self.command),
                "action": self.action,
                "input": self.input,
                "config": self.config,
                "secrets": dict(self.secrets),
                "permissions": list(self.permissions),
                "allowedDomains": list(self.allowed_domains),
                "proxyUrl": self.proxy_url,
                "limits": self.limits.wire(),
            }
            | ({"mcp": self.mcp} if self.mcp else {})
        )

    @classmethod
    def parse(cls, text: str) -> "CallPayload":
        """Reads the signed text. Raises `ProtocolError`."""
        fields = Fields(loads(text), "payload")
        secrets = fields.mapping("secrets")
        if not all(isinstance(value, str) for value in secrets.values()):
            raise ProtocolError("payload.secrets: expected an object of strings")
        return cls(
            nonce=fields.base64("nonce", NONCE_BYTES),
            pod_uid=fields.text("podUid", limit=128),
            expires_at=fields.integer("expiresAt", least=0, most=1 << 53),
            call_id=fields.text("callId", limit=256),
            agent=fields.text("agent", limit=256),
            session=fields.text("session", limit=1024),
            skill=fields.text("skill", limit=256),
            version=fields.text("version", limit=256),
            digest=fields.digest("digest"),
            runtime=fields.text("runtime", limit=64),
            entrypoint=fields.text("entrypoint", limit=256),
            action=fields.text("action", limit=256),
            input=fields.mapping("input"),
            config=fields.mapping("config"),
            secrets=secrets,
            permissions=fields.strings("permissions"),
            allowed_domains=fields.strings("allowedDomains"),
            proxy_url=fields.text("proxyUrl", optional=True),
            limits=Limits.parse(fields.nested("limits")),
            mcp=fields.mapping("mcp", optional=True),
            command=fields.strings("command", limit=64, optional=True),
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a leased sandbox is for: one skill of one session of one agent."""

    agent: str
    session: str
    skill: str


@dataclass(frozen=True, slots=True)
class ReleasePayload:
    """What is signed to give a leased sandbox back, before it would end by itself."""

    nonce: bytes
    pod_uid: str
    expires_at: int
    holder: Holder

    def encode(self) -> str:
        """Returns the JSON text to sign and to send."""
        return dumps(
            {
                "nonce": base64.b64encode(self.nonce).decode(),
                "podUid": self.pod_uid,
                "expiresAt": self.expires_at,
                "agent": self.holder.agent,
                "session": self.holder.session,
                "skill": self.holder.skill,
            }
        )

    @classmethod
    def parse(cls, text: str) -> "ReleasePayload":
        """Reads the signed text. Raises `ProtocolError`."""
        fields = Fields(loads(text), "payload")
        return cls(
            nonce=fields.base64("nonce", NONCE_BYTES),
            pod_uid=fields.text("podUid", limit=128),
            expires_at=fields.integer("expiresAt", least=0, most=1 << 53),
            holder=Holder(
                fields.text("agent", limit=256), fields.text("session", limit=1024), fields.text("skill", limit=256)
            ),
        )


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of `call`. `result_sha256` is `canonical_sha256(output)`; the bytes of `attachments` follow it."""

    output: Any
    duration_ms: float
    result_sha256: str
    cpu_ms: float = 0.0
    max_rss_bytes: int = 0
    attachments: tuple[Announced, ...] = ()

    def wire(self) -> Json:
        """Returns the JSON object."""
        return {
            "output": self.output,
            "durationMs": self.duration_ms,
            "resultSha256": self.result_sha256,
            "usage": {"cpuMs": self.cpu_ms, "maxRssBytes": self.max_rss_bytes},
            "attachments": [each.wire() for each in self.attachments],
        }

    @classmethod
    def parse(cls, value: object) -> "CallResult":
        """Reads the JSON object and checks the hash. Raises `ProtocolError`."""
        fields = Fields(value, "result")
        usage = fields.nested("usage")
        body: Json = value if isinstance(value, dict) else {}
        output = body.get("output")
        result = cls(
            output=output,
            duration_ms=fields.number("durationMs", least=0, most=1e12),
            result_sha256=fields.text("resultSha256", limit=64),
            cpu_ms=usage.number("cpuMs", least=0, most=1e12),
            max_rss_bytes=usage.integer("maxRssBytes", least=0),
            # Pods of a version before attachments do not say.
            attachments=parse_announced(body.get("attachments", []), "result.attachments"),
        )
        try:
            actual = canonical_sha256(output)
        except ValueError as error:
            raise ProtocolError(f"result.output: {error}") from None
        if result.result_sha256 != actual:
            raise ProtocolError("result.resultSha256: does not match the output")
        return result
