"""What can go wrong with a call, as the gateway sees it.

One tree: every failure of a call is a `SandboxError` with a stable `type` (for metrics and answers) and, where the
sandbox said so, the JSON-RPC code of `protocol.ErrorCode`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class SandboxError(Exception):
    """A skill call failed. `str()` is one line fit for a user; `data` holds what the sandbox added."""

    type: ClassVar[str] = "sandbox_error"
    code: ClassVar[int] = -32603

    def __init__(self, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.data: dict[str, Any] = dict(data or {})


class SandboxUnavailableError(SandboxError):
    """No sandbox took the call before its deadline: none warm, none reachable."""

    type = "sandbox_unavailable"


class SandboxBusyError(SandboxError):
    """This sandbox had accepted another call; the next one is tried. Never leaves the executors."""

    type = "busy"
    code = -32001


class UnauthorizedError(SandboxError):
    """The sandbox refused the signature, the nonce, the expiry or the pod identity."""

    type = "unauthorized"
    code = -32002


class PackageRefusedError(SandboxError):
    """The package's digest or archive was refused."""

    type = "package"
    code = -32003


class CallTimeoutError(SandboxError):
    """The call ran longer than allowed and was ended."""

    type = "timeout"
    code = -32004


class CallCancelledError(SandboxError):
    """The call was cancelled by its caller."""

    type = "cancelled"
    code = -32005


class PermissionDeniedError(SandboxError):
    """The skill did something it has no permission for."""

    type = "permission_denied"
    code = -32006


class SkillFailedError(SandboxError):
    """The skill raised SkillError: an expected failure with a message for the user."""

    type = "skill_error"
    code = -32007


class SkillCrashedError(SandboxError):
    """The skill ended with an unexpected error or died. `data["detail"]` is the end of its traceback."""

    type = "skill_crashed"
    code = -32008


class SandboxLostError(SkillCrashedError):
    """The sandbox itself went away while the call ran."""


class ResultTooLargeError(SandboxError):
    """The skill returned more than the limit of its call."""

    type = "result_too_large"
    code = -32009


class AttachmentRefusedError(SandboxError):
    """The skill gave an attachment that is over a limit of its call, or no file's name."""

    type = "attachment"
    code = -32011


class ProtocolViolationError(SandboxError):
    """The other end sent something that is not in the protocol, or the connection broke."""

    type = "protocol"
    code = -32600


_BY_CODE: dict[int, type[SandboxError]] = {
    kind.code: kind
    for kind in (
        SandboxBusyError,
        UnauthorizedError,
        PackageRefusedError,
        CallTimeoutError,
        CallCancelledError,
        PermissionDeniedError,
        SkillFailedError,
        SkillCrashedError,
        ResultTooLargeError,
        AttachmentRefusedError,
        ProtocolViolationError,
    )
}


def from_code(code: int, message: str, data: Mapping[str, Any] | None = None) -> SandboxError:
    """Returns the error that stands for a JSON-RPC error code; an unknown one is a `SandboxError`."""
    return _BY_CODE.get(code, SandboxError)(message, data)
