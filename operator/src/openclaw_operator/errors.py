"""The operator's errors: one tree, so that an edge can tell a passing fault from a mistake of the user."""

from __future__ import annotations


class OperatorError(Exception):
    """Base of every error the operator raises on purpose."""


class SettingsError(OperatorError):
    """A wrong environment variable; the message names it, its value and what is allowed."""


class WatchError(OperatorError):
    """What people ask for is watched no more, and nobody knows what was missed: the operator has to start anew."""


class SpecError(OperatorError):
    """A spec that cannot be carried out until the user, or an object it names, changes.

    `reason` is the CamelCase reason of a condition; `message` names the field, the value and the fix.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class OwnershipConflictError(SpecError):
    """An object of a child's name belongs to somebody else."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            "OwnershipConflict",
            f"{kind} {name} already exists and does not belong to this resource: delete or rename it, or rename this",
        )


class FetchError(SpecError):
    """A package that cannot be fetched. `passing`: it may go by itself; `retry_after`: what the server asked for."""

    def __init__(self, reason: str, message: str, *, passing: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.passing = passing
        self.retry_after = retry_after


class ApiError(OperatorError):
    """The API server refused a request, or could not be reached (status 0)."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether the same request may be answered next time: no answer, too many requests, the server's own fault."""
        return self.status in {0, 429} or self.status >= 500


class UnavailableError(ApiError):
    """No answer: connection refused, reset or timed out. What was asked may or may not have been done."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unavailable", message)


class NotFoundError(ApiError):
    """404: the object, or the kind, does not exist."""


class ConflictError(ApiError):
    """409: the object exists already, or has changed since it was read."""


class GoneError(ApiError):
    """410: the resource version is too old; list again."""


class RejectedError(ApiError):
    """400, 413 or 422: the server will never accept this object as it is."""


class ForbiddenError(ApiError):
    """403: missing rights, or a quota."""


class TerminatingError(ForbiddenError):
    """403: the namespace is being deleted, and takes nothing new."""
